//! The engine's figures: the worker beside the plainest llama.cpp loop on the same model and threads.
//!
//! A run is worker, peer, peer, worker: what a machine's speed drifts in between hits both alike. Beside the ratio
//! by the clock stands that by CPU time, which other work on the machine does not blur.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::Figure;
use crate::config::Home;
use crate::engine::client::{EngineOptions, LlamaEngine};
use crate::engine::peer::{Peer, worker_decode_speed, worker_prefill_speed};
use crate::engine::{Engine, Message, OnPiece, Request, Role, Sampler, Speaker};
use crate::error::EngineError;

/// Tokens one sequence may hold.
const CONTEXT: usize = 2048;
/// Tokens decoded per measurement, by how fast the model is: this many seconds, within these bounds. Where the first
/// of eight requests is decoding before the others' prompts are in, those prompts count as its decoding: of 32
/// tokens of a half-billion model that was a tenth.
const DECODE_S: f64 = 0.3;
const DECODED: [usize; 2] = [128, 256];
/// Tokens of the peer's prompt before them; the worker's is a few words.
const PROMPT: usize = 9;

fn served(model: &Path, sequences: usize, home: &Home) -> LlamaEngine {
    LlamaEngine::new(EngineOptions {
        sequences,
        context: Some(CONTEXT),
        log_dir: Some(home.logs()),
        ..EngineOptions::new(model.to_path_buf())
    })
}

/// CPU time that all threads of process `pid` have used, in seconds; None where the system does not say.
pub(super) fn cpu_seconds(pid: u32) -> Option<f64> {
    let mut sum = 0.0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // A thread that has just ended counts nothing.
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        sum += text.split(' ').next().and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    }
    (sum > 0.0).then_some(sum / 1e9)
}

/// Sums of one run. Seconds per token.
#[derive(Default)]
struct Sides {
    worker: f64,
    peer: f64,
    worker_cpu: f64,
    peer_cpu: f64,
}

/// Both loops, with `sequences` together.
struct Pair<'a> {
    worker: &'a LlamaEngine,
    peer: Peer,
    sequences: usize,
}

impl Pair<'_> {
    async fn worker(&self, count: usize, sides: &mut Sides) -> anyhow::Result<()> {
        let pid = self.worker.worker_pid().unwrap_or_default();
        let before = cpu_seconds(pid).unwrap_or(f64::NAN);
        sides.worker += 1.0 / worker_decode_speed(self.worker, self.sequences, count).await?;
        sides.worker_cpu += cpu_seconds(pid).unwrap_or(f64::NAN) - before;
        Ok(())
    }

    fn peer(&mut self, count: usize, sides: &mut Sides) -> anyhow::Result<()> {
        let before = cpu_seconds(std::process::id()).unwrap_or(f64::NAN);
        sides.peer += 1.0 / self.peer.run(self.sequences, PROMPT, count)?.decode;
        sides.peer_cpu += cpu_seconds(std::process::id()).unwrap_or(f64::NAN) - before;
        Ok(())
    }
}

/// Decode speed of the worker over that of the plain loop, and both speeds.
pub async fn decode(
    model: &Path,
    (sequences, name): (usize, &str),
    suffix: &str,
    runs: usize,
    home: &Home,
) -> anyhow::Result<Vec<Figure>> {
    let worker = served(model, 8, home);
    let threads = worker.model().await?.threads;
    let peer = Peer::load(model, sequences, CONTEXT, threads)?;
    let mut pair = Pair { worker: &worker, peer, sequences };
    // Warms caches and threads up, and says how fast it is.
    let mut sides = Sides::default();
    pair.worker(DECODED[0], &mut sides).await?;
    pair.peer(DECODED[0], &mut sides)?;
    let fitting = (DECODE_S / (sides.peer * sequences as f64)) as usize;
    let count = fitting.clamp(DECODED[0], DECODED[1]);
    let (mut ratio, mut cpu, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let mut sides = Sides::default();
        // The worker's first token is its prompt's: it decodes one less.
        pair.worker(count + 1, &mut sides).await?;
        pair.peer(count, &mut sides)?;
        pair.peer(count, &mut sides)?;
        pair.worker(count + 1, &mut sides).await?;
        ratio.push(sides.peer / sides.worker);
        cpu.push(sides.peer_cpu / sides.worker_cpu);
        ours.push(2.0 / sides.worker);
        theirs.push(2.0 / sides.peer);
    }
    worker.shutdown().await;
    cpu.retain(|ratio| ratio.is_finite());
    let figure =
        |part: &str, unit, values| Figure { name: format!("engine.{name}_{part}.{suffix}"), unit, values };
    let mut figures = vec![
        figure("ratio", "ratio", ratio),
        figure("tok_s", "tokens/s", ours),
        figure("peer_tok_s", "tokens/s", theirs),
    ];
    if !cpu.is_empty() {
        figures.insert(1, figure("cpu_ratio", "ratio", cpu));
    }
    Ok(figures)
}

/// Prefill speed of the worker over that of the plain loop, on a prompt of some hundred tokens.
pub async fn prefill(model: &Path, suffix: &str, runs: usize, home: &Home) -> anyhow::Result<Vec<Figure>> {
    let worker = served(model, 1, home);
    let threads = worker.model().await?.threads;
    let mut peer = Peer::load(model, 1, CONTEXT, threads)?;
    let (mut ratio, mut ours) = (Vec::new(), Vec::new());
    for round in 0..=runs {
        // Unlike from its first word on, so that nothing of it is there already.
        let text = |part: usize| format!("{part}{round} ").repeat(140);
        let (first, tokens) = worker_prefill_speed(&worker, &text(3)).await?;
        let plain = 1.0 / peer.run(1, tokens, 1)?.prefill + 1.0 / peer.run(1, tokens, 1)?.prefill;
        let (second, _) = worker_prefill_speed(&worker, &text(7)).await?;
        if round > 0 {
            ratio.push(plain / (1.0 / first + 1.0 / second));
            ours.push(2.0 / (1.0 / first + 1.0 / second));
        }
    }
    worker.shutdown().await;
    let figure =
        |part: &str, unit, values| Figure { name: format!("engine.prefill_{part}.{suffix}"), unit, values };
    Ok(vec![figure("ratio", "ratio", ratio), figure("tok_s", "tokens/s", ours)])
}

/// From nothing (no worker process) to the first sampled token of a short question.
pub async fn first_token(model: &Path, suffix: &str, runs: usize, home: &Home) -> anyhow::Result<Figure> {
    let mut values = Vec::new();
    for _ in 0..runs {
        let engine = served(model, 1, home);
        let started = Instant::now();
        engine
            .complete(
                Request {
                    role: Role::Planner,
                    messages: vec![Message::new(Speaker::User, ["What is 2+3?"])],
                    sampler: Sampler::greedy(),
                    constraint: None,
                    max_tokens: 1,
                },
                None,
                CancellationToken::new(),
            )
            .await?;
        values.push(started.elapsed().as_secs_f64() * 1e3);
        engine.shutdown().await;
    }
    Ok(Figure { name: format!("engine.first_token_ms.{suffix}"), unit: "ms", values })
}

/// From the cancelling of a request in the middle of eight that decode to its end, the slowest of the eight.
pub async fn cancel(model: &Path, suffix: &str, runs: usize, home: &Home) -> anyhow::Result<Figure> {
    const TOGETHER: usize = 8;
    let engine = Arc::new(served(model, TOGETHER, home));
    engine.model().await?;
    let mut values = Vec::new();
    for run in 0..runs {
        let cancel = CancellationToken::new();
        let mut running = tokio::task::JoinSet::new();
        let (under_way, mut heard) = tokio::sync::mpsc::unbounded_channel();
        for n in 0..TOGETHER {
            let (engine, cancel, under_way) = (engine.clone(), cancel.clone(), under_way.clone());
            let request = Request {
                role: Role::Base,
                messages: vec![Message::new(Speaker::User, [format!("Tell me number {n} of a long story.")])],
                sampler: Sampler::temperature(1.5, (run * TOGETHER + n) as u64),
                constraint: None,
                max_tokens: 0,
            };
            let on_piece: OnPiece = Arc::new(move |_: &str| {
                let _ = under_way.send(n);
            });
            running.spawn(async move {
                let ended = engine.complete(request, Some(on_piece), cancel).await;
                (ended, Instant::now())
            });
        }
        drop(under_way);
        let mut decoding = HashSet::new();
        while decoding.len() < TOGETHER
            && let Some(n) = heard.recv().await
        {
            decoding.insert(n);
        }
        let started = Instant::now();
        cancel.cancel();
        let mut slowest = 0.0_f64;
        while let Some(ended) = running.join_next().await {
            let (ended, at) = ended?;
            // One that had ended by itself by then tells nothing.
            if ended == Err(EngineError::Cancelled) {
                slowest = slowest.max(at.saturating_duration_since(started).as_secs_f64() * 1e3);
            }
        }
        anyhow::ensure!(slowest > 0.0, "every request ended before it was cancelled");
        values.push(slowest);
    }
    Ok(Figure { name: format!("engine.cancel_ms.{suffix}"), unit: "ms", values })
}
