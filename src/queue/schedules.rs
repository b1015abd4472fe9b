//! Schedules: what is pushed at moments of the calendar, once for each moment.
//!
//! **Invariant**: the push, the note that the moment was dealt with, and the next moment are one operation. So a
//! moment pushes once, also across restarts and kills.
//!
//! A moment that is dealt with more than [`LATE`] after it came was missed: `catch_up` says what becomes of it, and
//! of those that came since. Moments that are dealt with together, none of them missed, push one by one.

use std::time::Duration;

use super::Error;
use super::calendar::{Every, Plan, Zone, jitter};
use super::cron::Cron;
use super::job::{DEFAULT_TYPE, Followup, Rules, Spec, Unique, When};
use super::memory::Op;
use super::push;
use super::rows::{
    self, BackoffRow, Due, FollowupRow, PayloadRow, RowError, ScheduleRow, TemplateRow,
    UniqueOfJob, length_ms, ms,
};
use crate::base::id::{JobId, TenantId};
use crate::base::limits::{SCHEDULE_CATCH_UP_MAX, SCHEDULES_MAX, TENANT_SCHEDULES_MAX};
use crate::base::name::{QueueName, ScheduleName};
use crate::base::quota::Allowance;
use crate::base::time::Timestamp;
use crate::store::{Flow, KeyRange, Order, Read, Table};

/// What is later than this was missed.
const LATE: Duration = Duration::from_mins(1);

/// What happens at a moment when the job of the moment before is not over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// Nothing.
    #[default]
    Skip = 0,
    /// Another one is pushed.
    Queue = 1,
}

/// What becomes of missed moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// Nothing.
    None = 0,
    /// One job for all of them.
    #[default]
    One = 1,
    /// One job for each, the newest hundred.
    All = 2,
}

/// A schedule that is wanted. What it says was checked.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The cron line, as text and read.
    pub cron: Option<(String, Cron)>,
    /// Or how often.
    pub every: Option<Duration>,
    /// In which time zone.
    pub timezone: (String, Zone),
    /// When the job before is not over.
    pub overlap: Overlap,
    /// When moments were missed.
    pub catch_up: CatchUp,
    /// Pushed up to so much later, by chance but always the same.
    pub jitter: Duration,
    /// What is pushed. Its moment is a delay from then on.
    pub job: Spec,
}

/// A schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// The cron line.
    pub cron: Option<String>,
    /// Or how often.
    pub every: Option<Duration>,
    /// In which time zone.
    pub timezone: String,
    /// See [`Wanted::overlap`].
    pub overlap: Overlap,
    /// See [`Wanted::catch_up`].
    pub catch_up: CatchUp,
    /// See [`Wanted::jitter`].
    pub jitter: Duration,
    /// What is pushed.
    pub job: Spec,
    /// Since when it is there.
    pub created_at: Timestamp,
    /// When it pushes next.
    pub next_at: Option<Timestamp>,
    /// What it pushed last.
    pub last_job: Option<JobId>,
    /// And when.
    pub last_pushed_at: Option<Timestamp>,
    /// Why the last moment pushed nothing.
    pub last_skipped: Option<String>,
}

fn key_of(tenant: TenantId, name: &str) -> Vec<u8> {
    rows::named_key(tenant, name)
}

/// Sets a schedule; whether it is new.
pub fn put(
    op: &mut Op<'_>,
    tenant: TenantId,
    (name, wanted): (&ScheduleName, &Wanted),
    queues: Allowance,
) -> Result<bool, Error> {
    let key = key_of(tenant, name.as_str());
    let before = rows::get::<ScheduleRow>(op.tx, Table::Schedules, &key)?;
    let new = before.is_none();
    let its = op.memory.tenant(tenant).map_or(0, |state| state.schedules);
    if new && (TENANT_SCHEDULES_MAX <= its || SCHEDULES_MAX <= op.memory.schedules) {
        return Err(Error::TooManySchedules);
    }
    // Where it pushes is there from now on, so that no quota stands in its way later.
    push::queue_or_new(op, tenant, &wanted.job.queue, queues)?;
    if let Some(before) = &before {
        forget_moment(op, tenant, name.as_str(), before)?;
    }
    let same = before.as_ref().filter(|before| {
        before.cron.as_deref() == wanted.cron.as_ref().map(|(text, _)| text.as_str())
            && before.every_ms == wanted.every.map(length_ms)
            && before.timezone == wanted.timezone.0
    });
    let mut row = ScheduleRow {
        cron: wanted.cron.as_ref().map(|(text, _)| text.clone()),
        every_ms: wanted.every.map(length_ms),
        timezone: wanted.timezone.0.clone(),
        overlap: wanted.overlap as u8,
        catch_up: wanted.catch_up as u8,
        jitter_ms: length_ms(wanted.jitter),
        created_at_ms: before.as_ref().map_or(op.now_ms(), |before| before.created_at_ms),
        // Another plan begins now; the same one goes on, so that setting it again misses nothing.
        handled_ms: same.map_or(op.now_ms(), |before| before.handled_ms),
        next_ms: None,
        fires_at_ms: None,
        last_job: before.as_ref().and_then(|before| before.last_job),
        last_pushed_at_ms: before.as_ref().and_then(|before| before.last_pushed_at_ms),
        last_skipped: None,
        job: TemplateRow::of(&wanted.job),
    };
    plan_next(op, tenant, name.as_str(), &mut row)?;
    rows::replace(op.tx, Table::Schedules, &key, &row)?;
    if new {
        op.schedules(tenant, 1);
    }
    Ok(new)
}

/// Removes a schedule; whether it was there.
pub fn delete(op: &mut Op<'_>, tenant: TenantId, name: &ScheduleName) -> Result<bool, Error> {
    let key = key_of(tenant, name.as_str());
    let Some(row) = rows::get::<ScheduleRow>(op.tx, Table::Schedules, &key)? else {
        return Ok(false);
    };
    forget_moment(op, tenant, name.as_str(), &row)?;
    rows::delete(op.tx, Table::Schedules, &key, true)?;
    op.schedules(tenant, -1);
    Ok(true)
}

fn forget_moment(
    op: &mut Op<'_>,
    tenant: TenantId,
    name: &str,
    row: &ScheduleRow,
) -> Result<(), Error> {
    if let Some(at) = row.fires_at_ms {
        op.tx.delete(Table::Due, &Due::Schedule(tenant, name.to_owned()).key(at))?;
    }
    Ok(())
}

fn plan_of(row: &ScheduleRow) -> Option<Plan> {
    if let Some(every) = row.every_ms {
        return Some(Plan::Every(Every::new(Duration::from_millis(every)).ok()?));
    }
    let cron = Cron::parse(row.cron.as_deref()?).ok()?;
    Some(Plan::Cron(cron, Zone::parse(&row.timezone).ok()?))
}

/// Finds the next moment after those that were dealt with, and notes it.
fn plan_next(
    op: &mut Op<'_>,
    tenant: TenantId,
    name: &str,
    row: &mut ScheduleRow,
) -> Result<(), Error> {
    let next = plan_of(row).and_then(|plan| plan.next_after(rows::at(row.handled_ms)));
    row.next_ms = next.map(ms);
    row.fires_at_ms = next.map(|next| {
        let late = jitter(tenant, name, next, Duration::from_millis(row.jitter_ms));
        ms(next.plus(late))
    });
    if let Some(at) = row.fires_at_ms {
        op.tx.put(Table::Due, &Due::Schedule(tenant, name.to_owned()).key(at), b"")?;
        op.due(at);
    }
    Ok(())
}

/// The moment of a schedule has come. Its row in Due was taken away. How many bytes were pushed.
pub(super) fn fire(op: &mut Op<'_>, tenant: TenantId, name: &str) -> Result<usize, Error> {
    let key = key_of(tenant, name);
    let row = rows::get::<ScheduleRow>(op.tx, Table::Schedules, &key).map_err(Error::from);
    let Some(Some(mut row)) = super::tick::readable(row)? else {
        return Ok(0);
    };
    if row.fires_at_ms.is_none_or(|at| op.now_ms() < at) {
        return Ok(0);
    }
    let jobs = moments(op, &mut row);
    row.last_skipped = None;
    for _ in 0..jobs {
        if row.overlap == Overlap::Skip as u8 && is_live(op, tenant, row.last_job)? {
            row.last_skipped = Some("the job before is not over".to_owned());
            break;
        }
        push_job(op, tenant, &mut row)?;
    }
    plan_next(op, tenant, name, &mut row)?;
    rows::replace(op.tx, Table::Schedules, &key, &row)?;
    // The row itself holds what is pushed.
    Ok((jobs + 1) * row.job.weight())
}

/// How many jobs the moments that have come are worth; they count as dealt with.
fn moments(op: &Op<'_>, row: &mut ScheduleRow) -> usize {
    let Some(plan) = plan_of(row) else {
        return 0;
    };
    // A moment counts from its jitter on.
    let now = op.now.wall;
    let until =
        now.minus(Duration::from_millis(row.jitter_ms)).max(rows::at(row.next_ms.unwrap_or(0)));
    let due = plan.due_between(rows::at(row.handled_ms), until, SCHEDULE_CATCH_UP_MAX);
    let Some(last) = due.last else {
        return 0;
    };
    row.handled_ms = ms(last);
    let late = LATE + Duration::from_millis(row.jitter_ms);
    let on_time = |moment: Timestamp| now.since(moment) <= late;
    if due.first.is_none_or(on_time) {
        // Nothing was missed: each moment has its push, also when two are dealt with at once.
        return due.moments.len();
    }
    match row.catch_up {
        0 => usize::from(on_time(last)),
        1 => 1,
        _ => due.moments.len(),
    }
}

fn is_live(op: &Op<'_>, tenant: TenantId, job: Option<u64>) -> Result<bool, Error> {
    let Some(job) = job else {
        return Ok(false);
    };
    let standing = super::view::standing(op.tx, op.memory, (tenant, JobId::from_raw(job)));
    // What cannot be read is never over; it must not hold up the schedule, let alone all else that is due.
    let standing = super::tick::readable(standing)?.flatten();
    Ok(standing.is_some_and(|(state, _)| !state.is_finished()))
}

fn push_job(op: &mut Op<'_>, tenant: TenantId, row: &mut ScheduleRow) -> Result<(), Error> {
    let Some(spec) = row.job.spec() else {
        return Ok(());
    };
    let unlimited = push::Quotas::UNLIMITED;
    match push::push(op, tenant, vec![spec], None, &unlimited) {
        Ok(pushed) => {
            let job = pushed.jobs.first().expect("BUG: one was pushed");
            row.last_job = Some(job.id.raw());
            row.last_pushed_at_ms = Some(op.now_ms());
        }
        Err(Error::Row(error @ RowError::Store(_))) => return Err(error.into()),
        // What refuses one push must not stop the schedule, let alone all else that is due.
        Err(refused) => row.last_skipped = Some(refused.to_string()),
    }
    Ok(())
}

impl TemplateRow {
    fn weight(&self) -> usize {
        let followup = self.on_failed.as_ref().map_or(0, |followup| followup.payload.bytes.len());
        self.payload.bytes.len() + followup
    }

    pub(super) fn of(spec: &Spec) -> TemplateRow {
        let delay = match spec.when {
            When::After(delay) => delay,
            When::Now | When::At(_) => Duration::ZERO,
        };
        TemplateRow {
            queue: spec.queue.as_str().to_owned(),
            job_type: spec.job_type.clone(),
            band: spec.band as u8,
            delay_ms: length_ms(delay),
            max_tries: spec.rules.max_tries,
            max_crashes: spec.rules.max_crashes,
            timeout_ms: spec.rules.timeout.map(length_ms),
            backoff: spec.rules.backoff.as_ref().map(BackoffRow::of),
            unique: spec.unique.as_ref().map(UniqueOfJob::of),
            tags: spec.tags.clone(),
            result_ttl_ms: spec.result_ttl.map(length_ms),
            on_failed: spec.on_failed.as_deref().map(FollowupRow::of),
            payload: PayloadRow::of(&spec.payload),
        }
    }

    fn spec(&self) -> Option<Spec> {
        let queue = QueueName::parse(&self.queue).ok()?;
        let payload = |row: &PayloadRow| row.clone().payload();
        let length = Duration::from_millis;
        let unique = |unique: &UniqueOfJob| Unique {
            key: unique.key.clone(),
            until: unique.until(),
            ttl: unique.ttl_ms.map(length),
        };
        let followup = |row: &FollowupRow| {
            let queue = QueueName::parse(&row.queue).ok()?;
            let job_type = row.job_type.clone();
            Some(Box::new(Followup { queue, job_type, payload: payload(&row.payload) }))
        };
        let band = super::job::Band::ALL.get(usize::from(self.band)).copied();
        let job_type = self.job_type.as_str();
        Some(Spec {
            queue,
            job_type: if job_type.is_empty() { DEFAULT_TYPE } else { job_type }.to_owned(),
            payload: payload(&self.payload),
            when: if self.delay_ms == 0 { When::Now } else { When::After(length(self.delay_ms)) },
            band: band.unwrap_or_default(),
            rules: Rules {
                max_tries: self.max_tries,
                max_crashes: self.max_crashes,
                timeout: self.timeout_ms.map(length),
                backoff: self.backoff.as_ref().map(BackoffRow::backoff),
            },
            unique: self.unique.as_ref().map(unique),
            tags: self.tags.clone(),
            result_ttl: self.result_ttl_ms.map(length),
            on_failed: self.on_failed.as_ref().and_then(followup),
        })
    }
}

fn told(name: &str, row: &ScheduleRow) -> Option<Schedule> {
    Some(Schedule {
        name: name.to_owned(),
        cron: row.cron.clone(),
        every: row.every_ms.map(Duration::from_millis),
        timezone: row.timezone.clone(),
        overlap: if row.overlap == 0 { Overlap::Skip } else { Overlap::Queue },
        catch_up: match row.catch_up {
            0 => CatchUp::None,
            1 => CatchUp::One,
            _ => CatchUp::All,
        },
        jitter: Duration::from_millis(row.jitter_ms),
        job: row.job.spec()?,
        created_at: rows::at(row.created_at_ms),
        next_at: row.fires_at_ms.map(rows::at),
        last_job: row.last_job.map(JobId::from_raw),
        last_pushed_at: row.last_pushed_at_ms.map(rows::at),
        last_skipped: row.last_skipped.clone(),
    })
}

/// A schedule.
pub fn get(view: &dyn Read, tenant: TenantId, name: &str) -> Result<Option<Schedule>, Error> {
    let row = rows::get::<ScheduleRow>(view, Table::Schedules, &key_of(tenant, name))?;
    Ok(row.and_then(|row| told(name, &row)))
}

/// Some schedules of a tenant by name, behind this one.
pub fn page(
    view: &dyn Read,
    tenant: TenantId,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<Schedule>, Error> {
    let mut range = KeyRange::prefix(&rows::tenant_key(tenant, b""));
    if let Some(after) = after {
        // Behind the zero that ends the name.
        range.from = rows::tenant_key(tenant, &[after, &[1]].concat());
    }
    let mut names = Vec::new();
    view.scan(Table::Schedules, &range, Order::Forward, &mut |key, _| {
        if let Ok((_, name, 0)) = rows::read_named_key(Table::Schedules, key) {
            names.push(name);
        }
        if names.len() < limit { Flow::On } else { Flow::Stop }
    })?;
    let mut schedules = Vec::with_capacity(names.len());
    for name in names {
        schedules.extend(get(view, tenant, &name)?);
    }
    Ok(schedules)
}
