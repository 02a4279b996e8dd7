//! Names to addresses, once: what asks the system, and what hands the checked answer to the connection.
//!
//! Between the two stands the guard. The connection never asks again: a name that is not the checked one
//! has no address at all.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Asks for the addresses of a name. Tests answer differently each time.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// # Errors
    /// The name has no address, or nobody could be asked.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// getaddrinfo, so that /etc/hosts and the machine's own resolver count.
pub struct System;

#[async_trait]
impl Resolver for System {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// One name and the addresses that were checked for it.
pub struct Pinned {
    pub host: String,
    pub addresses: Vec<SocketAddr>,
}

impl Resolve for Pinned {
    fn resolve(&self, name: Name) -> Resolving {
        let answer = if name.as_str().eq_ignore_ascii_case(&self.host) {
            Ok(Box::new(self.addresses.clone().into_iter()) as Addrs)
        } else {
            Err(format!("{} was not checked", name.as_str()).into())
        };
        Box::pin(std::future::ready(answer))
    }
}
