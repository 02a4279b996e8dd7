//! What the record holds for a step: groups that labels give contrast, and questions that labels know answers to.

use crate::error::Error;
use crate::store::{GroupRow, Label, Store};
use crate::train::reward::{Contrast, Rewards, contrast, rewards_or_picks};
use crate::train::rollout::{Group, Question};

/// Mode C: questions the ledger knows answers to, to be rolled again with today's adapter; the longest not
/// rolled first.
///
/// # Errors
/// The store cannot be read.
pub fn past_questions(store: &Store, limit: usize) -> Result<Vec<Question>, Error> {
    let mut questions = Vec::new();
    for past in store.past_questions(limit)? {
        let trajectory = store.trajectory(&past.trajectory)?;
        questions.push(Question { id: past.question_id, ..Question::again(&trajectory) });
    }
    Ok(questions)
}

/// What the record holds for one step on labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// Newest first, all of one policy.
    pub groups: Vec<(Group, Rewards)>,
    /// What their plans were sampled at; a step divides by the same.
    pub temperature: f32,
    pub passed: PassedOver,
}

/// Labelled groups that a step on all labels does not take, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassedOver {
    /// Drawn by another model, or with another adapter than plans now.
    pub other_policy: usize,
    /// Sampled at another temperature than most.
    pub other_temperature: usize,
    /// A step learned from them already, and nothing was said since.
    pub trained: usize,
    pub without_contrast: usize,
}

impl PassedOver {
    /// In words, with what helps; empty where nothing was passed over.
    pub fn words(&self) -> String {
        let said = [
            (self.other_policy, "drawn with another planner than plans now: roll their questions out again"),
            (self.trained, "trained already: --again takes them too, and so does naming them with --groups"),
            (self.other_temperature, "drawn at another temperature: they wait for a step of their own"),
            (self.without_contrast, "without contrast: their labels are all alike"),
        ];
        let found = said.iter().filter(|(n, _)| *n > 0);
        found
            .map(|(n, why)| format!("{n} labelled group{} {why}", if *n == 1 { "" } else { "s" }))
            .collect::<Vec<_>>()
            .join("; ")
    }
}

/// The stored groups that this planner drew, that labels give contrast and that have not trained since they were
/// last spoken of (`again`: those as well). A step has one temperature, that of its rollouts: of several, the one
/// most groups were drawn at is taken, the newest of equals.
///
/// # Errors
/// The store cannot be read.
pub fn stored_groups(
    store: &Store,
    model: &str,
    adapter: Option<&str>,
    again: bool,
) -> Result<Stored, Error> {
    let (mut found, mut passed) = (Vec::new(), PassedOver::default());
    for row in store.groups(0)? {
        if store.question_labels(&row.question_id)?.is_empty() && store.picks(&row.question_id)?.is_empty() {
            continue;
        }
        if row.model_hash != model || row.adapter.as_deref() != adapter {
            passed.other_policy += 1;
            continue;
        }
        if !again && is_learned(store, &row)? {
            passed.trained += 1;
            continue;
        }
        let Ok(group) = Group::load(store, &row.id) else { continue };
        let rewards = rewards_or_picks(store, &group)?;
        if matches!(contrast(&rewards), Contrast::Some { .. }) {
            found.push((row.temperature, group, rewards));
        } else {
            passed.without_contrast += 1;
        }
    }
    let count = |at: f32| found.iter().filter(|(drawn, ..)| drawn.to_bits() == at.to_bits()).count();
    let temperature = found.iter().rev().map(|(drawn, ..)| *drawn).max_by_key(|drawn| count(*drawn));
    let temperature = temperature.unwrap_or_default();
    passed.other_temperature = found.len() - count(temperature);
    found.retain(|(drawn, ..)| drawn.to_bits() == temperature.to_bits());
    let groups = found.into_iter().map(|(_, group, rewards)| (group, rewards)).collect();
    Ok(Stored { groups, temperature, passed })
}

/// A step learned from this group, and nothing was said of its question since.
fn is_learned(store: &Store, group: &GroupRow) -> Result<bool, Error> {
    let Some(trained_ms) = store.group_trained(&group.id)? else { return Ok(false) };
    let labels = store.question_labels(&group.question_id)?;
    let value_of = |id: i64| labels.iter().find(|label| label.id == id).map(|label| label.value);
    // Asked again and said the same, nothing new was said.
    let new = |label: &&Label| label.re_ask_of.is_none_or(|of| value_of(of) != Some(label.value));
    let said = labels.iter().filter(new).map(|label| label.cleared_ms.unwrap_or(label.created_ms));
    let picks = store.picks(&group.question_id)?;
    let newest = said.chain(picks.iter().map(|pick| pick.created_ms)).max();
    Ok(newest.is_none_or(|said_ms| said_ms <= trained_ms))
}
