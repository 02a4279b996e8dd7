//! Where a trajectory's seconds went: prefill, decode, tool, wait, per turn, from the recorded timings.
//!
//! The clock of the events says how long a step took in all; the engine's timings say how much of it was
//! prefill and decode. What neither explains (queue, record, grammar, the way between processes) is wait.

use crate::deck::row::{Prose, Row};
use crate::deck::theme::Ink;
use crate::engine::Role;
use crate::flow::event::{Body, Event};

/// Columns from which a model call's tokens stand beside their speed.
const WIDE: usize = 72;

/// Milliseconds by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    pub prefill: f64,
    pub decode: f64,
    pub tool: f64,
    pub wait: f64,
}

impl Spent {
    pub fn total(self) -> f64 {
        self.prefill + self.decode + self.tool + self.wait
    }

    fn add(&mut self, other: Spent) {
        self.prefill += other.prefill;
        self.decode += other.decode;
        self.tool += other.tool;
        self.wait += other.wait;
    }

    fn parts(self) -> [(char, &'static str, Ink, f64); 4] {
        [
            ('=', "prefill", Ink::Dim, self.prefill),
            ('#', "decode", Ink::Accent, self.decode),
            ('%', "tool", Ink::Tool, self.tool),
            ('.', "wait", Ink::Warning, self.wait),
        ]
    }
}

/// One stretch of the pass: before the turns, a turn, after the turns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stretch {
    pub name: String,
    /// Turn number; 0 outside turns.
    pub turn: usize,
    pub spent: Spent,
    /// Who took it: (role or tool, time, sampled tokens).
    pub steps: Vec<(String, Spent, usize)>,
}

/// The pass cut into stretches, in order.
pub fn stretches(events: &[Event]) -> Vec<Stretch> {
    let mut all = vec![Stretch { name: "analysis".to_string(), ..Stretch::default() }];
    let mut before = events.first().map_or(0.0, |event| event.t_ms);
    for event in events {
        let gap = (event.t_ms - before).max(0.0);
        let (who, spent, tokens) = match &event.body {
            // A tool's own calls are recorded when it has returned; their time is the tool's.
            Body::ModelCall(call) if call.role == Role::Base => continue,
            Body::ModelCall(call) => {
                let timings = call.completion.timings;
                let known = timings.prefill_ms + timings.decode_ms;
                let scale = if known > gap && known > 0.0 { gap / known } else { 1.0 };
                let (prefill, decode) = (timings.prefill_ms * scale, timings.decode_ms * scale);
                let wait = (gap - prefill - decode).max(0.0);
                let spent = Spent { prefill, decode, wait, tool: 0.0 };
                (call.role.name().to_string(), spent, call.completion.completion_ids.len())
            }
            Body::ToolResult { .. } => ("tool".to_string(), Spent { tool: gap, ..Spent::default() }, 0),
            _ => (String::new(), Spent { wait: gap, ..Spent::default() }, 0),
        };
        before = event.t_ms;
        if let Body::TurnStarted { turn } = event.body {
            all.push(Stretch { name: format!("turn {turn}"), turn, ..Stretch::default() });
        }
        let Some(last) = all.last_mut() else { continue };
        last.spent.add(spent);
        if !who.is_empty() {
            last.steps.push((who, spent, tokens));
        }
        if matches!(event.body, Body::Memory { .. } | Body::LimitReached { .. }) {
            all.push(Stretch { name: "answer".to_string(), ..Stretch::default() });
        }
    }
    // Between a turn's end and the next turn's begin nothing happens that is worth a line.
    all.retain(|stretch| !stretch.steps.is_empty());
    all
}

/// The timeline: a bar per stretch on one scale, and under it who took how long.
pub fn rows(events: &[Event], selected: Option<usize>, width: usize) -> Vec<Row> {
    let stretches = stretches(events);
    let mut whole = Spent::default();
    stretches.iter().for_each(|stretch| whole.add(stretch.spent));
    if stretches.is_empty() {
        return vec![Row::new().say("nothing has happened yet", Ink::Dim)];
    }
    let most = stretches.iter().map(|stretch| stretch.spent.total()).fold(0.0, f64::max);
    let wide = width >= WIDE;
    let room = width.saturating_sub(if wide { 50 } else { 32 }).clamp(8, 120);
    let legend = legend(whole, wide).wrap(width, &Row::new(), &Row::new());
    // On a narrow screen what was sought comes first, and what explains it last.
    let all = Row::new().say(format!("{} in all", seconds(whole.total()).trim()), Ink::Text);
    let (mut rows, after) = if wide { (legend, Vec::new()) } else { (vec![all], legend) };
    rows.push(Row::new());
    for stretch in &stretches {
        let here = selected == Some(stretch.turn) && stretch.turn > 0;
        let ink = if here { Ink::Selected } else { Ink::Strong };
        let lead = Row::new().say(format!("{:<10}", stretch.name), ink).say(" ", Ink::Text);
        rows.push(bar(lead, stretch.spent, most, room).say(seconds(stretch.spent.total()), Ink::Text));
        for (who, spent, tokens) in &stretch.steps {
            let lead = Row::new().say(format!("  {who:<9}"), Ink::Dim);
            let mut row = bar(lead, *spent, most, room).say(seconds(spent.total()), Ink::Dim);
            if *tokens > 0 {
                let speed = if spent.decode > 0.0 { *tokens as f64 / spent.decode * 1e3 } else { 0.0 };
                let words = if wide {
                    format!("  {tokens} tokens, {speed:.0} tok/s")
                } else {
                    format!(" {speed:.0}/s")
                };
                row = row.say(words, Ink::Dim);
            }
            rows.push(row);
        }
    }
    if !after.is_empty() {
        rows.push(Row::new());
        rows.extend(after);
    }
    rows
}

/// What the marks mean and how much of the whole each is. It breaks between the parts only.
fn legend(whole: Spent, wide: bool) -> Prose {
    let total = whole.total().max(f64::MIN_POSITIVE);
    let together = |words: String| words.replace(' ', "\u{a0}");
    let all = format!("{} in all:", seconds(whole.total()).trim());
    let mut prose = Prose::of(together(all) + " ", Ink::Text);
    for (mark, name, ink, ms) in whole.parts() {
        let words = format!(" {name} {} ({:.0} %)  ", seconds(ms).trim(), ms / total * 100.0);
        prose = prose.say(mark.to_string(), ink).say(together(words) + " ", Ink::Text);
    }
    let speed = if wide { "tok/s" } else { "/s, tokens a second" };
    prose.say(format!("prefill reads the prompt, decode writes, at so many {speed}"), Ink::Dim)
}

/// `|==####%%%.|` to the scale of `most`, then blanks, so that figures line up.
fn bar(lead: Row, spent: Spent, most: f64, room: usize) -> Row {
    let mut row = lead.say("|", Ink::Dim);
    let (mut used, mut shown) = (0.0, 0);
    for (mark, _, ink, ms) in spent.parts() {
        used += ms;
        // Ends are rounded, not lengths, so that the parts add up to the whole.
        let end = if most > 0.0 { (used / most * room as f64).round() as usize } else { 0 }.min(room);
        row = row.say(mark.to_string().repeat(end.saturating_sub(shown)), ink);
        shown = shown.max(end);
    }
    row.say("|", Ink::Dim).say(" ".repeat(room - shown + 1), Ink::Text)
}

fn seconds(ms: f64) -> String {
    if ms >= 9_950.0 {
        format!("{:>6.1} s", ms / 1e3)
    } else if ms >= 99.5 {
        format!("{:>6.2} s", ms / 1e3)
    } else {
        format!("{ms:>5.1} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deck::demo;

    #[test]
    fn parts_add_up_to_the_clock() {
        let events = demo::events("t", "a query");
        let whole: f64 = stretches(&events).iter().map(|stretch| stretch.spent.total()).sum();
        let last_step =
            events.iter().rev().find(|event| matches!(event.body, Body::ModelCall(_))).unwrap().t_ms;
        assert!((whole - (last_step - events[0].t_ms)).abs() < 20.0, "{whole} of {last_step} ms");
        let names: Vec<String> = stretches(&events).into_iter().map(|stretch| stretch.name).collect();
        assert_eq!(names, ["analysis", "turn 1", "turn 2", "turn 3", "answer"]);
    }

    #[test]
    fn timings_longer_than_the_clock_are_scaled_to_it() {
        let mut events = demo::events("t", "a query");
        for event in &mut events {
            if let Body::ModelCall(call) = &mut event.body {
                call.completion.timings.decode_ms = 1e9;
            }
        }
        let whole: f64 = stretches(&events).iter().map(|stretch| stretch.spent.total()).sum();
        assert!(whole < 60_000.0, "{whole}");
    }
}
