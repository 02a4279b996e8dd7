//! What the deck and the flow say to each other. The deck knows neither store nor engine: whoever wires
//! it (the command line, the demo, a test) reads commands and sends events.

use std::path::PathBuf;
use std::sync::mpsc::Receiver;

use tokio::sync::mpsc::UnboundedSender;

use crate::deck::library::{LibraryCommand, LibraryEvent, Recording};
use crate::deck::manners::Manners;
use crate::deck::study::{StudyCommand, StudyEvent};
use crate::flow::event::{Event, Progress};
use crate::flow::trajectory::Trajectory;
use crate::tools::{Approval, Consent};

/// The deck's end of the two channels. A closed `events` ends nothing: the deck stays readable.
pub struct DeckHandle {
    pub commands: UnboundedSender<DeckCommand>,
    pub events: Receiver<DeckEvent>,
}

/// What a person asked the program to do. At most one `Ask` is under way; the deck queues the rest.
#[derive(Clone, Debug, PartialEq)]
pub enum DeckCommand {
    /// `conversation` is the session the query belongs to.
    Ask {
        query: String,
        conversation: String,
    },
    /// End the running query at the next point it can end.
    Cancel,
    Label(LabelRequest),
    /// The label on this trajectory's answer holds for so long, as it was typed ("30d", "never"). Answered by a notice.
    Expires {
        trajectory: String,
        after: String,
    },
    /// The word on a call the deck was asked about.
    Approve {
        id: u64,
        consent: Consent,
    },
    /// Look at an MCP server of the settings (empty: the one that waits for it); answered by
    /// `DeckEvent::Server`, or a notice where that cannot be.
    ApproveServer {
        name: String,
    },
    /// Answered by `DeckEvent::Conversation` with the new session.
    NewConversation,
    /// About what is saved.
    Library(LibraryCommand),
    /// About groups, training, adapters and models.
    Study(StudyCommand),
    /// Check what works here; answered by `Checks`.
    Doctor,
    /// Write a setting of the deck into the settings file.
    Remember {
        key: &'static str,
        value: String,
    },
    Quit,
}

/// A person's judgement, with what cannot be reconstructed later.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelRequest {
    pub trajectory: String,
    /// Set when the judgement is about one turn (`scope` Turn).
    pub turn: Option<usize>,
    pub scope: Scope,
    pub value: LabelValue,
    /// What the answer should have been, in the person's words.
    pub correction: Option<String>,
    /// Trajectories whose answers were on the screen when the key was pressed, top to bottom.
    pub shown_set: Vec<String>,
    /// Seconds between the end of the query and the key.
    pub seconds: f64,
}

impl LabelRequest {
    /// A word on one trajectory by itself, wherever it is shown.
    pub fn alone(trajectory: &str, scope: Scope, value: LabelValue) -> LabelRequest {
        LabelRequest {
            trajectory: trajectory.to_string(),
            turn: None,
            scope,
            value,
            correction: None,
            shown_set: vec![trajectory.to_string()],
            seconds: 0.0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Answer,
    Plan,
    Turn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelValue {
    Good,
    Bad,
    /// Take the label of this scope back.
    Clear,
}

/// What happened that the deck should show.
#[expect(clippy::large_enum_variant, reason = "events are moved once, from channel to screen")]
#[derive(Clone, Debug, PartialEq)]
pub enum DeckEvent {
    Flow(Event),
    Progress(Progress),
    /// The running query waits for a training step to end, or goes on.
    Waits(bool),
    /// A call waits for a person's word; answered by `DeckCommand::Approve` with the same number.
    Approve {
        id: u64,
        approval: Approval,
    },
    /// An MCP server waits for a person's word on what it is and brings, a line each; answered as `Approve`.
    Server {
        id: u64,
        name: String,
        lines: Vec<String>,
    },
    Status(StatusLine),
    /// What the model in use can and cannot do, known once it is: the first screen, one paragraph each.
    FirstLines(Vec<String>),
    Library(LibraryEvent),
    Study(StudyEvent),
    /// What works here and what does not.
    Checks(Vec<CheckLine>),
    /// Queries belong to this session from now on.
    Conversation {
        session: String,
    },
    Notice {
        level: Level,
        text: String,
    },
    /// A label is on disk (or taken back, with `Clear`).
    LabelStored {
        trajectory: String,
        turn: Option<usize>,
        scope: Scope,
        value: LabelValue,
        correction: Option<String>,
    },
    /// The query asked last could not even start.
    Refused {
        reason: String,
        remedy: String,
    },
    /// The disk of the record is full and nothing new can begin, or there is room again.
    Full(bool),
    /// The engine worker ended; the running query ends by its own `Failed` event.
    EngineDied {
        reason: String,
        remedy: String,
    },
}

/// One thing that was checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckLine {
    pub name: String,
    pub ok: bool,
    pub text: String,
    /// What helps where it is not.
    pub remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warning,
    Error,
}

/// The line on top. Empty or zero fields are not shown; the running query's own figures fill the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusLine {
    pub model: String,
    /// Short name of the planner's adapter, e.g. "a3f9 (step 12)".
    pub adapter: Option<String>,
    pub devices: Vec<String>,
    pub layers_offloaded: usize,
    pub layers: usize,
    /// Tokens in the planner's context, and how many it holds.
    pub context_used: usize,
    pub context_total: usize,
    pub tokens_per_s: f64,
    /// What is being waited for before queries run ("loading 43 %").
    pub busy: Option<String>,
}

/// A finished query of an earlier run of the program, shown above the first new one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    pub trajectory: Trajectory,
    pub labels: Vec<(Scope, Option<usize>, LabelValue)>,
    /// The turns are numbers without content, to be read (`LibraryCommand::Open`) when they are looked at.
    pub outline: bool,
}

/// How the deck starts.
pub struct DeckOptions {
    pub handle: DeckHandle,
    /// A name in `manners.themes`; NO_COLOR in the environment overrides it with "mono".
    pub theme: String,
    pub manners: Manners,
    pub session: String,
    /// What the model in use can and cannot do: the first screen, one paragraph each.
    pub first_lines: Vec<String>,
    pub status: StatusLine,
    pub past: Vec<Past>,
    /// Earlier inputs, oldest first, for the Up key.
    pub history: Vec<String>,
    /// The folder in which tools open files by their names, if they do.
    pub root: Option<PathBuf>,
    /// Opens on the replay tab with this trajectory, at so many times its speed (infinite: at its end).
    pub replay: Option<(Recording, f64)>,
}
