//! wikipedia: searches an encyclopedia through the MediaWiki API and reads the articles found.
//!
//! Without a question it gives the openings of the best articles, with one the passages of the best article that
//! fit. Any MediaWiki with the TextExtracts extension serves; which, stands in the settings.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::fault::{NetFault, shown};
use super::fetch::{Ask, with_query};
use super::web::MAX_QUESTION_CHARS;
use super::{EFFECTS, Net, Source, cited, page};
use crate::text::one_line;
use crate::tools::{Effects, Tool, ToolCard, ToolContext, ToolExample, ToolResult};

const MAX_QUERY_CHARS: usize = 300;
const MAX_LIMIT: u64 = 5;
const DEFAULT_LIMIT: u64 = 2;
/// Characters of an opening that are given.
const OPENING_CHARS: usize = 1200;
const NOTHING: &str = "No article matches.";

/// See the file's head.
pub struct Wikipedia {
    card: ToolCard,
    net: Arc<Net>,
    /// The address of api.php.
    api: String,
}

impl Wikipedia {
    pub fn new(net: Arc<Net>, api: String) -> Wikipedia {
        Wikipedia { card: card(), net, api }
    }

    async fn look_up(&self, arguments: &Value, cancel: &CancellationToken) -> Result<ToolResult, NetFault> {
        let query = arguments["query"].as_str().unwrap_or_default();
        let question = arguments["question"].as_str().filter(|question| !question.trim().is_empty());
        let limit = if question.is_some() { 1 } else { arguments["limit"].as_u64().unwrap_or(DEFAULT_LIMIT) };
        let (found, age) = self.search(query, limit.clamp(1, MAX_LIMIT), cancel).await?;
        let Some(best) = found.first() else { return Ok(ToolResult::ok(NOTHING)) };
        let Some(question) = question else { return Ok(cited(&found, age)) };
        let (text, age) = self.whole(&best.title, cancel).await?;
        let text = page::select(text, Some(question)).await;
        Ok(cited(&[Source { text, ..best.clone() }], age))
    }

    /// The best articles with their openings, in the order of the search.
    async fn search(
        &self,
        query: &str,
        limit: u64,
        cancel: &CancellationToken,
    ) -> Result<(Vec<Source>, Option<std::time::Duration>), NetFault> {
        let limit = limit.to_string();
        let pairs = [
            ("generator", "search"),
            ("gsrsearch", query),
            ("gsrlimit", limit.as_str()),
            ("prop", "extracts|info"),
            ("inprop", "url"),
            ("exintro", "1"),
            ("explaintext", "1"),
            ("exlimit", "max"),
        ];
        let (answer, age) = self.ask(&pairs, cancel).await?;
        let mut pages: Vec<&Value> = answer["query"]["pages"].as_array().into_iter().flatten().collect();
        pages.sort_by_key(|page| page["index"].as_i64().unwrap_or(i64::MAX));
        let source = |page: &&Value| Source {
            title: page::title(page["title"].as_str().unwrap_or_default()),
            url: page::one_address(page["fullurl"].as_str().unwrap_or_default()),
            text: opening(page["extract"].as_str().unwrap_or_default()),
        };
        Ok((pages.iter().map(source).collect(), age))
    }

    /// The text of one article.
    async fn whole(
        &self,
        title: &str,
        cancel: &CancellationToken,
    ) -> Result<(String, Option<std::time::Duration>), NetFault> {
        let pairs = [("prop", "extracts"), ("explaintext", "1"), ("redirects", "1"), ("titles", title)];
        let (answer, age) = self.ask(&pairs, cancel).await?;
        let text = answer["query"]["pages"][0]["extract"].as_str().unwrap_or_default();
        Ok((text.to_owned(), age))
    }

    async fn ask(
        &self,
        pairs: &[(&str, &str)],
        cancel: &CancellationToken,
    ) -> Result<(Value, Option<std::time::Duration>), NetFault> {
        let fixed = [("action", "query"), ("format", "json"), ("formatversion", "2"), ("utf8", "1")];
        let pairs: Vec<(&str, &str)> = fixed.iter().chain(pairs).copied().collect();
        let url = with_query(&self.api, &pairs)?;
        let got = self.net.get(&Ask { url, accept: "application/json", ..Ask::default() }, cancel).await?;
        let answer = got.json("network.wikipedia_url")?;
        match answer["error"]["info"].as_str() {
            Some(reason) => Err(NetFault::Answer {
                url: shown(&self.api),
                reason: shown(reason),
                key: "network.wikipedia_url",
            }),
            None => Ok((answer, got.age)),
        }
    }
}

fn opening(text: &str) -> String {
    one_line(text).chars().take(OPENING_CHARS).collect()
}

fn card() -> ToolCard {
    ToolCard {
        name: "wikipedia".into(),
        purpose: "Searches Wikipedia and reads the articles found.".into(),
        brief: "look up in Wikipedia".into(),
        schema: json!({
            "type": "object",
            "properties": {
                "query": {
                    "type": "string",
                    "description": "what to search for, e.g. Lake Titicaca",
                    "minLength": 1,
                    "maxLength": MAX_QUERY_CHARS
                },
                "question": {
                    "type": "string",
                    "description": "what to look for in the best article; left out: the articles' openings",
                    "maxLength": MAX_QUESTION_CHARS
                },
                "limit": {
                    "type": "integer",
                    "description": "most articles to return (2 when left out)",
                    "minimum": 1,
                    "maximum": MAX_LIMIT
                }
            },
            "required": ["query"],
            "additionalProperties": false
        }),
        examples: vec![
            ToolExample::new(
                json!({"query": "Lake Titicaca", "limit": 1}),
                "[https://en.wikipedia.org/wiki/Lake_Titicaca] Lake Titicaca\nLake Titicaca is a large freshwater lake in the Andes mountains on the border of Bolivia and Peru.",
            ),
            ToolExample::new(
                json!({"query": "Lake Titicaca", "question": "How deep is it?"}),
                "[https://en.wikipedia.org/wiki/Lake_Titicaca] Lake Titicaca\nThe average depth is 107 m, the greatest 281 m.",
            ),
        ],
        limits: vec![
            "Searches words, not meanings; the newest events may be missing.".into(),
            "A question looks into the one best article only.".into(),
        ],
    }
}

#[async_trait]
impl Tool for Wikipedia {
    fn card(&self) -> &ToolCard {
        &self.card
    }

    fn effects(&self, _arguments: &Value) -> Effects {
        EFFECTS
    }

    async fn call(&self, arguments: &Value, context: &ToolContext) -> ToolResult {
        self.look_up(arguments, &context.cancel).await.unwrap_or_else(|fault| fault.result())
    }
}
