//! Why a request was refused or gave nothing: every reason with its remedy, and the turn it becomes.

use std::net::IpAddr;

use crate::tools::{ToolFault, ToolResult};

/// Characters of a URL that enter a message.
const SHOWN_CHARS: usize = 200;

/// What went wrong between a URL asked for and its text. `Display` names what, where and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetFault {
    #[error("{url:?} is no web address ({reason}); give a whole one, as https://example.org/page")]
    BadUrl { url: String, reason: String },
    #[error("{url:?} begins with {scheme}:, which is not read; only http:// and https:// are")]
    Scheme { url: String, scheme: String },
    #[error("{url:?} carries a user name or password; give it without, nothing is ever logged in")]
    Userinfo { url: String },
    #[error(
        "{host} is asked for on port {port}; only 80 and 443 are, unless the user lists \"{host}:{port}\" in network.allow_hosts"
    )]
    Port { host: String, port: u16 },
    #[error(
        "{host:?} is a name of the local network; hosts there are reached only if the user lists \"{host}:{port}\" in network.allow_hosts"
    )]
    LocalName { host: String, port: u16 },
    #[error(
        "{host} leads to {address}, which is {range}; such addresses are reached only if the user lists \"{host}:{port}\" in network.allow_hosts"
    )]
    Address { host: String, port: u16, address: IpAddr, range: &'static str },
    #[error(
        "{from} redirects to {to}, which is reachable only when asked for directly; a page may not lead there"
    )]
    RedirectInside { from: String, to: String },
    #[error("more than {most} redirects, the last to {url}; give the address they lead to")]
    Redirects { most: usize, url: String },
    #[error(
        "{url} redirects, which is not followed for {what}; give the address it leads to in the settings"
    )]
    Redirected { url: String, what: &'static str },
    #[error("the name {host:?} has no address ({reason}); check the spelling, or the machine's connection")]
    NoAddress { host: String, reason: String },
    #[error("{host} cannot be reached ({reason}); try later, or another page")]
    Unreachable { host: String, reason: String },
    #[error(
        "{host} does not prove who it is ({reason}); use another page, or check this machine's clock and ca-certificates"
    )]
    Certificate { host: String, reason: String },
    #[error("{host} did not finish within {seconds} seconds; try later, or another page")]
    Time { host: String, seconds: u64 },
    #[error("{url} is larger than {kib} KiB unpacked; ask for a smaller page")]
    Size { url: String, kib: usize },
    #[error("{url} unpacks to more than {ratio} times its size, as a bomb does; use another page")]
    Ratio { url: String, ratio: usize },
    #[error("{host} sent more than {kib} KiB of headers; use another page")]
    Headers { host: String, kib: usize },
    #[error("{url} came packed as {encoding:?}, which was not asked for; use another page")]
    Encoding { url: String, encoding: String },
    #[error("{url} broke off or is damaged ({reason}); try again")]
    Broken { url: String, reason: String },
    #[error("{url} answered {status}{}", hint(*.status))]
    Status { url: String, status: u16 },
    #[error("{url} is {kind}, not text; only web pages, plain text, JSON and XML are read")]
    Kind { url: String, kind: String },
    #[error("{url} gave no answer of the expected form ({reason}); check {key} in the settings")]
    Answer { url: String, reason: String, key: &'static str },
    #[error(
        "the network is off (network.offline or --offline) and no copy of {what} is kept; switch it on, or ask for what is kept"
    )]
    Offline { what: String },
    #[error(
        "the key for {host} would travel readable over http; give an https address in network.search_url, or list the host in network.allow_hosts"
    )]
    KeyInTheOpen { host: String },
    #[error("cancelled")]
    Cancelled,
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => " (refused: a login or another client is wanted there); use another page",
        404 | 410 => " (no such page); check the address, or search for it",
        429 => " (too many requests); wait, or use another page",
        500..=599 => " (its own failure); try later",
        _ => "; use another page",
    }
}

impl NetFault {
    pub fn bad_url(url: &str, reason: impl Into<String>) -> NetFault {
        NetFault::BadUrl { url: shown(url), reason: reason.into() }
    }

    /// The turn this becomes.
    pub fn result(&self) -> ToolResult {
        let fault = match self {
            NetFault::BadUrl { .. } | NetFault::Scheme { .. } | NetFault::Userinfo { .. } => {
                ToolFault::BadArguments
            }
            NetFault::Time { .. }
            | NetFault::Size { .. }
            | NetFault::Ratio { .. }
            | NetFault::Headers { .. }
            | NetFault::Redirects { .. } => ToolFault::Limit,
            NetFault::Cancelled => ToolFault::Cancelled,
            _ => ToolFault::Failed,
        };
        ToolResult::fault(fault, self.to_string())
    }
}

/// A URL as it stands in a message: not longer than a line or two.
pub fn shown(url: &str) -> String {
    if url.chars().count() <= SHOWN_CHARS {
        return url.to_owned();
    }
    let head: String = url.chars().take(SHOWN_CHARS).collect();
    format!("{head}...")
}
