//! The replay tab: the saved sessions, any trajectory of them through the panes it had when it was live,
//! two of them side by side.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::deck::app::Effect;
use crate::deck::command::Action;
use crate::deck::composer::Edit;
use crate::deck::inside::Face;
use crate::deck::keymap::Place;
use crate::deck::layer::correct::Correct;
use crate::deck::layer::line::Line as LineLayer;
use crate::deck::layout::layout;
use crate::deck::library::{LibraryCommand, LibraryEvent, Recording};
use crate::deck::message::{DeckCommand, DeckEvent, LabelRequest, LabelValue, Scope};
use crate::deck::paint::{draw_rows, draw_title, frame_block, inner};
use crate::deck::row::Row;
use crate::deck::shelf::{Line, Shelf};
use crate::deck::tab::pair::Pair;
use crate::deck::tab::{Context, Look, Tab, TabName};
use crate::deck::theatre::Theatre;
use crate::deck::theme::Ink;

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

const IN_THEATRE: [(Action, &str); 12] = [
    (Action::Pause, "pause"),
    (Action::Back, ""),
    (Action::Forward, "step"),
    (Action::TurnBack, ""),
    (Action::TurnForward, "turn"),
    (Action::Slower, ""),
    (Action::Faster, "speed"),
    (Action::NextPane, "panes"),
    (Action::Fork, "fork"),
    (Action::Face(Face::TOKENS), "tokens"),
    (Action::Face(Face::TIME), "time"),
    (Action::Escape, "sessions"),
];

#[derive(Default)]
pub struct Replay {
    pub shelf: Shelf,
    scene: Scene,
    /// Trajectories asked for: one to play, or two to compare.
    wanted: Vec<String>,
    arrived: Vec<Recording>,
    /// The one that is wanted is a fork to be put beside its parent.
    beside_parent: bool,
    /// What plays was opened from this tab, and leads back there.
    from: Option<TabName>,
    speed: Option<f64>,
}

fn ask(command: LibraryCommand) -> Effect {
    Effect::Command(DeckCommand::Library(command))
}

impl Replay {
    /// Show a trajectory, its clock at `speed`.
    pub fn play(&mut self, recording: Recording, speed: f64) {
        self.scene = Scene::Theatre(Box::new(Theatre::new(recording, speed)));
    }

    fn want(&mut self, ids: Vec<String>, cx: &mut Context) {
        ids.iter().for_each(|id| cx.effect(ask(LibraryCommand::Open { trajectory: id.clone() })));
        (self.wanted, self.arrived, self.beside_parent, self.from) = (ids, Vec::new(), false, None);
    }

    /// Show a trajectory that another tab lists, whole and at its end: `from` is where Esc leads.
    pub fn look_into(&mut self, id: &str, from: TabName, cx: &mut Context) {
        self.want(vec![id.to_string()], cx);
        self.from = Some(from);
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
            [_] if self.from.is_some() => {
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

    fn on_shelf(&mut self, action: Action, argument: &str, cx: &mut Context) -> bool {
        let page = cx.page();
        match action {
            Action::ScrollUp => self.shelf.walk(-1),
            Action::ScrollDown => self.shelf.walk(1),
            Action::PageUp => self.shelf.walk(-page),
            Action::PageDown => self.shelf.walk(page),
            Action::First => self.shelf.walk(isize::MIN / 2),
            Action::Newest => self.shelf.walk(isize::MAX / 2),
            Action::Search => self.shelf.searching = true,
            Action::Edit(Edit::Backspace) if self.shelf.searching => {
                let mut filter = std::mem::take(&mut self.shelf.filter);
                filter.pop();
                self.shelf.search(filter);
            }
            Action::Send if self.shelf.searching => self.shelf.searching = false,
            Action::Escape if self.shelf.searching || !self.shelf.filter.is_empty() => {
                self.shelf.searching = false;
                self.shelf.search(String::new());
            }
            Action::Undo => cx.effect(ask(LibraryCommand::Undelete)),
            _ => return self.on_line(action, argument, cx),
        }
        true
    }

    /// What concerns the selected line.
    fn on_line(&mut self, action: Action, argument: &str, cx: &mut Context) -> bool {
        let session = self.shelf.session().map(|session| (session.id.clone(), session.title.clone()));
        let trajectory = self.shelf.trajectory().map(|line| line.id.clone());
        let (Some((session, title)), Some(id)) = (session, trajectory) else { return false };
        match action {
            Action::Open => self.want(vec![id], cx),
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
            Action::Mark => {
                self.shelf.marked = (self.shelf.marked.as_ref() != Some(&id)).then_some(id);
                cx.say(match self.shelf.marked {
                    Some(_) => "marked: = on another trajectory shows both side by side",
                    None => "no longer marked",
                });
            }
            Action::Compare => match self.shelf.marked.clone().filter(|marked| *marked != id) {
                Some(marked) => self.want(vec![marked, id], cx),
                None => self.want_beside_parent(id, cx),
            },
            Action::Rewind => match self.shelf.selected() {
                Some(Line::Trajectory(..)) => cx.effect(ask(LibraryCommand::Rewind { trajectory: id })),
                _ => cx.say("select the query to go back to"),
            },
            Action::Fork => cx.say("open it first: a fork begins at a turn"),
            _ if action.judges() => self.judge(action, cx),
            _ => return false,
        }
        true
    }

    /// A word on the selected query; it shows on its line once it is kept.
    fn judge(&self, action: Action, cx: &mut Context) {
        let Some(line) = self.shelf.query() else { return cx.say("select the query it is about") };
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
                // The record is here already; nobody need be asked for it.
                cx.wishes.effects.clear();
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

    fn draw_shelf(&mut self, buffer: &mut Buffer, area: Rect, look: &Look) -> Option<Position> {
        let theme = &look.theme;
        frame_block(buffer, area, Ink::Border, theme);
        draw_title(buffer, area, &Row::new().say(" sessions ", Ink::Title), theme);
        let mut inside = inner(area);
        let mut cursor = None;
        if self.shelf.searching || !self.shelf.filter.is_empty() {
            let row = Row::new().say("find ", Ink::Dim).say(self.shelf.filter.as_str(), Ink::Strong);
            if self.shelf.searching {
                let x = inside.x + u16::try_from(row.width()).unwrap_or(0);
                cursor = Some(Position::new(x.min(inside.right().saturating_sub(1)), inside.y));
            }
            row.draw(buffer, inside, theme);
            inside = Rect { y: inside.y + 1, height: inside.height.saturating_sub(1), ..inside };
        }
        let rows = self.shelf.rows(usize::from(inside.width), usize::from(inside.height));
        draw_rows(buffer, inside, rows.iter(), theme);
        cursor
    }
}

impl Tab for Replay {
    fn places(&self) -> Vec<Place> {
        match &self.scene {
            Scene::Shelf if self.shelf.searching => vec![Place::Input],
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

    fn typed(&mut self, c: char, _: &mut Context) {
        if self.shelf.searching {
            let filter = format!("{}{c}", self.shelf.filter);
            self.shelf.search(filter);
        }
    }

    fn paste(&mut self, text: &str) {
        if self.shelf.searching {
            let filter = format!("{}{}", self.shelf.filter, crate::text::safe(text));
            self.shelf.search(filter);
        }
    }

    fn event(&mut self, event: &DeckEvent, cx: &mut Context) {
        if let DeckEvent::LabelStored { trajectory, turn, scope, value, .. } = event {
            self.shelf.labelled(trajectory, *value);
            if let Scene::Theatre(theatre) = &mut self.scene {
                theatre.labelled(trajectory, (*scope, *turn, *value));
            }
        }
        let DeckEvent::Library(event) = event else { return };
        match event {
            LibraryEvent::Listed(sessions) => self.shelf.listed(sessions.clone()),
            LibraryEvent::Opened(recording) => self.opened(recording, cx),
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
            Scene::Shelf if self.shelf.searching => {
                vec![(Action::Send, "keep"), (Action::Escape, "show all")]
            }
            Scene::Shelf => vec![
                (Action::Open, "replay"),
                (Action::Resume, "resume"),
                (Action::Search, "find"),
                (Action::Mark, "mark"),
                (Action::Compare, "compare"),
                (Action::Good, ""),
                (Action::Bad, "label"),
                (Action::Rewind, "rewind"),
                (Action::Rename, "rename"),
                (Action::Remove, "delete"),
                (Action::Undo, "undo"),
            ],
            Scene::Theatre(theatre) if theatre.chat.inside.is_some() => theatre.chat.hints(),
            Scene::Theatre(theatre) => {
                let mut hints = IN_THEATRE.to_vec();
                hints[0].1 = theatre.pause_word();
                if let Some(tab) = self.from {
                    hints.retain(|(action, _)| *action != Action::Escape);
                    hints.insert(0, (Action::Escape, tab.words()));
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
            Scene::Shelf => return self.draw_shelf(buffer, area, look),
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
