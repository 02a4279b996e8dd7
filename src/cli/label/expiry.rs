//! Until when a label holds, as people write it: `12h`, `30d`, `8w`, `1y`, a date, or `never`.

use jiff::civil::Date;
use jiff::tz::TimeZone;

/// What may be written, for whoever asks.
pub const WRITTEN: &str = "12h, 30d, 8w, 1y, a date like 2027-01-31, or never";

const HOUR_MS: i64 = 3_600_000;

/// Unix time in milliseconds from which the answer may have changed; None: never.
///
/// # Errors
/// It is none of these, or lies in the past; in words.
pub fn until(text: &str, now_ms: i64) -> Result<Option<i64>, String> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("never") {
        return Ok(None);
    }
    let at = match text.parse::<Date>() {
        Ok(date) => date.to_zoned(TimeZone::system()).ok().map(|day| day.timestamp().as_millisecond()),
        Err(_) => after(text).and_then(|span| now_ms.checked_add(span)),
    };
    match at {
        Some(at) if at > now_ms => Ok(Some(at)),
        Some(_) => Err(format!("{text} is over; write when the answer may have changed: {WRITTEN}")),
        None => Err(format!("{text:?} is no time; write {WRITTEN}")),
    }
}

fn after(text: &str) -> Option<i64> {
    let unit = text.chars().last()?;
    let hours = match unit {
        'h' => 1,
        'd' => 24,
        'w' => 7 * 24,
        'y' => 365 * 24,
        _ => return None,
    };
    let number: i64 = text[..text.len() - unit.len_utf8()].trim().parse().ok()?;
    // A thousand years are enough, and nothing overflows.
    (1..=9_000_000 / hours).contains(&number).then(|| number * hours * HOUR_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_dates_are_read_and_the_rest_says_what_may_be_written() {
        let now = 1_800_000_000_000;
        let days = |n: i64| Ok(Some(now + n * 24 * HOUR_MS));
        assert_eq!(until("30d", now), days(30));
        assert_eq!(until(" 2 w ", now), days(14));
        assert_eq!(until("12h", now), Ok(Some(now + 12 * HOUR_MS)));
        assert_eq!(until("1y", now), days(365));
        assert_eq!(until("never", now), Ok(None));
        // Midnight somewhere on this earth.
        let date = until("2027-06-01", now).unwrap().unwrap();
        let utc = 1_811_808_000_000_i64;
        assert!((date - utc).abs() <= 14 * HOUR_MS, "{date}");
        for bad in ["", "d", "0d", "-3d", "30", "30x", "soon", "99999999999w", "３d"] {
            let told = until(bad, now).unwrap_err();
            assert!(told.contains("30d"), "{bad}: {told}");
        }
        assert!(until("2001-01-01", now).unwrap_err().contains("is over"));
    }
}
