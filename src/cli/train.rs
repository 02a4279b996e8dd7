//! `tillerman train`: labels or checkable tasks in, an adapter out, judged before it serves.
//!
//! Three sources: `--groups` and `--labelled` take one step on what people (or a checker) said of recorded
//! rollouts; `--tasks` draws its own rollouts and takes many. Progress goes to stderr, or as JSON lines to
//! stdout; the served adapter changes only at the end, by the gate's word or the person's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::config::Mode;
use crate::error::Error;
use crate::store::{Adapter, GatePair, RunStatus, Store, TrainingRun, TrainingStep, WEIGHTS, new_id, now_ms};
use crate::tasks::{Split, Task, files};
use crate::train::gate::{Decision, Gate, Opponent, Report, Trial, Verdict, disjoint};
use crate::train::judge::{self, Met, PINNED_STEPS, Patience};
use crate::train::labelled::{Lesson, stored_groups};
use crate::train::material::probes;
use crate::train::presets::Settings;
use crate::train::progress::{Progress, Stepped, Watch};
use crate::train::reward::{Known, rewards};
use crate::train::rollout::Group;
use crate::train::rows::Policy;
use crate::train::train_loop::{Lessons, Plan, Trainer};
use crate::train::validation::Validation;

use super::{Global, setup};

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["groups", "labelled", "tasks"])))]
pub struct TrainArgs {
    /// Train one step on these recorded groups (ids, comma-separated)
    #[arg(long, value_delimiter = ',', value_name = "ID,...")]
    pub groups: Vec<String>,
    /// Train one step on every recorded group that labels give contrast
    #[arg(long)]
    pub labelled: bool,
    /// Train on a file of questions with checkable answers
    #[arg(long, value_name = "FILE")]
    pub tasks: Option<PathBuf>,
    /// Go on with an interrupted run
    #[arg(long, value_name = "RUN", requires = "tasks")]
    pub resume: Option<String>,
    /// Steps of a --tasks run
    #[arg(long, default_value_t = 20)]
    pub steps: usize,
    /// Questions drawn for one step
    #[arg(long, default_value_t = 16)]
    pub questions: usize,
    /// A step draws so many times at most, until half as many groups as --questions have contrast
    #[arg(long, default_value_t = 3)]
    pub draws: usize,
    /// Look at the policy after every this many steps of a --tasks run on every third gate question, go back
    /// from a step that broke it, and hand over the best; 0: never, hand over the last
    #[arg(long, default_value_t = 5)]
    pub validate_every: usize,
    /// Rollouts per question (default: the settings file's train.group)
    #[arg(long)]
    pub size: Option<usize>,
    /// Rollouts at once (0: as many as the engine has sequences); with 1 and one engine thread a run gives the
    /// same bits every time
    #[arg(long, default_value_t = 0)]
    pub parallel: usize,
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
    /// Questions the gate asks (default: the bundled gate questions with the embedded planner)
    #[arg(long, value_name = "FILE")]
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
    let settings = settings(&setup.config, args, model.parameters);
    for advice in settings.checked().map_err(|refused| Error::Config(refused.to_string()))? {
        eprintln!("train.{}: {}", advice.key, advice.reason);
    }
    let cancel = CancellationToken::new();
    let interrupt = cancel.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupt.cancel();
        }
    });
    let champion = match &setup.flow.adapter {
        Some(hash) => Some(store.find_adapter(hash)?),
        None => None,
    };
    let mut trainer = trainer(&setup, store.clone(), watch(args.json));
    let every = if args.tasks.is_some() { args.validate_every } else { 0 };
    let (validation, gate) = Validation::split(gate_questions(args, setup.embedded)?, every);
    let candidate = if let Some(file) = &args.tasks {
        let plan = plan(args, global, settings, champion.clone(), validation);
        on_tasks(&mut trainer, args, file, plan, &cancel).await?
    } else {
        let policy = Policy {
            model: model.hash.clone(),
            adapter: setup.flow.adapter.clone(),
            temperature: settings.temperature,
        };
        on_groups(&trainer, args, settings, policy, champion.as_ref(), &cancel).await?
    };
    let Some((candidate, run)) = candidate else {
        say(
            args.json,
            &json!({"kind": "trained", "adapter": null}),
            "no adapter came of it; what served goes on",
        );
        return Ok(1);
    };
    let decision = judged(&mut trainer, args, global, &candidate, champion.as_ref(), &gate, &cancel).await?;
    let verdict = match decision {
        Decision::Activate => "better",
        Decision::Refuse => "worse",
        Decision::Hold => "cannot_tell",
    };
    let made =
        store.steps(&run)?.into_iter().rev().find(|step| step.candidate.as_ref() == Some(&candidate.id));
    if let Some(step) = made {
        store.set_verdict(&run, step.step, verdict)?;
    }
    let serves = match decision {
        Decision::Activate => true,
        Decision::Hold => args.ship,
        Decision::Refuse => false,
    };
    if serves {
        store.use_adapter(&model.hash, Some(&candidate.id), "trained")?;
    }
    let word = if serves {
        "it serves from now on; `tillerman adapters rollback` takes it back"
    } else {
        "what served goes on; `tillerman adapters use` lets it serve anyway"
    };
    say(
        args.json,
        &json!({"kind": "trained", "adapter": candidate.id, "decision": decision, "serves": serves}),
        &format!("adapter {}: {word}", candidate.id),
    );
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

fn settings(config: &crate::config::Config, args: &TrainArgs, parameters: u64) -> Settings {
    let mut train = config.train.clone();
    if let Some(mode) = args.mode {
        train.mode = mode;
    }
    let mut settings = Settings::of(&train);
    settings.start_rate(&train, parameters);
    if let Some(size) = args.size {
        settings.group = size;
    }
    settings
}

fn plan(
    args: &TrainArgs,
    global: &Global,
    settings: Settings,
    parent: Option<Adapter>,
    validation: Validation,
) -> Plan {
    Plan {
        run: args.resume.clone().unwrap_or_else(new_id),
        settings,
        seed: global.seed.unwrap_or_else(setup::fresh_seed),
        steps: args.steps,
        questions: args.questions,
        draws: args.draws,
        parent,
        shuffle_rewards: args.shuffle_rewards,
        keep_rollouts: args.keep,
        parallel: args.parallel,
        seconds: args.minutes * 60.0,
        validation,
    }
}

async fn on_tasks(
    trainer: &mut Trainer,
    args: &TrainArgs,
    file: &Path,
    plan: Plan,
    cancel: &CancellationToken,
) -> anyhow::Result<Option<(Adapter, String)>> {
    let tasks = files::load(file).map_err(Error::Usage)?;
    say(
        args.json,
        &json!({"kind": "run", "run": plan.run, "seed": plan.seed, "steps": plan.steps, "questions": plan.questions,
            "tasks": tasks.len(), "settings": plan.settings}),
        &format!(
            "run {}: {} steps of {} questions x {} rollouts, seed {}",
            plan.run, plan.steps, plan.questions, plan.settings.group, plan.seed
        ),
    );
    Ok(trainer.train(&plan, &tasks, cancel).await?.map(|adapter| (adapter, plan.run)))
}

/// One step on recorded groups.
async fn on_groups(
    trainer: &Trainer,
    args: &TrainArgs,
    mut settings: Settings,
    mut policy: Policy,
    champion: Option<&Adapter>,
    cancel: &CancellationToken,
) -> anyhow::Result<Option<(Adapter, String)>> {
    let store = &trainer.store;
    let mut groups = Vec::new();
    if args.labelled {
        groups = stored_groups(store, &policy, 0)?;
    } else {
        for id in &args.groups {
            let group = Group::load(store, id)?;
            let known = Known::of(store, &group.question.id)?;
            let rewards = rewards(&group, &known);
            groups.push((group, rewards));
        }
        // What was drawn at another temperature is trained at that one.
        if let Some(drawn) = groups.first().and_then(|(group, _)| Policy::of(group)) {
            policy.temperature = drawn.temperature;
        }
    }
    settings.temperature = policy.temperature;
    let mut lesson = Lesson::new(policy);
    for (group, rewards) in &groups {
        lesson.add(group, rewards)?;
    }
    lesson.ready()?;
    for report in &lesson.reports {
        say(
            args.json,
            &json!({"kind": "group", "report": report}),
            &format!(
                "group {}: {} rollouts, {} rewarded by {} words, {} right, {} wrong{}",
                crate::store::short(&report.group),
                report.rollouts,
                report.reached,
                report.words,
                report.right,
                report.wrong,
                report.without.as_ref().map(|why| format!("; left out: {why}")).unwrap_or_default()
            ),
        );
    }
    let drawn: Vec<Group> = groups.into_iter().map(|(group, _)| group).collect();
    let probes = probes(&drawn, &lesson)?;
    let frozen = match champion {
        None => probes.clone(),
        Some(champion) => trainer.frozen_of(champion)?,
    };
    let ids: Vec<&String> = drawn.iter().map(|group| &group.id).collect();
    let made_from = json!({ "groups": ids, "labels": lesson.reports });
    let lessons = Lessons { groups: lesson.groups.clone(), probes, frozen };
    let model = trainer.flow.engine.model().await?;
    let (done, adapter) = trainer.take(&settings, 0, &model, champion, lessons, made_from, cancel).await?;
    let stepped = Stepped::of(1, &done, adapter.as_ref());
    let run = new_id();
    store.begin_run(&TrainingRun {
        id: run.clone(),
        created_ms: now_ms(),
        model_hash: model.hash.clone(),
        parent: champion.map(|adapter| adapter.id.clone()),
        seed: 0,
        settings: json!({ "settings": settings }),
        status: RunStatus::Running,
        note: None,
    })?;
    store.add_step(&TrainingStep {
        run: run.clone(),
        step: 1,
        groups: drawn.into_iter().map(|group| group.id).collect(),
        stats: json!({ "stepped": stepped }),
        candidate: stepped.adapter.clone(),
        verdict: None,
        created_ms: now_ms(),
    })?;
    store.end_run(&run, RunStatus::Done, None)?;
    (trainer.watch)(&Progress::Stepped(stepped));
    Ok(adapter.map(|adapter| (adapter, run)))
}

fn gate_questions(args: &TrainArgs, embedded: bool) -> anyhow::Result<Vec<Task>> {
    let gate = match &args.gate {
        Some(file) => files::load(file).map_err(Error::Usage)?,
        None if embedded => files::bundled(Split::Gate),
        None => Vec::new(),
    };
    if let (Some(file), false) = (&args.tasks, gate.is_empty()) {
        let training = files::load(file).map_err(Error::Usage)?;
        let ids = |tasks: &[Task]| tasks.iter().map(|task| task.id.clone()).collect::<Vec<_>>();
        let (training, gate) = (ids(&training), ids(&gate));
        disjoint(training.iter().map(String::as_str), gate.iter().map(String::as_str))
            .map_err(|e| Error::Usage(e.to_string()))?;
    }
    Ok(gate)
}

/// The gate's word; without questions or patience one cannot tell.
async fn judged(
    trainer: &mut Trainer,
    args: &TrainArgs,
    global: &Global,
    candidate: &Adapter,
    champion: Option<&Adapter>,
    tasks: &[Task],
    cancel: &CancellationToken,
) -> anyhow::Result<Decision> {
    if tasks.is_empty() || args.pairs == 0 {
        say(args.json, &json!({"kind": "gate", "n": 0}), "gate: no pairs were drawn, so one cannot tell");
        return Ok(Decision::Hold);
    }
    let store = &trainer.store;
    let met = |opponent, adapter: Option<&Adapter>| -> anyhow::Result<Met> {
        let folder = adapter.map(|adapter| store.adapter_dir(adapter)).transpose()?;
        let (id, hash) = adapter.map(|adapter| (adapter.id.clone(), adapter.hash.clone())).unzip();
        Ok(Met { opponent, id, hash, file: folder.map(|folder| folder.join(WEIGHTS)) })
    };
    let ours = met(Opponent::Champion, Some(candidate))?.file;
    let seed = global.seed.unwrap_or(0);
    let patience = Patience { pairs: args.pairs, parallel: 16, ..Patience::default() };
    let earlier = store.adapter_before(&candidate.model_hash, PINNED_STEPS)?;
    let earlier = earlier.map(|id| id.map(|id| store.adapter(&id)).transpose()).transpose()?;
    let champion = met(Opponent::Champion, champion)?;
    let pinned = earlier.map(|adapter| met(Opponent::Pinned, adapter.as_ref())).transpose()?;
    let others = judge::others(&champion, met(Opponent::Base, None)?, pinned);
    if !args.json {
        eprintln!(
            "gate: up to {} questions, answered with the new adapter and with the one before",
            args.pairs
        );
    }
    let (mut gates, mut ids): (Vec<Gate>, Vec<Option<String>>) = (Vec::new(), Vec::new());
    // Steps that each lose too little to see add up: what beats the champion meets base and an earlier one, too.
    for theirs in std::iter::once(champion).chain(others) {
        let mut gate = Gate::new(theirs.opponent, theirs.hash);
        let (json, whom) = (args.json, gate.opponent);
        let mut look = |report: &Report, pairs: &[GatePair]| {
            store.add_gate_look(&candidate.id, theirs.id.as_deref(), pairs, &json!(report))?;
            let text = format!("gate against {}: {}", whom.words(), report.figures_text());
            say(json, &json!({"kind": "gate", "report": report}), &text);
            Ok(())
        };
        let ours = ours.clone();
        judge::judge(&trainer.flow, &mut gate, tasks, seed, ours, theirs.file, patience, &mut look, cancel)
            .await?;
        let (report, verdict) = (gate.report(), gate.verdict());
        say(args.json, &json!({"kind": "verdict", "report": report}), &report.verdict_text());
        gates.push(gate);
        ids.push(theirs.id);
        if verdict == Verdict::Worse || (gates.len() == 1 && verdict != Verdict::Better) {
            break;
        }
    }
    let decision = Trial::new(candidate.hash.clone(), seed, gates).decision();
    for id in &ids {
        store.decide_gate(&candidate.id, id.as_deref(), decision.name())?;
    }
    Ok(decision)
}

fn say(as_json: bool, value: &Value, text: &str) {
    if as_json {
        println!("{value}");
    } else {
        eprintln!("{text}");
    }
}

fn watch(as_json: bool) -> Watch {
    Arc::new(move |progress| match progress {
        progress if as_json => println!("{}", json!(progress)),
        Progress::Rolled(rolled) => {
            eprintln!(
                "step {}: {} of {} rollouts right, {} of {} groups have contrast, {:.1} s",
                rolled.step,
                rolled.right,
                rolled.rollouts - rolled.failed,
                rolled.contrast,
                rolled.groups,
                rolled.seconds
            );
            for alarm in &rolled.alarms {
                eprintln!("step {}: alarm: {}", rolled.step, alarm.words());
            }
        }
        Progress::Stepped(stepped) => match &stepped.skipped {
            Some(why) => eprintln!("step {}: skipped: {why}", stepped.step),
            None => eprintln!(
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
        },
        Progress::Validated(seen) => eprintln!(
            "step {}: validation {} of {} right ({:.1} %, 95 % {:.1}..{:.1}){}{}",
            seen.step,
            seen.k,
            seen.n,
            100.0 * seen.k as f64 / seen.n.max(1) as f64,
            100.0 * seen.low,
            100.0 * seen.high,
            if seen.best { ", the best so far" } else { "" },
            seen.back_to.as_ref().map(|id| format!("; worse, so back to {id}")).unwrap_or_default()
        ),
        Progress::Phase { .. } | Progress::Gate { .. } => {}
    })
}
