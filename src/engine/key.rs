//! The key of an endpoint: read from the environment or a private file when it is first needed, shown nowhere.

use std::fmt;
use std::path::Path;

/// A key is a line; a file much longer is none.
const KEY_MOST: u64 = 16 << 10;

/// Prints as `[key]`, so that no log, panic or record can hold it.
#[derive(Clone)]
pub struct Key(String);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

impl Key {
    /// The key the settings name; None where they name none.
    ///
    /// # Errors
    /// The variable is not set, or the file cannot be read, is not private or holds no key. Says which and the
    /// remedy, never the content.
    pub fn of(key_env: &str, key_file: &Path) -> Result<Option<Key>, String> {
        let text = if !key_env.is_empty() {
            let name = key_env;
            std::env::var(name).map_err(|_| {
                format!("the environment variable {name} is not set; set it, or name another with key_env")
            })?
        } else if !key_file.as_os_str().is_empty() {
            private_file(key_file)?
        } else {
            return Ok(None);
        };
        let text = text.trim();
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err("what key_env or key_file names holds no key (one line of ASCII)".to_string());
        }
        crate::text::held::hold(text);
        Ok(Some(Key(text.to_string())))
    }

    /// The key itself, for the one header it goes into.
    pub fn token(&self) -> &str {
        &self.0
    }

    /// `text` without the key, should an endpoint echo it.
    pub fn scrub(&self, text: &str) -> String {
        text.replace(&self.0, "[key]")
    }
}

/// The text of a file that only its owner can read.
fn private_file(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let cannot = |e: std::io::Error| format!("cannot read key_file {}: {e}", path.display());
    // A FIFO must not hang the program.
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(cannot)?;
    let found = file.metadata().map_err(cannot)?;
    if !found.is_file() {
        return Err(format!("key_file {} is no regular file", path.display()));
    }
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "key_file {} can be read by others (mode {mode:04o}); run `chmod 600 {}`",
            path.display(),
            path.display()
        ));
    }
    let mut text = String::new();
    file.take(KEY_MOST).read_to_string(&mut text).map_err(cannot)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_must_be_private_and_its_content_never_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "sk-very-secret\n").unwrap();
        for (mode, part) in [(0o644, "chmod 600"), (0o640, "can be read by others")] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let why = Key::of("", &path).unwrap_err();
            assert!(why.contains(part) && !why.contains("secret"), "{why}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let key = Key::of("", &path).unwrap().unwrap();
        assert_eq!((key.token(), format!("{key:?}").as_str()), ("sk-very-secret", "[key]"));
        assert_eq!(key.scrub("bad key sk-very-secret."), "bad key [key].");
        std::fs::write(&path, "two lines\nof it").unwrap();
        assert!(Key::of("", &path).unwrap_err().contains("no key"));
        assert!(Key::of("", folder.path()).unwrap_err().contains("no regular file"));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let nowhere = Path::new("");
        assert!(
            Key::of("TILLERMAN_NO_SUCH_KEY", nowhere)
                .unwrap_err()
                .contains("TILLERMAN_NO_SUCH_KEY is not set")
        );
        assert!(Key::of("", nowhere).unwrap().is_none());
    }
}
