//! From a file to two ready contexts: what fits, how many threads and layers, adapters by content hash.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::engine::ffi::{self, Adapter, Context, ContextOptions, Model, Threads, os};
use crate::engine::wire::{Load, Loaded};
use crate::error::EngineError;

use super::lane::{BATCH, Lane};
use super::outbox::Outbox;

/// Context of one sequence unless asked otherwise, if the model was trained for it.
const CONTEXT: usize = 8192;
/// A context smaller than this is not worth loading.
const CONTEXT_LEAST: usize = 512;
/// Rows of logits of one decode may take this much.
const LOGITS_BYTES: usize = 64 << 20;
/// Memory left to everything else.
const SPARE_BYTES: u64 = 256 << 20;

/// The two contexts over one model, and what they are.
pub struct Engine {
    pub planner: Lane,
    pub frozen: Lane,
    pub model: Arc<Model>,
    pub info: Loaded,
}

/// # Errors
/// [`EngineError::ModelRefused`], [`EngineError::OutOfMemory`] or [`EngineError::Adapter`].
pub fn load(load: &Load, abort: &Arc<AtomicBool>, out: &Outbox) -> Result<Engine, EngineError> {
    let refused = |reason: String| EngineError::ModelRefused { path: load.model.clone(), reason };
    let devices = ffi::devices();
    let gpu = devices.iter().any(|device| device.gpu);
    let file_bytes = std::fs::metadata(&load.model).map_err(|e| refused(e.to_string()))?.len();
    let free = os::memory_available().unwrap_or(u64::MAX);
    if !gpu && file_bytes.saturating_add(SPARE_BYTES) > free {
        return Err(out_of_memory(file_bytes + SPARE_BYTES, free));
    }
    let gpu_layers = load.gpu_layers.unwrap_or(if gpu { -1 } else { 0 });
    let mut progress = || out.alive(Duration::from_secs(5));
    let model = Arc::new(Model::load(&load.model, gpu_layers, &mut progress).map_err(refused)?);
    if !model.decoder_only() {
        return Err(refused("it is no decoder-only language model".to_owned()));
    }
    let plan = Plan::new(load, &model, free.saturating_sub(file_bytes))?;
    let threads = load.threads.unwrap_or_else(|| os::physical_cores().saturating_sub(1)).max(1);
    let pool = Threads::new(threads).map(Arc::new);
    let outputs = (LOGITS_BYTES / 4 / model.vocabulary()).clamp(16, BATCH).max(plan.slots);
    let lane = || -> Result<Lane, EngineError> {
        let options =
            ContextOptions { cells: plan.cells, batch: BATCH, sequences: plan.slots, outputs, threads };
        let context = Context::new(model.clone(), options, pool.clone(), abort.clone())
            .map_err(|reason| refused(format!("no context of {} tokens: {reason}", plan.cells)))?;
        Ok(Lane::new(context, plan.slots, load.sequences.max(1), plan.context, outputs))
    };
    let (mut planner, frozen) = (lane()?, lane()?);
    planner.swap(load.adapter.clone())?;
    let mut info = describe(&model, &devices);
    info.context = plan.context;
    info.sequences = load.sequences.max(1);
    info.threads = threads;
    info.adapter = planner.adapter.clone();
    Ok(Engine { planner, frozen, model, info })
}

/// How large the contexts are. Counts are tokens.
struct Plan {
    /// Of one sequence.
    context: usize,
    /// KV cells of each of the two contexts.
    cells: usize,
    /// Sequence ids of each: those that run and those that only keep a prefix.
    slots: usize,
}

impl Plan {
    fn new(load: &Load, model: &Model, free: u64) -> Result<Plan, EngineError> {
        let sequences = load.sequences.max(1);
        let train = model.context_train().max(1);
        let wanted = load.context.unwrap_or_else(|| train.min(CONTEXT)).max(1);
        // Two contexts; the compute buffers are small beside them and in the spare.
        let per_cell = 2 * kv_bytes_per_token(model).max(1);
        let affordable = (free.saturating_sub(SPARE_BYTES) / per_cell) as usize;
        let least = if load.context.is_some() { wanted } else { wanted.min(CONTEXT_LEAST) };
        if affordable < least {
            return Err(out_of_memory(per_cell * least as u64 + SPARE_BYTES, free));
        }
        let context = wanted.min(affordable);
        let cells = (context * sequences).min(affordable);
        // llama.cpp knows at most 256 sequences. A running state costs memory per sequence: no spare ones.
        let slots = if model.recurrent() { sequences } else { (sequences * 2 + 4).min(256) };
        Ok(Plan { context, cells, slots: slots.max(sequences) })
    }
}

/// Keys and values of one token in all layers, as f16.
fn kv_bytes_per_token(model: &Model) -> u64 {
    let architecture = model.metadata("general.architecture").unwrap_or_default();
    let number =
        |key: &str| -> Option<u64> { model.metadata(&format!("{architecture}.{key}"))?.parse().ok() };
    let heads = number("attention.head_count").unwrap_or(1).max(1);
    let head = number("embedding_length").unwrap_or(0) / heads;
    let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
    let key = number("attention.key_length").unwrap_or(head);
    let value = number("attention.value_length").unwrap_or(head);
    model.layers() as u64 * kv_heads * (key + value) * 2
}

fn describe(model: &Model, devices: &[ffi::Device]) -> Loaded {
    let layers_offloaded = ffi::logged_offload().unwrap_or(0);
    let mut names: Vec<String> = Vec::new();
    if layers_offloaded > 0 {
        names.extend(devices.iter().filter(|d| d.gpu).map(|d| format!("{} ({})", d.name, d.description)));
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
    let mut file = File::open(path).map_err(|error| refused(error.to_string()))?;
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

fn out_of_memory(needed: u64, free: u64) -> EngineError {
    EngineError::OutOfMemory { needed_mb: needed.div_ceil(1 << 20), free_mb: free >> 20 }
}
