//! Learning from labels as a person meets it, and what surrounds a step: the binary, the embedded planner, real steps.

#[path = "learn/modes.rs"]
mod modes;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use assert_cmd::Command;
use serde_json::{Value, json};
use tillerman::config::Home;
use tillerman::store::Store;
use tillerman::train::gate::{Gate, Opponent};

const TASKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/tasks/train.jsonl");
/// Four numbers: longer than any sum that trained, so that answers differ.
const QUESTION: &str = "What is 12*12+7*3?";

fn settle(home: &Path, train: &str) {
    let config = format!("[engine]\nthreads = 1\nshipped_adapter = false\n[train]\n{train}");
    fs::write(home.join("config.toml"), config).unwrap();
}

fn tillerman(home: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tillerman"));
    command.env("TILLERMAN_HOME", home).env_remove("RUST_BACKTRACE").timeout(Duration::from_secs(1200));
    let output = command.args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// The JSON lines of a command that has to succeed.
fn lines(home: &Path, args: &[&str]) -> Vec<Value> {
    let (code, out, err) = tillerman(home, args);
    assert_eq!(code, 0, "{args:?}: {err}");
    out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn find<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["kind"] == kind).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

/// A group of `query` with two answers at least, drawn as `rollout` draws: seeds are tried until there are.
fn rolled(home: &Path, query: &str) -> (Value, Vec<String>) {
    (1..20)
        .find_map(|seed| {
            let seed = seed.to_string();
            let told = lines(home, &["--seed", &seed, "rollout", query, "--size", "6", "--json"]);
            let of = |cluster: &&Value| text(&cluster["trajectories"][0]);
            let first: Vec<String> = find(&told, "cluster").iter().map(of).collect();
            (first.len() > 1).then(|| (find(&told, "group")[0].clone(), first))
        })
        .expect("no group of two answers in 19 tries")
}

/// The first answer good, the others bad.
fn labelled(home: &Path, query: &str) -> Value {
    let (group, answers) = rolled(home, query);
    for (place, id) in answers.iter().enumerate() {
        let (code, _, err) = tillerman(home, &["label", id, if place == 0 { "good" } else { "bad" }]);
        assert_eq!(code, 0, "{err}");
    }
    group
}

fn adapter(home: &Path, id: &str) -> Value {
    lines(home, &["adapters", "show", id, "--json"])[0].clone()
}

/// Every pair the gate has kept of an adapter beside the bare model.
fn pairs(home: &Path, id: &str) -> Vec<(String, u64)> {
    let shown = adapter(home, id);
    let gates = shown["gate"].as_array().unwrap().clone();
    let bare = gates.iter().find(|gate| gate["champion"].is_null()).unwrap();
    let pair = |pair: &Value| (text(&pair["question_id"]), pair["seed"].as_u64().unwrap());
    bare["pairs"].as_array().unwrap().iter().map(pair).collect()
}

#[test]
fn rollout_label_and_train_labelled_make_a_step_with_the_settings_there_are() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    // Mode flow's own temperature is 1, the prompt pack draws rollouts at 0.7: a step divides by what was drawn with.
    settle(home, "");
    let group = labelled(home, QUESTION);
    let told = lines(home, &["--seed", "1", "train", "--labelled", "--pairs", "8", "--json"]);
    let stepped = find(&told, "stepped")[0];
    assert!(stepped["skipped"].is_null(), "{told:?}");
    let id = text(&stepped["adapter"]);
    let temperature = adapter(home, &id)["manifest"]["settings"]["temperature"].as_f64().unwrap();
    assert!((temperature - 0.7).abs() < 1e-6, "{temperature}");

    // The same again would only be the same step: it is refused with the reason, unless it is asked for.
    let (code, _, err) = tillerman(home, &["train", "--labelled", "--pairs", "0"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("trained already") && err.contains("--again"), "{err}");
    let again = lines(home, &["train", "--labelled", "--again", "--pairs", "0", "--json"]);
    assert_eq!(text(&find(&again, "stepped")[0]["adapter"]), id, "{again:?}");
    let whole = text(&group["group"]);
    lines(home, &["train", "--groups", &whole[whole.len() - 8..], "--pairs", "0", "--json"]);

    // The gate goes on where it was left, with draws it has not had, and never by a question that trained.
    let before = pairs(home, &id);
    assert_eq!(before.len(), 8);
    let told = lines(home, &["adapters", "judge", &id, "--pairs", "8", "--json"]);
    let after = pairs(home, &id);
    let settled = find(&told, "verdict")[0]["report"]["verdict"] != "cannot_tell";
    assert!(after.len() == 16 || settled, "{told:?}");
    assert_eq!(after[..8], before[..]);
    assert_eq!(after.iter().collect::<HashSet<_>>().len(), after.len(), "a pair stands twice: {after:?}");
    let trained = text(&group["question_id"]);
    let (code, _, err) = tillerman(home, &["adapters", "judge", &id, "--gate", "ledger"]);
    assert_eq!(code, 2, "only the question that trained is labelled: {err}");
    assert!(err.contains("no questions to judge by"), "{err}");

    // Another labelled question judges: what was said of its answers is the checker.
    let other = labelled(home, "Which date is 8 days after 1969-10-14?");
    let (_, _, err) = tillerman(home, &["adapters", "judge", &id, "--pairs", "6", "--gate", "ledger"]);
    let own = text(&other["question_id"]);
    let asked: Vec<String> =
        pairs(home, &id)[after.len()..].iter().map(|(question, _)| question.clone()).collect();
    assert!(!asked.is_empty() && asked.iter().all(|question| *question == own), "{asked:?}: {err}");
    assert_ne!(own, trained);
    let args = ["train", "--groups", &whole, "--gate", "ledger", "--pairs", "4", "--json"];
    let told = lines(home, &args);
    assert_eq!(text(&find(&told, "trained")[0]["adapter"]), id, "the same step, whose evidence goes on");
    let count = pairs(home, &id).len() - after.len() - asked.len();
    assert!(count > 0 || find(&told, "verdict")[0]["report"]["verdict"] != "cannot_tell", "{told:?}");

    // What the gate finds worse serves by force alone, and the list says how each stands.
    let store = Store::open(&Home::open(Some(home)).unwrap()).unwrap();
    let worse = Gate::kept(Opponent::Champion, None, &[(false, true); 6], 0);
    store.add_gate_look(&id, None, &[], &json!(worse.report())).unwrap();
    store.decide_gate(&id, None, "refuse").unwrap();
    drop(store);
    let (code, _, err) = tillerman(home, &["adapters", "use", &id]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("0 won, 6 lost") && err.contains("--force"), "{err}");
    assert_eq!(lines(home, &["adapters", "list", "--json"])[0]["standing"], "worse");
    // Nor does the same step again let it through, however it is asked for.
    let args = ["train", "--groups", &whole, "--pairs", "0", "--ship", "--json"];
    let told = lines(home, &args);
    let trained = find(&told, "trained")[0];
    assert_eq!((&trained["decision"], &trained["serves"]), (&json!("refuse"), &json!(false)), "{told:?}");
    let (code, _, err) = tillerman(home, &["adapters", "use", &id, "--force"]);
    assert_eq!(code, 0, "{err}");
}

#[test]
fn a_full_kl_budget_ends_labelled_steps_too_and_says_what_helps() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    settle(home, "kl_budget = 0.0001\n");
    let group = text(&labelled(home, QUESTION)["group"]);
    let (code, _, err) = tillerman(home, &["train", "--groups", &group]);
    assert_eq!(code, 1, "{err}");
    let last = err.lines().last().unwrap_or_default();
    assert!(last.contains("the KL budget is used up") && last.contains("adapters use none"), "{err}");
    assert!(!err.contains("gate against"), "it is not judged: {err}");
    let shelf = lines(home, &["adapters", "list", "--json"]);
    assert_eq!((&shelf[0]["standing"], &shelf[0]["current"]), (&json!("over budget"), &json!(false)));
    // With what overdrew it planning, no further step is even computed.
    let id = text(&shelf[0]["id"]);
    assert_eq!(tillerman(home, &["adapters", "use", &id]).0, 0);
    let (code, _, err) = tillerman(home, &["train", "--labelled"]);
    assert!(code == 1 && err.contains("the KL budget is used up"), "{code}: {err}");
    assert_eq!(lines(home, &["adapters", "list", "--json"]).len(), 1);
}

/// The adapter a run ends with.
fn made(told: &[Value]) -> String {
    text(&find(told, "trained").last().unwrap()["adapter"])
}

#[test]
fn a_run_goes_on_as_it_was_begun() {
    let run = |home: &Path, more: &[&str]| {
        let begun =
            ["--seed", "3", "train", "--json", "--tasks", TASKS, "--questions", "4", "--parallel", "1"];
        let rest = ["--pairs", "0", "--draws", "2", "--validate-every", "0", "--size", "4"];
        let args: Vec<&str> = begun.iter().chain(&rest).chain(more).copied().collect();
        lines(home, &args)
    };
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (whole, parts) = (whole.path(), parts.path());
    settle(whole, "lr = 0.001\n");
    settle(parts, "lr = 0.001\n");
    let wanted = made(&run(whole, &["--steps", "2"]));
    assert!(!wanted.is_empty(), "no step had contrast");
    let begun = run(parts, &["--steps", "1"]);
    let id = text(&find(&begun, "run")[0]["run"]);
    let own = tempfile::tempdir().unwrap();
    let mine = own.path().join("mine.jsonl");
    fs::write(&mine, "{\"id\":\"1\",\"query\":\"What is 2+2?\",\"answer\":\"4\"}\n").unwrap();
    for (args, part) in [
        (vec!["--seed", "4", "train", "--tasks", TASKS, "--resume", &id], "--seed"),
        (vec!["train", "--tasks", TASKS, "--resume", &id, "--questions", "5"], "--questions"),
        (vec!["train", "--tasks", TASKS, "--resume", &id, "--mode", "paper"], "--mode"),
        (vec!["train", "--tasks", TASKS, "--resume", &id, "--size", "8"], "--size"),
        (vec!["train", "--tasks", mine.to_str().unwrap(), "--resume", &id], "--tasks"),
        (vec!["train", "--tasks", TASKS, "--resume", "no-such-run"], "no training run"),
    ] {
        let (code, out, err) = tillerman(parts, &args);
        assert_eq!(code, 2, "{args:?}: {out} {err}");
        assert!(err.contains(part), "{args:?}: {err}");
    }
    // Other settings by now, and not one flag of before: it goes on with its own, and says so.
    settle(parts, "lr = 0.002\n");
    let (code, out, err) = tillerman(
        parts,
        &[
            "train",
            "--json",
            "--tasks",
            TASKS,
            "--resume",
            &id[id.len() - 8..],
            "--steps",
            "2",
            "--pairs",
            "0",
        ],
    );
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("goes on with the settings it was begun with") && err.contains("train.lr"), "{err}");
    let told: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(made(&told), wanted, "{out}");
}

#[test]
fn questions_of_ones_own_train_and_judge_as_they_are_evaluated() {
    let home = tempfile::tempdir().unwrap();
    settle(home.path(), "lr = 0.001\ngroup = 4\n");
    // {id, query, answer} alone, without a family or a checker of ours.
    let own = |split: &str, from: usize, count: usize| {
        let rows = fs::read_to_string(format!("assets/tasks/{split}.jsonl")).unwrap();
        let row = |(n, line): (usize, &str)| {
            let task: Value = serde_json::from_str(line).unwrap();
            json!({"id": n, "query": task["query"], "answer": task["answer"]}).to_string() + "\n"
        };
        let text: String = rows.lines().skip(from).take(count).enumerate().map(row).collect();
        let path = home.path().join(format!("{split}.jsonl"));
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    // Arithmetic in both, with equal ids: what counts is the question.
    let (train, gate) = (own("train", 0, 12), own("gate", 0, 12));
    let base = ["--seed", "3", "train", "--json", "--questions", "6", "--steps", "1", "--pairs", "4"];
    let told = lines(home.path(), &[&base[..], &["--tasks", &train, "--gate", &gate]].concat());
    let stepped = find(&told, "stepped")[0];
    assert!(stepped["adapter"].is_string(), "{told:?}");
    assert!(!find(&told, "gate").is_empty(), "{told:?}");
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let good = r#"{"id":"1","query":"q","answer":"a"}"#;
    let with_file = r#"{"id":"2","query":"q","answer":"a","file_name":"a.csv"}"#;
    for (path, part) in [
        (file("empty.jsonl", ""), "is empty"),
        (file("twice.jsonl", &format!("{good}\n{good}\n")), "row 2: id \"1\" is row 1's too"),
        (file("bare.jsonl", &format!("{good}\n{{\"id\":\"2\"}}\n")), "row 2: has no \"query\""),
        (file("files.jsonl", &format!("{good}\n{with_file}\n")), "row 2 comes with the file \"a.csv\""),
    ] {
        for args in [["--tasks", &path, "--gate", &gate], ["--tasks", &train, "--gate", &path]] {
            let (code, _, err) = tillerman(home.path(), &[&["train"], &args[..]].concat());
            assert!(code == 2 && err.contains(part), "{args:?}: {code} {err}");
        }
    }
    let (code, _, err) = tillerman(home.path(), &["train", "--tasks", &train, "--gate", &train]);
    assert!(code == 2 && err.contains("gate questions are training questions too"), "{err}");
}

#[test]
fn a_follow_up_is_rolled_out_where_it_was_asked() {
    let home = tempfile::tempdir().unwrap();
    settle(home.path(), "");
    let asked = lines(home.path(), &["--seed", "1", "ask", "--json", "What is 2+2?"]);
    let session = text(&asked[0]["session"]);
    let follow_up = "What is twice that?";
    let rollout = ["--seed", "1", "rollout", follow_up, "--size", "2", "--json", "--session", &session];
    let group = find(&lines(home.path(), &rollout), "group")[0].clone();
    let alone = lines(home.path(), &["--seed", "1", "rollout", follow_up, "--size", "2", "--json"]);
    let again = lines(home.path(), &["--seed", "1", "ask", "--json", "--session", &session, follow_up]);
    let store = Store::open(&Home::open(Some(home.path())).unwrap()).unwrap();
    let question = store.row(&text(&again[0]["trajectory"])).unwrap().question_id;
    assert_eq!(text(&group["question_id"]), question, "a label on the one reaches the other");
    assert_ne!(find(&alone, "group")[0]["question_id"], group["question_id"]);
    let first = &store.group(&text(&group["group"])).unwrap().members[0].trajectory;
    assert_eq!(store.trajectory(first).unwrap().conversation.len(), 1);
    let (code, _, err) = tillerman(home.path(), &["rollout", "q", "--session", "no-such-session"]);
    assert_eq!(code, 2, "{err}");
}
