//! Puts the parts together from flags and settings: home, store, engine, toolbox, prompt pack.
//!
//! The only place that chooses; everything below is handed what it needs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use crate::config::{Config, Home, create_private, regular};
use crate::engine::client::{EngineOptions, LlamaEngine};
use crate::engine::cores::Cores;
use crate::engine::remote::RemoteEngine;
use crate::engine::router::Router;
use crate::engine::{Engine, Role};
use crate::error::{EngineError, Error};
use crate::flow::prompt::{Fill, Pack};
use crate::flow::solve::Flow;
use crate::flow::trajectory::Limits;
use crate::store::{AdapterShelf, Serving, Store};
use crate::tools::net::Extractor;
use crate::tools::workspace::Workspace;
use crate::tools::{Approvals, StandardOptions, Toolbox, mcp};

use super::Global;

/// The embedded planner, as shipped in the binary.
pub static PLANNER: &[u8] = include_bytes!("../../assets/planner.gguf");

/// `general.name` of the embedded planner; a file of that name gets the compact prompts.
pub const EMBEDDED_NAME: &str = "tillerman-embedded";

/// Everything a command needs to run queries.
#[derive(Clone)]
pub struct Setup {
    pub home: Home,
    pub config: Config,
    /// The local model, whether or not a role uses it; queries go through `flow.engine`.
    pub engine: Arc<LlamaEngine>,
    pub model: PathBuf,
    /// The embedded planner serves, with what it can and cannot do.
    pub embedded: bool,
    pub flow: Flow,
    /// What the user should hear before anything runs.
    pub notice: Option<String>,
    /// What is wrong with the current adapter, and what serves in its place.
    pub damage: Option<String>,
    /// Name of the remote engine that plans, if one does.
    pub planner_elsewhere: Option<String>,
}

impl Setup {
    /// What learns is the local model; refuse where another one plans.
    ///
    /// # Errors
    /// The planner is a remote engine; says which and the remedy.
    pub fn learns_here(&self) -> Result<(), Error> {
        match &self.planner_elsewhere {
            None => Ok(()),
            Some(name) => Err(Error::Usage(format!(
                "the planner is the remote engine {name}, and training changes the weights of a model on this \
                 machine; set engine.roles.planner = \"local\", or train where the weights are, on its rollouts as \
                 `tillerman export IDS FILE.jsonl` writes them, token ids and log-probabilities included"
            ))),
        }
    }

    /// Say the notice on stderr; for commands that have no screen of their own.
    pub fn say_notice(&self) {
        if let Some(notice) = &self.notice {
            eprintln!("tillerman: {}", crate::text::safe(notice));
        }
    }
}

/// Read home and settings; nothing is loaded yet.
///
/// # Errors
/// The data directory or the settings file cannot be used; says which and why.
pub fn home_and_config(global: &Global) -> anyhow::Result<(Home, Config)> {
    let home = Home::open(global.home.as_deref())?;
    let mut config = Config::load(&home, global.config.as_deref())?;
    config.network.offline |= global.offline;
    Ok((home, config))
}

/// Build the parts for running queries with `sequences` of them at once. The model loads with the first call.
///
/// # Errors
/// Settings, model path or data directory that cannot be used.
pub fn open(global: &Global, sequences: usize) -> anyhow::Result<Setup> {
    let (home, config) = home_and_config(global)?;
    let away = remote_engines(&config);
    if config.network.offline
        && let Some(engine) = away.values().next()
    {
        let told = format!(
            "a role is served by the remote engine {}, and the network is off; leave out --offline and \
             network.offline, or take it out of [engine.roles]",
            engine.name()
        );
        return Err(Error::Usage(told).into());
    }
    let (model, embedded) = match model_path(global, &home, &config) {
        // Nobody asks it: its absence is no obstacle.
        Err(_) if away.len() == Role::ALL.len() => (PathBuf::new(), false),
        found => found?,
    };
    let planner_elsewhere = away.get(&Role::Planner).map(|engine| engine.name().to_string());
    let mut notice = None;
    if embedded && planner_elsewhere.is_none() {
        let settled = super::shipped::settle(&home, &config, &model);
        notice =
            settled.err().map(|e| format!("the shipped adapter cannot be kept: {e:#}; going on without"));
    }
    let mut damage = None;
    let (adapter, adapter_hash) = match (&planner_elsewhere, &global.adapter) {
        (None, _) => adapter(global, &home, &model, (&mut notice, &mut damage))?.unzip(),
        (Some(_), None) => (None, None),
        (Some(name), Some(_)) => {
            let told = format!("the planner is the remote engine {name}, which takes no --adapter");
            return Err(Error::Usage(told).into());
        }
    };
    let some = |n: usize| (n > 0).then_some(n);
    let options = EngineOptions {
        model: model.clone(),
        context: some(config.engine.context),
        sequences: if config.engine.sequences > 0 { config.engine.sequences } else { sequences },
        threads: some(config.engine.threads),
        gpu_layers: (config.engine.gpu_layers >= 0).then_some(config.engine.gpu_layers),
        adapter,
        chat_template: chat_template(&config.engine.chat_template)?,
        log_dir: Some(home.logs()),
        exe: exe(),
    };
    let engine = Arc::new(LlamaEngine::new(options).sharing(Cores::of(&home)));
    let small = embedded && planner_elsewhere.is_none();
    let mut pack = pack(&config.flow.pack, small)?;
    if small && !away.is_empty() && matches!(config.flow.pack.as_str(), "" | "auto") {
        pack = pack.with_roles(Pack::bundled("full")?, away.keys().copied().collect());
    }
    let pack = Arc::new(pack);
    let serving: Arc<dyn Engine> =
        if away.is_empty() { engine.clone() } else { Arc::new(Router::new(engine.clone(), away)) };
    let toolbox = Arc::new(toolbox(global, &home, &config, Some(serving.clone()), &pack)?);
    if let Some(weak) = toolbox.sandbox_lacks() {
        let before = notice.take().map_or_else(String::new, |notice| format!("{notice}; "));
        notice = Some(format!("{before}{weak}"));
    }
    let flow = Flow {
        engine: serving,
        toolbox,
        pack,
        limits: Limits {
            turns: config.flow.turns,
            seconds: config.flow.seconds,
            tokens: config.flow.tokens,
            result_chars: config.flow.result_chars,
            repeats: config.flow.repeats,
        },
        planner_temperature: config.flow.planner_temperature,
        adapter: adapter_hash,
        approvals: Arc::new(Approvals::new(global.approve.into(), None)),
    };
    Ok(Setup { home, config, engine, model, embedded, flow, notice, damage, planner_elsewhere })
}

/// The remote engines the settings give roles to, one per name however many roles it serves.
fn remote_engines(config: &Config) -> HashMap<Role, Arc<RemoteEngine>> {
    let mut made: HashMap<&str, Arc<RemoteEngine>> = HashMap::new();
    let mut of_role = HashMap::new();
    for role in Role::ALL {
        let Some(name) = config.engine.roles.remote(role.name()) else { continue };
        let Some(settings) = config.engine.remote.get(name) else { continue };
        let engine = made.entry(name).or_insert_with(|| Arc::new(RemoteEngine::new(name, settings.clone())));
        of_role.insert(role, engine.clone());
    }
    of_role
}

/// This program's own path, for starting its hidden children.
pub fn exe() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("tillerman"))
}

/// Which GGUF serves, and whether it is the embedded one.
pub fn model_path(global: &Global, home: &Home, config: &Config) -> anyhow::Result<(PathBuf, bool)> {
    let chosen = global
        .model
        .clone()
        .or_else(|| (!config.engine.model.as_os_str().is_empty()).then(|| config.engine.model.clone()));
    let Some(path) = chosen.or_else(|| super::model::used(home)) else {
        return Ok((embedded_planner(home)?, true));
    };
    if !path.exists() {
        return Err(Error::Engine(EngineError::ModelMissing { path }).into());
    }
    let header = crate::gguf::check(&path).map_err(|e| Error::Engine(e.into()))?;
    let embedded = header.name() == EMBEDDED_NAME;
    Ok((path, embedded))
}

/// The embedded planner as a file.
///
/// # Errors
/// The data directory cannot be written.
pub fn embedded_planner(home: &Home) -> anyhow::Result<PathBuf> {
    materialise(home, "planner", "gguf", PLANNER)
}

/// Write a bundled file below the data directory, once per content.
fn materialise(home: &Home, stem: &str, extension: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    let hash = blake3::hash(bytes).to_hex();
    let path = home.models().join(format!("{stem}-{}.{extension}", &hash[..12]));
    if std::fs::metadata(&path).is_ok_and(|m| m.len() == bytes.len() as u64) {
        return Ok(path);
    }
    write_whole(&path, bytes)?;
    Ok(path)
}

fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().context("a path without a folder")?;
    let write = || -> std::io::Result<()> {
        create_private(folder)?;
        let temporary = tempfile::NamedTempFile::new_in(folder)?;
        std::fs::write(temporary.path(), bytes)?;
        temporary.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|e| {
        anyhow::Error::from(Error::Store(format!(
            "cannot write {}: {e}; choose another data directory with --home DIR",
            path.display()
        )))
    })
}

/// The adapter to serve and its content hash: the one named by file or id, else the model's current one.
/// What broke it must not keep the model from serving: an ancestor or the bare model does, and `notice` says so.
fn adapter(
    global: &Global,
    home: &Home,
    model: &Path,
    (notice, damage): (&mut Option<String>, &mut Option<String>),
) -> anyhow::Result<Option<(PathBuf, String)>> {
    let Some(name) = global.adapter.as_deref() else {
        let serving = AdapterShelf::open(home).and_then(|shelf| shelf.serving(model));
        let serving = serving.unwrap_or_else(|e| {
            *notice = Some(format!("{e}; going on without an adapter"));
            Serving::default()
        });
        *damage = serving.told();
        if let Some(told) = &serving.told() {
            *notice = Some(format!("{told}; {}", Serving::REMEDY));
            // For whoever reads the record after the file was put back. What serves does not wait for it.
            let _ = Store::open(home).and_then(|store| store.note_given_way(&serving));
        }
        return Ok(serving.adapter.map(|(adapter, path)| (path, adapter.hash)));
    };
    named_adapter(home, model, name)
}

/// An adapter's weights and content hash by file or id, for this model; None for `none`.
///
/// # Errors
/// Neither a file nor an id, made for another base model, or damaged since.
pub fn named_adapter(home: &Home, model: &Path, name: &str) -> anyhow::Result<Option<(PathBuf, String)>> {
    let file = PathBuf::from(name);
    if name == "none" {
        return Ok(None);
    }
    if file.is_file() {
        let hash = file_hash(&file)?;
        return Ok(Some((file, hash)));
    }
    let (adapter, path) = AdapterShelf::open(home)?.named(name, model)?;
    Ok(Some((path, adapter.hash)))
}

/// blake3 of a file, hex.
fn file_hash(path: &Path) -> anyhow::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let read = regular::open(path).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn chat_template(setting: &str) -> anyhow::Result<Option<String>> {
    if setting.is_empty() {
        return Ok(None);
    }
    let text = regular::text(Path::new(setting))
        .map_err(|e| Error::Config(format!("engine.chat_template: cannot read {setting}: {e}")))?;
    Ok(Some(text))
}

/// `auto`, a bundled pack's name, or the folder of a pack of the user's own.
fn pack(setting: &str, embedded: bool) -> anyhow::Result<Pack> {
    match setting {
        "auto" | "" => Ok(Pack::bundled(if embedded { "compact" } else { "full" })?),
        "full" | "compact" => Ok(Pack::bundled(setting)?),
        folder => {
            let mut files = std::collections::BTreeMap::new();
            let entries = std::fs::read_dir(folder)
                .map_err(|e| Error::Config(format!("flow.pack: cannot read the folder {folder}: {e}")))?;
            for entry in entries.flatten() {
                if let Ok(text) = regular::text(&entry.path()) {
                    files.insert(entry.file_name().to_string_lossy().into_owned(), text);
                }
            }
            Ok(Pack::from_files(&files)?)
        }
    }
}

/// The tools of this machine.
///
/// # Errors
/// A folder the user named does not exist.
pub fn toolbox(
    global: &Global,
    home: &Home,
    config: &Config,
    engine: Option<Arc<dyn Engine>>,
    pack: &Arc<Pack>,
) -> anyhow::Result<Toolbox> {
    let folders: Vec<PathBuf> = config.tools.folders.iter().chain(&global.folder).cloned().collect();
    for folder in &folders {
        if !folder.is_dir() {
            return Err(Error::Usage(format!(
                "folder {} does not exist; name one that is there with --folder DIR",
                folder.display()
            ))
            .into());
        }
    }
    let (data, data_private) = if !config.tools.data.as_os_str().is_empty() {
        (config.tools.data.clone(), true)
    } else if let Some(folder) = global.folder.first() {
        (folder.clone(), true)
    } else {
        (bundled_data(home)?, false)
    };
    if config.tools.allow_weak {
        crate::tools::sandbox::allow_weak();
    }
    let prompts = pack.clone();
    let workspace = workspace(global, home, config)?;
    let options = StandardOptions {
        engine,
        base_prompt: Arc::new(move |question: &str| {
            prompts.messages(Role::Base, &Fill { sub_goal: question, ..Fill::default() })
        }),
        knowledge: crate::tasks::world::knowledge(),
        folders,
        data: Some(data),
        data_private,
        workspace: workspace.clone(),
        files: config.tools.files,
        shell: config.tools.shell,
        sandbox_exe: crate::tools::sandbox_exe(),
        python: config.tools.python,
    };
    let mut toolbox = crate::tools::standard(options);
    let extractor = Extractor::Process(crate::tools::sandbox_exe());
    let cache = home.cache().join("web");
    crate::tools::net::register(&mut toolbox, &config.network, cache, extractor);
    if config.network.offline {
        mcp::refuse(&mut toolbox, &config.mcp);
    } else {
        let servers = mcp::reach::apart(&mut toolbox, &config.mcp, workspace.as_ref());
        mcp::register(&mut toolbox, &servers, &home.mcp(), &crate::tools::sandbox_exe());
    }
    Ok(toolbox)
}

/// The folder the person lets tools work in, if there is one.
///
/// # Errors
/// It cannot be one; says why.
pub fn workspace(global: &Global, home: &Home, config: &Config) -> anyhow::Result<Option<Workspace>> {
    let set = Some(&config.tools.workspace).filter(|path| !path.as_os_str().is_empty());
    let Some(path) = global.workspace.as_ref().or(set) else { return Ok(None) };
    let settings = global.config.clone().unwrap_or_else(|| home.config_file());
    let opened = Workspace::open(path, config.tools.workspace_write, home.root(), &settings);
    Ok(Some(opened.map_err(Error::Usage)?))
}

/// The bundled CSV files, below the data directory where the sandbox can bind them.
fn bundled_data(home: &Home) -> anyhow::Result<PathBuf> {
    let folder = home.root().join("data");
    for (name, text) in crate::tasks::world::data_files() {
        let path = folder.join(name);
        if std::fs::read_to_string(&path).ok().as_deref() != Some(text) {
            write_whole(&path, text.as_bytes())?;
        }
        readable_by_all(&path, 0o644)?;
    }
    readable_by_all(&folder, 0o755)?;
    Ok(folder)
}

/// Started by root, sandboxed programs run as the user nobody; what is bundled is no secret.
fn readable_by_all(path: &Path, mode: u32) -> anyhow::Result<()> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, mode).with_context(|| format!("cannot make {} readable", path.display()))
}

/// A fresh seed for a run that was given none; recorded with the trajectory.
pub fn fresh_seed() -> u64 {
    rand::random::<u64>() >> 12
}

/// Threads of a training step: all of them, since nothing samples meanwhile.
pub fn training_threads(config: &Config) -> usize {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    if config.engine.threads > 0 { config.engine.threads } else { all }
}
