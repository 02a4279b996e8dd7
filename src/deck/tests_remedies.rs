//! What the deck says when a key can do nothing, what was done can be undone, or there is little room: keys and
//! events in, screens out, as in `tests`.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::tests::{Deck, QUERY, each_size, snapshot};
use super::tests_groups::group;
use super::tests_inside::{recording, send, sessions};
use super::tests_study::{asked_of_study, study, training_view};
use crate::deck::app::{Effect, Input};
use crate::deck::demo;
use crate::deck::library::{LibraryCommand, LibraryEvent, Recording};
use crate::deck::message::{DeckCommand, DeckEvent, LabelValue, Level, Scope, StatusLine};
use crate::deck::study::*;
use crate::deck::tab::TabName;
use crate::flow::event::Body;

fn plans_with(deck: &mut Deck, adapter: Option<&str>) {
    let status =
        StatusLine { model: "m".into(), adapter: adapter.map(String::from), ..StatusLine::default() };
    deck.input(Input::Deck(Box::new(DeckEvent::Status(status))));
}

fn with_contrast() -> GroupView {
    let mut group = group();
    group.clusters[1].label = Some(LabelValue::Bad);
    group.verdict = "a step learns from 4 right and 2 wrong rollouts of this question".to_string();
    group
}

#[test]
fn a_moved_adapter_says_so_and_one_key_brings_the_other_back() {
    each_size("training_moved", |size| {
        let mut deck = Deck::new(size);
        deck.press(KeyCode::F(4));
        study(&mut deck, StudyEvent::Training(training_view()));
        deck.press(KeyCode::Char('b'));
        let before = Some(Some("c0ffee12".to_string()));
        study(&mut deck, StudyEvent::Moved { before, now: Some("a3f9c0de".to_string()) });
        let flat = deck.text().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains("adapter a3f9c0de plans now; u brings adapter c0ffee12 back"), "{flat}");
        deck
    });
    let mut deck = Deck::new((80, 24));
    deck.press(KeyCode::F(4)).press(KeyCode::Char('u'));
    assert!(deck.text().contains("no adapter was moved"));
    study(&mut deck, StudyEvent::Moved { before: Some(Some("c0ffee12".to_string())), now: None });
    assert!(deck.text().contains("no adapter plans now"));
    deck.effects.clear();
    deck.press(KeyCode::Char('u'));
    assert_eq!(
        asked_of_study(&mut deck),
        Some(StudyCommand::UseAdapter { id: Some("c0ffee12".to_string()) })
    );
}

#[test]
fn what_a_step_made_is_selected_and_the_selection_stays_with_its_adapter() {
    let mut deck = Deck::answered((120, 40), QUERY);
    deck.press(KeyCode::F(4));
    let mut view = training_view();
    let made = view.adapters.remove(1);
    study(&mut deck, StudyEvent::Training(view.clone()));
    deck.press(KeyCode::Down);
    // It stands between the two that are known: the selection goes to it.
    view.adapters.insert(1, made);
    study(&mut deck, StudyEvent::Training(view.clone()));
    deck.press(KeyCode::Enter);
    assert_eq!(
        asked_of_study(&mut deck),
        Some(StudyCommand::UseAdapter { id: Some("b1cebeef".to_string()) })
    );
    view.adapters.swap(1, 2);
    study(&mut deck, StudyEvent::Training(view));
    deck.press(KeyCode::Enter);
    assert_eq!(
        asked_of_study(&mut deck),
        Some(StudyCommand::UseAdapter { id: Some("b1cebeef".to_string()) })
    );
}

#[test]
fn a_group_of_another_adapter_is_rolled_again_before_it_teaches() {
    each_size("groups_other_adapter", |size| {
        let mut deck = Deck::new(size);
        plans_with(&mut deck, Some("c0ffee12"));
        deck.press(KeyCode::F(3));
        study(&mut deck, StudyEvent::Groups(vec![GroupView { trained: true, ..with_contrast() }]));
        deck
    });
    let mut deck = Deck::new((120, 40));
    deck.press(KeyCode::F(3));
    study(&mut deck, StudyEvent::Groups(vec![with_contrast()]));
    plans_with(&mut deck, Some("c0ffee12"));
    deck.effects.clear();
    deck.press(KeyCode::Char('t'));
    assert!(deck.effects.is_empty() && deck.text().contains("r rolls it again"), "{:?}", deck.effects);
    plans_with(&mut deck, Some("a3f9c0de"));
    deck.press(KeyCode::Char('t')).press(KeyCode::Enter);
    assert_eq!(asked_of_study(&mut deck), Some(StudyCommand::Train { groups: vec!["g-1".to_string()] }));
}

#[test]
fn without_contrast_it_says_what_brings_some() {
    let said = |group: GroupView| {
        let mut deck = Deck::new((120, 40));
        deck.press(KeyCode::F(3));
        study(&mut deck, StudyEvent::Groups(vec![group]));
        deck.press(KeyCode::Char('t'));
        deck.text()
    };
    assert!(said(group()).contains("label one answer good and another bad first"));
    let mut one = group();
    one.clusters.truncate(1);
    assert!(
        said(one).contains("every rollout gave the same answer, so nothing can be learned; r rolls it again")
    );
    let mut good = group();
    good.clusters.iter_mut().for_each(|cluster| cluster.label = Some(LabelValue::Good));
    assert!(said(good).contains("all its answers got the same label"));
}

#[test]
fn rollouts_of_one_way_stand_together_and_are_walked_as_they_stand() {
    let mut mixed = group();
    let other = mixed.clusters[2].rollouts[0].plans.clone();
    mixed.clusters[0].rollouts[1].plans = other;
    mixed.clusters[0].rollouts[1].plan_bad = false;
    let mut deck = Deck::new((120, 40));
    deck.press(KeyCode::F(3));
    study(&mut deck, StudyEvent::Groups(vec![mixed]));
    let text = deck.text();
    assert!(text.contains("3 rollouts, 2 turns:") && text.contains("1 rollout, 2 turns:"), "{text}");
    // The fourth as it stands is the second as it was drawn.
    deck.press(KeyCode::Down).press(KeyCode::Down).press(KeyCode::Down).press(KeyCode::Char('p'));
    let plan = asked_of_study(&mut deck);
    assert!(
        matches!(&plan, Some(StudyCommand::LabelPlan { trajectory, .. }) if trajectory == "r-1"),
        "{plan:?}"
    );
}

#[test]
fn a_notice_longer_than_the_line_shows_whole() {
    let mut deck = Deck::answered((80, 24), QUERY);
    let text = "the adapter a3f9c0de was made for another model and cannot plan here: its layers have other \
                shapes; remedy: tillerman adapters use none";
    deck.input(Input::Said(Level::Error, text.to_string()));
    snapshot("notice_80x24", &deck.text());
    assert!(deck.text().contains("tillerman adapters use none"));
    deck.press(KeyCode::Esc);
    assert!(!deck.text().contains("remedy"), "the next key takes it away");
}

#[test]
fn a_small_screen_names_its_tab_and_shows_what_is_acted_on() {
    let mut deck = Deck::new((40, 12));
    deck.press(KeyCode::F(4));
    assert!(deck.text().contains("F4 training"), "{}", deck.text());
    study(&mut deck, StudyEvent::Training(training_view()));
    assert!(deck.text().contains("a3f9c0de"), "the adapters that Enter is about");
    deck.press(KeyCode::F(3));
    assert!(deck.text().contains("Alt+g"), "what to do has room first");
    deck.press(KeyCode::Char('?'));
    snapshot("help_groups_40x12", &deck.text());
}

#[test]
fn help_begins_with_the_keys_of_the_tab_it_was_asked_on() {
    let first = |key| {
        let mut deck = Deck::new((80, 24));
        deck.press(KeyCode::F(key)).press(KeyCode::Char('?'));
        let text = deck.text();
        ["asking", "labelling", "sessions and replay", "learning"]
            .into_iter()
            .filter_map(|heading| Some((text.find(heading)?, heading)))
            .min()
            .map(|(_, heading)| heading)
    };
    assert_eq!([1, 2, 3, 4].map(first), ["asking", "sessions and replay", "labelling", "learning"].map(Some));
}

#[test]
fn a_command_nobody_knows_names_the_one_that_was_meant() {
    let mut deck = Deck::new((120, 40));
    deck.ask("/hlep");
    assert!(deck.text().contains("/help?"), "{}", deck.text());
}

fn fork_of(parent_id: &str, id: &str) -> Recording {
    let mut fork = recording(id, QUERY);
    let mut events = (*fork.events).clone();
    for event in &mut events {
        if let Body::Started { parent, .. } = &mut event.body {
            *parent = Some((parent_id.to_string(), 1));
        }
    }
    fork.events = events.into();
    fork
}

fn opens(deck: &mut Deck) -> Vec<String> {
    let opened = |effect| match effect {
        Effect::Command(DeckCommand::Library(LibraryCommand::Open { trajectory })) => Some(trajectory),
        _ => None,
    };
    deck.effects.drain(..).filter_map(opened).collect()
}

#[test]
fn a_fork_is_put_beside_its_parent_from_the_chat() {
    let mut deck = Deck::answered((120, 40), QUERY);
    deck.effects.clear();
    deck.ask("/compare");
    assert_eq!((deck.app.tabs.shown, opens(&mut deck)), (TabName::Replay, vec!["t-1".to_string()]));
    send(&mut deck, LibraryEvent::Opened(Box::new(recording("t-1", QUERY))));
    assert!(deck.text().contains("this is no fork"), "{}", deck.text());
    deck.press(KeyCode::F(2)).press(KeyCode::F(1));
    deck.effects.clear();
    deck.ask("/compare");
    opens(&mut deck);
    // Its parent is asked for once it is known.
    send(&mut deck, LibraryEvent::Opened(Box::new(fork_of("t-0", "t-1"))));
    assert_eq!(opens(&mut deck), ["t-0".to_string(), "t-1".to_string()]);
}

#[test]
fn a_fork_says_so_where_it_stands_and_is_compared_with_one_key() {
    let mut deck = Deck::new((120, 40));
    deck.press(KeyCode::F(2));
    deck.app.tabs.replay.play(fork_of("t-1", "t-2"), f64::INFINITY);
    let text = deck.text();
    assert!(text.contains("turn 2 of t-1 planned again"), "{text}");
    assert!(text.contains("= compare with its parent"), "{text}");
    deck.effects.clear();
    deck.press(KeyCode::Char('='));
    assert_eq!(opens(&mut deck), ["t-1".to_string(), "t-2".to_string()]);
    send(&mut deck, LibraryEvent::Opened(Box::new(recording("t-1", QUERY))));
    send(&mut deck, LibraryEvent::Opened(Box::new(fork_of("t-1", "t-2"))));
    assert!(deck.text().contains("Nothing differs"), "{}", deck.text());
    assert!(deck.text().contains("t-2 (turn 2 planned again)"), "{}", deck.text());
}

#[test]
fn leaving_asks_once_where_something_would_be_lost() {
    let quits = |deck: &Deck| deck.effects.contains(&Effect::Quit);
    let mut deck = Deck::new((120, 40));
    deck.type_text("half a question").press(KeyCode::F(4)).chord(KeyModifiers::CONTROL, 'd');
    assert!(!quits(&deck) && deck.text().contains("words wait in the input"), "{}", deck.text());
    let mut deck = Deck::new((120, 40));
    study(&mut deck, StudyEvent::Training(TrainingView { own: true, ..training_view() }));
    deck.chord(KeyModifiers::CONTROL, 'd');
    assert!(!quits(&deck) && deck.text().contains("a step under way would be lost"), "{}", deck.text());
    deck.press(KeyCode::F(4)).chord(KeyModifiers::CONTROL, 'd');
    assert!(!quits(&deck), "another key came between");
    deck.chord(KeyModifiers::CONTROL, 'd');
    assert!(quits(&deck));
    // A run of another terminal goes on without this deck.
    let mut deck = Deck::new((120, 40));
    study(&mut deck, StudyEvent::Training(training_view()));
    deck.chord(KeyModifiers::CONTROL, 'd');
    assert!(quits(&deck));
}

fn labels(deck: &mut Deck) -> Vec<(String, Scope, LabelValue)> {
    let asked = |effect| match effect {
        Effect::Command(DeckCommand::Label(label)) => Some((label.trajectory, label.scope, label.value)),
        _ => None,
    };
    deck.effects.drain(..).filter_map(asked).collect()
}

fn kept(deck: &mut Deck, trajectory: &str, value: LabelValue) {
    let (trajectory, scope) = (trajectory.to_string(), Scope::Answer);
    let stored = DeckEvent::LabelStored { trajectory, turn: None, scope, value, correction: None };
    deck.input(Input::Deck(Box::new(stored)));
}

#[test]
fn a_label_is_about_what_is_selected_in_the_list() {
    let mut deck = sessions((120, 40));
    deck.press(KeyCode::Char('+'));
    assert_eq!(labels(&mut deck), [], "a line of a whole session is no answer");
    deck.press(KeyCode::Down).press(KeyCode::Char('+'));
    assert_eq!(labels(&mut deck), [("t-1".to_string(), Scope::Answer, LabelValue::Good)]);
    assert_eq!(deck.app.tabs.shown, TabName::Replay);
    kept(&mut deck, "t-1", LabelValue::Bad);
    let text = deck.text();
    let line = text.lines().find(|line| line.contains("-> 1.73")).unwrap();
    assert!(line.contains(" - 3 turns"), "{line}");
}

#[test]
fn nothing_unseen_is_labelled() {
    for tab in [4, 5] {
        let mut deck = Deck::answered((120, 40), QUERY);
        deck.press(KeyCode::F(tab)).press(KeyCode::Char('+'));
        assert_eq!(labels(&mut deck), [], "F{tab}");
        assert!(deck.app.tabs.shown != TabName::Chat && deck.text().contains("nothing is selected here"));
    }
}

#[test]
fn a_replayed_answer_is_labelled_at_its_end_and_keeps_its_label() {
    let mut deck = Deck::new((120, 40));
    deck.press(KeyCode::F(2));
    deck.app.tabs.replay.play(recording("t-1", QUERY), 1.0);
    deck.press(KeyCode::Char('+'));
    assert_eq!(labels(&mut deck), [("t-1".to_string(), Scope::Answer, LabelValue::Good)]);
    kept(&mut deck, "t-1", LabelValue::Good);
    assert!(deck.text().contains("(good)  3 turns"), "{}", deck.text());
    deck.press(KeyCode::Home).press(KeyCode::End);
    assert!(deck.text().contains("(good)  3 turns"), "{}", deck.text());
    // Nobody asked it here: the conversation knows nothing of it, the correction reaches the record all the same.
    deck.input(Input::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::ALT)));
    deck.type_text("1.7").press(KeyCode::Enter);
    assert_eq!(labels(&mut deck), [("t-1".to_string(), Scope::Answer, LabelValue::Bad)]);
}

#[test]
fn a_plan_is_labelled_from_inside_at_the_turn_that_shows() {
    let mut deck = Deck::answered((120, 40), QUERY);
    deck.input(Input::Key(KeyEvent::new(KeyCode::Char('t'), KeyModifiers::ALT)));
    send(&mut deck, LibraryEvent::Opened(Box::new(recording("t-1", QUERY))));
    deck.press(KeyCode::Char('[')).effects.clear();
    deck.input(Input::Key(KeyEvent::new(KeyCode::Char('p'), KeyModifiers::ALT)));
    let asked = deck.effects.iter().find_map(|effect| match effect {
        Effect::Command(DeckCommand::Label(label)) => Some((label.scope, label.turn)),
        _ => None,
    });
    assert_eq!(asked, Some((Scope::Turn, Some(2))));
}

#[test]
fn an_engine_that_died_is_told_once() {
    let reason = "the engine worker died of signal 9 while decoding";
    let died = || DeckEvent::EngineDied { reason: reason.to_string(), remedy: "ask again".to_string() };
    // Its query tells it where it stands; elsewhere the bottom line does.
    for tab in [1, 2, 5] {
        let mut deck = Deck::new((80, 24));
        let mut script = demo::script("t-1", "fail please");
        let failed = script.pop().unwrap().1;
        deck.ask("fail please");
        for (_, event) in script {
            deck.input(Input::Deck(Box::new(event)));
        }
        deck.press(KeyCode::F(tab));
        deck.input(Input::Deck(Box::new(died()))).input(Input::Deck(Box::new(failed)));
        assert_eq!(deck.text().matches(reason).count(), 1, "F{tab}:\n{}", deck.text());
    }
}
