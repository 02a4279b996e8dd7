//! What the worker gives up before a model file reaches llama.cpp: changing any file, starting any program, opening
//! any connection. The file was checked first; this holds should a parser in C++ be talked into more.
//!
//! It may still read what the person can, which a model and its adapters are. Linux only, as far as the kernel has it,
//! and not in builds for a device: its drivers write caches and start helpers of their own.

/// For good, for this process and whatever it would start; call it before there is a second thread.
#[cfg(all(
    target_os = "linux",
    not(any(feature = "cuda", feature = "vulkan", feature = "rocm", feature = "metal"))
))]
pub fn confine() -> Result<(), Box<dyn std::error::Error>> {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    };
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, TargetArch,
    };
    let devices = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
    // Asks for all of it; an older kernel gives what it has.
    Ruleset::default()
        .handle_access(AccessFs::from_write(ABI::V5) | AccessFs::Execute)?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new("/dev")?, devices))?
        .restrict_self()?;
    let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, libc::AF_UNIX as u64)?;
    let rules = [(libc::SYS_socket, vec![SeccompRule::new(vec![other])?])].into_iter().collect();
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let filter: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()?;
    Ok(seccompiler::apply_filter(&filter)?)
}

/// Elsewhere the worker is an ordinary process.
#[cfg(not(all(
    target_os = "linux",
    not(any(feature = "cuda", feature = "vulkan", feature = "rocm", feature = "metal"))
)))]
pub fn confine() -> Result<(), Box<dyn std::error::Error>> {
    Ok(())
}

#[cfg(all(
    test,
    target_os = "linux",
    not(any(feature = "cuda", feature = "vulkan", feature = "rocm", feature = "metal"))
))]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::path::Path;
    use std::process::Command;

    use super::*;

    const FOLDER: &str = "TILLERMAN_TEST_CONFINED";

    /// What a worker would do that was talked into more than its work: `true` where it is kept from it.
    #[test]
    #[ignore = "started by the test here"]
    fn child() {
        let Some(folder) = std::env::var_os(FOLDER) else { return };
        let (folder, port) = (Path::new(&folder), TcpListener::bind("127.0.0.1:0").unwrap());
        let address = port.local_addr().unwrap();
        let attempts = |folder: &Path| {
            let file = folder.join("file");
            [
                ("overwrite", std::fs::write(&file, "changed").is_err()),
                ("create", std::fs::write(folder.join("new"), "new").is_err()),
                ("remove", std::fs::remove_file(folder.join("spare")).is_err()),
                ("run", Command::new("/bin/true").status().is_err()),
                ("connect", TcpStream::connect(address).is_err()),
                ("listen", TcpListener::bind("127.0.0.1:0").is_err()),
                ("send", UdpSocket::bind("127.0.0.1:0").is_err()),
            ]
        };
        assert!(attempts(folder).iter().all(|(_, kept)| !kept), "without it all of them work");
        std::fs::write(folder.join("file"), "as it was").unwrap();
        std::fs::write(folder.join("spare"), "").unwrap();
        confine().unwrap();
        for (what, kept) in attempts(folder) {
            assert!(kept, "{what}");
        }
        assert_eq!(
            std::fs::read_to_string(folder.join("file")).unwrap(),
            "as it was",
            "it reads all the same"
        );
        std::fs::write("/dev/null", "x").unwrap();
        std::process::exit(55);
    }

    #[test]
    fn a_worker_reads_and_does_nothing_else() {
        let known = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
        if !known.is_empty() && !known.contains("landlock") {
            println!("skipped: no Landlock here");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("spare"), "").unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "engine::worker::confine::tests::child", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .output()
            .unwrap();
        assert_eq!(child.status.code(), Some(55), "{}", String::from_utf8_lossy(&child.stderr));
    }
}
