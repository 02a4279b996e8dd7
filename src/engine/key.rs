//! The key of an endpoint: read from the environment or a private file when it is first needed, shown nowhere.

use std::fmt;
use std::path::Path;

use crate::config::in_the_clear;

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
    /// The variable is not set, or the file cannot be read, is not private or holds no key. Says which, never the
    /// content, and leaves it to the caller to say by which setting it was named.
    pub fn of(key_env: &str, key_file: &Path) -> Result<Option<Key>, String> {
        let (text, place) = if !key_env.is_empty() {
            let place = format!("the environment variable {key_env}");
            (std::env::var(key_env).map_err(|_| format!("{place} is not set"))?, place)
        } else if !key_file.as_os_str().is_empty() {
            (private_file(key_file)?, format!("the key file {}", key_file.display()))
        } else {
            return Ok(None);
        };
        let text = text.trim();
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(format!("{place} holds no key (one line of ASCII)"));
        }
        crate::text::held::hold(text);
        Ok(Some(Key(text.to_string())))
    }

    /// The key that settings name beside an address, for use there: over plain http it goes to this machine alone,
    /// unless they say `key_over_http`.
    ///
    /// # Errors
    /// As [`Key::of`], or it would travel readable; says which of those settings helps.
    pub fn beside(url: &str, key_env: &str, key_file: &Path, over_http: bool) -> Result<Option<Key>, String> {
        let key = Key::of(key_env, key_file)
            .map_err(|why| format!("{why}; key_env or key_file, beside url, says where the key is"))?;
        if key.is_some() && !over_http && in_the_clear(url) {
            let why = "over http anybody on the way to url could read it; give url an https address, or set \
                       key_over_http = true beside it";
            return Err(why.to_string());
        }
        Ok(key)
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
    use std::os::unix::fs::PermissionsExt as _;
    let cannot = |e: std::io::Error| format!("cannot read the key file {}: {e}", path.display());
    let file = crate::config::regular::open(path).map_err(cannot)?;
    let mode = file.metadata().map_err(cannot)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "the key file {} can be read by others (mode {mode:04o}); run `chmod 600 {}`",
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
        assert!(Key::of("", folder.path()).unwrap_err().contains("is a folder"));
    }

    #[test]
    fn over_http_a_key_stays_on_this_machine_unless_it_is_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "sk-very-secret\n").unwrap();
        for (url, goes) in [
            ("http://127.0.0.1:1/v1", true),
            ("http://localhost/v1", true),
            ("http://[::1]/v1", true),
            ("https://api.example.com/v1", true),
            ("http://api.example.com/v1", false),
            ("http://192.168.1.7:8000/v1", false),
            ("http://localhost.example.com/v1", false),
        ] {
            let key = Key::beside(url, "", file.path(), false);
            assert_eq!(key.is_ok_and(|key| key.is_some()), goes, "{url}");
            assert!(Key::beside(url, "", file.path(), true).unwrap().is_some(), "{url}");
            assert!(Key::beside(url, "", Path::new(""), false).unwrap().is_none(), "{url}");
        }
        let why = Key::beside("http://h/", "", file.path(), false).unwrap_err();
        assert!(why.contains("key_over_http = true") && why.contains("https"), "{why}");
        let why = Key::beside("http://h/", "TILLERMAN_NO_SUCH_KEY", Path::new(""), false).unwrap_err();
        assert!(why.contains("TILLERMAN_NO_SUCH_KEY is not set; key_env or key_file"), "{why}");
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
