//! The planner: (query, toolset, memory) -> plan. The only trained role, so nothing constrains what it
//! samples; what it wrote is read with care instead, and what cannot be read is a turn with a reason.

use crate::engine::Role;
use crate::flow::prompt::Fill;
use crate::flow::run::{Halt, Run};
use crate::flow::memory::Memory;
use crate::flow::trajectory::{Plan, QueryAnalysis};
use crate::tools::Toolbox;

/// The planner's text, understood or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `repaired`: the text was not in the asked form but can be read in one way only.
    Plan { plan: Plan, repaired: bool },
    /// Not a plan that can be run; `plan` holds what could be read of it.
    Refused { plan: Plan, text: String, reason: String },
}

/// Sample the next plan.
pub async fn plan(run: &mut Run<'_>, analysis: &QueryAnalysis, memory: &Memory) -> Result<Reply, Halt> {
    let limit = run.flow.limits.turns;
    let fill = Fill {
        toolbox: Some(&run.flow.toolbox),
        query: &run.ask.query,
        conversation: &run.ask.conversation,
        analysis: &analysis.text,
        memory: Some(memory),
        turns_left: if limit == 0 { 99 } else { limit.saturating_sub(memory.entries.len()) },
        ..Fill::default()
    };
    let messages = run.flow.pack.messages(Role::Planner, &fill);
    let completion = run.call(Role::Planner, messages, None).await?;
    Ok(read(&completion.text, &run.flow.toolbox))
}

/// The text a plan is asked for in; what `read` reads without repair.
pub fn write(plan: &Plan) -> String {
    format!("Context: {}\nSub-goal: {}\nTool: {}", plan.context, plan.sub_goal, plan.tool)
}

/// Read a planner's text.
pub fn read(text: &str, toolbox: &Toolbox) -> Reply {
    let (fields, mut repaired) = fields(text);
    let mut plan = Plan { context: fields[0].clone(), sub_goal: fields[1].clone(), tool: String::new() };
    let named = fields[2].trim();
    let refuse = |plan: Plan, reason: String| Reply::Refused { plan, text: text.to_string(), reason };
    if plan.sub_goal.is_empty() {
        return refuse(plan, "the plan names no sub-goal (a line `Sub-goal: ...` is needed)".into());
    }
    if named.is_empty() {
        return refuse(plan, "the plan names no tool (a line `Tool: ...` is needed)".into());
    }
    plan.tool = named.to_string();
    if toolbox.get(named).is_none() {
        let bare: String = named
            .trim_matches(|c: char| !c.is_alphanumeric())
            .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'))
            .next()
            .unwrap_or_default()
            .to_lowercase();
        let Some(tool) = toolbox.names().into_iter().find(|name| *name == bare) else {
            let reason = format!("no tool is called {named:?}; tools: {}", toolbox.names().join(", "));
            return refuse(plan, reason);
        };
        plan.tool = tool.to_string();
        repaired = true;
    }
    Reply::Plan { plan, repaired }
}

/// The three fields in order context, sub-goal, tool, and whether anything had to be mended.
fn fields(text: &str) -> ([String; 3], bool) {
    let after_thinking = text.rsplit("</think>").next().unwrap_or(text);
    let mut found: [Option<String>; 3] = [None, None, None];
    let mut open: Option<usize> = None;
    let mut repaired = after_thinking.len() != text.len();
    for line in after_thinking.trim().lines() {
        let bare = line.trim().trim_start_matches(['*', '-', '#', '>', ' ', '`']);
        if let Some((index, rest, exact)) = field_start(bare) {
            repaired |= !exact || bare.len() != line.len() || found[index].is_some();
            if found[index].is_none() {
                found[index] = Some(rest.to_string());
            }
            open = Some(index);
        } else if let Some(index) = open {
            // A field may go over several lines; the tool may not.
            if index != 2 && !line.trim().is_empty() {
                if let Some(field) = &mut found[index] {
                    field.push(if field.is_empty() { ' ' } else { '\n' });
                    field.push_str(line.trim());
                }
            } else if !line.trim().is_empty() {
                repaired = true;
            }
        } else if !line.trim().is_empty() {
            repaired = true;
        }
    }
    if found.iter().all(Option::is_none)
        && let Some(json) = json_fields(after_thinking)
    {
        return (json, true);
    }
    (found.map(|field| field.unwrap_or_default().trim().to_string()), repaired)
}

fn field_start(line: &str) -> Option<(usize, &str, bool)> {
    let (name, rest) = line.split_once(':')?;
    let canonical = name.trim_matches(['*', ' ', '`']).to_lowercase().replace(['_', ' '], "-");
    let index = match canonical.as_str() {
        "context" => 0,
        "sub-goal" | "subgoal" => 1,
        "tool" | "tool-name" => 2,
        _ => return None,
    };
    let exact = matches!(name, "Context" | "Sub-goal" | "Tool");
    Some((index, rest.trim().trim_start_matches("**").trim(), exact))
}

fn json_fields(text: &str) -> Option<[String; 3]> {
    let start = text.find('{')?;
    let end = text.rfind('}')?;
    let value: serde_json::Value = serde_json::from_str(text.get(start..=end)?).ok()?;
    let get = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| value.get(name).and_then(|v| v.as_str()))
            .unwrap_or_default()
            .to_string()
    };
    Some([
        get(&["context", "Context"]),
        get(&["sub_goal", "sub-goal", "Sub-goal", "subgoal"]),
        get(&["tool", "Tool", "tool_name"]),
    ])
}
