//! Processes that try to outlive their program: left alone, and when it is cancelled. None may.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tillerman::tools::sandbox;
use tokio_util::sync::CancellationToken;

use crate::{Language, block_on, held, job};

/// Name, Python and shell. Each leaves a process whose command line holds `@marker@`, says "ready" once that
/// runs, and goes on or ends.
const RUNAWAYS: [(&str, &str, &str); 8] = [
    (
        "two sessions away",
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: sleep()\n    os._exit(0)\nos.wait()",
        "setsid sh -c './@marker@ 300 & exit' ",
    ),
    (
        "deaf to every signal",
        "if os.fork() == 0:\n    for number in range(1, 65):\n        try: signal.signal(number, signal.SIG_IGN)\n        except (OSError, ValueError): pass\n    sleep()",
        "(trap '' HUP INT QUIT TERM USR1 USR2; exec nohup ./@marker@ 300 >/dev/null 2>&1) &",
    ),
    (
        "stopped",
        "child = os.fork()\nif child == 0: sleep()\nwhile b'@marker@' not in open(f'/proc/{child}/cmdline', 'rb').read(): pass\nos.kill(child, signal.SIGSTOP)",
        "./@marker@ 300 & kill -STOP $!",
    ),
    (
        "without descriptors",
        "if os.fork() == 0:\n    os.setsid()\n    os.closerange(0, 256)\n    sleep()",
        "setsid ./@marker@ 300 </dev/null >/dev/null 2>&1 &",
    ),
    (
        "a chain of twenty",
        "depth = 0\nwhile depth < 20 and os.fork() == 0:\n    os.setsid()\n    depth += 1\nif depth == 20: sleep()\nif depth: time.sleep(300)",
        "chain() { if [ $1 -eq 0 ]; then exec ./@marker@ 300; fi; (chain $(($1 - 1))) & wait; }\n(chain 12) &",
    ),
    (
        "one that wakes the other",
        "def phoenix():\n    while True:\n        child = os.fork()\n        if child == 0: sleep()\n        os.waitpid(child, 0)\nif os.fork() == 0:\n    os.setsid()\n    phoenix()",
        "(while :; do ./@marker@ 300; done) &",
    ),
    (
        "its own reaper",
        "import ctypes\nctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\nctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\nif os.fork() == 0:\n    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\n    sleep()",
        "perl -e 'syscall(157, 36, 1, 0, 0, 0); syscall(157, 1, 0, 0, 0, 0); exec \"./@marker@\", 300' &",
    ),
    (
        "started by a library",
        "import subprocess\nsubprocess.Popen(['@marker@', '300'], executable='/usr/bin/sleep', start_new_session=True)",
        "perl -MPOSIX -e 'fork and exit; POSIX::setsid(); exec \"./@marker@\", 300'",
    ),
];

const PYTHON: &str = "import os, signal, sys, time
def sleep(): os.execv('/usr/bin/sleep', ['@marker@', '300'])
";

/// Waits inside until the runaway runs, as the program of it sees its own processes.
const PYTHON_READY: &str = "
def runs(name):
    try: return open(f'/proc/{name}/cmdline', 'rb').read().startswith(b'@marker@')
    except OSError: return False
while not any(runs(name) for name in os.listdir('/proc') if name.isdigit()): time.sleep(0.01)
print('ready', flush=True)
";
const SHELL_READY: &str =
    "\nuntil grep -alq '^./@marker@' /proc/[0-9]*/cmdline 2>/dev/null; do sleep 0.05; done\necho ready\n";

fn code(language: Language, python: &str, shell: &str, marker: &str, stays: bool) -> String {
    let code = match (language, stays) {
        (Language::Python, false) => format!("{PYTHON}{python}{PYTHON_READY}"),
        (Language::Python, true) => format!("{PYTHON}{python}{PYTHON_READY}time.sleep(300)\n"),
        (Language::Shell, false) => format!("cp /usr/bin/sleep ./@marker@\n{shell}{SHELL_READY}"),
        (Language::Shell, true) => format!("cp /usr/bin/sleep ./@marker@\n{shell}{SHELL_READY}sleep 300\n"),
    };
    code.replace("@marker@", marker)
}

/// Processes of this machine whose command line holds the marker.
fn alive(marker: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.map(|entry| fs::read(entry.path().join("cmdline")).unwrap_or_default());
    lines.filter(|line| String::from_utf8_lossy(line).contains(marker)).count()
}

/// How long a kill may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// A kill takes its time on a busy machine; a survivor is what is still there when patience ends.
fn gone(marker: &str) -> bool {
    let start = Instant::now();
    while alive(marker) > 0 {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

#[test]
fn no_runaway_survives() {
    let Some(held) = held(None) else { return };
    let mut runs = 0;
    for (at, (name, python, shell)) in RUNAWAYS.iter().enumerate() {
        for language in [Language::Python, Language::Shell] {
            for cancelled in [false, true] {
                let marker = format!("runaway-{}-{at}-{language:?}-{cancelled}", std::process::id());
                let job = job(&held, language, &code(language, python, shell, &marker, cancelled));
                let cancel = CancellationToken::new();
                let (token, seen) = (cancel.clone(), marker.clone());
                let on_output: tillerman::engine::OnPiece = Arc::new(move |text: &str| {
                    if cancelled && text.contains("ready") {
                        // Seen from outside too, or its absence afterwards would say nothing.
                        assert!(alive(&seen) > 0, "the runaway is not to be seen");
                        token.cancel();
                    }
                });
                let outcome = block_on(sandbox::run(job, &cancel, Some(on_output)));
                let printed = outcome.stdout.text();
                assert!(printed.contains("ready"), "{name} ({language:?}) never ran: {outcome:?}");
                let ended = outcome.end == sandbox::End::Cancelled;
                assert_eq!(ended, cancelled, "{name} ({language:?}): {outcome:?}");
                assert!(!outcome.survivors, "{name} ({language:?}): the output was held open");
                assert!(gone(&marker), "{name} ({language:?}, cancelled {cancelled}) survived");
                runs += 1;
            }
        }
    }
    println!("runaways: {} kinds in {runs} runs, 0 survivors", RUNAWAYS.len());
}
