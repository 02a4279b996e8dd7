//! The verifier: (query, result, memory) -> stop or continue. Held by a schema of two fields.

use serde_json::{Value, json};

use crate::engine::{Constraint, Role};
use crate::flow::memory::{Memory, cut};
use crate::flow::prompt::Fill;
use crate::flow::run::{Halt, Run};
use crate::flow::trajectory::{Command, Decision, Plan, Verdict};
use crate::tools::ToolResult;

/// Judge whether memory and the newest result answer the query.
pub async fn verify(
    run: &mut Run<'_>,
    memory: &Memory,
    plan: &Plan,
    command: &Command,
    result: &ToolResult,
) -> Result<Verdict, Halt> {
    let (shown, _) = cut(&result.text, run.result_chars());
    let arguments = command.arguments.to_string();
    let (flow, ask) = (run.flow, run.ask);
    let build = |conversation| {
        let fill = Fill {
            toolbox: Some(&flow.toolbox),
            query: &ask.query,
            conversation,
            memory: Some(memory),
            context: &plan.context,
            sub_goal: &plan.sub_goal,
            tool: &plan.tool,
            command: &arguments,
            result: &shown,
            ..Fill::default()
        };
        flow.pack.messages(Role::Verifier, &fill)
    };
    let schema =
        Constraint::JsonSchema(schema(run.flow.pack.of(Role::Verifier).settings.reason_first).to_string());
    let (completion, _) = run.fitting(Role::Verifier, Some(schema), build).await?;
    Ok(read(&completion.text))
}

/// The form of a verdict. A model that reasons puts the reason first; the embedded one decides first.
pub fn schema(reason_first: bool) -> Value {
    let reason = json!({"type": "string", "maxLength": 400});
    let decision = json!({"enum": ["stop", "continue"]});
    let properties = if reason_first {
        json!({"reason": reason, "decision": decision})
    } else {
        json!({"decision": decision, "reason": reason})
    };
    let required: Vec<&String> = properties.as_object().map(|o| o.keys().collect()).unwrap_or_default();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// The text a verdict is given in.
pub fn write(verdict: &Verdict, reason_first: bool) -> String {
    let decision = match verdict.decision {
        Decision::Stop => "stop",
        Decision::Continue => "continue",
    };
    let reason = Value::from(verdict.reason.as_str());
    if reason_first {
        format!(r#"{{"reason":{reason},"decision":"{decision}"}}"#)
    } else {
        format!(r#"{{"decision":"{decision}","reason":{reason}}}"#)
    }
}

/// Read a verdict. A cut or unreadable one continues: stopping needs a clear word.
pub fn read(text: &str) -> Verdict {
    let value: Value = serde_json::from_str(text.trim()).unwrap_or(Value::Null);
    let reason = value["reason"].as_str().unwrap_or("the verdict could not be read").to_string();
    let decision = match value["decision"].as_str() {
        Some("stop") => Decision::Stop,
        _ => Decision::Continue,
    };
    Verdict { decision, reason }
}
