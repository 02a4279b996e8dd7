//! What a process gives up that only reads hostile text: memory, time, files, sockets, for good.
//!
//! Weaker than the sandbox for programs (no namespaces, so it works everywhere and starts at once), because the
//! code it holds is our own. Works for a process that has one thread so far.

/// Bound this process's memory (bytes) and computing time (seconds), and refuse it every kernel call that a
/// reader of its standard input does not make.
///
/// # Errors
/// Which step the kernel refused.
#[cfg(target_os = "linux")]
pub fn confine_reader(memory_bytes: u64, cpu_s: u64) -> Result<(), String> {
    use super::child::at;
    use super::{sys, syscalls};
    let set = |name: &str, resource, value| sys::limit(resource, value, value).map_err(at(name));
    set("RLIMIT_AS", libc::RLIMIT_AS, memory_bytes)?;
    set("RLIMIT_CPU", libc::RLIMIT_CPU, cpu_s)?;
    set("RLIMIT_FSIZE", libc::RLIMIT_FSIZE, 0)?;
    set("RLIMIT_CORE", libc::RLIMIT_CORE, 0)?;
    sys::process_control(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(at("no_new_privs"))?;
    syscalls::restrict(true)
}

/// Elsewhere the process is bounded by its starter's clock only.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn confine_reader(_memory_bytes: u64, _cpu_s: u64) -> Result<(), String> {
    Ok(())
}
