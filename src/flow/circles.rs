//! When a query walks in circles: the turn at hand says again what this pass has said already.
//!
//! Small and greedy models do that. The query ends before the tool runs once more, and answers with what it has.
//! Judged on the record of the pass alone, by equality; whether two commands mean the same is not asked.

use crate::flow::run::{Halt, Run};
use crate::flow::trajectory::Turn;
use crate::tools::{ToolFault, ToolResult};

/// Look at the turn being taken, once its command or its refused text is on record and before anything comes of it.
///
/// # Errors
/// The limit `repeats` is reached.
pub fn nothing_new(run: &Run<'_>) -> Result<(), Halt> {
    // What a fork took over was decided by its parent, under circumstances that may be others now.
    let taken_over = run.ask.prior.as_ref().map_or(0, |prior| prior.turns.len());
    let turns = run.trajectory.turns.get(taken_over..).unwrap_or_default();
    match circle(turns, run.flow.limits.repeats) {
        Some(what) => Err(Halt::Limit(format!("repeats ({what})"))),
        None => Ok(()),
    }
}

/// What the last of these turns says again without a hope of anything new; `most` repetitions are too many, 0: no
/// number is.
fn circle(turns: &[Turn], most: usize) -> Option<String> {
    let (now, earlier) = turns.split_last()?;
    // A different command that may have changed the world makes what follows it new.
    let since = earlier.iter().rposition(|turn| acted(turn) && !equal(turn, now)).map_or(0, |at| at + 1);
    let equals: Vec<&Turn> = earlier[since..].iter().filter(|turn| equal(turn, now)).collect();
    let last = equals.last()?;
    if most == 0 || !(fails_again(last) || equals.len() >= most) {
        return None;
    }
    let said = match &last.result {
        _ if last.refused.is_some() => "reply was no plan",
        Some(ToolResult { fault: Some(_), .. }) => "command failed",
        _ => "command was run",
    };
    Some(format!("the same {said} in turn {}", last.turn))
}

/// The same text that was no plan, or the same tool with the same arguments.
fn equal(one: &Turn, other: &Turn) -> bool {
    match (&one.refused, &other.refused) {
        (Some((one, _)), Some((other, _))) => one == other,
        (None, None) => one.command.is_some() && one.command == other.command,
        _ => false,
    }
}

fn acted(turn: &Turn) -> bool {
    turn.result.as_ref().is_some_and(|result| result.effects.acts_outward)
}

/// Whether an equal turn can only fail the same way: it never came to a call, or the call depended on nothing that
/// could be otherwise by now. A page that did not load may load.
fn fails_again(turn: &Turn) -> bool {
    let Some(result) = &turn.result else { return turn.refused.is_some() };
    match result.fault {
        Some(ToolFault::BadArguments | ToolFault::Unknown | ToolFault::Refused) => true,
        Some(ToolFault::Failed | ToolFault::Limit) => {
            !result.effects.acts_outward && !result.effects.brings_outside_text
        }
        Some(ToolFault::Cancelled) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::flow::trajectory::Command;
    use crate::tools::Effects;

    const PURE: Effects = Effects { reads_private: true, brings_outside_text: false, acts_outward: false };
    const OUTSIDE: Effects = Effects { brings_outside_text: true, ..PURE };
    const OUTWARD: Effects = Effects { acts_outward: true, ..PURE };

    fn ran(command: &str, fault: Option<ToolFault>, effects: Effects) -> Turn {
        let command = Command { tool: "t".into(), arguments: json!({ "text": command }) };
        let result = ToolResult { fault, effects, ..ToolResult::default() };
        Turn { command: Some(command), result: Some(result), ..Turn::default() }
    }

    fn no_plan(text: &str) -> Turn {
        Turn { refused: Some((text.into(), "why".into())), ..Turn::default() }
    }

    /// Numbered, and the last one as it is when it is looked at: without a result.
    fn ends(turns: &[Turn]) -> bool {
        let mut turns = turns.to_vec();
        for (n, turn) in turns.iter_mut().enumerate() {
            turn.turn = n + 1;
        }
        turns.last_mut().unwrap().result = None;
        assert_eq!(circle(&turns, 0), None, "0 is no limit");
        circle(&turns, 2).is_some()
    }

    #[test]
    fn what_can_only_fail_again_ends_at_once_and_the_rest_at_the_number() {
        use ToolFault::{BadArguments, Cancelled, Failed, Limit, Refused, Unknown};
        let (pure, outside, outward) = (PURE, OUTSIDE, OUTWARD);
        for (fault, effects, at_once) in [
            (None, pure, false),
            (None, outward, false),
            (Some(Failed), pure, true),
            (Some(Limit), pure, true),
            (Some(Failed), outside, false),
            (Some(Limit), outside, false),
            (Some(Failed), outward, false),
            (Some(Cancelled), pure, false),
            (Some(BadArguments), Effects::default(), true),
            (Some(Unknown), Effects::default(), true),
            (Some(Refused), Effects::default(), true),
        ] {
            let turn = ran("a", fault, effects);
            assert_eq!(ends(&[turn.clone(), turn.clone()]), at_once, "{fault:?} {effects:?}");
            assert!(ends(&[turn.clone(), turn.clone(), turn.clone()]), "{fault:?} {effects:?}");
            let other = ran("b", None, pure);
            assert_eq!(ends(&[turn.clone(), other.clone(), turn.clone()]), at_once);
            assert!(!ends(&[turn.clone(), other.clone()]) && !ends(&[turn]));
        }
    }

    #[test]
    fn an_act_upon_the_world_in_between_starts_anew() {
        let (test, edit) = (ran("test", Some(ToolFault::Failed), OUTWARD), ran("edit", None, OUTWARD));
        assert!(!ends(&[test.clone(), edit.clone(), test.clone(), edit.clone(), test.clone()]));
        // The command itself does not count as such an act, nor does one that was not let through.
        assert!(ends(&[edit.clone(), edit.clone(), edit]));
        let (failed, refused) =
            (ran("a", Some(ToolFault::Failed), PURE), ran("b", Some(ToolFault::Refused), Effects::default()));
        assert!(ends(&[failed.clone(), refused, failed.clone()]));
        assert!(!ends(&[failed.clone(), ran("c", None, OUTWARD), failed]));
    }

    #[test]
    fn replies_that_are_no_plan_are_compared_by_their_text() {
        assert!(ends(&[no_plan("what?"), no_plan("what?")]));
        assert!(!ends(&[no_plan("what?"), no_plan("how?"), no_plan("why?")]));
        assert!(!ends(&[no_plan("what?"), ran("a", None, PURE)]));
        assert!(!ends(&[ran("a", None, PURE), no_plan("what?")]));
    }
}
