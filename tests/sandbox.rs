//! The python tool in its sandbox, as a program sees it: what it is for works, its limits hold, nothing of ours
//! leaks in, nothing survives. The ways out are tried in `escape`.
//!
//! Where this machine grants no sandbox the tests say why; `without_a_sandbox_nothing_runs` holds there too.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tillerman::tools::python::{Interpreter, Python};
use tillerman::tools::sandbox::{self, End, Limits};
use tillerman::tools::{StandardOptions, Tool, ToolContext, ToolFault, ToolResult};
use tokio_util::sync::CancellationToken;

/// How long a start or a kill may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(300);

fn exe() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_tillerman"))
}

/// The limits of the program, but for the clock: what a loaded machine delays is no escape.
fn patient() -> Limits {
    Limits { wall_ms: 600_000, ..Limits::default() }
}

fn python(data: Option<&Path>) -> Option<Python> {
    match Python::new(exe(), data.map(Path::to_owned)) {
        Ok(python) => Some(python.with_limits(patient())),
        Err(refused) => {
            // Past the capture of the test runner: a skip is to be seen.
            let mut stderr = std::io::stderr();
            writeln!(stderr, "SKIPPED, no sandbox here: {} ({})", refused.reason, refused.remedy)
                .expect("stderr");
            None
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("runtime").block_on(future)
}

fn call(python: &Python, code: &str) -> ToolResult {
    block_on(python.call(&json!({ "code": code }), &ToolContext::default()))
}

/// The program runs to its end and prints exactly this.
fn check(python: &Python, code: &str, expected: &str) {
    let result = call(python, code);
    assert_eq!((result.text.as_str(), result.fault), (expected, None), "{code}");
    assert_eq!((result.exit, result.tier.as_deref()), (Some(0), python.sandbox()));
}

/// Attempts, one per line `name: expression`; each must raise OSError.
fn check_refused(python: &Python, attempts: &str) {
    let mut code = String::from("import ctypes, os, socket, sys\n");
    code.push_str("def attempt(name, what):\n    try:\n        print(name, 'SUCCEEDED', what())\n");
    code.push_str("    except OSError as error:\n        print(name, 'refused')\n");
    let mut expected = Vec::new();
    for line in attempts.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, expression) = line.split_once(": ").expect("name: expression");
        code.push_str(&format!("attempt({name:?}, lambda: {expression})\n"));
        expected.push(format!("{name} refused"));
    }
    check(python, &code, &expected.join("\n"));
}

/// Processes of this machine whose command line starts with the marker.
fn alive(marker: &str) -> usize {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let command = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).unwrap_or_default();
    processes.map(command).filter(|line| line.starts_with(marker.as_bytes())).count()
}

/// Whether the process called `marker` is there, or comes to be: a busy machine may take its time to start it.
fn appears(marker: &str) -> bool {
    let start = Instant::now();
    while alive(marker) != 1 {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// A kill is not instantaneous; a survivor is what is still there when patience ends.
fn gone(marker: &str) -> bool {
    let start = Instant::now();
    while alive(marker) > 0 {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Starts a process that left the session twice and is called `marker`, then says "ready" and waits.
fn runaway(marker: &str) -> String {
    format!(
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        os.execv('/usr/bin/sleep', ['{marker}', '300'])\n    os._exit(0)\nos.wait()\ntime.sleep(0.2)\nprint('ready')\n"
    )
}

#[test]
fn what_programs_need_works() {
    let Some(python) = python(None) else { return };
    for example in python.card().examples.clone() {
        check(&python, example.arguments["code"].as_str().expect("code"), &example.result);
    }
    let code = "
import asyncio, concurrent.futures, multiprocessing, os, sqlite3, subprocess, tempfile, threading, time
thread = threading.Thread(target=lambda: print('thread')); thread.start(); thread.join()
print(subprocess.run(['echo', 'child'], capture_output=True, text=True).stdout.strip())
async def main():
    child = await asyncio.create_subprocess_exec('echo', 'async', stdout=asyncio.subprocess.PIPE)
    print((await child.communicate())[0].decode().strip())
asyncio.run(main())
def square(x): return x * x
if __name__ == '__main__':
    with multiprocessing.Pool(2) as pool: print(pool.map(square, range(4)))
    with multiprocessing.Lock(): pass
    with tempfile.TemporaryDirectory() as name: open(os.path.join(name, 'x'), 'w').write('x')
    db = sqlite3.connect('x.db'); db.execute('create table t(a)'); db.execute('insert into t values(7)'); db.commit()
    print(db.execute('select a from t').fetchone()[0], os.getcwd(), time.localtime().tm_zone)
";
    check(&python, code, "thread\nchild\nasync\n[0, 1, 4, 9]\n7 /work UTC");
}

#[test]
fn results_carry_the_exit_and_the_error() {
    let Some(python) = python(None) else { return };
    let result = call(&python, "x = 1\nprint('before')\nx / 0");
    assert_eq!((result.fault, result.exit), (Some(ToolFault::Failed), Some(1)));
    assert_eq!(result.text, "ZeroDivisionError: division by zero (line 3)\nprinted before: before");
    let result = call(&python, "print('a'");
    assert_eq!(result.text, "SyntaxError: '(' was never closed (line 1)");
    let result = call(&python, "import sys; sys.exit(7)");
    assert_eq!((result.text.as_str(), result.exit), ("exit code 7", Some(7)));
    check(&python, "x = 1", "no output; print the result");
    check(&python, "import sys; print(repr(sys.stdin.read()), len(sys.argv))", "'' 1");
    let seen = Arc::new(std::sync::Mutex::new(String::new()));
    let sink = Arc::clone(&seen);
    let context = ToolContext {
        on_output: Some(Arc::new(move |text: &str| sink.lock().expect("lock").push_str(text))),
        ..ToolContext::default()
    };
    block_on(python.call(&json!({"code": "print('live')"}), &context));
    assert_eq!(*seen.lock().expect("lock"), "live\n");
}

#[test]
fn the_data_folder_is_read_only_and_all_there_is() {
    let dir = tempfile::tempdir().expect("dir");
    let outside = tempfile::tempdir().expect("dir");
    fs::write(outside.path().join("secret"), "secret").expect("write");
    // The program may run as another user than the owner of the folder.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    fs::write(dir.path().join("staff.csv"), "name,city\nAnna,Oslo\n").expect("write");
    std::os::unix::fs::symlink(outside.path().join("secret"), dir.path().join("link")).expect("link");
    let Some(python) = python(Some(dir.path())) else { return };
    check(&python, "print(open('data/staff.csv').read())", "name,city\nAnna,Oslo");
    check_refused(
        &python,
        "write: open('data/new', 'w')
         append: open('data/staff.csv', 'a')
         remove: os.remove('data/staff.csv')
         move: os.rename('data/staff.csv', 'mine')
         move the folder: os.rename('data', 'mine')
         mode: os.chmod('data/staff.csv', 0o777)
         time: os.utime('data/staff.csv')
         hard link: os.link('data/staff.csv', 'mine')
         link out: open('data/link').read()
         out: open('data/../../etc/shadow').read()",
    );
    assert_eq!(fs::read_to_string(dir.path().join("staff.csv")).expect("read"), "name,city\nAnna,Oslo\n");
}

#[test]
fn a_program_has_no_rights() {
    let Some(python) = python(None) else { return };
    check(&python, "import socket; a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1))", "b'x'");
    let rights = "
status = dict(line.split(':\\t') for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
print([status[name] for name in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')] == ['0' * 16] * 5, status['NoNewPrivs'], status['Seccomp'])
";
    check(&python, rights, "True 1 2");
    let privileged = "import os\nprint(os.path.exists('/usr/bin/su') and os.system('/usr/bin/su -c id </dev/null 2>/dev/null') == 0, os.getuid() == 0)";
    let result = call(&python, privileged);
    assert_eq!(result.text.lines().last(), Some("False False"), "{result:?}");
}

#[test]
fn nothing_of_this_process_leaks_in() {
    let Some(python) = python(None) else { return };
    let file = tempfile::tempfile().expect("file");
    // A descriptor that an exec would pass on.
    // SAFETY: duplicates a descriptor; the copy is closed with the process.
    let leak = unsafe { libc::dup(std::os::fd::AsRawFd::as_raw_fd(&file)) };
    assert!(leak > 2);
    let code = "
import os
def is_open(fd):
    try: return os.fstat(fd) is not None
    except OSError: return False
print([fd for fd in range(256) if is_open(fd)], sorted(os.environ))
";
    let expected = "[0, 1, 2] ['HOME', 'LANG', 'LC_CTYPE', 'PATH', 'TERM', 'TMPDIR', 'TZ']";
    let text = call(&python, code).text.replace("'LANG', 'PATH'", "'LANG', 'LC_CTYPE', 'PATH'");
    assert_eq!(text, expected);
    let code = "
import os
pids = [name for name in os.listdir('/proc') if name.isdigit()]
def readable(name):
    try: return bool(os.listdir(name) if os.path.isdir(name) else open(name, 'rb').read(1))
    except OSError: return False
print(len(pids), [name for name in ('environ', 'mem', 'maps', 'fd', 'root', 'cwd') if readable(f'/proc/1/{name}')])
os.kill(1, 9)
print(open('/proc/1/cmdline').read().split('\\0')[0])
";
    // In tier B it has the name bubblewrap starts it by.
    let first = if python.sandbox() == Some("A") { "tillerman" } else { "/tillerman" };
    check(&python, code, &format!("2 []\n{first}"));
}

#[test]
fn limits_end_a_program() {
    let Some(python) = python(None) else { return };
    let check_limit = |limits: Limits, code: &str, part: &str| {
        let result = call(&self::python(None).expect("python").with_limits(limits), code);
        assert_eq!(result.fault, Some(ToolFault::Limit), "{code}: {result:?}");
        assert!(result.text.contains(part), "{code}: {result:?}");
    };
    let short = Limits { wall_ms: 3000, ..Limits::default() };
    check_limit(short.clone(), "import time\ntime.sleep(300)", "stopped after 3 seconds");
    let busy = Limits { cpu_s: 1, ..patient() };
    let counts = "print('first')\nwhile True: pass";
    check_limit(busy.clone(), counts, "stopped after 1 seconds of computing\nprinted before: first");
    let deaf = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass";
    check_limit(busy, deaf, "killed: too much computing time");
    check_limit(patient(), "b = bytearray(2 << 30)", "MemoryError");
    let small = Limits { memory_bytes: 512 << 20, ..patient() };
    let family = "import os, time\nfor n in range(6):\n    if os.fork() == 0:\n        b = b'x' * (200 << 20)\n        time.sleep(300)\ntime.sleep(300)";
    check_limit(small, family, "more than 512 MiB of memory");
    let loud = Limits { flood_bytes: 8 << 20, ..patient() };
    check_limit(loud, "while True: print('x' * 100000)", "more than 8 MiB printed");
    check_limit(
        short,
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "stopped after 3",
    );

    let count = "import os, time\nn = 0\ntry:\n    while n < 1000:\n        if os.fork() == 0: time.sleep(300)\n        n += 1\nexcept OSError: pass\nprint(30 < n < 64)";
    check(&python, count, "True");
    let file =
        "try: open('big', 'wb').write(bytes(65 << 20))\nexcept OSError as error: print(error.strerror)";
    check(&python, file, "File too large");
    let files = "try:\n    for n in range(9): open(f'f{n}', 'wb').write(bytes(60 << 20))\nexcept OSError as error: print(error.strerror)";
    check(&python, files, "No space left on device");
    let open = "files = []\ntry:\n    while True: files.append(open('/dev/null'))\nexcept OSError as error: print(error.strerror, len(files) < 256)";
    check(&python, open, "Too many open files True");
    let raise = "import resource\nfor what in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_CPU):\n    try: resource.setrlimit(what, (1 << 40, 1 << 40)); print('raised')\n    except ValueError: pass";
    check(&python, raise, "no output; print the result");
}

#[test]
fn much_output_keeps_its_ends() {
    let Some(python) = python(None) else { return };
    let result = call(&python, "import sys\nsys.stdout.write('first\\n' + 'x' * 5_000_000 + '\\nlast\\n')");
    assert_eq!(result.fault, None);
    assert!(result.text.starts_with("first\n") && result.text.ends_with("\nlast"));
    assert!(result.text.contains("bytes left out]") && result.text.len() < 1_100_000);
}

#[test]
fn nothing_survives_the_end() {
    let Some(python) = python(None) else { return };
    let marker = format!("tillerman-test-end-{}", std::process::id());
    let code = runaway(&marker)
        .replace("time.sleep(0.2)", "print(len([n for n in os.listdir('/proc') if n.isdigit()]))");
    // The first process, the program and the runaway.
    check(&python, &code, "3\nready");
    assert!(gone(&marker), "a process outlived its program");
}

#[test]
fn cancelling_kills_everything() {
    let Some(python) = python(None) else { return };
    let marker = format!("tillerman-test-cancel-{}", std::process::id());
    let code = format!("{}time.sleep(300)", runaway(&marker));
    let cancel = CancellationToken::new();
    let (cancelled, seen) = (cancel.clone(), marker.clone());
    let context = ToolContext {
        cancel,
        // The runaway must be seen from outside, or its absence afterwards would say nothing.
        on_output: Some(Arc::new(move |_: &str| {
            assert!(appears(&seen), "the runaway never started");
            cancelled.cancel();
        })),
        ..ToolContext::default()
    };
    let result = block_on(python.call(&json!({ "code": code }), &context));
    assert_eq!(result.fault, Some(ToolFault::Cancelled), "{result:?}");
    assert!(gone(&marker), "a process outlived its cancelled program");
}

#[test]
fn dropping_the_call_kills_everything() {
    let Some(python) = python(None) else { return };
    let marker = format!("tillerman-test-drop-{}", std::process::id());
    let code = format!("{}time.sleep(300)", runaway(&marker));
    let ready = Arc::new(tokio::sync::Notify::new());
    let notify = Arc::clone(&ready);
    let context = ToolContext {
        on_output: Some(Arc::new(move |_: &str| notify.notify_one())),
        ..ToolContext::default()
    };
    let arguments = json!({ "code": code });
    block_on(async {
        // A branch that lost is dropped before the other's block runs: the call itself must outlive the look.
        let mut call = python.call(&arguments, &context);
        tokio::select! {
            result = &mut call => panic!("ended: {result:?}"),
            () = ready.notified() => assert!(appears(&marker), "the runaway never started"),
        }
        drop(call);
    });
    assert!(gone(&marker), "a process outlived its dropped call");
}

#[test]
fn a_starter_that_dies_takes_the_program_along() {
    let Some(python) = python(None) else { return };
    if python.sandbox() != Some("A") {
        writeln!(std::io::stderr(), "SKIPPED, tier A is not granted here").expect("stderr");
        return;
    }
    let marker = format!("tillerman-test-starter-{}", std::process::id());
    let job = Interpreter::find().expect("python").job(&exe(), "", None);
    let code = format!("{}time.sleep(300)", runaway(&marker));
    let policy = json!({
        "argv": job.argv, "env": job.env, "files": [["main.py", code]], "binds": job.binds, "data": null,
        "cwd": job.cwd, "tier": "A", "limits": job.limits,
    });
    let mut child = Command::new("/bin/sh")
        .args(["-c", "exec \"$0\" __sandbox 3>/dev/null"])
        .arg(exe())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start");
    let mut stdin = child.stdin.take().expect("stdin");
    writeln!(stdin, "{policy}").expect("policy");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("read");
    assert_eq!(line, "ready\n");
    assert!(appears(&marker), "the runaway never started");
    // What the kernel does for a starter that was killed.
    drop(stdin);
    assert!(gone(&marker), "a process outlived its starter");
    child.wait().expect("wait");
}

#[test]
fn without_a_sandbox_nothing_runs() {
    let Ok(interpreter) = Interpreter::find() else { return };
    let dir = tempfile::tempdir().expect("dir");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("mode");
    let trace = dir.path().join("trace");
    let code = format!("open({:?}, 'w')\nprint('ran')", trace.display().to_string());
    let mut broken = Vec::new();
    for exe in ["/no/such/program", "/bin/true", "/bin/sh"] {
        broken.push(interpreter.job(Path::new(exe), &code, None));
    }
    broken.push(interpreter.job(&exe(), &code, Some("/no/such/data".into())));
    let mut no_program = interpreter.job(&exe(), &code, None);
    no_program.argv[0] = "/no/such/python".into();
    broken.push(no_program);
    for job in broken {
        let outcome = block_on(sandbox::run(job, &CancellationToken::new(), None));
        assert!(matches!(outcome.end, End::Setup(_)), "{outcome:?}");
        assert_eq!(outcome.stdout.total, 0, "{outcome:?}");
        assert!(!trace.exists());
    }
}

#[test]
fn an_interpreter_from_the_path_runs_inside_and_nowhere_else() {
    let Some(python) = python(None) else { return };
    if python.sandbox() != Some("A") {
        writeln!(std::io::stderr(), "SKIPPED, tier A is not granted here").expect("stderr");
        return;
    }
    let system = Interpreter::find().expect("python");
    let name = system.program.file_name().expect("name").to_owned();
    let prefix = system.program.parent().and_then(Path::parent).expect("prefix");
    let dir = tempfile::tempdir().expect("dir");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let (bin, lib) = (dir.path().join("bin"), dir.path().join("lib"));
    fs::create_dir_all(&bin).and(fs::create_dir(&lib)).expect("folders");
    fs::copy(&system.program, bin.join(&name)).expect("copy");
    symlink(&name, bin.join("python3")).expect("link");
    let run = || {
        let found = Interpreter::find_in(Path::new("/no/such/folder"), bin.as_os_str(), None).expect("found");
        assert_eq!(found.binds, [dir.path().canonicalize().expect("path")]);
        let job = found.job(&exe(), "import sys\nprint(sys.executable)", None);
        block_on(sandbox::run(job, &CancellationToken::new(), None))
    };
    symlink(prefix.join("lib").join(&name), lib.join(&name)).expect("link");
    let outcome = run();
    let shown = bin.canonicalize().expect("path").join(&name);
    assert_eq!(outcome.stdout.text().trim(), shown.to_string_lossy(), "{outcome:?}");
    // A library of somebody else's, which is read before any program of ours.
    let canary = dir.path().join("canary");
    fs::remove_file(lib.join(&name)).expect("remove");
    fs::create_dir_all(lib.join(&name).join("encodings")).expect("folder");
    let planted = format!("print('planted', flush=True)\nopen({canary:?}, 'w')");
    for module in ["os.py", "encodings/__init__.py"] {
        fs::write(lib.join(&name).join(module), &planted).expect("write");
    }
    let outcome = run();
    assert!(!canary.exists() && outcome.end != End::Exited(0), "{outcome:?}");
}

#[test]
fn the_standard_tools_come_in_their_order() {
    let options = StandardOptions {
        engine: None,
        base_prompt: Arc::new(|_| Vec::new()),
        knowledge: vec![("countries.txt".into(), "The capital of Peru is Lima.".into())],
        folders: Vec::new(),
        data: Some("/no/such/data".into()),
        data_private: false,
        workspace: None,
        files: true,
        shell: false,
        sandbox_exe: exe(),
        python: true,
    };
    let toolbox = tillerman::tools::standard(options);
    assert_eq!(toolbox.names(), ["calculator", "search"]);
    assert_eq!(toolbox.refused[0].name, "python");
    assert!(!toolbox.refused[0].reason.is_empty() && !toolbox.refused[0].remedy.is_empty());
    let run = |name: &str, arguments| block_on(toolbox.run(name, &arguments, &ToolContext::default()));
    assert_eq!(run("calculator", json!({"expression": "37*41+5"})).text, "1522");
    assert_eq!(run("search", json!({"query": "capital of Peru"})).text, "The capital of Peru is Lima.");
    assert_eq!(run("python", json!({"code": "print(1)"})).fault, Some(ToolFault::Unknown));
    assert_eq!(run("calculator", json!({"code": "1"})).fault, Some(ToolFault::BadArguments));
}
