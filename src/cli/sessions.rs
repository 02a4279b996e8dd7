//! `tillerman sessions`: what was asked, newest first.

use std::io::{self, Write};

use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use crate::config::Home;
use crate::store::{Evaluation, Row, Store, short};

use super::{Global, plain};

#[derive(Debug, Args)]
pub struct SessionsArgs {
    /// One JSON object per line
    #[arg(long)]
    pub json: bool,
    /// At most this many; 0: all
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// Only this session's queries
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Trajectories drawn in groups and those of evaluations too
    #[arg(long)]
    pub rollouts: bool,
    /// Evaluations instead, one line each
    #[arg(long, conflicts_with_all = ["session", "rollouts"])]
    pub evaluations: bool,
}

pub fn run(global: &Global, args: &SessionsArgs) -> anyhow::Result<i32> {
    let store = open(global)?;
    if args.evaluations {
        let found = store.evaluations()?;
        return written(print_evaluations(&found, args, &mut io::BufWriter::new(io::stdout().lock())));
    }
    let session = args.session.as_deref().map(|piece| store.find_session(piece)).transpose()?;
    // The whole list when a program reads it; a page of it for a person.
    let limit = if args.json && args.limit == 50 { 0 } else { args.limit };
    let rows = match session {
        None if !args.rollouts => store.asked(limit)?,
        session => store.trajectories(session.as_deref(), limit)?,
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    written(if args.json { print_json(&rows, &mut out) } else { print(&rows, &mut out) })
}

/// The store of the data directory that flags and environment name.
///
/// # Errors
/// The data directory or the database cannot be used.
pub fn open(global: &Global) -> anyhow::Result<Store> {
    Ok(Store::open(&Home::open(global.home.as_deref())?)?)
}

/// A reader that went away (`| head`) has what it wanted.
pub fn written(result: io::Result<()>) -> anyhow::Result<i32> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        other => Ok(other.map(|()| 0)?),
    }
}

fn print_json(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    for row in rows {
        let mut object = json!({"kind": "session", "trajectory": row.id, "short": short(&row.id)});
        if let (Some(object), Ok(serde_json::Value::Object(fields))) =
            (object.as_object_mut(), serde_json::to_value(row))
        {
            object.extend(fields.into_iter().filter(|(key, _)| key != "id"));
        }
        writeln!(out, "{}", plain::json(&object))?;
    }
    out.flush()
}

fn print(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    if rows.is_empty() {
        writeln!(out, "nothing asked yet; try: tillerman ask \"What is 37*41+5?\"")?;
        return out.flush();
    }
    writeln!(out, "{:<8}  {:<16}  {:<11}  {:>5}  {:<5}  query", "id", "when", "status", "turns", "label")?;
    for row in rows {
        writeln!(
            out,
            "{:<8}  {:<16}  {:<11}  {:>5}  {:<5}  {}",
            plain::excerpt(short(&row.id), 12),
            when(row.started_ms),
            row.status.name(),
            row.turns,
            row.label.map_or("-", |label| label.name()),
            plain::excerpt(&row.query, 100),
        )?;
    }
    out.flush()
}

fn print_evaluations(found: &[Evaluation], args: &SessionsArgs, out: &mut impl Write) -> io::Result<()> {
    if found.is_empty() && !args.json {
        writeln!(out, "nothing evaluated yet; try: tillerman eval --tasks FILE.jsonl")?;
    } else if !args.json {
        writeln!(out, "{:<8}  {:<16}  {:>7}  {:>9}  evaluation", "id", "when", "queries", "right")?;
    }
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    for one in found.iter().take(limit) {
        let Evaluation { id, title, setting, created_ms, trajectories, checked, right } = one;
        if args.json {
            let line = json!({
                "kind": "evaluation", "session": id, "short": short(id), "title": title, "setting": setting,
                "created_ms": created_ms, "trajectories": trajectories, "checked": checked, "right": right,
            });
            writeln!(out, "{}", plain::json(&line))?;
        } else {
            let (id, when) = (plain::excerpt(short(id), 12), when(*created_ms));
            // Runs of earlier versions kept no word of their checkers.
            let right = if *checked == 0 { "-".to_string() } else { format!("{right}/{checked}") };
            let title = plain::excerpt(title, 100);
            writeln!(out, "{id:<8}  {when:<16}  {trajectories:>7}  {right:>9}  {title}")?;
        }
    }
    out.flush()
}

/// Local date and time, to the minute.
pub fn when(ms: i64) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(instant) => instant.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string(),
        Err(_) => "?".to_string(),
    }
}
