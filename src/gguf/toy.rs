//! Models and adapters of random weights, for work that does not depend on what the weights say: engine
//! speed, log-probability checks, "any model at all" runs, trainer tests.
//!
//! The vocabulary is byte-level with a few merges, the chat template ChatML. Equal settings give equal
//! files, byte for byte.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::EngineError;
use crate::gguf::types::file_type_id;
use crate::gguf::write::{Plan, Writer};
use crate::gguf::{Array, CHATML, Header, TensorType, Value, check};

/// Sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    pub name: &'static str,
    pub hidden: u32,
    pub blocks: u32,
    pub heads: u32,
    pub heads_kv: u32,
    pub feed_forward: u32,
    pub vocabulary: u32,
    pub rope_base: f32,
}

/// From a file of a few hundred kilobytes to the sizes of Qwen2.5 0.5B and 7B.
pub const SHAPES: [Shape; 4] = [
    shape("toy", [64, 2, 4, 2, 96, 512], 1e4),
    shape("8m", [320, 8, 8, 4, 896, 4096], 1e4),
    shape("0.5b", [896, 24, 14, 2, 4864, 151_936], 1e6),
    shape("7b", [3584, 28, 28, 4, 18_944, 152_064], 1e6),
];

const fn shape(name: &'static str, sizes: [u32; 6], rope_base: f32) -> Shape {
    let [hidden, blocks, heads, heads_kv, feed_forward, vocabulary] = sizes;
    Shape { name, hidden, blocks, heads, heads_kv, feed_forward, vocabulary, rope_base }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    Llama,
    Qwen2,
    Qwen3,
}

impl Architecture {
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
        }
    }
}

/// A random model to be written.
#[derive(Clone, Copy, Debug)]
pub struct ToyModel {
    pub shape: Shape,
    pub architecture: Architecture,
    /// F32, F16, Q8_0 or Q4_0, for matrices; vectors are F32.
    pub kind: TensorType,
    /// The head is the embedding; else it is a matrix of its own.
    pub tied: bool,
    /// Tokens the file claims to have been trained on.
    pub context: u32,
    pub seed: u64,
    /// Control tokens beside ChatML's, in place of as many fillers.
    pub control: &'static [&'static str],
    /// The last so many of them are declared user-defined.
    pub user_defined: usize,
}

impl Default for ToyModel {
    fn default() -> ToyModel {
        ToyModel {
            shape: SHAPES[0],
            architecture: Architecture::Qwen2,
            kind: TensorType::F32,
            tied: true,
            context: 8192,
            seed: 0,
            control: &[],
            user_defined: 0,
        }
    }
}

pub fn shape_named(name: &str) -> Option<Shape> {
    SHAPES.into_iter().find(|shape| shape.name == name)
}

/// Pairs that are merged, in the byte-level alphabet (`Ġ` is the blank), in rank order.
const MERGES: [(&str, &str); 16] = [
    ("Ġ", "t"),
    ("h", "e"),
    ("i", "n"),
    ("r", "e"),
    ("o", "n"),
    ("Ġt", "he"),
    ("e", "r"),
    ("Ġ", "a"),
    ("a", "t"),
    ("o", "r"),
    ("Ġ", "s"),
    ("e", "n"),
    ("in", "g"),
    ("Ġ", "o"),
    ("T", "o"),
    ("To", "ol"),
];

/// Spread of random matrices, as models are initialised.
const SCALE: f32 = 0.02;
/// Values made and packed at a time: whole blocks, and small enough for the cache.
const PIECE: usize = 1 << 14;

/// What a tensor of a random model is filled with.
#[derive(Clone, Copy)]
enum Fill {
    Ones,
    Random,
}

impl ToyModel {
    /// Write the file. Needs memory for one piece of a tensor, whatever the shape.
    ///
    /// # Errors
    /// Whatever writing fails with.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut plan = self.metadata();
        let tensors = self.tensors();
        for (name, dims, _) in &tensors {
            plan.tensor(name, dims, if dims.len() == 1 { TensorType::F32 } else { self.kind });
        }
        let mut writer = plan.start(BufWriter::with_capacity(1 << 20, File::create(path)?))?;
        for (index, (_, dims, fill)) in tensors.iter().enumerate() {
            match fill {
                Fill::Ones => writer.values(&vec![1.0; dims.iter().product::<u64>() as usize])?,
                Fill::Random => random(&mut writer, dims, SCALE, self.seed, index)?,
            }
        }
        writer.finish()?;
        Ok(())
    }

    fn metadata(&self) -> Plan {
        let (shape, arch) = (self.shape, self.architecture.name());
        let mut plan = Plan::default();
        plan.text("general.architecture", arch);
        plan.text("general.type", "model");
        plan.text("general.name", format!("random {}", shape.name));
        plan.number("general.file_type", file_type_id(self.kind));
        plan.number("general.quantization_version", 2);
        let numbers = [
            ("block_count", shape.blocks),
            ("context_length", self.context),
            ("embedding_length", shape.hidden),
            ("feed_forward_length", shape.feed_forward),
            ("attention.head_count", shape.heads),
            ("attention.head_count_kv", shape.heads_kv),
            ("rope.dimension_count", shape.hidden / shape.heads),
        ];
        numbers.iter().for_each(|(key, value)| plan.number(format!("{arch}.{key}"), *value));
        plan.set(format!("{arch}.rope.freq_base"), Value::F32(shape.rope_base));
        plan.set(format!("{arch}.attention.layer_norm_rms_epsilon"), Value::F32(1e-6));
        self.tokenizer(&mut plan);
        plan
    }

    fn tokenizer(&self, plan: &mut Plan) {
        let mut tokens: Vec<String> =
            ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(String::from).into();
        tokens.extend(self.control.iter().map(ToString::to_string));
        let control = tokens.len();
        tokens.extend(byte_alphabet().map(String::from));
        tokens.extend(MERGES.iter().map(|(left, right)| format!("{left}{right}")));
        let fillers = (self.shape.vocabulary as usize).saturating_sub(tokens.len());
        tokens.extend((0..fillers).map(|index| format!("<filler{index}>")));
        plan.text("tokenizer.ggml.model", "gpt2");
        plan.text("tokenizer.ggml.pre", "qwen2");
        let types = (0..tokens.len()).map(|index| match index {
            _ if index >= control => 1,
            _ if index >= control - self.user_defined => 4,
            _ => 3,
        });
        plan.set("tokenizer.ggml.token_type", Value::Array(Array::i32s(types)));
        plan.set("tokenizer.ggml.tokens", Value::Array(Array::Strings(tokens.iter().collect())));
        let merges = MERGES.iter().map(|(left, right)| format!("{left} {right}"));
        plan.set("tokenizer.ggml.merges", Value::Array(Array::Strings(merges.collect())));
        plan.number("tokenizer.ggml.bos_token_id", 0);
        plan.number("tokenizer.ggml.eos_token_id", 2);
        plan.set("tokenizer.ggml.add_bos_token", Value::Bool(false));
        plan.text("tokenizer.chat_template", CHATML);
    }

    /// Names, dimensions (fastest first) and contents of all tensors, in file order.
    fn tensors(&self) -> Vec<(String, Vec<u64>, Fill)> {
        let shape = self.shape;
        let [hidden, feed_forward, vocabulary] =
            [shape.hidden, shape.feed_forward, shape.vocabulary].map(u64::from);
        let head = hidden / u64::from(shape.heads);
        let narrow = head * u64::from(shape.heads_kv);
        let mut tensors = vec![("token_embd.weight".to_string(), vec![hidden, vocabulary], Fill::Random)];
        if !self.tied {
            tensors.push(("output.weight".to_string(), vec![hidden, vocabulary], Fill::Random));
        }
        tensors.push(("output_norm.weight".to_string(), vec![hidden], Fill::Ones));
        for block in 0..shape.blocks {
            let mut add = |name: &str, dims: &[u64], fill| {
                tensors.push((format!("blk.{block}.{name}"), dims.to_vec(), fill));
            };
            add("attn_norm.weight", &[hidden], Fill::Ones);
            add("ffn_norm.weight", &[hidden], Fill::Ones);
            if self.architecture == Architecture::Qwen3 {
                add("attn_q_norm.weight", &[head], Fill::Ones);
                add("attn_k_norm.weight", &[head], Fill::Ones);
            }
            for (name, rows) in [("attn_q", hidden), ("attn_k", narrow), ("attn_v", narrow)] {
                add(&format!("{name}.weight"), &[hidden, rows], Fill::Random);
                if self.architecture == Architecture::Qwen2 {
                    add(&format!("{name}.bias"), &[rows], Fill::Random);
                }
            }
            add("attn_output.weight", &[hidden, hidden], Fill::Random);
            add("ffn_gate.weight", &[hidden, feed_forward], Fill::Random);
            add("ffn_up.weight", &[hidden, feed_forward], Fill::Random);
            add("ffn_down.weight", &[feed_forward, hidden], Fill::Random);
        }
        tensors
    }
}

/// The matrices an adapter of this project changes, in every block.
pub const ADAPTED: [&str; 7] =
    ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

/// Write a LoRA GGUF of random F32 matrices (spread `scale`, in both halves) for every linear of `base`.
///
/// # Errors
/// [`EngineError`] if the base is refused or the file cannot be written.
pub fn toy_adapter(
    out: &Path,
    base: &Path,
    rank: u32,
    alpha: f32,
    seed: u64,
    scale: f32,
) -> Result<(), EngineError> {
    let base = check(base)?;
    write_adapter(out, &base, rank, alpha, seed, scale)
        .map_err(|error| EngineError::Adapter { path: out.to_path_buf(), reason: error.to_string() })
}

fn write_adapter(out: &Path, base: &Header, rank: u32, alpha: f32, seed: u64, scale: f32) -> io::Result<()> {
    let mut plan = Plan::default();
    plan.text("general.architecture", base.architecture.as_str());
    plan.text("general.type", "adapter");
    plan.text("general.name", format!("random adapter of {}", base.name()));
    plan.text("adapter.type", "lora");
    plan.set("adapter.lora.alpha", Value::F32(alpha));
    let mut halves = Vec::new();
    for block in 0..base.blocks() {
        for name in ADAPTED {
            let name = format!("blk.{block}.{name}.weight");
            let Some(&[columns, rows]) = base.tensor(&name).map(|tensor| tensor.dims.as_slice()) else {
                continue;
            };
            halves.push((format!("{name}.lora_a"), [columns, rank.into()]));
            halves.push((format!("{name}.lora_b"), [rank.into(), rows]));
        }
    }
    halves.iter().for_each(|(name, dims)| plan.tensor(name, dims, TensorType::F32));
    let mut writer = plan.start(BufWriter::with_capacity(1 << 20, File::create(out)?))?;
    for (index, (_, dims)) in halves.iter().enumerate() {
        random(&mut writer, dims, scale, seed, index)?;
    }
    writer.finish()?;
    Ok(())
}

/// Fill the writer's current tensor. Each tensor has a random stream of its own.
fn random(
    writer: &mut Writer<impl io::Write>,
    dims: &[u64],
    scale: f32,
    seed: u64,
    stream: usize,
) -> io::Result<()> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream as u64);
    let mut left = dims.iter().product::<u64>() as usize;
    let mut piece = vec![0.0; PIECE];
    while left > 0 {
        let count = left.min(PIECE);
        piece[..count].iter_mut().for_each(|value| *value = scale * bell(generator.next_u64()));
        writer.values(&piece[..count])?;
        left -= count;
    }
    Ok(())
}

/// A number of mean 0 and variance 1, close to normal: the sum of the draw's four 16-bit parts. It has no
/// far tails, which no use here needs, and is ten times as fast as an exact one.
fn bell(draw: u64) -> f32 {
    const MEAN: f32 = 2.0 * 65_535.0;
    const DEVIATION: f32 = 37_837.0; // sqrt(4 * 65536^2 / 12)
    let sum = (draw & 0xffff) + (draw >> 16 & 0xffff) + (draw >> 32 & 0xffff) + (draw >> 48);
    (sum as f32 - MEAN) / DEVIATION
}

/// The printable stand-ins of byte-level BPE, in byte order: bytes that print stand for themselves, the
/// others for the characters from U+0100 on.
fn byte_alphabet() -> impl Iterator<Item = char> {
    let mut next = 256_u32;
    (0..=255_u8).map(move |byte| {
        if matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) {
            return char::from(byte);
        }
        next += 1;
        char::from_u32(next - 1).unwrap_or('?')
    })
}
