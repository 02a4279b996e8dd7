//! One layer's graphs, backward: from dL/d(output) to dL/d(input), and the sums of its LoRA gradients.
//!
//! Only the layer's input was kept; the rest is computed again. Each run's graph goes back to dq and adds to
//! dk and dv, which are whole when all runs are through; then q, k and v go back to the input.

use super::ffi::{Graph, Tensor};
use super::layer::{At, Attended, Fed};
use super::pass::Pass;
use crate::train::error::TrainError;
use crate::train::model::pass::{DOWN, GATE, K, OUTPUT, Q, UP, V};

impl Pass<'_> {
    /// dx = W^T dy + A^T dh and the pair's sums, where dh = s B^T dy; no dx unless it is `wanted`.
    fn linear_back<'g>(
        &'g self,
        g: &'g Graph,
        (at, which): (At<'g>, usize),
        (x, h): (Tensor<'g>, Option<Tensor<'g>>),
        dy: Tensor<'g>,
        wanted: bool,
    ) -> Option<Tensor<'g>> {
        let mut dx = wanted.then(|| g.mul_mat(at.weights.transposed(which), dy));
        if let (Some(pair), Some(h)) = (self.pair(at, which), h) {
            let dh = g.mul_mat(pair.b_turned, dy);
            if let Some((a, b)) = pair.sums {
                g.expand(g.add_into(a, g.out_prod(x, dh)));
                g.expand(g.add_into(b, g.out_prod(h, dy)));
            }
            dx = dx.map(|dx| g.add(dx, g.mul_mat(pair.a_turned, dh)));
        }
        dx
    }

    /// `d` is dL/d(output) and becomes dL/d(input), unless `last`: then only the sums are wanted.
    pub fn backward(&self, at: At, x: Tensor, d: Tensor, last: bool) -> Result<(), TrainError> {
        let Some(back) = self.back() else { return Ok(()) };
        self.project(at, x)?;
        back.dk.clear();
        back.dv.clear();
        for run in self.runs() {
            let graph = self.graph()?;
            let g = &graph;
            let attended = self.attend(g, run);
            let fed = self.feed(g, at, g.columns(x, run.0, run.1), attended.o);
            let d = g.columns(d, run.0, run.1);
            if let Some((dx1, d_o)) = self.feed_back(g, at, (&fed, attended.o), d) {
                self.attention_back(g, run, &attended, d_o)?;
                g.expand(g.copy(dx1, d));
            }
            self.compute(g, &[])?;
        }
        for run in self.runs() {
            self.projections_back(at, run, (x, d), last)?;
        }
        Ok(())
    }

    /// d(x1) and d(attention's output) from d(output).
    fn feed_back<'g>(
        &'g self,
        g: &'g Graph,
        at: At<'g>,
        (fed, o): (&Fed<'g>, Tensor<'g>),
        d: Tensor<'g>,
    ) -> Option<(Tensor<'g>, Tensor<'g>)> {
        // A x of the product's own linear, which no forward of this graph needed.
        let h_down = self.pair(at, DOWN).map(|pair| g.mul_mat(pair.a, fed.a));
        let da = self.linear_back(g, (at, DOWN), (fed.a, h_down), d, true)?;
        let d_up = g.mul(da, fed.silu);
        let d_gate = g.silu_back(g.mul(da, fed.up.0), fed.gate.0);
        let from_gate = self.linear_back(g, (at, GATE), (fed.normed, fed.gate.1), d_gate, true)?;
        let from_up = self.linear_back(g, (at, UP), (fed.normed, fed.up.1), d_up, true)?;
        let dn = g.mul(g.add(from_gate, from_up), at.weights.feed_forward_norm());
        let dx1 = g.add(g.rms_norm_back(dn, fed.x1, self.spec.eps), d);
        let d_o = self.linear_back(g, (at, OUTPUT), (o, fed.h_output), dx1, true)?;
        Some((dx1, d_o))
    }

    /// dq of the run, and its share of dk and dv.
    fn attention_back<'g>(
        &'g self,
        g: &'g Graph,
        run: (usize, usize),
        attended: &Attended<'g>,
        d_o: Tensor<'g>,
    ) -> Result<(), TrainError> {
        let (spec, keys) = (self.spec, run.0 + run.1);
        let Some(back) = self.back() else { return Ok(()) };
        let d_o = g.reshape(d_o, [spec.head, spec.heads, run.1, 1]);
        let d_o = g.cont(g.permute(d_o, [0, 2, 1, 3]));
        let d_o = g.reshape(d_o, [spec.head, attended.q.dim(1), spec.heads_kv, 1]);
        let dp = g.mul_mat(self.by_head(g, back.v, (0, keys)), d_o);
        let weighted = g.mul(attended.p, dp);
        let mean = g.sum_rows(weighted);
        let ds = g.scale(g.sub(weighted, g.mul(attended.p, mean)), spec.attention_scale);
        let k_turned = back.k_turned;
        let row = k_turned.stride(1);
        let k_turned = g.view(k_turned, [keys, spec.head, spec.heads_kv], (row, k_turned.stride(2)), 0);
        let dq = g.reshape(g.mul_mat(k_turned, ds), [spec.head, run.1, spec.heads, 1]);
        g.expand(g.copy(dq, self.by_head(g, back.dq, run)));
        let dk = self.by_head(g, back.dk, (0, keys));
        g.expand(g.add_into(dk, g.out_prod(attended.q, ds)));
        let dv = self.by_head(g, back.dv, (0, keys));
        g.expand(g.add_into(dv, g.out_prod(d_o, attended.p)));
        Ok(())
    }

    /// q, k and v of a run back to the layer's input.
    fn projections_back(
        &self,
        at: At,
        run: (usize, usize),
        (x, d): (Tensor, Tensor),
        last: bool,
    ) -> Result<(), TrainError> {
        let (spec, weights) = (self.spec, at.weights);
        let Some(back) = self.back() else { return Ok(()) };
        let graph = self.graph()?;
        let g = &graph;
        let x = g.columns(x, run.0, run.1);
        let normed = self.norm(g, x, weights.attention_norm());
        let norms = weights.head_norms();
        let turn = self.turn(g, run);
        let all = [
            (Q, spec.heads, back.dq, norms.map(|n| n.0)),
            (K, spec.heads_kv, back.dk, norms.map(|n| n.1)),
            (V, spec.heads_kv, back.dv, None),
        ];
        let mut dn: Option<Tensor> = None;
        for (which, heads, dy, norm) in all {
            let dy = g.cont(g.permute(self.by_head(g, dy, run), [0, 2, 1, 3]));
            let mut dy = g.reshape(dy, [spec.head, heads, run.1, 1]);
            if which != V {
                dy = g.rope(dy, &turn, true);
            }
            if let Some(norm) = norm {
                let (raw, _) = self.linear(g, at, which, normed);
                let raw = g.reshape(raw, [spec.head, heads, run.1, 1]);
                dy = g.rms_norm_back(g.mul(dy, norm), raw, spec.eps);
            }
            let dy = g.reshape(dy, [spec.head * heads, run.1, 1, 1]);
            let h = self.pair(at, which).map(|pair| g.mul_mat(pair.a, normed));
            let dx = self.linear_back(g, (at, which), (normed, h), dy, !last);
            dn = match (dn, dx) {
                (Some(sum), Some(dx)) => Some(g.add(sum, dx)),
                (sum, dx) => sum.or(dx),
            };
        }
        if let Some(dn) = dn {
            let dn = g.mul(dn, weights.attention_norm());
            let d = g.columns(d, run.0, run.1);
            g.expand(g.copy(g.add(d, g.rms_norm_back(dn, x, spec.eps)), d));
        }
        self.compute(g, &[])?;
        Ok(())
    }
}
