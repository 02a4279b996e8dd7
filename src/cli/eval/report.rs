//! An evaluation's figures as a table for people (text or Markdown) and as JSON lines for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::tasks::eval::Share;
use crate::tasks::figures::{Figures, Mean, comparison_text};
use crate::tasks::judge::{Identity, Judged};
use crate::tasks::stats::{Pairs, Resampled};

/// One side under one turn limit.
pub struct Limited {
    pub turn_limit: usize,
    pub figures: Figures,
}

/// Everything that is reported.
pub struct Report {
    pub adapter: Figures,
    pub compare: Option<Compared>,
    /// The first side by turn limit, where asked for.
    pub curve: Vec<Limited>,
    /// A judge's opinions, beside the accuracy and never in it.
    pub judged: Option<Judging>,
    /// Questions this run answered itself, and the time it took.
    pub answered: usize,
    pub seconds: f64,
}

/// The other side, and the first side against it.
pub struct Compared {
    pub figures: Figures,
    pub pairs: Pairs,
    /// Rate of tool-call errors over the other side's.
    pub tool_errors: Resampled,
}

/// One judge, and what it said of each side, in the order of the sides.
pub struct Judging {
    pub judge: Identity,
    pub sides: Vec<Judged>,
    /// Why the first answer it gave no opinion on got none.
    pub why: Option<String>,
}

/// A table as rows of cells; the first row is the head.
struct Table(Vec<Vec<String>>);

impl Table {
    fn new(head: &[&str]) -> Table {
        Table(vec![head.iter().map(ToString::to_string).collect()])
    }

    fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.0.push(cells.into_iter().map(Into::into).collect());
    }

    fn text(&self) -> String {
        let columns = self.0.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.0
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.0 {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:<width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        for (number, row) in self.0.iter().enumerate() {
            let cells: Vec<String> = row.iter().map(|cell| cell.trim().replace('|', "\\|")).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
            if number == 0 {
                let _ = writeln!(text, "|{}", "---|".repeat(row.len()));
            }
        }
        text
    }
}

fn share(share: Share) -> String {
    // A share of nothing is no 0 %.
    if share.n == 0 {
        return "    - (0/0)".to_string();
    }
    let (low, high) = share.interval();
    format!(
        "{:5.1} % ({}/{}; {:.1}..{:.1})",
        100.0 * share.value(),
        share.k,
        share.n,
        100.0 * low,
        100.0 * high
    )
}

fn mean(mean: Mean, digits: usize) -> String {
    format!("{:.digits$} ± {:.digits$}", mean.value(), mean.half_width())
}

fn limit_name(limit: usize) -> String {
    if limit == 0 { "none".to_string() } else { limit.to_string() }
}

impl Report {
    fn sides(&self) -> Vec<&Figures> {
        std::iter::once(&self.adapter).chain(self.compare.as_ref().map(|other| &other.figures)).collect()
    }

    fn head<'a>(&self, first: &'a str, one: &'a str) -> Table {
        match self.compare {
            None => Table::new(&[first, one]),
            Some(_) => Table::new(&[first, "--adapter", "--compare"]),
        }
    }

    fn families(&self) -> Table {
        let sides = self.sides();
        let mut table = self.head("family", "right (k/n; Wilson 95 %)");
        for family in self.adapter.families.keys() {
            let cells =
                sides.iter().map(|side| share(side.families.get(family).copied().unwrap_or_default()));
            table.row(std::iter::once(family.clone()).chain(cells));
        }
        table.row(std::iter::once("all".to_string()).chain(sides.iter().map(|side| share(side.overall))));
        table
    }

    fn roles(&self) -> Table {
        let sides = self.sides();
        let mut table = self.head("part", "share (k/n; Wilson 95 %)");
        let mut add = |name: &str, of: fn(&Figures) -> String| {
            table.row(std::iter::once(name.to_string()).chain(sides.iter().map(|side| of(side))));
        };
        add("tool calls that gave no result", |f| share(f.tool_errors));
        add("executor: commands fit their schema", |f| share(f.commands));
        add("verifier: right where a checker can tell", |f| share(f.verdicts));
        add("generator: gives the answer memory holds", |f| share(f.copies));
        add("failed (counted as wrong)", |f| share(Share { k: f.failed, n: f.overall.n }));
        if sides.iter().any(|side| side.f1.n > 0) {
            add("token F1 (mean ± 95 %)", |f| format!("{} (n {})", mean(f.f1, 3), f.f1.n));
        }
        add("turns (mean ± 95 %)", |f| mean(f.turns, 2));
        add("sampled tokens (mean ± 95 %)", |f| mean(f.tokens, 0));
        add("seconds (mean ± 95 %, questions run together)", |f| mean(f.seconds, 2));
        table
    }

    fn tools(&self) -> Table {
        let sides = self.sides();
        let mut table = self.head("tool", "turns that planned it (k/n; Wilson 95 %)");
        let names: std::collections::BTreeSet<&String> =
            sides.iter().flat_map(|side| side.tools.keys()).collect();
        for name in names {
            let cells = sides.iter().map(|side| {
                let k = side.tools.get(name).copied().unwrap_or_default();
                share(Share { k, n: side.tools.values().sum() })
            });
            table.row(std::iter::once(name.clone()).chain(cells));
        }
        table
    }

    fn judging(&self, judging: &Judging) -> Table {
        let mut table = self.head("judge, beside the checker and never in its place", "judge");
        let mut add = |name: &str, of: &dyn Fn(&Judged) -> String| {
            table.row(std::iter::once(name.to_string()).chain(judging.sides.iter().map(of)));
        };
        add("judged equivalent (k/n; Wilson 95 %)", &|j| share(j.share));
        add("answers judged", &|j| j.judged().to_string());
        add("answers it could not judge (in no share)", &|j| j.unjudged.to_string());
        add("questions without an answer (count as not equivalent)", &|j| j.unanswered.to_string());
        add("checker and judge agree (k/n; Wilson 95 %)", &|j| share(j.agreement()));
        add("right, and equivalent", &|j| j.against_checker.both_right.to_string());
        add("right, but judged not equivalent", &|j| j.against_checker.wins.to_string());
        add("wrong, but judged equivalent", &|j| j.against_checker.losses.to_string());
        add("wrong, and not equivalent", &|j| j.against_checker.both_wrong.to_string());
        table
    }

    fn curve(&self) -> Table {
        let mut table = Table::new(&["turn limit", "right (k/n; Wilson 95 %)", "turns (mean ± 95 %)"]);
        for Limited { turn_limit, figures } in &self.curve {
            table.row([limit_name(*turn_limit), share(figures.overall), mean(figures.turns, 2)]);
        }
        table
    }

    fn comparison(Compared { figures: _, pairs, tool_errors }: &Compared) -> String {
        let (difference, low, high) = pairs.difference();
        format!(
            "{} questions paired (same seeds): {} right for both, {} only for --adapter, {} only for --compare, {} for neither.\n--adapter against --compare: {:+.1} points (95 % {:+.1}..{:+.1}), exact two-sided p {}: {}.\nTool calls that gave no result, rate of --adapter over that of --compare: {} (95 %, questions resampled).\n",
            pairs.n(),
            pairs.both_right,
            pairs.wins,
            pairs.losses,
            pairs.both_wrong,
            100.0 * difference,
            100.0 * low,
            100.0 * high,
            p_text(pairs.p_value()),
            comparison_text(pairs),
            tool_errors.text(2),
        )
    }

    /// For people.
    pub fn text(&self, markdown: bool) -> String {
        let render = |table: Table| if markdown { table.markdown() } else { table.text() };
        let mut text = render(self.families());
        if let Some(other) = &self.compare {
            let _ = write!(text, "\n{}", Report::comparison(other));
        }
        let _ = write!(text, "\n{}\n{}", render(self.roles()), render(self.tools()));
        if self.curve.len() > 1 {
            let _ = write!(text, "\n{}", render(self.curve()));
        }
        if let Some(judging) = &self.judged {
            let _ = write!(
                text,
                "\n{}Judge: {}, prompt {}. An opinion of a model; the accuracy above is the checkers' alone.\n",
                render(self.judging(judging)),
                super::judging::named(&judging.judge),
                judging.judge.prompt
            );
            if let Some(why) = &judging.why {
                let _ = writeln!(text, "The first it could not judge: {}", crate::text::safe(why));
            }
        }
        let speed = self.answered as f64 / self.seconds.max(1e-9);
        let _ = writeln!(
            text,
            "\n{} questions answered by this run in {:.0} s ({speed:.1} questions/s)",
            self.answered, self.seconds
        );
        text
    }

    /// For programs: a line per family and turn limit, then the closing `eval` line.
    pub fn lines(&self) -> Vec<Value> {
        let mut lines = Vec::new();
        for (family, share) in &self.adapter.families {
            let mut line = labelled("family", share_json(*share));
            line["family"] = family.as_str().into();
            if let Some(other) = &self.compare {
                line["compare"] = share_json(other.figures.families.get(family).copied().unwrap_or_default());
            }
            lines.push(line);
        }
        for Limited { turn_limit, figures } in &self.curve {
            let mut line = labelled("turn_limit", share_json(figures.overall));
            line["turn_limit"] = (*turn_limit).into();
            line["turns_mean"] = figures.turns.value().into();
            lines.push(line);
        }
        if let Some(judging) = &self.judged {
            for (judged, side) in judging.sides.iter().zip(["adapter", "compare"]) {
                lines.push(judged_line(judging, judged, side));
            }
        }
        lines.push(self.eval_line());
        lines
    }

    fn eval_line(&self) -> Value {
        let f = &self.adapter;
        let (low, high) = f.overall.interval();
        let compare = self.compare.as_ref();
        let mut line = json!({
            "kind": "eval", "n": f.overall.n, "accuracy": f.overall.value(), "low": low, "high": high,
            "failed": f.failed, "accuracy_compare": compare.map(|other| other.figures.overall.value()),
            "p_value": compare.map(|other| other.pairs.p_value()), "turns_mean": f.turns.value(),
            "tool_error_rate": f.tool_errors.value(), "tool_calls": f.tool_errors.n, "tools": f.tools,
            "commands_well_formed": share_json(f.commands), "verdicts_right": share_json(f.verdicts),
            "answers_copied": share_json(f.copies), "tokens_mean": f.tokens.value(),
            "seconds_mean": f.seconds.value(), "seconds": self.seconds, "answered": self.answered,
        });
        if f.f1.n > 0 {
            line["f1"] = json!({"mean": f.f1.value(), "n": f.f1.n, "half_width": f.f1.half_width()});
        }
        if let Some(Compared { figures, pairs, tool_errors }) = compare {
            let (difference, low, high) = pairs.difference();
            line["comparison"] = json!({
                "pairs": pairs.n(), "both_right": pairs.both_right, "wins": pairs.wins, "losses": pairs.losses,
                "both_wrong": pairs.both_wrong, "difference": difference, "low": low, "high": high,
                "verdict": comparison_text(pairs), "failed": figures.failed,
                "turns_mean": figures.turns.value(), "tool_error_rate": figures.tool_errors.value(),
                "tool_error_ratio": tool_errors.value.is_finite().then(|| json!({
                    "ratio": tool_errors.value, "low": tool_errors.low, "high": tool_errors.high,
                })),
            });
        }
        line
    }
}

fn judged_line(judging: &Judging, judged: &Judged, side: &str) -> Value {
    let table = &judged.against_checker;
    json!({
        "kind": "judge", "side": side, "judge": judging.judge, "equivalent": share_json(judged.share),
        "judged": judged.judged(), "unjudged": judged.unjudged, "unanswered": judged.unanswered,
        "agreement": share_json(judged.agreement()), "right_equivalent": table.both_right,
        "right_not_equivalent": table.wins, "wrong_equivalent": table.losses,
        "wrong_not_equivalent": table.both_wrong, "first_unjudged": judging.why,
    })
}

fn share_json(share: Share) -> Value {
    let (low, high) = share.interval();
    json!({"share": share.value(), "k": share.k, "n": share.n, "low": low, "high": high})
}

fn labelled(kind: &str, mut line: Value) -> Value {
    line["kind"] = kind.into();
    line
}

fn p_text(p: f64) -> String {
    if p < 1e-4 { format!("{p:.1e}") } else { format!("{p:.4}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(k: usize, n: usize) -> Figures {
        let mut figures = Figures { overall: Share { k, n }, ..Figures::default() };
        figures.families.insert("lookup".into(), Share { k, n });
        figures.tools.insert("search".into(), n);
        figures.turns.add(2.0);
        figures
    }

    fn report() -> Report {
        let pairs = Pairs { both_right: 30, wins: 12, losses: 2, both_wrong: 36 };
        let tool_errors = Resampled { value: 0.44, low: 0.27, high: 0.713 };
        Report {
            adapter: figures(42, 80),
            compare: Some(Compared { figures: figures(32, 80), pairs, tool_errors }),
            curve: [1, 10].map(|turn_limit| Limited { turn_limit, figures: figures(turn_limit, 80) }).into(),
            judged: None,
            answered: 160,
            seconds: 3.0,
        }
    }

    #[test]
    fn tables_say_n_and_interval_and_the_comparison() {
        let text = report().text(false);
        for part in [
            "all      52.5 % (42/80; 41.7..63.1)   40.0 % (32/80; 30.0..51.0)",
            "80 questions paired (same seeds): 30 right for both, 12 only for --adapter, 2 only for --compare, 36 for neither.",
            "+12.5 points (95 % ",
            "exact two-sided p 0.0129: better.",
            "over that of --compare: 0.44 (0.27..0.71) (95 %, questions resampled).",
            "turn limit",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        let markdown = report().text(true);
        assert!(
            markdown
                .starts_with("| family | --adapter | --compare |\n|---|---|---|\n| lookup | 52.5 % (42/80;")
        );
    }

    #[test]
    fn a_judge_stands_apart_and_changes_no_accuracy() {
        let mut judged = Judged::default();
        (0..30).for_each(|_| judged.add(true, Some(true)));
        (0..7).for_each(|_| judged.add(false, Some(true)));
        (0..2).for_each(|_| judged.add(true, Some(false)));
        judged.add(true, None);
        judged.add_unanswered();
        let judge = Identity { engine: "box".into(), model: "m".into(), ..Identity::default() };
        let why = Some("q7: timed out".to_string());
        let with = Report { judged: Some(Judging { judge, sides: vec![judged; 2], why }), ..report() };
        for markdown in [false, true] {
            let (plain, said) = (report().text(markdown), with.text(markdown));
            for line in plain.lines() {
                assert!(said.lines().any(|other| other == line), "{line:?} changed in\n{said}");
            }
            for part in
                ["92.5 % (37/40;", "76.9 % (30/39;", "Judge: box (m)", "could not judge: q7: timed out"]
            {
                assert!(said.contains(part), "no {part:?} in\n{said}");
            }
        }
        let (plain, said) = (report().lines(), with.lines());
        assert_eq!(plain.last(), said.last(), "the closing line is the checkers'");
        let line = said.iter().find(|line| line["kind"] == "judge").unwrap();
        assert_eq!((&line["right_not_equivalent"], &line["wrong_equivalent"]), (&json!(2), &json!(7)));
        assert_eq!((&line["judged"], &line["unjudged"]), (&json!(39), &json!(1)));
    }

    #[test]
    fn the_closing_line_keeps_the_contract() {
        let lines = report().lines();
        let line = lines.last().unwrap();
        assert_eq!((line["kind"].as_str(), line["n"].as_u64()), (Some("eval"), Some(80)));
        for key in [
            "accuracy",
            "low",
            "high",
            "failed",
            "accuracy_compare",
            "p_value",
            "turns_mean",
            "tool_error_rate",
        ] {
            assert!(line[key].is_number(), "{key}: {line}");
        }
        assert_eq!(line["comparison"]["verdict"], "better");
        assert_eq!(line["comparison"]["tool_error_ratio"]["high"], 0.713);
        let alone = Report { compare: None, ..report() }.eval_line();
        assert!(alone["accuracy_compare"].is_null() && alone["p_value"].is_null());
    }
}
