//! Against PyTorch: tests/fixtures/train.json, written by recipe/fixtures.py. Bound 1e-5 for everything.

use serde_json::Value;

use super::*;
use crate::train::adamw::{self, AdamW};
use crate::train::advantage::{self, Outcome, Rated, Scaling};
use crate::train::lora::{Pair, Site};
use crate::train::objective::{Batch, Mode, Rollout, Settings, Turn, evaluate};

const HIDDEN: usize = 16;
const FEED: usize = 24;
const BLOCKS: usize = 2;
const VOCABULARY: usize = 40;
const ATTENTION: Attention = Attention { heads: 4, heads_kv: 2, key: 4, value: 4 };
const RANK: usize = 2;
const ALPHA: f32 = 4.0;
const T: f64 = 0.7;

/// Rows and columns of a block's linears, by name.
const LINEARS: [(&str, usize, usize); 7] = [
    ("attn_q", 16, HIDDEN),
    ("attn_k", 8, HIDDEN),
    ("attn_v", 8, HIDDEN),
    ("attn_output", HIDDEN, 16),
    ("ffn_gate", FEED, HIDDEN),
    ("ffn_up", FEED, HIDDEN),
    ("ffn_down", HIDDEN, FEED),
];

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/train.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// The generator of the script.
struct Numbers(u32);

impl Numbers {
    fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.0 >> 8) / f64::from(1 << 24) - 0.5
    }

    fn matrix(&mut self, rows: usize, columns: usize, scale: f64) -> Matrix {
        let values = (0..rows * columns).map(|_| scale * self.draw()).collect();
        Matrix { rows, columns, values }
    }

    fn vector(&mut self, count: usize, scale: f64, shift: f64) -> Vec<f64> {
        (0..count).map(|_| shift + scale * self.draw()).collect()
    }

    fn ids(&mut self, count: usize) -> Vec<i32> {
        (0..count).map(|_| ((self.draw() + 0.5) * VOCABULARY as f64) as i32).collect()
    }

    fn model(&mut self, architecture: &str) -> Model {
        let embedding = self.matrix(VOCABULARY, HIDDEN, 2.0);
        let head = (architecture == "llama").then(|| self.matrix(VOCABULARY, HIDDEN, 2.0));
        let output_norm = self.vector(HIDDEN, 0.5, 1.0);
        let blocks = (0..BLOCKS).map(|block| self.block(architecture, block)).collect();
        let rope = Rope { base: 1e4, dims: 4, neox: architecture != "llama", factors: Vec::new() };
        Model { embedding, head, output_norm, blocks, epsilon: 1e-6, rope, attention: ATTENTION }
    }

    fn block(&mut self, architecture: &str, block: usize) -> Block {
        let attn_norm = self.vector(HIDDEN, 0.5, 1.0);
        let ffn_norm = self.vector(HIDDEN, 0.5, 1.0);
        let linears = LINEARS.map(|(name, rows, columns)| {
            let weight = self.matrix(rows, columns, 1.0);
            let biased = architecture == "qwen2" && matches!(name, "attn_q" | "attn_k" | "attn_v");
            let bias = biased.then(|| self.vector(rows, 0.5, 0.0));
            Linear { name: format!("blk.{block}.{name}.weight"), weight, bias }
        });
        let [q, k, v, output, gate, up, down] = linears;
        let mut norm = || (architecture == "qwen3").then(|| self.vector(4, 0.5, 1.0));
        let (q_norm, k_norm) = (norm(), norm());
        Block { attn_norm, q, k, v, q_norm, k_norm, output, ffn_norm, gate, up, down }
    }

    fn adapter(&mut self) -> Adapter {
        let mut pairs = Vec::new();
        for block in 0..BLOCKS {
            for (name, rows, columns) in LINEARS {
                let a = self.matrix(RANK, columns, 0.6);
                pairs.push((format!("blk.{block}.{name}.weight"), a, self.matrix(rows, RANK, 0.6)));
            }
        }
        Adapter { scale: f64::from(ALPHA) / RANK as f64, pairs }
    }
}

fn close(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().map(|v| v * v).sum::<f64>().sqrt();
    let apart = found.iter().zip(expected).map(|(f, e)| (f - e).powi(2)).sum::<f64>().sqrt();
    assert!(apart <= 1e-5 * size, "{what}: {:.1e} apart", apart / size);
}

fn check_case(case: &Value) {
    let name = case["architecture"].as_str().unwrap();
    let mode: Mode = serde_json::from_value(case["mode"].clone()).unwrap();
    let mut source = Numbers(case["seed"].as_u64().unwrap() as u32);
    let model = source.model(name);
    let adapter = source.adapter();
    let mut before = adapter.clone();
    for value in before.pairs.iter_mut().flat_map(|(_, a, b)| a.values.iter_mut().chain(&mut b.values)) {
        *value += 0.12 * source.draw();
    }
    let prompt = source.ids(5);
    let row = |prompt: Vec<i32>, sampled| Row { prompt, sampled };
    let mut rows = vec![row(prompt.clone(), source.ids(4)), row(prompt.clone(), source.ids(6))];
    rows.push(row([prompt, source.ids(3)].concat(), source.ids(3)));
    rows.push(row(source.ids(2), source.ids(5)));

    let found = logprobs(&model, &rows, Some(&adapter), T);
    close(&format!("{name} log-probabilities"), &found, &numbers(&case["logprobs"]));
    let old = logprobs(&model, &rows, Some(&before), T);
    close(&format!("{name} old"), &old, &numbers(&case["old"]));
    let reference = logprobs(&model, &rows, None, T);
    close(&format!("{name} reference"), &reference, &numbers(&case["reference"]));

    let narrow = |values: &[f64]| -> Vec<f32> { values.iter().map(|v| *v as f32).collect() };
    let old = narrow(&old);
    let sampler = old.iter().map(|old| (f64::from(*old) + 0.05 * source.draw()) as f32).collect();
    let scaling = Scaling { mode, ..Scaling::default() };
    let rated = [(1.0, 1), (0.0, 2), (0.0, 1)].map(|(r, turns)| Rated { outcome: Outcome::Reward(r), turns });
    let group = advantage::group(&scaling, &rated).unwrap();
    let advantages: Vec<f64> = group.advantages.iter().map(|a| f64::from(a.unwrap())).collect();
    close(&format!("{name} advantages"), &advantages, &numbers(&case["advantages"]));

    let rollouts = group.advantages.iter().map(|a| Rollout { group: 0, advantage: *a }).collect();
    let turn = |(row, rollout): (&Row, usize)| Turn { rollout, tokens: row.sampled.len(), truncated: false };
    let batch = Batch {
        weights: vec![1.0],
        rollouts,
        turns: rows.iter().zip([0, 1, 1, 2]).map(turn).collect(),
        forced: vec![false; old.len()],
        sampler,
        old: Some(old),
        reference: Some(narrow(&reference)),
    };
    let settings =
        Settings { kl_beta: 0.05, token_denominator: 16.0, outlier_least: None, ..Settings::of(mode) };
    let evaluation = evaluate(&settings, &batch, &narrow(&found)).unwrap();
    let stats = serde_json::to_value(evaluation.stats).unwrap();
    for (key, expected) in case["stats"].as_object().unwrap() {
        let (found, expected) = (stats[key].as_f64().unwrap(), expected.as_f64().unwrap());
        close(&format!("{name} {key}"), &[found], &[expected]);
    }
    let coefficients: Vec<f64> = evaluation.coefficients.iter().map(|c| f64::from(*c)).collect();
    let gradients = gradients(&model, &rows, &adapter, T, &coefficients);
    let flat: Vec<f64> = gradients.into_iter().flat_map(|(a, b)| a.into_iter().chain(b)).collect();
    close(&format!("{name} gradients"), &flat, &numbers(&case["gradients"]));
}

#[test]
fn model_objective_and_gradients_are_pytorchs() {
    let fixture = fixture();
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    cases.iter().for_each(check_case);
}

#[test]
fn steps_are_pytorchs() {
    let expected = &fixture()["adamw"];
    let settings: adamw::Settings = serde_json::from_value(expected["settings"].clone()).unwrap();
    let mut source = Numbers(77);
    let mut draw = |count: usize, scale: f64| -> Vec<f32> {
        (0..count).map(|_| (scale * source.draw()) as f32).collect()
    };
    let site = Site { tensor: "w".to_string(), n_in: 4, n_out: 4 };
    let mut lora = Lora::init(&[site], 3, 1.0, 0).unwrap();
    let Pair { a, b, .. } = &mut lora.pairs[0];
    (*a, *b) = (draw(12, 1.0), draw(12, 1.0));
    let mut optimizer = AdamW::new(settings, &lora).unwrap();
    for (step, scale) in expected["steps"].as_array().unwrap().iter().zip([1.0, 0.2, 3.0]) {
        let gradients = Gradients { pairs: vec![(draw(12, scale), draw(12, scale))] };
        let taken = optimizer.ascend(&mut lora, &gradients).unwrap();
        let norm = step["gradient_norm"].as_f64().unwrap();
        close("gradient's length", &[f64::from(taken.gradient_norm)], &[norm]);
        let pair = &lora.pairs[0];
        let values: Vec<f64> = pair.a.iter().chain(&pair.b).map(|v| f64::from(*v)).collect();
        let expected = numbers(&step["values"]);
        close("values", &values, &expected);
        // A step is a thousandth of a value: the change itself is held to its own bound.
        let worst = values.iter().zip(&expected).map(|(v, e)| (v - e).abs()).fold(0.0, f64::max);
        assert!(worst <= 2e-7, "{worst:e}");
    }
}
