//! The gate at work: a candidate and its opponent answer the same questions with the same seeds, a block at
//! a time, until the evidence decides or the pairs are used up. What serves afterwards is the caller's choice.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::flow::solve::Flow;
use crate::tasks::Task;
use crate::tasks::eval::{Asked, How, Scored, score};
use crate::train::gate::{Gate, Opponent, Report, Verdict, draw};

/// How long a gate looks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Patience {
    /// Most paired rollouts.
    pub pairs: u64,
    /// Pairs between two looks; each look swaps the adapter twice.
    pub block: u64,
    pub parallel: usize,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { pairs: 240, block: 24, parallel: 8 }
    }
}

/// Add pairs to `gate` until it decides or patience ends. `candidate` and `opponent` are adapter files (None:
/// the bare model). `look` hears every look's report.
///
/// # Errors
/// The engine cannot swap, no questions, or cancelled; the evidence so far stays in `gate`.
#[expect(clippy::too_many_arguments, reason = "a comparison's whole input, each of another kind")]
pub async fn judge(
    flow: &Flow,
    gate: &mut Gate,
    tasks: &[Task],
    seed: u64,
    candidate: Option<PathBuf>,
    opponent: Option<PathBuf>,
    patience: Patience,
    look: &mut (dyn FnMut(&Report) + Send),
    cancel: &CancellationToken,
) -> Result<Verdict, Error> {
    if tasks.is_empty() {
        return Err(Error::Train(
            "the gate has no questions; name a task file whose questions do not train".into(),
        ));
    }
    while gate.verdict() == Verdict::CannotTell && gate.next_draw() < patience.pairs {
        let first = gate.next_draw();
        let block: Vec<Asked> = (first..(first + patience.block).min(patience.pairs))
            .map(|number| draw(seed, number, tasks.len()))
            .map(|draw| Asked { question: tasks[draw.question].clone().into(), seed: draw.seed })
            .collect();
        let ours = answers(flow, &block, candidate.clone(), patience.parallel, cancel).await?;
        let theirs = answers(flow, &block, opponent.clone(), patience.parallel, cancel).await?;
        if cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        for (ours, theirs) in ours.iter().zip(&theirs) {
            match (ours, theirs) {
                (Some(ours), Some(theirs)) => drop(gate.add(ours.right, theirs.right)),
                _ => gate.leave_out(),
            }
        }
        look(&gate.report());
    }
    Ok(gate.verdict())
}

/// In the block's order; None where the pass did not end.
async fn answers(
    flow: &Flow,
    block: &[Asked],
    adapter: Option<PathBuf>,
    parallel: usize,
    cancel: &CancellationToken,
) -> Result<Vec<Option<Scored>>, Error> {
    let mut flow = flow.clone();
    flow.adapter = flow.engine.set_adapter(adapter).await?;
    let mut rows = score(&flow, block, &How::unrecorded(parallel), cancel, |_, _| {}).await;
    Ok(block
        .iter()
        .map(|asked| {
            let same = |row: &Scored| row.id == asked.question.id && row.seed == asked.seed;
            rows.iter().position(same).map(|at| rows.swap_remove(at))
        })
        .collect())
}

/// A gate against the champion.
pub fn against(champion: Option<&crate::store::Adapter>) -> Gate {
    Gate::new(Opponent::Champion, champion.map(|adapter| adapter.hash.clone()))
}
