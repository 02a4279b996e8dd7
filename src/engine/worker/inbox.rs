//! What the deck asks, read by a thread of its own so that a cancel reaches a decode under way.

use std::collections::HashSet;
use std::io::{BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use crate::engine::ffi::os;
use crate::engine::wire::{self, ToWorker};

/// Cancels, and the switch that stops llama.cpp in the middle of a batch.
#[derive(Default)]
pub struct Cancels {
    state: Mutex<State>,
    /// Read by llama.cpp between graph nodes.
    pub abort: Arc<AtomicBool>,
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
            self.abort.store(true, Ordering::Relaxed);
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
        self.abort.store(false, Ordering::Relaxed);
        !state.decoding.iter().any(|id| state.cancelled.contains(id))
    }

    pub fn end_decode(&self) {
        self.lock().decoding.clear();
        self.abort.store(false, Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
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
