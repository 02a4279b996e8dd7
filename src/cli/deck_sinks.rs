//! What a query of the deck is told to beside the store: the screen, the status line, a disk that is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use crate::deck::{DeckEvent, StatusLine};
use crate::engine::ModelInfo;
use crate::flow::event::{Body, Cause, Event, Progress, Sink};
use crate::flow::trajectory::{Outcome, Trajectory};
use crate::store::Store;

/// A trajectory whose last events could not be recorded was not shown either: say how it ended.
pub fn unshown(trajectory: &Trajectory, events: &Sender<DeckEvent>) {
    if let Outcome::Failed { reason, remedy, cause: Cause::Record } = &trajectory.outcome {
        let _ = events.send(DeckEvent::Refused { reason: reason.clone(), remedy: remedy.clone() });
    }
}

/// The store's sink, watched for a disk that is full: said before the query that met it ends.
pub struct Roomy<S> {
    pub inner: S,
    pub store: Arc<Store>,
    pub events: Sender<DeckEvent>,
    /// What the deck was told last; a label may have met the full disk since.
    pub told: Arc<AtomicBool>,
}

impl<S: Sink> Sink for Roomy<S> {
    fn record(&self, event: Event) -> Result<(), String> {
        let recorded = self.inner.record(event);
        let full = self.store.is_full();
        if self.told.swap(full, Ordering::AcqRel) != full {
            let _ = self.events.send(DeckEvent::Full(full));
        }
        recorded
    }

    fn progress(&self, progress: Progress) {
        self.inner.progress(progress);
    }

    fn waits(&self, trajectory: &str, waits: bool) {
        self.inner.waits(trajectory, waits);
    }
}

/// The sink behind the store: what was recorded goes to the screen.
pub struct Screen {
    pub events: Sender<DeckEvent>,
    pub adapter: Option<String>,
    pub model: Arc<std::sync::Mutex<ModelInfo>>,
}

impl Sink for Screen {
    fn record(&self, event: Event) -> Result<(), String> {
        if let Body::ModelCall(call) = &event.body
            && let Ok(model) = self.model.lock()
        {
            let completion = &call.completion;
            let used = completion.context_used();
            let seconds = completion.timings.decode_ms / 1e3;
            let rate = if seconds > 0.0 { completion.sampled() as f64 / seconds } else { 0.0 };
            let _ = self.events.send(DeckEvent::Status(status(&model, self.adapter.as_deref(), used, rate)));
        }
        if let Body::Failed { reason, remedy, cause: Cause::EngineDied } = &event.body {
            let (reason, remedy) = (reason.clone(), remedy.clone());
            let _ = self.events.send(DeckEvent::EngineDied { reason, remedy });
        }
        let _ = self.events.send(DeckEvent::Flow(event));
        Ok(())
    }

    fn progress(&self, progress: Progress) {
        let _ = self.events.send(DeckEvent::Progress(progress));
    }

    fn waits(&self, _: &str, waits: bool) {
        let _ = self.events.send(DeckEvent::Waits(waits));
    }
}

pub fn status(info: &ModelInfo, adapter: Option<&str>, context_used: usize, tokens_per_s: f64) -> StatusLine {
    StatusLine {
        model: format!("{} {}", info.name, info.file_type.to_lowercase()),
        adapter: adapter.map(|hash| hash.chars().take(8).collect()),
        devices: info.devices.clone(),
        layers_offloaded: info.layers_offloaded,
        layers: info.layers,
        context_used,
        context_total: info.context,
        tokens_per_s,
        busy: None,
    }
}
