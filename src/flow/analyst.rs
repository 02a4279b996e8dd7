//! Query analysis: what is asked for and what it will take, before the first turn.

use crate::engine::Role;
use crate::flow::prompt::Fill;
use crate::flow::run::{Halt, Run};
use crate::flow::trajectory::QueryAnalysis;

/// Ask the frozen model what the query needs.
pub async fn analyse(run: &mut Run<'_>) -> Result<QueryAnalysis, Halt> {
    let (flow, ask) = (run.flow, run.ask);
    let build = |conversation| {
        let fill = Fill { toolbox: Some(&flow.toolbox), query: &ask.query, conversation, ..Fill::default() };
        flow.pack.messages(Role::Analyst, &fill)
    };
    let (completion, _) = run.fitting(Role::Analyst, None, build).await?;
    Ok(QueryAnalysis { text: completion.text.trim().to_string() })
}
