//! What a process gives up that only reads hostile text: memory, time, files, programs, sockets, for good.
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
    super::confine::landlock_whole()?;
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;

    const STARTED: &str = "TILLERMAN_TEST_READER";

    #[test]
    #[ignore = "started by the test here"]
    fn child() {
        if std::env::var_os(STARTED).is_none() {
            return;
        }
        super::confine_reader(1 << 30, 60).unwrap();
        let kept = [
            ("read", std::fs::File::open("/etc/passwd").is_err()),
            ("list", std::fs::read_dir("/").is_err()),
            ("write", std::fs::write("/dev/null", "x").is_err()),
            ("run", Command::new("/bin/true").status().is_err()),
            ("socket", std::net::UdpSocket::bind("127.0.0.1:0").is_err()),
        ];
        for (what, kept) in kept {
            assert!(kept, "{what}");
        }
        assert_eq!(std::thread::spawn(|| "x".repeat(1 << 20).len()).join().unwrap(), 1 << 20);
        std::process::exit(55);
    }

    #[test]
    fn a_reader_has_its_input_and_nothing_else() {
        let known = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
        if !known.is_empty() && !known.contains("landlock") {
            println!("skipped: no Landlock here");
            return;
        }
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "tools::sandbox::reader::tests::child", "--ignored", "--nocapture"]);
        let child = child.env(STARTED, "1").output().unwrap();
        assert_eq!(child.status.code(), Some(55), "{}", String::from_utf8_lossy(&child.stderr));
    }
}
