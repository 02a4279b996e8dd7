-- Schema 6: what a checker said of each answer of an evaluation, so that the wrong ones can be found again.

CREATE TABLE evaluation_rows (
  trajectory TEXT PRIMARY KEY REFERENCES trajectories(id) ON DELETE CASCADE,
  -- 1: the checker took the answer
  accepted INTEGER NOT NULL,
  family TEXT NOT NULL,
  -- The reference, for readers
  reference TEXT NOT NULL
) STRICT;
