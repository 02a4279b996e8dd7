//! `tillerman train`: labels or checkable tasks in, an adapter out, judged before it serves.
//!
//! Five sources: `--groups` and `--labelled` take one step on what people (or a checker) said of recorded rollouts,
//! `--past` rolls out again what they spoke of earlier, `--lone` learns from single answers; `--tasks` draws its own
//! rollouts and takes many. Progress goes to stderr, or as JSON lines to
//! stdout; the served adapter changes only at the end, by the gate's word or the person's.

mod bar;
mod forming;
mod judging;
mod labels;
mod plan;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::config::Mode;
use crate::engine::ModelInfo;
use crate::error::Error;
use crate::store::{Adapter, Store};
use crate::tasks::question::Question;
use crate::train::gate::Decision;
use crate::train::ledger;
use crate::train::progress::{Progress, Watch};
use crate::train::train_loop::{Plan, Trainer};
use crate::train::validation::Validation;

pub use labels::drift_of;

use self::bar::Bar;
use self::judging::{Judging, Pool};
use self::plan::Begun;
use super::{Global, cancelled_by_ctrl_c, plain, setup};

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["groups", "labelled", "past", "lone", "tasks"])))]
pub struct TrainArgs {
    /// Train one step on these recorded groups (ids, comma-separated)
    #[arg(long, value_delimiter = ',', value_name = "ID,...")]
    pub groups: Vec<String>,
    /// Train one step on every recorded group that labels give contrast and that has not trained yet
    #[arg(long)]
    pub labelled: bool,
    /// Train one step on so many questions that labels know answers to (0: all), rolled out again with what plans now,
    /// the longest not rolled first; with `--adapter none` a new adapter from the bare model
    #[arg(long, value_name = "N")]
    pub past: Option<usize>,
    /// Train one step on these single labelled answers (ids, comma-separated), each beside the mean of your labels and
    /// at a quarter of a group's weight
    #[arg(long, value_delimiter = ',', value_name = "ID,...")]
    pub lone: Vec<String>,
    /// With --labelled: also the groups that trained already
    #[arg(long, requires = "labelled")]
    pub again: bool,
    /// Train on a file of questions with checkable answers, as `eval` reads it: JSON lines of {id, query, answer, checker}
    #[arg(long, value_name = "FILE")]
    pub tasks: Option<PathBuf>,
    /// Go on with an interrupted run, with its own seed and settings: an id, its beginning or end
    #[arg(long, value_name = "RUN", requires = "tasks")]
    pub resume: Option<String>,
    /// Steps of a --tasks run (default: 20)
    #[arg(long)]
    pub steps: Option<usize>,
    /// Questions drawn for one step (default: 16)
    #[arg(long)]
    pub questions: Option<usize>,
    /// A step draws so many times at most, until half as many groups as --questions have contrast (default: 3)
    #[arg(long)]
    pub draws: Option<usize>,
    /// Look at the policy after every this many steps of a --tasks run on every third gate question, go back
    /// from a step that broke it, and hand over the best; 0: never, hand over the last (default: 5)
    #[arg(long)]
    pub validate_every: Option<usize>,
    /// Rollouts per question (default: the settings file's train.group)
    #[arg(long)]
    pub size: Option<usize>,
    /// Rollouts at once (0: as many as the engine has sequences); with 1 and one engine thread a run gives the
    /// same bits every time (default: 0)
    #[arg(long)]
    pub parallel: Option<usize>,
    /// Begin no step after this many minutes (0: no limit)
    #[arg(long, default_value_t = 0.0)]
    pub minutes: f64,
    /// flow, paper, reference or imitation (default: the settings file's train.mode)
    #[arg(long, value_parser = mode)]
    pub mode: Option<Mode>,
    /// Control arm: rewards dealt out at random, so that nothing can be learned
    #[arg(long)]
    pub shuffle_rewards: bool,
    /// Record the rollouts' trajectories of a --tasks run too
    #[arg(long)]
    pub keep: bool,
    /// Questions the gate asks: a file, or `ledger` for those that labels know a right answer to and that do not train
    /// in this step (default: these, and the bundled gate questions with the embedded planner)
    #[arg(long, value_name = "ledger|FILE")]
    pub gate: Option<PathBuf>,
    /// Most paired rollouts of the gate; 0 leaves the candidate unjudged
    #[arg(long, default_value_t = 240)]
    pub pairs: u64,
    /// Let the candidate serve although the gate cannot tell; one that is worse never does
    #[arg(long)]
    pub ship: bool,
    /// Progress as JSON lines on stdout
    #[arg(long)]
    pub json: bool,
}

fn mode(name: &str) -> Result<Mode, String> {
    let names = Mode::ALL.map(Mode::name).join(", ");
    Mode::ALL.into_iter().find(|mode| mode.name() == name).ok_or(format!("one of {names}"))
}

pub async fn run(global: &Global, args: &TrainArgs) -> anyhow::Result<i32> {
    let setup = setup::open(global, 16)?;
    setup.learns_here()?;
    let store = Arc::new(Store::open(&setup.home)?);
    let model = setup.flow.engine.model().await?;
    let asked = plan::settings(&setup.config, args, model.parameters);
    let begun = match &args.resume {
        Some(piece) => Some(Begun::find(&store, piece, &asked.device)?),
        None => None,
    };
    if let Some(begun) = &begun {
        begun.agrees(args, global, &model.hash)?;
        if let Some(moved) = begun.moved(&asked) {
            eprintln!("tillerman: {moved}");
        }
    }
    let settings = begun.as_ref().map_or(asked, |begun| begun.settings.clone());
    for advice in settings.checked().map_err(|refused| Error::Config(refused.to_string()))? {
        eprintln!("train.{}: {}", advice.key, advice.reason);
    }
    let cancel = cancelled_by_ctrl_c();
    let champion = match &setup.flow.adapter {
        Some(hash) => Some(store.find_adapter(hash)?),
        None => None,
    };
    let bar = Arc::new(Bar::new(args.json));
    let mut trainer = trainer(&setup, store.clone(), watch(args.json, bar.clone()));
    let mut pool = Pool::of(args.gate.as_deref(), setup.embedded)?;
    let (candidate, trained) = if let Some(file) = &args.tasks {
        let tasks = judging::load(file)?;
        judging::apart(&tasks, &pool.file)?;
        let validation;
        let every = plan::validate_every(args, begun.as_ref());
        (validation, pool.file) = Validation::split(std::mem::take(&mut pool.file), every);
        if let Some(begun) = &begun {
            let named = champion.as_ref().map(|adapter| adapter.id.as_str());
            begun.asks_the_same(&tasks, &validation, global.adapter.as_ref().map(|_| named))?;
        }
        let trained = tasks.iter().map(ledger::id_of).collect();
        let begun = begun.as_ref().map(|begun| (begun, &*store));
        let plan = plan::plan(args, global, settings, champion.clone(), validation, begun)?;
        let before = store.steps(&plan.run)?.len();
        bar.begin(plan.steps, before);
        let made = on_tasks(&mut trainer, args.json, &plan, &tasks, &model, &cancel).await;
        bar.end();
        (made?, trained)
    } else {
        let seed = global.seed.unwrap_or_else(setup::fresh_seed);
        let made = labels::step(&trainer, args, settings, seed, champion.as_ref(), &cancel).await;
        bar.end();
        let made = made?;
        let trained = made.as_ref().map(|(made, _)| ledger::trained(&store, made)).transpose()?;
        (made, trained.unwrap_or_default())
    };
    let Some((candidate, _)) = candidate else {
        say(
            args.json,
            &json!({"kind": "trained", "adapter": null}),
            "no adapter came of it; what served goes on",
        );
        return Ok(1);
    };
    let questions = pool.questions(&store, &trained, judging::accepted(&store, &model.hash)?)?;
    let how = Judging { json: args.json, seed: global.seed.unwrap_or(0), pairs: args.pairs };
    let decision = judging::judged(&trainer, how, &candidate, champion.as_ref(), &questions, &cancel).await?;
    concluded(&store, &model, &candidate, decision, args.ship, args.json)?;
    Ok(0)
}

/// What follows from the gate's word: it is kept, and the candidate serves or does not.
fn concluded(
    store: &Store,
    model: &ModelInfo,
    candidate: &Adapter,
    decision: Decision,
    ship: bool,
    json: bool,
) -> anyhow::Result<()> {
    judging::keep_word(store, candidate, decision)?;
    let serves = match decision {
        Decision::Activate => true,
        Decision::Hold => ship,
        Decision::Refuse => false,
    };
    if serves {
        store.use_adapter(&model.hash, Some(&candidate.id), "trained")?;
    }
    let word = match (serves, decision) {
        (true, _) => "it serves from now on; `tillerman adapters rollback` takes it back",
        (false, Decision::Refuse) => {
            "it is worse, so what served goes on; `tillerman adapters show` has the evidence"
        }
        (false, _) => {
            "what served goes on; `tillerman adapters judge` adds pairs, `tillerman adapters use` lets it serve anyway"
        }
    };
    say(
        json,
        &json!({"kind": "trained", "adapter": candidate.id, "decision": decision, "serves": serves}),
        &format!("adapter {}: {word}", candidate.id),
    );
    Ok(())
}

/// `adapters judge`: go on with a candidate's evidence, with questions and seeds it has not met.
///
/// # Errors
/// It plans already, it was made for another model, nothing is there to ask, or engine and store.
pub async fn judge(
    global: &Global,
    piece: &str,
    pairs: u64,
    gate: Option<&Path>,
    json: bool,
) -> anyhow::Result<i32> {
    let setup = setup::open(global, 16)?;
    setup.learns_here()?;
    let store = Arc::new(Store::open(&setup.home)?);
    let candidate = store.find_adapter(piece)?;
    let model = setup.flow.engine.model().await?;
    if candidate.model_hash != model.hash {
        let whose = candidate.model_hash.get(..12).unwrap_or(&candidate.model_hash);
        let told = format!("adapter {} was made for the model {whose}; name it with --model", candidate.id);
        return Err(Error::Usage(told).into());
    }
    let champion = match &setup.flow.adapter {
        Some(hash) if *hash == candidate.hash => {
            let told = format!(
                "adapter {} plans already; `tillerman adapters rollback` first, to judge it beside what planned before",
                candidate.id
            );
            return Err(Error::Usage(told).into());
        }
        Some(hash) => Some(store.find_adapter(hash)?),
        None => None,
    };
    let pool = Pool::of(gate, setup.embedded)?;
    let trained = ledger::trained(&store, &candidate)?;
    let questions = pool.questions(&store, &trained, judging::accepted(&store, &model.hash)?)?;
    if questions.is_empty() {
        return Err(Error::Usage(judging::NO_QUESTIONS.to_string()).into());
    }
    let trainer = trainer(&setup, store.clone(), watch(json, Arc::new(Bar::new(json))));
    let how = Judging { json, seed: global.seed.unwrap_or(0), pairs };
    let cancel = cancelled_by_ctrl_c();
    let decision = judging::judged(&trainer, how, &candidate, champion.as_ref(), &questions, &cancel).await?;
    concluded(&store, &model, &candidate, decision, false, json)?;
    Ok(0)
}

/// The parts of a training run from the parts of a query.
pub fn trainer(setup: &setup::Setup, store: Arc<Store>, watch: Watch) -> Trainer {
    let engine = setup.engine.clone();
    Trainer {
        flow: setup.flow.clone(),
        store,
        exe: setup::exe(),
        model: setup.model.clone(),
        threads: setup::training_threads(&setup.config),
        watch,
        reset: Arc::new(move || {
            let engine = engine.clone();
            Box::pin(async move { engine.shutdown().await })
        }),
    }
}

async fn on_tasks(
    trainer: &mut Trainer,
    as_json: bool,
    plan: &Plan,
    tasks: &[Question],
    model: &ModelInfo,
    cancel: &CancellationToken,
) -> anyhow::Result<Option<(Adapter, String)>> {
    // On record before its id is told: whoever was told it can go on with it.
    trainer.record(plan, tasks, model)?;
    say(
        as_json,
        &json!({"kind": "run", "run": plan.run, "seed": plan.seed, "steps": plan.steps, "questions": plan.questions,
            "tasks": tasks.len(), "settings": plan.settings}),
        &format!(
            "run {}: {} steps of {} questions x {} rollouts, seed {}",
            plan.run, plan.steps, plan.questions, plan.settings.group, plan.seed
        ),
    );
    Ok(trainer.train(plan, tasks, cancel).await?.map(|adapter| (adapter, plan.run.clone())))
}

fn say(as_json: bool, value: &Value, text: &str) {
    if as_json {
        println!("{}", plain::json(value));
    } else {
        eprintln!("{text}");
    }
}

fn watch(as_json: bool, bar: Arc<Bar>) -> Watch {
    Arc::new(move |progress| match progress {
        progress if as_json => println!("{}", plain::json(&json!(progress))),
        Progress::Phase { phase } => bar.phase(phase),
        Progress::Waits { what } => bar.line(what, false),
        Progress::Rolled(rolled) => {
            let text = format!(
                "step {}: {} of {} rollouts right, {} of {} groups have contrast, {:.1} s",
                rolled.step,
                rolled.right,
                rolled.rollouts - rolled.failed,
                rolled.contrast,
                rolled.groups,
                rolled.seconds
            );
            bar.line(&text, false);
            for alarm in &rolled.alarms {
                bar.line(&format!("step {}: alarm: {}", rolled.step, alarm.words()), false);
            }
        }
        Progress::Stepped(stepped) => {
            let text = match &stepped.skipped {
                Some(why) => format!("step {}: skipped: {why}", stepped.step),
                None => format!(
                    "step {}: adapter {}, kl {:.4} to its parent, {} to base, {} tokens trained, {:.2} s, {:.0} MB{}",
                    stepped.step,
                    stepped.adapter.as_deref().unwrap_or("none"),
                    stepped.step_kl.unwrap_or(0.0),
                    stepped.drift.map_or("unknown".to_string(), |drift| format!("{drift:.4}")),
                    stepped.stats.tokens_trained,
                    stepped.seconds,
                    stepped.peak_mb,
                    stepped.device.words()
                ),
            };
            bar.line(&text, true);
        }
        Progress::Validated(seen) => {
            let text = format!(
                "step {}: validation {} of {} right ({:.1} %, 95 % {:.1}..{:.1}), {} of them after a failed call{}{}",
                seen.step,
                seen.k,
                seen.n,
                100.0 * seen.k as f64 / seen.n.max(1) as f64,
                100.0 * seen.low,
                100.0 * seen.high,
                seen.faulty,
                if seen.best { ", the best so far" } else { "" },
                seen.back_to.as_ref().map(|id| format!("; worse, so back to {id}")).unwrap_or_default()
            );
            bar.line(&text, false);
        }
        Progress::Gate { .. } => {}
    })
}
