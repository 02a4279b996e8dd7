//! A crash, a short write or an error at every system call that changes the data directory.
//!
//! A few of each in the suite, all of them in `make drill`. What a power cut leaves is `power`'s.

use std::fs;
use std::path::Path;

use tillerman::store::WEIGHTS;

use crate::adapters::{keep, model};
use crate::crash::nth;
use crate::events::*;
use crate::trace::{self, Act, Change};
use crate::{open, quick_dir};

/// A data directory with an adapter in use and a trajectory.
pub fn template() -> tempfile::TempDir {
    let dir = quick_dir();
    let store = open(dir.path());
    let base = model(dir.path(), "m.gguf");
    let first = keep(&store, &base, b"first", None).unwrap();
    store.use_adapter(&base.hash, Some(&first.id), "use").unwrap();
    trajectory("before", "s", "q", "a").iter().for_each(|event| store.record(event).unwrap());
    dir
}

pub fn copy(from: &Path, to: &Path) {
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

/// After a fault: everything opens, every adapter is whole, what was acknowledged is there.
pub fn adapters_are_whole(home: &Path, said: &str, what: &str) {
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

pub fn records_are_whole(home: &Path, said: &str, what: &str) {
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

/// What is done at each place in turn, and its name.
const FAULTS: [(&str, Act); 6] = [
    ("kill -9 before it", Act::KillBefore),
    ("kill -9 in the middle of what it writes", Act::KillWithin),
    ("kill -9 after it", Act::KillAfter),
    ("half of it written, told so", Act::Short),
    ("a full disk", Act::Fail(libc::ENOSPC)),
    ("an I/O error", Act::Fail(libc::EIO)),
];

/// `fault` at every `step`th call that changes the data directory, from its `first`. Answers how many there were.
fn every_call(mode: &str, fault: (&str, Act), first: usize, step: usize, check: Check) -> usize {
    let template = template();
    let mut came = 0;
    for at in (first..).step_by(step) {
        let home = quick_dir();
        copy(template.path(), home.path());
        let mut what = String::new();
        let act = |n: usize, change: &Change| {
            if n == at {
                what = format!("{change:.120?}");
                fault.1
            } else {
                Act::Go
            }
        };
        let seen = trace::run(home.path(), mode, act, drop);
        check(home.path(), &seen.said, &format!("{mode}, {} at call {at}: {what}", fault.0));
        if !seen.acted {
            // Nothing was left to hinder, so all of it was done.
            assert!(seen.said.contains("test result: ok"), "{}", seen.said);
            break;
        }
        came += 1;
    }
    assert!(came > 0, "{mode}: {} never came, so nothing was tried", fault.0);
    came
}

type Check = fn(&Path, &str, &str);

#[test]
fn a_crash_at_a_writing_call_leaves_whole_adapters() {
    // Each fault at another few of the calls.
    for (first, fault) in FAULTS.into_iter().enumerate() {
        let came = every_call("adapter", fault, first, 23, adapters_are_whole);
        println!("keeping an adapter, {} at {came} writing calls, 0 broken adapters", fault.0);
    }
}

#[test]
#[ignore = "run by make drill"]
fn drill_every_writing_call() {
    let started = std::time::Instant::now();
    let mut all = 0;
    for fault in FAULTS {
        let came = every_call("adapter", fault, 0, 1, adapters_are_whole);
        println!(
            "keeping an adapter and using it, {} at each of {came} writing calls: 0 broken adapters",
            fault.0
        );
        all += came;
    }
    println!("keeping an adapter: {all} faults, 0 broken adapters");
    for fault in FAULTS {
        let came = every_call("few r", fault, 0, 1, records_are_whole);
        println!(
            "recording 12 events, {} at each of {came} writing calls: 0 acknowledged records lost",
            fault.0
        );
    }
    println!("({:.0} s)", started.elapsed().as_secs_f64());
}
