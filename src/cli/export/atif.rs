//! A trajectory as ATIF (Agent Trajectory Interchange Format, Harbor's RFC 0001): one JSON object whose steps are
//! the query, then every model call in its order, with ids and log-probabilities in the fields the format has for
//! them. Fields of version 1.4 alone, so that readers of any later version take it; what it has no field for stands
//! in `extra`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::engine::Role;
use crate::flow::event::ModelCall;
use crate::flow::trajectory::{Outcome, Trajectory, Turn};
use crate::store::Label;

const VERSION: &str = "ATIF-v1.4";

/// `labels`: all that were given on the trajectory; `group`: the one it was drawn in.
pub fn trajectory(of: &Trajectory, labels: &[Label], group: Option<&str>) -> Value {
    let mut steps = vec![json!({
        "step_id": 1,
        "timestamp": time(of.started_ms),
        "source": "user",
        "message": of.query,
    })];
    // The call that ran stands on the step of the executor that asked for it, once.
    let mut told = Vec::new();
    for call in &of.calls {
        let turn = of.turns.iter().find(|turn| turn.turn == call.turn && call.role == Role::Executor);
        let turn = turn.filter(|turn| !told.contains(&turn.turn) && turn.command.is_some());
        told.extend(turn.map(|turn| turn.turn));
        steps.push(agent(of, call, turn, steps.len() + 1));
    }
    let (status, more) = match &of.outcome {
        Outcome::Running => ("running", Value::Null),
        Outcome::Answered => ("answered", Value::Null),
        Outcome::Failed { reason, remedy, .. } => ("failed", json!({"reason": reason, "remedy": remedy})),
        Outcome::Cancelled => ("cancelled", Value::Null),
    };
    let sum = |count: fn(&ModelCall) -> usize| of.calls.iter().map(count).sum::<usize>();
    json!({
        "schema_version": VERSION,
        "session_id": of.session,
        "agent": {
            "name": "tillerman",
            "version": env!("CARGO_PKG_VERSION"),
            "model_name": of.model.name,
            "extra": {
                "model_blake3": of.model.hash,
                "file_type": of.model.file_type,
                "adapter": of.adapter,
                "prompts": of.pack,
                "tools": of.tools,
            },
        },
        "steps": steps,
        "final_metrics": {
            "total_prompt_tokens": sum(prompt_tokens),
            "total_completion_tokens": sum(|call| call.completion.sampled()),
            "total_cached_tokens": sum(|call| call.completion.reused),
            "total_steps": of.calls.len() + 1,
            "extra": {"seconds": of.seconds, "turns": of.turns.len()},
        },
        "extra": {
            "trajectory": of.id,
            "status": status,
            "failure": more,
            "answer": of.answer,
            "limit": of.limit,
            "conversation": of.conversation,
            "parent": of.parent,
            "memory": of.memory.entries,
            "flow_grpo": {"group": group, "seed": of.seed, "label_events": labels},
        },
    })
}

/// One model call; with the turn whose command it gave, that command and its result.
fn agent(of: &Trajectory, call: &ModelCall, turn: Option<&Turn>, step: usize) -> Value {
    let completion = &call.completion;
    let trainable = call.role == Role::Planner && completion.remote.is_none();
    let mut object = Map::new();
    object.insert("step_id".into(), json!(step));
    object.insert("source".into(), json!("agent"));
    let model = completion.remote.as_ref().map_or(of.model.name.as_str(), |remote| remote.model.as_str());
    object.insert("model_name".into(), json!(model));
    object.insert("message".into(), json!(completion.text));
    if let Some(turn) = turn
        && let Some(command) = &turn.command
    {
        let id = format!("turn-{}", turn.turn);
        // The format has objects only; what a planner made of it is kept beside.
        let arguments = if command.arguments.is_object() { command.arguments.clone() } else { json!({}) };
        object.insert(
            "tool_calls".into(),
            json!([{"tool_call_id": id, "function_name": command.tool, "arguments": arguments}]),
        );
        if let Some(result) = &turn.result {
            let results = json!([{"source_call_id": id, "content": result.text}]);
            object.insert("observation".into(), json!({"results": results}));
        }
    }
    let mut metrics = Map::new();
    metrics.insert("prompt_tokens".into(), json!(prompt_tokens(call)));
    metrics.insert("completion_tokens".into(), json!(completion.sampled()));
    metrics.insert("cached_tokens".into(), json!(completion.reused));
    if !completion.completion_ids.is_empty() {
        metrics.insert("prompt_token_ids".into(), json!(completion.prompt_ids));
        metrics.insert("completion_token_ids".into(), json!(completion.completion_ids));
        metrics.insert("logprobs".into(), json!(completion.logprobs));
    }
    object.insert("metrics".into(), Value::Object(metrics));
    let result = turn.and_then(|turn| turn.result.as_ref());
    let messages =
        call.request.messages.iter().map(|m| json!({"role": m.speaker.name(), "content": m.text()}));
    object.insert(
        "extra".into(),
        json!({
            "role": call.role.name(),
            "turn": call.turn,
            "trainable": trainable,
            "adapter": completion.adapter,
            "chat_template_blake3": completion.template_hash,
            "sampler": call.request.sampler,
            "forced": completion.forced,
            "prompt": messages.collect::<Vec<_>>(),
            "timings": completion.timings,
            "fault": result.and_then(|result| result.fault),
            "exit": result.and_then(|result| result.exit),
        }),
    );
    Value::Object(object)
}

fn prompt_tokens(call: &ModelCall) -> usize {
    call.completion.context_used() - call.completion.sampled()
}

fn time(ms: i64) -> Option<String> {
    Timestamp::from_millisecond(ms).ok().map(|instant| instant.to_string())
}
