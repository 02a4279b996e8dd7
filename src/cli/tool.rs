//! `tillerman tool list` and `tillerman tool run NAME JSON`: tools by hand, through the same door the flow uses.

use std::io::Write;
use std::sync::Arc;

use clap::{Args, Subcommand};

use crate::error::Error;
use crate::flow::prompt::Pack;
use crate::text::safe;
use crate::tools::{ToolContext, Toolbox};

use super::{Global, plain, setup};

#[derive(Debug, Args)]
pub struct ToolArgs {
    #[command(subcommand)]
    command: ToolCommand,
}

#[derive(Debug, Subcommand)]
enum ToolCommand {
    /// Every tool's card, and the tools that cannot run here with the reason
    List {
        #[arg(long)]
        json: bool,
    },
    /// Run one tool: tillerman tool run calculator '{"expression":"2+3"}'
    Run {
        name: String,
        /// Arguments as a JSON object
        arguments: String,
        #[arg(long)]
        json: bool,
    },
    /// Look at an MCP server of the settings and allow its tools as they are now
    Approve {
        /// The server's name in the settings
        name: String,
    },
}

pub async fn run(global: &Global, args: &ToolArgs) -> anyhow::Result<i32> {
    match &args.command {
        ToolCommand::List { json } => {
            let toolbox = toolbox(global)?;
            if *json { list_json(&toolbox) } else { list(&toolbox) }
        }
        ToolCommand::Run { name, arguments, json } => {
            let arguments = serde_json::from_str(arguments).map_err(|e| {
                Error::Usage(format!(
                    "the arguments are no JSON ({e}); give an object, e.g. '{{\"expression\":\"2+3\"}}'"
                ))
            })?;
            run_one(global, name, &arguments, *json).await
        }
        ToolCommand::Approve { name } => super::mcp::approve(global, name).await,
    }
}

/// The toolbox without a model: the base generator needs one and is made on demand.
fn toolbox(global: &Global) -> anyhow::Result<Toolbox> {
    let (home, config) = setup::home_and_config(global)?;
    let pack = Arc::new(Pack::bundled("full")?);
    setup::toolbox(global, &home, &config, None, &pack)
}

async fn run_one(
    global: &Global,
    name: &str,
    arguments: &serde_json::Value,
    json: bool,
) -> anyhow::Result<i32> {
    let toolbox = if name == "base" {
        setup::open(global, 1)?.flow.toolbox.clone()
    } else {
        Arc::new(toolbox(global)?)
    };
    if toolbox.get(name).is_none() {
        // A tool of a server that was refused is refused with it.
        let refused = toolbox.refused.iter().find(|refused| {
            name.strip_prefix(refused.name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("__"))
        });
        let refused = refused.cloned().or_else(|| crate::tools::net::switched_off(name));
        let text = match refused {
            Some(refused) => format!("tool {name} cannot run here: {}; {}", refused.reason, refused.remedy),
            None => format!("no tool is called {name:?}; tools: {}", toolbox.names().join(", ")),
        };
        return Err(Error::Usage(text).into());
    }
    let context = ToolContext { seed: global.seed.unwrap_or(0), ..ToolContext::default() };
    let interrupt = context.cancel.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupt.cancel();
        }
    });
    let result = toolbox.run(name, arguments, &context).await;
    let mut out = std::io::stdout();
    if json {
        let mut line = serde_json::to_value(&result)?;
        line["kind"] = "tool_result".into();
        writeln!(out, "{}", plain::json(&line))?;
    } else if result.fault.is_some() {
        eprintln!("tillerman: {}", safe(&result.text));
    } else {
        writeln!(out, "{}", safe(&result.text))?;
    }
    Ok(i32::from(result.fault.is_some()))
}

fn list(toolbox: &Toolbox) -> anyhow::Result<i32> {
    let mut out = std::io::stdout().lock();
    for tool in &toolbox.tools {
        let card = tool.card();
        writeln!(out, "{}\n  {}\n  arguments {}", card.name, safe(&card.purpose), plain::json(&card.schema))?;
        for example in &card.examples {
            writeln!(out, "  example   {} -> {}", example.arguments, safe(&example.result))?;
        }
        for limit in &card.limits {
            writeln!(out, "  limit     {}", safe(limit))?;
        }
        writeln!(out)?;
    }
    for refused in &toolbox.refused {
        writeln!(
            out,
            "{} (not registered)\n  {}; {}\n",
            safe(&refused.name),
            safe(&refused.reason),
            safe(&refused.remedy)
        )?;
    }
    Ok(0)
}

fn list_json(toolbox: &Toolbox) -> anyhow::Result<i32> {
    let mut out = std::io::stdout().lock();
    for tool in &toolbox.tools {
        let mut line = serde_json::to_value(tool.card())?;
        line["kind"] = "tool".into();
        writeln!(out, "{}", plain::json(&line))?;
    }
    for refused in &toolbox.refused {
        let mut line = serde_json::to_value(refused)?;
        line["kind"] = "tool_refused".into();
        writeln!(out, "{}", plain::json(&line))?;
    }
    Ok(0)
}
