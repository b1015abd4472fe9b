//! A finished job, and how it is stored and read.

use rusqlite::params;

use super::list;
use super::statements::Statement;
use crate::base::id::{JobId, TenantId};
use crate::base::time::Timestamp;
use crate::catalog::handle::{Row, Tx};
use crate::catalog::{Result, stored, stored_tenant};

/// How a job ended. The numbers are those of the file, and of the bits of a set of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finish {
    /// It went well.
    Done = 0,
    /// It was given up.
    Failed = 1,
    /// Nobody wanted it any more.
    Cancelled = 2,
}

impl Finish {
    /// All of them.
    pub const ALL: [Finish; 3] = [Finish::Done, Finish::Failed, Finish::Cancelled];

    pub(super) const fn number(self) -> i64 {
        self as i64
    }

    fn of_number(number: i64) -> Option<Finish> {
        Finish::ALL.into_iter().find(|state| state.number() == number)
    }
}

/// What went wrong last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobError {
    /// What kind of error.
    pub class: String,
    /// What it says.
    pub message: String,
    /// Where it happened.
    pub trace: Option<String>,
}

/// A finished job, as it is remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedJob {
    /// Whose it is.
    pub tenant: TenantId,
    /// Which.
    pub id: JobId,
    /// In which queue it was.
    pub queue: String,
    /// What kind of work.
    pub job_type: String,
    /// How it ended.
    pub state: Finish,
    /// The number of its band.
    pub priority: u8,
    /// When it was pushed.
    pub created_at: Timestamp,
    /// From when on it might run.
    pub run_at: Timestamp,
    /// When its last attempt began, if there was one.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Attempts that were begun.
    pub attempt: u32,
    /// Those that ended with an error.
    pub errors: u32,
    /// Those that ended with their worker.
    pub crashes: u32,
    /// Errors after which it is given up.
    pub max_tries: u32,
    /// How long an attempt might run.
    pub timeout_ms: u64,
    /// What it can be found by.
    pub tags: Vec<String>,
    /// The key that it held alone.
    pub unique_key: Option<String>,
    /// What came out, as JSON text.
    pub result: Option<Vec<u8>>,
    /// Until when that is shown.
    pub result_until: Option<Timestamp>,
    /// What went wrong last.
    pub error: Option<JobError>,
    /// Failures with the same one are alike. A failed job without one is in no group.
    pub fingerprint: Option<u64>,
    /// How far it got, as its worker said: 0 to 1.
    pub progress: Option<f64>,
    /// What it carried, if its queue wants that kept: the type, nothing for JSON, and the bytes.
    pub payload: Option<(Option<String>, Vec<u8>)>,
    /// The number of its last lease.
    pub fence: u64,
    /// The secret of its last lease, by which a repeated answer is recognised.
    pub secret: u64,
}

/// What a row and its indexes take besides their texts, and what a tag takes: estimated from files of a
/// million rows.
const ROW_BYTES: usize = 300;
/// See [`ROW_BYTES`].
const TAG_BYTES: usize = 40;

impl FinishedJob {
    /// What it takes on the disk, estimated.
    pub(super) fn bytes(&self) -> u64 {
        let optional = |text: Option<&String>| text.map_or(0, String::len);
        let tags: usize = self.tags.iter().map(|tag| TAG_BYTES + 2 * tag.len()).sum();
        let error = self.error.as_ref().map_or(0, |error| {
            error.class.len() + error.message.len() + optional(error.trace.as_ref())
        });
        let payload = self
            .payload
            .as_ref()
            .map_or(0, |(content_type, bytes)| optional(content_type.as_ref()) + bytes.len());
        let result = self.result.as_ref().map_or(0, Vec::len);
        let unique = optional(self.unique_key.as_ref());
        (ROW_BYTES + tags + error + payload + result + unique) as u64
    }
}

/// Where a job is counted: numbers of its queue, its type, its group, and the
/// part of its tags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) queue: i64,
    pub(super) job_type: i64,
    pub(super) failure: Option<i64>,
    pub(super) part: i64,
}

/// Adds a job that is not there; its number.
pub(super) fn insert(tx: &Tx<'_>, job: &FinishedJob, places: Places) -> Result<i64> {
    let error = job.error.as_ref();
    tx.run(
        Statement::JobInsert,
        params![
            stored_tenant(job.tenant),
            stored(job.id.raw()),
            job.finished_at.unix_ms(),
            job.state.number(),
            places.queue,
            places.job_type,
            places.failure,
            places.part,
            job.bytes().cast_signed(),
            list::join(&job.tags),
            job.unique_key,
            error.map(|error| &error.class),
            error.map(|error| &error.message),
            job.priority,
            job.created_at.unix_ms(),
            job.run_at.unix_ms(),
            job.started_at.map(Timestamp::unix_ms),
            job.attempt,
            job.errors,
            job.crashes,
            job.max_tries,
            job.timeout_ms.cast_signed(),
            job.result_until.map(Timestamp::unix_ms),
            job.fingerprint.map(u64::cast_signed),
            job.progress,
            job.fence.cast_signed(),
            job.secret.cast_signed(),
            job.payload.as_ref().and_then(|(content_type, _)| content_type.as_ref()),
            job.result,
            error.and_then(|error| error.trace.as_ref()),
            job.payload.as_ref().map(|(_, bytes)| bytes),
        ],
    )?;
    Ok(tx.connection.last_insert_rowid())
}

/// A job, if it is here.
pub(super) fn get(tx: &Tx<'_>, tenant: TenantId, id: JobId) -> Result<Option<FinishedJob>> {
    tx.one(Statement::JobById, [stored_tenant(tenant), stored(id.raw())], read)
}

/// The job with a number.
pub(super) fn get_by_number(tx: &Tx<'_>, number: i64) -> Result<Option<FinishedJob>> {
    tx.one(Statement::JobByNumber, [number], read)
}

fn read(row: &Row<'_, '_>) -> Result<FinishedJob> {
    let state = row.int(3)?;
    let bits = |column| row.int(column).map(i64::cast_unsigned);
    Ok(FinishedJob {
        tenant: TenantId::from_raw(row.id(0)?),
        id: JobId::from_raw(row.id(1)?),
        finished_at: row.moment(2)?,
        state: Finish::of_number(state).ok_or_else(|| row.bad(format!("state {state}")))?,
        queue: row.text(4)?,
        job_type: row.text(5)?,
        tags: read_list(row, 6)?,
        unique_key: row.get(7)?,
        error: read_error(row)?,
        priority: row.unsigned(10)?,
        created_at: row.moment(11)?,
        run_at: row.moment(12)?,
        started_at: row.moment_or_none(13)?,
        attempt: row.unsigned(14)?,
        errors: row.unsigned(15)?,
        crashes: row.unsigned(16)?,
        max_tries: row.unsigned(17)?,
        timeout_ms: bits(18)?,
        result_until: row.moment_or_none(19)?,
        fingerprint: row.get::<Option<i64>>(20)?.map(i64::cast_unsigned),
        progress: row.get(21)?,
        fence: bits(22)?,
        secret: bits(23)?,
        result: row.get(25)?,
        payload: match row.get(27)? {
            Some(bytes) => Some((row.get(24)?, bytes)),
            None => None,
        },
    })
}

fn read_error(row: &Row<'_, '_>) -> Result<Option<JobError>> {
    match row.get::<Option<String>>(8)? {
        Some(class) => Ok(Some(JobError { class, message: row.text(9)?, trace: row.get(26)? })),
        None => Ok(None),
    }
}

/// A list of texts in a column.
pub(super) fn read_list(row: &Row<'_, '_>, column: usize) -> Result<Vec<String>> {
    let text = row.text(column)?;
    list::split(&text).ok_or_else(|| row.bad(format!("no list in column {column}")))
}
