//! The four panes beside the conversation. Each turns the selected turn into rows, and nothing else.
//!
//! Siblings have one shape: `title` where it varies, then the rows from (live, turn position, width, room). A
//! pane shows the start of long texts and says how much it left out; on the whole screen everything shows.

pub mod memory;
pub mod plan;
pub mod tools;
pub mod verdicts;

use serde_json::Value;

use crate::deck::composer::size;
use crate::deck::live::Live;
use crate::deck::row::{Prose, Row};
use crate::deck::theme::Ink;
use crate::text::one_line;

/// Bytes of one text a pane shows, and where it has the whole screen: all of what is kept, unless it is a flood. It is
/// wrapped with every frame: so much takes two milliseconds, four times as much the whole frame.
const SHOWN_BYTES: usize = 8_192;
const WHOLE_BYTES: usize = 1 << 18;

/// How much of long texts shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Beside the conversation: their start.
    Pane,
    /// Over the whole screen: everything, to be scrolled through.
    Screen,
}

impl Room {
    fn bytes(self) -> usize {
        if self == Room::Pane { SHOWN_BYTES } else { WHOLE_BYTES }
    }

    /// Where what was left out can be read.
    fn rest(self) -> &'static str {
        if self == Room::Pane { "Alt+z shows it" } else { "Alt+o copies it" }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    Plan,
    Tools,
    Verdicts,
    Memory,
}

impl Pane {
    /// In the order of their keys.
    pub const ALL: [Pane; 4] = [Pane::Plan, Pane::Tools, Pane::Verdicts, Pane::Memory];

    pub fn name(self) -> &'static str {
        match self {
            Pane::Plan => "plan",
            Pane::Tools => "tool calls",
            Pane::Verdicts => "verdicts",
            Pane::Memory => "memory",
        }
    }

    pub fn title(self, live: &Live, turn: usize) -> String {
        match self {
            Pane::Plan => plan::title(live, turn),
            Pane::Memory => memory::title(live, turn),
            Pane::Tools | Pane::Verdicts => self.name().to_string(),
        }
    }

    pub fn page(self, live: &Live, turn: usize, width: usize, room: Room) -> Page {
        match self {
            Pane::Plan => plan::page(live, turn, width, room),
            Pane::Tools => tools::page(live, turn, width, room),
            Pane::Verdicts => Page { rows: verdicts::rows(live, turn, width, room), keep: Keep::End },
            Pane::Memory => Page { rows: memory::rows(live, turn, width, room), keep: Keep::End },
        }
    }

    /// What the pane is for, while there is nothing to show in it.
    pub fn introduction(self, width: usize) -> Page {
        let words = match self {
            Pane::Plan => {
                "what the planner, the one role that is trained, chooses to do next: a sub-goal, a tool, \
                           and what of memory the tool needs"
            }
            Pane::Tools => "the call the executor writes for that plan, and what came back",
            Pane::Verdicts => "after each turn the verifier says whether to continue or to stop, and why",
            Pane::Memory => "what later turns may see; + marks what the selected turn added",
        };
        Page { rows: prose(words, Ink::Dim, width, Room::Pane), keep: Keep::Start }
    }
}

/// A pane's rows, and which of them stay when there is no room for all.
pub struct Page {
    pub rows: Vec<Row>,
    pub keep: Keep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Start,
    End,
    /// A call and, from this row on, its result: half the room for each, what one leaves to the other.
    CallAndResult(usize),
}

impl Page {
    /// The rows that show in `height` rows.
    pub fn fit(self, height: usize) -> Vec<Row> {
        let Page { mut rows, keep } = self;
        let over = rows.len().saturating_sub(height);
        if over == 0 {
            return rows;
        }
        match keep {
            Keep::Start => rows.truncate(height),
            Keep::End => drop(rows.drain(..over)),
            Keep::CallAndResult(at) => {
                let result = (rows.len() - at).min((height / 2).max(height.saturating_sub(at)));
                let call = height - result;
                rows.drain(call..at);
                rows.truncate(height);
            }
        }
        rows
    }
}

/// `label     text`, the text wrapped beside its label.
fn field(label: &str, text: &str, ink: Ink, width: usize, room: Room) -> Vec<Row> {
    let first = Row::new().say(format!("{label:<9} "), Ink::Dim);
    let (text, rest) = shown(text, room);
    let margin = Row::new().say(" ".repeat(10), Ink::Dim);
    let mut rows = Prose::of(text, ink).wrap(width, &first, &margin);
    rows.extend(left_out(rest, width, &margin, room));
    rows
}

fn prose(text: &str, ink: Ink, width: usize, room: Room) -> Vec<Row> {
    let (text, rest) = shown(text, room);
    let mut rows = Prose::of(text, ink).wrap(width, &Row::new(), &Row::new());
    rows.extend(left_out(rest, width, &Row::new(), room));
    rows
}

/// `[and 3.2 KiB more: Alt+z shows it]`, where something was left out.
fn left_out(rest: usize, width: usize, margin: &Row, room: Room) -> Vec<Row> {
    if rest == 0 {
        return Vec::new();
    }
    let words = format!("[and {} more: {}]", size(rest), room.rest());
    Prose::of(words, Ink::Dim).wrap(width, margin, margin)
}

/// The start of a text, and how many bytes are left out.
fn shown(text: &str, room: Room) -> (&str, usize) {
    if text.len() <= room.bytes() {
        return (text, 0);
    }
    let end = text.floor_char_boundary(room.bytes());
    (&text[..end], text.len() - end)
}

/// The end of a text under way: what is being written now.
fn tail(text: &str) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(SHOWN_BYTES))..]
}

/// Arguments on one line: the value alone when there is one, else `name value, name value`.
fn arguments_line(arguments: &Value) -> String {
    // A program shows as its first line.
    named_values(arguments, |text| match text.split_once('\n') {
        Some((first, _)) => format!("{first} .."),
        None => text.to_string(),
    })
}

/// The same with every value whole, over as many lines as it has.
pub(super) fn whole_arguments(arguments: &Value) -> String {
    named_values(arguments, str::to_string)
}

fn named_values(arguments: &Value, text: impl Fn(&str) -> String) -> String {
    let plain = |value: &Value| match value.as_str().map(str::trim_end) {
        Some(value) => text(value),
        None => value.to_string(),
    };
    match arguments {
        Value::Object(map) if map.len() == 1 => map.values().map(plain).collect(),
        Value::Object(map) => {
            map.iter().map(|(k, v)| format!("{k} {}", plain(v))).collect::<Vec<_>>().join(", ")
        }
        other => plain(other),
    }
}

/// A text on one line of at most `chars` characters, and whether that is not all of it.
fn excerpt(text: &str, chars: usize) -> (String, bool) {
    let (start, rest) = shown(text, Room::Pane);
    let flat = one_line(start);
    match flat.char_indices().nth(chars) {
        Some((at, _)) => (format!("{} ..", &flat[..at]), true),
        None => (flat, rest > 0),
    }
}
