//! Evidence that may be looked at after every pair and continued at will: e-processes on paired results.
//!
//! Formulas only; who is compared with whom, and what follows from it, is the gate's business.
//! Ville's inequality (1939): if the null hypothesis holds, an e-process ever reaches 1/alpha with
//! probability alpha at most, however often one looks and whenever one stops.

/// Evidence against "a decided pair is lost at most as often as won", from `losses` and `wins` among the
/// decided pairs: the likelihood ratio against one half, mixed uniformly over p in (1/2, 1),
///
/// ```text
/// E(l, w) = 2^(n+1) B(l+1, w+1) P(Bin(n+1, 1/2) <= l),   n = l + w
/// ```
///
/// Evaluated by E(0, w) = 1 / (w+1) and E(l+1, w) = (2 (l+1) E(l, w) + 1) / (l+w+2), which follows from
/// integrating by parts: positive terms only, so it loses no digits. Held at f64::MAX beyond it.
/// For evidence of gain, swap the arguments.
pub fn e_value(losses: u64, wins: u64) -> f64 {
    let w = wins as f64;
    let mut e = 1.0 / (w + 1.0);
    for l in 0..losses {
        let l = l as f64;
        e = (2.0 * (l + 1.0) * e + 1.0) / (l + w + 2.0);
    }
    e.min(f64::MAX)
}

/// Bets on one mean, as shares of the largest that cannot ruin; a fixed grid, equally weighted.
const BETS: usize = 13;

fn bet(index: usize) -> f64 {
    0.02 * 1.35_f64.powi(index as i32)
}

/// Counts of pairs by difference (candidate minus champion): +1, -1 and 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub wins: u64,
    pub losses: u64,
    pub ties: u64,
}

/// Capital of betting that the mean difference is above `d`: the mean over bets b of
/// prod_i (1 + b (x_i - d) / (1 + d)), an e-process for "the mean is at most d". Falls as d rises.
fn capital(counts: Counts, d: f64) -> f64 {
    let logs = (0..BETS).map(|index| {
        let term = |count: u64, x: f64| count as f64 * (bet(index) * (x - d) / (1.0 + d)).ln_1p();
        term(counts.wins, 1.0) + term(counts.losses, -1.0) + term(counts.ties, 0.0)
    });
    logs.map(f64::exp).sum::<f64>() / BETS as f64
}

/// All mean differences that 95 % anytime-valid bets on both sides have not ruled out: (low, high) within
/// -1..=1. It holds at every look at once, so it is wider than a fixed-sample interval. Source: betting
/// confidence sequences, Waudby-Smith and Ramdas 2024 (arXiv 2010.09686), with a fixed grid of bets.
pub fn difference_interval(counts: Counts) -> (f64, f64) {
    let mirrored = Counts { wins: counts.losses, losses: counts.wins, ties: counts.ties };
    (lower_end(counts), -lower_end(mirrored))
}

/// The largest mean that 40 to 1 against "at most this" has ruled out.
fn lower_end(counts: Counts) -> f64 {
    let (mut out, mut inside) = (-1.0, 1.0);
    for _ in 0..40 {
        let middle = 0.5 * (out + inside);
        if capital(counts, middle) >= 40.0 {
            out = middle;
        } else {
            inside = middle;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_values() {
        for (losses, expected) in
            [(1, 1.5), (2, 2.33), (3, 3.75), (4, 6.20), (5, 10.5), (6, 18.1), (7, 31.9), (8, 56.8)]
        {
            let e = e_value(losses, 0);
            assert!((e - expected).abs() <= 0.005 * expected, "{losses} losses: {e}, not {expected}");
        }
        // The fewest losses that reach 10 and 20 with 0 to 3 wins.
        for (wins, ten, twenty) in [(0, 5, 7), (1, 8, 10), (2, 11, 12), (3, 13, 14)] {
            assert!(e_value(ten, wins) >= 10.0 && e_value(ten - 1, wins) < 10.0, "10 with {wins} wins");
            assert!(e_value(twenty, wins) >= 20.0 && e_value(twenty - 1, wins) < 20.0, "20 with {wins} wins");
        }
    }

    #[test]
    fn equals_the_closed_form() {
        // 2^(n+1) times the integral over (1/2, 1) of p^l (1-p)^w, by Simpson's rule.
        for (l, w) in [(0, 0), (3, 2), (2, 9), (25, 12), (40, 40)] {
            let steps = 4000;
            let f = |p: f64| (2.0 * p).powi(l) * (2.0 * (1.0 - p)).powi(w) * 2.0;
            let h = 0.5 / f64::from(steps);
            let mut sum = f(0.5) + f(1.0);
            for i in 1..steps {
                sum += f64::from(2 + 2 * (i % 2)) * f(0.5 + f64::from(i) * h);
            }
            let (expected, e) = (sum * h / 3.0, e_value(l as u64, w as u64));
            assert!((e / expected - 1.0).abs() < 1e-6, "({l}, {w}): {e}, not {expected}");
        }
    }

    #[test]
    fn one_more_pair_changes_nothing_on_average() {
        // The martingale property at its border: either side of a fair decided pair.
        for (l, w) in [(0, 0), (5, 1), (3, 30), (60, 41)] {
            let mean = 0.5 * (e_value(l + 1, w) + e_value(l, w + 1));
            assert!((mean / e_value(l, w) - 1.0).abs() < 1e-12, "({l}, {w})");
        }
    }

    #[test]
    fn intervals_hold_the_mean_and_shrink() {
        assert_eq!(difference_interval(Counts::default()), (-1.0, 1.0));
        let mut width = 2.0;
        for scale in [1, 4, 16, 64] {
            let counts = Counts { wins: 3 * scale, losses: scale, ties: 6 * scale };
            let (low, high) = difference_interval(counts);
            assert!(low < 0.2 && 0.2 < high && high - low < width, "{counts:?}: {low}..{high}");
            width = high - low;
        }
        assert!(width < 0.2, "{width}");
    }
}
