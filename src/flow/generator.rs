//! The generator: (query, memory) -> answer.

use crate::engine::Role;
use crate::flow::memory::Memory;
use crate::flow::prompt::Fill;
use crate::flow::run::{Halt, Run};
use crate::flow::trajectory::QueryAnalysis;

/// Answer from what memory holds.
pub async fn generate(run: &mut Run<'_>, analysis: &QueryAnalysis, memory: &Memory) -> Result<String, Halt> {
    let fill = Fill {
        toolbox: Some(&run.flow.toolbox),
        query: &run.ask.query,
        conversation: &run.ask.conversation,
        analysis: &analysis.text,
        memory: Some(memory),
        ..Fill::default()
    };
    let messages = run.flow.pack.messages(Role::Generator, &fill);
    let completion = run.call(Role::Generator, messages, None).await?;
    let text = completion.text.rsplit("</think>").next().unwrap_or_default().trim();
    Ok(text.to_string())
}
