//! What the store's rows are in the deck's words: lines of lists, and a session's queries in outline.

use crate::deck::library::{Score, SessionLine, TrajectoryLine};
use crate::deck::{self, LabelValue as Press, Past};
use crate::flow::event::Cause;
use crate::flow::trajectory::{Outcome, Trajectory, Turn};
use crate::store::{Evaluation, LabelValue, Result, Row, Scope, Status, Store};

use super::super::sessions::when;

pub(super) fn session_line(
    id: String,
    title: String,
    created_ms: i64,
    trajectories: Vec<TrajectoryLine>,
) -> SessionLine {
    SessionLine { trajectories, when: when(created_ms), title, id, score: None }
}

pub(super) fn evaluation_line(one: Evaluation, trajectories: Vec<TrajectoryLine>) -> SessionLine {
    let score = Score { queries: one.trajectories, checked: one.checked, right: one.right };
    let line = session_line(one.id, one.title, one.created_ms, trajectories);
    SessionLine { score: Some(score), ..line }
}

pub(super) fn line(row: Row) -> TrajectoryLine {
    TrajectoryLine {
        label: row.label.map(|label| label.name().to_string()),
        status: row.status.name().to_string(),
        id: row.id,
        // Lists are searched and drawn with every key: a pasted book would make them slow.
        query: match row.query.char_indices().nth(LISTED_CHARS) {
            Some((at, _)) => format!("{} [..]", &row.query[..at]),
            None => row.query,
        },
        answer: row.answer,
        turns: row.turns,
        seconds: row.seconds,
        adapter: row.adapter,
        ..TrajectoryLine::default()
    }
}

pub(super) fn shown_labels(store: &Store, id: &str) -> Result<Vec<(deck::Scope, Option<usize>, Press)>> {
    let labels = store.labels(id)?.into_iter().filter(|label| label.cleared_ms.is_none());
    let shown = labels.map(|label| {
        let scope = match label.scope {
            Scope::Answer => deck::Scope::Answer,
            Scope::Plan => deck::Scope::Plan,
            Scope::Turn => deck::Scope::Turn,
        };
        (scope, label.turn, press(label.value))
    });
    Ok(shown.collect())
}

pub fn press(value: LabelValue) -> Press {
    match value {
        LabelValue::Good => Press::Good,
        LabelValue::Bad => Press::Bad,
    }
}

/// Characters of a query that a list holds.
const LISTED_CHARS: usize = 2_000;

/// Labels are read whole for this many of the newest queries; older ones show their newest label.
const LABELLED: usize = 50;

/// A session's queries in outline, oldest first: what the conversation shows. Their turns are read when
/// somebody looks at them, so a long history costs no more to open than its answers.
///
/// # Errors
/// The database cannot be read.
pub fn past(store: &Store, session: &str) -> Result<Vec<Past>> {
    let rows = store.trajectories(Some(session), 0)?;
    let outline = |(n, row): (usize, Row)| {
        let labels = match row.label {
            None => Vec::new(),
            Some(_) if n < LABELLED => shown_labels(store, &row.id)?,
            Some(label) => vec![(deck::Scope::Answer, None, press(label))],
        };
        Ok(Past { trajectory: outlined(row), labels, outline: true })
    };
    let mut past = rows.into_iter().enumerate().map(outline).collect::<Result<Vec<_>>>()?;
    past.reverse();
    Ok(past)
}

pub(super) fn outlined(row: Row) -> Trajectory {
    let failed = |reason: &str, remedy: &str| Outcome::Failed {
        reason: reason.to_string(),
        remedy: remedy.to_string(),
        cause: Cause::Unknown,
    };
    let outcome = match row.status {
        Status::Answered => Outcome::Answered,
        Status::Cancelled => Outcome::Cancelled,
        Status::Running => Outcome::Running,
        Status::Failed => failed("see its turns", ""),
        Status::Interrupted => failed("its process ended before the query did", "ask again"),
    };
    Trajectory {
        turns: (1..=row.turns).map(|turn| Turn { turn, ..Turn::default() }).collect(),
        id: row.id,
        session: row.session,
        query: row.query,
        answer: row.answer,
        adapter: row.adapter,
        seconds: row.seconds,
        tokens: row.tokens,
        started_ms: row.started_ms,
        outcome,
        ..Trajectory::default()
    }
}
