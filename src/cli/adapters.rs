//! `tillerman adapters`: what was learned, which of it serves, moving the pointer, and files in and out.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::config::{Home, regular};
use crate::engine::ModelInfo;
use crate::error::Error;
use crate::gguf::{self, TensorType};
use crate::store::{Adapter, AdapterShelf, GateLook, GatePair, GivenWay, NewAdapter, Origin, Store, WEIGHTS};
use crate::train::adapter_file::{self, About};
use crate::train::gate::Report;
use crate::train::kernels;
use crate::train::merge::merge;
use crate::train::peft;

use super::sessions::{when, written};
use super::standing::Standing;
use super::{Global, plain, setup};

#[derive(Debug, Args)]
pub struct AdaptersArgs {
    #[command(subcommand)]
    command: Option<AdaptersCommand>,
    /// One JSON object per line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum AdaptersCommand {
    /// All adapters, newest first; `*` serves on the model in use
    List,
    /// Serve this adapter from now on; `none`: the bare model
    Use {
        id: String,
        /// Although the gate found it worse
        #[arg(long)]
        force: bool,
    },
    /// Add paired rollouts to a candidate's evidence beside what serves; one that turns out better serves
    Judge(JudgeArgs),
    /// Take the last change of the serving adapter back
    Rollback,
    /// What an adapter was made from, and the gate's evidence on it
    Show { id: String },
    /// Write an adapter for other programs into a folder
    Export {
        id: String,
        #[arg(long, value_enum)]
        format: Format,
        dir: PathBuf,
    },
    /// Keep an adapter made elsewhere for the model in use: a GGUF file or a PEFT folder
    Import { path: PathBuf },
}

#[derive(Debug, Args)]
struct JudgeArgs {
    id: String,
    /// Most paired rollouts to add, of questions and seeds it has not met
    #[arg(long, default_value_t = 240, value_parser = clap::value_parser!(u64).range(1..))]
    pairs: u64,
    /// Questions to ask: a file, or `ledger` for those that labels know a right answer to (default: as `train`)
    #[arg(long, value_name = "ledger|FILE")]
    gate: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// adapter.gguf, as any llama.cpp program loads it
    Gguf,
    /// adapter_config.json and adapter_model.safetensors, as Python's PEFT loads them
    Peft,
    /// merged.gguf: model and adapter in one file, for programs that take no adapter
    Merged,
}

pub fn run(global: &Global, args: &AdaptersArgs) -> anyhow::Result<i32> {
    let (home, config) = setup::home_and_config(global)?;
    let (model, embedded) = setup::model_path(global, &home, &config)?;
    if embedded {
        super::shipped::settle(&home, &config, &model)?;
    }
    let store = Store::open(&home)?;
    let shelf = Shelf { home, store, model, json: args.json };
    match args.command.as_ref().unwrap_or(&AdaptersCommand::List) {
        AdaptersCommand::List => shelf.list(),
        AdaptersCommand::Use { id, force } => shelf.select(id, *force),
        AdaptersCommand::Judge(JudgeArgs { id, pairs, gate }) => {
            super::block(super::train::judge(global, id, *pairs, gate.as_deref(), args.json))
        }
        AdaptersCommand::Rollback => shelf.roll_back(),
        AdaptersCommand::Show { id } => shelf.show(id),
        AdaptersCommand::Export { id, format, dir } => shelf.export(id, *format, dir),
        AdaptersCommand::Import { path } => shelf.import(path),
    }
}

/// The adapters beside the model they would serve on.
struct Shelf {
    home: Home,
    store: Store,
    model: PathBuf,
    json: bool,
}

impl Shelf {
    fn model_hash(&self) -> anyhow::Result<String> {
        Ok(AdapterShelf::open(&self.home)?.model_hash(&self.model)?)
    }

    fn list(&self) -> anyhow::Result<i32> {
        let adapters = self.store.adapters(None)?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        if adapters.is_empty() && !self.json {
            let none = "no adapter yet; label answers and run `tillerman train --labelled`";
            return written(writeln!(out, "{none}").and_then(|()| out.flush()));
        }
        let model = self.model_hash()?;
        let current = self.store.current_adapter(&model)?;
        if let Some(alarm) = super::study_views::live(&self.store, &model, current.as_deref())? {
            eprintln!("alarm: {alarm}");
        }
        written(self.print_list(&adapters, current.as_deref(), &mut out))
    }

    fn print_list(
        &self,
        adapters: &[Adapter],
        current: Option<&str>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        if !self.json {
            writeln!(
                out,
                "  {:<12}  {:<16}  {:<8}  {:<11}  {:>4}  {:<12}  base",
                "id", "made", "origin", "gate", "rank", "parent"
            )?;
        }
        for adapter in adapters {
            let serves = current == Some(adapter.id.as_str());
            let standing = Standing::of(&self.store, adapter).map_err(io::Error::other)?;
            if self.json {
                let mut line = object("adapter", adapter)?;
                line["current"] = serves.into();
                line["standing"] = standing.word.into();
                writeln!(out, "{}", plain::json(&line))?;
                continue;
            }
            writeln!(
                out,
                "{} {:<12}  {:<16}  {:<8}  {:<11}  {:>4}  {:<12}  {}",
                if serves { "*" } else { " " },
                adapter.id,
                when(adapter.created_ms),
                adapter.origin.name(),
                standing.word,
                adapter.rank,
                adapter.parent.as_deref().unwrap_or("-"),
                adapter.model_hash.get(..12).unwrap_or(&adapter.model_hash),
            )?;
        }
        if !self.json && current.is_none() {
            writeln!(out, "the bare model serves")?;
        }
        out.flush()
    }

    fn select(&self, piece: &str, force: bool) -> anyhow::Result<i32> {
        let hash = self.model_hash()?;
        let adapter = if piece == "none" { None } else { Some(self.store.find_adapter(piece)?) };
        if let Some(adapter) = adapter.as_ref().filter(|_| !force)
            && let Some(worse) = Standing::of(&self.store, adapter)?.worse
        {
            let told = format!("adapter {} is {worse}; --force lets it serve all the same", adapter.id);
            return Err(Error::Usage(told).into());
        }
        let id = adapter.map(|adapter| adapter.id);
        let from = self.store.current_adapter(&hash)?;
        self.store.use_adapter(&hash, id.as_deref(), "use")?;
        self.moved(from.as_deref(), id.as_deref())
    }

    fn roll_back(&self) -> anyhow::Result<i32> {
        let (from, to) = self.store.roll_back(&self.model_hash()?)?;
        self.moved(from.as_deref(), to.as_deref())
    }

    fn moved(&self, from: Option<&str>, to: Option<&str>) -> anyhow::Result<i32> {
        if self.json {
            println!("{}", json!({"kind": "adapter_moved", "from": from, "to": to}));
        } else {
            let name =
                |id: Option<&str>| id.map_or("the bare model".to_string(), |id| format!("adapter {id}"));
            println!("{} serves (before: {})", name(to), name(from));
        }
        Ok(0)
    }

    fn show(&self, piece: &str) -> anyhow::Result<i32> {
        let adapter = self.store.find_adapter(piece)?;
        let whole = self.store.adapter_dir(&adapter);
        let serves = self.store.current_adapter(&adapter.model_hash)?.as_ref() == Some(&adapter.id);
        if self.json {
            let mut line = object("adapter", &adapter)?;
            line["current"] = serves.into();
            line["whole"] = whole.is_ok().into();
            line["standing"] = Standing::of(&self.store, &adapter)?.word.into();
            line["gave_way"] = serde_json::to_value(self.gave_way(&adapter)?)?;
            line["gate"] = self.evidence(&adapter)?.iter().map(Evidence::json).collect();
            println!("{}", plain::json(&line));
            return Ok(0);
        }
        println!("adapter   {}", adapter.id);
        println!("hash      {}", adapter.hash);
        println!("base      {}", adapter.model_hash);
        println!("parent    {}", adapter.parent.as_deref().unwrap_or("the bare model"));
        println!("made      {} ({})", when(adapter.created_ms), adapter.origin.name());
        println!("shape     rank {}, alpha {}", adapter.rank, adapter.alpha);
        println!("serves    {}", if serves { "yes" } else { "no" });
        println!("stands    {}", Standing::of(&self.store, &adapter)?.word);
        match whole {
            Ok(dir) => println!("files     {}, as written", dir.display()),
            Err(e) => println!("files     {e}"),
        }
        for found in self.gave_way(&adapter)? {
            let instead = found.instead.as_deref().unwrap_or("the bare model");
            println!("damaged   {} to {}: {instead} served", when(found.first_ms), when(found.last_ms));
        }
        if let Value::Object(fields) = &adapter.manifest {
            for (key, value) in fields {
                println!("{key:<9} {}", plain::excerpt(&value.to_string(), 200));
            }
        }
        self.evidence(&adapter)?.iter().for_each(Evidence::print);
        Ok(0)
    }

    /// When it was found damaged, and what served.
    fn gave_way(&self, adapter: &Adapter) -> anyhow::Result<Vec<GivenWay>> {
        let all = self.store.given_way()?.into_iter();
        Ok(all.filter(|found| found.adapter == adapter.id).collect())
    }

    /// What the gate saw of an adapter, by whom it was compared with.
    fn evidence(&self, adapter: &Adapter) -> anyhow::Result<Vec<Evidence>> {
        let mut found: Vec<Evidence> = Vec::new();
        for look in self.store.gate_looks(&adapter.id)? {
            if let Some(known) = found.iter_mut().find(|known| known.champion == look.champion) {
                known.looks.push(look);
                continue;
            }
            let pairs = self.store.gate_pairs(&adapter.id, look.champion.as_deref())?;
            found.push(Evidence { champion: look.champion.clone(), looks: vec![look], pairs });
        }
        Ok(found)
    }

    fn export(&self, piece: &str, format: Format, dir: &Path) -> anyhow::Result<i32> {
        let adapter = self.store.find_adapter(piece)?;
        let from = self.store.adapter_dir(&adapter)?;
        let cannot = |e: io::Error| {
            Error::Usage(format!("cannot write into {}: {}", dir.display(), regular::unwritable(&e)))
        };
        std::fs::create_dir_all(dir).map_err(cannot)?;
        let path = match format {
            Format::Gguf => {
                let path = dir.join(WEIGHTS);
                std::fs::copy(from.join(WEIGHTS), &path).map_err(cannot)?;
                path
            }
            Format::Peft | Format::Merged => self.convert(&adapter, &from.join(WEIGHTS), format, dir)?,
        };
        if self.json {
            let line = json!({"kind": "adapter_exported", "adapter": adapter.id, "path": path});
            println!("{}", plain::json(&line));
        } else {
            println!("adapter {} written to {}", adapter.id, path.display());
        }
        Ok(0)
    }

    /// What needs the base model beside the adapter. Answers where it was written.
    fn convert(
        &self,
        adapter: &Adapter,
        weights: &Path,
        format: Format,
        dir: &Path,
    ) -> anyhow::Result<PathBuf> {
        // Another base than its own would be refused by shape at best.
        AdapterShelf::open(&self.home)?.named(&adapter.id, &self.model)?;
        let base = gguf::check(&self.model).map_err(|e| Error::Engine(e.into()))?;
        let lora = adapter_file::read(weights, &base, None).map_err(Error::from)?;
        if format == Format::Peft {
            peft::export(dir, &lora, &base, base.name()).map_err(Error::from)?;
            return Ok(dir.to_path_buf());
        }
        let path = dir.join("merged.gguf");
        merge(&self.model, &lora, &path, TensorType::F16, &kernels::values).map_err(Error::from)?;
        Ok(path)
    }

    fn import(&self, path: &Path) -> anyhow::Result<i32> {
        let base = gguf::check(&self.model).map_err(|e| Error::Engine(e.into()))?;
        let print = adapter_file::fingerprint(&self.model, &base).map_err(Error::from)?;
        let draft = self.store.draft_adapter()?;
        let lora = if path.is_dir() {
            no_pipes(path)?;
            let lora = peft::import(path, &base).map_err(Error::from)?;
            let about = About { architecture: base.architecture.clone(), name: String::new(), base: print };
            let bytes = adapter_file::encode(&lora, &about, TensorType::F32).map_err(Error::from)?;
            adapter_file::place(&draft.path(WEIGHTS), &bytes).map_err(Error::from)?;
            lora
        } else {
            // Once for words about the person's own file, and once for what is kept: it may have changed meanwhile.
            adapter_file::read(path, &base, Some(&print)).map_err(Error::from)?;
            let kept = draft.path(WEIGHTS);
            let copy = || io::copy(&mut regular::open(path)?, &mut std::fs::File::create(&kept)?);
            copy().with_context(|| format!("cannot copy {}", path.display()))?;
            adapter_file::read(&kept, &base, Some(&print)).map_err(Error::from)?
        };
        let model = ModelInfo {
            name: base.name().to_string(),
            path: self.model.clone(),
            hash: self.model_hash()?,
            ..ModelInfo::default()
        };
        let manifest = json!({"imported_from": path.display().to_string()});
        let (rank, alpha) = (lora.rank, lora.alpha);
        let new = NewAdapter { parent: None, model: &model, rank, alpha, origin: Origin::Imported, manifest };
        let adapter = self.store.keep_adapter(draft, &new)?;
        if self.json {
            println!("{}", plain::json(&object("adapter", &adapter)?));
        } else {
            println!("adapter {} kept; `tillerman adapters use {}` serves it", adapter.id, adapter.id);
        }
        Ok(0)
    }
}

/// What lies in a folder from elsewhere may wait for a writer without end.
fn no_pipes(folder: &Path) -> Result<(), Error> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match regular::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::InvalidInput && !path.is_dir() => {
                return Err(Error::Usage(format!("cannot import {}: {e}", path.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

/// One comparison of the gate as it is kept.
struct Evidence {
    champion: Option<String>,
    looks: Vec<GateLook>,
    pairs: Vec<GatePair>,
}

impl Evidence {
    fn decision(&self) -> Option<&str> {
        self.looks.last().and_then(|look| look.decision.as_deref())
    }

    fn json(&self) -> Value {
        json!({"champion": self.champion, "decision": self.decision(), "looks": self.looks, "pairs": self.pairs})
    }

    fn print(&self) {
        let whom = self.champion.as_deref().unwrap_or("the bare model");
        println!("gate      against {whom}: {}", self.decision().unwrap_or("not ended"));
        for look in &self.looks {
            let text = serde_json::from_value(look.report.clone())
                .map_or_else(|_| look.report.to_string(), |report: Report| report.figures_text());
            println!("  {}  {text}", when(look.created_ms));
        }
        let mut equal = 0;
        for pair in &self.pairs {
            let word = match pair.candidate_reward.total_cmp(&pair.champion_reward) {
                std::cmp::Ordering::Greater => "won",
                std::cmp::Ordering::Less => "lost",
                std::cmp::Ordering::Equal => {
                    equal += 1;
                    continue;
                }
            };
            println!("  {word:<5} {} seed {}", plain::excerpt(&pair.question_id, 100), pair.seed);
        }
        println!("  {equal} pairs equal; all of them with --json");
    }
}

fn object(kind: &str, adapter: &Adapter) -> io::Result<Value> {
    let mut line = json!({"kind": kind});
    if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), serde_json::to_value(adapter)?) {
        line.extend(fields);
    }
    Ok(line)
}
