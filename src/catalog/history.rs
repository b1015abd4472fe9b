//! What people search, in SQLite: jobs that are finished, and failures that are alike.
//!
//! ```text
//!   jobs      number -> a finished job       by id, by state, queue and type with time, by age, by group
//!   tags      (part of time, tenant, tag, moment, id) -> number
//!   parts     part -> since when, how many
//!   names     number -> queue or type        with how many jobs and bytes it has
//!   failures  (tenant, queue, fingerprint) -> how many, since when, which; queue 0: of all queues
//!   tenants   tenant -> how many groups      so that their bound costs nothing
//!   totals    rows and bytes of all
//! ```
//!
//! Its rows come from the outbox of another file, in order, some of them twice after a crash. Nothing
//! depends on this file: it may be deleted at any time.
//!
//! **Invariants**
//! - What `apply` answered `Ok` to survives power loss; the outbox may forget it. Changes that come again
//!   change nothing, but that a group's moments may then take in a failure that was retried since.
//! - A job is there once, whatever happened before: by tenant and id.
//! - Counts of names, totals and groups are those of the rows, in the same commit.
//! - No call looks at more than [`HISTORY_LOOKED_AT_MAX`] rows, removes more than [`HISTORY_STEP_ROWS`],
//!   or takes more than [`CATALOG_ROWS_MAX`](crate::base::limits::CATALOG_ROWS_MAX) changes.
//! - Input is bound to statements, never written into them.
//!
//! A search walks one index, the first that its filter can use of tag, type, queue and states, state, time,
//! and holds every row against the rest of the filter. Groups know what was seen since they are there:
//! when a row goes, its group counts one less, but its moments stay.
//!
//! **Failure**: as the catalog's: a handle that failed is [`Error::Closed`] until it
//! is opened anew.

mod batch;
mod groups;
mod job;
mod list;
mod migrations;
mod prune;
mod search;
mod statements;

use std::path::Path;

use rusqlite::Connection;

use self::batch::Batch;
use self::migrations::MIGRATIONS;
use self::statements::Statement;
use super::file::Needs;
use super::handle::{Handle, LogRule, Tx};
use super::migrations::{migrate, version};
use super::{Error, Opening, Result, Space, check_rows, file};
use crate::base::id::{JobId, TenantId};
use crate::base::limits::{
    ENGINE_CACHE_BYTES_MIN, HISTORY_CACHE_BYTES, HISTORY_LOG_BYTES, HISTORY_LOOKED_AT_MAX,
    HISTORY_STEP_ROWS,
};
use crate::base::time::Timestamp;

pub use self::groups::{Group, GroupsPage, OTHER};
pub use self::job::{Finish, FinishedJob, JobError};
pub use self::prune::{Limits, QueueKeep};
pub use self::search::{Filter, Page, Position};

/// Rows that come together share their pages: measured, with room to spare.
const LOG: LogRule =
    LogRule { bytes: HISTORY_LOG_BYTES, bytes_a_change: 1 << 10, bytes_a_commit: 64 << 10 };

/// A batch touches as many pages as it has rare tags. If they did not fit into memory, they would go to
/// the log more than once.
const NEEDS: Needs = Needs { statements: Statement::ALL.len(), cache_bytes: HISTORY_CACHE_BYTES };

/// Something that the history is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A job is finished.
    Finished(Box<FinishedJob>),
    /// It is not finished any more, or nobody wants to know of it: retried or discarded.
    Gone {
        /// Whose it is.
        tenant: TenantId,
        /// Which.
        id: JobId,
    },
}

/// What there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Finished jobs.
    pub rows: u64,
    /// What they and their indexes take, estimated.
    pub bytes: u64,
    /// The size of the file, without its log. It does not shrink; what is free in it is used again.
    pub file_bytes: u64,
}

/// The history: one connection that writes, one user at a time.
pub struct History {
    reader: HistoryReader,
}

impl History {
    /// Opens the file at `path`, which must be there (an empty one is a new history), and brings it to the
    /// schema of this version.
    pub fn open(path: &Path, opening: Opening, space: Space) -> Result<History> {
        let connection = file::connect(path, NEEDS)?;
        if opening == Opening::AfterFailure {
            file::verify(&connection)?;
        }
        History::on(connection, space)
    }

    /// A history that nothing outlives, for `--ephemeral` and for tests. Nobody else can read it.
    pub fn in_memory() -> Result<History> {
        History::on(file::connect_in_memory(NEEDS)?, Box::new(|| u64::MAX))
    }

    fn on(connection: Connection, space: Space) -> Result<History> {
        migrate(&connection, MIGRATIONS)?;
        Ok(History { reader: HistoryReader { handle: Handle::new(connection, space, Some(LOG)) } })
    }

    /// Why it cannot be used any more, if so.
    pub fn broken(&self) -> Option<String> {
        self.reader.handle.broken()
    }

    /// Space that is certain.
    pub fn margin_bytes(&self) -> u64 {
        self.reader.handle.margin_bytes()
    }

    /// The size of the file, without its log.
    pub fn file_bytes(&self) -> u64 {
        self.reader.handle.file_bytes()
    }

    /// Commits made since it was opened.
    pub fn commits(&self) -> u64 {
        self.reader.handle.commits()
    }

    /// Takes these changes, in their order, in one commit. Those that it has seen change nothing.
    pub fn apply(&mut self, changes: &[Change]) -> Result {
        check_rows(changes.len())?;
        self.reader.handle.transaction(|tx| {
            let mut batch = Batch::new(tx);
            for change in changes {
                match change {
                    Change::Finished(job) => batch.put(job)?,
                    Change::Gone { tenant, id } => batch.forget(*tenant, *id)?,
                }
            }
            batch.finish()
        })
    }

    /// Removes what is too old or too much, the oldest first, [`HISTORY_STEP_ROWS`] of them at most.
    /// Whether there may be more to do.
    ///
    /// A queue's `done_age` is about jobs that are done or cancelled; every other bound is about all.
    pub fn prune(
        &mut self,
        limits: &Limits,
        queues: &[(TenantId, String, QueueKeep)],
        now: Timestamp,
    ) -> Result<bool> {
        self.reader.handle.transaction(|tx| {
            let mut batch = Batch::new(tx);
            let mut left = HISTORY_STEP_ROWS;
            left -= prune::all(tx, &mut batch, (limits, now), left)?;
            for (tenant, queue, keep) in queues {
                if left == 0 {
                    break;
                }
                let queue = (*tenant, queue.as_str());
                left -= prune::queue(tx, &mut batch, queue, (keep, now, left))?;
            }
            batch.finish()?;
            Ok(left == 0)
        })
    }

    /// Removes up to `rows` jobs of a tenant. Whether there is more to do.
    pub fn remove_tenant_step(&mut self, tenant: TenantId, rows: usize) -> Result<bool> {
        let limit = check_rows(rows)?;
        self.reader.handle.transaction(|tx| {
            let mut batch = Batch::new(tx);
            let removed = prune::tenant(tx, &mut batch, tenant, limit)?;
            batch.finish()?;
            Ok(removed == rows)
        })
    }

    /// The same connection, for those who only read.
    pub fn reader(&self) -> &HistoryReader {
        &self.reader
    }
}

/// A second connection to the file, which only reads: it sees what is committed and does not wait for
/// whoever writes.
pub struct HistoryReader {
    handle: Handle,
}

impl HistoryReader {
    /// Opens the file at `path`, which a [`History`] of this version has open.
    pub fn open(path: &Path) -> Result<HistoryReader> {
        let needs = Needs { cache_bytes: ENGINE_CACHE_BYTES_MIN, ..NEEDS };
        let connection = file::connect_to_read(path, needs)?;
        let (seen, known) = (version(&connection, MIGRATIONS.len())?, MIGRATIONS.len());
        if seen != known {
            let why = format!("its schema is {seen}, not {known}: nobody has it open to write");
            return Err(Error::Sql(why));
        }
        Ok(HistoryReader { handle: Handle::new(connection, Box::new(|| u64::MAX), None) })
    }

    /// Why it cannot be used any more, if so.
    pub fn broken(&self) -> Option<String> {
        self.handle.broken()
    }

    /// The size of the file, without its log.
    pub fn file_bytes(&self) -> u64 {
        self.handle.file_bytes()
    }

    /// What there is.
    pub fn figures(&self) -> Result<Figures> {
        figures(&self.handle)
    }

    /// A job, if it is here.
    pub fn get(&self, tenant: TenantId, id: JobId) -> Result<Option<FinishedJob>> {
        self.handle.read(|tx| job::get(tx, tenant, id))
    }

    /// Jobs that a filter lets through, the newest first.
    pub fn search(&self, filter: &Filter) -> Result<Page> {
        self.handle.read(|tx| search::page(tx, filter, HISTORY_LOOKED_AT_MAX))
    }

    /// Groups of failures, those that failed last first: of a queue, or of all of them together.
    pub fn groups(
        &self,
        tenant: TenantId,
        queue: Option<&str>,
        after: Option<(Timestamp, u64)>,
        limit: usize,
    ) -> Result<GroupsPage> {
        self.handle.read(|tx| groups::page(tx, (tenant, queue), after, limit))
    }

    /// Jobs of a group of failures, in the order of their ids.
    pub fn failed_ids(
        &self,
        tenant: TenantId,
        fingerprint: u64,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<JobId>> {
        self.handle.read(|tx| groups::ids(tx, (tenant, fingerprint), after, limit))
    }
}

fn figures(handle: &Handle) -> Result<Figures> {
    let (rows, bytes) = handle.read(totals)?;
    Ok(Figures { rows, bytes, file_bytes: handle.file_bytes() })
}

/// Rows and bytes of all there is.
fn totals(tx: &Tx<'_>) -> Result<(u64, u64)> {
    let totals =
        tx.one(Statement::Totals, [], |row| Ok((row.unsigned::<u64>(0)?, row.unsigned(1)?)))?;
    totals.ok_or_else(|| Error::BadRow("no totals of the history".to_owned()))
}

#[cfg(test)]
mod tests;
