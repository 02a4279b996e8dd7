//! Disk space held back, so that a turn in progress still ends well when the disk is full.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

/// Bytes held back; ARCHITECTURE's frames are at most 16 MiB, a turn's records are far below 8.
const BYTES: usize = 8 << 20;

pub struct Ballast {
    path: PathBuf,
}

impl Ballast {
    pub fn new(path: PathBuf) -> Ballast {
        Ballast { path }
    }

    /// Take the space if there is any; false when the disk has too little.
    pub fn hold(&self) -> bool {
        if self.path.metadata().is_ok_and(|meta| meta.len() == BYTES as u64) {
            return true;
        }
        let held = self.write().is_ok();
        if !held {
            let _ = fs::remove_file(&self.path);
        }
        held
    }

    fn write(&self) -> std::io::Result<()> {
        // Noise, because a file system that compresses would hold nothing back for zeros.
        let mut noise = vec![0; BYTES];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let dir = self.path.parent().unwrap_or(std::path::Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(&noise)?;
        // Delayed allocation would report a full disk only later.
        file.as_file().sync_data()?;
        file.persist(&self.path).map_err(|e| e.error)?;
        Ok(())
    }

    /// Give the space back; false when none was held.
    pub fn release(&self) -> bool {
        fs::remove_file(&self.path).is_ok()
    }
}
