//! How much of a step to take: not a rate the user tunes, but the largest scale whose drift stays in bounds.
//!
//! The optimizer proposes a delta; this tries {2, 1, 1/2 ... 1/64} of it. What is measured, and how the delta is
//! scaled, is the caller's.

use serde::{Deserialize, Serialize};

/// Scales of the delta, largest first.
///
/// The smallest ones are for a rate that grew while groups were alike: with a quarter as the least, a run
/// discarded five steps of its last nine and kept the rate that made them too long. A first step on a few labels
/// from a planner that is sure of itself was still too long at 1/16 (0.0134 nats of 0.01).
pub const SCALES: [f32; 8] = [2.0, 1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625];
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
/// parent + scale * delta; scales after the first that fits are not tried. A k3 that is not finite, or
/// negative (then it is no k3), never fits.
///
/// # Errors
/// What `measure` fails with.
pub fn choose<E>(mut measure: impl FnMut(f32) -> Result<f64, E>, bound: f64) -> Result<StepSize, E> {
    let mut size = StepSize { kept: None, bound, tried: Vec::new() };
    for scale in SCALES {
        let k3 = measure(scale)?;
        let sane = k3.is_finite() && k3 >= 0.0;
        size.tried.push((scale, sane.then_some(k3)));
        if sane && k3 <= bound {
            size.kept = Some(scale);
            break;
        }
    }
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
            (0.1, Some(0.25), 4),
            (0.1501, Some(0.25), 4),
            (0.2, Some(0.125), 5),
            (2.0, Some(0.0625), 6),
            (3.0, Some(0.03125), 7),
            (40.0, Some(0.015625), 8),
            (60.0, None, 8),
        ] {
            let size = chosen(|scale| at_one * f64::from(scale * scale));
            assert_eq!((size.kept, size.tried.len()), (kept, tries), "{at_one}: {}", size.text());
        }
        assert!(chosen(|_| 1.0).text().starts_with("step discarded"));
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
