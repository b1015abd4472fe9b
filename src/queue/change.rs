//! What people change: cancelling, clearing, trying failed jobs again or discarding them, settings of queues.

use std::sync::Arc;
use std::time::Duration;

use super::Error;
use super::finish::{Departure, put_gone};
use super::job::{State, Until};
use super::lease::{course_row, job_row};
use super::memory::{Counter, Key, Op, Qid};
use super::push::{self, Readied, hold, holder};
use super::rows::{
    self, CallRow, CourseRow, Due, JobRow, Lane, LeaseRow, QueueRow, ReadyKey, ScheduleRow,
    Standing, UniqueRow,
};
use super::settings::{Patch, Settings};
use super::tick::readable;
use super::view::{rests, rows_of};
use crate::base::id::{JobId, TenantId};
use crate::base::limits::{JOB_PAYLOAD_BYTES_MAX, QUEUE_STEP_BYTES, QUEUE_STEP_ROWS};
use crate::base::name::QueueName;
use crate::base::quota::Allowance;
use crate::store::{Flow, KeyRange, Order, Table};

/// What became of a job that nobody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It is gone.
    Removed,
    /// Somebody has it, and is told.
    Signalled,
    /// It is over already.
    Over(State),
    /// This file does not know it. The history may.
    Unknown,
}

/// Cancels a job.
pub fn cancel(op: &mut Op<'_>, tenant: TenantId, id: JobId) -> Result<Cancelled, Error> {
    let key = (tenant, id);
    let prefix = rows::job_prefix(tenant, id);
    if let Some(mut lease) = rows::get::<LeaseRow>(op.tx, Table::Leases, &prefix)? {
        lease.cancel = true;
        rows::put(op.tx, Table::Leases, &prefix, &lease)?;
        return Ok(Cancelled::Signalled);
    }
    if rows::get::<JobRow>(op.tx, Table::Jobs, &prefix)?.is_none() {
        let over = super::finish::finished(op.tx, key)?;
        return Ok(over.map_or(Cancelled::Unknown, |row| Cancelled::Over(row.over().state)));
    }
    let (job, course) = rows_of(op.tx, key)?;
    if rests(op.tx, key, &job, course.as_ref())?.0 == State::Failed {
        return Ok(Cancelled::Over(State::Failed));
    }
    let qid = queue_of(op, tenant, &job.queue)?;
    take_out(op, key, qid, (&job, course.as_ref()))?;
    Departure { key, qid, job, course, lease: None }.leave(op, State::Cancelled, None)?;
    Ok(Cancelled::Removed)
}

fn queue_of(op: &Op<'_>, tenant: TenantId, name: &str) -> Result<Qid, Error> {
    let qid = QueueName::parse(name).ok().and_then(|name| op.memory.qid(tenant, &name));
    let unknown = || {
        rows::damaged(Table::Jobs)(rows::Damaged::Dangling("a job of a queue that is not there"))
    };
    Ok(qid.ok_or_else(unknown)?)
}

/// Takes a job that waits, or is delayed, out of the index in which it stands.
fn take_out(
    op: &mut Op<'_>,
    key: Key,
    qid: Qid,
    (job, course): (&JobRow, Option<&CourseRow>),
) -> Result<(), Error> {
    let (state, at_ms) = rests(op.tx, key, job, course)?;
    if state == State::Delayed {
        op.tx.delete(Table::Due, &Due::Job(key.0, key.1).key(at_ms))?;
        op.count(qid, Counter::Delayed, -1);
        return Ok(());
    }
    let place = (push::order(at_ms, job.band()), key.1);
    for lane in [Lane::Band(job.band), Lane::Parked(job.job_type.clone())] {
        let row = rows::ready_key(key.0, &job.queue, &lane, place);
        if op.tx.delete(Table::Ready, &row)? {
            op.count(qid, Counter::Ready(lane), -1);
            return Ok(());
        }
    }
    let missing = rows::Damaged::Dangling("a job that may run is not among those that may");
    Err(rows::damaged(Table::Ready)(missing).into())
}

/// Which jobs of a queue are removed, in steps.
#[derive(Clone, Debug)]
pub struct Clear {
    /// Of which queue.
    pub queue: QueueName,
    /// Waiting, delayed or failed.
    pub state: State,
    /// Where the step before stopped.
    pub after: Option<Vec<u8>>,
}

/// Removes some of the jobs; how many that were, and where to go on.
pub fn clear_step(
    op: &mut Op<'_>,
    tenant: TenantId,
    clear: &Clear,
) -> Result<(u64, Option<Vec<u8>>), Error> {
    let Some(qid) = op.memory.qid(tenant, &clear.queue) else {
        return Ok((0, None));
    };
    let (found, next) = jobs_in(op, tenant, clear)?;
    let (mut jobs, mut bytes) = (0, 0);
    for (at, key) in &found {
        // What cannot be read stays for who looks into it, and holds up nobody else.
        let Some((job, course)) = readable(rows_of(op.tx, *key))? else {
            continue;
        };
        bytes += job.weight();
        jobs += 1;
        if clear.state == State::Failed {
            drop_failed(op, *key, qid, (job, course))?;
        } else {
            take_out(op, *key, qid, (&job, course.as_ref()))?;
            let departure = Departure { key: *key, qid, job, course, lease: None };
            departure.leave(op, State::Cancelled, None)?;
        }
        if QUEUE_STEP_BYTES <= bytes {
            return Ok((jobs, Some(at.clone())));
        }
    }
    Ok((jobs, next))
}

/// Jobs, each with where it stands, and where to go on behind them.
type Found<J> = (Vec<(Vec<u8>, J)>, Option<Vec<u8>>);

/// Some jobs of a queue in one state.
fn jobs_in(op: &Op<'_>, tenant: TenantId, clear: &Clear) -> Result<Found<Key>, Error> {
    let name = clear.queue.as_str();
    let (table, prefix) = match clear.state {
        State::Delayed => (Table::Due, Vec::new()),
        State::Failed => (Table::Failed, rows::queue_prefix(tenant, name)),
        _ => (Table::Ready, rows::queue_prefix(tenant, name)),
    };
    let mut range = KeyRange::prefix(&prefix);
    if let Some(after) = &clear.after {
        range.from = [after.as_slice(), &[0]].concat();
    }
    let (mut keys, mut last, mut seen) = (Vec::new(), None, 0_usize);
    op.tx.scan(table, &range, Order::Forward, &mut |key, value| {
        if keys.len() == QUEUE_STEP_ROWS || seen == 8 * QUEUE_STEP_ROWS {
            return Flow::Stop;
        }
        seen += 1;
        last = Some(key.to_vec());
        let id = match table {
            Table::Ready => ReadyKey::read(key).map(|at| at.id).ok(),
            Table::Failed => rows::read_failed_key(key).map(|at| at.3).ok(),
            _ => match Due::read(key) {
                Ok((_, Due::Job(owner, id))) if owner == tenant && value == name.as_bytes() => {
                    Some(id)
                }
                _ => None,
            },
        };
        keys.extend(id.map(|id| (key.to_vec(), (tenant, id))));
        Flow::On
    })?;
    let full = keys.len() == QUEUE_STEP_ROWS || seen == 8 * QUEUE_STEP_ROWS;
    Ok((keys, last.filter(|_| full)))
}

/// Removes a job that was given up, from here and from the history.
fn drop_failed(
    op: &mut Op<'_>,
    key: Key,
    qid: Qid,
    (job, course): (JobRow, Option<CourseRow>),
) -> Result<(), Error> {
    let Some(Standing::Failed { at_ms }) = course.map(|course| course.standing) else {
        return Ok(());
    };
    let (tenant, id) = key;
    let prefix = rows::job_prefix(tenant, id);
    op.tx.delete(Table::Failed, &rows::failed_key(tenant, &job.queue, at_ms, id))?;
    op.count(qid, Counter::Failed, -1);
    rows::delete(op.tx, Table::Jobs, &prefix, job.is_long())?;
    rows::delete(op.tx, Table::Courses, &prefix, true)?;
    put_gone(op, key)
}

/// Removes what there is of a job that cannot be read.
fn drop_rows(op: &mut Op<'_>, key: Key) -> Result<(), Error> {
    let prefix = rows::job_prefix(key.0, key.1);
    rows::delete(op.tx, Table::Jobs, &prefix, true)?;
    rows::delete(op.tx, Table::Courses, &prefix, true)?;
    put_gone(op, key)
}

/// Which failed jobs are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// These.
    Ids(Vec<JobId>),
    /// Those with this fingerprint, wherever they are.
    Fingerprint(u64),
    /// Those of a queue.
    Queue(QueueName),
}

/// What is done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are tried again, one after the other with so long between them.
    Retry {
        /// How long; nothing: all at once.
        pace: Duration,
    },
    /// They are removed.
    Discard,
}

/// One step of what is done with failed jobs.
#[derive(Clone, Debug)]
pub struct Sentence {
    /// Which.
    pub which: Which,
    /// What.
    pub verdict: Verdict,
    /// Where the step before stopped: for ids how many were looked at, else the last key.
    pub after: Option<Vec<u8>>,
    /// How many were dealt with before.
    pub count: u64,
    /// Only what was given up until then: what fails again meanwhile is not tried for ever.
    pub until_ms: u64,
}

/// Deals with some failed jobs; how many, and where to go on.
pub fn sentence_step(
    op: &mut Op<'_>,
    tenant: TenantId,
    sentence: &Sentence,
) -> Result<(u64, Option<Vec<u8>>), Error> {
    let (found, next) = convicted(op, tenant, sentence)?;
    let (mut count, mut bytes) = (0, 0);
    for (at, id) in found {
        if QUEUE_STEP_BYTES <= bytes {
            return Ok((count, Some(at)));
        }
        let key = (tenant, id);
        let prefix = rows::job_prefix(tenant, id);
        let job = rows::get::<JobRow>(op.tx, Table::Jobs, &prefix).map_err(Error::from);
        let (Some(Some(job)), Some(course)) = (readable(job)?, readable(course_row(op.tx, key))?)
        else {
            continue;
        };
        let Some(Standing::Failed { .. }) = course.as_ref().map(|course| course.standing) else {
            continue;
        };
        if op.memory.running(key).is_some() {
            continue;
        }
        let qid = queue_of(op, tenant, &job.queue)?;
        bytes += job.weight();
        match (sentence.verdict, course) {
            (Verdict::Discard, course) => drop_failed(op, key, qid, (job, course))?,
            (Verdict::Retry { pace }, Some(course)) => {
                let turn = u32::try_from(sentence.count + count).unwrap_or(u32::MAX);
                if !retry(op, key, qid, (&job, course), pace.saturating_mul(turn))? {
                    continue;
                }
            }
            (Verdict::Retry { .. }, None) => continue,
        }
        count += 1;
    }
    Ok((count, next))
}

/// Those who are meant, each with where to go on so that it is the next one.
fn convicted(op: &Op<'_>, tenant: TenantId, sentence: &Sentence) -> Result<Found<JobId>, Error> {
    let prefix = match &sentence.which {
        Which::Ids(ids) => {
            let from = sentence.after.as_ref().and_then(|after| after.as_slice().try_into().ok());
            let from = from.map_or(0, u64::from_be_bytes);
            let from = usize::try_from(from).unwrap_or(usize::MAX).min(ids.len());
            let to = (from + QUEUE_STEP_ROWS).min(ids.len());
            let next = (to < ids.len()).then(|| (to as u64).to_be_bytes().to_vec());
            let place = |place: u64| place.to_be_bytes().to_vec();
            let found = (from as u64..).map(place).zip(ids[from..to].iter().copied());
            return Ok((found.collect(), next));
        }
        Which::Fingerprint(_) => rows::tenant_key(tenant, b""),
        Which::Queue(queue) => rows::queue_prefix(tenant, queue.as_str()),
    };
    let wanted = match sentence.which {
        Which::Fingerprint(fingerprint) => Some(fingerprint.to_be_bytes()),
        Which::Ids(_) | Which::Queue(_) => None,
    };
    let mut range = KeyRange::prefix(&prefix);
    if let Some(after) = &sentence.after {
        range.from = [after.as_slice(), &[0]].concat();
    }
    // Nothing lies between the prefix and the first key behind it.
    let before_all = sentence.after.clone().unwrap_or(prefix);
    let (mut ids, mut last, mut seen) = (Vec::new(), None, 0_usize);
    op.tx.scan(Table::Failed, &range, Order::Forward, &mut |key, value| {
        if ids.len() == QUEUE_STEP_ROWS || seen == 8 * QUEUE_STEP_ROWS {
            return Flow::Stop;
        }
        seen += 1;
        let before = last.replace(key.to_vec());
        if wanted.is_none_or(|wanted| wanted == *value)
            && let Ok((_, _, at_ms, id)) = rows::read_failed_key(key)
            && at_ms <= sentence.until_ms
        {
            ids.push((before.unwrap_or_else(|| before_all.clone()), id));
        }
        Flow::On
    })?;
    let full = ids.len() == QUEUE_STEP_ROWS || seen == 8 * QUEUE_STEP_ROWS;
    Ok((ids, last.filter(|_| full)))
}

/// A failed job begins anew; not if another job has its unique key by now.
fn retry(
    op: &mut Op<'_>,
    key: Key,
    qid: Qid,
    (job, mut course): (&JobRow, CourseRow),
    delay: Duration,
) -> Result<bool, Error> {
    let (tenant, id) = key;
    let Standing::Failed { at_ms } = course.standing else {
        return Ok(false);
    };
    if let Some(unique) = &job.unique
        && unique.until() != Until::Ttl
    {
        match holder(op, tenant, &job.queue, &unique.key)? {
            Some(other) if other != id => return Ok(false),
            Some(_) => {}
            None => hold(op, tenant, &job.queue, (unique, id))?,
        }
    }
    op.tx.delete(Table::Failed, &rows::failed_key(tenant, &job.queue, at_ms, id))?;
    op.count(qid, Counter::Failed, -1);
    (course.errors, course.crashes) = (0, 0);
    let (now_ms, run_at_ms) = (op.now_ms(), rows::ms(op.now.wall.plus(delay)));
    let delayed = now_ms < run_at_ms;
    course.standing = if delayed {
        Standing::Delayed { until_ms: run_at_ms }
    } else {
        Standing::Waiting { since_ms: now_ms }
    };
    rows::replace(op.tx, Table::Courses, &rows::job_prefix(tenant, id), &course)?;
    if delayed {
        push::delay(op, key, (qid, &job.queue), run_at_ms)?;
    } else {
        push::make_ready(op, key, qid, &Readied::of(job, now_ms, true))?;
    }
    put_gone(op, key)?;
    Ok(true)
}

/// Removes failed jobs of one queue that are older than they may be, or too many; whether there may be more.
pub fn prune_failed(
    op: &mut Op<'_>,
    (tenant, queue): (TenantId, &QueueName),
) -> Result<bool, Error> {
    let Some(qid) = op.memory.qid(tenant, queue) else {
        return Ok(false);
    };
    let (state, retention) = (op.memory.queue(qid), op.memory.retention);
    let age = state.settings.keep.failed.unwrap_or(retention.failed_age);
    let old_ms = rows::ms(op.now.wall.minus(age));
    let mut too_many = state.failed.saturating_sub(retention.failed_rows);
    let mut found = Vec::new();
    let range = KeyRange::prefix(&rows::queue_prefix(tenant, queue.as_str()));
    op.tx.scan(Table::Failed, &range, Order::Forward, &mut |key, _| {
        let Ok((_, _, at_ms, id)) = rows::read_failed_key(key) else {
            return Flow::On;
        };
        if (old_ms <= at_ms && too_many == 0) || found.len() == QUEUE_STEP_ROWS {
            return Flow::Stop;
        }
        too_many = too_many.saturating_sub(1);
        found.push((at_ms, id));
        Flow::On
    })?;
    let mut bytes = 0;
    for (at_ms, id) in &found {
        if QUEUE_STEP_BYTES <= bytes {
            return Ok(true);
        }
        let key = (tenant, *id);
        let rows = job_row(op.tx, key).and_then(|job| Ok((job, course_row(op.tx, key)?)));
        if let Some((job, course)) = readable(rows)? {
            bytes += job.weight();
            drop_failed(op, key, qid, (job, course))?;
        } else {
            // Its time is over, whatever it was; it must not keep the others.
            op.tx.delete(Table::Failed, &rows::failed_key(tenant, queue.as_str(), *at_ms, *id))?;
            op.count(qid, Counter::Failed, -1);
            bytes += JOB_PAYLOAD_BYTES_MAX;
            drop_rows(op, key)?;
        }
    }
    Ok(found.len() == QUEUE_STEP_ROWS)
}

/// Changes the settings of a queue, which is made if it is not there.
pub fn patch(
    op: &mut Op<'_>,
    tenant: TenantId,
    (name, patch): (&QueueName, &Patch),
    queues: Allowance,
) -> Result<Settings, Error> {
    let qid = push::queue_or_new(op, tenant, name, queues)?;
    let before = Arc::clone(&op.memory.queue(qid).settings);
    let after = patch.apply(&before);
    store_settings(op, (tenant, qid), name, &after)?;
    let loosened = (before.paused && !after.paused)
        || before.rate != after.rate
        || before.concurrency != after.concurrency;
    let waiting = op.memory.queue(qid).waiting();
    if loosened && !after.paused && 0 < waiting {
        op.ready(qid, waiting);
    }
    Ok(after)
}

fn store_settings(
    op: &mut Op<'_>,
    (tenant, qid): (TenantId, Qid),
    name: &QueueName,
    settings: &Settings,
) -> Result<(), Error> {
    let key = rows::tenant_key(tenant, name.as_str().as_bytes());
    let configured = *settings != Settings::default();
    if configured {
        rows::put_plain(op.tx, Table::Queues, &key, &QueueRow::of(settings))?;
    } else {
        op.tx.delete(Table::Queues, &key)?;
    }
    op.settings(qid, settings.clone(), configured);
    Ok(())
}

/// Forgets a queue that has no jobs; whether it was there.
pub fn forget(op: &mut Op<'_>, tenant: TenantId, name: &QueueName) -> Result<bool, Error> {
    let Some(qid) = op.memory.qid(tenant, name) else {
        return Ok(false);
    };
    let queue = op.memory.queue(qid);
    let jobs = queue.waiting() + queue.delayed + queue.running + queue.failed;
    if 0 < jobs {
        return Err(Error::QueueNotEmpty { queue: name.clone(), jobs });
    }
    store_settings(op, (tenant, qid), name, &Settings::default())?;
    op.forget_queue(qid);
    Ok(true)
}

/// Rows of a tenant that one step removes.
const REMOVED_ROWS: u64 = 500;

/// Removes some of what a tenant has; whether that was all of it.
///
/// Whatever is due for it goes with what it is due for, before all else: nothing is pushed or counted any more.
pub fn remove_tenant_step(op: &mut Op<'_>, tenant: TenantId) -> Result<bool, Error> {
    for table in [Table::Schedules, Table::Calls, Table::Unique, Table::Jobs] {
        if !remove_timed(op, tenant, table)? {
            return Ok(false);
        }
    }
    let range = KeyRange::prefix(&rows::tenant_key(tenant, b""));
    let tables =
        [Table::Leases, Table::Ready, Table::Courses, Table::Queues, Table::Failed, Table::Outbox];
    for table in tables {
        if table == Table::Outbox {
            // The same rows that are removed next: those with part zero are the records.
            let (mut seen, mut records) = (0, 0);
            op.tx.scan(table, &range, Order::Forward, &mut |key, _| {
                seen += 1;
                records += i64::from(key.ends_with(&[0, 0]));
                if seen < REMOVED_ROWS { Flow::On } else { Flow::Stop }
            })?;
            op.outbox(-records);
        }
        let rows = op.tx.delete_range(table, &range, REMOVED_ROWS)?;
        if rows == REMOVED_ROWS {
            return Ok(false);
        }
    }
    op.tx.delete(Table::Meta, &rows::day_key(tenant))?;
    Ok(true)
}

/// Removes some rows of a table, each with the moment at which something about it is due; whether those were all.
fn remove_timed(op: &mut Op<'_>, tenant: TenantId, table: Table) -> Result<bool, Error> {
    let range = KeyRange::prefix(&rows::tenant_key(tenant, b""));
    let mut keys = Vec::new();
    op.tx.scan(table, &range, Order::Forward, &mut |key, _| {
        keys.push(key.to_vec());
        if (keys.len() as u64) < REMOVED_ROWS { Flow::On } else { Flow::Stop }
    })?;
    for key in &keys {
        // What cannot be read is due for nothing, and falls away in its time.
        if let Some((at_ms, due)) = moment_of(op, tenant, table, key).ok().flatten() {
            op.tx.delete(Table::Due, &due.key(at_ms))?;
        }
    }
    for key in &keys {
        op.tx.delete(table, key)?;
    }
    Ok((keys.len() as u64) < REMOVED_ROWS)
}

/// When something about a row is due.
fn moment_of(
    op: &Op<'_>,
    tenant: TenantId,
    table: Table,
    key: &[u8],
) -> Result<Option<(u64, Due)>, Error> {
    let tail = &key[8..];
    if table == Table::Unique {
        let row = rows::get_plain::<UniqueRow>(op.tx, table, key)?;
        let until_ms = row.and_then(|row| row.until_ms);
        // A due row of this kind has the same parts behind its moment and its kind.
        let Some(at_ms) = until_ms else {
            return Ok(None);
        };
        return Ok(Some(Due::read(&[&at_ms.to_be_bytes(), [1].as_slice(), key].concat())?));
    }
    let Some(prefix) = key.strip_suffix(&[0, 0]) else {
        return Ok(None);
    };
    Ok(match table {
        Table::Schedules => {
            let name = rows::read_named_key(table, key)?.1;
            let row = rows::get::<ScheduleRow>(op.tx, table, prefix)?;
            let at_ms = row.and_then(|row| row.fires_at_ms);
            at_ms.map(|at_ms| (at_ms, Due::Schedule(tenant, name)))
        }
        Table::Calls => {
            let row = rows::get::<CallRow>(op.tx, table, prefix)?;
            let hash = tail[..tail.len() - 2].to_vec();
            row.map(|row| (row.until_ms, Due::Call(tenant, hash)))
        }
        _ => {
            let (_, id, _) = rows::read_job_key(table, key)?;
            let course = course_row(op.tx, (tenant, id))?;
            let at_ms = match course.map(|course| course.standing) {
                Some(Standing::Delayed { until_ms }) => Some(until_ms),
                Some(Standing::Waiting { .. } | Standing::Failed { .. }) => None,
                None => rows::get::<JobRow>(op.tx, table, prefix)?.map(|job| job.run_at_ms),
            };
            at_ms.map(|at_ms| (at_ms, Due::Job(tenant, id)))
        }
    })
}
