//! The threads that wait, one per source, all into one channel: keys, the flow's events, signals. And the
//! panic hook, which decides whether the screen can go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyEventKind};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::iterator::{Handle, Signals};

use crate::deck::app::{Input, System};
use crate::deck::message::DeckEvent;
use crate::deck::terminal;
use crate::error::Error;

/// Threads whose end is the deck's end; a panic in any other is reported and survived.
const OWN_THREADS: &str = "deck-";
/// How long a terminated deck may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// Ends the signal thread; the others end with their sources or the process.
pub struct Stop {
    handle: Handle,
    ended: Arc<AtomicBool>,
}

impl Stop {
    pub fn stop(self) {
        self.ended.store(true, Ordering::SeqCst);
        self.handle.close();
    }
}

/// Start every thread.
///
/// # Errors
/// A thread or a signal handler cannot be set up.
pub fn start(inputs: Sender<Input>, events: Receiver<DeckEvent>) -> Result<Stop, Error> {
    set_panic_hook(inputs.clone());
    let signals = Signals::new([SIGTERM, SIGHUP, SIGINT, SIGTSTP, SIGCONT]).map_err(failed)?;
    let stop = Stop { handle: signals.handle(), ended: Arc::new(AtomicBool::new(false)) };
    let (keys, flow) = (inputs.clone(), inputs.clone());
    let ended = stop.ended.clone();
    spawn("deck-keys", move || read_keys(&keys))?;
    spawn("deck-events", move || {
        while let Ok(event) = events.recv() {
            if flow.send(Input::Deck(Box::new(event))).is_err() {
                break;
            }
        }
    })?;
    spawn("deck-signals", move || watch_signals(signals, &inputs, &ended))?;
    Ok(stop)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    thread::Builder::new().name(name.to_string()).spawn(work).map(drop).map_err(failed)
}

fn failed(error: std::io::Error) -> Error {
    Error::Terminal(error.to_string())
}

fn read_keys(inputs: &Sender<Input>) {
    loop {
        let input = match crossterm::event::read() {
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Input::Key(key),
            Ok(Event::Paste(text)) => Input::Paste(text),
            Ok(Event::Resize(columns, rows)) => Input::Resize(columns, rows),
            Ok(_) => continue,
            Err(e) => {
                // Without a keyboard nobody can end the deck, so it ends.
                let _ = inputs.send(Input::System(System::InputClosed(e.to_string())));
                return;
            }
        };
        if inputs.send(input).is_err() {
            return;
        }
    }
}

fn watch_signals(mut signals: Signals, inputs: &Sender<Input>, ended: &AtomicBool) {
    for signal in signals.forever() {
        let system = match signal {
            SIGTSTP => System::Suspend,
            SIGCONT => System::Continue,
            _ => System::Terminate,
        };
        let terminate = matches!(system, System::Terminate);
        let _ = inputs.send(Input::System(system));
        if terminate {
            // A deck that hangs must still give the terminal back.
            thread::sleep(GRACE);
            if !ended.load(Ordering::SeqCst) {
                terminal::restore();
                std::process::exit(128 + signal);
            }
            return;
        }
    }
}

/// Stop this process as Ctrl+Z does; returns when it is continued.
pub fn stop_process() {
    // Nothing to do about a refusal: the deck simply stays.
    let _ = signal_hook::low_level::emulate_default_handler(SIGTSTP);
}

/// A panic of the main thread restores the terminal before it is printed. One of the deck's other threads
/// ends the deck, and the main thread tells it once it has stopped drawing. One elsewhere (a query, a
/// tool) becomes a line of the conversation, as the deck lives on.
fn set_panic_hook(inputs: Sender<Input>) {
    let inputs = Mutex::new(inputs);
    let main = thread::current().id();
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let current = thread::current();
        let tell = |system| inputs.lock().is_ok_and(|inputs| inputs.send(Input::System(system)).is_ok());
        if current.id() != main && terminal::is_entered() {
            let text = info.to_string();
            let own = current.name().is_some_and(|name| name.starts_with(OWN_THREADS));
            if !own && tell(System::Panicked(text.clone())) {
                return;
            }
            if own && tell(System::InputClosed(text)) && ended_within(GRACE) {
                return;
            }
        }
        terminal::restore();
        previous(info);
    }));
}

/// Wait until the main thread has given the terminal back.
fn ended_within(patience: Duration) -> bool {
    let started = Instant::now();
    while terminal::is_entered() && started.elapsed() < patience {
        thread::sleep(Duration::from_millis(10));
    }
    !terminal::is_entered()
}
