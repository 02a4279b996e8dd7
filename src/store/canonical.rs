//! The normal form of an answer: two answers are the same answer when their normal forms are equal.
//!
//! Numbers, numbers with units, dates, paths, sets and JSON have their own forms; everything else is
//! text without case, quotes and extra space. Nothing is guessed: an ambiguous date ("03/05/2024") or an
//! unknown unit stays text. No model is asked.

mod date;
mod number;

use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

/// Normal forms longer than this are replaced by their hash: they are compared, never read.
const LONGEST: usize = 4096;

/// The normal form of `text`. Idempotent: the normal form of a normal form is itself.
pub fn canonical(text: &str) -> String {
    // A form can uncover another (a quoted number); each pass only removes, so this ends.
    let mut now = once(text);
    for _ in 0..8 {
        let next = once(&now);
        if next == now {
            break;
        }
        now = next;
    }
    if now.len() > LONGEST { format!("blake3:{}", blake3::hash(now.as_bytes()).to_hex()) } else { now }
}

/// Whose answers are comparable: the question in its normal form, and the conversation before it.
pub fn question_id(query: &str, conversation: &[(String, String)]) -> String {
    let mut hasher = blake3::Hasher::new();
    let parts = conversation.iter().flat_map(|(question, answer)| [question.as_str(), answer]);
    for part in parts.chain([query]) {
        let part = fold(part);
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_string()
}

fn once(text: &str) -> String {
    let clean: String = text
        .nfc()
        .map(|c| match c {
            '\u{2212}' | '\u{2010}' | '\u{2011}' => '-',
            '\u{a0}' | '\u{202f}' | '\u{2009}' => ' ',
            c => c,
        })
        .collect();
    let text = unwrapped(&clean);
    date::date(text)
        .or_else(|| number::quantity(text))
        .or_else(|| json(text))
        .or_else(|| set(text))
        .or_else(|| path(text))
        .unwrap_or_else(|| fold(text))
}

/// Without the dress models put around an answer: quotes, emphasis, code marks, "Answer:", a full stop.
fn unwrapped(text: &str) -> &str {
    let mut text = text.trim();
    loop {
        let before = text;
        for prefix in ["final answer:", "answer:", "the answer is:", "the answer is "] {
            if text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix)) {
                text = text[prefix.len()..].trim();
            }
        }
        for (open, close) in [
            ("\\boxed{", "}"),
            ("**", "**"),
            ("```", "```"),
            ("`", "`"),
            ("\"", "\""),
            ("'", "'"),
            ("\u{201c}", "\u{201d}"),
            ("\u{2018}", "\u{2019}"),
        ] {
            let inner = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
            // `"a" or "b"` is not one quoted text.
            if let Some(inner) = inner.filter(|inner| !inner.contains(open) && !inner.contains(close)) {
                text = inner.trim();
            }
        }
        if let Some(rest) = text.strip_suffix('.').filter(|rest| !rest.ends_with('.') && !rest.ends_with('/'))
        {
            text = rest.trim();
        }
        if text == before {
            return text;
        }
    }
}

/// Case and runs of white space do not count.
fn fold(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let lower = words.join(" ").to_lowercase();
    lower.replace('ß', "ss").replace('ς', "σ").nfc().collect()
}

/// Objects and arrays with sorted keys, no spaces and numbers in their normal form.
fn json(text: &str) -> Option<String> {
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let value: Value = serde_json::from_str(text).ok()?;
    let mut out = String::new();
    write_json(&value, &mut out)?;
    Some(out)
}

fn write_json(value: &Value, out: &mut String) -> Option<()> {
    match value {
        Value::Number(number) => {
            // Above 2^53 a float no longer says which integer was written.
            if number.is_f64() && number.as_f64()?.abs() >= 9_007_199_254_740_992.0 {
                return None;
            }
            out.push_str(&number::quantity(&number.to_string())?);
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(item, out)?;
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_json(&fields[key], out)?;
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
    Some(())
}

/// `{b, a, b}` -> `{a, b}`; nested braces are no set.
fn set(text: &str) -> Option<String> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    if inner.trim().is_empty() || inner.contains(['{', '}', '[', ']', '"', '`']) {
        return None;
    }
    let mut items: Vec<String> = inner.split(',').map(canonical).collect();
    items.sort();
    items.dedup();
    Some(format!("{{{}}}", items.join(", ")))
}

/// One word that begins as a path does; case counts, `.`, `..` and doubled slashes do not.
fn path(text: &str) -> Option<String> {
    let root = ["/", "./", "../", "~/"].into_iter().find(|start| text.starts_with(start))?;
    if text.contains(char::is_whitespace) {
        return None;
    }
    let (prefix, body) = match root {
        "/" => ("/", &text[1..]),
        "~/" => ("~/", &text[2..]),
        _ => ("./", text),
    };
    let mut kept: Vec<&str> = Vec::new();
    for part in body.split('/') {
        match part {
            "" | "." => {}
            ".." if kept.last().is_some_and(|last| *last != "..") => {
                kept.pop();
            }
            ".." if prefix == "/" => {}
            part => kept.push(part),
        }
    }
    let prefix = if prefix == "./" && kept.first() == Some(&"..") { "" } else { prefix };
    // `../` alone would read as text without its slash.
    let slash = if kept.iter().all(|part| *part == "..") && !kept.is_empty() { "/" } else { "" };
    Some(format!("{prefix}{}{slash}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn table() {
        for (same, expected) in [
            (
                &["1522", "1,522", "1522.0", " +1522. ", "1.522e3", "1 522", "**1522**", "\"1522\""][..],
                "1522",
            ),
            (&["Answer: 1522", "The answer is 1522.", "\\boxed{1522}", "`1522`"], "1522"),
            (&["-5", "\u{2212}5", "-5.00"], "-5"),
            (&["0", "-0", "0.000", "0e9"], "0"),
            (&["0.5", ".5", "1/2", "2/4", "5e-1"], "0.5"),
            (&["2/3", "4/6", "-4/-6"], "2/3"),
            (&["123456789012345678901234567890123456789012"], "123456789012345678901234567890123456789012"),
            (&["5 km", "5km", "5000 m", "5,000 metres", "5 Kilometers", "500000 cm"], "5000 m"),
            (&["2 h", "120 min", "7200 seconds", "2 hours"], "7200 s"),
            (&["2.5 kg", "2500 g"], "2.5 kg"),
            (&["1 KiB", "1024 bytes", "1.024 kB"], "1024 B"),
            (&["50%", "50 %", "50 percent"], "50 %"),
            (&["$5", "5 $", "5 dollars", "5.00 USD"], "5 $"),
            (&["20 °C", "20°C", "20 degrees Celsius"], "20 °C"),
            (&["12 apples", "12  Apples"], "12 apples"),
            (
                &[
                    "2024-03-05",
                    "March 5, 2024",
                    "5 March 2024",
                    "5th of March 2024",
                    "2024/03/05",
                    "Mar 5 2024",
                ],
                "2024-03-05",
            ),
            (&["2024-03-05T10:00:00Z", "2024-03-05T11:00:00+01:00"], "2024-03-05T10:00:00Z"),
            (&["03/05/2024"], "03/05/2024"),
            (&["2024-02-31"], "2024-02-31"),
            (&["/usr//local/./bin/", "/usr/share/../local/bin"], "/usr/local/bin"),
            (&["./A/b", ".//A/./b/"], "./A/b"),
            (&["../x/..", "../"], "../"),
            (&["~/Notes/"], "~/Notes"),
            (&["{b, a, b}", "{ A , b }"], "{a, b}"),
            (&["{2, 1.0}", "{1, 2, 2}"], "{1, 2}"),
            (&["{\"b\": 1.0, \"a\": [2,  3]}", "{\"a\":[2,3],\"b\":1}"], "{\"a\":[2,3],\"b\":1}"),
            (&["[3, 1]"], "[3,1]"),
            (&["Paris", " paris. ", "PARIS", "\u{201c}Paris\u{201d}", "'Paris'"], "paris"),
            (&["Cafe\u{301}", "CAFÉ"], "café"),
            (&["Straße", "STRASSE"], "strasse"),
            (&["10.0.0.1"], "10.0.0.1"),
            (&["\"a\" or \"b\""], "\"a\" or \"b\""),
            (&["", "  ", "\"\""], ""),
        ] {
            for text in same {
                assert_eq!(canonical(text), expected, "{text:?}");
            }
        }
    }

    #[test]
    fn different_answers_stay_different() {
        for (a, b) in [
            ("5 m", "5 km"),
            ("5", "5 m"),
            ("0.5", "50%"),
            ("[1, 2]", "[2, 1]"),
            ("/A", "/a"),
            ("1/3", "0.333"),
            ("[9007199254740993.0]", "[9007199254740992.0]"),
            ("20 °C", "20 °F"),
            ("5 mg", "5 Mg"),
        ] {
            assert_ne!(canonical(a), canonical(b), "{a:?} {b:?}");
        }
        assert_eq!(canonical(&"x ".repeat(5000)).len(), "blake3:".len() + 64);
    }

    #[test]
    fn a_question_is_its_words_and_what_came_before() {
        let before = vec![("a".to_string(), "b".to_string())];
        assert_eq!(question_id("What  is 2+2?", &[]), question_id("what is 2+2?", &[]));
        assert_ne!(question_id("What is 2+2?", &[]), question_id("What is 2+2?", &before));
        assert_ne!(question_id("a b", &[]), question_id("a", &[("b".to_string(), String::new())]));
    }

    proptest! {
        #[test]
        fn idempotent(text in "\\PC{0,40}") {
            let form = canonical(&text);
            prop_assert_eq!(canonical(&form), form);
        }

        #[test]
        fn idempotent_on_shapes(text in "[-+]?[0-9,. /e]{1,12} ?(km|m|%|min|\\$|oz|foo|\\.)?[\"'.]{0,2}|\\{[a-c0-9, ]{0,8}\\}|[./~]{1,4}[a-b/.]{0,8}|[0-9]{1,4}[-/. ][0-9a-z]{1,3}[-/ ][0-9]{1,4}") {
            let form = canonical(&text);
            prop_assert_eq!(canonical(&form), form);
        }

        #[test]
        fn any_integer_survives_its_separators(number in any::<i64>()) {
            let plain = number.to_string();
            let digits = plain.trim_start_matches('-');
            let mut grouped = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index) % 3 == 0 {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            let sign = if number < 0 { "-" } else { "" };
            let written = format!("{sign}{grouped}.00");
            prop_assert_eq!(canonical(&written), plain);
        }
    }
}
