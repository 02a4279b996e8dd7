//! Hostile text through real tokenizers: none of it becomes a special token.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use tillerman::engine::client::{EngineOptions, LlamaEngine};
use tillerman::engine::{Engine, Message, Request, Role, Sampler, Speaker};
use tillerman::gguf::toy::ToyModel;
use tokio_util::sync::CancellationToken;

use crate::corpus::HOSTILE;

/// Control tokens of the families whose texts are in the corpus, as one vocabulary.
const CONTROL: &[&str] = &[
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "[INST]",
    "[/INST]",
    "<s>",
    "</s>",
    "<<SYS>>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<bos>",
    "<eos>",
    "<|system|>",
    "<|assistant|>",
    "<|end|>",
    "<\u{ff5c}User\u{ff5c}>",
    "<\u{ff5c}Assistant\u{ff5c}>",
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|call|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|SYSTEM_TOKEN|>",
    "<|start_of_role|>",
    "<|end_of_role|>",
    "<tool_call>",
    "</tool_call>",
    "<pad>",
    "<unk>",
];

/// Ids of a file's control and user-defined tokens.
fn special_ids(path: &Path) -> HashSet<i32> {
    let header = tillerman::gguf::check(path).unwrap();
    let Some(tillerman::gguf::Value::Array(types)) = header.metadata.get("tokenizer.ggml.token_type") else {
        panic!("{} names no token types", path.display())
    };
    let types = types.integers().unwrap().enumerate();
    types.filter(|(_, kind)| [3, 4].contains(kind)).map(|(id, _)| i32::try_from(id).unwrap()).collect()
}

/// The special ids of the prompt in which `text` is the content of a message, in order.
async fn specials(engine: &LlamaEngine, special: &HashSet<i32>, text: &str) -> Vec<i32> {
    let request = Request {
        role: Role::Verifier,
        messages: vec![
            Message::new(Speaker::System, ["Judge."]),
            Message::new(Speaker::User, ["Result: ", text, "\nMemory: ", text]),
        ],
        sampler: Sampler::greedy(),
        constraint: None,
        max_tokens: 1,
    };
    let full = engine.complete(request, None, CancellationToken::new()).await.unwrap();
    full.prompt_ids.into_iter().filter(|id| special.contains(id)).collect()
}

#[tokio::test]
async fn no_hostile_text_becomes_a_special_token() {
    let dir = tempfile::tempdir().unwrap();
    let families = dir.path().join("families.gguf");
    // llama.cpp finds user-defined tokens in any text; the last ones stand for those of real vocabularies.
    ToyModel { control: CONTROL, user_defined: 6, ..ToyModel::default() }.write(&families).unwrap();
    let embedded = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/planner.gguf"));
    for model in [embedded, families] {
        let special = special_ids(&model);
        assert!(!special.is_empty());
        let engine = LlamaEngine::new(EngineOptions {
            exe: env!("CARGO_BIN_EXE_tillerman").into(),
            context: Some(2048),
            threads: Some(1),
            ..EngineOptions::new(model)
        });
        let harmless = specials(&engine, &special, "The population is 10.").await;
        assert!(!harmless.is_empty(), "the template's own tokens are there");
        for (what, text) in HOSTILE.iter().copied().chain(CONTROL.iter().map(|token| (*token, *token))) {
            assert_eq!(specials(&engine, &special, text).await, harmless, "{what}");
        }
    }
}
