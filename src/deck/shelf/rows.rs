//! The rows of the list: a session, a trajectory of it, and the one that stands whole beside the list.

use unicode_width::UnicodeWidthStr;

use crate::deck::fit::{fitted, padded};
use crate::deck::library::{SessionLine, TrajectoryLine};
use crate::deck::row::{Prose, Row};
use crate::deck::theme::Ink;

/// Columns from which figures, and the family of an evaluation's question, stand beside the query.
const FIGURES_FROM: usize = 70;
const FAMILY_FROM: usize = 100;
const FAMILY: usize = 17;

/// A query with its answer, uncut, and what is known of it.
pub(super) fn whole_rows(line: &TrajectoryLine, width: usize) -> Vec<Row> {
    let plain = Row::new();
    let mut rows = Prose::of(line.query.as_str(), Ink::Strong).wrap(width, &plain, &plain);
    rows.push(Row::new());
    let answer = line.answer.clone().unwrap_or_else(|| format!("({})", line.status));
    rows.extend(Prose::of(answer, Ink::Text).wrap(width, &plain, &plain));
    rows.push(Row::new());
    let turns = if line.turns == 1 { "turn" } else { "turns" };
    let mut words = Prose::new();
    words = match line.right {
        Some(true) => words.say("right  ", Ink::Good),
        Some(false) => words.say(format!("wrong, right is: {}  ", line.reference), Ink::Bad),
        None => words,
    };
    words = match line.label.as_deref() {
        Some("good") => words.say("(good)  ", Ink::Good),
        Some(label) => words.say(format!("({label})  "), Ink::Bad),
        None => words,
    };
    let mut facts = format!("{} {turns} · {:.1} s", line.turns, line.seconds);
    if !line.family.is_empty() {
        facts.push_str(&format!(" · {}", line.family));
    }
    let adapter = line.adapter.as_deref().map_or("no adapter", |id| id.get(..8).unwrap_or(id));
    let adapter = if line.adapter.is_some() { format!("adapter {adapter}") } else { adapter.to_string() };
    rows.extend(words.say(format!("{facts} · {adapter}"), Ink::Dim).wrap(width, &plain, &plain));
    rows
}

/// `found`: how many of its queries hold what is looked for, where they do not stand below it.
pub(super) fn session_row(session: &SessionLine, found: usize, here: bool, width: usize) -> Row {
    let count = session.trajectories.len();
    let tail = match session.score {
        Some(score) if found > 0 && count == 0 => format!("  {found} of {} fit", score.queries),
        Some(score) if count == 0 && width >= FAMILY_FROM => format!("  {}: Enter opens it", score.words()),
        Some(score) => format!("  {}", score.words()),
        None => format!("  {count} {}", if count == 1 { "query" } else { "queries" }),
    };
    // On a narrow screen the day goes before what was asked.
    let when = if width < 60 { String::new() } else { format!("{:<16}  ", session.when) };
    let room = width.saturating_sub(2 + when.len() + tail.len()).max(8);
    Row::new()
        .say(if here { "> " } else { "  " }, Ink::Accent)
        .say(when, Ink::Dim)
        .say(fitted(&session.title, room), if here { Ink::Selected } else { Ink::Strong })
        .say(tail, Ink::Dim)
}

pub(super) fn trajectory_row(line: &TrajectoryLine, here: bool, marked: bool, width: usize) -> Row {
    let (sign, ink) = match line.label.as_deref() {
        Some("good") => ("+", Ink::Good),
        Some(_) => ("-", Ink::Bad),
        None => (" ", Ink::Text),
    };
    let (verdict, verdict_ink) = match line.right {
        Some(true) => ("right ", Ink::Good),
        Some(false) => ("wrong ", Ink::Bad),
        None => ("", Ink::Text),
    };
    let mut figures = String::new();
    // Of an evaluation what was asked comes before how long it took.
    if width >= FIGURES_FROM + if line.right.is_some() { 30 } else { 0 } {
        let turns = if line.turns == 1 { "turn " } else { "turns" };
        figures = format!("{} {turns} {:>6.1} s  ", line.turns, line.seconds);
    }
    if width >= FAMILY_FROM && !line.family.is_empty() {
        figures.push_str(&format!("{}  ", padded(&line.family, FAMILY)));
    }
    let room = width.saturating_sub(6 + verdict.len() + figures.len());
    let outcome = match (&line.answer, line.status.as_str()) {
        (Some(answer), _) => answer.clone(),
        (None, status) => format!("({status})"),
    };
    // A short answer leaves its room to the query.
    let query = fitted(&line.query, (room * 3 / 5).max(room.saturating_sub(outcome.width() + 4)));
    let rest = room.saturating_sub(query.width() + 4);
    Row::new()
        .say(if here { "> " } else { "  " }, Ink::Accent)
        .say(if marked { "m" } else { " " }, Ink::Warning)
        .say(format!("{sign} "), ink)
        .say(verdict, verdict_ink)
        .say(figures, Ink::Dim)
        .say(query, if here { Ink::Selected } else { Ink::Text })
        .say(" -> ", Ink::Dim)
        .say(fitted(&outcome, rest), Ink::Dim)
}
