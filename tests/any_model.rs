//! Any model at all: random-weight GGUFs of three architectures answer (nonsense) inside their limits, with
//! typed turns and no crash; and a worker killed in the middle ends one query, not the program.
//!
//! TILLERMAN_QUERIES sets the queries per architecture (default 6; the README's figure used 200).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tillerman::engine::client::{EngineOptions, LlamaEngine};
use tillerman::engine::{Engine, Message, Role};
use tillerman::flow::event::Collect;
use tillerman::flow::prompt::{Fill, Pack};
use tillerman::flow::solve::{Ask, Flow, solve};
use tillerman::flow::trajectory::{Decision, Limits, Outcome, Trajectory};
use tillerman::gguf::toy::{Architecture, ToyModel, shape_named};
use tillerman::tools::base::Base;
use tillerman::tools::calculator::Calculator;
use tillerman::tools::{Tool, ToolFault, Toolbox};
use tokio_util::sync::CancellationToken;

fn exe() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_tillerman"))
}

fn engine(folder: &std::path::Path, architecture: Architecture, sequences: usize) -> Arc<LlamaEngine> {
    let path = folder.join(format!("{}.gguf", architecture.name()));
    let model = ToyModel { shape: shape_named("toy").unwrap(), architecture, ..ToyModel::default() };
    model.write(&path).unwrap();
    Arc::new(LlamaEngine::new(EngineOptions {
        exe: exe(),
        sequences,
        context: Some(4096),
        threads: Some(1),
        ..EngineOptions::new(path)
    }))
}

fn flow(engine: Arc<LlamaEngine>, pack: &str) -> Flow {
    let pack = Arc::new(Pack::bundled(pack).unwrap());
    let prompts = pack.clone();
    let base = Base::new(
        engine.clone(),
        Arc::new(move |question: &str| -> Vec<Message> {
            prompts.messages(Role::Base, &Fill { sub_goal: question, ..Fill::default() })
        }),
    );
    let tools: Vec<Arc<dyn Tool>> = vec![Arc::new(Calculator::new()), Arc::new(base)];
    Flow {
        engine,
        toolbox: Arc::new(Toolbox { tools, refused: vec![] }),
        pack,
        limits: Limits { turns: 3, seconds: 120, tokens: 600, result_chars: 500, repeats: 0 },
        planner_temperature: Some(1.0),
        adapter: None,
        approvals: Arc::default(),
    }
}

fn ask(query: String, seed: u64) -> Ask {
    Ask { id: format!("t{seed}"), query, seed, ..Ask::default() }
}

async fn one(flow: Flow, query: String, seed: u64) -> Trajectory {
    solve(&flow, &ask(query, seed), Arc::new(Collect::default()), CancellationToken::new()).await
}

fn queries() -> usize {
    std::env::var("TILLERMAN_QUERIES").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

/// The next turn's prompt keeps this one's up to the end of its memory, token for token: what differs is the end that
/// follows the memory, of one length whatever stands in the memory (but for the count of turns that are left).
fn prefixes(trajectory: &Trajectory) {
    let prompts: Vec<&[i32]> = trajectory
        .calls
        .iter()
        .filter(|call| call.role == Role::Planner)
        .map(|call| call.completion.prompt_ids.as_slice())
        .collect();
    let ends: Vec<usize> = prompts
        .windows(2)
        .map(|pair| {
            let common = pair[0].iter().zip(pair[1]).take_while(|(a, b)| a == b).count();
            pair[0].len() - common
        })
        .collect();
    for end in &ends {
        assert!(*end <= MOST_AFTER_MEMORY && end.abs_diff(ends[0]) <= 2, "{ends:?} tokens are not kept");
    }
}

fn well_formed(trajectory: &Trajectory) {
    assert_eq!(trajectory.outcome, Outcome::Answered, "{:?}", trajectory.outcome);
    assert!(trajectory.turns.len() <= 3);
    assert!(trajectory.tokens <= 600 + 1024, "{} tokens", trajectory.tokens);
    for turn in &trajectory.turns {
        assert!(turn.plan.is_some() || turn.refused.is_some() || trajectory.limit.is_some());
        if let Some(result) = &turn.result {
            // A schema holds the executor: only the token limit can leave a command unfinished.
            if result.fault == Some(ToolFault::BadArguments) {
                let cut = trajectory
                    .calls
                    .iter()
                    .any(|c| c.role == Role::Executor && c.completion.stop == Some(LENGTH));
                assert!(cut, "a whole command did not fit its schema: {turn:?}");
            }
        }
    }
    prefixes(trajectory);
    for call in &trajectory.calls {
        let n = call.completion.completion_ids.len();
        assert_eq!(n, call.completion.logprobs.len());
        assert_eq!(n, call.completion.forced.len());
        assert!(call.completion.logprobs.iter().all(|p| p.is_finite() && *p <= 1e-4));
        if call.role == Role::Planner {
            assert!(call.completion.forced.iter().all(|f| !f), "nothing may force the planner");
        }
    }
}

/// Tokens of the longest end after the memory that a prompt file has, in bytes: random vocabularies have a token a byte.
const MOST_AFTER_MEMORY: usize = 600;
const LENGTH: tillerman::engine::StopReason = tillerman::engine::StopReason::Length;

async fn architecture(architecture: Architecture) {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path(), architecture, 4);
    let mut running = tokio::task::JoinSet::new();
    let gate = Arc::new(tokio::sync::Semaphore::new(4));
    for n in 0..queries() {
        // Mostly the short pack; the long one now and then.
        let flow = flow(engine.clone(), if n % 5 == 4 { "full" } else { "compact" });
        let gate = gate.clone();
        running.spawn(async move {
            let _permit = gate.acquire_owned().await.unwrap();
            one(flow, format!("question {n}: what is {n}+{n}?"), n as u64).await
        });
    }
    while let Some(done) = running.join_next().await {
        well_formed(&done.unwrap());
    }
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_llama_ends_every_query() {
    architecture(Architecture::Llama).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_qwen2_ends_every_query() {
    architecture(Architecture::Qwen2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_qwen3_ends_every_query() {
    architecture(Architecture::Qwen3).await;
}

/// Long conversations and long memories in a real engine: what does not fit its context is left out, and said.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_the_context_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path(), Architecture::Qwen2, 2);
    let mut flow = flow(engine.clone(), "full");
    flow.limits = Limits { turns: 0, seconds: 60, tokens: 0, result_chars: 2_000, repeats: 0 };
    let pair = |n: usize| (format!("question {n}"), "an answer of some words ".repeat(4));
    let ask = Ask { conversation: (0..100).map(pair).collect(), ..ask("and then?".into(), 3) };
    let ended = solve(&flow, &ask, Arc::new(Collect::default()), CancellationToken::new()).await;
    assert_eq!(ended.outcome, Outcome::Answered, "{:?}", ended.outcome);
    assert!(ended.left_out > 0, "100 earlier queries fit");
    // A random verifier may say stop before the memory is full.
    let verdict = ended.turns.last().and_then(|turn| turn.verdict.as_ref());
    let stopped = verdict.is_some_and(|verdict| verdict.decision == Decision::Stop);
    let full = ended.limit.as_deref().is_some_and(|limit| limit.starts_with("context ("));
    assert!(full || stopped, "{:?}", ended.limit);
    engine.shutdown().await;
}

/// Kill the worker while a query runs, at different moments, by both signals: that query fails and says so,
/// the next one works.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_costs_one_query() {
    let folder = tempfile::tempdir().unwrap();
    let moments = [5, 30, 90, 200].into_iter();
    for (signal, name, wait_ms) in
        moments.flat_map(|wait_ms| [("KILL", "SIGKILL", wait_ms), ("ABRT", "SIGABRT", wait_ms)])
    {
        // One each: a worker that dies three times within a minute is left alone for a while.
        let engine = engine(folder.path(), Architecture::Qwen2, 2);
        engine.model().await.unwrap();
        let mut slow = flow(engine.clone(), "compact");
        slow.limits = Limits { turns: 0, seconds: 120, tokens: 0, result_chars: 200, repeats: 0 };
        let running = tokio::spawn(one(slow, "never ends".into(), wait_ms));
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        let pid = engine.worker_pid().unwrap().to_string();
        let kill = |signal: &str| {
            let killed = std::process::Command::new("kill").args([&format!("-{signal}"), &pid]).status();
            assert!(killed.unwrap().success());
        };
        // Held in the middle of a call: between two calls nobody would have to hear of its death.
        loop {
            kill("STOP");
            // What it wrote before is read first: only a call still open after a while is one that hangs.
            let mut open = true;
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                open &= engine.busy();
            }
            if open {
                break;
            }
            kill("CONT");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        kill(signal);
        // One signal waits for the process to go on, the other has ended it already.
        let _ = std::process::Command::new("kill").args(["-CONT", &pid]).status();
        let trajectory = running.await.unwrap();
        let Outcome::Failed { reason, remedy, .. } = &trajectory.outcome else {
            panic!("{:?}", trajectory.outcome)
        };
        assert!(reason.contains(name), "{reason}");
        assert!(remedy.contains("again"), "{remedy}");
        well_formed(&one(flow(engine.clone(), "compact"), "next".into(), 1).await);
        engine.shutdown().await;
    }
}
