//! The connection: how SQLite is set up, and what is asked of the file as a whole.
//!
//! The same rules as in the SQLite engine of the store, for the same reasons: a log whose sync failed
//! once must not be appended to, so the handle dies with the first error; the log is copied into the
//! file by us, because SQLite keeps an error of that to itself.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{Error, Result, from_sqlite};
use crate::base::limits::DISK_MARGIN_BYTES;

/// What a connection is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    /// Statements that are kept prepared.
    pub(super) statements: usize,
    /// Pages of the file that are kept in memory, in bytes.
    pub(super) cache_bytes: u64,
}

/// Statements that every file needs: to begin, to commit, and what is asked of the file as a whole.
const OF_ALL_FILES: usize = 8;

/// Opens the file, which must be there: who makes it decides who may read it.
pub(super) fn connect(path: &Path, needs: Needs) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|e| from_sqlite("open", &e))?;
    set_up(&connection, needs)?;
    use_log(&connection)?;
    Ok(connection)
}

/// A second connection to a file that somebody else has open: it sees what is committed, waits for
/// nobody, and changes nothing.
pub(super) fn connect_to_read(path: &Path, needs: Needs) -> Result<Connection> {
    let connection = connect(path, needs)?;
    let sql = |error: rusqlite::Error| from_sqlite("connect_to_read", &error);
    connection.execute_batch("PRAGMA query_only = ON").map_err(sql)?;
    Ok(connection)
}

/// A file that nothing outlives.
pub(super) fn connect_in_memory(needs: Needs) -> Result<Connection> {
    let connection = Connection::open_in_memory().map_err(|e| from_sqlite("open", &e))?;
    set_up(&connection, needs)?;
    Ok(connection)
}

fn set_up(connection: &Connection, needs: Needs) -> Result {
    let sql = |error: rusqlite::Error| from_sqlite("set_up", &error);
    // A dead handle must not touch the file again, and the last one to close would copy the log.
    let on_close = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(on_close, true).map_err(sql)?;
    connection.set_prepared_statement_cache_capacity(needs.statements + OF_ALL_FILES);
    let cache_kib = needs.cache_bytes >> 10;
    connection
        .execute_batch(&format!(
            "PRAGMA busy_timeout = 5000;
             PRAGMA wal_autocheckpoint = 0;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;
             PRAGMA journal_size_limit = {DISK_MARGIN_BYTES};
             PRAGMA cache_size = -{cache_kib};
             PRAGMA temp_store = MEMORY;
             PRAGMA cell_size_check = ON;
             PRAGMA trusted_schema = OFF;"
        ))
        .map_err(sql)
}

/// The log is a property of the file; a file system that cannot have it is not fit for this.
fn use_log(connection: &Connection) -> Result {
    match text(connection, "PRAGMA journal_mode = WAL")? {
        word if word == "wal" => Ok(()),
        word => Err(Error::Sql(format!(
            "SQLite keeps journal_mode {word:?} here, and cannot use a log"
        ))),
    }
}

/// Reads all of the file and looks for contradictions.
pub(super) fn verify(connection: &Connection) -> Result {
    let word = text(connection, "PRAGMA integrity_check(1)")?;
    if word == "ok" { Ok(()) } else { Err(Error::Damaged(word)) }
}

/// Copies the log into the file.
pub(super) fn checkpoint(connection: &Connection) -> Result {
    let row = |_: &rusqlite::Row<'_>| Ok(());
    connection
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], row)
        .map_err(|error| from_sqlite("checkpoint", &error))
}

/// Bytes of the file, without its log; zero when it cannot say.
pub(super) fn bytes(connection: &Connection) -> u64 {
    let number = |sql: &str| {
        let first = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        let mut statement = connection.prepare_cached(sql).ok()?;
        u64::try_from(statement.query_row([], first).ok()?).ok()
    };
    let pages = number("PRAGMA page_count").unwrap_or(0);
    pages.saturating_mul(number("PRAGMA page_size").unwrap_or(0))
}

fn text(connection: &Connection, pragma: &str) -> Result<String> {
    let first = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    connection.query_row(pragma, [], first).map_err(|error| from_sqlite("pragma", &error))
}
