//! The model's layers and the adapter on the device: unpacked on the host, written where a pass reads them.
//!
//! All layers stay there if half of what is free holds them; else one place serves layer after layer.

use std::cell::Cell;
use std::rc::Rc;

use super::ffi::{Backends, Kind, Store, Tensor};
use super::{Forward, fault};
use crate::train::error::TrainError;
use crate::train::lora::{Gradients, Lora};
use crate::train::model::spec::{LINEARS, Spec};
use crate::train::model::weights::{Matrix, Weights};

/// Places of a layer's tensors in its store: matrices, transposed matrices, biases, norms.
const BACK: usize = LINEARS.len();
const BIAS: usize = 2 * LINEARS.len();
const NORMS: usize = 3 * LINEARS.len();

/// A layer's tensors while its store holds them.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    store: &'a Store,
    biased: &'a [bool],
    normed: bool,
}

impl<'a> Layer<'a> {
    /// W, [n_in, n_out].
    pub fn matrix(self, which: usize) -> Tensor<'a> {
        self.store.get(which)
    }

    /// W transposed, [n_out, n_in]; there if the layer was asked for going back.
    pub fn transposed(self, which: usize) -> Tensor<'a> {
        self.store.get(BACK + which)
    }

    pub fn bias(self, which: usize) -> Option<Tensor<'a>> {
        self.biased[which].then(|| self.store.get(BIAS + which))
    }

    pub fn attention_norm(self) -> Tensor<'a> {
        self.store.get(NORMS)
    }

    pub fn feed_forward_norm(self) -> Tensor<'a> {
        self.store.get(NORMS + 1)
    }

    /// Of queries and keys, where the model norms them.
    pub fn head_norms(self) -> Option<(Tensor<'a>, Tensor<'a>)> {
        self.normed.then(|| (self.store.get(NORMS + 2), self.store.get(NORMS + 3)))
    }
}

/// What a store holds now: which layer or part, and whether its transposed matrices too.
pub type Held = Cell<Option<(usize, bool)>>;

/// The layers' places on the device.
pub struct Layers {
    stores: Vec<(Store, Held)>,
    biased: Vec<bool>,
}

/// Bytes of one layer on the device.
pub fn layer_bytes(spec: &Spec, weights: &Weights, forward: Forward) -> u64 {
    let own = |which: usize| forward.bytes(&weights.layers[0].linears[which]);
    (0..LINEARS.len())
        .map(|which| own(which) + 4 * (spec.linear(which).0 * spec.linear(which).1) as u64)
        .sum()
}

impl Layers {
    /// `places`: how many layers the device keeps.
    pub fn new(
        backends: &Rc<Backends>,
        (spec, weights): (&Spec, &Weights),
        forward: Forward,
        places: usize,
    ) -> Result<Layers, TrainError> {
        let biased: Vec<bool> =
            (0..LINEARS.len()).map(|w| weights.layers.iter().any(|l| l.biases[w].is_some())).collect();
        let linears =
            |of: &dyn Fn(usize) -> (Kind, Vec<usize>)| (0..LINEARS.len()).map(of).collect::<Vec<_>>();
        let make = |_| {
            let own = |which| {
                let (n_in, n_out) = spec.linear(which);
                (forward.kind(&weights.layers[0].linears[which]), vec![n_in, n_out])
            };
            let back = |which| (Kind::F32, vec![spec.linear(which).1, spec.linear(which).0]);
            let bias = |which| (Kind::F32, vec![spec.linear(which).1]);
            let norms = [spec.hidden, spec.hidden, spec.head, spec.head].map(|n| (Kind::F32, vec![n]));
            let shapes = [linears(&own), linears(&back), linears(&bias), norms.to_vec()].concat();
            Ok((Store::new(backends, &shapes).map_err(|why| fault(backends, why))?, Cell::new(None)))
        };
        let stores = (0..places.max(1)).map(make).collect::<Result<_, TrainError>>()?;
        Ok(Layers { stores, biased })
    }

    /// The layer, written now or before.
    pub fn layer(
        &self,
        (spec, weights): (&Spec, &Weights),
        forward: Forward,
        index: usize,
        back: bool,
    ) -> Layer<'_> {
        let (store, held) = &self.stores[index % self.stores.len()];
        let there = matches!(held.get(), Some((layer, both)) if layer == index && (both || !back));
        if !there {
            let layer = &weights.layers[index];
            for (which, matrix) in layer.linears.iter().enumerate() {
                forward.write(weights, matrix, (0, matrix.n_out), store.get(which));
                if back {
                    let rows = unpacked(weights, matrix, (0, matrix.n_out));
                    store.get(BACK + which).set(&turned(&rows, matrix.n_in));
                }
                match &layer.biases[which] {
                    Some(bias) => store.get(BIAS + which).set(bias),
                    None => store.get(BIAS + which).clear(),
                }
            }
            store.get(NORMS).set(&layer.attn_norm);
            store.get(NORMS + 1).set(&layer.ffn_norm);
            if let Some((q, k)) = &layer.qk_norms {
                store.get(NORMS + 2).set(q);
                store.get(NORMS + 3).set(k);
            }
            held.set(Some((index, back)));
        }
        Layer { store, biased: &self.biased, normed: spec.qk_norm }
    }
}

/// Rows of a matrix as f32, [count][n_in].
pub fn unpacked(weights: &Weights, matrix: &Matrix, (first, count): (usize, usize)) -> Vec<f32> {
    let mut rows = vec![0.0; count * matrix.n_in];
    weights.rows(matrix, first, &mut rows);
    rows
}

/// [width][rows] of [rows][width].
pub fn turned(values: &[f32], width: usize) -> Vec<f32> {
    /// Squares that both sides hold in a fast cache.
    const SQUARE: usize = 32;
    let rows = values.len() / width.max(1);
    let mut out = vec![0.0; values.len()];
    for top in (0..rows).step_by(SQUARE) {
        for left in (0..width).step_by(SQUARE) {
            for column in left..(left + SQUARE).min(width) {
                for row in top..(top + SQUARE).min(rows) {
                    out[column * rows + row] = values[row * width + column];
                }
            }
        }
    }
    out
}

/// One pair's tensors. `s` is alpha / r.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// A, [n_in, r], and transposed.
    pub a: Tensor<'a>,
    pub a_turned: Tensor<'a>,
    /// s B, [r, n_out], and transposed.
    pub b: Tensor<'a>,
    pub b_turned: Tensor<'a>,
    /// dL/dA, and dL/dB before its factor s, shaped as A and B; there where a gradient is wanted.
    pub sums: Option<(Tensor<'a>, Tensor<'a>)>,
}

/// An adapter on the device.
pub struct Adapter {
    store: Store,
    /// By block and linear: the pair's number in the adapter.
    places: Vec<Option<usize>>,
    tensors: usize,
    scale: f32,
}

impl Adapter {
    /// The adapter, which fits the model, with room for its gradients where they are `wanted`.
    pub fn new(
        backends: &Rc<Backends>,
        spec: &Spec,
        lora: &Lora,
        wanted: bool,
    ) -> Result<Adapter, TrainError> {
        let (rank, tensors) = (lora.rank, if wanted { 6 } else { 4 });
        let shapes = lora.pairs.iter().flat_map(|pair| {
            let dims = [
                [pair.n_in, rank],
                [rank, pair.n_in],
                [rank, pair.n_out],
                [pair.n_out, rank],
                [pair.n_in, rank],
                [rank, pair.n_out],
            ];
            dims.into_iter().take(tensors).map(|dims| (Kind::F32, dims.to_vec()))
        });
        let shapes: Vec<_> = shapes.collect();
        let store = Store::new(backends, &shapes).map_err(|why| fault(backends, why))?;
        let mut places = vec![None; spec.blocks * LINEARS.len()];
        for (index, pair) in lora.pairs.iter().enumerate() {
            let at = |tensor: usize| store.get(index * tensors + tensor);
            at(0).set(&pair.a);
            at(1).set(&turned(&pair.a, pair.n_in));
            let scaled: Vec<f32> = pair.b.iter().map(|b| lora.scale() * b).collect();
            at(2).set(&scaled);
            at(3).set(&turned(&scaled, rank));
            (4..tensors).for_each(|sum| at(sum).clear());
            if let Some(place) = spec.place(&pair.tensor) {
                places[place] = Some(index);
            }
        }
        Ok(Adapter { store, places, tensors, scale: lora.scale() })
    }

    pub fn pair(&self, block: usize, which: usize) -> Option<Pair<'_>> {
        let first = self.places[block * LINEARS.len() + which]? * self.tensors;
        let at = |tensor: usize| self.store.get(first + tensor);
        let sums = (self.tensors > 4).then(|| (at(4), at(5)));
        Some(Pair { a: at(0), a_turned: at(1), b: at(2), b_turned: at(3), sums })
    }

    /// What the sums hold, times `by`, in the adapter's order.
    pub fn gradients(&self, lora: &Lora, by: f32) -> Gradients {
        let read = |index: usize| {
            let of = |tensor: usize, by: f32| {
                let sums = self.store.get(index * self.tensors + tensor).read();
                sums.into_iter().map(|sum| by * sum).collect()
            };
            (of(4, by), of(5, by * self.scale))
        };
        Gradients { pairs: (0..lora.pairs.len()).map(read).collect() }
    }
}
