//! The whole screen on one page, back to front: background, status, conversation, panes, input, footer,
//! popups. Reads the app, changes only what depends on the size (`prepare`).

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::symbols::merge::MergeStrategy;
use ratatui::widgets::{Block, Clear, Widget};

use crate::deck::app::App;
use crate::deck::layout::{LEAST, Layout, layout};
use crate::deck::message::Level;
use crate::deck::pane::{Page, Pane};
use crate::deck::popup::Popup;
use crate::deck::row::Row;
use crate::deck::status;
use crate::deck::theme::{Ink, Theme};

/// Columns of the prompt mark before the input.
const PROMPT: u16 = 2;

/// Draw everything; answers where the cursor stands, None when it is hidden.
pub fn draw(buffer: &mut Buffer, app: &mut App) -> Option<Position> {
    let area = buffer.area;
    buffer.set_style(area, app.theme.style(Ink::Background).patch(app.theme.style(Ink::Text)));
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let words = format!("needs {} x {}", LEAST.0, LEAST.1);
        Row::new().say(words, Ink::Text).draw(buffer, area, &app.theme);
        return None;
    }
    let input = app.chat.composer.layout(usize::from(area.width - PROMPT));
    let layout = layout((area.width, area.height), input.lines.len(), app.chat.shown);
    prepare(app, &layout);

    let app = &*app;
    status::draw(buffer, layout.status, app);
    if let Some(area) = layout.conversation {
        conversation(buffer, area, app, layout.wide);
    }
    // The focused pane last, so that its border lies over its neighbours'.
    let focused = |pane: &usize| app.chat.focus == Some(*pane);
    for (pane, area) in layout.panes.iter().filter(|(pane, _)| !focused(pane)) {
        draw_pane(buffer, *area, *pane, app, layout.wide);
    }
    for (pane, area) in layout.panes.iter().filter(|(pane, _)| focused(pane)) {
        draw_pane(buffer, *area, *pane, app, layout.wide);
    }
    let cursor = draw_input(buffer, layout.input, app, &input);
    footer(buffer, layout.footer, app);
    let popup_cursor = app.popups.iter().fold(None, |_, popup| draw_popup(buffer, area, popup, &app.theme));
    if app.popups.is_empty() { cursor } else { popup_cursor }
}

/// What must be known before drawing: which rows of the conversation show, how far things scroll.
fn prepare(app: &mut App, layout: &Layout) {
    if let Some(area) = layout.conversation {
        let inner = inner(area);
        app.chat.transcript.prepare(usize::from(inner.width), usize::from(inner.height));
    }
    if let Some((pane, area)) = layout.panes.iter().find(|(pane, _)| app.chat.focus == Some(*pane)) {
        let inner = inner(*area);
        let rows = pane_page(app, *pane, inner.width).rows.len();
        app.chat.pane_scroll = app.chat.pane_scroll.min(rows.saturating_sub(usize::from(inner.height)));
    }
    if let Some(Popup::Help { scroll }) = app.popups.last_mut() {
        let area = popup_area(Rect::new(0, 0, app.size.0, app.size.1), usize::MAX);
        let rows = Popup::Help { scroll: 0 }.rows(usize::from(inner(area).width)).len();
        *scroll = (*scroll).min(rows.saturating_sub(usize::from(inner(area).height)));
    }
}

/// Inside of a bordered block, one column of air on either side.
fn inner(area: Rect) -> Rect {
    let inside = Block::bordered().inner(area);
    Rect::new(inside.x + 1.min(inside.width), inside.y, inside.width.saturating_sub(2), inside.height)
}

fn conversation(buffer: &mut Buffer, area: Rect, app: &App, wide: bool) {
    frame_block(buffer, area, Ink::Border, &app.theme);
    let title = if wide { Row::new().say(" conversation ", Ink::Title) } else { tabs(app, None) };
    draw_title(buffer, area, &title, &app.theme);
    draw_rows(buffer, inner(area), app.chat.transcript.rows(), &app.theme);
    if let Some(position) = app.chat.transcript.position().filter(|_| !app.chat.transcript.is_following()) {
        let words = format!(" {:.0} % · Ctrl+End newest ", position * 100.0);
        draw_corner(buffer, area, &Row::new().say(words, Ink::Dim), &app.theme);
    }
}

fn draw_pane(buffer: &mut Buffer, area: Rect, pane: usize, app: &App, wide: bool) {
    let focus = app.chat.focus == Some(pane);
    frame_block(buffer, area, if focus { Ink::BorderFocus } else { Ink::Border }, &app.theme);
    let title = if wide {
        let words = match app.chat.followed() {
            Some((live, turn)) => Pane::ALL[pane].title(live, turn),
            None => Pane::ALL[pane].name().to_string(),
        };
        Row::new().say(format!(" {words} "), if focus { Ink::TitleFocus } else { Ink::Title })
    } else {
        tabs(app, Some(pane))
    };
    draw_title(buffer, area, &title, &app.theme);
    let inside = inner(area);
    let page = pane_page(app, pane, inside.width);
    let height = usize::from(inside.height);
    if !focus {
        let hidden = page.rows.len().saturating_sub(height);
        draw_rows(buffer, inside, page.fit(height).iter(), &app.theme);
        if hidden > 0 {
            let words = format!(" {hidden} more: F{} ", pane + 1);
            draw_corner(buffer, area, &Row::new().say(words, Ink::Dim), &app.theme);
        }
        return;
    }
    let scroll = app.chat.pane_scroll;
    draw_rows(buffer, inside, page.rows.iter().skip(scroll), &app.theme);
    let below = page.rows.len().saturating_sub(scroll + height);
    if scroll + below > 0 {
        let words = format!(" {scroll} above, {below} below ");
        draw_corner(buffer, area, &Row::new().say(words, Ink::Dim), &app.theme);
    }
}

fn pane_page(app: &App, pane: usize, width: u16) -> Page {
    let (pane, width) = (Pane::ALL[pane], usize::from(width));
    match app.chat.followed() {
        Some((live, turn)) => pane.page(live, turn, width),
        None => pane.introduction(width),
    }
}

/// The narrow screen's title: every view with its key, the one that shows marked.
fn tabs(app: &App, shown: Option<usize>) -> Row {
    let mark = |here: bool| if here { Ink::TitleFocus } else { Ink::Title };
    let mut row = Row::new().say(" conversation ", mark(shown.is_none()));
    for (n, pane) in Pane::ALL.iter().enumerate() {
        let words = match app.chat.followed() {
            Some((live, turn)) if shown == Some(n) => pane.title(live, turn),
            _ => pane.name().to_string(),
        };
        row = row.say(format!(" F{} {words} ", n + 1), mark(shown == Some(n)));
    }
    row
}

fn draw_input(
    buffer: &mut Buffer,
    area: Rect,
    app: &App,
    input: &crate::deck::composer::Layout,
) -> Option<Position> {
    let rows = usize::from(area.height);
    let (column, line) = input.cursor;
    // Scroll so that the cursor's line is the last that shows, at the latest.
    let first = (line + 1).saturating_sub(rows);
    for (n, text) in input.lines.iter().skip(first).take(rows).enumerate() {
        let y = area.y + u16::try_from(n).unwrap_or(0);
        let mark = if first + n == 0 { "> " } else { "  " };
        let mut row = Row::new().say(mark, Ink::Accent).say(text.as_str(), Ink::Text);
        if app.chat.composer.is_empty() {
            row = row.say("ask something", Ink::Dim);
        }
        row.draw(buffer, Rect::new(area.x, y, area.width, 1), &app.theme);
    }
    if app.chat.focus.is_some() {
        return None;
    }
    let x = area.x + PROMPT + u16::try_from(column).unwrap_or(0);
    let y = area.y + u16::try_from(line - first).unwrap_or(0);
    Some(Position::new(x.min(area.right().saturating_sub(1)), y))
}

fn footer(buffer: &mut Buffer, area: Rect, app: &App) {
    let bar = status::turn_bar(app).unwrap_or_default();
    let room = usize::from(area.width).saturating_sub(bar.width());
    let left = match &app.notice {
        Some((level, text)) => Row::new().say(" ", Ink::Text).say(text, level_ink(*level)),
        None => status::hints(app, room),
    };
    left.draw(buffer, area, &app.theme);
    if left.width() <= room {
        let x = area.x + u16::try_from(room).unwrap_or(0);
        bar.draw(buffer, Rect::new(x, area.y, area.right() - x, 1), &app.theme);
    }
}

pub fn level_ink(level: Level) -> Ink {
    match level {
        Level::Info => Ink::Text,
        Level::Warning => Ink::Warning,
        Level::Error => Ink::Error,
    }
}

/// A popup in the middle; answers where its cursor is, if it has one.
fn draw_popup(buffer: &mut Buffer, screen: Rect, popup: &Popup, theme: &Theme) -> Option<Position> {
    let wide = popup_area(screen, usize::MAX);
    let rows = popup.rows(usize::from(inner(wide).width));
    let area = popup_area(screen, rows.len());
    Clear.render(area, buffer);
    buffer.set_style(area, theme.style(Ink::Background).patch(theme.style(Ink::Text)));
    frame_block(buffer, area, Ink::BorderFocus, theme);
    draw_title(buffer, area, &Row::new().say(format!(" {} ", popup.title()), Ink::TitleFocus), theme);
    let inside = inner(area);
    match popup {
        Popup::Help { scroll } => {
            draw_rows(buffer, inside, rows.iter().skip(*scroll), theme);
            let below = rows.len().saturating_sub(scroll + usize::from(inside.height));
            let words = if below > 0 {
                format!(" {below} more: Down · Esc closes ")
            } else {
                " Esc closes ".to_string()
            };
            draw_corner(buffer, area, &Row::new().say(words, Ink::Dim), theme);
            None
        }
        Popup::Correct { input, .. } => {
            draw_rows(buffer, inside, rows.iter(), theme);
            let (column, line) = input.layout(usize::from(inside.width)).cursor;
            let x = inside.x + u16::try_from(column).unwrap_or(0);
            let y = inside.y + u16::try_from(line).unwrap_or(0);
            Some(Position::new(x.min(inside.right()), y.min(inside.bottom().saturating_sub(1))))
        }
    }
}

/// Up to 96 columns, as many rows as asked for, in the middle.
fn popup_area(screen: Rect, rows: usize) -> Rect {
    let width = screen.width.saturating_sub(4).min(96);
    let height =
        u16::try_from(rows.saturating_add(2)).unwrap_or(u16::MAX).min(screen.height.saturating_sub(2));
    Rect::new((screen.width - width) / 2, (screen.height - height) / 2, width, height)
}

fn frame_block(buffer: &mut Buffer, area: Rect, ink: Ink, theme: &Theme) {
    Block::bordered().border_style(theme.style(ink)).merge_borders(MergeStrategy::Exact).render(area, buffer);
}

fn draw_title(buffer: &mut Buffer, area: Rect, title: &Row, theme: &Theme) {
    let room = Rect::new(area.x + 1.min(area.width), area.y, area.width.saturating_sub(2), 1);
    title.draw(buffer, room, theme);
}

/// Words on the right end of the lower border.
fn draw_corner(buffer: &mut Buffer, area: Rect, words: &Row, theme: &Theme) {
    let width = u16::try_from(words.width()).unwrap_or(u16::MAX);
    if width + 2 <= area.width && area.height > 1 {
        let room = Rect::new(area.right() - width - 1, area.bottom() - 1, width, 1);
        words.draw(buffer, room, theme);
    }
}

fn draw_rows<'a>(buffer: &mut Buffer, area: Rect, rows: impl Iterator<Item = &'a Row>, theme: &Theme) {
    for (y, row) in (area.y..area.bottom()).zip(rows) {
        row.draw(buffer, Rect::new(area.x, y, area.width, 1), theme);
    }
}
