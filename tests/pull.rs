//! `model pull` against a real HTTP server on this machine that does everything wrong a server can: cuts
//! connections, ignores ranges, refuses them, swaps the file, redirects, lies. And `model list` on what came.

#[allow(dead_code, reason = "shared with the tests of the deck")]
#[path = "support/terminal.rs"]
mod terminal;

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const REPO: &str = "someone/planner-GGUF";
const FILE: &str = "sub/planner.gguf";

/// How the server treats one request for the bytes; well, once the list is used up.
#[derive(Clone, Debug)]
enum Act {
    /// The range asked for, but only so many bytes of it.
    Cut(usize),
    /// The whole file whatever was asked for, and so many bytes of that.
    IgnoreRange(usize),
    /// Another range than asked for.
    OtherRange,
    Status(u16),
    /// The bytes asked for with this byte of the file changed.
    Wrong(usize),
    /// Under another ETag, so that If-Range yields the whole file.
    Changed,
    /// More bytes than announced.
    TooMany,
    Redirect(String),
    /// So many bytes, then silence with the connection open.
    Stall(usize),
}

/// Method, path and headers (names in lower case) of a request.
type Asked = (String, String, Vec<(String, String)>);

#[derive(Default)]
struct Hub {
    bytes: Vec<u8>,
    acts: Mutex<VecDeque<Act>>,
    asked: Mutex<Vec<Asked>>,
    /// Announced instead of the true ones.
    size: Option<u64>,
    sha256: Option<String>,
    /// Answer of the hub to HEAD: status and X-Error-Code.
    refusal: Option<(u16, &'static str)>,
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn planner() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/planner.gguf")).unwrap()
}

impl Hub {
    fn new(acts: impl IntoIterator<Item = Act>) -> Hub {
        Hub { bytes: planner(), acts: Mutex::new(acts.into_iter().collect()), ..Hub::default() }
    }

    /// Serve until the test ends; answers the address.
    fn serve(self: &Arc<Hub>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let hub = Arc::clone(self);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hub = Arc::clone(&hub);
                std::thread::spawn(move || hub.answer(stream));
            }
        });
        address
    }

    fn answer(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split_whitespace().map(str::to_string);
        let (method, path) = (words.next()?, words.next()?);
        let mut headers = Vec::new();
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            headers.push((name.to_lowercase(), value.to_string()));
        }
        self.asked.lock().unwrap().push((method.clone(), path.clone(), headers.clone()));
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let from = header("range")
            .map(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap());
        if path.starts_with("/api/models/") {
            let listing = r#"[{"type":"file","path":"README.md"},{"type":"file","path":"other.gguf"}]"#;
            return send(stream, 200, "", listing.as_bytes());
        }
        if method == "HEAD" {
            return self.describe(stream);
        }
        let act = self.acts.lock().unwrap().pop_front();
        self.bytes_for(stream, act, from, header("if-range"))
    }

    fn describe(&self, stream: TcpStream) -> Option<()> {
        if let Some((status, code)) = self.refusal {
            return send(stream, status, &format!("X-Error-Code: {code}\r\n"), b"");
        }
        let size = self.size.unwrap_or(self.bytes.len() as u64);
        let hash = self.sha256.clone().unwrap_or_else(|| sha256(&self.bytes));
        let headers = format!(
            "X-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"{hash}\"\r\nX-Linked-Size: {size}\r\nLocation: http://127.0.0.1:9/elsewhere\r\n"
        );
        send(stream, 302, &headers, b"")
    }

    fn bytes_for(
        &self,
        stream: TcpStream,
        act: Option<Act>,
        from: Option<usize>,
        if_range: Option<&str>,
    ) -> Option<()> {
        let (len, start) = (self.bytes.len(), from.unwrap_or(0));
        let part = |start: usize, body: &[u8], tag: &str, stream| {
            let whole = if_range.is_some_and(|asked| asked != tag) || from.is_none();
            if whole && start > 0 {
                return cut(stream, 200, &format!("ETag: {tag}\r\n"), &self.bytes, len);
            }
            let range = format!("Content-Range: bytes {start}-{}/{len}\r\nETag: {tag}\r\n", len - 1);
            cut(stream, if from.is_none() { 200 } else { 206 }, &range, body, len - start)
        };
        let mut bytes = self.bytes.clone();
        match act {
            None => part(start, &bytes[start..], "\"one\"", stream),
            Some(Act::Cut(count)) => part(start, &bytes[start..len.min(start + count)], "\"one\"", stream),
            Some(Act::Changed) => part(start, &bytes[start..], "\"two\"", stream),
            Some(Act::Wrong(at)) => {
                bytes[at] ^= 1;
                part(start, &bytes[start..], "\"one\"", stream)
            }
            Some(Act::IgnoreRange(count)) => cut(stream, 200, "", &bytes[..len.min(count)], len),
            Some(Act::OtherRange) => {
                let range = format!("Content-Range: bytes 7-{}/{len}\r\n", len - 1);
                cut(stream, 206, &range, &bytes[7..], len - 7)
            }
            Some(Act::Status(status)) => send(stream, status, "", b"no"),
            Some(Act::TooMany) => {
                bytes.extend_from_slice(&[7; 4096]);
                let headers = "Transfer-Encoding: chunked\r\n";
                let mut body = format!("{:x}\r\n", bytes.len()).into_bytes();
                body.extend_from_slice(&bytes);
                body.extend_from_slice(b"\r\n0\r\n\r\n");
                raw(stream, 200, headers, &body)
            }
            Some(Act::Redirect(to)) => send(stream, 302, &format!("Location: {to}\r\n"), b""),
            Some(Act::Stall(count)) => {
                let range = format!("Content-Range: bytes {start}-{}/{len}\r\n", len - 1);
                let status = if from.is_none() { 200 } else { 206 };
                let kept = stream.try_clone().ok()?;
                cut(stream, status, &range, &bytes[start..len.min(start + count)], len - start);
                std::thread::sleep(Duration::from_secs(600));
                drop(kept);
                None
            }
        }
    }

    /// Requests for the bytes: the value of their Range header.
    fn ranges(&self) -> Vec<Option<String>> {
        let asked = self.asked.lock().unwrap();
        let gets = asked.iter().filter(|(method, path, _)| method == "GET" && !path.starts_with("/api/"));
        gets.map(|(_, _, headers)| headers.iter().find(|(n, _)| n == "range").map(|(_, v)| v.clone()))
            .collect()
    }
}

fn send(stream: TcpStream, status: u16, headers: &str, body: &[u8]) -> Option<()> {
    cut(stream, status, headers, body, body.len())
}

/// An answer that announces `length` bytes and sends `body`.
fn cut(stream: TcpStream, status: u16, headers: &str, body: &[u8], length: usize) -> Option<()> {
    raw(stream, status, &format!("Content-Length: {length}\r\n{headers}"), body)
}

fn raw(mut stream: TcpStream, status: u16, headers: &str, body: &[u8]) -> Option<()> {
    let head = format!("HTTP/1.1 {status} Words\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    stream.flush().ok()
}

/// A user's machine: a home of its own, nothing of ours in the environment.
struct Machine {
    folder: tempfile::TempDir,
    token: Option<&'static str>,
}

impl Machine {
    fn new() -> Machine {
        Machine { folder: tempfile::tempdir().unwrap(), token: None }
    }

    /// The settings list these hosts as reachable though they are not public.
    fn allow(&self, hosts: &[&str]) {
        fs::create_dir_all(self.folder.path().join("t")).unwrap();
        let settings = format!("[network]\nallow_hosts = {hosts:?}\n");
        fs::write(self.folder.path().join("t/config.toml"), settings).unwrap();
    }

    fn command(&self, endpoint: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tillerman"));
        command
            .env_clear()
            .env("HOME", self.folder.path())
            .env("TILLERMAN_HOME", self.folder.path().join("t"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HF_ENDPOINT", endpoint);
        command.envs(self.token.map(|token| ("HF_TOKEN", token)));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, endpoint: &str) -> Child {
        self.command(endpoint, &["model", "pull", REPO, FILE]).spawn().unwrap()
    }

    /// (exit code, stdout, stderr)
    fn pull(&self, endpoint: &str) -> (i32, String, String) {
        said(self.start(endpoint))
    }

    fn repo(&self) -> PathBuf {
        self.folder.path().join(".cache/huggingface/hub/models--someone--planner-GGUF")
    }

    fn partial(&self) -> Option<PathBuf> {
        let blobs = fs::read_dir(self.repo().join("blobs")).ok()?;
        blobs
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|e| e == "incomplete"))
    }

    /// The file is in the cache as every other program expects it, and nothing else.
    fn whole(&self) {
        let (repo, bytes) = (self.repo(), planner());
        let hash = sha256(&bytes);
        let snapshot = repo.join("snapshots").join(COMMIT).join(FILE);
        assert_eq!(fs::read_link(&snapshot).unwrap(), Path::new("../../../blobs").join(&hash));
        assert!(fs::read(&snapshot).unwrap() == bytes, "the bytes are not what the hub has");
        assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
        let blobs: Vec<_> =
            fs::read_dir(repo.join("blobs")).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(blobs, [hash.as_str()]);
    }
}

fn said(child: Child) -> (i32, String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(!err.contains("panicked"), "{err}");
    (output.status.code().unwrap_or(-1), out, err)
}

/// The acts lead to the whole file in the end.
fn check(acts: impl IntoIterator<Item = Act>) -> Arc<Hub> {
    let hub = Arc::new(Hub::new(acts));
    let machine = Machine::new();
    let (code, out, err) = machine.pull(&hub.serve());
    assert_eq!(code, 0, "{err}");
    machine.whole();
    assert!(out.trim().ends_with(FILE), "{out}");
    hub
}

#[test]
fn a_file_comes_whole_and_says_where_from() {
    let hub = Arc::new(Hub::new([]));
    let machine = Machine::new();
    let endpoint = hub.serve();
    let (code, out, err) = machine.pull(&endpoint);
    assert_eq!(code, 0, "{err}");
    machine.whole();
    assert!(
        err.contains(&endpoint) && err.contains("MB") && err.contains("free") && err.contains("accepted"),
        "{err}"
    );
    let (code, again, err) = machine.pull(&endpoint);
    assert_eq!((code, &again), (0, &out), "{err}");
    assert_eq!(hub.ranges().len(), 1, "what is there is not fetched again");
    // The link is found by the list, under the repository's name.
    let (code, out, err) = said(machine.command(&endpoint, &["model", "list", "--json"]).spawn().unwrap());
    assert_eq!(code, 0, "{err}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["sha256"] == sha256(&planner()).as_str()), "{out}");
}

/// From a deck that has only what came with it: a model is chosen, downloaded over a connection that breaks, and
/// serves, all by keys.
#[test]
fn the_deck_downloads_a_model_and_serves_it() {
    const OFFERED: &str = "qwen2.5-0.5b-instruct-q4_k_m.gguf";
    let hub = Arc::new(Hub::new([Act::Cut(100_000), Act::Cut(3)]));
    let (machine, endpoint) = (Machine::new(), hub.serve());
    let home = machine.folder.path().to_str().unwrap();
    let env = [
        ("HOME", home),
        ("TILLERMAN_HOME", home),
        ("HF_ENDPOINT", &endpoint),
        ("HF_HOME", ""),
        ("HF_HUB_CACHE", ""),
    ];
    let mut deck = terminal::Terminal::of(&["--home", home], &env);
    deck.wait_for("tillerman-embedded");
    deck.type_text("\u{1b}[15~");
    deck.wait_for("Qwen2.5-0.5B-Instruct");
    deck.type_text("\u{1b}[B\r");
    deck.wait_for("Enter once more downloads 0.5 GB");
    assert!(hub.asked.lock().unwrap().is_empty(), "nobody was asked before the second Enter");
    deck.type_text("\r");
    deck.wait_for(&format!("{OFFERED} is here and whole"));
    assert!(hub.ranges().len() == 3, "{:?}", hub.ranges());
    // It stands in the list now, under the cache other programs read; Enter on it serves it.
    deck.wait_until("the offer is gone", |deck| !deck.screen().screen().contents().contains("0.5 GB"));
    let repo = machine.folder.path().join(".cache/huggingface/hub/models--Qwen--Qwen2.5-0.5B-Instruct-GGUF");
    assert!(repo.join("snapshots").join(COMMIT).join(OFFERED).exists());
    deck.type_text("\u{1b}[H\u{1b}[B\r");
    // It is the embedded planner under another name; the notice says which file it is that serves.
    deck.wait_for("serves until you leave");
    deck.type_text("\u{4}");
    assert_eq!(deck.end(), 0);
    deck.assert_restored();
}

#[test]
fn cut_connections_are_gone_on_with_from_where_they_broke() {
    let len = planner().len();
    let hub = check([Act::Cut(0), Act::Cut(1), Act::Cut(100_000), Act::Cut(len / 2), Act::Cut(3)]);
    let ranges = hub.ranges();
    assert_eq!(ranges[..2], [None, None], "nothing came yet");
    let starts: Vec<usize> = ranges[2..]
        .iter()
        .map(|range| {
            range.as_ref().unwrap().trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()
        })
        .collect();
    assert!(starts.is_sorted() && starts[0] >= 1 && *starts.last().unwrap() > 100_000, "{starts:?}");
    // Anywhere at all: pieces of every size, as a seed gives them.
    let mut seed = 7_u64;
    let pieces = std::iter::from_fn(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some(Act::Cut((seed >> 33) as usize % (len / 6)))
    });
    check(pieces.take(12));
}

#[test]
fn a_server_without_ranges_or_with_others_than_asked_for_ends_in_the_right_bytes() {
    let len = planner().len();
    let hub = check([Act::Cut(1000), Act::IgnoreRange(len)]);
    assert_eq!(hub.ranges().len(), 2);
    check([Act::Cut(1000), Act::IgnoreRange(5000), Act::IgnoreRange(9000)]);
    check([Act::Cut(1000), Act::Status(416)]);
    check([Act::Cut(1000), Act::OtherRange]);
    check([Act::Cut(1000), Act::Status(503), Act::Status(429), Act::Status(500)]);
}

#[test]
fn a_file_that_changes_between_attempts_is_not_pieced_together() {
    let hub = check([Act::Cut(200_000), Act::Changed]);
    assert_eq!(hub.ranges().len(), 2, "If-Range brought the whole file at once");
    // Wrong bytes in an earlier piece: found by the hash, fetched once more from the start.
    let hub = check([Act::Cut(200_000), Act::Wrong(300_000)]);
    assert_eq!(hub.ranges().last(), Some(&None));
}

#[test]
fn a_server_that_always_sends_wrong_bytes_is_given_up() {
    // Each time in two pieces, so that the mistake could be the piecing together.
    let acts = (0..20).flat_map(|_| [Act::Cut(200_000), Act::Wrong(300_000)]);
    let (hub, machine) = (Arc::new(Hub::new(acts)), Machine::new());
    let (code, _, err) = machine.pull(&hub.serve());
    assert!(code == 1 && err.contains("announced") && err.contains("once more from the start"), "{err}");
    assert_eq!(hub.ranges().len(), 4, "it is fetched twice, and no more");
    assert_eq!(machine.partial(), None);
}

#[test]
fn a_redirect_leads_to_public_hosts_or_to_those_the_user_named() {
    let inside = Arc::new(Hub::new([]));
    let address = inside.serve();
    let port = address.rsplit_once(':').unwrap().1;
    for to in [
        format!("{address}/signed?x=SECRETKEY"),
        format!("http://localhost:{port}/signed?x=SECRETKEY"),
        format!("http://0x7f.1:{port}/signed?x=SECRETKEY"),
        format!("http://[::ffff:127.0.0.1]:{port}/signed?x=SECRETKEY"),
        "http://169.254.169.254/latest/meta-data?SECRETKEY".to_string(),
        "http://10.0.0.1/x?SECRETKEY".to_string(),
        "http://router/x?SECRETKEY".to_string(),
        "ftp://example.org/x?SECRETKEY".to_string(),
        "http://user:SECRETKEY@example.org/x".to_string(),
    ] {
        let hub = Arc::new(Hub::new([Act::Redirect(to.clone())]));
        let machine = Machine::new();
        let (code, _, err) = machine.pull(&hub.serve());
        assert_eq!(code, 1, "{to}: {err}");
        assert!(err.contains("sends us on") && !err.contains("SECRETKEY"), "{to}: {err}");
    }
    assert_eq!(inside.asked.lock().unwrap().len(), 0, "the inside was contacted");
    // Named in the settings it is reached.
    let hub = Arc::new(Hub::new([Act::Redirect(format!("{address}/signed"))]));
    let machine = Machine::new();
    machine.allow(&[address.trim_start_matches("http://")]);
    let (code, _, err) = machine.pull(&hub.serve());
    assert_eq!(code, 0, "{err}");
    assert_eq!(inside.ranges().len(), 1);
    machine.whole();
}

#[test]
fn wrong_bytes_never_get_the_name() {
    for act in [Act::Wrong(12_345), Act::TooMany] {
        let hub = Arc::new(Hub::new([act.clone()]));
        let machine = Machine::new();
        let (code, _, err) = machine.pull(&hub.serve());
        assert_eq!(code, 1, "{act:?}: {err}");
        assert!(err.contains("announced"), "{err}");
        assert!(!machine.repo().join("snapshots").join(COMMIT).join(FILE).exists());
        assert!(machine.partial().is_none_or(|path| path.metadata().unwrap().len() == 0), "{act:?}");
        // The next attempt finds an honest server.
        let (code, _, err) = machine.pull(&hub.serve());
        assert_eq!(code, 0, "{err}");
        machine.whole();
    }
}

#[test]
fn the_token_stays_with_the_endpoint() {
    const TOKEN: &str = "hf_doNotTell";
    let other = Arc::new(Hub::new([]));
    let elsewhere = other.serve().replace("127.0.0.1", "localhost");
    let acts =
        [Act::Redirect("/bytes/here".to_string()), Act::Redirect(format!("{elsewhere}/signed?x=SECRETKEY"))];
    let hub = Arc::new(Hub::new(acts));
    let machine = Machine { token: Some(TOKEN), ..Machine::new() };
    machine.allow(&[elsewhere.trim_start_matches("http://")]);
    let (code, out, err) = machine.pull(&hub.serve());
    assert_eq!(code, 0, "{err}");
    machine.whole();
    let told = |hub: &Hub| {
        let asked = hub.asked.lock().unwrap();
        let told = asked.iter().map(|(_, _, headers)| headers.iter().any(|(_, value)| value.contains(TOKEN)));
        told.collect::<Vec<_>>()
    };
    assert_eq!(told(&hub), [true, true, true]);
    assert_eq!(told(&other), [false]);
    assert!(!format!("{out}{err}").contains(TOKEN), "{err}");
    // A server that goes away: neither token nor signed address in the words.
    let gone = Arc::new(Hub::new([Act::Redirect("http://127.0.0.1:9/signed?x=SECRETKEY".to_string())]));
    gone.acts
        .lock()
        .unwrap()
        .extend((0..9).map(|_| Act::Redirect("http://127.0.0.1:9/x?SECRETKEY".to_string())));
    let machine = Machine { token: Some(TOKEN), ..Machine::new() };
    machine.allow(&["127.0.0.1:9"]);
    let (code, out, err) = machine.pull(&gone.serve());
    assert_eq!(code, 1);
    assert!(err.contains("cannot be reached") && err.contains("goes on from there"), "{err}");
    assert!(!format!("{out}{err}").contains(TOKEN) && !err.contains("SECRETKEY"), "{err}");
    // To a host that is not this machine the token does not go unencrypted.
    let (code, _, err) = machine.pull("http://hub.invalid");
    assert!(code == 2 && err.contains("HF_TOKEN"), "{err}");
}

#[test]
fn what_does_not_fit_or_cannot_be_had_is_said_before_anything_is_fetched() {
    let fails = |hub: Hub, code: i32, parts: &[&str]| {
        let hub = Arc::new(hub);
        let (got, _, err) = Machine::new().pull(&hub.serve());
        assert_eq!(got, code, "{err}");
        parts.iter().for_each(|part| assert!(err.contains(part), "no {part:?} in {err}"));
        assert_eq!(hub.ranges().len(), 0, "bytes were asked for");
    };
    fails(Hub { size: Some(1 << 60), ..Hub::new([]) }, 1, &["GB", "HF_HUB_CACHE"]);
    fails(Hub { sha256: Some("../../x".into()), ..Hub::new([]) }, 1, &["sha256"]);
    fails(Hub { refusal: Some((404, "EntryNotFound")), ..Hub::new([]) }, 1, &[FILE, "other.gguf"]);
    fails(Hub { refusal: Some((401, "RepoNotFound")), ..Hub::new([]) }, 1, &[REPO, "HF_TOKEN"]);
    fails(Hub { refusal: Some((403, "GatedRepo")), ..Hub::new([]) }, 1, &["terms", "HF_TOKEN"]);
    fails(Hub { refusal: Some((500, "")), ..Hub::new([]) }, 1, &["500"]);
    let machine = Machine::new();
    let (code, _, err) = machine.pull("gopher://hub");
    assert!(code == 2 && err.contains("HF_ENDPOINT"), "{err}");
    let mut command = machine.command("http://127.0.0.1:9", &["model", "pull", REPO, FILE]);
    let (code, _, err) = said(command.env("HF_HUB_OFFLINE", "1").spawn().unwrap());
    assert!(code == 2 && err.contains("HF_HUB_OFFLINE"), "{err}");
    let (code, _, err) = machine.pull("http://127.0.0.1:9");
    assert!(code == 1 && err.contains("127.0.0.1:9"), "{err}");
}

#[test]
fn what_came_whole_but_cannot_serve_is_said() {
    let hub = Arc::new(Hub { bytes: b"GGUF and then a poem".repeat(100), ..Hub::new([]) });
    let (code, _, err) = Machine::new().pull(&hub.serve());
    assert!(code == 3 && err.contains("refused"), "{code} {err}");
}

/// Wait until the partial file holds all that the server gives before it falls silent.
fn begun(machine: &Machine, bytes: u64) {
    let start = Instant::now();
    while machine.partial().and_then(|path| path.metadata().ok()).is_none_or(|meta| meta.len() < bytes) {
        assert!(start.elapsed() < Duration::from_secs(300), "the bytes did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_stopped_download_goes_on_where_it_was() {
    for signal in ["INT", "KILL"] {
        const GIVEN: u64 = 400_000;
        // A loaded machine may take longer than the client bears silence: it asks again, and hears as little.
        let again = std::iter::repeat_n(Act::Stall(0), 4);
        let hub = Arc::new(Hub::new(std::iter::once(Act::Stall(GIVEN as usize)).chain(again)));
        let (machine, endpoint) = (Machine::new(), hub.serve());
        let child = machine.start(&endpoint);
        begun(&machine, GIVEN);
        // Somebody else wants the same meanwhile: waits for the lock, and needs no bytes of its own twice.
        let mut waiting = machine.start(&endpoint);
        let mut errors = BufReader::new(waiting.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("waiting for it") {
            line.clear();
            assert!(errors.read_line(&mut line).unwrap() > 0, "the second did not wait");
        }
        assert_eq!(machine.partial().unwrap().metadata().unwrap().len(), GIVEN);
        hub.acts.lock().unwrap().clear();
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let (code, _, err) = said(child);
        if signal == "INT" {
            assert!(code == 130 && err.contains("goes on from there"), "{code} {err}");
        }
        let mut rest = String::new();
        errors.read_to_string(&mut rest).unwrap();
        assert!(waiting.wait().unwrap().success(), "{rest}");
        assert!(rest.contains("already here"), "{rest}");
        machine.whole();
        let last = hub.ranges().last().cloned().flatten().unwrap();
        assert_eq!(last, format!("bytes={GIVEN}-"));
    }
}
