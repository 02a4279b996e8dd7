//! `tillerman replay`: a recorded trajectory on its own clock, in the deck or as lines of text.
//!
//! The lines are those `ask` printed, from the same events. A trajectory that is not in the store can come
//! from a file as `export` writes it, here or on another machine.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::error::Error;
use crate::flow::event::Event;
use crate::flow::trajectory::Trajectory;
use crate::store::StoreError;
use crate::text::safe;

use super::deck::{self, Start};
use super::library::{self, Library};
use super::sessions::{open, written};
use super::{Global, ask, plain};

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Beginning or end of a trajectory's or an evaluation's id, or a file made by `export`
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
    let file = Path::new(&args.id);
    let mut evaluation = None;
    let recording = if file.is_file() {
        library::from_file(file, None)?
    } else {
        // The store is not needed for the minutes a replay may take.
        let store = Arc::new(open(global)?);
        let id = match store.find(&args.id) {
            Err(unknown @ StoreError::NotFound(_)) => {
                let Ok(run) = store.find_evaluation(&args.id) else { return Err(unknown.into()) };
                let first = store.trajectories(Some(&run), 0)?.pop();
                evaluation = Some(run);
                first.ok_or(unknown)?.id
            }
            found => found?,
        };
        Library::new(store).open(&id)?
    };
    if args.plain || !ask::is_terminal() {
        return written(play(&recording.events, args.speed, &mut io::stdout().lock()));
    }
    // At once means its end; the deck's clock can go back from there.
    let speed = if args.speed == 0.0 { f64::INFINITY } else { args.speed };
    deck::run(global, Start::Replay { recording: Box::new(recording), speed, evaluation })
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
