//! The screens that show what was recorded, by keys: inside a trajectory, sessions, replay, comparison.
//! As in `tests`: keys and events in, screens out.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::tests::{Deck, QUERY, each_size, snapshot};
use crate::deck::app::{Effect, Input};
use crate::deck::demo;
use crate::deck::library::{
    LibraryCommand, LibraryEvent, Recording, Score, SessionLine, Spelled, TrajectoryLine,
};
use crate::deck::message::{DeckCommand, DeckEvent};
use crate::deck::tab::TabName;
use crate::deck::transcript::Transcript;

pub(super) fn send(deck: &mut Deck, event: LibraryEvent) {
    deck.input(Input::Deck(Box::new(DeckEvent::Library(event))));
}

fn alt(deck: &mut Deck, c: char) {
    deck.input(Input::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::ALT)));
}

pub(super) fn recording(id: &str, query: &str) -> Recording {
    let mut recording = Recording::of(demo::events(id, query));
    recording.spelled = recording
        .calls()
        .map(|call| {
            let text = &call.completion.text;
            let mut completion: Vec<String> = text.split_inclusive(' ').map(String::from).collect();
            completion.resize(call.completion.completion_ids.len(), "<|im_end|>".to_string());
            let prompt = "<|im_start|>system\nYou plan.<|im_end|>\n<|im_start|>user\nA question.<|im_end|>\n";
            Spelled { prompt: prompt.to_string(), completion }
        })
        .collect();
    recording
}

pub(super) fn looked_into(size: (u16, u16), key: char) -> Deck {
    let mut deck = Deck::answered(size, QUERY);
    deck.press(KeyCode::Char('['));
    alt(&mut deck, key);
    let asked = LibraryCommand::Open { trajectory: "t-1".to_string() };
    assert_eq!(deck.effects.pop(), Some(Effect::Command(DeckCommand::Library(asked))));
    send(&mut deck, LibraryEvent::Opened(Box::new(recording("t-1", QUERY))));
    deck
}

#[test]
fn model_calls() {
    each_size("inside_calls", |size| looked_into(size, 'm'));
}

#[test]
fn token_view() {
    each_size("inside_tokens", |size| {
        let mut deck = looked_into(size, 't');
        deck.press(KeyCode::Right).press(KeyCode::Right);
        deck
    });
}

#[test]
fn timeline() {
    each_size("inside_time", |size| looked_into(size, 's'));
}

#[test]
fn a_pane_on_the_whole_screen_and_back() {
    let mut deck = looked_into((120, 40), 'z');
    snapshot("inside_pane_120x40", &deck.text());
    deck.press(KeyCode::Esc);
    assert!(deck.text().contains("1.73"), "the chat is as it was");
}

fn listed() -> Vec<SessionLine> {
    let line = |id: &str, query: &str, answer: &str, label: Option<&str>| TrajectoryLine {
        id: id.to_string(),
        query: query.to_string(),
        status: "answered".to_string(),
        answer: Some(answer.to_string()),
        turns: 3,
        seconds: 4.2,
        label: label.map(String::from),
        ..TrajectoryLine::default()
    };
    let session = |id: &str, title: &str, when: &str, trajectories| SessionLine {
        id: id.to_string(),
        title: title.to_string(),
        when: when.to_string(),
        trajectories,
        score: None,
    };
    vec![
        session(
            "s2",
            "Peru and Chile",
            "2026-11-22 14:05",
            vec![
                line("t-1", QUERY, "1.73: Peru has 34.0 million people, Chile 19.6 million.", Some("good")),
                line("t-2", "and of Bolivia?", "2.8", None),
            ],
        ),
        session("s1", "numbers", "2026-11-21 09:30", vec![line("t-0", "What is 6*7?", "41", Some("bad"))]),
    ]
}

pub(super) fn sessions(size: (u16, u16)) -> Deck {
    let mut deck = Deck::new(size);
    deck.press(KeyCode::F(2));
    assert_eq!(deck.effects.pop(), Some(Effect::Command(DeckCommand::Library(LibraryCommand::List))));
    send(&mut deck, LibraryEvent::Listed(listed()));
    deck
}

fn asked(deck: &mut Deck) -> Option<LibraryCommand> {
    match deck.effects.pop() {
        Some(Effect::Command(DeckCommand::Library(command))) => Some(command),
        _ => None,
    }
}

#[test]
fn session_list() {
    each_size("sessions", |size| {
        let mut deck = sessions(size);
        deck.press(KeyCode::Down).press(KeyCode::Char('m')).press(KeyCode::Down);
        deck
    });
}

#[test]
fn sessions_are_found_renamed_deleted_and_brought_back() {
    let mut deck = sessions((100, 30));
    deck.press(KeyCode::Char('/')).type_text("numbers").press(KeyCode::Enter);
    assert!(deck.text().contains("6*7") && !deck.text().contains("Bolivia"));
    deck.press(KeyCode::Char('r'));
    assert_eq!(asked(&mut deck), Some(LibraryCommand::Resume { session: "s1".to_string() }));
    deck.press(KeyCode::Char('n')).type_text("!").press(KeyCode::Enter);
    let renamed = LibraryCommand::Rename { session: "s1".to_string(), title: "numbers!".to_string() };
    assert_eq!(asked(&mut deck), Some(renamed));
    deck.press(KeyCode::Char('x'));
    assert_eq!(asked(&mut deck), Some(LibraryCommand::Delete { session: "s1".to_string() }));
    send(&mut deck, LibraryEvent::Deleted { title: "numbers".to_string() });
    assert!(deck.text().contains("u brings it back"));
    deck.press(KeyCode::Char('u'));
    assert_eq!(asked(&mut deck), Some(LibraryCommand::Undelete));
    deck.press(KeyCode::Esc);
    assert!(deck.text().contains("Bolivia"), "the filter is gone");
}

pub(super) fn replayed(size: (u16, u16)) -> Deck {
    let mut deck = sessions(size);
    deck.press(KeyCode::Down).press(KeyCode::Enter);
    assert_eq!(asked(&mut deck), Some(LibraryCommand::Open { trajectory: "t-1".to_string() }));
    send(&mut deck, LibraryEvent::Opened(Box::new(recording("t-1", QUERY))));
    deck
}

#[test]
fn replay_half_way() {
    each_size("replay", |size| {
        let mut deck = replayed(size);
        for _ in 0..20 {
            deck.now_ms += 66;
            deck.input(Input::Tick);
        }
        deck.press(KeyCode::Char(' ')).press(KeyCode::Char('>'));
        deck
    });
}

/// The last screen of a replay is the last screen of the live run, cell for cell.
#[test]
fn a_replay_ends_on_the_screen_that_was_live() {
    for size in [(80, 24), (120, 40), (200, 50)] {
        for query in [QUERY, "fail please", "hostile"] {
            let mut live = Deck::new(size);
            // The program's own first words are no part of a trajectory.
            live.app.tabs.chat.transcript = Transcript::default();
            live.ask(query).play("t-1", query);
            let mut replay = Deck::new(size);
            replay.app.tabs.replay.play(recording("t-1", query), 4.0);
            replay.app.tabs.shown = TabName::Replay;
            // By the clock to about the middle, back, by single steps, then to the end.
            for _ in 0..30 {
                replay.now_ms += 66;
                replay.input(Input::Tick);
            }
            replay.press(KeyCode::Char('[')).press(KeyCode::Right).press(KeyCode::Left);
            replay.press(KeyCode::End);
            let body = |deck: &mut Deck| {
                let buffer = deck.buffer().clone();
                let cells = (1..size.1 - 2).flat_map(|y| (0..size.0).map(move |x| (x, y)));
                cells.map(|at| buffer[at].clone()).collect::<Vec<_>>()
            };
            let (live_cells, replay_cells) = (body(&mut live), body(&mut replay));
            assert!(live_cells == replay_cells, "{query} at {size:?}\n{}\n{}", live.text(), replay.text());
        }
    }
}

#[test]
fn a_fork_keeps_the_turns_before_the_one_that_is_planned_again() {
    let mut deck = replayed((120, 40));
    deck.press(KeyCode::End).press(KeyCode::Char('f'));
    assert!(deck.effects.is_empty() && deck.text().contains("Enter: plan turn 3 again"), "{}", deck.text());
    deck.press(KeyCode::Enter);
    let expected = LibraryCommand::Fork { trajectory: "t-1".to_string(), turns: 2 };
    assert_eq!(asked(&mut deck), Some(expected));
    let forked = LibraryEvent::Forked { session: "s9".to_string(), query: QUERY.to_string() };
    send(&mut deck, forked);
    assert!(deck.app.tabs.shown == TabName::Chat && deck.text().contains("the original stays"));
    deck.play("t-9", QUERY);
    assert!(deck.text().contains("3 turns"));
    deck.ask("next");
    let next = DeckCommand::Ask { query: "next".to_string(), conversation: "s9".to_string() };
    assert_eq!(deck.effects.pop(), Some(Effect::Command(next)));
}

#[test]
fn a_rewind_puts_the_query_back_into_the_input() {
    let mut deck = sessions((100, 30));
    deck.press(KeyCode::Down).press(KeyCode::Char('w'));
    assert_eq!(asked(&mut deck), Some(LibraryCommand::Rewind { trajectory: "t-1".to_string() }));
    let query = QUERY.to_string();
    send(&mut deck, LibraryEvent::Rewound { session: "s8".to_string(), past: demo::past(2), query });
    assert_eq!((deck.value(), deck.app.tabs.shown), (QUERY.to_string(), TabName::Chat));
}

#[test]
fn two_trajectories_side_by_side() {
    each_size("compare", |size| {
        let mut deck = sessions(size);
        deck.press(KeyCode::Down).press(KeyCode::Char('m')).press(KeyCode::Down).press(KeyCode::Char('='));
        send(&mut deck, LibraryEvent::Opened(Box::new(recording("t-1", QUERY))));
        send(&mut deck, LibraryEvent::Opened(Box::new(recording("t-2", "fail please"))));
        deck
    });
}

#[test]
fn old_queries_are_read_when_they_are_looked_at() {
    let mut past = demo::past(2);
    for past in &mut past {
        past.outline = true;
        past.trajectory.turns.iter_mut().for_each(|turn| turn.plan = None);
    }
    let app = demo::app_with(past, (120, 40)).unwrap();
    let mut deck = Deck::of(app, (120, 40));
    deck.input(Input::Key(KeyEvent::new(KeyCode::Up, KeyModifiers::ALT)));
    deck.input(Input::Key(KeyEvent::new(KeyCode::Up, KeyModifiers::ALT)));
    assert_eq!(asked(&mut deck), Some(LibraryCommand::Open { trajectory: "past-0".to_string() }));
    assert!(!deck.text().contains("sub-goal"));
    send(&mut deck, LibraryEvent::Opened(Box::new(recording("past-0", QUERY))));
    assert!(deck.text().contains("sub-goal  check the ratio"));
}

/// An evaluation of `count` questions, every third of them answered wrongly; in the list it is folded.
fn evaluation(count: usize, folded: bool) -> SessionLine {
    let line = |n: usize| TrajectoryLine {
        id: format!("e-{n}"),
        query: format!("Which country has the capital number {n}?"),
        status: "answered".to_string(),
        answer: Some(format!("country {n}")),
        turns: 1,
        seconds: 0.4,
        adapter: Some("a3f9c0de".to_string()),
        right: Some(!n.is_multiple_of(3)),
        reference: format!("land {n}"),
        family: if n.is_multiple_of(2) { "lookup" } else { "lookup_arithmetic" }.to_string(),
        ..TrajectoryLine::default()
    };
    SessionLine {
        id: "run".to_string(),
        title: "eval held_out.jsonl".to_string(),
        when: "2026-11-23 08:00".to_string(),
        trajectories: if folded { Vec::new() } else { (1..=count).map(line).collect() },
        score: Some(Score { queries: count, checked: count, right: count - count / 3 }),
    }
}

/// The list with an evaluation in it, which Enter has opened.
fn evaluated(size: (u16, u16)) -> Deck {
    let mut deck = sessions(size);
    let mut all = vec![evaluation(60, true)];
    all.extend(listed());
    send(&mut deck, LibraryEvent::Listed(all));
    assert!(deck.text().contains("eval held"), "{}", deck.text());
    deck.press(KeyCode::Home).press(KeyCode::Enter);
    assert_eq!(asked(&mut deck), Some(LibraryCommand::Unfold { session: "run".to_string() }));
    send(&mut deck, LibraryEvent::Evaluation(Box::new(evaluation(60, false))));
    deck
}

#[test]
fn an_evaluation_is_opened_out_of_the_list() {
    each_size("evaluation_folded", |size| {
        let mut deck = sessions(size);
        let mut all = vec![evaluation(60, true)];
        all.extend(listed());
        send(&mut deck, LibraryEvent::Listed(all));
        // What was selected before stays so.
        deck.press(KeyCode::Home);
        deck
    });
    each_size("evaluation", |size| {
        let mut deck = evaluated(size);
        deck.press(KeyCode::PageDown);
        deck
    });
    each_size("evaluation_wrong", |size| {
        let mut deck = evaluated(size);
        deck.press(KeyCode::Char('o')).press(KeyCode::Char('/')).type_text("arithm");
        deck
    });
}

#[test]
fn what_is_looked_for_is_found_in_evaluations_that_are_not_open() {
    each_size("evaluation_found", |size| {
        let mut deck = sessions(size);
        let mut all = listed();
        all.push(evaluation(60, true));
        send(&mut deck, LibraryEvent::Listed(all));
        deck.press(KeyCode::Char('/')).type_text("number 7");
        let text = "number 7".to_string();
        assert_eq!(asked(&mut deck), Some(LibraryCommand::Find { text: text.clone() }));
        // An answer to what was typed a moment ago is none to what stands there now.
        let evaluations = vec![("run".to_string(), 1)];
        let found =
            |text: &str| LibraryEvent::Found { text: text.to_string(), evaluations: evaluations.clone() };
        send(&mut deck, found("number"));
        assert!(!deck.text().contains("eval held"), "{}", deck.text());
        send(&mut deck, found("number 7"));
        deck
    });
    let mut deck = sessions((120, 40));
    send(&mut deck, LibraryEvent::Listed(vec![evaluation(60, true)]));
    deck.press(KeyCode::Char('/')).type_text("number 7");
    let text = "number 7".to_string();
    send(&mut deck, LibraryEvent::Found { text, evaluations: vec![("run".to_string(), 1)] });
    deck.press(KeyCode::Enter).press(KeyCode::Enter);
    assert_eq!(asked(&mut deck), Some(LibraryCommand::Unfold { session: "run".to_string() }));
    send(&mut deck, LibraryEvent::Evaluation(Box::new(evaluation(60, false))));
    assert!(deck.text().contains("1 of 60"), "it shows what was found in it:\n{}", deck.text());
}

#[test]
fn every_question_of_an_evaluation_can_be_reached_found_and_opened() {
    let mut deck = evaluated((100, 30));
    deck.press(KeyCode::End).press(KeyCode::Enter);
    assert_eq!(asked(&mut deck), Some(LibraryCommand::Open { trajectory: "e-60".to_string() }));
    let opened = |id: &str, checked: (bool, &str)| {
        let checked = Some((checked.0, checked.1.to_string()));
        LibraryEvent::Opened(Box::new(Recording { checked, ..recording(id, QUERY) }))
    };
    send(&mut deck, opened("e-60", (false, "Peru")));
    deck.press(KeyCode::End);
    assert!(deck.text().contains("wrong, right is: Peru"), "{}", deck.text());
    // Its neighbour, without the way over the list; then back to the list, where that is selected now.
    deck.input(Input::Key(KeyEvent::new(KeyCode::Up, KeyModifiers::ALT)));
    assert_eq!(asked(&mut deck), Some(LibraryCommand::Open { trajectory: "e-59".to_string() }));
    send(&mut deck, opened("e-59", (true, "Chile")));
    assert!(deck.text().contains("  right") && !deck.text().contains("right is"), "{}", deck.text());
    deck.press(KeyCode::Esc);
    assert!(deck.text().contains("eval held_out.jsonl · 60 queries, 40 right"), "{}", deck.text());

    deck.press(KeyCode::Char('o'));
    assert!(deck.text().contains("20 of 60, only what went wrong"), "{}", deck.text());
    deck.press(KeyCode::Char('/')).type_text("number 9?").press(KeyCode::Enter).press(KeyCode::Down);
    deck.press(KeyCode::Enter);
    assert_eq!(asked(&mut deck), Some(LibraryCommand::Open { trajectory: "e-9".to_string() }));
    send(&mut deck, opened("e-9", (false, "Peru")));
    deck.press(KeyCode::Esc).press(KeyCode::Esc);
    assert!(deck.text().contains("20 of 60, only what went wrong"), "the search goes first");
    deck.press(KeyCode::Esc).press(KeyCode::Esc);
    assert!(deck.text().contains("Peru and Chile"), "then the filter, then the evaluation: {}", deck.text());
    deck.press(KeyCode::Esc);
    assert_eq!(deck.app.tabs.shown, TabName::Chat);
}

#[test]
fn an_evaluation_that_is_folded_is_no_answer_and_no_conversation() {
    let mut deck = evaluated((120, 40));
    deck.press(KeyCode::Esc).effects.clear();
    deck.press(KeyCode::Char('+'));
    assert!(deck.effects.is_empty() && deck.text().contains("Enter opens the evaluation"), "{}", deck.text());
    deck.press(KeyCode::Char('r'));
    assert!(deck.effects.is_empty() && deck.text().contains("is no conversation"), "{}", deck.text());
    deck.press(KeyCode::Char('x'));
    assert_eq!(asked(&mut deck), Some(LibraryCommand::Delete { session: "run".to_string() }));
    // Deleted while it is open, it closes.
    deck.press(KeyCode::Enter);
    send(&mut deck, LibraryEvent::Evaluation(Box::new(evaluation(60, false))));
    send(&mut deck, LibraryEvent::Listed(listed()));
    assert!(deck.text().contains("Peru and Chile"), "{}", deck.text());
}
