//! The kernel calls a sandboxed program may make: a list, everything else answers ENOSYS.
//!
//! Two filters. The first refuses by name (EPERM), so that programs see a refusal and not an old
//! kernel; the second is the list. clone3 is not on it (its flags cannot be seen by a filter): libc
//! falls back to clone, whose namespace flags the first filter refuses.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::child::Step;
use crate::engine::metadata_calls::{REQUESTS, metadata_calls};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The last step: after it this process can start the program and little else.
///
/// `alone`: no namespaces, no private root. Then it is also refused to change modes, owners, times and attributes,
/// which Landlock does not see and which are those of the person's files, and the limits, priority and cores of any
/// process but the calling one, which may be the person's.
pub(super) fn restrict(alone: bool) -> Step<()> {
    let mut refused = refusals(if alone { &REQUESTS } else { &[] })?;
    if alone {
        refused.extend(metadata_calls().map(|call| (call, Vec::new())));
        refused.extend(other_processes()?);
    }
    apply(refused, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))?;
    let list = ALLOWED.iter().chain(OLD_ALLOWED).chain(REFUSED).map(|call| (*call, Vec::new()));
    apply(list.collect(), SeccompAction::Errno(libc::ENOSYS as u32), SeccompAction::Allow)
}

fn apply(rules: Rules, otherwise: SeccompAction, listed: SeccompAction) -> Step<()> {
    let failed = |error: &dyn std::fmt::Display| format!("seccomp: {error}");
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| failed(&error))?;
    let filter = SeccompFilter::new(rules, otherwise, listed, arch).map_err(|error| failed(&error))?;
    let program: BpfProgram = filter.try_into().map_err(|error: seccompiler::BackendError| failed(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| failed(&error))
}

/// `requests`: to ioctl, besides those that type into a terminal.
fn refusals(requests: &[u32]) -> Step<Rules> {
    let mut rules: Rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let mut namespaces = Vec::new();
    for flag in [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ] {
        namespaces.push(rule_with_bit(0, flag as u64)?);
    }
    rules.insert(libc::SYS_clone, namespaces);
    // Of a pair for datagrams one end can send to any socket that has a path, unconnected: SOCK_DGRAM, SOCK_RAW and
    // whatever else has this bit. SOCK_STREAM and SOCK_SEQPACKET do not, and speak to each other alone.
    rules.insert(libc::SYS_socketpair, vec![rule_with_bit(1, libc::SOCK_DGRAM as u64)?]);
    // Which type they have depends on the libc.
    #[allow(clippy::unnecessary_cast)]
    let terminal = [libc::TIOCSTI as u64, libc::TIOCLINUX as u64];
    let requests = terminal.into_iter().chain(requests.iter().map(|request| u64::from(*request)));
    let requests = requests.map(|request| {
        let value = SeccompCmpOp::Eq;
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, value, request)
            .and_then(|condition| SeccompRule::new(vec![condition]))
            .map_err(|error| format!("seccomp: {error}"))
    });
    rules.insert(libc::SYS_ioctl, requests.collect::<Step<Vec<_>>>()?);
    Ok(rules)
}

/// Calls that name the process they change, for any name but 0, which is the caller.
fn other_processes() -> Step<Rules> {
    let unless_0 = |argument| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 0)
            .and_then(|condition| SeccompRule::new(vec![condition]))
            .map_err(|error| format!("seccomp: {error}"))
    };
    Ok(Rules::from([
        (libc::SYS_prlimit64, vec![unless_0(0)?]),
        (libc::SYS_sched_setaffinity, vec![unless_0(0)?]),
        // What the name means (0: a process), and the name.
        (libc::SYS_setpriority, vec![unless_0(0)?, unless_0(1)?]),
    ]))
}

fn rule_with_bit(argument: u8, bit: u64) -> Step<SeccompRule> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bit), bit)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(|error| format!("seccomp: {error}"))
}

/// Refused by name. Everything that is on no list at all is refused as unknown.
const REFUSED: &[c_long] = &[
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_bpf,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_mknodat,
];

#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    // files
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64,
    libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_preadv2, libc::SYS_pwritev2, libc::SYS_openat,
    libc::SYS_openat2, libc::SYS_close, libc::SYS_close_range, libc::SYS_lseek, libc::SYS_fstat,
    libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_faccessat,
    libc::SYS_faccessat2, libc::SYS_getdents64, libc::SYS_readlinkat, libc::SYS_getcwd, libc::SYS_chdir,
    libc::SYS_fchdir, libc::SYS_mkdirat, libc::SYS_unlinkat, libc::SYS_renameat, libc::SYS_renameat2,
    libc::SYS_linkat, libc::SYS_symlinkat, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown,
    libc::SYS_fchownat, libc::SYS_utimensat, libc::SYS_truncate, libc::SYS_ftruncate, libc::SYS_fallocate,
    libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_sync_file_range, libc::SYS_umask, libc::SYS_flock,
    libc::SYS_fcntl, libc::SYS_ioctl, libc::SYS_dup, libc::SYS_dup3, libc::SYS_pipe2, libc::SYS_sendfile,
    libc::SYS_splice, libc::SYS_tee, libc::SYS_copy_file_range, libc::SYS_fadvise64, libc::SYS_memfd_create,
    libc::SYS_getxattr, libc::SYS_lgetxattr, libc::SYS_fgetxattr, libc::SYS_listxattr, libc::SYS_llistxattr,
    libc::SYS_flistxattr, libc::SYS_inotify_init1, libc::SYS_inotify_add_watch, libc::SYS_inotify_rm_watch,
    // waiting
    libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2, libc::SYS_eventfd2, libc::SYS_timerfd_create, libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime, libc::SYS_signalfd4,
    // a pair of sockets connected for good, for asyncio and multiprocessing
    libc::SYS_socketpair, libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg,
    libc::SYS_sendmmsg, libc::SYS_recvmmsg, libc::SYS_shutdown, libc::SYS_getsockopt, libc::SYS_setsockopt,
    libc::SYS_getsockname, libc::SYS_getpeername,
    // memory
    libc::SYS_brk, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise,
    libc::SYS_msync, libc::SYS_mincore, libc::SYS_mlock, libc::SYS_munlock, libc::SYS_membarrier,
    libc::SYS_get_mempolicy,
    // processes and threads
    libc::SYS_clone, libc::SYS_execve, libc::SYS_execveat, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_wait4,
    libc::SYS_waitid, libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill, libc::SYS_getpid, libc::SYS_getppid,
    libc::SYS_gettid, libc::SYS_getpgid, libc::SYS_setpgid, libc::SYS_getsid, libc::SYS_setsid,
    libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getresuid,
    libc::SYS_getresgid, libc::SYS_getgroups, libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setreuid,
    libc::SYS_setregid, libc::SYS_setresuid, libc::SYS_setresgid, libc::SYS_setgroups, libc::SYS_capget,
    libc::SYS_prctl, libc::SYS_prlimit64, libc::SYS_getrlimit, libc::SYS_setrlimit, libc::SYS_getrusage,
    libc::SYS_getpriority, libc::SYS_setpriority, libc::SYS_times, libc::SYS_sysinfo, libc::SYS_uname,
    libc::SYS_getcpu, libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_seccomp,
    libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam, libc::SYS_sched_getscheduler, libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min, libc::SYS_set_tid_address, libc::SYS_set_robust_list,
    libc::SYS_get_robust_list, libc::SYS_rseq, libc::SYS_futex, libc::SYS_futex_waitv, libc::SYS_getrandom,
    // signals and time
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_sigsuspend, libc::SYS_sigaltstack,
    libc::SYS_restart_syscall, libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_clock_gettime,
    libc::SYS_clock_getres, libc::SYS_gettimeofday, libc::SYS_getitimer, libc::SYS_setitimer,
    libc::SYS_timer_create, libc::SYS_timer_settime, libc::SYS_timer_gettime, libc::SYS_timer_getoverrun,
    libc::SYS_timer_delete,
];

/// Calls newer machines no longer have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLD_ALLOWED: &[c_long] = &[
    libc::SYS_open, libc::SYS_creat, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink,
    libc::SYS_getdents, libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_unlink, libc::SYS_rename, libc::SYS_link,
    libc::SYS_symlink, libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime, libc::SYS_utimes,
    libc::SYS_futimesat, libc::SYS_dup2, libc::SYS_pipe, libc::SYS_poll, libc::SYS_select,
    libc::SYS_epoll_create, libc::SYS_epoll_wait, libc::SYS_eventfd, libc::SYS_signalfd,
    libc::SYS_inotify_init, libc::SYS_fork, libc::SYS_vfork, libc::SYS_getpgrp, libc::SYS_pause,
    libc::SYS_alarm, libc::SYS_time, libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_ALLOWED: &[c_long] = &[];
