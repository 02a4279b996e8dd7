//! What the answer ledger and the labels on plans say, as rows other trainers read: KTO's good and bad completions,
//! verl's prompts with their right answers.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::engine::{Role, Speaker};
use crate::flow::trajectory::Trajectory;
use crate::store::{LabelValue, Result, Row, Scope, Source, Store};

/// Plans of a trajectory with whether they were good, one row a plan, in the conversational form of TRL's KTO:
/// `prompt` (messages), `completion` (messages), `label`. A plan is good where the answer was and nobody called the
/// plan or the turn bad; bad where the answer or it was. Nothing where nothing was said, or by a judge alone.
///
/// # Errors
/// The store cannot be read.
pub fn kto(store: &Store, row: &Row, of: &Trajectory) -> Result<Vec<Value>> {
    let ledger = store.ledger(&row.question_id)?;
    let answer = ledger
        .iter()
        .find(|entry| {
            Some(&entry.canonical_answer) == row.canonical_answer.as_ref() && entry.source != Source::Judge
        })
        .map(|entry| entry.value);
    let labels = store.labels(&row.id)?;
    let bad = |turn: usize| {
        labels.iter().any(|label| {
            let about = label.scope == Scope::Plan || label.scope == Scope::Turn && label.turn == Some(turn);
            about && label.value == LabelValue::Bad && label.cleared_ms.is_none()
        })
    };
    let mut rows = Vec::new();
    for call in of.calls.iter().filter(|call| call.role == Role::Planner) {
        let good = match (bad(call.turn), answer) {
            (true, _) | (false, Some(LabelValue::Bad)) => false,
            (false, Some(LabelValue::Good)) => true,
            (false, None) => continue,
        };
        let message = |speaker: Speaker, text: String| json!({"role": speaker.name(), "content": text});
        let prompt = call.request.messages.iter().map(|m| message(m.speaker, m.text()));
        rows.push(json!({
            "prompt": prompt.collect::<Vec<_>>(),
            "completion": [message(Speaker::Assistant, call.completion.text.clone())],
            "label": good,
            "trajectory": row.id,
            "turn": call.turn,
        }));
    }
    Ok(rows)
}

/// A question whose right answer is known (a good answer, a typed correction, the reference of an evaluation), once,
/// in the columns verl's datasets have; None where it is not known, or stands in `seen` already.
///
/// # Errors
/// The store cannot be read.
pub fn verl(store: &Store, row: &Row, of: &Trajectory, seen: &mut HashSet<String>) -> Result<Option<Value>> {
    let entries = store.ledger(&row.question_id)?;
    let good =
        entries.iter().filter(|entry| entry.value == LabelValue::Good && entry.source != Source::Judge);
    // What somebody typed is what they meant; else the answer they took.
    let known = good.max_by_key(|entry| entry.typed).map(|entry| entry.canonical_answer.clone());
    let reference =
        store.checked_of(&row.id)?.map(|checked| checked.reference).filter(|text| !text.is_empty());
    let Some(truth) = reference.or(known).filter(|_| !seen.contains(&row.question_id)) else {
        return Ok(None);
    };
    seen.insert(row.question_id.clone());
    let turn = |(query, answer): &(String, String)| {
        [json!({"role": "user", "content": query}), json!({"role": "assistant", "content": answer})]
    };
    let mut prompt: Vec<Value> = of.conversation.iter().flat_map(turn).collect();
    prompt.push(json!({"role": "user", "content": of.query}));
    Ok(Some(json!({
        "data_source": "tillerman",
        "prompt": prompt,
        "ability": "agent",
        "reward_model": {"style": "rule", "ground_truth": truth},
        "extra_info": {"index": seen.len() - 1, "question_id": row.question_id, "trajectory": row.id},
    })))
}
