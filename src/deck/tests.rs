//! Keys and events in, screens out: the app as it is, drawn into a buffer or through real escape output.

use std::fmt::Write as _;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;

use crate::deck::app::{App, Effect, Input, press};
use crate::deck::astray;
use crate::deck::demo;
use crate::deck::message::{DeckCommand, DeckEvent, LabelValue, Scope};
use crate::deck::screen::Screen;
use crate::deck::tab::TabName;
use crate::deck::theme::{self, Theme};
use crate::flow::event::{Body, Event};

#[path = "tests_approval.rs"]
mod approval;
#[path = "tests_chat.rs"]
mod chat;
#[path = "tests_queue.rs"]
mod queue;
#[path = "tests_random.rs"]
mod random;

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 50)];
const SMALL: (u16, u16) = (40, 12);
pub(super) const QUERY: &str = "What is the population of Peru divided by that of Chile?";

/// An app, its screen, and what it asked for.
pub(super) struct Deck {
    pub app: App,
    screen: Screen<Vec<u8>>,
    pub effects: Vec<Effect>,
    pub now_ms: u64,
}

impl Deck {
    pub fn new(size: (u16, u16)) -> Deck {
        Deck::of(demo::app(0, size).unwrap(), size)
    }

    pub fn of(app: App, size: (u16, u16)) -> Deck {
        Deck { app, screen: Screen::new(Vec::new(), size), effects: Vec::new(), now_ms: 0 }
    }

    pub fn input(&mut self, input: Input) -> &mut Deck {
        self.effects.extend(self.app.update(input, self.now_ms));
        self
    }

    /// A key on purpose: nothing follows it at once.
    pub fn press(&mut self, code: KeyCode) -> &mut Deck {
        self.input(press(code));
        if self.app.letter_waits() {
            self.now_ms += astray::HOLD_MS;
            self.input(Input::Tick);
        }
        self
    }

    pub fn chord(&mut self, modifiers: KeyModifiers, code: char) -> &mut Deck {
        self.input(Input::Key(KeyEvent::new(KeyCode::Char(code), modifiers)))
    }

    pub fn type_text(&mut self, text: &str) -> &mut Deck {
        for c in text.chars() {
            self.input(press(KeyCode::Char(c)));
        }
        self
    }

    pub fn ask(&mut self, query: &str) -> &mut Deck {
        self.type_text(query).press(KeyCode::Enter)
    }

    /// Play the script of `query` as trajectory `id`, up to the first event `until` holds for.
    pub fn play_until(&mut self, id: &str, query: &str, until: impl Fn(&DeckEvent) -> bool) -> &mut Deck {
        for (pause_ms, event) in demo::script(id, query) {
            self.now_ms += pause_ms;
            let last = until(&event);
            self.input(Input::Deck(Box::new(event)));
            if last {
                break;
            }
        }
        self
    }

    pub fn play(&mut self, id: &str, query: &str) -> &mut Deck {
        self.play_until(id, query, |_| false)
    }

    /// Ask and play to the end.
    pub fn answered(size: (u16, u16), query: &str) -> Deck {
        let mut deck = Deck::new(size);
        deck.ask(query).play("t-1", query);
        deck
    }

    pub fn buffer(&mut self) -> &Buffer {
        self.screen.draw(&mut self.app).unwrap();
        self.screen.buffer()
    }

    pub fn text(&mut self) -> String {
        text(self.buffer())
    }

    pub fn value(&self) -> String {
        self.app.tabs.chat.composer.value()
    }
}

fn text(buffer: &Buffer) -> String {
    let mut out = String::new();
    for y in 0..buffer.area.height {
        let mut skip = 0;
        let mut line = String::new();
        for x in 0..buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            if skip == 0 {
                line.push_str(symbol);
            }
            skip = if skip > 0 {
                skip - 1
            } else {
                unicode_width::UnicodeWidthStr::width(symbol).saturating_sub(1)
            };
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// The lines with their styles, one run after the other.
pub(super) fn styled(buffer: &Buffer) -> String {
    let mut out = String::new();
    for y in 0..buffer.area.height {
        let mut last = None;
        for x in 0..buffer.area.width {
            let cell = &buffer[(x, y)];
            let style = (cell.fg, cell.bg, cell.modifier);
            if last != Some(style) {
                let _ = write!(out, "\u{ab}{:?} {:?} {:?}\u{bb}", style.0, style.1, style.2);
                last = Some(style);
            }
            out.push_str(cell.symbol());
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out.replace("NONE", "-")
}

fn turn_2_runs(event: &DeckEvent) -> bool {
    matches!(event, DeckEvent::Flow(Event { body: Body::Command { turn: 2, .. }, .. }))
}

pub(super) fn snapshot(name: &str, content: &str) {
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, content);
    });
}

pub(super) fn each_size(name: &str, scene: impl Fn((u16, u16)) -> Deck) {
    for size in SIZES.into_iter().chain([SMALL]) {
        snapshot(&format!("{name}_{}x{}", size.0, size.1), &scene(size).text());
    }
}

#[test]
fn first_screen() {
    each_size("first", Deck::new);
}

#[test]
fn live_turn() {
    each_size("live", |size| {
        let mut deck = Deck::new(size);
        deck.ask(QUERY).play_until("t-1", QUERY, turn_2_runs);
        deck.ask("and of Bolivia?").type_text("typing goes on");
        deck
    });
}

#[test]
fn finished_answer() {
    each_size("answered", |size| {
        let mut deck = Deck::answered(size, QUERY);
        deck.press(KeyCode::Char('['));
        deck
    });
}

#[test]
fn failed_query() {
    each_size("failed", |size| Deck::answered(size, "fail please"));
}

#[test]
fn help_page() {
    each_size("help", |size| {
        let mut deck = Deck::new(size);
        deck.press(KeyCode::Char('?'));
        deck
    });
}

#[test]
fn empty_tabs_say_what_fills_them() {
    for (n, name) in TabName::ALL.into_iter().enumerate().skip(1) {
        each_size(&format!("empty_{}", name.words()), |size| {
            let mut deck = Deck::new(size);
            deck.press(KeyCode::F(u8::try_from(n + 1).unwrap()));
            deck
        });
    }
}

#[test]
fn every_tab_can_be_left_and_keeps_its_state() {
    let mut deck = Deck::new((80, 24));
    deck.type_text("a draft").chord(KeyModifiers::ALT, '3').type_text("x");
    assert_eq!(deck.app.tabs.shown, TabName::Groups);
    deck.press(KeyCode::Esc);
    assert_eq!((deck.app.tabs.shown, deck.value().as_str()), (TabName::Chat, "a draft"));
    deck.input(Input::Key(KeyEvent::new(KeyCode::Left, KeyModifiers::ALT)));
    assert_eq!(deck.app.tabs.shown, TabName::Models);
    deck.input(Input::Key(KeyEvent::new(KeyCode::Right, KeyModifiers::ALT)));
    assert_eq!(deck.app.tabs.shown, TabName::Chat);
}

#[test]
fn narrow_screen_shows_one_pane_at_a_time() {
    let mut deck = Deck::answered((80, 24), QUERY);
    deck.press(KeyCode::Char('[')).press(KeyCode::F(7));
    snapshot("tool_pane_80x24", &deck.text());
    deck.press(KeyCode::Tab).press(KeyCode::Tab);
    snapshot("memory_pane_80x24", &deck.text());
    deck.press(KeyCode::Tab);
    assert!(deck.text().contains("Chile 19.6 million."));
}

#[test]
fn themes() {
    for name in theme::NAMES {
        let mut deck = Deck::answered((100, 16), QUERY);
        deck.app.look.theme = Theme::named(name).unwrap();
        deck.press(KeyCode::Tab);
        let content = styled(deck.buffer());
        snapshot(&format!("theme_{name}"), &content);
        if *name == "mono" {
            assert!(!content.contains("Rgb") && !content.contains("Cyan"));
        }
    }
}

#[test]
fn tiny_screens_say_what_they_need() {
    for size in [(1, 1), (10, 3), (23, 6), (24, 6), (30, 7), (100, 16), (101, 17)] {
        let mut deck = Deck::answered(size, QUERY);
        deck.press(KeyCode::Char('?'));
        deck.buffer();
    }
}

fn asked(effects: &[Effect]) -> Vec<&str> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Command(DeckCommand::Ask { query, .. }) => Some(query.as_str()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_query_sent_while_one_runs_waits_its_turn() {
    let mut deck = Deck::new((80, 24));
    deck.ask("one").ask("two").ask("three");
    assert_eq!(asked(&deck.effects), ["one"]);
    assert!(deck.text().contains("2 queued"));
    deck.play("t-1", "one");
    assert_eq!(asked(&deck.effects), ["one", "two"]);
    deck.input(Input::Deck(Box::new(DeckEvent::Refused { reason: "no".into(), remedy: "yes".into() })));
    assert_eq!(asked(&deck.effects), ["one", "two", "three"]);
    assert!(deck.text().contains("failed: no"));
}

#[test]
fn escape_cancels_and_the_ladder_quits() {
    let mut deck = Deck::new((80, 24));
    deck.ask("one").press(KeyCode::Esc);
    assert_eq!(deck.effects.pop(), Some(Effect::Command(DeckCommand::Cancel)));
    let body = Body::Cancelled { turn: 0 };
    let (_, first) = demo::script("t-1", "one").remove(0);
    deck.input(Input::Deck(Box::new(first)));
    let event = Event { trajectory: "t-1".into(), seq: 9, t_ms: 1.0, body };
    deck.input(Input::Deck(Box::new(DeckEvent::Flow(event))));
    assert!(deck.text().contains("cancelled"));

    deck.effects.clear();
    let ctrl = KeyModifiers::CONTROL;
    deck.press(KeyCode::Char('?')).chord(ctrl, 'c');
    assert!(deck.app.layers.is_empty() && deck.effects.is_empty());
    deck.type_text("text").chord(ctrl, 'c');
    assert!(deck.value().is_empty() && deck.effects.is_empty());
    deck.chord(ctrl, 'c').press(KeyCode::Left).chord(ctrl, 'c');
    assert!(deck.effects.is_empty());
    deck.chord(ctrl, 'c');
    assert_eq!(deck.effects, [Effect::Command(DeckCommand::Quit), Effect::Quit]);
    deck.press(KeyCode::Up);
    assert_eq!(deck.value(), "text", "what Ctrl+C cleared comes back");
}

#[test]
fn labels_carry_what_cannot_be_reconstructed() {
    let mut deck = Deck::answered((80, 24), QUERY);
    deck.text();
    deck.now_ms += 2_500;
    deck.effects.clear();
    deck.press(KeyCode::Char('+'));
    let Some(Effect::Command(DeckCommand::Label(label))) = deck.effects.pop() else { panic!("no label") };
    assert_eq!(
        (label.trajectory.as_str(), label.scope, label.value),
        ("t-1", Scope::Answer, LabelValue::Good)
    );
    assert_eq!((label.turn, label.shown_set), (None, vec!["t-1".to_string()]));
    assert!((label.seconds - 2.5).abs() < 1e-9);
    assert!(deck.text().contains("(good, saving)"));
    let stored = DeckEvent::LabelStored {
        trajectory: "t-1".into(),
        turn: None,
        scope: Scope::Answer,
        value: LabelValue::Good,
        correction: None,
    };
    deck.input(Input::Deck(Box::new(stored)));
    assert!(deck.text().contains("(good)"));

    deck.chord(KeyModifiers::ALT, 'p');
    let Some(Effect::Command(DeckCommand::Label(label))) = deck.effects.pop() else { panic!("no label") };
    assert_eq!((label.scope, label.turn), (Scope::Plan, None));
    deck.press(KeyCode::Char('[')).chord(KeyModifiers::ALT, 'p');
    let Some(Effect::Command(DeckCommand::Label(label))) = deck.effects.pop() else { panic!("no label") };
    assert_eq!((label.scope, label.turn), (Scope::Turn, Some(2)));

    deck.chord(KeyModifiers::ALT, 'u');
    assert_eq!(deck.effects.len(), 3, "every label is taken back");
}

#[test]
fn a_correction_is_a_bad_label_with_words() {
    let mut deck = Deck::answered((80, 24), QUERY);
    deck.chord(KeyModifiers::ALT, 'c').type_text("1.7347");
    assert!(deck.text().contains("what should the answer have been?"));
    deck.press(KeyCode::Enter);
    let Some(Effect::Command(DeckCommand::Label(label))) = deck.effects.pop() else { panic!("no label") };
    assert_eq!((label.value, label.correction.as_deref()), (LabelValue::Bad, Some("1.7347")));
    assert!(deck.text().contains("should be: 1.7347"));
}

#[test]
fn a_correction_that_was_not_sent_comes_back_where_it_was_begun() {
    let mut deck = Deck::answered((80, 24), QUERY);
    deck.chord(KeyModifiers::ALT, 'c').type_text("one and three quarters").press(KeyCode::Esc);
    assert!(deck.app.layers.is_empty() && deck.text().contains("stands there again"), "{}", deck.text());
    deck.play("t-2", "another question");
    deck.chord(KeyModifiers::ALT, 'c');
    assert!(!deck.text().contains("three quarters"), "it is about another answer");
    deck.press(KeyCode::Esc);
    deck.input(Input::Key(crossterm::event::KeyEvent::new(KeyCode::Up, KeyModifiers::ALT)));
    deck.input(Input::Key(crossterm::event::KeyEvent::new(KeyCode::Up, KeyModifiers::ALT)));
    deck.chord(KeyModifiers::ALT, 'c');
    assert!(deck.text().contains("one and three quarters"), "{}", deck.text());
    deck.effects.clear();
    deck.press(KeyCode::Enter);
    let Some(Effect::Command(DeckCommand::Label(label))) = deck.effects.pop() else { panic!("no label") };
    assert_eq!(
        (label.trajectory.as_str(), label.correction.as_deref()),
        ("t-1", Some("one and three quarters"))
    );
    // Sent, it is no draft any more.
    deck.chord(KeyModifiers::ALT, 'c');
    assert!(deck.app.drafts.is_empty());
}

#[test]
fn how_long_a_label_holds_is_asked_of_a_labelled_answer() {
    let mut deck = Deck::answered((80, 24), QUERY);
    deck.effects.clear();
    deck.chord(KeyModifiers::ALT, 'x');
    assert!(deck.effects.is_empty() && deck.text().contains("label an answer first"), "{}", deck.text());
    deck.press(KeyCode::Char('+'));
    deck.effects.clear();
    deck.chord(KeyModifiers::ALT, 'x');
    assert!(deck.text().contains("does this answer change over time?"), "{}", deck.text());
    deck.type_text("30d").press(KeyCode::Enter);
    let expires = DeckCommand::Expires { trajectory: "t-1".into(), after: "30d".into() };
    assert_eq!(deck.effects, [Effect::Command(expires)]);
}

#[test]
fn a_query_that_waits_for_a_step_says_so() {
    let mut deck = Deck::new((80, 24));
    deck.ask("What is 6*7?");
    deck.input(Input::Deck(Box::new(DeckEvent::Waits(true))));
    assert!(deck.text().contains("waits for the training step to end (F4 shows it)"), "{}", deck.text());
    deck.now_ms += 3_000;
    deck.input(Input::Tick);
    assert!(deck.text().contains("(F4 shows it) · 3 s"), "{}", deck.text());
    deck.effects.clear();
    deck.press(KeyCode::Esc);
    assert_eq!(deck.effects, [Effect::Command(DeckCommand::Cancel)]);
    deck.input(Input::Deck(Box::new(DeckEvent::Waits(false))));
    assert!(deck.text().contains("on its way to the engine"), "{}", deck.text());
}

#[test]
fn what_did_not_end_well_cannot_be_labelled() {
    let mut deck = Deck::answered((80, 24), "fail please");
    deck.effects.clear();
    deck.press(KeyCode::Char('+'));
    assert!(deck.effects.is_empty());
    assert!(deck.text().contains("only an answered query can be labelled"));
}

#[test]
fn symbols_type_where_they_have_nothing_to_act_on() {
    let mut deck = Deck::new((80, 24));
    deck.type_text("[2, 3] + -1?");
    assert_eq!(deck.value(), "[2, 3] + -1?");
    let mut deck = Deck::answered((80, 24), QUERY);
    deck.type_text("please use 24 + [2]?");
    assert_eq!(deck.value(), "please use 24 + [2]?");
}

#[test]
fn a_large_binary_paste_is_taken_whole_and_shown_small() {
    let mut deck = Deck::new((80, 24));
    let paste: String = (0..1_048_576u32).map(|n| char::from((n % 251) as u8)).collect();
    deck.input(Input::Paste(paste));
    assert!(deck.text().contains("> [pasted "));
    deck.press(KeyCode::Enter);
    let query = asked(&deck.effects)[0];
    assert!(query.len() > 500_000 && !query.contains('\u{1b}'));
    deck.text();
}

/// Everything a hostile model, tool or page sends, through real escape output into a terminal.
#[test]
fn hostile_text_reaches_no_terminal() {
    for size in SIZES {
        let mut deck = Deck::answered(size, "hostile");
        let mut bytes = Vec::new();
        for key in [KeyCode::Tab, KeyCode::F(6), KeyCode::F(7), KeyCode::F(8), KeyCode::F(9), KeyCode::Esc] {
            deck.press(key);
            let mut screen = Screen::new(&mut bytes, size);
            screen.draw(&mut deck.app).unwrap();
        }
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.contains("abcd"), "the harmless part shows");
        for c in ['\u{7}', '\u{9b}', '\u{9d}', '\u{202e}', '\u{e0041}'] {
            assert!(!text.contains(c), "{c:?} got through");
        }
        assert_eq!(foreign_sequences(&bytes), Vec::<String>::new());
        let mut terminal = vt100::Parser::new(size.1.try_into().unwrap(), size.0.try_into().unwrap(), 0);
        let mut last = Vec::new();
        Screen::new(&mut last, size).draw(&mut deck.app).unwrap();
        terminal.process(&last);
        let shown: Vec<String> =
            terminal.screen().contents().lines().map(|l| l.trim_end().to_string()).collect();
        let drawn = deck.text();
        let drawn: Vec<&str> = drawn.trim_end().lines().collect();
        assert_eq!(shown, drawn, "the terminal shows what was drawn");
    }
}

/// One whole frame of the deck as a terminal gets it.
fn bytes_of(deck: &mut Deck) -> Vec<u8> {
    let mut bytes = Vec::new();
    let size = deck.app.size;
    Screen::new(&mut bytes, size).draw(&mut deck.app).unwrap();
    bytes
}

/// Escape sequences other than moving, erasing, inking, the cursor and the synchronized update.
fn foreign_sequences(bytes: &[u8]) -> Vec<String> {
    #[derive(Default)]
    struct Watch(Vec<String>);
    impl vte::Perform for Watch {
        fn osc_dispatch(&mut self, params: &[&[u8]], _: bool) {
            self.0.push(format!("OSC {params:?}"));
        }
        fn hook(&mut self, _: &vte::Params, _: &[u8], _: bool, action: char) {
            self.0.push(format!("DCS {action}"));
        }
        fn esc_dispatch(&mut self, _: &[u8], _: bool, byte: u8) {
            self.0.push(format!("ESC {byte}"));
        }
        fn execute(&mut self, byte: u8) {
            self.0.push(format!("C0 {byte}"));
        }
        fn csi_dispatch(&mut self, _: &vte::Params, _: &[u8], _: bool, action: char) {
            if !"CHmJhl".contains(action) {
                self.0.push(format!("CSI {action}"));
            }
        }
    }
    let mut watch = Watch::default();
    vte::Parser::new().advance(&mut watch, bytes);
    watch.0
}

#[test]
fn a_frame_without_change_writes_nothing() {
    let mut bytes = Vec::new();
    let mut deck = Deck::answered((120, 40), QUERY);
    let mut screen = Screen::new(&mut bytes, (120, 40));
    screen.draw(&mut deck.app).unwrap();
    screen.draw(&mut deck.app).unwrap();
    drop(screen);
    let once = bytes.len();
    let mut again = Vec::new();
    Screen::new(&mut again, (120, 40)).draw(&mut deck.app).unwrap();
    assert_eq!(once, again.len());
}
