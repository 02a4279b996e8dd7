//! A body from the wire to text: unpacked under two caps, then read in the charset it says it has.
//!
//! Only gzip is asked for, so only gzip is taken. The caps hold while unpacking: what is too much is never held.

use std::io::{self, Write};

use encoding_rs::{Encoding, UTF_8};
use flate2::write::GzDecoder;

use super::fault::NetFault;

/// Below this size a ratio means nothing: an empty page of spaces packs well.
const RATIO_FROM: usize = 64 << 10;
/// Bytes of a page in which its own word on its charset is looked for, as browsers do.
const META_BYTES: usize = 1024;

/// Takes pieces as they come.
pub struct Unpacker {
    url: String,
    sink: Sink,
    packed: usize,
    limit: usize,
    ratio: usize,
}

enum Sink {
    Plain(Capped),
    Gzip(Box<GzDecoder<Capped>>),
}

impl Unpacker {
    /// # Errors
    /// An encoding that was not asked for.
    pub fn new(url: &str, encoding: &str, limit: usize, ratio: usize) -> Result<Unpacker, NetFault> {
        let capped = Capped { bytes: Vec::new(), limit };
        let sink = match encoding.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Sink::Plain(capped),
            "gzip" | "x-gzip" => Sink::Gzip(Box::new(GzDecoder::new(capped))),
            _ => {
                let encoding = encoding.chars().take(40).collect();
                return Err(NetFault::Encoding { url: url.to_owned(), encoding });
            }
        };
        Ok(Unpacker { url: url.to_owned(), sink, packed: 0, limit, ratio })
    }

    /// # Errors
    /// Too much, too well packed, or damaged.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), NetFault> {
        self.packed += piece.len();
        let written = match &mut self.sink {
            Sink::Plain(capped) => capped.write_all(piece),
            Sink::Gzip(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
        };
        let unpacked = self.held().bytes.len();
        // First: a bomb runs into both caps, and this one says what it is.
        if unpacked > RATIO_FROM && unpacked / self.packed > self.ratio {
            return Err(NetFault::Ratio { url: self.url.clone(), ratio: self.ratio });
        }
        written.map_err(|error| self.fault(&error))
    }

    /// # Errors
    /// The packed stream ends early.
    pub fn finish(self) -> Result<Vec<u8>, NetFault> {
        let Unpacker { url, sink, .. } = self;
        match sink {
            Sink::Plain(capped) => Ok(capped.bytes),
            Sink::Gzip(decoder) => decoder
                .finish()
                .map(|capped| capped.bytes)
                .map_err(|error| NetFault::Broken { url, reason: error.to_string() }),
        }
    }

    fn held(&self) -> &Capped {
        match &self.sink {
            Sink::Plain(capped) => capped,
            Sink::Gzip(decoder) => decoder.get_ref(),
        }
    }

    fn fault(&self, error: &io::Error) -> NetFault {
        if error.kind() == io::ErrorKind::FileTooLarge {
            NetFault::Size { url: self.url.clone(), kib: self.limit >> 10 }
        } else {
            NetFault::Broken { url: self.url.clone(), reason: error.to_string() }
        }
    }
}

/// Holds at most `limit` bytes and refuses the rest.
struct Capped {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Capped {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + piece.len() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The text of a body of this media type.
///
/// # Errors
/// It is no text.
pub fn decode(url: &str, kind: &str, declared: &str, bytes: &[u8]) -> Result<String, NetFault> {
    let not_text = |kind: &str| NetFault::Kind { url: url.to_owned(), kind: kind.chars().take(80).collect() };
    if !is_text(kind) {
        return Err(not_text(kind));
    }
    let charset = charset(declared).or_else(|| meta_charset(bytes)).unwrap_or(UTF_8);
    // A byte order mark outweighs both, as the encoding standard has it.
    let (text, _, _) = charset.decode(bytes);
    if text.contains('\0') {
        return Err(not_text("binary"));
    }
    Ok(text.into_owned())
}

/// No type at all is read as text: the NUL check stands behind it.
fn is_text(kind: &str) -> bool {
    kind.is_empty()
        || kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(kind, "application/json" | "application/xml" | "application/javascript")
}

fn charset(declared: &str) -> Option<&'static Encoding> {
    let label = declared.split(';').skip(1).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches(['"', '\'']).to_owned())
    })?;
    Encoding::for_label(label.as_bytes())
}

fn meta_charset(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(META_BYTES)]).to_ascii_lowercase();
    let rest = &head[head.find("charset=")? + "charset=".len()..];
    let label: String = rest
        .trim_start_matches(['"', '\''])
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || "-_:.".contains(*c))
        .collect();
    Encoding::for_label(label.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpack(encoding: &str, body: &[u8], limit: usize, step: usize) -> Result<Vec<u8>, NetFault> {
        let mut unpacker = Unpacker::new("u", encoding, limit, 100)?;
        for piece in body.chunks(step) {
            unpacker.push(piece)?;
        }
        unpacker.finish()
    }

    #[test]
    fn plain_and_packed_bodies_arrive_whole_however_they_are_cut() {
        let text: Vec<u8> =
            (0..300_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for step in [1, 7, 4096, usize::MAX] {
            assert_eq!(unpack("", &text, 2 << 20, step).unwrap(), text);
            assert_eq!(unpack("gzip", &packed(&text), 2 << 20, step).unwrap(), text);
        }
    }

    #[test]
    fn too_much_too_well_packed_and_damaged_are_told_apart() {
        let zeros = vec![b' '; 50 << 20];
        let bomb = packed(&zeros);
        for step in [1, 1000] {
            assert!(matches!(unpack("gzip", &bomb, 2 << 20, step), Err(NetFault::Ratio { .. })), "{step}");
        }
        // In one piece the other cap is reached first.
        assert!(matches!(unpack("gzip", &bomb, 2 << 20, usize::MAX), Err(NetFault::Size { .. })));
        let noise: Vec<u8> =
            (0..70_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for (encoding, body) in [("", noise.clone()), ("gzip", packed(&noise))] {
            assert!(matches!(unpack(encoding, &body, 200_000, 900), Err(NetFault::Size { .. })));
        }
        let cut = &packed(b"some text")[..12];
        assert!(matches!(unpack("gzip", cut, 1000, 5), Err(NetFault::Broken { .. })));
        assert!(matches!(unpack("gzip", b"no gzip at all", 1000, 5), Err(NetFault::Broken { .. })));
        assert!(matches!(unpack("br", b"x", 1000, 5), Err(NetFault::Encoding { .. })));
        assert!(matches!(unpack("gzip, gzip", b"x", 1000, 5), Err(NetFault::Encoding { .. })));
    }

    #[test]
    fn charsets_are_the_declared_the_pages_own_or_utf8() {
        let check = |kind: &str, declared: &str, bytes: &[u8], expected: &str| {
            assert_eq!(decode("u", kind, declared, bytes).unwrap(), expected);
        };
        check("text/html", "text/html; charset=ISO-8859-1", b"caf\xe9", "café");
        check(
            "text/html",
            "text/html",
            b"<meta charset='windows-1252'>\x80",
            "<meta charset='windows-1252'>€",
        );
        check("text/plain", "text/plain; charset=\"utf-8\"", "ü".as_bytes(), "ü");
        check("text/plain", "text/plain; charset=nonsense", "ü".as_bytes(), "ü");
        check("", "", b"\xff", "\u{fffd}");
        check("application/ld+json", "", b"{}", "{}");
        for (kind, bytes) in [("image/png", &b"x"[..]), ("application/pdf", b"x"), ("text/html", b"a\0b")] {
            assert!(matches!(decode("u", kind, "", bytes), Err(NetFault::Kind { .. })), "{kind}");
        }
    }
}
