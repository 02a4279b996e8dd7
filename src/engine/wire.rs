//! What passes between the deck and the engine worker: length-prefixed postcard frames, and their meaning.
//!
//! A frame is a little-endian u32 length and that many bytes. The worker says hello first; both sides are the
//! same program, so an unequal version means that the file on disk was replaced under a running deck.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::engine::{Message, Sampler, StopReason, Timings};
use crate::error::EngineError;

/// Raised whenever a type below changes.
pub const VERSION: u32 = 2;

/// Longest frame, in bytes.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;

/// What the worker loads at its start. Zeroes and None mean "choose".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    pub model: PathBuf,
    pub adapter: Option<PathBuf>,
    /// Tokens one sequence may hold.
    pub context: Option<usize>,
    /// Sequences that may run together.
    pub sequences: usize,
    pub threads: Option<usize>,
    pub gpu_layers: Option<i32>,
    /// Chat template text to use instead of the file's.
    pub chat_template: Option<String>,
}

/// What a completion follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Prompt {
    /// Rendered by the chat template. In the worker: a template may ask for all the memory there is.
    Chat(Vec<Message>),
    /// Text as it is.
    Plain(String),
}

/// One completion to compute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// In the planner's context, under its adapter.
    pub adapter: bool,
    pub prompt: Prompt,
    pub sampler: Sampler,
    /// GBNF with root rule `root`.
    pub grammar: Option<String>,
    /// 0: as many as the context holds.
    pub max_tokens: usize,
    /// Go on after an end token: for measuring speed.
    pub ignore_end: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    Load(Load),
    Complete { id: u64, job: Job },
    Cancel { id: u64 },
    SetAdapter { id: u64, path: Option<PathBuf> },
    Score { id: u64, ids: Vec<i32>, adapter: bool },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    Hello {
        version: u32,
    },
    Loaded(Box<Loaded>),
    LoadFailed(EngineError),
    /// Text of request `id`; empty when a token was sampled that completes no character.
    Piece {
        id: u64,
        text: String,
    },
    Done {
        id: u64,
        outcome: Result<Outcome, EngineError>,
    },
    /// Nothing happened but time passing: long loads and long prompts are no hang.
    Alive,
}

/// What the loaded model turned out to be. The client makes `ModelInfo` of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    pub name: String,
    pub architecture: String,
    pub parameters: u64,
    pub file_type: String,
    pub context: usize,
    pub sequences: usize,
    pub layers: usize,
    pub layers_offloaded: usize,
    pub devices: Vec<String>,
    pub threads: usize,
    pub cpu_features: String,
    pub vocabulary: usize,
    /// The file's chat template, "" when it has none.
    pub template: String,
    /// blake3 of the template in use.
    pub template_hash: String,
    pub bos: String,
    pub eos: String,
    /// Content hash of the adapter that was loaded with the model.
    pub adapter: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    Completion(Sampled),
    Adapter(Option<String>),
    Scores(Vec<f32>),
}

/// A finished completion as the worker knows it; see `Completion` for the fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    pub text: String,
    pub prompt_ids: Vec<i32>,
    pub completion_ids: Vec<i32>,
    pub logprobs: Vec<f32>,
    pub forced: Vec<bool>,
    pub stop: Option<StopReason>,
    pub reused: usize,
    pub adapter: Option<String>,
    pub timings: Timings,
}

/// Append one frame to `out`.
///
/// # Errors
/// `InvalidData` when the message is longer than a frame may be.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let taken = std::mem::take(out);
    *out = postcard::to_extend(message, taken).map_err(invalid)?;
    let length = out.len() - start - 4;
    if length > MAX_FRAME {
        out.truncate(start);
        return Err(invalid(format!("a frame of {length} bytes is over the limit of {MAX_FRAME}")));
    }
    out[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(())
}

/// Write one frame.
///
/// # Errors
/// As [`encode`], and what the stream says.
pub fn write<T: Serialize>(stream: &mut impl Write, message: &T) -> io::Result<()> {
    let mut bytes = Vec::new();
    encode(message, &mut bytes)?;
    stream.write_all(&bytes)?;
    stream.flush()
}

/// Read one frame; None when the stream ended between two.
///
/// # Errors
/// `InvalidData` for a frame that is too long or no message, and what the stream says.
pub fn read<T: DeserializeOwned>(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Option<T>> {
    let mut header = [0u8; 4];
    let mut got = 0;
    while got < 4 {
        match stream.read(&mut header[got..]) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_FRAME {
        return Err(invalid(format!("a frame of {length} bytes is over the limit of {MAX_FRAME}")));
    }
    buffer.resize(length, 0);
    stream.read_exact(buffer)?;
    postcard::from_bytes(buffer).map(Some).map_err(invalid)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_went() {
        let mut bytes = Vec::new();
        let first = FromWorker::Piece { id: 7, text: "añ".to_owned() };
        let second = FromWorker::Done { id: 8, outcome: Err(EngineError::Cancelled) };
        encode(&first, &mut bytes).unwrap();
        encode(&second, &mut bytes).unwrap();
        let (mut stream, mut buffer) = (bytes.as_slice(), Vec::new());
        assert_eq!(read(&mut stream, &mut buffer).unwrap(), Some(first));
        assert_eq!(read(&mut stream, &mut buffer).unwrap(), Some(second));
        assert_eq!(read::<FromWorker>(&mut stream, &mut buffer).unwrap(), None);
    }

    #[test]
    fn a_cut_or_oversized_frame_is_an_error() {
        let mut bytes = Vec::new();
        encode(&FromWorker::Alive, &mut bytes).unwrap();
        let mut buffer = Vec::new();
        for cut in 1..bytes.len() {
            assert!(read::<FromWorker>(&mut &bytes[..cut], &mut buffer).is_err(), "cut at {cut}");
        }
        let huge = (MAX_FRAME as u32 + 1).to_le_bytes();
        assert!(read::<FromWorker>(&mut huge.as_slice(), &mut buffer).is_err());
        assert!(read::<FromWorker>(&mut [1, 0, 0, 0, 250].as_slice(), &mut buffer).is_err());
    }
}
