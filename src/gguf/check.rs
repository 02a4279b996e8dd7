//! The pre-check: whether a GGUF file may be shown to llama.cpp at all.
//!
//! `read` has made sure that the bytes are a header; here its values are judged: the architecture is one
//! the engine serves, keys have the types and bounds that llama.cpp asserts on (an assertion there ends
//! the process), and the vocabulary fits together (`vocabulary`). Tensor data is not looked at.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::gguf::read::{self, Parsed, refusal};
use crate::gguf::types::file_type_name;
use crate::gguf::{Array, GgufError, Header, Refusal, TensorInfo, TensorType, Value, adapter, vocabulary};

/// Families with plain attention and a causal head. Recurrent ones cannot share a prompt's prefix.
pub const ARCHITECTURES: [&str; 50] = [
    "apertus",
    "arcee",
    "baichuan",
    "bailingmoe",
    "bailingmoe2",
    "chatglm",
    "cohere2",
    "command-r",
    "dbrx",
    "deci",
    "deepseek",
    "deepseek2",
    "dots1",
    "ernie4_5",
    "ernie4_5-moe",
    "exaone",
    "exaone4",
    "falcon",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3n",
    "gemma4",
    "glm4",
    "glm4moe",
    "gpt-oss",
    "gpt2",
    "granite",
    "granitemoe",
    "hunyuan-dense",
    "hunyuan-moe",
    "internlm2",
    "llama",
    "llama4",
    "minicpm",
    "minicpm3",
    "mistral3",
    "nemotron",
    "olmo",
    "olmo2",
    "olmoe",
    "phi2",
    "phi3",
    "phimoe",
    "qwen2",
    "qwen2moe",
    "qwen3",
    "qwen3moe",
    "seed_oss",
    "smollm3",
];

/// llama.cpp keeps per-block values in arrays of this length.
const MAX_BLOCKS: u64 = 512;
const MAX_EMBEDDING: u64 = 1 << 17;
const MAX_HEADS: u64 = 1 << 12;
const MAX_HEAD_LENGTH: u64 = 1 << 12;
const MAX_EXPERTS: u64 = 1 << 12;
/// Positions are 32-bit numbers.
const MAX_CONTEXT: u64 = i32::MAX as u64;
/// Work memory of llama.cpp beside weights and KV is taken as logits and activations of this many tokens.
const BATCH: u64 = 512;

/// Check a model file before llama.cpp sees it. Reads the header only.
///
/// # Errors
/// [`GgufError`], which names the field, its byte and what is wrong.
pub fn check(path: &Path) -> Result<Header, GgufError> {
    check_open(&open(path)?, path)
}

/// Check a model file and keep it open, so that what was checked is what is loaded.
///
/// # Errors
/// As [`check`].
pub fn check_and_keep(path: &Path) -> Result<(File, Header), GgufError> {
    let file = open(path)?;
    let header = check_open(&file, path)?;
    Ok((file, header))
}

/// Check a model file that is open already. Reads from the file's position on, which must be its start.
///
/// # Errors
/// As [`check`].
pub fn check_open(file: &File, path: &Path) -> Result<Header, GgufError> {
    let (parsed, size) = parse(file, path)?;
    judge(parsed, size).map_err(|refusal| GgufError::Refused { path: path.to_path_buf(), refusal })
}

/// Check a model header that comes from anywhere; `size` is the size of the whole file in bytes.
///
/// # Errors
/// The [`Refusal`].
pub fn check_reader(source: impl Read, size: u64) -> Result<Header, Refusal> {
    judge(read::parse(source, size)?, size)
}

/// Check a LoRA file against the header of the model it is meant for.
///
/// # Errors
/// As [`check`]; [`GgufError::of_adapter`] makes an engine error of it.
pub fn check_adapter(path: &Path, base: &Header) -> Result<Header, GgufError> {
    let (parsed, size) = parse(&open(path)?, path)?;
    adapter::judge(parsed, size, base)
        .map_err(|refusal| GgufError::Refused { path: path.to_path_buf(), refusal })
}

/// Check a LoRA header that comes from anywhere; `size` is the size of the whole file in bytes.
///
/// # Errors
/// The [`Refusal`].
pub fn check_adapter_reader(source: impl Read, size: u64, base: &Header) -> Result<Header, Refusal> {
    adapter::judge(read::parse(source, size)?, size, base)
}

/// Bytes of memory to serve the model: weights, an f16 KV cache of `sequences` times `context` tokens, and
/// llama.cpp's work memory, estimated from above. A sliding window is not taken off.
pub fn memory_needed(header: &Header, context: u64, sequences: u64) -> u64 {
    let (key, value) = header.head_lengths();
    let per_token = header
        .heads_kv()
        .iter()
        .fold(0_u64, |sum, heads| sum.saturating_add(heads.saturating_mul(key.saturating_add(value) * 2)));
    let kv = per_token.saturating_mul(context).saturating_mul(sequences);
    let widest = (header.vocabulary() as u64).max(header.embedding().saturating_mul(8));
    let work = widest.saturating_mul(BATCH * 4);
    header.weight_bytes().saturating_add(kv).saturating_add(work)
}

pub(super) fn open(path: &Path) -> Result<File, GgufError> {
    let unreadable = |reason: String| GgufError::Unreadable { path: path.to_path_buf(), reason };
    crate::config::regular::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => GgufError::Missing { path: path.to_path_buf() },
        _ => unreadable(error.to_string()),
    })
}

pub(super) fn parse(file: &File, path: &Path) -> Result<(Parsed, u64), GgufError> {
    let unreadable = |reason: String| GgufError::Unreadable { path: path.to_path_buf(), reason };
    let metadata = file.metadata().map_err(|error| unreadable(error.to_string()))?;
    if !metadata.is_file() {
        return Err(unreadable("it is not a regular file".to_string()));
    }
    let parsed = read::parse(BufReader::with_capacity(1 << 16, file), metadata.len())
        .map_err(|refusal| GgufError::Refused { path: path.to_path_buf(), refusal })?;
    Ok((parsed, metadata.len()))
}

/// Judge a parsed model header.
pub(super) fn judge(parsed: Parsed, size: u64) -> Result<Header, Refusal> {
    let keys = Keys::new(&parsed)?;
    if let Some(kind) = keys.text("general.type")?.filter(|kind| *kind != "model") {
        let remedy =
            if kind == "adapter" { "load it with --adapter" } else { "give the language model itself" };
        return Err(keys.wrong("general.type", &format!("it is {kind:?}, not a model; {remedy}")));
    }
    let architecture = keys.architecture.to_string();
    if !ARCHITECTURES.contains(&architecture.as_str()) {
        let reason = format!("{architecture:?} is not served; served are {}", ARCHITECTURES.join(", "));
        return Err(keys.wrong("general.architecture", &reason));
    }
    if keys.parsed.metadata.get("split.count").and_then(Value::as_u64).is_some_and(|count| count > 1) {
        return Err(keys.wrong("split.count", "the model is split; merge it with llama-gguf-split --merge"));
    }
    let context_train = keys.arch_number("context_length", 1, MAX_CONTEXT)?;
    shape(&keys)?;
    rope(&keys)?;
    let tokens = vocabulary::judge(&keys)?;
    let embedding = keys.arch_number("embedding_length", 1, MAX_EMBEDDING)?;
    tensors(&parsed, embedding, tokens)?;
    Ok(header(parsed, size, architecture, context_train))
}

pub(super) fn header(parsed: Parsed, size: u64, architecture: String, context_train: u64) -> Header {
    let parameters = parsed.tensors.iter().fold(0_u64, |sum, t| sum.saturating_add(t.elements()));
    let file_type = parsed
        .metadata
        .get("general.file_type")
        .and_then(Value::as_u64)
        .and_then(file_type_name)
        .unwrap_or_else(|| most_common_type(&parsed.tensors))
        .to_string();
    Header {
        version: parsed.version,
        metadata: parsed.metadata,
        tensors: parsed.tensors,
        data_offset: parsed.data_offset,
        file_bytes: size,
        architecture,
        parameters,
        file_type,
        context_train,
    }
}

/// The type that holds most numbers, for files that do not name theirs.
pub(super) fn most_common_type(tensors: &[TensorInfo]) -> &'static str {
    let total = |kind: TensorType| -> u128 {
        tensors.iter().filter(|t| t.kind == kind).map(|t| u128::from(t.elements())).sum()
    };
    tensors.iter().map(|t| t.kind).max_by_key(|kind| total(*kind)).map_or("none", |kind| kind.name)
}

/// Block, embedding and head counts: present, bounded, and they divide.
fn shape(keys: &Keys) -> Result<(), Refusal> {
    let blocks = keys.arch_number("block_count", 1, MAX_BLOCKS)?;
    keys.optional_arch_number("nextn_predict_layers", 0, blocks)?;
    keys.optional_arch_number("expert_count", 0, MAX_EXPERTS)?;
    let embedding = keys.arch_number("embedding_length", 1, MAX_EMBEDDING)?;
    keys.per_block("feed_forward_length", blocks, 0, 1 << 24)?;
    keys.per_block("expert_used_count", blocks, 0, MAX_EXPERTS)?;
    let heads = keys
        .per_block("attention.head_count", blocks, 1, MAX_HEADS)?
        .ok_or_else(|| keys.missing("attention.head_count"))?;
    if let Some(heads_kv) = keys.per_block("attention.head_count_kv", blocks, 1, MAX_HEADS)? {
        for (heads, heads_kv) in heads.iter().zip(&heads_kv) {
            if heads % heads_kv != 0 {
                let reason = format!("{heads} heads are no multiple of {heads_kv} key-value heads");
                return Err(keys.wrong(&keys.of_arch("attention.head_count_kv"), &reason));
            }
        }
    }
    let key = keys.optional_arch_number("attention.key_length", 1, MAX_HEAD_LENGTH)?;
    keys.optional_arch_number("attention.value_length", 1, MAX_HEAD_LENGTH)?;
    if key.is_none() && embedding % heads[0] != 0 {
        let reason = format!("an embedding of {embedding} does not divide by {} heads", heads[0]);
        return Err(keys.wrong(&keys.of_arch("attention.head_count"), &reason));
    }
    Ok(())
}

/// Rotary positions: ggml asserts that the rotated part is even and no longer than a head.
fn rope(keys: &Keys) -> Result<(), Refusal> {
    let embedding = keys.arch_number("embedding_length", 1, MAX_EMBEDDING)?;
    let blocks = keys.arch_number("block_count", 1, MAX_BLOCKS)?;
    let heads = keys.per_block("attention.head_count", blocks, 1, MAX_HEADS)?.map_or(1, |heads| heads[0]);
    let head =
        keys.optional_arch_number("attention.key_length", 1, MAX_HEAD_LENGTH)?.unwrap_or(embedding / heads);
    let rotated = keys.optional_arch_number("rope.dimension_count", 1, MAX_HEAD_LENGTH)?.unwrap_or(head);
    // Latent attention (deepseek2) rotates a part of its own, longer than what the keys say about a head.
    if rotated % 2 != 0 || (rotated > head && keys.architecture != "deepseek2") {
        let reason = format!("{rotated} rotated dimensions; an even number of at most {head} is possible");
        return Err(keys.wrong(&keys.of_arch("rope.dimension_count"), &reason));
    }
    let scaling = keys.of_arch("rope.scaling.type");
    if let Some(kind) = keys.text(&scaling)?
        && !["none", "linear", "yarn", "longrope"].contains(&kind)
    {
        return Err(keys.wrong(&scaling, &format!("{kind:?} is no rope scaling")));
    }
    let positive = ["rope.freq_base", "rope.scaling.factor", "attention.layer_norm_rms_epsilon"];
    positive.iter().try_for_each(|key| keys.optional_arch_float(key))
}

/// Embedding and vocabulary agree, and no tensor has a type its place cannot compute with.
fn tensors(parsed: &Parsed, embedding: u64, tokens: usize) -> Result<(), Refusal> {
    let wrong = |tensor: &TensorInfo, reason: &str| {
        refusal(&format!("tensor {:?}", tensor.name), tensor.described_at, reason)
    };
    let Some(table) = parsed.tensors.iter().find(|t| t.name == "token_embd.weight") else {
        let reason = "the tensor \"token_embd.weight\" is missing";
        return Err(refusal("tensors", parsed.data_offset, reason));
    };
    if table.dims != [embedding, tokens as u64] {
        let reason =
            format!("dimensions {:?}, the metadata says {:?}", table.dims, [embedding, tokens as u64]);
        return Err(wrong(table, &reason));
    }
    for tensor in &parsed.tensors {
        let weights = tensor.name.ends_with(".weight") || tensor.name.ends_with(".bias");
        if weights && tensor.dims.len() == 1 && tensor.kind != TensorType::F32 {
            return Err(wrong(tensor, &format!("a vector must be F32, it is {}", tensor.kind.name)));
        }
        if weights && !tensor.kind.holds_weights() {
            return Err(wrong(tensor, &format!("{} cannot hold weights", tensor.kind.name)));
        }
    }
    Ok(())
}

/// Typed access to the keys of a parsed header; every failure says where the key stands.
pub(super) struct Keys<'a> {
    pub parsed: &'a Parsed,
    pub architecture: &'a str,
}

impl<'a> Keys<'a> {
    pub fn new(parsed: &'a Parsed) -> Result<Keys<'a>, Refusal> {
        let mut keys = Keys { parsed, architecture: "" };
        keys.architecture =
            keys.text("general.architecture")?.ok_or_else(|| keys.missing_key("general.architecture"))?;
        Ok(keys)
    }

    pub fn of_arch(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    pub fn wrong(&self, key: &str, reason: &str) -> Refusal {
        let offset = self.parsed.metadata.entry(key).map_or(self.parsed.data_offset, |entry| entry.offset);
        refusal(&format!("key {key:?}"), offset, reason)
    }

    pub fn missing_key(&self, key: &str) -> Refusal {
        refusal(&format!("key {key:?}"), self.parsed.data_offset, "it is missing")
    }

    fn missing(&self, key: &str) -> Refusal {
        self.missing_key(&self.of_arch(key))
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>, Refusal> {
        match self.parsed.metadata.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => {
                Err(self.wrong(key, &format!("a string was expected, it is a {}", other.type_name())))
            }
        }
    }

    fn arch_number(&self, key: &str, least: u64, most: u64) -> Result<u64, Refusal> {
        self.optional_arch_number(key, least, most)?.ok_or_else(|| self.missing(key))
    }

    fn optional_arch_number(&self, key: &str, least: u64, most: u64) -> Result<Option<u64>, Refusal> {
        let key = self.of_arch(key);
        match self.parsed.metadata.get(&key) {
            None => Ok(None),
            Some(Value::U32(value)) => self.bounded(&key, i64::from(*value), least, most).map(Some),
            Some(other) => {
                Err(self.wrong(&key, &format!("a u32 was expected, it is a {}", other.type_name())))
            }
        }
    }

    fn optional_arch_float(&self, key: &str) -> Result<(), Refusal> {
        let key = self.of_arch(key);
        match self.parsed.metadata.get(&key) {
            None => Ok(()),
            Some(Value::F32(value)) if value.is_finite() && *value >= 0.0 => Ok(()),
            Some(Value::F32(value)) => Err(self.wrong(&key, &format!("{value} is no positive number"))),
            Some(other) => {
                Err(self.wrong(&key, &format!("an f32 was expected, it is a {}", other.type_name())))
            }
        }
    }

    /// A number for all blocks, or one for each.
    fn per_block(&self, key: &str, blocks: u64, least: u64, most: u64) -> Result<Option<Vec<u64>>, Refusal> {
        let key_full = self.of_arch(key);
        let Some(Value::Array(array)) = self.parsed.metadata.get(&key_full) else {
            let value = self.optional_arch_number(key, least, most)?;
            return Ok(value.map(|value| vec![value; usize::try_from(blocks).unwrap_or(0)]));
        };
        self.block_array(&key_full, array, blocks, least, most).map(Some)
    }

    fn block_array(
        &self,
        key: &str,
        array: &Array,
        blocks: u64,
        least: u64,
        most: u64,
    ) -> Result<Vec<u64>, Refusal> {
        if array.len() as u64 != blocks {
            return Err(self.wrong(key, &format!("{} values for {blocks} blocks", array.len())));
        }
        match array.integers() {
            Some(values) => values.map(|value| self.bounded(key, value, least, most)).collect(),
            None => Err(self.wrong(key, "an array of u32 or i32 was expected")),
        }
    }

    fn bounded(&self, key: &str, value: i64, least: u64, most: u64) -> Result<u64, Refusal> {
        match u64::try_from(value).ok().filter(|value| (least..=most).contains(value)) {
            Some(value) => Ok(value),
            None => Err(self.wrong(key, &format!("{value} is outside of {least} to {most}"))),
        }
    }
}
