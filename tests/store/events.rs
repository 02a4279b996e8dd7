//! Events to write: any event at all for the property test, and a small true-to-life trajectory.

use proptest::prelude::*;
use serde_json::{Value, json};
use tillerman::engine::*;
use tillerman::flow::event::{Body, Cause, Event, ModelCall};
use tillerman::flow::memory::MemoryEntry;
use tillerman::flow::trajectory::*;
use tillerman::tools::approval::By;
use tillerman::tools::{Answer, Approval, Consent, Effects, Taint, ToolFault, ToolResult};

pub fn started(id: &str, session: &str, query: &str, conversation: Vec<(String, String)>) -> Event {
    let body = Body::Started {
        query: query.into(),
        session: session.into(),
        conversation,
        model: ModelInfo { name: "toy".into(), hash: "m".repeat(64), ..ModelInfo::default() },
        adapter: Some("a".repeat(64)),
        pack: "compact".into(),
        tools: vec!["calculator".into()],
        limits: Limits::default(),
        seed: u64::MAX - 1,
        started_ms: 1_790_000_000_000,
        version: "0".into(),
        parent: None,
        taint: Taint::default(),
        sandbox: None,
    };
    Event { trajectory: id.into(), seq: 0, t_ms: 0.0, body }
}

pub fn call(turn: usize, text: &str, tokens: usize) -> Body {
    let ids: Vec<i32> = (0..).take(tokens).collect();
    Body::ModelCall(Box::new(ModelCall {
        role: Role::Planner,
        turn,
        request: Request {
            role: Role::Planner,
            messages: vec![Message::new(Speaker::System, ["plan"]), Message::new(Speaker::User, ["q", "m"])],
            sampler: Sampler::temperature(0.7, u64::MAX),
            constraint: None,
            max_tokens: 64,
        },
        completion: Completion {
            text: text.into(),
            prompt_ids: vec![1, 2, i32::MAX, -1],
            logprobs: ids.iter().map(|id| -(*id as f32) / 3.0).collect(),
            forced: ids.iter().map(|id| id % 3 == 0).collect(),
            completion_ids: ids,
            stop: Some(StopReason::EndOfTurn),
            reused: 3,
            adapter: Some("a".repeat(64)),
            template_hash: "t".repeat(64),
            timings: Timings { queue_ms: 0.1, prefill_ms: 2.5, decode_ms: 30.25 },
            remote: Some(RemoteCall { engine: "box".into(), attempts: 2, ..RemoteCall::default() }),
        },
    }))
}

pub fn memory(turn: usize, result: &str) -> Body {
    let verdict = Verdict { decision: Decision::Stop, reason: "done".into() };
    Body::Memory {
        turn,
        entry: MemoryEntry {
            turn,
            sub_goal: "add".into(),
            tool: "calculator".into(),
            command: json!({"expression": "37*41+5"}),
            result: result.into(),
            cut_chars: 0,
            error: false,
            verdict,
            time_ms: 12.5,
        },
    }
}

/// A query answered in one turn.
pub fn trajectory(id: &str, session: &str, query: &str, answer: &str) -> Vec<Event> {
    let plan = Plan { context: String::new(), sub_goal: "compute".into(), tool: "calculator".into() };
    let command = Command { tool: "calculator".into(), arguments: json!({"expression": "37*41+5"}) };
    let result = ToolResult { tier: Some("A".into()), time_ms: 0.4, ..ToolResult::ok(answer) };
    let bodies = vec![
        call(0, "a question of arithmetic", 5),
        Body::Analysis { analysis: QueryAnalysis { text: "arithmetic".into() } },
        Body::TurnStarted { turn: 1 },
        call(1, "plan", 7),
        Body::Plan { turn: 1, plan, repaired: false },
        Body::Command { turn: 1, command },
        Body::ToolResult { turn: 1, result },
        Body::Verdict { turn: 1, verdict: Verdict { decision: Decision::Stop, reason: "enough".into() } },
        memory(1, answer),
        Body::Answered {
            answer: answer.into(),
            turns: 1,
            seconds: 0.5,
            tokens: 12,
            stopped_by: "verdict".into(),
        },
    ];
    let mut events = vec![started(id, session, query, Vec::new())];
    events.extend(numbered(id, 1, bodies));
    events
}

pub fn numbered(id: &str, from: u64, bodies: Vec<Body>) -> impl Iterator<Item = Event> {
    (from..).zip(bodies).map(move |(seq, body)| Event {
        trajectory: id.to_string(),
        seq,
        t_ms: seq as f64 * 10.5,
        body,
    })
}

/// Text of every kind, now and then long enough for a blob.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "\\PC{0,30}",
        2 => "[\\x00-\\x1f\"\\\\/~]{0,10}",
        1 => (60_000usize..70_000, "[a-zé]{1,3}").prop_map(|(n, piece)| piece.repeat(n)),
    ]
}

fn real() -> impl Strategy<Value = f64> {
    prop_oneof![Just(-0.0), 0.0..1e6, any::<f64>().prop_filter("finite", |x| x.is_finite())]
}

/// A duration; SQLite keeps no sign on a zero.
fn ms() -> impl Strategy<Value = f64> {
    real().prop_map(f64::abs)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        real().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z/~ é]{0,5}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    (any::<bool>(), text()).prop_map(|(stop, reason)| Verdict {
        decision: if stop { Decision::Stop } else { Decision::Continue },
        reason,
    })
}

fn result() -> impl Strategy<Value = ToolResult> {
    let fault = prop_oneof![Just(None), Just(Some(ToolFault::Failed)), Just(Some(ToolFault::Limit))];
    let tier = prop::option::of("[ABC]");
    (text(), fault, prop::option::of(any::<i32>()), tier, prop::collection::vec(text(), 0..3), ms()).prop_map(
        |(text, fault, exit, tier, sources, time_ms)| ToolResult {
            text,
            fault,
            exit,
            tier,
            sources,
            effects: Effects { reads_private: time_ms > 1.0, ..Effects::default() },
            time_ms,
            calls: Vec::new(),
        },
    )
}

fn model_call() -> impl Strategy<Value = Body> {
    let tokens = prop::collection::vec((any::<i32>(), any::<i32>(), any::<bool>()), 0..40);
    let request = (
        prop::sample::select(Role::ALL.to_vec()),
        prop::collection::vec(prop::collection::vec(text(), 0..3), 0..3),
        (0.0f32..2.0, any::<i32>(), 0.0f32..1.0, any::<u64>()),
        prop::option::of(text()),
        any::<u32>(),
    );
    (request, text(), prop::collection::vec(any::<i32>(), 0..50), tokens, prop::option::of(text()), ms())
        .prop_map(
            |(
                (role, parts, (temperature, top_k, top_p, seed), grammar, max),
                text,
                prompt_ids,
                tokens,
                adapter,
                ms,
            )| {
                let messages = parts.into_iter().map(|parts| Message::new(Speaker::User, parts)).collect();
                let sampler = Sampler { temperature, top_k, top_p, min_p: 0.05, seed };
                let constraint = grammar.map(Constraint::Grammar);
                let request = Request { role, messages, sampler, constraint, max_tokens: max as usize };
                let completion = Completion {
                    text,
                    prompt_ids,
                    completion_ids: tokens.iter().map(|t| t.0).collect(),
                    // Any bits that are a number, infinity included: a masked token's log-probability is one.
                    logprobs: tokens
                        .iter()
                        .map(|t| f32::from_bits(t.1 as u32))
                        .map(|p| if p.is_nan() { f32::NEG_INFINITY } else { p })
                        .collect(),
                    forced: tokens.iter().map(|t| t.2).collect(),
                    stop: Some(StopReason::Length),
                    reused: max as usize / 2,
                    adapter,
                    template_hash: "t".into(),
                    timings: Timings { queue_ms: ms, prefill_ms: 0.0, decode_ms: ms },
                    remote: None,
                };
                Body::ModelCall(Box::new(ModelCall { role, turn: 3, request, completion }))
            },
        )
}

/// Any body but `Started`.
pub fn body() -> impl Strategy<Value = Body> {
    let turn = 0usize..12;
    let plan =
        (text(), text(), text()).prop_map(|(context, sub_goal, tool)| Plan { context, sub_goal, tool });
    prop_oneof![
        model_call(),
        text().prop_map(|text| Body::Analysis { analysis: QueryAnalysis { text } }),
        turn.clone().prop_map(|turn| Body::TurnStarted { turn }),
        (turn.clone(), plan, any::<bool>()).prop_map(|(turn, plan, repaired)| Body::Plan {
            turn,
            plan,
            repaired
        }),
        (turn.clone(), text(), text()).prop_map(|(turn, text, reason)| Body::PlanRefused {
            turn,
            text,
            reason
        }),
        (turn.clone(), text(), value())
            .prop_map(|(turn, tool, arguments)| Body::Command { turn, command: Command { tool, arguments } }),
        (turn.clone(), text(), value()).prop_map(|(turn, tool, arguments)| Body::ApprovalAsked {
            turn,
            approval: Approval { tool, arguments, effects: Effects::default(), sandboxed: turn > 1 },
        }),
        turn.clone().prop_map(|turn| Body::ApprovalAnswered {
            turn,
            answer: Answer { consent: Consent::Session, by: By::Person },
        }),
        (turn.clone(), result()).prop_map(|(turn, result)| Body::ToolResult { turn, result }),
        (turn.clone(), verdict()).prop_map(|(turn, verdict)| Body::Verdict { turn, verdict }),
        (turn.clone(), text()).prop_map(|(turn, result)| memory(turn, &result)),
        text().prop_map(|limit| Body::LimitReached { limit }),
        (text(), real()).prop_map(|(answer, seconds)| Body::Answered {
            answer,
            turns: 2,
            seconds,
            tokens: 9,
            stopped_by: "verdict".into()
        }),
        (text(), text(), prop_oneof![Just(Cause::Engine), Just(Cause::Unknown)])
            .prop_map(|(reason, remedy, cause)| Body::Failed { reason, remedy, cause }),
        turn.prop_map(|turn| Body::Cancelled { turn }),
        value().prop_map(|value| Body::Unknown(json!({"kind": "of_a_later_version", "more": value}))),
    ]
}

/// A started event and up to nine others.
pub fn any_events() -> impl Strategy<Value = Vec<Event>> {
    let conversation = prop::collection::vec((text(), text()), 0..3);
    (text(), conversation, prop::collection::vec((body(), ms()), 0..9)).prop_map(
        |(query, conversation, bodies)| {
            let id = tillerman::store::new_id();
            let mut events = vec![started(&id, "a session", &query, conversation)];
            for (seq, (body, t_ms)) in (1..).zip(bodies) {
                events.push(Event { trajectory: id.clone(), seq, t_ms, body });
            }
            events
        },
    )
}
