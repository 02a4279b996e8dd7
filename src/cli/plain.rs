//! Events as lines of plain text: the progress of `ask`, of `replay` and of everything without a deck.
//!
//! Called for every event; what is only of interest afterwards (model calls, memory) has no line. All text
//! is made safe here, so callers print lines as they are.

use crate::flow::event::{Body, Event};
use crate::flow::trajectory::Decision;
use crate::text::{safe, visible};
use crate::tools::ToolResult;
use crate::tools::approval::{Answer, By, Consent};

/// Characters of a text that a line shows.
const SHOWN: usize = 160;

/// The line for an event, with the trajectory's clock in front; None where nothing is to be said.
pub fn line(event: &Event) -> Option<String> {
    let (label, text) = words(&event.body)?;
    Some(format!("{} {label:<10} {}", clock(event.t_ms), excerpt(&text, SHOWN)).trim_end().to_string())
}

fn words(body: &Body) -> Option<(String, String)> {
    let at = |name: &str, turn: usize| format!("{name} {turn}");
    Some(match body {
        Body::Started { query, .. } => ("query".into(), query.clone()),
        Body::Analysis { analysis } => ("analysis".into(), analysis.text.clone()),
        Body::Plan { turn, plan, repaired } => {
            let mended = if *repaired { " (mended)" } else { "" };
            (at("plan", *turn), format!("{}: {}{mended}", plan.tool, plan.sub_goal))
        }
        Body::PlanRefused { turn, reason, .. } => (at("refused", *turn), reason.clone()),
        Body::Command { turn, command } => {
            (at("command", *turn), format!("{} {}", command.tool, command.arguments))
        }
        Body::ApprovalAsked { turn, approval } => {
            (at("asks", *turn), format!("{} {}", approval.tool, visible(&approval.arguments.to_string())))
        }
        Body::ApprovalAnswered { turn, answer } => (at("allowed", *turn), answer_words(answer).to_string()),
        Body::ToolResult { turn, result } => (at("result", *turn), result_words(result)),
        Body::Verdict { turn, verdict } => {
            let decision = match verdict.decision {
                Decision::Stop => "stop",
                Decision::Continue => "continue",
            };
            (at("verdict", *turn), format!("{decision}: {}", verdict.reason))
        }
        Body::EarlierLeftOut { count } => {
            let queries = if *count == 1 { "query does" } else { "queries do" };
            ("context".into(), format!("the oldest {count} earlier {queries} not fit and are left out"))
        }
        Body::LimitReached { limit } => ("limit".into(), format!("{limit} reached, answering now")),
        Body::Answered { turns, tokens, .. } => {
            let plural = if *turns == 1 { "" } else { "s" };
            ("answered".into(), format!("after {turns} turn{plural}, {tokens} tokens"))
        }
        Body::Failed { reason, remedy, .. } => ("failed".into(), format!("{reason}; {remedy}")),
        Body::Cancelled { .. } => ("cancelled".into(), String::new()),
        Body::ModelCall(_) | Body::TurnStarted { .. } | Body::Memory { .. } | Body::Unknown(_) => {
            return None;
        }
    })
}

/// `1:20`, from an hour on `1:02:05`.
pub fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// What was said about a call that asked first.
pub fn answer_words(answer: &Answer) -> &'static str {
    match (answer.consent, answer.by) {
        (Consent::Once, By::Person) => "once",
        (Consent::Once, _) => "once: it stays in the sandbox",
        (Consent::Session, By::Earlier) => "yes, as earlier in this session",
        (Consent::Session, _) => "yes, this exact command for the session",
        (Consent::No, By::Person) => "no",
        (Consent::No, _) => "no: nobody to ask",
    }
}

/// A result with its fault in front, if it has one.
pub fn result_words(result: &ToolResult) -> String {
    match result.fault.and_then(|fault| serde_json::to_value(fault).ok()) {
        Some(fault) => format!("{}: {}", fault.as_str().unwrap_or("failed").replace('_', " "), result.text),
        None => result.text.clone(),
    }
}

/// Seconds since the trajectory began, six wide.
pub fn clock(t_ms: f64) -> String {
    format!("{:>6.1}s", t_ms / 1e3)
}

/// A line of `--json`: the same JSON, in which what would not show or would turn a terminal stands as an escape.
pub fn json(line: &impl std::fmt::Display) -> String {
    visible(&line.to_string())
}

/// Safe text on one line of at most `most` characters.
pub fn excerpt(text: &str, most: usize) -> String {
    // Long before cleaning: a megabyte of result need not be cleaned for one line of it.
    let start = &text[..text.floor_char_boundary(most * 16)];
    let clean = safe(start);
    let mut shown = String::new();
    let mut chars = 0;
    for word in clean.split_whitespace() {
        if chars > 0 {
            shown.push(' ');
        }
        shown.push_str(word);
        chars += word.chars().count() + 1;
        if chars > most {
            break;
        }
    }
    if shown.chars().count() > most || start.len() < text.len() {
        shown = shown.chars().take(most.saturating_sub(1)).collect();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::trajectory::{Command, Plan};
    use crate::tools::ToolFault;

    fn check(body: Body, expected: Option<&str>) {
        let event = Event { trajectory: "t".into(), seq: 0, t_ms: 1234.5, body };
        assert_eq!(line(&event).as_deref(), expected);
    }

    #[test]
    fn lines() {
        let plan = Plan { tool: "calculator".into(), sub_goal: "add\nboth".into(), context: String::new() };
        check(
            Body::Plan { turn: 2, plan, repaired: true },
            Some("   1.2s plan 2     calculator: add both (mended)"),
        );
        let command =
            Command { tool: "calculator".into(), arguments: serde_json::json!({"expression": "2+3"}) };
        check(
            Body::Command { turn: 1, command },
            Some("   1.2s command 1  calculator {\"expression\":\"2+3\"}"),
        );
        let result = ToolResult::fault(ToolFault::BadArguments, "\u{1b}]52;c;AAAA\u{7}no \u{202e}digits");
        check(Body::ToolResult { turn: 1, result }, Some("   1.2s result 1   bad arguments: no digits"));
        check(Body::TurnStarted { turn: 1 }, None);
        check(Body::Cancelled { turn: 1 }, Some("   1.2s cancelled"));
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        assert_eq!(excerpt("a b  c", 10), "a b c");
        assert_eq!(excerpt(&"x".repeat(50), 10), format!("{}…", "x".repeat(9)));
        assert_eq!(excerpt(&"é ".repeat(1 << 20), 10).chars().count(), 10);
        assert_eq!(excerpt("exactly 10", 10), "exactly 10");
    }
}
