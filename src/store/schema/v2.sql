-- Of which life of the audit chain an agent's testimony is: when the chain was last restored from
-- a backup, 0 if it never was.
ALTER TABLE witness ADD COLUMN restored_ms INTEGER NOT NULL DEFAULT 0;
