//! The training worker seen from outside: start it, hand it a job, wait, or let it go.

use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use crate::engine::wire;
use crate::error::Error;
use crate::train::device::{AUTO, CPU};
use crate::train::step::{Done, Job};
use crate::train::worker::FromTrainer;

/// How much of the worker's stderr is kept for the error message, in bytes.
const STDERR_TAIL: usize = 2048;

/// Take a step in a worker process of its own. Cancelling, or dropping the future, ends the worker; the
/// job's folder is then as good as never written. Where the settings leave the device open and the worker dies
/// while one computes, the CPU takes the step instead, and what came of it says why.
///
/// # Errors
/// What the step fails with, or how the worker died; in either case nothing that serves was changed.
pub async fn take(
    exe: &Path,
    job: &Job,
    on_phase: &mut (dyn FnMut(&str) + Send),
    cancel: &CancellationToken,
) -> Result<Done, Error> {
    let mut device = None;
    match attempt(exe, job, (on_phase, &mut device), cancel).await? {
        Ended::Done(done) => Ok(*done),
        Ended::Died(error) => {
            let Some(device) = device.filter(|_| job.settings.device == AUTO) else { return Err(error) };
            on_phase(&format!("the worker died on {device}; the CPU takes over"));
            let mut job = job.clone();
            job.settings.device = CPU.to_string();
            match attempt(exe, &job, (on_phase, &mut None), cancel).await? {
                Ended::Done(mut done) => {
                    done.device.note = Some(format!("on {device} {error}"));
                    Ok(*done)
                }
                Ended::Died(error) => Err(error),
            }
        }
    }
}

/// Who hears phases, and where the name of a device that began goes.
type Hears<'a> = (&'a mut (dyn FnMut(&str) + Send), &'a mut Option<String>);

/// How a worker ended that was not told to fail.
enum Ended {
    Done(Box<Done>),
    Died(Error),
}

async fn attempt(exe: &Path, job: &Job, told: Hears<'_>, cancel: &CancellationToken) -> Result<Ended, Error> {
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
        heard = listen(output, told) => heard,
    };
    drop(input);
    match heard {
        Some(FromTrainer::Done(done)) => Ok(Ended::Done(done)),
        Some(FromTrainer::Failed(failure)) => Err(failure.into()),
        _ => Ok(Ended::Died(died(child, words.await.unwrap_or_default()).await)),
    }
}

/// The worker's last word; None when it went without one.
async fn listen(mut output: ChildStdout, (on_phase, device): Hears<'_>) -> Option<FromTrainer> {
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
            FromTrainer::On(name) => {
                on_phase(&format!("starting on {name}"));
                *device = Some(name);
            }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::train::device::Choice;
    use crate::train::objective::Stats;
    use crate::train::presets::Settings;
    use crate::train::step_size::StepSize;

    fn done() -> Done {
        Done {
            stats: Stats::default(),
            size: StepSize::default(),
            learning_rate: 0.0,
            gradient_norm: 0.0,
            update_norm: 0.0,
            steps: 1,
            drift: None,
            nodes: 1,
            row_tokens: 1,
            targets: 1,
            groups: 1,
            rollouts: 1,
            seconds: 0.0,
            peak_bytes: 0,
            device: Choice { device: CPU.to_string(), note: None },
            kept: false,
        }
    }

    /// A worker that says that a device begins and dies of it the first time, and takes the step the second.
    #[tokio::test]
    async fn the_cpu_takes_over_from_a_device_that_kills_the_worker() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, message: &FromTrainer| {
            let mut bytes = Vec::new();
            wire::encode(message, &mut bytes).unwrap();
            std::fs::write(dir.path().join(name), bytes).unwrap();
        };
        file("on", &FromTrainer::On("CUDA0".to_string()));
        file("done", &FromTrainer::Done(Box::new(done())));
        let exe = dir.path().join("worker");
        let script = format!(
            "#!/bin/sh\ncd '{}'\nif [ -e again ]; then cat done; exit; fi\ntouch again; cat on; kill -SEGV $$\n",
            dir.path().display()
        );
        std::fs::write(&exe, script).unwrap();
        std::fs::set_permissions(&exe, std::fs::Permissions::from_mode(0o700)).unwrap();
        let job = |device: &str| Job {
            model: dir.path().to_path_buf(),
            parent: None,
            out: dir.path().to_path_buf(),
            groups: Vec::new(),
            settings: Settings { device: device.to_string(), ..Settings::default() },
            seed: 1,
            threads: 1,
            probes: Vec::new(),
            frozen: Vec::new(),
        };
        let cancel = CancellationToken::new();
        let mut phases = Vec::new();
        let mut heard = |text: &str| phases.push(text.to_string());
        let taken = take(&exe, &job(AUTO), &mut heard, &cancel).await.unwrap();
        let note = taken.device.note.unwrap();
        assert!(note.contains("CUDA0") && note.contains("signal 11"), "{note}");
        assert!(phases.last().is_some_and(|last| last.contains("the CPU takes over")), "{phases:?}");
        // A device that was asked for by name is not left without a word.
        std::fs::remove_file(dir.path().join("again")).unwrap();
        let died = take(&exe, &job("CUDA0"), &mut |_| (), &cancel).await.unwrap_err().to_string();
        assert!(died.contains("signal 11"), "{died}");
    }
}
