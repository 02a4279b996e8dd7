//! The whole screen on one page, back to front: background, status, the tab that shows, footer, layers.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::widgets::{Clear, Widget};
use unicode_width::UnicodeWidthStr;

use crate::deck::app::App;
use crate::deck::layer;
use crate::deck::layout::LEAST;
use crate::deck::message::Level;
use crate::deck::paint::draw_rows;
use crate::deck::row::{Prose, Row};
use crate::deck::status;
use crate::deck::tab::TabName;
use crate::deck::theme::{Ink, Theme};

/// Rows of a notice at most.
const NOTICE_ROWS: usize = 6;

/// Draw everything; answers where the cursor stands, None when it is hidden.
pub fn draw(buffer: &mut Buffer, app: &mut App) -> Option<Position> {
    let area = buffer.area;
    let theme = &app.look.theme;
    buffer.set_style(area, theme.style(Ink::Background).patch(theme.style(Ink::Text)));
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let words = format!("needs {} x {}", LEAST.0, LEAST.1);
        Row::new().say(words, Ink::Text).draw(buffer, area, theme);
        return None;
    }
    status::draw(buffer, Rect::new(0, 0, area.width, 1), app);
    let body = Rect::new(0, 1, area.width, area.height - 2);
    let cursor = app.tabs.current_mut().draw(buffer, body, &app.look);
    footer(buffer, Rect::new(0, area.bottom() - 1, area.width, 1), app);
    let look = &app.look;
    let over = app.layers.iter_mut().fold(None, |_, over| layer::draw(buffer, area, over.as_mut(), look));
    if let Some(selection) = &mut app.selection {
        selection.draw(buffer);
    }
    if app.layers.is_empty() { cursor } else { over }
}

fn footer(buffer: &mut Buffer, area: Rect, app: &App) {
    let theme = &app.look.theme;
    let corner = app.tabs.current().corner().unwrap_or_default();
    let room = usize::from(area.width).saturating_sub(corner.width());
    let left = match &app.notice {
        Some((level, text)) => {
            let margin = Row::new().say(" ", Ink::Text);
            let prose = Prose::of(text.as_str(), level_ink(*level));
            let mut rows = prose.wrap(usize::from(area.width).saturating_sub(1), &margin, &margin);
            match (rows.len() > 1, input_row(app)) {
                (false, _) => rows.pop().unwrap_or_default(),
                (true, None) => return long_notice(buffer, area, area.bottom(), &mut rows, theme),
                (true, Some(input)) => {
                    // What is being typed stays in sight.
                    long_notice(buffer, area, input, &mut rows, theme);
                    status::hints(app, room.saturating_sub(1))
                }
            }
        }
        // A column of air before the corner.
        None => status::hints(app, room.saturating_sub(usize::from(corner.width() > 0))),
    };
    left.draw(buffer, area, theme);
    if left.text().trim_end().width() < room {
        let x = area.x + u16::try_from(room).unwrap_or(0);
        corner.draw(buffer, Rect::new(x, area.y, area.right() - x, 1), theme);
    }
}

/// The row the chat's input begins in, while it shows.
fn input_row(app: &App) -> Option<u16> {
    let chat = &app.tabs.chat;
    let shows = app.tabs.shown == TabName::Chat && chat.inside.is_none() && app.layers.is_empty();
    chat.drawn.as_ref().filter(|_| shows).map(|layout| layout.input.y)
}

/// More words than one line holds: over what stands above `bottom`, for a remedy stands at the end.
fn long_notice(buffer: &mut Buffer, area: Rect, bottom: u16, rows: &mut Vec<Row>, theme: &Theme) {
    rows.truncate(NOTICE_ROWS.min(usize::from(bottom.saturating_sub(1))));
    let tall = u16::try_from(rows.len()).unwrap_or(1);
    let over = Rect { y: bottom - tall, height: tall, ..area };
    Clear.render(over, buffer);
    buffer.set_style(over, theme.style(Ink::Background).patch(theme.style(Ink::Text)));
    draw_rows(buffer, over, rows.iter(), theme);
}

fn level_ink(level: Level) -> Ink {
    match level {
        Level::Info => Ink::Text,
        Level::Warning => Ink::Warning,
        Level::Error => Ink::Error,
    }
}
