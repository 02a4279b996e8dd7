//! A person's own selection with the mouse: dragged over what is drawn, within the frame it began in, and copied when
//! the button is let go.

use ratatui::buffer::Buffer;
use ratatui::style::Modifier;
use unicode_width::UnicodeWidthStr;

/// What parts frames: a selection does not cross it.
const FRAME: &str = "│";

/// From where to where, in columns and rows of the screen, and what stood there when it was drawn last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    from: (u16, u16),
    to: (u16, u16),
    /// The mouse has moved since the button went down.
    dragged: bool,
    /// The button went up, and nobody has taken the text yet.
    dropped: bool,
    text: String,
}

impl Selection {
    pub fn at(column: u16, row: u16) -> Selection {
        Selection { from: (column, row), to: (column, row), ..Selection::default() }
    }

    pub fn drag(&mut self, column: u16, row: u16) {
        self.dragged |= (column, row) != self.from;
        self.to = (column, row);
    }

    /// The button went up.
    pub fn let_go(&mut self) {
        self.dropped = true;
    }

    pub fn is_dropped(&self) -> bool {
        self.dropped
    }

    /// The text, once.
    pub fn take(&mut self) -> Option<String> {
        self.dropped = false;
        self.text().map(String::from)
    }

    /// What is selected; None: the button went down and up in one place.
    pub fn text(&self) -> Option<&str> {
        (self.dragged && !self.text.trim().is_empty()).then_some(&self.text)
    }

    /// Mark its cells in what was drawn, and take their text: whole rows between the first and the last.
    pub fn draw(&mut self, buffer: &mut Buffer) {
        self.text.clear();
        if !self.dragged {
            return;
        }
        let area = buffer.area;
        let inside = |(column, row): (u16, u16)| {
            (column.min(area.width.saturating_sub(1)), row.min(area.height.saturating_sub(1)))
        };
        let (mut first, mut last) = (inside(self.from), inside(self.to));
        let (left, right) = bounds(buffer, first);
        if (last.1, last.0) < (first.1, first.0) {
            std::mem::swap(&mut first, &mut last);
        }
        let mut rows = Vec::new();
        for row in first.1..=last.1 {
            let begin = if row == first.1 { first.0.clamp(left, right) } else { left };
            let end = if row == last.1 { last.0.clamp(left, right) } else { right };
            let (mut text, mut covered) = (String::new(), 0);
            for column in begin..=end {
                let Some(cell) = buffer.cell_mut((column, row)) else { continue };
                cell.modifier.toggle(Modifier::REVERSED);
                // The cells a wide character reaches over hold nothing of their own.
                if column >= covered {
                    text.push_str(cell.symbol());
                    covered = column + u16::try_from(cell.symbol().width()).unwrap_or(1).max(1);
                }
            }
            rows.push(text.trim_end().to_string());
        }
        // The column of air inside a frame is no part of the text.
        let air = rows.iter().skip(1).filter(|row| !row.is_empty()).all(|row| row.starts_with(' '));
        if air && rows.len() > 1 {
            rows.iter_mut().skip(1).for_each(|row| *row = row.get(1..).unwrap_or_default().to_string());
            rows[0] = rows[0].strip_prefix(' ').filter(|_| first.0 == left).unwrap_or(&rows[0]).to_string();
        }
        self.text = rows.join("\n").trim_end().to_string();
    }
}

/// First and last column of the frame that a cell stands in.
fn bounds(buffer: &Buffer, (column, row): (u16, u16)) -> (u16, u16) {
    let is_frame = |column: u16| buffer.cell((column, row)).is_some_and(|cell| cell.symbol() == FRAME);
    let width = buffer.area.width;
    let left = (0..column).rev().find(|column| is_frame(*column)).map_or(0, |column| column + 1);
    let right = (column + 1..width).find(|column| is_frame(*column)).unwrap_or(width);
    (left.min(column), right.saturating_sub(1).max(column))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen() -> Buffer {
        Buffer::with_lines([
            "┌ one ─────┐┌ two ────┐",
            "│ What is  ││ other   │",
            "│ 日本 it? ││ words   │",
            "│ 42       ││ here    │",
            "└──────────┘└─────────┘",
        ])
    }

    fn selected(from: (u16, u16), to: (u16, u16)) -> Option<String> {
        let mut buffer = screen();
        let mut selection = Selection::at(from.0, from.1);
        selection.drag(to.0, to.1);
        selection.draw(&mut buffer);
        selection.text().map(String::from)
    }

    #[test]
    fn a_selection_stays_in_its_frame_and_loses_nothing_of_it() {
        assert_eq!(selected((2, 1), (3, 3)).as_deref(), Some("What is\n日本 it?\n42"));
        assert_eq!(selected((3, 3), (2, 1)).as_deref(), Some("What is\n日本 it?\n42"), "from its end");
        assert_eq!(selected((7, 1), (9, 1)).as_deref(), Some("is"));
        // Dragged over into the next frame, or off the screen: what is marked is of the first.
        assert_eq!(selected((2, 1), (18, 2)).as_deref(), Some("What is\n日本 it?"));
        assert_eq!(selected((14, 2), (900, 3)).as_deref(), Some("words\nhere"));
        assert_eq!(selected((2, 1), (2, 1)), None, "a click selects nothing");
    }

    #[test]
    fn what_is_selected_shows() {
        let mut buffer = screen();
        let mut selection = Selection::at(2, 1);
        selection.drag(5, 1);
        selection.draw(&mut buffer);
        let reversed = (0..23).filter(|x| buffer[(*x, 1)].modifier.contains(Modifier::REVERSED));
        assert_eq!(reversed.collect::<Vec<_>>(), [2, 3, 4, 5]);
    }
}
