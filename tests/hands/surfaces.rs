//! Hostile text in a record that somebody else wrote, through every command that prints one.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Writes the clipboard, clears the screen, sets a colour by C1, turns the direction, hides.
const PAYLOAD: &str = "\u{1b}]52;c;QUJD\u{7}\u{9b}31m\u{202e}\u{200b}\u{1b}[2J\u{e0041}";

/// Values that mean something to the program itself.
const KEPT: [&str; 9] =
    ["kind", "role", "speaker", "stop", "decision", "trajectory", "session", "fault", "consent"];

fn poisoned(value: &mut Value, key: &str) {
    match value {
        Value::String(text) if !KEPT.contains(&key) => text.push_str(PAYLOAD),
        Value::Array(items) => items.iter_mut().for_each(|item| poisoned(item, key)),
        Value::Object(fields) => fields.iter_mut().for_each(|(name, item)| poisoned(item, name)),
        _ => {}
    }
}

/// What a terminal would obey, or not show.
fn dangerous(text: &str) -> Option<char> {
    text.chars().find(|c| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    })
}

#[test]
fn a_record_of_somebody_elses_moves_no_cursor_whoever_prints_it() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tillerman"));
        command.args(arguments).env("TILLERMAN_HOME", dir.path().join("home")).env("HOME", dir.path());
        let output = command.env_remove("HF_HOME").current_dir(dir.path()).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        for said in &text {
            let found = dangerous(said);
            assert_eq!(
                found,
                None,
                "{arguments:?} printed {:?}",
                said.chars().take(2000).collect::<String>()
            );
        }
        let [stdout, stderr] = text;
        (output.status.success(), stdout, stderr)
    };
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/import/answered");
    let seed = std::fs::read_to_string(seed).unwrap();
    let mut events: Vec<Value> = seed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let id = events[0]["trajectory"].as_str().unwrap().to_string();
    events.iter_mut().for_each(|event| poisoned(event, ""));
    let write = |name: &str, events: &[Value]| {
        let lines: Vec<String> = events.iter().map(ToString::to_string).collect();
        std::fs::write(dir.path().join(name), lines.join("\n")).unwrap();
    };
    write("hostile.jsonl", &events);
    assert!(run(&["import", "hostile.jsonl"]).0);
    for arguments in [
        &["sessions"][..],
        &["sessions", "--json"],
        &["sessions", "--rollouts"],
        &["show", &id],
        &["show", &id, "--json"],
        &["replay", &id, "--plain", "--speed", "0"],
        &["replay", "hostile.jsonl", "--plain", "--speed", "0"],
        &["export", &id, "-"],
        &["export", &id, "-", "--format", "atif"],
        &["label", &id, "good", "--note", PAYLOAD],
        &["show", &id],
        &["export", &id, "-", "--format", "kto"],
        &["export", &id, "-", "--format", "verl"],
        &["label", &id, "clear"],
    ] {
        let (done, out, err) = run(arguments);
        assert!(done, "{arguments:?}: {out}{err}");
    }
    // What a program reads from `--json` is what was recorded.
    let (_, shown, _) = run(&["show", &id, "--json"]);
    let shown: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(shown[0]["query"], events[0]["query"]);
    for arguments in [["show", PAYLOAD], ["import", PAYLOAD], ["replay", PAYLOAD]] {
        assert!(!run(&arguments).0);
    }
    // An id is printed and typed as it stands, so it holds nothing else.
    for field in ["trajectory", "session"] {
        let mut named = events.clone();
        for event in named.iter_mut().filter(|event| event.get(field).is_some()) {
            event[field] = format!("01a2{PAYLOAD}").into();
        }
        write("named.jsonl", &named);
        let (done, _, told) = run(&["import", "named.jsonl"]);
        assert!(!done && told.contains("is no id") && told.contains("line 1"), "{field}: {told}");
    }
}
