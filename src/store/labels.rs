//! The answer ledger: what people, checkers and judges said about answers and plans.
//!
//! A label on an answer is about (question, canonical answer), so it outlives the trajectory it was given
//! on; a label on a plan or turn is about that trajectory alone. Rows are never changed: a label is taken
//! back by another row. What was shown, in which order and with which chance, cannot be known later and is
//! therefore kept with every label.

use rusqlite::{Row as SqlRow, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::store::redact::redact;
use crate::store::{Result, Row, Store, StoreError, Sync, canonical, checksum, now_ms};

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$inner])* $variant),* }

        impl $name {
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }

            pub fn from_name(name: &str) -> Option<$name> {
                match name { $($text => Some($name::$variant),)* _ => None }
            }
        }
    };
}

named!(
    /// What is judged.
    Scope {
        /// The answer: spreads to every rollout with an equal answer.
        Answer = "answer",
        /// The whole plan of this trajectory: a lucky right answer must not teach a bad plan.
        Plan = "plan",
        /// One turn of this trajectory.
        Turn = "turn",
    }
);

named!(
    LabelValue {
        Good = "good",
        Bad = "bad",
    }
);

named!(
    /// Who says so.
    Source {
        Person = "person",
        /// A program that knows the right answer.
        Checker = "checker",
        /// A model; never believed alone.
        Judge = "judge",
    }
);

/// One label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// Given by the store; 0 before.
    pub id: i64,
    /// The trajectory it was given on, where there was one.
    pub trajectory: Option<String>,
    pub question_id: String,
    pub canonical_answer: Option<String>,
    pub scope: Scope,
    /// The turn judged, with scope `turn`.
    pub turn: Option<usize>,
    pub value: LabelValue,
    /// The person's note.
    pub text: Option<String>,
    /// The right answer as typed; settles the question.
    pub correction: Option<String>,
    pub source: Source,
    /// Canonical answers on the screen when the label was given.
    pub shown_set: Vec<String>,
    /// Place of the judged answer among them, from 0.
    pub order: usize,
    /// Chance with which this question was put to this person.
    pub propensity: f64,
    /// How long the person took.
    pub seconds: Option<f64>,
    /// Adapter that had made the answer.
    pub adapter: Option<String>,
    /// Unix time in milliseconds after which the answer may have changed.
    pub expiry_ms: Option<i64>,
    /// Asked at random to measure accuracy, not because it seemed worth asking.
    pub audit: bool,
    /// The label this one was to confirm.
    pub re_ask_of: Option<i64>,
    /// Unix time in milliseconds.
    pub created_ms: i64,
    /// When it was taken back, Unix time in milliseconds.
    pub cleared_ms: Option<i64>,
}

impl Label {
    /// A person's label on a trajectory that was the only one shown.
    pub fn on(row: &Row, scope: Scope, value: LabelValue) -> Label {
        Label {
            id: 0,
            trajectory: Some(row.id.clone()),
            question_id: row.question_id.clone(),
            canonical_answer: row.canonical_answer.clone(),
            scope,
            turn: None,
            value,
            text: None,
            correction: None,
            source: Source::Person,
            shown_set: row.canonical_answer.clone().into_iter().collect(),
            order: 0,
            propensity: 1.0,
            seconds: None,
            adapter: row.adapter.clone(),
            expiry_ms: None,
            audit: false,
            re_ask_of: None,
            created_ms: now_ms(),
            cleared_ms: None,
        }
    }

    fn check(&self) -> Result<()> {
        let fault = match (self.scope, self.turn, &self.trajectory) {
            (Scope::Turn, None, _) => "a label on a turn names the turn",
            (Scope::Plan | Scope::Answer, Some(_), _) => "only a label with scope turn names a turn",
            (Scope::Plan | Scope::Turn, _, None) => "a label on a plan names its trajectory",
            (Scope::Answer, ..) if self.canonical_answer.is_none() && self.correction.is_none() => {
                "there is no answer to label; label the plan (--scope plan) or give the right answer (--correction TEXT)"
            }
            (Scope::Plan | Scope::Turn, ..) if self.correction.is_some() => {
                "a correction is about the answer"
            }
            _ if self.value == LabelValue::Good && self.correction.is_some() => {
                "a good answer needs no correction"
            }
            _ if !(self.propensity > 0.0 && self.propensity <= 1.0) => "propensity is above 0 and at most 1",
            _ if self.seconds.is_some_and(|seconds| !(seconds.is_finite() && seconds >= 0.0)) => {
                "the seconds a label took are a number from 0 up"
            }
            _ => return Ok(()),
        };
        Err(StoreError::Invalid(fault.to_string()))
    }
}

/// What the ledger says about one answer to a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerEntry {
    pub canonical_answer: String,
    pub value: LabelValue,
    pub source: Source,
    /// The label it rests on.
    pub label: i64,
    /// The answer was typed as the right one.
    pub typed: bool,
}

const LABEL: &str = "SELECT l.id, l.trajectory, l.question_id, l.canonical_answer, l.scope, l.turn, l.value,
  l.text, l.correction, l.source, l.shown_set, l.\"order\", l.propensity, l.seconds, l.adapter, l.expiry_ms,
  l.audit, l.re_ask_of, l.created_ms, c.cleared_ms, l.sum
  FROM labels l LEFT JOIN label_clears c ON c.label = l.id";

impl Store {
    /// Keep a label; answers its id. It survives a power cut when this returns.
    ///
    /// # Errors
    /// The label contradicts itself, or the database cannot be written.
    pub fn add_label(&self, label: &Label) -> Result<i64> {
        self.add_label_and(label, |_, _| Ok(()))
    }

    /// Keep a label and do something more with its id, both or neither.
    pub(super) fn add_label_and(
        &self,
        label: &Label,
        more: impl Fn(&Transaction<'_>, i64) -> Result<()>,
    ) -> Result<i64> {
        label.check()?;
        let clean = |text: &Option<String>| {
            text.as_ref().map(|text| redact(text).map_or_else(|| text.clone(), |(kept, _)| kept))
        };
        let label =
            &Label { text: clean(&label.text), correction: clean(&label.correction), ..label.clone() };
        let shown = serde_json::to_string(&label.shown_set).unwrap_or_default();
        let small = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.write(Sync::Full, |transaction| {
            transaction
                .execute(
                    "INSERT INTO labels (trajectory, question_id, canonical_answer, scope, turn, value, text,
                       correction, source, shown_set, \"order\", propensity, seconds, adapter, expiry_ms,
                       audit, re_ask_of, created_ms, sum)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
                       ?19)",
                    params![
                        label.trajectory,
                        label.question_id,
                        label.canonical_answer,
                        label.scope.name(),
                        label.turn.map(small),
                        label.value.name(),
                        label.text,
                        label.correction,
                        label.source.name(),
                        shown,
                        small(label.order),
                        label.propensity,
                        label.seconds,
                        label.adapter,
                        label.expiry_ms,
                        label.audit,
                        label.re_ask_of,
                        label.created_ms,
                        checksum::label(label),
                    ],
                )
                .map_err(|e| self.sql(e))?;
            let id = transaction.last_insert_rowid();
            more(transaction, id)?;
            Ok(id)
        })
    }

    /// Take back a trajectory's labels, all of them or those of one scope and turn; answers how many.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn clear_labels(&self, trajectory: &str, scope: Option<Scope>, turn: Option<usize>) -> Result<usize> {
        let turn = turn.map(|turn| i64::try_from(turn).unwrap_or(i64::MAX));
        self.write(Sync::Full, |transaction| {
            transaction
                .execute(
                    "INSERT INTO label_clears (label, cleared_ms)
                     SELECT l.id, ?4 FROM labels l LEFT JOIN label_clears c ON c.label = l.id
                     WHERE l.trajectory = ?1 AND c.label IS NULL
                       AND (?2 IS NULL OR l.scope = ?2) AND (?3 IS NULL OR l.turn = ?3)",
                    params![trajectory, scope.map(Scope::name), turn, now_ms()],
                )
                .map_err(|e| self.sql(e))
        })
    }

    /// Every label ever given on a trajectory, oldest first, those taken back included.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn labels(&self, trajectory: &str) -> Result<Vec<Label>> {
        self.read_labels("l.trajectory = ?1", trajectory)
    }

    /// The same for a question.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn question_labels(&self, question_id: &str) -> Result<Vec<Label>> {
        self.read_labels("l.question_id = ?1", question_id)
    }

    /// What is known about the answers to a question: per answer the newest label not taken back and not
    /// expired; a checker's word never replaces a person's, nor a judge's either's. A correction counts as
    /// bad for the answer given and good for the one typed.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn ledger(&self, question_id: &str) -> Result<Vec<LedgerEntry>> {
        let now = now_ms();
        let mut entries: Vec<LedgerEntry> = Vec::new();
        for label in self.question_labels(question_id)? {
            let expired = label.expiry_ms.is_some_and(|expiry| expiry <= now);
            if label.scope != Scope::Answer || label.cleared_ms.is_some() || expired {
                continue;
            }
            let typed = label.correction.as_deref().map(|text| (canonical(text), LabelValue::Good, true));
            let given = label.canonical_answer.map(|answer| (answer, label.value, false));
            for (canonical_answer, value, typed) in given.into_iter().chain(typed) {
                let known = entries.iter().position(|entry| entry.canonical_answer == canonical_answer);
                // Sources are declared from the strongest on.
                if known.is_some_and(|place| entries[place].source < label.source) {
                    continue;
                }
                known.map(|place| entries.remove(place));
                let (source, label) = (label.source, label.id);
                entries.push(LedgerEntry { canonical_answer, value, source, label, typed });
            }
        }
        Ok(entries)
    }

    /// A person's words on answers of one model that came one by one, oldest first, those taken back left out: (hash of
    /// the adapter that planned, value). In a group every answer there is gets one, in an evaluation those that are
    /// looked at: neither says how often an answer is given; one that is asked again was given before.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn answer_labels(&self, model_hash: &str) -> Result<Vec<(Option<String>, LabelValue)>> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(
                    "SELECT l.adapter, l.value FROM labels l
                     JOIN trajectories t ON t.id = l.trajectory LEFT JOIN label_clears c ON c.label = l.id
                     WHERE c.label IS NULL AND l.scope = 'answer' AND l.source = 'person' AND t.model_hash = ?1
                       AND l.re_ask_of IS NULL
                       AND t.session NOT IN (SELECT id FROM evaluations)
                       AND NOT EXISTS (SELECT 1 FROM group_members m WHERE m.trajectory = l.trajectory)
                     ORDER BY l.id",
                )
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map([model_hash], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)));
            let rows: Vec<(Option<String>, String)> =
                rows.and_then(Iterator::collect).map_err(|e| self.sql(e))?;
            let value = |(adapter, name): (_, String)| Some((adapter, LabelValue::from_name(&name)?));
            Ok(rows.into_iter().filter_map(value).collect())
        })
    }

    /// Values of the person's newest answer labels that were not taken back, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn recent_values(&self, limit: usize) -> Result<Vec<LabelValue>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(|view| {
            let mut statement = view
                .prepare_cached(
                    "SELECT l.value FROM labels l LEFT JOIN label_clears c ON c.label = l.id
                     WHERE c.label IS NULL AND l.scope = 'answer' AND l.source = 'person' AND l.re_ask_of IS NULL
                     ORDER BY l.id DESC LIMIT ?1",
                )
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map([limit], |row| row.get::<_, String>(0));
            let names: Vec<String> = rows.and_then(Iterator::collect).map_err(|e| self.sql(e))?;
            Ok(names.iter().filter_map(|name| LabelValue::from_name(name)).collect())
        })
    }

    pub(super) fn read_labels(&self, which: &str, key: &str) -> Result<Vec<Label>> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(&format!("{LABEL} WHERE {which} ORDER BY l.id"))
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map([key], |row| Ok((read_label(row)?, row.get(20)?)));
            let rows: Vec<(Label, Option<checksum::Sum>)> =
                rows.and_then(Iterator::collect).map_err(|e| self.sql(e))?;
            rows.into_iter()
                .map(|(label, sum)| match sum {
                    Some(sum) if sum != checksum::label(&label) => {
                        Err(self.changed(format!("label {}", label.id)))
                    }
                    _ => Ok(label),
                })
                .collect()
        })
    }
}

fn read_label(row: &SqlRow) -> rusqlite::Result<Label> {
    let name = |index: usize| row.get::<_, String>(index);
    let unknown = |index: usize| {
        rusqlite::Error::InvalidColumnType(index, "label".to_string(), rusqlite::types::Type::Text)
    };
    let count = |n: i64| usize::try_from(n).unwrap_or(0);
    Ok(Label {
        id: row.get(0)?,
        trajectory: row.get(1)?,
        question_id: row.get(2)?,
        canonical_answer: row.get(3)?,
        scope: Scope::from_name(&name(4)?).ok_or_else(|| unknown(4))?,
        turn: row.get::<_, Option<i64>>(5)?.map(count),
        value: LabelValue::from_name(&name(6)?).ok_or_else(|| unknown(6))?,
        text: row.get(7)?,
        correction: row.get(8)?,
        source: Source::from_name(&name(9)?).ok_or_else(|| unknown(9))?,
        shown_set: serde_json::from_str(&name(10)?).map_err(|_| unknown(10))?,
        order: count(row.get(11)?),
        propensity: row.get(12)?,
        seconds: row.get(13)?,
        adapter: row.get(14)?,
        expiry_ms: row.get(15)?,
        audit: row.get(16)?,
        re_ask_of: row.get(17)?,
        created_ms: row.get(18)?,
        cleared_ms: row.get(19)?,
    })
}
