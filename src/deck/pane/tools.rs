//! The tool pane: the call of this turn, its arguments (code with line numbers) and its result.

use serde_json::Value;

use super::{Keep, Page, Room, field, left_out, prose, shown, tail};
use crate::deck::highlight;
use crate::deck::live::Live;
use crate::deck::row::{Prose, Row};
use crate::deck::theme::Ink;
use crate::engine::Role;
use crate::flow::event::ProgressSource;
use crate::flow::trajectory::{Outcome, Turn};
use crate::tools::approval::By;
use crate::tools::{Answer, Consent, ToolFault, ToolResult};

pub fn page(live: &Live, turn: usize, width: usize, room: Room) -> Page {
    let mut rows = Vec::new();
    let Some(found) = live.turn(turn) else { return Page { rows, keep: Keep::Start } };
    match &found.command {
        Some(command) => {
            rows.push(header(live, found, &command.tool));
            rows.extend(arguments(&command.arguments, width, room));
            rows.extend(found.approval.as_ref().map(|(_, answer)| asked(answer.as_ref())));
        }
        None => {
            if let Some(text) = live.stream(ProgressSource::Role(Role::Executor), found.turn) {
                rows.extend(prose(tail(text), Ink::Dim, width, room));
            }
        }
    }
    let call_rows = rows.len();
    match &found.result {
        Some(result) => rows.extend(outcome(result, width, room)),
        None => {
            let base = live.stream(ProgressSource::Role(Role::Base), found.turn);
            for text in [live.stream(ProgressSource::Tool, found.turn), base].into_iter().flatten() {
                rows.extend(prose(tail(text), Ink::Dim, width, room));
            }
        }
    }
    let keep = if found.command.is_some() { Keep::CallAndResult(call_rows) } else { Keep::End };
    Page { rows, keep }
}

/// `python  exit 0  0.4 s  sandbox A`
fn header(live: &Live, turn: &Turn, tool: &str) -> Row {
    let mut row = Row::new().say(tool, Ink::Tool);
    let Some(result) = &turn.result else {
        // A limit may end the query before the call, a cancel or a death during it.
        let runs = live.trajectory.outcome == Outcome::Running;
        return row.say(if runs { "  runs" } else { "  gave no result" }, Ink::Dim);
    };
    if let Some(exit) = result.exit {
        row = row.say(format!("  exit {exit}"), if exit == 0 { Ink::Dim } else { Ink::Bad });
    }
    row = row.say(format!("  {}", duration(result.time_ms)), Ink::Dim);
    match &result.tier {
        Some(tier) => row.say(format!("  sandbox {tier}"), Ink::Dim),
        None => row,
    }
}

/// What a person said before it ran.
fn asked(answer: Option<&Answer>) -> Row {
    let (words, ink) = match answer.map(|answer| (answer.consent, answer.by)) {
        None => ("asked: waits for your word", Ink::Warning),
        Some((Consent::Once, By::Person)) => ("asked: allowed once", Ink::Dim),
        Some((Consent::Once, _)) => ("allowed: it stays in the sandbox", Ink::Dim),
        Some((Consent::Session, By::Earlier)) => ("allowed earlier in this session", Ink::Dim),
        Some((Consent::Session, _)) => ("asked: allowed for the session", Ink::Dim),
        Some((Consent::No, By::Person)) => ("asked: refused", Ink::Warning),
        Some((Consent::No, _)) => ("refused: nobody to ask", Ink::Warning),
    };
    Row::new().say(words, ink)
}

fn duration(ms: f64) -> String {
    if ms >= 100.0 { format!("{:.1} s", ms / 1e3) } else { format!("{ms:.1} ms") }
}

/// Code with line numbers, everything else as `name  value`.
fn arguments(arguments: &Value, width: usize, room: Room) -> Vec<Row> {
    let Value::Object(map) = arguments else { return prose(&arguments.to_string(), Ink::Code, width, room) };
    let mut rows = Vec::new();
    for (name, value) in map {
        match value.as_str() {
            Some(code) if name == "code" => rows.extend(numbered(code, width, room)),
            Some(text) => rows.extend(field(name, text, Ink::Code, width, room)),
            None => rows.extend(field(name, &value.to_string(), Ink::Code, width, room)),
        }
    }
    rows
}

fn numbered(code: &str, width: usize, room: Room) -> Vec<Row> {
    let mut rows = Vec::new();
    let (code, rest) = shown(code, room);
    for (n, line) in highlight::lines(code, "python").into_iter().enumerate() {
        let first = Row::new().say(format!("{:>3} ", n + 1), Ink::Dim);
        rows.extend(line.wrap(width, &first, &Row::new().say("    ", Ink::Dim)));
    }
    rows.extend(left_out(rest, width, &Row::new().say("    ", Ink::Dim), room));
    rows
}

fn outcome(result: &ToolResult, width: usize, room: Room) -> Vec<Row> {
    let (ink, words) = match result.fault {
        Some(fault) => (Ink::Bad, format!("{}: ", fault_words(fault))),
        None => (Ink::Good, String::new()),
    };
    let text = if result.text.trim().is_empty() { "(nothing)" } else { result.text.trim_end() };
    let (text, rest) = shown(text, room);
    let (first, next) = (Row::new().say("-> ", ink), Row::new().say("   ", ink));
    let language = if result.fault.is_none() { highlight::guess(text) } else { "" };
    let mut rows = if language.is_empty() {
        Prose::of(words, ink).say(text, Ink::Text).wrap(width, &first, &next)
    } else {
        let lines = highlight::lines(text, language);
        let lead = |n| if n == 0 { &first } else { &next };
        lines.iter().enumerate().flat_map(|(n, line)| line.wrap(width, lead(n), &next)).collect()
    };
    rows.extend(left_out(rest, width, &next, room));
    for source in &result.sources {
        rows.extend(field("source", source, Ink::Dim, width, room));
    }
    rows
}

fn fault_words(fault: ToolFault) -> &'static str {
    match fault {
        ToolFault::BadArguments => "arguments refused",
        ToolFault::Failed => "failed",
        ToolFault::Limit => "stopped by a limit",
        ToolFault::Unknown => "no such tool",
        ToolFault::Cancelled => "cancelled",
        ToolFault::Refused => "not allowed",
    }
}
