//! Competition answers (AIME, AMC): the number a text ends with, compared exactly as a fraction.

use super::final_answer;
use crate::tasks::check::{Rational, evaluate};

/// The text's answer is this number, exactly. `wanted` is a number as files write it: 25, 27.0, 3/4.
pub fn equal(text: &str, wanted: &str) -> bool {
    let wanted = last(&plain(wanted));
    wanted.is_some() && last(&plain(final_answer(text))) == wanted
}

/// Whether a text is one number and nothing else.
pub fn is_number(text: &str) -> bool {
    let text = plain(text);
    let numbers = numbers(&text);
    matches!(numbers.as_slice(), [(start, end, _)] if text[..*start].trim().is_empty() && text[*end..].trim().is_empty())
}

/// LaTeX, typographic signs and vulgar fractions as plain text; separators between thousands removed.
fn plain(text: &str) -> String {
    let mut text = text.replace("\\left", "").replace("\\right", "").replace("\\dfrac", "\\frac");
    for (sign, plain) in [
        ("\\tfrac", "\\frac"),
        ("{,}", ","),
        ("\\,", ""),
        ("\\!", ""),
        ("\\$", ""),
        ("$", ""),
        ("\u{2212}", "-"),
        ("–", "-"),
        ("\u{2044}", "/"),
        ("\u{2215}", "/"),
        ("½", " 1/2"),
        ("¼", " 1/4"),
        ("¾", " 3/4"),
        ("⅓", " 1/3"),
        ("⅔", " 2/3"),
    ] {
        text = text.replace(sign, plain);
    }
    without_separators(&fractions(&text))
}

/// `\frac{a}{b}` and `\frac ab` of plain numbers as a/b.
fn fractions(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\frac") {
        out.push_str(&rest[..at]);
        rest = &rest[at + "\\frac".len()..];
        let read = argument(rest).and_then(|(top, after)| {
            let (bottom, after) = argument(after)?;
            Some((top, bottom, after))
        });
        if let Some((top, bottom, after)) = read {
            out.push_str(&format!("{top}/{bottom}"));
            rest = after;
        }
    }
    out + rest
}

fn argument(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    match text.strip_prefix('{') {
        Some(inner) => inner.split_once('}'),
        None => text.chars().next().filter(char::is_ascii_digit).map(|_| text.split_at(1)),
    }
}

/// A comma, thin space or apostrophe between a digit and exactly three digits separates thousands.
fn without_separators(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let digit = |i: usize| chars.get(i).is_some_and(char::is_ascii_digit);
    let separates = |i: usize| {
        matches!(chars[i], ',' | '\u{a0}' | '\u{202f}' | '\u{2009}' | '\'' | '’')
            && i > 0
            && digit(i - 1)
            && (1..=3).all(|k| digit(i + k))
            && !digit(i + 4)
    };
    (0..chars.len()).filter(|i| !separates(*i)).map(|i| chars[i]).collect()
}

fn last(text: &str) -> Option<Rational> {
    let mut found = numbers(text);
    let (start, _, value) = found.pop()?;
    // "25 or 26" commits to neither, unless both are the same number.
    let hedged = found.last().is_some_and(|(_, end, other)| {
        let between = text[*end..start].trim_matches(|c: char| c.is_whitespace() || c == ',').to_lowercase();
        *other != value && matches!(between.as_str(), "or" | "or maybe" | "or perhaps" | "or possibly")
    });
    (!hedged).then_some(value)
}

/// Every number of a plain text: (start, end, value). Digits inside a word are none; "3 1/2" is one number.
fn numbers(text: &str) -> Vec<(usize, usize, Rational)> {
    let bytes = text.as_bytes();
    let mut found: Vec<(usize, usize, Rational)> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let starts = bytes[at].is_ascii_digit()
            || (bytes[at] == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit));
        if !starts {
            at += 1;
            continue;
        }
        // Here stands a digit or a point; elsewhere `at` may lie inside a character.
        let before = text[..at].chars().next_back();
        let inside = before.is_some_and(|c| c.is_alphanumeric() || "_^√".contains(c))
            || ["^{", "^(", "sqrt{", "sqrt(", "√("].iter().any(|part| text[..at].ends_with(part));
        let end = number_end(bytes, at);
        // 10^2, 5√3 and 25π are other numbers than 10, 5 and 25.
        let factor = ["^", "\\sqrt", "sqrt", "√", "\\pi", "π"];
        let rest = text[end..].trim_start();
        let degrees = ["^\\circ", "^{\\circ", "^∘"].iter().any(|sign| rest.starts_with(sign));
        let more = !degrees && factor.iter().any(|sign| rest.starts_with(sign));
        if !inside && !more {
            let negative = before == Some('-')
                && !text[..at - 1].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == ')');
            if let Some(value) = value(&text[at..end]) {
                let value = if negative { Rational::from(0).minus(value) } else { Some(value) };
                let start = if negative { at - 1 } else { at };
                match (mixed(text, found.last(), start, end), value) {
                    (Some(joined), _) => {
                        let first = found.pop().map_or(start, |(first, _, _)| first);
                        found.push((first, end, joined));
                    }
                    (None, Some(value)) => found.push((start, end, value)),
                    (None, None) => {}
                }
            }
        }
        at = end;
    }
    found
}

/// A whole number, one space and a fraction: "3 1/2".
fn mixed(
    text: &str,
    before: Option<&(usize, usize, Rational)>,
    start: usize,
    end: usize,
) -> Option<Rational> {
    let (from, to, whole) = before?;
    let fraction = &text[start..end];
    let is_whole = text[*from..*to].trim_start_matches('-').bytes().all(|b| b.is_ascii_digit());
    if !is_whole || !fraction.contains('/') || fraction.starts_with('-') || &text[*to..start] != " " {
        return None;
    }
    let part = value(fraction)?;
    if text[*from..*to].starts_with('-') { whole.minus(part) } else { whole.plus(part) }
}

/// End of digits, a decimal point, a fraction and an exponent starting at `at`.
fn number_end(bytes: &[u8], at: usize) -> usize {
    let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    let mut end = at;
    let mut point = false;
    while digit(end) || (bytes.get(end) == Some(&b'.') && !point && digit(end + 1)) {
        point |= bytes[end] == b'.';
        end += 1;
    }
    if bytes.get(end) == Some(&b'/') && digit(end + 1) {
        end += 1;
        while digit(end) {
            end += 1;
        }
    } else if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'-' | b'+')));
        if digit(end + 1 + sign) {
            end += 1 + sign;
            while digit(end) {
                end += 1;
            }
        }
    }
    end
}

fn value(text: &str) -> Option<Rational> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    if exponent.abs() > 30 {
        return None;
    }
    let mut value = evaluate(number)?;
    for _ in 0..exponent.abs() {
        let ten = Rational::from(10);
        value = if exponent > 0 { value.times(ten)? } else { value.over(ten)? };
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_equality() {
        for (wanted, text, expected) in [
            ("25", "25", true),
            ("25", "25.", true),
            ("25", "25.0", true),
            ("27.0", "27", true),
            ("25", "025", true),
            ("025", "25", true),
            ("25", "The answer is 25.", true),
            ("25", "Answer: 25", true),
            ("25", "\\boxed{25}", true),
            ("25", "$\\boxed{25}$ after 3 steps", true),
            ("25", "We get 3 + 22 = 25", true),
            ("25", "25 + 3 = 28", false),
            ("25", "-25", false),
            ("-25", "-25", true),
            ("-25", "\u{2212}25", true),
            ("-25", "–25", true),
            ("5", "30-25", false),
            ("25", "30-25", true),
            ("25", "252", false),
            ("25", "2.5", false),
            ("25", "", false),
            ("25", "twenty-five", false),
            ("25", "x25", false),
            ("1234", "1,234", true),
            ("1234567", "1,234,567", true),
            ("1234", "1{,}234", true),
            ("1234", "1 234", false),
            ("1234", "1\u{202f}234", true),
            ("234", "1, 234", true),
            ("3/4", "0.75", true),
            ("3/4", "\\frac{3}{4}", true),
            ("3/4", "\\dfrac{3}{4}", true),
            ("3/4", "\\frac34", true),
            ("3/4", "¾", true),
            ("3/4", "3⁄4", true),
            ("1/3", "0.3333", false),
            ("7/2", "3 1/2", true),
            ("7/2", "3½", true),
            ("-7/2", "-3 1/2", true),
            ("4", "3/4", false),
            ("1500", "1.5e3", true),
            ("0.0015", "1.5E-3", true),
            ("150", "$150", true),
            ("150", "\\$150", true),
            ("150", "150 cm", true),
            ("150", "150cm", true),
            ("50", "50%", true),
            ("204", "The answer is \\(204\\).", true),
            ("204", "m + n = 204, where m = 103", false),
            ("204", "The answer is m + n = 204", true),
            ("2", "x^2", false),
            ("1/0", "1/0", false),
            ("0.5", ".5", true),
            ("90", "$90^\\circ$", true),
            ("90", "90^{\\circ}", true),
            ("10", "10^2", false),
            ("2", "x^{2}", false),
            ("10", "2^{10}", false),
            ("25", "\\sqrt{25}", false),
            ("25", "√25", false),
            ("25", "≈ 25", true),
            ("25", "Das Café hat 25 Plätze – π ist kleiner: 25", true),
            ("25", "二十五", false),
            ("25", "答案是 25。", true),
            ("5", "5\\sqrt{3}", false),
            ("3", "5\\sqrt{3}", false),
            ("25", "25π", false),
            ("26", "25 or 26", false),
            ("26", "The answer is 25, or maybe 26.", false),
            ("1/2", "1/2 or 0.5", true),
            ("25", "The answer is 25!", true),
        ] {
            assert_eq!(equal(text, wanted), expected, "{text:?} for {wanted}");
        }
    }

    #[test]
    fn what_is_one_number() {
        for (text, expected) in [
            ("25", true),
            (" -3.5 ", true),
            ("3/4", true),
            ("1,000", true),
            ("25 cm", false),
            ("", false),
            ("a", false),
            ("1 and 2", false),
        ] {
            assert_eq!(is_number(text), expected, "{text:?}");
        }
    }
}
