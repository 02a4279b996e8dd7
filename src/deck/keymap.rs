//! Keys: one table of (where, key, what, words). Look-ups and the help page read the same rows.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::deck::composer::Edit;

/// What a key asks for. Where it ends up is the screen's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Send,
    Newline,
    Edit(Edit),
    /// Close what is open, else cancel the running query, else back to the newest.
    Escape,
    /// The Ctrl+C ladder: close, clear, cancel, quit.
    Interrupt,
    QuitIfEmpty,
    Suspend,
    Redraw,
    Help,
    NextPane,
    PreviousPane,
    Pane(usize),
    TurnBack,
    TurnForward,
    QueryBack,
    QueryForward,
    ScrollUp,
    ScrollDown,
    PageUp,
    PageDown,
    Newest,
    Good,
    Bad,
    PlanBad,
    Correct,
    ClearLabel,
    Copy,
    NewConversation,
}

/// Where a key has a meaning. Earlier is looked up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A popup is open.
    Popup,
    /// One of the four panes has the focus.
    Pane,
    /// The input is empty and there is a query to act on.
    EmptyInput,
    Anywhere,
}

pub struct Binding {
    pub place: Place,
    pub key: (KeyModifiers, KeyCode),
    pub action: Action,
    /// What the help page says; empty rows are not printed.
    pub words: &'static str,
}

const NONE: KeyModifiers = KeyModifiers::NONE;
const CTRL: KeyModifiers = KeyModifiers::CONTROL;
const ALT: KeyModifiers = KeyModifiers::ALT;
const SHIFT: KeyModifiers = KeyModifiers::SHIFT;

const fn on(
    place: Place,
    modifiers: KeyModifiers,
    code: KeyCode,
    action: Action,
    words: &'static str,
) -> Binding {
    Binding { place, key: (modifiers, code), action, words }
}

use KeyCode::{Char, F};
use Place::{Anywhere, EmptyInput, Pane, Popup};

/// Every key of the deck, in the order the help page prints them.
#[rustfmt::skip]
pub const KEYS: &[Binding] = &[
    on(Anywhere, NONE, KeyCode::Enter, Action::Send, "send the query; while one runs it waits in the queue"),
    on(Anywhere, CTRL, Char('j'), Action::Newline, "new line (or \\ and Enter)"),
    on(Anywhere, ALT, KeyCode::Enter, Action::Newline, "new line (or \\ and Enter)"),
    on(Anywhere, SHIFT, KeyCode::Enter, Action::Newline, "new line (or \\ and Enter)"),
    on(Anywhere, NONE, KeyCode::Esc, Action::Escape, "close, cancel the running query, back to the newest"),
    on(Anywhere, CTRL, Char('c'), Action::Interrupt, "close, clear the input, cancel; twice: quit"),
    on(Anywhere, CTRL, Char('d'), Action::QuitIfEmpty, "quit when the input is empty"),

    on(Anywhere, NONE, KeyCode::Tab, Action::NextPane, "next pane, then back to the conversation"),
    on(Anywhere, SHIFT, KeyCode::BackTab, Action::PreviousPane, "pane before"),
    on(Anywhere, NONE, F(1), Action::Pane(0), "plan, tool calls, verdicts, memory"),
    on(Anywhere, NONE, F(2), Action::Pane(1), "plan, tool calls, verdicts, memory"),
    on(Anywhere, NONE, F(3), Action::Pane(2), "plan, tool calls, verdicts, memory"),
    on(Anywhere, NONE, F(4), Action::Pane(3), "plan, tool calls, verdicts, memory"),
    on(Anywhere, ALT, Char('1'), Action::Pane(0), "plan, tool calls, verdicts, memory"),
    on(Anywhere, ALT, Char('2'), Action::Pane(1), "plan, tool calls, verdicts, memory"),
    on(Anywhere, ALT, Char('3'), Action::Pane(2), "plan, tool calls, verdicts, memory"),
    on(Anywhere, ALT, Char('4'), Action::Pane(3), "plan, tool calls, verdicts, memory"),
    on(Pane, NONE, Char('1'), Action::Pane(0), ""),
    on(Pane, NONE, Char('2'), Action::Pane(1), ""),
    on(Pane, NONE, Char('3'), Action::Pane(2), ""),
    on(Pane, NONE, Char('4'), Action::Pane(3), ""),
    on(EmptyInput, NONE, Char('['), Action::TurnBack, "turn before and after"),
    on(EmptyInput, NONE, Char(']'), Action::TurnForward, "turn before and after"),
    on(Anywhere, ALT, Char(','), Action::TurnBack, "turn before and after"),
    on(Anywhere, ALT, Char('.'), Action::TurnForward, "turn before and after"),
    on(Anywhere, ALT, KeyCode::Up, Action::QueryBack, "query before and after"),
    on(Anywhere, ALT, KeyCode::Down, Action::QueryForward, "query before and after"),
    on(Pane, NONE, KeyCode::Up, Action::ScrollUp, "scroll the pane"),
    on(Pane, NONE, KeyCode::Down, Action::ScrollDown, "scroll the pane"),
    on(Anywhere, NONE, KeyCode::PageUp, Action::PageUp, "scroll a page"),
    on(Anywhere, NONE, KeyCode::PageDown, Action::PageDown, "scroll a page"),
    on(Anywhere, CTRL, KeyCode::End, Action::Newest, "to the newest"),

    on(EmptyInput, NONE, Char('+'), Action::Good, "good answer"),
    on(Anywhere, ALT, Char('+'), Action::Good, "good answer"),
    on(Anywhere, ALT, Char('='), Action::Good, "good answer"),
    on(EmptyInput, NONE, Char('-'), Action::Bad, "bad answer"),
    on(Anywhere, ALT, Char('-'), Action::Bad, "bad answer"),
    on(Pane, NONE, Char('p'), Action::PlanBad, "plan bad (the turn, where one is selected)"),
    on(Anywhere, ALT, Char('p'), Action::PlanBad, "plan bad (the turn, where one is selected)"),
    on(Pane, NONE, Char('c'), Action::Correct, "bad answer, and what it should have been"),
    on(Anywhere, ALT, Char('c'), Action::Correct, "bad answer, and what it should have been"),
    on(Pane, NONE, Char('u'), Action::ClearLabel, "take the label back"),
    on(Anywhere, ALT, Char('u'), Action::ClearLabel, "take the label back"),

    on(Anywhere, CTRL, Char('o'), Action::Copy, "copy the answer through the terminal (OSC 52)"),
    on(Anywhere, CTRL, Char('n'), Action::NewConversation, "new conversation"),
    on(EmptyInput, NONE, Char('?'), Action::Help, "this page"),
    on(Pane, NONE, Char('?'), Action::Help, "this page"),
    on(Anywhere, CTRL, Char('g'), Action::Help, "this page"),
    on(Anywhere, CTRL, Char('z'), Action::Suspend, "suspend; fg brings it back"),
    on(Anywhere, CTRL, Char('l'), Action::Redraw, "draw everything again"),

    on(Popup, NONE, Char('q'), Action::Escape, ""),
    on(Popup, NONE, Char('?'), Action::Escape, ""),
    on(Popup, NONE, KeyCode::Up, Action::ScrollUp, ""),
    on(Popup, NONE, KeyCode::Down, Action::ScrollDown, ""),

    on(Anywhere, NONE, KeyCode::Up, Action::Edit(Edit::Up), "line above and below; at the ends, input before and after"),
    on(Anywhere, NONE, KeyCode::Down, Action::Edit(Edit::Down), "line above and below; at the ends, input before and after"),
    on(Anywhere, NONE, KeyCode::Left, Action::Edit(Edit::Left), ""),
    on(Anywhere, NONE, KeyCode::Right, Action::Edit(Edit::Right), ""),
    on(Anywhere, CTRL, KeyCode::Left, Action::Edit(Edit::WordLeft), "word left and right"),
    on(Anywhere, CTRL, KeyCode::Right, Action::Edit(Edit::WordRight), "word left and right"),
    on(Anywhere, ALT, Char('b'), Action::Edit(Edit::WordLeft), "word left and right"),
    on(Anywhere, ALT, Char('f'), Action::Edit(Edit::WordRight), "word left and right"),
    on(Anywhere, NONE, KeyCode::Home, Action::Edit(Edit::LineStart), "start and end of the line"),
    on(Anywhere, NONE, KeyCode::End, Action::Edit(Edit::LineEnd), "start and end of the line"),
    on(Anywhere, CTRL, Char('a'), Action::Edit(Edit::LineStart), "start and end of the line"),
    on(Anywhere, CTRL, Char('e'), Action::Edit(Edit::LineEnd), "start and end of the line"),
    on(Anywhere, NONE, KeyCode::Backspace, Action::Edit(Edit::Backspace), ""),
    on(Anywhere, SHIFT, KeyCode::Backspace, Action::Edit(Edit::Backspace), ""),
    on(Anywhere, CTRL, Char('h'), Action::Edit(Edit::Backspace), ""),
    on(Anywhere, NONE, KeyCode::Delete, Action::Edit(Edit::Delete), ""),
    on(Anywhere, CTRL, Char('w'), Action::Edit(Edit::DeleteWord), "delete a word, to the start, to the end"),
    on(Anywhere, ALT, KeyCode::Backspace, Action::Edit(Edit::DeleteWord), "delete a word, to the start, to the end"),
    on(Anywhere, CTRL, Char('u'), Action::Edit(Edit::DeleteToStart), "delete a word, to the start, to the end"),
    on(Anywhere, CTRL, Char('k'), Action::Edit(Edit::DeleteToEnd), "delete a word, to the start, to the end"),
];

/// What `key` means in the first of `places` that has it.
pub fn action(places: &[Place], key: &KeyEvent) -> Option<Action> {
    let key = normal(key);
    places.iter().find_map(|place| {
        let found = KEYS.iter().find(|binding| binding.place == *place && binding.key == key);
        found.map(|binding| binding.action)
    })
}

/// The text a key types, if it types any.
pub fn typed(key: &KeyEvent) -> Option<char> {
    match normal(key) {
        (NONE, Char(c)) => Some(c),
        // AltGr arrives as Ctrl+Alt on some terminals and types a character.
        (modifiers, Char(c)) if modifiers == CTRL | ALT && !c.is_ascii_alphanumeric() => Some(c),
        _ => None,
    }
}

/// Terminals disagree on whether Shift is told for characters it made and for BackTab; here it is
/// told only where the code does not show it.
fn normal(key: &KeyEvent) -> (KeyModifiers, KeyCode) {
    let mut modifiers = key.modifiers & (CTRL | ALT | SHIFT);
    let mut code = key.code;
    match code {
        Char(c) => {
            let upper = modifiers.contains(SHIFT) && !modifiers.intersects(CTRL | ALT);
            modifiers.remove(SHIFT);
            code = Char(match c {
                _ if modifiers.contains(CTRL) => c.to_ascii_lowercase(),
                _ if upper => c.to_uppercase().next().filter(|_| c.is_ascii_lowercase()).unwrap_or(c),
                _ => c,
            });
        }
        KeyCode::BackTab => modifiers |= SHIFT,
        KeyCode::Tab if modifiers.contains(SHIFT) => code = KeyCode::BackTab,
        _ => {}
    }
    (modifiers, code)
}

/// One line per meaning: its keys, then its words. What the help page prints.
pub fn help() -> Vec<(String, &'static str)> {
    let mut lines: Vec<(String, &'static str)> = Vec::new();
    for binding in KEYS.iter().filter(|binding| !binding.words.is_empty()) {
        let key = key_name(binding.key);
        match lines.last_mut() {
            Some((keys, words)) if *words == binding.words => {
                add_key(keys, &key);
            }
            _ => lines.push((key, binding.words)),
        }
    }
    lines
}

/// `F1` then `F2` reads `F1-F2`; anything else stands beside what is there.
fn add_key(keys: &mut String, key: &str) {
    let last = keys.split("  ").last().unwrap_or_default();
    let (prefix, digit) = key.split_at(key.len() - 1);
    let number = digit.parse::<u8>().ok().filter(|_| !prefix.is_empty());
    let follows = number.is_some_and(|n| last.starts_with(prefix) && last.ends_with(&(n - 1).to_string()));
    if follows {
        let start = last.split_once('-').map_or(last, |(start, _)| start).to_string();
        keys.truncate(keys.len() - last.len());
        keys.push_str(&format!("{start}-{digit}"));
    } else if !keys.split("  ").any(|known| known == key) {
        keys.push_str("  ");
        keys.push_str(key);
    }
}

fn key_name((modifiers, code): (KeyModifiers, KeyCode)) -> String {
    let name = match code {
        Char(c) if modifiers.contains(CTRL) => c.to_ascii_uppercase().to_string(),
        Char(c) => c.to_string(),
        F(n) => format!("F{n}"),
        KeyCode::BackTab => return "Shift+Tab".to_string(),
        KeyCode::PageUp => "PgUp".to_string(),
        KeyCode::PageDown => "PgDn".to_string(),
        other => format!("{other:?}"),
    };
    let mut out = String::new();
    for (modifier, word) in [(CTRL, "Ctrl+"), (ALT, "Alt+"), (SHIFT, "Shift+")] {
        if modifiers.contains(modifier) {
            out.push_str(word);
        }
    }
    out + &name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_means_two_things_in_one_place() {
        for (n, binding) in KEYS.iter().enumerate() {
            let twice = KEYS[..n].iter().any(|b| b.place == binding.place && b.key == binding.key);
            assert!(!twice, "{} is bound twice", key_name(binding.key));
        }
    }

    #[test]
    fn no_letter_or_digit_is_taken_from_the_input() {
        for binding in KEYS.iter().filter(|b| matches!(b.place, EmptyInput | Anywhere)) {
            if let (NONE, Char(c)) = binding.key {
                assert!(!c.is_alphanumeric(), "{c} could not begin a query");
            }
        }
    }

    #[test]
    fn terminals_that_tell_shift_differently_agree() {
        let key = |modifiers, code| KeyEvent::new(code, modifiers);
        assert_eq!(action(&[EmptyInput], &key(SHIFT, Char('+'))), Some(Action::Good));
        assert_eq!(action(&[Anywhere], &key(NONE, KeyCode::BackTab)), Some(Action::PreviousPane));
        assert_eq!(action(&[Anywhere], &key(SHIFT, KeyCode::Tab)), Some(Action::PreviousPane));
        assert_eq!(action(&[Anywhere], &key(CTRL | SHIFT, Char('C'))), Some(Action::Interrupt));
        assert_eq!(typed(&key(SHIFT, Char('A'))), Some('A'));
        assert_eq!(typed(&key(SHIFT, Char('a'))), Some('A'));
        assert_eq!(typed(&key(CTRL | ALT, Char('@'))), Some('@'));
        assert_eq!(typed(&key(CTRL, Char('x'))), None);
    }

    #[test]
    fn help_groups_keys_of_one_meaning() {
        let help = help();
        for expected in ["+  Alt++  Alt+=", "F1-4  Alt+1-4", "[  ]  Alt+,  Alt+."] {
            assert!(help.iter().any(|(keys, _)| keys == expected), "{expected} in {help:?}");
        }
    }
}
