//! `eval --judge` with a judge on a real HTTP server: reported apart, resumed, its failures counted.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::{run, tillerman};
use crate::server::{Server, Step, stream, texts};

const TASKS: &str = r#"{"id":"a","query":"What is 37*41+5?","answer":"1522"}
{"id":"b","query":"What is 2+3?","answer":"five"}
{"id":"c","query":"What is 10*10?","answer":"100"}
{"id":"d","query":"What is 9*9?","answer":"82"}
"#;

/// Says yes to `five`, no to `82`, nonsense to `100`, and is broken for `1522`.
fn script(body: &Value, _: &str) -> Vec<Step> {
    let asked = body["messages"][1]["content"].as_str().unwrap_or_default();
    let reference = |text: &str| asked.contains(&format!("Reference answer: {text}\n"));
    match () {
        () if reference("five") => stream(&texts(r#"{"reason":"a number in words","equivalent":true}"#)),
        () if reference("82") => stream(&texts(r#"{"reason":"another number","equivalent":false}"#)),
        () if reference("100") => stream(&texts("Yes, quite.")),
        () => vec![Step::Json(403, String::new(), json!({"error": {"message": "bad day"}}).to_string())],
    }
}

fn home(url: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let config = format!("[engine.remote.box]\nurl = \"{url}\"\n");
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    std::fs::write(home.path().join("tasks.jsonl"), TASKS).unwrap();
    home
}

fn eval(home: &Path, more: &[&str]) -> (i32, String, String) {
    let tasks = home.join("tasks.jsonl");
    let mut command = tillerman(home);
    command.args(["--seed", "1", "eval", "--tasks"]).arg(tasks).args(more);
    run(&mut command)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_judge_elsewhere_is_reported_apart_and_not_asked_twice() {
    let server = Server::start(script);
    let home = home(&server.url());
    let (code, plain, err) = eval(home.path(), &["--json"]);
    assert_eq!(code, 0, "{err}");
    let rows = home.path().join("rows.jsonl");
    let out = rows.to_str().unwrap();
    let (code, text, err) = eval(home.path(), &["--json", "--judge", "box", "--out", out]);
    assert_eq!(code, 0, "{err}");
    let answered =
        lines(&text).iter().filter(|line| line["kind"] == "question" && !line["answer"].is_null()).count();
    assert_eq!(answered, 4, "the planner answers all four: {text}");
    let (_, hosts, _) = run(tillerman(home.path()).args(["doctor", "--network"]));
    assert!(hosts.starts_with("none: ") && hosts.contains("eval --judge box"), "{hosts}");
    assert!(hosts.contains(server.url().trim_start_matches("http://").trim_end_matches("/v1")), "{hosts}");
    assert_eq!(server.bodies().len(), 4, "one call an answer; a refusal is not tried again");
    let sent = server.bodies().iter().find(|body| body.to_string().contains("82")).cloned().unwrap();
    assert_eq!(sent["temperature"].as_f64(), Some(0.0));
    assert!(sent["response_format"].to_string().contains("equivalent"), "held by a schema: {sent}");
    let judge = lines(&text).into_iter().find(|line| line["kind"] == "judge").unwrap();
    assert_eq!((&judge["judged"], &judge["unjudged"]), (&json!(2), &json!(2)), "{judge}");
    assert_eq!((&judge["equivalent"]["k"], &judge["equivalent"]["n"]), (&json!(1), &json!(2)), "{judge}");
    let without = |text: &str| {
        let mut line = lines(text).pop().unwrap();
        for key in ["seconds", "seconds_mean", "answered"] {
            line[key].take();
        }
        line
    };
    assert_eq!(without(&plain), without(&text), "accuracy and all else are the checkers'");

    // Resumed: the two opinions stand, only what was not judged is asked again.
    let resumed = ["--markdown", "--judge", "box", "--out", out, "--resume"];
    let (code, markdown, err) = eval(home.path(), &resumed);
    assert_eq!((code, server.bodies().len()), (0, 6), "{err}");
    for part in ["| answers judged | 2 |", "| answers it could not judge (in no share) | 2 |", "Judge: box"] {
        assert!(markdown.contains(part), "no {part:?} in\n{markdown}");
    }
    assert!(markdown.contains("could not judge: a: ") && markdown.contains("bad day"), "{markdown}");
}

#[test]
fn a_judge_that_cannot_be_asked_is_an_error_before_anything_runs() {
    let server = Server::start(script);
    let home = home(&server.url());
    for (global, judge, part) in
        [(&["--offline"][..], "box", "the network is off"), (&[][..], "nobody", "there are local, box")]
    {
        let mut command = tillerman(home.path());
        command.args(global).args(["eval", "--judge", judge, "--tasks"]).arg(home.path().join("tasks.jsonl"));
        let (code, out, err) = run(&mut command);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains(part), "{err}");
    }
    assert_eq!(server.bodies().len(), 0);
}

#[test]
fn the_served_model_judges_without_its_adapter() {
    let home = home("http://127.0.0.1:9/v1");
    let (code, out, err) = eval(home.path(), &["--judge", "local", "--limit", "1"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("Judge: local (tillerman-embedded)"), "{out}");
}
