//! How far a run is, on stderr: on a terminal one line that is rewritten, with a bar and the time that is left;
//! elsewhere nothing beside the lines that stay.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::Instant;

use crate::cli::plain::duration;

const WIDTH: usize = 20;

/// Steps of this run, and what goes on.
pub struct Bar {
    terminal: bool,
    state: Mutex<State>,
}

struct State {
    began: Instant,
    /// 0: not known (a single step).
    steps: usize,
    /// Steps that were on record before, and those since.
    before: usize,
    done: usize,
    phase: String,
}

impl Bar {
    pub fn new(as_json: bool) -> Bar {
        let terminal = !as_json && std::io::stderr().is_terminal();
        let state = State { began: Instant::now(), steps: 0, before: 0, done: 0, phase: String::new() };
        Bar { terminal, state: Mutex::new(state) }
    }

    /// A run of so many steps, `before` of which are on record already.
    pub fn begin(&self, steps: usize, before: usize) {
        if let Ok(mut state) = self.state.lock() {
            (state.began, state.steps, state.before) = (Instant::now(), steps, before);
        }
    }

    /// This goes on now.
    pub fn phase(&self, phase: &str) {
        let Ok(mut state) = self.state.lock() else { return };
        state.phase = phase.to_string();
        self.show(&state);
    }

    /// A line that stays; `ended`: with it a step is over.
    pub fn line(&self, text: &str, ended: bool) {
        let Ok(mut state) = self.state.lock() else { return };
        state.done += usize::from(ended);
        self.wipe();
        eprintln!("{text}");
        self.show(&state);
    }

    /// Leave no half line behind.
    pub fn end(&self) {
        if let Ok(mut state) = self.state.lock() {
            state.phase.clear();
            self.wipe();
        }
    }

    fn wipe(&self) {
        if self.terminal {
            eprint!("\r{:width$}\r", "", width = 78);
        }
    }

    fn show(&self, state: &State) {
        if self.terminal && !state.phase.is_empty() {
            let line = state.line(state.began.elapsed().as_secs_f64());
            eprint!("\r{line:<78.78}");
            let _ = std::io::stderr().flush();
        }
    }
}

impl State {
    /// `step 4 of 20 [###.................] rolling out · 1:10, about 6:12 left`
    fn line(&self, seconds: f64) -> String {
        let clock = duration(seconds as u64);
        if self.steps == 0 {
            return format!("{} · {clock}", self.phase);
        }
        let over = (self.before + self.done).min(self.steps);
        let full = WIDTH * over / self.steps;
        let left = match self.done {
            0 => String::new(),
            done => {
                let each = seconds / done as f64;
                format!(", about {} left", duration((each * (self.steps - over) as f64).round() as u64))
            }
        };
        let bar = format!("{}{}", "#".repeat(full), ".".repeat(WIDTH - full));
        let step = (over + 1).min(self.steps);
        format!("step {step} of {} [{bar}] {} · {clock}{left}", self.steps, self.phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_the_steps_of_this_run() {
        let state = |before, done| State {
            began: Instant::now(),
            steps: 20,
            before,
            done,
            phase: "rolling out".to_string(),
        };
        assert_eq!(state(0, 0).line(5.0), format!("step 1 of 20 [{}] rolling out · 0:05", ".".repeat(20)));
        let gone_on = state(10, 2).line(60.0);
        assert_eq!(
            gone_on,
            format!(
                "step 13 of 20 [{}{}] rolling out · 1:00, about 4:00 left",
                "#".repeat(12),
                ".".repeat(8)
            )
        );
        assert!(state(0, 20).line(3_600.0).contains("step 20 of 20 [####################]"));
        let single = State { steps: 0, ..state(0, 0) };
        assert_eq!(single.line(3.0), "rolling out · 0:03");
    }
}
