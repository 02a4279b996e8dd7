//! Frames on their way to the deck: collected while a step runs, written in one call at its end. Pieces of fast
//! models wait a few milliseconds for each other: waking the reader costs the decode more than the write does.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::engine::ffi::os;
use crate::engine::wire::{self, FromWorker};
use crate::error::EngineError;

/// How long a piece may wait. A screen shows no more than 60 frames in a second.
const GATHER: Duration = Duration::from_millis(8);

#[derive(Clone)]
pub struct Outbox {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    stream: File,
    pending: Vec<u8>,
    /// Something pending is more than a further piece.
    urgent: bool,
    written: Instant,
}

impl Outbox {
    pub fn new(stream: File) -> Outbox {
        let inner =
            Inner { stream, pending: Vec::with_capacity(64 * 1024), urgent: false, written: Instant::now() };
        Outbox { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Add a frame to what the next flush writes.
    pub fn put(&self, message: &FromWorker) {
        let mut inner = self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        inner.urgent |= !matches!(message, FromWorker::Piece { .. });
        if let Err(error) = wire::encode(message, &mut inner.pending) {
            // Only a finished request can be that long: its caller gets the reason instead.
            if let FromWorker::Done { id, .. } = message {
                let outcome = Err(EngineError::Protocol(error.to_string()));
                let _ = wire::encode(&FromWorker::Done { id: *id, outcome }, &mut inner.pending);
            }
        }
    }

    /// What is put until the next flush may not wait: a first token, say.
    pub fn hurry(&self) {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).urgent = true;
    }

    /// Write what is pending, unless it is pieces only and the last write was a moment ago. More steps follow
    /// as long as there are pieces, and what ends a request is urgent, so nothing stays behind.
    pub fn end_step(&self) {
        let due = {
            let inner = self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            inner.urgent || inner.written.elapsed() >= GATHER
        };
        if due {
            self.flush();
        }
    }

    pub fn flush(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Inner { stream, pending, urgent, written } = &mut *inner;
        if pending.is_empty() {
            return;
        }
        if stream.write_all(pending).is_err() {
            // Nobody reads any more: the deck is gone.
            os::exit_now(0);
        }
        pending.clear();
        *urgent = false;
        *written = Instant::now();
    }

    pub fn send(&self, message: &FromWorker) {
        self.put(message);
        self.flush();
    }

    /// Say that time passes, if nothing else was said for `quiet`.
    pub fn alive(&self, quiet: Duration) {
        let since = self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).written.elapsed();
        if since >= quiet {
            self.send(&FromWorker::Alive);
        }
    }
}
