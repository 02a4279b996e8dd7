//! The network tools through the binary: off by default and saying so, a page read by hand, pages meant to hurt.
//!
//! Every server runs on this machine; no test needs the internet.

#[path = "support/program.rs"]
mod program;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use program::{run, tillerman};
use serde_json::{Value, json};

fn web(home: &Path, url: &str, question: &str) -> (i32, String, String) {
    let arguments = json!({"url": url, "question": question}).to_string();
    run(tillerman(home).args(["tool", "run", "web", &arguments]))
}

/// Serves `pages` (path, media type, body) and counts its connections.
struct Site {
    host: String,
    asked: Arc<AtomicUsize>,
}

impl Site {
    fn start(pages: Vec<(&'static str, &'static str, String)>) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let mut request = [0; 4096];
                let length = stream.read(&mut request).unwrap_or(0);
                let head = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let found = pages.iter().find(|page| page.0 == path);
                let (status, kind, body) =
                    found.map_or(("404 Not Found", "text/plain", ""), |page| ("200 OK", page.1, &page.2));
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Site { host, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A data directory whose settings have this [network] section.
fn home(network: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.toml"), format!("[network]\n{network}")).unwrap();
    dir
}

const PAGE: &str = include_str!("../src/tools/net/testing/harbour.html");

#[test]
fn by_default_the_network_is_off_and_says_which_key_turns_it_on() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::start(vec![("/", "text/html", PAGE.into())]);
    let (code, out, err) = web(home.path(), &site.url("/"), "");
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("the network is off") && err.contains("network.web = true in config.toml"), "{err}");
    let (code, out, _) = run(tillerman(home.path()).args(["doctor", "--network"]));
    assert_eq!(code, 0);
    assert!(out.starts_with("none: ") && out.contains("model pull"), "{out}");
    let (_, out, _) = run(tillerman(home.path()).args(["--offline", "doctor", "--network", "--json"]));
    assert_eq!(out, "");
    let pull = ["--offline", "model", "pull", "Qwen/x", "x.gguf"];
    let (code, _, err) = run(tillerman(home.path()).args(pull));
    assert!(code == 2 && err.contains("the network is off"), "{err}");
    let question = format!("What does {} say?", site.url("/"));
    let (_, _, err) = run(tillerman(home.path()).args(["--seed", "1", "ask", &question]));
    assert!(err.contains("the network is off") && err.contains("network.web = true"), "{err}");
    let (_, _, err) = run(tillerman(home.path()).args(["--seed", "1", "ask", "What is 2+3?"]));
    assert!(!err.contains("network"), "{err}");
    assert_eq!(site.asked(), 0);
}

#[test]
fn a_page_is_read_by_hand_kept_and_cited() {
    let site = Site::start(vec![("/harbour", "text/html", PAGE.into())]);
    let home = home(&format!("web = true\nallow_hosts = [\"{}\"]\n", site.host));
    let url = site.url("/harbour");
    let (code, out, err) = web(home.path(), &url, "How tall is the lighthouse?");
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with(&format!("[{url}] The harbour of Aveiro\n")), "{out}");
    assert!(out.contains("62 metres high") && !out.contains("Cookie notice"), "{out}");
    let arguments = json!({"url": url}).to_string();
    let (_, out, _) =
        run(tillerman(home.path()).args(["--offline", "tool", "run", "web", &arguments, "--json"]));
    let result: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(result["sources"], json!([url]));
    assert!(result["text"].as_str().unwrap().contains("kept copy"), "{out}");
    assert_eq!(site.asked(), 1);
    let (code, _, err) = run(tillerman(home.path()).args([
        "--offline",
        "tool",
        "run",
        "web",
        &json!({"url": site.url("/other")}).to_string(),
    ]));
    assert_eq!(code, 1);
    assert!(err.contains("--offline"), "{err}");
    assert_eq!(site.asked(), 1);
    let (_, out, _) = run(tillerman(home.path()).args(["doctor", "--network"]));
    assert!(out.contains("any public host, ports 80 and 443\n") && out.contains("network.web"), "{out}");
    assert!(out.contains(&site.host) && out.contains("network.allow_hosts"), "{out}");
    let (_, out, _) = run(tillerman(home.path()).args(["--offline", "doctor", "--network"]));
    assert!(out.starts_with("none: "), "{out}");
}

#[test]
fn inside_addresses_are_refused_with_the_remedy() {
    let site = Site::start(vec![("/", "text/plain", "inside".into())]);
    let home = home("web = true\n");
    for url in [site.url("/"), site.url("/").replace("127.0.0.1", "0x7f.1"), "http://169.254.169.254/".into()]
    {
        let (code, out, err) = web(home.path(), &url, "");
        assert_eq!((code, out.as_str()), (1, ""), "{url}: {err}");
        assert!(err.contains("which is") && err.contains("network.allow_hosts"), "{url}: {err}");
    }
    assert_eq!(site.asked(), 0);
}

#[test]
fn pages_meant_to_hurt_are_read_or_given_up_but_end() {
    // Each asks a parser for far more than its size: depth, elements made anew for every word, scope walks.
    let distinct: String = (0..3000).map(|n| format!("<b id={n}>")).collect();
    let anew = format!("<p>needle</p><div>{distinct}</div>{}", "<div>x</div>".repeat(100_000));
    let pages = vec![
        ("/deep", "text/html", format!("needle {}end{}", "<div>".repeat(150_000), "</div>".repeat(150_000))),
        ("/open", "text/html", format!("needle {}", "<b><i><a href=x>".repeat(50_000))),
        ("/anew", "text/html", anew),
        ("/flat", "text/html", "<p>needle</p>".repeat(120_000)),
        ("/tables", "text/html", format!("needle {}", "<table><tr><td>cell".repeat(40_000))),
        ("/attributes", "text/html", format!("needle <div {}>x</div>", "a=b ".repeat(200_000))),
        ("/comment", "text/html", format!("needle<!--{}", "-".repeat(500_000))),
        ("/script", "text/html", format!("needle{}", "<script><!--<script>".repeat(40_000))),
        ("/line", "text/plain", format!("needle {}", "x".repeat(1_500_000))),
    ];
    let paths: Vec<&str> = pages.iter().map(|page| page.0).collect();
    let site = Site::start(pages);
    let home = home(&format!("web = true\nallow_hosts = [\"{}\"]\n", site.host));
    for path in paths {
        let (code, out, err) = web(home.path(), &site.url(path), "needle");
        assert_eq!(code, 0, "{path}: {err}");
        assert!(out.contains("needle"), "{path}: {}", out.chars().take(300).collect::<String>());
    }
}
