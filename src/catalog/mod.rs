//! Row 2: what people edit, in SQLite: tenants, tokens, and the trail of who changed what.
//!
//! ```text
//!   counts         name -> rows                      kept by triggers, so that limits cost nothing
//!   tenants        id -> name tier moments           a name is unique among those not being deleted
//!   tenant_quotas  (tenant, quota) -> allowance
//!   tokens         id -> tenant name scopes hash     by tenant: tokens_by_tenant
//!   audit          seq -> at who what                counts up, never used again
//! ```
//!
//! **Invariants**
//! - An operation is one transaction. What it changes and its audit entry are there together, or
//!   neither is.
//! - A refusal leaves nothing and harms nobody. Operations judge first, then write; what the tables
//!   themselves refuse ([`Error::Constraint`]) would be a bug of ours.
//! - What was answered `Ok` survives power loss: a log with `synchronous=FULL`.
//! - Every table is bounded ([`TENANTS_MAX`], [`TOKENS_MAX`],
//!   [`AUDIT_ROWS_MAX`](crate::base::limits::AUDIT_ROWS_MAX)), and so is what one call reads or removes
//!   ([`CATALOG_ROWS_MAX`]). No statement walks a table.
//! - An id that is there is never overwritten.
//!
//! **Failure**: after an error of the file, or a panic halfway, the handle is broken and every call is
//! [`Error::Closed`]; whoever keeps it drops it and opens the file anew, to be verified. Only after
//! [`Error::CommitFailed`] is it not known whether the operation is there. Nothing is tried again.
//!
//! The file is made, and its cached pages are forgotten, by whoever opens it. This module never reads a
//! clock and never starts a thread.

mod audit;
mod file;
mod migrations;
mod statements;
mod tenants;
mod tokens;

use std::path::Path;

use rusqlite::{Connection, Params};

use self::statements::Statement;
use crate::base::id::{TenantId, TokenId};
use crate::base::limits::{CATALOG_LOG_BYTES, CATALOG_ROWS_MAX, TENANTS_MAX, TOKENS_MAX};
use crate::base::name::TenantName;
use crate::base::time::Timestamp;

pub use self::audit::{Audit, AuditRow};
pub use self::tenants::{Removal, Tenant};
pub use self::tokens::{Token, check_token_name};

/// Bytes of a page, and of a frame of the log, roughly.
const PAGE_BYTES: u64 = 4096;
/// Pages that a changed row and its indexes take in the log, at most or so.
const PAGES_A_CHANGE: u64 = 3;

/// Why the catalog refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read or written; nothing of this call was stored.
    #[error("the catalog failed: {0}")]
    Sql(String),
    /// The file is not what was written there.
    #[error("the catalog is damaged: {0}")]
    Damaged(String),
    /// The commit itself failed: the change may or may not be there.
    #[error("the commit failed, its outcome is unknown: {0}")]
    CommitFailed(String),
    /// The file was written by a newer version of the server.
    #[error(
        "the catalog has schema {found}, this version knows {known}: it was written by a newer \
         version of holdfast; install that one again"
    )]
    NewerSchema {
        /// The schema of the file.
        found: usize,
        /// The last one that is known here.
        known: usize,
    },
    /// The handle is dead since an earlier failure; open the file anew.
    #[error("the catalog is closed after a failure")]
    Closed,
    /// A row that we would not have written. The file itself is sound.
    #[error("a row of the catalog makes no sense: {0}")]
    BadRow(String),
    /// The tables refused what was not refused before: a bug of ours. Nothing was changed.
    #[error("the catalog's own rules were broken: {0}")]
    Constraint(String),
    /// Another tenant has the name.
    #[error("there is a tenant {0} already")]
    NameTaken(TenantName),
    /// Something has this id already; draw another.
    #[error("the id {0} is taken")]
    IdTaken(String),
    /// No such tenant.
    #[error("no tenant {0}")]
    UnknownTenant(TenantId),
    /// The tenant is being deleted and takes no changes.
    #[error("tenant {0} is being deleted")]
    TenantDeleting(TenantId),
    /// Only a tenant that is being deleted can be removed.
    #[error("tenant {0} is not being deleted")]
    TenantNotDeleting(TenantId),
    /// As many tenants as there may be.
    #[error("there are {TENANTS_MAX} tenants, no more are possible")]
    TooManyTenants,
    /// As many tokens as there may be.
    #[error("there are {TOKENS_MAX} tokens, no more are possible")]
    TooManyTokens,
    /// One call asked for too many rows; come again for the rest.
    #[error("one call may take {CATALOG_ROWS_MAX} rows, not {0}")]
    TooManyRows(usize),
    /// A text that is longer than it may be.
    #[error("{what} has at most {max} bytes")]
    TextTooLong {
        /// Which text.
        what: &'static str,
        /// The most bytes it may have.
        max: usize,
    },
    /// A text for people that is empty, too long, or has control characters.
    #[error("{what} has 1 to {max} bytes and no control characters")]
    BadText {
        /// Which text.
        what: &'static str,
        /// The most bytes it may have.
        max: usize,
    },
}

impl Error {
    /// The stable word for logs and answers.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Sql(_) => "catalog_io",
            Error::Damaged(_) => "catalog_damaged",
            Error::CommitFailed(_) => "outcome_unknown",
            Error::NewerSchema { .. } => "newer_schema",
            Error::Closed => "catalog_closed",
            Error::BadRow(_) | Error::Constraint(_) => "internal",
            Error::NameTaken(_) => "tenant_exists",
            Error::IdTaken(_) => "id_taken",
            Error::UnknownTenant(_) => "unknown_tenant",
            Error::TenantDeleting(_) => "tenant_deleting",
            Error::TenantNotDeleting(_) => "tenant_not_deleting",
            Error::TooManyTenants => "too_many_tenants",
            Error::TooManyTokens => "too_many_tokens",
            Error::TooManyRows(_) => "too_many_rows",
            Error::TextTooLong { .. } | Error::BadText { .. } => "invalid_text",
        }
    }

    /// Whether the file is at fault, so that the handle is dead; otherwise the caller was refused.
    pub fn breaks_handle(&self) -> bool {
        match self {
            Error::Sql(_)
            | Error::Damaged(_)
            | Error::CommitFailed(_)
            | Error::NewerSchema { .. }
            | Error::Closed => true,
            Error::BadRow(_)
            | Error::Constraint(_)
            | Error::NameTaken(_)
            | Error::IdTaken(_)
            | Error::UnknownTenant(_)
            | Error::TenantDeleting(_)
            | Error::TenantNotDeleting(_)
            | Error::TooManyTenants
            | Error::TooManyTokens
            | Error::TooManyRows(_)
            | Error::TextTooLong { .. }
            | Error::BadText { .. } => false,
        }
    }
}

/// The result of everything here.
pub type Result<T = ()> = std::result::Result<T, Error>;

/// Why the file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The process starts.
    Start,
    /// A handle on it died: all of it is read and verified.
    AfterFailure,
}

/// Says how many bytes the file system still has for us.
pub type Space = Box<dyn Fn() -> u64 + Send>;

/// The catalog: one connection, one user at a time.
pub struct Catalog {
    connection: Connection,
    space: Space,
    /// Why it cannot be used any more.
    broken: Option<String>,
    commits: u64,
    /// Bytes in the log, roughly, since it was last copied into the file.
    log_bytes: u64,
}

impl Catalog {
    /// Opens the file at `path`, which must be there (an empty one is a new catalog), and brings it to
    /// the schema of this version.
    pub fn open(path: &Path, opening: Opening, space: Space) -> Result<Catalog> {
        let connection = file::connect(path)?;
        if opening == Opening::AfterFailure {
            file::verify(&connection)?;
        }
        Catalog::on(connection, space)
    }

    /// A catalog that nothing outlives, for `--ephemeral` and for tests.
    pub fn in_memory() -> Result<Catalog> {
        Catalog::on(file::connect_in_memory()?, Box::new(|| u64::MAX))
    }

    fn on(connection: Connection, space: Space) -> Result<Catalog> {
        migrations::migrate(&connection, migrations::MIGRATIONS)?;
        // What an earlier process left in the log is copied with the first commit.
        let log_bytes = CATALOG_LOG_BYTES;
        Ok(Catalog { connection, space, broken: None, commits: 0, log_bytes })
    }

    /// Why it cannot be used any more, if so.
    pub fn broken(&self) -> Option<String> {
        self.broken.clone()
    }

    /// Space that is certain: a commit writes a page to the log, and later the same page to the file.
    pub fn margin_bytes(&self) -> u64 {
        (self.space)() / 2
    }

    /// The size of the file, without its log.
    pub fn file_bytes(&self) -> u64 {
        if self.broken.is_some() { 0 } else { file::bytes(&self.connection) }
    }

    /// Commits made since it was opened.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// The start of a new server: its first tenant and that tenant's first token. False, and nothing
    /// done, when there is a tenant already.
    pub fn first_start(&mut self, tenant: &Tenant, token: &Token, audit: &Audit) -> Result<bool> {
        self.transaction(|tx| {
            if tx.count("tenants")? != 0 {
                return Ok(false);
            }
            tenants::insert(tx, tenant)?;
            tokens::insert(tx, token)?;
            audit::add(tx, audit)?;
            Ok(true)
        })
    }

    /// Runs `body` in a transaction: committed when it is `Ok`, undone when it is not.
    fn transaction<T>(&mut self, body: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        if self.broken.is_some() {
            return Err(Error::Closed);
        }
        // Stands when a panic comes through: nobody knows then what is half done.
        self.broken = Some("an operation did not end".to_owned());
        let before = self.connection.total_changes();
        let result = attempt(&Tx { connection: &self.connection }, body);
        self.broken = match &result {
            Err(error) if error.breaks_handle() => Some(error.to_string()),
            Err(_) | Ok(_) => None,
        };
        let changes = self.connection.total_changes() - before;
        if result.is_ok() && changes != 0 {
            self.commits += 1;
            self.keep_log_short(changes);
        }
        result
    }

    /// Copies the log into the file now and then. What was committed is safe whatever comes of it; an
    /// error breaks the handle, because the next attempt might skip what this one lost.
    fn keep_log_short(&mut self, changes: u64) {
        self.log_bytes += (2 + PAGES_A_CHANGE * changes) * PAGE_BYTES;
        if self.log_bytes < CATALOG_LOG_BYTES {
            return;
        }
        self.log_bytes = 0;
        if let Err(error) = file::checkpoint(&self.connection) {
            self.broken = Some(error.to_string());
        }
    }
}

/// A handle that is sound leaves a short log behind. Nothing depends on it.
impl Drop for Catalog {
    fn drop(&mut self) {
        if self.broken.is_none()
            && let Err(error) = file::checkpoint(&self.connection)
        {
            tracing::warn!(%error, "the catalog's log could not be copied at the end");
        }
    }
}

fn attempt<T>(tx: &Tx<'_>, body: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
    tx.run(Statement::Begin, [])?;
    match body(tx) {
        Ok(value) => {
            let commit = tx.run(Statement::Commit, []);
            commit.map_err(|error| Error::CommitFailed(error.to_string()))?;
            Ok(value)
        }
        // The connection will be closed, which undoes it.
        Err(error) if error.breaks_handle() => Err(error),
        Err(error) => {
            tx.run(Statement::Rollback, [])?;
            Err(error)
        }
    }
}

/// A transaction, as operations see it: registered statements and typed rows.
struct Tx<'c> {
    connection: &'c Connection,
}

impl Tx<'_> {
    /// Runs a statement; how many rows it changed.
    fn run(&self, statement: Statement, params: impl Params) -> Result<u64> {
        let changed = statement.prepare(self.connection)?.execute(params);
        changed.map(|rows| rows as u64).map_err(|error| from_sqlite(statement.name(), &error))
    }

    /// Every row of a statement that has a bound.
    fn all<T>(
        &self,
        statement: Statement,
        params: impl Params,
        read: impl Fn(&Row<'_, '_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let sql = |error: rusqlite::Error| from_sqlite(statement.name(), &error);
        let mut prepared = statement.prepare(self.connection)?;
        let mut rows = prepared.query(params).map_err(sql)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(sql)? {
            all.push(read(&Row { row, statement })?);
        }
        Ok(all)
    }

    /// The row of a statement that gives one at most.
    fn one<T>(
        &self,
        statement: Statement,
        params: impl Params,
        read: impl Fn(&Row<'_, '_>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.all(statement, params, read).map(|rows| rows.into_iter().next())
    }

    /// Rows of a table that is counted.
    fn count(&self, table: &'static str) -> Result<u64> {
        let amount = self.one(Statement::CountOf, [table], |row| row.int(0))?;
        let amount = amount.ok_or_else(|| Error::BadRow(format!("no count of {table}")))?;
        u64::try_from(amount).map_err(|_| Error::BadRow(format!("{amount} {table}")))
    }
}

/// A row on its way to a type.
struct Row<'r, 's> {
    row: &'r rusqlite::Row<'s>,
    statement: Statement,
}

impl Row<'_, '_> {
    fn get<T: rusqlite::types::FromSql>(&self, column: usize) -> Result<T> {
        self.row.get(column).map_err(|error| from_sqlite(self.statement.name(), &error))
    }

    fn int(&self, column: usize) -> Result<i64> {
        self.get(column)
    }

    fn id(&self, column: usize) -> Result<u64> {
        self.int(column).map(id_of)
    }

    fn text(&self, column: usize) -> Result<String> {
        self.get(column)
    }

    fn moment(&self, column: usize) -> Result<Timestamp> {
        let ms = self.int(column)?;
        Timestamp::from_unix_ms(ms).ok_or_else(|| self.bad(ms))
    }

    fn moment_or_none(&self, column: usize) -> Result<Option<Timestamp>> {
        match self.get::<Option<i64>>(column)? {
            Some(ms) => Timestamp::from_unix_ms(ms).map(Some).ok_or_else(|| self.bad(ms)),
            None => Ok(None),
        }
    }

    fn tenant_name(&self, column: usize) -> Result<TenantName> {
        let text = self.text(column)?;
        TenantName::parse(&text).map_err(|error| self.bad(error))
    }

    fn bad(&self, what: impl std::fmt::Display) -> Error {
        Error::BadRow(format!("{}: {what}", self.statement.name()))
    }
}

const TOP_BIT: u64 = 1 << 63;

/// An id as it is stored: the top bit turned, so that rows are in the order of ids.
fn stored(id: u64) -> i64 {
    (id ^ TOP_BIT).cast_signed()
}

fn id_of(stored: i64) -> u64 {
    stored.cast_unsigned() ^ TOP_BIT
}

/// The first stored id behind `after`, or behind nothing; `None` when there is none.
fn first_behind(after: Option<u64>) -> Option<i64> {
    match after {
        Some(id) => id.checked_add(1).map(stored),
        None => Some(i64::MIN),
    }
}

fn stored_tenant(id: TenantId) -> i64 {
    stored(id.raw())
}

fn stored_token(id: TokenId) -> i64 {
    stored(id.raw())
}

/// A number of rows within its bound, as SQLite takes it.
fn check_rows(rows: usize) -> Result<i64> {
    if CATALOG_ROWS_MAX < rows {
        return Err(Error::TooManyRows(rows));
    }
    Ok(i64::try_from(rows).expect("BUG: the bound fits"))
}

/// A text that people read and choose: not empty, bounded, no control characters.
fn check_text(what: &'static str, text: &str, max: usize) -> Result {
    let bad = text.is_empty() || max < text.len() || text.chars().any(char::is_control);
    if bad { Err(Error::BadText { what, max }) } else { Ok(()) }
}

fn from_sqlite(statement: &str, error: &rusqlite::Error) -> Error {
    use rusqlite::Error as E;
    use rusqlite::ErrorCode::{ConstraintViolation, DatabaseCorrupt, NotADatabase};
    let text = format!("{statement}: {error}");
    match error {
        E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::InvalidColumnType(..) => Error::BadRow(text),
        _ => match error.sqlite_error_code() {
            Some(ConstraintViolation) => Error::Constraint(text),
            Some(DatabaseCorrupt | NotADatabase) => Error::Damaged(text),
            Some(_) | None => Error::Sql(text),
        },
    }
}

#[cfg(test)]
mod tests;
