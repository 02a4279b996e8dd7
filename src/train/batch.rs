//! From groups of rows to what a training step needs: one prefix tree and the columns of its objective.
//!
//! Advantages are given here; what teaches nothing (no contrast, no reward) is counted and not computed.

use crate::error::Error;
use crate::store::Source;
use crate::train::advantage::{self, Mode, Outcome, Rated, Scaling};
use crate::train::objective::{Batch, Rollout, Turn};
use crate::train::rows::TrainGroup;
use crate::train::tree::{Row, Tree};

/// A batch before its log-probabilities: `objective.old` and `objective.reference` are still None.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prepared {
    pub tree: Tree,
    pub objective: Batch,
    /// Per row of the tree, where it comes from.
    pub places: Vec<Place>,
    /// Per group given, in order.
    pub groups: Vec<advantage::Group>,
    /// Tokens of all rows, one after the other; over the tree's, that is what sharing saves.
    pub tokens_separate: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub group: usize,
    pub rollout: usize,
    pub turn: usize,
}

/// Put `groups` into one batch. A question has one unit of weight; units of all questions that teach make 1.
///
/// # Errors
/// [`Error::Train`] for rewards, weights or columns that cannot be.
pub fn prepare(groups: &[TrainGroup], mode: Mode) -> Result<Prepared, Error> {
    let mut prepared = Prepared::default();
    let mut rows = Vec::new();
    let mut questions = std::collections::BTreeSet::new();
    for (index, group) in groups.iter().enumerate() {
        let rated = advantages(group, mode)
            .map_err(|error| Error::Train(format!("question {}: {error}", group.question_id)))?;
        let teaches = rated.advantages.iter().any(Option::is_some);
        if teaches {
            questions.insert(group.question_id.as_str());
            let place = prepared.objective.weights.len();
            prepared.objective.weights.push(group.weight as f32);
            for (rollout, advantage) in rated.advantages.iter().enumerate() {
                let Some(advantage) = advantage else { continue };
                let own = Rollout { group: place, advantage: Some(*advantage) };
                prepared.objective.rollouts.push(own);
                add_turns(&mut prepared, &mut rows, group, Place { group: index, rollout, turn: 0 })?;
            }
        }
        prepared.groups.push(rated);
    }
    let share = 1.0 / questions.len().max(1) as f32;
    prepared.objective.weights.iter_mut().for_each(|weight| *weight *= share);
    prepared.tokens_separate = rows.iter().map(|row| row.prompt.len() + row.sampled.len() - 1).sum();
    prepared.tree = Tree::build(&rows);
    Ok(prepared)
}

fn advantages(group: &TrainGroup, mode: Mode) -> Result<advantage::Group, advantage::AdvantageError> {
    let rated = group.rollouts.iter().map(|rollout| Rated {
        outcome: rollout.reward.map_or(Outcome::Unlabelled, |reward| Outcome::Reward(reward as f32)),
        turns: rollout.turns.len(),
    });
    let scaling = Scaling { mode, person: group.source == Source::Person, ..Scaling::default() };
    let mut found = advantage::group(&scaling, &rated.collect::<Vec<_>>())?;
    if let Some(baseline) = group.baseline {
        for (advantage, rollout) in found.advantages.iter_mut().zip(&group.rollouts) {
            let lone = rollout.reward.map(|reward| advantage::lone(reward as f32, baseline as f32));
            *advantage = lone.transpose()?;
        }
    }
    Ok(found)
}

/// The rows of one rollout. A turn in which nothing was sampled is none.
fn add_turns(
    prepared: &mut Prepared,
    rows: &mut Vec<Row>,
    group: &TrainGroup,
    place: Place,
) -> Result<(), Error> {
    let rollout = &group.rollouts[place.rollout];
    let columns = &mut prepared.objective;
    for (index, turn) in rollout.turns.iter().enumerate().filter(|(_, turn)| !turn.sampled.is_empty()) {
        let tokens = turn.sampled.len();
        if turn.mu.len() != tokens || turn.trains.len() != tokens || turn.prompt.is_empty() {
            let reason = format!(
                "turn {} of rollout {} has {} prompt ids, {tokens} sampled ids, {} log-probabilities and {} marks",
                turn.turn,
                rollout.trajectory,
                turn.prompt.len(),
                turn.mu.len(),
                turn.trains.len()
            );
            return Err(Error::Train(reason));
        }
        // Truncated turns come with every token masked.
        columns.turns.push(Turn { rollout: columns.rollouts.len() - 1, tokens, truncated: false });
        columns.sampler.extend(&turn.mu);
        columns.forced.extend(turn.trains.iter().map(|trains| !trains));
        rows.push(Row { prompt: turn.prompt.clone(), sampled: turn.sampled.clone() });
        prepared.places.push(Place { turn: index, ..place });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::objective::{Settings, evaluate};
    use crate::train::rows::{TrainRollout, TrainTurn};

    fn turn(prompt: &[i32], sampled: &[i32]) -> TrainTurn {
        let n = sampled.len();
        TrainTurn {
            prompt: prompt.to_vec(),
            sampled: sampled.to_vec(),
            mu: (0..n).map(|at| -0.5 - at as f32).collect(),
            trains: vec![true; n],
            turn: 1,
        }
    }

    fn group(question: &str, rewards: &[Option<f64>]) -> TrainGroup {
        let rollout = |(index, reward): (usize, &Option<f64>)| TrainRollout {
            trajectory: format!("r{index}"),
            turns: vec![turn(&[1, 2, 3], &[4, 5 + index as i32]), turn(&[1, 2, 3, 9], &[6])],
            reward: *reward,
        };
        TrainGroup {
            question_id: question.into(),
            source: Source::Checker,
            weight: 1.0,
            baseline: None,
            rollouts: rewards.iter().enumerate().map(rollout).collect(),
        }
    }

    #[test]
    fn groups_become_one_tree_and_its_columns() {
        let mut groups = [
            group("a", &[Some(1.0), None, Some(0.0)]),
            group("b", &[Some(1.0), Some(1.0)]),
            group("c", &[Some(0.0), Some(1.0)]),
        ];
        groups[0].rollouts[2].turns[0].trains[1] = false;
        let prepared = prepare(&groups, Mode::Paper).unwrap();
        let columns = &prepared.objective;
        assert_eq!(columns.weights, [0.5, 0.5], "b teaches nothing and takes no weight");
        assert_eq!((columns.rollouts.len(), columns.turns.len(), columns.sampler.len()), (4, 8, 12));
        assert_eq!(prepared.tree.targets.len(), 12);
        assert_eq!(prepared.places[2], Place { group: 0, rollout: 2, turn: 0 });
        assert_eq!(prepared.places[7], Place { group: 2, rollout: 1, turn: 1 });
        // 1 2 3, then 4, or 9: five nodes for four rollouts.
        assert_eq!((prepared.tree.tokens.len(), prepared.tokens_separate), (5, 32));
        assert_eq!(prepared.groups[1].advantages, [None, None]);
        let settings = Settings { kl_beta: 0.0, ..Settings::of(Mode::Paper) };
        let found = evaluate(&settings, columns, &columns.sampler).unwrap();
        assert_eq!((found.coefficients[4], found.stats.tokens_forced), (0.0, 1));
        let total: f32 = found.coefficients.iter().map(|c| c.abs()).sum();
        let advantage = 0.5_f32 / 0.5_f32.sqrt();
        assert!((total - advantage).abs() < 1e-6, "units of weight: {total} for {advantage}");
    }

    #[test]
    fn a_lone_label_teaches_against_its_baseline() {
        let mut lone = group("a", &[Some(1.0)]);
        (lone.baseline, lone.weight) = (Some(0.25), 0.5);
        let prepared = prepare(&[lone], Mode::Flow).unwrap();
        assert_eq!(prepared.objective.rollouts[0].advantage, Some(0.75));
        assert_eq!(prepared.objective.weights, [0.5], "alone in its batch it still counts half");
    }

    #[test]
    fn columns_of_other_lengths_and_bad_rewards_are_refused() {
        let refused = |change: fn(&mut TrainGroup), needle: &str| {
            let mut group = group("a", &[Some(1.0), Some(0.0)]);
            change(&mut group);
            let told = prepare(&[group], Mode::Flow).unwrap_err().to_string();
            assert!(told.contains(needle), "{told}");
        };
        refused(|g| _ = g.rollouts[1].turns[0].mu.pop(), "1 log-probabilities");
        refused(|g| g.rollouts[1].turns[0].prompt.clear(), "0 prompt ids");
        refused(|g| g.rollouts[1].reward = Some(f64::NAN), "question a: rollout 1 has reward NaN");
        refused(|g| g.rollouts[1].turns.clear(), "no planner turn");
    }
}
