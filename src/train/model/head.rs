//! The head: log-probabilities of the targets alone, a part of the vocabulary at a time.
//!
//! ```text
//! logp = l_target / T - log sum_v e^(l_v / T)
//! dh   = sum_targets c (W_target - sum_v p_v W_v) / T
//! ```
//!
//! One pass over the vocabulary serves both: the sum of e^l and, where a gradient follows, the sum of e^l W
//! run along and are rescaled when a larger logit comes by. Nothing as long as the vocabulary is kept.

use super::attention::cut;
use super::layout::BLOCK;
use super::pass::Pass;
use super::weights::{Panels, Sides, Weights};
use crate::train::kernels::{GROUP, Left, Product, Right, left, norm, norm_back, softmax_rows, words};
use crate::train::tree::Tree;

/// Vocabulary rows that are unpacked together.
pub const PART: usize = 4096;

/// What the head keeps of a forward; rows are the nodes that have targets.
pub struct Head {
    pub nodes: Vec<usize>,
    /// By target: its row.
    pub row_of: Vec<usize>,
    /// By row: sum_v p_v W_v, if a gradient follows.
    pub expected: Vec<f32>,
    pub logprobs: Vec<f32>,
    /// Of the whole distribution at each target's node, in nats.
    pub entropies: Vec<f32>,
}

/// A row's softmax so far: largest logit, sum e^(l - largest), sum e^(l - largest) l.
type Running = (f32, f32, f32);

/// A block of rows on its way through the vocabulary.
struct Rows<'a> {
    words: &'a [u32],
    state: &'a mut [Running],
    expected: &'a mut [f32],
    /// (row in the block, token, logit)
    targets: Vec<(usize, usize, f32)>,
}

#[derive(Default)]
struct Scratch {
    logits: Vec<f32>,
    p: Vec<u32>,
}

impl Head {
    /// The nodes that have targets, in order, and by target its place among them.
    pub fn rows(tree: &Tree) -> (Vec<usize>, Vec<usize>) {
        let mut nodes: Vec<usize> = tree.targets.iter().map(|target| target.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let row_of = tree.targets.iter().map(|t| nodes.binary_search(&t.node).unwrap_or_default()).collect();
        (nodes, row_of)
    }

    /// dL/d(normed stream) of each row from dL/dlogprob of the targets, [rows][hidden].
    pub fn gradient(
        &self,
        weights: &Weights,
        tree: &Tree,
        coefficients: &[f32],
        temperature: f32,
    ) -> Vec<f32> {
        let hidden = weights.head.n_in;
        let mut dh = vec![0.0; self.nodes.len() * hidden];
        let mut row = vec![0.0; hidden];
        for ((target, c), at) in tree.targets.iter().zip(coefficients).zip(&self.row_of) {
            if *c == 0.0 {
                continue;
            }
            weights.rows(&weights.head, target.token as usize, &mut row);
            let expected = &self.expected[at * hidden..(at + 1) * hidden];
            let dh = &mut dh[at * hidden..(at + 1) * hidden];
            let c = c / temperature;
            for ((dh, w), mean) in dh.iter_mut().zip(&row).zip(expected) {
                *dh += c * (w - mean);
            }
        }
        dh
    }
}

impl Pass<'_> {
    pub fn head(&self, tree: &Tree, x: &[f32], temperature: f32, gradient: bool) -> Head {
        let (hidden, per_word) = (self.spec.hidden, self.main.per_word());
        let (nodes, row_of) = Head::rows(tree);
        let gathered: Vec<f32> =
            nodes.iter().flat_map(|n| &x[n * hidden..(n + 1) * hidden]).copied().collect();
        let mut normed = vec![0.0; gathered.len()];
        norm(&gathered, &self.weights.output_norm, self.spec.eps, &mut normed);
        let steps = words(per_word, hidden);
        let mut packed = vec![0; nodes.len() * steps];
        left(per_word, &normed, hidden, hidden, &mut packed);
        let mut state = vec![(f32::NEG_INFINITY, 0.0, 0.0); nodes.len()];
        let mut expected = vec![0.0; if gradient { normed.len() } else { 0 }];
        let logits = self.vocabulary(tree, &row_of, (&packed, &mut state, &mut expected), temperature);
        if gradient {
            for (expected, (_, sum, _)) in expected.chunks_exact_mut(hidden).zip(&state) {
                expected.iter_mut().for_each(|value| *value /= sum);
            }
        }
        let of_row = |row: usize| {
            let (largest, sum, weighted) = state[row];
            let lse = largest + sum.ln();
            (lse, lse - weighted / sum)
        };
        let logprobs = logits.iter().zip(&row_of).map(|(logit, row)| logit - of_row(*row).0).collect();
        let entropies = row_of.iter().map(|row| of_row(*row).1).collect();
        Head { nodes, row_of, expected, logprobs, entropies }
    }

    /// Take all rows through the vocabulary; answers the targets' logits over T.
    fn vocabulary(
        &self,
        tree: &Tree,
        row_of: &[usize],
        (packed, state, expected): (&[u32], &mut [Running], &mut [f32]),
        temperature: f32,
    ) -> Vec<f32> {
        let (hidden, vocabulary) = (self.spec.hidden, self.spec.vocabulary);
        let steps = words(self.main.per_word(), hidden);
        let gradient = !expected.is_empty();
        let rows = state.len();
        let blocks = || (0..rows).step_by(BLOCK).map(|from| (rows - from).min(BLOCK));
        let mut items: Vec<Rows> = packed
            .chunks(BLOCK * steps)
            .zip(state.chunks_mut(BLOCK))
            .zip(cut(expected, blocks().map(|rows| rows * hidden)))
            .map(|((words, state), expected)| Rows { words, state, expected, targets: Vec::new() })
            .collect();
        for (target, row) in tree.targets.iter().zip(row_of) {
            items[row / BLOCK].targets.push((row % BLOCK, target.token as usize, 0.0));
        }
        let mut scratch: Vec<Scratch> = Vec::new();
        scratch.resize_with(self.pool.threads(), Scratch::default);
        let mut panels = Panels::default();
        for first in (0..vocabulary).step_by(PART) {
            let part = (first, (vocabulary - first).min(PART));
            let sides = Sides { forward: true, backward: gradient };
            let matrix = &self.weights.head;
            self.weights.pack(matrix, part, self.main.per_word(), sides, (self.pool, &mut panels));
            self.pool.each(&mut scratch, items.iter_mut().collect(), |s, _, rows| {
                self.part(part, &panels, rows, 1.0 / temperature, s);
            });
        }
        // Targets were dealt out in order: take them back in the same.
        let mut taken = vec![0; items.len()];
        let mut next = |row: &usize| {
            let block = row / BLOCK;
            taken[block] += 1;
            items[block].targets[taken[block] - 1].2
        };
        row_of.iter().map(&mut next).collect()
    }

    /// One part of the vocabulary for one block of rows.
    fn part(
        &self,
        (first, count): (usize, usize),
        panels: &Panels,
        rows: &mut Rows,
        scale: f32,
        s: &mut Scratch,
    ) {
        let (hidden, per_word) = (self.spec.hidden, self.main.per_word());
        let steps = words(per_word, hidden);
        s.logits.resize(rows.state.len() * count, 0.0);
        let product = Product {
            rows: rows.state.len(),
            columns: count,
            steps,
            left: Left { words: rows.words, row: steps, step: 1 },
            right: Right { words: &panels.forward, step: GROUP, group: steps * GROUP },
            low: None,
            add: false,
            stride: count,
        };
        self.main.multiply(&product, &mut s.logits);
        for (row, token, logit) in &mut rows.targets {
            if (first..first + count).contains(token) {
                *logit = s.logits[*row * count + *token - first] * scale;
            }
        }
        let mut raw = Vec::new();
        for (row, (logits, state)) in s.logits.chunks_exact_mut(count).zip(&mut *rows.state).enumerate() {
            raw.clear();
            raw.extend_from_slice(logits);
            let (mut largest, mut sum) = softmax_rows(logits, scale);
            let mut weighted = dot(logits, &raw) * scale;
            // The larger of both maxima becomes the new reference.
            let new = largest.max(state.0);
            let (here, before) = ((largest - new).exp(), (state.0 - new).exp());
            if here != 1.0 {
                logits.iter_mut().for_each(|p| *p *= here);
                (sum, weighted) = (sum * here, weighted * here);
            }
            if before != 1.0
                && let Some(expected) = rows.expected.get_mut(row * hidden..(row + 1) * hidden)
            {
                expected.iter_mut().for_each(|value| *value *= before);
            }
            largest = new;
            *state = (largest, state.1 * before + sum, state.2 * before + weighted);
        }
        if rows.expected.is_empty() {
            return;
        }
        let steps = words(per_word, count);
        s.p.resize(rows.state.len() * steps, 0);
        left(per_word, &s.logits, count, count, &mut s.p);
        let product = Product {
            rows: rows.state.len(),
            columns: hidden,
            steps,
            left: Left { words: &s.p, row: steps, step: 1 },
            right: Right { words: &panels.backward, step: GROUP, group: steps * GROUP },
            low: None,
            add: true,
            stride: hidden,
        };
        self.main.multiply(&product, rows.expected);
    }

    /// dL/dx of all nodes from dL/dlogprob of the targets.
    pub fn head_back(
        &self,
        tree: &Tree,
        x: &[f32],
        head: &Head,
        coefficients: &[f32],
        temperature: f32,
    ) -> Vec<f32> {
        let hidden = self.spec.hidden;
        let dh = head.gradient(self.weights, tree, coefficients, temperature);
        let mut d = vec![0.0; self.layout.nodes * hidden];
        for (node, dh) in head.nodes.iter().zip(dh.chunks_exact(hidden)) {
            let range = node * hidden..(node + 1) * hidden;
            norm_back(&x[range.clone()], &self.weights.output_norm, self.spec.eps, dh, &mut d[range]);
        }
        d
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut parts = [0.0_f32; 16];
    let ((a16, a_rest), (b16, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a16.iter().zip(b16) {
        parts.iter_mut().zip(a).zip(b).for_each(|((part, a), b)| *part += a * b);
    }
    parts.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}
