//! Screens that other tests come by, each as it stands at every size.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::tests::{Deck, QUERY, each_size};
use super::tests_inside::{looked_into, sessions};
use super::tests_study::{offered, study};
use crate::deck::app::Input;
use crate::deck::completion::Files;
use crate::deck::study::{StudyEvent, TrainingView};

fn alt(deck: &mut Deck, c: char) {
    deck.input(Input::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::ALT)));
}

fn ctrl(deck: &mut Deck, c: char) {
    deck.input(Input::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL)));
}

#[test]
fn panes_by_their_keys() {
    for (name, key) in [("pane_tools", 7), ("pane_verdicts", 8), ("pane_memory", 9)] {
        each_size(name, |size| {
            let mut deck = Deck::answered(size, QUERY);
            deck.press(KeyCode::Char('[')).press(KeyCode::F(key));
            deck
        });
    }
}

#[test]
fn a_pane_on_the_whole_screen() {
    each_size("zoomed_pane", |size| looked_into(size, 'z'));
}

#[test]
fn choices_over_the_input() {
    each_size("offered_files", |size| {
        let mut deck = Deck::new(size);
        deck.type_text("read @");
        let names = ["data/", "notes.md", "staff.csv"].map(String::from).to_vec();
        deck.input(Input::Files(Files { names, ..Files::default() }));
        deck
    });
    each_size("history_search", |size| {
        let mut deck = Deck::new(size);
        deck.ask("population of Peru").ask("boiling point of iron").ask("population of Chile");
        ctrl(&mut deck, 'r');
        deck.type_text("popu");
        deck
    });
    each_size("queue", |size| {
        let mut deck = Deck::new(size);
        deck.ask("one").ask("two").ask("three").type_text("draft");
        alt(&mut deck, 'q');
        deck
    });
}

#[test]
fn a_search_in_the_conversation() {
    each_size("search", |size| {
        let mut deck = Deck::answered(size, QUERY);
        for n in 0..12 {
            let (id, query) = (format!("t{n}"), format!("question {n}"));
            deck.ask(&query).play(&id, &query);
        }
        deck.text();
        ctrl(&mut deck, 'f');
        deck.type_text("question 7");
        deck
    });
}

#[test]
fn what_is_asked_before_something_is_done() {
    each_size("copy_parts", |size| {
        let mut deck = Deck::answered(size, QUERY);
        alt(&mut deck, 'o');
        deck
    });
    each_size("correction", |size| {
        let mut deck = Deck::answered(size, QUERY);
        alt(&mut deck, 'c');
        deck.type_text("1.7347");
        deck
    });
    each_size("rename", |size| {
        let mut deck = sessions(size);
        deck.press(KeyCode::Char('n')).type_text(" again");
        deck
    });
    each_size("theme", |size| {
        let mut deck = Deck::answered(size, QUERY);
        deck.type_text("/theme").press(KeyCode::Enter);
        deck
    });
}

#[test]
fn a_download_under_way() {
    each_size("download", |size| {
        let mut deck = Deck::new(size);
        deck.press(KeyCode::F(5));
        study(&mut deck, StudyEvent::Models(vec![offered()]));
        deck.press(KeyCode::Enter).press(KeyCode::Enter);
        let file = offered().offer.unwrap().file;
        study(&mut deck, StudyEvent::Pulling { file, here: 123_000_000, bytes: 491_400_032 });
        deck
    });
}

#[test]
fn training_before_anything_was_learned() {
    each_size("training_begins", |size| {
        let mut deck = Deck::new(size);
        deck.press(KeyCode::F(4));
        let view = TrainingView {
            running: Some("forward 1 of 8".to_string()),
            alive: true,
            ..TrainingView::default()
        };
        study(&mut deck, StudyEvent::Training(view));
        deck
    });
}
