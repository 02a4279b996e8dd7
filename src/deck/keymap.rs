//! Keys: one table of (where, key, what). Look-ups and the help page read the same rows; what an action
//! is called and does stands in `command`.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::deck::command::{Action, COMMANDS, Command, Heading};
use crate::deck::composer::Edit;
use crate::deck::inside::Face;
use crate::deck::tab::TabName;

/// Where a key has a meaning. Earlier is looked up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One of the four panes has the focus.
    Pane,
    /// Choices stand above the input.
    Completion,
    /// The input is empty and there is a query to act on.
    EmptyInput,
    /// The input is empty.
    BareInput,
    /// The chat's input, whatever stands in it.
    Input,
    /// A tab or layer that shows a list or a page to scroll.
    List,
    /// The list of sessions, or two trajectories compared.
    Shelf,
    /// The search in the conversation, once its text stands.
    Find,
    /// A trajectory is replayed.
    Theatre,
    /// Inside a trajectory, over the whole screen.
    Inside,
    Groups,
    Training,
    Anywhere,
}

impl Place {
    /// The names keymap files use.
    pub const NAMES: [&'static str; 13] = [
        "anywhere",
        "input",
        "bare-input",
        "empty-input",
        "completion",
        "pane",
        "list",
        "find",
        "inside",
        "shelf",
        "theatre",
        "groups",
        "training",
    ];

    pub fn named(name: &str) -> Option<Place> {
        Some(match name {
            "anywhere" => Anywhere,
            "input" => Input,
            "bare-input" => BareInput,
            "empty-input" => EmptyInput,
            "completion" => Completion,
            "pane" => Pane,
            "list" => List,
            "find" => Place::Find,
            "inside" => Inside,
            "shelf" => Shelf,
            "theatre" => Theatre,
            "groups" => Groups,
            "training" => Training,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    pub place: Place,
    pub key: (KeyModifiers, KeyCode),
    pub action: Action,
}

const NONE: KeyModifiers = KeyModifiers::NONE;
const CTRL: KeyModifiers = KeyModifiers::CONTROL;
const ALT: KeyModifiers = KeyModifiers::ALT;
const SHIFT: KeyModifiers = KeyModifiers::SHIFT;

const fn on(place: Place, modifiers: KeyModifiers, code: KeyCode, action: Action) -> Binding {
    Binding { place, key: (modifiers, code), action }
}

use KeyCode::{Char, F};
use Place::{
    Anywhere, BareInput, Completion, EmptyInput, Groups, Input, Inside, List, Pane, Shelf, Theatre, Training,
};

/// Every key of the deck as it is delivered; a keymap file changes it.
#[rustfmt::skip]
const KEYS: &[Binding] = &[
    on(Input, NONE, KeyCode::Enter, Action::Send),
    on(Completion, NONE, KeyCode::Tab, Action::Complete),
    on(Completion, NONE, KeyCode::Enter, Action::CompleteSend),
    on(Completion, NONE, KeyCode::Up, Action::ScrollUp),
    on(Completion, NONE, KeyCode::Down, Action::ScrollDown),
    on(Input, CTRL, Char('j'), Action::Newline),
    on(Input, ALT, KeyCode::Enter, Action::Newline),
    on(Input, SHIFT, KeyCode::Enter, Action::Newline),
    on(Anywhere, NONE, KeyCode::Esc, Action::Escape),
    on(Anywhere, CTRL, Char('c'), Action::Interrupt),
    on(Anywhere, CTRL, Char('d'), Action::QuitIfEmpty),

    on(Anywhere, NONE, F(1), Action::Tab(TabName::Chat)),
    on(Anywhere, ALT, Char('1'), Action::Tab(TabName::Chat)),
    on(Anywhere, NONE, F(2), Action::Tab(TabName::Replay)),
    on(Anywhere, ALT, Char('2'), Action::Tab(TabName::Replay)),
    on(Anywhere, NONE, F(3), Action::Tab(TabName::Groups)),
    on(Anywhere, ALT, Char('3'), Action::Tab(TabName::Groups)),
    on(Anywhere, NONE, F(4), Action::Tab(TabName::Training)),
    on(Anywhere, ALT, Char('4'), Action::Tab(TabName::Training)),
    on(Anywhere, NONE, F(5), Action::Tab(TabName::Models)),
    on(Anywhere, ALT, Char('5'), Action::Tab(TabName::Models)),
    on(Anywhere, ALT, KeyCode::Left, Action::PreviousTab),
    on(Anywhere, ALT, KeyCode::Right, Action::NextTab),

    on(Anywhere, NONE, KeyCode::Tab, Action::NextPane),
    on(Anywhere, SHIFT, KeyCode::BackTab, Action::PreviousPane),
    on(Anywhere, NONE, F(6), Action::Pane(0)),
    on(Anywhere, NONE, F(7), Action::Pane(1)),
    on(Anywhere, NONE, F(8), Action::Pane(2)),
    on(Anywhere, NONE, F(9), Action::Pane(3)),
    on(Pane, NONE, Char('1'), Action::Pane(0)),
    on(Pane, NONE, Char('2'), Action::Pane(1)),
    on(Pane, NONE, Char('3'), Action::Pane(2)),
    on(Pane, NONE, Char('4'), Action::Pane(3)),
    on(EmptyInput, NONE, Char('['), Action::TurnBack),
    on(List, NONE, Char('['), Action::TurnBack),
    on(Anywhere, ALT, Char(','), Action::TurnBack),
    on(EmptyInput, NONE, Char(']'), Action::TurnForward),
    on(List, NONE, Char(']'), Action::TurnForward),
    on(Anywhere, ALT, Char('.'), Action::TurnForward),
    on(Anywhere, ALT, KeyCode::Up, Action::QueryBack),
    on(Anywhere, ALT, KeyCode::Down, Action::QueryForward),
    on(Pane, NONE, KeyCode::Up, Action::ScrollUp),
    on(Pane, NONE, KeyCode::Down, Action::ScrollDown),
    on(List, NONE, KeyCode::Up, Action::ScrollUp),
    on(List, NONE, KeyCode::Down, Action::ScrollDown),
    on(List, NONE, Char('k'), Action::ScrollUp),
    on(List, NONE, Char('j'), Action::ScrollDown),
    on(Anywhere, NONE, KeyCode::PageUp, Action::PageUp),
    on(Anywhere, NONE, KeyCode::PageDown, Action::PageDown),
    on(List, NONE, KeyCode::Home, Action::First),
    on(List, NONE, KeyCode::End, Action::Newest),
    on(Anywhere, CTRL, KeyCode::Home, Action::First),
    on(Anywhere, CTRL, KeyCode::End, Action::Newest),
    on(List, NONE, KeyCode::Enter, Action::Open),
    on(List, NONE, Char('q'), Action::Escape),

    on(EmptyInput, NONE, Char('+'), Action::Good),
    on(List, NONE, Char('+'), Action::Good),
    on(Anywhere, ALT, Char('+'), Action::Good),
    on(Anywhere, ALT, Char('='), Action::Good),
    on(EmptyInput, NONE, Char('-'), Action::Bad),
    on(List, NONE, Char('-'), Action::Bad),
    on(Anywhere, ALT, Char('-'), Action::Bad),
    on(Pane, NONE, Char('p'), Action::PlanBad),
    on(Anywhere, ALT, Char('p'), Action::PlanBad),
    on(Pane, NONE, Char('c'), Action::Correct),
    on(Anywhere, ALT, Char('c'), Action::Correct),
    on(Anywhere, ALT, Char('x'), Action::Expires),
    on(Pane, NONE, Char('u'), Action::ClearLabel),
    on(Anywhere, ALT, Char('u'), Action::ClearLabel),

    on(Pane, NONE, Char('z'), Action::Zoom),
    on(Theatre, NONE, Char('z'), Action::Zoom),
    on(Anywhere, ALT, Char('z'), Action::Zoom),
    on(Theatre, NONE, Char('m'), Action::Face(Face::CALLS)),
    on(Anywhere, ALT, Char('m'), Action::Face(Face::CALLS)),
    on(Pane, NONE, Char('t'), Action::Face(Face::TOKENS)),
    on(Theatre, NONE, Char('t'), Action::Face(Face::TOKENS)),
    on(Anywhere, ALT, Char('t'), Action::Face(Face::TOKENS)),
    on(Pane, NONE, Char('s'), Action::Face(Face::TIME)),
    on(Theatre, NONE, Char('s'), Action::Face(Face::TIME)),
    on(Anywhere, ALT, Char('s'), Action::Face(Face::TIME)),
    on(Theatre, NONE, Char('f'), Action::Fork),
    on(Anywhere, ALT, Char('k'), Action::Fork),
    on(Anywhere, ALT, Char('w'), Action::Rewind),
    on(Shelf, NONE, Char('f'), Action::Fork),
    on(Shelf, NONE, Char('w'), Action::Rewind),
    on(Inside, NONE, Char('1'), Action::Face(Face(0))),
    on(Inside, NONE, Char('2'), Action::Face(Face(1))),
    on(Inside, NONE, Char('3'), Action::Face(Face(2))),
    on(Inside, NONE, Char('4'), Action::Face(Face(3))),
    on(Inside, NONE, Char('5'), Action::Face(Face::CALLS)),
    on(Inside, NONE, Char('6'), Action::Face(Face::TOKENS)),
    on(Inside, NONE, Char('7'), Action::Face(Face::TIME)),
    on(Inside, NONE, Char(','), Action::CallBack),
    on(Inside, NONE, Char('.'), Action::CallForward),
    on(Inside, NONE, KeyCode::Left, Action::Back),
    on(Inside, NONE, KeyCode::Right, Action::Forward),
    on(Theatre, NONE, KeyCode::Left, Action::Back),
    on(Theatre, NONE, KeyCode::Right, Action::Forward),
    on(Groups, NONE, KeyCode::Left, Action::Back),
    on(Groups, NONE, KeyCode::Right, Action::Forward),

    on(Theatre, NONE, Char(' '), Action::Pause),
    on(Theatre, NONE, Char('<'), Action::Slower),
    on(Theatre, NONE, Char('>'), Action::Faster),
    on(Theatre, NONE, Char('='), Action::Compare),
    on(Shelf, NONE, Char('r'), Action::Resume),
    on(Shelf, NONE, Char('n'), Action::Rename),
    on(Shelf, NONE, Char('x'), Action::Remove),
    on(Shelf, NONE, Char('u'), Action::Undo),
    on(Shelf, NONE, Char('/'), Action::Search),
    on(Shelf, NONE, Char('o'), Action::OnlyWrong),
    on(Shelf, NONE, Char('m'), Action::Mark),
    on(Shelf, NONE, Char('='), Action::Compare),
    on(Shelf, NONE, KeyCode::Delete, Action::Remove),

    on(Groups, NONE, Char('p'), Action::PlanBad),
    on(Groups, NONE, Char('b'), Action::Better),
    on(Groups, NONE, Char('c'), Action::Correct),
    on(Groups, NONE, Char('e'), Action::Expires),
    on(Groups, NONE, Char('u'), Action::Undo),
    on(Groups, NONE, Char('x'), Action::ClearLabel),
    on(Groups, NONE, Char('t'), Action::Step),
    on(Groups, NONE, Char('s'), Action::Stop),
    on(Groups, NONE, Char('r'), Action::Roll),
    on(Anywhere, ALT, Char('g'), Action::Roll),
    on(Training, NONE, Char('t'), Action::Step),
    on(Training, NONE, Char('s'), Action::Stop),
    on(Training, NONE, Char('u'), Action::Undo),
    on(Training, NONE, Char('b'), Action::Rollback),
    on(Training, NONE, Char('0'), Action::NoAdapter),
    on(Training, NONE, Char('g'), Action::ItsGroup),
    on(Training, NONE, Char('='), Action::Compare),

    on(Anywhere, CTRL, Char('r'), Action::History),
    on(Anywhere, ALT, Char('q'), Action::Queue),
    on(Input, ALT, Char('e'), Action::Editor),
    on(Anywhere, CTRL, Char('f'), Action::Find),
    on(Place::Find, NONE, Char('n'), Action::FindBack),
    on(Place::Find, NONE, Char('N'), Action::FindForward),
    on(Place::Find, NONE, KeyCode::Up, Action::FindBack),
    on(Place::Find, NONE, KeyCode::Down, Action::FindForward),
    on(Anywhere, CTRL, Char('o'), Action::Copy),
    on(Anywhere, ALT, Char('o'), Action::CopyPart),
    on(Anywhere, CTRL, Char('p'), Action::Palette),
    on(Anywhere, NONE, F(12), Action::Mouse),
    on(Anywhere, CTRL, Char('n'), Action::NewConversation),
    on(BareInput, NONE, Char('?'), Action::Help),
    on(Pane, NONE, Char('?'), Action::Help),
    on(List, NONE, Char('?'), Action::Help),
    on(Anywhere, CTRL, Char('g'), Action::Help),
    on(Anywhere, CTRL, Char('z'), Action::Suspend),
    on(Anywhere, CTRL, Char('l'), Action::Redraw),

    on(Input, NONE, KeyCode::Up, Action::Edit(Edit::Up)),
    on(Input, NONE, KeyCode::Down, Action::Edit(Edit::Down)),
    on(Input, NONE, KeyCode::Left, Action::Edit(Edit::Left)),
    on(Input, NONE, KeyCode::Right, Action::Edit(Edit::Right)),
    on(Input, CTRL, KeyCode::Left, Action::Edit(Edit::WordLeft)),
    on(Input, ALT, Char('b'), Action::Edit(Edit::WordLeft)),
    on(Input, CTRL, KeyCode::Right, Action::Edit(Edit::WordRight)),
    on(Input, ALT, Char('f'), Action::Edit(Edit::WordRight)),
    on(Input, NONE, KeyCode::Home, Action::Edit(Edit::LineStart)),
    on(Input, CTRL, Char('a'), Action::Edit(Edit::LineStart)),
    on(Input, NONE, KeyCode::End, Action::Edit(Edit::LineEnd)),
    on(Input, CTRL, Char('e'), Action::Edit(Edit::LineEnd)),
    on(Input, NONE, KeyCode::Backspace, Action::Edit(Edit::Backspace)),
    on(Input, SHIFT, KeyCode::Backspace, Action::Edit(Edit::Backspace)),
    on(Input, CTRL, Char('h'), Action::Edit(Edit::Backspace)),
    on(Input, NONE, KeyCode::Delete, Action::Edit(Edit::Delete)),
    on(Input, CTRL, Char('w'), Action::Edit(Edit::DeleteWord)),
    on(Input, ALT, KeyCode::Backspace, Action::Edit(Edit::DeleteWord)),
    on(Input, CTRL, Char('u'), Action::Edit(Edit::DeleteToStart)),
    on(Input, CTRL, Char('k'), Action::Edit(Edit::DeleteToEnd)),
];

/// The keys in force.
#[derive(Clone, Debug)]
pub struct Keymap {
    bindings: Vec<Binding>,
}

impl Default for Keymap {
    fn default() -> Keymap {
        Keymap { bindings: KEYS.to_vec() }
    }
}

impl Keymap {
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// Take every key of an action away in a place.
    pub fn unbind(&mut self, place: Place, action: Action) {
        self.bindings.retain(|binding| (binding.place, binding.action) != (place, action));
    }

    /// Give a key a meaning; what it meant in that place is over.
    pub fn bind(&mut self, binding: Binding) {
        self.bindings.retain(|other| (other.place, other.key) != (binding.place, binding.key));
        // Before the delivered ones, so that hints name it.
        self.bindings.insert(0, binding);
    }

    /// What `key` means in the first of `places` that has it, `Anywhere` at last.
    pub fn action(&self, places: &[Place], key: &KeyEvent) -> Option<Action> {
        let key = normal(key);
        places.iter().chain([&Anywhere]).find_map(|place| {
            let found = self.bindings.iter().find(|binding| binding.place == *place && binding.key == key);
            found.map(|binding| binding.action)
        })
    }

    /// The key of an action in the first of `places` that has one, `Anywhere` at last; for hints.
    pub fn key_of(&self, places: &[Place], action: Action) -> Option<String> {
        places.iter().chain([&Anywhere]).find_map(|place| {
            let found =
                self.bindings.iter().find(|binding| binding.place == *place && binding.action == action);
            found.map(|binding| key_name(binding.key))
        })
    }

    /// Whether an action has a key in a place.
    pub fn has(&self, place: Place, action: Action) -> bool {
        self.bindings.iter().any(|binding| (binding.place, binding.action) == (place, action))
    }

    /// Every key of an action, as the help page prints them.
    pub fn keys_of(&self, action: Action) -> String {
        let mut keys = String::new();
        self.bindings
            .iter()
            .filter(|binding| binding.action == action)
            .for_each(|binding| add_key(&mut keys, &key_name(binding.key)));
        keys
    }

    /// Per heading one line per meaning: its keys, then its words. What the help page prints.
    pub fn help(&self) -> Vec<(Heading, Vec<(String, &'static str)>)> {
        let lines = |heading| {
            let mut lines: Vec<(String, &'static str)> = Vec::new();
            for command in COMMANDS.iter().filter(|c| c.heading == heading && !c.words.is_empty()) {
                self.help_line(command, &mut lines);
            }
            (heading, lines)
        };
        Heading::ALL.into_iter().map(lines).collect()
    }

    fn help_line(&self, command: &Command, lines: &mut Vec<(String, &'static str)>) {
        let own = self.keys_of(command.action);
        match lines.last_mut() {
            Some((keys, words)) if *words == command.words => {
                own.split("  ").filter(|key| !key.is_empty()).for_each(|key| add_key(keys, key));
            }
            _ if own.is_empty() && command.named => lines.push((format!("/{}", command.name), command.words)),
            _ if own.is_empty() => {}
            _ => lines.push((own, command.words)),
        }
    }
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

/// `F1` then `F2` reads `F1-2`; anything else stands beside what is there.
fn add_key(keys: &mut String, key: &str) {
    let digits = key.trim_start_matches(|c: char| !c.is_ascii_digit());
    let prefix = &key[..key.len() - digits.len()];
    let number: Option<u8> = digits.parse().ok().filter(|_| !prefix.is_empty());
    let mut known: Vec<String> = keys.split("  ").filter(|k| !k.is_empty()).map(String::from).collect();
    let precedes = |k: &String| {
        let last = k.strip_prefix(prefix).map(|rest| rest.rsplit('-').next().unwrap_or(rest));
        number.is_some_and(|n| n > 0 && last.and_then(|last| last.parse::<u8>().ok()) == Some(n - 1))
    };
    match known.iter().position(precedes) {
        Some(at) => {
            let start = known[at].split_once('-').map_or(known[at].as_str(), |(start, _)| start);
            known[at] = format!("{start}-{digits}");
        }
        None if known.iter().any(|k| k == key) => {}
        None => known.push(key.to_string()),
    }
    *keys = known.join("  ");
}

pub fn key_name((modifiers, code): (KeyModifiers, KeyCode)) -> String {
    let name = match code {
        Char(' ') => "Space".to_string(),
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
    use crate::deck::command;

    #[test]
    fn no_key_means_two_things_in_one_place() {
        for (n, binding) in KEYS.iter().enumerate() {
            let twice = KEYS[..n].iter().any(|b| b.place == binding.place && b.key == binding.key);
            assert!(!twice, "{} is bound twice", key_name(binding.key));
        }
    }

    #[test]
    fn every_key_has_a_name_and_every_nameless_command_a_key() {
        for binding in KEYS {
            assert!(command::of(binding.action).is_some(), "{:?} has no row", binding.action);
        }
        for command in COMMANDS.iter().filter(|command| !command.named && !command.words.is_empty()) {
            assert!(KEYS.iter().any(|b| b.action == command.action), "{} has no key", command.name);
        }
    }

    #[test]
    fn no_letter_or_digit_is_taken_from_the_input() {
        for binding in KEYS.iter().filter(|b| matches!(b.place, EmptyInput | BareInput | Input | Anywhere)) {
            if let (NONE, Char(c)) = binding.key {
                assert!(!c.is_alphanumeric(), "{c} could not begin a query");
            }
        }
    }

    #[test]
    fn terminals_that_tell_shift_differently_agree() {
        let key = |modifiers, code| KeyEvent::new(code, modifiers);
        let keymap = Keymap::default();
        let action = |places: &[Place], key| keymap.action(places, &key);
        assert_eq!(action(&[EmptyInput], key(SHIFT, Char('+'))), Some(Action::Good));
        assert_eq!(action(&[], key(NONE, KeyCode::BackTab)), Some(Action::PreviousPane));
        assert_eq!(action(&[], key(SHIFT, KeyCode::Tab)), Some(Action::PreviousPane));
        assert_eq!(action(&[], key(CTRL | SHIFT, Char('C'))), Some(Action::Interrupt));
        assert_eq!(typed(&key(SHIFT, Char('A'))), Some('A'));
        assert_eq!(typed(&key(SHIFT, Char('a'))), Some('A'));
        assert_eq!(typed(&key(CTRL | ALT, Char('@'))), Some('@'));
        assert_eq!(typed(&key(CTRL, Char('x'))), None);
    }

    #[test]
    fn help_groups_keys_of_one_meaning() {
        let help: Vec<String> =
            Keymap::default().help().into_iter().flat_map(|(_, lines)| lines).map(|(keys, _)| keys).collect();
        for expected in ["+  Alt++  Alt+=", "F1-5  Alt+1-5", "[  Alt+,  ]  Alt+."] {
            assert!(help.iter().any(|keys| keys == expected), "{expected} in {help:?}");
        }
    }
}
