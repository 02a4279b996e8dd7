//! The models tab: which GGUF serves, which others lie on this machine, and what fits it.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::deck::command::Action;
use crate::deck::keymap::Place;
use crate::deck::tab::{Context, Look, Tab, TabName, draw_empty};

#[derive(Default)]
pub struct Models {}

impl Tab for Models {
    fn places(&self) -> Vec<Place> {
        vec![Place::List]
    }

    fn perform(&mut self, _: Action, _: &str, _: &mut Context) -> bool {
        false
    }

    fn hints(&self) -> Vec<(Action, &'static str)> {
        Vec::new()
    }

    fn draw(&mut self, buffer: &mut Buffer, area: Rect, look: &Look) -> Option<Position> {
        let words = [
            "Which GGUF serves, which others were found on this machine, and which would fit its memory.",
            "Nothing has been looked for yet. `tillerman model list` prints what is there, `tillerman --model FILE.gguf` serves one.",
        ];
        draw_empty(buffer, area, TabName::Models, &words, look);
        None
    }
}
