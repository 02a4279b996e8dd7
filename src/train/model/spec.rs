//! What a model file says about its own forward pass, and whether the trainer has the backward of all of it.
//!
//! Dense llama, qwen2 and qwen3. Anything the file holds that is not understood here is refused by name:
//! a gradient that silently leaves out a part of the model would train another model than is served.

use std::path::Path;

use super::TrainError;
use crate::gguf::Header;

/// Sizes and constants of a model that can be trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub blocks: usize,
    pub hidden: usize,
    pub feed_forward: usize,
    pub heads: usize,
    pub heads_kv: usize,
    /// Values of one head.
    pub head: usize,
    pub vocabulary: usize,
    pub eps: f32,
    pub rope_base: f32,
    /// Positions are multiplied with it.
    pub rope_scale: f32,
    /// NEOX pairs (i, i + half); else NORM pairs (2i, 2i + 1).
    pub rope_split: bool,
    /// Scores are multiplied with it.
    pub attention_scale: f32,
    pub qk_norm: bool,
}

/// Architectures with a backward pass.
pub const TRAINABLE: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// The planner's linears in each block, in the order of [`crate::train::lora::Lora`].
pub const LINEARS: [&str; 7] =
    ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

impl Spec {
    /// # Errors
    /// [`TrainError::Unsupported`] names what is not understood and what to do instead.
    pub fn read(header: &Header, path: &Path) -> Result<Spec, TrainError> {
        let refuse = |reason: String, remedy: &str| {
            Err(TrainError::Unsupported { path: path.to_path_buf(), reason, remedy: remedy.to_string() })
        };
        let architecture = header.architecture.as_str();
        if !TRAINABLE.contains(&architecture) {
            let remedy = format!("train a dense model of {}", TRAINABLE.join(", "));
            return refuse(format!("architecture {architecture:?}"), &remedy);
        }
        let number = |key: &str| header.of_arch(key).and_then(|value| usize::try_from(value).ok());
        if number("expert_count").unwrap_or(0) > 0 {
            return refuse("it is a mixture of experts".to_string(), "train a dense model");
        }
        let (heads, heads_kv) = (one(&header.heads()), one(&header.heads_kv()));
        let (Some(heads), Some(heads_kv)) = (heads, heads_kv) else {
            return refuse("its blocks differ in their heads".to_string(), "train a model of equal blocks");
        };
        let (key, value) = header.head_lengths();
        let rotated = header.of_arch("rope.dimension_count").unwrap_or(key);
        if key != value || rotated != key || key % 2 != 0 {
            let reason = format!("heads of {key} keys, {value} values, {rotated} rotated");
            return refuse(reason, "train a model whose heads are rotated whole");
        }
        let Some(feed_forward) = number("feed_forward_length") else {
            return refuse(
                "its blocks differ in their feed-forward".to_string(),
                "train a model of equal blocks",
            );
        };
        let head = key as usize;
        let given = |key: &str| header.f32(&format!("{architecture}.{key}")).filter(|value| *value != 0.0);
        let spec = Spec {
            blocks: header.blocks() as usize,
            hidden: header.embedding() as usize,
            feed_forward,
            heads,
            heads_kv,
            head,
            vocabulary: header.vocabulary(),
            eps: given("attention.layer_norm_rms_epsilon").unwrap_or(0.0),
            rope_base: given("rope.freq_base").unwrap_or(10_000.0),
            rope_scale: 1.0 / rope_factor(header, path)?,
            rope_split: architecture != "llama",
            attention_scale: given("attention.scale")
                .filter(|_| architecture == "llama")
                .unwrap_or(1.0 / (head as f32).sqrt()),
            qk_norm: architecture == "qwen3",
        };
        let widths = [spec.hidden, spec.feed_forward, spec.heads * head, spec.heads_kv * head];
        if widths.iter().any(|width| width % 16 != 0) {
            return refuse(format!("widths {widths:?} are no multiples of 16"), "train a model whose are");
        }
        spec.tensors(header, path)?;
        Ok(spec)
    }

    /// Width of all query heads, and of all key (or value) heads.
    pub fn q_width(&self) -> usize {
        self.heads * self.head
    }

    pub fn kv_width(&self) -> usize {
        self.heads_kv * self.head
    }

    /// Input and output width of a linear, by its place in [`LINEARS`].
    pub fn linear(&self, which: usize) -> (usize, usize) {
        match which {
            0 => (self.hidden, self.q_width()),
            1 | 2 => (self.hidden, self.kv_width()),
            3 => (self.q_width(), self.hidden),
            4 | 5 => (self.hidden, self.feed_forward),
            _ => (self.feed_forward, self.hidden),
        }
    }

    /// Where a linear stands: block times their number, plus its place in [`LINEARS`].
    pub fn place(&self, tensor: &str) -> Option<usize> {
        let (block, rest) = tensor.strip_prefix("blk.")?.split_once('.')?;
        let block: usize = block.parse().ok().filter(|block| *block < self.blocks)?;
        let which = LINEARS.iter().position(|name| rest.strip_suffix(".weight") == Some(name))?;
        Some(block * LINEARS.len() + which)
    }

    /// Every tensor of a block is one that is computed with, and all that are needed are there.
    fn tensors(&self, header: &Header, path: &Path) -> Result<(), TrainError> {
        let refuse = |reason: String, remedy: &str| {
            Err(TrainError::Unsupported { path: path.to_path_buf(), reason, remedy: remedy.to_string() })
        };
        for tensor in &header.tensors {
            let Some(part) = tensor.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
                if ["token_embd.weight", "output.weight", "output_norm.weight", "rope_freqs.weight"]
                    .contains(&tensor.name.as_str())
                {
                    continue;
                }
                return refuse(format!("tensor {:?} is unknown here", tensor.name), "train another model");
            };
            let known = match part.1.rsplit_once('.') {
                Some((name, "weight")) => {
                    LINEARS.contains(&name)
                        || ["attn_norm", "ffn_norm"].contains(&name)
                        || (self.qk_norm && ["attn_q_norm", "attn_k_norm"].contains(&name))
                }
                Some((name, "bias")) => LINEARS.contains(&name),
                _ => false,
            };
            if !known && part.1 != "rope_freqs.weight" {
                let remedy = "train a file whose attention and feed-forward are stored as plain matrices";
                return refuse(format!("tensor {:?} is unknown here", tensor.name), remedy);
            }
        }
        for block in 0..self.blocks {
            for (which, name) in LINEARS.iter().enumerate() {
                let (n_in, n_out) = self.linear(which);
                let name = format!("blk.{block}.{name}.weight");
                match header.tensor(&name).map(|tensor| tensor.dims.as_slice()) {
                    Some([a, b]) if [*a, *b] == [n_in as u64, n_out as u64] => {}
                    dims => {
                        let reason = format!("tensor {name:?} is {dims:?}, not {:?}", [n_in, n_out]);
                        return refuse(reason, "convert the model again");
                    }
                }
            }
        }
        Ok(())
    }
}

/// The value all blocks share.
fn one(values: &[u64]) -> Option<usize> {
    let first = *values.first()?;
    values.iter().all(|value| *value == first).then_some(first as usize)
}

/// By how much positions are divided; only linear scaling has a backward here.
fn rope_factor(header: &Header, path: &Path) -> Result<f32, TrainError> {
    let architecture = &header.architecture;
    let kind = header.str(&format!("{architecture}.rope.scaling.type")).unwrap_or("linear");
    let factor = ["rope.scaling.factor", "rope.scale_linear"]
        .iter()
        .find_map(|key| header.f32(&format!("{architecture}.{key}")))
        .filter(|factor| *factor != 0.0)
        .unwrap_or(1.0);
    match kind {
        "none" => Ok(1.0),
        "linear" => Ok(factor),
        kind => Err(TrainError::Unsupported {
            path: path.to_path_buf(),
            reason: format!("rope scaling {kind:?}"),
            remedy: "train a model with linear or no rope scaling".to_string(),
        }),
    }
}
