//! What a server writes, watched as it is read: a message too long or too deep ends the stream before anything
//! parses it. Reads no message itself.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes one message may hold.
pub const MESSAGE_MOST: usize = 4 << 20;
/// Levels its JSON may be nested.
pub const DEPTH_MOST: usize = 64;

/// Why a stream was ended, for whoever asks after its end.
pub type Fault = Arc<Mutex<Option<String>>>;

/// Lines of JSON from `inner`, as long as they keep the limits.
pub struct Guard<R> {
    inner: R,
    line: Line,
    fault: Fault,
}

impl<R> Guard<R> {
    pub fn new(inner: R, fault: Fault) -> Guard<R> {
        Guard { inner, line: Line::default(), fault }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Guard<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        match self.line.take(&buffer.filled()[before..]) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(why) => {
                *self.fault.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(why.clone());
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)))
            }
        }
    }
}

/// How far the line under way has come.
#[derive(Default)]
struct Line {
    bytes: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Line {
    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        for &byte in bytes {
            self.bytes += 1;
            match byte {
                b'\n' => *self = Line::default(),
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'[' | b'{' if !self.in_string => self.depth += 1,
                b']' | b'}' if !self.in_string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            if self.bytes > MESSAGE_MOST {
                return Err(format!("it sent a message of more than {} MiB", MESSAGE_MOST >> 20));
            }
            if self.depth > DEPTH_MOST {
                return Err(format!("it sent JSON nested deeper than {DEPTH_MOST} levels"));
            }
        }
        Ok(())
    }
}

/// Levels of a value that came another way.
pub fn too_deep(value: &serde_json::Value) -> bool {
    fn within(value: &serde_json::Value, left: usize) -> bool {
        match value {
            serde_json::Value::Array(items) => left > 0 && items.iter().all(|item| within(item, left - 1)),
            serde_json::Value::Object(fields) => {
                left > 0 && fields.values().all(|item| within(item, left - 1))
            }
            _ => true,
        }
    }
    !within(value, DEPTH_MOST)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn read(bytes: &[u8]) -> (io::Result<usize>, Option<String>) {
        let fault = Fault::default();
        let mut kept = Vec::new();
        let result = Guard::new(bytes, fault.clone()).read_to_end(&mut kept).await;
        let fault = fault.lock().unwrap().clone();
        (result, fault)
    }

    #[tokio::test]
    async fn long_and_deep_messages_end_the_stream_and_others_do_not() {
        let line = |depth: usize| format!("{}{}\n", "[".repeat(depth), "]".repeat(depth));
        assert!(read(line(64).repeat(9).as_bytes()).await.0.is_ok());
        assert!(read(b"{\"a\":\"[[[[\\\"[[[\"}\n".repeat(40).as_slice()).await.0.is_ok());
        assert!(read(&b"x".repeat(MESSAGE_MOST)).await.0.is_ok());
        let (result, fault) = read(line(65).as_bytes()).await;
        assert!(result.is_err() && fault.unwrap().contains("deeper than 64"));
        let (result, fault) = read(&b"x".repeat(MESSAGE_MOST + 1)).await;
        assert!(result.is_err() && fault.unwrap().contains("more than 4 MiB"));
    }

    #[test]
    fn depth_of_values() {
        let mut value = serde_json::json!(1);
        for _ in 0..64 {
            value = serde_json::json!([value]);
        }
        assert!(!too_deep(&value));
        assert!(too_deep(&serde_json::json!({"a": value})));
    }
}
