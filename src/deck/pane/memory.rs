//! The memory pane: what later turns may see, with a plus at what the selected turn added.

use super::{arguments_line, excerpt};
use crate::deck::live::Live;
use crate::deck::row::{Prose, Row};
use crate::deck::theme::Ink;

/// Characters of an entry that show.
const CALL_CHARS: usize = 120;
const RESULT_CHARS: usize = 240;

pub fn title(live: &Live, turn: usize) -> String {
    match live.turn(turn) {
        Some(found) => format!("memory (turn {}, +{})", found.turn, usize::from(found.memory.is_some())),
        None => "memory".to_string(),
    }
}

pub fn rows(live: &Live, turn: usize, width: usize) -> Vec<Row> {
    let Some(selected) = live.turn(turn).map(|found| found.turn) else { return Vec::new() };
    let mut rows = Vec::new();
    for entry in live.trajectory.memory.entries.iter().filter(|entry| entry.turn <= selected) {
        let added = entry.turn == selected;
        let (sign, text) = if added { ("+", Ink::Text) } else { (" ", Ink::Dim) };
        let lead =
            Row::new().say(format!("{:>2} ", entry.turn), Ink::Dim).say(sign, Ink::Added).say(" ", text);
        let call = excerpt(&arguments_line(&entry.command), CALL_CHARS);
        let mut prose = Prose::of(&entry.tool, Ink::Tool).say(format!(" {call}"), text);
        prose = prose.say(" -> ", if entry.error { Ink::Bad } else { Ink::Good });
        prose = prose.say(excerpt(&entry.result, RESULT_CHARS), text);
        if entry.cut_chars > 0 {
            prose = prose.say(format!(" [{} characters cut]", entry.cut_chars), Ink::Dim);
        }
        rows.extend(prose.wrap(width, &lead, &Row::new().say("     ", Ink::Dim)));
    }
    rows
}
