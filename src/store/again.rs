//! Labels in time: how long one holds, and old ones asked again, blind, to learn how often the person says otherwise.

use rusqlite::params;

use crate::store::{Label, Result, Scope, Source, Store, now_ms};

/// A label and what was said when it was asked again.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub before: Label,
    pub again: Label,
}

impl Asked {
    pub fn agrees(&self) -> bool {
        self.before.value == self.again.value
    }
}

impl Store {
    /// Keep a label in the place of every other one a person gave this answer; answers its id. One that only holds for a
    /// time must not leave an older one behind that would hold again afterwards.
    ///
    /// # Errors
    /// As `add_label`; the others are then still there.
    pub fn replace_label(&self, label: &Label) -> Result<i64> {
        self.add_label_and(label, |transaction, id| {
            transaction
                .execute(
                    "INSERT INTO label_clears (label, cleared_ms)
                     SELECT l.id, ?4 FROM labels l LEFT JOIN label_clears c ON c.label = l.id
                     WHERE l.question_id = ?1 AND l.canonical_answer = ?2 AND l.id < ?3 AND c.label IS NULL
                       AND l.scope = 'answer' AND l.source = 'person'",
                    params![label.question_id, label.canonical_answer, id, now_ms()],
                )
                .map(drop)
                .map_err(|e| self.sql(e))
        })
    }

    /// A person's newest word on each answer that still holds and whose text can be shown: what can be asked again.
    /// Oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn askable(&self) -> Result<Vec<Label>> {
        self.read_labels(
            "l.scope = 'answer' AND l.source = 'person' AND c.label IS NULL AND l.re_ask_of IS NULL
             AND l.canonical_answer IS NOT NULL AND (l.expiry_ms IS NULL OR l.expiry_ms > ?1)
             AND EXISTS (SELECT 1 FROM trajectories t
                         WHERE t.id = l.trajectory AND t.redacted = 0 AND t.answer IS NOT NULL)
             AND NOT EXISTS (SELECT 1 FROM labels n LEFT JOIN label_clears k ON k.label = n.id
                             WHERE n.question_id = l.question_id AND n.canonical_answer = l.canonical_answer
                               AND n.scope = 'answer' AND n.source = 'person' AND n.re_ask_of IS NULL
                               AND k.label IS NULL AND n.id > l.id)",
            &now_ms().to_string(),
        )
    }

    /// Every label that was asked again, drawn at random, with what was said then; oldest first. A word that was taken
    /// back is a slip of the finger and no change of mind.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn asked_again(&self) -> Result<Vec<Asked>> {
        let again = self.read_labels("l.re_ask_of IS NOT NULL AND l.audit AND ?1 = ''", "")?;
        let before = self.read_labels(
            "?1 = '' AND l.id IN (SELECT re_ask_of FROM labels WHERE re_ask_of IS NOT NULL)",
            "",
        )?;
        let pair = |again: Label| {
            let before = before.iter().find(|label| Some(label.id) == again.re_ask_of)?.clone();
            Some(Asked { before, again })
        };
        Ok(again.into_iter().filter(|label| label.cleared_ms.is_none()).filter_map(pair).collect())
    }

    /// The person's newest word on a trajectory's answer.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn word_on_answer(&self, trajectory: &str) -> Result<Option<Label>> {
        let mut labels = self.labels(trajectory)?;
        labels.retain(|label| {
            label.scope == Scope::Answer && label.source == Source::Person && label.cleared_ms.is_none()
        });
        Ok(labels.pop())
    }
}
