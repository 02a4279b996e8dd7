//! The one folder of the person's that tools may work in, chosen by the person and by nobody else.
//!
//! Never a folder a model, a page or a file in it names. It is opened once; what the files tool reads it
//! reads below that handle, and the sandbox is shown this path and no other.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Effects;
use super::sandbox::{self, Tier};

/// See the file's head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    /// Absolute, without links.
    pub path: PathBuf,
    /// Programs in the sandbox may change it.
    pub write: bool,
}

impl Workspace {
    /// The folder as it is now. `state` is the data directory, `settings` the settings file: neither may lie
    /// where a tool reads (keys) or writes (what is started next).
    ///
    /// # Errors
    /// In words, with the remedy: no folder, one that shares files with the program's own, or one to be written
    /// that holds this program or whose repository cannot be kept as it is.
    pub fn open(path: &Path, write: bool, state: &Path, settings: &Path) -> Result<Workspace, String> {
        let real = std::fs::canonicalize(path)
            .map_err(|e| format!("workspace {}: {e}; name a folder that is there", path.display()))?;
        if !real.is_dir() {
            return Err(format!("workspace {} is no folder; name one", path.display()));
        }
        if real.parent().is_none() {
            return Err("the whole machine is no workspace; name a folder".into());
        }
        let git = real.join(".git");
        if write && std::fs::symlink_metadata(&git).is_ok_and(|data| data.is_symlink()) {
            return Err(format!(
                "{} is a link; a workspace that may be written needs a real one, which is kept read-only",
                git.display()
            ));
        }
        for (what, own) in [("the data directory", state), ("the settings file", settings)] {
            let own = std::fs::canonicalize(own).unwrap_or_else(|_| own.to_path_buf());
            if own.starts_with(&real) || real.starts_with(&own) {
                return Err(format!(
                    "workspace {} holds or lies in {what} ({}), which no tool may touch; name another folder",
                    path.display(),
                    own.display()
                ));
            }
        }
        let workspace = Workspace { path: real, write };
        // Its workers are started from that file, with all the person's rights.
        match std::env::current_exe() {
            Ok(program) if write && workspace.holds(&program) => Err(format!(
                "workspace {} holds this program ({}), and model-written code could put another in its place; name \
                 another folder, start it from elsewhere, or leave tools.workspace_write off",
                path.display(),
                program.display()
            )),
            _ => Ok(workspace),
        }
    }

    /// Whether what stands in it can change what `path`, absolute, leads to.
    pub fn holds(&self, path: &Path) -> bool {
        let real = std::fs::canonicalize(path);
        // The folder of a link, too: the link itself could be another tomorrow.
        let folder = path.parent().and_then(|folder| std::fs::canonicalize(folder).ok());
        [real.ok(), folder].into_iter().flatten().any(|path| path.starts_with(&self.path))
    }

    /// Whether programs in the sandbox can use it.
    ///
    /// # Errors
    /// Reason and remedy: the sandbox cannot show it, or programs run as a user who may not use it.
    pub fn readable_inside(&self, tier: Tier) -> Result<(), (String, String)> {
        if tier.without_root() {
            return Err((
                format!("tier {} of the sandbox has no place for a workspace", tier.name()),
                "install bubblewrap (on Linux), or take the workspace away".into(),
            ));
        }
        let (bits, flag) = if self.write { (0o007, "rwx") } else { (0o005, "rx") };
        if sandbox::runs_as_nobody() && !open_to_all(&self.path, bits) {
            let path = self.path.display();
            return Err((
                format!("started as root, programs run as nobody and cannot use {path}"),
                format!("start tillerman as yourself, or chmod o+{flag} {path}"),
            ));
        }
        Ok(())
    }

    /// What a program in it touches: its files are private and who wrote them is unknown. Without a network, a
    /// change of them is all that program can do to the world.
    pub fn effects(&self) -> Effects {
        Effects { reads_private: true, brings_outside_text: true, acts_outward: self.write }
    }

    /// Look whether it is a git repository, before a program runs in it.
    pub fn watch_git(&self) -> GitWatch {
        let git = self.path.join(".git");
        let armed = self.write && std::fs::symlink_metadata(&git).is_err();
        GitWatch { bare: armed && !is_bare(&self.path), armed, git }
    }
}

/// Git takes a folder with these for a repository, its settings included, without any `.git`.
fn is_bare(folder: &Path) -> bool {
    let there = |name: &str| std::fs::symlink_metadata(folder.join(name)).is_ok();
    there("HEAD") && (there("commondir") || (there("objects") && there("refs")))
}

/// Everybody may do with the folder what the bits say.
pub fn open_to_all(path: &Path, bits: u32) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.permissions().mode() & bits == bits)
}

/// A repository at the top of the workspace is read-only in the sandbox, those deeper in it are not. One that was not
/// must not appear by a model's hand either, bare or in a `.git`: its settings and hooks would run when the person next
/// calls git there. Dropped with the call it watched, whatever ended that, it does the same as settled.
pub struct GitWatch {
    git: PathBuf,
    armed: bool,
    /// The folder was no bare repository either.
    bare: bool,
}

impl GitWatch {
    /// Put what appeared out of git's sight; answers what was done, for the result.
    pub fn settle(mut self) -> Option<String> {
        self.put_aside()
    }

    fn put_aside(&mut self) -> Option<String> {
        let folder = self.git.parent().filter(|_| std::mem::take(&mut self.armed))?;
        let git = std::fs::symlink_metadata(&self.git).is_ok().then_some(".git");
        let bare = (self.bare && is_bare(folder)).then_some("HEAD");
        let notes = git.into_iter().chain(bare).filter_map(|name| {
            let aside = (1..1000).map(|n| folder.join(format!("git-made-in-sandbox-{n}")));
            let free = aside.into_iter().find(|path| std::fs::symlink_metadata(path).is_err())?;
            Some(match std::fs::rename(folder.join(name), &free) {
                Ok(()) => format!("[the {name} that appeared was renamed to {}]", free.display()),
                Err(e) => format!("[a {name} appeared and could not be renamed: {e}]"),
            })
        });
        let notes = notes.collect::<Vec<_>>().join("\n");
        (!notes.is_empty()).then_some(notes)
    }
}

impl Drop for GitWatch {
    fn drop(&mut self) {
        let _ = self.put_aside();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_that_appears_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace { path: dir.path().to_path_buf(), write: true };
        for n in 1..3 {
            let watch = workspace.watch_git();
            std::fs::create_dir_all(dir.path().join(".git/hooks")).unwrap();
            assert!(watch.settle().unwrap().contains("was renamed"));
            assert!(!dir.path().join(".git").exists());
            assert!(dir.path().join(format!("git-made-in-sandbox-{n}/hooks")).exists());
        }
        // A call that is dropped settles too.
        let watch = workspace.watch_git();
        std::fs::create_dir(dir.path().join(".git")).unwrap();
        drop(watch);
        assert!(!dir.path().join(".git").exists() && dir.path().join("git-made-in-sandbox-3").exists());
        std::fs::create_dir(dir.path().join(".git")).unwrap();
        assert_eq!(workspace.watch_git().settle(), None, "it was there before");
        std::fs::remove_dir_all(dir.path().join(".git")).unwrap();
        // A bare repository needs no .git; what makes the folder one goes.
        let watch = workspace.watch_git();
        for folder in ["objects", "refs"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        std::fs::write(dir.path().join("HEAD"), "ref: refs/heads/main\n").unwrap();
        std::fs::create_dir(dir.path().join(".git")).unwrap();
        let told = watch.settle().unwrap();
        assert!(told.contains("the .git that") && told.contains("the HEAD that appeared was renamed"));
        assert!(!dir.path().join(".git").exists() && !dir.path().join("HEAD").exists());
        std::fs::write(dir.path().join("HEAD"), "ref: refs/heads/main\n").unwrap();
        assert_eq!(workspace.watch_git().settle(), None, "it was one before");
        let read_only = Workspace { write: false, ..workspace };
        assert_eq!(read_only.watch_git().settle(), None);
    }

    #[test]
    fn the_programs_own_files_are_in_no_workspace() {
        let dir = tempfile::tempdir().unwrap();
        let (work, state) = (dir.path().join("work"), dir.path().join("state"));
        let settings = work.join("tillerman.toml");
        std::fs::create_dir_all(state.join("blobs")).unwrap();
        std::fs::create_dir(&work).unwrap();
        let open = |path: &Path, settings: &Path| Workspace::open(path, false, &state, settings);
        let elsewhere = state.join("config.toml");
        assert_eq!(open(&work, &elsewhere).unwrap().path, work.canonicalize().unwrap());
        std::fs::write(&settings, "").unwrap();
        for (path, settings, words) in [
            (&work, &settings, "the settings file"),
            (&dir.path().to_path_buf(), &elsewhere, "the data directory"),
            (&state.join("blobs"), &elsewhere, "the data directory"),
            (&settings, &elsewhere, "no folder"),
            (&work.join("missing"), &elsewhere, "name a folder that is there"),
            (&PathBuf::from("/"), &elsewhere, "the whole machine"),
        ] {
            let told = open(path, settings).unwrap_err();
            assert!(told.contains(words), "{path:?}: {told}");
        }
        // A repository behind a link would be another folder's.
        std::os::unix::fs::symlink(&state, work.join(".git")).unwrap();
        assert!(Workspace::open(&work, true, &state, &elsewhere).unwrap_err().contains("is a link"));
        assert!(Workspace::open(&work, false, &state, &elsewhere).is_ok());
        // This very program, which is the one that runs the tests.
        let program = std::env::current_exe().unwrap();
        let its = program.parent().unwrap();
        assert!(Workspace::open(its, true, &state, &elsewhere).unwrap_err().contains("holds this program"));
        assert!(Workspace::open(its, false, &state, &elsewhere).is_ok());
        // A link is what it points at.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&state, &link).unwrap();
        assert!(open(&link, &elsewhere).unwrap_err().contains("the data directory"));
    }
}
