//! Tier S: macOS's sandbox-exec under a profile that begins with (deny default). Nobody has tried it on a Mac yet:
//! it is there only where the person allows weak tiers, and only where the canary finds that it holds.
//!
//! One program may read itself, its libraries and its data, write its run directory, and start no other. So nothing
//! can survive it: macOS has no namespace of processes that ends with its first. This process becomes the program; a
//! watcher beside it ends it when the starter dies or its memory grows too large.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, BufRead as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{EXIT_SETUP, Limits, Policy, STATUS_FD, Status};

#[cfg(target_os = "macos")]
const LAUNCHER: &str = "/usr/bin/sandbox-exec";
/// What a program needs of the system to start: its libraries, the cache they are mapped from, time zones.
const SYSTEM: [&str; 7] = [
    "/usr/lib",
    "/usr/share",
    "/System/Library",
    "/System/Cryptexes",
    "/System/Volumes/Preboot/Cryptexes",
    "/private/var/db/dyld",
    "/private/var/db/timezone",
];
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];
const CPU_GRACE_S: u64 = 2;
/// Descriptors of the starter's that could have been left open.
const DESCRIPTORS: i32 = 4096;
const WATCH_MS: i32 = 200;
/// Rounds of the watcher between two looks at the memory.
const ROUNDS: u32 = 3;

type Step<T> = Result<T, String>;

fn at<E: std::fmt::Display>(step: &str) -> impl Fn(E) -> String {
    move |error| format!("{step}: {error}")
}

/// Runs as the whole process; answers its exit code where it could not become the program.
#[cfg(target_os = "macos")]
pub(super) fn run() -> i32 {
    failed(Path::new(LAUNCHER))
}

fn failed(launcher: &Path) -> i32 {
    let Err(reason) = become_program(launcher);
    report(&Status::Failed(reason));
    EXIT_SETUP
}

#[allow(unsafe_code)]
fn report(status: &Status) {
    let Ok(mut line) = serde_json::to_string(status) else { return };
    line.push('\n');
    // SAFETY: the bytes live; nobody could be told of a failure.
    unsafe { libc::write(STATUS_FD, line.as_ptr().cast(), line.len()) };
}

/// The text of the profile. Everything it does not name is denied: the network, other processes, services, the
/// person's files.
fn profile(policy: &Policy, run_dir: &Path) -> Step<String> {
    let program = policy.argv.first().map(PathBuf::from).ok_or("no program")?;
    let mut readable: Vec<PathBuf> = SYSTEM.map(PathBuf::from).into();
    readable.extend(policy.binds.iter().cloned());
    readable.extend(policy.data.clone());
    let mut text = String::from("(version 1)\n(deny default)\n");
    let mut allow = |what: &str, form: &str, paths: &[&Path]| -> Step<()> {
        text.push_str(&format!("(allow {what}"));
        for path in paths {
            text.push_str(&format!("\n  ({form} {})", quoted(path)?));
        }
        text.push_str(")\n");
        Ok(())
    };
    let dirs: Vec<&Path> = readable.iter().map(PathBuf::as_path).collect();
    allow("process-exec*", "literal", &[&program])?;
    let own: Vec<&Path> = policy.binds.iter().map(PathBuf::as_path).collect();
    if !own.is_empty() {
        allow("process-exec*", "subpath", &own)?;
    }
    allow("file-read*", "subpath", &dirs)?;
    allow("file-read*", "literal", &[Path::new("/"), &program])?;
    // Whoever opens a path looks at every folder on its way, and at no other.
    let ways: std::collections::BTreeSet<&Path> =
        dirs.iter().copied().chain([run_dir, &program]).flat_map(|path| path.ancestors().skip(1)).collect();
    allow("file-read-metadata", "literal", &ways.into_iter().collect::<Vec<_>>())?;
    let devices = DEVICES.map(Path::new);
    allow("file-read*", "literal", &devices)?;
    allow("file-write-data", "literal", &devices[..1])?;
    allow("file-read* file-write*", "subpath", &[run_dir])?;
    text.push_str("(allow signal (target self))\n(allow sysctl-read)\n");
    Ok(text)
}

/// A path as a string of the profile's language.
fn quoted(path: &Path) -> Step<String> {
    let text = path.to_str().filter(|text| path.is_absolute() && !text.chars().any(char::is_control));
    let text = text.ok_or_else(|| format!("{path:?} cannot stand in a sandbox profile"))?;
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// Everything up to the program, which this process then is.
fn become_program(launcher: &Path) -> Step<Infallible> {
    tidy_up()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(at("reading the policy"))?;
    let policy: Policy = serde_json::from_str(&line).map_err(at("policy"))?;
    if policy.workspace.is_some() {
        return Err("a workspace needs tier A or B, which are Linux's".into());
    }
    // The profile goes by real paths, and a Mac's temporary folder is reached over a link.
    let run_dir = policy.run_dir.as_ref().ok_or("no run directory")?;
    let run_dir = fs::canonicalize(run_dir).map_err(at("run directory"))?;
    for (name, content) in &policy.files {
        fs::write(run_dir.join(name), content).map_err(at(name))?;
    }
    if let Some(data) = &policy.data {
        std::os::unix::fs::symlink(data, run_dir.join("data")).map_err(at("data"))?;
    }
    let profile = profile(&policy, &run_dir)?;
    watcher(policy.limits.memory_bytes)?;
    limit(&policy.limits)?;
    let mut command = Command::new(launcher);
    command.arg("-p").arg(profile).args(&policy.argv);
    command.env_clear().envs(policy.env).current_dir(&run_dir).stdin(Stdio::null());
    Err(format!("{}: {}", launcher.display(), command.exec()))
}

/// A session of its own, and no descriptor beyond the four it was given.
#[allow(unsafe_code)]
fn tidy_up() -> Step<()> {
    // SAFETY: calls that take numbers; a descriptor that is not open is no matter.
    unsafe {
        for descriptor in STATUS_FD + 1..DESCRIPTORS {
            libc::close(descriptor);
        }
        if libc::fcntl(STATUS_FD, libc::F_SETFD, libc::FD_CLOEXEC) < 0 || libc::setsid() < 0 {
            return Err(at("setsid")(io::Error::last_os_error()));
        }
    }
    Ok(())
}

#[allow(unsafe_code)]
fn limit(limits: &Limits) -> Step<()> {
    let Limits { cpu_s, file_bytes, open_files, .. } = *limits;
    for (resource, soft, hard) in [
        (libc::RLIMIT_CPU, cpu_s, cpu_s + CPU_GRACE_S),
        (libc::RLIMIT_FSIZE, file_bytes, file_bytes),
        (libc::RLIMIT_NOFILE, open_files, open_files),
        (libc::RLIMIT_CORE, 0, 0),
    ] {
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: the struct lives as long as the call.
        if unsafe { libc::setrlimit(resource, &limit) } < 0 {
            return Err(at("setrlimit")(io::Error::last_os_error()));
        }
    }
    Ok(())
}

/// Begin the watcher of this process: nobody's child, so that the program cannot wait for it.
#[allow(unsafe_code)]
fn watcher(memory_bytes: u64) -> Step<()> {
    let program = i32::try_from(std::process::id()).map_err(at("process id"))?;
    // SAFETY: this process has one thread, so its copy may do what it may; the copies end by _exit.
    unsafe {
        match libc::fork() {
            -1 => Err(at("fork")(io::Error::last_os_error())),
            0 => {
                if libc::fork() == 0 {
                    watch(program, memory_bytes);
                }
                libc::_exit(0)
            }
            between => {
                libc::waitpid(between, std::ptr::null_mut(), 0);
                Ok(())
            }
        }
    }
}

/// End the program when the starter's end of our input closes, or its memory is too much; end with it.
#[allow(unsafe_code)]
fn watch(program: i32, memory_bytes: u64) -> ! {
    // The starter reads the program's output to its end, which must not wait for this process.
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        // SAFETY: both descriptors are open.
        unsafe {
            libc::dup2(null.as_raw_fd(), 1);
            libc::dup2(null.as_raw_fd(), 2);
        }
    }
    for round in 0_u32.. {
        let mut input = libc::pollfd { fd: 0, events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, one struct; signal 0 only asks whether the program is there.
        let (closed, gone) = unsafe {
            let ready = libc::poll(&mut input, 1, WATCH_MS) > 0;
            let mut byte = 0_u8;
            let closed = ready && libc::read(0, (&raw mut byte).cast(), 1) <= 0;
            (closed, libc::kill(program, 0) < 0)
        };
        let large = !closed && !gone && round % ROUNDS == 0 && memory(program) > memory_bytes;
        if large {
            report(&Status::Memory);
        }
        if closed || large {
            // SAFETY: it was there a moment ago, and its number is not given away until its starter has waited.
            unsafe { libc::kill(program, libc::SIGKILL) };
        }
        if closed || large || gone {
            break;
        }
    }
    // SAFETY: nothing of this copy needs to be put right.
    unsafe { libc::_exit(0) }
}

/// Resident memory as `ps` tells it; 0: it cannot be told.
fn memory(program: i32) -> u64 {
    let told = Command::new("/bin/ps").args(["-o", "rss=", "-p", &program.to_string()]).output();
    let text = told.map(|told| String::from_utf8_lossy(&told.stdout).into_owned()).unwrap_or_default();
    text.trim().parse::<u64>().unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, Instant};

    use tokio_util::sync::CancellationToken;

    use super::super::job::{self, Started};
    use super::super::{End, Job, Outcome, RUN_DIR, Tier};
    use super::*;
    use crate::tools::workspace::Workspace;

    fn policy() -> Policy {
        Policy {
            argv: vec!["/opt/python/bin/python3".into(), "main.py".into()],
            env: Vec::new(),
            files: Vec::new(),
            binds: vec!["/opt/python".into()],
            data: Some("/srv/my \"data\"".into()),
            workspace: None,
            cwd: RUN_DIR.into(),
            tier: Tier::S,
            run_dir: None,
            limits: Limits::default(),
        }
    }

    #[test]
    fn the_profile_denies_all_it_does_not_name() {
        let text = profile(&policy(), Path::new("/private/var/folders/x")).unwrap();
        assert!(text.starts_with("(version 1)\n(deny default)\n"), "{text}");
        assert_eq!(text.matches('(').count(), text.matches(')').count(), "{text}");
        let rules: Vec<&str> = text.split("\n(allow ").skip(1).collect();
        let of = |what: &str| rules.iter().filter(|rule| rule.contains(what)).collect::<Vec<_>>();
        assert_eq!(of("file-write*").len(), 1, "one place is written: {text}");
        assert!(of("file-write*")[0].contains("(subpath \"/private/var/folders/x\")"), "{text}");
        assert!(of("file-write-data")[0].trim_end().ends_with("(literal \"/dev/null\"))"), "{text}");
        assert!(text.contains(r#"(subpath "/srv/my \"data\"")"#), "{text}");
        assert!(of("file-read-metadata")[0].contains("(literal \"/private/var/folders\")"), "{text}");
        for absent in
            ["network", "mach", "fork", "ipc", "iokit", "allow default", "/Users", "regex", "import"]
        {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
        let starts: String = of("process-exec").iter().map(|rule| rule.to_string()).collect();
        assert!(!starts.contains("\"/usr") && !starts.contains("\"/System"), "no other program: {starts}");
        for bad in ["relative", "/a\nb", "/a\u{7f}b"] {
            let odd = Policy { data: Some(bad.into()), ..policy() };
            assert!(profile(&odd, Path::new("/x")).unwrap_err().contains("profile"), "{bad:?}");
        }
    }

    /// What a test starts for the hidden command: its launcher runs the program as it is.
    #[test]
    #[ignore = "started by the tests here"]
    fn child() {
        if let Some(launcher) = std::env::var_os("TILLERMAN_TEST_LAUNCHER") {
            std::process::exit(failed(Path::new(&launcher)));
        }
    }

    /// A job of this tier whose sandbox-exec takes its profile and denies nothing.
    fn job(folder: &Path, script: &str) -> Job {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let launcher =
            write("launcher", "#!/bin/sh\n[ \"$1\" = -p ] || exit 64\nshift 2\nexec \"$@\"\n".into());
        let itself = std::env::current_exe().unwrap();
        let name = "tools::sandbox::seatbelt::tests::child";
        let exe = write(
            "exe",
            format!(
                "#!/bin/sh\nexec env TILLERMAN_TEST_LAUNCHER={} {} --exact {name} --ignored --nocapture --test-threads=1\n",
                launcher.display(),
                itself.display()
            ),
        );
        Job {
            exe,
            argv: ["/bin/sh", "main.sh"].map(String::from).into(),
            env: vec![("HOME".into(), RUN_DIR.into())],
            files: vec![("main.sh".into(), script.into())],
            binds: Vec::new(),
            data: None,
            workspace: None,
            cwd: RUN_DIR.into(),
            tier: Tier::S,
            bwrap: PathBuf::new(),
            limits: Limits { wall_ms: 60_000, ..Limits::default() },
        }
    }

    async fn run(script: &str, change: impl FnOnce(&mut Job)) -> Outcome {
        let folder = tempfile::tempdir().unwrap();
        let mut job = job(folder.path(), script);
        change(&mut job);
        job::run(job, &CancellationToken::new(), None).await
    }

    #[tokio::test]
    async fn the_process_becomes_the_program_and_its_end_is_the_programs() {
        let script = "echo \"$HOME\"; pwd -P; ulimit -c; cat; exit 7";
        let done = run(script, |_| {}).await;
        assert_eq!((&done.end, done.survivors), (&End::Exited(7), false), "{done:?}");
        let text = done.stdout.text();
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        assert_eq!(lines[0], "0", "no core, and nothing on its input: {text}");
        assert_eq!(Path::new(lines[1]).file_name(), Path::new(lines[2]).file_name(), "{text}");
        assert_eq!(run("kill -TERM $$", |_| {}).await.end, End::Signalled(libc::SIGTERM));
        let nowhere = Workspace { path: "/".into(), write: false };
        let refused = run("true", |job| job.workspace = Some(nowhere)).await;
        assert!(matches!(&refused.end, End::Setup(why) if why.contains("needs tier A or B")), "{refused:?}");
        let wall = run("exec sleep 60", |job| job.limits.wall_ms = 2_000).await;
        assert_eq!((wall.end, wall.survivors), (End::Wall, false));
    }

    #[tokio::test]
    async fn a_program_ends_with_its_starter_and_with_too_much_memory() {
        let folder = tempfile::tempdir().unwrap();
        let mut started: Started = job::start(&job(folder.path(), "exec sleep 600")).await.unwrap();
        let began = Instant::now();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(started.child.try_wait().unwrap().is_none(), "it runs as long as its starter does");
        drop(started.lifeline.take());
        let ended =
            tokio::time::timeout(Duration::from_secs(30), started.child.wait()).await.unwrap().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(libc::SIGKILL));
        assert!(began.elapsed() < Duration::from_secs(30));
        if Path::new("/bin/ps").exists() {
            let large = run("exec sleep 600", |job| job.limits.memory_bytes = 1 << 10).await;
            assert_eq!(large.end, End::Memory, "{large:?}");
        }
    }
}
