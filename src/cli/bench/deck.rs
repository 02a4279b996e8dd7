//! The screen's figures: in process where only drawing counts, else the whole program in a pseudo-terminal.
//!
//! The program is started as a person starts it, on a data directory of its own. "First frame" is the time
//! from its start until its status line has been written to the terminal.

use std::collections::HashMap;
use std::io::{Read as _, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use super::Figure;
use crate::config::Home;
use crate::deck::{bench as screen, demo};
use crate::error::Error;
use crate::flow::event::{Body, Event};
use crate::store::{Store, new_id};

/// Columns and rows of every figure.
const SIZE: (u16, u16) = (200, 50);
/// What the first frame is known by: the program's name on the status line.
const FIRST: &[u8] = b"tillerman";
/// Finished queries that make about 100,000 lines of conversation.
const QUERIES: usize = 10_000;
/// Queries of the long history; each of their three turns holds 48 KB.
const QUERIES_LONG: i64 = 700;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an idle deck is watched.
const IDLE: Duration = Duration::from_secs(10);

fn figure(name: &str, unit: &'static str, values: Vec<f64>) -> Figure {
    Figure { name: format!("deck.{name}"), unit, values }
}

/// Every figure that `wanted` wants, handed to `print` as soon as it is known.
///
/// # Errors
/// The program cannot be started in a pseudo-terminal, or its data cannot be written.
pub fn figures(
    runs: usize,
    wanted: &dyn Fn(&str) -> bool,
    print: &mut dyn FnMut(Figure),
) -> anyhow::Result<()> {
    if wanted("deck.key_to_frame_ms") {
        key_to_frame(runs)?.into_iter().for_each(&mut *print);
    }
    if wanted("deck.bytes_per_token") {
        let bytes = (0..runs).map(|_| screen::bytes_per_token(QUERIES / 10, 500, SIZE));
        print(figure("bytes_per_token", "bytes", bytes.collect::<Result<Vec<_>, Error>>()?));
    }
    let folder = tempfile::tempdir()?;
    if wanted("deck.first_frame_ms") {
        let first = (0..runs).map(|_| Deck::start(folder.path(), None)?.first_frame());
        print(figure("first_frame_ms", "ms", first.collect::<anyhow::Result<Vec<_>>>()?));
    }
    if wanted("deck.resident_mb") {
        print(resident(runs.min(3))?);
    }
    if wanted("deck.idle") {
        idle(folder.path(), runs.min(3))?.into_iter().for_each(&mut *print);
    }
    if wanted("deck.resume_100mb") {
        resume(runs)?.into_iter().for_each(&mut *print);
    }
    Ok(())
}

/// Percentiles of key-to-frame times with a long transcript while text streams, one value per run.
fn key_to_frame(runs: usize) -> anyhow::Result<Vec<Figure>> {
    let (mut middle, mut worst) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let mut times = screen::key_to_frame(QUERIES, 500, SIZE)?;
        times.sort_by(f64::total_cmp);
        let at = |share: usize| times.get(times.len() * share / 100).copied().context("no key was measured");
        middle.push(at(50)?);
        worst.push(at(99)?);
    }
    Ok(vec![figure("key_to_frame_ms_p50", "ms", middle), figure("key_to_frame_ms_p99", "ms", worst)])
}

/// Processor time and bytes written while nothing happens for ten seconds, its engine worker included.
fn idle(home: &Path, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let (mut cpu, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let mut deck = Deck::start(home, None)?;
        deck.first_frame()?;
        deck.settle();
        let (before, bytes_before) = (deck.threads_ns(), deck.bytes());
        std::thread::sleep(IDLE);
        if let (Some(after), Some(before)) = (deck.threads_ns(), before) {
            // Threads that ended meanwhile had nothing to do, or they would not have.
            let ran = after.iter().map(|(id, ns)| ns - before.get(id).unwrap_or(&0).min(ns));
            cpu.push(ran.sum::<u64>() as f64 / 1e6);
        }
        bytes.push((deck.bytes() - bytes_before) as f64);
    }
    Ok(vec![figure("idle_cpu_ms_10s", "ms", cpu), figure("idle_bytes_10s", "bytes", bytes)])
}

/// Resident memory of the deck's own process after a question that searches; its engine worker is another one.
fn resident(runs: usize) -> anyhow::Result<Figure> {
    let folder = tempfile::tempdir()?;
    let mut memory = Vec::new();
    for _ in 0..runs {
        let mut deck = Deck::start(folder.path(), None)?;
        deck.first_frame()?;
        deck.settle();
        deck.ask("What is the population of Peru divided by that of Chile?")?;
        deck.settle();
        memory.extend(deck.memory_mb());
    }
    Ok(figure("resident_mb", "MB", memory))
}

/// First frame on a session of 100 MB, and the deck's resident memory with it.
fn resume(runs: usize) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let (session, megabytes) = history(folder.path())?;
    eprintln!("a history of {megabytes:.0} MB is written");
    let (mut first, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let mut deck = Deck::start(folder.path(), Some(&session))?;
        first.push(deck.first_frame()?);
        deck.settle();
        memory.extend(deck.memory_mb());
    }
    Ok(vec![figure("resume_100mb_ms", "ms", first), figure("resume_100mb_resident_mb", "MB", memory)])
}

/// One session whose events take 100 MB: hundreds of queries, each turn with a long tool result.
fn history(home: &Path) -> anyhow::Result<(String, f64)> {
    let store = Store::open(&Home::open(Some(home))?)?;
    let session = new_id();
    let long = "a line of a long tool result, as a search or a program gives it\n".repeat(760);
    let mut bytes = 0;
    for n in 0..QUERIES_LONG {
        let id = new_id();
        let mut events = demo::events(&id, &format!("question {n}"));
        for Event { body, .. } in &mut events {
            match body {
                Body::Started { session: own, started_ms, .. } => {
                    own.clone_from(&session);
                    *started_ms = 1_790_000_000_000 + n;
                }
                Body::ToolResult { result, .. } => result.text.clone_from(&long),
                _ => {}
            }
        }
        bytes += serde_json::to_vec(&events)?.len();
        store.import(&events)?;
    }
    Ok((session, bytes as f64 / 1e6))
}

/// The program in a pseudo-terminal.
struct Deck {
    child: Box<dyn Child + Send + Sync>,
    writer: Box<dyn Write + Send>,
    _master: Box<dyn MasterPty + Send>,
    started: Instant,
    bytes: Arc<AtomicUsize>,
    shown: Arc<AtomicBool>,
    first_ms: std::sync::mpsc::Receiver<f64>,
}

impl Deck {
    fn start(home: &Path, session: Option<&str>) -> anyhow::Result<Deck> {
        let size = PtySize { cols: SIZE.0, rows: SIZE.1, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).map_err(pty)?;
        let mut command = CommandBuilder::new(super::setup::exe());
        command.arg("--home");
        command.arg(home);
        if let Some(session) = session {
            command.args(["--session", session]);
        }
        command.env("TERM", "xterm-256color");
        let mut reader = pair.master.try_clone_reader().map_err(pty)?;
        let writer = pair.master.take_writer().map_err(pty)?;
        let (bytes, shown) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (sender, first_ms) = std::sync::mpsc::channel();
        let started = Instant::now();
        let child = pair.slave.spawn_command(command).map_err(pty)?;
        let (count, seen) = (bytes.clone(), shown.clone());
        std::thread::spawn(move || {
            let (mut chunk, mut head) = ([0; 65_536], Vec::new());
            while let Ok(n @ 1..) = reader.read(&mut chunk) {
                count.fetch_add(n, Ordering::SeqCst);
                if !seen.load(Ordering::SeqCst) {
                    head.extend_from_slice(&chunk[..n]);
                    if head.windows(FIRST.len()).any(|window| window == FIRST) {
                        seen.store(true, Ordering::SeqCst);
                        let _ = sender.send(started.elapsed().as_secs_f64() * 1e3);
                    }
                }
            }
        });
        Ok(Deck { child, writer, _master: pair.master, started, bytes, shown, first_ms })
    }

    /// Milliseconds from the start to the first frame.
    fn first_frame(&mut self) -> anyhow::Result<f64> {
        self.first_ms
            .recv_timeout(PATIENCE)
            .with_context(|| format!("no first frame within {} s", self.started.elapsed().as_secs()))
    }

    /// Type a query and send it.
    fn ask(&mut self, query: &str) -> anyhow::Result<()> {
        self.writer.write_all(format!("{query}\r").as_bytes())?;
        Ok(self.writer.flush()?)
    }

    /// Wait until nothing has been written or computed for two seconds: the model is loaded, a query is answered,
    /// and the news is shown.
    fn settle(&self) {
        let begun = Instant::now();
        let ran = || self.threads_ns().map_or(0.0, |threads| threads.values().sum::<u64>() as f64 / 1e6);
        let state = || (self.bytes(), ran());
        let (mut last, mut since) = (state(), Instant::now());
        while since.elapsed() < Duration::from_secs(2) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(100));
            let now = state();
            if now.0 != last.0 || now.1 - last.1 > 5.0 {
                (last, since) = (now, Instant::now());
            }
        }
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    /// Processor time in nanoseconds of every thread of the program and its children; only Linux tells.
    fn threads_ns(&self) -> Option<HashMap<u32, u64>> {
        let mut processes = vec![self.child.process_id()?];
        let mut threads = HashMap::new();
        while let Some(id) = processes.pop() {
            let tasks = std::fs::read_dir(format!("/proc/{id}/task")).ok()?;
            for task in tasks.flatten() {
                let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
                let ran = read("schedstat").split(' ').next().and_then(|word| word.parse::<u64>().ok());
                let thread = task.file_name().to_string_lossy().parse::<u32>();
                if let (Ok(thread), Some(ran)) = (thread, ran) {
                    threads.insert(thread, ran);
                }
                processes.extend(read("children").split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
            }
        }
        Some(threads)
    }

    /// The deck's own resident memory; the engine worker holds the model.
    fn memory_mb(&self) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.process_id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<f64>().ok().map(|kb| kb / 1e3)
    }
}

impl Drop for Deck {
    fn drop(&mut self) {
        self.shown.store(true, Ordering::SeqCst);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pty(error: anyhow::Error) -> anyhow::Error {
    error.context("no pseudo-terminal for the program")
}
