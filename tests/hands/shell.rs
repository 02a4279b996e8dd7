//! The shell in its workspace: what it is for works, what it must not change stays.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tillerman::tools::approval::By;
use tillerman::tools::python::Python;
use tillerman::tools::sandbox::Limits;
use tillerman::tools::shell::Shell;
use tillerman::tools::workspace::Workspace;
use tillerman::tools::{Answer, Consent, Refused, Taint, Tool, ToolContext, ToolFault, ToolResult, Toolbox};
use tokio_util::sync::CancellationToken;

use crate::SECRET;

/// What a loaded machine delays is no escape.
fn patient() -> Limits {
    Limits { wall_ms: 300_000, ..Limits::default() }
}

/// A folder everybody may use (tests may run as root, programs then as nobody): `work` in it is the workspace.
fn workspace(write: bool, prepare: impl Fn(&Path)) -> (tempfile::TempDir, Workspace) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("work");
    std::fs::create_dir(&root).unwrap();
    prepare(&root);
    let opened = std::process::Command::new("chmod").args(["-R", "a+rwX"]).arg(&root).status().unwrap();
    assert!(opened.success());
    std::fs::write(dir.path().join("secret"), SECRET).unwrap();
    let workspace = Workspace { path: root.canonicalize().unwrap(), write };
    (dir, workspace)
}

fn or_skip<T>(made: Result<T, Refused>) -> Option<T> {
    made.inspect_err(|refused| {
        let mut stderr = std::io::stderr();
        writeln!(stderr, "SKIPPED, no sandbox here: {} ({})", refused.reason, refused.remedy).unwrap();
    })
    .ok()
}

/// A shell in such a workspace.
fn shell(write: bool, prepare: impl Fn(&Path)) -> Option<(tempfile::TempDir, Shell)> {
    let (dir, workspace) = workspace(write, prepare);
    let shell = or_skip(Shell::new(env!("CARGO_BIN_EXE_tillerman").into(), Some(workspace)))?;
    Some((dir, shell.with_limits(patient())))
}

/// Both tools that run programs, in one such workspace.
pub fn programs(write: bool) -> Option<(tempfile::TempDir, Toolbox)> {
    let (dir, workspace) = workspace(write, |_| ());
    let exe = || env!("CARGO_BIN_EXE_tillerman").into();
    let shell = or_skip(Shell::new(exe(), Some(workspace.clone())))?.with_limits(patient());
    let python = Python::new(exe(), None).and_then(|python| python.in_workspace(workspace));
    let python = or_skip(python)?.with_limits(patient());
    Some((dir, Toolbox { tools: vec![Arc::new(shell), Arc::new(python)], refused: vec![] }))
}

async fn sh(shell: &Shell, command: &str) -> ToolResult {
    shell.call(&json!({ "command": command }), &ToolContext::default()).await
}

/// Every line must fail inside and change nothing.
async fn fails(shell: &Shell, commands: &[&str]) {
    for command in commands {
        let result = sh(shell, command).await;
        assert_eq!(result.fault, Some(ToolFault::Failed), "{command} gave {}", result.text);
        assert!(!result.text.contains(SECRET), "{command}");
    }
}

#[tokio::test]
async fn the_shell_reads_the_workspace_and_changes_nothing() {
    let prepare = |root: &Path| {
        std::fs::write(root.join("a.txt"), "b\na\n").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("link")).unwrap();
    };
    let Some((dir, shell)) = shell(false, prepare) else { return };
    let result = sh(&shell, "pwd; sort a.txt; echo oops >&2; echo $((6*7))").await;
    assert_eq!((result.text.as_str(), result.exit), ("/workspace\na\nb\noops\n42", Some(0)));
    assert_eq!(result.tier.as_deref(), Some("A"));
    assert!(!shell.effects(&json!({})).acts_outward);
    let outside = dir.path().join("secret");
    fails(
        &shell,
        &[
            "echo x > a.txt",
            "rm -f a.txt && test ! -e a.txt",
            "mkdir d",
            "chmod 600 a.txt",
            "ln a.txt b",
            "cat link",
            "cat ../secret",
            &format!("cat {}", outside.display()),
            "cat /proc/1/root/etc/shadow",
            "ls /root || ls /home",
            "exec 3<>/dev/tcp/127.0.0.1/22",
            "mount -o remount,rw /workspace",
            "unshare -U true",
        ],
    )
    .await;
    assert_eq!(std::fs::read_to_string(dir.path().join("work/a.txt")).unwrap(), "b\na\n");
    // What it writes elsewhere is gone with it.
    assert_eq!(sh(&shell, "echo x > /tmp/kept && echo y > ~/kept && cat /tmp/kept").await.text, "x");
    fails(&shell, &["cat /tmp/kept", "cat ~/kept"]).await;
}

#[tokio::test]
async fn a_workspace_that_may_be_written_keeps_its_repository() {
    let prepare = |root: &Path| {
        std::fs::create_dir_all(root.join(".git/hooks")).unwrap();
        std::fs::write(root.join(".git/config"), "[core]\n").unwrap();
        std::fs::write(root.join(".git/hooks/pre-commit"), "#!/bin/sh\n").unwrap();
    };
    let Some((dir, shell)) = shell(true, prepare) else { return };
    assert!(shell.effects(&json!({})).acts_outward);
    assert_eq!(sh(&shell, "echo hello > new.txt; mkdir -p d/e; cat new.txt").await.text, "hello");
    let root = dir.path().join("work");
    assert_eq!(std::fs::read_to_string(root.join("new.txt")).unwrap(), "hello\n");
    fails(
        &shell,
        &[
            "echo '[core] fsmonitor=evil' > .git/config",
            "echo evil > .git/hooks/pre-commit",
            "echo evil > .git/hooks/post-checkout",
            "echo .. > .git/commondir",
            "rm -rf .git/hooks",
            "mv .git elsewhere",
            "rm -rf .git",
            "mv /workspace /tmp/x",
            "ln -s /tmp .git/new",
            "umount .git",
        ],
    )
    .await;
    assert_eq!(std::fs::read_to_string(root.join(".git/config")).unwrap(), "[core]\n");
    assert!(!root.join(".git/commondir").exists() && root.join(".git/hooks/pre-commit").exists());
}

#[tokio::test]
async fn whatever_can_change_the_workspace_asks_first() {
    let Some((dir, writing)) = programs(true) else { return };
    let Some((_read_only, reading)) = programs(false) else { return };
    let made = dir.path().join("work/made");
    for (tool, arguments) in [
        ("shell", json!({"command": "echo x > made && echo made"})),
        ("python", json!({"code": "open('/workspace/made', 'w').write('x'); print('made')"})),
    ] {
        let _ = std::fs::remove_file(&made);
        // What the workspace itself brings in counts: text from outside is enough to ask.
        let taint = Taint { outside: true, private: false };
        let alone = ToolContext { taint, ..ToolContext::default() };
        let refused = writing.run(tool, &arguments, &alone).await;
        assert_eq!(refused.fault, Some(ToolFault::Refused), "{tool}: {}", refused.text);
        assert!(!made.exists() && refused.effects.is_none(), "{tool}");
        let (asks, mut asked) = tokio::sync::mpsc::unbounded_channel();
        let context = ToolContext { asks: Some(asks), ..alone.clone() };
        let answered = async {
            let (approval, reply) = asked.recv().await.unwrap();
            assert!(!made.exists(), "{tool} ran before it was allowed to");
            reply.send(Answer { consent: Consent::Once, by: By::Person }).unwrap();
            approval
        };
        let (result, approval) = tokio::join!(writing.run(tool, &arguments, &context), answered);
        assert_eq!((approval.tool.as_str(), &approval.arguments), (tool, &arguments));
        assert!(approval.sandboxed && approval.effects.acts_outward, "{tool}");
        assert_eq!((result.text.as_str(), made.exists(), result.effects.acts_outward), ("made", true, true));
        // Who can only read asks nobody, and cannot write.
        let result = reading.run(tool, &arguments, &alone).await;
        assert_eq!(result.fault, Some(ToolFault::Failed), "{tool}: {}", result.text);
        assert!(!result.effects.acts_outward);
    }
}

#[tokio::test]
async fn a_repository_a_program_makes_is_not_gits_to_find() {
    let Some((dir, shell)) = shell(true, |_| ()) else { return };
    let result = sh(&shell, "mkdir -p .git/hooks && echo evil > .git/config; echo done").await;
    assert!(result.text.starts_with("done") && result.text.contains("was renamed"), "{}", result.text);
    assert!(!dir.path().join("work/.git").exists());
}

#[tokio::test]
async fn everything_a_command_started_ends_with_it() {
    let Some((dir, shell)) = shell(true, |_| ()) else { return };
    // The survivor would write; the command itself ends at once, and so must it.
    let started = "(setsid sh -c 'sleep 1; echo alive > survived' >/dev/null 2>&1 &) ; echo started";
    assert_eq!(sh(&shell, started).await.text, "started");
    // Cancelled in the middle, with live output on its way.
    let cancel = CancellationToken::new();
    let (seen, stop) = (Arc::new(Mutex::new(String::new())), cancel.clone());
    let kept = seen.clone();
    let context = ToolContext {
        cancel,
        on_output: Some(Arc::new(move |text: &str| {
            kept.lock().unwrap().push_str(text);
            stop.cancel();
        })),
        ..ToolContext::default()
    };
    let endless =
        json!({"command": "echo begun; (setsid sh -c 'sleep 1; echo alive > survived' &); sleep 600"});
    let result = shell.call(&endless, &context).await;
    assert_eq!(result.fault, Some(ToolFault::Cancelled));
    assert!(seen.lock().unwrap().starts_with("begun"));
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(!dir.path().join("work/survived").exists());
}
