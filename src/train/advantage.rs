//! What a rollout's outcome is worth beside its group's: A_i = (R_i - mean R) / max(std R, floor).
//!
//! Statistics run over rollouts, never over turns (mode `reference` does, as the released code; that is
//! why it drifts toward short trajectories). Missing labels and failed rollouts leave the group: neither is
//! reward 0. A group without contrast teaches nothing. f32 in and out, sums in f64.

use serde::{Deserialize, Serialize};

pub use crate::config::Mode;

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// A person's label, a checker's or a judge's word.
    Reward(f32),
    /// Nobody has said anything yet.
    Unlabelled,
    /// Crashed or cancelled: says nothing about the planner.
    Failed,
}

/// A rollout as the statistics see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rated {
    pub outcome: Outcome,
    /// Planner turns; only mode `reference` looks at them.
    pub turns: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    pub mode: Mode,
    /// The rewards are a person's labels: mode `flow` then only centres them. Dividing by the spread would
    /// pay a question more for being easy or hard.
    pub person: bool,
    /// Smallest standard deviation divided by, in units of reward.
    pub std_floor: f32,
    /// Rewards that lie within this of each other are no contrast: a judge's 0.71 and 0.72 are noise.
    pub contrast_least: f32,
}

/// [`Scaling::contrast_least`] where nothing else is said.
pub const CONTRAST_LEAST: f32 = 0.05;

impl Default for Scaling {
    fn default() -> Scaling {
        Scaling { mode: Mode::Flow, person: false, std_floor: 0.2, contrast_least: CONTRAST_LEAST }
    }
}

/// The advantages of one group and how they came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Per rollout; None for one that teaches nothing: unlabelled, failed, or no contrast in the group.
    pub advantages: Vec<Option<f32>>,
    /// Rollouts with a reward, and those left out.
    pub rewarded: usize,
    pub unlabelled: usize,
    pub failed: usize,
    /// Over what the mode takes statistics of; 0 where nothing has a reward.
    pub mean: f32,
    /// n-1; 0 for less than two.
    pub std: f32,
    /// Something is learned from it.
    pub contrast: bool,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AdvantageError {
    #[error("rollout {rollout} has reward {reward}; a reward is a finite number, or missing")]
    NotFinite { rollout: usize, reward: f32 },
    #[error("rollout {rollout} has a reward and no planner turn; such a rollout has failed")]
    NoTurns { rollout: usize },
    #[error("{setting} is {value}; a finite number of at least 0 is needed")]
    Setting { setting: &'static str, value: f32 },
}

/// Advantages of one question's rollouts.
///
/// # Errors
/// [`AdvantageError`]: nothing of the group may train then.
pub fn group(scaling: &Scaling, rollouts: &[Rated]) -> Result<Group, AdvantageError> {
    for (setting, value) in [("std_floor", scaling.std_floor), ("contrast_least", scaling.contrast_least)] {
        if !value.is_finite() || value < 0.0 {
            return Err(AdvantageError::Setting { setting, value });
        }
    }
    // (reward, how often it is counted)
    let mut counted = Vec::new();
    for (index, rollout) in rollouts.iter().enumerate() {
        let Outcome::Reward(reward) = rollout.outcome else { continue };
        if !reward.is_finite() {
            return Err(AdvantageError::NotFinite { rollout: index, reward });
        }
        if rollout.turns == 0 {
            return Err(AdvantageError::NoTurns { rollout: index });
        }
        let times = if scaling.mode == Mode::Reference { rollout.turns } else { 1 };
        counted.push((f64::from(reward), times as f64));
    }
    let (mean, std) = mean_and_std(&counted);
    let rewards = || counted.iter().map(|(reward, _)| *reward);
    let range = rewards().fold(f64::MIN, f64::max) - rewards().fold(f64::MAX, f64::min);
    if scaling.mode == Mode::Imitation {
        return Ok(imitation(rollouts, scaling, &counted, (mean, std)));
    }
    let contrast = counted.len() > 1 && range > 0.0 && range >= f64::from(scaling.contrast_least);
    let divisor = match scaling.mode {
        Mode::Flow if scaling.person => 1.0,
        // A floor of 0 leaves the range to keep this from 0.
        Mode::Flow | Mode::Paper => std.max(f64::from(scaling.std_floor)),
        Mode::Reference | Mode::Imitation => std + 1e-6,
    };
    let advantage = |rollout: &Rated| match rollout.outcome {
        Outcome::Reward(reward) if contrast => Some(((f64::from(reward) - mean) / divisor) as f32),
        _ => None,
    };
    let advantages = rollouts.iter().map(advantage).collect();
    Ok(Group::of(rollouts, advantages, counted.len(), (mean, std), contrast))
}

/// Rejection sampling: a right rollout is worth 1, every other one teaches nothing. No sibling is needed.
fn imitation(rollouts: &[Rated], scaling: &Scaling, counted: &[(f64, f64)], about: (f64, f64)) -> Group {
    let least = 0.5 + scaling.contrast_least / 2.0;
    let advantage = |rollout: &Rated| match rollout.outcome {
        Outcome::Reward(reward) if reward >= least => Some(1.0),
        _ => None,
    };
    let advantages: Vec<Option<f32>> = rollouts.iter().map(advantage).collect();
    let some = advantages.iter().any(Option::is_some);
    Group::of(rollouts, advantages, counted.len(), about, some)
}

impl Group {
    fn of(
        rollouts: &[Rated],
        advantages: Vec<Option<f32>>,
        rewarded: usize,
        (mean, std): (f64, f64),
        contrast: bool,
    ) -> Group {
        let count = |wanted: Outcome| rollouts.iter().filter(|rollout| rollout.outcome == wanted).count();
        let (unlabelled, failed) = (count(Outcome::Unlabelled), count(Outcome::Failed));
        Group { advantages, rewarded, unlabelled, failed, mean: mean as f32, std: std as f32, contrast }
    }
}

/// Weighted mean and n-1 standard deviation of (value, count).
fn mean_and_std(counted: &[(f64, f64)]) -> (f64, f64) {
    let n: f64 = counted.iter().map(|(_, times)| times).sum();
    if n == 0.0 {
        return (0.0, 0.0);
    }
    let mean = counted.iter().map(|(value, times)| value * times).sum::<f64>() / n;
    let squares: f64 = counted.iter().map(|(value, times)| times * (value - mean).powi(2)).sum();
    (mean, if n > 1.0 { (squares / (n - 1.0)).sqrt() } else { 0.0 })
}

/// Advantage of a lone label against the running mean of labels: there is no sibling to compare it with. The
/// group's weight makes up for how little such a baseline knows.
///
/// # Errors
/// [`AdvantageError::NotFinite`].
pub fn lone(reward: f32, baseline: f32) -> Result<f32, AdvantageError> {
    match [reward, baseline].into_iter().find(|value| !value.is_finite()) {
        Some(value) => Err(AdvantageError::NotFinite { rollout: 0, reward: value }),
        None => Ok((reward - baseline).clamp(-1.0, 1.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rated(rewards: &[f32], turns: &[usize]) -> Vec<Rated> {
        let rated =
            |(reward, turns): (&f32, &usize)| Rated { outcome: Outcome::Reward(*reward), turns: *turns };
        rewards.iter().zip(turns).map(rated).collect()
    }

    fn advantages(scaling: Scaling, rollouts: &[Rated]) -> Vec<f32> {
        group(&scaling, rollouts).unwrap().advantages.into_iter().map(|a| a.unwrap_or(f32::NAN)).collect()
    }

    fn mode(mode: Mode) -> Scaling {
        Scaling { mode, ..Scaling::default() }
    }

    /// The design page's golden cases, exact to their two digits.
    #[test]
    fn golden_advantages_over_turn_rows_and_over_rollouts() {
        let one = [1.0, 0.0, 0.0, 0.0];
        let two = [1.0, 1.0, 0.0, 0.0];
        #[rustfmt::skip]
        let cases = [
            (one, [1, 3, 3, 3_usize], [2.85, -0.32, -0.32, -0.32], [1.5, -0.5, -0.5, -0.5]),
            (one, [3, 1, 1, 1], [0.91, -0.91, -0.91, -0.91], [1.5, -0.5, -0.5, -0.5]),
            (two, [1, 1, 3, 3], [1.62, 1.62, -0.54, -0.54], [0.87, 0.87, -0.87, -0.87]),
            (two, [3, 3, 1, 1], [0.54, 0.54, -1.62, -1.62], [0.87, 0.87, -0.87, -0.87]),
        ];
        for (rewards, turns, over_rows, over_rollouts) in cases {
            let rollouts = rated(&rewards, &turns);
            for (chosen, expected) in
                [(Mode::Reference, over_rows), (Mode::Paper, over_rollouts), (Mode::Flow, over_rollouts)]
            {
                let found = advantages(mode(chosen), &rollouts);
                for (found, expected) in found.iter().zip(expected) {
                    let close = (found - expected).abs() < 0.005;
                    assert!(close, "{chosen:?} {rewards:?} {turns:?}: {found} for {expected}");
                }
            }
        }
    }

    #[test]
    fn a_persons_labels_are_centred_and_not_divided() {
        let person = Scaling { person: true, ..Scaling::default() };
        assert_eq!(advantages(person, &rated(&[1.0, 0.0, 0.0, 0.0], &[2; 4])), [0.75, -0.25, -0.25, -0.25]);
        // The better of two, as a pair is labelled.
        assert_eq!(advantages(person, &rated(&[1.0, 0.0], &[1, 4])), [0.5, -0.5]);
    }

    #[test]
    fn a_small_spread_is_not_blown_up() {
        let judged = rated(&[0.71, 0.72], &[1, 1]);
        let no_contrast = group(&Scaling::default(), &judged).unwrap();
        assert!(!no_contrast.contrast);
        assert_eq!(no_contrast.advantages, [None, None]);
        // Over the tolerance the floor holds: without it these were +-0.71.
        let found = advantages(Scaling::default(), &rated(&[0.6, 0.7], &[1, 1]));
        assert!(found.iter().all(|a| (a.abs() - 0.25).abs() < 1e-5), "{found:?}");
    }

    #[test]
    fn missing_and_failed_are_not_zero() {
        let mut rollouts = rated(&[1.0, 0.0, 9.0, 9.0], &[1; 4]);
        rollouts[2].outcome = Outcome::Failed;
        rollouts[3].outcome = Outcome::Unlabelled;
        let found = group(&Scaling { person: true, ..Scaling::default() }, &rollouts).unwrap();
        assert_eq!(found.advantages, [Some(0.5), Some(-0.5), None, None]);
        assert_eq!((found.rewarded, found.unlabelled, found.failed, found.mean), (2, 1, 1, 0.5));
        // Were the failure a 0, a lone success would find contrast in it.
        rollouts[1].outcome = Outcome::Failed;
        assert_eq!(group(&Scaling::default(), &rollouts).unwrap().advantages, [None; 4]);
    }

    #[test]
    fn groups_without_contrast_and_singletons_teach_nothing_in_any_mode() {
        for chosen in [Mode::Flow, Mode::Paper, Mode::Reference] {
            for rewards in [&[1.0; 4][..], &[0.0; 4], &[1.0], &[]] {
                // Turns differ, so that rows of one rollout cannot pass for contrast.
                let found = group(&mode(chosen), &rated(rewards, &[3, 1, 2, 2])).unwrap();
                assert!(!found.contrast && found.advantages.iter().all(Option::is_none), "{chosen:?}");
            }
        }
    }

    #[test]
    fn imitation_copies_the_right_ones_and_nothing_else() {
        let mut rollouts = rated(&[1.0, 0.0, 1.0, 1.0], &[1, 2, 3, 1]);
        rollouts[3].outcome = Outcome::Failed;
        let found = group(&mode(Mode::Imitation), &rollouts).unwrap();
        assert_eq!(found.advantages, [Some(1.0), None, Some(1.0), None]);
        // Alike groups teach too, as long as they are right.
        assert!(group(&mode(Mode::Imitation), &rated(&[1.0, 1.0], &[1, 1])).unwrap().contrast);
        assert!(!group(&mode(Mode::Imitation), &rated(&[0.0, 0.0], &[1, 1])).unwrap().contrast);
    }

    #[test]
    fn rewards_that_are_no_numbers_are_refused() {
        for reward in [f32::NAN, f32::INFINITY] {
            let refused = group(&Scaling::default(), &rated(&[0.0, reward], &[1, 1]));
            assert!(matches!(refused, Err(AdvantageError::NotFinite { rollout: 1, .. })), "{refused:?}");
            assert!(lone(reward, 0.5).is_err());
        }
        assert_eq!(
            group(&Scaling::default(), &rated(&[0.0, 1.0], &[1, 0])),
            Err(AdvantageError::NoTurns { rollout: 1 })
        );
        let scaling = Scaling { std_floor: f32::NAN, ..Scaling::default() };
        assert!(matches!(group(&scaling, &[]), Err(AdvantageError::Setting { .. })));
    }

    #[test]
    fn a_lone_label_counts_against_what_is_usual() {
        assert_eq!(lone(1.0, 0.75), Ok(0.25));
        assert_eq!(lone(0.0, 0.75), Ok(-0.75));
        assert_eq!(lone(5.0, 0.5), Ok(1.0));
        assert!(lone(1.0, f32::NAN).is_err());
    }
}
