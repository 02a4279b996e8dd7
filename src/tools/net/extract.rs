//! The main text of a page, taken out of its HTML by dom_smoothie (Mozilla's Readability) in a process of its own.
//!
//! A page is written by somebody else, and a few kilobytes of HTML can ask a parser for gigabytes or hours. The
//! process `tillerman __page` has bounded memory and time and can open nothing; where it gives up, the page is
//! read as plain text in one pass.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use dom_smoothie::{Config, Readability, TextMode};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::page;
use crate::tools::sandbox::confine_reader;
use crate::tools::search::page_text;

/// Elements above which a page is read without looking for its main part.
const MAX_ELEMENTS: usize = 50_000;
const TIME_LIMIT: Duration = Duration::from_secs(10);
const CPU_SECONDS: u64 = 10;
/// Address space, most of it the program itself and never touched.
const MEMORY_BYTES: u64 = 1 << 30;
/// The parser recurses into nested elements.
const STACK_BYTES: usize = 128 << 20;
/// More text than any page has that came through the fetcher's cap.
const MAX_ARTICLE_BYTES: u64 = 8 << 20;
/// The argument that makes this binary such a process.
const SUBCOMMAND: &str = "__page";

/// What a page says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Article {
    /// One line; empty where there is none.
    pub title: String,
    /// Paragraphs separated by empty lines.
    pub text: String,
}

/// Where pages are taken apart.
#[derive(Clone, Debug)]
pub enum Extractor {
    /// In a process of its own, started from this binary.
    Process(PathBuf),
    /// In this process, on the calling thread: for tests that have no binary, with pages of their own.
    Here,
}

impl Extractor {
    /// The main part where one is found, else all the text of the page. Dropping the future ends the process.
    pub async fn read(&self, html: String) -> Article {
        let found = match self {
            Extractor::Here => article(&html),
            Extractor::Process(exe) => {
                tokio::time::timeout(TIME_LIMIT, ask(exe, &html)).await.ok().and_then(Result::ok).flatten()
            }
        };
        found.unwrap_or_else(|| Article { title: title(&html), text: page_text(&html) })
    }
}

async fn ask(exe: &PathBuf, html: &str) -> std::io::Result<Option<Article>> {
    let mut child = tokio::process::Command::new(exe)
        .arg(SUBCOMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else { return Ok(None) };
    input.write_all(html.as_bytes()).await?;
    drop(input);
    let mut answer = Vec::new();
    output.take(MAX_ARTICLE_BYTES).read_to_end(&mut answer).await?;
    Ok(serde_json::from_slice(&answer).ok())
}

/// Runs as the whole process; answers its exit code.
pub fn child() -> i32 {
    if confine_reader(MEMORY_BYTES, CPU_SECONDS).is_err() {
        return 1;
    }
    let mut html = String::new();
    if std::io::stdin().lock().read_to_string(&mut html).is_err() {
        return 1;
    }
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || article(&html));
    let Some(article) = thread.ok().and_then(|thread| thread.join().ok()).flatten() else { return 1 };
    let Ok(line) = serde_json::to_vec(&article) else { return 1 };
    i32::from(std::io::stdout().lock().write_all(&line).is_err())
}

/// None: no main part was found.
fn article(html: &str) -> Option<Article> {
    let config = Config {
        max_elements_to_parse: MAX_ELEMENTS,
        text_mode: TextMode::Formatted,
        disable_json_ld: true,
        ..Config::default()
    };
    let found = Readability::new(html, None, Some(config)).and_then(|mut reader| reader.parse()).ok()?;
    let text = found.text_content.to_string();
    (!text.trim().is_empty()).then(|| Article { title: page::title(&found.title), text })
}

fn title(html: &str) -> String {
    let lower = html.to_ascii_lowercase();
    let Some(open) = lower.find("<title").and_then(|at| Some(at + lower[at..].find('>')? + 1)) else {
        return String::new();
    };
    let end = lower[open..].find("</title").map_or(open, |at| open + at);
    page::title(&page_text(&html[open..end]))
}
