//! Checksums of events and labels: a bit that turned over in memory or on a disk is told, never read as a record.
//!
//! SQLite has none of its own (a damaged page is noticed only where its structure breaks). Blobs need none: they
//! are named by their hash.

use crate::store::labels::Label;
use crate::store::record::Record;

/// The first 16 bytes of the blake3 of a row's fields, each after its length.
pub type Sum = [u8; 16];

struct Fields(blake3::Hasher);

impl Fields {
    fn new(kind: &str) -> Fields {
        let mut fields = Fields(blake3::Hasher::new());
        fields.add(kind.as_bytes());
        fields
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// Nothing and an empty text are two things.
    fn maybe(&mut self, bytes: Option<&[u8]>) {
        self.0.update(&[u8::from(bytes.is_some())]);
        self.add(bytes.unwrap_or_default());
    }

    /// SQLite keeps no sign of a zero.
    fn real(&mut self, value: f64) {
        self.add(&(value + 0.0).to_le_bytes());
    }

    fn sum(&self) -> Sum {
        let mut sum = [0; 16];
        sum.copy_from_slice(&self.0.finalize().as_bytes()[..16]);
        sum
    }
}

/// Of an event's row, its `model_calls` row and its long texts.
pub fn event(trajectory: &str, seq: i64, t_ms: f64, record: &Record) -> Sum {
    let mut fields = Fields::new("event");
    fields.add(trajectory.as_bytes());
    fields.add(&seq.to_le_bytes());
    fields.real(t_ms);
    fields.add(record.kind.as_bytes());
    fields.add(record.body.as_bytes());
    if let Some(call) = &record.call {
        for bytes in [&call.prompt_ids, &call.completion_ids, &call.logprobs, &call.forced] {
            fields.add(bytes);
        }
        for text in [&call.sampler, &call.template_hash, &call.text] {
            fields.add(text.as_bytes());
        }
        fields.maybe(call.adapter.as_deref().map(str::as_bytes));
        for ms in [call.timings.queue_ms, call.timings.prefill_ms, call.timings.decode_ms] {
            fields.real(ms);
        }
    }
    // Rows come back in the order of their key, events in that of their fields.
    let mut blobs: Vec<&(String, String)> = record.blobs.iter().collect();
    blobs.sort_by_key(|(pointer, _)| pointer);
    for (pointer, text) in blobs {
        fields.add(pointer.as_bytes());
        fields.add(text.as_bytes());
    }
    fields.sum()
}

/// Of a label as it is kept: secrets taken out, without its id and without what takes it back.
pub fn label(label: &Label) -> Sum {
    let mut fields = Fields::new("label");
    let number = |n: i64| n.to_le_bytes();
    fields.maybe(label.trajectory.as_deref().map(str::as_bytes));
    fields.add(label.question_id.as_bytes());
    fields.maybe(label.canonical_answer.as_deref().map(str::as_bytes));
    fields.add(label.scope.name().as_bytes());
    fields.maybe(label.turn.map(|turn| (turn as u64).to_le_bytes()).as_ref().map(<[u8; 8]>::as_slice));
    fields.add(label.value.name().as_bytes());
    fields.maybe(label.text.as_deref().map(str::as_bytes));
    fields.maybe(label.correction.as_deref().map(str::as_bytes));
    fields.add(label.source.name().as_bytes());
    for shown in &label.shown_set {
        fields.add(shown.as_bytes());
    }
    fields.add(&(label.order as u64).to_le_bytes());
    fields.real(label.propensity);
    fields.maybe(label.seconds.map(f64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice));
    fields.maybe(label.adapter.as_deref().map(str::as_bytes));
    fields.maybe(label.expiry_ms.map(number).as_ref().map(<[u8; 8]>::as_slice));
    fields.add(&[u8::from(label.audit)]);
    fields.maybe(label.re_ask_of.map(number).as_ref().map(<[u8; 8]>::as_slice));
    fields.add(&number(label.created_ms));
    fields.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_into_each_other() {
        let record = |kind: &str, body: &str, blobs: &[(&str, &str)]| Record {
            kind: kind.into(),
            body: body.into(),
            call: None,
            blobs: blobs.iter().map(|(p, t)| (p.to_string(), t.to_string())).collect(),
            redacted: 0,
        };
        let sum = |r: Record| event("t", 3, 1.5, &r);
        let all = [
            sum(record("ab", "c", &[])),
            sum(record("a", "bc", &[])),
            sum(record("a", "bc", &[("/x", "")])),
            sum(record("a", "bc", &[("/x", "/y")])),
            event("t", 4, 1.5, &record("a", "bc", &[])),
            event("t", 3, 1.25, &record("a", "bc", &[])),
            event("u", 3, 1.5, &record("a", "bc", &[])),
        ];
        let mut distinct = all.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), all.len());
        let swapped = record("a", "b", &[("/2", "two"), ("/1", "one")]);
        assert_eq!(sum(swapped), sum(record("a", "b", &[("/1", "one"), ("/2", "two")])));
    }
}
