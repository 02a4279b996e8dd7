//! The one log: everything that happens in a trajectory, in the order it happened.
//!
//! Live view, replay, `--json`, tests and training read these. Folding a trajectory's events gives the
//! trajectory (`trajectory::Trajectory::apply`). An event is recorded before it is shown.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::{Completion, ModelInfo, Request, Role};
use crate::flow::memory::MemoryEntry;
use crate::flow::trajectory::{Command, Limits, Plan, QueryAnalysis, Verdict};
use crate::tools::{Answer, Approval, Taint, ToolResult};

/// One recorded event. `seq` counts from 0 within the trajectory; `t_ms` is since the trajectory began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub trajectory: String,
    pub seq: u64,
    pub t_ms: f64,
    #[serde(flatten)]
    pub body: Body,
}

/// One call of a model by a role: what went in, what came out, how it was sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCall {
    pub role: Role,
    /// 0 for calls outside turns (analyst, generator).
    pub turn: usize,
    pub request: Request,
    pub completion: Completion,
}

/// What happened.
#[expect(clippy::large_enum_variant, reason = "one Started event opens each trajectory; the rest is small")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    /// First event: everything needed to know what was asked of whom.
    Started {
        query: String,
        /// Session this trajectory belongs to, and its earlier (question, answer) pairs.
        session: String,
        conversation: Vec<(String, String)>,
        model: ModelInfo,
        adapter: Option<String>,
        pack: String,
        tools: Vec<String>,
        limits: Limits,
        seed: u64,
        /// Unix time in milliseconds.
        started_ms: i64,
        version: String,
        /// Forked from this trajectory, whose first so many turns it took over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<(String, usize)>,
        /// What the session had met before this query.
        #[serde(default, skip_serializing_if = "Taint::is_clean")]
        taint: Taint,
        /// Tier of the sandbox that model-written code runs in; None: no tool runs any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sandbox: Option<String>,
    },
    ModelCall(Box<ModelCall>),
    Analysis {
        analysis: QueryAnalysis,
    },
    TurnStarted {
        turn: usize,
    },
    /// The planner's reply as understood; `repaired` when text had to be mended to be read.
    Plan {
        turn: usize,
        plan: Plan,
        repaired: bool,
    },
    /// The planner's reply was no plan that can be run; the turn ends with this result.
    PlanRefused {
        turn: usize,
        text: String,
        reason: String,
    },
    Command {
        turn: usize,
        command: Command,
    },
    /// A call that acts outward waits for a word; `approval_answered` follows.
    ApprovalAsked {
        turn: usize,
        approval: Approval,
    },
    ApprovalAnswered {
        turn: usize,
        answer: Answer,
    },
    ToolResult {
        turn: usize,
        result: ToolResult,
    },
    Verdict {
        turn: usize,
        verdict: Verdict,
    },
    /// What the turn added to memory.
    Memory {
        turn: usize,
        entry: MemoryEntry,
    },
    /// The oldest so many earlier queries of the session do not fit the context: this query's prompts go without them.
    EarlierLeftOut {
        count: usize,
    },
    /// A limit ended the loop before a Stop verdict; the generator still answers.
    LimitReached {
        limit: String,
    },
    /// Last event of a finished query.
    Answered {
        answer: String,
        turns: usize,
        seconds: f64,
        tokens: usize,
        stopped_by: String,
    },
    /// Last event of a query that could not finish. Never scored, never trains.
    Failed {
        reason: String,
        remedy: String,
        /// Missing in records of versions before it.
        #[serde(default)]
        cause: Cause,
    },
    Cancelled {
        turn: usize,
    },
    /// Anything a later version may add; kept as read.
    #[serde(untagged)]
    Unknown(Value),
}

/// What kept a query from finishing: programs go by it, people by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The model or the engine refused or erred.
    Engine,
    /// The engine's worker process ended.
    EngineDied,
    /// Too many workers died; for now none is started.
    EngineLeftAlone,
    /// A limit: of turns, time, tokens or the context.
    Limit,
    /// The store could not keep an event.
    Record,
    #[default]
    #[serde(other)]
    Unknown,
}

impl Body {
    /// True for the events after which nothing follows.
    pub fn is_last(&self) -> bool {
        matches!(self, Body::Answered { .. } | Body::Failed { .. } | Body::Cancelled { .. })
    }
}

/// Text that is on its way and not an event yet (the `ModelCall` that follows holds all of it).
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub trajectory: String,
    pub turn: usize,
    pub source: ProgressSource,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressSource {
    Role(Role),
    Tool,
}

/// Where events go. `record` must have kept the event (store, list) when it returns.
pub trait Sink: Send + Sync {
    /// # Errors
    /// The record could not be kept; the query stops with this reason.
    fn record(&self, event: Event) -> Result<(), String>;

    /// Streaming text; may be dropped.
    fn progress(&self, _progress: Progress) {}

    /// This trajectory waits for a training step to end, or goes on.
    fn waits(&self, _trajectory: &str, _waits: bool) {}
}

/// Keeps events in memory: tests, rollouts, exports.
#[derive(Default)]
pub struct Collect(pub std::sync::Mutex<Vec<Event>>);

impl Sink for Collect {
    fn record(&self, event: Event) -> Result<(), String> {
        self.0.lock().map_err(|e| e.to_string())?.push(event);
        Ok(())
    }
}

impl Collect {
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().map(|events| events.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_older_and_later_versions_are_read() {
        let read = |cause: &str| {
            let text = format!(r#"{{"kind":"failed","reason":"r","remedy":"m"{cause}}}"#);
            serde_json::from_str::<Body>(&text).unwrap()
        };
        let failed = |cause| Body::Failed { reason: "r".into(), remedy: "m".into(), cause };
        assert_eq!(read(""), failed(Cause::Unknown));
        assert_eq!(read(r#","cause":"engine_died""#), failed(Cause::EngineDied));
        assert_eq!(read(r#","cause":"of a later version""#), failed(Cause::Unknown));
    }
}
