//! The gate of a candidate: which questions judge it, the paired rollouts, what is kept, and what follows.
//!
//! `train` and `adapters judge` both come here. What was seen of a candidate before counts, and what is added are
//! draws it has not had.

use std::collections::HashSet;
use std::path::Path;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::store::{Adapter, GatePair, Store, WEIGHTS};
use crate::tasks::question::Question;
use crate::tasks::{Split, files, loaders};
use crate::train::gate::{Decision, Gate, Opponent, Report, Trial, Verdict, chosen, disjoint, gate_seed};
use crate::train::judge::{self, Met, PINNED_STEPS, Patience};
use crate::train::ledger;
use crate::train::train_loop::Trainer;

use super::super::standing::Standing;
use super::say;

/// `--gate` for the questions that labels know answers to.
pub const LEDGER: &str = "ledger";

/// Why a gate cannot be asked.
pub const NO_QUESTIONS: &str = "there are no questions to judge by: roll out and label another question than those that \
                                train, or name a file with --gate";

/// What a gate may ask.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// A file's questions, or the bundled ones of the embedded planner.
    pub file: Vec<Question>,
    /// The ledger's own as well.
    pub ledger: bool,
}

impl Pool {
    /// What `--gate` names: a file; the word `ledger`; by default the ledger, and beside it the bundled questions
    /// where the embedded planner serves.
    ///
    /// # Errors
    /// The file holds no questions a gate can ask; says which row and why.
    pub fn of(named: Option<&Path>, embedded: bool) -> Result<Pool, Error> {
        match named {
            Some(word) if word == Path::new(LEDGER) => Ok(Pool { file: Vec::new(), ledger: true }),
            Some(file) => Ok(Pool { file: load(file)?, ledger: false }),
            None if embedded => {
                let file = files::bundled(Split::Gate).into_iter().map(Question::from).collect();
                Ok(Pool { file, ledger: true })
            }
            None => Ok(Pool { file: Vec::new(), ledger: true }),
        }
    }

    /// The questions that judge the step after `accepted` accepted ones, none of which is in `trained`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn questions(
        &self,
        store: &Store,
        trained: &HashSet<String>,
        accepted: usize,
    ) -> Result<Vec<Question>, Error> {
        let file = ledger::untrained(self.file.clone(), trained);
        let mut questions = chosen(&file, |question| &question.id, accepted);
        if self.ledger {
            questions.extend(ledger::questions(store, trained)?);
        }
        Ok(questions)
    }
}

/// A file of questions that can train or judge: whatever `eval` reads, but for rows with files of their own.
///
/// # Errors
/// As `eval`'s; or a row comes with a file.
pub fn load(file: &Path) -> Result<Vec<Question>, Error> {
    let questions = loaders::load(file, None).map_err(|e| Error::Usage(e.to_string()))?;
    for question in &questions {
        ledger::asked(question)?;
    }
    Ok(questions)
}

/// Refuse questions that train and judge, whatever ids their files give them.
///
/// # Errors
/// Names how many and the first.
pub fn apart(training: &[Question], gate: &[Question]) -> Result<(), Error> {
    let texts = |questions: &[Question]| questions.iter().map(|q| q.query.clone()).collect::<Vec<_>>();
    let (training, gate) = (texts(training), texts(gate));
    if gate.is_empty() {
        return Ok(());
    }
    disjoint(training.iter().map(String::as_str), gate.iter().map(String::as_str))
        .map_err(|e| Error::Usage(e.to_string()))
}

/// How a candidate is judged.
#[derive(Clone, Copy, Debug)]
pub struct Judging {
    pub json: bool,
    pub seed: u64,
    /// Most pairs to add.
    pub pairs: u64,
}

/// Steps that were accepted on this model so far: each moves the window of gate questions on.
///
/// # Errors
/// The store cannot be read.
pub fn accepted(store: &Store, model: &str) -> Result<usize, Error> {
    Ok(store.adapter_moves(model)?.iter().filter(|moved| moved.why == "trained").count())
}

/// The gate's word on a candidate beside what plans now (None: the bare model); without questions or patience one
/// cannot tell. The evidence there was is gone on with; the new is kept, and the decision beside it.
///
/// # Errors
/// Engine or store, or it was interrupted; the pairs of every look so far are kept.
pub async fn judged(
    trainer: &Trainer,
    how: Judging,
    candidate: &Adapter,
    champion: Option<&Adapter>,
    questions: &[Question],
    cancel: &CancellationToken,
) -> anyhow::Result<Decision> {
    let store = &trainer.store;
    // What was found worse once stays so: no further pairs, nor none, let it through.
    if let Some(worse) = Standing::of(store, candidate)?.worse {
        let text = format!("gate: on record it is {worse}");
        say(how.json, &json!({"kind": "gate", "n": 0, "why": worse}), &text);
        return Ok(Decision::Refuse);
    }
    let none = match (questions.is_empty(), how.pairs) {
        (_, 0) => Some("none were asked for"),
        (true, _) => Some(NO_QUESTIONS),
        _ => None,
    };
    if let Some(why) = none {
        let text = format!("gate: no pairs were drawn, so one cannot tell: {why}");
        say(how.json, &json!({"kind": "gate", "n": 0, "why": why}), &text);
        return Ok(Decision::Hold);
    }
    let met = |opponent, adapter: Option<&Adapter>| -> anyhow::Result<Met> {
        let folder = adapter.map(|adapter| store.adapter_dir(adapter)).transpose()?;
        let (id, hash) = adapter.map(|adapter| (adapter.id.clone(), adapter.hash.clone())).unzip();
        Ok(Met { opponent, id, hash, file: folder.map(|folder| folder.join(WEIGHTS)) })
    };
    let ours = met(Opponent::Champion, Some(candidate))?.file;
    let seed = gate_seed(&candidate.hash, how.seed);
    let earlier = store.adapter_before(&candidate.model_hash, PINNED_STEPS)?;
    let earlier = earlier.map(|id| id.map(|id| store.adapter(&id)).transpose()).transpose()?;
    let champion = met(Opponent::Champion, champion)?;
    let pinned = earlier.map(|adapter| met(Opponent::Pinned, adapter.as_ref())).transpose()?;
    let mut others = judge::others(&champion, met(Opponent::Base, None)?, pinned);
    // What once served may be judged again.
    others.retain(|met| met.hash.as_ref() != Some(&candidate.hash));
    if !how.json {
        eprintln!(
            "gate: up to {} paired rollouts of {} questions, answered with the new adapter and with the one before",
            how.pairs,
            questions.len()
        );
    }
    trainer.may_sample(cancel).await?;
    let (mut gates, mut ids): (Vec<Gate>, Vec<Option<String>>) = (Vec::new(), Vec::new());
    // Steps that each lose too little to see add up: what beats the champion meets base and an earlier one, too.
    for theirs in std::iter::once(champion).chain(others) {
        let mut gate = kept(store, candidate, &theirs)?;
        let patience = Patience { pairs: gate.next_draw() + how.pairs, parallel: 16, ..Patience::default() };
        let whom = gate.opponent;
        let mut look = |report: &Report, pairs: &[GatePair]| {
            store.add_gate_look(&candidate.id, theirs.id.as_deref(), pairs, &json!(report))?;
            let text = format!("gate against {}: {}", whom.words(), report.figures_text());
            say(how.json, &json!({"kind": "gate", "report": report}), &text);
            Ok(())
        };
        let (ours, file) = (ours.clone(), theirs.file.clone());
        judge::judge(&trainer.flow, &mut gate, questions, seed, ours, file, patience, &mut look, cancel)
            .await?;
        let (report, verdict) = (gate.report(), gate.verdict());
        say(how.json, &json!({"kind": "verdict", "report": report}), &report.verdict_text());
        gates.push(gate);
        ids.push(theirs.id);
        if verdict == Verdict::Worse || (gates.len() == 1 && verdict != Verdict::Better) {
            break;
        }
    }
    let decision = Trial::new(candidate.hash.clone(), seed, gates).decision();
    for id in &ids {
        store.decide_gate(&candidate.id, id.as_deref(), decision.name())?;
    }
    Ok(decision)
}

/// What was seen of two before. Evidence is kept under both their ids, so it is never another's.
fn kept(store: &Store, candidate: &Adapter, theirs: &Met) -> Result<Gate, Error> {
    let seen = store.gate_pairs(&candidate.id, theirs.id.as_deref())?;
    let pairs: Vec<(bool, bool)> =
        seen.iter().map(|pair| (pair.candidate_reward > 0.5, pair.champion_reward > 0.5)).collect();
    let looks = store.gate_looks(&candidate.id)?;
    let last = looks.iter().rev().find(|look| look.champion == theirs.id);
    let left_out = last.and_then(|look| look.report["left_out"].as_u64()).unwrap_or(0);
    Ok(Gate::kept(theirs.opponent, theirs.hash.clone(), &pairs, left_out))
}

/// Keep the gate's word with the step that made the candidate.
///
/// # Errors
/// The store cannot be written.
pub fn keep_word(store: &Store, candidate: &Adapter, decision: Decision) -> Result<(), Error> {
    let verdict = match decision {
        Decision::Activate => "better",
        Decision::Refuse => "worse",
        Decision::Hold => "cannot_tell",
    };
    if let Some((run, step)) = store.step_of(&candidate.id)? {
        store.set_verdict(&run, step, verdict)?;
    }
    Ok(())
}
