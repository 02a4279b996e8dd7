//! What the deck's other end needs to run queries: put together behind the first frame, replaced while it runs.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::deck::{DeckEvent, Level, StatusLine};
use crate::error::Error;

use super::Global;
use super::deck_servers;
use super::setup::{self, Setup};

/// The parts, or why they could not be put together.
type Made = Result<Arc<Setup>, String>;

/// Why the parts could not be put together, with the way out that the deck itself has.
fn unmade(error: &anyhow::Error) -> String {
    match error.downcast_ref::<Error>() {
        Some(Error::Engine(_)) => format!("{error:#}. Here: F5 lists the models found, Enter serves one"),
        _ => format!("{error:#}"),
    }
}

/// Engine, tools and prompts, put together behind the first frame.
#[derive(Clone)]
pub struct Parts(Arc<tokio::sync::watch::Sender<Option<Made>>>);

impl Parts {
    pub fn begin(
        global: &Global,
        runtime: &tokio::runtime::Runtime,
        events: &Sender<DeckEvent>,
        fresh: bool,
    ) -> Parts {
        let parts = Parts(Arc::new(tokio::sync::watch::Sender::new(None)));
        let (global, events, made_for) = (global.clone(), events.clone(), parts.clone());
        runtime.spawn_blocking(move || {
            let made = setup::open(&global, 2).map(Arc::new).map_err(|e| unmade(&e));
            match &made {
                Ok(setup) => drop(events.send(DeckEvent::FirstLines(first_lines(setup, fresh)))),
                Err(text) => {
                    let _ = events.send(DeckEvent::Status(StatusLine::default()));
                    drop(events.send(DeckEvent::Notice { level: Level::Error, text: text.clone() }));
                }
            }
            made_for.0.send_replace(Some(made));
        });
        parts
    }

    /// Other parts from now on: what runs keeps those it began with.
    pub fn replace(&self, setup: Arc<Setup>) {
        self.0.send_replace(Some(Ok(setup)));
    }

    /// The parts, once they are there.
    ///
    /// # Errors
    /// Why they could not be put together.
    pub async fn ready(&self) -> Result<Arc<Setup>, String> {
        let mut receiver = self.0.subscribe();
        match receiver.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(made)) => made.clone(),
            _ => Err("the program is ending".to_string()),
        }
    }
}

/// What the model in use can and cannot do, said before anything is asked.
fn first_lines(setup: &Setup, fresh: bool) -> Vec<String> {
    let tools = setup.flow.toolbox.names().join(", ");
    let mut lines: Vec<String> = setup.notice.iter().cloned().collect();
    if fresh {
        lines.push(
            "Three keys to know: Enter asks, + and - say whether an answer was good, ? shows the rest. Press Up \
             for a question to begin with."
                .to_string(),
        );
    }
    if setup.embedded {
        lines.push(
            "The embedded planner serves: a 5-million-parameter model made for this program. It knows \
             arithmetic, units and dates, the Game of 24, facts about countries, elements, planets, rivers and \
             cities, and small CSV files. It cannot chat and is often wrong about what to try: that is what \
             labels and training are for."
                .to_string(),
        );
        lines.push(
            "Another model: F5 lists those found here and some to download, with their sizes; /model FILE.gguf \
             serves a file."
                .to_string(),
        );
    } else {
        lines.push(format!("Serving {}.", setup.model.display()));
    }
    lines.push(format!("Tools: {tools}. What is kept lies in {}.", setup.home.root().display()));
    for refused in &setup.flow.toolbox.refused {
        let remedy = deck_servers::remedy(refused);
        lines.push(format!("Not available: {} ({}; {remedy}).", refused.name, refused.reason));
    }
    lines
}
