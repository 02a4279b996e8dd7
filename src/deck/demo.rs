//! A deck on scripted events: for looking at it, for its tests and for its figures. No engine, no store.
//!
//! The query's first word picks the script: "fail" ends badly, "hostile" sends escape sequences, "long"
//! streams until cancelled, anything else is answered in three turns.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::deck::app::{App, Input};
use crate::deck::manners::Manners;
use crate::deck::message::{
    CheckLine, DeckCommand, DeckEvent, DeckHandle, DeckOptions, LabelRequest, Past, StatusLine,
};
use crate::deck::theme::Theme;
use crate::engine::{Completion, Message, ModelInfo, Request, Role, Sampler, Speaker, Timings};
use crate::error::Error;
use crate::flow::event::{Body, Cause, Event, ModelCall, Progress, ProgressSource};
use crate::flow::memory::MemoryEntry;
use crate::flow::trajectory::{Command, Decision, Limits, Plan, QueryAnalysis, Trajectory, Verdict};
use crate::tools::{Taint, ToolFault, ToolResult};

const ADAPTER: &str = "a3f9 (step 12)";

/// Show the deck on scripted events.
///
/// # Errors
/// As `deck::run`.
pub fn run() -> Result<(), Error> {
    let (commands, receiver) = unbounded_channel();
    let (sender, events) = channel();
    std::thread::Builder::new()
        .name("demo".to_string())
        .spawn(move || feed(receiver, &sender))
        .map_err(|e| Error::Terminal(e.to_string()))?;
    let mut options = options(DeckHandle { commands, events });
    if let Ok(theme) = std::env::var("TILLERMAN_THEME") {
        options.theme = theme;
    }
    crate::deck::run(options)?;
    println!("This was the demo of the deck; nothing was kept.");
    Ok(())
}

/// Options of the demo on any handle.
pub fn options(handle: DeckHandle) -> DeckOptions {
    DeckOptions {
        handle,
        theme: "default".to_string(),
        manners: Manners::default(),
        session: "demo".to_string(),
        first_lines: first_lines(),
        status: status(),
        past: Vec::new(),
        history: Vec::new(),
        root: None,
        replay: None,
    }
}

fn first_lines() -> Vec<String> {
    [
        "This is the deck on scripted events: every answer below is made up.",
        "The panes show each turn: what the planner chose, the tool call, the verifier's verdict and what memory \
         keeps.",
    ]
    .map(String::from)
    .to_vec()
}

fn status() -> StatusLine {
    StatusLine {
        model: "qwen2.5-7b q4_k_m".to_string(),
        adapter: Some(ADAPTER.to_string()),
        devices: vec!["GPU".to_string()],
        layers_offloaded: 28,
        layers: 28,
        context_used: 0,
        context_total: 8_192,
        tokens_per_s: 0.0,
        busy: None,
    }
}

/// Play the script of every query asked, with pauses, until the deck leaves.
fn feed(mut commands: UnboundedReceiver<DeckCommand>, events: &Sender<DeckEvent>) {
    let mut count = 0;
    while let Some(command) = commands.blocking_recv() {
        match command {
            DeckCommand::Ask { query, .. } => {
                count += 1;
                match query.as_str() {
                    // For the tests of the panic hook: a thread the deck outlives, and one it does not.
                    "panic" => crash("background"),
                    "crash" => crash("deck-crash"),
                    _ => {}
                }
                if !play(&format!("demo-{count}"), &query, &mut commands, events) {
                    return;
                }
            }
            DeckCommand::Label(request) => drop(events.send(stored(request))),
            DeckCommand::NewConversation => {
                drop(events.send(DeckEvent::Conversation { session: format!("demo-session-{count}") }));
            }
            DeckCommand::Doctor => drop(events.send(DeckEvent::Checks(checks()))),
            DeckCommand::Cancel
            | DeckCommand::Expires { .. }
            | DeckCommand::Library(_)
            | DeckCommand::Study(_)
            | DeckCommand::Remember { .. } => {}
            DeckCommand::Approve { .. } | DeckCommand::ApproveServer { .. } => {}
            DeckCommand::Quit => return,
        }
    }
}

/// One check that passes and one that does not.
pub fn checks() -> Vec<CheckLine> {
    let line = |name: &str, ok, text: &str, remedy: &str| CheckLine {
        name: name.to_string(),
        ok,
        text: text.to_string(),
        remedy: remedy.to_string(),
    };
    vec![
        line("engine", true, "sampled 8 tokens (41 tokens/s in this short run)", ""),
        line("sandbox", false, "no interpreter was found", "install Python 3 (Debian: apt install python3)"),
    ]
}

/// A thread of this name that panics.
fn crash(name: &str) {
    let _ =
        std::thread::Builder::new().name(name.to_string()).spawn(|| panic!("the demo was asked to crash"));
}

fn stored(request: LabelRequest) -> DeckEvent {
    let LabelRequest { trajectory, turn, scope, value, correction, .. } = request;
    DeckEvent::LabelStored { trajectory, turn, scope, value, correction }
}

/// One query; false when the deck has left.
fn play(
    id: &str,
    query: &str,
    commands: &mut UnboundedReceiver<DeckCommand>,
    events: &Sender<DeckEvent>,
) -> bool {
    let mut turn = 0;
    for (pause_ms, event) in script(id, query) {
        std::thread::sleep(Duration::from_millis(pause_ms));
        if let DeckEvent::Flow(Event { body: Body::TurnStarted { turn: started }, .. }) = &event {
            turn = *started;
        }
        if events.send(event).is_err() {
            return false;
        }
        while let Ok(command) = commands.try_recv() {
            match command {
                DeckCommand::Cancel => {
                    let body = Body::Cancelled { turn };
                    let event = Event { trajectory: id.to_string(), seq: 999, t_ms: 1_000.0, body };
                    return events.send(DeckEvent::Flow(event)).is_ok();
                }
                DeckCommand::Label(request) => drop(events.send(stored(request))),
                DeckCommand::Quit => return false,
                _ => {}
            }
        }
    }
    true
}

/// Writes the events of one trajectory, each with the pause before it in milliseconds.
struct Script {
    id: String,
    events: Vec<(u64, DeckEvent)>,
    seq: u64,
    t_ms: f64,
}

impl Script {
    fn push(&mut self, pause_ms: u64, body: Body) {
        self.t_ms += pause_ms as f64;
        let event = Event { trajectory: self.id.clone(), seq: self.seq, t_ms: self.t_ms, body };
        self.seq += 1;
        self.events.push((pause_ms, DeckEvent::Flow(event)));
    }

    /// Stream `text` word by word, then the model call that holds it.
    fn call(&mut self, role: Role, turn: usize, text: &str) {
        self.stream(ProgressSource::Role(role), turn, text, 12);
        self.push(5, Body::ModelCall(Box::new(model_call(role, turn, text))));
    }

    fn stream(&mut self, source: ProgressSource, turn: usize, text: &str, pause_ms: u64) {
        for piece in text.split_inclusive(' ') {
            self.t_ms += pause_ms as f64;
            let progress = Progress { trajectory: self.id.clone(), turn, source, text: piece.to_string() };
            self.events.push((pause_ms, DeckEvent::Progress(progress)));
        }
    }

    fn turn(&mut self, turn: usize, plan: Plan, command: Command, result: ToolResult, verdict: Verdict) {
        self.push(5, Body::TurnStarted { turn });
        let text = format!("context: {}\nsub-goal: {}\ntool: {}", plan.context, plan.sub_goal, plan.tool);
        self.call(Role::Planner, turn, &text);
        self.push(1, Body::Plan { turn, plan: plan.clone(), repaired: false });
        self.call(Role::Executor, turn, &command.arguments.to_string());
        self.push(1, Body::Command { turn, command: command.clone() });
        self.push(result.time_ms as u64, Body::ToolResult { turn, result: result.clone() });
        self.call(Role::Verifier, turn, &verdict.reason);
        self.push(1, Body::Verdict { turn, verdict: verdict.clone() });
        let entry = MemoryEntry {
            turn,
            sub_goal: plan.sub_goal,
            tool: command.tool,
            command: command.arguments,
            result: result.text,
            cut_chars: 0,
            error: result.fault.is_some(),
            verdict,
            time_ms: result.time_ms,
        };
        self.push(1, Body::Memory { turn, entry });
    }
}

fn model_call(role: Role, turn: usize, text: &str) -> ModelCall {
    let count = text.split(' ').count() + 1;
    let messages = vec![
        Message::new(Speaker::System, [format!("You are the {} of a team.", role.name())]),
        Message::new(Speaker::User, ["What is the population of Peru divided by that of Chile?"]),
    ];
    let request = Request { role, messages, sampler: Sampler::greedy(), constraint: None, max_tokens: 0 };
    let completion = Completion {
        text: text.to_string(),
        prompt_ids: vec![1; 700 + 400 * turn],
        completion_ids: vec![1; count],
        // Made up, but with every step of likely and unlikely in it.
        logprobs: (0..count).map(|n| -((n * 7 % 10) as f32).powi(2) / 20.0).collect(),
        forced: (0..count).map(|n| role == Role::Verifier && n == 0).collect(),
        reused: 300 * turn,
        timings: Timings { queue_ms: 0.4, prefill_ms: 4.0, decode_ms: count as f64 / 41.0 * 1e3 },
        ..Completion::default()
    };
    ModelCall { role, turn, request, completion }
}

/// The events of one query.
pub fn script(id: &str, query: &str) -> Vec<(u64, DeckEvent)> {
    let mut script = Script { id: id.to_string(), events: Vec::new(), seq: 0, t_ms: 0.0 };
    script.push(20, started(query));
    match query.split_whitespace().next().unwrap_or_default() {
        "fail" => failing(&mut script),
        "hostile" => hostile(&mut script),
        "long" => long(&mut script),
        _ => answered(&mut script),
    }
    script.events
}

/// The same, only what is recorded.
pub fn events(id: &str, query: &str) -> Vec<Event> {
    let event = |(_, event)| if let DeckEvent::Flow(event) = event { Some(event) } else { None };
    script(id, query).into_iter().filter_map(event).collect()
}

/// A planner's call of the script.
pub fn planner_call() -> ModelCall {
    model_call(Role::Planner, 1, "context: none sub-goal: divide the two tool: python")
}

fn started(query: &str) -> Body {
    Body::Started {
        query: query.to_string(),
        session: "demo".to_string(),
        conversation: Vec::new(),
        model: ModelInfo { name: "qwen2.5-7b".to_string(), ..ModelInfo::default() },
        adapter: Some("a3f9".to_string()),
        pack: "full".to_string(),
        tools: ["calculator", "search", "python"].map(String::from).to_vec(),
        limits: Limits::default(),
        seed: 7,
        started_ms: 0,
        version: env!("CARGO_PKG_VERSION").to_string(),
        parent: None,
        taint: Taint::default(),
        sandbox: Some("A".to_string()),
    }
}

fn plan(context: &str, sub_goal: &str, tool: &str) -> Plan {
    Plan { context: context.to_string(), sub_goal: sub_goal.to_string(), tool: tool.to_string() }
}

fn command(tool: &str, arguments: serde_json::Value) -> Command {
    Command { tool: tool.to_string(), arguments }
}

fn verdict(decision: Decision, reason: &str) -> Verdict {
    Verdict { decision, reason: reason.to_string() }
}

fn answered(script: &mut Script) {
    let analysis = "Two look-ups (the population of Peru, of Chile), then one division.";
    script.call(Role::Analyst, 0, analysis);
    script.push(1, Body::Analysis { analysis: QueryAnalysis { text: analysis.to_string() } });
    script.turn(
        1,
        plan("", "find the population of Peru and of Chile", "search"),
        command("search", json!({"query": "population Peru Chile", "count": 2})),
        ToolResult {
            sources: vec!["knowledge/countries.csv".to_string()],
            time_ms: 12.0,
            ..ToolResult::ok("Peru: population 34.0 million, capital Lima\nChile: population 19.6 million, capital Santiago")
        },
        verdict(Decision::Continue, "both figures are known, the ratio is not"),
    );
    script.turn(
        2,
        plan("Peru 34.0M, Chile 19.6M", "divide the two", "python"),
        command(
            "python",
            json!({"code": "peru = 34_000_000\nchile = 19_600_000\n# one division\nprint(peru / chile)\n"}),
        ),
        ToolResult {
            exit: Some(0),
            tier: Some("A".to_string()),
            time_ms: 412.0,
            ..ToolResult::ok("1.7346938775510203\n")
        },
        verdict(Decision::Continue, "the ratio is there; check it once by other means"),
    );
    script.turn(
        3,
        plan("1.7346938775510203", "check the ratio", "calculator"),
        command("calculator", json!({"expression": "34.0 / 19.6"})),
        ToolResult { time_ms: 0.4, ..ToolResult::ok("approx. 1.7346938775") },
        verdict(Decision::Stop, "the answer is complete and agrees with the check"),
    );
    let answer = "**1.73**: Peru has 34.0 million people, Chile 19.6 million.\n\n- `34.0 / 19.6 = 1.7347`\n- source: the bundled knowledge";
    finish(script, answer, 3);
}

fn finish(script: &mut Script, answer: &str, turns: usize) {
    script.call(Role::Generator, 0, answer);
    let (seconds, tokens) = (4.2, 812);
    let stopped_by = "verifier".to_string();
    script.push(1, Body::Answered { answer: answer.to_string(), turns, seconds, tokens, stopped_by });
}

fn failing(script: &mut Script) {
    script.push(30, Body::TurnStarted { turn: 1 });
    script.call(Role::Planner, 1, "I would rather not use any tool here.");
    let (text, reason) = ("I would rather not use any tool here.", "the plan names no tool");
    script.push(1, Body::PlanRefused { turn: 1, text: text.to_string(), reason: reason.to_string() });
    script.turn(
        2,
        plan("", "divide by zero", "calculator"),
        command("calculator", json!({"expression": "1/0"})),
        ToolResult::fault(ToolFault::Failed, "division by zero"),
        verdict(Decision::Continue, "no result yet"),
    );
    script.push(
        30,
        Body::Failed {
            reason: "the engine worker died of signal 9 while decoding".to_string(),
            remedy: "it restarts with the next query; ask again".to_string(),
            cause: Cause::EngineDied,
        },
    );
}

/// What a model, a tool or a page could try on a terminal.
pub const HOSTILE: &str = "a\u{1b}]52;c;cm0gLXJmIH4=\u{7}b\u{1b}]0;owned\u{7}c\u{1b}[2J\u{1b}[31md\u{9b}1;1H\u{202e}live\u{202c}\u{e0041}\u{1b}P+q\u{1b}\\e\rf\u{8}";

fn hostile(script: &mut Script) {
    script.call(Role::Analyst, 0, HOSTILE);
    script.push(1, Body::Analysis { analysis: QueryAnalysis { text: HOSTILE.to_string() } });
    script.turn(
        1,
        plan(HOSTILE, HOSTILE, HOSTILE),
        command(HOSTILE, json!({ "code": HOSTILE, HOSTILE: HOSTILE })),
        ToolResult { sources: vec![HOSTILE.to_string()], ..ToolResult::ok(HOSTILE) },
        verdict(Decision::Stop, HOSTILE),
    );
    finish(script, HOSTILE, 1);
}

fn long(script: &mut Script) {
    let words = "The quick brown fox jumps over the lazy dog, and the dog does not mind. ".repeat(400);
    script.push(5, Body::TurnStarted { turn: 1 });
    script.call(Role::Planner, 1, "sub-goal: write a long answer");
    script.push(1, Body::LimitReached { limit: "turns (1)".to_string() });
    script.stream(ProgressSource::Role(Role::Generator), 0, &words, 25);
    finish(script, &words, 1);
}

/// An app of the demo without a terminal, with `cells` finished queries.
///
/// # Errors
/// The theme does not load.
pub fn app(cells: usize, size: (u16, u16)) -> Result<App, Error> {
    app_with(past(cells), size)
}

/// The same with these finished queries.
///
/// # Errors
/// The theme does not load.
pub fn app_with(past: Vec<Past>, size: (u16, u16)) -> Result<App, Error> {
    let (commands, _) = unbounded_channel();
    let (_, events) = channel();
    let mut options = options(DeckHandle { commands, events });
    options.past = past;
    let theme = Theme::named(&options.theme)?;
    Ok(App::new(&mut options, theme, size))
}

/// Finished queries of an earlier run.
pub fn past(count: usize) -> Vec<Past> {
    let events: Vec<Event> = script("past", "What is the population of Peru divided by that of Chile?")
        .into_iter()
        .filter_map(|(_, event)| match event {
            DeckEvent::Flow(event) if !matches!(event.body, Body::ModelCall(_)) => Some(event),
            _ => None,
        })
        .collect();
    let whole = Trajectory::from_events(&events);
    let one = |n| Past {
        trajectory: Trajectory { id: format!("past-{n}"), ..whole.clone() },
        labels: Vec::new(),
        outline: false,
    };
    (0..count).map(one).collect()
}

/// Ask `query` in `app` and let its trajectory "live" begin, up to the first words of the answer.
pub fn begin(app: &mut App, query: &str) {
    app.update(Input::Paste(query.to_string()), 0);
    app.update(crate::deck::app::press(crossterm::event::KeyCode::Enter), 0);
    for (_, event) in script("live", query) {
        let ends = matches!(&event, DeckEvent::Flow(event) if event.body.is_last())
            || matches!(&event, DeckEvent::Flow(Event { body: Body::ModelCall(call), .. }) if call.role == Role::Generator);
        if ends {
            break;
        }
        app.update(Input::Deck(Box::new(event)), 0);
    }
}

/// One more token of the answer of trajectory "live".
pub fn token(n: usize) -> Input {
    let progress = Progress {
        trajectory: "live".to_string(),
        turn: 0,
        source: ProgressSource::Role(Role::Generator),
        text: format!("word{n} "),
    };
    Input::Deck(Box::new(DeckEvent::Progress(progress)))
}
