-- Schema 5: evaluations, and what happened to what serves.

-- An evaluation is a session of its own, as a group is: deleting the session takes its trajectories along.
CREATE TABLE evaluations (
  id TEXT PRIMARY KEY REFERENCES sessions(id) ON DELETE CASCADE,
  -- JSON: what was asked of whom
  setting TEXT NOT NULL,
  created_ms INTEGER NOT NULL
) STRICT;

-- A current adapter that was found damaged, and what served in its place: one row for the two of them.
CREATE TABLE adapter_damage (
  adapter TEXT NOT NULL,
  -- Id of the ancestor that served; '' is the bare model.
  instead TEXT NOT NULL,
  -- As last seen.
  reason TEXT NOT NULL,
  first_ms INTEGER NOT NULL,
  last_ms INTEGER NOT NULL,
  -- Programs that began so.
  starts INTEGER NOT NULL,
  PRIMARY KEY (adapter, instead)
) STRICT;
