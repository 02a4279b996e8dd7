//! The backward through one layer: from dL/d(output) to dL/d(input), and the sums of its LoRA gradients.
//!
//! Only the layer's input was kept, or a stash too. Four jobs: project again (all blocks); attend and feed forward again,
//! then back down to dO (lane by lane); attention back (key-value head by head and lane by lane); q, k and v
//! back (lane by lane). A lane's sums are its own and added in lane order, so gradients do not depend on the
//! number of threads.

use std::ops::Range;

use super::adapter::PairSums;
use super::attention::{Attention, Kept, PieceGrads, cut};
use super::layout::Block;
use super::linear::{Rows, Sums};
use super::pass::{DOWN, GATE, K, Layer, OUTPUT, Pass, Projected, Q, Scratch, UP, V, fit};
use super::stash::Stash;
use crate::train::kernels::{norm, norm_back, rope_back, swiglu, swiglu_back, unleft, words};

/// Buffers of the backward, all nodes at once, used again by every layer.
#[derive(Default)]
pub struct Buffers {
    pub projected: Projected,
    /// [nodes][heads][head]
    d_out: Vec<f32>,
    /// [nodes][heads]
    lse: Vec<f32>,
    delta: Vec<f32>,
    /// [kv head][nodes][heads of it][head]
    dq: Vec<f32>,
    /// [kv head][attention lane][slots][head]
    dk: Vec<f32>,
    dv: Vec<f32>,
    /// [lane][linear]
    sums: Vec<Vec<PairSums>>,
}

/// Attention's lanes: runs of the layout's lanes, fewer where key-value heads already give tasks.
fn attention_lanes(pass: &Pass) -> Vec<Range<usize>> {
    let lanes = pass.layout.lanes.len();
    let wanted = 16_usize.div_ceil(pass.spec.heads_kv).min(lanes);
    let ends = (0..wanted).map(|lane| (lanes * lane / wanted, lanes * (lane + 1) / wanted));
    ends.map(|(from, to)| pass.layout.lanes[from].start..pass.layout.lanes[to - 1].end).collect()
}

impl Pass<'_> {
    /// `d` is dL/d(output) and becomes dL/d(input), unless `last`: then only the sums are wanted. Adds the
    /// layer's gradients to `out`, by linear.
    pub fn backward(
        &self,
        layer: Layer,
        (x, mut stash): (&[f32], Option<Stash>),
        d: &mut [f32],
        (buffers, scratch): (&mut Buffers, &mut [Scratch]),
        (last, out): (bool, &mut [PairSums]),
    ) {
        match &mut stash {
            Some(stash) => buffers.projected = std::mem::take(&mut stash.projected),
            None => self.project(layer, x, &mut buffers.projected, scratch, true),
        }
        if let Some(lora) = self.lora {
            buffers.sums.resize_with(self.layout.lanes.len(), Vec::new);
            buffers.sums.iter_mut().for_each(|sums| lora.sums(self.spec, layer.index, sums));
        }
        self.feed_back(layer, (x, stash.as_ref()), d, buffers, scratch);
        drop(stash);
        self.attention_back(buffers, scratch);
        self.projections_back(layer, x, d, buffers, (last, scratch));
        for lane in &buffers.sums {
            out.iter_mut().zip(lane).for_each(|(sum, lane)| sum.add(lane));
        }
    }

    /// Sizes of the lanes' parts of a buffer with `width` values per node.
    fn by_lane(&self, width: usize) -> impl Iterator<Item = usize> + '_ {
        self.layout.lanes.iter().map(move |lane| self.layout.rows(lane).len() * width)
    }

    /// From d(output) to d(x1) in `d`, and dO, lse and delta for attention.
    fn feed_back(
        &self,
        layer: Layer,
        (x, stash): (&[f32], Option<&Stash>),
        d: &mut [f32],
        b: &mut Buffers,
        scratch: &mut [Scratch],
    ) {
        let (spec, nodes) = (self.spec, self.layout.nodes);
        b.d_out.resize(nodes * spec.q_width(), 0.0);
        b.lse.resize(nodes * spec.heads, 0.0);
        b.delta.resize(nodes * spec.heads, 0.0);
        let projected = &b.projected;
        let d = cut(d, self.by_lane(spec.hidden)).into_iter();
        let d_out = cut(&mut b.d_out, self.by_lane(spec.q_width()));
        let lse = cut(&mut b.lse, self.by_lane(spec.heads));
        let delta = cut(&mut b.delta, self.by_lane(spec.heads));
        let items = d.zip(d_out).zip(lse.into_iter().zip(delta)).zip(&mut b.sums);
        self.pool.each(scratch, items.collect(), |s, lane, (((d, d_out), (lse, delta)), sums)| {
            let lane = &self.layout.lanes[lane];
            let first = self.layout.rows(lane).start;
            for block in &self.layout.blocks[lane.clone()] {
                let here =
                    |width: usize| (block.rows.start - first) * width..(block.rows.end - first) * width;
                let x1 = match stash {
                    Some(stash) => self.recall(layer, block, stash, s),
                    None => self.repeat(layer, block, projected, x, s),
                };
                lse[here(spec.heads)].copy_from_slice(&s.lse);
                let d = &mut d[here(spec.hidden)];
                self.feed_forward_back(layer, &x1, d, sums, s);
                // s.x: d(x1) as rows, for dO.
                fit(&mut s.x.values, d.len()).copy_from_slice(d);
                s.x.pack(self.main.per_word(), spec.hidden);
                let d_out = &mut d_out[here(spec.q_width())];
                let into = Sums { pair: &mut sums[OUTPUT], dh: &mut s.dh };
                let o = &s.o.values;
                self.linear(layer, OUTPUT).backward(&s.x, o, &s.h[OUTPUT], Some((d_out, false)), into);
                let heads = d_out.chunks_exact(spec.head).zip(o.chunks_exact(spec.head));
                let dots = heads.map(|(d, o)| d.iter().zip(o).map(|(d, o)| d * o).sum());
                delta[here(spec.heads)].iter_mut().zip(dots).for_each(|(delta, dot): (_, f32)| *delta = dot);
            }
        });
    }

    /// Attention and the gated products of a block again; answers x1.
    fn repeat(
        &self,
        layer: Layer,
        block: &Block,
        projected: &Projected,
        x: &[f32],
        s: &mut Scratch,
    ) -> Vec<f32> {
        let spec = self.spec;
        self.attend(block, projected, s);
        s.o.pack(self.main.per_word(), spec.q_width());
        let mut x1 = x[block.rows.start * spec.hidden..block.rows.end * spec.hidden].to_vec();
        self.linear(layer, OUTPUT).forward(&s.o, &mut x1, true, &mut s.h[OUTPUT]);
        self.gated(layer, &x1, s);
        // As if they had been kept: what memory allows must not decide the last bits of a gradient.
        let (per_word, wide) = (self.main.per_word(), spec.feed_forward);
        round(per_word, wide, &mut s.y);
        round(per_word, wide, &mut s.z);
        swiglu(&s.y.values, &s.z.values, fit(&mut s.w.values, s.y.values.len()));
        x1
    }

    /// The same as [`Pass::repeat`], from what was kept.
    fn recall(&self, layer: Layer, block: &Block, stash: &Stash, s: &mut Scratch) -> Vec<f32> {
        let spec = self.spec;
        let of = |values: &[f32], width: usize, out: &mut Vec<f32>| {
            out.clear();
            out.extend_from_slice(&values[block.rows.start * width..block.rows.end * width]);
        };
        let mut x1 = Vec::new();
        of(&stash.x1, spec.hidden, &mut x1);
        of(&stash.o, spec.q_width(), &mut s.o.values);
        of(&stash.lse, spec.heads, &mut s.lse);
        let (per_word, wide) = (self.main.per_word(), words(self.main.per_word(), spec.feed_forward));
        let kept = |words: &[u32], out: &mut Vec<f32>| {
            let out = fit(out, block.rows.len() * spec.feed_forward);
            unleft(per_word, &words[block.rows.start * wide..block.rows.end * wide], spec.feed_forward, out);
        };
        kept(&stash.gate, &mut s.y.values);
        kept(&stash.up, &mut s.z.values);
        self.linear(layer, OUTPUT).low(&s.o.values, &mut s.h[OUTPUT]);
        norm(&x1, &layer.weights.ffn_norm, spec.eps, fit(&mut s.x.values, x1.len()));
        self.linear(layer, GATE).low(&s.x.values, &mut s.h[GATE]);
        self.linear(layer, UP).low(&s.x.values, &mut s.h[UP]);
        swiglu(&s.y.values, &s.z.values, fit(&mut s.w.values, s.y.values.len()));
        x1
    }

    /// `d` is d(output) of a block, whose gated products are in the scratch, and becomes d(x1).
    fn feed_forward_back(
        &self,
        layer: Layer,
        x1: &[f32],
        d: &mut [f32],
        sums: &mut [PairSums],
        s: &mut Scratch,
    ) {
        let (spec, per_word) = (self.spec, self.main.per_word());
        let down = self.linear(layer, DOWN);
        down.low(&s.w.values, &mut s.h[DOWN]);
        // s.o is still wanted; s.k and s.v are free for rows of d.
        let mut rows = Rows { values: std::mem::take(&mut s.k), ..Default::default() };
        std::mem::swap(&mut rows.words, &mut s.w.words);
        fit(&mut rows.values, d.len()).copy_from_slice(d);
        rows.pack(per_word, spec.hidden);
        let da = fit(&mut s.wide, s.w.values.len());
        let into = Sums { pair: &mut sums[DOWN], dh: &mut s.dh };
        down.backward(&rows, &s.w.values, &s.h[DOWN], Some((da, false)), into);
        swiglu_back(da, &mut s.y.values, &mut s.z.values);
        s.y.pack(per_word, spec.feed_forward);
        s.z.pack(per_word, spec.feed_forward);
        let dx = fit(&mut rows.values, d.len());
        let into = Sums { pair: &mut sums[GATE], dh: &mut s.dh };
        self.linear(layer, GATE).backward(&s.y, &s.x.values, &s.h[GATE], Some((&mut *dx, false)), into);
        let into = Sums { pair: &mut sums[UP], dh: &mut s.dh };
        self.linear(layer, UP).backward(&s.z, &s.x.values, &s.h[UP], Some((&mut *dx, true)), into);
        norm_back(x1, &layer.weights.ffn_norm, spec.eps, dx, d);
        std::mem::swap(&mut rows.words, &mut s.w.words);
        s.k = rows.values;
    }

    /// dq of all nodes, and dk and dv lane by lane.
    fn attention_back(&self, b: &mut Buffers, scratch: &mut [Scratch]) {
        let (spec, layout) = (self.spec, self.layout);
        let lanes = attention_lanes(self);
        let of_kv = spec.heads / spec.heads_kv * spec.head;
        let slots = layout.slots * spec.head;
        b.dq.resize(layout.nodes * spec.q_width(), 0.0);
        for sums in [&mut b.dk, &mut b.dv] {
            sums.resize(spec.heads_kv * lanes.len() * slots, 0.0);
        }
        let sizes = (0..spec.heads_kv).flat_map(|_| lanes.iter().map(|lane| layout.rows(lane).len() * of_kv));
        let dq = cut(&mut b.dq, sizes).into_iter();
        let items = dq.zip(b.dk.chunks_exact_mut(slots).zip(b.dv.chunks_exact_mut(slots))).collect();
        let attention = Attention { spec, main: self.main, kv: &b.projected.kv };
        let (q, d_out, lse, delta) = (&b.projected.q, &b.d_out, &b.lse, &b.delta);
        self.pool.each(scratch, items, |s, task, (dq, (dk, dv))| {
            let (kv, lane) = (task / lanes.len(), &lanes[task % lanes.len()]);
            dk.fill(0.0);
            dv.fill(0.0);
            let first = layout.rows(lane).start;
            for piece in layout.blocks[lane.clone()].iter().flat_map(|block| &block.pieces) {
                let kept = Kept {
                    q: &q[piece.start * spec.q_width()..],
                    d_out: &d_out[piece.start * spec.q_width()..],
                    lse: &lse[piece.start * spec.heads..],
                    delta: &delta[piece.start * spec.heads..],
                };
                let dq = &mut dq[(piece.start - first) * of_kv..];
                attention.backward(piece, kv, kept, PieceGrads { dq, dk, dv }, &mut s.attention);
            }
        });
    }

    /// q, k and v back to the layer's input.
    fn projections_back(
        &self,
        layer: Layer,
        x: &[f32],
        d: &mut [f32],
        b: &mut Buffers,
        job: (bool, &mut [Scratch]),
    ) {
        let (spec, (last, scratch)) = (self.spec, job);
        let attention_lanes = attention_lanes(self);
        let gathered =
            Gathered { dq: &b.dq, sums: [&b.dk, &b.dv], lanes: &attention_lanes, projected: &b.projected };
        let items: Vec<_> = cut(d, self.by_lane(spec.hidden)).into_iter().zip(&mut b.sums).collect();
        self.pool.each(scratch, items, |s, lane, (d, sums)| {
            let lane = &self.layout.lanes[lane];
            let first = self.layout.rows(lane).start;
            for block in lane.clone() {
                let rows = &self.layout.blocks[block].rows;
                let d = &mut d[(rows.start - first) * spec.hidden..(rows.end - first) * spec.hidden];
                let x = &x[rows.start * spec.hidden..rows.end * spec.hidden];
                self.gather(layer, block, &gathered, s);
                norm(x, &layer.weights.attn_norm, spec.eps, fit(&mut s.x.values, x.len()));
                let dx = fit(&mut s.wide, x.len());
                for (which, dy) in [(Q, &mut s.o), (K, &mut s.y), (V, &mut s.z)] {
                    let linear = self.linear(layer, which);
                    linear.low(&s.x.values, &mut s.h[which]);
                    if !last {
                        dy.pack(self.main.per_word(), linear.n_out);
                    }
                    let into = Sums { pair: &mut sums[which], dh: &mut s.dh };
                    let dx = (!last).then_some((&mut *dx, which != Q));
                    linear.backward(dy, &s.x.values, &s.h[which], dx, into);
                }
                if !last {
                    norm_back(x, &layer.weights.attn_norm, spec.eps, dx, d);
                }
            }
        });
    }

    /// A block's dq in `s.o`, dk in `s.y`, dv in `s.z`, turned back and through the norms.
    fn gather(&self, layer: Layer, block: usize, from: &Gathered, s: &mut Scratch) {
        let (spec, layout) = (self.spec, self.layout);
        let rows = &layout.blocks[block].rows;
        let of_kv = spec.heads / spec.heads_kv * spec.head;
        let dq = fit(&mut s.o.values, rows.len() * spec.q_width());
        for (row, dq) in rows.clone().zip(dq.chunks_exact_mut(spec.q_width())) {
            for (kv, dq) in dq.chunks_exact_mut(of_kv).enumerate() {
                dq.copy_from_slice(&from.dq[(kv * layout.nodes + row) * of_kv..][..of_kv]);
            }
        }
        // Lanes before this block's own hold no query that sees it.
        let own = from.lanes.iter().position(|lane| lane.contains(&block)).unwrap_or(0);
        for (sums, out) in from.sums.into_iter().zip([&mut s.y.values, &mut s.z.values]) {
            let out = fit(out, rows.len() * spec.kv_width());
            out.fill(0.0);
            for piece in &layout.blocks[block].pieces {
                for row in 0..piece.len {
                    let at = (piece.start - rows.start + row) * spec.kv_width();
                    for kv in 0..spec.heads_kv {
                        let out = &mut out[at + kv * spec.head..][..spec.head];
                        for lane in own..from.lanes.len() {
                            let slot = (kv * from.lanes.len() + lane) * layout.slots + piece.slot + row;
                            let lane = &sums[slot * spec.head..][..spec.head];
                            out.iter_mut().zip(lane).for_each(|(sum, value)| *sum += value);
                        }
                    }
                }
            }
        }
        let positions = &self.positions[rows.clone()];
        rope_back(self.rope, positions, spec.head, &mut s.o.values);
        rope_back(self.rope, positions, spec.head, &mut s.y.values);
        if let Some((q_norm, k_norm)) = &layer.weights.qk_norms {
            let projected = from.projected;
            for (raw, weights, d, width) in [
                (&projected.q_raw, q_norm, &mut s.o.values, spec.q_width()),
                (&projected.k_raw, k_norm, &mut s.y.values, spec.kv_width()),
            ] {
                let dy = fit(&mut s.wide, d.len());
                dy.copy_from_slice(d);
                d.fill(0.0);
                norm_back(&raw[rows.start * width..rows.end * width], weights, spec.eps, dy, d);
            }
        }
    }
}

/// Values as their words hold them.
fn round(per_word: usize, width: usize, rows: &mut Rows) {
    if per_word > 1 {
        rows.pack(per_word, width);
        unleft(per_word, &rows.words, width, &mut rows.values);
    }
}

/// What attention's backward left for the projections.
struct Gathered<'a> {
    dq: &'a [f32],
    /// dk and dv.
    sums: [&'a Vec<f32>; 2],
    lanes: &'a [Range<usize>],
    projected: &'a Projected,
}
