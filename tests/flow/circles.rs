//! What counts as walking in circles, through the true loop: work that goes on is not cut.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::{Value, json};
use tillerman::tools::approval::Mode;
use tillerman::tools::shell::Shell;
use tillerman::tools::workspace::Workspace;
use tillerman::tools::{
    Approval, Approvals, Approver, Consent, Effects, Taint, Tool, ToolCard, ToolContext, ToolResult, sandbox,
};

use super::*;

/// A tool of the given effects whose first `fails` calls fail.
struct Flaky {
    card: ToolCard,
    effects: Effects,
    fails: usize,
    calls: AtomicUsize,
}

fn flaky(effects: Effects, fails: usize) -> Arc<Flaky> {
    let card = ToolCard {
        name: "page".into(),
        purpose: "For this test.".into(),
        brief: "test".into(),
        schema: json!({"type": "object"}),
        examples: Vec::new(),
        limits: Vec::new(),
    };
    Arc::new(Flaky { card, effects, fails, calls: AtomicUsize::new(0) })
}

#[async_trait]
impl Tool for Flaky {
    fn card(&self) -> &ToolCard {
        &self.card
    }

    fn effects(&self, _: &Value) -> Effects {
        self.effects
    }

    async fn call(&self, _: &Value, _: &ToolContext) -> ToolResult {
        if self.calls.fetch_add(1, Ordering::SeqCst) < self.fails {
            return ToolResult::fault(ToolFault::Failed, "the connection was reset");
        }
        ToolResult::ok("here it is")
    }
}

/// The default limits, `tool` alone, and a planner that goes through these commands; the last one stops.
fn steps(tool: Arc<dyn Tool>, commands: Vec<Value>) -> Flow {
    let plan = format!("Context: none\nSub-goal: go on\nTool: {}", tool.card().name);
    let (count, executed, verified) = (commands.len(), AtomicUsize::new(0), AtomicUsize::new(0));
    let engine = ScriptedEngine::new(move |request: &Request| {
        Ok(match request.role {
            Role::Planner => plan.clone(),
            Role::Executor => commands[executed.fetch_add(1, Ordering::SeqCst)].to_string(),
            Role::Verifier if verified.fetch_add(1, Ordering::SeqCst) + 1 < count => {
                r#"{"decision":"continue","reason":"not yet"}"#.to_string()
            }
            role => say(role).to_string(),
        })
    });
    Flow {
        toolbox: Arc::new(Toolbox { tools: vec![tool], refused: vec![] }),
        limits: Limits::default(),
        ..flow(engine)
    }
}

#[tokio::test]
async fn what_failed_may_be_run_again_after_an_edit() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("work");
    std::fs::create_dir(&root).unwrap();
    let opened = std::process::Command::new("chmod").args(["-R", "a+rwX"]).arg(&root).status().unwrap();
    assert!(opened.success());
    let workspace = Workspace { path: root.canonicalize().unwrap(), write: true };
    let shell = match Shell::new(env!("CARGO_BIN_EXE_tillerman").into(), Some(workspace)) {
        Ok(shell) => shell.with_limits(sandbox::Limits { wall_ms: 300_000, ..sandbox::Limits::default() }),
        Err(refused) => {
            use std::io::Write as _;
            writeln!(std::io::stderr(), "SKIPPED, no sandbox here: {}", refused.reason).unwrap();
            return;
        }
    };
    let run_it = json!({"command": "grep -c x notes"});
    let edit = json!({"command": "echo x >> notes"});
    let commands = vec![run_it.clone(), edit.clone(), run_it.clone(), edit, run_it];
    // The workspace counts as private and as text from outside, so writing would have to be asked about.
    let approvals = Arc::new(Approvals::new(Mode::Sandboxed, None));
    let flow = Flow { approvals, ..steps(Arc::new(shell), commands) };
    let (trajectory, _) = run(&flow, &ask("q"), CancellationToken::new()).await;
    assert_eq!((trajectory.limit, trajectory.turns.len()), (None, 5));
    let results: Vec<_> = trajectory.turns.iter().filter_map(|turn| turn.result.as_ref()).collect();
    assert_eq!(results[0].fault, Some(ToolFault::Failed));
    assert_eq!((results[2].text.as_str(), results[4].text.as_str()), ("1", "2"));
}

#[tokio::test]
async fn a_page_that_did_not_load_may_be_tried_again_but_not_for_ever() {
    let outside = Effects { brings_outside_text: true, acts_outward: true, ..Effects::default() };
    let same = |times| vec![json!({"url": "https://example.org"}); times];
    let (trajectory, _) = run(&steps(flaky(outside, 1), same(2)), &ask("q"), CancellationToken::new()).await;
    assert_eq!((trajectory.limit, trajectory.turns.len()), (None, 2));
    assert_eq!(trajectory.memory.entries[1].result, "here it is");
    let down = flaky(outside, usize::MAX);
    let (trajectory, _) = run(&steps(down.clone(), same(9)), &ask("q"), CancellationToken::new()).await;
    assert_eq!(trajectory.limit.as_deref(), Some("repeats (the same command failed in turn 2)"));
    assert_eq!(down.calls.load(Ordering::SeqCst), 2);
}

struct Says(Consent);

#[async_trait]
impl Approver for Says {
    async fn approve(&self, _: &Approval) -> Consent {
        self.0
    }
}

#[tokio::test]
async fn a_fork_may_do_what_its_parent_was_not_allowed_to() {
    let outward = Effects { acts_outward: true, ..Effects::default() };
    let tainted = Ask { taint: Taint { outside: true, private: true }, ..ask("q") };
    let sending = |consent, tool: &Arc<Flaky>| Flow {
        approvals: Arc::new(Approvals::new(Mode::Ask, Some(Arc::new(Says(consent))))),
        ..steps(tool.clone(), vec![json!({}); 3])
    };
    let tool = flaky(outward, 0);
    let (parent, _) = run(&sending(Consent::No, &tool), &tainted, CancellationToken::new()).await;
    // In its own pass a "no" is not asked about twice.
    assert_eq!(parent.limit.as_deref(), Some("repeats (the same command failed in turn 1)"));
    assert_eq!(tool.calls.load(Ordering::SeqCst), 0);
    let fork = Ask { id: "fork".into(), prior: Some(Prior::of(&parent, 1)), ..tainted };
    let (forked, _) = run(&sending(Consent::Once, &tool), &fork, CancellationToken::new()).await;
    assert_eq!(forked.turns[1].result.as_ref().map(|result| result.text.as_str()), Some("here it is"));
    assert_eq!(forked.limit.as_deref(), Some("repeats (the same command was run in turn 3)"));
}

#[tokio::test]
async fn other_words_that_are_no_plan_are_no_circle() {
    let said = AtomicUsize::new(0);
    let mut flow = flow(ScriptedEngine::new(move |request: &Request| {
        Ok(match request.role {
            Role::Planner => match said.fetch_add(1, Ordering::SeqCst) {
                n @ 0..3 => format!("Hm, let me think, {n}."),
                _ => PLAN.to_string(),
            },
            role => say(role).to_string(),
        })
    }));
    flow.limits = Limits::default();
    let (trajectory, _) = run(&flow, &ask("q"), CancellationToken::new()).await;
    assert_eq!((trajectory.limit, trajectory.turns.len()), (None, 4));
}
