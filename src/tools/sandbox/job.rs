//! The starter's side: one program run in the sandbox, its output kept, its end decided.
//!
//! Dropping the future of [`run`] ends the program and everything it started.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Limits, Policy, RUN_DIR, STATUS_FD, SUBCOMMAND, Status, Tier, Workspace};
use crate::engine::OnPiece;

/// How long output may still come once everything has been killed: what a busy machine delays has not survived.
const DRAIN: Duration = Duration::from_secs(10);

/// What to run and how far it may go.
#[derive(Clone)]
pub struct Job {
    /// The tillerman binary.
    pub exe: PathBuf,
    /// Program (a path inside the private root) and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Name and content of files in the run directory.
    pub files: Vec<(String, String)>,
    /// Directories outside /usr that the program needs, read-only.
    pub binds: Vec<PathBuf>,
    /// Shown read-only as `data` in the run directory.
    pub data: Option<PathBuf>,
    /// Shown at `WORKSPACE_DIR`.
    pub workspace: Option<Workspace>,
    /// Where the program starts, inside the private root.
    pub cwd: PathBuf,
    pub tier: Tier,
    /// The bubblewrap of tier B.
    pub bwrap: PathBuf,
    pub limits: Limits,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Exited(i32),
    Signalled(i32),
    /// Past `wall_ms`.
    Wall,
    Memory,
    Processes,
    /// More output than `flood_bytes`.
    Flood,
    Cancelled,
    /// The sandbox could not be set up: nothing ran.
    Setup(String),
}

/// Output, its middle dropped where there was too much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    /// All bytes that came.
    pub total: usize,
}

impl Kept {
    fn push(&mut self, bytes: &[u8], cap: usize) {
        self.total += bytes.len();
        let half = cap / 2;
        let (head, rest) = bytes.split_at(bytes.len().min(half - self.head.len().min(half)));
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(half);
        self.tail.drain(..excess);
    }

    /// As text, with a line that says how much is missing.
    pub fn text(&self) -> String {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        let missing = self.total - self.head.len() - tail.len();
        if missing == 0 {
            return String::from_utf8_lossy(&[self.head.as_slice(), &tail].concat()).into_owned();
        }
        let (head, tail) = (String::from_utf8_lossy(&self.head), String::from_utf8_lossy(&tail));
        format!("{head}\n[{missing} bytes left out]\n{tail}")
    }
}

/// What a run left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub end: End,
    pub stdout: Kept,
    pub stderr: Kept,
    /// Something still held the output open long after the kill. Must never be true.
    pub survivors: bool,
    pub time: Duration,
}

/// Run the job to its end. Never fails: what could not be set up is [`End::Setup`].
pub async fn run(job: Job, cancel: &CancellationToken, on_output: Option<OnPiece>) -> Outcome {
    let started = Instant::now();
    let streams = [Stream::new(on_output), Stream::new(None)];
    let mut survivors = false;
    let end = match start(&job).await {
        Err(reason) => End::Setup(reason),
        Ok(Started { mut child, status, lifeline, run_dir }) => {
            let flood = Arc::new(Notify::new());
            let mut pumps = tokio::task::JoinSet::new();
            for (stream, pipe) in streams.iter().zip(pipes(&mut child)) {
                pumps.spawn(pump(pipe, stream.clone(), job.limits.clone(), Arc::clone(&flood)));
            }
            let wall = Duration::from_millis(job.limits.wall_ms);
            let end = tokio::select! {
                exit = child.wait() => exit_end(exit, status, job.tier),
                () = tokio::time::sleep(wall) => End::Wall,
                () = flood.notified() => End::Flood,
                () = cancel.cancelled() => End::Cancelled,
            };
            drop(lifeline);
            if job.tier == Tier::C {
                // No namespace ends with it: the child itself ends what it started, told by its closed input.
                _ = tokio::time::timeout(DRAIN, child.wait()).await;
            }
            // The first process dies with the child, and the namespace with the first process.
            _ = child.kill().await;
            drop(run_dir);
            let drained = async { while pumps.join_next().await.is_some() {} };
            survivors = tokio::time::timeout(DRAIN, drained).await.is_err();
            end
        }
    };
    let [stdout, stderr] = streams.map(|stream| stream.take());
    Outcome { end, stdout, stderr, survivors, time: started.elapsed() }
}

pub(super) struct Started {
    pub(super) child: Child,
    status: File,
    /// The child's standard input. It stays open as long as the child is to live: when this process
    /// dies, the child sees it close. (`Child::wait` would close it if it were left there.)
    pub(super) lifeline: Option<ChildStdin>,
    /// Tiers C and S: gone with this value.
    run_dir: Option<tempfile::TempDir>,
}

/// What the child is told. Without a private root the run directory is a real one.
fn policy(job: &Job, run_dir: Option<&Path>) -> Policy {
    let mut policy = Policy {
        argv: job.argv.clone(),
        env: job.env.clone(),
        files: job.files.clone(),
        binds: job.binds.clone(),
        data: job.data.clone(),
        workspace: job.workspace.clone(),
        cwd: job.cwd.clone(),
        tier: job.tier,
        run_dir: run_dir.map(Path::to_path_buf),
        limits: job.limits.clone(),
    };
    if let Some(real) = run_dir {
        let text = real.to_string_lossy().into_owned();
        for (_, value) in policy.env.iter_mut().filter(|(_, value)| value == RUN_DIR || value == "/tmp") {
            value.clone_from(&text);
        }
        policy.cwd = real.to_path_buf();
    }
    policy
}

/// Start the child and hand it the policy.
pub(super) async fn start(job: &Job) -> Result<Started, String> {
    let run_dir = job.tier.without_root().then(tempfile::tempdir).transpose();
    let run_dir = run_dir.map_err(|error| format!("run directory: {error}"))?;
    let policy = policy(job, run_dir.as_ref().map(tempfile::TempDir::path));
    let mut line = serde_json::to_vec(&policy).map_err(|error| format!("policy: {error}"))?;
    line.push(b'\n');
    let (status_read, status_write) = status_pipe().map_err(|error| format!("status pipe: {error}"))?;
    let mut command = command(job, &policy);
    command
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    hand_over(&mut command, &status_write);
    let mut child = command.spawn().map_err(|error| format!("{:?}: {error}", job.exe))?;
    drop(status_write);
    let mut lifeline = child.stdin.take();
    if let Some(stdin) = lifeline.as_mut() {
        // A child that fails early closes its end; its own reason is in the status pipe.
        _ = stdin.write_all(&line).await;
        _ = stdin.flush().await;
    }
    Ok(Started { child, status: status_read, lifeline, run_dir })
}

fn command(job: &Job, policy: &Policy) -> Command {
    #[cfg(target_os = "linux")]
    if job.tier == Tier::B {
        let mut command = Command::new(&job.bwrap);
        command.args(super::bwrap::arguments(policy, &super::bwrap::real_exe(&job.exe)));
        return command;
    }
    let _ = policy;
    let mut command = Command::new(&job.exe);
    // The program can read this name in /proc; a path would tell it about the machine.
    command.arg0("tillerman").arg(SUBCOMMAND);
    command
}

#[allow(unsafe_code)]
fn status_pipe() -> io::Result<(File, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: on success both descriptors are new and owned by nobody else. The read end does not
    // block: it is read when all writers are gone or dying.
    unsafe {
        if libc::pipe(fds.as_mut_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
        let ends = (File::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]));
        for fd in fds {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        libc::fcntl(fds[0], libc::F_SETFL, libc::O_NONBLOCK);
        Ok(ends)
    }
}

/// In the new process, make the pipe's write end the status descriptor.
#[allow(unsafe_code)]
fn hand_over(command: &mut Command, write: &OwnedFd) {
    let write = write.as_raw_fd();
    let place = move || {
        // SAFETY: two calls that are safe between fork and exec; no memory is touched.
        let done = unsafe {
            if write == STATUS_FD {
                libc::fcntl(write, libc::F_SETFD, 0)
            } else {
                libc::dup2(write, STATUS_FD)
            }
        };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(place) };
}

type Pipe = Box<dyn AsyncRead + Send + Unpin>;

fn pipes(child: &mut Child) -> [Pipe; 2] {
    let stdout = child.stdout.take().map(|pipe| Box::new(pipe) as Pipe);
    let stderr = child.stderr.take().map(|pipe| Box::new(pipe) as Pipe);
    [stdout, stderr].map(|pipe| pipe.unwrap_or_else(|| Box::new(tokio::io::empty())))
}

/// The child's own words decide; an exit without words is a failed set-up, but in tier S, where the child became the
/// program, the program's.
fn exit_end(exit: io::Result<ExitStatus>, mut status: File, tier: Tier) -> End {
    let mut text = Vec::new();
    // Ends with WouldBlock where a dying process still holds the other end.
    _ = status.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let mut end = None;
    for line in text.lines() {
        end = match serde_json::from_str(line) {
            Ok(Status::Failed(reason)) => return End::Setup(reason),
            Ok(Status::Exited(code)) => Some(End::Exited(code)),
            Ok(Status::Signalled(signal)) => Some(End::Signalled(signal)),
            Ok(Status::Memory) => Some(End::Memory),
            Ok(Status::Processes) => Some(End::Processes),
            Err(_) => return End::Setup("the sandbox child spoke nonsense".into()),
        };
    }
    if let (None, Tier::S, Ok(exit)) = (&end, tier, &exit) {
        return match exit.signal() {
            Some(signal) => End::Signalled(signal),
            None => End::Exited(exit.code().unwrap_or(super::EXIT_SETUP)),
        };
    }
    end.unwrap_or_else(|| {
        let how = exit.map_or_else(|error| error.to_string(), |status| status.to_string());
        End::Setup(format!("the sandbox child ended without a word ({how})"))
    })
}

#[derive(Clone)]
struct Stream {
    kept: Arc<Mutex<Kept>>,
    on_output: Option<OnPiece>,
}

impl Stream {
    fn new(on_output: Option<OnPiece>) -> Stream {
        Stream { kept: Arc::default(), on_output }
    }

    fn take(&self) -> Kept {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Read to the end, keep what fits, pass it on live until `output_bytes` were passed on.
async fn pump(mut pipe: Pipe, stream: Stream, limits: Limits, flood: Arc<Notify>) {
    let mut buffer = vec![0; 64 << 10];
    let mut undecoded = Vec::new();
    while let Ok(count) = pipe.read(&mut buffer).await
        && count > 0
    {
        let total = {
            let mut kept = stream.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push(&buffer[..count], limits.output_bytes);
            kept.total
        };
        if total > limits.flood_bytes {
            flood.notify_one();
        }
        if let Some(on_output) = &stream.on_output
            && total <= limits.output_bytes
        {
            undecoded.extend_from_slice(&buffer[..count]);
            let text = decode(&mut undecoded);
            if !text.is_empty() {
                on_output(&text);
            }
        }
    }
}

/// The whole characters of `bytes`; the beginning of one more stays in it.
fn decode(bytes: &mut Vec<u8>) -> String {
    let begun = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => bytes.len() - error.valid_up_to(),
        // An error in the middle may hide a beginning at the end: at most three bytes.
        Err(_) => (1..=3.min(bytes.len()))
            .find(|n| bytes[bytes.len() - n] >= 0xc0)
            .filter(|n| std::str::from_utf8(&bytes[bytes.len() - n..]).is_err())
            .unwrap_or(0),
        Ok(_) => 0,
    };
    let rest = bytes.split_off(bytes.len() - begun);
    let text = String::from_utf8_lossy(bytes).into_owned();
    *bytes = rest;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_keeps_its_head_and_its_tail() {
        let mut kept = Kept::default();
        for n in 0..100u8 {
            kept.push(&[b'a' + n % 26; 7], 40);
        }
        assert_eq!((kept.head.len(), kept.tail.len(), kept.total), (20, 20, 700));
        assert!(kept.text().starts_with("aaaaaaabbbbbbb"), "{}", kept.text());
        assert!(kept.text().contains("[660 bytes left out]"));
        assert!(kept.text().ends_with("vvvvvvv"));
        let mut whole = Kept::default();
        whole.push("äöü".as_bytes(), 6);
        assert_eq!(whole.text(), "äöü");
    }

    #[test]
    fn characters_split_between_reads_stay_whole() {
        let text = "a€b\u{1f600}c";
        let mut undecoded = Vec::new();
        let mut out = String::new();
        for byte in text.bytes() {
            undecoded.push(byte);
            out.push_str(&decode(&mut undecoded));
        }
        assert_eq!(out, text);
        let mut broken = b"a\xffb\xe2\x82".to_vec();
        assert_eq!(decode(&mut broken), "a\u{fffd}b");
        assert_eq!(broken, b"\xe2\x82");
    }
}
