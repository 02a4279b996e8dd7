//! llama.cpp behind the `Engine` trait: starts the worker process, restarts it when it dies, remembers which
//! adapter is in force. Messages are rendered and tokenised in the worker.

mod process;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::engine::cores::{Cores, Share};
use crate::engine::wire::{Job, Load, Loaded, Outcome, Prompt, ToWorker};
use crate::engine::{Completion, Constraint, Engine, ModelInfo, OnPiece, Request, Sampler, Timings, grammar};
use crate::error::EngineError;
use crate::gguf::{self, Header};

use process::Worker;

/// Deaths within the window below after which no further start is tried.
const DEATHS_MOST: usize = 3;
const DEATHS_WINDOW: Duration = Duration::from_secs(60);

/// What to serve and how. None means "choose what fits".
#[derive(Clone, Debug)]
pub struct EngineOptions {
    pub model: PathBuf,
    /// Tokens one sequence may hold.
    pub context: Option<usize>,
    /// Sequences that may run together, at least 1.
    pub sequences: usize,
    /// Compute threads; by default one less than the physical cores.
    pub threads: Option<usize>,
    /// Layers put on devices, negative for all; by default as many as fit.
    pub gpu_layers: Option<i32>,
    /// Adapter of the planner's context.
    pub adapter: Option<PathBuf>,
    /// Chat template text to use instead of the file's.
    pub chat_template: Option<String>,
    /// Where the worker's stderr is kept, as `engine.log`; None keeps only its tail in memory.
    pub log_dir: Option<PathBuf>,
    /// The program that knows `__engine`: this one.
    pub exe: PathBuf,
}

impl EngineOptions {
    /// Defaults for `model`, served by this very program.
    pub fn new(model: PathBuf) -> EngineOptions {
        let exe = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("tillerman"));
        EngineOptions {
            model,
            context: None,
            sequences: 1,
            threads: None,
            gpu_layers: None,
            adapter: None,
            chat_template: None,
            log_dir: None,
            exe,
        }
    }
}

/// What [`LlamaEngine::measure`] took.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub timings: Timings,
    /// Prompt tokens that were not there already.
    pub computed: usize,
}

/// The engine the program runs on. Cheap until first used: the worker starts with the first call.
pub struct LlamaEngine {
    options: EngineOptions,
    state: tokio::sync::Mutex<State>,
    /// The worker that runs, for those who only look.
    current: std::sync::Mutex<Option<Arc<Worker>>>,
    /// Whom it shares this machine with; None: nobody.
    cores: Option<Cores>,
}

struct State {
    served: Option<Arc<Served>>,
    /// A worker that was told to load; whoever asks next waits for the same one.
    starting: Option<Starting>,
    deaths: VecDeque<Instant>,
    adapter: Option<PathBuf>,
    /// blake3 of the model file, once taken.
    hash: Option<String>,
}

struct Starting {
    worker: Arc<Worker>,
    header: Header,
    hashing: Option<oneshot::Receiver<std::io::Result<String>>>,
}

/// A worker that has loaded its model.
struct Served {
    worker: Arc<Worker>,
    info: ModelInfo,
    header: Header,
    template_hash: String,
}

impl LlamaEngine {
    pub fn new(options: EngineOptions) -> LlamaEngine {
        let adapter = options.adapter.clone();
        LlamaEngine {
            options,
            state: tokio::sync::Mutex::new(State {
                served: None,
                starting: None,
                deaths: VecDeque::new(),
                adapter,
                hash: None,
            }),
            current: std::sync::Mutex::new(None),
            cores: None,
        }
    }

    /// Sample only while no training step computes.
    #[must_use]
    pub fn sharing(mut self, cores: Cores) -> LlamaEngine {
        self.cores = Some(cores);
        self
    }

    /// Process id of the worker, while one runs.
    pub fn worker_pid(&self) -> Option<u32> {
        let current = self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        current.as_ref().filter(|worker| worker.alive()).map(|worker| worker.pid())
    }

    /// Whether the worker has something to do: a load or a request under way.
    pub fn busy(&self) -> bool {
        let current = self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        current.as_ref().is_some_and(|worker| worker.alive() && worker.busy())
    }

    /// Sample exactly `count` tokens after `prompt`, ends ignored, as `complete` would. For measuring.
    ///
    /// # Errors
    /// As `complete`.
    pub async fn measure(&self, prompt: &str, count: usize) -> Result<Measured, EngineError> {
        let served = self.served().await?;
        let job = Job {
            adapter: false,
            prompt: Prompt::Plain(prompt.to_owned()),
            sampler: Sampler::greedy(),
            grammar: None,
            max_tokens: count,
            ignore_end: true,
        };
        let on_piece: OnPiece = Arc::new(|_| ());
        match served.worker.ask(|id| ToWorker::Complete { id, job }, Some(on_piece)).await? {
            Outcome::Completion(sampled) => {
                Ok(Measured { timings: sampled.timings, computed: sampled.prompt_ids.len() - sampled.reused })
            }
            _ => Err(wrong_answer()),
        }
    }

    /// End the worker now and give its memory back. The next request starts it again.
    pub async fn shutdown(&self) {
        // Closed before the lock is taken: whoever holds it may be waiting for this very worker to load.
        let worker = self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(worker) = worker {
            worker.close();
            worker.ended().await;
        }
        let mut state = self.state.lock().await;
        state.served = None;
        state.starting = None;
    }

    /// The running worker, started and loaded if need be.
    async fn served(&self) -> Result<Arc<Served>, EngineError> {
        let mut state = self.state.lock().await;
        if let Some(served) = &state.served
            && served.worker.alive()
        {
            return Ok(served.clone());
        }
        self.start(&mut state).await
    }

    async fn start(&self, state: &mut State) -> Result<Arc<Served>, EngineError> {
        if let Some(served) = state.served.take() {
            state.deaths.push_back(served.worker.died_at());
        }
        if state.starting.is_none() {
            state.starting = Some(self.spawn(state)?);
        }
        let Some(starting) = &mut state.starting else { return Err(EngineError::Cancelled) };
        let loaded = match starting.worker.loaded().await {
            Ok(loaded) => loaded,
            Err(error) => {
                if matches!(error, EngineError::Died { .. }) {
                    state.deaths.push_back(Instant::now());
                }
                state.starting = None;
                return Err(error);
            }
        };
        if let Some(hashing) = &mut starting.hashing {
            let hash = hashing.await.map_err(|_| EngineError::Other("hashing was cut off".to_owned()))?;
            starting.hashing = None;
            state.hash = Some(hash.map_err(|error| EngineError::ModelRefused {
                path: self.options.model.clone(),
                reason: error.to_string(),
            })?);
        }
        let Some(Starting { worker, header, .. }) = state.starting.take() else {
            return Err(EngineError::Cancelled);
        };
        let info = model_info(&loaded, &self.options.model, state.hash.clone().unwrap_or_default());
        let served = Arc::new(Served { worker, info, header, template_hash: loaded.template_hash });
        state.served = Some(served.clone());
        Ok(served)
    }

    /// Start a worker and tell it what to load, unless too many died just now.
    fn spawn(&self, state: &mut State) -> Result<Starting, EngineError> {
        state.deaths.retain(|at| at.elapsed() < DEATHS_WINDOW);
        if state.deaths.len() >= DEATHS_MOST {
            let wait = DEATHS_WINDOW.saturating_sub(state.deaths[0].elapsed()).as_secs() + 1;
            return Err(EngineError::LeftAlone { deaths: state.deaths.len(), wait });
        }
        let header = gguf::check(&self.options.model)?;
        if let Some(adapter) = &state.adapter {
            gguf::check_adapter(adapter, &header).map_err(gguf::GgufError::of_adapter)?;
        }
        let worker = Worker::spawn(&self.options.exe, self.options.log_dir.as_deref())?;
        *self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(worker.clone());
        let hashing = state.hash.is_none().then(|| hash_in_background(self.options.model.clone()));
        worker.load(Load {
            model: self.options.model.clone(),
            adapter: state.adapter.clone(),
            context: self.options.context,
            sequences: self.options.sequences.max(1),
            threads: self.options.threads,
            gpu_layers: self.options.gpu_layers,
            chat_template: self.options.chat_template.clone(),
        });
        Ok(Starting { worker, header, hashing })
    }
}

impl Drop for LlamaEngine {
    fn drop(&mut self) {
        let current = self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(worker) = current {
            worker.close();
        }
    }
}

#[async_trait]
impl Engine for LlamaEngine {
    async fn model(&self) -> Result<ModelInfo, EngineError> {
        Ok(self.served().await?.info.clone())
    }

    async fn complete(
        &self,
        request: Request,
        on_piece: Option<OnPiece>,
        cancel: CancellationToken,
    ) -> Result<Completion, EngineError> {
        let work = async {
            let served = self.served().await?;
            let job = Job {
                adapter: request.role.uses_adapter(),
                prompt: Prompt::Chat(request.messages),
                sampler: request.sampler,
                grammar: request.constraint.map(gbnf).transpose()?,
                max_tokens: request.max_tokens,
                ignore_end: false,
            };
            let outcome = served.worker.ask(|id| ToWorker::Complete { id, job }, on_piece).await?;
            let Outcome::Completion(sampled) = outcome else { return Err(wrong_answer()) };
            Ok(Completion {
                text: sampled.text,
                prompt_ids: sampled.prompt_ids,
                completion_ids: sampled.completion_ids,
                logprobs: sampled.logprobs,
                forced: sampled.forced,
                stop: sampled.stop,
                reused: sampled.reused,
                adapter: sampled.adapter,
                template_hash: served.template_hash.clone(),
                timings: sampled.timings,
                remote: None,
            })
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(EngineError::Cancelled),
            result = work => result,
        }
    }

    async fn set_adapter(&self, path: Option<PathBuf>) -> Result<Option<String>, EngineError> {
        let served = match self.served().await {
            // The adapter in force is what keeps the worker from starting: the new one takes its place.
            Err(EngineError::Adapter { .. }) => {
                self.state.lock().await.adapter = path.clone();
                self.served().await?
            }
            other => other?,
        };
        if let Some(path) = &path {
            gguf::check_adapter(path, &served.header).map_err(gguf::GgufError::of_adapter)?;
        }
        let wanted = path.clone();
        let outcome = served.worker.ask(|id| ToWorker::SetAdapter { id, path }, None).await?;
        let Outcome::Adapter(hash) = outcome else { return Err(wrong_answer()) };
        self.state.lock().await.adapter = wanted;
        Ok(hash)
    }

    async fn cores(&self, waits: &(dyn Fn() + Send + Sync)) -> Share {
        match &self.cores {
            Some(cores) => cores.share(waits).await,
            None => Share::default(),
        }
    }

    async fn score(&self, ids: Vec<i32>, adapter: bool) -> Result<Vec<f32>, EngineError> {
        let served = self.served().await?;
        let outcome = served.worker.ask(|id| ToWorker::Score { id, ids, adapter }, None).await?;
        let Outcome::Scores(scores) = outcome else { return Err(wrong_answer()) };
        Ok(scores)
    }
}

fn wrong_answer() -> EngineError {
    EngineError::Protocol("the worker answered another question".to_owned())
}

fn gbnf(constraint: Constraint) -> Result<String, EngineError> {
    match constraint {
        Constraint::Grammar(text) => Ok(text),
        Constraint::JsonSchema(text) => {
            let schema = serde_json::from_str(&text)
                .map_err(|error| EngineError::Grammar(format!("the schema is no JSON: {error}")))?;
            grammar::schema_to_gbnf(&schema)
        }
    }
}

/// blake3 of a file, hex, taken beside the load: both read the same pages.
fn hash_in_background(path: PathBuf) -> oneshot::Receiver<std::io::Result<String>> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let hash = || {
            let mut hasher = blake3::Hasher::new();
            std::io::copy(&mut crate::config::regular::open(&path)?, &mut hasher)?;
            Ok(hasher.finalize().to_hex().to_string())
        };
        // Nobody waits any more when the load failed first.
        let _ = sender.send(hash());
    });
    receiver
}

fn model_info(loaded: &Loaded, path: &Path, hash: String) -> ModelInfo {
    let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    ModelInfo {
        name: if loaded.name.is_empty() { stem() } else { loaded.name.clone() },
        path: path.to_owned(),
        hash,
        architecture: loaded.architecture.clone(),
        parameters: loaded.parameters,
        file_type: loaded.file_type.clone(),
        context: loaded.context,
        sequences: loaded.sequences,
        layers: loaded.layers,
        layers_offloaded: loaded.layers_offloaded,
        devices: loaded.devices.clone(),
        threads: loaded.threads,
        cpu_features: loaded.cpu_features.clone(),
        template: loaded.template.clone(),
        vocabulary: loaded.vocabulary,
        remote: Vec::new(),
    }
}
