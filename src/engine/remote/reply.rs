//! A reply, folded from the chunks of a stream or read whole. Everything in it is somebody else's text.

use serde_json::Value;

use crate::engine::{Request, StopReason};

/// Bytes of text one reply may hold.
const TEXT_MOST: usize = 8 << 20;
/// Token ids, or log-probabilities, one reply may hold: above every context there is.
const TOKENS_MOST: usize = 2 << 20;

/// What has arrived of a reply.
#[derive(Debug, Default, PartialEq)]
pub struct Reply {
    pub text: String,
    pub model: String,
    pub finish: Option<String>,
    pub prompt_ids: Vec<i32>,
    pub ids: Vec<i32>,
    pub logprobs: Vec<f32>,
    /// (prompt, completion) as the endpoint counts.
    pub usage: Option<(usize, usize)>,
    /// Chunks that held text or reasoning.
    pub pieces: usize,
    /// `[DONE]` was seen.
    pub done: bool,
    /// Token ids came on their own, so those hidden in log-probabilities are not counted again.
    own_ids: bool,
}

/// What is wrong with a chunk.
#[derive(Debug, PartialEq)]
pub enum Bad {
    /// No JSON, or not of the chat API's shape.
    Garbled(String),
    /// The endpoint reports a failure of its own: (HTTP-like code, words).
    Failed(u16, String),
}

impl Reply {
    /// Fold one event of a stream in; answers the text it brings.
    ///
    /// # Errors
    /// [`Bad`]; nothing after it can be trusted.
    pub fn event(&mut self, data: &str) -> Result<String, Bad> {
        if data.trim() == "[DONE]" {
            self.done = true;
            return Ok(String::new());
        }
        let chunk: Value = serde_json::from_str(data)
            .map_err(|e| Bad::Garbled(format!("{e} in {:?}", data.chars().take(80).collect::<String>())))?;
        self.chunk(&chunk, "delta")
    }

    /// Take a whole reply (`stream` was ignored); answers its text.
    ///
    /// # Errors
    /// As [`Reply::event`].
    pub fn whole(&mut self, body: &[u8]) -> Result<String, Bad> {
        let chunk: Value = serde_json::from_slice(body).map_err(|e| Bad::Garbled(e.to_string()))?;
        if chunk.pointer("/choices/0/message").is_none() && chunk.get("error").is_none() {
            return Err(Bad::Garbled("a reply without choices[0].message".to_string()));
        }
        self.done = true;
        self.chunk(&chunk, "message")
    }

    fn chunk(&mut self, chunk: &Value, part: &str) -> Result<String, Bad> {
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            return Err(failure(error));
        }
        if !chunk.is_object() {
            return Err(Bad::Garbled("a chunk that is no object".to_string()));
        }
        if self.model.is_empty() {
            self.model = chunk["model"].as_str().unwrap_or_default().chars().take(200).collect();
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            let count = |name: &str| usage[name].as_u64().map_or(0, |n| n as usize);
            self.usage = Some((count("prompt_tokens"), count("completion_tokens")));
        }
        if self.prompt_ids.is_empty() {
            self.prompt_ids = ids(chunk.get("prompt_token_ids"));
        }
        let choices = chunk["choices"].as_array().map_or(&[][..], Vec::as_slice);
        let Some(choice) = choices.iter().find(|c| c["index"].as_u64().unwrap_or(0) == 0) else {
            return Ok(String::new());
        };
        if self.prompt_ids.is_empty() {
            self.prompt_ids = ids(choice.get("prompt_token_ids"));
        }
        self.tokens(choice);
        if self.prompt_ids.len().max(self.ids.len()).max(self.logprobs.len()) > TOKENS_MOST {
            return Err(Bad::Garbled(format!("a reply of more than {TOKENS_MOST} token ids")));
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish = Some(reason.to_string());
        }
        let said = &choice[part];
        let thinks = ["reasoning_content", "reasoning"]
            .iter()
            .any(|key| said[*key].as_str().is_some_and(|t| !t.is_empty()));
        let text = said["content"].as_str().unwrap_or_default();
        self.pieces += usize::from(thinks || !text.is_empty());
        if self.text.len() + text.len() > TEXT_MOST {
            return Err(Bad::Garbled(format!("a reply of more than {TEXT_MOST} bytes")));
        }
        self.text.push_str(text);
        Ok(text.to_string())
    }

    /// Token ids and log-probabilities in the three forms endpoints have for them.
    fn tokens(&mut self, choice: &Value) {
        let own = ids(choice.get("token_ids"));
        if !own.is_empty() && !self.own_ids {
            // Ids taken from log-probabilities of earlier chunks would be counted twice.
            self.ids.clear();
            self.own_ids = true;
        }
        self.ids.extend(own);
        for token in choice.pointer("/logprobs/content").and_then(Value::as_array).into_iter().flatten() {
            if let Some(logprob) = token["logprob"].as_f64() {
                self.logprobs.push(logprob as f32);
            }
            let named = token["token"].as_str().and_then(|text| text.strip_prefix("token_id:"));
            let id = token["id"].as_i64().or_else(|| named.and_then(|id| id.parse().ok()));
            if let (false, Some(id)) = (self.own_ids, id.and_then(|id| i32::try_from(id).ok())) {
                self.ids.push(id);
            }
        }
    }

    /// Grows with everything that belongs to the reply, and with nothing else.
    pub fn progress(&self) -> usize {
        let ends = usize::from(self.finish.is_some()) + usize::from(self.usage.is_some());
        self.pieces + self.ids.len() + self.logprobs.len() + ends
    }

    /// Why the sampling stopped; None: the reply is not complete.
    pub fn stop(&self) -> Option<StopReason> {
        match self.finish.as_deref() {
            Some("length") => Some(StopReason::Length),
            Some(_) => Some(StopReason::EndOfTurn),
            None if self.done => Some(StopReason::EndOfTurn),
            None => None,
        }
    }

    /// Why a planner's call cannot train with what came back; None: it can.
    pub fn untrainable(&self, request: &Request, processed: bool) -> Option<String> {
        let why = if self.ids.is_empty() {
            "the endpoint returns no token ids (vLLM from 0.10.2 on does)"
        } else if self.prompt_ids.is_empty() {
            "the endpoint returns no token ids of the prompt (vLLM from 0.10.2 on does)"
        } else if self.logprobs.is_empty() {
            "the endpoint returns no log-probabilities"
        } else if self.logprobs.len() != self.ids.len() {
            return Some(format!(
                "the endpoint returned {} token ids and {} log-probabilities",
                self.ids.len(),
                self.logprobs.len()
            ));
        } else {
            return other_scale(request.sampler.temperature, processed);
        };
        Some(why.to_string())
    }
}

/// Endpoints tell log-probabilities at temperature 1 unless they are started otherwise; training needs them as
/// sampled.
pub fn other_scale(temperature: f32, processed: bool) -> Option<String> {
    (!processed && temperature != 1.0 && temperature != 0.0).then(|| {
        format!(
            "the endpoint's log-probabilities are those at temperature 1, and the planner samples at {temperature}; \
             sample at 1, or serve with --logprobs-mode processed_logprobs and set processed_logprobs = true"
        )
    })
}

fn ids(list: Option<&Value>) -> Vec<i32> {
    let list = list.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|id| id.as_i64().and_then(|id| i32::try_from(id).ok())).collect()
}

/// An `error` object, or a bare text, with the code it names (500 where it names none).
fn failure(error: &Value) -> Bad {
    let code = error["code"].as_u64().or_else(|| error["code"].as_str().and_then(|code| code.parse().ok()));
    let code = code.and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code));
    let words = error["message"]
        .as_str()
        .or_else(|| error.as_str())
        .map_or_else(|| error.to_string(), str::to_string);
    Bad::Failed(code.unwrap_or(500), words)
}

/// The words of an error body: its message where it is JSON, else its beginning.
pub fn error_words(body: &[u8]) -> String {
    let words = match serde_json::from_slice::<Value>(body) {
        Ok(value) => {
            let error = value.get("error").unwrap_or(&value);
            let said = error.get("message").or(error.get("detail")).unwrap_or(error);
            said.as_str().map_or_else(|| said.to_string(), str::to_string)
        }
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let words = crate::text::safe(&words).split_whitespace().collect::<Vec<_>>().join(" ");
    if words.is_empty() { "no reason given".to_string() } else { words }
}

/// The JSON of a reply that an endpoint did not hold to it: without thoughts, a code fence and words around it.
/// None: there is none, or nothing stands around it.
pub fn unwrapped(text: &str) -> Option<&str> {
    let is_json = |text: &str| serde_json::from_str::<Value>(text).is_ok();
    let text = text.trim();
    if is_json(text) {
        return None;
    }
    let spoken = text.rsplit("</think>").next().unwrap_or(text);
    let inner = spoken.get(spoken.find('{')?..=spoken.rfind('}')?)?;
    is_json(inner).then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Role, Sampler};

    fn request(temperature: f32) -> Request {
        Request {
            role: Role::Planner,
            messages: Vec::new(),
            sampler: Sampler::temperature(temperature, 1),
            constraint: None,
            max_tokens: 8,
        }
    }

    #[test]
    fn a_stream_of_vllm_folds_with_ids_and_logprobs() {
        let mut reply = Reply::default();
        for data in [
            r#"{"model":"m","prompt_token_ids":[1,2],"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"Hi"},"token_ids":[7],"logprobs":{"content":[{"token":"token_id:7","logprob":-0.5}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop","token_ids":[9],"logprobs":{"content":[{"token":"token_id:9","logprob":-0.25}]}}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":2}}"#,
            "[DONE]",
        ] {
            reply.event(data).unwrap();
        }
        assert_eq!((reply.text.as_str(), reply.stop()), ("Hi", Some(StopReason::EndOfTurn)));
        assert_eq!(
            (&reply.prompt_ids[..], &reply.ids[..], &reply.logprobs[..]),
            (&[1, 2][..], &[7, 9][..], &[-0.5, -0.25][..])
        );
        assert_eq!((reply.usage, reply.pieces), (Some((2, 2)), 1));
        assert_eq!(reply.untrainable(&request(1.0), false), None);
        assert_eq!(reply.untrainable(&request(0.0), false), None);
        assert!(reply.untrainable(&request(0.7), false).unwrap().contains("temperature 1"));
        assert_eq!(reply.untrainable(&request(0.7), true), None);
    }

    #[test]
    fn ids_hidden_in_logprobs_are_found_and_missing_ones_named() {
        let mut reply = Reply::default();
        let token = r#"{"choices":[{"delta":{"content":"a"},"logprobs":{"content":[{"id":5,"token":"a","logprob":-1.0}]}}]}"#;
        reply.event(token).unwrap();
        assert_eq!(reply.ids, [5]);
        assert!(reply.untrainable(&request(1.0), false).unwrap().contains("of the prompt"));
        let mut bare = Reply::default();
        bare.event(r#"{"choices":[{"delta":{"content":"a"}}]}"#).unwrap();
        assert!(bare.untrainable(&request(1.0), false).unwrap().contains("no token ids"));
        assert_eq!(bare.stop(), None);
    }

    #[test]
    fn ids_and_logprobs_without_end_are_refused() {
        let many = |item: &str| vec![item; 100_000].join(",");
        for (form, item) in [
            (r#"{"choices":[{"delta":{},"token_ids":[#]}]}"#, "7"),
            (r#"{"choices":[{"delta":{},"logprobs":{"content":[#]}}]}"#, r#"{"logprob":-1}"#),
        ] {
            let (event, mut reply, mut fed) = (form.replace('#', &many(item)), Reply::default(), 0);
            let refused = loop {
                fed += 1;
                assert!(fed < 30, "{form} is taken without end");
                if let Err(refused) = reply.event(&event) {
                    break refused;
                }
            };
            assert!(matches!(refused, Bad::Garbled(why) if why.contains("token ids")), "{form}");
            assert!(fed > 20, "{fed}");
        }
    }

    #[test]
    fn failures_and_nonsense_are_told_apart() {
        let bad = |data: &str| Reply::default().event(data).unwrap_err();
        assert_eq!(
            bad(r#"{"error":{"message":"overloaded","code":503}}"#),
            Bad::Failed(503, "overloaded".into())
        );
        assert_eq!(bad(r#"{"error":"odd"}"#), Bad::Failed(500, "odd".into()));
        assert!(matches!(bad("{\"choices\":"), Bad::Garbled(_)));
        assert!(matches!(bad("[1]"), Bad::Garbled(_)));
        assert!(matches!(Reply::default().whole(b"{\"object\":\"list\"}"), Err(Bad::Garbled(_))));
        let mut whole = Reply::default();
        let body = br#"{"choices":[{"message":{"content":"x"},"finish_reason":"length"}]}"#;
        assert_eq!((whole.whole(body).unwrap().as_str(), whole.stop()), ("x", Some(StopReason::Length)));
        assert_eq!(error_words(b"{\"error\":{\"message\":\"no\\u001b[31m such model\"}}"), "no such model");
        assert_eq!(error_words(b"{\"detail\":\"Not Found\"}"), "Not Found");
        assert_eq!(error_words(b""), "no reason given");
    }

    #[test]
    fn json_is_found_in_what_stands_around_it() {
        for (text, found) in [
            ("{\"a\":1}", None),
            ("```json\n{\"a\":1}\n```", Some("{\"a\":1}")),
            ("<think>{maybe}</think>Here: {\"a\":{\"b\":2}} ok?", Some("{\"a\":{\"b\":2}}")),
            ("no json } at { all", None),
            ("", None),
            ("}{", None),
        ] {
            assert_eq!(unwrapped(text), found, "{text}");
        }
    }
}
