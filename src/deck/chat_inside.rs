//! What the chat does beyond talking: the view inside a trajectory over it, forks and rewinds, and reading
//! the turns of old queries when somebody looks at them.

use crate::deck::app::Effect;
use crate::deck::chat::Chat;
use crate::deck::command::Action;
use crate::deck::exchange::Exchange;
use crate::deck::inside::{Face, Inside};
use crate::deck::library::{LibraryCommand, LibraryEvent, Recording};
use crate::deck::live::Live;
use crate::deck::message::{DeckCommand, DeckEvent, Past};
use crate::deck::study::{After, StudyCommand};
use crate::deck::tab::groups::SIZE;
use crate::deck::tab::{Context, TabName};
use crate::deck::transcript::Cell;
use crate::flow::event::{Body, Event};

fn open(trajectory: &str) -> Effect {
    Effect::Command(DeckCommand::Library(LibraryCommand::Open { trajectory: trajectory.to_string() }))
}

impl Chat {
    /// What the view inside, the library and the groups are asked for; None when it is none of that.
    pub(super) fn perform_inside(&mut self, action: Action, argument: &str, cx: &mut Context) -> Option<()> {
        if let Some(inside) = &self.inside
            && action.judges()
        {
            // What is looked into is what the word is about, and of its plan the turn that shows.
            if action == Action::PlanBad {
                let turn = inside.turn();
                self.select_turn(Some(turn));
            }
            return None;
        }
        if let Some(inside) = &mut self.inside {
            let page = cx.page();
            if !inside.perform(action, page) {
                self.inside = None;
            }
            return Some(());
        }
        match action {
            Action::Zoom => self.open_inside(Face(self.panes.focus.unwrap_or(0)), cx),
            Action::Face(face) => self.open_inside(face, cx),
            Action::Fork => self.fork(cx),
            Action::Rewind => match self.followed_id() {
                Some(trajectory) if !self.is_running() => {
                    cx.effect(Effect::Command(DeckCommand::Library(LibraryCommand::Rewind { trajectory })));
                }
                Some(_) => cx.say("a query runs; Esc cancels it"),
                None => cx.say("there is no query to go back to"),
            },
            Action::Roll => self.roll(argument, cx),
            Action::Compare => match self.followed_id() {
                Some(trajectory) => {
                    cx.wishes.tab = Some(TabName::Replay);
                    cx.wishes.run = Some((Action::Compare, trajectory));
                }
                None => {
                    cx.say("ask something first; Alt+k then plans a turn again, and both can be compared")
                }
            },
            _ => return None,
        }
        Some(())
    }

    fn followed_id(&self) -> Option<String> {
        self.followed().map(|(live, _)| live.trajectory.id.clone()).filter(|id| !id.is_empty())
    }

    fn open_inside(&mut self, face: Face, cx: &mut Context) {
        let Some((live, turn)) = self.followed() else {
            return cx.say("ask something first: then there is something to look into");
        };
        let inside = Inside::new(face, live, turn);
        cx.effect(open(&inside.id));
        self.inside = Some(inside);
    }

    /// Plan the selected turn again: what was before it stays.
    fn fork(&mut self, cx: &mut Context) {
        let Some((live, turn)) = self.followed() else { return cx.say("there is no turn to fork at") };
        if self.is_running() {
            return cx.say("a query runs; Esc cancels it");
        }
        let (trajectory, turns) = (live.trajectory.id.clone(), turn);
        cx.effect(Effect::Command(DeckCommand::Library(LibraryCommand::Fork { trajectory, turns })));
    }

    /// Roll out what stands in the input, else the query the panes are about.
    fn roll(&mut self, argument: &str, cx: &mut Context) {
        let typed = self.composer.value().trim().to_string();
        let typed = Some(typed).filter(|typed| !typed.is_empty());
        // What is typed goes on from here; the query that shows goes on from what it was asked after.
        let asked = |live: &Live| (live.trajectory.query.clone(), live.trajectory.id.clone());
        let (query, after) = match (typed, self.followed().map(|(live, _)| asked(live))) {
            (Some(typed), _) => (typed, After::Session(cx.session.to_string())),
            (None, Some((query, id))) => (query, After::Trajectory(id)),
            (None, None) => return cx.say("type a query first: it is rolled out as a group"),
        };
        let size = argument.trim().parse().ok().filter(|size| (2..=64).contains(size)).unwrap_or(SIZE);
        // What was typed has been sent, as by Enter; Up brings it back.
        self.composer.take();
        cx.effect(Effect::Command(DeckCommand::Study(StudyCommand::RollGroup { query, size, after })));
        cx.wishes.tab = Some(TabName::Groups);
    }

    /// Ask for the turns of an old query the panes have come to.
    pub(super) fn read_outline(&self, cx: &mut Context) {
        if let Some((live, _)) = self.followed()
            && live.outline
        {
            cx.effect(open(&live.trajectory.id));
        }
    }

    pub(super) fn library_event(&mut self, event: &DeckEvent, cx: &mut Context) {
        match event {
            DeckEvent::Library(LibraryEvent::Opened(recording)) => self.opened(recording),
            DeckEvent::Library(LibraryEvent::Resumed { past, .. }) => {
                self.begin_again(past.clone());
                self.read_outline(cx);
            }
            DeckEvent::Library(LibraryEvent::Rewound { past, query, .. }) => {
                self.begin_again(past.clone());
                self.read_outline(cx);
                let kept = self.composer.replace(query);
                let draft = if kept { "; what stood in the input: Up" } else { "" };
                cx.say(format!(
                    "rewound: the conversation before stays as it was, in its own session{draft}"
                ));
            }
            DeckEvent::Library(LibraryEvent::Forked { query, .. }) => {
                self.newest();
                self.forked(query, cx.now_ms);
                cx.say("planning it again: the original stays as it was; /compare shows both");
            }
            // What is looked into grows: read it again at every model call.
            DeckEvent::Flow(Event { trajectory, body, .. }) => {
                let grown = matches!(body, Body::ModelCall(_)) || body.is_last();
                if grown && self.inside.as_ref().is_some_and(|inside| inside.id == *trajectory) {
                    cx.effect(open(trajectory));
                }
            }
            _ => {}
        }
    }

    fn opened(&mut self, recording: &Recording) {
        if let Some(inside) = &mut self.inside {
            inside.opened(recording);
        }
        let Some(cell) = self.cell_of(&recording.id) else { return };
        let outline = |exchange: &Exchange| exchange.live.as_ref().is_some_and(|live| live.outline);
        if self.transcript.exchange(cell).is_some_and(outline)
            && let Some(exchange) = self.transcript.exchange_mut(cell)
        {
            exchange.live = Some(Live::of(recording.trajectory()));
        }
    }

    /// An empty conversation with these finished queries.
    fn begin_again(&mut self, past: Vec<Past>) {
        let composer = std::mem::take(&mut self.composer);
        let full = self.full;
        *self = Chat::default();
        (self.composer, self.full) = (composer, full);
        for past in past {
            let mut exchange = Exchange::asked(past.trajectory.query.clone(), false);
            exchange.live = Some(Live::past(past.trajectory, past.outline));
            for (scope, turn, value) in past.labels {
                exchange.set_label(scope, turn, value, true);
            }
            self.transcript.push(Cell::Exchange(Box::new(exchange)));
        }
    }
}
