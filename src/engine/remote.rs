//! An engine elsewhere: any endpoint that speaks the OpenAI chat API, behind the `Engine` trait.
//!
//! Contacts the address in the settings and nothing else: no redirect is followed, no proxy is used. Retries
//! what may pass, never once a piece was shown. The endpoint tokenises: what it does not tell of tokens is left
//! empty here, never guessed, and a planner's call without it is marked as unable to train.

mod body;
mod http;
pub mod plain;
pub mod reply;
pub mod sse;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config::Remote;
use crate::engine::{
    Completion, Engine, Message, ModelInfo, OnPiece, RemoteCall, Request, Role, Sampler, Speaker, Timings,
};
use crate::error::{EngineError, RemoteFault};

use body::Terms;
use http::{Failure, Http, Told};

/// The first wait before another attempt; it doubles with each.
const WAIT_FIRST: Duration = Duration::from_millis(500);
/// The longest wait of our own.
const WAIT_MOST: Duration = Duration::from_secs(20);
/// What an endpoint may ask for; longer, and the person should know instead of waiting.
const WAIT_ASKED_MOST: Duration = Duration::from_secs(60);
/// Context where neither the settings nor the endpoint say.
const CONTEXT_GUESS: usize = 8192;

/// See the file's head. Cheap until first used.
pub struct RemoteEngine {
    name: String,
    settings: Remote,
    http: std::sync::OnceLock<Result<Http, RemoteFault>>,
    gate: Semaphore,
    terms: Mutex<Terms>,
    served: OnceCell<ModelInfo>,
    trial: OnceCell<Option<String>>,
}

impl RemoteEngine {
    /// `name` is the engine's in the settings.
    pub fn new(name: &str, settings: Remote) -> RemoteEngine {
        RemoteEngine {
            name: name.to_string(),
            gate: Semaphore::new(settings.parallel.max(1)),
            settings,
            http: std::sync::OnceLock::new(),
            terms: Mutex::default(),
            served: OnceCell::new(),
            trial: OnceCell::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Host and port that are contacted.
    pub fn host(&self) -> String {
        self.settings.host()
    }

    fn http(&self) -> Result<&Http, EngineError> {
        let made = self.http.get_or_init(|| Http::new(&self.settings));
        made.as_ref().map_err(|fault| self.fault(fault.clone()))
    }

    fn fault(&self, fault: RemoteFault) -> EngineError {
        EngineError::Remote { engine: self.name.clone(), fault }
    }

    fn terms(&self) -> Terms {
        self.terms.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn learn(&self, learned: &Terms) {
        self.terms.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).merge(learned);
    }

    /// Wait before attempt number `next`, or give the failure back where that is no use.
    async fn wait(&self, next: usize, failure: Failure) -> Result<(), EngineError> {
        if !failure.passing || next > self.settings.retries + 1 {
            return Err(self.fault(failure.fault));
        }
        let wait = match failure.wait {
            Some(asked) if asked > WAIT_ASKED_MOST => {
                let why = format!("{}; it asks to wait {} s", failure.fault, asked.as_secs());
                return Err(self.fault(RemoteFault::Unable(why)));
            }
            Some(asked) => asked,
            None => back_off(next - 1),
        };
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Ask until an answer comes or trouble lasts; answers it with the number of requests, what was sent and on
    /// which terms.
    async fn ask(
        &self,
        request: &Request,
        model: &str,
        on_piece: Option<&OnPiece>,
    ) -> Result<(Told, usize, Value, Terms), EngineError> {
        let http = self.http()?;
        let (mut attempts, mut tried) = (0, 0);
        // A copy: requests under way together are refused the same thing each, and a refusal that leaving out
        // did not help (too long a prompt, say) was about something else.
        let mut terms = self.terms();
        loop {
            let sent = body::body(&self.settings, model, request, &terms);
            attempts += 1;
            match http.chat(&sent, on_piece).await {
                Ok(told) => {
                    self.learn(&terms);
                    return Ok((told, attempts, sent, terms));
                }
                Err(failure) if gives_in(&mut terms, &sent, &failure) => {}
                Err(failure) => {
                    tried += 1;
                    self.wait(tried + 1, failure).await?;
                }
            }
        }
    }

    async fn answer(
        &self,
        request: Request,
        on_piece: Option<OnPiece>,
        asked: Instant,
    ) -> Result<Completion, EngineError> {
        let model = self.served().await?.name.clone();
        let Ok(_permit) = self.gate.acquire().await else { return Err(EngineError::Cancelled) };
        let (told, attempts, sent, terms) = self.ask(&request, &model, on_piece.as_ref()).await?;
        let constrained = body::constrains(&sent);
        let left_out = terms.left_out(&request);
        let split_tokens = body::control_tokens(&request);
        Ok(self.completion(
            &request,
            told,
            asked,
            RemoteCall { attempts, constrained, left_out, split_tokens, ..RemoteCall::default() },
        ))
    }

    fn completion(&self, request: &Request, told: Told, asked: Instant, call: RemoteCall) -> Completion {
        let Told { reply, first, whole } = told;
        let untrainable = reply.untrainable(request, self.settings.processed_logprobs);
        let untrainable = untrainable.filter(|_| request.role.uses_adapter());
        let stop = reply.stop();
        // Log-probabilities that are not those of the sampled distribution would be worse than none.
        let logprobs = if untrainable.is_some() { Vec::new() } else { reply.logprobs };
        let (prompt_tokens, completion_tokens) = reply.usage.unwrap_or((0, reply.pieces));
        let text = match request.constraint.as_ref().and_then(|_| reply::unwrapped(&reply.text)) {
            Some(json) => json.to_string(),
            None => reply.text,
        };
        Completion {
            text,
            forced: vec![false; reply.ids.len()],
            prompt_ids: reply.prompt_ids,
            completion_ids: reply.ids,
            logprobs,
            stop,
            timings: Timings {
                queue_ms: (asked.elapsed().saturating_sub(whole)).as_secs_f64() * 1e3,
                prefill_ms: first.as_secs_f64() * 1e3,
                decode_ms: whole.saturating_sub(first).as_secs_f64() * 1e3,
            },
            remote: Some(RemoteCall {
                engine: self.name.clone(),
                model: reply.model,
                prompt_tokens,
                completion_tokens,
                untrainable,
                ..call
            }),
            ..Completion::default()
        }
    }

    /// What the endpoint serves; asked once.
    async fn served(&self) -> Result<&ModelInfo, EngineError> {
        self.served.get_or_try_init(|| self.find_served()).await
    }

    async fn find_served(&self) -> Result<ModelInfo, EngineError> {
        let http = self.http()?;
        let mut tried = 0;
        let listed = loop {
            match http.models().await {
                Ok(listed) => break listed,
                // Not every endpoint lists its models; those must be named.
                Err(Failure { fault: RemoteFault::Refused { status: 404 | 405 | 501, .. }, .. }) => {
                    break Value::Null;
                }
                Err(failure) => {
                    tried += 1;
                    self.wait(tried + 1, failure).await?;
                }
            }
        };
        let models = listed["data"].as_array().map_or(&[][..], Vec::as_slice);
        let wanted = self.settings.model.as_str();
        let found = models.iter().find(|model| wanted.is_empty() || model["id"] == wanted);
        let name = match (wanted, found.and_then(|model| model["id"].as_str())) {
            ("", None) => {
                let why = format!(
                    "{} lists no model; name one with engine.remote.{}.model",
                    self.host(),
                    self.name
                );
                return Err(self.fault(RemoteFault::Unable(why)));
            }
            ("", Some(first)) => first,
            (wanted, _) => wanted,
        };
        Ok(self.info(name, found))
    }

    fn info(&self, name: &str, found: Option<&Value>) -> ModelInfo {
        let said = found.and_then(|model| {
            let places =
                [model.get("max_model_len"), model.pointer("/meta/n_ctx"), model.get("context_length")];
            places.into_iter().flatten().find_map(Value::as_u64)
        });
        let context = match (self.settings.context, said) {
            (0, Some(said)) => said as usize,
            (0, None) => CONTEXT_GUESS,
            (set, _) => set,
        };
        // Weights elsewhere have no file to hash: the address and the name are all there is to tell them apart.
        let identity = format!("remote {} {name}", self.settings.url.trim_end_matches('/'));
        ModelInfo {
            name: name.to_string(),
            hash: blake3::hash(identity.as_bytes()).to_hex().to_string(),
            architecture: "remote".to_string(),
            context,
            sequences: self.settings.parallel.max(1),
            devices: vec![self.host()],
            ..ModelInfo::default()
        }
    }

    fn unable(&self, what: &str) -> EngineError {
        self.fault(RemoteFault::Unable(format!(
            "{what} needs the model's weights, and they are elsewhere; set engine.roles.planner = \"local\""
        )))
    }

    /// One token at temperature 1, to see what comes with it.
    async fn try_out(&self) -> Result<Option<String>, EngineError> {
        let request = Request {
            role: Role::Planner,
            messages: vec![Message::new(Speaker::User, ["Say yes."])],
            sampler: Sampler::temperature(1.0, 1),
            constraint: None,
            max_tokens: 1,
        };
        let completion = self.answer(request, None, Instant::now()).await?;
        Ok(completion.remote.and_then(|remote| remote.untrainable))
    }
}

/// Learn from a refusal; false: nothing can be left out for it.
fn gives_in(terms: &mut Terms, sent: &Value, failure: &Failure) -> bool {
    match &failure.fault {
        RemoteFault::Refused { status, why, .. } if failure.about_request => {
            terms.give_in(sent, *status, why)
        }
        _ => false,
    }
}

/// Half to all of a wait that doubles, so that many who were refused together do not come back together.
fn back_off(retry: usize) -> Duration {
    let doubled = WAIT_FIRST.saturating_mul(1 << (retry.saturating_sub(1)).min(8)).min(WAIT_MOST);
    doubled.mul_f64(0.5 + 0.5 * rand::random::<f64>())
}

#[async_trait]
impl Engine for RemoteEngine {
    async fn model(&self) -> Result<ModelInfo, EngineError> {
        self.served().await.cloned()
    }

    async fn complete(
        &self,
        request: Request,
        on_piece: Option<OnPiece>,
        cancel: CancellationToken,
    ) -> Result<Completion, EngineError> {
        // Dropping the request closes its connection, which is how an endpoint hears of a cancel.
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(EngineError::Cancelled),
            result = self.answer(request, on_piece, Instant::now()) => result,
        }
    }

    async fn set_adapter(&self, path: Option<PathBuf>) -> Result<Option<String>, EngineError> {
        match path {
            None => Ok(None),
            Some(_) => Err(self.unable("an adapter")),
        }
    }

    async fn score(&self, _ids: Vec<i32>, _adapter: bool) -> Result<Vec<f32>, EngineError> {
        Err(self.unable("scoring"))
    }

    async fn untrainable(&self, temperature: f32) -> Result<Option<String>, EngineError> {
        let trial = self.trial.get_or_try_init(|| self.try_out()).await?;
        Ok(trial.clone().or_else(|| reply::other_scale(temperature, self.settings.processed_logprobs)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_differ() {
        for retry in 1..40 {
            let full = (500 * (1u64 << (retry - 1).min(8))).min(20_000);
            let wait = back_off(retry).as_millis() as u64;
            assert!(wait >= full / 2 && wait <= full, "{retry}: {wait}");
        }
        assert!((0..20).any(|_| back_off(6) != back_off(6)));
    }
}
