//! Decides by trying: in each tier, from the strongest down, a canary program attempts what must not work,
//! and the tier is granted only when every attempt failed and the program itself ran.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{End, Job, Limits, Outcome, Tier, run};
use crate::tools::python::Interpreter;

/// The person's settings allow tiers C and S.
pub(super) static WEAK_ALLOWED: AtomicBool = AtomicBool::new(false);

/// Whether model-written code can run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// None: nothing may run.
    pub tier: Option<Tier>,
    /// Why not; empty where a tier was granted.
    pub reason: String,
    /// What would change that.
    pub remedy: String,
}

impl Probe {
    fn refused(reason: impl Into<String>, remedy: impl Into<String>) -> Probe {
        Probe { tier: None, reason: reason.into(), remedy: remedy.into() }
    }
}

/// Run the canary, once per process (about 0.1 s); later calls get the same answer.
pub fn probe(exe: &Path, interpreter: &Interpreter) -> Probe {
    static PROBE: OnceLock<Probe> = OnceLock::new();
    if cfg!(target_os = "macos") && !WEAK_ALLOWED.load(Ordering::SeqCst) {
        return Probe::refused(
            "macOS's own sandbox has never been tried with this program",
            "run tillerman on Linux, or set tools.allow_weak = true: programs then run under sandbox-exec (tier S) \
             where a test program finds that it holds",
        );
    }
    if cfg!(not(any(target_os = "linux", target_os = "macos"))) {
        return Probe::refused("there is no sandbox for this system yet", "run tillerman on Linux");
    }
    PROBE.get_or_init(|| try_out(exe, interpreter)).clone()
}

/// The strongest tier that holds. What is refused is told of the first, which is the one to repair.
fn try_out(exe: &Path, interpreter: &Interpreter) -> Probe {
    if cfg!(target_os = "macos") {
        return try_tier(exe, interpreter, Tier::S, Path::new(""));
    }
    let first = try_tier(exe, interpreter, Tier::A, &super::bwrap_program());
    if first.tier.is_some() {
        return first;
    }
    let bwrap = super::bwrap_program();
    let mut rest = Vec::new();
    if bwrap.exists() {
        rest.push(Tier::B);
    }
    if WEAK_ALLOWED.load(Ordering::SeqCst) {
        rest.push(Tier::C);
    }
    let found = rest.into_iter().map(|tier| try_tier(exe, interpreter, tier, &bwrap));
    found.into_iter().find(|probe| probe.tier.is_some()).unwrap_or_else(|| {
        let other = "; or: install bubblewrap, or tools.allow_weak = true for Landlock alone";
        Probe { remedy: format!("{}{other}", first.remedy), ..first }
    })
}

/// Try one tier out.
pub fn try_tier(exe: &Path, interpreter: &Interpreter, tier: Tier, bwrap: &Path) -> Probe {
    let bait = match tempfile::tempdir() {
        Ok(bait) => bait,
        Err(error) => return Probe::refused(format!("no temporary directory: {error}"), "set TMPDIR"),
    };
    let secret = bait.path().join("secret");
    if let Err(error) = std::fs::write(&secret, "secret") {
        return Probe::refused(format!("{secret:?}: {error}"), "set TMPDIR");
    }
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".into());
    let mut job = interpreter.job(exe, CANARY, None);
    // Ended this late it says that the machine is busy, not that the sandbox is unsound.
    job.limits = Limits { wall_ms: 60_000, ..Limits::default() };
    (job.tier, job.bwrap) = (tier, bwrap.to_path_buf());
    let places = [secret.as_path(), bait.path(), Path::new(&home)];
    job.argv.extend(places.map(|path| path.to_string_lossy().into_owned()));
    job.argv.push(std::process::id().to_string());
    match run_alone(job) {
        Ok(outcome) => judge(&outcome, bait.path(), tier),
        Err(reason) => Probe::refused(reason, "try again"),
    }
}

/// On a thread of its own: the caller may or may not be inside a runtime.
fn run_alone(job: Job) -> Result<Outcome, String> {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        Ok(runtime.block_on(run(job, &CancellationToken::new(), None)))
    });
    thread.join().unwrap_or_else(|_| Err("the probe panicked".into()))
}

fn judge(outcome: &Outcome, bait: &Path, tier: Tier) -> Probe {
    match &outcome.end {
        End::Exited(0) => {}
        End::Setup(reason) => return Probe::refused(reason.clone(), remedy(reason)),
        other => {
            let words = outcome.stderr.text();
            let reason = format!("the canary ended with {other:?}: {}", words.trim());
            return Probe::refused(reason, "please report this");
        }
    }
    let said: Value = serde_json::from_str(outcome.stdout.text().trim()).unwrap_or_default();
    let escaped: Vec<&str> = ATTEMPTS
        .iter()
        .filter(|attempt| said[**attempt] != Value::Bool(false))
        .copied()
        .chain(reaches_others(&said, tier).then_some("reach other processes"))
        .chain(std::fs::exists(bait.join("written")).unwrap_or(true).then_some("write outside"))
        .chain(outcome.survivors.then_some("survive the end"))
        .collect();
    if escaped.is_empty() {
        return Probe { tier: Some(tier), reason: String::new(), remedy: String::new() };
    }
    let reason = format!("a test program could {}", escaped.join(", "));
    Probe::refused(reason, "please report this; nothing is run on this machine")
}

/// In a namespace of its own it sees itself and the supervisor (and the starter's number may be one of theirs);
/// without one it must not be able to signal the starter.
fn reaches_others(said: &Value, tier: Tier) -> bool {
    let most = match tier {
        Tier::A | Tier::B => 2,
        Tier::C | Tier::S => return said["signal"] != Value::Bool(false),
    };
    said["processes"].as_u64().is_none_or(|seen| seen > most)
}

/// What changes the machine so that the step that failed succeeds.
fn remedy(reason: &str) -> String {
    let setting = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
        return "AppArmor refuses user namespaces: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for tillerman with `userns,`".into();
    }
    if setting("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        return "sudo sysctl kernel.unprivileged_userns_clone=1".into();
    }
    if setting("/proc/sys/user/max_user_namespaces") == "0" {
        return "sudo sysctl user.max_user_namespaces=15000".into();
    }
    if reason.starts_with("Landlock") {
        return "boot with landlock in the kernel's lsm= list (Linux 5.13 or newer)".into();
    }
    "needs Linux 5.13 or newer with user namespaces; inside a container, allow them there".into()
}

const ATTEMPTS: [&str; 5] =
    ["read outside", "write outside", "list home", "open a socket", "make a namespace"];

/// Prints which attempts succeeded, and leaves a process in a session of its own behind that holds
/// the output open: if it lived on, the output would not end.
const CANARY: &str = r#"
import json, os, socket, sys
secret, outside, home, starter = sys.argv[1:5]
def tried(attempt):
    try:
        return bool(attempt())
    except (OSError, AttributeError):
        return False
def write():
    with open(os.path.join(outside, "written"), "w") as file:
        return file.write("x")
def connect():
    return socket.create_connection(("127.0.0.1", 9), 1)
def namespace():
    import ctypes
    return ctypes.CDLL(None).unshare(0x10000000) == 0
def seen():
    try:
        return len([name for name in os.listdir("/proc") if name.isdigit()])
    except OSError:
        return 0
result = {
    "read outside": tried(lambda: open(secret).read()),
    "write outside": tried(write),
    "list home": tried(lambda: os.path.realpath(home) not in ("/", "/usr") and [
        name for name in os.listdir(home) if not sys.prefix.startswith(os.path.join(home, name))]),
    "open a socket": tried(lambda: socket.socket()) or tried(connect),
    "make a namespace": tried(namespace),
    "signal": tried(lambda: os.kill(int(starter), 0) or True),
    "processes": seen(),
}
try:
    child = os.fork()
except OSError:
    child = None
if child == 0:
    os.setsid()
    if os.fork() == 0:
        import time
        time.sleep(60)
    os._exit(0)
if child:
    os.wait()
print(json.dumps(result))
"#;
