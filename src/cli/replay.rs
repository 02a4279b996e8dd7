//! `tillerman replay --plain`: a recorded trajectory's progress lines, on its own clock.
//!
//! The same lines `ask` printed, from the same events. Replay in the deck is the deck's.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;

use crate::error::Error;
use crate::flow::event::Event;
use crate::flow::trajectory::Trajectory;
use crate::text::safe;

use super::sessions::{open, written};
use super::{Global, plain};

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Beginning or end of a trajectory's id
    pub id: String,
    /// Lines of text instead of the deck
    #[arg(long)]
    pub plain: bool,
    /// Times as fast as it happened; 0: at once
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub speed: f64,
}

pub fn run(global: &Global, args: &ReplayArgs) -> anyhow::Result<i32> {
    if !args.speed.is_finite() || args.speed < 0.0 {
        return Err(Error::Usage(format!("--speed {} is not 0 or more", args.speed)).into());
    }
    let store = open(global)?;
    let events = store.trajectory_events(&store.find(&args.id)?)?;
    // The store is not needed for the minutes a replay may take.
    drop(store);
    written(play(&events, args.speed, &mut io::stdout().lock()))
}

fn play(events: &[Event], speed: f64, out: &mut impl Write) -> io::Result<()> {
    let mut before = 0.0;
    for event in events {
        if speed > 0.0 {
            let wait_s = (event.t_ms - before).max(0.0) / 1e3 / speed;
            std::thread::sleep(Duration::try_from_secs_f64(wait_s).unwrap_or_default());
            before = event.t_ms;
        }
        if let Some(line) = plain::line(event) {
            writeln!(out, "{line}")?;
            out.flush()?;
        }
    }
    match Trajectory::from_events(events).answer {
        Some(answer) => writeln!(out, "{}", safe(&answer)),
        None => Ok(()),
    }
}
