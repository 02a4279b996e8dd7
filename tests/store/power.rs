//! The power goes at any moment: what was not synced may be there, in part, or not at all.
//!
//! A kill leaves everything that was written, so it says nothing about syncs. Here a child's changes are recorded
//! (`trace`), a model of a disk is taken through them, and after each one the data directory is rebuilt as several
//! disks could have left it: nothing that was not synced; names without contents; contents without names; sectors
//! and names by the dice. Each of these is opened like any other. What the model leaves out: changes of memory-mapped
//! files (SQLite makes its -shm anew), and disks that lie about syncs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::faults::{adapters_are_whole, template};
use crate::trace::{self, Act, Change};
use crate::{open, quick_dir};

/// What a disk writes whole.
const SECTOR: usize = 512;

/// A file or a folder, as the program sees it and as the disk surely has it.
enum Node {
    File { now: Vec<u8>, safe: Vec<u8> },
    Folder { now: BTreeMap<String, usize>, safe: BTreeMap<String, usize>, since: Vec<Step> },
}

/// One change of a folder's names since its last sync; a journal keeps their order.
#[derive(Clone)]
enum Step {
    Put(String, usize),
    Gone(String),
    Moved(String, String),
}

impl Step {
    fn take(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Step::Put(name, node) => drop(names.insert(name.clone(), *node)),
            Step::Gone(name) => drop(names.remove(name)),
            Step::Moved(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

/// How a cut leaves what was not synced.
#[derive(Clone, Copy, Debug)]
enum Left {
    Nothing,
    NamesAlone,
    ContentsAlone,
    Dice(u64),
}

/// A disk with one folder, everything in it synced at first.
struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
}

impl Disk {
    fn of(root: &Path) -> Disk {
        let mut disk = Disk { root: root.to_path_buf(), nodes: Vec::new() };
        disk.load(root);
        disk
    }

    fn load(&mut self, path: &Path) -> usize {
        let node = self.nodes.len();
        if path.is_dir() {
            self.nodes.push(folder());
            let mut names = BTreeMap::new();
            for entry in fs::read_dir(path).unwrap().flatten() {
                names.insert(entry.file_name().into_string().unwrap(), self.load(&entry.path()));
            }
            self.nodes[node] = Node::Folder { safe: names.clone(), now: names, since: Vec::new() };
        } else {
            let bytes = fs::read(path).unwrap();
            self.nodes.push(Node::File { now: bytes.clone(), safe: bytes });
        }
        node
    }

    fn node(&self, path: &Path) -> Option<usize> {
        let inside = path.strip_prefix(&self.root).ok()?;
        inside.iter().try_fold(0, |at, name| match &self.nodes[at] {
            Node::Folder { now, .. } => now.get(name.to_str()?).copied(),
            Node::File { .. } => None,
        })
    }

    fn step(&mut self, parent: &Path, step: Step) {
        let parent = self.node(parent).unwrap_or_else(|| panic!("no folder {}", parent.display()));
        let Node::Folder { now, since, .. } = &mut self.nodes[parent] else { panic!("a file with names") };
        step.take(now);
        since.push(step);
    }

    fn put(&mut self, path: &Path, node: Node) {
        let number = self.nodes.len();
        self.nodes.push(node);
        self.step(path.parent().unwrap(), Step::Put(name(path), number));
    }

    /// The content of an open file; one that was removed meanwhile has none.
    fn content(&mut self, path: &Path) -> Option<&mut Vec<u8>> {
        let node = self.node(path)?;
        match &mut self.nodes[node] {
            Node::File { now, .. } => Some(now),
            Node::Folder { .. } => None,
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Open { path, cut, .. } => {
                if self.node(&path).is_none() {
                    self.put(&path, Node::File { now: Vec::new(), safe: Vec::new() });
                } else if cut && let Some(content) = self.content(&path) {
                    content.clear();
                }
            }
            Change::Write { path, at, bytes } => {
                if let Some(content) = self.content(&path) {
                    let (from, to) = (at as usize, at as usize + bytes.len());
                    content.resize(content.len().max(to), 0);
                    content[from..to].copy_from_slice(&bytes);
                }
            }
            Change::Size { path, size } => {
                if let Some(content) = self.content(&path) {
                    content.resize(size as usize, 0);
                }
            }
            Change::Sync { path } => match self.node(&path).map(|node| &mut self.nodes[node]) {
                Some(Node::File { now, safe }) => safe.clone_from(now),
                Some(Node::Folder { now, safe, since }) => {
                    safe.clone_from(now);
                    since.clear();
                }
                None => {}
            },
            Change::Rename { from, to } => {
                assert_eq!(from.parent(), to.parent(), "a move between folders is not modelled");
                self.step(from.parent().unwrap(), Step::Moved(name(&from), name(&to)));
            }
            Change::MakeFolder { path } => self.put(&path, folder()),
            Change::Remove { path } => self.step(path.parent().unwrap(), Step::Gone(name(&path))),
            Change::Attributes { .. } | Change::Said(_) => {}
        }
    }

    /// Write into `to` what the disk holds after the cut; answers what tells this state from others.
    fn after_cut(&self, left: Left, to: &Path) -> blake3::Hash {
        let mut dice = ChaCha8Rng::seed_from_u64(if let Left::Dice(seed) = left { seed } else { 0 });
        let mut state = blake3::Hasher::new();
        self.write(0, left, to, &mut dice, &mut state);
        state.finalize()
    }

    fn write(&self, node: usize, left: Left, to: &Path, dice: &mut ChaCha8Rng, state: &mut blake3::Hasher) {
        match &self.nodes[node] {
            Node::File { now, safe } => {
                let content = match left {
                    Left::Nothing | Left::NamesAlone => safe.clone(),
                    Left::ContentsAlone => now.clone(),
                    Left::Dice(_) => some_sectors(now, safe, dice),
                };
                state.update(&(content.len() as u64).to_le_bytes()).update(&content);
                fs::write(to, content).unwrap();
            }
            Node::Folder { now, safe, since } => {
                let mut names = safe.clone();
                match left {
                    Left::Nothing | Left::ContentsAlone => {}
                    Left::NamesAlone => names.clone_from(now),
                    Left::Dice(_) => {
                        let kept = dice.random_range(0..=since.len());
                        since[..kept].iter().for_each(|step| step.take(&mut names));
                    }
                }
                fs::create_dir_all(to).unwrap();
                for (name, node) in names {
                    state.update(name.as_bytes()).update(&[0]);
                    self.write(node, left, &to.join(name), dice, state);
                }
            }
        }
    }
}

fn folder() -> Node {
    Node::Folder { now: BTreeMap::new(), safe: BTreeMap::new(), since: Vec::new() }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_string()
}

/// Each sector as it was synced or as it was written last; the length of either.
fn some_sectors(now: &[u8], safe: &[u8], dice: &mut ChaCha8Rng) -> Vec<u8> {
    if now == safe {
        return safe.to_vec();
    }
    let length = if dice.random() { now.len() } else { safe.len() };
    let mut content = vec![0; length];
    for at in (0..length).step_by(SECTOR) {
        let source = if dice.random() { now } else { safe };
        let end = source.len().min(length).min(at + SECTOR);
        if at < end {
            content[at..end].copy_from_slice(&source[at..end]);
        }
    }
    content
}

/// What a traced child did, in order, and what it said.
fn recorded(home: &Path, mode: &str) -> Vec<Change> {
    let mut changes = Vec::new();
    let seen = trace::run(home, mode, |_, _| Act::Go, |change| changes.push(change));
    assert!(seen.said.contains("test result: ok"), "{}", seen.said);
    changes
}

/// The power goes after every `step`th change of what a child does. Answers (changes, states looked at).
fn cuts(mode: &str, step: usize, dice: u64, check: fn(&Path, &str, &str)) -> (usize, usize) {
    let template = template();
    let mut disk = Disk::of(template.path());
    let changes = recorded(template.path(), mode);
    let (mut said, mut states, mut looked) = (String::new(), BTreeSet::new(), 0);
    let count = changes.len();
    for (n, change) in changes.into_iter().enumerate() {
        let what = format!("{change:.100?}");
        if let Change::Said(words) = &change {
            said.push_str(&String::from_utf8_lossy(words));
        }
        disk.change(change);
        if n % step != 0 {
            continue;
        }
        let ways = [Left::Nothing, Left::NamesAlone, Left::ContentsAlone];
        for left in ways.into_iter().chain((0..dice).map(|seed| Left::Dice(seed * 10_007 + n as u64))) {
            let home = quick_dir();
            let state = disk.after_cut(left, home.path());
            if states.insert((*state.as_bytes(), said.len())) {
                looked += 1;
                check(
                    home.path(),
                    &said,
                    &format!("{mode}, power cut after change {n} ({what}), left: {left:?}"),
                );
            }
        }
    }
    assert!(looked > 10, "only {looked} states of {count} changes: the recording is broken");
    (count, looked)
}

/// The model itself: what is synced stays in every way, what is not can go.
#[test]
fn the_disk_keeps_what_was_synced_and_may_lose_the_rest() {
    let dir = quick_dir();
    fs::write(dir.path().join("old"), "old").unwrap();
    let mut disk = Disk::of(dir.path());
    let path = |name: &str| dir.path().join(name);
    disk.change(Change::Open { path: path("new"), create: true, cut: false });
    disk.change(Change::Write { path: path("new"), at: 0, bytes: b"12345".to_vec() });
    let look = |disk: &Disk, left| {
        let to = quick_dir();
        disk.after_cut(left, to.path());
        fs::read(to.path().join("new")).ok()
    };
    assert_eq!(look(&disk, Left::Nothing), None);
    assert_eq!(look(&disk, Left::NamesAlone), Some(Vec::new()));
    assert_eq!(look(&disk, Left::ContentsAlone), None);
    disk.change(Change::Sync { path: path("new") });
    disk.change(Change::Sync { path: dir.path().to_path_buf() });
    disk.change(Change::Rename { from: path("old"), to: path("new") });
    assert_eq!(look(&disk, Left::Nothing), Some(b"12345".to_vec()));
    assert_eq!(look(&disk, Left::NamesAlone), Some(b"old".to_vec()));
}

#[test]
fn a_power_cut_leaves_whole_adapters() {
    let (changes, states) = cuts("adapter", 13, 1, adapters_are_whole);
    println!(
        "keeping an adapter: power cuts in {changes} changes, {states} states of the disk, 0 broken adapters"
    );
}

#[test]
#[ignore = "run by make drill"]
fn drill_power_cuts() {
    let (changes, states) = cuts("adapter", 1, 8, adapters_are_whole);
    println!(
        "keeping an adapter and using it: power cut after each of {changes} changes, {states} states of the disk, 0 broken adapters"
    );
    let (changes, states) = cuts("few r", 1, 8, records_begin_whole);
    println!(
        "recording 12 events: power cut after each of {changes} changes, {states} states of the disk, 0 synced records lost"
    );
}

/// Records up to the last synced one are there, and what is there is what was written, without a gap.
fn records_begin_whole(home: &Path, said: &str, what: &str) {
    let store = open(home);
    // A label is synced, and everything before it with it.
    let synced = said.lines().filter_map(|line| line.strip_prefix("label ")?.parse::<usize>().ok()).max();
    let found = store.trajectory_events("r").unwrap_or_default();
    assert!(found.len() >= synced.map_or(0, |seq| seq + 1), "{what}: {} of {synced:?}", found.len());
    for (seq, event) in (0..).zip(&found) {
        assert!(*event == crate::crash::nth("r", seq), "{what}: event {seq} is not what was written");
    }
    let labels = store.labels("r").unwrap_or_default().len();
    assert!(labels >= said.matches("label ").count(), "{what}: {labels} labels");
}
