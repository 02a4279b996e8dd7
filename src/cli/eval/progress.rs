//! How far an evaluation is, on stderr: questions answered, how many rightly, and the time that is left.

use std::io::IsTerminal;
use std::time::Instant;

use crate::cli::plain::duration;

/// Counts of this run. On a terminal one line is rewritten; elsewhere a line is printed per tenth.
pub struct Progress {
    total: usize,
    /// Rows that were there already; they say nothing about speed.
    known: usize,
    answered: usize,
    right: usize,
    began: Instant,
    terminal: bool,
    tenths: usize,
}

impl Progress {
    pub fn new(total: usize) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        Progress { total, known: 0, answered: 0, right: 0, began: Instant::now(), terminal, tenths: 0 }
    }

    pub fn known(&mut self, right: bool) {
        self.known += 1;
        self.right += usize::from(right);
    }

    pub fn answered(&mut self, right: bool) {
        self.answered += 1;
        self.right += usize::from(right);
        let line = self.line(self.began.elapsed().as_secs_f64());
        let tenths = 10 * (self.known + self.answered) / self.total.max(1);
        if self.terminal {
            eprint!("\r{line:<70}");
        } else if tenths > self.tenths {
            eprintln!("{line}");
        }
        self.tenths = tenths;
    }

    /// Questions this run asked itself.
    pub fn answered_now(&self) -> usize {
        self.answered
    }

    fn line(&self, seconds: f64) -> String {
        let done = self.known + self.answered;
        let each = seconds / self.answered.max(1) as f64;
        let left = (each * self.total.saturating_sub(done) as f64).round() as u64;
        format!(
            "{done} of {} answered, {} right, {:.1} questions/s, {} left",
            self.total,
            self.right,
            if each > 0.0 { 1.0 / each } else { 0.0 },
            duration(left)
        )
    }

    /// Leave the line that was rewritten.
    pub fn end(&mut self) {
        if self.terminal && self.answered > 0 {
            eprintln!();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_what_this_run_answered() {
        let mut progress = Progress { terminal: false, ..Progress::new(100) };
        (0..50).for_each(|i| progress.known(i % 2 == 0));
        (0..10).for_each(|_| progress.answered(true));
        assert_eq!(progress.line(20.0), "60 of 100 answered, 35 right, 0.5 questions/s, 1:20 left");
        assert_eq!(duration(3_725), "1:02:05");
    }
}
