//! What kind of GGUF a file is, whether or not the engine can serve it: for lists of what lies on a machine.
//!
//! `check` refuses everything but a model that can be served; here adapters, projectors and parts of split
//! models are told apart, with the reason why a file cannot serve. Tensor data is not looked at.

use std::path::Path;

use crate::gguf::check::{judge, most_common_type, open, parse};
use crate::gguf::read::Parsed;
use crate::gguf::types::file_type_name;
use crate::gguf::{GgufError, Header, Refusal, Value};

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A language model, or something else that says it is one.
    Model,
    /// A LoRA adapter, of use with its base only.
    Adapter,
    /// The vision or audio half of a model (`mmproj`).
    Projector,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Adapter => "adapter",
            Kind::Projector => "projector",
        }
    }
}

/// A file's header in outline.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    pub kind: Kind,
    /// `general.name`, or the architecture, or nothing.
    pub name: String,
    pub architecture: String,
    /// Numbers in all tensors of this file.
    pub parameters: u64,
    /// e.g. "Q8_0"
    pub file_type: String,
    pub file_bytes: u64,
    pub chat_template: bool,
    /// Tensors of other halves lie in the same file, as Ollama packs some models.
    pub packed: bool,
    /// The header the engine serves, or why it does not.
    pub served: Result<Header, Refusal>,
}

/// Read a file's header and say what it is.
///
/// # Errors
/// The file is missing, unreadable, or its header is none.
pub fn survey(path: &Path) -> Result<Survey, GgufError> {
    let (parsed, size) = parse(&open(path)?, path)?;
    Ok(outline(parsed, size))
}

fn outline(parsed: Parsed, size: u64) -> Survey {
    let text = |key: &str| parsed.metadata.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
    let number = |key: &str| parsed.metadata.get(key).and_then(Value::as_u64);
    let architecture = text("general.architecture");
    let kind = match (text("general.type").as_str(), architecture.as_str()) {
        ("adapter", _) => Kind::Adapter,
        ("mmproj", _) | (_, "clip") => Kind::Projector,
        _ => Kind::Model,
    };
    let name = text("general.name");
    let file_type = number("general.file_type").and_then(file_type_name);
    let other_half = |name: &str| ["v.", "mm.", "mtp."].iter().any(|start| name.starts_with(start));
    Survey {
        kind,
        name: if name.is_empty() { architecture.clone() } else { name },
        architecture,
        parameters: parsed.tensors.iter().fold(0_u64, |sum, t| sum.saturating_add(t.elements())),
        file_type: file_type.unwrap_or_else(|| most_common_type(&parsed.tensors)).to_string(),
        file_bytes: size,
        chat_template: parsed.metadata.get("tokenizer.chat_template").is_some(),
        packed: kind == Kind::Model && parsed.tensors.iter().any(|tensor| other_half(&tensor.name)),
        served: judge(parsed, size),
    }
}

/// (part, of how many) where a file's name says that it is one part of a split model.
pub fn part_of_split(name: &str) -> Option<(u32, u32)> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (_, part) = rest.rsplit_once('-')?;
    let number = |text: &str| if text.len() == 5 { text.parse().ok() } else { None };
    Some((number(part)?, number(count)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::toy::{ToyModel, toy_adapter};
    use crate::gguf::write::Plan;

    #[test]
    fn kinds_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (model, adapter) = (folder.path().join("m.gguf"), folder.path().join("a.gguf"));
        ToyModel::default().write(&model).unwrap();
        toy_adapter(&adapter, &model, 2, 4.0, 0, 0.02).unwrap();
        let projector = folder.path().join("p.gguf");
        let mut plan = Plan::default();
        plan.text("general.architecture", "clip");
        std::fs::write(&projector, plan.header()).unwrap();
        let found = survey(&model).unwrap();
        assert_eq!((found.kind, found.chat_template), (Kind::Model, true));
        assert_eq!(found.parameters, found.served.as_ref().unwrap().parameters);
        for (path, kind) in [(adapter, Kind::Adapter), (projector, Kind::Projector)] {
            let found = survey(&path).unwrap();
            assert_eq!(found.kind, kind);
            assert!(found.served.is_err(), "{found:?}");
        }
        std::fs::write(&model, "GGUF and then nothing of sense").unwrap();
        assert!(survey(&model).is_err());
    }

    #[test]
    fn parts_of_split_models_are_known_by_their_names() {
        assert_eq!(part_of_split("q4-00002-of-00003.gguf"), Some((2, 3)));
        for name in ["q4.gguf", "q-2-of-3.gguf", "a-of-b.gguf", "q4-00002-of-00003.bin", "-of-.gguf"] {
            assert_eq!(part_of_split(name), None, "{name}");
        }
    }
}
