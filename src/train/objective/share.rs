//! Which tokens train, and each one's share c_k of the objective.
//!
//! Every group has its weight of the batch and every rollout of it an equal part, however many turns
//! or tokens it took. Inside a rollout:
//! - `flow`: each token 1 / token_denominator, so no token is worth less for standing in a long plan;
//! - `paper`: 1 / T_i over its turns, 1 / |a| over a turn's tokens;
//! - `reference`: none of this; every token of the batch alike.
//!
//! What is dropped is not made up for: the others' shares stay as they are.

use std::collections::BTreeMap;

use super::{Batch, Mode, ObjectiveError, Settings, k3};

/// Per target: its share and its rollout's advantage; None where it does not train.
pub(super) struct Shares {
    tokens: Vec<Option<(f64, f64)>>,
    pub counts: Counts,
}

#[derive(Default)]
pub(super) struct Counts {
    pub mismatch_mean: f64,
    pub mismatch_most: f64,
    pub tokens_forced: usize,
    pub turns_truncated: usize,
    pub rollouts_trained: usize,
    pub rollouts_dropped: usize,
    pub groups_trained: usize,
    pub groups_left_out: usize,
}

/// How far over the median makes an outlier.
const OUTLIER_FACTOR: f64 = 10.0;

impl Shares {
    pub fn new(settings: &Settings, batch: &Batch, old: &[f32]) -> Result<Shares, ObjectiveError> {
        let mut counts = Counts::default();
        let distances = mismatch(settings, batch, old, &mut counts)?;
        let advantages = standing(settings, batch, &distances, &mut counts);
        let units = Units::new(batch);
        let mut tokens = Vec::with_capacity(batch.forced.len());
        let mut trains = vec![false; batch.rollouts.len()];
        for (turn, range) in turns(batch) {
            let forced = &batch.forced[range];
            let sampled = forced.iter().filter(|forced| !**forced).count();
            counts.tokens_forced += forced.len() - sampled;
            counts.turns_truncated += usize::from(turn.truncated);
            let advantage = advantages[turn.rollout].filter(|_| !turn.truncated);
            trains[turn.rollout] |= advantage.is_some() && sampled > 0;
            let share = match settings.mode {
                Mode::Flow | Mode::Imitation => {
                    units.rollout(turn.rollout) / f64::from(settings.token_denominator)
                }
                Mode::Paper => units.turn(turn.rollout) / sampled.max(1) as f64,
                Mode::Reference => 1.0,
            };
            let token = |forced: &bool| advantage.filter(|_| !forced).map(|advantage| (share, advantage));
            tokens.extend(forced.iter().map(token));
        }
        if settings.mode == Mode::Reference {
            let n = tokens.iter().flatten().count().max(1) as f64;
            tokens.iter_mut().flatten().for_each(|(share, _)| *share = 1.0 / n);
        }
        let groups = || batch.rollouts.iter().zip(&trains).filter(|(_, trains)| **trains);
        counts.rollouts_trained = groups().count();
        counts.groups_trained =
            groups().map(|(rollout, _)| rollout.group).collect::<std::collections::BTreeSet<_>>().len();
        let shares = Shares { tokens, counts };
        shares.check()?;
        Ok(shares)
    }

    pub fn of_token(&self, at: usize) -> Option<(f64, f64)> {
        self.tokens[at]
    }

    fn check(&self) -> Result<(), ObjectiveError> {
        let mut advantages = self.tokens.iter().flatten().map(|(_, advantage)| *advantage).peekable();
        if advantages.peek().is_none() {
            return Err(ObjectiveError::NothingToLearn);
        }
        if advantages.all(|advantage| advantage < 0.0) { Err(ObjectiveError::OnlyNegatives) } else { Ok(()) }
    }
}

/// Turns with the range of their targets.
fn turns(batch: &Batch) -> impl Iterator<Item = (&super::Turn, std::ops::Range<usize>)> {
    let mut end = 0;
    batch.turns.iter().map(move |turn| {
        let start = end;
        end += turn.tokens;
        (turn, start..end)
    })
}

/// The self-test: sampler against trainer over all sampled tokens. Answers each rollout's mean k3(old, mu).
fn mismatch(
    settings: &Settings,
    batch: &Batch,
    old: &[f32],
    counts: &mut Counts,
) -> Result<Vec<f64>, ObjectiveError> {
    let (mut sum, mut n) = (0.0, 0);
    let mut rollouts = vec![(0.0, 0_usize); batch.rollouts.len()];
    for (turn, range) in turns(batch) {
        for at in range.filter(|at| !batch.forced[*at]) {
            let apart = f64::from(old[at]) - f64::from(batch.sampler[at]);
            sum += apart.abs();
            n += 1;
            counts.mismatch_most = counts.mismatch_most.max(apart.abs());
            let (k3_sum, tokens) = &mut rollouts[turn.rollout];
            // Samples are mu's: KL(mu || old) by k3 is exp(old - mu) - (old - mu) - 1.
            *k3_sum += k3(-apart);
            *tokens += 1;
        }
    }
    counts.mismatch_mean = if n == 0 { 0.0 } else { sum / f64::from(n) };
    if counts.mismatch_mean > f64::from(settings.mismatch_most) {
        let (mean, most) = (counts.mismatch_mean, settings.mismatch_most);
        return Err(ObjectiveError::Mismatch { mean, most, tokens: n as usize });
    }
    Ok(rollouts.into_iter().map(|(sum, tokens)| sum / tokens.max(1) as f64).collect())
}

/// Advantages of the rollouts that stay. Outliers go, and with them a group of which only one side is left.
fn standing(settings: &Settings, batch: &Batch, distances: &[f64], counts: &mut Counts) -> Vec<Option<f64>> {
    let mut advantages: Vec<Option<f64>> =
        batch.rollouts.iter().map(|rollout| rollout.advantage.map(f64::from)).collect();
    let Some(least) = settings.outlier_least else { return advantages };
    let mut sorted = distances.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    let bound = f64::from(least).max(OUTLIER_FACTOR * median);
    let sides = |advantages: &[Option<f64>], group: usize| {
        let own = batch.rollouts.iter().zip(advantages).filter(|(rollout, _)| rollout.group == group);
        let signs: Vec<f64> = own.filter_map(|(_, advantage)| *advantage).collect();
        (signs.iter().any(|a| *a > 0.0), signs.iter().any(|a| *a < 0.0))
    };
    let mut hit = BTreeMap::new();
    for (at, rollout) in batch.rollouts.iter().enumerate() {
        if advantages[at].is_some() && distances[at] > bound {
            hit.entry(rollout.group).or_insert_with(|| sides(&advantages, rollout.group));
            counts.rollouts_dropped += 1;
        }
    }
    for (advantage, distance) in advantages.iter_mut().zip(distances) {
        *advantage = advantage.filter(|_| *distance <= bound);
    }
    for (group, before) in hit {
        if before == (true, true) && sides(&advantages, group) != (true, true) {
            counts.groups_left_out += 1;
            let own = batch.rollouts.iter().zip(&mut advantages).filter(|(r, _)| r.group == group);
            own.for_each(|(_, advantage)| *advantage = None);
        }
    }
    advantages
}

/// A group's weight, parted evenly among its rollouts, and a rollout's among its turns.
struct Units {
    rollouts: Vec<f64>,
    turns: Vec<usize>,
}

impl Units {
    fn new(batch: &Batch) -> Units {
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        for rollout in batch.rollouts.iter().filter(|rollout| rollout.advantage.is_some()) {
            *sizes.entry(rollout.group).or_default() += 1;
        }
        let of = |rollout: &super::Rollout| {
            let size = sizes.get(&rollout.group);
            size.map_or(0.0, |size| f64::from(batch.weights[rollout.group]) / *size as f64)
        };
        let mut turns = vec![0; batch.rollouts.len()];
        batch.turns.iter().for_each(|turn| turns[turn.rollout] += 1);
        Units { rollouts: batch.rollouts.iter().map(of).collect(), turns }
    }

    fn rollout(&self, rollout: usize) -> f64 {
        self.rollouts[rollout]
    }

    fn turn(&self, rollout: usize) -> f64 {
        self.rollouts[rollout] / self.turns[rollout].max(1) as f64
    }
}
