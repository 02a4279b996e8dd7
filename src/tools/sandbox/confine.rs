//! What the program may not do once it is in its root: limits, no rights, Landlock.
//!
//! Landlock is the second layer behind the private root: it would hold if a mount were wrong.

use std::fs;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope,
};

use super::child::{Identity, Step, at};
use super::{Limits, Policy, RUN_DIR, Tier, WORKSPACE_DIR, sys};

/// Seconds between the signal a program can handle and the one it cannot.
const CPU_GRACE_S: u64 = 2;
/// Linux has 41 capabilities today; asking for more is refused and harmless.
const MAX_CAPABILITIES: u64 = 64;

/// `count`: the number of processes is this program's own to limit (in a user namespace), not the person's.
pub(super) fn limits(limits: &Limits, count: bool) -> Step<()> {
    let set = |name: &str, resource, soft, hard| sys::limit(resource, soft, hard).map_err(at(name));
    set("RLIMIT_AS", libc::RLIMIT_AS, limits.memory_bytes, limits.memory_bytes)?;
    set("RLIMIT_CPU", libc::RLIMIT_CPU, limits.cpu_s, limits.cpu_s + CPU_GRACE_S)?;
    if count {
        set("RLIMIT_NPROC", libc::RLIMIT_NPROC, limits.processes, limits.processes)?;
    }
    set("RLIMIT_NOFILE", libc::RLIMIT_NOFILE, limits.open_files, limits.open_files)?;
    set("RLIMIT_FSIZE", libc::RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes)?;
    set("RLIMIT_CORE", libc::RLIMIT_CORE, 0, 0)?;
    set("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE, 0, 0)?;
    set("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK, 0, 0)
}

/// No capability now, and none to be had by executing anything.
pub(super) fn drop_rights(identity: Identity) -> Step<()> {
    for capability in 0..MAX_CAPABILITIES {
        // An unknown capability is refused; the sets are checked to be empty below.
        _ = sys::process_control(libc::PR_CAPBSET_DROP, capability);
    }
    if identity.change {
        sys::become_user(identity.uid, identity.gid).map_err(at("setresuid"))?;
    }
    sys::drop_capabilities().map_err(at("capset"))?;
    sys::process_control(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(at("no_new_privs"))?;
    let status = fs::read_to_string("/proc/self/status").map_err(at("/proc/self/status"))?;
    let empty = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.is_some_and(|value| value.trim().bytes().all(|digit| digit == b'0'))
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        if !empty(set) {
            return Err(format!("{set} is not empty"));
        }
    }
    Ok(())
}

pub(super) fn landlock(policy: &Policy) -> Step<()> {
    let status = ruleset(policy).map_err(|error| format!("Landlock: {error}"))?;
    if status == RulesetStatus::NotEnforced {
        return Err("Landlock is not enabled in this kernel".into());
    }
    Ok(())
}

fn ruleset(policy: &Policy) -> Result<RulesetStatus, Box<dyn std::error::Error>> {
    // Asks for everything the crate knows; an older kernel gives what it has.
    let all = AccessFs::from_all(ABI::V7);
    let read = AccessFs::from_read(ABI::V7);
    let files = AccessFs::ReadFile | AccessFs::ReadDir;
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    let mut ruleset = Ruleset::default()
        .handle_access(all)?
        .handle_access(AccessNet::from_all(ABI::V7))?
        .scope(Scope::from_all(ABI::V7))?
        .create()?;
    let mut allow = |path: PathBuf, access| -> Result<(), Box<dyn std::error::Error>> {
        if path.exists() {
            (&mut ruleset).add_rule(PathBeneath::new(PathFd::new(path)?, access))?;
        }
        Ok(())
    };
    for path in ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"] {
        allow(path.into(), read)?;
    }
    for path in &policy.binds {
        allow(path.clone(), read)?;
    }
    // Without a private root /etc and /proc are the machine's own.
    let weak = policy.tier == Tier::C;
    let known = ["/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime"].as_slice();
    for path in if weak { known } else { &["/etc", "/proc"] } {
        allow(path.into(), files)?;
    }
    for name in ["null", "zero", "random", "urandom"] {
        allow(PathBuf::from("/dev").join(name), device)?;
    }
    let write = all & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    if let (true, Some(run_dir)) = (weak, &policy.run_dir) {
        allow(run_dir.clone(), write)?;
        policy.data.iter().try_for_each(|data| allow(data.clone(), files))?;
        return Ok(ruleset.restrict_self()?.ruleset);
    }
    for path in [RUN_DIR, "/tmp", "/dev/shm"] {
        allow(path.into(), write)?;
    }
    if let Some(workspace) = &policy.workspace {
        allow(WORKSPACE_DIR.into(), if workspace.write { write } else { read })?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

/// No file, program or connection at all from now on, as far as the kernel has Landlock.
pub(super) fn landlock_whole() -> Step<()> {
    let ruleset = || -> Result<RulesetStatus, landlock::RulesetError> {
        let rules = Ruleset::default()
            .handle_access(AccessFs::from_all(ABI::V7))?
            .handle_access(AccessNet::from_all(ABI::V7))?
            .scope(Scope::from_all(ABI::V7))?;
        Ok(rules.create()?.restrict_self()?.ruleset)
    };
    ruleset().map(drop).map_err(|error| format!("Landlock: {error}"))
}

/// How many processes the namespace has, and their resident memory (not shared) in bytes.
pub(super) fn usage() -> (u64, u64) {
    const PAGE_BYTES: u64 = 4096;
    let (mut processes, mut pages) = (0, 0);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        processes += 1;
        let Ok(line) = fs::read_to_string(entry.path().join("statm")) else { continue };
        let mut fields = line.split(' ').skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
        let (resident, shared) = (fields.next().unwrap_or(0), fields.next().unwrap_or(0));
        pages += resident.saturating_sub(shared);
    }
    (processes, pages * PAGE_BYTES)
}
