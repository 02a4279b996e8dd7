//! MCP servers approved: started once, shown, and pinned as they are once a person agrees. On the command line
//! `tillerman tool approve NAME`; the deck asks in a dialog.

use std::io::Write;
use std::path::PathBuf;

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

/// A server as it is now, not yet approved.
pub struct Seen {
    /// What it is and brings, a line each; what belongs to a line stands below it, further in.
    pub lines: Vec<String>,
    pin: Pin,
    path: PathBuf,
}

impl Seen {
    /// Keep it as approved, as it was shown.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self) -> Result<(), Error> {
        self.pin.save(&self.path).map_err(Error::Tool)
    }
}

/// Start the server once and see what it brings, and how that differs from what was approved.
///
/// # Errors
/// The network is off, no server has this name, or it cannot be asked.
pub async fn look(global: &Global, name: &str) -> anyhow::Result<Seen> {
    super::network::must_be_on(global)?;
    let (home, config) = setup::home_and_config(global)?;
    let Some(settings) = config.mcp.get(name) else {
        let told = format!("no MCP server is called {name:?}; servers in the settings: {}", known(&config));
        return Err(Error::Usage(told).into());
    };
    let workspace = setup::workspace(global, &home, &config)?;
    if let Some(path) = workspace.and_then(|workspace| mcp::reach::within(settings, &workspace)) {
        let why = mcp::reach::reason(&path);
        let told = format!("the MCP server {name}: {why}; it was not started, keep it elsewhere");
        return Err(Error::Tool(told).into());
    }
    let listed = mcp::inspect(settings, &crate::tools::sandbox_exe())
        .await
        .map_err(|why| Error::Tool(format!("the MCP server {name}: {why}; nothing was approved")))?;
    home.ensure(&home.mcp())?;
    let path = Pin::path(&home.mcp(), name);
    // A damaged file is as good as none: everything in it is then new.
    let before = Pin::load(&path).ok().flatten();
    let lines = lines(name, settings, &listed, before.as_ref())?;
    Ok(Seen { lines, pin: Pin::new(settings, listed), path })
}

/// The servers of the settings by name.
pub fn known(config: &Config) -> String {
    let names: Vec<&str> = config.mcp.keys().map(String::as_str).collect();
    if names.is_empty() { "none; add [mcp.NAME]".to_string() } else { names.join(", ") }
}

/// What a person agrees to.
fn lines(name: &str, settings: &Mcp, listed: &[Listed], before: Option<&Pin>) -> anyhow::Result<Vec<String>> {
    let start = if settings.command.is_empty() {
        format!("at {}", settings.url)
    } else {
        format!("runs {}", serde_json::to_string(&settings.command)?)
    };
    let mut lines = vec![format!("{name} {}", safe(&start))];
    if !settings.env.is_empty() {
        lines.push(format!("  is given {}", safe(&settings.env.join(", "))));
    }
    for tool in listed {
        let effects = mcp::effects(settings, tool);
        let may =
            if effects.acts_outward { "may change things or send them out" } else { "says it only reads" };
        lines.push(format!("  {}{} ({may})", mcp::clean(&tool.name, 64), news(before, tool)));
        let words = tool.description.as_deref().unwrap_or("(no description)");
        lines.push(format!("    {}", mcp::clean(words, 400)));
        let takes = mcp::arguments(tool);
        if !takes.is_empty() {
            lines.push(format!("    takes {takes}"));
        }
    }
    for gone in before.iter().flat_map(|pin| &pin.tools) {
        if !listed.iter().any(|tool| tool.name == gone.listed.name) {
            lines.push(format!("  {} is gone", mcp::clean(&gone.listed.name, 64)));
        }
    }
    Ok(lines)
}

/// Start the server, print what it is and brings, and keep that as approved.
pub async fn approve(global: &Global, name: &str) -> anyhow::Result<i32> {
    let seen = look(global, name).await?;
    let mut out = std::io::stdout().lock();
    for line in &seen.lines {
        writeln!(out, "{line}")?;
    }
    seen.keep()?;
    writeln!(
        out,
        "approved as shown: {} tools; `tillerman tool list` shows their cards, deleting {} takes it back",
        seen.pin.tools.len(),
        seen.path.display()
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
