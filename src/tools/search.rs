//! search: BM25 over the bundled knowledge and any folder the user names.
//!
//! The query is split into words; it is never parsed as a query language. Reads no network, and no
//! file after the index is built.

mod html;
mod index;
mod passages;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

pub use html::text as page_text;
pub use index::{Hit, SearchIndex};
pub use passages::{Passage, Skipped, Source};

use super::{Effects, Tool, ToolCard, ToolContext, ToolExample, ToolResult};

const MAX_QUERY_CHARS: usize = 2000;
const MAX_LIMIT: usize = 10;
const DEFAULT_LIMIT: usize = 3;
const NOTHING: &str = "No passage matches.";

/// See the file's head.
pub struct SearchTool {
    card: ToolCard,
    index: Arc<SearchIndex>,
}

impl SearchTool {
    pub fn new(index: Arc<SearchIndex>) -> SearchTool {
        SearchTool { card: card(&index), index }
    }
}

fn card(index: &SearchIndex) -> ToolCard {
    ToolCard {
        name: "search".into(),
        purpose: "Finds passages in the bundled knowledge and the user's folders.".into(),
        brief: "look up facts".into(),
        schema: json!({
            "type": "object",
            "properties": {
                "query": {
                    "type": "string",
                    "description": "the words to look for, e.g. capital of Peru",
                    "maxLength": MAX_QUERY_CHARS
                },
                "limit": {
                    "type": "integer",
                    "description": "most passages to return (3 when left out)",
                    "minimum": 1,
                    "maximum": MAX_LIMIT
                }
            },
            "required": ["query"],
            "additionalProperties": false
        }),
        examples: examples(index),
        limits: vec![
            "Finds passages that share words with the query, best first; it knows no synonyms and answers no question by itself.".into(),
            "Reads txt, md, csv and html as they were when the program started.".into(),
        ],
    }
}

/// Two queries with what this index really gives for them.
fn examples(index: &SearchIndex) -> Vec<ToolExample> {
    let first_words = |passage: &Passage| passage.text.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let wished = ["capital of Peru", "chemical symbol of gold"].map(str::to_owned);
    let own = [index.passages().first(), index.passages().last()];
    let own = own.into_iter().flatten().map(first_words);
    let mut examples: Vec<ToolExample> = Vec::new();
    for query in wished.into_iter().chain(own) {
        let result = show(index, &index.search(&query, 1));
        let seen = examples.iter().any(|example| example.result == result);
        if examples.len() < 2 && !seen && result != NOTHING {
            examples.push(ToolExample { arguments: json!({ "query": query, "limit": 1 }), result });
        }
    }
    if examples.len() < 2 {
        let arguments = json!({ "query": "zzyzx", "limit": 1 });
        let result = show(index, &index.search("zzyzx", 1));
        examples.push(ToolExample { arguments, result });
    }
    examples
}

fn show(index: &SearchIndex, hits: &[Hit]) -> String {
    if hits.is_empty() {
        return NOTHING.into();
    }
    let lines: Vec<String> = hits
        .iter()
        .map(|hit| {
            let passage = &index.passages()[hit.passage];
            if passage.from_folder {
                format!("[{}] {}", index.source_name(passage), passage.text)
            } else {
                passage.text.clone()
            }
        })
        .collect();
    lines.join("\n")
}

#[async_trait]
impl Tool for SearchTool {
    fn card(&self) -> &ToolCard {
        &self.card
    }

    /// The bundled knowledge is neither private nor anybody's to write; the person's folders are both.
    fn effects(&self, _: &Value) -> Effects {
        let folders = self.index.passages().iter().any(|passage| passage.from_folder);
        Effects { reads_private: folders, brings_outside_text: folders, acts_outward: false }
    }

    async fn call(&self, arguments: &Value, _context: &ToolContext) -> ToolResult {
        let query = arguments["query"].as_str().unwrap_or_default();
        let limit = arguments["limit"].as_u64().map_or(DEFAULT_LIMIT, |limit| limit as usize);
        let hits = self.index.search(query, limit.clamp(1, MAX_LIMIT));
        let mut result = ToolResult::ok(show(&self.index, &hits));
        for hit in &hits {
            let name = self.index.source_name(&self.index.passages()[hit.passage]);
            if !result.sources.iter().any(|known| known == name) {
                result.sources.push(name.to_owned());
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn lines() -> Source {
        Source::Lines {
            name: "countries.txt".into(),
            text: "The capital of Peru is Lima.\nThe capital of France is Paris.\n\nThe river Amazon flows through Peru.\nCôte d'Ivoire lies in Africa.\n"
                .into(),
        }
    }

    fn tool(sources: Vec<Source>) -> SearchTool {
        SearchTool::new(Arc::new(SearchIndex::build(sources).expect("index")))
    }

    fn call(tool: &SearchTool, arguments: Value) -> ToolResult {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(tool.call(&arguments, &ToolContext::default()))
    }

    #[test]
    fn the_card_shows_what_the_tool_gives() {
        let tool = tool(vec![lines()]);
        assert_eq!(tool.card().examples.len(), 2);
        for example in tool.card().examples.clone() {
            assert_eq!(call(&tool, example.arguments).text, example.result);
        }
    }

    #[test]
    fn each_line_of_the_knowledge_is_a_passage() {
        let tool = tool(vec![lines()]);
        let result = call(&tool, json!({"query": "capital of Peru?", "limit": 1}));
        assert_eq!(result.text, "The capital of Peru is Lima.");
        assert_eq!(result.sources, ["countries.txt"]);
        assert_eq!(call(&tool, json!({"query": "IVOIRE cote"})).text, "Côte d'Ivoire lies in Africa.");
        let three = call(&tool, json!({"query": "capital of Peru"})).text;
        assert_eq!(three.lines().count(), 3);
    }

    #[test]
    fn equal_scores_keep_the_order_of_the_passages() {
        let text = (0..50).map(|n| format!("twin number{n}\n")).collect::<String>();
        let tool = tool(vec![Source::Lines { name: "twins.txt".into(), text }]);
        let result = call(&tool, json!({"query": "twin", "limit": 4}));
        assert_eq!(result.text, "twin number0\ntwin number1\ntwin number2\ntwin number3");
    }

    #[test]
    fn a_query_is_words_and_nothing_else() {
        let tool = tool(vec![lines()]);
        for query in ["text:Lima", "\"capital of Peru\"", "+Peru -capital", "Lima~2 [a TO z]", "(((((Peru"] {
            assert!(call(&tool, json!({ "query": query })).text.contains("Peru"), "{query}");
        }
        for query in ["", "   ", "*", "?!", "zzyzx"] {
            assert_eq!(call(&tool, json!({ "query": query })).text, NOTHING, "{query}");
        }
        let long = "Peru ".repeat(200_000);
        assert!(call(&tool, json!({ "query": long })).text.contains("Peru"));
    }

    #[test]
    fn folders_are_read_whole_and_name_their_files() {
        let dir = tempfile::tempdir().expect("dir");
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("notes")).expect("dir");
        fs::write(path("notes/boats.md"), "# Boats\n\nA tillerman steers.\n\nSecond paragraph.")
            .expect("write");
        fs::write(path("staff.csv"), "name,city\nAnna,Oslo\n\"Bo, jr\",Rome\n").expect("write");
        fs::write(path("page.html"), "<p>Blue &amp; green</p><script>var hidden=1</script>").expect("write");
        fs::write(path("broken.txt"), b"ok \xff\xfe no").expect("write");
        fs::write(path("binary.txt"), b"a\0b").expect("write");
        fs::write(path("picture.png"), b"png").expect("write");
        std::os::unix::fs::symlink("/etc/passwd", path("link.txt")).expect("link");
        let tool = tool(vec![Source::Folder(dir.path().to_owned())]);
        let found = |query: &str| call(&tool, json!({ "query": query })).text;
        assert_eq!(found("tillerman"), "[notes/boats.md] # Boats A tillerman steers. Second paragraph.");
        assert_eq!(found("Rome"), "[staff.csv] name: Bo, jr; city: Rome");
        assert_eq!(found("green"), "[page.html] Blue & green");
        assert_eq!(found("hidden"), NOTHING);
        assert_eq!(found("root"), NOTHING);
        let skipped = tool.index.skipped();
        assert_eq!((skipped.binary, skipped.encoding, skipped.links), (1, 1, 1));
    }

    #[test]
    fn a_missing_folder_is_named() {
        let reason = SearchIndex::build(vec![Source::Folder("/no/such/folder".into())]).err().expect("error");
        assert!(reason.to_string().contains("/no/such/folder"), "{reason}");
    }

    #[test]
    fn an_empty_index_answers() {
        assert_eq!(call(&tool(Vec::new()), json!({"query": "a"})).text, NOTHING);
    }
}
