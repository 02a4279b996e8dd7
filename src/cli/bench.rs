//! `tillerman bench`: figures of this machine, each from several runs, with the peer measured in the same run.
//!
//! Lines: {"kind":"bench","name","value","unit","n","low","high"}; value is the median, low and high are the
//! quartiles. Ratios are taken run by run, worker and peer turn about, so that a slow moment hits both.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::config::Home;
use crate::engine::client::{EngineOptions, LlamaEngine};
use crate::engine::peer::{Peer, worker_decode_speed};
use crate::engine::scripted::ScriptedEngine;
use crate::engine::{Engine, Message, Request, Role, Sampler, Speaker};
use crate::flow::event::Collect;
use crate::flow::prompt::Pack;
use crate::flow::solve::{Ask, Flow, solve};
use crate::flow::trajectory::Limits;
use crate::tools::{Toolbox, calculator::Calculator};

use super::{Global, setup};

mod deck;

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Only figures whose name begins with one of these
    pub names: Vec<String>,
    #[arg(long)]
    pub json: bool,
    /// Runs per figure
    #[arg(long, default_value_t = 7)]
    pub runs: usize,
    /// A second model for the engine's figures, reported as `.0.5b` (made by scripts/toy-0.5b.sh)
    #[arg(long, value_name = "PATH")]
    pub big: Option<PathBuf>,
}

/// One line.
pub(super) struct Figure {
    pub name: String,
    pub unit: &'static str,
    pub values: Vec<f64>,
}

impl Figure {
    fn print(mut self, as_json: bool) {
        self.values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let last = self.values.len().saturating_sub(1) as f64;
            self.values.get((last * share).round() as usize).copied().unwrap_or(f64::NAN)
        };
        let (value, low, high, n) = (at(0.5), at(0.25), at(0.75), self.values.len());
        if as_json {
            let line = json!({"kind": "bench", "name": self.name, "value": value, "unit": self.unit, "n": n,
                "low": low, "high": high});
            println!("{line}");
        } else {
            println!("{:<34} {value:>10.3} {:<8} ({low:.3}..{high:.3}, n {n})", self.name, self.unit);
        }
    }
}

pub async fn run(global: &Global, args: &BenchArgs) -> anyhow::Result<i32> {
    let wanted = |name: &str| {
        args.names.is_empty()
            || args.names.iter().any(|w| name.starts_with(w.as_str()) || w.starts_with(name))
    };
    let (home, config) = setup::home_and_config(global)?;
    let (model, _) = setup::model_path(global, &home, &config)?;
    let mut models = vec![(model, "embedded")];
    models.extend(args.big.clone().map(|path| (path, "0.5b")));
    for (path, suffix) in &models {
        if wanted("engine.decode_ratio") || wanted("engine.decode8_ratio") {
            for figure in decode(path, suffix, args.runs, &home).await? {
                figure.print(args.json);
            }
        }
        if wanted("engine.first_token_ms") {
            first_token(path, suffix, args.runs, &home).await?.print(args.json);
        }
    }
    if wanted("flow.overhead_ms_per_turn") {
        overhead(args.runs).await?.print(args.json);
    }
    deck::figures(args.runs, &wanted, &mut |figure| figure.print(args.json))?;
    Ok(0)
}

fn engine(model: &Path, sequences: usize, home: &Home) -> LlamaEngine {
    LlamaEngine::new(EngineOptions {
        sequences,
        context: Some(2048),
        log_dir: Some(home.logs()),
        ..EngineOptions::new(model.to_path_buf())
    })
}

/// Tokens decoded per run, and of the prompt before them (the peer's; the worker's is a few words).
const DECODED: usize = 128;
const PROMPT: usize = 8;

/// Decode speed of the worker over that of the plain loop, 1 and 8 sequences, and both speeds.
async fn decode(model: &Path, suffix: &str, runs: usize, home: &Home) -> anyhow::Result<Vec<Figure>> {
    let worker = engine(model, 8, home);
    let threads = worker.model().await?.threads;
    let mut figures = Vec::new();
    for (sequences, name) in [(1, "decode"), (8, "decode8")] {
        let (mut ratio, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        let mut peer = Peer::load(model, sequences, 2048, threads)?;
        for round in 0..=runs {
            let (mine, plain) = if round % 2 == 0 {
                let mine = worker_decode_speed(&worker, sequences, DECODED).await?;
                (mine, peer.run(sequences, PROMPT, DECODED)?.decode)
            } else {
                let plain = peer.run(sequences, PROMPT, DECODED)?.decode;
                (worker_decode_speed(&worker, sequences, DECODED).await?, plain)
            };
            // The first round warms caches and threads up.
            if round > 0 {
                ratio.push(mine / plain);
                ours.push(mine);
                theirs.push(plain);
            }
        }
        let figure = |part: &str, unit, values| Figure {
            name: format!("engine.{name}_{part}.{suffix}"),
            unit,
            values,
        };
        figures.push(figure("ratio", "ratio", ratio));
        figures.push(figure("tok_s", "tokens/s", ours));
        figures.push(figure("peer_tok_s", "tokens/s", theirs));
    }
    worker.shutdown().await;
    Ok(figures)
}

/// From nothing (no worker process) to the first sampled token of a short question.
async fn first_token(model: &Path, suffix: &str, runs: usize, home: &Home) -> anyhow::Result<Figure> {
    let mut values = Vec::new();
    for _ in 0..runs {
        let engine = engine(model, 1, home);
        let started = Instant::now();
        engine
            .complete(
                Request {
                    role: Role::Planner,
                    messages: vec![Message::new(Speaker::User, ["What is 2+3?"])],
                    sampler: Sampler::greedy(),
                    constraint: None,
                    max_tokens: 1,
                },
                None,
                CancellationToken::new(),
            )
            .await?;
        values.push(started.elapsed().as_secs_f64() * 1e3);
        engine.shutdown().await;
    }
    Ok(Figure { name: format!("engine.first_token_ms.{suffix}"), unit: "ms", values })
}

/// What a turn costs beside model and tools: ten turns of a script, events recorded in SQLite.
async fn overhead(runs: usize) -> anyhow::Result<Figure> {
    let folder = tempfile::tempdir()?;
    let home = Home::open(Some(folder.path()))?;
    let store = Arc::new(crate::store::Store::open(&home)?);
    let mut pack = Pack::bundled("compact")?;
    // A script's tokens are bytes: with the pack's own limits its verdicts would be cut.
    pack.settings.max_tokens.values_mut().for_each(|tokens| *tokens = 4096);
    let pack = Arc::new(pack);
    let mut values = Vec::new();
    for run in 0..runs.max(3) {
        let script = ScriptedEngine::new(|request: &Request| {
            Ok(match request.role {
                Role::Planner => "Context: none\nSub-goal: compute 1+1\nTool: calculator",
                Role::Executor => r#"{"expression":"1+1"}"#,
                Role::Verifier => r#"{"decision":"continue","reason":"not yet"}"#,
                _ => "2",
            })
        });
        let flow = Flow {
            engine: Arc::new(script),
            toolbox: Arc::new(Toolbox { tools: vec![Arc::new(Calculator::new())], refused: Vec::new() }),
            pack: pack.clone(),
            limits: Limits::default(),
            planner_temperature: None,
            adapter: None,
        };
        let ask = Ask { id: crate::store::new_id(), query: format!("bench {run}"), ..Ask::default() };
        let sink = Arc::new(crate::store::StoreSink::new(store.clone()).then(Arc::new(Collect::default())));
        let started = Instant::now();
        let trajectory = solve(&flow, &ask, sink, CancellationToken::new()).await;
        let whole = started.elapsed().as_secs_f64() * 1e3;
        let tools: f64 = trajectory.turns.iter().filter_map(|t| t.result.as_ref()).map(|r| r.time_ms).sum();
        let turns = trajectory.turns.len();
        anyhow::ensure!(turns == 10, "the scripted query took {turns} turns, not 10");
        values.push((whole - tools) / turns as f64);
    }
    Ok(Figure { name: "flow.overhead_ms_per_turn".into(), unit: "ms", values })
}
