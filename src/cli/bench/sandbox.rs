//! What it costs to start a program in the sandbox, beside starting it plainly.

use std::process::Stdio;
use std::time::Instant;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::Figure;
use crate::tools::python::Interpreter;
use crate::tools::sandbox::{self, End};

/// The program that does nothing.
const TRUE: &str = "/usr/bin/true";
/// Starts per run of the bench.
const STARTS: usize = 5;

/// `sandbox.start_ms.none` and one figure for the tier of this machine; nothing where none is granted.
///
/// # Errors
/// A program that does not start, or that ends otherwise than it should.
pub(super) async fn starts(runs: usize) -> anyhow::Result<Vec<Figure>> {
    let Ok(interpreter) = Interpreter::find() else { return Ok(Vec::new()) };
    let exe = crate::tools::sandbox_exe();
    let Some(tier) = sandbox::probe(&exe, &interpreter).tier else { return Ok(Vec::new()) };
    let (mut plain, mut confined) = (Vec::new(), Vec::new());
    for _ in 0..runs * STARTS {
        let began = Instant::now();
        let mut command = tokio::process::Command::new(TRUE);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.output().await.context(TRUE)?;
        plain.push(began.elapsed().as_secs_f64() * 1e3);
        let mut job = interpreter.job(&exe, "", None);
        job.argv = vec![TRUE.to_string()];
        job.tier = tier;
        let outcome = sandbox::run(job, &CancellationToken::new(), None).await;
        anyhow::ensure!(outcome.end == End::Exited(0), "{TRUE} in the sandbox: {outcome:?}");
        confined.push(outcome.time.as_secs_f64() * 1e3);
    }
    let figure = |name: &str, values| Figure { name: format!("sandbox.start_ms.{name}"), unit: "ms", values };
    Ok(vec![figure("none", plain), figure(tier.name(), confined)])
}
