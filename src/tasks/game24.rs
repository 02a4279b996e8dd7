//! The Game of 24 in the benchmark's wording: four numbers, one expression that equals 24.

use rand::Rng;

use crate::tasks::check::{Rational, evaluate};
use crate::tasks::{Answer, Family, Split, Step, Task, TaskRng, Wordings, WrongStep, fill, names, tool};

/// The benchmark's own wording is asked in every split; the others differ by split.
pub const BENCHMARK: &str = "Using the numbers [{n}], create an expression that equals 24. You must use basic \
    arithmetic operations (+, -, x, /) and parentheses. For example, one solution for [1, 2, 3, 4] is (1+2+3)x4.";

const ASK: Wordings = Wordings {
    train: &[
        "[Make|Form|Get|Build] 24 from the numbers {n}.",
        "Use {n} and +, -, x, / to [make|get|reach] 24.",
        "Which expression of {n} [equals|gives|is] 24?",
        "Game of 24: {n}.",
        "[Find|Give me|Write] an expression with {n} that gives 24.",
        "Write 24 with the numbers {n}, each used once.",
        "Using the numbers {n}, create an expression that equals 24.",
        "[Can|How do|How would] you [make|get|reach] 24 from {n}?",
        "[The numbers|The cards] are {n}. [How do I get|Make|Reach] 24[?|.]",
    ],
    gate: &["Create 24 from the numbers [{n}].", "Find an expression that equals 24 using {n}."],
    held_out: &[
        "With the numbers [{n}], create an expression that equals 24.",
        "Use the numbers {n} to make 24.",
    ],
};

#[cfg(test)]
pub(crate) fn wordings() -> Vec<&'static Wordings> {
    vec![&ASK]
}

/// A multiset of the split with a solution, as a task. Half of the queries are the benchmark's.
pub(crate) fn attempt(split: Split, rng: &mut TaskRng) -> Option<Task> {
    let numbers: Vec<i64> = (0..4).map(|_| rng.random_range(1..=13)).collect();
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    if Split::of(&format!("24 from {sorted:?}")) != split || !solvable(&numbers) {
        return None;
    }
    let list = numbers.iter().map(i64::to_string).collect::<Vec<_>>();
    let wording = if names::chance(rng, 0.5) { BENCHMARK.to_string() } else { ASK.pick(split, rng) };
    let query = fill(&wording, &[("n", &list.join(", "))]);
    let step = Step::new("none", format!("make 24 from {}", list.join(" ")), tool::PYTHON, String::new());
    let mut wrong = Vec::new();
    for _ in 0..2 {
        let guess = guess(&numbers, rng);
        if evaluate(&guess) != Some(Rational::from(24)) {
            let sub_goal = format!("compute {guess}");
            wrong.push(WrongStep { at: 0, sub_goal, tool: tool::CALCULATOR.to_string() });
        }
    }
    Some(Task::new(Family::Game24, query, Answer::Game24 { numbers }, vec![step], wrong))
}

/// An expression as someone would try first; almost never 24.
fn guess(numbers: &[i64], rng: &mut TaskRng) -> String {
    let mut text = format!("({}", numbers[0]);
    for (place, number) in numbers[1..].iter().enumerate() {
        text.push(names::pick(rng, &['+', '-', '*']));
        text.push_str(&number.to_string());
        if place == 0 {
            text.push(')');
        }
    }
    text
}

/// The program for "make 24 from A B C D": tries every order, sign and bracketing, prints the first hit.
pub(crate) fn program(sub_goal: &str) -> Option<String> {
    let numbers: Vec<&str> = sub_goal.strip_prefix("make 24 from ")?.split(' ').collect();
    Some(format!(
        r#"import itertools as t
for a,b,c,d in t.permutations([{}]):
 for x,y,z in t.product("+-*/",repeat=3):
  for e in f"(({{a}}{{x}}{{b}}){{y}}{{c}}){{z}}{{d}}",f"({{a}}{{x}}{{b}}){{y}}({{c}}{{z}}{{d}})",f"{{a}}{{x}}({{b}}{{y}}({{c}}{{z}}{{d}}))",f"({{a}}{{x}}({{b}}{{y}}{{c}})){{z}}{{d}}":
   try:
    if abs(eval(e)-24)<1e-9:print(e);raise SystemExit
   except ZeroDivisionError:0
"#,
        numbers.join(",")
    ))
}

/// Is there any expression of all numbers that equals 24? Exact.
pub fn solvable(numbers: &[i64]) -> bool {
    fn reach(values: &[Rational]) -> bool {
        if let [only] = values {
            return *only == Rational::from(24);
        }
        for i in 0..values.len() {
            for j in (0..values.len()).filter(|&j| j != i) {
                let rest = values.iter().enumerate().filter(|(k, _)| *k != i && *k != j).map(|(_, v)| *v);
                let rest: Vec<Rational> = rest.collect();
                let (a, b) = (values[i], values[j]);
                for combined in [a.plus(b), a.minus(b), a.times(b), a.over(b)].into_iter().flatten() {
                    let mut next = rest.clone();
                    next.push(combined);
                    if reach(&next) {
                        return true;
                    }
                }
            }
        }
        false
    }
    reach(&numbers.iter().map(|&n| Rational::from(n)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_can_be_solved() {
        for (numbers, expected) in [
            ([1, 2, 3, 4], true),
            ([3, 3, 8, 8], true),
            ([1, 5, 5, 5], true),
            ([1, 1, 1, 1], false),
            ([1, 1, 1, 8], true),
            ([13, 13, 13, 13], false),
        ] {
            assert_eq!(solvable(&numbers), expected, "{numbers:?}");
        }
    }
}
