//! Tier C: no namespaces, no private root. Landlock names the few places a program may open, seccomp takes the
//! sockets and the changes of metadata that Landlock does not see, and a supervisor ends what was started.
//!
//! What it lacks stands in [`super::Tier::lacks`]. Only where the person allows it.

use std::fs;
use std::os::fd::RawFd;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use super::child::{Step, at, become_program, ended, null_input};
use super::{Policy, Status, confine, sys};

const STDIN: RawFd = 0;
const WATCH: Duration = Duration::from_millis(50);
/// How long is spent on ending what keeps starting others.
const ENDING: Duration = Duration::from_secs(2);
const PAGE_BYTES: u64 = 4096;

pub(super) fn run(policy: &Policy) -> Step<Status> {
    if sys::uid().0 == 0 {
        return Err(
            "tier C is not for root: nothing but Landlock would stand between; start as yourself".into()
        );
    }
    if policy.workspace.is_some() {
        return Err("a workspace needs tier A or B".into());
    }
    let run_dir = policy.run_dir.as_ref().ok_or("no run directory")?;
    for (name, content) in &policy.files {
        fs::write(run_dir.join(name), content).map_err(at(name))?;
    }
    if let Some(data) = &policy.data {
        symlink(data, run_dir.join("data")).map_err(at("data"))?;
    }
    std::env::set_current_dir(&policy.cwd).map_err(at("run directory"))?;
    // What loses its parent becomes this process's child and can be found.
    sys::process_control(libc::PR_SET_CHILD_SUBREAPER, 1).map_err(at("PR_SET_CHILD_SUBREAPER"))?;
    sys::block_child_signal();
    let pid = sys::fork().map_err(at("fork"))?;
    if pid == 0 {
        become_program(policy, confine_program);
    }
    let status = supervise(pid, policy);
    end_all();
    Ok(status)
}

/// The program's side, before it is the program.
fn confine_program(policy: &Policy) -> Step<()> {
    null_input()?;
    confine::limits(&policy.limits, false)?;
    // Should the supervisor be killed before it has ended what it watches.
    sys::process_control(libc::PR_SET_PDEATHSIG, libc::SIGKILL as _).map_err(at("PDEATHSIG"))?;
    sys::process_control(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(at("no_new_privs"))?;
    confine::landlock(policy)
}

fn supervise(program: i32, policy: &Policy) -> Status {
    loop {
        sys::wait_child_signal(WATCH);
        while let Ok(Some((pid, status))) = sys::wait(-1, false) {
            if pid == program {
                return ended(status);
            }
        }
        if matches!(sys::poll([STDIN], 0), Ok([true])) {
            return Status::Signalled(libc::SIGKILL);
        }
        let found = descendants();
        let resident: u64 = found.iter().map(|pid| resident_bytes(*pid)).sum();
        if resident > policy.limits.memory_bytes {
            return Status::Memory;
        }
        if found.len() as u64 > policy.limits.processes {
            return Status::Processes;
        }
    }
}

/// Kill until nothing is left: what forks faster than it is found is stopped first.
fn end_all() {
    let began = Instant::now();
    loop {
        let found = descendants();
        if found.is_empty() || began.elapsed() > ENDING {
            return;
        }
        found.iter().for_each(|pid| sys::stop(*pid));
        descendants().iter().for_each(|pid| sys::kill(*pid));
        while let Ok(Some(_)) = sys::wait(-1, false) {}
    }
}

/// Every living process below this one.
fn descendants() -> Vec<i32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name may hold anything, also `)`: the fields follow the last one.
        let Some((_, fields)) = stat.rsplit_once(") ") else { continue };
        let mut fields = fields.split(' ');
        let (state, parent) = (fields.next(), fields.next().and_then(|text| text.parse::<i32>().ok()));
        if let (Some(state), Some(parent)) = (state, parent)
            && state != "Z"
        {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![sys::own_id()];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.remove(0);
    found
}

fn resident_bytes(pid: i32) -> u64 {
    let Ok(line) = fs::read_to_string(format!("/proc/{pid}/statm")) else { return 0 };
    let mut fields = line.split(' ').skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
    let (resident, shared) = (fields.next().unwrap_or(0), fields.next().unwrap_or(0));
    resident.saturating_sub(shared) * PAGE_BYTES
}
