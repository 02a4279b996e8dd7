//! Groups, picks, past questions, training records, and a database of the first schema that gets them.

use tillerman::config::Home;
use tillerman::store::*;

use crate::events::*;
use crate::open;

fn group(id: &str, members: &[&str]) -> GroupRow {
    let member = |id: &&str| Member { trajectory: id.to_string(), seed: u64::MAX - 1 };
    GroupRow {
        id: id.into(),
        question_id: question_id("What is 37*41+5?", &[]),
        created_ms: 5,
        model_hash: "m".into(),
        adapter: Some("a".into()),
        seed: u64::MAX,
        temperature: 0.7,
        turns: 3,
        members: members.iter().map(member).collect(),
    }
}

fn record(store: &Store, id: &str, session: &str, query: &str, answer: &str) {
    trajectory(id, session, query, answer).iter().for_each(|event| store.record(event).unwrap());
}

const QUERY: &str = "What is 37*41+5?";

#[test]
fn a_group_comes_back_as_it_was_drawn_and_goes_with_its_session() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let drawn = group("group-1", &["r1", "r2", "r3"]);
    store.add_group(&drawn, QUERY).unwrap();
    record(&store, "r2", "group-1", QUERY, "1522");
    assert_eq!(store.group("group-1").unwrap(), drawn, "a float, seeds above 2^63 and the order are kept");
    assert_eq!(store.groups(0).unwrap(), std::slice::from_ref(&drawn));
    assert_eq!(store.question_groups(&drawn.question_id).unwrap().len(), 1);
    assert_eq!(store.find_group("group").unwrap(), "group-1");
    assert_eq!(store.group_of("r3").unwrap().as_deref(), Some("group-1"));
    assert_eq!(store.group_of("other").unwrap(), None);

    // Rollouts are in the list of all trajectories, not among what a person asked.
    record(&store, "own", "session-1", QUERY, "1522");
    assert_eq!(store.trajectories(None, 0).unwrap().len(), 2);
    assert_eq!(store.asked(0).unwrap().iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["own"]);
    assert_eq!(store.sessions().unwrap().len(), 1);

    store.delete_session("group-1").unwrap();
    assert!(matches!(store.group("group-1"), Err(StoreError::NotFound(_))));
    assert_eq!(store.group_of("r3").unwrap(), None);
    assert_eq!(store.trajectories(None, 0).unwrap().len(), 1);
}

#[test]
fn picks_are_kept_and_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut pick = Pick {
        id: 0,
        question_id: "q".into(),
        better: "r1".into(),
        worse: "r2".into(),
        better_left: false,
        seconds: Some(1.5),
        created_ms: 7,
        cleared_ms: None,
    };
    pick.id = store.add_pick(&pick).unwrap();
    assert_eq!(store.picks("q").unwrap(), [pick.clone()]);
    assert_eq!(store.clear_pick(pick.id).unwrap(), 1);
    assert_eq!(store.clear_pick(pick.id).unwrap(), 0);
    assert_eq!(store.picks("q").unwrap(), []);
    assert!(store.add_pick(&Pick { worse: "r1".into(), ..pick.clone() }).is_err());
    assert!(store.add_pick(&Pick { seconds: Some(f64::NAN), ..pick }).is_err());
}

#[test]
fn past_questions_are_those_the_ledger_still_knows_the_longest_not_rolled_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let queries = ["one?", "two?", "three?", "four?"];
    for (n, query) in queries.iter().enumerate() {
        record(&store, &format!("t{n}"), "s", query, "7");
    }
    let label = |n: usize, label: fn(Label) -> Label| {
        let row = store.row(&format!("t{n}")).unwrap();
        store.add_label(&label(Label::on(&row, Scope::Answer, LabelValue::Good))).unwrap();
    };
    (0..3).for_each(|n| label(n, |label| label));
    label(3, |label| Label { source: Source::Judge, ..label });
    store.clear_labels("t1", None, None).unwrap();
    let rolled = GroupRow { question_id: question_id("three?", &[]), ..group("g", &["x"]) };
    store.add_group(&rolled, "three?").unwrap();
    let found: Vec<_> =
        store.past_questions(0).unwrap().into_iter().map(|p| (p.trajectory, p.rolled_ms)).collect();
    assert_eq!(found, [("t0".to_string(), None), ("t2".to_string(), Some(5))]);
    assert_eq!(store.recent_values(9).unwrap(), [LabelValue::Good; 2]);
    // Without its text a question cannot be asked again.
    store.delete_trajectory("t0").unwrap();
    assert_eq!(store.past_questions(0).unwrap().len(), 1);
}

#[test]
fn a_persons_word_outlasts_a_checkers_and_a_judges() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    record(&store, "t", "s", QUERY, "1522");
    let row = store.row("t").unwrap();
    let say = |source: Source, value: LabelValue| {
        store.add_label(&Label { source, ..Label::on(&row, Scope::Answer, value) }).unwrap();
        let ledger = store.ledger(&row.question_id).unwrap();
        assert_eq!(ledger.len(), 1);
        (ledger[0].source, ledger[0].value)
    };
    assert_eq!(say(Source::Judge, LabelValue::Good), (Source::Judge, LabelValue::Good));
    assert_eq!(say(Source::Checker, LabelValue::Bad), (Source::Checker, LabelValue::Bad));
    assert_eq!(say(Source::Person, LabelValue::Good), (Source::Person, LabelValue::Good));
    assert_eq!(say(Source::Checker, LabelValue::Bad), (Source::Person, LabelValue::Good));
    assert_eq!(say(Source::Judge, LabelValue::Bad), (Source::Person, LabelValue::Good));
    assert_eq!(say(Source::Person, LabelValue::Bad), (Source::Person, LabelValue::Bad));
    let never = Label { seconds: Some(f64::NAN), ..Label::on(&row, Scope::Answer, LabelValue::Good) };
    assert!(store.add_label(&never).unwrap_err().to_string().contains("seconds"));
    let never = Label { propensity: f64::NAN, ..Label::on(&row, Scope::Answer, LabelValue::Good) };
    assert!(store.add_label(&never).unwrap_err().to_string().contains("propensity"));
}

#[test]
fn training_is_recorded_and_an_unfinished_run_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let run = TrainingRun {
        id: "run-1".into(),
        created_ms: 3,
        model_hash: "m".into(),
        parent: None,
        seed: u64::MAX,
        settings: serde_json::json!({"rank": 8, "lr": 1e-5}),
        status: RunStatus::Running,
        note: None,
    };
    let step = |n: usize| TrainingStep {
        run: "run-1".into(),
        step: n,
        groups: vec!["g1".into(), "g2".into()],
        stats: serde_json::json!({"kl": 0.0125}),
        candidate: Some(format!("c{n}")),
        verdict: None,
        created_ms: 4,
    };
    let pair = |n: u64| GatePair {
        question_id: format!("q{n}"),
        seed: u64::MAX - n,
        candidate_reward: 1.0,
        champion_reward: 0.0,
    };
    let report = |n: u64| serde_json::json!({"n": n, "e_better": 1.5});
    {
        let store = open(dir.path());
        assert!(matches!(store.add_step(&step(1)), Err(StoreError::NoRun(_))));
        store.begin_run(&run).unwrap();
        [1, 2].iter().for_each(|n| store.add_step(&step(*n)).unwrap());
        store.set_verdict("run-1", 1, "better").unwrap();
        assert!(store.set_verdict("run-1", 9, "better").is_err());
        store.add_gate_look("c1", None, &[pair(1), pair(2)], &report(2)).unwrap();
        store.add_gate_look("c1", Some("c0"), &[pair(3)], &report(3)).unwrap();
        store.add_gate_look("c1", None, &[], &report(4)).unwrap();
        store.decide_gate("c1", None, "hold").unwrap();
        assert!(store.decide_gate("c1", Some("c9"), "hold").is_err(), "never compared");
        assert_eq!(store.run("run-1").unwrap(), run);
        for bad in [f64::NAN, 1.5, -0.1] {
            assert!(
                store
                    .add_gate_look("c", None, &[GatePair { candidate_reward: bad, ..pair(1) }], &report(1))
                    .is_err()
            );
        }
    }
    // The process is gone without having ended the run.
    let store = open(dir.path());
    assert_eq!(store.runs().unwrap()[0].status, RunStatus::Interrupted);
    let steps = store.steps("run-1").unwrap();
    assert_eq!(steps[0], TrainingStep { verdict: Some("better".into()), ..step(1) });
    assert_eq!(steps[1], step(2));
    assert_eq!(store.gate_pairs("c1", None).unwrap(), [pair(1), pair(2)]);
    assert_eq!(store.gate_pairs("c1", Some("c0")).unwrap(), [pair(3)]);
    let looks = store.gate_looks("c1").unwrap();
    let said = |at: usize| (looks[at].champion.as_deref(), &looks[at].report, looks[at].decision.as_deref());
    assert_eq!(said(0), (None, &report(2), None));
    assert_eq!(said(1), (Some("c0"), &report(3), None));
    assert_eq!(said(2), (None, &report(4), Some("hold")));
    assert!(looks.len() == 3 && store.gate_looks("c").unwrap().is_empty(), "what failed left nothing");
    store.begin_run(&run).unwrap();
    assert_eq!(store.run("run-1").unwrap().status, RunStatus::Running, "it goes on");
    store.end_run("run-1", RunStatus::Done, Some("all steps taken")).unwrap();
    assert_eq!(store.run("run-1").unwrap().note.as_deref(), Some("all steps taken"));
    assert_eq!(store.steps("run-1").unwrap().len(), 2);
}

#[test]
fn a_database_of_the_first_schema_migrates_and_keeps_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(Some(dir.path())).unwrap();
    {
        let old = rusqlite::Connection::open(home.database()).unwrap();
        old.execute_batch(include_str!("../../src/store/schema.sql")).unwrap();
        old.execute_batch(
            "INSERT INTO sessions VALUES ('s', 'a title', 1);
             INSERT INTO trajectories (id, session, question_id, query, started_ms, status, answer,
               canonical_answer, model_hash, seed) VALUES ('t', 's', 'q', 'a query', 2, 'answered', '7', '7', 'm', 3);
             INSERT INTO labels (trajectory, question_id, canonical_answer, scope, value, source, shown_set,
               \"order\", propensity, audit, created_ms)
               VALUES ('t', 'q', '7', 'answer', 'good', 'person', '[\"7\"]', 0, 1.0, 0, 4);
             PRAGMA user_version = 1;",
        )
        .unwrap();
    }
    // A command that only looks before the migration finds no adapter, and nothing wrong.
    assert!(AdapterShelf::open(&home).unwrap().serving(&home.database()).unwrap().adapter.is_none());
    let store = Store::open(&home).unwrap();
    let row = store.row("t").unwrap();
    assert_eq!((row.query.as_str(), row.label), ("a query", Some(LabelValue::Good)));
    assert_eq!(store.ledger("q").unwrap().len(), 1);
    store.add_group(&group("g", &["r1"]), QUERY).unwrap();
    assert_eq!(store.groups(0).unwrap().len(), 1);
    let version: i64 = rusqlite::Connection::open(home.database())
        .unwrap()
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, 6);
}
