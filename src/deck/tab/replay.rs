//! The replay tab: the saved sessions, any trajectory of them through the panes it had when it was live,
//! two of them side by side.

mod listing;

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::deck::app::Effect;
use crate::deck::command::Action;
use crate::deck::inside::Face;
use crate::deck::keymap::Place;
use crate::deck::layout::layout;
use crate::deck::library::{LibraryCommand, LibraryEvent, Recording, SessionLine};
use crate::deck::message::{DeckCommand, DeckEvent};
use crate::deck::row::Row;
use crate::deck::shelf::Shelf;
use crate::deck::tab::pair::Pair;
use crate::deck::tab::{Context, Look, Tab, TabName};
use crate::deck::theatre::Theatre;

/// What shows.
#[derive(Default)]
enum Scene {
    #[default]
    Shelf,
    Theatre(Box<Theatre>),
    Compare(Box<Pair>),
}

const NO_FORK: &str = "this is no fork to be compared with its parent; in the list (F2), m marks a trajectory and = puts \
                       another beside it";

const IN_THEATRE: [(Action, &str); 14] = [
    (Action::Pause, "pause"),
    (Action::Escape, "list"),
    (Action::Back, ""),
    (Action::Forward, "step"),
    (Action::TurnBack, ""),
    (Action::TurnForward, "turn"),
    (Action::QueryBack, ""),
    (Action::QueryForward, "query"),
    (Action::NextPane, "panes"),
    (Action::Slower, ""),
    (Action::Faster, "speed"),
    (Action::Fork, "fork"),
    (Action::Face(Face::TOKENS), "tokens"),
    (Action::Face(Face::TIME), "time"),
];

#[derive(Default)]
pub struct Replay {
    pub shelf: Shelf,
    /// An evaluation opened out of the list, over it.
    run: Option<Shelf>,
    scene: Scene,
    /// Trajectories asked for: one to play, or two to compare.
    wanted: Vec<String>,
    arrived: Vec<Recording>,
    /// The one that is wanted is a fork to be put beside its parent.
    beside_parent: bool,
    /// What plays was opened from this tab, and leads back there.
    from: Option<TabName>,
    /// What is wanted is looked at from its end.
    at_end: bool,
    speed: Option<f64>,
}

/// `eval held_out.jsonl · 720 queries, 640 right`
fn title_of(session: &SessionLine) -> String {
    let score = session.score.unwrap_or_default().words();
    format!("{} · {score}", session.title)
}

fn ask(command: LibraryCommand) -> Effect {
    Effect::Command(DeckCommand::Library(command))
}

impl Replay {
    /// Show a trajectory, its clock at `speed`.
    pub fn play(&mut self, recording: Recording, speed: f64) {
        self.scene = Scene::Theatre(Box::new(Theatre::new(recording, speed)));
    }

    /// The list that shows: all sessions, or the evaluation that is open.
    fn list(&mut self) -> &mut Shelf {
        self.run.as_mut().unwrap_or(&mut self.shelf)
    }

    fn listed(&self) -> &Shelf {
        self.run.as_ref().unwrap_or(&self.shelf)
    }

    fn want(&mut self, ids: Vec<String>, cx: &mut Context) {
        ids.iter().for_each(|id| cx.effect(ask(LibraryCommand::Open { trajectory: id.clone() })));
        (self.wanted, self.arrived, self.beside_parent, self.from) = (ids, Vec::new(), false, None);
        self.at_end = false;
    }

    /// Show a trajectory that another tab lists, whole and at its end: `from` is where Esc leads.
    pub fn look_into(&mut self, id: &str, from: TabName, cx: &mut Context) {
        self.want(vec![id.to_string()], cx);
        (self.from, self.at_end) = (Some(from), true);
    }

    /// Leave what plays: to where it was opened.
    fn leave(&mut self, cx: &mut Context) {
        self.scene = Scene::Shelf;
        if let Some(tab) = self.from.take() {
            cx.wishes.run = Some((Action::Tab(tab), String::new()));
        } else if !self.shelf.is_listed() {
            cx.effect(ask(LibraryCommand::List));
        }
    }

    fn opened(&mut self, recording: &Recording, cx: &mut Context) {
        if !self.wanted.contains(&recording.id) || self.arrived.iter().any(|r| r.id == recording.id) {
            return;
        }
        self.arrived.push(recording.clone());
        let find = |id: &String| self.arrived.iter().find(|recording| recording.id == *id);
        match self.wanted.as_slice() {
            [_] if self.beside_parent => {
                match recording.trajectory().parent {
                    Some((parent, _)) => self.want(vec![parent, recording.id.clone()], cx),
                    None => {
                        self.wanted.clear();
                        cx.say(NO_FORK);
                    }
                }
                return;
            }
            // Until now the tab it was opened from has stayed in sight.
            [_] if self.at_end => {
                self.play(recording.clone(), f64::INFINITY);
                if let Scene::Theatre(theatre) = &mut self.scene {
                    // It is looked at, turn by turn; Space plays it.
                    theatre.player.paused = true;
                }
                cx.wishes.tab = Some(TabName::Replay);
            }
            [_] => {
                let speed = self.speed.unwrap_or(1.0);
                self.play(recording.clone(), speed);
            }
            [left, right] => {
                let (Some(left), Some(right)) = (find(left), find(right)) else { return };
                let (left, right) = (left.trajectory(), right.trajectory());
                self.scene = Scene::Compare(Box::new(Pair::new(left, right)));
            }
            _ => {}
        }
        self.wanted.clear();
    }

    fn want_beside_parent(&mut self, id: String, cx: &mut Context) {
        self.want(vec![id], cx);
        self.beside_parent = true;
    }

    fn in_theatre(theatre: &mut Theatre, action: Action, cx: &mut Context) -> Option<Vec<String>> {
        let inside = theatre.chat.inside.is_some();
        match action {
            _ if inside => {
                theatre.chat.perform(action, "", cx);
            }
            _ if action.judges() => theatre.judge(action, cx),
            Action::Pause => theatre.pause(),
            Action::Faster => theatre.player.faster(true),
            Action::Slower => theatre.player.faster(false),
            Action::Back => theatre.step(false),
            Action::Forward => theatre.step(true),
            Action::TurnBack => theatre.step_turn(false),
            Action::TurnForward => theatre.step_turn(true),
            Action::First => theatre.seek(0.0),
            Action::Newest => theatre.seek(f64::MAX),
            Action::Fork => {
                let (trajectory, turns) = (theatre.recording.id.clone(), theatre.turns_done());
                theatre.player.paused = true;
                cx.effect(ask(LibraryCommand::Fork { trajectory, turns }));
            }
            Action::Compare => match theatre.recording.trajectory().parent {
                Some((parent, _)) => return Some(vec![parent, theatre.recording.id.clone()]),
                None => cx.say(NO_FORK),
            },
            Action::Zoom | Action::Face(_) => {
                theatre.player.paused = true;
                theatre.chat.perform(action, "", cx);
                // The record is here already; only how its tokens are spelled may be known elsewhere.
                if !theatre.recording.spelled.is_empty() {
                    cx.wishes.effects.clear();
                }
                if let Some(inside) = &mut theatre.chat.inside {
                    inside.opened(&theatre.recording);
                }
            }
            _ => {
                theatre.chat.perform(action, "", cx);
            }
        }
        None
    }
}

impl Tab for Replay {
    fn places(&self) -> Vec<Place> {
        match &self.scene {
            Scene::Shelf if self.listed().searching => vec![Place::Input],
            Scene::Shelf => vec![Place::Shelf, Place::List],
            Scene::Compare(_) => vec![Place::Shelf, Place::List],
            Scene::Theatre(theatre) if theatre.chat.inside.is_some() => vec![Place::Inside, Place::List],
            Scene::Theatre(_) => vec![Place::Theatre, Place::List],
        }
    }

    fn perform(&mut self, action: Action, argument: &str, cx: &mut Context) -> bool {
        if action == Action::Compare && !argument.is_empty() {
            self.want_beside_parent(argument.to_string(), cx);
            return true;
        }
        match &mut self.scene {
            Scene::Shelf => self.on_shelf(action, argument, cx),
            Scene::Theatre(theatre) if action == Action::Escape && theatre.chat.inside.is_none() => {
                self.leave(cx);
                true
            }
            Scene::Theatre(theatre)
                if matches!(action, Action::QueryBack | Action::QueryForward)
                    && theatre.chat.inside.is_none() =>
            {
                self.next_of_list(action == Action::QueryForward, cx);
                true
            }
            Scene::Theatre(theatre) => {
                if let Some(pair) = Replay::in_theatre(theatre, action, cx) {
                    self.want(pair, cx);
                }
                true
            }
            Scene::Compare(_) if action == Action::Escape => {
                self.leave(cx);
                true
            }
            Scene::Compare(pair) => pair.perform(action, usize::from(cx.size.1 / 2)),
        }
    }

    fn shown(&mut self, cx: &mut Context) {
        cx.effect(ask(LibraryCommand::List));
    }

    fn question(&mut self, action: Action) -> Option<String> {
        match &mut self.scene {
            Scene::Theatre(theatre) if action == Action::Fork => {
                // The turn that is asked about is the one that shows.
                theatre.player.paused = true;
                Some(format!("plan turn {} again, in a new trajectory", theatre.turns_done() + 1))
            }
            _ => None,
        }
    }

    fn typed(&mut self, c: char, cx: &mut Context) {
        if self.listed().searching {
            self.search(format!("{}{c}", self.listed().filter), cx);
        }
    }

    fn paste(&mut self, text: &str, cx: &mut Context) {
        if self.listed().searching {
            self.search(format!("{}{}", self.listed().filter, crate::text::safe(text)), cx);
        }
    }

    fn event(&mut self, event: &DeckEvent, cx: &mut Context) {
        if let DeckEvent::LabelStored { trajectory, turn, scope, value, .. } = event {
            let shelves = [Some(&mut self.shelf), self.run.as_mut()];
            shelves.into_iter().flatten().for_each(|shelf| shelf.labelled(trajectory, *value));
            if let Scene::Theatre(theatre) = &mut self.scene {
                theatre.labelled(trajectory, (*scope, *turn, *value));
            }
        }
        let DeckEvent::Library(event) = event else { return };
        match event {
            LibraryEvent::Listed(sessions) => {
                self.shelf.listed(sessions.clone());
                // The evaluation that is open may have been deleted meanwhile.
                let gone = |run: &Shelf| !sessions.iter().any(|session| run.holds(&session.id));
                self.run = self.run.take().filter(|run| !gone(run));
            }
            LibraryEvent::Evaluation(line) => self.unfolded((**line).clone()),
            LibraryEvent::Found { text, evaluations } => {
                self.shelf.found(text.clone(), evaluations.clone());
            }
            LibraryEvent::Opened(recording) => {
                if let Scene::Theatre(theatre) = &mut self.scene {
                    theatre.spelled(recording);
                }
                self.opened(recording, cx);
            }
            LibraryEvent::Deleted { title } => cx.say(format!("deleted: {title}; u brings it back")),
            LibraryEvent::Resumed { .. } | LibraryEvent::Forked { .. } | LibraryEvent::Rewound { .. } => {
                cx.wishes.tab = Some(TabName::Chat);
            }
        }
    }

    fn tick(&mut self, now_ms: u64) {
        if let Scene::Theatre(theatre) = &mut self.scene {
            theatre.tick(now_ms);
        }
    }

    fn wait(&self) -> Option<Duration> {
        match &self.scene {
            Scene::Theatre(theatre) => theatre.wait(),
            _ => None,
        }
    }

    fn hints(&self) -> Vec<(Action, &'static str)> {
        match &self.scene {
            Scene::Shelf if self.listed().searching => {
                vec![(Action::Send, "keep"), (Action::Escape, "show all")]
            }
            Scene::Shelf => self.shelf_hints(),
            Scene::Theatre(theatre) if theatre.chat.inside.is_some() => theatre.chat.hints(),
            Scene::Theatre(theatre) => {
                let mut hints = IN_THEATRE.to_vec();
                hints[0].1 = theatre.pause_word();
                if let Some(tab) = self.from {
                    hints.retain(|(action, _)| *action != Action::Escape);
                    hints.retain(|(action, _)| !matches!(action, Action::QueryBack | Action::QueryForward));
                    hints.insert(0, (Action::Escape, tab.words()));
                }
                if self.run.is_some() {
                    // Through an evaluation one goes from query to query.
                    let walk = |(action, _): &(Action, &str)| {
                        matches!(action, Action::QueryBack | Action::QueryForward)
                    };
                    let (walked, rest): (Vec<_>, Vec<_>) = hints.into_iter().partition(walk);
                    hints = [&rest[..2], &walked[..], &rest[2..]].concat();
                }
                if theatre.is_fork() {
                    hints.insert(1, (Action::Compare, "compare with its parent"));
                }
                hints
            }
            Scene::Compare(_) => vec![
                (Action::Compare, "what is the same"),
                (Action::ScrollDown, "scroll"),
                (Action::Escape, "sessions"),
            ],
        }
    }

    fn corner(&self) -> Option<Row> {
        match &self.scene {
            Scene::Theatre(theatre) => theatre.chat.corner(),
            _ => None,
        }
    }

    fn draw(&mut self, buffer: &mut Buffer, area: Rect, look: &Look) -> Option<Position> {
        match &mut self.scene {
            Scene::Shelf => {
                let title = self.run.as_ref().and_then(Shelf::first_session).map(title_of);
                let title = title.unwrap_or_else(|| "sessions".to_string());
                return self.list().draw(buffer, area, &title, &look.theme);
            }
            Scene::Theatre(theatre) if theatre.chat.inside.is_some() => {
                theatre.chat.draw(buffer, area, look);
            }
            Scene::Theatre(theatre) => {
                let layout = layout(area, 1, theatre.chat.panes.shown);
                theatre.chat.draw_body(buffer, &layout, look);
                theatre.draw_bar(buffer, layout.input, look);
            }
            Scene::Compare(pair) => pair.draw(buffer, area, look),
        }
        None
    }
}
