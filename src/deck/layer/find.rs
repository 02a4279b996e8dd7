//! Searches the tab below while it is typed: a line at the bottom that leaves the page in sight.

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
}

impl Find {
    fn searched(&self) -> Reply {
        Reply::Try(Action::Find, self.input.value())
    }
}

impl Layer for Find {
    fn title(&self) -> String {
        "find".to_string()
    }

    fn key(&mut self, key: &KeyEvent, keymap: &Keymap, _: usize) -> Reply {
        match keymap.action(&[Place::Input], key) {
            // Where it was found stays in sight.
            Some(Action::Escape | Action::Interrupt) => Reply::Run(Action::FindEnd, String::new()),
            Some(Action::Send | Action::Find | Action::Edit(Edit::Up)) => {
                Reply::Try(Action::FindBack, self.input.value())
            }
            Some(Action::Edit(Edit::Down)) => Reply::Try(Action::FindForward, self.input.value()),
            Some(Action::Edit(edit)) => {
                self.input.edit(edit);
                self.searched()
            }
            Some(action @ (Action::PageUp | Action::PageDown)) => Reply::Try(action, String::new()),
            _ => {
                let Some(c) = typed(key) else { return Reply::Stay };
                self.input.insert(c.encode_utf8(&mut [0; 4]));
                self.searched()
            }
        }
    }

    fn paste(&mut self, text: &str) {
        self.input.insert(text.lines().next().unwrap_or_default());
    }

    fn sheet(&mut self, width: usize, _: usize, _: &Look) -> Sheet {
        let layout = self.input.layout(width);
        let text = layout.lines.last().map_or("", String::as_str);
        let rows = vec![Row::new().say(text, Ink::Text)];
        let corner = "Up and Down walk what was found · Esc".to_string();
        Sheet { rows, scroll: 0, cursor: Some((layout.cursor.0, 0)), corner }
    }

    fn area(&self, screen: Rect, _: usize) -> Rect {
        // Over the input; the footer says when nothing is found.
        let height = screen.height.saturating_sub(1).min(3);
        Rect::new(screen.x, screen.bottom() - 1 - height, screen.width, height)
    }
}
