//! What each sampled token is worth: the clipped objective of Flow-GRPO as a function of log-probabilities.
//!
//! ```text
//! J = sum_k c_k [ w_k min(rho_k A, clip(rho_k, 1 - clip_low, 1 + clip_high) A) - kl_beta v_k k3_k ]
//! rho = exp(logp - logp_old)     w = min(exp(logp_old - mu), 2)     v = min(exp(logp - mu), 2)
//! k3  = exp(ref - logp) - (ref - logp) - 1
//! ```
//! w and v do not move with the policy (stop-gradient). Each token's share c_k is `share`'s. The KL's value is
//! k3, its gradient k2's, logp - ref: under the policy's own samples that is the gradient of KL(policy || ref),
//! while k3's is that of the other direction (mode `reference` keeps k3's, as the released code).
//! Source: arXiv 2510.05592, 2402.03300 (k3), 1912.09729 (dual clip). Numbers f32 outside, f64 inside.
//!
//! It knows no model and no adapter: log-probabilities in, dJ/dlogp out.

mod share;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use crate::train::advantage::Mode;
use share::Shares;

/// Differences of log-probabilities are cut here before `exp`, as everybody does.
const LOG_RATIO_MOST: f64 = 20.0;

/// Whose gradient the KL penalty has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlGradient {
    K2,
    K3,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub mode: Mode,
    pub clip_low: f32,
    pub clip_high: f32,
    /// With a negative advantage the objective falls no lower than this many advantages.
    pub dual_clip: Option<f32>,
    /// 0: no KL, and no reference log-probabilities needed.
    pub kl_beta: f32,
    pub kl_gradient: KlGradient,
    /// Cap of the correction for what the sampler computed otherwise; None: no correction.
    pub correction_most: Option<f32>,
    /// A rollout whose mean k3(old, mu) is over this, in nats per token, and over ten times the batch's
    /// median is left out; None: none is.
    pub outlier_least: Option<f32>,
    /// Mean |logp_old - mu| above this refuses the batch: sampler and trainer are not the same policy.
    pub mismatch_most: f32,
    /// Tokens that count as one unit in mode `flow`, whatever a rollout's length.
    pub token_denominator: f32,
}

impl Settings {
    /// The mode's own settings. The paper names no clip; the released code's stands in.
    pub fn of(mode: Mode) -> Settings {
        let flow = Settings {
            mode,
            clip_low: 0.2,
            clip_high: 0.3,
            dual_clip: None,
            kl_beta: 0.001,
            kl_gradient: KlGradient::K2,
            correction_most: Some(2.0),
            outlier_least: Some(0.02),
            mismatch_most: 0.05,
            token_denominator: 256.0,
        };
        match mode {
            Mode::Flow | Mode::Paper | Mode::Imitation => flow,
            Mode::Reference => Settings {
                dual_clip: Some(3.0),
                kl_gradient: KlGradient::K3,
                correction_most: None,
                outlier_least: None,
                mismatch_most: f32::MAX,
                ..flow
            },
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::of(Mode::Flow)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rollout {
    /// Which of [`Batch::weights`] is its group's.
    pub group: usize,
    /// None: teaches nothing and counts nowhere.
    pub advantage: Option<f32>,
}

/// A row of the tree: one planner turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub rollout: usize,
    /// Its targets, which lie one after the other.
    pub tokens: usize,
    /// Ended by the token limit: says nothing about when to stop and is masked.
    pub truncated: bool,
}

/// What is known of a batch's K targets, in the tree's target order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Per group, its share of the batch: 1 over the number of questions, or less where one question has
    /// several groups or a label stands alone.
    pub weights: Vec<f32>,
    pub rollouts: Vec<Rollout>,
    pub turns: Vec<Turn>,
    /// K: mu, as the sampler recorded them.
    pub sampler: Vec<f32>,
    /// K: written by a grammar or a repair, not sampled.
    pub forced: Vec<bool>,
    /// K: the trainer's own under the adapter that sampled. None before the first update: the very
    /// log-probabilities that are evaluated.
    pub old: Option<Vec<f32>>,
    /// K: adapter off.
    pub reference: Option<Vec<f32>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// K: dJ/dlogp.
    pub coefficients: Vec<f32>,
    pub stats: Stats,
}

/// Means are over trained tokens where nothing else is said; 0 where there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// About 0 before the first update by construction: no figure to headline.
    pub objective: f64,
    pub kl_mean: f64,
    /// Share of tokens whose gradient the clip took.
    pub clip_share: f64,
    pub ratio_mean: f64,
    pub ratio_most: f64,
    pub correction_mean: f64,
    /// Share of tokens whose correction was cut.
    pub correction_cut_share: f64,
    /// |logp_old - mu| over all tokens that were sampled.
    pub mismatch_mean: f64,
    pub mismatch_most: f64,
    /// Mean surprise -logp of sampled tokens: the policy's entropy, estimated.
    pub entropy: f64,
    pub advantage_mean_abs: f64,
    pub tokens_trained: usize,
    pub tokens_forced: usize,
    pub turns_truncated: usize,
    pub rollouts_trained: usize,
    /// Outliers between sampler and trainer.
    pub rollouts_dropped: usize,
    pub groups_trained: usize,
    /// Groups whose contrast went with a dropped rollout.
    pub groups_left_out: usize,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ObjectiveError {
    #[error(
        "{what}: {found} given, {expected} needed; ids, log-probabilities and masks must be of one length"
    )]
    Lengths { what: &'static str, found: usize, expected: usize },
    #[error("{what} of turn {turn}, token {token} is {value}; the adapter is unchanged")]
    NotFinite { what: &'static str, turn: usize, token: usize, value: f32 },
    #[error("group {group} has weight {value}; a finite number over 0 is needed")]
    Weight { group: usize, value: f32 },
    #[error("rollout {rollout} has advantage {value}; the adapter is unchanged")]
    Advantage { rollout: usize, value: f32 },
    #[error("nothing to learn: no group has contrast and an unmasked token; label another outcome")]
    NothingToLearn,
    #[error("only failures to learn from: that pushes the planner anywhere; label a success or correct one")]
    OnlyNegatives,
    #[error(
        "sampler and trainer disagree: mean |logp difference| {mean:.4} over {tokens} tokens, {most:.4} is the bound; was the adapter changed, or the sampler not temperature only?"
    )]
    Mismatch { mean: f64, most: f32, tokens: usize },
    #[error("kl_beta is {0} but the reference log-probabilities are missing; compute them or set it to 0")]
    NoReference(f32),
    #[error("setting {name} is {value}")]
    Setting { name: &'static str, value: f32 },
}

/// The objective at `logprobs` (K) and its gradient there.
///
/// # Errors
/// [`ObjectiveError`]; nothing of the batch may train then.
pub fn evaluate(settings: &Settings, batch: &Batch, logprobs: &[f32]) -> Result<Evaluation, ObjectiveError> {
    settings.check()?;
    batch.check(logprobs)?;
    if settings.kl_beta > 0.0 && batch.reference.is_none() {
        return Err(ObjectiveError::NoReference(settings.kl_beta));
    }
    let shares = Shares::new(settings, batch, batch.old.as_deref().unwrap_or(logprobs))?;
    let mut sums = Sums::default();
    let mut coefficients = vec![0.0; logprobs.len()];
    for (at, coefficient) in coefficients.iter_mut().enumerate() {
        let Some((share, advantage)) = shares.of_token(at) else { continue };
        let number = |values: &[f32]| f64::from(values[at]);
        let token = Token {
            logp: number(logprobs),
            old: number(batch.old.as_deref().unwrap_or(logprobs)),
            sampler: number(&batch.sampler),
            reference: batch.reference.as_deref().map(number),
            advantage,
        };
        let term = token.term(settings);
        let gradient = share * term.gradient;
        if !gradient.is_finite() {
            let (turn, token) = batch.place(at);
            let value = gradient as f32;
            return Err(ObjectiveError::NotFinite { what: "gradient", turn, token, value });
        }
        *coefficient = gradient as f32;
        sums.add(share, &token, &term);
    }
    Ok(Evaluation { coefficients, stats: sums.stats(shares.counts) })
}

/// A token that trains.
struct Token {
    logp: f64,
    old: f64,
    sampler: f64,
    reference: Option<f64>,
    advantage: f64,
}

/// One token's addend of J before its share, and its derivative by logp.
struct Term {
    value: f64,
    gradient: f64,
    ratio: f64,
    clipped: bool,
    correction: f64,
    correction_cut: bool,
    kl: f64,
}

impl Token {
    fn term(&self, settings: &Settings) -> Term {
        let ratio = bounded_exp(self.logp - self.old);
        let (surrogate, clipped) = surrogate(settings, ratio, self.advantage);
        let capped = |difference: f64| match settings.correction_most {
            Some(most) => {
                (bounded_exp(difference).min(f64::from(most)), bounded_exp(difference) > f64::from(most))
            }
            None => (1.0, false),
        };
        let (correction, correction_cut) = capped(self.old - self.sampler);
        let (kl_correction, _) = capped(self.logp - self.sampler);
        let apart = self.reference.map_or(0.0, |reference| self.logp - reference);
        let kl = k3(apart);
        let kl_slope = match settings.kl_gradient {
            KlGradient::K2 => apart,
            KlGradient::K3 => 1.0 - bounded_exp(-apart),
        };
        let beta = f64::from(settings.kl_beta) * kl_correction;
        let slope = if clipped { 0.0 } else { ratio * self.advantage };
        Term {
            value: correction * surrogate - beta * kl,
            gradient: correction * slope - beta * kl_slope,
            ratio,
            clipped,
            correction,
            correction_cut,
            kl,
        }
    }
}

/// The clipped surrogate and whether its gradient is gone.
fn surrogate(settings: &Settings, ratio: f64, advantage: f64) -> (f64, bool) {
    let (low, high) = (1.0 - f64::from(settings.clip_low), 1.0 + f64::from(settings.clip_high));
    let free = ratio * advantage;
    let held = ratio.clamp(low, high) * advantage;
    let value = free.min(held);
    match settings.dual_clip {
        Some(most) if advantage < 0.0 && value < f64::from(most) * advantage => {
            (f64::from(most) * advantage, true)
        }
        _ => (value, held < free),
    }
}

/// exp(-apart) + apart - 1, for apart = logp - reference: the low-variance estimate of KL(policy || reference).
pub(crate) fn k3(apart: f64) -> f64 {
    let apart = apart.clamp(-LOG_RATIO_MOST, LOG_RATIO_MOST);
    (-apart).exp_m1() + apart
}

fn bounded_exp(difference: f64) -> f64 {
    difference.clamp(-LOG_RATIO_MOST, LOG_RATIO_MOST).exp()
}

impl Settings {
    fn check(&self) -> Result<(), ObjectiveError> {
        let least = [
            ("clip_low", Some(self.clip_low), 0.0),
            ("clip_high", Some(self.clip_high), 0.0),
            ("dual_clip", self.dual_clip, 1.0),
            ("kl_beta", Some(self.kl_beta), 0.0),
            ("correction_most", self.correction_most, 1.0),
            ("outlier_least", self.outlier_least, 0.0),
            ("mismatch_most", Some(self.mismatch_most), 0.0),
            ("token_denominator", Some(self.token_denominator), 1.0),
        ];
        for (name, value, least) in least {
            if let Some(value) = value.filter(|value| !value.is_finite() || *value < least) {
                return Err(ObjectiveError::Setting { name, value });
            }
        }
        match self.clip_low {
            value if value > 1.0 => Err(ObjectiveError::Setting { name: "clip_low", value }),
            _ => Ok(()),
        }
    }
}

impl Batch {
    /// Lengths fit, and what will train is finite.
    fn check(&self, logprobs: &[f32]) -> Result<(), ObjectiveError> {
        let expected = self.turns.iter().map(|turn| turn.tokens).sum();
        let columns = [
            ("log-probabilities", Some(logprobs)),
            ("sampler's log-probabilities", Some(self.sampler.as_slice())),
            ("old log-probabilities", self.old.as_deref()),
            ("reference log-probabilities", self.reference.as_deref()),
        ];
        let lengths = columns.iter().map(|(what, column)| (*what, column.map_or(expected, <[f32]>::len)));
        for (what, found) in lengths.chain([("forced marks", self.forced.len())]) {
            if found != expected {
                return Err(ObjectiveError::Lengths { what, found, expected });
            }
        }
        let beyond = self.turns.iter().map(|turn| turn.rollout + 1).max().unwrap_or(0);
        if beyond > self.rollouts.len() {
            let (found, expected) = (self.rollouts.len(), beyond);
            return Err(ObjectiveError::Lengths { what: "rollouts", found, expected });
        }
        let beyond = self.rollouts.iter().map(|rollout| rollout.group + 1).max().unwrap_or(0);
        if beyond > self.weights.len() {
            let (found, expected) = (self.weights.len(), beyond);
            return Err(ObjectiveError::Lengths { what: "group weights", found, expected });
        }
        let mut weights = self.weights.iter();
        if let Some(group) = weights.position(|weight| !weight.is_finite() || *weight <= 0.0) {
            return Err(ObjectiveError::Weight { group, value: self.weights[group] });
        }
        for (rollout, Rollout { advantage, .. }) in self.rollouts.iter().enumerate() {
            if let Some(value) = advantage.filter(|advantage| !advantage.is_finite()) {
                return Err(ObjectiveError::Advantage { rollout, value });
            }
        }
        for (what, column) in columns {
            let mut values = column.unwrap_or_default().iter().zip(&self.forced);
            // A forced token has no sampler's log-probability to speak of.
            if let Some(at) = values.position(|(value, forced)| !forced && !value.is_finite()) {
                let (turn, token) = self.place(at);
                let value = column.map_or(f32::NAN, |column| column[at]);
                return Err(ObjectiveError::NotFinite { what, turn, token, value });
            }
        }
        Ok(())
    }

    /// (turn, token within it) of a target.
    fn place(&self, at: usize) -> (usize, usize) {
        let mut left = at;
        for (turn, Turn { tokens, .. }) in self.turns.iter().enumerate() {
            if left < *tokens {
                return (turn, left);
            }
            left -= tokens;
        }
        (self.turns.len(), left)
    }
}

/// Running sums of what [`Stats`] averages.
#[derive(Default)]
struct Sums {
    n: usize,
    stats: Stats,
}

impl Sums {
    fn add(&mut self, share: f64, token: &Token, term: &Term) {
        self.n += 1;
        let stats = &mut self.stats;
        stats.objective += share * term.value;
        stats.kl_mean += term.kl;
        stats.clip_share += f64::from(u8::from(term.clipped));
        stats.ratio_mean += term.ratio;
        stats.ratio_most = stats.ratio_most.max(term.ratio);
        stats.correction_mean += term.correction;
        stats.correction_cut_share += f64::from(u8::from(term.correction_cut));
        stats.entropy -= token.logp;
        stats.advantage_mean_abs += token.advantage.abs();
    }

    fn stats(self, counts: share::Counts) -> Stats {
        let n = self.n.max(1) as f64;
        let sum = self.stats;
        Stats {
            objective: sum.objective,
            kl_mean: sum.kl_mean / n,
            clip_share: sum.clip_share / n,
            ratio_mean: sum.ratio_mean / n,
            ratio_most: sum.ratio_most,
            correction_mean: sum.correction_mean / n,
            correction_cut_share: sum.correction_cut_share / n,
            mismatch_mean: counts.mismatch_mean,
            mismatch_most: counts.mismatch_most,
            entropy: sum.entropy / n,
            advantage_mean_abs: sum.advantage_mean_abs / n,
            tokens_trained: self.n,
            tokens_forced: counts.tokens_forced,
            turns_truncated: counts.turns_truncated,
            rollouts_trained: counts.rollouts_trained,
            rollouts_dropped: counts.rollouts_dropped,
            groups_trained: counts.groups_trained,
            groups_left_out: counts.groups_left_out,
        }
    }
}
