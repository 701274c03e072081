-- Version 1. Never edited once released: the next version is a file of its own.

-- Single values: the cluster's id, its keys, the last transaction, the head of the audit chain.
CREATE TABLE property (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The World: one table per kind of row. `version` is the transaction that last wrote the row.
CREATE TABLE object (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE pruned (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE deployment (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE replica_set (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE job (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE claim (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE volume (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE pod (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE node (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE event_log (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;

-- The audit chain. `body` is NULL once it is redacted; `kind` repeats the body's tag.
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    reconcile INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT,
    body_digest TEXT NOT NULL,
    digest TEXT NOT NULL
) STRICT;
CREATE INDEX audit_reconcile ON audit (reconcile, kind);
CREATE INDEX audit_triggered ON audit (sequence) WHERE kind = 'triggered';

-- What a reconcile under way has used of its limits; the row goes when it finishes.
CREATE TABLE audit_tally (
    reconcile INTEGER PRIMARY KEY,
    bytes INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    omitted_steps INTEGER NOT NULL,
    omitted_lines INTEGER NOT NULL,
    omitted_digest TEXT NOT NULL
) STRICT;

-- The newest head of the chain that each agent says it was given.
CREATE TABLE witness (
    node TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    digest TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE token (
    id TEXT PRIMARY KEY,
    secret_hash TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    uses_left INTEGER,
    revoked INTEGER NOT NULL
) STRICT;

-- Files of the data directory: filled in backups only.
CREATE TABLE file (
    path TEXT PRIMARY KEY,
    mode INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
