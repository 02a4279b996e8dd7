//! `tillerman show`: one trajectory, turn by turn, or its events exactly as `ask --json` gave them.

use std::io::{self, Write};

use clap::Args;

use crate::engine::Role;
use crate::flow::trajectory::{Decision, Outcome, Trajectory, Turn};
use crate::store::{Label, Row, Status, short};
use crate::text::safe;

use super::sessions::{open, when, written};
use super::{Global, plain};

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Beginning or end of a trajectory's id
    pub id: String,
    /// One event per line
    #[arg(long)]
    pub json: bool,
}

pub fn run(global: &Global, args: &ShowArgs) -> anyhow::Result<i32> {
    let store = open(global)?;
    let id = store.find(&args.id)?;
    let events = store.trajectory_events(&id)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        for event in &events {
            let line = plain::json(&serde_json::to_string(event)?);
            if let Err(e) = writeln!(out, "{line}") {
                return written(Err(e));
            }
        }
        return written(out.flush());
    }
    let (row, labels) = (store.row(&id)?, store.labels(&id)?);
    written(print(&Trajectory::from_events(&events), &row, &labels, &mut out))
}

fn print(trajectory: &Trajectory, row: &Row, labels: &[Label], out: &mut impl Write) -> io::Result<()> {
    head(trajectory, row, out)?;
    for turn in &trajectory.turns {
        writeln!(out, "\nTurn {}", turn.turn)?;
        print_turn(turn, out)?;
    }
    writeln!(out)?;
    if trajectory.left_out > 0 {
        writeln!(out, "earlier queries left out because they did not fit: {}", trajectory.left_out)?;
    }
    if let Some(limit) = &trajectory.limit {
        writeln!(out, "limit reached: {}", plain::excerpt(limit, 200))?;
    }
    ending(trajectory, row, out)?;
    times(trajectory, out)?;
    if row.redacted > 0 {
        writeln!(out, "redacted  {} secrets were taken out before writing", row.redacted)?;
    }
    for label in labels {
        print_label(label, out)?;
    }
    out.flush()
}

fn head(trajectory: &Trajectory, row: &Row, out: &mut impl Write) -> io::Result<()> {
    field(out, "query", &trajectory.query)?;
    field(out, "id", &format!("{}  (short {})", trajectory.id, short(&trajectory.id)))?;
    field(out, "session", &format!("{}, {} earlier answers", row.session, trajectory.conversation.len()))?;
    field(out, "asked", &when(trajectory.started_ms))?;
    let model = &trajectory.model;
    let hash = model.hash.get(..12).unwrap_or(&model.hash);
    let adapter = trajectory.adapter.as_deref().unwrap_or("none");
    field(out, "model", &format!("{} {} {hash}, adapter {adapter}", model.name, model.file_type))?;
    field(out, "prompts", &format!("{}, seed {}", trajectory.pack, trajectory.seed))?;
    field(out, "tools", &trajectory.tools.join(", "))?;
    match &trajectory.analysis {
        Some(analysis) => field(out, "analysis", &analysis.text),
        None => Ok(()),
    }
}

fn print_turn(turn: &Turn, out: &mut impl Write) -> io::Result<()> {
    if let Some(plan) = &turn.plan {
        let mended = if turn.plan_repaired { "  (mended)" } else { "" };
        field(out, "plan", &format!("{}: {}{mended}", plan.tool, plan.sub_goal))?;
        if !plan.context.trim().is_empty() {
            field(out, "context", &plan.context)?;
        }
    }
    if let Some((text, reason)) = &turn.refused {
        field(out, "refused", reason)?;
        field(out, "reply", text)?;
    }
    if let Some(command) = &turn.command {
        field(out, "command", &format!("{} {}", command.tool, command.arguments))?;
    }
    if let Some(result) = &turn.result {
        field(out, "result", &plain::result_words(result))?;
        if !result.sources.is_empty() {
            field(out, "sources", &result.sources.join("\n"))?;
        }
        let tier = result.tier.as_ref().map_or_else(String::new, |tier| format!(", sandbox tier {tier}"));
        field(out, "", &format!("{:.0} ms{tier}", result.time_ms))?;
    }
    if let Some(verdict) = &turn.verdict {
        let decision = match verdict.decision {
            Decision::Stop => "stop",
            Decision::Continue => "continue",
        };
        field(out, "verdict", &format!("{decision}: {}", verdict.reason))?;
    }
    if let Some(memory) = &turn.memory {
        let text = if memory.cut_chars > 0 {
            format!("{} ({} characters of the result left out)", memory.result, memory.cut_chars)
        } else if turn.refused.is_some() {
            "the reason above".to_string()
        } else {
            "the result above".to_string()
        };
        field(out, "memory", &text)?;
        field(out, "", &format!("{:.1} s in all", memory.time_ms / 1e3))?;
    }
    Ok(())
}

fn ending(trajectory: &Trajectory, row: &Row, out: &mut impl Write) -> io::Result<()> {
    match &trajectory.outcome {
        Outcome::Answered => field(out, "answer", trajectory.answer.as_deref().unwrap_or_default()),
        Outcome::Failed { reason, remedy, .. } => field(out, "failed", &format!("{reason}; {remedy}")),
        Outcome::Cancelled => field(out, "cancelled", ""),
        Outcome::Running if row.status == Status::Running => field(out, "running", "no last event yet"),
        Outcome::Running => field(out, "stopped", "its process ended before the query did; ask again"),
    }
}

/// Seconds and calls, in all and by role.
fn times(trajectory: &Trajectory, out: &mut impl Write) -> io::Result<()> {
    let roles: Vec<String> = Role::ALL
        .into_iter()
        .filter_map(|role| {
            let calls: Vec<_> = trajectory.calls.iter().filter(|call| call.role == role).collect();
            let ms: f64 =
                calls.iter().map(|c| c.completion.timings.prefill_ms + c.completion.timings.decode_ms).sum();
            (!calls.is_empty()).then(|| format!("{} {}x {:.1} s", role.name(), calls.len(), ms / 1e3))
        })
        .collect();
    let text = format!(
        "{} turns, {:.1} s, {} tokens  ({})",
        trajectory.turns.len(),
        trajectory.seconds,
        trajectory.tokens,
        roles.join(", ")
    );
    field(out, "total", &text)
}

fn print_label(label: &Label, out: &mut impl Write) -> io::Result<()> {
    let turn = label.turn.map_or_else(String::new, |turn| format!(" {turn}"));
    let cleared = if label.cleared_ms.is_some() { ", taken back" } else { "" };
    let mut text = format!(
        "{} ({}{turn}, {}, {}{cleared})",
        label.value.name(),
        label.scope.name(),
        label.source.name(),
        when(label.created_ms)
    );
    for (name, given) in [("note", &label.text), ("correction", &label.correction)] {
        if let Some(given) = given {
            text.push_str(&format!("\n{name}: {given}"));
        }
    }
    field(out, "label", &text)
}

/// A name and a safe text; further lines of the text are indented under its first.
fn field(out: &mut impl Write, name: &str, text: &str) -> io::Result<()> {
    let clean = safe(text);
    let mut lines = clean.lines();
    writeln!(out, "{}", format!("{name:<9} {}", lines.next().unwrap_or_default()).trim_end())?;
    for line in lines {
        writeln!(out, "{}", format!("{:<9} {line}", "").trim_end())?;
    }
    Ok(())
}
