//! Training as a person meets it: the binary, the embedded planner in llama.cpp, real steps, real kills.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command as Std, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use serde_json::Value;
#[cfg(target_os = "linux")]
use {
    tillerman::engine::wire,
    tillerman::gguf::toy::ToyModel,
    tillerman::store::Source,
    tillerman::train::model::Policy,
    tillerman::train::passes::Passes as _,
    tillerman::train::presets::Settings,
    tillerman::train::rows::{TrainGroup, TrainRollout, TrainTurn},
    tillerman::train::step::{self, Job, OPTIMIZER, WEIGHTS},
    tillerman::train::tree::{Row, Tree},
    tillerman::train::worker::FromTrainer,
};

const TASKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/tasks/train.jsonl");

/// One engine thread and one rollout at a time: the same seed gives the same bits.
fn settle(home: &Path) {
    fs::write(
        home.join("config.toml"),
        "[engine]\nthreads = 1\nshipped_adapter = false\n[train]\nlr = 0.001\ngroup = 4\n",
    )
    .unwrap();
}

fn tillerman(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tillerman"));
    command.env("TILLERMAN_HOME", home).env_remove("RUST_BACKTRACE").timeout(Duration::from_secs(1200));
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn find<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["kind"] == kind).collect()
}

const RUN: [&str; 18] = [
    "--seed",
    "3",
    "train",
    "--json",
    "--tasks",
    TASKS,
    "--questions",
    "4",
    "--parallel",
    "1",
    "--pairs",
    "0",
    "--draws",
    "2",
    "--validate-every",
    "0",
    "--steps",
    "3",
];

/// The adapter a whole run ends with.
fn last_adapter(out: &str) -> String {
    let lines = lines(out);
    find(&lines, "trained").last().unwrap()["adapter"].as_str().unwrap_or_default().to_string()
}

#[test]
fn a_run_hands_over_the_best_by_its_own_validation_and_remembers_its_looks() {
    let home = tempfile::tempdir().unwrap();
    settle(home.path());
    let gate = fs::read_to_string("assets/tasks/gate.jsonl").unwrap();
    let few = home.path().join("few.jsonl");
    // A third of these validates, the rest would judge.
    fs::write(&few, gate.lines().take(90).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let few = few.to_str().unwrap();
    let mut args = vec!["--seed", "3", "train", "--json", "--tasks", TASKS, "--questions", "4"];
    args.extend(["--pairs", "0", "--draws", "2", "--validate-every", "1", "--steps", "2", "--gate", few]);
    let (code, out, err) = run(tillerman(home.path()).args(&args));
    assert_eq!(code, 0, "{err}");
    let told = lines(&out);
    let looks = find(&told, "validated");
    assert!(!looks.is_empty(), "{out}");
    assert!(looks.iter().all(|look| look["n"] == 30 && look["k"].as_u64() <= Some(30)), "{out}");
    let best = looks.iter().max_by_key(|look| look["k"].as_u64()).unwrap();
    assert_eq!(last_adapter(&out), best["adapter"], "{out}");
    assert_eq!(looks.iter().rfind(|look| look["best"] == true).unwrap()["adapter"], best["adapter"]);

    // Taken up again after its end, the run knows what it saw: the same adapter, nothing asked twice.
    let id = find(&told, "run")[0]["run"].as_str().unwrap();
    let (code, again, err) = run(tillerman(home.path()).args(&args).args(["--resume", id]));
    assert_eq!(code, 0, "{err}");
    assert_eq!(last_adapter(&again), last_adapter(&out));
    assert!(find(&lines(&again), "validated").is_empty(), "{again}");
}

#[test]
fn a_run_goes_on_from_the_adapter_that_serves() {
    let home = tempfile::tempdir().unwrap();
    // Warm: at 1.0 the adapter that serves is so sure that a whole step may come without contrast.
    let config = "[engine]\nthreads = 1\n[train]\nlr = 0.001\ngroup = 4\ntemperature = 1.4\n";
    fs::write(home.path().join("config.toml"), config).unwrap();
    let gate = fs::read_to_string("assets/tasks/gate.jsonl").unwrap();
    let few = home.path().join("few.jsonl");
    fs::write(&few, gate.lines().take(90).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let mut args = vec!["--seed", "2", "train", "--json", "--tasks", TASKS, "--questions", "8"];
    args.extend(["--pairs", "0", "--validate-every", "1", "--steps", "1", "--gate", few.to_str().unwrap()]);
    let (code, out, err) = run(tillerman(home.path()).args(&args));
    assert_eq!(code, 0, "{err}");
    let told = lines(&out);
    let stepped = find(&told, "stepped")[0];
    assert!(stepped["skipped"].is_null(), "{out}");
    // What it began with is left to the gate; the fuel bar counts from the bare model, not from the parent.
    assert_eq!(find(&told, "validated")[0]["adapter"], stepped["adapter"], "{out}");
    assert!(stepped["drift"].as_f64().is_some_and(|drift| drift > 0.01), "{out}");
    // So does the objective's divergence, at the very point where policy and parent are one.
    assert!(stepped["stats"]["kl_mean"].as_f64().is_some_and(|kl| kl > 0.001), "{out}");
    let (_, list, _) = run(tillerman(home.path()).args(["adapters", "list", "--json"]));
    let adapters = lines(&list);
    let shipped = adapters.iter().find(|line| line["origin"] == "shipped").unwrap();
    let made = adapters.iter().find(|line| line["origin"] == "trained").unwrap();
    assert_eq!((&made["parent"], &made["id"]), (&shipped["id"], &stepped["adapter"]));
}

/// ggml's own CPU stands for a device: the same graphs, another machine under them.
#[test]
fn a_step_on_a_device_is_the_step_on_the_cpu() {
    let told = ["cpu", "ggml-cpu"].map(|device| {
        let home = tempfile::tempdir().unwrap();
        settle(home.path());
        let mut config = fs::OpenOptions::new().append(true).open(home.path().join("config.toml")).unwrap();
        writeln!(config, "device = \"{device}\"").unwrap();
        let mut args = RUN.to_vec();
        args[17] = "1";
        let (code, out, err) = run(tillerman(home.path()).args(&args));
        assert_eq!(code, 0, "{err}");
        find(&lines(&out), "stepped")[0].clone()
    });
    let [cpu, device] = &told;
    assert_eq!((&cpu["device"]["device"], &device["device"]["device"]), (&"cpu".into(), &"ggml-cpu".into()));
    assert_eq!(cpu["targets"], device["targets"], "the rollouts are the same");
    // bf16 there, F32 here.
    for figure in ["gradient_norm", "step_kl", "drift"] {
        let [a, b] = [cpu, device].map(|step| step[figure].as_f64().unwrap());
        assert!((a - b).abs() <= 0.05 * a.abs(), "{figure}: {a} and {b}");
    }

    let home = tempfile::tempdir().unwrap();
    settle(home.path());
    let mut config = fs::OpenOptions::new().append(true).open(home.path().join("config.toml")).unwrap();
    writeln!(config, "device = \"CUDA9\"").unwrap();
    let mut args = RUN.to_vec();
    args[17] = "1";
    let (code, _, err) = run(tillerman(home.path()).args(&args));
    assert!(code != 0 && err.contains("CUDA9") && err.contains("train.device"), "{code}: {err}");
}

#[test]
fn a_run_killed_at_any_moment_resumes_to_the_same_bits() {
    let whole = tempfile::tempdir().unwrap();
    settle(whole.path());
    let began = Instant::now();
    let (code, out, err) = run(tillerman(whole.path()).args(RUN));
    let unbroken = began.elapsed();
    assert_eq!(code, 0, "{err}");
    let steps = lines(&out);
    let adapters: Vec<&Value> =
        find(&steps, "stepped").into_iter().filter(|s| s["adapter"].is_string()).collect();
    assert!(!adapters.is_empty(), "no step had contrast: {out}");
    let wanted = last_adapter(&out);

    let killed = tempfile::tempdir().unwrap();
    settle(killed.path());
    let mut id = None;
    // Each life is a little longer than the last, so that the kills fall on rollouts, steps and writes; measured
    // in what this machine takes for the whole, so that a slow one gets there as well.
    for life in 1..60 {
        let mut args: Vec<String> = RUN.iter().map(ToString::to_string).collect();
        if let Some(id) = &id {
            args.extend(["--resume".to_string(), String::clone(id)]);
        }
        let out = killed.path().join(format!("out-{life}"));
        let mut child = Std::new(env!("CARGO_BIN_EXE_tillerman"))
            .env("TILLERMAN_HOME", killed.path())
            .args(&args)
            .stdout(fs::File::create(&out).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let patience = unbroken * life / 12;
        let born = Instant::now();
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if born.elapsed() > patience {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let text = fs::read_to_string(&out).unwrap();
        let first = text.lines().next().and_then(|line| serde_json::from_str::<Value>(line).ok());
        if let (None, Some(first)) = (&id, first) {
            id = first["run"].as_str().map(ToString::to_string);
        }
        if let Some(status) = ended {
            assert!(status.success(), "{text}");
            assert_eq!(last_adapter(&text), wanted);
            assert!(life > 1, "nothing was killed");
            return;
        }
    }
    panic!("60 lives were not enough");
}

#[test]
fn labels_by_hand_become_an_adapter_that_can_be_taken_back() {
    let home = tempfile::tempdir().unwrap();
    settle(home.path());
    // A question whose rollouts differ: seeds are tried until two answers stand side by side.
    let (group, clusters) = (1..20)
        .find_map(|seed| {
            let seed = seed.to_string();
            let ask = ["--seed", &seed, "rollout", "What is 12*12+7*3?", "--size", "6", "--json"];
            let (code, out, err) = run(tillerman(home.path()).args(ask));
            assert_eq!(code, 0, "{err}");
            let lines = lines(&out);
            let clusters: Vec<Value> = find(&lines, "cluster").into_iter().cloned().collect();
            let group = find(&lines, "group")[0].clone();
            (clusters.len() > 1).then_some((group, clusters))
        })
        .expect("no group of two answers in 19 tries");
    let id = group["group"].as_str().or(group["id"].as_str()).unwrap().to_string();
    let train = ["--seed", "1", "train", "--json", "--groups", &id, "--pairs", "8", "--ship"];
    let (code, _, err) = run(tillerman(home.path()).args(train));
    assert_eq!(code, 1, "nothing is labelled yet: {err}");
    assert!(err.contains("label"), "{err}");

    let member = |cluster: &Value| cluster["trajectories"][0].as_str().unwrap().to_string();
    for (place, cluster) in clusters.iter().enumerate() {
        let word = if place == 0 { "good" } else { "bad" };
        let (code, _, err) = run(tillerman(home.path()).args(["label", &member(cluster), word]));
        assert_eq!(code, 0, "{err}");
    }
    let (code, out, err) = run(tillerman(home.path()).args(train));
    assert_eq!(code, 0, "{err}");
    let said = lines(&out);
    let trained = find(&said, "trained")[0].clone();
    let adapter = trained["adapter"].as_str().unwrap();
    assert_eq!(trained["serves"], Value::Bool(trained["decision"] != "refuse"));
    the_gates_evidence_is_kept(home.path(), adapter, &said, &trained);

    let (code, out, err) = run(tillerman(home.path()).args(["--seed", "1", "ask", "--json", "What is 2+2?"]));
    assert_eq!(code, 0, "{err}");
    let asked = lines(&out);
    let used = asked[0]["adapter"].as_str().unwrap_or_default();
    assert!(used.starts_with(adapter), "{used} answers, not {adapter}");
    let (code, _, err) = run(tillerman(home.path()).args(["adapters", "rollback"]));
    assert_eq!(code, 0, "{err}");
    let (_, out, _) = run(tillerman(home.path()).args(["--seed", "1", "ask", "--json", "What is 2+2?"]));
    assert!(lines(&out)[0]["adapter"].is_null(), "the bare model answers again");
}

/// What the run said of its gate can be read afterwards: every look with its bounds, every pair, the decision.
fn the_gates_evidence_is_kept(home: &Path, adapter: &str, said: &[Value], trained: &Value) {
    let told: Vec<Value> = find(said, "gate").into_iter().map(|look| look["report"].clone()).collect();
    assert!(!told.is_empty());
    let (code, out, err) = run(tillerman(home).args(["adapters", "show", adapter, "--json"]));
    assert_eq!(code, 0, "{err}");
    let shown = &lines(&out)[0]["gate"];
    assert_eq!(shown.as_array().unwrap().len(), 1, "{out}");
    let gate = &shown[0];
    assert_eq!((&gate["champion"], &gate["decision"]), (&Value::Null, &trained["decision"]));
    let kept: Vec<Value> =
        gate["looks"].as_array().unwrap().iter().map(|look| look["report"].clone()).collect();
    assert_eq!(kept, told);
    let pairs = gate["pairs"].as_array().unwrap();
    let last = told.last().unwrap();
    assert_eq!(pairs.len() as u64, last["n"].as_u64().unwrap());
    let count = |candidate: f64, champion: f64| {
        let same =
            |pair: &&Value| pair["candidate_reward"] == candidate && pair["champion_reward"] == champion;
        pairs.iter().filter(same).count() as u64
    };
    assert_eq!(
        (count(1.0, 0.0), count(0.0, 1.0)),
        (last["wins"].as_u64().unwrap(), last["losses"].as_u64().unwrap())
    );
    let gate_ids = fs::read_to_string("assets/tasks/gate.jsonl").unwrap();
    let known = |pair: &Value| gate_ids.contains(pair["question_id"].as_str().unwrap());
    assert!(pairs.iter().all(|pair| known(pair) && pair["seed"].is_u64()), "{out}");
    let (_, text, _) = run(tillerman(home).args(["adapters", "show", adapter]));
    let decision = trained["decision"].as_str().unwrap();
    assert!(text.contains(&format!("against the bare model: {decision}")), "{text}");
}

#[test]
fn what_cannot_train_is_refused_with_the_reason() {
    let home = tempfile::tempdir().unwrap();
    settle(home.path());
    for (args, code, part) in [
        (vec!["train"], 2, "required"),
        (vec!["train", "--groups", "nothing"], 2, "nothing"),
        (vec!["train", "--labelled"], 1, "group"),
        (vec!["train", "--tasks", "/nowhere.jsonl"], 2, "nowhere"),
        (vec!["train", "--tasks", TASKS, "--gate", TASKS, "--steps", "0"], 2, "gate questions"),
        (vec!["train", "--tasks", TASKS, "--mode", "ppo"], 2, "flow, paper, reference"),
        (vec!["train", "--tasks", TASKS, "--size", "1"], 2, "train.group"),
    ] {
        let (got, _, err) = run(tillerman(home.path()).args(&args));
        assert_eq!(got, code, "{args:?}: {err}");
        assert!(err.contains(part), "{args:?}: {err}");
    }
}

/// A step in the worker, which keeps nothing but its folder to write in, and the same step by nobody confined.
#[cfg(target_os = "linux")]
#[test]
fn a_confined_step_is_the_same_step() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("toy.gguf");
    ToyModel::default().write(&model).unwrap();
    let policy = Policy::open(&model, 1).unwrap();
    let settings = Settings { device: "cpu".to_string(), lr: 1e-4, ..Settings::default() };
    let turn = |n: i32| {
        let row = Row { prompt: (1..9).collect(), sampled: (0..5).map(|at| 20 + 7 * n + at).collect() };
        let mu = policy.logprobs(&Tree::build(std::slice::from_ref(&row)), None, settings.temperature);
        let Row { prompt, sampled } = row;
        TrainTurn { prompt, trains: vec![true; sampled.len()], sampled, mu: mu.unwrap(), turn: 1 }
    };
    let rollout = |n: i32| {
        let reward = Some(f64::from(n % 2));
        TrainRollout { trajectory: format!("t{n}"), turns: vec![turn(n)], reward }
    };
    let group = TrainGroup {
        question_id: "q".to_string(),
        source: Source::Checker,
        weight: 1.0,
        baseline: None,
        rollouts: (0..4).map(rollout).collect(),
    };
    let job = |name: &str| {
        let out = dir.path().join(name);
        fs::create_dir(&out).unwrap();
        let (groups, settings) = (vec![group.clone()], settings.clone());
        let (probes, frozen) = (vec![turn(9)], vec![turn(11)]);
        Job { model: model.clone(), parent: None, out, groups, settings, seed: 5, threads: 1, probes, frozen }
    };
    let (free, held) = (job("free"), job("held"));
    assert!(step::take(&free, &mut |_| ()).unwrap().kept);

    let mut worker = Std::new(env!("CARGO_BIN_EXE_tillerman"));
    worker.arg("__train").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut worker = worker.spawn().unwrap();
    let (mut input, mut output) = (worker.stdin.take().unwrap(), worker.stdout.take().unwrap());
    wire::write(&mut input, &held).unwrap();
    input.flush().unwrap();
    let last = loop {
        match wire::read::<FromTrainer>(&mut output, &mut Vec::new()).unwrap() {
            Some(FromTrainer::Phase(_) | FromTrainer::On(_)) => {}
            last => break last,
        }
    };
    assert!(matches!(&last, Some(FromTrainer::Done(done)) if done.kept), "{last:?}");
    assert!(wire::read::<FromTrainer>(&mut output, &mut Vec::new()).unwrap().is_none());
    // Ended and not yet waited for, it still says how it was held.
    let status = fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap();
    let device = cfg!(any(feature = "cuda", feature = "vulkan", feature = "rocm", feature = "metal"));
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert_eq!(status.contains(line), !device, "{status}");
    }
    let ended = worker.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    for name in [WEIGHTS, OPTIMIZER] {
        let [free, held] = [&free, &held].map(|job| fs::read(job.out.join(name)).unwrap());
        assert!(free == held && !free.is_empty(), "{name} differs");
    }
}
