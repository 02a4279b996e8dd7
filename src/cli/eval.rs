//! `tillerman eval`: every question of a task file through the real loop, scored by its checker.
//!
//! Prints one line per question, a table per family with Wilson 95 % intervals, and how well the frozen
//! roles did their part. A question that failed (engine, limit) counts as wrong and is also counted failed.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::flow::event::{Event, Sink};
use crate::flow::solve::{Ask, Flow, solve};
use crate::flow::trajectory::{Decision, Outcome, Trajectory};
use crate::store::{Store, StoreSink};
use crate::tasks::{Answer, Task, check, files, stats};
use crate::tools::ToolFault;

use super::{Global, setup};

#[derive(Debug, Args)]
pub struct EvalArgs {
    /// Task file: JSON lines of {id, family, query, answer}
    #[arg(long, value_name = "FILE")]
    pub tasks: PathBuf,
    /// Only this family
    #[arg(long)]
    pub family: Option<String>,
    /// Only the first N questions of each family (0: all)
    #[arg(long, default_value_t = 0)]
    pub limit: usize,
    /// Questions answered together
    #[arg(long, default_value_t = 8)]
    pub parallel: usize,
    /// One line per question and a closing `eval` line, as JSON
    #[arg(long)]
    pub json: bool,
    /// Keep the trajectories in the store
    #[arg(long)]
    pub keep: bool,
}

/// What one question came to.
struct Row {
    task: Task,
    right: bool,
    trajectory: Trajectory,
}

pub async fn run(global: &Global, args: &EvalArgs) -> anyhow::Result<i32> {
    let tasks = chosen(args)?;
    let setup = setup::open(global, args.parallel.max(1))?;
    let store = if args.keep { Some(Arc::new(Store::open(&setup.home)?)) } else { None };
    let session = match &store {
        Some(store) => store.new_session(&format!("eval {}", args.tasks.display()))?,
        None => String::new(),
    };
    let seed = global.seed.unwrap_or(0);
    let cancel = CancellationToken::new();
    let interrupt = cancel.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupt.cancel();
        }
    });
    let started = std::time::Instant::now();
    let flow = Arc::new(setup.flow.clone());
    let gate = Arc::new(tokio::sync::Semaphore::new(args.parallel.max(1)));
    let mut running = tokio::task::JoinSet::new();
    for (index, task) in tasks.into_iter().enumerate() {
        let (flow, gate, cancel) = (flow.clone(), gate.clone(), cancel.clone());
        let (store, session) = (store.clone(), session.clone());
        running.spawn(async move {
            let _permit = gate.acquire_owned().await.ok();
            one(&flow, task, index as u64 ^ (seed << 20), session, store, cancel).await
        });
    }
    let mut rows = Vec::new();
    while let Some(done) = running.join_next().await {
        let row = done?;
        if args.json {
            println!("{}", question_line(&row));
        } else if std::io::stderr().is_terminal() {
            eprint!("\r{} questions answered", rows.len() + 1);
        }
        rows.push(row);
    }
    if cancel.is_cancelled() {
        return Err(Error::Interrupted.into());
    }
    report(&rows, started.elapsed().as_secs_f64(), args.json)?;
    Ok(0)
}

fn chosen(args: &EvalArgs) -> anyhow::Result<Vec<Task>> {
    let all = files::load(&args.tasks).map_err(Error::Usage)?;
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut tasks = Vec::new();
    for task in all {
        let family = task.family.name();
        if args.family.as_deref().is_some_and(|wanted| wanted != family) {
            continue;
        }
        let count = counts.entry(family).or_default();
        *count += 1;
        if args.limit == 0 || *count <= args.limit {
            tasks.push(task);
        }
    }
    if tasks.is_empty() {
        return Err(Error::Usage(format!("{}: no question of that kind", args.tasks.display())).into());
    }
    Ok(tasks)
}

/// Drops events; the trajectory is what an evaluation needs.
struct Drop;

impl Sink for Drop {
    fn record(&self, _event: Event) -> Result<(), String> {
        Ok(())
    }
}

async fn one(
    flow: &Flow,
    task: Task,
    seed: u64,
    session: String,
    store: Option<Arc<Store>>,
    cancel: CancellationToken,
) -> Row {
    let ask = Ask {
        id: uuid::Uuid::now_v7().to_string(),
        session,
        query: task.query.clone(),
        conversation: Vec::new(),
        seed,
        prior: None,
    };
    let sink: Arc<dyn Sink> = match store {
        Some(store) => Arc::new(StoreSink::new(store)),
        None => Arc::new(Drop),
    };
    let trajectory = solve(flow, &ask, sink, cancel).await;
    let right = trajectory.answer.as_deref().is_some_and(|answer| check(&task.answer, answer));
    Row { task, right, trajectory }
}

fn question_line(row: &Row) -> serde_json::Value {
    json!({
        "kind": "question", "id": row.task.id, "family": row.task.family.name(), "query": row.task.query,
        "right": row.right, "answer": row.trajectory.answer, "turns": row.trajectory.turns.len(),
        "tools": row.trajectory.turns.iter()
            .map(|t| t.plan.as_ref().map(|p| p.tool.clone()).unwrap_or_default()).collect::<Vec<_>>(),
        "tokens": row.trajectory.tokens, "seconds": row.trajectory.seconds,
    })
}

/// k of n.
#[derive(Clone, Copy, Default)]
struct Share {
    k: usize,
    n: usize,
}

impl Share {
    fn add(&mut self, hit: bool) {
        self.k += usize::from(hit);
        self.n += 1;
    }

    fn text(self) -> String {
        let (low, high) = stats::wilson(self.k, self.n);
        let share = self.k as f64 / self.n.max(1) as f64;
        format!("{:5.1} % ({}/{}; {:.1}..{:.1})", 100.0 * share, self.k, self.n, 100.0 * low, 100.0 * high)
    }

    fn json(self) -> serde_json::Value {
        let (low, high) = stats::wilson(self.k, self.n);
        json!({"share": self.k as f64 / self.n.max(1) as f64, "k": self.k, "n": self.n, "low": low, "high": high})
    }
}

#[derive(Default)]
struct Figures {
    overall: Share,
    families: BTreeMap<&'static str, Share>,
    failed: usize,
    turns: usize,
    commands: Share,
    tool_errors: Share,
    verdicts: Share,
    copies: Share,
}

impl Figures {
    fn of(rows: &[Row]) -> Figures {
        let mut figures = Figures::default();
        for row in rows {
            figures.overall.add(row.right);
            figures.families.entry(row.task.family.name()).or_default().add(row.right);
            figures.failed += usize::from(row.trajectory.outcome != Outcome::Answered);
            figures.turns += row.trajectory.turns.len();
            figures.roles(row);
        }
        figures
    }

    /// Executor: the arguments fitted the tool's schema. Verifier, on results of calculator, search and
    /// python: it stopped exactly when the result supports the answer. Generator, where the last result
    /// supports the answer: it gave it.
    fn roles(&mut self, row: &Row) {
        let mut last_supports = false;
        for turn in &row.trajectory.turns {
            let Some(result) = &turn.result else { continue };
            self.commands.add(result.fault != Some(ToolFault::BadArguments));
            self.tool_errors.add(result.fault.is_some());
            let Some(command) = &turn.command else { continue };
            last_supports = supports(&row.task.answer, &result.text);
            if let Some(verdict) = turn.verdict.as_ref().filter(|_| command.tool != "base") {
                self.verdicts.add((verdict.decision == Decision::Stop) == last_supports);
            }
        }
        if last_supports {
            self.copies.add(row.right);
        }
    }
}

/// Whether a result's text holds the answer: one of its lines or figures passes the checker, or names it.
fn supports(answer: &Answer, result: &str) -> bool {
    match answer {
        Answer::CannotAnswer => false,
        Answer::Text { accepted } => {
            let text = result.to_lowercase();
            accepted.iter().any(|name| text.contains(&name.to_lowercase()))
        }
        Answer::Number { .. } => result.split(|c: char| c.is_whitespace() || c == ',').any(|word| {
            let word = word.trim_end_matches(['.', '/', ';']);
            word.chars().any(|c| c.is_ascii_digit()) && check(answer, word)
        }),
        Answer::Game24 { .. } => result.lines().any(|line| check(answer, line)),
    }
}

fn report(rows: &[Row], seconds: f64, as_json: bool) -> anyhow::Result<()> {
    let figures = Figures::of(rows);
    let mut out = std::io::stdout().lock();
    let n = rows.len();
    if as_json {
        for (family, share) in &figures.families {
            let mut line = share.json();
            line["kind"] = "family".into();
            line["family"] = (*family).into();
            writeln!(out, "{line}")?;
        }
        let (low, high) = stats::wilson(figures.overall.k, n);
        let line = json!({
            "kind": "eval", "n": n, "accuracy": figures.overall.k as f64 / n as f64, "low": low, "high": high,
            "failed": figures.failed, "accuracy_compare": null, "p_value": null,
            "turns_mean": figures.turns as f64 / n as f64,
            "tool_error_rate": figures.tool_errors.k as f64 / figures.tool_errors.n.max(1) as f64,
            "commands_well_formed": figures.commands.json(), "verdicts_right": figures.verdicts.json(),
            "answers_copied": figures.copies.json(), "seconds": seconds,
        });
        writeln!(out, "{line}")?;
        return Ok(());
    }
    eprintln!();
    writeln!(out, "family              right (k/n; Wilson 95 %)")?;
    for (family, share) in &figures.families {
        writeln!(out, "{family:<19} {}", share.text())?;
    }
    writeln!(out, "{:<19} {}", "all", figures.overall.text())?;
    writeln!(out)?;
    writeln!(out, "executor: commands fit their schema       {}", figures.commands.text())?;
    writeln!(out, "verifier: right where a checker can tell  {}", figures.verdicts.text())?;
    writeln!(out, "generator: gives the answer memory holds  {}", figures.copies.text())?;
    writeln!(out, "tool results that were errors             {}", figures.tool_errors.text())?;
    writeln!(
        out,
        "{n} questions, {} failed, {:.2} turns each, {seconds:.0} s ({:.1} questions/s)",
        figures.failed,
        figures.turns as f64 / n as f64,
        n as f64 / seconds
    )?;
    Ok(())
}
