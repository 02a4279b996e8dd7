//! Where the groups of a step on labels come from: complete groups and their answers (mode A), the better of two
//! (B), questions that labels know answers to, rolled again (C), single labelled answers (D).

use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::engine::Role;
use crate::error::Error;
use crate::flow::trajectory::Trajectory;
use crate::store::{LabelValue, Scope, Source, Store, canonical, short};
use crate::train::presets::Settings;
use crate::train::progress::Progress;
use crate::train::recorded::{PassedOver, past_questions, stored_groups};
use crate::train::reward::{Known, Rewards, rewards, rewards_or_picks};
use crate::train::rollout::{Group, Question, RollOptions, Rollout, roll};
use crate::train::rows::Policy;
use crate::train::train_loop::Trainer;
use crate::train::watch::Flips;

use super::super::plain::excerpt;
use super::{TrainArgs, say};

/// How a group came together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Formed {
    /// Siblings of one question, their answers labelled.
    #[serde(rename = "A")]
    Complete,
    /// Siblings of one question, one of two picked: nothing is said to be right.
    #[serde(rename = "B")]
    Picked,
    /// A question of earlier labels, drawn again with what plans now.
    #[serde(rename = "C")]
    Past,
    /// One labelled trajectory, measured against the running mean of labels.
    #[serde(rename = "D")]
    Lone,
}

impl Formed {
    pub fn words(self) -> &'static str {
        match self {
            Formed::Complete => "a complete group (A)",
            Formed::Picked => "the better of two (B)",
            Formed::Past => "a past question rolled again (C)",
            Formed::Lone => "a lone label (D)",
        }
    }
}

/// A labelled trajectory by itself.
pub struct Lone {
    pub trajectory: Trajectory,
    pub question_id: String,
    pub value: LabelValue,
}

/// What a step is taken on, all of it drawn by `policy`.
pub struct Chosen {
    pub groups: Vec<(Group, Rewards, Formed)>,
    pub lone: Vec<Lone>,
    pub policy: Policy,
    pub passed: PassedOver,
}

/// What the arguments ask for. What was sampled at a temperature trains at that one.
///
/// # Errors
/// Nothing of that name or nothing to be had, store or engine, or it was interrupted.
pub async fn chosen(
    trainer: &Trainer,
    args: &TrainArgs,
    settings: &Settings,
    seed: u64,
    cancel: &CancellationToken,
) -> Result<Chosen, Error> {
    let (store, adapter) = (&trainer.store, trainer.flow.adapter.clone());
    let model = trainer.flow.engine.model().await?.hash;
    let policy = |temperature| Policy { model: model.clone(), adapter: adapter.clone(), temperature };
    let mut chosen = Chosen {
        groups: Vec::new(),
        lone: Vec::new(),
        policy: policy(settings.temperature),
        passed: PassedOver::default(),
    };
    if args.labelled {
        let found = stored_groups(store, &model, adapter.as_deref(), args.again)?;
        chosen.policy = policy(found.temperature);
        chosen.passed = found.passed;
        chosen.groups = found.groups.into_iter().map(formed).collect();
    } else if let Some(count) = args.past {
        chosen.groups = past(trainer, settings, count, (seed, args.json), cancel).await?;
    } else if !args.lone.is_empty() {
        chosen.lone = lone(store, &args.lone)?;
        let drawn = chosen.lone.iter().find_map(|one| temperature_of(&one.trajectory));
        chosen.policy = policy(drawn.unwrap_or(settings.temperature));
    } else {
        for id in &args.groups {
            let group = Group::load(store, &store.find_group(id)?)?;
            let rewards = rewards_or_picks(store, &group)?;
            chosen.groups.push(formed((group, rewards)));
        }
        let drawn = chosen.groups.first().and_then(|(group, ..)| Policy::of(group));
        chosen.policy = policy(drawn.map_or(settings.temperature, |drawn| drawn.temperature));
    }
    Ok(chosen)
}

fn formed((group, rewards): (Group, Rewards)) -> (Group, Rewards, Formed) {
    let how = if rewards.relative { Formed::Picked } else { Formed::Complete };
    (group, rewards, how)
}

/// Mode C: `count` (0: all) questions that labels know answers to, the longest not rolled first, drawn again.
async fn past(
    trainer: &Trainer,
    settings: &Settings,
    count: usize,
    (seed, json): (u64, bool),
    cancel: &CancellationToken,
) -> Result<Vec<(Group, Rewards, Formed)>, Error> {
    let store = &trainer.store;
    let questions = past_questions(store, count)?;
    if questions.is_empty() {
        let told = "no question has a label on an answer yet; ask something and label it: + and - in the deck, or \
                    `tillerman label`";
        return Err(Error::Train(told.to_string()));
    }
    let options = RollOptions {
        size: settings.group,
        seed,
        temperature: Some(settings.temperature),
        turns: settings.turns,
        parallel: 0,
    };
    trainer.may_sample(cancel).await?;
    (trainer.watch)(&Progress::Phase { phase: "rolling out".to_string() });
    let groups = roll(&trainer.flow, &questions, &options, Some(store), None, cancel.clone()).await?;
    if cancel.is_cancelled() {
        return Err(Error::Interrupted);
    }
    let mut out = Vec::new();
    for group in groups {
        say_flip(store, &group, json)?;
        let rewards = rewards(&group, &Known::of(store, &group.question.id)?);
        out.push((group, rewards, Formed::Past));
    }
    Ok(out)
}

/// Tell whether most rollouts answer otherwise than when the question was rolled last.
fn say_flip(store: &Store, group: &Group, json: bool) -> Result<(), Error> {
    let answers = |group: &Group| -> Vec<String> {
        group.rollouts.iter().filter_map(|rollout| rollout.answer().map(canonical)).collect()
    };
    let earlier = store.question_groups(&group.question.id)?.into_iter().find(|row| row.id != group.id);
    let Some(earlier) = earlier.and_then(|row| Group::load(store, &row.id).ok()) else { return Ok(()) };
    let (before, after) = (answers(&earlier), answers(group));
    let flips = Flips::of([(&before[..], &after[..])]);
    if flips.flipped > 0 {
        let query = excerpt(&group.question.query, 60);
        let told = json!({"kind": "flipped", "group": group.id, "before": earlier.id});
        say(json, &told, &format!("most rollouts answer {query:?} otherwise than when it was rolled last"));
    }
    Ok(())
}

/// Mode D: the trajectories named, each with the newest word a person said of its answer or plan.
fn lone(store: &Store, pieces: &[String]) -> Result<Vec<Lone>, Error> {
    let mut out = Vec::new();
    for piece in pieces {
        let row = store.row(&store.find(piece)?)?;
        let labels = store.labels(&row.id)?;
        let spoken = labels.iter().rev().find(|label| {
            label.cleared_ms.is_none() && label.source == Source::Person && label.scope != Scope::Turn
        });
        let Some(label) = spoken else {
            let told = format!(
                "{}: nobody has labelled it; `tillerman label {} good|bad`",
                short(&row.id),
                short(&row.id)
            );
            return Err(Error::Usage(told));
        };
        let trajectory = store.trajectory(&row.id)?;
        out.push(Lone { trajectory, question_id: row.question_id, value: label.value });
    }
    Ok(out)
}

/// What its plans were sampled at.
fn temperature_of(trajectory: &Trajectory) -> Option<f32> {
    let call = trajectory.calls.iter().find(|call| call.role == Role::Planner)?;
    Some(call.request.sampler.temperature)
}

impl Lone {
    /// As a group of one, for what looks at groups.
    pub fn group(&self) -> Group {
        let trajectory = self.trajectory.clone();
        let seed = trajectory.seed;
        Group {
            id: trajectory.id.clone(),
            question: Question { id: self.question_id.clone(), ..Question::again(&trajectory) },
            rollouts: vec![Rollout { trajectory, index: 0, seed, failed: None }],
        }
    }
}
