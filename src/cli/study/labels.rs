//! What a person says of a group's answers and plans in the deck, kept: labels on answers and plans, the better of two,
//! how long a label holds. Each is answered by the group as it stands then.

use crate::cli::label::expiry;
use crate::deck::LabelValue as Press;
use crate::deck::study::{Picked, StudyEvent};
use crate::error::Error;
use crate::store::{Label, LabelValue, Pick, Scope, Store, now_ms};
use crate::train::reward::{Known, clusters};
use crate::train::rollout::Group;

use super::{Study, views};

impl Study {
    pub(super) fn label_cluster(
        &self,
        id: &str,
        answer: &str,
        (value, correction): (Press, Option<String>),
        seconds: f64,
    ) -> anyhow::Result<()> {
        let group = Group::load(&self.store, id)?;
        let known = Known::of(&self.store, &group.question.id)?;
        let clusters = clusters(&group, &known);
        let Some(place) = clusters.iter().position(|cluster| cluster.canonical == answer) else {
            let told = format!("group {id} holds no such answer any more");
            return Err(Error::Usage(told).into());
        };
        let cluster = &clusters[place];
        // What was said before about this answer is taken back, wherever it was said.
        for label in on_answer(&known, &cluster.canonical) {
            if let Some(trajectory) = &label.trajectory {
                self.store.clear_labels(trajectory, Some(Scope::Answer), None)?;
            }
        }
        let value = match value {
            Press::Good => Some(LabelValue::Good),
            Press::Bad => Some(LabelValue::Bad),
            Press::Clear => None,
        };
        if let (Some(value), Some(first)) = (value, cluster.rollouts.first()) {
            let row = self.store.row(&group.rollouts[*first].trajectory.id)?;
            self.store.add_label(&Label {
                correction,
                shown_set: clusters.iter().map(|cluster| cluster.canonical.clone()).collect(),
                order: place,
                seconds: Some(seconds),
                ..Label::on(&row, Scope::Answer, value)
            })?;
        }
        self.send_group(id)
    }

    pub(super) fn label_plan(
        &self,
        id: &str,
        trajectory: &str,
        value: Press,
        seconds: f64,
    ) -> anyhow::Result<()> {
        self.store.clear_labels(trajectory, Some(Scope::Plan), None)?;
        if value == Press::Bad {
            let row = self.store.row(trajectory)?;
            let label = Label { seconds: Some(seconds), ..Label::on(&row, Scope::Plan, LabelValue::Bad) };
            self.store.add_label(&label)?;
        }
        self.send_group(id)
    }

    /// The label on an answer holds until then, as it was typed.
    pub(super) fn expires(&self, id: &str, answer: &str, after: &str) -> anyhow::Result<()> {
        let group = Group::load(&self.store, id)?;
        let known = Known::of(&self.store, &group.question.id)?;
        let Some(label) = on_answer(&known, answer).last().cloned() else {
            return Err(Error::Usage("label the answer first: + or -".to_string()).into());
        };
        hold_until(&self.store, label, after)?;
        self.send_group(id)
    }

    /// Keep which of two rollouts is the better one, or take that back.
    pub(super) fn pick(&self, id: &str, picked: &Picked, seconds: Option<f64>) -> anyhow::Result<()> {
        let question_id = self.store.group(id)?.question_id;
        let (better, worse) = (picked.better.clone(), picked.worse.clone());
        match seconds {
            Some(seconds) => {
                self.store.add_pick(&Pick {
                    id: 0,
                    question_id,
                    better,
                    worse,
                    better_left: picked.better_left,
                    seconds: Some(seconds),
                    created_ms: now_ms(),
                    cleared_ms: None,
                })?;
            }
            None => {
                let picks = self.store.picks(&question_id)?;
                let same = |pick: &&Pick| pick.better == better && pick.worse == worse;
                for pick in picks.iter().filter(same) {
                    self.store.clear_pick(pick.id)?;
                }
            }
        }
        self.send_group(id)
    }

    fn send_group(&self, id: &str) -> anyhow::Result<()> {
        self.send(StudyEvent::Group(views::group(&self.store, id)?));
        Ok(())
    }
}

/// Keep a label again, so that it holds for as long as was typed; answers until when.
///
/// # Errors
/// What was typed is no time, or the store cannot be written.
pub fn hold_until(store: &Store, label: Label, after: &str) -> Result<Option<i64>, Error> {
    let expiry_ms = expiry::until(after, now_ms()).map_err(Error::Usage)?;
    store.replace_label(&Label { id: 0, expiry_ms, created_ms: now_ms(), ..label })?;
    Ok(expiry_ms)
}

/// The labels on one answer to a question that were not taken back.
fn on_answer<'a>(known: &'a Known, canonical: &'a str) -> impl Iterator<Item = &'a Label> {
    known.labels.iter().filter(move |label| {
        label.scope == Scope::Answer
            && label.cleared_ms.is_none()
            && label.canonical_answer.as_deref() == Some(canonical)
    })
}
