//! The engine worker process, `tillerman __engine`: llama.cpp behind a pair of pipes.
//!
//! One owner thread has the model, both contexts and all sampling; a second one reads requests. A crash in
//! llama.cpp ends this process and nothing else. It reads one model and its adapters; where the kernel can see to
//! it (`confine`), it can do nothing else.

mod admit;
mod cache;
mod confine;
mod inbox;
mod lane;
#[cfg(test)]
mod lane_tests;
mod load;
mod outbox;
mod sample;
mod sequence;
mod stash;

use std::sync::{Arc, mpsc};
use std::time::Instant;

use crate::engine::ffi::{self, Grammar, os};
use crate::engine::wire::{FromWorker, Job, Prompt, ToWorker, VERSION};
use crate::error::EngineError;

pub use confine::confine;
use inbox::Cancels;
use lane::{Lane, Work};
use outbox::Outbox;
use sample::{Scratch, Stream};
use sequence::{Purpose, Sequence};

/// Serve the deck on standard input and output until its end of the pipe closes. Answers the exit code.
pub fn run() -> i32 {
    os::become_worker();
    if let Err(error) = confine(None) {
        // One layer of several: the file is checked, and this process holds nothing but a model.
        eprintln!("engine worker: not confined: {error}");
    }
    let stream = match os::take_stdout() {
        Ok(stream) => stream,
        Err(error) => {
            eprintln!("engine worker: no output stream: {error}");
            return 2;
        }
    };
    let out = Outbox::new(stream);
    out.send(&FromWorker::Hello { version: VERSION });
    let cancels = Arc::new(Cancels::default());
    let requests = inbox::spawn_reader(std::io::stdin(), cancels.clone());
    let Ok(ToWorker::Load(wanted)) = requests.recv() else {
        eprintln!("engine worker: the first frame must say what to load");
        return 2;
    };
    ffi::capture_logs(true);
    ffi::start_backend();
    match load::load(&wanted, &cancels.watch, &out) {
        Ok(engine) => {
            out.send(&FromWorker::Loaded(Box::new(engine.info.clone())));
            inbox::spawn_heartbeat(cancels.watch.clone(), out.clone());
            serve(engine, &requests, &cancels, &out);
            0
        }
        Err(error) => {
            out.send(&FromWorker::LoadFailed(error));
            3
        }
    }
}

/// The scheduler: take what has arrived, give each lane one decode, send what came of it, again.
fn serve(mut engine: load::Engine, requests: &mpsc::Receiver<ToWorker>, cancels: &Cancels, out: &Outbox) {
    let mut scratch = Scratch::default();
    loop {
        if engine.planner.idle() && engine.frozen.idle() {
            match requests.recv() {
                Ok(request) => take(request, &mut engine, out),
                Err(_) => return,
            }
        }
        // Cancels first: what they name was sent before them, so it is in the channel by now.
        let cancelled = cancels.take();
        while let Ok(request) = requests.try_recv() {
            take(request, &mut engine, out);
        }
        engine.planner.step(cancels, &cancelled, &mut scratch, out);
        engine.frozen.step(cancels, &cancelled, &mut scratch, out);
        out.end_step();
    }
}

fn take(request: ToWorker, engine: &mut load::Engine, out: &Outbox) {
    let (id, queued) = match request {
        ToWorker::Load(_) | ToWorker::Cancel { .. } => return,
        ToWorker::SetAdapter { id, path } => {
            engine.planner.waiting.push_back(Work::Swap { id, path });
            return;
        }
        ToWorker::Complete { id, job } => (id, complete(id, job, engine)),
        ToWorker::Score { id, ids, adapter } => (id, score(id, ids, adapter, engine)),
    };
    if let Err(error) = queued {
        out.put(&FromWorker::Done { id, outcome: Err(error) });
    }
}

fn lane(engine: &mut load::Engine, adapter: bool) -> &mut Lane {
    if adapter { &mut engine.planner } else { &mut engine.frozen }
}

fn complete(id: u64, job: Job, engine: &mut load::Engine) -> Result<(), EngineError> {
    let arrived = Instant::now();
    let model = engine.model.clone();
    let tokens = tokens(&job.prompt, engine)?;
    if tokens.is_empty() {
        return Err(EngineError::Other("the prompt is empty".to_owned()));
    }
    let lane = lane(engine, job.adapter);
    // One more than the prompt: there must be room to say something.
    if tokens.len() >= lane.limit {
        return Err(EngineError::ContextOverflow { needed: tokens.len() + 1, available: lane.limit });
    }
    let grammar = job.grammar.map(|text| Grammar::new(&model, &text)).transpose();
    let grammar = grammar.map_err(EngineError::Grammar)?;
    let limit = if job.max_tokens == 0 { usize::MAX } else { job.max_tokens };
    let purpose = Purpose::Complete {
        stream: Box::new(Stream::new(job.sampler, grammar)),
        limit,
        ignore_end: job.ignore_end,
    };
    lane.waiting.push_back(Work::Sequence(Box::new(Sequence::new(id, tokens, purpose, arrived))));
    Ok(())
}

/// A template gets this much memory for one prompt; one that wants more ends this process, not the machine.
const TEMPLATE_BYTES: u64 = 256 << 20;

fn tokens(prompt: &Prompt, engine: &load::Engine) -> Result<Vec<i32>, EngineError> {
    let (model, bos) = (&engine.model, engine.info.bos.as_str());
    let mut tokens = Vec::new();
    let add = |text: &str, special, tokens: &mut Vec<i32>| {
        model.tokenize(text, special, tokens).map_err(EngineError::Other)
    };
    match prompt {
        Prompt::Plain(text) => add(text, false, &mut tokens)?,
        Prompt::Chat(messages) => {
            let segments = os::with_memory(TEMPLATE_BYTES, || engine.template.render(messages))?;
            // Some templates write the begin-of-sequence token themselves.
            let first = segments.first().filter(|first| first.special && !bos.is_empty());
            if !first.is_some_and(|first| first.text.starts_with(bos)) {
                tokens.extend(model.wanted_bos());
            }
            for segment in &segments {
                add(&segment.text, segment.special, &mut tokens)?;
            }
        }
    }
    Ok(tokens)
}

fn score(id: u64, ids: Vec<i32>, adapter: bool, engine: &mut load::Engine) -> Result<(), EngineError> {
    let vocabulary = engine.model.vocabulary();
    if let Some(id) = ids.iter().find(|id| usize::try_from(**id).map_or(true, |id| id >= vocabulary)) {
        return Err(EngineError::Other(format!("token {id} is not in the vocabulary of {vocabulary}")));
    }
    if ids.len() < 2 {
        return Err(EngineError::Other("a score needs two tokens at least".to_owned()));
    }
    let lane = lane(engine, adapter);
    if ids.len() > lane.limit {
        return Err(EngineError::ContextOverflow { needed: ids.len(), available: lane.limit });
    }
    let sequence = Sequence::new(id, ids, Purpose::Score, Instant::now());
    lane.waiting.push_back(Work::Sequence(Box::new(sequence)));
    Ok(())
}
