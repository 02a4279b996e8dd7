//! The program in a real pseudo-terminal: what it wrote, the screen that makes, and what of the terminal is left.

use std::io::{Read, Write};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// Long enough for a loaded machine; nothing here waits that long when it passes.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Terminal {
    pub master: Box<dyn MasterPty + Send>,
    pub writer: Box<dyn Write + Send>,
    pub child: Box<dyn Child + Send + Sync>,
    pub bytes: Arc<Mutex<Vec<u8>>>,
    modes_before: String,
}

impl Terminal {
    /// The deck on scripted events.
    pub fn start(env: &[(&str, &str)]) -> Terminal {
        Terminal::of(&["__deck-demo"], env)
    }

    pub fn of(arguments: &[&str], env: &[(&str, &str)]) -> Terminal {
        let size = PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let modes_before = modes(&*pair.master);
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_tillerman"));
        command.args(arguments);
        command.env("TERM", "xterm-256color");
        command.env_remove("NO_COLOR");
        for (name, value) in env {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).unwrap();
        let mut reader = pair.master.try_clone_reader().unwrap();
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = bytes.clone();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut chunk) {
                sink.lock().unwrap().extend_from_slice(&chunk[..n]);
            }
        });
        // The slave stays open on this side too, or its modes could not be read after the end.
        std::mem::forget(pair.slave);
        let writer = pair.master.take_writer().unwrap();
        Terminal { master: pair.master, writer, child, bytes, modes_before }
    }

    pub fn type_text(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).unwrap();
    }

    pub fn raw(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    pub fn screen(&self) -> vt100::Parser {
        let mut parser = vt100::Parser::new(24.try_into().unwrap(), 80.try_into().unwrap(), 0);
        parser.process(&self.raw());
        parser
    }

    #[track_caller]
    pub fn wait_for(&self, what: &str) {
        self.wait_until(what, |terminal| terminal.screen().screen().contents().contains(what));
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, holds: impl Fn(&Terminal) -> bool) {
        let started = Instant::now();
        while !holds(self) {
            assert!(
                started.elapsed() < PATIENCE,
                "never came: {what}\n{}",
                self.screen().screen().contents()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.process_id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Ctrl+D, and once more where the deck asks because something still runs; the exit code.
    pub fn leave(&mut self) -> u32 {
        self.type_text("\u{4}");
        self.wait_until("the end or the question", |terminal| {
            let asks = terminal.screen().screen().contents().contains("once more quits");
            asks || terminal.child.process_id().is_none_or(ended)
        });
        if self.child.try_wait().unwrap().is_none() {
            self.type_text("\u{4}");
        }
        self.end()
    }

    /// Wait for the end; the exit code.
    pub fn end(&mut self) -> u32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.exit_code();
            }
            if started.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                panic!("it does not end");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What of the terminal is not as it was.
    fn left_over(&self) -> Option<&'static str> {
        let parser = self.screen();
        let screen = parser.screen();
        let text = String::from_utf8_lossy(&self.raw()).into_owned();
        let flags = text.matches("\u{1b}[>1u").count() != text.matches("\u{1b}[<1u").count();
        [
            (screen.alternate_screen(), "the alternate screen"),
            (screen.bracketed_paste(), "bracketed paste"),
            (screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None, "a taken mouse"),
            (screen.hide_cursor(), "a hidden cursor"),
            (screen.bold() || screen.inverse(), "attributes"),
            (flags, "keyboard flags"),
            (modes(&*self.master) != self.modes_before, "line modes"),
        ]
        .into_iter()
        .find_map(|(left, what)| left.then_some(what))
    }

    /// What was written last may still be on its way.
    #[track_caller]
    pub fn assert_restored(&self) {
        let started = Instant::now();
        while let Some(left) = self.left_over() {
            assert!(started.elapsed() < PATIENCE, "left behind: {left}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn modes(master: &(dyn MasterPty + Send)) -> String {
    format!("{:?}", master.get_termios().unwrap())
}

/// The process is gone, or only waited for.
fn ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z') || rest.trim().is_empty())
}
