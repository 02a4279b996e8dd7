//! A tape of matrix operations in f64 with reverse-mode gradients: plain loops, nothing clever.

use super::{Attention, Matrix, Rope};

/// A value on the tape, by its place.
pub(super) type Id = usize;

/// The right side of a product: frozen, or trained and on the tape.
#[derive(Clone, Copy)]
pub(super) enum Weight<'a> {
    Frozen(&'a Matrix),
    Trained(Id),
}

enum Op<'a> {
    Given,
    /// x W^T
    Product(Id, Weight<'a>),
    /// x + scale y
    Sum(Id, Id, f64),
    /// Each run of `weights.len()` columns over its root mean square, times weights.
    Norm {
        x: Id,
        weights: &'a [f64],
        epsilon: f64,
    },
    Rope {
        x: Id,
        rope: &'a Rope,
        head: usize,
    },
    Attention {
        q: Id,
        k: Id,
        v: Id,
        shape: Attention,
        shares: Vec<f64>,
    },
    /// silu(gate) up
    Gated(Id, Id),
    /// log softmax(x / T)[token] of (row, token)s.
    Pick {
        x: Id,
        picks: Vec<(usize, usize)>,
        temperature: f64,
        shares: Vec<f64>,
    },
}

struct Node<'a> {
    value: Matrix,
    op: Op<'a>,
}

#[derive(Default)]
pub(super) struct Tape<'a> {
    nodes: Vec<Node<'a>>,
}

impl<'a> Tape<'a> {
    fn push(&mut self, value: Matrix, op: Op<'a>) -> Id {
        self.nodes.push(Node { value, op });
        self.nodes.len() - 1
    }

    pub fn value(&self, id: Id) -> &Matrix {
        &self.nodes[id].value
    }

    pub fn given(&mut self, value: Matrix) -> Id {
        self.push(value, Op::Given)
    }

    pub fn product(&mut self, x: Id, weight: Weight<'a>) -> Id {
        let w = match weight {
            Weight::Frozen(matrix) => matrix,
            Weight::Trained(id) => self.value(id),
        };
        let left = self.value(x);
        let mut value = Matrix::zeros(left.rows, w.rows);
        for row in 0..left.rows {
            for column in 0..w.rows {
                let products = left.row(row).iter().zip(w.row(column)).map(|(x, w)| x * w);
                value.row_mut(row)[column] = products.sum();
            }
        }
        self.push(value, Op::Product(x, weight))
    }

    pub fn sum(&mut self, x: Id, y: Id, scale: f64) -> Id {
        let mut value = self.value(x).clone();
        value.values.iter_mut().zip(&self.value(y).values).for_each(|(x, y)| *x += scale * y);
        self.push(value, Op::Sum(x, y, scale))
    }

    /// Add a frozen row to every row.
    pub fn bias(&mut self, x: Id, bias: &[f64]) -> Id {
        let rows = self.value(x).rows;
        let same = Matrix { rows, columns: bias.len(), values: bias.repeat(rows) };
        let same = self.given(same);
        self.sum(x, same, 1.0)
    }

    pub fn norm(&mut self, x: Id, weights: &'a [f64], epsilon: f64) -> Id {
        let mut value = self.value(x).clone();
        for run in value.values.chunks_mut(weights.len()) {
            let inverse = inverse_root(run, epsilon);
            run.iter_mut().zip(weights).for_each(|(x, w)| *x *= inverse * w);
        }
        self.push(value, Op::Norm { x, weights, epsilon })
    }

    pub fn rope(&mut self, x: Id, rope: &'a Rope, head: usize) -> Id {
        let mut value = self.value(x).clone();
        rope.turn(&mut value, head, 1.0);
        self.push(value, Op::Rope { x, rope, head })
    }

    pub fn attention(&mut self, [q, k, v]: [Id; 3], shape: Attention) -> Id {
        let (keys, values) = (self.value(k), self.value(v));
        let queries = self.value(q);
        let mut value = Matrix::zeros(queries.rows, shape.heads * shape.value);
        let mut shares = vec![0.0; shape.heads * queries.rows * queries.rows];
        for (head, t) in shape.places(queries.rows) {
            let share = shape.shares(&mut shares, head, t, queries.rows);
            for (s, share) in share.iter_mut().enumerate() {
                let products = shape.q(queries, head, t).iter().zip(shape.k(keys, head, s));
                *share = products.map(|(q, k)| q * k).sum::<f64>() / (shape.key as f64).sqrt();
            }
            softmax(share);
            let out = &mut value.row_mut(t)[head * shape.value..][..shape.value];
            for (s, share) in share.iter().enumerate() {
                out.iter_mut().zip(shape.v(values, head, s)).for_each(|(o, v)| *o += share * v);
            }
        }
        self.push(value, Op::Attention { q, k, v, shape, shares })
    }

    pub fn gated(&mut self, gate: Id, up: Id) -> Id {
        let mut value = self.value(gate).clone();
        let ups = &self.value(up).values;
        value.values.iter_mut().zip(ups).for_each(|(g, u)| *g *= logistic(*g) * u);
        self.push(value, Op::Gated(gate, up))
    }

    /// One row of log-probabilities.
    pub fn pick(&mut self, x: Id, picks: Vec<(usize, usize)>, temperature: f64) -> Id {
        let logits = self.value(x);
        let mut shares = Vec::new();
        let mut values = Vec::new();
        for (row, token) in &picks {
            let mut scaled: Vec<f64> = logits.row(*row).iter().map(|l| l / temperature).collect();
            let chosen = scaled[*token];
            let normaliser = softmax(&mut scaled);
            values.push(chosen - normaliser);
            shares.extend(scaled);
        }
        let value = Matrix { rows: 1, columns: values.len(), values };
        self.push(value, Op::Pick { x, picks, temperature, shares })
    }

    /// d(seed . value(last)) by every value of the tape.
    pub fn gradients(&self, last: Id, seed: &[f64]) -> Vec<Matrix> {
        let zeros = |node: &Node| Matrix::zeros(node.value.rows, node.value.columns);
        let mut gradients: Vec<Matrix> = self.nodes.iter().map(zeros).collect();
        gradients[last].values.copy_from_slice(seed);
        for id in (0..=last).rev() {
            let gradient = std::mem::take(&mut gradients[id]);
            self.backward(id, &gradient, &mut gradients);
            gradients[id] = gradient;
        }
        gradients
    }

    fn backward(&self, id: Id, dy: &Matrix, gradients: &mut [Matrix]) {
        match &self.nodes[id].op {
            Op::Given => {}
            Op::Product(x, weight) => self.product_backward(*x, *weight, dy, gradients),
            Op::Sum(x, y, scale) => {
                gradients[*x].add(dy, 1.0);
                gradients[*y].add(dy, *scale);
            }
            Op::Norm { x, weights, epsilon } => {
                let width = weights.len();
                let runs = self.value(*x).values.chunks(width).zip(dy.values.chunks(width));
                for ((x, dy), dx) in runs.zip(gradients[*x].values.chunks_mut(width)) {
                    let inverse = inverse_root(x, *epsilon);
                    let weighed = || dy.iter().zip(*weights).map(|(dy, w)| dy * w);
                    let along: f64 = weighed().zip(x).map(|(g, x)| g * x).sum();
                    let back = along * inverse.powi(3) / width as f64;
                    dx.iter_mut()
                        .zip(weighed().zip(x))
                        .for_each(|(dx, (g, x))| *dx += g * inverse - x * back);
                }
            }
            Op::Rope { x, rope, head } => {
                let mut turned = dy.clone();
                rope.turn(&mut turned, *head, -1.0);
                gradients[*x].add(&turned, 1.0);
            }
            Op::Attention { q, k, v, shape, shares } => {
                self.attention_backward([*q, *k, *v], *shape, shares, dy, gradients);
            }
            Op::Gated(gate, up) => {
                let (gates, ups) = (&self.value(*gate).values, &self.value(*up).values);
                for (at, dy) in dy.values.iter().enumerate() {
                    let (g, s) = (gates[at], logistic(gates[at]));
                    gradients[*up].values[at] += dy * g * s;
                    gradients[*gate].values[at] += dy * ups[at] * s * (1.0 + g * (1.0 - s));
                }
            }
            Op::Pick { x, picks, temperature, shares } => {
                let width = self.value(*x).columns;
                for (((row, token), dy), shares) in picks.iter().zip(&dy.values).zip(shares.chunks(width)) {
                    let dx = gradients[*x].row_mut(*row);
                    dx.iter_mut().zip(shares).for_each(|(dx, p)| *dx -= dy * p / temperature);
                    dx[*token] += dy / temperature;
                }
            }
        }
    }

    fn product_backward(&self, x: Id, weight: Weight, dy: &Matrix, gradients: &mut [Matrix]) {
        let w = match weight {
            Weight::Frozen(matrix) => matrix,
            Weight::Trained(id) => self.value(id),
        };
        for row in 0..dy.rows {
            for (column, dy) in dy.row(row).iter().enumerate().filter(|(_, dy)| **dy != 0.0) {
                let dx = gradients[x].row_mut(row);
                dx.iter_mut().zip(w.row(column)).for_each(|(dx, w)| *dx += dy * w);
                if let Weight::Trained(id) = weight {
                    let dw = gradients[id].row_mut(column);
                    dw.iter_mut().zip(self.value(x).row(row)).for_each(|(dw, x)| *dw += dy * x);
                }
            }
        }
    }

    fn attention_backward(
        &self,
        [q, k, v]: [Id; 3],
        shape: Attention,
        shares: &[f64],
        dy: &Matrix,
        gradients: &mut [Matrix],
    ) {
        let (queries, keys, values) = (self.value(q), self.value(k), self.value(v));
        let scale = 1.0 / (shape.key as f64).sqrt();
        for (head, t) in shape.places(dy.rows) {
            let shares = &shares[(head * dy.rows + t) * dy.rows..][..=t];
            let dy = &dy.row(t)[head * shape.value..][..shape.value];
            let dots = (0..=t).map(|s| dy.iter().zip(shape.v(values, head, s)).map(|(a, b)| a * b).sum());
            let d_shares: Vec<f64> = dots.collect();
            let along: f64 = d_shares.iter().zip(shares).map(|(d, p)| d * p).sum();
            for s in 0..=t {
                let group = head / (shape.heads / shape.heads_kv);
                let dv = &mut gradients[v].row_mut(s)[group * shape.value..][..shape.value];
                dv.iter_mut().zip(dy).for_each(|(dv, dy)| *dv += shares[s] * dy);
                let slope = shares[s] * (d_shares[s] - along) * scale;
                let dq = &mut gradients[q].row_mut(t)[head * shape.key..][..shape.key];
                dq.iter_mut().zip(shape.k(keys, head, s)).for_each(|(dq, k)| *dq += slope * k);
                let dk = &mut gradients[k].row_mut(s)[group * shape.key..][..shape.key];
                dk.iter_mut().zip(shape.q(queries, head, t)).for_each(|(dk, q)| *dk += slope * q);
            }
        }
    }
}

/// 1 / sqrt(mean square + epsilon)
fn inverse_root(run: &[f64], epsilon: f64) -> f64 {
    let square = run.iter().map(|x| x * x).sum::<f64>() / run.len() as f64;
    1.0 / (square + epsilon).sqrt()
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// In place; answers the logarithm of the sum of exponentials.
fn softmax(values: &mut [f64]) -> f64 {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = values.iter().map(|v| (v - most).exp()).sum();
    let normaliser = most + sum.ln();
    values.iter_mut().for_each(|v| *v = (*v - normaliser).exp());
    normaliser
}
