//! Row 2: ordered bytes that survive. The seam between the product and its storage engines.
//!
//! ```text
//!   services --closures--> exec::Writer --Batch--> Engine + redb    (default; store/redb.rs)
//!                                                         + SQLite  (store/sqlite.rs)
//!                                                         + BTreeMap, the model (testing/model.rs)
//! ```
//!
//! **Contract**, held by every engine and checked by `testing::contract`:
//! 1. A write is all or nothing: if the body or the commit fails, no later read sees any of it.
//! 2. Writers are serial. A reader sees the last commit before it began, and nothing newer.
//! 3. When a write has returned `Ok`, what it wrote survives power loss.
//! 4. After a failed commit the handle is dead: every call is [`Error::Closed`] until the file is
//!    opened anew. The same holds after any error of the file itself.
//! 5. Within a write, one operation can be undone alone ([`Batch::undo`]).
//! 6. Keys, values, rows visited by one read and rows deleted at once are bounded; an engine that undoes
//!    from memory bounds what one operation may displace.
//!
//! **Tables** are a closed enum, one for all files; a table that was never written is empty. What
//! stands in them belongs to the service that owns them.
//!
//! **Failure cases**: a refused argument ([`Error::KeyTooLarge`] and the like) harms nobody; an error
//! of the file kills the handle; [`Error::CommitFailed`] alone means that the write may or may not be
//! there. This module never retries, never reads a clock and never starts a thread.

pub mod disk;
pub mod log;
pub mod redb;
pub mod sqlite;

use crate::base::key::prefix_end;
use crate::base::limits::{
    DELETE_ROWS_MAX, KEY_BYTES_MAX, READ_ROWS_MAX, UNDO_BYTES_MAX, VALUE_BYTES_MAX,
};
use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key beyond its bound. Nothing was changed.
    #[error("a key of {0} bytes, the limit is {KEY_BYTES_MAX}")]
    KeyTooLarge(usize),
    /// A value beyond its bound. Nothing was changed.
    #[error("a value of {0} bytes, the limit is {VALUE_BYTES_MAX}")]
    ValueTooLarge(usize),
    /// One read visited too many rows; walk in pages.
    #[error("one read may visit {READ_ROWS_MAX} rows")]
    TooManyRows,
    /// One call wanted to delete too many rows; come again for the rest.
    #[error("one call may delete {DELETE_ROWS_MAX} rows, not {0}")]
    DeletesTooMany(u64),
    /// One operation displaced more than can be kept in memory for its undoing. It must be cut.
    #[error("one operation may displace {UNDO_BYTES_MAX} bytes; cut it into several")]
    OperationTooLarge,
    /// The file could not be read or written; nothing of this call was stored.
    #[error("the file failed: {0}")]
    Io(#[source] io::Error),
    /// The commit itself failed: what was written may or may not be there.
    #[error("the commit failed, its outcome is unknown: {0}")]
    CommitFailed(String),
    /// The bytes in the file are not what was written there.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    /// Somebody else has the file open.
    #[error("the file is open in another process")]
    InUse,
    /// The handle is dead since an earlier failure; open the file anew.
    #[error("the store is closed after a failure")]
    Closed,
}

impl Error {
    /// The stable word for logs and answers.
    pub fn code(&self) -> &'static str {
        match self {
            Error::KeyTooLarge(_) => "key_too_large",
            Error::ValueTooLarge(_) => "value_too_large",
            Error::TooManyRows | Error::DeletesTooMany(_) => "too_many_rows",
            Error::OperationTooLarge => "operation_too_large",
            Error::Io(_) => "store_io",
            Error::CommitFailed(_) => "outcome_unknown",
            Error::Damaged(_) => "store_damaged",
            Error::InUse => "store_in_use",
            Error::Closed => "store_closed",
        }
    }

    /// Whether the engine is at fault, so that its handle is dead; otherwise the caller was refused.
    pub fn kills_engine(&self) -> bool {
        match self {
            Error::KeyTooLarge(_)
            | Error::ValueTooLarge(_)
            | Error::TooManyRows
            | Error::DeletesTooMany(_)
            | Error::OperationTooLarge => false,
            Error::Io(_)
            | Error::CommitFailed(_)
            | Error::Damaged(_)
            | Error::InUse
            | Error::Closed => true,
        }
    }
}

/// The result of everything here.
pub type Result<T = ()> = std::result::Result<T, Error>;

/// The tables of all files. Add at the end; never rename, reorder or reuse: names are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Each file: small facts about the file itself.
    Meta,
    /// jobs.redb: a job's head and body, by id.
    Jobs,
    /// jobs.redb: what may run, in the order in which it will.
    Ready,
    /// jobs.redb: what waits for a moment, by that moment.
    Due,
    /// jobs.redb: who runs what until when.
    Leases,
    /// jobs.redb: what is on its way to the history.
    Outbox,
    /// kept.redb: entries of kept namespaces, each with its value in parts.
    Kept,
    /// kept.redb: locks, by name.
    Locks,
    /// jobs.redb: what has become of a job beyond its first wait.
    Courses,
    /// jobs.redb: keys that only one job of a queue holds.
    Unique,
    /// jobs.redb: calls that are not done twice, and what they were answered.
    Calls,
    /// jobs.redb: settings of queues.
    Queues,
    /// jobs.redb: what is pushed at moments of the calendar.
    Schedules,
    /// jobs.redb: jobs that were given up, by queue and moment.
    Failed,
    /// series.redb: series, by id.
    Series,
    /// series.redb: blocks of samples, by hour and group.
    Raw,
    /// series.redb: blocks of points of five minutes, by day and group.
    Rolled5m,
    /// series.redb: blocks of points of an hour, by week and group.
    Rolled1h,
    /// series.redb: blocks of points of a day, by four weeks and group.
    Rolled1d,
    /// series.redb: what each stretch of time holds.
    Spans,
}

impl Table {
    /// All of them, in order.
    pub const ALL: [Table; 20] = [
        Table::Meta,
        Table::Jobs,
        Table::Ready,
        Table::Due,
        Table::Leases,
        Table::Outbox,
        Table::Kept,
        Table::Locks,
        Table::Courses,
        Table::Unique,
        Table::Calls,
        Table::Queues,
        Table::Schedules,
        Table::Failed,
        Table::Series,
        Table::Raw,
        Table::Rolled5m,
        Table::Rolled1h,
        Table::Rolled1d,
        Table::Spans,
    ];

    /// The name on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Jobs => "jobs",
            Table::Ready => "ready",
            Table::Due => "due",
            Table::Leases => "leases",
            Table::Outbox => "outbox",
            Table::Kept => "kept",
            Table::Locks => "locks",
            Table::Courses => "courses",
            // The word alone means something else in SQL.
            Table::Unique => "uniques",
            Table::Calls => "calls",
            Table::Queues => "queues",
            Table::Schedules => "schedules",
            Table::Failed => "failed",
            Table::Series => "series",
            Table::Raw => "raw",
            Table::Rolled5m => "rolled_5m",
            Table::Rolled1h => "rolled_1h",
            Table::Rolled1d => "rolled_1d",
            Table::Spans => "spans",
        }
    }

    /// Position in [`Table::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A stretch of keys: from one, included, to another, excluded or open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key that belongs to it.
    pub from: Vec<u8>,
    /// The first key that does not belong to it any more.
    pub to: Option<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> KeyRange {
        KeyRange { from: Vec::new(), to: None }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        KeyRange { from: prefix.to_vec(), to: prefix_end(prefix) }
    }

    /// From `from`, included, to `to`, excluded.
    pub fn between(from: &[u8], to: &[u8]) -> KeyRange {
        KeyRange { from: from.to_vec(), to: Some(to.to_vec()) }
    }

    /// Whether no key can lie in it.
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }
}

/// Which end a scan begins at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Reverse,
}

/// What a visitor wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next row.
    On,
    /// Nothing more.
    Stop,
}

/// Looks at a row: key and value, borrowed for the call.
pub type Visitor<'v> = dyn FnMut(&[u8], &[u8]) -> Flow + 'v;

/// One view of the tables.
pub trait Read {
    /// The value of `key`.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Shows the rows of `range` to `visit`, in `order`, until it stops.
    ///
    /// Errors: [`Error::TooManyRows`] when this view has shown [`READ_ROWS_MAX`] rows in all.
    fn scan(&self, table: Table, range: &KeyRange, order: Order, visit: &mut Visitor<'_>)
    -> Result;
}

/// A view that can be changed. It sees its own changes.
pub trait Write: Read {
    /// Sets the value of `key`.
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result;

    /// Removes `key`; whether it was there.
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool>;

    /// Removes the first rows of `range`, at most `rows_max`; how many they were.
    fn delete_range(&mut self, table: Table, range: &KeyRange, rows_max: u64) -> Result<u64>;
}

/// A write transaction as [`Engine::write`] hands it out: a row of operations, each kept or undone.
pub trait Batch: Write {
    /// A new operation begins here.
    fn begin(&mut self) -> Result;

    /// The operation stays.
    fn keep(&mut self) -> Result;

    /// The operation never was; those kept before it stay.
    ///
    /// Errors: whatever happened, the batch must then be given up.
    fn undo(&mut self) -> Result;

    /// Whether anything kept would be lost without a commit.
    fn is_dirty(&self) -> bool;

    /// Whether the engine failed, or was left by a panic in its midst: then nothing can be kept.
    fn is_broken(&self) -> bool;
}

/// What becomes of a batch whose body went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Make it durable.
    Commit,
    /// Let it go: nothing in it matters.
    Abandon,
}

/// How a commit is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// As fast as is durable.
    Plain,
    /// So that the file opens at once after a kill, if this is the last commit before it. Costs a
    /// second sync.
    Quick,
}

/// What a new handle is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The process starts.
    Start,
    /// An earlier handle failed. What the kernel still holds of the file may never have reached the
    /// disk, so it is read anew, and all of it is verified.
    AfterFailure,
}

/// What an engine has done since it was opened. Engines that do not see a figure leave it at zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineFigures {
    /// Commits made.
    pub commits: u64,
    /// Times the file was synced.
    pub syncs: u64,
    /// Writes to the file.
    pub writes: u64,
    /// Bytes of those writes.
    pub write_bytes: u64,
    /// Reads from the file.
    pub reads: u64,
    /// Bytes of those reads.
    pub read_bytes: u64,
    /// Length of the file; parts of it may be holes that take no space.
    pub file_bytes: u64,
    /// Space that is certain, whoever else fills the disk.
    pub margin_bytes: u64,
    /// Whether the file had to be checked page by page when it was opened.
    pub repaired: bool,
}

/// The body of a read.
pub type ReadBody<'b> = dyn FnMut(&dyn Read) -> Result + 'b;
/// The body of a write.
pub type WriteBody<'b> = dyn FnMut(&mut dyn Batch) -> Result<Finish> + 'b;

/// A place that keeps ordered bytes and commits atomically; see the contract above.
pub trait Engine: Send + Sync {
    /// Runs `body` on a view that no writer changes. Views must be short: while one is held, the
    /// file cannot reuse what was deleted, and what it grew by is never given back.
    fn read(&self, body: &mut ReadBody<'_>) -> Result;

    /// Runs `body` and makes what it kept durable.
    fn write(&self, commit: Commit, body: &mut WriteBody<'_>) -> Result;

    /// Makes sure, as far as the disk allows, that the next `bytes` can be written, and never fewer than
    /// the margin. Returns how many can, whoever else fills the disk.
    fn reserve(&self, bytes: u64) -> u64;

    /// What has been done so far.
    fn figures(&self) -> EngineFigures;
}

/// Shows all rows of `range`, however many, in order, in views of `page_rows` rows each.
///
/// Rows that are written meanwhile may or may not be seen; every row that stays as it is, is seen
/// exactly once.
pub fn scan_in_pages(
    engine: &dyn Engine,
    table: Table,
    range: &KeyRange,
    page_rows: u64,
    visit: &mut Visitor<'_>,
) -> Result {
    assert!(0 < page_rows && page_rows <= READ_ROWS_MAX, "BUG: a page has a size");
    let mut rest = range.clone();
    loop {
        let mut shown = 0;
        let mut next = None;
        engine.read(&mut |view| {
            view.scan(table, &rest, Order::Forward, &mut |key, value| {
                shown += 1;
                let flow = visit(key, value);
                if flow == Flow::Stop || shown < page_rows {
                    return flow;
                }
                // The smallest key above this one is this one with a zero byte behind it.
                next = Some([key, &[0]].concat());
                Flow::Stop
            })
        })?;
        match next {
            Some(from) => rest.from = from,
            None => return Ok(()),
        }
    }
}

/// Refuses a key or value beyond its bound.
fn check_sizes(key: &[u8], value: &[u8]) -> Result {
    if KEY_BYTES_MAX < key.len() {
        return Err(Error::KeyTooLarge(key.len()));
    }
    if VALUE_BYTES_MAX < value.len() {
        return Err(Error::ValueTooLarge(value.len()));
    }
    Ok(())
}

/// Refuses a deletion beyond its bound.
fn check_deletes(rows_max: u64) -> Result {
    if DELETE_ROWS_MAX < rows_max { Err(Error::DeletesTooMany(rows_max)) } else { Ok(()) }
}

/// Counts the rows that one view has shown.
#[derive(Debug, Default)]
struct RowBudget(Cell<u64>);

impl RowBudget {
    fn take(&self) -> Result {
        if READ_ROWS_MAX <= self.0.get() {
            return Err(Error::TooManyRows);
        }
        self.0.set(self.0.get() + 1);
        Ok(())
    }

    fn reset(&self) {
        self.0.set(0);
    }
}

/// Whether an engine is sound: no call failed in it, and no panic left it halfway.
///
/// An operation is a stranger's code and may panic at any point. While it runs in its own code, what
/// it wrote can be undone; when the panic comes out of the engine, nothing inside can be trusted.
#[derive(Debug, Default)]
struct Soundness {
    inside: Cell<bool>,
    failed: Cell<bool>,
}

impl Soundness {
    /// Calls into the engine.
    fn enter<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        self.inside.set(true);
        let result = call();
        self.inside.set(false);
        if let Err(error) = &result
            && error.kills_engine()
        {
            self.failed.set(true);
        }
        result
    }

    fn is_broken(&self) -> bool {
        self.inside.get() || self.failed.get()
    }
}

/// Marks an engine dead at its end unless told otherwise, so that a panic on its way through does.
struct DeadUnlessSpared<'a> {
    dead: &'a AtomicBool,
    spared: Cell<bool>,
}

impl<'a> DeadUnlessSpared<'a> {
    fn new(dead: &'a AtomicBool) -> DeadUnlessSpared<'a> {
        DeadUnlessSpared { dead, spared: Cell::new(false) }
    }

    fn spare(&self) {
        self.spared.set(true);
    }
}

impl Drop for DeadUnlessSpared<'_> {
    fn drop(&mut self) {
        if !self.spared.get() {
            self.dead.store(true, Relaxed);
        }
    }
}

/// Marks an engine dead if a view of it did not end well, also when a panic comes through.
struct DeadIfBroken<'a> {
    dead: &'a AtomicBool,
    sound: &'a Soundness,
}

impl Drop for DeadIfBroken<'_> {
    fn drop(&mut self) {
        if self.sound.is_broken() {
            self.dead.store(true, Relaxed);
        }
    }
}

/// Ends a write as its body wanted: `end` commits or lets go. The engine is spared only if everything
/// went well.
fn conclude(
    finish: Result<Finish>,
    broken: bool,
    fate: &DeadUnlessSpared<'_>,
    end: impl FnOnce(Finish) -> Result,
) -> Result {
    match finish {
        Ok(Finish::Commit) if !broken => {
            end(Finish::Commit)?;
            fate.spare();
            Ok(())
        }
        finish => {
            let let_go = end(Finish::Abandon);
            if !broken && let_go.is_ok() {
                fate.spare();
            }
            finish?;
            let_go?;
            if broken { Err(Error::Closed) } else { Ok(()) }
        }
    }
}

#[cfg(test)]
mod tests;
