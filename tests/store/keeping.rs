//! What goes in comes out: events, labels, lists, and what a delete leaves.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use proptest::prelude::*;
use tillerman::config::{Config, Home};
use tillerman::flow::event::{Body, Collect, Event, Sink};
use tillerman::flow::trajectory::{Limits, Trajectory};
use tillerman::store::*;

use crate::events::*;
use crate::{open, quick_dir};

fn lines(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| serde_json::to_string(event).unwrap()).collect()
}

#[test]
fn any_event_is_read_back_as_it_was_written() {
    let dir = quick_dir();
    let store = open(dir.path());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&any_events(), |events| {
            for event in &events {
                store.record(event).map_err(|e| TestCaseError::fail(e.to_string()))?;
            }
            let id = &events[0].trajectory;
            let read = store.trajectory_events(id).unwrap();
            prop_assert_eq!(&read, &events);
            prop_assert_eq!(lines(&read), lines(&events));
            prop_assert_eq!(store.trajectory(id).unwrap(), Trajectory::from_events(&events));
            store.delete_trajectory(id).unwrap();
            Ok(())
        })
        .unwrap();
    let blobs = std::fs::read_dir(dir.path().join("blobs")).unwrap().count();
    assert_eq!(blobs, 0, "blobs of deleted trajectories are gone");
}

#[test]
fn another_process_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let events = trajectory("id-1", "s", "What is 37*41+5?", "1522");
    let writer = Arc::new(open(dir.path()));
    let shown = Arc::new(Collect::default());
    let sink = StoreSink::new(writer.clone()).then(shown.clone());
    for event in &events {
        sink.record(event.clone()).unwrap();
    }
    assert_eq!(shown.events(), events);
    assert_eq!(open(dir.path()).trajectory_events("id-1").unwrap(), events);
    // Everything is this user's alone.
    for entry in walk(dir.path()) {
        let mode = std::fs::metadata(&entry).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if entry.is_dir() { 0o700 } else { 0o600 }, "{}", entry.display());
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn lists_and_ids() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let session = store.new_session("first  question").unwrap();
    for (id, query, answer) in [("aa-11-x", "q1", "1"), ("aa-22-y", "q2", "2")] {
        trajectory(id, &session, query, answer).iter().for_each(|event| store.record(event).unwrap());
    }
    store.record(&started("bb-33-z", "", "alone", Vec::new())).unwrap();

    let row = store.row("aa-11-x").unwrap();
    assert_eq!((row.turns, row.tokens, row.status), (1, 12, Status::Answered));
    assert_eq!((row.answer.as_deref(), row.tier.as_deref()), (Some("1"), Some("A")));
    assert_eq!((row.seed, row.adapter.unwrap().len()), (u64::MAX - 1, 64));
    assert_eq!(store.conversation(&session).unwrap(), [("q1".into(), "1".into()), ("q2".into(), "2".into())]);
    let before = vec![("q1".to_string(), "1".to_string())];
    store.record(&started("cc-44-w", "rewound", "q2", before.clone())).unwrap();
    assert_eq!(store.conversation("rewound").unwrap(), before, "a rewound session knows what came before");
    store.delete_session("rewound").unwrap();
    assert_eq!(store.trajectories(None, 2).unwrap().len(), 2);
    assert_eq!(store.trajectories(Some(&session), 0).unwrap().len(), 2);
    assert_eq!(store.row("bb-33-z").unwrap().session, "bb-33-z", "a query alone is its own session");
    assert_eq!(store.sessions().unwrap().len(), 2);

    assert_eq!(store.find("bb").unwrap(), "bb-33-z");
    assert_eq!(store.find("22-y").unwrap(), "aa-22-y");
    assert!(matches!(store.find("aa"), Err(StoreError::Ambiguous { count: 2, .. })));
    assert!(matches!(store.find("zz"), Err(StoreError::NotFound(_))));
    assert!(matches!(store.find(" "), Err(StoreError::NotFound(_))));
    assert!(matches!(store.find("a%"), Err(StoreError::NotFound(_))));
    assert!(matches!(store.trajectory_events("zz"), Err(StoreError::NotFound(_))));

    store.rename_session(&session, "named").unwrap();
    assert!(store.sessions().unwrap().iter().any(|s| s.title == "named" && s.trajectories == 2));
    store.delete_session(&session).unwrap();
    assert!(matches!(store.delete_session(&session), Err(StoreError::NotFound(_))));
    assert_eq!(store.trajectories(None, 0).unwrap().len(), 1);
}

#[test]
fn events_out_of_place_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let events = trajectory("id-1", "s", "q", "a");
    let refused = |event: &Event| store.record(event).unwrap_err().to_string();
    assert!(refused(&events[1]).contains("no started event"));
    store.record(&events[0]).unwrap();
    store.record(&events[1]).unwrap();
    assert!(refused(&events[1]).contains("already recorded"));
    assert!(refused(&events[0]).contains("already recorded"));
    let timeless = Event { t_ms: f64::NAN, ..events[2].clone() };
    assert!(refused(&timeless).contains("no time"));
    assert_eq!(store.trajectory_events("id-1").unwrap(), events[..2]);
}

#[test]
fn labels_are_kept_with_all_that_cannot_be_known_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    trajectory("id-1", "s", "q", "1,522").iter().for_each(|event| store.record(event).unwrap());
    let row = store.row("id-1").unwrap();
    let mut label = Label {
        text: Some("my key is AKIAIOSFODNN7EXAMPLE".into()),
        shown_set: vec!["7".into(), "1522".into()],
        order: 1,
        propensity: 0.25,
        seconds: Some(3.5),
        expiry_ms: Some(i64::MAX),
        audit: true,
        ..Label::on(&row, Scope::Answer, LabelValue::Good)
    };
    label.id = store.add_label(&label).unwrap();
    label.text = Some("my key is [redacted cloud key]".into());
    assert_eq!(store.labels("id-1").unwrap(), [label.clone()]);
    assert_eq!(label.canonical_answer.as_deref(), Some("1522"));

    let again = Label {
        re_ask_of: Some(label.id),
        correction: Some("1,523".into()),
        ..Label::on(&row, Scope::Answer, LabelValue::Bad)
    };
    let second = store.add_label(&again).unwrap();
    let plan = Label { turn: Some(1), ..Label::on(&row, Scope::Turn, LabelValue::Bad) };
    store.add_label(&plan).unwrap();
    let mut ledger: Vec<_> = store
        .ledger(&row.question_id)
        .unwrap()
        .into_iter()
        .map(|entry| (entry.canonical_answer, entry.value, entry.label))
        .collect();
    ledger.sort();
    let expected = [("1522".to_string(), LabelValue::Bad, second), ("1523".into(), LabelValue::Good, second)];
    assert_eq!(ledger, expected);

    // Taken back: nothing is lost, nothing counts.
    assert_eq!(store.clear_labels("id-1", Some(Scope::Answer), None).unwrap(), 2);
    assert_eq!(store.clear_labels("id-1", Some(Scope::Answer), None).unwrap(), 0);
    assert_eq!(store.ledger(&row.question_id).unwrap(), []);
    assert_eq!(store.labels("id-1").unwrap().len(), 3);
    assert_eq!(store.row("id-1").unwrap().label, Some(LabelValue::Bad), "the turn's label stands");
    // A label outlives its trajectory.
    store.delete_trajectory("id-1").unwrap();
    assert_eq!(store.question_labels(&row.question_id).unwrap().len(), 3);
}

#[test]
fn labels_that_contradict_themselves_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.record(&started("id-1", "s", "q", Vec::new())).unwrap();
    let row = store.row("id-1").unwrap();
    let good = |scope| Label::on(&row, scope, LabelValue::Good);
    for label in [
        good(Scope::Answer),
        good(Scope::Turn),
        Label { turn: Some(1), ..good(Scope::Plan) },
        Label { trajectory: None, ..good(Scope::Plan) },
        Label { correction: Some("x".into()), ..good(Scope::Plan) },
        Label { propensity: 0.0, ..good(Scope::Plan) },
        Label { propensity: f64::NAN, ..good(Scope::Plan) },
    ] {
        assert!(matches!(store.add_label(&label), Err(StoreError::Invalid(_))), "{label:?}");
    }
    store.add_label(&good(Scope::Plan)).unwrap();
}

#[test]
fn rows_of_labels_cannot_be_changed_by_anyone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    trajectory("id-1", "s", "q", "a").iter().for_each(|event| store.record(event).unwrap());
    let row = store.row("id-1").unwrap();
    store.add_label(&Label::on(&row, Scope::Answer, LabelValue::Good)).unwrap();
    let other = rusqlite::Connection::open(dir.path().join("tillerman.db")).unwrap();
    for sql in ["UPDATE labels SET value = 'bad'", "DELETE FROM labels"] {
        assert!(other.execute(sql, []).unwrap_err().to_string().contains("append-only"));
    }
}

#[test]
fn secrets_reach_neither_database_nor_blobs() {
    let dir = tempfile::tempdir().unwrap();
    let secret = "ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8";
    {
        let store = open(dir.path());
        let mut events = trajectory("id-1", "s", &format!("use {secret}"), secret);
        events.insert(1, Event { seq: 90, ..numbered("id-1", 90, vec![call(1, secret, 9)]).next().unwrap() });
        let long = format!("{secret} {}", "long ".repeat(20_000));
        events.insert(1, numbered("id-1", 91, vec![memory(1, &long)]).next().unwrap());
        events.iter().for_each(|event| store.record(event).unwrap());
        assert!(store.row("id-1").unwrap().redacted >= 5);
        let read = store.trajectory_events("id-1").unwrap();
        let Some(Body::ModelCall(call)) = read.iter().find(|e| e.seq == 90).map(|e| &e.body) else {
            panic!()
        };
        assert_eq!(call.completion.text, "[redacted code-host token]");
        assert!(call.completion.completion_ids.is_empty(), "ids spell the secret too");
        let label = Label {
            correction: Some(secret.into()),
            ..Label::on(&store.row("id-1").unwrap(), Scope::Answer, LabelValue::Bad)
        };
        store.add_label(&label).unwrap();
        store.new_session(secret).unwrap();
    }
    for file in walk(dir.path()).into_iter().filter(|path| path.is_file()) {
        let bytes = std::fs::read(&file).unwrap();
        let folded = secret.to_lowercase();
        for needle in [secret.as_bytes(), folded.as_bytes()] {
            assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{}", file.display());
        }
    }
}

#[test]
fn what_is_deleted_is_gone_from_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mark = "a very private sentence";
    let long = format!("{mark} {}", "long ".repeat(20_000));
    for id in ["id-1", "id-2"] {
        let mut events = trajectory(id, id, if id == "id-1" { mark } else { "q" }, "a");
        events.extend(numbered(id, 90, vec![memory(2, &long)]));
        events.iter().for_each(|event| store.record(event).unwrap());
    }
    let blobs = || std::fs::read_dir(dir.path().join("blobs")).unwrap().count();
    assert_eq!(blobs(), 1, "equal texts are kept once");
    store.delete_trajectory("id-1").unwrap();
    assert_eq!(blobs(), 1, "the other trajectory still needs it");
    assert!(store.trajectory_events("id-2").is_ok());
    store.delete_session("id-2").unwrap();
    store.delete_session("id-1").unwrap();
    drop(store);
    for file in walk(dir.path()).into_iter().filter(|path| path.is_file()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(mark.len()).any(|window| window == mark.as_bytes()), "{}", file.display());
    }
}

#[test]
fn the_settings_defaults_are_the_flows() {
    let (config, limits) = (Config::default().flow, Limits::default());
    let set = Limits {
        turns: config.turns,
        seconds: config.seconds,
        tokens: config.tokens,
        result_chars: config.result_chars,
        repeats: config.repeats,
    };
    assert_eq!(set, limits);
}

#[test]
fn schema_is_made_once_and_a_newer_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(Some(dir.path())).unwrap();
    // Version 0 is an empty file as well as none at all.
    std::fs::write(home.database(), "").unwrap();
    std::fs::set_permissions(home.database(), std::fs::Permissions::from_mode(0o600)).unwrap();
    trajectory("id-1", "s", "q", "a").iter().for_each(|event| open(dir.path()).record(event).unwrap());
    assert_eq!(open(dir.path()).trajectories(None, 0).unwrap().len(), 1);

    let other = rusqlite::Connection::open(home.database()).unwrap();
    let known: i64 = other.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    other.pragma_update(None, "user_version", 99).unwrap();
    let message = Store::open(&home).map(drop).unwrap_err().to_string();
    assert!(message.contains("schema 99") && message.contains("newer tillerman"), "{message}");
    other.pragma_update(None, "user_version", known).unwrap();
    assert_eq!(open(dir.path()).trajectories(None, 0).unwrap().len(), 1, "nothing was touched");
}
