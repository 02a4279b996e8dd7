//! One layer's graphs, forward: project (norm, q, k, v, positions), then attend and feed forward, each for a
//! run of nodes at a time so that a large tree takes no more room than a small one.

use super::ffi::{Graph, Tensor, Turn};
use super::pass::Pass;
use super::weights::{Layer, Pair};
use crate::train::error::TrainError;
use crate::train::model::pass::{DOWN, GATE, K, OUTPUT, Q, UP, V};

/// A layer, its place and what is computed of it.
#[derive(Clone, Copy)]
pub struct At<'a> {
    pub index: usize,
    pub weights: Layer<'a>,
}

/// A linear's result and A x, where it has a pair.
pub type Linear<'g> = (Tensor<'g>, Option<Tensor<'g>>);

/// What attention leaves for its backward.
pub struct Attended<'g> {
    /// Queries, [head, queries of a key-value head's heads, kv heads].
    pub q: Tensor<'g>,
    /// Probabilities, [keys, queries, kv heads], shaped alike.
    pub p: Tensor<'g>,
    /// [q width, nodes]
    pub o: Tensor<'g>,
}

/// What the feed-forward leaves for its backward.
pub struct Fed<'g> {
    pub x1: Tensor<'g>,
    pub h_output: Option<Tensor<'g>>,
    pub normed: Tensor<'g>,
    pub gate: Linear<'g>,
    pub up: Linear<'g>,
    pub silu: Tensor<'g>,
    pub a: Tensor<'g>,
}

impl Pass<'_> {
    pub fn pair(&self, at: At, which: usize) -> Option<Pair<'_>> {
        self.adapter.as_ref().and_then(|adapter| adapter.pair(at.index, which))
    }

    /// y = W x + b + s B A x.
    pub fn linear<'g>(&'g self, graph: &'g Graph, at: At<'g>, which: usize, x: Tensor<'g>) -> Linear<'g> {
        let mut y = graph.mul_mat(at.weights.matrix(which), x);
        if let Some(bias) = at.weights.bias(which) {
            y = graph.add(y, bias);
        }
        let Some(pair) = self.pair(at, which) else { return (y, None) };
        let h = graph.mul_mat(pair.a, x);
        (graph.add(y, graph.mul_mat(pair.b, h)), Some(h))
    }

    pub fn norm<'g>(&self, graph: &'g Graph, x: Tensor<'g>, weight: Tensor<'g>) -> Tensor<'g> {
        graph.mul(graph.rms_norm(x, self.spec.eps), weight)
    }

    pub fn turn<'g>(&'g self, graph: &'g Graph, (first, count): (usize, usize)) -> Turn<'g> {
        Turn {
            positions: graph.view(self.positions(), [count, 1, 1], (4 * count, 4 * count), 4 * first),
            factors: self.factors(),
            width: self.spec.head,
            split: self.spec.rope_split,
            base: self.spec.rope_base,
            scale: self.spec.rope_scale,
        }
    }

    /// Some nodes of a buffer [head, nodes, heads].
    pub fn by_head<'g>(&self, graph: &'g Graph, x: Tensor<'g>, (first, count): (usize, usize)) -> Tensor<'g> {
        graph.view(x, [x.dim(0), count, x.dim(2)], (x.stride(1), x.stride(2)), first * x.stride(1))
    }

    /// Some nodes of a buffer [nodes, head, heads].
    fn turned_by_head<'g>(
        &self,
        graph: &'g Graph,
        x: Tensor<'g>,
        (first, count): (usize, usize),
    ) -> Tensor<'g> {
        graph.view(x, [count, x.dim(1), x.dim(2)], (x.stride(1), x.stride(2)), first * x.stride(0))
    }

    /// q, k and v of all nodes, into the pass's buffers; what only a backward reads is left out without one.
    pub fn project(&self, at: At, x: Tensor) -> Result<(), TrainError> {
        let (spec, weights) = (self.spec, at.weights);
        for run in self.runs() {
            let graph = self.graph()?;
            let g = &graph;
            let x = g.columns(x, run.0, run.1);
            let normed = self.norm(g, x, weights.attention_norm());
            let turn = self.turn(g, run);
            let norms = weights.head_norms();
            let heads = [(Q, spec.heads, norms.map(|n| n.0)), (K, spec.heads_kv, norms.map(|n| n.1))];
            for (which, heads, norm) in heads {
                let (y, _) = self.linear(g, at, which, normed);
                let mut y = g.reshape(y, [spec.head, heads, run.1, 1]);
                if let Some(norm) = norm {
                    y = self.norm(g, y, norm);
                }
                let y = g.rope(y, &turn, false);
                let to = if which == Q { self.q() } else { self.k() };
                g.expand(g.copy(g.permute(y, [0, 2, 1, 3]), self.by_head(g, to, run)));
                if let Some(to) = self.k_turned().filter(|_| which == K) {
                    g.expand(g.copy(g.permute(y, [1, 2, 0, 3]), self.turned_by_head(g, to, run)));
                }
            }
            let (v, _) = self.linear(g, at, V, normed);
            let v = g.reshape(v, [spec.head, spec.heads_kv, run.1, 1]);
            g.expand(g.copy(g.permute(v, [1, 2, 0, 3]), self.turned_by_head(g, self.v_turned(), run)));
            if let Some(to) = self.v() {
                g.expand(g.copy(g.permute(v, [0, 2, 1, 3]), self.by_head(g, to, run)));
            }
            self.compute(g, &[])?;
        }
        Ok(())
    }

    /// A run's queries over all keys up to its end; the mask leaves each its ancestors.
    pub fn attend<'g>(&'g self, graph: &'g Graph, run: (usize, usize)) -> Attended<'g> {
        let (spec, keys) = (self.spec, run.0 + run.1);
        let group = spec.heads / spec.heads_kv;
        let q = graph.cont(self.by_head(graph, self.q(), run));
        // Heads of one key-value head stand side by side: its queries are one matrix.
        let q = graph.reshape(q, [spec.head, run.1 * group, spec.heads_kv, 1]);
        let scores = graph.mul_mat(self.by_head(graph, self.k(), (0, keys)), q);
        let scores = graph.reshape(scores, [keys, run.1, group, spec.heads_kv]);
        let p = graph.soft_max_masked(scores, self.mask(run), spec.attention_scale);
        let p = graph.reshape(p, [keys, run.1 * group, spec.heads_kv, 1]);
        let o = graph.mul_mat(self.turned_by_head(graph, self.v_turned(), (0, keys)), p);
        let o = graph.reshape(o, [spec.head, run.1, spec.heads, 1]);
        let o = graph.cont(graph.permute(o, [0, 2, 1, 3]));
        Attended { q, p, o: graph.reshape(o, [spec.q_width(), run.1, 1, 1]) }
    }

    /// From attention's output to the gated product.
    pub fn feed<'g>(&'g self, g: &'g Graph, at: At<'g>, x: Tensor<'g>, o: Tensor<'g>) -> Fed<'g> {
        let (y, h_output) = self.linear(g, at, OUTPUT, o);
        let x1 = g.add(x, y);
        let normed = self.norm(g, x1, at.weights.feed_forward_norm());
        let gate = self.linear(g, at, GATE, normed);
        let up = self.linear(g, at, UP, normed);
        let silu = g.silu(gate.0);
        Fed { x1, h_output, normed, gate, up, silu, a: g.mul(silu, up.0) }
    }

    /// The layer's output from its input, both [hidden, nodes].
    pub fn forward(&self, at: At, x: Tensor, out: Tensor) -> Result<(), TrainError> {
        self.project(at, x)?;
        for run in self.runs() {
            let graph = self.graph()?;
            let g = &graph;
            let attended = self.attend(g, run);
            let fed = self.feed(g, at, g.columns(x, run.0, run.1), attended.o);
            let (down, _) = self.linear(g, at, DOWN, fed.a);
            g.expand(g.copy(g.add(fed.x1, down), g.columns(out, run.0, run.1)));
            self.compute(g, &[])?;
        }
        Ok(())
    }
}
