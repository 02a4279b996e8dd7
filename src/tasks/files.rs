//! Task files: JSON lines of {id, family, query, answer, checker}, and how the bundled ones are made.
//!
//! `answer` is for readers, `checker` is what scores. Plans are not written: who answers must find them.

use std::path::Path;

use rand::SeedableRng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::regular;
use crate::tasks::generate::generate_many;
use crate::tasks::teacher::NO_ANSWER;
use crate::tasks::{Answer, Family, Split, Task, TaskRng, World, game24};

/// Seed of the bundled task files.
const SEED: u64 = 24;

#[derive(Serialize, Deserialize)]
struct Line {
    id: String,
    family: Family,
    query: String,
    answer: Value,
    checker: Answer,
}

impl Split {
    /// Questions per family in the bundled file of this split.
    pub fn questions_per_family(self) -> usize {
        match self {
            Split::Train => 120,
            Split::Gate => 40,
            Split::HeldOut => 80,
        }
    }

    /// Short sums behind these. The held-out questions are older than they and stay what they were.
    pub fn sums(self) -> usize {
        match self {
            Split::Train => 120,
            Split::Gate => 40,
            Split::HeldOut => 0,
        }
    }
}

/// The bundled questions of a split, all about the real world.
pub fn bundled(split: Split) -> Vec<Task> {
    let mut rng = TaskRng::seed_from_u64(SEED + split as u64);
    let count = split.questions_per_family();
    let mut tasks: Vec<Task> = Family::ALL
        .into_iter()
        .flat_map(|family| generate_many(family, World::real(), split, count, &mut rng))
        .collect();
    let mut rng = TaskRng::seed_from_u64(SEED + split as u64);
    tasks.extend(generate_many(Family::Sums, World::real(), split, split.sums(), &mut rng));
    tasks
}

/// `count` short sums of numbers that neither train nor judge.
pub fn sums(count: usize, seed: u64) -> Vec<Task> {
    let mut rng = TaskRng::seed_from_u64(seed);
    generate_many(Family::Sums, World::real(), Split::HeldOut, count, &mut rng)
}

/// `count` puzzles of the Game of 24 in the benchmark's wording, of number multisets that train nothing; other
/// ones than the bundled held-out questions where chance does not meet them again. Fewer where there are no more.
pub fn puzzles(count: usize, seed: u64) -> Vec<Task> {
    let mut rng = TaskRng::seed_from_u64(seed);
    let mut met = std::collections::HashSet::new();
    let mut tasks = Vec::new();
    for _ in 0..TRIES {
        if tasks.len() == count {
            break;
        }
        let Some(task) = game24::attempt(Split::HeldOut, &mut rng) else { continue };
        let Answer::Game24 { mut numbers } = task.answer.clone() else { continue };
        numbers.sort_unstable();
        if task.query.contains("You must use basic") && met.insert(numbers) {
            tasks.push(task);
        }
    }
    tasks
}

/// Draws before the puzzles are said to be all.
const TRIES: usize = 200_000;

/// The text of a task file.
pub fn write(tasks: &[Task]) -> String {
    let mut text = String::new();
    for task in tasks {
        let answer = match &task.answer {
            Answer::Number { value, .. } => json!(value),
            Answer::Text { accepted } => json!(accepted.first()),
            Answer::Game24 { numbers } => json!(format!("24 from {numbers:?}")),
            Answer::CannotAnswer => json!(NO_ANSWER),
        };
        let line = json!({
            "id": task.id, "family": task.family, "query": task.query, "answer": answer, "checker": task.answer,
        });
        text.push_str(&line.to_string());
        text.push('\n');
    }
    text
}

/// Read the text of a task file; empty lines are skipped. The tasks have no steps.
///
/// # Errors
/// Names the line that is no task.
pub fn parse(text: &str) -> Result<Vec<Task>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            let read: Line = serde_json::from_str(line).map_err(|error| {
                format!(
                    "line {}: {error}; a task is {{\"id\",\"family\",\"query\",\"answer\",\"checker\"}}",
                    at + 1
                )
            })?;
            Ok(Task {
                id: read.id,
                family: read.family,
                query: read.query,
                answer: read.checker,
                steps: Vec::new(),
                wrong: Vec::new(),
            })
        })
        .collect()
}

/// Read a task file.
///
/// # Errors
/// The file cannot be read, or a line is no task; names the file.
pub fn load(path: &Path) -> Result<Vec<Task>, String> {
    let text = regular::text(path).map_err(|e| format!("task file {}: {e}", path.display()))?;
    parse(&text).map_err(|e| format!("task file {}, {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    const FILES: [(Split, &str); 3] = [
        (Split::Train, include_str!("../../assets/tasks/train.jsonl")),
        (Split::Gate, include_str!("../../assets/tasks/gate.jsonl")),
        (Split::HeldOut, include_str!("../../assets/tasks/held_out.jsonl")),
    ];

    #[test]
    fn bundled_files_are_what_the_generators_make() {
        for (split, text) in FILES {
            assert!(
                text == write(&bundled(split)),
                "{split:?}: run cargo run --release --example make_tasks"
            );
        }
    }

    #[test]
    fn puzzles_are_new_to_training_and_to_each_other() {
        let sorted = |task: &Task| match &task.answer {
            Answer::Game24 { numbers } => {
                let mut numbers = numbers.clone();
                numbers.sort_unstable();
                numbers
            }
            other => panic!("{other:?}"),
        };
        let puzzles: HashSet<Vec<i64>> = puzzles(100, 1).iter().map(sorted).collect();
        assert_eq!(puzzles.len(), 100);
        let trained = bundled(Split::Train).into_iter().filter(|task| task.family == Family::Game24);
        assert!(trained.map(|task| sorted(&task)).all(|numbers| !puzzles.contains(&numbers)));
    }

    #[test]
    fn sums_are_new_to_what_trains_and_what_judges() {
        let bundled: HashSet<String> = [Split::Train, Split::Gate]
            .into_iter()
            .flat_map(bundled)
            .filter(|task| task.family == Family::Sums)
            .map(|task| task.steps[0].sub_goal.clone())
            .collect();
        let new = sums(100, 1);
        assert_eq!(new.len(), 100);
        assert!(bundled.len() > 100, "{}", bundled.len());
        assert!(new.iter().all(|task| !bundled.contains(&task.steps[0].sub_goal)));
    }

    #[test]
    fn every_family_has_its_questions() {
        for (split, text) in FILES {
            let mut counts: HashMap<Family, usize> = HashMap::new();
            for task in parse(text).expect("bundled file") {
                *counts.entry(task.family).or_default() += 1;
            }
            for family in Family::ALL {
                assert_eq!(
                    counts.remove(&family),
                    Some(split.questions_per_family()),
                    "{split:?} {family:?}"
                );
            }
            let sums = counts.remove(&Family::Sums).unwrap_or_default();
            assert_eq!((sums, counts.len()), (split.sums(), 0), "{split:?}");
        }
    }

    #[test]
    fn splits_share_no_question_and_no_entity() {
        let mut queries: HashMap<String, Split> = HashMap::new();
        let mut entities: HashMap<String, Split> = HashMap::new();
        let world = World::real();
        for split in Split::ALL {
            for task in bundled(split) {
                let other = queries.insert(task.query.clone(), split);
                assert!(other.is_none(), "{} is in {other:?} and {split:?}", task.query);
                for step in task.steps.iter().filter(|step| step.tool != crate::tasks::tool::BASE) {
                    // A look-up's entity, or the whole expression, conversion, table question or number set.
                    let fact = world.facts.iter().find(|fact| fact.sentence() == step.gives);
                    let entity = fact.map_or(step.sub_goal.clone(), |fact| fact.entity.clone());
                    let other = *entities.entry(entity.clone()).or_insert(split);
                    assert_eq!(other, split, "{entity} of {}", task.query);
                }
            }
        }
    }

    #[test]
    fn a_written_task_reads_back() {
        let tasks = bundled(Split::Gate);
        for (task, read) in tasks.iter().zip(parse(&write(&tasks)).expect("own text")) {
            assert_eq!((&task.id, &task.query, &task.answer), (&read.id, &read.query, &read.answer));
        }
        let error = parse("{\"id\":1}").expect_err("no task");
        assert!(error.contains("line 1"), "{error}");
        let ids: HashSet<String> = tasks.iter().map(|task| task.id.clone()).collect();
        assert_eq!(ids.len(), tasks.len());
    }
}
