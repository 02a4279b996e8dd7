//! Searches the tab below while it is typed: a line at the bottom that leaves the page in sight. Once Enter was
//! pressed the text stands, and keys of one letter walk what was found.

use crossterm::event::KeyEvent;
use ratatui::layout::Rect;

use crate::deck::command::Action;
use crate::deck::composer::{Composer, Edit};
use crate::deck::keymap::{Keymap, Place, typed};
use crate::deck::layer::{Layer, Reply, Sheet};
use crate::deck::row::Row;
use crate::deck::tab::Look;
use crate::deck::theme::Ink;

#[derive(Default)]
pub struct Find {
    input: Composer,
    /// The text stands: letters are keys, not more of it.
    walking: bool,
}

impl Find {
    /// `text` is what is looked for already; empty: it is still to be typed.
    pub fn of(text: &str) -> Find {
        let mut find = Find { walking: !text.is_empty(), ..Find::default() };
        find.input.insert(text);
        find
    }

    fn searched(&mut self) -> Reply {
        self.walking = false;
        Reply::Try(Action::Find, self.input.value())
    }
}

impl Layer for Find {
    fn title(&self) -> String {
        "find".to_string()
    }

    fn key(&mut self, key: &KeyEvent, keymap: &Keymap, _: usize) -> Reply {
        let places: &[Place] = if self.walking { &[Place::Find, Place::Input] } else { &[Place::Input] };
        match keymap.action(places, key) {
            // Where it was found stays in sight.
            Some(Action::Escape | Action::Interrupt) => Reply::Run(Action::FindEnd, String::new()),
            Some(Action::Send) => {
                self.walking = !self.input.is_empty();
                Reply::Try(Action::FindBack, self.input.value())
            }
            Some(Action::Find | Action::FindBack | Action::Edit(Edit::Up)) => {
                Reply::Try(Action::FindBack, self.input.value())
            }
            Some(Action::FindForward | Action::Edit(Edit::Down)) => {
                Reply::Try(Action::FindForward, self.input.value())
            }
            Some(Action::Edit(edit)) => {
                self.input.edit(edit);
                self.searched()
            }
            Some(action @ (Action::PageUp | Action::PageDown)) => Reply::Try(action, String::new()),
            _ => match typed(key) {
                None => Reply::Stay,
                // A query begins.
                Some(_) if self.walking => Reply::PassOn,
                Some(c) => {
                    self.input.insert(c.encode_utf8(&mut [0; 4]));
                    self.searched()
                }
            },
        }
    }

    fn paste(&mut self, text: &str) -> Reply {
        self.input.insert(text.lines().next().unwrap_or_default());
        self.searched()
    }

    fn sheet(&mut self, width: usize, _: usize, look: &Look) -> Sheet {
        let layout = self.input.layout(width);
        let text = layout.lines.last().map_or("", String::as_str);
        let rows = vec![Row::new().say(text, Ink::Text)];
        let key = |action| look.keymap.key_of(&[Place::Find], action).unwrap_or_default();
        let (back, forward) = (key(Action::FindBack), key(Action::FindForward));
        let corner = match (self.walking, width >= 54) {
            (true, true) => format!("{back} older, {forward} newer · Backspace changes it · Esc"),
            (true, false) => format!("{back} older, {forward} newer · Esc"),
            (false, true) => "Enter, Up and Down walk what was found · Esc".to_string(),
            (false, false) => "Up, Down walk what was found".to_string(),
        };
        let cursor = (!self.walking).then_some((layout.cursor.0, 0));
        Sheet { rows, scroll: 0, cursor, corner }
    }

    fn area(&self, screen: Rect, _: usize) -> Rect {
        // Over the input; the footer says when nothing is found.
        let height = screen.height.saturating_sub(1).min(3);
        Rect::new(screen.x, screen.bottom() - 1 - height, screen.width, height)
    }
}
