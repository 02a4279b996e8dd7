//! From a text to what is worth reading of it: the passages that fit a question, ranked by the search tool's BM25.
//!
//! It knows no HTML; see `extract`.

use crate::text::one_line;
use crate::tools::search::{SearchIndex, Source};

/// Characters of a text that are given when nothing is asked of it.
const BEGINNING_CHARS: usize = 4000;
/// Passages given for a question.
const PASSAGES: usize = 4;
const MAX_TITLE_CHARS: usize = 200;
const MAX_ADDRESS_CHARS: usize = 4096;

/// The passages that fit the question, best first; without one, or where nothing fits, the beginning.
pub async fn select(text: String, question: Option<&str>) -> String {
    let question = question.map(str::trim).filter(|question| !question.is_empty()).map(str::to_owned);
    // Building an index takes tens of milliseconds, which other tasks of this thread need not wait for.
    let choose = move || match question {
        Some(question) => passages(&text, &question),
        None => beginning(&text),
    };
    tokio::task::spawn_blocking(choose).await.unwrap_or_default()
}

fn passages(text: &str, question: &str) -> String {
    let source = Source::Text { name: String::new(), text: text.to_owned() };
    let Ok(index) = SearchIndex::build(vec![source]) else { return beginning(text) };
    let hits = index.search(question, PASSAGES);
    if hits.is_empty() {
        return format!("No passage shares a word with the question. The text begins:\n{}", beginning(text));
    }
    let passages: Vec<&str> = hits.iter().map(|hit| index.passages()[hit.passage].text.as_str()).collect();
    passages.join("\n\n")
}

fn beginning(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(one_line).filter(|line| !line.is_empty()).collect();
    let text = lines.join("\n");
    let total = text.chars().count();
    if total <= BEGINNING_CHARS {
        return text;
    }
    let head: String = text.chars().take(BEGINNING_CHARS).collect();
    let rest = total - BEGINNING_CHARS;
    format!("{head}\n[{rest} more characters; ask a question to get the passages that fit it]")
}

/// On one line, and not longer than a title is.
pub fn title(text: &str) -> String {
    one_line(text).chars().take(MAX_TITLE_CHARS).collect()
}

/// A URL without what would break a line or a citation in two.
pub fn one_address(url: &str) -> String {
    url.chars().filter(|c| !c.is_control() && !c.is_whitespace()).take(MAX_ADDRESS_CHARS).collect()
}
