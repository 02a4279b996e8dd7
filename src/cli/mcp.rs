//! `tillerman tool approve NAME`: an MCP server started once, shown, and pinned as it is.

use std::io::Write;

use crate::config::{Config, Mcp};
use crate::error::Error;
use crate::text::safe;
use crate::tools::mcp::{self, Listed, Pin};

use super::{Global, setup};

/// What MCP servers may contact, and why. A program of its own may contact anything.
pub fn hosts(config: &Config) -> Vec<(String, String)> {
    let host = |(name, server): (&String, &Mcp)| match server.command.first() {
        None => (server.url.clone(), format!("MCP server {name}")),
        Some(program) => ("any host".to_string(), format!("MCP server {name}, the program {program}")),
    };
    config.mcp.iter().map(host).collect()
}

/// Start the server, print what it is and brings, and keep that as approved.
pub async fn approve(global: &Global, name: &str) -> anyhow::Result<i32> {
    super::network::must_be_on(global)?;
    let (home, config) = setup::home_and_config(global)?;
    let Some(settings) = config.mcp.get(name) else {
        let known: Vec<&str> = config.mcp.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none; add [mcp.NAME]".to_string() } else { known.join(", ") };
        let told = format!("no MCP server is called {name:?}; servers in the settings: {known}");
        return Err(Error::Usage(told).into());
    };
    let listed = mcp::inspect(settings, &crate::tools::sandbox_exe())
        .await
        .map_err(|why| Error::Tool(format!("the MCP server {name}: {why}; nothing was approved")))?;
    home.ensure(&home.mcp())?;
    let path = Pin::path(&home.mcp(), name);
    // A damaged file is as good as none: everything in it is then new.
    let before = Pin::load(&path).ok().flatten();
    let mut out = std::io::stdout().lock();
    let start = if settings.command.is_empty() {
        format!("at {}", settings.url)
    } else {
        format!("runs {}", serde_json::to_string(&settings.command)?)
    };
    writeln!(out, "{name} {}", safe(&start))?;
    if !settings.env.is_empty() {
        writeln!(out, "  is given {}", safe(&settings.env.join(", ")))?;
    }
    for tool in &listed {
        let effects = mcp::effects(settings, tool);
        let may =
            if effects.acts_outward { "may change things or send them out" } else { "says it only reads" };
        writeln!(out, "  {}{} ({may})", mcp::clean(&tool.name, 64), news(before.as_ref(), tool))?;
        writeln!(out, "    {}", mcp::clean(tool.description.as_deref().unwrap_or("(no description)"), 400))?;
    }
    for gone in before.iter().flat_map(|pin| &pin.tools) {
        if !listed.iter().any(|tool| tool.name == gone.listed.name) {
            writeln!(out, "  {} is gone", mcp::clean(&gone.listed.name, 64))?;
        }
    }
    let count = listed.len();
    Pin::new(settings, listed).save(&path).map_err(Error::Tool)?;
    writeln!(
        out,
        "approved as shown: {count} tools; `tillerman tool list` shows their cards, deleting {} takes it back",
        path.display()
    )?;
    Ok(0)
}

/// What is new about a tool since the last approval.
fn news(before: Option<&Pin>, tool: &Listed) -> &'static str {
    let Some(before) = before else { return "" };
    match before.tools.iter().find(|pinned| pinned.listed.name == tool.name) {
        None => " [new]",
        Some(pinned) if pinned.hash != tool.hash() => " [changed]",
        Some(_) => "",
    }
}
