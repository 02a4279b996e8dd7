//! Runs model-written code in a process that can reach nothing, in one of three tiers.
//!
//! `job` (this process) starts `tillerman __sandbox` and speaks to it; `child` is that process. In tier A it
//! makes its own namespaces and a private root (`root`), gives up every right (`confine`, `syscalls`) and
//! starts the program. In tier B `bwrap` makes namespaces and root and the child does the rest. Tier C has
//! neither (`weak`): Landlock and seccomp alone, only where the person allows it. `probe` decides by trying
//! which of them holds here. Any failure to set it up is an error of the tool: nothing ever runs without it.
//! All three are Linux's; a Mac has `seatbelt` (tier S), which nobody could try yet and which is off until allowed.

#[cfg(target_os = "linux")]
mod bwrap;
pub mod child;
#[cfg(target_os = "linux")]
mod confine;
mod job;
mod probe;
mod reader;
#[cfg(target_os = "linux")]
mod root;
// In tests everywhere: all but the profile's effect can be tried without a Mac.
#[cfg(any(target_os = "macos", test))]
mod seatbelt;
#[cfg(target_os = "linux")]
mod sys;
#[cfg(target_os = "linux")]
mod syscalls;
#[cfg(target_os = "linux")]
mod weak;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use job::{End, Job, Kept, Outcome, run};
pub use probe::{Probe, probe, try_tier};
pub use reader::confine_reader;

use super::workspace::Workspace;

/// How a program is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// Own user, mount, pid, net, ipc and uts namespaces, a private root, Landlock and seccomp.
    #[default]
    A,
    /// The same with namespaces and root made by bubblewrap.
    B,
    /// Landlock and seccomp alone.
    C,
    /// macOS's sandbox-exec.
    S,
}

impl Tier {
    pub fn name(self) -> &'static str {
        match self {
            Tier::A => "A",
            Tier::B => "B",
            Tier::C => "C",
            Tier::S => "S",
        }
    }

    /// What a person must know before relying on it; None: nothing is missing.
    pub fn lacks(self) -> Option<&'static str> {
        match self {
            Tier::A | Tier::B => None,
            Tier::C => Some(
                "sandbox tier C: programs are held by Landlock and seccomp alone. They know the machine's \
                 name, see which processes and files there are (not what is in them), what they write is bounded per file only, their \
                 number is checked and not enforced, and if the supervisor is killed they may outlive it",
            ),
            Tier::S => Some(
                "sandbox tier S: programs are held by macOS's sandbox-exec, which has never been tried on a Mac by \
                 those who wrote this. They start no other program, know the machine's name, and their memory is \
                 looked at a few times a second and not bounded",
            ),
        }
    }
}

impl Tier {
    /// There is no private root: the run directory is a real one, and a workspace has no place.
    pub fn without_root(self) -> bool {
        matches!(self, Tier::C | Tier::S)
    }
}

/// The bubblewrap tier B uses: the distribution's, never one from the PATH.
pub fn bwrap_program() -> PathBuf {
    PathBuf::from("/usr/bin/bwrap")
}

/// Allow tiers C and S from now on: the person's own settings say so.
pub fn allow_weak() {
    probe::WEAK_ALLOWED.store(true, std::sync::atomic::Ordering::SeqCst);
}

/// The argument that makes this binary a sandbox child.
pub const SUBCOMMAND: &str = "__sandbox";

/// The child could not set the sandbox up; its reason is in the status pipe.
pub const EXIT_SETUP: i32 = 125;

/// The file descriptor on which the child says how it went.
const STATUS_FD: i32 = 3;

/// The directory the program starts in, inside the private root.
pub const RUN_DIR: &str = "/work";

/// Where the workspace is, inside the private root.
pub const WORKSPACE_DIR: &str = "/workspace";

/// Take this process out of its terminal's session and tie its life to the thread that started it, for a program
/// that is not confined but must not outlive this one.
///
/// # Errors
/// The system's words.
pub fn leave_terminal() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        sys::process_control(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)?;
        sys::new_session()?;
        sys::close_from(3)?;
    }
    Ok(())
}

/// Wait until a child of this process has ended, and leave it to be waited for: until then no other process can
/// have its id. False: the system cannot tell.
pub fn until_ended(pid: u32) -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd as _;
        let process = i32::try_from(pid).ok().and_then(|pid| sys::pidfd(pid).ok());
        process.is_some_and(|process| sys::poll([process.as_raw_fd()], -1).is_ok())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        false
    }
}

/// Kill a process and the session it leads. The process must be a child not yet waited for: its id is another's
/// after that.
pub fn kill_session(pid: u32) {
    #[cfg(target_os = "linux")]
    if let Ok(pid) = i32::try_from(pid)
        && pid > 1
    {
        sys::kill(-pid);
        sys::kill(pid);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = pid;
}

/// Whether programs run as the user nobody, because this process is root: they can then read only
/// what everybody may.
pub fn runs_as_nobody() -> bool {
    #[cfg(target_os = "linux")]
    return sys::uid().0 == 0;
    #[cfg(not(target_os = "linux"))]
    false
}

/// How far a program may go. Each limit ends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub wall_ms: u64,
    /// Per process.
    pub cpu_s: u64,
    /// Address space per process, and resident memory of all processes together.
    pub memory_bytes: u64,
    pub processes: u64,
    pub open_files: u64,
    pub file_bytes: u64,
    /// The run directory as a whole.
    pub run_dir_bytes: u64,
    /// Output kept, half from its start and half from its end; reading goes on beyond it.
    pub output_bytes: usize,
    /// Output after which the program is ended.
    pub flood_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            wall_ms: 30_000,
            cpu_s: 20,
            memory_bytes: 2 << 30,
            processes: 64,
            open_files: 256,
            file_bytes: 64 << 20,
            run_dir_bytes: 256 << 20,
            output_bytes: 1 << 20,
            flood_bytes: 64 << 20,
        }
    }
}

/// What the child is told, as one line of JSON on its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Policy {
    /// The program (a path inside the private root) and its arguments.
    argv: Vec<String>,
    /// The whole environment.
    env: Vec<(String, String)>,
    /// Name and content of the files put into the run directory.
    files: Vec<(String, String)>,
    /// Directories outside /usr shown read-only at the same path (the interpreter's).
    binds: Vec<PathBuf>,
    /// Shown read-only as `data` in the run directory.
    data: Option<PathBuf>,
    /// Shown at [`WORKSPACE_DIR`].
    workspace: Option<Workspace>,
    /// Where the program starts.
    cwd: PathBuf,
    tier: Tier,
    /// Tiers C and S: the run directory's real path.
    run_dir: Option<PathBuf>,
    limits: Limits,
}

/// What the child says, one line of JSON each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// The sandbox could not be set up.
    Failed(String),
    Exited(i32),
    Signalled(i32),
    /// Resident memory of all processes together went over the limit.
    Memory,
    /// So did the number of processes.
    Processes,
}
