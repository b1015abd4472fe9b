//! Row 3: the only place with threads.
//!
//! - [`writer`]: one thread per file that turns many operations into few commits.
//! - [`keeper`]: one thread that keeps one thing, and runs what is asked of it in turn.
//! - [`pool`]: a few threads for work that is all CPU.
//! - [`worker`]: background work that is stepped.
//! - [`aside`]: a thread for what waits for the system.
//!
//! Invariants: every queue is bounded and refuses when full; every thread is named, counted and
//! joined; a panic in somebody's closure is caught, counted and answered, and harms no neighbour;
//! everything that happens can be seen in figures. Time comes from a [`crate::base::time::Clock`],
//! never from the system.

pub mod aside;
pub mod figures;
pub mod keeper;
pub mod pool;
pub mod worker;
pub mod writer;

mod claim;
mod slot;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Why work was not done, or not known to be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More is waiting than could be done in time. Nothing happened.
    #[error("too much is waiting; it would take about {} ms", wait.as_millis())]
    Overloaded {
        /// How long it would have taken; what to tell the caller to wait.
        wait: Duration,
    },
    /// The disk is nearly full, and this would have made the file larger. Nothing happened.
    #[error("the disk is full: only what frees space is accepted")]
    DiskFull,
    /// The file failed and is being opened anew. Nothing happened.
    #[error("the store is being reopened after a failure")]
    ReadOnly,
    /// The process is about to end. Nothing happened.
    #[error("the server is stopping")]
    Stopping,
    /// The disk failed during the commit: it may or may not be stored.
    #[error("the disk failed during the commit: it may or may not be stored")]
    OutcomeUnknown,
    /// The deadline passed before it was done; whatever it had begun was given up.
    #[error("the deadline passed")]
    TooLate,
    /// A bug of ours; what it had done was undone.
    #[error("an internal error; it was undone")]
    Panicked,
}

impl Error {
    /// The stable word that clients match on.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Overloaded { .. } | Error::TooLate => "overloaded",
            Error::DiskFull => "disk_full",
            Error::ReadOnly => "read_only",
            Error::Stopping => "stopping",
            Error::OutcomeUnknown => "outcome_unknown",
            Error::Panicked => "internal",
        }
    }
}

/// What comes back from a call: the operation's own refusal, or ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError<E> {
    /// The operation said no; it was undone.
    Refused(E),
    /// It was not done, or it is not known.
    Failed(Error),
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Lets the moving average `of` learn from `sample`: an eighth of it is the new one.
fn average(of: &AtomicU64, sample: u64) {
    let old = of.load(Relaxed);
    of.store(if old == 0 { sample } else { old - old / 8 + sample / 8 }, Relaxed);
}

/// Processors that this process may use; one when the system does not say.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The text of a caught panic.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}

/// Starts a named thread.
#[expect(clippy::disallowed_methods, reason = "this is the place where threads are made")]
fn start_thread(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}

#[cfg(test)]
mod tests;
