//! The pre-check of the tokenizer's keys: arrays of one length and the right types, no token twice.
//!
//! llama.cpp casts these arrays and asserts on them; each rule here stands for a crash seen there.

use std::collections::HashSet;

use crate::gguf::check::Keys;
use crate::gguf::{Array, MAX_TEMPLATE, Refusal, Strings, Value};

const MAX_TOKENS: usize = 1 << 20;
/// Tokenizers of chat models. Others exist for encoders and recurrent models.
const MODELS: [&str; 3] = ["gpt2", "llama", "gemma4"];
/// `tokenizer.ggml.token_type` of a token that stands for one byte.
const BYTE: i64 = 6;

/// Judge the vocabulary; answers the number of tokens.
pub(super) fn judge(keys: &Keys) -> Result<usize, Refusal> {
    let model_key = "tokenizer.ggml.model";
    let model = keys.text(model_key)?.ok_or_else(|| keys.missing_key(model_key))?;
    if !MODELS.contains(&model) {
        let reason = format!("tokenizer {model:?} is not served; served are {}", MODELS.join(", "));
        return Err(keys.wrong(model_key, &reason));
    }
    keys.text("tokenizer.ggml.pre")?;
    let tokens =
        strings(keys, "tokenizer.ggml.tokens")?.ok_or_else(|| keys.missing_key("tokenizer.ggml.tokens"))?;
    if tokens.is_empty() || tokens.len() > MAX_TOKENS {
        let reason = format!("{} tokens; 1 to {MAX_TOKENS} are possible", tokens.len());
        return Err(keys.wrong("tokenizer.ggml.tokens", &reason));
    }
    distinct(keys, tokens)?;
    numbers(keys, "tokenizer.ggml.scores", &[5, 6], tokens.len())?;
    if let Some(types) = numbers(keys, "tokenizer.ggml.token_type", &[5], tokens.len())? {
        byte_tokens(keys, tokens, types)?;
    }
    let merges = strings(keys, "tokenizer.ggml.merges")?;
    if model != "llama" && merges.is_none() {
        return Err(keys.missing_key("tokenizer.ggml.merges"));
    }
    special_ids(keys, tokens.len())?;
    if let Some(template) = keys.text("tokenizer.chat_template")?
        && template.len() > MAX_TEMPLATE
    {
        let reason = format!("{} bytes, the limit is {MAX_TEMPLATE}", template.len());
        return Err(keys.wrong("tokenizer.chat_template", &reason));
    }
    Ok(tokens.len())
}

/// llama.cpp asserts that every token text occurs once; it names empty ones after their place.
fn distinct(keys: &Keys, tokens: &Strings) -> Result<(), Refusal> {
    let mut seen = HashSet::with_capacity(tokens.len());
    let mut empty = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        if token.is_empty() {
            empty.push(format!("[EMPTY_{index}]"));
        } else if !seen.insert(token) {
            return Err(keys.wrong("tokenizer.ggml.tokens", &format!("token {index} stands twice")));
        }
    }
    match empty.iter().find(|name| seen.contains(name.as_str())) {
        Some(name) => Err(keys.wrong("tokenizer.ggml.tokens", &format!("token {name:?} stands twice"))),
        None => Ok(()),
    }
}

fn byte_tokens(keys: &Keys, tokens: &Strings, types: &Array) -> Result<(), Refusal> {
    let Some(types) = types.integers() else { return Ok(()) };
    for (token, _) in tokens.iter().zip(types).filter(|(_, kind)| *kind == BYTE) {
        let bytes = token.as_bytes();
        let well_formed = bytes.len() == 6
            && token.starts_with("<0x")
            && token.ends_with('>')
            && bytes[3..5].iter().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(b));
        if !well_formed {
            let reason =
                format!("byte token {:?} is not of the form <0x0A>", token.escape_debug().to_string());
            return Err(keys.wrong("tokenizer.ggml.tokens", &reason));
        }
    }
    Ok(())
}

fn special_ids(keys: &Keys, tokens: usize) -> Result<(), Refusal> {
    for name in ["bos", "eos", "eot", "eom"] {
        let key = format!("tokenizer.ggml.{name}_token_id");
        match keys.parsed.metadata.get(&key) {
            None => {}
            Some(Value::U32(id)) if (*id as usize) < tokens => {}
            Some(Value::U32(id)) => {
                return Err(keys.wrong(&key, &format!("{id} is no token, there are {tokens}")));
            }
            Some(other) => {
                let reason = format!("a u32 was expected, it is a {}", other.type_name());
                return Err(keys.wrong(&key, &reason));
            }
        }
    }
    Ok(())
}

fn strings<'a>(keys: &Keys<'a>, key: &str) -> Result<Option<&'a Strings>, Refusal> {
    match keys.parsed.metadata.get(key) {
        None => Ok(None),
        Some(Value::Array(Array::Strings(strings))) => Ok(Some(strings)),
        Some(_) => Err(keys.wrong(key, "an array of strings was expected")),
    }
}

/// An array of `length` numbers of one of the given types.
fn numbers<'a>(
    keys: &Keys<'a>,
    key: &str,
    types: &[u32],
    length: usize,
) -> Result<Option<&'a Array>, Refusal> {
    match keys.parsed.metadata.get(key) {
        None => Ok(None),
        Some(Value::Array(array)) if types.contains(&array.type_id()) && array.len() == length => {
            Ok(Some(array))
        }
        Some(Value::Array(array)) if types.contains(&array.type_id()) => {
            Err(keys.wrong(key, &format!("{} values for {length} tokens", array.len())))
        }
        Some(_) => Err(keys.wrong(key, "it has the wrong type")),
    }
}
