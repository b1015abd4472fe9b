//! How the file came to be as it is: scripts, run once and in order.
//!
//! `PRAGMA user_version` says how many of them a file has seen. Each runs in a transaction of its own,
//! together with the new number: a process that is killed in between goes on where it was. To change a
//! table, add a script at the end; one that has shipped is never edited. A file that has seen more than
//! we know is refused: an older version of the server must not write to it.

use rusqlite::Connection;

use super::{Error, Result, from_sqlite};

/// All of them.
///
/// Ids are 64 unsigned bits; they are stored with the top bit turned, so that the order of the rows is
/// that of the ids. Moments are milliseconds since 1970. Rows are counted by triggers, because
/// `count(*)` walks the table.
pub(super) const MIGRATIONS: &[&str] = &["
CREATE TABLE counts (
    name TEXT NOT NULL PRIMARY KEY,
    amount INTEGER NOT NULL CHECK (0 <= amount)
) WITHOUT ROWID, STRICT;
INSERT INTO counts (name, amount) VALUES ('tenants', 0), ('tokens', 0);

CREATE TABLE tenants (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    tier TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    deleting_at INTEGER
) STRICT;
-- A name can be taken again while the tenant that had it is being deleted.
CREATE UNIQUE INDEX tenants_by_name ON tenants (name) WHERE deleting_at IS NULL;
CREATE TRIGGER tenants_came AFTER INSERT ON tenants BEGIN
    UPDATE counts SET amount = amount + 1 WHERE name = 'tenants';
END;
CREATE TRIGGER tenants_went AFTER DELETE ON tenants BEGIN
    UPDATE counts SET amount = amount - 1 WHERE name = 'tenants';
END;

CREATE TABLE tenant_quotas (
    tenant INTEGER NOT NULL REFERENCES tenants (id),
    quota TEXT NOT NULL,
    allowance INTEGER NOT NULL,
    PRIMARY KEY (tenant, quota)
) WITHOUT ROWID, STRICT;

CREATE TABLE tokens (
    id INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    scopes INTEGER NOT NULL,
    secret_hash BLOB NOT NULL CHECK (length(secret_hash) = 32),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER
) STRICT;
-- The id is the last part of every index.
CREATE INDEX tokens_by_tenant ON tokens (tenant);
CREATE TRIGGER tokens_came AFTER INSERT ON tokens BEGIN
    UPDATE counts SET amount = amount + 1 WHERE name = 'tokens';
END;
CREATE TRIGGER tokens_went AFTER DELETE ON tokens BEGIN
    UPDATE counts SET amount = amount - 1 WHERE name = 'tokens';
END;

-- A number is never used again, also when the newest entries are gone.
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    actor_token INTEGER,
    actor_name TEXT NOT NULL,
    tenant TEXT,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
"];

/// How many scripts the file has seen; no more than the `known` ones.
pub(super) fn version(connection: &Connection, known: usize) -> Result<usize> {
    let number = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    let found = connection
        .query_row("PRAGMA user_version", [], number)
        .map_err(|error| from_sqlite("version", &error))?;
    let found = usize::try_from(found)
        .map_err(|_| Error::Damaged(format!("its schema has version {found}")))?;
    if known < found { Err(Error::NewerSchema { found, known }) } else { Ok(found) }
}

/// Brings the file to the last of `scripts`. What it has seen already is not run again.
pub(super) fn migrate(connection: &Connection, scripts: &[&str]) -> Result {
    let seen = version(connection, scripts.len())?;
    for (index, script) in scripts.iter().enumerate().skip(seen) {
        let version = index + 1;
        let whole = format!("BEGIN IMMEDIATE; {script}; PRAGMA user_version = {version}; COMMIT");
        // When it fails, the connection is dropped, and what was begun goes with it.
        connection.execute_batch(&whole).map_err(|error| from_sqlite("migrate", &error))?;
    }
    Ok(())
}
