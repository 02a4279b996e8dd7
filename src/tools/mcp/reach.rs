//! Whether model-written code could change what a server is started from.
//!
//! A server runs with the person's rights, and what was approved of it is its command, not the files this leads to: one
//! that lies in a workspace that may be written would be whatever a model last wrote there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::Mcp;
use crate::tools::workspace::Workspace;
use crate::tools::{Refused, Toolbox};

/// Arguments after which a folder is one that programs are taken from, not one that is worked on.
const CODE_FOLDERS: [&str; 5] = ["--directory", "--project", "--prefix", "--cwd", "-C"];

/// The servers no model can reach; the others are refused with the reason.
pub fn apart(
    toolbox: &mut Toolbox,
    servers: &BTreeMap<String, Mcp>,
    workspace: Option<&Workspace>,
) -> BTreeMap<String, Mcp> {
    let mut kept = BTreeMap::new();
    for (name, settings) in servers {
        match workspace.and_then(|workspace| within(settings, workspace)) {
            Some(path) => toolbox.refused.push(Refused {
                name: name.clone(),
                reason: reason(&path),
                remedy: "keep it outside the workspace, or leave tools.workspace_write off".into(),
            }),
            None => drop(kept.insert(name.clone(), settings.clone())),
        }
    }
    kept
}

/// Why a server that is started from this path is not.
pub fn reason(path: &Path) -> String {
    format!(
        "it is started from {}, in the workspace, where model-written code may put another program",
        path.display()
    )
}

/// The first file or folder in the workspace that starting the server would take its program from.
pub fn within(settings: &Mcp, workspace: &Workspace) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let (program, arguments) = settings.command.split_first().filter(|_| workspace.write)?;
    looked_at(program, &std::env::split_paths(&path).collect::<Vec<_>>())
        .into_iter()
        .chain(named(arguments))
        .find(|path| workspace.holds(path))
}

/// Where a program is looked for, up to where it is: what comes before could be put there.
fn looked_at(program: &str, path: &[PathBuf]) -> Vec<PathBuf> {
    if program.contains('/') {
        // Servers are started in the root folder.
        return vec![Path::new("/").join(program)];
    }
    let mut places: Vec<PathBuf> = path.iter().map(|folder| folder.join(program)).collect();
    if let Some(found) = places.iter().position(|place| place.is_file()) {
        places.truncate(found + 1);
    }
    places
}

/// Files that arguments name, `--option=FILE` too, and folders that stand where programs are taken from. Another folder
/// is what a server works on.
fn named(arguments: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut before = "";
    for argument in arguments {
        let (option, value) = match argument.split_once('=') {
            Some((option, value)) if option.starts_with('-') => (option, value),
            _ => (before, argument.as_str()),
        };
        let path = Path::new("/").join(value);
        if path.is_file() || (path.is_dir() && CODE_FOLDERS.contains(&option)) {
            found.push(path);
        }
        before = argument;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_could_write_starts_no_server() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let make = |folder: &Path, name: &str| {
            let path = folder.join(name);
            std::fs::write(&path, "").unwrap();
            path.display().to_string()
        };
        let (ours, theirs) = (make(outside.path(), "server.py"), make(inside.path(), "server.py"));
        let linked = outside.path().join("linked.py").display().to_string();
        std::os::unix::fs::symlink(&theirs, &linked).unwrap();
        // What a link in the workspace points at today says nothing about tomorrow.
        let link = inside.path().join("link.py").display().to_string();
        std::os::unix::fs::symlink(&ours, &link).unwrap();
        let folder = inside.path().display().to_string();
        let workspace = |write| Workspace { path: inside.path().canonicalize().unwrap(), write };
        let refused = |command: &[&str], write| {
            let command = command.iter().map(ToString::to_string).collect();
            within(&Mcp { command, ..Mcp::default() }, &workspace(write)).is_some()
        };
        for (command, expected) in [
            (vec!["/usr/bin/env", &ours], false),
            (vec![&theirs], true),
            (vec!["env", &theirs], true),
            (vec!["env", &format!("--script={theirs}")], true),
            (vec!["env", &linked], true),
            (vec!["env", &link], true),
            (vec!["env", "server-files", &folder], false),
            (vec!["env", "--directory", &folder, "server.py"], true),
            (vec!["env", &format!("--directory={folder}")], true),
            (vec!["env", &format!("{folder}/missing.db")], false),
        ] {
            assert_eq!(refused(&command, true), expected, "{command:?}");
            assert!(!refused(&command, false), "{command:?} where nothing can be written");
        }
        assert!(within(&Mcp { url: "http://h".into(), ..Mcp::default() }, &workspace(true)).is_none());

        let mut toolbox = Toolbox::default();
        let server = |script: &str| Mcp { command: vec!["env".into(), script.into()], ..Mcp::default() };
        let servers = BTreeMap::from([("good".into(), server(&ours)), ("bad".into(), server(&theirs))]);
        let kept = apart(&mut toolbox, &servers, Some(&workspace(true)));
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["good"]);
        assert!(toolbox.refused[0].name == "bad" && toolbox.refused[0].reason.contains(&theirs));
        assert_eq!(apart(&mut toolbox, &servers, None), servers);
    }

    #[test]
    fn a_place_before_the_program_on_the_path_counts() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(second.path().join("server"), "").unwrap();
        let path = [first.path(), second.path(), first.path()].map(Path::to_path_buf);
        let places = [first.path(), second.path()].map(|folder| folder.join("server"));
        assert_eq!(looked_at("server", &path), places);
        assert_eq!(looked_at("bin/server", &path), [Path::new("/bin/server")]);
    }
}
