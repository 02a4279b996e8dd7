//! The replay tab: any saved trajectory through the panes it had when it was live.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::deck::command::Action;
use crate::deck::keymap::Place;
use crate::deck::tab::{Context, Look, Tab, TabName, draw_empty};

#[derive(Default)]
pub struct Replay {}

impl Tab for Replay {
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
            "Every query you ask is kept. Here they play again through the same panes: real time or faster, paused, turn by turn.",
            "Nothing is kept yet: ask something in the chat (F1).",
        ];
        draw_empty(buffer, area, TabName::Replay, &words, look);
        None
    }
}
