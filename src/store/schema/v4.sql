-- What the further kinds of workloads remember, and revisions that are not ReplicaSets.
CREATE TABLE stateful_set (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE daemon_set (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE revision (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE cron_job (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE autoscaler (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
