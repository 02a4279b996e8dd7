//! How far two adapters of one model are apart: the divergence of whole distributions, token by token.
//!
//! ```text
//! KL(p || q) = sum_v p_v (l_v - m_v) / T - lse(l / T) + lse(m / T)      p = softmax(l / T), q = softmax(m / T)
//! ```
//!
//! Exact over the vocabulary where k3 of the sampled token is an estimate: a token that p took by a small chance
//! and q all but forbids stands in a sampled mean with its whole log-ratio, here with its chance times that.

use super::Policy;
use super::weights::{Panels, Sides};
use crate::train::error::TrainError;
use crate::train::kernels::{GROUP, Left, Product, Right, left, norm, words};
use crate::train::lora::Lora;
use crate::train::tree::Tree;

/// Vocabulary rows that are unpacked together.
const PART: usize = 4096;
/// Rows whose logits are held together, for each of the two.
const ROWS: usize = 96;

impl Policy {
    /// KL(from || to) of each row of two that `last` packed, in nats.
    pub(super) fn apart(&self, from: &[u32], to: &[u32], temperature: f32) -> Vec<f32> {
        let width = words(self.main.per_word(), self.spec.hidden);
        let blocks: Vec<_> = from.chunks(ROWS * width).zip(to.chunks(ROWS * width)).collect();
        let mut sums: Vec<Vec<Sums>> =
            blocks.iter().map(|(from, _)| vec![Sums::default(); from.len() / width]).collect();
        let mut scratch = Vec::new();
        scratch.resize_with(self.pool.threads(), Scratch::default);
        let mut panels = Panels::default();
        for first in (0..self.spec.vocabulary).step_by(PART) {
            let count = (self.spec.vocabulary - first).min(PART);
            let sides = Sides { forward: true, backward: false };
            let head = &self.weights.head;
            self.weights.pack(head, (first, count), self.main.per_word(), sides, (&self.pool, &mut panels));
            let items: Vec<_> = blocks.iter().zip(&mut sums).collect();
            self.pool.each(&mut scratch, items, |s: &mut Scratch, _, ((from, to), sums)| {
                self.logits(from, &panels, count, &mut s.from);
                self.logits(to, &panels, count, &mut s.to);
                let rows = s.from.chunks_exact(count).zip(s.to.chunks_exact(count));
                rows.zip(sums).for_each(|((from, to), sums)| sums.add(from, to, 1.0 / temperature));
            });
        }
        sums.iter().flatten().map(|sums| sums.divergence() as f32).collect()
    }

    /// The normed last hidden state of some nodes, packed for a product.
    pub(super) fn last(
        &self,
        tree: &Tree,
        lora: Option<&Lora>,
        nodes: &[usize],
        temperature: f32,
    ) -> Result<Vec<u32>, TrainError> {
        let run = self.prepare(tree, lora, temperature)?;
        let x = self.stream(&run.pass(self, tree), tree);
        let (hidden, per_word) = (self.spec.hidden, self.main.per_word());
        let gathered: Vec<f32> =
            nodes.iter().flat_map(|n| &x[n * hidden..(n + 1) * hidden]).copied().collect();
        let mut normed = vec![0.0; gathered.len()];
        norm(&gathered, &self.weights.output_norm, self.spec.eps, &mut normed);
        let mut packed = vec![0; nodes.len() * words(per_word, hidden)];
        left(per_word, &normed, hidden, hidden, &mut packed);
        Ok(packed)
    }

    fn logits(&self, rows: &[u32], panels: &Panels, count: usize, out: &mut Vec<f32>) {
        let steps = words(self.main.per_word(), self.spec.hidden);
        let n = rows.len() / steps;
        out.resize(n * count, 0.0);
        let product = Product {
            rows: n,
            columns: count,
            steps,
            left: Left { words: rows, row: steps, step: 1 },
            right: Right { words: &panels.forward, step: GROUP, group: steps * GROUP },
            low: None,
            add: false,
            stride: count,
        };
        self.main.multiply(&product, out);
    }
}

#[derive(Default)]
struct Scratch {
    from: Vec<f32>,
    to: Vec<f32>,
}

/// What a row has seen of the vocabulary, relative to the largest logit of each so far.
#[derive(Clone, Copy)]
struct Sums {
    largest: [f64; 2],
    /// sum e^(l - largest) of each
    weights: [f64; 2],
    /// sum e^(l - largest) (l - m)
    apart: f64,
}

impl Default for Sums {
    fn default() -> Sums {
        Sums { largest: [f64::NEG_INFINITY; 2], weights: [0.0; 2], apart: 0.0 }
    }
}

impl Sums {
    fn add(&mut self, from: &[f32], to: &[f32], scale: f32) {
        let scale = f64::from(scale);
        for (which, logits) in [from, to].into_iter().enumerate() {
            let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let new = self.largest[which].max(f64::from(most) * scale);
            // Nothing was there before the first part: 0 stays 0, also with a largest of minus infinity.
            let before = if self.weights[which] > 0.0 { (self.largest[which] - new).exp() } else { 0.0 };
            self.weights[which] *= before;
            if which == 0 {
                self.apart *= before;
            }
            self.largest[which] = new;
        }
        for (from, to) in from.iter().zip(to) {
            let (from, to) = (f64::from(*from) * scale, f64::from(*to) * scale);
            let weight = (from - self.largest[0]).exp();
            self.weights[0] += weight;
            self.weights[1] += (to - self.largest[1]).exp();
            self.apart += weight * (from - to);
        }
    }

    /// In nats; rounding alone can make it a hair less than 0.
    fn divergence(&self) -> f64 {
        let lse = |which: usize| self.largest[which] + self.weights[which].ln();
        (self.apart / self.weights[0] - lse(0) + lse(1)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(from: &[f32], to: &[f32], scale: f64) -> f64 {
        let log_p = |logits: &[f32]| {
            let scaled: Vec<f64> = logits.iter().map(|l| f64::from(*l) * scale).collect();
            let lse = scaled.iter().map(|l| l.exp()).sum::<f64>().ln();
            scaled.into_iter().map(|l| l - lse).collect::<Vec<f64>>()
        };
        let (p, q) = (log_p(from), log_p(to));
        p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
    }

    #[test]
    fn parts_of_the_vocabulary_add_up() {
        let logits = |seed: u32| -> Vec<f32> {
            (0..40_u32).map(|i| ((i * 7919 + seed * 104_729) % 1000) as f32 / 80.0 - 6.0).collect()
        };
        let (from, to) = (logits(1), logits(2));
        for (temperature, cuts) in [(1.0, vec![40]), (0.7, vec![1, 3, 36]), (2.0, vec![16, 16, 8])] {
            let mut sums = Sums::default();
            let mut at = 0;
            for cut in cuts {
                sums.add(&from[at..at + cut], &to[at..at + cut], 1.0 / temperature);
                at += cut;
            }
            let wanted = exact(&from, &to, 1.0 / f64::from(temperature));
            assert!(wanted > 0.1 && (sums.divergence() - wanted).abs() < 1e-6 * wanted, "{wanted}");
        }
        let mut same = Sums::default();
        same.add(&from, &from, 1.0);
        assert!(same.divergence() < 1e-12);
    }
}
