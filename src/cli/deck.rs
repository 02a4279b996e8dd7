//! `tillerman` without a command: wires the deck to the flow, the store and the engine.
//!
//! The deck has the main thread; queries run on the runtime. Events go through the store first, then to the
//! screen, over one channel.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

use crate::deck::{
    self, DeckCommand, DeckEvent, DeckHandle, DeckOptions, LabelRequest, LabelValue as Press, Level, Past,
    StatusLine,
};
use crate::engine::{Engine, ModelInfo};
use crate::flow::event::{Body, Event, Progress, Sink};
use crate::flow::solve::{Ask, solve};
use crate::flow::trajectory::{Outcome, Trajectory};
use crate::store::{Label, LabelValue, Scope, Store, StoreSink, new_id, short};

use super::Global;
use super::setup::{self, Setup};

/// Open the deck on a new session, or on an earlier one.
pub fn run(global: &Global, session: Option<&str>) -> anyhow::Result<i32> {
    let setup = Arc::new(setup::open(global, 2)?);
    let store = Arc::new(Store::open(&setup.home)?);
    let session = match session {
        Some(piece) => store.find_session(piece)?,
        None => new_id(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (commands, received) = unbounded_channel();
    let (events, shown) = std::sync::mpsc::channel();
    let wire = Wire {
        setup: setup.clone(),
        store: store.clone(),
        events,
        seed: global.seed,
        model: Arc::default(),
        running: None,
    };
    let wired = runtime.spawn(wire.serve(received));
    let result = deck::run(DeckOptions {
        handle: DeckHandle { commands, events: shown },
        theme: theme(&setup.config.deck.theme),
        past: past(&store, &session)?,
        history: history(&store)?,
        farewell: Some(format!("this session: tillerman --session {}", short(&session))),
        session,
        first_lines: first_lines(&setup),
        status: StatusLine { busy: Some("loading the model".into()), ..StatusLine::default() },
    });
    // The deck is gone, and with it its end of the commands: the running query ends as cancelled.
    runtime.block_on(async {
        let _ = tokio::time::timeout(std::time::Duration::from_secs(3), wired).await;
    });
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    result?;
    Ok(0)
}

/// The theme the settings name; none named is the terminal's own colours.
fn theme(setting: &str) -> String {
    if setting.is_empty() { "default".into() } else { setting.into() }
}

/// What the model in use can and cannot do, said before anything is asked.
fn first_lines(setup: &Setup) -> Vec<String> {
    let tools = setup.flow.toolbox.names().join(", ");
    let mut lines = Vec::new();
    if setup.embedded {
        lines.push(
            "The embedded planner serves: a 5-million-parameter model made for this program. It can do \
             arithmetic, units and dates, the Game of 24, facts about countries, elements, planets, rivers, \
             mountains and cities (also over two or three steps), and small CSV files. It cannot chat, and \
             it is often wrong about what to try: that is what labels and training are for."
                .to_string(),
        );
        lines.push("A real model is one command away: tillerman --model FILE.gguf".to_string());
    } else {
        lines.push(format!("Serving {}.", setup.model.display()));
    }
    lines.push(format!("Tools: {tools}."));
    for refused in &setup.flow.toolbox.refused {
        lines.push(format!("Not available: {} ({}; {}).", refused.name, refused.reason, refused.remedy));
    }
    lines
}

fn past(store: &Store, session: &str) -> anyhow::Result<Vec<Past>> {
    let mut rows = store.trajectories(Some(session), 50)?;
    rows.reverse();
    let mut past = Vec::new();
    for row in rows {
        let trajectory = store.trajectory(&row.id)?;
        let labels = store.labels(&row.id)?;
        let labels = labels
            .iter()
            .filter(|label| label.cleared_ms.is_none())
            .map(|label| (shown_scope(label.scope), label.turn, press(label.value)))
            .collect();
        past.push(Past { trajectory, labels });
    }
    Ok(past)
}

/// Earlier inputs for the Up key, oldest first.
fn history(store: &Store) -> anyhow::Result<Vec<String>> {
    let rows = store.trajectories(None, 200)?;
    let mut queries: Vec<String> = rows.into_iter().map(|row| row.query).collect();
    queries.reverse();
    queries.dedup();
    Ok(queries)
}

fn shown_scope(scope: Scope) -> deck::Scope {
    match scope {
        Scope::Answer => deck::Scope::Answer,
        Scope::Plan => deck::Scope::Plan,
        Scope::Turn => deck::Scope::Turn,
    }
}

fn stored_scope(scope: deck::Scope) -> Scope {
    match scope {
        deck::Scope::Answer => Scope::Answer,
        deck::Scope::Plan => Scope::Plan,
        deck::Scope::Turn => Scope::Turn,
    }
}

fn press(value: LabelValue) -> Press {
    match value {
        LabelValue::Good => Press::Good,
        LabelValue::Bad => Press::Bad,
    }
}

/// The deck's other end.
struct Wire {
    setup: Arc<Setup>,
    store: Arc<Store>,
    events: Sender<DeckEvent>,
    seed: Option<u64>,
    model: Arc<std::sync::Mutex<ModelInfo>>,
    running: Option<(CancellationToken, tokio::task::JoinHandle<()>)>,
}

impl Wire {
    async fn serve(mut self, mut commands: UnboundedReceiver<DeckCommand>) {
        self.load();
        while let Some(command) = commands.recv().await {
            match command {
                DeckCommand::Ask { query, conversation } => self.ask(query, conversation).await,
                DeckCommand::Cancel => {
                    if let Some((cancel, _)) = &self.running {
                        cancel.cancel();
                    }
                }
                DeckCommand::Label(request) => self.label(&request),
                DeckCommand::NewConversation => self.send(DeckEvent::Conversation { session: new_id() }),
                DeckCommand::Quit => break,
            }
        }
        if let Some((cancel, query)) = self.running.take() {
            cancel.cancel();
            let _ = query.await;
        }
    }

    /// A deck that has gone hears nothing more; what is recorded stays.
    fn send(&self, event: DeckEvent) {
        let _ = self.events.send(event);
    }

    /// Load behind the first frame, and say what serves.
    fn load(&self) {
        let (setup, events, model) = (self.setup.clone(), self.events.clone(), self.model.clone());
        tokio::spawn(async move {
            match setup.engine.model().await {
                Ok(info) => {
                    let _ = events.send(DeckEvent::Status(status(&info, &setup, 0, 0.0)));
                    if let Ok(mut kept) = model.lock() {
                        *kept = info;
                    }
                }
                Err(error) => {
                    let _ = events.send(DeckEvent::Status(StatusLine::default()));
                    let text = error.to_string();
                    let _ = events.send(DeckEvent::Notice { level: Level::Error, text });
                }
            }
        });
    }

    async fn ask(&mut self, query: String, session: String) {
        // The deck sends one at a time; should two meet, the first ends first.
        if let Some((_, earlier)) = self.running.take() {
            let _ = earlier.await;
        }
        let conversation = match self.store.conversation(&session) {
            Ok(conversation) => conversation,
            Err(error) => {
                let remedy = "see `tillerman doctor`".to_string();
                return self.send(DeckEvent::Refused { reason: error.to_string(), remedy });
            }
        };
        let ask = Ask {
            id: new_id(),
            session,
            query,
            conversation,
            seed: self.seed.unwrap_or_else(setup::fresh_seed),
            prior: None,
        };
        let cancel = CancellationToken::new();
        let screen = Arc::new(Screen {
            events: self.events.clone(),
            setup: self.setup.clone(),
            model: self.model.clone(),
        });
        let sink = Arc::new(StoreSink::new(self.store.clone()).then(screen));
        let (setup, token, events) = (self.setup.clone(), cancel.clone(), self.events.clone());
        let query = tokio::spawn(async move {
            let trajectory = solve(&setup.flow, &ask, sink, token).await;
            unshown(&trajectory, &events);
        });
        self.running = Some((cancel, query));
    }

    fn label(&self, request: &LabelRequest) {
        if let Err(error) = self.store_label(request) {
            self.send(DeckEvent::Notice { level: Level::Error, text: format!("label not kept: {error}") });
            return;
        }
        self.send(DeckEvent::LabelStored {
            trajectory: request.trajectory.clone(),
            turn: request.turn,
            scope: request.scope,
            value: request.value,
            correction: request.correction.clone(),
        });
    }

    fn store_label(&self, request: &LabelRequest) -> Result<(), crate::store::StoreError> {
        let scope = stored_scope(request.scope);
        let value = match request.value {
            Press::Good => LabelValue::Good,
            Press::Bad => LabelValue::Bad,
            Press::Clear => {
                self.store.clear_labels(&request.trajectory, Some(scope), request.turn)?;
                return Ok(());
            }
        };
        let row = self.store.row(&request.trajectory)?;
        let mut shown = Vec::new();
        for id in &request.shown_set {
            shown.extend(self.store.row(id)?.canonical_answer);
        }
        let order = request.shown_set.iter().position(|id| *id == request.trajectory).unwrap_or(0);
        self.store.add_label(&Label {
            turn: request.turn,
            correction: request.correction.clone(),
            shown_set: shown,
            order,
            seconds: Some(request.seconds),
            ..Label::on(&row, scope, value)
        })?;
        Ok(())
    }
}

/// A trajectory whose last events could not be recorded was not shown either: say how it ended.
fn unshown(trajectory: &Trajectory, events: &Sender<DeckEvent>) {
    if let Outcome::Failed { reason, remedy } = &trajectory.outcome
        && reason.starts_with("the record could not be kept")
    {
        let _ = events.send(DeckEvent::Refused { reason: reason.clone(), remedy: remedy.clone() });
    }
}

/// How the reason begins when the worker's death ended a query (`EngineError::Died`).
const DIED: &str = "the engine worker died";

/// The sink behind the store: what was recorded goes to the screen.
struct Screen {
    events: Sender<DeckEvent>,
    setup: Arc<Setup>,
    model: Arc<std::sync::Mutex<ModelInfo>>,
}

impl Sink for Screen {
    fn record(&self, event: Event) -> Result<(), String> {
        if let Body::ModelCall(call) = &event.body
            && let Ok(model) = self.model.lock()
        {
            let completion = &call.completion;
            let used = completion.prompt_ids.len() + completion.completion_ids.len();
            let seconds = completion.timings.decode_ms / 1e3;
            let rate = if seconds > 0.0 { completion.completion_ids.len() as f64 / seconds } else { 0.0 };
            let _ = self.events.send(DeckEvent::Status(status(&model, &self.setup, used, rate)));
        }
        if let Body::Failed { reason, remedy } = &event.body
            && reason.starts_with(DIED)
        {
            let (reason, remedy) = (reason.clone(), remedy.clone());
            let _ = self.events.send(DeckEvent::EngineDied { reason, remedy });
        }
        let _ = self.events.send(DeckEvent::Flow(event));
        Ok(())
    }

    fn progress(&self, progress: Progress) {
        let _ = self.events.send(DeckEvent::Progress(progress));
    }
}

fn status(info: &ModelInfo, setup: &Setup, context_used: usize, tokens_per_s: f64) -> StatusLine {
    StatusLine {
        model: format!("{} {}", info.name, info.file_type.to_lowercase()),
        adapter: setup.flow.adapter.as_ref().map(|hash| hash.chars().take(8).collect()),
        devices: info.devices.clone(),
        layers_offloaded: info.layers_offloaded,
        layers: info.layers,
        context_used,
        context_total: info.context,
        tokens_per_s,
        busy: None,
    }
}
