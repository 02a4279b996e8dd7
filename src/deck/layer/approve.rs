//! Asks a person before a call acts outward in a tainted session.
//!
//! What is shown is what would run: JSON, with everything that hides or reorders standing as an escape. Keys
//! typed before the dialog can have been read are not for it, no key that writes text elsewhere consents by
//! being held, and whatever closes it says no.

use crossterm::event::KeyEvent;
use unicode_width::UnicodeWidthChar;

use crate::deck::command::Action;
use crate::deck::keymap::{Keymap, Place, typed};
use crate::deck::layer::{Layer, Reply, Sheet, scrolled};
use crate::deck::row::{Prose, Row};
use crate::deck::tab::Look;
use crate::deck::theme::Ink;
use crate::text::visible;
use crate::tools::{Approval, Consent};

/// How long keys are ignored once it has appeared.
pub const DEAF_MS: u64 = 300;

const KEYS: &str = "y once  s session  n no";
/// The same for a very narrow screen.
const FEW_KEYS: &str = "y s yes  n no";

pub struct Approve {
    id: u64,
    tool: String,
    sandboxed: bool,
    /// The arguments as they are shown, on one line.
    shown: String,
    since_ms: u64,
    scroll: usize,
}

impl Approve {
    pub fn new(id: u64, approval: &Approval, now_ms: u64) -> Approve {
        Approve {
            id,
            tool: visible(&approval.tool),
            sandboxed: approval.sandboxed,
            shown: visible(&approval.arguments.to_string()),
            since_ms: now_ms,
            scroll: 0,
        }
    }

    fn answer(&self, consent: Consent) -> Reply {
        Reply::Consent { id: self.id, consent }
    }

    fn rows(&self, width: usize) -> Vec<Row> {
        let (lead, none) = (Row::new(), Row::new());
        let mut rows: Vec<Row> =
            cut(&self.shown, width).into_iter().map(|line| Row::new().say(line, Ink::Code)).collect();
        let why = "It acts outward, and this session has met text from outside and private data.";
        rows.extend(Prose::of(why, Ink::Warning).wrap(width, &lead, &none));
        if self.sandboxed {
            let place = "It runs in the sandbox: no network, nothing but the workspace.";
            rows.extend(Prose::of(place, Ink::Dim).wrap(width, &lead, &none));
        }
        let session = "s allows exactly this call until the session ends. Esc is no.";
        rows.extend(Prose::of(session, Ink::Dim).wrap(width, &lead, &none));
        rows
    }
}

impl Layer for Approve {
    fn title(&self) -> String {
        format!("run {}?", self.tool)
    }

    fn key(&mut self, key: &KeyEvent, keymap: &Keymap, page: usize) -> Reply {
        match typed(key) {
            Some('y') => return self.answer(Consent::Once),
            Some('s') => return self.answer(Consent::Session),
            Some('n') => return self.answer(Consent::No),
            _ => {}
        }
        match keymap.action(&[Place::List], key) {
            Some(Action::Escape | Action::Interrupt) => return self.answer(Consent::No),
            Some(action) => drop(scrolled(&mut self.scroll, action, page)),
            None => {}
        }
        Reply::Stay
    }

    fn deaf_until_ms(&self) -> u64 {
        self.since_ms + DEAF_MS
    }

    fn ends_with_query(&self) -> bool {
        true
    }

    fn sheet(&mut self, width: usize, height: usize, _: &Look) -> Sheet {
        let mut body = self.rows(width);
        // The keys stay where they are while the call scrolls below them.
        let room = height.saturating_sub(1).max(1);
        self.scroll = self.scroll.min(body.len().saturating_sub(room));
        let below = body.len().saturating_sub(self.scroll.saturating_add(room));
        let keys = if width >= KEYS.len() { KEYS } else { FEW_KEYS };
        let mut rows = vec![Row::new().say(keys, Ink::Accent)];
        rows.extend(body.drain(self.scroll..));
        let corner =
            if below > 0 { format!("{below} more: Down · Esc no") } else { "Esc is no".to_string() };
        Sheet { rows, corner, ..Sheet::default() }
    }
}

/// Pieces of at most `width` columns, nothing left out and nothing moved.
fn cut(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut column = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if column + wide > width.max(2) {
            lines.push(String::new());
            column = 0;
        }
        column += wide;
        if let Some(line) = lines.last_mut() {
            line.push(c);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn cutting_loses_nothing() {
        for (text, width, expected) in [
            ("abcdef", 4, vec!["abcd", "ef"]),
            ("日本語", 4, vec!["日本", "語"]),
            ("a日b", 2, vec!["a", "日", "b"]),
            ("", 4, vec![""]),
            ("ab", 0, vec!["ab"]),
        ] {
            assert_eq!(cut(text, width), expected);
        }
    }
}
