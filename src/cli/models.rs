//! `tillerman model list`: every GGUF on this machine, kinds apart, with what each is good for here.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::text::safe;

use super::found::{self, Entry, Environment, Found};
use super::{Global, plain, setup};

/// Characters of a name before it is cut.
const NAME: usize = 36;
const KINDS: [(&str, &str); 4] = [
    ("model", "models"),
    ("adapter", "adapters (LoRA)"),
    ("projector", "image and audio parts"),
    ("unsupported", "not served here"),
];

pub fn list(global: &Global, json: bool) -> anyhow::Result<i32> {
    let (home, config) = setup::home_and_config(global)?;
    let (serving, _) = setup::model_path(global, &home, &config)?;
    let found = found::look(&home, &serving, &Environment::of_process());
    let mut out = std::io::stdout().lock();
    if json {
        for entry in &found.entries {
            writeln!(out, "{}", plain::json(&object(entry)))?;
        }
        for note in &found.notes {
            writeln!(out, "{}", plain::json(&json!({"kind": "note", "text": note})))?;
        }
    } else {
        write!(out, "{}", text(&found))?;
    }
    Ok(0)
}

fn object(entry: &Entry) -> Value {
    let survey = entry.survey.as_ref();
    let model = entry.kind() == "model";
    json!({
        "kind": "model", "type": entry.kind(), "path": entry.path, "in_use": entry.current,
        "name": survey.map(|found| &found.name), "architecture": survey.map(|found| &found.architecture),
        "parameters": survey.map(|found| found.parameters), "file_type": survey.map(|found| &found.file_type),
        "bytes": entry.bytes, "source": entry.source, "label": entry.label, "sha256": entry.sha256,
        "parts": entry.parts.map(|(_, all)| all),
        "fits": model.then_some(entry.fits), "trainable": model.then_some(entry.trainable),
        "chat_template": survey.map(|found| found.chat_template),
        "description": describe(entry), "reason": (!entry.reason.is_empty()).then_some(&entry.reason),
        "also": entry.also,
    })
}

fn describe(entry: &Entry) -> String {
    let Some(found) = &entry.survey else { return format!("refused: {}", entry.reason) };
    let parameters = count(found.parameters);
    format!("{}, {}, {parameters} parameters, {}", found.name, found.architecture, found.file_type)
}

fn text(found: &Found) -> String {
    let mut out = String::new();
    for (kind, title) in KINDS {
        let entries: Vec<&Entry> = found.entries.iter().filter(|entry| entry.kind() == kind).collect();
        if entries.is_empty() {
            continue;
        }
        if !out.is_empty() {
            out.push('\n');
        }
        let columns = format!(
            "  {title:<NAME$}  {:<12} {:>7}  {:<8} {:>8}  fits  learns  template  source",
            "arch", "params", "quant", "size"
        );
        out.push_str(&columns);
        out.push('\n');
        entries.iter().for_each(|entry| out.push_str(&row(entry)));
    }
    for note in &found.notes {
        out.push_str(&format!("note: {}\n", safe(note)));
    }
    out
}

/// A line of columns, the path below it, and what stands against it.
fn row(entry: &Entry) -> String {
    let survey = entry.survey.as_ref();
    let word = |text: Option<&str>| safe(text.filter(|text| !text.is_empty()).unwrap_or("-"));
    let yes = |known: bool, yes: bool| {
        if !known {
            "-"
        } else if yes {
            "yes"
        } else {
            "no"
        }
    };
    let model = entry.kind() == "model";
    let name = survey.map_or(entry.label.as_str(), |found| found.name.as_str());
    let source = if entry.label.is_empty() || entry.label == file_stem(&entry.path) {
        entry.source.to_string()
    } else {
        format!("{}: {}", entry.source, entry.label)
    };
    let mut out = format!(
        "{} {:<NAME$}  {:<12} {:>7}  {:<8} {:>8}  {:<4}  {:<6}  {:<8}  {}\n    {}\n",
        if entry.current { "*" } else { " " },
        cut(&word(Some(name)), NAME),
        cut(&word(survey.map(|found| found.architecture.as_str())), 12),
        survey.map_or_else(|| "-".to_string(), |found| count(found.parameters)),
        word(survey.map(|found| found.file_type.as_str())),
        super::pull::size(entry.bytes),
        yes(model, entry.fits),
        yes(model, entry.trainable),
        yes(survey.is_some_and(|_| entry.kind() == "model"), survey.is_some_and(|found| found.chat_template)),
        safe(&source),
        safe(&entry.path.to_string_lossy())
    );
    for words in [&entry.reason, &entry.words].into_iter().filter(|words| !words.is_empty()) {
        out.push_str(&format!("    {}\n", cut(&safe(words), 240)));
    }
    for place in &entry.also {
        out.push_str(&format!("    also {}\n", safe(place)));
    }
    out
}

fn file_stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn cut(text: &str, most: usize) -> String {
    let text = text.replace('\n', " ");
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn count(parameters: u64) -> String {
    match parameters {
        0..1_000_000 => format!("{:.0}K", parameters as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", parameters as f64 / 1e6),
        _ => format!("{:.1}B", parameters as f64 / 1e9),
    }
}
