//! The house rules as tests: layers point up only, every file says what it is for, nothing unfinished.

use std::path::{Path, PathBuf};

/// Layers from the bottom; a file may use its own layer and those before it (and siblings in its folder).
const LAYERS: [&[&str]; 8] = [
    &["error", "config", "text"],
    &["gguf", "engine"],
    &["tools"],
    &["flow"],
    &["store"],
    &["tasks", "train"],
    &["deck"],
    &["cli"],
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// `crate::x` mentions outside comments, as (line number, module).
fn mentions(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for part in code.split("crate::").skip(1) {
            let list = part.strip_prefix('{').map_or(part, |rest| rest.split('}').next().unwrap_or(rest));
            let names = if part.starts_with('{') { list.split(',').collect() } else { vec![list] };
            for name in names {
                let module: String =
                    name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                found.push((number + 1, module));
            }
        }
    }
    found
}

#[test]
fn imports_point_to_lower_layers() {
    let mut breaches = Vec::new();
    let mut seen = 0;
    for (name, text) in all() {
        let module = name.split(['/', '.']).next().unwrap().to_string();
        let Some(own) = layer(&module) else { continue };
        for (line, used) in mentions(&text) {
            if let Some(other) = layer(&used) {
                seen += 1;
                if other > own {
                    breaches.push(format!("src/{name}:{line} ({module}) uses {used}"));
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} imports were recognised: the reader is broken");
    assert!(breaches.is_empty(), "layers breached:\n{}", breaches.join("\n"));
}

#[test]
fn train_and_deck_never_meet_and_only_the_deck_draws() {
    for (name, text) in all() {
        let code: String = text.lines().map(|l| l.split("//").next().unwrap_or_default()).collect();
        if name.starts_with("deck") {
            assert!(!code.contains("crate::train"), "src/{name} names train");
        } else {
            assert!(!code.contains("ratatui"), "src/{name} names ratatui outside the deck");
            assert!(!code.contains("crossterm"), "src/{name} names crossterm outside the deck");
        }
        if name.starts_with("flow") {
            for banned in ["std::fs", "tokio::fs", "rusqlite"] {
                assert!(!code.contains(banned), "src/{name} (flow) names {banned}");
            }
        }
    }
}

#[test]
fn unsafe_stays_in_the_ffi_the_sandbox_and_the_kernels() {
    for (name, text) in all() {
        let allowed = ["engine/ffi", "tools/sandbox", "train/kernels", "train/device/ffi"]
            .iter()
            .any(|place| name.starts_with(place));
        let used = text.lines().any(|l| {
            let code = l.split("//").next().unwrap_or_default();
            code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")
        });
        assert!(allowed || !used, "src/{name} uses unsafe");
    }
}

#[test]
fn every_file_says_what_it_is_for_and_nothing_is_unfinished() {
    for (name, text) in all() {
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! ") && first.len() > 20, "src/{name} has no file head");
        assert!(!first.contains("To be written"), "src/{name} is a stub");
        for banned in ["todo!(", "unimplemented!(", "dbg!("] {
            assert!(!text.contains(banned), "src/{name} holds {banned}");
        }
        let lines = text.lines().count();
        assert!(lines <= 700, "src/{name} has {lines} lines: split it");
    }
}

/// `scripts/traps.py` puts each trap back and expects its test to fail; here only that the list still fits.
#[test]
fn every_trap_has_its_line_and_its_test() {
    let traps: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("traps/traps.json")).expect("the list of traps");
    assert!(traps.len() >= 30, "{}", traps.len());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = all().into_iter().map(|(_, text)| text).collect::<String>();
    let mut files = Vec::new();
    sources(&root.join("tests"), &mut files);
    tests.extend(files.iter().map(|path| std::fs::read_to_string(path).unwrap()));
    for trap in &traps {
        let text = |key: &str| trap[key].as_str().unwrap_or_else(|| panic!("{key} of {trap}"));
        let source = std::fs::read_to_string(root.join(text("file"))).unwrap();
        assert_eq!(source.matches(text("from")).count(), 1, "{}: {}", text("trap"), text("from"));
        assert!(
            tests.contains(&format!("fn {}(", text("test"))),
            "{}: no test {}",
            text("trap"),
            text("test")
        );
    }
}
