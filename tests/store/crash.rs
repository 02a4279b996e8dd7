//! kill -9 at any moment, again and again: every acknowledged record is there, and whole.
//!
//! The test program starts itself as the writer (`child`), which says `ack N` once `record` returned.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tillerman::config::Home;
use tillerman::flow::event::{Body, Event};
use tillerman::store::{Label, LabelValue, Scope, Status, Store};

use crate::events::*;
use crate::{open, quick_dir};

pub const CHILD: [&str; 4] = ["--ignored", "--exact", "--nocapture", "crash::child"];

/// Not a test: what the tests start as another process. Without its variable it does nothing.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    let (Ok(mode), Some(home)) = (std::env::var("TILLERMAN_CHILD"), std::env::var_os("TILLERMAN_HOME"))
    else {
        return;
    };
    let home = Home::open(Some(Path::new(&home))).unwrap();
    match mode.split_once(' ') {
        Some(("write", id)) => write(&home, id, u64::MAX),
        Some(("finish", id)) => write(&home, id, 60),
        _ if mode == "open" => {
            println!("opened {}", Store::open(&home).map_or_else(|e| e.to_string(), |_| "well".into()));
        }
        Some(("few", id)) => write(&home, id, 12),
        _ if mode == "adapter" => crate::adapters::make_one(&home),
        _ if mode == "adapters" => crate::adapters::make_many(&home),
        _ if mode == "full" => crate::failures::full_disk(&home),
        _ => panic!("no mode {mode}"),
    }
}

fn write(home: &Home, id: &str, count: u64) {
    let store = Store::open(home).unwrap();
    for seq in 0..count {
        let event = nth(id, seq);
        store.record(&event).unwrap();
        println!("ack {seq}");
        if seq % 16 == 9 {
            let row = store.row(id).unwrap();
            store.add_label(&Label::on(&row, Scope::Plan, LabelValue::Bad)).unwrap();
            println!("label {seq}");
        }
    }
}

/// The event a child writes as number `seq`: small ones, ids, texts in blobs, a few of megabytes.
pub fn nth(id: &str, seq: u64) -> Event {
    let filler = |bytes: usize| format!("{id} {seq} {}", "x".repeat(bytes));
    let body = match seq {
        0 => return started(id, "session", &format!("query of {id}"), Vec::new()),
        _ if seq % 40 == 39 => memory(1, &filler(4 << 20)),
        _ => match seq % 6 {
            1 => Body::TurnStarted { turn: usize::try_from(seq).unwrap() },
            2 => call(1, &filler(800), 300),
            3 => memory(1, &filler(500)),
            4 => memory(1, &filler(200 << 10)),
            _ => Body::LimitReached { limit: filler(500) },
        },
    };
    numbered(id, seq, vec![body]).next().unwrap()
}

pub fn spawn(mode: &str, home: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(CHILD).env("TILLERMAN_CHILD", mode).env("TILLERMAN_HOME", home);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// Kill the children once each has acknowledged `wanted` records, in the middle of the next ones; answers what
/// each acknowledged: (events, labels).
fn kill(mut children: Vec<Child>, wanted: u64) -> Vec<(u64, usize)> {
    let mut outputs: Vec<_> =
        children.iter_mut().map(|child| BufReader::new(child.stdout.take().unwrap())).collect();
    let mut counts = vec![(0, 0); children.len()];
    // Counted in records, not in time: a slow machine is killed at the same places.
    for (output, count) in outputs.iter_mut().zip(&mut counts) {
        while count.0 < wanted {
            assert!(next(output, count), "the child ended by itself");
        }
    }
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    for (output, count) in outputs.iter_mut().zip(&mut counts) {
        while next(output, count) {}
    }
    counts
}

/// Read one line and count it; false at the end.
fn next(output: &mut impl BufRead, (events, labels): &mut (u64, usize)) -> bool {
    let mut line = String::new();
    if output.read_line(&mut line).unwrap() == 0 {
        return false;
    }
    // A line the kill cut short acknowledges nothing.
    match line.strip_suffix('\n').and_then(|line| line.split_once(' ')) {
        Some(("ack", _)) => *events += 1,
        Some(("label", _)) => *labels += 1,
        _ => {}
    }
    true
}

/// Answers (records, labels) acknowledged and found again.
fn rounds(dir: &tempfile::TempDir, count: u64) -> (u64, usize) {
    let mut total = (0, 0);
    drop(open(dir.path()));
    for round in 0..count {
        // Every third time two processes write at once and die together.
        let writers = if round % 3 == 2 { 2 } else { 1 };
        let ids: Vec<String> = (0..writers).map(|n| format!("r{round}-{n}")).collect();
        let children = ids.iter().map(|id| spawn(&format!("write {id}"), dir.path())).collect();
        let wanted = 1 + u64::from(blake3::hash(&round.to_le_bytes()).as_bytes()[0] % 48);
        let acknowledged = kill(children, wanted);

        let store = open(dir.path());
        assert_eq!(store.opened().crashed, writers, "round {round}");
        for (id, (events, labels)) in ids.iter().zip(acknowledged) {
            let read = store.trajectory_events(id).unwrap();
            let found = read.len() as u64;
            // One more may be written than acknowledged: the kill fell between.
            assert!(
                (events..=events + 1).contains(&found),
                "round {round}: {events} acknowledged, {found} read"
            );
            for (seq, event) in (0..).zip(&read) {
                assert!(*event == nth(id, seq), "round {round}: event {seq} of {id} is not what was written");
            }
            let kept = store.labels(id).unwrap().len();
            assert!((labels..=labels + 1).contains(&kept), "round {round}: {labels} labels, {kept} read");
            assert_eq!(store.row(id).unwrap().status, Status::Interrupted);
            store.delete_trajectory(id).unwrap();
            total.0 += events;
            total.1 += labels;
        }
    }
    total
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let (events, labels) = rounds(&quick_dir(), 40);
    println!("40 rounds: {events} events and {labels} labels acknowledged, none lost");
    assert!(events > 200, "the kills came too early to mean anything: {events} events");
}

/// On the disk of TMPDIR; `TILLERMAN_ROUNDS=10000 make drill` for the long one.
#[test]
#[ignore = "minutes; run by make drill"]
fn drill_kill_9() {
    let count = std::env::var("TILLERMAN_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let (events, labels) = rounds(&tempfile::tempdir().unwrap(), count);
    println!("{count} rounds: {events} events and {labels} labels acknowledged, none lost");
}

/// What a record costs, on the disk of TMPDIR.
#[test]
#[ignore = "figures; run by make drill"]
fn drill_record_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.record(&started("id", "s", "q", Vec::new())).unwrap();
    let time = |name: &str, from: u64, make: fn() -> Body| {
        let events: Vec<Event> = numbered("id", from, (0..200).map(|_| make()).collect()).collect();
        let mut micros: Vec<u128> = events
            .iter()
            .map(|event| {
                let began = std::time::Instant::now();
                store.record(event).unwrap();
                began.elapsed().as_micros()
            })
            .collect();
        micros.sort_unstable();
        println!("{name}: median {} us, p95 {} us", micros[100], micros[190]);
    };
    time("small event", 1, || Body::LimitReached { limit: "x".repeat(400) });
    time("model call of 300 ids", 1000, || call(1, "text", 300));
    time("turn end (synced)", 2000, || memory(1, "a result"));
}

#[test]
fn processes_that_write_at_once_lose_nothing() {
    // Not on a disk: where a sync takes seconds, a writer gives up waiting for its turn, as it should.
    let dir = quick_dir();
    // Not even made yet: all of them try to.
    let ids = ["a-1", "b-2", "c-3"];
    let children: Vec<Child> = ids.iter().map(|id| spawn(&format!("finish {id}"), dir.path())).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let store = open(dir.path());
    assert_eq!(store.opened().crashed, 0);
    for id in ids {
        let expected: Vec<Event> = (0..60).map(|seq| nth(id, seq)).collect();
        assert!(store.trajectory_events(id).unwrap() == expected, "{id}");
        assert_eq!(store.labels(id).unwrap().len(), 4);
        assert_eq!(store.row(id).unwrap().status, Status::Interrupted, "no last event was written");
    }
}

#[test]
fn threads_that_write_at_once_lose_nothing() {
    let dir = quick_dir();
    let store = open(dir.path());
    std::thread::scope(|scope| {
        for n in 0..4 {
            let store = &store;
            scope.spawn(move || {
                let id = format!("t-{n}");
                (0..39).for_each(|seq| store.record(&nth(&id, seq)).unwrap());
                assert_eq!(store.trajectory_events(&id).unwrap().len(), 39);
            });
        }
    });
    assert_eq!(store.trajectories(None, 0).unwrap().len(), 4);
}
