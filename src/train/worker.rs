//! The training worker: one process per step. A job comes in on stdin, phases and the outcome go out on
//! stdout; when stdin ends the parent is gone or has cancelled, and so ends the worker.
//!
//! It owns the step's memory, so that what a step takes is given back whole, and an abort or an
//! out-of-memory kill ends a step and nothing else. It reads a model and writes into the step's folder; where the
//! kernel can see to it (`engine::worker::confine`), it can do nothing else.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::engine::wire;
use crate::engine::worker::confine;
use crate::error::{EngineError, Error};
use crate::train::step::{Done, Job, Told, take};

/// What the worker says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromTrainer {
    /// What is being done now.
    Phase(String),
    /// A device begins to compute; if the worker dies from here on, its driver may be why.
    On(String),
    Done(Box<Done>),
    /// The step was refused or failed; nothing was changed.
    Failed(Failure),
}

/// An error as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Failure {
    Engine(EngineError),
    Train(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Engine(error) => Failure::Engine(error),
            Error::Train(text) => Failure::Train(text),
            other => Failure::Train(other.to_string()),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Engine(error) => Error::Engine(error),
            Failure::Train(text) => Error::Train(text),
        }
    }
}

/// Serve one job; answers the exit code.
pub fn run() -> i32 {
    let mut input = io::stdin().lock();
    let mut buffer = Vec::new();
    let job: Job = match wire::read(&mut input, &mut buffer) {
        Ok(Some(job)) => job,
        Ok(None) => return 0,
        Err(error) => return say(&FromTrainer::Failed(Failure::Train(format!("no job: {error}")))),
    };
    drop(input);
    if let Err(error) = confine(Some(&job.out)) {
        // One layer of several, as in the engine's worker.
        eprintln!("training worker: not confined: {error}");
    }
    std::thread::spawn(leave_with_the_parent);
    let mut tell = |what: Told| {
        say(&match what {
            Told::Phase(text) => FromTrainer::Phase(text.to_string()),
            Told::On(device) => FromTrainer::On(device.to_string()),
        });
    };
    match take(&job, &mut tell) {
        Ok(done) => say(&FromTrainer::Done(Box::new(done))),
        Err(error) => say(&FromTrainer::Failed(error.into())),
    }
}

fn say(message: &FromTrainer) -> i32 {
    let mut output = io::stdout().lock();
    i32::from(wire::write(&mut output, message).and_then(|()| output.flush()).is_err())
}

/// Nothing more is read; the end of stdin means that nobody waits for the step.
fn leave_with_the_parent() {
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    std::process::exit(130);
}
