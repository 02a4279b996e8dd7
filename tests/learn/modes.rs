//! The ways a step's groups come together: the better of two, past questions rolled again, lone labels.

use super::*;

#[test]
fn the_better_of_two_teaches_without_a_word_on_what_is_right() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    settle(home, "");
    let (group, answers) = rolled(home, QUESTION);
    let (code, _, err) = tillerman(home, &["label", &answers[0], "better"]);
    assert!(code == 2 && err.contains("--than ID"), "{err}");
    let (code, out, err) = tillerman(home, &["label", &answers[0], "better", "--than", &answers[1]]);
    assert!(code == 0 && out.contains("better than"), "{out}{err}");
    let told = lines(home, &["--seed", "1", "train", "--labelled", "--pairs", "0", "--json"]);
    let formed = find(&told, "group")[0];
    assert_eq!((formed["mode"].as_str(), &formed["report"]["group"]), (Some("B"), &group["group"]));
    assert_eq!((formed["report"]["right"].as_u64(), formed["report"]["wrong"].as_u64()), (Some(1), Some(1)));
    assert!(find(&told, "stepped")[0]["skipped"].is_null(), "{told:?}");
    // Nothing of it is in the ledger: no answer is called right or wrong.
    let store = Store::open(&Home::open(Some(home)).unwrap()).unwrap();
    let question = store.row(&store.find(&answers[0]).unwrap()).unwrap().question_id;
    assert!(store.ledger(&question).unwrap().is_empty());
    drop(store);
    // Taken back, it teaches nothing.
    assert_eq!(tillerman(home, &["label", &answers[0], "clear"]).0, 0);
    let whole = text(&group["group"]);
    let (code, _, err) = tillerman(home, &["train", "--groups", &whole, "--pairs", "0"]);
    assert!(code == 1 && err.contains("none of its answers is labelled"), "{err}");
    // Other questions' answers are not compared.
    lines(home, &["--seed", "1", "ask", "What is 2+3?", "--json"]);
    let store = Store::open(&Home::open(Some(home)).unwrap()).unwrap();
    let other = store.asked(1).unwrap().remove(0).id;
    drop(store);
    let (code, _, err) = tillerman(home, &["label", &answers[0], "better", "--than", &other]);
    assert!(code == 2 && err.contains("different questions"), "{err}");
}

#[test]
fn past_questions_are_rolled_again_and_judged_by_what_is_known() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    settle(home, "lr = 0.001\ngroup = 6\n");
    let (code, _, err) = tillerman(home, &["train", "--past", "1", "--pairs", "0"]);
    assert!(code == 1 && err.contains("no question has a label"), "{err}");
    labelled(home, QUESTION);
    // At the mode's own temperature answers differ; which seed has some right and some wrong is not certain.
    let stepped = (1..8).find_map(|seed| {
        let seed = seed.to_string();
        let (code, out, _) =
            tillerman(home, &["--seed", &seed, "train", "--past", "1", "--pairs", "0", "--json"]);
        let told: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (code == 0 && !find(&told, "stepped").is_empty()).then_some(told)
    });
    let told = stepped.expect("no contrast in 7 groups");
    let formed = find(&told, "group")[0];
    assert_eq!((formed["mode"].as_str(), formed["report"]["rollouts"].as_u64()), (Some("C"), Some(6)));
    let id = text(&find(&told, "stepped")[0]["adapter"]);
    let made = adapter(home, &id);
    assert_eq!(made["manifest"]["settings"]["temperature"], 1.0);
}

#[test]
fn a_lone_label_is_a_small_step_and_never_a_bad_one_alone() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    settle(home, "");
    let asked = |seed: &str| {
        lines(home, &["--seed", seed, "ask", QUESTION, "--json"]);
        let store = Store::open(&Home::open(Some(home)).unwrap()).unwrap();
        store.asked(1).unwrap().remove(0).id
    };
    let (one, two) = (asked("1"), asked("2"));
    let lone = |ids: &str| tillerman(home, &["train", "--lone", ids, "--pairs", "0", "--json"]);
    let (code, _, err) = lone(&one);
    assert!(code == 2 && err.contains("nobody has labelled it"), "{err}");
    assert_eq!(tillerman(home, &["label", &one, "bad"]).0, 0);
    let (code, _, err) = lone(&one);
    assert!(code == 1 && err.contains("only bad ones"), "{err}");
    assert_eq!(tillerman(home, &["label", &two, "good"]).0, 0);
    let (code, out, err) = lone(&format!("{one},{two}"));
    assert_eq!(code, 0, "{err}");
    let told: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let modes: Vec<_> = find(&told, "group").iter().map(|group| group["mode"].clone()).collect();
    assert_eq!(modes, ["D", "D"]);
    // What trained does not judge: no other question has a known answer, so there is none to ask.
    let made = text(&find(&told, "stepped")[0]["adapter"]);
    let (code, _, err) = tillerman(home, &["adapters", "judge", &made, "--gate", "ledger"]);
    assert!(code == 2 && err.contains("no questions to judge by"), "{err}");
    assert!(find(&told, "stepped")[0]["skipped"].is_null(), "{out}");
}
