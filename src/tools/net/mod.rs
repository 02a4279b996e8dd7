//! Network tools: web search, Wikipedia and a page reader behind one guard, with kept copies and an off switch.
//!
//! Nothing here is registered until the user's settings switch it on, and no socket is opened before a tool is
//! called. Read `guard` for what is refused and `fetch` for what a request does.

mod address;
pub mod body;
mod cache;
pub mod extract;
mod fault;
mod fetch;
mod guard;
mod page;
mod resolve;
#[cfg(test)]
mod testing;
mod web;
mod web_search;
mod wikipedia;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use extract::Extractor;
pub use fault::NetFault;
pub use guard::{Guard, Target};
pub use resolve::Pinned;

use super::{Effects, Refused, Tool, ToolResult, Toolbox};
use crate::config::{Network, SearchProvider};
use crate::engine::key::Key;
use cache::Cache;
use fault::shown;
use fetch::{Ask, Fetcher, Page};

/// The tools of this module and the key that switches each on.
pub const SWITCHES: [(&str, &str); 3] = [
    ("web", "network.web = true"),
    ("wikipedia", "network.wikipedia = true"),
    ("web_search", "network.search = \"searxng\", \"brave\" or \"tavily\""),
];

/// What every call here does: what comes back is other people's text, and an address or words that a model chose
/// can carry anything out.
const EFFECTS: Effects = Effects { reads_private: false, brings_outside_text: true, acts_outward: true };

/// What the network tools share: the guard behind the fetcher, the kept copies, the switch.
struct Net {
    fetcher: Fetcher,
    cache: Cache,
    extractor: Extractor,
    /// Only kept copies are given out.
    offline: bool,
}

/// A page, and how old a kept copy is; None: just fetched.
struct Got {
    page: Page,
    age: Option<Duration>,
}

impl Got {
    fn json(&self, key: &'static str) -> Result<Value, NetFault> {
        serde_json::from_str(&self.page.text).map_err(|reason| NetFault::Answer {
            url: shown(&self.page.url),
            reason: format!("no JSON: {reason}"),
            key,
        })
    }
}

impl Net {
    /// A kept copy where there is one, else a request. A URL the guard refuses gets neither.
    async fn get(&self, ask: &Ask, cancel: &CancellationToken) -> Result<Got, NetFault> {
        let url = self.fetcher.check(&ask.url)?.url;
        let key = format!("{url} {}", ask.body.as_deref().unwrap_or_default());
        if let Some((page, age)) = self
            .kept({
                let key = key.clone();
                move |cache| cache.get(&key)
            })
            .await
            .flatten()
        {
            return Ok(Got { page, age: Some(age) });
        }
        if self.offline {
            return Err(NetFault::Offline { what: shown(url.as_str()) });
        }
        let page = self.fetcher.fetch(ask, cancel).await?;
        let copy = page.clone();
        self.kept(move |cache| cache.put(&key, &copy)).await;
        Ok(Got { page, age: None })
    }

    /// What is done with the kept copies, away from the threads that must not wait for a disk; None: it failed,
    /// and a copy less is no harm.
    async fn kept<T: Send + 'static>(&self, work: impl FnOnce(&Cache) -> T + Send + 'static) -> Option<T> {
        let cache = self.cache.clone();
        tokio::task::spawn_blocking(move || work(&cache)).await.ok()
    }
}

/// A text and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    title: String,
    url: String,
    text: String,
}

/// The result that cites each source: in the text, where memory and the answer see it, and in the record.
fn cited(sources: &[Source], age: Option<Duration>) -> ToolResult {
    let kept = age.map_or_else(String::new, |age| format!(" (kept copy, {} old)", spoken(age)));
    let parts: Vec<String> = sources
        .iter()
        .map(|source| format!("[{}] {}{kept}\n{}", source.url, source.title, source.text).trim().to_owned())
        .collect();
    let mut result = ToolResult::ok(parts.join("\n\n"));
    result.sources = sources.iter().map(|source| source.url.clone()).collect();
    result
}

fn spoken(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// Register what the settings switch on; what cannot work is refused with a reason. `cache` is the folder for
/// kept copies, `extractor` takes pages apart.
pub fn register(toolbox: &mut Toolbox, settings: &Network, cache: PathBuf, extractor: Extractor) {
    let keep = Duration::from_secs(settings.cache_hours.saturating_mul(3600));
    let cache = Cache::new(cache, keep, settings.cache_mb.saturating_mul(1 << 20));
    let guard = Guard::new(&settings.allow_hosts);
    let net = Arc::new(Net { fetcher: Fetcher::new(guard), cache, extractor, offline: settings.offline });
    if settings.search != SearchProvider::Off {
        match search(settings, Arc::clone(&net)) {
            Ok(tool) => toolbox.tools.push(tool),
            Err((reason, remedy)) => {
                toolbox.refused.push(Refused { name: "web_search".into(), reason, remedy });
            }
        }
    }
    if settings.wikipedia {
        let api = settings.wikipedia_url.clone();
        toolbox.tools.push(Arc::new(wikipedia::Wikipedia::new(Arc::clone(&net), api)));
    }
    if settings.web {
        toolbox.tools.push(Arc::new(web::Web::new(net)));
    }
}

fn search(settings: &Network, net: Arc<Net>) -> Result<Arc<dyn Tool>, (String, String)> {
    let provider = settings.search;
    let base = settings.search_base();
    if base.is_empty() {
        let remedy = "set network.search_url to its address, e.g. \"http://localhost:8888\"";
        return Err(("a SearXNG has no address of its own".into(), remedy.into()));
    }
    let (name, file) = (provider.key_variable(), &settings.search_key_file);
    // A file that the user named outweighs what the environment happens to hold.
    let key = if file.as_os_str().is_empty() { Key::of(name, file) } else { Key::of("", file) };
    let remedy = || format!("set {name}, or network.search_key_file to a private file that holds the key");
    let key = if name.is_empty() { None } else { key.map_err(|reason| (reason, remedy()))? };
    Ok(Arc::new(web_search::WebSearch::new(net, provider, base, key)))
}

/// What to say of a question that names a web address where no tool reads any.
pub fn unread_address(question: &str, toolbox: &Toolbox) -> Option<Refused> {
    let named = ["http://", "https://"].iter().any(|scheme| question.contains(scheme));
    if !named || toolbox.get("web").is_some() {
        return None;
    }
    switched_off("web")
}

/// Why a network tool that nobody switched on is not there; None for other names.
pub fn switched_off(name: &str) -> Option<Refused> {
    let (name, switch) = SWITCHES.iter().find(|(known, _)| *known == name)?;
    Some(Refused {
        name: (*name).to_owned(),
        reason: "the network is off".to_owned(),
        remedy: format!("{switch} in config.toml switches it on"),
    })
}

#[cfg(test)]
mod tests;
