//! Adapters between programs: what llama.cpp computes with an adapter file, a converted PEFT folder or a merged
//! model is what the f64 reference computes.

use std::path::{Path, PathBuf};

use tillerman::engine::Engine;
use tillerman::engine::client::{EngineOptions, LlamaEngine};
use tillerman::gguf::toy::{Architecture, ToyModel};
use tillerman::gguf::{Header, TensorType, check, quant};
use tillerman::train::adapter_file::{About, encode, place};
use tillerman::train::lora::{Lora, sites};
use tillerman::train::merge::merge;
use tillerman::train::reference::{self, Adapter, Matrix, Model};
use tillerman::train::tree::Row;
use tillerman::train::{peft, safetensors};

/// Largest difference of a log-probability in F32; llama.cpp keeps keys and values in F16 (3e-4 seen).
const CLOSE: f64 = 1e-3;

fn engine(model: &Path) -> LlamaEngine {
    LlamaEngine::new(EngineOptions {
        exe: PathBuf::from(env!("CARGO_BIN_EXE_tillerman")),
        threads: Some(1),
        context: Some(512),
        ..EngineOptions::new(model.to_owned())
    })
}

fn ids() -> Vec<i32> {
    (0..40).map(|at| 3 + (at * 37 + at * at) % 260).collect()
}

/// Random A and B, large enough to change every log-probability.
fn lora(header: &Header, rank: usize) -> Lora {
    let mut lora = Lora::init(&sites(header), rank, 2.0 * rank as f32, 11).unwrap();
    let mut state = 1_u32;
    for value in lora.pairs.iter_mut().flat_map(|pair| &mut pair.b) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = (state >> 8) as f32 / (1 << 24) as f32 - 0.5;
    }
    lora
}

fn about(header: &Header) -> About {
    About { architecture: header.architecture.clone(), name: "test".into(), base: String::new() }
}

/// What the reference says of every id but the first.
fn exact(model: &Model, lora: Option<&Lora>) -> Vec<f64> {
    let ids = ids();
    let row = Row { prompt: ids[..1].to_vec(), sampled: ids[1..].to_vec() };
    reference::logprobs(model, &[row], lora.map(Adapter::from_lora).as_ref(), 1.0)
}

fn apart(found: &[f32], exact: &[f64]) -> f64 {
    assert_eq!(found.len(), exact.len());
    found.iter().zip(exact).map(|(f, e)| (f64::from(*f) - e).abs()).fold(0.0, f64::max)
}

#[tokio::test]
async fn llama_cpp_computes_what_the_reference_computes() {
    let dir = tempfile::tempdir().unwrap();
    let (model, file) = (dir.path().join("model.gguf"), dir.path().join("adapter.gguf"));
    let cases = [
        (Architecture::Llama, false, TensorType::F32, CLOSE),
        (Architecture::Qwen2, true, TensorType::F32, CLOSE),
        (Architecture::Qwen3, true, TensorType::F32, CLOSE),
        // llama.cpp rounds activations to 8 bits beside these weights.
        (Architecture::Llama, true, TensorType::Q8_0, 2e-2),
    ];
    for (architecture, tied, kind, bound) in cases {
        ToyModel { architecture, tied, kind, ..ToyModel::default() }.write(&model).unwrap();
        let header = check(&model).unwrap();
        let lora = lora(&header, 3);
        place(&file, &encode(&lora, &about(&header), TensorType::F32).unwrap()).unwrap();
        let plain = Model::from_gguf(&model).unwrap();
        let engine = engine(&model);
        let off = apart(&engine.score(ids(), false).await.unwrap(), &exact(&plain, None));
        engine.set_adapter(Some(file.clone())).await.unwrap();
        let on = engine.score(ids(), true).await.unwrap();
        let (changed, on) = (apart(&on, &exact(&plain, None)), apart(&on, &exact(&plain, Some(&lora))));
        assert!(off <= bound && on <= bound, "{architecture:?} {}: off {off:.1e}, on {on:.1e}", kind.name);
        assert!(changed > 20.0 * bound, "the adapter changes nothing: {changed:.1e}");
    }
}

/// The model as the Python world has it: query and key rows of architecture llama in their own order, all
/// rotations in halves; and the adapter as a PEFT folder has it, by its names.
fn python_world(model: &Model, header: &Header, folder: &Path, scale: f64) -> (Model, Adapter) {
    let mut python = model.clone();
    if header.architecture == "llama" {
        let key = model.attention.key;
        for linear in python.blocks.iter_mut().flat_map(|block| [&mut block.q, &mut block.k]) {
            let gguf = linear.weight.clone();
            for row in 0..gguf.rows {
                let (head, own) = (row / key, row % key);
                let (half, pair) = (own / (key / 2), own % (key / 2));
                let from = gguf.row(head * key + 2 * pair + half);
                linear.weight.values[row * gguf.columns..][..gguf.columns].copy_from_slice(from);
            }
        }
        python.rope.neox = true;
    }
    let tensors =
        safetensors::read(&std::fs::read(folder.join("adapter_model.safetensors")).unwrap()).unwrap();
    let modules = [
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    let mut pairs = Vec::new();
    for block in 0..model.blocks.len() {
        for (module, linear) in modules {
            let half = |letter: &str| {
                let name = format!("base_model.model.model.layers.{block}.{module}.lora_{letter}.weight");
                let tensor = &tensors[&name];
                let values = tensor.values.iter().map(|v| f64::from(*v)).collect();
                Matrix { rows: tensor.shape[0], columns: tensor.shape[1], values }
            };
            pairs.push((format!("blk.{block}.{linear}.weight"), half("A"), half("B")));
        }
    }
    (python, Adapter { scale, pairs })
}

#[tokio::test]
async fn a_peft_folder_scores_as_its_gguf_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let (model, file) = (dir.path().join("model.gguf"), dir.path().join("adapter.gguf"));
    for architecture in [Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3] {
        ToyModel { architecture, tied: false, ..ToyModel::default() }.write(&model).unwrap();
        let header = check(&model).unwrap();
        let lora = lora(&header, 4);
        peft::export(dir.path(), &lora, &header, "toy").unwrap();
        let plain = Model::from_gguf(&model).unwrap();
        let (python, adapter) = python_world(&plain, &header, dir.path(), 2.0);
        let ids = ids();
        let row = Row { prompt: ids[..1].to_vec(), sampled: ids[1..].to_vec() };
        let python = reference::logprobs(&python, &[row], Some(&adapter), 1.0);
        // Into a GGUF, as llama.cpp scores it.
        let converted = peft::import(dir.path(), &header).unwrap();
        place(&file, &encode(&converted, &about(&header), TensorType::F32).unwrap()).unwrap();
        let engine = engine(&model);
        engine.set_adapter(Some(file.clone())).await.unwrap();
        let scored = engine.score(ids, true).await.unwrap();
        assert!(apart(&scored, &python) <= CLOSE, "{architecture:?}: {:.1e}", apart(&scored, &python));
        // What was exported is what was trained.
        assert!(apart(&scored, &exact(&plain, Some(&lora))) <= CLOSE, "{architecture:?}");
    }
}

#[tokio::test]
async fn a_merged_model_scores_as_base_and_adapter() {
    let dir = tempfile::tempdir().unwrap();
    let [model, merged] = ["model.gguf", "merged.gguf"].map(|name| dir.path().join(name));
    // F16 rounds weights to 11 bits; Q8_0 to 8, and llama.cpp rounds activations as well (8e-3 seen).
    for (kind, bound) in [(TensorType::F32, CLOSE), (TensorType::F16, 2e-3), (TensorType::Q8_0, 3e-2)] {
        ToyModel { architecture: Architecture::Llama, ..ToyModel::default() }.write(&model).unwrap();
        let header = check(&model).unwrap();
        let lora = lora(&header, 4);
        merge(&model, &lora, &merged, kind, &quant::unpack).unwrap();
        let plain = Model::from_gguf(&model).unwrap();
        let scored = engine(&merged).score(ids(), false).await.unwrap();
        let (near, far) = (apart(&scored, &exact(&plain, Some(&lora))), apart(&scored, &exact(&plain, None)));
        assert!(near <= bound && far > 10.0 * bound, "{}: {near:.1e}, base {far:.1e}", kind.name);
    }
}
