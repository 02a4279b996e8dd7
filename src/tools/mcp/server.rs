//! One server over its life: started with the first call, checked against what was approved, started again with a
//! growing pause after it dies. A server that differs from what was approved runs no call.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use serde_json::{Map, Value};

use super::connection::{Connection, Trouble};
use super::pin::{Listed, Pin};
use crate::config::Mcp;
use crate::tools::{ToolFault, ToolResult};

/// Tools one server may bring.
pub const TOOLS_MOST: usize = 64;
/// Deaths further back are forgotten.
const DEATHS_WINDOW: Duration = Duration::from_secs(600);
/// The longest pause before another start, in seconds.
const PAUSE_MOST: u64 = 60;
/// Characters of a result that are kept.
const TEXT_MOST: usize = 1 << 20;

/// See the file's head. Its process ends when this is dropped.
pub struct Server {
    pub name: String,
    settings: Mcp,
    exe: PathBuf,
    pin_path: PathBuf,
    state: tokio::sync::Mutex<State>,
}

struct State {
    pin: Pin,
    connection: Option<Arc<Connection>>,
    deaths: Vec<Instant>,
}

impl Server {
    pub fn new(name: &str, settings: Mcp, pin: Pin, pin_path: PathBuf, exe: PathBuf) -> Server {
        let state = State { pin, connection: None, deaths: Vec::new() };
        Server { name: name.to_string(), settings, exe, pin_path, state: tokio::sync::Mutex::new(state) }
    }

    /// Run one of its tools.
    pub async fn call(&self, tool: &str, arguments: &Value) -> ToolResult {
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        match self.try_call(tool, arguments).await {
            Ok(result) => shown(result, &self.name, tool),
            Err(fault) => fault,
        }
    }

    async fn try_call(
        &self,
        tool: &str,
        arguments: Map<String, Value>,
    ) -> Result<CallToolResult, ToolResult> {
        let connection = self.connected().await.map_err(|why| self.failed(&why))?;
        let limit = Duration::from_secs(self.settings.call_s);
        match connection.call(tool, arguments, limit).await {
            Ok(result) => Ok(result),
            Err(Trouble::Refused(why)) => Err(self.failed(&why)),
            Err(Trouble::Late) => {
                // One slow call is no reason to end it; one that does not even answer a ping hangs.
                if !connection.answers().await {
                    self.lose(&connection).await;
                }
                let text =
                    format!("the MCP server {} gave no answer within {} s", self.name, self.settings.call_s);
                Err(ToolResult::fault(ToolFault::Limit, text))
            }
            Err(Trouble::Gone(why)) => {
                self.lose(&connection).await;
                Err(self.failed(&why))
            }
        }
    }

    fn failed(&self, why: &str) -> ToolResult {
        ToolResult::fault(ToolFault::Failed, format!("the MCP server {}: {why}", self.name))
    }

    /// The running server, started and checked if need be.
    async fn connected(&self) -> Result<Arc<Connection>, String> {
        let mut state = self.state.lock().await;
        if let Some(changed) = &state.pin.changed {
            return Err(self.unapproved(changed));
        }
        if let Some(connection) = state.connection.take() {
            if !connection.alive() {
                state.deaths.push(Instant::now());
            } else if connection.says_changed() {
                self.check(&mut state, &connection).await?;
                state.connection = Some(connection.clone());
                return Ok(connection);
            } else {
                state.connection = Some(connection.clone());
                return Ok(connection);
            }
        }
        pause(&mut state.deaths)?;
        let opened = Connection::open(&self.settings, &self.exe).await;
        let connection = opened.inspect_err(|_| state.deaths.push(Instant::now()))?;
        self.check(&mut state, &connection).await?;
        let connection = Arc::new(connection);
        state.connection = Some(connection.clone());
        Ok(connection)
    }

    /// Compare what it lists with what was approved, and remember a difference. One that does not list ends here,
    /// which is a death like any other.
    async fn check(&self, state: &mut State, connection: &Connection) -> Result<(), String> {
        let listed = tools(connection, &self.settings).await;
        let now = listed.inspect_err(|_| state.deaths.push(Instant::now()))?;
        let Some(difference) = state.pin.difference(&now) else { return Ok(()) };
        state.pin.changed = Some(difference.clone());
        // If it cannot be written, the next start finds the same difference again.
        let _ = state.pin.save(&self.pin_path);
        Err(self.unapproved(&difference))
    }

    fn unapproved(&self, changed: &str) -> String {
        format!(
            "it changed since it was approved ({changed}); look at it with `tillerman tool approve {}`",
            self.name
        )
    }

    /// Forget a connection that is of no more use; its process ends with it.
    async fn lose(&self, lost: &Arc<Connection>) {
        let mut state = self.state.lock().await;
        if state.connection.as_ref().is_some_and(|connection| Arc::ptr_eq(connection, lost)) {
            state.connection = None;
            state.deaths.push(Instant::now());
        }
    }
}

/// Start the server once and list the tools the settings want of it.
///
/// # Errors
/// Why it cannot be asked, or that it lists too many.
pub async fn inspect(settings: &Mcp, exe: &std::path::Path) -> Result<Vec<Listed>, String> {
    let connection = Connection::open(settings, exe).await?;
    tools(&connection, settings).await
}

/// What a server lists, as far as the settings want it.
async fn tools(connection: &Connection, settings: &Mcp) -> Result<Vec<Listed>, String> {
    let limit = Duration::from_secs(settings.start_s);
    let mut listed = connection.list(limit).await.map_err(|trouble| match trouble {
        Trouble::Refused(why) | Trouble::Gone(why) => why,
        Trouble::Late => format!("it did not list its tools within {} s", settings.start_s),
    })?;
    if !settings.tools.is_empty() {
        let count = listed.len();
        listed.retain(|tool| settings.tools.contains(&tool.name));
        if listed.is_empty() {
            return Err(format!("none of its {count} tools has a name that `tools` wants"));
        }
    }
    if listed.len() > TOOLS_MOST {
        return Err(format!(
            "it lists {} tools, at most {TOOLS_MOST} are taken; name those you want in `tools`",
            listed.len()
        ));
    }
    let mut names: Vec<&str> = listed.iter().map(|tool| tool.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("it lists {:?} twice", super::card::clean(twice[0], 40)));
    }
    Ok(listed)
}

/// No start too soon after a death: at once after the first, then with a pause that doubles.
fn pause(deaths: &mut Vec<Instant>) -> Result<(), String> {
    deaths.retain(|at| at.elapsed() < DEATHS_WINDOW);
    let Some(last) = deaths.last() else { return Ok(()) };
    let pause = match deaths.len() {
        1 => 0,
        count => (1 << (count - 2).min(10)).min(PAUSE_MOST),
    };
    let left = Duration::from_secs(pause).saturating_sub(last.elapsed());
    if left.is_zero() {
        return Ok(());
    }
    let (count, seconds) = (deaths.len(), left.as_secs() + 1);
    Err(format!(
        "it ended {count} times in the last minutes and is started again in {seconds} s at the earliest"
    ))
}

/// A result as text. What is no text is named, not shown.
fn shown(result: CallToolResult, server: &str, tool: &str) -> ToolResult {
    let mut parts: Vec<String> = result.content.into_iter().map(block).collect();
    if parts.is_empty() {
        parts.extend(
            result.structured_content.filter(|value| !value.is_null()).map(|value| value.to_string()),
        );
    }
    let mut text = parts.join("\n");
    if text.len() > TEXT_MOST {
        text.truncate(text.floor_char_boundary(TEXT_MOST));
        text.push_str("\n[cut here]");
    }
    if text.is_empty() {
        text = "(no text)".to_string();
    }
    let mut shown = ToolResult::ok(text);
    shown.fault = (result.is_error == Some(true)).then_some(ToolFault::Failed);
    shown.sources = vec![format!("mcp:{server}/{}", super::card::clean(tool, 64))];
    shown
}

fn block(block: ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text,
        ContentBlock::Image(image) => {
            format!("[an image, {}, not shown]", super::card::clean(&image.mime_type, 40))
        }
        ContentBlock::Audio(audio) => {
            format!("[a sound, {}, not shown]", super::card::clean(&audio.mime_type, 40))
        }
        ContentBlock::Resource(resource) => match resource.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => {
                format!("[{}]\n{text}", super::card::clean(&uri, 200))
            }
            ResourceContents::BlobResourceContents { uri, .. } => {
                format!("[{}, not text, not shown]", super::card::clean(&uri, 200))
            }
            _ => "[a resource of an unknown kind]".to_string(),
        },
        ContentBlock::ResourceLink(link) => {
            format!("[{}: {}]", super::card::clean(&link.name, 80), super::card::clean(&link.uri, 200))
        }
        _ => "[content of an unknown kind]".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        assert!(pause(&mut vec![]).is_ok());
        assert!(pause(&mut vec![ago(0)]).is_ok(), "the first death is forgiven at once");
        assert!(pause(&mut vec![ago(9), ago(0)]).unwrap_err().contains("2 times"));
        assert!(pause(&mut vec![ago(9), ago(2)]).is_ok());
        assert!(pause(&mut vec![ago(30); 9]).unwrap_err().contains("9 times"));
        assert!(pause(&mut vec![ago(61); 9]).is_ok());
    }

    #[test]
    fn results_become_text_and_nothing_else() {
        let result = |value: Value| serde_json::from_value::<CallToolResult>(value).unwrap();
        let mixed = result(serde_json::json!({"content": [
            {"type": "text", "text": "two\nlines"},
            {"type": "image", "data": "AAAA", "mimeType": "image/png"},
            {"type": "resource", "resource": {"uri": "file:///a", "text": "inside"}},
            {"type": "resource_link", "name": "b", "uri": "file:///b"}
        ]}));
        let text = shown(mixed, "notes", "read");
        assert_eq!(
            text.text,
            "two\nlines\n[an image, image/png, not shown]\n[file:///a]\ninside\n[b: file:///b]"
        );
        assert_eq!((text.fault, text.sources), (None, vec!["mcp:notes/read".to_string()]));
        let failed = shown(
            result(serde_json::json!({"content": [{"type": "text", "text": "no"}], "isError": true})),
            "n",
            "r",
        );
        assert_eq!((failed.text.as_str(), failed.fault), ("no", Some(ToolFault::Failed)));
        let bare = result(serde_json::json!({"content": [], "structuredContent": {"a": 1}}));
        assert_eq!(shown(bare, "n", "r").text, "{\"a\":1}");
        let long = result(serde_json::json!({"content": [{"type": "text", "text": "ä".repeat(TEXT_MOST)}]}));
        assert!(shown(long, "n", "r").text.ends_with("[cut here]"));
    }
}
