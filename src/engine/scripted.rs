//! An engine that answers from a script: the real trait, no model. It runs the true loop in tests and demos.
//!
//! Text is streamed in small pieces, token ids are the text's bytes and log-probabilities 0, so that records
//! are well-formed and visibly not from a policy.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Mutex;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::engine::{Completion, Engine, ModelInfo, OnPiece, Request, StopReason};
use crate::error::EngineError;

/// Characters per streamed piece.
const PIECE: usize = 4;
/// Token id that ends a scripted completion: the first that is no byte.
const END: i32 = 256;

/// What the script says: text, or a completion with every field chosen.
#[derive(Clone, Debug)]
pub enum Reply {
    Text(String),
    Completion(Box<Completion>),
}

impl From<&str> for Reply {
    fn from(text: &str) -> Reply {
        Reply::Text(text.to_owned())
    }
}

impl From<String> for Reply {
    fn from(text: String) -> Reply {
        Reply::Text(text)
    }
}

impl From<Completion> for Reply {
    fn from(completion: Completion) -> Reply {
        Reply::Completion(Box::new(completion))
    }
}

type Script = dyn Fn(&Request) -> Result<Reply, EngineError> + Send + Sync;

pub struct ScriptedEngine {
    script: Box<Script>,
    /// blake3 of the adapter file last set, as the real engine answers it.
    adapter: Mutex<Option<String>>,
}

impl ScriptedEngine {
    /// Answer each request with what `script` says.
    pub fn new<R: Into<Reply>>(
        script: impl Fn(&Request) -> Result<R, EngineError> + Send + Sync + 'static,
    ) -> ScriptedEngine {
        let script = Box::new(move |request: &Request| script(request).map(Into::into));
        ScriptedEngine { script, adapter: Mutex::new(None) }
    }

    /// Answer the requests in order, whoever asks; an error once the list is used up.
    pub fn list<R: Into<Reply>>(answers: impl IntoIterator<Item = R>) -> ScriptedEngine {
        let left: Mutex<VecDeque<Reply>> = Mutex::new(answers.into_iter().map(Into::into).collect());
        ScriptedEngine::new(move |request| {
            let next = left.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop_front();
            next.ok_or_else(|| {
                EngineError::Other(format!("the script has no answer left for the {}", request.role.name()))
            })
        })
    }
}

fn bytes_as_ids(text: &str) -> Vec<i32> {
    text.bytes().map(i32::from).collect()
}

fn completion(request: &Request, reply: Reply, adapter: Option<String>) -> Completion {
    let text = match reply {
        Reply::Completion(completion) => return *completion,
        Reply::Text(text) => text,
    };
    let prompt: String = request.messages.iter().map(|message| message.text()).collect();
    let mut ids = bytes_as_ids(&text);
    let mut stop = StopReason::EndOfTurn;
    let mut text = text;
    if request.max_tokens > 0 && ids.len() >= request.max_tokens {
        ids.truncate(request.max_tokens);
        stop = StopReason::Length;
        text = text
            .char_indices()
            .take_while(|(at, c)| at + c.len_utf8() <= ids.len())
            .map(|(_, c)| c)
            .collect();
    } else {
        ids.push(END);
    }
    Completion {
        text,
        prompt_ids: bytes_as_ids(&prompt),
        logprobs: vec![0.0; ids.len()],
        forced: vec![false; ids.len()],
        completion_ids: ids,
        stop: Some(stop),
        adapter: adapter.filter(|_| request.role.uses_adapter()),
        template_hash: blake3::hash(b"scripted").to_hex().to_string(),
        ..Completion::default()
    }
}

#[async_trait]
impl Engine for ScriptedEngine {
    async fn model(&self) -> Result<ModelInfo, EngineError> {
        Ok(ModelInfo {
            name: "scripted".to_owned(),
            architecture: "scripted".to_owned(),
            context: 1 << 20,
            sequences: 64,
            devices: vec!["CPU".to_owned()],
            threads: 1,
            vocabulary: 257,
            ..ModelInfo::default()
        })
    }

    async fn complete(
        &self,
        request: Request,
        on_piece: Option<OnPiece>,
        cancel: CancellationToken,
    ) -> Result<Completion, EngineError> {
        let reply = (self.script)(&request)?;
        let adapter = self.adapter.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let completion = completion(&request, reply, adapter);
        let characters: Vec<char> = completion.text.chars().collect();
        for piece in characters.chunks(PIECE) {
            // A real engine gives way between pieces, and that is where it notices a cancel.
            tokio::task::yield_now().await;
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            if let Some(on_piece) = &on_piece {
                on_piece(&piece.iter().collect::<String>());
            }
        }
        if cancel.is_cancelled() { Err(EngineError::Cancelled) } else { Ok(completion) }
    }

    async fn set_adapter(&self, path: Option<PathBuf>) -> Result<Option<String>, EngineError> {
        let hash = match path {
            None => None,
            Some(path) => {
                let bytes = std::fs::read(&path).map_err(|error| EngineError::Adapter {
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
                Some(blake3::hash(&bytes).to_hex().to_string())
            }
        };
        *self.adapter.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = hash.clone();
        Ok(hash)
    }

    async fn score(&self, ids: Vec<i32>, _adapter: bool) -> Result<Vec<f32>, EngineError> {
        Ok(vec![0.0; ids.len().saturating_sub(1)])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{Message, Role, Sampler, Speaker};

    fn request(max_tokens: usize) -> Request {
        Request {
            role: Role::Planner,
            messages: vec![Message::new(Speaker::User, ["Query: ", "hi"])],
            sampler: Sampler::greedy(),
            constraint: None,
            max_tokens,
        }
    }

    #[tokio::test]
    async fn answers_in_order_with_well_formed_records() {
        let engine = ScriptedEngine::list(["first añswer", "second"]);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let on_piece: OnPiece = Arc::new(move |piece| sink.lock().unwrap().push(piece.to_owned()));
        let first = engine.complete(request(0), Some(on_piece), CancellationToken::new()).await.unwrap();
        assert_eq!((first.text.as_str(), first.stop), ("first añswer", Some(StopReason::EndOfTurn)));
        assert_eq!(seen.lock().unwrap().concat(), first.text);
        assert!(seen.lock().unwrap().len() > 1);
        assert_eq!(first.prompt_ids, bytes_as_ids("Query: hi"));
        assert_eq!(first.completion_ids.len(), first.logprobs.len());
        assert_eq!(first.completion_ids.len(), first.forced.len());
        let second = engine.complete(request(3), None, CancellationToken::new()).await.unwrap();
        assert_eq!((second.text.as_str(), second.stop), ("sec", Some(StopReason::Length)));
        assert!(engine.complete(request(0), None, CancellationToken::new()).await.is_err());
    }

    #[tokio::test]
    async fn a_cancel_stops_the_stream() {
        let engine = ScriptedEngine::new(|_| Ok("a long answer that is cut"));
        let cancel = CancellationToken::new();
        let trigger = cancel.clone();
        let on_piece: OnPiece = Arc::new(move |_| trigger.cancel());
        let result = engine.complete(request(0), Some(on_piece), cancel).await;
        assert_eq!(result, Err(EngineError::Cancelled));
    }
}
