//! The fetch guard: which URLs may be asked for, and at which addresses.
//!
//! A URL is taken apart once, by the same parser the request uses; a name is resolved once, every address of
//! the answer is checked, and exactly these are dialled. It sends nothing itself.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use url::{Host, Url};

use super::address::special;
use super::fault::{NetFault, shown};
use super::resolve::{Resolver, System};

/// Longest URL looked at, bytes.
const MAX_URL_BYTES: usize = 4096;
/// Addresses of one answer; no real host has more.
const MAX_ADDRESSES: usize = 64;
/// Endings that never lead to the public internet (RFC 6761, 6762, 7686, 8375, 9476 and what is in use).
const LOCAL_ENDINGS: [&str; 9] =
    ["localhost", "local", "internal", "intranet", "lan", "home", "corp", "home.arpa", "onion"];

/// A URL that may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Without fragment; the host without a trailing dot.
    pub url: Url,
    /// As it stands in the URL: lower case, ASCII, IPv6 in brackets.
    pub host: String,
    pub port: u16,
    /// The user listed this very host and port, so its addresses and port are not checked.
    pub listed: bool,
}

/// See the file's head.
#[derive(Clone)]
pub struct Guard {
    allowed: Vec<(String, u16)>,
    resolver: Arc<dyn Resolver>,
    ports: Vec<u16>,
    special: fn(IpAddr) -> Option<&'static str>,
}

impl Guard {
    /// `allow_hosts`: `host:port` pairs (see [`crate::config::Network`], which checks their form).
    pub fn new(allow_hosts: &[String]) -> Guard {
        Guard {
            allowed: allow_hosts.iter().filter_map(|pair| listed(pair)).collect(),
            resolver: Arc::new(System),
            ports: vec![80, 443],
            special,
        }
    }

    /// For tests, where the public internet has to lie on this machine: names answered by `resolver`, one more
    /// port, and another idea of what is special.
    #[cfg(test)]
    pub fn for_test(
        self,
        resolver: Arc<dyn Resolver>,
        port: u16,
        special: fn(IpAddr) -> Option<&'static str>,
    ) -> Guard {
        Guard { resolver, ports: vec![80, 443, port], special, ..self }
    }

    /// Check the text of a URL.
    ///
    /// # Errors
    /// What about it is refused.
    pub fn target(&self, text: &str) -> Result<Target, NetFault> {
        let text = text.trim();
        if text.len() > MAX_URL_BYTES {
            return Err(NetFault::bad_url(text, format!("longer than {MAX_URL_BYTES} bytes")));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(NetFault::bad_url(text, "a control character or a space inside"));
        }
        let url = Url::parse(text).map_err(|reason| NetFault::bad_url(text, reason.to_string()))?;
        self.checked(url)
    }

    /// Check where a redirect leads. It never leads to a host the user listed, unless it comes from there: else a
    /// page could reach what only the user may ask for.
    ///
    /// # Errors
    /// What about it is refused.
    pub fn redirect(&self, from: &Target, location: &str) -> Result<Target, NetFault> {
        if location.len() > MAX_URL_BYTES || location.chars().any(char::is_control) {
            return Err(NetFault::bad_url(location, "too long, or a control character inside"));
        }
        let url =
            from.url.join(location).map_err(|reason| NetFault::bad_url(location, reason.to_string()))?;
        let target = self.checked(url)?;
        let same = target.host == from.host && target.port == from.port;
        if target.listed && !same {
            return Err(NetFault::RedirectInside {
                from: shown(from.url.as_str()),
                to: shown(target.url.as_str()),
            });
        }
        Ok(target)
    }

    fn checked(&self, mut url: Url) -> Result<Target, NetFault> {
        let text = url.as_str().to_owned();
        // What was short as text grows threefold where it is escaped, and a redirect adds to what it comes from.
        if text.len() > MAX_URL_BYTES {
            return Err(NetFault::bad_url(&text, format!("longer than {MAX_URL_BYTES} bytes")));
        }
        if !matches!(url.scheme(), "http" | "https") {
            return Err(NetFault::Scheme { url: shown(&text), scheme: shown(url.scheme()) });
        }
        if !url.username().is_empty() || url.password().is_some() {
            // Not shown: it would put a password into the record.
            let _ = (url.set_username(""), url.set_password(None));
            return Err(NetFault::Userinfo { url: shown(url.as_str()) });
        }
        url.set_fragment(None);
        undotted(&mut url).map_err(|reason| NetFault::bad_url(&text, reason))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default().unwrap_or_default();
        let listed = self.allowed.iter().any(|pair| pair.0 == host && pair.1 == port);
        let target = Target { url, host, port, listed };
        if !listed {
            self.check_place(&target)?;
        }
        Ok(target)
    }

    /// What can be said of a host before anybody is asked for its address.
    fn check_place(&self, target: &Target) -> Result<(), NetFault> {
        let Target { host, port, .. } = target;
        if let Some(address) = literal(&target.url) {
            self.check_address(target, address)?;
        } else if is_local_name(host) {
            return Err(NetFault::LocalName { host: host.clone(), port: *port });
        }
        if !self.ports.contains(port) {
            return Err(NetFault::Port { host: host.clone(), port: *port });
        }
        Ok(())
    }

    fn check_address(&self, target: &Target, address: IpAddr) -> Result<(), NetFault> {
        match (self.special)(address) {
            Some(range) if !target.listed => {
                Err(NetFault::Address { host: target.host.clone(), port: target.port, address, range })
            }
            _ => Ok(()),
        }
    }

    /// Resolve the host, once. One special address among many refuses them all.
    ///
    /// # Errors
    /// No address, or one that is refused.
    pub async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, NetFault> {
        let nothing =
            |reason: String| NetFault::NoAddress { host: target.host.clone(), reason: shown(&reason) };
        let found = match literal(&target.url) {
            Some(address) => vec![SocketAddr::new(address, target.port)],
            None => self
                .resolver
                .resolve(&target.host, target.port)
                .await
                .map_err(|reason| nothing(reason.to_string()))?,
        };
        if found.is_empty() {
            return Err(nothing("the answer is empty".into()));
        }
        if found.len() > MAX_ADDRESSES {
            return Err(nothing(format!("more than {MAX_ADDRESSES} addresses")));
        }
        for address in &found {
            self.check_address(target, address.ip())?;
        }
        Ok(found)
    }
}

/// The address a URL names without a resolver. The parser has read every spelling of it (octal, hexadecimal,
/// one number, full-width digits) the way a connection would.
fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(IpAddr::V4(address)),
        Host::Ipv6(address) => Some(IpAddr::V6(address)),
        Host::Domain(_) => None,
    }
}

/// `example.org.` is `example.org`: one spelling per host.
fn undotted(url: &mut Url) -> Result<(), String> {
    let Some(Host::Domain(name)) = url.host() else { return Ok(()) };
    let bare = name.trim_end_matches('.').to_owned();
    if bare.is_empty() || bare.starts_with('.') || bare.contains("..") {
        return Err("an empty part in the host name".into());
    }
    if bare.len() != name.len() {
        // Read anew: without its dots a name may be an address.
        url.set_host(Some(&bare)).map_err(|reason| reason.to_string())?;
    }
    Ok(())
}

fn is_local_name(host: &str) -> bool {
    let ends = |ending: &str| host.strip_suffix(ending).is_some_and(|rest| rest.ends_with('.'));
    !host.contains('.') || LOCAL_ENDINGS.iter().any(|ending| ends(ending))
}

/// `host:port` with the host spelt as URLs spell it.
fn listed(pair: &str) -> Option<(String, u16)> {
    let (host, port) = pair.rsplit_once(':')?;
    let mut url = Url::parse(&format!("http://{host}/")).ok()?;
    undotted(&mut url).ok()?;
    Some((url.host_str()?.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::testing::Scripted;
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// The guard with a resolver that answers with these addresses to any name.
    fn guard(allow: &[&str], answer: &[&str]) -> (Guard, Arc<Scripted>) {
        let answer: Vec<IpAddr> = answer.iter().map(|address| address.parse().unwrap()).collect();
        let resolver = Scripted::new(&[&answer]);
        let allow: Vec<String> = allow.iter().map(|pair| (*pair).to_owned()).collect();
        (Guard { resolver: resolver.clone(), ..Guard::new(&allow) }, resolver)
    }

    /// What becomes of a URL up to the moment before it is dialled.
    fn outcome(guard: &Guard, url: &str) -> Result<Vec<SocketAddr>, NetFault> {
        block_on(async { guard.addresses(&guard.target(url)?).await })
    }

    /// Spellings of hosts inside, each a whole URL; the guard says "address" without asking any resolver.
    const INSIDE: [&str; 78] = [
        // 127.0.0.1: plain, short forms, octal, hexadecimal, one number, mixtures.
        "http://127.0.0.1/",
        "http://127.0.0.1:80/",
        "https://127.0.0.1:443/",
        "http://127.1/",
        "http://127.0.1/",
        "http://127.255.255.254/",
        "http://0177.0.0.1/",
        "http://0177.0000.0000.0001/",
        "http://00000000177.0.0.1/",
        "http://017700000001/",
        "http://0x7f.0.0.1/",
        "http://0x7F.0x0.0x0.0x1/",
        "http://0X7f000001/",
        "http://0x7f.1/",
        "http://0x7f.0x000001/",
        "http://2130706433/",
        "http://127.0x00000001/",
        "http://0177.0x0.1/",
        "http://127.0.0.1./",
        "http://2130706433./",
        "http://0x7f.1./",
        // Percent signs, full-width digits and dots, circled digits, invisible characters.
        "http://%31%32%37.0.0.1/",
        "http://127%2e0%2e0%2e1/",
        "http://127。0。0。1/",
        "http://127．0．0．1/",
        "http://１２７.０.０.１/",
        "http://①②⑦.⓪.⓪.①/",
        "http://0ｘ7f.1/",
        "http://127.0.0.\u{ad}1/",
        "http://127.0.\u{200b}0.1/",
        "http://𝟏𝟐𝟕.𝟎.𝟎.𝟏/",
        // Slashes, backslashes and schemes as browsers read them.
        "http:127.0.0.1/",
        "http:/127.0.0.1/",
        "http:///127.0.0.1/",
        "http:\\\\127.0.0.1\\",
        "HTTP://127.0.0.1",
        "  http://127.0.0.1/  ",
        "http://127.0.0.1#@example.org/",
        "http://127.0.0.1?@example.org/",
        "http://127.0.0.1\\@example.org/",
        // Other ranges.
        "http://0/",
        "http://0.0.0.0/",
        "http://0x0/",
        "http://10.0.0.1/",
        "http://012.0.0.1/",
        "http://0xa000001/",
        "http://167772161/",
        "http://100.64.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://0xA9FEA9FE/",
        "http://2852039166/",
        "http://0251.0376.0251.0376/",
        "http://172.16.0.1/",
        "http://172.31.255.255/",
        "http://192.168.1.1/",
        "http://0300.0250.1.1/",
        "http://192.168.257/",
        "http://192.0.0.192/",
        "http://198.18.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://4294967295/",
        // IPv6.
        "http://[::1]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://[0000:0000:0000:0000:0000:0000:0000:0001]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::FFFF:7F00:1]/",
        "http://[0:0:0:0:0:ffff:127.0.0.1]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[64:ff9b:1::10.0.0.1]/",
        "http://[2002:7f00:1::]/",
        "http://[2001:0:7f00:1::]/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://[ff02::1]/",
        "http://[::ffff:0:127.0.0.1]/",
    ];

    #[test]
    fn no_spelling_of_an_inside_address_gets_through() {
        let (guard, resolver) = guard(&[], &["1.1.1.1"]);
        for url in INSIDE {
            let fault = outcome(&guard, url).expect_err(url);
            assert!(matches!(fault, NetFault::Address { .. }), "{url}: {fault}");
            let text = fault.to_string();
            assert!(text.contains("leads to") && text.contains("network.allow_hosts"), "{text}");
        }
        assert_eq!(resolver.asked.load(Ordering::SeqCst), 0, "an address was taken for a name");
    }

    #[test]
    fn what_is_no_plain_web_address_is_named() {
        let (guard, resolver) = guard(&[], &["1.1.1.1"]);
        let long = format!("http://example.org/{}", "a".repeat(5000));
        let grown = format!("http://example.org/{}", "é".repeat(1000));
        for (url, part) in [
            ("", "is no web address"),
            ("example.org", "is no web address"),
            ("//example.org/", "is no web address"),
            ("http://", "is no web address"),
            ("http://.../", "an empty part"),
            ("http://a..example.org/", "an empty part"),
            ("http://.example.org/", "an empty part"),
            ("http://example.org:99999/", "invalid port"),
            ("http://256.0.0.1/", "invalid IPv4"),
            ("http://0x100000000/", "invalid IPv4"),
            ("http://1.2.3.4.5/", "invalid IPv4"),
            ("http://09.0.0.1/", "invalid IPv4"),
            ("http://[::1%25lo]/", "invalid IPv6"),
            ("http://[::1/", "invalid IPv6"),
            ("http://exa mple.org/", "control character or a space"),
            ("http://example.org/\r\nHost: x", "control character or a space"),
            ("http://127.0.0.1\0.example.org/", "control character or a space"),
            ("http://example.org\t/", "control character or a space"),
            ("http://exam%00ple.org/", "invalid"),
            ("http://exa%20mple.org/", "invalid"),
            (long.as_str(), "longer than 4096 bytes"),
            (grown.as_str(), "longer than 4096 bytes"),
            ("file:///etc/passwd", "begins with file:"),
            ("ftp://example.org/", "begins with ftp:"),
            ("gopher://127.0.0.1:70/_x", "begins with gopher:"),
            ("data:text/html,x", "begins with data:"),
            ("javascript:alert(1)", "begins with javascript:"),
            ("jar:http://example.org/!/", "begins with jar:"),
            ("unix:/run/docker.sock", "begins with unix:"),
            ("http://user@example.org/", "carries a user name"),
            ("http://user:secret@example.org/", "carries a user name"),
            ("http://127.0.0.1:80@example.org/", "carries a user name"),
            ("http://:x@example.org/", "carries a user name"),
            ("http://example.org:22/", "port 22"),
            ("http://example.org:8080/", "port 8080"),
            ("https://example.org:0/", "port 0"),
            ("http://1.1.1.1:6379/", "port 6379"),
            ("http://localhost/", "name of the local network"),
            ("http://LOCALHOST./", "name of the local network"),
            ("http://a.localhost/", "name of the local network"),
            ("http://ｌｏｃａｌｈｏｓｔ/", "name of the local network"),
            ("http://router/", "name of the local network"),
            ("http://nas.local/", "name of the local network"),
            ("http://metadata.google.internal/", "name of the local network"),
            ("http://box.home.arpa/", "name of the local network"),
            ("http://expyuzz4wqqyqhjn.onion/", "name of the local network"),
        ] {
            let fault = outcome(&guard, url).expect_err(url).to_string();
            assert!(fault.contains(part), "{url:?}: {fault}");
            assert!(!fault.contains("secret"), "{fault}");
            assert!(fault.chars().count() < 500, "{fault}");
        }
        assert_eq!(resolver.asked.load(Ordering::SeqCst), 0, "a name was looked up before it was refused");
    }

    #[test]
    fn public_hosts_pass_in_one_spelling() {
        let (guard, _) = guard(&[], &["93.184.216.34", "2606:2800:220:1::1"]);
        for (url, host) in [
            ("http://example.org/", "example.org"),
            ("HTTPS://EXAMPLE.ORG.:443/a?b#c", "example.org"),
            ("https://bücher.example/", "xn--bcher-kva.example"),
            ("https://ＥＸＡＭＰＬＥ.org/", "example.org"),
            ("http://example.org:443/", "example.org"),
            ("http://1.1.1.1/", "1.1.1.1"),
            ("http://0x01010101/", "1.1.1.1"),
            ("http://[2606:4700::1111]/", "[2606:4700::1111]"),
            ("http://127.0.0.1.example.org/", "127.0.0.1.example.org"),
            ("http://example.org\\@127.0.0.1/", "example.org"),
        ] {
            let target = guard.target(url).unwrap_or_else(|fault| panic!("{url}: {fault}"));
            assert_eq!((target.host.as_str(), target.url.fragment()), (host, None), "{url}");
            assert!(!outcome(&guard, url).expect(url).is_empty());
        }
    }

    #[test]
    fn one_inside_address_among_the_answers_refuses_them_all() {
        for answer in [
            &["127.0.0.1"][..],
            &["93.184.216.34", "10.0.0.1"],
            &["93.184.216.34", "2606:2800::1", "::ffff:93.184.216.34"],
            &["fd00::1", "93.184.216.34"],
            &["169.254.169.254"],
        ] {
            let (guard, _) = guard(&[], answer);
            let fault = outcome(&guard, "http://rebind.example/").unwrap_err();
            assert!(matches!(fault, NetFault::Address { .. }), "{answer:?}: {fault}");
        }
        let (none, _) = guard(&[], &[]);
        assert!(matches!(outcome(&none, "http://example.org/"), Err(NetFault::NoAddress { .. })));
        let many: Vec<String> = (0..65).map(|n| format!("1.1.1.{n}")).collect();
        let (many, _) = guard(&[], &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(matches!(outcome(&many, "http://example.org/"), Err(NetFault::NoAddress { .. })));
    }

    #[test]
    fn listed_hosts_pass_exactly_and_are_no_way_in_for_others() {
        let (guard, _) = guard(&["LocalHost:8888", "127.0.0.1:80", "[::1]:8080"], &["127.0.0.1"]);
        for url in [
            "http://localhost:8888/search",
            "http://localhost.:8888/",
            "http://2130706433/",
            "http://[0::1]:8080/",
        ] {
            assert!(guard.target(url).expect(url).listed, "{url}");
            assert!(outcome(&guard, url).is_ok(), "{url}");
        }
        for url in [
            "http://localhost:8889/",
            "http://localhost/",
            "http://127.0.0.1:8888/",
            "http://127.0.0.2/",
            "http://a.localhost:8888/",
            "http://localhost.example.org:8888/",
            "http://[::1]/",
        ] {
            assert!(outcome(&guard, url).is_err(), "{url}");
        }
        let (public, listed) = (
            Target { listed: false, ..guard.target("http://127.0.0.1/").unwrap() },
            guard.target("http://localhost:8888/").unwrap(),
        );
        let inside = guard.redirect(&public, "http://localhost:8888/x").unwrap_err();
        assert!(matches!(inside, NetFault::RedirectInside { .. }), "{inside}");
        assert!(guard.redirect(&listed, "/login?next=%2F").unwrap().listed);
        assert!(
            guard.redirect(&listed, "http://127.0.0.1/").is_err(),
            "one listed host does not lead to another"
        );
        assert!(guard.redirect(&listed, "http://10.0.0.1/").is_err());
    }
}
