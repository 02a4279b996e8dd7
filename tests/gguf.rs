//! GGUF files from the outside: what is written is read back, what is damaged is refused by name, and what
//! passes the pre-check does not kill llama.cpp (in a child process, so that a signal is seen).

use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use tillerman::error::EngineError;
use tillerman::gguf::toy::{Architecture, SHAPES, ToyModel, toy_adapter};
use tillerman::gguf::write::Plan;
use tillerman::gguf::{
    Array, GgufError, Header, Strings, TensorType, Value, check, check_adapter, check_reader, memory_needed,
};

fn toy() -> ToyModel {
    ToyModel { shape: tillerman::gguf::toy::Shape { vocabulary: 300, ..SHAPES[0] }, ..ToyModel::default() }
}

fn written(model: &ToyModel) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    model.write(&path).unwrap();
    (folder, path)
}

fn bytes_of(model: &ToyModel) -> Vec<u8> {
    std::fs::read(written(model).1).unwrap()
}

/// A header in pieces, to be changed and written again; the data is zeros.
struct Parts {
    metadata: Vec<(String, Value)>,
    tensors: Vec<(String, Vec<u64>, TensorType)>,
}

impl Parts {
    fn of(header: &Header) -> Parts {
        Parts {
            metadata: header.metadata.iter().map(|e| (e.key.clone(), e.value.clone())).collect(),
            tensors: header.tensors.iter().map(|t| (t.name.clone(), t.dims.clone(), t.kind)).collect(),
        }
    }

    fn toy() -> Parts {
        let bytes = bytes_of(&toy());
        Parts::of(&check_reader(&bytes[..], bytes.len() as u64).unwrap())
    }

    fn set(&mut self, key: &str, value: Value) {
        match self.metadata.iter_mut().find(|(found, _)| found == key) {
            Some((_, old)) => *old = value,
            None => self.metadata.push((key.to_string(), value)),
        }
    }

    fn drop_key(&mut self, key: &str) {
        self.metadata.retain(|(found, _)| found != key);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut plan = Plan::default();
        self.metadata.iter().for_each(|(key, value)| plan.set(key.clone(), value.clone()));
        self.tensors.iter().for_each(|(name, dims, kind)| plan.tensor(name.clone(), dims, *kind));
        let mut bytes = plan.header();
        bytes.resize(bytes.len() + plan.data_bytes() as usize, 0);
        bytes
    }
}

/// The toy model with a change is refused with a message that holds `expected`.
#[track_caller]
fn refused(expected: &str, change: impl FnOnce(&mut Parts)) {
    let mut parts = Parts::toy();
    change(&mut parts);
    let bytes = parts.bytes();
    let refusal = check_reader(&bytes[..], bytes.len() as u64).unwrap_err();
    assert!(refusal.to_string().contains(expected), "{refusal}");
    assert!(refusal.offset <= bytes.len() as u64, "{refusal}");
}

fn key_set(key: &'static str, value: Value) -> impl FnOnce(&mut Parts) {
    move |parts| parts.set(key, value)
}

#[test]
fn every_kind_of_random_model_is_written_and_passes() {
    for architecture in [Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3] {
        for kind in [TensorType::F32, TensorType::F16, TensorType::Q8_0, TensorType::Q4_0] {
            for tied in [true, false] {
                let model = ToyModel {
                    shape: SHAPES[0],
                    architecture,
                    kind,
                    tied,
                    context: 1024,
                    seed: 7,
                    ..ToyModel::default()
                };
                let (_folder, path) = written(&model);
                let header = check(&path).unwrap();
                assert_eq!(header.architecture, architecture.name());
                assert_eq!(header.file_type, kind.name);
                assert_eq!(header.context_train, 1024);
                assert_eq!(header.vocabulary(), 512);
                assert_eq!(header.name(), "random toy");
                assert_eq!((header.blocks(), header.embedding()), (2, 64));
                assert_eq!((header.heads(), header.heads_kv()), (vec![4, 4], vec![2, 2]));
                assert_eq!(header.special_token("eos"), Some("<|im_end|>"));
                assert_eq!(header.chat_template(), Some(tillerman::gguf::CHATML));
                assert_eq!(header.tensor("output.weight").is_some(), !tied);
                assert_eq!(header.tensor("blk.1.attn_k.weight").unwrap().dims, [64, 32]);
                assert_eq!(header.file_bytes, std::fs::metadata(&path).unwrap().len());
            }
        }
    }
}

#[test]
fn equal_settings_give_equal_files_and_another_seed_another() {
    let model = toy();
    assert_eq!(bytes_of(&model), bytes_of(&model));
    assert_ne!(bytes_of(&model), bytes_of(&ToyModel { seed: 1, ..model }));
}

#[test]
fn random_weights_have_the_spread_they_should() {
    let bytes = bytes_of(&toy());
    let header = check_reader(&bytes[..], bytes.len() as u64).unwrap();
    let table = header.tensor("token_embd.weight").unwrap();
    let start = (header.data_offset + table.offset) as usize;
    let values: Vec<f64> = bytes[start..start + table.bytes as usize]
        .chunks(4)
        .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
        .collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let spread = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
    assert!(mean.abs() < 0.001 && (spread - 0.02).abs() < 0.001, "{mean} {spread}");
}

#[test]
fn memory_is_weights_and_cache_and_work() {
    let bytes = bytes_of(&toy());
    let header = check_reader(&bytes[..], bytes.len() as u64).unwrap();
    let (one, two) = (memory_needed(&header, 100, 1), memory_needed(&header, 100, 2));
    // 2 blocks, 2 key-value heads of 16 + 16 values in 2 bytes each, 100 tokens.
    assert_eq!(two - one, 2 * 2 * 32 * 2 * 100);
    assert!(one > header.weight_bytes() && header.weight_bytes() > 4 * header.parameters - 100);
    assert_eq!(memory_needed(&header, u64::MAX, u64::MAX), u64::MAX);
}

#[test]
fn every_truncation_is_refused_with_its_place() {
    let bytes = bytes_of(&toy());
    let header = check_reader(&bytes[..], bytes.len() as u64).unwrap();
    let cuts = (0..header.data_offset as usize + 40).chain([bytes.len() / 2, bytes.len() - 1]);
    for cut in cuts {
        let refusal = check_reader(&bytes[..cut], cut as u64).unwrap_err();
        assert!(refusal.offset <= cut as u64, "cut at {cut}: {refusal}");
    }
    // A file that shrinks while it is read ends as a refusal too.
    let refusal = check_reader(&bytes[..1000], bytes.len() as u64).unwrap_err();
    assert!(refusal.reason.contains("reading failed"), "{refusal}");
}

#[test]
fn single_bit_flips_never_panic_and_what_passes_stays_inside_the_file() {
    let bytes = bytes_of(&toy());
    let size = bytes.len() as u64;
    let data = check_reader(&bytes[..], size).unwrap().data_offset as usize;
    let mut passed = 0;
    for at in 0..data {
        // Every bit of the first kilobyte, one bit of each byte after it.
        let bits = if at < 1024 { 0..8 } else { at % 8..at % 8 + 1 };
        for bit in bits {
            let mut damaged = bytes[..data].to_vec();
            damaged[at] ^= 1 << bit;
            if let Ok(header) = check_reader(&damaged[..], size) {
                passed += 1;
                let inside =
                    |t: &tillerman::gguf::TensorInfo| header.data_offset + t.offset + t.bytes <= size;
                assert!(header.tensors.iter().all(inside), "byte {at} bit {bit}");
                assert!((1..=512).contains(&header.blocks()), "byte {at} bit {bit}");
            }
        }
    }
    assert!(passed > 100, "letters of names and tokens may change: {passed}");
}

#[test]
fn absurd_counts_and_sizes_are_refused_before_anything_is_allocated() {
    let good = bytes_of(&toy());
    let at_8 = |value: u64, at: usize| {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        check_reader(&bytes[..], 1 << 50).unwrap_err().to_string()
    };
    assert!(at_8(u64::MAX, 8).starts_with("tensor count at byte 8"));
    assert!(at_8(1 << 40, 16).starts_with("key count at byte 16"));
    assert!(at_8(u64::MAX, 24).starts_with("key at byte 24: a text of 18446744073709551615 bytes"));
    // An array that claims more than a header may hold, in a file that claims to be a petabyte.
    let mut plan = Plan::default();
    plan.set("x", Value::Array(Array::u32s([1])));
    let mut bytes = plan.header();
    let count_at = 24 + 8 + 1 + 4 + 4;
    for count in [u64::MAX, u64::MAX / 4 + 2, 1 << 32] {
        bytes[count_at..count_at + 8].copy_from_slice(&count.to_le_bytes());
        let refusal = check_reader(&bytes[..], 1 << 50).unwrap_err();
        assert!(refusal.reason.contains("elements need"), "{refusal}");
    }
    refused("overflow", |parts| parts.tensors[0].1 = vec![1 << 40, 1 << 40, 1, 1]);
    refused("hold a zero", |parts| parts.tensors[0].1 = vec![0, 300]);
}

#[test]
fn magic_and_version_are_looked_at_first() {
    let good = bytes_of(&toy());
    let with = |at: usize, change: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + change.len()].copy_from_slice(change);
        check_reader(&bytes[..], bytes.len() as u64).map_err(|refusal| refusal.to_string())
    };
    assert!(with(0, b"GGML").unwrap_err().contains("\"GGML\" is not \"GGUF\""));
    assert!(with(4, &[0, 0, 0, 3]).unwrap_err().contains("big-endian"));
    assert!(with(4, &1_u32.to_le_bytes()).unwrap_err().contains("1 is not 2 or 3"));
    assert_eq!(with(4, &2_u32.to_le_bytes()).unwrap().version, 2);
    assert!(check_reader(&b"GGUF"[..], 4).unwrap_err().reason.contains("4 bytes"));
}

#[test]
fn keys_that_llama_cpp_asserts_on_are_refused() {
    refused("key \"qwen2.block_count\"", key_set("qwen2.block_count", Value::U32(513)));
    refused("0 is outside of 1 to 512", key_set("qwen2.block_count", Value::U32(0)));
    refused("a u32 was expected, it is a i32", key_set("qwen2.block_count", Value::I32(2)));
    refused("it is missing", |parts| parts.drop_key("qwen2.context_length"));
    refused("it is missing", |parts| parts.drop_key("general.architecture"));
    refused("\"mamba\" is not served", key_set("general.architecture", Value::String("mamba".into())));
    refused("load it with --adapter", key_set("general.type", Value::String("adapter".into())));
    refused("not a model", key_set("general.type", Value::String("mmproj".into())));
    refused("llama-gguf-split", key_set("split.count", Value::U16(3)));
    refused("power of two", key_set("general.alignment", Value::U32(33)));
    refused("must be a u32", key_set("general.alignment", Value::U64(32)));
    refused("does not divide", key_set("qwen2.attention.head_count", Value::U32(6)));
    refused("no multiple of 3", key_set("qwen2.attention.head_count_kv", Value::U32(3)));
    refused("3 values for 2 blocks", |parts| {
        parts.set("qwen2.attention.head_count", Value::Array(Array::u32s([4, 4, 4])));
    });
    refused("rotated dimensions", key_set("qwen2.rope.dimension_count", Value::U32(15)));
    refused("no rope scaling", key_set("qwen2.rope.scaling.type", Value::String("su".into())));
    refused("no positive number", key_set("qwen2.rope.freq_base", Value::F32(f32::NAN)));
    refused("3 is outside of 0 to 2", key_set("qwen2.nextn_predict_layers", Value::U32(3)));
    refused("it stands twice", |parts| parts.metadata.push(parts.metadata[0].clone()));
    refused("it is empty", |parts| parts.metadata[0].0.clear());
}

#[test]
fn a_vocabulary_that_does_not_fit_together_is_refused() {
    let tokens = |change: fn(&mut Vec<String>)| {
        move |parts: &mut Parts| {
            let mut list: Vec<String> = (0..300).map(|index| format!("t{index}")).collect();
            change(&mut list);
            parts.set("tokenizer.ggml.tokens", Value::Array(Array::Strings(list.iter().collect())));
        }
    };
    refused("token 7 stands twice", tokens(|list| list[7] = "t3".to_string()));
    refused(
        "[EMPTY_5]\" stands twice",
        tokens(|list| {
            list[5].clear();
            list[6] = "[EMPTY_5]".to_string();
        }),
    );
    refused("300 values for 299 tokens", tokens(|list| list.truncate(299)));
    refused("limit", tokens(|list| list[0] = "x".repeat(70_000)));
    refused("wrong type", key_set("tokenizer.ggml.token_type", Value::Array(Array::f32s([0.0; 300]))));
    refused("wrong type", key_set("tokenizer.ggml.scores", Value::Array(Array::u32s([0; 300]))));
    refused("array of strings", key_set("tokenizer.ggml.merges", Value::Array(Array::u32s([1]))));
    refused("byte token", |parts| {
        parts.set("tokenizer.ggml.token_type", Value::Array(Array::i32s([6; 300])));
    });
    refused("300 is no token", key_set("tokenizer.ggml.eos_token_id", Value::U32(300)));
    refused("\"plamo2\" is not served", key_set("tokenizer.ggml.model", Value::String("plamo2".into())));
    refused("262145 bytes", key_set("tokenizer.chat_template", Value::String("x".repeat(262_145))));
}

#[test]
fn tensors_that_lie_or_cannot_compute_are_refused() {
    refused("the name stands twice", |parts| parts.tensors[1].0 = parts.tensors[0].0.clone());
    refused("a text of 64 bytes", |parts| parts.tensors[1].0 = "x".repeat(64));
    refused("5 dimensions", |parts| parts.tensors[0].1 = vec![1; 5]);
    refused("no multiple of Q8_0's 32", |parts| {
        parts.tensors[0].1 = vec![65, 300];
        parts.tensors[0].2 = TensorType::Q8_0;
    });
    refused("\"token_embd.weight\" is missing", |parts| parts.tensors[0].0 = "other.weight".to_string());
    refused("the metadata says [64, 300]", |parts| parts.tensors[0].1 = vec![64, 299]);
    refused("a vector must be F32", |parts| parts.tensors[1].2 = TensorType::F16);
    refused("I32 cannot hold weights", |parts| parts.tensors[0].2 = TensorType::from_id(26).unwrap());

    let parts = Parts::toy();
    let bytes = parts.bytes();
    let short = check_reader(&bytes[..bytes.len() - 32], bytes.len() as u64 - 32).unwrap_err();
    assert!(short.reason.contains("is the download complete?"), "{short}");
}

#[test]
fn paths_that_are_no_model_files_are_typed_errors() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.gguf");
    assert!(matches!(check(&missing).map_err(EngineError::from), Err(EngineError::ModelMissing { .. })));
    assert!(matches!(check(folder.path()), Err(GgufError::Unreadable { .. })));
    assert!(matches!(check(Path::new("/dev/zero")), Err(GgufError::Unreadable { .. })));
    let text = folder.path().join("notes.gguf");
    std::fs::write(&text, "these are only notes, no model").unwrap();
    let error = EngineError::from(check(&text).unwrap_err()).to_string();
    assert!(error.contains("notes.gguf") && error.contains("magic at byte 0"), "{error}");
}

#[test]
fn adapters_fit_their_model_or_are_refused() {
    let (folder, base) = written(&toy());
    let header = check(&base).unwrap();
    let path = folder.path().join("adapter.gguf");
    toy_adapter(&path, &base, 4, 8.0, 3, 0.1).unwrap();
    let adapter = check_adapter(&path, &header).unwrap();
    assert_eq!(adapter.tensors.len(), 2 * 2 * 7);
    assert_eq!(adapter.f32("adapter.lora.alpha"), Some(8.0));
    assert_eq!(adapter.tensor("blk.0.ffn_down.weight.lora_a").unwrap().dims, [96, 4]);
    assert_eq!(adapter.tensor("blk.0.ffn_down.weight.lora_b").unwrap().dims, [4, 64]);
    assert!(check(&path).is_err(), "an adapter is no model");

    type Damage = fn(&mut Parts);
    let cases: [(&str, Damage); 9] = [
        ("the model is \"qwen2\"", |p| p.set("general.architecture", Value::String("llama".into()))),
        ("\"adapter\" was expected", |p| p.set("general.type", Value::String("model".into()))),
        ("finite f32", |p| p.set("adapter.lora.alpha", Value::F32(f32::INFINITY))),
        ("ends neither", |p| p.tensors[0].0 = "blk.0.attn_q.weight".to_string()),
        ("its other half is missing", |p| drop(p.tensors.remove(0))),
        ("no such matrix", |p| {
            p.tensors[0].0 = "blk.9.attn_q.weight.lora_a".to_string();
            p.tensors[1].0 = "blk.9.attn_q.weight.lora_b".to_string();
        }),
        ("ranks 4 and 5", |p| p.tensors[1].1[0] = 5),
        ("made for a matrix of [64, 65]", |p| p.tensors[1].1[1] = 65),
        ("embedding or the head", |p| {
            p.tensors[0].0 = "token_embd.weight.lora_a".to_string();
            p.tensors[1].0 = "token_embd.weight.lora_b".to_string();
        }),
    ];
    for (expected, change) in cases {
        let mut parts = Parts::of(&adapter);
        change(&mut parts);
        std::fs::write(&path, parts.bytes()).unwrap();
        let error = check_adapter(&path, &header).unwrap_err().of_adapter();
        assert!(matches!(error, EngineError::Adapter { .. }));
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn the_writer_takes_what_was_announced_and_nothing_else() {
    let mut plan = Plan::default();
    plan.tensor("a", &[32, 2], TensorType::Q8_0);
    plan.tensor("b", &[3], TensorType::F32);
    let mut writer = plan.clone().start(Vec::new()).unwrap();
    assert!(writer.values(&[0.0; 65]).is_err(), "more than it holds");
    assert!(writer.values(&[0.0; 31]).is_err(), "no whole block");
    writer.values(&[1.0; 32]).unwrap();
    writer.values(&[1.0; 32]).unwrap();
    writer.values(&[1.0, 2.0, 3.0]).unwrap();
    assert!(writer.values(&[1.0]).is_err(), "after the last tensor");
    let bytes = writer.finish().unwrap();
    assert_eq!(bytes.len() as u64, plan.header().len() as u64 + plan.data_bytes());
    assert!(plan.start(Vec::new()).unwrap().finish().is_err(), "incomplete");
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::I64),
        ".{0,40}".prop_map(Value::String),
        proptest::collection::vec(any::<i32>(), 0..20).prop_map(|v| Value::Array(Array::i32s(v))),
        proptest::collection::vec(".{0,9}", 0..9)
            .prop_map(|v| Value::Array(Array::Strings(v.iter().collect::<Strings>()))),
    ]
}

proptest! {
    #[test]
    fn random_bytes_behind_the_magic_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..600), size in 0_u64..1 << 40) {
        let bytes: Vec<u8> = b"GGUF\x03\0\0\0".iter().chain(&tail).copied().collect();
        let _ = check_reader(&bytes[..], bytes.len() as u64);
        let _ = check_reader(&bytes[..], size);
    }

    #[test]
    fn what_is_written_is_read_back(extra in proptest::collection::btree_map("x\\.[a-z]{1,12}", any_value(), 0..12)) {
        let mut parts = Parts::toy();
        parts.metadata.splice(0..0, extra.clone());
        let bytes = parts.bytes();
        let header = check_reader(&bytes[..], bytes.len() as u64).unwrap();
        for (key, value) in extra {
            prop_assert_eq!(header.metadata.get(&key), Some(&value));
        }
    }

    #[test]
    fn a_key_of_any_type_is_taken_or_refused(index in 0_usize..22, value in any_value()) {
        let mut parts = Parts::toy();
        let at = index % parts.metadata.len();
        parts.metadata[at].1 = value;
        let bytes = parts.bytes();
        let _ = check_reader(&bytes[..], bytes.len() as u64);
    }
}

/// Files that pass the pre-check are loaded by llama.cpp, and run, without a signal.
#[test]
fn what_passes_the_check_does_not_kill_llama_cpp() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    let mut keep = |bytes: &[u8]| {
        if check_reader(bytes, bytes.len() as u64).is_ok() {
            std::fs::write(folder.path().join(format!("{count:04}.gguf")), bytes).unwrap();
            count += 1;
        }
    };
    for architecture in [Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3] {
        let good = bytes_of(&ToyModel { architecture, ..toy() });
        let data = check_reader(&good[..], good.len() as u64).unwrap().data_offset as usize;
        keep(&good);
        // The header's first part and its end: keys, types, sizes, tensor descriptions.
        for at in (24..1100).chain(data - 1600..data).step_by(11) {
            let mut damaged = good.clone();
            damaged[at] ^= 1 << (at % 7);
            keep(&damaged);
        }
    }
    assert!(count > 50, "{count} damaged files passed");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "load_each", "--ignored", "--nocapture"])
        .env("TILLERMAN_TEST_LOAD", folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().rfind(|line| line.starts_with("loading ")).unwrap_or("none");
    assert!(
        output.status.success(),
        "{:?} at {last}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("ran "), "{text}");
}

/// The child of the test above.
#[test]
#[ignore = "run by what_passes_the_check_does_not_kill_llama_cpp"]
fn load_each() {
    use llama_cpp_2::context::params::LlamaContextParams;
    use llama_cpp_2::llama_backend::LlamaBackend;
    use llama_cpp_2::llama_batch::LlamaBatch;
    use llama_cpp_2::model::LlamaModel;
    use llama_cpp_2::model::params::LlamaModelParams;

    let Some(folder) = std::env::var_os("TILLERMAN_TEST_LOAD") else { return };
    let mut backend = LlamaBackend::init().unwrap();
    backend.void_logs();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        println!("loading {path:?}");
        let Ok(model) = LlamaModel::load_from_file(&backend, &path, &LlamaModelParams::default()) else {
            continue;
        };
        let params = LlamaContextParams::default()
            .with_n_ctx(std::num::NonZeroU32::new(64))
            .with_n_threads(1)
            .with_n_threads_batch(1);
        let Ok(mut context) = model.new_context(&backend, params) else { continue };
        let mut batch = LlamaBatch::new(8, 1);
        batch.add(llama_cpp_2::token::LlamaToken(5), 0, &[0], false).unwrap();
        batch.add(llama_cpp_2::token::LlamaToken(6), 1, &[0], true).unwrap();
        if context.decode(&mut batch).is_ok() {
            println!("ran {path:?}");
        }
    }
}

/// By hand, for the time it takes: `cargo test --release --test gguf half_a_billion -- --ignored --nocapture`.
#[test]
#[ignore = "writes half a gigabyte"]
fn half_a_billion_parameters_are_written_in_pieces() {
    let shape = tillerman::gguf::toy::shape_named("0.5b").unwrap();
    let started = std::time::Instant::now();
    let (_folder, path) =
        written(&ToyModel { shape, kind: TensorType::Q8_0, context: 32_768, ..ToyModel::default() });
    let taken = started.elapsed();
    let header = check(&path).unwrap();
    println!("{} bytes in {taken:?}, checked in {:?}", header.file_bytes, started.elapsed() - taken);
    assert_eq!((header.parameters, header.vocabulary()), (494_032_768, 151_936));
}
