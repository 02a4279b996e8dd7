//! What a key does: to the topmost layer, else to the tab that shows; letters where no input is; the Ctrl+C ladder.
//! Part of `app`'s update.

use crossterm::event::{KeyCode, KeyEvent};

use crate::deck::app::{App, Effect, context, quit};
use crate::deck::astray::{Asked, Kind, Verdict};
use crate::deck::command::{self, Action};
use crate::deck::keymap::{self, Place};
use crate::deck::layer::Reply;
use crate::deck::message::{DeckCommand, Level};
use crate::deck::tab::{Tab as _, TabName};

/// Whether letters are text there, whatever they are.
fn takes_text(places: &[Place]) -> bool {
    places.contains(&Place::Input) && !places.contains(&Place::Pane)
}

impl App {
    pub(super) fn key(&mut self, key: &KeyEvent, now_ms: u64) -> Vec<Effect> {
        let typed = keymap::typed(key);
        let said = self.notice.as_ref().map(|(_, text)| text.clone());
        if typed.is_none() || !self.astray.is_told(now_ms) {
            self.notice = None;
            self.astray.seen();
        }
        if !self.layers.is_empty() {
            self.astray.forget();
            return self.layer_key(key, now_ms);
        }
        // A question that something else was said over is asked no longer.
        if let Some(asked) = self.astray.asked().filter(|asked| Some(&asked.words) == said.as_ref()) {
            let same = (key.code, key.modifiers) == (asked.key.code, asked.key.modifiers);
            if same || matches!(key.code, KeyCode::Enter | KeyCode::Esc) {
                self.astray.forget();
                return if key.code == KeyCode::Esc { Vec::new() } else { self.act(asked.action, now_ms) };
            }
        }
        let places = self.tabs.current().places();
        let found = self.look.keymap.action(&places, key);
        if !matches!(found, Some(Action::Interrupt | Action::QuitIfEmpty)) {
            self.quit_armed = false;
        }
        if takes_text(&places) {
            self.astray.forget();
            return self.key_itself(key, found, now_ms);
        }
        match typed {
            Some(c) if c.is_alphanumeric() => self.letter(c, key, found, now_ms),
            Some(c) if self.astray.goes_on(c, now_ms) => Vec::new(),
            _ => {
                // Another key follows: the letter that waits was meant.
                let mut effects = self.release(now_ms);
                self.astray.forget();
                let found = self.look.keymap.action(&self.tabs.current().places(), key);
                effects.extend(self.key_itself(key, found, now_ms));
                effects
            }
        }
    }

    /// A key that is what it says: a command, else text.
    fn key_itself(&mut self, key: &KeyEvent, found: Option<Action>, now_ms: u64) -> Vec<Effect> {
        if let Some(action) = found {
            return self.act(action, now_ms);
        }
        let Some(c) = keymap::typed(key) else { return Vec::new() };
        let chat = &self.tabs.chat;
        if c == '/' && chat.composer.is_empty() && chat.inside.is_none() {
            // A command begins: its letters are not this tab's keys.
            self.tabs.shown = TabName::Chat;
        }
        if !self.tabs.current().places().contains(&Place::Input) {
            self.say_astray(c);
            return Vec::new();
        }
        let mut cx = context(now_ms, self.size, &self.session);
        self.tabs.current_mut().typed(c, &mut cx);
        let wishes = cx.wishes;
        self.grant(wishes, now_ms)
    }

    fn act(&mut self, action: Action, now_ms: u64) -> Vec<Effect> {
        self.by_key = true;
        let effects = self.perform(action, "", now_ms);
        self.by_key = false;
        effects
    }

    /// A letter or digit where it may be a key.
    fn letter(&mut self, c: char, key: &KeyEvent, found: Option<Action>, now_ms: u64) -> Vec<Effect> {
        let question = found.and_then(|action| self.tabs.current_mut().question(action));
        let kind = match found {
            None => Kind::Nothing,
            Some(action) if action.moves() => Kind::Moves,
            Some(_) if question.is_some() => Kind::Costs,
            Some(action) if action.changes() => Kind::Changes,
            Some(_) => Kind::Looks,
        };
        let verdict = self.astray.letter(c, kind, now_ms);
        if let Verdict::Sentence(text) = &verdict {
            return self.sentence(text, now_ms);
        }
        let mut effects = self.release(now_ms);
        match (verdict, found) {
            (Verdict::Act, Some(action)) => effects.extend(self.act(action, now_ms)),
            (Verdict::Hold, Some(_)) => self.astray.hold(*key),
            (Verdict::Ask, Some(action)) => {
                let known = command::of(action).map_or("", |command| command.words);
                let words = format!("{c} once more, or Enter: {}", question.as_deref().unwrap_or(known));
                self.say(&words);
                self.astray.ask(Asked { action, key: *key, words });
            }
            // A pane has the focus: what it does not take is typed.
            _ if self.tabs.current().places().contains(&Place::Input) => {
                self.astray.forget();
                effects.extend(self.key_itself(key, None, now_ms));
            }
            _ => self.say_astray(c),
        }
        effects
    }

    /// Let a letter that waits do what it means, if it still means that.
    fn release(&mut self, now_ms: u64) -> Vec<Effect> {
        self.astray.release().map(|key| self.let_act(&key, now_ms)).unwrap_or_default()
    }

    /// The same, once it has waited long enough.
    pub(super) fn overdue(&mut self, now_ms: u64) -> Option<Vec<Effect>> {
        let key = self.astray.overdue(now_ms)?;
        Some(self.let_act(&key, now_ms))
    }

    fn let_act(&mut self, key: &KeyEvent, now_ms: u64) -> Vec<Effect> {
        let places = self.tabs.current().places();
        let found = self.look.keymap.action(&places, key).filter(|action| action.changes());
        // Whatever came over it meanwhile has not been asked for by this key.
        let Some(action) = found.filter(|_| self.layers.is_empty()) else { return Vec::new() };
        self.astray.acted(command::of(action).map_or("", |command| command.words));
        self.act(action, now_ms)
    }

    /// What was typed belongs to the chat's input: it goes there, and whatever covers that goes away.
    fn sentence(&mut self, text: &str, now_ms: u64) -> Vec<Effect> {
        let from = self.tabs.shown;
        let did = self.astray.sentence(now_ms);
        self.go_to_input(from);
        let mut cx = context(now_ms, self.size, &self.session);
        text.chars().for_each(|c| self.tabs.chat.typed(c, &mut cx));
        let wishes = cx.wishes;
        let effects = self.grant(wishes, now_ms);
        let mut words = self.words_of_input(from);
        for (c, what) in did {
            words.push_str(&format!("; {c} was a key there: {what}"));
        }
        self.say(&words);
        effects
    }

    /// Show the chat with nothing over its input. What comes from elsewhere stands on a line of its own there.
    fn go_to_input(&mut self, from: TabName) {
        self.tabs.shown = TabName::Chat;
        let chat = &mut self.tabs.chat;
        chat.inside = None;
        chat.panes.clear();
        if from != TabName::Chat && !chat.composer.is_empty() {
            chat.composer.insert("\n");
        }
    }

    /// Where typed words went, and the way back.
    fn words_of_input(&self, from: TabName) -> String {
        match self.look.keymap.key_of(&[], Action::Tab(from)) {
            Some(key) if from != TabName::Chat => {
                format!("what you type stands in the chat's input; {key} leads back to {}", from.words())
            }
            _ => "what you type stands in the input".to_string(),
        }
    }

    /// Nothing here takes this: say so, and where words are taken.
    fn say_astray(&mut self, c: char) {
        let places = self.tabs.current().places();
        let key = |places: &[Place], action| self.look.keymap.key_of(places, action).unwrap_or_default();
        let input = match self.tabs.shown {
            // Inside a trajectory, over the chat.
            TabName::Chat => format!("{} leads back to the input", key(&[], Action::Escape)),
            _ => format!("{} leads to the input", key(&[], Action::Tab(TabName::Chat))),
        };
        let text = format!("{c} does nothing here: {} shows the keys, {input}", key(&places, Action::Help));
        self.notice = Some((Level::Info, text));
    }

    pub(super) fn layer_key(&mut self, key: &KeyEvent, now_ms: u64) -> Vec<Effect> {
        let page = usize::from(self.size.1 / 2);
        let Some(layer) = self.layers.last_mut() else { return Vec::new() };
        if now_ms < layer.deaf_until_ms() {
            return Vec::new();
        }
        match layer.key(key, &self.look.keymap, page) {
            Reply::PassOn => {
                self.layers.pop();
                self.key(key, now_ms)
            }
            reply => self.replied(reply, now_ms),
        }
    }

    /// What the topmost layer made of a key or a paste.
    fn replied(&mut self, reply: Reply, now_ms: u64) -> Vec<Effect> {
        if !matches!(reply, Reply::Stay | Reply::Try(..))
            && let Some((about, written)) = self.layers.pop().and_then(|layer| layer.draft())
        {
            match written.trim().is_empty() {
                true => drop(self.drafts.remove(&about)),
                false => {
                    self.say("not sent: what you wrote stands there again when you come back to it");
                    self.drafts.insert(about, written);
                }
            }
        }
        match reply {
            Reply::Stay | Reply::Close | Reply::PassOn => Vec::new(),
            Reply::Try(Action::Theme, name) => self.set_theme(&name, false),
            Reply::Try(action, argument) => self.perform_in_tab(action, &argument, now_ms),
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

    /// Text that was pasted: into what is open, into what shows, else into the chat's input.
    pub(super) fn pasted(&mut self, text: &str, now_ms: u64) -> Vec<Effect> {
        if let Some(layer) = self.layers.last_mut() {
            let reply = layer.paste(text);
            return self.replied(reply, now_ms);
        }
        if !self.tabs.current().places().contains(&Place::Input) {
            let from = self.tabs.shown;
            self.go_to_input(from);
            let words = self.words_of_input(from);
            self.say(&words);
        }
        let mut cx = context(now_ms, self.size, &self.session);
        self.tabs.current_mut().paste(text, &mut cx);
        let wishes = cx.wishes;
        self.grant(wishes, now_ms)
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
        let runs = chat.is_running();
        let lost = self.lost(false);
        let so = if lost.is_empty() { String::new() } else { format!(" though {lost} would be lost") };
        if runs {
            self.say(&format!("cancelling; Ctrl+C once more quits{so}"));
            return vec![Effect::Command(DeckCommand::Cancel)];
        }
        self.say(&format!("Ctrl+C once more quits{so}"));
        Vec::new()
    }

    /// What ends with this deck is said first, and asked about once.
    pub(super) fn quit_unless_lost(&mut self, named: bool) -> Vec<Effect> {
        let lost = self.lost(true);
        // Who names the command twice means it, though letters were typed between.
        if self.quit_armed || lost.is_empty() || (named && self.told_of_loss == lost) {
            return quit();
        }
        self.quit_armed = true;
        let again = if self.tabs.chat.composer.is_empty() { "Ctrl+D" } else { "the same command" };
        self.say(&format!("{lost} would be lost; {again} once more quits"));
        self.told_of_loss = lost;
        Vec::new()
    }

    /// What quitting now would end, in words; empty: nothing.
    fn lost(&self, query_too: bool) -> String {
        let chat = &self.tabs.chat;
        let mut lost = Vec::new();
        if query_too && chat.is_running() {
            lost.push("the running query".to_string());
        }
        match chat.queue_len() {
            0 => {}
            1 => lost.push("a queued query".to_string()),
            n => lost.push(format!("{n} queued queries")),
        }
        if self.tabs.groups.is_rolling() {
            lost.push("rollouts under way".to_string());
        }
        if self.tabs.training.is_stepping() {
            lost.push("a step under way".to_string());
        }
        if !chat.composer.value().trim().is_empty() {
            lost.push("words in the input".to_string());
        }
        lost.join(", ")
    }
}
