//! The memory pane: what later turns may see, with a plus at what the selected turn added.

use super::{Room, arguments_line, excerpt, shown, whole_arguments};
use crate::deck::composer::size;
use crate::deck::live::Live;
use crate::deck::row::{Prose, Row};
use crate::deck::theme::Ink;

/// Characters of an entry that show beside the conversation.
const CALL_CHARS: usize = 120;
const RESULT_CHARS: usize = 240;

pub fn title(live: &Live, turn: usize) -> String {
    match live.turn(turn) {
        Some(found) => format!("memory (turn {}, +{})", found.turn, usize::from(found.memory.is_some())),
        None => "memory".to_string(),
    }
}

pub fn rows(live: &Live, turn: usize, width: usize, room: Room) -> Vec<Row> {
    let Some(selected) = live.turn(turn).map(|found| found.turn) else { return Vec::new() };
    let mut rows = Vec::new();
    for entry in live.trajectory.memory.entries.iter().filter(|entry| entry.turn <= selected) {
        let added = entry.turn == selected;
        let (sign, text) = if added { ("+", Ink::Text) } else { (" ", Ink::Dim) };
        let lead =
            Row::new().say(format!("{:>2} ", entry.turn), Ink::Dim).say(sign, Ink::Added).say(" ", text);
        let arrow = if entry.error { Ink::Bad } else { Ink::Good };
        let mut prose = Prose::of(&entry.tool, Ink::Tool);
        if room == Room::Screen {
            let (result, rest) = shown(&entry.result, room);
            prose = prose.say(format!(" {}", whole_arguments(&entry.command)), text);
            prose = prose.say("\n-> ", arrow).say(result, text);
            if rest > 0 {
                prose =
                    prose.say(format!(" [and {} more: the tool calls (2) show it]", size(rest)), Ink::Dim);
            }
            if entry.cut_chars > 0 {
                let words = format!(
                    " [memory cut {} characters: the tool calls (2) of turn {} have them]",
                    entry.cut_chars, entry.turn
                );
                prose = prose.say(words, Ink::Dim);
            }
        } else {
            let line = arguments_line(&entry.command);
            let (call, call_cut) = excerpt(&line, CALL_CHARS);
            let (result, result_cut) = excerpt(&entry.result, RESULT_CHARS);
            prose = prose.say(format!(" {call}"), text).say(" -> ", arrow).say(result, text);
            if entry.cut_chars > 0 {
                prose = prose.say(format!(" [{} characters cut]", entry.cut_chars), Ink::Dim);
            }
            if call_cut || result_cut || line != whole_arguments(&entry.command) {
                prose = prose.say(" [Alt+z]", Ink::Dim);
            }
        }
        rows.extend(prose.wrap(width, &lead, &Row::new().say("     ", Ink::Dim)));
    }
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::deck::demo;
    use crate::flow::memory::MemoryEntry;

    fn entry(command: serde_json::Value, result: &str, cut_chars: usize) -> Live {
        let mut live = Live::default();
        demo::events("t", "a query").iter().for_each(|event| live.apply(event));
        let known = live.trajectory.memory.entries.swap_remove(0);
        let result = result.to_string();
        live.trajectory.memory.entries = vec![MemoryEntry { command, result, cut_chars, ..known }];
        live
    }

    fn text(live: &Live, room: Room) -> String {
        let text: String = rows(live, 0, 60, room).iter().map(|row| row.text() + "\n").collect();
        // Where a line ends is not asked here.
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_whole_screen_shows_all_that_memory_kept() {
        let code = "a = 1\nb = 2\nprint('last line')";
        let result = format!("{}the end of it", "word ".repeat(4_000));
        let live = entry(json!({"code": code}), &result, 70);
        let pane = text(&live, Room::Pane);
        assert!(!pane.contains("last line") && !pane.contains("the end of it"), "{pane}");
        assert!(pane.contains("[Alt+z]") && pane.contains("[70 characters cut]"), "{pane}");
        let whole = text(&live, Room::Screen);
        assert!(whole.contains("last line") && whole.contains("the end of it"), "{whole}");
        assert!(whole.contains("memory cut 70 characters"), "{whole}");
        let short = text(&entry(json!({"q": "Peru"}), "34.0 million", 0), Room::Pane);
        assert!(!short.contains("[Alt+z]"), "{short}");
    }
}
