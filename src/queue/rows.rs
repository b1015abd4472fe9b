//! How jobs stand in the file.
//!
//! ```text
//! Jobs       tenant u64 | id u64 | part u16           ->  JobRow, written once
//! Ready      tenant u64 | queue 00 | lane | order u64 | id u64   ->  ReadyRow: flags u8, type
//!                lane: band u8, or 05 | type 00 for jobs of a type that is throttled
//! Due        at u64 | what u8 | tenant u64 | ...      ->  see [`Due`]
//! Leases     tenant u64 | id u64 | 0000               ->  LeaseRow
//! Courses    tenant u64 | id u64 | part u16           ->  CourseRow
//! Outbox     tenant u64 | id u64 | part u16           ->  FinishedRow or GoneRow
//! Unique     tenant u64 | queue 00 | key              ->  UniqueRow
//! Calls      tenant u64 | hash of the key | part u16  ->  CallRow
//! Queues     tenant u64 | queue                       ->  QueueRow
//! Schedules  tenant u64 | name 00 | part u16          ->  ScheduleRow
//! Failed     tenant u64 | queue 00 | at u64 | id u64  ->  fingerprint u64
//! Meta       "queue" "day" | tenant u64               ->  numbers that must not be used again; jobs of a day
//! ```
//!
//! A record that is longer than one value of the store stands in several rows, of which the first one says how
//! many they are. To change a record: add a version and let its reader upgrade what it finds.

use crate::base::codec::{self, Head, Record, Schema, SchemaRead, SchemaWrite};
use crate::base::id::{JobId, TenantId};
use crate::base::key::{BadKey, KeyReader, KeyWriter};
use crate::base::limits::DELETE_ROWS_MAX;
use crate::base::time::Timestamp;
use crate::store::{self, KeyRange, Read, Table, Write};

/// Bytes of a record in one row; a row of more takes another page of the file for itself.
const PART_BYTES: usize = 16_200;

/// How long to wait after an error.
#[derive(Clone, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) enum BackoffRow {
    Exponential { base_ms: u64, cap_ms: u64 },
    Fixed { base_ms: u64 },
    List { ms: Vec<u64> },
}

/// Bytes, and what they are.
#[derive(Clone, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct PayloadRow {
    pub(super) content_type: Option<String>,
    pub(super) bytes: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct UniqueOfJob {
    pub(super) key: String,
    pub(super) until: u8,
    pub(super) ttl_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct FollowupRow {
    pub(super) queue: String,
    pub(super) job_type: String,
    pub(super) payload: PayloadRow,
}

/// A job as it was pushed. Never written again.
#[derive(Clone, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct JobRow {
    pub(super) queue: String,
    pub(super) job_type: String,
    pub(super) band: u8,
    pub(super) created_at_ms: u64,
    /// When it may run for the first time.
    pub(super) run_at_ms: u64,
    pub(super) max_tries: u32,
    pub(super) max_crashes: u32,
    pub(super) timeout_ms: u64,
    pub(super) backoff: BackoffRow,
    pub(super) unique: Option<UniqueOfJob>,
    pub(super) tags: Vec<String>,
    pub(super) result_ttl_ms: u64,
    pub(super) on_failed: Option<FollowupRow>,
    pub(super) payload: PayloadRow,
}

impl Record for JobRow {
    const HEAD: Head = Head { kind: 0x30, version: 1 };
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct ErrorRow {
    pub(super) class: String,
    pub(super) message: String,
    pub(super) trace: Option<String>,
    pub(super) at_ms: u64,
    pub(super) fingerprint: u64,
}

/// How the last attempt was ended by its worker, to know the same answer again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct EndRow {
    pub(super) fence: u64,
    pub(super) secret: u64,
    pub(super) verb: u8,
    pub(super) state: u8,
    pub(super) run_at_ms: Option<u64>,
}

/// Where a job stands that was leased before, or moved by somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) enum Standing {
    /// May run since then.
    Waiting { since_ms: u64 },
    /// May run from then on.
    Delayed { until_ms: u64 },
    /// Was given up then.
    Failed { at_ms: u64 },
}

/// What has become of a job beyond its first wait.
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(super) struct CourseRow {
    pub(super) standing: Standing,
    pub(super) attempt: u32,
    pub(super) errors: u32,
    pub(super) crashes: u32,
    pub(super) started_at_ms: Option<u64>,
    pub(super) last_error: Option<ErrorRow>,
    /// Why it was given back.
    pub(super) reason: Option<String>,
    pub(super) progress: Option<f64>,
    pub(super) checkpoint: Option<Vec<u8>>,
    pub(super) last_end: Option<EndRow>,
}

impl Record for CourseRow {
    const HEAD: Head = Head { kind: 0x31, version: 1 };
}

impl CourseRow {
    /// Of a job that nobody had yet.
    pub(super) fn new(job: &JobRow) -> CourseRow {
        CourseRow {
            standing: Standing::Waiting { since_ms: job.run_at_ms },
            attempt: 0,
            errors: 0,
            crashes: 0,
            started_at_ms: None,
            last_error: None,
            reason: None,
            progress: None,
            checkpoint: None,
            last_end: None,
        }
    }
}

/// A process of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct ProcessRow {
    pub(super) pid: u32,
    /// When it began, as the kernel counts: tells it from others with its number.
    pub(super) started: u64,
}

/// Who runs a job, and until when.
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(super) struct LeaseRow {
    pub(super) fence: u64,
    pub(super) secret: u64,
    pub(super) queue: String,
    pub(super) job_type: String,
    pub(super) worker: Option<String>,
    pub(super) process: Option<ProcessRow>,
    pub(super) attempt: u32,
    pub(super) errors: u32,
    pub(super) crashes: u32,
    /// When the job became ready before this attempt.
    pub(super) ready_at_ms: u64,
    pub(super) started_at_ms: u64,
    /// How long the worker may be silent.
    pub(super) lease_ms: u64,
    pub(super) until_ms: u64,
    pub(super) timeout_at_ms: u64,
    pub(super) progress: Option<f64>,
    /// Whether it was told that nobody wants the job any more.
    pub(super) cancel: bool,
    /// Whether there is a row in Courses.
    pub(super) has_course: bool,
}

impl Record for LeaseRow {
    const HEAD: Head = Head { kind: 0x32, version: 1 };
}

/// A job that is over, on its way to the history.
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(super) struct FinishedRow {
    pub(super) queue: String,
    pub(super) job_type: String,
    pub(super) state: u8,
    pub(super) band: u8,
    pub(super) created_at_ms: u64,
    pub(super) run_at_ms: u64,
    pub(super) started_at_ms: Option<u64>,
    pub(super) finished_at_ms: u64,
    pub(super) attempt: u32,
    pub(super) errors: u32,
    pub(super) crashes: u32,
    pub(super) max_tries: u32,
    pub(super) timeout_ms: u64,
    pub(super) tags: Vec<String>,
    pub(super) unique_key: Option<String>,
    pub(super) result: Option<Vec<u8>>,
    pub(super) result_until_ms: Option<u64>,
    pub(super) error: Option<ErrorRow>,
    pub(super) progress: Option<f64>,
    pub(super) payload: Option<PayloadRow>,
    /// Its last lease, and how it was ended; zero when it was not.
    pub(super) fence: u64,
    pub(super) secret: u64,
}

impl Record for FinishedRow {
    const HEAD: Head = Head { kind: 0x33, version: 1 };
}

/// A job that the history has to forget: it is waiting again, or nobody wants to see it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct GoneRow {
    pub(super) at_ms: u64,
}

impl Record for GoneRow {
    const HEAD: Head = Head { kind: 0x34, version: 1 };
}

/// Who holds a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct UniqueRow {
    pub(super) job: u64,
    pub(super) until_ms: Option<u64>,
}

impl Record for UniqueRow {
    const HEAD: Head = Head { kind: 0x35, version: 1 };
}

/// What a call was answered about one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct CallJob {
    pub(super) id: u64,
    pub(super) duplicate: bool,
    pub(super) state: u8,
    pub(super) run_at_ms: u64,
}

/// A call that is not done twice.
#[derive(Clone, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct CallRow {
    /// Hash of what was asked.
    pub(super) fingerprint: Vec<u8>,
    pub(super) until_ms: u64,
    pub(super) jobs: Vec<CallJob>,
}

impl Record for CallRow {
    const HEAD: Head = Head { kind: 0x36, version: 1 };
}

/// Settings of a queue.
#[derive(Clone, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct QueueRow {
    pub(super) paused: bool,
    pub(super) max_depth: Option<u64>,
    pub(super) max_tries: Option<u32>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) backoff: Option<BackoffRow>,
    pub(super) rate: Option<String>,
    pub(super) concurrency: Option<u32>,
    pub(super) done_ms: Option<u64>,
    pub(super) rows: Option<u64>,
    pub(super) bytes: Option<u64>,
    pub(super) failed_ms: Option<u64>,
    pub(super) target_wait_ms: Option<u64>,
    pub(super) history_payload: bool,
}

impl Record for QueueRow {
    const HEAD: Head = Head { kind: 0x37, version: 1 };
}

/// What is pushed at moments of the calendar.
#[derive(Clone, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct ScheduleRow {
    pub(super) cron: Option<String>,
    pub(super) every_ms: Option<u64>,
    pub(super) timezone: String,
    pub(super) overlap: u8,
    pub(super) catch_up: u8,
    pub(super) jitter_ms: u64,
    pub(super) created_at_ms: u64,
    /// The last moment that was dealt with.
    pub(super) handled_ms: u64,
    /// The next one, and when it is pushed.
    pub(super) next_ms: Option<u64>,
    pub(super) fires_at_ms: Option<u64>,
    /// The last job that was pushed, and when.
    pub(super) last_job: Option<u64>,
    pub(super) last_pushed_at_ms: Option<u64>,
    /// Why the last moment pushed nothing, if it did not.
    pub(super) last_skipped: Option<String>,
    pub(super) job: TemplateRow,
}

impl Record for ScheduleRow {
    const HEAD: Head = Head { kind: 0x38, version: 1 };
}

/// A job that is pushed again and again.
#[derive(Clone, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct TemplateRow {
    pub(super) queue: String,
    pub(super) job_type: String,
    pub(super) band: u8,
    pub(super) delay_ms: u64,
    pub(super) max_tries: Option<u32>,
    pub(super) max_crashes: Option<u32>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) backoff: Option<BackoffRow>,
    pub(super) unique: Option<UniqueOfJob>,
    pub(super) tags: Vec<String>,
    pub(super) result_ttl_ms: Option<u64>,
    pub(super) on_failed: Option<FollowupRow>,
    pub(super) payload: PayloadRow,
}

/// Numbers that were given out up to here, or may have been; and on which run of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct NumbersRow {
    pub(super) ids_until: u64,
    pub(super) fences_until: u64,
    pub(super) boot_id: u64,
}

impl Record for NumbersRow {
    const HEAD: Head = Head { kind: 0x39, version: 1 };
}

/// Jobs that a tenant pushed on one day of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct DayRow {
    pub(super) day: u64,
    pub(super) jobs: u64,
}

impl Record for DayRow {
    const HEAD: Head = Head { kind: 0x3a, version: 1 };
}

/// Why a row cannot be used: its bytes are not what was written there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// The record.
    #[error(transparent)]
    Record(#[from] codec::Error),
    /// The key.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// Some rows of it are missing.
    #[error("a part of a record is missing")]
    Part,
    /// A row without the one that it belongs to.
    #[error("{0}")]
    Dangling(&'static str),
}

/// Why a row could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The row.
    #[error("a row of {table:?} is damaged: {why}")]
    Damaged {
        /// Which table.
        table: Table,
        /// What is wrong.
        why: Damaged,
    },
}

pub(super) type Result<T> = std::result::Result<T, RowError>;

/// What is wrong with a row of `table`.
pub(super) fn damaged(table: Table) -> impl Fn(Damaged) -> RowError {
    move |why| RowError::Damaged { table, why }
}

/// What all rows about a job begin with.
pub(super) fn job_prefix(tenant: TenantId, id: JobId) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&tenant.raw().to_be_bytes());
    key[8..].copy_from_slice(&id.raw().to_be_bytes());
    key
}

/// The key of one row of a record.
pub(super) fn part_key(prefix: &[u8], part: u16) -> Vec<u8> {
    [prefix, &part.to_be_bytes()].concat()
}

/// Tenant, id and part of a key that begins with [`job_prefix`].
pub(super) fn read_job_key(table: Table, key: &[u8]) -> Result<(TenantId, JobId, u16)> {
    let mut reader = KeyReader::new(key);
    let mut read = || -> std::result::Result<_, BadKey> {
        Ok((TenantId::from_raw(reader.u64()?), JobId::from_raw(reader.u64()?), reader.u16()?))
    };
    read().map_err(|bad| damaged(table)(bad.into()))
}

/// Writes a record in as many rows as it takes, over what stood there.
pub(super) fn put<R: Record + Schema>(
    tx: &mut dyn Write,
    table: Table,
    prefix: &[u8],
    record: &R,
) -> Result<()> {
    let front = 1_u16.to_be_bytes();
    let mut bytes =
        codec::encode_behind(&front, record).map_err(|error| damaged(table)(error.into()))?;
    let length = bytes.len() - front.len();
    if length <= PART_BYTES {
        return Ok(tx.put(table, &part_key(prefix, 0), &bytes)?);
    }
    let parts = u16::try_from(length.div_ceil(PART_BYTES));
    let parts = parts.expect("BUG: a record has fewer parts than that");
    bytes[..front.len()].copy_from_slice(&parts.to_be_bytes());
    let (first, rest) = bytes.split_at(front.len() + PART_BYTES);
    tx.put(table, &part_key(prefix, 0), first)?;
    for (number, part) in (1_u16..).zip(rest.chunks(PART_BYTES)) {
        tx.put(table, &part_key(prefix, number), part)?;
    }
    Ok(())
}

/// Writes a record where a longer one may stand.
pub(super) fn replace<R: Record + Schema>(
    tx: &mut dyn Write,
    table: Table,
    prefix: &[u8],
    record: &R,
) -> Result<()> {
    let before = parts(tx, table, prefix)?;
    put(tx, table, prefix, record)?;
    let now = parts(tx, table, prefix)?;
    for number in now..before {
        tx.delete(table, &part_key(prefix, number))?;
    }
    Ok(())
}

/// In how many rows a record stands; none when there is none.
fn parts(view: &(impl Read + ?Sized), table: Table, prefix: &[u8]) -> Result<u16> {
    match view.get(table, &part_key(prefix, 0))? {
        Some(first) => split_first(table, &first).map(|(parts, _)| parts),
        None => Ok(0),
    }
}

fn split_first(table: Table, first: &[u8]) -> Result<(u16, &[u8])> {
    let split = first.split_first_chunk::<2>();
    let (count, part) = split.ok_or_else(|| damaged(table)(Damaged::Part))?;
    Ok((u16::from_be_bytes(*count), part))
}

/// The bytes of a record that begins with this row.
pub(super) fn whole(
    view: &(impl Read + ?Sized),
    table: Table,
    prefix: &[u8],
    first: &[u8],
) -> Result<Vec<u8>> {
    let (count, part) = split_first(table, first)?;
    let mut bytes = part.to_vec();
    for number in 1..count {
        let part = view.get(table, &part_key(prefix, number))?;
        bytes.extend_from_slice(&part.ok_or_else(|| damaged(table)(Damaged::Part))?);
    }
    Ok(bytes)
}

/// The record, if there is one.
pub(super) fn get<R: Record + Schema>(
    view: &(impl Read + ?Sized),
    table: Table,
    prefix: &[u8],
) -> Result<Option<R>> {
    let Some(first) = view.get(table, &part_key(prefix, 0))? else {
        return Ok(None);
    };
    let (count, part) = split_first(table, &first)?;
    let record = if count <= 1 {
        codec::decode(part)
    } else {
        codec::decode(&whole(view, table, prefix, &first)?)
    };
    Ok(Some(record.map_err(|error| damaged(table)(error.into()))?))
}

/// Removes a record; whether it was there.
pub(super) fn delete(tx: &mut dyn Write, table: Table, prefix: &[u8], long: bool) -> Result<bool> {
    if long {
        let range = KeyRange::prefix(prefix);
        return Ok(0 < tx.delete_range(table, &range, DELETE_ROWS_MAX)?);
    }
    Ok(tx.delete(table, &part_key(prefix, 0))?)
}

/// Whether such a record may stand in more than one row.
pub(super) fn is_long(bytes: usize) -> bool {
    // All else about a job, with its tags, is well below the rest.
    PART_BYTES / 4 < bytes
}

/// Puts a record of one row whose key has no parts.
pub(super) fn put_plain<R: Record + Schema>(
    tx: &mut dyn Write,
    table: Table,
    key: &[u8],
    record: &R,
) -> Result<()> {
    let bytes = codec::encode(record).map_err(|error| damaged(table)(error.into()))?;
    Ok(tx.put(table, key, &bytes)?)
}

/// The record of such a row.
pub(super) fn read_plain<R: Record + Schema>(table: Table, bytes: &[u8]) -> Result<R> {
    codec::decode(bytes).map_err(|error| damaged(table)(error.into()))
}

/// The record of such a row, if it is there.
pub(super) fn get_plain<R: Record + Schema>(
    view: &(impl Read + ?Sized),
    table: Table,
    key: &[u8],
) -> Result<Option<R>> {
    view.get(table, key)?.map(|bytes| read_plain(table, &bytes)).transpose()
}

/// Where in a queue a job stands that may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// By its band.
    Band(u8),
    /// Among those of its type, which is throttled.
    Parked(String),
}

const PARKED: u8 = 5;

/// What rows of Ready of one queue begin with.
pub(super) fn queue_prefix(tenant: TenantId, queue: &str) -> Vec<u8> {
    KeyWriter::new().u64(tenant.raw()).name(queue).finish()
}

/// What rows of Ready of one lane begin with.
pub(super) fn lane_prefix(tenant: TenantId, queue: &str, lane: &Lane) -> Vec<u8> {
    let key = KeyWriter::new().u64(tenant.raw()).name(queue);
    match lane {
        Lane::Band(band) => key.u8(*band).finish(),
        Lane::Parked(job_type) => key.u8(PARKED).bytes(job_type.as_bytes()).finish(),
    }
}

/// The key of a job that may run.
pub(super) fn ready_key(
    tenant: TenantId,
    queue: &str,
    lane: &Lane,
    (order, id): (u64, JobId),
) -> Vec<u8> {
    let mut key = lane_prefix(tenant, queue, lane);
    key.extend_from_slice(&order.to_be_bytes());
    key.extend_from_slice(&id.raw().to_be_bytes());
    key
}

/// A key of Ready, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadyKey {
    pub(super) tenant: TenantId,
    pub(super) queue: String,
    pub(super) lane: Lane,
    pub(super) order: u64,
    pub(super) id: JobId,
}

impl ReadyKey {
    pub(super) fn read(key: &[u8]) -> Result<ReadyKey> {
        let bad = |bad: BadKey| damaged(Table::Ready)(bad.into());
        let mut reader = KeyReader::new(key);
        let tenant = TenantId::from_raw(reader.u64().map_err(bad)?);
        let queue = reader.name().map_err(bad)?.to_owned();
        let lane = match reader.u8().map_err(bad)? {
            PARKED => {
                let job_type = reader.bytes().map_err(bad)?;
                Lane::Parked(String::from_utf8_lossy(&job_type).into_owned())
            }
            number => Lane::Band(number),
        };
        let order = reader.u64().map_err(bad)?;
        let id = JobId::from_raw(reader.u64().map_err(bad)?);
        Ok(ReadyKey { tenant, queue, lane, order, id })
    }
}

/// What stands at a job that may run: whether it has a course, and its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadyRow {
    pub(super) has_course: bool,
    pub(super) job_type: String,
}

impl ReadyRow {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(1 + self.job_type.len());
        row.push(u8::from(self.has_course));
        row.extend_from_slice(self.job_type.as_bytes());
        row
    }

    pub(super) fn read(row: &[u8]) -> Result<ReadyRow> {
        let (flags, job_type) =
            row.split_first().ok_or_else(|| damaged(Table::Ready)(Damaged::Part))?;
        let job_type = String::from_utf8_lossy(job_type).into_owned();
        Ok(ReadyRow { has_course: *flags & 1 == 1, job_type })
    }
}

/// Something that is due at a moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A job may run. The row's value is its queue.
    Job(TenantId, JobId),
    /// A unique key is free.
    Unique(TenantId, String, String),
    /// A call is forgotten.
    Call(TenantId, Vec<u8>),
    /// A schedule pushes.
    Schedule(TenantId, String),
}

impl Due {
    /// The key of its row.
    pub(super) fn key(&self, at_ms: u64) -> Vec<u8> {
        let key =
            |what: u8, tenant: &TenantId| KeyWriter::new().u64(at_ms).u8(what).u64(tenant.raw());
        match self {
            Due::Job(tenant, id) => key(0, tenant).u64(id.raw()).finish(),
            Due::Unique(tenant, queue, unique) => {
                key(1, tenant).name(queue).tail(unique.as_bytes())
            }
            Due::Call(tenant, hash) => key(2, tenant).tail(hash),
            Due::Schedule(tenant, name) => key(3, tenant).tail(name.as_bytes()),
        }
    }

    /// What a key says, and when.
    pub(super) fn read(key: &[u8]) -> Result<(u64, Due)> {
        let bad = |bad: BadKey| damaged(Table::Due)(bad.into());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut reader = KeyReader::new(key);
        let at_ms = reader.u64().map_err(bad)?;
        let what = reader.u8().map_err(bad)?;
        let tenant = TenantId::from_raw(reader.u64().map_err(bad)?);
        let due = match what {
            0 => Due::Job(tenant, JobId::from_raw(reader.u64().map_err(bad)?)),
            1 => {
                let queue = reader.name().map_err(bad)?.to_owned();
                Due::Unique(tenant, queue, text(reader.tail()))
            }
            2 => Due::Call(tenant, reader.tail().to_vec()),
            3 => Due::Schedule(tenant, text(reader.tail())),
            _ => return Err(damaged(Table::Due)(Damaged::Dangling("an unknown kind of due row"))),
        };
        Ok((at_ms, due))
    }
}

/// The key of a unique row.
pub(super) fn unique_key(tenant: TenantId, queue: &str, key: &str) -> Vec<u8> {
    KeyWriter::new().u64(tenant.raw()).name(queue).tail(key.as_bytes())
}

/// The key of a tenant's row with this tail: a queue, a call. Without one, what all its rows of a table begin with.
pub(super) fn tenant_key(tenant: TenantId, tail: &[u8]) -> Vec<u8> {
    KeyWriter::new().u64(tenant.raw()).tail(tail)
}

/// What the rows of something with a name begin with: a schedule.
pub(super) fn named_key(tenant: TenantId, name: &str) -> Vec<u8> {
    KeyWriter::new().u64(tenant.raw()).name(name).finish()
}

/// Tenant, name and part of such a row.
pub(super) fn read_named_key(table: Table, key: &[u8]) -> Result<(TenantId, String, u16)> {
    let mut reader = KeyReader::new(key);
    let mut read = || -> std::result::Result<_, BadKey> {
        let tenant = TenantId::from_raw(reader.u64()?);
        let name = reader.name()?.to_owned();
        Ok((tenant, name, reader.u16()?))
    };
    read().map_err(|bad| damaged(table)(bad.into()))
}

/// The tenant of such a key, and its tail.
pub(super) fn read_tenant_key(table: Table, key: &[u8]) -> Result<(TenantId, &[u8])> {
    let mut reader = KeyReader::new(key);
    let tenant = reader.u64().map_err(|bad| damaged(table)(bad.into()))?;
    Ok((TenantId::from_raw(tenant), &key[8..]))
}

/// The key of a job that was given up.
pub(super) fn failed_key(tenant: TenantId, queue: &str, at_ms: u64, id: JobId) -> Vec<u8> {
    KeyWriter::new().u64(tenant.raw()).name(queue).u64(at_ms).u64(id.raw()).finish()
}

/// Tenant, queue, moment and id of such a key.
pub(super) fn read_failed_key(key: &[u8]) -> Result<(TenantId, String, u64, JobId)> {
    let mut reader = KeyReader::new(key);
    let mut read = || -> std::result::Result<_, BadKey> {
        let tenant = TenantId::from_raw(reader.u64()?);
        let queue = reader.name()?.to_owned();
        Ok((tenant, queue, reader.u64()?, JobId::from_raw(reader.u64()?)))
    };
    read().map_err(|bad| damaged(Table::Failed)(bad.into()))
}

/// Where the numbers stand that must not be given out again.
pub(super) const NUMBERS_KEY: &[u8] = b"queue.numbers";

/// Where the jobs of a day are counted, for a tenant whom that is limited.
pub(super) fn day_key(tenant: TenantId) -> Vec<u8> {
    [b"queue.day.".as_slice(), &tenant.raw().to_be_bytes()].concat()
}

/// Milliseconds of a moment, as rows keep them.
pub(super) fn ms(at: Timestamp) -> u64 {
    at.unix_ms().cast_unsigned()
}

/// The moment of such milliseconds.
pub(super) fn at(ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(ms.min(i64::MAX.cast_unsigned()).cast_signed())
        .unwrap_or(Timestamp::MAX)
}

/// Milliseconds of a length of time.
pub(super) fn length_ms(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
