//! shell: runs a command line in the sandbox, in the workspace where there is one.
//!
//! The same walls as python's: no network, none of the person's files but the workspace, everything it started
//! ends with it. Registered only where the person switched it on and a canary found the sandbox sound.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::python::{ELSEWHERE, Interpreter};
use super::ran::describe;
use super::sandbox::{self, Job, Limits, RUN_DIR, Tier, WORKSPACE_DIR};
use super::workspace::{GitWatch, Workspace};
use super::{Effects, Refused, Tool, ToolCard, ToolContext, ToolExample, ToolResult};

const NAME: &str = "shell";
const MAX_COMMAND_CHARS: usize = 20_000;
/// The better shell first.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// See the file's head.
pub struct Shell {
    card: ToolCard,
    exe: PathBuf,
    shell: &'static str,
    workspace: Option<Workspace>,
    limits: Limits,
    tier: Tier,
}

impl Shell {
    /// Try the sandbox out. `exe` is the tillerman binary.
    ///
    /// # Errors
    /// What is missing here, with the remedy.
    pub fn new(exe: PathBuf, workspace: Option<Workspace>) -> Result<Shell, Refused> {
        let refused = |reason: String, remedy: String| Refused { name: NAME.into(), reason, remedy };
        let shell = SHELLS.into_iter().find(|path| Path::new(path).exists());
        let shell = shell.ok_or_else(|| refused("there is no /bin/sh".into(), "install one".into()))?;
        // The canary that tells whether the sandbox holds is a Python program.
        let canary = Interpreter::find().map_err(|reason| {
            refused(format!("the sandbox cannot be tried out: {reason}"), "install Python 3".into())
        })?;
        let probe = sandbox::probe(&exe, &canary);
        let Some(tier) = probe.tier else {
            return Err(refused(format!("no sandbox: {}", probe.reason), probe.remedy));
        };
        if tier == Tier::S {
            let reason = "tier S of the sandbox lets a program start no other, and a shell does little else";
            return Err(refused(reason.into(), "run tillerman on Linux".into()));
        }
        if let Some(workspace) = &workspace {
            workspace.readable_inside(tier).map_err(|(reason, remedy)| refused(reason, remedy))?;
            if let Some(reason) = canary.changed_by(workspace) {
                return Err(refused(reason, ELSEWHERE.into()));
            }
        }
        let limits = Limits::default();
        Ok(Shell { card: card(&limits, workspace.as_ref()), exe, shell, workspace, limits, tier })
    }

    /// The same tool with other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Shell {
        Shell { card: card(&limits, self.workspace.as_ref()), limits, ..self }
    }

    /// The job that runs a command line.
    pub fn job(&self, command: &str) -> Job {
        let env = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("HOME", RUN_DIR),
            ("TMPDIR", "/tmp"),
            ("LANG", "C.UTF-8"),
            ("TZ", "UTC"),
            ("TERM", "dumb"),
            ("PAGER", "cat"),
            ("GIT_PAGER", "cat"),
        ];
        Job {
            exe: self.exe.clone(),
            // Both outputs in the order they came.
            argv: vec![self.shell.into(), "-c".into(), format!("exec 2>&1\n{command}")],
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            files: Vec::new(),
            binds: Vec::new(),
            data: None,
            cwd: if self.workspace.is_some() { WORKSPACE_DIR } else { RUN_DIR }.into(),
            workspace: self.workspace.clone(),
            tier: self.tier,
            bwrap: sandbox::bwrap_program(),
            limits: self.limits.clone(),
        }
    }
}

fn card(limits: &Limits, workspace: Option<&Workspace>) -> ToolCard {
    let example = |command: &str, result: &str| ToolExample {
        arguments: json!({ "command": command }),
        result: result.into(),
    };
    let place = match workspace {
        Some(workspace) if workspace.write => {
            format!(
                "Starts in {WORKSPACE_DIR}, the user's workspace, and can change it, but not the .git at its top."
            )
        }
        Some(_) => format!(
            "Starts in {WORKSPACE_DIR}, the user's workspace, which is read-only; write in {RUN_DIR} or /tmp."
        ),
        None => "Sees no files of the user's.".to_owned(),
    };
    ToolCard {
        name: NAME.into(),
        purpose: "Runs a command line and returns what it prints.".into(),
        brief: "runs a command".into(),
        schema: json!({
            "type": "object",
            "properties": {"command": {
                "type": "string",
                "description": "a command line for sh",
                "maxLength": MAX_COMMAND_CHARS
            }},
            "required": ["command"],
            "additionalProperties": false
        }),
        examples: vec![example("printf 'b\\na\\n' | sort", "a\nb"), example("echo $((6 * 7))", "42")],
        limits: vec![
            place,
            "No network; outside the workspace nothing is kept between calls.".into(),
            format!(
                "Stops after {} seconds, {} MiB of memory or {} processes.",
                limits.wall_ms / 1000,
                limits.memory_bytes >> 20,
                limits.processes
            ),
        ],
    }
}

#[async_trait]
impl Tool for Shell {
    fn card(&self) -> &ToolCard {
        &self.card
    }

    fn effects(&self, _: &Value) -> Effects {
        self.workspace.as_ref().map(Workspace::effects).unwrap_or_default()
    }

    fn sandbox(&self) -> Option<&str> {
        Some(self.tier.name())
    }

    async fn call(&self, arguments: &Value, context: &ToolContext) -> ToolResult {
        let job = self.job(arguments["command"].as_str().unwrap_or_default());
        let git = self.workspace.as_ref().map(Workspace::watch_git);
        let outcome = sandbox::run(job, &context.cancel, context.on_output.clone()).await;
        let mut result = describe(&outcome, &self.limits, "(no output)", |_| String::new());
        if let Some(note) = git.and_then(GitWatch::settle) {
            result.text = format!("{}\n{note}", result.text);
        }
        result.tier = Some(self.tier.name().to_owned());
        result
    }
}
