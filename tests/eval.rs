//! `eval` as a person meets it: stopped, killed, resumed and compared, with the embedded planner and real files.

#[path = "support/fails.rs"]
mod fails;
#[path = "support/program.rs"]
mod program;

use std::fs;

use fails::fails;
use program::{run, tillerman};
use serde_json::Value;

#[test]
fn an_evaluation_killed_and_resumed_gives_the_same_table() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("rows.jsonl");
    let tasks = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/tasks/gate.jsonl");
    let eval = |more: &[&str]| {
        let mut command = tillerman(home.path());
        command.args(["--seed", "5", "eval", "--tasks", tasks, "--family", "arithmetic", "--limit", "3"]);
        command.args([
            "--parallel",
            "1",
            "--adapter",
            "none",
            "--compare",
            "none",
            "--turn-limits",
            "1",
            "--json",
            "--out",
        ]);
        run(command.arg(&out).args(more))
    };
    // What the last line says, without the clock.
    let last = |text: &str| {
        let mut line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        for clock in ["seconds", "seconds_mean", "answered"] {
            line.as_object_mut().unwrap().remove(clock);
        }
        line
    };
    let (code, first, err) = eval(&[]);
    assert_eq!(code, 0, "{err}");
    let line = last(&first);
    assert_eq!((line["kind"].as_str(), line["n"].as_u64()), (Some("eval"), Some(3)));
    assert_eq!(line["accuracy"], line["accuracy_compare"], "the same adapter on both sides");
    assert_eq!(
        (line["p_value"].as_f64(), line["comparison"]["verdict"].as_str()),
        (Some(1.0), Some("cannot tell"))
    );
    assert_eq!(first.lines().filter(|l| l.contains("\"kind\":\"turn_limit\"")).count(), 2);
    fails(tillerman(home.path()).args(["eval", "--tasks", tasks, "--out"]).arg(&out), 2, &["--resume"]);
    let kept = fs::read_to_string(&out).unwrap();
    // Killed in the middle of its third row.
    let third = kept.match_indices('\n').nth(2).unwrap().0;
    fs::write(&out, &kept[..third + 40]).unwrap();
    let (code, resumed, err) = eval(&["--resume"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(last(&resumed), line);
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), kept.lines().count());
    let (code, again, _) = eval(&["--resume"]);
    assert_eq!((code, last(&again)), (0, line), "nothing is asked again");
    let (_, listed, _) = run(tillerman(home.path()).args(["sessions", "--evaluations", "--json"]));
    assert_eq!(listed.lines().count(), 1, "resumed, it went on in the run it had begun: {listed}");
    let mut other = tillerman(home.path());
    other.args(["--seed", "6", "eval", "--tasks", tasks, "--resume", "--out"]).arg(&out);
    fails(&mut other, 2, &["another setting", "seed was 5, is 6"]);
}

#[test]
fn an_evaluation_is_compared_with_what_another_run_kept() {
    let home = tempfile::tempdir().unwrap();
    let tasks = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/tasks/gate.jsonl");
    let kept = home.path().join("bare.jsonl");
    let kept = kept.to_str().unwrap();
    let eval = |seed: &str, more: &[&str]| {
        let mut command = tillerman(home.path());
        command.args(["--seed", seed, "eval", "--tasks", tasks, "--family", "csv", "--limit", "4", "--json"]);
        run(command.args(more))
    };
    let last = |text: &str| -> Value { serde_json::from_str(text.lines().last().unwrap()).unwrap() };
    let (code, bare, err) = eval("5", &["--adapter", "none", "--out", kept]);
    assert_eq!(code, 0, "{err}");
    let (code, compared, err) = eval("5", &["--compare-rows", kept]);
    assert!(code == 0 && err.contains("adapter was null, is"), "{err}");
    let (bare, compared) = (last(&bare), last(&compared));
    assert_eq!(compared["accuracy_compare"], bare["accuracy"]);
    assert!(compared["p_value"].is_f64() && compared["n"] == 4, "{compared}");
    let (_, listed, _) = run(tillerman(home.path()).args(["sessions", "--evaluations", "--json"]));
    assert_eq!(listed.lines().count(), 2, "each run is one by itself: {listed}");

    let (code, _, err) = eval("6", &["--compare-rows", kept]);
    assert!(code == 2 && err.contains("other seed (5, now 6)"), "{err}");
    let text = fs::read_to_string(kept).unwrap();
    fs::write(kept, text.split_inclusive('\n').take(3).collect::<String>()).unwrap();
    let (code, _, err) = eval("5", &["--compare-rows", kept]);
    assert!(code == 2 && err.contains("holds 2 of 4 answers") && err.contains("--resume"), "{err}");
}

#[test]
fn an_evaluation_is_kept_as_one_run_and_floods_no_list() {
    let home = tempfile::tempdir().unwrap();
    let tasks = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/tasks/gate.jsonl");
    let eval = ["--seed", "5", "eval", "--tasks", tasks, "--family", "lookup", "--limit", "2", "--json"];
    let (code, out, err) = run(tillerman(home.path()).args(eval));
    assert_eq!(code, 0, "{err}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    let run_id = of("evaluation")[0]["session"].as_str().unwrap();
    assert_eq!(of("question").len(), 2);
    let said = |args: &[&str]| {
        let (code, out, err) = run(tillerman(home.path()).args(args));
        assert_eq!(code, 0, "{args:?}: {err}");
        out
    };
    assert!(said(&["sessions"]).contains("nothing asked yet"), "no person asked these");
    let listed: Value = serde_json::from_str(&said(&["sessions", "--evaluations", "--json"])).unwrap();
    assert_eq!((listed["session"].as_str(), listed["trajectories"].as_u64()), (Some(run_id), Some(2)));
    assert_eq!(listed["title"], "eval gate.jsonl");
    let right = of("question").iter().filter(|line| line["right"] == true).count() as u64;
    assert_eq!((listed["checked"].as_u64(), listed["right"].as_u64()), (Some(2), Some(right)));
    assert_eq!(said(&["sessions", "--session", run_id, "--json"]).lines().count(), 2);
    for question in of("question") {
        let id = question["trajectory"].as_str().unwrap();
        let shown = said(&["show", id]);
        assert!(shown.contains(question["query"].as_str().unwrap()), "{shown}");
    }
    let opened = said(&["replay", run_id, "--plain", "--speed", "0"]);
    assert!(
        of("question").iter().any(|line| opened.contains(line["answer"].as_str().unwrap_or("?"))),
        "{opened}"
    );
    let on = ["ask", "--session", run_id, "And then?"];
    fails(tillerman(home.path()).args(on), 2, &["is an evaluation", "fork one"]);

    // A person's own question stands in the list, and alone.
    said(&["--seed", "1", "ask", "What is 2+3?"]);
    assert_eq!(said(&["sessions", "--json"]).lines().count(), 1);
    let (code, _, err) = run(tillerman(home.path()).args(eval).arg("--discard"));
    assert_eq!(code, 0, "{err}");
    assert_eq!(said(&["sessions", "--evaluations", "--json"]).lines().count(), 1, "nothing was stored");
}

/// What could not be recorded is no wrong answer: the evaluation ends, and its rows hold what was answered.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_ends_an_evaluation_and_counts_as_no_wrong_answer() {
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let rows = elsewhere.path().join("rows.jsonl");
    let script = r#"
        mount -t tmpfs -o size=16m tmpfs "$TILLERMAN_HOME" || exit 77
        "$0" --model "$1" --seed 1 ask "What is 37*41+5?" || exit 78
        left=$(df -k --output=avail "$TILLERMAN_HOME" | tail -1)
        head -c $(((left - 1500) * 1024)) /dev/zero > "$TILLERMAN_HOME/filler"
        "$0" --model "$1" --seed 1 eval --tasks "$2" --limit 8 --parallel 2 --json --out "$3""#;
    let output = std::process::Command::new("unshare")
        .args(["-Urm", "sh", "-c", script, env!("CARGO_BIN_EXE_tillerman")])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/planner.gguf"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/tasks/gate.jsonl"))
        .arg(&rows)
        .env("TILLERMAN_HOME", home.path())
        .output();
    let Ok(output) = output.map_err(|error| println!("skipped: no unshare program here: {error}")) else {
        return;
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if matches!(output.status.code(), Some(1 | 77)) && out.is_empty() {
        println!("skipped: no mount namespace here: {err}");
        return;
    }
    assert_eq!(output.status.code(), Some(4), "{out}\n{err}");
    assert!(err.contains("disk full") && err.contains("--resume") && err.contains("--discard"), "{err}");
    let kept = fs::read_to_string(&rows).unwrap();
    let answered: Vec<Value> = kept.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!answered.is_empty() && answered.len() < 72, "{} rows", answered.len());
    assert!(answered.iter().all(|row| row["failed"].is_null()), "{kept}");
}

/// The engine's worker among a process's children.
#[cfg(target_os = "linux")]
fn worker(of: u32) -> Option<i32> {
    let tasks = fs::read_dir(format!("/proc/{of}/task")).ok()?;
    let children = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let pids: Vec<i32> = children
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|pid| pid.parse().ok())
        .collect();
    pids.into_iter().find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("__engine"))
    })
}

/// An engine that dies again and again says nothing about the planner: the evaluation ends instead of counting
/// every question that is left as wrong.
#[test]
#[cfg(target_os = "linux")]
fn an_evaluation_ends_where_no_engine_lives() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("rows.jsonl");
    let tasks = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/tasks/gate.jsonl");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/planner.gguf");
    let mut eval = std::process::Command::new(env!("CARGO_BIN_EXE_tillerman"));
    eval.env("TILLERMAN_HOME", home.path()).env_remove("RUST_BACKTRACE");
    eval.args(["--model", model, "eval", "--tasks", tasks, "--family", "csv", "--parallel", "1", "--out"])
        .arg(&out);
    let mut eval =
        eval.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while eval.try_wait().unwrap().is_none() {
        // From when the engine has loaded and the questions begin.
        if let Some(pid) = worker(eval.id()).filter(|_| out.exists()) {
            // SAFETY: a plain call; at worst the process has gone.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let output = eval.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("died 3 times within a minute") && err.contains("--resume"), "{err}");
    let rows = fs::read_to_string(&out).unwrap();
    let failed = rows.lines().filter(|row| row.contains("worker died")).count();
    // The first may have died before its question was asked.
    assert!((2..=3).contains(&failed), "{rows}");
    assert_eq!(rows.lines().count(), 1 + failed, "its setting and who died with a worker: {rows}");
}
