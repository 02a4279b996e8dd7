//! The program as a person meets it: the binary, real files, the embedded planner, and bad input.

#[path = "support/fails.rs"]
mod fails;
#[path = "support/program.rs"]
mod program;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use fails::fails;
use program::{run, tillerman};
use serde_json::Value;

#[test]
fn the_embedded_planner_answers_and_the_record_can_be_read_back() {
    let home = tempfile::tempdir().unwrap();
    let ask = ["--seed", "1", "ask", "--json", "What is 37*41+5?"];
    let (code, out, err) = run(tillerman(home.path()).args(ask));
    assert_eq!(code, 0, "{err}");
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["kind"], "started");
    for (seq, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], seq as u64);
        assert!(event["kind"].is_string() && event["trajectory"].is_string() && event["t_ms"].is_number());
    }
    let last = events.last().unwrap();
    assert_eq!(last["kind"], "answered");
    assert!(last["answer"].is_string());

    let id = events[0]["trajectory"].as_str().unwrap();
    let (code, shown, err) = run(tillerman(home.path()).args(["show", id, "--json"]));
    assert_eq!(code, 0, "{err}");
    assert_eq!(shown, out, "what is shown later is what was printed live");
    let (code, sessions, _) = run(tillerman(home.path()).args(["sessions", "--json"]));
    assert_eq!(code, 0);
    assert!(sessions.contains(id));
    let (code, _, err) = run(tillerman(home.path()).args(["label", id, "good", "--note", "yes"]));
    assert_eq!(code, 0, "{err}");
    let (code, replayed, err) = run(tillerman(home.path()).args(["replay", id, "--plain", "--speed", "0"]));
    assert_eq!(code, 0, "{err}");
    assert!(replayed.contains("37*41+5"), "{replayed}");
}

#[test]
fn plain_lines_are_asked_in_one_conversation_and_labelled() {
    let home = tempfile::tempdir().unwrap();
    let lines =
        "/good\nWhat is 37*41+5?\n/good\n/hlep\nWhat is 6*7?\n/bad 42\n/unlabel\n/quit\nnever asked\n";
    let (code, out, err) = run(tillerman(home.path()).args(["--seed", "1", "--plain"]).write_stdin(lines));
    assert_eq!(code, 0, "{err}");
    for part in [
        "there is no answer to label yet",
        "1522",
        "answer good; /unlabel takes it back",
        "no command is called /hlep",
        "yours is kept as the right one",
        "label taken back",
    ] {
        assert!(out.contains(part), "no {part:?} in: {out}");
    }
    assert!(err.contains("plan 1") && !out.contains('\u{1b}') && !err.contains('\u{1b}'), "{err}");
    let (_, listed, _) = run(tillerman(home.path()).args(["sessions", "--json"]));
    let rows: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2, "{listed}");
    assert_eq!(rows[0]["session"], rows[1]["session"], "one conversation");
    assert_eq!((&rows[1]["label"], &rows[0]["label"]), (&Value::from("good"), &Value::Null));
}

#[test]
fn without_a_terminal_one_sample_question_is_answered() {
    let home = tempfile::tempdir().unwrap();
    let (code, out, err) = run(&mut tillerman(home.path()));
    assert_eq!(code, 0, "{err}");
    assert!(!out.trim().is_empty());
    assert!(err.contains("no terminal"), "{err}");
}

#[test]
fn the_same_seed_gives_the_same_trajectory() {
    let text = |seed: &str| {
        let home = tempfile::tempdir().unwrap();
        let (code, out, err) = run(tillerman(home.path()).args([
            "--seed",
            seed,
            "ask",
            "--json",
            "What is the capital of Peru?",
        ]));
        assert_eq!(code, 0, "{err}");
        out.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|event| event["kind"] == "model_call")
            .map(|event| (event["completion"]["completion_ids"].clone(), event["completion"]["text"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(text("3"), text("3"));
}

/// The embedded planner answers a second, unrelated query as it does alone, whatever was asked before it.
/// TILLERMAN_PAIRS=1 asks all pairs of families instead of those that used to go wrong; the count is printed.
#[test]
fn an_unrelated_query_is_answered_as_if_it_were_the_first() {
    let mut of: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
    let tasks = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/tasks/train.jsonl");
    for line in fs::read_to_string(tasks).unwrap().lines() {
        let task: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| task[key].as_str().unwrap().to_string();
        of.entry(text("family")).or_default().push(text("query"));
    }
    let all = std::env::var("TILLERMAN_PAIRS").is_ok();
    let (mut changed, mut pairs) = (Vec::new(), 0);
    for (first, earlier) in of.iter().filter(|(family, _)| all || *family == "game24" || *family == "csv") {
        for (second, later) in of.iter().filter(|(family, _)| *family != first) {
            let answer = |session: Option<&str>, home: &std::path::Path, query: &str| {
                let mut command = tillerman(home);
                command.args(["--seed", "1", "ask", query, "--json"]);
                command.args(session.iter().flat_map(|session| ["--session", session]));
                let (_, out, _) = run(&mut command);
                let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                let session = lines[0]["session"].as_str().unwrap().to_string();
                (session, lines.last().unwrap()["answer"].clone())
            };
            let (alone, together) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (_, expected) = answer(None, alone.path(), &later[7]);
            let (session, _) = answer(None, together.path(), &earlier[3]);
            let (_, got) = answer(Some(&session), together.path(), &later[7]);
            pairs += 1;
            if got != expected {
                changed.push(format!("{first}, then {second}: {got}, alone {expected}"));
            }
        }
    }
    println!("{} of {pairs} second answers changed", changed.len());
    assert!(changed.is_empty(), "{changed:#?}");
}

#[test]
fn queries_that_cannot_be_taken_are_refused_in_words() {
    let home = tempfile::tempdir().unwrap();
    fails(tillerman(home.path()).args(["ask", ""]), 2, &["empty"]);
    fails(tillerman(home.path()).args(["ask", "-"]).write_stdin(" \n"), 2, &["empty"]);
    let long = "word ".repeat(210_000);
    fails(tillerman(home.path()).args(["ask", "-"]).write_stdin(long), 1, &["characters", "100000"]);
    fails(tillerman(home.path()).args(["ask"]), 2, &["QUERY"]);
}

#[test]
fn a_binary_paste_is_answered_or_refused_but_never_breaks_out() {
    let home = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..4096u32).map(|n| (n * 31 % 256) as u8).chain(*b"\x1b]52;c;aGk=\x07").collect();
    let (code, out, err) = run(tillerman(home.path()).args(["ask", "-"]).write_stdin(bytes));
    assert!(code == 0 || code == 1 || code == 3, "{code}: {err}");
    for text in [out, err] {
        assert!(!text.contains('\x1b') && !text.contains('\x07'), "control characters got out: {text:?}");
    }
}

#[test]
fn tools_by_hand() {
    let home = tempfile::tempdir().unwrap();
    let (code, out, err) =
        run(tillerman(home.path()).args(["tool", "run", "calculator", r#"{"expression":"2^70"}"#]));
    assert_eq!((code, out.trim()), (0, "1180591620717411303424"), "{err}");
    let (code, out, _) = run(tillerman(home.path()).args(["tool", "list", "--json"]));
    assert_eq!(code, 0);
    assert!(out.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    fails(tillerman(home.path()).args(["tool", "run", "telescope", "{}"]), 2, &["telescope", "calculator"]);
    fails(tillerman(home.path()).args(["tool", "run", "calculator", "{expr"]), 2, &["JSON"]);
    fails(tillerman(home.path()).args(["tool", "run", "calculator", r#"{"x":1}"#]), 1, &["expression"]);
    fails(tillerman(home.path()).args(["--folder", "/nowhere", "tool", "list"]), 2, &["/nowhere"]);
}

#[test]
fn files_that_are_no_models_are_refused_before_they_are_loaded() {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = home.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    };
    let planner = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/planner.gguf")).unwrap();
    let mut absurd = planner[..4096].to_vec();
    absurd[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    for (name, bytes) in [
        ("empty.gguf", &b""[..]),
        ("magic.gguf", &b"NOPE\x03\0\0\0aaaaaaaaaaaaaaaaaaaa"[..]),
        ("cut.gguf", &planner[..planner.len() / 2]),
        ("absurd.gguf", &absurd[..]),
    ] {
        let path = write(name, bytes);
        fails(tillerman(home.path()).args(["model", "check", &path]), 3, &[name, "refused"]);
        fails(tillerman(home.path()).args(["--model", &path, "ask", "hello"]), 3, &[name]);
    }
    fails(tillerman(home.path()).args(["--model", "/no/such.gguf", "ask", "hello"]), 3, &["/no/such.gguf"]);
    fails(tillerman(home.path()).args(["--adapter", "nope", "ask", "hello"]), 2, &["nope"]);
    let good = write("good.gguf", &planner);
    let (code, out, err) = run(tillerman(home.path()).args(["model", "check", &good]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("qwen2"), "{out}");
}

#[test]
fn unknown_ids_settings_and_commands_say_what_is_wrong() {
    let home = tempfile::tempdir().unwrap();
    fails(tillerman(home.path()).args(["show", "nosuchid"]), 2, &["nosuchid"]);
    fails(tillerman(home.path()).args(["label", "nosuchid", "good"]), 2, &["nosuchid"]);
    fails(tillerman(home.path()).args(["frobnicate"]), 2, &["frobnicate"]);
    let config = home.path().join("bad.toml");
    fs::write(&config, "[flow]\nturnz = 3\n").unwrap();
    let path = config.to_string_lossy().into_owned();
    fails(tillerman(home.path()).args(["--config", &path, "ask", "hi"]), 2, &["bad.toml", "line 2", "turnz"]);
    fails(tillerman(home.path()).args(["eval", "--tasks", "/none.jsonl"]), 2, &["/none.jsonl"]);
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let (code, _, err) = run(tillerman(&file).args(["sessions"]));
    assert_ne!(code, 0);
    assert!(err.contains("file") && err.contains("--home"), "{err}");
}

#[test]
fn two_programs_share_one_store() {
    let home = tempfile::tempdir().unwrap();
    let runs: Vec<_> = (0..2)
        .map(|n| {
            let home = home.path().to_path_buf();
            std::thread::spawn(move || run(tillerman(&home).args(["ask", &format!("What is {n}+{n}?")])))
        })
        .collect();
    for handle in runs {
        let (code, _, err) = handle.join().unwrap();
        assert_eq!(code, 0, "{err}");
    }
    let (_, out, _) = run(tillerman(home.path()).args(["sessions", "--json"]));
    assert_eq!(out.lines().count(), 2, "{out}");
}

#[test]
fn completions_and_man_page_come_from_the_command_line_itself() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = run(tillerman(home.path()).args(["completions", shell]));
        assert!(code == 0 && out.contains("tillerman"), "{shell}");
    }
    let (code, out, _) = run(tillerman(home.path()).arg("man"));
    assert!(code == 0 && out.contains(".TH tillerman"), "{out}");
    let (code, out, _) = run(tillerman(home.path()).args(["man", "model", "pull"]));
    assert!(code == 0 && out.contains(".TH tillerman-model-pull") && out.contains("sha256"), "{out}");
    let (code, _, err) = run(tillerman(home.path()).args(["man", "nothing"]));
    assert!(code == 2 && err.contains("there is no command \"nothing\""), "{err}");
    let pages = home.path().join("pages");
    std::fs::create_dir(&pages).unwrap();
    assert_eq!(run(tillerman(home.path()).args(["man", "--dir", pages.to_str().unwrap()])).0, 0);
    let names: Vec<_> = std::fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let has = |name: &str| names.iter().any(|one| one == name);
    assert!(has("tillerman.1") && has("tillerman-ask.1") && has("tillerman-adapters-export.1"), "{names:?}");
    assert!(!names.iter().any(|one| one.to_string_lossy().contains("__")), "{names:?}");
}

#[test]
fn a_pipe_named_as_a_file_is_refused_at_once() {
    let home = tempfile::tempdir().unwrap();
    let pipe = home.path().join("pipe.jsonl");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let peft = home.path().join("peft");
    fs::create_dir(&peft).unwrap();
    let inside = peft.join("adapter_config.json");
    assert!(std::process::Command::new("mkfifo").arg(&inside).status().unwrap().success());
    let tasks = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/tasks/gate.jsonl");
    let (pipe, peft) = (pipe.to_str().unwrap(), peft.to_str().unwrap());
    for (args, code) in [
        (&["eval", "--tasks", pipe][..], 2),
        (&["eval", "--tasks", tasks, "--limit", "1", "--out", pipe], 2),
        (&["train", "--tasks", pipe], 2),
        (&["import", pipe], 2),
        (&["--config", pipe, "doctor", "--network"], 2),
        (&["--model", pipe, "ask", "q"], 3),
        (&["adapters", "import", pipe], 3),
        (&["adapters", "import", peft], 2),
    ] {
        let mut command = tillerman(home.path());
        // One that waited for a writer would wait for ever.
        command.timeout(std::time::Duration::from_secs(60)).args(args);
        fails(&mut command, code, &["is a pipe, not a regular file"]);
    }
}

#[test]
fn what_cannot_be_read_or_written_comes_with_a_remedy() {
    let home = tempfile::tempdir().unwrap();
    let tasks = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/tasks/gate.jsonl");
    for (args, code, parts) in [
        (&["import", "none.jsonl"][..], 2, ["none.jsonl: there is no such file", "check its name"]),
        (
            &["eval", "--tasks", "none.jsonl"],
            2,
            ["task file none.jsonl: there is no such file", "check its name"],
        ),
        (&["eval", "--tasks", tasks, "--family", "poems"], 2, ["family \"poems\"", "lookup_arithmetic"]),
        (
            &["eval", "--tasks", tasks, "--out", "/no/such/rows"],
            4,
            ["/no/such/rows: there is no such folder", "make it"],
        ),
        (
            &["export", "all", "/no/such/file"],
            2,
            ["cannot write /no/such/file: there is no such", "name another"],
        ),
        (&["export", "all", "/dev/null"], 2, ["/dev/null: it is a device", "name a file"]),
        (&["--folder", "/no/such", "ask", "q"], 2, ["/no/such does not exist", "--folder DIR"]),
        (&["--model", "/etc/passwd", "ask", "q"], 3, ["is not \"GGUF\"", "give a GGUF file"]),
    ] {
        fails(tillerman(home.path()).args(args), code, &parts);
    }
}

#[test]
fn a_damaged_adapter_is_on_record_after_it_was_put_back() {
    let home = tempfile::tempdir().unwrap();
    let ask = ["--seed", "1", "ask", "What is 2+3?"];
    let (code, _, err) = run(tillerman(home.path()).args(ask));
    assert_eq!((code, err.contains("damaged")), (0, false), "{err}");
    let (_, listed, _) = run(tillerman(home.path()).args(["adapters", "--json"]));
    let listed: Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    let id = listed["id"].as_str().unwrap();
    let weights = home.path().join("adapters").join(id).join("adapter.gguf");
    let whole = fs::read(&weights).unwrap();
    let mut broken = whole.clone();
    *broken.last_mut().unwrap() ^= 1;
    fs::write(&weights, &broken).unwrap();
    let (code, _, err) = run(tillerman(home.path()).args(ask));
    assert!(code == 0 && err.contains("is damaged") && err.contains("the bare model serves"), "{err}");
    let doctor = || run(tillerman(home.path()).arg("doctor")).1;
    let line = |out: &str, begins: &str| out.lines().any(|l| l.starts_with(begins) && l.contains(id));
    let found = doctor();
    assert!(line(&found, "FAIL adapter") && line(&found, "ok   record"), "{found}");
    fs::write(&weights, &whole).unwrap();
    let found = doctor();
    assert!(!line(&found, "FAIL adapter") && line(&found, "ok   record"), "{found}");
    let (_, shown, _) = run(tillerman(home.path()).args(["adapters", "show", id]));
    assert!(shown.contains("damaged") && shown.contains("the bare model served"), "{shown}");
}

/// Nothing of it can be read by others but the tables that programs in the sandbox are given; a home that was there
/// before and is open is told of.
#[test]
fn what_is_kept_is_private_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let script = r#"umask 000; "$0" --seed 1 ask "What is 37*41+5?" && "$0" adapters list"#;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_tillerman")]).env("TILLERMAN_HOME", &home);
    let (code, _, err) = run(&mut command);
    assert_eq!(code, 0, "{err}");
    let (mut open, mut looked_at) = (Vec::new(), 0);
    let mut folders = vec![home.clone()];
    while let Some(path) = folders.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        looked_at += 1;
        if meta.permissions().mode() & 0o077 != 0 {
            open.push(format!("{:o} {}", meta.permissions().mode(), path.display()));
        }
        if meta.is_dir() && path != home.join("data") {
            folders.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    open.retain(|line| !line.ends_with("/data"));
    assert!(open.is_empty() && looked_at > 8, "{looked_at}: {open:?}");
    let doctor = || run(tillerman(&home).arg("doctor")).1;
    assert!(!doctor().contains("FAIL private"));
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    let found = doctor();
    assert!(found.contains("FAIL private") && found.contains("remedy: chmod 700"), "{found}");
}

/// On a small tmpfs in a mount namespace of its own, where this machine permits one.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_ends_an_ask_with_its_own_exit_code_and_keeps_what_was_recorded() {
    let home = tempfile::tempdir().unwrap();
    let script = r#"
        mount -t tmpfs -o size=14m tmpfs "$TILLERMAN_HOME" || exit 77
        model=$1
        ask() { "$0" --model "$model" --seed 1 ask "What is 37*41+5?"; }
        ask >/dev/null || exit 78
        cat /dev/zero > "$TILLERMAN_HOME/filler" 2>/dev/null
        ask; code=$?
        "$0" sessions || exit 79
        exit $code"#;
    let output = std::process::Command::new("unshare")
        .args(["-Urm", "sh", "-c", script, env!("CARGO_BIN_EXE_tillerman")])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/planner.gguf"))
        .env("TILLERMAN_HOME", home.path())
        .output();
    let Ok(output) = output.map_err(|error| println!("skipped: no unshare program here: {error}")) else {
        return;
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if matches!(output.status.code(), Some(1 | 77)) && !out.contains("answered") {
        println!("skipped: no mount namespace here: {err}");
        return;
    }
    assert_eq!(output.status.code(), Some(4), "{out}\n{err}");
    assert!(err.contains("disk full") && err.contains("free some space"), "{err}");
    assert!(out.contains("answered"), "the first record is readable: {out}");
}
