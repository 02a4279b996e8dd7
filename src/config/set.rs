//! Changes one value of the settings file in place: comments, order and everything else stay as written.

use std::io::{self, Write};
use std::path::Path;

/// Set `[section] key = "value"` in `file`, which is made where it is missing.
///
/// # Errors
/// The file cannot be read or written.
pub fn set(file: &Path, section: &str, key: &str, value: &str) -> io::Result<()> {
    // Settings kept elsewhere and linked stay linked.
    let file = &super::regular::place(file)?;
    let text = match super::regular::text(file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e),
    };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Written beside it and moved over it: a settings file is never half a file.
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(changed(&text, section, key, value).as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(file).map_err(|e| e.error)?;
    Ok(())
}

/// The line that sets the key, live or commented out, gets the value; else a line is added to its section.
fn changed(text: &str, section: &str, key: &str, value: &str) -> String {
    let line = format!("{key} = {}", toml::Value::String(value.to_string()));
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    let header = format!("[{section}]");
    let Some(start) = lines.iter().position(|l| l.trim() == header) else {
        lines.extend([String::new(), header, line]);
        return lines.join("\n").trim_start().to_string() + "\n";
    };
    let end = lines[start + 1..]
        .iter()
        .position(|l| l.trim_start().starts_with('['))
        .map_or(lines.len(), |at| start + 1 + at);
    let sets = |l: &str| l.split_once('=').is_some_and(|(left, _)| left.trim() == key);
    let found = (start + 1..end)
        .find(|at| sets(&lines[*at]))
        .or_else(|| (start + 1..end).find(|at| lines[*at].strip_prefix('#').is_some_and(sets)));
    match found {
        Some(at) => lines[at] = line,
        None => lines.insert(start + 1, line),
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_changes_and_nothing_else() {
        let text = "[flow]\n#theme = 1\n\n[deck]\n# Name.\n#theme = \"\"\nmouse = true\n\n[tools]\n";
        let expected = text.replace("#theme = \"\"", "theme = \"dark\"");
        assert_eq!(changed(text, "deck", "theme", "dark"), expected);
        assert_eq!(
            changed(&expected, "deck", "theme", "li\"ght"),
            text.replace("#theme = \"\"", "theme = 'li\"ght'")
        );
        assert_eq!(changed("[deck]\n", "deck", "theme", "x"), "[deck]\ntheme = \"x\"\n");
        assert_eq!(changed("", "deck", "theme", "x"), "[deck]\ntheme = \"x\"\n");
    }

    #[test]
    fn the_delivered_file_can_be_changed_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, super::super::DEFAULT_TEXT).unwrap();
        let link = dir.path().join("link.toml");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        set(&link, "deck", "theme", "light").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink(), "the link stays one");
        let text = std::fs::read_to_string(&file).unwrap();
        let config = super::super::Config::parse(&text, &file).unwrap();
        assert_eq!(config.deck.theme, "light");
        assert_eq!(text.lines().count(), super::super::DEFAULT_TEXT.lines().count());
    }
}
