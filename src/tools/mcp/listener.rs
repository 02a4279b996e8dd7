//! What hears a server's own words: that its tools changed, and questions of its own, of which it is let ask so many.
//!
//! It is asked for nothing back: no sampling, no roots, no questions to the person. But each question is answered, if
//! only by a refusal, and one who asks without end and reads no answer would have them pile up here until no memory is
//! left. Such a server is let go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rmcp::model::{
    ClientConfig, ClientResult, ErrorData, Implementation, NumberOrString, ServerNotification, ServerRequest,
};
use rmcp::service::{NotificationContext, RequestContext, RoleClient, Service};
use tokio_util::sync::CancellationToken;

/// Questions a server may ask in [`WINDOW`]; one that looks whether we are there asks a few.
const QUESTIONS: usize = 600;
/// Bytes the names of these questions may have, which every answer repeats.
const NAMES_BYTES: usize = 1 << 20;
const WINDOW: Duration = Duration::from_secs(60);

/// Said of a server that is let go for it.
pub const TOO_MANY: &str = "it asked more questions than can be answered, and was let go";

/// See the file's head.
pub struct Listener {
    quiet: Quiet,
    window: Mutex<Window>,
    over: CancellationToken,
}

/// Answers as little as the protocol lets it.
struct Quiet {
    changed: Arc<AtomicBool>,
}

impl rmcp::ClientHandler for Quiet {
    fn get_info(&self) -> ClientConfig {
        let mut info = ClientConfig::default();
        info.client_info = Implementation::new("tillerman", env!("CARGO_PKG_VERSION"));
        info
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changed.store(true, Ordering::Relaxed);
    }
}

struct Window {
    began: Instant,
    questions: usize,
    bytes: usize,
}

impl Window {
    fn new(now: Instant) -> Window {
        Window { began: now, questions: 0, bytes: 0 }
    }

    /// Count a question; false: it is one too many.
    fn take(&mut self, name_bytes: usize, now: Instant) -> bool {
        if now.duration_since(self.began) >= WINDOW {
            *self = Window::new(now);
        }
        self.questions += 1;
        self.bytes += name_bytes;
        self.questions <= QUESTIONS && self.bytes <= NAMES_BYTES
    }
}

impl Listener {
    /// `changed` is set when the server says that its tools did, `over` cancelled when it asks too much.
    pub fn new(changed: Arc<AtomicBool>, over: CancellationToken) -> Listener {
        Listener { quiet: Quiet { changed }, window: Mutex::new(Window::new(Instant::now())), over }
    }
}

impl Service<RoleClient> for Listener {
    async fn handle_request(
        &self,
        request: ServerRequest,
        context: RequestContext<RoleClient>,
    ) -> Result<ClientResult, ErrorData> {
        let bytes = match &context.id {
            NumberOrString::String(name) => name.len(),
            NumberOrString::Number(_) => 8,
        };
        if !self.window.lock().unwrap_or_else(PoisonError::into_inner).take(bytes, Instant::now()) {
            self.over.cancel();
        }
        Service::handle_request(&self.quiet, request, context).await
    }

    async fn handle_notification(
        &self,
        notification: ServerNotification,
        context: NotificationContext<RoleClient>,
    ) -> Result<(), ErrorData> {
        Service::handle_notification(&self.quiet, notification, context).await
    }

    fn get_info(&self) -> ClientConfig {
        rmcp::ClientHandler::get_info(&self.quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_counted_by_the_minute() {
        let start = Instant::now();
        let mut window = Window::new(start);
        assert!((0..QUESTIONS).all(|_| window.take(8, start)));
        assert!(!window.take(8, start), "one too many");
        assert!(window.take(8, start + WINDOW), "a minute later it may ask again");
        assert!(!window.take(NAMES_BYTES, start + WINDOW), "with names as long as a book it may not");
    }
}
