//! Tools of MCP servers: only from servers in the person's settings, only as the person approved them.
//!
//! A server is a program like any other: it is not confined, so it runs with the person's rights. What is held
//! here is what it can do to this program: which tools it brings, what they are called and say, how much and how
//! deep it answers, how long it takes, and that it cannot change any of it unseen.

pub mod card;
pub mod child;
mod connection;
pub mod guard;
mod listener;
mod pin;
pub mod reach;
pub mod schema;
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::{Effects, Refused, Tool, ToolCard, ToolContext, ToolResult, Toolbox};
use crate::config::Mcp;

pub use card::clean;
pub use pin::{Listed, Pin};
pub use server::{Server, inspect};

/// A tool of a server.
struct McpTool {
    card: ToolCard,
    /// The name the server knows it by.
    name: String,
    server: Arc<Server>,
    effects: Effects,
}

#[async_trait]
impl Tool for McpTool {
    fn card(&self) -> &ToolCard {
        &self.card
    }

    fn effects(&self, _arguments: &Value) -> Effects {
        self.effects
    }

    async fn call(&self, arguments: &Value, _context: &ToolContext) -> ToolResult {
        self.server.call(&self.name, arguments).await
    }
}

/// What a call of this tool may touch. A server that says nothing is taken for the worst.
pub fn effects(settings: &Mcp, listed: &Listed) -> Effects {
    Effects {
        reads_private: settings.private,
        brings_outside_text: true,
        // Reading in an open world sends out what the model asks for.
        acts_outward: !(listed.reads_only() && listed.stays_inside()),
    }
}

/// What prompts say of a tool's arguments, on one line; empty: it takes none.
pub fn arguments(listed: &Listed) -> String {
    match schema::simplified(&listed.schema) {
        Ok(schema) => match &schema["properties"] {
            Value::Object(fields) if !fields.is_empty() => clean(&schema["properties"].to_string(), 600),
            _ => String::new(),
        },
        Err(why) => format!("(nothing: {why})"),
    }
}

/// Put the approved tools of the servers into the toolbox; no server is started yet. What was not approved, or
/// differs from what was, is refused with the command that approves it. `folder` holds what was approved.
pub fn register(toolbox: &mut Toolbox, servers: &BTreeMap<String, Mcp>, folder: &Path, exe: &Path) {
    for (name, settings) in servers {
        match approved(name, settings, folder) {
            Ok(pin) => add(toolbox, name, settings, pin, folder, exe),
            Err((reason, remedy)) => toolbox.refused.push(Refused { name: name.clone(), reason, remedy }),
        }
    }
}

/// Name the servers as refused because the network is off: what a program of its own opens cannot be known.
pub fn refuse(toolbox: &mut Toolbox, servers: &BTreeMap<String, Mcp>) {
    toolbox.refused.extend(servers.keys().map(|name| Refused {
        name: name.clone(),
        reason: "the network is off, and an MCP server may open sockets".to_string(),
        remedy: "leave out --offline and network.offline".to_string(),
    }));
}

/// What was approved of a server, if it still holds; else the reason and the remedy.
fn approved(name: &str, settings: &Mcp, folder: &Path) -> Result<Pin, (String, String)> {
    let approve = format!("look at it and allow it with `tillerman tool approve {name}`");
    let pin = Pin::load(&Pin::path(folder, name)).map_err(|why| (why, approve.clone()))?;
    let Some(pin) = pin else {
        return Err(("this MCP server was never approved".to_string(), approve));
    };
    if !pin.starts(settings) {
        return Err((
            "its command, address, environment or choice of tools changed since it was approved".to_string(),
            approve,
        ));
    }
    match &pin.changed {
        Some(changed) => Err((format!("its tools changed since it was approved: {changed}"), approve)),
        None => Ok(pin),
    }
}

fn add(toolbox: &mut Toolbox, name: &str, settings: &Mcp, pin: Pin, folder: &Path, exe: &Path) {
    let tools: Vec<Listed> = pin.tools.iter().map(|tool| tool.listed.clone()).collect();
    let path = Pin::path(folder, name);
    let server = Arc::new(Server::new(name, settings.clone(), pin, path, PathBuf::from(exe)));
    for listed in tools {
        let effects = effects(settings, &listed);
        let made = card::card(name, &listed, settings.call_s).and_then(|card| {
            match card::look_alike(&card.name, toolbox.names().into_iter()) {
                Some(other) => Err(format!("its name {} can be taken for {other}", card.name)),
                None => Ok(card),
            }
        });
        match made {
            Ok(card) => {
                let tool = McpTool { card, name: listed.name, server: server.clone(), effects };
                toolbox.tools.push(Arc::new(tool));
            }
            Err(reason) => toolbox.refused.push(Refused {
                name: format!("{name}__{}", clean(&listed.name, 40)),
                reason,
                remedy: format!("leave it out: name the tools you want in mcp.{name}.tools"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listed(name: &str, annotations: Value) -> Listed {
        Listed {
            name: name.into(),
            title: None,
            description: Some("Does it.".into()),
            schema: json!({"type": "object", "properties": {"a": {"type": "string"}}}),
            annotations,
        }
    }

    #[test]
    fn only_what_was_approved_gets_into_the_toolbox() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Mcp { command: vec!["server".into()], ..Mcp::default() };
        let servers = BTreeMap::from([("notes".to_string(), settings.clone())]);
        let built = |servers: &BTreeMap<String, Mcp>| {
            let mut toolbox = Toolbox::default();
            register(&mut toolbox, servers, folder.path(), Path::new("/proc/self/exe"));
            let refused = toolbox.refused.iter().map(|r| format!("{}: {}; {}", r.name, r.reason, r.remedy));
            (toolbox.names().join(" "), refused.collect::<Vec<_>>().join("\n"))
        };
        let (names, refused) = built(&servers);
        assert!(names.is_empty());
        assert_eq!(
            refused,
            "notes: this MCP server was never approved; look at it and allow it with `tillerman tool approve notes`"
        );
        let tools = ["read", "rеad", "r_e_a_d", "write"].map(|name| listed(name, Value::Null));
        let path = Pin::path(folder.path(), "notes");
        let mut pin = Pin::new(&settings, tools.to_vec());
        pin.save(&path).unwrap();
        let (names, refused) = built(&servers);
        assert_eq!(names, "notes__read notes__write");
        assert!(
            refused.contains("only a-z") && refused.contains("can be taken for notes__read"),
            "{refused}"
        );
        let other = Mcp { command: vec!["server".into(), "--all".into()], ..settings };
        let (names, refused) = built(&BTreeMap::from([("notes".to_string(), other)]));
        assert!(names.is_empty() && refused.contains("command, address, environment"), "{refused}");
        pin.changed = Some("\"read\" changed".into());
        pin.save(&path).unwrap();
        assert!(built(&servers).1.contains("its tools changed since"));
    }

    #[test]
    fn arguments_are_shown_as_prompts_show_them() {
        let schema =
            json!({"type": "object", "properties": {"a": {"type": "string", "description": "Mail\n it."}}});
        let told = arguments(&Listed { schema, ..listed("a", Value::Null) });
        assert!(told.contains("\"a\"") && told.contains("Mail") && !told.contains('\n'), "{told}");
        assert_eq!(arguments(&Listed { schema: json!({"type": "object"}), ..listed("a", Value::Null) }), "");
    }

    #[test]
    fn a_tool_that_says_nothing_is_taken_for_the_worst() {
        let settings = Mcp::default();
        let outward = |annotations: Value| effects(&settings, &listed("a", annotations)).acts_outward;
        assert!(outward(Value::Null));
        assert!(outward(json!({"readOnlyHint": true})));
        assert!(outward(json!({"readOnlyHint": "true", "openWorldHint": false})));
        assert!(outward(json!({"destructiveHint": false, "openWorldHint": false})));
        assert!(!outward(json!({"readOnlyHint": true, "openWorldHint": false})));
        let said = effects(&Mcp { private: false, ..Mcp::default() }, &listed("a", Value::Null));
        assert!(said.brings_outside_text && !said.reads_private);
        assert!(effects(&settings, &listed("a", Value::Null)).reads_private);
    }
}
