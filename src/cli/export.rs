//! `tillerman export` and `import`: trajectories as JSON lines. The events as `ask --json` gives them come back;
//! the other formats are for other programs.

mod atif;
mod verdicts;

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::config::regular;
use crate::error::Error;
use crate::flow::event::{Body, Event};
use crate::store::{Store, StoreError};

use super::sessions::{open, written};
use super::{Global, plain};

/// Characters an id of a trajectory or a session has at most; ours have 36.
const ID_CHARS: usize = 64;

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
    /// Agent Trajectory Interchange Format 1.4, a trajectory per line, with token ids and log-probabilities
    Atif,
    /// Plans labelled good and bad, a plan per line, as TRL's KTO trainer reads them
    Kto,
    /// Questions whose right answer is known, one per line, in the columns of verl's datasets
    Verl,
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
        let mut out = io::BufWriter::new(io::stdout().lock());
        let wrote = lines(&store, &ids, args.format, &mut |line| writeln!(out, "{}", plain::json(&line)))?;
        if wrote.as_ref().is_ok_and(|count| *count == 0) && !ids.is_empty() {
            return Err(nothing(args.format, ids.len()).into());
        }
        return written(wrote.and_then(|_| out.flush()));
    }
    let count = to_file(&store, &ids, args.format, &args.file)?;
    let what = match args.format {
        Format::Jsonl => "events",
        Format::Atif => "trajectories in ATIF",
        Format::Kto => "plans",
        Format::Verl => "questions",
    };
    eprintln!("{} trajectories, {count} {what} written to {}", ids.len(), args.file.display());
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

/// Every line of the trajectories in this format, in their order, to `keep`; how many there were. The inner error is
/// the writer's, the outer the store's.
fn lines(
    store: &Store,
    ids: &[String],
    format: Format,
    keep: &mut dyn FnMut(&str) -> io::Result<()>,
) -> anyhow::Result<io::Result<usize>> {
    let mut seen = HashSet::new();
    let mut count = 0;
    for id in ids {
        let lines: Vec<String> = match format {
            Format::Jsonl => {
                let events = store.trajectory_events(id)?;
                events.iter().map(serde_json::to_string).collect::<Result<_, _>>()?
            }
            Format::Atif => {
                let group = store.group_of(id)?;
                let whole = atif::trajectory(&store.trajectory(id)?, &store.labels(id)?, group.as_deref());
                vec![whole.to_string()]
            }
            Format::Kto => {
                let rows = verdicts::kto(store, &store.row(id)?, &store.trajectory(id)?)?;
                rows.iter().map(ToString::to_string).collect()
            }
            Format::Verl => {
                let row = verdicts::verl(store, &store.row(id)?, &store.trajectory(id)?, &mut seen)?;
                row.iter().map(ToString::to_string).collect()
            }
        };
        count += lines.len();
        for line in lines {
            if let Err(e) = keep(&line) {
                return Ok(Err(e));
            }
        }
    }
    Ok(Ok(count))
}

/// All of it or nothing: a full disk leaves no half file under the name. Answers the lines written.
fn to_file(store: &Store, ids: &[String], format: Format, path: &Path) -> anyhow::Result<usize> {
    let cannot =
        |e: io::Error| Error::Usage(format!("cannot write {}: {}", path.display(), regular::unwritable(&e)));
    let path = &regular::place(path).map_err(cannot)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(cannot)?;
    let mut out = io::BufWriter::new(file.as_file_mut());
    let count = lines(store, ids, format, &mut |line| writeln!(out, "{line}"))?.map_err(cannot)?;
    if count == 0 && !ids.is_empty() {
        return Err(nothing(format, ids.len()).into());
    }
    out.flush().map_err(cannot)?;
    drop(out);
    file.as_file().sync_all().map_err(cannot)?;
    file.persist(path).map_err(|e| cannot(e.error))?;
    Ok(count)
}

/// Why there is no line to write, and what would make some.
fn nothing(format: Format, trajectories: usize) -> Error {
    let of = format!("of {trajectories} trajectories");
    Error::Usage(match format {
        Format::Kto => format!(
            "{of} none has a plan that was labelled; label answers first: tillerman label ID good|bad"
        ),
        Format::Verl => {
            format!(
                "{of} none has a known right answer; say so first: tillerman label ID good, or bad --correction TEXT"
            )
        }
        _ => format!("{of} nothing is on record"),
    })
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
        if let Some(id) = ids(&event).find(|id| !plain_id(id)) {
            let id = id.chars().take(100).collect::<String>();
            return Err(fault(&format!("{id:?} is no id: letters, digits, - and _, at most {ID_CHARS}")));
        }
        groups.entry(event.trajectory.clone()).or_default().push(event);
    }
    for events in groups.values_mut() {
        events.sort_by_key(|event| event.seq);
    }
    Ok(groups)
}

/// The names it goes by, and those of what it belongs to.
fn ids(event: &Event) -> impl Iterator<Item = &str> {
    let of_start = match &event.body {
        Body::Started { session, parent, .. } => {
            [Some(session.as_str()), parent.as_ref().map(|(id, _)| id.as_str())]
        }
        _ => [None, None],
    };
    std::iter::once(event.trajectory.as_str()).chain(of_start.into_iter().flatten())
}

/// An id is typed, looked for and printed as it stands: one from a file could otherwise hold what turns a terminal.
fn plain_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=ID_CHARS).contains(&id.len()) && id.bytes().all(plain)
}

/// Whether the event is the same once it was written and read: an infinite log-probability would not be, nor an
/// event of a kind we know that could only be read as one we do not.
fn comes_back(event: &Event) -> bool {
    let again = serde_json::to_string(event).ok().and_then(|line| serde_json::from_str::<Event>(&line).ok());
    again.is_some_and(|again| again == *event)
}
