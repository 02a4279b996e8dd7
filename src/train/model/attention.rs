//! Attention of a piece of queries over its ancestors, forward and backward, head by head.
//!
//! ```text
//! S = scale Q K^T    P = softmax(S)    O = P V
//! dV = P^T dO    dP = dO V^T    dS = P (dP - sum(dO O)) scale    dQ = dS K    dK = dS^T Q
//! ```
//!
//! P is computed again going back, from the kept log of each row's sum. Keys and values are packed once per
//! layer in slot order, so a piece reads whole runs of them and gathers nothing.

use super::layout::{Block, Layout, Piece, Run, SLOTS};
use super::spec::Spec;
use crate::train::kernels::{
    GROUP, Kernels, Left, Product, Right, exp_in_place, left, pairs, panels_of_rows, softmax_rows, words,
};

/// Keys and values of a layer as right sides. `*_panels`: [slot / 16][kv head][words of a head][16], sums over
/// the head; `*_rows`: [word of slots][kv head][head], sums over slots.
#[derive(Default)]
pub struct KeysValues {
    pub key_panels: Vec<u32>,
    pub value_rows: Vec<u32>,
    /// The other two layouts, which only the backward needs.
    pub value_panels: Vec<u32>,
    pub key_rows: Vec<u32>,
}

/// A block's part of [`KeysValues`].
pub struct KeysValuesPart<'a> {
    key_panels: &'a mut [u32],
    value_rows: &'a mut [u32],
    value_panels: &'a mut [u32],
    key_rows: &'a mut [u32],
}

impl KeysValues {
    pub fn resize(&mut self, spec: &Spec, slots: usize, per_word: usize, backward: bool) {
        let size = slots * spec.kv_width() / per_word;
        let back = if backward { size } else { 0 };
        self.key_panels.resize(size, 0);
        self.value_panels.resize(back, 0);
        // A head that is no multiple of 16 is read past its end; what is read there is not used.
        self.value_rows.resize(size + GROUP, 0);
        self.key_rows.resize(if backward { size + GROUP } else { 0 }, 0);
    }

    /// Each block's part.
    pub fn parts<'a>(&'a mut self, spec: &Spec, layout: &Layout, per_word: usize) -> Vec<KeysValuesPart<'a>> {
        let sizes = || layout.blocks.iter().map(|b| b.slots.len() * spec.kv_width() / per_word);
        let mut key_panels = cut(&mut self.key_panels, sizes()).into_iter();
        let mut value_rows = cut(&mut self.value_rows, sizes()).into_iter();
        let mut value_panels = cut(&mut self.value_panels, sizes()).into_iter();
        let mut key_rows = cut(&mut self.key_rows, sizes()).into_iter();
        let next = move || {
            Some(KeysValuesPart {
                key_panels: key_panels.next()?,
                value_rows: value_rows.next()?,
                value_panels: value_panels.next()?,
                key_rows: key_rows.next()?,
            })
        };
        std::iter::from_fn(next).collect()
    }
}

/// Cut a buffer into parts of these sizes, one after another; what is too short gives empty parts.
pub fn cut<T>(mut rest: &mut [T], sizes: impl Iterator<Item = usize>) -> Vec<&mut [T]> {
    let mut parts = Vec::new();
    for size in sizes {
        let (part, left) = std::mem::take(&mut rest).split_at_mut_checked(size).unwrap_or_default();
        parts.push(part);
        rest = left;
    }
    parts
}

impl KeysValuesPart<'_> {
    /// Pack a block's keys and values, [rows][kv heads][head], turned and normed.
    pub fn pack(&mut self, spec: &Spec, block: &Block, per_word: usize, k: &[f32], v: &[f32]) {
        let (width, head) = (spec.kv_width(), spec.head);
        for piece in &block.pieces {
            let rows = (piece.start - block.rows.start) * width;
            let slot = piece.slot - block.slots.start;
            let slots = slot * width / per_word..(slot + piece.slots()) * width / per_word;
            let used = words(per_word, piece.len) * width;
            for (source, panels, by_row) in [
                (&k[rows..], &mut *self.key_panels, &mut *self.key_rows),
                (&v[rows..], &mut *self.value_panels, &mut *self.value_rows),
            ] {
                if !by_row.is_empty() {
                    let out = &mut by_row[slots.clone()];
                    pairs(per_word, source, (piece.len, width, width), out, width);
                    out[used..].fill(0);
                }
                if panels.is_empty() {
                    continue;
                }
                let panels = panels[slots.clone()].chunks_exact_mut(GROUP * head / per_word);
                for (index, panel) in panels.enumerate() {
                    let (group, kv) = (index / spec.heads_kv, index % spec.heads_kv);
                    let rows = (piece.len - group * SLOTS).min(SLOTS);
                    let from = &source[group * SLOTS * width + kv * head..];
                    panels_of_rows(per_word, from, rows, width, head, panel);
                }
            }
        }
    }
}

/// Room for one piece and head.
#[derive(Default)]
pub struct Scratch {
    q: Vec<u32>,
    scores: Vec<f32>,
    sums: Vec<f32>,
    p: Vec<u32>,
    d_scores: Vec<f32>,
    ds: Vec<u32>,
    d_out: Vec<u32>,
    q_rows: Vec<u32>,
    d_out_rows: Vec<u32>,
}

/// What attention needs to know of a layer.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    pub spec: &'a Spec,
    pub main: &'a dyn Kernels,
    pub kv: &'a KeysValues,
}

fn sized<T: Clone + Default>(values: &mut Vec<T>, size: usize) -> &mut [T] {
    if values.len() < size {
        values.resize(size, T::default());
    }
    &mut values[..size]
}

impl<'a> Attention<'a> {
    fn per_word(&self) -> usize {
        self.main.per_word()
    }

    /// Scores of a run against rows: columns are slots.
    fn panels(&self, words: &'a [u32], run: &Run, kv: usize) -> Right<'a> {
        let head = self.spec.head / self.per_word() * GROUP;
        let group = self.spec.heads_kv * head;
        Right { words: &words[run.slot / SLOTS * group + kv * head..], step: GROUP, group }
    }

    /// Sums over a run's slots: columns are the head's values.
    fn rows(&self, words: &'a [u32], run: &Run, kv: usize) -> Right<'a> {
        let width = self.spec.kv_width();
        let words = &words[run.slot / self.per_word() * width + kv * self.spec.head..];
        Right { words, step: width, group: GROUP }
    }

    /// out[len][width] = rows * panels^T, run by run.
    fn against(&self, piece: &Piece, kv: usize, rows: &[u32], panels: &'a [u32], out: &mut [f32]) {
        let steps = self.spec.head / self.per_word();
        for run in &piece.runs {
            let product = Product {
                rows: piece.len,
                columns: run.padded(),
                steps,
                left: Left { words: rows, row: steps, step: 1 },
                right: self.panels(panels, run, kv),
                low: None,
                add: false,
                stride: piece.width(),
            };
            self.main.multiply(&product, &mut out[run.column..]);
        }
    }

    /// out[len][head] = p * rows, summed over all runs; rows of `out` stand `stride` apart.
    fn weighted(&self, piece: &Piece, kv: usize, p: &[u32], rows: &'a [u32], out: &mut [f32], stride: usize) {
        let width = piece.width() / self.per_word();
        for (index, run) in piece.runs.iter().enumerate() {
            let product = Product {
                rows: piece.len,
                columns: self.spec.head,
                steps: run.padded() / self.per_word(),
                left: Left { words: &p[run.column / self.per_word()..], row: width, step: 1 },
                right: self.rows(rows, run, kv),
                low: None,
                add: index > 0,
                stride,
            };
            self.main.multiply(&product, out);
        }
    }

    /// O of a piece: q and o are [len][heads][head], lse [len][heads].
    pub fn forward(&self, piece: &Piece, q: &[f32], o: &mut [f32], lse: &mut [f32], scratch: &mut Scratch) {
        let (spec, per_word) = (self.spec, self.per_word());
        let (head, q_width, width) = (spec.head, spec.q_width(), piece.width());
        let Scratch { q: q_words, scores, p, sums, .. } = scratch;
        let sums = sized(sums, piece.len);
        let q_words = sized(q_words, piece.len * head / per_word);
        let scores = sized(scores, piece.len * width);
        let p = sized(p, piece.len * width / per_word);
        for h in 0..spec.heads {
            let kv = h * spec.heads_kv / spec.heads;
            left(per_word, &q[h * head..], q_width, head, q_words);
            self.against(piece, kv, q_words, &self.kv.key_panels, scores);
            for (row, scores) in scores.chunks_exact_mut(width).enumerate() {
                for (index, run) in piece.runs.iter().enumerate() {
                    let seen = run.column + piece.seen(index, row);
                    scores[seen..run.column + run.padded()].fill(f32::NEG_INFINITY);
                }
                let (largest, sum) = softmax_rows(scores, spec.attention_scale);
                lse[row * spec.heads + h] = largest + sum.ln();
                sums[row] = sum;
            }
            left(per_word, scores, width, width, p);
            self.weighted(piece, kv, p, &self.kv.value_rows, &mut o[h * head..], q_width);
            for (o, sum) in o[h * head..].chunks_mut(q_width).zip(&*sums) {
                let inverse = 1.0 / sum;
                o[..head].iter_mut().for_each(|o| *o *= inverse);
            }
        }
    }

    /// Backward of a piece for the heads of one key-value head. `dq` is [len][heads of kv][head]; `dk` and
    /// `dv` are [slots][head] and are added to.
    pub fn backward(&self, piece: &Piece, kv: usize, kept: Kept, grads: PieceGrads, scratch: &mut Scratch) {
        let (spec, per_word) = (self.spec, self.per_word());
        let (head, q_width, width) = (spec.head, spec.q_width(), piece.width());
        let PieceGrads { dq, dk, dv } = grads;
        let of_kv = spec.heads / spec.heads_kv;
        let s = scratch;
        let narrow = piece.len * head / per_word;
        let tall = words(per_word, piece.len);
        for (index, h) in (kv * of_kv..(kv + 1) * of_kv).enumerate() {
            let (q, d_out) = (sized(&mut s.q, narrow), sized(&mut s.d_out, narrow));
            left(per_word, &kept.q[h * head..], q_width, head, q);
            left(per_word, &kept.d_out[h * head..], q_width, head, d_out);
            let scores = sized(&mut s.scores, piece.len * width);
            let d_scores = sized(&mut s.d_scores, piece.len * width);
            self.against(piece, kv, q, &self.kv.key_panels, scores);
            self.against(piece, kv, d_out, &self.kv.value_panels, d_scores);
            for (row, (p, ds)) in
                scores.chunks_exact_mut(width).zip(d_scores.chunks_exact_mut(width)).enumerate()
            {
                let (lse, delta) = (kept.lse[row * spec.heads + h], kept.delta[row * spec.heads + h]);
                exp_in_place(p, spec.attention_scale, lse);
                for (index, run) in piece.runs.iter().enumerate() {
                    p[run.column + piece.seen(index, row)..run.column + run.padded()].fill(0.0);
                }
                ds.iter_mut().zip(p).for_each(|(ds, p)| *ds = *p * (*ds - delta) * spec.attention_scale);
            }
            let ds = sized(&mut s.ds, piece.len * width / per_word);
            left(per_word, d_scores, width, width, ds);
            self.weighted(piece, kv, ds, &self.kv.key_rows, &mut dq[index * head..], of_kv * head);
            let whole = (piece.len, width, width);
            let p = sized(&mut s.p, tall * width);
            pairs(per_word, scores, whole, p, width);
            let d_out_rows = sized(&mut s.d_out_rows, tall * head + GROUP);
            pairs(per_word, &kept.d_out[h * head..], (piece.len, q_width, head), d_out_rows, head);
            self.gathered(piece, p, d_out_rows, dv);
            let ds = sized(&mut s.ds, tall * width);
            pairs(per_word, d_scores, whole, ds, width);
            let q_rows = sized(&mut s.q_rows, tall * head + GROUP);
            pairs(per_word, &kept.q[h * head..], (piece.len, q_width, head), q_rows, head);
            self.gathered(piece, ds, q_rows, dk);
        }
    }

    /// out[slots of the runs][head] += p^T * rows.
    fn gathered(&self, piece: &Piece, p: &[u32], rows: &[u32], out: &mut [f32]) {
        for run in &piece.runs {
            let product = Product {
                rows: run.len,
                columns: self.spec.head,
                steps: words(self.per_word(), piece.len),
                left: Left { words: &p[run.column..], row: 1, step: piece.width() },
                right: Right { words: rows, step: self.spec.head, group: GROUP },
                low: None,
                add: true,
                stride: self.spec.head,
            };
            self.main.multiply(&product, &mut out[run.slot * self.spec.head..]);
        }
    }
}

/// What the forward of a piece left: q and d_out [len][heads][head], lse and delta [len][heads].
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    pub q: &'a [f32],
    pub d_out: &'a [f32],
    pub lse: &'a [f32],
    pub delta: &'a [f32],
}

pub struct PieceGrads<'a> {
    pub dq: &'a mut [f32],
    pub dk: &'a mut [f32],
    pub dv: &'a mut [f32],
}
