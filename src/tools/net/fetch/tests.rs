//! Requests against real servers on this machine: where redirects lead, what names answer, what bodies hold.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::Ordering;

use super::super::testing::{Answer, INSIDE, PATIENCE, PUBLIC, Scripted, Server, special_but_public};
use super::*;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// To this fetcher 127.0.0.1 on `port` is the public internet, and names answer as scripted.
fn fetcher(port: u16, answers: &[&[IpAddr]]) -> Fetcher {
    let guard = Guard::new(&[]).for_test(Scripted::new(answers), port, special_but_public);
    patient(guard)
}

/// The clock of the program would end what a loaded machine only delays.
fn patient(guard: Guard) -> Fetcher {
    Fetcher::new(guard).with_limits(FetchLimits { total: PATIENCE, ..FetchLimits::default() })
}

fn fetch(fetcher: &Fetcher, url: &str) -> Result<Page, NetFault> {
    let ask = Ask { url: url.to_owned(), accept: "text/html", ..Ask::default() };
    block_on(fetcher.fetch(&ask, &CancellationToken::new()))
}

fn here() -> Vec<IpAddr> {
    vec![IpAddr::V4(PUBLIC)]
}

/// Redirects to whatever its path says after `/to/`, and serves a page elsewhere.
fn redirector() -> Answer {
    Arc::new(|request, stream| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        match path.strip_prefix("/to/") {
            Some(location) => {
                write!(stream, "HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
            }
            None => {
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\npage")
            }
        }
    })
}

#[test]
fn a_request_says_little_and_reads_a_page() {
    let headers = "content-type: Text/HTML; charset=utf-8\r\nset-cookie: a=b\r\n";
    let server = Server::fixed("200 OK", headers, "<p>früh</p>");
    let page = fetch(&fetcher(server.port(), &[&here()]), &server.url("/x?q=1#part")).unwrap();
    assert_eq!((page.kind.as_str(), page.text.as_str()), ("text/html", "<p>früh</p>"));
    assert_eq!(page.url, server.url("/x?q=1"));
    let request = server.requests.lock().unwrap()[0].to_lowercase();
    assert!(request.starts_with("get /x?q=1 http/1.1\r\n"), "{request}");
    let names: Vec<&str> = request.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["accept", "accept-encoding", "host", "user-agent"], "{request}");
}

#[test]
fn a_chain_of_redirects_never_reaches_inside() {
    let trap = Server::start(INSIDE, redirector());
    let server = Server::start(PUBLIC, redirector());
    let fetcher = fetcher(server.port(), &[&here()]);
    let to = |location: &str| fetch(&fetcher, &server.url(&format!("/to/{location}")));
    assert_eq!(to("/page").unwrap().text, "page");
    assert_eq!(to(&format!("/to/http://site.example:{}/page", server.port())).unwrap().text, "page");
    let inside = trap.url("/");
    for location in [
        inside.clone(),
        format!("/to/{inside}"),
        format!("/to//to//to/{inside}"),
        format!("//{}/", trap.address),
        format!("http://0x7f000002:{}/", trap.port()),
        format!("http://2130706434:{}/", trap.port()),
        format!("http://127.2:{}/", trap.port()),
        "http://169.254.169.254/latest/meta-data/".into(),
        "http://[::ffff:127.0.0.2]/".into(),
        "http://[::1]/".into(),
        "http://localhost/".into(),
        "https://10.0.0.1/".into(),
        "http://user:pw@example.org/".into(),
        "file:///etc/passwd".into(),
        "gopher://127.0.0.2/".into(),
        "http://".into(),
    ] {
        let fault = to(&location).expect_err(&location);
        let refused = matches!(
            fault,
            NetFault::Address { .. }
                | NetFault::LocalName { .. }
                | NetFault::Scheme { .. }
                | NetFault::Userinfo { .. }
                | NetFault::BadUrl { .. }
        );
        assert!(refused, "{location}: {fault}");
    }
    assert_eq!(trap.asked(), 0, "the inside was contacted");
}

#[test]
fn redirects_end() {
    let server = Server::start(PUBLIC, redirector());
    let fetcher = fetcher(server.port(), &[&here()]);
    let nested = |count: usize| server.url(&format!("{}/page", "/to/".repeat(count)));
    assert_eq!(fetch(&fetcher, &nested(5)).unwrap().text, "page");
    let fault = fetch(&fetcher, &nested(6)).unwrap_err();
    assert!(matches!(fault, NetFault::Redirects { most: 5, .. }), "{fault}");
    let looping = Server::fixed("301 Moved", "location: /\r\n", "");
    let fetcher = self::fetcher(looping.port(), &[&here()]);
    assert!(matches!(fetch(&fetcher, &looping.url("/")), Err(NetFault::Redirects { .. })));
    assert_eq!(looping.asked(), 6);
}

#[test]
fn an_answer_that_changes_between_check_and_use_changes_nothing() {
    // The same port inside: what would be dialled, were the name asked for again.
    let (server, trap) = Server::twins(&redirector());
    let inside = [IpAddr::V4(INSIDE)];
    let answers: [&[IpAddr]; 2] = [&here(), &inside];
    let resolver = Scripted::new(&answers);
    let guard = Guard::new(&[]).for_test(resolver.clone(), server.port(), special_but_public);
    let fetcher = patient(guard);
    let url = format!("http://rebind.example:{}/page", server.port());
    assert_eq!(fetch(&fetcher, &url).unwrap().text, "page");
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1, "a name is asked for once");
    // From now on the name leads inside, and is refused.
    assert!(matches!(fetch(&fetcher, &url), Err(NetFault::Address { .. })));
    // Also when the second look-up is a redirect's.
    let resolver = Scripted::new(&answers);
    let guard = Guard::new(&[]).for_test(resolver.clone(), server.port(), special_but_public);
    let url = format!("http://rebind.example:{}/to/http://rebind.example:{}/", server.port(), server.port());
    assert!(matches!(fetch(&patient(guard), &url), Err(NetFault::Address { .. })));
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 2);
    assert_eq!(trap.asked(), 0, "the inside was contacted");
}

#[test]
fn keys_and_bodies_go_to_one_host_and_no_further() {
    let server = Server::start(PUBLIC, redirector());
    let trap = Server::start(PUBLIC, redirector());
    let listed = |server: &Server| patient(Guard::new(&[server.address.to_string()]));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "abc\n").unwrap();
    let key = Key::of("", file.path()).unwrap().unwrap();
    let key = Some(KeyHeader { header: "authorization", prefix: "Bearer ", key });
    let ask = |url: String| Ask { url, accept: "*/*", key: key.clone(), body: Some("{\"q\":1}".into()) };
    let token = CancellationToken::new();
    let page = block_on(listed(&server).fetch(&ask(server.url("/page")), &token)).unwrap();
    assert_eq!(page.text, "page");
    let request = server.requests.lock().unwrap()[0].clone();
    assert!(request.contains("authorization: Bearer abc") && request.ends_with("{\"q\":1}"), "{request}");
    let away = ask(server.url(&format!("/to/{}", trap.url("/page"))));
    let fault = block_on(listed(&server).fetch(&away, &token)).unwrap_err();
    assert!(matches!(fault, NetFault::Redirected { .. }), "{fault}");
    // Over plain http a key goes only to a host the user listed.
    let unlisted = fetcher(server.port(), &[&here()]);
    let fault = block_on(unlisted.fetch(&ask(server.url("/page")), &token)).unwrap_err();
    assert!(matches!(fault, NetFault::KeyInTheOpen { .. }), "{fault}");
    assert_eq!((server.asked(), trap.asked()), (2, 0));
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bodies_are_bounded_however_they_come() {
    let text = "content-type: text/plain\r\n";
    let gzip = "content-type: text/plain\r\ncontent-encoding: gzip\r\n";
    let check = |server: &Server| fetch(&fetcher(server.port(), &[&here()]), &server.url("/"));
    let fits = Server::fixed("200 OK", gzip, packed("drei vier ".repeat(50).as_bytes()));
    assert_eq!(check(&fits).unwrap().text, "drei vier ".repeat(50));
    let bomb = Server::fixed("200 OK", gzip, packed(&vec![b'a'; 64 << 20]));
    let fault = check(&bomb).unwrap_err();
    assert!(matches!(fault, NetFault::Ratio { .. } | NetFault::Size { .. }), "{fault}");
    let brotli = Server::fixed("200 OK", "content-encoding: br\r\n", "x");
    assert!(matches!(check(&brotli), Err(NetFault::Encoding { .. })));
    let large = Server::fixed("200 OK", text, vec![b'a'; (2 << 20) + 1]);
    assert!(matches!(check(&large), Err(NetFault::Size { .. })));
    // Without a length, and without an end.
    let endless = Server::start(
        PUBLIC,
        Arc::new(|_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")?;
            while stream.write_all(&[b'a'; 4096]).is_ok() {}
            Ok(())
        }),
    );
    assert!(matches!(check(&endless), Err(NetFault::Size { .. })));
    let broken = Server::start(
        PUBLIC,
        Arc::new(|_, stream| write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort")),
    );
    assert!(matches!(check(&broken), Err(NetFault::Broken { .. })));
    let picture = Server::fixed("200 OK", "content-type: image/png\r\n", "png");
    assert!(matches!(check(&picture), Err(NetFault::Kind { .. })));
}

#[test]
fn headers_are_bounded_and_statuses_named() {
    let check = |server: &Server| fetch(&fetcher(server.port(), &[&here()]), &server.url("/")).unwrap_err();
    let fat = Server::fixed("200 OK", &format!("x-long: {}\r\n", "a".repeat(70 << 10)), "x");
    assert!(matches!(check(&fat), NetFault::Headers { .. }));
    let endless = Server::start(
        PUBLIC,
        Arc::new(|_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\n")?;
            while stream.write_all(b"x-more: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n").is_ok() {}
            Ok(())
        }),
    );
    assert!(matches!(check(&endless), NetFault::Unreachable { .. } | NetFault::Headers { .. }));
    for (status, part) in [("404 Not Found", "no such page"), ("500 Oops", "try later"), ("403 No", "login")]
    {
        let fault = check(&Server::fixed(status, "", "secret words of the error page")).to_string();
        assert!(fault.contains(part) && !fault.contains("secret words"), "{fault}");
    }
    let noise = Server::start(PUBLIC, Arc::new(|_, stream| stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n")));
    assert!(matches!(check(&noise), NetFault::Unreachable { .. }));
}

/// Sends a byte now and then for ever, and tells when the other side is gone.
fn dripping(gone: std::sync::mpsc::Sender<()>) -> Answer {
    let gone = std::sync::Mutex::new(gone);
    Arc::new(move |_, stream: &mut TcpStream| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 100000\r\n\r\n")?;
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        // A closed connection is read as an end, an open one as a time-out.
        while stream.write_all(b"a").is_ok() && !matches!(stream.read(&mut [0]), Ok(0)) {}
        let _ = gone.lock().unwrap().send(());
        Ok(())
    })
}

#[test]
fn a_slow_body_ends_with_the_clock_and_with_a_cancel() {
    let (tell, gone) = std::sync::mpsc::channel();
    let server = Server::start(PUBLIC, dripping(tell));
    // A clock that ends before the request was sent proves nothing: on a loaded machine it is given more time.
    let ended = [1, 4, 16, 64].into_iter().any(|seconds| {
        let limits = FetchLimits { total: Duration::from_secs(seconds), ..FetchLimits::default() };
        let hasty = fetcher(server.port(), &[&here()]).with_limits(limits);
        let fault = fetch(&hasty, &server.url("/")).unwrap_err();
        assert!(matches!(fault, NetFault::Time { seconds: after, .. } if after == seconds), "{fault}");
        gone.recv_timeout(Duration::from_secs(30)).is_ok()
    });
    assert!(ended, "the connection outlives its request");

    let (tell, gone) = std::sync::mpsc::channel();
    let server = Server::start(PUBLIC, dripping(tell));
    let patient = fetcher(server.port(), &[&here()]);
    let cancel = CancellationToken::new();
    let ask = Ask { url: server.url("/"), accept: "*/*", ..Ask::default() };
    let asked = server.requests.clone();
    let fault = block_on(async {
        let stop = cancel.clone();
        let watch = tokio::spawn(async move {
            // A connection that is cut before its request is read never begins to drip.
            while asked.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stop.cancel();
        });
        let fault = patient.fetch(&ask, &cancel).await.unwrap_err();
        watch.await.unwrap();
        fault
    });
    assert_eq!(fault, NetFault::Cancelled);
    gone.recv_timeout(PATIENCE).expect("the connection ends with the call");
}

#[test]
fn a_host_nobody_answers_for_is_named() {
    // Below what the system hands out: a port that was free a moment ago is soon another test's.
    let port = 1;
    let fault = fetch(&fetcher(port, &[&here()]), &format!("http://127.0.0.1:{port}/")).unwrap_err();
    assert!(matches!(fault, NetFault::Unreachable { .. }), "{fault}");
}
