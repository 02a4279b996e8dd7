//! What a trajectory did and where it went wrong, in a line each: the way its turns took, and every turn that
//! came to nothing with its reason. Words only; `exchange` puts them below the answer.

use crate::flow::trajectory::{Decision, Trajectory, Turn};
use crate::text::one_line;

/// Turns that are named; of the others their number.
const NAMED: usize = 6;
/// Turns whose trouble is told; the panes have the rest.
const TOLD: usize = 3;
/// Characters of a reason.
const REASON: usize = 120;

/// `search > search > calculator, stopped: answer found`; empty where the turns are not known.
pub fn way(trajectory: &Trajectory) -> String {
    let tool = |turn: &Turn| match (&turn.plan, &turn.refused) {
        (Some(plan), _) => Some(plan.tool.clone()),
        (None, Some(_)) => Some("no plan".to_string()),
        (None, None) => None,
    };
    let tools: Vec<String> = trajectory.turns.iter().filter_map(tool).collect();
    let mut words = tools.iter().take(NAMED).cloned().collect::<Vec<_>>().join(" > ");
    if tools.len() > NAMED {
        words.push_str(&format!(" > {} more", tools.len() - NAMED));
    }
    let verdict = trajectory.turns.last().and_then(|turn| turn.verdict.as_ref());
    if let Some(verdict) = verdict.filter(|verdict| verdict.decision == Decision::Stop && !words.is_empty()) {
        words.push_str(&format!(", stopped: {}", shortened(&verdict.reason)));
    }
    words
}

/// (turn, why it came to nothing), oldest first, and how many more there were.
pub fn troubles(trajectory: &Trajectory) -> (Vec<(usize, String)>, usize) {
    let turns = &trajectory.turns;
    let found = turns.iter().enumerate().filter_map(|(at, turn)| Some((turn.turn, trouble(turns, at)?)));
    let mut found: Vec<(usize, String)> = found.collect();
    let more = found.len().saturating_sub(TOLD);
    found.truncate(TOLD);
    (found, more)
}

fn trouble(turns: &[Turn], at: usize) -> Option<String> {
    let turn = turns.get(at)?;
    if let Some((_, reason)) = &turn.refused {
        return Some(format!("no plan could be read: {}", shortened(reason)));
    }
    let command = turn.command.as_ref()?;
    let result = turn.result.as_ref()?;
    if result.fault.is_some() || result.exit.is_some_and(|exit| exit != 0) {
        return Some(format!("{} failed: {}", command.tool, shortened(&result.text)));
    }
    let same = |earlier: &&Turn| earlier.command.as_ref() == Some(command);
    let before = turns[..at].iter().find(same)?;
    Some(format!("the same call as in turn {}", before.turn))
}

fn shortened(text: &str) -> String {
    let flat = one_line(text);
    if flat.chars().count() <= REASON {
        return flat;
    }
    flat.chars().take(REASON - 2).collect::<String>() + ".."
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::flow::trajectory::{Command, Plan, Verdict};
    use crate::tools::ToolResult;

    fn turn(n: usize, tool: &str, argument: &str, exit: Option<i32>) -> Turn {
        let command = Command { tool: tool.to_string(), arguments: json!({ "q": argument }) };
        Turn {
            turn: n,
            plan: Some(Plan { tool: tool.to_string(), ..Plan::default() }),
            command: Some(command),
            result: Some(ToolResult { exit, ..ToolResult::ok("line one\nline two") }),
            ..Turn::default()
        }
    }

    #[test]
    fn the_way_names_tools_and_the_word_that_ended_it() {
        let mut turns = vec![turn(1, "search", "a", None), turn(2, "base", "b", None)];
        let stop = Verdict { decision: Decision::Stop, reason: "gave up".to_string() };
        turns[1].verdict = Some(stop);
        let trajectory = Trajectory { turns, ..Trajectory::default() };
        assert_eq!(way(&trajectory), "search > base, stopped: gave up");
        assert_eq!(troubles(&trajectory), (Vec::new(), 0));
        let many = (1..=9).map(|n| turn(n, "search", &n.to_string(), None)).collect();
        let many = Trajectory { turns: many, ..Trajectory::default() };
        assert!(way(&many).ends_with("search > 3 more"), "{}", way(&many));
        // Of an old query only the number of turns is known at first.
        let outline = Trajectory { turns: vec![Turn::default(); 3], ..Trajectory::default() };
        assert_eq!(way(&outline), "");
    }

    #[test]
    fn turns_that_came_to_nothing_say_why() {
        let mut turns = vec![
            turn(1, "python", "x", Some(1)),
            turn(2, "search", "a", None),
            turn(3, "search", "a", None),
            Turn { turn: 4, refused: Some(("?".into(), "no tool line".into())), ..Turn::default() },
        ];
        let told = troubles(&Trajectory { turns: turns.clone(), ..Trajectory::default() });
        let expected = [
            (1, "python failed: line one line two"),
            (3, "the same call as in turn 2"),
            (4, "no plan could be read: no tool line"),
        ];
        assert_eq!(told, (expected.map(|(n, words)| (n, words.to_string())).to_vec(), 0));
        turns.push(turn(5, "python", "y", Some(2)));
        assert_eq!(troubles(&Trajectory { turns, ..Trajectory::default() }).1, 1);
    }
}
