//! Forking: a pass that takes the first turns over from another trajectory and goes on from there.
//!
//! The new trajectory names its parent and how many turns it took over. It records them as its own turns,
//! so that folding its events gives all of it; the parent's model calls stay the parent's, so nothing that
//! was sampled once is on record twice. The parent itself is not touched.

use crate::flow::event::Body;
use crate::flow::memory::Memory;
use crate::flow::run::{Halt, Run};
use crate::flow::trajectory::{QueryAnalysis, Trajectory, Turn};
use crate::tools::Taint;

/// What a forked pass begins with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prior {
    /// Id of the trajectory it was forked from.
    pub parent: String,
    pub analysis: QueryAnalysis,
    /// What the parent's session had met before it; what the turns met comes with them.
    pub inherited: Taint,
    /// Finished turns, each with its memory entry.
    pub turns: Vec<Turn>,
}

impl Prior {
    /// The first `turns` turns of `parent`; fewer where the parent has no more that are finished.
    pub fn of(parent: &Trajectory, turns: usize) -> Prior {
        let finished = parent.turns.iter().take_while(|turn| turn.memory.is_some());
        Prior {
            parent: parent.id.clone(),
            analysis: parent.analysis.clone().unwrap_or_default(),
            inherited: parent.inherited,
            turns: finished.take(turns).cloned().collect(),
        }
    }
}

/// Record what is taken over; answers the analysis and the memory the next turn begins with.
pub fn take_over(run: &mut Run<'_>, prior: &Prior) -> Result<(QueryAnalysis, Memory), Halt> {
    let mut memory = Memory::default();
    run.record(Body::Analysis { analysis: prior.analysis.clone() })?;
    for (n, old) in prior.turns.iter().enumerate() {
        let turn = n + 1;
        run.record(Body::TurnStarted { turn })?;
        if let Some((text, reason)) = old.refused.clone() {
            run.record(Body::PlanRefused { turn, text, reason })?;
        }
        if let Some(plan) = old.plan.clone() {
            run.record(Body::Plan { turn, plan, repaired: old.plan_repaired })?;
        }
        if let Some(command) = old.command.clone() {
            run.record(Body::Command { turn, command })?;
        }
        if let Some((approval, answer)) = old.approval.clone() {
            run.record(Body::ApprovalAsked { turn, approval })?;
            if let Some(answer) = answer {
                run.record(Body::ApprovalAnswered { turn, answer })?;
            }
        }
        if let Some(result) = old.result.clone() {
            run.record(Body::ToolResult { turn, result })?;
        }
        if let Some(verdict) = old.verdict.clone() {
            run.record(Body::Verdict { turn, verdict })?;
        }
        if let Some(entry) = old.memory.clone() {
            memory.entries.push(entry.clone());
            run.record(Body::Memory { turn, entry })?;
        }
    }
    Ok((prior.analysis.clone(), memory))
}
