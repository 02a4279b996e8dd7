//! A pass waits while a training step has the machine's cores: in sight, cancelled at once, and without a call meanwhile.

use std::path::PathBuf;

use async_trait::async_trait;
use tillerman::config::Home;
use tillerman::engine::cores::{Cores, Share};
use tillerman::engine::{Completion, ModelInfo, OnPiece};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;

/// The script as a model of this machine.
struct Local {
    script: ScriptedEngine,
    cores: Cores,
}

#[async_trait]
impl Engine for Local {
    async fn model(&self) -> Result<ModelInfo, EngineError> {
        self.script.model().await
    }

    async fn complete(
        &self,
        request: Request,
        on_piece: Option<OnPiece>,
        cancel: CancellationToken,
    ) -> Result<Completion, EngineError> {
        self.script.complete(request, on_piece, cancel).await
    }

    async fn set_adapter(&self, path: Option<PathBuf>) -> Result<Option<String>, EngineError> {
        self.script.set_adapter(path).await
    }

    async fn score(&self, ids: Vec<i32>, adapter: bool) -> Result<Vec<f32>, EngineError> {
        self.script.score(ids, adapter).await
    }

    async fn cores(&self, waits: &(dyn Fn() + Send + Sync)) -> Share {
        self.cores.share(waits).await
    }
}

/// Says when it waits and when not.
struct Told(UnboundedSender<bool>, Collect);

impl Sink for Told {
    fn record(&self, event: Event) -> Result<(), String> {
        self.1.record(event)
    }

    fn waits(&self, trajectory: &str, waits: bool) {
        assert_eq!(trajectory, "t");
        self.0.send(waits).unwrap();
    }
}

struct Begun {
    pass: tokio::task::JoinHandle<Trajectory>,
    sink: Arc<Told>,
    told: UnboundedReceiver<bool>,
    cancel: CancellationToken,
}

fn begin(cores: &Cores) -> Begun {
    let script = ScriptedEngine::new(|request: &Request| Ok(say(request.role)));
    let flow = flow(Local { script, cores: cores.clone() });
    let (sender, told) = unbounded_channel();
    let sink = Arc::new(Told(sender, Collect::default()));
    let (cancel, shown) = (CancellationToken::new(), sink.clone());
    let token = cancel.clone();
    let pass = tokio::spawn(async move { solve(&flow, &ask("What is 6*7?"), shown, token).await });
    Begun { pass, sink, told, cancel }
}

fn machine() -> (tempfile::TempDir, Cores) {
    let folder = tempfile::tempdir().unwrap();
    let cores = Cores::of(&Home::open(Some(folder.path())).unwrap());
    (folder, cores)
}

#[tokio::test]
async fn nothing_is_sampled_while_a_step_computes_and_a_step_waits_for_the_pass() {
    let (_folder, cores) = machine();
    let step = cores.alone(&|| ()).await;
    let mut begun = begin(&cores);
    assert_eq!(begun.told.recv().await, Some(true));
    // What was asked is on record; nothing was sampled.
    assert!(matches!(begun.sink.1.events().as_slice(), [Event { body: Body::Started { .. }, .. }]));
    drop(step);
    assert_eq!(begun.told.recv().await, Some(false));
    let trajectory = begun.pass.await.unwrap();
    assert_eq!(trajectory.outcome, Outcome::Answered);
    // The wait is not the pass's time: its clock goes on from where it stood.
    let times: Vec<f64> = begun.sink.1.events().iter().map(|event| event.t_ms).collect();
    assert!(times.windows(2).all(|two| two[0] <= two[1]), "{times:?}");
    let _step = cores.alone(&|| panic!("the pass has ended")).await;
}

#[tokio::test]
async fn a_wait_is_cancelled_at_once() {
    let (_folder, cores) = machine();
    let _step = cores.alone(&|| ()).await;
    let mut begun = begin(&cores);
    assert_eq!(begun.told.recv().await, Some(true));
    begun.cancel.cancel();
    assert_eq!(begun.pass.await.unwrap().outcome, Outcome::Cancelled);
}
