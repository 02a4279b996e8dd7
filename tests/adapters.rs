//! Adapters between programs: what llama.cpp computes with an adapter file, a converted PEFT folder or a merged
//! model is what the f64 reference computes; and K-quants as a base: gradients through them, and merging.

use std::path::{Path, PathBuf};

use tillerman::engine::Engine;
use tillerman::engine::client::{EngineOptions, LlamaEngine};
use tillerman::gguf::toy::{Architecture, Shape, ToyModel};
use tillerman::gguf::write::Plan;
use tillerman::gguf::{Header, TensorType, check, quant};
use tillerman::train::adapter_file::{About, encode, place};
use tillerman::train::kernels::{self, Precision};
use tillerman::train::lora::{Gradients, Lora, sites};
use tillerman::train::merge::merge;
use tillerman::train::model::{Options, Policy};
use tillerman::train::passes::Passes;
use tillerman::train::reference::{self, Adapter, Matrix, Model};
use tillerman::train::tree::{Row, Tree};
use tillerman::train::{peft, safetensors};

/// Largest difference of a log-probability in F32; llama.cpp keeps keys and values in F16 (3e-4 seen).
const CLOSE: f64 = 1e-3;

/// The same where the base is a K-quant: merged, and with the adapter beside it.
const K_MERGED: f64 = 2e-2;
const K_BESIDE: f64 = 4e-2;

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

fn k_quant(name: &str) -> TensorType {
    (0..64).filter_map(TensorType::from_id).find(|kind| kind.name == name).unwrap()
}

/// The model again, its matrices packed as `kind` by ggml's own quantiser, or as F32.
fn repacked(from: &Path, out: &Path, kind: TensorType) {
    let (header, file) = (check(from).unwrap(), std::fs::read(from).unwrap());
    let mut plan = Plan::default();
    header.metadata.iter().for_each(|entry| plan.set(entry.key.clone(), entry.value.clone()));
    let packed = |dims: &[u64]| if dims.len() == 2 { kind } else { TensorType::F32 };
    header.tensors.iter().for_each(|t| plan.tensor(t.name.as_str(), &t.dims, packed(&t.dims)));
    let mut writer = plan.start(std::fs::File::create(out).unwrap()).unwrap();
    for tensor in &header.tensors {
        let start = (header.data_offset + tensor.offset) as usize;
        let values = kernels::values(tensor.kind, &file[start..][..tensor.bytes as usize]).unwrap();
        let kind = packed(&tensor.dims);
        if kind == TensorType::F32 {
            writer.values(&values).unwrap();
            continue;
        }
        let (columns, rows) = (tensor.dims[0], tensor.dims[1]);
        let mut bytes = vec![0_u8; (columns / kind.block * kind.bytes * rows) as usize];
        // SAFETY: `values` holds `rows` of `columns` numbers, whole blocks, and `bytes` what they pack into.
        let written = unsafe {
            llama_cpp_sys_2::ggml_quantize_chunk(
                kind.id as llama_cpp_sys_2::ggml_type,
                values.as_ptr(),
                bytes.as_mut_ptr().cast(),
                0,
                rows as i64,
                columns as i64,
                std::ptr::null(),
            )
        };
        assert_eq!(written, bytes.len());
        writer.packed(&mut bytes.as_slice()).unwrap();
    }
    writer.finish().unwrap();
}

/// A random model whose rows are whole K blocks, its matrices of `kind`; and the same numbers as F32.
fn k_model(dir: &Path, architecture: Architecture, kind: TensorType) -> [PathBuf; 2] {
    let [random, packed, plain] = ["random.gguf", "packed.gguf", "plain.gguf"].map(|name| dir.join(name));
    let shape = Shape { hidden: 256, feed_forward: 256, ..ToyModel::default().shape };
    ToyModel { shape, architecture, kind: TensorType::F32, ..ToyModel::default() }.write(&random).unwrap();
    repacked(&random, &packed, kind);
    repacked(&packed, &plain, TensorType::F32);
    assert_eq!(check(&packed).unwrap().tensor("blk.1.ffn_down.weight").unwrap().kind, kind);
    [packed, plain]
}

/// |a - b| / |b|
fn distance(a: &Gradients, b: &Gradients) -> f64 {
    let apart: f64 = a.values().zip(b.values()).map(|(a, b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    apart.sqrt() / b.norm()
}

#[test]
fn gradients_through_k_quants_are_those_of_their_unpacked_values() {
    let ids = ids();
    let row = |end: usize| Row { prompt: ids[..8].to_vec(), sampled: ids[8..end].to_vec() };
    let tree = Tree::build(&[row(20), row(12)]);
    let step = |model: &Path, precision: Precision| {
        let options = Options { threads: 2, precision, ..Options::default() };
        let policy = Policy::open_with(model, options).unwrap();
        let lora = lora(policy.header(), 4);
        let share = |l: &[f32]| (0..l.len()).map(|at| if at % 3 == 0 { 1.0 } else { -0.5 }).collect();
        policy.gradients(&tree, &lora, 0.7, &mut |logprobs| share(logprobs)).unwrap()
    };
    let mut seen: Vec<Gradients> = Vec::new();
    for kind in ["Q4_K", "Q5_K", "Q6_K"].map(k_quant) {
        let dir = tempfile::tempdir().unwrap();
        let [packed, plain] = k_model(dir.path(), Architecture::Qwen2, kind);
        let (exact, near) = (step(&plain, Precision::F32), step(&packed, Precision::Bf16));
        // Straight through: with f32 products not a bit differs, with bf16 ones what their rounding does (6e-3).
        assert_eq!(step(&packed, Precision::F32), exact, "{}", kind.name);
        let off = distance(&near.1, &exact.1);
        eprintln!("{}: bf16 gradients off by {off:.1e}", kind.name);
        assert!(off <= 2e-2, "{}: {off:.1e}", kind.name);
        // The types round differently: were the file F32 after all, these would be equal.
        assert!(seen.iter().all(|other| distance(other, &exact.1) > 1e-3), "{}", kind.name);
        seen.push(exact.1);
    }
}

#[tokio::test]
async fn a_merged_k_quant_model_scores_as_base_and_adapter() {
    for (kind, architecture) in [("Q4_K", Architecture::Llama), ("Q6_K", Architecture::Qwen2)] {
        let dir = tempfile::tempdir().unwrap();
        let [model, plain] = k_model(dir.path(), architecture, k_quant(kind));
        let (header, file) = (check(&model).unwrap(), dir.path().join("adapter.gguf"));
        let mut lora = lora(&header, 4);
        // Rows are four times those of the other tests.
        lora.pairs.iter_mut().flat_map(|pair| &mut pair.b).for_each(|value| *value *= 0.25);
        place(&file, &encode(&lora, &about(&header), TensorType::F32).unwrap()).unwrap();
        // As a person does it.
        let command = |args: &[&str]| {
            let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_tillerman"));
            command.env("TILLERMAN_HOME", dir.path().join("home")).arg("--model").arg(&model).args(args);
            let out = command.output().unwrap();
            assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8(out.stdout).unwrap()
        };
        let kept = command(&["adapters", "import", file.to_str().unwrap(), "--json"]);
        let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
        let id = kept["id"].as_str().unwrap();
        command(&["adapters", "export", id, "--format", "merged", dir.path().to_str().unwrap()]);
        let merged = dir.path().join("merged.gguf");
        let kinds = |name: &str| check(&merged).unwrap().tensor(name).unwrap().kind.name;
        assert_eq!((kinds("blk.0.attn_q.weight"), kinds("token_embd.weight")), ("F16", kind));

        let (plain, base) = (Model::from_gguf(&plain).unwrap(), engine(&model));
        let exact = [exact(&plain, Some(&lora)), exact(&plain, None)];
        let scored = engine(&merged).score(ids(), false).await.unwrap();
        base.set_adapter(Some(file)).await.unwrap();
        let beside = base.score(ids(), true).await.unwrap();
        let (near, far) = (apart(&scored, &exact[0]), apart(&scored, &exact[1]));
        let beside = apart(&beside, &exact[0]);
        eprintln!("{kind}: merged off by {near:.1e}, beside {beside:.1e}, without the adapter {far:.1e}");
        // F16 rounds the merged matrices; llama.cpp rounds activations to 8 bits beside K-quants: in the
        // merged file at the head alone (7e-3 seen), beside the adapter everywhere (1.4e-2).
        assert!(near <= K_MERGED && beside <= K_BESIDE, "{kind}: merged {near:.1e}, beside {beside:.1e}");
        assert!(far > 5.0 * K_MERGED, "{kind}: the adapter changes nothing: {far:.1e}");
    }
}
