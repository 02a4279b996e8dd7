//! The deck's state and its one update function: an input in, effects out, no I/O here.

use crossterm::event::{KeyCode, KeyEvent};

use crate::deck::chat::Chat;
use crate::deck::composer::Composer;
use crate::deck::keymap::{self, Action, Place};
use crate::deck::message::{DeckCommand, DeckEvent, DeckOptions, LabelValue, Level, Scope, StatusLine};
use crate::deck::popup::Popup;
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
    pub chat: Chat,
    /// Topmost last.
    pub popups: Vec<Popup>,
    pub status: StatusLine,
    /// What the last key or event has to say, on the bottom line until the next key.
    pub notice: Option<(Level, String)>,
    pub theme: Theme,
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
        App {
            chat: Chat::new(&options.first_lines, past, history),
            popups: Vec::new(),
            status: options.status.clone(),
            notice: None,
            theme,
            size,
            session: options.session.clone(),
            quit_armed: false,
        }
    }

    /// `now_ms` is any clock that only goes forward.
    pub fn update(&mut self, input: Input, now_ms: u64) -> Vec<Effect> {
        self.chat.tick(now_ms);
        match input {
            Input::Key(key) => self.key(&key, now_ms),
            Input::Paste(text) => {
                match self.popups.last_mut() {
                    Some(Popup::Correct { input, .. }) => input.paste(&text),
                    _ => self.chat.composer.paste(&text),
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

    fn system(&mut self, system: System) -> Vec<Effect> {
        match system {
            System::Terminate => vec![Effect::Command(DeckCommand::Quit), Effect::Quit],
            System::InputClosed(_) => vec![Effect::Command(DeckCommand::Quit), Effect::Quit],
            System::Suspend => vec![Effect::Suspend],
            System::Continue => vec![Effect::Redraw],
            System::Panicked(text) => {
                self.chat.notice(Level::Error, format!("a part of the program crashed: {text}"));
                Vec::new()
            }
        }
    }

    fn deck_event(&mut self, event: DeckEvent, now_ms: u64) -> Vec<Effect> {
        match event {
            DeckEvent::Flow(event) => {
                if event.body.is_last() {
                    // "cancelling" is over.
                    self.notice = self.notice.take().filter(|(level, _)| *level == Level::Error);
                }
                return self.chat.event(&event, &self.session, now_ms);
            }
            DeckEvent::Progress(progress) => self.chat.progress(&progress),
            DeckEvent::Status(status) => self.status = status,
            DeckEvent::Conversation { session } => {
                self.session = session;
                self.chat.notice(Level::Info, "a new conversation begins here".to_string());
            }
            DeckEvent::Notice { level, text } => self.chat.notice(level, text),
            DeckEvent::LabelStored { trajectory, turn, scope, value, .. } => {
                self.chat.label_stored(&trajectory, scope, turn, value);
            }
            DeckEvent::Refused { reason, remedy } => {
                return self.chat.refused(&reason, &remedy, &self.session, now_ms);
            }
            DeckEvent::EngineDied { reason, remedy } => {
                let text = if remedy.is_empty() { reason } else { format!("{reason}; {remedy}") };
                // A running query tells it itself, in its place; the bottom line is enough then.
                if self.chat.is_running() {
                    self.notice = Some((Level::Error, text));
                } else {
                    self.chat.notice(Level::Error, text);
                }
            }
        }
        Vec::new()
    }

    fn key(&mut self, key: &KeyEvent, now_ms: u64) -> Vec<Effect> {
        self.notice = None;
        if !self.popups.is_empty() {
            return self.popup_key(key, now_ms);
        }
        let mut places = Vec::with_capacity(3);
        if self.chat.focus.is_some() {
            places.push(Place::Pane);
        }
        if self.chat.composer.is_empty()
            && self.chat.followed().is_some_and(|(live, _)| live.turn(0).is_some())
        {
            places.push(Place::EmptyInput);
        }
        places.push(Place::Anywhere);
        let action = keymap::action(&places, key).or_else(|| self.help_on_first_screen(key));
        if action != Some(Action::Interrupt) {
            self.quit_armed = false;
        }
        match action {
            Some(action) => self.perform(action, now_ms),
            None => {
                if let Some(c) = keymap::typed(key) {
                    self.chat.focus = None;
                    self.chat.composer.insert(c.encode_utf8(&mut [0; 4]));
                }
                Vec::new()
            }
        }
    }

    /// The first screen names `?`, so there it helps even without a query to act on.
    fn help_on_first_screen(&self, key: &KeyEvent) -> Option<Action> {
        let found = self.chat.composer.is_empty() && keymap::typed(key) == Some('?');
        found.then_some(Action::Help)
    }

    fn perform(&mut self, action: Action, now_ms: u64) -> Vec<Effect> {
        let page = isize::try_from(self.size.1 / 2).unwrap_or(1).max(1);
        match action {
            Action::Send => {
                if self.chat.composer.newline_for_backslash() {
                    return Vec::new();
                }
                return self.chat.send(&self.session, now_ms);
            }
            Action::Newline => self.chat.composer.insert("\n"),
            Action::Edit(edit) => {
                self.chat.focus = None;
                self.chat.composer.edit(edit);
            }
            Action::Escape => return self.escape(),
            Action::Interrupt => return self.interrupt(),
            Action::QuitIfEmpty if self.chat.composer.is_empty() => return quit(),
            Action::QuitIfEmpty => self.chat.composer.edit(crate::deck::composer::Edit::Delete),
            Action::Suspend => return vec![Effect::Suspend],
            Action::Redraw => return vec![Effect::Redraw],
            Action::Help => self.popups.push(Popup::Help { scroll: 0 }),
            Action::NextPane => self.chat.walk_panes(true),
            Action::PreviousPane => self.chat.walk_panes(false),
            Action::Pane(pane) => self.chat.focus_pane(Some(pane)),
            Action::TurnBack => self.chat.walk_turns(false),
            Action::TurnForward => self.chat.walk_turns(true),
            Action::QueryBack => self.chat.walk_queries(false),
            Action::QueryForward => self.chat.walk_queries(true),
            Action::ScrollUp => self.scroll(-1),
            Action::ScrollDown => self.scroll(1),
            Action::PageUp => self.scroll(-page),
            Action::PageDown => self.scroll(page),
            Action::Newest => self.chat.newest(),
            Action::Good => return self.label(Scope::Answer, LabelValue::Good, now_ms),
            Action::Bad => return self.label(Scope::Answer, LabelValue::Bad, now_ms),
            Action::PlanBad => return self.label(Scope::Plan, LabelValue::Bad, now_ms),
            Action::ClearLabel => {
                let effects = self.chat.clear_labels(now_ms);
                self.say(if effects.is_empty() {
                    "there is no label to take back"
                } else {
                    "label taken back"
                });
                return effects;
            }
            Action::Correct => self.ask_correction(),
            Action::Copy => match self.chat.answer() {
                Some(answer) => {
                    self.say("answer sent to the terminal's clipboard");
                    return vec![Effect::Copy(answer)];
                }
                None => self.say("there is no answer to copy yet"),
            },
            Action::NewConversation => return vec![Effect::Command(DeckCommand::NewConversation)],
        }
        Vec::new()
    }

    fn scroll(&mut self, rows: isize) {
        match self.chat.focus {
            Some(_) => self.chat.pane_scroll = self.chat.pane_scroll.saturating_add_signed(rows),
            None => self.chat.transcript.scroll(rows),
        }
    }

    fn escape(&mut self) -> Vec<Effect> {
        if self.chat.is_running() {
            self.say("cancelling");
            return vec![Effect::Command(DeckCommand::Cancel)];
        }
        self.chat.newest();
        Vec::new()
    }

    /// Clear the input, else cancel the query, else quit on the second press.
    fn interrupt(&mut self) -> Vec<Effect> {
        if !self.chat.composer.is_empty() {
            self.chat.composer.take();
            self.say("input cleared; Up brings it back");
            return Vec::new();
        }
        if self.quit_armed {
            return quit();
        }
        self.quit_armed = true;
        if self.chat.is_running() {
            self.say("cancelling; Ctrl+C once more quits");
            return vec![Effect::Command(DeckCommand::Cancel)];
        }
        self.say("Ctrl+C once more quits");
        Vec::new()
    }

    fn label(&mut self, scope: Scope, value: LabelValue, now_ms: u64) -> Vec<Effect> {
        match self.chat.label(scope, value, None, now_ms) {
            Ok(effect) => {
                self.say("labelled; Alt+u takes it back");
                vec![effect]
            }
            Err(why) => {
                self.notice = Some((Level::Warning, why.to_string()));
                Vec::new()
            }
        }
    }

    fn ask_correction(&mut self) {
        match self.chat.answer().and(self.chat.followed()) {
            Some((live, _)) => {
                let trajectory = live.trajectory.id.clone();
                self.popups.push(Popup::Correct { trajectory, input: Composer::default() });
            }
            None => self.say("there is no answer to correct yet"),
        }
    }

    fn popup_key(&mut self, key: &KeyEvent, now_ms: u64) -> Vec<Effect> {
        let page = usize::from(self.size.1 / 2);
        match self.popups.last_mut() {
            Some(Popup::Help { scroll }) => match keymap::action(&[Place::Popup, Place::Anywhere], key) {
                Some(Action::ScrollUp) => *scroll = scroll.saturating_sub(1),
                Some(Action::ScrollDown) => *scroll += 1,
                Some(Action::PageUp) => *scroll = scroll.saturating_sub(page),
                Some(Action::PageDown) => *scroll += page,
                Some(Action::Escape | Action::Interrupt | Action::Send | Action::Help) => {
                    self.popups.pop();
                }
                // Any other key closes the page and does what it does: nothing typed is lost.
                _ => {
                    self.popups.pop();
                    return self.key(key, now_ms);
                }
            },
            Some(Popup::Correct { input, .. }) => match keymap::action(&[Place::Anywhere], key) {
                Some(Action::Send) => return self.correct(now_ms),
                Some(Action::Escape | Action::Interrupt) => {
                    self.popups.pop();
                }
                Some(Action::Newline) => input.insert("\n"),
                Some(Action::Edit(edit)) => input.edit(edit),
                _ => {
                    if let Some(c) = keymap::typed(key) {
                        input.insert(c.encode_utf8(&mut [0; 4]));
                    }
                }
            },
            None => {}
        }
        Vec::new()
    }

    fn correct(&mut self, now_ms: u64) -> Vec<Effect> {
        let Some(Popup::Correct { mut input, .. }) = self.popups.pop() else { return Vec::new() };
        let text = input.take().trim().to_string();
        if text.is_empty() {
            return Vec::new();
        }
        match self.chat.label(Scope::Answer, LabelValue::Bad, Some(text), now_ms) {
            Ok(effect) => vec![effect],
            Err(why) => {
                self.say(why);
                Vec::new()
            }
        }
    }

    fn say(&mut self, text: &str) {
        self.notice = Some((Level::Info, text.to_string()));
    }
}

fn quit() -> Vec<Effect> {
    vec![Effect::Command(DeckCommand::Quit), Effect::Quit]
}

/// A key press, for tests and scripts.
pub fn press(code: KeyCode) -> Input {
    Input::Key(KeyEvent::from(code))
}
