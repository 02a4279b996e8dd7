//! From a file to two ready contexts: what fits, how many threads and layers, adapters by content hash.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::chat::ChatTemplate;
use crate::engine::ffi::{self, Adapter, Context, ContextOptions, Device, Model, Threads, Watch, os};
use crate::engine::wire::{Load, Loaded};
use crate::error::EngineError;
use crate::gguf::{self, Header};

use super::lane::{BATCH, Lane, Shape};
use super::outbox::Outbox;

/// Context of one sequence unless asked otherwise, if the model was trained for it.
const CONTEXT: usize = 8192;
/// A context smaller than this is not worth loading.
const CONTEXT_LEAST: usize = 512;
/// Rows of logits of one decode may take this much.
const LOGITS_BYTES: usize = 64 << 20;
/// Memory left to everything else.
const SPARE_BYTES: u64 = 256 << 20;
/// Most that idle prefixes of one context take beside the KV.
const STASH_BYTES: u64 = 512 << 20;

/// The two contexts over one model, and what they are.
pub struct Engine {
    pub planner: Lane,
    pub frozen: Lane,
    pub model: Arc<Model>,
    pub template: ChatTemplate,
    pub info: Loaded,
}

/// # Errors
/// [`EngineError::ModelRefused`], [`EngineError::OutOfMemory`], [`EngineError::Template`] or
/// [`EngineError::Adapter`].
pub fn load(load: &Load, watch: &Arc<Watch>, out: &Outbox) -> Result<Engine, EngineError> {
    let refused = |reason: String| EngineError::ModelRefused { path: load.model.clone(), reason };
    let (file, header) = gguf::check_and_keep(&load.model)?;
    let devices = ffi::devices();
    let plan = Plan::new(load, &header, &devices)?;
    let mut progress = || out.alive(Duration::from_secs(5));
    // The very file that was checked, whatever its path names by now.
    let same = os::path_of(&file).unwrap_or_else(|| load.model.clone());
    let model = Arc::new(Model::load(&same, plan.gpu_layers, &mut progress).map_err(refused)?);
    drop(file);
    if !model.decoder_only() {
        return Err(refused("it is no decoder-only language model".to_owned()));
    }
    let sequences = load.sequences.max(1);
    // llama.cpp knows at most 256 sequences, of which the lane wants one for itself. A running state costs memory per sequence: no spare ones.
    let slots = if model.recurrent() { sequences } else { (sequences * 2 + 4).min(255).max(sequences) };
    let known = if model.recurrent() { slots } else { slots + 1 };
    let threads = load.threads.unwrap_or_else(|| os::physical_cores().saturating_sub(1)).max(1);
    let pool = Threads::new(threads).map(Arc::new);
    let outputs = (LOGITS_BYTES / 4 / model.vocabulary()).clamp(16, BATCH).max(known);
    let flash = plan.gpu_layers != 0 && devices.iter().any(|device| device.gpu);
    let lane = || -> Result<Lane, EngineError> {
        let options =
            ContextOptions { cells: plan.cells, batch: BATCH, sequences: known, outputs, threads, flash };
        let context = Context::new(model.clone(), options, pool.clone(), watch.clone())
            .map_err(|reason| refused(format!("no context of {} tokens: {reason}", plan.cells)))?;
        let (limit, stash_bytes) = (plan.context, plan.stash_bytes);
        Ok(Lane::new(context, Shape { slots, sequences, limit, outputs, flash, stash_bytes }))
    };
    let (mut planner, frozen) = (lane()?, lane()?);
    planner.swap(load.adapter.clone())?;
    let mut info = describe(&model, &devices);
    info.context = plan.context;
    info.sequences = sequences;
    info.threads = threads;
    info.adapter = planner.adapter.clone();
    let text = load.chat_template.as_deref().unwrap_or(&info.template);
    let template = ChatTemplate::new(text, &info.bos, &info.eos)?;
    info.template_hash = template.hash().to_owned();
    Ok(Engine { planner, frozen, model, template, info })
}

/// How large the contexts are and where the layers go. Counts are tokens.
#[derive(Debug, PartialEq)]
struct Plan {
    /// Of one sequence.
    context: usize,
    /// KV cells of each of the two contexts.
    cells: usize,
    /// Layers on devices; negative: all.
    gpu_layers: i32,
    /// What idle prefixes of one context may take beside its KV.
    stash_bytes: usize,
}

/// Free memory, bytes.
struct Free {
    host: u64,
    /// Of the devices that llama.cpp puts layers on.
    device: u64,
    both: u64,
}

impl Free {
    fn new(host: u64, devices: &[Device]) -> Free {
        let used = ffi::with_layers(devices);
        let device = used.iter().map(|device| device.free).sum();
        // An integrated GPU's memory is the host's: counted once.
        let shared = used.iter().any(|device| device.integrated);
        let both = if shared { host.max(device) } else { host.saturating_add(device) };
        Free { host, device, both }
    }
}

impl Plan {
    fn new(load: &Load, header: &Header, devices: &[Device]) -> Result<Plan, EngineError> {
        let host = os::memory_available().unwrap_or(u64::MAX);
        Plan::with_memory(load, header, &Free::new(host, devices))
    }

    fn with_memory(load: &Load, header: &Header, memory: &Free) -> Result<Plan, EngineError> {
        let Free { host, device, both } = *memory;
        let sequences = load.sequences.max(1);
        let train = header.of_arch("context_length").unwrap_or(0).max(1) as usize;
        let wanted = load.context.unwrap_or_else(|| train.min(CONTEXT)).max(1);
        let least = if load.context.is_some() { wanted } else { wanted.min(CONTEXT_LEAST) };
        // Two contexts: a cell of each.
        let fixed = gguf::memory_needed(header, 0, 0).saturating_add(SPARE_BYTES);
        let per_cell =
            gguf::memory_needed(header, 1, 2).saturating_sub(gguf::memory_needed(header, 0, 0)).max(1);
        let needed = |cells: usize| fixed.saturating_add(per_cell.saturating_mul(cells as u64));
        let all_on_device = load.gpu_layers.is_none_or(|layers| layers < 0) && needed(least) <= device;
        let free = match load.gpu_layers {
            Some(0) => host,
            _ if all_on_device => device,
            _ => both,
        };
        if needed(least) > free {
            return Err(EngineError::OutOfMemory {
                needed_mb: needed(least).div_ceil(1 << 20),
                free_mb: free >> 20,
            });
        }
        let affordable = usize::try_from((free - fixed) / per_cell).unwrap_or(usize::MAX);
        let context = wanted.min(affordable);
        let cells = context.saturating_mul(sequences).min(affordable);
        let gpu_layers = match load.gpu_layers {
            Some(layers) => layers,
            None if device == 0 => 0,
            None if all_on_device => -1,
            // As many blocks as their share of weights and KV fits, one less for llama.cpp's buffers there.
            None => {
                let blocks = header.blocks().max(1);
                let fitting = device.saturating_sub(SPARE_BYTES) / (needed(cells) / blocks).max(1);
                fitting.saturating_sub(1).min(blocks) as i32
            }
        };
        // As much as the KV itself; not at all where memory is short, since what does not fit is computed again.
        let kv_bytes = (per_cell / 2).saturating_mul(cells as u64);
        let stash_bytes = kv_bytes.min(host.saturating_sub(needed(cells)) / 8).min(STASH_BYTES);
        let stash_bytes = if stash_bytes < kv_bytes / 2 { 0 } else { stash_bytes };
        let stash_bytes = usize::try_from(stash_bytes).unwrap_or(0);
        Ok(Plan { context, cells, gpu_layers, stash_bytes })
    }
}

fn describe(model: &Model, devices: &[Device]) -> Loaded {
    let layers_offloaded = ffi::logged_offload().unwrap_or(0);
    let mut names: Vec<String> = Vec::new();
    if layers_offloaded > 0 {
        let used = ffi::with_layers(devices);
        names.extend(used.iter().map(|d| format!("{} ({})", d.name, d.description)));
    }
    if names.is_empty() {
        names.push("CPU".to_owned());
    }
    Loaded {
        name: model.metadata("general.name").unwrap_or_default(),
        architecture: model.metadata("general.architecture").unwrap_or_default(),
        parameters: model.parameters(),
        file_type: model.file_type(),
        layers: model.layers(),
        layers_offloaded,
        devices: names,
        cpu_features: ffi::cpu_features().trim().to_owned(),
        vocabulary: model.vocabulary(),
        template: model.chat_template().unwrap_or_default(),
        bos: model.bos_text(),
        eos: model.eos_text(),
        ..Loaded::default()
    }
}

/// Load the adapter at `path`; answers it with its blake3, taken from the very file that is loaded.
///
/// # Errors
/// [`EngineError::Adapter`]
pub fn adapter(model: &Arc<Model>, path: &Path) -> Result<(Adapter, String, PathBuf), EngineError> {
    let refused = |reason: String| EngineError::Adapter { path: path.to_owned(), reason };
    let mut file = crate::config::regular::open(path).map_err(|error| refused(error.to_string()))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(|error| refused(error.to_string()))? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        };
    }
    file.rewind().map_err(|error| refused(error.to_string()))?;
    let adapter = Adapter::load(model, file).map_err(refused)?;
    Ok((adapter, hasher.finalize().to_hex().to_string(), path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(name: &str, id: &str, integrated: bool, free: u64) -> Device {
        let id = Some(id.to_owned());
        Device {
            name: name.to_owned(),
            description: String::new(),
            gpu: true,
            integrated,
            id,
            free,
            total: free,
        }
    }

    #[test]
    fn memory_is_counted_as_llama_cpp_uses_it() {
        let cpu = Device { gpu: false, id: None, ..gpu("CPU", "", false, 64) };
        let free = |devices: &[Device]| {
            let Free { device, both, .. } = Free::new(60, devices);
            (device, both)
        };
        assert_eq!(free(std::slice::from_ref(&cpu)), (0, 60));
        let (cuda, other) = (gpu("CUDA0", "0000:01", false, 24), gpu("CUDA1", "0000:02", false, 8));
        assert_eq!(free(&[cuda.clone(), other, cpu.clone()]), (32, 92));
        // One card, seen by two backends.
        let vulkan = gpu("Vulkan0", "0000:01", false, 23);
        assert_eq!(free(&[cuda.clone(), vulkan]), (24, 84));
        // An integrated GPU's memory is the host's, and beside another GPU it gets no layers.
        let shared = gpu("Vulkan1", "0000:00", true, 58);
        assert_eq!(free(&[shared.clone(), cpu]), (58, 60));
        assert_eq!(free(&[cuda, shared]), (24, 84));
    }
}
