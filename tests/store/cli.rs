//! The commands on records, through the real program.

use std::path::Path;

use assert_cmd::Command;

use serde_json::Value;
use tillerman::flow::fork::Prior;
use tillerman::flow::trajectory::Trajectory;
use tillerman::tools::Taint;

use crate::events::*;
use crate::open;

fn tillerman(home: &Path, args: &[&str]) -> (i32, String, String) {
    let output =
        Command::cargo_bin("tillerman").unwrap().arg("--home").arg(home).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

const ID: &str = "019aa7b2-3c4d-7000-8000-0123456789ab";

fn home() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for event in trajectory(ID, "session-1", "What is 37*41+5?\u{1b}]52;c;QUFB\u{7}", "1522") {
        store.record(&event).unwrap();
    }
    dir
}

#[test]
fn what_was_recorded_is_listed_shown_and_replayed() {
    let dir = home();
    let (code, out, _) = tillerman(dir.path(), &["sessions"]);
    assert_eq!(code, 0);
    let line = out.lines().nth(1).unwrap();
    assert!(
        line.starts_with("456789ab  ") && line.ends_with("answered         1  -      What is 37*41+5?"),
        "{out}"
    );
    let (_, out, _) = tillerman(dir.path(), &["sessions", "--json"]);
    let object: serde_json::Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!((&object["kind"], &object["trajectory"]), (&"session".into(), &ID.into()));

    let (code, out, _) = tillerman(dir.path(), &["show", "456789ab", "--json"]);
    let expected: Vec<String> = open(dir.path())
        .trajectory_events(ID)
        .unwrap()
        .iter()
        .map(|event| serde_json::to_string(event).unwrap())
        .collect();
    assert_eq!((code, out.lines().collect::<Vec<_>>()), (0, expected.iter().map(String::as_str).collect()));

    let (code, out, _) = tillerman(dir.path(), &["show", "019aa7b2"]);
    assert_eq!(code, 0);
    for part in [
        "Turn 1",
        "plan      calculator: compute",
        "result    1522",
        "verdict   stop: enough",
        "answer    1522",
    ] {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
    assert!(!out.contains('\u{1b}'));

    let (code, out, _) = tillerman(dir.path(), &["replay", "456789ab", "--plain", "--speed", "0"]);
    assert_eq!(code, 0);
    assert_eq!(out.lines().last(), Some("1522"));
    assert!(out.contains("command 1  calculator {\"expression\":\"37*41+5\"}"), "{out}");
}

#[test]
fn labels_by_hand() {
    let dir = home();
    let label = |args: &[&str]| tillerman(dir.path(), &[&["label", "456789ab"], args].concat());
    assert_eq!(label(&["good", "--note", "checked"]).1, "456789ab: good (answer 1522)\n");
    assert_eq!(label(&["bad", "--turn", "1"]).1, "456789ab: bad (turn 1)\n");
    assert_eq!(label(&["bad", "--correction", "1523"]).0, 0);
    assert!(tillerman(dir.path(), &["sessions"]).1.contains("  bad  "));
    let shown = tillerman(dir.path(), &["show", "456789ab"]).1;
    assert!(shown.contains("note: checked") && shown.contains("correction: 1523"), "{shown}");
    assert_eq!(label(&["clear", "--turn", "1"]).1, "456789ab: 1 label taken back\n");
    assert_eq!(label(&["clear"]).1, "456789ab: 2 labels taken back\n");
    assert!(tillerman(dir.path(), &["sessions"]).1.contains("  -  "));

    for (args, needle) in [
        (&["bad", "--turn", "9"][..], "no turn 9"),
        (&["good", "--correction", "1"], "needs no correction"),
        (&["clear", "--note", "x"], "neither"),
        (&["fine"], "invalid value"),
    ] {
        let (code, _, err) = label(args);
        assert!(code == 2 && err.contains(needle), "{args:?}: {code} {err}");
    }
}

#[test]
fn mistakes_are_told_with_the_codes_of_the_contract() {
    let dir = home();
    let (code, _, err) = tillerman(dir.path(), &["show", "nothing"]);
    assert!(code == 2 && err.contains("tillerman sessions"), "{err}");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let (code, _, err) = tillerman(&file, &["sessions"]);
    assert!(code == 2 && err.contains("--home"), "{code} {err}");
    std::fs::write(dir.path().join("tillerman.db"), "no database".repeat(1000)).unwrap();
    let (code, _, err) = tillerman(dir.path(), &["sessions"]);
    assert!(code == 4 && err.contains("damaged"), "{code} {err}");
}

#[test]
fn an_export_imports_as_the_same() {
    let (dir, other) = (home(), tempfile::tempdir().unwrap());
    let file = dir.path().join("out.jsonl");
    let path = file.to_str().unwrap();
    assert_eq!(tillerman(dir.path(), &["export", "session-1,456789ab", "--format", "jsonl", path]).0, 0);
    assert_eq!(tillerman(dir.path(), &["export", "all", "-"]).1, std::fs::read_to_string(&file).unwrap());
    let (code, out, err) = tillerman(other.path(), &["import", path]);
    assert_eq!((code, out.as_str()), (0, "1 trajectories imported, 0 were here already\n"), "{err}");
    assert_eq!(
        tillerman(other.path(), &["import", path]).1,
        "0 trajectories imported, 1 were here already\n"
    );
    let (here, there) = (open(dir.path()), open(other.path()));
    // The same but for one thing: whatever the file says, it is text from elsewhere.
    let (sent, came) = (here.trajectory_events(ID).unwrap(), there.trajectory_events(ID).unwrap());
    assert_eq!(sent[1..], came[1..]);
    assert_eq!(here.row(ID).unwrap(), there.row(ID).unwrap());
    assert!(here.taint("session-1").unwrap().is_clean());
    let met = Taint { outside: true, private: false };
    assert_eq!(there.taint("session-1").unwrap(), met, "what a session goes on from");
    let whole = there.trajectory(ID).unwrap();
    assert_eq!(Prior::of(&whole, 1).inherited, met, "what a fork begins with");
    assert_eq!(Trajectory { inherited: Taint::default(), ..whole }, here.trajectory(ID).unwrap());

    // A file from another machine replays without being imported.
    let nowhere = tempfile::tempdir().unwrap();
    let (code, out, err) = tillerman(nowhere.path(), &["replay", path, "--plain", "--speed", "0"]);
    assert_eq!((code, out.lines().last()), (0, Some("1522")), "{err}");

    std::fs::write(&file, "{\"kind\":\"x\"}\n").unwrap();
    let (code, _, err) = tillerman(other.path(), &["import", path]);
    assert!(code == 2 && err.contains("out.jsonl, line 1"), "{err}");
}

/// A question answered by the embedded planner, in a store of its own, and the id of its trajectory.
fn answered() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = tillerman(dir.path(), &["--seed", "1", "ask", "What is 37*41+5?"]);
    assert_eq!((code, out.trim()), (0, "1522"), "{err}");
    let id = open(dir.path()).trajectories(None, 1).unwrap().remove(0).id;
    (dir, id)
}

/// Harbor's models forbid fields they do not know: the keys each object may have, per level.
#[test]
fn an_export_in_atif_keeps_its_rules() {
    let (dir, id) = answered();
    let (code, out, err) = tillerman(dir.path(), &["export", &id, "--format", "atif", "-"]);
    assert_eq!(code, 0, "{err}");
    let whole: Value = serde_json::from_str(&out).unwrap();
    let only = |value: &Value, allowed: &str| {
        let unknown =
            value.as_object().unwrap().keys().find(|key| !allowed.split(' ').any(|name| name == *key));
        assert_eq!(unknown, None, "{value}");
    };
    only(&whole, "schema_version session_id agent steps notes final_metrics extra");
    only(&whole["agent"], "name version model_name extra");
    let totals =
        "total_prompt_tokens total_completion_tokens total_cached_tokens total_cost_usd total_steps extra";
    only(&whole["final_metrics"], totals);
    let steps = whole["steps"].as_array().unwrap();
    let (mut called, mut completed) = (0, 0);
    for (n, step) in steps.iter().enumerate() {
        assert_eq!(step["step_id"], n + 1);
        only(step, "step_id timestamp source model_name message tool_calls observation metrics extra");
        if step["source"] == "user" {
            assert!(n == 0 && step["metrics"].is_null() && step["message"].is_string());
            continue;
        }
        let metrics = &step["metrics"];
        only(
            metrics,
            "prompt_tokens completion_tokens cached_tokens prompt_token_ids completion_token_ids logprobs",
        );
        let count = |of: &Value| of.as_array().map_or(0, Vec::len) as u64;
        assert_eq!(count(&metrics["completion_token_ids"]), metrics["completion_tokens"]);
        assert_eq!(count(&metrics["logprobs"]), metrics["completion_tokens"]);
        assert_eq!(count(&metrics["prompt_token_ids"]), metrics["prompt_tokens"]);
        completed += metrics["completion_tokens"].as_u64().unwrap();
        for call in step["tool_calls"].as_array().into_iter().flatten() {
            only(call, "tool_call_id function_name arguments");
            assert!(call["arguments"].is_object());
            let results = step["observation"]["results"].as_array().unwrap();
            assert!(results.iter().any(|result| result["source_call_id"] == call["tool_call_id"]));
            called += 1;
        }
    }
    let turns = open(dir.path()).trajectory(&id).unwrap().turns.len();
    assert!(called == turns && called > 0, "each turn's call once: {called} of {turns}");
    assert_eq!(whole["final_metrics"]["total_completion_tokens"], completed);
    assert_eq!(whole["extra"]["answer"], "1522");
}

#[test]
fn labels_leave_as_rows_of_other_trainers() {
    let (dir, id) = answered();
    let file = dir.path().join("out.jsonl");
    let path = file.to_str().unwrap();
    for (format, word) in [("kto", "tillerman label ID good|bad"), ("verl", "--correction TEXT")] {
        let (code, _, err) = tillerman(dir.path(), &["export", "all", "--format", format, path]);
        assert!(code == 2 && err.contains(word) && !file.exists(), "{err}");
    }
    let rows = |format: &str| -> Vec<Value> {
        let (code, out, err) = tillerman(dir.path(), &["export", "all", "--format", format, "-"]);
        assert_eq!(code, 0, "{err}");
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(tillerman(dir.path(), &["label", &id, "good"]).0, 0);
    let good = rows("kto");
    let turns = open(dir.path()).trajectory(&id).unwrap().turns.len();
    assert!(good.len() == turns && good.iter().all(|row| row["label"] == true), "{good:?}");
    assert!(
        good.iter()
            .all(|row| row["prompt"][0]["role"] == "system" && row["completion"][0]["role"] == "assistant")
    );
    let truth = |rows: &[Value]| rows[0]["reward_model"]["ground_truth"].clone();
    assert_eq!(truth(&rows("verl")), "1522");
    // A right answer by a bad plan is none of its plans' merit.
    assert_eq!(tillerman(dir.path(), &["label", &id, "bad", "--scope", "plan"]).0, 0);
    assert!(rows("kto").iter().all(|row| row["label"] == false));
    assert_eq!(tillerman(dir.path(), &["label", &id, "bad", "--correction", "1,523"]).0, 0);
    let corrected = rows("verl");
    assert_eq!((corrected.len(), truth(&corrected)), (1, Value::from("1523")));
    assert_eq!(corrected[0]["prompt"][0]["role"], "user");
}
