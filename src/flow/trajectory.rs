//! A trajectory: one pass over one query, as plain data, and the fold that builds it from events.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::ModelInfo;
use crate::flow::event::{Body, Cause, Event, ModelCall};
use crate::flow::memory::{Memory, MemoryEntry};
use crate::tools::{Answer, Approval, Taint, ToolResult};

/// What the query asks for, as the analyst sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryAnalysis {
    pub text: String,
}

/// The planner's action: a_t of the paper.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What from memory the executor needs.
    pub context: String,
    pub sub_goal: String,
    pub tool: String,
}

/// A tool with the arguments the executor chose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Command {
    pub tool: String,
    pub arguments: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Stop,
    Continue,
}

/// The verifier's v_t.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub decision: Decision,
    pub reason: String,
}

/// Where a query ends at the latest. 0 switches a limit off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub turns: usize,
    pub seconds: u64,
    /// Sampled tokens over all roles.
    pub tokens: usize,
    /// Characters of a result that enter memory.
    pub result_chars: usize,
    /// A query that walks in circles ends at this many repetitions of a command, at the first of one that can
    /// only fail again (`flow::circles`). Records made before it was known had no such limit.
    #[serde(default)]
    pub repeats: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { turns: 10, seconds: 300, tokens: 32_768, result_chars: 2_000, repeats: 2 }
    }
}

/// One turn; fields fill up as it goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    pub turn: usize,
    pub plan: Option<Plan>,
    pub plan_repaired: bool,
    /// (text, reason) when the planner's reply was no plan.
    pub refused: Option<(String, String)>,
    pub command: Option<Command>,
    /// Asked before the call ran, and what was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<(Approval, Option<Answer>)>,
    pub result: Option<ToolResult>,
    pub verdict: Option<Verdict>,
    pub memory: Option<MemoryEntry>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    #[default]
    Running,
    Answered,
    Failed {
        reason: String,
        remedy: String,
        #[serde(default)]
        cause: Cause,
    },
    Cancelled,
}

/// One pass over one query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trajectory {
    pub id: String,
    pub session: String,
    pub query: String,
    pub conversation: Vec<(String, String)>,
    pub model: ModelInfo,
    pub adapter: Option<String>,
    pub pack: String,
    pub tools: Vec<String>,
    pub seed: u64,
    pub started_ms: i64,
    /// The trajectory it was forked from and how many turns it took over from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<(String, usize)>,
    /// What its session had met before it.
    #[serde(default, skip_serializing_if = "Taint::is_clean")]
    pub inherited: Taint,
    /// Tier of the sandbox that model-written code ran in, where any could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    pub analysis: Option<QueryAnalysis>,
    pub turns: Vec<Turn>,
    pub memory: Memory,
    pub calls: Vec<ModelCall>,
    pub limit: Option<String>,
    /// Earlier queries that its prompts left out because they did not fit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
    pub answer: Option<String>,
    pub outcome: Outcome,
    pub seconds: f64,
    pub tokens: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Trajectory {
    pub fn from_events<'a>(events: impl IntoIterator<Item = &'a Event>) -> Trajectory {
        let mut trajectory = Trajectory::default();
        for event in events {
            trajectory.apply(event);
        }
        trajectory
    }

    /// Fold one event in. Total: unknown or misplaced events change nothing they should not.
    pub fn apply(&mut self, event: &Event) {
        self.id.clone_from(&event.trajectory);
        self.seconds = event.t_ms / 1e3;
        match &event.body {
            Body::Started {
                query,
                session,
                conversation,
                model,
                adapter,
                pack,
                tools,
                seed,
                started_ms,
                parent,
                taint,
                sandbox,
                ..
            } => {
                self.query.clone_from(query);
                self.session.clone_from(session);
                self.conversation.clone_from(conversation);
                self.model = model.clone();
                self.adapter.clone_from(adapter);
                self.pack.clone_from(pack);
                self.tools.clone_from(tools);
                self.seed = *seed;
                self.started_ms = *started_ms;
                self.parent.clone_from(parent);
                self.inherited = *taint;
                self.sandbox.clone_from(sandbox);
            }
            Body::ModelCall(call) => {
                self.tokens += call.completion.sampled();
                self.calls.push((**call).clone());
            }
            Body::Analysis { analysis } => self.analysis = Some(analysis.clone()),
            Body::TurnStarted { turn } => {
                self.turns.push(Turn { turn: *turn, ..Turn::default() });
            }
            Body::Plan { turn, plan, repaired } => self.at(*turn, |t| {
                t.plan = Some(plan.clone());
                t.plan_repaired = *repaired;
            }),
            Body::PlanRefused { turn, text, reason } => {
                self.at(*turn, |t| t.refused = Some((text.clone(), reason.clone())));
            }
            Body::Command { turn, command } => self.at(*turn, |t| t.command = Some(command.clone())),
            Body::ApprovalAsked { turn, approval } => {
                self.at(*turn, |t| t.approval = Some((approval.clone(), None)));
            }
            Body::ApprovalAnswered { turn, answer } => self.at(*turn, |t| {
                t.approval = t.approval.take().map(|(approval, _)| (approval, Some(answer.clone())));
            }),
            Body::ToolResult { turn, result } => self.at(*turn, |t| t.result = Some(result.clone())),
            Body::Verdict { turn, verdict } => self.at(*turn, |t| t.verdict = Some(verdict.clone())),
            Body::Memory { turn, entry } => {
                self.memory.entries.push(entry.clone());
                self.at(*turn, |t| t.memory = Some(entry.clone()));
            }
            Body::EarlierLeftOut { count } => self.left_out = *count,
            Body::LimitReached { limit } => self.limit = Some(limit.clone()),
            Body::Answered { answer, .. } => {
                self.answer = Some(answer.clone());
                self.outcome = Outcome::Answered;
            }
            Body::Failed { reason, remedy, cause } => {
                let (reason, remedy) = (reason.clone(), remedy.clone());
                self.outcome = Outcome::Failed { reason, remedy, cause: *cause };
            }
            Body::Cancelled { .. } => self.outcome = Outcome::Cancelled,
            Body::Unknown(_) => {}
        }
    }

    /// What the session has met by now: a fold of recorded events, so that replaying, resuming and forking
    /// give the same.
    pub fn taint(&self) -> Taint {
        let results = self.turns.iter().filter_map(|turn| turn.result.as_ref());
        results.fold(self.inherited, |taint, result| taint.after(result.effects))
    }

    fn at(&mut self, turn: usize, change: impl FnOnce(&mut Turn)) {
        if let Some(found) = self.turns.iter_mut().rev().find(|t| t.turn == turn) {
            change(found);
        }
    }
}
