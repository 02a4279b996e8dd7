//! The deck's state and its one update function: an input in, effects out, no I/O here.
//!
//! The app owns what belongs to no single screen: which tab shows, the layers over it, leaving. Everything
//! else is the tab's or the topmost layer's.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};

use crate::deck::chat::Chat;
use crate::deck::command::{self, Action};
use crate::deck::composer::Edit;
use crate::deck::keymap::{self, Keymap};
use crate::deck::layer::help::Help;
use crate::deck::layer::{Layer, Reply};
use crate::deck::library::LibraryEvent;
use crate::deck::message::{DeckCommand, DeckEvent, DeckOptions, Level, StatusLine};
use crate::deck::tab::{Context, Look, Tab, TabName, Tabs, Wishes};
use crate::deck::theme::Theme;

/// What can happen to the deck, by where it comes from.
#[derive(Debug)]
pub enum Input {
    Key(KeyEvent),
    Paste(String),
    Resize(u16, u16),
    Deck(Box<DeckEvent>),
    /// A second has passed while a query runs.
    Tick,
    System(System),
}

/// News from the operating system.
#[derive(Debug)]
pub enum System {
    /// SIGTERM, SIGHUP or SIGINT.
    Terminate,
    Suspend,
    /// The process goes on after a stop.
    Continue,
    /// The keyboard is gone, or a thread without which the deck cannot go on; why.
    InputClosed(String),
    /// A thread of the program panicked and the deck lives on.
    Panicked(String),
}

/// What the shell around the app shall do.
#[derive(Debug, PartialEq)]
pub enum Effect {
    Command(DeckCommand),
    Copy(String),
    Redraw,
    Suspend,
    Quit,
}

pub struct App {
    pub tabs: Tabs,
    /// Topmost last.
    pub layers: Vec<Box<dyn Layer>>,
    pub look: Look,
    pub status: StatusLine,
    /// What the last key or event has to say, on the bottom line until the next key.
    pub notice: Option<(Level, String)>,
    /// Columns, rows.
    pub size: (u16, u16),
    session: String,
    /// Ctrl+C was the last key: once more quits.
    quit_armed: bool,
}

impl App {
    /// `options` without its handle, which the loop keeps.
    pub fn new(options: &mut DeckOptions, theme: Theme, size: (u16, u16)) -> App {
        let past = std::mem::take(&mut options.past);
        let history = std::mem::take(&mut options.history);
        let mut tabs = Tabs::new(Chat::new(&options.first_lines, past, history));
        if let Some((recording, speed)) = options.replay.take() {
            tabs.replay.play(recording, speed);
            tabs.shown = TabName::Replay;
        }
        App {
            tabs,
            layers: Vec::new(),
            look: Look { theme, keymap: Keymap::default() },
            status: options.status.clone(),
            notice: None,
            size,
            session: options.session.clone(),
            quit_armed: false,
        }
    }

    /// `now_ms` is any clock that only goes forward.
    pub fn update(&mut self, input: Input, now_ms: u64) -> Vec<Effect> {
        self.tabs.all_mut().into_iter().for_each(|tab| tab.tick(now_ms));
        match input {
            Input::Key(key) => self.key(&key, now_ms),
            Input::Paste(text) => {
                match self.layers.last_mut() {
                    Some(layer) => layer.paste(&text),
                    None => self.tabs.current_mut().paste(&text),
                }
                Vec::new()
            }
            Input::Resize(columns, rows) => {
                self.size = (columns, rows);
                Vec::new()
            }
            Input::Deck(event) => self.deck_event(*event, now_ms),
            Input::Tick => Vec::new(),
            Input::System(system) => self.system(system),
        }
    }

    /// How long until something changes though nothing comes in; None: never.
    pub fn wait(&self) -> Option<Duration> {
        self.tabs.current().wait()
    }

    fn system(&mut self, system: System) -> Vec<Effect> {
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

    fn deck_event(&mut self, event: DeckEvent, now_ms: u64) -> Vec<Effect> {
        if matches!(&event, DeckEvent::Flow(event) if event.body.is_last()) {
            // "cancelling" is over.
            self.notice = self.notice.take().filter(|(level, _)| *level == Level::Error);
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
        let mut cx = context(now_ms, self.size, &self.session);
        self.tabs.all_mut().into_iter().for_each(|tab| tab.event(&event, &mut cx));
        let wishes = cx.wishes;
        if let DeckEvent::Status(status) = event {
            self.status = status;
        }
        self.grant(wishes)
    }

    fn key(&mut self, key: &KeyEvent, now_ms: u64) -> Vec<Effect> {
        self.notice = None;
        if !self.layers.is_empty() {
            return self.layer_key(key, now_ms);
        }
        let places = self.tabs.current().places();
        let found = self.look.keymap.action(&places, key);
        if found != Some(Action::Interrupt) {
            self.quit_armed = false;
        }
        if let Some(action) = found {
            return self.perform(action, "", now_ms);
        }
        let Some(c) = keymap::typed(key) else { return Vec::new() };
        let mut cx = context(now_ms, self.size, &self.session);
        self.tabs.current_mut().typed(c, &mut cx);
        let wishes = cx.wishes;
        self.grant(wishes)
    }

    /// Do what a key or a name asked for: what concerns the deck as a whole here, the rest in the tab.
    fn perform(&mut self, action: Action, argument: &str, now_ms: u64) -> Vec<Effect> {
        match action {
            Action::Interrupt => return self.interrupt(),
            Action::QuitIfEmpty if self.tabs.shown != TabName::Chat || self.tabs.chat.composer.is_empty() => {
                return quit();
            }
            Action::QuitIfEmpty => self.tabs.chat.composer.edit(Edit::Delete),
            Action::Quit => return quit(),
            Action::Suspend => return vec![Effect::Suspend],
            Action::Redraw => return vec![Effect::Redraw],
            Action::Help => self.layers.push(Box::new(Help::default())),
            Action::Tab(name) => return self.show(name, now_ms),
            Action::NextTab => return self.show(self.tabs.shown.step(true), now_ms),
            Action::PreviousTab => return self.show(self.tabs.shown.step(false), now_ms),
            _ => return self.perform_in_tab(action, argument, now_ms),
        }
        Vec::new()
    }

    fn show(&mut self, name: TabName, now_ms: u64) -> Vec<Effect> {
        self.tabs.shown = name;
        let mut cx = context(now_ms, self.size, &self.session);
        self.tabs.current_mut().shown(&mut cx);
        let wishes = cx.wishes;
        self.grant(wishes)
    }

    fn perform_in_tab(&mut self, action: Action, argument: &str, now_ms: u64) -> Vec<Effect> {
        let mut cx = context(now_ms, self.size, &self.session);
        if !self.tabs.current_mut().perform(action, argument, &mut cx) && self.tabs.shown != TabName::Chat {
            if action == Action::Escape {
                self.tabs.shown = TabName::Chat;
            } else if command::of(action).is_some_and(|command| command.named) {
                // A command of the chat, given elsewhere by its name.
                self.tabs.shown = TabName::Chat;
                self.tabs.chat.perform(action, argument, &mut cx);
            }
        }
        let wishes = cx.wishes;
        self.grant(wishes)
    }

    fn grant(&mut self, wishes: Wishes) -> Vec<Effect> {
        if wishes.notice.is_some() {
            self.notice = wishes.notice;
        }
        self.layers.extend(wishes.layers);
        self.tabs.shown = wishes.tab.unwrap_or(self.tabs.shown);
        wishes.effects
    }

    /// Clear the input, else cancel the query, else quit on the second press.
    fn interrupt(&mut self) -> Vec<Effect> {
        let chat = &mut self.tabs.chat;
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

    fn layer_key(&mut self, key: &KeyEvent, now_ms: u64) -> Vec<Effect> {
        let page = usize::from(self.size.1 / 2);
        let Some(layer) = self.layers.last_mut() else { return Vec::new() };
        let reply = layer.key(key, &self.look.keymap, page);
        if reply != Reply::Stay {
            self.layers.pop();
        }
        match reply {
            Reply::Stay | Reply::Close => Vec::new(),
            Reply::PassOn => self.key(key, now_ms),
            Reply::Run(action, argument) => self.perform(action, &argument, now_ms),
            Reply::Correct { trajectory, text } => {
                let mut cx = context(now_ms, self.size, &self.session);
                self.tabs.chat.corrected(&trajectory, &text, &mut cx);
                let wishes = cx.wishes;
                self.grant(wishes)
            }
        }
    }

    fn say(&mut self, text: &str) {
        self.notice = Some((Level::Info, text.to_string()));
    }
}

fn context(now_ms: u64, size: (u16, u16), session: &str) -> Context<'_> {
    Context { now_ms, size, session, wishes: Wishes::default() }
}

fn quit() -> Vec<Effect> {
    vec![Effect::Command(DeckCommand::Quit), Effect::Quit]
}

/// A key press, for tests and scripts.
pub fn press(code: KeyCode) -> Input {
    Input::Key(KeyEvent::from(code))
}
