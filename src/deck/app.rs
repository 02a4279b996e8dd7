//! The deck's state and its one update function: an input in, effects out, no I/O here.
//!
//! The app owns what belongs to no single screen: which tab shows, the layers over it, leaving. Everything
//! else is the tab's or the topmost layer's.

use std::collections::HashMap;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};

use crate::deck::astray::Astray;
use crate::deck::chat::Chat;
use crate::deck::command::{self, Action};
use crate::deck::completion::Files;
use crate::deck::composer::Edit;
use crate::deck::layer::Layer;
use crate::deck::layer::doctor::Doctor;
use crate::deck::layer::find::Find;
use crate::deck::layer::help::Help;
use crate::deck::layer::picker::{Item, Picker};
use crate::deck::manners::{Manners, Notify};
use crate::deck::message::{DeckCommand, DeckEvent, DeckOptions, Level, StatusLine};
use crate::deck::selection::Selection;
use crate::deck::study::StudyCommand;
use crate::deck::tab::{Context, Look, Tab, TabName, Tabs, Wishes};
use crate::deck::theme::Theme;
use crate::flow::event::{Body, Event};

/// Why no other conversation can be gone to now.
pub(super) const RUNS_FIRST: &str =
    "a query runs in the chat (F1): let it end, or cancel it there with Esc, then press it again";

/// Rows one notch of the mouse wheel scrolls.
const WHEEL_ROWS: usize = 3;

/// What can happen to the deck, by where it comes from.
#[derive(Debug)]
pub enum Input {
    Key(KeyEvent),
    Paste(String),
    Resize(u16, u16),
    Deck(Box<DeckEvent>),
    /// The terminal has the person's eyes, or no longer.
    Focus(bool),
    /// The mouse wheel, true is down.
    Wheel(bool),
    /// Column and row of a mouse press.
    Click(u16, u16),
    /// The mouse moved with its button down, and the button went up.
    Drag(u16, u16),
    Drop,
    /// What a folder holds.
    Files(Files),
    /// The input as the editor left it.
    Edited(String),
    /// The inks of some code are known now.
    Inked,
    /// Something done beside the loop has this to say.
    Said(Level, String),
    /// The time that the tab which shows waits for has passed.
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
    /// Tell a person who looks elsewhere.
    Notify(Notify, String),
    /// Take mouse events or leave them to the terminal.
    Mouse(bool),
    /// Answered by `Input::Files`.
    ListFiles(String),
    /// Answered by `Input::Said`.
    Export {
        path: String,
        /// The person named no file: where this one is there already, another is found beside it.
        own_name: bool,
        text: String,
    },
    /// Answered by `Input::Edited` or `Input::Said`.
    Edit(String),
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
    /// What was written in dialogs that closed without being sent, by what they were about.
    pub(super) drafts: HashMap<String, String>,
    /// What the mouse marks; gone with the next key.
    pub selection: Option<Selection>,
    /// What the last key or event has to say, on the bottom line until the next key.
    pub notice: Option<(Level, String)>,
    /// Columns, rows.
    pub size: (u16, u16),
    pub(super) session: String,
    manners: Held,
    /// Ctrl+C was the last key: once more quits.
    pub(super) quit_armed: bool,
    /// What would be lost, as it was said when quitting was asked for last.
    pub(super) told_of_loss: String,
    /// What is done now was asked by a key, not by name.
    pub(super) by_key: bool,
    /// Letters typed where no input is.
    pub(super) astray: Astray,
    /// The clock at the last input.
    now_ms: u64,
}

/// What of the settings the app itself acts on.
struct Held {
    mouse: bool,
    reduced_motion: bool,
    notify: Notify,
    focused: bool,
    /// Name of the theme the settings hold.
    theme: String,
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
        let Manners { mouse, reduced_motion, notify, keymap, themes } = std::mem::take(&mut options.manners);
        let manners = Held { mouse, reduced_motion, notify, focused: true, theme: theme.name.clone() };
        App {
            tabs,
            layers: Vec::new(),
            look: Look { theme, themes, keymap },
            status: options.status.clone(),
            drafts: HashMap::new(),
            selection: None,
            notice: None,
            size,
            session: options.session.clone(),
            manners,
            quit_armed: false,
            told_of_loss: String::new(),
            by_key: false,
            astray: Astray::default(),
            now_ms: 0,
        }
    }

    /// `now_ms` is any clock that only goes forward.
    pub fn update(&mut self, input: Input, now_ms: u64) -> Vec<Effect> {
        self.now_ms = now_ms;
        self.tabs.all_mut().into_iter().for_each(|tab| tab.tick(now_ms));
        let Some(mut effects) = self.overdue(now_ms) else { return self.take(input, now_ms) };
        // The tick was for the letter that waited.
        if !matches!(input, Input::Tick) {
            effects.extend(self.take(input, now_ms));
        }
        effects
    }

    fn take(&mut self, input: Input, now_ms: u64) -> Vec<Effect> {
        match input {
            Input::Key(key) => {
                self.selection = None;
                self.key(&key, now_ms)
            }
            Input::Paste(text) => self.pasted(&text, now_ms),
            Input::Deck(event) => self.deck_event(*event, now_ms),
            Input::System(system) => self.system(system),
            Input::Wheel(down) => self.wheel(down, now_ms),
            Input::Tick => {
                let mut cx = context(now_ms, self.size, &self.session);
                self.tabs.current_mut().due(&mut cx);
                let wishes = cx.wishes;
                self.grant(wishes, now_ms)
            }
            Input::Edited(text) => self.perform(Action::Recall, &text, now_ms),
            other => {
                self.note(other);
                Vec::new()
            }
        }
    }

    /// What the mouse let go of, once what it marked is drawn: to be copied, once.
    pub fn dropped(&mut self) -> Option<String> {
        let selection = self.selection.as_mut().filter(|selection| selection.is_dropped())?;
        let text = selection.take();
        match &text {
            Some(text) => {
                let count = text.chars().count();
                self.say(&format!("{count} characters sent to the terminal's clipboard"));
            }
            None => self.selection = None,
        }
        text
    }

    /// Inputs that ask for nothing.
    fn note(&mut self, input: Input) {
        match input {
            Input::Resize(columns, rows) => self.size = (columns, rows),
            Input::Focus(focused) => self.manners.focused = focused,
            Input::Click(column, row) => {
                self.selection = Some(Selection::at(column, row));
                if self.layers.is_empty() {
                    self.tabs.current_mut().click(column, row);
                }
            }
            Input::Drop => self.selection.iter_mut().for_each(Selection::let_go),
            Input::Drag(column, row) => {
                self.selection.iter_mut().for_each(|selection| selection.drag(column, row));
            }
            Input::Files(files) => self.tabs.all_mut().into_iter().for_each(|tab| tab.files(files.clone())),
            Input::Inked => self.tabs.chat.transcript.forget_rows(),
            Input::Said(level, text) => self.notice = Some((level, text)),
            _ => {}
        }
    }

    fn wheel(&mut self, down: bool, now_ms: u64) -> Vec<Effect> {
        if !self.layers.is_empty() {
            let code = if down { KeyCode::Down } else { KeyCode::Up };
            return self.layer_key(&KeyEvent::from(code), now_ms);
        }
        let action = if down { Action::ScrollDown } else { Action::ScrollUp };
        (0..WHEEL_ROWS).flat_map(|_| self.perform_in_tab(action, "", now_ms)).collect()
    }

    #[cfg(test)]
    pub fn letter_waits(&self) -> bool {
        self.astray.wait(self.now_ms).is_some()
    }

    #[cfg(test)]
    pub fn set_notify(&mut self, notify: Notify) {
        self.manners.notify = notify;
    }

    /// How long until something changes though nothing comes in; None: never.
    pub fn wait(&self) -> Option<Duration> {
        // The chat only counts seconds; what plays elsewhere was asked to.
        let still = self.manners.reduced_motion && self.tabs.shown == TabName::Chat;
        let tab = self.tabs.current().wait().filter(|_| !still);
        let letter = self.astray.wait(self.now_ms).map(Duration::from_millis);
        tab.into_iter().chain(letter).min()
    }

    /// Word of a query's end for a person who looks elsewhere, if the settings want that.
    pub(super) fn notification(&self, event: &DeckEvent) -> Option<Effect> {
        let words = match event {
            DeckEvent::Approve { .. } => "a call waits for your word",
            DeckEvent::Server { .. } => "a server waits for your word",
            DeckEvent::Flow(Event { body: Body::Answered { .. }, .. }) => "answered",
            DeckEvent::Flow(Event { body: Body::Failed { .. }, .. }) => "the query failed",
            _ => return None,
        };
        let wanted = !self.manners.focused && self.manners.notify != Notify::Off;
        wanted.then(|| Effect::Notify(self.manners.notify, format!("tillerman: {words}")))
    }

    /// Do what a key or a name asked for: what concerns the deck as a whole here, the rest in the tab.
    pub(super) fn perform(&mut self, action: Action, argument: &str, now_ms: u64) -> Vec<Effect> {
        match action {
            Action::Interrupt => return self.interrupt(),
            Action::QuitIfEmpty if self.tabs.chat.composer.is_empty() => return self.quit_unless_lost(false),
            Action::QuitIfEmpty if self.tabs.shown == TabName::Chat => {
                self.tabs.chat.composer.edit(Edit::Delete);
            }
            Action::QuitIfEmpty => {
                self.say("words wait in the input (F1): send or clear them first, or Ctrl+C twice quits");
            }
            Action::Quit => return self.quit_unless_lost(true),
            Action::Resume | Action::Rewind | Action::Fork
                if self.tabs.shown == TabName::Replay && self.tabs.chat.is_running() =>
            {
                self.notice = Some((Level::Warning, RUNS_FIRST.to_string()));
            }
            Action::Suspend => return vec![Effect::Suspend],
            Action::Redraw => return vec![Effect::Redraw],
            Action::Help => self.layers.push(Box::new(Help::on(self.tabs.shown))),
            Action::Palette => {
                let places = self.tabs.current().places();
                self.layers.push(Box::new(Picker::palette(&self.look.keymap, &places)));
            }
            Action::Find => {
                self.tabs.shown = TabName::Chat;
                self.tabs.chat.inside = None;
                self.layers.push(Box::new(Find::of(argument)));
                if !argument.is_empty() {
                    return self.perform_in_tab(action, argument, now_ms);
                }
            }
            Action::Open if !argument.is_empty() => {
                let mut cx = context(now_ms, self.size, &self.session);
                self.tabs.replay.look_into(argument, self.tabs.shown, &mut cx);
                let wishes = cx.wishes;
                return self.grant(wishes, now_ms);
            }
            Action::Doctor => {
                self.layers.push(Box::new(Doctor::default()));
                return vec![Effect::Command(DeckCommand::Doctor)];
            }
            Action::Approve => {
                self.say("starting the server to look at it");
                let name = argument.to_string();
                return vec![Effect::Command(DeckCommand::ApproveServer { name })];
            }
            Action::Model if argument.is_empty() => return self.show(TabName::Models, now_ms),
            Action::Model => {
                self.say("reading the file; queries wait until it serves");
                let path = argument.to_string();
                return vec![Effect::Command(DeckCommand::Study(StudyCommand::UseModel { path }))];
            }
            Action::Theme if argument.is_empty() => self.choose_theme(),
            Action::Theme => return self.set_theme(argument, true),
            Action::Mouse => {
                self.manners.mouse = !self.manners.mouse;
                self.say(if self.manners.mouse {
                    "the wheel scrolls, clicks choose, dragging copies; with Shift the terminal selects; F12 gives the mouse back"
                } else {
                    "the mouse is the terminal's again"
                });
                return vec![Effect::Mouse(self.manners.mouse)];
            }
            Action::Tab(name) => {
                if name == TabName::Groups {
                    self.tabs.groups.want(argument);
                }
                return self.show(name, now_ms);
            }
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
        self.grant(wishes, now_ms)
    }

    pub(super) fn perform_in_tab(&mut self, action: Action, argument: &str, now_ms: u64) -> Vec<Effect> {
        let mut cx = context(now_ms, self.size, &self.session);
        if !self.tabs.current_mut().perform(action, argument, &mut cx) && self.tabs.shown != TabName::Chat {
            if action == Action::Escape {
                self.tabs.shown = TabName::Chat;
            } else if self.by_key && (action.judges() || matches!(action, Action::Fork | Action::Rewind)) {
                // A key pressed here does not mean an answer that does not show; who names the command does.
                cx.say("nothing is selected here that this could be about; F1 shows the conversation");
            } else if command::of(action).is_some_and(|command| command.named) {
                // A command of the chat, given elsewhere by its name.
                self.tabs.shown = TabName::Chat;
                self.tabs.chat.perform(action, argument, &mut cx);
            }
        }
        let wishes = cx.wishes;
        self.grant(wishes, now_ms)
    }

    pub(super) fn grant(&mut self, wishes: Wishes, now_ms: u64) -> Vec<Effect> {
        if wishes.notice.is_some() {
            self.notice = wishes.notice;
        }
        for mut layer in wishes.layers {
            if let Some(written) = layer.draft().and_then(|(about, _)| self.drafts.get(&about)) {
                layer.recall(written);
            }
            self.layers.push(layer);
        }
        self.tabs.shown = wishes.tab.unwrap_or(self.tabs.shown);
        let mut effects = wishes.effects;
        if let Some((action, argument)) = wishes.run {
            effects.extend(self.perform(action, &argument, now_ms));
        }
        effects
    }

    fn choose_theme(&mut self) {
        let item = |name: String| Item { run: (Action::Theme, name.clone()), name, words: String::new() };
        let items = self.look.themes.names().into_iter().map(item).collect();
        let back = (Action::Theme, self.look.theme.name.clone());
        self.layers.push(Box::new(Picker::new("theme", items).with_preview(back)));
    }

    /// Show a theme, and keep it for the next start once it was chosen.
    pub(super) fn set_theme(&mut self, name: &str, chosen: bool) -> Vec<Effect> {
        match self.look.themes.named(name) {
            Ok(theme) => self.look.theme = theme,
            Err(e) => {
                self.notice = Some((Level::Warning, e.to_string()));
                return Vec::new();
            }
        }
        if !chosen || self.manners.theme == name {
            return Vec::new();
        }
        self.manners.theme = name.to_string();
        vec![Effect::Command(DeckCommand::Remember { key: "theme", value: name.to_string() })]
    }

    pub(super) fn say(&mut self, text: &str) {
        self.notice = Some((Level::Info, text.to_string()));
    }
}

pub(super) fn context(now_ms: u64, size: (u16, u16), session: &str) -> Context<'_> {
    Context { now_ms, size, session, wishes: Wishes::default() }
}

pub(super) fn quit() -> Vec<Effect> {
    vec![Effect::Command(DeckCommand::Quit), Effect::Quit]
}

/// A key press, for tests and scripts.
pub fn press(code: KeyCode) -> Input {
    Input::Key(KeyEvent::from(code))
}
