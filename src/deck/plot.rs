//! Small charts in characters: a curve with its interval, a bar of shares. Any terminal can show them and
//! they mean the same without colour.

use crate::deck::row::Row;
use crate::deck::theme::Ink;

/// A value with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Point {
    pub fn exact(value: f64) -> Point {
        Point { value, low: value, high: value }
    }
}

/// Columns of the scale on the left.
const SCALE: usize = 8;

/// A title and a curve of `height` rows: `o` the value, `|` its interval. The newest points are kept when
/// there are more than columns.
pub fn curve(title: Row, points: &[Point], width: usize, height: usize) -> Vec<Row> {
    let mut rows = vec![title];
    let room = width.saturating_sub(SCALE + 1).max(1);
    // Two columns a point while there is room, so that single steps can be told apart.
    let stride = if points.len() * 2 <= room { 2 } else { 1 };
    let points = &points[points.len().saturating_sub(room / stride)..];
    let known = |value: &f64| value.is_finite();
    let low = points.iter().flat_map(|p| [p.low, p.value]).filter(known).fold(f64::INFINITY, f64::min);
    let high = points.iter().flat_map(|p| [p.high, p.value]).filter(known).fold(f64::NEG_INFINITY, f64::max);
    if points.is_empty() || low > high {
        rows.push(Row::new().say("no step yet", Ink::Dim));
        return rows;
    }
    let span = if high - low > 1e-12 { high - low } else { 1.0 };
    let level = |value: f64| {
        let share = if high - low > 1e-12 { (value - low) / span } else { 0.5 };
        ((share * (height - 1) as f64).round().max(0.0) as usize).min(height - 1)
    };
    for line in (0..height).rev() {
        let flat = high - low <= 1e-12;
        let scale = match line {
            // One value has one place.
            n if flat && n == level(low) => number(low),
            _ if flat => String::new(),
            0 => number(low),
            n if n == height - 1 => number(high),
            _ => String::new(),
        };
        let mut row = Row::new().say(format!("{scale:>SCALE$}"), Ink::Dim).say("|", Ink::Border);
        for point in points {
            let (mark, ink) = if !point.value.is_finite() {
                (" ", Ink::Text)
            } else if level(point.value) == line {
                ("o", Ink::Accent)
            } else if (level(point.low.max(low))..=level(point.high.min(high))).contains(&line) {
                ("|", Ink::Dim)
            } else {
                (" ", Ink::Text)
            };
            row = row.say(mark, ink).say(" ".repeat(stride - 1), Ink::Text);
        }
        rows.push(row);
    }
    rows
}

/// At most seven characters.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0".to_string()
    } else if size < 1e-3 {
        format!("{value:.0e}")
    } else if size < 10.0 {
        format!("{value:.3}")
    } else if size < 1e5 {
        format!("{value:.1}")
    } else {
        format!("{value:.0e}")
    }
}

/// `calculator ####  52 %` a line, the biggest share the longest.
pub fn shares(title: Row, parts: &[(String, f64)], width: usize, height: usize) -> Vec<Row> {
    let mut rows = vec![title];
    let most = parts.iter().map(|(_, share)| *share).fold(0.0, f64::max).max(1e-9);
    let room = width.saturating_sub(24).max(1);
    for (name, share) in parts.iter().take(height) {
        let long = (share / most * room as f64).round() as usize;
        let name: String = name.chars().take(14).collect();
        rows.push(
            Row::new()
                .say(format!("{name:<15}"), Ink::Tool)
                .say("#".repeat(long.min(room)), Ink::Accent)
                .say(format!(" {:.0} %", share * 100.0), Ink::Dim),
        );
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(rows: &[Row]) -> Vec<String> {
        rows.iter().map(|row| row.text().trim_end().to_string()).collect()
    }

    #[test]
    fn the_lowest_stands_at_the_bottom_and_the_newest_at_the_right() {
        let points: Vec<Point> = [0.0, 1.0, 0.5].map(Point::exact).to_vec();
        let rows = text(&curve(Row::new(), &points, 30, 3));
        assert_eq!(rows[1..], ["   1.000|  o", "        |    o", "       0|o"]);
        let many: Vec<Point> = (0..100).map(|n| Point::exact(f64::from(n))).collect();
        let rows = curve(Row::new(), &many, 30, 4);
        assert!(rows.iter().all(|row| row.width() <= 30) && rows[1].text().trim_end().ends_with('o'));
    }

    #[test]
    fn odd_values_are_drawn_without_a_panic() {
        for values in [vec![], vec![f64::NAN], vec![1.0, f64::NAN, f64::INFINITY], vec![2.0, 2.0]] {
            let points: Vec<Point> = values.into_iter().map(Point::exact).collect();
            for width in [0, 3, 9, 10, 80] {
                curve(Row::new(), &points, width, 4);
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        for value in [0.0, 1e-9, 0.5, -3.25, 1234.5, 9e99] {
            assert!(number(value).len() <= 7, "{value}: {}", number(value));
        }
    }
}
