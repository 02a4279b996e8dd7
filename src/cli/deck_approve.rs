//! The deck as the person who is asked: the question goes to the screen, the key comes back as a command.

use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::deck::DeckEvent;
use crate::tools::{Approval, Approver, Consent};

/// Questions on the screen by their number; shared with whoever hears the keys.
#[derive(Clone)]
pub struct Dialogs {
    events: Sender<DeckEvent>,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<Consent>>,
}

impl Dialogs {
    pub fn new(events: Sender<DeckEvent>) -> Dialogs {
        Dialogs { events, open: Arc::default() }
    }

    /// A key was pressed in dialog `id`. One that is no longer waited for is no news.
    pub fn answered(&self, id: u64, consent: Consent) {
        let waits = self.lock().waiting.remove(&id);
        if let Some(waits) = waits {
            let _ = waits.send(consent);
        }
    }

    /// Put a question on the screen, given its number, and wait for the word on it.
    pub async fn ask(&self, question: impl FnOnce(u64) -> DeckEvent) -> Consent {
        let (reply, word) = oneshot::channel();
        let id = {
            let mut open = self.lock();
            // Questions of cancelled queries wait for nothing any more.
            open.waiting.retain(|_, waits| !waits.is_closed());
            open.next += 1;
            let id = open.next;
            open.waiting.insert(id, reply);
            id
        };
        if self.events.send(question(id)).is_err() {
            return Consent::No;
        }
        // A deck that has gone says nothing, and nothing is no.
        word.await.unwrap_or(Consent::No)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Approver for Dialogs {
    async fn approve(&self, approval: &Approval) -> Consent {
        self.ask(|id| DeckEvent::Approve { id, approval: approval.clone() }).await
    }
}
