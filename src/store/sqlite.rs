//! The SQLite engine: for those who want to open their data with a tool that is everywhere.
//!
//! One `WITHOUT ROWID` table per [`Table`], a write-ahead log with `synchronous=FULL` (a commit syncs),
//! one connection that writes and a few that read. An operation is undone by a savepoint.
//!
//! It obeys the same contract as redb, death included: SQLite itself would go on after an error, but
//! then a log whose sync once failed would be appended to, and the next power cut would take what
//! came after the hole. For the same reason the log is copied into the file by us and not by SQLite,
//! which keeps an error of that to itself.
//!
//! Space: the door asks the file system how much it has; nothing is held in reserve. A disk that is
//! filled up between the door and the commit means a failed commit and a reopening.
//! [`Commit::Quick`] is the same as [`Commit::Plain`] here: a log is always
//! replayed, and it is short.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::{Condvar, Mutex};
use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, OpenFlags, OptionalExtension, Params, params};

use super::disk::{beside, create_file, forget_cached_file, free_bytes};
use super::{
    Batch, Commit, DeadIfBroken, DeadUnlessSpared, Engine, EngineFigures, Error, Finish, Flow,
    KeyRange, Opening, Order, Read, ReadBody, Result, RowBudget, Soundness, Table, Visitor, Write,
    WriteBody, check_deletes, check_sizes, conclude,
};
use crate::base::limits::DISK_MARGIN_BYTES;

/// Readers at one moment; further ones wait.
const READERS_MAX: usize = 4;
/// Bytes written, as far as they are known, after which the log is copied into the file.
const LOG_BYTES: u64 = 4 << 20;
/// Pages that a commit adds to the log beside its payload, roughly.
const LOG_BYTES_A_COMMIT: u64 = 16 << 10;
/// Statements remembered by each connection: about ten a table.
const STATEMENTS_KEPT: usize = 16 * Table::ALL.len();

/// A SQLite file of ordered bytes.
pub struct Sqlite {
    path: PathBuf,
    cache_bytes: u64,
    writer: Mutex<Connection>,
    readers: Readers,
    log_bytes: AtomicU64,
    dead: AtomicBool,
    commits: AtomicU64,
}

impl Sqlite {
    /// Opens or creates the file at `path`, with a page cache of `cache_bytes` for each connection.
    pub fn open(path: &Path, cache_bytes: u64, opening: Opening) -> Result<Sqlite> {
        match opening {
            // SQLite gives its log the mode of the file, so making the file is enough.
            Opening::Start => create_file(path),
            Opening::AfterFailure => {
                forget_cached_file(path).and_then(|()| forget_cached_file(&beside(path, "-wal")))
            }
        }
        .map_err(Error::Io)?;
        let writer = connect(path, cache_bytes)?;
        use_log(&writer)?;
        prepare_file(&writer)?;
        if opening == Opening::AfterFailure {
            verify(&writer)?;
        }
        Ok(Sqlite {
            path: path.to_owned(),
            cache_bytes,
            writer: Mutex::new(writer),
            readers: Readers::default(),
            log_bytes: AtomicU64::new(LOG_BYTES),
            dead: AtomicBool::new(false),
            commits: AtomicU64::new(0),
        })
    }

    /// What the file system has for us now: a commit writes a page to the log, and later the same page
    /// to the file.
    fn margin_bytes(&self) -> u64 {
        free_bytes(&self.path).unwrap_or(0) / 2
    }

    /// Copies the log into the file now and then. What was committed is safe whatever comes of it; an
    /// error kills the handle, because the next attempt might skip what this one lost.
    fn keep_log_short(&self, writer: &Connection, written: u64) {
        if self.log_bytes.fetch_add(written, Relaxed) + written < LOG_BYTES {
            return;
        }
        self.log_bytes.store(0, Relaxed);
        if checkpoint(writer).is_err() {
            self.dead.store(true, Relaxed);
        }
    }

    fn check_alive(&self) -> Result {
        if self.dead.load(Relaxed) { Err(Error::Closed) } else { Ok(()) }
    }
}

fn connect(path: &Path, cache_bytes: u64) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(from_sqlite)?;
    // A dead handle must not touch the file again, and the last one to close would copy the log.
    let on_close = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(on_close, true).map_err(from_sqlite)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    let cache_kib = cache_bytes >> 10;
    connection
        .execute_batch(&format!(
            "PRAGMA busy_timeout = 5000;
             PRAGMA wal_autocheckpoint = 0;
             PRAGMA synchronous = FULL;
             PRAGMA journal_size_limit = {DISK_MARGIN_BYTES};
             PRAGMA cache_size = -{cache_kib};
             PRAGMA temp_store = MEMORY;
             PRAGMA cell_size_check = ON;
             PRAGMA trusted_schema = OFF;"
        ))
        .map_err(from_sqlite)?;
    Ok(connection)
}

/// The log is a property of the file; a file system that cannot have it is not fit for this.
fn use_log(writer: &Connection) -> Result {
    let mode = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    match writer.query_row("PRAGMA journal_mode = WAL", [], mode).map_err(from_sqlite)? {
        word if word == "wal" => Ok(()),
        word => {
            let why = format!("SQLite keeps journal_mode {word:?} here, and cannot use a log");
            Err(Error::Io(std::io::Error::other(why)))
        }
    }
}

/// Copies the log into the file, as far as readers allow.
fn checkpoint(writer: &Connection) -> Result {
    let row = |_: &rusqlite::Row<'_>| Ok(());
    writer.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], row).map_err(from_sqlite)
}

/// Connections for readers: opened when first wanted, never more than [`READERS_MAX`].
#[derive(Default)]
struct Readers {
    state: Mutex<ReadersState>,
    freed: Condvar,
}

#[derive(Default)]
struct ReadersState {
    idle: Vec<Connection>,
    lent: usize,
}

/// A place among the readers, with a connection if one was idle. Dropping it frees the place.
struct Lent<'r> {
    readers: &'r Readers,
    connection: Option<Connection>,
}

impl Readers {
    /// Waits for a place.
    fn lend(&self) -> Lent<'_> {
        let mut state = self.state.lock();
        while READERS_MAX <= state.lent {
            self.freed.wait(&mut state);
        }
        state.lent += 1;
        Lent { readers: self, connection: state.idle.pop() }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.readers.state.lock();
        state.lent -= 1;
        // A connection whose transaction did not end well is not kept; closing it ends that.
        state.idle.extend(self.connection.take().filter(Connection::is_autocommit));
        drop(state);
        self.readers.freed.notify_one();
    }
}

fn prepare_file(writer: &Connection) -> Result {
    for table in Table::ALL {
        let name = table.name();
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {name} (k BLOB NOT NULL PRIMARY KEY, v BLOB NOT NULL)
             WITHOUT ROWID, STRICT"
        );
        writer.execute(&sql, []).map_err(from_sqlite)?;
    }
    Ok(())
}

fn verify(writer: &Connection) -> Result {
    let check = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    let word = writer.query_row("PRAGMA integrity_check(1)", [], check).map_err(from_sqlite)?;
    if word == "ok" { Ok(()) } else { Err(Error::Damaged(word)) }
}

impl Engine for Sqlite {
    fn read(&self, body: &mut ReadBody<'_>) -> Result {
        self.check_alive()?;
        let mut lent = self.readers.lend();
        let connection = match lent.connection.take() {
            Some(connection) => connection,
            // No connection, for want of a descriptor say, is this reader's trouble alone.
            None => connect(&self.path, self.cache_bytes / READERS_MAX as u64)?,
        };
        let connection = lent.connection.insert(connection);
        let view = SqliteView::new(connection);
        let _fate = DeadIfBroken { dead: &self.dead, sound: &view.sound };
        view.sound.enter(|| begin_view(connection))?;
        let result = body(&view);
        view.sound.enter(|| run(connection, "COMMIT", []))?;
        if view.sound.is_broken() { result.and(Err(Error::Closed)) } else { result }
    }

    fn write(&self, _commit: Commit, body: &mut WriteBody<'_>) -> Result {
        self.check_alive()?;
        let connection = self.writer.lock();
        let fate = DeadUnlessSpared::new(&self.dead);
        run(&connection, "BEGIN IMMEDIATE", [])?;
        let mut batch = SqliteBatch::new(&connection);
        let finish = body(&mut batch);
        let (broken, bytes) = (batch.sound.is_broken(), batch.bytes.get());
        conclude(finish, broken, &fate, |how| match how {
            Finish::Commit => {
                run(&connection, "COMMIT", [])
                    .map_err(|error| Error::CommitFailed(error.to_string()))?;
                self.commits.fetch_add(1, Relaxed);
                Ok(())
            }
            Finish::Abandon => run(&connection, "ROLLBACK", []).map(|_| ()),
        })?;
        drop(fate);
        self.keep_log_short(&connection, bytes + LOG_BYTES_A_COMMIT);
        Ok(())
    }

    fn reserve(&self, _bytes: u64) -> u64 {
        self.margin_bytes()
    }

    fn figures(&self) -> EngineFigures {
        let commits = self.commits.load(Relaxed);
        EngineFigures { commits, margin_bytes: self.margin_bytes(), ..EngineFigures::default() }
    }
}

/// The snapshot is taken by the first read, not by BEGIN; it is taken here.
fn begin_view(connection: &Connection) -> Result {
    run(connection, "BEGIN DEFERRED", [])?;
    let first = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    let mut statement = prepare(connection, "SELECT 1 FROM meta LIMIT 1")?;
    statement.query_row([], first).optional().map_err(from_sqlite).map(|_| ())
}

fn prepare<'c>(connection: &'c Connection, sql: &str) -> Result<CachedStatement<'c>> {
    connection.prepare_cached(sql).map_err(from_sqlite)
}

fn run(connection: &Connection, sql: &str, params: impl Params) -> Result<usize> {
    prepare(connection, sql)?.execute(params).map_err(from_sqlite)
}

struct SqliteView<'c> {
    connection: &'c Connection,
    rows: RowBudget,
    sound: Soundness,
}

impl<'c> SqliteView<'c> {
    fn new(connection: &'c Connection) -> SqliteView<'c> {
        SqliteView { connection, rows: RowBudget::default(), sound: Soundness::default() }
    }
}

impl Read for SqliteView<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.sound.enter(|| get_in(self.connection, table, key))
    }

    fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        order: Order,
        visit: &mut Visitor<'_>,
    ) -> Result {
        let walk = Walk { table, range, order, rows: &self.rows, sound: &self.sound };
        scan_in(self.connection, &walk, visit)
    }
}

fn get_in(connection: &Connection, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let name = table.name();
    let mut statement = prepare(connection, &format!("SELECT v FROM {name} WHERE k = ?1"))?;
    statement.query_row(params![key], |row| row.get(0)).optional().map_err(from_sqlite)
}

struct Walk<'a> {
    table: Table,
    range: &'a KeyRange,
    order: Order,
    rows: &'a RowBudget,
    sound: &'a Soundness,
}

/// `WHERE` for a range: with or without an end, so that SQLite uses the key for both.
fn within(range: &KeyRange) -> &'static str {
    if range.to.is_some() { "k >= ?1 AND k < ?2" } else { "k >= ?1" }
}

fn scan_in(connection: &Connection, walk: &Walk<'_>, visit: &mut Visitor<'_>) -> Result {
    let (name, within) = (walk.table.name(), within(walk.range));
    let direction = match walk.order {
        Order::Forward => "ASC",
        Order::Reverse => "DESC",
    };
    let sql = format!("SELECT k, v FROM {name} WHERE {within} ORDER BY k {direction}");
    let from = walk.range.from.as_slice();
    let mut statement = walk.sound.enter(|| prepare(connection, &sql))?;
    let mut rows = walk.sound.enter(|| {
        match &walk.range.to {
            Some(to) => statement.query(params![from, to.as_slice()]),
            None => statement.query(params![from]),
        }
        .map_err(from_sqlite)
    })?;
    while let Some(row) = walk.sound.enter(|| rows.next().map_err(from_sqlite))? {
        walk.rows.take()?;
        let blob = |column| row.get_ref(column).map_err(from_sqlite);
        let (key, value) = (blob(0)?, blob(1)?);
        let bytes = |error: rusqlite::types::FromSqlError| Error::Damaged(error.to_string());
        if visit(key.as_blob().map_err(bytes)?, value.as_blob().map_err(bytes)?) == Flow::Stop {
            return Ok(());
        }
    }
    Ok(())
}

/// A transaction that writes. The current operation stands on a savepoint of its own.
struct SqliteBatch<'c> {
    connection: &'c Connection,
    wrote: Cell<bool>,
    /// Bytes written so far.
    bytes: Cell<u64>,
    dirty: bool,
    rows: RowBudget,
    sound: Soundness,
}

impl<'c> SqliteBatch<'c> {
    fn new(connection: &'c Connection) -> SqliteBatch<'c> {
        SqliteBatch {
            connection,
            wrote: Cell::new(false),
            bytes: Cell::new(0),
            dirty: false,
            rows: RowBudget::default(),
            sound: Soundness::default(),
        }
    }

    fn run(&self, sql: &str, params: impl Params) -> Result<usize> {
        self.sound.enter(|| run(self.connection, sql, params))
    }

    fn change(&self, sql: &str, params: impl Params) -> Result<u64> {
        let changed = self.run(sql, params)?;
        if changed != 0 {
            self.wrote.set(true);
        }
        Ok(changed as u64)
    }
}

impl Read for SqliteBatch<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.sound.enter(|| get_in(self.connection, table, key))
    }

    fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        order: Order,
        visit: &mut Visitor<'_>,
    ) -> Result {
        let walk = Walk { table, range, order, rows: &self.rows, sound: &self.sound };
        scan_in(self.connection, &walk, visit)
    }
}

impl Write for SqliteBatch<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result {
        check_sizes(key, value)?;
        self.bytes.set(self.bytes.get() + (key.len() + value.len()) as u64);
        let name = table.name();
        let sql = format!(
            "INSERT INTO {name} (k, v) VALUES (?1, ?2) ON CONFLICT (k) DO UPDATE SET v = ?2"
        );
        self.change(&sql, params![key, value]).map(|_| ())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool> {
        let name = table.name();
        let gone = self.change(&format!("DELETE FROM {name} WHERE k = ?1"), params![key])?;
        Ok(gone != 0)
    }

    fn delete_range(&mut self, table: Table, range: &KeyRange, rows_max: u64) -> Result<u64> {
        check_deletes(rows_max)?;
        let (name, within) = (table.name(), within(range));
        let sql = format!(
            "DELETE FROM {name} WHERE k IN
             (SELECT k FROM {name} WHERE {within} ORDER BY k LIMIT {rows_max})"
        );
        let from = range.from.as_slice();
        match &range.to {
            Some(to) => self.change(&sql, params![from, to.as_slice()]),
            None => self.change(&sql, params![from]),
        }
    }
}

impl Batch for SqliteBatch<'_> {
    fn begin(&mut self) -> Result {
        self.rows.reset();
        self.wrote.set(false);
        self.run("SAVEPOINT operation", []).map(|_| ())
    }

    fn keep(&mut self) -> Result {
        self.dirty |= self.wrote.get();
        self.run("RELEASE operation", []).map(|_| ())
    }

    fn undo(&mut self) -> Result {
        if self.is_broken() {
            return Err(Error::Closed);
        }
        self.run("ROLLBACK TO operation", [])?;
        self.run("RELEASE operation", []).map(|_| ())
    }

    fn is_dirty(&self) -> bool {
        self.dirty
    }

    fn is_broken(&self) -> bool {
        self.sound.is_broken()
    }
}

fn from_sqlite(error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode::{
        DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, NotADatabase,
    };
    match error.sqlite_error_code() {
        Some(DiskFull) => Error::Io(std::io::ErrorKind::StorageFull.into()),
        Some(DatabaseBusy | DatabaseLocked) => Error::InUse,
        Some(DatabaseCorrupt | NotADatabase) => Error::Damaged(error.to_string()),
        Some(_) | None => Error::Io(std::io::Error::other(error)),
    }
}
