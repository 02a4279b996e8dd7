//! A training step of the deck: a process of its own with the flags the deck was started with, its words shown as they
//! come, ended by a person's key.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio_util::sync::CancellationToken;

use crate::cli::setup::Setup;
use crate::cli::{Global, setup};
use crate::deck::study::Work;
use crate::engine::Engine as _;
use crate::error::Error;

use super::Study;

impl Study {
    /// One step in a process of its own.
    pub(super) async fn train(&self, groups: &[String]) -> anyhow::Result<()> {
        if !self.begins("getting ready") {
            anyhow::bail!("one is under way already; its words stand above the figures (F4)");
        }
        let working = self.working(Work::Step);
        let ended = self.in_its_process(groups, &working.cancel).await;
        self.says(None);
        let (setup, before, (status, last)) = ended?;
        let model = setup.engine.model().await?.hash;
        // Only what the step made serve replaces what plans here.
        if self.store.current_adapter(&model)? == before {
            self.show_training().await?;
        } else {
            self.swap(&setup).await?;
        }
        if working.cancel.is_cancelled() {
            anyhow::bail!("stopped; what planned before goes on, an adapter it had kept by then stays below");
        }
        if !status.success() {
            // Its words begin with what stands before an error here, too.
            let why = last.trim_start_matches("tillerman: ").trim_start_matches("train: ");
            return Err(Error::Train(why.to_string()).into());
        }
        Ok(())
    }

    /// The step with what serves now; answers that, the adapter that was current when it began, and how it ended.
    async fn in_its_process(
        &self,
        groups: &[String],
        cancel: &CancellationToken,
    ) -> anyhow::Result<(Arc<Setup>, Option<String>, (std::process::ExitStatus, String))> {
        // What is loading, or being compared, serves when it has ended.
        tokio::select! {
            () = cancel.cancelled() => anyhow::bail!("stopped before it began"),
            planning = self.engine.read() => drop(planning),
        }
        let setup = self.ready().await?;
        let before = self.store.current_adapter(&setup.engine.model().await?.hash)?;
        let mut command = tokio::process::Command::new(setup::exe());
        let (home, adapter) = (setup.home.root(), self.flow(&setup).adapter);
        command.args(step_args(&self.global, home, &setup.model, adapter, groups));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let ended = self.follow(command, cancel).await?;
        Ok((setup, before, ended))
    }

    /// Run the step, its words shown as they come; answers how it ended and what it said last.
    async fn follow(
        &self,
        mut command: tokio::process::Command,
        cancel: &CancellationToken,
    ) -> anyhow::Result<(std::process::ExitStatus, String)> {
        // A step goes on though it cannot be shown.
        let _ = self.show_training().await;
        let mut child = command.spawn()?;
        let mut last = String::new();
        if let Some(stderr) = child.stderr.take() {
            let mut lines = BufReader::new(stderr).lines();
            loop {
                let line = tokio::select! {
                    () = cancel.cancelled() => break,
                    line = lines.next_line() => line?,
                };
                let Some(line) = line else { break };
                self.says(Some(line.clone()));
                let _ = self.show_training().await;
                last = line;
            }
        }
        if cancel.is_cancelled() {
            // Until its adapter is kept it has changed nothing, so it can end at any moment.
            child.start_kill()?;
        }
        Ok((child.wait().await?, last))
    }
}

/// The arguments of a step in a process of its own: the flags this deck was started with, what serves here, the groups.
fn step_args(
    global: &Global,
    home: &Path,
    model: &Path,
    adapter: Option<String>,
    groups: &[String],
) -> Vec<OsString> {
    let global = Global {
        home: Some(home.to_path_buf()),
        model: Some(model.to_path_buf()),
        // It begins with what plans here, which need not be the store's current one.
        adapter: Some(adapter.unwrap_or_else(|| "none".to_string())),
        ..global.clone()
    };
    let mut args = global.flags();
    args.push("train".into());
    match groups {
        [] => args.push("--labelled".into()),
        groups => args.extend(["--groups".into(), groups.join(",").into()]),
    }
    // A person waits for it: a first look of the gate, which `adapters judge` goes on with.
    args.extend(["--pairs".into(), "24".into()]);
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_taken_with_the_flags_the_deck_was_started_with() {
        let global = Global {
            offline: true,
            workspace: Some("/w".into()),
            folder: vec!["/notes".into()],
            seed: Some(3),
            model: Some("other.gguf".into()),
            adapter: Some("old".into()),
            ..Global::default()
        };
        let args = |groups: &[String]| -> Vec<String> {
            let args = step_args(&global, Path::new("/h"), Path::new("/m.gguf"), Some("new".into()), groups);
            args.into_iter().map(|arg| arg.into_string().unwrap()).collect()
        };
        assert_eq!(
            args(&["g".into(), "h".into()]).join(" "),
            "--model /m.gguf --adapter new --home /h --seed 3 --folder /notes --workspace /w --approve ask --offline \
             train --groups g,h --pairs 24"
        );
        assert!(args(&[]).join(" ").ends_with("train --labelled --pairs 24"));
        let bare = step_args(&global, Path::new("/h"), Path::new("/m.gguf"), None, &[]);
        assert!(bare.windows(2).any(|two| two[0] == "--adapter" && two[1] == "none"));
    }
}
