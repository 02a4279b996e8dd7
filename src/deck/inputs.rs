//! The threads that wait, one per source, all into one channel: keys, the flow's events, signals. And the
//! panic hook, which decides whether the screen can go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossterm::event::{Event, EventStream, KeyEventKind, MouseButton, MouseEventKind};
use futures_util::StreamExt;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::{Handle, Signals};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::deck::app::{Input, System};
use crate::deck::key_times;
use crate::deck::message::DeckEvent;
use crate::deck::terminal;
use crate::error::Error;

/// Threads whose end is the deck's end; a panic in any other is reported and survived.
const OWN_THREADS: &str = "deck-";
/// Those a key comes in by.
pub(super) const KEY_THREADS: &str = "deck-keys";
/// How long a terminated deck may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// Another program has the terminal: what its keys signal is not for the deck.
static LENT: AtomicBool = AtomicBool::new(false);

/// Say that another program has the terminal now, or no longer.
pub fn lend(lent: bool) {
    LENT.store(lent, Ordering::SeqCst);
}

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
pub fn start(inputs: Sender<Input>, events: Receiver<DeckEvent>) -> Result<(Stop, Keyboard), Error> {
    set_panic_hook(inputs.clone());
    let signals = Signals::new([SIGTERM, SIGHUP, SIGINT, SIGTSTP, SIGCONT, SIGWINCH]).map_err(failed)?;
    let stop = Stop { handle: signals.handle(), ended: Arc::new(AtomicBool::new(false)) };
    let (keys, flow) = (inputs.clone(), inputs.clone());
    let ended = stop.ended.clone();
    let (pauses, paused) = unbounded_channel();
    spawn(KEY_THREADS, move || read_keys(&keys, paused))?;
    spawn("deck-events", move || {
        while let Ok(event) = events.recv() {
            if flow.send(Input::Deck(Box::new(event))).is_err() {
                break;
            }
        }
    })?;
    spawn("deck-signals", move || watch_signals(signals, &inputs, &ended))?;
    Ok((stop, Keyboard { pauses }))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    thread::Builder::new().name(name.to_string()).spawn(work).map(drop).map_err(failed)
}

fn failed(error: std::io::Error) -> Error {
    Error::Terminal(error.to_string())
}

/// Stops the keyboard thread from reading while another program has the terminal.
pub struct Keyboard {
    pauses: UnboundedSender<Pause>,
}

/// The keyboard says through the first that it has let go, and goes on once the second is closed.
type Pause = (Sender<()>, Receiver<()>);

impl Keyboard {
    /// Nothing is read from the terminal until what this answers is dropped.
    pub fn pause(&self) -> Sender<()> {
        let (let_go, has_let_go) = channel();
        let (resume, resumed) = channel();
        if self.pauses.send((let_go, resumed)).is_ok() {
            let _ = has_let_go.recv_timeout(GRACE);
        }
        resume
    }
}

/// Read keys until the channel closes. An `EventStream` rather than a blocking read: only a stream can be
/// let go of, and whoever still reads takes keys from the person's editor.
///
/// crossterm must be built with `use-dev-tty`, which here means poll(2): its other source waits on epoll for
/// edges and forgets the second of two that come together, so that keys beside a change of size lie unread
/// until the next key, or the last size is never heard of.
fn read_keys(inputs: &Sender<Input>, mut pauses: UnboundedReceiver<Pause>) {
    let failed = |text: String| drop(inputs.send(Input::System(System::InputClosed(text))));
    let runtime = match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime,
        Err(e) => return failed(e.to_string()),
    };
    loop {
        let pause = runtime.block_on(async {
            let mut events = EventStream::new();
            loop {
                let event = tokio::select! {
                    pause = pauses.recv() => return pause.ok_or(None),
                    event = events.next() => event,
                };
                match event {
                    Some(Ok(event)) => {
                        if matches!(event, Event::Key(_)) {
                            key_times::read();
                        }
                        if input(event).is_some_and(|input| inputs.send(input).is_err()) {
                            return Err(None);
                        }
                    }
                    // Without a keyboard nobody can end the deck, so it ends.
                    Some(Err(e)) => return Err(Some(e.to_string())),
                    None => return Err(Some("the keyboard has closed".to_string())),
                }
            }
        });
        match pause {
            Ok((let_go, resumed)) => {
                let _ = let_go.send(());
                let _ = resumed.recv();
            }
            Err(Some(text)) => return failed(text),
            Err(None) => return,
        }
    }
}

fn input(event: Event) -> Option<Input> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => Some(Input::Key(key)),
        Event::Paste(text) => Some(Input::Paste(text)),
        Event::FocusGained => Some(Input::Focus(true)),
        Event::FocusLost => Some(Input::Focus(false)),
        Event::Mouse(mouse) => match mouse.kind {
            MouseEventKind::ScrollUp => Some(Input::Wheel(false)),
            MouseEventKind::ScrollDown => Some(Input::Wheel(true)),
            MouseEventKind::Drag(MouseButton::Left) => Some(Input::Drag(mouse.column, mouse.row)),
            MouseEventKind::Up(MouseButton::Left) => Some(Input::Drop),
            MouseEventKind::Down(_) => Some(Input::Click(mouse.column, mouse.row)),
            _ => None,
        },
        // `watch_signals` hears of sizes, also while half a paste or half a key is waited for here.
        Event::Key(_) | Event::Resize(..) => None,
    }
}

fn watch_signals(mut signals: Signals, inputs: &Sender<Input>, ended: &AtomicBool) {
    for signal in signals.forever() {
        // Keys of the program that has the terminal meanwhile, not ours.
        if LENT.load(Ordering::SeqCst) && matches!(signal, SIGINT | SIGTSTP | SIGCONT) {
            continue;
        }
        if signal == SIGWINCH {
            // Asked after the last signal, so what it answers last is the size that stays.
            if let Ok((columns, rows)) = crossterm::terminal::size() {
                let _ = inputs.send(Input::Resize(columns, rows));
            }
            continue;
        }
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
