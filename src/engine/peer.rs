//! The peer: llama.cpp called in the plainest loop, in this process. What the worker's speed is measured
//! against, and nothing else: no sampling but argmax, no cancel, no records.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::client::LlamaEngine;
use crate::engine::ffi::{self, Batch, Context, ContextOptions, Model, Threads, Watch};
use crate::error::EngineError;

/// Speeds of one run, tokens per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    pub prefill: f64,
    /// All sequences together.
    pub decode: f64,
}

/// Decode speed of the worker, all `sequences` together, each sampling `count` tokens after a short prompt of
/// its own. Tokens per second, pipes and sampling included.
///
/// # Errors
/// As the engine's `complete`.
pub async fn worker_decode_speed(
    engine: &LlamaEngine,
    sequences: usize,
    count: usize,
) -> Result<f64, EngineError> {
    let prompts: Vec<String> = (0..sequences).map(|k| format!("{k}: once upon a time there was")).collect();
    let running = prompts.iter().map(|prompt| engine.measure(prompt, count));
    let measured = futures_util::future::try_join_all(running).await?;
    // All prompts fit in one batch, so all sequences decode side by side from their first token on.
    let longest = measured.iter().map(|measured| measured.timings.decode_ms).fold(0.0, f64::max);
    Ok((sequences * (count - 1)) as f64 / (longest / 1e3))
}

/// Prefill speed of the worker for a prompt it has not seen, tokens per second, and how many tokens it computed.
///
/// # Errors
/// As the engine's `complete`.
pub async fn worker_prefill_speed(engine: &LlamaEngine, prompt: &str) -> Result<(f64, usize), EngineError> {
    let measured = engine.measure(prompt, 1).await?;
    Ok((measured.computed as f64 / (measured.timings.prefill_ms / 1e3), measured.computed))
}

/// A loaded model with one context.
pub struct Peer {
    context: Context,
    vocabulary: usize,
}

impl Peer {
    /// Load `model` with room for `sequences` times `tokens`.
    ///
    /// # Errors
    /// llama.cpp's refusal.
    pub fn load(model: &Path, sequences: usize, tokens: usize, threads: usize) -> Result<Peer, EngineError> {
        let refused = |reason: String| EngineError::ModelRefused { path: model.to_owned(), reason };
        // In this process stderr may be somebody's terminal.
        ffi::capture_logs(false);
        ffi::start_backend();
        let loaded = Arc::new(Model::load(model, -1, &mut || ()).map_err(refused)?);
        let options = ContextOptions {
            cells: sequences * tokens,
            batch: 512,
            sequences,
            outputs: sequences.max(16),
            threads,
            flash: false,
        };
        let pool = Threads::new(threads).map(Arc::new);
        let vocabulary = loaded.vocabulary();
        let context = Context::new(loaded, options, pool, Arc::new(Watch::default())).map_err(refused)?;
        Ok(Peer { context, vocabulary })
    }

    /// Prefill `prompt` tokens in each of `sequences`, then decode `count` in each, greedily.
    ///
    /// # Errors
    /// When llama.cpp cannot decode.
    pub fn run(&mut self, sequences: usize, prompt: usize, count: usize) -> Result<Speed, EngineError> {
        self.context.clear();
        let mut batch = Batch::new(512);
        let mut last = vec![0i32; sequences];
        let mut rows = Vec::new();
        let started = Instant::now();
        // Prompts share batches, as whoever writes such a loop would have them.
        for (sequence, position) in (0..sequences).flat_map(|s| (0..prompt).map(move |p| (s, p))) {
            let ends = position + 1 == prompt;
            let row = batch.push(self.filler(position + sequence), position, sequence as i32, ends);
            if ends {
                rows.push((sequence, row));
            }
            if batch.room() == 0 || (ends && sequence + 1 == sequences) {
                self.decode(&mut batch)?;
                batch.clear();
                for (sequence, row) in rows.drain(..) {
                    last[sequence] = self.best(row);
                }
            }
        }
        let prefilled = Instant::now();
        for step in 0..count {
            batch.clear();
            for (sequence, &token) in last.iter().enumerate() {
                batch.push(token, prompt + step, sequence as i32, true);
            }
            self.decode(&mut batch)?;
            for (sequence, last) in last.iter_mut().enumerate() {
                *last = self.best(sequence);
            }
        }
        let decoded = prefilled.elapsed().as_secs_f64();
        let prefill = (prefilled - started).as_secs_f64();
        Ok(Speed {
            prefill: (sequences * prompt) as f64 / prefill,
            decode: (sequences * count) as f64 / decoded,
        })
    }

    /// Some token that stands for text; speed does not depend on which.
    fn filler(&self, position: usize) -> i32 {
        (position * 7919 % self.vocabulary) as i32
    }

    fn decode(&mut self, batch: &mut Batch) -> Result<(), EngineError> {
        self.context
            .decode(batch)
            .map_err(|error| EngineError::Other(format!("the peer cannot decode: {error:?}")))
    }

    fn best(&mut self, row: usize) -> i32 {
        let logits = self.context.logits(row).unwrap_or_default();
        let mut best = 0;
        for (id, &logit) in logits.iter().enumerate() {
            if logit > logits[best] {
                best = id;
            }
        }
        best as i32
    }
}
