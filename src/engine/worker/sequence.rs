//! One request under way: its tokens, what was sampled, the text so far. It decodes nothing.

use std::time::Instant;

use crate::engine::wire::{FromWorker, Outcome, Sampled};
use crate::engine::{StopReason, Timings};

use super::outbox::Outbox;
use super::sample::Stream;

/// What is wanted of a sequence.
pub enum Purpose {
    Complete {
        stream: Box<Stream>,
        /// Sampled tokens at most.
        limit: usize,
        ignore_end: bool,
    },
    /// Log-probabilities of the tokens given.
    Score,
}

pub struct Sequence {
    pub id: u64,
    pub purpose: Purpose,
    /// Prompt, then what was sampled.
    pub tokens: Vec<i32>,
    pub prompt: usize,
    /// How many of `tokens` are in the KV.
    pub past: usize,
    pub slot: usize,
    pub reused: usize,
    completion: Vec<i32>,
    /// Sampled ones, or the scores.
    pub logprobs: Vec<f32>,
    forced: Vec<bool>,
    text: Text,
    arrived: Instant,
    admitted: Option<Instant>,
    first_token: Option<Instant>,
}

impl Sequence {
    pub fn new(id: u64, tokens: Vec<i32>, purpose: Purpose, arrived: Instant) -> Sequence {
        let prompt = tokens.len();
        Sequence {
            id,
            purpose,
            tokens,
            prompt,
            past: 0,
            slot: 0,
            reused: 0,
            completion: Vec::new(),
            logprobs: Vec::new(),
            forced: Vec::new(),
            text: Text::default(),
            arrived,
            admitted: None,
            first_token: None,
        }
    }

    pub fn scores(&self) -> bool {
        matches!(self.purpose, Purpose::Score)
    }

    /// Put in a slot with `reused` of its tokens already there. Only the first time counts in the record:
    /// a sequence that was put back for want of room starts over unseen.
    pub fn admit(&mut self, slot: usize, reused: usize) {
        self.slot = slot;
        self.past = reused;
        if self.admitted.is_none() {
            self.admitted = Some(Instant::now());
            self.reused = reused;
        }
    }

    /// Whether the next decode is of one token only.
    pub fn one_left(&self) -> bool {
        self.past + 1 == self.tokens.len()
    }

    /// Record a sampled token that reads `piece`; sends the text that is complete.
    pub fn push(&mut self, id: i32, logprob: f32, forced: bool, piece: &[u8], end: bool, out: &Outbox) {
        let first = self.first_token.is_none();
        if first {
            self.first_token = Some(Instant::now());
            out.hurry();
        }
        self.completion.push(id);
        self.logprobs.push(logprob);
        self.forced.push(forced);
        if !end {
            self.tokens.push(id);
        }
        let fresh = self.text.push(piece);
        if first || !fresh.is_empty() {
            out.put(&FromWorker::Piece { id: self.id, text: fresh.to_owned() });
        }
    }

    pub fn sampled(&self) -> usize {
        self.completion.len()
    }

    /// The finished request's outcome.
    pub fn finish(mut self, stop: StopReason, adapter: Option<String>, out: &Outbox) {
        let rest = self.text.finish();
        if !rest.is_empty() {
            out.put(&FromWorker::Piece { id: self.id, text: rest.to_owned() });
        }
        let now = Instant::now();
        let admitted = self.admitted.unwrap_or(now);
        let first_token = self.first_token.unwrap_or(now);
        self.tokens.truncate(self.prompt);
        let sampled = Sampled {
            text: self.text.shown,
            prompt_ids: self.tokens,
            completion_ids: self.completion,
            logprobs: self.logprobs,
            forced: self.forced,
            stop: Some(stop),
            reused: self.reused,
            adapter,
            timings: Timings {
                queue_ms: (admitted - self.arrived).as_secs_f64() * 1e3,
                prefill_ms: (first_token - admitted).as_secs_f64() * 1e3,
                decode_ms: (now - first_token).as_secs_f64() * 1e3,
            },
        };
        out.put(&FromWorker::Done { id: self.id, outcome: Ok(Outcome::Completion(sampled)) });
    }
}

/// Bytes to text, a whole character at a time: a token may end in the middle of one.
#[derive(Default)]
struct Text {
    shown: String,
    /// At most three bytes that may still become a character.
    partial: Vec<u8>,
}

impl Text {
    /// Add bytes; answers the text they complete.
    fn push(&mut self, bytes: &[u8]) -> &str {
        let from = self.shown.len();
        if self.partial.is_empty()
            && let Ok(whole) = std::str::from_utf8(bytes)
        {
            self.shown.push_str(whole);
            return &self.shown[from..];
        }
        self.partial.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.partial);
        let mut rest = bytes.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(whole) => {
                    self.shown.push_str(whole);
                    return &self.shown[from..];
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    self.shown.push_str(&String::from_utf8_lossy(valid));
                    let Some(bad) = error.error_len() else {
                        self.partial = after.to_vec();
                        return &self.shown[from..];
                    };
                    self.shown.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[bad..];
                }
            }
        }
    }

    /// No more bytes come: what is left over is no character.
    fn finish(&mut self) -> &str {
        let from = self.shown.len();
        if !std::mem::take(&mut self.partial).is_empty() {
            self.shown.push(char::REPLACEMENT_CHARACTER);
        }
        &self.shown[from..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_as_whole_characters_and_as_lossy_text() {
        let samples: [&[u8]; 5] =
            ["añ€🦀x".as_bytes(), b"ok\xff\xfeend", b"\xf0\x9f\x92", b"a\xe2\x82b", b"\xed\xa0\x80z"];
        for bytes in samples {
            for size in 1..=bytes.len() {
                let mut text = Text::default();
                let mut streamed = String::new();
                for chunk in bytes.chunks(size) {
                    streamed.push_str(text.push(chunk));
                }
                streamed.push_str(text.finish());
                assert_eq!(streamed, String::from_utf8_lossy(bytes), "{bytes:?} by {size}");
                assert_eq!(streamed, text.shown);
            }
        }
    }
}
