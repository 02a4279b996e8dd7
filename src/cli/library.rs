//! The deck's library served from the store: sessions listed, trajectories opened, forks and rewinds begun.
//!
//! Reads and writes the store and nothing else; running what a fork begins is the deck's wire.

mod lines;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Mode;
use crate::deck::library::{LibraryEvent, Recording, SessionLine, Spelled, TrajectoryLine};
use crate::engine::ModelInfo;
use crate::flow::event::Event;
use crate::flow::fork::Prior;
use crate::gguf::pieces::Pieces;
use crate::store::{Checked, Result, Store, StoreError, new_id};
use crate::tools::Taint;

use super::study_views as views;

use lines::{evaluation_line, line, session_line, shown_labels};
pub use lines::{past, press};

/// A session taken out of the store, as it was.
struct Deleted {
    id: String,
    title: String,
    /// What it was an evaluation of, if it was one.
    evaluation: Option<serde_json::Value>,
    /// What its checkers said.
    checked: Vec<Checked>,
    trajectories: Vec<Vec<Event>>,
}

pub struct Library {
    store: Arc<Store>,
    deleted: Option<Deleted>,
    /// The one evaluation to list, whole; None: everything, evaluations folded.
    only: Option<String>,
    /// What is replayed out of a file, where the store does not hold it.
    file: Option<Recording>,
    /// How a step would weigh a rollout beside its group's.
    mode: Mode,
    /// Vocabularies by file.
    pieces: HashMap<PathBuf, Arc<Pieces>>,
    /// What serves now; its vocabulary spells records from other machines too.
    served: Option<ModelInfo>,
    /// Conversations of rewound sessions in which nothing has been asked yet, and what these had met.
    rewound: HashMap<String, (Vec<(String, String)>, Taint)>,
}

/// Why what a file holds can be looked at and no more.
pub const ONLY_IN_A_FILE: &str = "this trajectory is in the file that is replayed and not in the store; `tillerman \
                                  import FILE` brings it there, then it can be forked and labelled";

/// What a fork begins with.
pub struct Fork {
    pub session: String,
    pub query: String,
    pub conversation: Vec<(String, String)>,
    pub prior: Prior,
}

impl Library {
    pub fn new(store: Arc<Store>) -> Library {
        Library {
            store,
            deleted: None,
            only: None,
            file: None,
            mode: Mode::default(),
            pieces: HashMap::new(),
            served: None,
            rewound: HashMap::new(),
        }
    }

    /// That lists this evaluation alone, where there is one.
    pub fn of_evaluation(self, only: Option<String>) -> Library {
        Library { only, ..self }
    }

    /// That also opens what is replayed, should the store not hold it.
    pub fn with_file(self, replayed: Option<&Recording>) -> Library {
        let unknown = |recording: &&Recording| self.store.row(&recording.id).is_err();
        Library { file: replayed.filter(unknown).cloned(), ..self }
    }

    /// It is replayed out of a file and not in the store.
    pub fn is_only_in_a_file(&self, trajectory: &str) -> bool {
        self.file.as_ref().is_some_and(|recording| recording.id == trajectory)
    }

    /// That weighs rollouts as this mode of training does.
    pub fn with_mode(self, mode: Mode) -> Library {
        Library { mode, ..self }
    }

    pub fn serves(&mut self, model: ModelInfo) {
        self.served = Some(model);
    }

    /// Every session with its trajectories, newest first, evaluations as a line each so that hundreds of
    /// questions do not bury what a person asked; or the one evaluation that was opened by itself, whole.
    pub fn list(&self) -> Result<LibraryEvent> {
        if let Some(only) = &self.only {
            return Ok(LibraryEvent::Listed(self.whole(only)?.into_iter().collect()));
        }
        let mut lines: HashMap<String, Vec<TrajectoryLine>> = HashMap::new();
        for row in self.store.asked(0)?.into_iter().rev() {
            lines.entry(row.session.clone()).or_default().push(line(row));
        }
        let mut sessions = Vec::new();
        for session in self.store.sessions()? {
            let own = lines.remove(&session.id).unwrap_or_default();
            // One in which nothing was asked has nothing to show.
            if !own.is_empty() {
                let line = session_line(session.id, session.title, session.created_ms, own);
                sessions.push((session.created_ms, line));
            }
        }
        let evaluations = self.store.evaluations()?.into_iter().filter(|one| one.trajectories > 0);
        sessions.extend(evaluations.map(|one| (one.created_ms, evaluation_line(one, Vec::new()))));
        sessions.sort_by_key(|(created_ms, _)| std::cmp::Reverse(*created_ms));
        Ok(LibraryEvent::Listed(sessions.into_iter().map(|(_, session)| session).collect()))
    }

    /// An evaluation with all of its trajectories, each with what its checker said.
    pub fn unfold(&self, evaluation: &str) -> Result<LibraryEvent> {
        let whole = self.whole(evaluation)?;
        whole
            .map(|line| LibraryEvent::Evaluation(Box::new(line)))
            .ok_or_else(|| StoreError::NotFound(evaluation.to_string()))
    }

    /// What was looked for among the sessions, in the evaluations that are a line each there.
    pub fn find(&self, text: &str) -> Result<LibraryEvent> {
        let evaluations = self.store.evaluations_with(text)?;
        Ok(LibraryEvent::Found { text: text.to_string(), evaluations })
    }

    fn whole(&self, evaluation: &str) -> Result<Option<SessionLine>> {
        let Some(one) = self.store.evaluation(evaluation)? else { return Ok(None) };
        let checked = self.store.checked(evaluation)?.into_iter();
        let mut checked: HashMap<String, Checked> =
            checked.map(|checked| (checked.trajectory.clone(), checked)).collect();
        let rows = self.store.trajectories(Some(evaluation), 0)?.into_iter().rev();
        let own = rows.map(|row| match checked.remove(&row.id) {
            Some(Checked { right, family, reference, .. }) => {
                TrajectoryLine { right: Some(right), family, reference, ..line(row) }
            }
            None => line(row),
        });
        let own = own.collect();
        Ok(Some(evaluation_line(one, own)))
    }

    /// All of one trajectory, its tokens spelled where the vocabulary is at hand.
    pub fn open(&mut self, id: &str) -> Result<Recording> {
        if self.is_only_in_a_file(id)
            && let Some(mut recording) = self.file.clone()
        {
            self.spell(&mut recording);
            return Ok(recording);
        }
        let mut recording = Recording::of(self.store.trajectory_events(id)?);
        recording.labels = shown_labels(&self.store, id)?;
        recording.advantage = views::advantage(&self.store, id, self.mode);
        recording.checked = self.store.checked_of(id)?.map(|checked| (checked.right, checked.reference));
        self.spell(&mut recording);
        Ok(recording)
    }

    fn spell(&mut self, recording: &mut Recording) {
        let Some(pieces) = self.vocabulary(&recording.trajectory().model) else { return };
        let spelled = |ids: &[i32]| pieces.texts(ids);
        recording.spelled = recording
            .calls()
            .map(|call| Spelled {
                prompt: spelled(&call.completion.prompt_ids).concat(),
                completion: spelled(&call.completion.completion_ids),
            })
            .collect();
    }

    /// The vocabulary of a recorded model: of its own file, or of the same model served here.
    fn vocabulary(&mut self, model: &ModelInfo) -> Option<Arc<Pieces>> {
        let here = self.served.as_ref().filter(|served| served.hash == model.hash);
        let paths = [here.map(|served| served.path.clone()), Some(model.path.clone())];
        let path = paths.into_iter().flatten().find(|path| path.is_file())?;
        if let Some(known) = self.pieces.get(&path) {
            return Some(known.clone());
        }
        let pieces = Arc::new(Pieces::of_file(&path).ok()?);
        self.pieces.insert(path, pieces.clone());
        Some(pieces)
    }

    pub fn resume(&self, session: &str) -> Result<LibraryEvent> {
        self.store.can_go_on(session)?;
        Ok(LibraryEvent::Resumed { session: session.to_string(), past: past(&self.store, session)? })
    }

    pub fn rename(&self, session: &str, title: &str) -> Result<LibraryEvent> {
        self.store.rename_session(session, title)?;
        self.list()
    }

    /// Take a session out of the store; it can be brought back until the next is taken out.
    pub fn delete(&mut self, session: &str) -> Result<Vec<LibraryEvent>> {
        let evaluation = self.store.evaluation(session)?;
        let title = match &evaluation {
            Some(evaluation) => Some(evaluation.title.clone()),
            None => self.store.sessions()?.into_iter().find(|s| s.id == session).map(|s| s.title),
        };
        let (title, evaluation) = (title.unwrap_or_default(), evaluation.map(|one| one.setting));
        let rows = self.store.trajectories(Some(session), 0)?;
        let events = rows.iter().rev().map(|row| self.store.trajectory_events(&row.id));
        let trajectories = events.collect::<Result<_>>()?;
        let checked = self.store.checked(session)?;
        self.store.delete_session(session)?;
        let (id, kept) = (session.to_string(), title.clone());
        self.deleted = Some(Deleted { id, title: kept, evaluation, checked, trajectories });
        Ok(vec![self.list()?, LibraryEvent::Deleted { title }])
    }

    pub fn undelete(&mut self) -> Result<Option<LibraryEvent>> {
        let Some(deleted) = &self.deleted else { return Ok(None) };
        for events in &deleted.trajectories {
            self.store.import(events)?;
        }
        self.store.rename_session(&deleted.id, &deleted.title)?;
        if let Some(setting) = &deleted.evaluation {
            self.store.mark_evaluation(&deleted.id, setting)?;
        }
        deleted.checked.iter().try_for_each(|checked| self.store.add_checked(checked))?;
        self.deleted = None;
        self.list().map(Some)
    }

    pub fn fork(&self, trajectory: &str, turns: usize) -> Result<Fork> {
        let parent = self.store.trajectory(trajectory)?;
        let prior = Prior::of(&parent, turns);
        Ok(Fork { session: new_id(), query: parent.query, conversation: parent.conversation, prior })
    }

    /// A session in which the query of `trajectory` and all after it were not asked.
    pub fn rewind(&mut self, trajectory: &str) -> Result<LibraryEvent> {
        let whole = self.store.trajectory(trajectory)?;
        let session = new_id();
        let of = self.store.row(trajectory)?.session;
        let earlier = match self.store.evaluation(&of)? {
            // Its questions know nothing of each other.
            Some(_) => Vec::new(),
            None => past(&self.store, &of)?,
        };
        let past = earlier.into_iter().take_while(|past| past.trajectory.id != trajectory).collect();
        self.rewound.insert(session.clone(), (whole.conversation, whole.inherited));
        Ok(LibraryEvent::Rewound { session, past, query: whole.query })
    }

    /// The conversation the next query of a session is asked in, and what the session has met.
    pub fn conversation(&self, session: &str) -> Result<(Vec<(String, String)>, Taint)> {
        let recorded = self.store.conversation(session)?;
        let taint = self.store.taint(session)?;
        let Some((before, met)) = self.rewound.get(session) else { return Ok((recorded, taint)) };
        let conversation = if recorded.is_empty() { before.clone() } else { recorded };
        Ok((conversation, taint.with(*met)))
    }
}

/// A recording out of a file as `export` writes it, without a store: the first trajectory in it, or the one
/// whose id begins or ends with `piece`.
///
/// # Errors
/// The file cannot be read, or holds no such trajectory.
pub fn from_file(path: &Path, piece: Option<&str>) -> anyhow::Result<Recording> {
    let found = super::export::read_file(path)?.into_values().find(|events| {
        let id = events.first().map_or("", |event| event.trajectory.as_str());
        piece.is_none_or(|piece| id.starts_with(piece) || id.ends_with(piece))
    });
    let events = found.ok_or_else(|| {
        crate::error::Error::Usage(format!("{}: no such trajectory is in it", path.display()))
    })?;
    Ok(Recording::of(events))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Home;
    use crate::deck::demo;
    use crate::deck::library::Score;
    use crate::flow::event::Body;

    /// A store with one session of these queries, each seeing the ones before it.
    fn library(queries: &[&str]) -> (tempfile::TempDir, Library) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Home::open(Some(folder.path())).unwrap()).unwrap();
        for (n, query) in queries.iter().enumerate() {
            let mut events = demo::events(&format!("t-{n}"), query);
            let before = store.conversation("s").unwrap();
            if let Body::Started { session, conversation, started_ms, .. } = &mut events[0].body {
                (*session, *conversation) = ("s".to_string(), before);
                *started_ms = i64::try_from(n).unwrap();
            }
            events.iter().for_each(|event| store.record(event).unwrap());
        }
        (folder, Library::new(Arc::new(store)))
    }

    fn sessions(event: LibraryEvent) -> Vec<SessionLine> {
        match event {
            LibraryEvent::Listed(sessions) => sessions,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_deleted_session_comes_back_as_it_was() {
        let (_folder, mut library) = library(&["one", "two"]);
        library.rename("s", "my numbers").unwrap();
        let before = library.open("t-1").unwrap();
        library.delete("s").unwrap();
        assert!(sessions(library.list().unwrap()).is_empty() && library.open("t-1").is_err());
        let listed = sessions(library.undelete().unwrap().unwrap());
        assert_eq!((listed[0].title.as_str(), listed[0].trajectories.len()), ("my numbers", 2));
        assert_eq!(library.open("t-1").unwrap(), before);
        assert!(library.undelete().unwrap().is_none(), "only once");
    }

    #[test]
    fn an_evaluation_is_one_line_until_it_is_opened_and_no_conversation() {
        let (_folder, mut library) = library(&["one"]);
        let setting = serde_json::json!({"tasks": "held_out.jsonl"});
        let run = library.store.new_evaluation("eval held_out.jsonl", &setting).unwrap();
        for n in 0..5 {
            let mut events = demo::events(&format!("e-{n}"), &format!("question {n}"));
            if let Body::Started { session, conversation, started_ms, .. } = &mut events[0].body {
                (*session, *conversation, *started_ms) = (run.clone(), Vec::new(), n);
            }
            events.iter().for_each(|event| library.store.record(event).unwrap());
        }
        for n in 0..4 {
            let (family, reference) = ("hop2".to_string(), "Lima".to_string());
            let checked = Checked { trajectory: format!("e-{n}"), right: n > 0, family, reference };
            library.store.add_checked(&checked).unwrap();
        }
        let score = Some(Score { queries: 5, checked: 4, right: 3 });
        let listed = sessions(library.list().unwrap());
        let sizes: Vec<_> = listed.iter().map(|s| (s.trajectories.len(), s.score)).collect();
        assert_eq!(sizes, [(0, score), (1, None)]);
        let LibraryEvent::Evaluation(whole) = library.unfold(&run).unwrap() else { panic!("not opened") };
        assert_eq!((whole.trajectories[4].query.as_str(), whole.score), ("question 4", score));
        let right: Vec<_> = whole.trajectories.iter().map(|line| line.right).collect();
        assert_eq!(right, [Some(false), Some(true), Some(true), Some(true), None]);
        assert_eq!(library.open("e-0").unwrap().checked, Some((false, "Lima".to_string())));
        assert!(library.unfold("s").is_err(), "a conversation is none");
        for (text, count) in [("QUESTION 4", 1), ("hop2", 4), ("e-", 5), ("one", 0), ("100%", 0)] {
            let LibraryEvent::Found { evaluations, .. } = library.find(text).unwrap() else {
                panic!("{text}")
            };
            assert_eq!(evaluations, Vec::from_iter((count > 0).then(|| (run.clone(), count))), "{text}");
        }
        assert_eq!(library.store.asked(0).unwrap().len(), 1);

        assert!(library.resume(&run).unwrap_err().to_string().contains("is an evaluation"));
        let LibraryEvent::Rewound { past, .. } = library.rewind("e-3").unwrap() else { panic!("no rewind") };
        assert!(past.is_empty(), "its questions know nothing of each other");

        library.only = Some(run.clone());
        let opened = sessions(library.list().unwrap());
        assert_eq!((opened.len(), opened[0].trajectories.len()), (1, 5));
        assert_eq!(opened[0].title, "eval held_out.jsonl");

        library.delete(&run).unwrap();
        assert!(library.store.evaluations().unwrap().is_empty());
        library.undelete().unwrap();
        let back = library.store.evaluation(&run).unwrap().unwrap();
        assert_eq!((back.title.as_str(), back.setting), ("eval held_out.jsonl", setting));
        assert_eq!((back.trajectories, back.checked, back.right), (5, 4, 3));
    }

    #[test]
    fn a_rewound_session_has_asked_what_came_before_and_no_more() {
        let (_folder, mut library) = library(&["one", "two", "three"]);
        let LibraryEvent::Rewound { session, past, query } = library.rewind("t-1").unwrap() else {
            panic!("no rewind")
        };
        assert_eq!((past.len(), query.as_str()), (1, "two"));
        let (conversation, _) = library.conversation(&session).unwrap();
        assert_eq!(conversation.iter().map(|(query, _)| query.as_str()).collect::<Vec<_>>(), ["one"]);
        assert_eq!(library.conversation("s").unwrap().0.len(), 3, "the original stays");
    }

    #[test]
    fn a_fork_begins_with_the_finished_turns_it_keeps() {
        let (_folder, library) = library(&["one", "two"]);
        let fork = library.fork("t-1", 2).unwrap();
        assert_eq!((fork.prior.turns.len(), fork.prior.parent.as_str()), (2, "t-1"));
        assert_eq!((fork.query.as_str(), fork.conversation.len()), ("two", 1));
    }

    #[test]
    fn what_a_file_holds_is_opened_and_known_for_what_it_is() {
        let (_folder, plain) = library(&["one"]);
        let file = Recording::of(demo::events("elsewhere", "two"));
        let mut library = plain.with_file(Some(&file));
        assert_eq!(library.open("elsewhere").unwrap(), file);
        assert!(library.is_only_in_a_file("elsewhere") && !library.is_only_in_a_file("t-0"));
        let stored = library.open("t-0").unwrap();
        assert!(!library.with_file(Some(&stored)).is_only_in_a_file("t-0"), "the store holds it");
    }

    #[test]
    fn a_long_query_comes_back_whole() {
        let long = format!("{} and the end", "long ".repeat(1_000));
        let (_folder, library) = library(&[&long]);
        assert_eq!(past(&library.store, "s").unwrap()[0].trajectory.query, long);
        assert_eq!(library.store.asked(10).unwrap()[0].query, long, "what Up brings");
        let listed = sessions(library.list().unwrap());
        assert!(listed[0].trajectories[0].query.ends_with("[..]"), "a list holds its start");
    }

    #[test]
    fn a_resumed_session_is_an_outline_until_it_is_looked_at() {
        let (_folder, mut library) = library(&["one", "two"]);
        let past = past(&library.store, "s").unwrap();
        let turns = &past[1].trajectory.turns;
        assert!(past[1].outline && turns.len() == 3 && turns[0].plan.is_none());
        assert_eq!(past[1].trajectory.answer, library.open("t-1").unwrap().trajectory().answer);
    }
}
