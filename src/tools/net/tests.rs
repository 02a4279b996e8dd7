//! The network tools as the flow calls them, against real servers on this machine that speak the providers' forms.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::testing::{PUBLIC, Server};
use super::*;
use crate::tools::{ToolContext, ToolFault};

const PAGE: &str = include_str!("testing/harbour.html");

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The tools these settings register.
fn toolbox(settings: &Network, home: &Path) -> Toolbox {
    let mut toolbox = Toolbox::default();
    register(&mut toolbox, settings, home.join("cache"), Extractor::Here);
    toolbox
}

/// A private file that holds a key.
fn key_file(home: &Path, key: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let file = home.join("key");
    std::fs::write(&file, format!("{key}\n")).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    file
}

fn run(toolbox: &Toolbox, name: &str, arguments: Value) -> ToolResult {
    block_on(toolbox.run(name, &arguments, &ToolContext::default()))
}

/// Settings that reach `server` with everything else as it comes.
fn listing(server: &Server) -> Network {
    Network { allow_hosts: vec![server.address.to_string()], ..Network::default() }
}

/// Answers by path: a page, JSON, or nothing.
fn site(pages: Vec<(&'static str, &'static str, String)>) -> Server {
    let answer = move |request: &str, stream: &mut std::net::TcpStream| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        let found = pages.iter().find(|(wanted, _, _)| path.starts_with(wanted));
        match found {
            Some((_, kind, body)) => write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
            None => write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
        }
    };
    Server::start(PUBLIC, Arc::new(answer))
}

#[test]
fn web_reads_the_main_text_and_cites_it() {
    let server = site(vec![("/harbour", "text/html; charset=utf-8", PAGE.into())]);
    let home = tempfile::tempdir().unwrap();
    let tools = toolbox(&Network { web: true, ..listing(&server) }, home.path());
    assert_eq!(tools.names(), ["web"]);
    let url = server.url("/harbour");
    let whole = run(&tools, "web", json!({"url": url}));
    assert_eq!(whole.fault, None, "{}", whole.text);
    assert_eq!(whole.sources, std::slice::from_ref(&url));
    assert!(whole.text.starts_with(&format!("[{url}] The harbour of Aveiro")), "{}", whole.text);
    assert!(whole.text.contains("14 metres") && whole.text.contains("lagoon"), "{}", whole.text);
    for clutter in ["Cookie", "Subscribe", "trackVisitor", "Privacy policy"] {
        assert!(!whole.text.contains(clutter), "{clutter} in {}", whole.text);
    }
    let asked = run(&tools, "web", json!({"url": url, "question": "Which lighthouse is the tallest?"}));
    let first = asked.text.lines().nth(1).unwrap_or_default();
    assert!(first.contains("lighthouse") && first.contains("62 metres"), "{}", asked.text);
    assert!(asked.text.contains("kept copy"), "{}", asked.text);
    assert_eq!(server.asked(), 1, "the second reading comes from the kept copy");
}

#[test]
fn web_reads_plain_text_and_says_what_it_cannot_read() {
    let scripted = "<html><body><script>draw()</script></body></html>".to_owned();
    let server = site(vec![
        ("/notes.txt", "text/plain", "First line.\n\n\nSecond   line.".into()),
        ("/data.json", "application/json", "{\"depth\": 14}".into()),
        ("/empty", "text/html", scripted),
        ("/a.pdf", "application/pdf", "%PDF-1.7".into()),
    ]);
    let home = tempfile::tempdir().unwrap();
    let tools = toolbox(&Network { web: true, ..listing(&server) }, home.path());
    let text = |path: &str| run(&tools, "web", json!({"url": server.url(path)})).text;
    assert!(text("/notes.txt").ends_with("\nFirst line.\nSecond line."), "{}", text("/notes.txt"));
    assert!(text("/data.json").ends_with("{\"depth\": 14}"));
    for (path, fault, part) in [
        ("/empty", ToolFault::Failed, "holds no text"),
        ("/a.pdf", ToolFault::Failed, "is application/pdf, not text"),
        ("/missing", ToolFault::Failed, "no such page"),
    ] {
        let result = run(&tools, "web", json!({"url": server.url(path)}));
        assert!(result.fault == Some(fault) && result.text.contains(part), "{path}: {}", result.text);
    }
    for url in ["http://127.0.0.1:1/", "http://169.254.169.254/", "http://localhost/", "ftp://example.org/"] {
        let result = run(&tools, "web", json!({"url": url}));
        assert!(result.fault.is_some() && result.sources.is_empty(), "{url}: {}", result.text);
    }
}

fn articles() -> Server {
    let intro = |title: &str, index: u32, text: &str| {
        let url = format!("https://en.wikipedia.org/wiki/{}", title.replace(' ', "_"));
        json!({"pageid": index, "title": title, "index": index, "fullurl": url, "extract": text})
    };
    let found = json!({"query": {"pages": [
        intro("Lake Poopó", 2, "Lake Poopó was a saline lake."),
        intro("Lake Titicaca", 1, "Lake Titicaca is a large lake.\nIt lies in the Andes."),
    ]}});
    let whole = json!({"query": {"pages": [{"title": "Lake Titicaca", "extract":
        "Lake Titicaca is a large lake.\n\n\n== Depth ==\n\nThe greatest depth is 281 metres.\n\n\n== Fish ==\n\nTrout were introduced in 1940. ".to_owned() + &"More about fish. ".repeat(100)
    }]}});
    let failed = json!({"error": {"code": "x", "info": "the search is too busy"}});
    Server::start(
        PUBLIC,
        Arc::new(move |request, stream| {
            let line = request.lines().next().unwrap_or_default();
            let body = match () {
                () if line.contains("gsrsearch=busy") => failed.to_string(),
                () if line.contains("gsrsearch=nothing") => json!({"batchcomplete": true}).to_string(),
                () if line.contains("generator=search") => found.to_string(),
                () => whole.to_string(),
            };
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        }),
    )
}

#[test]
fn wikipedia_gives_openings_and_answers_questions_from_the_best_article() {
    let server = articles();
    let home = tempfile::tempdir().unwrap();
    let settings = Network { wikipedia: true, wikipedia_url: server.url("/w/api.php"), ..listing(&server) };
    let tools = toolbox(&settings, home.path());
    let openings = run(&tools, "wikipedia", json!({"query": "Lake Titicaca & Poopó"}));
    let expected = "[https://en.wikipedia.org/wiki/Lake_Titicaca] Lake Titicaca\nLake Titicaca is a large lake. It lies in the Andes.\n\n[https://en.wikipedia.org/wiki/Lake_Poopó] Lake Poopó\nLake Poopó was a saline lake.";
    assert_eq!(openings.text, expected);
    assert_eq!(openings.sources.len(), 2);
    let request = server.requests.lock().unwrap()[0].clone();
    assert!(request.starts_with("GET /w/api.php?action=query&format=json"), "{request}");
    assert!(request.contains("gsrsearch=Lake+Titicaca+%26+Poop%C3%B3&gsrlimit=2"), "{request}");

    let depth = run(&tools, "wikipedia", json!({"query": "Lake Titicaca", "question": "greatest depth?"}));
    assert!(
        depth.text.starts_with("[https://en.wikipedia.org/wiki/Lake_Titicaca] Lake Titicaca"),
        "{}",
        depth.text
    );
    assert!(depth.text.contains("281 metres"), "{}", depth.text);
    assert_eq!(depth.sources, ["https://en.wikipedia.org/wiki/Lake_Titicaca"]);
    assert_eq!(run(&tools, "wikipedia", json!({"query": "nothing"})).text, "No article matches.");
    let busy = run(&tools, "wikipedia", json!({"query": "busy"}));
    assert!(busy.fault.is_some() && busy.text.contains("too busy"), "{}", busy.text);
    let empty = run(&tools, "wikipedia", json!({"query": ""}));
    assert_eq!(empty.fault, Some(ToolFault::BadArguments));
}

/// A provider's answer to a search, and the request it saw.
fn search(provider: SearchProvider, answer: Value) -> (ToolResult, String) {
    let server = Server::fixed("200 OK", "content-type: application/json\r\n", answer.to_string());
    let home = tempfile::tempdir().unwrap();
    let search_key_file = key_file(home.path(), "test-key");
    let settings =
        Network { search: provider, search_url: server.url(""), search_key_file, ..listing(&server) };
    let tools = toolbox(&settings, home.path());
    assert_eq!(tools.refused, []);
    let result = run(&tools, "web_search", json!({"query": "depth of Aveiro?", "limit": 2}));
    // Whatever is kept on disk holds no key.
    for entry in std::fs::read_dir(home.path().join("cache")).into_iter().flatten().flatten() {
        let kept = std::fs::read_to_string(entry.path()).unwrap();
        assert!(!kept.contains("test-key"), "{kept}");
    }
    let request = server.requests.lock().unwrap()[0].clone();
    (result, request)
}

#[test]
fn three_providers_are_asked_in_their_own_form() {
    let entry = |n: u32, snippet: &str| json!({"title": format!("Title\n{n}"), "url": format!("https://example.org/{n}"), snippet: format!("Snippet {n}.")});
    let three = |snippet: &str| json!([entry(1, snippet), {"title": "no address"}, entry(2, snippet), entry(3, snippet)]);
    let expected =
        "[https://example.org/1] Title 1\nSnippet 1.\n\n[https://example.org/2] Title 2\nSnippet 2.";

    let (result, request) =
        search(SearchProvider::Searxng, json!({"results": [entry(1, "content"), entry(2, "content")]}));
    assert_eq!((result.text.as_str(), result.sources.len()), (expected, 2));
    assert!(request.starts_with("GET /search?q=depth+of+Aveiro%3F&format=json "), "{request}");

    let (result, request) = search(SearchProvider::Brave, json!({"web": {"results": three("description")}}));
    assert!(result.text.starts_with("[https://example.org/1] Title 1\nSnippet 1."), "{}", result.text);
    let (line, head) = request.split_once("\r\n").unwrap();
    assert!(line.starts_with("GET /res/v1/web/search?q=depth+of+Aveiro%3F&count=2"), "{line}");
    assert!(!line.contains("test-key") && head.contains("x-subscription-token: test-key"), "{head}");

    let (result, request) = search(SearchProvider::Tavily, json!({"results": three("content")}));
    assert!(result.text.starts_with("[https://example.org/1] Title 1\nSnippet 1."), "{}", result.text);
    assert!(request.starts_with("POST /search "), "{request}");
    assert!(request.contains("authorization: Bearer test-key"), "{request}");
    assert!(request.ends_with("{\"query\":\"depth of Aveiro?\",\"max_results\":2}"), "{request}");
    assert_eq!(search(SearchProvider::Brave, json!({"type": "search"})).0.text, "Nothing was found.");
}

#[test]
fn a_providers_refusal_names_what_the_user_can_do() {
    let check = |provider: SearchProvider, status: &str, body: &str, part: &str| {
        let server = Server::fixed(status, "content-type: application/json\r\n", body);
        let home = tempfile::tempdir().unwrap();
        let search_key_file = key_file(home.path(), "test-key");
        let settings =
            Network { search: provider, search_url: server.url("/"), search_key_file, ..listing(&server) };
        let tools = toolbox(&settings, home.path());
        let result = run(&tools, "web_search", json!({"query": "x"}));
        assert!(
            result.fault.is_some() && result.text.contains(part),
            "{provider:?} {status}: {}",
            result.text
        );
        assert!(!result.text.contains("test-key"), "{}", result.text);
    };
    check(SearchProvider::Searxng, "403 Forbidden", "", "search.formats");
    check(
        SearchProvider::Brave,
        "401 Unauthorized",
        "test-key",
        "check BRAVE_API_KEY or network.search_key_file",
    );
    check(SearchProvider::Tavily, "429 Slow down", "", "limit");
    check(SearchProvider::Brave, "500 Oops", "", "try later");
    check(SearchProvider::Searxng, "200 OK", "<html>", "no JSON");
    check(SearchProvider::Searxng, "200 OK", "{\"answers\": 1}", "check network.search_url");
    check(SearchProvider::Tavily, "302 Found", "", "answered 302");
}

#[test]
fn nothing_is_there_until_it_is_switched_on() {
    let home = tempfile::tempdir().unwrap();
    let defaults = toolbox(&Network::default(), home.path());
    assert!(defaults.tools.is_empty() && defaults.refused.is_empty());
    assert!(!home.path().join("cache").exists());
    for (name, key) in
        [("web", "network.web"), ("wikipedia", "network.wikipedia"), ("web_search", "network.search")]
    {
        let off = switched_off(name).unwrap();
        assert!(off.reason.contains("the network is off") && off.remedy.contains(key), "{off:?}");
    }
    assert_eq!(switched_off("calculator"), None);
    let all = Network { web: true, wikipedia: true, search: SearchProvider::Brave, ..Network::default() };
    let missing = Network { search_key_file: PathBuf::from("/no/such/key"), ..all.clone() };
    let keyless = toolbox(&missing, home.path());
    assert_eq!(keyless.names(), ["wikipedia", "web"]);
    let refused = &keyless.refused[0];
    assert!(
        refused.reason.contains("/no/such/key") && refused.remedy.contains("BRAVE_API_KEY"),
        "{refused:?}"
    );
    let searxng = Network { search: SearchProvider::Searxng, ..Network::default() };
    assert!(toolbox(&searxng, home.path()).refused[0].remedy.contains("network.search_url"));
    let all = toolbox(&Network { search_key_file: key_file(home.path(), "k"), ..all }, home.path());
    assert_eq!(all.names(), ["web_search", "wikipedia", "web"]);
    for tool in all.tools {
        let effects = tool.effects(&json!({}));
        assert!(effects.brings_outside_text && effects.acts_outward && !effects.reads_private);
        assert!(tool.card().examples.len() >= 2);
        for example in &tool.card().examples {
            assert_eq!(crate::tools::schema::check(&tool.card().schema, &example.arguments), Ok(()));
        }
    }
}

#[test]
fn offline_says_so_at_once_and_gives_kept_copies() {
    let server = site(vec![("/harbour", "text/html", PAGE.into())]);
    let home = tempfile::tempdir().unwrap();
    let on = Network { web: true, ..listing(&server) };
    let off = Network { offline: true, ..on.clone() };
    let asked = json!({"url": server.url("/harbour")});
    let refused = run(&toolbox(&off, home.path()), "web", asked.clone());
    assert!(refused.fault.is_some() && refused.text.contains("network.offline"), "{}", refused.text);
    assert_eq!(server.asked(), 0);
    assert_eq!(run(&toolbox(&on, home.path()), "web", asked.clone()).fault, None);
    let kept = run(&toolbox(&off, home.path()), "web", asked);
    assert!(kept.fault.is_none() && kept.text.contains("kept copy"), "{}", kept.text);
    // A copy is no way around the guard: what may not be asked for is not given out.
    let unlisted = Network { allow_hosts: Vec::new(), ..off };
    let result = run(&toolbox(&unlisted, home.path()), "web", json!({"url": server.url("/harbour")}));
    assert!(result.text.contains("network.allow_hosts"), "{}", result.text);
    assert_eq!(server.asked(), 1);
}

#[test]
fn a_cancelled_call_ends() {
    let server = Server::start(
        PUBLIC,
        Arc::new(|_, _| {
            std::thread::sleep(Duration::from_secs(300));
            Ok(())
        }),
    );
    let home = tempfile::tempdir().unwrap();
    let tools = toolbox(&Network { web: true, ..listing(&server) }, home.path());
    let context = ToolContext::default();
    let (stop, asked) = (context.cancel.clone(), server.requests.clone());
    let result = block_on(async {
        tokio::spawn(async move {
            // The request, not the connection: a call that is cut before it asks proves less.
            while asked.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stop.cancel();
        });
        tools.run("web", &json!({"url": server.url("/")}), &context).await
    });
    assert_eq!(result.fault, Some(ToolFault::Cancelled));
}
