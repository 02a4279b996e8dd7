//! The policy against itself and against arithmetic: finite differences, tree against rows, types, threads.

use std::path::PathBuf;

use super::*;
use crate::gguf::TensorType;
use crate::gguf::toy::{Architecture, Shape, ToyModel};
use crate::train::tree::{Segment, Target};

/// A model file of random weights in a folder that goes with it.
pub fn toy(architecture: Architecture, kind: TensorType, tied: bool) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("toy.gguf");
    ToyModel { architecture, kind, tied, seed: 7, ..ToyModel::default() }.write(&path).unwrap();
    (dir, path)
}

fn policy(path: &std::path::Path, precision: Precision, threads: usize) -> Policy {
    Policy::open_with(path, Options { threads, precision, ..Options::default() }).unwrap()
}

/// Numbers of about this size, the same for the same seed.
fn noise(seed: u64, size: f32) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * size
    }
}

pub fn lora(policy: &Policy, rank: usize) -> Lora {
    let mut next = noise(3, 0.3);
    let pairs = policy.lora_shapes().into_iter().map(|(tensor, n_in, n_out)| crate::train::lora::Pair {
        tensor,
        n_in,
        n_out,
        a: (0..rank * n_in).map(|_| next()).collect(),
        b: (0..rank * n_out).map(|_| next()).collect(),
    });
    Lora { rank, alpha: rank as f32, pairs: pairs.collect() }
}

/// Segments of these lengths under these parents, with targets on the last half of each.
fn tree(segments: &[(usize, Option<usize>)]) -> Tree {
    let mut tree = Tree::default();
    let mut next = noise(11, 200.0);
    for (len, parent) in segments {
        let start = tree.tokens.len();
        let depth = parent.map_or(0, |parent| {
            let parent: &Segment = &tree.segments[parent];
            tree.positions[parent.start] + parent.len as i32
        });
        tree.tokens.extend((0..*len).map(|_| 201 + next() as i32));
        tree.positions.extend((0..*len).map(|offset| depth + offset as i32));
        let row = tree.segments.len();
        for (index, node) in (start + len / 2..start + len).enumerate() {
            tree.targets.push(Target { node, token: 201 + next() as i32, row, index });
        }
        tree.segments.push(Segment { start, len: *len, parent: *parent });
    }
    tree
}

/// A trunk longer than a block, branches of odd lengths, a branch of a branch, a second root.
pub fn branching() -> Tree {
    tree(&[(117, None), (23, Some(0)), (1, Some(1)), (40, Some(1)), (101, Some(0)), (9, Some(4)), (30, None)])
}

/// dL/dlogprob that differ in sign and size.
pub fn coefficients(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7 % 11) as f32 - 5.0) / 5.0).collect()
}

fn gradients(policy: &Policy, tree: &Tree, lora: &Lora) -> (Vec<f32>, Gradients) {
    policy.gradients(tree, lora, 0.7, &mut |logprobs| coefficients(logprobs.len())).unwrap()
}

pub fn flat(gradients: &Gradients) -> Vec<f32> {
    gradients.pairs.iter().flat_map(|(a, b)| a.iter().chain(b)).copied().collect()
}

/// |a - b| / |b|
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        a.iter().zip(b).map(|(a, b)| f(f64::from(*a), f64::from(*b))).sum()
    };
    (sum(&|a, b| (a - b).powi(2)) / sum(&|_, b| b * b)).sqrt()
}

const ALL: [Architecture; 3] = [Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3];

#[test]
fn gradients_are_the_slopes_of_the_objective() {
    for (architecture, tied) in ALL.into_iter().zip([false, true, true]) {
        let (_dir, path) = toy(architecture, TensorType::F32, tied);
        let policy = policy(&path, Precision::F32, 2);
        let tree = branching();
        let lora = lora(&policy, 3);
        let (_, gradients) = gradients(&policy, &tree, &lora);
        let objective = |lora: &Lora| -> f64 {
            let logprobs = policy.logprobs(&tree, Some(lora), 0.7).unwrap();
            let terms = logprobs.iter().zip(coefficients(logprobs.len()));
            terms.map(|(l, c)| f64::from(*l) * f64::from(c)).sum()
        };
        // Along each pair's own gradient the slope is its length; f32 objectives allow no more than this.
        for (index, (a, b)) in gradients.pairs.iter().enumerate() {
            let length = a.iter().chain(b).map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            let step = 2e-3 / length;
            let at = |sign: f64| {
                let mut moved = lora.clone();
                let pair = &mut moved.pairs[index];
                for (values, slopes) in [(&mut pair.a, a), (&mut pair.b, b)] {
                    for (value, slope) in values.iter_mut().zip(slopes) {
                        *value += (f64::from(*slope) * step * sign) as f32;
                    }
                }
                objective(&moved)
            };
            let slope = (at(1.0) - at(-1.0)) / (2.0 * 2e-3);
            let off = (slope - length).abs() / length;
            assert!(off < 2e-2, "{architecture:?} {}: {slope} against {length}", lora.pairs[index].tensor);
        }
    }
}

/// Every token of the vocabulary as a target of some nodes: their whole distributions.
#[test]
fn divergences_are_those_of_the_whole_distributions() {
    for (architecture, tied) in ALL.into_iter().zip([false, true, true]) {
        let (_dir, path) = toy(architecture, TensorType::F32, tied);
        let policy = policy(&path, Precision::F32, 2);
        let lora = lora(&policy, 3);
        let asked = branching();
        let mut whole = asked.clone();
        let nodes = [58, 139, 320];
        let vocabulary = policy.spec.vocabulary;
        whole.targets = nodes
            .iter()
            .flat_map(|node| {
                (0..vocabulary).map(|token| Target { node: *node, token: token as i32, row: 0, index: 0 })
            })
            .collect();
        for pair in [(None, Some(&lora)), (Some(&lora), None), (Some(&lora), Some(&lora))] {
            let found = policy.divergences(&asked, pair, 0.7).unwrap();
            assert_eq!(found.len(), asked.targets.len());
            let from = policy.logprobs(&whole, pair.0, 0.7).unwrap();
            let to = policy.logprobs(&whole, pair.1, 0.7).unwrap();
            for (place, node) in nodes.iter().enumerate() {
                let range = place * vocabulary..(place + 1) * vocabulary;
                let terms = from[range.clone()].iter().zip(&to[range]);
                let exact: f64 =
                    terms.map(|(p, q)| f64::from(*p).exp() * (f64::from(*p) - f64::from(*q))).sum();
                let at = asked.targets.iter().position(|target| target.node == *node).unwrap();
                let off = (f64::from(found[at]) - exact).abs();
                assert!(off < 1e-5 + 1e-3 * exact, "{architecture:?} node {node}: {} for {exact}", found[at]);
                assert_eq!(exact > 1e-3, pair != (Some(&lora), Some(&lora)), "{exact}");
            }
        }
    }
}

#[test]
fn a_tree_is_its_rows() {
    let whole = branching();
    for architecture in ALL {
        let (_dir, path) = toy(architecture, TensorType::F32, true);
        let policy = policy(&path, Precision::F32, 2);
        let lora = lora(&policy, 4);
        let (logprobs, together) = gradients(&policy, &whole, &lora);
        let all = coefficients(whole.targets.len());
        let mut apart: Vec<f32> = Vec::new();
        for (row, last) in whole.segments.iter().enumerate() {
            let mut path: Vec<&Segment> =
                std::iter::successors(Some(last), |s| s.parent.map(|p| &whole.segments[p])).collect();
            path.reverse();
            let nodes: Vec<usize> = path.iter().flat_map(|s| s.start..s.start + s.len).collect();
            let mine: Vec<usize> = (0..all.len()).filter(|i| whole.targets[*i].row == row).collect();
            let position = |node: usize| nodes.iter().position(|n| *n == node).unwrap();
            let line = Tree {
                tokens: nodes.iter().map(|n| whole.tokens[*n]).collect(),
                positions: (0..nodes.len() as i32).collect(),
                segments: vec![Segment { start: 0, len: nodes.len(), parent: None }],
                targets: mine
                    .iter()
                    .map(|i| Target { node: position(whole.targets[*i].node), ..whole.targets[*i] })
                    .collect(),
            };
            let own: Vec<f32> = mine.iter().map(|i| all[*i]).collect();
            let (line_logprobs, one) = policy.gradients(&line, &lora, 0.7, &mut |_| own.clone()).unwrap();
            for (i, logprob) in mine.iter().zip(&line_logprobs) {
                assert!((logprobs[*i] - logprob).abs() <= 1e-5, "{} {logprob}", logprobs[*i]);
            }
            let one = flat(&one);
            apart.resize(one.len(), 0.0);
            apart.iter_mut().zip(one).for_each(|(sum, value)| *sum += value);
        }
        let off = distance(&flat(&together), &apart);
        assert!(off <= 1e-5, "{architecture:?}: {off}");
    }
}

#[test]
fn heads_of_any_even_width_are_computed() {
    // 24 and 40 values per head are no whole groups of 16 columns.
    for (hidden, heads) in [(96, 4), (160, 4)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("toy.gguf");
        let shape = Shape { hidden, heads, feed_forward: 80, ..ToyModel::default().shape };
        ToyModel { shape, architecture: Architecture::Llama, ..ToyModel::default() }.write(&path).unwrap();
        let wide = policy(&path, Precision::F32, 2);
        let (tree, lora) = (branching(), lora(&wide, 4));
        let (_, exact) = gradients(&wide, &tree, &lora);
        let (_, near) = gradients(&policy(&path, Precision::Bf16, 2), &tree, &lora);
        let off = distance(&flat(&near), &flat(&exact));
        assert!(off < 5e-2, "{hidden} {heads}: {off}");
    }
}

#[test]
fn what_was_kept_is_what_is_computed_again() {
    for (architecture, precision) in
        [(Architecture::Qwen2, Precision::F32), (Architecture::Qwen3, Precision::Bf16)]
    {
        let (_dir, path) = toy(architecture, TensorType::Q8_0, true);
        let tree = branching();
        let (nodes, slots) = (tree.tokens.len(), memory::slots(tree.tokens.len()));
        let of = |layers: u64| {
            let bare = policy(&path, precision, 2);
            let stash = layers * Stash::bytes(&bare.spec, nodes, slots, bare.main.per_word());
            let policy = Policy::open_with(&path, Options { threads: 2, precision, stash }).unwrap();
            let least = policy.least_memory(nodes, tree.targets.len(), 4);
            assert_eq!(policy.stashed((nodes, slots), least) as u64, layers);
            assert_eq!(policy.memory_needed(nodes, tree.targets.len(), 4), least + stash);
            gradients(&policy, &tree, &lora(&policy, 4))
        };
        // None, the last layer alone, both.
        let none = of(0);
        assert_eq!(of(1), none);
        assert_eq!(of(2), none);
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (_dir, path) = toy(Architecture::Qwen2, TensorType::Q8_0, true);
    let tree = branching();
    for precision in [Precision::F32, Precision::Bf16] {
        let of = |threads: usize| {
            let policy = policy(&path, precision, threads);
            gradients(&policy, &tree, &lora(&policy, 4))
        };
        let one = of(1);
        for threads in [2, 3, 5] {
            assert_eq!(of(threads), one, "{threads} threads");
        }
    }
}

#[test]
fn packed_weights_are_their_unpacked_values_straight_through() {
    // The same numbers, once packed and once written out as F32: nothing but the file differs.
    for kind in [TensorType::Q8_0, TensorType::Q4_0, TensorType::F16] {
        let (dir, path) = toy(Architecture::Qwen2, kind, true);
        let packed = policy(&path, Precision::F32, 1);
        let plain = dir.path().join("plain.gguf");
        unpacked(&packed, &plain);
        let plain = policy(&plain, Precision::F32, 1);
        let (tree, lora) = (branching(), lora(&packed, 4));
        assert_eq!(gradients(&packed, &tree, &lora), gradients(&plain, &tree, &lora), "{}", kind.name);
    }
}

/// The policy's model again, every matrix as F32.
fn unpacked(policy: &Policy, out: &std::path::Path) {
    let header = policy.header();
    let mut plan = crate::gguf::write::Plan::default();
    header.metadata.iter().for_each(|entry| plan.set(entry.key.clone(), entry.value.clone()));
    header.tensors.iter().for_each(|tensor| plan.tensor(&tensor.name, &tensor.dims, TensorType::F32));
    let mut writer = plan.start(std::fs::File::create(out).unwrap()).unwrap();
    for tensor in &header.tensors {
        writer.values(&policy.weights.tensor(header, &tensor.name)).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn bf16_products_are_near_f32_ones() {
    for architecture in ALL {
        let (_dir, path) = toy(architecture, TensorType::Q8_0, true);
        let (wide, narrow) = (policy(&path, Precision::F32, 2), policy(&path, Precision::Bf16, 2));
        if wide.kernels() == narrow.kernels() {
            continue; // this processor has no bf16 products
        }
        let (tree, lora) = (branching(), lora(&wide, 4));
        let ((exact_logprobs, exact), (logprobs, near)) =
            (gradients(&wide, &tree, &lora), gradients(&narrow, &tree, &lora));
        let largest = exact_logprobs.iter().zip(&logprobs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let off = distance(&flat(&near), &flat(&exact));
        eprintln!("{architecture:?}: bf16 gradients off by {off:.2e}, logprobs by {largest:.2e}");
        assert!(largest < 5e-2 && off < 5e-2, "{architecture:?} {largest} {off}");
        assert!(off > 0.0, "both computed the same: the choice does nothing");
    }
}

#[test]
fn entropies_and_logprobs_are_those_of_one_distribution() {
    let (_dir, path) = toy(Architecture::Llama, TensorType::F32, false);
    let policy = policy(&path, Precision::F32, 1);
    let mut tree = tree(&[(5, None)]);
    // Every token of the vocabulary as a target of one node.
    tree.targets = (0..512).map(|token| Target { node: 4, token, row: 0, index: token as usize }).collect();
    let scores = policy.scores(&tree, Some(&lora(&policy, 4)), 0.5).unwrap();
    let total: f64 = scores.logprobs.iter().map(|l| f64::from(*l).exp()).sum();
    let entropy: f64 = scores.logprobs.iter().map(|l| -f64::from(*l).exp() * f64::from(*l)).sum();
    assert!((total - 1.0).abs() < 1e-5, "{total}");
    assert!((f64::from(scores.entropies[0]) - entropy).abs() < 1e-4, "{} {entropy}", scores.entropies[0]);
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let (_dir, path) = toy(Architecture::Qwen2, TensorType::F32, true);
    let policy = policy(&path, Precision::F32, 1);
    let good = lora(&policy, 2);
    let refused = |change: &dyn Fn(&mut Tree, &mut Lora)| {
        let (mut tree, mut lora) = (branching(), good.clone());
        change(&mut tree, &mut lora);
        policy.logprobs(&tree, Some(&lora), 1.0).unwrap_err().to_string()
    };
    for (text, expected) in [
        (refused(&|tree, _| tree.tokens[3] = 512), "vocabulary of 512"),
        (refused(&|tree, _| tree.targets[0].node = 9999), "9999"),
        (refused(&|tree, _| tree.targets.clear()), "nothing can be learned"),
        (refused(&|tree, _| tree.positions[150] += 1), "position"),
        (refused(&|tree, _| tree.segments[2].parent = Some(5)), "segment 2"),
        (refused(&|_, lora| lora.rank = 0), "rank 0"),
        (refused(&|_, lora| lora.pairs[0].tensor = "token_embd.weight".into()), "no linear"),
        (refused(&|_, lora| lora.pairs[1].a.truncate(5)), "attn_k"),
        (refused(&|_, lora| lora.pairs[2].b[0] = f32::NAN), "not finite"),
    ] {
        assert!(text.contains(expected), "{text}");
    }
    let lora = good.clone();
    let nan = policy.gradients(&branching(), &lora, 1.0, &mut |l| vec![f32::NAN; l.len()]);
    assert!(matches!(nan, Err(TrainError::NotFinite { .. })));
    assert!(policy.logprobs(&branching(), None, 0.0).is_err());
}
