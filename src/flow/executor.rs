//! The executor: plan -> command. Held by the tool's argument schema, so a command is well-formed
//! unless the token limit cuts it.

use serde_json::Value;

use crate::engine::{Constraint, Role};
use crate::flow::prompt::Fill;
use crate::flow::run::{Halt, Run};
use crate::flow::trajectory::{Command, Plan};

/// Ask for the arguments of the planned tool. The plan's tool is registered (the planner saw to that).
pub async fn command(run: &mut Run<'_>, plan: &Plan) -> Result<Command, Halt> {
    let tool = run.flow.toolbox.get(&plan.tool).cloned();
    let card = tool.as_ref().map(|tool| tool.card());
    let fill = Fill {
        card,
        query: &run.ask.query,
        context: &plan.context,
        sub_goal: &plan.sub_goal,
        tool: &plan.tool,
        ..Fill::default()
    };
    let messages = run.flow.pack.messages(Role::Executor, &fill);
    let schema = card.map(|card| Constraint::JsonSchema(card.schema.to_string()));
    let completion = run.call(Role::Executor, messages, schema).await?;
    Ok(Command { tool: plan.tool.clone(), arguments: read(&completion.text) })
}

/// The arguments as JSON. Text that is none stays a string, which the schema check then refuses in words.
pub fn read(text: &str) -> Value {
    let trimmed = text.trim();
    serde_json::from_str(trimmed).unwrap_or_else(|_| Value::String(trimmed.to_string()))
}
