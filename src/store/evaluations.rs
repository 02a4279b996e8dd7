//! Evaluations: the trajectories of one `tillerman eval` together, apart from what a person asked.

use rusqlite::{OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::sessions::title;
use crate::store::{Result, Store, StoreError, Sync, new_id, now_ms};

/// One run of questions. Its id is also that of the session its trajectories belong to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    pub id: String,
    pub title: String,
    /// What was asked of whom.
    pub setting: Value,
    /// Unix time in milliseconds.
    pub created_ms: i64,
    pub trajectories: usize,
    /// Of them, those a checker has spoken about, and those it took.
    pub checked: usize,
    pub right: usize,
}

/// What the checker said of one trajectory of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub trajectory: String,
    pub right: bool,
    pub family: String,
    /// The right answer, for readers.
    pub reference: String,
}

const EVALUATION: &str = "SELECT e.id, s.title, e.setting, e.created_ms,
  (SELECT count(*) FROM trajectories t WHERE t.session = e.id),
  (SELECT count(*) FROM trajectories t JOIN evaluation_rows r ON r.trajectory = t.id WHERE t.session = e.id),
  (SELECT count(*) FROM trajectories t JOIN evaluation_rows r ON r.trajectory = t.id
   WHERE t.session = e.id AND r.accepted = 1)
  FROM evaluations e JOIN sessions s ON s.id = e.id";

impl Store {
    /// Begin one before its first question; answers its id.
    ///
    /// # Errors
    /// Disk full, or the database cannot be written.
    pub fn new_evaluation(&self, name: &str, setting: &Value) -> Result<String> {
        let id = new_id();
        self.begin(Sync::Normal, |transaction| {
            transaction
                .execute(
                    "INSERT INTO sessions (id, title, created_ms) VALUES (?1, ?2, ?3)",
                    params![id, title(name), now_ms()],
                )
                .map(drop)
                .map_err(|e| self.sql(e))?;
            self.mark(transaction, &id, setting)
        })?;
        Ok(id)
    }

    /// A session that was brought back is the evaluation it was.
    ///
    /// # Errors
    /// There is no such session, or the database cannot be written.
    pub fn mark_evaluation(&self, session: &str, setting: &Value) -> Result<()> {
        self.write(Sync::Normal, |transaction| self.mark(transaction, session, setting))
    }

    fn mark(&self, transaction: &rusqlite::Transaction, session: &str, setting: &Value) -> Result<()> {
        let marked = transaction
            .execute(
                "INSERT OR REPLACE INTO evaluations (id, setting, created_ms)
                 SELECT id, ?2, created_ms FROM sessions WHERE id = ?1",
                params![session, setting.to_string()],
            )
            .map_err(|e| self.sql(e))?;
        if marked == 1 { Ok(()) } else { Err(StoreError::NotFound(session.to_string())) }
    }

    /// Keep what the checker said; said again, it replaces what was said before. Of a trajectory that is not
    /// on record nothing is kept.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn add_checked(&self, checked: &Checked) -> Result<()> {
        let Checked { trajectory, right, family, reference } = checked;
        self.write(Sync::Normal, |transaction| {
            transaction
                .execute(
                    "INSERT OR REPLACE INTO evaluation_rows (trajectory, accepted, family, reference)
                     SELECT id, ?2, ?3, ?4 FROM trajectories WHERE id = ?1",
                    params![trajectory, right, family, reference],
                )
                .map(drop)
                .map_err(|e| self.sql(e))
        })
    }

    /// What the checker said of an evaluation's trajectories, in no order; of those it has spoken about.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn checked(&self, evaluation: &str) -> Result<Vec<Checked>> {
        self.read_checked("t.session = ?1", evaluation)
    }

    /// The same of one trajectory.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn checked_of(&self, trajectory: &str) -> Result<Option<Checked>> {
        Ok(self.read_checked("t.id = ?1", trajectory)?.pop())
    }

    fn read_checked(&self, which: &str, id: &str) -> Result<Vec<Checked>> {
        let sql = format!(
            "SELECT r.trajectory, r.accepted, r.family, r.reference
             FROM evaluation_rows r JOIN trajectories t ON t.id = r.trajectory WHERE {which}"
        );
        self.read(|view| {
            let mut statement = view.prepare_cached(&sql).map_err(|e| self.sql(e))?;
            let rows = statement.query_map([id], |row| {
                Ok(Checked {
                    trajectory: row.get(0)?,
                    right: row.get(1)?,
                    family: row.get(2)?,
                    reference: row.get(3)?,
                })
            });
            rows.and_then(Iterator::collect).map_err(|e| self.sql(e))
        })
    }

    /// Every evaluation, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn evaluations(&self) -> Result<Vec<Evaluation>> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(&format!("{EVALUATION} ORDER BY e.created_ms DESC, e.id DESC"))
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map([], read_row);
            rows.and_then(Iterator::collect).map_err(|e| self.sql(e))
        })
    }

    /// Evaluations with how many of their trajectories hold `text` in query, answer, family, status, adapter or id,
    /// whatever the case of its letters (of those outside ASCII as they are written).
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn evaluations_with(&self, text: &str) -> Result<Vec<(String, usize)>> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(
                    "SELECT e.id, count(*) FROM evaluations e JOIN trajectories t ON t.session = e.id
                     LEFT JOIN evaluation_rows r ON r.trajectory = t.id
                     WHERE instr(lower(t.query || ' ' || coalesce(t.answer, '') || ' ' || coalesce(r.family, '') || ' '
                                       || t.status || ' ' || coalesce(t.adapter, '') || ' ' || t.id), lower(?1)) > 0
                     GROUP BY e.id",
                )
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map([text], |row| Ok((row.get(0)?, usize::try_from(row.get::<_, i64>(1)?).unwrap_or(0))));
            rows.and_then(Iterator::collect).map_err(|e| self.sql(e))
        })
    }

    /// The evaluation a session is; None: it is another session.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn evaluation(&self, session: &str) -> Result<Option<Evaluation>> {
        self.read(|view| {
            view.prepare_cached(&format!("{EVALUATION} WHERE e.id = ?1"))
                .and_then(|mut statement| statement.query_row([session], read_row).optional())
                .map_err(|e| self.sql(e))
        })
    }

    /// The id of the one evaluation whose id begins or ends with `piece`.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn find_evaluation(&self, piece: &str) -> Result<String> {
        self.find_in("evaluations", piece)
    }

    /// Whoever would go on in a session: an evaluation's questions know nothing of each other.
    ///
    /// # Errors
    /// `NoConversation`, with what can be done instead.
    pub fn can_go_on(&self, session: &str) -> Result<()> {
        match self.evaluation(session)? {
            None => Ok(()),
            Some(_) => Err(StoreError::NoConversation(session.to_string())),
        }
    }
}

fn read_row(row: &rusqlite::Row) -> rusqlite::Result<Evaluation> {
    let count = |at: usize| row.get::<_, i64>(at).map(|n| usize::try_from(n).unwrap_or(0));
    Ok(Evaluation {
        id: row.get(0)?,
        title: row.get(1)?,
        setting: serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default(),
        created_ms: row.get(3)?,
        trajectories: count(4)?,
        checked: count(5)?,
        right: count(6)?,
    })
}
