//! `tillerman doctor --network`: every host this program may contact, why, and the setting that says so.
//!
//! It reads settings and asks nobody. Whatever opens a socket adds its hosts to [`contacts`].

use serde_json::json;
use url::{Host, Url};

use crate::config::{Config, Contact};
use crate::error::Error;
use crate::text::safe;

use super::{Global, mcp, plain, pull, remote, setup};

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
    contacts.extend(resolver(&contacts));
    contacts
}

/// Who is asked for the addresses of these, where one of them is a name.
fn resolver(contacts: &[Contact]) -> Option<Contact> {
    let why = "looks up the names of the hosts above";
    let named = contacts.iter().any(|contact| is_name(&contact.host));
    named.then(|| Contact::new("the system's name resolver", why, "whatever names a host"))
}

/// Not an address, which nobody need be asked for. `host`: a host, a host and port, a URL, or words for several.
fn is_name(host: &str) -> bool {
    let text = if host.contains("://") { host.to_string() } else { format!("http://{host}") };
    !Url::parse(&text).is_ok_and(|url| matches!(url.host(), Some(Host::Ipv4(_) | Host::Ipv6(_))))
}

/// Hosts that only a command of the user's own contacts.
fn on_command(config: &Config) -> Vec<Contact> {
    if config.network.offline {
        return Vec::new();
    }
    let contact = |(host, why)| Contact::new(host, why, "the command itself");
    let mut contacts: Vec<Contact> = pull::hosts().into_iter().map(contact).collect();
    contacts.extend(remote::judges(config).into_iter().map(|(name, host)| {
        let why = format!("remote engine {name}, which serves no role: `tillerman eval --judge {name}`");
        Contact::new(host, why, format!("engine.remote.{name}"))
    }));
    contacts.extend(resolver(&contacts));
    contacts
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
            let line = json!({"kind": "contact", "host": host, "why": why, "setting": setting});
            println!("{}", plain::json(&line));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_is_listed_where_a_name_is() {
        let hosts = |text: &str| {
            let config: Config = toml::from_str(text).unwrap();
            contacts(&config).into_iter().map(|contact| contact.host).collect::<Vec<_>>()
        };
        let resolver = "the system's name resolver";
        let engine = |host: &str| {
            format!("[engine.remote.box]\nurl = \"http://{host}/v1\"\n[engine.roles]\nverifier = \"box\"\n")
        };
        assert_eq!(hosts(&engine("models.example:8080")), ["models.example:8080", resolver]);
        assert_eq!(hosts(&engine("127.0.0.1:8080")), ["127.0.0.1:8080"]);
        let server = |url: &str| format!("[mcp.notes]\nurl = \"{url}\"\n");
        assert_eq!(hosts(&server("https://mcp.example/x")), ["https://mcp.example/x", resolver]);
        assert_eq!(hosts(&server("http://[::1]:9/x")), ["http://[::1]:9/x"]);
        assert_eq!(hosts("[network]\nweb = true\n").last().map(String::as_str), Some(resolver));
        assert_eq!(hosts("[network]\nweb = true\noffline = true\n"), [""; 0]);
        assert_eq!(hosts(""), [""; 0]);
    }

    #[test]
    fn an_engine_that_only_judges_is_among_those_a_command_contacts() {
        let read = |text: &str| toml::from_str::<Config>(text).unwrap();
        let judges = |config: &Config| {
            let all = on_command(config).into_iter().filter(|contact| contact.setting.starts_with("engine"));
            all.map(|contact| (contact.host, contact.why)).collect::<Vec<_>>()
        };
        let engines = "[engine.remote.box]\nurl = \"http://models.example:8080/v1\"\n";
        let idle = read(engines);
        assert_eq!(contacts(&idle), [], "no query asks it");
        let (host, why) = judges(&idle).pop().unwrap();
        assert!(host == "models.example:8080" && why.contains("eval --judge box"), "{host}: {why}");
        assert!(on_command(&idle).last().unwrap().host.contains("name resolver"));
        let serving = read(&format!("{engines}[engine.roles]\nverifier = \"box\"\n"));
        assert_eq!((contacts(&serving)[0].host.as_str(), judges(&serving)), ("models.example:8080", vec![]));
        let offline = read(&format!("{engines}[network]\noffline = true\n"));
        assert_eq!(on_command(&offline), []);
    }
}
