//! The lines on top and at the bottom: what runs on what, which keys help now, where in the turns.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr;

use crate::deck::app::App;
use crate::deck::command::Action;
use crate::deck::fit::fitted;
use crate::deck::row::Row;
use crate::deck::tab::TabName;
use crate::deck::theme::Ink;

const NAME: &str = " tillerman  ";
/// Columns of the screen from which the context has a gauge, and its marks.
const GAUGE_FROM: u16 = 140;
const GAUGE: usize = 10;
/// Columns of the screen from which hints stand three columns apart.
const AIRY_FROM: u16 = 100;

/// `tillerman  model · adapter · device 28/28 · ctx 3.1k/8k · 41 tok/s        F1 chat 2 replay ..`; what matters
/// least goes first when the line is short.
pub fn draw(buffer: &mut Buffer, area: Rect, app: &App) {
    let theme = &app.look.theme;
    buffer.set_style(area, theme.style(Ink::Status));
    let mut facts = facts(app, area.width >= GAUGE_FROM);
    let line =
        |facts: &[(u8, String)]| facts.iter().map(|(_, fact)| fact.as_str()).collect::<Vec<_>>().join(" · ");
    let width = usize::from(area.width);
    let facts_width = line(&facts).width();
    let mut tabs = tabs(app, Tabs::Words);
    if NAME.len() + facts_width + 2 + tabs.width() > width {
        tabs = self::tabs(app, Tabs::Keys);
    }
    if NAME.len() + NAME.len() + tabs.width() > width {
        tabs = self::tabs(app, Tabs::Shown);
    }
    let room = width.saturating_sub(NAME.len() + 2 + tabs.width());
    while facts.len() > 1 && line(&facts).width() > room {
        let least = facts.iter().enumerate().max_by_key(|(_, (rank, _))| *rank).map_or(0, |(at, _)| at);
        facts.remove(least);
    }
    let row = Row::new().say(NAME, Ink::StatusStrong).say(fitted(&line(&facts), room), Ink::Status);
    row.draw(buffer, area, theme);
    if row.width() + tabs.width() < width {
        let x = area.right() - u16::try_from(tabs.width()).unwrap_or(0);
        tabs.draw(buffer, Rect::new(x, area.y, area.right() - x, 1), theme);
    }
}

/// How much of the tabs has room.
#[derive(Clone, Copy, PartialEq)]
enum Tabs {
    /// All by name.
    Words,
    /// The one that shows by name, the others are keys.
    Keys,
    /// The one that shows.
    Shown,
}

/// `F1 chat  F2 replay ..`, the one that shows marked.
fn tabs(app: &App, room: Tabs) -> Row {
    let mut row = Row::new();
    for name in TabName::ALL {
        let shown = name == app.tabs.shown;
        if !shown && room == Tabs::Shown {
            continue;
        }
        let key = app.look.keymap.key_of(&[], Action::Tab(name)).unwrap_or_default();
        let words = if shown || room == Tabs::Words {
            format!(" {key} {} ", name.words())
        } else {
            format!(" {key}")
        };
        row = row.say(words, if shown { Ink::TitleFocus } else { Ink::Status });
    }
    row.say(" ", Ink::Status)
}

/// (rank, words); a low rank stays longest.
fn facts(app: &App, gauge: bool) -> Vec<(u8, String)> {
    let status = &app.status;
    let mut facts = Vec::new();
    if !status.model.is_empty() {
        facts.push((1, status.model.clone()));
    }
    if let Some(busy) = &status.busy {
        facts.push((0, busy.clone()));
    }
    if app.tabs.chat.full {
        facts.insert(0, (0, "DISK FULL".to_string()));
    }
    if let Some(adapter) = &status.adapter {
        facts.push((3, format!("adapter {adapter}")));
    }
    if !status.devices.is_empty() {
        let mut devices = status.devices.join("+").to_lowercase();
        if status.layers_offloaded > 0 {
            devices = format!("{devices} {}/{}", status.layers_offloaded, status.layers);
        }
        facts.push((5, devices));
    }
    let figures = app.tabs.chat.followed().map(|(live, _)| live.figures).unwrap_or_default();
    let used = if figures.context_used > 0 { figures.context_used } else { status.context_used };
    if status.context_total > 0 {
        let bar = if gauge { self::gauge(used, status.context_total) } else { String::new() };
        facts.push((2, format!("ctx {}/{}{bar}", kilo(used), kilo(status.context_total))));
    }
    let speed = if figures.tokens_per_s > 0.0 { figures.tokens_per_s } else { status.tokens_per_s };
    if speed > 0.0 {
        facts.push((4, format!("{speed:.0} tok/s")));
    }
    facts
}

/// ` [###-------]`: how much of the context is used; one mark as soon as anything is.
fn gauge(used: usize, total: usize) -> String {
    let marks = (used * GAUGE).div_ceil(total.max(1)).min(GAUGE);
    format!(" [{}{}]", "#".repeat(marks), "-".repeat(GAUGE - marks))
}

/// Tokens in units of 1024, as contexts are sized.
fn kilo(count: usize) -> String {
    if count < 1_000 {
        count.to_string()
    } else {
        format!("{:.1}k", count as f64 / 1_024.0).replace(".0k", "k")
    }
}

/// Keys that help in the present state, as many as fit into `room` columns; on a narrow screen they stand closer.
pub fn hints(app: &App, room: usize) -> Row {
    let gap = if app.size.0 < AIRY_FROM { 2 } else { 3 };
    let tab = app.tabs.current();
    let places = tab.places();
    let mut row = Row::new().say(" ", Ink::Dim);
    if app.tabs.chat.queue_len() > 0 {
        row = row.say(format!("{} queued   ", app.tabs.chat.queue_len()), Ink::Warning);
    }
    let hints = hints_of(app);
    // The way to all the other keys is never what has no room.
    let mut kept = hints.iter().find(|(action, _)| *action == Action::Help).map_or(0, |(action, words)| {
        app.look.keymap.key_of(&places, *action).map_or(0, |key| key.len() + 1 + words.len() + gap)
    });
    // Keys that share a word stand or fall together: without words a key shares those of the next.
    let mut whole = Row::new();
    for (action, words) in hints {
        if let Some(key) = app.look.keymap.key_of(&places, action) {
            whole = whole.say(key, Ink::Accent).say(" ", Ink::Dim);
        }
        if words.is_empty() || whole.width() == 0 {
            continue;
        }
        if action == Action::Help {
            kept = 0;
        }
        let keys = std::mem::take(&mut whole).say(words, Ink::Dim);
        if row.width() + keys.width() + kept <= room {
            row = row.join(keys).say(" ".repeat(gap), Ink::Dim);
        }
    }
    row
}

/// The tab's own hints; elsewhere than in the chat also the way back.
fn hints_of(app: &App) -> Vec<(Action, &'static str)> {
    let mut hints = app.tabs.current().hints();
    if app.tabs.shown != TabName::Chat {
        hints.extend([(Action::Help, "keys"), (Action::Tab(TabName::Chat), "chat")]);
    }
    hints
}
