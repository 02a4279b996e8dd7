//! One line of text asked for by a tab: a new title, a correction. Enter runs a command with it.

use crossterm::event::KeyEvent;

use crate::deck::command::Action;
use crate::deck::composer::Composer;
use crate::deck::keymap::{self, Keymap, Place};
use crate::deck::layer::{Layer, Reply, Sheet};
use crate::deck::row::Row;
use crate::deck::tab::Look;
use crate::deck::theme::Ink;

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
        match keymap.action(&[Place::Input], key) {
            Some(Action::Send) => {
                let text = self.input.take().trim().to_string();
                return if text.is_empty() { Reply::Close } else { Reply::Run(self.action, text) };
            }
            Some(Action::Escape | Action::Interrupt) => return Reply::Close,
            Some(Action::Newline) => self.input.insert("\n"),
            Some(Action::Edit(edit)) => self.input.edit(edit),
            _ => {
                if let Some(c) = keymap::typed(key) {
                    self.input.insert(c.encode_utf8(&mut [0; 4]));
                }
            }
        }
        Reply::Stay
    }

    fn paste(&mut self, text: &str) {
        self.input.paste(text);
    }

    fn sheet(&mut self, width: usize, _: usize, _: &Look) -> Sheet {
        let layout = self.input.layout(width);
        let mut rows: Vec<Row> =
            layout.lines.iter().map(|line| Row::new().say(line.as_str(), Ink::Text)).collect();
        rows.push(Row::new());
        rows.push(Row::new().say(self.words, Ink::Dim));
        Sheet { rows, scroll: 0, cursor: Some(layout.cursor), corner: String::new() }
    }
}
