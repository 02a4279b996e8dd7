//! One line of text asked for by a tab: a new title, a correction. Enter runs a command with it.

use crossterm::event::KeyEvent;

use crate::deck::command::Action;
use crate::deck::composer::Composer;
use crate::deck::keymap::Keymap;
use crate::deck::layer::{Layer, Reply, Sheet, writing, written};
use crate::deck::tab::Look;

pub struct Line {
    title: &'static str,
    /// What Enter and Esc do, in words.
    words: &'static str,
    action: Action,
    input: Composer,
    /// What it is about, where what is written is kept if it closes.
    about: Option<String>,
}

impl Line {
    pub fn new(title: &'static str, words: &'static str, action: Action, text: &str) -> Line {
        let mut input = Composer::default();
        input.set(text);
        Line { title, words, action, input, about: None }
    }

    /// Asks how long a label holds.
    pub fn expires(until: &str) -> Line {
        let title = "does this answer change over time? how long does its label hold?";
        let words = "12h, 30d, 8w, 1y, a date, or never; then the question is open again. Enter keeps it, Esc leaves it";
        Line::new(title, words, Action::Expires, until)
    }

    /// Closed without being sent, what was written comes back when it is opened about the same again.
    #[must_use]
    pub fn kept(self, about: String) -> Line {
        Line { about: Some(about), ..self }
    }
}

impl Layer for Line {
    fn title(&self) -> String {
        self.title.to_string()
    }

    fn key(&mut self, key: &KeyEvent, keymap: &Keymap, _: usize) -> Reply {
        match written(&mut self.input, key, keymap) {
            Ok(text) => Reply::Run(self.action, text),
            Err(reply) => reply,
        }
    }

    fn paste(&mut self, text: &str) -> Reply {
        self.input.paste(text);
        Reply::Stay
    }

    fn draft(&self) -> Option<(String, String)> {
        Some((self.about.clone()?, self.input.value()))
    }

    fn recall(&mut self, text: &str) {
        self.input.set(text);
    }

    fn sheet(&mut self, width: usize, _: usize, _: &Look) -> Sheet {
        writing(&self.input, self.words, width)
    }
}
