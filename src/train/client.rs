//! The training worker seen from outside: start it, hand it a job, wait, or let it go.

use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use crate::engine::wire;
use crate::error::Error;
use crate::train::step::{Done, Job};
use crate::train::worker::FromTrainer;

/// How much of the worker's stderr is kept for the error message, in bytes.
const STDERR_TAIL: usize = 2048;

/// Take a step in a worker process of its own. Cancelling, or dropping the future, ends the worker; the
/// job's folder is then as good as never written.
///
/// # Errors
/// What the step fails with, or how the worker died; in either case nothing that serves was changed.
pub async fn take(
    exe: &Path,
    job: &Job,
    on_phase: &mut (dyn FnMut(&str) + Send),
    cancel: &CancellationToken,
) -> Result<Done, Error> {
    let mut frame = Vec::new();
    wire::encode(job, &mut frame)
        .map_err(|e| Error::Train(format!("the batch is too large: {e}; train on fewer groups at once")))?;
    let mut child = Command::new(exe)
        .arg("__train")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Error::Train(format!("{} does not start: {e}", exe.display())))?;
    let (Some(mut input), Some(output), Some(errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Error::Train("the training worker has no pipes".into()));
    };
    let words = tokio::spawn(tail(errors));
    // A worker that died while being written to says why by its status.
    let _ = input.write_all(&frame).await;
    let _ = input.flush().await;
    let heard = tokio::select! {
        biased;
        () = cancel.cancelled() => {
            let _ = child.kill().await;
            return Err(Error::Interrupted);
        }
        heard = listen(output, on_phase) => heard,
    };
    drop(input);
    match heard {
        Some(FromTrainer::Done(done)) => Ok(*done),
        Some(FromTrainer::Failed(failure)) => Err(failure.into()),
        _ => Err(died(child, words.await.unwrap_or_default()).await),
    }
}

/// The worker's last word; None when it went without one.
async fn listen(mut output: ChildStdout, on_phase: &mut (dyn FnMut(&str) + Send)) -> Option<FromTrainer> {
    let mut buffer = Vec::new();
    loop {
        let mut header = [0; 4];
        output.read_exact(&mut header).await.ok()?;
        let length = u32::from_le_bytes(header) as usize;
        if length > wire::MAX_FRAME {
            return None;
        }
        buffer.resize(length + 4, 0);
        buffer[..4].copy_from_slice(&header);
        output.read_exact(&mut buffer[4..]).await.ok()?;
        let message: FromTrainer = wire::read(&mut buffer.as_slice(), &mut Vec::new()).ok()??;
        match message {
            FromTrainer::Phase(text) => on_phase(&text),
            last => return Some(last),
        }
    }
}

async fn tail(mut errors: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut piece) = (Vec::new(), [0; 1024]);
    while let Ok(n @ 1..) = errors.read(&mut piece).await {
        kept.extend_from_slice(&piece[..n]);
        let over = kept.len().saturating_sub(STDERR_TAIL);
        kept.drain(..over);
    }
    String::from_utf8_lossy(&kept).trim().to_string()
}

async fn died(mut child: Child, words: String) -> Error {
    let how = match child.wait().await {
        Ok(status) => told(status),
        Err(error) => format!("({error})"),
    };
    let words = if words.is_empty() { String::new() } else { format!("; its last words: {words}") };
    Error::Train(format!(
        "the training worker died {how}; nothing was changed, the step can be taken again{words}"
    ))
}

fn told(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.signal(), status.code()) {
        (Some(9), _) => "of signal 9 (out of memory?)".to_string(),
        (Some(signal), _) => format!("of signal {signal}"),
        (None, Some(code)) => format!("with code {code}"),
        (None, None) => "without a word".to_string(),
    }
}
