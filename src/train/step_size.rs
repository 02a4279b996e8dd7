//! How much of a step to take: not a rate the user tunes, but the largest scale whose drift stays in bounds.
//!
//! The optimizer proposes a delta; this looks for the largest of {2, 1, 1/2 ... 1/1024} of it that stays near
//! enough. What is measured, and how the delta is scaled, is the caller's.

use serde::{Deserialize, Serialize};

/// Scales of the delta, largest first, each half of the one before.
///
/// The smallest ones are for a rate that is far too high: one that grew while groups were alike (with a quarter
/// as the least, a run discarded five steps of its last nine), or a first step on a few labels from a planner
/// that is sure of itself (0.0134 nats of 0.01 at 1/16).
pub const SCALES: [f32; 12] = {
    let mut scales = [2.0; 12];
    let mut at = 1;
    while at < scales.len() {
        scales[at] = scales[at - 1] / 2.0;
        at += 1;
    }
    scales
};
/// Mean k3 to the parent that one step may reach by default, nats per planner token of held-out prompts.
pub const BOUND: f64 = 0.01;

/// What was tried and what was kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepSize {
    /// None: even the least of them went too far; discard the step.
    pub kept: Option<f32>,
    pub bound: f64,
    /// (scale, mean k3 to the parent), in the order tried. Not finite: None.
    pub tried: Vec<(f32, Option<f64>)>,
}

/// Find the largest scale with mean k3 to the parent <= `bound`. `measure` answers the mean k3 of
/// parent + scale * delta. A k3 that is not finite, or negative (then it is no k3), never fits.
///
/// What is kept was measured and fits, and so was the scale above it, which does not: where k3 grows with the
/// scale, that is what trying every scale from the largest on finds. Near the parent k3 grows with the square of
/// the scale, so one that does not fit says how many halvings the next try should skip.
///
/// # Errors
/// What `measure` fails with.
pub fn choose<E>(mut measure: impl FnMut(f32) -> Result<f64, E>, bound: f64) -> Result<StepSize, E> {
    let mut size = StepSize { kept: None, bound, tried: Vec::new() };
    // Places in SCALES: all up to `over` are too long; `fits` is the largest known to fit.
    let (mut over, mut fits) = (None, None);
    let mut at = 0;
    loop {
        let k3 = measure(SCALES[at])?;
        let sane = k3.is_finite() && k3 >= 0.0;
        size.tried.push((SCALES[at], sane.then_some(k3)));
        if sane && k3 <= bound {
            fits = Some(at);
        } else {
            over = Some(at);
        }
        let next = over.map_or(0, |over| over + 1);
        at = match fits {
            Some(fits) if fits == next => break,
            Some(fits) => fits - 1,
            None if next == SCALES.len() => break,
            // The square root of how far it went, in halvings.
            None if sane => {
                let halvings = (0.5 * (k3 / bound).log2()).ceil().max(1.0) as usize;
                (next - 1).saturating_add(halvings).min(SCALES.len() - 1)
            }
            None => next,
        };
    }
    size.kept = fits.map(|fits| SCALES[fits]);
    Ok(size)
}

impl StepSize {
    pub fn text(&self) -> String {
        let tried: Vec<String> = self
            .tried
            .iter()
            .map(|(scale, k3)| match k3 {
                Some(k3) => format!("x{scale}: {k3:.4}"),
                None => format!("x{scale}: not finite"),
            })
            .collect();
        let tried = tried.join(", ");
        match self.kept {
            Some(scale) => {
                format!("{scale} of the step kept (nats/token to the parent: {tried}; bound {})", self.bound)
            }
            None => format!("step discarded: every scale goes beyond {} nats/token ({tried})", self.bound),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn chosen(k3: impl Fn(f32) -> f64) -> StepSize {
        choose(|scale| Ok::<_, Infallible>(k3(scale)), BOUND).unwrap()
    }

    #[test]
    fn keeps_the_largest_that_fits() {
        // k3 grows with the square of the scale, as near the parent it must.
        for (at_one, kept, tries) in [
            (0.0, Some(2.0), 1),
            (0.0025, Some(2.0), 1),
            (0.01, Some(1.0), 2),
            (0.03, Some(0.5), 3),
            (0.1, Some(0.25), 3),
            (0.1501, Some(0.25), 3),
            (0.2, Some(0.125), 3),
            (2.0, Some(0.0625), 3),
            (3.0, Some(0.03125), 3),
            (40.0, Some(0.015625), 3),
            (8000.0, Some(0.0009765625), 3),
            (12000.0, None, 2),
        ] {
            let size = chosen(|scale| at_one * f64::from(scale * scale));
            assert_eq!((size.kept, size.tried.len()), (kept, tries), "{at_one}: {}", size.text());
        }
        assert!(chosen(|_| 1.0).text().starts_with("step discarded"));
    }

    #[test]
    fn skipping_finds_what_trying_all_does() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for _ in 0..5000 {
            // Anything that grows with the scale: powers far from the square, with jumps, to infinity.
            let (size, power) = (10.0_f64.powf(rng.random_range(-5.0..9.0)), rng.random_range(0.1..6.0));
            let (jump, end) = (rng.random_range(0.0..3.0), rng.random_range(0.0..4.0));
            let k3 = |scale: f32| {
                let scale = f64::from(scale);
                let grown = size * scale.powf(power) * if scale > jump { 50.0 } else { 1.0 };
                if scale > end { f64::INFINITY } else { grown }
            };
            let all = SCALES.into_iter().find(|scale| k3(*scale) <= BOUND);
            let found = chosen(k3);
            assert_eq!(found.kept, all, "{}", found.text());
            let mut tried: Vec<f32> = found.tried.iter().map(|(scale, _)| *scale).collect();
            tried.sort_by(f32::total_cmp);
            tried.dedup();
            assert_eq!(tried.len(), found.tried.len(), "measured twice: {}", found.text());
        }
    }

    #[test]
    fn what_is_not_finite_never_fits() {
        let size = chosen(|scale| if scale > 0.6 { f64::NAN } else { 0.001 });
        assert_eq!((size.kept, size.tried[0]), (Some(0.5), (2.0, None)));
        assert_eq!(chosen(|_| f64::INFINITY).kept, None);
        assert_eq!(chosen(|_| -0.1).kept, None);
        assert_eq!(choose(|_| Err::<f64, _>("full disk"), BOUND), Err("full disk"));
    }
}
