//! For the tests of this module: real servers on this machine, and a resolver that answers from a list.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::resolve::Resolver;

/// Stands for the public internet.
pub const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
/// Stands for the inside, where no page may lead.
pub const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Long enough for a loaded machine; nothing waits that long when it passes.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What is special, but for the one address that stands for the public internet.
pub fn special_but_public(address: IpAddr) -> Option<&'static str> {
    if address == IpAddr::V4(PUBLIC) { None } else { super::address::special(address) }
}

/// Answers a connection given the request read so far (head, and body where one was announced).
pub type Answer = Arc<dyn Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync>;

/// A server that lives as long as its test.
pub struct Server {
    pub address: SocketAddr,
    /// Every request that came, head and body.
    pub requests: Arc<Mutex<Vec<String>>>,
    pub connections: Arc<AtomicUsize>,
}

impl Server {
    /// On any free port.
    pub fn start(ip: Ipv4Addr, answer: Answer) -> Server {
        Server::on(ip, 0, answer).expect("a port")
    }

    /// One in public and one inside, on the same port.
    pub fn twins(answer: &Answer) -> (Server, Server) {
        // What is free on one address may be taken on the other.
        let pair = || {
            let public = Server::start(PUBLIC, answer.clone());
            let inside = Server::on(INSIDE, public.port(), answer.clone()).ok()?;
            Some((public, inside))
        };
        (0..100).find_map(|_| pair()).expect("a port that is free on both")
    }

    fn on(ip: Ipv4Addr, port: u16, answer: Answer) -> io::Result<Server> {
        let listener = TcpListener::bind((ip, port))?;
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let server = Server { address, requests: requests.clone(), connections: connections.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (answer, requests) = (answer.clone(), requests.clone());
                std::thread::spawn(move || serve(stream, &answer, &requests));
            }
        });
        Ok(server)
    }

    /// The same answer to everything: a status line, headers and a body.
    pub fn fixed(status: &str, headers: &str, body: impl Into<Vec<u8>>) -> Server {
        let (head, body) = (format!("HTTP/1.1 {status}\r\n{headers}"), body.into());
        Server::start(
            PUBLIC,
            Arc::new(move |_, stream| {
                write!(stream, "{head}content-length: {}\r\n\r\n", body.len())?;
                stream.write_all(&body)
            }),
        )
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn asked(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, answer: &Answer, requests: &Mutex<Vec<String>>) {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let Some(request) = read_request(&mut stream) else { return };
    requests.lock().expect("requests").push(request.clone());
    let _ = answer(&request, &mut stream);
}

fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some(text.into_owned());
        }
    }
}

/// Gives its answers in their order, the last one for ever, and counts.
pub struct Scripted {
    answers: Vec<Vec<IpAddr>>,
    pub asked: AtomicUsize,
}

impl Scripted {
    pub fn new(answers: &[&[IpAddr]]) -> Arc<Scripted> {
        let answers = answers.iter().map(|answer| answer.to_vec()).collect();
        Arc::new(Scripted { answers, asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Resolver for Scripted {
    async fn resolve(&self, _host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst).min(self.answers.len() - 1);
        Ok(self.answers[number].iter().map(|ip| SocketAddr::new(*ip, port)).collect())
    }
}
