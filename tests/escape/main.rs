//! The escape suite: every way out of `table`, from Python and from a shell, and every runaway of `runaways`.
//!
//! Each probe gets a bait of its own: a secret that anybody could read and change, in a folder anybody could
//! write. What works outside the sandbox is tried outside first. The strongest tier this machine grants is tried,
//! tier B where bubblewrap is (or TILLERMAN_TEST_BWRAP names one), and tier C for what it says it holds. Where there
//! is no sandbox the suite says so.

#[path = "../support/nobody.rs"]
mod nobody;
mod runaways;
mod table;

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::Command;

use nobody::{left_to_nobody, say};
use table::Probe;
use tillerman::tools::python::Interpreter;
use tillerman::tools::sandbox::{self, End, Job, Limits, Outcome, Tier};
use tokio_util::sync::CancellationToken;

const TABLES: [&[Probe]; 5] =
    [table::READING, table::WRITING, table::SPEAKING, table::PROCESSES, table::CALLS];

const PYTHON: &str = "import ctypes, os, resource, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def need(thing):
    if not thing: raise OSError('nothing')
    return True
def door(number, *arguments):
    if libc.syscall(number, *arguments) == -1 and ctypes.get_errno() in (1, 38): raise OSError(ctypes.get_errno(), 'shut')
    return ('reached', ctypes.get_errno())
def raised():
    for what in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):
        try: resource.setrlimit(what, (1 << 40, 1 << 40))
        except ValueError: continue
        return what
    raise OSError('all fixed')
";

const SHELL: &str = r#"door() { perl -e '
my ($none, $tmp, $tmpfs, $proc, $root, $user, $x, $empty) = ("none", "/tmp", "tmpfs", "/proc", "/", "user", "x", "");
my $clone = pack("Q11", 0x10000000, (0) x 10);
my $answer = eval $ARGV[0];
exit(defined $answer && $answer == -1 && ($! + 0 == 1 || $! + 0 == 38) ? 1 : 0)' "$1"; }
"#;

fn exe() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_tillerman"))
}

/// Bubblewrap: this machine's, or one that is not installed.
fn bwrap() -> PathBuf {
    std::env::var_os("TILLERMAN_TEST_BWRAP").map_or_else(sandbox::bwrap_program, PathBuf::from)
}

/// The tier this machine grants, or, where one is named, that one. None, and said so: there is no such sandbox.
fn held(wanted: Option<Tier>) -> Option<Held> {
    let interpreter = match Interpreter::find() {
        Ok(interpreter) => interpreter,
        Err(reason) => {
            say(&format!("SKIPPED, no python3: {reason}"));
            return None;
        }
    };
    let probe = match wanted {
        Some(tier) => sandbox::try_tier(&exe(), &interpreter, tier, &bwrap()),
        None => sandbox::probe(&exe(), &interpreter),
    };
    let Some(tier) = probe.tier else {
        let which = wanted.map_or_else(|| "sandbox".into(), |tier| format!("tier {}", tier.name()));
        say(&format!("SKIPPED, no {which} here: {} ({})", probe.reason, probe.remedy));
        return None;
    };
    if tier != Tier::A && wanted.is_none() {
        say(&format!("tier {} is tried: tier A is not granted here", tier.name()));
    }
    Some(Held { interpreter, tier })
}

/// What runs the programs, and how they are held.
struct Held {
    interpreter: Interpreter,
    tier: Tier,
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(future)
}

/// A program in the sandbox, with the limits of the real one but for the clock: a slow machine is no escape.
fn job(held: &Held, language: Language, code: &str) -> Job {
    let mut job = held.interpreter.job(&exe(), if language == Language::Python { code } else { "" }, None);
    (job.tier, job.bwrap) = (held.tier, bwrap());
    if language == Language::Shell {
        job.argv = ["/bin/sh", "-c", code].map(String::from).into();
    }
    job.limits = Limits { wall_ms: 600_000, ..Limits::default() };
    job
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Python,
    Shell,
}

/// What a probe came to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Kept,
    Escaped,
    /// A program it needs is not on this machine.
    Missing,
    /// It did not do what it is there for.
    Broken(String),
}

/// What is there to be reached outside: listeners, shared memory, an inherited descriptor.
struct World {
    folder: tempfile::TempDir,
    unix: UnixListener,
    hidden: UnixListener,
    datagrams: UnixDatagram,
    tcp: TcpListener,
    udp: UdpSocket,
    name: String,
    shared: PathBuf,
    leak: i32,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let unix = UnixListener::bind(folder.path().join("socket")).unwrap();
        let datagrams = UnixDatagram::bind(folder.path().join("datagrams")).unwrap();
        for name in ["socket", "datagrams"] {
            fs::set_permissions(folder.path().join(name), Permissions::from_mode(0o777)).unwrap();
        }
        let name = format!("tillerman-{}", uuid::Uuid::now_v7().simple());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let (hidden, tcp) =
            (UnixListener::bind_addr(&address).unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        for nonblocking in
            [unix.set_nonblocking(true), hidden.set_nonblocking(true), tcp.set_nonblocking(true)]
        {
            nonblocking.unwrap();
        }
        udp.set_nonblocking(true).unwrap();
        datagrams.set_nonblocking(true).unwrap();
        let shared = PathBuf::from("/dev/shm").join(&name);
        fs::write(&shared, "shared").unwrap();
        let file = fs::File::open(&shared).unwrap();
        // SAFETY: duplicates a descriptor, to one an exec passes on; it is closed with the process.
        let leak = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, 200) };
        assert!(leak >= 200);
        World { folder, unix, hidden, datagrams, tcp, udp, name, shared, leak }
    }

    /// Connections and datagrams that came since it was asked last.
    fn visits(&self) -> usize {
        let mut visits = 0;
        let mut byte = [0; 8];
        while self.unix.accept().is_ok() || self.hidden.accept().is_ok() || self.tcp.accept().is_ok() {
            visits += 1;
        }
        while self.udp.recv(&mut byte).is_ok() || self.datagrams.recv(&mut byte).is_ok() {
            visits += 1;
        }
        visits
    }

    fn fill(&self, text: &str, bait: &Bait, own: &str) -> String {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let mut text = text.to_string();
        for (name, value) in [
            ("secret", bait.secret().display().to_string()),
            ("bait", bait.folder.path().display().to_string()),
            ("own", own.to_string()),
            ("home", std::env::var("HOME").unwrap_or_else(|_| "/root".into())),
            ("project", env!("CARGO_MANIFEST_DIR").to_string()),
            ("host", host.trim().to_string()),
            ("socket", self.folder.path().join("socket").display().to_string()),
            ("datagrams", self.folder.path().join("datagrams").display().to_string()),
            ("abstract", self.name.clone()),
            ("shm", self.name.clone()),
            ("port", self.tcp.local_addr().unwrap().port().to_string()),
            ("udp", self.udp.local_addr().unwrap().port().to_string()),
            ("pid", std::process::id().to_string()),
            ("fd", self.leak.to_string()),
        ] {
            text = text.replace(&format!("@{name}@"), &value);
        }
        text
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.shared);
    }
}

/// A folder and a secret in it that everybody may read and change.
struct Bait {
    folder: tempfile::TempDir,
    words: String,
}

impl Bait {
    fn new() -> Bait {
        let bait =
            Bait { folder: tempfile::tempdir().unwrap(), words: format!("secret-{}", uuid::Uuid::now_v7()) };
        fs::write(bait.secret(), &bait.words).unwrap();
        fs::set_permissions(bait.secret(), Permissions::from_mode(0o666)).unwrap();
        fs::set_permissions(bait.folder.path(), Permissions::from_mode(0o777)).unwrap();
        bait
    }

    fn secret(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    /// Everything about it that a program could change: contents, names, modes, owners, times, links.
    fn state(&self) -> String {
        let mut state = String::new();
        let mut paths: Vec<PathBuf> =
            fs::read_dir(self.folder.path()).unwrap().flatten().map(|e| e.path()).collect();
        paths.sort();
        for path in paths.iter().chain([&self.folder.path().to_path_buf()]) {
            let meta = path.symlink_metadata().unwrap();
            let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
            let _ = writeln!(state, "{path:?} {:o} {} {} {times:?}", meta.mode(), meta.uid(), meta.nlink());
        }
        state + &fs::read_to_string(self.secret()).unwrap_or_default()
    }
}

fn python_of(probe: &Probe) -> String {
    format!(
        "{PYTHON}try:\n    value = ({})\nexcept OSError as error:\n    print('kept', error)\nelse:\n    print('ESCAPED', value)\n",
        probe.python
    )
}

fn judge(language: Language, code: Option<i32>, stdout: &str, stderr: &str) -> Verdict {
    let broken = || Verdict::Broken(format!("exit {code:?}: {stdout} {stderr}"));
    match (language, code) {
        (Language::Python, Some(0)) if stdout.starts_with("kept") => Verdict::Kept,
        (Language::Python, Some(0)) if stdout.starts_with("ESCAPED") => Verdict::Escaped,
        (Language::Python, _) => broken(),
        (Language::Shell, Some(127)) => Verdict::Missing,
        (Language::Shell, _) if stderr.contains("yntax error") => broken(),
        (Language::Shell, Some(0)) => Verdict::Escaped,
        (Language::Shell, Some(_)) => Verdict::Kept,
        (Language::Shell, None) => broken(),
    }
}

fn outside(world: &World, probe: &Probe, language: Language) -> Verdict {
    let (bait, own) = (Bait::new(), tempfile::tempdir().unwrap());
    let fill = |text: &str| world.fill(text, &bait, &own.path().display().to_string());
    let mut command = match language {
        Language::Python => Command::new("python3"),
        Language::Shell => Command::new("/bin/sh"),
    };
    command.arg("-c").arg(match language {
        Language::Python => fill(&python_of(probe)),
        Language::Shell => format!("{SHELL}{}", fill(probe.shell)),
    });
    let output = command.current_dir(own.path()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    judge(language, output.status.code(), &text(&output.stdout), &text(&output.stderr))
}

fn inside(world: &World, held: &Held, probe: &Probe, language: Language) -> Verdict {
    let bait = Bait::new();
    let before = bait.state();
    // Without a private root the run directory has another name each time.
    let own = if held.tier == Tier::C { "." } else { "/work" };
    // Nobody's home is beneath /tmp, and there tier B has a folder of its own: what is made in it is not ours.
    let home = if held.tier == Tier::B { "/root" } else { "@home@" };
    let fill = |text: &str| world.fill(&text.replace("@home@", home), &bait, own);
    let code = match language {
        Language::Python => fill(&python_of(probe)),
        Language::Shell => format!("{SHELL}{}", fill(probe.shell)),
    };
    let outcome: Outcome =
        block_on(sandbox::run(job(held, language, &code), &CancellationToken::new(), None));
    let (out, err) = (outcome.stdout.text(), outcome.stderr.text());
    assert!(!outcome.survivors, "{}: something survived", probe.name);
    assert!(!out.contains(&bait.words) && !err.contains(&bait.words), "{}: the secret came out", probe.name);
    assert_eq!(bait.state(), before, "{} ({language:?}) changed something outside", probe.name);
    let code = if let End::Exited(code) = outcome.end { Some(code) } else { None };
    judge(language, code, &out, &err)
}

fn probes() -> impl Iterator<Item = &'static Probe> {
    TABLES.iter().copied().flatten().filter(|probe| !probe.x86 || cfg!(target_arch = "x86_64"))
}

/// What is called a way out is one where nothing holds it: else the suite would prove nothing.
#[test]
fn the_ways_lead_out_where_there_is_no_sandbox() {
    if Interpreter::find().is_err() {
        return;
    }
    let world = World::new();
    let mut wrong = Vec::new();
    for probe in probes().filter(|probe| probe.control) {
        for language in [Language::Python, Language::Shell] {
            let verdict = outside(&world, probe, language);
            if !matches!(verdict, Verdict::Escaped | Verdict::Missing) {
                wrong.push(format!("{} ({language:?}): {verdict:?}", probe.name));
            }
        }
    }
    assert!(wrong.is_empty(), "held though nothing holds them:\n{}", wrong.join("\n"));
    assert!(world.visits() >= 6, "the listeners were not reached");
}

/// Try every probe in both languages; answers what was kept in each, and names what was not.
fn try_all(world: &World, held: &Held) -> ([usize; 2], Vec<String>) {
    let (mut kept, mut missing, mut wrong) = ([0, 0], Vec::new(), Vec::new());
    for probe in probes() {
        for (at, language) in [Language::Python, Language::Shell].into_iter().enumerate() {
            match inside(world, held, probe, language) {
                Verdict::Kept => kept[at] += 1,
                Verdict::Missing => missing.push(probe.name),
                verdict => wrong.push(format!("{} ({language:?}): {verdict:?}", probe.name)),
            }
        }
    }
    say(&format!(
        "escape suite, tier {}: {} probes; kept {} from python, {} from the shell; {} not tried for want of a program {missing:?}; {} out or broken",
        held.tier.name(),
        probes().count(),
        kept[0],
        kept[1],
        missing.len(),
        wrong.len()
    ));
    assert_eq!(world.visits(), 0, "somebody came");
    (kept, wrong)
}

/// A suite in which next to nothing was tried has kept nothing in either.
fn enough(kept: [usize; 2], of: usize) {
    let known = cfg!(target_arch = "x86_64");
    assert!(kept[0] * 10 >= of * 9 || !known, "python: {kept:?} of {of}");
    // Probes that want a program this machine may lack are fewer than half.
    assert!(kept[1] * 2 >= of || !known, "shell: {kept:?} of {of}");
}

#[test]
fn no_probe_gets_out() {
    let Some(held) = held(None) else { return };
    let (kept, wrong) = try_all(&World::new(), &held);
    assert!(wrong.is_empty(), "out, or not tried at all:\n{}", wrong.join("\n"));
    enough(kept, probes().count());
}

#[test]
fn tier_b_keeps_everything() {
    if left_to_nobody("tier_b_keeps_everything") {
        return;
    }
    if !bwrap().exists() {
        return say("SKIPPED, bubblewrap is not installed");
    }
    let Some(held) = held(Some(Tier::B)) else { return };
    let (kept, wrong) = try_all(&World::new(), &held);
    assert!(wrong.is_empty(), "out, or not tried at all:\n{}", wrong.join("\n"));
    enough(kept, probes().count());
}

#[test]
fn tier_c_keeps_all_but_what_it_says_it_lacks() {
    if left_to_nobody("tier_c_keeps_all_but_what_it_says_it_lacks") {
        return;
    }
    let Some(held) = held(Some(Tier::C)) else { return };
    let (kept, mut wrong) = try_all(&World::new(), &held);
    wrong.retain(|line| !table::TIER_C_LACKS.iter().any(|name| line.starts_with(&format!("{name} ("))));
    assert!(wrong.is_empty(), "out, or not tried at all:\n{}", wrong.join("\n"));
    enough(kept, probes().count() - table::TIER_C_LACKS.len());
}
