//! Sampling and training never at the same time, and a step that is stopped by its key: on the real program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tillerman::config::Home;
use tillerman::engine::cores::Cores;

use super::Terminal;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

pub(super) fn shown(terminal: &Terminal) -> String {
    terminal.screen().screen().contents()
}

/// The process below `ancestor` whose arguments hold `word`.
fn below(ancestor: u32, word: &str) -> Option<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let is_below = |pid: u32| std::iter::successors(Some(pid), |pid| parent(*pid)).any(|pid| pid == ancestor);
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    pids.filter(|pid| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    })
    .find(|pid| is_below(*pid))
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

fn adapters(home: &Path) -> String {
    let list = ["--home", home.to_str().unwrap(), "adapters", "list", "--json"];
    let listed = Command::new(env!("CARGO_BIN_EXE_tillerman")).args(list).output().unwrap();
    String::from_utf8_lossy(&listed.stdout).into_owned()
}

pub(super) fn began(home: &Path) -> Terminal {
    std::fs::write(home.join("config.toml"), "[engine]\nthreads = 1\nshipped_adapter = false\n").unwrap();
    let terminal = Terminal::of(&["--home", home.to_str().unwrap(), "--seed", "1"], &[]);
    terminal.wait_for("tillerman-embedded");
    terminal
}

/// A question rolled out, in the groups tab.
pub(super) fn rolled(terminal: &mut Terminal) {
    terminal.type_text("What is 37*41+5?\r");
    terminal.wait_for(" tokens");
    terminal.type_text("\u{1b}g");
    terminal.type_text("\u{1b}OR");
    terminal.wait_for("8 of 8 rollouts ended");
}

/// One of its answers called bad and another good.
fn labelled(terminal: &mut Terminal) {
    rolled(terminal);
    for key in ["-", "+"] {
        terminal.type_text(key);
        // Letters that follow each other at once are a sentence.
        std::thread::sleep(Duration::from_millis(400));
    }
    terminal.wait_until("contrast", |terminal| !shown(terminal).contains("no contrast"));
}

/// Whoever has the cores here stands for another process that trains.
#[test]
fn a_query_waits_for_a_step_in_sight_and_can_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = began(folder.path());
    let cores = Cores::of(&Home::open(Some(folder.path())).unwrap());
    let step = block_on(cores.alone(&|| ()));
    terminal.type_text("What is 6 times 7?\r");
    terminal.wait_for("waits for the training step to end");
    // It counts, and the keys are live.
    terminal.wait_for("(F4 shows it) · 1 s");
    terminal.type_text("\u{1b}");
    terminal.wait_for("cancelled before anything ran");
    terminal.type_text("What is 7 times 8?\r");
    terminal.wait_until("that one waits too", |terminal| {
        let contents = shown(terminal);
        contents.rsplit_once("7 times 8?").is_some_and(|(_, after)| after.contains("waits for the training"))
    });
    terminal.type_text("/model /nowhere/at/all.gguf\r");
    terminal.wait_for("another process trains on this data directory");
    drop(step);
    terminal.wait_until("an answer once the step has ended", |terminal| {
        shown(terminal).rsplit_once("7 times 8?").is_some_and(|(_, after)| after.contains(" tokens"))
    });
    assert_eq!(terminal.leave(), 0);
    terminal.assert_restored();
}

/// A step waits for what samples; while it computes queries wait; its key ends it with its worker, nothing has changed,
/// and the same group trains the next one.
#[test]
fn a_step_is_stopped_by_its_key_and_can_be_taken_again() {
    let folder = tempfile::tempdir().unwrap();
    let home: PathBuf = folder.path().to_path_buf();
    let mut terminal = began(&home);
    labelled(&mut terminal);
    let deck = terminal.child.process_id().unwrap();
    let cores = Cores::of(&Home::open(Some(&home)).unwrap());
    let sampling = block_on(cores.share(&|| ()));
    terminal.type_text("t");
    terminal.wait_for("t once more");
    terminal.type_text("\r");
    terminal.wait_for("waits for queries, rollouts or another step");
    assert_eq!(below(deck, "__train"), None, "nothing computes yet");
    drop(sampling);
    terminal.wait_until("the step's worker", |_| below(deck, "__train").is_some());
    let worker = below(deck, "__train").unwrap();
    // Held in the middle of its work, however fast the machine.
    signal(worker, "STOP");
    terminal.type_text("\u{1b}OP");
    terminal.type_text("What is 6 times 7?\r");
    terminal.wait_for("waits for the training step to end");
    terminal.type_text("/model /nowhere/at/all.gguf\r");
    terminal.wait_for("a step is under way");
    terminal.type_text("\u{1b}OS");
    terminal.wait_for("F4 training");
    terminal.type_text("s");
    terminal.wait_for("s once more");
    terminal.type_text("\r");
    terminal.wait_for("the step: stopped; what planned before goes on");
    signal(worker, "CONT");
    let gone = format!("/proc/{worker}");
    terminal.wait_until("the end of the worker", |_| !Path::new(&gone).exists());
    assert_eq!(below(deck, "train"), None, "nor does the step's own process go on");
    assert_eq!(adapters(&home), "", "nothing was made");
    // What waited for it is answered, by what planned before.
    terminal.type_text("\u{1b}OP");
    terminal.wait_until("an answer", |terminal| {
        shown(terminal).rsplit_once("6 times 7?").is_some_and(|(_, after)| after.contains(" tokens"))
    });
    terminal.type_text("\u{1b}OR");
    terminal.wait_for("8 of 8 rollouts ended");
    terminal.type_text("t");
    terminal.wait_for("t once more");
    terminal.type_text("\r");
    terminal.wait_for("asked of both");
    assert_eq!(adapters(&home).lines().count(), 1);
    assert_eq!(terminal.leave(), 0);
    terminal.assert_restored();
}
