//! Two trajectories beside each other, turn by turn: what is the same, what differs, what only one has.
//!
//! Turns are aligned by their number: turn n of one is the other's answer to the same moment. Every line
//! carries a mark (`=` same, `~` changed, `<` and `>` only in one), so colour is never the only sign.

use crate::deck::pane::whole_arguments;
use crate::deck::row::{Prose, Row};
use crate::deck::theme::Ink;
use crate::flow::trajectory::{Decision, Outcome, Trajectory, Turn};

/// How one thing compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Same,
    Changed,
    OnlyLeft,
    OnlyRight,
}

impl Mark {
    fn of(left: Option<&str>, right: Option<&str>) -> Mark {
        match (left, right) {
            (Some(_), None) => Mark::OnlyLeft,
            (None, Some(_)) => Mark::OnlyRight,
            (left, right) if left == right => Mark::Same,
            _ => Mark::Changed,
        }
    }

    fn sign(self) -> (&'static str, Ink) {
        match self {
            Mark::Same => ("=", Ink::Dim),
            Mark::Changed => ("~", Ink::Warning),
            Mark::OnlyLeft => ("<", Ink::Bad),
            Mark::OnlyRight => (">", Ink::Added),
        }
    }
}

/// One compared thing: what it is, how it stands on either side.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: &'static str,
    pub left: Option<String>,
    pub right: Option<String>,
    pub mark: Mark,
}

fn field(name: &'static str, left: Option<String>, right: Option<String>) -> Field {
    let mark = Mark::of(left.as_deref(), right.as_deref());
    Field { name, left, right, mark }
}

/// A part of the comparison: "turn 2", "answer".
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub name: String,
    pub fields: Vec<Field>,
}

impl Part {
    fn same(&self) -> bool {
        self.fields.iter().all(|field| field.mark == Mark::Same)
    }
}

/// Align two trajectories.
pub fn parts(left: &Trajectory, right: &Trajectory) -> Vec<Part> {
    let both = |of: &dyn Fn(&Trajectory) -> Option<String>| (of(left), of(right));
    let (l, r) = both(&|t| Some(t.query.clone()));
    let mut parts = vec![Part { name: "query".to_string(), fields: vec![field("query", l, r)] }];
    let (l, r) = both(&|t| t.analysis.as_ref().map(|analysis| analysis.text.clone()));
    parts[0].fields.push(field("analysis", l, r));
    let short = |hash: &String| hash.get(..8).unwrap_or(hash).to_string();
    let (l, r) = both(&|t| Some(t.adapter.as_ref().map_or_else(|| "none".to_string(), short)));
    parts[0].fields.push(field("adapter", l, r));
    for n in 0..left.turns.len().max(right.turns.len()) {
        let (l, r) = (left.turns.get(n), right.turns.get(n));
        let of = |name, what: fn(&Turn) -> Option<String>| field(name, l.and_then(what), r.and_then(what));
        let fields = vec![
            of("sub-goal", |t| t.plan.as_ref().map(|plan| plan.sub_goal.clone())),
            of("tool", |t| t.plan.as_ref().map(|plan| plan.tool.clone())),
            of("refused", |t| t.refused.as_ref().map(|(_, reason)| reason.clone())),
            of("command", |t| t.command.as_ref().map(|command| whole_arguments(&command.arguments))),
            of("result", |t| t.result.as_ref().map(|result| result.text.trim().to_string())),
            of("verdict", verdict),
        ];
        let fields = fields.into_iter().filter(|f| f.left.is_some() || f.right.is_some()).collect();
        parts.push(Part { name: format!("turn {}", n + 1), fields });
    }
    let (l, r) = both(&outcome);
    parts.push(Part { name: "answer".to_string(), fields: vec![field("answer", l, r)] });
    parts
}

fn verdict(turn: &Turn) -> Option<String> {
    let verdict = turn.verdict.as_ref()?;
    let word = if verdict.decision == Decision::Stop { "stop" } else { "continue" };
    Some(format!("{word}: {}", verdict.reason))
}

fn outcome(trajectory: &Trajectory) -> Option<String> {
    match &trajectory.outcome {
        Outcome::Answered => trajectory.answer.clone(),
        Outcome::Failed { reason, .. } => Some(format!("failed: {reason}")),
        Outcome::Cancelled => Some("cancelled".to_string()),
        Outcome::Running => None,
    }
}

/// What the two did not have in common before their first turn.
fn began(part: &Part) -> &'static str {
    let differs = |name| part.fields.iter().any(|field| field.name == name && field.mark != Mark::Same);
    match (differs("query"), differs("adapter"), differs("analysis")) {
        (true, true, _) => "; they were asked different things, and the right one began with another adapter",
        (true, false, _) => "; they were asked different things",
        (false, true, _) => "; the right one began with another adapter",
        (false, false, true) => "; the query was analysed differently",
        (false, false, false) => "",
    }
}

/// Where the two part and whether it mattered, in a line.
fn summary(parts: &[Part]) -> String {
    let differs = |part: &&Part| !part.same();
    let answer = parts.last().is_none_or(Part::same);
    let outcome = if answer { "both end in the same answer" } else { "the answers differ" };
    let turns = parts.get(1..parts.len().saturating_sub(1)).unwrap_or_default();
    let whence = parts.first().map(began).unwrap_or_default();
    match turns.iter().find(differs) {
        Some(part) => {
            let changed = part.fields.iter().filter(|field| field.mark != Mark::Same);
            let names: Vec<&str> = changed.map(|field| field.name).collect();
            format!("They part in {} ({}); {outcome}{whence}.", part.name, names.join(", "))
        }
        None if answer && whence.is_empty() => {
            "Nothing differs: both took the same way to the same answer.".to_string()
        }
        None => format!("The turns are the same; {outcome}{whence}."),
    }
}

/// Characters of a field on one side.
const SHOWN: usize = 400;
/// Characters before the first difference that show with it.
const BEFORE: usize = 80;

/// The comparison in rows: side by side where there is room, else one under the other. Equal parts fold
/// into one line unless `whole`.
pub fn rows(left: &Trajectory, right: &Trajectory, whole: bool, width: usize) -> Vec<Row> {
    let parts = parts(left, right);
    let mut rows = Prose::of(summary(&parts), Ink::Strong).wrap(width, &Row::new(), &Row::new());
    rows.push(Row::new());
    for part in parts {
        let (sign, ink) = if part.same() { ("=", Ink::Dim) } else { ("~", Ink::Warning) };
        let lead = Row::new().say(format!("{sign} "), ink).say(&part.name, Ink::Heading);
        if part.same() && !whole {
            rows.push(lead.say("  the same on both sides", Ink::Dim));
            continue;
        }
        rows.push(lead);
        for field in &part.fields {
            if width >= 72 { side_by_side(field, width, &mut rows) } else { stacked(field, width, &mut rows) }
        }
    }
    rows
}

fn side_by_side(field: &Field, width: usize, rows: &mut Vec<Row>) {
    let (sign, ink) = field.mark.sign();
    let lead = 14;
    let column = (width - lead - 3) / 2;
    let from = first_shown(field);
    let cells = [&field.left, &field.right].map(|text| cell(text.as_deref(), field.mark, column, from));
    for n in 0..cells[0].len().max(cells[1].len()) {
        let mut row = match n {
            0 => Row::new().say(format!("  {sign} "), ink).say(format!("{:<10}", field.name), Ink::Dim),
            _ => Row::new().say(" ".repeat(lead), Ink::Text),
        };
        let left = cells[0].get(n).cloned().unwrap_or_default();
        let pad = column.saturating_sub(left.width());
        row = row.join(left).say(" ".repeat(pad), Ink::Text).say(" | ", Ink::Border);
        rows.push(row.join(cells[1].get(n).cloned().unwrap_or_default()));
    }
}

fn stacked(field: &Field, width: usize, rows: &mut Vec<Row>) {
    let (sign, ink) = field.mark.sign();
    rows.push(Row::new().say(format!("  {sign} "), ink).say(field.name, Ink::Dim));
    let same = field.mark == Mark::Same;
    let from = first_shown(field);
    let sides = [("   left  ", &field.left), ("   right ", &field.right)];
    for (name, text) in sides.into_iter().take(if same { 1 } else { 2 }) {
        let name = if same { "         " } else { name };
        for (n, row) in
            cell(text.as_deref(), field.mark, width.saturating_sub(9).max(8), from).into_iter().enumerate()
        {
            let lead = if n == 0 { name } else { "         " };
            rows.push(Row::new().say(lead, Ink::Dim).join(row));
        }
    }
}

/// The character from which both sides show: their start, unless what differs first would then not show.
fn first_shown(field: &Field) -> usize {
    let (Some(left), Some(right)) = (&field.left, &field.right) else { return 0 };
    let same = left.chars().zip(right.chars()).take_while(|(l, r)| l == r).count();
    if field.mark == Mark::Changed && same + BEFORE > SHOWN { same - BEFORE } else { 0 }
}

/// `from`: characters left out before what shows.
fn cell(text: Option<&str>, mark: Mark, width: usize, from: usize) -> Vec<Row> {
    let Some(text) = text else { return vec![Row::new().say("(none)", Ink::Dim)] };
    let at = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    let (start, cut) = (at(from), at(from + SHOWN));
    let ink = if mark == Mark::Same { Ink::Dim } else { Ink::Text };
    let mut prose = Prose::new();
    if from > 0 {
        prose = prose.say(format!("[.. {from} characters, the same on both sides] "), Ink::Dim);
    }
    prose = prose.say(&text[start..cut], ink);
    if cut < text.len() {
        prose = prose.say(" [..]", Ink::Dim);
    }
    prose.wrap(width, &Row::new(), &Row::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deck::demo;

    fn trajectory(query: &str) -> Trajectory {
        Trajectory::from_events(&demo::events("t", query))
    }

    fn marks(part: &Part) -> Vec<(&str, Mark)> {
        part.fields.iter().map(|field| (field.name, field.mark)).collect()
    }

    #[test]
    fn the_same_trajectory_differs_nowhere() {
        let one = trajectory("a query");
        assert!(parts(&one, &one).iter().all(Part::same));
        let shown = rows(&one, &one, false, 100);
        assert_eq!(shown.len(), 2 + 2 + one.turns.len());
        assert!(shown[0].text().starts_with("Nothing differs"), "{}", shown[0].text());
    }

    #[test]
    fn programs_differ_where_any_of_their_lines_does() {
        let program = |third: &str| {
            let mut one = trajectory("a query");
            let code = format!("import math\nx = 2\n{third}\nprint(x)");
            one.turns[0].command.as_mut().unwrap().arguments = serde_json::json!({"code": code});
            one
        };
        let (left, right) = (program("x = x + 1"), program("x = x * 7"));
        assert!(marks(&parts(&left, &right)[1]).contains(&("command", Mark::Changed)));
        assert!(marks(&parts(&left, &left)[1]).contains(&("command", Mark::Same)));
        for width in [60, 120] {
            let text: String =
                rows(&left, &right, false, width).iter().map(|row| row.text() + "\n").collect();
            assert!(text.contains("x = x + 1") && text.contains("x = x * 7"), "{text}");
            assert!(text.starts_with("They part in turn 1 (command)"), "{text}");
        }
    }

    #[test]
    fn what_differs_late_in_a_long_text_shows() {
        let result = |end: &str| {
            let mut one = trajectory("a query");
            one.turns[0].result.as_mut().unwrap().text =
                format!("{}{end}{}", "é ".repeat(900), "x".repeat(900));
            one
        };
        let (left, right) = (result("forty"), result("fifty"));
        for width in [60, 120] {
            let text: String =
                rows(&left, &right, false, width).iter().map(|row| row.text() + "\n").collect();
            assert!(text.contains("forty") && text.contains("fifty"), "{text}");
            assert!(text.contains("[.. 1721 characters"), "{text}");
        }
    }

    #[test]
    fn what_differs_and_what_only_one_has_is_marked() {
        let left = trajectory("a query");
        let mut right = left.clone();
        right.turns.truncate(2);
        right.turns[1].plan.as_mut().unwrap().tool = "calculator".to_string();
        let parts = parts(&left, &right);
        assert!(parts[0].same() && parts[1].same() && parts[4].same());
        assert!(marks(&parts[2]).contains(&("tool", Mark::Changed)));
        assert!(marks(&parts[3]).iter().all(|(_, mark)| *mark == Mark::OnlyLeft));
        let text: String = rows(&left, &right, false, 90).iter().map(|row| row.text() + "\n").collect();
        assert!(text.starts_with("They part in turn 2 (tool); both end in the same answer."), "{text}");
        assert!(text.contains("~ tool") && text.contains("(none)") && text.contains("= turn 1"));
        for width in [24, 71, 72, 200] {
            assert!(rows(&left, &right, true, width).iter().all(|row| row.width() <= width.max(30)));
        }
    }
}
