//! A small HTTP server that speaks the chat API as a script says: streams, refusals, silence, cuts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What the server does next.
#[derive(Clone)]
pub enum Step {
    /// A whole answer: status, further header lines, body.
    Json(u16, String, String),
    /// The head of an event stream.
    Head,
    /// One event with this data.
    Event(String),
    /// Bytes of the stream as they are.
    Raw(String),
    /// From here on bytes leave in pieces of this many, each in a chunk of its own.
    PieceBytes(usize),
    /// Keep-alive comments for half a minute, or until the other side hangs up.
    Pings,
    /// Say nothing more until the other side hangs up.
    Hang,
    /// Close the connection now.
    Close,
    /// The stream ends as it should.
    End,
}

type Script = dyn Fn(&Value, &str) -> Vec<Step> + Send + Sync;

/// Serves until dropped. `/v1/models` lists the model `served`; everything else the script answers.
pub struct Server {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    bodies: Arc<Mutex<Vec<Value>>>,
    hung_up: Arc<AtomicUsize>,
}

impl Server {
    /// `script` sees the request's body and head.
    pub fn start(script: impl Fn(&Value, &str) -> Vec<Step> + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server {
            port: listener.local_addr().unwrap().port(),
            heads: Arc::default(),
            bodies: Arc::default(),
            hung_up: Arc::default(),
        };
        let script: Arc<Script> = Arc::new(script);
        let kept = (server.heads.clone(), server.bodies.clone(), server.hung_up.clone());
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (script, (heads, bodies, hung_up)) = (script.clone(), kept.clone());
                std::thread::spawn(move || {
                    let Some((head, body)) = read(&connection) else { return };
                    heads.lock().unwrap().push(head.clone());
                    if head.starts_with("GET /v1/models") {
                        let list = json!({"data": [{"id": "served", "max_model_len": 8192}, {"id": "m", "max_model_len": 4096}]});
                        return play(
                            connection,
                            &[Step::Json(200, String::new(), list.to_string())],
                            &hung_up,
                        );
                    }
                    bodies.lock().unwrap().push(body.clone());
                    play(connection, &script(&body, &head), &hung_up);
                });
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// Heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Bodies of the chat requests so far.
    pub fn bodies(&self) -> Vec<Value> {
        self.bodies.lock().unwrap().clone()
    }

    /// Hanging connections that the other side closed.
    pub fn hung_up(&self) -> usize {
        self.hung_up.load(Ordering::SeqCst)
    }

    pub async fn wait(&self, what: &str, done: impl Fn() -> bool) {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < Duration::from_secs(60), "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn read(connection: &TcpStream) -> Option<(String, Value)> {
    let mut reader = BufReader::new(connection);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

fn play(mut connection: TcpStream, steps: &[Step], hung_up: &AtomicUsize) {
    let mut size = usize::MAX;
    connection.set_nodelay(true).unwrap();
    for step in steps {
        let written = match step {
            Step::PieceBytes(bytes) => {
                size = *bytes;
                Ok(())
            }
            Step::Json(status, more, body) => write!(
                connection,
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n{more}Content-Length: {}\r\n\r\n{body}",
                body.len()
            ),
            Step::Head => write!(
                connection,
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            ),
            Step::Event(data) => chunks(&mut connection, &format!("data: {data}\n\n"), size),
            Step::Raw(text) => chunks(&mut connection, text, size),
            Step::Pings => (0..600).try_for_each(|_| {
                std::thread::sleep(Duration::from_millis(50));
                chunks(&mut connection, ": ping\n\n", size)
            }),
            Step::End => write!(connection, "0\r\n\r\n"),
            Step::Hang => {
                // Returns when the client closes.
                let _ = connection.read(&mut [0; 1]);
                hung_up.fetch_add(1, Ordering::SeqCst);
                return;
            }
            Step::Close => return,
        };
        if written.is_err() {
            return;
        }
    }
}

fn chunks(connection: &mut TcpStream, text: &str, size: usize) -> std::io::Result<()> {
    for piece in text.as_bytes().chunks(size.min(text.len().max(1))) {
        write!(connection, "{:x}\r\n", piece.len())?;
        connection.write_all(piece)?;
        connection.write_all(b"\r\n")?;
        connection.flush()?;
    }
    Ok(())
}

/// One piece of text.
pub fn chunk(text: &str) -> Step {
    Step::Event(json!({"model": "m-1", "choices": [{"index": 0, "delta": {"content": text}}]}).to_string())
}

pub fn done() -> Step {
    Step::Raw("data: [DONE]\n\n".into())
}

/// A whole well-formed stream of these pieces.
pub fn stream(pieces: &[impl AsRef<str>]) -> Vec<Step> {
    let mut steps = vec![Step::Head];
    steps.extend(pieces.iter().map(|piece| chunk(piece.as_ref())));
    steps.push(Step::Event(
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}).to_string(),
    ));
    let usage = json!({"prompt_tokens": 11, "completion_tokens": pieces.len()});
    steps.push(Step::Event(json!({"choices": [], "usage": usage}).to_string()));
    steps.extend([done(), Step::End]);
    steps
}

/// `text` in pieces of a few characters.
pub fn texts(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(5).map(|piece| piece.iter().collect()).collect()
}
