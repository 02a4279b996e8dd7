//! One task of a family from a world: tries the family's generator until a task of the split comes out.

use crate::tasks::{
    Family, Split, Task, TaskRng, World, arithmetic, conversion, csv, game24, knowledge, unanswerable,
};

/// Tries before a world is said to hold no such task.
const TRIES: usize = 5_000;

/// A task of this family and split; `None` when the world holds none (a small world without such a chain).
pub fn generate(family: Family, world: &World, split: Split, rng: &mut TaskRng) -> Option<Task> {
    (0..TRIES).find_map(|_| match family {
        Family::Arithmetic => arithmetic::attempt(world, split, rng),
        Family::Conversion => conversion::attempt(split, rng),
        Family::Game24 => game24::attempt(split, rng),
        Family::Lookup => knowledge::chain(world, split, 1, rng),
        Family::Hop2 => knowledge::chain(world, split, 2, rng),
        Family::Hop3 => knowledge::chain(world, split, 3, rng),
        Family::LookupArithmetic => knowledge::with_arithmetic(world, split, rng),
        Family::Csv => csv::attempt(world, split, rng),
        Family::Unanswerable => unanswerable::attempt(world, split, rng),
    })
}

/// Up to `count` tasks with different queries.
pub fn generate_many(
    family: Family,
    world: &World,
    split: Split,
    count: usize,
    rng: &mut TaskRng,
) -> Vec<Task> {
    let mut seen = std::collections::HashSet::new();
    let mut tasks = Vec::new();
    for _ in 0..count * 20 {
        if tasks.len() == count {
            break;
        }
        let Some(task) = generate(family, world, split, rng) else { break };
        if seen.insert(task.query.clone()) {
            tasks.push(task);
        }
    }
    tasks
}
