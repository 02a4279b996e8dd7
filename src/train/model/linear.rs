//! One linear with its LoRA pair, forward and backward, for the rows of a block.
//!
//! ```text
//! y  = W x + b + s B h          h  = A x
//! dx = W^T dy + A^T dh          dh = s B^T dy
//! dA = dh x^T                   dB = s dy h^T
//! ```
//!
//! W in the main kernels' words, the pair in f32 always: its steps are smaller than a bf16 can hold.

use super::adapter::{PackedPair, PairSums};
use super::weights::Panels;
use crate::train::kernels::{GROUP, Kernels, Left, Low, Product, Right, bits, left, words};

/// Rows of activations as f32 and as the left side of a product.
#[derive(Default)]
pub struct Rows {
    pub values: Vec<f32>,
    pub words: Vec<u32>,
}

impl Rows {
    /// The words of the values, rows of `width`.
    pub fn pack(&mut self, per_word: usize, width: usize) {
        let rows = self.values.len() / width;
        self.words.resize(rows * words(per_word, width), 0);
        left(per_word, &self.values, width, width, &mut self.words);
    }
}

/// A linear's parts.
#[derive(Clone, Copy)]
pub struct Linear<'a> {
    pub n_in: usize,
    pub n_out: usize,
    pub panels: &'a Panels,
    pub bias: Option<&'a [f32]>,
    pub pair: Option<&'a PackedPair>,
    pub main: &'a dyn Kernels,
    /// f32 products.
    pub wide: &'a dyn Kernels,
}

impl Linear<'_> {
    /// h = A x.
    pub fn low(&self, x: &[f32], h: &mut Vec<f32>) {
        let Some(pair) = self.pair else { return h.clear() };
        let rows = x.len() / self.n_in;
        h.resize(rows * pair.rank, 0.0);
        let product = Product {
            rows,
            columns: pair.rank,
            steps: self.n_in,
            left: Left { words: bits(x), row: self.n_in, step: 1 },
            right: Right { words: &pair.a_panels, step: GROUP, group: self.n_in * GROUP },
            low: None,
            add: false,
            stride: pair.rank,
        };
        self.wide.multiply(&product, h);
    }

    /// y = W x + b + s B h, or y += ...; `h` keeps A x.
    pub fn forward(&self, x: &Rows, y: &mut [f32], add: bool, h: &mut Vec<f32>) {
        self.low(&x.values, h);
        let rows = x.values.len() / self.n_in;
        if let Some(bias) = self.bias {
            for y in y.chunks_exact_mut(self.n_out) {
                y.iter_mut().zip(bias).for_each(|(y, b)| *y = if add { *y + b } else { *b });
            }
        }
        let steps = words(self.main.per_word(), self.n_in);
        let product = Product {
            rows,
            columns: self.n_out,
            steps,
            left: Left { words: &x.words, row: steps, step: 1 },
            right: Right { words: &self.panels.forward, step: GROUP, group: steps * GROUP },
            low: self.pair.map(|pair| Low { rank: pair.rank, h, m: &pair.b_transposed, width: self.n_out }),
            add: add || self.bias.is_some(),
            stride: self.n_out,
        };
        self.main.multiply(&product, y);
    }

    /// dx (+)= W^T dy + A^T dh, where one is wanted; adds to the pair's sums.
    pub fn backward(&self, dy: &Rows, x: &[f32], h: &[f32], dx: Option<(&mut [f32], bool)>, sums: Sums) {
        let rows = dy.values.len() / self.n_out;
        let Sums { pair: sums, dh } = sums;
        if let Some(pair) = self.pair {
            dh.resize(rows * pair.rank, 0.0);
            let product = Product {
                rows,
                columns: pair.rank,
                steps: self.n_out,
                left: Left { words: bits(&dy.values), row: self.n_out, step: 1 },
                right: Right { words: bits(&pair.b), step: pair.b_width, group: GROUP },
                low: None,
                add: false,
                stride: pair.rank,
            };
            self.wide.multiply(&product, dh);
            self.outer(dh, x, pair.rank, &mut sums.a);
            self.outer(h, &dy.values, pair.rank, &mut sums.b_transposed);
        }
        let Some((dx, add)) = dx else { return };
        let steps = words(self.main.per_word(), self.n_out);
        let product = Product {
            rows,
            columns: self.n_in,
            steps,
            left: Left { words: &dy.words, row: steps, step: 1 },
            right: Right { words: &self.panels.backward, step: GROUP, group: steps * GROUP },
            low: self.pair.map(|pair| Low { rank: pair.rank, h: dh, m: &pair.a, width: self.n_in }),
            add,
            stride: self.n_in,
        };
        self.main.multiply(&product, dx);
    }

    /// out[r][n] += h^T x, for h [rows][r] and x [rows][n].
    fn outer(&self, h: &[f32], x: &[f32], rank: usize, out: &mut [f32]) {
        let rows = h.len() / rank;
        let width = out.len() / rank;
        let product = Product {
            rows: rank,
            columns: width,
            steps: rows,
            left: Left { words: bits(h), row: 1, step: rank },
            right: Right { words: bits(x), step: width, group: GROUP },
            low: None,
            add: true,
            stride: width,
        };
        self.wide.multiply(&product, out);
    }
}

/// Where a linear's backward leaves its sums, and room for dh.
pub struct Sums<'a> {
    pub pair: &'a mut PairSums,
    pub dh: &'a mut Vec<f32>,
}
