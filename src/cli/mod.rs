//! The command line: one file per command, this one names them all.
//!
//! The contract (names, flags, exit codes) is relied on by scripts; see ARCHITECTURE in the README.

pub mod adapters;
mod approve;
pub mod ask;
pub mod bench;
pub mod completions;
pub mod deck;
mod deck_approve;
mod deck_files;
mod deck_parts;
mod deck_servers;
mod deck_sinks;
mod deck_turn;
pub mod doctor;
pub mod eval;
pub mod export;
pub mod export_rows;
mod found;
pub mod label;
pub mod library;
mod lines;
mod mcp;
pub mod model;
mod models;
pub mod network;
mod offers;
pub mod plain;
pub mod pull;
mod remote;
pub mod replay;
pub mod reproduce;
pub mod rollout;
pub mod sessions;
pub mod setup;
pub mod shipped;
pub mod show;
mod standing;
mod study;
mod study_views;
pub mod tool;
pub mod toy_gguf;
pub mod train;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum as _};

use crate::error::Error;
use crate::flow::event::Cause;
use crate::store::StoreError;

/// Agents on your own machine that get better by use: AgentFlow on a local GGUF model, in a terminal deck.
#[derive(Debug, Parser)]
#[command(name = "tillerman", version, about, long_about = None, arg_required_else_help = false)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 model or engine, 4 store, 130 interrupted.")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    /// Continue an earlier session in the deck
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Lines that are only ever added instead of the deck, for screen readers and pipes: a question a line
    #[arg(long)]
    pub plain: bool,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options every command takes.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// GGUF model file to use (default: the config's, else the embedded planner)
    #[arg(long, global = true, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// Adapter for the planner: an id, a file, or `none` (default: the one that serves, see `adapters`)
    #[arg(long, global = true, value_name = "ID")]
    pub adapter: Option<String>,
    /// Data directory (default: the platform's)
    #[arg(long, global = true, value_name = "DIR", env = "TILLERMAN_HOME")]
    pub home: Option<PathBuf>,
    /// Seed of everything sampled (default: drawn and recorded)
    #[arg(long, global = true, value_name = "N")]
    pub seed: Option<u64>,
    /// Settings file (default: config.toml in the data directory)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Open no socket, whatever the settings switch on
    #[arg(long, global = true)]
    pub offline: bool,
    /// Folder the search tool indexes and the python tool reads; may be given several times
    #[arg(long, global = true, value_name = "DIR")]
    pub folder: Vec<PathBuf>,
    /// Folder the file tools may read (default: the config's, else none)
    #[arg(long, global = true, value_name = "DIR")]
    pub workspace: Option<PathBuf>,
    /// Calls that act outward once text from outside and private data are both in a session
    #[arg(long, global = true, value_name = "MODE", value_enum, default_value_t)]
    pub approve: approve::Mode,
}

impl Global {
    /// The same as flags, for this program in a process of its own: what was asked of the one holds for the other.
    pub fn flags(&self) -> Vec<OsString> {
        // Named one by one, so that no flag to come is forgotten here.
        let Global { model, adapter, home, seed, config, offline, folder, workspace, approve } = self;
        let mut flags = Vec::new();
        let mut add = |flag: &str, value: Option<OsString>| {
            if let Some(value) = value {
                flags.extend([OsString::from(flag), value]);
            }
        };
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.clone().into_os_string());
        add("--model", path(model));
        add("--adapter", adapter.as_ref().map(OsString::from));
        add("--home", path(home));
        add("--seed", seed.map(|seed| seed.to_string().into()));
        add("--config", path(config));
        folder.iter().for_each(|folder| add("--folder", Some(folder.clone().into_os_string())));
        add("--workspace", path(workspace));
        add("--approve", approve.to_possible_value().map(|value| value.get_name().into()));
        if *offline {
            flags.push("--offline".into());
        }
        flags
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer one query: the answer on stdout, progress on stderr
    Ask(ask::AskArgs),
    /// What was asked, newest first
    Sessions(sessions::SessionsArgs),
    /// One trajectory, turn by turn
    Show(show::ShowArgs),
    /// A recorded trajectory on its own clock
    Replay(replay::ReplayArgs),
    /// Say whether an answer, a plan or a turn was good
    Label(label::LabelArgs),
    /// A group of trajectories of one question, run together, for labelling and training
    Rollout(rollout::RolloutArgs),
    /// What was learned, which of it serves, files in and out
    Adapters(adapters::AdaptersArgs),
    /// Trajectories into a file
    Export(export::ExportArgs),
    /// Trajectories from a file
    Import(export::ImportArgs),
    /// Tools by hand: list their cards, run one
    Tool(tool::ToolArgs),
    /// Models: what is served, use another, check a file
    Model(model::ModelArgs),
    /// What works here: engine, devices, sandbox tier, store, terminal
    Doctor(doctor::DoctorArgs),
    /// Teach the planner: labelled groups, or tasks with a checker, become an adapter
    Train(train::TrainArgs),
    /// Answer every question of a task file and score the answers
    Eval(eval::EvalArgs),
    /// Engine, flow and screen figures of this machine
    Bench(bench::BenchArgs),
    /// Shell completions on stdout
    Completions(completions::CompletionsArgs),
    /// The man page on stdout: of the program, or of one of its commands
    Man(completions::ManArgs),
    /// The engine worker (started by the program itself)
    #[command(name = "__engine", hide = true)]
    Engine,
    /// The training worker: one step (started by the program itself)
    #[command(name = "__train", hide = true)]
    TrainWorker,
    /// The sandbox child (started by the program itself)
    #[command(name = "__sandbox", hide = true)]
    Sandbox,
    /// Main text of a web page, stdin to stdout (started by the program itself)
    #[command(name = "__page", hide = true)]
    Page,
    /// Become an MCP server's program (started by the program itself)
    #[command(name = "__mcp", hide = true)]
    Mcp {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        argv: Vec<OsString>,
    },
    /// A random-weight model file, for tests and benchmarks
    #[command(name = "__toy-gguf", hide = true)]
    ToyGguf(toy_gguf::ToyGgufArgs),
    /// Training steps on one model, measured (started by `bench`)
    #[command(name = "__bench-steps", hide = true)]
    BenchSteps(bench::train::StepsArgs),
    /// The deck on a scripted feeder, for looking at it without a model
    #[command(name = "__deck-demo", hide = true)]
    DeckDemo,
    /// Record the scripted teacher through the real loop as training rows
    #[command(name = "__export-rows", hide = true)]
    ExportRows(export_rows::ExportRowsArgs),
    /// Tables and pictures of what scripts/reproduce.sh measured
    #[command(name = "__reproduce-report", hide = true)]
    ReproduceReport(reproduce::ReproduceReportArgs),
    /// Pack a run's adapter as the one the embedded planner comes with
    #[command(name = "__ship-adapter", hide = true)]
    ShipAdapter(shipped::ShipArgs),
}

/// Run the command line; answers the exit code.
pub fn main() -> i32 {
    // Re-executed children come first: they must not pay for, or depend on, anything of the deck.
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return code;
        }
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tillerman: {}", crate::text::safe(&format!("{error:#}")));
            exit_code(&error)
        }
    }
}

/// The code of the program's own errors, 1 for anything else.
fn exit_code(error: &anyhow::Error) -> i32 {
    match (error.downcast_ref::<Error>(), error.downcast_ref::<StoreError>()) {
        (Some(error), _) => error.exit_code(),
        (None, Some(error)) => error.exit_code(),
        (None, None) => 1,
    }
}

fn run(cli: Cli) -> anyhow::Result<i32> {
    let global = &cli.global;
    match cli.command {
        Some(Command::Engine) => Ok(crate::engine::worker::run()),
        Some(Command::TrainWorker) => Ok(crate::train::worker::run()),
        Some(Command::Train(args)) => block(train::run(global, &args)),
        Some(Command::Page) => Ok(crate::tools::net::extract::child()),
        Some(Command::Sandbox) => Ok(crate::tools::sandbox::child::run()),
        Some(Command::Mcp { argv }) => Ok(crate::tools::mcp::child::become_server(&argv)),
        Some(Command::Ask(args)) => block(ask::run(global, &args)),
        Some(Command::Sessions(args)) => sessions::run(global, &args),
        Some(Command::Show(args)) => show::run(global, &args),
        Some(Command::Replay(args)) => replay::run(global, &args),
        Some(Command::Label(args)) => label::run(global, &args),
        Some(Command::Rollout(args)) => block(rollout::run(global, &args)),
        Some(Command::Adapters(args)) => adapters::run(global, &args),
        Some(Command::Export(args)) => export::export(global, &args),
        Some(Command::Import(args)) => export::import(global, &args),
        Some(Command::Tool(args)) => block(tool::run(global, &args)),
        Some(Command::Model(args)) => block(model::run(global, &args)),
        Some(Command::Doctor(args)) => block(doctor::run(global, &args)),
        Some(Command::Eval(args)) => block(eval::run(global, &args)),
        Some(Command::Bench(args)) => block(bench::run(global, &args)),
        Some(Command::Completions(args)) => completions::run(&args),
        Some(Command::Man(args)) => completions::man(&args),
        Some(Command::ToyGguf(args)) => Ok(toy_gguf::run(&args).map(|()| 0)?),
        Some(Command::BenchSteps(args)) => bench::train::steps(&args),
        Some(Command::DeckDemo) => Ok(crate::deck::demo::run().map(|()| 0)?),
        Some(Command::ExportRows(args)) => block(export_rows::run(&args)),
        Some(Command::ReproduceReport(args)) => reproduce::run(&args),
        Some(Command::ShipAdapter(args)) => shipped::run(&args),
        None if cli.plain => block(lines::run(global, cli.session.as_deref())),
        None if ask::is_terminal() => deck::run(global, deck::Start::Chat(cli.session)),
        None => block(ask::sample(global)),
    }
}

/// The exit code a failed query ends with.
fn failure_code(cause: Cause) -> i32 {
    match cause {
        Cause::Record => 4,
        Cause::Engine | Cause::EngineDied | Cause::EngineLeftAlone => 3,
        Cause::Limit | Cause::Unknown => 1,
    }
}

/// Run a command's future on a runtime of its own.
fn block(future: impl Future<Output = anyhow::Result<i32>>) -> anyhow::Result<i32> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(future);
    // A tool thread that hangs must not keep the program from ending.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    result
}

/// Cancelled by Ctrl+C.
pub fn cancelled_by_ctrl_c() -> tokio_util::sync::CancellationToken {
    let cancel = tokio_util::sync::CancellationToken::new();
    let interrupt = cancel.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupt.cancel();
        }
    });
    cancel
}

/// What is said where something waits for a step.
pub const WAITS: &str =
    "tillerman: waits for a training step on this data directory to end; Ctrl+C stops waiting";

/// Wait, with words, until no training step computes: what is asked many times over would wait silently.
///
/// # Errors
/// `Error::Interrupted` when cancelled.
pub async fn may_sample(
    setup: &setup::Setup,
    cancel: &tokio_util::sync::CancellationToken,
) -> Result<(), crate::error::Error> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(crate::error::Error::Interrupted),
        _share = setup.flow.engine.cores(&|| eprintln!("{WAITS}")) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_this_program_is_handed_on() {
        let all = [
            "tillerman",
            "--model",
            "m.gguf",
            "--adapter",
            "none",
            "--home",
            "/h",
            "--seed",
            "7",
            "--config",
            "c.toml",
            "--folder",
            "/a",
            "--folder",
            "/b",
            "--workspace",
            "/w",
            "--approve",
            "never",
            "--offline",
        ];
        let asked = Cli::parse_from(all).global;
        let flags = asked.flags();
        assert_eq!(flags, all[1..].iter().map(OsString::from).collect::<Vec<_>>());
        let again = Cli::parse_from(std::iter::once("tillerman".into()).chain(flags)).global;
        assert_eq!(format!("{again:?}"), format!("{asked:?}"));
        assert_eq!(Global::default().flags(), ["--approve", "ask"]);
    }
}
