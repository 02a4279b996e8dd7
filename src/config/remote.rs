//! `[engine.remote.NAME]` and `[engine.roles]`: engines elsewhere, and which role asks which.
//!
//! Checks what can be known from the text alone. No key stands in the settings, only where one is found.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use super::Engine;

/// What a role is set to that stays on the local model although others do not.
pub const LOCAL: &str = "local";

/// An endpoint that speaks the OpenAI chat API: llama-server, vLLM, a hosted one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Remote {
    /// Base address, to which `/chat/completions` is added.
    pub url: String,
    /// Model to ask for; empty: the first the endpoint lists.
    pub model: String,
    /// Environment variable that holds the key; empty: none.
    pub key_env: String,
    /// File that holds the key, readable by its owner alone; empty: none.
    pub key_file: PathBuf,
    /// Send the key although `url` is plain http and leads to another machine.
    pub key_over_http: bool,
    /// Tokens its context holds; 0: what the endpoint says.
    pub context: usize,
    /// Requests under way at once, at least 1.
    pub parallel: usize,
    /// Seconds until a connection stands.
    pub connect_s: u64,
    /// Seconds from the request to the first token; 0: no limit.
    pub first_token_s: u64,
    /// Seconds between two pieces of a reply; 0: no limit.
    pub idle_s: u64,
    /// Further attempts after a refusal that may pass (429, 5xx, no connection).
    pub retries: usize,
    /// Its log-probabilities are those after temperature (vLLM: `--logprobs-mode processed_logprobs`).
    pub processed_logprobs: bool,
    /// Put into every request as it stands.
    pub extra: toml::Table,
}

impl Default for Remote {
    fn default() -> Remote {
        Remote {
            url: String::new(),
            model: String::new(),
            key_env: String::new(),
            key_file: PathBuf::new(),
            key_over_http: false,
            context: 0,
            parallel: 8,
            connect_s: 10,
            first_token_s: 120,
            idle_s: 60,
            retries: 4,
            processed_logprobs: false,
            extra: toml::Table::new(),
        }
    }
}

impl Remote {
    /// The host and port that are contacted, as the address has them.
    pub fn host(&self) -> String {
        let Ok(url) = Url::parse(&self.url) else { return self.url.clone() };
        let host = url.host_str().unwrap_or_default();
        url.port_or_known_default().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"))
    }

    /// A key would travel readable for everybody on the way.
    pub fn key_in_the_clear(&self) -> bool {
        let keyed = !self.key_env.is_empty() || !self.key_file.as_os_str().is_empty();
        keyed && in_the_clear(&self.url)
    }
}

/// What goes to this address can be read on the way: plain http to another machine. No key goes there unless the
/// person says so of this very address.
pub fn in_the_clear(address: &str) -> bool {
    Url::parse(address).is_ok_and(|url| url.scheme() == "http" && !loopback(&url))
}

fn loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Which engine serves a role: a name from `[engine.remote]`, `local`, or empty for what `default` says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Roles {
    /// Every role not named below; empty: the local model.
    pub default: String,
    pub analyst: String,
    pub planner: String,
    pub executor: String,
    pub verifier: String,
    pub generator: String,
    pub base: String,
}

impl Roles {
    fn named(&self) -> [(&'static str, &str); 7] {
        [
            ("default", &self.default),
            ("analyst", &self.analyst),
            ("planner", &self.planner),
            ("executor", &self.executor),
            ("verifier", &self.verifier),
            ("generator", &self.generator),
            ("base", &self.base),
        ]
    }

    /// The remote engine of a role; None: the local model.
    pub fn remote(&self, role: &str) -> Option<&str> {
        let own = self.named().into_iter().find(|(name, _)| *name == role).map_or("", |(_, engine)| engine);
        let engine = if own.is_empty() { self.default.as_str() } else { own };
        (!engine.is_empty() && engine != LOCAL).then_some(engine)
    }
}

/// What is wrong: where it stands (a text to look for) and what is.
pub(super) fn check(engine: &Engine) -> Result<(), (String, String)> {
    for (name, remote) in &engine.remote {
        let at = |what: String| (format!("[engine.remote.{name}]"), what);
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 40 || !name.chars().all(plain) || name == LOCAL {
            let rule = "a name has 1 to 40 of a-z, 0-9, - and _, and is not `local`";
            return Err(at(format!("{name:?} cannot name an engine: {rule}")));
        }
        address(&remote.url).map_err(|why| at(format!("url {why}")))?;
        if !remote.key_env.is_empty() && !remote.key_file.as_os_str().is_empty() {
            return Err(at("key_env and key_file are both set; keep one".to_string()));
        }
        if remote.parallel == 0 || remote.connect_s == 0 {
            return Err(at("parallel and connect_s are at least 1".to_string()));
        }
    }
    for (role, wanted) in engine.roles.named() {
        if !wanted.is_empty() && wanted != LOCAL && !engine.remote.contains_key(wanted) {
            let known: Vec<&str> = engine.remote.keys().map(String::as_str).chain([LOCAL]).collect();
            return Err((
                format!("{role} ="),
                format!("no engine is called {wanted:?}; engines: {}", known.join(", ")),
            ));
        }
    }
    Ok(())
}

/// http or https, a host, and nothing in it that belongs into a key file.
pub(super) fn address(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is missing; for example url = \"http://127.0.0.1:8080/v1\"".to_string());
    }
    let url = Url::parse(text).map_err(|e| format!("is no address: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("must begin with http:// or https:// and name a host".to_string());
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err("holds a user, a password or a query; keys belong into key_env or key_file".to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;

    fn fault(text: &str) -> String {
        Config::parse(text, Path::new("/c/config.toml")).unwrap_err().to_string()
    }

    #[test]
    fn roles_go_where_the_settings_say() {
        let text = "[engine.remote.box]\nurl = \"http://127.0.0.1:8080/v1\"\nkey_file = \"k\"\n\
            [engine.roles]\ndefault = \"box\"\nplanner = \"local\"\n";
        let config = Config::parse(text, Path::new("/c/config.toml")).unwrap();
        assert_eq!(config.engine.roles.remote("planner"), None);
        assert_eq!(config.engine.roles.remote("verifier"), Some("box"));
        assert_eq!(config.engine.remote["box"].key_file, Path::new("/c/k"));
        assert_eq!(config.engine.remote["box"].host(), "127.0.0.1:8080");
        assert_eq!(Config::default().engine.roles.remote("planner"), None);
    }

    #[test]
    fn what_cannot_be_is_named_with_its_line() {
        let remote = |rest: &str| format!("[engine.remote.box]\n{rest}\n");
        for (text, expected) in [
            (remote(""), "line 1, key `engine.remote.box`: url is missing"),
            (remote("url = \"ftp://h/\""), "http:// or https://"),
            (remote("url = \"http://u:secret@h/v1\""), "keys belong into key_env"),
            (remote("url = \"http://h/v1?key=x\""), "keys belong into key_env"),
            (remote("url = \"http://h\"\nkey_env = \"A\"\nkey_file = \"b\""), "both set"),
            (remote("url = \"http://h\"\nparallel = 0"), "at least 1"),
            (remote("url = \"http://h\"\nkey = \"sk-1\""), "unknown field `key`"),
            ("[engine.remote.Box]\nurl = \"http://h\"\n".to_string(), "cannot name an engine"),
            (
                "[engine.roles]\nplanner = \"boks\"\n".to_string(),
                "line 2, key `engine.roles.planner`: no engine is called \"boks\"; engines: local",
            ),
        ] {
            let message = fault(&text);
            assert!(message.contains(expected), "{text:?}\n gave {message}\n not  {expected}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn a_key_in_the_clear_is_seen() {
        for (url, clear) in [
            ("http://127.0.0.1:1/v1", false),
            ("http://localhost/v1", false),
            ("http://[::1]/v1", false),
            ("https://api.example.com/v1", false),
            ("http://192.168.1.7:8000/v1", true),
        ] {
            let remote = super::Remote { url: url.into(), key_env: "K".into(), ..super::Remote::default() };
            assert_eq!(remote.key_in_the_clear(), clear, "{url}");
        }
    }
}
