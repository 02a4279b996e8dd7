//! `tillerman ask`: one query; the answer on stdout, progress on stderr, or every event as JSON.

use std::io::{IsTerminal, Read, Write, stdin, stdout};
use std::sync::Arc;

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::flow::event::{Event, Sink};
use crate::flow::solve::{Ask, solve};
use crate::flow::trajectory::Outcome;
use crate::store::{Store, StoreSink};
use crate::text::safe;
use crate::tools::Taint;

use super::setup::{self, Setup};
use super::{Global, approve, plain};

#[derive(Debug, Args)]
pub struct AskArgs {
    /// One event per line on stdout instead of the answer
    #[arg(long)]
    pub json: bool,
    /// Continue a session: its earlier questions and answers are seen
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// The planner's likeliest plans, not sampled ones: the same every time
    #[arg(long)]
    pub likeliest: bool,
    /// No progress on stderr
    #[arg(long, short)]
    pub quiet: bool,
    /// The question; `-` reads it from stdin
    pub query: String,
}

/// The question `make run` asks where no terminal is.
pub const SAMPLE: &str = "What is 37*41+5?";

/// Prints what the store has recorded.
pub(super) struct PrintSink {
    pub json: bool,
    pub quiet: bool,
}

impl Sink for PrintSink {
    fn record(&self, event: Event) -> Result<(), String> {
        if self.json {
            let line = plain::json(&serde_json::to_string(&event).map_err(|e| e.to_string())?);
            // A reader that went away (`| head`) must not stop the query from being recorded.
            let _ = writeln!(std::io::stdout(), "{line}");
        } else if !self.quiet
            && let Some(line) = plain::line(&event)
        {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        Ok(())
    }

    fn waits(&self, _: &str, waits: bool) {
        if waits && !self.quiet {
            let _ = writeln!(std::io::stderr(), "{}", super::WAITS);
        }
    }
}

pub async fn run(global: &Global, args: &AskArgs) -> anyhow::Result<i32> {
    let query = if args.query == "-" { stdin_query()? } else { args.query.clone() };
    if query.trim().is_empty() {
        return Err(Error::Usage("the query is empty; type a question".into()).into());
    }
    let mut setup = setup::open(global, 1)?;
    setup.say_notice();
    if let Some(off) = crate::tools::net::unread_address(&query, &setup.flow.toolbox) {
        eprintln!("tillerman: {}, so no page is read: {}", off.reason, off.remedy);
    }
    setup.flow.approvals = approve::at_the_terminal(global.approve);
    setup.flow = setup.flow.asked();
    if args.likeliest {
        setup.flow.planner_temperature = Some(0.0);
    }
    let store = Arc::new(Store::open(&setup.home)?);
    let (session, conversation, taint) = match &args.session {
        Some(prefix) => {
            let session = store.find_session(prefix)?;
            store.can_go_on(&session)?;
            let conversation = store.conversation(&session)?;
            let taint = store.taint(&session)?;
            (session, conversation, taint)
        }
        None => (store.new_session(&query)?, Vec::new(), Taint::default()),
    };
    let ask = Ask {
        id: uuid::Uuid::now_v7().to_string(),
        session,
        query,
        conversation,
        seed: global.seed.unwrap_or_else(setup::fresh_seed),
        prior: None,
        taint,
    };
    let print = Arc::new(PrintSink { json: args.json, quiet: args.quiet });
    answer(&setup, &ask, Arc::new(StoreSink::new(store).then(print)), args.json).await
}

/// Solve it and print its answer; answers the exit code.
pub(super) async fn answer(setup: &Setup, ask: &Ask, sink: Arc<dyn Sink>, json: bool) -> anyhow::Result<i32> {
    let cancel = CancellationToken::new();
    let interrupt = cancel.clone();
    let watcher = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupt.cancel();
        }
    });
    let trajectory = solve(&setup.flow, ask, sink, cancel).await;
    watcher.abort();
    match trajectory.outcome {
        Outcome::Answered => {
            if !json {
                let answer = trajectory.answer.unwrap_or_default();
                let _ = writeln!(std::io::stdout(), "{}", safe(&answer));
            }
            Ok(0)
        }
        Outcome::Cancelled => Ok(130),
        Outcome::Failed { reason, remedy, cause } => {
            eprintln!("tillerman: {}; {}", safe(&reason), safe(&remedy));
            Ok(super::failure_code(cause))
        }
        Outcome::Running => Ok(1),
    }
}

fn stdin_query() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin().take(4 << 20).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether there is a terminal to show the deck on.
pub fn is_terminal() -> bool {
    stdin().is_terminal() && stdout().is_terminal()
}

/// Without a terminal: say so, and show that the whole loop works here.
pub async fn sample(global: &Global) -> anyhow::Result<i32> {
    let why = if stdout().is_terminal() { "stdin is no terminal" } else { "stdout is no terminal" };
    eprintln!(
        "{why}: answering one sample question instead of opening the deck; `tillerman --plain` asks what stands on stdin"
    );
    eprintln!("> tillerman ask --likeliest \"{SAMPLE}\"");
    // The sample shows what a run looks like, so it is the same run everywhere.
    let query = SAMPLE.to_string();
    run(global, &AskArgs { json: false, session: None, likeliest: true, quiet: false, query }).await
}
