//! python: runs a program the model wrote, with CPython, in the sandbox.
//!
//! It is there for computing and for reading the data folder; it has no network, no files of the
//! user's beyond that folder, and keeps nothing between calls. Without the sandbox it does not exist.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::sandbox::{self, End, Job, Limits, Outcome, RUN_DIR};
use super::{Refused, Tool, ToolCard, ToolContext, ToolExample, ToolFault, ToolResult};

const NAME: &str = "python";
const MAX_CODE_CHARS: usize = 100_000;
const SCRIPT: &str = "main.py";
/// Characters of what was printed before a failure that are given back with it.
const PRINTED_CHARS: usize = 2000;

/// A CPython of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The real file, inside /usr or inside one of `binds`.
    pub program: PathBuf,
    /// Directories outside /usr it needs.
    pub binds: Vec<PathBuf>,
    pub version: String,
}

impl Interpreter {
    /// The system's python3, or else the first on the PATH.
    ///
    /// # Errors
    /// In words: none was found, or it does not run.
    pub fn find() -> Result<Interpreter, String> {
        let system = PathBuf::from("/usr/bin/python3");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let others = std::env::split_paths(&path).map(|dir| dir.join("python3"));
        let program = std::iter::once(system).chain(others).find(|path| path.is_file());
        let program = program.ok_or("python3 was not found")?;
        let ask = "import os, sys; print(os.path.realpath(sys.executable), sys.base_prefix, sys.base_exec_prefix, sys.version.split()[0], sep='\\n')";
        let output = Command::new(&program)
            .args(["-I", "-S", "-c", ask])
            .output()
            .map_err(|error| format!("{program:?} does not run: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let &[real, prefix, exec_prefix, version] = text.lines().collect::<Vec<_>>().as_slice() else {
            return Err(format!("{program:?} does not say what it is"));
        };
        if !version.starts_with("3.") {
            return Err(format!("{program:?} is Python {version}, not 3"));
        }
        let mut binds: Vec<PathBuf> = [prefix, exec_prefix].map(PathBuf::from).into();
        binds.dedup();
        binds.retain(|path| !path.starts_with("/usr") && path.parent().is_some());
        Ok(Interpreter { program: real.into(), binds, version: version.into() })
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
            limits: Limits::default(),
        }
    }
}

/// See the file's head.
pub struct Python {
    card: ToolCard,
    exe: PathBuf,
    interpreter: Interpreter,
    data: Option<PathBuf>,
    limits: Limits,
    tier: String,
}

impl Python {
    /// Find the interpreter and try the sandbox out. `exe` is the tillerman binary; `data`, a folder,
    /// can be read as `data/...`.
    ///
    /// # Errors
    /// What is missing here, with the remedy.
    pub fn new(exe: PathBuf, data: Option<PathBuf>) -> Result<Python, Refused> {
        let refused =
            |reason: String, remedy: &str| Refused { name: NAME.into(), reason, remedy: remedy.into() };
        let interpreter = Interpreter::find()
            .map_err(|reason| refused(reason, "install Python 3 (Debian: apt install python3)"))?;
        let data = match data.map(|path| (std::fs::canonicalize(&path), path)) {
            None => None,
            Some((Ok(path), _)) if path.is_dir() => Some(path),
            Some((_, path)) => {
                return Err(refused(format!("data folder {path:?} is no directory"), "name another one"));
            }
        };
        let open_to_all = |path: &PathBuf| {
            std::fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o005 == 0o005)
        };
        if let Some(path) = data.as_ref().filter(|path| sandbox::runs_as_nobody() && !open_to_all(path)) {
            let reason = format!("started as root, programs run as nobody and cannot read {path:?}");
            return Err(refused(reason, "chmod o+rx the folder, or start tillerman as yourself"));
        }
        let probe = sandbox::probe(&exe, &interpreter);
        let Some(tier) = probe.tier else {
            return Err(refused(format!("no sandbox: {}", probe.reason), &probe.remedy));
        };
        let limits = Limits::default();
        Ok(Python { card: card(&limits, data.is_some()), exe, interpreter, data, limits, tier })
    }

    /// The same tool with narrower limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Python {
        Python { card: card(&limits, self.data.is_some()), limits, ..self }
    }
}

fn card(limits: &Limits, data: bool) -> ToolCard {
    let example =
        |code: &str, result: &str| ToolExample { arguments: json!({ "code": code }), result: result.into() };
    let mut bounds = vec![
        "Only what the program prints is returned.".to_owned(),
        "No network and no files of yours; nothing is kept between calls; the standard library only.".into(),
        format!(
            "Stops after {} seconds, {} MiB of memory or {} processes.",
            limits.wall_ms / 1000,
            limits.memory_bytes >> 20,
            limits.processes
        ),
    ];
    if data {
        bounds.insert(1, "The data folder is at data/, read-only: open('data/FILE').".into());
    }
    ToolCard {
        name: NAME.into(),
        purpose: "Runs a Python 3 program and returns what it prints.".into(),
        brief: "runs code, reads files".into(),
        schema: json!({
            "type": "object",
            "properties": {"code": {
                "type": "string",
                "description": "a whole program that prints its result",
                "maxLength": MAX_CODE_CHARS
            }},
            "required": ["code"],
            "additionalProperties": false
        }),
        examples: vec![
            example("print(sum(n for n in range(1, 101) if n % 3 == 0))", "1683"),
            example("import math\nprint(math.comb(10, 3))", "120"),
        ],
        limits: bounds,
    }
}

#[async_trait]
impl Tool for Python {
    fn card(&self) -> &ToolCard {
        &self.card
    }

    async fn call(&self, arguments: &Value, context: &ToolContext) -> ToolResult {
        let code = arguments["code"].as_str().unwrap_or_default();
        let mut job = self.interpreter.job(&self.exe, code, self.data.clone());
        job.limits = self.limits.clone();
        let outcome = sandbox::run(job, &context.cancel, context.on_output.clone()).await;
        let mut result = describe(&outcome, &self.limits);
        result.tier = Some(self.tier.clone());
        result
    }
}

fn describe(outcome: &Outcome, limits: &Limits) -> ToolResult {
    let printed = outcome.stdout.text();
    let printed = printed.trim_end();
    let stopped =
        |fault: ToolFault, why: String| ToolResult::fault(fault, format!("{why}{}", so_far(printed)));
    match &outcome.end {
        End::Exited(0) => {
            let text = if printed.is_empty() { "no output; print the result" } else { printed };
            ToolResult { exit: Some(0), ..ToolResult::ok(text) }
        }
        End::Exited(code) => {
            let words = last_words(&outcome.stderr.text());
            let fault = if words.starts_with("MemoryError") { ToolFault::Limit } else { ToolFault::Failed };
            let why = if words.is_empty() { format!("exit code {code}") } else { words };
            ToolResult { exit: Some(*code), ..stopped(fault, why) }
        }
        End::Signalled(libc::SIGXCPU) => {
            stopped(ToolFault::Limit, format!("stopped after {} seconds of computing", limits.cpu_s))
        }
        // The kernel's answer to a program that ignores the signal above, and to no memory left.
        End::Signalled(libc::SIGKILL) => {
            stopped(ToolFault::Limit, "killed: too much computing time or memory".to_owned())
        }
        End::Signalled(signal) => ToolResult {
            exit: Some(128 + signal),
            ..stopped(ToolFault::Failed, format!("ended by signal {signal}"))
        },
        End::Wall => stopped(
            ToolFault::Limit,
            format!(
                "stopped after {} seconds",
                f64::from(u32::try_from(limits.wall_ms).unwrap_or(u32::MAX)) / 1e3
            ),
        ),
        End::Memory => stopped(
            ToolFault::Limit,
            format!("stopped: more than {} MiB of memory", limits.memory_bytes >> 20),
        ),
        End::Processes => {
            stopped(ToolFault::Limit, format!("stopped: more than {} processes", limits.processes))
        }
        End::Flood => {
            let text = format!("stopped: more than {} MiB printed", limits.flood_bytes >> 20);
            ToolResult::fault(ToolFault::Limit, text)
        }
        End::Cancelled => ToolResult::fault(ToolFault::Cancelled, "cancelled"),
        End::Setup(reason) => ToolResult::fault(ToolFault::Failed, format!("the sandbox failed: {reason}")),
    }
}

/// What was printed before the end, for the message.
fn so_far(printed: &str) -> String {
    if printed.is_empty() {
        return String::new();
    }
    let count = printed.chars().count();
    let tail: String = printed.chars().skip(count.saturating_sub(PRINTED_CHARS)).collect();
    format!("\nprinted before: {tail}")
}

/// The last line of a traceback with the line of the program it points at:
/// `ZeroDivisionError: division by zero (line 3)`.
fn last_words(stderr: &str) -> String {
    let Some(last) = stderr.lines().rfind(|line| !line.trim().is_empty()) else {
        return String::new();
    };
    let place = format!("{SCRIPT}\", line ");
    let line = stderr
        .lines()
        .rev()
        .find_map(|line| line.split_once(&place))
        .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    match line {
        Some(line) => format!("{} (line {line})", last.trim()),
        None => last.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceback_becomes_one_line() {
        let stderr = "Traceback (most recent call last):\n  File \"/work/main.py\", line 3, in <module>\n    1/0\n    ~^~\nZeroDivisionError: division by zero\n";
        assert_eq!(last_words(stderr), "ZeroDivisionError: division by zero (line 3)");
        assert_eq!(last_words("usage: x\n\n"), "usage: x");
        assert_eq!(last_words(""), "");
    }
}
