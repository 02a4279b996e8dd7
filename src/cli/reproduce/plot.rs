//! Two small SVG pictures: training success by step, and held-out shares with their intervals.
//!
//! Text and shapes only, in colours that read on a light and on a dark page.

use std::fmt::Write as _;

/// One run's line: (step, share of right rollouts in 0..=1).
pub struct Curve {
    pub arm: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// One run's share in 0..=1 with its interval.
pub struct Bar {
    pub arm: &'static str,
    pub label: String,
    pub share: f64,
    pub low: f64,
    pub high: f64,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 44.0;

fn colour(arm: &str) -> &'static str {
    match arm {
        "flow" => "#0a7f8c",
        "imitation" => "#b06a00",
        "reference" => "#7a5bb5",
        "shuffled" => "#b5423c",
        _ => "#777777",
    }
}

fn y(share: f64) -> f64 {
    TOP + (1.0 - share) * (HEIGHT - TOP - BOTTOM)
}

fn text(x: f64, y: f64, anchor: &str, fill: &str, words: &str) -> String {
    format!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{fill}">{words}</text>"#)
}

/// `end`: where the lines of the scale end.
fn frame(title: &str, end: f64, body: &str) -> String {
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="monospace" font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="#fbfbfa"/>"##
    );
    svg.push_str(&text(LEFT, 18.0, "start", "#333333", title));
    for tenth in (0..=10).step_by(2) {
        let share = f64::from(tenth) / 10.0;
        let at = y(share);
        let _ = write!(svg, r##"<line x1="{LEFT}" x2="{end}" y1="{at:.1}" y2="{at:.1}" stroke="#dddddd"/>"##);
        svg.push_str(&text(LEFT - 6.0, at + 4.0, "end", "#555555", &format!("{} %", tenth * 10)));
    }
    svg.push_str(body);
    svg.push_str("</svg>\n");
    svg
}

/// One thin line per run; a legend names the arms.
pub fn training(curves: &[Curve]) -> String {
    let most = curves.iter().flat_map(|curve| &curve.points).map(|(step, _)| *step).fold(2.0, f64::max);
    let x = |step: f64| LEFT + (step - 1.0) / (most - 1.0) * (WIDTH - RIGHT - LEFT);
    let mut body = String::new();
    for curve in curves {
        let points: Vec<String> =
            curve.points.iter().map(|(step, share)| format!("{:.1},{:.1}", x(*step), y(*share))).collect();
        let (points, stroke) = (points.join(" "), colour(curve.arm));
        let _ = write!(
            body,
            r#"<polyline points="{points}" fill="none" stroke="{stroke}" stroke-width="1.6" stroke-opacity="0.8"/>"#
        );
    }
    let mut named: Vec<&str> = Vec::new();
    for curve in curves.iter().filter(|curve| !curve.points.is_empty()) {
        if !named.contains(&curve.arm) {
            named.push(curve.arm);
            let at = TOP + 16.0 * named.len() as f64;
            body.push_str(&text(WIDTH - RIGHT + 10.0, at, "start", colour(curve.arm), curve.arm));
        }
    }
    for step in [1.0, (most / 2.0).round().max(1.0), most] {
        body.push_str(&text(x(step), HEIGHT - 22.0, "middle", "#555555", &format!("{step:.0}")));
    }
    body.push_str(&text(LEFT, HEIGHT - 6.0, "start", "#555555", "step; one line per run"));
    frame("share of right rollouts while training", WIDTH - RIGHT, &body)
}

/// One bar per run with its 95 % interval.
pub fn bars(bars: &[Bar]) -> String {
    let room = (WIDTH - LEFT - 10.0) / bars.len().max(1) as f64;
    // The longest name, nine letters of 0.6 each, fits below its bar.
    let size = (room / (9.5 * 0.6)).min(12.0);
    let mut body = String::new();
    for (place, bar) in bars.iter().enumerate() {
        let (left, width) = (LEFT + room * (place as f64 + 0.15), room * 0.7);
        let middle = left + width / 2.0;
        let (top, foot, fill) = (y(bar.share), y(0.0), colour(bar.arm));
        let tall = foot - top;
        let _ = write!(
            body,
            r#"<rect x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{tall:.1}" fill="{fill}" fill-opacity="0.75"/>"#
        );
        let (low, high) = (y(bar.low), y(bar.high));
        let _ = write!(
            body,
            r##"<line x1="{middle:.1}" x2="{middle:.1}" y1="{low:.1}" y2="{high:.1}" stroke="#222222" stroke-width="1.5"/>"##
        );
        body.push_str(&text(middle, high - 5.0, "middle", "#222222", &format!("{:.1}", 100.0 * bar.share)));
        let lines: Vec<&str> = bar.label.split(' ').collect();
        let _ = write!(body, r#"<g font-size="{size:.1}">"#);
        for (row, word) in lines.iter().enumerate() {
            body.push_str(&text(middle, foot + 14.0 + 13.0 * row as f64, "middle", "#333333", word));
        }
        body.push_str("</g>");
    }
    frame("held-out questions right, 95 % intervals", WIDTH - 10.0, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_higher_is_drawn_higher_and_every_run_is_there() {
        let bar =
            |arm, share| Bar { arm, label: format!("{arm} 1"), share, low: share - 0.05, high: share + 0.05 };
        let svg = bars(&[bar("frozen", 0.4), bar("flow", 0.7)]);
        assert!(svg.contains(">40.0<") && svg.contains(">70.0<") && y(0.7) < y(0.4));
        let curve = |arm, points: &[(f64, f64)]| Curve { arm, points: points.to_vec() };
        let svg = training(&[curve("flow", &[(1.0, 0.5), (2.0, 0.75)]), curve("shuffled", &[(1.0, 0.5)])]);
        assert_eq!(svg.matches("<polyline").count(), 2);
        // The first step stands at the left edge, the last at the right one.
        assert!(svg.contains(&format!("{LEFT:.1},{:.1} {:.1},{:.1}", y(0.5), WIDTH - RIGHT, y(0.75))));
    }
}
