//! What a step learns from: groups with their rewards, as rows of one policy; what cannot teach is named.
//!
//! One question counts one unit, however many rollouts a thumb reached or groups it was drawn in. Groups
//! without contrast are left out with the reason. Advantages are not computed here.

use serde::{Deserialize, Serialize};

use crate::engine::Role;
use crate::error::Error;
use crate::flow::trajectory::Trajectory;
use crate::store::{LabelValue, Source, Store};
use crate::train::reward::{Contrast, Rewards, contrast};
use crate::train::rollout::Group;
use crate::train::rows::{LeftOut, Policy, TrainGroup, TrainRollout, turns};

/// What a lone label counts for beside a group's unit: its baseline is a guess, not a measurement.
pub const LONE_WEIGHT: f64 = 0.25;

/// Labels the running baseline of lone labels looks back on.
pub const BASELINE_LABELS: usize = 64;

/// What became of one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupReport {
    pub group: String,
    pub question_id: String,
    pub rollouts: usize,
    /// Rollouts with a reward, and the words these rest on.
    pub reached: usize,
    pub words: usize,
    pub right: usize,
    pub wrong: usize,
    /// Why nothing is learned from it; None: it trains.
    pub without: Option<String>,
    /// What of it does not train although it was drawn.
    #[serde(default)]
    pub left: LeftOut,
}

impl GroupReport {
    /// What a step makes of it, in words.
    pub fn text(&self) -> String {
        // What came to no answer was never scored, and may still be under way.
        match (&self.without, LeftOut { failed: 0, ..self.left }.words()) {
            (Some(why), _) => why.clone(),
            (None, left) => {
                let left = if left.is_empty() { left } else { format!("; left out: {left}") };
                let (right, wrong) = (self.right, self.wrong);
                format!("a step learns from {right} right and {wrong} wrong rollouts of this question{left}")
            }
        }
    }
}

/// The rows of a step, and what was left out of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lesson {
    pub policy: Policy,
    pub groups: Vec<TrainGroup>,
    pub reports: Vec<GroupReport>,
    pub left: LeftOut,
    /// Mode `imitation`: a group whose rollouts are all right teaches too.
    pub imitates: bool,
}

impl Lesson {
    pub fn new(policy: Policy) -> Lesson {
        let left = LeftOut::default();
        Lesson { policy, groups: Vec::new(), reports: Vec::new(), left, imitates: false }
    }

    /// Add a group with its rewards, if it can teach.
    ///
    /// # Errors
    /// A rollout of it comes from another policy, or a reward is no number in 0..=1.
    pub fn add(&mut self, group: &Group, rewards: &Rewards) -> Result<(), Error> {
        finite(group, rewards)?;
        let (rollouts, left) = labelled(group, rewards, &self.policy)?;
        self.left.add(left);
        // Judged by what can train: a reward on a rollout that is left out is no contrast.
        let kept =
            Rewards { rewards: rollouts.iter().map(|rollout| rollout.reward).collect(), ..rewards.clone() };
        let (right, wrong, without) = match contrast(&kept) {
            Contrast::Some { right, wrong } => (right, wrong, None),
            Contrast::None(why) => {
                let right = kept.rewards.iter().flatten().filter(|reward| **reward > 0.5).count();
                let teaches = self.imitates && right > 0;
                // The labels alone may well tell its rollouts apart: then what was left out is the reason.
                let why = match left.words() {
                    words if words.is_empty() || kept.reached() == rewards.reached() => why,
                    words => format!("{why}; left out: {words}"),
                };
                (right, kept.reached() - right, (!teaches).then_some(why))
            }
        };
        if without.is_none() {
            self.groups.push(TrainGroup {
                question_id: group.question.id.clone(),
                source: rewards.source.unwrap_or(Source::Person),
                weight: 1.0,
                baseline: None,
                rollouts,
            });
            self.share(&group.question.id);
        }
        self.reports.push(GroupReport {
            group: group.id.clone(),
            question_id: group.question.id.clone(),
            rollouts: group.rollouts.len(),
            reached: rewards.reached(),
            words: rewards.words,
            right,
            wrong,
            without,
            left,
        });
        Ok(())
    }

    /// Mode D: one labelled trajectory against a running baseline, at a reduced rate.
    ///
    /// # Errors
    /// It comes from another policy, or cannot train at all; says why.
    pub fn add_lone(
        &mut self,
        trajectory: &Trajectory,
        question_id: &str,
        value: LabelValue,
        baseline: Baseline,
    ) -> Result<(), Error> {
        let before = self.left;
        let Some(turns) = turns(trajectory, &self.policy, &mut self.left)? else {
            let what = if self.left.failed > before.failed {
                "it did not end with an answer"
            } else {
                "its record holds no plan"
            };
            return Err(Error::Train(format!("a lone label cannot train: {what}")));
        };
        let reward = f64::from(u8::from(value == LabelValue::Good));
        self.groups.push(TrainGroup {
            question_id: question_id.to_string(),
            source: Source::Person,
            weight: LONE_WEIGHT,
            baseline: Some(baseline.mean),
            rollouts: vec![TrainRollout { trajectory: trajectory.id.clone(), turns, reward: Some(reward) }],
        });
        Ok(())
    }

    /// The last check before a step.
    ///
    /// # Errors
    /// Nothing to learn from, with every group's reason; or only negatives, which would push the planner away
    /// from what it does without saying where to.
    pub fn ready(&self) -> Result<(), Error> {
        if self.groups.is_empty() {
            let mut why: Vec<String> =
                self.reports.iter().filter_map(|report| report.without.clone()).collect();
            why.dedup();
            let none = "no group that was drawn with what plans now has some answers labelled good and others \
                        bad; roll a query out with it and label its answers";
            let why = if why.is_empty() { none.to_string() } else { why.join("; ") };
            return Err(Error::Train(why));
        }
        let positive = self.groups.iter().any(|group| {
            let mean = |group: &TrainGroup| {
                let known: Vec<f64> = group.rollouts.iter().filter_map(|rollout| rollout.reward).collect();
                known.iter().sum::<f64>() / known.len().max(1) as f64
            };
            let baseline = group.baseline.unwrap_or_else(|| mean(group));
            group.rollouts.iter().filter_map(|rollout| rollout.reward).any(|reward| reward > baseline)
        });
        if positive {
            return Ok(());
        }
        Err(Error::Train("only bad ones: nothing says what would be better; label something good too".into()))
    }

    /// All groups of one question share its unit.
    fn share(&mut self, question_id: &str) {
        let of = |group: &&mut TrainGroup| group.question_id == question_id && group.baseline.is_none();
        let count = self.groups.iter_mut().filter(of).count();
        for group in self.groups.iter_mut().filter(of) {
            group.weight = 1.0 / count as f64;
        }
    }
}

/// The rollouts a reward reaches, as rows.
fn labelled(
    group: &Group,
    rewards: &Rewards,
    policy: &Policy,
) -> Result<(Vec<TrainRollout>, LeftOut), Error> {
    let (mut out, mut left) = (Vec::new(), LeftOut::default());
    // What is worth more than this is reinforced, the rest punished; among equals nothing is.
    let middle = if rewards.graded() { rewards.mean() } else { 0.5 };
    for (place, rollout) in group.rollouts.iter().enumerate() {
        let Some(mut rows) = turns(&rollout.trajectory, policy, &mut left)? else { continue };
        let Some(reward) = rewards.rewards.get(place).copied().flatten() else { continue };
        // Who writes a page must not choose what the planner learns: only a person's word on this very
        // trajectory lets it in.
        if rollout.trajectory.taint().outside && !rewards.labelled.contains(&place) {
            left.tainted += 1;
            continue;
        }
        // A turn called bad is never reinforced, one called good never punished, whatever came of it.
        for (at, turn, value) in &rewards.turns {
            let against = (*value == LabelValue::Good) != (reward > middle);
            if *at == place && against {
                rows.iter_mut().filter(|row| row.turn == *turn).for_each(|row| row.trains.fill(false));
            }
        }
        out.push(TrainRollout {
            trajectory: rollout.trajectory.id.clone(),
            turns: rows,
            reward: Some(reward),
        });
    }
    Ok((out, left))
}

fn finite(group: &Group, rewards: &Rewards) -> Result<(), Error> {
    match rewards.rewards.iter().flatten().find(|reward| !(0.0..=1.0).contains(*reward)) {
        Some(bad) => {
            Err(Error::Train(format!("group {}: a reward of {bad} is none; it lies in 0..=1", group.id)))
        }
        None => Ok(()),
    }
}

/// Running mean of rewards that lone labels are measured against: (good + 1) / (n + 2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Baseline {
    pub mean: f64,
    /// Labels it rests on.
    pub n: usize,
}

impl Baseline {
    pub fn of(values: &[LabelValue]) -> Baseline {
        let good = values.iter().filter(|value| **value == LabelValue::Good).count();
        Baseline { mean: (good + 1) as f64 / (values.len() + 2) as f64, n: values.len() }
    }

    /// From the person's newest answer labels.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn of_store(store: &Store) -> Result<Baseline, Error> {
        Ok(Baseline::of(&store.recent_values(BASELINE_LABELS)?))
    }
}

impl Policy {
    /// The policy that drew a group: that of its first planner call. None: nothing was planned.
    pub fn of(group: &Group) -> Option<Policy> {
        group.rollouts.iter().find_map(|rollout| {
            let call = rollout.trajectory.calls.iter().find(|call| call.role == Role::Planner)?;
            Some(Policy {
                model: rollout.trajectory.model.hash.clone(),
                adapter: call.completion.adapter.clone(),
                temperature: call.request.sampler.temperature,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LedgerEntry;
    use crate::tools::Taint;
    use crate::train::reward::tests::group;
    use crate::train::reward::{Known, rewards};
    use crate::train::rows::tests::{policy, trajectory};

    fn lesson(groups: &[(Group, Rewards)]) -> Lesson {
        let mut lesson = Lesson::new(policy());
        groups.iter().for_each(|(group, rewards)| lesson.add(group, rewards).unwrap());
        lesson
    }

    fn known(answer: &str) -> Known {
        let ledger = vec![LedgerEntry {
            canonical_answer: answer.into(),
            value: LabelValue::Good,
            source: Source::Person,
            label: 1,
            typed: false,
        }];
        Known { ledger, labels: vec![] }
    }

    fn labelled_group(answers: &[&str]) -> (Group, Rewards) {
        let group = group(answers);
        let rewards = rewards(&group, &known("42"));
        (group, rewards)
    }

    #[test]
    fn a_failed_turn_costs_a_right_rollout_where_its_siblings_did_without() {
        let (group, _) = labelled_group(&["42", "42", "42"]);
        let mut rewards = Rewards { rewards: vec![Some(1.0); 3], ..Rewards::default() };
        rewards.turns = vec![(1, 1, LabelValue::Bad)];
        let add = |rewards: &Rewards| {
            let mut lesson = Lesson::new(policy());
            lesson.add(&group, rewards).unwrap();
            lesson
        };
        let trains = |lesson: &Lesson, place: usize| {
            let first = lesson.groups[0].rollouts[place].turns.iter().filter(|turn| turn.turn == 1);
            first.flat_map(|turn| &turn.trains).any(|trains| *trains)
        };
        assert!(add(&rewards).groups.is_empty(), "all right, and nothing charged");
        rewards.charge(0.2);
        assert_eq!(rewards.rewards, [Some(1.0), Some(0.8), Some(1.0)]);
        let lesson = add(&rewards);
        assert!(
            (lesson.reports[0].right, lesson.reports[0].wrong) == (3, 0)
                && lesson.reports[0].without.is_none()
        );
        assert!(trains(&lesson, 1), "the failed turn is what is to be unlearned");
        // Beside wrong answers the same rollout is reinforced, and its failed turn is not.
        rewards.rewards = vec![Some(0.0), Some(1.0), Some(0.0)];
        rewards.charge(0.2);
        let lesson = add(&rewards);
        assert!(!trains(&lesson, 1) && trains(&lesson, 0));
        // A wrong answer cannot cost more.
        rewards.rewards = vec![Some(1.0), Some(0.0), Some(0.0)];
        rewards.charge(0.2);
        assert_eq!(rewards.rewards, [Some(1.0), Some(0.0), Some(0.0)]);
    }

    #[test]
    fn a_group_with_contrast_trains_and_both_counts_are_reported() {
        let lesson = lesson(&[labelled_group(&["42", "42", "7", "!"])]);
        lesson.ready().unwrap();
        let group = &lesson.groups[0];
        assert_eq!(group.rollouts.len(), 3, "the failed one is left out");
        assert_eq!(
            group.rollouts.iter().map(|r| r.reward).collect::<Vec<_>>(),
            [Some(1.0), Some(1.0), Some(0.0)]
        );
        let report = &lesson.reports[0];
        assert_eq!((report.rollouts, report.reached, report.words), (4, 3, 1));
        assert_eq!((report.right, report.wrong, lesson.left.failed), (2, 1, 1));
        assert_eq!(Policy::of(&labelled_group(&["42"]).0), Some(policy()));
    }

    #[test]
    fn one_question_is_one_unit_of_weight() {
        let mut lesson = lesson(&[labelled_group(&["42", "7"]), labelled_group(&["42", "42", "42", "7"])]);
        assert_eq!(lesson.groups.iter().map(|group| group.weight).collect::<Vec<_>>(), [0.5, 0.5]);
        let (mut other, rewards) = labelled_group(&["42", "7"]);
        other.question.id = "another".into();
        lesson.add(&other, &rewards).unwrap();
        assert_eq!(lesson.groups.iter().map(|group| group.weight).sum::<f64>(), 2.0);
    }

    #[test]
    fn a_group_without_contrast_is_refused_with_its_reason() {
        let lesson = lesson(&[labelled_group(&["42", "42"])]);
        assert!(lesson.groups.is_empty());
        let told = lesson.ready().unwrap_err().to_string();
        assert!(told.contains("nothing is learned, because all 2 labelled rollouts are right"), "{told}");
        // The only wrong one failed, so what can train has no contrast.
        let (group, mut rewards) = labelled_group(&["42", "42", "!"]);
        rewards.rewards[2] = Some(0.0);
        assert!(Lesson::new(policy()).tap(&group, &rewards).groups.is_empty());
    }

    impl Lesson {
        fn tap(mut self, group: &Group, rewards: &Rewards) -> Lesson {
            self.add(group, rewards).unwrap();
            self
        }
    }

    #[test]
    fn a_tainted_rollout_trains_only_on_a_persons_own_word() {
        let (mut group, rewards) = labelled_group(&["42", "7", "7"]);
        for rollout in &mut group.rollouts[..2] {
            rollout.trajectory.inherited = Taint { outside: true, private: false };
        }
        let lesson = Lesson::new(policy()).tap(&group, &rewards);
        assert!(lesson.groups.is_empty(), "the right one is left out, so there is no contrast");
        assert_eq!(lesson.left.tainted, 2);
        // Whoever labelled hears why, with the count, not that all their labels are alike.
        let told = lesson.ready().unwrap_err().to_string();
        assert!(told.contains("2 rollouts met text from outside"), "{told}");
        let rewards = Rewards { labelled: vec![0], ..rewards };
        let lesson = Lesson::new(policy()).tap(&group, &rewards);
        let kept: Vec<&str> = lesson.groups[0].rollouts.iter().map(|r| r.trajectory.as_str()).collect();
        assert_eq!((kept, lesson.left.tainted), (vec!["t0", "t2"], 1));
        let told = lesson.reports[0].text();
        assert!(told.starts_with("a step learns from 1 right and 1 wrong rollouts"), "{told}");
        assert!(told.contains("left out: 1 rollout met text from outside"), "{told}");
        // Private reading alone poisons nothing.
        group.rollouts[1].trajectory.inherited = Taint { outside: false, private: true };
        assert_eq!(Lesson::new(policy()).tap(&group, &rewards).left.tainted, 0);
    }

    #[test]
    fn no_number_is_no_reward() {
        let (group, rewards) = labelled_group(&["42", "7"]);
        for bad in [f64::NAN, f64::INFINITY, -0.1, 1.1] {
            let rewards = Rewards { rewards: vec![Some(bad), Some(0.0)], ..rewards.clone() };
            let told = Lesson::new(policy()).add(&group, &rewards).unwrap_err().to_string();
            assert!(told.contains("0..=1"), "{told}");
        }
    }

    #[test]
    fn a_judged_turn_does_not_learn_the_opposite() {
        let (group, mut rewards) = labelled_group(&["42", "7"]);
        rewards.turns = vec![(0, 1, LabelValue::Bad), (0, 2, LabelValue::Good), (1, 1, LabelValue::Good)];
        let lesson = Lesson::new(policy()).tap(&group, &rewards);
        let trains = |rollout: usize, turn: usize| {
            lesson.groups[0].rollouts[rollout].turns[turn].trains.contains(&true)
        };
        assert_eq!([trains(0, 0), trains(0, 1), trains(1, 0), trains(1, 1)], [false, true, false, true]);
    }

    #[test]
    fn a_lone_label_counts_less_and_never_only_against() {
        let baseline = Baseline::of(&[LabelValue::Good, LabelValue::Bad]);
        assert_eq!((baseline.mean, baseline.n), (0.5, 2));
        assert_eq!(Baseline::of(&[]).mean, 0.5);
        let mut lesson = Lesson::new(policy());
        lesson.add_lone(&trajectory("a", "1"), "q1", LabelValue::Bad, baseline).unwrap();
        assert!(lesson.ready().unwrap_err().to_string().contains("only bad ones"));
        lesson.add_lone(&trajectory("b", "2"), "q2", LabelValue::Good, baseline).unwrap();
        lesson.ready().unwrap();
        assert_eq!(lesson.groups.iter().map(|group| group.weight).sum::<f64>(), 2.0 * LONE_WEIGHT);
        let failed = Trajectory::default();
        assert!(lesson.add_lone(&failed, "q3", LabelValue::Bad, baseline).is_err());
    }
}
