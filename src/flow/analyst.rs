//! Query analysis: what is asked for and what it will take, before the first turn.

use crate::engine::Role;
use crate::flow::prompt::Fill;
use crate::flow::run::{Halt, Run};
use crate::flow::trajectory::QueryAnalysis;

/// Ask the frozen model what the query needs.
pub async fn analyse(run: &mut Run<'_>) -> Result<QueryAnalysis, Halt> {
    let fill = Fill {
        toolbox: Some(&run.flow.toolbox),
        query: &run.ask.query,
        conversation: &run.ask.conversation,
        ..Fill::default()
    };
    let messages = run.flow.pack.messages(Role::Analyst, &fill);
    let completion = run.call(Role::Analyst, messages, None).await?;
    Ok(QueryAnalysis { text: completion.text.trim().to_string() })
}
