-- Machines that were members once, by their keys.
CREATE TABLE departed (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
