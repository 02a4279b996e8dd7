//! From trajectories to training rows: the token ids a planner saw and sampled, exactly as recorded.
//!
//! Nothing is tokenised here and no log-probability is computed. What cannot be trained on is either left out
//! and counted (failed rollouts, redacted records) or refuses the whole batch with the reason (another
//! adapter, another model, a sampler that truncates): a batch must come from the policy it is to change.

use serde::{Deserialize, Serialize};

use crate::engine::{Role, Sampler, StopReason};
use crate::error::Error;
use crate::flow::event::ModelCall;
use crate::flow::trajectory::{Outcome, Trajectory};
use crate::store::{Source, short};

/// One planner call. `sampled`, `mu` and `trains` have one entry per sampled token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainTurn {
    /// Token ids of the state: query, toolset, memory.
    pub prompt: Vec<i32>,
    pub sampled: Vec<i32>,
    /// The sampler's log-probabilities, at the batch's temperature.
    pub mu: Vec<f32>,
    /// False for forced tokens and for every token of a truncated turn. The end-of-turn token trains if and
    /// only if it was sampled.
    pub trains: Vec<bool>,
    /// From 1.
    pub turn: usize,
}

/// One rollout. Without a reward it stays out of its group's statistics and trains nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainRollout {
    pub trajectory: String,
    pub turns: Vec<TrainTurn>,
    pub reward: Option<f64>,
}

/// The rollouts of one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainGroup {
    pub question_id: String,
    /// Who the rewards come from.
    pub source: Source,
    /// What the group counts for: 1, shared where a batch holds several groups of one question, less for a
    /// lone label.
    pub weight: f64,
    /// A lone label is measured against this running mean of rewards; None: against its own group.
    pub baseline: Option<f64>,
    pub rollouts: Vec<TrainRollout>,
}

/// What all rollouts of a batch must agree on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// blake3 of the base model's file.
    pub model: String,
    /// Content hash of the adapter to be trained; None: the bare model.
    pub adapter: Option<String>,
    pub temperature: f32,
}

/// What was left out of the rows, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Rollouts that failed, were cancelled or never ended.
    pub failed: usize,
    /// Rollouts whose token ids were taken out with a secret.
    pub redacted: usize,
    /// Rollouts with text from outside that no person labelled.
    #[serde(default)]
    pub tainted: usize,
    /// Rollouts that reached a limit before their first plan.
    pub without_turn: usize,
    /// Turns cut at their length limit: in the rows, but masked.
    pub truncated_turns: usize,
    /// Tokens a constraint forced: in the rows, but masked.
    pub forced_tokens: usize,
}

impl LeftOut {
    pub fn add(&mut self, other: LeftOut) {
        self.failed += other.failed;
        self.redacted += other.redacted;
        self.tainted += other.tainted;
        self.without_turn += other.without_turn;
        self.truncated_turns += other.truncated_turns;
        self.forced_tokens += other.forced_tokens;
    }

    /// What was left out and why, in words; empty where nothing was.
    pub fn words(&self) -> String {
        let said = [
            (
                self.tainted,
                "met text from outside (only a label on that very rollout lets it train, not one on an equal answer)",
            ),
            (self.redacted, "had a secret taken out of their record"),
            (self.failed, "came to no answer"),
            (self.without_turn, "held no plan"),
        ];
        let rollouts = said.iter().filter(|(n, _)| *n > 0);
        let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut parts: Vec<String> =
            rollouts.map(|(n, why)| format!("{} {why}", counted(*n, "rollout"))).collect();
        if self.truncated_turns > 0 {
            parts.push(format!("{} cut short", counted(self.truncated_turns, "turn")));
        }
        if self.forced_tokens > 0 {
            parts.push(format!("{} forced by a constraint", counted(self.forced_tokens, "token")));
        }
        parts.join(", ")
    }
}

/// The planner turns of a trajectory, or None (counted in `left`) where it cannot train.
///
/// # Errors
/// It was sampled by another policy than `policy`, or its record contradicts itself.
pub fn turns(
    trajectory: &Trajectory,
    policy: &Policy,
    left: &mut LeftOut,
) -> Result<Option<Vec<TrainTurn>>, Error> {
    if trajectory.outcome != Outcome::Answered {
        left.failed += 1;
        return Ok(None);
    }
    let planned: Vec<&ModelCall> = trajectory.calls.iter().filter(|c| c.role == Role::Planner).collect();
    let remote = planned.iter().find_map(|call| call.completion.remote.as_ref()?.untrainable.as_ref());
    if let Some(why) = remote {
        return Err(refuse(trajectory, &format!("a remote engine planned, and {why}")));
    }
    if planned.iter().any(|call| call.completion.prompt_ids.is_empty()) {
        left.redacted += 1;
        return Ok(None);
    }
    if planned.is_empty() {
        left.without_turn += 1;
        return Ok(None);
    }
    if trajectory.model.hash != policy.model {
        let told = "it was made by another model; roll its question again with the model served now";
        return Err(refuse(trajectory, told));
    }
    let mut turns = Vec::with_capacity(planned.len());
    for call in planned {
        same_policy(call, policy).map_err(|reason| refuse(trajectory, &reason))?;
        let turn = one(call, left).map_err(|reason| refuse(trajectory, &reason))?;
        turns.push(turn);
    }
    Ok(Some(turns))
}

fn refuse(trajectory: &Trajectory, reason: &str) -> Error {
    Error::Train(format!("rollout {} cannot train: {reason}", short(&trajectory.id)))
}

/// On-policy or not at all: same adapter, same temperature, nothing that truncates.
fn same_policy(call: &ModelCall, policy: &Policy) -> Result<(), String> {
    let name = |hash: &Option<String>| match hash {
        Some(hash) => format!("adapter {}", hash.get(..12).unwrap_or(hash)),
        None => "no adapter".to_string(),
    };
    let found = &call.completion.adapter;
    if *found != policy.adapter {
        return Err(format!(
            "it was sampled with {}, to be trained is {}; roll its question again",
            name(found),
            name(&policy.adapter)
        ));
    }
    let sampler = &call.request.sampler;
    if *sampler != Sampler::temperature(sampler.temperature, sampler.seed) {
        return Err(
            "its sampler cut the distribution (top-k, top-p or min-p); training needs temperature only"
                .to_string(),
        );
    }
    if !(sampler.temperature > 0.0 && sampler.temperature.is_finite()) {
        return Err("it was sampled greedily; training needs a temperature above 0".to_string());
    }
    if sampler.temperature.to_bits() != policy.temperature.to_bits() {
        return Err(format!(
            "it was sampled at temperature {}, the batch at {}; train them apart",
            sampler.temperature, policy.temperature
        ));
    }
    Ok(())
}

fn one(call: &ModelCall, left: &mut LeftOut) -> Result<TrainTurn, String> {
    let full = &call.completion;
    let (n, turn) = (full.completion_ids.len(), call.turn);
    if full.logprobs.len() != n || full.forced.len() != n {
        return Err(format!(
            "turn {turn} has {n} tokens, {} log-probabilities and {} forced marks",
            full.logprobs.len(),
            full.forced.len()
        ));
    }
    if full.prompt_ids.iter().chain(&full.completion_ids).any(|id| *id < 0) {
        return Err(format!("turn {turn} holds a negative token id"));
    }
    if let Some(bad) = full.logprobs.iter().find(|p| !p.is_finite()) {
        return Err(format!("turn {turn} holds the log-probability {bad}"));
    }
    // A plan cut short is no plan: what it would have said is unknown.
    let truncated = full.stop != Some(StopReason::EndOfTurn);
    left.truncated_turns += usize::from(truncated);
    left.forced_tokens += full.forced.iter().filter(|forced| **forced).count();
    Ok(TrainTurn {
        prompt: full.prompt_ids.clone(),
        sampled: full.completion_ids.clone(),
        mu: full.logprobs.clone(),
        trains: full.forced.iter().map(|forced| !forced && !truncated).collect(),
        turn,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::engine::{Completion, ModelInfo, Request};

    pub(crate) fn policy() -> Policy {
        Policy { model: "m".into(), adapter: None, temperature: 0.7 }
    }

    pub(crate) fn planner_call(turn: usize) -> ModelCall {
        ModelCall {
            role: Role::Planner,
            turn,
            request: Request {
                role: Role::Planner,
                messages: Vec::new(),
                sampler: Sampler::temperature(0.7, 1),
                constraint: None,
                max_tokens: 8,
            },
            completion: Completion {
                prompt_ids: vec![1, 2, 3],
                completion_ids: vec![4, 5, 2],
                logprobs: vec![-0.1, -0.2, -0.3],
                forced: vec![false; 3],
                stop: Some(StopReason::EndOfTurn),
                ..Completion::default()
            },
        }
    }

    pub(crate) fn trajectory(id: &str, answer: &str) -> Trajectory {
        Trajectory {
            id: id.into(),
            model: ModelInfo { hash: "m".into(), ..ModelInfo::default() },
            calls: vec![planner_call(1), planner_call(2)],
            answer: Some(answer.into()),
            outcome: Outcome::Answered,
            ..Trajectory::default()
        }
    }

    #[test]
    fn what_was_sampled_trains_and_what_was_forced_does_not() {
        let mut rolled = trajectory("a", "1");
        rolled.calls[0].completion.forced[1] = true;
        rolled.calls[1].completion.stop = Some(StopReason::Length);
        rolled.calls.push(ModelCall { role: Role::Executor, ..planner_call(2) });
        let mut left = LeftOut::default();
        let turns = turns(&rolled, &policy(), &mut left).unwrap().unwrap();
        assert_eq!(turns.len(), 2, "frozen roles are no rows");
        assert_eq!(turns[0].trains, [true, false, true], "the sampled end trains");
        assert_eq!(turns[1].trains, [false; 3], "a truncated turn is masked whole");
        assert_eq!((turns[0].turn, turns[1].turn), (1, 2));
        assert_eq!(left, LeftOut { truncated_turns: 1, forced_tokens: 1, ..LeftOut::default() });
    }

    #[test]
    fn what_cannot_train_is_left_out_and_counted() {
        let mut left = LeftOut::default();
        let mut out = |change: fn(&mut Trajectory)| {
            let mut rolled = trajectory("a", "1");
            change(&mut rolled);
            assert_eq!(turns(&rolled, &policy(), &mut left).unwrap(), None);
        };
        out(|t| t.outcome = Outcome::Cancelled);
        out(|t| {
            t.outcome = Outcome::Failed {
                reason: String::new(),
                remedy: String::new(),
                cause: crate::flow::event::Cause::Engine,
            }
        });
        out(|t| t.calls[1].completion.prompt_ids.clear());
        out(|t| t.calls.clear());
        assert_eq!((left.failed, left.redacted, left.without_turn), (2, 1, 1));
    }

    #[test]
    fn another_policy_refuses_the_batch_and_says_why() {
        let refused = |change: fn(&mut Trajectory), needle: &str| {
            let mut rolled = trajectory("0123456789ab", "1");
            change(&mut rolled);
            let told = turns(&rolled, &policy(), &mut LeftOut::default()).unwrap_err().to_string();
            assert!(told.contains(needle) && told.contains("0123456789ab"), "{needle}: {told}");
        };
        refused(|t| t.model.hash = "other".into(), "another model");
        refused(|t| t.calls[1].completion.adapter = Some("abc".into()), "adapter abc");
        refused(|t| t.calls[0].request.sampler.top_k = 40, "top-k");
        refused(|t| t.calls[0].request.sampler.temperature = 0.0, "greedily");
        refused(|t| t.calls[0].request.sampler.temperature = 0.71, "temperature 0.71");
        refused(|t| t.calls[0].completion.logprobs[1] = f32::NAN, "NaN");
        refused(|t| t.calls[0].completion.forced.truncate(2), "2 forced marks");
        refused(|t| t.calls[0].completion.completion_ids[0] = -1, "negative");
    }

    #[test]
    fn rows_cross_a_process_boundary() {
        let mut left = LeftOut::default();
        let turns = turns(&trajectory("a", "1"), &policy(), &mut left).unwrap().unwrap();
        let group = TrainGroup {
            question_id: "q".into(),
            source: Source::Checker,
            weight: 1.0,
            baseline: None,
            rollouts: vec![TrainRollout { trajectory: "a".into(), turns, reward: Some(1.0) }],
        };
        let bytes = postcard::to_stdvec(&group).unwrap();
        assert_eq!(postcard::from_bytes::<TrainGroup>(&bytes).unwrap(), group);
    }
}
