//! One request through the guard: checked, dialled where checked, redirects by hand, everything bounded.
//!
//! Each hop has a client of its own that knows one name and its checked addresses, no proxy, no cookies, no
//! login, no retries and one user agent. Nothing here decides what a page means; see `page` and the tools.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION,
};
use reqwest::{Client, Response};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::body::{self, Unpacker};
use super::fault::{NetFault, shown};
use super::guard::{Guard, Target};
use super::resolve::Pinned;
use crate::engine::http::plain_client;
use crate::engine::key::Key;
use crate::error::innermost;

/// Said to every host.
const USER_AGENT: &str = concat!("Tillerman/", env!("CARGO_PKG_VERSION"), " (an agent in a terminal)");

/// Where a request ends at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchLimits {
    /// From the first name looked up to the last byte, over all redirects.
    pub total: Duration,
    pub redirects: usize,
    /// Bytes of a body, unpacked.
    pub body_bytes: usize,
    /// Unpacked bytes per packed byte.
    pub ratio: usize,
    /// Names and values of the headers of one answer, bytes.
    pub header_bytes: usize,
}

impl Default for FetchLimits {
    fn default() -> FetchLimits {
        FetchLimits {
            total: Duration::from_secs(20),
            redirects: 5,
            body_bytes: 2 << 20,
            ratio: 100,
            header_bytes: 64 << 10,
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub url: String,
    /// What the Accept header says.
    pub accept: &'static str,
    /// A request with a key or a body is never redirected.
    pub key: Option<KeyHeader>,
    /// Posted as JSON; None: a GET.
    pub body: Option<String>,
}

/// The one header a key goes into.
#[derive(Clone, Debug)]
pub struct KeyHeader {
    pub header: &'static str,
    /// Stands before the key, as in `Bearer KEY`.
    pub prefix: &'static str,
    pub key: Key,
}

impl KeyHeader {
    fn value(&self) -> HeaderValue {
        // A key is visible ASCII, which every header may carry.
        let text = format!("{}{}", self.prefix, self.key.token());
        let mut value = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Where the redirects ended.
    pub url: String,
    /// Media type without parameters, lower case.
    pub kind: String,
    pub text: String,
}

/// See the file's head.
#[derive(Clone)]
pub struct Fetcher {
    guard: Guard,
    limits: FetchLimits,
}

impl Fetcher {
    pub fn new(guard: Guard) -> Fetcher {
        Fetcher { guard, limits: FetchLimits::default() }
    }

    #[cfg(test)]
    pub fn with_limits(self, limits: FetchLimits) -> Fetcher {
        Fetcher { limits, ..self }
    }

    /// Check a URL without asking anybody anything.
    ///
    /// # Errors
    /// What about it is refused.
    pub fn check(&self, url: &str) -> Result<Target, NetFault> {
        self.guard.target(url)
    }

    /// Ask, follow, read to the end.
    ///
    /// # Errors
    /// Why there is no page; see [`NetFault`].
    pub async fn fetch(&self, ask: &Ask, cancel: &CancellationToken) -> Result<Page, NetFault> {
        let target = self.guard.target(&ask.url)?;
        let late = NetFault::Time { host: target.host.clone(), seconds: self.limits.total.as_secs() };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(NetFault::Cancelled),
            done = tokio::time::timeout(self.limits.total, self.follow(ask, target)) => {
                done.unwrap_or(Err(late))
            }
        }
    }

    async fn follow(&self, ask: &Ask, mut target: Target) -> Result<Page, NetFault> {
        for _ in 0..=self.limits.redirects {
            let answer = self.hop(ask, &target).await?;
            let Some(location) = redirect(&answer) else {
                return self.read(&target, answer).await;
            };
            if ask.key.is_some() || ask.body.is_some() {
                let what = "a request that carries a key or a body";
                return Err(NetFault::Redirected { url: shown(target.url.as_str()), what });
            }
            target = self.guard.redirect(&target, &location)?;
        }
        Err(NetFault::Redirects { most: self.limits.redirects, url: shown(target.url.as_str()) })
    }

    /// One request to the checked addresses of one host; answers when the headers are there.
    async fn hop(&self, ask: &Ask, target: &Target) -> Result<Response, NetFault> {
        if ask.key.is_some() && target.url.scheme() == "http" && !target.listed {
            return Err(NetFault::KeyInTheOpen { host: target.host.clone() });
        }
        let addresses = self.guard.addresses(target).await?;
        let client = client(target, addresses.clone())?;
        let request = match &ask.body {
            Some(body) => {
                client.post(target.url.clone()).header(CONTENT_TYPE, "application/json").body(body.clone())
            }
            None => client.get(target.url.clone()),
        };
        let mut request = request.header(ACCEPT, ask.accept).header(ACCEPT_ENCODING, "gzip");
        if let Some(key) = &ask.key {
            request = request.header(key.header, key.value());
        }
        let answer = request.send().await.map_err(|error| unreachable(&target.host, &error))?;
        // The resolver knows no other address; should that ever change, this notices.
        if let Some(dialled) = answer.remote_addr()
            && !addresses.iter().any(|checked| checked.ip() == dialled.ip())
        {
            let reason = format!("{dialled} was dialled, which nobody checked");
            return Err(NetFault::Unreachable { host: target.host.clone(), reason });
        }
        if header_bytes(answer.headers()) > self.limits.header_bytes {
            let kib = self.limits.header_bytes >> 10;
            return Err(NetFault::Headers { host: target.host.clone(), kib });
        }
        Ok(answer)
    }

    async fn read(&self, target: &Target, mut answer: Response) -> Result<Page, NetFault> {
        let url = shown(target.url.as_str());
        if !answer.status().is_success() {
            return Err(NetFault::Status { url, status: answer.status().as_u16() });
        }
        let declared = text_header(answer.headers(), CONTENT_TYPE.as_str());
        let encoding = text_header(answer.headers(), CONTENT_ENCODING.as_str());
        let mut unpacker = Unpacker::new(&url, &encoding, self.limits.body_bytes, self.limits.ratio)?;
        while let Some(piece) = answer
            .chunk()
            .await
            .map_err(|error| NetFault::Broken { url: url.clone(), reason: shown(&innermost(&error)) })?
        {
            unpacker.push(&piece)?;
        }
        let bytes = unpacker.finish()?;
        let kind = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let text = body::decode(&url, &kind, &declared, &bytes)?;
        Ok(Page { url: target.url.as_str().to_owned(), kind, text })
    }
}

/// A client for one hop.
fn client(target: &Target, addresses: Vec<SocketAddr>) -> Result<Client, NetFault> {
    let pinned = Pinned { host: target.host.clone(), addresses };
    let builder = plain_client()
        .user_agent(USER_AGENT)
        .dns_resolver(Arc::new(pinned))
        .retry(reqwest::retry::never())
        .no_proxy()
        .http1_only()
        .pool_max_idle_per_host(0);
    // Without TLS no certificates are needed, and a machine that has none can still read a local host.
    let builder = match target.url.scheme() {
        "https" => builder.https_only(true),
        _ => builder.tls_certs_only(std::iter::empty()),
    };
    builder.build().map_err(|error| NetFault::Certificate {
        host: target.host.clone(),
        reason: shown(&innermost(&error)),
    })
}

/// Where an answer sends us, if it does.
fn redirect(answer: &Response) -> Option<String> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = answer.headers().get(LOCATION)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

fn text_header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

fn unreachable(host: &str, error: &reqwest::Error) -> NetFault {
    let host = host.to_owned();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = cause {
        let text = inner.to_string();
        if text.contains("certificate") || text.contains("TLS") || text.contains("tls") {
            return NetFault::Certificate { host, reason: shown(&innermost(error)) };
        }
        cause = inner.source();
    }
    NetFault::Unreachable { host, reason: shown(&innermost(error)) }
}

/// `base` with these pairs added to its query.
pub fn with_query(base: &str, pairs: &[(&str, &str)]) -> Result<String, NetFault> {
    let mut url = Url::parse(base).map_err(|reason| NetFault::bad_url(base, reason.to_string()))?;
    url.query_pairs_mut().extend_pairs(pairs);
    Ok(url.into())
}

#[cfg(test)]
mod tests;
