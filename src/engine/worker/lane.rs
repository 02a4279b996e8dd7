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

use super::admit::idle_cells;
use super::cache::Cache;
use super::inbox::Cancels;
use super::outbox::Outbox;
use super::sample::{Draw, Scratch, score_row};
use super::sequence::{Purpose, Sequence};
use super::stash::Stash;

/// Most tokens in one decode; one llama.cpp micro-batch, so that an aborted decode leaves nothing behind.
pub const BATCH: usize = 512;
/// Most prompt tokens in a batch that also carries sampled ones: bounds how long a token waits.
const PREFILL_BESIDE_DECODE: usize = 256;
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
    pub swaps: u64,
    batch: Batch,
    /// Per batch entry group: which active sequence, how many tokens, where its outputs begin.
    spans: Vec<Span>,
    /// Rows of logits one decode may ask for.
    outputs: usize,
    /// Most sequences at once.
    pub sequences: usize,
    /// Tokens one sequence may hold.
    pub limit: usize,
    /// Someone was put back for want of room: admit nobody until someone is done.
    pub full: bool,
    /// Someone left since idle prefixes were last looked at.
    pub left: bool,
    pub recurrent: bool,
    /// Most cells that idle prefixes hold while others decode.
    pub idle_most: usize,
    pub stash: Stash,
}

/// What a lane is made with. Counts are tokens where nothing else is said.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// KV sequences: more than run at once, so that idle prefixes can stay.
    pub slots: usize,
    /// Most sequences at once.
    pub sequences: usize,
    /// Of one sequence.
    pub limit: usize,
    /// Rows of logits one decode may ask for.
    pub outputs: usize,
    /// Attention runs on a device.
    pub flash: bool,
    /// What idle prefixes may take beside the KV; 0: nothing.
    pub stash_bytes: usize,
}

struct Span {
    sequence: usize,
    count: usize,
    first: usize,
}

impl Lane {
    /// `context` knows one sequence more than `shape.slots`, unless its memory is a running state.
    pub fn new(context: Context, shape: Shape) -> Lane {
        let Shape { slots, sequences, limit, outputs, flash, stash_bytes } = shape;
        let model = context.model();
        let recurrent = model.recurrent();
        // A saved window cannot be cut shorter.
        let stash_bytes = if recurrent || model.sliding() { 0 } else { stash_bytes };
        Lane {
            idle_most: idle_cells(model, flash, stash_bytes > 0),
            stash: Stash::new(stash_bytes),
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
            left: false,
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
        self.relieve();
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
            self.put_aside(slot);
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
