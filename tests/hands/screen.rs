//! Hostile text through the real screen into a terminal: nothing is drawn but the deck's own cells.

use std::num::NonZero;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tillerman::deck::app::{App, Input};
use tillerman::deck::screen::Screen;
use tillerman::deck::{DeckEvent, DeckHandle, Level};
use tillerman::flow::event::{Body, Event};
use tillerman::flow::trajectory::{Command, Decision, Plan, Verdict};
use tillerman::tools::{Approval, ToolResult};

use crate::OUTWARD;
use crate::corpus::HOSTILE;

/// A program that is asked by the deck and shows what it is told.
fn deck(size: (u16, u16)) -> App {
    let (commands, _) = tokio::sync::mpsc::unbounded_channel();
    let (_, events) = std::sync::mpsc::channel();
    let mut options = tillerman::deck::demo::options(DeckHandle { commands, events });
    let theme = options.manners.themes.named("mono").unwrap();
    App::new(&mut options, theme, size)
}

/// Everything of the turn a text can stand in: plan, command, result, verdict, answer, and a question about it.
fn told_events(text: &str) -> Vec<DeckEvent> {
    let turn = 1;
    let event = |seq, body| DeckEvent::Flow(Event { trajectory: "t".into(), seq, t_ms: 1.0, body });
    let plan = Plan { context: text.into(), sub_goal: text.into(), tool: text.into() };
    let command = Command { tool: "send".into(), arguments: json!({ "text": text, "code": text }) };
    let verdict = Verdict { decision: Decision::Stop, reason: text.into() };
    let result = ToolResult { sources: vec![text.into()], ..ToolResult::ok(text) };
    let approval = Approval {
        tool: text.into(),
        arguments: json!({ "text": text }),
        effects: OUTWARD,
        sandboxed: false,
    };
    let events = tillerman::deck::demo::events("t", "q");
    vec![
        event(0, events[0].body.clone()),
        event(1, Body::TurnStarted { turn }),
        event(2, Body::Plan { turn, plan, repaired: false }),
        event(3, Body::Command { turn, command }),
        event(4, Body::ApprovalAsked { turn, approval: approval.clone() }),
        DeckEvent::Approve { id: 1, approval },
        event(5, Body::ToolResult { turn, result }),
        event(6, Body::Verdict { turn, verdict }),
        DeckEvent::Notice { level: Level::Warning, text: text.into() },
        event(
            7,
            Body::Answered {
                answer: text.into(),
                turns: 1,
                seconds: 1.0,
                tokens: 1,
                stopped_by: text.into(),
            },
        ),
    ]
}

#[test]
fn no_hostile_text_draws_outside_its_cell() {
    for size in [(40, 12), (100, 30)] {
        for (what, text) in HOSTILE {
            let mut app = deck(size);
            let written = Arc::new(Mutex::new(Vec::new()));
            let mut screen = Screen::new(Shared(written.clone()), size);
            // What the terminal was told before must be all it shows besides the deck's own cells.
            let mut terminal =
                vt100::Parser::new(NonZero::new(size.1).unwrap(), NonZero::new(size.0).unwrap(), 0);
            for event in told_events(text) {
                app.update(Input::Deck(Box::new(event)), 0);
                screen.draw(&mut app).unwrap();
                let bytes = std::mem::take(&mut *written.lock().unwrap());
                only_our_sequences(&bytes, what);
                terminal.process(&bytes);
                // The terminal shows, cell for cell, what the deck believes it shows.
                let believed = screen.buffer();
                for (y, x) in (0..size.1).flat_map(|y| (0..size.0).map(move |x| (y, x))) {
                    let cell = terminal.screen().cell(y, x).unwrap();
                    if cell.is_wide_continuation() {
                        continue;
                    }
                    let (seen, own) = (cell.contents(), believed[(x, y)].symbol());
                    assert_eq!(seen.trim_end(), own.trim_end(), "{what} at {x},{y} of {size:?}");
                }
            }
        }
    }
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Moves, colours, the cursor and the synchronized update: nothing else may follow an escape.
fn only_our_sequences(bytes: &[u8], what: &str) {
    let text = std::str::from_utf8(bytes).unwrap();
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        let plain = &rest[..at];
        assert!(!plain.chars().any(|c| c.is_control()), "{what}: {plain:?}");
        let Some(sequence) = rest[at..].strip_prefix("\u{1b}[") else {
            panic!("{what}: an escape that is no CSI in {:?}", &rest[at..]);
        };
        let end = sequence.find(|c: char| ('@'..='~').contains(&c)).unwrap();
        let (parameters, last) = (&sequence[..end], sequence.as_bytes()[end]);
        let own = match last {
            b'H' | b'C' | b'm' => parameters.chars().all(|c| c.is_ascii_digit() || c == ';' || c == ':'),
            b'h' | b'l' => ["?25", "?2026"].contains(&parameters),
            b'J' => parameters == "2",
            b'q' => parameters.ends_with(' '),
            _ => false,
        };
        assert!(own, "{what}: CSI {parameters}{}", char::from(last));
        rest = &sequence[end + 1..];
    }
    let hidden = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || c >= '\u{e0000}';
    assert!(!rest.chars().any(hidden), "{what}: {rest:?}");
}
