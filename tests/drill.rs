//! Engines killed again and again: under the agent loop, where every turn that was begun must be read back, and
//! under the deck, which must answer keys meanwhile. A few kills in the suite, many in `make drill`.
//!
//! TILLERMAN_KILLS sets the kills under the loop (default 1000), TILLERMAN_DECKS the decks (default 20, three
//! kills each, two decks at a time on one data directory).

#![cfg(target_os = "linux")]

#[path = "support/key_times.rs"]
mod key_times;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use key_times::{Key, KeyClock, Sent};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use tillerman::config::Home;
use tillerman::engine::client::{EngineOptions, LlamaEngine};
use tillerman::flow::event::{Body, Event, Sink};
use tillerman::flow::prompt::Pack;
use tillerman::flow::solve::{Ask, Flow, solve};
use tillerman::flow::trajectory::{Limits, Outcome};
use tillerman::store::{Status, Store, StoreSink};
use tillerman::tools::Toolbox;
use tillerman::tools::calculator::Calculator;
use tokio_util::sync::CancellationToken;

/// Long enough for a loaded machine; nothing here waits that long when it passes.
const PATIENCE: Duration = Duration::from_secs(120);
/// The engine leaves a worker alone that died three times within a minute, so a deck takes three kills.
const KILLS_PER_DECK: usize = 3;
const KEYS: usize = 5;

fn count(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Numbers that jump about and are the same in every run.
fn dice(n: usize) -> usize {
    usize::from(u16::from_le_bytes(blake3::hash(&n.to_le_bytes()).as_bytes()[..2].try_into().unwrap()))
}

fn kill(pid: u32) -> bool {
    Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status().is_ok_and(|status| status.success())
}

/// Keeps what it is given and counts it.
#[derive(Default)]
struct Seen {
    events: Mutex<Vec<Event>>,
    count: AtomicUsize,
}

impl Sink for Seen {
    fn record(&self, event: Event) -> Result<(), String> {
        self.events.lock().unwrap().push(event);
        self.count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn flow(engine: Arc<LlamaEngine>) -> Flow {
    Flow {
        engine,
        toolbox: Arc::new(Toolbox { tools: vec![Arc::new(Calculator::new())], refused: Vec::new() }),
        pack: Arc::new(Pack::bundled("compact").unwrap()),
        limits: Limits { turns: 4, seconds: 120, tokens: 4096, result_chars: 500, ..Limits::default() },
        planner_temperature: Some(1.0),
        adapter: None,
        approvals: Arc::default(),
    }
}

/// Kill the worker once the query has recorded `after` events and a little time has gone.
async fn one(store: &Arc<Store>, n: usize) -> (Outcome, usize, usize) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/planner.gguf");
    let exe = PathBuf::from(env!("CARGO_BIN_EXE_tillerman"));
    let options = EngineOptions { exe, threads: Some(1), context: Some(2048), ..EngineOptions::new(model) };
    let engine = Arc::new(LlamaEngine::new(options));
    let seen = Arc::new(Seen::default());
    let sink = Arc::new(StoreSink::new(store.clone()).then(seen.clone()));
    let ask =
        Ask { id: format!("kill-{n}"), query: format!("What is {n}*7+5?"), seed: n as u64, ..Ask::default() };
    let flow = flow(engine.clone());
    let query = tokio::spawn(async move { solve(&flow, &ask, sink, CancellationToken::new()).await });
    let after = dice(n) % 9;
    while !query.is_finished() && (seen.count.load(Ordering::SeqCst) < after || engine.worker_pid().is_none())
    {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    tokio::time::sleep(Duration::from_micros((dice(n + 1_000_000) % 8_000) as u64)).await;
    if let Some(pid) = engine.worker_pid() {
        kill(pid);
    }
    let trajectory = query.await.unwrap();
    engine.shutdown().await;
    // What was shown is what is kept, to the last event.
    let shown = seen.events.lock().unwrap().clone();
    assert_eq!(store.trajectory_events(&trajectory.id).unwrap(), shown, "query {n}");
    assert!(
        shown.last().is_some_and(|event| event.body.is_last()),
        "query {n} has no end: {:?}",
        shown.last()
    );
    assert_ne!(store.row(&trajectory.id).unwrap().status, Status::Running);
    let begun = shown.iter().filter(|event| matches!(event.body, Body::TurnStarted { .. })).count();
    assert_eq!(store.trajectory(&trajectory.id).unwrap().turns.len(), begun, "query {n}: a turn is lost");
    (trajectory.outcome, begun, shown.len())
}

async fn kills(count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&Home::open(Some(folder.path())).unwrap()).unwrap());
    let (mut hit, mut turns, mut events) = (0, 0, 0);
    for n in 0..count {
        let (outcome, begun, shown) = one(&store, n).await;
        match outcome {
            Outcome::Failed { reason, remedy, .. } => {
                assert!(reason.contains("SIGKILL") && !remedy.is_empty(), "{reason}; {remedy}");
                hit += 1;
            }
            Outcome::Answered => {}
            other => panic!("query {n}: {other:?}"),
        }
        (turns, events) = (turns + begun, events + shown);
    }
    println!(
        "{count} engine kills: {hit} in the middle of a query; {turns} turns and {events} events begun, all read back, 0 lost"
    );
    assert!(hit > 0, "no kill met a query");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_engines_lose_no_turn() {
    kills(8).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; run by make drill"]
async fn drill_engine_kills() {
    kills(count("TILLERMAN_KILLS", 1000)).await;
}

/// The deck in a pseudo-terminal, its screen kept up to date as bytes come.
struct Deck {
    writer: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    screen: Arc<Mutex<vt100::Parser>>,
    clock: KeyClock,
    _master: Box<dyn MasterPty + Send>,
}

impl Deck {
    fn start(home: &Path) -> Deck {
        let size = PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_tillerman"));
        command.args(["--home", home.to_str().unwrap(), "--seed", "1"]);
        command.env("TERM", "xterm-256color");
        let clock = KeyClock::of(&mut command);
        let child = pair.slave.spawn_command(command).unwrap();
        let mut reader = pair.master.try_clone_reader().unwrap();
        let screen =
            Arc::new(Mutex::new(vt100::Parser::new(24.try_into().unwrap(), 80.try_into().unwrap(), 0)));
        let sink = screen.clone();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut chunk) {
                sink.lock().unwrap().process(&chunk[..n]);
            }
        });
        let writer = pair.master.take_writer().unwrap();
        Deck { writer, child, screen, clock, _master: pair.master }
    }

    fn shows(&self, what: &str) -> bool {
        self.screen.lock().unwrap().screen().contents().contains(what)
    }

    fn wait(&self, what: &str, holds: impl Fn() -> bool) {
        let started = Instant::now();
        while !holds() {
            let screen = || self.screen.lock().unwrap().screen().contents();
            assert!(started.elapsed() < PATIENCE, "never came: {what}\n{}", screen());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn send(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).unwrap();
        self.writer.flush().unwrap();
    }

    fn worker(&self) -> Option<u32> {
        let pid = self.child.process_id()?;
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let children =
            tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let pids: Vec<u32> = children
            .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
            .collect();
        pids.into_iter().find(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.windows(8).any(|w| w == b"__engine"))
        })
    }

    /// Type one key after another and see each on the screen.
    fn keys(&mut self, draft: &mut String, times: &mut Vec<Key>) {
        let pid = self.child.process_id().unwrap();
        for key in "qwxyz".chars().cycle().skip(draft.len()).take(KEYS) {
            draft.push(key);
            let sent = Sent::now(pid);
            self.send(&key.to_string());
            let wanted = format!("> {draft}");
            self.wait(&wanted, || self.shows(&wanted));
            let all = sent.since();
            times.push(self.clock.key(&sent, all, PATIENCE));
        }
    }

    fn end(mut self) {
        self.send("\u{3}\u{3}\u{3}");
        let started = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < PATIENCE, "the deck does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether a query is recorded, and whether it has ended, as another process sees it.
fn recorded(home: &Path, query: &str) -> (bool, bool) {
    let database = home.join("tillerman.db");
    let look = || -> rusqlite::Result<String> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = rusqlite::Connection::open_with_flags(&database, flags)?;
        connection.busy_timeout(PATIENCE)?;
        connection.query_row("SELECT status FROM trajectories WHERE query = ?1", [query], |row| row.get(0))
    };
    match look() {
        Ok(status) => (true, status != "running"),
        Err(_) => (false, false),
    }
}

/// One deck: ask, kill, type, three times over; then the end.
fn deck(home: &Path, n: usize, asked: &AtomicUsize) -> Vec<Key> {
    let mut deck = Deck::start(home);
    deck.wait("the deck", || deck.shows("ask something"));
    deck.wait("the model", || deck.shows("tillerman-embedded"));
    let mut times = Vec::new();
    for round in 0..KILLS_PER_DECK {
        let mut draft = String::new();
        let query = format!("What is {n} times {round}?");
        deck.send(&format!("{query}\r"));
        asked.fetch_add(1, Ordering::SeqCst);
        deck.wait("the query's first record", || recorded(home, &query).0);
        std::thread::sleep(Duration::from_millis((dice(n * 10 + round) % 120) as u64));
        if let Some(worker) = deck.worker() {
            kill(worker);
        }
        deck.keys(&mut draft, &mut times);
        deck.wait("the query's end", || recorded(home, &query).1);
        // The draft goes; the next query is asked in an empty line.
        deck.send(&"\u{7f}".repeat(draft.len()));
        deck.wait("an empty line", || !deck.shows(&format!("> {draft}")));
    }
    deck.end();
    times
}

fn decks(count: usize, at_once: usize) {
    let (mut times, mut queries) = (Vec::new(), 0);
    for first in (0..count).step_by(at_once) {
        let folder = tempfile::tempdir().unwrap();
        let asked = AtomicUsize::new(0);
        let runs: Vec<Vec<Key>> = std::thread::scope(|scope| {
            let (folder, asked) = (folder.path(), &asked);
            let running: Vec<_> = (first..count.min(first + at_once))
                .map(|n| scope.spawn(move || deck(folder, n, asked)))
                .collect();
            running.into_iter().map(|run| run.join().unwrap()).collect()
        });
        times.extend(runs.into_iter().flatten());
        let store = Store::open(&Home::open(Some(folder.path())).unwrap()).unwrap();
        let rows = store.trajectories(None, 0).unwrap();
        assert_eq!(rows.len(), asked.load(Ordering::SeqCst), "a query is lost");
        for row in &rows {
            assert!(matches!(row.status, Status::Answered | Status::Failed), "{row:?}");
            let events = store.trajectory_events(&row.id).unwrap();
            assert!(events.last().is_some_and(|event| event.body.is_last()));
        }
        queries += rows.len();
    }
    println!(
        "{queries} engine kills under {count} decks, {at_once} at a time: {} keys on the screen, 0 queries lost",
        times.len()
    );
    key_times::tell(&times);
}

#[test]
fn a_deck_answers_keys_while_its_engine_dies() {
    decks(1, 1);
}

#[test]
#[ignore = "minutes; run by make drill"]
fn drill_deck_kills() {
    let stolen = key_times::stolen();
    decks(count("TILLERMAN_DECKS", 20), 2);
    println!("  the machine meanwhile: {}", key_times::machine(&stolen));
}
