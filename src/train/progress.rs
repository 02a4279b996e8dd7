//! What a run tells whoever watches, one value per step: plain data with n beside every share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::store::Adapter;
use crate::tasks::stats::wilson;
use crate::train::device::Choice;
use crate::train::objective::Stats;
use crate::train::reward::Rewards;
use crate::train::rollout::Group;
use crate::train::step::Done;
use crate::train::validation::Marks;
use crate::train::watch::{Alarm, Behaviour, Groups, alarms};

/// Receives progress; must return at once.
pub type Watch = Arc<dyn Fn(&Progress) + Send + Sync>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Progress {
    Rolled(Rolled),
    Phase {
        phase: String,
    },
    /// Nothing goes on until others that use the machine have ended.
    Waits {
        what: String,
    },
    Stepped(Stepped),
    Validated(Validated),
    /// The gate so far, in its own words.
    Gate {
        report: serde_json::Value,
    },
}

/// A step's rollouts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rolled {
    pub step: usize,
    pub groups: usize,
    pub rollouts: usize,
    /// Without an answer: never rewarded.
    pub failed: usize,
    pub right: usize,
    /// Groups that hold both a right and a wrong rollout.
    pub contrast: usize,
    /// Planner turns, and plans refused among them.
    pub turns: usize,
    pub refused: usize,
    pub planner_tokens: usize,
    /// Plans per tool.
    pub tools: BTreeMap<String, usize>,
    pub seconds: f64,
    /// The same rollouts as the run is watched by.
    #[serde(default)]
    pub behaviour: Behaviour,
    /// What has moved since the run began.
    #[serde(default)]
    pub alarms: Vec<Alarm>,
}

impl Rolled {
    pub fn of(step: usize, groups: &[Group], rewards: &[Rewards], seconds: f64) -> Rolled {
        let mut rolled = Rolled { step, groups: groups.len(), seconds, ..Rolled::default() };
        for (group, rewards) in groups.iter().zip(rewards) {
            let right = rewards.rewards.iter().flatten().filter(|reward| **reward > 0.5).count();
            rolled.right += right;
            rolled.contrast += usize::from(rewards.contrast());
            for rollout in &group.rollouts {
                rolled.rollouts += 1;
                rolled.failed += usize::from(rollout.failed.is_some());
                for turn in &rollout.trajectory.turns {
                    rolled.turns += 1;
                    rolled.refused += usize::from(turn.refused.is_some());
                    if let Some(plan) = &turn.plan {
                        *rolled.tools.entry(plan.tool.clone()).or_default() += 1;
                    }
                }
                let planned = rollout.trajectory.calls.iter().filter(|call| call.role.uses_adapter());
                rolled.planner_tokens +=
                    planned.map(|call| call.completion.completion_ids.len()).sum::<usize>();
            }
        }
        let all = groups.iter().flat_map(|group| &group.rollouts);
        rolled.behaviour = Behaviour::of(all.map(|rollout| &rollout.trajectory));
        rolled
    }

    /// Look for alarms: beside the rollouts the run began with, and in the rewards themselves.
    pub fn watched(&mut self, start: &Behaviour, rewards: &[Rewards]) {
        self.alarms = alarms(start, &self.behaviour);
        let known: Vec<Vec<f32>> = rewards
            .iter()
            .map(|group| group.rewards.iter().flatten().map(|reward| *reward as f32).collect())
            .collect();
        let contrast = |rewards: &[f32]| rewards.windows(2).any(|two| two[0] != two[1]);
        let groups = Groups::of(known.iter().map(|rewards| (&rewards[..], contrast(rewards))));
        if groups.all_equal {
            let figure = "every reward of the step is the same".to_string();
            self.alarms.push(Alarm { figure, start: groups.reward_mean, now: groups.reward_mean });
        }
    }
}

/// A step's outcome.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stepped {
    pub step: usize,
    /// Id of the adapter made; None: none was.
    pub adapter: Option<String>,
    /// Why there is none.
    pub skipped: Option<String>,
    pub stats: Stats,
    pub learning_rate: f32,
    /// Share of the delta that was kept, and its mean k3 to the parent.
    pub scale: Option<f32>,
    pub step_kl: Option<f64>,
    /// Mean k3 to the bare model on frozen prompts.
    pub drift: Option<f64>,
    pub gradient_norm: f32,
    pub nodes: usize,
    pub row_tokens: usize,
    pub targets: usize,
    pub seconds: f64,
    pub peak_mb: f64,
    /// What computed it.
    #[serde(default)]
    pub device: Choice,
}

impl Stepped {
    pub fn skipped(step: usize, why: &str) -> Stepped {
        Stepped { step, skipped: Some(why.to_string()), ..Stepped::default() }
    }

    pub fn of(step: usize, done: &Done, adapter: Option<&Adapter>) -> Stepped {
        let kept = |scale: f32| done.size.tried.iter().find(|(tried, _)| *tried == scale);
        Stepped {
            step,
            adapter: adapter.map(|adapter| adapter.id.clone()),
            skipped: (!done.kept).then(|| done.size.text()),
            stats: done.stats,
            learning_rate: done.learning_rate,
            scale: done.size.kept,
            step_kl: done.size.kept.and_then(kept).and_then(|(_, k3)| *k3),
            drift: done.drift.as_ref().map(|drift| drift.mean),
            gradient_norm: done.gradient_norm,
            nodes: done.nodes,
            row_tokens: done.row_tokens,
            targets: done.targets,
            seconds: done.seconds,
            peak_mb: done.peak_bytes as f64 / 1e6,
            device: done.device.clone(),
        }
    }
}

/// A look at the policy on the run's validation questions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validated {
    pub step: usize,
    pub adapter: Option<String>,
    /// Right answers of n, with the Wilson 95 % interval of the share.
    pub k: usize,
    pub n: usize,
    pub low: f64,
    pub high: f64,
    /// Right answers on whose way a call came to nothing.
    #[serde(default)]
    pub faulty: usize,
    /// The run's best so far.
    pub best: bool,
    /// Clearly worse than this adapter, which the run goes on from.
    pub back_to: Option<String>,
    pub seconds: f64,
}

impl Validated {
    pub fn of(step: usize, marks: &Marks, best: bool, back_to: Option<String>, took: Duration) -> Validated {
        let (low, high) = wilson(marks.k(), marks.n());
        let (k, n, faulty) = (marks.k(), marks.n(), marks.right_and_faulty());
        let (adapter, seconds) = (marks.adapter.clone(), took.as_secs_f64());
        Validated { step, adapter, k, n, low, high, faulty, best, back_to, seconds }
    }
}

/// The look as a step keeps it: enough to go on after an interruption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    pub validated: Validated,
    pub marks: Marks,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_watched_beside_the_first_and_for_itself() {
        let behaviour = |plan_tokens| Behaviour {
            rollouts: 32,
            turns: 64,
            plans: 64,
            plan_tokens,
            ..Behaviour::default()
        };
        let rewards = |second| {
            [[1.0, 1.0], [1.0, second]]
                .map(|values| Rewards { rewards: values.map(Some).to_vec(), ..Rewards::default() })
        };
        let mut rolled = Rolled { behaviour: behaviour(1_280), ..Rolled::default() };
        rolled.watched(&behaviour(1_280), &rewards(0.0));
        assert_eq!(rolled.alarms, []);
        rolled.watched(&behaviour(640), &rewards(1.0));
        let words: Vec<String> = rolled.alarms.iter().map(Alarm::words).collect();
        assert_eq!(words[0], "tokens per plan: 10.00 at the start, 20.00 now");
        assert!(words[1].starts_with("every reward of the step is the same"), "{words:?}");
        // What an older record lacks is empty, not an error.
        let older: Rolled = serde_json::from_value(serde_json::json!({
            "step": 1, "groups": 0, "rollouts": 0, "failed": 0, "right": 0, "contrast": 0, "turns": 0,
            "refused": 0, "planner_tokens": 0, "tools": {}, "seconds": 0.0,
        }))
        .unwrap();
        assert_eq!(older.alarms, []);
    }
}
