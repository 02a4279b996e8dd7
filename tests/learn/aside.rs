//! What a step on labels is measured on: prompts of questions that do not train in it, and a word where there are none.

use super::*;
use tillerman::cli::setup::{EMBEDDED_NAME, PLANNER};

/// Prompts of everything a planner wrote for this question.
fn prompts(home: &Path, question: &str) -> HashSet<Vec<u64>> {
    let store = Store::open(&Home::open(Some(home)).unwrap()).unwrap();
    let rows = store.trajectories(None, 0).unwrap();
    let of_it = rows.into_iter().filter(|row| row.question_id == question);
    let calls = of_it.flat_map(|row| store.trajectory(&row.id).unwrap().calls);
    let ids = |ids: Vec<i32>| ids.into_iter().map(|id| id as u64).collect();
    calls.map(|call| ids(call.completion.prompt_ids)).collect()
}

fn measured(told: &[Value]) -> (String, u64) {
    let on = &find(told, "measured_on")[0]["probes"];
    (text(&on["from"]), on["prompts"].as_u64().unwrap())
}

#[test]
fn the_embedded_planner_is_measured_on_bundled_questions() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    settle(home, "");
    let group = labelled(home, QUESTION);
    let told = lines(home, &["--seed", "1", "train", "--labelled", "--pairs", "0", "--json"]);
    let (from, count) = measured(&told);
    assert!(from == "bundled" && (32..=64).contains(&count), "{from} {count}");
    let made = adapter(home, &text(&find(&told, "stepped")[0]["adapter"]));
    assert_eq!(made["manifest"]["made_from"]["probes"]["from"], "bundled");
    // Another step from the same adapter asks them no second time.
    let again = lines(home, &["--seed", "2", "train", "--labelled", "--again", "--pairs", "0", "--json"]);
    assert_eq!(measured(&again), (from, count));
    let phases =
        |told: &[Value]| find(told, "phase").iter().any(|line| text(&line["phase"]).starts_with("asking"));
    assert!(phases(&told) && !phases(&again), "{again:?}");
    // The KL budget of this adapter's line is read there too, and nowhere in what trained.
    let own = prompts(home, &text(&group["question_id"]));
    let frozen = made["manifest"]["frozen"].as_array().unwrap();
    assert_eq!(frozen.len() as u64, count);
    for turn in frozen {
        let prompt: Vec<u64> =
            turn["prompt"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        assert!(!own.contains(&prompt), "a prompt of what trained");
    }
}

#[test]
fn another_model_is_measured_on_what_it_was_asked_before_or_says_that_there_is_nothing() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    settle(home, "");
    // The same weights by another name: a model of one's own.
    let mut bytes = PLANNER.to_vec();
    let name = EMBEDDED_NAME.as_bytes();
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    bytes[at] = b'T';
    let model = home.join("own.gguf");
    fs::write(&model, bytes).unwrap();
    let config = format!(
        "[engine]\nthreads = 1\nshipped_adapter = false\nmodel = {:?}\n[flow]\npack = \"compact\"\n",
        model.display().to_string()
    );
    fs::write(home.join("config.toml"), config).unwrap();
    labelled(home, QUESTION);
    let (code, out, err) = tillerman(home, &["--seed", "1", "train", "--labelled", "--pairs", "0"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.contains("planner prompts of its own: nothing else was asked"), "{err}");
    for query in ["What is 6*7?", "Which date is 8 days after 1969-10-14?"] {
        lines(home, &["--seed", "1", "ask", query, "--json"]);
    }
    let told = lines(home, &["--seed", "1", "train", "--labelled", "--again", "--pairs", "0", "--json"]);
    let (from, count) = measured(&told);
    assert!(from == "recorded" && count >= 2, "{from} {count}");
}
