//! The adapter that comes with the embedded planner: packed by `__ship-adapter` from a run of
//! `scripts/reproduce.sh`, kept in the store at first start, and from then on an adapter like any other.
//!
//! It serves only until somebody says otherwise: once the pointer of the embedded planner has moved, by
//! training, `adapters use` or a rollback, nothing is put there again.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use crate::config::{Config, Home};
use crate::engine::ModelInfo;
use crate::error::Error;
use crate::gguf;
use crate::store::{AdapterShelf, NewAdapter, Origin, Store, WEIGHTS};
use crate::train::adapter_file;
use crate::train::gate::Opponent;

use super::setup::PLANNER;

const ADAPTER: &[u8] = include_bytes!("../../assets/adapter/adapter.gguf");
const MANIFEST: &str = include_str!("../../assets/adapter/manifest.json");

/// Keep and serve the shipped adapter where the embedded planner has never had one, unless the settings say not
/// to. A planner retrained by the recipe, or merged with an adapter, bears the same name and is another model.
///
/// # Errors
/// The data directory or its database cannot be written.
pub fn settle(home: &Home, config: &Config, model: &Path) -> anyhow::Result<()> {
    if !config.engine.shipped_adapter || AdapterShelf::open(home)?.ever_moved(model)? {
        return Ok(());
    }
    let hash = AdapterShelf::open(home)?.model_hash(model)?;
    if hash != blake3::hash(PLANNER).to_hex().as_str() {
        return Ok(());
    }
    let store = Store::open(home)?;
    let base = gguf::check(model).map_err(|e| Error::Engine(e.into()))?;
    let draft = store.draft_adapter()?;
    adapter_file::place(&draft.path(WEIGHTS), ADAPTER).map_err(Error::from)?;
    let print = adapter_file::fingerprint(model, &base).map_err(Error::from)?;
    let lora = adapter_file::read(&draft.path(WEIGHTS), &base, Some(&print)).map_err(Error::from)?;
    let info =
        ModelInfo { name: base.name().to_string(), path: model.to_path_buf(), hash, ..ModelInfo::default() };
    let manifest: Value = serde_json::from_str(MANIFEST).context("the shipped manifest is no JSON")?;
    let (rank, alpha) = (lora.rank, lora.alpha);
    let new = NewAdapter { parent: None, model: &info, rank, alpha, origin: Origin::Shipped, manifest };
    let adapter = store.keep_adapter(draft, &new)?;
    Ok(store.use_adapter(&info.hash, Some(&adapter.id), "shipped")?)
}

#[derive(Debug, Args)]
pub struct ShipArgs {
    /// Folder `scripts/reproduce.sh` worked in
    pub folder: PathBuf,
    /// Seed of the `flow` run whose adapter is packed
    #[arg(long)]
    pub run_seed: u64,
    /// Where adapter.gguf and manifest.json go
    #[arg(long, default_value = "assets/adapter")]
    pub out: PathBuf,
}

/// Pack a finished run's adapter with what it was made from and what it was judged by.
pub fn run(args: &ShipArgs) -> anyhow::Result<i32> {
    let stem = args.folder.join(format!("flow-{}", args.run_seed));
    let log = PathBuf::from(format!("{}.train.jsonl", stem.display()));
    let text = std::fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let told: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let last = |kind: &str| told.iter().rev().find(|line| line["kind"] == kind).cloned().unwrap_or_default();
    let (begun, trained) = (last("run"), last("trained"));
    let id =
        trained["adapter"].as_str().with_context(|| format!("{} ends with no adapter", log.display()))?;
    let run = begun["run"].as_str().unwrap_or_default();
    let home = Home::open(Some(&stem))?;
    let store = Store::open(&home)?;
    let adapter = store.find_adapter(id)?;
    let steps = store.steps(run)?;
    let frozen = steps.iter().find_map(|step| step.stats.get("frozen").filter(|kept| !kept.is_null()));
    let made = steps.iter().rev().find(|step| step.candidate.as_deref() == Some(id));
    let validated = told.iter().rev().find(|line| line["kind"] == "validated" && line["adapter"] == id);
    let tasks = include_bytes!("../../assets/tasks/train.jsonl");
    let manifest = json!({
        "made_from": {
            "run": run, "seed": begun["seed"], "step": made.map(|step| step.step), "steps": begun["steps"],
            "questions_per_draw": begun["questions"], "shuffled": false,
            "data": {"file": "assets/tasks/train.jsonl", "questions": begun["tasks"],
                "blake3": blake3::hash(tasks).to_hex().to_string()},
            "command": format!(
                "ARMS=flow SEEDS={} STEPS={} SETTINGS='kl_budget = {}\\nfault_cost = {}' scripts/reproduce.sh",
                args.run_seed, begun["steps"], begun["settings"]["kl_budget"], begun["settings"]["fault_cost"]
            ),
        },
        "settings": begun["settings"],
        "validation": validated,
        "gate": {"decision": trained["decision"], "report": verdict(&told, Opponent::Champion)},
        "frozen": frozen,
    });
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    std::fs::copy(store.adapter_dir(&adapter)?.join(WEIGHTS), args.out.join(WEIGHTS))?;
    std::fs::write(args.out.join("manifest.json"), format!("{manifest}\n"))?;
    println!("adapter {id} packed into {}", args.out.display());
    Ok(0)
}

/// What a run's gate said of its candidate against one opponent, its last word; null: they never met.
fn verdict(told: &[Value], opponent: Opponent) -> Value {
    let met = |line: &&Value| line["kind"] == "verdict" && line["report"]["opponent"] == json!(opponent);
    told.iter().rev().find(met).map(|line| line["report"].clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::gate::Gate;

    #[test]
    fn the_verdict_that_is_packed_is_the_one_against_the_champion() {
        let line = |opponent, won| {
            let mut gate = Gate::new(opponent, None);
            gate.add(won, !won);
            json!({"kind": "verdict", "report": gate.report()})
        };
        let gate = json!({"kind": "gate", "report": line(Opponent::Champion, false)["report"]});
        let told = [
            gate,
            line(Opponent::Champion, true),
            line(Opponent::Base, false),
            line(Opponent::Pinned, false),
        ];
        assert_eq!(verdict(&told, Opponent::Champion), told[1]["report"]);
        assert_eq!(verdict(&told[2..], Opponent::Champion), Value::Null);
    }
}
