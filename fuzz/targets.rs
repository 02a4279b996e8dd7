//! What is fuzzed: one function per reader of foreign bytes. Each takes any bytes at all and must come back; what
//! it accepts must hold what the reader promises. Called by the targets of cargo-fuzz and by `tests/fuzz.rs`.

use std::io::BufReader;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use tillerman::cli::export;
use tillerman::engine::wire::{self, FromWorker, ToWorker};
use tillerman::flow::event::Event;
use tillerman::flow::planner::Reply;
use tillerman::flow::trajectory::Trajectory;
use tillerman::flow::{executor, memory, planner, verifier};
use tillerman::gguf::pieces::Pieces;
use tillerman::gguf::{check_reader, memory_needed};
use tillerman::text::{SafeText, safe};
use tillerman::tools::calculator::Calculator;
use tillerman::tools::{Toolbox, schema};

/// Size claimed for a GGUF of which the input is the header: room for the tensors it describes.
const CLAIMED: u64 = 1 << 26;

static TOOLBOX: LazyLock<Toolbox> =
    LazyLock::new(|| Toolbox { tools: vec![Arc::new(Calculator::new())], refused: Vec::new() });

/// A GGUF header: refused, or everything asked of it later has an answer.
pub fn gguf(data: &[u8]) {
    let Ok(header) = check_reader(data, CLAIMED.max(data.len() as u64)) else { return };
    assert!((1..=512).contains(&header.blocks()), "{} blocks", header.blocks());
    assert_eq!(header.heads().len() as u64, header.blocks());
    assert_eq!(header.heads_kv().len() as u64, header.blocks());
    assert!(header.vocabulary() > 0 && header.data_offset <= header.file_bytes);
    for tensor in &header.tensors {
        let end = header.data_offset.checked_add(tensor.offset).and_then(|at| at.checked_add(tensor.bytes));
        assert!(end.is_some_and(|end| end <= header.file_bytes), "{} lies outside", tensor.name);
    }
    let _ = memory_needed(&header, header.context_train, 4);
    let ids: Vec<i32> = (-1..64).collect();
    assert_eq!(Pieces::of(&header).texts(&ids).len(), ids.len());
    let _ = (header.special_token("bos"), header.special_token("eos"), header.chat_template());
}

/// Text for the screen: no control but newline and tab, nothing that turns the direction, and clean stays clean.
pub fn safe_text(data: &[u8]) {
    let clean = SafeText::from_bytes(data);
    for c in clean.as_str().chars() {
        assert!(!c.is_control() || matches!(c, '\n' | '\t'), "{c:?} came through");
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}');
        let hidden = matches!(c, '\u{e0000}'..='\u{e007f}' | '\u{feff}' | '\u{2028}' | '\u{2029}');
        assert!(!turns && !hidden, "{c:?} came through");
    }
    assert_eq!(safe(clean.as_str()), clean.as_str(), "cleaning twice changes something");
}

/// A planner's text: a plan whose tool is there and whose sub-goal says something, or a reason.
pub fn plan(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match planner::read(&text, &TOOLBOX) {
        Reply::Plan { plan, .. } => {
            assert!(TOOLBOX.get(&plan.tool).is_some() && !plan.sub_goal.is_empty(), "{plan:?}");
            // What is written in the asked form is read again.
            let again = planner::read(&planner::write(&plan), &TOOLBOX);
            assert!(matches!(again, Reply::Plan { .. }), "{plan:?} became {again:?}");
        }
        Reply::Refused { reason, text: kept, .. } => {
            assert!(!reason.is_empty() && kept == text, "{reason:?}");
        }
    }
}

/// An executor's and a verifier's text, and the cut of a result.
pub fn command(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let arguments = executor::read(&text);
    if let Err(reason) = schema::check(&TOOLBOX.tools[0].card().schema, &arguments) {
        assert!(!reason.is_empty());
    }
    let verdict = verifier::read(&text);
    let again = verifier::read(&verifier::write(&verdict, true));
    assert_eq!(again, verdict);
    for most in [0, 1, 7, 100] {
        let (kept, gone) = memory::cut(&text, most);
        assert!(gone <= text.chars().count() && (gone > 0 || kept == text), "{most}: {gone} {kept:?}");
    }
}

/// Frames of the engine's pipe, read until they end: what is read is written the same way again.
pub fn frames(data: &[u8]) {
    let (mut stream, mut buffer) = (data, Vec::new());
    while let Ok(Some(message)) = wire::read::<FromWorker>(&mut stream, &mut buffer) {
        same(&message);
    }
    let mut stream = data;
    while let Ok(Some(message)) = wire::read::<ToWorker>(&mut stream, &mut buffer) {
        same(&message);
    }
}

/// Written, read and written: equal bytes. (The messages themselves are not compared: they may hold NaN.)
fn same<T: serde::Serialize + serde::de::DeserializeOwned>(message: &T) {
    let (mut first, mut second, mut buffer) = (Vec::new(), Vec::new(), Vec::new());
    if wire::encode(message, &mut first).is_ok() {
        let again = wire::read::<T>(&mut first.as_slice(), &mut buffer).ok().flatten();
        let again = again.unwrap_or_else(|| panic!("a frame we wrote cannot be read"));
        let encoded = wire::encode(&again, &mut second);
        assert!(encoded.is_ok() && first == second, "a frame changed on its way");
    }
}

/// A file to import: refused by its line, or events whose fold and whose lines hold together.
pub fn import(data: &[u8]) {
    let Ok(groups) = export::read(&mut BufReader::new(data), Path::new("input")) else { return };
    for events in groups.values() {
        let trajectory = Trajectory::from_events(events);
        assert!(events.is_sorted_by_key(|event| event.seq));
        let _ = trajectory.turns.len();
        for event in events {
            let Ok(line) = serde_json::to_string(event) else { continue };
            let again: Result<Event, _> = serde_json::from_str(&line);
            let again = again.unwrap_or_else(|e| panic!("an event we wrote cannot be read: {e}: {line}"));
            assert_eq!(again, *event);
        }
    }
}
