//! A pass over a tree: what both directions share, and the forward through one layer.
//!
//! A layer is two jobs over blocks: project (norm, q, k, v, positions; keys and values packed), then attend
//! and feed forward. Within a block everything runs on one thread, so sums have one order.

use super::adapter::PackedLora;
use super::attention::{Attention, KeysValues, KeysValuesPart, Scratch as AttentionScratch, cut};
use super::layout::{Block, Layout};
use super::linear::{Linear, Rows};
use super::spec::Spec;
use super::stash::{Stash, StashPart};
use super::weights::{LayerPanels, LayerWeights, Weights};
use crate::train::kernels::{Kernels, Pool, Rope, left, norm, rope, swiglu};

/// Places of the linears.
pub const Q: usize = 0;
pub const K: usize = 1;
pub const V: usize = 2;
pub const OUTPUT: usize = 3;
pub const GATE: usize = 4;
pub const UP: usize = 5;
pub const DOWN: usize = 6;

pub struct Pass<'a> {
    pub spec: &'a Spec,
    pub weights: &'a Weights,
    pub layout: &'a Layout,
    pub positions: &'a [i32],
    pub rope: &'a Rope,
    pub lora: Option<&'a PackedLora>,
    pub main: &'a dyn Kernels,
    pub wide: &'a dyn Kernels,
    pub pool: &'a Pool,
}

/// A layer on its way: its place, weights and panels.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    pub index: usize,
    pub weights: &'a LayerWeights,
    pub panels: &'a LayerPanels,
}

/// What the projections of a layer leave for attention.
#[derive(Default)]
pub struct Projected {
    /// [nodes][heads][head], turned and normed.
    pub q: Vec<f32>,
    pub kv: KeysValues,
    /// Before their norms, where the model norms them and the backward follows.
    pub q_raw: Vec<f32>,
    pub k_raw: Vec<f32>,
}

/// One thread's room.
#[derive(Default)]
pub struct Scratch {
    pub x: Rows,
    pub y: Rows,
    pub z: Rows,
    pub w: Rows,
    pub k: Vec<f32>,
    pub v: Vec<f32>,
    pub o: Rows,
    pub lse: Vec<f32>,
    pub h: [Vec<f32>; 7],
    pub dh: Vec<f32>,
    pub wide: Vec<f32>,
    pub attention: AttentionScratch,
}

/// Exactly `size` values, whatever they were.
pub fn fit(values: &mut Vec<f32>, size: usize) -> &mut [f32] {
    values.resize(size, 0.0);
    values
}

impl<'a> Pass<'a> {
    pub fn linear(&self, layer: Layer<'a>, which: usize) -> Linear<'a> {
        let (n_in, n_out) = self.spec.linear(which);
        Linear {
            n_in,
            n_out,
            panels: &layer.panels[which],
            bias: layer.weights.biases[which].as_deref(),
            pair: self.lora.and_then(|lora| lora.pair(layer.index, which)),
            main: self.main,
            wide: self.wide,
        }
    }

    /// Sizes of the blocks' parts of a buffer with `width` values per node.
    pub fn by_block(&self, width: usize) -> impl Iterator<Item = usize> + '_ {
        self.layout.blocks.iter().map(move |block| block.rows.len() * width)
    }

    /// q, k and v of all nodes from the layer's input. `backward`: keep what going back needs as well.
    pub fn project(
        &self,
        layer: Layer,
        x: &[f32],
        out: &mut Projected,
        scratch: &mut [Scratch],
        backward: bool,
    ) {
        let (spec, nodes) = (self.spec, self.layout.nodes);
        let per_word = self.main.per_word();
        out.q.resize(nodes * spec.q_width(), 0.0);
        let raw = if backward && spec.qk_norm { nodes } else { 0 };
        out.q_raw.resize(raw * spec.q_width(), 0.0);
        out.k_raw.resize(raw * spec.kv_width(), 0.0);
        out.kv.resize(spec, self.layout.slots, per_word, backward);
        let parts = out.kv.parts(spec, self.layout, per_word);
        let q = cut(&mut out.q, self.by_block(spec.q_width()));
        let q_raw = cut(&mut out.q_raw, self.by_block(spec.q_width()));
        let k_raw = cut(&mut out.k_raw, self.by_block(spec.kv_width()));
        let items: Vec<_> = q.into_iter().zip(parts).zip(q_raw.into_iter().zip(k_raw)).collect();
        self.pool.each(scratch, items, |s, index, ((q, mut part), (q_raw, k_raw))| {
            let block = &self.layout.blocks[index];
            let x = &x[block.rows.start * spec.hidden..block.rows.end * spec.hidden];
            self.project_block(layer, block, x, (q, &mut part), (q_raw, k_raw), s);
        });
    }

    fn project_block(
        &self,
        layer: Layer,
        block: &Block,
        x: &[f32],
        (q, part): (&mut [f32], &mut KeysValuesPart),
        (q_raw, k_raw): (&mut [f32], &mut [f32]),
        s: &mut Scratch,
    ) {
        let spec = self.spec;
        let rows = block.rows.len();
        norm(x, &layer.weights.attn_norm, spec.eps, fit(&mut s.x.values, x.len()));
        s.x.pack(self.main.per_word(), spec.hidden);
        let (k, v) = (fit(&mut s.k, rows * spec.kv_width()), fit(&mut s.v, rows * spec.kv_width()));
        self.linear(layer, Q).forward(&s.x, q, false, &mut s.h[Q]);
        self.linear(layer, K).forward(&s.x, k, false, &mut s.h[K]);
        self.linear(layer, V).forward(&s.x, v, false, &mut s.h[V]);
        if let Some((q_norm, k_norm)) = &layer.weights.qk_norms {
            for (values, weights, raw) in [(&mut *q, q_norm, q_raw), (&mut *k, k_norm, k_raw)] {
                let before = fit(&mut s.wide, values.len());
                before.copy_from_slice(values);
                norm(before, weights, spec.eps, values);
                if !raw.is_empty() {
                    raw.copy_from_slice(before);
                }
            }
        }
        let positions = &self.positions[block.rows.clone()];
        rope(self.rope, positions, spec.head, q);
        rope(self.rope, positions, spec.head, k);
        part.pack(spec, block, self.main.per_word(), k, v);
    }

    /// o and its rows' log-sums of a block, into the scratch (values only).
    pub fn attend(&self, block: &Block, projected: &Projected, s: &mut Scratch) {
        let (spec, rows) = (self.spec, block.rows.len());
        let attention = Attention { spec, main: self.main, kv: &projected.kv };
        fit(&mut s.o.values, rows * spec.q_width());
        fit(&mut s.lse, rows * spec.heads);
        for piece in &block.pieces {
            let row = piece.start - block.rows.start;
            let q = &projected.q[piece.start * spec.q_width()..];
            let o = &mut s.o.values[row * spec.q_width()..];
            let lse = &mut s.lse[row * spec.heads..];
            attention.forward(piece, q, o, lse, &mut s.attention);
        }
    }

    /// Gate of x1 in `s.y`, up in `s.z`, and x1's norm in `s.x`.
    pub fn gated(&self, layer: Layer, x1: &[f32], s: &mut Scratch) {
        let (spec, rows) = (self.spec, x1.len() / self.spec.hidden);
        let wide = rows * spec.feed_forward;
        norm(x1, &layer.weights.ffn_norm, spec.eps, fit(&mut s.x.values, x1.len()));
        s.x.pack(self.main.per_word(), spec.hidden);
        self.linear(layer, GATE).forward(&s.x, fit(&mut s.y.values, wide), false, &mut s.h[GATE]);
        self.linear(layer, UP).forward(&s.x, fit(&mut s.z.values, wide), false, &mut s.h[UP]);
    }

    /// The layer, in place. What going back would need is left in the stash, if there is one.
    pub fn forward(
        &self,
        layer: Layer,
        x: &mut [f32],
        (projected, stash): (&mut Projected, Option<&mut Stash>),
        scratch: &mut [Scratch],
    ) {
        match stash {
            Some(stash) => {
                self.project(layer, x, &mut stash.projected, scratch, true);
                let projected = std::mem::take(&mut stash.projected);
                let parts = stash.parts(self.spec, self.layout, self.main.per_word());
                self.finish(layer, x, &projected, parts, scratch);
                stash.projected = projected;
            }
            None => {
                self.project(layer, x, projected, scratch, false);
                self.finish(layer, x, projected, Vec::new(), scratch);
            }
        }
    }

    fn finish(
        &self,
        layer: Layer,
        x: &mut [f32],
        projected: &Projected,
        parts: Vec<StashPart>,
        scratch: &mut [Scratch],
    ) {
        let parts = parts.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        let items = cut(x, self.by_block(self.spec.hidden)).into_iter().zip(parts).collect();
        self.pool.each(scratch, items, |s, index, (x, mut part)| {
            self.attend(&self.layout.blocks[index], projected, s);
            s.o.pack(self.main.per_word(), self.spec.q_width());
            self.linear(layer, OUTPUT).forward(&s.o, x, true, &mut s.h[OUTPUT]);
            if let Some(part) = &mut part {
                part.o.copy_from_slice(&s.o.values);
                part.lse.copy_from_slice(&s.lse);
                part.x1.copy_from_slice(x);
            }
            self.gated(layer, x, s);
            if let Some(part) = &mut part {
                let (per_word, wide) = (self.main.per_word(), self.spec.feed_forward);
                left(per_word, &s.y.values, wide, wide, part.gate);
                left(per_word, &s.z.values, wide, wide, part.up);
            }
            swiglu(&s.y.values, &s.z.values, fit(&mut s.w.values, s.y.values.len()));
            s.w.pack(self.main.per_word(), self.spec.feed_forward);
            self.linear(layer, DOWN).forward(&s.w, x, true, &mut s.h[DOWN]);
        });
    }
}
