//! Leasing: which job is next, and to whom it goes.
//!
//! Queues are looked through as they are listed. In a queue the job goes first that should have been served
//! first ([`super::push::order`]). Jobs whose type is throttled (see [`super::budget`]) are moved into a lane of
//! their own when they come up, with the place they had, so that they hold nobody up; they leave it as probes,
//! or in their turn when the type has recovered.

use std::sync::Arc;
use std::time::Duration;

use super::Error;
use super::budget::Admission;
use super::finish::Attempt;
use super::job::{LeaseToken, Payload};
use super::memory::{Counter, Op, Qid, Running};
use super::push::{Readied, let_go, token};
use super::rows::{
    self, CourseRow, Damaged, JobRow, Lane, LeaseRow, ProcessRow, ReadyKey, ReadyRow, Standing,
    damaged, length_ms,
};
use crate::base::id::{JobId, TenantId};
use crate::base::limits::{JOB_LEASE_DEFAULT, JOBS_RUNNING_MAX, LEASE_BYTES_MAX};
use crate::base::name::QueueName;
use crate::base::time::{Mono, Timestamp};
use crate::store::{Flow, KeyRange, Order, Read, Table};

/// Throttled jobs that one lease moves aside.
const PARK_MAX: usize = 200;

/// What a worker wants.
#[derive(Clone, Debug)]
pub struct Want {
    /// From where, the first that has something first.
    pub queues: Vec<QueueName>,
    /// How many at most.
    pub max: usize,
    /// How long it may be silent.
    pub lease: Option<Duration>,
    /// Who it is.
    pub worker: Option<Arc<str>>,
    /// Its process on this machine, if it is known: its number and when it began.
    pub process: Option<(u32, u64)>,
}

/// A job that somebody has now.
#[derive(Clone, Debug, PartialEq)]
pub struct Leased {
    /// The lease.
    pub token: LeaseToken,
    /// Where it came from.
    pub queue: QueueName,
    /// Its type.
    pub job_type: String,
    /// What it carries.
    pub payload: Payload,
    /// Starts, this one among them.
    pub attempt: u32,
    /// Errors so far.
    pub errors: u32,
    /// Crashes so far.
    pub crashes: u32,
    /// Errors after which it is given up.
    pub max_tries: u32,
    /// When the worker has to be heard of.
    pub until: Timestamp,
    /// When the attempt has to be over.
    pub deadline: Timestamp,
    /// How long an attempt may run.
    pub timeout: Duration,
    /// What it can be found by.
    pub tags: Vec<String>,
    /// What the attempt before noted.
    pub checkpoint: Option<Vec<u8>>,
}

/// What came of a lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// Jobs.
    pub jobs: Vec<Leased>,
    /// When it may be worth while to ask again though nothing new came: a rate or a budget lets more through.
    pub again_at: Option<Mono>,
}

/// A job that comes next.
struct Head {
    key: Vec<u8>,
    at: ReadyKey,
    row: ReadyRow,
    probe: bool,
}

/// Leases what may run.
pub fn lease(op: &mut Op<'_>, tenant: TenantId, want: &Want) -> Result<Taken, Error> {
    let mut round = Round {
        probed: Vec::new(),
        jobs: Vec::new(),
        bytes: 0,
        again_at: None,
        parked: 0,
        damaged: 0,
    };
    for name in &want.queues {
        if want.max <= round.jobs.len() || LEASE_BYTES_MAX <= round.bytes {
            break;
        }
        let Some(qid) = op.memory.qid(tenant, name) else {
            continue;
        };
        let now = op.now.mono;
        let queue = op.memory.queue_mut(qid);
        (queue.asked_at, queue.active_at) = (Some(now), now);
        if !queue.settings.paused && 0 < queue.waiting() {
            round.take_from(op, (tenant, qid), want)?;
        }
    }
    Ok(Taken { jobs: round.jobs, again_at: round.again_at })
}

struct Round {
    /// Types of which a probe goes along: the budget hears of it when all went well.
    probed: Vec<(Qid, String)>,
    jobs: Vec<Leased>,
    bytes: usize,
    again_at: Option<Mono>,
    parked: usize,
    damaged: usize,
}

impl Round {
    fn take_from(
        &mut self,
        op: &mut Op<'_>,
        (tenant, qid): (TenantId, Qid),
        want: &Want,
    ) -> Result<(), Error> {
        let left = (want.max - self.jobs.len()) as u64;
        let places = JOBS_RUNNING_MAX.saturating_sub(op.memory.running_len()) as u64;
        let wanted = left.min(op.memory.queue(qid).slots()).min(places);
        let allowed = op.take_tokens(qid, wanted);
        if allowed < wanted {
            self.wait_for_tokens(op, qid);
        }
        let mut taken = 0;
        while taken < allowed && self.bytes < LEASE_BYTES_MAX {
            let Some(head) = self.next(op, (tenant, qid))? else {
                break;
            };
            let Some(read) = readable(op, (tenant, qid), &head)? else {
                if self.damaged == PARK_MAX {
                    self.ask_again(op.now.mono);
                    break;
                }
                self.damaged += 1;
                continue;
            };
            if head.probe {
                self.probed.push((qid, head.row.job_type.clone()));
            }
            let leased = start(op, (tenant, qid), want, (head, read))?;
            self.bytes += leased.payload.bytes.len();
            self.jobs.push(leased);
            taken += 1;
        }
        op.return_tokens(qid, allowed - taken);
        Ok(())
    }

    fn wait_for_tokens(&mut self, op: &mut Op<'_>, qid: Qid) {
        let now = op.now.mono;
        if let Some(bucket) = &mut op.memory.queue_mut(qid).bucket {
            self.ask_again(bucket.next_at(now));
        }
    }

    fn ask_again(&mut self, at: Mono) {
        self.again_at = Some(self.again_at.map_or(at, |before| before.min(at)));
    }

    /// The job that comes next in a queue. Throttled ones that come up are moved aside.
    fn next(
        &mut self,
        op: &mut Op<'_>,
        (tenant, qid): (TenantId, Qid),
    ) -> Result<Option<Head>, Error> {
        loop {
            let Some(head) = self.first(op, (tenant, qid))? else {
                return Ok(None);
            };
            let Lane::Band(_) = head.at.lane else {
                return Ok(Some(head));
            };
            match self.admission(op, qid, &head.row.job_type) {
                Admission::Free => return Ok(Some(head)),
                Admission::Probe => return Ok(Some(Head { probe: true, ..head })),
                Admission::NotBefore(at) => {
                    self.ask_again(at);
                    if self.parked == PARK_MAX {
                        // The rest is looked at by the next one who asks, which may be at once.
                        self.ask_again(op.now.mono);
                        return Ok(None);
                    }
                    self.parked += 1;
                    park(op, (tenant, qid), head)?;
                }
            }
        }
    }

    fn admission(&self, op: &Op<'_>, qid: Qid, job_type: &str) -> Admission {
        let Some(budget) = op.memory.queue(qid).budget(job_type) else {
            return Admission::Free;
        };
        let now = op.now.mono;
        if self.probed.iter().any(|(queue, probed)| *queue == qid && probed == job_type) {
            let mut budget = budget.clone();
            budget.took_probe(now);
            return budget.admits(now);
        }
        budget.admits(now)
    }

    /// The first of all lanes from which something may be taken.
    fn first(
        &mut self,
        op: &Op<'_>,
        (tenant, qid): (TenantId, Qid),
    ) -> Result<Option<Head>, Error> {
        let queue = op.memory.queue(qid);
        let bands = (0_u8..).zip(queue.ready).filter(|(_, jobs)| 0 < *jobs);
        let mut lanes: Vec<(Lane, bool)> =
            bands.map(|(band, _)| (Lane::Band(band), false)).collect();
        for job_type in queue.parked.keys() {
            let lane = Lane::Parked(job_type.clone());
            match self.admission(op, qid, job_type) {
                Admission::Free => lanes.push((lane, false)),
                Admission::Probe => lanes.push((lane, true)),
                Admission::NotBefore(at) => self.ask_again(at),
            }
        }
        let mut first: Option<Head> = None;
        for (lane, probe) in lanes {
            let head = head_of(op.tx, (tenant, queue.name.as_str()), &lane, probe)?;
            let head = head.ok_or_else(|| {
                damaged(Table::Ready)(Damaged::Dangling("a lane has fewer jobs than were counted"))
            })?;
            let place = |head: &Head| (head.at.order, head.at.id);
            if first.as_ref().is_none_or(|first| place(&head) < place(first)) {
                first = Some(head);
            }
        }
        Ok(first)
    }
}

fn head_of(
    view: &(impl Read + ?Sized),
    (tenant, queue): (TenantId, &str),
    lane: &Lane,
    probe: bool,
) -> Result<Option<Head>, Error> {
    let range = KeyRange::prefix(&rows::lane_prefix(tenant, queue, lane));
    let mut found = None;
    view.scan(Table::Ready, &range, Order::Forward, &mut |key, value| {
        found = Some((key.to_vec(), value.to_vec()));
        Flow::Stop
    })?;
    let Some((key, value)) = found else {
        return Ok(None);
    };
    let (at, row) = (ReadyKey::read(&key)?, ReadyRow::read(&value)?);
    Ok(Some(Head { key, at, row, probe }))
}

/// Moves a job into the lane of its type, with the place it had.
fn park(op: &mut Op<'_>, (tenant, qid): (TenantId, Qid), head: Head) -> Result<(), Error> {
    let Head { key, at, row, .. } = head;
    let lane = Lane::Parked(row.job_type.clone());
    op.tx.delete(Table::Ready, &key)?;
    let parked = rows::ready_key(tenant, &at.queue, &lane, (at.order, at.id));
    op.tx.put(Table::Ready, &parked, &row.write())?;
    op.count(qid, Counter::Ready(at.lane), -1);
    op.count(qid, Counter::Ready(lane), 1);
    Ok(())
}

/// The job with this id.
pub(super) fn job_row(
    view: &(impl Read + ?Sized),
    (tenant, id): (TenantId, JobId),
) -> Result<JobRow, Error> {
    let row = rows::get::<JobRow>(view, Table::Jobs, &rows::job_prefix(tenant, id))?;
    let missing = || damaged(Table::Jobs)(Damaged::Dangling("a job has no row of its own"));
    Ok(row.ok_or_else(missing)?)
}

/// What has become of a job, if there is more to say than that it waits for the first time.
pub(super) fn course_row(
    view: &(impl Read + ?Sized),
    (tenant, id): (TenantId, JobId),
) -> Result<Option<CourseRow>, Error> {
    Ok(rows::get(view, Table::Courses, &rows::job_prefix(tenant, id))?)
}

/// The moment since which a job that may run has waited.
pub(super) fn since_ms(job: &JobRow, course: Option<&CourseRow>) -> u64 {
    match course.map(|course| course.standing) {
        Some(Standing::Waiting { since_ms }) => since_ms,
        Some(Standing::Delayed { until_ms }) => until_ms,
        Some(Standing::Failed { .. }) | None => job.run_at_ms,
    }
}

/// Takes a job out of its lane; nothing when its rows are damaged. Such a one cannot run and must not hold up
/// those behind it: it leaves the lane, and stays as it is for who looks into it.
fn readable(
    op: &mut Op<'_>,
    (tenant, qid): (TenantId, Qid),
    head: &Head,
) -> Result<Option<(JobRow, Option<CourseRow>)>, Error> {
    op.tx.delete(Table::Ready, &head.key)?;
    op.count(qid, Counter::Ready(head.at.lane.clone()), -1);
    let key = (tenant, head.at.id);
    let read = job_row(op.tx, key).and_then(|job| {
        let course = if head.row.has_course { course_row(op.tx, key)? } else { None };
        Ok((job, course))
    });
    super::tick::readable(read)
}

fn start(
    op: &mut Op<'_>,
    (tenant, qid): (TenantId, Qid),
    want: &Want,
    (head, (job, course)): (Head, (JobRow, Option<CourseRow>)),
) -> Result<Leased, Error> {
    let id = head.at.id;
    if let Some(unique) = &job.unique
        && unique.until() == super::job::Until::Started
    {
        let_go(op, tenant, &job.queue, (&unique.key, id))?;
    }
    let row = lease_row(op, want, &job, course.as_ref())?;
    let prefix = rows::job_prefix(tenant, id);
    rows::put(op.tx, Table::Leases, &prefix, &row)?;
    let lease = Duration::from_millis(row.lease_ms);
    let timeout = Duration::from_millis(job.timeout_ms);
    let running = Running {
        queue: qid,
        fence: row.fence,
        until: op.now.mono.plus(lease),
        timeout: op.now.mono.plus(timeout),
        worker: want.worker.clone(),
        process: want.process,
        grace: false,
    };
    op.start((tenant, id), running);
    op.count(qid, Counter::Running, 1);
    let waited = Duration::from_millis(row.started_at_ms.saturating_sub(row.ready_at_ms));
    op.note_started(qid, &row.job_type, waited, head.probe);
    let queue = op.memory.queue(qid).name.clone();
    Ok(Leased {
        token: token(id, row.fence, row.secret),
        queue,
        job_type: job.job_type,
        payload: job.payload.payload(),
        attempt: row.attempt,
        errors: row.errors,
        crashes: row.crashes,
        max_tries: job.max_tries,
        until: rows::at(row.until_ms),
        deadline: rows::at(row.timeout_at_ms),
        timeout,
        tags: job.tags,
        checkpoint: course.and_then(|course| course.checkpoint),
    })
}

fn lease_row(
    op: &mut Op<'_>,
    want: &Want,
    job: &JobRow,
    course: Option<&CourseRow>,
) -> Result<LeaseRow, Error> {
    let now_ms = op.now_ms();
    let lease_ms = length_ms(want.lease.unwrap_or(JOB_LEASE_DEFAULT)).min(job.timeout_ms);
    let process = want.process.map(|(pid, started)| ProcessRow { pid, started });
    Ok(LeaseRow {
        fence: op.next_fence()?,
        secret: (op.draw)(),
        queue: job.queue.clone(),
        job_type: job.job_type.clone(),
        worker: want.worker.as_deref().map(str::to_owned),
        process,
        attempt: course.map_or(0, |course| course.attempt).saturating_add(1),
        errors: course.map_or(0, |course| course.errors),
        crashes: course.map_or(0, |course| course.crashes),
        ready_at_ms: since_ms(job, course),
        started_at_ms: now_ms,
        lease_ms,
        until_ms: now_ms.saturating_add(lease_ms),
        timeout_at_ms: now_ms.saturating_add(job.timeout_ms),
        progress: None,
        cancel: false,
        has_course: course.is_some(),
    })
}

/// The row of a lease, if it is this one.
pub(super) fn lease_of(
    view: &(impl Read + ?Sized),
    tenant: TenantId,
    lease: LeaseToken,
) -> Result<Option<LeaseRow>, Error> {
    let row = rows::get::<LeaseRow>(view, Table::Leases, &rows::job_prefix(tenant, lease.job))?;
    Ok(row.filter(|row| row.fence == lease.fence && row.secret == lease.secret))
}

/// Gives jobs back that nobody has seen: as if they had never been leased.
pub fn give_back(op: &mut Op<'_>, tenant: TenantId, leases: &[LeaseToken]) -> Result<(), Error> {
    for lease in leases {
        let Some(row) = lease_of(op.tx, tenant, *lease)? else {
            continue;
        };
        let key = (tenant, lease.job);
        if row.cancel {
            Attempt::of(op, key, row)?.cancelled(op)?;
            continue;
        }
        let job = job_row(op.tx, key)?;
        // A checkpoint can only have been noted by somebody who has seen it.
        let qid = op.memory.running(key).map(|running| running.queue);
        let qid = qid.expect("BUG: a lease in the file is in memory");
        stop_running(op, key, qid)?;
        if let Some(unique) = &job.unique
            && unique.until() == super::job::Until::Started
            && super::push::holder(op, tenant, &job.queue, &unique.key)?.is_none()
        {
            super::push::hold(op, tenant, &job.queue, (unique, lease.job))?;
        }
        let readied = Readied::of(&job, row.ready_at_ms, row.has_course);
        super::push::make_ready(op, key, qid, &readied)?;
    }
    Ok(())
}

/// Ends a lease in the file and in memory; what becomes of the job is for the caller.
pub(super) fn stop_running(
    op: &mut Op<'_>,
    (tenant, id): (TenantId, JobId),
    qid: Qid,
) -> Result<(), Error> {
    rows::delete(op.tx, Table::Leases, &rows::job_prefix(tenant, id), false)?;
    op.stop((tenant, id));
    op.count(qid, Counter::Running, -1);
    let queue = op.memory.queue(qid);
    if queue.settings.concurrency.is_some() && 0 < queue.waiting() {
        op.ready(qid, 1);
    }
    Ok(())
}

/// A worker is heard of: its leases are good for longer.
#[derive(Clone, Debug, PartialEq)]
pub struct Extension {
    /// For how long from now on; as long as the lease was without.
    pub by: Option<Duration>,
    /// How far it has come, from 0 to 1.
    pub progress: Option<f64>,
    /// What the next attempt should know, as JSON text.
    pub checkpoint: Option<Vec<u8>>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    /// When the worker has to be heard of next.
    pub until: Timestamp,
    /// Whether nobody wants the job any more.
    pub cancel: bool,
}

/// Extends a lease; nothing when it is not one any more.
pub fn extend(
    op: &mut Op<'_>,
    tenant: TenantId,
    lease: LeaseToken,
    extension: &Extension,
) -> Result<Option<Extended>, Error> {
    let Some(mut row) = lease_of(op.tx, tenant, lease)? else {
        return Ok(None);
    };
    let key = (tenant, lease.job);
    let now_ms = op.now_ms();
    let by_ms = extension.by.map_or(row.lease_ms, length_ms);
    row.until_ms = now_ms.saturating_add(by_ms).min(row.timeout_at_ms);
    if let Some(progress) = extension.progress {
        row.progress = Some(progress);
    }
    if let Some(checkpoint) = &extension.checkpoint {
        let job = job_row(op.tx, key)?;
        let course = course_row(op.tx, key)?;
        let mut course = course.unwrap_or_else(|| CourseRow::new(&job));
        course.checkpoint = Some(checkpoint.clone());
        rows::replace(op.tx, Table::Courses, &rows::job_prefix(tenant, lease.job), &course)?;
        row.has_course = true;
    }
    rows::put(op.tx, Table::Leases, &rows::job_prefix(tenant, lease.job), &row)?;
    let mut running =
        op.memory.running(key).cloned().expect("BUG: a lease in the file is in memory");
    running.until = op.now.mono.plus(Duration::from_millis(by_ms)).min(running.timeout);
    running.grace = false;
    op.start(key, running);
    Ok(Some(Extended { until: rows::at(row.until_ms), cancel: row.cancel }))
}

/// What a beat did to the leases of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Jobs that nobody wants any more.
    pub cancel: Vec<JobId>,
    /// Leases that are none any more.
    pub lost: Vec<LeaseToken>,
}

/// Renews these leases, or all that a worker has.
pub fn renew(
    op: &mut Op<'_>,
    tenant: TenantId,
    worker: &str,
    leases: Option<&[LeaseToken]>,
    by: Option<Duration>,
) -> Result<Renewed, Error> {
    let all;
    let leases = if let Some(leases) = leases {
        leases
    } else {
        all = leases_of(op, tenant, worker)?;
        &all
    };
    let mut renewed = Renewed::default();
    let extension = Extension { by, progress: None, checkpoint: None };
    for lease in leases {
        match extend(op, tenant, *lease, &extension)? {
            Some(extended) if extended.cancel => renewed.cancel.push(lease.job),
            Some(_) => {}
            None => renewed.lost.push(*lease),
        }
    }
    Ok(renewed)
}

/// The leases that a worker has.
pub(super) fn leases_of(
    op: &Op<'_>,
    tenant: TenantId,
    worker: &str,
) -> Result<Vec<LeaseToken>, Error> {
    let mut leases = Vec::new();
    for id in op.memory.jobs_of(tenant, worker) {
        let row = rows::get::<LeaseRow>(op.tx, Table::Leases, &rows::job_prefix(tenant, id))?;
        leases.extend(row.map(|row| token(id, row.fence, row.secret)));
    }
    Ok(leases)
}

/// Notes on the leases of a worker which process has them, so that its end is noticed.
pub fn pin(
    op: &mut Op<'_>,
    tenant: TenantId,
    worker: &str,
    (pid, started): (u32, u64),
) -> Result<(), Error> {
    op.store_boot()?;
    for lease in leases_of(op, tenant, worker)? {
        let key = (tenant, lease.job);
        let Some(mut row) = lease_of(op.tx, tenant, lease)? else {
            continue;
        };
        row.process = Some(ProcessRow { pid, started });
        rows::put(op.tx, Table::Leases, &rows::job_prefix(tenant, lease.job), &row)?;
        let mut running =
            op.memory.running(key).cloned().expect("BUG: a lease in the file is in memory");
        running.process = Some((pid, started));
        op.start(key, running);
    }
    Ok(())
}
