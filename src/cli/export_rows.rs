//! `tillerman __export-rows`: the scripted teacher through the real loop with the real tools, as training
//! rows for the embedded planner. Every prompt, card, memory line and separator is what the program says.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;

use crate::engine::chat::ChatTemplate;
use crate::engine::{Engine, Message, Role};
use crate::flow::prompt::{Fill, Pack};
use crate::flow::solve::{Ask, Flow, solve};
use crate::flow::trajectory::{Limits, Trajectory};
use crate::tasks::recording::{TeacherEngine, TrainingRow, rows};
use crate::tasks::{Family, Split, Task, TaskRng, Teacher, TeacherOptions, World, WrongRates, generate};
use crate::tools::search::{SearchIndex, SearchTool, Source};
use crate::tools::{Tool, Toolbox, base::Base, calculator::Calculator, python::Python};

use super::setup;

#[derive(Debug, Args)]
pub struct ExportRowsArgs {
    /// Where the rows go (JSON lines)
    pub out: PathBuf,
    /// Trajectories to record
    #[arg(long, default_value_t = 1000)]
    pub trajectories: usize,
    /// Tasks taken from each made-up world before the next is made
    #[arg(long, default_value_t = 60)]
    pub per_world: usize,
    /// Share of trajectories asked about the bundled world (its train entities)
    #[arg(long, default_value_t = 0.25)]
    pub real_share: f64,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Share of right plans that are miswritten: acted on, never shown to the planner
    #[arg(long, default_value_t = 0.0)]
    pub slip: f64,
    /// Share of trajectories that are short sums as people type them
    #[arg(long, default_value_t = 0.0)]
    pub sums: f64,
    /// Only right plans (for checking skills apart from choices)
    #[arg(long)]
    pub right_only: bool,
}

/// How often each family is asked, in the order of `Family::ALL`.
const WEIGHTS: [u32; 9] = [12, 10, 7, 16, 14, 9, 12, 12, 8];

pub async fn run(args: &ExportRowsArgs) -> anyhow::Result<i32> {
    let mut rng = TaskRng::seed_from_u64(args.seed);
    let template = ChatTemplate::new("", "", "<|im_end|>")?;
    let pack = Arc::new(Pack::bundled("compact")?);
    let mut out = std::io::BufWriter::new(
        std::fs::File::create(&args.out).with_context(|| format!("cannot write {}", args.out.display()))?,
    );
    let folder = tempfile::tempdir()?;
    let real = WorldTools::new(World::real().clone(), &folder.path().join("real"))?;
    let mut made = WorldTools::new(World::synthetic(args.seed << 20), &folder.path().join("made"))?;
    let (mut in_world, mut count, mut written) = (0, 0, 0);
    let mut worlds = 1;
    while count < args.trajectories {
        if in_world >= args.per_world {
            made =
                WorldTools::new(World::synthetic((args.seed << 20) + worlds), &folder.path().join("made"))?;
            worlds += 1;
            in_world = 0;
        }
        let mut family = weighted(&mut rng);
        let world = if rng.random_bool(args.real_share) { &real } else { &made };
        in_world += 1;
        if args.sums > 0.0 && rng.random_bool(args.sums) {
            family = Family::Sums;
        }
        let Some(task) = generate(family, &world.world, Split::Train, &mut rng) else { continue };
        let (trajectory, slips) = record(&task, world, &pack, args, &mut rng).await?;
        for row in rows(&trajectory, task.family.name(), &template, &slips)? {
            if !rng.random_bool(kept(&row)) {
                continue;
            }
            serde_json::to_writer(&mut out, &row)?;
            out.write_all(b"\n")?;
            written += 1;
        }
        count += 1;
        if count % 1000 == 0 {
            out.flush()?;
            eprintln!("{count} trajectories, {written} rows, {worlds} worlds");
        }
    }
    out.flush()?;
    println!("{count} trajectories, {written} rows");
    Ok(0)
}

/// Share of rows kept: a reply that is always the same needs few examples.
fn kept(row: &TrainingRow) -> f64 {
    let given_up = ["answer the question", "gave up", "I cannot answer"];
    match row.role {
        "base" => 0.05,
        "analyst" => 0.3,
        "planner" => 1.0,
        _ if given_up.iter().any(|text| row.completion.contains(text)) => 0.2,
        _ => 1.0,
    }
}

fn weighted(rng: &mut TaskRng) -> Family {
    let mut left = rng.random_range(0..WEIGHTS.iter().sum::<u32>());
    for (family, weight) in Family::ALL.into_iter().zip(WEIGHTS) {
        if left < weight {
            return family;
        }
        left -= weight;
    }
    Family::Lookup
}

/// A world and the tools that see it.
struct WorldTools {
    world: World,
    tools: Vec<Arc<dyn Tool>>,
}

impl WorldTools {
    fn new(world: World, folder: &Path) -> anyhow::Result<WorldTools> {
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        std::fs::create_dir_all(folder)?;
        for file in &world.csv {
            std::fs::write(folder.join(&file.name), file.text())?;
        }
        let lines = Source::Lines { name: "knowledge".into(), text: world.lines().join("\n") };
        let index = SearchIndex::build(vec![lines])?;
        let python = Python::new(setup::exe(), Some(folder.to_path_buf()))
            .map_err(|refused| anyhow::anyhow!("python tool: {}; {}", refused.reason, refused.remedy))?;
        let tools: Vec<Arc<dyn Tool>> =
            vec![Arc::new(Calculator::new()), Arc::new(SearchTool::new(Arc::new(index))), Arc::new(python)];
        Ok(WorldTools { world, tools })
    }
}

async fn record(
    task: &Task,
    world: &WorldTools,
    pack: &Arc<Pack>,
    args: &ExportRowsArgs,
    rng: &mut TaskRng,
) -> anyhow::Result<(Trajectory, Vec<usize>)> {
    let wrong = if args.right_only { WrongRates::none() } else { WrongRates::default() };
    let seed = rng.random();
    let teacher =
        TeacherEngine::new(Teacher::new(task.clone(), TeacherOptions { seed, wrong, slip: args.slip }));
    let engine: Arc<dyn Engine> = teacher.clone();
    let prompts = pack.clone();
    let base = Base::new(
        engine.clone(),
        Arc::new(move |question: &str| -> Vec<Message> {
            prompts.messages(Role::Base, &Fill { sub_goal: question, ..Fill::default() })
        }),
    );
    let mut tools = world.tools.clone();
    tools.push(Arc::new(base));
    // Most prompts list the tools in their usual order; some shuffle them, so that names are read.
    if rng.random_bool(0.15) {
        tools.shuffle(rng);
    }
    let flow = Flow {
        engine,
        toolbox: Arc::new(Toolbox { tools, refused: Vec::new() }),
        pack: pack.clone(),
        limits: Limits::default(),
        planner_temperature: None,
        adapter: None,
        approvals: Arc::default(),
    };
    let ask = Ask {
        id: format!("{}-{seed:x}", task.id),
        query: task.query.clone(),
        conversation: earlier(world, rng),
        seed,
        ..Ask::default()
    };
    let trajectory = solve(&flow, &ask, teacher.clone(), CancellationToken::new()).await;
    Ok((trajectory, teacher.slips()))
}

/// Sometimes an earlier question and its answer stand before the query, as in a conversation.
fn earlier(world: &WorldTools, rng: &mut TaskRng) -> Vec<(String, String)> {
    if !rng.random_bool(0.08) {
        return Vec::new();
    }
    let facts = &world.world.facts;
    let fact = &facts[rng.random_range(0..facts.len())];
    vec![(format!("What is the {} of {}?", fact.relation, fact.entity), fact.value.clone())]
}
