//! `tillerman export` and `import`: trajectories as JSON lines, the events as `ask --json` gives them.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::config::regular;
use crate::error::Error;
use crate::flow::event::{Body, Event};
use crate::store::{Store, StoreError};

use super::Global;
use super::sessions::{open, written};

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Beginnings or ends of trajectory or session ids, separated by commas, or `all`
    #[arg(value_name = "IDS")]
    pub ids: String,
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    pub format: Format,
    /// File to write, `-` for stdout
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Every event, one per line; what `import` reads
    Jsonl,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// JSON lines, `-` for stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

pub fn export(global: &Global, args: &ExportArgs) -> anyhow::Result<i32> {
    let store = open(global)?;
    let ids = trajectories(&store, &args.ids)?;
    if args.file == Path::new("-") {
        return written(write(&store, &ids, &mut io::BufWriter::new(io::stdout().lock()))?);
    }
    let events = to_file(&store, &ids, &args.file)?;
    eprintln!("{} trajectories, {events} events written to {}", ids.len(), args.file.display());
    Ok(0)
}

/// The ids meant, oldest first, each once.
fn trajectories(store: &Store, pieces: &str) -> Result<Vec<String>, Error> {
    let mut ids = Vec::new();
    for piece in pieces.split(',') {
        if piece == "all" {
            ids.extend(store.trajectories(None, 0)?.into_iter().map(|row| row.id));
            continue;
        }
        match store.find(piece) {
            Ok(id) => ids.push(id),
            Err(StoreError::NotFound(_)) => {
                let session = store.find_session(piece)?;
                ids.extend(store.trajectories(Some(&session), 0)?.into_iter().map(|row| row.id));
            }
            Err(e) => return Err(e.into()),
        }
    }
    ids.sort();
    ids.dedup();
    Ok(ids)
}

/// The inner error is the writer's, the outer the store's.
fn write(store: &Store, ids: &[String], out: &mut impl Write) -> anyhow::Result<io::Result<()>> {
    for id in ids {
        for event in store.trajectory_events(id)? {
            let line = serde_json::to_string(&event)?;
            if let Err(e) = writeln!(out, "{line}") {
                return Ok(Err(e));
            }
        }
    }
    Ok(out.flush())
}

/// All of it or nothing: a full disk leaves no half file under the name. Answers the events written.
fn to_file(store: &Store, ids: &[String], path: &Path) -> anyhow::Result<usize> {
    let cannot =
        |e: io::Error| Error::Usage(format!("cannot write {}: {}", path.display(), regular::unwritable(&e)));
    let path = &regular::place(path).map_err(cannot)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(cannot)?;
    let mut out = io::BufWriter::new(file.as_file_mut());
    let mut events = 0;
    for id in ids {
        for event in store.trajectory_events(id)? {
            let line = serde_json::to_string(&event)?;
            writeln!(out, "{line}").map_err(cannot)?;
            events += 1;
        }
    }
    out.flush().map_err(cannot)?;
    drop(out);
    file.as_file().sync_all().map_err(cannot)?;
    file.persist(path).map_err(|e| cannot(e.error))?;
    Ok(events)
}

pub fn import(global: &Global, args: &ImportArgs) -> anyhow::Result<i32> {
    let store = open(global)?;
    let mut groups = if args.file == Path::new("-") {
        read(&mut io::stdin().lock(), &args.file)?
    } else {
        read_file(&args.file)?
    };
    let (mut new, mut known) = (0, 0);
    for events in groups.values_mut() {
        from_elsewhere(events);
        if store.import(events)? { new += 1 } else { known += 1 }
    }
    println!("{new} trajectories imported, {known} were here already");
    Ok(0)
}

/// Whoever wrote the file could have written anything into it, also that nothing from outside was met: what goes on
/// from such a trajectory, or learns from it, knows that it is other people's text.
fn from_elsewhere(events: &mut [Event]) {
    for event in events {
        if let Body::Started { taint, .. } = &mut event.body {
            taint.outside = true;
        }
    }
}

/// Events of a file by trajectory.
///
/// # Errors
/// The file cannot be read or a line of it is no event; says which.
pub fn read_file(path: &Path) -> Result<BTreeMap<String, Vec<Event>>, Error> {
    let file =
        regular::open(path).map_err(|e| Error::Usage(format!("cannot read {}: {e}", path.display())))?;
    read(&mut BufReader::new(file), path)
}

/// Events by trajectory, in the order of their numbers.
///
/// # Errors
/// A line is no event; says which.
pub fn read(input: &mut impl BufRead, path: &Path) -> Result<BTreeMap<String, Vec<Event>>, Error> {
    let mut groups: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    for (index, line) in input.lines().enumerate() {
        let fault = |e: &dyn std::fmt::Display| {
            Error::Usage(format!(
                "{}, line {}: no event as export writes them: {e}",
                path.display(),
                index + 1
            ))
        };
        let line = line.map_err(|e| fault(&e))?;
        if line.trim().is_empty() {
            continue;
        }
        let event: Event = serde_json::from_str(&line).map_err(|e| fault(&e))?;
        if !comes_back(&event) {
            return Err(fault(&"a number in it is out of range, or a key stands twice"));
        }
        groups.entry(event.trajectory.clone()).or_default().push(event);
    }
    for events in groups.values_mut() {
        events.sort_by_key(|event| event.seq);
    }
    Ok(groups)
}

/// Whether the event is the same once it was written and read: an infinite log-probability would not be, nor an
/// event of a kind we know that could only be read as one we do not.
fn comes_back(event: &Event) -> bool {
    let again = serde_json::to_string(event).ok().and_then(|line| serde_json::from_str::<Event>(&line).ok());
    again.is_some_and(|again| again == *event)
}
