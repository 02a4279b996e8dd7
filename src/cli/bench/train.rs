//! The trainer's figures: one whole step on a group of 8 rollouts of 3 turns, in a process that does nothing else.
//!
//! The group is the one the prototype and its PyTorch peer were timed on: a first prompt of 300 tokens all
//! share, 60 sampled tokens per turn, 60 more of memory before each next one; 24 rows, 10,080 tokens, 2,676
//! of them distinct and computed, 1,440 targets. A step is forward, backward and AdamW, adapter of rank 16.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::Figure;
use crate::engine::ffi::os::physical_cores;
use crate::train::adamw::{AdamW, Settings};
use crate::train::kernels::Precision;
use crate::train::lora::{Lora, sites};
use crate::train::model::{Options, Policy};
use crate::train::tree::{Row, Tree};

const ROLLOUTS: usize = 8;
const TURNS: usize = 3;
const FIRST_PROMPT: usize = 300;
const SAMPLED: usize = 60;
const REMEMBERED: usize = 60;
const RANK: usize = 16;

#[derive(Debug, Args)]
pub struct StepsArgs {
    pub model: PathBuf,
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Products in f32, as processors without bf16 ones compute them
    #[arg(long)]
    pub f32: bool,
}

/// What the measured process answers.
#[derive(Serialize, Deserialize)]
struct Steps {
    kernels: String,
    step_s: Vec<f64>,
    forward_s: Vec<f64>,
    /// Most memory the process ever held, the touched part of the mapped model included.
    peak_mb: f64,
    /// Of it, what the estimate speaks of: all but the mapped file, and the estimate itself.
    own_mb: f64,
    estimate_mb: f64,
}

/// Every figure that `wanted` wants, for one model.
///
/// # Errors
/// The measuring process cannot be started or fails.
pub(super) fn figures(
    model: &Path,
    suffix: &str,
    runs: usize,
    wanted: &dyn Fn(&str) -> bool,
) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    if !(wanted("train.step_s") || wanted("train.peak_mb") || wanted("train.forward_s")) {
        return Ok(figures);
    }
    let output = Command::new(std::env::current_exe()?)
        .arg("__bench-steps")
        .arg(model)
        .args(["--runs", &runs.to_string()])
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "training steps on {}: {}", model.display(), told.trim());
    let steps: Steps = serde_json::from_slice(&output.stdout).context("the steps' answer")?;
    let mut figure = |name: &str, unit, values| {
        figures.push(Figure { name: format!("train.{name}.{suffix}"), unit, values });
    };
    figure("step_s", "s", steps.step_s);
    figure("forward_s", "s", steps.forward_s);
    figure("peak_mb", "MB", vec![steps.peak_mb]);
    figure("own_mb", "MB", vec![steps.own_mb]);
    figure("estimate_mb", "MB", vec![steps.estimate_mb]);
    Ok(figures)
}

/// `tillerman __bench-steps`: take the steps and answer one JSON object.
///
/// # Errors
/// The model cannot be trained.
pub fn steps(args: &StepsArgs) -> anyhow::Result<i32> {
    let precision = if args.f32 { Precision::F32 } else { Precision::default() };
    let options = Options { threads: physical_cores(), precision, ..Options::default() };
    let policy = Policy::open_with(&args.model, options)?;
    let tree = Tree::build(&group(policy.header().vocabulary() as i32));
    let mut lora = Lora::init(&sites(policy.header()), RANK, 32.0, 1)?;
    let mut optimizer = AdamW::new(Settings::default(), &lora)?;
    let (mut step_s, mut forward_s) = (Vec::new(), Vec::new());
    let estimate = policy.memory_needed(tree.tokens.len(), tree.targets.len(), RANK);
    // The first round packs the weights that stay and warms the caches.
    for round in 0..=args.runs {
        let started = Instant::now();
        let mut coefficients = |logprobs: &[f32]| -> Vec<f32> {
            let share = 1.0 / logprobs.len() as f32;
            (0..logprobs.len()).map(|at| if at % 2 == 0 { share } else { -share }).collect()
        };
        let (_, gradients) = policy.gradients(&tree, &lora, 0.7, &mut coefficients)?;
        optimizer.ascend(&mut lora, &gradients)?;
        let step = started.elapsed().as_secs_f64();
        let started = Instant::now();
        policy.logprobs(&tree, Some(&lora), 0.7)?;
        if round > 0 {
            step_s.push(step);
            forward_s.push(started.elapsed().as_secs_f64());
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mb = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        let kib: f64 = line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap_or(f64::NAN);
        kib / 1024.0
    };
    let peak_mb = mb("VmHWM");
    let answer = Steps {
        kernels: policy.kernels().to_string(),
        step_s,
        forward_s,
        peak_mb,
        own_mb: peak_mb - mb("RssFile"),
        estimate_mb: estimate as f64 / f64::from(1 << 20),
    };
    println!("{}", serde_json::to_string(&answer)?);
    Ok(0)
}

/// The group's rows, of random tokens.
fn group(vocabulary: i32) -> Vec<Row> {
    let mut state = 1_u64;
    let mut ids = |count: usize| -> Vec<i32> {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) as i32).rem_euclid(vocabulary)
        };
        (0..count).map(|_| next()).collect()
    };
    let shared = ids(FIRST_PROMPT);
    let mut rows = Vec::new();
    for _ in 0..ROLLOUTS {
        let mut prompt = shared.clone();
        for turn in 0..TURNS {
            if turn > 0 {
                prompt.extend(ids(REMEMBERED));
            }
            rows.push(Row { prompt: prompt.clone(), sampled: ids(SAMPLED) });
        }
    }
    rows
}
