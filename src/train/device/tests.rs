//! The device's passes on ggml's own CPU against the f64 reference and the CPU's kernels: every architecture,
//! packed types, runs and parts that cut through the tree and the vocabulary.

use std::sync::OnceLock;

use super::*;
use crate::gguf::TensorType;
use crate::gguf::toy::Architecture;
use crate::train::kernels::Precision;
use crate::train::model::tests::{branching, coefficients, distance, flat, lora, toy};
use crate::train::model::{self, Policy};

const KINDS: [(Architecture, TensorType, bool); 5] = [
    (Architecture::Llama, TensorType::F32, false),
    (Architecture::Qwen2, TensorType::F32, true),
    (Architecture::Qwen3, TensorType::F32, true),
    (Architecture::Llama, TensorType::Q8_0, true),
    (Architecture::Qwen2, TensorType::Q4_0, false),
];

fn exact(path: &Path) -> Policy {
    let options = model::Options { threads: 1, precision: Precision::F32, stash: 0 };
    Policy::open_with(path, options).unwrap()
}

/// ggml's CPU, or a device of a library: `scripts/device-tests.sh` asks for one that a machine without a GPU has.
fn device_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        if let Some(library) = std::env::var_os("TILLERMAN_TEST_LIBRARY") {
            ffi::trial::load(Path::new(&library));
        }
        std::env::var("TILLERMAN_TEST_DEVICE").unwrap_or_else(|_| GGML_CPU.to_string())
    })
}

fn device(path: &Path, forward: Forward, run: usize, part: usize) -> DevicePolicy {
    let options = Options { forward, run: Some(run), part, ..Options::on(device_name(), 1) };
    DevicePolicy::open(path, options).unwrap()
}

/// Largest difference.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Of exact products; of such as round to half precision.
fn bound() -> f32 {
    if device_name() == GGML_CPU { 1e-4 } else { 4e-2 }
}

/// Coefficients as a batch of many tokens has them: in half precision most of their gradients would be 0.
fn small(count: usize) -> Vec<f32> {
    coefficients(count).into_iter().map(|c| 1e-7 * c).collect()
}

#[test]
fn runs_begin_where_any_device_may_read() {
    let (_dir, path) = toy(Architecture::Llama, TensorType::F32, false);
    let policy = device(&path, Forward::Unpacked, 50, 100);
    for nodes in [1, 321, 5_000, 70_000, 200_000, 10_000_000] {
        let run = pass::run_of(&policy.spec, nodes);
        assert!(run.is_multiple_of(pass::RUN_LEAST) && (64..=512).contains(&run), "{nodes}: {run}");
    }
    let pass = policy.pass(&branching(), None, 1.0, false).unwrap();
    assert_eq!(pass.runs().map(|run| run.0).collect::<Vec<_>>(), [0, 64, 128, 192, 256, 320]);
}

#[test]
fn gradients_are_brought_near_one_without_a_bit_changed() {
    for (largest, by) in
        [(1.0, 1.0), (3e-7, 4_194_304.0), (700.0, 1.0 / 512.0), (0.0, 1.0), (1e-44, 2_f32.powi(100))]
    {
        assert_eq!(near_one(&[0.0, -largest, largest / 2.0]), by);
    }
    let odd = 1.2345e-7_f32;
    assert_eq!(odd * near_one(&[odd]) / near_one(&[odd]), odd);
}

#[test]
fn passes_are_those_of_the_cpu() {
    let bound = bound();
    for (architecture, kind, tied) in KINDS {
        let (_dir, path) = toy(architecture, kind, tied);
        let cpu = exact(&path);
        let (tree, lora) = (branching(), lora(&cpu, 3));
        let signs = &mut |l: &[f32]| small(l.len());
        let (expected, slopes) = cpu.gradients(&tree, &lora, 0.7, signs).unwrap();
        let scores = cpu.scores(&tree, None, 0.7).unwrap();
        let divergences = cpu.divergences(&tree, (None, Some(&lora)), 0.7).unwrap();
        // Whole, and cut at odd places.
        for (run, part) in [(512, 8192), (64, 100)] {
            let device = device(&path, Forward::Unpacked, run, part);
            let (found, gradients) = device.gradients(&tree, &lora, 0.7, signs).unwrap();
            let error = distance(&flat(&gradients), &flat(&slopes));
            let case = format!(
                "{architecture:?} {} {run} {part}: {} {error:.1e}",
                kind.name,
                apart(&found, &expected)
            );
            println!("{case}");
            assert!(apart(&found, &expected) <= bound && error <= f64::from(bound), "{case}");
            let own = device.scores(&tree, None, 0.7).unwrap();
            assert!(apart(&own.logprobs, &scores.logprobs) <= bound, "{case}");
            assert!(apart(&own.entropies, &scores.entropies) <= bound, "{case}");
            let own = device.divergences(&tree, (None, Some(&lora)), 0.7).unwrap();
            assert!(apart(&own, &divergences) <= bound, "{case}");
        }
    }
}

/// Rounding activations to 8 bits moves a toy's log-probabilities by 0.003; of F32 nothing differs.
#[test]
fn a_matched_forward_computes_with_the_packed_weights() {
    for (architecture, kind, tied) in KINDS {
        let (_dir, path) = toy(architecture, kind, tied);
        let (cpu, device) = (exact(&path), device(&path, Forward::Matched, 512, 100));
        let tree = branching();
        let expected = cpu.logprobs(&tree, None, 1.0).unwrap();
        let found = device.logprobs(&tree, None, 1.0).unwrap();
        let bound = if kind == TensorType::F32 { bound() } else { 2e-2 };
        let apart = apart(&found, &expected);
        println!("{architecture:?} {}: {apart}", kind.name);
        assert!(apart <= bound && (kind == TensorType::F32 || apart > 0.0), "{architecture:?}: {apart}");
    }
}

#[test]
fn a_model_that_does_not_stay_on_the_device_computes_the_same() {
    let (_dir, path) = toy(Architecture::Llama, TensorType::F32, false);
    let stays = device(&path, Forward::Unpacked, 512, 100);
    let passes_by = DevicePolicy { stays: false, ..device(&path, Forward::Unpacked, 512, 100) };
    let (tree, lora) = (branching(), lora(&exact(&path), 3));
    let signs = &mut |l: &[f32]| coefficients(l.len());
    let one = stays.gradients(&tree, &lora, 0.7, signs).unwrap();
    let other = passes_by.gradients(&tree, &lora, 0.7, signs).unwrap();
    assert_eq!(one.0, other.0);
    assert_eq!(flat(&one.1), flat(&other.1));
}

#[test]
fn faults_are_named() {
    let (_dir, path) = toy(Architecture::Llama, TensorType::F32, false);
    let missing = DevicePolicy::open(&path, Options::on("CUDA7", 1)).err().unwrap().to_string();
    assert!(
        missing.contains("CUDA7") && missing.contains("CPU") && missing.contains("train.device"),
        "{missing}"
    );
    let policy = device(&path, Forward::Unpacked, 512, 100);
    assert!(policy.logprobs(&branching(), None, 0.0).is_err());
    assert!(policy.logprobs(&Tree::default(), None, 1.0).is_err());
    let mut wrong = lora(&exact(&path), 3);
    wrong.pairs[0].tensor = "blk.0.attn_norm.weight".to_string();
    assert!(policy.logprobs(&branching(), Some(&wrong), 1.0).unwrap_err().to_string().contains("attn_norm"));
    assert!(policy.fits(1 << 40, 10, 8).unwrap_err().to_string().contains("GB"));
}
