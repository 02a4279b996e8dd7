//! Numbers as the calculator reads and shows them: thousands separators in, rounded decimals out.
//!
//! Works on digits as text, so an integer of any length stays exact.

/// Decimals shown after the point.
const PLACES: usize = 6;

/// A result of fend, taken apart: `approx. 11.0231131092 lbs`.
pub(super) struct Shown<'a> {
    pub approximate: bool,
    pub number: &'a str,
    /// The unit with its leading space, or nothing.
    unit: &'a str,
}

impl<'a> Shown<'a> {
    /// None where the result is no number (a truth value, a text, a distribution).
    pub fn parse(text: &'a str) -> Option<Shown<'a>> {
        let (approximate, rest) = match text.strip_prefix("approx. ") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if let Some(complex) = complex_part(rest) {
            return Some(Shown { approximate, number: complex, unit: "" });
        }
        let end = rest.find([' ', '°', '%']).unwrap_or(rest.len());
        let (number, unit) = rest.split_at(end);
        number.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit()).then_some(Shown {
            approximate,
            number,
            unit,
        })
    }

    pub fn complex(&self) -> bool {
        complex_part(self.number).is_some()
    }

    /// Whether the number is written with decimal digits and at most one point.
    pub fn decimal(&self) -> bool {
        let digits = self.number.strip_prefix('-').unwrap_or(self.number);
        !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            && digits.bytes().filter(|b| *b == b'.').count() <= 1
    }

    /// Digits after the point.
    pub fn places(&self) -> usize {
        self.number.split_once('.').map_or(0, |(_, decimals)| decimals.len())
    }

    pub fn rounded(&self) -> String {
        let number = if self.decimal() { round(self.number) } else { self.number.to_owned() };
        format!("{number}{}", self.unit.replace(" / ", "/"))
    }
}

/// `5 + 5i`, `-i`, `0 + 2.5i`.
fn complex_part(text: &str) -> Option<&str> {
    let body = text.strip_suffix('i')?;
    let real_or_sign = body.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '+' | '-' | ' '));
    real_or_sign.then_some(text)
}

/// Half away from zero at six decimals, or at six significant digits below 0.001; no trailing zeros.
fn round(number: &str) -> String {
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", number),
    };
    let Some((whole, decimals)) = digits.split_once('.') else {
        return number.to_owned();
    };
    let zeros = decimals.bytes().take_while(|b| *b == b'0').count();
    let small = whole == "0" && zeros >= 3 && zeros < decimals.len();
    let keep = if small { zeros + PLACES } else { PLACES };
    let mut kept: Vec<u8> = whole.bytes().chain(decimals.bytes().take(keep)).collect();
    let mut point = whole.len();
    if decimals.as_bytes().get(keep).is_some_and(|b| *b >= b'5') {
        let mut at = kept.len();
        loop {
            if at == 0 {
                kept.insert(0, b'1');
                point += 1;
                break;
            }
            at -= 1;
            if kept[at] == b'9' {
                kept[at] = b'0';
            } else {
                kept[at] += 1;
                break;
            }
        }
    }
    let text: String = kept.iter().map(|b| char::from(*b)).collect();
    let (whole, decimals) = text.split_at(point);
    let decimals = decimals.trim_end_matches('0');
    if decimals.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{decimals}") }
}

/// `1,234,567.5` without its separators.
///
/// # Errors
/// Any other comma: whether it is a decimal comma or separates arguments cannot be told.
pub(super) fn without_separators(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    for (at, &byte) in bytes.iter().enumerate() {
        if byte != b',' {
            out.push(byte);
            continue;
        }
        let after = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        let before = bytes[..at].iter().rev().take_while(|b| b.is_ascii_digit()).count();
        let start = at - before;
        let group = start > 0 && bytes[start - 1] == b',';
        let fits = if group { before == 3 } else { (1..=3).contains(&before) };
        if after != 3 || !fits {
            return Err("a comma only separates thousands (1,234,567); write decimals with a point".into());
        }
    }
    // Only single bytes below 128 were left out, so what is left is still UTF-8.
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_done_on_digits() {
        for (number, expected) in [
            ("3", "3"),
            ("-3.5", "-3.5"),
            ("0.9999999", "1"),
            ("99.99999951", "100"),
            ("-0.00012345678", "-0.000123457"),
            ("0.0000001", "0.0000001"),
            ("0.0005", "0.0005"),
            ("1.0000004", "1"),
            ("1.0000005", "1.000001"),
            ("123456789012345678901234567890.1234567", "123456789012345678901234567890.123457"),
        ] {
            assert_eq!(round(number), expected, "{number}");
        }
    }

    #[test]
    fn only_thousands_separators_are_dropped() {
        assert_eq!(without_separators("1,234,567.5 + 12,000").as_deref(), Ok("1234567.5 + 12000"));
        for text in ["3,5", "f(1, 2)", "1,2345", "1234,567", ",100", "1,23,456"] {
            assert!(without_separators(text).is_err(), "{text}");
        }
    }
}
