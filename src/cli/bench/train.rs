//! The trainer's figures: whole steps on one group (`bench/group.rs`) or several, in a process that does nothing else.
//!
//! A step is forward, backward and AdamW. The process runs by itself, or paced: a step for each line it reads,
//! beside a peer that does the same (`bench/train_peer.rs`).

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::Figure;
use super::group::{self, Group};
use crate::engine::ffi::os::physical_cores;
use crate::train::adamw::AdamW;
use crate::train::device::{self, DevicePolicy};
use crate::train::kernels::Precision;
use crate::train::lora::{Gradients, Lora};
use crate::train::model::{Options, Policy};
use crate::train::passes::Passes;
use crate::train::peft;
use crate::train::tree::Tree;

#[derive(Debug, Args)]
pub struct StepsArgs {
    pub model: PathBuf,
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Groups of one step
    #[arg(long, default_value_t = 1)]
    pub groups: usize,
    /// Products in f32, as processors without bf16 ones compute them
    #[arg(long)]
    pub f32: bool,
    /// ggml's graphs on a device, as `tillerman doctor` names it, or on the CPU: `ggml-cpu`
    #[arg(long, conflicts_with = "f32")]
    pub device: Option<String>,
    #[arg(long)]
    pub threads: Option<usize>,
    /// A step for each line on stdin; the first gradients go into this folder
    #[arg(long, value_name = "DIR")]
    pub paced: Option<PathBuf>,
}

/// What the measured process answers.
#[derive(Serialize, Deserialize)]
struct Steps {
    kernels: String,
    /// Distinct tokens that a step computes.
    tokens: usize,
    step_s: Vec<f64>,
    forward_s: Vec<f64>,
    /// Most memory the process ever held, the touched part of the mapped model included.
    peak_mb: f64,
    /// Of it, what the estimate speaks of: all but the mapped file, and the estimate itself.
    own_mb: f64,
    estimate_mb: f64,
}

/// What a paced process answers to each line.
#[derive(Serialize, Deserialize)]
pub(super) struct Paced {
    /// Tokens of the rows it computed, written out.
    pub tokens: usize,
    /// With the first step: log-probabilities of each row's targets, none for a row that was left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<Option<Vec<f32>>>,
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
    let steps = measured(model, 1, runs)?;
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

/// How a step grows with its groups: distinct tokens, seconds and peak memory at 1, 2, 4 and 8 of them, each from
/// processes of its own. Minutes on a big model, so only who names it gets it.
///
/// # Errors
/// The measuring process cannot be started or fails.
pub(super) fn by_groups(model: &Path, suffix: &str, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for groups in GROUPS {
        let processes = runs.clamp(1, PROCESSES);
        let taken: Vec<Steps> = (0..processes)
            .map(|_| measured(model, groups, runs.div_ceil(processes)))
            .collect::<Result<_, _>>()?;
        let mut figure = |name: &str, unit, values| {
            let name = format!("{BY_GROUPS}.{groups}.{name}.{suffix}");
            figures.push(Figure { name, unit, values });
        };
        figure("tokens", "tokens", taken.iter().map(|steps| steps.tokens as f64).collect());
        figure("step_s", "s", taken.iter().flat_map(|steps| steps.step_s.iter().copied()).collect());
        figure("peak_mb", "MB", taken.iter().map(|steps| steps.peak_mb).collect());
    }
    Ok(figures)
}

/// What figures of several groups are called by.
pub(super) const BY_GROUPS: &str = "train.groups";
const GROUPS: [usize; 4] = [1, 2, 4, 8];
/// A process has one peak: its spread needs several.
const PROCESSES: usize = 3;

/// Steps in a process of their own.
fn measured(model: &Path, groups: usize, runs: usize) -> anyhow::Result<Steps> {
    let output = Command::new(std::env::current_exe()?)
        .arg("__bench-steps")
        .arg(model)
        .args(["--runs", &runs.to_string(), "--groups", &groups.to_string()])
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "training steps of {groups} groups on {}: {}",
        model.display(),
        told.trim()
    );
    serde_json::from_slice(&output.stdout).context("the steps' answer")
}

/// A model, the group, and the adapter and optimizer that each step moves on.
struct Bench {
    policy: Box<dyn Passes>,
    group: Group,
    tree: Tree,
    lora: Lora,
    optimizer: AdamW,
}

impl Bench {
    fn open(args: &StepsArgs) -> anyhow::Result<Bench> {
        let precision = if args.f32 { Precision::F32 } else { Precision::default() };
        let threads = args.threads.unwrap_or_else(physical_cores);
        let options = Options { threads, precision, ..Options::default() };
        let policy: Box<dyn Passes> = match &args.device {
            None => Box::new(Policy::open_with(&args.model, options)?),
            Some(device) => Box::new(DevicePolicy::open(&args.model, device::Options::on(device, threads))?),
        };
        let group = Group::several(policy.header().vocabulary(), args.groups.max(1));
        let lora = group::adapter(policy.header())?;
        Ok(Bench {
            tree: Tree::build(&group.rows()),
            optimizer: AdamW::new(group.optimizer, &lora)?,
            policy,
            group,
            lora,
        })
    }

    /// The targets' log-probabilities before the step, and its gradients.
    fn step(&mut self) -> anyhow::Result<(Vec<f32>, Gradients)> {
        let mut coefficients = |_: &[f32]| self.group.coefficients();
        let temperature = self.group.temperature;
        let (logprobs, gradients) =
            self.policy.gradients(&self.tree, &self.lora, temperature, &mut coefficients)?;
        self.optimizer.ascend(&mut self.lora, &gradients)?;
        Ok((logprobs, gradients))
    }

    /// A step for each line on stdin, until its end.
    fn paced(&mut self, folder: &Path) -> anyhow::Result<()> {
        let mut first = true;
        for line in std::io::stdin().lock().lines() {
            line?;
            let (logprobs, gradients) = self.step()?;
            let mut answer = Paced { tokens: self.group.tokens(), logprobs: Vec::new() };
            if std::mem::take(&mut first) {
                let mut rest = logprobs.as_slice();
                answer.logprobs = (self.group.rows.iter())
                    .map(|row| rest.split_off(..row.sampled.len()).map(<[f32]>::to_vec))
                    .collect();
                // The maximised objective's; a library that minimises has their negatives.
                let mut slopes = self.lora.clone();
                for (pair, (a, b)) in slopes.pairs.iter_mut().zip(gradients.pairs) {
                    (pair.a, pair.b) = (a, b);
                }
                peft::export(folder, &slopes, self.policy.header(), "gradients")?;
            }
            println!("{}", serde_json::to_string(&answer)?);
            std::io::stdout().flush()?;
        }
        Ok(())
    }
}

/// `tillerman __bench-steps`: take the steps and answer JSON objects.
///
/// # Errors
/// The model cannot be trained.
pub fn steps(args: &StepsArgs) -> anyhow::Result<i32> {
    let mut bench = Bench::open(args)?;
    if let Some(folder) = &args.paced {
        bench.paced(folder)?;
        return Ok(0);
    }
    let (mut step_s, mut forward_s) = (Vec::new(), Vec::new());
    let estimate =
        bench.policy.memory_needed(bench.tree.tokens.len(), bench.tree.targets.len(), bench.lora.rank);
    // The first round packs the weights that stay and warms the caches.
    for round in 0..=args.runs {
        let started = Instant::now();
        bench.step()?;
        let step = started.elapsed().as_secs_f64();
        let started = Instant::now();
        bench.policy.logprobs(&bench.tree, Some(&bench.lora), bench.group.temperature)?;
        if round > 0 {
            step_s.push(step);
            forward_s.push(started.elapsed().as_secs_f64());
        }
    }
    let own = std::process::id();
    let peak_mb = held_mb(own, "VmHWM");
    let answer = Steps {
        kernels: bench.policy.computes_with(),
        tokens: bench.tree.tokens.len(),
        step_s,
        forward_s,
        peak_mb,
        own_mb: peak_mb - held_mb(own, "RssFile"),
        estimate_mb: estimate as f64 / f64::from(1 << 20),
    };
    println!("{}", serde_json::to_string(&answer)?);
    Ok(0)
}

/// A line of a process's status in MB; NaN where the system has none.
pub(super) fn held_mb(pid: u32, key: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    let kib: f64 = line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap_or(f64::NAN);
    kib / 1024.0
}
