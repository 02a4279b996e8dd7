//! Random keys and events: nothing panics, no typed input is lost, the running query always gets its end.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use proptest::prelude::*;

use super::{Deck, QUERY, asked};
use crate::deck::app::{Effect, Input};
use crate::deck::completion::Files;
use crate::deck::demo;
use crate::deck::library::LibraryEvent;
use crate::deck::message::DeckEvent;
use crate::deck::tab::TabName;
use crate::flow::event::{Body, Event};

#[derive(Clone, Debug)]
enum Step {
    Key(KeyCode, KeyModifiers),
    Paste(String),
    Resize(u16, u16),
    /// Play this many events of the script of the running query.
    Events(usize),
    Tick,
    Focus(bool),
    Wheel(bool),
    Click(u16, u16),
    /// The worker dies under the running query.
    Death,
    Files,
    /// A rewind asked for earlier is answered.
    Rewound,
    /// The editor comes back.
    Edited,
}

/// Events of the scripted engine still to come, for every query asked.
#[derive(Default)]
struct Feeder {
    pending: Vec<DeckEvent>,
    seen: usize,
}

impl Feeder {
    /// Queue the script of every query asked since.
    fn listen(&mut self, effects: &[Effect]) {
        let queries = asked(effects);
        for (n, query) in queries.iter().enumerate().skip(self.seen) {
            self.pending.extend(demo::script(&format!("t-{n}"), query).into_iter().map(|(_, event)| event));
        }
        self.seen = queries.len();
    }

    fn play(&mut self, deck: &mut Deck, count: usize) {
        for event in self.pending.drain(..count.min(self.pending.len())) {
            deck.input(Input::Deck(Box::new(event)));
        }
    }

    /// The running query ends as it does when the worker aborts.
    fn die(&mut self, deck: &mut Deck) {
        let flow = |event: &DeckEvent| match event {
            DeckEvent::Flow(event) => Some(event.trajectory.clone()),
            _ => None,
        };
        let Some(trajectory) = self.pending.iter().find_map(flow) else { return };
        let (reason, remedy) = ("the engine worker died".to_string(), "ask again".to_string());
        let died = DeckEvent::EngineDied { reason: reason.clone(), remedy: remedy.clone() };
        deck.input(Input::Deck(Box::new(died)));
        self.pending.retain(|event| flow(event).as_ref() != Some(&trajectory));
        self.pending.retain(|event| matches!(event, DeckEvent::Flow(_)));
        let body = Body::Failed { reason, remedy, cause: crate::flow::event::Cause::Engine };
        if deck.app.tabs.chat.is_running() {
            let started = demo::script(&trajectory, "x").remove(0).1;
            deck.input(Input::Deck(Box::new(started)));
        }
        let event = Event { trajectory, seq: 999, t_ms: 1.0, body };
        deck.input(Input::Deck(Box::new(DeckEvent::Flow(event))));
    }
}

fn step() -> impl Strategy<Value = Step> {
    let codes = vec![
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Tab,
        KeyCode::BackTab,
        KeyCode::Up,
        KeyCode::Down,
        KeyCode::Left,
        KeyCode::Right,
        KeyCode::Home,
        KeyCode::End,
        KeyCode::PageUp,
        KeyCode::PageDown,
        KeyCode::Backspace,
        KeyCode::Delete,
        KeyCode::F(1),
        KeyCode::F(2),
        KeyCode::F(3),
        KeyCode::F(4),
        KeyCode::F(5),
        KeyCode::F(6),
        KeyCode::F(9),
        KeyCode::F(12),
        KeyCode::Insert,
    ];
    let modifiers = prop::sample::select(vec![
        KeyModifiers::NONE,
        KeyModifiers::NONE,
        KeyModifiers::SHIFT,
        KeyModifiers::CONTROL,
        KeyModifiers::ALT,
    ]);
    prop_oneof![
        4 => (prop::sample::select(codes), modifiers.clone()).prop_map(|(c, m)| Step::Key(c, m)),
        6 => (prop::char::any(), modifiers).prop_map(|(c, m)| Step::Key(KeyCode::Char(c), m)),
        3 => prop::sample::select("+-[]?pu \\12ab".chars().collect::<Vec<_>>())
            .prop_map(|c| Step::Key(KeyCode::Char(c), KeyModifiers::NONE)),
        1 => any::<String>().prop_map(Step::Paste),
        1 => (0u16..220, 0u16..60).prop_map(|(w, h)| Step::Resize(w, h)),
        3 => (1usize..60).prop_map(Step::Events),
        1 => Just(Step::Tick),
        1 => any::<bool>().prop_map(Step::Focus),
        1 => any::<bool>().prop_map(Step::Wheel),
        1 => (0u16..220, 0u16..60).prop_map(|(x, y)| Step::Click(x, y)),
        1 => Just(Step::Death),
        1 => Just(Step::Files),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever is pressed and whatever arrives: no panic, and the running query always gets its end.
    #[test]
    fn random_keys_and_events_never_panic(steps in prop::collection::vec(step(), 1..80)) {
        let mut deck = Deck::new((90, 30));
        let mut feeder = Feeder::default();
        for step in steps {
            take(&mut deck, &mut feeder, step);
            feeder.listen(&deck.effects);
            deck.now_ms += 700;
            deck.buffer();
        }
        // Whatever happened: what was asked can end, and the next query is asked.
        deck.app.layers.clear();
        deck.app.tabs.shown = TabName::Chat;
        // Nothing stands over the input: a view inside a trajectory, or a pane, takes Enter for itself.
        deck.app.tabs.chat.inside = None;
        deck.app.tabs.chat.panes.focus = None;
        while !feeder.pending.is_empty() {
            feeder.play(&mut deck, 10);
            feeder.listen(&deck.effects);
        }
        prop_assert!(!deck.app.tabs.chat.is_running() && deck.app.tabs.chat.queue_len() == 0);
        deck.input(Input::Edited("one more".to_string())).press(KeyCode::Enter);
        prop_assert_eq!(asked(&deck.effects).last().copied(), Some("one more"));
    }

    /// Letters typed between anything but editing keys are all in the input, in order.
    #[test]
    fn no_typed_input_is_lost(steps in prop::collection::vec(
        prop_oneof![
            4 => prop::char::range('d', 'o').prop_map(|c| Step::Key(KeyCode::Char(c), KeyModifiers::NONE)),
            1 => prop::sample::select(vec![KeyCode::Tab, KeyCode::BackTab, KeyCode::F(6), KeyCode::F(8),
                KeyCode::PageUp, KeyCode::PageDown, KeyCode::F(9)])
                .prop_map(|c| Step::Key(c, KeyModifiers::NONE)),
            1 => (30u16..220, 8u16..60).prop_map(|(w, h)| Step::Resize(w, h)),
            2 => (1usize..30).prop_map(Step::Events),
            1 => Just(Step::Death),
            1 => any::<bool>().prop_map(Step::Focus),
            1 => any::<bool>().prop_map(Step::Wheel),
            1 => Just(Step::Key(KeyCode::Char('g'), KeyModifiers::CONTROL)),
        ], 1..80)) {
        let mut deck = Deck::new((90, 30));
        deck.ask(QUERY);
        let mut feeder = Feeder::default();
        let mut typed = String::new();
        for step in steps {
            if let Step::Key(KeyCode::Char(c), KeyModifiers::NONE) = &step {
                typed.push(*c);
            }
            take(&mut deck, &mut feeder, step);
            feeder.listen(&deck.effects);
            deck.buffer();
        }
        prop_assert_eq!(deck.value(), typed);
    }

    /// Keys that put something else into the input, and keys that lead away from it: what stood there is still
    /// there, or a press of Up away, or it was asked.
    #[test]
    fn no_typed_input_is_lost_by_other_keys(steps in prop::collection::vec(
        prop_oneof![
            5 => prop::sample::select("defghijklmno".chars().collect::<Vec<_>>())
                .prop_map(|c| Step::Key(KeyCode::Char(c), KeyModifiers::NONE)),
            3 => prop::sample::select(vec![KeyCode::Up, KeyCode::Down, KeyCode::Enter, KeyCode::Esc,
                KeyCode::Left, KeyCode::Tab, KeyCode::F(1), KeyCode::F(2), KeyCode::F(3), KeyCode::F(4)])
                .prop_map(|c| Step::Key(c, KeyModifiers::NONE)),
            3 => prop::sample::select("rrcnopgd".chars().collect::<Vec<_>>())
                .prop_map(|c| Step::Key(KeyCode::Char(c), KeyModifiers::CONTROL)),
            2 => prop::sample::select("qgkwez".chars().collect::<Vec<_>>())
                .prop_map(|c| Step::Key(KeyCode::Char(c), KeyModifiers::ALT)),
            2 => (1usize..30).prop_map(Step::Events),
            1 => Just(Step::Rewound),
            1 => Just(Step::Edited),
            1 => Just(Step::Death),
        ], 1..80)) {
        let mut deck = Deck::new((90, 30));
        deck.ask(QUERY);
        let mut feeder = Feeder::default();
        for step in steps {
            let before = deck.value();
            // In the middle of a text Ctrl+D takes a letter away, as asked.
            let deletes = matches!(&step, Step::Key(KeyCode::Char('d'), KeyModifiers::CONTROL));
            let told = format!("{step:?}");
            take(&mut deck, &mut feeder, step);
            feeder.listen(&deck.effects);
            deck.now_ms += 300;
            let composer = &deck.app.tabs.chat.composer;
            let kept = deletes
                || before.trim().is_empty()
                || is_within(&before, &composer.value())
                || composer.draft().is_some_and(|draft| is_within(&before, draft))
                || composer.history().contains(&before);
            prop_assert!(kept, "{before:?} was lost by {told}");
        }
    }
}

/// Whether every letter of `text` stands in `whole`, in order.
fn is_within(text: &str, whole: &str) -> bool {
    let mut rest = whole.chars();
    text.chars().all(|c| rest.any(|other| other == c))
}

fn take(deck: &mut Deck, feeder: &mut Feeder, step: Step) {
    let input = match step {
        Step::Key(code, modifiers) => Input::Key(KeyEvent::new(code, modifiers)),
        Step::Paste(text) => Input::Paste(text),
        Step::Resize(columns, rows) => Input::Resize(columns, rows),
        Step::Tick => Input::Tick,
        Step::Focus(focused) => Input::Focus(focused),
        Step::Wheel(down) => Input::Wheel(down),
        Step::Click(column, row) => Input::Click(column, row),
        Step::Files => {
            let names = ["data/", "x.csv"].map(String::from).to_vec();
            Input::Files(Files { names, ..Files::default() })
        }
        Step::Rewound => {
            let (session, query) = ("w".to_string(), "rewound".to_string());
            let rewound = LibraryEvent::Rewound { session, past: Vec::new(), query };
            Input::Deck(Box::new(DeckEvent::Library(rewound)))
        }
        Step::Edited => Input::Edited("edited".to_string()),
        Step::Events(count) => return feeder.play(deck, count),
        Step::Death => return feeder.die(deck),
    };
    deck.input(input);
}
