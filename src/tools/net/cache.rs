//! Kept copies of what was fetched: below the data directory, readable by its owner alone, each for a time.
//!
//! A cache and nothing more: what is damaged, expired or too much is deleted, and no failure here stops a call.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::fetch::Page;

/// See the file's head.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    /// How long a copy is given out; zero: nothing is kept.
    keep: Duration,
    /// All copies together; the oldest go first.
    max_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    /// What was asked for, whole: a file name is only its hash.
    key: String,
    /// Seconds since 1970.
    fetched: u64,
    page: Page,
}

impl Cache {
    pub fn new(folder: PathBuf, keep: Duration, max_bytes: u64) -> Cache {
        Cache { folder, keep, max_bytes }
    }

    /// The copy of `key` and its age, if it is still good.
    pub fn get(&self, key: &str) -> Option<(Page, Duration)> {
        self.get_at(key, SystemTime::now())
    }

    fn get_at(&self, key: &str, now: SystemTime) -> Option<(Page, Duration)> {
        let bytes = fs::read(self.file(key)).ok()?;
        let kept: Kept = serde_json::from_slice(&bytes).ok()?;
        // A copy from the future (a clock set back) is as good as none.
        let fetched = UNIX_EPOCH.checked_add(Duration::from_secs(kept.fetched))?;
        let age = now.duration_since(fetched).ok()?;
        (kept.key == key && age < self.keep).then_some((kept.page, age))
    }

    /// Keep a copy, and drop what is too old or too much. A full disk or a read-only folder costs the copy only.
    pub fn put(&self, key: &str, page: &Page) {
        if !self.keep.is_zero() {
            let _ = self.write(key, page, SystemTime::now());
        }
        self.sweep(SystemTime::now());
    }

    fn write(&self, key: &str, page: &Page, now: SystemTime) -> io::Result<()> {
        private_folder(&self.folder)?;
        let fetched = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let kept = Kept { key: key.to_owned(), fetched, page: page.clone() };
        // Made with mode 0600, and moved into place whole: two programs at once never see half a copy.
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.persist(self.file(key)).map_err(|error| error.error)?;
        Ok(())
    }

    fn file(&self, key: &str) -> PathBuf {
        self.folder.join(blake3::hash(key.as_bytes()).to_hex().as_str())
    }

    fn sweep(&self, now: SystemTime) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut copies: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        copies.sort_by_key(|copy| std::cmp::Reverse(copy.0));
        let mut total = 0;
        for (modified, bytes, path) in copies {
            total += bytes;
            let old = now.duration_since(modified).is_ok_and(|age| age >= self.keep);
            if old || total > self.max_bytes {
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn page(text: &str) -> Page {
        Page { url: "https://example.org/".into(), kind: "text/plain".into(), text: text.into() }
    }

    fn cache(folder: &Path, max_bytes: u64) -> Cache {
        Cache::new(folder.join("a/web"), HOUR, max_bytes)
    }

    #[test]
    fn copies_are_private_and_good_for_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path(), 1 << 20);
        assert_eq!(cache.get("k"), None);
        cache.put("k", &page("one"));
        assert_eq!(cache.get("k").unwrap().0, page("one"));
        assert_eq!(cache.get("other"), None);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&cache.folder), mode(&cache.file("k"))), (0o700, 0o600));
        let now = SystemTime::now();
        assert!(cache.get_at("k", now + HOUR / 2).is_some());
        assert_eq!(cache.get_at("k", now + HOUR * 2), None);
        assert_eq!(cache.get_at("k", now - HOUR), None, "a clock set back");
        cache.sweep(now + HOUR * 2);
        assert_eq!(fs::read_dir(&cache.folder).unwrap().count(), 0);
    }

    #[test]
    fn damage_is_no_copy_and_too_much_goes() {
        let dir = tempfile::tempdir().unwrap();
        let small = cache(dir.path(), 3000);
        small.put("k", &page("one"));
        fs::write(small.file("k"), b"{\"key\":\"k\",\"fe").unwrap();
        assert_eq!(small.get("k"), None);
        // A time no clock shows.
        let ageless = serde_json::json!({"key": "k", "fetched": u64::MAX, "page": page("one")});
        fs::write(small.file("k"), ageless.to_string()).unwrap();
        assert_eq!(small.get("k"), None);
        // A file under the wrong name is not taken for what it is not.
        small.put("k", &page("one"));
        fs::copy(small.file("k"), small.file("other")).unwrap();
        assert_eq!(small.get("other"), None);
        for n in 0..20 {
            small.put(&format!("key {n}"), &page(&"x".repeat(500)));
        }
        let bytes: u64 =
            fs::read_dir(&small.folder).unwrap().flatten().map(|e| e.metadata().unwrap().len()).sum();
        assert!(bytes <= 3000, "{bytes}");
    }

    #[test]
    fn nothing_is_kept_where_nothing_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let none = Cache::new(dir.path().join("web"), Duration::ZERO, 1 << 20);
        none.put("k", &page("one"));
        assert_eq!(none.get("k"), None);
        assert!(!dir.path().join("web").exists());
        // A folder that cannot be made costs the copy, nothing else.
        fs::write(dir.path().join("file"), "").unwrap();
        Cache::new(dir.path().join("file/web"), HOUR, 1 << 20).put("k", &page("one"));
    }
}
