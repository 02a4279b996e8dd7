//! A table of an answer as rows: columns aligned, cells wrapped where the screen is narrow; where even that leaves
//! no room, each row as a list of `heading: cell`.

use pulldown_cmark::Alignment;

use crate::deck::row::{Prose, Row};
use crate::deck::theme::Ink;

/// Columns a cell needs to be read in.
const LEAST: usize = 6;
/// Between two cells.
const GAP: &str = " | ";

#[derive(Default)]
pub struct Table {
    pub alignments: Vec<Alignment>,
    /// The heading first.
    pub lines: Vec<Vec<Prose>>,
}

impl Table {
    /// Rows of at most `width` columns, each behind `lead`.
    pub fn rows(&self, width: usize, lead: &Row) -> Vec<Row> {
        let count = self.lines.iter().map(Vec::len).max().unwrap_or(0);
        let room = width.saturating_sub(lead.width());
        let free = room.saturating_sub(GAP.len() * count.saturating_sub(1));
        match columns(&self.widest(count), free) {
            Some(columns) => self.aligned(&columns, lead),
            None => self.listed(width, lead),
        }
    }

    /// The widest line of each column's cells.
    fn widest(&self, count: usize) -> Vec<usize> {
        let mut widest = vec![1; count];
        for line in &self.lines {
            for (n, cell) in line.iter().enumerate() {
                let rows = cell.wrap(usize::MAX, &Row::new(), &Row::new());
                widest[n] = widest[n].max(rows.iter().map(Row::width).max().unwrap_or(0));
            }
        }
        widest
    }

    fn aligned(&self, columns: &[usize], lead: &Row) -> Vec<Row> {
        let mut rows = Vec::new();
        for (n, line) in self.lines.iter().enumerate() {
            let cells: Vec<Vec<Row>> = columns
                .iter()
                .enumerate()
                .map(|(n, width)| match line.get(n) {
                    Some(cell) => cell.wrap(*width, &Row::new(), &Row::new()),
                    None => Vec::new(),
                })
                .collect();
            for at in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
                let mut row = lead.clone();
                for (n, (cell, width)) in cells.iter().zip(columns).enumerate() {
                    let cell = cell.get(at).cloned().unwrap_or_default();
                    let (before, after) = self.pads(n, width.saturating_sub(cell.width()));
                    row = row.say(if n > 0 { GAP } else { "" }, Ink::Dim).say(" ".repeat(before), Ink::Text);
                    row = row.join(cell).say(" ".repeat(after), Ink::Text);
                }
                rows.push(row);
            }
            if n == 0 {
                let line = columns.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join("-+-");
                rows.push(lead.clone().say(line, Ink::Dim));
            }
        }
        rows
    }

    /// Blanks before and after a cell that leaves this much of its column.
    fn pads(&self, column: usize, left: usize) -> (usize, usize) {
        match self.alignments.get(column) {
            Some(Alignment::Right) => (left, 0),
            Some(Alignment::Center) => (left / 2, left - left / 2),
            _ => (0, left),
        }
    }

    fn listed(&self, width: usize, lead: &Row) -> Vec<Row> {
        let Some((heading, lines)) = self.lines.split_first() else { return Vec::new() };
        let mut rows = Vec::new();
        for line in lines {
            for (n, cell) in line.iter().enumerate() {
                let name = heading.get(n).cloned().unwrap_or_default().say(": ", Ink::Dim);
                let first = lead.clone().say(if n == 0 { "- " } else { "  " }, Ink::Accent);
                rows.extend(name.join(cell).wrap(width, &first, &lead.clone().say("  ", Ink::Text)));
            }
        }
        if lines.is_empty() {
            rows.extend(heading.iter().flat_map(|cell| cell.wrap(width, lead, lead)));
        }
        rows
    }
}

/// How wide each column may be; None: too narrow to be read. Narrow ones keep what they need, the others share.
fn columns(widest: &[usize], free: usize) -> Option<Vec<usize>> {
    if widest.iter().sum::<usize>() <= free {
        return Some(widest.to_vec());
    }
    let (mut left, mut open) = (free, widest.len());
    let mut share = left / open.max(1);
    loop {
        let narrow: Vec<usize> = widest.iter().copied().filter(|width| *width <= share).collect();
        left = free.saturating_sub(narrow.iter().sum());
        let wide = widest.len() - narrow.len();
        let next = left / wide.max(1);
        if wide == open || wide == 0 {
            break;
        }
        (open, share) = (wide, next);
    }
    let share = left / open.max(1);
    (share >= LEAST).then(|| widest.iter().map(|width| (*width).min(share)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_columns_share_what_narrow_ones_leave() {
        assert_eq!(columns(&[3, 4], 10), Some(vec![3, 4]));
        assert_eq!(columns(&[3, 40, 50], 43), Some(vec![3, 20, 20]));
        assert_eq!(columns(&[12, 40, 50], 62), Some(vec![12, 25, 25]));
        assert_eq!(columns(&[40; 9], 40), None);
    }
}
