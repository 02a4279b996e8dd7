//! Asks what the answer of a trajectory should have been.

use crossterm::event::KeyEvent;

use crate::deck::command::Action;
use crate::deck::composer::Composer;
use crate::deck::keymap::{Keymap, Place, typed};
use crate::deck::layer::{Layer, Reply, Sheet};
use crate::deck::row::Row;
use crate::deck::tab::Look;
use crate::deck::theme::Ink;

pub struct Correct {
    trajectory: String,
    input: Composer,
}

impl Correct {
    pub fn new(trajectory: String) -> Correct {
        Correct { trajectory, input: Composer::default() }
    }
}

impl Layer for Correct {
    fn title(&self) -> String {
        "what should the answer have been?".to_string()
    }

    fn key(&mut self, key: &KeyEvent, keymap: &Keymap, _: usize) -> Reply {
        match keymap.action(&[Place::Input], key) {
            Some(Action::Send) => {
                let text = self.input.take().trim().to_string();
                if text.is_empty() {
                    return Reply::Close;
                }
                return Reply::Correct { trajectory: self.trajectory.clone(), text };
            }
            Some(Action::Escape | Action::Interrupt) => return Reply::Close,
            Some(Action::Newline) => self.input.insert("\n"),
            Some(Action::Edit(edit)) => self.input.edit(edit),
            _ => {
                if let Some(c) = typed(key) {
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
        rows.push(Row::new().say("Enter saves it and marks the answer bad, Esc keeps nothing", Ink::Dim));
        Sheet { rows, cursor: Some(layout.cursor), ..Sheet::default() }
    }
}
