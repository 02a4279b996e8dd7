//! From files to passages: which files are read, how far, and where they are cut.
//!
//! Links are not followed, hidden files not read, nothing but txt, md, csv and html opened.

use std::fs;
use std::path::{Path, PathBuf};

use super::html;
use crate::config::regular;
use crate::error::Error;
use crate::text::one_line;

/// Characters a passage of a folder's file aims at.
const PASSAGE_CHARS: usize = 600;
/// Longest passage of a line source or csv row; the rest of the line is not indexed.
const LINE_CHARS: usize = 2000;
const MAX_FILE_BYTES: u64 = 4 << 20;
const MAX_TOTAL_BYTES: u64 = 64 << 20;
const MAX_FILES: usize = 10_000;
const MAX_PASSAGES: usize = 200_000;
const MAX_DEPTH: usize = 16;

/// Something to search in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Every line of `text` is one passage.
    Lines { name: String, text: String },
    /// Prose: cut into passages between its paragraphs, as a folder's files are.
    Text { name: String, text: String },
    /// All readable files below the folder.
    Folder(PathBuf),
}

/// What a search returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// One line; white space is collapsed.
    pub text: String,
    /// Which file, by its number.
    pub source: usize,
    pub from_folder: bool,
}

/// Files left out, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// A NUL byte inside.
    pub binary: usize,
    /// Not UTF-8.
    pub encoding: usize,
    /// Larger than 4 MiB, or past 64 MiB, 10,000 files or 200,000 passages in all.
    pub size: usize,
    /// Symbolic links.
    pub links: usize,
    /// Could not be opened or read.
    pub unreadable: usize,
}

#[derive(Default)]
pub(super) struct Read {
    pub passages: Vec<Passage>,
    pub names: Vec<String>,
    pub skipped: Skipped,
    bytes: u64,
}

/// # Errors
/// A folder that cannot be listed.
pub(super) fn read(sources: Vec<Source>) -> Result<Read, Error> {
    let mut read = Read::default();
    for source in sources {
        match source {
            Source::Lines { name, text } => {
                let number = read.name(name);
                for line in text.lines() {
                    read.push(number, false, &cut(line, LINE_CHARS));
                }
            }
            Source::Text { name, text } => {
                let number = read.name(name);
                for part in paragraphs(&text) {
                    read.push(number, false, &part);
                }
            }
            Source::Folder(root) => {
                let entries = fs::read_dir(&root).map_err(|error| {
                    Error::Tool(format!("search: folder {root:?} cannot be read: {error}; name another one"))
                })?;
                read.folder(&root, entries, MAX_DEPTH);
            }
        }
    }
    Ok(read)
}

impl Read {
    fn name(&mut self, name: String) -> usize {
        self.names.push(name);
        self.names.len() - 1
    }

    fn push(&mut self, source: usize, from_folder: bool, text: &str) {
        let text = one_line(text);
        if !text.is_empty() && self.passages.len() < MAX_PASSAGES {
            self.passages.push(Passage { text, source, from_folder });
        }
    }

    /// Files in the order of their names, so that an index is the same on every machine.
    fn folder(&mut self, root: &Path, entries: fs::ReadDir, depth: usize) {
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                self.skipped.unreadable += 1;
                continue;
            };
            if hidden {
                continue;
            } else if metadata.is_symlink() {
                self.skipped.links += 1;
            } else if metadata.is_dir() {
                match fs::read_dir(&path) {
                    Ok(entries) if depth > 0 => self.folder(root, entries, depth - 1),
                    _ => self.skipped.unreadable += 1,
                }
            } else if metadata.is_file()
                && let Some(kind) = Kind::of(&path)
            {
                self.file(root, &path, kind, metadata.len());
            }
        }
    }

    fn file(&mut self, root: &Path, path: &Path, kind: Kind, bytes: u64) {
        let full = self.names.len() >= MAX_FILES
            || self.passages.len() >= MAX_PASSAGES
            || self.bytes + bytes > MAX_TOTAL_BYTES;
        if full || bytes > MAX_FILE_BYTES {
            self.skipped.size += 1;
            return;
        }
        let Ok(content) = regular::read(path, MAX_FILE_BYTES) else {
            self.skipped.unreadable += 1;
            return;
        };
        if content.contains(&0) {
            self.skipped.binary += 1;
            return;
        }
        let Ok(text) = String::from_utf8(content) else {
            self.skipped.encoding += 1;
            return;
        };
        self.bytes += bytes;
        let text = text.trim_start_matches('\u{feff}');
        let number = self.name(path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned());
        let parts = match kind {
            Kind::Text => paragraphs(text),
            Kind::Html => paragraphs(&html::text(text)),
            Kind::Csv => rows(text),
        };
        for part in parts {
            self.push(number, true, &part);
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Csv,
    Html,
}

impl Kind {
    fn of(path: &Path) -> Option<Kind> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "txt" | "md" => Some(Kind::Text),
            "csv" => Some(Kind::Csv),
            "html" | "htm" => Some(Kind::Html),
            _ => None,
        }
    }
}

/// Passages of about 600 characters, cut between paragraphs, and inside one only where it is longer.
fn paragraphs(text: &str) -> Vec<String> {
    let mut passages = Vec::new();
    let mut current = String::new();
    let mut paragraph = String::new();
    for line in text.lines().chain([""]) {
        if !line.trim().is_empty() {
            paragraph.push_str(line.trim());
            paragraph.push(' ');
            continue;
        }
        for piece in pieces(paragraph.trim()) {
            if !current.is_empty() && current.chars().count() + piece.chars().count() > PASSAGE_CHARS {
                passages.push(std::mem::take(&mut current));
            }
            current.push_str(piece);
            current.push(' ');
        }
        paragraph.clear();
    }
    passages.push(current);
    passages
}

/// A paragraph in pieces of at most 600 characters, cut after sentences, else at spaces, else anywhere.
fn pieces(paragraph: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = paragraph;
    while let Some((limit, _)) = rest.char_indices().nth(PASSAGE_CHARS) {
        let window = &rest[..limit];
        let sentence = window.rfind(". ").map(|at| at + 1).filter(|at| *at > limit / 2);
        let at = sentence.or_else(|| window.rfind(' ')).filter(|at| *at > 0).unwrap_or(limit);
        let (piece, tail) = rest.split_at(at);
        pieces.push(piece);
        rest = tail.trim_start();
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

/// Each row under its header: `name: Anna; city: Oslo`.
fn rows(text: &str) -> Vec<String> {
    let mut records = records(text).into_iter();
    let header = records.next().unwrap_or_default();
    let row = |cells: Vec<String>| {
        let cell = |(at, cell): (usize, &String)| match header.get(at).map(|name| name.trim()) {
            Some(name) if !name.is_empty() => format!("{name}: {}", cell.trim()),
            _ => cell.trim().to_owned(),
        };
        let cells: Vec<String> = cells.iter().enumerate().map(cell).collect();
        cut(&cells.join("; "), LINE_CHARS)
    };
    records.filter(|cells| cells.iter().any(|cell| !cell.trim().is_empty())).map(row).collect()
}

/// Comma, semicolon or tab separated, whichever the first line has most of; quotes as in RFC 4180.
fn records(text: &str) -> Vec<Vec<String>> {
    let first = text.lines().next().unwrap_or_default();
    let separator =
        [',', ';', '\t'].into_iter().max_by_key(|c| (first.matches(*c).count(), *c == ',')).unwrap_or(',');
    let mut records = Vec::new();
    let mut record = Vec::new();
    let mut cell = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                cell.push('"');
                chars.next();
            }
            '"' if quoted => quoted = false,
            '"' if cell.is_empty() => quoted = true,
            c if quoted => cell.push(c),
            c if c == separator => record.push(std::mem::take(&mut cell)),
            '\n' => {
                record.push(std::mem::take(&mut cell));
                records.push(std::mem::take(&mut record));
            }
            '\r' => {}
            c => cell.push(c),
        }
    }
    if !cell.is_empty() || !record.is_empty() {
        record.push(cell);
        records.push(record);
    }
    records
}

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_end_between_paragraphs() {
        let short = "word ".repeat(60);
        let text = format!("{short}\n\n{short}\n\n{short}");
        let passages = paragraphs(&text);
        assert_eq!(passages.len(), 2);
        assert_eq!(passages[0].split_whitespace().count(), 120);
    }

    #[test]
    fn a_long_paragraph_is_cut_after_sentences_and_loses_nothing() {
        let text = "One sentence of some length stands here. ".repeat(40);
        let passages = paragraphs(&text);
        assert!(passages.len() >= 3);
        assert!(passages.iter().all(|passage| passage.chars().count() <= PASSAGE_CHARS + 1));
        assert!(passages.iter().all(|passage| passage.trim_end().ends_with('.')));
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&passages.concat()), words(&text));
        let unbroken = "ä".repeat(1500);
        assert_eq!(paragraphs(&unbroken).iter().map(|p| p.trim().chars().count()).sum::<usize>(), 1500);
    }

    #[test]
    fn csv_rows_carry_their_header() {
        assert_eq!(rows("a;b\n1;2\n"), ["a: 1; b: 2"]);
        assert_eq!(rows("a,b\r\n\"x \"\"y\"\"\",\"1\n2\"\r\n,\r\n3"), ["a: x \"y\"; b: 1\n2", "a: 3"]);
        assert!(rows("").is_empty());
        assert_eq!(rows("a\n\"unclosed").len(), 1);
    }
}
