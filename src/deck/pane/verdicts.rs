//! The verdict pane: what the verifier said after each turn, up to and including the selected one.

use super::{Room, prose, tail};
use crate::deck::live::Live;
use crate::deck::row::{Prose, Row};
use crate::deck::theme::Ink;
use crate::engine::Role;
use crate::flow::event::ProgressSource;
use crate::flow::trajectory::Decision;

pub fn rows(live: &Live, turn: usize, width: usize, room: Room) -> Vec<Row> {
    let mut rows = Vec::new();
    for (position, found) in live.trajectory.turns.iter().enumerate() {
        let number = if position == turn { Ink::Accent } else { Ink::Dim };
        let lead = Row::new().say(format!("{:>2} ", found.turn), number);
        let rest = Row::new().say("   ", Ink::Dim);
        if let Some(verdict) = &found.verdict {
            // Both words are seven or more columns wide so that reasons line up.
            let (word, ink) = match verdict.decision {
                Decision::Stop => ("stop     ", Ink::Good),
                Decision::Continue => ("continue ", Ink::Warning),
            };
            let reason = if position == turn { Ink::Text } else { Ink::Dim };
            rows.extend(Prose::of(word, ink).say(&verdict.reason, reason).wrap(width, &lead, &rest));
        } else if let Some(text) = live.stream(ProgressSource::Role(Role::Verifier), found.turn) {
            rows.push(lead);
            rows.extend(prose(tail(text), Ink::Dim, width, room));
        }
    }
    rows
}
