//! Rows: the only way text reaches the screen. Every stretch of a row is a [`SafeText`] with an ink; the
//! theme comes in at drawing, so cached rows outlive a change of theme.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use crate::deck::theme::{Ink, Theme};
use crate::text::SafeText;

const TAB_WIDTH: usize = 4;

/// One line on the screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    pieces: Vec<(String, Ink)>,
}

impl Row {
    pub fn new() -> Row {
        Row::default()
    }

    /// Add a stretch; newlines in it become spaces, as a row is one line.
    #[must_use]
    pub fn say(mut self, text: impl Into<SafeText>, ink: Ink) -> Row {
        let text = text.into();
        if text.as_str().contains(['\n', '\t']) {
            self.push(&text.as_str().replace(['\n', '\t'], " "), ink);
        } else {
            self.push(text.as_str(), ink);
        }
        self
    }

    /// This row with another behind it.
    #[must_use]
    pub fn join(mut self, other: Row) -> Row {
        for (text, ink) in other.pieces {
            self.push(&text, ink);
        }
        self
    }

    /// Columns the row takes.
    pub fn width(&self) -> usize {
        self.pieces.iter().map(|(text, _)| text.width()).sum()
    }

    /// The row's text, for tests and copying.
    pub fn text(&self) -> String {
        self.pieces.iter().map(|(text, _)| text.as_str()).collect()
    }

    /// The row with every place that holds `sought` (ASCII letters of either case) in another ink.
    #[must_use]
    pub fn marked(&self, sought: &str, ink: Ink) -> Row {
        let text = self.text().to_ascii_lowercase();
        let sought = sought.to_ascii_lowercase();
        let mut marks = text.match_indices(&sought).map(|(at, found)| at..at + found.len()).peekable();
        let mut row = Row::new();
        let mut start = 0;
        for (piece, own) in &self.pieces {
            let end = start + piece.len();
            let mut at = start;
            while at < end {
                while marks.peek().is_some_and(|mark| mark.end <= at) {
                    marks.next();
                }
                let (to, used) = match marks.peek() {
                    Some(mark) if mark.start <= at => (mark.end.min(end), ink),
                    Some(mark) => (mark.start.min(end), *own),
                    None => (end, *own),
                };
                row.push(&piece[at - start..to - start], used);
                at = to;
            }
            start = end;
        }
        row
    }

    /// Draw at the top left of `area`, cut at its width.
    pub fn draw(&self, buffer: &mut Buffer, area: Rect, theme: &Theme) {
        let area = area.intersection(buffer.area);
        if area.is_empty() {
            return;
        }
        let mut x = area.x;
        for (text, ink) in &self.pieces {
            let room = usize::from(area.right().saturating_sub(x));
            if room == 0 {
                break;
            }
            (x, _) = buffer.set_stringn(x, area.y, text, room, theme.style(*ink));
        }
    }

    fn push(&mut self, text: &str, ink: Ink) {
        if text.is_empty() {
            return;
        }
        match self.pieces.last_mut() {
            Some((last, same)) if *same == ink => last.push_str(text),
            _ => self.pieces.push((text.to_string(), ink)),
        }
    }
}

/// Text of several inks, still without a width; newlines in it are line ends.
#[derive(Clone, Debug, Default)]
pub struct Prose {
    pieces: Vec<(SafeText, Ink)>,
}

impl Prose {
    pub fn new() -> Prose {
        Prose::default()
    }

    pub fn of(text: impl Into<SafeText>, ink: Ink) -> Prose {
        Prose::new().say(text, ink)
    }

    #[must_use]
    pub fn say(mut self, text: impl Into<SafeText>, ink: Ink) -> Prose {
        self.pieces.push((text.into(), ink));
        self
    }

    /// This text with another behind it.
    #[must_use]
    pub fn join(mut self, other: &Prose) -> Prose {
        self.pieces.extend(other.pieces.iter().cloned());
        self
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.iter().all(|(text, _)| text.is_empty())
    }

    /// Break into rows of at most `width` columns: at spaces and wide characters, else anywhere.
    /// `first` stands before the first row, `rest` before the others.
    pub fn wrap(&self, width: usize, first: &Row, rest: &Row) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut line = Vec::new();
        let mut column = 0;
        for (text, ink) in &self.pieces {
            for (n, part) in text.as_str().split('\n').enumerate() {
                if n > 0 {
                    wrap_line(&line, width, first, rest, &mut rows);
                    line.clear();
                    column = 0;
                }
                units(part, *ink, &mut column, &mut line);
            }
        }
        wrap_line(&line, width, first, rest, &mut rows);
        rows
    }
}

/// One character as a person sees it.
struct Unit<'a> {
    text: &'a str,
    width: usize,
    ink: Ink,
}

fn units<'a>(text: &'a str, ink: Ink, column: &mut usize, out: &mut Vec<Unit<'a>>) {
    if text.is_ascii() && !text.contains('\t') {
        out.extend((0..text.len()).map(|at| Unit { text: &text[at..=at], width: 1, ink }));
        *column += text.len();
        return;
    }
    for grapheme in text.graphemes(true) {
        if grapheme == "\t" {
            let spaces = TAB_WIDTH - *column % TAB_WIDTH;
            out.extend((0..spaces).map(|_| Unit { text: " ", width: 1, ink }));
            *column += spaces;
        } else {
            let width = grapheme.width();
            out.push(Unit { text: grapheme, width, ink });
            *column += width;
        }
    }
}

fn wrap_line(line: &[Unit], width: usize, first: &Row, rest: &Row, rows: &mut Vec<Row>) {
    let mut start = 0;
    loop {
        let lead = if rows.is_empty() { first } else { rest };
        let room = width.saturating_sub(lead.width()).max(2);
        let (end, next) = break_at(line, start, room);
        let mut row = lead.clone();
        for (at, unit) in line[start..end].iter().enumerate() {
            // The letter that a joiner waits for is on the next row.
            let last = at + 1 == end - start;
            let text = if last { unit.text.trim_end_matches(['\u{200c}', '\u{200d}']) } else { unit.text };
            row.push(text, unit.ink);
        }
        rows.push(row);
        start = next;
        if start >= line.len() {
            break;
        }
    }
}

/// Where the row that begins at `start` ends, and where the next begins.
fn break_at(line: &[Unit], start: usize, room: usize) -> (usize, usize) {
    let mut used = 0;
    let mut candidate = None;
    // Spaces before the first word are indentation, not places to break.
    let mut word_seen = false;
    for (at, unit) in line.iter().enumerate().skip(start) {
        if used + unit.width > room {
            if unit.text == " " {
                return (at, at + 1);
            }
            if unit.width > 1 && at > start {
                return (at, at);
            }
            return candidate.unwrap_or((at.max(start + 1), at.max(start + 1)));
        }
        used += unit.width;
        if unit.text == " " {
            candidate = if word_seen { Some((at, at + 1)) } else { candidate };
        } else {
            let wide = unit.width > 1 || line[at.saturating_sub(1)].width > 1;
            candidate = if wide && at > start { Some((at, at)) } else { candidate };
            word_seen = true;
        }
    }
    (line.len(), line.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, width: usize, expected: &[&str]) {
        let rows = Prose::of(text, Ink::Text).wrap(width, &Row::new(), &Row::new());
        assert_eq!(rows.iter().map(Row::text).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn wraps_at_spaces_else_anywhere() {
        check("", 10, &[""]);
        check("one two three", 7, &["one two", "three"]);
        check("one two three", 8, &["one two", "three"]);
        check("abcdefghij", 4, &["abcd", "efgh", "ij"]);
        check("a\n\n  b c", 4, &["a", "", "  b", "c"]);
        check("日本語です", 4, &["日本", "語で", "す"]);
        check("\tx", 10, &["    x"]);
        // A joiner whose letter went to the next row.
        check("日\u{200d}本日\u{200d}本", 4, &["日\u{200d}本", "日\u{200d}本"]);
        check("日\u{200d}本日\u{200d}本", 2, &["日", "本", "日", "本"]);
    }

    #[test]
    fn marks_across_pieces() {
        let row = Row::new().say("one tw", Ink::Text).say("o two é", Ink::Dim);
        let marked = row.marked("TWO", Ink::Selected);
        let expected = Row::new()
            .say("one ", Ink::Text)
            .say("two", Ink::Selected)
            .say(" ", Ink::Dim)
            .say("two", Ink::Selected)
            .say(" é", Ink::Dim);
        assert_eq!(marked, expected);
        assert_eq!(row.marked("x", Ink::Selected), row);
    }

    #[test]
    fn leads_stand_before_rows() {
        let rows = Prose::of("aa bb", Ink::Text).wrap(
            5,
            &Row::new().say("> ", Ink::Accent),
            &Row::new().say("  ", Ink::Text),
        );
        assert_eq!(rows.iter().map(Row::text).collect::<Vec<_>>(), ["> aa", "  bb"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_too_wide(text in "[a-z 日é\\n]{0,120}", width in 2usize..30) {
            let rows = Prose::of(text.as_str(), Ink::Text).wrap(width, &Row::new(), &Row::new());
            prop_assert!(rows.iter().all(|row| row.width() <= width));
            let kept: String = rows.iter().map(Row::text).collect::<String>().replace(' ', "");
            prop_assert_eq!(kept, text.replace([' ', '\n'], ""));
        }
    }
}
