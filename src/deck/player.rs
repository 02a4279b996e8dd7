//! A recorded trajectory on a clock: the same events in the same order, each when its time has come.
//!
//! Replay is the fold of the record, so its end is what was seen live. Streaming text is not on record;
//! it is made again from each model call's tokens, spread over the time that decoding took, and is gone
//! when the call itself arrives, as it was live. It keeps no clock of its own: the caller says the time.

use crate::flow::event::{Body, Event, Progress, ProgressSource};

/// Times as fast as it happened, in the order the speed keys walk them.
pub const SPEEDS: [f64; 7] = [0.25, 0.5, 1.0, 2.0, 4.0, 16.0, 64.0];

/// A pause longer than this is shortened to it: a person who thinks is not part of the show.
const LONGEST_GAP_MS: f64 = 30_000.0;

/// What comes next.
#[expect(clippy::large_enum_variant, reason = "steps are moved once, from the record to the screen")]
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Event(Event),
    Progress(Progress),
}

/// Steps with the time each is due at, in milliseconds from the beginning.
#[derive(Clone, Debug, Default)]
pub struct Player {
    steps: Vec<(f64, Step)>,
    /// Steps already handed out.
    next: usize,
    /// Where the clock stands.
    pub at_ms: f64,
    pub paused: bool,
    /// Place in `SPEEDS`.
    pub speed: usize,
    /// The caller's time when the clock was last moved.
    seen_ms: Option<u64>,
}

impl Player {
    /// `texts` answers the texts of the sampled tokens of the n-th model call.
    pub fn new(events: &[Event], texts: impl Fn(usize) -> Vec<String>) -> Player {
        let mut steps = Vec::new();
        let (mut at, mut before, mut calls) = (0.0, events.first().map_or(0.0, |event| event.t_ms), 0);
        for event in events {
            let gap = (event.t_ms - before).clamp(0.0, LONGEST_GAP_MS);
            before = event.t_ms;
            if let Body::ModelCall(call) = &event.body {
                let texts = texts(calls);
                calls += 1;
                let decode = call.completion.timings.decode_ms.clamp(0.0, gap);
                let count = texts.len().max(1) as f64;
                for (n, text) in texts.into_iter().enumerate() {
                    let due = at + gap - decode + decode * n as f64 / count;
                    let progress = Progress {
                        trajectory: event.trajectory.clone(),
                        turn: call.turn,
                        source: ProgressSource::Role(call.role),
                        text,
                    };
                    steps.push((due, Step::Progress(progress)));
                }
            }
            at += gap;
            steps.push((at, Step::Event(event.clone())));
        }
        Player { steps, speed: 2, ..Player::default() }
    }

    pub fn end_ms(&self) -> f64 {
        self.steps.last().map_or(0.0, |(due, _)| *due)
    }

    pub fn is_over(&self) -> bool {
        self.next >= self.steps.len()
    }

    /// The clock moves: it needs a tick to be seen.
    pub fn is_running(&self) -> bool {
        !self.paused && !self.is_over()
    }

    /// Steps that became due since the last call.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Step> {
        let passed = self.seen_ms.map_or(0, |seen| now_ms.saturating_sub(seen));
        self.seen_ms = Some(now_ms);
        if !self.is_running() {
            return Vec::new();
        }
        self.at_ms = (self.at_ms + passed as f64 * SPEEDS[self.speed]).min(self.end_ms());
        self.due()
    }

    fn due(&mut self) -> Vec<Step> {
        let from = self.next;
        while self.steps.get(self.next).is_some_and(|(due, _)| *due <= self.at_ms) {
            self.next += 1;
        }
        self.steps[from..self.next].iter().map(|(_, step)| step.clone()).collect()
    }

    /// Go to a time. Forward answers the steps between; backward answers None, and the caller begins anew
    /// with what `rewound` gives.
    pub fn seek(&mut self, to_ms: f64) -> Option<Vec<Step>> {
        let to_ms = to_ms.clamp(0.0, self.end_ms());
        if to_ms < self.at_ms {
            (self.next, self.at_ms) = (0, to_ms);
            return None;
        }
        self.at_ms = to_ms;
        Some(self.due())
    }

    /// After `seek` answered None: everything up to the clock.
    pub fn rewound(&mut self) -> Vec<Step> {
        self.due()
    }

    /// The time of the next (or, backward, the last but one) event that `which` holds for.
    pub fn find(&self, forward: bool, which: impl Fn(&Body) -> bool) -> Option<f64> {
        let fits = |step: &Step| matches!(step, Step::Event(event) if which(&event.body));
        if forward {
            self.steps[self.next..].iter().find(|(_, step)| fits(step)).map(|(due, _)| *due)
        } else {
            let earlier = self.steps[..self.next].iter().rev();
            earlier.filter(|(due, _)| *due < self.at_ms).find(|(_, step)| fits(step)).map(|(due, _)| *due)
        }
    }

    /// Where on the bar (0 to 1) the turns begin.
    pub fn turns(&self) -> Vec<f64> {
        let end = self.end_ms().max(1.0);
        let begins = |step: &Step| matches!(step, Step::Event(Event { body: Body::TurnStarted { .. }, .. }));
        self.steps.iter().filter(|(_, step)| begins(step)).map(|(due, _)| due / end).collect()
    }

    pub fn faster(&mut self, up: bool) {
        self.speed = if up { (self.speed + 1).min(SPEEDS.len() - 1) } else { self.speed.saturating_sub(1) };
    }

    /// The nearest speed there is.
    pub fn set_speed(&mut self, times: f64) {
        let distance = |speed: &f64| (speed / times.max(1e-3)).ln().abs();
        let nearest =
            (0..SPEEDS.len()).min_by(|a, b| distance(&SPEEDS[*a]).total_cmp(&distance(&SPEEDS[*b])));
        self.speed = nearest.unwrap_or(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deck::demo;

    fn player() -> (Player, Vec<Event>) {
        let events = demo::events("t", "a query");
        (Player::new(&events, |_| vec!["a ".to_string(), "b".to_string()]), events)
    }

    fn events(steps: &[Step]) -> Vec<Event> {
        let event = |step: &Step| if let Step::Event(event) = step { Some(event.clone()) } else { None };
        steps.iter().filter_map(event).collect()
    }

    #[test]
    fn everything_comes_once_and_in_order_whatever_the_steps() {
        let (mut player, all) = player();
        player.set_speed(16.0);
        let (mut seen, mut now) = (Vec::new(), 0);
        while !player.is_over() {
            seen.extend(player.tick(now));
            now += 7;
        }
        assert_eq!(events(&seen), all);
        assert!(seen.len() > all.len(), "streaming text is made again");
    }

    #[test]
    fn a_paused_clock_stands_and_a_seek_goes_both_ways() {
        let (mut player, all) = player();
        player.paused = true;
        player.tick(0);
        assert!(player.tick(10_000).is_empty());
        let half = player.end_ms() / 2.0;
        let first = player.seek(half).unwrap();
        assert!(player.seek(half / 2.0).is_none());
        let again = player.rewound();
        assert!(again.len() < first.len() && first.starts_with(&again));
        let rest = player.seek(f64::MAX).unwrap();
        assert_eq!(events(&[again, rest].concat()), all);
    }

    #[test]
    fn speeds_are_the_nearest_there_is() {
        let (mut player, _) = player();
        for (wanted, found) in [(3.0, 4.0), (0.0, 0.25), (1e9, 64.0), (1.0, 1.0)] {
            player.set_speed(wanted);
            assert!((SPEEDS[player.speed] - found).abs() < 1e-9, "{wanted}");
        }
    }
}
