//! Asks a person before a call acts outward in a tainted session, and before an MCP server joins.
//!
//! What is shown is what would run, or what would be kept, with everything that hides or reorders standing as an
//! escape. Keys typed before the dialog can have been read are not for it, no key that writes text elsewhere
//! consents by being held, what does not fit the screen is read to its end before a key can consent to it, and
//! whatever closes it says no.

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

/// What is asked about, as it is shown.
enum Question {
    /// `shown`: the arguments on one line.
    Call {
        tool: String,
        sandboxed: bool,
        shown: String,
    },
    Server {
        name: String,
        lines: Vec<String>,
    },
}

impl Question {
    /// The keys and what they say; `read`: all of it has been on the screen.
    fn keys(&self, width: usize, read: bool) -> &'static str {
        match self {
            _ if !read && width >= 36 => "Down: read it to its end  n no",
            _ if !read => "Down: read on  n no",
            Question::Call { .. } if width >= 23 => "y once  s session  n no",
            Question::Call { .. } => "y s yes  n no",
            Question::Server { .. } => "y allow it  n no",
        }
    }
}

pub struct Approve {
    id: u64,
    question: Question,
    since_ms: u64,
    scroll: usize,
    /// How many of its rows, from the first on, have been on the screen at this many columns.
    seen: usize,
    width: usize,
    /// So have all that a consent is about.
    read: bool,
}

impl Approve {
    pub fn call(id: u64, approval: &Approval, now_ms: u64) -> Approve {
        let shown = visible(&approval.arguments.to_string());
        let question = Question::Call { tool: visible(&approval.tool), sandboxed: approval.sandboxed, shown };
        Approve { id, question, since_ms: now_ms, scroll: 0, seen: 0, width: 0, read: false }
    }

    pub fn server(id: u64, name: &str, lines: &[String], now_ms: u64) -> Approve {
        let lines = lines.iter().map(|line| visible(line)).collect();
        let question = Question::Server { name: visible(name), lines };
        Approve { id, question, since_ms: now_ms, scroll: 0, seen: 0, width: 0, read: false }
    }

    fn answer(&self, consent: Consent) -> Reply {
        Reply::Consent { id: self.id, consent }
    }

    /// All rows, and how many of them, from the first on, a consent is about.
    fn rows(&self, width: usize) -> (Vec<Row>, usize) {
        let (asked, about) = match &self.question {
            Question::Call { sandboxed, shown, .. } => {
                (call_rows(shown, width), call_words(*sandboxed, width))
            }
            Question::Server { lines, .. } => (server_rows(lines, width), prose(SERVER, Ink::Warning, width)),
        };
        let count = asked.len();
        (asked.into_iter().chain(about).collect(), count)
    }

    /// Take note of what is on the screen: `room` rows from `scroll` on.
    fn see(&mut self, width: usize, room: usize, asked: usize) {
        if self.width != width {
            (self.width, self.seen) = (width, 0);
        }
        if self.scroll <= self.seen {
            self.seen = self.seen.max(self.scroll + room);
        }
        self.read |= self.seen >= asked;
    }
}

fn prose(words: &str, ink: Ink, width: usize) -> Vec<Row> {
    Prose::of(words, ink).wrap(width, &Row::new(), &Row::new())
}

const SERVER: &str = "It is a program outside this one and runs with your rights; its words enter prompts. What is \
                      kept is what stands here: should it change, it is refused until you allow it again.";

fn call_rows(shown: &str, width: usize) -> Vec<Row> {
    cut(shown, width).into_iter().map(|line| Row::new().say(line, Ink::Code)).collect()
}

/// Why it is asked about, and what the keys mean.
fn call_words(sandboxed: bool, width: usize) -> Vec<Row> {
    let why = "It acts outward, and this session has met text from outside and private data.";
    let mut rows = prose(why, Ink::Warning, width);
    if sandboxed {
        let place = "It runs in the sandbox: no network, nothing but the workspace.";
        rows.extend(prose(place, Ink::Dim, width));
    }
    rows.extend(prose("s allows exactly this call until the session ends. Esc is no.", Ink::Dim, width));
    rows
}

fn server_rows(lines: &[String], width: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for line in lines {
        let words = line.trim_start();
        let indent = line.len() - words.len();
        let ink = match indent {
            0 => Ink::Code,
            1..=2 => Ink::Strong,
            _ => Ink::Text,
        };
        let lead = Row::new().say(" ".repeat(indent.min(width / 4)), Ink::Text);
        rows.extend(Prose::of(words, ink).wrap(width, &lead, &lead));
    }
    rows
}

impl Layer for Approve {
    fn title(&self) -> String {
        match &self.question {
            Question::Call { tool, .. } => format!("run {tool}?"),
            Question::Server { name, .. } => format!("allow the MCP server {name}?"),
        }
    }

    fn key(&mut self, key: &KeyEvent, keymap: &Keymap, page: usize) -> Reply {
        match typed(key) {
            // What matters may stand below: it is shown instead, so many rows that none is jumped over.
            Some('y' | 's') if !self.read => {
                self.scroll = self.seen.saturating_sub(1);
                return Reply::Stay;
            }
            Some('y') => return self.answer(Consent::Once),
            Some('s') if matches!(self.question, Question::Call { .. }) => {
                return self.answer(Consent::Session);
            }
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
        matches!(self.question, Question::Call { .. })
    }

    fn sheet(&mut self, width: usize, height: usize, _: &Look) -> Sheet {
        let (mut body, asked) = self.rows(width);
        // The keys stay where they are while the call scrolls below them.
        let room = height.saturating_sub(1).max(1);
        self.scroll = self.scroll.min(body.len().saturating_sub(room));
        let below = body.len().saturating_sub(self.scroll.saturating_add(room));
        self.see(width, room, asked);
        let mut rows = vec![Row::new().say(self.question.keys(width, self.read), Ink::Accent)];
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
