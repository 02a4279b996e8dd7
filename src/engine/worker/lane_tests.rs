//! A lane driven by hand, without a process: what happens when the KV is too small for all who run.

use std::fs::File;
use std::io::{Read, Seek};
use std::sync::Arc;
use std::time::Instant;

use super::inbox::Cancels;
use super::lane::{BATCH, Lane, Work};
use super::outbox::Outbox;
use super::sample::{Scratch, Stream};
use super::sequence::{Purpose, Sequence};
use crate::engine::Sampler;
use crate::engine::ffi::{self, Context, ContextOptions, Model};
use crate::engine::wire::{self, FromWorker, Outcome, Sampled};
use crate::gguf::toy::ToyModel;

fn lane(model: &Arc<Model>, cancels: &Cancels, cells: usize) -> Lane {
    let options =
        ContextOptions { cells, batch: BATCH, sequences: 12, outputs: 16, threads: 1, flash: false };
    let context = Context::new(model.clone(), options, None, cancels.watch.clone()).unwrap();
    Lane::new(context, 12, 4, 400, 16)
}

/// Run four prompts to their end; the completions by id.
fn run(model: &Arc<Model>, cells: usize) -> Vec<Sampled> {
    let cancels = Cancels::default();
    let mut lane = lane(model, &cancels, cells);
    let mut file: File = tempfile::tempfile().unwrap();
    let out = Outbox::new(file.try_clone().unwrap());
    for id in 0..4u64 {
        let tokens: Vec<i32> = (0..100).map(|k| (k * 3 + id as i32 * 17) % 250).collect();
        let purpose = Purpose::Complete {
            stream: Box::new(Stream::new(Sampler::greedy(), None)),
            limit: 60,
            ignore_end: false,
        };
        lane.waiting.push_back(Work::Sequence(Box::new(Sequence::new(id, tokens, purpose, Instant::now()))));
    }
    let mut scratch = Scratch::default();
    for _ in 0..2000 {
        if lane.idle() {
            break;
        }
        lane.step(&cancels, &cancels.take(), &mut scratch, &out);
    }
    assert!(lane.idle(), "sequences are stuck");
    out.flush();
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    let (mut stream, mut buffer, mut done) = (bytes.as_slice(), Vec::new(), Vec::new());
    while let Some(message) = wire::read::<FromWorker>(&mut stream, &mut buffer).unwrap() {
        if let FromWorker::Done { id, outcome } = message {
            let Ok(Outcome::Completion(sampled)) = outcome else { panic!("{id}: {outcome:?}") };
            done.push((id, sampled));
        }
    }
    done.sort_by_key(|(id, _)| *id);
    done.into_iter().map(|(_, sampled)| sampled).collect()
}

#[test]
fn too_small_a_kv_delays_but_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("toy.gguf");
    ToyModel::default().write(&path).unwrap();
    ffi::capture_logs();
    ffi::start_backend();
    let model = Arc::new(Model::load(&path, 0, &mut || ()).unwrap());
    let roomy = run(&model, 2048);
    // Four times 160 tokens do not fit in 512 cells: someone is put back and starts over.
    let tight = run(&model, 512);
    assert_eq!((roomy.len(), tight.len()), (4, 4));
    for (roomy, tight) in roomy.iter().zip(&tight) {
        assert_eq!(roomy.completion_ids, tight.completion_ids);
        assert_eq!(roomy.completion_ids.len(), 60);
    }
}
