//! The private root: an empty tree with the system's programs read-only and a run directory.
//!
//! Nothing of the user's is in it but the data folder and the workspace. Linux 5.12 or newer.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::child::{Identity, Step, at};
use super::{Policy, RUN_DIR, WORKSPACE_DIR, sys};

/// The old tree, while the new one is being built.
const OLD: &str = "/old";
const SYSTEM: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
const ETC: [&str; 2] = ["ld.so.cache", "alternatives"];
const DEVICES: [&str; 4] = ["null", "zero", "random", "urandom"];
/// Size of /tmp and of /dev/shm.
const SCRATCH_BYTES: u64 = 64 << 20;
const PRIVATE: u64 = sys::NO_SUID | sys::NO_DEV;

pub(super) fn enter(policy: &Policy, identity: Identity) -> Step<()> {
    new_tree()?;
    system()?;
    scratch("/tmp", SCRATCH_BYTES, "mode=1777")?;
    devices()?;
    for path in &policy.binds {
        show(&old(path)?, path, PRIVATE | sys::READ_ONLY)?;
    }
    run_dir(policy, identity)?;
    workspace(policy)?;
    account(identity)?;
    proc_files()?;
    sys::detach(Path::new(OLD)).map_err(at("leaving the old root"))?;
    fs::remove_dir(OLD).map_err(at("removing the old root"))?;
    sys::set_mount_attributes(Path::new("/"), PRIVATE | sys::READ_ONLY, false)
        .map_err(at("read-only root"))?;
    std::env::set_current_dir(&policy.cwd).map_err(at("run directory"))
}

/// An empty tmpfs becomes the root; what was is below /old.
fn new_tree() -> Step<()> {
    let root = Path::new("/");
    sys::mount("none", root, "", libc::MS_REC | libc::MS_PRIVATE, "").map_err(at("private mounts"))?;
    let base = ["/tmp", "/usr"].map(Path::new).into_iter().find(|path| path.is_dir()).unwrap_or(root);
    sys::mount("tmpfs", base, "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, "size=1m,nr_inodes=1k,mode=755")
        .map_err(at("tmpfs for the new root"))?;
    let put_old = base.join(&OLD[1..]);
    fs::create_dir(&put_old).map_err(at("new root"))?;
    sys::pivot_root(base, &put_old).map_err(at("pivot_root"))?;
    std::env::set_current_dir("/").map_err(at("new root"))
}

/// Where an absolute path of the old tree is now.
fn old(path: &Path) -> Step<PathBuf> {
    let inner = path.strip_prefix("/").map_err(|_| format!("{path:?} is not absolute"))?;
    Ok(Path::new(OLD).join(inner))
}

/// Bind `source` at `target`, with attributes for all of it.
fn show(source: &Path, target: &Path, attributes: u64) -> Step<()> {
    let step = target.display().to_string();
    let kind = fs::metadata(source).map_err(at(&step))?;
    if kind.is_dir() {
        fs::create_dir_all(target).map_err(at(&step))?;
    } else {
        fs::write(target, "").map_err(at(&step))?;
    }
    sys::bind(source, target).map_err(at(&step))?;
    sys::set_mount_attributes(target, attributes, true).map_err(at(&step))
}

fn system() -> Step<()> {
    for name in SYSTEM {
        let (source, target) = (Path::new(OLD).join(name), Path::new("/").join(name));
        if let Ok(link) = fs::read_link(&source) {
            symlink(link, &target).map_err(at(name))?;
        } else if source.is_dir() {
            show(&source, &target, PRIVATE | sys::READ_ONLY)?;
        }
    }
    fs::create_dir("/etc").map_err(at("/etc"))?;
    for name in ETC {
        let source = Path::new(OLD).join("etc").join(name);
        if source.exists() {
            show(&source, &Path::new("/etc").join(name), PRIVATE | sys::READ_ONLY | sys::NO_EXEC)?;
        }
    }
    Ok(())
}

fn scratch(target: &str, bytes: u64, options: &str) -> Step<()> {
    fs::create_dir_all(target).map_err(at(target))?;
    let options = format!("size={bytes},nr_inodes=64k,{options}");
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    sys::mount("tmpfs", Path::new(target), "tmpfs", flags, &options).map_err(at(target))
}

fn devices() -> Step<()> {
    fs::create_dir("/dev").map_err(at("/dev"))?;
    for name in DEVICES {
        let source = Path::new(OLD).join("dev").join(name);
        show(&source, &Path::new("/dev").join(name), sys::NO_SUID | sys::NO_EXEC)?;
    }
    for (name, target) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        symlink(format!("/proc/self/{target}"), format!("/dev/{name}")).map_err(at("/dev"))?;
    }
    scratch("/dev/shm", SCRATCH_BYTES, "mode=1777")
}

fn run_dir(policy: &Policy, identity: Identity) -> Step<()> {
    let owner = format!("mode=755,uid={},gid={}", identity.uid, identity.gid);
    scratch(RUN_DIR, policy.limits.run_dir_bytes, &owner)?;
    let run_dir = Path::new(RUN_DIR);
    for (name, content) in &policy.files {
        fs::write(run_dir.join(name), content).map_err(at(name))?;
    }
    match &policy.data {
        Some(data) => show(&old(data)?, &run_dir.join("data"), PRIVATE | sys::READ_ONLY | sys::NO_EXEC),
        None => Ok(()),
    }
}

/// The person's folder. Its repository stays read-only even where the rest may be written: not only hooks and
/// config, since `commondir` in a .git that may be written moves both elsewhere. It becomes a mount of its
/// own, so it cannot be renamed away and replaced either.
fn workspace(policy: &Policy) -> Step<()> {
    let Some(workspace) = &policy.workspace else { return Ok(()) };
    let target = Path::new(WORKSPACE_DIR);
    let attributes = if workspace.write { PRIVATE } else { PRIVATE | sys::READ_ONLY };
    show(&old(&workspace.path)?, target, attributes)?;
    let git = target.join(".git");
    match fs::symlink_metadata(&git) {
        Ok(kind) if workspace.write && kind.is_symlink() => {
            Err(format!("{} is a link; a workspace that may be written needs a real one", git.display()))
        }
        Ok(_) if workspace.write => {
            sys::bind(&git, &git).map_err(at(".git"))?;
            sys::set_mount_attributes(&git, PRIVATE | sys::READ_ONLY, true).map_err(at(".git"))
        }
        _ => Ok(()),
    }
}

/// So that programs that ask who they are get an answer.
fn account(identity: Identity) -> Step<()> {
    let Identity { uid, gid, .. } = identity;
    fs::write("/etc/passwd", format!("sandbox:x:{uid}:{gid}::{RUN_DIR}:/usr/sbin/nologin\n"))
        .and_then(|()| fs::write("/etc/group", format!("sandbox:x:{gid}:\n")))
        .map_err(at("/etc/passwd"))
}

/// The processes of this namespace and nothing else of the machine, where the kernel can (5.8).
fn proc_files() -> Step<()> {
    fs::create_dir("/proc").map_err(at("/proc"))?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let mount = |options: &str| sys::mount("proc", Path::new("/proc"), "proc", flags, options);
    mount("subset=pid").or_else(|_| mount("")).map_err(at("/proc"))
}
