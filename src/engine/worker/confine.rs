//! What a worker gives up before it reads a model file: changing any file (the training worker keeps the folder of its
//! step), starting any program, opening any connection, reaching any other process. The file was checked first; this
//! holds should a parser be talked into more.
//!
//! It may still read what the person can, which a model and its adapters are. Linux only, as far as the kernel has it,
//! and not in builds for a device: its drivers write caches and start helpers of their own.

use std::path::Path;

/// For good, for this process and whatever it would start; call it before there is a second thread. In `own` files may
/// still be made, written, replaced and removed; nowhere else, and nothing but files.
///
/// # Errors
/// `own` is not there, or the kernel refuses what it has.
#[cfg(all(
    target_os = "linux",
    not(any(feature = "cuda", feature = "vulkan", feature = "rocm", feature = "metal"))
))]
pub fn confine(own: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
        Scope,
    };
    let device = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
    let files = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
    // Asks for all of it; an older kernel gives what it has.
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_write(ABI::V6) | AccessFs::Execute)?
        .handle_access(AccessNet::from_all(ABI::V6))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new("/dev/null")?, device))?;
    if let Some(own) = own {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(own)?, files))?;
    }
    rules.restrict_self()?;
    Ok(seccompiler::apply_filter(&calls::refused()?)?)
}

/// Elsewhere the worker is an ordinary process.
///
/// # Errors
/// None.
#[cfg(not(all(
    target_os = "linux",
    not(any(feature = "cuda", feature = "vulkan", feature = "rocm", feature = "metal"))
)))]
pub fn confine(_own: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
    Ok(())
}

/// The kernel calls for what Landlock does not see, or not in every kernel that has it: what files are beside their
/// contents, sockets of this machine (through one of them systemd or docker would start a program), other processes, the
/// person's keys and the terminal's input.
#[cfg(all(
    target_os = "linux",
    not(any(feature = "cuda", feature = "vulkan", feature = "rocm", feature = "metal"))
))]
mod calls {
    use libc::c_long;
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op, SeccompCondition,
        SeccompFilter, SeccompRule, TargetArch,
    };

    use crate::engine::metadata_calls::{REQUESTS, metadata_calls};

    /// A worker has the pipes it was given and makes no other way out: not even between its own ends, nor in memory or
    /// queues that other programs of the same user have.
    #[rustfmt::skip]
    const REFUSED: &[c_long] = &[
        libc::SYS_socket, libc::SYS_socketpair, libc::SYS_connect, libc::SYS_io_uring_setup,
        libc::SYS_shmget, libc::SYS_shmat, libc::SYS_msgget, libc::SYS_msgsnd, libc::SYS_semget, libc::SYS_semop,
        libc::SYS_mq_open,
        libc::SYS_execve, libc::SYS_execveat,
        libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_pidfd_getfd,
        libc::SYS_pidfd_send_signal, libc::SYS_tkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key, libc::SYS_bpf, libc::SYS_perf_event_open,
        libc::SYS_unshare, libc::SYS_setns, libc::SYS_userfaultfd,
    ];

    /// Answers EPERM to all of them, to changes of what files are beside their contents, to signals for any process but
    /// this one, to limits of any other, and to words put into a terminal's input.
    pub(super) fn refused() -> Result<BpfProgram, Box<dyn std::error::Error>> {
        let one = |argument, op, value| {
            SeccompRule::new(vec![SeccompCondition::new(argument, Length::Dword, op, value)?])
        };
        let itself = u64::from(std::process::id());
        // Which type they have depends on the libc.
        #[allow(clippy::unnecessary_cast)]
        let terminal = [libc::TIOCSTI as u64, libc::TIOCLINUX as u64];
        let requests = terminal.into_iter().chain(REQUESTS.map(u64::from));
        let requests = requests.map(|request| one(1, Op::Eq, request));
        let narrowed = [
            (libc::SYS_kill, vec![one(0, Op::Ne, itself)?]),
            (libc::SYS_tgkill, vec![one(0, Op::Ne, itself)?]),
            // Of a limit of no seconds another process dies. 0 is the caller, which libc asks about its own stack.
            (libc::SYS_prlimit64, vec![one(0, Op::Ne, 0)?]),
            (libc::SYS_ioctl, requests.collect::<Result<_, _>>()?),
        ];
        let whole = REFUSED.iter().copied().chain(metadata_calls()).map(|call| (call, Vec::new()));
        let (otherwise, listed) = (SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32));
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        Ok(SeccompFilter::new(whole.chain(narrowed).collect(), otherwise, listed, arch)?.try_into()?)
    }
}

#[cfg(all(
    test,
    target_os = "linux",
    not(any(feature = "cuda", feature = "vulkan", feature = "rocm", feature = "metal"))
))]
mod tests {
    use std::fs::{self, Permissions};
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::engine::ffi::os;

    const FOLDER: &str = "TILLERMAN_TEST_CONFINED";
    /// Set where the worker keeps a folder of its own.
    const OWN: &str = "TILLERMAN_TEST_CONFINED_OWN";

    /// A program that runs until its input closes.
    fn other() -> Child {
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    /// A file as adapters are written: whole under another name, then renamed.
    fn place(path: &Path) -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap())?;
        std::io::Write::write_all(&mut file, b"changed")?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }

    /// What a worker would do that was talked into more than its work: `true` where it is kept from it.
    fn attempts(folder: &Path, address: SocketAddr, others: &mut Vec<Child>) -> Vec<(&'static str, bool)> {
        let (file, inside) = (folder.join("file"), folder.join("own"));
        let read = fs::File::open(&file).unwrap();
        let fd = libc::c_long::from(read.as_raw_fd());
        vec![
            ("overwrite", fs::write(&file, "changed").is_err()),
            ("overwrite through a link in its own", fs::write(inside.join("link"), "changed").is_err()),
            ("create", fs::write(folder.join("new"), "new").is_err()),
            ("place", place(&folder.join("placed")).is_err()),
            ("remove", fs::remove_file(folder.join("spare")).is_err()),
            ("move out of its own", fs::rename(inside.join("made"), folder.join("moved")).is_err()),
            ("a folder in its own", fs::create_dir(inside.join("folder")).is_err()),
            ("a link in its own", symlink("/etc", inside.join("etc")).is_err()),
            ("a hard link into its own", fs::hard_link(&file, inside.join("hard")).is_err()),
            ("mode", fs::set_permissions(&file, Permissions::from_mode(0o777)).is_err()),
            ("mode by descriptor", read.set_permissions(Permissions::from_mode(0o755)).is_err()),
            ("times", read.set_modified(std::time::SystemTime::UNIX_EPOCH).is_err()),
            ("run", Command::new("/bin/true").status().is_err()),
            ("connect", TcpStream::connect(address).is_err()),
            ("listen", TcpListener::bind("127.0.0.1:0").is_err()),
            ("send", UdpSocket::bind("127.0.0.1:0").is_err()),
            ("connect to a program here", UnixStream::connect(folder.join("socket")).is_err()),
            ("kill", others.pop().unwrap().kill().is_err()),
            ("shared memory", fs::write(shared(folder), "changed").is_err()),
            ("limits of another", refused(libc::SYS_prlimit64, [others[0].id().into(), 4, 0, 0])),
            ("segments of another", refused(libc::SYS_shmget, [0x7469, 1, 0, 0])),
            ("attributes", refused(libc::SYS_fsetxattr, [fd, 0, 0, 0])),
            // By their numbers: setxattrat, file_setattr, and FS_IOC_SETFLAGS of an open file.
            ("attributes of a path", refused(463, [-100, 0, 0, 0])),
            ("flags of a path", refused(469, [-100, 0, 0, 0])),
            ("flags by descriptor", refused(libc::SYS_ioctl, [fd, 0x4008_6602, 0, 0])),
        ]
    }

    /// The answer is that this may not be done, not what is wrong with how it was asked.
    fn refused(call: libc::c_long, arguments: [libc::c_long; 4]) -> bool {
        os::raw_call(call, arguments) == Some(libc::EPERM)
    }

    /// A file of another program in memory that all share.
    fn shared(folder: &Path) -> std::path::PathBuf {
        Path::new("/dev/shm").join(folder.file_name().unwrap())
    }

    #[test]
    #[ignore = "started by the tests here"]
    fn child() {
        let Some(folder) = std::env::var_os(FOLDER) else { return };
        let folder = Path::new(&folder);
        let own = std::env::var_os(OWN).map(|_| folder.join("own"));
        let _listener = UnixListener::bind(folder.join("socket")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        let mut others = vec![other(), other(), other()];
        let prepare = || {
            fs::remove_dir_all(folder.join("own")).unwrap();
            fs::create_dir(folder.join("own")).unwrap();
            for name in ["file", "spare", "own/made", "own/spare"] {
                fs::write(folder.join(name), "as it was").unwrap();
            }
            symlink(folder.join("file"), folder.join("own/link")).unwrap();
            fs::set_permissions(folder.join("file"), Permissions::from_mode(0o644)).unwrap();
        };
        prepare();
        for (what, kept) in attempts(folder, address, &mut others) {
            assert!(!kept, "without it all of them work: {what}");
        }
        prepare();
        confine(own.as_deref()).unwrap();
        for (what, kept) in attempts(folder, address, &mut others) {
            assert!(kept, "{what}");
        }
        assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "as it was", "it reads all the same");
        fs::write("/dev/null", "x").unwrap();
        // What a step does in its folder, which the engine's worker has none of.
        for (what, kept) in [
            ("create", fs::write(folder.join("own/new"), "new").is_err()),
            ("place", place(&folder.join("own/placed")).is_err()),
            ("replace", place(&folder.join("own/made")).is_err()),
            ("remove", fs::remove_file(folder.join("own/spare")).is_err()),
        ] {
            assert_eq!(kept, own.is_none(), "{what} in its own folder");
        }
        std::thread::spawn(|| ()).join().unwrap();
        std::process::exit(55);
    }

    fn confined(own: bool) {
        let known = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
        if !known.is_empty() && !known.contains("landlock") {
            println!("skipped: no Landlock here");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("own")).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "engine::worker::confine::tests::child", "--ignored", "--nocapture"]);
        child.env(FOLDER, folder.path());
        if own {
            child.env(OWN, "1");
        }
        let child = child.output().unwrap();
        let _ = fs::remove_file(shared(folder.path()));
        assert_eq!(child.status.code(), Some(55), "{}", String::from_utf8_lossy(&child.stderr));
    }

    #[test]
    fn a_worker_reads_and_does_nothing_else() {
        confined(false);
    }

    #[test]
    fn the_training_worker_writes_in_its_own_folder_and_nowhere_else() {
        confined(true);
    }
}
