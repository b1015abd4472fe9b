//! What is on its way to the history: read in pages, and removed when the history has it.
//!
//! Idempotent by id: whoever was interrupted between the two does the same again. What was changed since it was
//! read stays and is read again.

use super::Error;
use super::job::State;
use super::memory::Op;
use super::push::state_of;
use super::rows::{self, ErrorRow, FinishedRow, GoneRow, PayloadRow, RowError, read_job_key};
use super::tick::readable;
use crate::base::codec::{self, Record};
use crate::base::id::{JobId, TenantId};
use crate::base::limits::QUEUE_STEP_ROWS;
use crate::catalog::history::{Change, Finish, FinishedJob, JobError};
use crate::store::{Flow, KeyRange, Order, Read, Table};

/// Something that the history has to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// Whose.
    pub tenant: TenantId,
    /// Which job.
    pub id: JobId,
    /// What became of it; nothing when it is to be forgotten.
    pub finished: Option<Box<FinishedJob>>,
    /// Whether its row cannot be read: nothing is to be told of it, it is only to be removed.
    pub damaged: bool,
    /// Tells this reading of the row from another.
    mark: u32,
}

impl State {
    /// Where a job stands that the history has.
    pub const fn of(finish: Finish) -> State {
        match finish {
            Finish::Done => State::Done,
            Finish::Failed => State::Failed,
            Finish::Cancelled => State::Cancelled,
        }
    }

    /// How a job ended, if it is over.
    pub const fn finish(self) -> Option<Finish> {
        match self {
            State::Done => Some(Finish::Done),
            State::Failed => Some(Finish::Failed),
            State::Cancelled => Some(Finish::Cancelled),
            State::Delayed | State::Waiting | State::Running => None,
        }
    }
}

impl FinishedRow {
    /// The same, as the history has it.
    fn job(self, tenant: TenantId, id: JobId) -> FinishedJob {
        let payload = |row: PayloadRow| (row.content_type, row.bytes);
        let error = |row: ErrorRow| {
            let ErrorRow { class, message, trace, .. } = row;
            JobError { class, message, trace }
        };
        FinishedJob {
            tenant,
            id,
            state: state_of(self.state).finish().unwrap_or(Finish::Cancelled),
            queue: self.queue,
            job_type: self.job_type,
            priority: self.band,
            created_at: rows::at(self.created_at_ms),
            run_at: rows::at(self.run_at_ms),
            started_at: self.started_at_ms.map(rows::at),
            finished_at: rows::at(self.finished_at_ms),
            attempt: self.attempt,
            errors: self.errors,
            crashes: self.crashes,
            max_tries: self.max_tries,
            timeout_ms: self.timeout_ms,
            tags: self.tags,
            unique_key: self.unique_key,
            result: self.result,
            result_until: self.result_until_ms.map(rows::at),
            fingerprint: self.error.as_ref().map(|error| error.fingerprint),
            error: self.error.map(error),
            progress: self.progress,
            payload: self.payload.map(payload),
            fence: self.fence,
            secret: self.secret,
        }
    }
}

impl Parcel {
    /// Takes out what the history has to be told; nothing when the row is damaged. What is left can be removed.
    pub fn unpack(&mut self) -> Option<Change> {
        let (tenant, id) = (self.tenant, self.id);
        let gone = (!self.damaged).then_some(Change::Gone { tenant, id });
        self.finished.take().map(Change::Finished).or(gone)
    }
}

/// The job in these bytes; nothing when it is to be forgotten.
pub(super) fn read(bytes: &[u8]) -> Result<Option<FinishedRow>, Error> {
    let bad = |error: codec::Error| {
        Error::Row(RowError::Damaged { table: Table::Outbox, why: rows::Damaged::Record(error) })
    };
    if codec::head(bytes).map_err(bad)? == GoneRow::HEAD {
        return Ok(None);
    }
    Ok(Some(codec::decode(bytes).map_err(bad)?))
}

/// What the outbox says about a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Looked {
    /// Nothing.
    Nothing,
    /// The history has to forget it.
    Gone,
    /// It is over.
    Finished(Box<FinishedJob>),
}

/// Looks for a job that is over and has not arrived in the history.
pub fn find(view: &dyn Read, tenant: TenantId, id: JobId) -> Result<Looked, Error> {
    let prefix = rows::job_prefix(tenant, id);
    let Some(first) = view.get(Table::Outbox, &rows::part_key(&prefix, 0))? else {
        return Ok(Looked::Nothing);
    };
    let finished = read(&rows::whole(view, Table::Outbox, &prefix, &first)?)?;
    Ok(finished.map_or(Looked::Gone, |row| Looked::Finished(Box::new(row.job(tenant, id)))))
}

/// The first parcels, at most so many.
pub fn page(view: &dyn Read, limit: usize) -> Result<Vec<Parcel>, Error> {
    let (mut firsts, mut seen) = (Vec::new(), 0);
    let limit = limit.min(QUEUE_STEP_ROWS);
    view.scan(Table::Outbox, &KeyRange::all(), Order::Forward, &mut |key, value| {
        seen += 1;
        if key.ends_with(&[0, 0]) {
            firsts.push((key.to_vec(), value.to_vec()));
        }
        // Parts count as well: what is shown is to be held, and to be removed at once.
        if firsts.len() < limit && seen < 2 * QUEUE_STEP_ROWS { Flow::On } else { Flow::Stop }
    })?;
    let mut parcels = Vec::with_capacity(firsts.len());
    for (key, first) in firsts {
        let (tenant, id, part) = read_job_key(Table::Outbox, &key)?;
        if part != 0 {
            continue;
        }
        let bytes = bytes_of(view, &rows::job_prefix(tenant, id), &first)?;
        // The one that cannot be read must not keep all the others here for ever.
        let row = readable(read(&bytes))?;
        let damaged = row.is_none();
        let finished = row.flatten().map(|row| Box::new(row.job(tenant, id)));
        parcels.push(Parcel { tenant, id, finished, damaged, mark: mark_of(&bytes) });
    }
    Ok(parcels)
}

/// The bytes of a record, or what is there of it when some of its rows are missing.
fn bytes_of(view: &(impl Read + ?Sized), prefix: &[u8], first: &[u8]) -> Result<Vec<u8>, Error> {
    let whole = rows::whole(view, Table::Outbox, prefix, first).map_err(Error::from);
    Ok(readable(whole)?.unwrap_or_else(|| first.to_vec()))
}

/// The checksum at the end of a record. One of the whole record would be the same for all of a length: it
/// cancels the one that is in there.
fn mark_of(bytes: &[u8]) -> u32 {
    bytes.last_chunk().map_or(0, |mark| u32::from_le_bytes(*mark))
}

/// Removes what the history has.
pub fn remove(op: &mut Op<'_>, parcels: &[Parcel]) -> Result<(), Error> {
    for parcel in parcels {
        let prefix = rows::job_prefix(parcel.tenant, parcel.id);
        let first = op.tx.get(Table::Outbox, &rows::part_key(&prefix, 0))?;
        let Some(first) = first else {
            continue;
        };
        let bytes = bytes_of(op.tx, &prefix, &first)?;
        if mark_of(&bytes) == parcel.mark {
            let long = parcel.damaged || !first.starts_with(&[0, 1]);
            rows::delete(op.tx, Table::Outbox, &prefix, long)?;
            op.outbox(-1);
        }
    }
    Ok(())
}
