//! The loop, one page: analyse, then plan, act, verify, remember until Stop or a limit, then answer.
//!
//! Every exit is an event: answered, failed or cancelled. Text a model got wrong is a turn, not an exit.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Role};
use crate::error::EngineError;
use crate::flow::event::{Body, Sink};
use crate::flow::fork::{Prior, take_over};
use crate::flow::memory::{Memory, MemoryEntry, cut};
use crate::flow::prompt::Pack;
use crate::flow::run::{Halt, Run};
use crate::flow::trajectory::{Command, Decision, Limits, Plan, QueryAnalysis, Trajectory, Verdict};
use crate::flow::{analyst, circles, executor, fit, generator, planner, verifier};
use crate::tools::approval::Asked;
use crate::tools::{Approvals, Taint, ToolContext, ToolFault, ToolResult, Toolbox};

/// Everything one pass needs; all of it is handed in.
#[derive(Clone)]
pub struct Flow {
    pub engine: Arc<dyn Engine>,
    pub toolbox: Arc<Toolbox>,
    pub pack: Arc<Pack>,
    pub limits: Limits,
    /// The planner's temperature; None takes the pack's.
    pub planner_temperature: Option<f32>,
    /// Hash of the adapter the planner answers with, for the record.
    pub adapter: Option<String>,
    /// Who decides about calls that act outward in a tainted session.
    pub approvals: Arc<Approvals>,
}

impl Flow {
    /// The flow a person's question runs through: less is left to chance than where plans are drawn to be compared.
    #[must_use]
    pub fn asked(&self) -> Flow {
        let temperature = self.planner_temperature.or(self.pack.settings.asked_temperature);
        Flow { planner_temperature: temperature, ..self.clone() }
    }
}

/// One question, with what went before it in its session.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Trajectory id (uuid v7).
    pub id: String,
    pub session: String,
    pub query: String,
    pub conversation: Vec<(String, String)>,
    pub seed: u64,
    /// Turns taken over from another trajectory; the pass goes on after them.
    pub prior: Option<Prior>,
    /// What the session has met before this query.
    pub taint: Taint,
}

/// Longest query taken, in characters; longer ones are refused with the remedy before anything runs.
pub const QUERY_CHARS_MAX: usize = 100_000;

/// Pass once over one query. The trajectory returned is the fold of exactly the events recorded.
pub async fn solve(flow: &Flow, ask: &Ask, sink: Arc<dyn Sink>, cancel: CancellationToken) -> Trajectory {
    let mut run = Run::new(flow, ask, sink, cancel);
    if let Err(halt) = pass(&mut run).await {
        run.halted(halt);
    }
    run.trajectory
}

async fn pass(run: &mut Run<'_>) -> Result<(), Halt> {
    run.start().await?;
    run.enter().await?;
    let (analysis, mut memory) = match &run.ask.prior {
        Some(prior) => take_over(run, prior)?,
        None => match analyst::analyse(run).await {
            Err(Halt::Limit(limit)) => {
                run.record(Body::LimitReached { limit })?;
                return answer(run, &QueryAnalysis::default(), &Memory::default(), "limit").await;
            }
            analysis => {
                let analysis = analysis?;
                run.record(Body::Analysis { analysis: analysis.clone() })?;
                (analysis, Memory::default())
            }
        },
    };

    let stopped_by = loop {
        let turn = memory.entries.len() + 1;
        if run.flow.limits.turns > 0 && turn > run.flow.limits.turns {
            run.record(Body::LimitReached { limit: format!("turns ({})", run.flow.limits.turns) })?;
            break "limit";
        }
        match take_turn(run, &analysis, &memory, turn).await {
            Ok(entry) => {
                let decision = entry.verdict.decision;
                memory.entries.push(entry.clone());
                run.record(Body::Memory { turn, entry })?;
                if decision == Decision::Stop {
                    break "verdict";
                }
            }
            Err(Halt::Limit(limit)) => {
                run.record(Body::LimitReached { limit })?;
                break "limit";
            }
            Err(halt) => return Err(halt),
        }
    };
    answer(run, &analysis, &memory, stopped_by).await
}

/// Turn t: plan a_t, execute e_t, verify v_t; answers the entry that becomes part of memory.
async fn take_turn(
    run: &mut Run<'_>,
    analysis: &QueryAnalysis,
    memory: &Memory,
    turn: usize,
) -> Result<MemoryEntry, Halt> {
    run.turn = turn;
    run.record(Body::TurnStarted { turn })?;
    let started = std::time::Instant::now();
    let reply = planner::plan(run, analysis, memory).await?;
    let plan = match reply {
        planner::Reply::Plan { plan, repaired } => {
            run.record(Body::Plan { turn, plan: plan.clone(), repaired })?;
            plan
        }
        planner::Reply::Refused { plan, text, reason } => {
            run.record(Body::PlanRefused { turn, text, reason: reason.clone() })?;
            let verdict =
                Verdict { decision: Decision::Continue, reason: "the plan could not be run".to_string() };
            run.record(Body::Verdict { turn, verdict: verdict.clone() })?;
            circles::nothing_new(run)?;
            let command = Command { tool: plan.tool.clone(), arguments: serde_json::Value::Null };
            let result = ToolResult::fault(ToolFault::Unknown, reason);
            return Ok(remember(run, turn, &plan, &command, &result, verdict, started));
        }
    };
    let command = executor::command(run, &plan).await?;
    run.record(Body::Command { turn, command: command.clone() })?;
    circles::nothing_new(run)?;
    let result = act(run, &command).await?;
    run.record(Body::ToolResult { turn, result: result.clone() })?;
    let verdict = verifier::verify(run, memory, &plan, &command, &result).await?;
    run.record(Body::Verdict { turn, verdict: verdict.clone() })?;
    Ok(remember(run, turn, &plan, &command, &result, verdict, started))
}

/// Run the tool under the query's cancel token and deadline; record what was asked of a person meanwhile and
/// the model calls the tool made itself.
async fn act(run: &mut Run<'_>, command: &Command) -> Result<ToolResult, Halt> {
    let (asks, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let context = ToolContext {
        cancel: run.cancel.child_token(),
        on_output: Some(run.tool_output()),
        seed: run.call_seed(Role::Base),
        taint: run.trajectory.taint(),
        asks: Some(asks),
    };
    let toolbox = run.flow.toolbox.clone();
    let call = toolbox.run(&command.tool, &command.arguments, &context);
    tokio::pin!(call);
    let mut result = loop {
        let question = tokio::select! {
            biased;
            result = &mut call => break result,
            question = asked.recv() => question,
            () = run.past_deadline() => {
                context.cancel.cancel();
                // Ends soon, and with everything it started.
                call.await;
                return Err(Halt::Limit(run.time_limit()));
            }
        };
        if let Some(question) = question {
            decide(run, question).await?;
        }
    };
    if run.cancel.is_cancelled() {
        return Err(Halt::Cancelled);
    }
    for (request, completion) in std::mem::take(&mut result.calls) {
        run.record_call(request, completion)?;
    }
    Ok(result)
}

/// Have a call allowed or refused; question and answer are on record before anything comes of them.
async fn decide(run: &mut Run<'_>, (approval, reply): Asked) -> Result<(), Halt> {
    let turn = run.turn;
    run.record(Body::ApprovalAsked { turn, approval: approval.clone() })?;
    let began = std::time::Instant::now();
    // A person may take hours; nothing samples meanwhile.
    run.leave();
    let answer = tokio::select! {
        biased;
        () = run.cancel.cancelled() => return Err(Halt::Cancelled),
        answer = run.flow.approvals.decide(&run.ask.session, &approval) => answer,
    };
    run.excuse(began.elapsed());
    run.record(Body::ApprovalAnswered { turn, answer: answer.clone() })?;
    run.enter().await?;
    // A tool that no longer waits was cancelled, and its result says so.
    let _ = reply.send(answer);
    Ok(())
}

fn remember(
    run: &Run<'_>,
    turn: usize,
    plan: &Plan,
    command: &Command,
    result: &ToolResult,
    verdict: Verdict,
    started: std::time::Instant,
) -> MemoryEntry {
    let (text, cut_chars) = cut(&result.text, run.result_chars());
    MemoryEntry {
        turn,
        sub_goal: plan.sub_goal.clone(),
        tool: plan.tool.clone(),
        command: command.arguments.clone(),
        result: text,
        cut_chars,
        error: result.fault.is_some(),
        verdict,
        time_ms: started.elapsed().as_secs_f64() * 1e3,
    }
}

async fn answer(
    run: &mut Run<'_>,
    analysis: &QueryAnalysis,
    memory: &Memory,
    stopped_by: &str,
) -> Result<(), Halt> {
    run.turn = 0;
    run.grant(Duration::from_secs(60), run.flow.pack.max_tokens(Role::Generator));
    let mut shown = memory.clone();
    let answer = loop {
        match generator::generate(run, analysis, &shown).await {
            Err(Halt::Engine(EngineError::ContextOverflow { .. })) if fit::shorten(&mut shown) => {}
            Err(Halt::Limit(limit)) => {
                let words = format!("no answer within the limit: {limit}");
                return Err(Halt::Engine(EngineError::Other(words)));
            }
            answer => break answer?,
        }
    };
    run.finish(answer, memory.entries.len(), stopped_by)
}
