//! `[mcp.NAME]`: MCP servers whose tools may join the toolbox. Nothing is started or reached from here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::remote::address;

/// One server: a program that speaks over its streams, or an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mcp {
    /// Program and arguments, as they are started; no shell reads them.
    pub command: Vec<String>,
    /// Address of a streamable HTTP server, in place of `command`.
    pub url: String,
    /// Names of environment variables the program gets besides PATH, HOME, USER, LANG and TMPDIR.
    pub env: Vec<String>,
    /// Environment variable that holds the key of an address; empty: none.
    pub key_env: String,
    /// File that holds the key of an address, readable by its owner alone; empty: none.
    pub key_file: PathBuf,
    /// Send the key although `url` is plain http and leads to another machine.
    pub key_over_http: bool,
    /// Tools to take; empty: all (64 at most).
    pub tools: Vec<String>,
    /// Its answers may hold what is yours alone.
    pub private: bool,
    /// Seconds one call may take.
    pub call_s: u64,
    /// Seconds until it is ready for calls; a first start may download the program.
    pub start_s: u64,
}

impl Default for Mcp {
    fn default() -> Mcp {
        Mcp {
            command: Vec::new(),
            url: String::new(),
            env: Vec::new(),
            key_env: String::new(),
            key_file: PathBuf::new(),
            key_over_http: false,
            tools: Vec::new(),
            private: true,
            call_s: 60,
            start_s: 60,
        }
    }
}

/// What is wrong: where it stands (a text to look for) and what is.
pub(super) fn check(servers: &BTreeMap<String, Mcp>) -> Result<(), (String, String)> {
    for (name, server) in servers {
        let at = |what: &str| Err((format!("[mcp.{name}]"), what.to_string()));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 24 || !name.chars().all(plain) || name.contains("__") {
            return at("a server's name has 1 to 24 of a-z, 0-9, - and _, and no __");
        }
        match (server.command.first(), server.url.is_empty()) {
            (None, true) => {
                return at("neither command = [\"program\", \"argument\"] nor url = \"...\" is set");
            }
            (Some(_), false) => return at("command and url are both set; keep one"),
            (Some(program), true) if program.is_empty() => return at("command names no program"),
            (None, false) => {
                address(&server.url).map_err(|why| (format!("[mcp.{name}]"), format!("url {why}")))?
            }
            (Some(_), true) => {}
        }
        if !server.key_env.is_empty() && !server.key_file.as_os_str().is_empty() {
            return at("key_env and key_file are both set; keep one");
        }
        if server.env.iter().any(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return at("env lists names of variables, without values");
        }
        if server.call_s == 0 || server.start_s == 0 {
            return at("call_s and start_s are at least 1");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;

    #[test]
    fn servers_are_read_and_what_cannot_be_is_named() {
        let parse = |text: &str| Config::parse(text, Path::new("/c/config.toml"));
        let config = parse("[mcp.notes]\ncommand = [\"npx\", \"-y\", \"x\"]\nenv = [\"TOKEN\"]\n").unwrap();
        assert_eq!((config.mcp["notes"].call_s, config.mcp["notes"].private), (60, true));
        for (text, expected) in [
            ("[mcp.a__b]\nurl = \"http://h\"\n", "no __"),
            ("[mcp.a]\n", "line 1, key `mcp.a`: neither command"),
            ("[mcp.a]\nurl = \"http://h\"\ncommand = [\"x\"]\n", "both set"),
            ("[mcp.a]\nurl = \"h\"\n", "url is no address"),
            ("[mcp.a]\ncommand = [\"x\"]\nenv = [\"A=secret\"]\n", "without values"),
            ("[mcp.a]\ncommand = [\"x\"]\ncall_s = 0\n", "at least 1"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text:?}\n gave {message}");
        }
    }
}
