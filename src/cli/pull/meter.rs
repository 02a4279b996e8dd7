//! The progress of a download: one line that is redrawn on a terminal, a line per tenth elsewhere, or JSON, a line per
//! hundredth.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use serde_json::json;

/// How often the line is redrawn.
const REDRAW: Duration = Duration::from_millis(200);

/// See the file's head.
pub struct Meter {
    json: bool,
    redrawn: bool,
    total: u64,
    /// When the first bytes came, and how many were there before.
    began: Option<(Instant, u64)>,
    drawn: Instant,
    /// Tenths, or hundredths, that were told last.
    told: u64,
}

impl Meter {
    pub fn new(json: bool, total: u64) -> Meter {
        let redrawn = !json && stderr().is_terminal();
        Meter { json, redrawn, total, began: None, drawn: Instant::now(), told: 0 }
    }

    /// `here` of the bytes are on disk.
    pub fn at(&mut self, here: u64) {
        let (began, before) = *self.began.get_or_insert((Instant::now(), here));
        // Programs that show a bar want more than lines for a person.
        let parts = if self.json { 100 } else { 10 };
        let now = (u128::from(here) * parts / u128::from(self.total.max(1))) as u64;
        if self.redrawn {
            if self.drawn.elapsed() >= REDRAW || here == self.total {
                self.drawn = Instant::now();
                let _ = write!(stderr(), "\r\x1b[K{}", self.words(here, here.saturating_sub(before), began));
            }
        } else if now > self.told {
            self.told = now;
            if self.json {
                println!("{}", json!({"kind": "pulling", "here": here, "bytes": self.total}));
            } else {
                eprintln!("{}", self.words(here, here.saturating_sub(before), began));
            }
        }
    }

    fn words(&self, here: u64, came: u64, began: Instant) -> String {
        let percent = u128::from(here) * 100 / u128::from(self.total.max(1));
        let rate = came as f64 / began.elapsed().as_secs_f64().max(1e-3);
        let left = self.total.saturating_sub(here) as f64 / rate.max(1.0);
        let rest =
            if came == 0 || here == self.total { String::new() } else { format!(", {} left", time(left)) };
        format!("{percent:>3}%  {} of {}, {}/s{rest}", size(here), size(self.total), size(rate as u64))
    }

    /// Say why the line stands still.
    pub fn say(&mut self, words: &str) {
        if !self.json {
            let start = if self.redrawn { "\r\x1b[K" } else { "" };
            eprintln!("{start}{}", crate::text::safe(words));
        }
    }

    pub fn end(&mut self) {
        if self.redrawn {
            eprintln!();
        }
    }
}

fn time(seconds: f64) -> String {
    let seconds = seconds.min(1e7) as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// Bytes in words.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
