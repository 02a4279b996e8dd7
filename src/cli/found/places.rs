//! Where the usual programs keep models, and every file below that may be one.
//!
//! Folders are walked without following links to folders, to a depth and a number of entries; a folder that
//! may not be read is noted, not an error. Roots and layouts are those of each program's own source.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::ollama;
use crate::gguf::survey::part_of_split;

/// How deep below a place, and how many directory entries of all places together are looked at.
const DEPTH: usize = 8;
const ENTRIES_MAX: usize = 100_000;

/// The variables that name places.
pub struct Environment(BTreeMap<String, PathBuf>);

impl Environment {
    pub fn of_process() -> Environment {
        Environment(
            std::env::vars_os()
                .map(|(name, value)| (name.to_string_lossy().into_owned(), value.into()))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> Option<&Path> {
        self.0.get(name).map(PathBuf::as_path).filter(|path| path.is_absolute())
    }
}

impl<const N: usize> From<[(&str, PathBuf); N]> for Environment {
    fn from(pairs: [(&str, PathBuf); N]) -> Environment {
        Environment(pairs.map(|(name, path)| (name.to_string(), path)).into())
    }
}

/// A file that may be a model.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub source: &'static str,
    pub label: String,
    pub path: PathBuf,
    pub sha256: Option<String>,
    pub parts: Option<(u32, u32)>,
    /// Of all parts together.
    pub bytes: Option<u64>,
}

impl Candidate {
    pub fn new(source: &'static str, path: PathBuf) -> Candidate {
        Candidate { source, label: label(&path), sha256: blob_name(&path), path, parts: None, bytes: None }
    }
}

/// `owner/name` for a file of a Hugging Face cache, else the folder and the file's name without its ending.
fn label(path: &Path) -> String {
    let names = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    let repo =
        names.filter_map(|name| name.strip_prefix("models--").map(|rest| rest.replacen("--", "/", 1))).next();
    repo.unwrap_or_else(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
}

/// The sha256 that a Hugging Face cache names the file's blob by.
fn blob_name(path: &Path) -> Option<String> {
    let real = path.canonicalize().ok()?;
    let blob = real.parent()?.file_name()? == "blobs";
    let name = real.file_name()?.to_str()?.to_string();
    (blob && is_sha256(&name)).then_some(name)
}

pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Everything found so far.
#[derive(Default)]
pub struct Places {
    pub candidates: Vec<Candidate>,
    pub notes: Vec<String>,
    entries: usize,
    roots: Vec<PathBuf>,
}

impl Places {
    /// The folders of other programs.
    pub fn usual(&mut self, environment: &Environment) {
        let home = environment.get("HOME").unwrap_or(Path::new("/nonexistent")).to_path_buf();
        let cache = environment.get("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), Path::to_path_buf);
        let of = |name: &str| environment.get(name).map(Path::to_path_buf);
        let hub = [
            of("LLAMA_CACHE"),
            of("HF_HUB_CACHE"),
            of("HUGGINGFACE_HUB_CACHE"),
            of("HF_HOME").map(|path| path.join("hub")),
            Some(cache.join("huggingface/hub")),
            Some(home.join(".cache/huggingface/hub")),
        ];
        hub.into_iter().flatten().for_each(|root| self.hub(&root));
        let llama = [of("LLAMA_CACHE"), Some(cache.join("llama.cpp")), Some(home.join(".cache/llama.cpp"))];
        let llama = llama.into_iter().flatten().chain([home.join("Library/Caches/llama.cpp")]);
        llama.for_each(|root| self.walk("llama.cpp", &root));
        let studio = [home.join(".lmstudio/models"), home.join(".cache/lm-studio/models")];
        let studio = lm_studio_folder(&home).into_iter().chain(studio);
        studio.for_each(|root| self.walk("LM Studio", &root));
        let own = ["models", "Models"].map(|name| home.join(name));
        own.iter().for_each(|root| self.walk("own folder", root));
        let service =
            ["/usr/share/ollama/.ollama/models", "/var/lib/ollama/.ollama/models"].map(PathBuf::from);
        let stores = of("OLLAMA_MODELS").into_iter().chain([home.join(".ollama/models")]).chain(service);
        stores.for_each(|root| self.ollama(&root));
    }

    /// False for a root that was looked at already, under whatever name, or is not there.
    fn enter(&mut self, root: &Path) -> bool {
        match root.canonicalize() {
            Ok(real) if !self.roots.contains(&real) => {
                self.roots.push(real);
                true
            }
            Ok(_) => false,
            Err(error) => {
                if error.kind() == std::io::ErrorKind::PermissionDenied {
                    self.notes.push(format!("{} cannot be looked at: {error}", root.display()));
                }
                false
            }
        }
    }

    /// A Hugging Face cache: only what its snapshots name, since the rest is theirs or half done.
    fn hub(&mut self, root: &Path) {
        let repos = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_repo =
            |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("models--"));
        let mut repos: Vec<PathBuf> = repos.filter(is_repo).collect();
        repos.sort();
        repos.iter().for_each(|repo| self.walk("Hugging Face", &repo.join("snapshots")));
    }

    /// Every `.gguf` below a folder.
    pub fn walk(&mut self, source: &'static str, root: &Path) {
        if self.enter(root) {
            let mut files = Vec::new();
            self.collect(root, DEPTH, &mut files);
            files.sort();
            self.candidates.extend(files.into_iter().map(|path| Candidate::new(source, path)));
        }
    }

    fn collect(&mut self, folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                self.notes.push(format!("{} cannot be looked at: {error}", folder.display()));
                return;
            }
        };
        for entry in entries.flatten() {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return;
            }
            let path = entry.path();
            let hub = entry.file_name().to_string_lossy().starts_with("models--");
            match entry.file_type() {
                // LLAMA_CACHE holds both layouts; repositories of a hub are looked at as such.
                Ok(kind) if kind.is_dir() && depth > 0 && !hub => self.collect(&path, depth - 1, files),
                Ok(kind)
                    if !kind.is_dir() && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) =>
                {
                    files.push(path);
                }
                _ => {}
            }
        }
    }

    fn ollama(&mut self, root: &Path) {
        if self.enter(root) {
            let (candidates, notes) = ollama::layers(root);
            self.candidates.extend(candidates);
            self.notes.extend(notes);
        }
    }
}

/// The folder LM Studio was told to download into.
fn lm_studio_folder(home: &Path) -> Option<PathBuf> {
    let text = crate::config::regular::text(&home.join(".lmstudio/settings.json")).ok()?;
    let settings: serde_json::Value = serde_json::from_str(&text).ok()?;
    settings["downloadsFolder"].as_str().map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Parts of one split model become one candidate: its first part that is here.
pub fn fold(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut folded: Vec<Candidate> = Vec::new();
    let mut models: BTreeMap<(PathBuf, String), usize> = BTreeMap::new();
    for candidate in candidates {
        let name = candidate.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((part, all)) = part_of_split(&name) else {
            folded.push(candidate);
            continue;
        };
        let stem = name.trim_end_matches(&format!("-{part:05}-of-{all:05}.gguf")).to_string();
        let bytes = fs::metadata(&candidate.path).map_or(0, |meta| meta.len());
        let key = (candidate.path.with_file_name(""), format!("{stem} {all}"));
        match models.get(&key).map(|at| &mut folded[*at]) {
            Some(first) => {
                first.parts = first.parts.map(|(here, all)| (here + 1, all));
                first.bytes = first.bytes.map(|sum| sum + bytes);
            }
            None => {
                models.insert(key, folded.len());
                folded.push(Candidate { parts: Some((1, all)), bytes: Some(bytes), ..candidate });
            }
        }
    }
    folded
}
