//! Adapters between programs: llama.cpp computes what the f64 reference computes, with the adapter as it was
//! written here.

use std::path::{Path, PathBuf};

use tillerman::engine::Engine;
use tillerman::engine::client::{EngineOptions, LlamaEngine};
use tillerman::gguf::toy::{Architecture, ToyModel};
use tillerman::gguf::{Header, TensorType, check};
use tillerman::train::adapter_file::{About, encode, place};
use tillerman::train::lora::{Lora, sites};
use tillerman::train::reference::{self, Adapter, Model};
use tillerman::train::tree::Row;

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
        (Architecture::Llama, false, TensorType::F32, 1e-4),
        (Architecture::Qwen2, true, TensorType::F32, 1e-4),
        (Architecture::Qwen3, true, TensorType::F32, 1e-4),
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
