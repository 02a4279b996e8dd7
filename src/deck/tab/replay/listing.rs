//! The replay tab's list: what its keys do on sessions, evaluations and their queries, and how what plays gives
//! way to its neighbour in the list.

use crate::deck::app::Effect;
use crate::deck::command::Action;
use crate::deck::composer::Edit;
use crate::deck::layer::correct::Correct;
use crate::deck::layer::line::Line as LineLayer;
use crate::deck::library::{LibraryCommand, SessionLine};
use crate::deck::message::{DeckCommand, LabelRequest, LabelValue, Scope};
use crate::deck::shelf::{Line, Shelf};
use crate::deck::tab::Context;

use super::{Replay, Scene, ask};

impl Replay {
    pub(super) fn on_shelf(&mut self, action: Action, argument: &str, cx: &mut Context) -> bool {
        let page = cx.page();
        let shelf = self.list();
        match action {
            Action::ScrollUp => shelf.walk(-1),
            Action::ScrollDown => shelf.walk(1),
            Action::PageUp => shelf.walk(-page),
            Action::PageDown => shelf.walk(page),
            Action::First => shelf.walk(isize::MIN / 2),
            Action::Newest => shelf.walk(isize::MAX / 2),
            Action::Search => shelf.searching = true,
            Action::OnlyWrong => shelf.only_wrong(!shelf.wrong),
            Action::Edit(Edit::Backspace) if shelf.searching => {
                let mut filter = std::mem::take(&mut shelf.filter);
                filter.pop();
                self.search(filter, cx);
            }
            Action::Send if shelf.searching => shelf.searching = false,
            Action::Escape if shelf.searching || !shelf.filter.is_empty() => {
                shelf.searching = false;
                shelf.search(String::new());
            }
            Action::Escape if shelf.wrong => shelf.only_wrong(false),
            Action::Escape if self.run.is_some() => self.run = None,
            Action::Undo => cx.effect(ask(LibraryCommand::Undelete)),
            _ => return self.on_line(action, argument, cx),
        }
        true
    }

    /// Narrow the list that shows; what stands in evaluations that are not open is looked for in the record.
    pub(super) fn search(&mut self, filter: String, cx: &mut Context) {
        let shelf = self.list();
        shelf.search(filter);
        if let Some(text) = shelf.unknown() {
            cx.effect(ask(LibraryCommand::Find { text: text.to_string() }));
        }
    }

    /// An evaluation shows over the list, at what was found in it.
    pub(super) fn unfolded(&mut self, line: SessionLine) {
        let within = self.shelf.found_by_queries(&line.id);
        let mut run = Shelf::of_evaluation(line);
        run.search(within);
        self.run = Some(run);
    }

    /// What concerns the selected line.
    fn on_line(&mut self, action: Action, argument: &str, cx: &mut Context) -> bool {
        let shelf = self.listed();
        let Some(session) = shelf.session() else { return false };
        let (title, evaluation) = (session.title.clone(), session.score.is_some());
        let session = session.id.clone();
        match action {
            Action::Open if shelf.folded().is_some() => cx.effect(ask(LibraryCommand::Unfold { session })),
            Action::Resume if evaluation => {
                cx.say("an evaluation is no conversation: its questions know nothing of each other");
            }
            Action::Resume => cx.effect(ask(LibraryCommand::Resume { session })),
            Action::Rename if argument.is_empty() => {
                let words = "Enter keeps the new title, Esc the old one";
                cx.open(LineLayer::new("title of the session", words, Action::Rename, &title));
            }
            Action::Rename => {
                let title = argument.to_string();
                cx.effect(ask(LibraryCommand::Rename { session, title }));
            }
            Action::Remove => cx.effect(ask(LibraryCommand::Delete { session })),
            _ => return self.on_trajectory(action, cx),
        }
        true
    }

    /// What concerns the trajectory of the selected line.
    fn on_trajectory(&mut self, action: Action, cx: &mut Context) -> bool {
        let shelf = self.list();
        let Some(id) = shelf.trajectory().map(|line| line.id.clone()) else {
            if action.judges()
                || matches!(action, Action::Mark | Action::Compare | Action::Rewind | Action::Fork)
            {
                cx.say("Enter opens the evaluation; then this is about one of its queries");
                return true;
            }
            return false;
        };
        match action {
            Action::Open => self.want(vec![id], cx),
            Action::Mark => {
                shelf.marked = (shelf.marked.as_ref() != Some(&id)).then_some(id);
                cx.say(match shelf.marked {
                    Some(_) => "marked: = on another trajectory shows both side by side",
                    None => "no longer marked",
                });
            }
            Action::Compare => match shelf.marked.clone().filter(|marked| *marked != id) {
                Some(marked) => self.want(vec![marked, id], cx),
                None => self.want_beside_parent(id, cx),
            },
            Action::Rewind => match shelf.selected() {
                Some(Line::Trajectory(..)) => cx.effect(ask(LibraryCommand::Rewind { trajectory: id })),
                _ => cx.say("select the query to go back to"),
            },
            Action::Fork => cx.say("open it first: a fork begins at a turn"),
            _ if action.judges() => self.judge(action, cx),
            _ => return false,
        }
        true
    }

    pub(super) fn shelf_hints(&self) -> Vec<(Action, &'static str)> {
        let shelf = self.listed();
        let wrong = if shelf.wrong { "all" } else { "wrong" };
        if shelf.folded().is_some() {
            return vec![
                (Action::Open, "open"),
                (Action::Search, "find"),
                (Action::OnlyWrong, wrong),
                (Action::Rename, "rename"),
                (Action::Remove, "delete"),
                (Action::Undo, "undo"),
            ];
        }
        let mut hints = vec![
            (Action::Open, "replay"),
            (Action::Resume, "resume"),
            (Action::Search, "find"),
            (Action::OnlyWrong, wrong),
            (Action::Mark, "mark"),
            (Action::Compare, "compare"),
            (Action::Good, ""),
            (Action::Bad, "label"),
            (Action::Rewind, "rewind"),
            (Action::Rename, "rename"),
            (Action::Remove, "delete"),
            (Action::Undo, "undo"),
        ];
        if self.run.is_some() {
            hints[1] = (Action::Escape, "sessions");
        }
        hints
    }

    /// From what plays to the query before or after it in the list, looked at from its end.
    pub(super) fn next_of_list(&mut self, forward: bool, cx: &mut Context) {
        let Scene::Theatre(theatre) = &self.scene else { return };
        let playing = theatre.recording.id.clone();
        if self.from.is_some() {
            return cx.say("it was opened out of a group: Esc leads back to its siblings");
        }
        let shelf = self.list();
        if !shelf.is_listed() {
            cx.say("reading the list; press it once more");
            return cx.effect(ask(LibraryCommand::List));
        }
        shelf.select(&playing);
        if !shelf.walk_queries(forward) {
            return cx.say(if forward {
                "this is the last of the list"
            } else {
                "this is the first of the list"
            });
        }
        let next = shelf.query().map(|line| line.id.clone());
        self.want(next.into_iter().collect(), cx);
        self.at_end = true;
    }

    /// A word on the selected query; it shows on its line once it is kept.
    fn judge(&self, action: Action, cx: &mut Context) {
        let Some(line) = self.listed().query() else { return cx.say("select the query it is about") };
        if line.status != "answered" {
            return cx.say("only an answered query can be labelled: a failed one never trains");
        }
        let (scope, value) = match action {
            Action::Good => (Scope::Answer, LabelValue::Good),
            Action::Bad => (Scope::Answer, LabelValue::Bad),
            Action::PlanBad => (Scope::Plan, LabelValue::Bad),
            Action::Correct => return cx.open(Correct::new(line.id.clone())),
            _ => (Scope::Answer, LabelValue::Clear),
        };
        let label = |scope| Effect::Command(DeckCommand::Label(LabelRequest::alone(&line.id, scope, value)));
        cx.effect(label(scope));
        cx.say(if value == LabelValue::Clear { "label taken back" } else { "labelled; Alt+u takes it back" });
        if value == LabelValue::Clear {
            cx.effect(label(Scope::Plan));
        }
    }
}
