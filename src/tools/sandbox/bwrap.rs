//! Tier B: bubblewrap makes the namespaces and the private root where this program itself may not (Ubuntu's
//! AppArmor lets only programs with a profile). Inside, the child goes on as in tier A: limits, Landlock, seccomp.
//!
//! This file only writes the command line; nothing is run here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Policy, RUN_DIR, SUBCOMMAND, WORKSPACE_DIR};

/// Where this program is, inside.
const INNER_EXE: &str = "/tillerman";
const SCRATCH_BYTES: u64 = 64 << 20;
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
const ETC: [&str; 2] = ["/etc/ld.so.cache", "/etc/alternatives"];

/// The arguments of bubblewrap. `exe` is this program's file; the workspace's repository stays read-only.
pub(super) fn arguments(policy: &Policy, exe: &Path) -> Vec<OsString> {
    let mut argv = Argv(Vec::new());
    // The child makes its own session, and could not twice. It is the first process itself, as in tier A:
    // bubblewrap's own would let the program list its descriptors.
    argv.say(&["--unshare-all", "--as-pid-1", "--die-with-parent", "--hostname", "sandbox"]);
    argv.say(&["--cap-drop", "ALL"]);
    for path in SYSTEM.map(Path::new) {
        match std::fs::read_link(path) {
            Ok(link) => argv.pair("--symlink", &link, path),
            Err(_) if path.is_dir() => argv.pair("--ro-bind", path, path),
            Err(_) => {}
        }
    }
    for path in ETC.map(Path::new) {
        argv.pair("--ro-bind-try", path, path);
    }
    for path in &policy.binds {
        argv.pair("--ro-bind", path, path);
    }
    argv.say(&["--dev", "/dev", "--proc", "/proc"]);
    // Tier A's /proc has processes alone; bubblewrap mounts all of it, the kernel's settings too.
    argv.say(&["--size", "4096", "--tmpfs", "/proc/sys", "--remount-ro", "/proc/sys"]);
    for (place, bytes) in
        [("/tmp", SCRATCH_BYTES), ("/dev/shm", SCRATCH_BYTES), (RUN_DIR, policy.limits.run_dir_bytes)]
    {
        argv.say(&["--size", &bytes.to_string(), "--tmpfs", place]);
    }
    if let Some(data) = &policy.data {
        argv.pair("--ro-bind", data, &Path::new(RUN_DIR).join("data"));
    }
    if let Some(workspace) = &policy.workspace {
        let inner = Path::new(WORKSPACE_DIR);
        argv.pair(if workspace.write { "--bind" } else { "--ro-bind" }, &workspace.path, inner);
        let git = workspace.path.join(".git");
        if workspace.write && std::fs::symlink_metadata(&git).is_ok() {
            argv.pair("--ro-bind", &git, &inner.join(".git"));
        }
    }
    argv.pair("--ro-bind", exe, Path::new(INNER_EXE));
    argv.say(&["--remount-ro", "/", "--chdir", RUN_DIR, "--", INNER_EXE, SUBCOMMAND]);
    argv.0
}

struct Argv(Vec<OsString>);

impl Argv {
    fn say(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(OsString::from));
    }

    fn pair(&mut self, option: &str, from: &Path, to: &Path) {
        self.0.extend([OsString::from(option), from.into(), to.into()]);
    }
}

/// This program's file as a path that can be bound: `/proc/self/exe` would be bubblewrap's own.
pub(super) fn real_exe(exe: &Path) -> PathBuf {
    if exe == Path::new("/proc/self/exe") {
        return std::env::current_exe().unwrap_or_else(|_| exe.to_path_buf());
    }
    exe.to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::sandbox::{Limits, Tier};
    use crate::tools::workspace::Workspace;

    fn line(policy: &Policy) -> String {
        let argv = arguments(policy, Path::new("/opt/tillerman"));
        argv.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_command_line_shows_what_the_policy_allows_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".git")).unwrap();
        let path = dir.path().to_path_buf();
        let mut policy = Policy {
            argv: vec!["/usr/bin/python3".into()],
            env: Vec::new(),
            files: Vec::new(),
            binds: vec!["/opt/python".into()],
            data: Some("/srv/data".into()),
            workspace: Some(Workspace { path: path.clone(), write: false }),
            cwd: RUN_DIR.into(),
            tier: Tier::B,
            run_dir: None,
            limits: Limits::default(),
        };
        let shown = line(&policy);
        assert!(
            shown.starts_with("--unshare-all --as-pid-1 --die-with-parent --hostname sandbox"),
            "{shown}"
        );
        assert!(shown.ends_with("--remount-ro / --chdir /work -- /tillerman __sandbox"), "{shown}");
        for part in [
            "--ro-bind /usr /usr",
            "--ro-bind /opt/python /opt/python",
            "--ro-bind /srv/data /work/data",
            "--size 268435456 --tmpfs /work",
            "--cap-drop ALL",
            &format!("--ro-bind {} /workspace", path.display()),
        ] {
            assert!(shown.contains(part), "{part} is not in {shown}");
        }
        assert!(!shown.contains("--bind ") && !shown.contains("/home") && !shown.contains("--share-net"));
        assert!(!shown.contains("/etc ") && !shown.contains("--dev-bind"));
        policy.workspace = Some(Workspace { path: path.clone(), write: true });
        let shown = line(&policy);
        let bind = shown.find(&format!("--bind {} /workspace", path.display())).unwrap();
        let git = shown.find(&format!("--ro-bind {0}/.git /workspace/.git", path.display())).unwrap();
        assert!(bind < git, "the repository is bound over the folder: {shown}");
    }
}
