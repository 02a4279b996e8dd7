//! A worker that ends before anybody asks anything of it.

use std::path::Path;

use super::*;

fn load() -> Load {
    Load {
        model: "gone.gguf".into(),
        adapter: None,
        context: None,
        sequences: 1,
        threads: Some(1),
        gpu_layers: None,
        chat_template: None,
    }
}

/// `false` ends at once with exit code 1 and says nothing.
async fn dead() -> Arc<Worker> {
    let worker = Worker::spawn(Path::new("false"), None).unwrap();
    worker.ended().await;
    worker
}

#[tokio::test]
async fn a_worker_that_died_before_it_was_asked_to_load_says_how() {
    let worker = dead().await;
    worker.load(load());
    assert!(!worker.busy(), "nothing is under way in a dead process");
    match worker.loaded().await {
        Err(EngineError::Died { how, phase, .. }) => {
            assert_eq!((how.as_str(), phase.as_str()), ("with exit code 1", "loading"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_to_a_dead_worker_says_how_it_died() {
    let worker = dead().await;
    let asked = worker.ask(|id| ToWorker::SetAdapter { id, path: None }, None).await;
    match asked {
        Err(EngineError::Died { how, phase, .. }) => {
            assert_eq!((how.as_str(), phase.as_str()), ("with exit code 1", "idle"));
        }
        other => panic!("{other:?}"),
    }
}
