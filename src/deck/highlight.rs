//! Code as inked lines: comments, strings, numbers and keywords of Python, everything else plain code.
//!
//! One pass over at most a pane of text, cheap enough for every frame. Not a parser: it never judges,
//! and what it does not know it shows as it is.

use crate::deck::row::Prose;
use crate::deck::theme::Ink;

#[rustfmt::skip]
const KEYWORDS: &[&str] = &[
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del",
    "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal",
    "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// One prose per line of `code`.
pub fn lines(code: &str, language: &str) -> Vec<Prose> {
    let code = code.trim_end_matches('\n');
    if !matches!(language, "python" | "py" | "python3") {
        return code.split('\n').map(|line| Prose::of(line, Ink::Code)).collect();
    }
    let mut lines = vec![Prose::new()];
    let mut rest = code;
    while !rest.is_empty() {
        let (length, ink) = token(rest);
        for (n, part) in rest[..length].split('\n').enumerate() {
            if n > 0 {
                lines.push(Prose::new());
            }
            if let Some(last) = lines.last_mut() {
                *last = std::mem::take(last).say(part, ink);
            }
        }
        rest = &rest[length..];
    }
    lines
}

/// Bytes and ink of the token `code` begins with.
fn token(code: &str) -> (usize, Ink) {
    let first = code.chars().next().unwrap_or_default();
    let run = |holds: fn(char) -> bool| code.find(|c| !holds(c)).unwrap_or(code.len());
    match first {
        '#' => (code.find('\n').unwrap_or(code.len()), Ink::CodeComment),
        '"' | '\'' => (string(code, first), Ink::CodeString),
        c if c.is_ascii_digit() => {
            (run(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.'), Ink::CodeNumber)
        }
        c if c.is_alphabetic() || c == '_' => {
            let length = run(|c| c.is_alphanumeric() || c == '_');
            let ink = if KEYWORDS.contains(&&code[..length]) { Ink::CodeKeyword } else { Ink::Code };
            (length, ink)
        }
        c => (c.len_utf8(), Ink::Code),
    }
}

/// Bytes of the string literal at the start, triple quotes included; it ends with its line at the latest
/// unless it is a triple one.
fn string(code: &str, quote: char) -> usize {
    let triple = String::from(quote).repeat(3);
    if let Some(inside) = code.strip_prefix(&triple) {
        return inside.find(&triple).map_or(code.len(), |at| at + 6);
    }
    let mut escaped = false;
    for (at, c) in code.char_indices().skip(1) {
        match c {
            '\n' => return at,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::deck::row::Row;

    #[track_caller]
    fn check(code: &str, expected: &[(&str, Ink)]) {
        let row = expected.iter().fold(Row::new(), |row, (text, ink)| row.say(*text, *ink));
        let lines = lines(code, "python");
        assert_eq!(lines[0].wrap(200, &Row::new(), &Row::new()), [row]);
    }

    #[test]
    fn python() {
        check(
            "x = 34_000 # n",
            &[("x = ", Ink::Code), ("34_000", Ink::CodeNumber), (" ", Ink::Code), ("# n", Ink::CodeComment)],
        );
        check(
            "for x in 'a\\'b':",
            &[
                ("for", Ink::CodeKeyword),
                (" x ", Ink::Code),
                ("in", Ink::CodeKeyword),
                (" ", Ink::Code),
                ("'a\\'b'", Ink::CodeString),
                (":", Ink::Code),
            ],
        );
        check("'unfinished", &[("'unfinished", Ink::CodeString)]);
        assert_eq!(lines("'''a\nb''' + 1\n", "python").len(), 2);
    }

    proptest! {
        #[test]
        fn every_line_keeps_its_text(code in "[ab1'\"#\\\\ \né_.]{0,80}") {
            let rows: Vec<String> = lines(&code, "python")
                .iter()
                .flat_map(|line| line.wrap(500, &Row::new(), &Row::new()))
                .map(|row| row.text())
                .collect();
            let plain = code.trim_end_matches('\n');
            prop_assert_eq!(rows, plain.split('\n').map(String::from).collect::<Vec<_>>());
        }
    }
}
