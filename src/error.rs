//! The errors of the whole program: one variant per boundary crossed, the remedy in the text.
//!
//! A failed tool, a refused plan or bad model text is data (a turn), never one of these.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The last cause of an error says what happened; those around it say only where.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// What went wrong at which boundary. `Display` names what, where and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("store: {0}")]
    Store(String),
    #[error("config: {0}")]
    Config(String),
    #[error("terminal: {0}")]
    Terminal(String),
    #[error("tool: {0}")]
    Tool(String),
    #[error("train: {0}")]
    Train(String),
    /// The command line asked for something that cannot be.
    #[error("{0}")]
    Usage(String),
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The exit code of the CLI contract: 1 failed, 2 usage, 3 model/engine, 4 store, 130 interrupted.
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Engine(EngineError::Cancelled) | Error::Interrupted => 130,
            Error::Engine(_) => 3,
            Error::Store(_) => 4,
            Error::Config(_) | Error::Usage(_) => 2,
            Error::Terminal(_) | Error::Tool(_) | Error::Train(_) => 1,
        }
    }
}

/// What an engine can fail with. Crosses the worker's pipe, so it is plain data.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum EngineError {
    #[error(
        "model file {path:?} does not exist; give another with --model PATH or `tillerman model use PATH`"
    )]
    ModelMissing { path: PathBuf },
    /// The safe pre-check or llama.cpp refused the file.
    #[error("model file {path:?} refused: {reason}")]
    ModelRefused { path: PathBuf, reason: String },
    #[error(
        "the prompt needs {needed} tokens, the context holds {available}; start a new conversation, shorten the question or raise engine.context"
    )]
    ContextOverflow { needed: usize, available: usize },
    #[error(
        "not enough memory: {needed_mb} MB needed, {free_mb} MB free; use a smaller model or quantisation, or lower engine.context"
    )]
    OutOfMemory { needed_mb: u64, free_mb: u64 },
    /// The worker process ended by itself.
    #[error("the engine worker died {how} while {phase}; {}{}", if foreign(.how) { FOREIGN } else { "it restarts with the next query" }, stderr_suffix(.stderr))]
    Died { how: String, phase: String, stderr: String },
    /// No worker is started for now: it would die like those before it.
    #[error(
        "the worker died {deaths} times within a minute and is left alone for {wait} s; try a smaller context or another model, and see engine.log in the logs folder"
    )]
    LeftAlone { deaths: usize, wait: u64 },
    #[error("adapter {path:?} refused: {reason}")]
    Adapter { path: PathBuf, reason: String },
    #[error("chat template: {0}; name another with engine.chat_template in the config")]
    Template(String),
    #[error("grammar: {0}")]
    Grammar(String),
    #[error("engine protocol: {0}; this is a bug, please report it")]
    Protocol(String),
    /// An engine elsewhere could not answer; `engine` is its name in the settings.
    #[error("remote engine {engine}: {fault}")]
    Remote { engine: String, fault: RemoteFault },
    #[error("cancelled")]
    Cancelled,
    #[error("engine: {0}")]
    Other(String),
}

impl EngineError {
    /// What happened and what helps, apart: whoever shows both says nothing twice.
    pub fn told(&self) -> (String, String) {
        let text = self.to_string();
        let help = match self {
            EngineError::Died { how, phase, stderr } => {
                let reason = format!("the engine worker died {how} while {phase}{}", stderr_suffix(stderr));
                let help = if foreign(how) { FOREIGN } else { "ask again: the worker restarts by itself" };
                return (reason, help.to_string());
            }
            // Their own text ends with it.
            EngineError::ModelMissing { .. }
            | EngineError::ContextOverflow { .. }
            | EngineError::OutOfMemory { .. }
            | EngineError::LeftAlone { .. }
            | EngineError::Template(_) => match text.rsplit_once("; ") {
                Some((reason, remedy)) => return (reason.to_string(), remedy.to_string()),
                None => "see `tillerman doctor`",
            },
            EngineError::ModelRefused { .. } => "choose another file with `tillerman model use PATH`",
            _ => "see `tillerman doctor`",
        };
        (text, help.to_string())
    }
}

/// Builds are for the machine they were made on.
const FOREIGN: &str = "as a rule this program was built for another CPU: build it on this machine (`cargo clean`, then `make run`)";

/// True of a death by an instruction that the CPU does not have.
fn foreign(how: &str) -> bool {
    how.contains("SIGILL")
}

/// What kept a remote engine from answering. No text in it holds a key.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum RemoteFault {
    #[error("no key: {0}")]
    Key(String),
    #[error("cannot reach {host}: {why}; is it running, and is `url` right?")]
    Unreachable { host: String, why: String },
    #[error("{host} answered {status}: {why}{}", status_remedy(*.status))]
    Refused { host: String, status: u16, why: String },
    #[error("{host} sent {what} for {seconds} s; try again, or raise {setting}")]
    Silent { host: String, what: String, seconds: u64, setting: String },
    #[error("{host} broke the connection off in the middle of its reply; try again")]
    Cut { host: String },
    #[error("{host} sent what the chat API does not know: {what}; is `url` the base address, with /v1?")]
    Garbled { host: String, what: String },
    #[error("{0}")]
    Unable(String),
}

fn status_remedy(status: u16) -> &'static str {
    match status {
        401 | 403 => "; check the key that key_env or key_file names",
        404 => "; check `url` (it ends with /v1 for most endpoints) and `model`",
        429 => "; wait, lower `parallel`, or raise `retries`",
        500..=599 => "; the fault is on its side: try again later",
        _ => "",
    }
}

fn stderr_suffix(stderr: &str) -> String {
    let tail = stderr.trim();
    if tail.is_empty() { String::new() } else { format!("; its last words: {tail}") }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_is_said_once() {
        let stderr = "ggml_abort; aborted".to_string();
        let told = |error: EngineError| {
            let (reason, remedy) = error.told();
            format!("{reason}; {remedy}")
        };
        let died = |stderr| EngineError::Died { how: "of signal 9".into(), phase: "decoding".into(), stderr };
        let silent = told(died(String::new()));
        assert_eq!(
            silent,
            "the engine worker died of signal 9 while decoding; ask again: the worker restarts by itself"
        );
        let last_words = told(died(stderr));
        assert!(last_words.contains("its last words: ggml_abort; aborted; ask again"), "{last_words}");
        for error in [
            EngineError::ContextOverflow { needed: 9, available: 5 },
            EngineError::OutOfMemory { needed_mb: 9, free_mb: 5 },
            EngineError::ModelMissing { path: "/a; b.gguf".into() },
            EngineError::LeftAlone { deaths: 3, wait: 9 },
            EngineError::Template("it does not parse".into()),
        ] {
            // Put together again it is what is said where there is one line for both.
            assert_eq!(told(error.clone()), error.to_string());
            assert!(!error.told().1.is_empty());
        }
        let foreign =
            EngineError::Died { how: "by SIGILL".into(), phase: "decoding".into(), stderr: "".into() };
        assert!(foreign.to_string().contains("built for another CPU"), "{foreign}");
        assert_eq!(told(foreign.clone()), foreign.to_string());
        let bug = told(EngineError::Protocol("?".into()));
        assert!(bug.ends_with("see `tillerman doctor`"), "{bug}");
    }
}
