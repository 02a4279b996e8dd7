//! The files tool on a real folder: what it is for, and every way out of the folder that is known.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::*;

/// A workspace with some files, beside a secret that is not in it.
fn workspace() -> (TempDir, Files) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("work");
    std::fs::create_dir_all(root.join("notes/deep")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(root.join(name), text).unwrap();
    write("notes/plan.md", "# Plan\n\nThe deadline is Friday.\n");
    write("notes/deep/long.txt", &(1..=2000).map(|n| format!("line {n}\n")).collect::<String>());
    write("data.csv", "city,people\nLima,10\nOslo,1\n");
    std::fs::write(root.join("image.bin"), b"\x89PNG\0\0").unwrap();
    write("empty.txt", "");
    std::fs::write(dir.path().join("secret"), "the secret").unwrap();
    let files = Files::new(&Workspace { path: root, write: false }).unwrap();
    (dir, files)
}

fn call(files: &Files, arguments: Value) -> ToolResult {
    super::super::schema::check(&files.card().schema, &arguments).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(files.call(&arguments, &ToolContext::default()))
}

#[track_caller]
fn check(files: &Files, arguments: Value, expected: &str) {
    let result = call(files, arguments);
    assert_eq!((result.text.as_str(), result.fault), (expected, None));
}

#[track_caller]
fn check_refused(files: &Files, arguments: Value, words: &str) {
    let result = call(files, arguments.clone());
    assert_eq!(result.fault, Some(ToolFault::Failed), "{arguments} gave {}", result.text);
    assert!(result.text.contains(words), "{arguments} gave {}", result.text);
    assert!(!result.text.contains("the secret"));
}

#[test]
fn reads_lists_finds_and_heads() {
    let (_dir, files) = workspace();
    check(&files, json!({"action": "list"}), "data.csv  27 B\nempty.txt  0 B\nimage.bin  6 B\nnotes/");
    check(&files, json!({"action": "list", "path": "notes"}), "deep/\nplan.md  32 B");
    check(&files, json!({"action": "read", "path": "notes/plan.md"}), "# Plan\n\nThe deadline is Friday.");
    check(&files, json!({"action": "read", "path": "empty.txt"}), "[the file is empty]");
    let columns = "city,people\nLima,10\nOslo,1\n[2 rows below the column names]";
    check(&files, json!({"action": "head", "path": "data.csv"}), columns);
    check(&files, json!({"action": "find", "name": "*.md"}), "notes/plan.md");
    let hit = "notes/plan.md:3: The deadline is Friday.";
    check(&files, json!({"action": "find", "text": "DEADLINE"}), hit);
    check(&files, json!({"action": "find", "text": "deadline", "path": "notes"}), hit);
    check(&files, json!({"action": "find", "text": "zzz"}), "Nothing was found.");
    let result = call(&files, json!({"action": "find", "text": "friday"}));
    assert_eq!(result.sources, ["notes/plan.md"]);
}

#[test]
fn a_long_file_is_read_on_by_line() {
    let (_dir, files) = workspace();
    let mut line = 1;
    let mut seen = Vec::new();
    loop {
        let result = call(&files, json!({"action": "read", "path": "notes/deep/long.txt", "line": line}));
        assert!(result.text.chars().count() <= RESULT_CHARS + 100);
        seen.extend(result.text.lines().filter(|l| l.starts_with("line ")).map(str::to_string));
        match result.text.rsplit_once("go on with line ") {
            Some((_, rest)) => line = rest.trim_end_matches(']').parse().unwrap(),
            None => break,
        }
    }
    assert_eq!(seen, (1..=2000).map(|n| format!("line {n}")).collect::<Vec<_>>());
    let past = json!({"action": "read", "path": "notes/plan.md", "line": 9});
    check_refused(&files, past, "has 3 lines, line 9 is past its end");
}

#[test]
fn nothing_outside_the_workspace_is_reached() {
    let (dir, files) = workspace();
    let root = dir.path().join("work");
    let link = |target: &Path, name: &str| symlink(target, root.join(name)).unwrap();
    link(&dir.path().join("secret"), "link");
    link(Path::new("../secret"), "relative");
    link(dir.path(), "folder");
    link(Path::new("notes/../../secret"), "winding");
    link(Path::new("/proc/self/root"), "magic");
    link(Path::new("loop"), "loop");
    let absolute = dir.path().join("secret");
    for path in [
        "../secret",
        "notes/../../secret",
        "./../secret",
        absolute.to_str().unwrap(),
        "/etc/passwd",
        "link",
        "relative",
        "folder/secret",
        "winding",
        "magic/etc/passwd",
        "loop",
        "notes/../../work/../secret",
        "/proc/self/environ",
    ] {
        for action in ["read", "head", "list"] {
            check_refused(&files, json!({"action": action, "path": path}), "");
        }
        check_refused(&files, json!({"action": "find", "text": "secret", "path": path}), "");
    }
    // Links are seen and not followed.
    assert!(call(&files, json!({"action": "list"})).text.contains("link  link"));
    check(&files, json!({"action": "find", "text": "the secret"}), "Nothing was found.");
    // A link that stays inside works.
    link(Path::new("notes/plan.md"), "inside");
    assert_eq!(call(&files, json!({"action": "read", "path": "inside"})).fault, None);
}

#[test]
fn only_regular_files_are_opened_and_nothing_waits() {
    let (dir, files) = workspace();
    let root = dir.path().join("work");
    make_fifo(&root.join("fifo"));
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    check_refused(&files, json!({"action": "read", "path": "fifo"}), "no regular file");
    check_refused(&files, json!({"action": "read", "path": "socket"}), "socket");
    check_refused(&files, json!({"action": "read", "path": "notes"}), "is a folder");
    check_refused(&files, json!({"action": "read", "path": "image.bin"}), "no text file");
    check_refused(&files, json!({"action": "read", "path": "missing"}), "is not in the workspace");
    check_refused(&files, json!({"action": "find"}), "needs a part of the name");
    let big = std::fs::File::create(root.join("big")).unwrap();
    big.set_len(FILE_BYTES + 1).unwrap();
    check_refused(&files, json!({"action": "read", "path": "big"}), "at most 4194304 are read");
    // The walk passes all of them by.
    check(&files, json!({"action": "find", "name": "fifo"}), "Nothing was found.");
}

#[test]
fn what_a_search_leaves_out_is_said_and_a_name_is_one_line() {
    let (dir, files) = workspace();
    let root = dir.path().join("work");
    std::fs::File::create(root.join("big")).unwrap().set_len(FILE_BYTES + 1).unwrap();
    let deep = format!("{}f", "d/".repeat(40));
    std::fs::create_dir_all(root.join(&deep).parent().unwrap()).unwrap();
    std::fs::write(root.join(&deep), "zzz").unwrap();
    check(
        &files,
        json!({"action": "find", "text": "zzz"}),
        "Nothing was found.\n[not looked into: 1 file longer than 4 MiB, 1 folder deeper than 32]",
    );
    let hit = "notes/plan.md\n[not looked into: 1 folder deeper than 32]";
    check(&files, json!({"action": "find", "name": "plan"}), hit);
    std::fs::remove_dir_all(root.join("d")).unwrap();
    std::fs::remove_file(root.join("big")).unwrap();
    std::fs::write(root.join("notes/a\nsecret.txt  9 B"), "zzz").unwrap();
    check(
        &files,
        json!({"action": "list", "path": "notes"}),
        "a\\nsecret.txt  9 B  3 B\ndeep/\nplan.md  32 B",
    );
    check(&files, json!({"action": "find", "text": "zzz"}), "notes/a\\nsecret.txt  9 B:1: zzz");
}

/// With the program every system has: a call of libc's would be the only unsafe line of this file.
fn make_fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
fn every_call_taints() {
    let (_dir, files) = workspace();
    let effects = files.effects(&json!({"action": "list"}));
    assert!(effects.reads_private && effects.brings_outside_text && !effects.acts_outward);
}
