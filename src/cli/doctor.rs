//! `tillerman doctor`: what works here, checked by doing it, with the remedy for what does not.

use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Message, Request, Role, Sampler, Speaker};
use crate::store::GivenWay;
use crate::text::safe;
use crate::train::device;

use super::sessions::when;
use super::setup::{self, Setup};
use super::{Global, plain};

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// One check per line as JSON
    #[arg(long)]
    pub json: bool,
    /// Every host this program may contact, and why
    #[arg(long)]
    pub network: bool,
}

/// One line of the report.
pub(super) struct Check {
    pub name: &'static str,
    pub ok: bool,
    pub text: String,
    pub remedy: String,
}

impl Check {
    pub(super) fn ok(name: &'static str, text: impl Into<String>) -> Check {
        Check { name, ok: true, text: text.into(), remedy: String::new() }
    }

    pub(super) fn bad(name: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { name, ok: false, text: text.into(), remedy: remedy.into() }
    }

    fn json(&self) -> Value {
        json!({"kind": "check", "name": self.name, "ok": self.ok, "text": self.text, "remedy": self.remedy})
    }
}

pub async fn run(global: &Global, args: &DoctorArgs) -> anyhow::Result<i32> {
    if args.network {
        return super::network::run(global, args.json);
    }
    let checks = checks(global, None).await;
    let failed = checks.iter().filter(|check| !check.ok).count();
    for check in &checks {
        if args.json {
            println!("{}", plain::json(&check.json()));
        } else {
            let mark = if check.ok { "ok  " } else { "FAIL" };
            println!("{mark} {:<9} {}", check.name, safe(&check.text));
            if !check.ok {
                println!("               remedy: {}", safe(&check.remedy));
            }
        }
    }
    Ok(i32::from(failed > 0))
}

/// Every check, done now; the engine's on the parts that serve, where there are any: a model is not loaded twice.
pub(super) async fn checks(global: &Global, serving: Option<Arc<Setup>>) -> Vec<Check> {
    let mut checks = vec![Check::ok("version", version())];
    checks.extend(store(global));
    let setup = match serving {
        Some(setup) => Ok(setup),
        None => setup::open(global, 1).map(Arc::new),
    };
    match setup {
        Ok(setup) => checks.extend(engine(&setup).await),
        Err(error) => {
            checks.push(Check::bad("model", format!("{error:#}"), "`tillerman model use embedded`"))
        }
    }
    let own = global.clone();
    match tokio::task::spawn_blocking(move || tools(&own)).await {
        Ok(found) => checks.extend(found),
        Err(error) => checks.push(Check::bad("tools", error.to_string(), "see the logs folder")),
    }
    checks.push(terminal());
    checks
}

/// The program's version and the llama.cpp it was built with.
pub fn version() -> String {
    format!("tillerman {}, llama-cpp-2 0.1.160, llama-cpp-sys-2 0.1.161", env!("CARGO_PKG_VERSION"))
}

fn store(global: &Global) -> Vec<Check> {
    let (home, _) = match setup::home_and_config(global) {
        Ok(parts) => parts,
        Err(error) => {
            return vec![Check::bad("store", format!("{error:#}"), "choose a directory with --home DIR")];
        }
    };
    match crate::store::Store::open(&home) {
        Ok(store) => {
            let text = format!("{}, SQLite {}", home.root().display(), store.sqlite_version());
            let mut checks = vec![Check::ok("store", text)];
            checks.extend(open_to_others(home.root()));
            match store.given_way() {
                Ok(found) => checks.extend(found.iter().map(gave_way)),
                Err(error) => {
                    checks.push(Check::bad("record", error.to_string(), "choose a directory with --home DIR"))
                }
            }
            checks
        }
        Err(error) => vec![Check::bad("store", error.to_string(), "choose a directory with --home DIR")],
    }
}

/// That an adapter was damaged once is no fault of now; what is one now is said where the engine is looked at.
fn gave_way(found: &GivenWay) -> Check {
    let GivenWay { adapter, reason, starts, .. } = found;
    let instead = found.instead.as_ref().map_or("the bare model".into(), |id| format!("its ancestor {id}"));
    let times = if *starts == 1 { "once".to_string() } else { format!("{starts} times") };
    let (first, last) = (when(found.first_ms), when(found.last_ms));
    Check::ok(
        "record",
        format!(
            "{first} to {last}: adapter {adapter} was found damaged and {instead} served, {times}: {reason}"
        ),
    )
}

async fn engine(setup: &Setup) -> Vec<Check> {
    let mut checks = super::remote::checks(setup).await;
    if super::remote::all_elsewhere(&setup.config) {
        return checks;
    }
    let info = match setup.engine.model().await {
        Ok(info) => info,
        Err(error) => {
            checks.push(Check::bad("engine", error.to_string(), "`tillerman model use embedded`"));
            return checks;
        }
    };
    if let Some(damage) = &setup.damage {
        checks.push(Check::bad("adapter", damage.clone(), crate::store::Serving::REMEDY));
    }
    checks.extend([
        Check::ok(
            "model",
            format!(
                "{} ({}, {}, {:.1}M parameters), context {} x {} sequences",
                info.name,
                info.architecture,
                info.file_type,
                info.parameters as f64 / 1e6,
                info.context,
                info.sequences
            ),
        ),
        Check::ok(
            "devices",
            format!(
                "{}; {} of {} layers offloaded; {} {}",
                info.devices.join(", "),
                info.layers_offloaded,
                info.layers,
                info.threads,
                if info.threads == 1 { "thread" } else { "threads" }
            ),
        ),
        Check::ok("cpu", features(&info.cpu_features)),
        Check::ok("training", device::report(&setup.config.train.device, &info.devices)),
    ]);
    checks.push(first_words(&setup.engine).await);
    checks
}

async fn first_words(engine: &Arc<crate::engine::client::LlamaEngine>) -> Check {
    let request = Request {
        role: Role::Generator,
        messages: vec![Message::new(Speaker::User, ["Query: What is 2+3?\n"])],
        sampler: Sampler::greedy(),
        constraint: None,
        max_tokens: 8,
    };
    match engine.complete(request, None, CancellationToken::new()).await {
        Ok(completion) => {
            let sampled = completion.completion_ids.len();
            let rate = sampled as f64 / (completion.timings.decode_ms / 1e3).max(1e-9);
            Check::ok("engine", format!("sampled {sampled} tokens ({rate:.0} tokens/s in this short run)"))
        }
        Err(error) => Check::bad("engine", error.to_string(), "`tillerman model use embedded`"),
    }
}

fn tools(global: &Global) -> Vec<Check> {
    let toolbox = setup::home_and_config(global).and_then(|(home, config)| {
        let pack = Arc::new(crate::flow::prompt::Pack::bundled("full")?);
        setup::toolbox(global, &home, &config, None, &pack)
    });
    // Afterwards: the settings say which tiers may be tried.
    let mut checks = vec![sandbox()];
    match toolbox {
        Err(error) => checks.push(Check::bad("tools", format!("{error:#}"), "check the [tools] settings")),
        Ok(toolbox) => {
            checks.push(Check::ok("tools", format!("{}, base (with a model)", toolbox.names().join(", "))));
            for refused in &toolbox.refused {
                if refused.name != "base" {
                    let text = format!("{} is not registered: {}", refused.name, refused.reason);
                    checks.push(Check::bad("tools", text, refused.remedy.clone()));
                }
            }
        }
    }
    checks
}

fn sandbox() -> Check {
    let interpreter = match crate::tools::python::Interpreter::find() {
        Ok(interpreter) => interpreter,
        Err(reason) => {
            return Check::bad("sandbox", reason, "install Python 3 (Debian: apt install python3)");
        }
    };
    let probe = crate::tools::sandbox::probe(&crate::tools::sandbox_exe(), &interpreter);
    match &probe.tier {
        Some(tier) => match tier.lacks() {
            None => Check::ok("sandbox", format!("tier {}: model-written code runs confined", tier.name())),
            Some(lacks) => Check::ok("sandbox", lacks.to_string()),
        },
        None => Check::bad("sandbox", probe.reason.clone(), probe.remedy.clone()),
    }
}

fn terminal() -> Check {
    let kind = std::env::var("TERM").unwrap_or_else(|_| "unknown".into());
    let tty = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let colour = if std::env::var_os("NO_COLOR").is_some() { ", NO_COLOR is set" } else { "" };
    let text = if tty { format!("{kind}{colour}") } else { format!("none here (TERM {kind}){colour}") };
    Check::ok("terminal", text)
}

/// What was asked and answered is private; a folder that was there before may be open.
fn open_to_others(root: &Path) -> Option<Check> {
    let mode = std::fs::metadata(root).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        let text = format!("others on this machine can look into {} (mode {mode:o})", root.display());
        Check::bad("private", text, format!("chmod 700 {}", root.display()))
    })
}

/// The features the engine was built with and uses, from `CPU : SSE3 = 1 | AVX = 1 | ...`.
fn features(told: &str) -> String {
    let told = told.split_once(':').map_or(told, |(_, list)| list);
    let used = told.split('|').filter_map(|feature| feature.split_once('='));
    let names: Vec<&str> =
        used.filter(|(_, value)| value.trim() != "0").map(|(name, _)| name.trim()).collect();
    if names.is_empty() { "no features beyond the basic ones".to_string() } else { names.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::features;

    #[test]
    fn features_are_names() {
        assert_eq!(features("CPU : SSE3 = 1 | AVX = 0 | FMA = 1 | "), "SSE3 FMA");
        assert_eq!(features(""), "no features beyond the basic ones");
    }
}
