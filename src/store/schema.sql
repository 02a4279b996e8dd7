-- Schema 1. Times are Unix milliseconds, seeds are u64 kept as the i64 of the same bits,
-- id arrays are little-endian i32, log-probabilities little-endian f32, forced one byte each.

CREATE TABLE sessions (
  id TEXT PRIMARY KEY,
  title TEXT NOT NULL,
  created_ms INTEGER NOT NULL
) STRICT;

-- What lists and searches need; the events are the truth.
CREATE TABLE trajectories (
  id TEXT PRIMARY KEY,
  session TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
  question_id TEXT NOT NULL,
  query TEXT NOT NULL,
  started_ms INTEGER NOT NULL,
  -- running | answered | failed | cancelled | interrupted (its process ended without a last event)
  status TEXT NOT NULL DEFAULT 'running',
  answer TEXT,
  canonical_answer TEXT,
  model_hash TEXT NOT NULL,
  adapter TEXT,
  turns INTEGER NOT NULL DEFAULT 0,
  seconds REAL NOT NULL DEFAULT 0,
  tokens INTEGER NOT NULL DEFAULT 0,
  seed INTEGER NOT NULL,
  tier TEXT,
  redacted INTEGER NOT NULL DEFAULT 0,
  owner TEXT
) STRICT;
CREATE INDEX trajectories_newest ON trajectories(started_ms);
CREATE INDEX trajectories_session ON trajectories(session);
CREATE INDEX trajectories_question ON trajectories(question_id);

CREATE TABLE events (
  trajectory TEXT NOT NULL REFERENCES trajectories(id) ON DELETE CASCADE,
  seq INTEGER NOT NULL,
  t_ms REAL NOT NULL,
  kind TEXT NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (trajectory, seq)
) STRICT;

-- What a model_call event leaves out of its body.
CREATE TABLE model_calls (
  trajectory TEXT NOT NULL,
  seq INTEGER NOT NULL,
  role TEXT NOT NULL,
  turn INTEGER NOT NULL,
  prompt_ids BLOB NOT NULL,
  completion_ids BLOB NOT NULL,
  logprobs BLOB NOT NULL,
  forced BLOB NOT NULL,
  sampler TEXT NOT NULL,
  seed INTEGER NOT NULL,
  template_hash TEXT NOT NULL,
  adapter TEXT,
  queue_ms REAL NOT NULL,
  prefill_ms REAL NOT NULL,
  decode_ms REAL NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (trajectory, seq),
  FOREIGN KEY (trajectory, seq) REFERENCES events(trajectory, seq) ON DELETE CASCADE
) STRICT;

-- Strings of an event's body that lie in blobs/<hash>; `pointer` is the JSON pointer of the string.
CREATE TABLE event_blobs (
  trajectory TEXT NOT NULL,
  seq INTEGER NOT NULL,
  pointer TEXT NOT NULL,
  hash TEXT NOT NULL,
  PRIMARY KEY (trajectory, seq, pointer),
  FOREIGN KEY (trajectory, seq) REFERENCES events(trajectory, seq) ON DELETE CASCADE
) STRICT;
CREATE INDEX event_blobs_hash ON event_blobs(hash);

-- The answer ledger. Rows are never changed; a label is taken back by a row in label_clears.
-- No reference to trajectories: a confirmed answer outlives the trajectory it was given on.
CREATE TABLE labels (
  id INTEGER PRIMARY KEY,
  trajectory TEXT,
  question_id TEXT NOT NULL,
  canonical_answer TEXT,
  scope TEXT NOT NULL CHECK (scope IN ('answer', 'plan', 'turn')),
  turn INTEGER,
  value TEXT NOT NULL CHECK (value IN ('good', 'bad')),
  text TEXT,
  correction TEXT,
  source TEXT NOT NULL CHECK (source IN ('person', 'checker', 'judge')),
  shown_set TEXT NOT NULL,
  "order" INTEGER NOT NULL,
  propensity REAL NOT NULL,
  seconds REAL,
  adapter TEXT,
  expiry_ms INTEGER,
  audit INTEGER NOT NULL,
  re_ask_of INTEGER REFERENCES labels(id),
  created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX labels_question ON labels(question_id);
CREATE INDEX labels_trajectory ON labels(trajectory);

CREATE TABLE label_clears (
  label INTEGER PRIMARY KEY REFERENCES labels(id),
  cleared_ms INTEGER NOT NULL
) STRICT;

CREATE TRIGGER labels_keep BEFORE UPDATE ON labels
BEGIN SELECT RAISE(ABORT, 'labels are append-only'); END;
CREATE TRIGGER labels_stay BEFORE DELETE ON labels
BEGIN SELECT RAISE(ABORT, 'labels are append-only'); END;

CREATE TABLE groups (
  id TEXT PRIMARY KEY,
  question_id TEXT NOT NULL,
  query TEXT NOT NULL,
  size INTEGER NOT NULL,
  adapter TEXT,
  created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE group_rollouts (
  group_id TEXT NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  trajectory TEXT NOT NULL REFERENCES trajectories(id) ON DELETE CASCADE,
  PRIMARY KEY (group_id, position)
) STRICT;

CREATE TABLE adapters (
  id TEXT PRIMARY KEY,
  parent TEXT REFERENCES adapters(id),
  model_hash TEXT NOT NULL,
  status TEXT NOT NULL,
  manifest TEXT NOT NULL,
  created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE training_steps (
  id INTEGER PRIMARY KEY,
  run TEXT NOT NULL,
  step INTEGER NOT NULL,
  adapter_before TEXT,
  adapter_after TEXT,
  metrics TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  UNIQUE (run, step)
) STRICT;
