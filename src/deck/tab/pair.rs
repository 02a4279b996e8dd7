//! Two trajectories side by side in the replay tab: what is scrolled and shown of `compare`'s rows.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::deck::command::Action;
use crate::deck::compare;
use crate::deck::paint::{draw_corner, draw_rows, draw_title, frame_block, inner};
use crate::deck::row::Row;
use crate::deck::tab::Look;
use crate::deck::theme::Ink;
use crate::flow::trajectory::Trajectory;

/// What the marks of the rows mean.
const MARKS: &str = "= same  ~ changed  < > only there";

pub struct Pair {
    left: Trajectory,
    right: Trajectory,
    /// Parts that are the same show too.
    whole: bool,
    scroll: usize,
}

impl Pair {
    pub fn new(left: Trajectory, right: Trajectory) -> Pair {
        Pair { left, right, whole: false, scroll: 0 }
    }

    /// False when the action means nothing here.
    pub fn perform(&mut self, action: Action, page: usize) -> bool {
        match action {
            Action::ScrollUp => self.scroll = self.scroll.saturating_sub(1),
            Action::ScrollDown => self.scroll = self.scroll.saturating_add(1),
            Action::PageUp => self.scroll = self.scroll.saturating_sub(page),
            Action::PageDown => self.scroll = self.scroll.saturating_add(page),
            Action::First => self.scroll = 0,
            Action::Newest => self.scroll = usize::MAX,
            Action::Open | Action::Compare => self.whole = !self.whole,
            _ => return false,
        }
        true
    }

    pub fn draw(&mut self, buffer: &mut Buffer, area: Rect, look: &Look) {
        let theme = &look.theme;
        frame_block(buffer, area, Ink::Border, theme);
        let names = format!(" {} | {} ", name(&self.left), name(&self.right));
        let roomy = names.len() + MARKS.len() + 4 <= usize::from(area.width);
        let title = if roomy { format!("{names} {MARKS} ") } else { names };
        draw_title(buffer, area, &Row::new().say(title, Ink::Title), theme);
        let inside = inner(area);
        let mut rows = compare::rows(&self.left, &self.right, self.whole, usize::from(inside.width));
        if !roomy {
            rows.insert(0, Row::new().say(MARKS, Ink::Dim));
        }
        let height = usize::from(inside.height);
        self.scroll = self.scroll.min(rows.len().saturating_sub(height));
        draw_rows(buffer, inside, rows.iter().skip(self.scroll), theme);
        let below = rows.len().saturating_sub(self.scroll + height);
        if self.scroll + below > 0 {
            let words = format!(" {} above, {below} below ", self.scroll);
            draw_corner(buffer, area, &Row::new().say(words, Ink::Dim), theme);
        }
    }
}

/// The end of its id, and where it was forked.
fn name(trajectory: &Trajectory) -> String {
    let id = &trajectory.id;
    let short = id.get(id.len().saturating_sub(8)..).unwrap_or(id);
    match &trajectory.parent {
        Some((_, turns)) => format!("{short} (turn {} planned again)", turns + 1),
        None => short.to_string(),
    }
}
