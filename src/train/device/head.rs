//! The head on the device: a part of the vocabulary at a time, logits never longer than that.
//!
//! Of each part a row keeps log sum e^l, the mean of l and, where a gradient follows, sum p W; parts are joined on
//! the host. log sum e^l is l_j - log p_j at the row's largest logit, the one place where p cannot vanish.

use std::cell::Cell;
use std::rc::Rc;

use super::ffi::{Backends, Graph, Kind, Store, Tensor};
use super::weights::{Held, turned, unpacked};
use super::{Forward, fault};
use crate::train::error::TrainError;
use crate::train::model::head::Head;
use crate::train::model::spec::Spec;
use crate::train::model::weights::Weights;
use crate::train::tree::Tree;

/// Rows that go through a part together.
const ROWS: usize = 1024;

/// The head's parts on the device: W and, for a gradient, W transposed.
pub struct Parts {
    stores: Vec<(Store, Held)>,
    /// Vocabulary rows of a part.
    part: usize,
    vocabulary: usize,
}

#[derive(Clone, Copy)]
struct Part<'a> {
    store: &'a Store,
    first: usize,
    count: usize,
}

pub fn part_bytes(spec: &Spec, weights: &Weights, forward: Forward, part: usize) -> u64 {
    let rows = part.min(spec.vocabulary) as u64;
    forward.bytes(&weights.head) / spec.vocabulary as u64 * rows + 4 * rows * spec.hidden as u64
}

/// Bytes of a pass's rows, from above.
pub fn rows_bytes(spec: &Spec, rows: usize, part: usize) -> u64 {
    (4 * rows * spec.hidden + 4 * 5 * rows.min(ROWS) * part.min(spec.vocabulary)) as u64
}

/// What is computed of a part with every row.
struct Seen<'g> {
    logits: Tensor<'g>,
    p: Tensor<'g>,
    /// Largest logit and its probability, by row.
    largest: [Tensor<'g>; 2],
}

impl Parts {
    pub fn new(
        backends: &Rc<Backends>,
        (spec, weights): (&Spec, &Weights),
        forward: Forward,
        (part, places): (usize, usize),
    ) -> Result<Parts, TrainError> {
        let part = part.min(spec.vocabulary);
        let shapes =
            [(forward.kind(&weights.head), vec![spec.hidden, part]), (Kind::F32, vec![part * spec.hidden])];
        let make = |_| {
            let store = Store::new(backends, &shapes).map_err(|why| fault(backends, why))?;
            Ok((store, Cell::new(None)))
        };
        let stores = (0..places.max(1)).map(make).collect::<Result<_, TrainError>>()?;
        Ok(Parts { stores, part, vocabulary: spec.vocabulary })
    }

    fn parts(&self) -> usize {
        self.vocabulary.div_ceil(self.part)
    }

    fn part(&self, weights: &Weights, forward: Forward, index: usize, back: bool) -> Part<'_> {
        let (store, held) = &self.stores[index % self.stores.len()];
        let first = index * self.part;
        let count = self.part.min(self.vocabulary - first);
        let there = matches!(held.get(), Some((part, both)) if part == index && (both || !back));
        if !there {
            forward.write(weights, &weights.head, (first, count), store.get(0));
            if back {
                let rows = unpacked(weights, &weights.head, (first, count));
                store.get(1).set(&turned(&rows, weights.head.n_in));
            }
            held.set(Some((index, back)));
        }
        Part { store, first, count }
    }

    /// Take normed rows, [rows][hidden], through the vocabulary.
    pub fn head(
        &self,
        (backends, weights, forward): (&Rc<Backends>, &Weights, Forward),
        tree: &Tree,
        normed: &[f32],
        (temperature, gradient): (f32, bool),
    ) -> Result<Head, TrainError> {
        let failed = |why: String| fault(backends, why);
        let (nodes, row_of) = Head::rows(tree);
        let hidden = weights.head.n_in;
        let shapes = [(Kind::F32, vec![hidden, nodes.len()]), (Kind::I32, vec![tree.targets.len()])];
        let store = Store::new(backends, &shapes).map_err(failed)?;
        store.get(0).set(normed);
        let mut rows = vec![Row::default(); nodes.len()];
        let mut expected = vec![0.0; if gradient { normed.len() } else { 0 }];
        let mut logits = vec![0.0_f32; tree.targets.len()];
        for index in 0..self.parts() {
            let part = self.part(weights, forward, index, gradient);
            for first in (0..nodes.len()).step_by(ROWS) {
                let count = ROWS.min(nodes.len() - first);
                let here: Vec<usize> = (0..tree.targets.len())
                    .filter(|t| (first..first + count).contains(&row_of[*t]))
                    .filter(|t| {
                        (part.first..part.first + part.count).contains(&(tree.targets[*t].token as usize))
                    })
                    .collect();
                let ids: Vec<i32> = here
                    .iter()
                    .map(|t| (row_of[*t] - first) * part.count + tree.targets[*t].token as usize - part.first)
                    .map(|id| id as i32)
                    .collect();
                store.get(1).set_ids(&ids);
                let graph = Graph::new().map_err(failed)?;
                let g = &graph;
                let seen = part.seen(g, g.columns(store.get(0), first, count), temperature);
                let mut outputs =
                    vec![seen.largest[0], seen.largest[1], g.sum_rows(g.mul(seen.p, seen.logits))];
                if gradient {
                    outputs.push(g.mul_mat(part.transposed(g, hidden), seen.p));
                }
                if !ids.is_empty() {
                    let flat = g.reshape(seen.logits, [1, part.count * count, 1, 1]);
                    let bytes = 4 * ids.len();
                    outputs
                        .push(g.get_rows(flat, g.view(store.get(1), [ids.len(), 1, 1], (bytes, bytes), 0)));
                }
                let mut found = backends.run(g, &outputs).map_err(failed)?;
                if !ids.is_empty() {
                    let of_targets = found.pop().unwrap_or_default();
                    here.iter().zip(of_targets).for_each(|(target, logit)| logits[*target] = logit);
                }
                for (at, row) in rows[first..first + count].iter_mut().enumerate() {
                    let (before, now) = row.add(found[0][at], found[1][at], found[2][at]);
                    if gradient {
                        let own = (first + at) * hidden..(first + at + 1) * hidden;
                        let of_part = &found[3][at * hidden..(at + 1) * hidden];
                        let own = expected[own].iter_mut().zip(of_part);
                        own.for_each(|(sum, part)| *sum = before * *sum + now * part);
                    }
                }
            }
        }
        let logprobs =
            logits.iter().zip(&row_of).map(|(l, row)| (f64::from(*l) - rows[*row].lse) as f32).collect();
        let entropies = row_of.iter().map(|row| (rows[*row].lse - rows[*row].mean) as f32).collect();
        Ok(Head { nodes, row_of, expected, logprobs, entropies })
    }

    /// KL(from || to) of each row of two, in nats.
    pub fn divergences(
        &self,
        (backends, weights, forward): (&Rc<Backends>, &Weights, Forward),
        (from, to): (&[f32], &[f32]),
        temperature: f32,
    ) -> Result<Vec<f32>, TrainError> {
        let failed = |why: String| fault(backends, why);
        let hidden = weights.head.n_in;
        let count_all = from.len() / hidden;
        let shapes = [(Kind::F32, vec![hidden, count_all]), (Kind::F32, vec![hidden, count_all])];
        let store = Store::new(backends, &shapes).map_err(failed)?;
        store.get(0).set(from);
        store.get(1).set(to);
        // Of each row: what `from` says, its mean being that of l - m, and what `to` says.
        let mut rows = vec![(Row::default(), Row::default()); count_all];
        for index in 0..self.parts() {
            let part = self.part(weights, forward, index, false);
            for first in (0..count_all).step_by(ROWS) {
                let count = ROWS.min(count_all - first);
                let graph = Graph::new().map_err(failed)?;
                let g = &graph;
                let from = part.seen(g, g.columns(store.get(0), first, count), temperature);
                let to = part.seen(g, g.columns(store.get(1), first, count), temperature);
                let apart = g.sum_rows(g.mul(from.p, g.sub(from.logits, to.logits)));
                let outputs = [from.largest[0], from.largest[1], apart, to.largest[0], to.largest[1]];
                let found = backends.run(g, &outputs).map_err(failed)?;
                for (at, (from, to)) in rows[first..first + count].iter_mut().enumerate() {
                    from.add(found[0][at], found[1][at], found[2][at]);
                    to.add(found[3][at], found[4][at], 0.0);
                }
            }
        }
        Ok(rows.iter().map(|(from, to)| (from.mean - from.lse + to.lse).max(0.0) as f32).collect())
    }
}

impl<'a> Part<'a> {
    fn transposed<'g>(self, g: &'g Graph, hidden: usize) -> Tensor<'g>
    where
        'a: 'g,
    {
        let row = 4 * self.count;
        g.view(self.store.get(1), [self.count, hidden, 1], (row, row * hidden), 0)
    }

    /// Logits over T of some rows, their softmax within the part, and the largest of both.
    fn seen<'g>(self, g: &'g Graph, rows: Tensor<'g>, temperature: f32) -> Seen<'g>
    where
        'a: 'g,
    {
        let count = rows.dim(1);
        let matrix = g.columns(self.store.get(0), 0, self.count);
        let logits = g.scale(g.mul_mat(matrix, rows), 1.0 / temperature);
        let p = g.soft_max(logits);
        let at = g.reshape(g.argmax(logits), [1, count, 1, 1]);
        let largest = [logits, p].map(|x| g.get_rows(g.reshape(x, [1, self.count, count, 1]), at));
        Seen { logits, p, largest }
    }
}

/// A row's softmax over the parts so far.
#[derive(Clone, Copy)]
struct Row {
    /// log sum e^l
    lse: f64,
    /// sum p x, x being a part's third number
    mean: f64,
}

impl Default for Row {
    fn default() -> Row {
        Row { lse: f64::NEG_INFINITY, mean: 0.0 }
    }
}

impl Row {
    /// Join a part by its largest logit, the probability of that within the part, and its mean; answers the
    /// weights of what was there before and of the part.
    fn add(&mut self, largest: f32, p: f32, mean: f32) -> (f32, f32) {
        let part = f64::from(largest) - f64::from(p).ln();
        let most = self.lse.max(part);
        let lse = most + ((self.lse - most).exp() + (part - most).exp()).ln();
        let (before, now) = ((self.lse - lse).exp(), (part - lse).exp());
        self.mean = before * self.mean + now * f64::from(mean);
        self.lse = lse;
        (before as f32, now as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_join_to_the_whole() {
        let logits: Vec<f32> = (0..37_u32).map(|i| (i * 7919 % 100) as f32 / 9.0 - 4.0).collect();
        let whole = logits.iter().map(|l| f64::from(*l).exp()).sum::<f64>();
        let mean = logits.iter().map(|l| f64::from(*l).exp() / whole * f64::from(*l)).sum::<f64>();
        let mut row = Row::default();
        for part in [&logits[..1], &logits[1..20], &logits[20..]] {
            let sum = part.iter().map(|l| f64::from(*l).exp()).sum::<f64>();
            let p = |l: f32| f64::from(l).exp() / sum;
            let largest = part.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let of_part = part.iter().map(|l| p(*l) * f64::from(*l)).sum::<f64>();
            row.add(largest, p(largest) as f32, of_part as f32);
        }
        assert!(
            (row.lse - whole.ln()).abs() < 1e-6 && (row.mean - mean).abs() < 1e-6,
            "{} {}",
            row.lse,
            row.mean
        );
    }
}
