//! The rows of an evaluation and the file they are kept in, so that a killed run continues where it stopped.
//!
//! First line: what was asked of whom. Then one line per answered question, written when it is answered.
//! A half-written last line (killed meanwhile) is cut off; any other fault is an error naming the line.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::regular;
use crate::error::Error;
use crate::flow::trajectory::Limits;
use crate::tasks::eval::{Asked, Scored};
use crate::tasks::judge::Identity;

/// Which of the two adapters answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// `--adapter`
    Adapter,
    /// `--compare`
    Compare,
}

/// Everything that decides what a row says; a file is continued only with the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// blake3 of the questions asked.
    pub questions: String,
    pub model: String,
    pub adapter: Option<String>,
    pub compare: Option<String>,
    pub pack: String,
    pub temperature: Option<f32>,
    pub tools: Vec<String>,
    pub limits: Limits,
    pub seed: u64,
    /// blake3 of the files attached to the questions, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachments: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // One setting a file, read and written once.
enum Line {
    EvalRun(Setting),
    Question(Box<Row>),
    Judged(Box<Opinion>),
}

/// One answered question of one side under one turn limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub side: Side,
    /// Turns the pass might take; 0: no limit.
    pub turn_limit: usize,
    #[serde(flatten)]
    pub scored: Scored,
}

impl Row {
    /// As it is printed and kept.
    pub fn json(&self) -> Value {
        let line = serde_json::to_value(Line::Question(Box::new(self.clone())));
        line.unwrap_or_else(|error| Value::String(error.to_string()))
    }
}

/// What one judge said of one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opinion {
    pub side: Side,
    pub turn_limit: usize,
    pub id: String,
    pub seed: u64,
    pub judge: Identity,
    /// None: no opinion, for the reason given.
    pub equivalent: Option<bool>,
    pub reason: String,
}

impl Opinion {
    /// As it is printed and kept.
    pub fn json(&self) -> Value {
        let line = serde_json::to_value(Line::Judged(Box::new(self.clone())));
        line.unwrap_or_else(|error| Value::String(error.to_string()))
    }
}

/// Which answer: side, turn limit, the question's id, its seed.
type Key = (Side, usize, String, u64);

/// All rows so far.
pub struct Rows {
    rows: Vec<Row>,
    at: HashMap<Key, usize>,
    opinions: HashMap<(Key, Identity), Opinion>,
    file: Option<(PathBuf, File)>,
}

impl Rows {
    /// Trajectories of what was answered before, in the order written.
    pub fn trajectories(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.rows.iter().map(|row| row.scored.trajectory.as_str())
    }

    /// Rows that are kept nowhere.
    pub fn unkept() -> Rows {
        Rows { rows: Vec::new(), at: HashMap::new(), opinions: HashMap::new(), file: None }
    }

    /// Keep rows in `path`: a new file, or with `resume` one that a run with the same setting began.
    ///
    /// # Errors
    /// The file exists without `resume`, was made with another setting, is damaged or cannot be written.
    pub fn open(path: &Path, resume: bool, setting: &Setting) -> Result<Rows, Error> {
        let usage = |text: String| Error::Usage(format!("{}: {text}", path.display()));
        let text = match regular::read(path, regular::TEXT_MOST) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| usage("is no text file".into()))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(usage(format!("cannot be read: {e}"))),
        };
        if !text.is_empty() && !resume {
            return Err(usage("is there already; continue it with --resume, or name another file".into()));
        }
        // What follows the last line end was being written when the run was killed.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let (begun, mut rows) = read(&text[..whole]).map_err(&usage)?;
        if let Some(begun) = begun {
            same(&begun, setting).map_err(&usage)?;
        }
        let written = |e: std::io::Error| {
            Error::Store(format!("cannot write {}: {}", path.display(), regular::unwritable(&e)))
        };
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(written)?;
        file.set_len(whole as u64).map_err(written)?;
        rows.file = Some((path.to_path_buf(), file));
        if whole == 0 {
            rows.write(&Line::EvalRun(setting.clone()))?;
        }
        Ok(rows)
    }

    /// Rows of another run, to be compared with and written nowhere.
    pub fn lend(&mut self, rows: impl Iterator<Item = Row>) {
        rows.for_each(|row| self.insert(row));
    }

    fn insert(&mut self, row: Row) {
        let key = (row.side, row.turn_limit, row.scored.id.clone(), row.scored.seed);
        if let std::collections::hash_map::Entry::Vacant(place) = self.at.entry(key) {
            place.insert(self.rows.len());
            self.rows.push(row);
        }
    }

    /// Keep one more row.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&mut self, row: Row) -> Result<(), Error> {
        self.write(&Line::Question(Box::new(row.clone())))?;
        self.insert(row);
        Ok(())
    }

    /// Keep what a judge said.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add_opinion(&mut self, opinion: Opinion) -> Result<(), Error> {
        self.write(&Line::Judged(Box::new(opinion.clone())))?;
        self.keep_opinion(opinion);
        Ok(())
    }

    /// The first opinion stands; where there was none yet (the judge failed), a later one does.
    fn keep_opinion(&mut self, opinion: Opinion) {
        let answer = (opinion.side, opinion.turn_limit, opinion.id.clone(), opinion.seed);
        let key = (answer, opinion.judge.clone());
        if self.opinions.get(&key).is_none_or(|kept| kept.equivalent.is_none()) {
            self.opinions.insert(key, opinion);
        }
    }

    pub fn opinion(
        &self,
        side: Side,
        turn_limit: usize,
        asked: &Asked,
        judge: &Identity,
    ) -> Option<&Opinion> {
        let answer = (side, turn_limit, asked.question.id.clone(), asked.seed);
        self.opinions.get(&(answer, judge.clone()))
    }

    fn write(&mut self, line: &Line) -> Result<(), Error> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        let text = serde_json::to_string(line).map_err(|e| Error::Store(e.to_string()))?;
        // One write per line, so that a kill leaves whole lines and at most one half.
        file.write_all(format!("{text}\n").as_bytes()).map_err(|e| {
            Error::Store(format!(
                "cannot write {}: {e}; free some space and continue with --resume",
                path.display()
            ))
        })
    }

    pub fn get(&self, side: Side, turn_limit: usize, asked: &Asked) -> Option<&Scored> {
        let key = (side, turn_limit, asked.question.id.clone(), asked.seed);
        self.at.get(&key).map(|index| &self.rows[*index].scored)
    }

    /// Rows of one side and limit, in the order of the questions.
    pub fn of(&self, side: Side, turn_limit: usize, asked: &[Asked]) -> Vec<&Scored> {
        asked.iter().filter_map(|asked| self.get(side, turn_limit, asked)).collect()
    }
}

/// The setting a run began with and its rows; of nothing, nothing. The error says which line is wrong.
fn read(text: &str) -> Result<(Option<Setting>, Rows), String> {
    let (mut begun, mut rows) = (None, Rows::unkept());
    for (number, line) in text.lines().enumerate() {
        let read = serde_json::from_str(line)
            .map_err(|e| format!("line {} is no row of an evaluation: {e}", number + 1))?;
        match (number, read) {
            (0, Line::EvalRun(setting)) => begun = Some(setting),
            (0, _) => return Err("does not begin with a run's setting; name another file".into()),
            (_, Line::Question(row)) => rows.insert(*row),
            (_, Line::Judged(opinion)) => rows.keep_opinion(*opinion),
            (_, Line::EvalRun(_)) => return Err(format!("line {} begins another run", number + 1)),
        }
    }
    Ok((begun, rows))
}

/// What an earlier run kept of the same questions and seeds under turn limit `own`, as the side that is compared with;
/// before it, in words, what else differs between the runs.
///
/// # Errors
/// The file cannot be read, was asked something else, or does not hold all of the answers.
pub fn kept(path: &Path, now: &Setting, own: usize, asked: &[Asked]) -> Result<(String, Vec<Row>), Error> {
    let usage = |text: String| Error::Usage(format!("{}: {text}", path.display()));
    let bytes = regular::read(path, regular::TEXT_MOST).map_err(|e| usage(format!("cannot be read: {e}")))?;
    let text = String::from_utf8(bytes).map_err(|_| usage("is no text file".into()))?;
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let (begun, rows) = read(&text[..whole]).map_err(&usage)?;
    let begun = begun.ok_or_else(|| usage("holds no run".into()))?;
    for (what, then, today) in [
        ("questions", begun.questions.clone(), now.questions.clone()),
        ("seed", begun.seed.to_string(), now.seed.to_string()),
    ] {
        if then != today {
            return Err(usage(format!(
                "was asked with other {what} ({then}, now {today}): only the same questions with the same seeds are \
                 compared; run it again with the same --tasks, --family, --limit and --seed"
            )));
        }
    }
    let found = rows.of(Side::Adapter, own, asked);
    if found.len() < asked.len() {
        let count = found.len();
        return Err(usage(format!(
            "holds {count} of {} answers under the turn limit of {own}; finish it first, with --resume",
            asked.len()
        )));
    }
    let rows: Vec<Row> = found
        .into_iter()
        .map(|scored| Row { side: Side::Compare, turn_limit: own, scored: scored.clone() })
        .collect();
    let differing = differing(&Setting { compare: None, ..begun }, &Setting { compare: None, ..now.clone() });
    let differing = if differing.is_empty() { "nothing".to_string() } else { differing.join("; ") };
    Ok((differing, rows))
}

/// What differs between the setting a file was begun with and today's, field by field.
fn differing(kept: &Setting, now: &Setting) -> Vec<String> {
    let value = |setting: &Setting| serde_json::to_value(setting).unwrap_or_default();
    let (kept, now) = (value(kept), value(now));
    let keys = now.as_object().into_iter().flat_map(|object| object.keys());
    keys.filter(|key| kept[key.as_str()] != now[key.as_str()])
        .map(|key| format!("{key} was {}, is {}", kept[key.as_str()], now[key.as_str()]))
        .collect()
}

/// Name what differs between the setting a file was begun with and today's.
fn same(kept: &Setting, now: &Setting) -> Result<(), String> {
    let differing = differing(kept, now);
    if differing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "was begun with another setting ({}); use the same or name another file",
        differing.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::eval::seeded;
    use crate::tasks::{Split, files};

    fn setting() -> Setting {
        Setting {
            questions: "q".into(),
            model: "m".into(),
            adapter: None,
            compare: Some("c".into()),
            pack: "compact".into(),
            temperature: Some(0.7),
            tools: vec!["search".into()],
            limits: Limits::default(),
            seed: 3,
            attachments: None,
        }
    }

    fn asked() -> Vec<Asked> {
        seeded(files::bundled(Split::Gate).into_iter().take(3), 3)
    }

    fn row(asked: &Asked, right: bool) -> Row {
        let mut scored = Scored::of(asked, &Default::default());
        scored.right = right;
        Row { side: Side::Adapter, turn_limit: 10, scored }
    }

    #[test]
    fn a_killed_run_continues_after_its_last_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let asked = asked();
        let mut rows = Rows::open(&path, false, &setting()).unwrap();
        rows.add(row(&asked[0], true)).unwrap();
        rows.add(row(&asked[1], false)).unwrap();
        drop(rows);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}{{\"kind\":\"question\",\"si")).unwrap();
        let mut rows = Rows::open(&path, true, &setting()).unwrap();
        assert_eq!(rows.rows.len(), 2);
        assert!(rows.get(Side::Adapter, 10, &asked[0]).unwrap().right);
        assert!(rows.get(Side::Adapter, 10, &asked[2]).is_none());
        assert!(rows.get(Side::Compare, 10, &asked[0]).is_none());
        assert!(rows.get(Side::Adapter, 3, &asked[0]).is_none());
        rows.add(row(&asked[2], true)).unwrap();
        drop(rows);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&whole) && text.lines().count() == 4, "{text}");
    }

    #[test]
    fn an_opinion_survives_a_kill_and_a_failed_judgement_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let asked = asked();
        let judge = Identity { engine: "box".into(), model: "m".into(), ..Identity::default() };
        let opinion = |at: usize, equivalent| Opinion {
            side: Side::Adapter,
            turn_limit: 10,
            id: asked[at].question.id.clone(),
            seed: asked[at].seed,
            judge: judge.clone(),
            equivalent,
            reason: "r".into(),
        };
        let mut rows = Rows::open(&path, false, &setting()).unwrap();
        rows.add(row(&asked[0], false)).unwrap();
        rows.add_opinion(opinion(0, Some(true))).unwrap();
        rows.add_opinion(opinion(1, None)).unwrap();
        drop(rows);
        let said = |rows: &Rows, at: usize, judge: &Identity| {
            rows.opinion(Side::Adapter, 10, &asked[at], judge).map(|said| said.equivalent)
        };
        let mut rows = Rows::open(&path, true, &setting()).unwrap();
        assert!(!rows.get(Side::Adapter, 10, &asked[0]).unwrap().right, "the checker's word stays");
        assert_eq!((said(&rows, 0, &judge), said(&rows, 1, &judge)), (Some(Some(true)), Some(None)));
        assert_eq!(said(&rows, 0, &Identity { prompt: "other".into(), ..judge.clone() }), None);
        rows.add_opinion(opinion(1, Some(false))).unwrap();
        drop(rows);
        let rows = Rows::open(&path, true, &setting()).unwrap();
        assert_eq!(said(&rows, 1, &judge), Some(Some(false)));
    }

    #[test]
    fn other_settings_and_damaged_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        drop(Rows::open(&path, false, &setting()).unwrap());
        let refused = |resume, setting: &Setting| {
            Rows::open(&path, resume, setting).err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert!(refused(false, &setting()).contains("--resume"));
        let other = refused(true, &Setting { seed: 4, ..setting() });
        assert!(other.contains("seed was 3, is 4"), "{other}");
        let good = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{good}nonsense\n{good}")).unwrap();
        assert!(refused(true, &setting()).contains("line 2"));
        std::fs::write(&path, "some notes\nof mine\n").unwrap();
        assert!(refused(true, &setting()).contains("line 1"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "some notes\nof mine\n", "left as it was");
    }
}
