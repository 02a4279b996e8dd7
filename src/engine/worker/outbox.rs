//! Frames on their way to the deck: collected while a step runs, written in one call at its end.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::engine::ffi::os;
use crate::engine::wire::{self, FromWorker};
use crate::error::EngineError;

#[derive(Clone)]
pub struct Outbox {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    stream: File,
    pending: Vec<u8>,
    written: Instant,
}

impl Outbox {
    pub fn new(stream: File) -> Outbox {
        let inner = Inner { stream, pending: Vec::with_capacity(64 * 1024), written: Instant::now() };
        Outbox { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Add a frame to what the next flush writes.
    pub fn put(&self, message: &FromWorker) {
        let mut inner = self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Err(error) = wire::encode(message, &mut inner.pending) {
            // Only a finished request can be that long: its caller gets the reason instead.
            if let FromWorker::Done { id, .. } = message {
                let outcome = Err(EngineError::Protocol(error.to_string()));
                let _ = wire::encode(&FromWorker::Done { id: *id, outcome }, &mut inner.pending);
            }
        }
    }

    pub fn flush(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Inner { stream, pending, written } = &mut *inner;
        if pending.is_empty() {
            return;
        }
        if stream.write_all(pending).is_err() {
            // Nobody reads any more: the deck is gone.
            os::exit_now(0);
        }
        pending.clear();
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
