//! A lane driven by hand, without a process: what happens when the KV is too small for all who run.

use std::fs::File;
use std::io::{Read, Seek};
use std::sync::Arc;
use std::time::Instant;

use super::inbox::Cancels;
use super::lane::{BATCH, Lane, Shape, Work};
use super::outbox::Outbox;
use super::sample::{Scratch, Stream};
use super::sequence::{Purpose, Sequence};
use crate::engine::Sampler;
use crate::engine::ffi::{self, Context, ContextOptions, Model};
use crate::engine::wire::{self, FromWorker, Outcome, Sampled};
use crate::gguf::toy::ToyModel;

fn lane(model: &Arc<Model>, cancels: &Cancels, cells: usize) -> Lane {
    let options =
        ContextOptions { cells, batch: BATCH, sequences: 13, outputs: 16, threads: 1, flash: false };
    let context = Context::new(model.clone(), options, None, cancels.watch.clone()).unwrap();
    let shape =
        Shape { slots: 12, sequences: 4, limit: 400, outputs: 16, flash: false, stash_bytes: 1 << 20 };
    Lane::new(context, shape)
}

/// A lane, what stops it, and what it writes.
struct Driven {
    lane: Lane,
    cancels: Cancels,
    file: File,
    out: Outbox,
}

impl Driven {
    fn new(model: &Arc<Model>, cells: usize) -> Driven {
        let cancels = Cancels::default();
        let file: File = tempfile::tempfile().unwrap();
        let out = Outbox::new(file.try_clone().unwrap());
        Driven { lane: lane(model, &cancels, cells), cancels, file, out }
    }

    /// Run prompts together, each to its own limit; the completions in their order.
    fn complete(&mut self, prompts: &[(Vec<i32>, usize)]) -> Vec<Sampled> {
        for (id, (tokens, limit)) in prompts.iter().enumerate() {
            let stream = Box::new(Stream::new(Sampler::greedy(), None));
            let purpose = Purpose::Complete { stream, limit: *limit, ignore_end: true };
            let sequence = Sequence::new(id as u64, tokens.clone(), purpose, Instant::now());
            self.lane.waiting.push_back(Work::Sequence(Box::new(sequence)));
        }
        let mut scratch = Scratch::default();
        for _ in 0..2000 {
            if self.lane.idle() {
                break;
            }
            self.lane.step(&self.cancels, &self.cancels.take(), &mut scratch, &self.out);
        }
        assert!(self.lane.idle(), "sequences are stuck");
        self.out.flush();
        self.answers()
    }

    fn answers(&mut self) -> Vec<Sampled> {
        self.file.rewind().unwrap();
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes).unwrap();
        self.file.set_len(0).unwrap();
        self.file.rewind().unwrap();
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

    /// Tokens in the KV, those several slots share counted more than once.
    fn held(&self) -> usize {
        self.lane.cache.slots.iter().map(|slot| slot.tokens.len()).sum()
    }
}

fn toy() -> Arc<Model> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("toy.gguf");
    ToyModel::default().write(&path).unwrap();
    ffi::capture_logs(true);
    ffi::start_backend();
    Arc::new(Model::load(&path, 0, &mut || ()).unwrap())
}

fn prompt(seed: i32, length: i32) -> Vec<i32> {
    (0..length).map(|k| (k * 3 + seed * 17) % 250).collect()
}

/// The same tokens, and log-probabilities as close as batches of other shapes compute them.
fn assert_same(a: &Sampled, b: &Sampled) {
    assert_eq!(a.completion_ids, b.completion_ids);
    for (a, b) in a.logprobs.iter().zip(&b.logprobs) {
        assert!((a - b).abs() < 1e-4, "{a} for {b}");
    }
}

#[test]
fn too_small_a_kv_delays_but_changes_nothing() {
    let model = toy();
    let prompts: Vec<_> = (0..4).map(|seed| (prompt(seed, 100), 60)).collect();
    let roomy = Driven::new(&model, 2048).complete(&prompts);
    // Four times 160 tokens do not fit in 512 cells: someone is put back and starts over.
    let tight = Driven::new(&model, 512).complete(&prompts);
    assert_eq!((roomy.len(), tight.len()), (4, 4));
    for (roomy, tight) in roomy.iter().zip(&tight) {
        assert_eq!(roomy.completion_ids, tight.completion_ids);
        assert_eq!(roomy.completion_ids.len(), 60);
    }
}

#[test]
fn an_idle_prefix_leaves_the_kv_while_others_decode_and_comes_back_as_it_was() {
    let model = toy();
    let mut driven = Driven::new(&model, 2048);
    driven.complete(&[(prompt(1, 200), 8)]);
    let other = driven.complete(&[(prompt(2, 200), 8)]);
    assert_same(&other[0], &Driven::new(&model, 2048).complete(&[(prompt(2, 200), 8)])[0]);
    // The last token sampled is never decoded.
    assert_eq!(driven.held(), 207, "the first prompt lies in the KV");
    let longer = [(prompt(1, 230), 8)];
    let (warm, cold) = (driven.complete(&longer), Driven::new(&model, 2048).complete(&longer));
    assert_eq!((warm[0].reused, cold[0].reused), (192, 0), "three whole chunks of 64");
    assert_same(&warm[0], &cold[0]);
    assert_eq!(driven.held(), 237);
}

#[test]
fn a_group_that_ends_one_by_one_goes_on_from_where_each_was() {
    let model = toy();
    let mut driven = Driven::new(&model, 2048);
    let of_turn = |turn: i32| -> Vec<(Vec<i32>, usize)> {
        let tail = |seed: i32| prompt(seed + 5, 70 + turn * 40);
        (0..4).map(|seed| ([prompt(9, 150), tail(seed)].concat(), 4 + 12 * seed as usize)).collect()
    };
    driven.complete(&of_turn(0));
    let warm = driven.complete(&of_turn(1));
    for (warm, asked) in warm.iter().zip(of_turn(1)) {
        assert!(warm.reused >= 192, "{} reused", warm.reused);
        assert_same(warm, &Driven::new(&model, 2048).complete(&[asked])[0]);
    }
}
