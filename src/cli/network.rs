//! `tillerman doctor --network`: every host this program may contact, why, and the setting that says so.
//!
//! It reads settings and asks nobody. Whatever opens a socket adds its hosts to [`contacts`].

use serde_json::json;

use crate::config::{Config, Contact};
use crate::text::safe;

use super::{Global, setup};

/// Every host these settings let the program contact; empty: no socket is ever opened.
fn contacts(config: &Config) -> Vec<Contact> {
    config.network.contacts()
}

pub fn run(global: &Global, as_json: bool) -> anyhow::Result<i32> {
    let (home, config) = setup::home_and_config(global)?;
    let contacts = contacts(&config);
    if as_json {
        for contact in &contacts {
            let Contact { host, why, setting } = contact;
            println!("{}", json!({"kind": "contact", "host": host, "why": why, "setting": setting}));
        }
        return Ok(0);
    }
    if contacts.is_empty() {
        let why = if config.network.offline { "offline is set" } else { "nothing is switched on" };
        println!("none: {why} in [network], so no command opens a socket");
        return Ok(0);
    }
    for contact in &contacts {
        println!("{}\n  {}; setting {}", safe(&contact.host), safe(&contact.why), safe(&contact.setting));
    }
    println!("settings: {}", safe(&home.config_file().display().to_string()));
    Ok(0)
}
