//! Adapters for and from Python's PEFT: a folder of adapter_config.json and adapter_model.safetensors.
//!
//! Plain LoRA with one rank and one alpha. Matrices have PEFT's orientation already; what differs is names,
//! and in architecture llama the order of query and key rows: GGUF pairs the numbers that rotate together,
//! (2i, 2i + 1), where the Python world has (i, i + d/2).
//! Source: llama.cpp's convert_hf_to_gguf.py (`LlamaModel.permute`) and convert_lora_to_gguf.py.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::gguf::Header;
use crate::train::adapter_file::{AdapterError, place};
use crate::train::lora::{Lora, Pair, sites};
use crate::train::safetensors::{self, Tensor};

const CONFIG: &str = "adapter_config.json";
const NUMBERS: &str = "adapter_model.safetensors";

/// GGUF's names of a block's linears and the Python world's.
const NAMES: [(&str, &str); 7] = [
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Settings under which a file's A and B alone do not say what it computes,.
const UNREAD: [(&str, &str); 12] = [
    ("use_dora", "DoRA"),
    ("use_rslora", "rank-stabilised scaling"),
    ("use_qalora", "QALoRA"),
    ("modules_to_save", "whole modules beside the pairs"),
    ("rank_pattern", "several ranks"),
    ("alpha_pattern", "several alphas"),
    ("fan_in_fan_out", "transposed matrices"),
    ("lora_bias", "trained biases"),
    ("layer_replication", "repeated layers"),
    ("alora_invocation_tokens", "an adapter that wakes at certain tokens"),
    ("trainable_token_indices", "trained embeddings"),
    ("target_parameters", "parameters outside linears"),
];

/// Write `lora` as a PEFT folder. `base_name` is what PEFT shall load under it, e.g. "Qwen/Qwen2.5-0.5B".
///
/// # Errors
/// [`AdapterError`].
pub fn export(folder: &Path, lora: &Lora, base: &Header, base_name: &str) -> Result<(), AdapterError> {
    lora.check()?;
    let mut tensors = BTreeMap::new();
    let mut modules = Vec::new();
    for pair in &lora.pairs {
        let refused = || refuse(folder, format!("{} has no place in a PEFT file", pair.tensor));
        let (name, module) = python_name(&pair.tensor).ok_or_else(refused)?;
        let mut b = pair.b.clone();
        if let Some(heads) = paired_heads(base, &pair.tensor) {
            b = reordered(&b, lora.rank, heads, Order::Python);
        }
        let a = Tensor { shape: vec![lora.rank, pair.n_in], values: pair.a.clone() };
        tensors.insert(format!("{name}.lora_A.weight"), a);
        tensors.insert(
            format!("{name}.lora_B.weight"),
            Tensor { shape: vec![pair.n_out, lora.rank], values: b },
        );
        if !modules.contains(&module) {
            modules.push(module);
        }
    }
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": modules,
        "inference_mode": true,
        "use_rslora": false,
        "use_dora": false,
        "fan_in_fan_out": false,
        "modules_to_save": null,
        "rank_pattern": {},
        "alpha_pattern": {},
    });
    std::fs::create_dir_all(folder).map_err(|source| AdapterError::Io {
        path: folder.to_path_buf(),
        verb: "made",
        source,
    })?;
    place(&folder.join(NUMBERS), &safetensors::write(&tensors))?;
    place(&folder.join(CONFIG), format!("{config:#}\n").as_bytes())
}

/// Read a PEFT folder as an adapter of `base`.
///
/// # Errors
/// [`AdapterError`]: not plain LoRA, another base's, ranks that differ, numbers that are not finite.
pub fn import(folder: &Path, base: &Header) -> Result<Lora, AdapterError> {
    let refused = |reason: String| refuse(folder, reason);
    let (rank, alpha) = config(&folder.join(CONFIG))?;
    let path = folder.join(NUMBERS);
    let mut tensors = safetensors::read(&read(&path)?).map_err(|reason| refuse(&path, reason))?;
    let mut pairs = Vec::new();
    for site in sites(base) {
        let Some((name, _)) = python_name(&site.tensor) else { continue };
        let mut half = |letter: &str| tensors.remove(&format!("{name}.lora_{letter}.weight"));
        let (a, mut b) = match (half("A"), half("B")) {
            (Some(a), Some(b)) => (a, b),
            (None, None) => continue,
            _ => return Err(refused(format!("{name} has one half only"))),
        };
        if a.shape != [rank, site.n_in] || b.shape != [site.n_out, rank] {
            let reason = format!(
                "{name} has A {:?} and B {:?}; rank {rank} of this model's {} needs [{rank}, {}] and [{}, {rank}]",
                a.shape, b.shape, site.tensor, site.n_in, site.n_out
            );
            return Err(refused(reason));
        }
        if let Some(heads) = paired_heads(base, &site.tensor) {
            b.values = reordered(&b.values, rank, heads, Order::Gguf);
        }
        pairs.push(Pair {
            tensor: site.tensor,
            n_in: site.n_in,
            n_out: site.n_out,
            a: a.values,
            b: b.values,
        });
    }
    if let Some(name) = tensors.keys().next() {
        return Err(refused(format!(
            "{name:?} has no place in this model; adapters change its linears only"
        )));
    }
    let lora = Lora { rank, alpha, pairs };
    lora.check().map_err(|error| refused(error.to_string()))?;
    Ok(lora)
}

/// (rank, alpha) of a config that says plain LoRA.
fn config(path: &Path) -> Result<(usize, f32), AdapterError> {
    let refused = |reason: String| refuse(path, reason);
    let config: Value =
        serde_json::from_slice(&read(path)?).map_err(|error| refused(format!("it is no JSON: {error}")))?;
    if config["peft_type"] != "LORA" {
        return Err(refused(format!("peft_type is {}, LORA is read", config["peft_type"])));
    }
    let absent = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    if let Some((key, what)) = UNREAD.iter().find(|(key, _)| !absent(&config[*key])) {
        return Err(refused(format!("{key} is {} ({what}); plain LoRA is read", config[*key])));
    }
    if !(config["bias"].is_null() || config["bias"] == "none") {
        return Err(refused(format!("bias is {}; without trained biases is read", config["bias"])));
    }
    let rank = config["r"].as_u64().and_then(|rank| usize::try_from(rank).ok());
    let rank = rank.filter(|rank| *rank > 0).ok_or_else(|| refused(format!("r is {}", config["r"])))?;
    let alpha = config["lora_alpha"].as_f64();
    let alpha = alpha.ok_or_else(|| refused(format!("lora_alpha is {}", config["lora_alpha"])))?;
    Ok((rank, alpha as f32))
}

/// `blk.3.attn_q.weight` as (`base_model.model.model.layers.3.self_attn.q_proj`, `q_proj`).
fn python_name(tensor: &str) -> Option<(String, &'static str)> {
    let (block, rest) = tensor.strip_prefix("blk.")?.split_once('.')?;
    let own = rest.strip_suffix(".weight")?;
    let (_, python) = NAMES.iter().find(|(gguf, _)| *gguf == own)?;
    let module = python.rsplit('.').next().unwrap_or(python);
    Some((format!("base_model.model.model.layers.{block}.{python}"), module))
}

/// Heads of a matrix whose rows GGUF has in another order than Python; None where both agree.
fn paired_heads(base: &Header, tensor: &str) -> Option<usize> {
    let counts = match tensor.rsplit('.').nth(1)? {
        _ if base.architecture != "llama" => return None,
        "attn_q" => base.heads(),
        "attn_k" => base.heads_kv(),
        _ => return None,
    };
    let block: usize = tensor.split('.').nth(1)?.parse().ok()?;
    usize::try_from(*counts.get(block)?).ok()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Gguf,
    Python,
}

/// Rows of `width` values brought into `order`: row 2i + j of a head in GGUF is row j d/2 + i in Python.
fn reordered(values: &[f32], width: usize, heads: usize, order: Order) -> Vec<f32> {
    let rows = values.len() / width;
    let head = rows / heads.max(1);
    let mut out = vec![0.0; values.len()];
    for row in 0..rows {
        let (start, own) = (row / head * head, row % head);
        let python = start + own % 2 * (head / 2) + own / 2;
        let (from, to) = if order == Order::Gguf { (python, row) } else { (row, python) };
        out[to * width..][..width].copy_from_slice(&values[from * width..][..width]);
    }
    out
}

fn read(path: &Path) -> Result<Vec<u8>, AdapterError> {
    std::fs::read(path).map_err(|source| AdapterError::Io { path: path.to_path_buf(), verb: "read", source })
}

fn refuse(path: &Path, reason: String) -> AdapterError {
    AdapterError::Refused { path: PathBuf::from(path), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::check;
    use crate::gguf::toy::{Architecture, ToyModel};

    fn base(dir: &Path, architecture: Architecture) -> Header {
        let path = dir.join("base.gguf");
        ToyModel { architecture, ..ToyModel::default() }.write(&path).unwrap();
        check(&path).unwrap()
    }

    fn lora(base: &Header) -> Lora {
        let mut lora = Lora::init(&sites(base), 2, 8.0, 4).unwrap();
        for pair in &mut lora.pairs {
            pair.b.iter_mut().zip(1..).for_each(|(b, at)| *b = at as f32 / 512.0);
        }
        lora
    }

    #[test]
    fn import_undoes_export_in_every_architecture() {
        let dir = tempfile::tempdir().unwrap();
        for architecture in [Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3] {
            let base = base(dir.path(), architecture);
            let lora = lora(&base);
            export(dir.path(), &lora, &base, "toy").unwrap();
            assert_eq!(import(dir.path(), &base).unwrap(), lora);
            let tensors = safetensors::read(&std::fs::read(dir.path().join(NUMBERS)).unwrap()).unwrap();
            assert_eq!(tensors.len(), 28);
            let b = &tensors["base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight"];
            assert_eq!(b.shape, [64, 2]);
            // Head length 16: GGUF's second row is Python's ninth in llama.
            let moved = if architecture == Architecture::Llama { 8 } else { 1 };
            assert_eq!(b.values[moved * 2..][..2], lora.pairs[7].b[2..4]);
            let v = &tensors["base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"];
            assert_eq!(v.values, lora.pairs[9].b, "values do not rotate");
        }
    }

    #[test]
    fn what_is_not_plain_lora_of_this_base_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let base = base(dir.path(), Architecture::Qwen2);
        let lora = lora(&base);
        let config_path = dir.path().join(CONFIG);
        let refused = |key: &str, value: Value| {
            export(dir.path(), &lora, &base, "toy").unwrap();
            let mut config: Value = serde_json::from_slice(&std::fs::read(&config_path).unwrap()).unwrap();
            config[key] = value;
            std::fs::write(&config_path, config.to_string()).unwrap();
            import(dir.path(), &base).unwrap_err().to_string()
        };
        assert!(refused("use_dora", json!(true)).contains("DoRA"));
        assert!(refused("use_rslora", json!(true)).contains("rank-stabilised"));
        assert!(refused("modules_to_save", json!(["lm_head"])).contains("whole modules"));
        assert!(refused("rank_pattern", json!({ "q_proj": 4 })).contains("several ranks"));
        assert!(refused("bias", json!("all")).contains("bias is \"all\""));
        assert!(refused("peft_type", json!("IA3")).contains("IA3"));
        assert!(refused("r", json!(0)).contains("r is 0"));
        assert!(refused("r", json!(3)).contains("rank 3 of this model's"));
        assert!(refused("lora_alpha", json!("much")).contains("lora_alpha"));
        let numbers = dir.path().join(NUMBERS);
        let with = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
            export(dir.path(), &lora, &base, "toy").unwrap();
            let mut tensors = safetensors::read(&std::fs::read(&numbers).unwrap()).unwrap();
            change(&mut tensors);
            std::fs::write(&numbers, safetensors::write(&tensors)).unwrap();
            import(dir.path(), &base).unwrap_err().to_string()
        };
        assert!(with(&|t| t.values_mut().next().unwrap().values[0] = f32::NAN).contains("NaN"));
        assert!(with(&|t| _ = t.pop_first()).contains("one half only"));
        assert!(with(&|t| t.clear()).contains("none of the matrices"));
        let head = Tensor { shape: vec![1], values: vec![0.0] };
        let name = "base_model.model.lm_head.lora_A.weight";
        assert!(with(&|t| _ = t.insert(name.to_string(), head.clone())).contains("lm_head"));
        std::fs::remove_file(&numbers).unwrap();
        assert!(matches!(import(dir.path(), &base), Err(AdapterError::Io { .. })));
    }
}
