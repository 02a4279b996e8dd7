//! The data directory: where everything the program keeps lies, readable by its user alone.
//!
//! Knows names and permissions; what stands in the files is the business of those who write them.

use std::fs::{DirBuilder, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The data directory and the names under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    config_dir: PathBuf,
}

impl Home {
    /// Open the data directory, creating it (0700) where it is missing.
    ///
    /// `named` is `--home DIR` or TILLERMAN_HOME and then holds the config file too; without it the
    /// platform's own places for data and settings are used.
    ///
    /// # Errors
    /// `Error::Config` when the user has no home directory or the directory cannot be made.
    pub fn open(named: Option<&Path>) -> Result<Home> {
        let home = match named {
            Some(dir) => {
                let root = std::path::absolute(dir).map_err(|e| cannot(dir, &e))?;
                Home { config_dir: root.clone(), root }
            }
            None => {
                let dirs = directories::ProjectDirs::from("", "", "tillerman").ok_or_else(|| {
                    Error::Config("this user has no home directory; name one with --home DIR".to_string())
                })?;
                Home { root: dirs.data_dir().to_path_buf(), config_dir: dirs.config_dir().to_path_buf() }
            }
        };
        create_private(&home.root).map_err(|e| cannot(&home.root, &e))?;
        Ok(home)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn config_file(&self) -> PathBuf {
        self.config_dir.join("config.toml")
    }

    /// The deck's keys, where a person changed some.
    pub fn keys_file(&self) -> PathBuf {
        self.config_dir.join("keys.toml")
    }

    /// A person's own themes, one `NAME.toml` each.
    pub fn themes(&self) -> PathBuf {
        self.config_dir.join("themes")
    }

    pub fn database(&self) -> PathBuf {
        self.root.join("tillerman.db")
    }

    /// Long texts, named by their blake3.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub fn adapters(&self) -> PathBuf {
        self.root.join("adapters")
    }

    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// Kept copies of fetched pages; deleting it loses nothing that cannot be fetched again.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// What was approved of MCP servers, one file each.
    pub fn mcp(&self) -> PathBuf {
        self.root.join("mcp")
    }

    /// One file per live process that has the store open.
    pub fn running(&self) -> PathBuf {
        self.root.join("running")
    }

    /// Disk space held back for the end of a turn.
    pub fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    /// Make one of the directories above, where it is missing.
    ///
    /// # Errors
    /// The system's own; the caller knows what the directory was for.
    pub fn ensure(&self, dir: &Path) -> io::Result<()> {
        create_private(dir)
    }
}

/// `mkdir -p` with mode 0700 for what is made; what exists keeps its mode.
///
/// # Errors
/// The system's own.
pub fn create_private(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)?;
    // The directory itself must survive a power cut, else nothing in it does.
    if let Some(parent) = dir.parent().and_then(|parent| File::open(parent).ok()) {
        let _ = parent.sync_all();
    }
    Ok(())
}

fn cannot(dir: &Path, e: &io::Error) -> Error {
    Error::Config(format!(
        "cannot use data directory {}: {e}; make it writable or name another with --home DIR",
        dir.display()
    ))
}

/// A path as a person typed it where no shell reads it: `~/` is the person's own folder.
pub fn at_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), directories::BaseDirs::new()) {
        (Some(rest), Some(dirs)) => dirs.home_dir().join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_is_made_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&dir.path().join("a/b"))).unwrap();
        home.ensure(&home.blobs()).unwrap();
        for made in [home.root(), &home.blobs()] {
            assert_eq!(std::fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert_eq!(home.config_file(), home.root().join("config.toml"));
    }

    #[test]
    fn a_file_in_the_way_is_named_with_the_remedy() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let message = Home::open(Some(file.path())).unwrap_err().to_string();
        assert!(message.contains(&*file.path().to_string_lossy()), "{message}");
        assert!(message.contains("--home"), "{message}");
    }

    #[test]
    fn the_persons_folder_is_known_by_its_sign() {
        let home = directories::BaseDirs::new().unwrap().home_dir().to_path_buf();
        assert_eq!((at_home("~/x.md"), at_home("x~/y")), (home.join("x.md"), PathBuf::from("x~/y")));
    }
}
