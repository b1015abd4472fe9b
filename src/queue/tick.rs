//! What happens by itself when its time has come: jobs that were delayed may run, attempts end that were
//! silent or too long, keys and calls are forgotten, schedules push.

use std::time::Duration;

use super::Error;
use super::finish::Attempt;
use super::memory::{Counter, Event, Key, Op, Running};
use super::push::{self, Readied};
use super::rows::{self, Due, LeaseRow, RowError, UniqueRow};
use super::schedules;
use crate::base::id::TenantId;
use crate::base::limits::{QUEUE_STEP_BYTES, QUEUE_STEP_ROWS};
use crate::base::name::QueueName;
use crate::store::{Flow, KeyRange, Order, Read, Table};

/// An attempt that cannot be ended, because one of its rows is damaged, is looked at again after this.
const DAMAGED_AGAIN: Duration = Duration::from_mins(1);

/// Does what is due, a bounded number of things; whether there is more.
pub fn due(op: &mut Op<'_>) -> Result<bool, Error> {
    let now_ms = op.now_ms();
    let mut found = Vec::new();
    op.tx.scan(Table::Due, &KeyRange::all(), Order::Forward, &mut |key, value| {
        // Keys begin with the moment.
        let at_ms = key.first_chunk::<8>().map_or(0, |at| u64::from_be_bytes(*at));
        if now_ms < at_ms {
            return Flow::Stop;
        }
        found.push((key.to_vec(), value.to_vec()));
        if found.len() < QUEUE_STEP_ROWS { Flow::On } else { Flow::Stop }
    })?;
    let mut more = found.len() == QUEUE_STEP_ROWS;
    let mut bytes = 0;
    for (key, value) in &found {
        op.tx.delete(Table::Due, key)?;
        // A key that nobody can read is due for ever: it must not hold up the others.
        let Some((at_ms, due)) = readable(Due::read(key).map_err(Error::from))? else {
            continue;
        };
        match due {
            Due::Job(tenant, id) => bytes += ready(op, (tenant, id), value, at_ms)?,
            Due::Unique(tenant, queue, unique) => free(op, tenant, (&queue, &unique), at_ms)?,
            Due::Call(tenant, hash) => push::forget_call(op, tenant, &hash, at_ms)?,
            Due::Schedule(tenant, name) => bytes += schedules::fire(op, tenant, &name)?,
        }
        if QUEUE_STEP_BYTES <= bytes {
            more = true;
            break;
        }
    }
    // What was put meanwhile, as the next moment of a schedule, may come before all else.
    let first = if more { Some(now_ms) } else { first_due(op.tx)? };
    op.first_due(first);
    Ok(more)
}

/// Tells of all jobs that may run, as if they had just come to it.
pub fn tell_anew(op: &mut Op<'_>) {
    let waiting = op.memory.all_queues().filter(|queue| 0 < queue.waiting());
    let events: Vec<Event> = waiting
        .map(|queue| Event::Ready(queue.tenant, queue.name.clone(), queue.waiting()))
        .collect();
    for event in events {
        op.event(event);
    }
}

/// The first moment at which something is due.
pub(super) fn first_due(view: &(impl Read + ?Sized)) -> Result<Option<u64>, Error> {
    let mut first = None;
    view.scan(Table::Due, &KeyRange::all(), Order::Forward, &mut |key, _| {
        // As in `due`: one that is too short to say it is due now, so that it is put away.
        first = Some(key.first_chunk::<8>().map_or(0, |at| u64::from_be_bytes(*at)));
        Flow::Stop
    })?;
    Ok(first)
}

/// A job that was delayed may run; how many bytes were read for it.
fn ready(op: &mut Op<'_>, key: Key, queue: &[u8], at_ms: u64) -> Result<usize, Error> {
    let name = QueueName::parse(&String::from_utf8_lossy(queue));
    let qid = name.ok().and_then(|name| op.memory.qid(key.0, &name));
    let Some(qid) = qid else {
        // Its tenant was deleted: nobody counts it any more.
        return Ok(0);
    };
    op.count(qid, Counter::Delayed, -1);
    // What cannot be read cannot run, and must not hold up what else is due. It stays for who looks into it.
    let Some((job, course)) = readable(super::view::rows_of(op.tx, key))? else {
        return Ok(0);
    };
    push::make_ready(op, key, qid, &Readied::of(&job, at_ms, course.is_some()))?;
    Ok(job.weight())
}

/// What was read; nothing when a row is damaged.
pub(super) fn readable<T>(read: Result<T, Error>) -> Result<Option<T>, Error> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Error::Row(RowError::Damaged { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A unique key is free, unless somebody else has it by now.
fn free(
    op: &mut Op<'_>,
    tenant: TenantId,
    (queue, unique): (&str, &str),
    at_ms: u64,
) -> Result<(), Error> {
    let key = rows::unique_key(tenant, queue, unique);
    let row = rows::get_plain::<UniqueRow>(op.tx, Table::Unique, &key).map_err(Error::from);
    let row = readable(row)?.flatten();
    if row.is_some_and(|row| row.until_ms == Some(at_ms)) {
        op.tx.delete(Table::Unique, &key)?;
    }
    Ok(())
}

/// Ends attempts whose time is over, a bounded number of them; whether there are more.
pub fn ends(op: &mut Op<'_>) -> Result<bool, Error> {
    let over = op.memory.over(op.now.mono, QUEUE_STEP_ROWS);
    let mut bytes = 0;
    for key in &over {
        bytes += end_one(op, *key)?;
        if QUEUE_STEP_BYTES <= bytes {
            return Ok(true);
        }
    }
    Ok(over.len() == QUEUE_STEP_ROWS)
}

fn attempt(op: &Op<'_>, key: Key) -> Result<Option<Attempt>, Error> {
    let row = rows::get::<LeaseRow>(op.tx, Table::Leases, &rows::job_prefix(key.0, key.1))?;
    row.map(|row| Attempt::of(op, key, row)).transpose()
}

/// Ends an attempt; what its job carries, in bytes.
fn end_one(op: &mut Op<'_>, key: Key) -> Result<usize, Error> {
    let Some(running) = op.memory.running(key).cloned() else {
        return Ok(0);
    };
    let attempt = match readable(attempt(op, key))? {
        Some(Some(attempt)) => attempt,
        Some(None) => {
            // Its tenant is being removed.
            op.stop(key);
            op.count(running.queue, Counter::Running, -1);
            return Ok(0);
        }
        None => {
            // It must not hold up others, and stays as it is for who looks into it.
            let later = op.now.mono.plus(DAMAGED_AGAIN);
            op.start(key, Running { until: later, timeout: later, ..running });
            return Ok(0);
        }
    };
    let bytes = attempt.weight();
    if running.timeout <= op.now.mono {
        attempt.timed_out(op)?;
    } else if running.grace {
        // The server was away; nobody can say that it was the worker who was silent.
        attempt.returned(op)?;
    } else {
        attempt.crashed(op, "the worker was silent: the lease ran out")?;
    }
    Ok(bytes)
}

/// A process of this machine has ended: the attempts that it had are over, a bounded number of them; how many
/// were ended. The next step goes on, until there are none.
///
/// `counted`: whether that is a crash. It is none when the process ended while the server was away.
pub fn died(
    op: &mut Op<'_>,
    (pid, started): (u32, u64),
    how: &str,
    counted: bool,
) -> Result<usize, Error> {
    let process = Some((pid, started));
    let its = op.memory.all_running().filter(|(_, running)| running.process == process);
    let mut keys: Vec<Key> = its.map(|(key, _)| *key).collect();
    // The order of a map is by chance, and what happens is not to be.
    keys.sort_unstable();
    break_off(op, &keys, Some(how).filter(|_| counted))
}

/// A worker has said goodbye: what it has goes back, nothing is counted. How many went back; the next step goes
/// on, until there are none.
pub fn goodbye(op: &mut Op<'_>, tenant: TenantId, worker: &str) -> Result<usize, Error> {
    let jobs = op.memory.jobs_of(tenant, worker);
    let keys: Vec<Key> = jobs.into_iter().map(|id| (tenant, id)).collect();
    break_off(op, &keys, None)
}

/// Ends some of these attempts, as crashes or as nothing; how many. What cannot be read goes by its time.
fn break_off(op: &mut Op<'_>, keys: &[Key], crash: Option<&str>) -> Result<usize, Error> {
    let (mut ended, mut bytes) = (0, 0);
    for key in keys {
        if ended == QUEUE_STEP_ROWS || QUEUE_STEP_BYTES <= bytes {
            break;
        }
        if let Some(Some(attempt)) = readable(attempt(op, *key))? {
            bytes += attempt.weight();
            match crash {
                Some(how) => attempt.crashed(op, how)?,
                None => attempt.returned(op)?,
            };
            ended += 1;
        }
    }
    Ok(ended)
}
