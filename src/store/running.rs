//! Which processes have the store open, and which ended without closing it.
//!
//! Each process keeps a file under `running/` locked. The system drops the lock when the process ends in
//! whatever way; a file without a lock therefore names a process that did not close the store.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use crate::config::Home;

/// This process's file. Dropping it is the clean end.
pub struct Running {
    path: PathBuf,
    pub name: String,
    _lock: File,
}

impl Running {
    /// # Errors
    /// The directory cannot be written.
    pub fn enter(home: &Home) -> io::Result<Running> {
        let dir = home.running();
        home.ensure(&dir)?;
        let name = uuid::Uuid::now_v7().to_string();
        let path = dir.join(&name);
        // Locked before it has its name, so that nobody finds it without a lock.
        let file = tempfile::Builder::new().prefix(".new-").tempfile_in(&dir)?;
        file.as_file().lock()?;
        let lock = file.persist(&path).map_err(|e| e.error)?;
        // After a power cut this file alone says that there was a process whose leavings are to be looked at.
        // Where a folder cannot be synced, a kill is still noticed.
        let _ = File::open(&dir).and_then(|dir| dir.sync_all());
        Ok(Running { path, name, _lock: lock })
    }

    /// Names of processes that ended without closing the store.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn crashed(home: &Home) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        let entries = match fs::read_dir(home.running()) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(e) => return Err(e),
        };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let free = File::open(home.running().join(&name)).is_ok_and(|file| file.try_lock().is_ok());
            if free {
                found.push(name);
            }
        }
        Ok(found)
    }

    /// Forget a crashed process, once what it left has been looked at.
    pub fn forget(home: &Home, name: &str) {
        let _ = fs::remove_file(home.running().join(name));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_without_its_lock_is_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        let alive = Running::enter(&home).unwrap();
        assert!(Running::crashed(&home).unwrap().is_empty());
        fs::write(home.running().join("dead"), "").unwrap();
        assert_eq!(Running::crashed(&home).unwrap(), ["dead"]);
        Running::forget(&home, "dead");
        drop(alive);
        assert_eq!(fs::read_dir(home.running()).unwrap().count(), 0);
    }
}
