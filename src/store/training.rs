//! The record of training: runs and their steps, so that a run can be resumed and looked at later. Numbers arrive as JSON and leave as they came.

use rusqlite::{OptionalExtension, Row as SqlRow, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::{Result, Store, StoreError, Sync};

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    Running,
    Done,
    /// By the user; can be resumed.
    Stopped,
    Failed,
    /// Its process ended without a word; can be resumed.
    Interrupted,
}

impl RunStatus {
    pub fn name(self) -> &'static str {
        match self {
            RunStatus::Running => "running",
            RunStatus::Done => "done",
            RunStatus::Stopped => "stopped",
            RunStatus::Failed => "failed",
            RunStatus::Interrupted => "interrupted",
        }
    }

    fn from_name(name: &str) -> Option<RunStatus> {
        use RunStatus::{Done, Failed, Interrupted, Running, Stopped};
        [Running, Done, Stopped, Failed, Interrupted].into_iter().find(|status| status.name() == name)
    }
}

/// One `train` from its first step to its last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingRun {
    pub id: String,
    /// Unix time in milliseconds.
    pub created_ms: i64,
    pub model_hash: String,
    /// Id of the adapter it began with; None: the bare model.
    pub parent: Option<String>,
    pub seed: u64,
    /// Everything needed to go on with it.
    pub settings: Value,
    pub status: RunStatus,
    pub note: Option<String>,
}

/// One step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingStep {
    pub run: String,
    /// From 1.
    pub step: usize,
    /// Ids of the groups it learned from.
    pub groups: Vec<String>,
    pub stats: Value,
    /// Id of the adapter it made.
    pub candidate: Option<String>,
    /// The gate's word on it: better, worse, cannot_tell, discarded; None: not judged yet.
    pub verdict: Option<String>,
    /// Unix time in milliseconds.
    pub created_ms: i64,
}

const RUN: &str =
    "SELECT id, created_ms, model_hash, parent, seed, settings, status, note FROM training_runs";

impl Store {
    /// Begin a run, or go on with one of the same id.
    ///
    /// # Errors
    /// Disk full, or the database cannot be written.
    pub fn begin_run(&self, run: &TrainingRun) -> Result<()> {
        self.begin(Sync::Full, |transaction| {
            transaction
                .execute(
                    "INSERT INTO training_runs
                       (id, created_ms, model_hash, parent, seed, settings, status, note, owner)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'running', ?7, ?8)
                     ON CONFLICT (id) DO UPDATE SET status = 'running', note = ?7, owner = ?8",
                    params![
                        run.id,
                        run.created_ms,
                        run.model_hash,
                        run.parent,
                        run.seed.cast_signed(),
                        run.settings.to_string(),
                        run.note,
                        self.running.name,
                    ],
                )
                .map(drop)
                .map_err(|e| self.sql(e))
        })
    }

    /// # Errors
    /// `NoRun`, or the database cannot be written.
    pub fn end_run(&self, id: &str, status: RunStatus, note: Option<&str>) -> Result<()> {
        self.write(Sync::Full, |transaction| {
            let changed = transaction
                .execute(
                    "UPDATE training_runs SET status = ?2, note = coalesce(?3, note) WHERE id = ?1",
                    params![id, status.name(), note],
                )
                .map_err(|e| self.sql(e))?;
            if changed == 1 { Ok(()) } else { Err(StoreError::NoRun(id.to_string())) }
        })
    }

    /// Keep a step, or replace it: after a crash the last one may be taken again.
    ///
    /// # Errors
    /// The run is unknown, or the database cannot be written.
    pub fn add_step(&self, step: &TrainingStep) -> Result<()> {
        let groups = serde_json::to_string(&step.groups).unwrap_or_default();
        self.write(Sync::Full, |transaction| {
            transaction
                .execute(
                    "INSERT OR REPLACE INTO training_steps
                       (run, step, groups, stats, candidate, verdict, created_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![
                        step.run,
                        i64::try_from(step.step).unwrap_or(i64::MAX),
                        groups,
                        step.stats.to_string(),
                        step.candidate,
                        step.verdict,
                        step.created_ms,
                    ],
                )
                .map(drop)
                .map_err(|e| match e.sqlite_error_code() {
                    Some(rusqlite::ErrorCode::ConstraintViolation) => StoreError::NoRun(step.run.clone()),
                    _ => self.sql(e),
                })
        })
    }

    /// The gate's word on a step's candidate.
    ///
    /// # Errors
    /// `NoRun` for an unknown step, or the database cannot be written.
    pub fn set_verdict(&self, run: &str, step: usize, verdict: &str) -> Result<()> {
        self.write(Sync::Full, |transaction| {
            let changed = transaction
                .execute(
                    "UPDATE training_steps SET verdict = ?3 WHERE run = ?1 AND step = ?2",
                    params![run, i64::try_from(step).unwrap_or(i64::MAX), verdict],
                )
                .map_err(|e| self.sql(e))?;
            if changed == 1 { Ok(()) } else { Err(StoreError::NoRun(run.to_string())) }
        })
    }

    /// What was seen when a step's policy was looked at, under a name of its own beside the step's figures.
    ///
    /// # Errors
    /// `NoRun` for an unknown step, or the database cannot be written.
    pub fn add_look(&self, run: &str, step: usize, look: &Value) -> Result<()> {
        self.write(Sync::Full, |transaction| {
            let changed = transaction
                .execute(
                    "UPDATE training_steps SET stats = json_set(stats, '$.look', json(?3))
                     WHERE run = ?1 AND step = ?2",
                    params![run, i64::try_from(step).unwrap_or(i64::MAX), look.to_string()],
                )
                .map_err(|e| self.sql(e))?;
            if changed == 1 { Ok(()) } else { Err(StoreError::NoRun(run.to_string())) }
        })
    }

    /// When a step that made an adapter last learned from this group (Unix time in milliseconds), if one did.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn group_trained(&self, group: &str) -> Result<Option<i64>> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(
                    "SELECT max(s.created_ms) FROM training_steps s, json_each(s.groups) g
                     WHERE s.candidate IS NOT NULL AND g.value = ?1",
                )
                .map_err(|e| self.sql(e))?;
            statement.query_row([group], |row| row.get(0)).map_err(|e| self.sql(e))
        })
    }

    /// A figure that differs once any process has written of training: cheap enough to be asked every other
    /// second.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn training_mark(&self) -> Result<String> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(
                    "SELECT (SELECT count(*) || ' ' || count(CASE status WHEN 'running' THEN 1 END)
                               FROM training_runs) || ' ' ||
                            (SELECT count(*) || ' ' || count(verdict) || ' ' || coalesce(max(created_ms), 0)
                               FROM training_steps)",
                )
                .map_err(|e| self.sql(e))?;
            statement.query_row([], |row| row.get(0)).map_err(|e| self.sql(e))
        })
    }

    /// The step that made an adapter, the newest where several made the same one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn step_of(&self, adapter: &str) -> Result<Option<(String, usize)>> {
        self.read(|view| {
            view.query_row(
                "SELECT run, step FROM training_steps WHERE candidate = ?1 ORDER BY created_ms DESC LIMIT 1",
                [adapter],
                |row| Ok((row.get(0)?, usize::try_from(row.get::<_, i64>(1)?).unwrap_or(0))),
            )
            .optional()
            .map_err(|e| self.sql(e))
        })
    }

    /// One run by its whole id.
    ///
    /// # Errors
    /// `NoRun`.
    pub fn run(&self, id: &str) -> Result<TrainingRun> {
        self.read(|view| {
            let found = view.query_row(&format!("{RUN} WHERE id = ?1"), [id], read_run).optional();
            found.map_err(|e| self.sql(e))?.ok_or_else(|| StoreError::NoRun(id.to_string()))
        })
    }

    /// Runs, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn runs(&self) -> Result<Vec<TrainingRun>> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(&format!("{RUN} ORDER BY created_ms DESC, id DESC"))
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map([], read_run);
            rows.and_then(Iterator::collect).map_err(|e| self.sql(e))
        })
    }

    /// Steps of a run in their order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn steps(&self, run: &str) -> Result<Vec<TrainingStep>> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(
                    "SELECT run, step, groups, stats, candidate, verdict, created_ms FROM training_steps
                     WHERE run = ?1 ORDER BY step",
                )
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map([run], |row| {
                Ok(TrainingStep {
                    run: row.get(0)?,
                    step: usize::try_from(row.get::<_, i64>(1)?).unwrap_or(0),
                    groups: json(row, 2)?,
                    stats: json(row, 3)?,
                    candidate: row.get(4)?,
                    verdict: row.get(5)?,
                    created_ms: row.get(6)?,
                })
            });
            rows.and_then(Iterator::collect).map_err(|e| self.sql(e))
        })
    }
}

fn unreadable(index: usize) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(index, "training".to_string(), rusqlite::types::Type::Text)
}

fn json<T: serde::de::DeserializeOwned>(row: &SqlRow, index: usize) -> rusqlite::Result<T> {
    serde_json::from_str(&row.get::<_, String>(index)?).map_err(|_| unreadable(index))
}

fn read_run(row: &SqlRow) -> rusqlite::Result<TrainingRun> {
    Ok(TrainingRun {
        id: row.get(0)?,
        created_ms: row.get(1)?,
        model_hash: row.get(2)?,
        parent: row.get(3)?,
        seed: row.get::<_, i64>(4)?.cast_unsigned(),
        settings: json(row, 5)?,
        status: RunStatus::from_name(&row.get::<_, String>(6)?).unwrap_or(RunStatus::Interrupted),
        note: row.get(7)?,
    })
}
