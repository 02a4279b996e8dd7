//! Where an evaluation's trajectories go: into the store, all of them under one run that can be opened, or nowhere.
//!
//! A resumed evaluation goes on in the run its rows belong to, where that is still there.

use std::sync::Arc;

use serde_json::json;

use crate::config::Home;
use crate::error::{EngineError, Error};
use crate::flow::event::Cause;
use crate::flow::trajectory::{Outcome, Trajectory};
use crate::store::{Checked, Store, StoreSink, short};
use crate::tasks::eval::{Asked, How, Scored};

use super::EvalArgs;
use super::rows::{Rows, Setting};

/// The run in the store; None: nothing is kept.
pub struct Kept(Option<(Arc<Store>, String)>);

/// # Errors
/// The store cannot be opened or written.
pub fn begin(args: &EvalArgs, home: &Home, setting: &Setting, rows: &Rows) -> anyhow::Result<Kept> {
    if args.discard {
        return Ok(Kept(None));
    }
    let store = Arc::new(Store::open(home)?);
    let session = match earlier(&store, rows)? {
        Some(session) => session,
        None => {
            let name = args.tasks.file_name().unwrap_or(args.tasks.as_os_str()).to_string_lossy();
            let setting = json!({"tasks": args.tasks.display().to_string(), "setting": setting});
            store.new_evaluation(&format!("eval {name}"), &setting)?
        }
    };
    Ok(Kept(Some((store, session))))
}

/// The run that rows of an earlier attempt lie in.
fn earlier(store: &Store, rows: &Rows) -> anyhow::Result<Option<String>> {
    for trajectory in rows.trajectories().rev() {
        let Ok(row) = store.row(trajectory) else { continue };
        if store.evaluation(&row.session)?.is_some() {
            return Ok(Some(row.session));
        }
    }
    Ok(None)
}

impl Kept {
    pub fn how(&self, parallel: usize) -> How {
        let unrecorded = How::unrecorded(parallel);
        match &self.0 {
            None => unrecorded,
            Some((store, session)) => {
                let sink = Arc::new(StoreSink::new(store.clone()));
                How { session: session.clone(), sink, ..unrecorded }
            }
        }
    }

    /// What the checker said of an answer, beside it: the deck finds the wrong ones by it.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn checked(&self, asked: &[Asked], scored: &Scored) -> Result<(), Error> {
        let Some((store, _)) = &self.0 else { return Ok(()) };
        let of = asked.iter().find(|asked| asked.question.id == scored.id);
        let checked = Checked {
            trajectory: scored.trajectory.clone(),
            right: scored.right,
            family: scored.family.clone(),
            reference: of.map(|asked| asked.question.answer.clone()).unwrap_or_default(),
        };
        Ok(store.add_checked(&checked)?)
    }

    /// Where they can be looked at, before the first is answered.
    pub fn say(&self, json: bool) {
        let Some((_, session)) = &self.0 else { return };
        if json {
            println!("{}", json!({"kind": "evaluation", "session": session}));
        } else {
            let id = short(session);
            eprintln!(
                "tillerman: every trajectory is stored: `tillerman sessions --session {id}` lists them, `tillerman \
                 replay {id}` opens them in the deck"
            );
        }
    }
}

/// A pass whose record could not be kept, or that no engine was there for, says nothing about the planner: it is no
/// wrong answer but the end.
pub fn not_asked(trajectory: &Trajectory) -> Option<Error> {
    match &trajectory.outcome {
        Outcome::Failed { reason, remedy, cause: Cause::EngineLeftAlone } => {
            Some(Error::Engine(EngineError::Other(format!(
                "{reason}; {remedy}; the evaluation stops here: what died with a worker is kept as failed, and with \
                 --out FILE --resume asks the others"
            ))))
        }
        Outcome::Failed { reason, cause: Cause::Record, .. } => Some(Error::Store(format!(
            "{reason}; free some space and continue with --out FILE --resume, or store no trajectory with --discard"
        ))),
        _ => None,
    }
}
