//! Which adapter serves: a pointer per base model, moved by rows that are never changed, so that rolling back
//! is one more row. Weights are not touched.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::config::Home;
use crate::store::adapters::{self, Adapter};
use crate::store::open;
use crate::store::{Result, Store, StoreError, Sync, now_ms};

/// One move of the pointer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Id of the adapter that serves from here on; None: the bare model.
    pub adapter: Option<String>,
    /// Who or what moved it: `use`, `rollback`, `gate`, ...
    pub why: String,
    /// Unix time in milliseconds.
    pub moved_ms: i64,
}

impl Store {
    /// The adapter that serves on a base model; None: the bare model.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn current_adapter(&self, model_hash: &str) -> Result<Option<String>> {
        self.read(|view| Ok(newest(view, model_hash).map_err(|e| self.sql(e))?.and_then(|(_, id, _)| id)))
    }

    /// Serve `adapter` from now on (None: the bare model). What serves already is not moved again.
    ///
    /// # Errors
    /// The adapter is unknown, was made for another base model, or the database cannot be written.
    pub fn use_adapter(&self, model_hash: &str, adapter: Option<&str>, why: &str) -> Result<()> {
        if let Some(id) = adapter {
            let found = self.adapter(id)?;
            fits(&found, model_hash)?;
            adapters::whole(&self.home, &found)?;
        }
        self.write(Sync::Full, |transaction| {
            let sql = |e| self.sql(e);
            let now = newest(transaction, model_hash).map_err(sql)?;
            if now.as_ref().and_then(|(_, id, _)| id.as_deref()) == adapter {
                return Ok(());
            }
            let back = now.map(|(n, ..)| n);
            insert(transaction, model_hash, adapter, back, why).map_err(sql)
        })
    }

    /// Take the last move back; answers (from, to). Again and again it leads back to the bare model.
    ///
    /// # Errors
    /// The bare model serves already, or the database cannot be written.
    pub fn roll_back(&self, model_hash: &str) -> Result<(Option<String>, Option<String>)> {
        self.write(Sync::Full, |transaction| {
            let sql = |e| self.sql(e);
            let Some((_, from, back)) = newest(transaction, model_hash).map_err(sql)? else {
                return Err(StoreError::NothingToUndo);
            };
            let (to, further) = match back {
                Some(n) => at(transaction, n).map_err(sql)?,
                // Before the first move the bare model served.
                None if from.is_some() => (None, None),
                None => return Err(StoreError::NothingToUndo),
            };
            insert(transaction, model_hash, to.as_deref(), further, "rollback").map_err(sql)?;
            Ok((from, to))
        })
    }

    /// What served `moves` accepted moves before the adapter that serves now; rolled-back ones do not count.
    /// The outer None: there were fewer. The inner None: the bare model.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn adapter_before(&self, model_hash: &str, moves: usize) -> Result<Option<Option<String>>> {
        self.read(|view| {
            let sql = |e| self.sql(e);
            let Some((_, mut adapter, mut back)) = newest(view, model_hash).map_err(sql)? else {
                return Ok((moves == 0).then_some(None));
            };
            for _ in 0..moves {
                (adapter, back) = match back {
                    Some(n) => at(view, n).map_err(sql)?,
                    // Before the first move the bare model served.
                    None if adapter.is_some() => (None, None),
                    None => return Ok(None),
                };
            }
            Ok(Some(adapter))
        })
    }

    /// Every move of a base model's pointer, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn adapter_moves(&self, model_hash: &str) -> Result<Vec<Move>> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(
                    "SELECT adapter, why, moved_ms FROM adapter_moves WHERE model_hash = ?1 ORDER BY n",
                )
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map([model_hash], |row| {
                Ok(Move { adapter: row.get(0)?, why: row.get(1)?, moved_ms: row.get(2)? })
            });
            rows.and_then(Iterator::collect).map_err(|e| self.sql(e))
        })
    }
}

/// # Errors
/// The adapter belongs to another base model; says which and the remedy.
fn fits(adapter: &Adapter, model_hash: &str) -> Result<()> {
    if adapter.model_hash == model_hash {
        return Ok(());
    }
    Err(StoreError::BrokenAdapter {
        id: adapter.id.clone(),
        reason: format!(
            "made for the model with hash {}, the one served has {}; serve its own with --model PATH, or train this one",
            adapter.model_hash.get(..12).unwrap_or(&adapter.model_hash),
            model_hash.get(..12).unwrap_or(model_hash)
        ),
    })
}

/// (n, adapter, back) of a move.
type Place = (i64, Option<String>, Option<i64>);

fn newest(connection: &Connection, model: &str) -> rusqlite::Result<Option<Place>> {
    connection
        .prepare_cached(
            "SELECT n, adapter, back FROM adapter_moves WHERE model_hash = ?1 ORDER BY n DESC LIMIT 1",
        )?
        .query_row([model], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()
}

/// (adapter, back) of one move.
fn at(connection: &Connection, n: i64) -> rusqlite::Result<(Option<String>, Option<i64>)> {
    connection.query_row("SELECT adapter, back FROM adapter_moves WHERE n = ?1", [n], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

fn insert(
    connection: &Connection,
    model: &str,
    adapter: Option<&str>,
    back: Option<i64>,
    why: &str,
) -> rusqlite::Result<()> {
    connection
        .execute(
            "INSERT INTO adapter_moves (model_hash, adapter, back, why, moved_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![model, adapter, back, why, now_ms()],
        )
        .map(drop)
}

/// What serves, and what should have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Serving {
    /// With the path of its weights, found whole; None: the bare model.
    pub adapter: Option<(Adapter, PathBuf)>,
    /// (id, what is wrong) of the current adapter and of its ancestors that were passed over, nearest first.
    pub damaged: Vec<(String, String)>,
}

impl Serving {
    /// What a person must hear where it is not the current adapter that serves.
    pub fn told(&self) -> Option<String> {
        let (id, reason) = self.damaged.first()?;
        let more = match self.damaged.len() - 1 {
            0 => String::new(),
            n => format!(" (and of its ancestors {n} as well)"),
        };
        let instead = match &self.adapter {
            Some((adapter, _)) => format!("its ancestor {} serves instead", adapter.id),
            None => "no ancestor of it is whole, so the bare model serves instead".to_string(),
        };
        Some(format!("the current adapter {id} is damaged{more}: {reason}; {instead}"))
    }

    /// What to do about it.
    pub const REMEDY: &'static str = "put the file back from a copy, or choose what serves with `tillerman adapters use ID` or `adapters rollback`";
}

/// Adapters as a command needs them before it opens the store: reads only, and works where no store is yet.
pub struct AdapterShelf {
    home: Home,
    connection: Option<Connection>,
}

impl AdapterShelf {
    /// # Errors
    /// A database is there but cannot be read.
    pub fn open(home: &Home) -> Result<AdapterShelf> {
        let mut shelf = AdapterShelf { home: home.clone(), connection: None };
        if home.database().exists() {
            let connection = open::reader(home)?;
            let version: i64 = connection
                .pragma_query_value(None, "user_version", |row| row.get(0))
                .map_err(|e| shelf.sql(e))?;
            // A database of before adapters holds none.
            shelf.connection = (version >= 2).then_some(connection);
        }
        Ok(shelf)
    }

    fn sql(&self, e: rusqlite::Error) -> StoreError {
        StoreError::sqlite(&self.home.database(), e)
    }

    /// What serves on a model file: its current adapter, found whole; where that one's weights are damaged, its
    /// nearest ancestor that is whole, or the bare model. The pointer stays where it is.
    ///
    /// # Errors
    /// The database or the model file cannot be read, or the current adapter is not on record.
    pub fn serving(&self, model: &Path) -> Result<Serving> {
        let mut serving = Serving::default();
        let (Some(connection), Some(mut adapter)) = (&self.connection, self.current(model)?) else {
            return Ok(serving);
        };
        loop {
            match adapters::whole(&self.home, &adapter) {
                Ok(path) => {
                    serving.adapter = Some((adapter, path));
                    return Ok(serving);
                }
                Err(StoreError::BrokenAdapter { id, reason }) => serving.damaged.push((id, reason)),
                Err(error) => return Err(error),
            }
            let parent = match &adapter.parent {
                Some(id) => adapters::one(connection, id).map_err(|e| self.sql(e))?,
                None => None,
            };
            // A parent that is not on record, or made for another model, cannot serve.
            let parent = parent.filter(|parent| parent.model_hash == adapter.model_hash);
            match parent.filter(|parent| serving.damaged.iter().all(|(id, _)| *id != parent.id)) {
                Some(parent) => adapter = parent,
                None => return Ok(serving),
            }
        }
    }

    /// The adapter the pointer names for a model file, whether or not its files are whole.
    fn current(&self, model: &Path) -> Result<Option<Adapter>> {
        let Some(connection) = &self.connection else { return Ok(None) };
        let any: bool = connection
            .query_row("SELECT EXISTS (SELECT 1 FROM adapter_moves WHERE adapter IS NOT NULL)", [], |row| {
                row.get(0)
            })
            .map_err(|e| self.sql(e))?;
        if !any {
            return Ok(None);
        }
        let Some(hash) = self.known_hash(model)? else { return Ok(None) };
        let now = newest(connection, &hash).map_err(|e| self.sql(e))?;
        let Some(id) = now.and_then(|(_, id, _)| id) else { return Ok(None) };
        let adapter = adapters::one(connection, &id).map_err(|e| self.sql(e))?;
        adapter.map(Some).ok_or(StoreError::NoAdapter(id))
    }

    /// Whether the pointer of a model file's hash has ever been moved, also back to the bare model.
    ///
    /// # Errors
    /// The database or the model file cannot be read.
    pub fn ever_moved(&self, model: &Path) -> Result<bool> {
        let Some(connection) = &self.connection else { return Ok(false) };
        let Some(hash) = self.known_hash(model)? else { return Ok(false) };
        newest(connection, &hash).map(|place| place.is_some()).map_err(|e| self.sql(e))
    }

    /// The adapter named by (a beginning of) its id, for a model file.
    ///
    /// # Errors
    /// `NoAdapter`, `Ambiguous`, made for another base model, or its files are missing or changed.
    pub fn named(&self, piece: &str, model: &Path) -> Result<(Adapter, PathBuf)> {
        let Some(connection) = &self.connection else {
            return Err(StoreError::NoAdapter(piece.to_string()));
        };
        let adapter = adapters::find(connection, piece).map_err(|e| self.sql(e))??;
        fits(&adapter, &self.model_hash(model)?)?;
        let path = adapters::whole(&self.home, &adapter)?;
        Ok((adapter, path))
    }

    /// blake3 of a model file: remembered while path, size and time stay the same, else taken now.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn model_hash(&self, model: &Path) -> Result<String> {
        match self.remembered(model)? {
            Some(hash) => Ok(hash),
            None => adapters::hash_file(model).map_err(|e| StoreError::io(model, e)),
        }
    }

    /// As `model_hash`, but None at once for a file of a size no adapter was made for.
    fn known_hash(&self, model: &Path) -> Result<Option<String>> {
        let Some(connection) = &self.connection else { return Ok(None) };
        let Some((bytes, _)) = adapters::stamp(model) else { return Ok(None) };
        let any: bool = connection
            .query_row("SELECT EXISTS (SELECT 1 FROM models WHERE bytes = ?1)", [bytes], |row| row.get(0))
            .map_err(|e| self.sql(e))?;
        if any { self.model_hash(model).map(Some) } else { Ok(None) }
    }

    fn remembered(&self, model: &Path) -> Result<Option<String>> {
        let (Some(connection), Some((bytes, modified))) = (&self.connection, adapters::stamp(model)) else {
            return Ok(None);
        };
        let path = std::path::absolute(model).unwrap_or_else(|_| model.to_path_buf());
        connection
            .query_row(
                "SELECT hash FROM models WHERE path = ?1 AND bytes = ?2 AND modified_ns = ?3",
                params![path.to_string_lossy(), bytes, modified],
                |row| row.get(0),
            )
            .optional()
            .map_err(|e| self.sql(e))
    }
}
