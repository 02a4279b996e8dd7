//! What the deck asks, read by a thread of its own so that a cancel reaches a decode under way.

use std::collections::HashSet;
use std::io::{BufReader, Read};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::engine::ffi::{Watch, os};
use crate::engine::wire::{self, ToWorker};

use super::outbox::Outbox;

/// How often a busy worker is heard of at least.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// Cancels, and the switch that stops llama.cpp in the middle of a batch.
#[derive(Default)]
pub struct Cancels {
    state: Mutex<State>,
    pub watch: Arc<Watch>,
}

#[derive(Default)]
struct State {
    cancelled: HashSet<u64>,
    /// Requests with tokens in the batch that is being decoded.
    decoding: Vec<u64>,
}

impl Cancels {
    fn cancel(&self, id: u64) {
        let mut state = self.lock();
        if state.decoding.contains(&id) {
            self.watch.abort.store(true, Ordering::Relaxed);
        }
        state.cancelled.insert(id);
    }

    /// The requests cancelled since the last call.
    pub fn take(&self) -> HashSet<u64> {
        std::mem::take(&mut self.lock().cancelled)
    }

    /// Name the requests of the batch about to be decoded. False when one of them was cancelled meanwhile.
    pub fn begin_decode(&self, ids: impl Iterator<Item = u64>) -> bool {
        let mut state = self.lock();
        state.decoding.clear();
        state.decoding.extend(ids);
        self.watch.abort.store(false, Ordering::Relaxed);
        !state.decoding.iter().any(|id| state.cancelled.contains(id))
    }

    pub fn end_decode(&self) {
        self.lock().decoding.clear();
        self.watch.abort.store(false, Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Say "alive" while a decode longer than a step makes progress: a big prompt on a slow machine is no hang.
pub fn spawn_heartbeat(watch: Arc<Watch>, out: Outbox) {
    std::thread::spawn(move || {
        let mut seen = 0;
        loop {
            std::thread::sleep(HEARTBEAT);
            let looks = watch.looks.load(Ordering::Relaxed);
            if looks != seen {
                seen = looks;
                out.alive(HEARTBEAT);
            }
        }
    });
}

/// Read frames from `stream` until it ends, and the process with it. A Load that never comes ends it as well.
pub fn spawn_reader(stream: impl Read + Send + 'static, cancels: Arc<Cancels>) -> mpsc::Receiver<ToWorker> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut buffer = Vec::new();
        loop {
            match wire::read::<ToWorker>(&mut stream, &mut buffer) {
                Ok(Some(ToWorker::Cancel { id })) => cancels.cancel(id),
                Ok(Some(message)) => {
                    if sender.send(message).is_err() {
                        os::exit_now(0);
                    }
                }
                // The deck closed the pipe or went away: nothing here is worth finishing.
                Ok(None) => os::exit_now(0),
                Err(error) => {
                    eprintln!("engine worker: unreadable frame: {error}");
                    os::exit_now(2);
                }
            }
        }
    });
    receiver
}
