//! The finder over stores as other programs leave them, made in a temporary folder.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::gguf::toy::{ToyModel, toy_adapter};
use crate::gguf::write::Plan;

/// A user's home and this program's data directory.
struct Machine {
    folder: tempfile::TempDir,
    home: Home,
}

impl Machine {
    fn new() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&folder.path().join("tillerman"))).unwrap();
        Machine { folder, home }
    }

    /// A path in the user's home, its folder made.
    fn at(&self, path: &str) -> PathBuf {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn model(&self, path: &str, seed: u64) -> PathBuf {
        let path = self.at(path);
        ToyModel { seed, ..ToyModel::default() }.write(&path).unwrap();
        path
    }

    fn serving(&self) -> PathBuf {
        self.folder.path().join("serving.gguf")
    }

    fn look(&self) -> Found {
        let environment = Environment::from([("HOME", self.folder.path().to_path_buf())]);
        look(&self.home, &self.serving(), &environment)
    }

    /// (kind, source, label) of everything found, sorted.
    fn found(&self) -> Vec<(String, String, String)> {
        let entries = self.look().entries.into_iter();
        let mut found: Vec<_> =
            entries.map(|entry| (entry.kind().to_string(), entry.source.to_string(), entry.label)).collect();
        found.sort();
        found
    }
}

fn of(kind: &str, source: &str, label: &str) -> (String, String, String) {
    (kind.to_string(), source.to_string(), label.to_string())
}

/// Every file and folder below, with time of change and mode: a look must leave it as it is.
fn picture(folder: &Path) -> BTreeMap<PathBuf, (std::time::SystemTime, u32)> {
    let mut seen = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let meta = entry.path().symlink_metadata().unwrap();
        seen.insert(entry.path(), (meta.modified().unwrap(), meta.permissions().mode()));
        if meta.is_dir() {
            seen.extend(picture(&entry.path()));
        }
    }
    seen
}

const SHA: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[test]
fn a_hugging_face_cache_is_read_by_its_snapshots() {
    let machine = Machine::new();
    let repo = ".cache/huggingface/hub/models--Qwen--Qwen3-GGUF";
    machine.model(&format!("{repo}/blobs/{SHA}"), 1);
    fs::write(machine.at(&format!("{repo}/blobs/{SHA}.0a1b2c3d.incomplete")), "GGUF half").unwrap();
    for commit in ["c1", "c2"] {
        let link = machine.at(&format!("{repo}/snapshots/{commit}/q4.gguf"));
        symlink(format!("../../blobs/{SHA}"), link).unwrap();
    }
    symlink("../../blobs/gone", machine.at(&format!("{repo}/snapshots/c2/gone.gguf"))).unwrap();
    // Where links cannot be made the file itself lies in the snapshot.
    machine.model(".cache/huggingface/hub/models--a--b--c/snapshots/c/sub/m.gguf", 2);
    let before = picture(machine.folder.path());
    let found = machine.look();
    assert_eq!(picture(machine.folder.path()), before, "looking changed something");
    assert_eq!(
        machine.found(),
        [of("model", "Hugging Face", "Qwen/Qwen3-GGUF"), of("model", "Hugging Face", "a/b--c")]
    );
    let blob = found.entries.iter().find(|entry| entry.label.starts_with("Qwen")).unwrap();
    assert_eq!((blob.sha256.as_deref(), blob.also.len()), (Some(SHA), 1), "{blob:?}");
}

#[test]
fn ollama_names_its_layers_and_keeps_adapters() {
    let machine = Machine::new();
    let blob = |hex: char| hex.to_string().repeat(64);
    let path = |hex: char| format!(".ollama/models/blobs/sha256-{}", blob(hex));
    let model = machine.model(&path('1'), 1);
    toy_adapter(&machine.at(&path('2')), &model, 2, 4.0, 0, 0.02).unwrap();
    let mut clip = Plan::default();
    clip.text("general.architecture", "clip");
    fs::write(machine.at(&path('3')), clip.header()).unwrap();
    machine.model(&path('4'), 4);
    fs::write(machine.at(&path('5')), "{{ .Prompt }}").unwrap();
    let layer = |kind: &str, hex: char| {
        format!(
            r#"{{"mediaType":"application/vnd.ollama.image.{kind}","digest":"sha256:{}","size":1}}"#,
            blob(hex)
        )
    };
    let manifest = |name: &str, layers: &[String]| {
        let text = format!(r#"{{"schemaVersion":2,"config":{{}},"layers":[{}]}}"#, layers.join(","));
        fs::write(machine.at(&format!(".ollama/models/manifests/{name}")), text).unwrap();
    };
    let whole = [layer("model", '1'), layer("adapter", '2'), layer("projector", '3'), layer("template", '5')];
    manifest("registry.ollama.ai/library/qwen3/8b", &whole);
    manifest("registry.ollama.ai/library/qwen3/latest", &[layer("model", '1')]);
    let outside =
        r#"{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:../../x"}"#.to_string();
    manifest("hf.co/owner/repo/Q4_K_M", &[layer("model", 'f'), layer("image.tensor", '5'), outside]);
    fs::write(machine.at(".ollama/models/manifests/hf.co/owner/repo/broken"), "{").unwrap();
    assert_eq!(
        machine.found(),
        [
            of("adapter", "Ollama", "qwen3:8b (adapter)"),
            of("model", "Ollama", "blob 444444444444"),
            of("model", "Ollama", "qwen3:8b"),
            of("projector", "Ollama", "qwen3:8b (projector)"),
        ]
    );
    let adapter = machine.look().entries.into_iter().find(|entry| entry.kind() == "adapter").unwrap();
    assert!(adapter.words.contains("tillerman adapters import"), "{adapter:?}");
}

#[test]
fn the_same_blob_in_two_stores_is_one_model() {
    let machine = Machine::new();
    machine.model(&format!(".cache/huggingface/hub/models--a--b/blobs/{SHA}"), 1);
    symlink(
        format!("../../blobs/{SHA}"),
        machine.at(".cache/huggingface/hub/models--a--b/snapshots/c/m.gguf"),
    )
    .unwrap();
    machine.model(&format!(".ollama/models/blobs/sha256-{SHA}"), 1);
    fs::hard_link(
        machine.folder.path().join(format!(".ollama/models/blobs/sha256-{SHA}")),
        machine.at(".lmstudio/models/a/b/m.gguf"),
    )
    .unwrap();
    let found = machine.look();
    let (models, others): (Vec<_>, Vec<_>) =
        found.entries.iter().partition(|entry| entry.source == "Hugging Face");
    assert_eq!(models.len(), 1);
    // The copy in Ollama's store is known by its name, its other link by its inode.
    assert!(models[0].also.iter().any(|place| place.starts_with("Ollama")), "{models:?}");
    assert!(others.iter().all(|entry| entry.source == "LM Studio"), "{others:?}");
}

#[test]
fn split_models_are_one_line_and_say_what_is_missing() {
    let machine = Machine::new();
    for part in 1..=3 {
        machine.model(&format!(".lmstudio/models/a/b/whole-0000{part}-of-00003.gguf"), 1);
    }
    machine.model(".lmstudio/models/a/b/torn-00002-of-00002.gguf", 2);
    let found = machine.look();
    assert_eq!(found.entries.len(), 2, "{found:?}");
    let one = |stem: &str| found.entries.iter().find(|entry| entry.label.starts_with(stem)).unwrap();
    assert_eq!((one("whole").parts, one("whole").kind()), (Some((3, 3)), "unsupported"));
    assert_eq!(one("whole").bytes, 3 * one("torn").bytes);
    assert!(one("whole").reason.contains("merge"), "{:?}", one("whole"));
    assert!(one("torn").reason.contains("only 1 of its 2"), "{:?}", one("torn"));
}

#[test]
fn other_places_and_files_that_cannot_serve() {
    let machine = Machine::new();
    let settings =
        format!(r#"{{"downloadsFolder":"{}"}}"#, machine.folder.path().join("elsewhere").display());
    fs::write(machine.at(".lmstudio/settings.json"), settings).unwrap();
    machine.model("elsewhere/publisher/name/x.GGUF", 1);
    machine.model(".cache/llama.cpp/org_repo_y.gguf", 2);
    fs::write(machine.at(".cache/llama.cpp/org_repo_y.gguf.etag"), "x").unwrap();
    machine.model("models/z.gguf", 3);
    fs::write(machine.at("models/empty.gguf"), "").unwrap();
    symlink(machine.folder.path(), machine.folder.path().join("models/loop")).unwrap();
    let mut mamba = Plan::default();
    mamba.text("general.architecture", "mamba");
    fs::write(machine.at("models/mamba.gguf"), mamba.header()).unwrap();
    assert_eq!(
        machine.found(),
        [
            of("model", "LM Studio", "x"),
            of("model", "llama.cpp", "org_repo_y"),
            of("model", "own folder", "z"),
            of("unsupported", "own folder", "empty"),
            of("unsupported", "own folder", "mamba"),
        ]
    );
    let found = machine.look();
    let mamba = found.entries.iter().find(|entry| entry.label == "mamba").unwrap();
    assert!(mamba.reason.contains("mamba") && mamba.reason.contains("not served"), "{mamba:?}");
    // A pipe is not opened: its writer may never come.
    let pipe = machine.folder.path().join("models/pipe.gguf");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(machine.look().entries.len(), 6);
}

#[test]
fn what_serves_comes_first_and_learns_whose_it_is() {
    let machine = Machine::new();
    machine.model("models/first.gguf", 1);
    let second = machine.model("models/second.gguf", 2);
    symlink(second, machine.serving()).unwrap();
    let found = machine.look();
    assert_eq!(found.entries.len(), 2, "{found:?}");
    let first = &found.entries[0];
    assert!(first.current && first.source == "own folder" && first.label == "second", "{first:?}");
    assert!(!found.entries[1].current && found.notes.is_empty(), "{found:?}");
}

#[test]
fn one_model_under_two_names_is_listed_once_and_the_serving_one_first() {
    let machine = Machine::new();
    let model = machine.home.models().join("planner.gguf");
    fs::create_dir_all(machine.home.models()).unwrap();
    fs::write(&model, super::super::setup::PLANNER).unwrap();
    fs::write(machine.home.models().join("broken.gguf"), b"GGUF and then nothing").unwrap();
    symlink(&model, machine.home.models().join("again.gguf")).unwrap();
    let found = models(&machine.home, &model);
    let ours: Vec<&ModelLine> =
        found.iter().filter(|line| line.path.starts_with(machine.folder.path().to_str().unwrap())).collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    assert!(found[0].current && found[0].fits && found[0].trainable, "{:?}", found[0]);
}
