//! The screens that make a better planner, by keys: training, adapters, models, the doctor.
//! As in `tests`: keys and events in, screens out.

use crossterm::event::KeyCode;

use super::tests::{Deck, QUERY, each_size, snapshot};
use crate::deck::app::{Effect, Input};
use crate::deck::demo;
use crate::deck::message::{DeckCommand, DeckEvent};
use crate::deck::study::*;
use crate::deck::tab::TabName;

pub(super) fn study(deck: &mut Deck, event: StudyEvent) {
    deck.input(Input::Deck(Box::new(DeckEvent::Study(event))));
}

pub(super) fn asked_of_study(deck: &mut Deck) -> Option<StudyCommand> {
    match deck.effects.pop() {
        Some(Effect::Command(DeckCommand::Study(command))) => Some(command),
        _ => None,
    }
}

#[test]
fn an_adapter_found_worse_plans_only_when_asked_for_twice() {
    let mut deck = Deck::new((120, 40));
    deck.press(KeyCode::F(4));
    let mut view = training_view();
    view.adapters[0].worse = Some("worse than the champion: 6 pairs: 0 won, 6 lost".to_string());
    study(&mut deck, StudyEvent::Training(view.clone()));
    deck.effects.clear();
    deck.press(KeyCode::Enter);
    assert_eq!(deck.effects, []);
    assert!(deck.text().contains("0 won, 6 lost"), "{}", deck.text());
    // Another key, and it is asked about anew.
    deck.press(KeyCode::Down).press(KeyCode::Up);
    deck.effects.clear();
    deck.press(KeyCode::Enter);
    assert_eq!(deck.effects, []);
    deck.press(KeyCode::Enter);
    let id = Some(view.adapters[0].id.clone());
    assert_eq!(asked_of_study(&mut deck), Some(StudyCommand::UseAdapter { id }));
}

#[test]
fn drift_stands_beside_its_budget() {
    let mut deck = Deck::new((200, 50));
    deck.press(KeyCode::F(4));
    let mut view = training_view();
    let last = view.steps.last_mut().unwrap();
    (last.kl, last.kl_budget) = (0.15, 0.2);
    study(&mut deck, StudyEvent::Training(view.clone()));
    assert!(deck.text().contains("0.1500 a token, 75 % of 0.2"), "{}", deck.text());
    view.steps.last_mut().unwrap().kl = f64::NAN;
    study(&mut deck, StudyEvent::Training(view));
    assert!(deck.text().contains("not measured"), "{}", deck.text());
}

#[test]
fn labels_that_got_worse_set_an_alarm_off_where_one_rolls_back() {
    for size in [(120, 40), (80, 24), (60, 14)] {
        let mut deck = Deck::new(size);
        deck.press(KeyCode::F(4));
        let live = Some("9 of 12 labelled answers are bad".to_string());
        study(&mut deck, StudyEvent::Training(TrainingView { live, ..training_view() }));
        assert!(deck.text().contains("alarm: 9 of 12 labelled answers are bad"), "{}", deck.text());
    }
}

pub(super) fn training_view() -> TrainingView {
    let step = |n: usize| StepLine {
        step: n,
        reward: 0.3 + 0.05 * n as f64,
        reward_low: 0.15 + 0.05 * n as f64,
        reward_high: 0.45 + 0.05 * n as f64,
        rollouts: 8,
        kl: 0.0004 * (n * n) as f64,
        kl_budget: 0.0,
        clip_share: 0.01 * (n % 3) as f64,
        tokens_per_plan: 31.0 - n as f64,
        tools: vec![
            ("calculator".to_string(), 0.6),
            ("search".to_string(), 0.3),
            ("python".to_string(), 0.1),
        ],
        seconds: 0.7,
        groups: vec![format!("{n}f3a90cd")],
        queries: if n > 6 { vec![QUERY.to_string()] } else { Vec::new() },
        adapter: None,
        alarms: if n == 8 {
            vec!["tokens per plan: 30.00 at the start, 19.00 now".to_string()]
        } else {
            Vec::new()
        },
    };
    let adapter = |id: &str, parent: Option<&str>, current, status: &str, words: &str| AdapterLine {
        id: id.to_string(),
        parent: parent.map(String::from),
        words: words.to_string(),
        when: "2026-11-22 14:05".to_string(),
        current,
        status: status.to_string(),
        worse: None,
    };
    TrainingView {
        live: None,
        running: Some("forward 3 of 8".to_string()),
        alive: true,
        own: false,
        steps: (1..=8).map(step).collect(),
        gate: Some(GateView {
            adapter: "c0ffee12".to_string(),
            outcome: GateOutcome::CannotTell,
            only_new: 9,
            only_old: 5,
            asked: 80,
            words: "nothing speaks against it, nothing proves it better: it serves as a candidate"
                .to_string(),
        }),
        adapters: vec![
            adapter("a3f9c0de", None, false, "champion", "step 1, 1 group"),
            adapter("b1cebeef", Some("a3f9c0de"), false, "rolled back", "step 2, 1 group"),
            adapter("c0ffee12", Some("a3f9c0de"), true, "candidate", "steps 2 to 8, 7 groups"),
        ],
    }
}

#[test]
fn a_run_under_way_is_looked_at_while_its_tab_shows() {
    let mut deck = Deck::new((120, 40));
    deck.press(KeyCode::F(4));
    study(&mut deck, StudyEvent::Training(TrainingView { alive: false, ..training_view() }));
    assert_eq!(deck.app.wait(), None, "nothing runs, nothing is polled");
    study(&mut deck, StudyEvent::Training(training_view()));
    assert!(deck.app.wait().is_some());
    assert!(deck.text().contains("alarm in step 8: tokens per plan: 30.00 at the start, 19.00 now"));
    deck.input(Input::Tick);
    assert_eq!(asked_of_study(&mut deck), Some(StudyCommand::WatchTraining));
    deck.press(KeyCode::F(1));
    assert_eq!(deck.app.wait(), None, "hidden, it is left alone");
    deck.effects.clear();
    deck.input(Input::Tick);
    assert_eq!(deck.effects, []);
}

#[test]
fn a_model_is_served_by_its_name() {
    let mut deck = Deck::new((80, 24));
    deck.ask("/model ~/big.gguf");
    let path = "~/big.gguf".to_string();
    assert_eq!(asked_of_study(&mut deck), Some(StudyCommand::UseModel { path }));
    deck.ask("/model");
    assert_eq!(deck.app.tabs.shown, TabName::Models);
}

#[test]
fn the_doctor_says_what_helps() {
    each_size("doctor", |size| {
        let mut deck = Deck::new(size);
        deck.ask("/doctor");
        assert_eq!(deck.effects.pop(), Some(Effect::Command(DeckCommand::Doctor)));
        assert!(deck.text().contains("checking the engine"));
        deck.input(Input::Deck(Box::new(DeckEvent::Checks(demo::checks()))));
        deck
    });
}

#[test]
fn training_charts() {
    each_size("training", |size| {
        let mut deck = Deck::new(size);
        deck.press(KeyCode::F(4));
        study(&mut deck, StudyEvent::Training(training_view()));
        deck.press(KeyCode::Down);
        deck
    });
}

#[test]
fn a_command_typed_in_any_tab_is_a_command() {
    for tab in [3, 4, 5] {
        let mut deck = Deck::new((80, 24));
        deck.press(KeyCode::F(tab));
        deck.effects.clear();
        deck.ask("/doctor");
        assert_eq!(deck.effects, [Effect::Command(DeckCommand::Doctor)], "F{tab}");
        assert_eq!(deck.app.tabs.shown, TabName::Chat);
    }
}

#[test]
fn before_the_first_step_it_says_how_to_take_one() {
    let mut deck = Deck::new((80, 24));
    deck.press(KeyCode::F(4));
    let mut adapters = training_view().adapters;
    adapters.truncate(1);
    study(&mut deck, StudyEvent::Training(TrainingView { adapters, ..TrainingView::default() }));
    snapshot("training_fresh_80x24", &deck.text());
}

#[test]
fn adapters_are_used_rolled_back_and_compared_by_keys() {
    let mut deck = Deck::answered((120, 40), QUERY);
    deck.press(KeyCode::F(4));
    study(&mut deck, StudyEvent::Training(training_view()));
    deck.press(KeyCode::Char('b'));
    assert_eq!(asked_of_study(&mut deck), Some(StudyCommand::Rollback));
    deck.press(KeyCode::Down).press(KeyCode::Enter);
    assert_eq!(
        asked_of_study(&mut deck),
        Some(StudyCommand::UseAdapter { id: Some("b1cebeef".to_string()) })
    );
    deck.press(KeyCode::Char('='));
    let expected = StudyCommand::WhatChanged {
        query: QUERY.to_string(),
        before: Some("a3f9c0de".to_string()),
        after: Some("b1cebeef".to_string()),
    };
    assert_eq!(asked_of_study(&mut deck), Some(expected));
}

#[test]
fn what_a_step_changed() {
    each_size("difference", |size| {
        let side = |adapter: &str, words: &[(&str, f32)], answer: &str| Side {
            adapter: adapter.to_string(),
            tokens: words.iter().map(|(text, p)| (text.to_string(), p.ln())).collect(),
            answer: answer.to_string(),
        };
        let mut deck = Deck::new(size);
        deck.press(KeyCode::F(4));
        let before = [("Sub-goal: ", 0.99), ("find ", 0.6), ("Peru ", 0.8), ("Tool: ", 0.99), ("base", 0.4)];
        let after =
            [("Sub-goal: ", 0.99), ("find ", 0.9), ("both ", 0.7), ("Tool: ", 0.99), ("search", 0.95)];
        study(
            &mut deck,
            StudyEvent::Difference(Box::new(Difference {
                query: QUERY.to_string(),
                before: side("none", &before, "I do not know."),
                after: side("c0ffee12", &after, "1.73"),
            })),
        );
        deck
    });
}

#[test]
fn models_on_this_machine() {
    each_size("models", |size| {
        let mut deck = Deck::new(size);
        deck.press(KeyCode::F(5));
        let line = |name: &str, current, fits, trainable, words: &str| ModelLine {
            name: name.to_string(),
            path: format!("/home/me/models/{name}.gguf"),
            place: "Hugging Face".to_string(),
            bytes: 4_683_000_000,
            parameters: 7_600_000_000,
            file_type: "Q4_K".to_string(),
            current,
            fits,
            trainable,
            words: words.to_string(),
            offer: None,
        };
        study(
            &mut deck,
            StudyEvent::Models(vec![
                line("qwen2.5-7b-instruct", true, true, true, ""),
                line("llama-3.3-70b", false, false, false, "needs 43.1 GB, 22.0 are free"),
                offered(),
            ]),
        );
        deck
    });
}

pub(super) fn offered() -> ModelLine {
    ModelLine {
        name: "Qwen3 4B".to_string(),
        path: "Qwen/Qwen3-4B-GGUF Qwen3-4B-Q4_K_M.gguf".to_string(),
        place: "to download".to_string(),
        bytes: 2_497_280_256,
        parameters: 4_020_000_000,
        file_type: "Q4_K".to_string(),
        fits: true,
        trainable: true,
        offer: Some(Offer { repo: "Qwen/Qwen3-4B-GGUF".into(), file: "Qwen3-4B-Q4_K_M.gguf".into() }),
        ..ModelLine::default()
    }
}

#[test]
fn a_model_is_downloaded_when_asked_for_twice_and_can_be_stopped() {
    let mut deck = Deck::new((100, 30));
    deck.press(KeyCode::F(5));
    study(&mut deck, StudyEvent::Models(vec![offered()]));
    deck.effects.clear();
    deck.press(KeyCode::Enter);
    assert!(deck.effects.is_empty(), "nothing is contacted yet");
    assert!(
        deck.text().contains("Enter once more downloads 2.5 GB of Qwen/Qwen3-4B-GGUF"),
        "{}",
        deck.text()
    );
    deck.press(KeyCode::Down).press(KeyCode::Enter);
    assert!(deck.effects.is_empty(), "another key came between");
    deck.press(KeyCode::Enter);
    let offer = offered().offer.unwrap();
    assert_eq!(asked_of_study(&mut deck), Some(StudyCommand::PullModel(offer.clone())));
    let file = offer.file.clone();
    study(&mut deck, StudyEvent::Pulling { file: file.clone(), here: 500_000_000, bytes: 2_497_280_256 });
    assert!(deck.text().contains("20 % here"), "{}", deck.text());
    deck.press(KeyCode::Enter);
    assert_eq!(asked_of_study(&mut deck), Some(StudyCommand::StopPull));
    study(&mut deck, StudyEvent::Pulled { file, stopped: true, done: false });
    assert_eq!(asked_of_study(&mut deck), Some(StudyCommand::FindModels));
    assert!(
        deck.text().contains("what came is kept") && deck.text().contains("to download"),
        "{}",
        deck.text()
    );
}
