//! One running pass: the clock, the budget, the record and the one way roles call the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::engine::cores::Share;
use crate::engine::{Completion, Constraint, Message, OnPiece, Request, Role, Sampler};
use crate::error::EngineError;
use crate::flow::event::{Body, Cause, Event, ModelCall, Progress, ProgressSource, Sink};
use crate::flow::solve::{Ask, Flow, QUERY_CHARS_MAX};
use crate::flow::trajectory::Trajectory;

/// Why a pass leaves its normal path.
#[derive(Debug)]
pub enum Halt {
    Engine(EngineError),
    Cancelled,
    /// Seconds or tokens are used up; the generator still answers.
    Limit(String),
    /// The query itself cannot be taken: (reason, remedy).
    Refused(String, String),
    /// The record could not be kept, so nothing more may happen.
    Record(String),
}

/// State of one pass. Roles borrow it mutably, one at a time, in the order the paper draws.
pub struct Run<'a> {
    pub flow: &'a Flow,
    pub ask: &'a Ask,
    pub cancel: CancellationToken,
    pub trajectory: Trajectory,
    /// The turn being taken; 0 outside turns.
    pub turn: usize,
    /// Earlier queries of the session that prompts leave out because they did not fit.
    pub(super) left_out: usize,
    sink: Arc<dyn Sink>,
    seq: u64,
    began: Instant,
    deadline: Option<Instant>,
    tokens_left: Option<usize>,
    calls: u64,
    /// Leave to sample.
    cores: Option<Share>,
}

impl<'a> Run<'a> {
    pub fn new(flow: &'a Flow, ask: &'a Ask, sink: Arc<dyn Sink>, cancel: CancellationToken) -> Run<'a> {
        let limits = &flow.limits;
        let began = Instant::now();
        Run {
            flow,
            ask,
            cancel,
            trajectory: Trajectory::default(),
            turn: 0,
            left_out: 0,
            sink,
            seq: 0,
            began,
            deadline: (limits.seconds > 0).then(|| began + Duration::from_secs(limits.seconds)),
            tokens_left: (limits.tokens > 0).then_some(limits.tokens),
            calls: 0,
            cores: None,
        }
    }

    /// Check the query and record the first event; everything after it can be told from the record.
    pub async fn start(&mut self) -> Result<(), Halt> {
        let model = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(EngineError::Cancelled),
            model = self.flow.engine.model() => model,
        };
        let (model, failed) = match model {
            Ok(model) => (model, None),
            Err(error) => (crate::engine::ModelInfo::default(), Some(error)),
        };
        self.record(Body::Started {
            query: self.ask.query.clone(),
            session: self.ask.session.clone(),
            conversation: self.ask.conversation.clone(),
            model,
            adapter: self.flow.adapter.clone(),
            pack: self.flow.pack.settings.name.clone(),
            tools: self.flow.toolbox.names().iter().map(ToString::to_string).collect(),
            limits: self.flow.limits.clone(),
            seed: self.ask.seed,
            started_ms: unix_ms(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            parent: self.ask.prior.as_ref().map(|prior| (prior.parent.clone(), prior.turns.len())),
            taint: self
                .ask
                .prior
                .as_ref()
                .map_or(self.ask.taint, |prior| self.ask.taint.with(prior.inherited)),
            sandbox: self.flow.toolbox.sandbox().map(str::to_string),
        })?;
        if let Some(error) = failed {
            return Err(halt(error));
        }
        let chars = self.ask.query.chars().count();
        if self.ask.query.trim().is_empty() {
            return Err(Halt::Refused("the query is empty".into(), "type a question".into()));
        }
        if chars > QUERY_CHARS_MAX {
            return Err(Halt::Refused(
                format!("the query has {chars} characters, the most taken is {QUERY_CHARS_MAX}"),
                "put the text into a file in a folder the search tool knows and ask about it".into(),
            ));
        }
        Ok(())
    }

    /// Have leave to sample from here on. The time that takes while a training step computes is not the query's.
    pub async fn enter(&mut self) -> Result<(), Halt> {
        let began = Instant::now();
        let waited = AtomicBool::new(false);
        let (sink, id) = (self.sink.clone(), self.ask.id.as_str());
        let waits = || {
            waited.store(true, Ordering::Release);
            sink.waits(id, true);
        };
        self.cores = Some(tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(Halt::Cancelled),
            share = self.flow.engine.cores(&waits) => share,
        });
        if waited.load(Ordering::Acquire) {
            sink.waits(id, false);
            self.began += began.elapsed();
            self.excuse(began.elapsed());
        }
        Ok(())
    }

    /// Give it back: what comes now is not sampling, and a step that waits need not wait for it.
    pub fn leave(&mut self) {
        self.cores = None;
    }

    /// Record one event and fold it into the trajectory, in that order.
    pub fn record(&mut self, body: Body) -> Result<(), Halt> {
        let event = Event {
            trajectory: self.ask.id.clone(),
            seq: self.seq,
            t_ms: self.began.elapsed().as_secs_f64() * 1e3,
            body,
        };
        self.seq += 1;
        self.trajectory.apply(&event);
        self.sink.record(event).map_err(Halt::Record)
    }

    pub fn record_call(&mut self, request: Request, completion: Completion) -> Result<(), Halt> {
        if let Some(left) = &mut self.tokens_left {
            *left = left.saturating_sub(completion.sampled());
        }
        let (role, turn) = (request.role, self.turn);
        self.record(Body::ModelCall(Box::new(ModelCall { role, turn, request, completion })))
    }

    /// One model call: budget and deadline checked, streamed, recorded.
    pub async fn call(
        &mut self,
        role: Role,
        messages: Vec<Message>,
        constraint: Option<Constraint>,
    ) -> Result<Completion, Halt> {
        let sampler = match role {
            Role::Planner => Sampler::temperature(self.temperature(), self.call_seed(role)),
            _ => Sampler { seed: self.call_seed(role), ..Sampler::greedy() },
        };
        let pieces = Some(self.pieces(role));
        self.complete(role, messages, constraint, sampler, pieces).await
    }

    /// The same with a sampler of the caller's; its text is not streamed.
    pub async fn quiet_call(
        &mut self,
        role: Role,
        messages: Vec<Message>,
        constraint: Option<Constraint>,
        sampler: Sampler,
    ) -> Result<Completion, Halt> {
        self.complete(role, messages, constraint, sampler, None).await
    }

    async fn complete(
        &mut self,
        role: Role,
        messages: Vec<Message>,
        constraint: Option<Constraint>,
        sampler: Sampler,
        pieces: Option<OnPiece>,
    ) -> Result<Completion, Halt> {
        let mut max_tokens = self.flow.pack.max_tokens(role);
        if let Some(left) = self.tokens_left {
            if left == 0 {
                return Err(Halt::Limit(format!("tokens ({})", self.flow.limits.tokens)));
            }
            max_tokens = max_tokens.min(left);
        }
        let request = Request { role, messages, sampler, constraint, max_tokens };
        let stop = self.cancel.child_token();
        let call = self.flow.engine.complete(request.clone(), pieces, stop.clone());
        let completion = tokio::select! {
            biased;
            completion = call => completion.map_err(halt)?,
            () = self.past_deadline() => {
                stop.cancel();
                return Err(Halt::Limit(self.time_limit()));
            }
        };
        self.record_call(request, completion.clone())?;
        Ok(completion)
    }

    fn temperature(&self) -> f32 {
        self.flow.planner_temperature.unwrap_or(self.flow.pack.settings.planner_temperature)
    }

    /// Seed of the next call, a fixed function of the trajectory's seed, role, turn and call number.
    pub fn call_seed(&mut self, role: Role) -> u64 {
        self.calls += 1;
        let label = format!("{} {} {} {}", self.ask.seed, role.name(), self.turn, self.calls);
        let hash = blake3::hash(label.as_bytes());
        let mut seed = [0; 8];
        seed.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(seed)
    }

    fn pieces(&self, role: Role) -> OnPiece {
        self.progress(ProgressSource::Role(role))
    }

    /// Where a tool's live output goes.
    pub fn tool_output(&self) -> OnPiece {
        self.progress(ProgressSource::Tool)
    }

    fn progress(&self, source: ProgressSource) -> OnPiece {
        let (sink, trajectory, turn) = (self.sink.clone(), self.ask.id.clone(), self.turn);
        Arc::new(move |text| {
            sink.progress(Progress { trajectory: trajectory.clone(), turn, source, text: text.to_string() });
        })
    }

    /// Resolves when the deadline is past; never, if there is none.
    pub async fn past_deadline(&self) {
        match self.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    }

    /// Time a person took to decide is not the query's.
    pub fn excuse(&mut self, time: Duration) {
        if let Some(deadline) = &mut self.deadline {
            *deadline += time;
        }
    }

    pub fn time_limit(&self) -> String {
        format!("seconds ({})", self.flow.limits.seconds)
    }

    /// Characters of a result that enter memory: the pack's figure within the flow's.
    pub fn result_chars(&self) -> usize {
        let limit = |chars: usize| if chars == 0 { usize::MAX } else { chars };
        limit(self.flow.limits.result_chars).min(limit(self.flow.pack.settings.result_chars))
    }

    /// The generator may always speak: at least this much time and this many tokens from now on.
    pub fn grant(&mut self, time: Duration, tokens: usize) {
        if let Some(deadline) = &mut self.deadline {
            *deadline = (*deadline).max(Instant::now() + time);
        }
        if let Some(left) = &mut self.tokens_left {
            *left = (*left).max(tokens);
        }
    }

    pub fn finish(&mut self, answer: String, turns: usize, stopped_by: &str) -> Result<(), Halt> {
        let seconds = self.began.elapsed().as_secs_f64();
        let tokens = self.trajectory.tokens;
        self.record(Body::Answered { answer, turns, seconds, tokens, stopped_by: stopped_by.to_string() })
    }

    /// Turn a halt into the last event. A record that cannot be kept is still told to the caller.
    pub fn halted(&mut self, halt: Halt) {
        let body = match halt {
            Halt::Cancelled | Halt::Engine(EngineError::Cancelled) => Body::Cancelled { turn: self.turn },
            Halt::Engine(error) => {
                let (reason, remedy) = error.told();
                Body::Failed { reason, remedy, cause: cause(&error) }
            }
            Halt::Limit(limit) => Body::Failed {
                reason: format!("limit reached: {limit}"),
                remedy: "raise the limit".into(),
                cause: Cause::Limit,
            },
            Halt::Refused(reason, remedy) => Body::Failed { reason, remedy, cause: Cause::Unknown },
            Halt::Record(reason) => Body::Failed {
                reason: format!("the record could not be kept: {reason}"),
                remedy: "see `tillerman doctor`; nothing recorded so far is lost".into(),
                cause: Cause::Record,
            },
        };
        // When even this cannot be recorded, the fold in `record` has already happened.
        let _ = self.record(body);
    }
}

fn halt(error: EngineError) -> Halt {
    match error {
        EngineError::Cancelled => Halt::Cancelled,
        other => Halt::Engine(other),
    }
}

fn cause(error: &EngineError) -> Cause {
    match error {
        EngineError::Died { .. } => Cause::EngineDied,
        EngineError::LeftAlone { .. } => Cause::EngineLeftAlone,
        EngineError::ContextOverflow { .. } => Cause::Limit,
        _ => Cause::Engine,
    }
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
