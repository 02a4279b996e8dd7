//! Groups of rollouts: through the scripted engine for every way they can end, and on the embedded planner for
//! what only a real engine shows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use assert_cmd::Command;
use serde_json::Value;
use tillerman::config::Home;
use tillerman::engine::client::{EngineOptions, LlamaEngine};
use tillerman::engine::scripted::ScriptedEngine;
use tillerman::engine::{Engine, Request, Role, Sampler};
use tillerman::error::{EngineError, Error};
use tillerman::flow::prompt::Pack;
use tillerman::flow::solve::Flow;
use tillerman::flow::trajectory::Limits;
use tillerman::gguf::toy::toy_adapter;
use tillerman::store::{
    Label, LabelValue, RunStatus, Scope, Status, Store, TrainingRun, TrainingStep, now_ms,
};
use tillerman::tools::Toolbox;
use tillerman::tools::calculator::Calculator;
use tillerman::train::labelled::Lesson;
use tillerman::train::recorded::{past_questions, stored_groups};
use tillerman::train::reward::{Contrast, Known, clusters, contrast, rewards};
use tillerman::train::rollout::{Group, Question, RollOptions, roll, rollout_seed};
use tillerman::train::rows::Policy;
use tokio_util::sync::CancellationToken;

fn flow(engine: impl Engine + 'static) -> Flow {
    // The scripts' answers are free: what they are worth is asked here, not whether memory holds them.
    let mut pack = Pack::bundled("compact").unwrap();
    pack.settings.no_answer = None;
    Flow {
        engine: Arc::new(engine),
        toolbox: Arc::new(Toolbox { tools: vec![Arc::new(Calculator::new())], refused: vec![] }),
        pack: Arc::new(pack),
        limits: Limits { seconds: 0, ..Limits::default() },
        planner_temperature: None,
        adapter: None,
        approvals: Arc::default(),
    }
}

/// Plays every role; the generator's answer is up to the test.
fn scripted(
    answer: impl Fn(&Request) -> Result<String, EngineError> + Send + Sync + 'static,
) -> ScriptedEngine {
    ScriptedEngine::new(move |request: &Request| match request.role {
        Role::Analyst => Ok("A number.".to_string()),
        Role::Planner => Ok("Context: none\nSub-goal: compute 6*7\nTool: calculator".to_string()),
        Role::Executor => Ok(r#"{"expression":"6*7"}"#.to_string()),
        Role::Verifier => Ok(r#"{"decision":"stop","reason":"found"}"#.to_string()),
        Role::Generator | Role::Base => answer(request),
    })
}

fn store(dir: &Path) -> Arc<Store> {
    Arc::new(Store::open(&Home::open(Some(dir)).unwrap()).unwrap())
}

fn question(query: &str) -> Question {
    Question::new(query, Vec::new())
}

fn options(size: usize) -> RollOptions {
    RollOptions { size, seed: 7, parallel: 3, ..RollOptions::default() }
}

/// A step on record that learned from this group.
fn trained(store: &Store, group: &str) {
    store
        .begin_run(&TrainingRun {
            id: "r".into(),
            created_ms: now_ms(),
            model_hash: "m".into(),
            parent: None,
            seed: 0,
            settings: serde_json::json!({}),
            status: RunStatus::Running,
            note: None,
        })
        .unwrap();
    store
        .add_step(&TrainingStep {
            run: "r".into(),
            step: 1,
            groups: vec![group.to_string()],
            stats: serde_json::json!({}),
            candidate: Some("a".into()),
            verdict: None,
            created_ms: now_ms(),
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_drawn_recorded_labelled_by_one_thumb_and_ready_to_train() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let flow = flow(scripted(|request| Ok(if request.sampler.seed % 2 == 0 { "42" } else { "41" }.into())));
    let questions = [question("What is 6*7?"), question("And 7*6?")];
    let groups =
        roll(&flow, &questions, &options(8), Some(&store), None, CancellationToken::new()).await.unwrap();
    assert_eq!(groups.len(), 2);
    for (group, question) in groups.iter().zip(&questions) {
        assert_eq!(group.rollouts.iter().map(|r| r.index).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
        for rollout in &group.rollouts {
            assert_eq!(rollout.seed, rollout_seed(7, &question.id, rollout.index));
            assert_eq!(rollout.trajectory.seed, rollout.seed);
            assert_eq!(rollout.trajectory.session, group.id);
            let planner = rollout.trajectory.calls.iter().find(|call| call.role == Role::Planner).unwrap();
            let sampler = &planner.request.sampler;
            assert_eq!(*sampler, Sampler::temperature(0.7, sampler.seed), "nothing may truncate");
            // Recorded, every one of them.
            assert_eq!(store.trajectory(&rollout.trajectory.id).unwrap(), rollout.trajectory);
        }
        assert_eq!(Group::load(&store, &group.id).unwrap(), *group);
    }
    let group = &groups[0];
    let known = || Known::of(&store, &group.question.id).unwrap();
    let before = clusters(group, &known());
    assert_eq!(before.iter().map(|c| c.rollouts.len()).sum::<usize>(), 8);
    let Contrast::None(why) = contrast(&rewards(group, &known())) else { panic!("nobody said anything") };
    assert!(why.contains("labelled"), "{why}");

    // One key on one rollout settles all of them.
    let right = group.rollouts.iter().find(|r| r.answer() == Some("42")).unwrap();
    let row = store.row(&right.trajectory.id).unwrap();
    store.add_label(&Label::on(&row, Scope::Answer, LabelValue::Good)).unwrap();
    let told = rewards(group, &known());
    for (rollout, reward) in group.rollouts.iter().zip(&told.rewards) {
        assert_eq!(*reward, Some(if rollout.answer() == Some("42") { 1.0 } else { 0.0 }));
    }
    assert_eq!((told.reached(), told.words), (8, 1));

    let policy = Policy::of(group).unwrap();
    let mut lesson = Lesson::new(policy.clone());
    lesson.add(group, &told).unwrap();
    lesson.ready().unwrap();
    assert_eq!(lesson.groups[0].rollouts.len(), 8);
    let stored = |adapter, again| stored_groups(&store, &policy.model, adapter, again).unwrap();
    let found = stored(None, false);
    assert_eq!(found.groups.len(), 1, "the other group has no label");
    assert_eq!(found.groups[0].0.id, group.id);
    assert_eq!(found.temperature, 0.7, "what its plans were sampled at, whatever the settings say");
    let stale = stored(Some("x"), false);
    assert_eq!((stale.groups.len(), stale.passed.other_policy), (0, 1), "another policy's groups are stale");
    // A step that made an adapter of it: it does not train again by itself, until something is said of it anew.
    trained(&store, &group.id);
    let once = stored(None, false);
    assert_eq!((once.groups.len(), once.passed.trained), (0, 1));
    assert!(once.passed.words().contains("--again"), "{}", once.passed.words());
    assert_eq!(stored(None, true).groups.len(), 1);
    std::thread::sleep(std::time::Duration::from_millis(3));
    store.add_label(&Label::on(&row, Scope::Answer, LabelValue::Good)).unwrap();
    assert_eq!(stored(None, false).groups.len(), 1);
    // The label outlives them: its question can be rolled again.
    assert_eq!(past_questions(&store, 0).unwrap(), [questions[0].clone()]);
    // Undo: as if it had not been said.
    store.clear_labels(&row.id, None, None).unwrap();
    assert_eq!(rewards(group, &known()).reached(), 0);
    assert!(past_questions(&store, 0).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_rollout_is_kept_apart_and_never_worth_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let flow = flow(scripted(|request| match request.sampler.seed % 3 {
        0 => Err(EngineError::Other("the model fell over".into())),
        n => Ok(n.to_string()),
    }));
    let questions = [question("q")];
    let groups =
        roll(&flow, &questions, &options(12), Some(&store), None, CancellationToken::new()).await.unwrap();
    let group = &groups[0];
    let failed: Vec<_> = group.rollouts.iter().filter(|r| r.failed.is_some()).collect();
    assert!(!failed.is_empty() && failed.len() < 12, "{}", failed.len());
    assert!(failed[0].failed.as_ref().unwrap().contains("fell over"));
    let answered = group.rollouts.iter().find(|r| r.answer() == Some("1")).unwrap();
    let row = store.row(&answered.trajectory.id).unwrap();
    store.add_label(&Label::on(&row, Scope::Answer, LabelValue::Good)).unwrap();
    let told = rewards(group, &Known::of(&store, &group.question.id).unwrap());
    for (rollout, reward) in group.rollouts.iter().zip(&told.rewards) {
        assert_eq!(reward.is_none(), rollout.failed.is_some());
    }
    let mut lesson = Lesson::new(Policy::of(group).unwrap());
    lesson.add(group, &told).unwrap();
    assert_eq!(lesson.left.failed, failed.len());
    assert_eq!(lesson.groups[0].rollouts.len(), 12 - failed.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_keeps_what_finished_and_begins_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let cancel = CancellationToken::new();
    let (inner, count) = (cancel.clone(), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let flow = flow(scripted(move |_| {
        // The third answer is the last that is given.
        match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 | 1 => Ok("42".into()),
            _ => {
                inner.cancel();
                Err(EngineError::Cancelled)
            }
        }
    }));
    let one_by_one = RollOptions { parallel: 1, ..options(6) };
    let questions = [question("first"), question("second")];
    let groups = roll(&flow, &questions, &one_by_one, Some(&store), None, cancel).await.unwrap();
    assert_eq!(groups.len(), 1, "of the second question nothing was begun");
    let failed: Vec<Option<&str>> = groups[0].rollouts.iter().map(|r| r.failed.as_deref()).collect();
    assert_eq!(failed, [None, None, Some("cancelled")]);
    assert_eq!(store.row(&groups[0].rollouts[2].trajectory.id).unwrap().status, Status::Cancelled);
    assert_eq!(store.group(&groups[0].id).unwrap().members.len(), 6, "as it was meant to be");
    assert_eq!(Group::load(&store, &groups[0].id).unwrap(), groups[0]);
}

#[tokio::test]
async fn what_cannot_be_rolled_is_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let flow = flow(scripted(|_| Ok("42".into())));
    for (query, options, needle) in [
        ("q", options(0), "1 to 256 rollouts"),
        ("q", options(257), "1 to 256 rollouts"),
        (" \n", options(4), "empty"),
        ("q", RollOptions { temperature: Some(0.0), ..options(4) }, "alike"),
        ("q", RollOptions { temperature: Some(f32::NAN), ..options(4) }, "temperature"),
    ] {
        let none = CancellationToken::new();
        let told = roll(&flow, &[question(query)], &options, Some(&store), None, none).await.unwrap_err();
        assert!(matches!(told, Error::Usage(_)), "{told}");
        assert!(told.to_string().contains(needle), "{told}");
    }
    assert!(store.groups(0).unwrap().is_empty());
}

const PLANNER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/planner.gguf");

fn embedded(threads: usize, sequences: usize, adapter: Option<PathBuf>) -> Flow {
    flow(LlamaEngine::new(EngineOptions {
        exe: env!("CARGO_BIN_EXE_tillerman").into(),
        context: Some(2048),
        threads: Some(threads),
        sequences,
        adapter,
        ..EngineOptions::new(PLANNER.into())
    }))
}

/// Seed, prompt ids, sampled ids and the bits of the log-probabilities of a call.
type Sampled = (u64, Vec<i32>, Vec<i32>, Vec<u32>);

/// Of every call, in order.
fn sampled(groups: &[Group]) -> Vec<Sampled> {
    let calls = groups.iter().flat_map(|group| &group.rollouts).flat_map(|rollout| &rollout.trajectory.calls);
    calls
        .map(|call| {
            let full = &call.completion;
            let bits = full.logprobs.iter().map(|p| p.to_bits()).collect();
            (call.request.sampler.seed, full.prompt_ids.clone(), full.completion_ids.clone(), bits)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_on_one_thread_gives_the_same_bits() {
    let questions = [question("What is 12*12?"), question("What is the capital of Peru?")];
    let options =
        RollOptions { parallel: 1, seed: 3, size: 3, temperature: Some(1.0), ..RollOptions::default() };
    let mut runs = Vec::new();
    for _ in 0..2 {
        let flow = embedded(1, 1, None);
        let groups = roll(&flow, &questions, &options, None, None, CancellationToken::new()).await.unwrap();
        assert!(groups.iter().flat_map(|g| &g.rollouts).all(|r| r.failed.is_none()));
        runs.push(sampled(&groups));
    }
    assert!(runs[0] == runs[1], "the second run sampled something else");
    let texts: std::collections::HashSet<_> = runs[0].iter().map(|call| call.2.clone()).collect();
    assert!(texts.len() > 6, "seeds make no difference");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_real_engine_name_its_adapter_and_another_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("adapter.gguf");
    toy_adapter(&file, Path::new(PLANNER), 4, 8.0, 1, 0.02).unwrap();
    let hash = blake3::hash(&std::fs::read(&file).unwrap()).to_hex().to_string();
    let flow = embedded(1, 2, Some(file));
    let options = RollOptions { size: 2, ..RollOptions::default() };
    let questions = [question("What is 3*5?")];
    let groups = roll(&flow, &questions, &options, None, None, CancellationToken::new()).await.unwrap();
    let policy = Policy::of(&groups[0]).unwrap();
    assert_eq!(policy.adapter, Some(hash));
    let all = tillerman::train::reward::Rewards { rewards: vec![Some(1.0), Some(0.0)], ..Default::default() };
    let mut lesson = Lesson::new(policy.clone());
    lesson.add(&groups[0], &all).unwrap();
    let turn = &lesson.groups[0].rollouts[0].turns[0];
    assert!(turn.mu.len() == turn.sampled.len() && turn.mu.iter().all(|mu| *mu <= 1e-4));
    let told = Lesson::new(Policy { adapter: None, ..policy }).add(&groups[0], &all).unwrap_err().to_string();
    assert!(told.contains("sampled with adapter"), "{told}");
}

fn tillerman(home: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tillerman"));
    command.env("TILLERMAN_HOME", home).timeout(std::time::Duration::from_secs(1200));
    let output = command.args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn by_hand_a_group_is_rolled_labelled_and_its_clusters_shown() {
    let home = tempfile::tempdir().unwrap();
    let ask = ["--seed", "5", "rollout", "What is 12*12+1?", "--size", "4", "--turns", "2", "--json"];
    let (code, out, err) = tillerman(home.path(), &ask);
    assert_eq!(code, 0, "{err}");
    let all = lines(&out);
    let rolled: Vec<&Value> = all.iter().filter(|line| line["kind"] == "rollout").collect();
    assert_eq!(rolled.len(), 4);
    let ids: Vec<&str> = rolled.iter().map(|line| line["trajectory"].as_str().unwrap()).collect();
    let group = all.last().unwrap();
    assert_eq!(
        (&group["kind"], &group["contrast"], &group["labels"]),
        (&"group".into(), &false.into(), &0.into())
    );
    let clustered: usize = all.iter().filter_map(|line| line["trajectories"].as_array()).map(Vec::len).sum();
    assert_eq!(clustered + group["failed"].as_u64().unwrap() as usize, 4);

    // Each can be shown and labelled; a group does not fill the list of what was asked.
    assert_eq!(tillerman(home.path(), &["show", ids[0]]).0, 0);
    assert_eq!(tillerman(home.path(), &["sessions", "--json"]).1, "");
    assert_eq!(lines(&tillerman(home.path(), &["sessions", "--json", "--rollouts"]).1).len(), 4);
    let (code, _, err) = tillerman(home.path(), &["label", ids[0], "bad", "--correction", "145"]);
    assert_eq!(code, 0, "{err}");
    let (code, out, err) =
        tillerman(home.path(), &["--seed", "5", "rollout", "What is 12*12+1?", "--size", "2"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("chance of contrast"), "{err}");
    assert!(out.contains("group ") && out.contains("contrast"), "{out}");
}

#[test]
fn the_shipped_adapter_serves_until_somebody_says_otherwise() {
    let home = tempfile::tempdir().unwrap();
    let at = |args: &[&str]| tillerman(home.path(), args);
    let ask = ["--seed", "1", "ask", "--json", "What is 2+2?"];
    let adapter_of = |args: &[&str]| {
        let (code, out, err) = at(args);
        assert_eq!(code, 0, "{err}");
        lines(&out)[0]["adapter"].clone()
    };
    let served = adapter_of(&ask);
    let (_, out, err) = at(&["adapters", "list", "--json"]);
    let listed = &lines(&out)[0];
    assert_eq!((&listed["hash"], &listed["origin"]), (&served, &"shipped".into()), "{err}");
    assert_eq!(listed["current"], true);
    // It says what it was made from, and how it was judged.
    let manifest = &listed["manifest"];
    assert!(manifest["made_from"]["seed"].is_u64() && manifest["made_from"]["data"]["blake3"].is_string());
    assert_eq!(manifest["gate"]["report"]["verdict"], "better");
    assert!(manifest["frozen"].as_array().is_some_and(|kept| !kept.is_empty()));
    // Taken back, it stays away.
    assert_eq!(at(&["adapters", "rollback"]).0, 0);
    assert_eq!(adapter_of(&ask), Value::Null);
    assert_eq!(adapter_of(&ask), Value::Null);
    assert_eq!(at(&["adapters", "use", listed["id"].as_str().unwrap()]).0, 0);
    assert_eq!(adapter_of(&ask), served);
}

#[test]
fn by_hand_adapters_are_imported_used_refused_and_rolled_back() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("config.toml"), "[engine]\nshipped_adapter = false\n").unwrap();
    let file = home.path().join("made.gguf");
    toy_adapter(&file, Path::new(PLANNER), 4, 8.0, 1, 0.02).unwrap();
    let at = |args: &[&str]| tillerman(home.path(), args);
    assert!(at(&["adapters"]).1.contains("no adapter yet"));
    assert_eq!(at(&["adapters", "list", "--json"]).1, "");
    let (code, out, err) = at(&["adapters", "import", file.to_str().unwrap(), "--json"]);
    assert_eq!(code, 0, "{err}");
    let made = &lines(&out)[0];
    let (id, hash) = (made["id"].as_str().unwrap(), made["hash"].as_str().unwrap());
    assert_eq!((&made["rank"], &made["alpha"]), (&4.into(), &8.0.into()));
    let adapter_of = |args: &[&str]| {
        let (code, out, err) = at(args);
        assert_eq!(code, 0, "{err}");
        lines(&out)[0]["adapter"].clone()
    };
    let ask = ["--seed", "1", "ask", "--json", "What is 2+2?"];
    assert_eq!(adapter_of(&ask), Value::Null, "kept is not used");
    assert_eq!(at(&["adapters", "use", &id[..6]]).0, 0);
    assert_eq!(adapter_of(&ask), hash);
    assert_eq!(adapter_of(&[&["--adapter", "none"], &ask[..]].concat()), Value::Null);
    assert_eq!(adapter_of(&[&["--adapter", id], &ask[..]].concat()), hash);
    assert!(at(&["adapters"]).1.lines().nth(1).unwrap().starts_with(&format!("* {id}")));
    assert!(at(&["adapters", "show", id]).1.contains("serves    yes"));
    let out_dir = home.path().join("out");
    assert_eq!(at(&["adapters", "export", id, "--format", "gguf", out_dir.to_str().unwrap()]).0, 0);
    assert_eq!(std::fs::read(out_dir.join("adapter.gguf")).unwrap(), std::fs::read(&file).unwrap());

    // For Python and back: another file, the same numbers in it.
    let peft = home.path().join("peft");
    let (code, _, err) = at(&["adapters", "export", id, "--format", "peft", peft.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = at(&["adapters", "import", peft.to_str().unwrap(), "--json"]);
    assert_eq!((code, &lines(&out)[0]["rank"]), (0, &4.into()), "{err}");
    let (code, _, err) = at(&["adapters", "export", id, "--format", "merged", peft.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    let merged = peft.join("merged.gguf");
    assert_eq!(at(&["model", "check", merged.to_str().unwrap()]).0, 0);

    // Damaged: the model goes on without it and says so.
    let kept = home.path().join("adapters").join(id).join("adapter.gguf");
    std::fs::write(&kept, "no adapter").unwrap();
    let (code, out, err) = at(&ask);
    assert_eq!((code, &lines(&out)[0]["adapter"]), (0, &Value::Null), "{err}");
    assert!(err.contains("not what was written"), "{err}");
    let (code, _, err) = at(&[&["--adapter", id], &ask[..]].concat());
    assert!(code == 3 && err.contains("not what was written"), "{code} {err}");
    std::fs::copy(&file, &kept).unwrap();

    // Another base model: refused, with what to do.
    let other = home.path().join("other.gguf");
    assert_eq!(at(&["__toy-gguf", other.to_str().unwrap(), "--shape", "toy"]).0, 0);
    let with_other = ["--model", other.to_str().unwrap()];
    let (code, _, err) = at(&[&with_other[..], &["--adapter", id, "ask", "q"]].concat());
    assert!(code == 3 && err.contains("made for the model"), "{code} {err}");
    let (code, _, err) = at(&[&with_other[..], &["adapters", "use", id]].concat());
    assert!(code == 3 && err.contains("--model PATH"), "{code} {err}");
    let peft_with_other = [&with_other[..], &["adapters", "export", id, "--format", "peft", "x"]].concat();
    let (code, _, err) = at(&peft_with_other);
    assert!(code == 3 && err.contains("made for the model"), "{code} {err}");
    let (code, _, err) = at(&[&with_other[..], &["adapters", "import", file.to_str().unwrap()]].concat());
    assert_eq!(code, 3, "{err}");

    let (code, out, _) = at(&["adapters", "rollback", "--json"]);
    assert_eq!((code, &lines(&out)[0]["to"]), (0, &Value::Null));
    assert_eq!(adapter_of(&ask), Value::Null);
    let (code, _, err) = at(&["adapters", "rollback"]);
    assert!(code == 2 && err.contains("nothing to roll back"), "{code} {err}");
    for (args, needle) in [
        (&["adapters", "use", "nothing"][..], "tillerman adapters"),
        (&["--adapter", "nothing", "ask", "q"], "neither a file nor an id"),
        (&["rollout", "q", "--size", "0"], "1 to 256"),
        (&["rollout", "  "], "empty"),
    ] {
        let (code, _, err) = at(args);
        assert!(code == 2 && err.contains(needle), "{args:?}: {code} {err}");
    }
}
