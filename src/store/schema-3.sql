-- Schema 3: what was written can be told from what a disk made of it. Rows of earlier versions have no checksum.
ALTER TABLE events ADD COLUMN sum BLOB;
ALTER TABLE labels ADD COLUMN sum BLOB;
