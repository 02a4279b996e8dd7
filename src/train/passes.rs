//! What a training step asks of a model, whatever computes it: the CPU (`model`) or a device (`device`).

use crate::error::Error;
use crate::gguf::Header;
use crate::train::error::TrainError;
use crate::train::lora::{Gradients, Lora};
use crate::train::memory;
use crate::train::model::{Policy, Scores};
use crate::train::tree::Tree;

/// Forward and backward passes of one open model.
pub trait Passes {
    fn header(&self) -> &Header;

    /// What the wide products are computed with, for reports.
    fn computes_with(&self) -> String;

    /// Log-probabilities and entropies of each target, in the tree's order.
    ///
    /// # Errors
    /// [`TrainError::Batch`] or [`TrainError::Lora`] if tree or adapter do not fit the model,
    /// [`TrainError::NotFinite`] if numbers went out of range, [`TrainError::Device`] if the device failed.
    fn scores(&self, tree: &Tree, lora: Option<&Lora>, temperature: f32) -> Result<Scores, TrainError>;

    /// log softmax(logits / T)[token] of each target, in the tree's order.
    ///
    /// # Errors
    /// As [`Passes::scores`].
    fn logprobs(&self, tree: &Tree, lora: Option<&Lora>, temperature: f32) -> Result<Vec<f32>, TrainError> {
        Ok(self.scores(tree, lora, temperature)?.logprobs)
    }

    /// Forward; `coefficients(logprobs)` answers dL/dlogprob of each target; backward to dL/dA and dL/dB.
    ///
    /// # Errors
    /// As [`Passes::scores`].
    fn gradients(
        &self,
        tree: &Tree,
        lora: &Lora,
        temperature: f32,
        coefficients: &mut dyn FnMut(&[f32]) -> Vec<f32>,
    ) -> Result<(Vec<f32>, Gradients), TrainError>;

    /// KL(from || to) at each target, in nats, in the tree's order; an adapter that is None is the bare model.
    ///
    /// # Errors
    /// As [`Passes::scores`].
    fn divergences(
        &self,
        tree: &Tree,
        between: (Option<&Lora>, Option<&Lora>),
        temperature: f32,
    ) -> Result<Vec<f32>, TrainError>;

    /// Bytes that [`Passes::gradients`] takes where it computes, estimated from above.
    fn memory_needed(&self, nodes: usize, targets: usize, rank: usize) -> u64;

    /// Whether gradients over so many nodes and targets fit the memory that is free.
    ///
    /// # Errors
    /// The numbers, if they do not.
    fn fits(&self, nodes: usize, targets: usize, rank: usize) -> Result<(), Error>;
}

impl Passes for Policy {
    fn header(&self) -> &Header {
        Policy::header(self)
    }

    fn computes_with(&self) -> String {
        self.kernels().to_string()
    }

    fn scores(&self, tree: &Tree, lora: Option<&Lora>, temperature: f32) -> Result<Scores, TrainError> {
        Policy::scores(self, tree, lora, temperature)
    }

    fn gradients(
        &self,
        tree: &Tree,
        lora: &Lora,
        temperature: f32,
        coefficients: &mut dyn FnMut(&[f32]) -> Vec<f32>,
    ) -> Result<(Vec<f32>, Gradients), TrainError> {
        Policy::gradients(self, tree, lora, temperature, coefficients)
    }

    fn divergences(
        &self,
        tree: &Tree,
        between: (Option<&Lora>, Option<&Lora>),
        temperature: f32,
    ) -> Result<Vec<f32>, TrainError> {
        Policy::divergences(self, tree, between, temperature)
    }

    fn memory_needed(&self, nodes: usize, targets: usize, rank: usize) -> u64 {
        Policy::memory_needed(self, nodes, targets, rank)
    }

    fn fits(&self, nodes: usize, targets: usize, rank: usize) -> Result<(), Error> {
        memory::check(self.least_memory(nodes, targets, rank))
    }
}
