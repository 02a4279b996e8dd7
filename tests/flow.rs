//! The true loop with the scripted engine and real tools: every way through it ends in a well-formed record.

#[path = "flow/circles.rs"]
mod circles;
#[path = "flow/context.rs"]
mod context;
#[path = "flow/cores.rs"]
mod cores;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tillerman::engine::scripted::ScriptedEngine;
use tillerman::engine::{Constraint, Engine, Request, Role};
use tillerman::error::EngineError;
use tillerman::flow::event::{Body, Cause, Collect, Event, Sink};
use tillerman::flow::fork::Prior;
use tillerman::flow::prompt::Pack;
use tillerman::flow::quote;
use tillerman::flow::solve::{Ask, Flow, QUERY_CHARS_MAX, solve};
use tillerman::flow::trajectory::{Decision, Limits, Outcome, Trajectory};
use tillerman::tools::calculator::Calculator;
use tillerman::tools::{ToolFault, Toolbox};
use tokio_util::sync::CancellationToken;

const PLAN: &str = "Context: none\nSub-goal: compute 6*7\nTool: calculator";

fn say(role: Role) -> &'static str {
    match role {
        Role::Analyst => "Asks for a number.",
        Role::Planner => PLAN,
        Role::Executor => r#"{"expression":"6*7"}"#,
        Role::Verifier => r#"{"decision":"stop","reason":"answer found"}"#,
        Role::Generator => "42",
        Role::Base => "I do not know.",
    }
}

/// The compact pack with room for scripts, whose tokens are bytes.
fn pack() -> Pack {
    let mut pack = Pack::bundled("compact").unwrap();
    pack.settings.max_tokens.values_mut().for_each(|tokens| *tokens = 4096);
    pack
}

fn flow(engine: impl Engine + 'static) -> Flow {
    Flow {
        engine: Arc::new(engine),
        toolbox: Arc::new(Toolbox { tools: vec![Arc::new(Calculator::new())], refused: vec![] }),
        pack: Arc::new(pack()),
        // The scripts below say the same thing every turn.
        limits: Limits { repeats: 0, ..Limits::default() },
        planner_temperature: None,
        adapter: None,
        approvals: Arc::default(),
    }
}

fn ask(query: &str) -> Ask {
    Ask { id: "t".into(), session: "s".into(), query: query.into(), seed: 7, ..Ask::default() }
}

/// Run and check what must hold of every record: sequence, one last event, and fold equals what was returned.
async fn run(flow: &Flow, ask: &Ask, cancel: CancellationToken) -> (Trajectory, Vec<Event>) {
    let sink = Arc::new(Collect::default());
    let trajectory = solve(flow, ask, sink.clone(), cancel).await;
    let events = sink.events();
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event.seq, index as u64);
        assert_eq!(event.body.is_last(), index + 1 == events.len(), "{:?}", event.body);
    }
    assert!(matches!(events[0].body, Body::Started { .. }));
    assert_eq!(Trajectory::from_events(&events), trajectory);
    let text = serde_json::to_string(&events).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Event>>(&text).unwrap(), events, "events survive JSON");
    (trajectory, events)
}

#[tokio::test]
async fn a_question_is_planned_executed_verified_remembered_and_answered() {
    let flow = flow(ScriptedEngine::new(|request: &Request| Ok(say(request.role))));
    let (trajectory, events) = run(&flow, &ask("What is 6*7?"), CancellationToken::new()).await;
    assert_eq!(trajectory.outcome, Outcome::Answered);
    assert_eq!(trajectory.answer.as_deref(), Some("42"));
    assert_eq!(trajectory.turns.len(), 1);
    let entry = &trajectory.memory.entries[0];
    assert_eq!((entry.result.as_str(), entry.error, entry.verdict.decision), ("42", false, Decision::Stop));
    let kinds: Vec<String> = events
        .iter()
        .map(|e| serde_json::to_value(e).unwrap()["kind"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(
        kinds.join(" "),
        "started model_call analysis turn_started model_call plan model_call command tool_result model_call \
         verdict memory model_call answered"
    );
}

#[tokio::test]
async fn an_unknown_tool_is_a_turn_and_the_next_turn_sees_it() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    let flow = flow(ScriptedEngine::new(move |request: &Request| {
        if request.role != Role::Planner {
            return Ok(say(request.role));
        }
        let mut seen = kept.lock().unwrap();
        seen.push(request.messages[1].text());
        Ok(match seen.len() {
            1 => "Context: none\nSub-goal: look\nTool: telescope",
            2 => "what?",
            _ => PLAN,
        })
    }));
    let (trajectory, _) = run(&flow, &ask("q"), CancellationToken::new()).await;
    assert_eq!(trajectory.outcome, Outcome::Answered);
    assert_eq!(trajectory.turns.len(), 3);
    assert!(trajectory.turns[0].refused.as_ref().unwrap().1.contains("telescope"));
    assert!(trajectory.memory.entries[0].error && trajectory.memory.entries[1].error);
    let prompts = seen.lock().unwrap();
    assert!(prompts[1].contains("no tool is called"), "{}", prompts[1]);
}

#[tokio::test]
async fn a_plan_that_does_not_end_leaves_no_word_of_it_in_memory() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    let mut flow = flow(ScriptedEngine::new(move |request: &Request| {
        if request.role != Role::Planner {
            return Ok(say(request.role).to_string());
        }
        let mut seen = kept.lock().unwrap();
        seen.push(request.messages[1].text());
        Ok(if seen.len() == 1 { format!("Context: {}", "carar".repeat(99)) } else { PLAN.to_string() })
    }));
    let mut pack = pack();
    pack.settings.max_tokens.insert("planner".into(), 200);
    flow.pack = Arc::new(pack);
    let (trajectory, _) = run(&flow, &ask("q"), CancellationToken::new()).await;
    assert_eq!(trajectory.answer.as_deref(), Some("42"));
    let (text, reason) = trajectory.turns[0].refused.as_ref().unwrap();
    assert!(text.contains("cararcarar") && reason == "the plan did not end within 200 tokens", "{reason}");
    let prompts = seen.lock().unwrap();
    assert!(prompts[1].contains("did not end") && !prompts[1].contains("carar"), "{}", prompts[1]);
}

#[tokio::test]
async fn an_answer_that_is_no_quotation_is_drawn_again_as_one() {
    // Free, the generator misspells; held to memory's words it finds one that is likely and one that is likelier.
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    let flow = flow(ScriptedEngine::new(move |request: &Request| {
        if request.role != Role::Generator {
            return Ok(say(request.role).to_string());
        }
        let mut asked = kept.lock().unwrap();
        asked.push((request.constraint.clone(), request.sampler.temperature));
        Ok(if asked.len() == 1 { "fourty-two" } else { "42" }.to_string())
    }));
    let (trajectory, _) = run(&flow, &ask("What is 6*7?"), CancellationToken::new()).await;
    assert_eq!(trajectory.answer.as_deref(), Some("42"));
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 1 + quote::DRAWS);
    assert_eq!(asked[0].0, None);
    let Some(Constraint::Grammar(grammar)) = &asked[1].0 else { panic!("{:?}", asked[1]) };
    assert!(grammar.contains("\"42\"") && grammar.contains("I cannot answer"), "{grammar}");
    assert_eq!([asked[1].1, asked[2].1], [0.0, 1.0], "the greedy one first");
}

#[tokio::test]
async fn a_person_is_asked_for_at_the_packs_lower_temperature_unless_the_settings_name_one() {
    let drawn = Arc::new(Mutex::new(Vec::new()));
    let kept = drawn.clone();
    let flow = flow(ScriptedEngine::new(move |request: &Request| {
        if request.role == Role::Planner {
            kept.lock().unwrap().push(request.sampler.temperature);
        }
        Ok(say(request.role))
    }));
    let named = Flow { planner_temperature: Some(0.9), ..flow.clone() };
    for flow in [&flow, &flow.asked(), &named.asked()] {
        run(flow, &ask("q"), CancellationToken::new()).await;
    }
    assert_eq!(*drawn.lock().unwrap(), [0.7, 0.3, 0.9]);
}

#[tokio::test]
async fn where_no_quotation_comes_the_answer_stays_as_it_was() {
    let flow = flow(ScriptedEngine::new(|request: &Request| {
        Ok(if request.role == Role::Generator { "fourty-two" } else { say(request.role) })
    }));
    let (trajectory, _) = run(&flow, &ask("What is 6*7?"), CancellationToken::new()).await;
    assert_eq!(trajectory.answer.as_deref(), Some("fourty-two"));
}

#[tokio::test]
async fn bad_arguments_and_failing_tools_are_turns() {
    for (arguments, fault) in [
        (r#"{"expression":"1/0"}"#, ToolFault::Failed),
        (r#"{"expr":"1"}"#, ToolFault::BadArguments),
        ("{\"expression\":\"1+", ToolFault::BadArguments),
    ] {
        let flow = flow(ScriptedEngine::new(move |request: &Request| {
            Ok(if request.role == Role::Executor { arguments } else { say(request.role) })
        }));
        let (trajectory, _) = run(&flow, &ask("q"), CancellationToken::new()).await;
        assert_eq!(trajectory.outcome, Outcome::Answered);
        assert_eq!(trajectory.turns[0].result.as_ref().unwrap().fault, Some(fault), "{arguments}");
        assert!(trajectory.memory.entries[0].error);
    }
}

#[tokio::test]
async fn limits_end_the_loop_and_the_generator_still_answers() {
    let endless = |request: &Request| {
        Ok(if request.role == Role::Verifier {
            r#"{"decision":"continue","reason":"not yet"}"#
        } else {
            say(request.role)
        })
    };
    let mut turns = flow(ScriptedEngine::new(endless));
    turns.limits.turns = 3;
    let (trajectory, _) = run(&turns, &ask("q"), CancellationToken::new()).await;
    assert_eq!((trajectory.turns.len(), trajectory.answer.as_deref()), (3, Some("42")));
    assert_eq!(trajectory.limit.as_deref(), Some("turns (3)"));

    let mut tokens = flow(ScriptedEngine::new(endless));
    tokens.limits.tokens = 200;
    let (trajectory, _) = run(&tokens, &ask("q"), CancellationToken::new()).await;
    assert_eq!(trajectory.outcome, Outcome::Answered);
    assert_eq!(trajectory.limit.as_deref(), Some("tokens (200)"));
    assert!(trajectory.turns.len() < 10);
}

#[tokio::test]
async fn a_planner_that_walks_in_circles_is_stopped_before_the_tool_runs_again() {
    let endless = |arguments: &'static str| {
        ScriptedEngine::new(move |request: &Request| {
            Ok(match request.role {
                Role::Executor => arguments,
                Role::Verifier => r#"{"decision":"continue","reason":"not yet"}"#,
                role => say(role),
            })
        })
    };
    // What failed is not run a second time, what worked not a third.
    for (arguments, results, said) in [
        (r#"{"expression":"1/0"}"#, 1, "repeats (the same command failed in turn 1)"),
        (r#"{"expression":"6*7"}"#, 2, "repeats (the same command was run in turn 2)"),
    ] {
        let mut flow = flow(endless(arguments));
        flow.limits = Limits::default();
        let (trajectory, _) = run(&flow, &ask("q"), CancellationToken::new()).await;
        assert_eq!((trajectory.outcome, trajectory.answer.as_deref()), (Outcome::Answered, Some("42")));
        assert_eq!(trajectory.limit.as_deref(), Some(said));
        assert_eq!(trajectory.memory.entries.len(), results);
        // The plan that ended it stays in the record, without a result.
        assert_eq!(trajectory.turns.len(), results + 1);
        assert!(trajectory.turns[results].command.is_some() && trajectory.turns[results].result.is_none());
    }
    // The same words that are no plan end it too.
    let refused = ScriptedEngine::new(|request: &Request| {
        Ok(if request.role == Role::Planner { "what?" } else { say(request.role) })
    });
    let mut flow = flow(refused);
    flow.limits = Limits::default();
    let (trajectory, _) = run(&flow, &ask("q"), CancellationToken::new()).await;
    assert_eq!((trajectory.turns.len(), trajectory.memory.entries.len()), (2, 1));
}

/// Its planner answers only after this delay.
struct Slow(Duration);

#[async_trait::async_trait]
impl Engine for Slow {
    async fn model(&self) -> Result<tillerman::engine::ModelInfo, EngineError> {
        Ok(tillerman::engine::ModelInfo::default())
    }
    async fn complete(
        &self,
        request: Request,
        on_piece: Option<tillerman::engine::OnPiece>,
        cancel: CancellationToken,
    ) -> Result<tillerman::engine::Completion, EngineError> {
        if request.role == Role::Planner {
            tokio::time::sleep(self.0).await;
        }
        let script = ScriptedEngine::new(|request: &Request| Ok(say(request.role)));
        script.complete(request, on_piece, cancel).await
    }
    async fn set_adapter(&self, _: Option<std::path::PathBuf>) -> Result<Option<String>, EngineError> {
        Ok(None)
    }
    async fn score(&self, _: Vec<i32>, _: bool) -> Result<Vec<f32>, EngineError> {
        Ok(vec![])
    }
}

#[tokio::test]
async fn the_time_limit_cuts_a_call_that_hangs() {
    let mut flow = flow(Slow(Duration::from_secs(100_000)));
    flow.limits.seconds = 1;
    let (trajectory, _) = run(&flow, &ask("q"), CancellationToken::new()).await;
    assert_eq!(trajectory.outcome, Outcome::Answered);
    assert_eq!(trajectory.limit.as_deref(), Some("seconds (1)"));
}

#[tokio::test]
async fn cancelling_at_any_role_ends_as_cancelled() {
    for role in [Role::Analyst, Role::Planner, Role::Executor, Role::Verifier, Role::Generator] {
        let cancel = CancellationToken::new();
        let inner = cancel.clone();
        let flow = flow(ScriptedEngine::new(move |request: &Request| {
            if request.role == role {
                inner.cancel();
                return Err(EngineError::Cancelled);
            }
            Ok(say(request.role))
        }));
        let (trajectory, _) = run(&flow, &ask("q"), cancel).await;
        assert_eq!(trajectory.outcome, Outcome::Cancelled, "{role:?}");
    }
}

#[tokio::test]
async fn an_engine_that_dies_at_any_role_fails_the_query_with_reason_and_remedy() {
    for role in [Role::Analyst, Role::Planner, Role::Executor, Role::Verifier, Role::Generator] {
        let flow = flow(ScriptedEngine::new(move |request: &Request| {
            if request.role == role {
                return Err(EngineError::Died {
                    how: "SIGKILL".into(),
                    phase: "decode".into(),
                    stderr: "last words".into(),
                });
            }
            Ok(say(request.role))
        }));
        let (trajectory, _) = run(&flow, &ask("q"), CancellationToken::new()).await;
        let Outcome::Failed { reason, remedy, cause } = &trajectory.outcome else {
            panic!("{role:?}: {:?}", trajectory.outcome)
        };
        assert_eq!(*cause, Cause::EngineDied);
        assert!(reason.contains("SIGKILL") && reason.contains("last words"), "{reason}");
        assert!(remedy.contains("again"), "{remedy}");
    }
}

/// Keeps nothing after the n-th event, as a full disk would.
struct Full(usize, Mutex<usize>);

impl Sink for Full {
    fn record(&self, _event: Event) -> Result<(), String> {
        let mut count = self.1.lock().unwrap();
        *count += 1;
        if *count > self.0 { Err("disk full".into()) } else { Ok(()) }
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_does_not_happen() {
    for kept in 0..14 {
        let flow = flow(ScriptedEngine::new(|request: &Request| Ok(say(request.role))));
        let sink = Arc::new(Full(kept, Mutex::new(0)));
        let trajectory = solve(&flow, &ask("q"), sink.clone(), CancellationToken::new()).await;
        let tried = *sink.1.lock().unwrap();
        // The event that could not be kept, and the attempt to say so; nothing else.
        assert!(tried <= kept + 2, "{tried} events were tried after {kept} were kept");
        let Outcome::Failed { reason, cause, .. } = &trajectory.outcome else {
            panic!("kept {kept}: {:?}", trajectory.outcome)
        };
        assert_eq!(*cause, Cause::Record);
        assert!(reason.contains("disk full"), "{reason}");
    }
}

#[tokio::test]
async fn queries_that_cannot_be_taken_say_why() {
    let flow = flow(ScriptedEngine::new(|request: &Request| Ok(say(request.role))));
    for (query, part) in [("  \n", "empty"), (&*"x".repeat(QUERY_CHARS_MAX + 1), "characters")] {
        let (trajectory, _) = run(&flow, &ask(query), CancellationToken::new()).await;
        let Outcome::Failed { reason, remedy, .. } = &trajectory.outcome else { panic!("taken") };
        assert!(reason.contains(part) && !remedy.is_empty(), "{reason}");
    }
}

#[tokio::test]
async fn later_questions_see_earlier_answers_and_memory_starts_empty() {
    let prompts = Arc::new(Mutex::new(Vec::new()));
    let kept = prompts.clone();
    let flow = flow(ScriptedEngine::new(move |request: &Request| {
        if request.role == Role::Planner {
            kept.lock().unwrap().push(request.messages[1].text());
        }
        Ok(say(request.role))
    }));
    run(&flow, &ask("first"), CancellationToken::new()).await;
    let second = Ask { conversation: vec![("first".into(), "42".into())], ..ask("second") };
    run(&flow, &second, CancellationToken::new()).await;
    let prompts = prompts.lock().unwrap();
    assert!(prompts[1].contains("first") && prompts[1].contains("42"), "{}", prompts[1]);
    assert!(!prompts[1].contains("compute 6*7"), "memory leaked: {}", prompts[1]);
}

#[tokio::test]
async fn seeds_are_a_function_of_the_trajectory_alone() {
    let seeds = |seed: u64| async move {
        let flow = flow(ScriptedEngine::new(|request: &Request| Ok(say(request.role))));
        let (trajectory, _) = run(&flow, &Ask { seed, ..ask("q") }, CancellationToken::new()).await;
        trajectory.calls.iter().map(|call| call.request.sampler.seed).collect::<Vec<_>>()
    };
    let (one, again, other) = (seeds(1).await, seeds(1).await, seeds(2).await);
    assert_eq!(one, again);
    assert_ne!(one, other);
}

#[tokio::test]
async fn a_fork_takes_turns_over_and_names_its_parent() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    let flow = flow(ScriptedEngine::new(move |request: &Request| {
        let mut seen = kept.lock().unwrap();
        if request.role == Role::Planner {
            seen.push(request.messages[1].text());
        }
        Ok(match (request.role, seen.len()) {
            (Role::Verifier, 1 | 2) => r#"{"decision":"continue","reason":"not yet"}"#,
            (role, _) => say(role),
        })
    }));
    let (parent, _) = run(&flow, &ask("q"), CancellationToken::new()).await;
    assert_eq!(parent.turns.len(), 3);
    let prior = Prior::of(&parent, 1);
    let (fork, events) =
        run(&flow, &Ask { id: "fork".into(), prior: Some(prior), ..ask("q") }, CancellationToken::new())
            .await;
    assert_eq!(fork.parent, Some(("t".into(), 1)));
    assert_eq!((fork.turns.len(), fork.analysis == parent.analysis), (2, true));
    assert_eq!(fork.turns[0], parent.turns[0]);
    let prompts = seen.lock().unwrap().clone();
    assert_eq!(prompts[3], prompts[1], "turn 2 is planned from the same memory");
    let calls = |role| fork.calls.iter().filter(|call| call.role == role).count();
    assert_eq!((calls(Role::Analyst), calls(Role::Planner)), (0, 1), "the parent's calls stay its own");
    // A record from before there were forks has no such field and still loads.
    let mut old = serde_json::to_value(&events[0]).unwrap();
    old.as_object_mut().unwrap().remove("parent");
    assert_eq!(Trajectory::from_events(&[serde_json::from_value(old).unwrap()]).parent, None);
}
