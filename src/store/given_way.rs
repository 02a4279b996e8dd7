//! What was found of damaged adapters: kept, so that a record made meanwhile can be read for what it is after the
//! file has been put back.

use rusqlite::{Row as SqlRow, params};
use serde::{Deserialize, Serialize};

use crate::store::{Result, Serving, Store, Sync, now_ms};

/// A current adapter that was damaged, and what served in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenWay {
    pub adapter: String,
    /// Id of the ancestor that served; None: the bare model.
    pub instead: Option<String>,
    /// As last seen.
    pub reason: String,
    /// Unix time in milliseconds.
    pub first_ms: i64,
    pub last_ms: i64,
    /// Programs that began so.
    pub starts: usize,
}

impl Store {
    /// Keep that a program begins with something else than the current adapter. Nothing where it does not.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn note_given_way(&self, serving: &Serving) -> Result<()> {
        let Some((adapter, reason)) = serving.damaged.first() else { return Ok(()) };
        let instead = serving.adapter.as_ref().map_or("", |(adapter, _)| adapter.id.as_str());
        self.write(Sync::Full, |transaction| {
            transaction
                .execute(
                    "INSERT INTO adapter_damage (adapter, instead, reason, first_ms, last_ms, starts)
                     VALUES (?1, ?2, ?3, ?4, ?4, 1)
                     ON CONFLICT (adapter, instead) DO UPDATE SET reason = ?3, last_ms = ?4, starts = starts + 1",
                    params![adapter, instead, reason, now_ms()],
                )
                .map(drop)
                .map_err(|e| self.sql(e))
        })
    }

    /// Every time that an adapter gave way, latest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn given_way(&self) -> Result<Vec<GivenWay>> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(
                    "SELECT adapter, instead, reason, first_ms, last_ms, starts FROM adapter_damage
                     ORDER BY last_ms DESC, adapter",
                )
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map([], read_row);
            rows.and_then(Iterator::collect).map_err(|e| self.sql(e))
        })
    }
}

fn read_row(row: &SqlRow) -> rusqlite::Result<GivenWay> {
    let instead: String = row.get(1)?;
    Ok(GivenWay {
        adapter: row.get(0)?,
        instead: Some(instead).filter(|id| !id.is_empty()),
        reason: row.get(2)?,
        first_ms: row.get(3)?,
        last_ms: row.get(4)?,
        starts: usize::try_from(row.get::<_, i64>(5)?).unwrap_or(0),
    })
}
