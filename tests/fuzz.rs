//! The fuzz targets on mutations of their corpora: the same inputs in every run, bounded by their number.
//!
//! TILLERMAN_FUZZ sets the inputs per target (default 2000; fewer where one takes milliseconds),
//! TILLERMAN_FUZZ_SECONDS how long at least (default 0).
//! An input that fails is kept in the temporary folder and named, so that it can go into fuzz/corpus.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Words that readers look for.
const WORDS: [&str; 28] = [
    "\u{1b}[31m",
    "\u{1b}]52;c;aGk=\u{7}",
    "\u{1b}P",
    "\u{9b}",
    "\r\n",
    "\u{202e}",
    "\u{e0041}",
    "\u{200d}",
    "\u{301}",
    "Tool: ",
    "Sub-goal: ",
    "Context: ",
    "calculator",
    "</think>",
    "```json",
    "**",
    "{\"tool\":",
    "null",
    "1e999",
    "\\u0000",
    "\"kind\":\"memory\"",
    "\"seq\":18446744073709551615",
    "[[[[[[[[",
    "GGUF",
    "general.type",
    "general.architecture",
    "-0.0",
    "\u{ff}\u{fe}",
];
/// Numbers that lengths and counts get wrong.
const NUMBERS: [u64; 12] =
    [0, 1, 7, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 56, u64::MAX];
const LONGEST: usize = 1 << 16;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    assert!(paths.len() >= 3, "{folder:?} holds too few inputs");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One to eight changes, as fuzzers make them.
fn mutate(dice: &mut ChaCha8Rng, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..dice.random_range(1..=8) {
        let at = dice.random_range(0..=input.len());
        let place = at.min(input.len().saturating_sub(1));
        match dice.random_range(0..10) {
            0 if !input.is_empty() => input[place] ^= 1 << dice.random_range(0..8),
            1 if !input.is_empty() => input[place] = dice.random(),
            2 => input.truncate(at),
            3 => {
                let end = dice.random_range(at..=input.len().min(at + 64));
                input.drain(at..end);
            }
            4 => {
                let end = dice.random_range(at..=input.len().min(at + 256));
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            5 | 6 => {
                let bytes = NUMBERS[dice.random_range(0..NUMBERS.len())].to_le_bytes();
                let width = [1, 2, 4, 8][dice.random_range(0..4)].min(input.len() - at);
                input[at..at + width].copy_from_slice(&bytes[..width]);
            }
            7 => {
                let word = WORDS[dice.random_range(0..WORDS.len())].bytes();
                input.splice(at..at, word);
            }
            8 if !other.is_empty() => {
                let from = dice.random_range(0..other.len());
                let end = dice.random_range(from..=other.len().min(from + 512));
                input.splice(at..at, other[from..end].iter().copied());
            }
            _ => {
                let mut noise = [0; 8];
                dice.fill_bytes(&mut noise);
                input.splice(at..at, noise);
            }
        }
    }
    input.truncate(LONGEST);
}

fn run(name: &str, target: fn(&[u8])) {
    run_costly(name, target, 1);
}

/// A target that takes `cost` times as long as most: so much fewer inputs.
fn run_costly(name: &str, target: fn(&[u8]), cost: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let least = number("TILLERMAN_FUZZ").unwrap_or(2000);
    let least = (least / cost).max(500.min(least));
    let end = Instant::now() + Duration::from_secs(number("TILLERMAN_FUZZ_SECONDS").unwrap_or(0));
    let corpus = corpus(name);
    let mut dice = ChaCha8Rng::seed_from_u64(11);
    let tried = |input: &[u8]| {
        if let Err(panic) = std::panic::catch_unwind(|| target(input)) {
            let kept =
                std::env::temp_dir().join(format!("tillerman-fuzz-{name}-{}", blake3::hash(input).to_hex()));
            let _ = fs::write(&kept, input);
            eprintln!("{name} fails on {}", kept.display());
            std::panic::resume_unwind(panic);
        }
    };
    corpus.iter().for_each(|input| tried(input));
    let mut count = 0;
    while count < least || Instant::now() < end {
        count += 1;
        let mut input = corpus[dice.random_range(0..corpus.len())].clone();
        let other = &corpus[dice.random_range(0..corpus.len())];
        mutate(&mut dice, &mut input, other);
        tried(&input);
    }
    println!("{name}: {} inputs of the corpus and {count} mutations of them, 0 failures", corpus.len());
}

#[test]
fn gguf_headers() {
    run("gguf", targets::gguf);
}

#[test]
fn text_for_the_screen() {
    run("safe_text", targets::safe_text);
}

#[test]
fn plans() {
    run("plan", targets::plan);
}

#[test]
fn commands_and_verdicts() {
    run("command", targets::command);
}

#[test]
fn frames_of_the_engine() {
    run("frames", targets::frames);
}

#[test]
fn files_to_import() {
    run("import", targets::import);
}

#[test]
fn web_addresses() {
    run("address", targets::address);
}

#[test]
fn web_pages() {
    run("page", targets::page);
}

#[test]
fn replies_of_remote_engines() {
    run("reply", targets::reply);
}

#[test]
fn tools_of_mcp_servers() {
    run("mcp_tool", targets::mcp_tool);
}

#[test]
fn task_files() {
    run("tasks", targets::tasks);
}

#[test]
fn answers_beside_references() {
    run("score", targets::score);
}

#[test]
fn adapters() {
    run("adapter", targets::adapter);
}

#[test]
fn settings_and_keys() {
    run("settings", targets::settings);
}

#[test]
fn chat_templates() {
    run("template", targets::template);
}

#[test]
fn expressions() {
    // A thread of its own for each, and up to two seconds.
    run_costly("calculator", targets::calculator, 50);
}

#[test]
fn answers_on_the_screen_and_themes() {
    run_costly("screen", targets::screen, 10);
}

#[test]
fn adapters_of_python() {
    run("peft", targets::peft);
}

#[test]
fn passages_to_quote() {
    run("quote", targets::quote);
}

/// Writes the corpora of binary inputs anew; the others are kept by hand.
#[test]
#[ignore = "writes fuzz/corpus: cargo test --release --test fuzz -- --ignored corpora"]
fn corpora() {
    use tillerman::engine::wire::{
        FromWorker, Job, Load, Loaded, Outcome, Prompt, Sampled, ToWorker, VERSION, encode,
    };
    use tillerman::engine::{Message, Sampler, Speaker, StopReason};
    use tillerman::error::EngineError;
    use tillerman::gguf::check;
    use tillerman::gguf::toy::{Architecture, SHAPES, Shape, ToyModel, toy_adapter};
    use tillerman::train::lora::{self, Lora, Site};
    use tillerman::train::peft;

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let put = |target: &str, name: &str, bytes: &[u8]| {
        fs::create_dir_all(root.join(target)).unwrap();
        fs::write(root.join(target).join(name), bytes).unwrap();
    };
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape { vocabulary: 280, blocks: 1, ..SHAPES[0] };
    for architecture in [Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3] {
        let path = folder.path().join("model.gguf");
        ToyModel { shape, architecture, ..ToyModel::default() }.write(&path).unwrap();
        let header = check(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        put("gguf", architecture.name(), &bytes[..usize::try_from(header.data_offset).unwrap()]);
        let adapter = folder.path().join("adapter.gguf");
        toy_adapter(&adapter, &path, 2, 4.0, 0, 0.02).unwrap();
        put("gguf", "adapter", &fs::read(&adapter).unwrap()[..1024]);
        put("adapter", architecture.name(), &fs::read(&adapter).unwrap()[..1024]);
    }
    let path = folder.path().join("base.gguf");
    ToyModel { shape, ..ToyModel::default() }.write(&path).unwrap();
    let base = check(&path).unwrap();
    for (name, sites, rank) in [("all", usize::MAX, 2), ("one", 1, 1), ("three", 3, 4)] {
        let sites: Vec<Site> = lora::sites(&base).into_iter().take(sites).collect();
        peft::export(folder.path(), &Lora::init(&sites, rank, 4.0, 1).unwrap(), &base, "toy").unwrap();
        let config = fs::read_to_string(folder.path().join("adapter_config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        let numbers = fs::read(folder.path().join("adapter_model.safetensors")).unwrap();
        put("peft", name, &[format!("{config}\n").as_bytes(), &numbers].concat());
    }
    let mut sequence = Vec::new();
    let sampled = Sampled {
        text: "añ".into(),
        prompt_ids: vec![1, -1, i32::MAX],
        completion_ids: vec![5, 6],
        logprobs: vec![-0.5, -0.25],
        forced: vec![false, true],
        stop: Some(StopReason::EndOfTurn),
        ..Sampled::default()
    };
    for message in [
        FromWorker::Hello { version: VERSION },
        FromWorker::Loaded(Box::new(Loaded {
            name: "toy".into(),
            devices: vec!["CPU".into()],
            ..Loaded::default()
        })),
        FromWorker::Piece { id: 7, text: "añ".into() },
        FromWorker::Done { id: 7, outcome: Ok(Outcome::Completion(sampled)) },
        FromWorker::Done { id: 8, outcome: Ok(Outcome::Scores(vec![-1.0; 9])) },
        FromWorker::Done { id: 9, outcome: Err(EngineError::OutOfMemory { needed_mb: 9, free_mb: 1 }) },
        FromWorker::Alive,
    ] {
        encode(&message, &mut sequence).unwrap();
    }
    put("frames", "from-worker", &sequence);
    put("frames", "short", &sequence[..16]);
    let mut sequence = Vec::new();
    let load = Load {
        model: "/m.gguf".into(),
        adapter: None,
        context: Some(2048),
        sequences: 2,
        threads: None,
        gpu_layers: Some(-1),
        chat_template: Some("{{ x }}".into()),
    };
    let job = Job {
        adapter: true,
        prompt: Prompt::Chat(vec![Message::new(Speaker::User, ["q", "m"])]),
        sampler: Sampler::temperature(0.7, 3),
        grammar: Some("root ::= \"a\"".into()),
        max_tokens: 9,
        ignore_end: false,
    };
    for message in [
        ToWorker::Load(load),
        ToWorker::Complete { id: 1, job },
        ToWorker::Cancel { id: 1 },
        ToWorker::SetAdapter { id: 2, path: Some("/a.gguf".into()) },
        ToWorker::Score { id: 3, ids: vec![1, 2, 3], adapter: false },
    ] {
        encode(&message, &mut sequence).unwrap();
    }
    put("frames", "to-worker", &sequence);
}
