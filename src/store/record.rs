//! How an event becomes rows and rows become the same event again.
//!
//! A model call's id arrays live in `model_calls` only, strings over 64 KiB in blobs only; the JSON body
//! keeps their places. Secrets are taken out here, before anything is written.

use serde_json::Value;

use crate::engine::{Completion, Sampler, Timings};
use crate::flow::event::{Body, Event, ModelCall};
use crate::store::error::{Result, StoreError};
use crate::store::redact::redact;

/// Strings of at least this many bytes go to a blob.
pub const BLOB_BYTES: usize = 64 << 10;

/// An event as it is written.
#[derive(Debug)]
pub struct Record {
    pub kind: String,
    /// The body as JSON, without what `call` and `blobs` hold.
    pub body: String,
    pub call: Option<CallRow>,
    /// (JSON pointer into the body, text).
    pub blobs: Vec<(String, String)>,
    /// Secrets taken out.
    pub redacted: usize,
}

/// What a row of `model_calls` holds in place of the body.
#[derive(Debug)]
pub struct CallRow {
    pub prompt_ids: Vec<u8>,
    pub completion_ids: Vec<u8>,
    pub logprobs: Vec<u8>,
    pub forced: Vec<u8>,
    pub sampler: String,
    pub template_hash: String,
    pub adapter: Option<String>,
    pub timings: Timings,
    pub text: String,
}

impl Record {
    /// # Errors
    /// The event holds a number JSON has no word for (NaN, infinity).
    pub fn of(event: &Event) -> Result<Record> {
        if !event.t_ms.is_finite() {
            return Err(StoreError::Invalid(format!("event {} has no time: {}", event.seq, event.t_ms)));
        }
        let (body, mut call) = match &event.body {
            Body::ModelCall(call) => {
                let (slim, row) = split(call)?;
                (Body::ModelCall(Box::new(slim)), Some(row))
            }
            // Cheap: every other body is small or about to be written out anyway.
            other => (other.clone(), None),
        };
        let mut body = serde_json::to_value(&body).map_err(unwritable)?;
        let kind = body.get("kind").and_then(Value::as_str).unwrap_or("unknown").to_string();
        let (mut blobs, mut redacted) = (Vec::new(), 0);
        each_string(&mut body, &mut String::new(), &mut |pointer, text| {
            if let Some((kept, count)) = redact(text) {
                *text = kept;
                redacted += count;
            }
            if text.len() >= BLOB_BYTES {
                blobs.push((pointer.to_string(), std::mem::take(text)));
            }
        });
        if let Some(row) = &mut call {
            if let Some((kept, count)) = redact(&row.text) {
                row.text = kept;
                redacted += count;
            }
            if redacted > 0 {
                // The ids spell the secret too. Without ids the call shows, but never trains.
                for ids in [&mut row.prompt_ids, &mut row.completion_ids, &mut row.logprobs, &mut row.forced]
                {
                    ids.clear();
                }
            }
        }
        Ok(Record { kind, body: body.to_string(), call, blobs, redacted })
    }

    /// The event as it was recorded.
    ///
    /// # Errors
    /// The rows do not fit together; says which event.
    pub fn into_event(self, trajectory: &str, seq: u64, t_ms: f64) -> Result<Event> {
        let bad = |what: &str| {
            StoreError::Invalid(format!("event {seq} of trajectory {trajectory} cannot be read: {what}"))
        };
        let mut body: Value = serde_json::from_str(&self.body).map_err(|e| bad(&e.to_string()))?;
        for (pointer, text) in self.blobs {
            let place = body.pointer_mut(&pointer).ok_or_else(|| bad("a blob has no place in its body"))?;
            *place = Value::String(text);
        }
        let mut body: Body = serde_json::from_value(body).map_err(|e| bad(&e.to_string()))?;
        match (&mut body, self.call) {
            (Body::ModelCall(call), Some(row)) => join(call, row).map_err(|e| bad(&e))?,
            (Body::ModelCall(_), None) => return Err(bad("its model_calls row is missing")),
            _ => {}
        }
        Ok(Event { trajectory: trajectory.to_string(), seq, t_ms, body })
    }
}

fn unwritable(e: serde_json::Error) -> StoreError {
    StoreError::Invalid(format!("event cannot be written as JSON: {e}"))
}

/// The call without what has a column, and the columns.
fn split(call: &ModelCall) -> Result<(ModelCall, CallRow)> {
    let full = &call.completion;
    let slim = ModelCall {
        role: call.role,
        turn: call.turn,
        request: call.request.clone(),
        completion: Completion {
            stop: full.stop,
            reused: full.reused,
            remote: full.remote.clone(),
            ..Completion::default()
        },
    };
    let row = CallRow {
        prompt_ids: full.prompt_ids.iter().flat_map(|id| id.to_le_bytes()).collect(),
        completion_ids: full.completion_ids.iter().flat_map(|id| id.to_le_bytes()).collect(),
        logprobs: full.logprobs.iter().flat_map(|p| p.to_le_bytes()).collect(),
        forced: full.forced.iter().map(|f| u8::from(*f)).collect(),
        sampler: serde_json::to_string(&call.request.sampler).map_err(unwritable)?,
        template_hash: full.template_hash.clone(),
        adapter: full.adapter.clone(),
        timings: full.timings,
        text: full.text.clone(),
    };
    Ok((slim, row))
}

fn join(call: &mut ModelCall, row: CallRow) -> Result<(), String> {
    let sampler: Sampler = serde_json::from_str(&row.sampler).map_err(|e| format!("sampler: {e}"))?;
    call.request.sampler = sampler;
    call.completion = Completion {
        text: row.text,
        prompt_ids: words(&row.prompt_ids, "prompt_ids", i32::from_le_bytes)?,
        completion_ids: words(&row.completion_ids, "completion_ids", i32::from_le_bytes)?,
        logprobs: words(&row.logprobs, "logprobs", f32::from_le_bytes)?,
        forced: row.forced.iter().map(|byte| *byte != 0).collect(),
        adapter: row.adapter,
        template_hash: row.template_hash,
        timings: row.timings,
        ..std::mem::take(&mut call.completion)
    };
    Ok(())
}

fn words<T>(bytes: &[u8], name: &str, read: fn([u8; 4]) -> T) -> Result<Vec<T>, String> {
    let (words, rest) = bytes.as_chunks::<4>();
    if rest.is_empty() {
        Ok(words.iter().map(|word| read(*word)).collect())
    } else {
        Err(format!("{name} is {} bytes long, no multiple of 4", bytes.len()))
    }
}

/// Visit every string value with its JSON pointer.
fn each_string(value: &mut Value, pointer: &mut String, visit: &mut impl FnMut(&str, &mut String)) {
    let length = pointer.len();
    match value {
        Value::String(text) => visit(pointer, text),
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                pointer.push_str(&format!("/{index}"));
                each_string(item, pointer, visit);
                pointer.truncate(length);
            }
        }
        Value::Object(fields) => {
            for (key, item) in fields.iter_mut() {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                each_string(item, pointer, visit);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}
