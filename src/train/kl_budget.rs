//! The fuel bar: how far the adapter has drifted from base on frozen prompts, and how much is left.
//!
//! Drift from base on a task's own prompts predicts forgetting (RL's Razor, arXiv 2509.04259). This file
//! takes divergences of whole distributions; who computes them, and what is trained, it does not know.
//!
//! Until these were exact, k3 of the tokens base had sampled stood here. A handful of unlikely tokens that the
//! adapter had learned to avoid then decided the bar (0.24 nats, 95 % 0.00..0.63) and ended two runs of three.

use serde::{Deserialize, Serialize};

/// Total drift from base that is allowed by default, nats per planner token. A start value, to be calibrated.
pub const BUDGET: f64 = 0.2;
/// Share of the budget from which the bar warns.
pub const LOW_FROM: f64 = 0.75;

/// Why drift could not be measured.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum KlError {
    #[error(
        "frozen prompt {prompt}, token {token}: the divergence is {value}; the adapter is broken, discard it"
    )]
    NotFinite { prompt: usize, token: usize, value: f32 },
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
    /// Mean over all tokens of KL(base || adapter) at that token.
    pub mean: f64,
    /// 95 % interval over prompts (tokens of one prompt hang together); one prompt gives no upper end.
    pub low: f64,
    pub high: Option<f64>,
    pub prompts: usize,
    pub tokens: usize,
    pub budget: f64,
}

impl Drift {
    /// Mean of what lies between base and adapter at each planner token, by frozen prompt; prompts without tokens
    /// are skipped. Token by token given what base said before it, so this is KL(base || adapter) of whole replies
    /// up to the chance of which replies base gave.
    ///
    /// # Errors
    /// A divergence that is no finite number of nats, or no token at all.
    pub fn measure(prompts: &[Vec<f32>], budget: f64) -> Result<Drift, KlError> {
        let mut sums = Vec::new();
        for (prompt, tokens) in prompts.iter().enumerate() {
            if let Some(token) = tokens.iter().position(|value| !(value.is_finite() && *value >= 0.0)) {
                return Err(KlError::NotFinite { prompt, token, value: tokens[token] });
            }
            if !tokens.is_empty() {
                sums.push((tokens.iter().copied().map(f64::from).sum::<f64>(), tokens.len()));
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

    #[test]
    fn the_bar_empties() {
        let (same, far) = (vec![0.0; 10], vec![0.1; 10]);
        let full = Drift::measure(&[same.clone(), same.clone()], BUDGET).unwrap();
        assert_eq!((full.mean, full.high, full.fuel()), (0.0, Some(0.0), Fuel::Ample));
        let some = Drift::measure(&[same.clone(), far.clone()], BUDGET).unwrap();
        assert!((some.mean - 0.05).abs() < 1e-9, "{}", some.mean);
        assert!(some.low < some.mean && Some(some.mean) < some.high);
        assert_eq!((some.prompts, some.tokens, some.fuel()), (2, 20, Fuel::Ample));
        assert_eq!(Drift { budget: 0.06, ..some.clone() }.fuel(), Fuel::Low);
        let empty = Drift { budget: 0.05, ..some };
        assert_eq!(empty.fuel(), Fuel::Empty);
        assert!(empty.text().contains("train anew from base"), "{}", empty.text());
        // One prompt says nothing about the spread over prompts, a long one counts by its tokens.
        assert_eq!(Drift::measure(std::slice::from_ref(&far), BUDGET).unwrap().high, None);
        let long = Drift::measure(&[far, vec![0.0; 30]], BUDGET).unwrap();
        assert!((long.mean - 0.025).abs() < 1e-9 && long.tokens == 40, "{long:?}");
    }

    #[test]
    fn faults_are_named() {
        let good = vec![0.5];
        for (prompts, error) in [(vec![], KlError::Empty), (vec![vec![]], KlError::Empty)] {
            assert_eq!(Drift::measure(&prompts, BUDGET), Err(error));
        }
        for value in [f32::NAN, f32::INFINITY, -0.1] {
            let error = Drift::measure(&[good.clone(), vec![0.1, value]], BUDGET).unwrap_err();
            assert!(matches!(error, KlError::NotFinite { prompt: 1, token: 1, .. }), "{error}");
        }
    }
}
