//! When a key was read and when its frame was written, for whoever measures that from outside (`tests/drill.rs`):
//! TILLERMAN_KEY_TIMES names a file that gets a line per frame a key asked for. Without it nothing is done here.
//!
//! A line is ten numbers: five of the moment the oldest of these keys was read, five of the moment after the frame.
//! Each five are the Unix time in ns; what the drawing thread has run, and was ready to run and got no core, in ns;
//! its page faults that went to disk; and what the threads that read keys were ready and got no core, in ns. The
//! kernel counts the last four on Linux; elsewhere they are 0.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::deck::inputs::KEY_THREADS;

const FILE: &str = "TILLERMAN_KEY_TIMES";

static TIMES: LazyLock<Option<Times>> = LazyLock::new(|| {
    let path = std::env::var_os(FILE)?;
    File::options().create(true).append(true).open(path).ok().map(Times::of)
});

/// A key came in; called by the thread that reads them.
pub fn read() {
    if let Some(times) = &*TIMES {
        times.read();
    }
}

/// A frame is on the terminal; called by the thread that draws.
pub fn drawn() {
    if let Some(times) = &*TIMES {
        times.drawn();
    }
}

struct Times {
    file: File,
    /// The oldest key that no frame showed yet.
    waiting: Mutex<Option<[u128; 5]>>,
    readers: OnceLock<Vec<PathBuf>>,
}

impl Times {
    fn of(file: File) -> Times {
        Times { file, waiting: Mutex::default(), readers: OnceLock::new() }
    }

    fn read(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_none() {
            *waiting = Some(self.now());
        }
    }

    fn drawn(&self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(read) = waiting else { return };
        let line = read.iter().chain(&self.now()).map(u128::to_string).collect::<Vec<_>>().join(" ");
        // Whoever measures misses a line that could not be written.
        let _ = writeln!(&self.file, "{line}");
    }

    fn now(&self) -> [u128; 5] {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        // The deck draws on the main thread, whose id is the process's.
        let drawer = Path::new("/proc/self/task").join(std::process::id().to_string());
        let [ran, waited] = scheduled(&drawer);
        let readers = self.readers.get_or_init(readers).iter().map(|thread| scheduled(thread)[1]).sum();
        [at, ran, waited, faults(&drawer), readers]
    }
}

/// The threads a key passes before it is read: crossterm's own has the name of the one that made it.
fn readers() -> Vec<PathBuf> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let named = |thread: &PathBuf| {
        std::fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim_end() == KEY_THREADS)
    };
    threads.map(|thread| thread.path()).filter(named).collect()
}

/// ns a thread ran, and ns it was ready and got no core.
fn scheduled(thread: &Path) -> [u128; 2] {
    let text = std::fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
    [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)]
}

fn faults(thread: &Path) -> u128 {
    let text = std::fs::read_to_string(thread.join("stat")).unwrap_or_default();
    // The name before it may hold anything, brackets too.
    let fields = text.rsplit(") ").next().unwrap_or_default();
    fields.split(' ').nth(9).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_frame_that_a_key_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("times");
        let times = Times::of(File::create(&path).unwrap());
        times.drawn();
        times.read();
        let first = times.waiting.lock().unwrap().unwrap();
        times.read();
        times.drawn();
        times.drawn();
        let text = std::fs::read_to_string(&path).unwrap();
        let numbers: Vec<u128> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
        assert_eq!((text.lines().count(), numbers.len()), (1, 10), "{text}");
        assert_eq!(numbers[..5], first, "the oldest key counts");
        assert!((0..5).all(|at| numbers[at] <= numbers[at + 5]), "{text}");
        if cfg!(target_os = "linux") {
            assert!(numbers[6] > 0, "it has run");
        }
    }
}
