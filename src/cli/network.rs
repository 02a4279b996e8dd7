//! `tillerman doctor --network`: every host this program may contact, why, and the setting that says so.
//!
//! It reads settings and asks nobody. Whatever opens a socket adds its hosts to [`contacts`].

use serde_json::json;

use crate::config::{Config, Contact};
use crate::error::Error;
use crate::text::safe;

use super::{Global, mcp, pull, remote, setup};

/// Every host these settings let the program contact by itself, while it answers a query; empty: none ever.
fn contacts(config: &Config) -> Vec<Contact> {
    if config.network.offline {
        return Vec::new();
    }
    let engine = |(host, why)| Contact::new(host, why, "engine.roles");
    let mut contacts: Vec<Contact> = remote::hosts(config).into_iter().map(engine).collect();
    let server = |(host, why)| Contact::new(host, why, "mcp");
    contacts.extend(mcp::hosts(config).into_iter().map(server));
    contacts.extend(config.network.contacts());
    contacts
}

/// Hosts that only a command of the user's own contacts.
fn on_command(config: &Config) -> Vec<Contact> {
    if config.network.offline {
        return Vec::new();
    }
    let contact = |(host, why)| Contact::new(host, why, "the command itself");
    pull::hosts().into_iter().map(contact).collect()
}

/// For commands that open a socket by themselves.
///
/// # Errors
/// The network is switched off as a whole.
pub fn must_be_on(global: &Global) -> anyhow::Result<()> {
    if setup::home_and_config(global)?.1.network.offline {
        let words =
            "the network is off: leave out --offline, and network.offline in config.toml, for this command";
        return Err(Error::Usage(words.into()).into());
    }
    Ok(())
}

pub fn run(global: &Global, as_json: bool) -> anyhow::Result<i32> {
    let (home, config) = setup::home_and_config(global)?;
    let (contacts, on_command) = (contacts(&config), on_command(&config));
    if as_json {
        for contact in contacts.iter().chain(&on_command) {
            let Contact { host, why, setting } = contact;
            println!("{}", json!({"kind": "contact", "host": host, "why": why, "setting": setting}));
        }
        return Ok(0);
    }
    if contacts.is_empty() {
        let why = if config.network.offline { "offline is set" } else { "nothing is switched on" };
        println!("none: {why}, so no query, training step or deck opens a socket");
    }
    show(&contacts);
    if !on_command.is_empty() {
        println!("only when you give the command:");
        show(&on_command);
    }
    println!("settings: {}", safe(&home.config_file().display().to_string()));
    Ok(0)
}

fn show(contacts: &[Contact]) {
    for Contact { host, why, setting } in contacts {
        println!("{}\n  {}; setting: {}", safe(host), safe(why), safe(setting));
    }
}
