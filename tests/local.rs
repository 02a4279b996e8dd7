//! Local by proof: asking, rolling, a training step and the deck on a machine without any network interface, and again
//! where whoever opens a socket to anything but this machine's own files is killed on the spot.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use serde_json::Value;

const TASKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/tasks/train.jsonl");
const PROGRAM: &str = env!("CARGO_BIN_EXE_tillerman");
/// What the trapped child becomes: arguments, one a line.
const BECOME: &str = "TILLERMAN_TEST_BECOME";
/// The signal of a forbidden system call.
const SIGSYS: i32 = 31;

/// How the program is cut off.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    /// A network namespace whose only interface is down.
    NoInterface,
    /// A filter that kills whoever opens a socket other than a UNIX one.
    Trap,
}

/// Program and arguments that run tillerman with `args`, and what to set in the environment.
fn cut_off(cut: Cut, args: &[&str]) -> (String, Vec<String>, Vec<(&'static str, String)>) {
    let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    match cut {
        Cut::NoInterface => {
            let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
            let mut all = owned(if root { &["-n", "--", PROGRAM] } else { &["-Ucn", "--", PROGRAM] });
            all.extend(owned(args));
            ("unshare".to_string(), all, Vec::new())
        }
        Cut::Trap => {
            let itself = std::env::current_exe().unwrap().to_str().unwrap().to_string();
            let all = owned(&["--exact", "child", "--ignored", "--nocapture"]);
            (itself, all, vec![(BECOME, args.join("\n"))])
        }
    }
}

/// What is started to be trapped: it springs the trap on itself and becomes the program.
#[test]
#[ignore = "started by the tests here"]
fn child() {
    let Ok(arguments) = std::env::var(BECOME) else { return };
    let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, libc::AF_UNIX as u64);
    let rules = BTreeMap::from([(libc::SYS_socket, vec![SeccompRule::new(vec![other.unwrap()]).unwrap()])]);
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::KillProcess, arch).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&filter).unwrap();
    let error = Command::new(PROGRAM).args(arguments.lines()).env_remove(BECOME).exec();
    panic!("{error}");
}

/// (exit code or minus the signal, stdout, stderr).
fn run(cut: Cut, home: &Path, args: &[&str]) -> (i32, String, String) {
    use std::os::unix::process::ExitStatusExt as _;
    let (program, args, env) = cut_off(cut, args);
    let mut command = Command::new(program);
    command.args(args).envs(env).env("TILLERMAN_HOME", home).env_remove("RUST_BACKTRACE");
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0));
    (code, text(&output.stdout), text(&output.stderr))
}

/// The lines of JSON among what was printed.
fn lines(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
}

/// Whether this machine lets a test have a network namespace.
fn can_be_cut_off() -> bool {
    let args = if std::fs::metadata("/proc/self").unwrap().uid() == 0 { "-n" } else { "-Ucn" };
    let found = Command::new("unshare").args([args, "--", "cat", "/proc/net/dev"]).output();
    let Some(found) = found.ok().filter(|output| output.status.success()) else {
        println!("skipped: no network namespace is to be had here");
        return false;
    };
    let interfaces = String::from_utf8_lossy(&found.stdout);
    let names: Vec<&str> =
        interfaces.lines().skip(2).filter_map(|line| line.trim().split(':').next()).collect();
    assert!(names.iter().all(|name| *name == "lo"), "{interfaces}");
    true
}

/// A query, a group of rollouts and a step that makes an adapter.
fn works(cut: Cut, config: &str) {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    let (code, out, err) = run(cut, home.path(), &["--seed", "1", "ask", "--json", "What is 37*41+5?"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(lines(&out).last().unwrap()["kind"], "answered", "{out}");
    let roll = ["--seed", "5", "rollout", "What is 12*12+1?", "--size", "4", "--json"];
    let (code, out, err) = run(cut, home.path(), &roll);
    assert_eq!(code, 0, "{err}");
    assert_eq!(lines(&out).iter().filter(|line| line["kind"] == "rollout").count(), 4, "{out}");
    let mut step = vec!["--seed", "3", "--adapter", "none", "train", "--json", "--tasks", TASKS];
    step.extend([
        "--questions",
        "8",
        "--draws",
        "2",
        "--pairs",
        "0",
        "--validate-every",
        "0",
        "--steps",
        "1",
    ]);
    let (code, out, err) = run(cut, home.path(), &step);
    assert_eq!(code, 0, "{err}");
    let lines = lines(&out);
    let stepped = lines.iter().find(|line| line["kind"] == "stepped").unwrap();
    assert!(stepped["adapter"].is_string(), "the step made an adapter: {out}");
}

/// Answers a question in a terminal, and leaves.
fn deck(cut: Cut, config: &str) {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    let (program, args, env) =
        cut_off(cut, &["--home", home.path().to_str().unwrap(), "--seed", "1", "--adapter", "none"]);
    let size = PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 };
    let pair = native_pty_system().openpty(size).unwrap();
    let mut command = CommandBuilder::new(program);
    command.args(args);
    command.env("TERM", "xterm-256color");
    env.iter().for_each(|(name, value)| command.env(name, value));
    let mut child = pair.slave.spawn_command(command).unwrap();
    let mut reader = pair.master.try_clone_reader().unwrap();
    let mut writer = pair.master.take_writer().unwrap();
    let (send, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = reader.read(&mut chunk) {
            let _ = send.send(chunk[..n].to_vec());
        }
    });
    let mut parser = vt100::Parser::new(24.try_into().unwrap(), 80.try_into().unwrap(), 0);
    let mut wait_for = |what: &str| {
        let began = Instant::now();
        while !parser.screen().contents().contains(what) {
            assert!(
                began.elapsed() < Duration::from_secs(120),
                "never came: {what}\n{}",
                parser.screen().contents()
            );
            if let Ok(bytes) = received.recv_timeout(Duration::from_millis(50)) {
                parser.process(&bytes);
            }
        }
    };
    wait_for("ask something");
    wait_for("tillerman-embedded");
    writer.write_all(b"What is 6*7?\r").unwrap();
    wait_for(" tokens");
    writer.write_all(b"\x03\x03\x03").unwrap();
    assert_eq!(child.wait().unwrap().exit_code(), 0);
}

#[test]
fn without_an_interface_everything_but_the_network_works() {
    if !can_be_cut_off() {
        return;
    }
    works(Cut::NoInterface, "[engine]\nthreads = 1\n[train]\nlr = 0.001\ngroup = 4\n");
    deck(Cut::NoInterface, "");
    let home = tempfile::tempdir().unwrap();
    let (_, out, _) = run(Cut::NoInterface, home.path(), &["doctor", "--json"]);
    let checks = lines(&out);
    for name in ["store", "engine", "model"] {
        let check = checks.iter().find(|check| check["name"] == name).unwrap();
        assert_eq!(check["ok"], true, "{check}");
    }
}

/// Programs in the sandbox try sockets on purpose (its canary does), so there are none here.
#[test]
fn nobody_opens_a_socket_until_something_is_switched_on() {
    let alone = "[tools]\npython = false\n";
    works(Cut::Trap, &format!("[engine]\nthreads = 1\n[train]\nlr = 0.001\ngroup = 4\n{alone}"));
    deck(Cut::Trap, alone);

    // The trap is one: what may go out is caught at its first step.
    let home = tempfile::tempdir().unwrap();
    let web = "[network]\nweb = true\nallow_hosts = [\"127.0.0.1:9\"]\n";
    std::fs::write(home.path().join("config.toml"), format!("{web}{alone}")).unwrap();
    let page = ["tool", "run", "web", r#"{"url": "http://127.0.0.1:9/"}"#];
    let (code, out, err) = run(Cut::Trap, home.path(), &page);
    assert_eq!(code, -SIGSYS, "{out}{err}");
    let offline = ["--offline", "tool", "run", "web", r#"{"url": "http://127.0.0.1:9/"}"#];
    let (code, _, err) = run(Cut::Trap, home.path(), &offline);
    assert!(code == 2 || code == 1, "{code}: {err}");
}
