//! The gate at work: a candidate and its opponent answer the same questions with the same seeds, a block at
//! a time, until the evidence decides or the pairs are used up. What serves afterwards is the caller's choice.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::flow::solve::Flow;
use crate::store::GatePair;
use crate::tasks::eval::{Asked, How, Scored, score};
use crate::tasks::question::Question;
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

/// Hears every look's report and the pairs that are new in it.
pub type Look<'a> = dyn FnMut(&Report, &[GatePair]) -> Result<(), Error> + Send + 'a;

/// Add pairs to `gate` until it decides or it has `patience.pairs` of them, those it began with included. `candidate` and `opponent` are adapter files (None:
/// the bare model).
///
/// # Errors
/// The engine cannot swap, no questions, cancelled, or `look` failed; the evidence so far stays in `gate`.
#[expect(clippy::too_many_arguments, reason = "a comparison's whole input, each of another kind")]
pub async fn judge(
    flow: &Flow,
    gate: &mut Gate,
    tasks: &[Question],
    seed: u64,
    candidate: Option<PathBuf>,
    opponent: Option<PathBuf>,
    patience: Patience,
    look: &mut Look<'_>,
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
            .map(|draw| Asked { question: tasks[draw.question].clone(), seed: draw.seed })
            .collect();
        let ours = answers(flow, &block, candidate.clone(), patience.parallel, cancel).await?;
        let theirs = answers(flow, &block, opponent.clone(), patience.parallel, cancel).await?;
        if cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        let mut pairs = Vec::new();
        for (asked, (ours, theirs)) in block.iter().zip(ours.iter().zip(&theirs)) {
            let (Some(ours), Some(theirs)) = (ours, theirs) else {
                gate.leave_out();
                continue;
            };
            gate.add(ours.right, theirs.right);
            pairs.push(GatePair {
                question_id: asked.question.id.clone(),
                seed: asked.seed,
                candidate_reward: f64::from(u8::from(ours.right)),
                champion_reward: f64::from(u8::from(theirs.right)),
            });
        }
        look(&gate.report(), &pairs)?;
    }
    Ok(gate.verdict())
}

/// In the block's order; None where the pass did not end, or nobody has said whether its answer is right.
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
            let row = rows.iter().position(same).map(|at| rows.swap_remove(at))?;
            let open = row.answer.as_deref().is_some_and(|answer| asked.question.key.is_open(answer));
            (!open).then_some(row)
        })
        .collect())
}

/// Whom a candidate meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    pub opponent: Opponent,
    /// Adapter id; None: the bare model.
    pub id: Option<String>,
    /// Content hash of its adapter; None: the bare model.
    pub hash: Option<String>,
    /// The adapter's file.
    pub file: Option<PathBuf>,
}

/// Accepted steps between a candidate's champion and the one it is pinned to.
pub const PINNED_STEPS: usize = 5;

/// Whom else than the champion a candidate has to meet: base, and what served [`PINNED_STEPS`] moves earlier
/// (None: nothing did). Nobody is met twice.
pub fn others(champion: &Met, base: Met, pinned: Option<Met>) -> Vec<Met> {
    let mut met = vec![champion.hash.clone()];
    let mut others = Vec::new();
    for other in std::iter::once(base).chain(pinned) {
        if !met.contains(&other.hash) {
            met.push(other.hash.clone());
            others.push(other);
        }
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_met_twice() {
        let met = |opponent, hash: Option<&str>| {
            let hash = hash.map(str::to_string);
            Met { opponent, id: hash.clone(), hash, file: None }
        };
        let base = met(Opponent::Base, None);
        let bare = met(Opponent::Champion, None);
        assert_eq!(others(&bare, base.clone(), None), []);
        assert_eq!(others(&bare, base.clone(), Some(met(Opponent::Pinned, None))), []);
        let champion = met(Opponent::Champion, Some("c"));
        assert_eq!(others(&champion, base.clone(), Some(met(Opponent::Pinned, None))), vec![base.clone()]);
        let pinned = met(Opponent::Pinned, Some("p"));
        assert_eq!(others(&champion, base.clone(), Some(pinned.clone())), [base, pinned]);
    }
}
