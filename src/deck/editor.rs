//! The input in the person's own editor. The caller has given the terminal back before, and takes it after.

use std::io::{self, Read, Seek, Write};
use std::process::Command;

use crate::error::Error;

/// $VISUAL, else $EDITOR, else vi; may carry arguments ("code --wait").
fn editor() -> String {
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".to_string())
}

/// Edit `text`; what stands in the file when the editor ends, without its last line end.
///
/// # Errors
/// The editor cannot be started or ends badly, or the file cannot be read back; says what to set.
pub fn edit(text: &str) -> Result<String, Error> {
    edit_with(&editor(), text)
}

fn edit_with(editor: &str, text: &str) -> Result<String, Error> {
    let failed =
        |e: io::Error| Error::Terminal(format!("editor {editor:?}: {e}; set EDITOR to one that runs here"));
    let mut file = tempfile::Builder::new().prefix("tillerman-").suffix(".md").tempfile().map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.flush()).map_err(failed)?;
    let mut words = editor.split_whitespace();
    let status =
        Command::new(words.next().unwrap_or("vi")).args(words).arg(file.path()).status().map_err(failed)?;
    if !status.success() {
        return Err(Error::Terminal(format!(
            "editor {editor:?} ended with {status}; the input is unchanged"
        )));
    }
    // Many editors write a new file in its place, so it is opened again by its name.
    let mut edited = Vec::new();
    let mut read = std::fs::File::open(file.path()).map_err(failed)?;
    read.rewind().and_then(|()| read.read_to_end(&mut edited)).map_err(failed)?;
    let edited = String::from_utf8_lossy(&edited).into_owned();
    Ok(edited.strip_suffix('\n').map_or(edited.clone(), String::from))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_the_editor_wrote_comes_back() {
        assert_eq!(edit_with("true", "as it was\n").unwrap(), "as it was");
        assert_eq!(edit_with("sed -i s/a/b/", "a\na").unwrap(), "b\nb");
    }

    #[test]
    fn an_editor_that_fails_is_named() {
        assert!(edit_with("false", "x").unwrap_err().to_string().contains("unchanged"));
        assert!(edit_with("/no/such/editor", "x").unwrap_err().to_string().contains("EDITOR"));
    }
}
