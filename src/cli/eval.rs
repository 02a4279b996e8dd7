//! `tillerman eval`: every question of a task file through the real loop, scored by its checker.
//!
//! One line per question where JSON is asked for, then tables per family with Wilson 95 % intervals, how well
//! each role did its part, the tool mix, and with `--compare` the same questions under a second adapter.
//! A question that failed (engine, limit) counts as wrong and is also counted failed.

mod attached;
mod judging;
mod keeping;
mod progress;
mod report;
pub(super) mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::engine::Role;
use crate::error::Error;
use crate::flow::prompt::Fill;
use crate::flow::solve::Flow;
use crate::tasks::eval::{Asked, How, Scored, score, seeded};
use crate::tasks::figures::{Figures, by_question, paired};
use crate::tasks::loaders::{self, Benchmark};
use crate::tasks::question::Question;
use crate::tasks::stats::resampled;

use self::progress::Progress;
use self::report::{Compared, Judging, Limited, Report};
use self::rows::{Row, Rows, Setting, Side};
use super::{Global, cancelled_by_ctrl_c, plain, setup};

#[derive(Debug, Args)]
#[command(
    after_long_help = "tool_error_rate: tool calls that gave no result, as a share of all tool calls. \
A call gave no result when the plan named no tool there is, when the executor's arguments did not fit the \
tool's schema, or when the tool failed or ran into a limit. A call whose result did not help is no error.

A judge (--judge) is asked of every answer whether it is equivalent to the reference, given the question; a \
reply that cannot be read, or an engine that fails, is counted as not judged. Its share is an opinion and is \
reported apart: accuracy, comparison and exit code never depend on it. Local: the served model without adapter.

A question without an answer (failed, limit) counts as wrong and is counted as failed too. Two adapters are \
compared on the same questions with the same seeds: exact two-sided binomial test on the questions only one \
of them got right; \"cannot tell\" where p is 0.05 or more. The ratio of their tool_error_rates has the percentile \
interval of 4,000 resamples of whole questions."
)]
pub struct EvalArgs {
    /// Questions: JSON lines of {id, query, answer, checker}, or a benchmark's JSON list
    #[arg(long, value_name = "FILE")]
    pub tasks: PathBuf,
    /// Which benchmark a JSON list is, where its path does not say: bamboogle, 2wiki, hotpotqa, musique, gaia,
    /// aime24, amc23, gameof24, gpqa, medqa
    #[arg(long, value_name = "NAME")]
    pub benchmark: Option<String>,
    /// Ask the same questions, with the same seeds, under this adapter too: an id, a file, or `none`
    #[arg(long, value_name = "ID")]
    pub compare: Option<String>,
    /// Compare with what an earlier run of the same questions and seeds kept with --out: of another model, say
    #[arg(long, value_name = "FILE.jsonl", conflicts_with = "compare")]
    pub compare_rows: Option<PathBuf>,
    /// Only this family
    #[arg(long)]
    pub family: Option<String>,
    /// Only the first N questions of each family (0: all)
    #[arg(long, default_value_t = 0)]
    pub limit: usize,
    /// Questions answered together
    #[arg(long, default_value_t = 8)]
    pub parallel: usize,
    /// Ask again under these turn limits, for the curve of right answers by turns allowed: 1,2,3,5
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    pub turn_limits: Vec<usize>,
    /// Where files lie that rows name in "file_name" (default: beside the task file)
    #[arg(long, value_name = "DIR")]
    pub attachments: Option<PathBuf>,
    /// Also ask a model whether each answer is equivalent to the reference, reported apart: `local`, or a NAME of
    /// [engine.remote.NAME]
    #[arg(long, value_name = "ENGINE")]
    pub judge: Option<String>,
    /// One line per question and a closing `eval` line, as JSON
    #[arg(long)]
    pub json: bool,
    /// Tables in Markdown
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// Store no trajectory; otherwise all of them are, together, for `show`, `replay` and the deck
    #[arg(long)]
    pub discard: bool,
    /// What it asked for is the default now
    #[arg(long, hide = true, conflicts_with = "discard")]
    pub keep: bool,
    /// Write every row to this file as it is answered
    #[arg(long, value_name = "FILE.jsonl")]
    pub out: Option<PathBuf>,
    /// Continue the run that `--out` holds: what is there is not asked again
    #[arg(long, requires = "out")]
    pub resume: bool,
}

pub async fn run(global: &Global, args: &EvalArgs) -> anyhow::Result<i32> {
    let seed = global.seed.unwrap_or(0);
    let asked = seeded(chosen(args)?, seed);
    let attached = attached::find(&asked, &args.tasks, args.attachments.as_deref())?;
    let setup = setup::open(global, args.parallel.max(1))?;
    setup.say_notice();
    // A judge that cannot be asked is known before hours of answering.
    let judge = match &args.judge {
        Some(name) => Some(judging::chosen(&setup, name).await?),
        None => None,
    };
    let named = |name: &str| setup::named_adapter(&setup.home, &setup.model, name);
    let compare = args.compare.as_deref().map(named).transpose()?.map(Option::unzip);
    let (compare, compare_hash) = compare.map_or((None, None), |(path, hash)| (Some(path), hash));
    // A model that cannot be loaded is one error, not a failure per question.
    let model = setup.flow.engine.model().await.map_err(Error::Engine)?;
    let setting = Setting {
        attachments: attached.hash(),
        ..setting(&setup.flow, &asked, seed, model.hash, compare_hash.clone())
    };
    let own = setup.flow.limits.turns;
    let other =
        args.compare_rows.as_deref().map(|path| rows::kept(path, &setting, own, &asked)).transpose()?;
    if let Some((differing, _)) = &other {
        eprintln!("tillerman: --compare is a run that differs in this: {differing}");
    }
    let (toolboxes, _staged) = attached.toolboxes(global, &setup)?;
    let mut rows = match &args.out {
        Some(path) => Rows::open(path, args.resume, &setting)?,
        None => Rows::unkept(),
    };
    let compared = compare.is_some() || other.is_some();
    let kept = keeping::begin(args, &setup.home, &setting, &rows)?;
    rows.lend(other.into_iter().flat_map(|(_, rows)| rows));
    let how = How { toolboxes: Arc::new(toolboxes), ..kept.how(args.parallel) };
    kept.say(args.json);
    let cancel = cancelled_by_ctrl_c();
    super::may_sample(&setup, &cancel).await?;
    let started = std::time::Instant::now();
    let limits = turn_limits(args, own);
    let mut asking = Asking {
        asked: &asked,
        how: &how,
        kept: &kept,
        json: args.json,
        cancel: &cancel,
        progress: Progress::new(asked.len() * (limits.len() + usize::from(compare.is_some()))),
    };
    asking.side(&setup.flow, Side::Adapter, &limits, &mut rows).await?;
    if let Some(path) = compare {
        let adapter = setup.flow.engine.set_adapter(path).await.map_err(Error::Engine)?;
        let flow = Flow { adapter: adapter.or(compare_hash), ..setup.flow.clone() };
        asking.side(&flow, Side::Compare, &[own], &mut rows).await?;
    }
    asking.progress.end();
    let seconds = started.elapsed().as_secs_f64();
    let judged = match &judge {
        None => None,
        Some(judge) => {
            let sides = if compared { &[Side::Adapter, Side::Compare][..] } else { &[Side::Adapter][..] };
            let how = (args.parallel, args.json);
            judging::judge(judge, &asked, (sides, own), how, &mut rows, &cancel).await?;
            let of = |side: &Side| judging::figures(&judge.identity, &asked, *side, own, &rows);
            let (sides, whys): (Vec<_>, Vec<_>) = sides.iter().map(of).unzip();
            Some(Judging { judge: judge.identity.clone(), sides, why: whys.into_iter().flatten().next() })
        }
    };
    let report = Report {
        judged,
        answered: asking.progress.answered_now(),
        seconds,
        ..report(&rows, &asked, &limits, own, compared)
    };
    print(&report, args)?;
    Ok(0)
}

/// The questions and how they are asked, whichever side answers.
struct Asking<'a> {
    asked: &'a [Asked],
    how: &'a How,
    kept: &'a keeping::Kept,
    json: bool,
    cancel: &'a CancellationToken,
    progress: Progress,
}

impl Asking<'_> {
    /// Ask one side everything its rows do not hold yet, largest turn limit first.
    async fn side(
        &mut self,
        flow: &Flow,
        side: Side,
        limits: &[usize],
        rows: &mut Rows,
    ) -> anyhow::Result<()> {
        for (number, &turn_limit) in limits.iter().enumerate() {
            let known = rows.of(side, turn_limit, self.asked).into_iter().cloned().collect::<Vec<_>>();
            known.iter().for_each(|row| self.progress.known(row.right));
            if number > 0 && !knows_turns_left(flow) {
                self.shorter(side, limits[number - 1], turn_limit, rows)?;
            }
            let missing: Vec<Asked> = self
                .asked
                .iter()
                .filter(|asked| rows.get(side, turn_limit, asked).is_none())
                .cloned()
                .collect();
            let mut flow = flow.clone();
            flow.limits.turns = turn_limit;
            let mut written = Ok(());
            let stop = self.cancel.clone();
            let (json, progress, kept, asked) = (self.json, &mut self.progress, self.kept, self.asked);
            score(&flow, &missing, self.how, self.cancel, |scored, trajectory| {
                if let Some(error) = keeping::not_asked(trajectory) {
                    written = Err(error);
                    return stop.cancel();
                }
                if let Err(error) = kept.checked(asked, scored) {
                    written = Err(error);
                    return stop.cancel();
                }
                let row = Row { side, turn_limit, scored: scored.clone() };
                if json {
                    println!("{}", plain::json(&row.json()));
                }
                progress.answered(row.scored.right);
                if let Err(error) = rows.add(row) {
                    written = Err(error);
                    stop.cancel();
                }
            })
            .await;
            written?;
            if self.cancel.is_cancelled() {
                self.progress.end();
                return Err(Error::Interrupted.into());
            }
        }
        Ok(())
    }

    /// A pass that ended by itself within `limit` turns is the same pass under that limit.
    fn shorter(&mut self, side: Side, larger: usize, limit: usize, rows: &mut Rows) -> anyhow::Result<()> {
        for asked in self.asked {
            let within = |turns: usize| limit == 0 || turns <= limit;
            let kept = rows.get(side, larger, asked).filter(|row| within(row.turns) && row.failed.is_none());
            if let (Some(scored), None) = (kept.cloned(), rows.get(side, limit, asked)) {
                self.progress.known(scored.right);
                rows.add(Row { side, turn_limit: limit, scored })?;
            }
        }
        Ok(())
    }
}

/// Whether the pack tells the planner how many turns are left: then another limit is another prompt.
fn knows_turns_left(flow: &Flow) -> bool {
    let prompt = |turns_left| flow.pack.messages(Role::Planner, &Fill { turns_left, ..Fill::default() });
    prompt(1) != prompt(2)
}

/// The limits asked under, largest (0: none) first: the settings' own and those of `--turn-limits`.
fn turn_limits(args: &EvalArgs, own: usize) -> Vec<usize> {
    let key = |limit: usize| if limit == 0 { usize::MAX } else { limit };
    let all: BTreeSet<usize> = args.turn_limits.iter().chain([&own]).map(|limit| key(*limit)).collect();
    all.into_iter().rev().map(|limit| if limit == usize::MAX { 0 } else { limit }).collect()
}

fn setting(flow: &Flow, asked: &[Asked], seed: u64, model: String, compare: Option<String>) -> Setting {
    let mut questions = blake3::Hasher::new();
    for asked in asked {
        // The checker decides what a row says as much as the question does.
        questions.update(serde_json::to_string(&asked.question).unwrap_or_default().as_bytes());
    }
    Setting {
        questions: questions.finalize().to_hex()[..16].to_string(),
        model,
        adapter: flow.adapter.clone(),
        compare,
        pack: flow.pack.settings.name.clone(),
        temperature: flow.planner_temperature,
        tools: flow.toolbox.names().iter().map(ToString::to_string).collect(),
        limits: flow.limits.clone(),
        seed,
        attachments: None,
    }
}

fn chosen(args: &EvalArgs) -> anyhow::Result<Vec<Question>> {
    let benchmark = args.benchmark.as_deref().map(|name| {
        Benchmark::by_name(name)
            .ok_or_else(|| Error::Usage(format!("no benchmark {name:?}; there are {}", Benchmark::names())))
    });
    let all = loaders::load(&args.tasks, benchmark.transpose()?).map_err(|e| Error::Usage(e.to_string()))?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut questions = Vec::new();
    let mut families = BTreeSet::new();
    for question in all {
        families.insert(question.group.clone());
        if args.family.as_deref().is_some_and(|wanted| wanted != question.group) {
            continue;
        }
        let count = counts.entry(question.group.clone()).or_default();
        *count += 1;
        if args.limit == 0 || *count <= args.limit {
            questions.push(question);
        }
    }
    if questions.is_empty() {
        let told = format!(
            "{}: no question is of family {:?}; there are {}",
            args.tasks.display(),
            args.family.as_deref().unwrap_or_default(),
            families.into_iter().collect::<Vec<_>>().join(", ")
        );
        return Err(Error::Usage(told).into());
    }
    Ok(questions)
}

/// Headline and comparison are under the settings' `own` turn limit; the curve has all that were asked.
fn report(rows: &Rows, asked: &[Asked], limits: &[usize], own: usize, compared: bool) -> Report {
    let side = |side, limit| rows.of(side, limit, asked);
    let compare = compared.then(|| {
        let (first, second) = (side(Side::Adapter, own), side(Side::Compare, own));
        let errors = |row: &Scored| (row.tool_errors.k, row.tool_errors.n);
        let questions = by_question(first.iter().copied(), second.iter().copied(), errors);
        Compared {
            figures: Figures::of(second.iter().copied()),
            pairs: paired(first, second),
            tool_errors: resampled(&questions, |first, second| first / second),
        }
    });
    let curve = limits
        .iter()
        .rev()
        .map(|&turn_limit| Limited { turn_limit, figures: Figures::of(side(Side::Adapter, turn_limit)) });
    Report {
        adapter: Figures::of(side(Side::Adapter, own)),
        compare,
        curve: if limits.len() > 1 { curve.collect() } else { Vec::new() },
        judged: None,
        answered: 0,
        seconds: 0.0,
    }
}

fn print(report: &Report, args: &EvalArgs) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if args.json {
        for line in report.lines() {
            writeln!(out, "{}", plain::json(&line))?;
        }
    } else {
        write!(out, "{}", report.text(args.markdown))?;
    }
    Ok(())
}
