//! The input: several lines, history, large pastes folded. Edits text, knows nothing of queries.
//!
//! A paste of more than a few lines stands in the text as one character of a private plane, drawn as
//! "[pasted 1.0 MiB]" and deleted as one; `take` puts its text back. So a keystroke costs the same
//! whatever was pasted.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use crate::text::safe;

/// A paste with more bytes or lines than this is folded.
const FOLD_BYTES: usize = 2_048;
const FOLD_LINES: usize = 12;
/// First of the characters that stand for folded pastes (supplementary private use area B).
const FOLD_BASE: u32 = 0x10_0000;
const HISTORY_MAX: usize = 1_000;

/// One edit of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    Left,
    Right,
    WordLeft,
    WordRight,
    LineStart,
    LineEnd,
    Up,
    Down,
    Backspace,
    Delete,
    DeleteWord,
    DeleteToStart,
    DeleteToEnd,
}

#[derive(Debug, Default)]
pub struct Composer {
    text: String,
    /// Byte offset of the cursor, on a character boundary.
    cursor: usize,
    pastes: Vec<String>,
    history: Vec<String>,
    /// Entry of the history being shown, and what was typed before it was.
    browsing: Option<(usize, String)>,
}

/// The text as it stands on the screen.
pub struct Layout {
    pub lines: Vec<String>,
    /// Column and line of the cursor.
    pub cursor: (usize, usize),
}

impl Composer {
    pub fn with_history(history: Vec<String>) -> Composer {
        Composer { history, ..Composer::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Insert what was typed. Controls and the characters that stand for pastes are dropped.
    pub fn insert(&mut self, text: &str) {
        let text: String = text.chars().filter(|c| u32::from(*c) < FOLD_BASE).collect();
        self.insert_raw(&text);
    }

    /// Insert what was pasted: line ends made one kind, what no screen should see removed.
    pub fn paste(&mut self, text: &str) {
        let text: String = safe(text).chars().filter(|c| u32::from(*c) < FOLD_BASE).collect();
        if text.len() <= FOLD_BYTES && text.bytes().filter(|b| *b == b'\n').count() <= FOLD_LINES {
            return self.insert_raw(&text);
        }
        let number = u32::try_from(self.pastes.len()).unwrap_or(u32::MAX);
        if let Some(mark) = FOLD_BASE.checked_add(number).and_then(char::from_u32) {
            self.pastes.push(text);
            self.insert_raw(mark.encode_utf8(&mut [0; 4]));
        }
    }

    fn insert_raw(&mut self, text: &str) {
        self.text.insert_str(self.cursor, text);
        self.cursor += text.len();
        self.leave_history();
    }

    /// What the history shows is the input now; the draft it stands in for goes to the history.
    fn leave_history(&mut self) {
        if let Some((_, draft)) = self.browsing.take() {
            self.remember(draft);
        }
    }

    /// Keep a text for the Up key.
    fn remember(&mut self, text: String) {
        if self.history.last() != Some(&text) && !text.trim().is_empty() {
            self.history.push(text);
            let over = self.history.len().saturating_sub(HISTORY_MAX);
            self.history.drain(..over);
        }
    }

    /// If the character before the cursor is a backslash, make it a newline.
    pub fn newline_for_backslash(&mut self) -> bool {
        let found = self.text[..self.cursor].ends_with('\\');
        if found {
            self.cursor -= 1;
            self.text.replace_range(self.cursor..=self.cursor, "\n");
            self.cursor += 1;
        }
        found
    }

    /// The whole text, pastes unfolded. What `take` would answer.
    pub fn value(&self) -> String {
        let mut out = String::with_capacity(self.text.len());
        for c in self.text.chars() {
            match self.pasted(c) {
                Some(paste) => out.push_str(paste),
                None => out.push(c),
            }
        }
        out
    }

    /// Empty the input; the text goes to the history and to the caller.
    pub fn take(&mut self) -> String {
        let value = self.value();
        self.leave_history();
        self.remember(value.clone());
        self.clear();
        value
    }

    /// Put `text` in place of what is there; that goes to the history, where Up finds it. Whether there was
    /// something that did.
    pub fn replace(&mut self, text: &str) -> bool {
        let kept = self.value() != text && !self.value().trim().is_empty();
        if kept {
            self.take();
        }
        self.leave_history();
        self.set(text);
        kept
    }

    /// What was typed before the history was walked into.
    #[cfg(test)]
    pub fn draft(&self) -> Option<&str> {
        self.browsing.as_ref().map(|(_, draft)| draft.as_str())
    }

    pub fn clear(&mut self) {
        self.text.clear();
        self.cursor = 0;
        self.pastes.clear();
        self.browsing = None;
    }

    /// Put `text` in place of what is there, which is lost, cursor at the end.
    pub fn set(&mut self, text: &str) {
        self.clear();
        self.paste(text);
    }

    pub fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Left => self.cursor = self.before(self.cursor),
            Edit::Right => self.cursor = self.after(self.cursor),
            Edit::WordLeft => self.cursor = self.word_before(),
            Edit::WordRight => self.cursor = self.word_after(),
            Edit::LineStart => self.cursor = self.line_start(),
            Edit::LineEnd => self.cursor = self.line_end(),
            Edit::Up => self.up(),
            Edit::Down => self.down(),
            Edit::Backspace => self.cut(self.before(self.cursor), self.cursor),
            Edit::Delete => self.cut(self.cursor, self.after(self.cursor)),
            Edit::DeleteWord => self.cut(self.word_before(), self.cursor),
            Edit::DeleteToStart => self.cut(self.line_start(), self.cursor),
            Edit::DeleteToEnd => self.cut(self.cursor, self.line_end()),
        }
    }

    /// Break the text into lines of `width` columns, hard, so that the cursor is easy to follow.
    pub fn layout(&self, width: usize) -> Layout {
        let width = width.max(2);
        let mut lines = vec![String::new()];
        let (mut column, mut cursor) = (0, (0, 0));
        for (at, grapheme) in self.text.grapheme_indices(true) {
            let shown = self.shown(grapheme);
            let wide = shown.width();
            if column + wide > width && column > 0 {
                lines.push(String::new());
                column = 0;
            }
            if at == self.cursor {
                cursor = (column, lines.len() - 1);
            }
            if grapheme == "\n" {
                lines.push(String::new());
                column = 0;
            } else if let Some(last) = lines.last_mut() {
                last.push_str(&shown);
                column += wide;
            }
        }
        if self.cursor == self.text.len() {
            if column >= width {
                lines.push(String::new());
                column = 0;
            }
            cursor = (column, lines.len() - 1);
        }
        Layout { lines, cursor }
    }

    /// Earlier inputs, oldest first.
    pub fn history(&self) -> &[String] {
        &self.history
    }

    /// The word that ends at the cursor, and the byte it begins at.
    pub fn word(&self) -> (usize, &str) {
        let before = &self.text[..self.cursor];
        let ends = |c: char| c.is_whitespace() || u32::from(c) >= FOLD_BASE;
        let start =
            before.char_indices().rev().find(|(_, c)| ends(*c)).map_or(0, |(at, c)| at + c.len_utf8());
        (start, &before[start..])
    }

    /// Put `text` in place of what stands between byte `start` and the cursor.
    pub fn replace_word(&mut self, start: usize, text: &str) {
        self.cut(start.min(self.cursor), self.cursor);
        self.insert(text);
    }

    fn pasted(&self, c: char) -> Option<&String> {
        self.pastes.get(usize::try_from(u32::from(c).checked_sub(FOLD_BASE)?).ok()?)
    }

    fn shown(&self, grapheme: &str) -> String {
        match grapheme.chars().next().and_then(|c| self.pasted(c)) {
            Some(paste) => format!("[pasted {}]", size(paste.len())),
            None if grapheme == "\t" => "    ".to_string(),
            None if grapheme == "\n" => String::new(),
            None => safe(grapheme),
        }
    }

    fn cut(&mut self, from: usize, to: usize) {
        self.text.replace_range(from..to, "");
        self.cursor = from;
        self.leave_history();
    }

    fn before(&self, at: usize) -> usize {
        self.text[..at].grapheme_indices(true).next_back().map_or(0, |(start, _)| start)
    }

    fn after(&self, at: usize) -> usize {
        self.text[at..].graphemes(true).next().map_or(at, |g| at + g.len())
    }

    fn word_before(&self) -> usize {
        let words = self.text[..self.cursor].split_word_bound_indices().rev();
        words.map(|(at, word)| (at, word.trim().is_empty())).find(|(_, blank)| !blank).map_or(0, |(at, _)| at)
    }

    fn word_after(&self) -> usize {
        let words = self.text[self.cursor..].split_word_bound_indices();
        let found = words.map(|(at, word)| (at + word.len(), word)).find(|(_, word)| !word.trim().is_empty());
        found.map_or(self.text.len(), |(end, _)| self.cursor + end)
    }

    fn line_start(&self) -> usize {
        self.text[..self.cursor].rfind('\n').map_or(0, |at| at + 1)
    }

    fn line_end(&self) -> usize {
        self.text[self.cursor..].find('\n').map_or(self.text.len(), |at| self.cursor + at)
    }

    /// To the line above; on the first line, to the input before this one.
    fn up(&mut self) {
        let start = self.line_start();
        if start > 0 {
            let column = self.text[start..self.cursor].graphemes(true).count();
            let above = self.text[..start - 1].rfind('\n').map_or(0, |at| at + 1);
            self.cursor = self.at_column(above, start - 1, column);
            return;
        }
        let (at, draft) = match self.browsing.take() {
            Some((at, draft)) => (at, draft),
            None => (self.history.len(), self.value()),
        };
        self.show_history(at.saturating_sub(1), draft);
    }

    /// To the line below; on the last line, to the input after this one.
    fn down(&mut self) {
        let end = self.line_end();
        if end < self.text.len() {
            let column = self.text[self.line_start()..self.cursor].graphemes(true).count();
            let below_end = self.text[end + 1..].find('\n').map_or(self.text.len(), |at| end + 1 + at);
            self.cursor = self.at_column(end + 1, below_end, column);
            return;
        }
        if let Some((at, draft)) = self.browsing.take() {
            self.show_history(at + 1, draft);
        }
    }

    fn at_column(&self, from: usize, to: usize, column: usize) -> usize {
        self.text[from..to].grapheme_indices(true).nth(column).map_or(to, |(at, _)| from + at)
    }

    /// Show history entry `at`; past the newest it is the draft again.
    fn show_history(&mut self, at: usize, draft: String) {
        match self.history.get(at).cloned() {
            Some(entry) => {
                self.set(&entry);
                self.browsing = Some((at, draft));
            }
            None => self.set(&draft),
        }
    }
}

/// Bytes in words.
pub fn size(bytes: usize) -> String {
    const KIB: f64 = 1024.0;
    match bytes as f64 {
        b if b >= KIB * KIB => format!("{:.1} MiB", b / KIB / KIB),
        b if b >= KIB => format!("{:.1} KiB", b / KIB),
        b => format!("{b} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(start: &str, edits: &[Edit], expected: &str) {
        let mut composer = Composer::default();
        composer.insert(start);
        edits.iter().for_each(|edit| composer.edit(*edit));
        composer.insert("|");
        assert_eq!(composer.value(), expected);
    }

    #[test]
    fn edits() {
        use Edit::*;
        check("ab", &[Left], "a|b");
        check("ab", &[Left, Right, Right], "ab|");
        check("one two", &[WordLeft], "one |two");
        check("one two", &[WordLeft, WordLeft, WordRight], "one| two");
        check("one two", &[DeleteWord], "one |");
        check("a\nbc", &[LineStart], "a\n|bc");
        check("a\nbc", &[Up], "a|\nbc");
        check("abc\nd", &[Up, Down], "abc\nd|");
        check("abc\nd", &[DeleteToStart], "abc\n|");
        check("ne\u{301}", &[Backspace], "n|");
        check("日本", &[Left, Delete], "日|");
        check("", &[Backspace, Delete, Left, Right, Up, Down, DeleteWord, WordRight], "|");
    }

    #[test]
    fn history_keeps_the_draft() {
        let mut composer = Composer::with_history(vec!["first".into(), "second".into()]);
        composer.insert("draft");
        for (edit, expected) in [
            (Edit::Up, "second"),
            (Edit::Up, "first"),
            (Edit::Up, "first"),
            (Edit::Down, "second"),
            (Edit::Down, "draft"),
            (Edit::Down, "draft"),
        ] {
            composer.edit(edit);
            assert_eq!(composer.value(), expected);
        }
    }

    #[test]
    fn a_draft_is_found_again_whatever_took_its_place() {
        let found = |composer: &mut Composer, text: &str| {
            (0..5).any(|_| {
                composer.edit(Edit::Up);
                composer.value() == text
            })
        };
        let earlier = || Composer::with_history(vec!["first".into(), "second".into()]);
        let mut composer = earlier();
        composer.insert("draft");
        composer.edit(Edit::Up);
        composer.insert(" and more");
        assert_eq!(composer.value(), "second and more");
        assert!(found(&mut composer, "draft"), "typed into what Up showed");
        let mut composer = earlier();
        composer.insert("draft");
        composer.edit(Edit::Up);
        composer.edit(Edit::Backspace);
        assert!(found(&mut composer, "draft"), "cut in what Up showed");
        let mut composer = earlier();
        composer.insert("draft");
        composer.edit(Edit::Up);
        assert_eq!(composer.take(), "second");
        assert!(found(&mut composer, "draft"), "what Up showed was sent");
        let mut composer = earlier();
        composer.insert("draft");
        assert!(composer.replace("another") && !composer.replace("another"));
        assert!(found(&mut composer, "draft"), "replaced");
    }

    #[test]
    fn a_large_paste_is_one_character_and_comes_back_whole() {
        let mut composer = Composer::default();
        let paste = "x".repeat(1 << 20);
        composer.insert("sum: ");
        composer.paste(&paste);
        composer.insert(" end");
        assert_eq!(composer.layout(80).lines, ["sum: [pasted 1.0 MiB] end"]);
        assert_eq!(composer.value(), format!("sum: {paste} end"));
        for _ in 0..5 {
            composer.edit(Edit::Backspace);
        }
        assert_eq!(composer.take(), "sum: ");
        assert!(composer.is_empty());
    }

    #[test]
    fn pastes_are_cleaned() {
        let mut composer = Composer::default();
        composer.paste("a\r\nb\u{1b}]52;c;x\u{7}\u{0}\rc\u{100000}");
        assert_eq!(composer.value(), "a\nb\nc");
    }

    #[test]
    fn layout_follows_the_cursor() {
        let mut composer = Composer::default();
        composer.insert("abcdef");
        let layout = composer.layout(3);
        assert_eq!((layout.lines.len(), layout.cursor), (3, (0, 2)));
        composer.edit(Edit::Left);
        assert_eq!(composer.layout(3).cursor, (2, 1));
    }

    #[test]
    fn backslash_before_enter_is_a_newline() {
        let mut composer = Composer::default();
        composer.insert("a\\");
        assert!(composer.newline_for_backslash());
        composer.insert("b");
        assert!(!composer.newline_for_backslash());
        assert_eq!(composer.value(), "a\nb");
    }
}
