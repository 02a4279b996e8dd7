//! A provider's key: from a file only its owner can read, else from the environment; never shown, never logged.

use std::fmt;
use std::path::Path;

use reqwest::header::HeaderValue;

const MAX_KEY_BYTES: u64 = 4096;

/// A key. Debug and Display do not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// # Errors
    /// What no header can carry: empty, or other than visible ASCII.
    pub fn new(text: &str) -> Result<Secret, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("it is empty".into());
        }
        if !text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
            return Err("it holds other than visible ASCII characters".into());
        }
        Ok(Secret(text.to_owned()))
    }

    /// `prefix` before the key, for headers like `Bearer ...`.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> Secret {
        Secret(format!("{prefix}{}", self.0))
    }

    pub(super) fn header(&self) -> HeaderValue {
        // `new` lets only what a header may carry pass.
        let mut value = HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

/// The key in `file`, or in the variable `name` where no file is named.
///
/// # Errors
/// Reason and remedy.
pub fn load(file: &Path, name: &str, variable: Option<String>) -> Result<Secret, (String, String)> {
    if file.as_os_str().is_empty() {
        let remedy =
            format!("set {name} in the environment, or network.search_key_file to a file that holds it");
        return match variable {
            None => Err((format!("there is no key: {name} is not set"), remedy)),
            Some(text) => {
                Secret::new(&text).map_err(|reason| (format!("{name} is no key: {reason}"), remedy))
            }
        };
    }
    let shown = file.display();
    let text = private_text(file)?;
    Secret::new(&text).map_err(|reason| {
        (format!("{shown} holds no key: {reason}"), format!("write the provider's key into {shown}"))
    })
}

fn private_text(file: &Path) -> Result<String, (String, String)> {
    use std::io::Read;
    let shown = file.display();
    let unreadable = |reason: std::io::Error| {
        (
            format!("{shown} cannot be read: {reason}"),
            "name a readable file in network.search_key_file".into(),
        )
    };
    // Opened once, then asked: what is checked is what is read. NONBLOCK, so that a FIFO does not wait.
    let mut options = std::fs::OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let opened = options.open(file).map_err(unreadable)?;
    let metadata = opened.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err((format!("{shown} is no regular file"), "write the key into a file of its own".into()));
    }
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
        if mode & 0o077 != 0 {
            let reason = format!("{shown} can be read by others (mode {:o})", mode & 0o777);
            return Err((reason, format!("chmod 600 {shown}")));
        }
    }
    let mut text = String::new();
    opened.take(MAX_KEY_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_come_from_a_private_file_or_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "  tvly-abc\n").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        let (reason, remedy) = load(&file, "X_KEY", None).unwrap_err();
        assert!(reason.contains("644") && remedy.starts_with("chmod 600 "), "{reason}; {remedy}");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(load(&file, "X_KEY", Some("other".into())).unwrap(), Secret("tvly-abc".into()));
        assert_eq!(load(Path::new(""), "X_KEY", Some("k".into())).unwrap(), Secret("k".into()));
        for (file, variable, part) in [
            (Path::new(""), None, "X_KEY is not set"),
            (Path::new(""), Some("\n"), "X_KEY is no key: it is empty"),
            (Path::new(""), Some("a\u{1b}b"), "visible ASCII"),
            (Path::new("/no/such/key"), None, "/no/such/key cannot be read"),
            (dir.path(), None, "no regular file"),
        ] {
            let (reason, remedy) = load(file, "X_KEY", variable.map(String::from)).unwrap_err();
            assert!(reason.contains(part) && !remedy.is_empty(), "{reason}; {remedy}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let secret = Secret::new("tvly-abc").unwrap();
        let shown = format!("{secret:?} {:?} {:?}", secret.header(), secret.with_prefix("Bearer "));
        assert!(!shown.contains("abc"), "{shown}");
    }
}
