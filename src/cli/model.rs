//! `tillerman model`: which GGUFs there are, which one serves, whether a file can.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::config::Home;
use crate::error::Error;
use crate::text::safe;

use super::{Global, models, network, plain, pull, setup};

#[derive(Debug, Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Every GGUF on this machine: this program's, and those other programs downloaded
    List {
        #[arg(long)]
        json: bool,
    },
    /// Serve this file from now on; `embedded` goes back to the built-in planner
    Use { path: PathBuf },
    /// Check a file's header and say what it is, without loading it
    Check {
        path: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// Download a GGUF from a Hugging Face hub into the cache other programs share; resumes, checks the sha256
    Pull(pull::PullArgs),
}

pub async fn run(global: &Global, args: &ModelArgs) -> anyhow::Result<i32> {
    match &args.command {
        ModelCommand::List { json } => models::list(global, *json),
        ModelCommand::Use { path } => select(global, path),
        ModelCommand::Check { path, json } => check(path, *json),
        ModelCommand::Pull(args) => {
            network::must_be_on(global)?;
            let (_, config) = setup::home_and_config(global)?;
            pull::run(args, &config.network.allow_hosts).await
        }
    }
}

fn pointer(home: &Home) -> PathBuf {
    home.models().join("current")
}

/// The model chosen by `model use`, if one was.
pub fn used(home: &Home) -> Option<PathBuf> {
    let text = std::fs::read_to_string(pointer(home)).ok()?;
    let path = PathBuf::from(text.trim_end_matches('\n'));
    (!path.as_os_str().is_empty()).then_some(path)
}

fn select(global: &Global, path: &Path) -> anyhow::Result<i32> {
    let (home, _) = setup::home_and_config(global)?;
    let pointer = pointer(&home);
    if path.as_os_str() == "embedded" {
        match std::fs::remove_file(&pointer) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(unwritable(&pointer, &e)),
            _ => {}
        }
        println!("serving the embedded planner");
        return Ok(0);
    }
    let path = std::path::absolute(path).context("the path cannot be made absolute")?;
    let header = checked(&path)?;
    let folder = home.models();
    let write = || -> std::io::Result<()> {
        let temporary = tempfile::NamedTempFile::new_in(&folder)?;
        std::fs::write(temporary.path(), format!("{}\n", path.display()))?;
        temporary.persist(&pointer).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|e| unwritable(&pointer, &e))?;
    println!("serving {} ({})", safe(&path.to_string_lossy()), safe(&describe(&header)));
    Ok(0)
}

fn unwritable(path: &Path, error: &std::io::Error) -> anyhow::Error {
    Error::Store(format!("cannot write {}: {error}; choose another with --home DIR", path.display())).into()
}

fn checked(path: &Path) -> anyhow::Result<crate::gguf::Header> {
    Ok(crate::gguf::check(path).map_err(|e| Error::Engine(e.into()))?)
}

fn describe(header: &crate::gguf::Header) -> String {
    format!(
        "{}, {}, {:.1}M parameters, {}, {} layers, trained for {} tokens of context",
        if header.name().is_empty() { "no name" } else { header.name() },
        header.architecture,
        header.parameters as f64 / 1e6,
        header.file_type,
        header.blocks(),
        header.context_train
    )
}

fn check(path: &Path, json: bool) -> anyhow::Result<i32> {
    let header = checked(path)?;
    let needed_mb = crate::gguf::memory_needed(&header, header.context_train.min(8_192), 1) >> 20;
    if json {
        let line = serde_json::json!({
            "kind": "model", "path": path, "name": header.name(), "architecture": header.architecture,
            "parameters": header.parameters, "file_type": header.file_type, "layers": header.blocks(),
            "context": header.context_train, "memory_mb": needed_mb,
        });
        println!("{}", plain::json(&line));
    } else {
        println!("{}: accepted", safe(&path.to_string_lossy()));
        println!("  {}", safe(&describe(&header)));
        println!("  needs about {needed_mb} MB with one sequence of 8k tokens (or its whole context)");
    }
    Ok(0)
}
