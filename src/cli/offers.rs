//! Models that the deck offers to download, by this machine's memory, and the download itself: `tillerman model
//! pull` in a process of its own, so that a broken one goes on where it stopped and is checked as ever.
//!
//! Nothing is contacted until a person has asked for one of them twice.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio_util::sync::CancellationToken;

use crate::deck::study::{ModelLine, Offer, StudyEvent};
use crate::error::Error;

use super::setup;
use super::study::Study;

/// Tokens of context a model is sized for, as those on this machine are.
const CONTEXT: u64 = 8_192;
/// What llama.cpp needs beside weights and context.
const BESIDE: u64 = 400_000_000;

/// A file on Hugging Face as it was in 2026: under Apache 2.0, of an architecture the trainer knows.
struct Known {
    repo: &'static str,
    file: &'static str,
    name: &'static str,
    parameters: u64,
    bytes: u64,
    /// Bytes of context per token: layers x key and value heads x their width x 2 x 2.
    per_token: u64,
}

const KNOWN: [Known; 4] = [
    Known {
        repo: "Qwen/Qwen2.5-0.5B-Instruct-GGUF",
        file: "qwen2.5-0.5b-instruct-q4_k_m.gguf",
        name: "Qwen2.5-0.5B-Instruct",
        parameters: 494_000_000,
        bytes: 491_400_032,
        per_token: 24 * 2 * 64 * 4,
    },
    Known {
        repo: "Qwen/Qwen2.5-1.5B-Instruct-GGUF",
        file: "qwen2.5-1.5b-instruct-q4_k_m.gguf",
        name: "Qwen2.5-1.5B-Instruct",
        parameters: 1_540_000_000,
        bytes: 1_117_320_736,
        per_token: 28 * 2 * 128 * 4,
    },
    Known {
        repo: "Qwen/Qwen3-4B-GGUF",
        file: "Qwen3-4B-Q4_K_M.gguf",
        name: "Qwen3-4B",
        parameters: 4_020_000_000,
        bytes: 2_497_280_256,
        per_token: 36 * 8 * 128 * 4,
    },
    Known {
        repo: "Qwen/Qwen3-8B-GGUF",
        file: "Qwen3-8B-Q4_K_M.gguf",
        name: "Qwen3-8B",
        parameters: 8_190_000_000,
        bytes: 5_027_783_488,
        per_token: 36 * 8 * 128 * 4,
    },
];

/// What could be downloaded beside `here`, smallest first; `free` is this machine's memory, None: unknown.
pub fn beside(here: &[ModelLine], free: Option<u64>) -> Vec<ModelLine> {
    let known = KNOWN.iter().filter(|known| !here.iter().any(|line| line.path.ends_with(known.file)));
    let line = |known: &Known| {
        let needed = known.bytes + known.per_token * CONTEXT + BESIDE;
        let fits = free.is_none_or(|free| needed <= free);
        let gb = |bytes: u64| bytes as f64 / 1e9;
        let lacks = free.filter(|_| !fits);
        ModelLine {
            name: known.name.to_string(),
            path: format!("{} {}", known.repo, known.file),
            place: "to download".to_string(),
            bytes: known.bytes,
            parameters: known.parameters,
            file_type: "Q4_K".to_string(),
            current: false,
            fits,
            trainable: true,
            words: lacks.map_or_else(String::new, |free| {
                format!("needs about {:.1} GB, {:.1} GB are free", gb(needed), gb(free))
            }),
            offer: Some(Offer { repo: known.repo.to_string(), file: known.file.to_string() }),
        }
    };
    known.map(line).collect()
}

/// The download under way, if one is.
pub type Pulling = Arc<Mutex<Option<CancellationToken>>>;

impl Study {
    /// Stop the download; what came is kept.
    pub fn stop_pull(&self) {
        if let Some(cancel) = self.pulling.lock().ok().and_then(|mut pulling| pulling.take()) {
            cancel.cancel();
        }
    }

    /// Download a model in a process of its own, and say how far it is.
    pub async fn pull(&self, offer: Offer) -> anyhow::Result<()> {
        let cancel = CancellationToken::new();
        match self.pulling.lock() {
            Ok(mut pulling) if pulling.is_none() => *pulling = Some(cancel.clone()),
            _ => anyhow::bail!("another model is being downloaded; Enter on it stops that"),
        }
        let ended = self.follow_pull(&offer, &cancel).await;
        if let Ok(mut pulling) = self.pulling.lock() {
            pulling.take();
        }
        let stopped = cancel.is_cancelled();
        self.send(StudyEvent::Pulled { file: offer.file, stopped, done: matches!(ended, Ok(true)) });
        ended.map(drop)
    }

    /// Whether it came whole; false: it was stopped.
    async fn follow_pull(&self, offer: &Offer, cancel: &CancellationToken) -> anyhow::Result<bool> {
        let mut command = tokio::process::Command::new(setup::exe());
        command.args(self.global.flags());
        command.args(["model", "pull", "--json", &offer.repo, &offer.file]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let errors = child.stderr.take();
        let told = tokio::spawn(async move {
            let mut text = String::new();
            if let Some(mut errors) = errors {
                let _ = errors.read_to_string(&mut text).await;
            }
            text
        });
        if let Some(stdout) = child.stdout.take() {
            let mut lines = BufReader::new(stdout).lines();
            loop {
                let line = tokio::select! {
                    () = cancel.cancelled() => {
                        let _ = child.kill().await;
                        return Ok(false);
                    }
                    line = lines.next_line() => line?,
                };
                let Some(line) = line else { break };
                let said: Value = serde_json::from_str(&line).unwrap_or_default();
                if let (Some(here), Some(bytes)) = (said["here"].as_u64(), said["bytes"].as_u64()) {
                    self.send(StudyEvent::Pulling { file: offer.file.clone(), here, bytes });
                }
            }
        }
        let status = child.wait().await?;
        if status.success() {
            return Ok(true);
        }
        let told = told.await.unwrap_or_default();
        let last =
            told.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it ended without a word");
        Err(Error::Usage(last.trim_start_matches("tillerman: ").to_string()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_is_not_offered_and_what_is_too_big_says_what_it_needs() {
        let all = beside(&[], None);
        assert!(all.len() == KNOWN.len() && all.iter().all(|line| line.fits && line.offer.is_some()));
        let path = format!("/cache/{}", KNOWN[0].file);
        let here = [ModelLine { path, ..ModelLine::default() }];
        let rest = beside(&here, Some(3_000_000_000));
        let fits: Vec<(&str, bool)> = rest.iter().map(|line| (line.name.as_str(), line.fits)).collect();
        assert_eq!(fits, [("Qwen2.5-1.5B-Instruct", true), ("Qwen3-4B", false), ("Qwen3-8B", false)]);
        assert!(rest[1].words.contains("3.0 GB are free"), "{}", rest[1].words);
    }
}
