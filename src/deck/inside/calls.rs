//! A model call as text: how it was asked, the raw prompt, the raw completion.

use crate::deck::library::Recording;
use crate::deck::row::{Prose, Row};
use crate::deck::theme::Ink;
use crate::engine::StopReason;
use crate::flow::event::ModelCall;

/// The list beside it: one row per call.
pub fn list(recording: &Recording, selected: usize) -> Vec<Row> {
    let line = |(n, call): (usize, &ModelCall)| {
        let turn = if call.turn == 0 { "  ".to_string() } else { format!("{:>2}", call.turn) };
        let words = format!("{turn} {:<9} {:>5}", call.role.name(), call.completion.completion_ids.len());
        Row::new().say(words, if n == selected { Ink::Selected } else { Ink::Text })
    };
    recording.calls().enumerate().map(line).collect()
}

/// Everything about one call.
pub fn rows(recording: &Recording, at: usize, width: usize) -> Vec<Row> {
    let Some(call) = recording.calls().nth(at) else {
        return vec![Row::new().say("no model call is on record for this trajectory yet", Ink::Dim)];
    };
    let mut rows = facts(call, width);
    let spelled = recording.spelled.get(at).filter(|spelled| !spelled.prompt.is_empty());
    rows.push(Row::new());
    match spelled {
        Some(spelled) => {
            rows.push(Row::new().say("prompt, token for token", Ink::Heading));
            rows.extend(text(&spelled.prompt, Ink::Text, width));
        }
        None => {
            rows.push(
                Row::new().say("prompt (messages; this model's vocabulary is not at hand)", Ink::Heading),
            );
            for message in &call.request.messages {
                rows.push(Row::new().say(format!("<{}>", message.speaker.name()), Ink::Accent));
                rows.extend(text(&message.text(), Ink::Text, width));
            }
        }
    }
    rows.push(Row::new());
    rows.push(Row::new().say("completion", Ink::Heading));
    rows.extend(text(&call.completion.text, Ink::Strong, width));
    if let Some(constraint) = &call.request.constraint {
        rows.push(Row::new());
        rows.push(Row::new().say("held to", Ink::Heading));
        let (crate::engine::Constraint::JsonSchema(words) | crate::engine::Constraint::Grammar(words)) =
            constraint;
        rows.extend(text(words, Ink::Dim, width));
    }
    rows
}

/// Sampler, sizes and times, in two or three lines.
fn facts(call: &ModelCall, width: usize) -> Vec<Row> {
    let (request, completion) = (&call.request, &call.completion);
    let sampler = &request.sampler;
    let draw = if sampler.temperature > 0.0 {
        format!("temperature {}, seed {}", sampler.temperature, sampler.seed)
    } else {
        "greedy".to_string()
    };
    let stop = match completion.stop {
        Some(StopReason::EndOfTurn) => "ended by the model",
        Some(StopReason::Length) => "cut at its length",
        Some(StopReason::GrammarEnd) => "ended by the grammar",
        None => "end not on record",
    };
    let adapter = completion.adapter.as_deref().map_or("none", |hash| hash.get(..8).unwrap_or(hash));
    let timings = completion.timings;
    let lines = [
        format!("{} · turn {} · {draw} · adapter {adapter} · {stop}", call.role.name(), call.turn),
        format!(
            "prompt {} tokens ({} reused) · completion {} tokens · queue {:.1} ms · prefill {:.1} ms · decode {:.1} ms",
            completion.prompt_ids.len(),
            completion.reused,
            completion.completion_ids.len(),
            timings.queue_ms,
            timings.prefill_ms,
            timings.decode_ms
        ),
    ];
    lines.iter().flat_map(|line| Prose::of(line, Ink::Dim).wrap(width, &Row::new(), &Row::new())).collect()
}

fn text(text: &str, ink: Ink, width: usize) -> Vec<Row> {
    let lead = Row::new().say("  ", Ink::Text);
    Prose::of(text.trim_end_matches('\n'), ink).wrap(width, &lead, &lead)
}
