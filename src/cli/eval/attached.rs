//! Files attached to questions: found before anything runs, and shown to their question alone.
//!
//! A question's file is copied into a folder of its own, which is the workspace, read-only, of that question's
//! tools: what lies beside it (other questions' files, the task file with its answers) is out of their reach.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::Global;
use crate::cli::setup::{self, Setup};
use crate::config::regular;
use crate::error::Error;
use crate::tasks::eval::Asked;
use crate::tools::{Toolbox, sandbox};

/// The toolbox of each question that has a file, by its id, and the folder the copies lie in.
type Toolboxes = (HashMap<String, Arc<Toolbox>>, Option<tempfile::TempDir>);

/// Tools that work in the workspace.
const IN_WORKSPACE: [&str; 3] = ["files", "python", "shell"];

/// One file and whose it is.
struct File {
    question: String,
    name: String,
    path: PathBuf,
    /// blake3 of its content.
    hash: blake3::Hash,
}

/// The files of the questions asked.
pub struct Attached {
    files: Vec<File>,
}

/// Find every file the questions name, in `folder` or beside the task file.
///
/// # Errors
/// One is missing, no regular file or cannot be read; names row and path.
pub fn find(asked: &[Asked], tasks: &Path, folder: Option<&Path>) -> Result<Attached, Error> {
    let beside = tasks.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.unwrap_or(beside);
    let mut files = Vec::new();
    for Asked { question, .. } in asked {
        let Some(attachment) = &question.attachment else { continue };
        let path = folder.join(&attachment.name);
        let fault = |what: String| {
            Error::Usage(format!(
                "task file {}, row {}: its attached file {} {what}; say with --attachments DIR where the files lie",
                tasks.display(),
                attachment.row,
                path.display()
            ))
        };
        let mut hasher = blake3::Hasher::new();
        let read = regular::open(&path).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
        read.map_err(|error| fault(format!("cannot be read: {error}")))?;
        let (question, name) = (question.id.clone(), attachment.name.clone());
        files.push(File { question, name, path, hash: hasher.finalize() });
    }
    Ok(Attached { files })
}

impl Attached {
    /// Of names and contents; None without files.
    pub fn hash(&self) -> Option<String> {
        let mut hasher = blake3::Hasher::new();
        for file in &self.files {
            hasher.update(file.question.as_bytes()).update(file.hash.as_bytes());
        }
        (!self.files.is_empty()).then(|| hasher.finalize().to_hex()[..16].to_string())
    }

    /// The tools of each question that has a file, and the folders they look into, which are gone when dropped.
    ///
    /// # Errors
    /// A file cannot be copied, or no tool here can read a workspace.
    pub fn toolboxes(&self, global: &Global, setup: &Setup) -> anyhow::Result<Toolboxes> {
        let mut toolboxes = HashMap::new();
        if self.files.is_empty() {
            return Ok((toolboxes, None));
        }
        let staged = stage()?;
        for (at, file) in self.files.iter().enumerate() {
            let folder = staged.path().join(at.to_string());
            copy(file, &folder)?;
            let toolbox = toolbox(global, setup, &folder)?;
            toolboxes.insert(file.question.clone(), Arc::new(toolbox));
        }
        Ok((toolboxes, Some(staged)))
    }
}

fn stage() -> anyhow::Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix("tillerman-attached-").tempdir();
    let staged = made.map_err(|e| {
        Error::Store(format!(
            "no folder for attached files: {e}; free some space, or set TMPDIR to a folder elsewhere"
        ))
    })?;
    let modes = modes();
    set_mode(staged.path(), modes.folder)?;
    Ok(staged)
}

fn copy(file: &File, folder: &Path) -> anyhow::Result<()> {
    let to = folder.join(&file.name);
    let copied = std::fs::create_dir(folder)
        .and_then(|()| std::io::copy(&mut regular::open(&file.path)?, &mut std::fs::File::create_new(&to)?));
    copied.map_err(|e| {
        Error::Store(format!(
            "cannot copy {} to {}: {e}; free some space, or set TMPDIR to a folder elsewhere",
            file.path.display(),
            to.display()
        ))
    })?;
    let modes = modes();
    set_mode(&to, modes.file)?;
    set_mode(folder, modes.folder)
}

struct Modes {
    file: u32,
    folder: u32,
}

/// Nobody else's business; but started by root, sandboxed programs run as the user nobody and must read them.
fn modes() -> Modes {
    if sandbox::runs_as_nobody() {
        Modes { file: 0o444, folder: 0o755 }
    } else {
        Modes { file: 0o400, folder: 0o700 }
    }
}

fn set_mode(path: &Path, mode: u32) -> anyhow::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|e| Error::Store(format!("cannot make {} readable: {e}", path.display())).into())
}

/// The tools of the setup, with those that work in a workspace made anew for `folder`.
fn toolbox(global: &Global, setup: &Setup, folder: &Path) -> anyhow::Result<Toolbox> {
    let mut config = setup.config.clone();
    config.tools.workspace_write = false;
    config.mcp = Default::default();
    // Folders to search are indexed once, by the setup.
    if config.tools.data.as_os_str().is_empty()
        && let Some(data) = global.folder.first()
    {
        config.tools.data = data.clone();
    }
    config.tools.folders.clear();
    let global = Global { workspace: Some(folder.to_path_buf()), folder: Vec::new(), ..global.clone() };
    let own =
        setup::toolbox(&global, &setup.home, &config, Some(setup.flow.engine.clone()), &setup.flow.pack)?;
    let mut toolbox = (*setup.flow.toolbox).clone();
    toolbox.tools.retain(|tool| !IN_WORKSPACE.contains(&tool.card().name.as_str()));
    let mut readers = 0;
    for tool in own.tools {
        if IN_WORKSPACE.contains(&tool.card().name.as_str()) {
            readers += 1;
            toolbox.tools.push(tool);
        }
    }
    if readers == 0 {
        let told = "questions have files attached and no tool can read them; set files = true in [tools] of the \
                    settings, or ask about the others in a task file of their own";
        return Err(Error::Usage(told.into()).into());
    }
    Ok(toolbox)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::eval::seeded;
    use crate::tasks::loaders::{Benchmark, load};

    #[test]
    fn a_file_is_found_beside_its_rows_or_where_one_says_and_its_absence_names_row_and_path() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tasks = folder.path().join("gaia.json");
        let rows = r#"[{"pid": "p", "query": "q", "answer": "a", "file_name": ""},
                       {"pid": "t", "query": "How many?", "answer": "3", "file_name": "t.csv"}]"#;
        std::fs::write(&tasks, rows).unwrap();
        let asked = seeded(load(&tasks, Some(Benchmark::Gaia)).unwrap(), 0);
        assert_eq!((asked[0].question.query.as_str(), &asked[0].question.attachment), ("q", &None));
        let query = &asked[1].question.query;
        assert!(
            query.starts_with("How many?\nAttached file") && query.contains("/workspace/t.csv"),
            "{query}"
        );
        let told = |folder| find(&asked, &tasks, folder).err().unwrap().to_string();
        let missing = told(None);
        assert!(
            missing.contains("row 2") && missing.contains("t.csv") && missing.contains("--attachments"),
            "{missing}"
        );
        std::fs::create_dir(folder.path().join("t.csv")).unwrap();
        assert!(told(None).contains("it is a folder"));
        std::fs::write(elsewhere.path().join("t.csv"), "a\n1\n").unwrap();
        let found = find(&asked, &tasks, Some(elsewhere.path())).unwrap();
        assert_eq!((found.files.len(), found.files[0].question.as_str()), (1, "gaia-t"));
        std::fs::write(elsewhere.path().join("t.csv"), "a\n2\n").unwrap();
        let changed = find(&asked, &tasks, Some(elsewhere.path())).unwrap();
        assert_ne!(found.hash(), changed.hash(), "another content is another evaluation");
        assert_eq!(find(&asked[..1], &tasks, None).unwrap().hash(), None);
    }
}
