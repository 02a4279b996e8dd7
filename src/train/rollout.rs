//! Groups of rollouts: G trajectories per question, run together through the flow on the batched engine.
//!
//! The planner samples with temperature only, so that its log-probabilities are those training needs. Seeds
//! follow from (seed, question, index) and are recorded. What failed or was cancelled is kept apart and
//! never looks like a wrong answer. Nothing is rewarded and nothing is trained here.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::flow::event::{Event, Sink};
use crate::flow::solve::{Ask, Flow, solve};
use crate::flow::trajectory::{Outcome, Trajectory};
use crate::store::{GroupRow, Member, Store, StoreSink, new_id, now_ms, question_id};
use crate::tasks::question::{self, Key};
use crate::tools::Taint;

/// Most rollouts of one group; beyond it a question is better asked again than drawn again.
pub const SIZE_MAX: usize = 256;

/// A question to roll.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The ledger's id: equal for equal questions after equal conversations.
    pub id: String,
    pub query: String,
    pub conversation: Vec<(String, String)>,
    /// What says whether an answer is right, where a program knows it.
    pub key: Option<Key>,
    /// What the session of its conversation had met.
    pub taint: Taint,
}

impl Question {
    pub fn new(query: &str, conversation: Vec<(String, String)>) -> Question {
        let id = question_id(query, &conversation);
        Question { id, query: query.to_string(), conversation, key: None, taint: Taint::default() }
    }

    /// A question of a task file, with what checks its answers.
    pub fn of_task(task: &question::Question) -> Question {
        Question { key: Some(task.key.clone()), ..Question::new(&task.query, task.conversation.clone()) }
    }

    /// What a recorded trajectory was asked: the same question after the same conversation, with what its session
    /// had met.
    pub fn again(trajectory: &Trajectory) -> Question {
        let asked = Question::new(&trajectory.query, trajectory.conversation.clone());
        Question { taint: trajectory.inherited, ..asked }
    }
}

/// How groups are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct RollOptions {
    /// G: rollouts of one question.
    pub size: usize,
    pub seed: u64,
    /// The planner's temperature; None: the prompt pack's (0.7 in the bundled ones, as the paper's code has it;
    /// its text says 0.5).
    pub temperature: Option<f32>,
    /// Most turns of a rollout; 0: no limit. 3 as in the paper's training.
    pub turns: usize,
    /// Rollouts at once over all groups; 0: as many as the engine has sequences. With 1, on one thread, the
    /// same seed gives the same bits.
    pub parallel: usize,
}

impl Default for RollOptions {
    fn default() -> RollOptions {
        RollOptions { size: 8, seed: 0, temperature: None, turns: 3, parallel: 0 }
    }
}

/// One trajectory of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    pub trajectory: Trajectory,
    /// Place in its group, from 0.
    pub index: usize,
    pub seed: u64,
    /// Why there is no answer. Such a rollout is never rewarded, with 0 either.
    pub failed: Option<String>,
}

impl Rollout {
    fn new(trajectory: Trajectory, index: usize, seed: u64) -> Rollout {
        let failed = match &trajectory.outcome {
            Outcome::Answered => None,
            Outcome::Failed { reason, .. } => Some(reason.clone()),
            Outcome::Cancelled => Some("cancelled".to_string()),
            Outcome::Running => Some("its process ended before it did".to_string()),
        };
        Rollout { trajectory, index, seed, failed }
    }

    /// The answer, if it came to one.
    pub fn answer(&self) -> Option<&str> {
        if self.failed.is_some() { None } else { self.trajectory.answer.as_deref() }
    }
}

/// The rollouts of one question, in the order of their indices.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub id: String,
    pub question: Question,
    pub rollouts: Vec<Rollout>,
}

impl Group {
    /// A recorded group again, with what is still there of it.
    ///
    /// # Errors
    /// `NotFound`, or none of its rollouts was begun or is kept any more.
    pub fn load(store: &Store, id: &str) -> Result<Group, Error> {
        let row = store.group(id)?;
        let mut rollouts = Vec::new();
        for (index, member) in row.members.iter().enumerate() {
            match store.trajectory(&member.trajectory) {
                Ok(trajectory) => rollouts.push(Rollout::new(trajectory, index, member.seed)),
                Err(crate::store::StoreError::NotFound(_)) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let first = &rollouts.first().ok_or_else(|| {
            Error::Usage(format!("group {id} holds no rollout (any more); roll its question again"))
        })?;
        let question = Question { id: row.question_id, ..Question::again(&first.trajectory) };
        Ok(Group { id: row.id, question, rollouts })
    }
}

/// Seed of a rollout: a fixed function of these three, below 2^52 so that every JSON reader keeps it.
pub fn rollout_seed(seed: u64, question_id: &str, index: usize) -> u64 {
    let hash = blake3::hash(format!("{seed} {question_id} {index}").as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(bytes) >> 12
}

/// Draw a group for every question. With a store, groups and rollouts are recorded before they are shown to
/// `watch`. Cancelling ends what runs, starts nothing more and keeps what finished; a question of which
/// nothing was begun has no group.
///
/// # Errors
/// Options or a question that cannot be, no engine, or a store that cannot be written. A rollout's own
/// failure is no error.
pub async fn roll(
    flow: &Flow,
    questions: &[Question],
    options: &RollOptions,
    store: Option<&Arc<Store>>,
    watch: Option<Arc<dyn Sink>>,
    cancel: CancellationToken,
) -> Result<Vec<Group>, Error> {
    let flow = Arc::new(rollout_flow(flow, questions, options)?);
    let model = flow.engine.model().await?;
    let parallel = if options.parallel == 0 { model.sequences.max(1) } else { options.parallel };
    let gate = Arc::new(Semaphore::new(parallel));
    let sink = sink(store, watch);
    let mut groups: Vec<Group> = Vec::with_capacity(questions.len());
    let mut running = JoinSet::new();
    for (place, question) in questions.iter().enumerate() {
        let row = row(&flow, question, options, &model.hash);
        let mut begun = false;
        for (index, member) in row.members.iter().enumerate() {
            // Taken in order, so that a group's rollouts run side by side and share their prompt.
            let permit = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                permit = gate.clone().acquire_owned() => permit,
            };
            if let (false, Some(store)) = (begun, store) {
                store.add_group(&row, &question.query)?;
            }
            begun = true;
            let (flow, sink, cancel) = (flow.clone(), sink.clone(), cancel.clone());
            let ask = ask(question, &row.id, member);
            running.spawn(async move {
                let _permit = permit;
                let trajectory = solve(&flow, &ask, sink, cancel).await;
                (place, Rollout::new(trajectory, index, ask.seed))
            });
        }
        groups.push(Group { id: row.id, question: question.clone(), rollouts: Vec::new() });
    }
    while let Some(done) = running.join_next().await {
        let (place, rollout) = done.map_err(|e| Error::Train(format!("a rollout ended badly: {e}")))?;
        groups[place].rollouts.push(rollout);
    }
    groups.iter_mut().for_each(|group| group.rollouts.sort_by_key(|rollout| rollout.index));
    groups.retain(|group| !group.rollouts.is_empty());
    Ok(groups)
}

/// The flow with the options' temperature and turns; checks what can be checked before anything runs.
fn rollout_flow(flow: &Flow, questions: &[Question], options: &RollOptions) -> Result<Flow, Error> {
    let usage = |text: String| Err(Error::Usage(text));
    if options.size == 0 || options.size > SIZE_MAX {
        return usage(format!("a group has 1 to {SIZE_MAX} rollouts, not {}; 8 is usual", options.size));
    }
    if questions.iter().any(|question| question.query.trim().is_empty()) {
        return usage("the query is empty; type a question".to_string());
    }
    let temperature = options.temperature.or(flow.planner_temperature);
    let temperature = temperature.unwrap_or(flow.pack.settings.planner_temperature);
    if !(temperature > 0.0 && temperature <= 10.0) {
        return usage(format!(
            "rollouts need a temperature above 0 and at most 10, not {temperature}: greedy ones are all alike"
        ));
    }
    let mut flow = flow.clone();
    flow.planner_temperature = Some(temperature);
    flow.limits.turns = options.turns;
    Ok(flow)
}

fn row(flow: &Flow, question: &Question, options: &RollOptions, model: &str) -> GroupRow {
    let member =
        |index| Member { trajectory: new_id(), seed: rollout_seed(options.seed, &question.id, index) };
    GroupRow {
        id: new_id(),
        question_id: question.id.clone(),
        created_ms: now_ms(),
        model_hash: model.to_string(),
        adapter: flow.adapter.clone(),
        seed: options.seed,
        temperature: flow.planner_temperature.unwrap_or_default(),
        turns: options.turns,
        members: (0..options.size).map(member).collect(),
    }
}

/// A group is a session of its own: its rollouts do not see each other's answers.
fn ask(question: &Question, group: &str, member: &Member) -> Ask {
    Ask {
        id: member.trajectory.clone(),
        session: group.to_string(),
        query: question.query.clone(),
        conversation: question.conversation.clone(),
        seed: member.seed,
        prior: None,
        taint: question.taint,
    }
}

fn sink(store: Option<&Arc<Store>>, watch: Option<Arc<dyn Sink>>) -> Arc<dyn Sink> {
    match (store.map(|store| StoreSink::new(store.clone())), watch) {
        (Some(kept), Some(watch)) => Arc::new(kept.then(watch)),
        (Some(kept), None) => Arc::new(kept),
        (None, Some(watch)) => watch,
        (None, None) => Arc::new(Nowhere),
    }
}

/// The rollouts that come back are all a caller without store and screen wants.
struct Nowhere;

impl Sink for Nowhere {
    fn record(&self, _event: Event) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_by_each_of_their_parts_and_never_change() {
        let seeds =
            [(1, "q", 0), (2, "q", 0), (1, "r", 0), (1, "q", 1)].map(|(s, q, i)| rollout_seed(s, q, i));
        for (place, seed) in seeds.iter().enumerate() {
            assert!(*seed < 1 << 52 && !seeds[..place].contains(seed));
        }
        // Recorded groups must stay replayable.
        assert_eq!(rollout_seed(1, "2cc0fbf870b2e03b4dedc83391430db0", 0), 432_447_225_612_938);
    }
}
