//! What doctor says of remote engines: reached or not, what they serve, whether their planner could train.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::engine::remote::RemoteEngine;
use crate::engine::{Engine as _, Role};

use super::doctor::Check;
use super::setup::Setup;

/// The roles of each remote engine that serves any.
fn served(config: &Config) -> BTreeMap<&str, Vec<&'static str>> {
    let mut served: BTreeMap<&str, Vec<&'static str>> = BTreeMap::new();
    for role in Role::ALL {
        if let Some(name) = config.engine.roles.remote(role.name()) {
            served.entry(name).or_default().push(role.name());
        }
    }
    served
}

/// Every host that remote engines may contact, and why.
pub fn hosts(config: &Config) -> Vec<(String, String)> {
    let mut hosts = Vec::new();
    for (name, roles) in served(config) {
        if let Some(settings) = config.engine.remote.get(name) {
            hosts.push((settings.host(), format!("remote engine {name}: {}", roles.join(", "))));
        }
    }
    hosts
}

/// Hosts of engines that serve no role, which only `eval --judge` asks: (name, host).
pub fn judges(config: &Config) -> Vec<(&str, String)> {
    let served = served(config);
    let idle = config.engine.remote.iter().filter(|(name, _)| !served.contains_key(name.as_str()));
    idle.map(|(name, settings)| (name.as_str(), settings.host())).collect()
}

/// No role is left for the local model.
pub fn all_elsewhere(config: &Config) -> bool {
    Role::ALL.iter().all(|role| config.engine.roles.remote(role.name()).is_some())
}

/// One check per remote engine in use; each is asked for its models, the planner's for one token.
pub async fn checks(setup: &Setup) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, roles) in served(&setup.config) {
        let Some(settings) = setup.config.engine.remote.get(name) else { continue };
        let engine = RemoteEngine::new(name, settings.clone());
        let info = match engine.model().await {
            Ok(info) => info,
            Err(error) => {
                let remedy = format!("check [engine.remote.{name}], or take it out of [engine.roles]");
                checks.push(Check::bad("remote", error.to_string(), remedy));
                continue;
            }
        };
        let clear = if settings.key_in_the_clear() { "; its key travels unencrypted over http" } else { "" };
        let text = format!(
            "{name}: {} at {}, context {}, serves {}{clear}",
            info.name,
            engine.host(),
            info.context,
            roles.join(", ")
        );
        checks.push(Check::ok("remote", text));
        if roles.contains(&Role::Planner.name()) {
            let temperature = setup.config.flow.planner_temperature;
            let temperature = temperature.unwrap_or(setup.flow.pack.settings.planner_temperature);
            checks.push(trains(&engine, temperature).await);
        }
    }
    checks
}

/// A planner elsewhere answers all the same when it cannot train, so this is told and is no failure.
async fn trains(engine: &RemoteEngine, temperature: f32) -> Check {
    match engine.untrainable(temperature).await {
        Ok(None) => Check::ok(
            "planner",
            format!("{}: token ids and log-probabilities come back; rollouts can be exported", engine.name()),
        ),
        Ok(Some(why)) => Check::ok("planner", format!("{}: not trainable: {why}", engine.name())),
        Err(error) => Check::bad("planner", error.to_string(), "check its settings and its own log"),
    }
}
