//! What computing log-probabilities and gradients can fail with.
//!
//! Everything that can be judged is judged before the first number is computed.

use std::path::PathBuf;

use crate::error::{EngineError, Error};

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TrainError {
    #[error(transparent)]
    Model(#[from] EngineError),
    /// The file is fine, but its family or a part of it has no backward pass here.
    #[error("{path:?} can be served but not trained: {reason}; {remedy}")]
    Unsupported { path: PathBuf, reason: String, remedy: String },
    /// A batch that does not fit together or does not fit the model.
    #[error("the batch is wrong: {0}")]
    Batch(String),
    /// An adapter that does not fit the model.
    #[error("the adapter is wrong: {0}")]
    Lora(String),
    /// A device that is missing, has no room, or computes wrongly.
    #[error(
        "training on device {device:?} is not possible: {why}; set train.device to \"cpu\", or train on fewer groups at once if it is memory"
    )]
    Device { device: String, why: String },
    #[error("{what} is not finite; the step was stopped and nothing was changed")]
    NotFinite { what: String },
}

impl From<TrainError> for Error {
    fn from(error: TrainError) -> Error {
        match error {
            TrainError::Model(error) => Error::Engine(error),
            error => Error::Train(error.to_string()),
        }
    }
}
