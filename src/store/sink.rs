//! The sink that keeps events: what `record` returned from is on disk.

use std::sync::Arc;

use rusqlite::{Transaction, params};

use crate::flow::event::{Body, Event, ModelCall, Progress, Sink};
use crate::store::record::{CallRow, Record};
use crate::store::redact::redact;
use crate::store::sessions::title;
use crate::store::{Result, Store, StoreError, Sync, blobs, canonical, checksum, question_id};

/// Records into the store and then, if there is one, into the next sink: recorded before shown.
pub struct StoreSink {
    store: Arc<Store>,
    next: Option<Arc<dyn Sink>>,
}

impl StoreSink {
    pub fn new(store: Arc<Store>) -> StoreSink {
        StoreSink { store, next: None }
    }

    /// Hand every event on once it is kept.
    pub fn then(self, next: Arc<dyn Sink>) -> StoreSink {
        StoreSink { next: Some(next), ..self }
    }
}

impl Sink for StoreSink {
    fn record(&self, event: Event) -> Result<(), String> {
        self.store.record(&event).map_err(|e| e.to_string())?;
        match &self.next {
            Some(next) => next.record(event),
            None => Ok(()),
        }
    }

    fn progress(&self, progress: Progress) {
        if let Some(next) = &self.next {
            next.progress(progress);
        }
    }

    fn waits(&self, trajectory: &str, waits: bool) {
        if let Some(next) = &self.next {
            next.waits(trajectory, waits);
        }
    }
}

impl Store {
    /// Keep one event. A trajectory's first is `Started`.
    ///
    /// # Errors
    /// Disk full (the current turn's events are still kept from the reserve, a new turn is refused), an
    /// event out of place, or the database's own failures.
    pub fn record(&self, event: &Event) -> Result<()> {
        let record = Record::of(event)?;
        self.put_blobs(&record)?;
        let action = |transaction: &Transaction| self.insert(transaction, event, &record);
        match &event.body {
            Body::Started { .. } | Body::TurnStarted { .. } => self.begin(Sync::Normal, action),
            // A turn's end must outlive a power cut, and with it everything the turn wrote before.
            Body::Memory { .. } | Body::PlanRefused { .. } => self.write(Sync::Full, action),
            body if body.is_last() => self.write(Sync::Full, action),
            _ => self.write(Sync::Normal, action),
        }
    }

    /// Before the write lock is taken, so that nobody waits for a long text's way to the disk.
    fn put_blobs(&self, record: &Record) -> Result<()> {
        for (_, text) in &record.blobs {
            match blobs::put(&self.home, text) {
                // The write that follows releases the ballast and tries again.
                Err(e) if e.is_disk_full() => {}
                put => drop(put?),
            }
        }
        Ok(())
    }

    /// Keep a whole trajectory from elsewhere, all of it or nothing; false when it is here already.
    ///
    /// # Errors
    /// The events are not in order or do not begin with `Started`, or the database's own failures.
    pub fn import(&self, events: &[Event]) -> Result<bool> {
        let Some(first) = events.first() else { return Ok(false) };
        let records: Vec<Record> = events.iter().map(Record::of).collect::<Result<_>>()?;
        records.iter().try_for_each(|record| self.put_blobs(record))?;
        self.begin(Sync::Full, |transaction| {
            let known = transaction
                .query_row(
                    "SELECT EXISTS (SELECT 1 FROM trajectories WHERE id = ?1)",
                    [&first.trajectory],
                    |row| row.get(0),
                )
                .map_err(|e| self.sql(e))?;
            if known {
                return Ok(false);
            }
            for (event, record) in events.iter().zip(&records) {
                self.insert(transaction, event, record)?;
            }
            Ok(true)
        })
    }

    fn insert(&self, transaction: &Transaction, event: &Event, record: &Record) -> Result<()> {
        let sql = |e| self.sql(e);
        let id = event.trajectory.as_str();
        if let Body::Started { .. } = event.body {
            self.insert_started(transaction, event)?;
        }
        if !self.update(transaction, event, record)? {
            return Err(StoreError::Invalid(format!(
                "trajectory {id} has no started event yet (event {} came first)",
                event.seq
            )));
        }
        let seq = i64::try_from(event.seq).unwrap_or(i64::MAX);
        transaction
            .prepare_cached(
                "INSERT INTO events (trajectory, seq, t_ms, kind, body, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )
            .and_then(|mut s| {
                let sum = checksum::event(id, seq, event.t_ms, record);
                s.execute(params![id, seq, event.t_ms, record.kind, record.body, sum])
            })
            .map_err(|e| match e.sqlite_error_code() {
                Some(rusqlite::ErrorCode::ConstraintViolation) => {
                    StoreError::Invalid(format!("event {seq} of trajectory {id} is already recorded"))
                }
                _ => sql(e),
            })?;
        if let (Some(row), Body::ModelCall(call)) = (&record.call, &event.body) {
            insert_call(transaction, id, seq, call, row).map_err(sql)?;
        }
        for (pointer, text) in &record.blobs {
            // Written before, outside the lock; again only if a delete took it away meanwhile.
            let hash = blobs::put(&self.home, text)?;
            transaction
                .execute(
                    "INSERT INTO event_blobs (trajectory, seq, pointer, hash) VALUES (?1, ?2, ?3, ?4)",
                    params![id, seq, pointer, hash],
                )
                .map_err(sql)?;
        }
        Ok(())
    }

    fn insert_started(&self, transaction: &Transaction, event: &Event) -> Result<()> {
        let Body::Started { query, session, conversation, model, adapter, seed, started_ms, .. } =
            &event.body
        else {
            return Ok(());
        };
        let question = question_id(query, conversation);
        let query = redact(query).map_or_else(|| query.clone(), |(kept, _)| kept);
        // A query outside any session is a session of its own.
        let session = if session.is_empty() { &event.trajectory } else { session };
        transaction
            .execute(
                "INSERT OR IGNORE INTO sessions (id, title, created_ms) VALUES (?1, ?2, ?3)",
                params![session, title(&query), started_ms],
            )
            .map_err(|e| self.sql(e))?;
        transaction
            .execute(
                "INSERT INTO trajectories
                   (id, session, question_id, query, started_ms, model_hash, adapter, seed, owner)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    event.trajectory,
                    session,
                    question,
                    query,
                    started_ms,
                    model.hash,
                    adapter,
                    seed.cast_signed(),
                    self.running.name
                ],
            )
            .map_err(|e| match e.sqlite_error_code() {
                Some(rusqlite::ErrorCode::ConstraintViolation) => {
                    StoreError::Invalid(format!("trajectory {} is already recorded", event.trajectory))
                }
                _ => self.sql(e),
            })?;
        Ok(())
    }

    /// Carry what lists show along; false when the trajectory is unknown.
    fn update(&self, transaction: &Transaction, event: &Event, record: &Record) -> Result<bool> {
        let (mut turn, mut tokens, mut status, mut answer, mut tier) = (0, 0, None, None, None);
        match &event.body {
            Body::TurnStarted { turn: begun } => turn = *begun,
            Body::ModelCall(call) => tokens = call.completion.sampled(),
            Body::Started { sandbox, .. } => tier = sandbox.as_deref(),
            Body::ToolResult { result, .. } => tier = result.tier.as_deref(),
            Body::Answered { answer: text, .. } => {
                status = Some("answered");
                answer = Some(redact(text).map_or_else(|| text.clone(), |(kept, _)| kept));
            }
            Body::Failed { .. } => status = Some("failed"),
            Body::Cancelled { .. } => status = Some("cancelled"),
            _ => {}
        }
        let form = answer.as_deref().map(canonical);
        let changed = transaction
            .prepare_cached(
                "UPDATE trajectories SET turns = max(turns, ?2), tokens = tokens + ?3,
                   seconds = max(seconds, ?4), status = coalesce(?5, status),
                   answer = coalesce(?6, answer), canonical_answer = coalesce(?7, canonical_answer),
                   tier = coalesce(?8, tier), redacted = redacted + ?9 WHERE id = ?1",
            )
            .and_then(|mut s| {
                s.execute(params![
                    event.trajectory,
                    i64::try_from(turn).unwrap_or(i64::MAX),
                    i64::try_from(tokens).unwrap_or(i64::MAX),
                    event.t_ms / 1e3,
                    status,
                    answer,
                    form,
                    tier,
                    i64::try_from(record.redacted).unwrap_or(i64::MAX),
                ])
            })
            .map_err(|e| self.sql(e))?;
        Ok(changed == 1)
    }
}

fn insert_call(
    transaction: &Transaction,
    id: &str,
    seq: i64,
    call: &ModelCall,
    row: &CallRow,
) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "INSERT INTO model_calls (trajectory, seq, role, turn, prompt_ids, completion_ids, logprobs,
               forced, sampler, seed, template_hash, adapter, queue_ms, prefill_ms, decode_ms, text)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?
        .execute(params![
            id,
            seq,
            call.role.name(),
            i64::try_from(call.turn).unwrap_or(i64::MAX),
            row.prompt_ids,
            row.completion_ids,
            row.logprobs,
            row.forced,
            row.sampler,
            call.request.sampler.seed.cast_signed(),
            row.template_hash,
            row.adapter,
            row.timings.queue_ms,
            row.timings.prefill_ms,
            row.timings.decode_ms,
            row.text,
        ])
}
