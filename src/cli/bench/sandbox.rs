//! What it costs to start a program in the sandbox, beside starting it plainly.

use std::process::Stdio;
use std::time::Instant;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::Figure;
use crate::tools::python::Interpreter;
use crate::tools::sandbox::{self, End, Tier};

/// The program that does nothing.
const TRUE: &str = "/usr/bin/true";
/// Starts per run of the bench.
const STARTS: usize = 5;

/// `sandbox.start_ms.none` and one figure for each tier that holds on this machine; nothing where none does.
///
/// # Errors
/// A program that does not start, or that ends otherwise than it should.
pub(super) async fn starts(runs: usize) -> anyhow::Result<Vec<Figure>> {
    let Ok(interpreter) = Interpreter::find() else { return Ok(Vec::new()) };
    let (exe, bwrap) = (crate::tools::sandbox_exe(), sandbox::bwrap_program());
    let holds = |tier: &Tier| {
        (*tier != Tier::B || bwrap.exists())
            && sandbox::try_tier(&exe, &interpreter, *tier, &bwrap).tier.is_some()
    };
    let tiers: Vec<Tier> = [Tier::A, Tier::B, Tier::C].into_iter().filter(holds).collect();
    if tiers.is_empty() {
        return Ok(Vec::new());
    }
    let mut plain = Vec::new();
    let mut confined = vec![Vec::new(); tiers.len()];
    // Turn about, so that what else the machine does falls on all of them.
    for _ in 0..runs * STARTS {
        let began = Instant::now();
        let mut command = tokio::process::Command::new(TRUE);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.output().await.context(TRUE)?;
        plain.push(began.elapsed().as_secs_f64() * 1e3);
        for (tier, times) in tiers.iter().zip(&mut confined) {
            let mut job = interpreter.job(&exe, "", None);
            job.argv = vec![TRUE.to_string()];
            job.tier = *tier;
            let outcome = sandbox::run(job, &CancellationToken::new(), None).await;
            anyhow::ensure!(
                outcome.end == End::Exited(0),
                "{TRUE} in the sandbox, tier {}: {outcome:?}",
                tier.name()
            );
            times.push(outcome.time.as_secs_f64() * 1e3);
        }
    }
    let figure = |name: &str, values| Figure { name: format!("sandbox.start_ms.{name}"), unit: "ms", values };
    let tiers = tiers.iter().zip(confined).map(|(tier, times)| figure(tier.name(), times));
    Ok(std::iter::once(figure("none", plain)).chain(tiers).collect())
}
