//! What the store can fail with. Every text names what, where and the remedy.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::error::{EngineError, Error};

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("nothing recorded has an id that begins or ends with {0:?}; `tillerman sessions` lists the ids")]
    NotFound(String),
    #[error("{prefix:?} fits {count} ids, for example {example}; give more characters of the id")]
    Ambiguous { prefix: String, count: usize, example: String },
    #[error(
        "{0} is an evaluation, no conversation to go on with; fork one of its trajectories in the deck (F2, f), or \
         leave out --session"
    )]
    NoConversation(String),
    #[error("no adapter {0:?}: neither a file nor an id; `tillerman adapters` lists them")]
    NoAdapter(String),
    #[error("the bare model serves and no adapter did before; there is nothing to roll back")]
    NothingToUndo,
    /// It is known but cannot serve here.
    #[error("adapter {id} refused: {reason}")]
    BrokenAdapter { id: String, reason: String },
    #[error("no training run {0:?}")]
    NoRun(String),
    #[error("disk full: {} cannot grow; free some space on that disk (8 MiB are enough to go on) or use another with --home DIR", .0.display())]
    DiskFull(PathBuf),
    #[error("data directory {} cannot be written: {reason}; make it writable for this user or use another with --home DIR", .path.display())]
    ReadOnly { path: PathBuf, reason: String },
    #[error("database {} is damaged: {detail}; move it and its -wal file away (`sqlite3 OLD .recover` can save rows), then start again", .path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error("database {} has schema {found}, this version knows {known}; use the newer tillerman that wrote it, or another directory with --home DIR", .path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("database {} stayed locked for 5 s; another process is writing to it, stop that one or try again", .0.display())]
    Busy(PathBuf),
    #[error("SQLite {0} is older than 3.51.3, whose write-ahead log can corrupt; build with the bundled one")]
    OldSqlite(String),
    #[error(
        "blob {hash} of trajectory {trajectory} cannot be read: {reason}; the other trajectories are not touched"
    )]
    Blob { hash: String, trajectory: String, reason: String },
    #[error("database {}: {record} is not what was written (a disk or memory fault changed it); the other records are not touched, a copy of the file from before may still have this one", .path.display())]
    Changed { path: PathBuf, record: String },
    /// A record that cannot be what it claims.
    #[error("{0}")]
    Invalid(String),
    #[error("{path}: {source}", path = .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("database {}: {source}", .path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
}

impl StoreError {
    /// Sort SQLite's failure into the cases a person can act on.
    pub(super) fn sqlite(path: &Path, source: rusqlite::Error) -> StoreError {
        let path = path.to_path_buf();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::DiskFull(path),
            Some(ErrorCode::SystemIoFailure) if no_space_beside(&path) => StoreError::DiskFull(path),
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                let root = path.parent().map_or_else(|| path.clone(), Path::to_path_buf);
                StoreError::ReadOnly { path: root, reason: source.to_string() }
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Damaged { path, detail: source.to_string() }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(path),
            _ => StoreError::Sqlite { path, source },
        }
    }

    pub(super) fn io(path: &Path, source: std::io::Error) -> StoreError {
        use std::io::ErrorKind;
        let path = path.to_path_buf();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::DiskFull(path),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                StoreError::ReadOnly { path, reason: source.to_string() }
            }
            _ => StoreError::Io { path, source },
        }
    }

    pub fn is_disk_full(&self) -> bool {
        matches!(self, StoreError::DiskFull(_))
    }
}

impl StoreError {
    /// The exit code of the CLI contract: a mistyped id is a usage error, an adapter that
    /// cannot serve the engine's, the rest the store's.
    pub fn exit_code(&self) -> i32 {
        match self {
            StoreError::NotFound(_)
            | StoreError::Ambiguous { .. }
            | StoreError::NoConversation(_)
            | StoreError::NoAdapter(_)
            | StoreError::NothingToUndo
            | StoreError::NoRun(_) => 2,
            StoreError::BrokenAdapter { .. } => 3,
            _ => 4,
        }
    }
}

/// SQLite reports some ENOSPC (its shared-memory file) as a plain I/O error: try a write to know.
fn no_space_beside(database: &Path) -> bool {
    let Some(dir) = database.parent() else { return false };
    let attempt = || -> std::io::Result<()> {
        let mut file = tempfile::tempfile_in(dir)?;
        std::io::Write::write_all(&mut file, &[1; 128 << 10])?;
        file.sync_all()
    };
    attempt().is_err_and(|e| e.kind() == std::io::ErrorKind::StorageFull)
}

impl From<StoreError> for Error {
    fn from(e: StoreError) -> Error {
        match e {
            StoreError::BrokenAdapter { id, reason } => {
                Error::Engine(EngineError::Adapter { path: id.into(), reason })
            }
            e if e.exit_code() == 2 => Error::Usage(e.to_string()),
            e => Error::Store(e.to_string()),
        }
    }
}
