//! Completions: the one interface every role talks to, whoever answers behind it.
//!
//! `client`/`worker` run llama.cpp in a child process, `remote` asks an endpoint elsewhere, `router` sends
//! each role to its engine, `scripted` answers from a script: all through the same trait. An engine knows messages, tokens and log-probabilities; it knows no agent.

pub mod chat;
pub mod client;
pub mod cores;
pub mod ffi;
pub mod grammar;
pub mod http;
pub mod key;
#[cfg(target_os = "linux")]
pub mod metadata_calls;
pub mod peer;
pub mod remote;
pub mod router;
pub mod scripted;
pub mod wire;
pub mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::error::EngineError;

/// Who is asking. Decides the context: the planner's (adapter on) or the frozen one (adapter off).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Analyst,
    Planner,
    Executor,
    Verifier,
    Generator,
    /// The base-generator tool: the frozen model answering a sub-goal by itself.
    Base,
}

impl Role {
    pub const ALL: [Role; 6] =
        [Role::Analyst, Role::Planner, Role::Executor, Role::Verifier, Role::Generator, Role::Base];

    pub fn name(self) -> &'static str {
        match self {
            Role::Analyst => "analyst",
            Role::Planner => "planner",
            Role::Executor => "executor",
            Role::Verifier => "verifier",
            Role::Generator => "generator",
            Role::Base => "base",
        }
    }

    /// Only the planner is trained, so only its calls see the adapter.
    pub fn uses_adapter(self) -> bool {
        self == Role::Planner
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    System,
    User,
    Assistant,
}

impl Speaker {
    pub fn name(self) -> &'static str {
        match self {
            Speaker::System => "system",
            Speaker::User => "user",
            Speaker::Assistant => "assistant",
        }
    }
}

/// One chat message. The content is `parts` joined with nothing between them; each part is tokenised
/// by itself and with special-token parsing off, so no merge crosses a part boundary (a longer prompt
/// keeps a shorter one as its prefix, token for token) and no content becomes a control token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub speaker: Speaker,
    pub parts: Vec<String>,
}

impl Message {
    pub fn new(speaker: Speaker, parts: impl IntoIterator<Item = impl Into<String>>) -> Message {
        Message { speaker, parts: parts.into_iter().map(Into::into).collect() }
    }

    pub fn text(&self) -> String {
        self.parts.concat()
    }
}

/// How a completion is sampled. A zero switches the stage off; `temperature` 0 is greedy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampler {
    pub temperature: f32,
    pub top_k: i32,
    pub top_p: f32,
    pub min_p: f32,
    pub seed: u64,
}

impl Sampler {
    pub fn greedy() -> Sampler {
        Sampler { temperature: 0.0, top_k: 0, top_p: 0.0, min_p: 0.0, seed: 0 }
    }

    /// The only sampler training rollouts may use: temperature, nothing that truncates.
    pub fn temperature(temperature: f32, seed: u64) -> Sampler {
        Sampler { temperature, seed, ..Sampler::greedy() }
    }
}

/// What the completion's text must match. Tokens that only the constraint made possible are marked forced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Constraint {
    /// A JSON schema, as JSON text (the supported subset is in `grammar`).
    JsonSchema(String),
    /// A GBNF grammar with root rule `root`.
    Grammar(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub role: Role,
    pub messages: Vec<Message>,
    pub sampler: Sampler,
    pub constraint: Option<Constraint>,
    /// Most tokens to sample; 0 means as many as the context still holds.
    pub max_tokens: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// An end-of-generation token was sampled; it is the last of `completion_ids`.
    EndOfTurn,
    /// `max_tokens` or the end of the context was reached; the completion is truncated.
    Length,
    /// The grammar was complete and allowed nothing but the end.
    GrammarEnd,
}

/// Where a call's time went, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    pub queue_ms: f64,
    pub prefill_ms: f64,
    pub decode_ms: f64,
}

/// What was sampled, exactly as sampled. `completion_ids`, `logprobs` and `forced` have one entry per
/// sampled token. `logprobs[k]` is the natural log of softmax(logits / T)[id] over the whole vocabulary,
/// before truncation and constraint (T = 1 when greedy), in f32.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    pub text: String,
    pub prompt_ids: Vec<i32>,
    pub completion_ids: Vec<i32>,
    pub logprobs: Vec<f32>,
    /// The constraint refused what the policy drew and this token was drawn under the mask instead.
    pub forced: Vec<bool>,
    pub stop: Option<StopReason>,
    /// Prompt tokens whose KV was already there.
    pub reused: usize,
    /// Content hash of the adapter that was active, if the role uses one and one was loaded.
    pub adapter: Option<String>,
    /// blake3 of the chat template's text.
    pub template_hash: String,
    pub timings: Timings,
    /// Who answered, where it was not the local model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteCall>,
}

impl Completion {
    /// Tokens sampled: as recorded, or as a remote endpoint counted them.
    pub fn sampled(&self) -> usize {
        match &self.remote {
            Some(remote) if self.completion_ids.is_empty() => remote.completion_tokens,
            _ => self.completion_ids.len(),
        }
    }

    /// Tokens of prompt and reply together.
    pub fn context_used(&self) -> usize {
        match &self.remote {
            Some(remote) if self.prompt_ids.is_empty() => remote.prompt_tokens + self.sampled(),
            _ => self.prompt_ids.len() + self.sampled(),
        }
    }
}

/// What is known of a call that a remote engine answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RemoteCall {
    /// Its name in the settings.
    pub engine: String,
    /// The model, as the endpoint names it.
    pub model: String,
    /// As the endpoint counts; 0: it does not say.
    pub prompt_tokens: usize,
    /// As the endpoint counts; the pieces received, where it does not say.
    pub completion_tokens: usize,
    /// Requests it took.
    pub attempts: usize,
    /// The endpoint itself held the reply to the constraint.
    pub constrained: bool,
    /// Parameters the endpoint refused and that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Control tokens in the messages that were sent as text, a space within.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub split_tokens: usize,
    /// Why a planner's call cannot train; None: ids and log-probabilities are here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrainable: Option<String>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A role that a remote engine serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RemoteRole {
    pub role: Role,
    /// Its name in the settings.
    pub engine: String,
    pub model: String,
    /// Host and port.
    pub host: String,
}

/// What an engine serves, as shown in status lines and stored in every trajectory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    pub name: String,
    pub path: PathBuf,
    /// blake3 of the file, hex.
    pub hash: String,
    pub architecture: String,
    pub parameters: u64,
    /// e.g. "Q8_0"
    pub file_type: String,
    /// Tokens one sequence may hold.
    pub context: usize,
    /// Sequences that can run together.
    pub sequences: usize,
    pub layers: usize,
    pub layers_offloaded: usize,
    /// Device names in use, "CPU" when nothing else.
    pub devices: Vec<String>,
    pub threads: usize,
    /// CPU features llama.cpp was built with and uses, as it prints them.
    pub cpu_features: String,
    pub template: String,
    pub vocabulary: usize,
    /// The roles that remote engines serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remote: Vec<RemoteRole>,
}

/// Receives text as it is produced. Called from the engine's reader task: it must return at once.
pub type OnPiece = Arc<dyn Fn(&str) + Send + Sync>;

/// Anything that completes messages.
#[async_trait]
pub trait Engine: Send + Sync {
    /// What is served. Loads the model if that has not happened yet.
    async fn model(&self) -> Result<ModelInfo, EngineError>;

    /// Complete one request. Many may run at once; they share decode batches.
    ///
    /// # Errors
    /// Any [`EngineError`]; `Cancelled` within 100 ms of the token being cancelled.
    async fn complete(
        &self,
        request: Request,
        on_piece: Option<OnPiece>,
        cancel: CancellationToken,
    ) -> Result<Completion, EngineError>;

    /// Put the adapter file under the planner's context (None: none). Frozen KV is untouched.
    /// Answers the adapter's content hash.
    async fn set_adapter(&self, path: Option<PathBuf>) -> Result<Option<String>, EngineError>;

    /// Log-probabilities of `ids[1..]` given what precedes each, by one full forward (T = 1), with the
    /// planner's adapter or without. `ids.len() - 1` values.
    async fn score(&self, ids: Vec<i32>, adapter: bool) -> Result<Vec<f32>, EngineError>;

    /// Leave to sample on this machine, held as long as something does: a local model waits while a training step
    /// computes. `waits` is called once if that takes time. A model elsewhere waits for nobody here.
    async fn cores(&self, _waits: &(dyn Fn() + Send + Sync)) -> cores::Share {
        cores::Share::default()
    }

    /// Why what the planner samples here at this temperature cannot train; None: it can. A remote engine finds
    /// out with a reply of one token.
    ///
    /// # Errors
    /// The engine cannot be asked.
    async fn untrainable(&self, _temperature: f32) -> Result<Option<String>, EngineError> {
        Ok(None)
    }
}
