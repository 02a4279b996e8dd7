//! A small tracer: runs a child and stops it at every system call that changes a folder, to look, to kill, to cut a
//! write short or to make it fail. Nothing needs to be installed for it; Linux on x86-64 alone.
//!
//! The child is this test program itself (`crash::child`); what it says comes back with what was done to it.

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::crash::CHILD;

/// What a call does to the folder, its paths whole.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Opened for writing; `cut` where what was in it goes.
    Open {
        path: PathBuf,
        create: bool,
        cut: bool,
    },
    Write {
        path: PathBuf,
        at: u64,
        bytes: Vec<u8>,
    },
    Size {
        path: PathBuf,
        size: u64,
    },
    Sync {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    MakeFolder {
        path: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    /// Mode or owner.
    Attributes {
        path: PathBuf,
    },
    /// Said on standard output.
    Said(Vec<u8>),
}

/// What to do at a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    Go,
    KillBefore,
    KillAfter,
    /// Write half of the bytes, then die: a write a kill cut short. Any other call dies before it.
    KillWithin,
    /// Write half of the bytes and live, as any write may.
    Short,
    /// The call is not made and answers this error.
    Fail(i32),
}

/// What came of a child.
pub struct Seen {
    pub said: String,
    /// The act was done.
    pub acted: bool,
}

/// Run the child in `home` as `mode`. `act` is asked at every change beneath `home` before it is made (numbered from
/// 0; what is said is not numbered), `done` hears of those that were made without an error.
pub fn run(
    home: &Path,
    mode: &str,
    mut act: impl FnMut(usize, &Change) -> Act,
    mut done: impl FnMut(Change),
) -> Seen {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(CHILD).env("TILLERMAN_CHILD", mode).env("TILLERMAN_HOME", home);
    // Glibc's arenas and the like make no difference here, colours of the harness would.
    command.stdout(Stdio::piped()).stderr(Stdio::null()).env("NO_COLOR", "1");
    // SAFETY: between fork and exec, one system call that touches no memory of this process.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let mut child = command.spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let mut tracer = Tracer { home: home.to_path_buf(), pid, at: Vec::new(), calls: 0, acted: false };
    tracer.begin();
    tracer.follow(&mut act, &mut done);
    // The tracer has seen its end already.
    let _ = child.wait();
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    Seen { said, acted: tracer.acted }
}

/// One thread that is inside a call: what it changes and what is done about it.
struct Inside {
    thread: i32,
    change: Option<Change>,
    act: Act,
}

struct Tracer {
    home: PathBuf,
    pid: i32,
    at: Vec<Inside>,
    calls: usize,
    acted: bool,
}

impl Tracer {
    /// From the stop at its exec on, every call stops the child, and it dies with this process.
    fn begin(&self) {
        let status = self.wait().map_or(0, |(_, status)| status);
        assert!(libc::WIFSTOPPED(status), "the child did not stop at its start: {status:x}");
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
        assert_eq!(ptrace(libc::PTRACE_SETOPTIONS, self.pid, options as usize), 0);
        assert_eq!(ptrace(libc::PTRACE_SYSCALL, self.pid, 0), 0);
    }

    /// The next stop or end of a thread of the child. Children that other tests started are theirs.
    fn wait(&self) -> Option<(i32, i32)> {
        let mut status = 0;
        // SAFETY: waits for children of this very thread and writes one int.
        let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        (thread > 0).then_some((thread, status))
    }

    fn follow(&mut self, act: &mut dyn FnMut(usize, &Change) -> Act, done: &mut dyn FnMut(Change)) {
        while let Some((thread, status)) = self.wait() {
            if !libc::WIFSTOPPED(status) {
                if thread == self.pid {
                    return;
                }
                continue;
            }
            let mut signal = libc::WSTOPSIG(status);
            if signal == libc::SIGTRAP | 0x80 {
                self.call(thread, act, done);
                signal = 0;
            } else if signal == libc::SIGTRAP || signal == libc::SIGSTOP {
                // News of a clone, or a thread's first stop.
                signal = 0;
            }
            // One that was killed meanwhile is told of by the next wait.
            ptrace(libc::PTRACE_SYSCALL, thread, signal as usize);
        }
    }

    /// A thread stands before a call or behind it.
    fn call(
        &mut self,
        thread: i32,
        act: &mut dyn FnMut(usize, &Change) -> Act,
        done: &mut dyn FnMut(Change),
    ) {
        let Some(mut registers) = registers(thread) else { return };
        if let Some(place) = self.at.iter().position(|inside| inside.thread == thread) {
            let inside = self.at.swap_remove(place);
            match inside.act {
                Act::KillAfter | Act::KillWithin => return self.kill(),
                Act::Fail(error) => {
                    registers.rax = i64::from(-error) as u64;
                    set(thread, &registers);
                    return;
                }
                Act::Go | Act::Short | Act::KillBefore => {}
            }
            let answer = registers.rax as i64;
            if let Some(mut change) = inside.change
                && answer >= 0
            {
                if let Change::Write { bytes, .. } | Change::Said(bytes) = &mut change {
                    bytes.truncate(answer as usize);
                }
                done(change);
            }
            return;
        }
        let change = self.change(thread, &registers);
        let mut what = Act::Go;
        if let Some(change) = change.as_ref().filter(|change| !matches!(change, Change::Said(_))) {
            what = act(self.calls, change);
            self.calls += 1;
            self.acted |= what != Act::Go;
            match what {
                Act::KillBefore => return self.kill(),
                Act::KillWithin | Act::Short => match change {
                    Change::Write { bytes, .. } => {
                        registers.rdx = (bytes.len() / 2).max(1) as u64;
                        set(thread, &registers);
                    }
                    _ if what == Act::KillWithin => return self.kill(),
                    _ => {}
                },
                Act::Fail(_) => {
                    registers.orig_rax = u64::MAX;
                    set(thread, &registers);
                }
                Act::Go | Act::KillAfter => {}
            }
        }
        self.at.push(Inside { thread, change, act: what });
    }

    fn kill(&self) {
        // SAFETY: a signal to the child this tracer started and has not reaped.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }

    /// What the call a thread is about to make would change, beneath the home alone.
    fn change(&self, thread: i32, r: &libc::user_regs_struct) -> Option<Change> {
        let folder = |fd: u64| -> Option<PathBuf> {
            match fd as i32 {
                libc::AT_FDCWD => fs::read_link(format!("/proc/{thread}/cwd")).ok(),
                fd => fs::read_link(format!("/proc/{thread}/fd/{fd}")).ok(),
            }
        };
        let here = |path: PathBuf| path.starts_with(&self.home).then_some(path);
        let open = |fd: u64| folder(fd).and_then(here);
        let named = |fd: u64, at: u64| {
            let name = text(thread, at)?;
            let path = if name.is_absolute() { name } else { folder(fd)?.join(name) };
            here(path)
        };
        let cwd = libc::AT_FDCWD as u64;
        let bytes = |at: u64, count: u64| bytes(thread, at, count as usize);
        Some(match r.orig_rax as i64 {
            libc::SYS_write if r.rdi == 1 => Change::Said(bytes(r.rsi, r.rdx)?),
            libc::SYS_write => {
                let path = open(r.rdi)?;
                let at = position(thread, r.rdi).unwrap_or_else(|| path.metadata().map_or(0, |m| m.len()));
                Change::Write { path, at, bytes: bytes(r.rsi, r.rdx)? }
            }
            libc::SYS_pwrite64 => {
                Change::Write { path: open(r.rdi)?, at: r.r10, bytes: bytes(r.rsi, r.rdx)? }
            }
            libc::SYS_openat | libc::SYS_open => {
                let openat = r.orig_rax as i64 == libc::SYS_openat;
                let (dir, name, flags) = if openat { (r.rdi, r.rsi, r.rdx) } else { (cwd, r.rdi, r.rsi) };
                let flags = flags as i32;
                if flags & libc::O_ACCMODE == libc::O_RDONLY && flags & libc::O_CREAT == 0 {
                    return None;
                }
                let path = named(dir, name)?;
                Change::Open {
                    create: flags & libc::O_CREAT != 0 && !path.exists(),
                    cut: flags & libc::O_TRUNC != 0,
                    path,
                }
            }
            libc::SYS_ftruncate => Change::Size { path: open(r.rdi)?, size: r.rsi },
            libc::SYS_fsync | libc::SYS_fdatasync => Change::Sync { path: open(r.rdi)? },
            libc::SYS_rename => Change::Rename { from: named(cwd, r.rdi)?, to: named(cwd, r.rsi)? },
            libc::SYS_renameat | libc::SYS_renameat2 => {
                Change::Rename { from: named(r.rdi, r.rsi)?, to: named(r.rdx, r.r10)? }
            }
            libc::SYS_mkdir => Change::MakeFolder { path: named(cwd, r.rdi)? },
            libc::SYS_mkdirat => Change::MakeFolder { path: named(r.rdi, r.rsi)? },
            libc::SYS_unlink | libc::SYS_rmdir => Change::Remove { path: named(cwd, r.rdi)? },
            libc::SYS_unlinkat => Change::Remove { path: named(r.rdi, r.rsi)? },
            libc::SYS_fchmod | libc::SYS_fchown => Change::Attributes { path: open(r.rdi)? },
            // Should the program come to make one of these, it must be followed too.
            libc::SYS_writev
            | libc::SYS_pwritev
            | libc::SYS_pwritev2
            | libc::SYS_fallocate
            | libc::SYS_sendfile
            | libc::SYS_copy_file_range
                if open(r.rdi).or_else(|| open(r.rdx)).is_some() =>
            {
                panic!("call {} is not followed", r.orig_rax)
            }
            libc::SYS_link | libc::SYS_symlink | libc::SYS_truncate | libc::SYS_creat
                if named(cwd, r.rdi).or_else(|| named(cwd, r.rsi)).is_some() =>
            {
                panic!("call {} is not followed", r.orig_rax)
            }
            libc::SYS_linkat if named(r.rdx, r.r10).is_some() => panic!("linkat is not followed"),
            _ => return None,
        })
    }
}

/// Where the next byte goes; None: at the end.
fn position(thread: i32, fd: u64) -> Option<u64> {
    let info = fs::read_to_string(format!("/proc/{thread}/fdinfo/{fd}")).ok()?;
    let value = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().to_string())
    };
    let flags = i32::from_str_radix(&value("flags:")?, 8).ok()?;
    if flags & libc::O_APPEND != 0 { None } else { value("pos:")?.parse().ok() }
}

fn bytes(thread: i32, at: u64, count: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; count];
    fs::File::open(format!("/proc/{thread}/mem")).ok()?.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}

/// A path of the child's memory, up to its zero.
fn text(thread: i32, at: u64) -> Option<PathBuf> {
    const PAGE: u64 = 4096;
    let mut found = Vec::new();
    while found.len() < 1 << 14 {
        // Never over the end of a page: the next one may not be there.
        let from = at + found.len() as u64;
        let piece = bytes(thread, from, (PAGE - from % PAGE) as usize)?;
        let end = piece.iter().position(|byte| *byte == 0);
        found.extend_from_slice(&piece[..end.unwrap_or(piece.len())]);
        if end.is_some() {
            return Some(PathBuf::from(OsStr::from_bytes(&found)));
        }
    }
    None
}

fn ptrace(request: libc::c_uint, thread: i32, data: usize) -> i64 {
    // SAFETY: requests that only take numbers, about a child of this thread that is stopped.
    unsafe { libc::ptrace(request, thread, 0_usize, data) }
}

fn registers(thread: i32) -> Option<libc::user_regs_struct> {
    let mut registers = std::mem::MaybeUninit::<libc::user_regs_struct>::zeroed();
    // SAFETY: fills the whole struct, which is plain numbers, and zero before that.
    unsafe {
        let answer = libc::ptrace(libc::PTRACE_GETREGS, thread, 0_usize, registers.as_mut_ptr());
        (answer == 0).then(|| registers.assume_init())
    }
}

fn set(thread: i32, registers: &libc::user_regs_struct) {
    // SAFETY: reads one whole struct.
    let answer =
        unsafe { libc::ptrace(libc::PTRACE_SETREGS, thread, 0_usize, std::ptr::from_ref(registers)) };
    assert_eq!(answer, 0, "the child's registers cannot be set");
}
