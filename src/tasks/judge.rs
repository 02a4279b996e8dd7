//! A model's opinion on answers: equivalent to the reference or not. Always beside the checkers, never for them.
//!
//! One greedy call per answer, frozen (no adapter), its reply held by a schema. A reply that cannot be read is no
//! opinion and is counted as such. It scores nothing and chooses no engine.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::engine::{Constraint, Engine, Request, Role, Sampler, StopReason};
use crate::error::{EngineError, Error};
use crate::flow::prompt::{Fill, Pack};
use crate::tasks::eval::Share;
use crate::tasks::stats::Pairs;

/// The prompt, written like a pack's.
const PROMPT: &str = include_str!("../../assets/prompts/judge.md");
/// Most tokens of a judgement: a reason of [`REASON_CHARS`] characters and the form around it.
const MAX_TOKENS: usize = 400;
const REASON_CHARS: usize = 400;

/// Who judges.
#[derive(Clone)]
pub struct Judge {
    engine: Arc<dyn Engine>,
    pack: Arc<Pack>,
    /// Engine, model and prompt; judgements of another are not mixed with this one's.
    pub identity: Identity,
}

/// What a judgement depends on besides the question and the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// `local`, or the engine's name in the settings.
    pub engine: String,
    /// The model's name.
    pub model: String,
    /// The first half of the model's content hash; elsewhere that of address and name.
    pub model_hash: String,
    /// blake3 of the prompt file, shortened.
    pub prompt: String,
}

/// What is put before the judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    pub query: String,
    pub reference: String,
    pub answer: String,
}

/// What the judge said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// None: there is no opinion, and `reason` says why.
    pub equivalent: Option<bool>,
    pub reason: String,
}

impl Judge {
    /// `engine` is called `name` in reports. Asks it what it serves, so that one that cannot be reached is one
    /// error before anything runs.
    ///
    /// # Errors
    /// The engine cannot load or be reached.
    pub async fn new(name: &str, engine: Arc<dyn Engine>, pack: Arc<Pack>) -> Result<Judge, Error> {
        let info = engine.model().await.map_err(Error::Engine)?;
        let identity = Identity {
            engine: name.to_string(),
            model: info.name,
            model_hash: info.hash.chars().take(32).collect(),
            prompt: blake3::hash(PROMPT.as_bytes()).to_hex()[..12].to_string(),
        };
        Ok(Judge { engine, pack, identity })
    }

    /// None: cancelled. Whatever else goes wrong is a judgement without an opinion.
    pub async fn judge(&self, case: &Case, cancel: CancellationToken) -> Option<Judgement> {
        let unable = |reason: String| Some(Judgement { equivalent: None, reason });
        if case.reference.trim().is_empty() {
            return unable("the question has no reference answer to compare with".into());
        }
        let fill =
            Fill { query: &case.query, reference: &case.reference, answer: &case.answer, ..Fill::default() };
        let messages = match self.pack.beside(PROMPT, "judge.md", &fill) {
            Ok(messages) => messages,
            Err(error) => return unable(error.to_string()),
        };
        let request = Request {
            role: Role::Base,
            messages,
            sampler: Sampler::greedy(),
            constraint: Some(Constraint::JsonSchema(schema().to_string())),
            max_tokens: MAX_TOKENS,
        };
        match self.engine.complete(request, None, cancel).await {
            Ok(completion) if completion.stop == Some(StopReason::Length) => {
                unable("the judge's reply was cut off before its end".into())
            }
            Ok(completion) => Some(read(&completion.text)),
            Err(EngineError::Cancelled) => None,
            Err(error) => unable(error.to_string()),
        }
    }

    /// Judge many, `parallel` at once. `done` hears of each with its place in `cases`, in any order.
    pub async fn judge_all(
        &self,
        cases: Vec<Case>,
        parallel: usize,
        cancel: &CancellationToken,
        mut done: impl FnMut(usize, Judgement),
    ) {
        let gate = Arc::new(tokio::sync::Semaphore::new(parallel.max(1)));
        let mut running = tokio::task::JoinSet::new();
        for (at, case) in cases.into_iter().enumerate() {
            let (judge, gate, cancel) = (self.clone(), gate.clone(), cancel.clone());
            running.spawn(async move {
                let _permit = gate.acquire_owned().await.ok();
                if cancel.is_cancelled() {
                    return None;
                }
                judge.judge(&case, cancel).await.map(|judgement| (at, judgement))
            });
        }
        while let Some(joined) = running.join_next().await {
            match joined {
                Ok(Some((at, judgement))) => done(at, judgement),
                Ok(None) => {}
                // A bug of ours must not pass as an answer that could not be judged.
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => cancel.cancel(),
                },
            }
        }
    }
}

/// The form of a judgement. The reason comes first: it is then part of what the decision follows from.
pub fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "reason": {"type": "string", "maxLength": REASON_CHARS},
            "equivalent": {"type": "boolean"},
        },
        "required": ["reason", "equivalent"],
        "additionalProperties": false,
    })
}

/// Read a judgement. Anything but the form asked for is no opinion: what it might have meant is not guessed.
pub fn read(text: &str) -> Judgement {
    let value: Value = serde_json::from_str(text.trim()).unwrap_or(Value::Null);
    match (value["equivalent"].as_bool(), value["reason"].as_str()) {
        (Some(equivalent), Some(reason)) => {
            Judgement { equivalent: Some(equivalent), reason: reason.to_string() }
        }
        _ => {
            let begin: String = text.trim().chars().take(80).collect();
            let reason = format!("the judge's reply is not of the form asked for: {begin:?}");
            Judgement { equivalent: None, reason }
        }
    }
}

/// What the judgements of one side come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Equivalent, of the answers judged and the questions without an answer; those count as not equivalent, as
    /// they count as wrong.
    pub share: Share,
    /// Questions without an answer: nothing to judge.
    pub unanswered: usize,
    /// Answers the judge gave no opinion on; in no share.
    pub unjudged: usize,
    /// The answers judged: checker (first) against judge (second).
    pub against_checker: Pairs,
}

impl Judged {
    /// A question without an answer.
    pub fn add_unanswered(&mut self) {
        self.unanswered += 1;
        self.share.add(false);
    }

    /// An answer, with what the checker and the judge (None: no opinion) say.
    pub fn add(&mut self, right: bool, equivalent: Option<bool>) {
        match equivalent {
            None => self.unjudged += 1,
            Some(equivalent) => {
                self.share.add(equivalent);
                self.against_checker.add(right, equivalent);
            }
        }
    }

    /// Answers the judge had an opinion on.
    pub fn judged(&self) -> usize {
        self.against_checker.n()
    }

    /// Judge and checker say the same, of the answers judged.
    pub fn agreement(&self) -> Share {
        let pairs = &self.against_checker;
        Share { k: pairs.both_right + pairs.both_wrong, n: pairs.n() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::scripted::ScriptedEngine;

    fn case(answer: &str) -> Case {
        Case { query: "Which river?".into(), reference: "the Nile".into(), answer: answer.into() }
    }

    async fn judge(engine: ScriptedEngine) -> Judge {
        Judge::new("local", Arc::new(engine), Arc::new(Pack::bundled("compact").unwrap())).await.unwrap()
    }

    #[tokio::test]
    async fn the_judge_sees_question_reference_and_answer_and_is_held_to_its_form() {
        let judge = judge(ScriptedEngine::new(|request: &Request| {
            assert_eq!((request.role, request.role.uses_adapter()), (Role::Base, false));
            assert_eq!(request.sampler, Sampler::greedy());
            let Some(Constraint::JsonSchema(schema)) = &request.constraint else { panic!("no schema") };
            crate::engine::grammar::schema_to_gbnf(&serde_json::from_str(schema).unwrap()).unwrap();
            // Each value is a part of its own: no text of an answer merges with what stands around it.
            let parts = &request.messages[1].parts;
            for value in ["Which river?", "the Nile"] {
                assert!(parts.iter().any(|part| part == value), "{parts:?}");
            }
            let yes = parts.iter().any(|part| part == "Nile {{reference}}");
            Ok(format!(r#"{{"reason":"r","equivalent":{yes}}}"#))
        }))
        .await;
        let said = judge.judge(&case("Nile {{reference}}"), CancellationToken::new()).await.unwrap();
        assert_eq!(said, Judgement { equivalent: Some(true), reason: "r".into() });
        let said = judge.judge(&case("Rhine"), CancellationToken::new()).await.unwrap();
        assert_eq!(said.equivalent, Some(false));
        let none = Case { reference: " ".into(), ..case("x") };
        let said = judge.judge(&none, CancellationToken::new()).await.unwrap();
        assert!(said.equivalent.is_none() && said.reason.contains("no reference"), "{said:?}");
    }

    #[tokio::test]
    async fn failures_are_counted_and_never_guessed() {
        for reply in [
            "",
            "yes",
            "true",
            r#"{"equivalent":"true","reason":"a text is no boolean"}"#,
            r#"{"equivalent":true}"#,
            r#"{"reason":"cut","equivalent":tr"#,
            r#"{"equivalent":1,"reason":"r"}"#,
            r#"[{"reason":"r","equivalent":true}]"#,
        ] {
            let said = read(reply);
            assert!(said.equivalent.is_none() && said.reason.contains("form"), "{reply}: {said:?}");
        }
        let long = format!(r#"{{"reason":"{}","equivalent":true}}"#, "x".repeat(MAX_TOKENS));
        let judge = judge(ScriptedEngine::new(move |request: &Request| {
            match request.messages[1].parts.iter().any(|part| part == "long") {
                true => Ok(long.clone()),
                false => Err(EngineError::Other("broken pipe".into())),
            }
        }))
        .await;
        let mut said = Vec::new();
        let cases = ["long", "other"].map(case).to_vec();
        judge
            .judge_all(cases, 2, &CancellationToken::new(), |at, judgement| said.push((at, judgement)))
            .await;
        said.sort_by_key(|(at, _)| *at);
        assert!(said[0].1.equivalent.is_none() && said[0].1.reason.contains("cut off"), "{said:?}");
        assert!(said[1].1.equivalent.is_none() && said[1].1.reason.contains("broken pipe"), "{said:?}");
    }

    #[test]
    fn both_counts_of_the_table_and_what_is_outside_it() {
        let mut judged = Judged::default();
        judged.add(true, Some(true));
        judged.add(true, Some(false));
        judged.add(false, Some(true));
        judged.add(false, Some(true));
        judged.add(false, Some(false));
        judged.add(true, None);
        judged.add_unanswered();
        let table = Pairs { both_right: 1, wins: 1, losses: 2, both_wrong: 1 };
        assert_eq!(judged.against_checker, table);
        assert_eq!((judged.judged(), judged.unanswered, judged.unjudged), (5, 1, 1));
        assert_eq!(judged.share, Share { k: 3, n: 6 }, "no answer is not equivalent; no opinion is nothing");
        assert_eq!(judged.agreement(), Share { k: 2, n: 5 });
    }
}
