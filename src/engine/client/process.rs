//! One worker process from spawn to reaping, and the requests in flight on it. It restarts nothing.
//!
//! Three threads: the keeper spawns the child, reads its frames and reaps it (the child's parent-death signal
//! follows the spawning thread, so that thread must live as long); one drains stderr; the watchdog ends a
//! worker that is busy and silent.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::config::create_private;
use crate::engine::OnPiece;
use crate::engine::wire::{self, FromWorker, Load, Loaded, Outcome, ToWorker, VERSION};
use crate::error::EngineError;

/// A busy worker that says nothing for this long hangs.
const SILENCE: Duration = Duration::from_secs(120);
/// How much of the worker's stderr is kept for error messages, in bytes.
const STDERR_TAIL: usize = 8 * 1024;
/// The log starts over when it is longer than this.
const LOG_MOST: u64 = 4 << 20;

type Answer = Result<Outcome, EngineError>;

pub struct Worker {
    pid: u32,
    child: Mutex<Child>,
    input: Mutex<Option<ChildStdin>>,
    next_id: AtomicU64,
    state: Mutex<State>,
    /// Wakes the watchdog when the first request arrives or the worker ends.
    changed: Condvar,
}

struct State {
    requests: HashMap<u64, InFlight>,
    loading: Loading,
    load_waiting: Vec<oneshot::Sender<Result<Loaded, EngineError>>>,
    heard: Instant,
    stderr: VecDeque<u8>,
    /// Those who wait for its end.
    waiting: Vec<oneshot::Sender<()>>,
    /// When it ended, and what its parent was told of that.
    ended: Option<(Instant, Option<ExitStatus>)>,
    /// The client's own wish.
    closed: bool,
    /// The watchdog's doing.
    hung: bool,
    /// What was wrong with a frame, if that ended it.
    broken: Option<String>,
}

/// How far the worker is with its model.
enum Loading {
    NotAsked,
    Underway,
    Done(Box<Result<Loaded, EngineError>>),
}

impl State {
    fn busy(&self) -> bool {
        !self.requests.is_empty() || matches!(self.loading, Loading::Underway)
    }

    fn finish_loading(&mut self, result: Result<Loaded, EngineError>) {
        for waiting in self.load_waiting.drain(..) {
            let _ = waiting.send(result.clone());
        }
        self.loading = Loading::Done(Box::new(result));
    }
}

struct InFlight {
    answer: oneshot::Sender<Answer>,
    on_piece: Option<OnPiece>,
    decoding: bool,
}

impl Worker {
    /// Start a worker process; it loads nothing yet.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(exe: &Path, log_dir: Option<&Path>) -> Result<Arc<Worker>, EngineError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let exe = exe.to_owned();
        let log = log_dir.and_then(open_log);
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || match Worker::start(&exe) {
                Ok((worker, output, errors)) => {
                    let drained = drain_stderr(Arc::downgrade(&worker), errors, log);
                    let _ = sender.send(Ok(worker.clone()));
                    worker.keep(output, drained);
                }
                Err(error) => {
                    let _ = sender
                        .send(Err(EngineError::Other(format!("{} does not start: {error}", exe.display()))));
                }
            })
            .map_err(|error| EngineError::Other(format!("no thread for the engine: {error}")))?;
        let started = receiver.recv().map_err(|_| EngineError::Other("the engine thread died".to_owned()))?;
        if let Ok(worker) = &started {
            spawn_watchdog(worker);
        }
        started
    }

    fn start(exe: &Path) -> std::io::Result<(Arc<Worker>, impl Read + use<>, impl Read + Send + use<>)> {
        let mut child = Command::new(exe)
            .arg("__engine")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let missing = || std::io::Error::other("a pipe is missing");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let errors = child.stderr.take().ok_or_else(missing)?;
        let state = State {
            requests: HashMap::new(),
            loading: Loading::NotAsked,
            load_waiting: Vec::new(),
            heard: Instant::now(),
            stderr: VecDeque::new(),
            waiting: Vec::new(),
            ended: None,
            closed: false,
            hung: false,
            broken: None,
        };
        let worker = Worker {
            pid: child.id(),
            child: Mutex::new(child),
            input: Mutex::new(Some(input)),
            next_id: AtomicU64::new(1),
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        Ok((Arc::new(worker), output, errors))
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn alive(&self) -> bool {
        self.lock().ended.is_none()
    }

    pub fn busy(&self) -> bool {
        self.lock().busy()
    }

    pub fn died_at(&self) -> Instant {
        self.lock().ended.map_or_else(Instant::now, |(when, _)| when)
    }

    /// Close its input, at which it ends by itself. What is in flight counts as cancelled, not as a death.
    pub fn close(&self) {
        self.lock().closed = true;
        self.close_input();
    }

    fn close_input(&self) {
        self.input.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    }

    /// Wait until it is gone.
    pub async fn ended(&self) {
        let (sender, receiver) = oneshot::channel::<()>();
        {
            let mut state = self.lock();
            if state.ended.is_some() {
                return;
            }
            state.waiting.push(sender);
        }
        // Dropped by the keeper, which is the news.
        let _ = receiver.await;
    }

    /// Tell it what to load: the first thing asked of a worker. `loaded` answers how that went.
    pub fn load(&self, load: Load) {
        {
            let mut state = self.lock();
            if state.ended.is_some() {
                // It was quicker to die than to be asked; `loaded` has the reason.
                return;
            }
            state.loading = Loading::Underway;
            state.heard = Instant::now();
        }
        self.changed.notify_all();
        self.write(&ToWorker::Load(load));
    }

    /// Wait until it has loaded. Letting the future go does not stop the load.
    ///
    /// # Errors
    /// What the worker says, or that it died. The worker is gone after any error.
    pub async fn loaded(&self) -> Result<Loaded, EngineError> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.lock();
            match &state.loading {
                Loading::Done(result) => return (**result).clone(),
                _ => state.load_waiting.push(sender),
            }
        }
        receiver.await.unwrap_or_else(|_| Err(EngineError::Protocol("no load answer".to_owned())))
    }

    /// Send the request `message` makes of an id, and wait for its answer. Dropping the future cancels it.
    ///
    /// # Errors
    /// The worker's answer, or that it died.
    pub async fn ask(
        &self,
        message: impl FnOnce(u64) -> ToWorker,
        on_piece: Option<OnPiece>,
    ) -> Result<Outcome, EngineError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.lock();
            if let Some((_, status)) = state.ended {
                return Err(self.death(&state, status, "idle"));
            }
            if !state.busy() {
                state.heard = Instant::now();
                // What it said of work long done explains no death.
                state.stderr.clear();
            }
            state.requests.insert(id, InFlight { answer: sender, on_piece, decoding: false });
        }
        self.changed.notify_all();
        let cancel = OnDrop(Some(|| {
            if self.lock().requests.remove(&id).is_some() {
                self.write(&ToWorker::Cancel { id });
            }
        }));
        self.write(&message(id));
        let answer = receiver.await.unwrap_or_else(|_| Err(EngineError::Protocol("no answer".to_owned())));
        cancel.disarm();
        answer
    }

    /// A write that fails means that the worker died, which the keeper reports with its reason.
    fn write(&self, message: &ToWorker) {
        let mut bytes = Vec::new();
        if let Err(error) = wire::encode(message, &mut bytes) {
            self.answer_with(message, EngineError::Protocol(error.to_string()));
            return;
        }
        let mut input = self.input.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(input) = input.as_mut() {
            let _ = input.write_all(&bytes);
        }
    }

    fn answer_with(&self, message: &ToWorker, error: EngineError) {
        let (ToWorker::Complete { id, .. } | ToWorker::Score { id, .. } | ToWorker::SetAdapter { id, .. }) =
            message
        else {
            return;
        };
        if let Some(request) = self.lock().requests.remove(id) {
            let _ = request.answer.send(Err(error));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The keeper: frames until the pipe ends, then the reaping and the bad news.
    fn keep(&self, output: impl Read, drained: std::thread::JoinHandle<()>) {
        let mut output = BufReader::with_capacity(64 * 1024, output);
        let mut buffer = Vec::new();
        let mut greeted = false;
        loop {
            match wire::read::<FromWorker>(&mut output, &mut buffer) {
                Ok(Some(FromWorker::Hello { version })) if version == VERSION => greeted = true,
                Ok(Some(message)) if greeted => self.take(message),
                Ok(Some(_)) => {
                    let reason = "the worker is of another version; restart the program";
                    self.lock().broken = Some(reason.to_owned());
                    break;
                }
                Ok(None) => break,
                Err(error) => {
                    self.lock().broken = Some(error.to_string());
                    break;
                }
            }
        }
        let status = self.reap();
        // Its last words are worth a moment; a grandchild holding the pipe is not.
        let patience = Instant::now();
        while !drained.is_finished() && patience.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.bury(status);
    }

    fn take(&self, message: FromWorker) {
        let mut state = self.lock();
        state.heard = Instant::now();
        match message {
            FromWorker::Hello { .. } | FromWorker::Alive => {}
            FromWorker::Loaded(loaded) => state.finish_loading(Ok(*loaded)),
            FromWorker::LoadFailed(error) => state.finish_loading(Err(error)),
            FromWorker::Piece { id, text } => {
                let Some(request) = state.requests.get_mut(&id) else { return };
                request.decoding = true;
                let on_piece = request.on_piece.clone().filter(|_| !text.is_empty());
                // Not under the lock: the receiver may ask for something.
                drop(state);
                if let Some(on_piece) = on_piece {
                    on_piece(&text);
                }
            }
            FromWorker::Done { id, outcome } => {
                if let Some(request) = state.requests.remove(&id) {
                    let _ = request.answer.send(outcome);
                }
            }
        }
    }

    /// Wait for the child; one that closed its output but lingers is killed.
    fn reap(&self) -> Option<ExitStatus> {
        self.close_input();
        let patience = Instant::now();
        let mut child = self.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if patience.elapsed() < Duration::from_secs(2) => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(None) => {
                    let _ = child.kill();
                    return child.wait().ok();
                }
                Err(_) => return None,
            }
        }
    }

    fn bury(&self, status: Option<ExitStatus>) {
        let mut state = self.lock();
        state.ended = Some((Instant::now(), status));
        state.waiting.clear();
        let requests = std::mem::take(&mut state.requests);
        if !matches!(state.loading, Loading::Done(_)) {
            let death = self.death(&state, status, "loading");
            state.finish_loading(Err(death));
        }
        for request in requests.into_values() {
            let phase = if request.decoding { "decoding" } else { "reading the prompt" };
            let _ = request.answer.send(Err(self.death(&state, status, phase)));
        }
        drop(state);
        self.changed.notify_all();
    }

    fn death(&self, state: &State, status: Option<ExitStatus>, phase: &str) -> EngineError {
        if state.closed {
            return EngineError::Cancelled;
        }
        if let Some(reason) = &state.broken {
            return EngineError::Protocol(reason.clone());
        }
        let how = match status {
            _ if state.hung => format!("silent for {} s and was killed", SILENCE.as_secs()),
            Some(status) => match (status.signal(), status.code()) {
                (Some(signal), _) => format!("by {}", signal_name(signal)),
                (None, Some(code)) => format!("with exit code {code}"),
                (None, None) => "for an unknown reason".to_owned(),
            },
            None => "for an unknown reason".to_owned(),
        };
        let bytes: Vec<u8> = state.stderr.iter().copied().collect();
        let stderr = String::from_utf8_lossy(&bytes).into_owned();
        EngineError::Died { how, phase: phase.to_owned(), stderr }
    }
}

/// Runs its closure when dropped, unless disarmed: a future that is let go leaves through here.
struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> OnDrop<F> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}

fn open_log(dir: &Path) -> Option<File> {
    create_private(dir).ok()?;
    let path = dir.join("engine.log");
    let long = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LOG_MOST);
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.create(true).append(!long).write(true).truncate(long).open(path).ok()
}

/// Keep stderr's tail, and all of it in the log.
fn drain_stderr(
    worker: Weak<Worker>,
    mut errors: impl Read + Send + 'static,
    mut log: Option<File>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0u8; 4096];
        loop {
            let count = match errors.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            if let Some(log) = &mut log {
                // A full disk must not stop the engine.
                let _ = log.write_all(&buffer[..count]);
            }
            let Some(worker) = worker.upgrade() else { continue };
            let mut state = worker.lock();
            state.stderr.extend(&buffer[..count]);
            let excess = state.stderr.len().saturating_sub(STDERR_TAIL);
            state.stderr.drain(..excess);
        }
    })
}

/// Kill the worker when it is busy and silent for too long. Sleeps without a timer while it is idle.
fn spawn_watchdog(worker: &Arc<Worker>) {
    let worker = worker.clone();
    std::thread::spawn(move || {
        let mut state = worker.lock();
        while state.ended.is_none() {
            if !state.busy() {
                state = worker.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
                continue;
            }
            let silent = state.heard.elapsed();
            if silent >= SILENCE {
                state.hung = true;
                drop(state);
                let _ = worker.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).kill();
                return;
            }
            let wait = worker.changed.wait_timeout(state, SILENCE - silent);
            state = wait.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
    });
}

fn signal_name(signal: i32) -> String {
    match signal {
        libc::SIGABRT => "SIGABRT".to_owned(),
        libc::SIGBUS => "SIGBUS".to_owned(),
        libc::SIGFPE => "SIGFPE".to_owned(),
        libc::SIGILL => "SIGILL".to_owned(),
        libc::SIGKILL => "SIGKILL".to_owned(),
        libc::SIGSEGV => "SIGSEGV".to_owned(),
        libc::SIGTERM => "SIGTERM".to_owned(),
        other => format!("signal {other}"),
    }
}

#[cfg(test)]
mod tests;
