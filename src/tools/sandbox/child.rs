//! The process `tillerman __sandbox`: sets the sandbox up from outside in and runs one program.
//!
//! Three processes: this one (outside the pid namespace, waits), the namespace's first process
//! (sets up, watches memory, reaps) and the program. When this one ends, for whatever reason, the
//! kernel kills the first process and with it everything in the namespace.

/// Runs as the whole process; answers its exit code.
#[cfg(not(target_os = "linux"))]
pub fn run() -> i32 {
    #[cfg(target_os = "macos")]
    return super::seatbelt::run();
    #[cfg(not(target_os = "macos"))]
    super::EXIT_SETUP
}

#[cfg(target_os = "linux")]
pub use linux::run;

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::CString;
    use std::fs::{self, File};
    use std::io::{self, BufRead};
    use std::os::fd::{AsRawFd, OwnedFd, RawFd};
    use std::path::Path;
    use std::time::Duration;

    use super::super::{
        EXIT_SETUP, Policy, RUN_DIR, STATUS_FD, Status, Tier, confine, root, sys, syscalls, weak,
    };

    /// How often memory and processes are counted.
    const WATCH: Duration = Duration::from_millis(50);
    const STDIN: RawFd = 0;
    /// Whom the program runs as where this process is root: nobody outside, an ordinary user inside.
    const NOBODY: u32 = 65534;
    const INSIDE: u32 = 1000;

    /// A step of the set-up that failed.
    pub(in super::super) type Step<T> = Result<T, String>;

    /// Runs as the whole process; answers its exit code.
    pub fn run() -> i32 {
        match outside() {
            Ok(()) => 0,
            Err(reason) => {
                report(&Status::Failed(reason));
                EXIT_SETUP
            }
        }
    }

    fn report(status: &Status) {
        let Ok(mut line) = serde_json::to_string(status) else { return };
        line.push('\n');
        // Shorter than a pipe takes at once; nobody could be told of a failure.
        sys::write(STATUS_FD, line.as_bytes());
    }

    /// The user the program runs as, inside the namespace.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Identity {
        pub uid: u32,
        pub gid: u32,
        /// The first process is the namespace's root and has to change to `uid`.
        pub change: bool,
    }

    fn outside() -> Step<()> {
        sys::close_from(STATUS_FD + 1).map_err(at("close_range (Linux 5.9 or newer)"))?;
        sys::close_on_exec(STATUS_FD).map_err(at("status descriptor"))?;
        sys::new_session().map_err(at("setsid"))?;
        _ = fs::write("/proc/self/oom_score_adj", "1000");
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(at("reading the policy"))?;
        let policy: Policy = serde_json::from_str(&line).map_err(|error| format!("policy: {error}"))?;

        match policy.tier {
            Tier::A => own_root(&policy),
            Tier::B => in_bwrap(&policy),
            Tier::C => weak::run(&policy).map(|status| report(&status)),
            Tier::S => Err("tier S is macOS's".into()),
        }
    }

    /// Tier B: namespaces and root are there, and end with bubblewrap, which ends with the starter.
    fn in_bwrap(policy: &Policy) -> Step<()> {
        let (uid, gid) = sys::uid();
        if uid == 0 {
            return Err("tier B is not for root; start as yourself".into());
        }
        for (name, content) in &policy.files {
            fs::write(Path::new(RUN_DIR).join(name), content).map_err(at(name))?;
        }
        std::env::set_current_dir(&policy.cwd).map_err(at("run directory"))?;
        null_input()?;
        confine::limits(&policy.limits, true)?;
        confine::drop_rights(Identity { uid, gid, change: false })?;
        // Bubblewrap asked for it before it started this program; asked for again, it is sure.
        sys::process_control(libc::PR_SET_PDEATHSIG, libc::SIGKILL as _).map_err(at("PDEATHSIG"))?;
        run_program(policy)
    }

    /// Tier A.
    fn own_root(policy: &Policy) -> Step<()> {
        let identity = own_namespaces()?;
        let (alive_read, alive_write) = sys::pipe().map_err(at("pipe"))?;
        let init = sys::fork().map_err(at("fork"))?;
        if init == 0 {
            drop(alive_write);
            let code = match first_process(policy, identity, alive_read) {
                Ok(()) => 0,
                Err(reason) => {
                    report(&Status::Failed(reason));
                    EXIT_SETUP
                }
            };
            sys::exit_now(code);
        }
        drop(alive_read);
        let result = watch(init);
        drop(alive_write);
        result
    }

    /// Wait for the first process; end it when the starter closes its end of standard input.
    fn watch(init: i32) -> Step<()> {
        let process = sys::pidfd(init).map_err(at("pidfd_open"))?;
        let [starter_gone, _ended] = sys::poll([STDIN, process.as_raw_fd()], -1).map_err(at("poll"))?;
        if starter_gone {
            sys::kill(init);
        }
        sys::wait(init, true).map_err(at("waitpid"))?;
        Ok(())
    }

    /// New namespaces, in which this process is (still) root or itself.
    fn own_namespaces() -> Step<Identity> {
        let (uid, gid) = sys::uid();
        // Root writes a map of two users, which only a process outside the namespace may.
        let mapper = if uid == 0 { Some(mapper()?) } else { None };
        let flags = libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS;
        sys::unshare(flags).map_err(at("unshare (own user namespaces)"))?;
        let identity = match mapper {
            Some((pid, ready)) => {
                drop(ready);
                match sys::wait(pid, true).map_err(at("waitpid"))? {
                    Some((_, 0)) => {}
                    _ => return Err("uid_map: root may not map the user nobody here".into()),
                }
                Identity { uid: INSIDE, gid: INSIDE, change: true }
            }
            None => {
                fs::write("/proc/self/setgroups", "deny").map_err(at("setgroups"))?;
                fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).map_err(at("uid_map"))?;
                fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).map_err(at("gid_map"))?;
                Identity { uid, gid, change: false }
            }
        };
        sys::set_host_name("sandbox").map_err(at("sethostname"))?;
        Ok(identity)
    }

    /// A process that maps root and nobody into its parent's namespace once the pipe is closed.
    fn mapper() -> Step<(i32, OwnedFd)> {
        let (ready_read, ready_write) = sys::pipe().map_err(at("pipe"))?;
        let pid = sys::fork().map_err(at("fork"))?;
        if pid != 0 {
            return Ok((pid, ready_write));
        }
        drop(ready_write);
        _ = sys::poll([ready_read.as_raw_fd()], -1);
        let map = format!("0 0 1\n{INSIDE} {NOBODY} 1\n");
        let parent = sys::parent_id();
        let written = fs::write(format!("/proc/{parent}/uid_map"), &map)
            .and_then(|()| fs::write(format!("/proc/{parent}/gid_map"), &map));
        sys::exit_now(i32::from(written.is_err()));
    }

    fn first_process(policy: &Policy, identity: Identity, alive: OwnedFd) -> Step<()> {
        sys::process_control(libc::PR_SET_PDEATHSIG, libc::SIGKILL as _).map_err(at("PDEATHSIG"))?;
        root::enter(policy, identity)?;
        null_input()?;
        confine::limits(&policy.limits, true)?;
        confine::drop_rights(identity)?;
        // A change of user takes the death signal away again.
        sys::process_control(libc::PR_SET_PDEATHSIG, libc::SIGKILL as _).map_err(at("PDEATHSIG"))?;
        if sys::poll([alive.as_raw_fd()], 0).map_err(at("poll"))?[0] {
            return Err("the starting process is gone".into());
        }
        drop(alive);
        run_program(policy)
    }

    /// Nothing can be typed into a program.
    pub(in super::super) fn null_input() -> Step<()> {
        let null = File::open("/dev/null").map_err(at("/dev/null"))?;
        sys::dup_onto(null.as_raw_fd(), STDIN).map_err(at("stdin"))
    }

    /// The last steps of this process, which the program inherits; then the program, watched to its end.
    fn run_program(policy: &Policy) -> Step<()> {
        // Nothing of this process can be read or traced by the program.
        sys::process_control(libc::PR_SET_DUMPABLE, 0).map_err(at("PR_SET_DUMPABLE"))?;
        confine::landlock(policy)?;
        sys::block_child_signal();
        syscalls::restrict(false)?;
        let program = sys::fork().map_err(at("fork"))?;
        if program == 0 {
            become_program(policy, |_| Ok(()));
        }
        let status = supervise(program, policy);
        report(&status);
        Ok(())
    }

    /// In the new process: what is left to give up, then the program. Never comes back.
    pub(in super::super) fn become_program(policy: &Policy, confine: fn(&Policy) -> Step<()>) -> ! {
        let begun = || -> Step<()> {
            let (argv, env) = (c_strings(&policy.argv)?, environment(policy)?);
            confine(policy)?;
            sys::default_signals();
            if policy.tier == Tier::C {
                syscalls::restrict(true)?;
            }
            let error = sys::execute(&argv, &env);
            Err(format!("execve {:?}: {error}", policy.argv.first()))
        };
        if let Err(reason) = begun() {
            report(&Status::Failed(reason));
        }
        sys::exit_now(EXIT_SETUP)
    }

    pub(in super::super) fn ended(status: i32) -> Status {
        if libc::WIFEXITED(status) {
            Status::Exited(libc::WEXITSTATUS(status))
        } else {
            Status::Signalled(libc::WTERMSIG(status))
        }
    }

    /// Until the program ends or the processes together go over a limit.
    fn supervise(program: i32, policy: &Policy) -> Status {
        loop {
            sys::wait_child_signal(WATCH);
            while let Ok(Some((pid, status))) = sys::wait(-1, false) {
                if pid == program {
                    return ended(status);
                }
            }
            let (processes, resident) = confine::usage();
            if resident > policy.limits.memory_bytes {
                return Status::Memory;
            }
            // This process is one of them.
            if processes > policy.limits.processes + 1 {
                return Status::Processes;
            }
        }
    }

    fn c_strings(list: &[String]) -> Step<Vec<CString>> {
        list.iter().map(|text| CString::new(text.as_str()).map_err(|_| "NUL in an argument".into())).collect()
    }

    fn environment(policy: &Policy) -> Step<Vec<CString>> {
        c_strings(&policy.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>())
    }

    /// Names the step an I/O error happened in.
    pub(in super::super) fn at(step: &str) -> impl Fn(io::Error) -> String + '_ {
        move |error| format!("{step}: {error}")
    }
}

#[cfg(target_os = "linux")]
pub(super) use linux::{Identity, Step, at, become_program, ended, null_input};
