//! The groups tab: several rollouts of one query, folded into clusters of the same answer, to be labelled.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::deck::command::Action;
use crate::deck::keymap::Place;
use crate::deck::tab::{Context, Look, Tab, TabName, draw_empty};

#[derive(Default)]
pub struct Groups {}

impl Tab for Groups {
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
            "A group is one query rolled out several times. Answers that agree stand together, biggest cluster first; one key says which are good and which are bad, and the planner learns from the difference.",
            "No group yet: /group in the chat (F1) rolls the query in the input out eight times.",
        ];
        draw_empty(buffer, area, TabName::Groups, &words, look);
        None
    }
}
