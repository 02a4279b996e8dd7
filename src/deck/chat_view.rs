//! The chat as it is drawn: conversation, panes, input, the choices above it.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::widgets::{Clear, Widget};
use unicode_width::UnicodeWidthStr;

use crate::deck::chat::Chat;
use crate::deck::command::Action;
use crate::deck::composer::Layout as InputLayout;
use crate::deck::layout::{Layout, layout};
use crate::deck::paint::{draw_corner, draw_rows, draw_title, frame_block, inner};
use crate::deck::panes::narrow_title;
use crate::deck::row::Row;
use crate::deck::tab::Look;
use crate::deck::theme::Ink;

/// Columns of the prompt mark before the input.
const PROMPT: u16 = 2;
/// Choices above the input that show at once.
const CHOICES: usize = 8;

impl Chat {
    pub fn draw_all(&mut self, buffer: &mut Buffer, area: Rect, look: &Look) -> Option<Position> {
        let input = self.composer.layout(usize::from(area.width - PROMPT));
        let layout = layout(area, input.lines.len(), self.panes.shown);
        self.draw_body(buffer, &layout, look);
        let cursor = self.draw_input(buffer, layout.input, &input, look);
        self.draw_choices(buffer, &layout, look);
        self.drawn = Some(layout);
        cursor
    }

    /// The conversation and the panes.
    pub(super) fn draw_body(&mut self, buffer: &mut Buffer, layout: &Layout, look: &Look) {
        if let Some(area) = layout.conversation {
            let inner = inner(area);
            let streaming = self.is_running();
            self.transcript.prepare(usize::from(inner.width), usize::from(inner.height), streaming);
        }
        // Taken out while the trajectory they show is borrowed.
        let mut panes = std::mem::take(&mut self.panes);
        panes.prepare(layout, self.followed());
        self.panes = panes;
        self.draw_conversation(buffer, layout, look);
        self.panes.draw(buffer, layout, self.followed(), "conversation", look);
    }

    /// What could stand at the cursor, in a box right above the input.
    fn draw_choices(&self, buffer: &mut Buffer, layout: &Layout, look: &Look) {
        let Some(completion) = &self.completion else { return };
        let count = completion.choices.len().min(CHOICES).min(usize::from(layout.input.y.saturating_sub(3)));
        if count == 0 {
            return;
        }
        let first = (completion.selected + 1).saturating_sub(count);
        let shown = || completion.choices.iter().enumerate().skip(first).take(count);
        let widest = shown().map(|(_, choice)| choice.text.width()).max().unwrap_or(0);
        let rows: Vec<Row> = shown()
            .map(|(n, choice)| {
                let ink = if n == completion.selected { Ink::Selected } else { Ink::Text };
                let pad = " ".repeat(widest - choice.text.width() + 2);
                Row::new().say(&choice.text, ink).say(pad, Ink::Text).say(&choice.words, Ink::Dim)
            })
            .collect();
        let width = rows.iter().map(Row::width).max().unwrap_or(0) + 4;
        let width = u16::try_from(width.max(34)).unwrap_or(u16::MAX).min(layout.input.width);
        let height = u16::try_from(count + 2).unwrap_or(u16::MAX);
        let area = Rect::new(layout.input.x, layout.input.y - height, width, height);
        Clear.render(area, buffer);
        buffer.set_style(area, look.theme.style(Ink::Background).patch(look.theme.style(Ink::Text)));
        frame_block(buffer, area, Ink::BorderFocus, &look.theme);
        draw_rows(buffer, inner(area), rows.iter(), &look.theme);
        let words = format!(" {} of {} · Tab takes it ", completion.selected + 1, completion.choices.len());
        draw_corner(buffer, area, &Row::new().say(words, Ink::Dim), &look.theme);
    }

    fn draw_conversation(&self, buffer: &mut Buffer, layout: &Layout, look: &Look) {
        let Some(area) = layout.conversation else { return };
        frame_block(buffer, area, Ink::Border, &look.theme);
        let title = if layout.wide {
            Row::new().say(" conversation ", Ink::Title)
        } else {
            let room = usize::from(area.width.saturating_sub(2));
            narrow_title(self.followed(), None, "conversation", room, look)
        };
        draw_title(buffer, area, &title, &look.theme);
        if self.sought.is_empty() {
            draw_rows(buffer, inner(area), self.transcript.rows(), &look.theme);
        } else {
            let marked: Vec<Row> =
                self.transcript.rows().map(|row| row.marked(&self.sought, Ink::Selected)).collect();
            draw_rows(buffer, inner(area), marked.iter(), &look.theme);
        }
        if let Some(position) = self.transcript.position().filter(|_| !self.transcript.is_following()) {
            let key = look.keymap.key_of(&[], Action::Newest).unwrap_or_default();
            let words = format!(" {:.0} % · {key} newest ", position * 100.0);
            draw_corner(buffer, area, &Row::new().say(words, Ink::Dim), &look.theme);
        }
    }

    fn draw_input(
        &self,
        buffer: &mut Buffer,
        area: Rect,
        input: &InputLayout,
        look: &Look,
    ) -> Option<Position> {
        let rows = usize::from(area.height);
        let (column, line) = input.cursor;
        // Scroll so that the cursor's line is the last that shows, at the latest.
        let first = (line + 1).saturating_sub(rows);
        for (n, text) in input.lines.iter().skip(first).take(rows).enumerate() {
            let y = area.y + u16::try_from(n).unwrap_or(0);
            let mark = if first + n == 0 { "> " } else { "  " };
            let mut row = Row::new().say(mark, Ink::Accent).say(text.as_str(), Ink::Text);
            if self.composer.is_empty() {
                row = row.say("ask something", Ink::Dim);
            }
            row.draw(buffer, Rect::new(area.x, y, area.width, 1), &look.theme);
        }
        if self.panes.focus.is_some() {
            return None;
        }
        let x = area.x + PROMPT + u16::try_from(column).unwrap_or(0);
        let y = area.y + u16::try_from(line - first).unwrap_or(0);
        Some(Position::new(x.min(area.right().saturating_sub(1)), y))
    }
}
