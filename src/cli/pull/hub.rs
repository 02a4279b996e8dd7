//! Asks a Hugging Face hub about one file: its commit, size and sha256; and sends every request by hand.
//!
//! Redirects are followed here, not by the client, so that the access token goes to the endpoint's own origin
//! and never to the host it sends the download to. They lead where the guard of the network tools would let them:
//! to public addresses, which are looked up once and dialled as checked, or to hosts the user named. HF_ENDPOINT
//! names another hub, HF_TOKEN the token.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue, LOCATION,
};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::Value;

use super::{PullError, Result};
use crate::engine::http::plain_client;
use crate::error::innermost;
use crate::tools::net::{Guard, NetFault, Pinned, Target};

const ENDPOINT: &str = "https://huggingface.co";
const REDIRECTS: usize = 8;
const CONNECT: Duration = Duration::from_secs(20);
/// The longest silence of a server.
const SILENCE: Duration = Duration::from_secs(30);
/// Most of a listing that is read, and file names shown of it.
const LISTING_BYTES: usize = 4 << 20;
const LISTED: usize = 12;

/// What the user asked for; its parts are safe in addresses and paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub repo: String,
    pub file: String,
    pub revision: String,
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ({})", self.file, self.repo, self.revision)
    }
}

impl Wish {
    pub fn new(repo: &str, file: &str, revision: &str) -> Result<Wish> {
        let name = |text: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !text.is_empty() && text.len() <= 96 && text.chars().all(known) && !text.starts_with(['.', '-'])
        };
        let usage = |words: String| Err(PullError::Usage(words));
        if repo.split('/').count() != 2 || !repo.split('/').all(name) || repo.contains("--") {
            return usage(format!("{repo:?} is no repository; write OWNER/NAME as the hub shows it"));
        }
        let inside = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':', '\0']);
        if !file.split('/').all(inside) || file.len() > 512 || file.chars().any(char::is_control) {
            return usage(format!("{file:?} is no file of a repository"));
        }
        if !file.ends_with(".gguf") {
            return usage(format!("{file:?} is no .gguf file; only those can be served"));
        }
        if crate::gguf::survey::part_of_split(file).is_some() {
            return usage(format!(
                "{file:?} is one part of a split model, which this version does not serve; choose a whole file"
            ));
        }
        if !revision.split('/').all(name) || revision.len() > 200 {
            return usage(format!("{revision:?} is no branch, tag or commit"));
        }
        Ok(Wish { repo: repo.to_string(), file: file.to_string(), revision: revision.to_string() })
    }
}

/// What the hub says about the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// 40 hex digits.
    pub commit: String,
    /// 64 hex digits: the name of the blob, and what its bytes must hash to.
    pub sha256: String,
    pub bytes: u64,
}

/// The endpoint in use.
///
/// # Errors
/// HF_ENDPOINT is no http address.
pub fn endpoint() -> Result<Url> {
    let text = std::env::var("HF_ENDPOINT").unwrap_or_default();
    let text = if text.is_empty() { ENDPOINT } else { text.trim_end_matches('/') };
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.filter(|url| url.username().is_empty() && url.password().is_none() && url.query().is_none())
        .ok_or_else(|| PullError::Usage("HF_ENDPOINT is no address like https://huggingface.co".to_string()))
}

/// Host, with the port where it is not the usual one.
pub fn host(url: &Url) -> String {
    let name = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| name.to_string(), |port| format!("{name}:{port}"))
}

/// See the file's head.
pub struct Hub {
    /// For the hosts the user named; others get one that knows their checked addresses only.
    client: Client,
    guard: Guard,
    endpoint: Url,
    token: Option<HeaderValue>,
}

impl Hub {
    /// # Errors
    /// HF_HUB_OFFLINE is set, or an address or token that cannot be used.
    pub fn from_env(allowed: &[String]) -> Result<Hub> {
        if std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.as_str(), "" | "0")) {
            return Err(PullError::Usage(
                "HF_HUB_OFFLINE is set: nothing is downloaded; unset it first".into(),
            ));
        }
        let endpoint = endpoint()?;
        let token = match std::env::var("HF_TOKEN").unwrap_or_default().trim() {
            "" => None,
            token => Some(bearer(token)?),
        };
        if token.is_some() && crate::config::in_the_clear(endpoint.as_str()) {
            let words = "HF_TOKEN would travel unencrypted to HF_ENDPOINT; use https or unset HF_TOKEN";
            return Err(PullError::Usage(words.to_string()));
        }
        let named = format!(
            "{}:{}",
            endpoint.host_str().unwrap_or_default(),
            endpoint.port_or_known_default().unwrap_or_default()
        );
        let guard = Guard::new(&[allowed, &[named]].concat());
        Ok(Hub { client: client(None)?, guard, endpoint, token })
    }

    pub fn name(&self) -> String {
        self.endpoint.as_str().trim_end_matches('/').to_string()
    }

    /// Where the bytes of one commit's file are asked for.
    pub fn address(&self, wish: &Wish, remote: &Remote) -> Url {
        self.resolve(wish, &remote.commit)
    }

    fn resolve(&self, wish: &Wish, revision: &str) -> Url {
        self.below(&[&wish.repo, "resolve", &revision.replace('/', "%2F"), &wish.file])
    }

    fn below(&self, parts: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            // A slash in a branch's name is written as an escape, others part segments.
            let segments = parts.iter().flat_map(|part| part.split('/')).map(|part| part.replace("%2F", "/"));
            path.extend(segments);
        }
        url
    }

    /// Commit, size and sha256 of the file.
    ///
    /// # Errors
    /// The hub has no such file, does not let us see it, or names no sha256.
    pub async fn look(&self, wish: &Wish) -> Result<Remote> {
        let mut url = self.resolve(wish, &wish.revision);
        for _ in 0..REDIRECTS {
            let answer = self.once(Method::HEAD, &url, HeaderMap::new()).await?;
            let described = answer.headers().contains_key("x-repo-commit");
            if answer.status().is_redirection() && !described {
                url = self.next(&url, &answer)?;
                continue;
            }
            if answer.status().is_success() || answer.status().is_redirection() {
                return self.described(&answer);
            }
            return Err(self.refused(wish, &answer).await);
        }
        Err(PullError::hub(&host(&url), "too many redirects"))
    }

    fn described(&self, answer: &Response) -> Result<Remote> {
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let hex = |text: &str, digits: usize| {
            let lower = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            (text.len() == digits && text.chars().all(lower)).then(|| text.to_string())
        };
        let plain = |tag: &str| tag.trim_start_matches("W/").trim_matches('"').to_string();
        let wrong = |words: &str| PullError::hub(&host(&self.endpoint), words);
        let commit = header("x-repo-commit").and_then(|text| hex(text, 40));
        let tag = header("x-linked-etag").or_else(|| header(ETAG.as_str())).map(plain);
        let sha256 = tag.and_then(|tag| hex(&tag, 64));
        let length = header("x-linked-size")
            .or_else(|| header(CONTENT_LENGTH.as_str()).filter(|_| answer.status().is_success()));
        Ok(Remote {
            commit: commit.ok_or_else(|| wrong("names no commit of the file; is it a Hugging Face hub?"))?,
            sha256: sha256.ok_or_else(|| wrong("names no sha256 of the file, so it could not be checked"))?,
            bytes: length
                .and_then(|text| text.parse().ok())
                .filter(|bytes| *bytes > 0)
                .ok_or_else(|| wrong("names no size of the file"))?,
        })
    }

    /// Why the hub does not give the file, with what would help.
    async fn refused(&self, wish: &Wish, answer: &Response) -> PullError {
        let code =
            answer.headers().get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or_default();
        let words = match (code, answer.status()) {
            ("EntryNotFound", _) => match self.listing(wish).await {
                Some(names) if !names.is_empty() => {
                    format!("{} has no {}; it has {}", wish.repo, wish.file, names.join(", "))
                }
                _ => format!("{} has no {}", wish.repo, wish.file),
            },
            ("RevisionNotFound", _) => format!("{} has no revision {}", wish.repo, wish.revision),
            ("GatedRepo", _) => format!(
                "{} is gated: accept its terms on the hub's page, then set HF_TOKEN to an access token",
                wish.repo
            ),
            ("RepoNotFound", _) | (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                let known = if self.token.is_some() {
                    "and HF_TOKEN may not read it"
                } else {
                    "or it is private: set HF_TOKEN"
                };
                format!("there is no repository {}, {known}", wish.repo)
            }
            (_, StatusCode::NOT_FOUND) => format!("there is no {wish}"),
            (_, status) => format!("the hub answered {status}; try again later"),
        };
        PullError::hub(&host(&self.endpoint), words)
    }

    /// Some of the GGUF files the repository has.
    async fn listing(&self, wish: &Wish) -> Option<Vec<String>> {
        let revision = wish.revision.replace('/', "%2F");
        let mut url = self.below(&["api/models", &wish.repo, "tree", &revision]);
        url.set_query(Some("recursive=true"));
        let mut answer = self.send(Method::GET, &url, &HeaderMap::new()).await.ok()?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.ok().flatten() {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LISTING_BYTES {
                return None;
            }
        }
        let entries: Vec<Value> = serde_json::from_slice(&bytes).ok()?;
        let names =
            entries.iter().filter_map(|entry| entry["path"].as_str()).filter(|path| path.ends_with(".gguf"));
        Some(names.take(LISTED).map(str::to_string).collect())
    }

    /// Send, and follow redirects.
    ///
    /// # Errors
    /// [`PullError::Network`], or a redirect that may not be followed.
    pub async fn send(&self, method: Method, url: &Url, headers: &HeaderMap) -> Result<Response> {
        let mut url = url.clone();
        for _ in 0..REDIRECTS {
            let answer = self.once(method.clone(), &url, headers.clone()).await?;
            if !answer.status().is_redirection() || !answer.headers().contains_key(LOCATION) {
                return Ok(answer);
            }
            url = self.next(&url, &answer)?;
        }
        Err(PullError::hub(&host(&url), "too many redirects"))
    }

    fn next(&self, from: &Url, answer: &Response) -> Result<Url> {
        let wrong = |words: &str| PullError::hub(&host(from), words);
        let location = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        let to = location.and_then(|to| from.join(to).ok()).filter(Url::has_host);
        let to = to.ok_or_else(|| wrong("sends us to no address"))?;
        match (from.scheme(), to.scheme()) {
            ("https", "https") | ("http", "http" | "https") => Ok(to),
            _ => Err(wrong("sends us on to an unencrypted address; refused")),
        }
    }

    /// One request and its answer. The token goes to the endpoint's own origin alone.
    async fn once(&self, method: Method, url: &Url, mut headers: HeaderMap) -> Result<Response> {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(token) = self.token.as_ref().filter(|_| url.origin() == self.endpoint.origin()) {
            headers.insert(AUTHORIZATION, token.clone());
        }
        let client = self.client_for(url).await?;
        let sent = client.request(method, url.clone()).headers(headers).send().await;
        // The address of a download is signed: who reads it in a log could use it.
        sent.map_err(|error| PullError::network(&host(url), innermost(&error.without_url())))
    }

    /// A client that may dial this host.
    async fn client_for(&self, url: &Url) -> Result<Client> {
        let refused = |fault: NetFault| match fault {
            // The others show the whole address.
            NetFault::Address { .. } | NetFault::LocalName { .. } | NetFault::Port { .. } => PullError::hub(
                &host(&self.endpoint),
                format!("sends us on to a host that is not public: {fault}"),
            ),
            NetFault::NoAddress { .. } => PullError::network(&host(url), fault),
            _ => PullError::hub(&host(&self.endpoint), "sends us on to an address that may not be asked for"),
        };
        let target = self.guard.target(url.as_str()).map_err(refused)?;
        // A proxy, which the user named too, looks names up and dials by itself.
        if target.listed || proxied(url.scheme()) {
            return Ok(self.client.clone());
        }
        let addresses = self.guard.addresses(&target).await.map_err(refused)?;
        let Target { host, .. } = target;
        client(Some(Pinned { host, addresses }))
    }
}

fn bearer(token: &str) -> Result<HeaderValue> {
    let unfit = |_| PullError::Usage("HF_TOKEN holds characters no token has".to_string());
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(unfit)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The environment names a proxy for this scheme, which is then what dials.
fn proxied(scheme: &str) -> bool {
    let names = [format!("{scheme}_proxy"), "all_proxy".to_string()];
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    names.iter().any(|name| set(name) || set(&name.to_uppercase()))
}

fn client(pinned: Option<Pinned>) -> Result<Client> {
    let builder = plain_client()
        .user_agent(concat!("tillerman/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE);
    let builder = match pinned {
        Some(pinned) => builder.dns_resolver(Arc::new(pinned)),
        None => builder,
    };
    builder.build().map_err(|error| PullError::Usage(format!("no HTTP client: {}", innermost(&error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for (repo, file) in [
            ("Qwen/Q-GGUF", "../x.gguf"),
            ("Qwen/Q-GGUF", "/etc/x.gguf"),
            ("Qwen/Q-GGUF", "a//x.gguf"),
            ("Qwen/Q-GGUF", "a\\x.gguf"),
            ("Qwen/Q-GGUF", "x.safetensors"),
            ("Qwen/Q-GGUF", "x-00001-of-00003.gguf"),
            ("Qwen/..", "x.gguf"),
            ("../..", "x.gguf"),
            ("Qwen", "x.gguf"),
            ("a/b/c", "x.gguf"),
            ("a--b/c", "x.gguf"),
            ("https://huggingface.co/a/b", "x.gguf"),
            ("a/b?c", "x.gguf"),
        ] {
            assert!(Wish::new(repo, file, "main").is_err(), "{repo} {file}");
        }
        assert!(Wish::new("a/b", "x.gguf", "../main").is_err());
        assert!(Wish::new("Qwen/Qwen2.5-0.5B-Instruct-GGUF", "sub/q 4.gguf", "refs/pr/1").is_ok());
    }
}
