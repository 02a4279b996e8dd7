//! GGUF files that are on this machine already, wherever the usual programs keep theirs: looked at, never
//! changed, nothing fetched. A file counts when its header passes the check.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::config::Home;
use crate::deck::study::ModelLine;
use crate::gguf::{self, Header};

/// Most files looked at, and how deep below each place.
const FILES_MAX: usize = 200;
const DEPTH: usize = 8;
/// Context a model is sized for, as `model check` does.
const CONTEXT: u64 = 8_192;
/// Dense architectures the trainer knows the forward pass of.
const TRAINABLE: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// Where models lie: (whose, folder).
fn places(home: &Home) -> Vec<(&'static str, PathBuf)> {
    let person = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let at = |variable: &str, default: &str| {
        std::env::var_os(variable).map_or_else(|| person.join(default), PathBuf::from)
    };
    vec![
        ("this program", home.models()),
        ("Hugging Face", at("HF_HOME", ".cache/huggingface").join("hub")),
        ("llama.cpp", at("LLAMA_CACHE", ".cache/llama.cpp")),
        ("LM Studio", person.join(".lmstudio/models")),
        ("LM Studio", person.join(".cache/lm-studio/models")),
        ("Ollama", at("OLLAMA_MODELS", ".ollama/models").join("blobs")),
    ]
}

/// Every model found, the one that serves first.
pub fn models(home: &Home, serving: &Path) -> Vec<ModelLine> {
    let free = free_bytes();
    let mut lines: Vec<ModelLine> = Vec::new();
    let mut seen: Vec<PathBuf> = Vec::new();
    let mut add = |place: &str, path: &Path| {
        // The Hugging Face cache holds links to its blobs; one file is one model.
        let Ok(real) = path.canonicalize() else { return };
        if seen.len() >= FILES_MAX || seen.contains(&real) {
            return;
        }
        seen.push(real);
        if let Ok(header) = gguf::check(path) {
            lines.push(line(place, path, &header, free));
        }
    };
    add("in use", serving);
    for (place, folder) in places(home) {
        let mut files = Vec::new();
        collect(&folder, place == "Ollama", DEPTH, &mut files);
        files.sort();
        files.iter().for_each(|path| add(place, path));
    }
    if let Some(first) = lines.first_mut().filter(|line| line.place == "in use") {
        first.current = true;
    }
    lines
}

/// Files that may be models: by their ending, or in Ollama's store by their first bytes.
fn collect(folder: &Path, by_content: bool, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if files.len() >= FILES_MAX {
            return;
        }
        if path.is_dir() {
            if depth > 0 && !entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                collect(&path, by_content, depth - 1, files);
            }
        } else if path.extension().is_some_and(|e| e == "gguf") || (by_content && is_gguf(&path)) {
            files.push(path);
        }
    }
}

fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"GGUF"
}

fn line(place: &str, path: &Path, header: &Header, free: Option<u64>) -> ModelLine {
    let needed = gguf::memory_needed(header, header.context_train.min(CONTEXT), 1);
    let fits = free.is_none_or(|free| needed <= free);
    let mut words = Vec::new();
    if let Some(free) = free.filter(|_| !fits) {
        let gb = |bytes: u64| bytes as f64 / 1e9;
        words.push(format!("needs {:.1} GB, {:.1} GB are free", gb(needed), gb(free)));
    }
    let trainable = TRAINABLE.contains(&header.architecture.as_str());
    if !trainable {
        words.push(format!("the trainer does not know the architecture {}", header.architecture));
    }
    ModelLine {
        name: header.name().to_string(),
        path: path.display().to_string(),
        place: place.to_string(),
        bytes: header.file_bytes,
        parameters: header.parameters,
        file_type: header.file_type.clone(),
        current: false,
        fits,
        trainable,
        words: words.join("; "),
    }
}

/// Memory that can be had without swapping; only Linux tells this way.
fn free_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kb| kb << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_model_under_two_names_is_listed_once_and_the_serving_one_first() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path())).unwrap();
        std::fs::create_dir_all(home.models()).unwrap();
        let model = home.models().join("planner.gguf");
        std::fs::write(&model, super::super::setup::PLANNER).unwrap();
        std::fs::write(home.models().join("broken.gguf"), b"GGUF and then nothing").unwrap();
        std::os::unix::fs::symlink(&model, home.models().join("again.gguf")).unwrap();
        let found = models(&home, &model);
        let ours: Vec<&ModelLine> =
            found.iter().filter(|line| line.path.starts_with(folder.path().to_str().unwrap())).collect();
        assert_eq!(ours.len(), 1, "{ours:?}");
        assert!(found[0].current && found[0].fits && found[0].trainable, "{:?}", found[0]);
    }
}
