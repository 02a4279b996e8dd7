//! Everything that is kept: events, model calls, labels, groups, evaluations, adapters, training, in one SQLite
//! database.
//!
//! Callers give and get events and labels; rows, files and locks stay in here. One connection writes,
//! one reads; several processes may have the same directory open. The store runs no model and draws
//! nothing.
//!
//! Durability: a record that `record` or `add_label` returned from survives the death of the process.
//! Turn ends, last events and labels also survive a power cut, and with them everything before them.

mod adapters;
mod again;
mod ballast;
mod blobs;
mod canonical;
mod checksum;
mod error;
mod evaluations;
mod gate;
mod given_way;
mod groups;
mod labels;
mod open;
mod pointer;
mod read;
mod record;
mod redact;
mod running;
mod sessions;
mod sink;
mod training;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::config::Home;
use crate::engine::cores::Cores;
use ballast::Ballast;
use running::Running;

pub use adapters::{Adapter, AdapterDraft, MANIFEST, NewAdapter, OPTIMIZER, Origin, WEIGHTS};
pub use again::Asked;
pub use canonical::{canonical, question_id};
pub use error::{Result, StoreError};
pub use evaluations::{Checked, Evaluation};
pub use gate::{GateLook, GatePair};
pub use given_way::GivenWay;
pub use groups::{GroupRow, Member, PastQuestion, Pick};
pub use labels::{Label, LabelValue, LedgerEntry, Scope, Source};
pub use open::Opened;
pub use pointer::{AdapterShelf, Move, Serving};
pub use redact::redact;
pub use sessions::{Row, Session, Status, short};
pub use sink::StoreSink;
pub use training::{RunStatus, TrainingRun, TrainingStep};

/// A new id for a session or trajectory: UUID version 7, so that ids sort by time.
pub fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Unix time in milliseconds.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The open store; threads share it behind an `Arc`.
pub struct Store {
    home: Home,
    opened: Opened,
    writer: Mutex<Writer>,
    reader: Mutex<Connection>,
    // Last, so that the connections are closed when the clean end is noted.
    running: Running,
}

struct Writer {
    connection: Connection,
    ballast: Ballast,
    /// The ballast is gone: turns in progress may end, new ones may not begin.
    full: bool,
    synced: Option<Sync>,
}

/// What a commit must survive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    /// The death of the process.
    Normal,
    /// A power cut.
    Full,
}

impl Store {
    /// Open the store of a data directory, making it where it is missing.
    ///
    /// # Errors
    /// Read-only directory, damaged file, newer schema, locked for 5 s: each with its remedy.
    pub fn open(home: &Home) -> Result<Store> {
        let ballast = Ballast::new(home.ballast());
        let parts = || -> Result<_> {
            let connection = open::writer(home)?;
            let opened = open::after_crash(home, &connection)?;
            let reader = open::reader(home)?;
            let running = Running::enter(home).map_err(|e| StoreError::io(&home.running(), e))?;
            Ok((connection, opened, reader, running))
        };
        let (connection, opened, reader, running) = match parts() {
            // Even reading takes a few pages of the disk: the reserve is there for that too.
            Err(e) if e.is_disk_full() && ballast.release() => parts()?,
            other => other?,
        };
        // Without room for it the store still opens: reading and deleting are what helps then.
        let full = !ballast.hold();
        let writer = Writer { connection, ballast, full, synced: None };
        Ok(Store {
            home: home.clone(),
            opened,
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
            running,
        })
    }

    /// The cores of this machine, as its processes on this store share them.
    pub fn cores(&self) -> Cores {
        Cores::of(&self.home)
    }

    /// What opening found.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    pub fn sqlite_version(&self) -> &'static str {
        rusqlite::version()
    }

    /// The disk is full and the reserve is in use: what runs may end, nothing new begins.
    pub fn is_full(&self) -> bool {
        self.writer().full
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A panic inside a transaction rolled it back; the connection is as good as before.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Run `action` in one write transaction. On a full disk the ballast is released and `action` runs
    /// once more.
    fn write<T>(&self, sync: Sync, action: impl Fn(&Transaction) -> Result<T>) -> Result<T> {
        let mut writer = self.writer();
        match writer.once(&self.home, sync, &action) {
            Err(e) if e.is_disk_full() => {
                writer.full = true;
                if writer.ballast.release() { writer.once(&self.home, sync, &action) } else { Err(e) }
            }
            other => other,
        }
    }

    /// As `write`, for what begins something new: refused while the disk is full.
    fn begin<T>(&self, sync: Sync, action: impl Fn(&Transaction) -> Result<T>) -> Result<T> {
        {
            let mut writer = self.writer();
            if writer.full {
                if !writer.ballast.hold() {
                    return Err(StoreError::DiskFull(self.home.database()));
                }
                writer.full = false;
            }
        }
        self.write(sync, action)
    }

    /// Run `action` on one unchanging view of the database.
    fn read<T>(&self, action: impl FnOnce(&Transaction) -> Result<T>) -> Result<T> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let view = reader.transaction().map_err(|e| self.sql(e))?;
        action(&view)
    }

    fn sql(&self, e: rusqlite::Error) -> StoreError {
        StoreError::sqlite(&self.home.database(), e)
    }
}

impl Writer {
    fn once<T>(&mut self, home: &Home, sync: Sync, action: &impl Fn(&Transaction) -> Result<T>) -> Result<T> {
        let path = home.database();
        let sql = |e| StoreError::sqlite(&path, e);
        if self.synced != Some(sync) {
            let mode = if sync == Sync::Full { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", mode).map_err(sql)?;
            self.synced = Some(sync);
        }
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        let done = action(&transaction)?;
        transaction.commit().map_err(sql)?;
        Ok(done)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Queries of this process that never got a last event; the next open would find them otherwise.
        let _ = open::interrupt(&writer.connection, &self.running.name);
    }
}
