//! Layers: what lies over a tab, topmost last. Each owns its keys and its rows; the frame is drawn here.

pub mod correct;
pub mod doctor;
pub mod find;
pub mod help;
pub mod line;
pub mod picker;

use crossterm::event::KeyEvent;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::widgets::{Clear, Widget};

use crate::deck::command::Action;
use crate::deck::keymap::Keymap;
use crate::deck::message::DeckEvent;
use crate::deck::paint::{draw_corner, draw_rows, draw_title, frame_block, inner};
use crate::deck::row::Row;
use crate::deck::tab::Look;
use crate::deck::theme::Ink;

/// What becomes of a layer after a key, and what shall be done.
#[derive(Debug, PartialEq)]
pub enum Reply {
    Stay,
    Close,
    /// Close, then run a command with an argument.
    Run(Action, String),
    /// Run a command with an argument, and stay.
    Try(Action, String),
    /// Close, then let the key do what it does without the layer.
    PassOn,
    /// Close, then label a trajectory bad, with what its answer should have been.
    Correct {
        trajectory: String,
        text: String,
    },
}

/// What a layer shows: rows at a width, and where the cursor stands in them.
#[derive(Default)]
pub struct Sheet {
    pub rows: Vec<Row>,
    /// Rows above the first that shows.
    pub scroll: usize,
    /// Column and row of the cursor.
    pub cursor: Option<(usize, usize)>,
    /// Words on the lower border.
    pub corner: String,
}

pub trait Layer {
    fn title(&self) -> String;

    fn key(&mut self, key: &KeyEvent, keymap: &Keymap, page: usize) -> Reply;

    fn paste(&mut self, _: &str) {}

    /// Something happened while it is open.
    fn event(&mut self, _: &DeckEvent) {}

    /// The rows at `width`; `height` is what there is room for, so that scrolling can be held in bounds.
    fn sheet(&mut self, width: usize, height: usize, look: &Look) -> Sheet;

    /// Where it stands on the screen with that many rows inside, border included.
    fn area(&self, screen: Rect, rows: usize) -> Rect {
        centered(screen, rows)
    }
}

/// Draw a layer in the middle; answers where its cursor is, if it has one.
pub fn draw(buffer: &mut Buffer, screen: Rect, layer: &mut dyn Layer, look: &Look) -> Option<Position> {
    let most = inner(layer.area(screen, usize::MAX));
    let sheet = layer.sheet(usize::from(most.width), usize::from(most.height), look);
    let area = layer.area(screen, sheet.rows.len());
    let theme = &look.theme;
    Clear.render(area, buffer);
    buffer.set_style(area, theme.style(Ink::Background).patch(theme.style(Ink::Text)));
    frame_block(buffer, area, Ink::BorderFocus, theme);
    draw_title(buffer, area, &Row::new().say(format!(" {} ", layer.title()), Ink::TitleFocus), theme);
    let inside = inner(area);
    draw_rows(buffer, inside, sheet.rows.iter().skip(sheet.scroll), theme);
    if !sheet.corner.is_empty() {
        draw_corner(buffer, area, &Row::new().say(format!(" {} ", sheet.corner), Ink::Dim), theme);
    }
    let (column, row) = sheet.cursor?;
    let x = inside.x + u16::try_from(column).unwrap_or(u16::MAX).min(inside.width);
    let y = inside.y
        + u16::try_from(row.saturating_sub(sheet.scroll))
            .unwrap_or(u16::MAX)
            .min(inside.height - 1.min(inside.height));
    Some(Position::new(x, y))
}

/// Up to 96 columns, as many rows as asked for, in the middle.
fn centered(screen: Rect, rows: usize) -> Rect {
    let width = screen.width.saturating_sub(4).min(96);
    let height =
        u16::try_from(rows.saturating_add(2)).unwrap_or(u16::MAX).min(screen.height.saturating_sub(2));
    Rect::new((screen.width - width) / 2, (screen.height - height) / 2, width, height)
}
