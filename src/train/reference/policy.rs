//! The trainer against the reference: log-probabilities and gradients of a prefix tree in f32 and bf16.

use super::tests::{adapter, noise};
use super::*;
use crate::gguf::toy::{Architecture, ToyModel};
use crate::train::kernels::Precision;
use crate::train::lora::sites;
use crate::train::model::{Options, Policy};
use crate::train::passes::Passes;
use crate::train::tree::Tree;

/// Rows that share prompts and first plans, as a group's do.
fn group() -> Vec<Row> {
    let mut state = 31;
    let mut ids = |count: usize| -> Vec<i32> {
        (0..count).map(|_| (250.0 * (noise(&mut state) + 1.0)) as i32).collect()
    };
    let (prompt, plan) = (ids(40), ids(9));
    let mut rows: Vec<Row> =
        [12, 5, 20].map(|count| Row { prompt: prompt.clone(), sampled: ids(count) }).into();
    rows.push(Row { prompt: prompt.clone(), sampled: [plan.clone(), ids(4)].concat() });
    rows.push(Row { prompt: prompt.clone(), sampled: plan.clone() });
    rows.push(Row { prompt: [prompt, plan, ids(17)].concat(), sampled: ids(8) });
    rows.push(Row { prompt: ids(3), sampled: ids(3) });
    rows
}

#[test]
fn the_policy_computes_what_the_reference_computes() {
    use Architecture::{Llama, Qwen2, Qwen3};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("toy.gguf");
    let rows = group();
    let tree = Tree::build(&rows);
    let coefficients: Vec<f64> =
        (0..tree.targets.len()).map(|at| ((at * 7 % 11) as f64 - 5.0) / 5.0).collect();
    let narrow: Vec<f32> = coefficients.iter().map(|c| *c as f32).collect();
    let cases = [
        (Llama, false, TensorType::F32),
        (Qwen2, true, TensorType::F32),
        (Qwen3, true, TensorType::F32),
        // Straight through: the gradients are those of the unpacked weights.
        (Llama, true, TensorType::Q8_0),
        (Qwen2, false, TensorType::Q4_0),
    ];
    for (architecture, tied, kind) in cases {
        ToyModel { architecture, tied, kind, ..ToyModel::default() }.write(&path).unwrap();
        let model = Model::from_gguf(&path).unwrap();
        let mut lora = Lora::init(&sites(&check(&path).unwrap()), 3, 6.0, 3).unwrap();
        for (pair, (_, _, b)) in lora.pairs.iter_mut().zip(adapter(&check(&path).unwrap(), 3).pairs) {
            pair.b = b.values.iter().map(|b| *b as f32).collect();
        }
        let wide = Adapter::from_lora(&lora);
        let expected = logprobs(&model, &rows, Some(&wide), 0.7);
        let exact = gradients(&model, &rows, &wide, 0.7, &coefficients);
        for (precision, logprob_bound, gradient_bound) in
            [(Precision::F32, 1e-4, 1e-4), (Precision::Bf16, 1e-1, 5e-2)]
        {
            let policy = Policy::open_with(&path, Options { threads: 1, precision, stash: 0 }).unwrap();
            let (found, gradients) = policy.gradients(&tree, &lora, 0.7, &mut |_| narrow.clone()).unwrap();
            let apart = found.iter().zip(&expected).map(|(f, e)| (f64::from(*f) - e).abs());
            let apart = apart.fold(0.0, f64::max);
            let error = relative_error(&gradients, &exact);
            let case = format!("{architecture:?} {} {precision:?}: {apart:.1e} {error:.1e}", kind.name);
            println!("{case}");
            assert!(apart <= logprob_bound && error <= gradient_bound, "{case}");
        }
    }
}
