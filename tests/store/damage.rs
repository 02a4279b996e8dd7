//! Damage in every page of the database, and in one row: told, or it was not needed.

use std::fs;

use tillerman::config::Home;
use tillerman::store::{Label, LabelValue, Scope, Store, StoreError};

use crate::events::*;
use crate::{open, quick_dir};

/// What damage in one place of the database leads to.
#[derive(Default, Debug)]
struct Damage {
    told: usize,
    harmless: usize,
    /// Read without an error, and not what was written.
    silent: usize,
}

const PAGE: usize = 4096;
const KEPT: usize = 24;

fn damage(step: usize, change: fn(&mut [u8])) -> Damage {
    let dir = quick_dir();
    let store = open(dir.path());
    let id = |n: usize| format!("id-{n}");
    for n in 0..KEPT {
        let events = trajectory(&id(n), "s", &"query ".repeat(150), "answer");
        events.iter().for_each(|event| store.record(event).unwrap());
    }
    let expected: Vec<_> = (0..KEPT).map(|n| store.trajectory_events(&id(n)).unwrap()).collect();
    drop(store);
    let database = Home::open(Some(dir.path())).unwrap().database();
    // All of it into the one file that is damaged.
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(connection);
    let whole = fs::read(&database).unwrap();
    let mut seen = Damage::default();
    for page in (0..whole.len() / PAGE).step_by(step) {
        let mut bytes = whole.clone();
        change(&mut bytes[page * PAGE..(page + 1) * PAGE]);
        for name in ["tillerman.db-wal", "tillerman.db-shm"] {
            let _ = fs::remove_file(dir.path().join(name));
        }
        fs::write(&database, &bytes).unwrap();
        let read = || -> Result<bool, StoreError> {
            let store = Store::open(&Home::open(Some(dir.path())).unwrap())?;
            store.sessions()?;
            let mut same = true;
            for (n, expected) in expected.iter().enumerate() {
                same &= store.trajectory_events(&id(n))? == *expected;
            }
            Ok(same)
        };
        match read() {
            Ok(true) => seen.harmless += 1,
            Ok(false) => seen.silent += 1,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                seen.told += 1;
            }
        }
    }
    seen
}

fn noise(page: &mut [u8]) {
    blake3::Hasher::new().update(page).finalize_xof().fill(page);
}

fn zeros(page: &mut [u8]) {
    page.fill(0);
}

/// A bit in the middle, where the page's content is.
fn one_bit(page: &mut [u8]) {
    page[page.len() - 300] ^= 4;
}

#[test]
fn a_page_of_noise_is_told_or_was_not_needed() {
    let untouched = damage(19, |_| ());
    assert_eq!((untouched.told, untouched.silent), (0, 0), "the look itself is wrong: {untouched:?}");
    let seen = damage(5, noise);
    assert_eq!(seen.silent, 0, "{seen:?}");
    assert!(seen.told > 0, "{seen:?}");
}

#[test]
fn a_bit_that_turned_over_is_told_or_was_not_needed() {
    let seen = damage(3, one_bit);
    assert_eq!(seen.silent, 0, "{seen:?}");
    assert!(seen.told > 0, "{seen:?}");
}

#[test]
fn a_changed_row_is_named_and_the_others_are_read() {
    let dir = quick_dir();
    let store = open(dir.path());
    let events = trajectory("id-1", "s", "What is 2+2?", "4");
    events.iter().for_each(|event| store.record(event).unwrap());
    let other = trajectory("id-2", "s", "What is 2+3?", "5");
    other.iter().for_each(|event| store.record(event).unwrap());
    let row = store.row("id-1").unwrap();
    let label = store.add_label(&Label::on(&row, Scope::Answer, LabelValue::Good)).unwrap();
    assert_eq!(store.labels("id-1").unwrap().len(), 1);

    let database = Home::open(Some(dir.path())).unwrap().database();
    let connection = rusqlite::Connection::open(&database).unwrap();
    // What a disk may do, no trigger hinders.
    connection.execute_batch("DROP TRIGGER labels_keep; UPDATE labels SET value = 'bad'").unwrap();
    let told = store.labels("id-1").unwrap_err().to_string();
    assert!(told.contains(&format!("label {label} is not what was written")), "{told}");
    for column in ["t_ms = t_ms + 1", "kind = 'x' || kind", "body = replace(body, '2+2', '2+7')"] {
        connection.execute_batch("SAVEPOINT before").unwrap();
        connection.execute(&format!("UPDATE events SET {column} WHERE trajectory = 'id-1'"), []).unwrap();
        connection.execute_batch("RELEASE before").unwrap();
        let told = store.trajectory_events("id-1").unwrap_err().to_string();
        assert!(told.contains("of trajectory id-1 is not what was written"), "{column}: {told}");
        assert_eq!(store.trajectory_events("id-2").unwrap(), other);
    }
    // A record of a version that wrote no checksums is read as it is.
    connection.execute("UPDATE events SET sum = NULL WHERE trajectory = 'id-1'", []).unwrap();
    connection.execute("UPDATE events SET kind = substr(kind, 2) WHERE trajectory = 'id-1'", []).unwrap();
    assert_eq!(store.trajectory_events("id-1").unwrap().len(), events.len());
}

#[test]
#[ignore = "run by make drill"]
fn drill_damaged_pages() {
    for (name, change) in [("noise", noise as fn(&mut [u8])), ("zeros", zeros), ("one bit", one_bit)] {
        let Damage { told, harmless, silent } = damage(1, change);
        let pages = told + harmless + silent;
        println!(
            "a page of {name}, each of {pages}: {told} told, {harmless} not needed or the same, {silent} read as something else, 0 panics"
        );
    }
}
