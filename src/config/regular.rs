//! Files that people name, opened only where they are regular files: a pipe without a writer would be waited for
//! without end, a device has no end, and a folder gives no reason worth reading.
//!
//! Whoever calls says what the file is for; the reason and the remedy come from here.

use std::fs::{File, FileType};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The largest text read whole: settings, keys, templates, task files.
pub const TEXT_MOST: u64 = 256 << 20;

/// Open a regular file for reading; links are followed.
///
/// # Errors
/// It cannot be opened, or is no regular file; `InvalidInput` then, with what it is and the remedy.
pub fn open(path: &Path) -> Result<File> {
    // Looked at before it is opened: opening a device can do something.
    refuse(std::fs::metadata(path).map_err(unreadable)?.file_type())?;
    // It may be another by now, and opening a pipe would wait for its writer.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    refuse(file.metadata()?.file_type())?;
    Ok(file)
}

/// All of a regular file, at most `most` bytes.
///
/// # Errors
/// As [`open`]; it cannot be read, or is longer.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let told = format!("it is larger than {} MiB", most >> 20);
        return Err(Error::new(ErrorKind::FileTooLarge, told));
    }
    Ok(bytes)
}

/// The text of a regular file.
///
/// # Errors
/// As [`read`]; it is not UTF-8.
pub fn text(path: &Path) -> Result<String> {
    let bytes = read(path, TEXT_MOST)?;
    String::from_utf8(bytes).map_err(|_| Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// The same error with a remedy, where there is a common one.
fn unreadable(error: Error) -> Error {
    let told = match error.kind() {
        ErrorKind::NotFound => "there is no such file; check its name",
        ErrorKind::PermissionDenied => "you may not read it; change its permissions, or start as its owner",
        _ => return error,
    };
    Error::new(error.kind(), told)
}

/// Where a file that is written whole goes: the place itself, what a link there leads to, or a new one.
///
/// # Errors
/// What is there is no regular file: it would be replaced by one, also /dev/null.
pub fn place(path: &Path) -> Result<PathBuf> {
    match std::fs::metadata(path) {
        Ok(data) => refuse(data.file_type()).and_then(|()| std::fs::canonicalize(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(path.to_path_buf()),
        Err(error) => Err(error),
    }
}

/// Why a file that a person named cannot be written, and what helps.
pub fn unwritable(error: &Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such folder; make it, or name another place".into(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "you may not write there; name another place".into()
        }
        ErrorKind::StorageFull => "the disk is full; free some space, or name another place".into(),
        ErrorKind::InvalidInput => error.to_string(),
        _ => format!("{error}; name another place"),
    }
}

fn refuse(kind: FileType) -> Result<()> {
    if kind.is_file() {
        return Ok(());
    }
    let told = match kind {
        kind if kind.is_dir() => "it is a folder; name a file in it",
        kind if kind.is_fifo() => "it is a pipe, not a regular file; write what comes out of it to a file",
        kind if kind.is_socket() => "it is a socket, not a regular file; name a file",
        _ => "it is a device, not a regular file; name a file",
    };
    Err(Error::new(ErrorKind::InvalidInput, told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_nothing_waits() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        assert_eq!(text(&at("link")).unwrap(), "text");
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink(at("pipe"), at("led")).unwrap();
        for (path, part) in [
            (at("pipe"), "is a pipe, not a regular file; write"),
            (at("led"), "is a pipe"),
            (at("socket"), "is a socket"),
            (folder.path().to_path_buf(), "is a folder; name a file in it"),
            ("/dev/zero".into(), "is a device"),
        ] {
            let error = open(&path).unwrap_err();
            assert!(error.to_string().contains(part), "{path:?}: {error}");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        let none = open(&at("none")).unwrap_err();
        assert_eq!((none.kind(), none.to_string().contains("check its name")), (ErrorKind::NotFound, true));
        let folder = File::create(at("none/file")).unwrap_err();
        assert!(unwritable(&folder).contains("no such folder; make it"), "{}", unwritable(&folder));
    }

    #[test]
    fn only_a_file_is_replaced_and_a_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        assert_eq!(place(&at("link")).unwrap(), std::fs::canonicalize(at("file")).unwrap());
        assert_eq!(place(&at("new")).unwrap(), at("new"));
        assert!(place(Path::new("/dev/null")).unwrap_err().to_string().contains("is a device"));
        assert!(place(folder.path()).unwrap_err().to_string().contains("is a folder"));
    }

    #[test]
    fn what_is_too_long_or_no_text_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"\xff\xfe1234").unwrap();
        assert_eq!(read(&path, 6).unwrap().len(), 6);
        assert!(read(&path, 5).unwrap_err().to_string().contains("larger than"));
        assert!(text(&path).unwrap_err().to_string().contains("not UTF-8"));
    }
}
