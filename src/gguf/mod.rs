//! What a GGUF file says, in safe Rust: the pre-check every file passes before llama.cpp sees it, the
//! header it yields, and a writer for adapters and random models.
//!
//! `read` takes the bytes apart under caps, `check` judges what they mean, `survey` tells kinds of files apart,
//! `write` puts files together, `toy` makes models of random weights. Nothing here loads tensor data or
//! computes with it.

mod adapter;
pub mod check;
pub mod pieces;
pub mod quant;
pub mod read;
pub mod survey;
pub mod toy;
pub mod types;
mod vocabulary;
pub mod write;

use std::collections::HashMap;
use std::path::PathBuf;

pub use adapter::MAX_RANK;
pub use check::{
    check, check_adapter, check_adapter_reader, check_and_keep, check_open, check_reader, memory_needed,
};
pub use types::{Array, Strings, TensorType, Value};

use crate::error::EngineError;

/// Longest chat template that is looked at, in bytes.
pub const MAX_TEMPLATE: usize = 256 * 1024;

/// The chat template of files that bring none, and of the models made here.
pub const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}\
    <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Why a file was refused: the field, where it stands and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} at byte {offset}: {reason}")]
pub struct Refusal {
    pub field: String,
    pub offset: u64,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GgufError {
    #[error("{path:?} does not exist")]
    Missing { path: PathBuf },
    #[error("{path:?} cannot be read: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    #[error("{path:?} refused: {refusal}")]
    Refused { path: PathBuf, refusal: Refusal },
}

impl From<GgufError> for EngineError {
    fn from(error: GgufError) -> EngineError {
        match error {
            GgufError::Missing { path } => EngineError::ModelMissing { path },
            GgufError::Unreadable { path, reason } => EngineError::ModelRefused { path, reason },
            GgufError::Refused { path, refusal } => {
                EngineError::ModelRefused { path, reason: refusal.to_string() }
            }
        }
    }
}

impl GgufError {
    /// The same as an error about an adapter file.
    pub fn of_adapter(self) -> EngineError {
        match self {
            GgufError::Missing { path } => {
                EngineError::Adapter { path, reason: "the file does not exist".to_string() }
            }
            GgufError::Unreadable { path, reason } => EngineError::Adapter { path, reason },
            GgufError::Refused { path, refusal } => {
                EngineError::Adapter { path, reason: refusal.to_string() }
            }
        }
    }
}

/// One metadata entry and the byte its key starts at.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub value: Value,
    pub offset: u64,
}

/// Metadata in file order, found by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
}

impl Metadata {
    /// Answers false and changes nothing if the key is there already.
    pub fn insert(&mut self, entry: Entry) -> bool {
        if self.index.contains_key(&entry.key) {
            return false;
        }
        self.index.insert(entry.key.clone(), self.entries.len());
        self.entries.push(entry);
        true
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.index.get(key).map(|at| &self.entries[*at])
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}

/// A tensor as the header describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    pub name: String,
    /// Fastest first, as GGUF stores them: a matrix of `rows` times `columns` is [columns, rows].
    pub dims: Vec<u64>,
    pub kind: TensorType,
    /// From the start of the data section.
    pub offset: u64,
    pub bytes: u64,
    /// Where its description stands in the file.
    pub described_at: u64,
}

impl TensorInfo {
    pub fn elements(&self) -> u64 {
        self.dims.iter().product()
    }
}

/// A header that passed the check.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub version: u32,
    pub metadata: Metadata,
    pub tensors: Vec<TensorInfo>,
    /// Where tensor data starts in the file.
    pub data_offset: u64,
    pub file_bytes: u64,
    pub architecture: String,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// e.g. "Q8_0"
    pub file_type: String,
    /// Tokens the model was trained to hold; 0 for an adapter.
    pub context_train: u64,
}

impl Header {
    pub fn str(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).and_then(Value::as_str)
    }

    pub fn u64(&self, key: &str) -> Option<u64> {
        self.metadata.get(key).and_then(Value::as_u64)
    }

    pub fn f32(&self, key: &str) -> Option<f32> {
        if let Some(Value::F32(value)) = self.metadata.get(key) { Some(*value) } else { None }
    }

    /// A key under the architecture's own name, e.g. `of_arch("block_count")`.
    pub fn of_arch(&self, key: &str) -> Option<u64> {
        self.u64(&format!("{}.{key}", self.architecture))
    }

    /// The model's own name, or its architecture where it has none.
    pub fn name(&self) -> &str {
        self.str("general.name").unwrap_or(&self.architecture)
    }

    pub fn blocks(&self) -> u64 {
        self.of_arch("block_count").unwrap_or(0)
    }

    pub fn embedding(&self) -> u64 {
        self.of_arch("embedding_length").unwrap_or(0)
    }

    /// Query heads of every block.
    pub fn heads(&self) -> Vec<u64> {
        self.per_block("attention.head_count").unwrap_or_default()
    }

    /// Key-value heads of every block; as many as query heads where the file names none.
    pub fn heads_kv(&self) -> Vec<u64> {
        self.per_block("attention.head_count_kv").unwrap_or_else(|| self.heads())
    }

    /// Values per key head and per value head.
    pub fn head_lengths(&self) -> (u64, u64) {
        let heads = self.heads().into_iter().max().unwrap_or(1).max(1);
        let default = self.embedding() / heads;
        let of = |key| self.of_arch(key).unwrap_or(default);
        (of("attention.key_length"), of("attention.value_length"))
    }

    /// A key that is one number for all blocks or an array with one per block.
    fn per_block(&self, key: &str) -> Option<Vec<u64>> {
        match self.metadata.get(&format!("{}.{key}", self.architecture))? {
            Value::Array(array) => Some(array.integers()?.map(|v| u64::try_from(v).unwrap_or(0)).collect()),
            value => {
                let blocks = usize::try_from(self.blocks()).unwrap_or(0);
                value.as_u64().map(|count| vec![count; blocks])
            }
        }
    }

    pub fn tokens(&self) -> Option<&Strings> {
        match self.metadata.get("tokenizer.ggml.tokens") {
            Some(Value::Array(Array::Strings(strings))) => Some(strings),
            _ => None,
        }
    }

    pub fn vocabulary(&self) -> usize {
        self.tokens().map_or(0, Strings::len)
    }

    /// Text of a special token, e.g. `special_token("bos")`.
    pub fn special_token(&self, name: &str) -> Option<&str> {
        let id = self.u64(&format!("tokenizer.ggml.{name}_token_id"))?;
        self.tokens()?.get(usize::try_from(id).ok()?)
    }

    pub fn chat_template(&self) -> Option<&str> {
        self.str("tokenizer.chat_template")
    }

    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Bytes of all tensors, which is what the weights take in memory.
    pub fn weight_bytes(&self) -> u64 {
        self.tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.bytes))
    }
}
