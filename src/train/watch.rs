//! What a run is watched by beside its success: figures that move when training goes wrong, before it shows.
//!
//! Plain numbers with their n; "loss" is not among them, it is about 0 by construction. Judging a candidate
//! is the gate's business, showing the figures the deck's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::{Role, StopReason};
use crate::flow::trajectory::{Outcome, Trajectory};

/// How the planner behaves over some rollouts. Failed and cancelled ones are counted and left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Behaviour {
    pub rollouts: usize,
    pub failed: usize,
    pub turns: usize,
    /// Planner calls and the tokens they sampled.
    pub plans: usize,
    pub plan_tokens: usize,
    /// Summed -log p of these tokens as sampled, nats: the policy's entropy times their number, estimated.
    #[serde(default)]
    pub surprise: f64,
    /// Plans whose first draw was no plan: refused, or repaired.
    pub format_failures: usize,
    /// Plans cut at their token limit.
    pub truncated: usize,
    /// Turns per tool.
    pub tools: BTreeMap<String, usize>,
}

impl Behaviour {
    pub fn of<'a>(trajectories: impl IntoIterator<Item = &'a Trajectory>) -> Behaviour {
        let mut found = Behaviour::default();
        for trajectory in trajectories {
            if trajectory.outcome != Outcome::Answered {
                found.failed += 1;
                continue;
            }
            found.rollouts += 1;
            found.turns += trajectory.turns.len();
            for turn in &trajectory.turns {
                found.format_failures += usize::from(turn.refused.is_some() || turn.plan_repaired);
                if let Some(plan) = &turn.plan {
                    *found.tools.entry(plan.tool.clone()).or_default() += 1;
                }
            }
            for call in trajectory.calls.iter().filter(|call| call.role == Role::Planner) {
                found.plans += 1;
                found.plan_tokens += call.completion.completion_ids.len();
                found.surprise -= call.completion.logprobs.iter().map(|logp| f64::from(*logp)).sum::<f64>();
                found.truncated += usize::from(call.completion.stop == Some(StopReason::Length));
            }
        }
        found
    }

    pub fn turns_per_rollout(&self) -> f64 {
        share(self.turns, self.rollouts)
    }

    pub fn tokens_per_plan(&self) -> f64 {
        share(self.plan_tokens, self.plans)
    }

    /// Nats a token; 0 of nothing.
    pub fn entropy(&self) -> f64 {
        self.surprise / self.plan_tokens.max(1) as f64
    }

    /// Of all turns.
    pub fn format_failure_share(&self) -> f64 {
        share(self.format_failures, self.turns)
    }

    /// Half the summed difference of two tool mixes, 0 (the same) to 1 (nothing in common).
    pub fn tool_distance(&self, other: &Behaviour) -> f64 {
        let names: std::collections::BTreeSet<_> = self.tools.keys().chain(other.tools.keys()).collect();
        let part = |of: &Behaviour, name: &String| {
            share(of.tools.get(name).copied().unwrap_or(0), of.tools.values().sum())
        };
        names.into_iter().map(|name| (part(self, name) - part(other, name)).abs()).sum::<f64>() / 2.0
    }
}

/// The groups of one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Groups {
    pub groups: usize,
    pub without_contrast: usize,
    pub rewards: usize,
    pub reward_mean: f64,
    /// Every reward of two or more groups is the same: more likely a reader's mistake than luck.
    pub all_equal: bool,
}

impl Groups {
    /// From each group's rewards and whether it had contrast.
    pub fn of<'a>(groups: impl IntoIterator<Item = (&'a [f32], bool)>) -> Groups {
        let mut found = Groups::default();
        let mut all = Vec::new();
        for (rewards, contrast) in groups.into_iter().filter(|(rewards, _)| !rewards.is_empty()) {
            found.groups += 1;
            found.without_contrast += usize::from(!contrast);
            all.extend(rewards.iter().map(|reward| f64::from(*reward)));
        }
        found.rewards = all.len();
        found.reward_mean = all.iter().sum::<f64>() / all.len().max(1) as f64;
        found.all_equal = found.groups > 1 && all.windows(2).all(|two| two[0] == two[1]);
        found
    }

    pub fn share_without_contrast(&self) -> f64 {
        share(self.without_contrast, self.groups)
    }
}

/// Majority answers of the same questions before and after a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flips {
    pub questions: usize,
    pub flipped: usize,
}

impl Flips {
    /// From per-question answers of two sets of rollouts. A question without a single most frequent answer on
    /// either side says nothing.
    pub fn of<'a>(questions: impl IntoIterator<Item = (&'a [String], &'a [String])>) -> Flips {
        let mut found = Flips::default();
        for (before, after) in questions {
            if let (Some(before), Some(after)) = (majority(before), majority(after)) {
                found.questions += 1;
                found.flipped += usize::from(before != after);
            }
        }
        found
    }
}

fn majority(answers: &[String]) -> Option<&str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    answers.iter().for_each(|answer| *counts.entry(answer).or_default() += 1);
    let (answer, most) = counts.iter().max_by_key(|(_, count)| **count)?;
    (counts.values().filter(|count| *count == most).count() == 1).then_some(*answer)
}

/// A figure that left its band beside where the run began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    pub figure: String,
    pub start: f64,
    pub now: f64,
}

impl Alarm {
    /// `tokens per plan: 19.8 at the start, 31.0 now`
    pub fn words(&self) -> String {
        format!("{}: {:.2} at the start, {:.2} now", self.figure, self.start, self.now)
    }
}

/// Of the entropy a run began with: below and above it alarms.
const ENTROPY_LEAST: f64 = 0.1;
const ENTROPY_MOST: f64 = 2.0;

/// What moved by more than 30 % (tool mix: a third of all plans; format failures: 10 points; entropy: below a tenth or above twice) between the start
/// of a run and now. Figures of fewer than `LEAST` rollouts on either side alarm nobody.
pub fn alarms(start: &Behaviour, now: &Behaviour) -> Vec<Alarm> {
    /// Rollouts below which a mean is mostly noise.
    const LEAST: usize = 16;
    if start.rollouts < LEAST || now.rollouts < LEAST {
        return Vec::new();
    }
    let moved = |start: f64, now: f64| (now - start).abs() > 0.3 * start;
    let means = [
        ("turns per rollout", start.turns_per_rollout(), now.turns_per_rollout()),
        ("tokens per plan", start.tokens_per_plan(), now.tokens_per_plan()),
    ];
    let mut found: Vec<(&str, f64, f64)> =
        means.into_iter().filter(|(_, start, now)| moved(*start, *now)).collect();
    // Learning makes a planner surer; one that is sure of nearly everything explores no more, one that is twice as
    // unsure has come apart.
    let entropy = (start.entropy(), now.entropy());
    if entropy.0 > 0.0 && !(ENTROPY_LEAST..=ENTROPY_MOST).contains(&(entropy.1 / entropy.0)) {
        found.push(("entropy, nats a token", entropy.0, entropy.1));
    }
    let failures = (start.format_failure_share(), now.format_failure_share());
    if failures.1 > failures.0 + 0.1 {
        found.push(("format failures", failures.0, failures.1));
    }
    if start.tool_distance(now) > 1.0 / 3.0 {
        found.push(("tool mix", 0.0, start.tool_distance(now)));
    }
    let alarm = |(figure, start, now): (&str, f64, f64)| Alarm { figure: figure.to_string(), start, now };
    found.into_iter().map(alarm).collect()
}

/// Watches live labels for a failure rate that has risen: S = max(0, S + log-likelihood ratio), alarm at S >= h.
/// Source: E. S. Page, "Continuous inspection schemes", 1954.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cusum {
    /// Failure rate as it was, and the one to be found.
    pub usual: f64,
    pub risen: f64,
    pub sum: f64,
    pub labels: usize,
}

impl Cusum {
    /// S at which the alarm goes off: at .2 against .4 a false one every 265 labels, a true one after 23.
    pub const BOUND: f64 = 3.0;
    /// Labels needed to know the usual rate.
    pub const LEAST: usize = 30;
    const RISE: f64 = 0.2;

    /// From the labels before the adapter that is watched; None if they are too few to say what is usual, or
    /// so bad that nothing could get worse.
    pub fn new(failures: usize, labels: usize) -> Option<Cusum> {
        let usual = (failures as f64 + 1.0) / (labels as f64 + 2.0);
        let risen = usual + Cusum::RISE;
        (labels >= Cusum::LEAST && failures <= labels && risen < 1.0).then_some(Cusum {
            usual,
            risen,
            sum: 0.0,
            labels: 0,
        })
    }

    /// Take a label in; answers whether the alarm is on. It stays on until a new watch begins.
    pub fn add(&mut self, failed: bool) -> bool {
        if self.alarmed() {
            return true;
        }
        let ratio = if failed { self.risen / self.usual } else { (1.0 - self.risen) / (1.0 - self.usual) };
        self.sum = (self.sum + ratio.ln()).max(0.0);
        self.labels += 1;
        self.alarmed()
    }

    pub fn alarmed(&self) -> bool {
        self.sum >= Cusum::BOUND
    }
}

/// part / whole; 0 of nothing.
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::flow::trajectory::{Plan, Turn};
    use crate::train::rows::tests::trajectory;

    fn turn(tool: &str, refused: bool) -> Turn {
        let plan = (!refused).then(|| Plan { tool: tool.to_string(), ..Plan::default() });
        let refused = refused.then(|| ("?".to_string(), "no plan".to_string()));
        Turn { plan, refused, ..Turn::default() }
    }

    #[test]
    fn behaviour_counts_what_ended() {
        let mut first = trajectory("a", "1");
        first.turns = vec![turn("search", false), turn("calculator", false)];
        first.calls[1].completion.stop = Some(StopReason::Length);
        let mut second = trajectory("b", "2");
        second.turns = vec![turn("search", false), turn("", true)];
        second.turns[0].plan_repaired = true;
        let mut failed = trajectory("c", "3");
        failed.outcome = Outcome::Cancelled;
        let found = Behaviour::of([&first, &second, &failed]);
        assert_eq!((found.rollouts, found.failed, found.turns), (2, 1, 4));
        assert_eq!((found.turns_per_rollout(), found.tokens_per_plan()), (2.0, 3.0));
        assert_eq!((found.format_failures, found.truncated), (2, 1));
        assert_eq!(found.tools, BTreeMap::from([("search".into(), 2), ("calculator".into(), 1)]));
        assert_eq!(Behaviour::of([]).tokens_per_plan(), 0.0);
    }

    fn behaviour(turns: usize, tokens: usize, failures: usize, tools: &[(&str, usize)]) -> Behaviour {
        Behaviour {
            rollouts: 20,
            turns,
            plans: 40,
            plan_tokens: tokens,
            format_failures: failures,
            tools: tools.iter().map(|(name, n)| ((*name).to_string(), *n)).collect(),
            ..Behaviour::default()
        }
    }

    #[test]
    fn alarms_name_what_moved() {
        let start = behaviour(40, 800, 2, &[("search", 30), ("calculator", 10)]);
        assert_eq!(alarms(&start, &start), []);
        assert_eq!(alarms(&start, &behaviour(44, 900, 3, &[("search", 25), ("calculator", 15)])), []);
        let names = |now: &Behaviour| -> Vec<String> {
            alarms(&start, now).into_iter().map(|alarm| alarm.figure).collect()
        };
        assert_eq!(
            names(&behaviour(24, 800, 1, &[("search", 30), ("calculator", 10)])),
            ["turns per rollout"]
        );
        assert_eq!(names(&behaviour(40, 200, 8, &start_tools())), ["tokens per plan", "format failures"]);
        assert_eq!(names(&behaviour(40, 800, 2, &[("calculator", 40)])), ["tool mix"]);
        let sure =
            |surprise| Behaviour { surprise, ..behaviour(40, 800, 2, &[("search", 30), ("calculator", 10)]) };
        for (before, now, alarmed) in
            [(80.0, 20.0, false), (80.0, 7.0, true), (80.0, 170.0, true), (0.0, 9.0, false)]
        {
            let named = |alarm: &Alarm| alarm.figure.starts_with("entropy");
            assert_eq!(alarms(&sure(before), &sure(now)).iter().any(named), alarmed, "{before} {now}");
        }
        let few = Behaviour { rollouts: 3, ..behaviour(9, 10, 9, &[]) };
        assert_eq!(alarms(&start, &few), [], "three rollouts say nothing");
    }

    fn start_tools() -> [(&'static str, usize); 2] {
        [("search", 30), ("calculator", 10)]
    }

    #[test]
    fn groups_show_missing_contrast_and_suspicious_rewards() {
        let mixed = [1.0, 0.0];
        let found = Groups::of([(&mixed[..], true), (&[0.0, 0.0], false), (&[], false)]);
        assert_eq!((found.groups, found.without_contrast, found.rewards), (2, 1, 4));
        assert_eq!((found.share_without_contrast(), found.reward_mean), (0.5, 0.25));
        assert!(!found.all_equal);
        assert!(Groups::of([(&[0.0, 0.0][..], false), (&[0.0], false)]).all_equal);
        assert!(!Groups::of([(&[0.0, 0.0][..], false)]).all_equal, "one easy question is no mistake");
    }

    #[test]
    fn flips_are_of_clear_majorities() {
        let answers = |text: &str| -> Vec<String> { text.chars().map(String::from).collect() };
        let pairs =
            [("aab", "abb"), ("aab", "aaa"), ("ab", "aa"), ("", "a")].map(|(a, b)| (answers(a), answers(b)));
        let found = Flips::of(pairs.iter().map(|(a, b)| (&a[..], &b[..])));
        assert_eq!(found, Flips { questions: 2, flipped: 1 });
    }

    /// Mean labels until the alarm, at a true failure rate.
    fn run_length(rate: f64) -> f64 {
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        let runs = 2_000;
        let mut labels = 0;
        for _ in 0..runs {
            let mut watch = Cusum { usual: 0.2, risen: 0.4, sum: 0.0, labels: 0 };
            while !watch.add(generator.random_bool(rate)) {}
            labels += watch.labels;
        }
        f64::from(labels as u32) / f64::from(runs)
    }

    #[test]
    fn cusum_alarms_as_often_as_stated() {
        let (falsely, truly) = (run_length(0.2), run_length(0.4));
        assert!((falsely - 265.0).abs() < 30.0, "a false alarm every {falsely}");
        assert!((truly - 23.0).abs() < 3.0, "a true one after {truly}");
    }

    #[test]
    fn cusum_is_silent_until_it_knows_what_is_usual() {
        assert_eq!(Cusum::new(6, 29), None);
        assert_eq!(Cusum::new(28, 30), None);
        let mut watch = Cusum::new(7, 38).unwrap();
        assert!((watch.usual - 0.2).abs() < 1e-12 && (watch.risen - 0.4).abs() < 1e-12);
        (0..100).for_each(|_| assert!(!watch.add(false)));
        assert_eq!(watch.sum, 0.0, "past successes buy no credit");
        assert!((0..5).map(|_| watch.add(true)).eq([false, false, false, false, true]));
        assert!(watch.add(false), "it stays on");
    }
}
