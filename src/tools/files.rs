//! files: reads, lists and searches the workspace.
//!
//! Everything is opened below one directory handle (cap-std: openat2 with RESOLVE_BENEATH where there is one),
//! never by a path that was looked at before. Regular files only, opened without blocking. It changes nothing.

mod find;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt};
use serde_json::{Value, json};

use super::workspace::Workspace;
use super::{Effects, Refused, Tool, ToolCard, ToolContext, ToolExample, ToolFault, ToolResult};

const NAME: &str = "files";
/// Bytes of a file that is read as a whole.
const FILE_BYTES: u64 = 4 << 20;
/// Characters of one result; further lines are asked for by number.
const RESULT_CHARS: usize = 8_000;
/// Characters of one line.
const LINE_CHARS: usize = 500;
/// Entries of a folder that are listed.
const ENTRIES: usize = 200;
/// Rows `head` gives of a table.
const ROWS: usize = 5;
/// A NUL among so many first bytes makes a file binary.
const SNIFFED_BYTES: usize = 8 << 10;

/// See the file's head.
pub struct Files {
    card: ToolCard,
    root: Arc<Dir>,
}

/// What was found, and the files it came from.
#[derive(Debug, Default, PartialEq)]
struct Found {
    text: String,
    sources: Vec<String>,
}

impl Files {
    /// # Errors
    /// The folder cannot be opened.
    pub fn new(workspace: &Workspace) -> Result<Files, Refused> {
        let root = Dir::open_ambient_dir(&workspace.path, ambient_authority()).map_err(|e| Refused {
            name: NAME.into(),
            reason: format!("{}: {e}", workspace.path.display()),
            remedy: "name a folder you may read with --workspace DIR".into(),
        })?;
        Ok(Files { card: card(), root: Arc::new(root) })
    }
}

fn card() -> ToolCard {
    let text = |words: &str| json!({ "type": "string", "description": words, "maxLength": 1000 });
    ToolCard {
        name: NAME.into(),
        purpose: "Reads, lists and searches the files of the user's workspace.".into(),
        brief: "read files".into(),
        schema: json!({
            "type": "object",
            "properties": {
                "action": {"enum": ["list", "read", "find", "head"], "description": "list a folder, read a text file, find files by name or text, head of a csv file"},
                "path": text("file or folder inside the workspace, e.g. notes/plan.md; left out: the workspace"),
                "name": text("find: part of the file's name, * stands for anything"),
                "text": text("find: words that stand in the file"),
                "line": {"type": "integer", "description": "read: first line wanted", "minimum": 1}
            },
            "required": ["action"],
            "additionalProperties": false
        }),
        examples: vec![
            ToolExample::new(json!({"action": "list"}), "notes/\ndata.csv  312 B"),
            ToolExample::new(
                json!({"action": "find", "name": "*.md", "text": "deadline"}),
                "notes/plan.md:3: deadline is Friday",
            ),
        ],
        limits: vec![
            "Only files inside the workspace; it changes none.".into(),
            format!(
                "Gives at most {RESULT_CHARS} characters and says at which line to go on; lines are cut at {LINE_CHARS} characters."
            ),
            format!("Reads text files of up to {} MiB.", FILE_BYTES >> 20),
        ],
    }
}

#[async_trait]
impl Tool for Files {
    fn card(&self) -> &ToolCard {
        &self.card
    }

    /// Files are private, and who wrote what stands in them is unknown.
    fn effects(&self, _: &Value) -> Effects {
        Effects { reads_private: true, brings_outside_text: true, acts_outward: false }
    }

    async fn call(&self, arguments: &Value, context: &ToolContext) -> ToolResult {
        let (root, cancel, arguments) = (self.root.clone(), context.cancel.clone(), arguments.clone());
        let work = move || {
            let text = |name: &str| arguments[name].as_str().unwrap_or_default();
            let path = Some(text("path")).filter(|path| !path.is_empty()).unwrap_or(".");
            match text("action") {
                "list" => list(&root, path),
                "read" => read(&root, path, arguments["line"].as_u64().unwrap_or(1)),
                "head" => head(&root, path),
                _ => find::find(&root, path, text("name"), text("text"), &|| cancel.is_cancelled()),
            }
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(found)) => ToolResult { sources: found.sources, ..ToolResult::ok(found.text) },
            Ok(Err(reason)) => ToolResult::fault(ToolFault::Failed, reason),
            Err(_) => ToolResult::fault(ToolFault::Failed, "reading ended badly"),
        }
    }
}

/// A regular file below the root, opened without waiting for anybody.
fn open(root: &Dir, path: &str) -> Result<(File, u64), String> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = root.open_with(path, &options).map_err(|e| trouble(path, &e))?;
    let data = file.metadata().map_err(|e| trouble(path, &e))?;
    if data.is_dir() {
        return Err(format!("{path} is a folder; list it"));
    }
    if !data.is_file() {
        return Err(format!("{path} is no regular file (a pipe, a socket or a device); only files are read"));
    }
    Ok((file, data.len()))
}

fn trouble(path: &str, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => format!("{path} is not in the workspace; list a folder to see names"),
        std::io::ErrorKind::PermissionDenied => {
            format!("{path} may not be read; only what lies inside the workspace can be ({error})")
        }
        _ => format!("{path} cannot be read: {error}"),
    }
}

/// The whole of a text file.
fn text_of(root: &Dir, path: &str) -> Result<String, String> {
    let (file, length) = open(root, path)?;
    if length > FILE_BYTES {
        return Err(format!(
            "{path} has {length} bytes, at most {FILE_BYTES} are read; use a tool that runs programs, or another file"
        ));
    }
    let mut bytes = Vec::new();
    // A file can grow between looking and reading.
    file.take(FILE_BYTES).read_to_end(&mut bytes).map_err(|e| trouble(path, &e))?;
    if is_binary(&bytes) {
        return Err(format!("{path} is no text file ({} bytes)", bytes.len()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_binary(bytes: &[u8]) -> bool {
    bytes[..bytes.len().min(SNIFFED_BYTES)].contains(&0)
}

fn read(root: &Dir, path: &str, from: u64) -> Result<Found, String> {
    let whole = text_of(root, path)?;
    let total = whole.lines().count();
    let from = usize::try_from(from).unwrap_or(usize::MAX).max(1);
    if from > total.max(1) {
        return Err(format!("{path} has {total} lines, line {from} is past its end"));
    }
    let (mut text, mut chars, mut next) = (String::new(), 0, from);
    for line in whole.lines().skip(from - 1) {
        let line = cut_line(line);
        chars += line.chars().count() + 1;
        if chars > RESULT_CHARS {
            break;
        }
        text.push_str(&line);
        text.push('\n');
        next += 1;
    }
    if next <= total {
        text.push_str(&format!("[lines {from} to {} of {total}; go on with line {next}]", next - 1));
    }
    let text =
        if total == 0 { "[the file is empty]".into() } else { text.trim_end_matches('\n').to_string() };
    Ok(Found { text, sources: vec![path.to_string()] })
}

/// Columns, the first rows as they stand, and how many there are.
fn head(root: &Dir, path: &str) -> Result<Found, String> {
    let whole = text_of(root, path)?;
    let mut lines = whole.lines().filter(|line| !line.trim().is_empty());
    let Some(columns) = lines.next() else { return Err(format!("{path} is empty")) };
    let rows = lines.clone().count();
    let shown: Vec<String> = std::iter::once(columns).chain(lines.take(ROWS)).map(cut_line).collect();
    let text = format!("{}\n[{rows} rows below the column names]", shown.join("\n"));
    Ok(Found { text, sources: vec![path.to_string()] })
}

fn list(root: &Dir, path: &str) -> Result<Found, String> {
    let mut names = Vec::new();
    for entry in root.read_dir(path).map_err(|e| trouble(path, &e))? {
        let Ok(entry) = entry else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().map_err(|e| trouble(path, &e))?;
        let name = shown(&name);
        names.push(if kind.is_dir() {
            format!("{name}/")
        } else if kind.is_symlink() {
            format!("{name}  link")
        } else if kind.is_file() {
            format!("{name}  {} B", entry.metadata().map_or(0, |data| data.len()))
        } else {
            format!("{name}  no regular file")
        });
    }
    names.sort();
    let more = names.len().saturating_sub(ENTRIES);
    names.truncate(ENTRIES);
    let mut text = names.join("\n");
    if more > 0 {
        text.push_str(&format!("\n[and {more} more; find them by name]"));
    }
    if text.is_empty() {
        text = "[the folder is empty]".into();
    }
    Ok(Found { text, sources: vec![path.to_string()] })
}

fn cut_line(line: &str) -> String {
    match line.char_indices().nth(LINE_CHARS) {
        Some((at, _)) => format!("{} [line cut]", &line[..at]),
        None => line.to_string(),
    }
}

/// A name on one line: one that holds a line end would be read as two.
fn shown(name: &str) -> String {
    if !name.contains(char::is_control) {
        return name.to_string();
    }
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    name.chars().map(escaped).collect()
}

/// `path` of an entry `name`, as the tool takes it.
fn beside(folder: &Path, name: &str) -> String {
    let joined = folder.join(name);
    joined.strip_prefix(".").unwrap_or(&joined).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
