//! Small statistics that go with every share: intervals, so that no figure stands alone.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Wilson score interval of k successes in n trials, 95 %: (low, high) in 0..=1. n = 0 says nothing: (0, 1).
/// Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
pub fn wilson(k: usize, n: usize) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let z = 1.959_963_984_540_054_f64;
    let (n, p) = (n as f64, k as f64 / n as f64);
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// Two-sided exact p of `wins` against `losses` decided pairs: the chance, if either side were as likely to
/// win, of a split at least as uneven (McNemar's exact test; a binomial test at 1/2). 1 without any.
pub fn mcnemar(wins: usize, losses: usize) -> f64 {
    let (n, fewer) = (wins + losses, wins.min(losses));
    // Terms choose(n, k) / 2^n by their logarithms, so that thousands of pairs neither overflow nor vanish.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for k in 0..=fewer {
        tail += log_term.exp();
        log_term += ((n - k) as f64 / (k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// The outcomes of n paired questions, first side against second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    pub both_right: usize,
    /// Only the first side was right.
    pub wins: usize,
    /// Only the second.
    pub losses: usize,
    pub both_wrong: usize,
}

impl Pairs {
    pub fn add(&mut self, first: bool, second: bool) {
        match (first, second) {
            (true, true) => self.both_right += 1,
            (true, false) => self.wins += 1,
            (false, true) => self.losses += 1,
            (false, false) => self.both_wrong += 1,
        }
    }

    pub fn n(&self) -> usize {
        self.both_right + self.wins + self.losses + self.both_wrong
    }

    pub fn p_value(&self) -> f64 {
        mcnemar(self.wins, self.losses)
    }

    /// Difference of the two shares with its 95 % interval: (difference, low, high) in -1..=1; (0, -1, 1) for
    /// n = 0. Source: R. G. Newcombe, "Improved confidence intervals for the difference between binomial
    /// proportions based on paired data", 1998, method 10 (Wilson limits joined by the pairs' correlation).
    pub fn difference(&self) -> (f64, f64, f64) {
        let n = self.n();
        if n == 0 {
            return (0.0, -1.0, 1.0);
        }
        let (first, second) = (self.both_right + self.wins, self.both_right + self.losses);
        let (p1, p2) = (first as f64 / n as f64, second as f64 / n as f64);
        let ((low1, high1), (low2, high2)) = (wilson(first, n), wilson(second, n));
        let phi = self.correlation();
        let half = |a: f64, b: f64| (a * a - 2.0 * phi * a * b + b * b).max(0.0).sqrt();
        let difference = p1 - p2;
        (
            difference,
            (difference - half(p1 - low1, high2 - p2)).max(-1.0),
            (difference + half(high1 - p1, p2 - low2)).min(1.0),
        )
    }

    /// Newcombe's phi: the fourfold correlation, shrunk by half a pair where it is positive.
    fn correlation(&self) -> f64 {
        let [a, b, c, d] =
            [self.both_right, self.wins, self.losses, self.both_wrong].map(|count| count as f64);
        let margins = (a + b) * (c + d) * (a + c) * (b + d);
        if margins == 0.0 {
            return 0.0;
        }
        let cross = a * d - b * c;
        let shrunk = if cross > 0.0 { (cross - 0.5 * (a + b + c + d)).max(0.0) } else { cross };
        shrunk / margins.sqrt()
    }
}

/// What one question gave on two sides, all its draws put together: (k, n) of the first and of the second.
pub type BothSides = [(usize, usize); 2];

/// A figure of two rates with its 95 % interval; not finite where a rate it divides by is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resampled {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Resampled {
    /// Value and interval at so many digits, "-" where the figure itself says nothing.
    pub fn text(self, digits: usize) -> String {
        if !self.value.is_finite() {
            return "-".to_string();
        }
        format!("{:.digits$} ({:.digits$}..{:.digits$})", self.value, self.low, self.high)
    }
}

const RESAMPLES: usize = 4000;

/// `figure` of the two rates (all k over all n, per side) and its percentile interval over resamples of whole
/// questions: calls of one question, its draws and its two sides hang together, so they are drawn together. The
/// same questions give the same interval, to the digit. Source: B. Efron, "Bootstrap methods: another look at the
/// jackknife", 1979.
pub fn resampled(questions: &[BothSides], figure: impl Fn(f64, f64) -> f64) -> Resampled {
    let of = |sums: BothSides| {
        let [first, second] = sums.map(|(k, n)| k as f64 / n as f64);
        figure(first, second)
    };
    let join = |mut sums: BothSides, question: &BothSides| {
        for (sum, side) in sums.iter_mut().zip(question) {
            *sum = (sum.0 + side.0, sum.1 + side.1);
        }
        sums
    };
    let value = of(questions.iter().fold(BothSides::default(), join));
    let mut rng = ChaCha8Rng::seed_from_u64(1979);
    let mut again = || {
        let drawn = (0..questions.len()).map(|_| &questions[rng.random_range(0..questions.len())]);
        of(drawn.fold(BothSides::default(), join))
    };
    let mut values: Vec<f64> = (0..RESAMPLES).map(|_| again()).collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((RESAMPLES - 1) as f64 * share).round() as usize];
    Resampled { value, low: at(0.025), high: at(0.975) }
}

/// Chance that a group of `size` rollouts holds both right and wrong ones when each is right with chance `p`:
/// 1 - p^G - (1-p)^G.
pub fn contrast_chance(p: f64, size: usize) -> f64 {
    let g = i32::try_from(size).unwrap_or(i32::MAX);
    (1.0 - p.powi(g) - (1.0 - p).powi(g)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_intervals() {
        // Values of the textbook formula, worked by hand for 8/10 and at the borders.
        let (low, high) = wilson(8, 10);
        assert!((low - 0.490_16).abs() < 1e-4 && (high - 0.943_31).abs() < 1e-4, "{low} {high}");
        assert_eq!(wilson(0, 10).0, 0.0);
        assert!((wilson(10, 10).1 - 1.0).abs() < 1e-12);
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }
    #[test]
    fn exact_p_values() {
        // 2 * sum of choose(n, k) / 2^n, worked by hand; large ones against scipy.stats.binomtest.
        for (wins, losses, expected) in [
            (0, 0, 1.0),
            (1, 0, 1.0),
            (5, 0, 0.0625),
            (0, 6, 0.031_25),
            (9, 1, 0.021_484_375),
            (3, 3, 1.0),
            (12, 2, 0.012_939_453),
            (60, 40, 0.056_887_933),
        ] {
            let p = mcnemar(wins, losses);
            assert!((p - expected).abs() < 1e-8, "{wins}:{losses} {p}");
            assert_eq!(p, mcnemar(losses, wins));
        }
        assert!(mcnemar(3000, 2000) > 0.0 && mcnemar(3000, 2000) < 1e-40);
        assert!(mcnemar(5000, 5000) > 0.99);
    }

    #[test]
    fn paired_differences() {
        // An example of Newcombe 1998, and the border where all agree (there it is Wilson's limit).
        for ([a, b, c, d], low, high) in [([36, 12, 2, 0], 0.0569, 0.3404), ([54, 0, 0, 0], -0.0664, 0.0664)]
        {
            let pairs = Pairs { both_right: a, wins: b, losses: c, both_wrong: d };
            let got = pairs.difference();
            assert!((got.1 - low).abs() < 1e-3 && (got.2 - high).abs() < 1e-3, "{pairs:?} {got:?}");
        }
        assert_eq!(Pairs::default().difference(), (0.0, -1.0, 1.0));
        let mut pairs = Pairs::default();
        for (first, second) in [(true, false), (true, true), (false, false), (false, true), (true, false)] {
            pairs.add(first, second);
        }
        assert_eq!((pairs.n(), pairs.wins, pairs.losses), (5, 2, 1));
        let (difference, low, high) = pairs.difference();
        assert!((difference - 0.2).abs() < 1e-12 && low < 0.2 && high > 0.2);
    }

    #[test]
    fn questions_are_resampled_whole() {
        // 2,000 questions of one call a side: near the interval of the delta method for independent calls,
        // exp(ln r ± 1.96 sqrt(1/100 - 1/2000 + 1/300 - 1/2000)).
        let alone: Vec<BothSides> =
            (0..2000).map(|i| [(usize::from(i < 100), 1), (usize::from(i >= 1700), 1)]).collect();
        let ratio = |one: f64, other: f64| one / other;
        let got = resampled(&alone, ratio);
        let half = 1.96 * (0.01_f64 + 1.0 / 300.0 - 0.001).sqrt();
        assert!((got.value - 1.0 / 3.0).abs() < 1e-12);
        assert!((got.low.ln() - (got.value.ln() - half)).abs() < 0.03, "{got:?}");
        assert!((got.high.ln() - (got.value.ln() + half)).abs() < 0.03, "{got:?}");
        assert_eq!(got, resampled(&alone, ratio));
        // The same counts from ten times as many draws of a tenth of the questions say much less.
        let together: Vec<BothSides> =
            (0..200).map(|i| [(10 * usize::from(i < 10), 10), (10 * usize::from(i >= 170), 10)]).collect();
        let wide = resampled(&together, |one, other| one - other);
        let narrow = resampled(&alone, |one, other| one - other);
        assert!((wide.value - narrow.value).abs() < 1e-12);
        assert!(wide.high - wide.low > 2.0 * (narrow.high - narrow.low), "{wide:?} {narrow:?}");
        let none = resampled(&[[(1, 2), (0, 2)]], ratio);
        assert_eq!(
            (none.text(2), got.text(1)),
            ("-".to_string(), format!("0.3 ({:.1}..{:.1})", got.low, got.high))
        );
        assert_eq!(resampled(&[], ratio).text(2), "-");
    }
}
