//! The lines on top and at the bottom: what runs on what, which keys help now, where in the turns.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr;

use crate::deck::app::App;
use crate::deck::row::Row;
use crate::deck::theme::Ink;

const NAME: &str = " tillerman  ";

/// `tillerman  model · adapter · device 28/28 · ctx 3.1k/8k · 41 tok/s`; what matters least goes first
/// when the line is short.
pub fn draw(buffer: &mut Buffer, area: Rect, app: &App) {
    buffer.set_style(area, app.theme.style(Ink::Status));
    let mut facts = facts(app);
    let line =
        |facts: &[(u8, String)]| facts.iter().map(|(_, fact)| fact.as_str()).collect::<Vec<_>>().join(" · ");
    let room = usize::from(area.width).saturating_sub(NAME.len() + 1);
    while facts.len() > 1 && line(&facts).width() > room {
        let least = facts.iter().enumerate().max_by_key(|(_, (rank, _))| *rank).map_or(0, |(at, _)| at);
        facts.remove(least);
    }
    let row = Row::new().say(NAME, Ink::StatusStrong).say(line(&facts), Ink::Status);
    row.draw(buffer, area, &app.theme);
}

/// (rank, words); a low rank stays longest.
fn facts(app: &App) -> Vec<(u8, String)> {
    let status = &app.status;
    let mut facts = Vec::new();
    if !status.model.is_empty() {
        facts.push((1, status.model.clone()));
    }
    if let Some(busy) = &status.busy {
        facts.push((0, busy.clone()));
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
    let figures = app.chat.followed().map(|(live, _)| live.figures).unwrap_or_default();
    let used = if figures.context_used > 0 { figures.context_used } else { status.context_used };
    if status.context_total > 0 {
        facts.push((2, format!("ctx {}/{}", kilo(used), kilo(status.context_total))));
    }
    let speed = if figures.tokens_per_s > 0.0 { figures.tokens_per_s } else { status.tokens_per_s };
    if speed > 0.0 {
        facts.push((4, format!("{speed:.0} tok/s")));
    }
    facts
}

/// Tokens in units of 1024, as contexts are sized.
fn kilo(count: usize) -> String {
    if count < 1_000 {
        count.to_string()
    } else {
        format!("{:.1}k", count as f64 / 1_024.0).replace(".0k", "k")
    }
}

/// Keys that help in the present state, as many as fit into `room` columns.
pub fn hints(app: &App, room: usize) -> Row {
    let chat = &app.chat;
    let mut hints: Vec<(&str, &str)> = Vec::new();
    let empty = chat.composer.is_empty();
    if chat.is_running() {
        hints.push(("Esc", "cancel"));
    }
    if !empty {
        hints.push(("Enter", if chat.is_running() { "queue" } else { "send" }));
        hints.push(("Ctrl+J", "new line"));
    }
    if empty && chat.answer().is_some() {
        hints.extend([("+", "good"), ("-", "bad"), ("Alt+p", "plan bad")]);
    }
    if chat.followed().is_some_and(|(live, _)| live.trajectory.turns.len() > 1) && empty {
        hints.push(("[ ]", "turn"));
    }
    hints.extend([if empty { ("?", "keys") } else { ("Ctrl+G", "keys") }, ("Tab", "panes")]);
    if empty && !chat.is_running() {
        hints.push(("Ctrl+D", "quit"));
    }
    let mut row = Row::new().say(" ", Ink::Dim);
    if chat.queue_len() > 0 {
        row = row.say(format!("{} queued   ", chat.queue_len()), Ink::Warning);
    }
    for (key, words) in hints {
        if row.width() + key.len() + 1 + words.len() <= room {
            row = row.say(key, Ink::Accent).say(format!(" {words}   "), Ink::Dim);
        }
    }
    row
}

/// `turns |=#-|`: one mark per turn, `#` the selected one.
pub fn turn_bar(app: &App) -> Option<Row> {
    let (live, at) = app.chat.followed()?;
    let count = live.trajectory.turns.len();
    if count == 0 {
        return None;
    }
    let mark = |n: usize| match n.cmp(&at) {
        std::cmp::Ordering::Less => '=',
        std::cmp::Ordering::Equal => '#',
        std::cmp::Ordering::Greater => '-',
    };
    let bar: String = (0..count.min(40)).map(mark).collect();
    Some(Row::new().say("turns |", Ink::Dim).say(bar, Ink::Accent).say("| ", Ink::Dim))
}
