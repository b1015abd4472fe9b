//! Row 4: durable jobs.
//!
//! ```text
//!        push ------> waiting --lease--> running --done----------------> done       (history)
//!   push, later --> delayed -due-^ ^        | |---fail, tries left ---> delayed
//!                      ^           |        | |---fail, none left ----> failed     (stays; history) --retry--> waiting
//!                      '-----------+--------' '---release, crash -----> waiting | delayed
//!   cancel: waiting, delayed -> cancelled (history); running: told to its worker, then cancelled
//! ```
//!
//! Operations run on the writer's thread of jobs.redb ([`memory::run`]): they judge by the tables, change
//! tables and memory together, and name what has to be told after the commit ([`memory::Event`]). How jobs stand in
//! the file: `rows`. Who calls them, who waits, and what is told to whom: the application.
//!
//! **Types**: [`job`] has the words. [`push`], [`lease`], [`finish`], [`tick`], [`change`] and [`schedules`] are
//! the operations; [`view`] looks; [`outbox`] is the way to the history; [`memory`] is what is known without
//! looking; [`workers`] who works. Pure parts: [`cron`], [`figures`], [`budget`], [`rate`], [`fingerprint`],
//! [`mod@line`].
//!
//! **Invariants**, checked by [`check`] on any file and by the model test after each step
//! - A job that was accepted is there until it is over; over is done, failed (it stays, with its payload) or
//!   cancelled.
//! - A job stands in exactly one place: among those that may run, among those that are due, in a lease, or among
//!   the failed.
//! - A lease is valid until its row is gone, across restarts; a job has at most one. Fences only grow.
//! - `max_tries` limits errors alone, `max_crashes` crashes alone; nothing else counts.
//! - What is over owns no unique key beyond the time of that key, and no lease.
//! - Queues do not starve each other's jobs: within a queue the job goes first that should have been served
//!   first, whatever its band.
//! - Memory does not grow with the jobs that wait.
//!
//! **Failure cases**: an operation that says no leaves nothing, in the file or in memory. A commit that fails:
//! memory is read anew with the file. A damaged row refuses what needs it, and nothing else. A worker dies: its
//! process is watched if it is local, else its lease runs out. The server dies: leases run on, see [`load`].
//! The history is away: what goes there waits in the outbox, which is bounded.

pub mod budget;
pub mod calendar;
pub mod change;
pub mod check;
pub mod cron;
pub mod figures;
pub mod fingerprint;
pub mod finish;
pub mod job;
pub mod lease;
pub mod line;
pub mod load;
pub mod memory;
pub mod outbox;
pub mod push;
pub mod rate;
mod rows;
pub mod schedules;
pub mod settings;
pub mod tick;
pub mod view;
pub mod workers;

use std::time::Duration;

use crate::base::limits::{IDEMPOTENCY_KEYS_MAX, QUEUES_MAX, TENANT_SCHEDULES_MAX};
use crate::base::name::QueueName;
use crate::base::quota::Quota;
use crate::store;

pub use self::rows::{Damaged, RowError};

/// Why the jobs refused. Not `non_exhaustive`: a new variant has to break the mapping to HTTP.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// As many jobs wait as may.
    #[error("queue {queue} holds {len} jobs, its max_depth is {max}")]
    QueueFull {
        /// Where.
        queue: QueueName,
        /// How many wait.
        len: u64,
        /// How many may.
        max: u64,
    },
    /// The tenant has as much as it may have.
    #[error("the quota {quota} is {limit}, and {used} are used")]
    Quota {
        /// Of what.
        quota: Quota,
        /// How much it may have.
        limit: u64,
        /// How much it has.
        used: u64,
        /// When it is worth while to come again; never by itself without.
        retry_after: Option<Duration>,
    },
    /// The server has as many queues as it may have.
    #[error("this server keeps at most {QUEUES_MAX} queues")]
    TooManyQueues,
    /// The tenant, or the server, has as many schedules as it may have.
    #[error("a tenant has at most {TENANT_SCHEDULES_MAX} schedules")]
    TooManySchedules,
    /// Too many calls are remembered.
    #[error("{IDEMPOTENCY_KEYS_MAX} keys of calls are remembered for a day; no more are possible")]
    TooManyCalls,
    /// The key belongs to another call.
    #[error("the Idempotency-Key was used for another call")]
    KeyReused,
    /// A queue with jobs cannot be forgotten.
    #[error("queue {queue} has {jobs} jobs; clear it first: holdfast queue clear {queue} --yes")]
    QueueNotEmpty {
        /// Which.
        queue: QueueName,
        /// How many.
        jobs: u64,
    },
    /// A row could not be read or written.
    #[error(transparent)]
    Row(#[from] RowError),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        Error::Row(RowError::Store(error))
    }
}

impl Error {
    /// The stable word for clients.
    pub fn code(&self) -> &'static str {
        match self {
            Error::QueueFull { .. } => "queue_full",
            Error::Quota { .. } | Error::TooManyQueues | Error::TooManySchedules => {
                "quota_exceeded"
            }
            Error::TooManyCalls => "rate_limited",
            Error::KeyReused => "idempotency_key_reused",
            Error::QueueNotEmpty { .. } => "queue_not_empty",
            Error::Row(RowError::Store(store::Error::OperationTooLarge)) => "too_large",
            Error::Row(_) => "internal",
        }
    }
}

#[cfg(test)]
mod tests;
