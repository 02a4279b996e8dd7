//! The conversation as cells: finished ones never change, the last few may. Only rows that show are made.
//!
//! Scrolling is anchored to (cell, row in cell), never to a row of the whole, so a cell above that
//! changes its height moves nothing. Rows are cached per cell for (width, revision) and dropped once far
//! from the window, so a long conversation costs its text, not its rows.

use crate::deck::exchange::Exchange;
use crate::deck::message::Level;
use crate::deck::row::{Prose, Row};
use crate::deck::theme::Ink;

/// Cells whose rows are kept on either side of the window.
const KEEP_CELLS: usize = 32;

pub enum Cell {
    /// Paragraphs the program says itself.
    Words(Vec<(String, Ink)>),
    Notice(Level, String),
    Exchange(Box<Exchange>),
}

struct Slot {
    cell: Cell,
    /// Grows with every change of the cell.
    revision: u64,
    cache: Option<Cached>,
}

struct Cached {
    key: (usize, u64, bool),
    rows: Vec<Row>,
}

/// The row at the top of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Anchor {
    cell: usize,
    row: usize,
}

#[derive(Default)]
pub struct Transcript {
    slots: Vec<Slot>,
    /// None: the window follows the newest row.
    anchor: Option<Anchor>,
    /// The row at the top while an answer streams into the window.
    standing: Option<Anchor>,
    selected: Option<usize>,
    /// What `prepare` found to show, top to bottom: (cell, row).
    window: Vec<(usize, usize)>,
    width: usize,
    height: usize,
    /// Cells that hold cached rows.
    cached: Vec<usize>,
    /// The row found last.
    found: Option<Anchor>,
}

/// Whether `text` holds `sought`, ASCII letters of either case being the same.
pub fn holds(text: &str, sought: &str) -> bool {
    text.to_ascii_lowercase().contains(&sought.to_ascii_lowercase())
}

impl Cell {
    /// Whether the words of the cell hold `sought`.
    fn holds(&self, sought: &str) -> bool {
        match self {
            Cell::Words(words) => words.iter().any(|(text, _)| holds(text, sought)),
            Cell::Notice(_, text) => holds(text, sought),
            Cell::Exchange(exchange) => {
                let answer = exchange.live.as_ref().and_then(|live| live.trajectory.answer.as_deref());
                holds(&exchange.query, sought) || answer.is_some_and(|answer| holds(answer, sought))
            }
        }
    }
}

impl Transcript {
    pub fn push(&mut self, cell: Cell) -> usize {
        self.slots.push(Slot { cell, revision: 0, cache: None });
        self.slots.len() - 1
    }

    /// Put these words in the first cell, where the program introduces itself.
    pub fn introduce(&mut self, words: Vec<(String, Ink)>) {
        if let Some(slot) = self.slots.first_mut()
            && matches!(slot.cell, Cell::Words(_))
        {
            slot.cell = Cell::Words(words);
            slot.revision += 1;
        }
    }

    /// Put another cell in the place of one.
    pub fn replace(&mut self, cell: usize, with: Cell) {
        if let Some(slot) = self.slots.get_mut(cell) {
            slot.cell = with;
            slot.revision += 1;
        }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub fn exchange(&self, cell: usize) -> Option<&Exchange> {
        match &self.slots.get(cell)?.cell {
            Cell::Exchange(exchange) => Some(exchange),
            _ => None,
        }
    }

    /// An exchange to change; its cached rows become stale.
    pub fn exchange_mut(&mut self, cell: usize) -> Option<&mut Exchange> {
        let slot = self.slots.get_mut(cell)?;
        slot.revision += 1;
        match &mut slot.cell {
            Cell::Exchange(exchange) => Some(exchange),
            _ => None,
        }
    }

    /// Positions of the exchanges, newest first.
    pub fn exchanges(&self) -> impl Iterator<Item = (usize, &Exchange)> {
        self.slots.iter().enumerate().rev().filter_map(|(n, slot)| match &slot.cell {
            Cell::Exchange(exchange) => Some((n, exchange.as_ref())),
            _ => None,
        })
    }

    /// Mark one exchange as selected, and bring it into the window.
    pub fn select(&mut self, cell: Option<usize>) {
        self.selected = cell;
        self.anchor = cell.map(|cell| Anchor { cell, row: 0 });
        if let Some(anchor) = self.anchor
            && self.rows_from(anchor, self.height) < self.height
        {
            self.anchor = None;
        }
    }

    /// Bring the nearest row that holds `sought` (ASCII letters of either case) before or after the one found
    /// last into the window; false when there is none. `fresh`: search from the newest row on.
    pub fn find(&mut self, sought: &str, back: bool, fresh: bool) -> bool {
        if fresh {
            self.found = None;
        }
        let end = Anchor { cell: self.slots.len(), row: 0 };
        let from = self.found.unwrap_or(end);
        let found = if back { self.find_back(sought, from) } else { self.find_forward(sought, from) };
        let Some(found) = found else { return false };
        self.found = Some(found);
        let top = self.above(found, self.height / 2);
        self.anchor = (self.rows_from(top, self.height) >= self.height).then_some(top);
        true
    }

    fn find_back(&mut self, sought: &str, from: Anchor) -> Option<Anchor> {
        (0..self.slots.len().min(from.cell + 1)).rev().find_map(|cell| {
            let rows = self.rows_that_hold(cell, sought);
            let before = |row: &&usize| cell < from.cell || **row < from.row;
            rows.iter().rev().find(before).map(|row| Anchor { cell, row: *row })
        })
    }

    fn find_forward(&mut self, sought: &str, from: Anchor) -> Option<Anchor> {
        (from.cell..self.slots.len()).find_map(|cell| {
            let rows = self.rows_that_hold(cell, sought);
            rows.iter().find(|row| cell > from.cell || **row > from.row).map(|row| Anchor { cell, row: *row })
        })
    }

    /// Rows are made only of cells whose text holds it; a phrase broken over two rows is found by its cell.
    fn rows_that_hold(&mut self, cell: usize, sought: &str) -> Vec<usize> {
        if !self.slots.get(cell).is_some_and(|slot| slot.cell.holds(sought)) {
            return Vec::new();
        }
        self.height_of(cell);
        let rows = self.slots[cell].cache.as_ref().map_or(&[][..], |cache| &cache.rows);
        let mut found: Vec<usize> = (0..rows.len()).filter(|row| holds(&rows[*row].text(), sought)).collect();
        if found.is_empty() {
            found.push(0);
        }
        found
    }

    pub fn follow(&mut self) {
        self.anchor = None;
    }

    pub fn is_following(&self) -> bool {
        self.anchor.is_none()
    }

    /// Trajectories whose answers are in the window, top to bottom.
    pub fn shown(&self) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        for (cell, _) in &self.window {
            if let Some(id) = self.exchange(*cell).filter(|e| e.is_ended()).and_then(Exchange::id)
                && ids.last().is_none_or(|last| last != id)
            {
                ids.push(id.to_string());
            }
        }
        ids
    }

    /// Move the window by rows; down past the newest row follows again.
    pub fn scroll(&mut self, rows: isize) {
        let Some(top) = self.window.first().map(|(cell, row)| Anchor { cell: *cell, row: *row }) else {
            return;
        };
        if rows < 0 {
            self.anchor = Some(self.above(top, rows.unsigned_abs()));
        } else {
            let wanted = rows.unsigned_abs();
            let anchor = self.below(top, wanted);
            self.anchor = (self.rows_from(anchor, self.height) >= self.height).then_some(anchor);
        }
    }

    /// Find the rows that fit a window and make them. Call before `draw`. While text is `streaming` into it the
    /// window moves by a quarter of its height at a time: what is being read stands still, and a new line
    /// does not write the whole block anew.
    pub fn prepare(&mut self, width: usize, height: usize, streaming: bool) {
        if !streaming || self.anchor.is_some() || (self.width, self.height) != (width, height) {
            self.standing = None;
        }
        (self.width, self.height) = (width, height);
        self.window.clear();
        let start = match self.anchor.filter(|anchor| anchor.cell < self.slots.len()) {
            Some(anchor) => {
                let last = self.height_of(anchor.cell).saturating_sub(1);
                let top = Anchor { cell: anchor.cell, row: anchor.row.min(last) };
                if self.rows_from(top, height + 1) <= height {
                    // The newest row shows: the window follows it from here on. Where it has grown, or what follows
                    // has become shorter, nothing stays empty below.
                    self.anchor = None;
                    self.followed(streaming)
                } else {
                    top
                }
            }
            None => self.followed(streaming),
        };
        let mut at = start;
        while self.window.len() < height && at.cell < self.slots.len() {
            if at.row < self.height_of(at.cell) {
                self.window.push((at.cell, at.row));
                at.row += 1;
            } else {
                at = Anchor { cell: at.cell + 1, row: 0 };
            }
        }
        self.forget_far(start.cell, at.cell);
    }

    /// The prepared rows, top to bottom.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.window.iter().filter_map(|(cell, row)| self.slots.get(*cell)?.cache.as_ref()?.rows.get(*row))
    }

    /// How far down the window stands, 0 to 1, by cells; None when everything shows.
    pub fn position(&self) -> Option<f64> {
        let (first, last) = (self.window.first()?, self.window.last()?);
        let whole = *first == (0, 0) && last.0 + 1 == self.slots.len() && self.is_following();
        (!whole).then(|| last.0 as f64 / (self.slots.len().max(2) - 1) as f64)
    }

    /// The top of a window that follows the newest row.
    fn followed(&mut self, streaming: bool) -> Anchor {
        let (height, end) = (self.height, Anchor { cell: self.slots.len(), row: 0 });
        let standing = self.standing;
        let moved = match standing {
            Some(top) if self.rows_from(top, height + 1) <= height => return top,
            Some(_) => self.above(end, height - height / 4),
            None => self.above(end, height),
        };
        self.standing = streaming.then_some(moved);
        moved
    }

    fn above(&mut self, from: Anchor, mut rows: usize) -> Anchor {
        let mut at = from;
        loop {
            if rows <= at.row {
                return Anchor { cell: at.cell, row: at.row - rows };
            }
            rows -= at.row;
            if at.cell == 0 {
                return Anchor { cell: 0, row: 0 };
            }
            at = Anchor { cell: at.cell - 1, row: self.height_of(at.cell - 1) };
        }
    }

    fn below(&mut self, from: Anchor, rows: usize) -> Anchor {
        let mut at = Anchor { cell: from.cell, row: from.row + rows };
        while at.cell < self.slots.len() {
            let height = self.height_of(at.cell);
            if at.row < height {
                return at;
            }
            at = Anchor { cell: at.cell + 1, row: at.row - height };
        }
        at
    }

    /// Rows from `anchor` to the end, counted no further than `enough`.
    fn rows_from(&mut self, anchor: Anchor, enough: usize) -> usize {
        let mut count = 0;
        for cell in anchor.cell..self.slots.len() {
            count += self.height_of(cell)
                - if cell == anchor.cell { anchor.row.min(self.height_of(cell)) } else { 0 };
            if count >= enough {
                break;
            }
        }
        count
    }

    fn height_of(&mut self, cell: usize) -> usize {
        let (width, selected) = (self.width, self.selected == Some(cell));
        let Some(slot) = self.slots.get_mut(cell) else { return 0 };
        let key = (width, slot.revision, selected);
        if slot.cache.as_ref().is_none_or(|cache| cache.key != key) {
            if slot.cache.is_none() {
                self.cached.push(cell);
            }
            slot.cache = Some(Cached { key, rows: cell_rows(&mut slot.cell, width, selected) });
        }
        slot.cache.as_ref().map_or(0, |cache| cache.rows.len())
    }

    /// Make all rows anew at the next drawing: the inks of some code are known now.
    pub fn forget_rows(&mut self) {
        for cell in self.cached.drain(..) {
            if let Some(slot) = self.slots.get_mut(cell) {
                slot.cache = None;
            }
        }
    }

    fn forget_far(&mut self, first: usize, last: usize) {
        let near = first.saturating_sub(KEEP_CELLS)..=last + KEEP_CELLS;
        let slots = &mut self.slots;
        self.cached.retain(|cell| {
            let keep = near.contains(cell);
            if !keep && let Some(slot) = slots.get_mut(*cell) {
                slot.cache = None;
            }
            keep
        });
    }
}

fn cell_rows(cell: &mut Cell, width: usize, selected: bool) -> Vec<Row> {
    match cell {
        Cell::Exchange(exchange) => exchange.rows(width, selected),
        Cell::Words(paragraphs) => {
            let mut rows = Vec::new();
            for (text, ink) in paragraphs {
                rows.extend(Prose::of(text.as_str(), *ink).wrap(width, &Row::new(), &Row::new()));
                rows.push(Row::new());
            }
            rows
        }
        Cell::Notice(level, text) => {
            let ink = match level {
                Level::Info => Ink::Dim,
                Level::Warning => Ink::Warning,
                Level::Error => Ink::Error,
            };
            let lead = Row::new().say("! ", ink);
            let mut rows = Prose::of(text.as_str(), ink).wrap(width, &lead, &Row::new().say("  ", ink));
            rows.push(Row::new());
            rows
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(transcript: &Transcript) -> Vec<String> {
        transcript.rows().map(Row::text).collect()
    }

    fn filled(cells: usize) -> Transcript {
        let mut transcript = Transcript::default();
        for n in 0..cells {
            transcript.push(Cell::Words(vec![(format!("cell {n}"), Ink::Text)]));
        }
        transcript
    }

    #[test]
    fn follows_the_newest_until_scrolled() {
        let mut transcript = filled(10);
        transcript.prepare(20, 4, false);
        assert_eq!(words(&transcript), ["cell 8", "", "cell 9", ""]);
        transcript.scroll(-3);
        transcript.prepare(20, 4, false);
        assert_eq!(words(&transcript), ["", "cell 7", "", "cell 8"]);
        transcript.push(Cell::Words(vec![("cell 10".into(), Ink::Text)]));
        transcript.prepare(20, 4, false);
        assert_eq!(words(&transcript), ["", "cell 7", "", "cell 8"]);
        transcript.scroll(100);
        assert!(transcript.is_following());
    }

    #[test]
    fn streaming_moves_by_a_quarter_and_settles() {
        let mut transcript = filled(4);
        transcript.prepare(20, 8, true);
        assert_eq!(words(&transcript).len(), 8);
        transcript.push(Cell::Words(vec![("one more".into(), Ink::Text)]));
        transcript.prepare(20, 8, true);
        assert_eq!(words(&transcript), ["cell 2", "", "cell 3", "", "one more", ""]);
        transcript.push(Cell::Words(vec![("and one".into(), Ink::Text)]));
        transcript.prepare(20, 8, true);
        assert_eq!(words(&transcript).first().map(String::as_str), Some("cell 2"));
        transcript.scroll(-1);
        transcript.prepare(20, 8, true);
        assert_eq!(words(&transcript).len(), 8, "who scrolls sees a whole window");
        transcript.follow();
        transcript.push(Cell::Words(vec![("end".into(), Ink::Text)]));
        transcript.prepare(20, 8, false);
        assert_eq!(words(&transcript), ["cell 3", "", "one more", "", "and one", "", "end", ""]);
    }

    #[test]
    fn what_is_found_comes_into_the_window() {
        let mut transcript = filled(100);
        transcript.prepare(20, 6, false);
        assert!(transcript.find("CELL 4", true, true));
        transcript.prepare(20, 6, false);
        assert!(words(&transcript).contains(&"cell 49".to_string()), "{:?}", words(&transcript));
        assert!(transcript.find("cell 4", true, false));
        transcript.prepare(20, 6, false);
        assert!(words(&transcript).contains(&"cell 48".to_string()));
        assert!(transcript.find("cell 4", false, false));
        transcript.prepare(20, 6, false);
        assert!(words(&transcript).contains(&"cell 49".to_string()));
        assert!(!transcript.find("cell 4", false, false));
        assert!(!transcript.find("nowhere", true, true));
        assert!(transcript.find("cell 99", true, true));
        transcript.prepare(20, 6, false);
        assert!(transcript.is_following());
    }

    #[test]
    fn far_cells_hold_no_rows() {
        let mut transcript = filled(100_000);
        transcript.prepare(80, 50, false);
        for _ in 0..2_000 {
            transcript.scroll(-50);
            transcript.prepare(80, 50, false);
        }
        assert!(transcript.cached.len() < 200, "{}", transcript.cached.len());
    }

    #[test]
    fn top_and_small_windows() {
        let mut transcript = filled(2);
        transcript.prepare(20, 0, false);
        transcript.prepare(20, 10, false);
        transcript.scroll(-100);
        transcript.prepare(20, 10, false);
        assert_eq!(words(&transcript), ["cell 0", "", "cell 1", ""]);
    }
}
