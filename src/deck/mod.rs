//! The deck: the conversation, the four panes beside it, the keys. The only place that names ratatui or
//! crossterm. It knows neither store nor engine: commands go out and events come in over two channels.
//!
//! In the order an input travels:
//! `inputs` (threads that wait for keys, events, signals) -> `app` (state, update, effects; `keymap` says what
//! a key means, `command` what that is called, `astray` what a letter is where no input is) -> the `tab` that
//! shows (`chat` is one) or the topmost `layer` over it -> `view` (one page; `status`, the tab's own drawing with `panes` and `paint`) -> `row` (the only way
//! text reaches a buffer) -> `screen` (frames) -> `terminal` (entered once, restored on every way out). Where a key
//! waits on that way `key_times` tells, where asked to.

pub mod app;
mod app_events;
mod app_keys;
mod astray;
pub mod bench;
mod cells;
pub mod chat;
mod chat_input;
mod chat_inside;
mod chat_tab;
mod chat_view;
pub mod command;
pub mod compare;
pub mod completion;
pub mod composer;
pub mod demo;
mod editor;
pub mod exchange;
pub mod export;
pub mod fit;
pub mod fuzzy;
mod highlight;
mod inputs;
pub mod inside;
mod key_times;
pub mod keymap;
pub mod keymap_file;
pub mod layer;
pub mod layout;
pub mod library;
pub mod live;
pub mod manners;
mod markdown;
mod markdown_table;
pub mod message;
pub mod paint;
pub mod pane;
pub mod panes;
pub mod player;
mod plot;
pub mod row;
pub mod screen;
mod selection;
mod shelf;
pub mod status;
pub mod study;
pub mod tab;
mod table;
mod terminal;
mod theatre;
pub mod theme;
pub mod transcript;
pub mod view;
mod why;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_astray;
#[cfg(test)]
mod tests_groups;
#[cfg(test)]
mod tests_inside;
#[cfg(test)]
mod tests_remedies;
#[cfg(test)]
mod tests_screens;
#[cfg(test)]
mod tests_study;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::deck::app::{App, Effect, Input, System};
use crate::deck::inputs::Keyboard;
pub use crate::deck::message::{
    CheckLine, DeckCommand, DeckEvent, DeckHandle, DeckOptions, LabelRequest, LabelValue, Level, Past, Scope,
    StatusLine,
};
use crate::deck::screen::Screen;
use crate::deck::theme::Theme;
use crate::error::Error;

/// Inputs taken in before the next frame, at most, so that a flood cannot keep the screen from moving.
const BATCH_MAX: usize = 256;
/// Least time between two frames that no key asked for.
const FRAME: Duration = Duration::from_millis(16);

/// Show the deck until the person leaves; answers the session they were in last. The terminal is restored when
/// this returns, however it returns.
///
/// # Errors
/// `Terminal` when there is none to show it on or it is lost, `Interrupted` after SIGTERM, SIGHUP or SIGINT.
pub fn run(mut options: DeckOptions) -> Result<String, Error> {
    let theme = chosen_theme(&options)?;
    terminal::set_mouse(options.manners.mouse)?;
    let guard = terminal::Guard::enter()?;
    let size = crossterm::terminal::size().map_err(|e| Error::Terminal(e.to_string()))?;
    let app = App::new(&mut options, theme, size);
    let (inputs, received) = channel();
    let inked = inputs.clone();
    highlight::start(move || drop(inked.send(Input::Inked)))?;
    let (signals, keyboard) = inputs::start(inputs.clone(), options.handle.events)?;
    let screen = Screen::new(io::stdout(), size);
    let commands = options.handle.commands;
    let (root, started) = (options.root, Instant::now());
    let mut shell = Shell { app, screen, commands, inputs, keyboard, root, started };
    let result = shell.run(&received);
    drop(guard);
    signals.stop();
    result.map(|()| shell.app.session)
}

/// NO_COLOR wins over any theme. crossterm resets attributes when it sees NO_COLOR itself, so its colour
/// output is forced on and the theme is what leaves the colours out.
fn chosen_theme(options: &DeckOptions) -> Result<Theme, Error> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    crossterm::style::force_color_output(true);
    options.manners.themes.named(if no_color { "mono" } else { &options.theme })
}

/// The app with its screen and its clock: takes inputs, runs effects, draws when something changed.
struct Shell<W: Write> {
    app: App,
    screen: Screen<W>,
    commands: UnboundedSender<DeckCommand>,
    /// For what is done beside the loop and answered later.
    inputs: Sender<Input>,
    keyboard: Keyboard,
    /// Where tools open files by their names.
    root: Option<PathBuf>,
    started: Instant,
}

impl<W: Write> Shell<W> {
    fn run(&mut self, inputs: &Receiver<Input>) -> Result<(), Error> {
        self.screen.draw(&mut self.app)?;
        let mut drawn = Instant::now();
        let mut dirty = false;
        loop {
            let wait = if dirty { Some(FRAME.saturating_sub(drawn.elapsed())) } else { self.app.wait() };
            let mut next = match wait {
                None => inputs.recv().ok(),
                Some(wait) => match inputs.recv_timeout(wait) {
                    Ok(input) => Some(input),
                    Err(RecvTimeoutError::Timeout) => Some(Input::Tick),
                    Err(RecvTimeoutError::Disconnected) => None,
                },
            };
            if next.is_none() {
                return Ok(());
            }
            let (mut urgent, mut typed) = (false, false);
            for _ in 0..BATCH_MAX {
                let Some(input) = next else { break };
                urgent |= !matches!(input, Input::Deck(_) | Input::Inked);
                typed |= matches!(input, Input::Key(_));
                dirty = true;
                if !self.take(input)? {
                    return Ok(());
                }
                next = inputs.try_recv().ok();
            }
            if dirty && (urgent || drawn.elapsed() >= FRAME) {
                self.screen.draw(&mut self.app)?;
                if let Some(text) = self.app.dropped() {
                    self.screen.copy(&text)?;
                    self.screen.draw(&mut self.app)?;
                }
                if typed {
                    key_times::drawn();
                }
                drawn = Instant::now();
                dirty = false;
            }
        }
    }

    /// Update with one input and run what it asks for; false ends the deck.
    fn take(&mut self, input: Input) -> Result<bool, Error> {
        let mut why = match &input {
            Input::System(System::Terminate) => Some(Error::Interrupted),
            Input::System(System::InputClosed(text)) => Some(Error::Terminal(text.clone())),
            _ => None,
        };
        if matches!(input, Input::Resize(..)) {
            // Back at the old size the terminal may still have cut or moved what was on it.
            self.screen.forget();
        }
        let mut effects = VecDeque::from(self.app.update(input, self.now_ms()));
        while let Some(effect) = effects.pop_front() {
            match effect {
                // Nobody listening any more is no reason to lose the screen.
                Effect::Command(command) => drop(self.commands.send(command)),
                Effect::Copy(text) => self.screen.copy(&text)?,
                Effect::Notify(how, text) => self.screen.notify(how, &text)?,
                Effect::Mouse(on) => terminal::set_mouse(on)?,
                Effect::ListFiles(folder) => {
                    let root = self.root.clone();
                    self.beside(move || Input::Files(completion::list(&folder, root.as_deref())));
                }
                Effect::Export { path, own_name, text } => {
                    self.beside(move || export::file(&path, own_name, &text));
                }
                Effect::Edit(text) => {
                    let edited = self.edit(&text)?;
                    effects.extend(self.app.update(edited, self.now_ms()));
                }
                Effect::Redraw => {
                    terminal::restore();
                    self.wake()?;
                }
                Effect::Suspend => {
                    terminal::restore();
                    inputs::stop_process();
                    self.wake()?;
                }
                Effect::Quit => return why.take().map_or(Ok(false), Err),
            }
        }
        Ok(true)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Do what may take its time on a thread of its own; what it answers comes in as an input.
    fn beside(&self, work: impl FnOnce() -> Input + Send + 'static) {
        let inputs = self.inputs.clone();
        let work = move || drop(inputs.send(work()));
        // A machine without room for one more thread does without.
        let _ = std::thread::Builder::new().name("beside".to_string()).spawn(work);
    }

    /// Lend the terminal to the person's editor.
    fn edit(&mut self, text: &str) -> Result<Input, Error> {
        let resume = self.keyboard.pause();
        inputs::lend(true);
        terminal::restore();
        let edited = editor::edit(text);
        let woken = self.wake();
        inputs::lend(false);
        drop(resume);
        woken?;
        Ok(match edited {
            Ok(text) => Input::Edited(text),
            Err(e) => Input::Said(Level::Warning, e.to_string()),
        })
    }

    /// Take the terminal again, as it is now.
    fn wake(&mut self) -> Result<(), Error> {
        terminal::enter()?;
        if let Ok(size) = crossterm::terminal::size() {
            self.app.size = size;
        }
        self.screen.forget();
        Ok(())
    }
}
