//! `tillerman bench`: figures of this machine, each from several runs, with the peer measured in the same run.
//!
//! Lines: {"kind":"bench","name","value","unit","n","low","high"}; value is the median, low and high are the
//! quartiles. Figures of the engine are in `bench/engine.rs`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::config::Home;
use crate::engine::scripted::ScriptedEngine;
use crate::engine::{Request, Role};
use crate::flow::event::Collect;
use crate::flow::prompt::Pack;
use crate::flow::solve::{Ask, Flow, solve};
use crate::flow::trajectory::Limits;
use crate::tools::{Toolbox, calculator::Calculator};

use super::{Global, setup};

mod deck;
mod engine;
mod group;
mod live;
mod sandbox;
pub mod train;
mod train_peer;

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Only figures whose name begins with one of these; `train.groups` (a step of 1, 2, 4 and 8 groups) takes minutes on
    /// a big model and is only measured where it is named
    pub names: Vec<String>,
    #[arg(long)]
    pub json: bool,
    /// Runs per figure
    #[arg(long, default_value_t = 7)]
    pub runs: usize,
    /// A second model for the engine's figures, reported as `.0.5b` (made by scripts/toy-0.5b.sh)
    #[arg(long, value_name = "PATH")]
    pub big: Option<PathBuf>,
    #[command(flatten)]
    pub peer: train_peer::PeerArgs,
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
            // Differences between two that should agree are small numbers.
            let say =
                |v: f64| if v != 0.0 && v.abs() < 1e-2 { format!("{v:.1e}") } else { format!("{v:.3}") };
            let (value, low, high) = (say(value), say(low), say(high));
            println!("{:<34} {value:>10} {:<8} ({low}..{high}, n {n})", self.name, self.unit);
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
    if let Some(folder) = &args.peer.write_group {
        let (path, _) = models.last().unwrap_or(&models[0]);
        let header = crate::gguf::check(path)?;
        group::Group::new(header.vocabulary()).write(folder, &header)?;
        println!("group and adapter for {} written to {}", path.display(), folder.display());
        return Ok(0);
    }
    for (path, suffix) in &models {
        for (sequences, name) in [(1, "decode"), (8, "decode8")] {
            if wanted(&format!("engine.{name}_")) {
                for figure in engine::decode(path, (sequences, name), suffix, args.runs, &home).await? {
                    figure.print(args.json);
                }
            }
        }
        if wanted("engine.prefill_") {
            for figure in engine::prefill(path, suffix, args.runs, &home).await? {
                figure.print(args.json);
            }
        }
        if wanted("engine.first_token_ms") {
            engine::first_token(path, suffix, args.runs, &home).await?.print(args.json);
        }
        if wanted("engine.cancel_ms") {
            engine::cancel(path, suffix, args.runs, &home).await?.print(args.json);
        }
        for figure in train::figures(path, suffix, args.runs, &wanted)? {
            figure.print(args.json);
        }
        if args.names.iter().any(|name| name.starts_with(train::BY_GROUPS)) {
            for figure in train::by_groups(path, suffix, args.runs)? {
                figure.print(args.json);
            }
        }
        if wanted(&format!("train.peer.{suffix}")) {
            for figure in train_peer::figures(path, suffix, args.runs, &args.peer)? {
                figure.print(args.json);
            }
        }
    }
    if wanted("train.label_to_live_s") {
        live::label_to_live(args.runs).await?.print(args.json);
    }
    if wanted("flow.overhead_ms_per_turn") {
        overhead(args.runs).await?.print(args.json);
    }
    if wanted("sandbox.start_ms") {
        sandbox::starts(args.runs).await?.into_iter().for_each(|figure| figure.print(args.json));
    }
    deck::figures(args.runs, &wanted, &mut |figure| figure.print(args.json))?;
    Ok(0)
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
            limits: Limits { repeats: 0, ..Limits::default() },
            planner_temperature: None,
            adapter: None,
            approvals: Arc::default(),
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
