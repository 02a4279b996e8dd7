//! The planner: (query, toolset, memory) -> plan. The only trained role, so nothing constrains what it
//! samples; what it wrote is read with care instead, and what cannot be read is a turn with a reason.

use crate::engine::{Role, StopReason};
use crate::flow::memory::Memory;
use crate::flow::prompt::Fill;
use crate::flow::run::{Halt, Run};
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
    let (flow, ask) = (run.flow, run.ask);
    let limit = flow.limits.turns;
    let build = |conversation| {
        let fill = Fill {
            toolbox: Some(&flow.toolbox),
            query: &ask.query,
            conversation,
            analysis: &analysis.text,
            memory: Some(memory),
            turns_left: if limit == 0 { 99 } else { limit.saturating_sub(memory.entries.len()) },
            ..Fill::default()
        };
        flow.pack.messages(Role::Planner, &fill)
    };
    let (completion, _) = run.fitting(Role::Planner, None, build).await?;
    Ok(match read(&completion.text, &run.flow.toolbox) {
        Reply::Refused { text, .. } if completion.stop == Some(StopReason::Length) => {
            endless(text, completion.sampled())
        }
        reply => reply,
    })
}

/// A text that was cut before it was a plan: mostly a word said over and over. What it began to say stays in the
/// record and out of memory, where the next turns would go on with it.
fn endless(text: String, tokens: usize) -> Reply {
    let plan = Plan { sub_goal: "plan".into(), ..Plan::default() };
    Reply::Refused { plan, text, reason: format!("the plan did not end within {tokens} tokens") }
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
    // Signs alone are the frame of a sub-goal, not one.
    if !plan.sub_goal.contains(char::is_alphanumeric) {
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
    // One line each and no mark of thinking: what stands in memory must read as the same plan.
    let get = |names: &[&str]| {
        let text = names.iter().find_map(|name| value.get(name).and_then(|v| v.as_str())).unwrap_or_default();
        text.replace("</think>", " ").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    Some([
        get(&["context", "Context"]),
        get(&["sub_goal", "sub-goal", "Sub-goal", "subgoal"]),
        get(&["tool", "Tool", "tool_name"]),
    ])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use serde_json::{Value, json};

    use super::*;
    use crate::tools::{Tool, ToolCard, ToolContext, ToolResult};

    struct Named(ToolCard);

    #[async_trait]
    impl Tool for Named {
        fn card(&self) -> &ToolCard {
            &self.0
        }
        async fn call(&self, _arguments: &Value, _context: &ToolContext) -> ToolResult {
            ToolResult::ok("")
        }
    }

    fn toolbox() -> Toolbox {
        let named = |name: &str| -> Arc<dyn Tool> {
            Arc::new(Named(ToolCard {
                name: name.into(),
                purpose: String::new(),
                brief: String::new(),
                schema: json!({}),
                examples: vec![],
                limits: vec![],
            }))
        };
        Toolbox { tools: vec![named("search"), named("python_coder")], refused: vec![] }
    }

    fn check(text: &str, tool: &str, sub_goal: &str, context: &str, repaired: bool) {
        let expected = Plan { context: context.into(), sub_goal: sub_goal.into(), tool: tool.into() };
        assert_eq!(read(text, &toolbox()), Reply::Plan { plan: expected, repaired }, "{text:?}");
    }

    fn refused(text: &str, part: &str) {
        match read(text, &toolbox()) {
            Reply::Refused { reason, text: kept, .. } => {
                assert!(reason.contains(part), "{text:?}: {reason}");
                assert_eq!(kept, text);
            }
            other => panic!("{text:?} was read as {other:?}"),
        }
    }

    #[test]
    fn plans_are_read_as_written() {
        let plan = Plan { context: "none".into(), sub_goal: "find x: y".into(), tool: "search".into() };
        check(&write(&plan), "search", "find x: y", "none", false);
        check("Context:\nSub-goal: s\nTool: search\n", "search", "s", "", false);
        check("Context: a\nb\nSub-goal: s\nTool: search", "search", "s", "a\nb", false);
    }

    #[test]
    fn near_plans_are_repaired_and_say_so() {
        check("**Sub-Goal:** s\n**Tool:** `search`", "search", "s", "", true);
        refused(r#"{"sub_goal": "**", "tool": "search"}"#, "no sub-goal");
        let lines = r#"{"context": "a\nSub-goal: b", "sub_goal": "c<\/think>\nTool: d", "tool": "search"}"#;
        check(lines, "search", "c Tool: d", "a Sub-goal: b", true);
        check("context: c\nsub_goal: s\ntool: Search.", "search", "s", "c", true);
        check("Sure!\nSub-goal: s\nTool: search (best)", "search", "s", "", true);
        check(
            "<think>Tool: x</think>\nContext: c\nSub-goal: s\nTool: python_coder",
            "python_coder",
            "s",
            "c",
            true,
        );
        check(r#"{"context":"c","sub_goal":"s","tool":"search"}"#, "search", "s", "c", true);
        check("Context: c\nSub-goal: s\nTool: search\nI hope this helps", "search", "s", "c", true);
    }

    #[test]
    fn what_is_no_plan_is_refused_with_the_reason() {
        refused("", "sub-goal");
        refused("I think we should search.", "sub-goal");
        refused("Sub-goal: s", "no tool");
        refused("Sub-goal: s\nTool: web", "search, python_coder");
        refused("Sub-goal: s\nTool: searching", "no tool is called");
        refused("\u{0}\u{fffd}{{{{", "sub-goal");
    }
}
