//! The few shapes every screen is made of: bordered blocks, titles, words on a border, rows.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::symbols::merge::MergeStrategy;
use ratatui::widgets::{Block, Widget};

use crate::deck::row::Row;
use crate::deck::theme::{Ink, Theme};

/// Inside of a bordered block, one column of air on either side.
pub fn inner(area: Rect) -> Rect {
    let inside = Block::bordered().inner(area);
    Rect::new(inside.x + 1.min(inside.width), inside.y, inside.width.saturating_sub(2), inside.height)
}

/// A border; where it meets another the two join.
pub fn frame_block(buffer: &mut Buffer, area: Rect, ink: Ink, theme: &Theme) {
    Block::bordered().border_style(theme.style(ink)).merge_borders(MergeStrategy::Exact).render(area, buffer);
}

pub fn draw_title(buffer: &mut Buffer, area: Rect, title: &Row, theme: &Theme) {
    let room = Rect::new(area.x + 1.min(area.width), area.y, area.width.saturating_sub(2), 1);
    title.draw(buffer, room, theme);
}

/// Words on the right end of the lower border.
pub fn draw_corner(buffer: &mut Buffer, area: Rect, words: &Row, theme: &Theme) {
    let width = u16::try_from(words.width()).unwrap_or(u16::MAX);
    if width.saturating_add(2) <= area.width && area.height > 1 {
        let room = Rect::new(area.right() - width - 1, area.bottom() - 1, width, 1);
        words.draw(buffer, room, theme);
    }
}

/// Rows from the top of `area`, as many as fit.
pub fn draw_rows<'a>(buffer: &mut Buffer, area: Rect, rows: impl Iterator<Item = &'a Row>, theme: &Theme) {
    for (y, row) in (area.y..area.bottom()).zip(rows) {
        row.draw(buffer, Rect::new(area.x, y, area.width, 1), theme);
    }
}
