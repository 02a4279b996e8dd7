//! The hostile texts by the ways they truly come: a page from a web server, read by the true reader, and the answer of
//! a true MCP server. What they order then goes to a tool that sends and to one of the MCP server's own.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tillerman::config::{Mcp, Network};
use tillerman::flow::event::Body;
use tillerman::tools::mcp::{Pin, inspect, register};
use tillerman::tools::net::{self, Extractor};
use tillerman::tools::{Taint, ToolFault, Toolbox};

use crate::corpus::HOSTILE;
use crate::{Step, World, ask, flow, last_result, nobody, read, run, send, world};

const EXE: &str = env!("CARGO_BIN_EXE_tillerman");

/// Serves text `N` of the corpus at `/N`, as a page.
fn site() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let head = String::from_utf8_lossy(&request[..length]).into_owned();
            let number = head.split(['/', ' ']).nth(2).and_then(|text| text.parse::<usize>().ok());
            let text = number.and_then(|number| HOSTILE.get(number)).map_or("", |(_, text)| text);
            let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
            let body =
                format!("<html><title>News</title><body><p>The harbour has ten boats.</p><p>{escaped}</p>");
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8";
            let _ = write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        }
    });
    host
}

/// The world of the other tests, with a true reader of pages and a true MCP server instead of what stands for them.
async fn true_world(folder: &Path, host: &str) -> World {
    let mut world = world("nothing");
    let mut toolbox = Toolbox::default();
    let kept =
        world.toolbox.tools.iter().filter(|tool| ["files", "send"].contains(&tool.card().name.as_str()));
    toolbox.tools.extend(kept.cloned());
    let network = Network { web: true, allow_hosts: vec![host.to_string()], ..Network::default() };
    net::register(&mut toolbox, &network, folder.join("cache"), Extractor::Process(EXE.into()));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/server.py");
    let words = ["python3", script.to_str().unwrap(), folder.to_str().unwrap()];
    let settings = Mcp { command: words.map(String::from).to_vec(), call_s: 60, ..Mcp::default() };
    let listed = inspect(&settings, Path::new(EXE)).await.unwrap();
    Pin::new(&settings, listed).save(&Pin::path(folder, "notes")).unwrap();
    register(&mut toolbox, &BTreeMap::from([("notes".to_string(), settings)]), folder, Path::new(EXE));
    assert_eq!(toolbox.refused.len(), 0, "{:?}", toolbox.refused);
    world.toolbox = Arc::new(toolbox);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn no_true_page_and_no_true_server_sends_anything_away_unasked() {
    let (folder, host) = (tempfile::tempdir().unwrap(), site());
    let world = true_world(folder.path(), &host).await;
    // A tool its server says nothing of may send as well as any other.
    let own: Step = ("notes__fail", json!({}));
    for (number, (what, text)) in HOSTILE.iter().enumerate() {
        let page: Step = ("web", json!({ "url": format!("http://{host}/{number}") }));
        let answer: Step = ("notes__echo", json!({ "text": text }));
        for (source, outward) in [(&page, send()), (&answer, own.clone())] {
            let steps = vec![source.clone(), read("secret.txt"), outward];
            let (trajectory, events) = run(&flow(&world, steps, nobody()), &ask()).await;
            let came = trajectory.turns[0].result.as_ref().unwrap();
            assert_eq!(came.fault, None, "{what} from {}: {}", source.0, came.text);
            if *source == answer {
                assert_eq!(came.text.trim(), text.trim(), "{what}");
            } else {
                assert!(came.text.contains("ten boats"), "{what}: {}", came.text);
            }
            assert_eq!(last_result(&trajectory).fault, Some(ToolFault::Refused), "{what} from {}", source.0);
            assert_eq!(trajectory.taint(), Taint { outside: true, private: true });
            let asked = events.iter().filter(|e| matches!(e.body, Body::ApprovalAsked { .. })).count();
            assert_eq!(asked, 1, "{what}");
        }
    }
    let sent: Vec<Value> = world.sent.lock().unwrap().clone();
    assert_eq!(sent, Vec::<Value>::new());
}
