//! One context with its sequences: who waits, who runs, what the next batch holds. The planner's and the
//! frozen lane are two of these over one copy of the weights.
//!
//! Admission and decode only; what a row of logits becomes is `sample`'s business.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;

use crate::engine::StopReason;
use crate::engine::ffi::{Batch, Context, DecodeError};
use crate::engine::wire::{FromWorker, Outcome};
use crate::error::EngineError;

use super::cache::{Cache, common_prefix};
use super::inbox::Cancels;
use super::load;
use super::outbox::Outbox;
use super::sample::{Draw, Scratch, score_row};
use super::sequence::{Purpose, Sequence};

/// Most tokens in one decode; one llama.cpp micro-batch, so that an aborted decode leaves nothing behind.
pub const BATCH: usize = 512;
/// Most prompt tokens in a batch that also carries sampled ones: bounds how long a token waits.
const PREFILL_BESIDE_DECODE: usize = 256;
/// A prompt waits for another one's prefill when that saves more tokens than this.
const WORTH_WAITING: usize = 32;

/// Idle prefixes may hold this many cells of any model.
const IDLE_CELLS_LEAST: u64 = 512;

/// Cells of idle prefixes worth keeping. Every decoded token attends over them, masked: with P parameters,
/// L layers of width C, a cell costs about 4 L C against 2 P for the weights, and a tenth of that is allowed.
fn idle_cells(model: &crate::engine::ffi::Model) -> usize {
    let per_cell = 20 * (model.layers().max(1) * model.width()) as u64;
    usize::try_from((model.parameters() / per_cell).max(IDLE_CELLS_LEAST)).unwrap_or(usize::MAX)
}

/// What waits for a lane, in order of arrival.
pub enum Work {
    Sequence(Box<Sequence>),
    /// Swap the adapter once everything before it is done; nothing after it starts earlier.
    Swap {
        id: u64,
        path: Option<PathBuf>,
    },
}

pub struct Lane {
    pub context: Context,
    pub cache: Cache,
    pub waiting: VecDeque<Work>,
    pub active: Vec<Sequence>,
    /// Content hash of the adapter in force.
    pub adapter: Option<String>,
    /// Counts swaps; tags the KV.
    swaps: u64,
    batch: Batch,
    /// Per batch entry group: which active sequence, how many tokens, where its outputs begin.
    spans: Vec<Span>,
    /// Rows of logits one decode may ask for.
    outputs: usize,
    /// Most sequences at once.
    sequences: usize,
    /// Tokens one sequence may hold.
    pub limit: usize,
    /// Someone was put back for want of room: admit nobody until someone is done.
    full: bool,
    recurrent: bool,
    /// Most cells that idle prefixes hold, the newest one aside.
    idle_most: usize,
}

struct Span {
    sequence: usize,
    count: usize,
    first: usize,
}

impl Lane {
    pub fn new(context: Context, slots: usize, sequences: usize, limit: usize, outputs: usize) -> Lane {
        let recurrent = context.model().recurrent();
        let idle_most = idle_cells(context.model());
        Lane {
            idle_most,
            context,
            cache: Cache::new(slots, recurrent),
            waiting: VecDeque::new(),
            active: Vec::new(),
            adapter: None,
            swaps: 0,
            batch: Batch::new(BATCH),
            spans: Vec::new(),
            outputs,
            sequences,
            limit,
            full: false,
            recurrent,
        }
    }

    pub fn idle(&self) -> bool {
        self.active.is_empty() && self.waiting.is_empty()
    }

    /// One round: drop the cancelled, admit, decode, sample.
    pub fn step(&mut self, cancels: &Cancels, cancelled: &HashSet<u64>, scratch: &mut Scratch, out: &Outbox) {
        self.drop_cancelled(cancelled, out);
        self.admit(out);
        if self.active.is_empty() {
            return;
        }
        self.fill_batch();
        // A running state cannot be cut back to before an aborted batch: let those finish.
        let goes = cancels.begin_decode(self.active.iter().map(|sequence| sequence.id)) || self.recurrent;
        if !goes {
            cancels.end_decode();
            return;
        }
        let result = self.context.decode(&mut self.batch);
        cancels.end_decode();
        match result {
            Ok(()) => {
                self.note_decoded();
                self.sample(scratch, out);
            }
            Err(DecodeError::Aborted) => {}
            Err(DecodeError::NoRoom) => self.make_room(out),
            Err(DecodeError::Failed(code)) => self.fail_batch(code, out),
        }
    }

    fn drop_cancelled(&mut self, cancelled: &HashSet<u64>, out: &Outbox) {
        if cancelled.is_empty() {
            return;
        }
        let gone = |id: u64| FromWorker::Done { id, outcome: Err(EngineError::Cancelled) };
        self.waiting.retain(|work| match work {
            Work::Sequence(sequence) if cancelled.contains(&sequence.id) => {
                out.put(&gone(sequence.id));
                false
            }
            _ => true,
        });
        let mut index = 0;
        while index < self.active.len() {
            if cancelled.contains(&self.active[index].id) {
                let sequence = self.leave(index);
                out.put(&gone(sequence.id));
            } else {
                index += 1;
            }
        }
    }

    /// Take a sequence out of the batch; its KV stays for whoever shares its prefix.
    fn leave(&mut self, index: usize) -> Sequence {
        let sequence = self.active.remove(index);
        if sequence.scores() {
            self.empty_slot(sequence.slot);
        }
        self.cache.release(sequence.slot);
        while let Some(slot) = self.cache.beyond(self.idle_most) {
            self.empty_slot(slot);
        }
        self.full = false;
        sequence
    }

    fn empty_slot(&mut self, slot: usize) {
        self.context.truncate(slot as i32, 0);
        self.cache.slots[slot].tokens.clear();
    }

    fn admit(&mut self, out: &Outbox) {
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
            self.cache.slots[place.to].tokens.truncate(reuse);
        } else {
            self.empty_slot(place.to);
            if reuse > 0 {
                self.context.share(place.from as i32, place.to as i32, reuse);
                self.cache.slots[place.to].tokens = sequence.tokens[..reuse].to_vec();
            }
        }
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
        self.swaps += 1;
        self.adapter = hash;
        Ok(())
    }

    /// First every sequence with one token to go, then prompts in order of admission.
    fn fill_batch(&mut self) {
        self.batch.clear();
        self.spans.clear();
        let mut rows = self.outputs;
        for (index, sequence) in self.active.iter().enumerate().filter(|(_, sequence)| sequence.one_left()) {
            if sequence.scores() || rows == 0 || self.batch.room() == 0 {
                continue;
            }
            rows -= 1;
            let token = sequence.tokens[sequence.past];
            let first = self.batch.push(token, sequence.past, sequence.slot as i32, true);
            self.spans.push(Span { sequence: index, count: 1, first });
        }
        let room = self.batch.room();
        let mut budget = if self.batch.is_empty() { room } else { room.min(PREFILL_BESIDE_DECODE) };
        for (index, sequence) in self.active.iter().enumerate() {
            let scores = sequence.scores();
            if (sequence.one_left() && !scores) || budget == 0 || rows == 0 {
                continue;
            }
            let left = sequence.tokens.len() - sequence.past;
            let count = if scores { left.min(budget).min(rows) } else { left.min(budget) };
            let first = self.batch.len();
            for offset in 0..count {
                let position = sequence.past + offset;
                let output = scores || position + 1 == sequence.tokens.len();
                rows -= usize::from(output);
                self.batch.push(sequence.tokens[position], position, sequence.slot as i32, output);
            }
            budget -= count;
            self.spans.push(Span { sequence: index, count, first });
        }
    }

    fn note_decoded(&mut self) {
        for span in &self.spans {
            let sequence = &mut self.active[span.sequence];
            let decoded = &sequence.tokens[sequence.past..sequence.past + span.count];
            self.cache.slots[sequence.slot].tokens.extend_from_slice(decoded);
            sequence.past += span.count;
        }
    }

    /// Turn each row of logits into a token or a score, and let the finished go.
    fn sample(&mut self, scratch: &mut Scratch, out: &Outbox) {
        let model = self.context.model().clone();
        let mut piece = [0u8; 0].to_vec();
        let mut done: Vec<(usize, Result<Option<StopReason>, EngineError>)> = Vec::new();
        for span in &self.spans {
            let sequence = &mut self.active[span.sequence];
            if sequence.past < sequence.tokens.len() && !sequence.scores() {
                continue;
            }
            let Purpose::Complete { stream, limit, ignore_end } = &mut sequence.purpose else {
                score_span(sequence, span, &mut self.context);
                if sequence.past == sequence.tokens.len() {
                    done.push((span.sequence, Ok(None)));
                }
                continue;
            };
            let (limit, ignore_end) = (*limit, *ignore_end);
            let row = span.first + span.count - 1;
            let Some(logits) = self.context.logits(row) else {
                let message = "llama.cpp gave no logits for a token that asked".to_owned();
                done.push((span.sequence, Err(EngineError::Protocol(message))));
                continue;
            };
            let (id, logprob, forced) = match stream.draw(logits, &model, scratch) {
                Draw::Token { id, logprob, forced } => (id, logprob, forced),
                Draw::End => {
                    done.push((span.sequence, Ok(Some(StopReason::GrammarEnd))));
                    continue;
                }
                Draw::Stuck => {
                    let message = "no token of this vocabulary can continue the text".to_owned();
                    done.push((span.sequence, Err(EngineError::Grammar(message))));
                    continue;
                }
            };
            let end = !ignore_end && model.is_end(id);
            piece.clear();
            if !end {
                model.piece(id, &mut piece);
            }
            sequence.push(id, logprob, forced, &piece, end, out);
            if end {
                done.push((span.sequence, Ok(Some(StopReason::EndOfTurn))));
            } else if sequence.sampled() >= limit || sequence.tokens.len() >= self.limit {
                done.push((span.sequence, Ok(Some(StopReason::Length))));
            }
        }
        self.finish(done, out);
    }

    fn finish(&mut self, mut done: Vec<(usize, Result<Option<StopReason>, EngineError>)>, out: &Outbox) {
        // From the back, so that the indices in front stay true.
        done.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
        for (index, how) in done {
            let sequence = self.leave(index);
            match how {
                Ok(Some(stop)) => sequence.finish(stop, self.adapter.clone(), out),
                Ok(None) => {
                    let outcome = Ok(Outcome::Scores(sequence.logprobs));
                    out.put(&FromWorker::Done { id: sequence.id, outcome });
                }
                Err(error) => out.put(&FromWorker::Done { id: sequence.id, outcome: Err(error) }),
            }
        }
    }

    /// The KV is full: forget the oldest idle prefix, else put the youngest sequence back in the queue.
    fn make_room(&mut self, out: &Outbox) {
        if let Some(slot) = self.cache.oldest_idle() {
            self.empty_slot(slot);
            return;
        }
        let youngest = self.active.len() - 1;
        if youngest == 0 {
            let needed = self.active[0].tokens.len();
            let available = self.context.cells();
            self.empty_slot(self.active[0].slot);
            self.finish(vec![(0, Err(EngineError::ContextOverflow { needed, available }))], out);
            return;
        }
        self.empty_slot(self.active[youngest].slot);
        let mut sequence = self.leave(youngest);
        if sequence.scores() {
            sequence.logprobs.clear();
        }
        sequence.past = 0;
        self.waiting.push_front(Work::Sequence(Box::new(sequence)));
        self.full = true;
    }

    fn fail_batch(&mut self, code: i32, out: &Outbox) {
        let mut hit: Vec<usize> = self.spans.iter().map(|span| span.sequence).collect();
        hit.sort_unstable();
        for &index in &hit {
            self.empty_slot(self.active[index].slot);
        }
        let reason = crate::engine::ffi::last_log_error().unwrap_or_default();
        let error = EngineError::Other(format!("llama.cpp could not decode (code {code}) {reason}"));
        self.finish(hit.into_iter().map(|index| (index, Err(error.clone()))).collect(), out);
    }
}

/// Score the tokens that follow those of the span.
fn score_span(sequence: &mut Sequence, span: &Span, context: &mut Context) {
    let start = sequence.past - span.count;
    for offset in 0..span.count {
        let Some(&next) = sequence.tokens.get(start + offset + 1) else { continue };
        if let Some(logits) = context.logits(span.first + offset) {
            sequence.logprobs.push(score_row(logits, next));
        }
    }
}
