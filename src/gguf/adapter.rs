//! The pre-check of a LoRA file: it is one, it belongs to the model, and every pair has its shapes.
//!
//! A is [n_in, rank] and B [rank, n_out] beside a base matrix of [n_in, n_out] (dims fastest first).

use std::collections::{BTreeMap, HashMap};

use crate::gguf::check::{Keys, header};
use crate::gguf::read::{Parsed, refusal};
use crate::gguf::{Array, Header, Refusal, TensorInfo, Value};

/// Far above any rank in use; a rank of its matrix's size would be no adapter.
pub const MAX_RANK: u64 = 4096;

/// Judge a parsed adapter header against its base model's.
pub(super) fn judge(parsed: Parsed, size: u64, base: &Header) -> Result<Header, Refusal> {
    let keys = Keys::new(&parsed)?;
    for (key, expected) in [("general.type", "adapter"), ("adapter.type", "lora")] {
        match keys.text(key)? {
            Some(found) if found == expected => {}
            Some(found) => {
                return Err(keys.wrong(key, &format!("{expected:?} was expected, it is {found:?}")));
            }
            None => return Err(keys.missing_key(key)),
        }
    }
    if keys.architecture != base.architecture {
        let reason = format!("made for {:?}, the model is {:?}", keys.architecture, base.architecture);
        return Err(keys.wrong("general.architecture", &reason));
    }
    let alpha = "adapter.lora.alpha";
    match parsed.metadata.get(alpha) {
        Some(Value::F32(value)) if value.is_finite() => {}
        Some(_) => return Err(keys.wrong(alpha, "a finite f32 was expected")),
        None => return Err(keys.missing_key(alpha)),
    }
    match parsed.metadata.get("adapter.alora.invocation_tokens") {
        None | Some(Value::Array(Array::Numbers { type_id: 4, .. })) => {}
        Some(_) => {
            return Err(keys.wrong("adapter.alora.invocation_tokens", "an array of u32 was expected"));
        }
    }
    pairs(&parsed, base)?;
    let architecture = keys.architecture.to_string();
    Ok(header(parsed, size, architecture, 0))
}

fn pairs(parsed: &Parsed, base: &Header) -> Result<(), Refusal> {
    let matrices: HashMap<&str, &TensorInfo> = base.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut halves: BTreeMap<&str, [Option<&TensorInfo>; 2]> = BTreeMap::new();
    for tensor in &parsed.tensors {
        let half = [".lora_a", ".lora_b"].iter().position(|suffix| tensor.name.ends_with(suffix));
        let Some(half) = half else {
            return Err(wrong(tensor, "its name ends neither in .lora_a nor in .lora_b"));
        };
        let target = &tensor.name[..tensor.name.len() - ".lora_a".len()];
        halves.entry(target).or_default()[half] = Some(tensor);
    }
    if halves.is_empty() {
        return Err(refusal("tensors", parsed.data_offset, "the adapter holds none"));
    }
    for (target, pair) in halves {
        let (a, b) = match pair {
            [Some(a), Some(b)] => (a, b),
            [Some(one), None] | [None, Some(one)] => return Err(wrong(one, "its other half is missing")),
            [None, None] => continue,
        };
        match matrices.get(target) {
            None => return Err(wrong(a, "the model has no such matrix")),
            Some(_) if target.starts_with("token_embd.") || target.starts_with("output.") => {
                return Err(wrong(a, "adapters on the embedding or the head are not served"));
            }
            Some(matrix) => fits(a, b, matrix)?,
        }
    }
    Ok(())
}

fn fits(a: &TensorInfo, b: &TensorInfo, matrix: &TensorInfo) -> Result<(), Refusal> {
    let (&[columns, rows], &[a_in, a_rank], &[b_rank, b_out]) =
        (matrix.dims.as_slice(), a.dims.as_slice(), b.dims.as_slice())
    else {
        return Err(wrong(a, "both halves and the model's tensor must be matrices"));
    };
    if a_rank != b_rank || !(1..=MAX_RANK).contains(&a_rank) {
        let reason = format!("ranks {a_rank} and {b_rank}; they must be equal, 1 to {MAX_RANK}");
        return Err(wrong(a, &reason));
    }
    if a_in != columns || b_out != rows {
        let reason =
            format!("made for a matrix of {:?}, the model's is {:?}", [a_in, b_out], [columns, rows]);
        return Err(wrong(a, &reason));
    }
    match [a, b].into_iter().find(|half| !half.kind.holds_weights()) {
        Some(half) => Err(wrong(half, &format!("{} cannot hold weights", half.kind.name))),
        None => Ok(()),
    }
}

fn wrong(tensor: &TensorInfo, reason: &str) -> Refusal {
    refusal(&format!("tensor {:?}", tensor.name), tensor.described_at, reason)
}
