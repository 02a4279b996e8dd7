-- Schema 2: groups of rollouts, adapters, training. Times, seeds as in schema 1.

-- First sketches of these tables; no version ever wrote a row into them.
DROP TABLE group_rollouts;
DROP TABLE groups;
DROP TABLE adapters;
DROP TABLE training_steps;

-- A group is a session of its own, so that deleting the session takes the group along.
CREATE TABLE groups (
  id TEXT PRIMARY KEY REFERENCES sessions(id) ON DELETE CASCADE,
  question_id TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  model_hash TEXT NOT NULL,
  -- Content hash of the planner's adapter; NULL: none.
  adapter TEXT,
  seed INTEGER NOT NULL,
  temperature REAL NOT NULL,
  turns INTEGER NOT NULL
) STRICT;
CREATE INDEX groups_question ON groups(question_id);

-- Written before the rollouts begin: a member may have no trajectory (never begun, or deleted).
CREATE TABLE group_members (
  group_id TEXT NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
  place INTEGER NOT NULL,
  trajectory TEXT NOT NULL UNIQUE,
  seed INTEGER NOT NULL,
  PRIMARY KEY (group_id, place)
) STRICT;

-- "This one is better than that one": relative, so it says nothing in the answer ledger.
CREATE TABLE picks (
  id INTEGER PRIMARY KEY,
  question_id TEXT NOT NULL,
  better TEXT NOT NULL,
  worse TEXT NOT NULL,
  -- 1 when the better one stood on the left: sides are drawn at random and kept.
  better_left INTEGER NOT NULL,
  seconds REAL,
  created_ms INTEGER NOT NULL,
  cleared_ms INTEGER
) STRICT;
CREATE INDEX picks_better ON picks(better);

-- Model files adapters were made for: the same path, size and time spare hashing gigabytes at each start.
CREATE TABLE models (
  hash TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  path TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  modified_ns INTEGER NOT NULL
) STRICT;

-- adapters/<id>/ holds the files; rows are never changed.
CREATE TABLE adapters (
  id TEXT PRIMARY KEY,
  -- blake3 of adapter.gguf; `id` is how it begins.
  hash TEXT NOT NULL UNIQUE,
  parent TEXT,
  model_hash TEXT NOT NULL,
  rank INTEGER NOT NULL,
  alpha REAL NOT NULL,
  created_ms INTEGER NOT NULL,
  -- trained | imported
  origin TEXT NOT NULL,
  -- JSON: what it was made from and what it measured
  manifest TEXT NOT NULL
) STRICT;

-- Which adapter serves, per base model: the newest row says. NULL: the bare model. `back` is the row a
-- rollback returns to.
CREATE TABLE adapter_moves (
  n INTEGER PRIMARY KEY,
  model_hash TEXT NOT NULL,
  adapter TEXT REFERENCES adapters(id),
  back INTEGER REFERENCES adapter_moves(n),
  why TEXT NOT NULL,
  moved_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX adapter_moves_model ON adapter_moves(model_hash, n);

CREATE TABLE training_runs (
  id TEXT PRIMARY KEY,
  created_ms INTEGER NOT NULL,
  model_hash TEXT NOT NULL,
  parent TEXT,
  seed INTEGER NOT NULL,
  settings TEXT NOT NULL,
  -- running | done | stopped | failed | interrupted
  status TEXT NOT NULL DEFAULT 'running',
  note TEXT,
  owner TEXT
) STRICT;

CREATE TABLE training_steps (
  run TEXT NOT NULL REFERENCES training_runs(id) ON DELETE CASCADE,
  step INTEGER NOT NULL,
  -- JSON array of group ids
  groups TEXT NOT NULL,
  stats TEXT NOT NULL,
  candidate TEXT,
  -- better | worse | cannot_tell | discarded; NULL: not judged yet
  verdict TEXT,
  created_ms INTEGER NOT NULL,
  PRIMARY KEY (run, step)
) STRICT;

-- Paired rollouts of the gate, one question and seed under both; '' is the bare model.
CREATE TABLE gate_pairs (
  id INTEGER PRIMARY KEY,
  candidate TEXT NOT NULL,
  champion TEXT NOT NULL,
  question_id TEXT NOT NULL,
  seed INTEGER NOT NULL,
  candidate_reward REAL NOT NULL,
  champion_reward REAL NOT NULL,
  created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX gate_pairs_between ON gate_pairs(candidate, champion);
