//! The OS calls of the worker process: its limits, its place in the memory killer's queue, its streams.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::PathBuf;

/// Make this process die with its parent, leave no core file, and be the first the kernel kills for memory.
pub fn become_worker() {
    #[cfg(target_os = "linux")]
    {
        let _ = std::fs::write("/proc/self/oom_score_adj", "800");
        // SAFETY: plain numbers. The parent's spawning thread lives as long as it wants this worker.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    }
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct outlives the call.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
    // Ctrl-C belongs to the deck; the worker ends when its pipe does.
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
}

/// Take standard output for frames and point descriptor 1 at stderr, so that nothing printed by C++ can
/// land between two frames.
///
/// # Errors
/// When the descriptor cannot be duplicated.
pub fn take_stdout() -> std::io::Result<File> {
    // SAFETY: descriptors 1 and 2 are open in a worker; the duplicate is owned by the File alone.
    unsafe {
        let frames = libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 3);
        if frames < 0 || libc::dup2(2, 1) < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(File::from_raw_fd(frames))
    }
}

/// Run `work` with at most `bytes` more address space than there is now: what asks for more ends the process.
pub fn with_memory<T>(bytes: u64, work: impl FnOnce() -> T) -> T {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages: Option<u64> = pages.and_then(|text| text.split(' ').next()?.parse().ok());
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain numbers; the struct outlives the call, as below.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
    let Some(pages) = pages.filter(|_| known) else { return work() };
    // SAFETY: takes no pointer.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let most = libc::rlim_t::min(limit.rlim_cur, pages.saturating_mul(page).saturating_add(bytes));
    let tight = libc::rlimit { rlim_cur: most, ..limit };
    // SAFETY: as above; the old limit is allowed again, since only the soft one changes.
    unsafe { libc::setrlimit(libc::RLIMIT_AS, &tight) };
    let done = work();
    unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
    done
}

/// A path by which this process opens the very file that `file` is; None where the system has no such thing.
pub fn path_of(file: &File) -> Option<PathBuf> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    path.exists().then_some(path)
}

/// End this process at once, running no destructors: the owner thread may be deep inside llama.cpp.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: never returns.
    unsafe { libc::_exit(code) }
}

/// Cores the machine has, hyper-threads not counted twice.
pub fn physical_cores() -> usize {
    let logical = std::thread::available_parallelism().map_or(1, |n| n.get());
    let Ok(text) = std::fs::read_to_string("/proc/cpuinfo") else { return logical };
    let mut cores = std::collections::HashSet::new();
    let (mut package, mut core) = (String::new(), String::new());
    for line in text.lines() {
        let value = line.split(':').nth(1).unwrap_or_default().trim();
        match line.split(':').next().unwrap_or_default().trim() {
            "physical id" => package = value.to_owned(),
            "core id" => core = value.to_owned(),
            "" if !core.is_empty() => {
                cores.insert((std::mem::take(&mut package), std::mem::take(&mut core)));
            }
            _ => {}
        }
    }
    if !core.is_empty() {
        cores.insert((package, core));
    }
    if cores.is_empty() { logical } else { cores.len().min(logical) }
}

/// Memory the kernel thinks can be had without swapping, in bytes; None where it does not say.
pub fn memory_available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Bytes a user may still write on the file system of `path`; None where the system does not say.
pub fn disk_free(path: &std::path::Path) -> Option<u64> {
    let path = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())).ok()?;
    // SAFETY: plain numbers, for which zero is a value.
    let mut about: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with NUL, and both outlive the call.
    let known = unsafe { libc::statvfs(path.as_ptr(), &mut about) } == 0;
    known.then(|| (about.f_bavail as u64).saturating_mul(about.f_frsize as u64))
}

/// A kernel call by its number, for tests of what is refused: its error, or none.
#[cfg(all(test, target_os = "linux"))]
pub fn raw_call(number: libc::c_long, arguments: [libc::c_long; 4]) -> Option<i32> {
    let [a, b, c, d] = arguments;
    // SAFETY: the tests pass numbers and null pointers, which the kernel checks.
    let answer = unsafe { libc::syscall(number, a, b, c, d, 0, 0) };
    (answer == -1).then(|| std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}
