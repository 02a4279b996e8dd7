//! `tillerman rollout`: a group of trajectories of one question, run together, and its answers side by side.
//!
//! Prints ids and answer clusters; labelling is `tillerman label`, learning `tillerman train`.

use std::io::{self, Write};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::flow::event::{Body, Event, Sink};
use crate::flow::trajectory::Outcome;
use crate::store::{LabelValue, Store, short};
use crate::train::contrast::{contrast_table, next_draw};
use crate::train::reward::{Cluster, Contrast, Known, clusters, contrast, rewards};
use crate::train::rollout::{Group, Question, RollOptions, Rollout, SIZE_MAX, roll};

use super::{Global, plain, setup};

#[derive(Debug, Args)]
pub struct RolloutArgs {
    /// The question
    pub query: String,
    /// Go on from this session, as `ask --session` would: its earlier questions and answers are seen
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Rollouts in the group
    #[arg(long, value_name = "G", default_value_t = 8)]
    pub size: usize,
    /// Temperature of the planner (default: the prompt pack's)
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,
    /// Most turns of a rollout; 0: no limit
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub turns: usize,
    /// Rollouts at once; with 1 and one engine thread a seed gives the same bits every time
    #[arg(long, value_name = "N")]
    pub parallel: Option<usize>,
    /// One JSON object per line: rollouts, answer clusters, the group
    #[arg(long)]
    pub json: bool,
}

/// Rollouts run together unless told otherwise: more share a batch with little gain.
const PARALLEL: usize = 16;

pub async fn run(global: &Global, args: &RolloutArgs) -> anyhow::Result<i32> {
    if args.query.trim().is_empty() {
        return Err(Error::Usage("the query is empty; type a question".into()).into());
    }
    if args.size == 0 || args.size > SIZE_MAX {
        let told = format!("--size {}: a group has 1 to {SIZE_MAX} rollouts; 8 is usual", args.size);
        return Err(Error::Usage(told).into());
    }
    let parallel = args.parallel.unwrap_or(PARALLEL).clamp(1, args.size);
    let setup = setup::open(global, parallel)?;
    setup.say_notice();
    let temperature = args.temperature.or(setup.flow.planner_temperature);
    let temperature = temperature.unwrap_or(setup.flow.pack.settings.planner_temperature);
    if let Some(why) = setup.flow.engine.untrainable(temperature).await.map_err(Error::Engine)? {
        return Err(Error::Usage(format!(
            "rollouts of this planner cannot train: {why}; or set engine.roles.planner = \"local\""
        ))
        .into());
    }
    let store = Arc::new(Store::open(&setup.home)?);
    let question = match &args.session {
        None => Question::new(&args.query, Vec::new()),
        Some(piece) => {
            let session = store.find_session(piece)?;
            store.can_go_on(&session)?;
            Question {
                taint: store.taint(&session)?,
                ..Question::new(&args.query, store.conversation(&session)?)
            }
        }
    };
    let options = RollOptions {
        size: args.size,
        seed: global.seed.unwrap_or_else(setup::fresh_seed),
        temperature: args.temperature,
        turns: args.turns,
        parallel,
    };
    let before = store.recent_values(64)?;
    if !args.json {
        eprintln!("{}", chances(&before));
    }
    let cancel = CancellationToken::new();
    let interrupt = cancel.clone();
    let watcher = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupt.cancel();
        }
    });
    super::may_sample(&setup, &cancel).await?;
    let watch: Option<Arc<dyn Sink>> = if args.json { None } else { Some(Arc::new(Progress)) };
    let questions = [question];
    let groups = roll(&setup.flow, &questions, &options, Some(&store), watch, cancel.clone()).await?;
    watcher.abort();
    let Some(group) = groups.first() else { return Ok(130) };
    let known = Known::of(&store, &group.question.id)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if args.json {
        print_json(group, &known, &options, &mut out)
    } else {
        print(group, &known, &options, &mut out)
    };
    super::sessions::written(written)?;
    Ok(code(group, cancel.is_cancelled()))
}

/// 0 with an answer at least; without one, why the first rollout has none.
fn code(group: &Group, cancelled: bool) -> i32 {
    if cancelled {
        return 130;
    }
    match group.rollouts.first().map(|rollout| &rollout.trajectory.outcome) {
        Some(Outcome::Failed { cause, .. }) if group.rollouts.iter().all(|r| r.failed.is_some()) => {
            super::failure_code(*cause)
        }
        _ => 0,
    }
}

/// One line on stderr per rollout that ends.
struct Progress;

impl Sink for Progress {
    fn record(&self, event: Event) -> Result<(), String> {
        let text = match &event.body {
            Body::Answered { answer, turns, .. } => {
                format!("{turns} turns  {}", plain::excerpt(answer, 80))
            }
            Body::Failed { reason, .. } => format!("failed: {}", plain::excerpt(reason, 120)),
            Body::Cancelled { .. } => "cancelled".to_string(),
            _ => return Ok(()),
        };
        let _ = writeln!(io::stderr(), "{}  {text}", short(&event.trajectory));
        Ok(())
    }
}

/// What a group of which size is worth paying for, from the share of good answers so far.
fn chances(before: &[LabelValue]) -> String {
    let good = before.iter().filter(|value| **value == LabelValue::Good).count();
    let table = contrast_table(good, before.len());
    let cells: Vec<String> = table
        .iter()
        .map(|(size, chance, low, high)| {
            format!("{size}: {:.0} % ({:.0}..{:.0})", 100.0 * chance, 100.0 * low, 100.0 * high)
        })
        .collect();
    let basis = match before.len() {
        0 => "nothing labelled yet, so half right is assumed".to_string(),
        n => format!("{good} of your last {n} labelled answers were good; 95 % interval"),
    };
    format!("chance of contrast by group size: {}  ({basis})", cells.join("  "))
}

fn print_json(group: &Group, known: &Known, options: &RollOptions, out: &mut impl Write) -> io::Result<()> {
    for rollout in &group.rollouts {
        writeln!(out, "{}", plain::json(&rollout_line(group, rollout)))?;
    }
    for cluster in clusters(group, known) {
        let ids: Vec<&str> = ids(group, &cluster).collect();
        let mut line = json!({"kind": "cluster", "group": group.id});
        line["canonical"] = cluster.canonical.clone().into();
        line["answers"] = cluster.answers.clone().into();
        line["trajectories"] = ids.into();
        line["label"] = serde_json::to_value(cluster.label)?;
        writeln!(out, "{}", plain::json(&line))?;
    }
    let rewards = rewards(group, known);
    let (has_contrast, reason) = match contrast(&rewards) {
        Contrast::Some { .. } => (true, Value::Null),
        Contrast::None(why) => (false, why.into()),
    };
    let line = json!({
        "kind": "group", "group": group.id, "question_id": group.question.id, "size": options.size,
        "rollouts": group.rollouts.len(),
        "failed": group.rollouts.iter().filter(|rollout| rollout.failed.is_some()).count(),
        "seed": options.seed, "labelled_rollouts": rewards.reached(), "labels": rewards.words,
        "contrast": has_contrast, "reason": reason,
    });
    writeln!(out, "{}", plain::json(&line))?;
    out.flush()
}

fn rollout_line(group: &Group, rollout: &Rollout) -> Value {
    let trajectory = &rollout.trajectory;
    json!({
        "kind": "rollout", "group": group.id, "trajectory": trajectory.id, "index": rollout.index,
        "seed": rollout.seed, "answer": rollout.answer(), "failed": rollout.failed,
        "turns": trajectory.turns.len(), "tokens": trajectory.tokens, "seconds": trajectory.seconds,
        "adapter": trajectory.adapter,
    })
}

fn ids<'a>(group: &'a Group, cluster: &'a Cluster) -> impl Iterator<Item = &'a str> {
    cluster.rollouts.iter().map(|place| group.rollouts[*place].trajectory.id.as_str())
}

fn print(group: &Group, known: &Known, options: &RollOptions, out: &mut impl Write) -> io::Result<()> {
    for rollout in &group.rollouts {
        writeln!(out, "{}", rollout.trajectory.id)?;
    }
    let clusters = clusters(group, known);
    writeln!(
        out,
        "\ngroup {}, {} of {} rollouts, seed {}",
        group.id,
        group.rollouts.len(),
        options.size,
        options.seed
    )?;
    writeln!(out, "{:>5}  {:<5}  {:<8}  answer", "count", "label", "id")?;
    for cluster in &clusters {
        let label = cluster.label.map_or("-", |word| word.value.name());
        let answer = cluster.answers.first().map(String::as_str).unwrap_or_default();
        let id = ids(group, cluster).next().unwrap_or_default();
        let count = cluster.rollouts.len();
        writeln!(out, "{count:>5}  {label:<5}  {:<8}  {}", short(id), plain::excerpt(answer, 100))?;
    }
    let failed: Vec<&Rollout> = group.rollouts.iter().filter(|rollout| rollout.failed.is_some()).collect();
    if let Some(reason) = failed.first().and_then(|rollout| rollout.failed.as_deref()) {
        writeln!(out, "{:>5}  failed, kept apart: {}", failed.len(), plain::excerpt(reason, 200))?;
    }
    let rewards = rewards(group, known);
    match contrast(&rewards) {
        Contrast::Some { right, wrong } => {
            let words = rewards.words;
            let s = if words == 1 { "" } else { "s" };
            writeln!(out, "contrast: {right} right, {wrong} wrong, from {words} label{s}")?;
        }
        Contrast::None(why) => {
            writeln!(out, "{why}")?;
            advise(group, &clusters, out)?;
        }
    }
    out.flush()
}

/// What to do about a group without contrast.
fn advise(group: &Group, clusters: &[Cluster], out: &mut impl Write) -> io::Result<()> {
    if let Some(open) = crate::train::reward::next_to_ask(clusters) {
        let id = ids(group, open).next().unwrap_or_default();
        writeln!(out, "label the biggest open answer: tillerman label {} good|bad", short(id))
    } else if let Some(more) = next_draw(group.rollouts.len()) {
        writeln!(out, "or draw {more} more with another --seed")
    } else {
        Ok(())
    }
}
