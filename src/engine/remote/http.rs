//! One HTTP request to an endpoint: sent, timed, and every way it fails told apart. Retries nothing.

use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

use super::reply::{Bad, Reply, error_words};
use super::sse::Decoder;
use crate::config::Remote;
use crate::engine::OnPiece;
use crate::engine::http::plain_client;
use crate::engine::key::Key;
use crate::error::{RemoteFault, innermost};

/// Bytes kept of an error's body.
const ERROR_MOST: usize = 16 << 10;
/// Characters of an endpoint's words in a message.
const WORDS_MOST: usize = 300;
/// Bytes of a reply that is not streamed.
const WHOLE_MOST: usize = 16 << 20;

/// A request that failed, and whether another may do better.
#[derive(Debug)]
pub struct Failure {
    pub fault: RemoteFault,
    /// Nothing was shown and the trouble may pass.
    pub passing: bool,
    /// How long the endpoint asks to wait.
    pub wait: Option<Duration>,
    /// The request itself was refused, before any reply began: another form of it may do.
    pub about_request: bool,
}

impl Failure {
    fn new(fault: RemoteFault, passing: bool) -> Failure {
        Failure { fault, passing, wait: None, about_request: false }
    }

    fn lasting(fault: RemoteFault) -> Failure {
        Failure::new(fault, false)
    }
}

/// The way to one endpoint.
pub struct Http {
    client: Client,
    base: String,
    host: String,
    key: Option<Key>,
    first_token: Option<Duration>,
    idle: Option<Duration>,
    connect_s: u64,
}

/// When the pieces of a reply came.
pub struct Told {
    pub reply: Reply,
    /// From the request to the first piece.
    pub first: Duration,
    pub whole: Duration,
}

impl Http {
    /// # Errors
    /// No key where one is named, or no TLS.
    pub fn new(settings: &Remote) -> Result<Http, RemoteFault> {
        let (key_env, key_file) = (&settings.key_env, &settings.key_file);
        let key = Key::beside(&settings.url, key_env, key_file, settings.key_over_http);
        let key = key.map_err(RemoteFault::Key)?;
        // A redirect would carry the prompt, and a proxy the key, to a host that the settings do not name.
        let client = plain_client()
            .user_agent(concat!("tillerman/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .retry(reqwest::retry::never())
            .connect_timeout(Duration::from_secs(settings.connect_s))
            .build()
            .map_err(|e| RemoteFault::Unable(format!("no HTTP client: {}", innermost(&e))))?;
        let some = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
        Ok(Http {
            client,
            base: settings.url.trim_end_matches('/').to_string(),
            host: settings.host(),
            key,
            first_token: some(settings.first_token_s),
            idle: some(settings.idle_s),
            connect_s: settings.connect_s,
        })
    }

    fn headers(&self) -> Result<HeaderMap, RemoteFault> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
        if let Some(key) = &self.key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.token()))
                .map_err(|_| RemoteFault::Key("it holds characters no header takes".to_string()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }

    /// The models the endpoint lists.
    ///
    /// # Errors
    /// As [`Http::chat`].
    pub async fn models(&self) -> Result<Value, Failure> {
        let request = self.client.get(format!("{}/models", self.base));
        let response = self.send(request, self.deadline(Instant::now())).await?;
        let body = self.body(response, WHOLE_MOST, self.deadline(Instant::now())).await?;
        serde_json::from_slice(&body).map_err(|e| Failure::lasting(self.garbled(format!("/models: {e}"))))
    }

    /// Ask once; pieces are told as they come.
    ///
    /// # Errors
    /// [`Failure`]: never passing once a piece was told.
    pub async fn chat(&self, body: &Value, on_piece: Option<&OnPiece>) -> Result<Told, Failure> {
        let began = Instant::now();
        let deadline = self.deadline(began);
        let request = self.client.post(format!("{}/chat/completions", self.base)).json(body);
        let mut response = self.send(request, deadline).await?;
        let streamed = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.starts_with("text/event-stream"));
        let mut reply = Reply::default();
        if !streamed {
            let body = self.body(response, WHOLE_MOST, deadline).await?;
            let text = reply.whole(&body).map_err(|bad| self.bad(bad, false))?;
            unfiltered(&reply)?;
            tell(on_piece, &text);
            let whole = began.elapsed();
            return Ok(Told { reply, first: whole, whole });
        }
        let (mut decoder, mut first, mut deadline) = (Decoder::default(), None, deadline);
        while !reply.done {
            let before = reply.progress();
            let chunk = self.chunk(&mut response, first.is_some(), deadline).await?;
            let mut events = Vec::new();
            match &chunk {
                Some(bytes) => decoder
                    .feed(bytes, &mut |event| events.push(event))
                    .map_err(|what| Failure::lasting(self.garbled(what)))?,
                None => decoder.finish(&mut |event| events.push(event)),
            }
            for event in events {
                let text = reply.event(&event).map_err(|bad| self.bad(bad, first.is_some()))?;
                if reply.pieces > 0 && first.is_none() {
                    first = Some(began.elapsed());
                }
                tell(on_piece, &text);
            }
            if chunk.is_none() {
                break;
            }
            // A sign of life brings nothing: only what does buys more time, however busy the line is.
            if first.is_some() && reply.progress() > before {
                deadline = self.idle.map(|idle| Instant::now() + idle);
            } else if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(self.silent(first.is_some()));
            }
        }
        if reply.stop().is_none() {
            return Err(Failure::new(self.cut(), first.is_none()));
        }
        unfiltered(&reply)?;
        let whole = began.elapsed();
        Ok(Told { reply, first: first.unwrap_or(whole), whole })
    }

    fn deadline(&self, began: Instant) -> Option<Instant> {
        self.first_token.map(|limit| began + limit)
    }

    /// Send and read the head; anything but success becomes a failure with the endpoint's words.
    async fn send(&self, request: RequestBuilder, deadline: Option<Instant>) -> Result<Response, Failure> {
        let headers = self.headers().map_err(Failure::lasting)?;
        let sent = within(deadline, request.headers(headers).send()).await;
        let response = sent.ok_or_else(|| self.silent(false))?.map_err(|e| self.lost(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let wait = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(retry_after);
        let place = response.headers().get(reqwest::header::LOCATION).and_then(|v| v.to_str().ok());
        let why = match place {
            Some(place) if status.is_redirection() => {
                format!("it sends on to {}, and only the address in the settings is asked", self.words(place))
            }
            _ => {
                let soon = Instant::now() + Duration::from_secs(10);
                let body = self.body(response, ERROR_MOST, Some(soon)).await.unwrap_or_default();
                self.words(&error_words(&body))
            }
        };
        Err(Failure { wait, about_request: true, ..self.refused(status.as_u16(), why) })
    }

    fn refused(&self, status: u16, why: String) -> Failure {
        let passing = matches!(status, 408 | 425 | 429 | 500 | 502..=504 | 520..=529);
        Failure::new(RemoteFault::Refused { host: self.host.clone(), status, why }, passing)
    }

    /// The next bytes of a streamed reply; None at its end.
    async fn chunk(
        &self,
        response: &mut Response,
        begun: bool,
        deadline: Option<Instant>,
    ) -> Result<Option<Vec<u8>>, Failure> {
        match within(deadline, response.chunk()).await {
            None => Err(self.silent(begun)),
            Some(Ok(chunk)) => Ok(chunk.map(|bytes| bytes.to_vec())),
            Some(Err(_)) => Err(Failure::new(self.cut(), !begun)),
        }
    }

    /// A body of at most `most` bytes; what is longer is cut when it is an error's, refused otherwise.
    async fn body(
        &self,
        mut response: Response,
        most: usize,
        deadline: Option<Instant>,
    ) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(bytes) = self.chunk(&mut response, false, deadline).await? {
            body.extend_from_slice(&bytes);
            if body.len() > most {
                if response.status().is_success() {
                    return Err(Failure::lasting(self.garbled(format!("more than {most} bytes"))));
                }
                break;
            }
        }
        Ok(body)
    }

    fn bad(&self, bad: Bad, shown: bool) -> Failure {
        match bad {
            Bad::Garbled(what) => Failure::lasting(self.garbled(self.words(&what))),
            Bad::Failed(code, why) => {
                let failure = self.refused(code, self.words(&why));
                Failure { passing: failure.passing && !shown, ..failure }
            }
        }
    }

    fn lost(&self, error: &reqwest::Error) -> Failure {
        let fault = if error.is_connect() && error.is_timeout() {
            let why = format!("no connection within {} s", self.connect_s);
            RemoteFault::Unreachable { host: self.host.clone(), why }
        } else if error.is_connect() {
            RemoteFault::Unreachable { host: self.host.clone(), why: self.words(&innermost(error)) }
        } else if error.is_builder() {
            return Failure::lasting(RemoteFault::Unable(self.words(&innermost(error))));
        } else {
            self.cut()
        };
        Failure::new(fault, true)
    }

    fn silent(&self, begun: bool) -> Failure {
        let (what, limit, setting) = if begun {
            ("nothing more", self.idle, "idle_s")
        } else {
            ("no token", self.first_token, "first_token_s")
        };
        Failure::lasting(RemoteFault::Silent {
            host: self.host.clone(),
            what: what.to_string(),
            seconds: limit.unwrap_or_default().as_secs(),
            setting: setting.to_string(),
        })
    }

    fn cut(&self) -> RemoteFault {
        RemoteFault::Cut { host: self.host.clone() }
    }

    fn garbled(&self, what: String) -> RemoteFault {
        RemoteFault::Garbled { host: self.host.clone(), what }
    }

    /// The endpoint's words for a message: cut, and without the key should they hold it.
    fn words(&self, text: &str) -> String {
        let text = self.key.as_ref().map_or_else(|| text.to_string(), |key| key.scrub(text));
        let safe = crate::text::safe(&text);
        safe.chars().take(WORDS_MOST).collect()
    }
}

fn unfiltered(reply: &Reply) -> Result<(), Failure> {
    if reply.finish.as_deref() == Some("content_filter") {
        let why = "the endpoint's content filter ended the reply".to_string();
        return Err(Failure::lasting(RemoteFault::Unable(why)));
    }
    Ok(())
}

fn tell(on_piece: Option<&OnPiece>, text: &str) {
    if let (Some(on_piece), false) = (on_piece, text.is_empty()) {
        on_piece(text);
    }
}

/// The future's output, or None when the deadline comes first.
async fn within<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), future).await.ok(),
        None => Some(future.await),
    }
}

/// Seconds, or a date to wait for.
pub fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    let left = date.as_millisecond() - jiff::Timestamp::now().as_millisecond();
    Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_as_seconds_or_dates() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(retry_after("-3"), Some(Duration::ZERO));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let far = retry_after("Fri, 31 Dec 2100 23:59:59 GMT").unwrap();
        assert!(far > Duration::from_secs(1 << 30), "{far:?}");
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("1e400"), None);
    }
}
