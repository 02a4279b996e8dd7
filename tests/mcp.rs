//! MCP servers that behave and misbehave, as real processes: approved, changed, hanging, crashing, too big, too
//! deep; and what is left of them when this program goes.

#[path = "support/program.rs"]
mod program;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tillerman::config::Mcp;
use tillerman::tools::mcp::{Pin, inspect, register};
use tillerman::tools::{ToolContext, ToolFault, ToolResult, Toolbox};

const EXE: &str = env!("CARGO_BIN_EXE_tillerman");

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/server.py")
}

/// A folder for one server, with the settings that start it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn settings(&self, mode: &str) -> Mcp {
        let (script, folder) = (script(), self.path());
        let words = ["python3", script.to_str().unwrap(), folder.to_str().unwrap(), mode];
        Mcp { command: words.map(String::from).to_vec(), call_s: 30, ..Mcp::default() }
    }

    fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.path().join("pid")).ok()?.parse().ok()
    }
}

/// Approve the server as it is and build the toolbox with it.
async fn approved(place: &Place, settings: &Mcp) -> Toolbox {
    let listed = inspect(settings, Path::new(EXE)).await.unwrap();
    Pin::new(settings, listed).save(&Pin::path(place.path(), "notes")).unwrap();
    toolbox(place, settings)
}

fn toolbox(place: &Place, settings: &Mcp) -> Toolbox {
    let mut toolbox = Toolbox::default();
    let servers = BTreeMap::from([("notes".to_string(), settings.clone())]);
    register(&mut toolbox, &servers, place.path(), Path::new(EXE));
    toolbox
}

async fn call(toolbox: &Toolbox, name: &str, arguments: Value) -> ToolResult {
    toolbox.run(&format!("notes__{name}"), &arguments, &ToolContext::default()).await
}

async fn echo(toolbox: &Toolbox, text: &str) -> ToolResult {
    call(toolbox, "echo", json!({"text": text})).await
}

/// Alive, and not a zombie that only waits to be looked at.
fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn run(home: &Path, args: &[&str]) -> (i32, String, String) {
    program::run(program::tillerman(home).args(args))
}

fn configure(home: &Path, settings: &Mcp) {
    let config = format!("[mcp.notes]\ncommand = {:?}\n", settings.command);
    std::fs::write(home.join("config.toml"), config).unwrap();
}

#[test]
fn a_server_is_used_after_it_was_approved_and_never_once_it_changed() {
    let (home, place) = (tempfile::tempdir().unwrap(), Place::new());
    let home = home.path();
    configure(home, &place.settings("plain"));
    let approve = "`tillerman tool approve notes`";
    let echo = ["tool", "run", "notes__echo", "{\"text\": \"hi\"}"];
    let (code, _, err) = run(home, &echo);
    assert_eq!(code, 2);
    assert!(
        err.contains("notes__echo cannot run here: this MCP server was never approved")
            && err.contains(approve),
        "{err}"
    );
    assert_eq!(place.pid(), None, "nothing is started before it is approved");
    let (code, out, err) = run(home, &["tool", "approve", "notes"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("runs [\"python3\"") && out.contains("echo (says it only reads)"), "{out}");
    assert!(out.contains("crash (may change things or send them out)") && out.contains("14 tools"), "{out}");
    let (code, out, err) = run(home, &echo);
    assert_eq!((code, out.as_str()), (0, "hi\n"), "{err}");
    let (_, out, _) = run(home, &["tool", "list"]);
    assert!(out.contains("notes__echo\n  Says it back.\n"), "{out}");

    // With the network off no server runs; what they may contact is listed.
    let (code, _, err) = run(home, &[&["--offline"][..], &echo].concat());
    assert!(code == 2 && err.contains("the network is off"), "{err}");
    assert_eq!(run(home, &["--offline", "tool", "approve", "notes"]).0, 2);
    let (_, out, _) = run(home, &["doctor", "--network"]);
    assert!(out.contains("MCP server notes, the program python3"), "{out}");

    // What it says changes: found when it is started, and kept.
    std::fs::write(place.path().join("changed"), "").unwrap();
    let (code, _, err) = run(home, &echo);
    assert_eq!(code, 1);
    assert!(
        err.contains("it changed since it was approved (\"echo\" changed)") && err.contains(approve),
        "{err}"
    );
    let (_, out, _) = run(home, &["tool", "list"]);
    assert!(out.contains("notes (not registered)") && !out.contains("mails it"), "{out}");
    let (_, out, _) = run(home, &["tool", "approve", "notes"]);
    assert!(out.contains("echo [changed]") && out.contains("and mails it"), "{out}");
    assert_eq!(run(home, &echo).1, "hi\n");

    // How it is started changes.
    configure(home, &place.settings("stubborn"));
    let (_, _, err) = run(home, &echo);
    assert!(err.contains("its command, address, environment or choice") && err.contains(approve), "{err}");
    let (code, _, err) = run(home, &["tool", "approve", "other"]);
    assert!(code == 2 && err.contains("servers in the settings: notes"), "{err}");
}

#[test]
fn a_program_that_is_no_server_is_named_with_its_words() {
    let home = tempfile::tempdir().unwrap();
    for (command, part) in [
        (vec!["no-such-program-at-all"], "no-such-program-at-all does not start"),
        (
            vec!["python3", "-c", "import sys; sys.exit('bad option')"],
            "exit code 1; its last words: bad option",
        ),
    ] {
        let command: Vec<String> = command.into_iter().map(String::from).collect();
        configure(home.path(), &Mcp { command, ..Mcp::default() });
        let (code, _, err) = run(home.path(), &["tool", "approve", "notes"]);
        assert_eq!(code, 1);
        assert!(err.contains(part) && err.contains("nothing was approved"), "{err}");
    }
}

#[tokio::test]
async fn calls_give_text_errors_and_refusals() {
    let place = Place::new();
    let toolbox = approved(&place, &place.settings("plain")).await;
    let result = echo(&toolbox, "grüße").await;
    assert_eq!((result.text.as_str(), result.fault), ("grüße", None));
    assert_eq!(result.sources, ["mcp:notes/echo"]);
    let result = call(&toolbox, "fail", json!({})).await;
    assert_eq!((result.text.as_str(), result.fault), ("it cannot be done", Some(ToolFault::Failed)));
    assert_eq!(call(&toolbox, "echo", json!({})).await.fault, Some(ToolFault::BadArguments));
    assert_eq!(call(&toolbox, "garble", json!({})).await.text, "still here");
    let result = call(&toolbox, "slow", json!({})).await;
    assert_eq!((result.fault, result.text.contains("not known here")), (Some(ToolFault::Failed), true));
}

#[tokio::test]
async fn a_hang_ends_at_the_limit_and_the_next_call_works() {
    let place = Place::new();
    let settings = Mcp { call_s: 1, ..place.settings("plain") };
    let toolbox = approved(&place, &settings).await;
    let result = call(&toolbox, "hang", json!({})).await;
    assert_eq!(result.fault, Some(ToolFault::Limit), "{}", result.text);
    assert!(result.text.contains("within 1 s"), "{}", result.text);
    let hung = place.pid().unwrap();
    wait("the server that hangs is ended", || !alive(hung));
    let patient = Mcp { call_s: 30, ..settings };
    assert_eq!(echo(&approved(&place, &patient).await, "again").await.text, "again");
}

/// Answers that nobody reads would pile up in memory, hundreds of megabytes in a second.
#[tokio::test]
async fn a_server_that_asks_without_end_is_let_go() {
    let place = Place::new();
    let toolbox = approved(&place, &Mcp { call_s: 600, ..place.settings("plain") }).await;
    let result = call(&toolbox, "flood", json!({})).await;
    assert_eq!(result.fault, Some(ToolFault::Failed), "{}", result.text);
    assert!(result.text.contains("more questions than can be answered"), "{}", result.text);
    let flooding = place.pid().unwrap();
    wait("the server that asks is ended", || !alive(flooding));
    assert_eq!(echo(&toolbox, "again").await.text, "again");
}

#[tokio::test]
async fn a_cancel_does_not_wait_for_the_server_and_tells_it() {
    let place = Place::new();
    let toolbox = approved(&place, &place.settings("plain")).await;
    let notified = || std::fs::read_to_string(place.path().join("notified")).unwrap_or_default();
    let context = ToolContext::default();
    let (cancel, waiting) = (context.cancel.clone(), place.path().join("waiting"));
    let cancelled = tokio::task::spawn_blocking(move || {
        wait("the call reaches the server", || waiting.exists());
        cancel.cancel();
    });
    let result = toolbox.run("notes__wait", &json!({}), &context).await;
    assert_eq!(result.fault, Some(ToolFault::Cancelled));
    cancelled.await.unwrap();
    let began = Instant::now();
    while !notified().contains("notifications/cancelled") {
        assert!(began.elapsed() < Duration::from_secs(60), "the server was not told: {}", notified());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(echo(&toolbox, "next").await.text, "next");
}

#[tokio::test]
async fn what_a_server_let_loose_does_not_hide_its_end() {
    let place = Place::new();
    let toolbox = approved(&place, &place.settings("plain")).await;
    let orphan = call(&toolbox, "orphan", json!({})).await.text;
    let result = call(&toolbox, "crash", json!({})).await;
    // It holds the server's stderr open, and is not this program's to end.
    assert!(alive(orphan.parse().unwrap()));
    assert!(std::process::Command::new("kill").args(["-9", &orphan]).status().unwrap().success());
    assert!(
        result.text.contains("exit code 3") && result.text.contains("the disk is on fire"),
        "{}",
        result.text
    );
}

#[tokio::test]
async fn a_server_that_lists_nothing_is_started_slower_and_slower() {
    let place = Place::new();
    let toolbox = approved(&place, &place.settings("plain")).await;
    std::fs::write(place.path().join("unlisted"), "").unwrap();
    let mut told = Vec::new();
    for _ in 0..6 {
        told.push(echo(&toolbox, "x").await.text);
    }
    assert!(told[0].contains("not known here"), "{told:?}");
    assert!(told.iter().any(|text| text.contains("is started again in")), "{told:?}");
}

#[tokio::test]
async fn a_crash_is_told_and_starts_come_slower_and_slower() {
    let place = Place::new();
    let toolbox = approved(&place, &place.settings("plain")).await;
    assert_eq!(echo(&toolbox, "one").await.text, "one");
    let first = place.pid();
    let result = call(&toolbox, "crash", json!({})).await;
    assert_eq!(result.fault, Some(ToolFault::Failed));
    assert!(
        result.text.contains("exit code 3") && result.text.contains("the disk is on fire"),
        "{}",
        result.text
    );
    assert_eq!(echo(&toolbox, "two").await.text, "two", "after one death it starts at once");
    assert_ne!(place.pid(), first);
    for _ in 0..2 {
        let _ = call(&toolbox, "crash", json!({})).await;
    }
    let result = echo(&toolbox, "three").await;
    assert!(result.text.contains("is started again in"), "{}", result.text);
}

#[tokio::test]
async fn too_long_and_too_deep_answers_end_the_server_not_the_program() {
    let place = Place::new();
    let toolbox = approved(&place, &place.settings("plain")).await;
    let result = call(&toolbox, "big", json!({})).await;
    assert!(result.text.contains("more than 4 MiB") && result.fault.is_some(), "{:.200}", result.text);
    let place = Place::new();
    let toolbox = approved(&place, &place.settings("plain")).await;
    let result = call(&toolbox, "deep", json!({})).await;
    assert!(result.text.contains("nested deeper than 64") && result.fault.is_some(), "{:.200}", result.text);
    assert_eq!(echo(&toolbox, "next").await.text, "next");
}

#[tokio::test]
async fn lists_that_are_too_long_and_servers_that_never_answer_are_refused() {
    let place = Place::new();
    let many = place.settings("many");
    let why = inspect(&many, Path::new(EXE)).await.unwrap_err();
    assert!(why.contains("lists 200 tools, at most 64") && why.contains("`tools`"), "{why}");
    let some = Mcp { tools: vec!["t7".into(), "t199".into()], ..many };
    assert_eq!(approved(&place, &some).await.names(), ["notes__t7", "notes__t199"]);
    let deaf = Mcp { start_s: 1, ..place.settings("deaf") };
    assert!(inspect(&deaf, Path::new(EXE)).await.unwrap_err().contains("not ready within 1 s"));
    let pid = place.pid().unwrap();
    wait("the deaf server is ended", || !alive(pid));
}

#[tokio::test]
async fn words_of_a_server_are_cleaned_before_anybody_reads_them() {
    let place = Place::new();
    let toolbox = approved(&place, &place.settings("evil")).await;
    assert_eq!(toolbox.names(), ["notes__read"]);
    let purpose = &toolbox.tools[0].card().purpose;
    assert!(purpose.chars().count() <= 300 && !purpose.contains(['\u{1b}', '\u{202e}', '\n']), "{purpose}");
    assert!(!purpose.contains("QUFB"), "{purpose}");
    let refused: Vec<&str> = toolbox.refused.iter().map(|refused| refused.reason.as_str()).collect();
    assert!(
        refused[0].contains("only a-z") && refused[1].contains("can be taken for notes__read"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_change_while_it_runs_ends_its_use() {
    let place = Place::new();
    let settings = place.settings("plain");
    let toolbox = approved(&place, &settings).await;
    assert_eq!(call(&toolbox, "mutate", json!({})).await.text, "done");
    // The notice and the answer come over one pipe, the notice first.
    let result = echo(&toolbox, "x").await;
    assert!(result.text.contains("it changed since it was approved"), "{}", result.text);
    assert!(self::toolbox(&place, &settings).refused[0].reason.contains("\"echo\" changed"));
}

#[tokio::test]
async fn the_environment_holds_what_is_named_and_nothing_else() {
    let place = Place::new();
    // Set by cargo for every test.
    let named = Mcp { env: vec!["CARGO_MANIFEST_DIR".into()], ..place.settings("plain") };
    let toolbox = approved(&place, &named).await;
    let seen = call(&toolbox, "environment", json!({})).await.text;
    assert!(seen.contains("CARGO_MANIFEST_DIR") && seen.contains("PATH"), "{seen}");
    for other in ["CARGO_PKG_NAME", "CARGO ", "TILLERMAN_HOME"] {
        assert!(!format!("{seen} ").contains(other), "{seen}");
    }
}

#[tokio::test]
async fn nothing_of_a_server_is_left_when_it_is_let_go() {
    let place = Place::new();
    let toolbox = approved(&place, &place.settings("stubborn")).await;
    let grandchild: u32 = call(&toolbox, "grandchild", json!({})).await.text.parse().unwrap();
    let server = place.pid().unwrap();
    assert!(alive(server) && alive(grandchild));
    drop(toolbox);
    wait("server and grandchild are gone", || !alive(server) && !alive(grandchild));
}

#[test]
fn a_server_dies_with_the_program_however_that_dies() {
    let (home, place) = (tempfile::tempdir().unwrap(), Place::new());
    configure(home.path(), &place.settings("stubborn"));
    assert_eq!(run(home.path(), &["tool", "approve", "notes"]).0, 0);
    std::fs::remove_file(place.path().join("pid")).unwrap();
    let mut program = std::process::Command::new(EXE)
        .env("TILLERMAN_HOME", home.path())
        .args(["tool", "run", "notes__hang", "{}"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait("the server runs", || place.pid().is_some());
    let server = place.pid().unwrap();
    program.kill().unwrap();
    program.wait().unwrap();
    wait("the server is gone", || !alive(server));
}

/// An HTTP server of the script, ended when dropped.
struct Http {
    child: Child,
    url: String,
}

impl Http {
    fn start(place: &Place, mode: &str) -> Http {
        let mut child = std::process::Command::new("python3")
            .arg(script())
            .arg(place.path())
            .args([mode, "--http"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Http { child, url: format!("http://127.0.0.1:{}/mcp", port.trim()) }
    }

    fn settings(&self) -> Mcp {
        Mcp { url: self.url.clone(), call_s: 30, ..Mcp::default() }
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn servers_over_http_keep_the_same_limits() {
    for mode in ["plain", "stream"] {
        let place = Place::new();
        let server = Http::start(&place, mode);
        let toolbox = approved(&place, &server.settings()).await;
        assert_eq!(echo(&toolbox, "hi").await.text, "hi", "{mode}");
        let result = call(&toolbox, "big", json!({})).await;
        assert_eq!(result.fault, Some(ToolFault::Failed), "{mode}: {:.200}", result.text);
        let result = call(&toolbox, "deep", json!({})).await;
        assert_eq!(result.fault, Some(ToolFault::Failed), "{mode}: {:.200}", result.text);
        assert_eq!(echo(&toolbox, "next").await.text, "next", "{mode}");
        std::fs::write(place.path().join("changed"), "").unwrap();
        let again = self::toolbox(&place, &server.settings());
        assert!(echo(&again, "x").await.text.contains("it changed since it was approved"), "{mode}");
    }
}

#[tokio::test]
async fn a_key_opens_a_server_and_a_redirect_is_not_followed() {
    let place = Place::new();
    let server = Http::start(&place, "keyed");
    let path = place.path().join("key");
    std::fs::write(&path, "sk-hush-0123456789").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let keyed = Mcp { key_file: path, ..server.settings() };
    assert_eq!(echo(&approved(&place, &keyed).await, "in").await.text, "in");
    let pinned = std::fs::read_to_string(Pin::path(place.path(), "notes")).unwrap();
    assert!(!pinned.contains("hush"));
    // Over http it goes no further than this machine, as far as an address tells.
    let away = Mcp { url: server.url.replace("127.0.0.1", "0.0.0.0"), ..keyed.clone() };
    let why = inspect(&away, Path::new(EXE)).await.unwrap_err();
    assert!(why.contains("set key_over_http = true"), "{why}");
    assert!(inspect(&Mcp { key_over_http: true, ..away }, Path::new(EXE)).await.is_ok());
    let why = inspect(&server.settings(), Path::new(EXE)).await.unwrap_err();
    assert!(why.contains("403"), "{why}");
    // What it says back of the key is shown to nobody.
    let echoing = Http::start(&place, "echoing");
    let sending = Mcp { key_file: keyed.key_file.clone(), ..echoing.settings() };
    let why = inspect(&sending, Path::new(EXE)).await.unwrap_err();
    assert!(why.contains("you sent Bearer [redacted held key]") && !why.contains("hush"), "{why}");
    let elsewhere = Http::start(&place, "elsewhere");
    let why = inspect(&elsewhere.settings(), Path::new(EXE)).await.unwrap_err();
    assert!(why.contains("307") || why.to_lowercase().contains("redirect"), "{why}");
}

/// The reference servers of the protocol's authors, from the npm registry. Run it with
/// `cargo test --release --test mcp -- --ignored real`; it needs npx and the network.
#[tokio::test]
#[ignore = "needs npx and the network"]
async fn real_servers_of_a_registry_work() {
    let place = Place::new();
    std::fs::write(place.path().join("pets.txt"), "The parrot is called Kiki.\n").unwrap();
    let npx = |package: &str, argument: Option<&Path>| {
        let mut command = vec!["npx".to_string(), "-y".into(), format!("@modelcontextprotocol/{package}")];
        command.extend(argument.map(|path| path.to_string_lossy().into_owned()));
        Mcp { command, start_s: 600, ..Mcp::default() }
    };
    let files = approved(&place, &npx("server-filesystem", Some(place.path()))).await;
    assert!(files.refused.is_empty() && files.tools.len() >= 10, "{:?}", files.refused);
    let path = place.path().join("pets.txt");
    let result = call(&files, "read_text_file", json!({"path": path})).await;
    assert_eq!((result.text.trim_end(), result.fault), ("The parrot is called Kiki.", None));
    let result = call(&files, "read_text_file", json!({"path": "/etc/passwd"})).await;
    assert_eq!(result.fault, Some(ToolFault::Failed));
    let every = approved(&place, &npx("server-everything", None)).await;
    assert!(every.refused.is_empty(), "{:?}", every.refused);
    let result = call(&every, "get-sum", json!({"a": 2, "b": 40})).await;
    assert!(result.text.contains("42"), "{}", result.text);
}
