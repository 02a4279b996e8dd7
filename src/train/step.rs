//! One step of Flow-GRPO: groups in, a candidate adapter out, written into the folder it was given.
//!
//! Runs inside the training worker and touches nothing but that folder, so that a step that dies at any
//! moment has changed nothing. It draws no rollout, judges no candidate and activates none.

use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::engine::ffi;
use crate::error::Error;
use crate::train::adamw::AdamW;
use crate::train::adapter_file::{self, About};
use crate::train::batch::{self, Prepared};
use crate::train::device::{self, Choice};
use crate::train::kl_budget::Drift;
use crate::train::lora::{self, Lora};
use crate::train::model::Policy;
use crate::train::objective::{self, Stats, k3};
use crate::train::passes::Passes;
use crate::train::presets::Settings;
use crate::train::rows::{TrainGroup, TrainTurn};
use crate::train::step_size::{self, StepSize};
use crate::train::tree::{Row, Tree};
use crate::train::{adamw, memory};

/// File names in an adapter's folder.
pub use crate::store::{OPTIMIZER, WEIGHTS};

/// Everything a step needs; nothing of it is looked up elsewhere, so equal jobs give equal bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub model: PathBuf,
    /// Folder of the adapter that drew the groups; None: the bare model.
    pub parent: Option<PathBuf>,
    /// Existing folder that gets `adapter.gguf` and `optimizer`.
    pub out: PathBuf,
    pub groups: Vec<TrainGroup>,
    pub settings: Settings,
    /// Of the first adapter's A.
    pub seed: u64,
    pub threads: usize,
    /// Planner turns the step does not train on: how far a delta moves the policy is measured on them.
    pub probes: Vec<TrainTurn>,
    /// Planner turns the bare model sampled: the fuel bar's.
    pub frozen: Vec<TrainTurn>,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub stats: Stats,
    pub size: StepSize,
    /// Rate the optimizer used, before the scale that was kept.
    pub learning_rate: f32,
    pub gradient_norm: f32,
    /// Length of the change of the adapter's numbers, times the scale kept.
    pub update_norm: f32,
    /// Optimizer steps since the bare model, this one included.
    pub steps: u64,
    /// None where there are no frozen prompts.
    pub drift: Option<Drift>,
    /// Distinct tokens computed, tokens of all rows, sampled tokens.
    pub nodes: usize,
    pub row_tokens: usize,
    pub targets: usize,
    pub groups: usize,
    pub rollouts: usize,
    pub seconds: f64,
    /// Peak resident memory of the worker, bytes; 0 where it cannot be read.
    pub peak_bytes: u64,
    /// What computed it, and why another device asked for did not.
    #[serde(default)]
    pub device: Choice,
    /// An adapter was written; false: every scale of the step went too far and it was discarded.
    pub kept: bool,
}

/// What a step says while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// What is being done, in a few words.
    Phase(&'a str),
    /// A device begins to compute.
    On(&'a str),
}

/// Take the step. `tell` hears how far it is.
///
/// # Errors
/// Anything that keeps the step from being sound: no contrast, sampler and trainer that disagree, numbers
/// that are not finite, memory, a model that cannot be trained, a folder that cannot be written.
pub fn take(job: &Job, tell: &mut dyn FnMut(Told)) -> Result<Done, Error> {
    let started = Instant::now();
    tell(Told::Phase("reading the model"));
    let cpu = Policy::open(&job.model, job.threads.max(1))?;
    let fingerprint = adapter_file::fingerprint(&job.model, cpu.header())?;
    let parent = parent(job, &cpu, &fingerprint)?;
    let mut optimizer = optimizer(job, &parent)?;
    let learning_rate = optimizer.settings.learning_rate;

    let batch = batch::prepare(&job.groups, job.settings.mode)?;
    let tree = &batch.tree;
    let (policy, device) = on_device(job, cpu, &parent, tree, tell)?;
    let policy = policy.as_ref();
    let (stats, gradients) = gradients(job, policy, &parent, &batch, tell)?;

    tell(Told::Phase("stepping"));
    let mut whole = parent.clone();
    let taken = optimizer.ascend(&mut whole, &gradients).map_err(|e| Error::Train(e.to_string()))?;
    tell(Told::Phase("measuring the step"));
    let size = measure(job, policy, &parent, &whole)?;
    let candidate = size.kept.map(|scale| between(&parent, &whole, scale));
    let mut drift = None;
    if let Some(candidate) = &candidate {
        drift = drifted(job, policy, candidate)?;
        tell(Told::Phase("writing the adapter"));
        // The next step starts where this one's length was right.
        let scale = size.kept.unwrap_or(1.0);
        optimizer.settings.learning_rate =
            (learning_rate * scale).clamp(RATE_LEAST, job.settings.lr as f32 * RATE_GROWTH);
        write(job, policy, candidate, &optimizer, fingerprint)?;
    }
    Ok(Done {
        stats,
        learning_rate,
        gradient_norm: taken.gradient_norm,
        update_norm: taken.update_norm * size.kept.unwrap_or(0.0),
        steps: taken.steps,
        drift,
        nodes: tree.tokens.len(),
        row_tokens: batch.tokens_separate,
        targets: tree.targets.len(),
        groups: job.groups.len(),
        rollouts: job.groups.iter().map(|group| group.rollouts.len()).sum(),
        seconds: started.elapsed().as_secs_f64(),
        peak_bytes: memory::peak(),
        kept: candidate.is_some(),
        device,
        size,
    })
}

/// Bounds of the rate that follows the scales kept: at least this, at most so many times the preset's. Where
/// few groups have contrast nothing stops the scale from doubling step after step, and the next full batch
/// then takes a step far too long.
const RATE_LEAST: f32 = 1e-7;
const RATE_GROWTH: f32 = 4.0;

/// What computes this step: a device if the settings want one, it has room and computes what the CPU does.
fn on_device(
    job: &Job,
    cpu: Policy,
    parent: &Lora,
    tree: &Tree,
    tell: &mut dyn FnMut(Told),
) -> Result<(Box<dyn Passes>, Choice), Error> {
    let setting = job.settings.device.as_str();
    let devices = if setting == device::CPU {
        Vec::new()
    } else {
        ffi::capture_logs(true);
        ffi::start_backend();
        ffi::devices()
    };
    let choice = device::choose(setting, &devices)?;
    if choice.device != device::CPU {
        tell(Told::On(&choice.device));
    }
    let turns = job.groups.iter().flat_map(|group| &group.rollouts).flat_map(|rollout| &rollout.turns);
    let rows: Vec<Row> = turns.take(1).chain(&job.probes).map(row).collect();
    let sizes = (tree.tokens.len(), tree.targets.len());
    device::open((&job.model, job.threads.max(1)), cpu, (setting, choice), (parent, &rows), sizes)
}

fn parent(job: &Job, policy: &Policy, fingerprint: &str) -> Result<Lora, Error> {
    match &job.parent {
        Some(folder) => Ok(adapter_file::read(&folder.join(WEIGHTS), policy.header(), Some(fingerprint))?),
        None => {
            let sites = lora::sites(policy.header());
            Lora::init(&sites, job.settings.rank, job.settings.alpha, job.seed)
                .map_err(|e| Error::Train(e.to_string()))
        }
    }
}

/// The parent's optimizer, or a new one: an imported adapter brings none.
fn optimizer(job: &Job, parent: &Lora) -> Result<AdamW, Error> {
    let fault = |e: adamw::OptimizerError| Error::Train(e.to_string());
    let kept = job.parent.as_ref().map(|folder| folder.join(OPTIMIZER)).filter(|path| path.is_file());
    match kept {
        Some(path) => {
            let bytes = std::fs::read(&path)
                .map_err(|e| Error::Train(format!("{} cannot be read: {e}", path.display())))?;
            AdamW::load(&bytes, parent).map_err(fault)
        }
        None => {
            let settings =
                adamw::Settings { learning_rate: job.settings.lr as f32, ..adamw::Settings::default() };
            AdamW::new(settings, parent).map_err(fault)
        }
    }
}

fn gradients(
    job: &Job,
    policy: &dyn Passes,
    parent: &Lora,
    prepared: &Prepared,
    tell: &mut dyn FnMut(Told),
) -> Result<(Stats, lora::Gradients), Error> {
    let settings = job.settings.objective();
    let mut batch = prepared.objective.clone();
    let temperature = job.settings.temperature;
    if settings.kl_beta > 0.0 && job.parent.is_some() {
        tell(Told::Phase("reference pass"));
        batch.reference = Some(policy.logprobs(&prepared.tree, None, temperature)?);
    }
    tell(Told::Phase("forward and backward"));
    let mut evaluated = None;
    let (_, gradients) = policy.gradients(&prepared.tree, parent, temperature, &mut |logprobs| {
        // Without an adapter the reference is the policy itself.
        if settings.kl_beta > 0.0 && batch.reference.is_none() {
            batch.reference = Some(logprobs.to_vec());
        }
        match objective::evaluate(&settings, &batch, logprobs) {
            Ok(evaluation) => {
                let coefficients = evaluation.coefficients.clone();
                evaluated = Some(Ok(evaluation.stats));
                coefficients
            }
            Err(error) => {
                evaluated = Some(Err(error));
                vec![0.0; logprobs.len()]
            }
        }
    })?;
    match evaluated {
        Some(Ok(stats)) => Ok((stats, gradients)),
        Some(Err(error)) => Err(Error::Train(error.to_string())),
        None => Err(Error::Train("the objective was never asked; this is a bug, please report it".into())),
    }
}

fn row(turn: &TrainTurn) -> Row {
    Row { prompt: turn.prompt.clone(), sampled: turn.sampled.clone() }
}

/// The tree of some turns alone; its targets are theirs in order.
fn tree_of(turns: &[TrainTurn]) -> Tree {
    Tree::build(&turns.iter().map(row).collect::<Vec<_>>())
}

/// parent + scale * (whole - parent)
fn between(parent: &Lora, whole: &Lora, scale: f32) -> Lora {
    let mix = |from: &[f32], to: &[f32]| from.iter().zip(to).map(|(a, b)| a + scale * (b - a)).collect();
    let pairs = parent.pairs.iter().zip(&whole.pairs);
    let pairs =
        pairs.map(|(from, to)| lora::Pair { a: mix(&from.a, &to.a), b: mix(&from.b, &to.b), ..from.clone() });
    Lora { pairs: pairs.collect(), ..parent.clone() }
}

/// Mean k3 to the parent, nats per planner token, of the largest scale within bounds.
fn measure(job: &Job, policy: &dyn Passes, parent: &Lora, whole: &Lora) -> Result<StepSize, Error> {
    let tree = tree_of(&job.probes);
    if tree.targets.is_empty() {
        return Err(Error::Train("nothing to measure the step on: no planner turn beside the batch".into()));
    }
    let temperature = job.settings.temperature;
    let before = policy.logprobs(&tree, Some(parent), temperature)?;
    step_size::choose(
        |scale| {
            let after = policy.logprobs(&tree, Some(&between(parent, whole, scale)), temperature)?;
            let sum: f64 = before
                .iter()
                .zip(&after)
                .map(|(before, after)| k3(f64::from(*before) - f64::from(*after)))
                .sum();
            Ok(sum / before.len() as f64)
        },
        job.settings.step_kl,
    )
}

fn drifted(job: &Job, policy: &dyn Passes, candidate: &Lora) -> Result<Option<Drift>, Error> {
    if job.frozen.is_empty() {
        return Ok(None);
    }
    let tree = tree_of(&job.frozen);
    let apart = policy.divergences(&tree, (None, Some(candidate)), job.settings.temperature)?;
    let mut rest = apart.as_slice();
    let mut prompts = Vec::with_capacity(job.frozen.len());
    for turn in &job.frozen {
        let (own, others) = rest.split_at(turn.sampled.len());
        prompts.push(own.to_vec());
        rest = others;
    }
    Drift::measure(&prompts, job.settings.kl_budget).map(Some).map_err(|e| Error::Train(e.to_string()))
}

fn write(
    job: &Job,
    policy: &dyn Passes,
    candidate: &Lora,
    optimizer: &AdamW,
    fingerprint: String,
) -> Result<(), Error> {
    let about = About {
        architecture: policy.header().architecture.clone(),
        name: format!("{} planner", policy.header().name()),
        base: fingerprint,
    };
    let state = optimizer.save().map_err(|e| Error::Train(e.to_string()))?;
    adapter_file::place(&job.out.join(OPTIMIZER), &state)?;
    let bytes = adapter_file::encode(candidate, &about, crate::gguf::TensorType::F32)?;
    Ok(adapter_file::place(&job.out.join(WEIGHTS), &bytes)?)
}
