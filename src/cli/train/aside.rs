//! What a step on labels is measured on: planner prompts of questions that do not train in it.
//!
//! Where a step learned it moves most, and on one question it says nothing about all others: how far a step may go and
//! what is left of the KL budget are read elsewhere. The embedded planner is asked bundled training questions anew; for
//! another model earlier plans are on record, unless it was never asked anything else.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::engine::Role;
use crate::error::Error;
use crate::flow::trajectory::Trajectory;
use crate::store::{Adapter, Row, Status, Store};
use crate::tasks::question::Question;
use crate::tasks::{Split, files};
use crate::train::labelled::Lesson;
use crate::train::ledger;
use crate::train::material::spread;
use crate::train::progress::Progress;
use crate::train::rollout::{Group, RollOptions, roll};
use crate::train::rows::{LeftOut, Policy, TrainTurn, turns};
use crate::train::train_loop::Trainer;

/// Bundled questions between two that are asked: two or three of each family.
const EVERY: usize = 45;
/// Prompts that are enough: a big model takes its time with each.
const PROMPTS: usize = 32;
/// Queries that are looked through for them, newest first.
const LOOKED_AT: usize = 400;

/// Where the prompts are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Whence {
    Bundled,
    Recorded,
    /// Nothing else is there: the step's own.
    Own,
}

/// The prompts, and of how many questions they are.
pub struct Aside {
    pub turns: Vec<TrainTurn>,
    pub whence: Whence,
    pub questions: usize,
}

impl Aside {
    pub fn words(&self) -> String {
        let (prompts, questions) = (self.turns.len(), self.questions);
        match self.whence {
            Whence::Bundled => {
                format!(
                    "measured on {prompts} planner prompts of {questions} bundled questions that do not train here"
                )
            }
            Whence::Recorded => {
                format!(
                    "measured on {prompts} planner prompts of {questions} earlier queries that do not train here"
                )
            }
            Whence::Own => format!(
                "measured on {prompts} planner prompts of its own: nothing else was asked of this planner yet, so its \
                 length and the KL budget say little about other questions; ask it some"
            ),
        }
    }

    /// For the step's record.
    pub fn json(&self) -> Value {
        json!({ "from": self.whence, "prompts": self.turns.len(), "questions": self.questions })
    }

    /// The same with the prompts themselves, where another step from the same adapter can be measured on them.
    pub fn kept(&self) -> Value {
        let mut kept = self.json();
        if self.whence == Whence::Bundled {
            kept["turns"] = json!(self.turns);
        }
        kept
    }
}

/// What `lesson`, made of the groups `own`, is measured on.
///
/// # Errors
/// Engine or store, or it was interrupted.
pub async fn aside(
    trainer: &Trainer,
    embedded: bool,
    lesson: &Lesson,
    own: &[Group],
    (champion, most_turns): (Option<&Adapter>, usize),
    cancel: &CancellationToken,
) -> Result<Aside, Error> {
    let trained: HashSet<String> = lesson.groups.iter().map(|group| group.question_id.clone()).collect();
    let found = match embedded {
        true => {
            let (all, asked) = questions(&trained);
            let kept =
                if all == asked.len() { kept(&trainer.store, &lesson.policy, champion)? } else { None };
            match kept {
                Some(kept) => kept,
                None => bundled(trainer, &lesson.policy, &asked, most_turns, cancel).await?,
            }
        }
        false => recorded(&trainer.store, &lesson.policy, &trained)?,
    };
    if !found.turns.is_empty() {
        return Ok(found);
    }
    Ok(Aside {
        turns: crate::train::material::probes(own, lesson)?,
        whence: Whence::Own,
        questions: trained.len(),
    })
}

/// Some questions of each bundled family, the same ones for every step, without those that train; and how many they
/// would be with them.
fn questions(trained: &HashSet<String>) -> (usize, Vec<Question>) {
    let mut asked: Vec<Question> =
        files::bundled(Split::Train).into_iter().skip(EVERY / 3).step_by(EVERY).map(Question::from).collect();
    let all = asked.len();
    asked.retain(|question| !trained.contains(&ledger::id_of(question)));
    (all, asked)
}

/// What an earlier step from the same adapter was measured on: asking anew takes seconds, and would tell the same.
fn kept(store: &Store, policy: &Policy, champion: Option<&Adapter>) -> Result<Option<Aside>, Error> {
    let parent = champion.map(|adapter| adapter.id.as_str());
    let kept = store.adapters(Some(&policy.model))?.into_iter().rev().find_map(|made| {
        let probes = &made.manifest["made_from"]["probes"];
        let temperature = made.manifest["settings"]["temperature"].as_f64()? as f32;
        let same = made.parent.as_deref() == parent && temperature.to_bits() == policy.temperature.to_bits();
        let turns: Vec<TrainTurn> = serde_json::from_value(probes["turns"].clone()).ok().filter(|_| same)?;
        let questions = usize::try_from(probes["questions"].as_u64()?).ok()?;
        Some(Aside { turns, whence: Whence::Bundled, questions })
    });
    Ok(kept)
}

/// These questions, answered once by what plans now.
async fn bundled(
    trainer: &Trainer,
    policy: &Policy,
    asked: &[Question],
    most_turns: usize,
    cancel: &CancellationToken,
) -> Result<Aside, Error> {
    let questions = asked.iter().map(ledger::asked).collect::<Result<Vec<_>, _>>()?;
    let options = RollOptions {
        size: 1,
        seed: 0,
        temperature: Some(policy.temperature),
        turns: most_turns,
        parallel: 0,
    };
    trainer.may_sample(cancel).await?;
    (trainer.watch)(&Progress::Phase { phase: "asking what the step is measured on".to_string() });
    let groups = roll(&trainer.flow, &questions, &options, None, None, cancel.clone()).await?;
    if cancel.is_cancelled() {
        return Err(Error::Interrupted);
    }
    let mut found = Vec::new();
    let mut answered = 0;
    for rollout in groups.iter().flat_map(|group| &group.rollouts) {
        if let Some(more) = turns(&rollout.trajectory, policy, &mut LeftOut::default())? {
            answered += 1;
            found.extend(more);
        }
    }
    Ok(Aside { turns: spread(&found, PROMPTS), whence: Whence::Bundled, questions: answered })
}

/// Plans on record of this model, those of the adapter that is to be trained first. A bare model's are its own alone:
/// the KL budget of its line is measured where it sampled itself.
fn recorded(store: &Store, policy: &Policy, trained: &HashSet<String>) -> Result<Aside, Error> {
    // Evaluations ask what judges.
    let judges: HashSet<String> = store.evaluations()?.into_iter().map(|run| run.id).collect();
    let mut rows = store.trajectories(None, LOOKED_AT)?;
    rows.retain(|row| {
        row.status == Status::Answered
            && row.redacted == 0
            && row.model_hash == policy.model
            && !trained.contains(&row.question_id)
            && !judges.contains(&row.session)
    });
    let (mut same, others): (Vec<Row>, Vec<Row>) =
        rows.into_iter().partition(|row| row.adapter == policy.adapter);
    if policy.adapter.is_some() {
        same.extend(others);
    }
    let (mut found, mut asked) = (Vec::new(), HashSet::new());
    for row in same {
        if found.len() >= PROMPTS {
            break;
        }
        if asked.contains(&row.question_id) {
            continue;
        }
        let planned = planned(&store.trajectory(&row.id)?);
        if !planned.is_empty() {
            found.extend(planned);
            asked.insert(row.question_id);
        }
    }
    Ok(Aside { turns: found, whence: Whence::Recorded, questions: asked.len() })
}

/// What this model's planner saw and wrote, whatever it was sampled at: nothing of it trains.
fn planned(trajectory: &Trajectory) -> Vec<TrainTurn> {
    let calls = trajectory.calls.iter().filter(|call| call.role == Role::Planner);
    let here = calls.filter(|call| call.completion.remote.is_none());
    let turns = here.map(|call| TrainTurn {
        prompt: call.completion.prompt_ids.clone(),
        sampled: call.completion.completion_ids.clone(),
        mu: call.completion.logprobs.clone(),
        trains: vec![false; call.completion.completion_ids.len()],
        turn: call.turn,
    });
    turns.filter(|turn| !turn.prompt.is_empty() && !turn.sampled.is_empty()).collect()
}
