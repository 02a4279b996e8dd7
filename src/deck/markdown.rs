//! Answers as rows: the part of markdown that helps in a terminal (bold, code, lists, headings, quotes, tables,
//! links with their address). Struck out text keeps its `~~`: not every terminal can strike.
//!
//! Models write arithmetic too, and `(5-3)*2*12` must not lose its stars: emphasis whose marks touch a
//! letter, a digit or a bracket outside, and single stars around no letter, are shown as written.

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::deck::highlight;
use crate::deck::markdown_table::Table;
use crate::deck::row::{Prose, Row};
use crate::deck::theme::Ink;
use crate::text::safe;

/// Rows of at most `width` columns, each behind `margin`.
pub fn rows(source: &str, width: usize, margin: &Row) -> Vec<Row> {
    page(&safe(source), width, margin, Page::new(margin)).0
}

/// Render `source` on from `page`; the rows, and whether a blank row is due before the next block.
fn page<'a>(source: &'a str, width: usize, margin: &'a Row, page: Page<'a>) -> (Vec<Row>, bool) {
    let mut page = Page { source, width, margin, ..page };
    for (event, range) in Parser::new_ext(source, Options::ENABLE_TABLES).into_offset_iter() {
        page.event(event, range);
    }
    page.flush();
    (page.rows, page.gap)
}

/// A text on its way: the rows of its finished blocks are kept, only its last block is parsed again.
///
/// Once a block has begun nothing after it changes the blocks before, with one exception: a link reference
/// may be defined later, so a text that holds `]:` is rendered whole. So is one that holds an escape or a
/// carriage return, which cleaning may move across lines.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    width: usize,
    /// Bytes of the source whose blocks are finished.
    done: usize,
    rows: Vec<Row>,
    gap: bool,
}

impl Stream {
    /// The rows of `source`, which begins with what it was the last time.
    pub fn rows(&mut self, source: &str, width: usize, margin: &Row) -> Vec<Row> {
        if source.contains(['\u{1b}', '\r']) || source.contains("]:") {
            return page(&safe(source), width, margin, Page { live: true, ..Page::new(margin) }).0;
        }
        if width != self.width || !source.is_char_boundary(self.done) {
            *self = Stream { width, ..Stream::default() };
        }
        let rest = source.get(self.done..).unwrap_or_default();
        // A line that is not whole yet may look like the start of a block and be none (`*` before `**`).
        let whole = rest.rfind('\n').map_or(0, |at| at + 1);
        let last = last_block(&rest[..whole]);
        if last > 0 {
            let (rows, gap) = page(&safe(&rest[..last]), width, margin, self.begin(margin));
            self.rows.extend(rows);
            self.gap = gap;
            self.done += last;
        }
        let open = safe(&rest[last..]);
        let (rows, _) = page(&open, width, margin, Page { live: true, ..self.begin(margin) });
        self.rows.iter().cloned().chain(rows).collect()
    }

    fn begin<'a>(&self, margin: &'a Row) -> Page<'a> {
        Page { gap: self.gap, above: !self.rows.is_empty(), ..Page::new(margin) }
    }
}

/// Where the line begins on which the last top-level block begins.
fn last_block(source: &str) -> usize {
    let (mut depth, mut last) = (0usize, 0);
    for (event, range) in Parser::new_ext(source, Options::ENABLE_TABLES).into_offset_iter() {
        if depth == 0 && !matches!(event, Event::End(_)) {
            last = range.start;
        }
        match event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    source[..last].rfind('\n').map_or(0, |at| at + 1)
}

struct Page<'a> {
    source: &'a str,
    width: usize,
    margin: &'a Row,
    rows: Vec<Row>,
    prose: Prose,
    /// Inks of the marks that are open; the innermost is last.
    inks: Vec<Ink>,
    /// Marks shown as written, waiting for their end.
    literal: Vec<Option<&'a str>>,
    /// Next number per open list, None for bullets.
    lists: Vec<Option<u64>>,
    /// What stands before the next row of a list item ("- ").
    bullet: Option<String>,
    quotes: usize,
    /// Language of the code block being read, and its text.
    code: Option<(String, String)>,
    /// The table being read.
    table: Option<Table>,
    /// Addresses of the links that are open, each with what was said before its text.
    links: Vec<(String, String)>,
    /// What is being said, for the links in it.
    said: String,
    /// A blank row is due before the next block.
    gap: bool,
    /// Rows stand above that are not in `rows`.
    above: bool,
    /// The last block may still grow: its code is not worth inking yet.
    live: bool,
}

impl<'a> Page<'a> {
    fn new(margin: &'a Row) -> Page<'a> {
        Page {
            source: "",
            width: 0,
            margin,
            rows: Vec::new(),
            prose: Prose::new(),
            inks: Vec::new(),
            literal: Vec::new(),
            lists: Vec::new(),
            bullet: None,
            quotes: 0,
            code: None,
            table: None,
            links: Vec::new(),
            said: String::new(),
            gap: false,
            above: false,
            live: false,
        }
    }

    fn event(&mut self, event: Event<'_>, range: Range<usize>) {
        match event {
            Event::Start(tag) => self.start(&tag, range),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => match &mut self.code {
                Some((_, code)) => code.push_str(&text),
                None => self.say(&text, self.ink()),
            },
            Event::Code(text) => self.say(&text, Ink::Code),
            Event::SoftBreak | Event::HardBreak => self.say("\n", Ink::Text),
            Event::Html(text) | Event::InlineHtml(text) => self.say(&text, Ink::Dim),
            Event::Rule => {
                self.block();
                self.say("----", Ink::Dim);
                self.flush();
            }
            _ => {}
        }
    }

    fn start(&mut self, tag: &Tag<'_>, range: Range<usize>) {
        match tag {
            Tag::Paragraph => self.block(),
            Tag::Heading { .. } => {
                self.block();
                self.inks.push(Ink::Heading);
            }
            Tag::Emphasis => self.open(Ink::Emphasis, 1, range),
            Tag::Strong => self.open(Ink::Strong, 2, range),
            Tag::BlockQuote(_) => {
                self.block();
                self.quotes += 1;
            }
            Tag::CodeBlock(kind) => {
                self.block();
                let language = match kind {
                    CodeBlockKind::Fenced(info) => {
                        info.split_whitespace().next().unwrap_or_default().to_string()
                    }
                    CodeBlockKind::Indented => String::new(),
                };
                self.code = Some((language, String::new()));
            }
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                let outer = std::mem::take(&mut self.said);
                self.links.push((dest_url.to_string(), outer));
            }
            Tag::Table(alignments) => {
                self.block();
                self.table = Some(Table { alignments: alignments.clone(), lines: Vec::new() });
            }
            Tag::TableHead => {
                self.inks.push(Ink::Strong);
                self.table_line();
            }
            Tag::TableRow => self.table_line(),
            Tag::List(first) => {
                self.block();
                self.lists.push(*first);
            }
            Tag::Item => {
                self.flush();
                let bullet = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{}. ", *number - 1)
                    }
                    _ => "- ".to_string(),
                };
                self.bullet = Some(bullet);
                self.gap = false;
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::HtmlBlock => {
                self.flush();
                self.gap = self.lists.is_empty();
            }
            TagEnd::Heading(_) => {
                self.flush();
                self.inks.pop();
                self.gap = true;
            }
            TagEnd::Emphasis | TagEnd::Strong => self.close(),
            TagEnd::BlockQuote(_) => {
                self.flush();
                self.quotes = self.quotes.saturating_sub(1);
                self.gap = true;
            }
            TagEnd::CodeBlock => self.code_block(),
            TagEnd::Link | TagEnd::Image => self.address(),
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.prose);
                if let Some(line) = self.table.as_mut().and_then(|table| table.lines.last_mut()) {
                    line.push(cell);
                }
            }
            TagEnd::TableHead => {
                self.inks.pop();
            }
            TagEnd::Table => {
                if let Some(table) = self.table.take() {
                    self.rows.extend(table.rows(self.width, &self.lead("")));
                }
                self.gap = true;
            }
            TagEnd::Item => self.flush(),
            TagEnd::List(_) => {
                self.flush();
                self.lists.pop();
                self.gap = self.lists.is_empty();
            }
            _ => {}
        }
    }

    /// A block begins: what was being said ends, and a blank row stands between the two.
    fn block(&mut self) {
        self.flush();
        if self.gap && (self.above || !self.rows.is_empty()) {
            self.rows.push(Row::new());
        }
        self.gap = false;
    }

    fn open(&mut self, ink: Ink, marks: usize, range: Range<usize>) {
        let inside = &self.source[range.start + marks..range.end - marks];
        let before = self.source[..range.start].chars().next_back();
        let after = self.source[range.end..].chars().next();
        let touches =
            |c: Option<char>, brackets: &str| c.is_some_and(|c| c.is_alphanumeric() || brackets.contains(c));
        let literal = touches(before, ")]}")
            || touches(after, "([{")
            || (marks == 1 && !inside.contains(char::is_alphabetic));
        if literal {
            let mark = &self.source[range.start..range.start + marks];
            self.say(mark, self.ink());
            self.literal.push(Some(mark));
        } else {
            self.inks.push(ink);
            self.literal.push(None);
        }
    }

    fn close(&mut self) {
        match self.literal.pop() {
            Some(Some(mark)) => self.say(mark, self.ink()),
            _ => {
                self.inks.pop();
            }
        }
    }

    fn table_line(&mut self) {
        if let Some(table) = &mut self.table {
            table.lines.push(Vec::new());
        }
    }

    /// Behind a link's text stands where it leads, unless the text is that.
    fn address(&mut self) {
        let Some((address, outer)) = self.links.pop() else { return };
        let text = std::mem::replace(&mut self.said, outer);
        let bare = address.strip_prefix("mailto:").unwrap_or(&address);
        if !bare.is_empty() && text.trim() != bare {
            let gap = if text.is_empty() { "" } else { " " };
            self.say(&format!("{gap}({address})"), Ink::Dim);
        }
    }

    fn code_block(&mut self) {
        let Some((language, code)) = self.code.take() else { return };
        let lead = self.lead("").say("  ", Ink::Text);
        let lines = if self.live { highlight::plain(&code) } else { highlight::lines(&code, &language) };
        for prose in lines {
            self.rows.extend(prose.wrap(self.width, &lead, &lead));
        }
        self.gap = true;
    }

    fn ink(&self) -> Ink {
        self.inks.last().copied().unwrap_or_default()
    }

    fn say(&mut self, text: &str, ink: Ink) {
        if !self.links.is_empty() {
            self.said.push_str(text);
        }
        self.prose = std::mem::take(&mut self.prose).say(text, ink);
    }

    /// Margin, quote bars and list indentation, then `mark`.
    fn lead(&self, mark: &str) -> Row {
        let mut lead = self.margin.clone();
        for _ in 0..self.quotes {
            lead = lead.say("| ", Ink::Dim);
        }
        lead.say("  ".repeat(self.lists.len().saturating_sub(1)), Ink::Text).say(mark, Ink::Accent)
    }

    fn flush(&mut self) {
        if self.prose.is_empty() && self.bullet.is_none() {
            return;
        }
        let prose = std::mem::take(&mut self.prose);
        let mark = self.bullet.take();
        let indent = if self.lists.is_empty() { 0 } else { 2 };
        let rest = self.lead(&" ".repeat(mark.as_ref().map_or(indent, |mark| mark.len())));
        let first = mark.map_or_else(|| rest.clone(), |mark| self.lead(&mark));
        let start = self.rows.len();
        self.rows.extend(prose.wrap(self.width, &first, &rest));
        debug_assert!(self.rows.len() > start);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &[&str]) {
        let rows = rows(source, 40, &Row::new());
        assert_eq!(rows.iter().map(Row::text).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn plain_answers_stay_as_they_are() {
        check("1.73", &["1.73"]);
        check("Lima\nSantiago", &["Lima", "Santiago"]);
        check("one\n\ntwo", &["one", "", "two"]);
    }

    #[test]
    fn arithmetic_keeps_its_stars() {
        check("(5-3)*2*12", &["(5-3)*2*12"]);
        check("2**3**2 = 512", &["2**3**2 = 512"]);
        check("3 *4* 2", &["3 *4* 2"]);
        check("a_b_c", &["a_b_c"]);
    }

    #[test]
    fn marks_become_ink() {
        check("**Lima** is *the* capital", &["Lima is the capital"]);
        check("**1.73**: done", &["1.73: done"]);
        let row = &rows("**Lima**", 40, &Row::new())[0];
        assert_eq!(*row, Row::new().say("Lima", Ink::Strong));
    }

    #[test]
    fn lists_code_quotes_headings() {
        check(
            "# Title\n\n- a\n- b\n  - c\n\n1. x\n2. y",
            &["Title", "", "- a", "- b", "  - c", "", "1. x", "2. y"],
        );
        check("see\n\n```text\na = 1\n\nb\n```\nend", &["see", "", "  a = 1", "  ", "  b", "", "end"]);
        check("> said", &["| said"]);
    }

    #[test]
    fn links_say_where_they_lead() {
        check("see [the docs](http://x.y/z)", &["see the docs (http://x.y/z)"]);
        check("<http://x.y>", &["http://x.y"]);
        check("[http://x.y](http://x.y)", &["http://x.y"]);
        check("[a] b\n\n[a]: /c", &["a (/c) b"]);
        check("![map](m.png) [](e)", &["map (m.png) (e)"]);
        check("[**bold** x](u&#27;[31mv)", &["bold x (uv)"]);
        check("~~old~~ new", &["~~old~~ new"]);
        let row = &rows("[a](b)", 40, &Row::new())[0];
        assert_eq!(*row, Row::new().say("a", Ink::Text).say(" (b)", Ink::Dim));
    }

    #[test]
    fn tables_stand_in_columns_and_fit() {
        let table = "| city | people |\n|---|---:|\n| Lima | 10 |\n| *Rio* de Janeiro | 6.7 |\n\nend";
        check(
            table,
            &[
                "city           | people",
                "---------------+-------",
                "Lima           |     10",
                "Rio de Janeiro |    6.7",
                "",
                "end",
            ],
        );
        let long = "| a | b |\n|---|---|\n| one two three four five six | seven eight nine ten eleven |";
        check(
            long,
            &[
                "a                  | b                 ",
                "-------------------+-------------------",
                "one two three four | seven eight nine  ",
                "five six           | ten eleven        ",
            ],
        );
        let narrow: Vec<String> = rows(table, 12, &Row::new()).iter().map(Row::text).collect();
        assert_eq!(narrow[..4], ["- city: Lima", "  people: 10", "- city: Rio", "  de Janeiro"]);
    }

    #[test]
    fn hostile_text_is_cleaned_first() {
        check("a\u{1b}]52;c;x\u{7}b `\u{202e}c`", &["ab c"]);
    }

    proptest! {
        /// However a text arrives, what shows is what the whole text shows.
        #[test]
        fn streaming_shows_what_the_whole_shows(
            blocks in prop::collection::vec(prop::sample::select(vec![
                "para one\n", "two *lines*\nof it\n", "\n", "\n\n", "- item\n", "  - inner\n", "1. first\n\n",
                "```python\nx = 1\n", "```\n", "# Title\n", "> quote\n", "    indented\n", "---\n", "===\n", "<b>\n",
                "**bold** 日本\n", "| a | b |\n", "|---|---|\n", "| 1 | 日本 2 |\n", "[t](u)\n", "[a]: b\n", "text [a]\n", " ", "\u{1b}[31mred\n", "a\r\nb", "\tx\n", "e\u{301}\u{200b}\n",
            ]), 0..14),
            cuts in prop::collection::vec(1usize..9, 1..6),
        ) {
            let source: String = blocks.concat();
            let mut stream = Stream::default();
            let (mut end, mut n) = (0, 0);
            while end < source.len() {
                end = source.ceil_char_boundary((end + cuts[n % cuts.len()]).min(source.len()));
                n += 1;
                let texts = |rows: Vec<Row>| rows.iter().map(Row::text).collect::<Vec<_>>();
                let streamed = texts(stream.rows(&source[..end], 30, &Row::new()));
                prop_assert_eq!(streamed, texts(rows(&source[..end], 30, &Row::new())), "{:?}", &source[..end]);
            }
        }

        #[test]
        fn any_text_fits(source in "[-a-z*_`#>\\n 0-9.()\\[\\]<&;|]{0,200}", width in 10usize..60) {
            for row in rows(&source, width, &Row::new()) {
                prop_assert!(row.width() <= width.max(12), "{:?}", row.text());
            }
        }
    }
}
