//! What a gate knows, as numbers with their n and interval, and as two sentences for a person.

use serde::{Deserialize, Serialize};

use super::evidence::difference_interval;
use super::{BETTER_AT, Gate, Opponent, Verdict, WORSE_AT};

/// The state of one comparison. Differences are candidate minus opponent in shares (-1..=1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub opponent: Opponent,
    pub verdict: Verdict,
    /// Pairs after which the verdict fell.
    pub decided_after: Option<u64>,
    /// Paired rollouts that count.
    pub n: u64,
    pub wins: u64,
    pub losses: u64,
    pub left_out: u64,
    pub e_better: f64,
    pub e_worse: f64,
    pub difference: f64,
    /// 95 %, valid at every look.
    pub low: f64,
    pub high: f64,
}

impl Report {
    pub(super) fn of(gate: &Gate) -> Report {
        let n = gate.pairs();
        let (low, high) = difference_interval(gate.counts());
        Report {
            opponent: gate.opponent,
            verdict: gate.verdict(),
            decided_after: gate.decided.map(|(_, pairs)| pairs),
            n,
            wins: gate.wins,
            losses: gate.losses,
            left_out: gate.left_out,
            e_better: gate.better(),
            e_worse: gate.worse(),
            difference: (gate.wins as f64 - gate.losses as f64) / n.max(1) as f64,
            low,
            high,
        }
    }

    /// The verdict with what follows from it.
    pub fn verdict_text(&self) -> String {
        let whom = self.opponent.words();
        let after =
            self.decided_after.map_or(String::new(), |pairs| format!(" after {pairs} paired rollouts"));
        match self.verdict {
            Verdict::Better => format!("Better than {whom}{after}."),
            Verdict::Worse => format!("Worse than {whom}{after}: it is not activated."),
            Verdict::CannotTell if self.n == 0 => format!("Not yet compared with {whom}."),
            Verdict::CannotTell => format!(
                "Cannot tell whether it is better or worse than {whom}: what serves keeps serving, the evidence is kept and more pairs may be added."
            ),
        }
    }

    /// The figures behind it, one line.
    pub fn figures_text(&self) -> String {
        let left_out = match self.left_out {
            0 => String::new(),
            n => format!("; {n} left out: a pass failed, or nobody has judged its answer"),
        };
        format!(
            "{} pairs: {} won, {} lost, {} equal{left_out}; difference {:+.1} points (95 % at every look: {:+.1}..{:+.1}); evidence for better {} of {BETTER_AT}, for worse {} of {WORSE_AT}",
            self.n,
            self.wins,
            self.losses,
            self.n - self.wins - self.losses,
            100.0 * self.difference,
            100.0 * self.low,
            100.0 * self.high,
            short(self.e_better),
            short(self.e_worse),
        )
    }
}

fn short(e: f64) -> String {
    if e >= 1000.0 { "over 1000".to_string() } else { format!("{e:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_in_words_what_it_knows() {
        let mut gate = Gate::new(Opponent::Champion, None);
        assert_eq!(gate.report().verdict_text(), "Not yet compared with the champion.");
        for (candidate, champion) in [(false, true), (false, true), (true, true), (true, false)] {
            gate.add(candidate, champion);
        }
        gate.leave_out();
        let report = gate.report();
        assert!(report.verdict_text().starts_with("Cannot tell"), "{}", report.verdict_text());
        let figures = report.figures_text();
        assert!(
            figures.starts_with("4 pairs: 1 won, 2 lost, 1 equal; 1 left out: a pass failed, or nobody has judged its answer; difference -25.0 points (95 % at every look: "),
            "{figures}"
        );
        for _ in 0..12 {
            gate.add(false, true);
        }
        let report = gate.report();
        assert_eq!(
            report.verdict_text(),
            "Worse than the champion after 10 paired rollouts: it is not activated."
        );
        assert!(report.low < report.difference && report.difference < report.high && report.high < 0.0);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
