//! python: runs a program the model wrote, with CPython, in the sandbox.
//!
//! It is there for computing and for reading the data folder; it has no network, no files of the
//! user's beyond that folder, and keeps nothing between calls. Without the sandbox it does not exist.

mod interpreter;

use std::path::PathBuf;

use async_trait::async_trait;
use serde_json::{Value, json};

pub use interpreter::Interpreter;
use interpreter::SCRIPT;

use super::ran::describe;
use super::sandbox::{self, Limits, Tier, WORKSPACE_DIR};
use super::workspace::{GitWatch, Workspace, open_to_all};
use super::{Effects, Refused, Tool, ToolCard, ToolContext, ToolExample, ToolResult};

const NAME: &str = "python";
const MAX_CODE_CHARS: usize = 100_000;
/// The remedy where the workspace holds the interpreter.
pub(super) const ELSEWHERE: &str =
    "name another workspace, leave tools.workspace_write off, or install Python 3 in /usr";

/// See the file's head.
pub struct Python {
    card: ToolCard,
    exe: PathBuf,
    interpreter: Interpreter,
    data: Option<PathBuf>,
    workspace: Option<Workspace>,
    limits: Limits,
    tier: Tier,
    /// What it can read is the person's own.
    private: bool,
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
        if let Some(path) =
            data.as_ref().filter(|path| sandbox::runs_as_nobody() && !open_to_all(path, 0o005))
        {
            let reason = format!("started as root, programs run as nobody and cannot read {path:?}");
            return Err(refused(reason, "chmod o+rx the folder, or start tillerman as yourself"));
        }
        let probe = sandbox::probe(&exe, &interpreter);
        let Some(tier) = probe.tier else {
            return Err(refused(format!("no sandbox: {}", probe.reason), &probe.remedy));
        };
        let limits = Limits::default();
        Ok(Python {
            card: card(&limits, data.is_some(), None),
            exe,
            interpreter,
            data,
            workspace: None,
            limits,
            tier,
            private: false,
        })
    }

    /// The same tool in a workspace.
    ///
    /// # Errors
    /// Programs could not read it, or could change the interpreter.
    pub fn in_workspace(self, workspace: Workspace) -> Result<Python, Refused> {
        let refused = |reason, remedy| Refused { name: NAME.into(), reason, remedy };
        workspace.readable_inside(self.tier).map_err(|(reason, remedy)| refused(reason, remedy))?;
        if let Some(reason) = self.interpreter.changed_by(&workspace) {
            return Err(refused(reason, ELSEWHERE.into()));
        }
        let card = card(&self.limits, self.data.is_some(), Some(&workspace));
        Ok(Python { card, workspace: Some(workspace), ..self })
    }

    /// The same tool, its folders being the person's own or not.
    #[must_use]
    pub fn reading_private(self, private: bool) -> Python {
        Python { private: private || self.private, ..self }
    }

    /// The same tool with narrower limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Python {
        let card = card(&limits, self.data.is_some(), self.workspace.as_ref());
        Python { card, limits, ..self }
    }
}

fn card(limits: &Limits, data: bool, workspace: Option<&Workspace>) -> ToolCard {
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
    if let Some(workspace) = workspace {
        let change = if workspace.write { "can be changed" } else { "read-only" };
        let place = format!("The workspace is at {WORKSPACE_DIR}, {change}: open('{WORKSPACE_DIR}/FILE')");
        bounds.insert(1, place);
    }
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

    fn effects(&self, _: &Value) -> Effects {
        let workspace = self.workspace.as_ref().map(Workspace::effects).unwrap_or_default();
        // The data folder, too, can be the person's own, with text of unknown hand in it.
        Effects {
            reads_private: workspace.reads_private || self.private,
            brings_outside_text: workspace.brings_outside_text || self.private,
            ..workspace
        }
    }

    fn sandbox(&self) -> Option<&str> {
        Some(self.tier.name())
    }

    async fn call(&self, arguments: &Value, context: &ToolContext) -> ToolResult {
        let code = arguments["code"].as_str().unwrap_or_default();
        let mut job = self.interpreter.job(&self.exe, code, self.data.clone());
        job.limits = self.limits.clone();
        job.tier = self.tier;
        job.workspace.clone_from(&self.workspace);
        let git = self.workspace.as_ref().map(Workspace::watch_git);
        let outcome = sandbox::run(job, &context.cancel, context.on_output.clone()).await;
        let mut result = describe(&outcome, &self.limits, "no output; print the result", last_words);
        if let Some(note) = git.and_then(GitWatch::settle) {
            result.text = format!("{}\n{note}", result.text);
        }
        result.tier = Some(self.tier.name().to_owned());
        result
    }
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
