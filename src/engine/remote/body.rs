//! A request as the chat API takes it, and what is left out for an endpoint that refuses some of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::plain::plain;
use crate::config::Remote;
use crate::engine::{Constraint, Message, Request};

/// What an endpoint may refuse and a call can do without, by the name its refusal would use.
const OPTIONAL: [&str; 11] = [
    "return_tokens_as_token_ids",
    "return_token_ids",
    "top_logprobs",
    "logprobs",
    "stream_options",
    "response_format",
    "grammar",
    "min_p",
    "top_k",
    "seed",
    "temperature",
];

/// What was learned from an endpoint's refusals. Each request gives in on a copy of its own; what an answer then
/// proved right is [`merge`](Terms::merge)d into the engine's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Terms {
    refused: BTreeSet<&'static str>,
    /// It wants `max_completion_tokens` where others take `max_tokens`.
    new_limit: bool,
}

impl Terms {
    /// Give in to a refusal of what `sent` held; false: nothing there can be left out for it.
    pub fn give_in(&mut self, sent: &Value, status: u16, why: &str) -> bool {
        if !matches!(status, 400 | 404 | 422 | 501) {
            return false;
        }
        if !self.new_limit && why.contains("max_completion_tokens") {
            self.new_limit = true;
            return true;
        }
        let blamed = OPTIONAL.into_iter().find(|name| {
            let about = match *name {
                // The words of refusals that name what is inside.
                "response_format" => why.contains("json_schema") || why.contains("schema"),
                _ => false,
            };
            sent.get(name).is_some() && (about || why.contains(name))
        });
        match blamed {
            Some("logprobs" | "top_logprobs") => self.refuse(&["logprobs", "top_logprobs"]),
            Some(name) => self.refuse(&[name]),
            None if status == 404 => false,
            // It does not say what: everything that is not in the first API goes at once.
            None => self.refuse(&OPTIONAL[..2]) | self.refuse(&["min_p", "top_k", "stream_options"]),
        }
    }

    /// Take over what another request learned.
    pub fn merge(&mut self, learned: &Terms) {
        self.refused.extend(&learned.refused);
        self.new_limit |= learned.new_limit;
    }

    fn refuse(&mut self, names: &[&'static str]) -> bool {
        names.iter().fold(false, |new, name| self.refused.insert(name) | new)
    }

    fn takes(&self, name: &str) -> bool {
        !self.refused.contains(name)
    }

    /// What `wanted` holds and these terms leave out.
    pub fn left_out(&self, request: &Request) -> Vec<String> {
        let wanted = whole(request);
        self.refused.iter().filter(|name| wanted.get(name).is_some()).map(ToString::to_string).collect()
    }
}

/// The JSON body of a request.
pub fn body(settings: &Remote, model: &str, request: &Request, terms: &Terms) -> Value {
    let mut body = json!({ "model": model, "messages": messages(&request.messages), "stream": true });
    if request.max_tokens > 0 {
        let name = if terms.new_limit { "max_completion_tokens" } else { "max_tokens" };
        body[name] = request.max_tokens.into();
    }
    if let (Value::Object(body), Value::Object(wanted)) = (&mut body, whole(request)) {
        body.extend(wanted.into_iter().filter(|(name, _)| terms.takes(name)));
        let extra = settings.extra.iter();
        body.extend(
            extra.filter_map(|(name, value)| Some((name.clone(), serde_json::to_value(value).ok()?))),
        );
    }
    body
}

/// Everything optional that the request would like.
fn whole(request: &Request) -> Value {
    let sampler = &request.sampler;
    let mut body =
        json!({ "temperature": decimal(sampler.temperature), "stream_options": {"include_usage": true} });
    if sampler.temperature > 0.0 {
        // Signed 64 bits are all that some endpoints read.
        body["seed"] = (sampler.seed & (i64::MAX as u64)).into();
    }
    if sampler.top_p > 0.0 && sampler.top_p < 1.0 {
        body["top_p"] = decimal(sampler.top_p);
    }
    if sampler.top_k > 0 {
        body["top_k"] = sampler.top_k.into();
    }
    if sampler.min_p > 0.0 {
        body["min_p"] = decimal(sampler.min_p);
    }
    // Only the planner learns, so only its calls ask for what learning needs.
    if request.role.uses_adapter() {
        body["logprobs"] = true.into();
        body["top_logprobs"] = 1.into();
        body["return_token_ids"] = true.into();
        body["return_tokens_as_token_ids"] = true.into();
    }
    match &request.constraint {
        Some(Constraint::JsonSchema(text)) => {
            if let Ok(schema) = serde_json::from_str::<Value>(text) {
                body["response_format"] =
                    json!({"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}});
            }
        }
        Some(Constraint::Grammar(text)) => body["grammar"] = text.as_str().into(),
        None => {}
    }
    body
}

/// 0.7 as 0.7, not as the nearest f32 written out.
fn decimal(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or_else(|_| number.into(), Value::from)
}

fn messages(messages: &[Message]) -> Vec<Value> {
    let content = |message: &Message| plain(&message.text()).0.into_owned();
    messages.iter().map(|m| json!({"role": m.speaker.name(), "content": content(m)})).collect()
}

/// Control tokens in the messages, which are sent as text.
pub fn control_tokens(request: &Request) -> usize {
    request.messages.iter().map(|message| plain(&message.text()).1).sum()
}

/// Whether the endpoint was asked to hold the reply to the request's constraint.
pub fn constrains(body: &Value) -> bool {
    body.get("response_format").is_some() || body.get("grammar").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Role, Sampler, Speaker};

    fn request(role: Role) -> Request {
        Request {
            role,
            messages: vec![
                Message::new(Speaker::System, ["Be brief."]),
                Message::new(Speaker::User, ["1", "+1"]),
            ],
            sampler: Sampler::temperature(0.7, u64::MAX),
            constraint: None,
            max_tokens: 7,
        }
    }

    #[test]
    fn the_body_says_what_the_request_does() {
        let settings = Remote { extra: toml::from_str("think = false").unwrap(), ..Remote::default() };
        let sent = body(&settings, "m", &request(Role::Planner), &Terms::default());
        assert_eq!(sent["messages"][1], json!({"role": "user", "content": "1+1"}));
        assert_eq!(
            (&sent["max_tokens"], &sent["stream"], &sent["think"]),
            (&json!(7), &json!(true), &json!(false))
        );
        assert_eq!((&sent["temperature"], &sent["seed"]), (&json!(0.7), &json!(i64::MAX)));
        assert_eq!((&sent["logprobs"], &sent["return_token_ids"]), (&json!(true), &json!(true)));
        assert!(sent.get("top_p").is_none() && sent.get("response_format").is_none());
        let frozen = body(&settings, "m", &request(Role::Verifier), &Terms::default());
        assert!(frozen.get("logprobs").is_none() && frozen.get("return_token_ids").is_none());
    }

    #[test]
    fn a_refusal_drops_what_it_blames_and_says_so() {
        let schema = Some(Constraint::JsonSchema("{\"type\":\"object\"}".into()));
        let request = Request { constraint: schema, ..request(Role::Planner) };
        let mut terms = Terms::default();
        let sent = |terms: &Terms| body(&Remote::default(), "m", &request, terms);
        assert!(constrains(&sent(&terms)));
        for (why, gone) in [
            ("Unrecognized request argument supplied: return_token_ids", "return_token_ids"),
            ("'logprobs' is not supported with this model", "top_logprobs"),
            ("Invalid schema for response_format 'reply'", "response_format"),
            ("Unsupported value: 'temperature'", "temperature"),
        ] {
            assert!(sent(&terms).get(gone).is_some(), "{gone}");
            assert!(terms.give_in(&sent(&terms), 400, why), "{why}");
            assert!(sent(&terms).get(gone).is_none(), "{gone}");
            assert!(terms.left_out(&request).iter().any(|name| name == gone), "{gone}");
        }
        assert!(!constrains(&sent(&terms)));
        assert!(terms.give_in(&sent(&terms), 400, "use 'max_completion_tokens' instead"));
        assert_eq!(sent(&terms)["max_completion_tokens"], 7);
        // Unnamed trouble takes the rest of the additions away, once.
        assert!(terms.give_in(&sent(&terms), 422, "unprocessable"));
        assert!(!terms.give_in(&sent(&terms), 422, "unprocessable"));
        assert!(!terms.give_in(&sent(&terms), 401, "logprobs"));
    }
}
