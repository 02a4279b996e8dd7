//! Adapters: what is kept is whole, what is half written is never seen, and the pointer can always go back.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tillerman::config::Home;
use tillerman::engine::ModelInfo;
use tillerman::store::*;
use tillerman::train::adapter_file::place;

use crate::crash::spawn;
use crate::{open, quick_dir};

/// A model file, so that the store can recognise it again.
pub fn model(dir: &Path, name: &str) -> ModelInfo {
    let path = dir.join(name);
    std::fs::write(&path, format!("weights of {name}")).unwrap();
    let hash = blake3::hash(&std::fs::read(&path).unwrap()).to_hex().to_string();
    ModelInfo { name: name.into(), path, hash, ..ModelInfo::default() }
}

pub fn keep(
    store: &Store,
    model: &ModelInfo,
    weights: &[u8],
    parent: Option<&str>,
) -> Result<Adapter, StoreError> {
    let draft = store.draft_adapter()?;
    // As the trainer's worker does it.
    place(&draft.path(WEIGHTS), weights).unwrap();
    place(&draft.path(OPTIMIZER), b"moments").unwrap();
    let new = NewAdapter {
        parent: parent.map(Into::into),
        model,
        rank: 8,
        alpha: 32.0,
        origin: Origin::Trained,
        manifest: json!({"labels": 3}),
    };
    store.keep_adapter(draft, &new)
}

#[test]
fn an_adapter_is_named_by_its_content_and_never_changes() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    let base = model(elsewhere.path(), "m.gguf");
    let first = keep(&store, &base, b"first", None).unwrap();
    assert_eq!(first.hash, blake3::hash(b"first").to_hex().to_string());
    assert!(first.hash.starts_with(&first.id));
    let folder = store.adapter_dir(&first).unwrap();
    assert_eq!(std::fs::read(folder.join(WEIGHTS)).unwrap(), b"first");
    assert_eq!(std::fs::read(folder.join(OPTIMIZER)).unwrap(), b"moments");
    let manifest: Adapter = serde_json::from_slice(&std::fs::read(folder.join(MANIFEST)).unwrap()).unwrap();
    assert_eq!(manifest, first, "the folder alone says what it is");
    let second = keep(&store, &base, b"second", Some(&first.id)).unwrap();
    assert_eq!(
        keep(&store, &base, b"first", Some(&second.id)).unwrap(),
        first,
        "the same again changes nothing"
    );
    assert_eq!(store.adapters(Some(&base.hash)).unwrap(), [second.clone(), first.clone()]);
    assert_eq!(store.adapters(Some("other")).unwrap(), []);
    assert_eq!(store.find_adapter(&first.id[..6]).unwrap(), first);
    assert_eq!(store.find_adapter(&second.hash).unwrap(), second);
    assert!(matches!(store.find_adapter("nothing"), Err(StoreError::NoAdapter(_))));
    assert!(matches!(store.find_adapter(" "), Err(StoreError::NoAdapter(_))));

    // A draft without weights, and one given up, leave nothing behind.
    drop(store.draft_adapter().unwrap());
    let empty = NewAdapter {
        parent: None,
        model: &base,
        rank: 8,
        alpha: 1.0,
        origin: Origin::Imported,
        manifest: json!({}),
    };
    assert!(store.keep_adapter(store.draft_adapter().unwrap(), &empty).is_err());
    let rankless = NewAdapter { rank: 0, ..empty.clone() };
    let told = store.keep_adapter(store.draft_adapter().unwrap(), &rankless).unwrap_err().to_string();
    assert!(told.contains("rank 0"), "{told}");
    let endless = NewAdapter { alpha: f32::NAN, ..empty };
    assert!(store.keep_adapter(store.draft_adapter().unwrap(), &endless).is_err());
    assert_eq!(std::fs::read_dir(dir.path().join("adapters")).unwrap().count(), 2);

    // Damaged on disk: said so, and mended by keeping the same again.
    std::fs::write(folder.join(WEIGHTS), "fir").unwrap();
    let told = store.adapter_dir(&first).unwrap_err().to_string();
    assert!(told.contains("not what was written"), "{told}");
    assert!(store.use_adapter(&base.hash, Some(&first.id), "use").is_err());
    keep(&store, &base, b"first", None).unwrap();
    store.use_adapter(&base.hash, Some(&first.id), "use").unwrap();
}

#[test]
fn the_pointer_moves_back_as_often_as_it_moved() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    let (base, other) = (model(elsewhere.path(), "m.gguf"), model(elsewhere.path(), "o.gguf"));
    let made: Vec<Adapter> = (0..3).map(|n| keep(&store, &base, &[n], None).unwrap()).collect();
    let id = |n: usize| Some(made[n].id.as_str());
    let now = || store.current_adapter(&base.hash).unwrap();
    assert!(matches!(store.roll_back(&base.hash), Err(StoreError::NothingToUndo)));
    for n in [0, 1, 1, 2] {
        store.use_adapter(&base.hash, id(n), "use").unwrap();
    }
    store.use_adapter(&base.hash, None, "use").unwrap();
    let before = |moves| store.adapter_before(&base.hash, moves).unwrap();
    assert_eq!(before(0), Some(None));
    assert_eq!(before(1), Some(id(2).map(Into::into)));
    assert_eq!((before(3), before(4), before(5)), (Some(id(0).map(Into::into)), Some(None), None));
    // 0 1 2 none: three steps back lead to 0, the fourth to the bare model.
    for expected in [id(2), id(1), id(0), None] {
        assert_eq!(store.roll_back(&base.hash).unwrap().1.as_deref(), expected);
        assert_eq!(now().as_deref(), expected);
    }
    assert!(matches!(store.roll_back(&base.hash), Err(StoreError::NothingToUndo)));
    // A new move after going back begins from there.
    store.use_adapter(&base.hash, id(2), "gate").unwrap();
    assert_eq!((before(1), before(2)), (Some(None), None), "what was taken back does not count");
    assert_eq!(store.roll_back(&base.hash).unwrap(), (id(2).map(Into::into), None));
    let moves = store.adapter_moves(&base.hash).unwrap();
    assert_eq!(moves.iter().filter(|m| m.why == "rollback").count(), 5);
    assert_eq!(moves.len(), 4 + 5 + 1, "moves are added, never taken away");

    // Another base model has its own pointer, and no use for these.
    assert_eq!(store.current_adapter(&other.hash).unwrap(), None);
    let told = store.use_adapter(&other.hash, id(0), "use").unwrap_err();
    assert!(told.to_string().contains("--model PATH") && told.exit_code() == 3, "{told}");
    assert!(store.use_adapter(&base.hash, Some("nothing"), "use").is_err());
}

#[test]
fn the_shelf_finds_what_serves_without_opening_the_store() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let home = Home::open(Some(dir.path())).unwrap();
    let (base, other) = (model(elsewhere.path(), "m.gguf"), model(elsewhere.path(), "other.gguf"));
    assert!(
        AdapterShelf::open(&home).unwrap().serving(&base.path).unwrap() == Serving::default(),
        "no database yet"
    );
    let store = open(dir.path());
    let made = keep(&store, &base, b"weights", None).unwrap();
    let shelf = AdapterShelf::open(&home).unwrap();
    assert!(shelf.serving(&base.path).unwrap() == Serving::default(), "kept is not used");
    store.use_adapter(&base.hash, Some(&made.id), "use").unwrap();
    let (found, path) = shelf.serving(&base.path).unwrap().adapter.unwrap();
    assert_eq!((found, std::fs::read(path).unwrap()), (made.clone(), b"weights".to_vec()));
    // A copy of the model elsewhere is the same model, another file is not.
    let copy = elsewhere.path().join("copy.gguf");
    std::fs::copy(&base.path, &copy).unwrap();
    assert!(shelf.serving(&copy).unwrap().adapter.is_some());
    assert!(shelf.serving(&other.path).unwrap() == Serving::default());
    assert_eq!(shelf.named(&made.id[..5], &base.path).unwrap().0, made);
    let told = shelf.named(&made.id, &other.path).unwrap_err().to_string();
    assert!(told.contains("made for the model"), "{told}");
}

#[test]
fn a_damaged_adapter_gives_way_to_its_nearest_whole_ancestor_and_the_pointer_stays() {
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 4] = [
        ("one bit turned over", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            bytes[3] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
        ("cut short", |path| {
            std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(4).unwrap();
        }),
        ("gone", |path| std::fs::remove_file(path).unwrap()),
        ("the whole folder gone", |path| std::fs::remove_dir_all(path.parent().unwrap()).unwrap()),
    ];
    for (what, damage) in damages {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let home = Home::open(Some(dir.path())).unwrap();
        let base = model(elsewhere.path(), "m.gguf");
        let store = open(dir.path());
        let first = keep(&store, &base, b"weights one", None).unwrap();
        let second = keep(&store, &base, b"weights two", Some(&first.id)).unwrap();
        let third = keep(&store, &base, b"weights three", Some(&second.id)).unwrap();
        store.use_adapter(&base.hash, Some(&third.id), "use").unwrap();
        let shelf = AdapterShelf::open(&home).unwrap();
        let weights = |adapter: &Adapter| home.adapters().join(&adapter.id).join(WEIGHTS);
        let serving = || shelf.serving(&base.path).unwrap();
        assert_eq!((serving().told(), serving().damaged.len()), (None, 0));
        for (broken, left) in [(&third, Some(&second)), (&second, Some(&first)), (&first, None)] {
            damage(&weights(broken));
            let now = serving();
            assert_eq!(now.adapter.as_ref().map(|(adapter, _)| adapter), left, "{what}");
            assert_eq!(now.damaged.first().map(|(id, _)| id), Some(&third.id), "{what}");
            assert_eq!(now.damaged.last().map(|(id, _)| id), Some(&broken.id), "{what}");
            let told = now.told().unwrap();
            let instead = left.map_or("the bare model", |adapter| &adapter.id);
            assert!(told.contains(&third.id) && told.contains(instead), "{what}: {told}");
            store.note_given_way(&now).unwrap();
            assert_eq!(store.current_adapter(&base.hash).unwrap().as_ref(), Some(&third.id), "{what}");
            let named = shelf.named(&broken.id, &base.path);
            assert!(matches!(named, Err(StoreError::BrokenAdapter { .. })), "{what}: by hand it is refused");
        }
        assert_eq!(store.adapter_moves(&base.hash).unwrap().len(), 1, "{what}: nothing moved the pointer");
        // Kept again, it is whole and serves.
        keep(&store, &base, b"weights three", Some(&second.id)).unwrap();
        let mended = serving();
        assert_eq!(mended.adapter.as_ref().map(|(adapter, _)| &adapter.id), Some(&third.id), "{what}");
        // The record still tells what served meanwhile.
        store.note_given_way(&mended).unwrap();
        damage(&weights(&third));
        store.note_given_way(&serving()).unwrap();
        drop(store);
        let kept = open(dir.path()).given_way().unwrap();
        let mut served: Vec<_> = kept.iter().map(|found| (found.instead.as_ref(), found.starts)).collect();
        served.sort();
        let mut expected = vec![(None, 2), (Some(&first.id), 1), (Some(&second.id), 1)];
        expected.sort();
        assert_eq!(served, expected, "{what}");
        let newest = kept.iter().find(|found| found.starts == 2).unwrap();
        assert!(newest.adapter == third.id && !newest.reason.is_empty(), "{what}: {newest:?}");
        assert!(newest.first_ms <= newest.last_ms && newest.instead.is_none(), "{what}: {newest:?}");
    }
}

/// What the crash test starts as another process.
pub fn make_many(home: &Home) {
    let store = Store::open(home).unwrap();
    let base = model(home.root(), "m.gguf");
    for n in 0_u32.. {
        let weights: Vec<u8> = n.to_le_bytes().repeat(100_000);
        let made = keep(&store, &base, &weights, None).unwrap();
        store.use_adapter(&base.hash, Some(&made.id), "gate").unwrap();
        println!("ack {}", made.id);
    }
}

/// What a child does while calls of it are hindered: one more adapter, made current.
pub fn make_one(home: &Home) {
    let store = Store::open(home).unwrap();
    let base = model(home.root(), "m.gguf");
    let made = keep(&store, &base, &[7; 300_000], None).unwrap();
    println!("ack {}", made.id);
    store.use_adapter(&base.hash, Some(&made.id), "gate").unwrap();
    println!("used {}", made.id);
}

#[test]
fn kill_9_leaves_only_whole_adapters() {
    let dir = quick_dir();
    drop(open(dir.path()));
    let mut acknowledged = Vec::new();
    for round in 0..20_u64 {
        let mut child = spawn("adapters", dir.path());
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("ack") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the child ended before its first adapter");
        }
        std::thread::sleep(Duration::from_micros(round * 700));
        child.kill().unwrap();
        child.wait().unwrap();
        loop {
            if let Some(id) = line.strip_prefix("ack ").and_then(|line| line.strip_suffix('\n')) {
                acknowledged.push(id.to_string());
            }
            line.clear();
            if output.read_line(&mut line).unwrap() == 0 {
                break;
            }
        }
        let store = open(dir.path());
        assert_eq!(store.opened().crashed, 1);
        for id in acknowledged.split_off(0) {
            store.adapter_dir(&store.adapter(&id).unwrap()).unwrap();
        }
        for adapter in store.adapters(None).unwrap() {
            store.adapter_dir(&adapter).unwrap();
        }
        let base = blake3::hash(&std::fs::read(dir.path().join("m.gguf")).unwrap()).to_hex().to_string();
        assert!(store.current_adapter(&base).unwrap().is_some());
        for entry in std::fs::read_dir(dir.path().join("adapters")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with('.'), "round {round}: a draft of a dead process is left: {name}");
            let weights = std::fs::read(dir.path().join("adapters").join(&name).join(WEIGHTS)).unwrap();
            assert!(blake3::hash(&weights).to_hex().starts_with(&name), "round {round}: {name} is not whole");
        }
    }
}
