//! A crash or an error at every system call that writes, by strace's fault injection; and damage in every page.
//!
//! A few of each in the suite, all of them in `make drill`. Without strace, or where it may not trace, the
//! injections are skipped and that is said.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use tillerman::config::Home;
use tillerman::store::{Label, LabelValue, Scope, Store, StoreError, WEIGHTS};

use crate::adapters::{keep, model};
use crate::crash::{CHILD, nth};
use crate::events::*;
use crate::{open, quick_dir};

/// Everything that changes a disk, as this program or SQLite does it.
const CALLS: [&str; 12] = [
    "openat",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "rename",
    "mkdir",
    "unlink",
    "unlinkat",
    "ftruncate",
    "fchmod",
    "rmdir",
];
const KILL: &str = "signal=KILL";
const FAULTS: [&str; 3] = [KILL, "error=ENOSPC", "error=EIO"];

/// What a child does under injection: one more adapter, made current.
pub fn make_one(home: &Home) {
    let store = Store::open(home).unwrap();
    let base = model(home.root(), "m.gguf");
    let made = keep(&store, &base, &[7; 300_000], None).unwrap();
    println!("ack {}", made.id);
    store.use_adapter(&base.hash, Some(&made.id), "gate").unwrap();
    println!("used {}", made.id);
}

/// A data directory with an adapter in use and a trajectory.
fn template() -> tempfile::TempDir {
    let dir = quick_dir();
    let store = open(dir.path());
    let base = model(dir.path(), "m.gguf");
    let first = keep(&store, &base, b"first", None).unwrap();
    store.use_adapter(&base.hash, Some(&first.id), "use").unwrap();
    trajectory("before", "s", "q", "a").iter().for_each(|event| store.record(event).unwrap());
    dir
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &place)
        } else {
            fs::copy(entry.path(), place).map(drop).unwrap()
        }
    }
}

/// Run a child in `home` with `fault` at the `nth` time of `call`. Answers what it printed and whether the
/// fault came; None where there is no strace.
fn inject(home: &Path, mode: &str, call: &str, fault: &str, nth: usize) -> Option<(String, bool)> {
    let log = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(log.path())
        .args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{fault}:when={nth}")])
        .arg(std::env::current_exe().unwrap())
        .args(CHILD)
        .env("TILLERMAN_CHILD", mode)
        .env("TILLERMAN_HOME", home)
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let traced = fs::read_to_string(log.path()).unwrap_or_default();
    // strace marks an error it made up; where it kills, it ends by the same signal itself.
    let killed = fault == KILL && output.status.signal() == Some(9);
    Some((said, killed || traced.contains("(INJECTED)")))
}

/// The child runs under strace without a fault, or the reason is said.
fn strace_works(home: &Path) -> bool {
    let works =
        inject(home, "open", "fsync", KILL, 60_000).is_some_and(|(said, _)| said.contains("opened well"));
    if !works {
        // Past the capture of the test runner: a skip is to be seen.
        let _ = writeln!(std::io::stderr(), "SKIPPED, no strace here, or it may not trace");
    }
    works
}

/// After a fault: everything opens, every adapter is whole, what was acknowledged is there.
fn adapters_are_whole(home: &Path, said: &str, what: &str) {
    let store = open(home);
    for adapter in store.adapters(None).unwrap() {
        store.adapter_dir(&adapter).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    for id in said.lines().filter_map(|line| line.strip_prefix("ack ")) {
        assert!(store.adapter(id).is_ok(), "{what}: adapter {id} was acknowledged and is gone");
    }
    let base = model(home, "m.gguf");
    let current =
        store.current_adapter(&base.hash).unwrap().unwrap_or_else(|| panic!("{what}: nothing serves"));
    store.adapter_dir(&store.adapter(&current).unwrap()).unwrap();
    for id in said.lines().filter_map(|line| line.strip_prefix("used ")) {
        assert_eq!(current, id, "{what}");
    }
    for entry in fs::read_dir(home.join("adapters")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with('.'), "{what}: a draft is left: {name}");
        let weights = fs::read(home.join("adapters").join(&name).join(WEIGHTS)).unwrap();
        assert!(blake3::hash(&weights).to_hex().starts_with(&name), "{what}: {name} is not whole");
    }
    assert_eq!(store.trajectory_events("before").unwrap(), trajectory("before", "s", "q", "a"), "{what}");
}

fn records_are_whole(home: &Path, said: &str, what: &str) {
    let acknowledged = said.lines().filter(|line| line.starts_with("ack ")).count();
    let store = open(home);
    let found = store.trajectory_events("r").unwrap_or_default();
    assert!(
        (acknowledged..=acknowledged + 1).contains(&found.len()),
        "{what}: {acknowledged}, {}",
        found.len()
    );
    for (seq, event) in (0..).zip(&found) {
        assert!(*event == nth("r", seq), "{what}: event {seq} is not what was written");
    }
    assert_eq!(store.trajectory_events("before").unwrap(), trajectory("before", "s", "q", "a"), "{what}");
}

/// Every `step`th place of every call. Answers how many faults came; where injections work at all, each kind of
/// fault must have.
fn every_call(mode: &str, faults: &[&str], step: usize, check: fn(&Path, &str, &str)) -> usize {
    let template = template();
    if !strace_works(template.path()) {
        return 0;
    }
    let mut all = 0;
    for fault in faults {
        let mut came = 0;
        for call in CALLS {
            for at in (1..2_000).step_by(step) {
                let home = quick_dir();
                copy(template.path(), home.path());
                let Some((said, injected)) = inject(home.path(), mode, call, fault, at) else { break };
                check(home.path(), &said, &format!("{mode}, {call} {at}, {fault}"));
                if !injected {
                    break;
                }
                came += 1;
            }
        }
        assert!(came > 0, "{mode}: no {fault} was injected, so nothing was tried");
        all += came;
    }
    all
}

#[test]
fn a_crash_at_a_writing_call_leaves_whole_adapters() {
    let came = every_call("adapter", &[KILL], 9, adapters_are_whole);
    println!("{came} crashes at writing calls, 0 broken adapters");
}

#[test]
#[ignore = "minutes; run by make drill"]
fn drill_every_writing_call() {
    let started = std::time::Instant::now();
    for fault in FAULTS {
        let adapters = every_call("adapter", &[fault], 1, adapters_are_whole);
        println!("keeping an adapter, {fault} at every writing call: {adapters} faults, 0 broken adapters");
    }
    let records = every_call("few r", &FAULTS, 4, records_are_whole);
    println!(
        "recording, all faults at every 4th writing call: {records} faults, 0 acknowledged records lost"
    );
    println!("({:.0} s)", started.elapsed().as_secs_f64());
}

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
