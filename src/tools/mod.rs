//! Effects on the world: the Tool trait, tool cards and the toolbox.
//!
//! A tool never fails the program: whatever happens becomes a [`ToolResult`]. Tools know no planner.

pub mod approval;
pub mod base;
pub mod calculator;
pub mod files;
pub mod mcp;
pub mod net;
pub mod python;
pub mod ran;
pub mod sandbox;
pub mod schema;
pub mod search;
pub mod shell;
pub mod workspace;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::engine::{Completion, Engine, OnPiece, Request};

pub use approval::{Answer, Approval, Approvals, Approver, Consent, Taint};

/// What a planner and an executor may know about a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCard {
    pub name: String,
    /// What it is for, one sentence.
    pub purpose: String,
    /// The same in a few words, for the compact prompt pack.
    pub brief: String,
    /// JSON schema of the arguments (type object, properties, required).
    pub schema: Value,
    pub examples: Vec<ToolExample>,
    /// What it cannot do and where it stops, one sentence each.
    pub limits: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolExample {
    pub arguments: Value,
    pub result: String,
}

impl ToolExample {
    pub fn new(arguments: Value, result: &str) -> ToolExample {
        ToolExample { arguments, result: result.into() }
    }
}

/// Why a tool gave no proper result. A turn, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolFault {
    /// The arguments do not fit the card's schema, or are no JSON.
    BadArguments,
    /// The tool ran and failed (division by zero, an exception, exit code not 0).
    Failed,
    /// It ran into a limit (time, memory, output).
    Limit,
    /// No tool of that name is registered.
    Unknown,
    Cancelled,
    /// It would have acted outward and was not allowed to.
    Refused,
}

/// What came back from the world, as recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolResult {
    /// Result text, or what went wrong, in words a model can act on.
    pub text: String,
    pub fault: Option<ToolFault>,
    /// Exit code of a child process, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// Sandbox tier the call ran in, where there was one ("A" ...).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Where the text came from (files, URLs), for citation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// What the call touched; nothing where it did not run.
    #[serde(default, skip_serializing_if = "Effects::is_none")]
    pub effects: Effects,
    pub time_ms: f64,
    /// Model calls the tool made itself (the base generator), for the record.
    #[serde(skip)]
    pub calls: Vec<(Request, Completion)>,
}

impl ToolResult {
    pub fn ok(text: impl Into<String>) -> ToolResult {
        ToolResult { text: text.into(), ..ToolResult::default() }
    }

    pub fn fault(fault: ToolFault, text: impl Into<String>) -> ToolResult {
        ToolResult { text: text.into(), fault: Some(fault), ..ToolResult::default() }
    }
}

/// What a call may use besides its arguments.
#[derive(Clone, Default)]
pub struct ToolContext {
    pub cancel: CancellationToken,
    /// Live output, where the tool has any.
    pub on_output: Option<OnPiece>,
    /// Seed for tools that sample (the base generator).
    pub seed: u64,
    /// What the session has met before this call.
    pub taint: Taint,
    /// Where a call that must be allowed first asks; None: it is refused.
    pub asks: Option<approval::Asks>,
}

/// What one call touches. Said by the tool itself and never derived from what a model claims: the rule that an
/// outward act asks first, once outside text and private reading have met, is decided on these three bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effects {
    /// Reads what belongs to the person alone: the workspace, a file, an MCP resource.
    pub reads_private: bool,
    /// Brings text into the context that somebody else wrote: a page, a search result, an MCP server's answer.
    pub brings_outside_text: bool,
    /// Can carry something out or change the world: a request whose address or body a model chose, a write.
    pub acts_outward: bool,
}

impl Effects {
    pub fn is_none(&self) -> bool {
        *self == Effects::default()
    }
}

#[async_trait]
pub trait Tool: Send + Sync {
    fn card(&self) -> &ToolCard;

    /// What this call would touch. The default touches nothing beyond its own answer.
    fn effects(&self, _arguments: &Value) -> Effects {
        Effects::default()
    }

    /// The tier of the sandbox its calls run in; None: they run in none.
    fn sandbox(&self) -> Option<&str> {
        None
    }

    /// Run once. `arguments` already fit the card's schema.
    async fn call(&self, arguments: &Value, context: &ToolContext) -> ToolResult;
}

/// A tool that could not be registered here, and what would change that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    pub name: String,
    pub reason: String,
    pub remedy: String,
}

/// How long a cancelled call may take to end what it started: above the sandbox's own patience with a child.
const GRACE: std::time::Duration = std::time::Duration::from_secs(25);

/// The tools of this machine, in the order their cards are shown.
#[derive(Clone, Default)]
pub struct Toolbox {
    pub tools: Vec<Arc<dyn Tool>>,
    pub refused: Vec<Refused>,
}

impl Toolbox {
    /// Register a tool, or keep why it cannot be.
    fn add<T: Tool + 'static>(&mut self, made: Result<T, Refused>) {
        match made {
            Ok(tool) => self.tools.push(Arc::new(tool)),
            Err(refused) => self.refused.push(refused),
        }
    }

    pub fn get(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.tools.iter().find(|tool| tool.card().name == name)
    }

    pub fn names(&self) -> Vec<&str> {
        self.tools.iter().map(|tool| tool.card().name.as_str()).collect()
    }

    /// Check the arguments, ask where the rule says so, run the tool, take the time (without the asking).
    /// Every call from anywhere goes through here.
    pub async fn run(&self, name: &str, arguments: &Value, context: &ToolContext) -> ToolResult {
        let Some(tool) = self.get(name) else {
            let text = format!("no tool is called {name:?}; tools: {}", self.names().join(", "));
            return ToolResult::fault(ToolFault::Unknown, text);
        };
        if let Err(reason) = schema::check(&tool.card().schema, arguments) {
            return ToolResult::fault(ToolFault::BadArguments, reason);
        }
        let (effects, sandboxed) = (tool.effects(arguments), tool.sandbox().is_some());
        let allowed_call = async {
            if context.taint.asks(effects) {
                let (tool, arguments) = (name.to_string(), arguments.clone());
                let approval = Approval { tool, arguments, effects, sandboxed };
                approval::ask(context.asks.as_ref(), approval).await?;
            }
            let started = std::time::Instant::now();
            let mut result = tool.call(arguments, context).await;
            result.time_ms = started.elapsed().as_secs_f64() * 1e3;
            result.effects = effects;
            Ok(result)
        };
        tokio::pin!(allowed_call);
        let ended = tokio::select! {
            biased;
            ended = &mut allowed_call => Some(ended),
            // One that runs programs heard the same word, and has processes to end and files to put right:
            // dropped now, it could not.
            () = context.cancel.cancelled(), if sandboxed => tokio::time::timeout(GRACE, allowed_call).await.ok(),
            () = context.cancel.cancelled(), if !sandboxed => None,
        };
        match ended {
            Some(result) => result.unwrap_or_else(|refused| refused),
            None => ToolResult::fault(ToolFault::Cancelled, "cancelled"),
        }
    }

    /// What a person must know of that sandbox before relying on it.
    pub fn sandbox_lacks(&self) -> Option<&'static str> {
        let weak = [sandbox::Tier::C, sandbox::Tier::S].into_iter();
        weak.filter(|tier| self.sandbox() == Some(tier.name())).find_map(sandbox::Tier::lacks)
    }

    /// The tier of the sandbox that model-written code runs in; None: there is no tool that runs any.
    pub fn sandbox(&self) -> Option<&str> {
        self.tools.iter().find_map(|tool| tool.sandbox())
    }
}

/// What the tools of a session are built from.
pub struct StandardOptions {
    /// For the base generator; None leaves it out.
    pub engine: Option<Arc<dyn Engine>>,
    /// The base generator's messages for a sub-goal.
    pub base_prompt: base::BasePrompt,
    /// Name and text of the bundled knowledge; every line is a passage.
    pub knowledge: Vec<(String, String)>,
    /// Folders of the user's to search in.
    pub folders: Vec<PathBuf>,
    /// The folder python programs can read as `data/`.
    pub data: Option<PathBuf>,
    /// That folder is the person's own, not the bundled one.
    pub data_private: bool,
    /// The folder the person lets tools work in.
    pub workspace: Option<workspace::Workspace>,
    pub files: bool,
    pub shell: bool,
    /// The tillerman binary; [`sandbox_exe`] in the program, another path in tests.
    pub sandbox_exe: PathBuf,
    pub python: bool,
}

/// This very binary, whatever happens to its file.
pub fn sandbox_exe() -> PathBuf {
    if cfg!(target_os = "linux") {
        PathBuf::from("/proc/self/exe")
    } else {
        std::env::current_exe().unwrap_or_default()
    }
}

/// calculator, search, python, what the person switched on, and base, in this order; what cannot work here is
/// refused with a reason. Reads the folders and tries the sandbox out, so it takes about 0.2 s.
pub fn standard(options: StandardOptions) -> Toolbox {
    let mut toolbox = Toolbox::default();
    toolbox.tools.push(Arc::new(calculator::Calculator::new()));
    let lines = options.knowledge.into_iter().map(|(name, text)| search::Source::Lines { name, text });
    let sources = lines.chain(options.folders.into_iter().map(search::Source::Folder)).collect();
    match search::SearchIndex::build(sources) {
        Ok(index) => toolbox.tools.push(Arc::new(search::SearchTool::new(Arc::new(index)))),
        Err(error) => toolbox.refused.push(Refused {
            name: "search".into(),
            reason: error.to_string(),
            remedy: "name folders that can be read".into(),
        }),
    }
    if options.python {
        let python = python::Python::new(options.sandbox_exe.clone(), options.data);
        let python = python.map(|python| python.reading_private(options.data_private));
        toolbox.add(match options.workspace.clone() {
            Some(workspace) => python.and_then(|python| python.in_workspace(workspace)),
            None => python,
        });
    }
    if let Some(workspace) = options.workspace.as_ref().filter(|_| options.files) {
        toolbox.add(files::Files::new(workspace));
    }
    if options.shell {
        toolbox.add(shell::Shell::new(options.sandbox_exe, options.workspace));
    }
    if let Some(engine) = options.engine {
        toolbox.tools.push(Arc::new(base::Base::new(engine, options.base_prompt)));
    }
    toolbox
}
