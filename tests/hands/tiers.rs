//! The weaker tiers of the sandbox, where this machine has what they need.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tillerman::tools::python::Interpreter;
use tillerman::tools::sandbox::{self, Limits};
use tokio_util::sync::CancellationToken;

/// Tiers B and C are not for root: run this very test as nobody then. True where that was done.
pub fn left_to_an_ordinary_user(test: &str) -> bool {
    let root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
    if !root {
        return false;
    }
    let dir = tempfile::tempdir().unwrap();
    let opened = std::process::Command::new("chmod").arg("a+rwx").arg(dir.path()).status().unwrap();
    assert!(opened.success());
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .envs([("TMPDIR", dir.path()), ("HOME", dir.path())])
        .current_dir("/")
        .output();
    match output {
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stdout));
            let skips: Vec<&str> = told.lines().filter(|line| line.starts_with("SKIPPED")).collect();
            skip(&skips.join("\n"));
        }
        Err(e) => skip(&format!("SKIPPED, setpriv: {e}")),
    }
    true
}

pub fn skip(words: &str) {
    if !words.is_empty() {
        // Past the capture of the test runner: a skip is to be seen.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "{words}").unwrap();
    }
}

/// Holds in a weaker tier too: the canary is content, programs compute, and what they start ends with them.
fn holds(tier: sandbox::Tier, bwrap: &Path) {
    let exe = Path::new(env!("CARGO_BIN_EXE_tillerman"));
    let Ok(interpreter) = Interpreter::find() else { return skip("SKIPPED, no python3") };
    let probe = sandbox::try_tier(exe, &interpreter, tier, bwrap);
    if probe.tier.is_none() {
        return skip(&format!("SKIPPED, no tier {}: {} ({})", tier.name(), probe.reason, probe.remedy));
    }
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("n.txt"), "41").unwrap();
    let run = |code: &str, cancel_after_output: bool| {
        let mut job = interpreter.job(exe, code, Some(data.path().to_path_buf()));
        (job.tier, job.bwrap) = (tier, bwrap.to_path_buf());
        job.limits = Limits { wall_ms: 300_000, ..Limits::default() };
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let on_output: tillerman::engine::OnPiece = Arc::new(move |_: &str| {
            if cancel_after_output {
                stop.cancel()
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(sandbox::run(job, &cancel, Some(on_output)))
    };
    let outcome = run("print(int(open('data/n.txt').read()) + 1)\nopen('own', 'w').write('x')", false);
    assert_eq!((outcome.end, outcome.stdout.text().as_str()), (sandbox::End::Exited(0), "42\n"));
    for attempt in [
        "open('data/n.txt', 'w')",
        "open('data/new', 'w')",
        "os.chmod('data/n.txt', 0o777)",
        "os.utime('data/n.txt', (1, 1))",
        "open('/etc/shadow')",
        "open('/proc/1/environ').read()",
        "os.listdir('/home')",
        "socket.socket(socket.AF_UNIX)",
        "socket.socket()",
    ] {
        let code = format!(
            "import os, socket\ntry:\n    {attempt}\n    print('done')\nexcept OSError:\n    print('no')"
        );
        let outcome = run(&code, false);
        assert_eq!(outcome.stdout.text(), "no\n", "{attempt}: {}", outcome.stderr.text());
    }
    // It holds the output open: while it lives the output does not end.
    let survivor = "import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        \
                    time.sleep(600)
    os._exit(0)
print('begun', flush=True)
";
    for (tail, cancelled) in [("", false), ("time.sleep(600)", true)] {
        let outcome = run(&format!("{survivor}{tail}"), cancelled);
        let end = if cancelled { sandbox::End::Cancelled } else { sandbox::End::Exited(0) };
        assert_eq!((outcome.end, outcome.survivors), (end, false));
    }
}

#[test]
fn tier_b_holds() {
    if left_to_an_ordinary_user("tiers::tier_b_holds") {
        return;
    }
    let bwrap = std::env::var_os("TILLERMAN_TEST_BWRAP").map_or_else(sandbox::bwrap_program, PathBuf::from);
    if bwrap.exists() {
        holds(sandbox::Tier::B, &bwrap)
    } else {
        skip("SKIPPED, bubblewrap is not installed")
    }
}

#[test]
fn tier_c_holds() {
    if !left_to_an_ordinary_user("tiers::tier_c_holds") {
        holds(sandbox::Tier::C, &sandbox::bwrap_program());
    }
}
