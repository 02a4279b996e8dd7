//! Brings a file's bytes into a partial file, going on where a broken connection or an earlier run stopped.
//!
//! Nothing a server says is taken on trust: a range it did not send, a size it did not announce, another file
//! under the same address and wrong bytes all end in what was announced or in an error.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use sha2::{Digest, Sha256};

use super::hub::{Hub, host};
use super::meter::Meter;
use super::{PullError, Result};
use crate::error::innermost;

/// Attempts in a row that brought nothing new.
const BARREN: u32 = 6;
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The file to be had.
pub struct Want<'a> {
    pub url: Url,
    pub bytes: u64,
    pub sha256: &'a str,
}

/// The partial file and the hash of what is in it.
struct Part {
    path: PathBuf,
    file: File,
    hash: Sha256,
    len: u64,
    /// Bytes of more than one answer are in it.
    patched: bool,
}

impl Part {
    /// What an earlier run left is read once, for its hash.
    fn open(path: &Path) -> Result<Part> {
        let io = |e| PullError::cache(path, e);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(path).map_err(io)?;
        let (mut hash, mut len) = (Sha256::new(), 0);
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(io)? {
                0 => break,
                count => {
                    hash.update(&buffer[..count]);
                    len += count as u64;
                }
            }
        }
        Ok(Part { path: path.to_path_buf(), file, hash, len, patched: len > 0 })
    }

    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| PullError::cache(&self.path, e))?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|e| PullError::cache(&self.path, e))?;
        (self.hash, self.len, self.patched) = (Sha256::new(), 0, false);
        Ok(())
    }

    fn digest(&self) -> String {
        self.hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What one answer led to.
enum Round {
    /// The connection ended, well or not; what came is in the part.
    Ended(Option<String>),
    /// The server cannot answer now, and says perhaps for how long.
    Later(String, Option<Duration>),
    /// The part is no beginning of what the server has: it was emptied.
    Afresh(String),
}

/// Fill `partial` until it holds the file, whole and with the announced sha256.
///
/// # Errors
/// The server is gone for good, sends something else, or the disk takes no more. What came stays.
pub async fn fetch(hub: &Hub, want: &Want<'_>, partial: &Path, meter: &mut Meter) -> Result<()> {
    let path = partial.to_path_buf();
    // Gigabytes may be there already; Ctrl-C must be heard meanwhile.
    let opened = tokio::task::spawn_blocking(move || Part::open(&path)).await;
    let mut part = opened.map_err(|e| PullError::cache(partial, std::io::Error::other(e)))??;
    let (mut barren, mut best, mut tag, mut afresh) = (0_u32, part.len, None, false);
    if part.len > want.bytes {
        part.clear()?;
    }
    loop {
        meter.at(part.len);
        if part.len == want.bytes {
            let got = part.digest();
            if got == want.sha256 {
                return part.file.sync_all().map_err(|e| PullError::cache(partial, e));
            }
            let patched = part.patched;
            part.clear()?;
            if afresh || !patched {
                // Wrong in one piece, or wrong again: no beginning of anything.
                let _ = std::fs::remove_file(partial);
                let announced = want.sha256.to_string();
                return Err(PullError::Corrupt { host: host(&want.url), announced, got });
            }
            meter.say("what earlier attempts left does not fit together: once more from the start");
            (best, afresh) = (0, true);
        }
        let (reason, pause) = match round(hub, want, &mut part, &mut tag, meter).await? {
            Round::Ended(None) => continue,
            Round::Ended(Some(reason)) | Round::Afresh(reason) => (reason, None),
            Round::Later(reason, pause) => (reason, pause),
        };
        barren = if part.len > best { 0 } else { barren + 1 };
        best = best.max(part.len);
        if barren >= BARREN {
            return Err(PullError::network(&host(&want.url), reason));
        }
        meter.say(&format!("{reason}: going on from byte {}", part.len));
        tokio::time::sleep(pause.unwrap_or(PAUSE * 2_u32.pow(barren)).min(LONGEST_PAUSE)).await;
    }
}

/// One request, from where the part ends.
async fn round(
    hub: &Hub,
    want: &Want<'_>,
    part: &mut Part,
    tag: &mut Option<HeaderValue>,
    meter: &mut Meter,
) -> Result<Round> {
    let mut headers = HeaderMap::new();
    if part.len > 0 {
        let range = HeaderValue::from_str(&format!("bytes={}-", part.len));
        headers.insert(RANGE, range.map_err(|e| PullError::network(&host(&want.url), e))?);
        if let Some(tag) = tag.as_ref() {
            headers.insert(IF_RANGE, tag.clone());
        }
    }
    let answer = match hub.send(Method::GET, &want.url, &headers).await {
        Ok(answer) => answer,
        Err(PullError::Network { reason, .. }) => return Ok(Round::Ended(Some(reason))),
        Err(error) => return Err(error),
    };
    let from = host(answer.url());
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => {
            let sent = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
            if !sent.is_some_and(|sent| continues(sent, part.len, want.bytes)) {
                let words = format!("{from} sent another range than it was asked for");
                part.clear()?;
                return Ok(Round::Afresh(words));
            }
            part.patched = true;
        }
        StatusCode::OK => {
            if answer.content_length().is_some_and(|bytes| bytes != want.bytes) {
                return Err(PullError::hub(
                    &from,
                    "the file there has another size than announced; ask again",
                ));
            }
            // The server ignores ranges, or the file behind the address is another one now.
            part.clear()?;
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            part.clear()?;
            *tag = None;
            return Ok(Round::Afresh(format!("{from} has no such range")));
        }
        status if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) => {
            return Ok(Round::Later(format!("{from} answered {status}"), pause_of(&answer)));
        }
        status => return Err(PullError::hub(&from, format!("answered {status} when asked for the bytes"))),
    }
    let now = answer.headers().get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")).cloned();
    if part.len > 0 && tag.is_some() && now.is_some() && *tag != now {
        part.clear()?;
        *tag = None;
        return Ok(Round::Afresh(format!("the file at {from} changed")));
    }
    *tag = now;
    receive(answer, want, part, meter).await
}

async fn receive(mut answer: Response, want: &Want<'_>, part: &mut Part, meter: &mut Meter) -> Result<Round> {
    let from = host(answer.url());
    loop {
        match answer.chunk().await {
            Ok(Some(bytes)) => {
                if part.len + bytes.len() as u64 > want.bytes {
                    part.clear()?;
                    return Err(PullError::hub(&from, "sent more than it announced"));
                }
                part.add(&bytes)?;
                meter.at(part.len);
            }
            Ok(None) if part.len == want.bytes => return Ok(Round::Ended(None)),
            Ok(None) => return Ok(Round::Ended(Some(format!("{from} ended the answer early")))),
            Err(error) => {
                return Ok(Round::Ended(Some(format!("{from}: {}", innermost(&error.without_url())))));
            }
        }
    }
}

/// Whether `bytes A-B/TOTAL` goes on from `from` in a file of `total` bytes.
fn continues(range: &str, from: u64, total: u64) -> bool {
    let parts = range.strip_prefix("bytes ").and_then(|range| range.split_once('/'));
    let Some(((first, last), whole)) = parts.and_then(|(span, whole)| Some((span.split_once('-')?, whole)))
    else {
        return false;
    };
    let last: Option<u64> = last.parse().ok();
    first.parse() == Ok(from)
        && last.is_some_and(|last| last >= from && last < total)
        && whole.parse() == Ok(total)
}

fn pause_of(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_goes_on_or_does_not() {
        assert!(continues("bytes 5-9/10", 5, 10));
        for range in
            ["bytes 4-9/10", "bytes 5-10/10", "bytes 5-9/11", "bytes 5-9/*", "5-9/10", "bytes */10", ""]
        {
            assert!(!continues(range, 5, 10), "{range}");
        }
    }
}
