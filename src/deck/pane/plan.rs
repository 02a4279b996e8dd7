//! The plan pane: what the planner chose in this turn, or what it is writing.

use super::{Keep, Page, Room, field, prose, tail};
use crate::deck::live::Live;
use crate::deck::row::Row;
use crate::deck::theme::Ink;
use crate::engine::Role;
use crate::flow::event::ProgressSource;

pub fn title(live: &Live, turn: usize) -> String {
    match live.turn(turn) {
        Some(found) => format!("plan (turn {} of {})", found.turn, live.trajectory.turns.len()),
        None => "plan".to_string(),
    }
}

pub fn page(live: &Live, turn: usize, width: usize, room: Room) -> Page {
    let mut rows = Vec::new();
    let mut keep = Keep::Start;
    if let Some(found) = live.turn(turn) {
        if let Some(plan) = &found.plan {
            rows.extend(field("sub-goal", &plan.sub_goal, Ink::Text, width, room));
            rows.extend(field("tool", &plan.tool, Ink::Tool, width, room));
            if !plan.context.trim().is_empty() {
                rows.extend(field("context", &plan.context, Ink::Text, width, room));
            }
            if found.plan_repaired {
                rows.push(Row::new().say("the reply was mended before it could be read", Ink::Dim));
            }
        } else if let Some((text, reason)) = &found.refused {
            rows.extend(field("refused", reason, Ink::Warning, width, room));
            rows.extend(prose(text, Ink::Dim, width, room));
        } else if let Some(text) = live.stream(ProgressSource::Role(Role::Planner), found.turn) {
            keep = Keep::End;
            rows.extend(prose(tail(text), Ink::Dim, width, room));
            return Page { rows, keep };
        }
    }
    if let Some(analysis) = &live.trajectory.analysis {
        if !rows.is_empty() {
            rows.push(Row::new());
        }
        rows.push(Row::new().say("analysis", Ink::Dim));
        rows.extend(prose(&analysis.text, Ink::Dim, width, room));
    } else if let Some(text) = live.stream_of(Role::Analyst) {
        keep = Keep::End;
        rows.push(Row::new().say("analysis", Ink::Dim));
        rows.extend(prose(tail(text), Ink::Dim, width, room));
    }
    Page { rows, keep }
}
