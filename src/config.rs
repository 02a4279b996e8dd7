//! The user's settings: one TOML file, checked key by key, with every default written down.
//!
//! Flags override what stands here; that is the command line's business. This file opens no database
//! and loads no model.

mod home;
mod mcp;
mod network;
pub mod regular;
mod remote;
mod set;
mod train;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use home::{Home, at_home, create_private};
pub use mcp::Mcp;
pub use network::{Contact, Network, SearchProvider};
pub use remote::{LOCAL, Remote, Roles, in_the_clear};
pub use set::set;
pub use train::{Mode, Train};

/// The commented file that `Config::default()` corresponds to.
pub const DEFAULT_TEXT: &str = include_str!("config/default.toml");

/// All settings. A missing key has its default; an unknown key is an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub engine: Engine,
    pub flow: Flow,
    pub tools: Tools,
    pub deck: Deck,
    pub train: Train,
    pub network: Network,
    /// MCP servers by name.
    pub mcp: BTreeMap<String, Mcp>,
}

/// Which model is served, and how much of the machine it gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// GGUF file; empty: the embedded planner.
    pub model: PathBuf,
    /// Tokens one sequence may hold; 0: as many as memory and the model allow.
    pub context: usize,
    /// Sequences that run together; 0: chosen from memory.
    pub sequences: usize,
    /// Compute threads; 0: one per physical core.
    pub threads: usize,
    /// Layers put on the devices found; -1: as many as fit; 0: none.
    pub gpu_layers: i32,
    /// Name or file of a chat template; empty: the GGUF's own.
    pub chat_template: String,
    /// Engines elsewhere, by name.
    pub remote: BTreeMap<String, Remote>,
    /// Which engine serves which role.
    pub roles: Roles,
    /// Let the adapter that comes with the embedded planner serve until another is chosen.
    pub shipped_adapter: bool,
}

impl Default for Engine {
    fn default() -> Engine {
        Engine {
            model: PathBuf::new(),
            context: 0,
            sequences: 0,
            threads: 0,
            gpu_layers: -1,
            chat_template: String::new(),
            remote: BTreeMap::new(),
            roles: Roles::default(),
            shipped_adapter: true,
        }
    }
}

/// Where a query ends at the latest, and how its prompts are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flow {
    /// Turns of one query; 0: no limit.
    pub turns: usize,
    /// Seconds of one query; 0: no limit.
    pub seconds: u64,
    /// Sampled tokens of one query over all roles; 0: no limit.
    pub tokens: usize,
    /// Characters of a result that enter memory; 0: no limit.
    pub result_chars: usize,
    /// An equal command ends the query when it comes up again this often, and at once if it can only fail
    /// again; an act upon the world in between makes it a new one. 0: no limit.
    pub repeats: usize,
    /// Prompt pack: `auto`, `full`, `compact` or the folder of an own one; `auto` goes by the model.
    pub pack: String,
    /// Temperature the planner samples with when asked; 0: greedy; None: the prompt pack's own. The frozen
    /// roles are always greedy.
    pub planner_temperature: Option<f32>,
}

impl Default for Flow {
    fn default() -> Flow {
        Flow {
            turns: 10,
            seconds: 300,
            tokens: 32_768,
            result_chars: 2_000,
            repeats: 2,
            pack: "auto".to_string(),
            planner_temperature: None,
        }
    }
}

/// What tools may read and which are wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tools {
    /// Folders the knowledge search indexes besides the bundled knowledge.
    pub folders: Vec<PathBuf>,
    /// Folder the python tool may read; empty: none.
    pub data: PathBuf,
    /// Register the python tool where a sandbox works.
    pub python: bool,
    /// Folder the files, shell and python tools work in; empty: none.
    pub workspace: PathBuf,
    /// Programs in the sandbox may change the workspace.
    pub workspace_write: bool,
    /// Register the files tool, where there is a workspace.
    pub files: bool,
    /// Register the shell tool where a sandbox works.
    pub shell: bool,
    /// Run model-written code with Landlock and seccomp alone where nothing better works.
    pub allow_weak: bool,
}

impl Default for Tools {
    fn default() -> Tools {
        Tools {
            folders: Vec::new(),
            data: PathBuf::new(),
            python: true,
            workspace: PathBuf::new(),
            workspace_write: false,
            files: true,
            shell: false,
            allow_weak: false,
        }
    }
}

/// How the deck looks and listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deck {
    /// Name of a theme; empty: the terminal's own colours.
    pub theme: String,
    /// Nothing moves by itself.
    pub reduced_motion: bool,
    /// Take mouse events (the terminal's own selection then needs Shift).
    pub mouse: bool,
    /// What tells of an answer while the terminal is out of focus: "off", "bell" or "osc9"; empty: off.
    pub notify: String,
}

impl Default for Deck {
    fn default() -> Deck {
        Deck { theme: String::new(), reduced_motion: false, mouse: false, notify: "off".to_string() }
    }
}

impl Config {
    /// Read the settings: `file` if one was named (it must exist), else the home's, else the defaults.
    ///
    /// # Errors
    /// `Error::Config` names the file, the line and the key, and what was expected there.
    pub fn load(home: &Home, file: Option<&Path>) -> Result<Config> {
        let path = file.map_or_else(|| home.config_file(), Path::to_path_buf);
        match regular::text(&path) {
            Ok(text) => Config::parse(&text, &path),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && file.is_none() => Ok(Config::default()),
            Err(e) => Err(Error::Config(format!(
                "cannot read {}: {e}; name a readable file with --config FILE",
                path.display()
            ))),
        }
    }

    /// Read settings from text; `path` is for messages and for resolving relative paths.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Config> {
        let mut config: Config = toml::from_str(text).map_err(|e| {
            let at = e.span().map_or(0, |span| span.start);
            fault(text, path, at, e.message())
        })?;
        config.check(text, path)?;
        let base = path.parent().unwrap_or(Path::new("."));
        let keys = config.engine.remote.values_mut().map(|remote| &mut remote.key_file);
        let keys = keys.chain(config.mcp.values_mut().map(|server| &mut server.key_file));
        let tools = &mut config.tools;
        let own = [&mut config.engine.model, &mut config.network.search_key_file];
        let paths = [&mut tools.data, &mut tools.workspace].into_iter().chain(own);
        for relative in tools.folders.iter_mut().chain(paths).chain(keys) {
            *relative = resolve(base, relative);
        }
        Ok(config)
    }

    /// What the types cannot say.
    fn check(&self, text: &str, path: &Path) -> Result<()> {
        let temperature = self.flow.planner_temperature.unwrap_or_default();
        if !(0.0..=10.0).contains(&temperature) {
            let at = find_key(text, "planner_temperature");
            return Err(fault(text, path, at, &format!("{temperature} is not between 0 and 10")));
        }
        if self.engine.gpu_layers < -1 {
            let at = find_key(text, "gpu_layers");
            return Err(fault(
                text,
                path,
                at,
                &format!("{} is not -1 (all that fit), 0 or more", self.engine.gpu_layers),
            ));
        }
        self.network.check().map_err(|(key, reason)| fault(text, path, find_key(text, key), &reason))?;
        remote::check(&self.engine)
            .and_then(|()| mcp::check(&self.mcp))
            .map_err(|(place, what)| fault(text, path, text.find(&place).unwrap_or_default(), &what))
    }
}

/// `~/x` is under the user's home, a relative path beside the file that names it; empty stays empty.
fn resolve(base: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() {
        return PathBuf::new();
    }
    match (path.strip_prefix("~"), directories::BaseDirs::new()) {
        (Ok(rest), Some(dirs)) => dirs.home_dir().join(rest),
        _ => base.join(path),
    }
}

fn fault(text: &str, path: &Path, at: usize, message: &str) -> Error {
    let line = text.get(..at).map_or(0, |before| before.matches('\n').count()) + 1;
    let key = key_at(text, line).map_or_else(String::new, |key| format!(", key `{key}`"));
    let message = message.lines().collect::<Vec<_>>().join("; ");
    Error::Config(format!("{}, line {line}{key}: {message}", path.display()))
}

/// Byte offset of the line that sets `key`; 0 when it came from nowhere in the text.
fn find_key(text: &str, key: &str) -> usize {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.split('=').next().is_some_and(|left| left.trim().ends_with(key)) {
            return at;
        }
        at += line.len();
    }
    0
}

/// `section.key` in force at a line (from 1): the nearest `key =` at or above it, and its section header.
fn key_at(text: &str, line: usize) -> Option<String> {
    let above: Vec<&str> = text.lines().take(line).collect();
    let section = |to: usize| {
        above[..to].iter().rev().find_map(|l| Some(l.trim().strip_prefix('[')?.split(']').next()?.trim()))
    };
    for (index, text) in above.iter().enumerate().rev() {
        let text = text.trim();
        if let Some(header) = text.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            return Some(header.trim().to_string());
        }
        if let Some((key, _)) = text.split_once('=').filter(|(key, _)| is_key(key.trim())) {
            let key = key.trim();
            return Some(section(index).map_or_else(|| key.to_string(), |s| format!("{s}.{key}")));
        }
    }
    None
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.\"".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        Config::parse(text, Path::new("/c/config.toml")).unwrap_err().to_string()
    }

    #[test]
    fn default_file_says_the_defaults_and_every_key() {
        let parse = |text: &str| toml::from_str::<Config>(text).unwrap();
        assert_eq!(parse(DEFAULT_TEXT), Config::default());
        // With the settings themselves uncommented it still says the same.
        let live: String = DEFAULT_TEXT
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if rest.split(" = ").next().is_some_and(is_key) => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        assert_eq!(parse(&live), Config::default());
        let written: toml::Table = toml::from_str(&live).unwrap();
        let known = toml::Table::try_from(Config::default()).unwrap();
        for (section, keys) in &known {
            for key in keys.as_table().unwrap().keys() {
                assert!(written[section].get(key).is_some(), "{section}.{key} is not in default.toml");
            }
        }
    }

    #[test]
    fn faults_name_file_line_and_key() {
        for (text, expected) in [
            (
                "[flow]\nturns = 4\ntruns = 3\n",
                "/c/config.toml, line 3, key `flow.truns`: unknown field `truns`",
            ),
            ("[flow]\nturns = \"four\"\n", "/c/config.toml, line 2, key `flow.turns`: invalid type: string"),
            ("[flow]\nturns = -1\n", "line 2, key `flow.turns`"),
            ("[tools]\nfolders = [\n  \"a\",\n  3,\n]\n", "line 4, key `tools.folders`"),
            ("\n[motor]\nx = 1\n", "line 2, key `motor`: unknown field `motor`"),
            ("[flow]\nplanner_temperature = -0.5\n", "line 2, key `flow.planner_temperature`: -0.5 is not"),
            ("[engine]\ngpu_layers = -2\n", "line 2, key `engine.gpu_layers`: -2 is not"),
            ("[flow]\nturns = = 3\n", "line 2, key `flow.turns`"),
            (
                "[network]\nsearch = \"ask\"\n",
                "line 2, key `network.search`: unknown variant `ask`, expected one of",
            ),
            (
                "[network]\nallow_hosts = [\"a\"]\n",
                "line 2, key `network.allow_hosts`: \"a\" is no host and port",
            ),
            ("[network]\nsearch_url = \"a\"\n", "line 2, key `network.search_url`: \"a\" is no web address"),
        ] {
            let message = message(text);
            assert!(message.contains(expected), "{text:?}\n gave {message}\n not  {expected}");
            assert_eq!(message.lines().count(), 1);
        }
    }

    #[test]
    fn paths_are_resolved_beside_the_file() {
        let text = "[engine]\nmodel = \"m.gguf\"\n[tools]\nfolders = [\"notes\", \"/abs\"]\n";
        let config = Config::parse(text, Path::new("/c/config.toml")).unwrap();
        assert_eq!(config.engine.model, Path::new("/c/m.gguf"));
        assert_eq!(config.tools.folders, [Path::new("/c/notes"), Path::new("/abs")]);
        assert_eq!(config.tools.data, Path::new(""));
    }

    #[test]
    fn a_named_file_must_exist_and_the_homes_need_not() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        assert_eq!(Config::load(&home, None).unwrap(), Config::default());
        let missing = dir.path().join("other.toml");
        let message = Config::load(&home, Some(&missing)).unwrap_err().to_string();
        assert!(message.contains("other.toml") && message.contains("--config"), "{message}");
    }
}
