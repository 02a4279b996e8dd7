//! The fuel bar: how far the adapter has drifted from base on frozen prompts, and how much is left.
//!
//! Drift from base on a task's own prompts predicts forgetting (RL's Razor, arXiv 2509.04259). This file
//! takes log-probabilities; who computes them, and what is trained, it does not know.

use serde::{Deserialize, Serialize};

use crate::train::objective::k3;

/// Total drift from base that is allowed by default, nats per planner token. A start value, to be calibrated.
pub const BUDGET: f64 = 0.2;
/// Share of the budget from which the bar warns.
pub const LOW_FROM: f64 = 0.75;

/// One frozen prompt's recorded answer, scored without and with the adapter; one entry per planner token.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// What sampled the tokens.
    pub base: Vec<f32>,
    pub adapter: Vec<f32>,
}

/// Why drift could not be measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KlError {
    #[error(
        "frozen prompt {prompt}: {base} log-probabilities of base, {adapter} of the adapter; both must score the same tokens"
    )]
    Lengths { prompt: usize, base: usize, adapter: usize },
    #[error(
        "frozen prompt {prompt}, token {token}: a log-probability is not finite; the adapter is broken, discard it"
    )]
    NotFinite { prompt: usize, token: usize },
    #[error("no planner token on any frozen prompt; ask the planner a few questions first")]
    Empty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fuel {
    Ample,
    /// Three quarters are used.
    Low,
    /// Stop, or train anew from base with all labels.
    Empty,
}

/// Drift measured on frozen prompts, in nats per planner token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Mean k3 over all tokens: KL(base || adapter).
    pub mean: f64,
    /// 95 % interval over prompts (tokens of one prompt hang together); one prompt gives no upper end.
    pub low: f64,
    pub high: Option<f64>,
    pub prompts: usize,
    pub tokens: usize,
    pub budget: f64,
}

impl Drift {
    /// Measure drift on the probes; prompts without tokens are skipped.
    ///
    /// # Errors
    /// Lengths that differ, log-probabilities that are not finite, or no token at all.
    pub fn measure(probes: &[Probe], budget: f64) -> Result<Drift, KlError> {
        let mut sums = Vec::new();
        for (prompt, probe) in probes.iter().enumerate() {
            if probe.base.len() != probe.adapter.len() {
                let (base, adapter) = (probe.base.len(), probe.adapter.len());
                return Err(KlError::Lengths { prompt, base, adapter });
            }
            let mut sum = 0.0;
            for (token, (base, adapter)) in probe.base.iter().zip(&probe.adapter).enumerate() {
                if !base.is_finite() || !adapter.is_finite() {
                    return Err(KlError::NotFinite { prompt, token });
                }
                // The base sampled, so this estimates KL(base || adapter).
                sum += k3(f64::from(*base) - f64::from(*adapter));
            }
            if !probe.base.is_empty() {
                sums.push((sum, probe.base.len()));
            }
        }
        let tokens: usize = sums.iter().map(|(_, n)| n).sum();
        if tokens == 0 {
            return Err(KlError::Empty);
        }
        let mean = sums.iter().map(|(sum, _)| sum).sum::<f64>() / tokens as f64;
        let half = ratio_half_width(&sums, mean, tokens);
        let low = half.map_or(0.0, |half| (mean - half).max(0.0));
        let high = half.map(|half| mean + half);
        Ok(Drift { mean, low, high, prompts: sums.len(), tokens, budget })
    }

    /// Share of the budget that is used; above 1 when it is overdrawn.
    pub fn used(&self) -> f64 {
        if self.budget > 0.0 { self.mean / self.budget } else { f64::INFINITY }
    }

    pub fn fuel(&self) -> Fuel {
        match self.used() {
            used if used >= 1.0 => Fuel::Empty,
            used if used >= LOW_FROM => Fuel::Low,
            _ => Fuel::Ample,
        }
    }

    pub fn text(&self) -> String {
        let remedy = match self.fuel() {
            Fuel::Ample => "",
            Fuel::Low => "; nearly used up",
            Fuel::Empty => "; used up: stop here, or train anew from base with all labels",
        };
        let high = self.high.map_or("?".to_string(), |high| format!("{high:.4}"));
        format!(
            "drift from base {:.4} nats/token (95 % {:.4}..{high}; {} prompts, {} tokens), {:.0} % of {}{remedy}",
            self.mean,
            self.low,
            self.prompts,
            self.tokens,
            100.0 * self.used(),
            self.budget
        )
    }
}

/// Half width of the 95 % interval of a ratio estimate, prompts as the clusters: 1.96 standard errors of
/// sum / tokens by linearisation (Cochran, Sampling Techniques, 6.4).
fn ratio_half_width(sums: &[(f64, usize)], mean: f64, tokens: usize) -> Option<f64> {
    let n = sums.len() as f64;
    if sums.len() < 2 {
        return None;
    }
    let squares: f64 = sums.iter().map(|(sum, len)| (sum - mean * *len as f64).powi(2)).sum();
    Some(1.959_964 * (n / (n - 1.0) * squares).sqrt() / tokens as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(base: &[f32], adapter: &[f32]) -> Probe {
        Probe { base: base.to_vec(), adapter: adapter.to_vec() }
    }

    #[test]
    fn the_mean_is_the_kl() {
        // Two tokens, base (.7, .3), adapter (.6, .4): KL = .7 ln(.7/.6) + .3 ln(.3/.4).
        let (p, q) = ([0.7_f64, 0.3], [0.6_f64, 0.4]);
        let kl: f64 = p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum();
        let mean: f64 = p.iter().zip(q).map(|(p, q)| p * k3(p.ln() - q.ln())).sum();
        assert!((mean - kl).abs() < 1e-7, "{mean} {kl}");
        let lost = Drift::measure(&[probe(&[-1.0], &[f32::MIN])], BUDGET).unwrap();
        assert!(lost.mean.is_finite() && lost.fuel() == Fuel::Empty);
    }

    #[test]
    fn the_bar_empties() {
        let same = probe(&[-0.5; 10], &[-0.5; 10]);
        let far = probe(&[-0.5; 10], &[-1.0; 10]);
        let full = Drift::measure(&[same.clone(), same.clone()], BUDGET).unwrap();
        assert_eq!((full.mean, full.high, full.fuel()), (0.0, Some(0.0), Fuel::Ample));
        let some = Drift::measure(&[same.clone(), far.clone()], BUDGET).unwrap();
        let expected = 0.5 * ((-0.5_f64).exp() - 0.5);
        assert!((some.mean - expected).abs() < 1e-12, "{}", some.mean);
        assert!(some.low < some.mean && Some(some.mean) < some.high);
        assert_eq!((some.prompts, some.tokens, some.fuel()), (2, 20, Fuel::Ample));
        assert_eq!(Drift { budget: 0.06, ..some.clone() }.fuel(), Fuel::Low);
        let empty = Drift { budget: 0.05, ..some };
        assert_eq!(empty.fuel(), Fuel::Empty);
        assert!(empty.text().contains("train anew from base"), "{}", empty.text());
        // One prompt says nothing about the spread over prompts.
        assert_eq!(Drift::measure(&[far], BUDGET).unwrap().high, None);
    }

    #[test]
    fn faults_are_named() {
        let good = probe(&[-1.0], &[-1.0]);
        for (probes, error) in [
            (vec![], KlError::Empty),
            (vec![probe(&[], &[])], KlError::Empty),
            (
                vec![good.clone(), probe(&[-1.0, -2.0], &[-1.0])],
                KlError::Lengths { prompt: 1, base: 2, adapter: 1 },
            ),
            (vec![good, probe(&[-1.0], &[f32::NAN])], KlError::NotFinite { prompt: 1, token: 0 }),
        ] {
            assert_eq!(Drift::measure(&probes, BUDGET), Err(error));
        }
    }
}
