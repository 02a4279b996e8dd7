//! `tillerman model pull REPO FILE`: one GGUF from a Hugging Face hub into the cache all the usual programs share.
//!
//! The user's own explicit act: it contacts the endpoint it names on stderr, the host that one sends it to for
//! the bytes, and nobody else. `hub` asks, `fetch` brings the bytes, `cache` puts them where they belong.

mod cache;
mod fetch;
mod hub;
mod meter;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::cli::plain;
use crate::engine::ffi::os::disk_free;
use crate::error::{EngineError, Error};
use crate::gguf::survey::{Kind, survey};
use crate::text::safe;

use cache::Cache;
use fetch::Want;
use hub::{Hub, Remote, Wish};
use meter::Meter;
pub use meter::size;

/// Disk space that must stay free beside the file.
const SPARE: u64 = 64 << 20;

#[derive(Debug, Args)]
pub struct PullArgs {
    /// Repository on the hub, e.g. Qwen/Qwen2.5-0.5B-Instruct-GGUF
    repo: String,
    /// A .gguf file in it
    file: String,
    /// Branch, tag or commit
    #[arg(long, default_value = "main")]
    revision: String,
    /// Progress and result as JSON lines on stdout
    #[arg(long)]
    json: bool,
}

/// What a download can fail with; the remedy is in the text.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error("{0}")]
    Usage(String),
    /// The hub answered, and not with the file.
    #[error("{host}: {words}")]
    Hub { host: String, words: String },
    #[error(
        "{host} cannot be reached or stopped sending: {reason}; what came is kept, the same command goes on from there"
    )]
    Network { host: String, reason: String },
    #[error(
        "the file has {need}, {folder:?} has room for {free}; free some space or choose another disk with HF_HUB_CACHE=DIR"
    )]
    NoRoom { need: String, free: String, folder: PathBuf },
    #[error(
        "what came is not what {host} announced (sha256 {got}, announced {announced}); it was thrown away, try again"
    )]
    Corrupt { host: String, announced: String, got: String },
    #[error("{path:?}: {source}; choose another place with HF_HUB_CACHE=DIR")]
    Cache { path: PathBuf, source: std::io::Error },
}

impl PullError {
    fn network(host: &str, reason: impl std::fmt::Display) -> PullError {
        PullError::Network { host: host.to_string(), reason: reason.to_string() }
    }

    fn hub(host: &str, words: impl Into<String>) -> PullError {
        PullError::Hub { host: host.to_string(), words: words.into() }
    }

    fn cache(path: &Path, source: std::io::Error) -> PullError {
        PullError::Cache { path: path.to_path_buf(), source }
    }
}

type Result<T> = std::result::Result<T, PullError>;

/// Hosts a download contacts, with the reason, for `doctor --network`. No download begins by itself.
pub fn hosts() -> Vec<(String, String)> {
    let endpoint =
        hub::endpoint().map_or_else(|_| "HF_ENDPOINT (not an address)".to_string(), |url| hub::host(&url));
    let served = format!("whatever public host {endpoint} names for the bytes");
    let only =
        "`tillerman model pull`, and a model of F5 in the deck that Enter was pressed on twice".to_string();
    vec![(endpoint, only.clone()), (served, format!("{only}; the access token is not sent there"))]
}

/// `allowed`: hosts the user lists as reachable though they are not public (`network.allow_hosts`).
pub async fn run(args: &PullArgs, allowed: &[String]) -> anyhow::Result<i32> {
    let work = pull(args, allowed);
    let done = tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("\nstopped; what came is kept, the same command goes on from there");
            return Err(Error::Interrupted.into());
        }
    };
    let path = done.map_err(|error| match error {
        PullError::Usage(words) => Error::Usage(words).into(),
        other => anyhow::Error::from(other),
    })?;
    report(&path, args.json)
}

/// Answers where the file lies.
async fn pull(args: &PullArgs, allowed: &[String]) -> Result<PathBuf> {
    let wish = Wish::new(&args.repo, &args.file, &args.revision)?;
    let (hub, cache) = (Hub::from_env(allowed)?, Cache::from_env(&wish)?);
    if !args.json {
        eprintln!("asking {} for {}", safe(&hub.name()), safe(&wish.to_string()));
    }
    let remote = hub.look(&wish).await?;
    let _lock = cache.lock(&remote).await?;
    if let Some(path) = cache.present(&wish, &remote)? {
        return Ok(path);
    }
    let partial = cache.partial(&remote);
    let here = std::fs::metadata(&partial).map_or(0, |meta| meta.len());
    announce(args, &remote, &cache, here)?;
    let mut meter = Meter::new(args.json, remote.bytes);
    let want = Want { url: hub.address(&wish, &remote), bytes: remote.bytes, sha256: &remote.sha256 };
    fetch::fetch(&hub, &want, &partial, &mut meter).await?;
    meter.end();
    cache.settle(&wish, &remote, &partial)
}

/// Say what will come and where to, and refuse what does not fit.
fn announce(args: &PullArgs, remote: &Remote, cache: &Cache, here: u64) -> Result<()> {
    let free = disk_free(cache.folder());
    let missing = remote.bytes.saturating_sub(here);
    if let Some(free) = free.filter(|free| *free < missing.saturating_add(SPARE)) {
        let folder = cache.folder().to_path_buf();
        return Err(PullError::NoRoom { need: size(missing), free: size(free), folder });
    }
    if args.json {
        println!(
            "{}",
            json!({"kind": "pull", "file": args.file, "bytes": remote.bytes, "here": here, "free": free,
                "sha256": remote.sha256, "commit": remote.commit, "folder": cache.folder()})
        );
        return Ok(());
    }
    let already = if here > 0 { format!(", {} of it already here", size(here)) } else { String::new() };
    let room = free.map_or_else(String::new, |free| format!(" ({} free)", size(free)));
    let folder = safe(&cache.folder().to_string_lossy());
    eprintln!("{}: {}{already}; into {folder}{room}", safe(&args.file), size(remote.bytes));
    Ok(())
}

/// The file is whole; whether it can serve is another question, and answered before anybody loads it.
fn report(path: &Path, json: bool) -> anyhow::Result<i32> {
    let found = survey(path).map_err(|e| Error::Engine(e.into()))?;
    let reason = found.served.as_ref().err().map(ToString::to_string);
    let shown = path.to_string_lossy();
    if json {
        let line = json!({"kind": "pulled", "path": path, "bytes": found.file_bytes, "type": found.kind.name(),
            "architecture": found.architecture, "served": reason.is_none(), "reason": reason});
        println!("{}", plain::json(&line));
    } else {
        println!("{}", safe(&shown));
    }
    match (found.kind, reason) {
        (Kind::Model, Some(reason)) => {
            Err(Error::Engine(EngineError::ModelRefused { path: path.to_path_buf(), reason }).into())
        }
        (Kind::Model, None) if !json => {
            eprintln!("whole and accepted; serve it with: tillerman model use '{}'", safe(&shown));
            Ok(0)
        }
        (kind, _) if !json => {
            eprintln!(
                "whole; it is no model but an {}",
                if kind == Kind::Adapter { "adapter" } else { "image or audio part (projector)" }
            );
            Ok(0)
        }
        _ => Ok(0),
    }
}
