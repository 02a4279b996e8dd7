//! Opening the database: private files, WAL, the schema of this version, a check after a crash.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::config::Home;
use crate::store::adapters;
use crate::store::error::{Result, StoreError};
use crate::store::running::Running;

/// Before 3.51.3 two connections that write and checkpoint can corrupt a WAL database.
const OLDEST_SQLITE: i32 = 3_051_003;

const BUSY: Duration = Duration::from_secs(5);

/// `MIGRATIONS[n]` leads from schema n to n + 1.
const MIGRATIONS: [&str; 6] = [
    include_str!("schema.sql"),
    include_str!("schema-2.sql"),
    include_str!("schema-3.sql"),
    include_str!("schema-4.sql"),
    include_str!("schema-5.sql"),
    include_str!("schema-6.sql"),
];

/// What opening found, for `doctor` and for a line to the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Processes that ended without closing the store since it was last opened.
    pub crashed: usize,
    /// How long the check took that follows a crash, in milliseconds; 0 without one.
    pub check_ms: u64,
}

/// The writing connection, ready for use.
///
/// # Errors
/// Read-only directory, damaged file, newer schema, locked for 5 s.
pub fn writer(home: &Home) -> Result<Connection> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(StoreError::OldSqlite(rusqlite::version().to_string()));
    }
    let path = home.database();
    create_private(&path).map_err(|e| StoreError::io(&path, e))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sql = |e| StoreError::sqlite(&path, e);
    let mut connection = Connection::open_with_flags(&path, flags).map_err(sql)?;
    configure(&mut connection).map_err(sql)?;
    to_wal(&connection, &path)?;
    migrate(&mut connection, &path)?;
    Ok(connection)
}

/// A connection that only reads; WAL lets it read while another writes.
///
/// # Errors
/// As [`writer`].
pub fn reader(home: &Home) -> Result<Connection> {
    let path = home.database();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sql = |e| StoreError::sqlite(&path, e);
    let mut connection = Connection::open_with_flags(&path, flags).map_err(sql)?;
    connection.busy_handler(Some(wait_for_turn)).map_err(sql)?;
    Ok(connection)
}

/// SQLite gives the -wal and -shm files the mode of the database file.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// Wait in short, even steps for about `BUSY`. SQLite's own steps grow to 100 ms, so that a writer among
/// several busy ones can wait its whole time without a turn.
fn wait_for_turn(attempt: i32) -> bool {
    let step = u64::try_from(attempt).unwrap_or(0).clamp(1, 8);
    std::thread::sleep(Duration::from_millis(step));
    u128::from(step) * u128::from(attempt.unsigned_abs()) < BUSY.as_millis()
}

fn configure(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(wait_for_turn))?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update(None, "foreign_keys", true)?;
    // What a person deletes is overwritten, not only unlinked from the tree.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "synchronous", "FULL")
}

/// The change to WAL takes an exclusive lock for which SQLite does not always wait by itself.
fn to_wal(connection: &Connection, path: &Path) -> Result<()> {
    let started = Instant::now();
    loop {
        let mode = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0));
        match mode.map_err(|e| StoreError::sqlite(path, e)) {
            Ok(mode) => {
                let mode: String = mode;
                return if mode == "wal" {
                    Ok(())
                } else {
                    Err(StoreError::Invalid(format!(
                        "{} cannot use write-ahead logging (mode {mode}); put the data directory on a local disk with --home DIR",
                        path.display()
                    )))
                };
            }
            Err(StoreError::Busy(_)) if started.elapsed() < BUSY => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(e) => return Err(e),
        }
    }
}

/// Bring the schema up to this version, all steps in one transaction.
fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let sql = |e| StoreError::sqlite(path, e);
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let version =
        |connection: &Connection| connection.pragma_query_value(None, "user_version", |row| row.get(0));
    if version(connection).map_err(sql)? == known {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
    // Read again under the lock: another process may have migrated meanwhile.
    let found: i64 = version(&transaction).map_err(sql)?;
    if found > known {
        return Err(StoreError::Newer { path: path.to_path_buf(), found, known });
    }
    for step in &MIGRATIONS[usize::try_from(found).unwrap_or(0)..] {
        transaction.execute_batch(step).map_err(sql)?;
    }
    transaction.pragma_update(None, "user_version", known).map_err(sql)?;
    transaction.commit().map_err(sql)
}

/// After a crash: check the file, and close the records of the processes that are gone.
///
/// # Errors
/// `Damaged` with what SQLite found.
pub fn after_crash(home: &Home, connection: &Connection) -> Result<Opened> {
    let path = home.database();
    let sql = |e| StoreError::sqlite(&path, e);
    let crashed = Running::crashed(home).map_err(|e| StoreError::io(&home.running(), e))?;
    if crashed.is_empty() {
        return Ok(Opened::default());
    }
    let started = Instant::now();
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sql)?;
    if found != "ok" {
        return Err(StoreError::Damaged { path, detail: found });
    }
    for name in &crashed {
        interrupt(connection, name).map_err(sql)?;
        Running::forget(home, name);
    }
    adapters::remove_drafts(home, &crashed);
    remove_leftovers(home);
    let check_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Opened { crashed: crashed.len(), check_ms: check_ms.max(1) })
}

/// Half-written files of processes that are gone; an hour leaves those alone that are being written.
fn remove_leftovers(home: &Home) {
    for dir in [home.root().to_path_buf(), home.blobs(), home.running()] {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let temporary = [".tmp", ".new-"].iter().any(|start| name.to_string_lossy().starts_with(start));
            let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
            if temporary && age.is_some_and(|age| age > Duration::from_secs(3600)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Trajectories without a last event, and training runs without an end, whose process is gone.
pub fn interrupt(connection: &Connection, owner: &str) -> rusqlite::Result<usize> {
    connection.execute(
        "UPDATE training_runs SET status = 'interrupted' WHERE owner = ?1 AND status = 'running'",
        [owner],
    )?;
    connection.execute(
        "UPDATE trajectories SET status = 'interrupted' WHERE owner = ?1 AND status = 'running'",
        [owner],
    )
}
