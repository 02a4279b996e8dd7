//! Where a key waits on its way through the deck: by the clock, and in the deck itself, of that how long its threads
//! were ready and got no core. From the lines the deck writes (`src/deck/key_times.rs`) and what /proc says here.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use portable_pty::CommandBuilder;

/// What a key may take.
const AIM_MS: f64 = 100.0;
/// Of the keys over it so many are told in full.
const TOLD: usize = 5;

/// One key, in milliseconds.
pub struct Key {
    /// By the clock, from sent to seen on the screen by this test.
    pub all: f64,
    /// From sent to read by the deck, and from there until its frame was written.
    read: f64,
    drawn: f64,
    /// Of each of both: the threads on the way were ready and got no core.
    read_no_core: f64,
    drawn_no_core: f64,
    /// Of the second: the drawing thread ran.
    ran: f64,
    /// Page faults of the drawing thread that went to disk.
    faults: u128,
}

impl Key {
    /// In the deck and its terminal's queue, whoever was to blame.
    fn deck(&self) -> f64 {
        self.read + self.drawn
    }

    /// The same without the time in which its threads got no core; what it computed always counts.
    fn own(&self) -> f64 {
        self.read - self.read_no_core + (self.drawn - self.drawn_no_core).max(self.ran)
    }
}

/// The moment a key was sent.
pub struct Sent {
    at_ns: u128,
    at: Instant,
    /// ns for which the threads that read keys had got no core by then.
    readers: u128,
}

impl Sent {
    pub fn now(deck: u32) -> Sent {
        let readers = readers(deck).iter().map(|thread| no_core(thread)).sum();
        let at_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        Sent { at_ns, at: Instant::now(), readers }
    }

    /// Milliseconds.
    pub fn since(&self) -> f64 {
        self.at.elapsed().as_secs_f64() * 1e3
    }
}

fn readers(deck: u32) -> Vec<PathBuf> {
    let threads = std::fs::read_dir(format!("/proc/{deck}/task")).into_iter().flatten().flatten();
    let reads = |thread: &PathBuf| {
        std::fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim_end() == "deck-keys")
    };
    threads.map(|thread| thread.path()).filter(reads).collect()
}

fn no_core(thread: &Path) -> u128 {
    let text = std::fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// The file one deck tells its keys in.
pub struct KeyClock {
    file: tempfile::NamedTempFile,
}

impl KeyClock {
    /// Make the deck that `command` starts tell.
    pub fn of(command: &mut CommandBuilder) -> KeyClock {
        let file = tempfile::NamedTempFile::new().unwrap();
        command.env("TILLERMAN_KEY_TIMES", file.path());
        KeyClock { file }
    }

    /// What became of the key that was sent then and seen `all` ms later.
    pub fn key(&self, sent: &Sent, all: f64, patience: Duration) -> Key {
        let started = Instant::now();
        loop {
            let text = std::fs::read_to_string(self.file.path()).unwrap();
            // A line without its end is still being written.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            if let Some(key) = whole.lines().rev().find_map(|line| key(line, sent, all)) {
                return key;
            }
            assert!(started.elapsed() < patience, "the deck does not tell of a key:\n{text}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// None for a line about an earlier key.
fn key(line: &str, sent: &Sent, all: f64) -> Option<Key> {
    let numbers: Vec<u128> = line.split(' ').map(|number| number.parse().unwrap()).collect();
    let [read, ran, waited, faults, readers, drawn, ran_after, waited_after, faults_after, _] = numbers[..]
    else {
        panic!("no line of a deck: {line}");
    };
    let ms = |from: u128, to: u128| to.saturating_sub(from) as f64 / 1e6;
    (read >= sent.at_ns).then(|| Key {
        all,
        read: ms(sent.at_ns, read),
        drawn: ms(read, drawn),
        // A wait that began before counts as far as it reached.
        read_no_core: ms(sent.readers, readers).min(ms(sent.at_ns, read)),
        drawn_no_core: ms(waited, waited_after).min(ms(read, drawn)),
        ran: ms(ran, ran_after),
        faults: faults_after - faults,
    })
}

/// All keys in a few lines, and the slowest one by one.
pub fn tell(keys: &[Key]) {
    told("by the clock of this test", keys.iter().map(|key| key.all).collect());
    told("in the deck, from sent to its frame written", keys.iter().map(Key::deck).collect());
    told("in the deck, without the time its threads got no core", keys.iter().map(Key::own).collect());
    told("its threads ready without a core", keys.iter().map(|key| key.deck() - key.own()).collect());
    let over = |time: fn(&Key) -> f64| keys.iter().filter(|key| time(key) > AIM_MS).count();
    println!(
        "  over {AIM_MS} ms: {} of {} keys by the clock, {} in the deck, {} in the deck for another reason than no core",
        over(|key| key.all),
        keys.len(),
        over(Key::deck),
        over(Key::own)
    );
    let mut slow: Vec<&Key> = keys.iter().filter(|key| key.all > AIM_MS).collect();
    slow.sort_by(|a, b| b.all.total_cmp(&a.all));
    for key in slow.into_iter().take(TOLD) {
        println!(
            "    {:.0} ms: read after {:.1} (no core {:.1}), drawn {:.1} later (no core {:.1}, ran {:.1}, {} faults from disk), the rest in this test",
            key.all, key.read, key.read_no_core, key.drawn, key.drawn_no_core, key.ran, key.faults
        );
    }
}

fn told(what: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "  {what}: {:.1} ms (median), {:.1} ms (p99), {:.1} ms (p99.9), {:.1} ms (most)",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

/// Seconds of cores that this machine wanted and its host gave to others so far, and when that was asked.
pub fn stolen() -> (f64, Instant) {
    const TICKS_PER_S: f64 = 100.0;
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = text.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse::<f64>().ok());
    (ticks.unwrap_or(0.0) / TICKS_PER_S, Instant::now())
}

/// Its load, and what its host took of it since.
pub fn machine((before, began): &(f64, Instant)) -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let (seconds, cores) = (began.elapsed().as_secs_f64(), std::thread::available_parallelism());
    format!(
        "load {load}, {} cores, {:.1} s of them taken by the host in {seconds:.0} s",
        cores.map_or(0, usize::from),
        stolen().0 - before
    )
}
