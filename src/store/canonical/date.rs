//! Dates and instants in ISO 8601. A form that two countries read differently is no date here.

use jiff::Timestamp;
use jiff::civil::Date;

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// `yyyy-mm-dd`, or an instant in UTC where the text had a time and a zone.
pub fn date(text: &str) -> Option<String> {
    if text.len() > 40 || !text.is_ascii() || !text.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if text.contains(':') {
        return text.parse::<Timestamp>().ok().map(|instant| instant.to_string());
    }
    numeric(text).or_else(|| spoken(text)).map(|date| date.to_string())
}

/// Year first: the only order of three numbers that is not ambiguous.
fn numeric(text: &str) -> Option<Date> {
    let separator = ['-', '/', '.'].into_iter().find(|c| text.contains(*c))?;
    let parts: Vec<&str> = text.split(separator).collect();
    let [year, month, day] = parts[..] else { return None };
    make(year, month.parse().ok()?, day)
}

/// "March 5, 2024", "5 Mar 2024", "the 5th of March 2024".
fn spoken(text: &str) -> Option<Date> {
    let lower = text.to_ascii_lowercase();
    let words: Vec<&str> = lower
        .split([' ', ','])
        .filter(|word| !matches!(*word, "" | "of" | "the"))
        .map(|word| word.trim_end_matches('.'))
        .collect();
    let [first, second, year] = words[..] else { return None };
    let (month, day) = match (month(first), month(second)) {
        (Some(month), None) => (month, second),
        (None, Some(month)) => (month, first),
        _ => return None,
    };
    let plain = ["st", "nd", "rd", "th"].into_iter().find_map(|suffix| day.strip_suffix(suffix));
    make(year, month, plain.unwrap_or(day))
}

fn month(word: &str) -> Option<i8> {
    let full = MONTHS.iter().position(|name| *name == word || (word.len() == 3 && name.starts_with(word)));
    let found = full.or_else(|| (word == "sept").then_some(8))?;
    i8::try_from(found + 1).ok()
}

fn make(year: &str, month: i8, day: &str) -> Option<Date> {
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    if year.len() != 4 || !digits(year) || day.is_empty() || day.len() > 2 || !digits(day) {
        return None;
    }
    Date::new(year.parse().ok()?, month, day.parse().ok()?).ok()
}
