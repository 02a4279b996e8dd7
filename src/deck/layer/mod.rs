//! Layers: what lies over a tab, topmost last. Each owns its keys and its rows; the frame is drawn here.

pub mod approve;
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
use crate::deck::composer::Composer;
use crate::deck::keymap::{Keymap, Place, typed};
use crate::deck::message::DeckEvent;
use crate::deck::paint::{draw_corner, draw_rows, draw_title, frame_block, inner};
use crate::deck::row::{Prose, Row};
use crate::deck::tab::Look;
use crate::deck::theme::Ink;
use crate::tools::Consent;

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
    /// Close, and say whether a call may run.
    Consent {
        id: u64,
        consent: Consent,
    },
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

    fn paste(&mut self, _: &str) -> Reply {
        Reply::Stay
    }

    /// Keys before this moment were meant for something else and are dropped.
    fn deaf_until_ms(&self) -> u64 {
        0
    }

    /// What is written in it and about what, where that is worth keeping when it closes without being sent; empty once it
    /// was sent.
    fn draft(&self) -> Option<(String, String)> {
        None
    }

    /// What was written in it the last time.
    fn recall(&mut self, _: &str) {}

    /// Nothing is left to ask once the query has ended.
    fn ends_with_query(&self) -> bool {
        false
    }

    /// Something happened while it is open.
    fn event(&mut self, _: &DeckEvent) {}

    /// The rows at `width`; `height` is what there is room for, so that scrolling can be held in bounds.
    fn sheet(&mut self, width: usize, height: usize, look: &Look) -> Sheet;

    /// Where it stands on the screen with that many rows inside, border included.
    fn area(&self, screen: Rect, rows: usize) -> Rect {
        centered(screen, rows)
    }
}

/// Whether `action` moves through a page, and then it has: `scroll` is held in bounds where the page is drawn.
fn scrolled(scroll: &mut usize, action: Action, page: usize) -> bool {
    *scroll = match action {
        Action::ScrollUp => scroll.saturating_sub(1),
        Action::ScrollDown => scroll.saturating_add(1),
        Action::PageUp => scroll.saturating_sub(page),
        Action::PageDown => scroll.saturating_add(page),
        Action::First => 0,
        Action::Newest => usize::MAX,
        _ => return false,
    };
    true
}

/// A key on a page that is only read. A letter closes it and types: nothing typed is lost.
fn leaf_through(
    scroll: &mut usize,
    key: &KeyEvent,
    keymap: &Keymap,
    page: usize,
    closes: &[Action],
) -> Reply {
    if typed(key).is_some_and(|c| c.is_alphanumeric() && c != 'q') {
        return Reply::PassOn;
    }
    match keymap.action(&[Place::List], key) {
        Some(action) if scrolled(scroll, action, page) => Reply::Stay,
        Some(action) if closes.contains(&action) => Reply::Close,
        _ => Reply::PassOn,
    }
}

/// A key on a text that is asked for: what was written, once it is sent.
fn written(input: &mut Composer, key: &KeyEvent, keymap: &Keymap) -> Result<String, Reply> {
    match keymap.action(&[Place::Input], key) {
        Some(Action::Send) => {
            let text = input.take().trim().to_string();
            return if text.is_empty() { Err(Reply::Close) } else { Ok(text) };
        }
        Some(Action::Escape | Action::Interrupt) => return Err(Reply::Close),
        Some(Action::Newline) => input.insert("\n"),
        Some(Action::Edit(edit)) => input.edit(edit),
        _ => {
            if let Some(c) = typed(key) {
                input.insert(c.encode_utf8(&mut [0; 4]));
            }
        }
    }
    Err(Reply::Stay)
}

/// What was written so far, and below it what Enter and Esc do.
fn writing(input: &Composer, words: &str, width: usize) -> Sheet {
    let layout = input.layout(width);
    let mut rows: Vec<Row> =
        layout.lines.iter().map(|line| Row::new().say(line.as_str(), Ink::Text)).collect();
    rows.push(Row::new());
    rows.extend(Prose::of(words, Ink::Dim).wrap(width, &Row::new(), &Row::new()));
    Sheet { rows, cursor: Some(layout.cursor), ..Sheet::default() }
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
