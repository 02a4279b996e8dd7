//! The reference against itself: differences of the whole objective, and what must not change a number.

use super::*;
use crate::gguf::toy::{Architecture, SHAPES, Shape, ToyModel};
use crate::train::lora::sites;
use crate::train::objective::{Batch, Mode, Rollout, Settings, Turn, evaluate};

const T: f64 = 0.7;

fn model(architecture: Architecture, tied: bool) -> (Model, Header) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("toy.gguf");
    let shape = Shape { hidden: 32, feed_forward: 48, vocabulary: 288, ..SHAPES[0] };
    ToyModel { shape, architecture, tied, ..ToyModel::default() }.write(&path).unwrap();
    let mut model = Model::from_gguf(&path).unwrap();
    // Random files have small matrices and norms of one: nothing would bend. Make it bend.
    let mut state = 1;
    for block in &mut model.blocks {
        let linears = [&mut block.q, &mut block.k, &mut block.v, &mut block.output];
        for linear in linears.into_iter().chain([&mut block.gate, &mut block.up, &mut block.down]) {
            linear.weight.values.iter_mut().for_each(|w| *w *= 8.0);
        }
        let norms = [Some(&mut block.attn_norm), Some(&mut block.ffn_norm), block.q_norm.as_mut()];
        norms.into_iter().chain([block.k_norm.as_mut()]).flatten().flatten().for_each(|w| {
            *w += 0.4 * noise(&mut state);
        });
    }
    model.embedding.values.iter_mut().for_each(|w| *w *= 20.0);
    (model, check(&path).unwrap())
}

/// In -1..1.
pub(super) fn noise(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

pub(super) fn adapter(header: &Header, seed: u64) -> Adapter {
    let mut adapter = Adapter::from_lora(&Lora::init(&sites(header), 3, 6.0, seed).unwrap());
    let mut state = seed + 17;
    adapter.pairs.iter_mut().flat_map(|(_, _, b)| &mut b.values).for_each(|v| *v = 0.2 * noise(&mut state));
    adapter
}

fn rows() -> Vec<Row> {
    let mut state = 99;
    let mut ids = |count: usize| -> Vec<i32> {
        (0..count).map(|_| (140.0 * (noise(&mut state) + 1.0)) as i32).collect()
    };
    let prompt = ids(6);
    let mut rows: Vec<Row> =
        [4, 7, 3].into_iter().map(|count| Row { prompt: prompt.clone(), sampled: ids(count) }).collect();
    rows.push(Row { prompt: [prompt, ids(5)].concat(), sampled: ids(4) });
    rows.push(Row { prompt: ids(3), sampled: ids(2) });
    rows.push(Row { prompt: ids(3), sampled: ids(5) });
    rows
}

/// Two groups; the first's second rollout has two turns (rows 1 and 3), and a token of row 2 was forced.
fn batch(model: &Model, rows: &[Row], adapter: &Adapter) -> Batch {
    let narrow = |values: Vec<f64>| -> Vec<f32> { values.into_iter().map(|v| v as f32).collect() };
    let mut before = adapter.clone();
    let mut state = 5;
    before.pairs.iter_mut().flat_map(|(_, a, _)| &mut a.values).for_each(|v| *v += 0.3 * noise(&mut state));
    let old = narrow(logprobs(model, rows, Some(&before), T));
    let reference = narrow(logprobs(model, rows, None, T));
    let sampler = old.iter().map(|old| old + 0.02 * noise(&mut state) as f32).collect();
    let mut forced = vec![false; old.len()];
    forced[12] = true;
    let rollout = |group, advantage| Rollout { group, advantage: Some(advantage) };
    let turn = |row: usize, rollout| Turn { rollout, tokens: rows[row].sampled.len(), truncated: false };
    Batch {
        weights: vec![0.5; 2],
        rollouts: vec![
            rollout(0, -0.4),
            rollout(0, 1.1),
            rollout(0, -0.7),
            rollout(1, 0.5),
            rollout(1, -0.5),
        ],
        turns: vec![turn(0, 0), turn(1, 1), turn(2, 2), turn(3, 1), turn(4, 3), turn(5, 4)],
        sampler,
        forced,
        old: Some(old),
        reference: Some(reference),
    }
}

/// J in f64, written out from the formula: v and w are those at `base`, and the penalty is k2, whose
/// gradient the objective has.
fn objective_f64(settings: &Settings, batch: &Batch, base: &[f64], logprobs: &[f64]) -> f64 {
    let old = batch.old.as_ref().unwrap();
    let reference = batch.reference.as_ref().unwrap();
    let (low, high) = (1.0 - f64::from(settings.clip_low), 1.0 + f64::from(settings.clip_high));
    let (mut value, mut at) = (0.0, 0);
    for turn in &batch.turns {
        let rollout = &batch.rollouts[turn.rollout];
        let advantage = f64::from(rollout.advantage.unwrap());
        let size = batch.rollouts.iter().filter(|other| other.group == rollout.group).count() as f64;
        let turns = batch.turns.iter().filter(|other| other.rollout == turn.rollout).count() as f64;
        let sampled = (at..at + turn.tokens).filter(|k| !batch.forced[*k]).count() as f64;
        let share = match settings.mode {
            Mode::Flow | Mode::Imitation => 1.0 / (2.0 * size * f64::from(settings.token_denominator)),
            Mode::Paper => 1.0 / (2.0 * size * turns * sampled),
            Mode::Reference => unreachable!(),
        };
        for k in (at..at + turn.tokens).filter(|k| !batch.forced[*k]) {
            let (old, mu, reference) =
                (f64::from(old[k]), f64::from(batch.sampler[k]), f64::from(reference[k]));
            let ratio = (logprobs[k] - old).exp();
            let surrogate = (ratio * advantage).min(ratio.clamp(low, high) * advantage);
            let (w, v) = ((old - mu).exp().min(2.0), (base[k] - mu).exp().min(2.0));
            let k2 = (logprobs[k] - reference).powi(2) / 2.0;
            value += share * (w * surrogate - f64::from(settings.kl_beta) * v * k2);
        }
        at += turn.tokens;
    }
    value
}

/// The values of A and B, one after the other.
fn values(adapter: &mut Adapter) -> impl Iterator<Item = &mut f64> {
    adapter.pairs.iter_mut().flat_map(|(_, a, b)| a.values.iter_mut().chain(&mut b.values))
}

#[test]
fn gradients_are_differences_of_the_whole_objective() {
    use Architecture::{Llama, Qwen2, Qwen3};
    for (architecture, tied, mode) in
        [(Llama, false, Mode::Flow), (Qwen2, true, Mode::Paper), (Qwen3, true, Mode::Flow)]
    {
        let (model, header) = model(architecture, tied);
        let (rows, adapter) = (rows(), adapter(&header, 3));
        let batch = batch(&model, &rows, &adapter);
        let settings = Settings { kl_beta: 0.05, outlier_least: None, ..Settings::of(mode) };
        let base = logprobs(&model, &rows, Some(&adapter), T);
        let narrow: Vec<f32> = base.iter().map(|v| *v as f32).collect();
        let found = evaluate(&settings, &batch, &narrow).unwrap();
        assert!(found.stats.clip_share > 0.0 && found.stats.clip_share < 0.8, "{:?}", found.stats);
        let coefficients: Vec<f64> = found.coefficients.iter().map(|c| f64::from(*c)).collect();
        let exact: Vec<f64> = gradients(&model, &rows, &adapter, T, &coefficients)
            .into_iter()
            .flat_map(|(a, b)| a.into_iter().chain(b))
            .collect();
        let size = exact.iter().map(|g| g * g).sum::<f64>().sqrt();
        // Along a direction, J's central difference.
        let slope = |direction: &[f64]| {
            let at = |step: f64| {
                let mut moved = adapter.clone();
                values(&mut moved).zip(direction).for_each(|(v, d)| *v += step * d);
                objective_f64(&settings, &batch, &base, &logprobs(&model, &rows, Some(&moved), T))
            };
            (at(2e-5) - at(-2e-5)) / 4e-5
        };
        // All numbers at once, along the gradient itself and along random directions ...
        let mut state = 1;
        let mut directions = vec![exact.iter().map(|g| g / size).collect::<Vec<f64>>()];
        for _ in 0..3 {
            directions.push(exact.iter().map(|_| 0.1 * noise(&mut state)).collect());
        }
        // ... and some alone, of A in the first block's pairs and B in the last's.
        let mut place = 0;
        for (name, a, b) in &adapter.pairs {
            for (half, tested) in [(a, name.starts_with("blk.0")), (b, name.starts_with("blk.1"))] {
                let at = place + (half.values.len() as f64 * (noise(&mut state) + 1.0) / 2.0) as usize;
                if tested {
                    directions.push((0..exact.len()).map(|index| f64::from(u8::from(index == at))).collect());
                }
                place += half.values.len();
            }
        }
        for (index, direction) in directions.iter().enumerate() {
            let along: f64 = direction.iter().zip(&exact).map(|(d, g)| d * g).sum();
            let difference = slope(direction);
            // A single number may be far smaller than the gradient; it is held against a typical one.
            let typical = size / (exact.len() as f64).sqrt();
            let error = (difference - along).abs() / along.abs().max(typical);
            assert!(error <= 1e-5, "{architecture:?} {index}: {difference} for {along}, error {error:.1e}");
        }
    }
}

#[test]
fn a_rows_neighbours_and_its_own_future_change_nothing() {
    let (model, header) = model(Architecture::Llama, false);
    let adapter = adapter(&header, 1);
    let rows = rows();
    let all = logprobs(&model, &rows, Some(&adapter), T);
    let alone = logprobs(&model, &rows[1..2], Some(&adapter), T);
    assert_eq!(all[4..11], alone);
    let mut shorter = rows[1].clone();
    shorter.sampled.truncate(3);
    assert_eq!(logprobs(&model, &[shorter], Some(&adapter), T), alone[..3]);
    let other = logprobs(&model, &rows[1..2], Some(&adapter), 1.0);
    assert!(alone.iter().zip(other).all(|(cold, warm)| (cold - warm).abs() > 1e-6), "T is ignored");
}

#[test]
fn a_new_adapter_is_the_base() {
    let (model, header) = model(Architecture::Qwen2, true);
    let lora = Lora::init(&sites(&header), 4, 8.0, 1).unwrap();
    let adapter = Adapter::from_lora(&lora);
    let rows = rows();
    assert_eq!(logprobs(&model, &rows, Some(&adapter), 1.0), logprobs(&model, &rows, None, 1.0));
    let zero = gradients(&model, &rows, &adapter, 1.0, &[1.0; 25]);
    assert!(zero.iter().all(|(a, b)| a.iter().all(|g| *g == 0.0) && b.iter().any(|g| *g != 0.0)));
    let none = relative_error(&Gradients::zeros(&lora), &zero);
    assert_eq!(none, 1.0);
}

#[test]
fn probabilities_of_a_vocabulary_sum_to_one() {
    let (model, _) = model(Architecture::Qwen3, true);
    let one = |token| Row { prompt: vec![5, 8], sampled: vec![token] };
    let rows: Vec<Row> = (0..288).map(one).collect();
    let sum: f64 = logprobs(&model, &rows, None, T).iter().map(|logp| logp.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-12, "{sum}");
}
