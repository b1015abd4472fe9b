//! Looking at jobs: one, many, and why one does not run.

use std::time::Duration;

use super::Error;
use super::job::{Band, Payload, State};
use super::lease::{course_row, job_row};
use super::memory::{Key, Memory};
use super::push::order;
use super::rows::{self, CourseRow, Due, ErrorRow, JobRow, Lane, LeaseRow, ReadyKey, Standing};
use crate::base::id::{JobId, TenantId};
use crate::base::limits::{LEASE_BYTES_MAX, READ_ROWS_MAX};
use crate::base::name::QueueName;
use crate::base::time::{Mono, Now, Timestamp};
use crate::store::{Flow, KeyRange, Order, Read, Table};

/// What went wrong last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// What kind of error.
    pub class: String,
    /// What it said.
    pub message: String,
    /// Where it happened.
    pub trace: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// A job as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Where it is.
    pub queue: String,
    /// Its type.
    pub job_type: String,
    /// Where it stands.
    pub state: State,
    /// How urgent it is.
    pub band: Band,
    /// When it may run, or could.
    pub run_at: Timestamp,
    /// Starts.
    pub attempt: u32,
    /// Errors.
    pub errors: u32,
    /// Crashes.
    pub crashes: u32,
    /// Errors after which it is given up.
    pub max_tries: u32,
    /// Crashes after which it is put aside.
    pub max_crashes: u32,
    /// How long an attempt may run.
    pub timeout: Duration,
    /// What it can be found by.
    pub tags: Vec<String>,
    /// Its unique key.
    pub unique_key: Option<String>,
    /// When it was pushed.
    pub created_at: Timestamp,
    /// When its last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it was given up.
    pub finished_at: Option<Timestamp>,
    /// What went wrong last.
    pub last_error: Option<LastError>,
    /// Why it was given back last.
    pub reason: Option<String>,
    /// How far it has come.
    pub progress: Option<f64>,
    /// Who has it, and until when it has to be heard of.
    pub worker: Option<String>,
    /// See [`Job::worker`].
    pub lease_until: Option<Timestamp>,
    /// Whether nobody wants it any more.
    pub cancel: bool,
    /// What it carries.
    pub payload: Payload,
}

impl From<ErrorRow> for LastError {
    fn from(row: ErrorRow) -> LastError {
        let ErrorRow { class, message, trace, at_ms, .. } = row;
        LastError { class, message, trace, at: rows::at(at_ms) }
    }
}

/// Where a job of the store stands, and since or until when.
pub(super) fn standing(
    view: &(impl Read + ?Sized),
    memory: &Memory,
    key: Key,
) -> Result<Option<(State, Timestamp)>, Error> {
    let prefix = rows::job_prefix(key.0, key.1);
    let Some(job) = rows::get::<JobRow>(view, Table::Jobs, &prefix)? else {
        return Ok(None);
    };
    if memory.running(key).is_some() {
        return Ok(Some((State::Running, rows::at(job.run_at_ms))));
    }
    let course = course_row(view, key)?;
    let (state, at_ms) = rests(view, key, &job, course.as_ref())?;
    Ok(Some((state, rows::at(at_ms))))
}

/// Where a job stands that nobody has.
pub(super) fn rests(
    view: &(impl Read + ?Sized),
    (tenant, id): Key,
    job: &JobRow,
    course: Option<&CourseRow>,
) -> Result<(State, u64), Error> {
    let at_ms = match course.map(|course| course.standing) {
        Some(Standing::Failed { at_ms }) => return Ok((State::Failed, at_ms)),
        Some(Standing::Waiting { since_ms }) => return Ok((State::Waiting, since_ms)),
        Some(Standing::Delayed { until_ms }) => until_ms,
        None => job.run_at_ms,
    };
    // It may have become due since that was written.
    let delayed = view.get(Table::Due, &Due::Job(tenant, id).key(at_ms))?.is_some();
    Ok((if delayed { State::Delayed } else { State::Waiting }, at_ms))
}

/// A job of the store.
pub fn job(view: &dyn Read, tenant: TenantId, id: JobId) -> Result<Option<Job>, Error> {
    let key = (tenant, id);
    let prefix = rows::job_prefix(tenant, id);
    let Some(row) = rows::get::<JobRow>(view, Table::Jobs, &prefix)? else {
        return Ok(None);
    };
    let lease = rows::get::<LeaseRow>(view, Table::Leases, &prefix)?;
    let course = course_row(view, key)?;
    let (state, at_ms) = match &lease {
        Some(lease) => (State::Running, lease.ready_at_ms),
        None => rests(view, key, &row, course.as_ref())?,
    };
    Ok(Some(told(id, row, (lease, course), (state, at_ms))))
}

fn told(
    id: JobId,
    row: JobRow,
    (lease, course): (Option<LeaseRow>, Option<CourseRow>),
    (state, at_ms): (State, u64),
) -> Job {
    let of = |of_lease: fn(&LeaseRow) -> u32, of_course: fn(&CourseRow) -> u32| {
        lease.as_ref().map(of_lease).or_else(|| course.as_ref().map(of_course)).unwrap_or(0)
    };
    let (attempt, errors, crashes) = (
        of(|lease| lease.attempt, |course| course.attempt),
        of(|lease| lease.errors, |course| course.errors),
        of(|lease| lease.crashes, |course| course.crashes),
    );
    let started_ms = lease.as_ref().map(|lease| lease.started_at_ms);
    let course = course.unwrap_or_else(|| CourseRow::new(&row));
    Job {
        id,
        band: row.band(),
        state,
        run_at: rows::at(if state == State::Failed { row.run_at_ms } else { at_ms }),
        attempt,
        errors,
        crashes,
        max_tries: row.max_tries,
        max_crashes: row.max_crashes,
        timeout: Duration::from_millis(row.timeout_ms),
        unique_key: row.unique.map(|unique| unique.key),
        created_at: rows::at(row.created_at_ms),
        started_at: started_ms.or(course.started_at_ms).map(rows::at),
        finished_at: (state == State::Failed).then(|| rows::at(at_ms)),
        last_error: course.last_error.map(LastError::from),
        reason: course.reason,
        progress: lease.as_ref().and_then(|lease| lease.progress).or(course.progress),
        cancel: lease.as_ref().is_some_and(|lease| lease.cancel),
        lease_until: lease.as_ref().map(|lease| rows::at(lease.until_ms)),
        worker: lease.and_then(|lease| lease.worker),
        queue: row.queue,
        job_type: row.job_type,
        tags: row.tags,
        payload: row.payload.payload(),
    }
}

/// Which jobs of the store are looked for.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Whose.
    pub tenant: TenantId,
    /// In which queue.
    pub queue: Option<QueueName>,
    /// Where they stand: delayed, waiting or running.
    pub states: Vec<State>,
    /// Of which type.
    pub job_type: Option<String>,
    /// With which tag.
    pub tag: Option<String>,
    /// With this somewhere in type, tags, unique key, error or payload, whatever the case of its letters.
    pub text: Option<String>,
    /// Pushed from then on.
    pub from: Option<Timestamp>,
    /// Pushed before.
    pub to: Option<Timestamp>,
    /// Whether what they carry is wanted, too.
    pub payload: bool,
}

/// Where a list of jobs goes on: the state, and the row behind which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which state.
    pub state: State,
    /// Behind this key of its table; from its beginning without.
    pub after: Option<Vec<u8>>,
}

/// The order in which states are looked through.
pub const LIVE: [State; 3] = [State::Running, State::Waiting, State::Delayed];
/// Rows that one page looks at.
const LOOKED_AT_MAX: u64 = 2000;

/// Some jobs of the store that match, and where to go on.
///
/// One page looks at a bounded number of rows, and at a bounded number of bytes: it may be short, or
/// empty, and still go on.
pub fn list(
    view: &dyn Read,
    filter: &Filter,
    after: Option<Position>,
    limit: usize,
) -> Result<(Vec<Job>, Option<Position>), Error> {
    const { assert!(LOOKED_AT_MAX < READ_ROWS_MAX) };
    let mut jobs = Vec::new();
    let (mut looked_at, mut bytes) = (0, 0);
    let first = after.as_ref().map_or(LIVE[0], |after| after.state);
    let mut behind = after.and_then(|after| after.after);
    for state in LIVE.into_iter().skip_while(|state| *state != first) {
        let behind = behind.take();
        if !filter.states.contains(&state) {
            continue;
        }
        // The state before ended where the page did: this one was not begun.
        let full = limit <= jobs.len() || LEASE_BYTES_MAX <= bytes;
        if full || LOOKED_AT_MAX <= looked_at {
            return Ok((jobs, Some(Position { state, after: behind })));
        }
        let (looked_at, bytes) = (&mut looked_at, &mut bytes);
        let mut walk = Walk { view, filter, state, limit, looked_at, bytes };
        if let Some(stopped) = walk.run(behind, &mut jobs)? {
            return Ok((jobs, Some(Position { state, after: Some(stopped) })));
        }
    }
    Ok((jobs, None))
}

struct Walk<'w> {
    view: &'w dyn Read,
    filter: &'w Filter,
    state: State,
    limit: usize,
    looked_at: &'w mut u64,
    /// What the jobs that were looked at carry: all of it was read, whether it is shown or not.
    bytes: &'w mut usize,
}

impl Walk<'_> {
    fn table(&self) -> (Table, Vec<u8>) {
        let tenant = self.filter.tenant;
        match (self.state, &self.filter.queue) {
            (State::Running, _) => (Table::Leases, rows::tenant_key(tenant, b"")),
            (State::Delayed, _) => (Table::Due, Vec::new()),
            (_, Some(queue)) => (Table::Ready, rows::queue_prefix(tenant, queue.as_str())),
            (_, None) => (Table::Ready, rows::tenant_key(tenant, b"")),
        }
    }

    /// The id of the job that a row is about, if it can be one that is looked for.
    fn candidate(&self, table: Table, key: &[u8]) -> Result<Option<JobId>, Error> {
        let id = match table {
            Table::Leases => rows::read_job_key(table, key)?.1,
            Table::Ready => ReadyKey::read(key)?.id,
            _ => match Due::read(key)?.1 {
                Due::Job(tenant, id) if tenant == self.filter.tenant => id,
                _ => return Ok(None),
            },
        };
        Ok(Some(id))
    }

    /// Where to go on behind a key. Callers carry it about, so it says nothing of what is not theirs: due rows
    /// of all tenants stand together, and those of jobs come first at each moment.
    fn go_on_behind(&self, table: Table, key: Vec<u8>) -> Vec<u8> {
        if table != Table::Due {
            return key;
        }
        let own = [&[0][..], &self.filter.tenant.raw().to_be_bytes()].concat();
        let Some((at, behind)) = key.split_first_chunk::<8>() else {
            return key;
        };
        match behind.get(..own.len()) {
            Some(its) if its == own => key,
            Some(its) if its < own.as_slice() => [&at[..], &own].concat(),
            Some(_) | None => [&at[..], &[u8::MAX]].concat(),
        }
    }

    /// Looks through a table; the key at which it stopped before its end.
    fn run(
        &mut self,
        behind: Option<Vec<u8>>,
        jobs: &mut Vec<Job>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let (table, prefix) = self.table();
        let mut range = KeyRange::prefix(&prefix);
        if let Some(behind) = &behind {
            // Callers carry it about: it leads nowhere but behind the beginning.
            range.from = range.from.max([behind.as_slice(), &[0]].concat());
        }
        let mut keys = Vec::new();
        let left = LOOKED_AT_MAX.saturating_sub(*self.looked_at);
        let mut complete = true;
        self.view.scan(table, &range, Order::Forward, &mut |key, _| {
            if left <= keys.len() as u64 {
                complete = false;
                return Flow::Stop;
            }
            keys.push(key.to_vec());
            Flow::On
        })?;
        let mut last = behind;
        for key in keys {
            if self.limit <= jobs.len() || LEASE_BYTES_MAX <= *self.bytes {
                return Ok(last);
            }
            *self.looked_at += 1;
            if let Some(id) = self.candidate(table, &key)?
                && let Some(mut job) = job(self.view, self.filter.tenant, id)?
            {
                *self.bytes += job.payload.bytes.len();
                if self.filter.matches(&job) {
                    if !self.filter.payload {
                        job.payload.bytes = Vec::new();
                    }
                    jobs.push(job);
                }
            }
            last = Some(self.go_on_behind(table, key));
        }
        Ok(if complete { None } else { last })
    }
}

impl Filter {
    fn matches(&self, job: &Job) -> bool {
        let queue = self.queue.as_ref().is_none_or(|queue| queue.as_str() == job.queue);
        let job_type = self.job_type.as_ref().is_none_or(|wanted| *wanted == job.job_type);
        let tag = self.tag.as_ref().is_none_or(|tag| job.tags.contains(tag));
        let from = self.from.is_none_or(|from| from <= job.created_at);
        let to = self.to.is_none_or(|to| job.created_at < to);
        queue && job_type && tag && from && to && self.matches_text(job)
    }

    fn matches_text(&self, job: &Job) -> bool {
        let Some(text) = &self.text else {
            return true;
        };
        let text = text.to_ascii_lowercase();
        let has = |place: &str| place.to_ascii_lowercase().contains(&text);
        let error = job.last_error.as_ref();
        has(&job.id.to_string())
            || has(&job.job_type)
            || job.tags.iter().any(|tag| has(tag))
            || job.unique_key.as_deref().is_some_and(has)
            || error.is_some_and(|error| has(&error.class) || has(&error.message))
            || has(&String::from_utf8_lossy(&job.payload.bytes))
    }
}

/// Why a job does not run right now, or that it does.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// Its moment has not come.
    Delayed {
        /// When it comes.
        until: Timestamp,
        /// Its errors so far; with none it was pushed for that moment or put off.
        errors: u32,
    },
    /// Nothing is leased from its queue.
    QueuePaused,
    /// Its queue lets no more through for now.
    RateLimited {
        /// How many, in which time.
        rate: String,
    },
    /// As many jobs of its queue run as may.
    Concurrency {
        /// How many run.
        running: u64,
        /// How many may.
        limit: u32,
    },
    /// Most attempts of its type fail; they are tried one by one.
    RetryThrottled,
    /// Others come first.
    Ahead {
        /// How many, at most so many are counted.
        jobs: u64,
        /// Whether there are more than were counted.
        more: bool,
    },
    /// No worker asks for jobs of its queue.
    NoWorker {
        /// How long ago one did, since the start.
        last_asked: Option<Duration>,
    },
    /// Somebody has it.
    Running {
        /// Who, if that is known.
        worker: Option<String>,
        /// Since when.
        since: Option<Timestamp>,
        /// When the worker has to be heard of.
        lease_until: Option<Timestamp>,
    },
    /// It is over.
    Finished {
        /// How it ended.
        state: State,
        /// What went wrong.
        error: Option<LastError>,
    },
}

/// Why a job does not run, and when it is likely to.
#[derive(Clone, Debug, PartialEq)]
pub struct Why {
    /// The queue of the job.
    pub queue: String,
    /// Whether the next worker that asks gets it.
    pub runnable: bool,
    /// Everything that is in its way, the nearest first.
    pub reasons: Vec<Reason>,
    /// How long until it runs, if that can be said.
    pub eta: Option<Duration>,
}

/// Workers that ask for jobs within this time are there.
const ASKED_LATELY: Duration = Duration::from_secs(90);
/// Jobs ahead that are counted.
const AHEAD_MAX: u64 = 5000;

/// What memory knows of a queue that may be in the way of its jobs.
#[derive(Clone, Debug)]
pub struct Facts {
    paused: bool,
    concurrency: Option<u32>,
    running: u64,
    /// The rate that lets nothing through before the moment.
    rate: Option<(String, Mono)>,
    throttled: bool,
    asked_at: Option<Mono>,
    done_per_minute: f64,
}

impl Facts {
    /// Those of jobs of this type; nothing of a queue that is not known.
    pub fn of(
        memory: &mut Memory,
        now: Now,
        (tenant, queue): (TenantId, &QueueName),
        job_type: &str,
    ) -> Option<Facts> {
        let qid = memory.qid(tenant, queue)?;
        let done_per_minute = memory.told(qid, now.mono).0.done_per_minute;
        let queue = memory.queue(qid);
        let (settings, bucket) = (&queue.settings, queue.bucket.as_ref());
        let rate = settings.rate.zip(bucket.map(|bucket| bucket.next_at(now.mono)));
        Some(Facts {
            paused: settings.paused,
            concurrency: settings.concurrency,
            running: queue.running,
            rate: rate
                .filter(|(_, next)| now.mono < *next)
                .map(|(rate, next)| (rate.to_string(), next)),
            throttled: queue.budget(job_type).is_some_and(super::budget::Budget::is_throttled),
            asked_at: queue.asked_at,
            done_per_minute,
        })
    }
}

/// Why a job of the store does not run. `facts` is asked once at most, for the job's queue and type, so that
/// nobody has to wait for memory while the file is read.
pub fn why(
    view: &dyn Read,
    facts: impl FnOnce(&QueueName, &str) -> Option<Facts>,
    now: Now,
    key: Key,
) -> Result<Option<Why>, Error> {
    let Some(job) = job(view, key.0, key.1)? else {
        return Ok(None);
    };
    let queue = job.queue.clone();
    let mut why = Why { queue, runnable: false, reasons: Vec::new(), eta: None };
    match job.state {
        State::Running => {
            let Job { worker, started_at: since, lease_until, .. } = job;
            why.reasons.push(Reason::Running { worker, since, lease_until });
            return Ok(Some(why));
        }
        State::Done | State::Failed | State::Cancelled => {
            let Job { state, last_error: error, .. } = job;
            why.reasons.push(Reason::Finished { state, error });
            return Ok(Some(why));
        }
        State::Waiting | State::Delayed => {}
    }
    why.eta = Some(Duration::ZERO);
    if job.state == State::Delayed {
        why.reasons.push(Reason::Delayed { until: job.run_at, errors: job.errors });
        why.eta = Some(job.run_at.since(now.wall));
    }
    let name = QueueName::parse(&job.queue).ok();
    if let Some(facts) = name.and_then(|name| facts(&name, &job.job_type)) {
        in_queue(&facts, now, ahead(view, key, &job)?, &mut why);
    }
    why.runnable = why.reasons.is_empty();
    Ok(Some(why))
}

fn in_queue(facts: &Facts, now: Now, (ahead, more): (u64, bool), why: &mut Why) {
    if facts.paused {
        why.reasons.push(Reason::QueuePaused);
        why.eta = None;
    }
    if let Some(limit) = facts.concurrency
        && u64::from(limit) <= facts.running
    {
        why.reasons.push(Reason::Concurrency { running: facts.running, limit });
        // Nobody knows when one of those that run ends.
        why.eta = None;
    }
    if let Some((rate, next)) = &facts.rate {
        why.reasons.push(Reason::RateLimited { rate: rate.clone() });
        why.eta = why.eta.map(|eta| eta.max(next.since(now.mono)));
    }
    if facts.throttled {
        why.reasons.push(Reason::RetryThrottled);
        why.eta = None;
    }
    if 0 < ahead {
        why.reasons.push(Reason::Ahead { jobs: ahead, more });
    }
    let asked = facts.asked_at.map(|at| now.mono.since(at));
    if asked.is_none_or(|ago| ASKED_LATELY < ago) && facts.running == 0 {
        why.reasons.push(Reason::NoWorker { last_asked: asked });
        why.eta = None;
    }
    why.eta = why.eta.and_then(|wait| match (ahead, facts.done_per_minute) {
        (0, _) => Some(wait),
        (_, done) if done <= 0.0 || more => None,
        (ahead, done) => {
            let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
            Some(wait + Duration::from_secs_f64(f64::from(ahead) / done * 60.0))
        }
    });
}

/// How many jobs of its queue come before a job.
fn ahead(view: &dyn Read, (tenant, id): Key, job: &Job) -> Result<(u64, bool), Error> {
    let mine = (order(rows::ms(job.run_at), job.band), id);
    let (mut count, mut more) = (0, false);
    for band in Band::ALL {
        let prefix = rows::lane_prefix(tenant, &job.queue, &Lane::Band(band as u8));
        view.scan(Table::Ready, &KeyRange::prefix(&prefix), Order::Forward, &mut |key, _| {
            let before = ReadyKey::read(key).is_ok_and(|at| (at.order, at.id) < mine);
            more |= before && count == AHEAD_MAX;
            if !before || more {
                return Flow::Stop;
            }
            count += 1;
            Flow::On
        })?;
    }
    Ok((count, more))
}

/// The moment since which the job that waits longest in a queue has waited.
pub fn oldest_waiting(
    view: &dyn Read,
    tenant: TenantId,
    queue: &str,
) -> Result<Option<Timestamp>, Error> {
    let mut oldest: Option<u64> = None;
    for band in Band::ALL {
        let prefix = rows::lane_prefix(tenant, queue, &Lane::Band(band as u8));
        view.scan(Table::Ready, &KeyRange::prefix(&prefix), Order::Forward, &mut |key, _| {
            if let Ok(at) = ReadyKey::read(key) {
                let since = at.order.saturating_sub(rows::length_ms(band.slack()));
                oldest = Some(oldest.map_or(since, |before| before.min(since)));
            }
            Flow::Stop
        })?;
    }
    Ok(oldest.map(rows::at))
}

/// A job of the store with its rows, for those who change it.
pub(super) fn rows_of(
    view: &(impl Read + ?Sized),
    key: Key,
) -> Result<(JobRow, Option<CourseRow>), Error> {
    Ok((job_row(view, key)?, course_row(view, key)?))
}
