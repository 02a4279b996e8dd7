//! `tillerman` without a command: wires the deck to the flow, the store and the engine.
//!
//! The deck has the main thread; queries run on the runtime. Events go through the store first, then to the
//! screen, over one channel.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Home};
use crate::deck::library::{LibraryCommand, LibraryEvent, Recording};
use crate::deck::study::{After, StudyCommand};
use crate::deck::{
    self, DeckCommand, DeckEvent, DeckHandle, DeckOptions, LabelRequest, LabelValue as Press, Level,
    StatusLine,
};
use crate::engine::ModelInfo;
use crate::flow::solve::{Ask, Flow, solve};
use crate::store::{Label, LabelValue, Scope, Store, StoreSink, new_id, short};
use crate::tools::Approvals;
use crate::train::rollout::Question;

use super::Global;
use super::deck_approve::Dialogs;
use super::deck_parts::Parts;
use super::deck_sinks::{Roomy, Screen, status, unshown};
use super::library::{self, Fork, Library};
use super::setup;
use super::study::Study;
use super::{deck_files, deck_servers, deck_turn};

/// What the deck opens on.
pub enum Start {
    /// A new session, or an earlier one by a piece of its id.
    Chat(Option<String>),
    /// A trajectory on the replay tab, at so many times its speed; the list behind it is that of the evaluation it
    /// is named with.
    Replay { recording: Box<Recording>, speed: f64, evaluation: Option<String> },
}

/// Open the deck. Its first frame waits for settings and the store only: engine, tools and the rest come
/// up behind it.
pub fn run(global: &Global, start: Start) -> anyhow::Result<i32> {
    let (home, config) = setup::home_and_config(global)?;
    let store = Arc::new(Store::open(&home)?);
    let settings = global.config.clone().unwrap_or_else(|| home.config_file());
    deck_files::first_settings(&settings);
    let manners = deck_files::manners(&home, &config.deck)?;
    let (session, replay, evaluation) = match start {
        Start::Chat(Some(piece)) => (store.find_session(&piece)?, None, None),
        Start::Chat(None) => (new_id(), None, None),
        Start::Replay { recording, speed, evaluation } => (new_id(), Some((*recording, speed)), evaluation),
    };
    store.can_go_on(&session)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (commands, received) = unbounded_channel();
    let (events, shown) = std::sync::mpsc::channel();
    let past = library::past(&store, &session)?;
    let (history, fresh) = history(&store)?;
    let parts = Parts::begin(global, &runtime, &events, fresh);
    let told_full = Arc::new(AtomicBool::new(store.is_full()));
    if told_full.load(Ordering::Acquire) {
        let _ = events.send(DeckEvent::Full(true));
    }
    let dialogs = Dialogs::new(events.clone());
    let person = Arc::new(dialogs.clone());
    let model = Arc::default();
    let wire = Wire {
        approvals: Arc::new(Approvals::new(global.approve.into(), Some(person))),
        dialogs,
        study: Study::new(global, store.clone(), parts.clone(), events.clone(), Arc::clone(&model)),
        parts,
        library: Library::new(store.clone())
            .of_evaluation(evaluation)
            .with_mode(config.train.mode)
            .with_file(replay.as_ref().map(|(recording, _)| recording)),
        store: store.clone(),
        events,
        seed: global.seed,
        settings,
        model,
        turn: Arc::default(),
        told_full,
        running: VecDeque::new(),
    };
    let newest = past.last().map(|past| past.trajectory.id.clone());
    let wired = runtime.spawn(wire.serve(received, newest));
    let result = deck::run(DeckOptions {
        handle: DeckHandle { commands, events: shown },
        theme: theme(&config.deck.theme),
        manners,
        past,
        history,
        session,
        root: root(global, &home, &config),
        first_lines: Vec::new(),
        status: StatusLine { busy: Some("loading the model".into()), ..StatusLine::default() },
        replay,
    });
    // The deck is gone, and with it its end of the commands: the running query ends as cancelled.
    runtime.block_on(async {
        let _ = tokio::time::timeout(std::time::Duration::from_secs(3), wired).await;
    });
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    let session = result?;
    // Of a session in which nothing was kept there is nothing to come back to.
    if !store.trajectories(Some(&session), 1)?.is_empty() {
        // Nobody may be there to read it.
        let _ = writeln!(std::io::stdout(), "{}", crate::text::safe(&farewell(global, &session)));
    }
    Ok(0)
}

/// How to come back to the session one was in last, in this data directory.
fn farewell(global: &Global, session: &str) -> String {
    // What stands in the environment stands there the next time, too.
    let home = global
        .home
        .as_ref()
        .filter(|home| std::env::var_os("TILLERMAN_HOME").as_deref() != Some(home.as_os_str()));
    let home = home.map_or_else(String::new, |home| format!("--home {} ", home.display()));
    format!("this session: tillerman {home}--session {}", short(session))
}

/// Where the tools open files by their names: the workspace, else the folder python reads.
fn root(global: &Global, home: &Home, config: &Config) -> Option<PathBuf> {
    // One that cannot be the workspace is told of where the tools are put together.
    let workspace = setup::workspace(global, home, config).ok().flatten().map(|workspace| workspace.path);
    let data = Some(&config.tools.data).filter(|data| !data.as_os_str().is_empty());
    workspace.or_else(|| data.or(global.folder.first()).cloned())
}

/// The theme the settings name; none named is the terminal's own colours.
fn theme(setting: &str) -> String {
    if setting.is_empty() { "default".into() } else { setting.into() }
}

/// What the Up key brings at the first start, the first of them last.
const EXAMPLES: [&str; 3] = [
    "Which date is 8 days after 1969-10-14?",
    "What is 37*41+5?",
    "What is the currency of the country whose capital is Lima?",
];

/// Earlier inputs for the Up key, oldest first; examples where there are none, and whether that is so.
fn history(store: &Store) -> anyhow::Result<(Vec<String>, bool)> {
    let rows = store.asked(200)?;
    let mut queries: Vec<String> = rows.into_iter().map(|row| row.query).collect();
    queries.reverse();
    queries.dedup();
    let fresh = queries.is_empty();
    if fresh {
        queries.extend(EXAMPLES.map(String::from));
    }
    Ok((queries, fresh))
}

fn stored_scope(scope: deck::Scope) -> Scope {
    match scope {
        deck::Scope::Answer => Scope::Answer,
        deck::Scope::Plan => Scope::Plan,
        deck::Scope::Turn => Scope::Turn,
    }
}

/// A query under way.
struct Running {
    cancel: CancellationToken,
    /// It has said its last; what is left of its task is nothing to be cancelled.
    over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

/// The deck's other end.
struct Wire {
    parts: Parts,
    store: Arc<Store>,
    library: Library,
    study: Study,
    events: Sender<DeckEvent>,
    seed: Option<u64>,
    /// The settings file, where there is to be one.
    settings: std::path::PathBuf,
    model: Arc<std::sync::Mutex<ModelInfo>>,
    /// Queries under way, the one that runs first: one asked right behind a fork waits for it.
    running: VecDeque<Running>,
    /// Whether the deck was told last that the disk of the record is full.
    told_full: Arc<AtomicBool>,
    /// Held by the query that runs.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Questions about calls, as they stand on the screen.
    dialogs: Dialogs,
    approvals: Arc<Approvals>,
}

impl Wire {
    /// `newest` is the trajectory the panes show first, still in outline.
    async fn serve(mut self, mut commands: UnboundedReceiver<DeckCommand>, newest: Option<String>) {
        self.load();
        if let Some(trajectory) = newest {
            self.library(LibraryCommand::Open { trajectory }).await;
        }
        while let Some(command) = commands.recv().await {
            match command {
                DeckCommand::Ask { query, conversation } => self.ask(query, conversation).await,
                DeckCommand::Cancel => {
                    self.ended();
                    if let Some(first) = self.running.front() {
                        first.cancel.cancel();
                    }
                }
                DeckCommand::Approve { id, consent } => self.dialogs.answered(id, consent),
                DeckCommand::Label(request) => self.label(&request),
                DeckCommand::Expires { trajectory, after } => self.expires(&trajectory, &after),
                DeckCommand::Remember { key, value } => self.remember(key, &value),
                DeckCommand::NewConversation => self.send(DeckEvent::Conversation { session: new_id() }),
                DeckCommand::Library(command) => self.library(command).await,
                DeckCommand::Study(StudyCommand::RollGroup {
                    query,
                    size,
                    after: After::Session(session),
                }) => {
                    // What was rewound is no session's record yet.
                    match self.library.conversation(&session) {
                        Ok((conversation, taint)) => {
                            let question = Question { taint, ..Question::new(&query, conversation) };
                            self.study.roll_out(question, size);
                        }
                        Err(error) => self.trouble("rollouts", &error),
                    }
                }
                DeckCommand::Study(command) => self.study.serve(command),
                DeckCommand::Doctor => self.doctor(),
                DeckCommand::ApproveServer { name } => self.approve_server(name),
                DeckCommand::Quit => break,
            }
        }
        self.running.iter().for_each(|query| query.cancel.cancel());
        for query in self.running {
            let _ = query.task.await;
        }
    }

    /// Let go of the queries that have ended.
    fn ended(&mut self) {
        self.running.retain(|query| !query.over.load(Ordering::Acquire) && !query.task.is_finished());
    }

    /// A deck that has gone hears nothing more; what is recorded stays.
    fn send(&self, event: DeckEvent) {
        let _ = self.events.send(event);
    }

    fn trouble(&self, what: &str, why: &dyn std::fmt::Display) {
        self.send(DeckEvent::Notice { level: Level::Error, text: format!("{what}: {why}") });
    }

    /// Load behind the first frame, and say what serves.
    fn load(&self) {
        let (parts, events, model) = (self.parts.clone(), self.events.clone(), self.model.clone());
        tokio::spawn(async move {
            // What keeps the parts from being put together was told where it happened.
            let Ok(setup) = parts.ready().await else { return };
            match setup.flow.engine.model().await {
                Ok(info) => {
                    let _ =
                        events.send(DeckEvent::Status(status(&info, setup.flow.adapter.as_deref(), 0, 0.0)));
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

    async fn library(&mut self, command: LibraryCommand) {
        if let Ok(model) = self.model.lock()
            && !model.hash.is_empty()
        {
            self.library.serves(model.clone());
        }
        let library = &mut self.library;
        let answers = match command {
            LibraryCommand::List => library.list().map(|event| vec![event]),
            LibraryCommand::Find { text } => library.find(&text).map(|event| vec![event]),
            LibraryCommand::Unfold { session } => library.unfold(&session).map(|event| vec![event]),
            LibraryCommand::Open { trajectory } => {
                library.open(&trajectory).map(|found| vec![LibraryEvent::Opened(Box::new(found))])
            }
            LibraryCommand::Resume { session } => library.resume(&session).map(|event| vec![event]),
            LibraryCommand::Rename { session, title } => {
                library.rename(&session, &title).map(|event| vec![event])
            }
            LibraryCommand::Delete { session } => library.delete(&session),
            LibraryCommand::Undelete => library.undelete().map(|event| event.into_iter().collect()),
            LibraryCommand::Rewind { trajectory } => library.rewind(&trajectory).map(|event| vec![event]),
            LibraryCommand::Fork { trajectory, .. } if library.is_only_in_a_file(&trajectory) => {
                return self.trouble("no fork", &library::ONLY_IN_A_FILE);
            }
            LibraryCommand::Fork { trajectory, turns } => match library.fork(&trajectory, turns) {
                Ok(fork) => return self.fork(fork).await,
                Err(error) => Err(error),
            },
        };
        match answers {
            Ok(answers) => answers.into_iter().for_each(|event| self.send(DeckEvent::Library(event))),
            Err(error) => self.trouble("the record", &error),
        }
    }

    async fn fork(&mut self, fork: Fork) {
        self.ended();
        if !self.running.is_empty() {
            let text = "a query runs; cancel it first, then fork".to_string();
            return self.send(DeckEvent::Notice { level: Level::Warning, text });
        }
        let Fork { session, query, conversation, prior } = fork;
        let forked = LibraryEvent::Forked { session: session.clone(), query: query.clone() };
        self.send(DeckEvent::Library(forked));
        let ask = Ask { session, query, conversation, prior: Some(prior), ..Ask::default() };
        self.solve(ask);
    }

    async fn ask(&mut self, query: String, session: String) {
        match self.library.conversation(&session) {
            Ok((conversation, taint)) => {
                self.solve(Ask { session, query, conversation, taint, ..Ask::default() });
            }
            Err(error) => {
                let remedy = "see `tillerman doctor`".to_string();
                self.send(DeckEvent::Refused { reason: error.to_string(), remedy });
            }
        }
    }

    /// Begin a pass; id and seed are given here. Nothing is waited for: a cancel must always be read.
    fn solve(&mut self, ask: Ask) {
        self.ended();
        // The deck sends one at a time; should two meet, the first ends first.
        let turn = Arc::clone(&self.turn);
        // Taken here where it is free: of two tasks that begin together either may come first.
        let held = Arc::clone(&self.turn).try_lock_owned().ok();
        let ask = Ask { id: new_id(), seed: self.seed.unwrap_or_else(setup::fresh_seed), ..ask };
        let cancel = CancellationToken::new();
        let (parts, token, events) = (self.parts.clone(), cancel.clone(), self.events.clone());
        let (store, model, study) = (self.store.clone(), self.model.clone(), self.study.clone());
        let (approvals, told) = (self.approvals.clone(), self.told_full.clone());
        let over = Arc::new(AtomicBool::new(false));
        let said = Arc::clone(&over);
        let task = tokio::spawn(async move {
            let turn = async {
                match held {
                    Some(held) => held,
                    None => turn.lock_owned().await,
                }
            };
            let free = |setup: Arc<setup::Setup>| {
                let (waits, ended) = (events.clone(), events.clone());
                async move {
                    drop(setup.flow.engine.cores(&|| drop(waits.send(DeckEvent::Waits(true)))).await);
                    let _ = ended.send(DeckEvent::Waits(false));
                }
            };
            let begun = deck_turn::admitted(&token, turn, || parts.ready(), free, &study.engine).await;
            let (_turn, setup, _planning) = match begun {
                Ok(begun) => begun,
                Err(reason) => {
                    return drop(events.send(DeckEvent::Refused { reason, remedy: String::new() }));
                }
            };
            // Rollouts of a study keep asking nobody; the conversation has a person in it.
            let flow = Flow { approvals, ..study.flow(&setup).asked() };
            let adapter = flow.adapter.clone();
            let screen = Arc::new(Screen { events: events.clone(), adapter, model });
            let inner = StoreSink::new(store.clone()).then(screen);
            let sink = Arc::new(Roomy { inner, store, events: events.clone(), told });
            let trajectory = solve(&flow, &ask, sink, token).await;
            said.store(true, Ordering::Release);
            unshown(&trajectory, &events);
            if let Some(text) = deck_servers::changed(&setup, &trajectory) {
                let _ = events.send(DeckEvent::Notice { level: Level::Warning, text });
            }
        });
        self.running.push_back(Running { cancel, over, task });
    }

    /// Check everything beside the loop: some of it takes seconds.
    fn doctor(&self) {
        let (parts, global, events) = (self.parts.clone(), self.study.global.clone(), self.events.clone());
        tokio::spawn(async move {
            let found = super::doctor::checks(&global, parts.ready().await.ok()).await;
            let line = |check: super::doctor::Check| deck::CheckLine {
                name: check.name.to_string(),
                ok: check.ok,
                text: check.text,
                remedy: check.remedy,
            };
            let _ = events.send(DeckEvent::Checks(found.into_iter().map(line).collect()));
        });
    }

    /// Look at an MCP server and ask about it beside the loop: it is a program that takes its time to start.
    fn approve_server(&self, name: String) {
        let (parts, global, events) = (self.parts.clone(), self.study.global.clone(), self.events.clone());
        let dialogs = self.dialogs.clone();
        tokio::spawn(async move {
            let (level, text) = match deck_servers::approve(&global, &parts, &dialogs, name).await {
                Ok(text) => (Level::Info, text),
                Err(error) => (Level::Warning, format!("{error:#}")),
            };
            let _ = events.send(DeckEvent::Notice { level, text });
        });
    }

    /// Keep a setting of the deck for the next start.
    fn remember(&self, key: &str, value: &str) {
        if let Err(error) = crate::config::set(&self.settings, "deck", key, value) {
            self.send(DeckEvent::Notice {
                level: Level::Warning,
                text: format!("setting not kept: {error}"),
            });
        }
    }

    fn label(&self, request: &LabelRequest) {
        if self.library.is_only_in_a_file(&request.trajectory) {
            return self.trouble("no label", &library::ONLY_IN_A_FILE);
        }
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

    /// Let the label on an answer hold for a time.
    fn expires(&self, trajectory: &str, after: &str) {
        let word = self.store.word_on_answer(trajectory).map_err(crate::error::Error::from);
        let held = word.and_then(|label| match label {
            Some(label) => super::study::labels::hold_until(&self.store, label, after),
            None => Err(crate::error::Error::Usage("label the answer first: + or -".to_string())),
        });
        let (level, text) = match held {
            Ok(Some(at)) => {
                let at = super::sessions::when(at);
                (Level::Info, format!("the label holds until {at}; then the question is open again"))
            }
            Ok(None) => (Level::Info, "the label holds for good".to_string()),
            Err(error) => (Level::Warning, format!("the label holds as before: {error}")),
        };
        self.send(DeckEvent::Notice { level, text });
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
