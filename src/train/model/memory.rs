//! What a step takes, before it is taken: an estimate from above, of the process's own memory.
//!
//! The mapped model file is not counted: its pages are the system's to drop, and shared with the engine.

use super::head::PART;
use super::layout::{BLOCK, LANES};
use super::spec::{LINEARS, Spec};

/// Bytes for gradients over a tree of `nodes` nodes and `targets` targets. `per_word`: values in a packed
/// word; `kept`: packed weights of all layers stay.
pub fn needed(
    spec: &Spec,
    (nodes, targets, rank): (usize, usize, usize),
    (per_word, threads, kept): (usize, usize, bool),
) -> u64 {
    let linears = |of: &dyn Fn((usize, usize)) -> usize| -> u64 {
        (0..LINEARS.len()).map(|which| of(spec.linear(which)) as u64).sum()
    };
    let [nodes, targets, rank, threads, blocks] =
        [nodes, targets, rank, threads, spec.blocks].map(|n| n as u64);
    let [hidden, wide] = [spec.hidden, spec.feed_forward].map(|n| n as u64);
    let [q, kv] = [spec.q_width(), spec.kv_width()].map(|n| n as u64);
    let [block, part, lanes] = [BLOCK, PART.min(spec.vocabulary), LANES].map(|n| n as u64);
    let word = 4 / per_word as u64;
    let slots = slots(nodes as usize) as u64;
    let weights = 2 * word * linears(&|(n_in, n_out)| n_in * n_out) * if kept { blocks } else { 1 };
    let activations = 4 * nodes * (hidden * (blocks + 3) + 3 * q + if spec.qk_norm { q + kv } else { 0 });
    let attention_lanes = (lanes / (spec.heads_kv as u64)).max(1);
    let keys_values = slots * kv * (4 * word + 2 * 4 * attention_lanes) + 8 * nodes * spec.heads as u64;
    let layer_pairs = rank * linears(&|(n_in, n_out)| n_in + n_out);
    let pairs = 4 * layer_pairs * (lanes + 6 * blocks);
    let rows = 4 * (4 * wide + 2 * hidden.max(q) + 3 * q + 2 * kv) + word * (3 * wide + 2 * hidden + q);
    let scores = nodes.min(8192) * (8 + 4 * word);
    let head = targets * hidden * (4 * 4 + word) + 2 * word * part * hidden;
    let in_thread = block * (rows + scores + part * (4 + word)) + 4 * 16 * wide.max(hidden);
    weights + activations + keys_values + pairs + head + threads * in_thread
}

/// Slots of a tree of so many nodes, from above: segments start at whole groups of 16, short ones waste half.
pub fn slots(nodes: usize) -> usize {
    nodes * 3 / 2 + 64
}
