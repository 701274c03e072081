-- Services as they are decided: addresses, ports, endpoints.
CREATE TABLE service (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
