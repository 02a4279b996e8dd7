//! The training step beside a peer's: another program takes the same steps on the same group, turn about.
//!
//! The peer is a command of the user's (benches/README.md has one of PyTorch and PEFT). Both are processes that
//! take a step for each line and are measured from outside: by the clock, by CPU time, which other work on the
//! machine blurs less, and by the most memory they held while stepping. A peer that computes something else is
//! refused.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;

use super::Figure;
use super::engine::cpu_seconds;
use super::group::Group;
use super::train::{Paced, held_mb};
use crate::engine::ffi::os::physical_cores;
use crate::gguf::check;
use crate::train::safetensors::{self, Tensor};

/// How far a peer's loss may be from ours, by precision: f32, bf16. A library that keeps activations and logits
/// in bf16 is a quarter of a nat off per log-probability on the group's random tokens (1.6e-2 of the loss seen).
const LOSS: [f64; 2] = [1e-4, 5e-2];

#[derive(Debug, Args)]
pub struct PeerArgs {
    /// Another program that takes the same training steps, turn about (see benches/README.md)
    #[arg(long, value_name = "COMMAND")]
    pub peer: Option<String>,
    /// Training steps beside a peer in f32 instead of bf16
    #[arg(long)]
    pub f32: bool,
    /// Threads of training steps beside a peer, for both
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Only write the group of the training step into a folder: group.json and the adapter as PEFT reads it
    #[arg(long, value_name = "DIR")]
    pub write_group: Option<PathBuf>,
}

/// A process that steps when told.
struct Side {
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// One step, seen from outside.
struct Taken {
    seconds: f64,
    cpu: f64,
    answer: Paced,
}

impl Side {
    fn start(name: &'static str, command: &mut Command) -> anyhow::Result<Side> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("a child without stdout")?);
        Ok(Side { name, child, input, output })
    }

    fn step(&mut self) -> anyhow::Result<Taken> {
        let before = cpu_seconds(self.child.id());
        let started = Instant::now();
        let input = self.input.as_mut().context("already ended")?;
        input
            .write_all(b"step\n")
            .and_then(|()| input.flush())
            .with_context(|| format!("{} ended", self.name))?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let seconds = started.elapsed().as_secs_f64();
        let after = cpu_seconds(self.child.id());
        let cpu = after.zip(before).map_or(f64::NAN, |(after, before)| after - before);
        let answer = serde_json::from_str(&line)
            .with_context(|| format!("{} answered {:?}, not a step", self.name, line.trim()))?;
        Ok(Taken { seconds, cpu, answer })
    }

    /// From here on the system's high-water mark counts anew.
    fn forget_peak(&self) {
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
    }

    fn peak_mb(&self) -> f64 {
        held_mb(self.child.id(), "VmHWM")
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // The end of its input ends it; one that does not listen is ended.
        self.input = None;
        if self.output.fill_buf().is_ok_and(<[u8]>::is_empty) {
            let _ = self.child.wait();
        } else {
            let _ = self.child.kill().and_then(|()| self.child.wait());
        }
    }
}

/// Both sides' figures on one model.
///
/// # Errors
/// A side cannot be started, fails, or computes something else than the other.
pub(super) fn figures(
    model: &Path,
    suffix: &str,
    runs: usize,
    args: &PeerArgs,
) -> anyhow::Result<Vec<Figure>> {
    let Some(command) = &args.peer else { return Ok(Vec::new()) };
    let header = check(model)?;
    let group = Group::new(header.vocabulary());
    let folder = tempfile::tempdir()?;
    let [given, ours_dir, peer_dir] = ["group", "ours", "peer"].map(|name| folder.path().join(name));
    group.write(&given, &header)?;
    let threads = args.threads.unwrap_or_else(physical_cores).to_string();
    let precision = if args.f32 { "f32" } else { "bf16" };
    let mut own = Command::new(std::env::current_exe()?);
    own.arg("__bench-steps").arg(model).args(["--threads", &threads]).arg("--paced").arg(&ours_dir);
    own.args(args.f32.then_some("--f32"));
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec {command} \"$@\"")).arg("peer").arg(model);
    shell.arg("--group").arg(&given).arg("--gradients").arg(&peer_dir);
    shell.args(["--dtype", precision, "--threads", &threads]);
    let (mut ours, mut peer) = (Side::start("the trainer", &mut own)?, Side::start("the peer", &mut shell)?);
    // The first step warms both up and shows whether they compute the same.
    let (first, second) = (ours.step()?, peer.step()?);
    let apart = Apart::of(&group, &first.answer, &second.answer, [&ours_dir, &peer_dir])?;
    let bound = LOSS[usize::from(!args.f32)];
    anyhow::ensure!(apart.loss <= bound, "the peer's loss is {:.1e} off, more than {bound:.0e}", apart.loss);
    ours.forget_peak();
    peer.forget_peak();
    let mut lists: [Vec<f64>; 6] = Default::default();
    for _ in 0..runs {
        // What the machine's speed drifts in between hits both alike.
        let (before, theirs, after) = (ours.step()?, peer.step()?, ours.step()?);
        let scale = group.tokens() as f64 / theirs.answer.tokens.max(1) as f64;
        let (clock, cpu) = ((before.seconds + after.seconds) / 2.0, (before.cpu + after.cpu) / 2.0);
        let (peer_clock, peer_cpu) = (theirs.seconds * scale, theirs.cpu * scale);
        let values = [peer_clock / clock, peer_cpu / cpu, clock, peer_clock, cpu, peer_cpu];
        lists.iter_mut().zip(values).for_each(|(list, value)| list.push(value));
    }
    let whole = second.answer.tokens == group.tokens();
    if !whole {
        let (some, all) = (second.answer.tokens, group.tokens());
        eprintln!("peer: {some} of {all} tokens computed, its times are scaled to all of them");
    }
    let suffix = format!("{suffix}.{precision}{}", if whole { "" } else { ".extrapolated" });
    let figure = |name: &str, unit, values| Figure { name: format!("train.{name}.{suffix}"), unit, values };
    let names =
        ["peer_ratio", "peer_cpu_ratio", "beside_step_s", "peer_step_s", "beside_cpu_s", "peer_cpu_s"];
    let units = ["ratio", "ratio", "s", "s", "s", "s"];
    let mut figures: Vec<Figure> = names
        .into_iter()
        .zip(units)
        .zip(lists)
        .map(|((name, unit), list)| figure(name, unit, list))
        .collect();
    let (own_mb, peer_mb) = (ours.peak_mb(), peer.peak_mb());
    figures.push(figure("peer_memory_ratio", "ratio", vec![own_mb / peer_mb]));
    figures.push(figure("beside_peak_mb", "MB", vec![own_mb]));
    figures.push(figure("peer_peak_mb", "MB", vec![peer_mb]));
    figures.push(figure("peer_loss_diff", "nats", vec![apart.loss]));
    figures.push(figure("peer_logprob_diff", "nats", vec![apart.logprob]));
    figures.extend(whole.then(|| figure("peer_gradient_diff", "of 1", vec![apart.gradient])));
    Ok(figures)
}

/// How far the two are apart before the first step.
struct Apart {
    /// Of the loss, over the rows both computed.
    loss: f64,
    /// Mean over targets.
    logprob: f64,
    /// Length of the difference over the length of ours.
    gradient: f64,
}

impl Apart {
    fn of(group: &Group, ours: &Paced, peer: &Paced, folders: [&Path; 2]) -> anyhow::Result<Apart> {
        let (mut loss, mut sum, mut count) = (0.0, 0.0, 0);
        anyhow::ensure!(peer.logprobs.len() == group.rows.len(), "the peer answers for other rows");
        for (row, (own, theirs)) in group.rows.iter().zip(ours.logprobs.iter().zip(&peer.logprobs)) {
            let (Some(own), Some(theirs)) = (own, theirs) else { continue };
            anyhow::ensure!(own.len() == theirs.len(), "the peer answers for other targets");
            for (own, theirs) in own.iter().zip(theirs) {
                let difference = f64::from(*own) - f64::from(*theirs);
                loss += f64::from(row.weight) * difference;
                sum += difference.abs();
                count += 1;
            }
        }
        anyhow::ensure!(count > 0, "the peer computed no row");
        let [own, theirs] = folders.map(slopes);
        let gradient = distance(&own?, &theirs?)?;
        Ok(Apart { loss: loss.abs(), logprob: sum / f64::from(count), gradient })
    }
}

fn slopes(folder: &Path) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let path = folder.join("adapter_model.safetensors");
    let bytes = std::fs::read(&path).with_context(|| format!("no gradients at {}", path.display()))?;
    safetensors::read(&bytes).map_err(|reason| anyhow::anyhow!("{}: {reason}", path.display()))
}

/// |own + theirs| / |own|: ours go up the objective, the peer's down.
fn distance(own: &BTreeMap<String, Tensor>, theirs: &BTreeMap<String, Tensor>) -> anyhow::Result<f64> {
    let (mut apart, mut whole) = (0.0, 0.0);
    for (name, tensor) in own {
        let other = theirs.get(name).with_context(|| format!("the peer has no gradient of {name}"))?;
        anyhow::ensure!(tensor.shape == other.shape, "{name} is {:?} at the peer", other.shape);
        for (own, theirs) in tensor.values.iter().zip(&other.values) {
            apart += (f64::from(*own) + f64::from(*theirs)).powi(2);
            whole += f64::from(*own).powi(2);
        }
    }
    Ok((apart / whole).sqrt())
}
