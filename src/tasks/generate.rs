//! One task of a family from a world: tries the family's generator until a task of the split comes out.

use crate::tasks::{
    Family, Split, Task, TaskRng, World, arithmetic, conversion, csv, game24, knowledge, sums, unanswerable,
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
        Family::Sums => sums::attempt(split, rng),
    })
}

/// Up to `count` tasks with different queries; fewer where there are no more.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::SeedableRng;

    use super::*;
    use crate::tasks::{check, tool};
    use crate::tools::calculator::Calculator;
    use crate::tools::search::{SearchIndex, SearchTool, Source};
    use crate::tools::{ToolContext, Toolbox};

    fn tools(world: &World) -> Toolbox {
        let lines = Source::Lines { name: "knowledge".into(), text: world.lines().join("\n") };
        let index = SearchIndex::build(vec![lines]).expect("index");
        Toolbox {
            tools: vec![Arc::new(Calculator::new()), Arc::new(SearchTool::new(Arc::new(index)))],
            refused: Vec::new(),
        }
    }

    /// Run a task's steps; how many failed to bring what they should.
    async fn failures(task: &Task, tools: &Toolbox) -> Vec<String> {
        let mut failed = Vec::new();
        for step in &task.steps {
            if matches!(step.tool.as_str(), tool::BASE | tool::PYTHON) {
                continue;
            }
            let result = tools.run(&step.tool, &step.arguments, &ToolContext::default()).await;
            let last = step == task.steps.last().expect("steps");
            let right = result.fault.is_none()
                && result.text.contains(&step.gives)
                && (!last || !step.gives.is_empty() || check(&task.answer, &result.text));
            if !right {
                failed
                    .push(format!("{} -> {} {:?}: {}", task.query, step.sub_goal, task.answer, result.text));
            }
        }
        failed
    }

    #[tokio::test]
    async fn right_steps_bring_the_answer_with_the_real_tools() {
        let mut rng = TaskRng::seed_from_u64(11);
        let made_up = World::synthetic(11);
        for world in [World::real(), &made_up] {
            let tools = tools(world);
            let (mut failed, mut all) = (Vec::new(), 0);
            for family in Family::ALL {
                let splits: &[Split] = if world.real { &Split::ALL } else { &[Split::Train] };
                for &split in splits {
                    for task in generate_many(family, world, split, 60, &mut rng) {
                        all += 1;
                        failed.extend(failures(&task, &tools).await);
                    }
                }
            }
            assert!(failed.len() * 200 <= all, "{} of {all}:\n{}", failed.len(), failed.join("\n"));
        }
    }
}
