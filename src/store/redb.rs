//! The redb engine: the default, and the boring subset of it.
//!
//! Plain tables with `&[u8]` keys and values, `Durability::Immediate`, one commit at a time. No
//! savepoints, no multimaps, no non-durable commits: most bugs fixed in redb lived there.
//!
//! - **Undo** of one operation is a log of the old values that its writes displaced, played backwards.
//! - **Quick-repair** costs a second sync and helps only if it is on the very last commit before a
//!   crash, so the caller says when ([`Commit::Quick`]).
//! - **Space** is held in reserve ([`Backend`]) and given back when a write finds the disk full, so that
//!   redb never meets `ENOSPC`, after which it would have to be opened anew. redb doubles the length of
//!   its file, which stays sparse.
//! - **Death**: redb refuses everything after an error of the file; so does this handle, and also
//!   after a commit that failed in any other way or a panic that came through it. A dead handle reaches
//!   the disk no more ([`Backend`] sees to that), so dropping it writes nothing.

use std::cell::OnceCell;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use redb::{
    Database, DatabaseError, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase,
    ReadableTable, StorageBackend, StorageError, TableDefinition, TableError, TransactionError,
    WriteTransaction,
};

use super::disk::{Disk, FileDisk, MemoryDisk, make_whole};
use super::{
    Batch, Commit, DeadIfBroken, DeadUnlessSpared, Engine, EngineFigures, Error, Finish, KeyRange,
    Opening, Order, Read, ReadBody, Result, RowBudget, Soundness, Table, Visitor, Write, WriteBody,
    check_deletes, check_sizes, conclude,
};
use crate::base::limits::{DISK_MARGIN_BYTES, UNDO_BYTES_MAX};

type Bytes = &'static [u8];

fn definition(table: Table) -> TableDefinition<'static, Bytes, Bytes> {
    TableDefinition::new(table.name())
}

/// A file of ordered bytes.
pub struct Redb {
    database: Database,
    backend: Backend,
    commits: AtomicU64,
    repaired: bool,
}

impl Redb {
    /// Opens or creates the file at `path`, with a page cache of `cache_bytes`.
    pub fn open(path: &Path, cache_bytes: u64, opening: Opening) -> Result<Redb> {
        // A file that vanished under a running process is a failure, not a new beginning.
        if opening == Opening::Start {
            make_whole(path, |disk| {
                Redb::on_disk(Arc::new(disk), cache_bytes, Opening::Start).map(drop)
            })?;
        }
        Redb::on_disk(Arc::new(FileDisk::open(path)?), cache_bytes, opening)
    }

    /// A store in memory, for `--ephemeral`.
    pub fn in_memory(cache_bytes: u64) -> Result<Redb> {
        Redb::on_disk(Arc::new(MemoryDisk::default()), cache_bytes, Opening::Start)
    }

    /// Opens what stands on `disk`.
    pub fn on_disk(disk: Arc<dyn Disk>, cache_bytes: u64, opening: Opening) -> Result<Redb> {
        if opening == Opening::AfterFailure {
            disk.forget_cached().map_err(Error::Io)?;
        }
        // A reserve that cannot be asked for is none; the first commit will try to make one.
        let held = AtomicU64::new(disk.held().unwrap_or(0));
        let backend = Backend { disk, meter: Arc::new(Meter { held, ..Meter::default() }) };
        let cache_bytes = usize::try_from(cache_bytes).unwrap_or(usize::MAX);

        // redb asserts where a damaged file surprises it; for the caller that is a damaged file.
        let attempt = AssertUnwindSafe(|| open_database(&backend, cache_bytes, opening));
        let (database, repaired) = catch_unwind(attempt)
            .unwrap_or_else(|_| Err(Error::Damaged("the engine gave up reading it".to_owned())))?;
        Ok(Redb { database, backend, commits: AtomicU64::new(0), repaired })
    }

    fn dead(&self) -> &AtomicBool {
        &self.backend.meter.dead
    }

    fn check_alive(&self) -> Result {
        if self.dead().load(Relaxed) { Err(Error::Closed) } else { Ok(()) }
    }
}

fn open_database(
    backend: &Backend,
    cache_bytes: usize,
    opening: Opening,
) -> Result<(Database, bool)> {
    let repaired = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&repaired);
    let mut database = Database::builder()
        .set_cache_size(cache_bytes)
        .set_repair_callback(move |_| seen.store(true, Relaxed))
        .create_with_backend(backend.clone())
        .map_err(from_open)?;
    if opening == Opening::AfterFailure {
        // A file that was not sound but could be mended is sound now.
        database.check_integrity().map_err(from_open)?;
    }
    Ok((database, repaired.load(Relaxed)))
}

impl Engine for Redb {
    fn read(&self, body: &mut ReadBody<'_>) -> Result {
        self.check_alive()?;
        let sound = Soundness::default();
        let _fate = DeadIfBroken { dead: self.dead(), sound: &sound };
        let tx = sound.enter(|| self.database.begin_read().map_err(from_begin))?;
        let result = body(&View::new(tx, &sound));
        if sound.is_broken() { result.and(Err(Error::Closed)) } else { result }
    }

    fn write(&self, commit: Commit, body: &mut WriteBody<'_>) -> Result {
        self.check_alive()?;
        let fate = DeadUnlessSpared::new(self.dead());
        let mut tx = self.database.begin_write().map_err(from_begin)?;
        tx.set_durability(Durability::Immediate)
            .expect("BUG: only persistent savepoints forbid a durability, and we make none");
        tx.set_quick_repair(commit == Commit::Quick);

        let (finish, broken) = {
            let mut batch = RedbBatch::new(&tx);
            let finish = body(&mut batch);
            (finish, batch.is_broken())
        };
        conclude(finish, broken, &fate, |how| match how {
            Finish::Commit => {
                tx.commit().map_err(|error| Error::CommitFailed(error.to_string()))?;
                self.commits.fetch_add(1, Relaxed);
                Ok(())
            }
            Finish::Abandon => tx.abort().map_err(from_storage),
        })
    }

    fn reserve(&self, bytes: u64) -> u64 {
        self.backend.reserve(bytes)
    }

    fn figures(&self) -> EngineFigures {
        let meter = &self.backend.meter;
        EngineFigures {
            commits: self.commits.load(Relaxed),
            syncs: meter.syncs.load(Relaxed),
            writes: meter.writes.load(Relaxed),
            write_bytes: meter.write_bytes.load(Relaxed),
            reads: meter.reads.load(Relaxed),
            read_bytes: meter.read_bytes.load(Relaxed),
            file_bytes: meter.len.load(Relaxed),
            margin_bytes: meter.held.load(Relaxed),
            repaired: self.repaired,
        }
    }
}

/// A read transaction with the tables it has looked at.
struct View<'s> {
    tx: ReadTransaction,
    tables: [OnceCell<Option<ReadOnlyTable<Bytes, Bytes>>>; Table::ALL.len()],
    rows: RowBudget,
    sound: &'s Soundness,
}

impl<'s> View<'s> {
    fn new(tx: ReadTransaction, sound: &'s Soundness) -> View<'s> {
        View { tx, tables: Default::default(), rows: RowBudget::default(), sound }
    }

    /// `None` for a table that nobody has written yet.
    fn table(&self, table: Table) -> Result<Option<&ReadOnlyTable<Bytes, Bytes>>> {
        let cell = &self.tables[table.index()];
        if cell.get().is_none() {
            let opened = self.sound.enter(|| match self.tx.open_table(definition(table)) {
                Ok(opened) => Ok(Some(opened)),
                Err(TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(from_table(error)),
            })?;
            assert!(cell.set(opened).is_ok(), "BUG: the cell was empty a moment ago");
        }
        Ok(cell.get().and_then(Option::as_ref))
    }
}

impl Read for View<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.table(table)? {
            Some(table) => self.sound.enter(|| get_in(table, key)),
            None => Ok(None),
        }
    }

    fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        order: Order,
        visit: &mut Visitor<'_>,
    ) -> Result {
        let walk = Walk { range, order, rows: &self.rows, sound: self.sound };
        match self.table(table)? {
            Some(table) => scan_in(table, &walk, visit),
            None => Ok(()),
        }
    }
}

fn get_in(table: &impl ReadableTable<Bytes, Bytes>, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let found = table.get(key).map_err(from_storage)?;
    Ok(found.map(|value| value.value().to_vec()))
}

struct Walk<'a> {
    range: &'a KeyRange,
    order: Order,
    rows: &'a RowBudget,
    sound: &'a Soundness,
}

fn scan_in(
    table: &impl ReadableTable<Bytes, Bytes>,
    walk: &Walk<'_>,
    visit: &mut Visitor<'_>,
) -> Result {
    if walk.range.is_empty() {
        return Ok(());
    }
    let mut rows = walk.sound.enter(|| range_of(table, walk.range))?;
    loop {
        let row = walk.sound.enter(|| {
            let row = match walk.order {
                Order::Forward => rows.next(),
                Order::Reverse => rows.next_back(),
            };
            row.transpose().map_err(from_storage)
        })?;
        let Some((key, value)) = row else {
            return Ok(());
        };
        walk.rows.take()?;
        if visit(key.value(), value.value()) == super::Flow::Stop {
            return Ok(());
        }
    }
}

fn range_of<'t>(
    table: &'t impl ReadableTable<Bytes, Bytes>,
    range: &KeyRange,
) -> Result<redb::Range<'t, Bytes, Bytes>> {
    table.range::<&[u8]>(bounds(range)).map_err(from_storage)
}

fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let to = range.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(range.from.as_slice()), to)
}

/// What undoing one write takes.
struct Displaced {
    table: Table,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// A write transaction with the tables it has touched and the undo log of the current operation.
struct RedbBatch<'tx> {
    tx: &'tx WriteTransaction,
    tables: [OnceCell<redb::Table<'tx, Bytes, Bytes>>; Table::ALL.len()],
    displaced: Vec<Displaced>,
    /// Bytes of those.
    displaced_bytes: usize,
    dirty: bool,
    rows: RowBudget,
    sound: Soundness,
}

impl<'tx> RedbBatch<'tx> {
    fn new(tx: &'tx WriteTransaction) -> RedbBatch<'tx> {
        RedbBatch {
            tx,
            tables: Default::default(),
            displaced: Vec::new(),
            displaced_bytes: 0,
            dirty: false,
            rows: RowBudget::default(),
            sound: Soundness::default(),
        }
    }

    fn table(&self, table: Table) -> Result<&redb::Table<'tx, Bytes, Bytes>> {
        let cell = &self.tables[table.index()];
        if cell.get().is_none() {
            let opened =
                self.sound.enter(|| self.tx.open_table(definition(table)).map_err(from_table))?;
            assert!(cell.set(opened).is_ok(), "BUG: the cell was empty a moment ago");
        }
        Ok(cell.get().expect("BUG: the cell was filled above"))
    }

    /// Remembers what a write displaced.
    fn note(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.displaced_bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        self.displaced.push(Displaced { table, key, value });
    }

    /// Refuses a write when undoing the operation would already take too much memory.
    fn check_undo(&self) -> Result {
        if UNDO_BYTES_MAX < self.displaced_bytes { Err(Error::OperationTooLarge) } else { Ok(()) }
    }

    /// Sets or removes `key`; the value that was there.
    fn replace(
        &mut self,
        table: Table,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>> {
        self.table(table)?;
        let place = self.tables[table.index()].get_mut().expect("BUG: the line above filled it");
        self.sound.enter(|| {
            let old = match value {
                Some(value) => place.insert(key, value),
                None => place.remove(key),
            };
            Ok(old.map_err(from_storage)?.map(|old| old.value().to_vec()))
        })
    }
}

impl Read for RedbBatch<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let table = self.table(table)?;
        self.sound.enter(|| get_in(table, key))
    }

    fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        order: Order,
        visit: &mut Visitor<'_>,
    ) -> Result {
        let walk = Walk { range, order, rows: &self.rows, sound: &self.sound };
        scan_in(self.table(table)?, &walk, visit)
    }
}

impl Write for RedbBatch<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result {
        check_sizes(key, value)?;
        self.check_undo()?;
        let old = self.replace(table, key, Some(value))?;
        self.note(table, key.to_vec(), old);
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool> {
        self.check_undo()?;
        let old = self.replace(table, key, None)?;
        let found = old.is_some();
        if found {
            self.note(table, key.to_vec(), old);
        }
        Ok(found)
    }

    fn delete_range(&mut self, table: Table, range: &KeyRange, rows_max: u64) -> Result<u64> {
        check_deletes(rows_max)?;
        self.check_undo()?;
        if range.is_empty() {
            return Ok(0);
        }
        self.table(table)?;
        let place = self.tables[table.index()].get_mut().expect("BUG: the line above filled it");
        let (displaced, bytes) = (&mut self.displaced, &mut self.displaced_bytes);
        self.sound.enter(|| {
            let gone = place.extract_from_if::<&[u8], _>(bounds(range), |_, _| true);
            let mut gone = gone.map_err(from_storage)?;
            let mut count = 0;
            while count < rows_max
                && let Some(row) = gone.next()
            {
                let (key, value) = row.map_err(from_storage)?;
                let (key, value) = (key.value().to_vec(), value.value().to_vec());
                *bytes += key.len() + value.len();
                displaced.push(Displaced { table, key, value: Some(value) });
                count += 1;
            }
            Ok(count)
        })
    }
}

impl Batch for RedbBatch<'_> {
    fn begin(&mut self) -> Result {
        assert!(self.displaced.is_empty(), "BUG: the operation before was neither kept nor undone");
        self.rows.reset();
        Ok(())
    }

    fn keep(&mut self) -> Result {
        self.dirty |= !self.displaced.is_empty();
        self.displaced.clear();
        self.displaced_bytes = 0;
        Ok(())
    }

    fn undo(&mut self) -> Result {
        if self.is_broken() {
            return Err(Error::Closed);
        }
        while let Some(Displaced { table, key, value }) = self.displaced.pop() {
            self.replace(table, &key, value.as_deref())?;
        }
        self.displaced_bytes = 0;
        Ok(())
    }

    fn is_dirty(&self) -> bool {
        self.dirty
    }

    fn is_broken(&self) -> bool {
        self.sound.is_broken()
    }
}

/// What redb reads and writes through: counts, and lends from the reserve.
#[derive(Clone, Debug)]
struct Backend {
    disk: Arc<dyn Disk>,
    meter: Arc<Meter>,
}

#[derive(Debug, Default)]
struct Meter {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    write_bytes: AtomicU64,
    syncs: AtomicU64,
    len: AtomicU64,
    /// Bytes held in reserve.
    held: AtomicU64,
    /// The handle is dead: nothing may change the file any more.
    dead: AtomicBool,
}

/// Given back at once when a write finds the disk full.
const LENT_BYTES: u64 = 1 << 20;

impl Backend {
    /// Holds what the next `bytes` need, and never less than the margin.
    fn reserve(&self, bytes: u64) -> u64 {
        let target = bytes.max(DISK_MARGIN_BYTES);
        let held = self.meter.held.load(Relaxed);
        if held != target && self.disk.hold(target).is_ok() {
            self.meter.held.store(target, Relaxed);
        }
        self.meter.held.load(Relaxed)
    }

    fn check_alive(&self) -> io::Result<()> {
        if self.meter.dead.load(Relaxed) {
            return Err(io::Error::other("the handle is dead since an earlier failure"));
        }
        Ok(())
    }

    /// Makes a change of the file, with space from the reserve if the disk has no other.
    fn with_space(&self, change: impl Fn() -> io::Result<()>) -> io::Result<()> {
        loop {
            match change() {
                Err(error) if is_full(&error) => {
                    let held = self.meter.held.load(Relaxed);
                    let rest = held.saturating_sub(LENT_BYTES);
                    if held == 0 || self.disk.hold(rest).is_err() {
                        return Err(error);
                    }
                    self.meter.held.store(rest, Relaxed);
                }
                result => return result,
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        let len = self.disk.len()?;
        self.meter.len.store(len, Relaxed);
        Ok(len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.meter.reads.fetch_add(1, Relaxed);
        self.meter.read_bytes.fetch_add(out.len() as u64, Relaxed);
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_alive()?;
        self.with_space(|| self.disk.set_len(len))?;
        self.meter.len.store(len, Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check_alive()?;
        self.meter.syncs.fetch_add(1, Relaxed);
        self.disk.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_alive()?;
        self.meter.writes.fetch_add(1, Relaxed);
        self.meter.write_bytes.fetch_add(data.len() as u64, Relaxed);
        self.with_space(|| self.disk.write(offset, data))
    }
}

fn from_storage(error: StorageError) -> Error {
    match error {
        StorageError::Io(error) => Error::Io(error),
        StorageError::PreviousIo | StorageError::DatabaseClosed => Error::Closed,
        other => Error::Damaged(other.to_string()),
    }
}

fn from_table(error: TableError) -> Error {
    match error {
        TableError::Storage(error) => from_storage(error),
        other => Error::Damaged(other.to_string()),
    }
}

fn from_begin(error: TransactionError) -> Error {
    match error {
        TransactionError::Storage(error) => from_storage(error),
        other => Error::Damaged(other.to_string()),
    }
}

fn from_open(error: DatabaseError) -> Error {
    match error {
        DatabaseError::Storage(error) => from_storage(error),
        DatabaseError::DatabaseAlreadyOpen => Error::InUse,
        other => Error::Damaged(other.to_string()),
    }
}
