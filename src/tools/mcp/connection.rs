//! A connection to a running server: opened with a time limit, asked for its tools, asked to run one. It restarts
//! nothing and approves nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientRequest, ListToolsRequest,
    PaginatedRequestParams, ServerResult,
};
use rmcp::service::{ClientInitializeError, RoleClient, RunningService, ServiceError, serve_client};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::child::Child;
use super::guard::{Fault, Guard, MESSAGE_MOST, too_deep};
use super::listener::{Listener, TOO_MANY};
use super::pin::Listed;
use crate::config::Mcp;
use crate::engine::http::plain_client;
use crate::engine::key::Key;
use crate::error::innermost;

/// Tools a list may hold before the wanted ones are chosen.
const LIST_MOST: usize = 1024;
/// Bytes all of a list may hold.
const LIST_BYTES: usize = MESSAGE_MOST;

/// Why a call gave nothing.
#[derive(Debug)]
pub enum Trouble {
    /// The server answers and refuses this call.
    Refused(String),
    /// It took too long.
    Late,
    /// There is no server at the other end any more; says why as far as it is known.
    Gone(String),
}

/// See the file's head.
pub struct Connection {
    // Before the child: dropping it closes the pipe, at which the child ends by itself.
    service: RunningService<RoleClient, Listener>,
    child: Option<Child>,
    fault: Fault,
    changed: Arc<AtomicBool>,
    /// It asks more than can be answered.
    over: CancellationToken,
}

impl Connection {
    /// Start or reach the server and greet it.
    ///
    /// # Errors
    /// Why there is no server to talk to.
    pub async fn open(settings: &Mcp, exe: &Path) -> Result<Connection, String> {
        let (fault, changed) = (Fault::default(), Arc::new(AtomicBool::new(false)));
        let over = CancellationToken::new();
        let listener = Listener::new(changed.clone(), over.clone());
        let limit = Duration::from_secs(settings.start_s);
        let late =
            || format!("it was not ready within {} s; raise start_s if it needs longer", settings.start_s);
        if settings.command.is_empty() {
            let transport = StreamableHttpClientTransport::with_client(client()?, http(settings)?);
            let greeted = tokio::time::timeout(limit, serve_client(listener, transport)).await;
            let service = greeted.map_err(|_| late())?.map_err(|e| why(&e))?;
            return Ok(Connection { service, child: None, fault, changed, over });
        }
        let (child, pipes) =
            Child::spawn(exe, &settings.command, &settings.env).map_err(|e| e.to_string())?;
        let output = Guard::new(pipes.output, fault.clone());
        let transport = AsyncRwTransport::new_client(output, pipes.input).with_max_line_length(MESSAGE_MOST);
        match tokio::time::timeout(limit, serve_client(listener, transport)).await {
            Ok(Ok(service)) => Ok(Connection { service, child: Some(child), fault, changed, over }),
            Ok(Err(error)) => Err(end_of(Some(&child), &fault).await.unwrap_or_else(|| why(&error))),
            Err(_) => Err(late()),
        }
    }

    /// Every tool it lists.
    ///
    /// # Errors
    /// It does not answer, or lists without end.
    pub async fn list(&self, limit: Duration) -> Result<Vec<Listed>, Trouble> {
        // Read before asking: a change while it answers is told again.
        self.changed.store(false, Ordering::Relaxed);
        let pages = async {
            let (mut tools, mut bytes, mut cursor) = (Vec::new(), 0, None);
            loop {
                let (page, next) = self.page(cursor).await?;
                for tool in page {
                    bytes += tool.schema.to_string().len() + tool.description.as_ref().map_or(0, String::len);
                    tools.push(tool);
                }
                if tools.len() > LIST_MOST || bytes > LIST_BYTES {
                    return Err(Trouble::Refused("it lists more tools than can be looked at".to_string()));
                }
                cursor = next;
                if cursor.is_none() {
                    return Ok(tools);
                }
            }
        };
        self.within(limit, pages).await?
    }

    /// What comes of it in time, and before the server asks too much.
    async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Result<T, Trouble> {
        tokio::select! {
            done = tokio::time::timeout(limit, work) => done.map_err(|_| Trouble::Late),
            () = self.over.cancelled() => Err(Trouble::Gone(TOO_MANY.to_string())),
        }
    }

    async fn page(&self, cursor: Option<String>) -> Result<(Vec<Listed>, Option<String>), Trouble> {
        let params = PaginatedRequestParams::default().with_cursor(cursor);
        let request = ListToolsRequest {
            method: Default::default(),
            params: Some(params),
            extensions: Default::default(),
        };
        let answer = self.service.peer().send_request(ClientRequest::ListToolsRequest(request)).await;
        match answer {
            Ok(ServerResult::ListToolsResult(page)) => {
                let tools = page.tools.into_iter().map(listed).collect::<Result<_, _>>();
                Ok((tools.map_err(Trouble::Refused)?, page.next_cursor))
            }
            Ok(_) => Err(Trouble::Refused("it answered another question".to_string())),
            Err(error) => Err(self.trouble(error).await),
        }
    }

    /// Run a tool. Dropping the future tells the server to stop.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn call(
        &self,
        tool: &str,
        arguments: Map<String, Value>,
        limit: Duration,
    ) -> Result<CallToolResult, Trouble> {
        let params = CallToolRequestParams::new(tool.to_string()).with_arguments(arguments);
        match self.within(limit, self.service.peer().call_tool_once(params)).await? {
            Err(error) => Err(self.trouble(error).await),
            Ok(CallToolResponse::Complete(result)) => {
                if result.structured_content.as_ref().is_some_and(too_deep) {
                    return Err(Trouble::Refused("its answer is nested too deeply".to_string()));
                }
                Ok(result)
            }
            Ok(_) => {
                Err(Trouble::Refused("it asks questions back, which no role here can answer".to_string()))
            }
        }
    }

    /// Whether it still answers at all.
    pub async fn answers(&self) -> bool {
        let ping = ClientRequest::PingRequest(Default::default());
        matches!(
            tokio::time::timeout(Duration::from_secs(5), self.service.peer().send_request(ping)).await,
            Ok(Ok(_))
        )
    }

    pub fn alive(&self) -> bool {
        !self.service.is_closed() && !self.service.peer().is_transport_closed() && !self.over.is_cancelled()
    }

    /// It said that its tools changed since they were listed.
    pub fn says_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    async fn trouble(&self, error: ServiceError) -> Trouble {
        match error {
            ServiceError::McpError(error) => Trouble::Refused(super::card::clean(&error.message, 400)),
            ServiceError::TransportClosed
            | ServiceError::TransportSend(_)
            | ServiceError::Cancelled { .. } => {
                Trouble::Gone(end_of(self.child.as_ref(), &self.fault).await.unwrap_or_else(|| words(&error)))
            }
            other => Trouble::Refused(words(&other)),
        }
    }
}

/// How a server came to its end, as far as this side knows.
async fn end_of(child: Option<&Child>, fault: &Fault) -> Option<String> {
    let fault = fault.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
    match (fault, child) {
        (Some(fault), _) => Some(fault),
        (None, Some(child)) => child.ended().await,
        (None, None) => None,
    }
}

/// Why a greeting failed, without the names of the types it went through.
fn why(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::TransportError { error, .. } => root(error.error.as_ref()),
        other => root(other),
    }
}

fn words(error: &ServiceError) -> String {
    match error {
        ServiceError::TransportSend(error) => root(error.error.as_ref()),
        other => root(other),
    }
}

/// The innermost cause in its own words; those around it only say that something failed.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let error = match error.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
        Some(StreamableHttpError::Client(client)) => client,
        _ => error,
    };
    super::card::clean(&innermost(error), 400)
}

fn listed(tool: rmcp::model::Tool) -> Result<Listed, String> {
    let annotations = tool.annotations.map_or(Ok(Value::Null), serde_json::to_value);
    let schema = Value::Object((*tool.input_schema).clone());
    let name = tool.name.into_owned();
    if too_deep(&schema) {
        return Err(format!("the schema of {:?} is nested too deeply", super::card::clean(&name, 40)));
    }
    Ok(Listed {
        name,
        title: tool.title,
        description: tool.description.map(std::borrow::Cow::into_owned),
        schema,
        annotations: annotations.map_err(|e| e.to_string())?,
    })
}

/// Nothing but the address in the settings is contacted: no proxy either.
fn client() -> Result<reqwest::Client, String> {
    plain_client()
        .user_agent(concat!("tillerman/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .connect_timeout(Duration::from_secs(10))
        .build()
        .map_err(|e| format!("no HTTP client: {}", innermost(&e)))
}

fn http(settings: &Mcp) -> Result<StreamableHttpClientTransportConfig, String> {
    let config = StreamableHttpClientTransportConfig::with_uri(settings.url.as_str())
        .max_sse_event_size(MESSAGE_MOST)
        .max_json_response_size(MESSAGE_MOST);
    let (key_env, key_file) = (&settings.key_env, &settings.key_file);
    Ok(match Key::beside(&settings.url, key_env, key_file, settings.key_over_http)? {
        Some(key) => config.auth_header(key.token()),
        None => config,
    })
}
