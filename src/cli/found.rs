//! GGUF files that are on this machine already, wherever the usual programs keep theirs: headers are read,
//! nothing is changed, locked or fetched. `places` knows the folders, `ollama` the one store with names of its own.

mod ollama;
mod places;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::Home;
use crate::deck::study::ModelLine;
use crate::gguf::survey::{Kind, Survey, survey};
use crate::gguf::{self, GgufError};

pub use places::Environment;
use places::{Candidate, Places};

/// Headers of big vocabularies take a tenth of a second; a machine full of models is listed in part.
const PATIENCE: Duration = Duration::from_secs(8);
/// Context a model is sized for, as `model check` does.
const CONTEXT: u64 = 8_192;
/// Dense architectures the trainer knows the forward pass of.
const TRAINABLE: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// One file, or one model of several parts.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Whose folder it lies in ("Hugging Face", "Ollama" ...), and what it is called there.
    pub source: &'static str,
    pub label: String,
    pub path: PathBuf,
    /// As the store names it; nothing is hashed here.
    pub sha256: Option<String>,
    /// Parts here and parts in all, for a split model.
    pub parts: Option<(u32, u32)>,
    pub bytes: u64,
    /// None where the file has no header at all.
    pub survey: Option<Survey>,
    /// Why it cannot serve; empty for a model that can.
    pub reason: String,
    pub current: bool,
    /// It fits this machine's memory; what is missing stands in `words` where it does not.
    pub fits: bool,
    pub trainable: bool,
    pub words: String,
    /// Other places that hold the same file.
    pub also: Vec<String>,
}

impl Entry {
    /// "model", "adapter", "projector" or "unsupported".
    pub fn kind(&self) -> &'static str {
        match &self.survey {
            Some(found) if found.kind != Kind::Model => found.kind.name(),
            Some(_) if self.reason.is_empty() => "model",
            _ => "unsupported",
        }
    }
}

/// What was found, the model that serves first; and what could not be looked at, in words.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub entries: Vec<Entry>,
    pub notes: Vec<String>,
}

/// Models that can serve, for the deck, and those that could be downloaded beside them.
pub fn models(home: &Home, serving: &Path) -> Vec<ModelLine> {
    let found = look(home, serving, &Environment::of_process());
    let mut lines: Vec<ModelLine> =
        found.entries.into_iter().filter(|entry| entry.kind() == "model").map(line).collect();
    let offered = super::offers::beside(&lines, crate::engine::ffi::os::memory_available());
    lines.extend(offered);
    lines
}

/// Every GGUF in the usual places.
pub fn look(home: &Home, serving: &Path, environment: &Environment) -> Found {
    let mut places = Places::default();
    places.walk("this program", &home.models());
    places.usual(environment);
    let serving = Candidate::new("in use", serving.to_path_buf());
    let candidates = std::iter::once(serving).chain(places::fold(places.candidates));
    let (began, free) = (Instant::now(), crate::engine::ffi::os::memory_available());
    let mut found = Found { entries: Vec::new(), notes: places.notes };
    let mut seen: HashMap<Identity, usize> = HashMap::new();
    let mut late = 0;
    for candidate in candidates {
        // The first is the model that serves: listed in any case.
        if began.elapsed() > PATIENCE && !found.entries.is_empty() {
            late += 1;
            continue;
        }
        let identities = identities(&candidate);
        if let Some(at) = identities.iter().find_map(|identity| seen.get(identity)).copied() {
            again(&mut found.entries[at], candidate);
            continue;
        }
        if let Some(entry) = examine(candidate, free) {
            seen.extend(identities.into_iter().map(|identity| (identity, found.entries.len())));
            found.entries.push(entry);
        }
    }
    if let Some(first) = found.entries.first_mut().filter(|entry| entry.source == "in use") {
        first.current = true;
    }
    if late > 0 {
        let seconds = PATIENCE.as_secs();
        found.notes.push(format!("{late} more files were not looked at: {seconds} s were over; ask again"));
    }
    found
}

/// What makes two paths one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    Sha256(String),
    Inode(u64, u64),
}

fn identities(candidate: &Candidate) -> Vec<Identity> {
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(&candidate.path).ok().map(|meta| Identity::Inode(meta.dev(), meta.ino()));
    candidate.sha256.clone().map(Identity::Sha256).into_iter().chain(inode).collect()
}

/// The same file under another name: the one in use learns whose it is, others are noted.
fn again(entry: &mut Entry, candidate: Candidate) {
    if entry.sha256.is_none() {
        entry.sha256 = candidate.sha256;
    }
    if entry.source == "in use" {
        (entry.source, entry.label) = (candidate.source, candidate.label);
        entry.current = true;
        return;
    }
    let place = candidate.path.to_string_lossy().into_owned();
    let place =
        if candidate.source == entry.source { place } else { format!("{}: {place}", candidate.source) };
    if !entry.also.contains(&place) {
        entry.also.push(place);
    }
}

/// None for a link to nothing, and for what is no GGUF where files are found by their content.
fn examine(candidate: Candidate, free: Option<u64>) -> Option<Entry> {
    let found = survey(&candidate.path);
    if matches!(found, Err(GgufError::Missing { .. })) {
        return None;
    }
    let mut entry = Entry {
        source: candidate.source,
        label: candidate.label,
        bytes: candidate
            .bytes
            .unwrap_or_else(|| std::fs::metadata(&candidate.path).map_or(0, |meta| meta.len())),
        path: candidate.path,
        sha256: candidate.sha256,
        parts: candidate.parts,
        survey: None,
        reason: String::new(),
        current: false,
        fits: false,
        trainable: false,
        words: String::new(),
        also: Vec::new(),
    };
    match found {
        Err(GgufError::Refused { refusal, .. }) => {
            entry.reason = format!("no GGUF that can be read: {refusal}")
        }
        Err(error) => entry.reason = error.to_string(),
        Ok(found) => judge(&mut entry, found, free),
    }
    Some(entry)
}

fn judge(entry: &mut Entry, mut found: Survey, free: Option<u64>) {
    entry.reason = match (&found.served, entry.parts) {
        _ if found.kind == Kind::Adapter => {
            entry.words = "import it with: tillerman adapters import PATH".to_string();
            String::new()
        }
        _ if found.kind == Kind::Projector => "an image or audio part; this program reads text".to_string(),
        (_, Some((here, all))) if here < all => format!("split, and only {here} of its {all} parts are here"),
        (_, Some((_, all))) => format!("split into {all} parts; merge them with llama-gguf-split --merge"),
        _ if found.packed => {
            "packed with its image parts in one file, as Ollama does; pull a GGUF of it instead".to_string()
        }
        (Err(refusal), _) => refusal.to_string(),
        (Ok(_), _) => String::new(),
    };
    if let (Ok(header), true) = (&found.served, entry.reason.is_empty()) {
        let needed = gguf::memory_needed(header, header.context_train.min(CONTEXT), 1);
        entry.fits = free.is_none_or(|free| needed <= free);
        entry.trainable = TRAINABLE.contains(&header.architecture.as_str());
        let mut words = Vec::new();
        if let Some(free) = free.filter(|_| !entry.fits) {
            let gb = |bytes: u64| bytes as f64 / 1e9;
            words.push(format!("needs {:.1} GB, {:.1} GB are free", gb(needed), gb(free)));
        }
        if !entry.trainable {
            words.push(format!("the trainer does not know the architecture {}", header.architecture));
        }
        entry.words = words.join("; ");
    }
    // A vocabulary is megabytes; a list of models needs none of them.
    if let Ok(header) = &mut found.served {
        (header.metadata, header.tensors) = (gguf::Metadata::default(), Vec::new());
    }
    entry.survey = Some(found);
}

fn line(entry: Entry) -> ModelLine {
    let survey = entry.survey.as_ref();
    ModelLine {
        name: survey.map(|found| found.name.clone()).unwrap_or_default(),
        path: entry.path.display().to_string(),
        place: if entry.current { "in use".to_string() } else { entry.source.to_string() },
        bytes: entry.bytes,
        parameters: survey.map_or(0, |found| found.parameters),
        file_type: survey.map(|found| found.file_type.clone()).unwrap_or_default(),
        current: entry.current,
        fits: entry.fits,
        trainable: entry.trainable,
        words: entry.words,
        offer: None,
    }
}
