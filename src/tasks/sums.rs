//! Short sums as people type them: "What is 37*41+5?". Their numbers are kept apart by split, their wordings are not.
//!
//! Stories ask whether a plan finds the expression; these ask whether it keeps one as it stands. An adapter that
//! took `37*41+5` for `37*41-5` once passed every question that judges, because none was of this kind.

use rand::Rng;

use crate::tasks::{Answer, Family, Split, Step, Task, TaskRng, WrongStep, check, fill, names, tool};

const SHAPES: &[&str] = &[
    "{a}*{b}+{c}",
    "{a}*{b}-{c}",
    "{a}+{b}*{c}",
    "({a}+{b})*{c}",
    "{a}*{b}",
    "{a}+{b}-{c}",
    "{a}+{b}+{c}",
    "{a}-{b}",
    "{p}/{b}",
    "{p}/{b}+{c}",
];

const WORDINGS: &[&str] =
    &["What is {e}?", "What is {e}?", "How much is {e}?", "Compute {e}.", "Calculate {e}", "{e}", "{e} = ?"];

pub(crate) fn attempt(split: Split, rng: &mut TaskRng) -> Option<Task> {
    let top = names::pick(rng, &[12_i64, 50, 99, 999]);
    let (a, b, c) = (rng.random_range(2..=top), rng.random_range(2..=top.min(99)), rng.random_range(2..=top));
    // Divisions come out whole.
    let numbers = [a, b, c, a * b].map(|number| number.to_string());
    let values = [("a", &numbers[0]), ("b", &numbers[1]), ("c", &numbers[2]), ("p", &numbers[3])]
        .map(|(name, number)| (name, number.as_str()));
    let expression = fill(names::pick(rng, SHAPES), &values);
    let value = check::evaluate(&expression)?.to_f64();
    if value < 0.0 || Split::of(&expression) != split {
        return None;
    }
    let spaced = names::chance(rng, 0.3);
    let times = names::pick(rng, &["*", "*", "x"]);
    let mut shown = String::new();
    for c in expression.chars() {
        let sign = if c == '*' { times.to_string() } else { c.to_string() };
        // A bare `3x4` reads as a name; with spaces it is a product to everybody.
        match c {
            '+' | '-' | '*' | '/' if spaced || sign == "x" => shown.push_str(&format!(" {sign} ")),
            _ => shown.push_str(&sign),
        }
    }
    let query = fill(names::pick(rng, WORDINGS), &[("e", &shown)]);
    let steps = vec![Step::new("none", format!("compute {expression}"), tool::CALCULATOR, String::new())];
    let wrong = vec![WrongStep { at: 0, sub_goal: format!("find {shown}"), tool: tool::SEARCH.to_string() }];
    let answer = Answer::Number { value, tolerance: 1e-6 };
    Some(Task::new(Family::Sums, query, answer, steps, wrong))
}
