//! What a person typed, queued or has running, and the keys that could lose it.

use crossterm::event::{KeyCode, KeyModifiers};

use super::super::tests_inside::{recording, send, sessions};
use super::super::tests_study::study;
use super::{Deck, QUERY, asked, turn_2_runs};
use crate::deck::app::{Effect, Input};
use crate::deck::demo;
use crate::deck::library::{LibraryCommand, LibraryEvent, Recording};
use crate::deck::message::{DeckCommand, DeckEvent, Level};
use crate::deck::study::{StudyCommand, StudyEvent, TrainingView, Work};
use crate::deck::tab::TabName;

const CTRL: KeyModifiers = KeyModifiers::CONTROL;
const ALT: KeyModifiers = KeyModifiers::ALT;

fn wants(deck: &Deck, wanted: impl Fn(&LibraryCommand) -> bool) -> bool {
    let is = |effect: &Effect| matches!(effect, Effect::Command(DeckCommand::Library(c)) if wanted(c));
    deck.effects.iter().any(is)
}

fn quits(deck: &Deck) -> bool {
    deck.effects.contains(&Effect::Quit)
}

fn begin_conversation(deck: &mut Deck, session: &str) {
    let session = session.to_string();
    deck.input(Input::Deck(Box::new(DeckEvent::Conversation { session })));
}

#[test]
fn another_session_is_not_gone_to_while_a_query_runs() {
    let mut deck = sessions((100, 30));
    deck.press(KeyCode::F(1)).ask("one").ask("two");
    deck.play_until("t-9", "one", turn_2_runs);
    deck.press(KeyCode::F(2)).press(KeyCode::Down);
    deck.effects.clear();
    for key in ['r', 'w'] {
        deck.press(KeyCode::Char(key));
        assert!(deck.text().contains("a query runs in the chat (F1)"), "{}", deck.text());
    }
    assert!(!wants(&deck, |c| matches!(c, LibraryCommand::Resume { .. } | LibraryCommand::Rewind { .. })));
    // The answer to a key pressed just before the query was sent.
    send(&mut deck, LibraryEvent::Resumed { session: "s9".to_string(), past: Vec::new() });
    let chat = &deck.app.tabs.chat;
    assert!(chat.is_running() && chat.queue_len() == 1);
    deck.press(KeyCode::F(1)).press(KeyCode::Esc);
    assert_eq!(deck.effects.last(), Some(&Effect::Command(DeckCommand::Cancel)));
    deck.play("t-9", "one");
    assert_eq!(asked(&deck.effects), ["two"]);
    deck.play("t-10", "two").press(KeyCode::F(2)).press(KeyCode::Char('r'));
    assert!(wants(&deck, |c| matches!(c, LibraryCommand::Resume { .. })));
}

#[test]
fn a_query_sent_right_after_a_fork_runs_after_it_and_is_asked_once() {
    let mut deck = Deck::answered((100, 30), QUERY);
    deck.chord(ALT, 'k').ask("next");
    send(&mut deck, LibraryEvent::Forked { session: "f".to_string(), query: QUERY.to_string() });
    deck.play("t-2", QUERY);
    assert!(deck.app.tabs.chat.is_running(), "what was asked meanwhile is still to come");
    deck.play("t-3", "next");
    assert!(!deck.app.tabs.chat.is_running());
    assert_eq!(asked(&deck.effects), [QUERY, "next"]);
    assert!(!deck.text().contains("on its way to the engine"));
}

#[test]
fn a_draft_gives_way_and_comes_back() {
    let mut deck = Deck::new((80, 24));
    deck.ask("population of Peru").play("t-1", "population of Peru");
    deck.type_text("a long draft").chord(CTRL, 'r').press(KeyCode::Enter);
    assert_eq!(deck.value(), "population of Peru");
    assert!(deck.text().contains("Up brings it back"));
    deck.press(KeyCode::Up);
    assert_eq!(deck.value(), "a long draft");
    let rewound = LibraryEvent::Rewound { session: "w".into(), past: Vec::new(), query: QUERY.into() };
    send(&mut deck, rewound);
    assert_eq!(deck.value(), QUERY);
    deck.press(KeyCode::Up);
    assert_eq!(deck.value(), "a long draft");
}

#[test]
fn leaving_asks_once_where_something_would_be_lost() {
    for (words, leave) in [("the running query, a queued query", "\u{4}"), ("the running query", "/quit")] {
        let mut deck = Deck::new((120, 24));
        deck.ask("one");
        if words.contains("queued") {
            deck.ask("two");
        }
        let press = |deck: &mut Deck| match leave {
            "\u{4}" => drop(deck.chord(CTRL, 'd').now_ms),
            named => drop(deck.ask(named).now_ms),
        };
        press(&mut deck);
        assert!(!quits(&deck) && deck.text().contains(&format!("{words} would be lost")), "{}", deck.text());
        press(&mut deck);
        assert!(quits(&deck), "{leave} twice");
    }
    let mut deck = Deck::new((120, 24));
    deck.ask("one").chord(CTRL, 'd').press(KeyCode::Left).chord(CTRL, 'd');
    assert!(!quits(&deck), "another key lay between");
    let mut deck = Deck::new((120, 24));
    deck.ask("one").ask("two").chord(CTRL, 'c');
    assert!(deck.text().contains("a queued query would be lost"), "{}", deck.text());
    let mut deck = Deck::new((120, 24));
    study(&mut deck, StudyEvent::Working { work: Work::Rollouts, count: 1 });
    deck.chord(CTRL, 'd');
    assert!(!quits(&deck) && deck.text().contains("rollouts under way"));
    study(&mut deck, StudyEvent::Working { work: Work::Rollouts, count: 0 });
    deck.press(KeyCode::Left).chord(CTRL, 'd');
    assert!(quits(&deck));
}

#[test]
fn queued_queries_are_seen_taken_back_and_removed() {
    let mut deck = Deck::new((80, 24));
    deck.ask("one").ask("two").ask("three").type_text("draft").chord(ALT, 'q');
    super::snapshot("queued_80x24", &deck.text());
    deck.press(KeyCode::Enter);
    assert_eq!((deck.value().as_str(), deck.app.tabs.chat.queue_len()), ("two", 1));
    deck.press(KeyCode::Up);
    assert_eq!(deck.value(), "draft", "what stood in the input is kept");
    deck.chord(ALT, 'q').press(KeyCode::Down).press(KeyCode::Enter);
    assert_eq!(deck.app.tabs.chat.queue_len(), 0);
    assert!(deck.text().contains("removed: it will not be asked"));
    deck.chord(ALT, 'q');
    assert!(deck.text().contains("nothing waits"));
    deck.play("t-1", "one");
    assert_eq!(asked(&deck.effects), ["one"], "neither is asked");
}

#[test]
fn a_replay_out_of_a_file_is_spelled_once_the_model_serves() {
    let mut deck = Deck::new((100, 30));
    let file = Recording::of(demo::events("elsewhere", QUERY));
    deck.app.tabs.replay.play(file, f64::INFINITY);
    deck.app.tabs.shown = TabName::Replay;
    deck.now_ms += 1_000;
    deck.input(Input::Tick).press(KeyCode::Char('t'));
    assert!(wants(&deck, |c| matches!(c, LibraryCommand::Open { .. })), "{:?}", deck.effects);
    send(&mut deck, LibraryEvent::Opened(Box::new(recording("elsewhere", QUERY))));
    deck.effects.clear();
    deck.press(KeyCode::Esc).press(KeyCode::Char('t'));
    assert!(!wants(&deck, |_| true), "known by now");
    let text = "no label: it is in the file".to_string();
    deck.press(KeyCode::Esc).press(KeyCode::Char('+'));
    deck.input(Input::Deck(Box::new(DeckEvent::Notice { level: Level::Error, text })));
    assert!(deck.text().contains("no label: it is in the file"), "told where the key was pressed");
}

#[test]
fn what_runs_next_is_said_when_a_query_is_cancelled() {
    let mut deck = Deck::new((100, 24));
    deck.ask("one").ask("two").press(KeyCode::Esc);
    assert!(deck.text().contains("cancelling; the queued query runs next"), "{}", deck.text());
}

#[test]
fn queued_queries_stay_in_the_conversation_they_were_sent_in() {
    let mut deck = Deck::new((100, 24));
    deck.ask("one").ask("two");
    begin_conversation(&mut deck, "another");
    assert!(deck.text().contains("query queued before still belongs to"), "{}", deck.text());
    deck.ask("three").play("t-1", "one").play("t-2", "two");
    let conversations: Vec<&str> = deck
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Command(DeckCommand::Ask { conversation, .. }) => Some(conversation.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(conversations, ["demo", "demo", "another"]);
}

#[test]
fn a_full_disk_holds_the_queue_until_a_person_sends_on() {
    let mut deck = Deck::new((120, 50));
    deck.ask("one").ask("two").ask("three");
    deck.input(Input::Deck(Box::new(DeckEvent::Full(true))));
    let reason = "disk full: the record cannot grow".to_string();
    deck.input(Input::Deck(Box::new(DeckEvent::Refused { reason, remedy: "free some space".to_string() })));
    let asked = |deck: &Deck| {
        let is_ask = |effect: &&Effect| matches!(effect, Effect::Command(DeckCommand::Ask { .. }));
        deck.effects.iter().filter(is_ask).count()
    };
    assert_eq!(asked(&deck), 1, "those that wait do not fail one after another");
    let shown = deck.text();
    assert!(shown.contains("DISK FULL") && shown.contains("2 queued queries wait"), "{shown}");
    // Whoever sends again tries again, the queue in its order.
    deck.ask("four");
    assert_eq!(asked(&deck), 2);
    deck.input(Input::Deck(Box::new(DeckEvent::Full(false))));
    deck.play("t-1", "two");
    assert!(asked(&deck) == 3 && !deck.text().contains("DISK FULL"), "{}", deck.text());
}

#[test]
fn what_takes_its_time_is_stopped_by_a_key_that_asks_once() {
    let stop = |work| Effect::Command(DeckCommand::Study(StudyCommand::Stop(work)));
    let mut deck = Deck::new((100, 24));
    deck.press(KeyCode::F(3)).press(KeyCode::Char('s'));
    assert!(deck.text().contains("no rollouts are under way"));
    study(&mut deck, StudyEvent::Working { work: Work::Rollouts, count: 1 });
    deck.press(KeyCode::Left);
    assert!(deck.text().contains("s stop"), "{}", deck.text());
    deck.effects.clear();
    deck.now_ms += 2_000;
    deck.press(KeyCode::Char('s'));
    assert!(deck.effects.is_empty() && deck.text().contains("s once more"), "{}", deck.text());
    deck.press(KeyCode::Char('s'));
    assert_eq!(deck.effects, [stop(Work::Rollouts)]);

    deck.now_ms += 2_000;
    deck.press(KeyCode::F(4));
    let running = Some("forward 3 of 8".to_string());
    let view = TrainingView { running, alive: true, own: true, ..TrainingView::default() };
    study(&mut deck, StudyEvent::Training(view));
    deck.effects.clear();
    deck.press(KeyCode::Char('s')).press(KeyCode::Enter);
    assert_eq!(deck.effects, [stop(Work::Step)]);
    study(&mut deck, StudyEvent::Working { work: Work::Comparison, count: 1 });
    deck.now_ms += 2_000;
    deck.press(KeyCode::Char('s')).press(KeyCode::Char('s'));
    assert_eq!(deck.effects.last(), Some(&stop(Work::Comparison)));
    assert_eq!(deck.app.tabs.shown, TabName::Training);
}
