//! The policy: a GGUF's forward and backward pass over a prefix tree, with a LoRA beside its linears.
//!
//! Opened once per training step. Weights stay packed as they lie in the file and are unpacked layer by
//! layer; each layer's input is kept and the rest computed again going back. What a log-probability is worth
//! is the caller's affair: gradients take dL/dlogprob from it.

mod adapter;
mod attention;
mod backward;
mod divergence;
pub(super) mod head;
pub(super) mod layout;
mod linear;
mod memory;
pub(super) mod pass;
pub mod spec;
mod stash;
pub(super) mod weights;

#[cfg(test)]
pub(super) mod tests;

use std::path::Path;

pub(super) use self::adapter::places;
use self::adapter::{PackedLora, PairSums};
use self::backward::Buffers;
use self::layout::Layout;
use self::pass::{Layer, Pass, Projected, Scratch};
use self::spec::{LINEARS, Spec};
use self::stash::Stash;
use self::weights::{PanelCache, Sides, Weights};
use super::error::TrainError;
use super::kernels::{Kernels, Pool, Precision, Rope, choose};
use super::lora::{Gradients, Lora};
use super::memory::free;
use super::passes::{Passes, Scores, ask_coefficients, check_finite, check_gradients, check_temperature};
use super::tree::Tree;
use crate::error::Error;
use crate::gguf::Header;

/// Bytes of panels that are kept between passes, if all of a model's fit.
const KEEP: u64 = 256 << 20;

const FORWARD: Sides = Sides { forward: true, backward: false };

/// How a policy computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub threads: usize,
    pub precision: Precision,
    /// Bytes for what layers computed going forward, so that it need not be computed again going back.
    /// Layers are kept from the last on, as many as fit here and in half of the memory that is free.
    pub stash: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { threads: 1, precision: Precision::default(), stash: 800 << 20 }
    }
}

/// A model file ready for passes.
pub struct Policy {
    spec: Spec,
    header: Header,
    weights: Weights,
    panels: PanelCache,
    kept: bool,
    stash: u64,
    main: &'static dyn Kernels,
    wide: &'static dyn Kernels,
    pool: Pool,
}

impl Policy {
    /// With the fastest precision the processor has.
    ///
    /// # Errors
    /// As [`Policy::open_with`].
    pub fn open(path: &Path, threads: usize) -> Result<Policy, TrainError> {
        Policy::open_with(path, Options { threads, ..Options::default() })
    }

    /// # Errors
    /// [`TrainError::Model`] if the file is missing or refused, [`TrainError::Unsupported`] if it is fine but
    /// has no backward pass here.
    pub fn open_with(path: &Path, options: Options) -> Result<Policy, TrainError> {
        let (spec, header, weights) = Weights::open(path)?;
        let main = choose(options.precision);
        let per_layer: usize = (0..LINEARS.len()).map(|w| spec.linear(w)).map(|(i, o)| i * o).sum();
        let bytes = 2 * 4 * (per_layer * spec.blocks / main.per_word()) as u64;
        Ok(Policy {
            panels: PanelCache::new(spec.blocks, bytes <= KEEP),
            kept: bytes <= KEEP,
            stash: options.stash,
            spec,
            header,
            weights,
            main,
            wide: choose(Precision::F32),
            pool: Pool::new(options.threads),
        })
    }

    /// What the wide products are computed with, e.g. "AVX-512 bf16".
    pub fn kernels(&self) -> &'static str {
        self.main.name()
    }

    /// Name, inputs and outputs of the planner's linears: q, k, v, output, gate, up, down of each block.
    pub fn lora_shapes(&self) -> Vec<(String, usize, usize)> {
        let linears = self.weights.layers.iter().flat_map(|layer| &layer.linears);
        linears.map(|matrix| (matrix.name.clone(), matrix.n_in, matrix.n_out)).collect()
    }

    /// How many layers' intermediate values are kept beside the `least` that is needed anyway. How many decides
    /// no bit of the result.
    fn stashed(&self, (nodes, slots): (usize, usize), least: u64) -> usize {
        let each = Stash::bytes(&self.spec, nodes, slots, self.main.per_word()).max(1);
        let room = free().map_or(self.stash, |free| self.stash.min(free.saturating_sub(least) / 2));
        usize::try_from(room / each).unwrap_or(usize::MAX).min(self.spec.blocks)
    }

    /// Bytes of gradients where nothing is kept that can be computed again, beside the mapped model file.
    fn least_memory(&self, nodes: usize, targets: usize, rank: usize) -> u64 {
        let how = (self.main.per_word(), self.pool.threads(), self.kept);
        memory::needed(&self.spec, (nodes, targets, rank), how)
    }

    fn prepare(&self, tree: &Tree, lora: Option<&Lora>, temperature: f32) -> Result<Run, TrainError> {
        check_temperature(temperature)?;
        let spec = &self.spec;
        let layout = Layout::new(tree, spec.vocabulary)?;
        let lora = lora.map(|lora| PackedLora::new(spec, lora)).transpose()?;
        let positions = tree.positions.iter().max().map_or(0, |last| *last as usize + 1);
        let factors = self.weights.rope_factors.as_deref();
        let rope = Rope::new(positions, spec.head, spec.rope_base, spec.rope_scale, factors, spec.rope_split);
        Ok(Run { layout, lora, rope })
    }

    /// [nodes][hidden]
    fn embed(&self, tree: &Tree) -> Vec<f32> {
        let hidden = self.spec.hidden;
        let mut x = vec![0.0; tree.tokens.len() * hidden];
        for (token, x) in tree.tokens.iter().zip(x.chunks_exact_mut(hidden)) {
            self.weights.rows(&self.weights.embedding, *token as usize, x);
        }
        x
    }

    /// The stream after the last block, [nodes][hidden].
    fn stream(&self, pass: &Pass, tree: &Tree) -> Vec<f32> {
        let mut x = self.embed(tree);
        let (mut scratch, mut projected) = (self.scratch(), Projected::default());
        for index in 0..self.spec.blocks {
            self.with_layer(index, FORWARD, |layer| {
                pass.forward(layer, &mut x, (&mut projected, None), &mut scratch);
            });
        }
        x
    }

    fn scratch(&self) -> Vec<Scratch> {
        let mut scratch = Vec::new();
        scratch.resize_with(self.pool.threads(), Scratch::default);
        scratch
    }

    fn with_layer(&self, index: usize, sides: Sides, work: impl FnOnce(Layer)) {
        let panels = self.panels.layer(&self.weights, index, self.main.per_word(), sides, &self.pool);
        work(Layer { index, weights: &self.weights.layers[index], panels: &panels });
    }
}

impl Passes for Policy {
    fn header(&self) -> &Header {
        &self.header
    }

    fn computes_with(&self) -> String {
        self.kernels().to_string()
    }

    fn scores(&self, tree: &Tree, lora: Option<&Lora>, temperature: f32) -> Result<Scores, TrainError> {
        let run = self.prepare(tree, lora, temperature)?;
        let pass = run.pass(self, tree);
        let x = self.stream(&pass, tree);
        let head = pass.head(tree, &x, temperature, false);
        check_finite(&head.logprobs, "a log-probability")?;
        Ok(Scores { logprobs: head.logprobs, entropies: head.entropies })
    }

    fn gradients(
        &self,
        tree: &Tree,
        lora: &Lora,
        temperature: f32,
        coefficients: &mut dyn FnMut(&[f32]) -> Vec<f32>,
    ) -> Result<(Vec<f32>, Gradients), TrainError> {
        let run = self.prepare(tree, Some(lora), temperature)?;
        let pass = run.pass(self, tree);
        let mut scratch = self.scratch();
        let mut buffers = Buffers::default();
        let least = self.least_memory(tree.tokens.len(), tree.targets.len(), lora.rank);
        let first_kept = self.spec.blocks - self.stashed((run.layout.nodes, run.layout.slots), least);
        let mut inputs: Vec<(Vec<f32>, Option<Stash>)> = Vec::new();
        let mut x = self.embed(tree);
        for index in 0..self.spec.blocks {
            let mut stash =
                (index >= first_kept).then(|| Stash::new(&self.spec, run.layout.nodes, self.main.per_word()));
            let input = x.clone();
            self.with_layer(index, FORWARD, |layer| {
                let out = (&mut buffers.projected, stash.as_mut());
                pass.forward(layer, &mut x, out, &mut scratch);
            });
            inputs.push((input, stash));
        }
        let head = pass.head(tree, &x, temperature, true);
        check_finite(&head.logprobs, "a log-probability")?;
        let coefficients = ask_coefficients(tree, &head.logprobs, coefficients)?;
        let mut d = pass.head_back(tree, &x, &head, &coefficients, temperature);
        drop(x);
        let mut sums: Vec<PairSums> = Vec::new();
        sums.resize_with(self.spec.blocks * LINEARS.len(), PairSums::default);
        let packed = run.lora.as_ref();
        for index in (0..self.spec.blocks).rev() {
            let Some((input, stash)) = inputs.pop() else { break };
            let mut out = Vec::new();
            if let Some(lora) = packed {
                lora.sums(&self.spec, index, &mut out);
            }
            let sides = Sides { forward: stash.is_none(), backward: true };
            self.with_layer(index, sides, |layer| {
                let room = (&mut buffers, scratch.as_mut_slice());
                pass.backward(layer, (&input, stash), &mut d, room, (index == 0, &mut out));
            });
            let place = index * LINEARS.len();
            out.into_iter().enumerate().for_each(|(which, out)| sums[place + which] = out);
        }
        let gradients =
            packed.map_or(Gradients { pairs: Vec::new() }, |packed| packed.gradients(&sums, lora.rank));
        check_gradients(&gradients)?;
        Ok((head.logprobs, gradients))
    }

    fn divergences(
        &self,
        tree: &Tree,
        (from, to): (Option<&Lora>, Option<&Lora>),
        temperature: f32,
    ) -> Result<Vec<f32>, TrainError> {
        let nodes: Vec<usize> = tree.targets.iter().map(|target| target.node).collect();
        let from = self.last(tree, from, &nodes, temperature)?;
        let to = self.last(tree, to, &nodes, temperature)?;
        let values = self.apart(&from, &to, temperature);
        check_finite(&values, "a divergence")?;
        Ok(values)
    }

    /// Beside the mapped model file.
    fn memory_needed(&self, nodes: usize, targets: usize, rank: usize) -> u64 {
        let (least, slots) = (self.least_memory(nodes, targets, rank), memory::slots(nodes));
        let each = Stash::bytes(&self.spec, nodes, slots, self.main.per_word());
        self.stashed((nodes, slots), least) as u64 * each + least
    }

    fn fits(&self, nodes: usize, targets: usize, rank: usize) -> Result<(), Error> {
        super::memory::check(self.least_memory(nodes, targets, rank))
    }
}

/// What is worked out once for a tree and an adapter.
struct Run {
    layout: Layout,
    lora: Option<PackedLora>,
    rope: Rope,
}

impl Run {
    fn pass<'a>(&'a self, policy: &'a Policy, tree: &'a Tree) -> Pass<'a> {
        Pass {
            spec: &policy.spec,
            weights: &policy.weights,
            layout: &self.layout,
            positions: &tree.positions,
            rope: &self.rope,
            lora: self.lora.as_ref(),
            main: policy.main,
            wide: policy.wide,
            pool: &policy.pool,
        }
    }
}
