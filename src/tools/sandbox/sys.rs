//! The kernel calls of the sandbox, each as a safe function. The only unsafe code beside `job`'s
//! start of the child.
//!
//! Used by single-threaded processes only (the child and what it forks).

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io::{self, Error};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use libc::{c_int, c_ulong};

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

fn check_long(result: libc::c_long) -> io::Result<c_int> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(c_int::try_from(result).unwrap_or(c_int::MAX)) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_encoded_bytes())?)
}

pub fn close_from(first: c_int) -> io::Result<()> {
    // SAFETY: closes descriptors; this process owns none above `first` as a Rust object.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

pub fn close_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: changes a flag of a descriptor.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

pub fn dup_onto(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: `to` is one of the standard descriptors, which no Rust object owns.
    check(unsafe { libc::dup2(from, to) }).map(drop)
}

/// One write, its outcome left aside.
pub fn write(fd: RawFd, bytes: &[u8]) {
    // SAFETY: pointer and length are those of one slice.
    unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
}

/// Read end, write end; both close on exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: fills the two slots; on success both are new and owned by nobody else.
    unsafe {
        check(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

pub fn new_session() -> io::Result<()> {
    // SAFETY: no memory involved.
    check(unsafe { libc::setsid() }).map(drop)
}

pub fn uid() -> (u32, u32) {
    // SAFETY: cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

pub fn parent_id() -> i32 {
    // SAFETY: cannot fail.
    unsafe { libc::getppid() }
}

pub fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: the process has one thread and shares nothing it relies on.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

pub fn set_host_name(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length are those of one string.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// 0 in the new process, its id in the old one.
pub fn fork() -> io::Result<i32> {
    // SAFETY: the process has one thread, so the copy's memory is consistent.
    check(unsafe { libc::fork() })
}

/// End at once, without running anything of the parent's.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: on success the descriptor is new and owned by nobody else.
    unsafe { check_long(libc::syscall(libc::SYS_pidfd_open, pid, 0)).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

pub fn kill(pid: i32) {
    // SAFETY: no memory involved; `pid` is a child not yet waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

pub fn stop(pid: i32) {
    // SAFETY: no memory involved; `pid` was just found below this process.
    unsafe { libc::kill(pid, libc::SIGSTOP) };
}

pub fn own_id() -> i32 {
    // SAFETY: cannot fail.
    unsafe { libc::getpid() }
}

/// Wait for one child (-1: any). None where `block` is false and none has ended.
pub fn wait(pid: i32, block: bool) -> io::Result<Option<(i32, c_int)>> {
    let mut status = 0;
    let flags = if block { 0 } else { libc::WNOHANG };
    loop {
        // SAFETY: `status` outlives the call.
        match check(unsafe { libc::waitpid(pid, &raw mut status, flags) }) {
            Ok(0) => return Ok(None),
            Ok(pid) => return Ok(Some((pid, status))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Which of the descriptors are readable or closed; waits `timeout_ms` (-1: without end).
pub fn poll<const N: usize>(fds: [RawFd; N], timeout_ms: c_int) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    loop {
        // SAFETY: pointer and count are those of one array.
        match check(unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout_ms) }) {
            Ok(_) => return Ok(polled.map(|fd| fd.revents != 0)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn child_signal() -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set before it is read.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        set
    }
}

pub fn block_child_signal() {
    let set = child_signal();
    // SAFETY: the set outlives the call.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// The signal state a program expects at its start.
pub fn default_signals() {
    // SAFETY: signal dispositions and the mask are plain values; SIG_DFL is a valid handler.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Return when a child ends, or after the timeout.
pub fn wait_child_signal(timeout: Duration) {
    let timeout = libc::timespec { tv_sec: 0, tv_nsec: timeout.subsec_nanos().into() };
    let set = child_signal();
    // SAFETY: set and timeout outlive the call; no information is asked for.
    unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const timeout) };
}

pub fn mount(source: &str, target: &Path, kind: &str, flags: c_ulong, data: &str) -> io::Result<()> {
    let (source, target, kind) = (CString::new(source)?, c_path(target)?, CString::new(kind)?);
    let data = CString::new(data)?;
    // SAFETY: all four strings outlive the call.
    check(unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast())
    })
    .map(drop)
}

pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    let (source, target) = (c_path(source)?, c_path(target)?);
    let flags = libc::MS_BIND | libc::MS_REC;
    // SAFETY: both strings outlive the call; kind and data are not read for a bind.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), std::ptr::null(), flags, std::ptr::null()) })
        .map(drop)
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

pub const READ_ONLY: u64 = 0x1;
pub const NO_SUID: u64 = 0x2;
pub const NO_DEV: u64 = 0x4;
pub const NO_EXEC: u64 = 0x8;

/// Add attributes to a mount, with all below it where `recursive`.
pub fn set_mount_attributes(target: &Path, attributes: u64, recursive: bool) -> io::Result<()> {
    const AT_RECURSIVE: c_int = 0x8000;
    let target = c_path(target)?;
    let attributes = MountAttr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: path and structure outlive the call, and the size is the structure's.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            target.as_ptr(),
            if recursive { AT_RECURSIVE } else { 0 },
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

pub fn pivot_root(new: &Path, old: &Path) -> io::Result<()> {
    let (new, old) = (c_path(new)?, c_path(old)?);
    // SAFETY: both strings outlive the call.
    check_long(unsafe { libc::syscall(libc::SYS_pivot_root, new.as_ptr(), old.as_ptr()) }).map(drop)
}

pub fn detach(target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    // SAFETY: the string outlives the call.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }).map(drop)
}

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = c_int;

pub fn limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft as libc::rlim_t, rlim_max: hard as libc::rlim_t };
    // SAFETY: the structure outlives the call.
    check(unsafe { libc::setrlimit(resource, &raw const limit) }).map(drop)
}

pub fn process_control(option: c_int, argument: c_ulong) -> io::Result<()> {
    // SAFETY: only options with integer arguments are passed.
    check(unsafe { libc::prctl(option, argument, 0, 0, 0) }).map(drop)
}

/// Become another user of this namespace, without groups.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: no memory is read for an empty list of groups.
    unsafe {
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(gid, gid, gid))?;
        check(libc::setresuid(uid, uid, uid)).map(drop)
    }
}

/// Give up every capability this process holds.
pub fn drop_capabilities() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let none = [0u32; 6];
    // SAFETY: version 3 reads a header of two words and two sets of three words.
    check_long(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) }).map(drop)
}

/// Become the program. Returns only when that fails.
pub fn execute(argv: &[CString], env: &[CString]) -> Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv_pointers, env_pointers) = (pointers(argv), pointers(env));
    let Some(program) = argv.first() else { return Error::other("no program") };
    let program: &CStr = program;
    // SAFETY: both lists end with a null and outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv_pointers.as_ptr(), env_pointers.as_ptr()) };
    Error::last_os_error()
}
