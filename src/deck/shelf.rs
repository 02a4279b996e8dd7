//! A list of saved sessions with their trajectories: what is found, selected and marked. State and rows; what
//! its keys do is the replay tab's.

mod rows;

use crate::deck::fit::fitted;
use crate::deck::library::{SessionLine, TrajectoryLine};
use crate::deck::message::LabelValue;
use crate::deck::paint::{draw_corner, draw_rows, draw_title, frame_block, inner};
use crate::deck::row::{Prose, Row};
use crate::deck::table::{moved, scrolled};
use crate::deck::theme::{Ink, Theme};
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use rows::{session_row, trajectory_row, whole_rows};

/// Columns of the tab from which the selected query stands beside the list.
const BESIDE_FROM: u16 = 140;

#[derive(Default)]
pub struct Shelf {
    sessions: Vec<SessionLine>,
    /// It holds one session, whose own line the title is.
    alone: bool,
    /// None until the first answer.
    listed: bool,
    pub filter: String,
    /// Letters go to the filter.
    pub searching: bool,
    /// Only what went wrong.
    pub wrong: bool,
    /// What was looked for in the evaluations that are not open, and how many queries of each hold it.
    found: (String, Vec<(String, usize)>),
    selected: usize,
    first: usize,
    /// Trajectory to compare the next one with.
    pub marked: Option<String>,
}

/// A line of the list.
#[derive(Clone, Copy)]
pub enum Line<'a> {
    Session(&'a SessionLine),
    Trajectory(&'a SessionLine, &'a TrajectoryLine),
}

fn id_of(line: &Line) -> String {
    match line {
        Line::Session(session) => session.id.clone(),
        Line::Trajectory(_, trajectory) => trajectory.id.clone(),
    }
}

impl Shelf {
    /// One evaluation with all that was asked in it.
    pub fn of_evaluation(line: SessionLine) -> Shelf {
        Shelf { sessions: vec![line], alone: true, listed: true, ..Shelf::default() }
    }

    pub fn first_session(&self) -> Option<&SessionLine> {
        self.sessions.first()
    }

    /// The record was read anew. What was selected stays so, wherever it stands by now; where it is gone, what has
    /// taken its place.
    pub fn listed(&mut self, sessions: Vec<SessionLine>) {
        let held = self.selected().as_ref().map(id_of);
        self.sessions = sessions;
        self.listed = true;
        let lines = self.lines();
        let at = lines.iter().position(|line| Some(id_of(line)) == held);
        self.selected = at.unwrap_or(moved(self.selected, 0, lines.len()));
    }

    pub fn is_listed(&self) -> bool {
        self.listed
    }

    pub fn holds(&self, session: &str) -> bool {
        self.sessions.iter().any(|line| line.id == session)
    }

    /// What the filters leave: whole sessions whose title fits, else the trajectories that fit.
    fn lines(&self) -> Vec<Line<'_>> {
        let filter = self.filter.to_lowercase();
        let fits = |text: &str| filter.is_empty() || text.to_lowercase().contains(&filter);
        let mut lines = Vec::new();
        for session in &self.sessions {
            let whole = fits(&session.title) || fits(&session.id);
            let found = |t: &&TrajectoryLine| {
                let verdict = t.right.map(|right| if right { "right" } else { "wrong" });
                let more = [t.answer.as_deref(), t.label.as_deref(), t.adapter.as_deref(), verdict];
                (t.went_wrong() || !self.wrong)
                    && (whole
                        || [&t.query, &t.id, &t.status, &t.family].into_iter().any(|text| fits(text))
                        || more.into_iter().flatten().any(fits))
            };
            let trajectories: Vec<&TrajectoryLine> = session.trajectories.iter().filter(found).collect();
            let folded = session.score.filter(|_| session.trajectories.is_empty());
            let folded_fits = folded.is_some_and(|score| {
                (whole || self.found_in(&session.id) > 0) && (score.right < score.checked || !self.wrong)
            });
            if folded_fits || !trajectories.is_empty() {
                lines.extend((!self.alone).then_some(Line::Session(session)));
                lines.extend(trajectories.into_iter().map(|t| Line::Trajectory(session, t)));
            }
        }
        lines
    }

    /// How many queries of an evaluation that is not open hold the filter's text, as far as that is known.
    fn found_in(&self, session: &str) -> usize {
        let (text, counts) = &self.found;
        let count = counts.iter().find(|(id, _)| id == session && *text == self.filter);
        count.map_or(0, |(_, count)| *count)
    }

    /// The filter, where it fits queries of this evaluation; else nothing.
    pub fn found_by_queries(&self, session: &str) -> String {
        if self.found_in(session) > 0 { self.filter.clone() } else { String::new() }
    }

    pub fn found(&mut self, text: String, evaluations: Vec<(String, usize)>) {
        let held = self.selected().as_ref().filter(|_| self.selected > 0).map(id_of);
        self.found = (text, evaluations);
        // A line that appears above it moves the selection along.
        let at = self.lines().iter().position(|line| Some(id_of(line)) == held);
        self.selected = at.unwrap_or(0);
    }

    /// What has to be looked for in the record: a text, where evaluations are listed without their queries.
    pub fn unknown(&self) -> Option<&str> {
        let folded = |session: &SessionLine| session.score.is_some() && session.trajectories.is_empty();
        let text = self.filter.as_str();
        (!text.is_empty() && self.found.0 != text && self.sessions.iter().any(folded)).then_some(text)
    }

    pub fn selected(&self) -> Option<Line<'_>> {
        self.lines().get(self.selected).copied()
    }

    /// The session the selected line belongs to.
    pub fn session(&self) -> Option<&SessionLine> {
        match self.selected() {
            Some(Line::Session(session) | Line::Trajectory(session, _)) => Some(session),
            None => self.first_session().filter(|_| self.alone),
        }
    }

    /// The selected line stands for an evaluation that is not open.
    pub fn folded(&self) -> Option<&SessionLine> {
        self.session().filter(|session| session.score.is_some() && session.trajectories.is_empty())
    }

    /// The selected trajectory, or the newest of the selected session.
    pub fn trajectory(&self) -> Option<&TrajectoryLine> {
        match self.selected()? {
            Line::Session(session) => session.trajectories.last(),
            Line::Trajectory(_, trajectory) => Some(trajectory),
        }
    }

    /// The query on the selected line; None on a line that stands for a whole session.
    pub fn query(&self) -> Option<&TrajectoryLine> {
        match self.selected()? {
            Line::Session(_) => None,
            Line::Trajectory(_, trajectory) => Some(trajectory),
        }
    }

    /// A label was kept.
    pub fn labelled(&mut self, trajectory: &str, value: LabelValue) {
        let lines = self.sessions.iter_mut().flat_map(|session| &mut session.trajectories);
        for line in lines.filter(|line| line.id == trajectory) {
            line.label = match value {
                LabelValue::Good => Some("good".to_string()),
                LabelValue::Bad => Some("bad".to_string()),
                LabelValue::Clear => None,
            };
        }
    }

    pub fn walk(&mut self, step: isize) {
        self.selected = moved(self.selected, step, self.lines().len());
    }

    /// To the query before or after the selected one, whatever session it is of; false where there is none.
    pub fn walk_queries(&mut self, forward: bool) -> bool {
        let lines = self.lines();
        let is_query = |at: &usize| matches!(lines[*at], Line::Trajectory(..));
        let found = match forward {
            true => (self.selected + 1..lines.len()).find(is_query),
            false => (0..self.selected.min(lines.len())).rev().find(is_query),
        };
        self.selected = found.unwrap_or(self.selected);
        found.is_some()
    }

    /// Select a trajectory, where it is in the list.
    pub fn select(&mut self, id: &str) {
        let here = |line: &Line| matches!(line, Line::Trajectory(_, trajectory) if trajectory.id == id);
        self.selected = self.lines().iter().position(here).unwrap_or(self.selected);
    }

    pub fn search(&mut self, filter: String) {
        self.filter = filter;
        self.selected = 0;
    }

    /// Show only what went wrong, or everything again; what is selected stays so where it still shows.
    pub fn only_wrong(&mut self, wrong: bool) {
        let held = self.query().map(|line| line.id.clone());
        (self.wrong, self.selected) = (wrong, 0);
        held.iter().for_each(|id| self.select(id));
    }

    /// The list in its frame, and beside it the selected query whole where there is room; answers where the
    /// cursor stands.
    pub fn draw(&mut self, buffer: &mut Buffer, area: Rect, title: &str, theme: &Theme) -> Option<Position> {
        if area.width < BESIDE_FROM || self.selected().is_none() {
            return self.draw_list(buffer, area, title, theme);
        }
        let list = Rect { width: area.width * 3 / 5, ..area };
        let beside = Rect { x: list.right(), width: area.width - list.width, ..area };
        let cursor = self.draw_list(buffer, list, title, theme);
        frame_block(buffer, beside, Ink::Border, theme);
        draw_title(buffer, beside, &Row::new().say(" selected ", Ink::Title), theme);
        let inside = inner(beside);
        let width = usize::from(inside.width);
        let rows = match (self.trajectory(), self.folded().and_then(|session| session.score)) {
            (Some(line), _) => whole_rows(line, width),
            (None, Some(score)) => {
                let words =
                    format!("{}. Enter opens it: every query, what it came to, and how.", score.words());
                Prose::of(words, Ink::Text).wrap(width, &Row::new(), &Row::new())
            }
            (None, None) => Vec::new(),
        };
        draw_rows(buffer, inside, rows.iter(), theme);
        cursor
    }

    fn draw_list(&mut self, buffer: &mut Buffer, area: Rect, title: &str, theme: &Theme) -> Option<Position> {
        frame_block(buffer, area, Ink::Border, theme);
        let title = fitted(title, usize::from(area.width.saturating_sub(4)));
        draw_title(buffer, area, &Row::new().say(format!(" {title} "), Ink::Title), theme);
        let mut inside = inner(area);
        let mut cursor = None;
        if self.searching || self.wrong || !self.filter.is_empty() {
            let mut row = Row::new();
            if self.searching || !self.filter.is_empty() {
                row = row.say("find ", Ink::Dim).say(self.filter.as_str(), Ink::Strong);
            }
            if self.searching {
                let x = inside.x + u16::try_from(row.width()).unwrap_or(0);
                cursor = Some(Position::new(x.min(inside.right().saturating_sub(1)), inside.y));
                row = row.say(" ", Ink::Text);
            }
            let gap = if row.width() > 0 { "  " } else { "" };
            let all: usize = self.sessions.iter().map(|session| session.trajectories.len()).sum();
            let left = self.lines().iter().filter(|line| matches!(line, Line::Trajectory(..))).count();
            let only = if self.wrong { ", only what went wrong" } else { "" };
            row.say(format!("{gap}{left} of {all}{only}"), Ink::Dim).draw(buffer, inside, theme);
            inside = Rect { y: inside.y + 1, height: inside.height.saturating_sub(1), ..inside };
        }
        let height = usize::from(inside.height);
        let rows = self.rows(usize::from(inside.width), height);
        draw_rows(buffer, inside, rows.iter(), theme);
        let count = self.lines().len();
        if count > height {
            let words = format!(" {} of {count} ", self.selected + 1);
            draw_corner(buffer, area, &Row::new().say(words, Ink::Dim), theme);
        }
        cursor
    }

    /// Rows for `height` rows, the selected one among them.
    fn rows(&mut self, width: usize, height: usize) -> Vec<Row> {
        let lines = self.lines();
        if lines.is_empty() {
            let words = match (self.listed, self.wrong, self.filter.is_empty()) {
                (false, ..) => "reading the record",
                (true, true, _) => "nothing that fits went wrong; Esc shows everything",
                (true, false, false) => "nothing fits; Esc shows everything",
                (true, false, true) => "nothing has been asked yet: every query of the chat will stand here",
            };
            return Prose::of(words, Ink::Dim).wrap(width, &Row::new(), &Row::new());
        }
        let first = scrolled(self.first, self.selected, height);
        let row = |(n, line): (usize, &Line)| {
            let here = n == self.selected;
            match line {
                Line::Session(session) => session_row(session, self.found_in(&session.id), here, width),
                Line::Trajectory(_, trajectory) => {
                    let marked = self.marked.as_deref() == Some(&trajectory.id);
                    trajectory_row(trajectory, here, marked, width)
                }
            }
        };
        let rows = lines.iter().enumerate().skip(first).take(height).map(row).collect();
        self.first = first;
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf() -> Shelf {
        let line = |id: &str, query: &str| TrajectoryLine {
            id: id.to_string(),
            query: query.to_string(),
            answer: Some("42".to_string()),
            ..TrajectoryLine::default()
        };
        let session = |id: &str, title: &str, trajectories| SessionLine {
            id: id.to_string(),
            title: title.to_string(),
            when: "2026-11-22 14:05".to_string(),
            trajectories,
            score: None,
        };
        let mut shelf = Shelf::default();
        shelf.listed(vec![
            session("s2", "rivers", vec![line("t3", "How long is the Nile?")]),
            session("s1", "numbers", vec![line("t1", "What is 6*7?"), line("t2", "and 6*8?")]),
        ]);
        shelf
    }

    #[test]
    fn the_filter_finds_titles_queries_and_answers() {
        let mut shelf = shelf();
        assert_eq!(shelf.lines().len(), 5);
        for (filter, count) in [("RIVER", 2), ("nile", 2), ("6*8", 2), ("42", 5), ("numbers", 3), ("x", 0)] {
            shelf.search(filter.to_string());
            assert_eq!(shelf.lines().len(), count, "{filter}");
        }
    }

    #[test]
    fn only_what_went_wrong_is_walked_and_the_selection_stays_with_it() {
        let line = |id: &str, right: Option<bool>, status: &str| TrajectoryLine {
            id: id.to_string(),
            status: status.to_string(),
            right,
            ..TrajectoryLine::default()
        };
        let all = vec![
            line("a", Some(true), "answered"),
            line("b", Some(false), "answered"),
            line("c", None, "interrupted"),
            line("d", Some(true), "answered"),
        ];
        let mut shelf = Shelf::of_evaluation(SessionLine { trajectories: all, ..SessionLine::default() });
        let walked = |shelf: &mut Shelf| {
            let mut ids = vec![shelf.query().unwrap().id.clone()];
            while shelf.walk_queries(true) {
                ids.push(shelf.query().unwrap().id.clone());
            }
            ids
        };
        assert_eq!(walked(&mut shelf), ["a", "b", "c", "d"]);
        shelf.select("b");
        shelf.only_wrong(true);
        assert_eq!(walked(&mut shelf), ["b", "c"]);
        shelf.only_wrong(false);
        assert_eq!(shelf.query().unwrap().id, "c");
    }

    #[test]
    fn a_list_read_anew_keeps_what_is_selected() {
        let mut shelf = shelf();
        shelf.walk(3);
        assert_eq!(shelf.query().unwrap().id, "t1");
        let mut sessions = shelf.sessions.clone();
        sessions.insert(0, SessionLine { id: "s3".to_string(), ..sessions[0].clone() });
        sessions[0].trajectories[0].id = "t4".to_string();
        shelf.listed(sessions.clone());
        assert_eq!(shelf.query().unwrap().id, "t1", "something new stands above it");
        sessions.remove(2);
        shelf.listed(sessions);
        assert!(shelf.selected().is_some(), "what is gone leaves its place to the next");
    }

    #[test]
    fn the_selection_stays_in_the_window_and_in_the_list() {
        let mut shelf = shelf();
        shelf.walk(3);
        assert_eq!(shelf.trajectory().unwrap().id, "t1");
        assert!(shelf.rows(60, 2)[1].text().starts_with("> "));
        shelf.walk(100);
        assert_eq!(shelf.trajectory().unwrap().id, "t2");
        shelf.listed(Vec::new());
        assert!(shelf.selected().is_none() && shelf.rows(80, 5).len() == 1);
    }
}
