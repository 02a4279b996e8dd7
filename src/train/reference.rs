//! The policy once more, in plain f64 and without any cleverness: what the trainer's numbers are tested against.
//!
//! Dense llama, qwen2 and qwen3 at toy size; every row on its own, no tree, no chunks, no quantised kernels.
//! Nothing outside tests and benches calls it.

#[cfg(test)]
mod policy;
mod tape;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod torch;

use std::fs::File;
use std::path::Path;

use crate::gguf::{Header, TensorType, check, quant};
use crate::train::adapter_file::{AdapterError, bytes_of};
use crate::train::lora::{Gradients, Lora};
use crate::train::tree::Row;
use tape::{Id, Tape, Weight};

/// [rows][columns], row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f64>,
}

/// The rotation of queries and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    pub base: f64,
    /// First values of a head that turn.
    pub dims: usize,
    /// Pairs are (i, i + dims / 2), as qwen has them; else (2i, 2i + 1), as llama.
    pub neox: bool,
    /// Divide the angle of pair i; empty: all 1.
    pub factors: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    pub heads: usize,
    pub heads_kv: usize,
    /// Values per key and per value head.
    pub key: usize,
    pub value: usize,
}

/// A base matrix and the name adapters know it by.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    pub name: String,
    pub weight: Matrix,
    pub bias: Option<Vec<f64>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub attn_norm: Vec<f64>,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub q_norm: Option<Vec<f64>>,
    pub k_norm: Option<Vec<f64>>,
    pub output: Linear,
    pub ffn_norm: Vec<f64>,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub embedding: Matrix,
    /// None: the embedding.
    pub head: Option<Matrix>,
    pub output_norm: Vec<f64>,
    pub blocks: Vec<Block>,
    pub epsilon: f64,
    pub rope: Rope,
    pub attention: Attention,
}

/// A [`Lora`] in f64, so that differences can be taken of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    pub scale: f64,
    /// Base tensor, A [r, n_in], B [n_out, r].
    pub pairs: Vec<(String, Matrix, Matrix)>,
}

impl Adapter {
    pub fn from_lora(lora: &Lora) -> Adapter {
        let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect();
        let pairs = lora.pairs.iter().map(|pair| {
            let a = Matrix { rows: lora.rank, columns: pair.n_in, values: wide(&pair.a) };
            let b = Matrix { rows: pair.n_out, columns: lora.rank, values: wide(&pair.b) };
            (pair.tensor.clone(), a, b)
        });
        Adapter { scale: f64::from(lora.alpha) / lora.rank as f64, pairs: pairs.collect() }
    }
}

/// log softmax(logits / temperature) of every sampled token, by row, then index. A row's first token needs
/// a prompt before it.
pub fn logprobs(model: &Model, rows: &[Row], adapter: Option<&Adapter>, temperature: f64) -> Vec<f64> {
    let one = |row| {
        let run = Run::new(model, row, adapter, temperature);
        run.tape.value(run.last).values.clone()
    };
    rows.iter().filter(|row| !row.sampled.is_empty()).flat_map(one).collect()
}

/// d(sum_k coefficients_k logp_k) by A and B, in the adapter's order.
pub fn gradients(
    model: &Model,
    rows: &[Row],
    adapter: &Adapter,
    temperature: f64,
    coefficients: &[f64],
) -> Vec<(Vec<f64>, Vec<f64>)> {
    let zeros = |(_, a, b): &(String, Matrix, Matrix)| (vec![0.0; a.values.len()], vec![0.0; b.values.len()]);
    let mut sums: Vec<_> = adapter.pairs.iter().map(zeros).collect();
    let mut left = coefficients;
    for row in rows.iter().filter(|row| !row.sampled.is_empty()) {
        let run = Run::new(model, row, Some(adapter), temperature);
        let (own, rest) = left.split_at(run.tape.value(run.last).columns);
        left = rest;
        let gradients = run.tape.gradients(run.last, own);
        for ((sum_a, sum_b), [a, b]) in sums.iter_mut().zip(&run.trained) {
            sum_a.iter_mut().zip(&gradients[*a].values).for_each(|(sum, g)| *sum += g);
            sum_b.iter_mut().zip(&gradients[*b].values).for_each(|(sum, g)| *sum += g);
        }
    }
    sums
}

/// |given - exact| / |exact|, Euclidean over all numbers.
pub fn relative_error(given: &Gradients, exact: &[(Vec<f64>, Vec<f64>)]) -> f64 {
    let exact = exact.iter().flat_map(|(a, b)| a.iter().chain(b));
    let (mut apart, mut size) = (0.0, 0.0);
    for (given, exact) in given.values().zip(exact) {
        apart += (f64::from(given) - exact).powi(2);
        size += exact * exact;
    }
    (apart / size).sqrt()
}

/// One row's forward pass on a tape.
struct Run<'a> {
    model: &'a Model,
    adapter: Option<&'a Adapter>,
    tape: Tape<'a>,
    /// A and B of each pair.
    trained: Vec<[Id; 2]>,
    last: Id,
}

impl<'a> Run<'a> {
    fn new(model: &'a Model, row: &Row, adapter: Option<&'a Adapter>, temperature: f64) -> Run<'a> {
        let mut tape = Tape::default();
        let pairs = adapter.map_or(&[][..], |adapter| &adapter.pairs);
        let trained = pairs.iter().map(|(_, a, b)| [tape.given(a.clone()), tape.given(b.clone())]).collect();
        let mut run = Run { model, adapter, tape, trained, last: 0 };
        let ids = row.prompt.iter().chain(&row.sampled[..row.sampled.len() - 1]);
        let mut embedded = Matrix { rows: 0, columns: model.embedding.columns, values: Vec::new() };
        for id in ids {
            embedded.values.extend_from_slice(model.embedding.row(*id as usize));
            embedded.rows += 1;
        }
        let mut x = run.tape.given(embedded);
        for block in &model.blocks {
            x = run.block(block, x);
        }
        x = run.tape.norm(x, &model.output_norm, model.epsilon);
        let logits = run.tape.product(x, Weight::Frozen(model.head.as_ref().unwrap_or(&model.embedding)));
        let first = row.prompt.len();
        let predicted = row.sampled.iter().enumerate().filter(|(index, _)| first + index > 0);
        let picks = predicted.map(|(index, token)| (first + index - 1, *token as usize)).collect();
        run.last = run.tape.pick(logits, picks, temperature);
        run
    }

    fn block(&mut self, block: &'a Block, x: Id) -> Id {
        let Model { epsilon, rope, attention, .. } = self.model;
        let h = self.tape.norm(x, &block.attn_norm, *epsilon);
        let [mut q, mut k, v] = [&block.q, &block.k, &block.v].map(|linear| self.linear(linear, h));
        if let Some(weights) = &block.q_norm {
            q = self.tape.norm(q, weights, *epsilon);
        }
        if let Some(weights) = &block.k_norm {
            k = self.tape.norm(k, weights, *epsilon);
        }
        q = self.tape.rope(q, rope, attention.key);
        k = self.tape.rope(k, rope, attention.key);
        let mixed = self.tape.attention([q, k, v], *attention);
        let mixed = self.linear(&block.output, mixed);
        let x = self.tape.sum(x, mixed, 1.0);
        let h = self.tape.norm(x, &block.ffn_norm, *epsilon);
        let [gate, up] = [&block.gate, &block.up].map(|linear| self.linear(linear, h));
        let gated = self.tape.gated(gate, up);
        let fed = self.linear(&block.down, gated);
        self.tape.sum(x, fed, 1.0)
    }

    /// W x + b + scale B (A x)
    fn linear(&mut self, linear: &'a Linear, x: Id) -> Id {
        let mut y = self.tape.product(x, Weight::Frozen(&linear.weight));
        if let Some(bias) = &linear.bias {
            y = self.tape.bias(y, bias);
        }
        let Some(adapter) = self.adapter else { return y };
        let Some(at) = adapter.pairs.iter().position(|(name, ..)| *name == linear.name) else { return y };
        let [a, b] = self.trained[at];
        let narrow = self.tape.product(x, Weight::Trained(a));
        let wide = self.tape.product(narrow, Weight::Trained(b));
        self.tape.sum(y, wide, adapter.scale)
    }
}

impl Model {
    /// Read a model file of types this project unpacks itself: F32, F16, BF16, Q8_0, Q4_0.
    ///
    /// # Errors
    /// [`AdapterError`] for files that are refused, or hold what is not computed here.
    pub fn from_gguf(path: &Path) -> Result<Model, AdapterError> {
        Model::from_gguf_with(path, quant::unpack)
    }

    /// The same with another unpacker, for other types.
    ///
    /// # Errors
    /// As [`Model::from_gguf`].
    pub fn from_gguf_with(
        path: &Path,
        unpack: impl Fn(TensorType, &[u8]) -> Option<Vec<f32>>,
    ) -> Result<Model, AdapterError> {
        let header = check(path)?;
        let mut file = File::open(path).map_err(|source| AdapterError::Io {
            path: path.to_path_buf(),
            verb: "opened",
            source,
        })?;
        Model::from_tensors(&header, |name| {
            let Some(tensor) = header.tensor(name) else { return Ok(None) };
            let bytes = bytes_of(&mut file, path, header.data_offset, tensor)?;
            let values = unpack(tensor.kind, &bytes).ok_or_else(|| AdapterError::Refused {
                path: path.to_path_buf(),
                reason: format!("{name} is {}, which is not unpacked here", tensor.kind.name),
            })?;
            let columns = tensor.dims[0] as usize;
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            Ok(Some(Matrix { rows: values.len() / columns, columns, values }))
        })
    }

    /// A model of what `tensor` answers by name; sizes are the header's.
    ///
    /// # Errors
    /// Whatever `tensor` fails with, and [`AdapterError::Refused`] for other architectures.
    pub fn from_tensors(
        header: &Header,
        mut tensor: impl FnMut(&str) -> Result<Option<Matrix>, AdapterError>,
    ) -> Result<Model, AdapterError> {
        let refused = |reason: String| AdapterError::Refused { path: header.name().into(), reason };
        let neox = match header.architecture.as_str() {
            "llama" => false,
            "qwen2" | "qwen3" => true,
            other => return Err(refused(format!("{other} is none of llama, qwen2, qwen3"))),
        };
        if header.of_arch("expert_count").unwrap_or(0) > 0 {
            return Err(refused("it has experts".to_string()));
        }
        let (key, value) = header.head_lengths();
        let first = |counts: Vec<u64>| counts.first().copied().unwrap_or(1) as usize;
        let attention = Attention {
            heads: first(header.heads()),
            heads_kv: first(header.heads_kv()),
            key: key as usize,
            value: value as usize,
        };
        let number = |key: &str, default: f32| {
            f64::from(header.f32(&format!("{}.{key}", header.architecture)).unwrap_or(default))
        };
        let (base, epsilon) =
            (number("rope.freq_base", 10_000.0), number("attention.layer_norm_rms_epsilon", 1e-5));
        let dims = header.of_arch("rope.dimension_count").unwrap_or(key) as usize;
        let mut find = |name: &str| tensor(name)?.ok_or_else(|| refused(format!("it has no tensor {name}")));
        let embedding = find("token_embd.weight")?;
        let output_norm = find("output_norm.weight")?.values;
        let mut blocks = Vec::new();
        for block in 0..header.blocks() {
            blocks.push(Block::read(block, header, &mut find)?);
        }
        let head = if header.tensor("output.weight").is_some() { Some(find("output.weight")?) } else { None };
        let factors = match header.tensor("rope_freqs.weight") {
            Some(_) => find("rope_freqs.weight")?.values,
            None => Vec::new(),
        };
        let rope = Rope { base, dims, neox, factors };
        Ok(Model { embedding, head, output_norm, blocks, epsilon, rope, attention })
    }
}

impl Block {
    fn read(
        block: u64,
        header: &Header,
        find: &mut impl FnMut(&str) -> Result<Matrix, AdapterError>,
    ) -> Result<Block, AdapterError> {
        let full = |name: &str| format!("blk.{block}.{name}");
        let mut optional = |name: &str| match header.tensor(&full(name)) {
            Some(_) => find(&full(name)).map(|matrix| Some(matrix.values)),
            None => Ok(None),
        };
        let biases = ["attn_q", "attn_k", "attn_v", "attn_output"].map(|n| optional(&format!("{n}.bias")));
        let [q_bias, k_bias, v_bias, output_bias] = biases;
        let (q_norm, k_norm) = (optional("attn_q_norm.weight")?, optional("attn_k_norm.weight")?);
        let mut linear = |name: &str, bias| {
            let name = full(&format!("{name}.weight"));
            find(&name).map(|weight| Linear { name, weight, bias })
        };
        Ok(Block {
            q: linear("attn_q", q_bias?)?,
            k: linear("attn_k", k_bias?)?,
            v: linear("attn_v", v_bias?)?,
            output: linear("attn_output", output_bias?)?,
            gate: linear("ffn_gate", None)?,
            up: linear("ffn_up", None)?,
            down: linear("ffn_down", None)?,
            attn_norm: find(&full("attn_norm.weight"))?.values,
            ffn_norm: find(&full("ffn_norm.weight"))?.values,
            q_norm,
            k_norm,
        })
    }
}

impl Matrix {
    pub fn zeros(rows: usize, columns: usize) -> Matrix {
        Matrix { rows, columns, values: vec![0.0; rows * columns] }
    }

    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.columns..][..self.columns]
    }

    fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.values[row * self.columns..][..self.columns]
    }

    fn add(&mut self, other: &Matrix, scale: f64) {
        self.values.iter_mut().zip(&other.values).for_each(|(own, other)| *own += scale * other);
    }
}

impl Rope {
    /// Turn every head of every row by its position, the row's index; `sign` -1 turns back.
    fn turn(&self, x: &mut Matrix, head: usize, sign: f64) {
        for row in 0..x.rows {
            for values in x.row_mut(row).chunks_mut(head) {
                for pair in 0..self.dims / 2 {
                    let (i, j) =
                        if self.neox { (pair, pair + self.dims / 2) } else { (2 * pair, 2 * pair + 1) };
                    let factor = self.factors.get(pair).copied().unwrap_or(1.0);
                    let exponent = -2.0 * pair as f64 / self.dims as f64;
                    let (sin, cos) = (sign * row as f64 * self.base.powf(exponent) / factor).sin_cos();
                    let (a, b) = (values[i], values[j]);
                    values[i] = a * cos - b * sin;
                    values[j] = a * sin + b * cos;
                }
            }
        }
    }
}

impl Attention {
    /// All (head, row)s.
    fn places(self, rows: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..self.heads).flat_map(move |head| (0..rows).map(move |t| (head, t)))
    }

    /// What row t of a head gives to rows 0..=t.
    fn shares(self, all: &mut [f64], head: usize, t: usize, rows: usize) -> &mut [f64] {
        &mut all[(head * rows + t) * rows..][..=t]
    }

    fn q(self, x: &Matrix, head: usize, row: usize) -> &[f64] {
        &x.row(row)[head * self.key..][..self.key]
    }

    fn k(self, x: &Matrix, head: usize, row: usize) -> &[f64] {
        &x.row(row)[head / (self.heads / self.heads_kv) * self.key..][..self.key]
    }

    fn v(self, x: &Matrix, head: usize, row: usize) -> &[f64] {
        &x.row(row)[head / (self.heads / self.heads_kv) * self.value..][..self.value]
    }
}
