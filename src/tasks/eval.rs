//! Questions through the true loop, scored by their checkers: what `tillerman eval` and the gate both ask for.
//!
//! A pass that failed is a wrong answer and also counted as failed; a cancelled one is no answer at all and
//! leaves no row. What the rows say together is `figures`' business. It prints and keeps nothing.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::flow::event::{Event, Sink};
use crate::flow::solve::{Ask, Flow, solve};
use crate::flow::trajectory::{Decision, Outcome, Trajectory};
use crate::tasks::question::Question;
use crate::tools::Taint;
use crate::tools::ToolFault;
use crate::tools::Toolbox;

/// One question with the seed its pass samples with.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub question: Question,
    pub seed: u64,
}

/// The questions of a file with the seeds that belong to their places, so that two adapters asked the same
/// file meet the same chance.
pub fn seeded(questions: impl IntoIterator<Item = impl Into<Question>>, seed: u64) -> Vec<Asked> {
    let questions = questions.into_iter().map(Into::into).enumerate();
    questions.map(|(index, question)| Asked { question, seed: index as u64 ^ (seed << 20) }).collect()
}

/// How questions are asked.
#[derive(Clone)]
pub struct How {
    /// Questions answered together.
    pub parallel: usize,
    /// Session the trajectories belong to; may be empty where the sink keeps nothing.
    pub session: String,
    /// Where their events go.
    pub sink: Arc<dyn Sink>,
    /// By id: the tools of the questions that have their own, such as those with a file attached.
    pub toolboxes: Arc<HashMap<String, Arc<Toolbox>>>,
}

impl How {
    /// Nothing is kept.
    pub fn unrecorded(parallel: usize) -> How {
        How { parallel, session: String::new(), sink: Arc::new(Discard), toolboxes: Arc::default() }
    }
}

/// Drops events: the trajectory is enough.
struct Discard;

impl Sink for Discard {
    fn record(&self, _event: Event) -> Result<(), String> {
        Ok(())
    }
}

/// k of n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub k: usize,
    pub n: usize,
}

impl Share {
    pub fn add(&mut self, hit: bool) {
        self.k += usize::from(hit);
        self.n += 1;
    }

    pub fn join(&mut self, other: Share) {
        self.k += other.k;
        self.n += other.n;
    }

    /// 0 for n = 0; a share is never shown without its n.
    pub fn value(self) -> f64 {
        self.k as f64 / self.n.max(1) as f64
    }
}

/// What one question came to. Everything figures are made of, so that kept rows give the same table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    pub id: String,
    pub family: String,
    pub query: String,
    pub seed: u64,
    pub trajectory: String,
    pub right: bool,
    /// Token F1 against the reference, for search questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
    /// Why there is no answer. A failed question is also a wrong one.
    pub failed: Option<String>,
    pub answer: Option<String>,
    pub turns: usize,
    /// The tool each turn planned, in order; empty where there was no plan.
    pub tools: Vec<String>,
    /// Sampled tokens over all roles.
    pub tokens: usize,
    pub seconds: f64,
    /// Tool calls that gave no result, of all calls: the plan named no tool there is, the arguments did not
    /// fit, or the tool failed or ran into a limit.
    pub tool_errors: Share,
    /// Executor: arguments that fitted the tool's schema.
    pub commands: Share,
    /// Verifier, on results of calculator, search and python: it stopped exactly when the result supports
    /// the answer.
    pub verdicts: Share,
    /// Generator, where the last result supports the answer: it gave it.
    pub copies: Share,
}

/// Answer each question with `flow` and score it. `done` hears of each as it is finished, in any order; the
/// rows returned are in the order asked. Cancelled questions are missing from both.
pub async fn score(
    flow: &Flow,
    asked: &[Asked],
    how: &How,
    cancel: &CancellationToken,
    mut done: impl FnMut(&Scored, &Trajectory),
) -> Vec<Scored> {
    let gate = Arc::new(tokio::sync::Semaphore::new(how.parallel.max(1)));
    let flow = Arc::new(flow.clone());
    let mut running = tokio::task::JoinSet::new();
    for (index, asked) in asked.iter().cloned().enumerate() {
        let (flow, gate, how, cancel) = (flow.clone(), gate.clone(), how.clone(), cancel.clone());
        running.spawn(async move {
            let _permit = gate.acquire_owned().await.ok();
            if cancel.is_cancelled() {
                return None;
            }
            let trajectory = pass(&flow, &asked, &how, cancel).await;
            (trajectory.outcome != Outcome::Cancelled).then_some((index, asked, trajectory))
        });
    }
    let mut rows = Vec::new();
    while let Some(joined) = running.join_next().await {
        match joined {
            Ok(Some((index, asked, trajectory))) => {
                let row = Scored::of(&asked, &trajectory);
                done(&row, &trajectory);
                rows.push((index, row));
            }
            Ok(None) => {}
            // A bug of ours must not pass as a wrong answer.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => cancel.cancel(),
            },
        }
    }
    rows.sort_by_key(|(index, _)| *index);
    rows.into_iter().map(|(_, row)| row).collect()
}

async fn pass(flow: &Flow, asked: &Asked, how: &How, cancel: CancellationToken) -> Trajectory {
    let ask = Ask {
        id: uuid::Uuid::now_v7().to_string(),
        session: how.session.clone(),
        query: asked.question.query.clone(),
        conversation: asked.question.conversation.clone(),
        seed: asked.seed,
        prior: None,
        taint: Taint::default(),
    };
    match how.toolboxes.get(&asked.question.id) {
        None => solve(flow, &ask, how.sink.clone(), cancel).await,
        Some(toolbox) => {
            let flow = Flow { toolbox: toolbox.clone(), ..flow.clone() };
            solve(&flow, &ask, how.sink.clone(), cancel).await
        }
    }
}

impl Scored {
    pub fn of(asked: &Asked, trajectory: &Trajectory) -> Scored {
        let question = &asked.question;
        let right = trajectory.answer.as_deref().is_some_and(|answer| question.key.right(answer));
        // No answer shares no word with the right one.
        let f1 = question.key.f1(trajectory.answer.as_deref().unwrap_or_default());
        let failed = match &trajectory.outcome {
            Outcome::Answered => None,
            Outcome::Failed { reason, .. } => Some(reason.clone()),
            Outcome::Cancelled => Some("cancelled".to_string()),
            Outcome::Running => Some("not finished".to_string()),
        };
        let tool = |turn: &crate::flow::trajectory::Turn| turn.plan.as_ref().map(|plan| plan.tool.clone());
        let mut row = Scored {
            id: question.id.clone(),
            family: question.group.clone(),
            query: question.query.clone(),
            seed: asked.seed,
            trajectory: trajectory.id.clone(),
            right,
            f1,
            failed,
            answer: trajectory.answer.clone(),
            turns: trajectory.turns.len(),
            tools: trajectory.turns.iter().map(|turn| tool(turn).unwrap_or_default()).collect(),
            tokens: trajectory.tokens,
            seconds: trajectory.seconds,
            tool_errors: Share::default(),
            commands: Share::default(),
            verdicts: Share::default(),
            copies: Share::default(),
        };
        row.roles(question, trajectory);
        row
    }

    /// How each role did its part, turn by turn.
    fn roles(&mut self, question: &Question, trajectory: &Trajectory) {
        let mut last_supports = None;
        for turn in &trajectory.turns {
            if turn.refused.is_some() {
                self.tool_errors.add(true);
            }
            let Some(result) = &turn.result else { continue };
            self.commands.add(result.fault != Some(ToolFault::BadArguments));
            self.tool_errors.add(result.fault.is_some());
            let Some(command) = &turn.command else { continue };
            last_supports = question.key.supported_by(&result.text);
            let verdict = turn.verdict.as_ref().filter(|_| command.tool != "base");
            if let (Some(verdict), Some(supports)) = (verdict, last_supports) {
                self.verdicts.add((verdict.decision == Decision::Stop) == supports);
            }
        }
        if last_supports == Some(true) {
            self.copies.add(self.right);
        }
    }
}
