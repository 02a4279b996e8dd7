//! The Hugging Face cache on disk: `models--OWNER--NAME/{blobs/SHA256, refs/BRANCH, snapshots/COMMIT/FILE}`, as
//! `hf`, llama.cpp and others write and read it. A blob appears under its name once it is whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::hub::{Remote, Wish};
use super::{PullError, Result};

/// How often a lock that somebody else holds is tried again.
const RETRY: Duration = Duration::from_millis(300);

/// The folder of the hub's cache: what HF_HUB_CACHE, HF_HOME and the like say, in the order `hf` looks.
pub fn root() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    var("HF_HUB_CACHE")
        .or_else(|| var("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| var("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| var("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| var("HOME").map(|home| home.join(".cache/huggingface/hub")))
}

/// One repository's folder in the cache.
pub struct Cache {
    root: PathBuf,
    name: String,
    repo: PathBuf,
}

impl Cache {
    /// # Errors
    /// No place for it is known, or it cannot be made.
    pub fn from_env(wish: &Wish) -> Result<Cache> {
        let root =
            root().ok_or_else(|| PullError::Usage("HOME is not set; set HF_HUB_CACHE=DIR".to_string()))?;
        let root = std::path::absolute(&root).map_err(|e| PullError::cache(&root, e))?;
        let name = format!("models--{}", wish.repo.replace('/', "--"));
        let cache = Cache { repo: root.join(&name), root, name };
        for folder in [cache.repo.join("blobs"), cache.repo.join("refs"), cache.repo.join("snapshots")] {
            fs::create_dir_all(&folder).map_err(|e| PullError::cache(&folder, e))?;
        }
        Ok(cache)
    }

    pub fn folder(&self) -> &Path {
        &self.repo
    }

    fn blob(&self, remote: &Remote) -> PathBuf {
        self.repo.join("blobs").join(&remote.sha256)
    }

    fn snapshot(&self, wish: &Wish, remote: &Remote) -> PathBuf {
        self.repo.join("snapshots").join(&remote.commit).join(&wish.file)
    }

    /// Where the file grows. The name is ours: what other programs left half done is theirs.
    pub fn partial(&self, remote: &Remote) -> PathBuf {
        self.repo.join("blobs").join(format!("{}.tillerman.incomplete", remote.sha256))
    }

    /// The lock other programs of the cache take for the same blob; waits until it is free.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn lock(&self, remote: &Remote) -> Result<File> {
        let folder = self.root.join(".locks").join(&self.name);
        let path = folder.join(format!("{}.lock", remote.sha256));
        let io = |e| PullError::cache(&path, e);
        fs::create_dir_all(&folder).map_err(io)?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(io)?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if told => {}
                Err(TryLockError::WouldBlock) => {
                    eprintln!("another program is downloading this file; waiting for it");
                    told = true;
                }
                Err(TryLockError::Error(error)) => return Err(io(error)),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The file, where it is in the cache already (perhaps under another name).
    ///
    /// # Errors
    /// It is there and cannot be linked.
    pub fn present(&self, wish: &Wish, remote: &Remote) -> Result<Option<PathBuf>> {
        let whole =
            |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == remote.bytes);
        let snapshot = self.snapshot(wish, remote);
        if whole(&self.blob(remote)) {
            return self.name_it(wish, remote).map(Some);
        }
        Ok(whole(&snapshot).then_some(snapshot))
    }

    /// Give the finished file its name, its link and its branch.
    ///
    /// # Errors
    /// One of them cannot be written.
    pub fn settle(&self, wish: &Wish, remote: &Remote, partial: &Path) -> Result<PathBuf> {
        let blob = self.blob(remote);
        fs::rename(partial, &blob).map_err(|e| PullError::cache(&blob, e))?;
        sync_folder(&blob);
        self.name_it(wish, remote)
    }

    fn name_it(&self, wish: &Wish, remote: &Remote) -> Result<PathBuf> {
        let (blob, snapshot) = (self.blob(remote), self.snapshot(wish, remote));
        let io = |e| PullError::cache(&snapshot, e);
        if let Some(folder) = snapshot.parent() {
            fs::create_dir_all(folder).map_err(io)?;
        }
        let up = "../".repeat(2 + wish.file.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{}", remote.sha256));
        if fs::read_link(&snapshot).ok().as_ref() != Some(&target) {
            link(&target, &blob, &snapshot).map_err(io)?;
        }
        if wish.revision != remote.commit {
            let branch = self.repo.join("refs").join(&wish.revision);
            write_whole(&branch, remote.commit.as_bytes()).map_err(|e| PullError::cache(&branch, e))?;
        }
        Ok(snapshot)
    }
}

/// A relative link; on a file system that knows none, the file itself, as the cache's format has it.
fn link(target: &Path, blob: &Path, place: &Path) -> io::Result<()> {
    let beside = beside(place);
    match std::os::unix::fs::symlink(target, &beside) {
        Ok(()) => fs::rename(&beside, place),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => fs::rename(blob, place),
    }?;
    sync_folder(place);
    Ok(())
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = beside(path);
    fs::write(&beside, bytes)?;
    fs::rename(&beside, path)
}

/// A name next to `path` that nobody else uses.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.{}.tillerman", uuid::Uuid::now_v7().simple()))
}

fn sync_folder(path: &Path) {
    if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
}
