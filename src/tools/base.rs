//! base: the base generator, the frozen model answering a sub-goal by itself.
//!
//! The prompt is handed in (prompts belong to the flow); the adapter is never on.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Tool, ToolCard, ToolContext, ToolExample, ToolFault, ToolResult};
use crate::engine::{Engine, Message, Request, Role, Sampler};
use crate::error::EngineError;

const MAX_QUESTION_CHARS: usize = 20_000;
const MAX_TOKENS: usize = 512;

/// The messages that put a question to the frozen model.
pub type BasePrompt = Arc<dyn Fn(&str) -> Vec<Message> + Send + Sync>;

/// See the file's head.
pub struct Base {
    card: ToolCard,
    engine: Arc<dyn Engine>,
    prompt: BasePrompt,
    /// 0 is greedy; anything else samples with the call's seed.
    temperature: f32,
}

impl Base {
    /// Greedy.
    pub fn new(engine: Arc<dyn Engine>, prompt: BasePrompt) -> Base {
        Base { card: card(), engine, prompt, temperature: 0.0 }
    }

    #[must_use]
    pub fn with_temperature(self, temperature: f32) -> Base {
        Base { temperature, ..self }
    }
}

fn card() -> ToolCard {
    let example = |question: &str, result: &str| ToolExample {
        arguments: json!({ "question": question }),
        result: result.into(),
    };
    ToolCard {
        name: "base".into(),
        purpose: "Asks the language model itself, for what needs no tool: rewording, judging, common sense."
            .into(),
        brief: "answers by itself".into(),
        schema: json!({
            "type": "object",
            "properties": {"question": {
                "type": "string",
                "description": "the question, with everything needed to answer it",
                "maxLength": MAX_QUESTION_CHARS
            }},
            "required": ["question"],
            "additionalProperties": false
        }),
        examples: vec![
            example("Which of these is a fruit: chair, pear, river?", "pear"),
            example("Write \"the sky is blue\" as a question.", "Is the sky blue?"),
        ],
        limits: vec![
            "Knows only what the model remembers, which may be wrong; it sees no earlier turn.".into(),
            format!("Answers end after {MAX_TOKENS} tokens."),
        ],
    }
}

#[async_trait]
impl Tool for Base {
    fn card(&self) -> &ToolCard {
        &self.card
    }

    async fn call(&self, arguments: &Value, context: &ToolContext) -> ToolResult {
        let question = arguments["question"].as_str().unwrap_or_default();
        let sampler = if self.temperature > 0.0 {
            Sampler::temperature(self.temperature, context.seed)
        } else {
            Sampler::greedy()
        };
        let request = Request {
            role: Role::Base,
            messages: (self.prompt)(question),
            sampler,
            constraint: None,
            max_tokens: MAX_TOKENS,
        };
        let answer =
            self.engine.complete(request.clone(), context.on_output.clone(), context.cancel.clone()).await;
        match answer {
            Ok(completion) => {
                let text = completion.text.trim().to_owned();
                let mut result = if text.is_empty() {
                    ToolResult::fault(ToolFault::Failed, "the model gave no answer")
                } else {
                    ToolResult::ok(text)
                };
                result.calls.push((request, completion));
                result
            }
            Err(EngineError::Cancelled) => ToolResult::fault(ToolFault::Cancelled, "cancelled"),
            Err(error) => ToolResult::fault(ToolFault::Failed, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::engine::{Completion, ModelInfo, OnPiece, Speaker};

    /// Says what it was asked, as any engine would be asked.
    struct Echo;

    #[async_trait]
    impl Engine for Echo {
        async fn model(&self) -> Result<ModelInfo, EngineError> {
            Ok(ModelInfo::default())
        }

        async fn complete(
            &self,
            request: Request,
            _on_piece: Option<OnPiece>,
            cancel: CancellationToken,
        ) -> Result<Completion, EngineError> {
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            let asked = request.messages.last().map(Message::text).unwrap_or_default();
            if asked == "die" {
                return Err(EngineError::Other("it died".into()));
            }
            Ok(Completion { text: format!(" {asked}\n"), ..Completion::default() })
        }

        async fn set_adapter(&self, _path: Option<PathBuf>) -> Result<Option<String>, EngineError> {
            Ok(None)
        }

        async fn score(&self, _ids: Vec<i32>, _adapter: bool) -> Result<Vec<f32>, EngineError> {
            Ok(Vec::new())
        }
    }

    fn call(question: &str, context: &ToolContext) -> ToolResult {
        let prompt: BasePrompt = Arc::new(|question| vec![Message::new(Speaker::User, [question])]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        let base = Base::new(Arc::new(Echo), prompt);
        runtime.block_on(base.call(&json!({ "question": question }), context))
    }

    #[test]
    fn the_call_is_recorded_as_the_frozen_models() {
        let result = call("What is blue?", &ToolContext::default());
        assert_eq!((result.text.as_str(), result.fault), ("What is blue?", None));
        let (request, completion) = &result.calls[0];
        assert_eq!((request.role, request.max_tokens), (Role::Base, MAX_TOKENS));
        assert_eq!(request.sampler, Sampler::greedy());
        assert_eq!(completion.text, " What is blue?\n");
    }

    #[test]
    fn an_engine_that_fails_is_a_turn() {
        let context = ToolContext::default();
        assert_eq!(call("die", &context).fault, Some(ToolFault::Failed));
        assert_eq!(call("", &context).fault, Some(ToolFault::Failed));
        context.cancel.cancel();
        assert_eq!(call("What?", &context).fault, Some(ToolFault::Cancelled));
    }
}
