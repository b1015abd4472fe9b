//! Changes of one transaction, with the counts that go with them.
//!
//! Counts of names, groups and totals are gathered here and written once at the end: a batch has many jobs
//! of few queues. What is asked meanwhile is answered with what is gathered.

use std::collections::BTreeMap;

use rusqlite::params;

use super::groups::Groups;
use super::job::{self, Finish, FinishedJob, Places};
use super::statements::Statement;
use crate::base::id::{JobId, TenantId};
use crate::base::limits::HISTORY_PART_ROWS;
use crate::catalog::handle::{Row, Tx};
use crate::catalog::{Error, Result, stored, stored_tenant};

/// What a name is of. The numbers are those of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A queue.
    Queue = 0,
    /// A type of jobs.
    Type = 1,
}

/// Rows and bytes that came, or went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Delta {
    rows: i64,
    bytes: i64,
}

impl Delta {
    fn add(&mut self, rows: i64, bytes: i64) {
        self.rows += rows;
        self.bytes += rows * bytes;
    }

    /// What it makes of rows and bytes that were counted before.
    fn on(self, (rows, bytes): (u64, u64)) -> (u64, u64) {
        (rows.saturating_add_signed(self.rows), bytes.saturating_add_signed(self.bytes))
    }
}

/// A queue or a type with a number, and what it had when the transaction began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    /// Its number.
    pub(super) number: i64,
    had: (u64, u64),
}

/// A job that is to be removed: all that knows of it.
pub(super) struct Doomed {
    number: i64,
    tenant: i64,
    id: i64,
    /// When it was finished.
    pub(super) finished_at: i64,
    places: Places,
    bytes: i64,
    tags: Vec<String>,
}

impl Doomed {
    pub(super) fn read(row: &Row<'_, '_>) -> Result<Doomed> {
        Ok(Doomed {
            number: row.int(0)?,
            tenant: row.int(1)?,
            id: row.int(2)?,
            finished_at: row.int(3)?,
            places: Places {
                queue: row.int(4)?,
                job_type: row.int(5)?,
                failure: row.get(6)?,
                part: row.int(7)?,
            },
            bytes: row.int(8)?,
            tags: job::read_list(row, 9)?,
        })
    }
}

/// The changes of a transaction.
pub(super) struct Batch<'t> {
    tx: &'t Tx<'t>,
    /// Numbers that were looked up, by tenant, kind and name.
    names: BTreeMap<(i64, Kind), BTreeMap<String, i64>>,
    deltas: BTreeMap<i64, Delta>,
    /// Jobs that came into a part, or went.
    parts: BTreeMap<i64, i64>,
    total: Delta,
    groups: Groups,
}

impl<'t> Batch<'t> {
    pub(super) fn new(tx: &'t Tx<'t>) -> Batch<'t> {
        Batch {
            tx,
            names: BTreeMap::new(),
            deltas: BTreeMap::new(),
            parts: BTreeMap::new(),
            total: Delta::default(),
            groups: Groups::default(),
        }
    }

    /// A finished job, instead of what was known of it. Nothing when this end of it is known.
    pub(super) fn put(&mut self, job: &FinishedJob) -> Result {
        let (tenant, id) = (stored_tenant(job.tenant), stored(job.id.raw()));
        let this = (job.fence.cast_signed(), job.state.number(), job.finished_at.unix_ms());
        let known = self.tx.one(Statement::JobFind, [tenant, id], |row| {
            Ok((row.int(0)?, (row.int(1)?, row.int(2)?, row.int(3)?)))
        })?;
        match known {
            Some((_, same)) if same == this => return Ok(()),
            Some((number, _)) => self.remove_number(number)?,
            None => {}
        }
        self.insert(job, tenant, id)
    }

    fn insert(&mut self, job: &FinishedJob, tenant: i64, id: i64) -> Result {
        let queue = self.number(tenant, Kind::Queue, &job.queue)?;
        let job_type = self.number(tenant, Kind::Type, &job.job_type)?;
        let failure = match (job.state, job.fingerprint) {
            (Finish::Failed, Some(fingerprint)) => {
                let of = (tenant, queue, stored(fingerprint));
                Some(self.groups.add(self.tx, of, job)?)
            }
            (Finish::Failed | Finish::Done | Finish::Cancelled, _) => None,
        };
        let part = self.part(job.finished_at.unix_ms())?;
        let places = Places { queue, job_type, failure, part };
        let number = job::insert(self.tx, job, places)?;
        for tag in &job.tags {
            let key = params![part, tenant, tag, job.finished_at.unix_ms(), id, number];
            self.tx.run(Statement::TagInsert, key)?;
        }
        self.count(places, 1, job.bytes().cast_signed());
        Ok(())
    }

    /// Forgets a job, if it is known.
    pub(super) fn forget(&mut self, tenant: TenantId, id: JobId) -> Result {
        let key = [stored_tenant(tenant), stored(id.raw())];
        match self.tx.one(Statement::JobFind, key, |row| row.int(0))? {
            Some(number) => self.remove_number(number),
            None => Ok(()),
        }
    }

    fn remove_number(&mut self, number: i64) -> Result {
        match self.tx.one(Statement::DoomedOne, [number], Doomed::read)? {
            Some(doomed) => self.remove(&doomed),
            None => Ok(()),
        }
    }

    /// Removes a job and all that knows of it.
    pub(super) fn remove(&mut self, doomed: &Doomed) -> Result {
        for tag in &doomed.tags {
            let part = doomed.places.part;
            let key = params![part, doomed.tenant, tag, doomed.finished_at, doomed.id];
            self.tx.run(Statement::TagDelete, key)?;
        }
        self.tx.run(Statement::JobDelete, [doomed.number])?;
        if let Some(failure) = doomed.places.failure {
            self.groups.subtract(self.tx, (doomed.tenant, doomed.places.queue, failure))?;
        }
        self.count(doomed.places, -1, doomed.bytes);
        Ok(())
    }

    fn count(&mut self, places: Places, rows: i64, bytes: i64) {
        self.deltas.entry(places.queue).or_default().add(rows, bytes);
        self.deltas.entry(places.job_type).or_default().add(rows, bytes);
        *self.parts.entry(places.part).or_default() += rows;
        self.total.add(rows, bytes);
    }

    /// The part of time in which a moment is. When the last one is full, what comes after all there is
    /// begins another.
    fn part(&mut self, finished_at: i64) -> Result<i64> {
        let (last, rows) = self.part_at(i64::MAX)?;
        if HISTORY_PART_ROWS.cast_signed() <= rows {
            self.tx.run(Statement::PartInsert, [last + 1])?;
        }
        self.part_at(finished_at).map(|(part, _)| part)
    }

    /// The part in which a moment is, and its jobs.
    fn part_at(&self, at: i64) -> Result<(i64, i64)> {
        let read = |row: &Row<'_, '_>| Ok((row.int(0)?, row.int(1)?));
        let found = self.tx.one(Statement::PartAt, [at], read)?;
        let (part, rows) = found.ok_or_else(|| Error::BadRow(format!("no part at {at}")))?;
        Ok((part, rows + self.parts.get(&part).copied().unwrap_or(0)))
    }

    /// The number of a name, which is made when it is new.
    fn number(&mut self, tenant: i64, kind: Kind, name: &str) -> Result<i64> {
        if let Some(number) = self.names.get(&(tenant, kind)).and_then(|names| names.get(name)) {
            return Ok(*number);
        }
        let found = find_name(self.tx, tenant, kind, name)?.map(|found| found.number);
        let number = if let Some(number) = found {
            number
        } else {
            self.tx.run(Statement::NameInsert, params![tenant, kind as i64, name])?;
            self.tx.connection.last_insert_rowid()
        };
        self.names.entry((tenant, kind)).or_default().insert(name.to_owned(), number);
        Ok(number)
    }

    /// Rows and bytes that a name has now.
    pub(super) fn has(&self, name: Name) -> (u64, u64) {
        self.deltas.get(&name.number).copied().unwrap_or_default().on(name.had)
    }

    /// Rows and bytes that all have now, when they were `had` at the beginning.
    pub(super) fn total(&self, had: (u64, u64)) -> (u64, u64) {
        self.total.on(had)
    }

    /// Writes the counts. Nothing when nothing was changed.
    pub(super) fn finish(self) -> Result {
        for (number, delta) in self.deltas {
            if delta != Delta::default() {
                self.tx.run(Statement::NameAdd, [number, delta.rows, delta.bytes])?;
            }
            if delta.rows <= 0 {
                self.tx.run(Statement::NameDeleteEmpty, [number])?;
            }
        }
        for (part, rows) in self.parts {
            if rows != 0 {
                self.tx.run(Statement::PartAdd, [part, rows])?;
            }
            if rows < 0 {
                self.tx.run(Statement::PartDeleteEmpty, [part])?;
            }
        }
        if self.total != Delta::default() {
            self.tx.run(Statement::TotalsAdd, [self.total.rows, self.total.bytes])?;
        }
        self.groups.finish(self.tx)
    }
}

/// A queue or a type that there is.
pub(super) fn find_name(tx: &Tx<'_>, tenant: i64, kind: Kind, name: &str) -> Result<Option<Name>> {
    tx.one(Statement::NameFind, params![tenant, kind as i64, name], |row| {
        Ok(Name { number: row.int(0)?, had: (row.unsigned(1)?, row.unsigned(2)?) })
    })
}
