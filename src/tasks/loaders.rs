//! Question files: this program's JSON lines, the user's own, and the ten benchmarks of the paper.
//!
//! The whole file is read and checked before anything is asked. Files are the user's; none is shipped.

pub mod benchmark;
mod lines;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;

pub use benchmark::Benchmark;

use crate::config::regular;
use crate::tasks::question::Question;

/// Largest file read; the largest of the benchmarks has under 1 MiB.
const BYTES_MOST: u64 = 256 << 20;

/// A file that cannot be asked, with the row at fault where there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task file {file}{}: {what}", row.map_or(String::new(), |row| format!(", row {row}")))]
pub struct LoadError {
    pub file: String,
    /// From 1: the line of JSON lines, the element of a JSON list.
    pub row: Option<usize>,
    pub what: String,
}

/// What is wrong, and with which row.
type Fault = (Option<usize>, String);

/// Read a question file. A JSON list is a benchmark's: `benchmark`, else the one the path names. Anything
/// else is JSON lines of {id, query, answer, checker}.
///
/// # Errors
/// The file cannot be read, is empty, too large or not UTF-8, or a row is no question or repeats an id.
pub fn load(path: &Path, benchmark: Option<Benchmark>) -> Result<Vec<Question>, LoadError> {
    let benchmark = benchmark.or_else(|| Benchmark::of_path(path));
    let questions = bytes_of(path).and_then(|bytes| questions(bytes, benchmark));
    questions.map_err(|(row, what)| LoadError { file: path.display().to_string(), row, what })
}

/// The questions of a file's content.
///
/// # Errors
/// What is wrong, and with which row.
pub fn questions(bytes: Vec<u8>, benchmark: Option<Benchmark>) -> Result<Vec<Question>, Fault> {
    let text = text(bytes)?;
    let questions = parse(&text, benchmark)?;
    unique(&questions, &rows(&text)).map(|()| questions)
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, Fault> {
    let whole = |what: String| (None, what);
    regular::read(path, BYTES_MOST).map_err(|e| match e.kind() {
        ErrorKind::FileTooLarge => whole(format!("{e}; split it")),
        _ => whole(e.to_string()),
    })
}

fn text(bytes: Vec<u8>) -> Result<String, Fault> {
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        (None, format!("line {line} is not UTF-8; convert the file, for example with iconv"))
    })?;
    let text = text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_string);
    if text.trim().is_empty() {
        return Err((None, "is empty".into()));
    }
    Ok(text)
}

fn parse(text: &str, benchmark: Option<Benchmark>) -> Result<Vec<Question>, Fault> {
    if !text.trim_start().starts_with('[') {
        return lines::parse(text);
    }
    let Some(benchmark) = benchmark else {
        return Err((
            None,
            format!(
                "is a JSON list, and neither its path nor --benchmark says of which benchmark: {}",
                Benchmark::names()
            ),
        ));
    };
    let rows: Vec<serde_json::Value> =
        serde_json::from_str(text).map_err(|e| (None, format!("is no JSON list: {e}")))?;
    if rows.is_empty() {
        return Err((None, "holds no question".into()));
    }
    rows.iter()
        .enumerate()
        .map(|(at, row)| benchmark.question(row, at + 1).map_err(|what| (Some(at + 1), what)))
        .collect()
}

/// The row each question stands in: lines may be empty, elements of a list are counted.
fn rows(text: &str) -> Vec<usize> {
    if text.trim_start().starts_with('[') {
        return Vec::new();
    }
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(|(at, _)| at + 1).collect()
}

/// Rows are told apart by id: answers, labels and resumed runs hang on it.
fn unique(questions: &[Question], rows: &[usize]) -> Result<(), Fault> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (at, question) in questions.iter().enumerate() {
        let row = rows.get(at).copied().unwrap_or(at + 1);
        if let Some(first) = seen.insert(&question.id, row) {
            let what = format!("id {:?} is row {first}'s too; give each its own", question.id);
            return Err((Some(row), what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        load(&path, None).unwrap_err().to_string()
    }

    #[test]
    fn bad_files_name_the_row() {
        let good = r#"{"id":"1","query":"q","answer":"a"}"#;
        for (name, bytes, expected) in [
            ("a.jsonl", "".as_bytes(), "a.jsonl: is empty"),
            ("a.jsonl", b" \n\n", "is empty"),
            ("a.jsonl", b"{\"id\":\"1\"}\n\xff\xfe", "line 2 is not UTF-8"),
            ("a.jsonl", format!("{good}\nnonsense\n").as_bytes(), "row 2: "),
            ("a.jsonl", format!("{good}\n\n{{\"id\":\"2\"}}\n").as_bytes(), "row 3: has no \"query\""),
            ("a.jsonl", format!("{good}\n{good}\n").as_bytes(), "row 2: id \"1\" is row 1's too"),
            ("a.jsonl", format!("\n{good}\n\n{good}\n").as_bytes(), "row 4: id \"1\" is row 2's too"),
            ("a.json", b"[{\"query\":\"q\"}]", "--benchmark"),
            ("bamboogle.json", b"[]", "holds no question"),
            ("bamboogle.json", b"[{\"query\":\"q\"", "no JSON list"),
            (
                "bamboogle.json",
                b"[{\"query\":\"q\",\"answer\":\"a\"},{\"query\":\"q\"}]",
                "row 2: has no \"answer\"",
            ),
            ("bamboogle.json", b"[3]", "row 1: "),
        ] {
            let message = message(name, bytes);
            assert!(message.contains(expected), "{message:?} has no {expected:?}");
        }
        let folder = load(&std::env::temp_dir(), None).unwrap_err().to_string();
        assert!(folder.contains("is a folder; name a file"), "{folder}");
        let pipe = tempfile::tempdir().unwrap().keep().join("pipe.jsonl");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let told = load(&pipe, None).unwrap_err().to_string();
        assert!(told.contains("pipe.jsonl: it is a pipe, not a regular file; write what"), "{told}");
        let missing = load(Path::new("/no/such.jsonl"), None).unwrap_err().to_string();
        assert!(missing.contains("/no/such.jsonl"), "{missing}");
    }

    #[test]
    fn bundled_files_load_as_they_are() {
        for split in ["train", "gate", "held_out"] {
            let path = format!("{}/assets/tasks/{split}.jsonl", env!("CARGO_MANIFEST_DIR"));
            let loaded = load(Path::new(&path), None).unwrap();
            let tasks = crate::tasks::files::load(Path::new(&path)).unwrap();
            assert_eq!(loaded.len(), tasks.len());
            for (question, task) in loaded.iter().zip(tasks) {
                let from = Question::from(task);
                assert_eq!(
                    (&question.id, &question.group, &question.key),
                    (&from.id, &from.group, &from.key)
                );
            }
        }
    }
}
