//! Who may act outward, and when a person is asked first.
//!
//! The danger is three things together: text somebody else wrote, something private, and a way out. Each alone
//! is harmless, two of them are; the third asks. [`Taint`] says which of the first two a session has met, a
//! fold of what each call said of itself ([`Effects`]); the way out is the call at hand. No text is judged
//! here and no model is believed. What a person pastes into a question is theirs and counts as nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::{Effects, ToolFault, ToolResult};

/// What has entered a session's context so far. Bits are only ever set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taint {
    /// Text that somebody else wrote: a page, a file, an MCP server's answer.
    pub outside: bool,
    /// Something that belongs to the person alone was read.
    pub private: bool,
}

impl Taint {
    pub fn is_clean(&self) -> bool {
        *self == Taint::default()
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: Taint) -> Taint {
        Taint { outside: self.outside || other.outside, private: self.private || other.private }
    }

    /// After a call of these effects gave its result.
    #[must_use]
    pub fn after(self, effects: Effects) -> Taint {
        self.with(Taint { outside: effects.brings_outside_text, private: effects.reads_private })
    }

    /// Whether a call asks first. What it would read itself counts; what it would bring in comes too late to
    /// have planned it.
    pub fn asks(self, effects: Effects) -> bool {
        effects.acts_outward && self.outside && (self.private || effects.reads_private)
    }
}

/// One call that asks first, as it would run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    pub tool: String,
    pub arguments: Value,
    pub effects: Effects,
    /// It runs in the sandbox: no network, nothing of the machine but the workspace.
    pub sandboxed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    Once,
    /// This tool with exactly these arguments, until the session or the program ends.
    Session,
    No,
}

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Person,
    /// What a person said of the same command earlier in the session.
    Earlier,
    /// The mode the program was started in.
    Mode,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub consent: Consent,
    pub by: By,
}

/// What `--approve` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Refuse every act that would have to be asked about.
    Never,
    /// Ask; where there is nobody to ask (no terminal), refuse.
    #[default]
    Ask,
    /// Let go ahead what stays in the sandbox, ask about the rest.
    Sandboxed,
}

/// The person's end: a dialog in the deck, two lines on a terminal.
#[async_trait]
pub trait Approver: Send + Sync {
    /// Show the call and wait for the word. Dropped when the query is cancelled.
    async fn approve(&self, approval: &Approval) -> Consent;
}

/// The mode, the person if there is one, and what was allowed for a session. One for the whole program.
#[derive(Default)]
pub struct Approvals {
    mode: Mode,
    person: Option<Arc<dyn Approver>>,
    /// (session, tool, arguments as they stand).
    allowed: Mutex<HashSet<(String, String, String)>>,
}

impl Approvals {
    pub fn new(mode: Mode, person: Option<Arc<dyn Approver>>) -> Approvals {
        Approvals { mode, person, allowed: Mutex::default() }
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Decide on one call of a session.
    pub async fn decide(&self, session: &str, approval: &Approval) -> Answer {
        let exact = (session.to_string(), approval.tool.clone(), approval.arguments.to_string());
        let by_mode = |consent| Answer { consent, by: By::Mode };
        match (self.mode, &self.person) {
            (Mode::Never, _) => by_mode(Consent::No),
            (Mode::Sandboxed, _) if approval.sandboxed => by_mode(Consent::Once),
            _ if self.lock().contains(&exact) => Answer { consent: Consent::Session, by: By::Earlier },
            (_, None) => by_mode(Consent::No),
            (_, Some(person)) => {
                let consent = person.approve(approval).await;
                if consent == Consent::Session {
                    self.lock().insert(exact);
                }
                Answer { consent, by: By::Person }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<(String, String, String)>> {
        self.allowed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that waits, and where its answer goes.
pub type Asked = (Approval, oneshot::Sender<Answer>);

/// Where a toolbox asks; who hands in none refuses everything that would have to be asked.
pub type Asks = mpsc::UnboundedSender<Asked>;

/// Ask, and wait for the word.
///
/// # Errors
/// The result a refused call has instead: a turn the planner can go on from.
pub async fn ask(asks: Option<&Asks>, approval: Approval) -> Result<(), ToolResult> {
    let tool = approval.tool.clone();
    let (reply, word) = oneshot::channel();
    let sent = asks.is_some_and(|asks| asks.send((approval, reply)).is_ok());
    let answer = if sent { word.await.ok() } else { None };
    let answer = answer.unwrap_or(Answer { consent: Consent::No, by: By::Mode });
    match answer.consent {
        Consent::Once | Consent::Session => Ok(()),
        Consent::No => Err(refusal(&tool, answer.by)),
    }
}

fn refusal(tool: &str, by: By) -> ToolResult {
    let why = match by {
        By::Person | By::Earlier => "the person said no; answer from what is known, or plan without it",
        By::Mode => {
            "nobody was there to allow it; answer from what is known, or ask again in the deck or on a \
             terminal with --approve ask"
        }
    };
    let text = format!(
        "{tool} was not run: it acts outward, and this session has met both text from outside and private \
         data; {why}"
    );
    ToolResult::fault(ToolFault::Refused, text)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_three_together_ask() {
        let bits = |n: u8| Effects {
            reads_private: n & 1 > 0,
            brings_outside_text: n & 2 > 0,
            acts_outward: n & 4 > 0,
        };
        for taint in 0..4u8 {
            let taint = Taint { outside: taint & 1 > 0, private: taint & 2 > 0 };
            for effects in (0..8).map(bits) {
                let private = taint.private || effects.reads_private;
                let expected = effects.acts_outward && taint.outside && private;
                assert_eq!(taint.asks(effects), expected, "{taint:?} {effects:?}");
                // Bits are only set, and setting them twice changes nothing.
                let after = taint.after(effects);
                assert_eq!(after.with(taint), after);
                assert_eq!(after.after(effects), after);
            }
        }
    }

    /// Answers as told, and counts how often it was asked.
    struct Says(Consent, AtomicUsize);

    #[async_trait]
    impl Approver for Says {
        async fn approve(&self, _: &Approval) -> Consent {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0
        }
    }

    fn act(url: &str, sandboxed: bool) -> Approval {
        let effects = Effects { acts_outward: true, ..Effects::default() };
        Approval { tool: "web".into(), arguments: json!({ "url": url }), effects, sandboxed }
    }

    #[tokio::test]
    async fn the_mode_decides_where_it_can() {
        let person = |consent| Arc::new(Says(consent, AtomicUsize::new(0)));
        let decide = async |mode, person: Option<Arc<Says>>, sandboxed| {
            let approvals = Approvals::new(mode, person.map(|p| p as Arc<dyn Approver>));
            let answer = approvals.decide("s", &act("x", sandboxed)).await;
            (answer.consent, answer.by)
        };
        let willing = || Some(person(Consent::Once));
        assert_eq!(decide(Mode::Never, willing(), true).await, (Consent::No, By::Mode));
        assert_eq!(decide(Mode::Ask, None, true).await, (Consent::No, By::Mode));
        assert_eq!(decide(Mode::Ask, willing(), true).await, (Consent::Once, By::Person));
        assert_eq!(decide(Mode::Sandboxed, None, true).await, (Consent::Once, By::Mode));
        assert_eq!(decide(Mode::Sandboxed, None, false).await, (Consent::No, By::Mode));
        assert_eq!(decide(Mode::Sandboxed, willing(), false).await, (Consent::Once, By::Person));
    }

    #[tokio::test]
    async fn for_the_session_means_this_exact_command_in_this_session() {
        let says = Arc::new(Says(Consent::Session, AtomicUsize::new(0)));
        let approvals = Approvals::new(Mode::Ask, Some(says.clone()));
        let asked = async |session, url| {
            let before = says.1.load(Ordering::SeqCst);
            let answer = approvals.decide(session, &act(url, false)).await;
            assert_eq!(answer.consent, Consent::Session);
            assert_eq!(answer.by == By::Person, says.1.load(Ordering::SeqCst) > before);
            answer.by == By::Person
        };
        assert!(asked("one", "a").await);
        assert!(!asked("one", "a").await);
        assert!(asked("one", "a ").await, "not the same command");
        assert!(asked("two", "a").await, "not the same session");
        assert!(!asked("one", "a").await);
    }

    #[tokio::test]
    async fn without_anybody_to_ask_it_is_refused() {
        let refused = ask(None, act("x", false)).await.unwrap_err();
        assert_eq!(refused.fault, Some(ToolFault::Refused));
        assert!(refused.text.contains("--approve ask"), "{}", refused.text);
        let (asks, receiver) = mpsc::unbounded_channel();
        drop(receiver);
        assert!(ask(Some(&asks), act("x", false)).await.is_err());
    }
}
