//! What scored rows say together: shares with intervals, tool mix, means, and two sides of the same questions.
//!
//! Numbers only; tables and JSON are made where they are printed.

use std::collections::BTreeMap;

use crate::tasks::eval::{Scored, Share};
use crate::tasks::stats::{BothSides, Pairs, wilson};

impl Share {
    /// Wilson 95 %.
    pub fn interval(self) -> (f64, f64) {
        wilson(self.k, self.n)
    }
}

/// Figures of one side: all questions it answered under one turn limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub overall: Share,
    pub families: BTreeMap<String, Share>,
    pub failed: usize,
    /// Turns that planned each tool.
    pub tools: BTreeMap<String, usize>,
    /// Token F1 over the questions that have one.
    pub f1: Mean,
    pub turns: Mean,
    pub tokens: Mean,
    pub seconds: Mean,
    pub tool_errors: Share,
    pub commands: Share,
    pub verdicts: Share,
    pub copies: Share,
}

/// Mean of n values with its 95 % interval (1.96 standard errors).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    pub n: usize,
    sum: f64,
    squares: f64,
}

impl Mean {
    pub fn add(&mut self, value: f64) {
        self.n += 1;
        self.sum += value;
        self.squares += value * value;
    }

    /// 0 for n = 0.
    pub fn value(self) -> f64 {
        self.sum / self.n.max(1) as f64
    }

    /// Half the interval's width; 0 where n < 2 says nothing.
    pub fn half_width(self) -> f64 {
        if self.n < 2 {
            return 0.0;
        }
        let n = self.n as f64;
        let variance = (self.squares - self.sum * self.sum / n).max(0.0) / (n - 1.0);
        1.959_964 * (variance / n).sqrt()
    }
}

impl Figures {
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a Scored>) -> Figures {
        let mut figures = Figures::default();
        for row in rows {
            figures.overall.add(row.right);
            figures.families.entry(row.family.clone()).or_default().add(row.right);
            figures.failed += usize::from(row.failed.is_some());
            for tool in &row.tools {
                let name = if tool.is_empty() { "no plan" } else { tool };
                *figures.tools.entry(name.to_string()).or_default() += 1;
            }
            if let Some(f1) = row.f1 {
                figures.f1.add(f1);
            }
            figures.turns.add(row.turns as f64);
            figures.tokens.add(row.tokens as f64);
            figures.seconds.add(row.seconds);
            figures.tool_errors.join(row.tool_errors);
            figures.commands.join(row.commands);
            figures.verdicts.join(row.verdicts);
            figures.copies.join(row.copies);
        }
        figures
    }
}

/// Rows of two sides joined by (question, seed); a row without its twin is not counted.
pub fn paired<'a>(
    first: impl IntoIterator<Item = &'a Scored>,
    second: impl IntoIterator<Item = &'a Scored>,
) -> Pairs {
    let second: BTreeMap<(&str, u64), bool> =
        second.into_iter().map(|row| ((row.id.as_str(), row.seed), row.right)).collect();
    let mut pairs = Pairs::default();
    for row in first {
        if let Some(other) = second.get(&(row.id.as_str(), row.seed)) {
            pairs.add(row.right, *other);
        }
    }
    pairs
}

/// What `of` counts (k, n), put together per question; a question that one side was never asked is left out.
pub fn by_question<'a>(
    first: impl IntoIterator<Item = &'a Scored>,
    second: impl IntoIterator<Item = &'a Scored>,
    of: impl Fn(&Scored) -> (usize, usize),
) -> Vec<BothSides> {
    let mut questions: BTreeMap<&str, [Option<(usize, usize)>; 2]> = BTreeMap::new();
    let mut add = |side: usize, row: &'a Scored| {
        let (k, n) = of(row);
        let sum = questions.entry(&row.id).or_default()[side].get_or_insert_default();
        *sum = (sum.0 + k, sum.1 + n);
    };
    first.into_iter().for_each(|row| add(0, row));
    second.into_iter().for_each(|row| add(1, row));
    questions.into_values().filter_map(|[first, second]| Some([first?, second?])).collect()
}

/// What a paired comparison says, in words: better, worse or cannot tell, at p < 0.05 two-sided.
pub fn comparison_text(pairs: &Pairs) -> &'static str {
    match (pairs.p_value() < 0.05, pairs.wins > pairs.losses) {
        (false, _) => "cannot tell",
        (true, true) => "better",
        (true, false) => "worse",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, right: bool, turns: usize) -> Scored {
        Scored {
            id: id.into(),
            family: if id < "c" { "lookup" } else { "csv" }.into(),
            query: String::new(),
            seed: 1,
            trajectory: String::new(),
            right,
            f1: None,
            failed: (turns == 0).then(|| "engine".to_string()),
            answer: None,
            turns,
            tools: vec!["search".into(); turns],
            tokens: 10 * turns,
            seconds: 0.5,
            tool_errors: Share { k: usize::from(turns > 1), n: turns },
            commands: Share::default(),
            verdicts: Share::default(),
            copies: Share::default(),
        }
    }

    #[test]
    fn rows_add_up() {
        let rows = [row("a", true, 1), row("b", false, 3), row("c", false, 0), row("d", true, 2)];
        let figures = Figures::of(&rows);
        assert_eq!((figures.overall, figures.failed), (Share { k: 2, n: 4 }, 1));
        assert_eq!(figures.families["csv"], Share { k: 1, n: 2 });
        assert_eq!(figures.tools["search"], 6);
        assert_eq!((figures.turns.value(), figures.tokens.value()), (1.5, 15.0));
        assert!((figures.turns.half_width() - 1.96 * (5.0_f64 / 3.0 / 4.0).sqrt()).abs() < 1e-4);
        assert_eq!(figures.tool_errors, Share { k: 2, n: 6 });
        assert_eq!(Mean::default().half_width(), 0.0);
    }

    #[test]
    fn pairs_are_joined_by_question_and_seed() {
        let first = [row("a", true, 1), row("b", true, 1), row("c", false, 1), row("x", true, 1)];
        let mut second = [row("c", true, 1), row("b", false, 1), row("a", true, 1), row("x", true, 1)];
        second[3].seed = 2;
        let pairs = paired(&first, &second);
        assert_eq!(pairs, Pairs { both_right: 1, wins: 1, losses: 1, both_wrong: 0 });
        assert_eq!(comparison_text(&pairs), "cannot tell");
        assert_eq!(comparison_text(&Pairs { wins: 20, losses: 2, ..pairs }), "better");
        assert_eq!(comparison_text(&Pairs { wins: 2, losses: 20, ..pairs }), "worse");
    }

    #[test]
    fn counts_are_put_together_per_question() {
        let first = [row("a", true, 2), row("a", false, 1), row("only", true, 1)];
        let second = [row("a", true, 1), row("never", true, 1)];
        let errors = |row: &Scored| (row.tool_errors.k, row.tool_errors.n);
        assert_eq!(by_question(&first, &second, errors), [[(1, 3), (0, 1)]]);
        assert_eq!(by_question(&second, &first, |row| (usize::from(row.right), 1)), [[(1, 1), (1, 2)]]);
    }
}
