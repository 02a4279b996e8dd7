//! Reading events back: rows and blobs joined into the event that was recorded.

use std::collections::HashMap;

use rusqlite::Transaction;

use crate::engine::Timings;
use crate::flow::event::Event;
use crate::flow::trajectory::Trajectory;
use crate::store::record::{CallRow, Record};
use crate::store::{Result, Store, StoreError, blobs, checksum};

impl Store {
    /// Every event of a trajectory, in order, equal to what was recorded (but for redacted secrets).
    ///
    /// # Errors
    /// `NotFound`, or a blob or row that cannot be read.
    pub fn trajectory_events(&self, id: &str) -> Result<Vec<Event>> {
        self.read(|view| {
            let mut long = self.long_texts(view, id)?;
            let mut statement = view
                .prepare_cached(
                    "SELECT e.seq, e.t_ms, e.kind, e.body, c.prompt_ids, c.completion_ids, c.logprobs,
                       c.forced, c.sampler, c.template_hash, c.adapter, c.queue_ms, c.prefill_ms,
                       c.decode_ms, c.text, e.sum
                     FROM events e LEFT JOIN model_calls c USING (trajectory, seq)
                     WHERE e.trajectory = ?1 ORDER BY e.seq",
                )
                .map_err(|e| self.sql(e))?;
            let rows = statement
                .query_map([id], |row| {
                    let record = Record {
                        kind: row.get(2)?,
                        body: row.get(3)?,
                        call: call_row(row)?,
                        blobs: Vec::new(),
                        redacted: 0,
                    };
                    Ok((
                        row.get::<_, i64>(0)?,
                        row.get::<_, f64>(1)?,
                        record,
                        row.get::<_, Option<[u8; 16]>>(15)?,
                    ))
                })
                .map_err(|e| self.sql(e))?;
            let mut events = Vec::new();
            for row in rows {
                let (seq, t_ms, mut record, sum) = row.map_err(|e| self.sql(e))?;
                record.blobs = long.remove(&seq).unwrap_or_default();
                // Rows of earlier versions have none.
                if sum.is_some_and(|sum| sum != checksum::event(id, seq, t_ms, &record)) {
                    return Err(self.changed(format!("event {seq} of trajectory {id}")));
                }
                events.push(record.into_event(id, seq.cast_unsigned(), t_ms)?);
            }
            if events.is_empty() { Err(StoreError::NotFound(id.to_string())) } else { Ok(events) }
        })
    }

    /// The fold of a trajectory's events.
    ///
    /// # Errors
    /// As [`Store::trajectory_events`].
    pub fn trajectory(&self, id: &str) -> Result<Trajectory> {
        Ok(Trajectory::from_events(&self.trajectory_events(id)?))
    }

    /// A row whose checksum does not fit.
    pub(super) fn changed(&self, record: String) -> StoreError {
        StoreError::Changed { path: self.home.database(), record }
    }

    /// seq -> (pointer, text) of what lies in blobs.
    fn long_texts(&self, view: &Transaction, id: &str) -> Result<HashMap<i64, Vec<(String, String)>>> {
        let mut statement = view
            .prepare_cached("SELECT seq, pointer, hash FROM event_blobs WHERE trajectory = ?1")
            .map_err(|e| self.sql(e))?;
        let rows = statement
            .query_map([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .map_err(|e| self.sql(e))?;
        let mut found: HashMap<i64, Vec<(String, String)>> = HashMap::new();
        for row in rows {
            let (seq, pointer, hash): (i64, String, String) = row.map_err(|e| self.sql(e))?;
            let text = blobs::get(&self.home, &hash).map_err(|reason| StoreError::Blob {
                hash,
                trajectory: id.to_string(),
                reason,
            })?;
            found.entry(seq).or_default().push((pointer, text));
        }
        Ok(found)
    }
}

/// None for events that are no model call.
fn call_row(row: &rusqlite::Row) -> rusqlite::Result<Option<CallRow>> {
    let Some(prompt_ids) = row.get(4)? else { return Ok(None) };
    Ok(Some(CallRow {
        prompt_ids,
        completion_ids: row.get(5)?,
        logprobs: row.get(6)?,
        forced: row.get(7)?,
        sampler: row.get(8)?,
        template_hash: row.get(9)?,
        adapter: row.get(10)?,
        timings: Timings { queue_ms: row.get(11)?, prefill_ms: row.get(12)?, decode_ms: row.get(13)? },
        text: row.get(14)?,
    }))
}
