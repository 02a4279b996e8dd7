//! `tillerman __reproduce-report`: what `scripts/reproduce.sh` left behind, as a Markdown table and SVG pictures.
//!
//! It computes and trains nothing: every figure is counted from the question lines and training lines in the
//! folder, so that anybody can count again.

mod arms;
mod plot;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use crate::cli::eval::rows::Row;
use crate::tasks::figures::Figures;
use crate::tasks::stats::{Pairs, wilson};

#[derive(Debug, Args)]
pub struct ReproduceReportArgs {
    /// Folder `scripts/reproduce.sh` worked in; or a report (README.md) whose table is drawn again, held-out.svg alone
    pub folder: PathBuf,
    /// Where report.md and the pictures go (default: the folder itself)
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// The arms in the order they are told, with what they are.
const ARMS: [(&str, &str); 5] = [
    ("frozen", "frozen planner"),
    ("imitation", "imitation of own right rollouts"),
    ("reference", "Flow-GRPO, row statistics (`reference`)"),
    ("flow", "Flow-GRPO (`flow`)"),
    ("shuffled", "`flow`, rewards shuffled (control)"),
];

/// One finished run.
struct Run {
    arm: &'static str,
    name: &'static str,
    seed: u64,
    rows: Vec<Row>,
    training: Vec<Value>,
}

pub fn run(args: &ReproduceReportArgs) -> anyhow::Result<i32> {
    if args.folder.is_file() {
        return draw_again(args);
    }
    let runs = load(&args.folder)?;
    let frozen: Vec<&Run> = runs.iter().filter(|run| run.arm == "frozen").collect();
    let first = frozen.first();
    let first = first.with_context(|| format!("{} has no finished frozen arm", args.folder.display()))?;
    let mut text = String::from(
        "| planner | seed | held-out right | against frozen, points (95 %) | exact p | Game of 24 | tool-call errors | turns | turns where both are right | minutes |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for run in &runs {
        // Judged under a seed that the frozen planner was not judged under: another draw of the same questions.
        let twin = frozen.iter().find(|other| other.seed == run.seed).unwrap_or(first);
        text.push_str(&line(run, twin));
    }
    let _ = write!(text, "\n{}\n{}", arms::pooled(&runs), arms::families(&runs));
    let out = args.out.as_ref().unwrap_or(&args.folder);
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let place = |name: &str, content: &str| {
        let path = out.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    place("report.md", &text)?;
    place("training.svg", &plot::training(&curves(&runs)))?;
    place("held-out.svg", &plot::bars(&bars(&runs)))?;
    print!("{text}");
    Ok(0)
}

/// Rows come to a report at different times, from different machines; the picture is that of the table as it stands.
fn draw_again(args: &ReproduceReportArgs) -> anyhow::Result<i32> {
    let report = &args.folder;
    let text =
        std::fs::read_to_string(report).with_context(|| format!("cannot read {}", report.display()))?;
    let bars = told(&text).with_context(|| format!("{}", report.display()))?;
    let out = args.out.as_deref().or(report.parent()).unwrap_or(Path::new(".")).join("held-out.svg");
    std::fs::write(&out, plot::bars(&bars)).with_context(|| format!("cannot write {}", out.display()))?;
    println!("{}: {} runs", out.display(), bars.len());
    Ok(0)
}

/// The bars of a report's first table.
fn told(report: &str) -> anyhow::Result<Vec<plot::Bar>> {
    let table = report.lines().skip_while(|line| !line.starts_with("| planner | seed | held-out right |"));
    let mut bars = Vec::new();
    for row in table.skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let read = || {
            let (arm, _) = ARMS.into_iter().find(|(_, name)| *name == cells[1])?;
            let (share, bounds) = cells.get(3)?.split_once(" % (")?;
            let (low, high) = bounds.strip_suffix(')')?.split_once("..")?;
            let part = |text: &str| text.parse::<f64>().ok().map(|percent| percent / 100.0);
            Some(plot::Bar {
                arm,
                label: format!("{arm} {}", cells[2]),
                share: part(share)?,
                low: part(low)?,
                high: part(high)?,
            })
        };
        bars.push(read().with_context(|| format!("this is no row of a report: {row}"))?);
    }
    anyhow::ensure!(!bars.is_empty(), "no table of a report is in it");
    Ok(bars)
}

fn load(folder: &Path) -> anyhow::Result<Vec<Run>> {
    let mut runs = Vec::new();
    for (arm, name) in ARMS {
        for seed in 1..=99_u64 {
            let stem = folder.join(format!("{arm}-{seed}"));
            let at = |end: &str| PathBuf::from(format!("{}.{end}", stem.display()));
            if !at("done").exists() {
                continue;
            }
            let rows = lines(&at("eval.jsonl"))?;
            let rows = rows.into_iter().filter(|line| line["kind"] == "question");
            let rows = rows.map(serde_json::from_value).collect::<Result<Vec<Row>, _>>();
            let rows =
                rows.with_context(|| format!("{} has a line that is no row", at("eval.jsonl").display()))?;
            let training = if arm == "frozen" { Vec::new() } else { lines(&at("train.jsonl"))? };
            runs.push(Run { arm, name, seed, rows, training });
        }
    }
    Ok(runs)
}

fn lines(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("{}, line {}", path.display(), number + 1))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
}

/// Rows of both sides that asked the same question.
fn paired<'a>(run: &'a Run, frozen: &'a Run) -> impl Iterator<Item = (&'a Row, &'a Row)> {
    let base: BTreeMap<&str, &Row> = frozen.rows.iter().map(|row| (row.scored.id.as_str(), row)).collect();
    run.rows.iter().filter_map(move |row| base.get(row.scored.id.as_str()).map(|other| (row, *other)))
}

fn line(run: &Run, frozen: &Run) -> String {
    let figures = Figures::of(run.rows.iter().map(|row| &row.scored));
    let (k, n) = (run.rows.iter().filter(|row| row.scored.right).count(), run.rows.len());
    let game: Vec<&Row> = run.rows.iter().filter(|row| row.scored.family == "game24").collect();
    let (gk, gn) = (game.iter().filter(|row| row.scored.right).count(), game.len());
    let mut pairs = Pairs::default();
    let mut turns = (0, 0, 0);
    for (ours, theirs) in paired(run, frozen) {
        pairs.add(ours.scored.right, theirs.scored.right);
        if ours.scored.right && theirs.scored.right {
            turns = (turns.0 + ours.scored.turns, turns.1 + theirs.scored.turns, turns.2 + 1);
        }
    }
    let share = |k: usize, n: usize| {
        let (low, high) = wilson(k, n);
        format!("{:.1} % ({:.1}..{:.1})", percent(k, n), 100.0 * low, 100.0 * high)
    };
    let (difference, low, high) = pairs.difference();
    let against = if run.arm == "frozen" {
        ["-".to_string(), "-".to_string(), "-".to_string()]
    } else {
        let mean = |sum: usize| sum as f64 / turns.2.max(1) as f64;
        [
            format!("{:+.1} ({:+.1}..{:+.1})", 100.0 * difference, 100.0 * low, 100.0 * high),
            format!("{:.0e}", pairs.p_value()),
            format!("{:.2} (frozen {:.2}, n {})", mean(turns.0), mean(turns.1), turns.2),
        ]
    };
    let all: usize = run.rows.iter().map(|row| row.scored.turns).sum();
    let [points, p, both] = against;
    format!(
        "| {} | {} | {} | {points} | {p} | {:.1} % of {gn} | {} | {:.2} | {both} | {} |\n",
        run.name,
        run.seed,
        share(k, n),
        percent(gk, gn),
        share(figures.tool_errors.k, figures.tool_errors.n),
        all as f64 / n.max(1) as f64,
        minutes(run),
    )
}

/// Time the steps and looks of a run took, without the gate.
fn minutes(run: &Run) -> String {
    let timed = ["rolled", "stepped", "validated"];
    let of =
        |line: &Value| line["seconds"].as_f64().filter(|_| timed.iter().any(|kind| line["kind"] == *kind));
    let seconds: f64 = run.training.iter().filter_map(of).sum();
    if seconds == 0.0 { "-".to_string() } else { format!("{:.1}", seconds / 60.0) }
}

fn percent(k: usize, n: usize) -> f64 {
    100.0 * k as f64 / n.max(1) as f64
}

/// Share of right rollouts by step, one line per run.
fn curves(runs: &[Run]) -> Vec<plot::Curve> {
    let curve = |run: &Run| {
        let of = |line: &Value| {
            let done = line["rollouts"].as_f64()? - line["failed"].as_f64()?;
            Some((line["step"].as_f64()?, line["right"].as_f64()? / done.max(1.0)))
        };
        let rolled = run.training.iter().filter(|line| line["kind"] == "rolled");
        plot::Curve { arm: run.arm, points: rolled.filter_map(of).collect() }
    };
    runs.iter().filter(|run| !run.training.is_empty()).map(curve).collect()
}

fn bars(runs: &[Run]) -> Vec<plot::Bar> {
    let bar = |run: &Run| {
        let (k, n) = (run.rows.iter().filter(|row| row.scored.right).count(), run.rows.len());
        let (low, high) = wilson(k, n);
        let label = format!("{} {}", run.arm, run.seed);
        plot::Bar { arm: run.arm, label, share: percent(k, n) / 100.0, low, high }
    };
    runs.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_readme_is_what_the_picture_shows() {
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
        let bars = told(&readme).unwrap();
        assert!(bars.len() > 3 && bars.iter().all(|bar| bar.low < bar.share && bar.share < bar.high));
        let drawn =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/pictures/held-out.svg"));
        assert_eq!(
            drawn.unwrap(),
            plot::bars(&bars),
            "tillerman __reproduce-report README.md --out assets/pictures"
        );
        let cut = readme.replace(" % (56.7", " % [56.7");
        assert!(told(&cut).err().unwrap().to_string().contains("| frozen planner |"));
        assert!(told("no table").is_err());
    }
}
