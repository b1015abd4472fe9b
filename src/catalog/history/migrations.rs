//! The tables of the history. See the migrations of the catalog for how this list is changed.
//!
//! A row of `jobs` has what is looked through first and what is long last, so that a look at a row
//! does not read its payload. Indexes end with the moment and the id, because that is the order of every
//! page. `state` 0 is done, 1 failed, 2 cancelled.

/// All of them.
pub(super) const MIGRATIONS: &[&str] = &["
-- Rows and bytes of all there is.
CREATE TABLE totals (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    jobs INTEGER NOT NULL CHECK (0 <= jobs),
    bytes INTEGER NOT NULL CHECK (0 <= bytes)
) STRICT;
INSERT INTO totals (one, jobs, bytes) VALUES (1, 0, 0);

-- Queues (kind 0) and types (kind 1) with what they have. One without jobs goes.
CREATE TABLE names (
    name_id INTEGER PRIMARY KEY CHECK (0 < name_id),
    tenant INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    name TEXT NOT NULL,
    jobs INTEGER NOT NULL CHECK (0 <= jobs),
    bytes INTEGER NOT NULL CHECK (0 <= bytes),
    UNIQUE (tenant, kind, name)
) STRICT;

CREATE TABLE jobs (
    job INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL,
    id INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    state INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    type INTEGER NOT NULL,
    -- The group of failures in which it is counted.
    failure INTEGER,
    -- The part of time in which its tags are.
    part INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    tags TEXT NOT NULL,
    unique_key TEXT,
    error_class TEXT,
    error_message TEXT,
    priority INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    started_at INTEGER,
    attempt INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    max_tries INTEGER NOT NULL,
    timeout_ms INTEGER NOT NULL,
    result_until INTEGER,
    fingerprint INTEGER,
    progress REAL,
    fence INTEGER NOT NULL,
    secret INTEGER NOT NULL,
    payload_type TEXT,
    result BLOB,
    error_trace TEXT,
    payload BLOB
) STRICT;
CREATE UNIQUE INDEX jobs_by_id ON jobs (tenant, id);
CREATE INDEX jobs_by_state ON jobs (tenant, state, finished_at, id);
-- A queue and a type belong to a tenant.
CREATE INDEX jobs_by_queue ON jobs (queue, state, finished_at, id);
CREATE INDEX jobs_by_type ON jobs (type, finished_at, id);
CREATE INDEX jobs_by_age ON jobs (finished_at);
CREATE INDEX jobs_by_failure ON jobs (tenant, failure, id) WHERE failure IS NOT NULL;

-- Parts of time, each with a good many jobs: a later one has the higher number. Tags are many and come in no
-- order; if new ones went anywhere among all of them, each would be a page read and written.
CREATE TABLE parts (
    part INTEGER PRIMARY KEY,
    from_at INTEGER NOT NULL UNIQUE,
    jobs INTEGER NOT NULL CHECK (0 <= jobs)
) STRICT;
INSERT INTO parts (part, from_at, jobs) VALUES (1, 0, 0);

CREATE TABLE tags (
    part INTEGER NOT NULL,
    tenant INTEGER NOT NULL,
    tag TEXT NOT NULL,
    finished_at INTEGER NOT NULL,
    id INTEGER NOT NULL,
    job INTEGER NOT NULL,
    PRIMARY KEY (part, tenant, tag, finished_at, id)
) WITHOUT ROWID, STRICT;

-- How many groups of failures a tenant has, queues aside.
CREATE TABLE tenants (
    tenant INTEGER PRIMARY KEY,
    groups INTEGER NOT NULL CHECK (0 <= groups)
) STRICT;

-- Failures that are alike: of a queue, and, as queue 0, of all of them together.
CREATE TABLE failures (
    failure_id INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL,
    jobs INTEGER NOT NULL CHECK (0 < jobs),
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    class TEXT NOT NULL,
    message TEXT NOT NULL,
    types TEXT NOT NULL,
    queues TEXT NOT NULL,
    UNIQUE (tenant, queue, fingerprint)
) STRICT;
CREATE INDEX failures_by_last ON failures (tenant, queue, last_at, fingerprint);
"];
