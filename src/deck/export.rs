//! The conversation as markdown: for a file, for the clipboard. And its parts that can be copied alone.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use pulldown_cmark::{Event, Parser, Tag, TagEnd};

use crate::config::at_home;
use crate::deck::app::Input;
use crate::deck::chat::Chat;
use crate::deck::exchange::Exchange;
use crate::deck::live::Live;
use crate::deck::message::{LabelValue, Level, Scope};
use crate::flow::trajectory::{Outcome, Turn};
use crate::text::one_line;

/// Exports of one conversation that find a name of their own.
const MOST_EXPORTS: usize = 1_000;

/// Every query with its turns and its answer, oldest first.
pub fn conversation(chat: &Chat, session: &str) -> String {
    let mut out = format!("# Tillerman, session {session}\n");
    let exchanges: Vec<&Exchange> = chat.transcript.exchanges().map(|(_, exchange)| exchange).collect();
    for exchange in exchanges.into_iter().rev() {
        // Writing to a string cannot fail.
        let _ = write_exchange(&mut out, exchange);
    }
    out
}

/// Write the conversation to a file that must not exist yet; `own_name`: or to the next free name beside it.
pub fn file(path: &str, own_name: bool, text: &str) -> Input {
    let path = at_home(path);
    let (stem, ending) = (path.with_extension(""), path.extension().unwrap_or_default().to_os_string());
    let later = (2..=MOST_EXPORTS).map(|n| {
        let mut next = stem.clone().into_os_string();
        next.push(format!("-{n}."));
        next.push(&ending);
        PathBuf::from(next)
    });
    let names = std::iter::once(path.clone()).chain(later.filter(|_| own_name));
    let mut last = None;
    for name in names {
        match File::create_new(&name).and_then(|mut file| file.write_all(text.as_bytes())) {
            Ok(()) => {
                // The whole path: nobody need remember where the deck was started.
                let whole = std::path::absolute(&name).unwrap_or(name);
                return Input::Said(Level::Info, format!("written to {}", whole.display()));
            }
            Err(e) => {
                let taken = e.kind() == ErrorKind::AlreadyExists;
                last = Some(e);
                if !taken {
                    break;
                }
            }
        }
    }
    let why = last.map_or_else(String::new, |e| e.to_string());
    let words = format!("{} cannot be written: {why}; /export FILE names another", path.display());
    Input::Said(Level::Warning, words)
}

/// One query with its turns and its answer.
pub fn exchange(exchange: &Exchange) -> String {
    let mut out = String::new();
    let _ = write_exchange(&mut out, exchange);
    out.trim_start().to_string()
}

fn write_exchange(out: &mut String, exchange: &Exchange) -> std::fmt::Result {
    writeln!(out, "\n## {}\n", exchange.query.trim().replace('\n', "\n> "))?;
    let Some(live) = &exchange.live else { return writeln!(out, "(no answer)") };
    let trajectory = &live.trajectory;
    for turn in &trajectory.turns {
        write_turn(out, turn)?;
    }
    match &trajectory.outcome {
        Outcome::Answered => writeln!(out, "{}", trajectory.answer.as_deref().unwrap_or_default().trim())?,
        Outcome::Failed { reason, remedy, .. } => writeln!(out, "failed: {reason}\n\nremedy: {remedy}")?,
        Outcome::Cancelled => writeln!(out, "(cancelled)")?,
        Outcome::Running => writeln!(out, "(still running)")?,
    }
    for (scope, turn, value, _) in &exchange.labels {
        let value = if *value == LabelValue::Good { "good" } else { "bad" };
        match (scope, turn) {
            (Scope::Answer, _) => writeln!(out, "\nlabel: {value} answer")?,
            (Scope::Plan, _) => writeln!(out, "\nlabel: {value} plan")?,
            (Scope::Turn, turn) => writeln!(out, "\nlabel: {value} turn {}", turn.unwrap_or_default())?,
        }
    }
    if let Some(correction) = &exchange.correction {
        writeln!(out, "\nshould be: {correction}")?;
    }
    writeln!(
        out,
        "\n_{} turns, {:.1} s, {} tokens, trajectory {}_",
        trajectory.turns.len(),
        trajectory.seconds,
        trajectory.tokens,
        trajectory.id
    )
}

fn write_turn(out: &mut String, turn: &Turn) -> std::fmt::Result {
    write!(out, "- turn {}", turn.turn)?;
    if let Some(plan) = &turn.plan {
        write!(out, ": {} ({})", one_line(&plan.sub_goal), one_line(&plan.tool))?;
    }
    writeln!(out)?;
    if let Some(command) = &turn.command {
        writeln!(out, "\n{}\n", fenced("json", &command.arguments.to_string()))?;
    }
    if let Some(result) = &turn.result {
        writeln!(out, "{}\n", fenced("text", result.text.trim_end()))?;
    }
    if let Some(verdict) = &turn.verdict {
        writeln!(out, "  verdict: {:?}, {}\n", verdict.decision, one_line(&verdict.reason))?;
    }
    Ok(())
}

/// A code block whose fence is longer than any run of backticks in it.
fn fenced(language: &str, text: &str) -> String {
    let mut longest = 0;
    let mut run = 0;
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(3.max(longest + 1));
    format!("  {fence}{language}\n  {}\n  {fence}", text.replace('\n', "\n  "))
}

/// What can be copied of a query alone: (name, text), the likeliest first.
pub fn parts(live: &Live, turn: usize) -> Vec<(String, String)> {
    let mut parts = Vec::new();
    let trajectory = &live.trajectory;
    if let Some(answer) = &trajectory.answer {
        parts.push(("answer".to_string(), answer.clone()));
        let blocks = code_blocks(answer);
        for (n, block) in blocks.iter().enumerate() {
            let name = if blocks.len() == 1 { "code".to_string() } else { format!("code {}", n + 1) };
            parts.push((name, block.clone()));
        }
    }
    if let Some(turn) = live.turn(turn) {
        if let Some(command) = &turn.command {
            let text = match command.arguments.get("code").and_then(|code| code.as_str()) {
                Some(code) => code.to_string(),
                None => command.arguments.to_string(),
            };
            parts.push((format!("call of turn {}", turn.turn), text));
        }
        if let Some(result) = &turn.result {
            parts.push((format!("result of turn {}", turn.turn), result.text.clone()));
        }
        if let Some(plan) = &turn.plan {
            parts.push((format!("plan of turn {}", turn.turn), plan.sub_goal.clone()));
        }
    }
    parts.push(("query".to_string(), trajectory.query.clone()));
    parts
}

/// The code blocks of a markdown text.
pub fn code_blocks(source: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for event in Parser::new(source) {
        match event {
            Event::Start(Tag::CodeBlock(_)) => open = Some(String::new()),
            Event::Text(text) => {
                if let Some(block) = &mut open {
                    block.push_str(&text);
                }
            }
            Event::End(TagEnd::CodeBlock) => blocks.extend(open.take()),
            _ => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_export_finds_a_name_of_its_own_and_a_named_file_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tillerman-1.md").display().to_string();
        let said = |own_name| match file(&path, own_name, "text") {
            Input::Said(level, words) => (level, words),
            other => panic!("{other:?}"),
        };
        assert!(said(true).1.ends_with("tillerman-1.md"));
        assert!(said(true).1.ends_with("tillerman-1-2.md"));
        assert!(said(true).1.ends_with("tillerman-1-3.md"));
        assert_eq!(said(false).0, Level::Warning);
        let nowhere = format!("{}/none/x.md", folder.path().display());
        assert!(matches!(file(&nowhere, true, ""), Input::Said(Level::Warning, _)));
    }

    #[test]
    fn code_blocks_are_found_whole() {
        assert_eq!(code_blocks("a\n\n```python\nx = 1\n\ny\n```\n\n    z\n"), ["x = 1\n\ny\n", "z\n"]);
        assert!(code_blocks("`inline`").is_empty());
    }

    #[test]
    fn a_fence_cannot_be_closed_from_inside() {
        assert_eq!(fenced("text", "a\n```\nb"), "  ````text\n  a\n  ```\n  b\n  ````");
    }
}
