//! Which device trains: what the settings ask for, what is there, and whether it can be trusted.
//!
//! A device is held against the CPU before its first step: the same few tokens through both. A driver that
//! computes something else is found by its numbers, and the step goes to the CPU or is refused, by the setting.

use std::path::Path;

use super::pass::RUN_LEAST;
use super::{DevicePolicy, Options};
use serde::{Deserialize, Serialize};

use crate::engine::ffi::{Device, with_layers};
use crate::error::Error;
use crate::train::error::TrainError;
use crate::train::kernels::{self, Precision};
use crate::train::lora::{Gradients, Lora};
use crate::train::model::Policy;
use crate::train::passes::Passes;
use crate::train::tree::{Row, Tree};

/// The setting that asks for this program's own kernels, for ggml's on the CPU, and for the best there is.
pub const CPU: &str = "cpu";
pub const GGML_CPU: &str = "ggml-cpu";
pub const AUTO: &str = "auto";

/// How far a device may be from the CPU: log-probabilities in nats, gradients relative to their length. Both round
/// differently (bf16 here, TF32 there); a wrong operation is off by its own size.
const NATS: f32 = 0.25;
const GRADIENT: f64 = 0.1;
/// Tokens of the comparison: more than a run, as a large tree is cut into several.
const TOKENS: usize = RUN_LEAST + 32;

/// What will compute, and what was passed over for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    pub device: String,
    /// Why another was not taken.
    pub note: Option<String>,
}

impl Choice {
    /// For the end of a sentence about a step: nothing where the CPU was asked for and did it.
    pub fn words(&self) -> String {
        match (self.device.as_str(), &self.note) {
            ("" | CPU, None) => String::new(),
            (device, None) => format!(", on {device}"),
            (_, Some(note)) => format!(", on the CPU: {note}"),
        }
    }
}

/// What a setting comes to where the engine found these devices, for a report.
pub fn report(setting: &str, devices: &[String]) -> String {
    let kernels = kernels::choose(Precision::default()).name();
    let gpu = devices.iter().find(|device| !device.starts_with("CPU"));
    match (setting, gpu) {
        (AUTO, Some(gpu)) => {
            format!("{gpu} if it computes what the CPU does and has room, else the CPU ({kernels})")
        }
        (CPU | AUTO, _) => format!("on the CPU ({kernels})"),
        (GGML_CPU, _) => "ggml's kernels on the CPU".to_string(),
        (name, _) => format!("{name}, if it computes what the CPU does"),
    }
}

/// The device for a setting among those found.
///
/// # Errors
/// [`TrainError::Device`] for a name that none has.
pub fn choose(setting: &str, devices: &[Device]) -> Result<Choice, TrainError> {
    let chosen = |device: &str| Ok(Choice { device: device.to_string(), note: None });
    match setting {
        CPU | GGML_CPU => chosen(setting),
        AUTO => {
            // As for serving: an integrated GPU, which has all of the host's memory, is no choice beside another.
            let gpus = with_layers(devices);
            chosen(gpus.iter().max_by_key(|device| device.free).map_or(CPU, |device| &device.name))
        }
        name => match devices.iter().find(|device| device.gpu && device.name.eq_ignore_ascii_case(name)) {
            Some(device) => chosen(&device.name),
            None => {
                let gpus: Vec<&str> = devices.iter().filter(|d| d.gpu).map(|d| d.name.as_str()).collect();
                let found = if gpus.is_empty() { "no GPU".to_string() } else { gpus.join(", ") };
                let why = format!(
                    "llama.cpp finds {found} here; a build has GPUs by its features (cuda, vulkan, metal, rocm)"
                );
                Err(TrainError::Device { device: name.to_string(), why })
            }
        },
    }
}

/// The model on the device of a choice, or what `cpu` is where that is the choice. `rows` are some of what will be
/// trained on, `sizes` the nodes and targets of the step.
///
/// # Errors
/// [`TrainError::Device`] where the device does not start, has no room or computes something else. With `auto`
/// the CPU takes over instead and the choice says why.
pub fn open(
    (path, threads): (&Path, usize),
    cpu: Policy,
    (setting, choice): (&str, Choice),
    (lora, rows): (&Lora, &[Row]),
    (nodes, targets): (usize, usize),
) -> Result<(Box<dyn Passes>, Choice), Error> {
    if choice.device == CPU {
        cpu.fits(nodes, targets, lora.rank)?;
        return Ok((Box::new(cpu), choice));
    }
    let options = Options { run: Some(RUN_LEAST), ..Options::on(&choice.device, threads) };
    let opened = DevicePolicy::open(path, options).map_err(Error::from);
    let checked = opened.and_then(|mut policy| {
        // Asked once, while the weights are not there yet: they are part of what is needed.
        policy.fits(nodes, targets, lora.rank)?;
        agree(&cpu, &policy, rows, lora)
            .map_err(|why| TrainError::Device { device: choice.device.clone(), why })?;
        policy.options.run = None;
        Ok(policy)
    });
    match checked {
        Ok(policy) => Ok((Box::new(policy), choice)),
        Err(error) if setting == AUTO => {
            cpu.fits(nodes, targets, lora.rank)?;
            let choice = Choice { device: CPU.to_string(), note: Some(error.to_string()) };
            Ok((Box::new(cpu), choice))
        }
        Err(error) => Err(error),
    }
}

/// The same few tokens through both, forward and back.
fn agree(cpu: &dyn Passes, device: &dyn Passes, rows: &[Row], lora: &Lora) -> Result<(), String> {
    let short = rows.iter().find(|row| !row.prompt.is_empty() && !row.sampled.is_empty()).map(|row| {
        let sampled = &row.sampled[..row.sampled.len().min(TOKENS / 2)];
        let prompt = &row.prompt[row.prompt.len().saturating_sub(TOKENS - sampled.len())..];
        // Backwards, for the model is sure of what it wrote: gradients of that are next to nothing, and rounding is
        // then a large part of them (20 % was seen with both sides right).
        Row { prompt: prompt.to_vec(), sampled: sampled.iter().rev().copied().collect() }
    });
    let Some(row) = short else { return Err("there is no planner turn to compare it by".to_string()) };
    let tree = Tree::build(&[row]);
    // An adapter's B is zero at first, and A then has no gradient: give it one.
    let mut lora = lora.clone();
    for pair in &mut lora.pairs {
        for (at, b) in pair.b.iter_mut().enumerate() {
            *b += 1e-2 * ((at * 7 % 11) as f32 - 5.0) / 5.0;
        }
    }
    let both = [cpu, device].map(|policy| {
        let signs = &mut |l: &[f32]| (0..l.len()).map(|i| if i % 2 == 0 { 1.0 } else { -0.5 }).collect();
        policy.gradients(&tree, &lora, 1.0, signs).map_err(|error| error.to_string())
    });
    let [cpu, device] = both;
    let ((expected, exact), (found, gradients)) = (cpu?, device?);
    let apart = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let flat = |gradients: &Gradients| -> Vec<f64> {
        gradients.pairs.iter().flat_map(|(a, b)| a.iter().chain(b)).map(|g| f64::from(*g)).collect()
    };
    let (exact, gradients) = (flat(&exact), flat(&gradients));
    let length = exact.iter().map(|g| g * g).sum::<f64>().sqrt();
    let error =
        exact.iter().zip(&gradients).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt() / length.max(1e-30);
    if apart <= NATS && error <= GRADIENT {
        return Ok(());
    }
    Err(format!(
        "it does not compute what the CPU does: log-probabilities are up to {apart:.2} nats apart (bound {NATS}), gradients {:.0} % (bound {:.0} %)",
        100.0 * error,
        100.0 * GRADIENT
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::TensorType;
    use crate::gguf::toy::{Architecture, ToyModel};
    use crate::train::model::tests::{lora, toy};

    fn found_choice() -> Choice {
        Choice { device: GGML_CPU.to_string(), note: None }
    }

    fn found(name: &str, gpu: bool, free: u64) -> Device {
        let (name, description) = (name.to_string(), String::new());
        Device { name, description, gpu, integrated: false, id: None, free, total: free }
    }

    #[test]
    fn settings_come_to_devices() {
        let devices = [found("CUDA0", true, 10), found("CUDA1", true, 20), found("CPU", false, 99)];
        let name = |setting: &str, devices: &[Device]| choose(setting, devices).map(|choice| choice.device);
        assert_eq!(name("auto", &devices), Ok("CUDA1".to_string()));
        assert_eq!(name("auto", &devices[2..]), Ok(CPU.to_string()));
        let shared = Device { integrated: true, ..found("Vulkan0", true, 99) };
        assert_eq!(name("auto", &[shared.clone(), devices[0].clone()]), Ok("CUDA0".to_string()));
        assert_eq!(name("auto", &[shared]), Ok("Vulkan0".to_string()));
        assert_eq!(name("cuda0", &devices), Ok("CUDA0".to_string()));
        assert_eq!(name("cpu", &devices), Ok(CPU.to_string()));
        let missing = name("Vulkan0", &devices).unwrap_err().to_string();
        assert!(missing.contains("Vulkan0") && missing.contains("CUDA0, CUDA1"), "{missing}");
        let none = name("CUDA0", &devices[2..]).unwrap_err().to_string();
        assert!(none.contains("no GPU") && none.contains("features"), "{none}");
        let names = ["CUDA1 (a card)".to_string()];
        assert!(report("auto", &names).starts_with("CUDA1 (a card) if"));
        assert!(report("auto", &["CPU".to_string()]).starts_with("on the CPU ("));
    }

    #[test]
    fn a_device_that_computes_something_else_is_not_trusted() {
        let (dir, path) = toy(Architecture::Qwen2, TensorType::Q8_0, true);
        let cpu = || Policy::open(&path, 1).unwrap();
        let lora = lora(&cpu(), 3);
        let rows = [Row { prompt: (1..40).collect(), sampled: (40..60).collect() }];
        // ggml's CPU stands for the device; the file it gets is the same, or another.
        let other = dir.path().join("other.gguf");
        ToyModel {
            architecture: Architecture::Qwen2,
            kind: TensorType::Q8_0,
            tied: true,
            seed: 8,
            ..ToyModel::default()
        }
        .write(&other)
        .unwrap();
        let open = |path: &Path, setting: &str, nodes: usize| {
            super::open((path, 1), cpu(), (setting, found_choice()), (&lora, &rows), (nodes, 10))
        };
        let (policy, choice) = open(&path, GGML_CPU, 60).unwrap();
        assert!(policy.computes_with().contains("ggml") && choice.words() == ", on ggml-cpu", "{choice:?}");
        let refused = open(&other, GGML_CPU, 60).err().unwrap().to_string();
        assert!(refused.contains("nats apart") && refused.contains("train.device"), "{refused}");
        let (policy, choice) = open(&other, AUTO, 60).unwrap();
        assert!(!policy.computes_with().contains("ggml"));
        assert!(choice.device == CPU && choice.words().contains("nats apart"), "{choice:?}");
        // The masks of so many nodes have no room there; the CPU needs none.
        let (_, choice) = open(&path, AUTO, 300_000).unwrap();
        assert!(choice.device == CPU && choice.words().contains("GB"), "{choice:?}");
        let neither = open(&path, AUTO, 1 << 40).err().unwrap().to_string();
        assert!(neither.contains("GB of memory"), "{neither}");
        let unread = super::open((&path, 1), cpu(), (GGML_CPU, found_choice()), (&lora, &[]), (60, 10));
        assert!(unread.err().unwrap().to_string().contains("compare it by"));
    }
}
