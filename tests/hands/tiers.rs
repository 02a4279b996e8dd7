//! The weaker tiers of the sandbox, where this machine has what they need.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tillerman::tools::python::Interpreter;
use tillerman::tools::sandbox::{self, Limits};
use tokio_util::sync::CancellationToken;

use crate::nobody::{left_to_nobody, say};

/// Holds in a weaker tier too: the canary is content, programs compute, and what they start ends with them.
fn holds(tier: sandbox::Tier, bwrap: &Path) {
    let exe = Path::new(env!("CARGO_BIN_EXE_tillerman"));
    let Ok(interpreter) = Interpreter::find() else { return say("SKIPPED, no python3") };
    let probe = sandbox::try_tier(exe, &interpreter, tier, bwrap);
    if probe.tier.is_none() {
        return say(&format!("SKIPPED, no tier {}: {} ({})", tier.name(), probe.reason, probe.remedy));
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
        "fcntl.ioctl(open('data/n.txt'), 0x40086602, bytes(8))",
        "os.setxattr('data/n.txt', 'user.x', b'x')",
        "open('/etc/shadow')",
        "open('/proc/1/environ').read()",
        "os.listdir('/home')",
        "socket.socket(socket.AF_UNIX)",
        "socket.socket()",
    ] {
        let code = format!(
            "import fcntl, os, socket\ntry:\n    {attempt}\n    print('done')\nexcept OSError:\n    print('no')"
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
    if left_to_nobody("tiers::tier_b_holds") {
        return;
    }
    let bwrap = std::env::var_os("TILLERMAN_TEST_BWRAP").map_or_else(sandbox::bwrap_program, PathBuf::from);
    if bwrap.exists() { holds(sandbox::Tier::B, &bwrap) } else { say("SKIPPED, bubblewrap is not installed") }
}

#[test]
fn tier_c_holds() {
    if !left_to_nobody("tiers::tier_c_holds") {
        holds(sandbox::Tier::C, &sandbox::bwrap_program());
    }
}
