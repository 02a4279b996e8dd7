//! How a sequence comes into a lane and leaves it: its slot, what it need not compute again, and what becomes of
//! the prefixes that lie idle. It decodes nothing.
//!
//! Every decoded token attends over all cells in use, the idle ones masked, so idle prefixes cost speed: they move
//! to the stash when someone runs and come back chunk by chunk. The bytes are the same, so are the logits.

use std::path::PathBuf;

use crate::engine::ffi::Model;
use crate::engine::wire::{FromWorker, Outcome};
use crate::error::EngineError;

use super::cache::common_prefix;
use super::lane::{Lane, Work};
use super::load;
use super::outbox::Outbox;
use super::sequence::Sequence;
use super::stash::{CHUNK, keys};

/// A prompt waits for another one's prefill when that saves more tokens than this.
const WORTH_WAITING: usize = 32;

/// Idle prefixes that cannot be stashed may hold this many cells of any model.
const IDLE_CELLS_LEAST: u64 = 512;

/// Cells of idle prefixes that may stay while others decode. With P parameters, L layers of width C, a cell costs
/// 4 L C operations beside 2 P for the weights; on the CPU they take about four times as long as those of the
/// weights (measured). A fiftieth of the time is allowed, a tenth of the operations where a prefix would be lost
/// or attention is a device's.
pub fn idle_cells(model: &Model, flash: bool, stashes: bool) -> usize {
    let per_cell = (model.layers().max(1) * model.width()) as u64;
    let cells = match (stashes, flash) {
        (true, false) => model.parameters() / (400 * per_cell),
        (true, true) => model.parameters() / (20 * per_cell),
        (false, _) => (model.parameters() / (20 * per_cell)).max(IDLE_CELLS_LEAST),
    };
    usize::try_from(cells).unwrap_or(usize::MAX)
}

impl Lane {
    /// Take a sequence out of the batch; its KV stays for whoever shares its prefix.
    pub fn leave(&mut self, index: usize) -> Sequence {
        let sequence = self.active.remove(index);
        if sequence.scores() {
            self.empty_slot(sequence.slot);
        }
        self.cache.release(sequence.slot);
        self.full = false;
        self.left = true;
        sequence
    }

    pub fn empty_slot(&mut self, slot: usize) {
        self.context.truncate(slot as i32, 0);
        self.cache.slots[slot].tokens.clear();
    }

    /// After someone left while others go on: what only idle prefixes hold, beyond the allowance, goes.
    pub fn relieve(&mut self) {
        if self.recurrent || self.active.is_empty() || !std::mem::take(&mut self.left) {
            return;
        }
        self.stash.next_round();
        while let Some(slot) = self.cache.beyond(self.idle_most) {
            self.put_aside(slot);
        }
    }

    /// Empty an idle slot; what it held stays in the stash.
    pub fn put_aside(&mut self, slot: usize) {
        self.copy_aside(slot);
        self.empty_slot(slot);
    }

    fn copy_aside(&mut self, slot: usize) {
        if self.stash.most() == 0 {
            return;
        }
        let held = &self.cache.slots[slot];
        for (index, key) in keys(&held.tokens, held.adapter).into_iter().enumerate() {
            if self.stash.touch(&key) {
                continue;
            }
            let start = index * CHUNK;
            if let Some(state) = self.context.save(slot as i32, start, start + CHUNK, self.spare()) {
                self.stash.put(key, state);
            }
        }
    }

    /// The sequence id that is no slot's.
    fn spare(&self) -> i32 {
        self.cache.slots.len() as i32
    }

    /// Before the first sequence of a lane at rest starts: leave in the KV what `tokens` begins with and nothing
    /// else, at its front, unless the rest is too little to matter.
    fn clear_out(&mut self, tokens: &[i32]) {
        let (from, reuse) = self.cache.longest(tokens, self.swaps);
        let held: usize = self.cache.slots.iter().map(|slot| slot.tokens.len()).sum();
        if self.stash.most() == 0 || held - reuse <= self.idle_most {
            return;
        }
        self.stash.next_round();
        for key in keys(tokens, self.swaps) {
            self.stash.touch(&key);
        }
        let others = held - self.cache.slots[from].tokens.len();
        for slot in 0..self.cache.slots.len() {
            self.copy_aside(slot);
        }
        if others <= self.idle_most {
            self.context.truncate(from as i32, reuse);
            self.cache.slots[from].tokens.truncate(reuse);
            return;
        }
        // Cells in front that come free do not help as long as one behind them is in use: start over.
        let spare = self.spare();
        let own = if reuse > 0 { self.context.save(from as i32, 0, reuse, spare) } else { None };
        self.context.clear();
        self.cache.forget_all();
        if own.is_some_and(|state| self.context.restore(&state, from as i32, 0, reuse, spare)) {
            self.cache.slots[from].tokens = tokens[..reuse].to_vec();
        }
    }

    /// Add to slot `to`, which holds the first `have` of `tokens`, what the stash has of the next ones. Answers
    /// how many it holds then; the last token is always left to decode.
    fn fetch(&mut self, to: usize, mut have: usize, tokens: &[i32]) -> usize {
        let spare = self.spare();
        for (index, key) in keys(tokens, self.swaps).iter().enumerate().skip(have / CHUNK) {
            let until = ((index + 1) * CHUNK).min(tokens.len() - 1);
            let Some(state) = self.stash.get(key).filter(|_| until > have) else { break };
            if !self.context.restore(state, to as i32, have, until, spare) {
                break;
            }
            have = until;
        }
        have
    }

    pub fn admit(&mut self, out: &Outbox) {
        let mut index = 0;
        while !self.full && self.active.len() < self.sequences && index < self.waiting.len() {
            match &self.waiting[index] {
                Work::Swap { .. } if index == 0 && self.active.is_empty() => {
                    if let Some(Work::Swap { id, path }) = self.waiting.pop_front() {
                        let outcome = self.swap(path).map(|()| Outcome::Adapter(self.adapter.clone()));
                        out.put(&FromWorker::Done { id, outcome });
                    }
                }
                Work::Swap { .. } => return,
                Work::Sequence(sequence) if self.better_later(sequence) => index += 1,
                Work::Sequence(_) => {
                    if let Some(Work::Sequence(sequence)) = self.waiting.remove(index) {
                        self.start(*sequence);
                    }
                }
            }
        }
    }

    /// Whether a running prefill will soon hold much more of this prompt than any slot does now.
    fn better_later(&self, sequence: &Sequence) -> bool {
        if self.recurrent || sequence.scores() {
            return false;
        }
        let now = self.cache.longest(&sequence.tokens, self.swaps).1;
        let soon = self
            .active
            .iter()
            .filter(|other| !other.scores() && other.past + 1 < other.tokens.len())
            .map(|other| common_prefix(&other.tokens, &sequence.tokens))
            .max();
        soon.is_some_and(|soon| soon.min(sequence.tokens.len() - 1) > now + WORTH_WAITING)
    }

    fn start(&mut self, mut sequence: Sequence) {
        if self.active.is_empty() && !sequence.scores() {
            self.clear_out(&sequence.tokens);
        }
        let (from, reuse) =
            if sequence.scores() { (0, 0) } else { self.cache.longest(&sequence.tokens, self.swaps) };
        let Some(place) = self.cache.place(from, reuse) else {
            // More slots than sequences exist, so this cannot be; waiting is harmless.
            self.waiting.push_front(Work::Sequence(Box::new(sequence)));
            return;
        };
        let mut reuse = place.reuse;
        if place.to == place.from {
            if !self.context.truncate(place.to as i32, reuse) {
                reuse = 0;
                self.context.truncate(place.to as i32, 0);
            }
        } else {
            self.empty_slot(place.to);
            if reuse > 0 {
                self.context.share(place.from as i32, place.to as i32, reuse);
            }
        }
        if !sequence.scores() && !self.recurrent {
            reuse = self.fetch(place.to, reuse, &sequence.tokens);
        }
        self.cache.slots[place.to].tokens = sequence.tokens[..reuse].to_vec();
        self.cache.slots[place.to].busy = true;
        self.cache.slots[place.to].adapter = self.swaps;
        sequence.admit(place.to, reuse);
        self.active.push(sequence);
    }

    /// # Errors
    /// [`EngineError::Adapter`]; the old adapter stays in force.
    pub fn swap(&mut self, path: Option<PathBuf>) -> Result<(), EngineError> {
        let loaded = path.map(|path| load::adapter(self.context.model(), &path)).transpose()?;
        let (adapter, hash, path) = match loaded {
            Some((adapter, hash, path)) => (Some(adapter), Some(hash), path),
            None => (None, None, PathBuf::new()),
        };
        self.context.set_adapter(adapter).map_err(|reason| EngineError::Adapter { path, reason })?;
        self.cache.forget_all();
        self.stash.clear();
        self.swaps += 1;
        self.adapter = hash;
        Ok(())
    }
}
