//! The lines on top and at the bottom: what runs on what, which keys help now, where in the turns.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::deck::app::App;
use crate::deck::row::Row;
use crate::deck::theme::Ink;

/// `tillerman  model · adapter · device 28/28 · ctx 3.1k/8k · 41 tok/s          turn 2 of 3`
pub fn draw(buffer: &mut Buffer, area: Rect, app: &App) {
    buffer.set_style(area, app.theme.style(Ink::Status));
    let mut row = Row::new().say(" tillerman  ", Ink::StatusStrong);
    row = row.say(facts(app).join(" · "), Ink::Status);
    row.draw(buffer, area, &app.theme);
}

fn facts(app: &App) -> Vec<String> {
    let status = &app.status;
    let mut facts = Vec::new();
    if !status.model.is_empty() {
        facts.push(status.model.clone());
    }
    if let Some(busy) = &status.busy {
        facts.push(busy.clone());
    }
    if let Some(adapter) = &status.adapter {
        facts.push(format!("adapter {adapter}"));
    }
    if !status.devices.is_empty() {
        let mut devices = status.devices.join("+").to_lowercase();
        if status.layers_offloaded > 0 {
            devices = format!("{devices} {}/{}", status.layers_offloaded, status.layers);
        }
        facts.push(devices);
    }
    let figures = app.chat.followed().map(|(live, _)| live.figures).unwrap_or_default();
    let used = if figures.context_used > 0 { figures.context_used } else { status.context_used };
    if status.context_total > 0 {
        facts.push(format!("ctx {}/{}", thousands(used), thousands(status.context_total)));
    }
    let speed = if figures.tokens_per_s > 0.0 { figures.tokens_per_s } else { status.tokens_per_s };
    if speed > 0.0 {
        facts.push(format!("{speed:.0} tok/s"));
    }
    facts
}

fn thousands(count: usize) -> String {
    if count < 1_000 { count.to_string() } else { format!("{:.1}k", count as f64 / 1e3).replace(".0k", "k") }
}

/// Keys that help in the present state.
pub fn hints(app: &App) -> Row {
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
    hints.extend([("Tab", "panes"), if empty { ("?", "keys") } else { ("Ctrl+G", "keys") }]);
    if empty && !chat.is_running() {
        hints.push(("Ctrl+D", "quit"));
    }
    let mut row = Row::new().say(" ", Ink::Dim);
    for (key, words) in hints {
        row = row.say(key, Ink::Accent).say(format!(" {words}   "), Ink::Dim);
    }
    match chat.queue_len() {
        0 => row,
        waiting => row.say(format!("{waiting} queued"), Ink::Warning),
    }
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
