//! MCP servers approved from the deck: looked at, shown in a dialog, and in the toolbox from the next query on.
//!
//! What is kept is what was shown; a server that changes afterwards is refused as ever.

use std::sync::Arc;

use crate::deck::DeckEvent;
use crate::error::Error;
use crate::flow::trajectory::Trajectory;
use crate::tools::mcp::Pin;
use crate::tools::{Consent, Refused, Toolbox};

use super::Global;
use super::deck_approve::Dialogs;
use super::deck_parts::Parts;
use super::mcp;
use super::setup::{self, Setup};

/// The command that approves a server, in the words of the deck instead of the shell's.
pub fn remedy(refused: &Refused) -> String {
    let shell = format!("`tillerman tool approve {}`", refused.name);
    refused.remedy.replace(&shell, &format!("/approve {}", refused.name))
}

/// Look at the server `name` (empty: the one that waits for it), ask, and take its tools into the toolbox. What
/// came of it, in words.
///
/// # Errors
/// It is not clear which, it cannot be looked at, or what was agreed to cannot be kept.
pub async fn approve(
    global: &Global,
    parts: &Parts,
    dialogs: &Dialogs,
    name: String,
) -> anyhow::Result<String> {
    let name = if name.is_empty() { waiting(global)? } else { name };
    let seen = mcp::look(global, &name).await?;
    let asked = |id| DeckEvent::Server { id, name: name.clone(), lines: seen.lines.clone() };
    if dialogs.ask(asked).await == Consent::No {
        return Ok(format!("{name} stays as it was: nothing was approved"));
    }
    seen.keep()?;
    // Another model may have come to serve while the dialog stood.
    let mut setup = Setup::clone(&*ready(parts).await?);
    let (home, config) = setup::home_and_config(global)?;
    let engine = Some(setup.flow.engine.clone());
    let toolbox = Arc::new(setup::toolbox(global, &home, &config, engine, &setup.flow.pack)?);
    let begins = format!("{name}__");
    let joined: Vec<&str> = toolbox.names().into_iter().filter(|tool| tool.starts_with(&begins)).collect();
    let mut told = format!("{name} is approved; from the next query on: {}", joined.join(", "));
    for left in toolbox.refused.iter().filter(|refused| refused.name.starts_with(&begins)) {
        told.push_str(&format!("\nleft out: {} ({}; {})", left.name, left.reason, left.remedy));
    }
    if setup.embedded {
        told.push_str("\nThe embedded planner has never seen such tools and may plan worse beside them; F5 lists other models.");
    }
    setup.flow.toolbox = toolbox;
    parts.replace(Arc::new(setup));
    Ok(told)
}

async fn ready(parts: &Parts) -> anyhow::Result<Arc<Setup>> {
    parts.ready().await.map_err(anyhow::Error::msg)
}

/// The one server of the settings that is not approved as it is.
fn waiting(global: &Global) -> anyhow::Result<String> {
    let (home, config) = setup::home_and_config(global)?;
    let mut toolbox = Toolbox::default();
    crate::tools::mcp::register(&mut toolbox, &config.mcp, &home.mcp(), &crate::tools::sandbox_exe());
    let refused = |name: &&String| toolbox.refused.iter().any(|refused| refused.name == **name);
    let names: Vec<&str> = config.mcp.keys().filter(refused).map(String::as_str).collect();
    let told = match names[..] {
        [one] => return Ok(one.to_string()),
        [] => format!("none waits; say which: /approve NAME; in the settings: {}", mcp::known(&config)),
        _ => format!("several wait; say which: /approve NAME with one of {}", names.join(", ")),
    };
    Err(Error::Usage(told).into())
}

/// Servers that a pass called and that turned out to have changed since they were approved, in words.
pub fn changed(setup: &Setup, trajectory: &Trajectory) -> Option<String> {
    let called = |name: &&String| {
        let begins = format!("{name}__");
        let mut tools = trajectory.turns.iter().filter_map(|turn| turn.command.as_ref());
        tools.any(|command| command.tool.starts_with(&begins))
    };
    let differs = |name: &&String| {
        let pin = Pin::load(&Pin::path(&setup.home.mcp(), name));
        pin.is_ok_and(|pin| pin.is_some_and(|pin| pin.changed.is_some()))
    };
    let name = setup.config.mcp.keys().filter(called).find(differs)?;
    Some(format!(
        "the MCP server {name} changed since it was approved and is refused; /approve {name} shows what is new"
    ))
}
