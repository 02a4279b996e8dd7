//! Lists of what was recorded: sessions and trajectories, found by a piece of their id.

use rusqlite::{OptionalExtension as _, Row as SqlRow, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::store::labels::LabelValue;
use crate::store::redact::redact;
use crate::store::{Result, Store, StoreError, Sync, blobs};
use crate::text::one_line;
use crate::tools::{Effects, Taint};

/// How a trajectory ended, as lists show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Running,
    Answered,
    Failed,
    Cancelled,
    /// Its process ended without a last event.
    Interrupted,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Answered => "answered",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Interrupted => "interrupted",
        }
    }

    fn from_name(name: &str) -> Option<Status> {
        use Status::{Answered, Cancelled, Failed, Interrupted, Running};
        [Running, Answered, Failed, Cancelled, Interrupted].into_iter().find(|s| s.name() == name)
    }
}

/// One trajectory as lists show it; its events hold the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub id: String,
    pub session: String,
    pub question_id: String,
    pub query: String,
    /// Unix time in milliseconds.
    pub started_ms: i64,
    pub status: Status,
    pub answer: Option<String>,
    pub canonical_answer: Option<String>,
    pub model_hash: String,
    pub adapter: Option<String>,
    pub turns: usize,
    pub seconds: f64,
    pub tokens: usize,
    pub seed: u64,
    pub tier: Option<String>,
    /// Secrets taken out of its records.
    pub redacted: usize,
    /// The newest label that was not taken back.
    pub label: Option<LabelValue>,
}

/// Queries asked one after another, each seeing the answers before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    pub id: String,
    pub title: String,
    /// Unix time in milliseconds.
    pub created_ms: i64,
    pub trajectories: usize,
}

/// The end of an id: the part of a version 7 UUID that differs between queries of the same minute.
pub fn short(id: &str) -> &str {
    if id.len() <= 12 { id } else { id.get(id.len() - 8..).unwrap_or(id) }
}

/// One line of at most 80 characters.
pub(super) fn title(query: &str) -> String {
    one_line(query).chars().take(80).collect()
}

const ROW: &str =
    "SELECT t.id, t.session, t.question_id, t.query, t.started_ms, t.status, t.answer, t.canonical_answer, t.model_hash, t.adapter, t.turns, t.seconds, t.tokens, t.seed, t.tier, t.redacted,
  (SELECT l.value FROM labels l LEFT JOIN label_clears c ON c.label = l.id
   WHERE l.trajectory = t.id AND c.label IS NULL ORDER BY l.id DESC LIMIT 1)
  FROM trajectories t";

/// What one recorded event says was met. A body that cannot be read may have said anything.
fn met(body: &str) -> Taint {
    let Ok(body) = serde_json::from_str::<serde_json::Value>(body) else {
        return Taint { outside: true, private: true };
    };
    let inherited = Taint::deserialize(&body["taint"]).unwrap_or_default();
    inherited.after(Effects::deserialize(&body["result"]["effects"]).unwrap_or_default())
}

impl Store {
    /// Sessions, newest first; groups of rollouts and evaluations are not among them.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn sessions(&self) -> Result<Vec<Session>> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(
                    "SELECT s.id, s.title, s.created_ms, count(t.id) FROM sessions s
                     LEFT JOIN trajectories t ON t.session = s.id
                     WHERE s.id NOT IN (SELECT id FROM groups)
                       AND s.id NOT IN (SELECT id FROM evaluations)
                     GROUP BY s.id ORDER BY s.created_ms DESC, s.id DESC",
                )
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map([], |row| {
                Ok(Session {
                    id: row.get(0)?,
                    title: row.get(1)?,
                    created_ms: row.get(2)?,
                    trajectories: count(row, 3)?,
                })
            });
            rows.and_then(Iterator::collect).map_err(|e| self.sql(e))
        })
    }

    /// Begin a session named after its first query; answers its id.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn new_session(&self, query: &str) -> Result<String> {
        let id = super::new_id();
        let title = title(&redact(query).map_or_else(|| query.to_string(), |(kept, _)| kept));
        self.begin(Sync::Normal, |transaction| {
            transaction
                .execute(
                    "INSERT INTO sessions (id, title, created_ms) VALUES (?1, ?2, ?3)",
                    params![id, title, super::now_ms()],
                )
                .map_err(|e| self.sql(e))
        })?;
        Ok(id)
    }

    /// The (question, answer) pairs of a session, oldest first, as the next query sees them. A session
    /// that began from another (a fork, a rewind) begins with what its first query saw.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn conversation(&self, session: &str) -> Result<Vec<(String, String)>> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(
                    "SELECT query, answer FROM trajectories
                     WHERE session = ?1 AND status = 'answered' AND answer IS NOT NULL
                     ORDER BY started_ms, id",
                )
                .map_err(|e| self.sql(e))?;
            let rows = statement
                .query_map([session], |row| Ok((row.get(0)?, row.get(1)?)))
                .map_err(|e| self.sql(e))?;
            let mut pairs = self.before(view, session)?;
            for pair in rows {
                pairs.push(pair.map_err(|e| self.sql(e))?);
            }
            Ok(pairs)
        })
    }

    /// What a session has met: the fold over all that was recorded of it, failed queries too.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn taint(&self, session: &str) -> Result<Taint> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(
                    "SELECT e.body FROM trajectories t JOIN events e ON e.trajectory = t.id
                     WHERE t.session = ?1 AND e.kind IN ('started', 'tool_result')",
                )
                .map_err(|e| self.sql(e))?;
            let rows =
                statement.query_map([session], |row| row.get::<_, String>(0)).map_err(|e| self.sql(e))?;
            let mut taint = Taint::default();
            for body in rows {
                taint = taint.with(met(&body.map_err(|e| self.sql(e))?));
            }
            Ok(taint)
        })
    }

    /// The conversation the first query of a session was asked in.
    fn before(&self, view: &Transaction, session: &str) -> Result<Vec<(String, String)>> {
        let body: Option<String> = view
            .prepare_cached(
                "SELECT e.body FROM trajectories t JOIN events e ON e.trajectory = t.id AND e.seq = 0
                 WHERE t.session = ?1 ORDER BY t.started_ms, t.id LIMIT 1",
            )
            .and_then(|mut statement| statement.query_row([session], |row| row.get(0)).optional())
            .map_err(|e| self.sql(e))?;
        let body: Option<serde_json::Value> = body.and_then(|body| serde_json::from_str(&body).ok());
        let pairs = body.and_then(|mut body| body.get_mut("conversation").map(serde_json::Value::take));
        Ok(pairs.and_then(|pairs| serde_json::from_value(pairs).ok()).unwrap_or_default())
    }

    /// Trajectories, newest first: at most `limit` (0: all), of one session or of all.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn trajectories(&self, session: Option<&str>, limit: usize) -> Result<Vec<Row>> {
        let limit = if limit == 0 { -1 } else { i64::try_from(limit).unwrap_or(-1) };
        self.read(|view| {
            let mut statement = view
                .prepare_cached(&format!(
                    "{ROW} WHERE ?1 IS NULL OR t.session = ?1
                     ORDER BY t.started_ms DESC, t.id DESC LIMIT ?2"
                ))
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map(params![session, limit], read_row);
            rows.and_then(Iterator::collect).map_err(|e| self.sql(e))
        })
    }

    /// As `trajectories` of all sessions, without those drawn in groups and those of evaluations.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn asked(&self, limit: usize) -> Result<Vec<Row>> {
        let limit = if limit == 0 { -1 } else { i64::try_from(limit).unwrap_or(-1) };
        self.read(|view| {
            let mut statement = view
                .prepare_cached(&format!(
                    "{ROW} WHERE t.session NOT IN (SELECT id FROM groups)
                       AND t.session NOT IN (SELECT id FROM evaluations)
                     ORDER BY t.started_ms DESC, t.id DESC LIMIT ?1"
                ))
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map([limit], read_row);
            rows.and_then(Iterator::collect).map_err(|e| self.sql(e))
        })
    }

    /// The list entry of one trajectory, by its whole id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn row(&self, id: &str) -> Result<Row> {
        self.read(|view| {
            view.query_row(&format!("{ROW} WHERE t.id = ?1"), [id], read_row).map_err(|e| match e {
                rusqlite::Error::QueryReturnedNoRows => StoreError::NotFound(id.to_string()),
                e => self.sql(e),
            })
        })
    }

    /// The id of the one trajectory whose id begins (or, as `short` shows it, ends) with `piece`.
    ///
    /// # Errors
    /// `NotFound`, or `Ambiguous` with an example.
    pub fn find(&self, piece: &str) -> Result<String> {
        self.find_in("trajectories", piece)
    }

    /// The same for sessions.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn find_session(&self, piece: &str) -> Result<String> {
        self.find_in("sessions", piece)
    }

    pub(super) fn find_in(&self, table: &str, piece: &str) -> Result<String> {
        let piece = piece.trim();
        if piece.is_empty() {
            return Err(StoreError::NotFound(String::new()));
        }
        let mut found: Vec<String> = self.read(|view| {
            let mut statement = view
                .prepare_cached(&format!(
                    "SELECT id FROM {table} WHERE substr(id, 1, length(?1)) = ?1
                       OR substr(id, -length(?1)) = ?1 ORDER BY id"
                ))
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map([piece], |row| row.get(0));
            rows.and_then(Iterator::collect).map_err(|e| self.sql(e))
        })?;
        if let Some(whole) = found.iter().position(|id| id == piece) {
            return Ok(found.swap_remove(whole));
        }
        match found.len() {
            0 => Err(StoreError::NotFound(piece.to_string())),
            1 => Ok(found.swap_remove(0)),
            count => {
                Err(StoreError::Ambiguous { prefix: piece.to_string(), count, example: found.swap_remove(0) })
            }
        }
    }

    /// # Errors
    /// `NotFound`, or the database cannot be written.
    pub fn rename_session(&self, id: &str, title: &str) -> Result<()> {
        self.write(Sync::Full, |transaction| {
            let changed = transaction
                .execute("UPDATE sessions SET title = ?2 WHERE id = ?1", params![id, title])
                .map_err(|e| self.sql(e))?;
            if changed == 1 { Ok(()) } else { Err(StoreError::NotFound(id.to_string())) }
        })
    }

    /// Remove a session with its trajectories, their events and blobs. Labels stay: they are about
    /// questions and answers.
    ///
    /// # Errors
    /// `NotFound`, or the database cannot be written.
    pub fn delete_session(&self, id: &str) -> Result<()> {
        self.delete("DELETE FROM sessions WHERE id = ?1", "t.session = ?1", id)
    }

    /// The same for one trajectory.
    ///
    /// # Errors
    /// As [`Store::delete_session`].
    pub fn delete_trajectory(&self, id: &str) -> Result<()> {
        self.delete("DELETE FROM trajectories WHERE id = ?1", "t.id = ?1", id)
    }

    fn delete(&self, sql: &str, whose: &str, id: &str) -> Result<()> {
        let hashes = self.write(Sync::Full, |transaction| {
            let hashes = hashes_of(transaction, whose, id).map_err(|e| self.sql(e))?;
            let gone = transaction.execute(sql, [id]).map_err(|e| self.sql(e))?;
            if gone == 0 { Err(StoreError::NotFound(id.to_string())) } else { Ok(hashes) }
        })?;
        // A file goes only after the rows that named it are gone for good, and under the write lock, so
        // that no process refers to it meanwhile.
        self.write(Sync::Normal, |transaction| {
            for hash in &hashes {
                let used: bool = transaction
                    .query_row("SELECT EXISTS (SELECT 1 FROM event_blobs WHERE hash = ?1)", [hash], |row| {
                        row.get(0)
                    })
                    .map_err(|e| self.sql(e))?;
                if !used {
                    blobs::remove(&self.home, hash);
                }
            }
            Ok(())
        })?;
        // The deleted text leaves the log file too, as soon as no other process reads it.
        let writer = self.writer();
        let _ = writer.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        Ok(())
    }
}

fn hashes_of(transaction: &Transaction, whose: &str, id: &str) -> rusqlite::Result<Vec<String>> {
    transaction
        .prepare(&format!(
            "SELECT DISTINCT b.hash FROM event_blobs b JOIN trajectories t ON t.id = b.trajectory WHERE {whose}"
        ))?
        .query_map([id], |row| row.get(0))?
        .collect()
}

fn read_row(row: &SqlRow) -> rusqlite::Result<Row> {
    let status: String = row.get(5)?;
    let label: Option<String> = row.get(16)?;
    Ok(Row {
        id: row.get(0)?,
        session: row.get(1)?,
        question_id: row.get(2)?,
        query: row.get(3)?,
        started_ms: row.get(4)?,
        status: Status::from_name(&status).unwrap_or(Status::Interrupted),
        answer: row.get(6)?,
        canonical_answer: row.get(7)?,
        model_hash: row.get(8)?,
        adapter: row.get(9)?,
        turns: count(row, 10)?,
        seconds: row.get(11)?,
        tokens: count(row, 12)?,
        seed: row.get::<_, i64>(13)?.cast_unsigned(),
        tier: row.get(14)?,
        redacted: count(row, 15)?,
        label: label.as_deref().and_then(LabelValue::from_name),
    })
}

fn count(row: &SqlRow, index: usize) -> rusqlite::Result<usize> {
    row.get::<_, i64>(index).map(|n| usize::try_from(n).unwrap_or(0))
}
