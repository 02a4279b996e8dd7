//! Adapters on disk: immutable, named by their content, with parent, manifest and optimizer state.
//!
//! `adapters/<id>/{adapter.gguf, optimizer, manifest.json}` appears in one rename once everything in it is on
//! disk; what was half written when a process died is never seen under an id and goes with the next open.
//! Which one serves is `pointer`'s business; what the tensors mean is the trainer's.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Home;
use crate::engine::ModelInfo;
use crate::store::{Result, Store, StoreError, Sync, now_ms};

/// Characters of the content hash that make an id.
pub const ID_CHARS: usize = 12;

/// The names in an adapter's folder.
pub const WEIGHTS: &str = "adapter.gguf";
pub const OPTIMIZER: &str = "optimizer";
pub const MANIFEST: &str = "manifest.json";

/// One adapter as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// The first characters of `hash`.
    pub id: String,
    /// blake3 of adapter.gguf, hex: what engine and trajectories call it.
    pub hash: String,
    /// Id of the adapter it was trained from; None: from the bare model.
    pub parent: Option<String>,
    /// blake3 of the base model's file.
    pub model_hash: String,
    pub rank: usize,
    pub alpha: f32,
    /// Unix time in milliseconds.
    pub created_ms: i64,
    pub origin: Origin,
    /// What it was made from and what it measured.
    pub manifest: Value,
}

/// Where an adapter came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Trained,
    Imported,
    /// Came with the program, for the embedded planner.
    Shipped,
}

impl Origin {
    pub fn name(self) -> &'static str {
        match self {
            Origin::Trained => "trained",
            Origin::Imported => "imported",
            Origin::Shipped => "shipped",
        }
    }

    fn from_name(name: &str) -> Option<Origin> {
        [Origin::Trained, Origin::Imported, Origin::Shipped].into_iter().find(|origin| origin.name() == name)
    }
}

/// What is said of an adapter when it is kept.
#[derive(Clone, Debug)]
pub struct NewAdapter<'a> {
    pub parent: Option<String>,
    pub model: &'a ModelInfo,
    pub rank: usize,
    pub alpha: f32,
    pub origin: Origin,
    pub manifest: Value,
}

/// A folder an adapter is written into before it has an id. Dropped, it is gone.
#[derive(Debug)]
pub struct AdapterDraft {
    dir: PathBuf,
}

impl AdapterDraft {
    /// Where `WEIGHTS` and `OPTIMIZER` are to be written.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for AdapterDraft {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The beginning of draft folders' names; the process that owns one follows.
const DRAFT: &str = ".new-";

impl Store {
    /// An empty folder to write an adapter into.
    ///
    /// # Errors
    /// Disk full, or the data directory cannot be written.
    pub fn draft_adapter(&self) -> Result<AdapterDraft> {
        let parent = self.home.adapters();
        let make = || -> io::Result<PathBuf> {
            self.home.ensure(&parent)?;
            let dir = parent.join(format!("{DRAFT}{}-{}", self.running.name, super::new_id()));
            self.home.ensure(&dir)?;
            Ok(dir)
        };
        make().map(|dir| AdapterDraft { dir }).map_err(|e| StoreError::io(&parent, e))
    }

    /// Keep what was written into a draft, under the hash of its weights. The same weights again are the
    /// adapter that is there already.
    ///
    /// # Errors
    /// No weights in the draft, rank 0, disk full, or the database cannot be written.
    pub fn keep_adapter(&self, draft: AdapterDraft, new: &NewAdapter) -> Result<Adapter> {
        if new.rank == 0 || !new.alpha.is_finite() {
            return Err(StoreError::Invalid(format!(
                "an adapter of rank {} and alpha {} is none; rank is at least 1",
                new.rank, new.alpha
            )));
        }
        let weights = draft.path(WEIGHTS);
        let hash = hash_file(&weights).map_err(|e| StoreError::io(&weights, e))?;
        let adapter = Adapter {
            id: hash[..ID_CHARS].to_string(),
            hash,
            parent: new.parent.clone(),
            model_hash: new.model.hash.clone(),
            rank: new.rank,
            alpha: new.alpha,
            created_ms: now_ms(),
            origin: new.origin,
            manifest: new.manifest.clone(),
        };
        let place = self.home.adapters().join(&adapter.id);
        settle(&draft.dir, &place, &adapter).map_err(|e| StoreError::io(&place, e))?;
        drop(draft);
        let manifest = adapter.manifest.to_string();
        self.begin(Sync::Full, |transaction| {
            let sql = |e| self.sql(e);
            note_model(transaction, new.model).map_err(sql)?;
            transaction
                .execute(
                    "INSERT OR IGNORE INTO adapters
                       (id, hash, parent, model_hash, rank, alpha, created_ms, origin, manifest)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    params![
                        adapter.id,
                        adapter.hash,
                        adapter.parent,
                        adapter.model_hash,
                        i64::try_from(adapter.rank).unwrap_or(i64::MAX),
                        f64::from(adapter.alpha),
                        adapter.created_ms,
                        adapter.origin.name(),
                        manifest,
                    ],
                )
                .map_err(sql)
        })?;
        self.adapter(&adapter.id)
    }

    /// One adapter by its whole id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn adapter(&self, id: &str) -> Result<Adapter> {
        let found = self.read(|view| one(view, id).map_err(|e| self.sql(e)))?;
        found.ok_or_else(|| StoreError::NoAdapter(id.to_string()))
    }

    /// The one adapter whose id begins with `piece` (a content hash does too).
    ///
    /// # Errors
    /// `NoAdapter`, or `Ambiguous` with an example.
    pub fn find_adapter(&self, piece: &str) -> Result<Adapter> {
        self.read(|view| find(view, piece).map_err(|e| self.sql(e))?)
    }

    /// Adapters, newest first; of one base model or of all.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn adapters(&self, model_hash: Option<&str>) -> Result<Vec<Adapter>> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(&format!(
                    "{ADAPTER} WHERE ?1 IS NULL OR model_hash = ?1 ORDER BY created_ms DESC, rowid DESC"
                ))
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map([model_hash], read_adapter);
            rows.and_then(Iterator::collect).map_err(|e| self.sql(e))
        })
    }

    /// The adapter's folder, once its weights are found to be what was written.
    ///
    /// # Errors
    /// They are missing or changed.
    pub fn adapter_dir(&self, adapter: &Adapter) -> Result<PathBuf> {
        whole(&self.home, adapter)?;
        Ok(self.home.adapters().join(&adapter.id))
    }

    /// Remember a model file, so that its hash need not be taken again while the file stays as it is.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn note_model(&self, model: &ModelInfo) -> Result<()> {
        self.write(Sync::Normal, |transaction| note_model(transaction, model).map_err(|e| self.sql(e)))
    }
}

const ADAPTER: &str =
    "SELECT id, hash, parent, model_hash, rank, alpha, created_ms, origin, manifest FROM adapters";

pub(super) fn one(connection: &Connection, id: &str) -> rusqlite::Result<Option<Adapter>> {
    connection.query_row(&format!("{ADAPTER} WHERE id = ?1"), [id], read_adapter).optional()
}

/// The outer error is SQLite's, the inner the user's.
pub(super) fn find(connection: &Connection, piece: &str) -> rusqlite::Result<Result<Adapter>> {
    let piece = piece.trim();
    let mut statement = connection.prepare(&format!(
        "{ADAPTER} WHERE ?1 <> '' AND (substr(id, 1, length(?1)) = ?1 OR hash = ?1) ORDER BY id"
    ))?;
    let mut found: Vec<Adapter> = statement.query_map([piece], read_adapter)?.collect::<Result<_, _>>()?;
    Ok(match found.len() {
        0 => Err(StoreError::NoAdapter(piece.to_string())),
        1 => Ok(found.swap_remove(0)),
        count => {
            Err(StoreError::Ambiguous { prefix: piece.to_string(), count, example: found.swap_remove(0).id })
        }
    })
}

/// The weights' path, once they are found to be what was written.
pub(super) fn whole(home: &Home, adapter: &Adapter) -> Result<PathBuf> {
    let path = home.adapters().join(&adapter.id).join(WEIGHTS);
    match hash_file(&path) {
        Ok(hash) if hash == adapter.hash => Ok(path),
        Ok(_) => Err(StoreError::BrokenAdapter {
            id: adapter.id.clone(),
            reason: format!("{} is not what was written", path.display()),
        }),
        Err(e) => Err(StoreError::BrokenAdapter {
            id: adapter.id.clone(),
            reason: format!("{}: {e}", path.display()),
        }),
    }
}

/// blake3 of a file, hex.
pub(super) fn hash_file(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut crate::config::regular::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Everything to the disk, then the name; the name itself to the disk last.
fn settle(draft: &Path, place: &Path, adapter: &Adapter) -> io::Result<()> {
    let manifest = serde_json::to_vec_pretty(adapter)?;
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.write(true).create(true).truncate(true).open(draft.join(MANIFEST))?;
    file.write_all(&manifest)?;
    drop(file);
    for entry in fs::read_dir(draft)? {
        File::open(entry?.path())?.sync_all()?;
    }
    File::open(draft)?.sync_all()?;
    let there = place.join(WEIGHTS);
    if hash_file(&there).is_ok_and(|hash| hash == adapter.hash) {
        return Ok(());
    }
    if place.exists() {
        // Not what its name says: damaged since.
        fs::remove_dir_all(place)?;
    }
    fs::rename(draft, place)?;
    place.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// (bytes, time of last change in nanoseconds): a file that keeps both is taken to be the same file.
pub(super) fn stamp(path: &Path) -> Option<(i64, i64)> {
    let meta = fs::metadata(path).ok()?;
    let modified = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((i64::try_from(meta.len()).ok()?, i64::try_from(modified.as_nanos()).ok()?))
}

pub(super) fn note_model(connection: &Connection, model: &ModelInfo) -> rusqlite::Result<()> {
    let Some((bytes, modified)) = stamp(&model.path) else { return Ok(()) };
    let path = std::path::absolute(&model.path).unwrap_or_else(|_| model.path.clone());
    connection
        .execute(
            "INSERT OR REPLACE INTO models (hash, name, path, bytes, modified_ns)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![model.hash, model.name, path.to_string_lossy(), bytes, modified],
        )
        .map(drop)
}

/// Remove the drafts of processes that are gone.
pub(super) fn remove_drafts(home: &Home, crashed: &[String]) {
    for entry in fs::read_dir(home.adapters()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(DRAFT);
        if owner.is_some_and(|owner| crashed.iter().any(|dead| owner.starts_with(dead.as_str()))) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn read_adapter(row: &SqlRow) -> rusqlite::Result<Adapter> {
    let unreadable = |index: usize| {
        rusqlite::Error::InvalidColumnType(index, "adapter".to_string(), rusqlite::types::Type::Text)
    };
    Ok(Adapter {
        id: row.get(0)?,
        hash: row.get(1)?,
        parent: row.get(2)?,
        model_hash: row.get(3)?,
        rank: usize::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
        alpha: row.get::<_, f64>(5)? as f32,
        created_ms: row.get(6)?,
        origin: Origin::from_name(&row.get::<_, String>(7)?).ok_or_else(|| unreadable(7))?,
        manifest: serde_json::from_str(&row.get::<_, String>(8)?).map_err(|_| unreadable(8))?,
    })
}
