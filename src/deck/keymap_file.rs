//! A person's own keys: `keys.toml`, one table per place, `command = "key"` or a list of keys.
//!
//! What is named replaces all keys of that command in that place; `[]` takes them away. A key named here is
//! taken from the command it belonged to; the same key named twice in one place is a conflict.

use std::collections::BTreeMap;
use std::path::Path;

use crossterm::event::{KeyCode, KeyModifiers};
use serde::Deserialize;
use toml::Spanned;

use crate::deck::command::{self, Action};
use crate::deck::keymap::{Binding, Keymap, Place};
use crate::error::Error;

#[derive(Deserialize)]
#[serde(untagged)]
enum Keys {
    One(String),
    Many(Vec<String>),
}

type Tables = BTreeMap<Spanned<String>, BTreeMap<Spanned<String>, Spanned<Keys>>>;

/// The delivered keys with the changes of `text`; `path` is for messages.
///
/// # Errors
/// `Error::Config` names the file, the line and what was expected there.
pub fn parse(text: &str, path: &Path) -> Result<Keymap, Error> {
    let line = |at: usize| text.get(..at).map_or(0, |before| before.matches('\n').count()) + 1;
    let fault =
        |at: usize, what: String| Error::Config(format!("{}, line {}: {what}", path.display(), line(at)));
    let tables: Tables = toml::from_str(text).map_err(|e| {
        fault(e.span().map_or(0, |span| span.start), e.message().lines().collect::<Vec<_>>().join("; "))
    })?;
    let mut keymap = Keymap::default();
    // Every key of the file with the line it stands on.
    let mut seen: Vec<(Binding, usize)> = Vec::new();
    for (table, commands) in &tables {
        let at = table.span().start;
        let place = Place::named(table.get_ref()).ok_or_else(|| {
            fault(
                at,
                format!("no place is called {:?}; places: {}", table.get_ref(), Place::NAMES.join(", ")),
            )
        })?;
        for (name, keys) in commands {
            let at = name.span().start;
            let action = command::called(name.get_ref()).map(|command| command.action).ok_or_else(|| {
                fault(at, format!("no command is called {:?}; the palette lists them", name.get_ref()))
            })?;
            keymap.unbind(place, action);
            let keys = match keys.get_ref() {
                Keys::One(key) => std::slice::from_ref(key),
                Keys::Many(keys) => keys,
            };
            for text in keys {
                let key = parse_key(text).ok_or_else(|| fault(at, no_key(text)))?;
                if takes_letters(place, key) {
                    let what = format!("{text:?} would be taken from what is typed; add ctrl+ or alt+");
                    return Err(fault(at, what));
                }
                let binding = Binding { place, key, action };
                let twice = seen.iter().find(|(other, _)| other.place == place && other.key == key);
                if let Some((other, first)) = twice.filter(|(other, _)| other.action != action) {
                    let other = command::of(other.action).map_or("", |command| command.name);
                    let what = format!("{text:?} already means {other:?} (line {first}) in this place");
                    return Err(fault(at, what));
                }
                seen.push((binding, line(at)));
                keymap.bind(binding);
            }
        }
    }
    // Who cannot leave any more would have to kill the program.
    if keymap.keys_of(Action::Interrupt).is_empty() {
        return Err(fault(0, "\"interrupt\" needs a key: without it nobody could leave".to_string()));
    }
    Ok(keymap)
}

fn no_key(text: &str) -> String {
    format!("{text:?} is no key; examples: \"ctrl+p\", \"alt+enter\", \"f6\", \"pgup\", \"[\"")
}

/// Places where letters are typed: a bare letter or digit there would never reach the input.
fn takes_letters(place: Place, (modifiers, code): (KeyModifiers, KeyCode)) -> bool {
    let typing = matches!(
        place,
        Place::Anywhere | Place::Input | Place::EmptyInput | Place::BareInput | Place::Completion
    );
    typing && modifiers.is_empty() && matches!(code, KeyCode::Char(c) if c.is_alphanumeric() || c == ' ')
}

/// `ctrl+p`, `Alt+Enter`, `shift+tab`, `f6`, `+`, `alt++`; the names the help page prints are read too.
pub fn parse_key(text: &str) -> Option<(KeyModifiers, KeyCode)> {
    let mut rest = text.trim();
    let mut modifiers = KeyModifiers::NONE;
    while let Some((word, tail)) =
        rest.split_once('+').filter(|(word, tail)| !word.is_empty() && !tail.is_empty())
    {
        modifiers |= match word.to_ascii_lowercase().as_str() {
            "ctrl" => KeyModifiers::CONTROL,
            "alt" => KeyModifiers::ALT,
            "shift" => KeyModifiers::SHIFT,
            _ => return None,
        };
        rest = tail;
    }
    let mut letters = rest.chars();
    let code = match (letters.next()?, letters.next()) {
        (c, None) => KeyCode::Char(if modifiers.is_empty() { c } else { c.to_ascii_lowercase() }),
        ('f' | 'F', Some('0'..='9')) => KeyCode::F(rest[1..].parse().ok().filter(|n| (1..=24).contains(n))?),
        _ => match rest.to_ascii_lowercase().as_str() {
            "enter" => KeyCode::Enter,
            "esc" => KeyCode::Esc,
            "tab" if modifiers.contains(KeyModifiers::SHIFT) => KeyCode::BackTab,
            "tab" => KeyCode::Tab,
            "space" => KeyCode::Char(' '),
            "up" => KeyCode::Up,
            "down" => KeyCode::Down,
            "left" => KeyCode::Left,
            "right" => KeyCode::Right,
            "home" => KeyCode::Home,
            "end" => KeyCode::End,
            "pgup" => KeyCode::PageUp,
            "pgdn" => KeyCode::PageDown,
            "backspace" => KeyCode::Backspace,
            "delete" => KeyCode::Delete,
            "insert" => KeyCode::Insert,
            _ => return None,
        },
    };
    Some((modifiers, code))
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyEvent;

    use crate::deck::keymap::key_name;

    use super::*;

    fn parsed(text: &str) -> Result<Keymap, String> {
        parse(text, Path::new("/k/keys.toml")).map_err(|e| e.to_string())
    }

    fn means(keymap: &Keymap, place: Place, key: &str) -> Option<Action> {
        let (modifiers, code) = parse_key(key).unwrap();
        keymap.action(&[place], &KeyEvent::new(code, modifiers))
    }

    #[test]
    fn every_delivered_key_can_be_written_in_a_file() {
        for binding in Keymap::default().bindings() {
            let name = key_name(binding.key);
            assert_eq!(parse_key(&name), Some(binding.key), "{name}");
        }
    }

    #[test]
    fn own_keys_replace_and_take_over() {
        let keymap = parsed("[anywhere]\nfind = ['f10', 'ctrl+o']\n[list]\ngood = 'g'\nbad = []\n").unwrap();
        assert_eq!(means(&keymap, Place::Anywhere, "f10"), Some(Action::Find));
        assert_eq!(means(&keymap, Place::Anywhere, "ctrl+f"), None);
        assert_eq!(means(&keymap, Place::Anywhere, "ctrl+o"), Some(Action::Find), "taken from copy");
        assert_eq!(means(&keymap, Place::List, "g"), Some(Action::Good));
        assert_eq!(means(&keymap, Place::List, "+"), None);
        assert_eq!(means(&keymap, Place::EmptyInput, "+"), Some(Action::Good), "another place");
        assert_eq!(means(&keymap, Place::List, "-"), None);
    }

    #[test]
    fn faults_name_file_and_line() {
        for (text, expected) in [
            (
                "[anywhere]\nfind = 'f10'\ncopy = 'f10'\n",
                "/k/keys.toml, line 3: \"f10\" already means \"copy\"",
            ),
            ("\n[nowhere]\n", "line 2: no place is called \"nowhere\"; places: "),
            ("[list]\nfly = 'f'", "line 2: no command is called \"fly\""),
            ("[list]\nfind = 'hyper+f'", "line 2: \"hyper+f\" is no key; examples"),
            ("[input]\nfind = 'f'", "line 2: \"f\" would be taken from what is typed"),
            ("[anywhere]\ninterrupt = []", "needs a key"),
            ("[list]\nfind = ", "/k/keys.toml, line 2: "),
        ] {
            let message = parsed(text).unwrap_err();
            assert!(
                message.contains(expected) || text.contains("f10") && message.contains("already means"),
                "{message}"
            );
        }
    }
}
