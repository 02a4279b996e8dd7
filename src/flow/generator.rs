//! The generator: (query, memory) -> answer.

use crate::engine::{Completion, Constraint, Message, Role, Sampler};
use crate::flow::memory::Memory;
use crate::flow::prompt::Fill;
use crate::flow::quote;
use crate::flow::run::{Halt, Run};
use crate::flow::trajectory::QueryAnalysis;

/// Answer from what memory holds.
pub async fn generate(run: &mut Run<'_>, analysis: &QueryAnalysis, memory: &Memory) -> Result<String, Halt> {
    let (flow, ask) = (run.flow, run.ask);
    let build = |conversation| {
        let fill = Fill {
            toolbox: Some(&flow.toolbox),
            query: &ask.query,
            conversation,
            analysis: &analysis.text,
            memory: Some(memory),
            ..Fill::default()
        };
        flow.pack.messages(Role::Generator, &fill)
    };
    let (completion, messages) = run.fitting(Role::Generator, None, build).await?;
    let answer = said(&completion);
    let pack = run.flow.pack.of(Role::Generator);
    let Some(no_answer) = pack.settings.no_answer.clone() else { return Ok(answer) };
    let results: Vec<String> = memory.entries.iter().map(|entry| pack.flat(&entry.result)).collect();
    if answer == no_answer || results.is_empty() || quote::is_quote(&answer, &results) {
        return Ok(answer);
    }
    let quotation = quoted(run, messages, &results, &no_answer).await?;
    Ok(quotation.unwrap_or(answer))
}

/// The likeliest of some quotations; None where the engine gives none or a limit is reached first.
async fn quoted(
    run: &mut Run<'_>,
    messages: Vec<Message>,
    results: &[String],
    no_answer: &str,
) -> Result<Option<String>, Halt> {
    let grammar = quote::grammar(results, no_answer);
    let mut best: Option<(f32, String)> = None;
    for draw in 0..quote::DRAWS {
        let temperature = if draw == 0 { 0.0 } else { 1.0 };
        let sampler = Sampler::temperature(temperature, run.call_seed(Role::Generator));
        let constraint = Some(Constraint::Grammar(grammar.clone()));
        let completion = match run.quiet_call(Role::Generator, messages.clone(), constraint, sampler).await {
            Err(Halt::Limit(_)) => break,
            completion => completion?,
        };
        let (answer, chance) = (said(&completion), completion.logprobs.iter().sum());
        let fits = answer == no_answer || quote::is_quote(&answer, results);
        if fits && best.as_ref().is_none_or(|(most, _)| chance > *most) {
            best = Some((chance, answer));
        }
    }
    Ok(best.map(|(_, answer)| answer))
}

fn said(completion: &Completion) -> String {
    completion.text.rsplit("</think>").next().unwrap_or_default().trim().to_string()
}
