//! `--approve`: who is asked before a call acts outward, and the question on a terminal.
//!
//! The deck asks in a dialog of its own. Without a terminal nobody is asked, and such a call is refused.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use async_trait::async_trait;
use clap::ValueEnum;

use crate::text::visible;
use crate::tools::approval::{self, Approval, Approvals, Approver, Consent};

/// The flag's values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Refuse what would have to be asked
    Never,
    /// Ask in the deck or on the terminal; refuse where there is neither
    #[default]
    Ask,
    /// Let go ahead what stays in the sandbox; as for the rest, ask
    Sandboxed,
}

impl From<Mode> for approval::Mode {
    fn from(mode: Mode) -> approval::Mode {
        match mode {
            Mode::Never => approval::Mode::Never,
            Mode::Ask => approval::Mode::Ask,
            Mode::Sandboxed => approval::Mode::Sandboxed,
        }
    }
}

/// Approvals of a command without a screen: asked on stderr, answered on stdin, where both are a terminal.
pub fn at_the_terminal(mode: Mode) -> Arc<Approvals> {
    let there = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    Arc::new(Approvals::new(mode.into(), there.then(|| Arc::new(Terminal) as Arc<dyn Approver>)))
}

struct Terminal;

#[async_trait]
impl Approver for Terminal {
    async fn approve(&self, approval: &Approval) -> Consent {
        let question = question(approval);
        let asked = tokio::task::spawn_blocking(move || {
            let _ = write!(std::io::stderr(), "{question}");
            let mut line = String::new();
            // Nothing read is no consent.
            let _ = std::io::stdin().read_line(&mut line);
            consent(&line)
        });
        asked.await.unwrap_or(Consent::No)
    }
}

fn question(approval: &Approval) -> String {
    let place = if approval.sandboxed { " in the sandbox" } else { "" };
    format!(
        "\ntillerman: {} wants to act outward{place}; this session has met text from outside and private data.\n\
         {}\nType `once`, `session` (this exact call until the session ends) or `no`: ",
        approval.tool,
        visible(&approval.arguments.to_string()),
    )
}

/// Whole words, because what was typed ahead must not consent by chance.
fn consent(line: &str) -> Consent {
    match line.trim() {
        "once" => Consent::Once,
        "session" => Consent::Session,
        _ => Consent::No,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tools::Effects;

    #[test]
    fn only_whole_words_consent_and_nothing_hides() {
        for (line, expected) in [
            ("once\n", Consent::Once),
            ("session\n", Consent::Session),
            ("y\n", Consent::No),
            ("yes once\n", Consent::No),
            ("", Consent::No),
        ] {
            assert_eq!(consent(line), expected, "{line:?}");
        }
        let arguments = json!({ "command": "ls\u{202e} \u{1b}[2K\u{e0041}" });
        let effects = Effects { acts_outward: true, ..Effects::default() };
        let asked = question(&Approval { tool: "shell".into(), arguments, effects, sandboxed: true });
        assert!(asked.contains(r#"{"command":"ls\u202e \u001b[2K\udb40\udc41"}"#), "{asked}");
        assert_eq!(crate::text::safe(&asked), asked);
    }
}
