//! Questions with checkable answers: worlds of facts, task families, scorers and the scripted teacher.
//!
//! A [`Task`] is a query, its answer and the plan that finds it with this program's tools. Imitation data is
//! recorded by letting [`teacher::Teacher`] play the roles in the true loop; training and evaluation read
//! only query and answer. Nothing here runs a tool or a model.
//!
//! ```text
//! assets/knowledge/*.txt -> World::real()      \
//!                           World::synthetic() -> generate(family, world, split) -> Task -> Teacher
//! ```

pub mod arithmetic;
pub mod check;
pub mod conversion;
pub mod csv;
pub mod eval;
pub mod figures;
pub mod files;
pub mod game24;
pub mod generate;
pub mod judge;
pub mod knowledge;
pub mod loaders;
pub mod names;
mod pools;
pub mod question;
pub mod recording;
pub mod scorers;
mod slip;
pub mod stats;
mod sums;
pub mod synthetic;
pub mod teacher;
pub mod unanswerable;
mod wordings;
pub mod world;

use serde::{Deserialize, Serialize};

pub use check::check;
pub use generate::generate;
pub use teacher::{Teacher, TeacherOptions, WrongRates};
pub(crate) use wordings::Wordings;
pub use world::World;

/// The generator of random numbers of tasks: the same seed gives the same tasks on every machine.
pub type TaskRng = rand_chacha::ChaCha8Rng;

/// The tools' names, as plans say them.
pub mod tool {
    pub const BASE: &str = "base";
    pub const CALCULATOR: &str = "calculator";
    pub const PYTHON: &str = "python";
    pub const SEARCH: &str = "search";
}

/// What kind of plan a task needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    Arithmetic,
    Conversion,
    Game24,
    Lookup,
    Hop2,
    Hop3,
    LookupArithmetic,
    Csv,
    Unanswerable,
    /// Short sums as people type them.
    Sums,
}

impl Family {
    /// Those each split has. [`Family::Sums`] came later: it trains and judges at the end of those files, and the
    /// held-out questions stayed what they were.
    pub const ALL: [Family; 9] = [
        Family::Arithmetic,
        Family::Conversion,
        Family::Game24,
        Family::Lookup,
        Family::Hop2,
        Family::Hop3,
        Family::LookupArithmetic,
        Family::Csv,
        Family::Unanswerable,
    ];

    /// The name in task files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Family::Arithmetic => "arithmetic",
            Family::Conversion => "conversion",
            Family::Game24 => "game24",
            Family::Lookup => "lookup",
            Family::Hop2 => "hop2",
            Family::Hop3 => "hop3",
            Family::LookupArithmetic => "lookup_arithmetic",
            Family::Csv => "csv",
            Family::Unanswerable => "unanswerable",
            Family::Sums => "sums",
        }
    }
}

/// Which questions a task belongs to. No entity and no wording is shared between splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    Train,
    Gate,
    HeldOut,
}

impl Split {
    pub const ALL: [Split; 3] = [Split::Train, Split::Gate, Split::HeldOut];

    /// The split an entity (a name, a multiset of numbers, an expression) belongs to: 60 in 100 train,
    /// 15 gate, 25 held out, by hash, so that it never depends on order or seed.
    pub fn of(entity: &str) -> Split {
        match blake3::hash(entity.as_bytes()).as_bytes()[0] {
            0..=153 => Split::Train,
            154..=191 => Split::Gate,
            _ => Split::HeldOut,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Gate => "gate",
            Split::HeldOut => "held_out",
        }
    }
}

/// The right answer and the rule that decides whether a text gives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Answer {
    /// A number; right when it differs from `value` by at most `tolerance`.
    Number { value: f64, tolerance: f64 },
    /// A name or date; right in any of these spellings.
    Text { accepted: Vec<String> },
    /// Any expression that equals 24 with each of these numbers once.
    Game24 { numbers: Vec<i64> },
    /// No tool can answer it; right is to say so.
    CannotAnswer,
}

/// One right step of a plan, with what it brings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What earlier results this step needs, "none" if nothing.
    pub context: String,
    pub sub_goal: String,
    pub tool: String,
    pub arguments: serde_json::Value,
    /// Text the result must contain for the step to have worked; empty where any result without fault does.
    pub gives: String,
}

impl Step {
    /// A step whose arguments follow from its sub-goal by the executor's fixed rule.
    pub fn new(context: &str, sub_goal: String, tool: &str, gives: String) -> Step {
        let arguments = teacher::arguments(tool, &sub_goal);
        Step { context: context.to_string(), sub_goal, tool: tool.to_string(), arguments, gives }
    }
}

/// A question with its answer and the right plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub id: String,
    pub family: Family,
    pub query: String,
    pub answer: Answer,
    pub steps: Vec<Step>,
    /// What a plausible planner without this machine's experience might try instead.
    pub wrong: Vec<WrongStep>,
}

/// A plausible step that does not lead to the answer by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongStep {
    /// The turn of the right plan at which it may be tried instead (0 is the first).
    pub at: usize,
    pub sub_goal: String,
    pub tool: String,
}

impl Task {
    pub(crate) fn new(
        family: Family,
        query: String,
        answer: Answer,
        steps: Vec<Step>,
        wrong: Vec<WrongStep>,
    ) -> Task {
        let hash = blake3::hash(query.as_bytes()).to_hex();
        Task { id: format!("{}-{}", family.name(), &hash[..8]), family, query, answer, steps, wrong }
    }
}

/// Replace each `{name}` by its value and start the sentence with a capital.
pub(crate) fn fill(wording: &str, values: &[(&str, &str)]) -> String {
    let mut text = wording.to_string();
    for (name, value) in values {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    capital_first(&text)
}

pub(crate) fn capital_first(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_never_changes() {
        // Published figures depend on these.
        for (entity, split) in
            [("Peru", Split::Train), ("Canada", Split::HeldOut), ("boats.csv", Split::Gate)]
        {
            assert_eq!(Split::of(entity), split, "{entity}");
        }
    }
}
