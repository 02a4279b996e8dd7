//! Groups of rollouts: which trajectories were drawn together for one question, in which order, from which
//! policy; picks between two of them; and the questions people's labels allow to roll again.

use rusqlite::{OptionalExtension, Row as SqlRow, params};
use serde::{Deserialize, Serialize};

use crate::store::redact::redact;
use crate::store::sessions::title;
use crate::store::{Result, Store, StoreError, Sync, now_ms};

/// One place of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Id of its trajectory, given before it begins.
    pub trajectory: String,
    pub seed: u64,
}

/// A group as it was drawn. Its id is also that of the session its trajectories belong to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupRow {
    pub id: String,
    pub question_id: String,
    /// Unix time in milliseconds.
    pub created_ms: i64,
    pub model_hash: String,
    /// Content hash of the planner's adapter.
    pub adapter: Option<String>,
    /// The seed the members' seeds follow from.
    pub seed: u64,
    pub temperature: f32,
    /// Most turns allowed; 0: no limit.
    pub turns: usize,
    /// In the order drawn. A member may have no trajectory: never begun, or deleted since.
    pub members: Vec<Member>,
}

/// A person's choice between two rollouts of a question. Relative: neither need be right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pick {
    /// Given by the store; 0 before.
    pub id: i64,
    pub question_id: String,
    /// Trajectories.
    pub better: String,
    pub worse: String,
    /// The better one stood on the left; sides are drawn at random.
    pub better_left: bool,
    pub seconds: Option<f64>,
    /// Unix time in milliseconds.
    pub created_ms: i64,
    /// When it was taken back.
    pub cleared_ms: Option<i64>,
}

/// A question with a label that still holds, and a trajectory that has its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastQuestion {
    pub question_id: String,
    pub trajectory: String,
    /// When it was last rolled as a group, Unix time in milliseconds.
    pub rolled_ms: Option<i64>,
}

const GROUP: &str =
    "SELECT id, question_id, created_ms, model_hash, adapter, seed, temperature, turns FROM groups";

impl Store {
    /// Keep a group before its first rollout begins. `query` names its session.
    ///
    /// # Errors
    /// Disk full, or the database cannot be written.
    pub fn add_group(&self, group: &GroupRow, query: &str) -> Result<()> {
        let name = title(&redact(query).map_or_else(|| query.to_string(), |(kept, _)| kept));
        self.begin(Sync::Normal, |transaction| {
            let sql = |e| self.sql(e);
            transaction
                .execute(
                    "INSERT INTO sessions (id, title, created_ms) VALUES (?1, ?2, ?3)",
                    params![group.id, name, group.created_ms],
                )
                .map_err(sql)?;
            transaction
                .execute(
                    "INSERT INTO groups
                       (id, question_id, created_ms, model_hash, adapter, seed, temperature, turns)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    params![
                        group.id,
                        group.question_id,
                        group.created_ms,
                        group.model_hash,
                        group.adapter,
                        group.seed.cast_signed(),
                        f64::from(group.temperature),
                        i64::try_from(group.turns).unwrap_or(i64::MAX),
                    ],
                )
                .map_err(sql)?;
            let mut insert = transaction
                .prepare_cached(
                    "INSERT INTO group_members (group_id, place, trajectory, seed) VALUES (?1, ?2, ?3, ?4)",
                )
                .map_err(sql)?;
            for (place, member) in (0_i64..).zip(&group.members) {
                insert
                    .execute(params![group.id, place, member.trajectory, member.seed.cast_signed()])
                    .map_err(sql)?;
            }
            Ok(())
        })
    }

    /// One group by its whole id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn group(&self, id: &str) -> Result<GroupRow> {
        let found = self.read_groups("id = ?1", id, -1)?;
        found.into_iter().next().ok_or_else(|| StoreError::NotFound(id.to_string()))
    }

    /// Groups, newest first: at most `limit` (0: all).
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn groups(&self, limit: usize) -> Result<Vec<GroupRow>> {
        let limit = if limit == 0 { -1 } else { i64::try_from(limit).unwrap_or(-1) };
        self.read_groups("?1 = ''", "", limit)
    }

    /// Groups of one question, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn question_groups(&self, question_id: &str) -> Result<Vec<GroupRow>> {
        self.read_groups("question_id = ?1", question_id, -1)
    }

    /// The id of the one group whose id begins or ends with `piece`.
    ///
    /// # Errors
    /// `NotFound`, or `Ambiguous` with an example.
    pub fn find_group(&self, piece: &str) -> Result<String> {
        self.find_in("groups", piece)
    }

    /// The group a trajectory was drawn in, if it was.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn group_of(&self, trajectory: &str) -> Result<Option<String>> {
        self.read(|view| {
            view.query_row("SELECT group_id FROM group_members WHERE trajectory = ?1", [trajectory], |row| {
                row.get(0)
            })
            .optional()
            .map_err(|e| self.sql(e))
        })
    }

    fn read_groups(&self, which: &str, key: &str, limit: i64) -> Result<Vec<GroupRow>> {
        self.read(|view| {
            let sql = |e| self.sql(e);
            let mut statement = view
                .prepare_cached(&format!("{GROUP} WHERE {which} ORDER BY created_ms DESC, id DESC LIMIT ?2"))
                .map_err(sql)?;
            let rows = statement.query_map(params![key, limit], read_group);
            let mut groups: Vec<GroupRow> = rows.and_then(Iterator::collect).map_err(sql)?;
            let mut members = view
                .prepare_cached(
                    "SELECT trajectory, seed FROM group_members WHERE group_id = ?1 ORDER BY place",
                )
                .map_err(sql)?;
            for group in &mut groups {
                let rows = members.query_map([&group.id], |row| {
                    Ok(Member { trajectory: row.get(0)?, seed: row.get::<_, i64>(1)?.cast_unsigned() })
                });
                group.members = rows.and_then(Iterator::collect).map_err(sql)?;
            }
            Ok(groups)
        })
    }

    /// Keep a pick; answers its id.
    ///
    /// # Errors
    /// Both are the same rollout, or the database cannot be written.
    pub fn add_pick(&self, pick: &Pick) -> Result<i64> {
        if pick.better == pick.worse {
            return Err(StoreError::Invalid("a pick is between two rollouts".to_string()));
        }
        if pick.seconds.is_some_and(|seconds| !seconds.is_finite()) {
            return Err(StoreError::Invalid("the seconds of a pick are no number".to_string()));
        }
        self.write(Sync::Full, |transaction| {
            transaction
                .execute(
                    "INSERT INTO picks (question_id, better, worse, better_left, seconds, created_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![
                        pick.question_id,
                        pick.better,
                        pick.worse,
                        pick.better_left,
                        pick.seconds,
                        pick.created_ms
                    ],
                )
                .map_err(|e| self.sql(e))?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// Take a pick back; it stays on record.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn clear_pick(&self, id: i64) -> Result<usize> {
        self.write(Sync::Full, |transaction| {
            transaction
                .execute(
                    "UPDATE picks SET cleared_ms = ?2 WHERE id = ?1 AND cleared_ms IS NULL",
                    params![id, now_ms()],
                )
                .map_err(|e| self.sql(e))
        })
    }

    /// Picks on a question that were not taken back, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn picks(&self, question_id: &str) -> Result<Vec<Pick>> {
        self.read(|view| {
            let mut statement = view
                .prepare_cached(
                    "SELECT id, question_id, better, worse, better_left, seconds, created_ms, cleared_ms
                     FROM picks WHERE question_id = ?1 AND cleared_ms IS NULL ORDER BY id",
                )
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map([question_id], |row| {
                Ok(Pick {
                    id: row.get(0)?,
                    question_id: row.get(1)?,
                    better: row.get(2)?,
                    worse: row.get(3)?,
                    better_left: row.get(4)?,
                    seconds: row.get(5)?,
                    created_ms: row.get(6)?,
                    cleared_ms: row.get(7)?,
                })
            });
            rows.and_then(Iterator::collect).map_err(|e| self.sql(e))
        })
    }

    /// Questions with a person's or a checker's word on an answer that was neither taken back nor expired,
    /// the longest not rolled first. A question whose every trajectory was deleted, or had a secret taken
    /// out, cannot be asked again and is not among them.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn past_questions(&self, limit: usize) -> Result<Vec<PastQuestion>> {
        let limit = if limit == 0 { -1 } else { i64::try_from(limit).unwrap_or(-1) };
        self.read(|view| {
            let mut statement = view
                .prepare_cached(
                    "SELECT question_id, trajectory, rolled_ms FROM (
                       SELECT l.question_id AS question_id, max(l.id) AS newest,
                         (SELECT t.id FROM trajectories t
                          WHERE t.question_id = l.question_id AND t.redacted = 0
                          ORDER BY t.started_ms DESC, t.id DESC LIMIT 1) AS trajectory,
                         (SELECT max(g.created_ms) FROM groups g WHERE g.question_id = l.question_id)
                           AS rolled_ms
                       FROM labels l LEFT JOIN label_clears c ON c.label = l.id
                       WHERE c.label IS NULL AND l.scope = 'answer' AND l.source <> 'judge'
                         AND (l.expiry_ms IS NULL OR l.expiry_ms > ?1)
                       GROUP BY l.question_id)
                     WHERE trajectory IS NOT NULL
                     ORDER BY rolled_ms IS NOT NULL, rolled_ms, newest DESC LIMIT ?2",
                )
                .map_err(|e| self.sql(e))?;
            let rows = statement.query_map(params![now_ms(), limit], |row| {
                Ok(PastQuestion { question_id: row.get(0)?, trajectory: row.get(1)?, rolled_ms: row.get(2)? })
            });
            rows.and_then(Iterator::collect).map_err(|e| self.sql(e))
        })
    }
}

fn read_group(row: &SqlRow) -> rusqlite::Result<GroupRow> {
    Ok(GroupRow {
        id: row.get(0)?,
        question_id: row.get(1)?,
        created_ms: row.get(2)?,
        model_hash: row.get(3)?,
        adapter: row.get(4)?,
        seed: row.get::<_, i64>(5)?.cast_unsigned(),
        temperature: row.get::<_, f64>(6)? as f32,
        turns: usize::try_from(row.get::<_, i64>(7)?).unwrap_or(0),
        members: Vec::new(),
    })
}
