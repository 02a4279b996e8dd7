//! The list of saved sessions with their trajectories: what is found, selected and marked. State and rows;
//! what its keys do is the replay tab's.

use crate::deck::library::{SessionLine, TrajectoryLine};
use crate::deck::message::LabelValue;
use crate::deck::row::{Prose, Row};
use crate::deck::table::{moved, scrolled};
use crate::deck::theme::Ink;
use crate::text::one_line;

#[derive(Default)]
pub struct Shelf {
    sessions: Vec<SessionLine>,
    /// None until the first answer.
    listed: bool,
    pub filter: String,
    /// Letters go to the filter.
    pub searching: bool,
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

impl Shelf {
    pub fn listed(&mut self, sessions: Vec<SessionLine>) {
        self.sessions = sessions;
        self.listed = true;
        self.selected = moved(self.selected, 0, self.lines().len());
    }

    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// What the filter leaves: whole sessions whose title fits, else the trajectories that fit.
    fn lines(&self) -> Vec<Line<'_>> {
        let filter = self.filter.to_lowercase();
        let fits = |text: &str| filter.is_empty() || text.to_lowercase().contains(&filter);
        let mut lines = Vec::new();
        for session in &self.sessions {
            let whole = fits(&session.title) || fits(&session.id);
            let found = |t: &&TrajectoryLine| {
                let more = [t.answer.as_deref(), t.label.as_deref(), t.adapter.as_deref()];
                whole
                    || fits(&t.query)
                    || fits(&t.id)
                    || fits(&t.status)
                    || more.into_iter().flatten().any(fits)
            };
            let trajectories: Vec<&TrajectoryLine> = session.trajectories.iter().filter(found).collect();
            if whole || !trajectories.is_empty() {
                lines.push(Line::Session(session));
                lines.extend(trajectories.into_iter().map(|t| Line::Trajectory(session, t)));
            }
        }
        lines
    }

    pub fn selected(&self) -> Option<Line<'_>> {
        self.lines().get(self.selected).copied()
    }

    /// The session the selected line belongs to.
    pub fn session(&self) -> Option<&SessionLine> {
        match self.selected()? {
            Line::Session(session) | Line::Trajectory(session, _) => Some(session),
        }
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

    pub fn search(&mut self, filter: String) {
        self.filter = filter;
        self.selected = 0;
    }

    /// Rows for `height` rows, the selected one among them.
    pub fn rows(&mut self, width: usize, height: usize) -> Vec<Row> {
        let lines = self.lines();
        if lines.is_empty() {
            let words = match (self.listed, self.filter.is_empty()) {
                (false, _) => "reading the record",
                (true, false) => "nothing fits; Esc shows everything",
                (true, true) => "nothing has been asked yet: every query of the chat will stand here",
            };
            return Prose::of(words, Ink::Dim).wrap(width, &Row::new(), &Row::new());
        }
        let first = scrolled(self.first, self.selected, height);
        let row = |(n, line): (usize, &Line)| {
            let here = n == self.selected;
            match line {
                Line::Session(session) => session_row(session, here, width),
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

fn session_row(session: &SessionLine, here: bool, width: usize) -> Row {
    let count = session.trajectories.len();
    let tail = format!("  {count} {}", if count == 1 { "query" } else { "queries" });
    let room = width.saturating_sub(20 + tail.len());
    Row::new()
        .say(if here { "> " } else { "  " }, Ink::Accent)
        .say(format!("{:<16}  ", session.when), Ink::Dim)
        .say(fitted(&session.title, room), if here { Ink::Selected } else { Ink::Strong })
        .say(tail, Ink::Dim)
}

fn trajectory_row(line: &TrajectoryLine, here: bool, marked: bool, width: usize) -> Row {
    let (sign, ink) = match line.label.as_deref() {
        Some("good") => ("+", Ink::Good),
        Some(_) => ("-", Ink::Bad),
        None => (" ", Ink::Text),
    };
    let turns = if line.turns == 1 { "turn " } else { "turns" };
    let figures = format!("{} {turns} {:>6.1} s  ", line.turns, line.seconds);
    let figures = if width >= 70 { figures } else { String::new() };
    let room = width.saturating_sub(6 + figures.len());
    let outcome = match (&line.answer, line.status.as_str()) {
        (Some(answer), _) => answer.clone(),
        (None, status) => format!("({status})"),
    };
    let query = fitted(&line.query, room * 3 / 5);
    let rest = room.saturating_sub(query.chars().count() + 4);
    Row::new()
        .say(if here { "> " } else { "  " }, Ink::Accent)
        .say(if marked { "m" } else { " " }, Ink::Warning)
        .say(format!("{sign} "), ink)
        .say(figures, Ink::Dim)
        .say(query, if here { Ink::Selected } else { Ink::Text })
        .say(" -> ", Ink::Dim)
        .say(fitted(&outcome, rest), Ink::Dim)
}

/// One line of at most `width` characters.
pub fn fitted(text: &str, width: usize) -> String {
    let flat = one_line(text);
    if flat.chars().count() <= width {
        return flat;
    }
    flat.chars().take(width.saturating_sub(2)).collect::<String>() + ".."
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
