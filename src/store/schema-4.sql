-- Schema 4: every look of the gate, so that a decision can be read with the evidence it rests on.
CREATE TABLE gate_looks (
  id INTEGER PRIMARY KEY,
  candidate TEXT NOT NULL,
  -- '' is the bare model
  champion TEXT NOT NULL,
  -- JSON: counts, evidence and bounds as they stood
  report TEXT NOT NULL,
  -- activate | refuse | hold; NULL: the gate went on
  decision TEXT,
  created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX gate_looks_of ON gate_looks(candidate);
