//! The policy on a device: the same passes as `model`'s, as ggml graphs that any of llama.cpp's devices computes.
//!
//! Layer by layer, by hand: ggml's own differentiation has no gradient through packed weights on any device.
//! Products back go through weights unpacked and transposed on the host; what a device cannot compute, ggml's
//! CPU does. On the CPU alone (`ggml-cpu`) this is several times slower than `model`, and exact: that is how it
//! is tested where there is no device.

mod back;
mod choose;
mod ffi;
mod head;
mod layer;
mod pass;
mod weights;

#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::path::Path;
use std::rc::Rc;

pub use self::choose::{AUTO, CPU, Choice, GGML_CPU, choose, open, report};
use self::ffi::{Backends, Kind, Tensor};
use self::head::Parts;
use self::layer::At;
use self::pass::Pass;
use self::weights::Layers;
use super::error::TrainError;
use super::kernels::{norm, norm_back};
use super::lora::{Gradients, Lora};
use super::model::head::Head;
use super::model::spec::Spec;
use super::model::weights::{Matrix, Weights};
use super::model::{layout, places};
use super::passes::{Passes, Scores, ask_coefficients, check_finite, check_gradients, check_temperature};
use super::tree::Tree;
use crate::error::Error;
use crate::gguf::{Header, TensorType};

/// Vocabulary rows of a part of the head.
const PART: usize = 8192;

/// What weights a forward computes with; a backward's are unpacked always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forward {
    /// Unpacked to F32.
    #[default]
    Unpacked,
    /// As they lie in the file, by the products that the engine serves with.
    Matched,
}

impl Forward {
    fn kind(self, matrix: &Matrix) -> Kind {
        match self {
            Forward::Unpacked => Kind::F32,
            Forward::Matched if matrix.kind() == TensorType::F32 => Kind::F32,
            Forward::Matched => Kind::Packed(matrix.kind().id),
        }
    }

    fn bytes(self, matrix: &Matrix) -> u64 {
        match self {
            Forward::Unpacked => 4 * (matrix.n_in * matrix.n_out) as u64,
            Forward::Matched => matrix.bytes() as u64,
        }
    }

    fn write(self, weights: &Weights, matrix: &Matrix, rows: (usize, usize), to: Tensor) {
        match self {
            Forward::Unpacked => to.set(&weights::unpacked(weights, matrix, rows)),
            Forward::Matched => to.write(0, weights.packed(matrix, rows)),
        }
    }
}

/// How a device policy computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The device's name, as `tillerman doctor` lists it.
    pub device: String,
    /// For what the CPU computes.
    pub threads: usize,
    pub forward: Forward,
    /// Nodes that go through a layer together, a multiple of 64 up to 512; None: by the tree's size.
    pub run: Option<usize>,
    /// Vocabulary rows of a part of the head.
    pub part: usize,
}

impl Options {
    pub fn on(device: &str, threads: usize) -> Options {
        Options { device: device.to_string(), threads, forward: Forward::default(), run: None, part: PART }
    }
}

/// A model file ready for passes on a device.
pub struct DevicePolicy {
    spec: Spec,
    header: Header,
    weights: Weights,
    options: Options,
    backends: Rc<Backends>,
    /// All layers and the head stay on the device between passes.
    stays: bool,
    layers: OnceCell<Layers>,
    parts: OnceCell<Parts>,
}

fn fault(backends: &Backends, why: String) -> TrainError {
    TrainError::Device { device: backends.name().to_string(), why }
}

/// The power of two that brings the largest of these near 1. Vulkan's and Metal's products round F32 to half
/// precision, in which dL/dx of a whole batch, some 1e-6 and less, would be nothing; by a power of two no bit changes.
fn near_one(values: &[f32]) -> f32 {
    let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    if largest > 0.0 { (-largest.log2().floor().clamp(-100.0, 100.0)).exp2() } else { 1.0 }
}

impl DevicePolicy {
    /// # Errors
    /// As [`super::model::Policy::open`], and [`TrainError::Device`] where the device is missing or does not start.
    pub fn open(path: &Path, options: Options) -> Result<DevicePolicy, TrainError> {
        let (spec, header, weights) = Weights::open(path)?;
        let name = if options.device == GGML_CPU { "CPU" } else { &options.device };
        let backends = Backends::open(name, options.threads)
            .map_err(|why| TrainError::Device { device: options.device.clone(), why })?;
        let whole = weights::layer_bytes(&spec, &weights, options.forward) * spec.blocks as u64
            + head::part_bytes(&spec, &weights, options.forward, spec.vocabulary);
        let stays = whole <= backends.free() / 2;
        let (layers, parts) = (OnceCell::new(), OnceCell::new());
        Ok(DevicePolicy { spec, header, weights, options, backends, stays, layers, parts })
    }

    fn layers(&self) -> Result<&Layers, TrainError> {
        if self.layers.get().is_none() {
            let places = if self.stays { self.spec.blocks } else { 1 };
            let layers =
                Layers::new(&self.backends, (&self.spec, &self.weights), self.options.forward, places)?;
            let _ = self.layers.set(layers);
        }
        self.layers.get().ok_or_else(|| fault(&self.backends, "the layers have no place".to_string()))
    }

    fn parts(&self) -> Result<&Parts, TrainError> {
        if self.parts.get().is_none() {
            let part = self.options.part;
            let places = if self.stays { self.spec.vocabulary.div_ceil(part) } else { 1 };
            let of = (&self.spec, &self.weights);
            let _ = self.parts.set(Parts::new(&self.backends, of, self.options.forward, (part, places))?);
        }
        self.parts.get().ok_or_else(|| fault(&self.backends, "the head has no place".to_string()))
    }

    fn at(&self, index: usize, back: bool) -> Result<At<'_>, TrainError> {
        let layers = self.layers()?;
        let weights = layers.layer((&self.spec, &self.weights), self.options.forward, index, back);
        Ok(At { index, weights })
    }

    /// Everything that can be judged before computing, and the buffers; the tokens' embeddings are written.
    fn pass(&self, tree: &Tree, lora: Option<&Lora>, t: f32, backward: bool) -> Result<Pass<'_>, TrainError> {
        check_temperature(t)?;
        layout::check(tree, self.spec.vocabulary)?;
        if let Some(lora) = lora {
            places(&self.spec, lora)?;
        }
        let factors = self.weights.rope_factors.as_deref();
        let how = (backward, self.options.run);
        let pass = Pass::new((&self.spec, &self.backends), (tree, lora), factors, how)?;
        let hidden = self.spec.hidden;
        let mut x = vec![0.0; tree.tokens.len() * hidden];
        for (token, x) in tree.tokens.iter().zip(x.chunks_exact_mut(hidden)) {
            self.weights.rows(&self.weights.embedding, *token as usize, x);
        }
        pass.input(0).set(&x);
        Ok(pass)
    }

    /// The stream after the last block of some nodes, [nodes][hidden], and normed.
    fn last(&self, pass: &Pass, nodes: &[usize]) -> Result<(Vec<f32>, Vec<f32>), TrainError> {
        for index in 0..self.spec.blocks {
            pass.forward(self.at(index, false)?, pass.input(index), pass.input(index + 1))?;
        }
        let hidden = self.spec.hidden;
        let stream = pass.input(self.spec.blocks).read();
        let x: Vec<f32> = nodes.iter().flat_map(|n| &stream[n * hidden..(n + 1) * hidden]).copied().collect();
        let mut normed = vec![0.0; x.len()];
        norm(&x, &self.weights.output_norm, self.spec.eps, &mut normed);
        Ok((x, normed))
    }

    /// The head's numbers of all targets, and the stream they came from.
    fn head(&self, pass: &Pass, tree: &Tree, t: f32, gradient: bool) -> Result<(Head, Vec<f32>), TrainError> {
        let (x, normed) = self.last(pass, &Head::rows(tree).0)?;
        let of = (&self.backends, &self.weights, self.options.forward);
        let head = self.parts()?.head(of, tree, &normed, (t, gradient))?;
        check_finite(&head.logprobs, "a log-probability")?;
        Ok((head, x))
    }
}

impl Passes for DevicePolicy {
    fn header(&self) -> &Header {
        &self.header
    }

    fn computes_with(&self) -> String {
        format!("ggml on {} ({})", self.options.device, self.backends.description())
    }

    fn scores(&self, tree: &Tree, lora: Option<&Lora>, temperature: f32) -> Result<Scores, TrainError> {
        let pass = self.pass(tree, lora, temperature, false)?;
        let (head, _) = self.head(&pass, tree, temperature, false)?;
        Ok(Scores { logprobs: head.logprobs, entropies: head.entropies })
    }

    fn gradients(
        &self,
        tree: &Tree,
        lora: &Lora,
        temperature: f32,
        coefficients: &mut dyn FnMut(&[f32]) -> Vec<f32>,
    ) -> Result<(Vec<f32>, Gradients), TrainError> {
        let pass = self.pass(tree, Some(lora), temperature, true)?;
        let (head, x) = self.head(&pass, tree, temperature, true)?;
        let coefficients = ask_coefficients(tree, &head.logprobs, coefficients)?;
        let dh = head.gradient(&self.weights, tree, &coefficients, temperature);
        let hidden = self.spec.hidden;
        let mut d = vec![0.0; tree.tokens.len() * hidden];
        for ((node, x), dh) in head.nodes.iter().zip(x.chunks_exact(hidden)).zip(dh.chunks_exact(hidden)) {
            let d = &mut d[node * hidden..(node + 1) * hidden];
            norm_back(x, &self.weights.output_norm, self.spec.eps, dh, d);
        }
        let scale = near_one(&d);
        d.iter_mut().for_each(|d| *d *= scale);
        pass.d().set(&d);
        for index in (0..self.spec.blocks).rev() {
            pass.backward(self.at(index, true)?, pass.input(index), pass.d(), index == 0)?;
        }
        let gradients = pass
            .adapter
            .as_ref()
            .map_or(Gradients { pairs: Vec::new() }, |adapter| adapter.gradients(lora, 1.0 / scale));
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
        let mut normed = Vec::new();
        for lora in [from, to] {
            let pass = self.pass(tree, lora, temperature, false)?;
            normed.push(self.last(&pass, &nodes)?.1);
        }
        let of = (&self.backends, &self.weights, self.options.forward);
        let values = self.parts()?.divergences(of, (&normed[0], &normed[1]), temperature)?;
        check_finite(&values, "a divergence")?;
        Ok(values)
    }

    fn memory_needed(&self, nodes: usize, targets: usize, rank: usize) -> u64 {
        let (spec, forward) = (&self.spec, self.options.forward);
        let places = if self.stays { spec.blocks } else { 1 };
        let part = if self.stays { spec.vocabulary } else { self.options.part };
        weights::layer_bytes(spec, &self.weights, forward) * places as u64
            + head::part_bytes(spec, &self.weights, forward, part)
            + head::rows_bytes(spec, targets, self.options.part)
            + pass::bytes(spec, nodes, rank)
    }

    fn fits(&self, nodes: usize, targets: usize, rank: usize) -> Result<(), Error> {
        let (needed, free) = (self.memory_needed(nodes, targets, rank), self.backends.free());
        if needed <= free {
            return Ok(());
        }
        let gb = |bytes: u64| bytes as f64 / 1e9;
        let why = format!("the step needs {:.1} GB there, {:.1} GB are free", gb(needed), gb(free));
        Err(fault(&self.backends, why).into())
    }
}
