//! What the seeds of an arm say together: against the frozen planner, and per family.

use std::fmt::Write as _;

use super::{ARMS, Run, percent};
use crate::tasks::eval::Scored;
use crate::tasks::figures::by_question;
use crate::tasks::stats::{Resampled, resampled};
use crate::tasks::tool::BASE;

fn rows_of<'a>(runs: &'a [Run], arm: &str) -> Vec<&'a Scored> {
    runs.iter().filter(|run| run.arm == arm).flat_map(|run| &run.rows).map(|row| &row.scored).collect()
}

fn right(row: &Scored) -> (usize, usize) {
    (usize::from(row.right), 1)
}

fn errors(row: &Scored) -> (usize, usize) {
    (row.tool_errors.k, row.tool_errors.n)
}

/// The base tool is the model's own knowledge; a call of it gives something whatever is asked.
fn errors_where_possible(row: &Scored) -> (usize, usize) {
    let base = row.tools.iter().filter(|tool| *tool == BASE).count();
    (row.tool_errors.k, row.tool_errors.n.saturating_sub(base))
}

/// The seeds of each arm put together, its questions resampled whole.
pub(super) fn pooled(runs: &[Run]) -> String {
    let frozen = rows_of(runs, "frozen");
    let mut text = String::from(
        "| all seeds together (95 %: questions resampled) | held-out right | points over frozen | tool-call errors | times frozen | of calls that can fail | times frozen |\n|---|---|---|---|---|---|---|\n",
    );
    for (arm, name) in ARMS {
        let rows = rows_of(runs, arm);
        if rows.is_empty() {
            continue;
        }
        let against = |of: fn(&Scored) -> (usize, usize), figure: fn(f64, f64) -> f64| {
            resampled(&by_question(rows.iter().copied(), frozen.iter().copied(), of), figure)
        };
        let own = |of| {
            let told = against(of, |own, _| 100.0 * own);
            let (k, n) = rows.iter().map(|row| of(row)).fold((0, 0), |(k, n), (a, b)| (k + a, n + b));
            format!("{:.1} % ({k} of {n}; {:.1}..{:.1})", told.value, told.low, told.high)
        };
        let beside = |told: Resampled, digits| if arm == "frozen" { "-".into() } else { told.text(digits) };
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} |",
            own(right),
            beside(against(right, |own, frozen| 100.0 * (own - frozen)), 1),
            own(errors),
            beside(against(errors, |own, frozen| own / frozen), 2),
            own(errors_where_possible),
            beside(against(errors_where_possible, |own, frozen| own / frozen), 2),
        );
    }
    text
}

/// Right answers per family.
pub(super) fn families(runs: &[Run]) -> String {
    let mut names: Vec<&str> =
        runs.iter().flat_map(|run| &run.rows).map(|row| row.scored.family.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut text = String::from("| right per family, all seeds |");
    names.iter().for_each(|name| text.push_str(&format!(" {name} |")));
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(names.len()));
    for (arm, name) in ARMS {
        let rows = rows_of(runs, arm);
        if rows.is_empty() {
            continue;
        }
        let _ = write!(text, "| {name} |");
        for family in &names {
            let of: Vec<_> = rows.iter().filter(|row| row.family == *family).collect();
            let right = of.iter().filter(|row| row.right).count();
            let _ = write!(text, " {:.1} % of {} |", percent(right, of.len()), of.len());
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::eval::rows::Row;

    fn run(arm: &'static str, seed: u64, rights: &[bool], errors: &[usize]) -> Run {
        let share = |k, n| json!({"k": k, "n": n});
        let row = |(at, (right, k)): (usize, (&bool, &usize))| {
            let line = json!({
                "kind": "question", "side": "adapter", "turn_limit": 10, "id": format!("q{at}"),
                "family": "csv", "query": "", "seed": seed, "trajectory": "", "right": right, "failed": null,
                "answer": null, "turns": 2, "tools": ["search", BASE], "tokens": 1, "seconds": 0.1,
                "tool_errors": share(*k, 2), "commands": share(0, 0), "verdicts": share(0, 0),
                "copies": share(0, 0),
            });
            serde_json::from_value::<Row>(line).unwrap()
        };
        let rows = rights.iter().zip(errors).enumerate().map(row).collect();
        Run { arm, name: arm, seed, rows, training: Vec::new() }
    }

    #[test]
    fn seeds_are_put_together() {
        let runs = [
            run("frozen", 1, &[true, false, false, false], &[1, 0, 1, 0]),
            run("frozen", 2, &[true, false, false, false], &[1, 0, 0, 1]),
            run("flow", 1, &[true, true, true, false], &[0, 0, 1, 0]),
        ];
        let text = pooled(&runs);
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap().to_string();
        let frozen = line("frozen planner");
        assert!(frozen.contains("| 25.0 % (2 of 8; "), "{frozen}");
        assert!(
            frozen.contains("| - | 25.0 % (4 of 16; ") && frozen.contains("| 50.0 % (4 of 8; "),
            "{frozen}"
        );
        let flow = line("(`flow`)");
        assert!(flow.contains("| 75.0 % (3 of 4; ") && flow.contains(" | 50.0 (0.0..100.0) | "), "{flow}");
        assert!(flow.contains("| 12.5 % (1 of 8; ") && flow.contains(" | 0.50 ("), "{flow}");
        assert!(families(&runs).contains("| Flow-GRPO (`flow`) | 75.0 % of 4 |"), "{}", families(&runs));
    }
}
