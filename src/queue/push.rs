//! Pushing: what is judged, and what is written.

use std::time::Duration;

use super::Error;
use super::job::{Band, Followup, LeaseToken, Payload, Rules, Spec, State, Unique, Until, When};
use super::memory::{Counter, Op, Qid};
use super::rows::{
    self, BackoffRow, CallJob, CallRow, Due, FollowupRow, JobRow, Lane, PayloadRow, ReadyRow,
    UniqueOfJob, UniqueRow, length_ms, ms,
};
use crate::base::id::{JobId, TenantId};
use crate::base::limits::{
    IDEMPOTENCY_KEYS_MAX, IDEMPOTENCY_TTL, JOB_CRASHES_DEFAULT, JOB_RESULT_TTL_DEFAULT,
    JOB_TIMEOUT_DEFAULT, JOB_TRIES_DEFAULT,
};
use crate::base::name::QueueName;
use crate::base::quota::{Allowance, Quota};
use crate::base::time::Timestamp;
use crate::store::Table;

/// A call that is not done twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Hash of its key.
    pub key: [u8; 16],
    /// Hash of what is asked: method, path, query and body.
    pub fingerprint: [u8; 16],
}

/// What a tenant may have.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Queues.
    pub queues: Allowance,
    /// Jobs that wait.
    pub waiting: Allowance,
    /// Jobs pushed in a day of UTC.
    pub per_day: Allowance,
}

impl Quotas {
    /// As much as there is.
    pub const UNLIMITED: Quotas = Quotas {
        queues: Allowance::Unlimited,
        waiting: Allowance::Unlimited,
        per_day: Allowance::Unlimited,
    };
}

/// What became of one job that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushedJob {
    /// Its id, or that of the job that has its unique key.
    pub id: JobId,
    /// Whether it was not pushed, because another job has its unique key.
    pub duplicate: bool,
    /// Where it stands.
    pub state: State,
    /// When it may run.
    pub run_at: Timestamp,
}

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Each job, in order.
    pub jobs: Vec<PushedJob>,
    /// Whether the call had been done before.
    pub replayed: bool,
}

const DAY_MS: u64 = 86_400_000;

/// Pushes these jobs: all of them, or none.
pub fn push(
    op: &mut Op<'_>,
    tenant: TenantId,
    specs: Vec<Spec>,
    call: Option<&Call>,
    quotas: &Quotas,
) -> Result<Pushed, Error> {
    if let Some(call) = call
        && let Some(jobs) = answered(op, tenant, call)?
    {
        return Ok(Pushed { jobs, replayed: true });
    }
    let mut jobs = Vec::with_capacity(specs.len());
    for spec in specs {
        jobs.push(push_one(op, tenant, spec, quotas)?);
    }
    count_today(op, tenant, &jobs, quotas.per_day)?;
    if let Some(call) = call {
        remember(op, tenant, call, &jobs)?;
    }
    Ok(Pushed { jobs, replayed: false })
}

/// What such a call was answered before.
fn answered(
    op: &mut Op<'_>,
    tenant: TenantId,
    call: &Call,
) -> Result<Option<Vec<PushedJob>>, Error> {
    let key = rows::tenant_key(tenant, &call.key);
    let Some(row) = rows::get::<CallRow>(op.tx, Table::Calls, &key)? else {
        return Ok(None);
    };
    if row.until_ms <= op.now_ms() {
        forget_call(op, tenant, &call.key, row.until_ms)?;
        return Ok(None);
    }
    if row.fingerprint != call.fingerprint {
        return Err(Error::KeyReused);
    }
    let job = |job: &CallJob| PushedJob {
        id: JobId::from_raw(job.id),
        duplicate: job.duplicate,
        state: state_of(job.state),
        run_at: rows::at(job.run_at_ms),
    };
    Ok(Some(row.jobs.iter().map(job).collect()))
}

/// The state with this number; what nobody wrote counts as waiting.
pub(super) fn state_of(number: u8) -> State {
    State::ALL.get(usize::from(number)).copied().unwrap_or(State::Waiting)
}

/// Removes what is known of a call.
pub(super) fn forget_call(
    op: &mut Op<'_>,
    tenant: TenantId,
    key: &[u8],
    until_ms: u64,
) -> Result<(), Error> {
    if rows::delete(op.tx, Table::Calls, &rows::tenant_key(tenant, key), true)? {
        op.calls(tenant, -1);
    }
    op.tx.delete(Table::Due, &Due::Call(tenant, key.to_vec()).key(until_ms))?;
    Ok(())
}

fn remember(
    op: &mut Op<'_>,
    tenant: TenantId,
    call: &Call,
    jobs: &[PushedJob],
) -> Result<(), Error> {
    if op.memory.tenant(tenant).is_some_and(|state| IDEMPOTENCY_KEYS_MAX <= state.calls) {
        return Err(Error::TooManyCalls);
    }
    let until_ms = ms(op.now.wall.plus(IDEMPOTENCY_TTL));
    let job = |job: &PushedJob| CallJob {
        id: job.id.raw(),
        duplicate: job.duplicate,
        state: job.state as u8,
        run_at_ms: ms(job.run_at),
    };
    let row = CallRow {
        fingerprint: call.fingerprint.to_vec(),
        until_ms,
        jobs: jobs.iter().map(job).collect(),
    };
    rows::put(op.tx, Table::Calls, &rows::tenant_key(tenant, &call.key), &row)?;
    op.tx.put(Table::Due, &Due::Call(tenant, call.key.to_vec()).key(until_ms), b"")?;
    op.calls(tenant, 1);
    op.due(until_ms);
    Ok(())
}

fn count_today(
    op: &mut Op<'_>,
    tenant: TenantId,
    jobs: &[PushedJob],
    allowance: Allowance,
) -> Result<(), Error> {
    let new = jobs.iter().filter(|job| !job.duplicate).count() as u64;
    let day = op.now_ms() / DAY_MS;
    let used = match op.memory.tenant(tenant).map(|state| state.today) {
        Some((today, used)) if today == day => used,
        _ => 0,
    };
    if let Allowance::AtMost(most) = allowance {
        if most < used.saturating_add(new) {
            let next_day = Duration::from_millis(DAY_MS - op.now_ms() % DAY_MS);
            let retry_after = Some(next_day);
            return Err(Error::Quota { quota: Quota::JobsPerDay, limit: most, used, retry_after });
        }
        // Only for those whom it is limited: others have no row to pay for.
        let row = rows::DayRow { day, jobs: used + new };
        rows::put_plain(op.tx, Table::Meta, &rows::day_key(tenant), &row)?;
    }
    op.today(tenant, (day, used + new));
    Ok(())
}

/// The queue, made if it may be.
pub(super) fn queue_or_new(
    op: &mut Op<'_>,
    tenant: TenantId,
    name: &QueueName,
    allowance: Allowance,
) -> Result<Qid, Error> {
    if let Some(qid) = op.memory.qid(tenant, name) {
        return Ok(qid);
    }
    let used = op.memory.tenant(tenant).map_or(0, |state| state.queues.len() as u64);
    let bound = crate::base::limits::TENANT_QUEUES_MAX as u64;
    let limit = match allowance {
        Allowance::AtMost(most) => most.min(bound),
        Allowance::Unlimited => bound,
    };
    if limit <= used {
        return Err(Error::Quota { quota: Quota::Queues, limit, used, retry_after: None });
    }
    if !op.memory.has_room_for_queue() {
        return Err(Error::TooManyQueues);
    }
    Ok(op.ensure(tenant, name))
}

fn push_one(
    op: &mut Op<'_>,
    tenant: TenantId,
    spec: Spec,
    quotas: &Quotas,
) -> Result<PushedJob, Error> {
    let qid = queue_or_new(op, tenant, &spec.queue, quotas.queues)?;
    if let Some(unique) = &spec.unique
        && let Some(holder) = holder(op, tenant, spec.queue.as_str(), &unique.key)?
    {
        let (state, run_at) = super::view::standing(op.tx, op.memory, (tenant, holder))?
            .unwrap_or((State::Done, op.now.wall));
        return Ok(PushedJob { id: holder, duplicate: true, state, run_at });
    }
    judge_room(op, tenant, qid, quotas.waiting)?;
    insert(op, tenant, qid, spec)
}

fn judge_room(op: &Op<'_>, tenant: TenantId, qid: Qid, waiting: Allowance) -> Result<(), Error> {
    let queue = op.memory.queue(qid);
    let len = queue.waiting() + queue.delayed;
    if let Some(max) = queue.settings.max_depth
        && max <= len
    {
        return Err(Error::QueueFull { queue: queue.name.clone(), len, max });
    }
    let used = op.memory.tenant(tenant).map_or(0, |state| state.waiting);
    match waiting {
        Allowance::AtMost(limit) if limit <= used => {
            let retry_after = Some(Duration::from_secs(10));
            Err(Error::Quota { quota: Quota::JobsWaiting, limit, used, retry_after })
        }
        Allowance::AtMost(_) | Allowance::Unlimited => Ok(()),
    }
}

/// Who has a unique key. What is over is removed.
pub(super) fn holder(
    op: &mut Op<'_>,
    tenant: TenantId,
    queue: &str,
    key: &str,
) -> Result<Option<JobId>, Error> {
    let row_key = rows::unique_key(tenant, queue, key);
    let Some(row) = rows::get_plain::<UniqueRow>(op.tx, Table::Unique, &row_key)? else {
        return Ok(None);
    };
    if row.until_ms.is_none_or(|until| op.now_ms() < until) {
        return Ok(Some(JobId::from_raw(row.job)));
    }
    op.tx.delete(Table::Unique, &row_key)?;
    if let Some(until) = row.until_ms {
        let due = Due::Unique(tenant, queue.to_owned(), key.to_owned());
        op.tx.delete(Table::Due, &due.key(until))?;
    }
    Ok(None)
}

/// Notes that a job has a key. Nobody else has it.
pub(super) fn hold(
    op: &mut Op<'_>,
    tenant: TenantId,
    queue: &str,
    (unique, id): (&UniqueOfJob, JobId),
) -> Result<(), Error> {
    let until_ms = unique.ttl_ms.map(|ttl| op.now_ms().saturating_add(ttl));
    let row = UniqueRow { job: id.raw(), until_ms };
    let key = rows::unique_key(tenant, queue, &unique.key);
    rows::put_plain(op.tx, Table::Unique, &key, &row)?;
    if let Some(until) = until_ms {
        let due = Due::Unique(tenant, queue.to_owned(), unique.key.clone());
        op.tx.put(Table::Due, &due.key(until), b"")?;
        op.due(until);
    }
    Ok(())
}

/// Lets go of a job's key, if it still has it.
pub(super) fn let_go(
    op: &mut Op<'_>,
    tenant: TenantId,
    queue: &str,
    (key, id): (&str, JobId),
) -> Result<(), Error> {
    let row_key = rows::unique_key(tenant, queue, key);
    let row = rows::get_plain::<UniqueRow>(op.tx, Table::Unique, &row_key)?;
    let Some(row) = row.filter(|row| row.job == id.raw()) else {
        return Ok(());
    };
    op.tx.delete(Table::Unique, &row_key)?;
    if let Some(until) = row.until_ms {
        let due = Due::Unique(tenant, queue.to_owned(), key.to_owned());
        op.tx.delete(Table::Due, &due.key(until))?;
    }
    Ok(())
}

/// Writes a new job; whoever pushes it has judged that there is room.
pub(super) fn insert(
    op: &mut Op<'_>,
    tenant: TenantId,
    qid: Qid,
    spec: Spec,
) -> Result<PushedJob, Error> {
    let id = op.next_id()?;
    let now_ms = op.now_ms();
    let run_at = match spec.when {
        When::Now => op.now.wall,
        When::After(delay) => op.now.wall.plus(delay),
        When::At(moment) => moment.max(op.now.wall),
    };
    let row = job_row(op, qid, spec, ms(run_at));
    let prefix = rows::job_prefix(tenant, id);
    rows::put(op.tx, Table::Jobs, &prefix, &row)?;
    if let Some(unique) = &row.unique {
        hold(op, tenant, &row.queue, (unique, id))?;
    }
    op.note_pushed(qid, &row.job_type, 1);
    let state = if now_ms < row.run_at_ms {
        delay(op, (tenant, id), (qid, &row.queue), row.run_at_ms)?;
        State::Delayed
    } else {
        make_ready(op, (tenant, id), qid, &Readied::of(&row, row.run_at_ms, false))?;
        State::Waiting
    };
    Ok(PushedJob { id, duplicate: false, state, run_at })
}

fn job_row(op: &Op<'_>, qid: Qid, spec: Spec, run_at_ms: u64) -> JobRow {
    let queue = op.memory.queue(qid);
    // What somebody said of this job, then of its type, then of its queue.
    let rules = match op.memory.types.get(&spec.job_type) {
        Some(of_type) => spec.rules.or(of_type),
        None => spec.rules,
    };
    let rules = rules.or(&queue.settings.rules);
    let Rules { max_tries, max_crashes, timeout, backoff } = rules;
    JobRow {
        queue: spec.queue.as_str().to_owned(),
        job_type: spec.job_type,
        band: spec.band as u8,
        created_at_ms: op.now_ms(),
        run_at_ms,
        max_tries: max_tries.unwrap_or(JOB_TRIES_DEFAULT),
        max_crashes: max_crashes.unwrap_or(JOB_CRASHES_DEFAULT),
        timeout_ms: length_ms(timeout.unwrap_or(JOB_TIMEOUT_DEFAULT)),
        backoff: BackoffRow::of(&backoff.unwrap_or_default()),
        unique: spec.unique.as_ref().map(UniqueOfJob::of),
        tags: spec.tags,
        result_ttl_ms: length_ms(spec.result_ttl.unwrap_or(JOB_RESULT_TTL_DEFAULT)),
        on_failed: spec.on_failed.as_deref().map(FollowupRow::of),
        payload: PayloadRow { content_type: spec.payload.content_type, bytes: spec.payload.bytes },
    }
}

impl UniqueOfJob {
    pub(super) fn of(unique: &Unique) -> UniqueOfJob {
        UniqueOfJob {
            key: unique.key.clone(),
            until: unique.until as u8,
            ttl_ms: unique.ttl.map(length_ms),
        }
    }

    pub(super) fn until(&self) -> Until {
        match self.until {
            0 => Until::Started,
            1 => Until::Done,
            _ => Until::Ttl,
        }
    }
}

impl PayloadRow {
    pub(super) fn of(payload: &Payload) -> PayloadRow {
        PayloadRow { content_type: payload.content_type.clone(), bytes: payload.bytes.clone() }
    }

    pub(super) fn payload(self) -> Payload {
        Payload { content_type: self.content_type, bytes: self.bytes }
    }
}

impl FollowupRow {
    pub(super) fn of(followup: &Followup) -> FollowupRow {
        FollowupRow {
            queue: followup.queue.as_str().to_owned(),
            job_type: followup.job_type.clone(),
            payload: PayloadRow::of(&followup.payload),
        }
    }
}

impl JobRow {
    /// Its band.
    pub(super) fn band(&self) -> Band {
        Band::ALL.get(usize::from(self.band)).copied().unwrap_or_default()
    }

    /// What it carries, in bytes.
    pub(super) fn weight(&self) -> usize {
        let followup = self.on_failed.as_ref().map_or(0, |followup| followup.payload.bytes.len());
        self.payload.bytes.len() + followup
    }

    /// Whether it may stand in more than one row.
    pub(super) fn is_long(&self) -> bool {
        rows::is_long(self.weight())
    }
}

/// What makes a job ready.
pub(super) struct Readied<'r> {
    pub(super) queue: &'r str,
    pub(super) job_type: &'r str,
    pub(super) band: Band,
    /// The moment from which its wait counts.
    pub(super) since_ms: u64,
    pub(super) has_course: bool,
}

impl<'r> Readied<'r> {
    /// A job that waits from then on.
    pub(super) fn of(row: &'r JobRow, since_ms: u64, has_course: bool) -> Readied<'r> {
        let band = row.band();
        Readied { queue: &row.queue, job_type: &row.job_type, band, since_ms, has_course }
    }

    /// Where it stands among those that may run.
    pub(super) fn order(&self) -> u64 {
        order(self.since_ms, self.band)
    }
}

/// Where a job stands among others: the moment by which it should have been served.
pub(super) fn order(since_ms: u64, band: Band) -> u64 {
    since_ms.saturating_add(length_ms(band.slack()))
}

/// Puts a job among those that may run.
pub(super) fn make_ready(
    op: &mut Op<'_>,
    (tenant, id): (TenantId, JobId),
    qid: Qid,
    readied: &Readied<'_>,
) -> Result<(), Error> {
    let lane = Lane::Band(readied.band as u8);
    let key = rows::ready_key(tenant, readied.queue, &lane, (readied.order(), id));
    let row = ReadyRow { has_course: readied.has_course, job_type: readied.job_type.to_owned() };
    op.tx.put(Table::Ready, &key, &row.write())?;
    op.count(qid, Counter::Ready(lane), 1);
    op.ready(qid, 1);
    Ok(())
}

/// Puts a job among those that wait for a moment.
pub(super) fn delay(
    op: &mut Op<'_>,
    (tenant, id): (TenantId, JobId),
    (qid, queue): (Qid, &str),
    until_ms: u64,
) -> Result<(), Error> {
    op.tx.put(Table::Due, &Due::Job(tenant, id).key(until_ms), queue.as_bytes())?;
    op.count(qid, Counter::Delayed, 1);
    op.due(until_ms);
    Ok(())
}

/// The token of a lease.
pub(super) fn token(id: JobId, fence: u64, secret: u64) -> LeaseToken {
    LeaseToken { job: id, fence, secret }
}
