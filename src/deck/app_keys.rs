//! What a key does: to the topmost layer, else to the tab that shows; the Ctrl+C ladder. Part of `app`'s update.

use crossterm::event::KeyEvent;

use crate::deck::app::{App, Effect, context, quit};
use crate::deck::command::Action;
use crate::deck::keymap;
use crate::deck::layer::Reply;
use crate::deck::message::DeckCommand;
use crate::deck::tab::TabName;

impl App {
    pub(super) fn key(&mut self, key: &KeyEvent, now_ms: u64) -> Vec<Effect> {
        self.notice = None;
        if !self.layers.is_empty() {
            return self.layer_key(key, now_ms);
        }
        let places = self.tabs.current().places();
        let found = self.look.keymap.action(&places, key);
        if !matches!(found, Some(Action::Interrupt | Action::QuitIfEmpty)) {
            self.quit_armed = false;
        }
        if let Some(action) = found {
            self.by_key = true;
            let effects = self.perform(action, "", now_ms);
            self.by_key = false;
            return effects;
        }
        let Some(c) = keymap::typed(key) else { return Vec::new() };
        let chat = &self.tabs.chat;
        if c == '/' && chat.composer.is_empty() && chat.inside.is_none() {
            // A command begins: its letters are not this tab's keys.
            self.tabs.shown = TabName::Chat;
        }
        let mut cx = context(now_ms, self.size, &self.session);
        self.tabs.current_mut().typed(c, &mut cx);
        let wishes = cx.wishes;
        self.grant(wishes, now_ms)
    }

    pub(super) fn layer_key(&mut self, key: &KeyEvent, now_ms: u64) -> Vec<Effect> {
        let page = usize::from(self.size.1 / 2);
        let Some(layer) = self.layers.last_mut() else { return Vec::new() };
        if now_ms < layer.deaf_until_ms() {
            return Vec::new();
        }
        let reply = layer.key(key, &self.look.keymap, page);
        if !matches!(reply, Reply::Stay | Reply::Try(..)) {
            self.layers.pop();
        }
        match reply {
            Reply::Stay | Reply::Close => Vec::new(),
            Reply::Try(Action::Theme, name) => self.set_theme(&name, false),
            Reply::Try(action, argument) => self.perform_in_tab(action, &argument, now_ms),
            Reply::PassOn => self.key(key, now_ms),
            Reply::Run(action, argument) => self.perform(action, &argument, now_ms),
            Reply::Consent { id, consent } => {
                vec![Effect::Command(DeckCommand::Approve { id, consent })]
            }
            Reply::Correct { trajectory, text } => {
                let mut cx = context(now_ms, self.size, &self.session);
                self.tabs.chat.corrected(&trajectory, &text, &mut cx);
                let wishes = cx.wishes;
                self.grant(wishes, now_ms)
            }
        }
    }

    /// Close the choices, else clear the input, else cancel the query, else quit on the second press.
    pub(super) fn interrupt(&mut self) -> Vec<Effect> {
        let chat = &mut self.tabs.chat;
        if self.tabs.shown == TabName::Chat && chat.completion.take().is_some() {
            return Vec::new();
        }
        if self.tabs.shown == TabName::Chat && !chat.composer.is_empty() {
            chat.composer.take();
            self.say("input cleared; Up brings it back");
            return Vec::new();
        }
        if self.quit_armed {
            return quit();
        }
        self.quit_armed = true;
        if chat.is_running() {
            self.say("cancelling; Ctrl+C once more quits");
            return vec![Effect::Command(DeckCommand::Cancel)];
        }
        self.say("Ctrl+C once more quits");
        Vec::new()
    }

    /// A step that runs in this deck ends with it: that is said first.
    pub(super) fn quit_unless_learning(&mut self) -> Vec<Effect> {
        if self.quit_armed || !self.tabs.training.is_stepping() {
            return quit();
        }
        self.quit_armed = true;
        self.say("a step is under way and would be lost; Ctrl+D once more quits");
        Vec::new()
    }
}
