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
}

const EVALUATION: &str = "SELECT e.id, s.title, e.setting, e.created_ms,
  (SELECT count(*) FROM trajectories t WHERE t.session = e.id)
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
    Ok(Evaluation {
        id: row.get(0)?,
        title: row.get(1)?,
        setting: serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default(),
        created_ms: row.get(3)?,
        trajectories: usize::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
    })
}
