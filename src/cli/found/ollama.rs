//! Ollama's store: manifests name layers by their sha256, blobs lie under it without an ending. Read only.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::regular;

use super::places::{Candidate, is_sha256};

const SOURCE: &str = "Ollama";
const MANIFEST_MAX: u64 = 1 << 20;
const MANIFESTS_MAX: usize = 4_000;
/// Layers that are GGUF files: weights, LoRA adapters, image halves.
const LAYERS: [&str; 3] = ["model", "adapter", "projector"];
/// `manifests/HOST/NAMESPACE/MODEL/TAG`
const DEPTH: usize = 4;

/// The GGUF layers of every manifest, and blobs that no manifest names; with what could not be looked at.
pub fn layers(root: &Path) -> (Vec<Candidate>, Vec<String>) {
    let (mut manifests, mut notes) = (Vec::new(), Vec::new());
    for folder in ["manifests", "manifests-v2"] {
        collect(&root.join(folder), DEPTH, &mut manifests, &mut notes);
    }
    manifests.sort();
    let mut candidates = Vec::new();
    for manifest in &manifests {
        for (layer, sha256) in read(manifest).unwrap_or_default() {
            let label = name(root, manifest);
            let label = if layer == "model" { label } else { format!("{label} ({layer})") };
            let path = root.join("blobs").join(format!("sha256-{sha256}"));
            candidates.push(Candidate {
                source: SOURCE,
                label,
                path,
                sha256: Some(sha256),
                parts: None,
                bytes: None,
            });
        }
    }
    candidates.extend(unnamed(&root.join("blobs"), &candidates, &mut notes));
    (candidates, notes)
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>, notes: &mut Vec<String>) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                notes.push(format!("{} cannot be looked at: {error}", folder.display()));
            }
            return;
        }
    };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => collect(&entry.path(), depth - 1, files, notes),
            Ok(kind) if !kind.is_dir() && files.len() < MANIFESTS_MAX => files.push(entry.path()),
            _ => {}
        }
    }
}

/// (layer, sha256) of the GGUF layers; None for what is no manifest.
fn read(manifest: &Path) -> Option<Vec<(&'static str, String)>> {
    let mut text = String::new();
    regular::open(manifest).ok()?.take(MANIFEST_MAX).read_to_string(&mut text).ok()?;
    let manifest: Value = serde_json::from_str(&text).ok()?;
    let layers = manifest["layers"].as_array()?.iter().filter_map(|layer| {
        let kind = layer["mediaType"].as_str()?.strip_prefix("application/vnd.ollama.image.")?;
        let kind = LAYERS.into_iter().find(|known| *known == kind)?;
        let sha256 = layer["digest"].as_str()?.strip_prefix("sha256:")?;
        is_sha256(sha256).then(|| (kind, sha256.to_string()))
    });
    Some(layers.collect())
}

/// As `ollama list` shows it: `qwen3:8b`, `someone/model:latest`, `hf.co/owner/repo:Q4_K_M`.
fn name(root: &Path, manifest: &Path) -> String {
    let below = manifest.strip_prefix(root).unwrap_or(manifest);
    let mut parts: Vec<String> =
        below.components().skip(1).map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let tag = parts.pop().unwrap_or_default();
    if parts.first().is_some_and(|host| host.starts_with("registry.ollama.")) {
        parts.remove(0);
        if parts.first().is_some_and(|namespace| namespace == "library") {
            parts.remove(0);
        }
    }
    format!("{}:{tag}", parts.join("/"))
}

/// GGUF blobs of manifests we cannot read, known by their first bytes.
fn unnamed(blobs: &Path, named: &[Candidate], notes: &mut Vec<String>) -> Vec<Candidate> {
    let mut files = Vec::new();
    collect(blobs, 0, &mut files, notes);
    files.retain(|path| !named.iter().any(|candidate| candidate.path == *path) && is_gguf(path));
    files.sort();
    let whole = files.into_iter().filter_map(|path| {
        let sha256 = path.file_name()?.to_str()?.strip_prefix("sha256-").filter(|name| is_sha256(name))?;
        let label = format!("blob {}", &sha256[..12]);
        Some(Candidate {
            source: SOURCE,
            label,
            sha256: Some(sha256.to_string()),
            path,
            parts: None,
            bytes: None,
        })
    });
    whole.collect()
}

fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    regular::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"GGUF"
}
