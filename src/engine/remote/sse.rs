//! Server-sent events: bytes in any cut become the `data` of whole events. Knows no HTTP and no JSON.

/// Bytes one event may hold; a chat chunk with 20 alternatives per token stays far below.
pub const EVENT_MOST: usize = 4 << 20;

/// What arrived so far of the event under way.
#[derive(Default)]
pub struct Decoder {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was a carriage return: a newline that follows belongs to it.
    after_return: bool,
}

impl Decoder {
    /// Take more bytes; `event` gets the data of each event they complete.
    ///
    /// # Errors
    /// An event is longer than [`EVENT_MOST`].
    pub fn feed(&mut self, bytes: &[u8], event: &mut impl FnMut(String)) -> Result<(), String> {
        for &byte in bytes {
            let follows = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if follows => {}
                b'\n' | b'\r' => self.end_line(event),
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > EVENT_MOST {
                return Err(format!("one event is longer than {EVENT_MOST} bytes"));
            }
        }
        Ok(())
    }

    /// The stream is over; endpoints that forget the last blank line are forgiven.
    pub fn finish(&mut self, event: &mut impl FnMut(String)) {
        if !self.line.is_empty() {
            self.end_line(event);
        }
        self.end_line(event);
    }

    fn end_line(&mut self, event: &mut impl FnMut(String)) {
        if self.line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                event(String::from_utf8_lossy(&std::mem::take(&mut self.data)).into_owned());
            }
            return;
        }
        let line = std::mem::take(&mut self.line);
        // Comments (keep-alives), `event:`, `id:` and `retry:` say nothing a chat needs.
        if let Some(rest) = line.strip_prefix(b"data:") {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(rest.strip_prefix(b" ").unwrap_or(rest));
            self.has_data = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": ping\r\n\r\ndata: {\"a\":\"ä€😀\"}\r\n\r\nevent: x\ndata:one\ndata: two\n\nid: 3\n\n\
        data: [DONE]\n\ndata: left over";

    fn decoded(cuts: &[usize]) -> Vec<String> {
        let (mut decoder, mut events, mut from) = (Decoder::default(), Vec::new(), 0);
        for &to in cuts.iter().chain([&STREAM.len()]) {
            decoder.feed(&STREAM.as_bytes()[from..to], &mut |event| events.push(event)).unwrap();
            from = to;
        }
        decoder.finish(&mut |event| events.push(event));
        events
    }

    #[test]
    fn every_cut_gives_the_same_events() {
        let whole = decoded(&[]);
        assert_eq!(whole, ["{\"a\":\"ä€😀\"}", "one\ntwo", "[DONE]", "left over"]);
        for first in 0..STREAM.len() {
            for second in first..STREAM.len() {
                assert_eq!(decoded(&[first, second]), whole, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut decoder = Decoder::default();
        let block = vec![b'x'; 1 << 20];
        let mut fed = (0..6).map(|_| decoder.feed(&block, &mut |_| ()));
        assert!(fed.any(|result| result.is_err()));
    }
}
