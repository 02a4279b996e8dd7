//! What a training step asks of a model, whatever computes it: the CPU (`model`) or a device (`device`); and the
//! checks that both make of what they are given and of what they computed.

use crate::error::Error;
use crate::gguf::Header;
use crate::train::error::TrainError;
use crate::train::lora::{Gradients, Lora};
use crate::train::tree::Tree;

/// What a forward says of each target.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// log softmax(logits / T)[token]
    pub logprobs: Vec<f32>,
    /// Of softmax(logits / T), in nats.
    pub entropies: Vec<f32>,
}

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

/// # Errors
/// [`TrainError::Batch`] if logits cannot be divided by it.
pub(super) fn check_temperature(temperature: f32) -> Result<(), TrainError> {
    if temperature.is_finite() && temperature > 0.0 {
        return Ok(());
    }
    Err(TrainError::Batch(format!("temperature {temperature}; it must be positive")))
}

/// dL/dlogprob of each target, as the caller of [`Passes::gradients`] answers it.
///
/// # Errors
/// [`TrainError::Batch`] if it is not one number a target, [`TrainError::NotFinite`] if one is not finite.
pub(super) fn ask_coefficients(
    tree: &Tree,
    logprobs: &[f32],
    coefficients: &mut dyn FnMut(&[f32]) -> Vec<f32>,
) -> Result<Vec<f32>, TrainError> {
    let coefficients = coefficients(logprobs);
    if coefficients.len() != tree.targets.len() {
        let reason = format!("{} coefficients, {} targets", coefficients.len(), tree.targets.len());
        return Err(TrainError::Batch(reason));
    }
    check_finite(&coefficients, "a coefficient")?;
    Ok(coefficients)
}

/// # Errors
/// [`TrainError::NotFinite`] if one is not.
pub(super) fn check_finite(values: &[f32], what: &str) -> Result<(), TrainError> {
    if values.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    Err(TrainError::NotFinite { what: what.to_string() })
}

/// # Errors
/// [`TrainError::NotFinite`] if one number of a pair is not.
pub(super) fn check_gradients(gradients: &Gradients) -> Result<(), TrainError> {
    gradients.pairs.iter().flat_map(|(a, b)| [a, b]).try_for_each(|half| check_finite(half, "a gradient"))
}
