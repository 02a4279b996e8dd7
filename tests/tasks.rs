//! The tasks whose right step is a program, through the real python tool in its sandbox.

use std::path::PathBuf;
use std::sync::Arc;

use rand::SeedableRng;
use tillerman::tasks::generate::generate_many;
use tillerman::tasks::{Family, Split, TaskRng, World, check, world};
use tillerman::tools::python::Python;
use tillerman::tools::{ToolContext, Toolbox};

#[tokio::test]
async fn programs_print_the_answer() {
    let private = tempfile::tempdir().expect("folder");
    // Started by root, the sandbox reads as another user: a folder of its own, open to read.
    let folder = private.path().join("data");
    std::fs::create_dir(&folder).expect("data folder");
    for (name, text) in world::data_files() {
        std::fs::write(folder.join(name), text).expect("data file");
    }
    let exe = PathBuf::from(env!("CARGO_BIN_EXE_tillerman"));
    let python = match Python::new(exe, Some(folder)) {
        Ok(python) => python,
        Err(refused) => {
            // Without a sandbox there is no python tool, and these tasks cannot be asked.
            eprintln!("not tried: {}; {}", refused.reason, refused.remedy);
            return;
        }
    };
    let tools = Toolbox { tools: vec![Arc::new(python)], refused: Vec::new() };
    let mut rng = TaskRng::seed_from_u64(3);
    for (family, count) in [(Family::Csv, 25), (Family::Game24, 8)] {
        for split in Split::ALL {
            for task in generate_many(family, World::real(), split, count, &mut rng) {
                let step = &task.steps[0];
                let result = tools.run(&step.tool, &step.arguments, &ToolContext::default()).await;
                assert!(
                    result.fault.is_none() && check(&task.answer, &result.text),
                    "{} ({}): {result:?}",
                    task.query,
                    step.sub_goal
                );
            }
        }
    }
}
