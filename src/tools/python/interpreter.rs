//! Which CPython programs in the sandbox get, found by looking at files: none is run to be asked what it is.
//!
//! Whoever can write to a folder of the PATH (a project's own `bin`, switched on by a shell) could put a `python3`
//! there; asked by running it, it would have run with the person's rights, before there is any sandbox, and its answer
//! would have named the folders that programs then see. So the layout is read instead: `PREFIX/bin/python3.N` beside
//! `PREFIX/lib/python3.N/os.py`, which is how CPython finds itself.

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::tools::sandbox::{self, Job, Limits, RUN_DIR, Tier};
use crate::tools::workspace::Workspace;

/// What the program a model wrote is called, in the run directory.
pub(super) const SCRIPT: &str = "main.py";
/// The file CPython itself looks for to know where its library is.
const LANDMARK: &str = "os.py";

/// A CPython of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The real file, inside /usr or inside one of `binds`.
    pub program: PathBuf,
    /// Directories outside /usr it needs.
    pub binds: Vec<PathBuf>,
}

impl Interpreter {
    /// The system's python3, or else the first on the PATH that can be used.
    ///
    /// # Errors
    /// In words: none was found, or why each that was cannot be used.
    pub fn find() -> Result<Interpreter, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let home = directories::BaseDirs::new().map(|dirs| dirs.home_dir().to_path_buf());
        Interpreter::find_in(Path::new("/usr/bin"), &path, home.as_deref())
    }

    /// The same with another machine's folder, PATH and home.
    ///
    /// # Errors
    /// As above.
    pub fn find_in(system: &Path, path: &OsStr, home: Option<&Path>) -> Result<Interpreter, String> {
        let folders = std::iter::once(system.to_path_buf()).chain(std::env::split_paths(path));
        let mut refused: Vec<String> = Vec::new();
        // A folder without a beginning is another one wherever the person stands.
        for program in folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join("python3")) {
            if !program.is_file() {
                continue;
            }
            match look_at(&program, home) {
                Ok(interpreter) => return Ok(interpreter),
                Err(why) => refused.push(format!("{} {why}", program.display())),
            }
        }
        refused.dedup();
        if refused.is_empty() {
            return Err("no python3 in /usr/bin or on the PATH".into());
        }
        Err(format!("no python3 that can be used: {}", refused.join("; ")))
    }

    /// Whether programs in this workspace could put another in its place: the canary that tries the sandbox out would
    /// then be theirs.
    pub fn changed_by(&self, workspace: &Workspace) -> Option<String> {
        (workspace.write && workspace.holds(&self.program)).then(|| {
            format!(
                "the workspace may be written and holds {}, which tries the sandbox out",
                self.program.display()
            )
        })
    }

    /// The job that runs `code` as the main program.
    pub fn job(&self, exe: &Path, code: &str, data: Option<PathBuf>) -> Job {
        let program = self.program.to_string_lossy().into_owned();
        // Unbuffered, so that what was printed before a kill is there.
        let argv = [&program, "-I", "-B", "-u", "-X", "utf8", SCRIPT];
        let env = [
            ("PATH", "/usr/bin:/bin"),
            ("HOME", RUN_DIR),
            ("TMPDIR", "/tmp"),
            ("LANG", "C.UTF-8"),
            ("TZ", "UTC"),
            ("TERM", "dumb"),
        ];
        Job {
            exe: exe.to_owned(),
            argv: argv.map(str::to_owned).into(),
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            files: vec![(SCRIPT.into(), code.into())],
            binds: self.binds.clone(),
            data,
            workspace: None,
            cwd: RUN_DIR.into(),
            tier: Tier::default(),
            bwrap: sandbox::bwrap_program(),
            limits: Limits::default(),
        }
    }
}

/// What a file called python3 is, or why it cannot be used.
fn look_at(program: &Path, home: Option<&Path>) -> Result<Interpreter, String> {
    if cfg!(target_os = "macos") && program == Path::new("/usr/bin/python3") {
        return apple::ask(program);
    }
    let real = fs::canonicalize(program).map_err(|error| error.to_string())?;
    let mut magic = [0; 2];
    let begins = fs::File::open(&real).and_then(|mut file| file.read_exact(&mut magic));
    if begins.is_ok() && magic == *b"#!" {
        return Err("is a script that starts another; put that one's own folder on the PATH".into());
    }
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    let folder = real.parent().filter(|folder| folder.ends_with("bin"));
    let Some(prefix) = folder.and_then(Path::parent).filter(|_| name.starts_with("python3")) else {
        return Err(format!("is {}, not PREFIX/bin/python3", real.display()));
    };
    let Some(library) = library(prefix, &name) else {
        return Err(format!("has no standard library of its own beneath {}", prefix.display()));
    };
    if home.is_some_and(|home| fs::canonicalize(home).is_ok_and(|home| home.starts_with(prefix))) {
        let prefix = prefix.display();
        return Err(format!("would show programs all of {prefix}, your home with it; install it elsewhere"));
    }
    for path in [&*real, prefix, folder.unwrap_or(prefix), &library] {
        let mode = fs::metadata(path).map_err(|error| error.to_string())?.permissions().mode();
        if mode & 0o002 != 0 {
            return Err(format!("lies where everybody may write: chmod o-w {}", path.display()));
        }
    }
    let binds = if prefix.starts_with("/usr") { Vec::new() } else { vec![prefix.to_path_buf()] };
    Ok(Interpreter { program: real, binds })
}

/// `PREFIX/lib/python3.N`, of the interpreter's own N where its name says it.
fn library(prefix: &Path, name: &str) -> Option<PathBuf> {
    let libraries = ["lib", "lib64"].map(|lib| prefix.join(lib));
    let exact = libraries.iter().map(|lib| lib.join(name)).find(|path| path.join(LANDMARK).is_file());
    exact.or_else(|| {
        let entries = libraries.iter().filter_map(|lib| fs::read_dir(lib).ok()).flatten().flatten();
        let ours = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3."))
                && path.join(LANDMARK).is_file()
        };
        entries.map(|entry| entry.path()).find(ours)
    })
}

/// macOS has a stub in /usr/bin, which nobody can change (the system's volume is sealed) and which knows where the real
/// one is: that one is asked.
mod apple {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::Interpreter;

    pub(super) fn ask(program: &Path) -> Result<Interpreter, String> {
        const WORDS: &str = "import os, sys; print(os.path.realpath(sys.executable), sys.base_prefix, sys.base_exec_prefix, sep='\\n')";
        let output = Command::new(program).args(["-I", "-S", "-c", WORDS]).output();
        let output = output.map_err(|error| format!("does not run: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let &[real, prefix, exec_prefix] = text.lines().collect::<Vec<_>>().as_slice() else {
            return Err("does not say what it is".into());
        };
        let mut binds: Vec<PathBuf> = [prefix, exec_prefix].map(PathBuf::from).into();
        binds.dedup();
        binds.retain(|path| !path.starts_with("/usr") && path.parent().is_some());
        Ok(Interpreter { program: real.into(), binds })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder with `bin/python3` in it, which writes a canary when it is run.
    struct Planted {
        dir: tempfile::TempDir,
        canary: PathBuf,
    }

    impl Planted {
        fn new() -> Planted {
            let dir = tempfile::tempdir().unwrap();
            let canary = dir.path().join("canary");
            fs::create_dir_all(dir.path().join("prefix/bin")).unwrap();
            Planted { dir, canary }
        }

        fn prefix(&self) -> PathBuf {
            self.dir.path().canonicalize().unwrap().join("prefix")
        }

        fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.prefix().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
            path
        }

        fn script(&self, name: &str) -> PathBuf {
            self.put(name, format!("#!/bin/sh\necho ran > '{}'\n", self.canary.display()).as_bytes())
        }

        /// The modules any CPython loads first, each of which writes the canary.
        fn library(&self) {
            let code = format!("open({:?}, 'w')", self.canary.display().to_string());
            for name in ["os.py", "site.py", "codecs.py", "encodings/__init__.py"] {
                self.put(&format!("lib/python3.11/{name}"), code.as_bytes());
            }
        }

        fn find(&self, home: Option<&Path>) -> Result<Interpreter, String> {
            let path = std::env::join_paths([self.prefix().join("bin")]).unwrap();
            let found = Interpreter::find_in(&self.dir.path().join("no-such-system"), &path, home);
            assert!(!self.canary.exists(), "it was run");
            found
        }
    }

    #[test]
    fn a_planted_python_is_not_run_to_be_asked_what_it_is() {
        let planted = Planted::new();
        assert_eq!(planted.find(None).unwrap_err(), "no python3 in /usr/bin or on the PATH");
        let script = planted.script("bin/python3");
        assert!(planted.find(None).unwrap_err().contains("is a script that starts another"));
        // It would: this is what the test looks for.
        std::process::Command::new(&script).status().unwrap();
        assert!(planted.canary.exists());
        fs::remove_file(&planted.canary).unwrap();
        planted.library();
        planted.script("bin/python3.11");
        assert!(
            planted.find(None).unwrap_err().contains("is a script"),
            "a library beside it changes nothing"
        );
        // A true interpreter whose library was written by somebody else.
        let Ok(system) = Interpreter::find() else { return };
        fs::remove_file(&script).unwrap();
        let own = planted.put("bin/python3.11", &fs::read(&system.program).unwrap());
        symlink(&own, &script).unwrap();
        let found = planted.find(None).unwrap();
        assert_eq!((found.program, found.binds), (own, vec![planted.prefix()]));
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let planted = Planted::new();
        let check = |planted: &Planted, home: Option<&Path>, words: &str| {
            let why = planted.find(home).unwrap_err();
            assert!(why.contains(words) && why.contains("bin/python3 "), "{words}: {why}");
        };
        planted.put("bin/python3", b"\x7fELF");
        check(&planted, None, "has no standard library of its own");
        planted.library();
        assert!(planted.find(None).is_ok());
        let prefix = planted.prefix();
        check(&planted, Some(&prefix), "your home with it");
        check(&planted, Some(&prefix.join("bin")), "your home with it");
        assert!(
            planted.find(Some(planted.dir.path())).is_ok(),
            "it lies in the home, and shows a part of it"
        );
        let bin = prefix.join("bin");
        fs::set_permissions(&bin, Permissions::from_mode(0o777)).unwrap();
        check(&planted, None, "chmod o-w");
        fs::set_permissions(&bin, Permissions::from_mode(0o755)).unwrap();
        fs::rename(&bin, prefix.join("tools")).unwrap();
        symlink(prefix.join("tools"), &bin).unwrap();
        check(&planted, None, "not PREFIX/bin/python3");
    }

    #[test]
    fn a_folder_without_a_beginning_is_no_place_to_look() {
        let here = std::env::current_dir().unwrap();
        let none = Path::new("/no/such/folder");
        let up = "../".repeat(here.components().count() + 1) + "usr/bin";
        for path in ["", ".", ":", up.as_str()] {
            assert!(Interpreter::find_in(none, OsStr::new(path), None).is_err(), "{path:?}");
        }
        let Ok(system) = Interpreter::find() else { return };
        let usual = Interpreter::find_in(none, OsStr::new("/no/such:/usr/bin:/usr/local/bin"), None);
        assert_eq!(usual.is_ok(), system.program.starts_with("/usr"), "{usual:?}");
    }

    #[test]
    fn an_interpreter_in_a_writable_workspace_is_told() {
        let planted = Planted::new();
        let program = planted.put("bin/python3.11", b"\x7fELF");
        let interpreter = Interpreter { program, binds: Vec::new() };
        let workspace = |path: PathBuf, write| Workspace { path, write };
        assert!(interpreter.changed_by(&workspace(planted.prefix(), true)).unwrap().contains("python3.11"));
        assert_eq!(interpreter.changed_by(&workspace(planted.prefix(), false)), None);
        assert_eq!(interpreter.changed_by(&workspace(planted.prefix().join("lib"), true)), None);
    }
}
