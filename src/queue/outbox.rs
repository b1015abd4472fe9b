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
use crate::base::time::Timestamp;
use crate::store::{Flow, KeyRange, Order, Read, Table};

/// A job that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Where it was.
    pub queue: String,
    /// Its type.
    pub job_type: String,
    /// How it ended.
    pub state: State,
    /// How urgent it was.
    pub band: u8,
    /// When it was pushed.
    pub created_at: Timestamp,
    /// When it was ready for its last attempt.
    pub run_at: Timestamp,
    /// When its last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Starts.
    pub attempt: u32,
    /// Errors.
    pub errors: u32,
    /// Crashes.
    pub crashes: u32,
    /// Errors after which it would have been given up.
    pub max_tries: u32,
    /// How long an attempt could run.
    pub timeout_ms: u64,
    /// What it can be found by.
    pub tags: Vec<String>,
    /// Its unique key.
    pub unique_key: Option<String>,
    /// What came out, as JSON text.
    pub result: Option<Vec<u8>>,
    /// Until when that can be asked for.
    pub result_until: Option<Timestamp>,
    /// Its last error: class, message, trace.
    pub error: Option<(String, String, Option<String>)>,
    /// What such errors have in common.
    pub fingerprint: Option<u64>,
    /// How far it had come.
    pub progress: Option<f64>,
    /// What it carried, where that is kept: its type and its bytes.
    pub payload: Option<(Option<String>, Vec<u8>)>,
    /// Its last lease.
    pub fence: u64,
    /// And what nobody can guess of it.
    pub secret: u64,
}

/// Something that the history has to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// Whose.
    pub tenant: TenantId,
    /// Which job.
    pub id: JobId,
    /// What became of it; nothing when it is to be forgotten.
    pub finished: Option<Box<Finished>>,
    /// Whether its row cannot be read: nothing is to be told of it, it is only to be removed.
    pub damaged: bool,
    /// Tells this reading of the row from another.
    mark: u32,
}

impl From<FinishedRow> for Finished {
    fn from(row: FinishedRow) -> Finished {
        let payload = |row: PayloadRow| (row.content_type, row.bytes);
        let error = |row: ErrorRow| (row.class, row.message, row.trace);
        Finished {
            state: state_of(row.state),
            queue: row.queue,
            job_type: row.job_type,
            band: row.band,
            created_at: rows::at(row.created_at_ms),
            run_at: rows::at(row.run_at_ms),
            started_at: row.started_at_ms.map(rows::at),
            finished_at: rows::at(row.finished_at_ms),
            attempt: row.attempt,
            errors: row.errors,
            crashes: row.crashes,
            max_tries: row.max_tries,
            timeout_ms: row.timeout_ms,
            tags: row.tags,
            unique_key: row.unique_key,
            result: row.result,
            result_until: row.result_until_ms.map(rows::at),
            fingerprint: row.error.as_ref().map(|error| error.fingerprint),
            error: row.error.map(error),
            progress: row.progress,
            payload: row.payload.map(payload),
            fence: row.fence,
            secret: row.secret,
        }
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
    Finished(Box<Finished>),
}

/// Looks for a job that is over and has not arrived in the history.
pub fn find(view: &dyn Read, tenant: TenantId, id: JobId) -> Result<Looked, Error> {
    let prefix = rows::job_prefix(tenant, id);
    let Some(first) = view.get(Table::Outbox, &rows::part_key(&prefix, 0))? else {
        return Ok(Looked::Nothing);
    };
    let finished = read(&rows::whole(view, Table::Outbox, &prefix, &first)?)?;
    Ok(finished.map_or(Looked::Gone, |row| Looked::Finished(Box::new(row.into()))))
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
        let finished = row.flatten().map(|row| Box::new(row.into()));
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
