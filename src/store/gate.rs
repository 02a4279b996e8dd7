//! The record of the gate: which questions candidate and champion answered with which seed and outcome, what
//! every look said, and what was decided. What the numbers mean is the gate's business.

use rusqlite::params;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::{Result, Store, StoreError, Sync, now_ms};

/// One question answered under both adapters with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatePair {
    pub question_id: String,
    pub seed: u64,
    /// Rewards in 0..=1.
    pub candidate_reward: f64,
    pub champion_reward: f64,
}

/// What the gate knew when it looked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateLook {
    /// Adapter id; None: the bare model.
    pub champion: Option<String>,
    /// Counts, evidence and bounds, as given.
    pub report: Value,
    /// What followed from it: activate, refuse or hold; None: the gate went on.
    pub decision: Option<String>,
    /// Unix time in milliseconds.
    pub created_ms: i64,
}

impl Store {
    /// Keep a look: the paired rollouts since the last one, in the order they were drawn, and what the gate
    /// says of all of them. Candidate and champion are adapter ids (None: the bare model).
    ///
    /// # Errors
    /// A reward outside 0..=1, or the database cannot be written; then nothing of the look is kept.
    pub fn add_gate_look(
        &self,
        candidate: &str,
        champion: Option<&str>,
        pairs: &[GatePair],
        report: &Value,
    ) -> Result<()> {
        let rewards = pairs.iter().flat_map(|pair| [pair.candidate_reward, pair.champion_reward]);
        if let Some(bad) = rewards.into_iter().find(|reward| !(0.0..=1.0).contains(reward)) {
            return Err(StoreError::Invalid(format!("a reward of {bad} is no evidence; it lies in 0..=1")));
        }
        let champion = champion.unwrap_or_default();
        self.write(Sync::Full, |transaction| {
            let mut insert = transaction
                .prepare_cached(
                    "INSERT INTO gate_pairs (candidate, champion, question_id, seed, candidate_reward,
                       champion_reward, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )
                .map_err(|e| self.sql(e))?;
            for pair in pairs {
                insert
                    .execute(params![
                        candidate,
                        champion,
                        pair.question_id,
                        pair.seed.cast_signed(),
                        pair.candidate_reward,
                        pair.champion_reward,
                        now_ms(),
                    ])
                    .map_err(|e| self.sql(e))?;
            }
            transaction
                .execute(
                    "INSERT INTO gate_looks (candidate, champion, report, created_ms) VALUES (?1, ?2, ?3, ?4)",
                    params![candidate, champion, report.to_string(), now_ms()],
                )
                .map(drop)
                .map_err(|e| self.sql(e))
        })
    }

    /// What the last look at these two led to.
    ///
    /// # Errors
    /// They were never compared, or the database cannot be written.
    pub fn decide_gate(&self, candidate: &str, champion: Option<&str>, decision: &str) -> Result<()> {
        self.write(Sync::Full, |transaction| {
            let changed = transaction
                .execute(
                    "UPDATE gate_looks SET decision = ?3 WHERE id =
                       (SELECT max(id) FROM gate_looks WHERE candidate = ?1 AND champion = ?2)",
                    params![candidate, champion.unwrap_or_default(), decision],
                )
                .map_err(|e| self.sql(e))?;
            if changed == 1 {
                return Ok(());
            }
            let whom = champion.unwrap_or("the bare model");
            Err(StoreError::Invalid(format!("{candidate} was never compared with {whom}")))
        })
    }

    /// All looks at a candidate, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn gate_looks(&self, candidate: &str) -> Result<Vec<GateLook>> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(
                    "SELECT champion, report, decision, created_ms FROM gate_looks
                     WHERE candidate = ?1 ORDER BY id",
                )
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map([candidate], |row| {
                let champion: String = row.get(0)?;
                let report: String = row.get(1)?;
                Ok(GateLook {
                    champion: (!champion.is_empty()).then_some(champion),
                    report: serde_json::from_str(&report).unwrap_or(Value::String(report)),
                    decision: row.get(2)?,
                    created_ms: row.get(3)?,
                })
            });
            rows.and_then(Iterator::collect).map_err(|e| self.sql(e))
        })
    }

    /// All pairs of two adapters, in the order they were drawn.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn gate_pairs(&self, candidate: &str, champion: Option<&str>) -> Result<Vec<GatePair>> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(
                    "SELECT question_id, seed, candidate_reward, champion_reward FROM gate_pairs
                     WHERE candidate = ?1 AND champion = ?2 ORDER BY id",
                )
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map([candidate, champion.unwrap_or_default()], |row| {
                Ok(GatePair {
                    question_id: row.get(0)?,
                    seed: row.get::<_, i64>(1)?.cast_unsigned(),
                    candidate_reward: row.get(2)?,
                    champion_reward: row.get(3)?,
                })
            });
            rows.and_then(Iterator::collect).map_err(|e| self.sql(e))
        })
    }
}
