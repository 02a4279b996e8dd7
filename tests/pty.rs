//! The deck in a real pseudo-terminal: whatever ends it, the terminal is as it was before.

#![cfg(unix)]

#[cfg(target_os = "linux")]
#[path = "pty/better.rs"]
mod better;
#[cfg(target_os = "linux")]
#[path = "pty/cores.rs"]
mod cores;
#[path = "support/terminal.rs"]
mod terminal;

use std::process::Command;
use std::time::Duration;

use portable_pty::PtySize;
use terminal::Terminal;

fn ready() -> Terminal {
    let terminal = Terminal::start(&[]);
    terminal.wait_for("ask something");
    terminal
}

#[test]
fn quitting_restores_the_terminal_and_says_farewell() {
    let mut terminal = ready();
    assert!(terminal.screen().screen().alternate_screen());
    terminal.type_text("hello\r");
    terminal.wait_for("812 tokens");
    terminal.type_text("+");
    terminal.wait_for("(good)");
    terminal.type_text("\u{4}");
    assert_eq!(terminal.end(), 0);
    terminal.assert_restored();
    terminal.wait_for("nothing was kept");
}

#[test]
fn signals_restore_the_terminal() {
    for signal in ["TERM", "HUP", "INT"] {
        let mut terminal = ready();
        terminal.type_text("long\r");
        terminal.wait_for("quick brown fox");
        terminal.signal(signal);
        assert_eq!(terminal.end(), 130, "SIG{signal}");
        terminal.assert_restored();
    }
}

#[test]
fn a_panic_in_the_deck_restores_the_terminal_before_it_is_printed() {
    let mut terminal = ready();
    terminal.type_text("crash\r");
    terminal.end();
    terminal.assert_restored();
    terminal.wait_for("the demo was asked to crash");
}

#[test]
fn a_panic_elsewhere_is_told_and_survived() {
    let mut terminal = ready();
    terminal.type_text("panic\r");
    terminal.wait_for("a part of the program crashed");
    terminal.wait_for("812 tokens");
    terminal.type_text("\u{4}");
    assert_eq!(terminal.end(), 0);
    terminal.assert_restored();
}

#[test]
fn suspended_and_brought_back() {
    let mut terminal = ready();
    terminal.type_text("some text\u{1a}");
    let stat = format!("/proc/{}/stat", terminal.child.process_id().unwrap());
    let stopped = |_: &Terminal| std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "));
    if std::path::Path::new(&stat).exists() {
        terminal.wait_until("the stop", stopped);
    }
    terminal.wait_until("the main screen", |terminal| !terminal.screen().screen().alternate_screen());
    terminal.assert_restored();
    terminal.signal("CONT");
    terminal.wait_for("> some text");
    assert!(terminal.screen().screen().alternate_screen());
    terminal.type_text("\u{3}\u{3}\u{3}");
    assert_eq!(terminal.end(), 0);
    terminal.assert_restored();
}

#[test]
fn a_sentence_typed_on_another_tab_is_in_the_input_and_did_nothing() {
    let mut terminal = ready();
    terminal.type_text("\u{1b}OS");
    terminal.wait_for("F4 training");
    // All at once, as a slow line delivers it; its first letter alone would ask for a step.
    terminal.type_text("train until both are right");
    terminal.wait_for("> train until both are right");
    terminal.wait_for("F4 leads back to training");
    terminal.type_text("\u{1b}OS");
    terminal.wait_for("F4 training");
    terminal.type_text("y");
    terminal.wait_for("y does nothing here");
    terminal.type_text("\u{3}\u{3}\u{3}");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn resizing_redraws_at_the_new_size() {
    let mut terminal = ready();
    let size = PtySize { rows: 12, cols: 60, pixel_width: 0, pixel_height: 0 };
    terminal.master.resize(size).unwrap();
    terminal.wait_until("a frame of 12 rows", |terminal| {
        let contents = terminal.screen().screen().contents();
        contents.lines().nth(10).is_some_and(|line| line.starts_with("> ask something"))
    });
    terminal.type_text("\u{4}");
    assert_eq!(terminal.end(), 0);
    terminal.assert_restored();
}

/// Ten thousand changes of size with keys between them: every key arrives without another one to wake the deck,
/// and the last size is the one that is drawn.
#[test]
fn a_storm_of_resizes_is_survived() {
    let mut terminal = ready();
    terminal.type_text("typed before ");
    let size = |cols, rows| PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
    for n in 0..10_000u16 {
        // Every change of size is a SIGWINCH.
        terminal.master.resize(size(40 + n % 161, 12 + n % 39)).unwrap();
        if n % 100 == 0 {
            terminal.type_text("x");
        }
    }
    terminal.master.resize(size(80, 24)).unwrap();
    terminal.type_text(" typed after");
    // Without blanks: the query is broken over two rows.
    let whole = format!("typedbefore{}typedafter", "x".repeat(100));
    terminal.type_text("\r");
    terminal.wait_for("812 tokens");
    terminal.wait_until("all that was typed", |terminal| {
        let contents = terminal.screen().screen().contents();
        let shown: String = contents.chars().filter(|c| !c.is_whitespace() && *c != '│').collect();
        shown.contains(&whole)
    });
    terminal.type_text("\u{3}\u{3}\u{3}");
    assert_eq!(terminal.end(), 0);
    terminal.assert_restored();
}

#[test]
fn the_editor_gets_the_terminal_and_gives_it_back() {
    let mut terminal = Terminal::start(&[("VISUAL", ""), ("EDITOR", "sed -i s/draft/edited/")]);
    terminal.wait_for("ask something");
    terminal.type_text("a draft");
    terminal.wait_for("> a draft");
    terminal.type_text("\u{1b}e");
    terminal.wait_for("> a edited");
    assert!(terminal.screen().screen().alternate_screen());
    terminal.type_text(" and more");
    terminal.wait_for("> a edited and more");
    terminal.type_text("\u{3}\u{3}\u{3}");
    assert_eq!(terminal.end(), 0);
    terminal.assert_restored();
}

#[test]
fn the_mouse_is_taken_and_given_back() {
    let mut terminal = ready();
    terminal.type_text("\u{1b}[24~");
    terminal.wait_until("mouse events", |terminal| {
        terminal.screen().screen().mouse_protocol_mode() != vt100::MouseProtocolMode::None
    });
    // Dragged over the first words of the conversation, which then go to the terminal's clipboard.
    terminal.type_text("\u{1b}[<0;3;3M\u{1b}[<32;20;3M");
    terminal.type_text("\u{1b}[<0;20;3m");
    terminal.wait_until("a copy", |terminal| terminal.raw().windows(7).any(|bytes| bytes == b"\x1b]52;c;"));
    terminal.wait_for("sent to the terminal's clipboard");
    terminal.signal("TERM");
    assert_eq!(terminal.end(), 130);
    terminal.assert_restored();
}

/// The whole program on the embedded planner: its worker ends by either signal, before a query and at moments of it.
/// That query ends one way or the other, the one after it is answered, and the terminal is as it was.
#[cfg(target_os = "linux")]
#[test]
fn the_death_of_the_worker_leaves_the_deck_standing() {
    let last = |terminal: &Terminal, query: &str| {
        let contents = terminal.screen().screen().contents();
        contents.rsplit_once(query).map(|(_, after)| after.to_string()).unwrap_or_default()
    };
    let moments = [None, Some(0), Some(40), Some(90), Some(180)].into_iter();
    for (signal, moment) in moments.flat_map(|moment| [("KILL", moment), ("ABRT", moment)]) {
        let home = tempfile::tempdir().unwrap();
        let mut terminal = Terminal::of(&["--home", home.path().to_str().unwrap(), "--seed", "1"], &[]);
        terminal.wait_for("ask something");
        terminal.wait_for("tillerman-embedded");
        let pid = terminal.child.process_id().unwrap();
        terminal.wait_until("a worker", |_| worker_of(pid).is_some());
        let first = worker_of(pid).unwrap();
        if let Some(wait_ms) = moment {
            terminal.type_text("What is 6 times 7?\r");
            std::thread::sleep(Duration::from_millis(wait_ms));
        }
        assert!(Command::new("kill").args(["-s", signal, &first.to_string()]).status().unwrap().success());
        terminal.wait_until("the end of the worker", |_| worker_of(pid) != Some(first));
        if moment.is_none() {
            terminal.type_text("What is 6 times 7?\r");
        }
        terminal.wait_until("an end of the query", |terminal| {
            let told = last(terminal, "6 times 7?");
            told.contains(" tokens") || told.contains("failed:")
        });
        terminal.type_text("What is 7 times 8?\r");
        terminal
            .wait_until("an answer to the next", |terminal| last(terminal, "7 times 8?").contains(" tokens"));
        terminal.type_text("still typing");
        terminal.wait_for("> still typing");
        terminal.type_text("\u{3}\u{3}\u{3}");
        assert_eq!(terminal.end(), 0);
        terminal.assert_restored();
    }
}

/// `/model` serves another file; one that cannot be used is refused and what served goes on.
#[cfg(target_os = "linux")]
#[test]
fn a_model_is_changed_and_a_bad_one_refused() {
    let home = tempfile::tempdir().unwrap();
    let bad = home.path().join("bad.gguf");
    std::fs::write(&bad, b"GGUF and nothing more").unwrap();
    let mut terminal = Terminal::of(&["--home", home.path().to_str().unwrap(), "--seed", "1"], &[]);
    terminal.wait_for("ask something");
    terminal.wait_until("the model's name", |terminal| {
        terminal.screen().screen().contents().contains("tillerman-embedded")
    });
    terminal.type_text(&format!("/model {}\r", bad.display()));
    terminal.wait_for("the model stays as it was");
    let models = std::fs::read_dir(home.path().join("models")).unwrap();
    let shipped = models.flatten().map(|entry| entry.path()).find(|path| path.extension().unwrap() == "gguf");
    let other = home.path().join("other.gguf");
    std::fs::copy(shipped.unwrap(), &other).unwrap();
    let pid = terminal.child.process_id().unwrap();
    terminal.wait_until("a worker", |_| worker_of(pid).is_some());
    let first = worker_of(pid);
    terminal.type_text(&format!("/model {}\r", other.display()));
    terminal.wait_for("serves until you leave");
    // The one before may take its time to go.
    terminal.wait_until("another worker", |_| worker_of(pid).is_some_and(|worker| Some(worker) != first));
    terminal.type_text("What is 6 times 7?\r");
    terminal.wait_for(" tokens");
    terminal.type_text("\u{3}\u{3}\u{3}");
    assert_eq!(terminal.end(), 0);
    terminal.assert_restored();
}

/// The settings name a model that is gone: what could serve instead is listed, and a key lets it.
#[cfg(target_os = "linux")]
#[test]
fn without_its_model_the_deck_offers_others() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("config.toml"), "[engine]\nmodel = \"gone.gguf\"\n").unwrap();
    let mut terminal = Terminal::of(&["--home", home.path().to_str().unwrap(), "--seed", "1"], &[]);
    // The path before it is long: the words are broken.
    terminal.wait_for("Here: F5");
    terminal.type_text("\u{1b}[15~");
    // Its row and, while it is selected, its path.
    terminal.wait_for("models/planner-");
    terminal.type_text("\r");
    terminal.type_text("\u{1b}OP");
    terminal.wait_for("serves until you leave");
    terminal.type_text("What is 6 times 7?\r");
    terminal.wait_for(" tokens");
    terminal.type_text("\u{3}\u{3}\u{3}");
    assert_eq!(terminal.end(), 0);
    terminal.assert_restored();
}

/// Every question of an evaluation is reached from the list, and the one that is looked at says what was right.
#[test]
fn an_evaluation_is_opened_by_keys() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().to_str().unwrap();
    let tasks = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/tasks/gate.jsonl");
    let eval =
        ["--home", home, "--seed", "5", "eval", "--tasks", tasks, "--family", "lookup", "--limit", "5"];
    let ran = Command::new(env!("CARGO_BIN_EXE_tillerman")).args(eval).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut terminal = Terminal::of(&["--home", home], &[]);
    terminal.wait_for("ask something");
    terminal.type_text("\u{1b}OQ");
    terminal.wait_for("eval gate.jsonl  5 queries");
    terminal.type_text("\r");
    terminal.wait_for("eval gate.jsonl · 5 queries");
    terminal.type_text("\u{1b}[F\r");
    terminal.wait_for("Alt+Up Alt+Down query");
    terminal.type_text("\u{1b}[1;3A");
    terminal.wait_for("  end  ");
    terminal.type_text("\u{1b}");
    terminal.wait_for("eval gate.jsonl · 5 queries");
    terminal.type_text("o");
    terminal.wait_for("only what went wrong");
    terminal.type_text("\u{4}");
    assert_eq!(terminal.end(), 0);
    terminal.assert_restored();
}

/// What plans here is what is marked, whatever the store's current adapter is; a move is told and taken back.
#[test]
fn an_adapter_is_moved_and_brought_back_by_keys() {
    let home = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::of(&["--home", home.path().to_str().unwrap(), "--adapter", "none"], &[]);
    terminal.wait_for("tillerman-embedded");
    terminal.type_text("\u{1b}OS");
    terminal.wait_for("none plans now");
    terminal.type_text("\r");
    terminal.wait_for("plans now; u brings no adapter back");
    terminal.wait_for("* plans now");
    terminal.type_text("u");
    terminal.wait_for("no adapter plans now; u brings adapter");
    terminal.type_text("\u{4}");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn a_query_is_cancelled_by_a_key() {
    let mut terminal = ready();
    terminal.type_text("long query\r");
    terminal.wait_for("Esc cancel");
    terminal.type_text("\u{1b}");
    terminal.wait_for("Up brings the query back");
    terminal.type_text("again\r");
    terminal.wait_for("812 tokens");
    terminal.type_text("\u{4}");
    assert_eq!(terminal.end(), 0);
    terminal.assert_restored();
}

/// The line after the end names the session one was in last, and none where nothing was kept in it.
#[test]
fn the_farewell_names_the_session_of_the_last_query() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().to_str().unwrap();
    let left = |queries: &[&str]| {
        let mut terminal = Terminal::of(&["--home", home, "--seed", "1"], &[]);
        terminal.wait_for("tillerman-embedded");
        for (n, query) in queries.iter().enumerate() {
            if n > 0 {
                terminal.type_text("\u{e}");
                terminal.wait_for("a new conversation begins here");
            }
            terminal.type_text(&format!("{query}\r"));
            terminal.wait_until("no query that runs", |terminal| {
                terminal.screen().screen().contents().matches(" tokens · ").count() == n + 1
            });
        }
        terminal.type_text("\u{4}");
        assert_eq!(terminal.end(), 0);
        terminal.assert_restored();
        let text = String::from_utf8_lossy(&terminal.raw()).into_owned();
        let named = text.split("this session: tillerman ").nth(1).map(|rest| rest.lines().next().unwrap());
        named.map(|line| line.trim().rsplit(' ').next().unwrap().to_string())
    };
    assert_eq!(left(&[]), None, "nothing was asked");
    let named = left(&["What is 6*7?", "What is 5+5?"]).expect("a session that was kept");
    let listed = ["--home", home, "sessions", "--session", &named];
    let listed = Command::new(env!("CARGO_BIN_EXE_tillerman")).args(listed).output().unwrap();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.contains("5+5") && !text.contains("6*7"), "{text}");
}

/// Rollouts under way are stopped by a key that asks once; those that have ended are kept.
#[test]
fn rollouts_are_stopped_by_a_key() {
    let home = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::of(&["--home", home.path().to_str().unwrap(), "--seed", "1"], &[]);
    terminal.wait_for("tillerman-embedded");
    terminal.type_text("What is the capital of Peru?\r");
    terminal.wait_for("tokens");
    terminal.type_text("/roll 64\r");
    terminal.wait_for("s stop");
    terminal.type_text("s");
    terminal.wait_for("s once more");
    terminal.type_text("s");
    terminal.wait_for("stopping the rollouts");
    // The next key brings the hints back.
    terminal.type_text("\u{1b}[D");
    terminal.wait_until("the end of the rollouts", |terminal| {
        let contents = terminal.screen().screen().contents();
        contents.contains("+ good") && !contents.contains("s stop")
    });
    assert!(!terminal.screen().screen().contents().contains("64 of 64"), "stopped before the last");
    terminal.type_text("\u{4}");
    assert_eq!(terminal.end(), 0);
    terminal.assert_restored();
}

/// An MCP server of the settings is looked at, refused, looked at again and allowed, all from the deck.
#[cfg(target_os = "linux")]
#[test]
fn a_server_joins_by_a_key() {
    let home = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/server.py");
    let words = ["python3", script, home.path().to_str().unwrap(), "plain"];
    let settings = format!("[mcp.notes]\ncommand = {words:?}\n");
    std::fs::write(home.path().join("config.toml"), settings).unwrap();
    let pin = home.path().join("mcp/notes.json");
    let mut terminal = Terminal::of(&["--home", home.path().to_str().unwrap(), "--seed", "1"], &[]);
    terminal.wait_for("/approve notes");
    for (key, told) in [("n", "nothing was approved"), ("y", "from the next query on: notes__")] {
        terminal.type_text("/approve\r");
        terminal.wait_for("allow the MCP server notes?");
        assert!(!pin.exists(), "shown is not approved");
        // Keys typed ahead are dropped for a moment.
        std::thread::sleep(Duration::from_millis(500));
        // It is longer than the screen: what stands below is read before a key consents to it.
        while key == "y" && !terminal.screen().screen().contents().contains("y allow it") {
            assert!(!pin.exists(), "read to its end first");
            terminal.type_text("\u{1b}[B");
            std::thread::sleep(Duration::from_millis(20));
        }
        terminal.type_text(key);
        terminal.wait_for(told);
        terminal.wait_until("the dialog gone", |terminal| {
            !terminal.screen().screen().contents().contains("allow the MCP server")
        });
    }
    assert!(pin.exists());
    terminal.type_text("/approve\r");
    terminal.wait_for("none waits");
    terminal.type_text("\u{3}\u{3}\u{3}");
    assert_eq!(terminal.end(), 0);
    terminal.assert_restored();
}

/// The engine worker among the children of `pid`.
#[cfg(target_os = "linux")]
fn worker_of(pid: u32) -> Option<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let children =
        tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let mut pids = children
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>());
    pids.find(|child| {
        std::fs::read_to_string(format!("/proc/{child}/cmdline")).is_ok_and(|line| line.contains("__engine"))
    })
}

#[test]
fn no_color_leaves_the_colours_out_and_keeps_the_weight() {
    let mut terminal = Terminal::start(&[("NO_COLOR", "1")]);
    terminal.wait_for("ask something");
    terminal.type_text("hello\r");
    terminal.wait_for("812 tokens");
    let text = String::from_utf8_lossy(&terminal.raw()).into_owned();
    let (parser, default) = (terminal.screen(), vt100::Color::Default);
    let cells = (0..24).flat_map(|row| (0..80).map(move |column| (row, column)));
    let cells: Vec<_> = cells.filter_map(|(row, column)| parser.screen().cell(row, column)).collect();
    assert!(cells.iter().any(|cell| cell.contents() == "8"), "the screen is read");
    assert!(cells.iter().all(|cell| (cell.fgcolor(), cell.bgcolor()) == (default, default)), "colours");
    assert!(text.contains("\u{1b}[1m"), "bold is gone as well");
    terminal.type_text("\u{4}");
    terminal.end();
    terminal.assert_restored();
}

#[test]
fn a_megabyte_of_paste_does_not_hang() {
    let mut terminal = ready();
    terminal.type_text("\u{1b}[200~");
    for _ in 0..1024 {
        terminal.type_text(&"0123456789abcdef".repeat(64));
    }
    terminal.type_text("\u{1b}[201~");
    terminal.wait_for("[pasted 1.0 MiB]");
    terminal.type_text("\r");
    terminal.wait_for("and 1022.0 KiB more");
    terminal.wait_for("812 tokens");
    terminal.type_text("\u{4}");
    assert_eq!(terminal.end(), 0);
    terminal.assert_restored();
}

#[test]
fn an_idle_deck_writes_nothing() {
    let mut terminal = ready();
    // A deck that draws without need never has a quiet second; a slow start only puts it off.
    terminal.wait_until("a quiet second", |terminal| {
        let before = terminal.raw().len();
        std::thread::sleep(Duration::from_secs(1));
        terminal.raw().len() == before
    });
    terminal.type_text("\u{4}");
    terminal.end();
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_tillerman")).arg("__deck-demo").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("tillerman ask"));
}

/// A person's path by keys alone, on the real program: a question rolled out eight times, its answers labelled, a step,
/// the gate's word, the adapter live, and the next question answered with it. Prints how long from the last label.
#[test]
fn a_person_teaches_the_planner_by_keys_alone() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("config.toml"), "[engine]\nthreads = 1\nshipped_adapter = false\n")
        .unwrap();
    let mut terminal = Terminal::of(&["--home", home.path().to_str().unwrap(), "--seed", "1"], &[]);
    terminal.wait_for("tillerman-embedded");
    terminal.type_text("What is 12*12+7*3?\r");
    terminal.wait_for(" tokens");
    terminal.type_text("\u{1b}g");
    terminal.type_text("\u{1b}OR");
    terminal.wait_for("8 of 8 rollouts ended");
    // One word per answer, each by itself: letters that follow each other at once are a sentence, not keys.
    let shown = |terminal: &Terminal| terminal.screen().screen().contents();
    // A good one makes the others bad.
    for key in ["-", "+"] {
        terminal.type_text(key);
        std::thread::sleep(Duration::from_millis(400));
    }
    let started = std::time::Instant::now();
    terminal.wait_until("contrast", |terminal| !shown(terminal).contains("no contrast"));
    terminal.type_text("t");
    terminal.wait_for("t once more");
    terminal.type_text("\r");
    terminal.wait_for("F4 training");
    terminal.wait_for("asked of both");
    let judged = started.elapsed();
    if !shown(&terminal).contains("* plans now") {
        terminal.type_text("\r");
        terminal.wait_until("it plans", |terminal| {
            shown(terminal).contains("plans now; u brings") || shown(terminal).contains("once more")
        });
        if !shown(&terminal).contains("plans now; u brings") {
            terminal.type_text("\r");
            terminal.wait_for("plans now; u brings");
        }
    }
    println!(
        "label to the gate's word {:.2} s, to the live adapter {:.2} s",
        judged.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    terminal.type_text("\u{1b}OP");
    terminal.type_text("What is 12*12+8*3?\r");
    terminal.wait_until("an answer with it", |terminal| {
        let contents = shown(terminal);
        contents.rsplit_once("12*12+8*3?").is_some_and(|(_, after)| after.contains(" tokens"))
    });
    terminal.type_text("\u{4}");
    assert_eq!(terminal.end(), 0);
    terminal.assert_restored();
    let list = ["--home", home.path().to_str().unwrap(), "adapters", "list", "--json"];
    let listed = Command::new(env!("CARGO_BIN_EXE_tillerman")).args(list).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert!(listed.contains("\"current\":true"), "{listed}");
}
