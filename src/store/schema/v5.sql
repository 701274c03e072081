-- What PodDisruptionBudgets come to.
CREATE TABLE budget (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
