//! Long texts on disk, each in a file named by the blake3 of its content.
//!
//! Callers hold the database's write lock while they make sure of a file or remove one, so that no process
//! removes what another is about to refer to.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::config::Home;
use crate::store::error::{Result, StoreError};

/// Keep `text`; answers its name. The file is complete and on disk when this returns.
///
/// # Errors
/// Disk full, or the directory cannot be written.
pub fn put(home: &Home, text: &str) -> Result<String> {
    let dir = home.blobs();
    let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
    let path = dir.join(&hash);
    if path.metadata().is_ok_and(|meta| meta.len() == text.len() as u64) {
        return Ok(hash);
    }
    write(home, &dir, &path, text).map_err(|e| StoreError::io(&dir, e))?;
    Ok(hash)
}

/// tempfile makes 0600 files and removes them again when a step fails.
fn write(home: &Home, dir: &Path, path: &PathBuf, text: &str) -> std::io::Result<()> {
    home.ensure(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    fs::File::open(dir)?.sync_all()
}

/// # Errors
/// The file is missing or is not what its name says; the reason in words.
pub fn get(home: &Home, hash: &str) -> Result<String, String> {
    let path = home.blobs().join(hash);
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    if blake3::hash(text.as_bytes()).to_hex().as_str() == hash {
        Ok(text)
    } else {
        Err(format!("{} is not what was written", path.display()))
    }
}

/// A file that is not there is removed.
pub fn remove(home: &Home, hash: &str) {
    let _ = fs::remove_file(home.blobs().join(hash));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_what_was_put_or_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        let hash = put(&home, "a text").unwrap();
        assert_eq!(put(&home, "a text").unwrap(), hash);
        assert_eq!(get(&home, &hash).unwrap(), "a text");
        assert_eq!(fs::read_dir(home.blobs()).unwrap().count(), 1);

        fs::write(home.blobs().join(&hash), "a tixt").unwrap();
        assert!(get(&home, &hash).unwrap_err().contains("not what was written"));
        remove(&home, &hash);
        assert!(get(&home, &hash).unwrap_err().contains(&hash));
        // A torn file of an earlier version is written anew.
        fs::write(home.blobs().join(&hash), "a").unwrap();
        put(&home, "a text").unwrap();
        assert_eq!(get(&home, &hash).unwrap(), "a text");
    }
}
