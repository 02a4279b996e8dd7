//! The [network] settings: what may be contacted, each switch off until the user turns it.
//!
//! This file opens nothing; the guard that keeps to these settings is `tools::net`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

/// Which network tools there are, and how far they reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Nothing leaves the machine, whatever else is switched on; kept copies are still given out.
    pub offline: bool,
    /// Register the tool that reads web pages.
    pub web: bool,
    /// Register the tool that searches Wikipedia.
    pub wikipedia: bool,
    /// Address of a MediaWiki's api.php.
    pub wikipedia_url: String,
    /// Register the web search with this provider.
    pub search: SearchProvider,
    /// Address of the provider; empty: its own.
    pub search_url: String,
    /// File (mode 0600) that holds the provider's key; empty: the environment.
    pub search_key_file: PathBuf,
    /// `host:port` pairs that are reached although their address or port is not public.
    pub allow_hosts: Vec<String>,
    /// Hours a fetched page is kept; 0: nothing is kept.
    pub cache_hours: u64,
    /// MiB all kept pages may take.
    pub cache_mb: u64,
}

impl Default for Network {
    fn default() -> Network {
        Network {
            offline: false,
            web: false,
            wikipedia: false,
            wikipedia_url: "https://en.wikipedia.org/w/api.php".to_string(),
            search: SearchProvider::Off,
            search_url: String::new(),
            search_key_file: PathBuf::new(),
            allow_hosts: Vec::new(),
            cache_hours: 24,
            cache_mb: 64,
        }
    }
}

/// Who searches the web.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchProvider {
    #[default]
    Off,
    Searxng,
    Brave,
    Tavily,
}

impl SearchProvider {
    pub fn name(self) -> &'static str {
        match self {
            SearchProvider::Off => "nobody",
            SearchProvider::Searxng => "SearXNG",
            SearchProvider::Brave => "Brave",
            SearchProvider::Tavily => "Tavily",
        }
    }

    /// Its own address; empty: there is none.
    fn address(self) -> &'static str {
        match self {
            SearchProvider::Off | SearchProvider::Searxng => "",
            SearchProvider::Brave => "https://api.search.brave.com",
            SearchProvider::Tavily => "https://api.tavily.com",
        }
    }

    /// The environment variable its key is read from; empty: it needs none.
    pub fn key_variable(self) -> &'static str {
        match self {
            SearchProvider::Off | SearchProvider::Searxng => "",
            SearchProvider::Brave => "BRAVE_API_KEY",
            SearchProvider::Tavily => "TAVILY_API_KEY",
        }
    }
}

/// A host this program may contact, why, and the setting that says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contact {
    pub host: String,
    pub why: String,
    pub setting: String,
}

impl Contact {
    pub fn new(host: impl Into<String>, why: impl Into<String>, setting: impl Into<String>) -> Contact {
        Contact { host: host.into(), why: why.into(), setting: setting.into() }
    }
}

impl Network {
    /// Where the search provider's API begins; empty: nobody said.
    pub fn search_base(&self) -> String {
        if self.search_url.is_empty() { self.search.address().to_string() } else { self.search_url.clone() }
    }

    /// Whether a tool is switched on that could contact anybody.
    pub fn is_on(&self) -> bool {
        !self.offline && (self.web || self.wikipedia || self.search != SearchProvider::Off)
    }

    /// Every host the network tools may contact.
    pub fn contacts(&self) -> Vec<Contact> {
        let mut contacts = Vec::new();
        if !self.is_on() {
            return contacts;
        }
        if self.search != SearchProvider::Off {
            let why = format!("{} answers web searches (tool web_search)", self.search.name());
            contacts.push(Contact::new(authority(&self.search_base()), why, "network.search"));
        }
        if self.wikipedia {
            let why = "searches and articles (tool wikipedia)";
            contacts.push(Contact::new(authority(&self.wikipedia_url), why, "network.wikipedia"));
        }
        if self.web {
            let why = "pages the agent or you ask for (tool web); redirects lead to public hosts only";
            contacts.push(Contact::new("any public host, ports 80 and 443", why, "network.web"));
            for pair in &self.allow_hosts {
                let why = "listed, though its address or port is not public (tool web)";
                contacts.push(Contact::new(pair, why, "network.allow_hosts"));
            }
        }
        contacts
    }

    /// What the types cannot say: the key and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        for pair in &self.allow_hosts {
            check_pair(pair).map_err(|reason| ("allow_hosts", format!("{pair:?} {reason}")))?;
        }
        for (key, url) in [("search_url", &self.search_url), ("wikipedia_url", &self.wikipedia_url)] {
            if !url.is_empty() || key == "wikipedia_url" {
                check_url(url).map_err(|reason| (key, format!("{url:?} {reason}")))?;
            }
        }
        Ok(())
    }
}

fn check_pair(pair: &str) -> Result<(), String> {
    let expected = "is no host and port, as \"localhost:8888\"";
    let (host, port) = pair.rsplit_once(':').ok_or(expected)?;
    if host.contains(['/', '@', '*', '?', '#', ' ']) || port.parse::<u16>().is_ok_and(|port| port == 0) {
        return Err(expected.to_string());
    }
    port.parse::<u16>().map_err(|_| expected)?;
    let url = Url::parse(&format!("http://{host}/")).map_err(|reason| format!("{expected}: {reason}"))?;
    if url.port().is_some() { Err(expected.to_string()) } else { Ok(()) }
}

fn check_url(text: &str) -> Result<(), String> {
    let url = Url::parse(text).map_err(|reason| format!("is no web address: {reason}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("is no http or https address".to_string());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("carries a login; keys stand in network.search_key_file".to_string());
    }
    Ok(())
}

/// Host and port of an address, for people.
fn authority(url: &str) -> String {
    let Ok(url) = Url::parse(url) else { return url.to_string() };
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"))
}
