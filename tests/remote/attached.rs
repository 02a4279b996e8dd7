//! A question's attached file reaches its tools, and nothing else that lies beside it does.

use serde_json::{Value, json};

use crate::program::{run, tillerman};
use crate::server::{Server, Step, stream, texts};

/// Lists the workspace, then reads the file, then stops.
fn script(body: &Value, _: &str) -> Vec<Step> {
    let system = body["messages"][0]["content"].as_str().unwrap_or_default();
    let asked = body["messages"][1]["content"].as_str().unwrap_or_default();
    let said = body["messages"].to_string();
    let listed = said.contains("23 B");
    let text = match () {
        () if system.contains("You are the planner") && listed => {
            "Context: none\nSub-goal: see within\nTool: files"
        }
        () if system.contains("You are the planner") => {
            "Context: none\nSub-goal: see the folder\nTool: files"
        }
        () if system.contains("You are the executor") && asked.contains("see within") => {
            r#"{"action": "read", "path": "people.csv"}"#
        }
        () if system.contains("You are the executor") => r#"{"action": "list"}"#,
        () if system.contains("You are the verifier") && asked.contains("bob,47") => {
            r#"{"reason": "done", "decision": "stop"}"#
        }
        () if system.contains("You are the verifier") => r#"{"reason": "go on", "decision": "continue"}"#,
        () if system.contains("You are the analyst") => "Asks about a file.",
        () => "2",
    };
    stream(&texts(text))
}

#[test]
fn a_question_sees_its_own_file_and_no_other() {
    let server = Server::start(script);
    let (home, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = format!(
        "[engine]\nmodel = \"no-such.gguf\"\n[engine.remote.box]\nurl = \"{}\"\n[engine.roles]\ndefault = \"box\"\n",
        server.url()
    );
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    let tasks = files.path().join("gaia.json");
    let rows = json!([{"pid": "p", "query": "How many people?", "answer": "2", "Level": 1, "file_name": "people.csv"}]);
    std::fs::write(&tasks, rows.to_string()).unwrap();
    std::fs::write(files.path().join("people.csv"), "name,age\nann,31\nbob,47\n").unwrap();
    std::fs::write(files.path().join("answers.txt"), "the answer is 2").unwrap();
    let (code, _, err) = run(tillerman(home.path()).args(["eval", "--json", "--tasks"]).arg(&tasks));
    assert_eq!(code, 0, "{err}");
    let bodies = server.bodies();
    let said: String = bodies.iter().map(ToString::to_string).collect();
    assert!(said.contains("bob,47"), "the file was read: {said}");
    assert!(
        !said.contains("answers.txt") && !said.contains("gaia.json"),
        "what lies beside it was not seen: {said}"
    );

    std::fs::remove_file(files.path().join("people.csv")).unwrap();
    let before = server.bodies().len();
    let (code, out, err) = run(tillerman(home.path()).args(["eval", "--json", "--tasks"]).arg(&tasks));
    assert_eq!((code, out.as_str(), server.bodies().len()), (2, "", before), "{err}");
    assert!(err.contains("row 1") && err.contains("people.csv") && err.contains("--attachments"), "{err}");
}
