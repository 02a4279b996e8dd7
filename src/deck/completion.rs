//! What could stand where the cursor is: commands after `/` at the start, files after `@` anywhere.
//!
//! Reads no folder itself: what a folder holds comes in over `Input::Files`, asked for by an effect.

use std::path::Path;

use crate::config::at_home;
use crate::deck::command::COMMANDS;
use crate::deck::composer::Composer;
use crate::deck::fuzzy;

/// Entries of a folder that are offered.
const SHOWN_MAX: usize = 200;

#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// What stands in the input once it is taken.
    pub text: String,
    pub words: String,
}

/// The open list of choices.
#[derive(Debug, Default)]
pub struct Completion {
    pub choices: Vec<Choice>,
    pub selected: usize,
    /// Byte offset in the input where the word being completed begins.
    pub start: usize,
}

/// The files of one folder, as they came in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Files {
    /// As typed, with its last slash; empty: the folder tools open files in.
    pub folder: String,
    /// Folders end with a slash.
    pub names: Vec<String>,
    /// What stands before a name once it is taken: as tools open it.
    pub before: String,
    /// Why no tool can open these; empty: one can.
    pub note: String,
}

/// What the word at the cursor asks for.
#[derive(Debug, PartialEq)]
pub enum Wanted {
    Commands,
    /// The folder whose entries are needed.
    Files(String),
}

/// Whether the cursor stands in a word that can be completed.
pub fn wanted(composer: &Composer) -> Option<Wanted> {
    let (start, word) = composer.word();
    if start == 0 && word.starts_with('/') && !word[1..].contains('/') {
        return Some(Wanted::Commands);
    }
    let path = word.strip_prefix('@')?;
    Some(Wanted::Files(path.rfind('/').map_or(String::new(), |at| path[..=at].to_string())))
}

/// The choices for the word at the cursor; None when there is nothing to complete.
pub fn choices(composer: &Composer, files: &Files) -> Option<Completion> {
    let (start, word) = composer.word();
    let choices = match wanted(composer)? {
        Wanted::Commands => commands(&word[1..]),
        Wanted::Files(folder) if folder == files.folder => of_folder(&word[1 + folder.len()..], files),
        // Its entries are still on their way.
        Wanted::Files(_) => Vec::new(),
    };
    (!choices.is_empty()).then_some(Completion { choices, selected: 0, start })
}

fn commands(pattern: &str) -> Vec<Choice> {
    let names: Vec<(&str, usize)> = COMMANDS
        .iter()
        .enumerate()
        .filter(|(_, command)| command.named)
        .flat_map(|(n, command)| {
            // An alias is offered only to those who type it.
            let aliases = if pattern.is_empty() { &[] } else { command.aliases };
            [command.name].into_iter().chain(aliases.iter().copied()).map(move |name| (name, n))
        })
        .collect();
    let found = fuzzy::filter(pattern, &names, |(name, _)| name);
    let choice = |at: usize| {
        let (name, n) = names[at];
        let argument = COMMANDS[n].argument;
        let space = if argument.is_empty() { "" } else { " " };
        Choice {
            text: format!("/{name}{space}"),
            words: format!("{argument}{space}{space}{}", COMMANDS[n].words),
        }
    };
    found.into_iter().map(choice).collect()
}

fn of_folder(pattern: &str, files: &Files) -> Vec<Choice> {
    let visible: Vec<&String> =
        files.names.iter().filter(|name| pattern.starts_with('.') || !name.starts_with('.')).collect();
    let found = fuzzy::filter(pattern, &visible, |name| name.as_str());
    let choice = |at: usize| {
        let name = visible[at];
        // A folder keeps its `@`, so that what it holds is offered next.
        if name.ends_with('/') {
            return Choice { text: format!("@{}{name}", files.folder), words: String::new() };
        }
        Choice { text: format!("{}{name} ", files.before), words: files.note.clone() }
    };
    found.into_iter().take(SHOWN_MAX).map(choice).collect()
}

const NO_ROOT: &str = "no tool here opens files: start with --workspace DIR";
const OUTSIDE: &str = "no tool opens what lies outside the workspace";

/// The entries of `folder` as typed (`~/` is the home folder), folders first. `root` is where tools open files by
/// their names; None: nowhere, names are those of the folder the program was started in.
pub fn list(folder: &str, root: Option<&Path>) -> Files {
    let typed = at_home(folder);
    let path = root.unwrap_or(Path::new(".")).join(&typed);
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let inside = root.map(|root| whole(&path).strip_prefix(whole(root)).map(Path::to_path_buf));
    let (before, note) = match inside {
        Some(Ok(inner)) if typed.is_absolute() => (slashed(&inner), ""),
        Some(Ok(_)) => (folder.to_string(), ""),
        Some(Err(_)) => (slashed(&typed), OUTSIDE),
        None => (if typed.is_absolute() { slashed(&typed) } else { folder.to_string() }, NO_ROOT),
    };
    let mut names: Vec<String> = Vec::new();
    // A folder that cannot be read completes nothing.
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten().take(10_000) {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_folder = entry.path().is_dir();
        names.push(if is_folder { format!("{name}/") } else { name });
    }
    names.sort_by_key(|name| (!name.ends_with('/'), name.to_lowercase()));
    Files { folder: folder.to_string(), names, before, note: note.to_string() }
}

/// A folder with a slash behind it, unless it is none.
fn slashed(folder: &Path) -> String {
    let text = folder.display().to_string();
    if text.is_empty() || text.ends_with('/') { text } else { text + "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Composer {
        let mut composer = Composer::default();
        composer.insert(text);
        composer
    }

    fn texts(text: &str, files: &Files) -> Vec<String> {
        choices(&typed(text), files).map_or(Vec::new(), |c| c.choices.into_iter().map(|c| c.text).collect())
    }

    #[test]
    fn commands_only_at_the_start() {
        assert_eq!(texts("/qui", &Files::default())[0], "/quit");
        assert_eq!(texts("/exit", &Files::default())[0], "/exit");
        assert!(texts("what is 1 /q", &Files::default()).is_empty());
        assert!(texts("/etc/hosts", &Files::default()).is_empty());
    }

    #[test]
    fn files_and_what_is_in_folders() {
        let root = Files {
            folder: String::new(),
            names: ["data/", "notes.md", ".hidden"].map(String::from).to_vec(),
            ..Files::default()
        };
        assert_eq!(texts("read @", &root), ["@data/", "notes.md "]);
        assert_eq!(texts("read @no", &root), ["notes.md "]);
        assert_eq!(texts("@.h", &root), [".hidden "]);
        assert_eq!(wanted(&typed("read @data/x")), Some(Wanted::Files("data/".into())));
        assert!(texts("read @data/x", &root).is_empty());
        let (folder, before) = ("data/".to_string(), "data/".to_string());
        let data = Files { folder, names: vec!["x.csv".into()], before, note: String::new() };
        assert_eq!(texts("read @data/x", &data), ["data/x.csv "]);
    }

    #[test]
    fn a_folder_is_listed_folders_first() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("z")).unwrap();
        std::fs::write(dir.path().join("a.csv"), "").unwrap();
        let folder = format!("{}/", dir.path().display());
        assert_eq!(list(&folder, None).names, ["z/", "a.csv"]);
        assert!(list("/does/not/exist/", None).names.is_empty());
    }

    #[test]
    fn names_are_those_that_tools_open() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("project");
        std::fs::create_dir_all(root.join("src")).unwrap();
        std::fs::write(root.join("src/main.rs"), "").unwrap();
        std::fs::write(dir.path().join("outside.txt"), "").unwrap();
        let taken = |folder: &str, root: Option<&Path>| {
            let files = list(folder, root);
            let text = format!("@{folder}");
            let choice = choices(&typed(&text), &files).unwrap().choices.pop().unwrap();
            (choice.text, choice.words)
        };
        assert_eq!(taken("src/", Some(&root)), ("src/main.rs ".to_string(), String::new()));
        assert_eq!(taken("", Some(&root)).0, "@src/", "the workspace, not the current folder");
        let whole = format!("{}/src/", root.display());
        assert_eq!(taken(&whole, Some(&root)).0, "src/main.rs ", "as the tools name it");
        let outside = format!("{}/", dir.path().display());
        let (text, words) = taken(&outside, Some(&root));
        assert_eq!((text, words.as_str()), (format!("{outside}outside.txt "), OUTSIDE));
        assert_eq!(taken(&whole, None).1, NO_ROOT);
    }
}
