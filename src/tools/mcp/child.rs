//! The process of an MCP server: started without a terminal and with a named environment, ended with its own
//! children, gone when this program is. What it says over its streams is the business of others.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::card::scrubbed;
use crate::tools::sandbox;

/// The argument that makes this binary start a server in its own place.
pub const SUBCOMMAND: &str = "__mcp";
/// Bytes of its stderr that are kept for messages.
const STDERR_TAIL: usize = 4 << 10;
/// How long it may take to end after its input has.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long its last words may take to arrive once it has ended: what it started and let loose may hold its
/// stderr open for ever.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Variables every server gets; the rest is named in the settings.
const ENVIRONMENT: [&str; 7] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "TZ"];

/// A running server.
pub struct Child {
    pid: u32,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// It was waited for, or is about to be: its id may be another process's, which must not be signalled.
    reaped: bool,
    ended: Option<String>,
    /// Nothing more comes on its stderr.
    drained: bool,
    stderr: VecDeque<u8>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Look at the state once `done` holds, or after `most`.
    fn wait(&self, most: Duration, done: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.lock(), most, |state| !done(state));
        waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// The two ends of its streams.
pub struct Pipes {
    pub input: tokio::process::ChildStdin,
    pub output: tokio::process::ChildStdout,
}

impl Child {
    /// Start `argv` through `exe`, this program. Must be called inside a runtime.
    ///
    /// # Errors
    /// The system's words; a program that does not exist ends at once and says so on stderr.
    pub fn spawn(exe: &Path, argv: &[String], env: &[String]) -> std::io::Result<(Child, Pipes)> {
        let mut command = Command::new(exe);
        command.arg(SUBCOMMAND).arg("--").args(argv).current_dir("/").env_clear();
        let wanted = ENVIRONMENT.iter().copied().chain(env.iter().map(String::as_str));
        command.envs(wanted.filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let shared = Arc::new(Shared::default());
        let kept = shared.clone();
        // The child's parent-death signal follows the thread that starts it, so that thread stays until the end.
        std::thread::Builder::new().name("mcp server".to_string()).spawn(move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => return drop(sender.send(Err(error))),
            };
            let pipes = (child.stdin.take(), child.stdout.take());
            match child.stderr.take() {
                Some(errors) => drain(kept.clone(), errors),
                None => kept.lock().drained = true,
            }
            let pid = child.id();
            let _ = sender.send(Ok((pid, pipes)));
            if sandbox::until_ended(pid) {
                // What it started itself and left behind goes too, while nobody else can have its id.
                let mut state = kept.lock();
                sandbox::kill_session(pid);
                state.reaped = true;
            }
            let status = child.wait();
            kept.change(|state| state.reaped = true);
            kept.wait(LAST_WORDS, |state| state.drained).ended =
                Some(status.map_or_else(|e| e.to_string(), how));
            kept.changed.notify_all();
        })?;
        let gone = || std::io::Error::other("the thread that starts it died");
        let (pid, (input, output)) = receiver.recv().map_err(|_| gone())??;
        let missing = || std::io::Error::other("a pipe is missing");
        let child = Child { pid, shared };
        let input = tokio::process::ChildStdin::from_std(input.ok_or_else(missing)?)?;
        let output = tokio::process::ChildStdout::from_std(output.ok_or_else(missing)?)?;
        Ok((child, Pipes { input, output }))
    }

    /// How it ended and its last words; None while it runs, after a moment's patience.
    pub async fn ended(&self) -> Option<String> {
        let shared = self.shared.clone();
        let wait = move || {
            let state = shared.wait(PATIENCE + LAST_WORDS, |state| state.ended.is_some());
            let how = state.ended.clone()?;
            let words: Vec<u8> = state.stderr.iter().copied().collect();
            let words = crate::text::safe(&scrubbed(&String::from_utf8_lossy(&words)));
            let last: Vec<&str> = words.trim().lines().rev().take(3).collect();
            let words = last.into_iter().rev().collect::<Vec<_>>().join(" / ");
            Some(if words.is_empty() { how } else { format!("{how}; its last words: {words}") })
        };
        tokio::task::spawn_blocking(wait).await.ok().flatten()
    }
}

impl Drop for Child {
    /// Its input is closed by now, at which a server ends; one that does not is killed.
    fn drop(&mut self) {
        if self.shared.lock().reaped {
            return;
        }
        let (pid, shared) = (self.pid, self.shared.clone());
        let end = move || kill(pid, &shared.wait(PATIENCE, |state| state.reaped));
        if std::thread::Builder::new().spawn(end).is_err() {
            kill(self.pid, &self.shared.lock());
        }
    }
}

/// The lock keeps it from being waited for meanwhile.
fn kill(pid: u32, state: &MutexGuard<'_, State>) {
    if !state.reaped {
        sandbox::kill_session(pid);
    }
}

fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".to_string(),
    }
}

/// Keep the end of what it says, in a thread that nobody waits for.
fn drain(shared: Arc<Shared>, mut errors: impl Read + Send + 'static) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = errors.read(&mut buffer) {
            let mut state = shared.lock();
            state.stderr.extend(&buffer[..count]);
            let over = state.stderr.len().saturating_sub(STDERR_TAIL);
            state.stderr.drain(..over);
        }
        shared.change(|state| state.drained = true);
    });
}

/// What `tillerman __mcp -- PROGRAM ARGUMENT...` does: leave the terminal, tie its life to this program's, and
/// become the server. Returns only when that fails.
pub fn become_server(argv: &[OsString]) -> i32 {
    use std::os::unix::process::CommandExt as _;
    let Some((program, arguments)) = argv.split_first() else {
        eprintln!("no program to start");
        return 2;
    };
    if let Err(error) = sandbox::leave_terminal() {
        eprintln!("cannot leave the terminal: {error}");
        return 126;
    }
    let error = Command::new(program).args(arguments).exec();
    eprintln!("{} does not start: {error}", program.to_string_lossy());
    127
}
