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
//! Beside it, in a file of its own: what people search ([`history`]).
//!
//! The file is made, and its cached pages are forgotten, by whoever opens it. This module never reads a
//! clock and never starts a thread.

mod audit;
mod file;
mod handle;
pub mod history;
mod migrations;
mod statement;
mod statements;
mod tenants;
mod tokens;

use std::path::Path;

use rusqlite::Connection;

use self::file::Needs;
use self::handle::{Handle, LogRule, Row, Tx};
use self::statements::Statement;
use crate::base::id::{TenantId, TokenId};
use crate::base::limits::{
    CATALOG_LOG_BYTES, CATALOG_ROWS_MAX, ENGINE_CACHE_BYTES_MIN, TENANTS_MAX, TOKENS_MAX,
};
use crate::base::name::TenantName;

pub use self::audit::{Audit, AuditRow};
pub use self::tenants::{Removal, Tenant};
pub use self::tokens::{Token, check_token_name};

/// Bytes of a page, and of a frame of the log, roughly.
const PAGE_BYTES: u64 = 4096;
/// A changed row and its indexes take three pages in the log, at most or so.
const LOG: LogRule = LogRule {
    bytes: CATALOG_LOG_BYTES,
    bytes_a_change: 3 * PAGE_BYTES,
    bytes_a_commit: 2 * PAGE_BYTES,
};

const NEEDS: Needs =
    Needs { statements: Statement::ALL.len(), cache_bytes: ENGINE_CACHE_BYTES_MIN };

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
        "it has schema {found}, this version knows {known}: it was written by a newer \
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
    handle: Handle,
}

impl Catalog {
    /// Opens the file at `path`, which must be there (an empty one is a new catalog), and brings it to
    /// the schema of this version.
    pub fn open(path: &Path, opening: Opening, space: Space) -> Result<Catalog> {
        let connection = file::connect(path, NEEDS)?;
        if opening == Opening::AfterFailure {
            file::verify(&connection)?;
        }
        Catalog::on(connection, space)
    }

    /// A catalog that nothing outlives, for `--ephemeral` and for tests.
    pub fn in_memory() -> Result<Catalog> {
        Catalog::on(file::connect_in_memory(NEEDS)?, Box::new(|| u64::MAX))
    }

    fn on(connection: Connection, space: Space) -> Result<Catalog> {
        migrations::migrate(&connection, migrations::MIGRATIONS)?;
        Ok(Catalog { handle: Handle::new(connection, space, Some(LOG)) })
    }

    /// Why it cannot be used any more, if so.
    pub fn broken(&self) -> Option<String> {
        self.handle.broken()
    }

    /// Space that is certain: a commit writes a page to the log, and later the same page to the file.
    pub fn margin_bytes(&self) -> u64 {
        self.handle.margin_bytes()
    }

    /// The size of the file, without its log.
    pub fn file_bytes(&self) -> u64 {
        self.handle.file_bytes()
    }

    /// Commits made since it was opened.
    pub fn commits(&self) -> u64 {
        self.handle.commits()
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
        self.handle.transaction(body)
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
        | E::InvalidColumnType(..)
        | E::Utf8Error(..) => Error::BadRow(text),
        _ => match error.sqlite_error_code() {
            Some(ConstraintViolation) => Error::Constraint(text),
            Some(DatabaseCorrupt | NotADatabase) => Error::Damaged(text),
            Some(_) | None => Error::Sql(text),
        },
    }
}

#[cfg(test)]
mod tests;
