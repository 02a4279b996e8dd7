//! The deck: the conversation, the four panes beside it, the keys. The only place that names ratatui or
//! crossterm. It knows neither store nor engine: commands go out and events come in over two channels.
//!
//! In the order an input travels:
//! `inputs` (threads that wait for keys, events, signals) -> `app` (state, update, effects; `keymap` says what
//! a key means, `command` what that is called) -> the `tab` that shows (`chat` is one) or the topmost `layer`
//! over it -> `view` (one page; `status`, the tab's own drawing with `panes` and `paint`) -> `row` (the only way
//! text reaches a buffer) -> `screen` (frames) -> `terminal` (entered once, restored on every way out).

pub mod app;
pub mod bench;
pub mod chat;
mod chat_inside;
mod chat_tab;
pub mod command;
pub mod compare;
pub mod composer;
pub mod demo;
pub mod exchange;
mod highlight;
mod inputs;
pub mod inside;
pub mod keymap;
pub mod layer;
pub mod layout;
pub mod library;
pub mod live;
mod markdown;
pub mod message;
pub mod paint;
pub mod pane;
pub mod panes;
pub mod player;
mod plot;
pub mod row;
pub mod screen;
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

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_inside;

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::deck::app::{App, Effect, Input, System};
pub use crate::deck::message::{
    DeckCommand, DeckEvent, DeckHandle, DeckOptions, LabelRequest, LabelValue, Level, Past, Scope, StatusLine,
};
use crate::deck::screen::Screen;
use crate::deck::theme::Theme;
use crate::error::Error;

/// Inputs taken in before the next frame, at most, so that a flood cannot keep the screen from moving.
const BATCH_MAX: usize = 256;
/// Least time between two frames that no key asked for.
const FRAME: Duration = Duration::from_millis(16);

/// Show the deck until the person leaves. The terminal is restored when this returns, however it returns.
///
/// # Errors
/// `Terminal` when there is none to show it on or it is lost, `Interrupted` after SIGTERM, SIGHUP or SIGINT.
pub fn run(mut options: DeckOptions) -> Result<(), Error> {
    let theme = chosen_theme(&options.theme)?;
    let guard = terminal::Guard::enter()?;
    let size = crossterm::terminal::size().map_err(|e| Error::Terminal(e.to_string()))?;
    let app = App::new(&mut options, theme, size);
    let (inputs, received) = channel();
    let signals = inputs::start(inputs, options.handle.events)?;
    let screen = Screen::new(io::stdout(), size);
    let result =
        Shell { app, screen, commands: options.handle.commands, started: Instant::now() }.run(&received);
    drop(guard);
    signals.stop();
    if let Some(farewell) = options.farewell.filter(|_| result.is_ok()) {
        let _ = writeln!(io::stdout(), "{}", crate::text::safe(&farewell));
    }
    result
}

/// NO_COLOR wins over any theme. crossterm resets attributes when it sees NO_COLOR itself, so its colour
/// output is forced on and the theme is what leaves the colours out.
fn chosen_theme(name: &str) -> Result<Theme, Error> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    crossterm::style::force_color_output(true);
    Theme::named(if no_color { "mono" } else { name })
}

/// The app with its screen and its clock: takes inputs, runs effects, draws when something changed.
struct Shell<W: Write> {
    app: App,
    screen: Screen<W>,
    commands: UnboundedSender<DeckCommand>,
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
            let mut urgent = false;
            for _ in 0..BATCH_MAX {
                let Some(input) = next else { break };
                urgent |= !matches!(input, Input::Deck(_));
                dirty = true;
                if !self.take(input)? {
                    return Ok(());
                }
                next = inputs.try_recv().ok();
            }
            if dirty && (urgent || drawn.elapsed() >= FRAME) {
                self.screen.draw(&mut self.app)?;
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
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        for effect in self.app.update(input, now_ms) {
            match effect {
                // Nobody listening any more is no reason to lose the screen.
                Effect::Command(command) => drop(self.commands.send(command)),
                Effect::Copy(text) => self.screen.copy(&text)?,
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
