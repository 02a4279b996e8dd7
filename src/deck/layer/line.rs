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
}

impl Line {
    pub fn new(title: &'static str, words: &'static str, action: Action, text: &str) -> Line {
        let mut input = Composer::default();
        input.set(text);
        Line { title, words, action, input }
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

    fn sheet(&mut self, width: usize, _: usize, _: &Look) -> Sheet {
        writing(&self.input, self.words, width)
    }
}
