//! What the deck and the library of saved trajectories say to each other: plain data, no screen.
//!
//! The deck asks with a [`LibraryCommand`]; whoever wires it reads the store and answers with a
//! [`LibraryEvent`]. Nothing here knows where trajectories are kept.

use std::sync::Arc;

use crate::deck::message::{LabelValue, Past, Scope};
use crate::flow::event::{Body, Event, ModelCall};
use crate::flow::trajectory::Trajectory;

/// What a person asked of the saved sessions.
#[derive(Clone, Debug, PartialEq)]
pub enum LibraryCommand {
    /// Answered by `Listed`, in which evaluations are a line each.
    List,
    /// One evaluation with all of its trajectories; answered by `Evaluation`.
    Unfold {
        session: String,
    },
    /// How many queries of each evaluation hold this text; answered by `Found`.
    Find {
        text: String,
    },
    /// All of one trajectory; answered by `Opened`.
    Open {
        trajectory: String,
    },
    /// Go on in an earlier session; answered by `Resumed`.
    Resume {
        session: String,
    },
    Rename {
        session: String,
        title: String,
    },
    /// Answered by `Listed`; `Undelete` brings the session deleted last back.
    Delete {
        session: String,
    },
    Undelete,
    /// A new trajectory that keeps the first `turns` turns of another and goes on from there, in a session
    /// of its own. Answered by `Forked`, then by the events of the new trajectory.
    Fork {
        trajectory: String,
        turns: usize,
    },
    /// A new session in which nothing from this query on has been asked. Answered by `Rewound`.
    Rewind {
        trajectory: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum LibraryEvent {
    /// Newest first.
    Listed(Vec<SessionLine>),
    Evaluation(Box<SessionLine>),
    /// Evaluations of which something holds `text`, and how many of their queries do.
    Found {
        text: String,
        evaluations: Vec<(String, usize)>,
    },
    Opened(Box<Recording>),
    Resumed {
        session: String,
        past: Vec<Past>,
    },
    Forked {
        session: String,
        query: String,
    },
    /// `query` goes back into the input.
    Rewound {
        session: String,
        past: Vec<Past>,
        query: String,
    },
    /// A session is gone and can be brought back.
    Deleted {
        title: String,
    },
}

/// A session as the list shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionLine {
    pub id: String,
    pub title: String,
    /// "2026-11-22 14:05", the person's own time.
    pub when: String,
    /// Oldest first; of an evaluation none until it is opened.
    pub trajectories: Vec<TrajectoryLine>,
    /// It is an evaluation, and what came of it.
    pub score: Option<Score>,
}

/// How an evaluation went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    pub queries: usize,
    /// Those a checker has spoken about, and those of them it took.
    pub checked: usize,
    pub right: usize,
}

impl Score {
    /// `720 queries, 640 right`
    pub fn words(self) -> String {
        let Score { queries, checked, right } = self;
        let all = format!("{queries} {}", if queries == 1 { "query" } else { "queries" });
        match checked {
            0 => all,
            _ if checked == queries => format!("{all}, {right} right"),
            _ => format!("{all}, {right} right of {checked} checked"),
        }
    }
}

/// A trajectory as the list shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrajectoryLine {
    pub id: String,
    pub query: String,
    /// "answered", "failed" ...
    pub status: String,
    pub answer: Option<String>,
    pub turns: usize,
    pub seconds: f64,
    /// "good", "bad" or nothing.
    pub label: Option<String>,
    pub adapter: Option<String>,
    /// What the checker of an evaluation said.
    pub right: Option<bool>,
    /// The family of an evaluation's question, and its right answer.
    pub family: String,
    pub reference: String,
}

impl TrajectoryLine {
    /// Not right, labelled bad, or ended without an answer.
    pub fn went_wrong(&self) -> bool {
        let ended_badly = !matches!(self.status.as_str(), "answered" | "running");
        self.right == Some(false) || self.label.as_deref() == Some("bad") || ended_badly
    }
}

/// A trajectory with everything on record about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    pub id: String,
    pub events: Arc<Vec<Event>>,
    /// One per model call, in their order; empty where the vocabulary is not at hand.
    pub spelled: Vec<Spelled>,
    pub labels: Vec<(Scope, Option<usize>, LabelValue)>,
    /// Of an evaluation: whether the checker took the answer, and the right one.
    pub checked: Option<(bool, String)>,
    /// Of a rollout whose group somebody has judged: what a step would make of its plans.
    pub advantage: Option<f64>,
}

/// A model call's ids as text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spelled {
    /// The prompt as the model saw it, template and control tokens included.
    pub prompt: String,
    /// One text per sampled token.
    pub completion: Vec<String>,
}

impl Recording {
    pub fn of(events: Vec<Event>) -> Recording {
        let id = events.first().map(|event| event.trajectory.clone()).unwrap_or_default();
        Recording { id, events: Arc::new(events), ..Recording::default() }
    }

    pub fn trajectory(&self) -> Trajectory {
        Trajectory::from_events(self.events.iter())
    }

    /// Model calls in their order.
    pub fn calls(&self) -> impl Iterator<Item = &ModelCall> {
        self.events.iter().filter_map(|event| match &event.body {
            Body::ModelCall(call) => Some(call.as_ref()),
            _ => None,
        })
    }

    /// Texts of a call's sampled tokens; without the vocabulary, its ids as numbers.
    pub fn token_texts(&self, call: usize) -> Vec<String> {
        let ids = self.calls().nth(call).map(|call| call.completion.completion_ids.as_slice());
        match self.spelled.get(call) {
            Some(spelled) if Some(spelled.completion.len()) == ids.map(<[i32]>::len) => {
                spelled.completion.clone()
            }
            _ => ids.unwrap_or_default().iter().map(|id| format!("{id} ")).collect(),
        }
    }
}
