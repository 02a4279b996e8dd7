//! Dates in expressions: `@2024-01-15 + 3 days`, `@2024-03-01 - @2024-01-15 to weeks`.
//!
//! The proleptic Gregorian calendar, no times, no time zones. A month added to the 31st ends on the
//! last day of a shorter month.

use jiff::civil::{Date, Weekday};
use jiff::{Span, Unit};

pub(super) enum Outcome {
    /// The answer itself.
    Text(String),
    /// What is left for the unit calculator: `46 days to weeks`.
    Expression(String),
}

/// None where the expression names no date.
pub(super) fn evaluate(expression: &str) -> Option<Result<Outcome, String>> {
    expression.contains('@').then(|| read(expression))
}

fn read(expression: &str) -> Result<Outcome, String> {
    let text = expression.replace(['(', ')'], " ").replace('+', " + ");
    let (sum, target) = match text.split_once(" to ").or_else(|| text.split_once(" in ")) {
        Some((sum, target)) => (sum, Some(target.trim())),
        None => (text.as_str(), None),
    };
    let tokens = tokens(sum);
    let mut tokens = tokens.iter().map(String::as_str);
    let mut date = date(tokens.next().unwrap_or_default())?;
    let mut days: Option<i64> = None;
    while let Some(operator) = tokens.next() {
        let sign = match operator {
            "+" => 1,
            "-" => -1,
            other => return Err(format!("{other:?} after a date means nothing; {HOW}")),
        };
        let amount =
            tokens.next().ok_or_else(|| format!("something is missing after {operator:?}; {HOW}"))?;
        if days.is_some() {
            return Err(format!("nothing can follow a difference of dates; {HOW}"));
        }
        if amount.starts_with('@') {
            if sign > 0 {
                return Err(format!("two dates cannot be added; {HOW}"));
            }
            days = Some(days_between(self::date(amount)?, date)?);
        } else {
            let unit = tokens.next().ok_or_else(|| format!("{amount} what? {HOW}"))?;
            date = add(date, sign, amount, unit)?;
        }
    }
    match (days, target) {
        (Some(days), None) => {
            let unit = if days.abs() == 1 { "day" } else { "days" };
            Ok(Outcome::Text(format!("{days} {unit}")))
        }
        (Some(days), Some(target)) => Ok(Outcome::Expression(format!("{days} days to {target}"))),
        (None, None) => Ok(Outcome::Text(show(date))),
        (None, Some(target)) => Err(format!("a date cannot be converted to {target:?}; {HOW}")),
    }
}

const HOW: &str = "write @2024-01-15 + 3 days or @2024-03-01 - @2024-01-15";

/// Splits at spaces, and a `-` that is no part of a date from what follows it.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    for word in text.split_whitespace() {
        let mut rest = word;
        if rest.starts_with('@')
            && let Some((at, _)) = rest.match_indices('-').nth(2)
        {
            tokens.push(rest[..at].to_owned());
            rest = &rest[at..];
        }
        if rest.len() > 1 && rest.starts_with('-') {
            tokens.push("-".to_owned());
            rest = &rest[1..];
        }
        // `3days`
        match rest.find(|c: char| c.is_ascii_alphabetic()) {
            Some(at) if at > 0 && rest[..at].bytes().all(|b| b.is_ascii_digit()) => {
                tokens.extend([rest[..at].to_owned(), rest[at..].to_owned()]);
            }
            _ => tokens.push(rest.to_owned()),
        }
    }
    tokens
}

fn date(token: &str) -> Result<Date, String> {
    let digits = token.strip_prefix('@').ok_or_else(|| format!("{token:?} is no date; {HOW}"))?;
    let parts: Vec<&str> = digits.split('-').collect();
    let plain = |part: &&str| (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if parts.len() != 3 || !parts.iter().all(plain) {
        return Err(format!("{token:?} is no date; {HOW}"));
    }
    let [year, month, day] = [parts[0], parts[1], parts[2]].map(|part| part.parse::<i16>().unwrap_or(-1));
    let (Ok(month), Ok(day)) = (i8::try_from(month), i8::try_from(day)) else {
        return Err(format!("{digits} is not in the calendar"));
    };
    Date::new(year, month, day).map_err(|_| format!("{digits} is not in the calendar"))
}

fn add(date: Date, sign: i64, amount: &str, unit: &str) -> Result<Date, String> {
    let amount: i64 = amount.parse().map_err(|_| format!("{amount:?} is no whole number of {unit}"))?;
    let amount = sign * amount.clamp(-10_000_000, 10_000_000);
    let span = match unit {
        "day" | "days" => Span::new().try_days(amount),
        "week" | "weeks" => Span::new().try_weeks(amount),
        "month" | "months" => Span::new().try_months(amount),
        "year" | "years" => Span::new().try_years(amount),
        other => {
            return Err(format!("{other:?} cannot be added to a date; days, weeks, months or years can"));
        }
    };
    span.and_then(|span| date.checked_add(span))
        .map_err(|_| "the date would leave the calendar (years 1 to 9999)".to_owned())
}

fn days_between(from: Date, to: Date) -> Result<i64, String> {
    let span = from.until((Unit::Day, to)).map_err(|error| error.to_string())?;
    Ok(i64::from(span.get_days()))
}

/// `Thursday, 18 January 2024`
fn show(date: Date) -> String {
    let weekday = match date.weekday() {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    };
    format!("{weekday}, {} {} {}", date.day(), date.strftime("%B"), date.year())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, expected: &str) {
        let text = match evaluate(expression).expect("a date") {
            Ok(Outcome::Text(text)) => text,
            Ok(Outcome::Expression(text)) => format!("expression: {text}"),
            Err(reason) => format!("error: {reason}"),
        };
        assert!(text.starts_with(expected), "{expression}: {text}");
    }

    #[test]
    fn dates_move_and_differ() {
        check("@2024-01-15", "Monday, 15 January 2024");
        check("@2024-01-15 + 3 days", "Thursday, 18 January 2024");
        check("@2024-01-15+3days", "Thursday, 18 January 2024");
        check("@2024-03-01 - 1 day", "Thursday, 29 February 2024");
        check("@2024-01-31 + 1 month", "Thursday, 29 February 2024");
        check("@2023-12-25 + 2 weeks - 1 year", "Sunday, 8 January 2023");
        check("@2024-03-01 - @2024-01-15", "46 days");
        check("@2024-01-15-@2024-03-01", "-46 days");
        check("@2024-01-15 - 14 days", "Monday, 1 January 2024");
        check("(@2024-03-01 - @2024-01-15) to weeks", "expression: 46 days to weeks");
        check("@2024-01-02 - @2024-01-01", "1 day");
    }

    #[test]
    fn what_is_no_date_says_so() {
        for (expression, part) in [
            ("@2024-02-30", "error: 2024-02-30 is not in the calendar"),
            ("@today + 1 day", "error: \"@today\" is no date"),
            ("@2024-01-15 * 3", "error: \"*\" after a date"),
            ("@2024-01-15 + @2024-01-15", "error: two dates cannot be added"),
            ("@2024-01-15 + 3", "error: 3 what?"),
            ("@2024-01-15 + 3 hours", "error: \"hours\" cannot be added"),
            ("@9999-12-31 + 1 day", "error: the date would leave"),
            ("@2024-01-15 + 99999999999999999999 days", "error: \"99999999999999999999\""),
            ("@2024-01-15 to hex", "error: a date cannot be converted"),
            ("@-", "error: \"@-\" is no date"),
            ("@", "error: \"@\" is no date"),
        ] {
            check(expression, part);
        }
    }
}
