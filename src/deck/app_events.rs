//! What comes in from the session beside the deck and from the system: who hears of it, and what it asks for.
//! Part of `app`'s update.

use crate::deck::app::{App, Effect, RUNS_FIRST, System, context, quit};
use crate::deck::layer::approve::Approve;
use crate::deck::library::LibraryEvent;
use crate::deck::message::{DeckEvent, Level};
use crate::deck::tab::TabName;

impl App {
    pub(super) fn system(&mut self, system: System) -> Vec<Effect> {
        match system {
            System::Terminate | System::InputClosed(_) => return quit(),
            System::Suspend => return vec![Effect::Suspend],
            System::Continue => return vec![Effect::Redraw],
            System::Panicked(text) => {
                self.tabs.chat.notice(Level::Error, format!("a part of the program crashed: {text}"));
            }
        }
        Vec::new()
    }

    pub(super) fn deck_event(&mut self, event: DeckEvent, now_ms: u64) -> Vec<Effect> {
        if matches!(&event, DeckEvent::Flow(event) if event.body.is_last()) {
            // "cancelling" is over.
            self.notice = self.notice.take().filter(|(level, _)| *level == Level::Error);
            self.layers.retain(|layer| !layer.ends_with_query());
        }
        match &event {
            DeckEvent::Approve { id, approval } => {
                self.layers.push(Box::new(Approve::call(*id, approval, now_ms)));
            }
            DeckEvent::Server { id, name, lines } => {
                self.layers.push(Box::new(Approve::server(*id, name, lines, now_ms)));
            }
            _ => {}
        }
        let begins_again =
            matches!(event, DeckEvent::Library(LibraryEvent::Resumed { .. } | LibraryEvent::Rewound { .. }));
        if begins_again && self.tabs.chat.is_running() {
            // Asked after the key was pressed and before its answer came: the running query keeps its place.
            self.notice = Some((Level::Warning, RUNS_FIRST.to_string()));
            return Vec::new();
        }
        if let DeckEvent::Conversation { session }
        | DeckEvent::Library(
            LibraryEvent::Resumed { session, .. }
            | LibraryEvent::Forked { session, .. }
            | LibraryEvent::Rewound { session, .. },
        ) = &event
        {
            self.session.clone_from(session);
        }
        self.layers.iter_mut().for_each(|layer| layer.event(&event));
        let mut cx = context(now_ms, self.size, &self.session);
        self.tabs.all_mut().into_iter().for_each(|tab| tab.event(&event, &mut cx));
        let wishes = cx.wishes;
        let mut effects = self.grant(wishes, now_ms);
        effects.extend(self.notification(&event));
        match event {
            DeckEvent::Status(status) => self.status = status,
            // It stands in the conversation, which does not show here.
            DeckEvent::Notice { level, text } if self.tabs.shown != TabName::Chat => {
                self.notice = Some((level, text));
            }
            // The chat tells it in the query's own place, which does not show here.
            DeckEvent::EngineDied { reason, .. } if self.tabs.shown != TabName::Chat => {
                self.notice = Some((Level::Error, reason));
            }
            _ => {}
        }
        effects
    }
}
