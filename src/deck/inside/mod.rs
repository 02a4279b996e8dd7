//! Inside one trajectory, over the whole screen: a pane at full size, every model call with its raw prompt
//! and completion, the tokens of a call with their chances, and where the seconds went.
//!
//! Opened from chat and from replay. It draws what the recording holds and changes nothing.

pub mod calls;
pub mod time;
pub mod tokens;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::deck::command::Action;
use crate::deck::library::Recording;
use crate::deck::live::Live;
use crate::deck::paint::{draw_corner, draw_rows, draw_title, frame_block, inner};
use crate::deck::pane::{Pane, Room};
use crate::deck::row::Row;
use crate::deck::table::{moved, scrolled};
use crate::deck::theme::{Ink, Theme};
use crate::engine::Role;

/// A view of the trajectory, by its place in `FACES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Face(pub usize);

impl Face {
    pub const CALLS: Face = Face(4);
    pub const TOKENS: Face = Face(5);
    pub const TIME: Face = Face(6);
}

/// What the views are called; the first four are the panes.
pub const FACES: [&str; 7] = ["plan", "tool calls", "verdicts", "memory", "model calls", "tokens", "time"];
/// The same where there is little room.
const SHORT: [&str; 7] = ["plan", "tools", "verdicts", "memory", "calls", "tokens", "time"];

pub struct Inside {
    pub face: Face,
    /// Trajectory it is about.
    pub id: String,
    recording: Option<Recording>,
    live: Live,
    /// Position of the selected turn.
    turn: usize,
    /// The selected call and token.
    call: usize,
    token: usize,
    scroll: usize,
}

impl Inside {
    /// Open on what is known so far; `opened` brings the rest.
    pub fn new(face: Face, live: &Live, turn: usize) -> Inside {
        let id = live.trajectory.id.clone();
        Inside { face, id, recording: None, live: live.clone(), turn, call: 0, token: 0, scroll: 0 }
    }

    /// Position of the turn it shows.
    pub fn turn(&self) -> usize {
        self.turn
    }

    /// The record of the trajectory has arrived, or has grown.
    pub fn opened(&mut self, recording: &Recording) {
        if recording.id != self.id {
            return;
        }
        let first = self.recording.is_none();
        let mut live = Live::default();
        recording.events.iter().for_each(|event| live.apply(event));
        self.live = live;
        self.recording = Some(recording.clone());
        if first {
            self.select_planner();
        }
    }

    /// Select the planner's call of the selected turn: the one that trains.
    fn select_planner(&mut self) {
        let turn = self.live.turn(self.turn).map_or(0, |turn| turn.turn);
        let found = self.recording.as_ref().and_then(|recording| {
            recording.calls().position(|call| call.role == Role::Planner && call.turn == turn)
        });
        if let Some(call) = found {
            (self.call, self.token) = (call, 0);
        }
    }

    /// False when the action closes it.
    pub fn perform(&mut self, action: Action, page: isize) -> bool {
        match action {
            Action::Escape => return false,
            Action::NextPane => self.show((self.face.0 + 1) % FACES.len()),
            Action::PreviousPane => self.show((self.face.0 + FACES.len() - 1) % FACES.len()),
            Action::Face(Face(face)) | Action::Pane(face) => self.show(face),
            Action::TurnBack => self.walk_turns(-1),
            Action::TurnForward => self.walk_turns(1),
            Action::CallBack => self.walk_calls(-1),
            Action::CallForward => self.walk_calls(1),
            Action::Back => self.walk_tokens(-1),
            Action::Forward => self.walk_tokens(1),
            Action::ScrollUp => self.scroll = self.scroll.saturating_sub(1),
            Action::ScrollDown => self.scroll = self.scroll.saturating_add(1),
            Action::PageUp => self.scroll = self.scroll.saturating_add_signed(-page),
            Action::PageDown => self.scroll = self.scroll.saturating_add_signed(page),
            Action::First => self.scroll = 0,
            Action::Newest => self.scroll = usize::MAX,
            _ => {}
        }
        true
    }

    fn walk_turns(&mut self, step: isize) {
        self.turn = moved(self.turn, step, self.live.trajectory.turns.len());
        self.scroll = 0;
        self.select_planner();
    }

    fn walk_calls(&mut self, step: isize) {
        let count = self.recording.as_ref().map_or(0, |recording| recording.calls().count());
        (self.call, self.token, self.scroll) = (moved(self.call, step, count), 0, 0);
    }

    fn walk_tokens(&mut self, step: isize) {
        let call = self.recording.as_ref().and_then(|recording| recording.calls().nth(self.call));
        let count = call.map_or(0, |call| call.completion.completion_ids.len());
        self.token = moved(self.token, step, count);
    }

    fn show(&mut self, face: usize) {
        (self.face, self.scroll) = (Face(face.min(FACES.len() - 1)), 0);
    }

    /// What helps in the view that shows.
    pub fn hints(&self) -> Vec<(Action, &'static str)> {
        let mut hints = vec![(Action::Escape, "back"), (Action::NextPane, "next view")];
        hints.extend([(Action::TurnBack, ""), (Action::TurnForward, "turn")]);
        if self.face == Face::CALLS || self.face == Face::TOKENS {
            hints.extend([(Action::CallBack, ""), (Action::CallForward, "model call")]);
        }
        if self.face == Face::TOKENS {
            hints.extend([(Action::Back, ""), (Action::Forward, "token")]);
        } else {
            hints.push((Action::ScrollDown, "scroll"));
        }
        hints
    }

    /// Every view with its key, by name while there is room for the names; the one that shows always by name.
    fn title(&self, room: usize) -> Row {
        let row = |names: &[&str; 7], gap: &str, all: bool| {
            let margin = Row::new().say(if gap.is_empty() { " " } else { "" }, Ink::Title);
            names.iter().enumerate().fold(margin, |row, (n, name)| {
                let here = self.face == Face(n);
                let name = if all || here { format!(" {name}") } else { String::new() };
                let ink = if here { Ink::TitleFocus } else { Ink::Title };
                row.say(format!("{gap}{}{name} ", n + 1), ink)
            })
        };
        let named = [row(&FACES, " ", true), row(&SHORT, " ", true), row(&SHORT, "", true)];
        let fits = named.into_iter().find(|row| row.width() <= room);
        fits.unwrap_or_else(|| row(&FACES, "", false))
    }

    /// Draw over `area`.
    pub fn draw(&mut self, buffer: &mut Buffer, area: Rect, theme: &Theme) {
        frame_block(buffer, area, Ink::BorderFocus, theme);
        draw_title(buffer, area, &self.title(usize::from(area.width.saturating_sub(2))), theme);
        let inside = inner(area);
        match self.face {
            Face::CALLS | Face::TOKENS => self.draw_calls(buffer, inside, theme),
            Face::TIME => {
                let turn = self.live.turn(self.turn).map(|turn| turn.turn);
                let events = self.recording.as_ref().map(|recording| recording.events.clone());
                let rows = time::rows(&events.unwrap_or_default(), turn, usize::from(inside.width));
                self.scrolled(buffer, inside, &rows, theme);
            }
            Face(pane) => {
                let (pane, width) = (Pane::ALL[pane.min(3)], usize::from(inside.width));
                let rows = pane.page(&self.live, self.turn, width, Room::Screen).rows;
                self.scrolled(buffer, inside, &rows, theme);
            }
        }
    }

    /// The list of calls, and beside it the call or its tokens.
    fn draw_calls(&mut self, buffer: &mut Buffer, area: Rect, theme: &Theme) {
        let Some(recording) = self.recording.clone() else {
            Row::new().say("reading the record", Ink::Dim).draw(buffer, area, theme);
            return;
        };
        let list = calls::list(&recording, self.call);
        let column = if area.width >= 60 { 21 } else { 0 };
        let height = usize::from(area.height);
        if column > 0 {
            let first = scrolled(0, self.call, height);
            draw_rows(buffer, Rect { width: column, ..area }, list.iter().skip(first), theme);
        }
        let area = Rect { x: area.x + column, width: area.width - column, ..area };
        let width = usize::from(area.width);
        if self.face == Face::CALLS {
            let rows = calls::rows(&recording, self.call, width);
            return self.scrolled(buffer, area, &rows, theme);
        }
        let Some(call) = recording.calls().nth(self.call) else { return };
        let tokens = tokens::tokens(call, recording.token_texts(self.call));
        let advantage = recording.advantage.filter(|_| call.role == Role::Planner);
        let mut figures = tokens::figure_rows(&tokens, self.token, advantage, width);
        if figures.len() > height / 2 {
            // Little room: the tokens come before what explains them.
            figures.remove(0);
            figures.truncate(height / 2);
        }
        let (rows, here) = tokens::text_rows(&tokens, self.token, width);
        let room = height.saturating_sub(figures.len() + 1);
        draw_rows(buffer, area, figures.iter(), theme);
        let below = u16::try_from(figures.len() + 1).unwrap_or(0);
        let rest = Rect { y: area.y + below, height: area.height.saturating_sub(below), ..area };
        draw_rows(buffer, rest, rows.iter().skip(scrolled(0, here, room)), theme);
    }

    /// Rows from the scroll on, which is held in bounds here, and how many do not show.
    fn scrolled(&mut self, buffer: &mut Buffer, area: Rect, rows: &[Row], theme: &Theme) {
        let height = usize::from(area.height);
        self.scroll = self.scroll.min(rows.len().saturating_sub(height));
        draw_rows(buffer, area, rows.iter().skip(self.scroll), theme);
        let below = rows.len().saturating_sub(self.scroll + height);
        if self.scroll + below > 0 {
            let words = Row::new().say(format!(" {} above, {below} below ", self.scroll), Ink::Dim);
            let frame = Rect { x: area.x, y: area.y, width: area.width + 2, height: area.height + 1 };
            draw_corner(buffer, frame, &words, theme);
        }
    }
}
