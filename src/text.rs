//! SafeText: the only string the screen accepts.
//!
//! Everything that came from a model, a tool, a file or the network passes through here before it is
//! drawn. What goes in is recorded elsewhere, byte for byte; this is what may be looked at. It does not
//! wrap, colour or shorten, and it expands no tab: that is the deck's work.
//!
//! What stays: printable characters, newline, tab. What goes:
//! 1. bytes that are no UTF-8 (they become U+FFFD), C0 and C1 controls, each by character;
//! 2. escape sequences; OSC, DCS, APC, PM and SOS with their payload, up to the terminator or the end of
//!    the line, so that one unfinished sequence cannot hide the rest of a text; colours as well;
//! 3. bidirectional controls, tag characters, variation selectors, fillers and stray zero-width
//!    characters (a joiner stays only between two letters of a script that uses it);
//! 4. combining marks beyond eight on one base, and marks that have no base.
//!
//! A carriage return overwrites on a terminal; here it begins a new line, so that nothing is hidden.

pub mod held;

use std::fmt;

use unicode_width::UnicodeWidthChar;

/// Combining marks one base character may carry.
const MARKS_MAX: usize = 8;
/// CAN: ends any escape sequence of a terminal, prints nothing.
const CANCEL: char = '\u{18}';

/// Text that cannot move the cursor, change the terminal or show in another order than it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafeText(String);

impl SafeText {
    /// Clean `text`. Total, and cleaning twice changes nothing more.
    pub fn new(text: &str) -> SafeText {
        SafeText(safe(text))
    }

    /// Clean bytes of unknown encoding; what is no UTF-8 becomes U+FFFD.
    pub fn from_bytes(bytes: &[u8]) -> SafeText {
        SafeText::new(&String::from_utf8_lossy(bytes))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for SafeText {
    fn from(text: &str) -> SafeText {
        SafeText::new(text)
    }
}

impl From<&String> for SafeText {
    fn from(text: &String) -> SafeText {
        SafeText::new(text)
    }
}

impl From<String> for SafeText {
    fn from(text: String) -> SafeText {
        SafeText::new(&text)
    }
}

impl AsRef<str> for SafeText {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SafeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `text` as [`SafeText`] would show it, as a plain string.
pub fn safe(text: &str) -> String {
    if text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\n' | b'\t')) {
        return text.to_string();
    }
    let mut keep = Keep { out: String::with_capacity(text.len()), ..Keep::default() };
    if text.contains('\u{1b}') {
        vte::Parser::new().advance(&mut keep, without_c1(text).as_bytes());
    } else {
        text.chars().filter(|c| !is_c1(*c)).for_each(|c| keep.take(c));
    }
    keep.out
}

/// White space collapsed: the whole text on one line.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// JSON text in which everything that would not show, or would change how the rest shows, stands as an escape:
/// what a person reads before they say yes is what will run.
pub fn visible(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, ' '..='~') {
            out.push(c);
            continue;
        }
        let alone = c.to_string();
        if c.width().is_some_and(|width| width > 0) && !is_blank(c) && safe(&alone) == alone {
            out.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

/// A space that is none to a shell or a server.
fn is_blank(c: char) -> bool {
    c.is_whitespace() && c != ' ' || matches!(c, '\u{2800}')
}

fn is_c1(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{9f}')
}

/// The text without C1 controls, and with every escape sequence ended at the end of its line.
fn without_c1(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars().filter(|c| !is_c1(*c)) {
        if matches!(c, '\n' | '\r') {
            out.push(CANCEL);
        }
        out.push(c);
    }
    out
}

/// What has been kept, and what the next character must know of it.
#[derive(Default)]
struct Keep {
    out: String,
    /// Marks on the base before; None where there is no base (start of a line, after a tab).
    marks: Option<usize>,
    /// The base before is a letter of a script in which joiners mean something.
    base_joins: bool,
    /// A joiner that waits for the letter after it.
    joiner: Option<char>,
    /// The newline before came from a carriage return, so a newline now is the same one.
    after_return: bool,
}

impl Keep {
    fn take(&mut self, c: char) {
        let joiner = self.joiner.take();
        match c {
            '\n' | '\u{2028}' | '\u{2029}' => {
                if !self.after_return {
                    self.line_end();
                }
                self.after_return = false;
                return;
            }
            '\r' => {
                if !self.after_return {
                    self.line_end();
                }
                self.after_return = true;
                return;
            }
            _ => {}
        }
        if is_hidden(c) {
            return;
        }
        match c {
            '\t' => {
                self.out.push('\t');
                (self.marks, self.base_joins) = (None, false);
            }
            '\u{200c}' | '\u{200d}' => self.joiner = self.base_joins.then_some(c),
            _ if c.width() == Some(0) => {
                if let Some(marks) = self.marks.as_mut().filter(|marks| **marks < MARKS_MAX) {
                    *marks += 1;
                    self.out.push(c);
                }
            }
            _ => {
                let joins = !c.is_ascii() && c.is_alphabetic();
                self.out.extend(joiner.filter(|_| joins));
                self.out.push(c);
                (self.marks, self.base_joins) = (Some(0), joins);
            }
        }
        self.after_return = false;
    }

    fn line_end(&mut self) {
        self.out.push('\n');
        (self.marks, self.base_joins) = (None, false);
    }
}

impl vte::Perform for Keep {
    fn print(&mut self, c: char) {
        self.take(c);
    }

    fn execute(&mut self, byte: u8) {
        if matches!(byte, b'\n' | b'\r' | b'\t') {
            self.take(char::from(byte));
        }
    }
}

/// Characters that show nothing, or change how others show.
fn is_hidden(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}'
            // Fillers: letters that draw nothing.
            | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            // Variation selectors change the width on some terminals and not on others.
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            // Tag characters and the supplementary variation selectors.
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(input: &str, expected: &str) {
        assert_eq!(safe(input), expected, "from {input:?}");
    }

    #[test]
    fn plain_text_stays() {
        check("", "");
        check("two lines\n\tand a tab", "two lines\n\tand a tab");
        check("Größe 日本語 naïve", "Größe 日本語 naïve");
        check("e\u{301}", "e\u{301}");
    }

    #[test]
    fn escape_sequences_go_with_their_payload() {
        check("\u{1b}[31mred\u{1b}[0m", "red");
        check("a\u{1b}]52;c;cm0gLXJm\u{7}b", "ab");
        check("a\u{1b}]0;title\u{1b}\\b", "ab");
        check("a\u{1b}Pq payload\u{1b}\\b", "ab");
        check("a\u{1b}_apc\u{1b}\\b\u{1b}^pm\u{1b}\\c\u{1b}Xsos\u{1b}\\d", "abcd");
        check("a\u{1b}[2J\u{1b}[1;1Hb\u{1b}cd", "abd");
    }

    #[test]
    fn an_unfinished_sequence_ends_with_its_line() {
        check("a\u{1b}]52;c;never ends\nstill here", "a\nstill here");
        check("a\u{1b}Pnever ends\r\nstill here", "a\nstill here");
        check("a\u{1b}", "a");
    }

    #[test]
    fn controls_go_by_character() {
        check("a\u{0}b\u{7}c\u{8}d\u{b}e\u{c}f\u{7f}g", "abcdefg");
        check("a\u{9b}31mb", "a31mb");
        check("a\u{9d}52;c;x\u{9c}b\u{85}c", "a52;c;xbc");
        assert_eq!(SafeText::from_bytes(b"a\xff\x9bb").as_str(), "a\u{fffd}\u{fffd}b");
    }

    #[test]
    fn carriage_return_begins_a_line() {
        check("ok\rHACKED", "ok\nHACKED");
        check("a\r\nb\r\r\nc\n\nd", "a\nb\nc\n\nd");
    }

    #[test]
    fn order_and_hidden_characters() {
        check("\u{202e}evil\u{202c} \u{2066}x\u{2069}\u{200f}", "evil x");
        check("a\u{e0041}\u{e0042}b\u{feff}\u{200b}\u{2060}", "ab");
        check("\u{1f468}\u{200d}\u{1f469}", "\u{1f468}\u{1f469}");
        check("a\u{200d}b", "ab");
        check("\u{645}\u{6cc}\u{200c}\u{62e}", "\u{645}\u{6cc}\u{200c}\u{62e}");
        check("\u{645}\u{200c}", "\u{645}");
        check("line\u{2028}next", "line\nnext");
    }

    #[test]
    fn marks_are_capped_and_need_a_base() {
        check(&format!("a{}b", "\u{301}".repeat(30)), &format!("a{}b", "\u{301}".repeat(8)));
        check("\u{301}a\n\u{301}b\t\u{301}c", "a\nb\tc");
    }

    #[test]
    fn what_hides_is_seen_as_an_escape() {
        for (text, expected) in [
            ("{\"a\":\"x y\"}", "{\"a\":\"x y\"}"),
            ("Größe 日本語", "Größe 日本語"),
            ("\u{202e}txt.exe", "\\u202etxt.exe"),
            ("a\u{200b}b\u{feff}", "a\\u200bb\\ufeff"),
            ("\u{e0041}", "\\udb40\\udc41"),
            ("a\u{a0}b\u{3000}c\u{2800}", "a\\u00a0b\\u3000c\\u2800"),
            ("\u{1b}[2J\n\t\u{9b}", "\\u001b[2J\\u000a\\u0009\\u009b"),
            ("e\u{301}\u{3164}", "e\\u0301\\u3164"),
        ] {
            assert_eq!(visible(text), expected);
            assert_eq!(safe(&visible(text)), visible(text));
        }
    }

    fn nasty() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            "\u{1b}",
            "\u{1b}[",
            "\u{1b}]52;c;",
            "\u{1b}P",
            "\u{1b}_",
            "\u{1b}X",
            "\u{1b}\\",
            "\u{7}",
            "\u{9b}",
            "\u{9d}",
            "\u{18}",
            "\r",
            "\n",
            "\t",
            "a",
            "m",
            ";",
            "3",
            "é",
            "\u{301}",
            "\u{200d}",
            "\u{200c}",
            "\u{627}",
            "\u{202e}",
            "\u{e0041}",
            "\u{1f468}",
            "\u{fe0f}",
            "日",
            "\u{7f}",
            "\u{0}",
        ]);
        prop_oneof![
            prop::collection::vec(pieces, 0..40).prop_map(|v| v.concat()),
            prop::collection::vec(any::<u8>(), 0..80).prop_map(|v| String::from_utf8_lossy(&v).into_owned()),
            any::<String>(),
        ]
    }

    proptest! {
        #[test]
        fn twice_is_once_and_nothing_dangerous_stays(text in nasty()) {
            let once = safe(&text);
            prop_assert_eq!(&safe(&once), &once);
            prop_assert!(!once.chars().any(is_hidden_except_line));
        }
    }

    fn is_hidden_except_line(c: char) -> bool {
        c != '\n' && is_hidden(c)
    }
}
