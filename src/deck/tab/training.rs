//! The training tab: what the labels made of the planner, live.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::deck::command::Action;
use crate::deck::keymap::Place;
use crate::deck::tab::{Context, Look, Tab, TabName, draw_empty};

#[derive(Default)]
pub struct Training {}

impl Tab for Training {
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
            "Labels become a better planner here: reward with its interval, KL, clip share, the group table, the verdict of the gate on held-out questions, and the adapters with a way back to each.",
            "Nothing has been trained yet: label answers in the chat (F1) with + and -, or a group (F3), then /train.",
        ];
        draw_empty(buffer, area, TabName::Training, &words, look);
        None
    }
}
