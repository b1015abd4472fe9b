//! How an attempt ends: by its worker's word, by silence, by its timeout, or because nobody wants the job.
//!
//! ```text
//!            done ------------------------------> done       (outbox)
//!            fail, tries left ------------------> delayed
//!  running   fail, no try left, never again ----> failed     (stays, with payload; outbox; on_failed is pushed)
//!            release --------------------------> waiting | delayed        nothing counted
//!            timeout: as fail      crash: counted apart; the first runs again at once
//!            any of them but done, when it was cancelled -> cancelled (outbox)
//! ```

use std::time::Duration;

use super::Error;
use super::figures::Ended;
use super::fingerprint::fingerprint;
use super::job::{End, Failure, LeaseToken, Outcome, Retry, Spec, State, Verb};
use super::lease::{course_row, job_row, lease_of, stop_running};
use super::memory::{Counter, Event, Key, Op, Qid};
use super::push::{self, Readied, let_go};
use super::rows::{
    self, CourseRow, EndRow, ErrorRow, FinishedRow, GoneRow, JobRow, LeaseRow, Standing,
};
use crate::base::id::TenantId;
use crate::base::limits::OUTBOX_ROWS_MAX;
use crate::base::name::QueueName;
use crate::store::{Read, Table};

/// What became of an attempt that a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It ended so.
    Ended(Outcome),
    /// It had ended so before: the same answer again.
    Repeated(Outcome),
    /// Somebody else has the job, or had it since, or another verb ended it; where the job stands.
    Lost(State),
    /// Nothing in this file knows of it. The history may.
    Unknown,
}

/// What ended an attempt that no worker did, beside the verbs.
const NO_VERB: u8 = 3;

/// Ends an attempt.
pub fn end(
    op: &mut Op<'_>,
    tenant: TenantId,
    lease: LeaseToken,
    end: End,
) -> Result<Report, Error> {
    let Some(row) = lease_of(op.tx, tenant, lease)? else {
        return judge_again(op, tenant, lease, end.verb());
    };
    let key = (tenant, lease.job);
    let attempt = Attempt::of(op, key, row)?;
    let outcome = match end {
        End::Done { result } => attempt.done(op, result)?,
        End::Fail { failure, retry } => attempt.fail(op, failure, retry)?,
        End::Release { delay, reason } => attempt.release(op, delay, reason)?,
    };
    Ok(Report::Ended(outcome))
}

/// What is said again of a lease that is over.
fn judge_again(
    op: &Op<'_>,
    tenant: TenantId,
    lease: LeaseToken,
    verb: Verb,
) -> Result<Report, Error> {
    let key = (tenant, lease.job);
    let course = course_row(op.tx, key)?;
    if let Some(last) = course.as_ref().and_then(|course| course.last_end)
        && (last.fence, last.secret) == (lease.fence, lease.secret)
        && last.verb == verb as u8
    {
        let outcome =
            Outcome { state: push::state_of(last.state), run_at: last.run_at_ms.map(rows::at) };
        return Ok(Report::Repeated(outcome));
    }
    if let Some((state, _)) = super::view::standing(op.tx, op.memory, key)? {
        return Ok(Report::Lost(state));
    }
    match finished(op.tx, key)? {
        Some(row) => Ok(judge_finished(&row.over(), lease, verb)),
        None => Ok(Report::Unknown),
    }
}

/// What is known of a job that is over, wherever that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// How it ended.
    pub state: State,
    /// Its last lease.
    pub fence: u64,
    /// And what nobody can guess of it.
    pub secret: u64,
}

/// What is said again of the lease of a job that is over.
pub fn judge_finished(over: &Over, lease: LeaseToken, verb: Verb) -> Report {
    let same = matches!(
        (over.state, verb),
        (State::Done, Verb::Done)
            | (State::Failed, Verb::Fail)
            | (State::Cancelled, Verb::Fail | Verb::Release)
    );
    if same && (over.fence, over.secret) == (lease.fence, lease.secret) {
        Report::Repeated(Outcome { state: over.state, run_at: None })
    } else {
        Report::Lost(over.state)
    }
}

impl FinishedRow {
    pub(super) fn over(&self) -> Over {
        Over { state: push::state_of(self.state), fence: self.fence, secret: self.secret }
    }
}

/// A job that lies in the outbox.
pub(super) fn finished(
    view: &(impl Read + ?Sized),
    (tenant, id): Key,
) -> Result<Option<FinishedRow>, Error> {
    let prefix = rows::job_prefix(tenant, id);
    let Some(first) = view.get(Table::Outbox, &rows::part_key(&prefix, 0))? else {
        return Ok(None);
    };
    let bytes = rows::whole(view, Table::Outbox, &prefix, &first)?;
    super::outbox::read(&bytes)
}

/// A running job with all that is known of it.
pub(super) struct Attempt {
    key: Key,
    qid: Qid,
    job: JobRow,
    lease: LeaseRow,
    course: CourseRow,
    had_course: bool,
}

impl Attempt {
    pub(super) fn of(op: &Op<'_>, key: Key, lease: LeaseRow) -> Result<Attempt, Error> {
        let running = op.memory.running(key).expect("BUG: a lease in the file is in memory");
        let qid = running.queue;
        let job = job_row(op.tx, key)?;
        let found = if lease.has_course { course_row(op.tx, key)? } else { None };
        let had_course = found.is_some();
        let mut course = found.unwrap_or_else(|| CourseRow::new(&job));
        course.attempt = lease.attempt;
        course.started_at_ms = Some(lease.started_at_ms);
        course.progress = lease.progress.or(course.progress);
        Ok(Attempt { key, qid, job, lease, course, had_course })
    }

    /// What ending it may move about in the file, in bytes.
    pub(super) fn weight(&self) -> usize {
        self.job.weight() + self.course.checkpoint.as_ref().map_or(0, Vec::len)
    }

    fn ran(&self, op: &Op<'_>) -> Duration {
        Duration::from_millis(op.now_ms().saturating_sub(self.lease.started_at_ms))
    }

    fn note(&self, op: &mut Op<'_>, how: Ended) {
        let ran = self.ran(op);
        op.note_ended(self.qid, &self.job.job_type, how, ran);
    }

    fn done(self, op: &mut Op<'_>, result: Option<Vec<u8>>) -> Result<Outcome, Error> {
        self.note(op, Ended::Done);
        stop_running(op, self.key, self.qid)?;
        self.over(op, State::Done, result)
    }

    /// The job is over and leaves the store.
    fn over(
        self,
        op: &mut Op<'_>,
        state: State,
        result: Option<Vec<u8>>,
    ) -> Result<Outcome, Error> {
        let over = Departure {
            key: self.key,
            qid: self.qid,
            job: self.job,
            course: self.had_course.then_some(self.course),
            lease: Some(self.lease),
        };
        over.leave(op, state, result)?;
        Ok(Outcome { state, run_at: None })
    }

    fn fail(self, op: &mut Op<'_>, failure: Failure, retry: Retry) -> Result<Outcome, Error> {
        if self.lease.cancel {
            return self.cancelled(op);
        }
        self.note(op, Ended::Failed);
        self.error(op, failure, retry, 1)
    }

    /// The attempt took longer than it may.
    pub(super) fn timed_out(self, op: &mut Op<'_>) -> Result<Outcome, Error> {
        if self.lease.cancel {
            return self.cancelled(op);
        }
        self.note(op, Ended::Failed);
        let failure = Failure {
            class: "timeout".to_owned(),
            message: format!(
                "attempt {} ran for {} s, the timeout is {} s{}",
                self.lease.attempt,
                self.ran(op).as_secs(),
                self.job.timeout_ms / 1000,
                by(self.lease.worker.as_deref()),
            ),
            trace: None,
        };
        self.error(op, failure, Retry::ByPolicy, NO_VERB)
    }

    fn error(
        mut self,
        op: &mut Op<'_>,
        failure: Failure,
        retry: Retry,
        verb: u8,
    ) -> Result<Outcome, Error> {
        self.course.errors = self.course.errors.saturating_add(1);
        self.course.last_error = Some(error_row(op, failure));
        let exhausted = self.job.max_tries <= self.course.errors;
        if retry == Retry::Never || exhausted {
            return self.give_up(op, verb);
        }
        let delay = match retry {
            Retry::After(delay) => delay,
            Retry::ByPolicy | Retry::Never => {
                let chance = op.chance();
                self.job.backoff.backoff().delay(self.course.errors, chance)
            }
        };
        self.go_back(op, delay, verb)
    }

    fn release(
        mut self,
        op: &mut Op<'_>,
        delay: Duration,
        reason: Option<String>,
    ) -> Result<Outcome, Error> {
        if self.lease.cancel {
            return self.cancelled(op);
        }
        self.note(op, Ended::Released);
        self.course.reason = reason;
        self.go_back(op, delay, 2)
    }

    /// It goes back without anything being counted, and nobody said why.
    pub(super) fn returned(self, op: &mut Op<'_>) -> Result<Outcome, Error> {
        if self.lease.cancel {
            return self.cancelled(op);
        }
        self.note(op, Ended::Released);
        self.go_back(op, Duration::ZERO, NO_VERB)
    }

    /// Nobody wants it any more, and its worker has let go of it.
    pub(super) fn cancelled(self, op: &mut Op<'_>) -> Result<Outcome, Error> {
        self.note(op, Ended::Cancelled);
        stop_running(op, self.key, self.qid)?;
        self.over(op, State::Cancelled, None)
    }

    /// Its worker died, or was silent for too long.
    pub(super) fn crashed(mut self, op: &mut Op<'_>, how: &str) -> Result<Outcome, Error> {
        if self.lease.cancel {
            return self.cancelled(op);
        }
        self.note(op, Ended::Crashed);
        self.course.crashes = self.course.crashes.saturating_add(1);
        let message = format!(
            "{how} after {} s of attempt {}{}",
            self.ran(op).as_secs(),
            self.lease.attempt,
            by(self.lease.worker.as_deref()),
        );
        let failure = Failure { class: "crash".to_owned(), message, trace: None };
        self.course.last_error = Some(error_row(op, failure));
        if self.job.max_crashes <= self.course.crashes {
            return self.give_up(op, NO_VERB);
        }
        let delay = if self.course.crashes == 1 {
            Duration::ZERO
        } else {
            let chance = op.chance();
            self.job.backoff.backoff().delay(self.course.crashes - 1, chance)
        };
        self.go_back(op, delay, NO_VERB)
    }

    /// The job may run again, at once or later.
    fn go_back(mut self, op: &mut Op<'_>, delay: Duration, verb: u8) -> Result<Outcome, Error> {
        stop_running(op, self.key, self.qid)?;
        let now_ms = op.now_ms();
        let run_at_ms = rows::ms(op.now.wall.plus(delay));
        let delayed = now_ms < run_at_ms;
        let state = if delayed { State::Delayed } else { State::Waiting };
        self.course.standing = if delayed {
            Standing::Delayed { until_ms: run_at_ms }
        } else {
            Standing::Waiting { since_ms: now_ms }
        };
        self.course.last_end = Some(self.end_row(verb, state, delayed.then_some(run_at_ms)));
        self.put_course(op)?;
        if delayed {
            push::delay(op, self.key, (self.qid, &self.job.queue), run_at_ms)?;
        } else {
            push::make_ready(op, self.key, self.qid, &Readied::of(&self.job, now_ms, true))?;
        }
        Ok(Outcome { state, run_at: delayed.then(|| rows::at(run_at_ms)) })
    }

    /// The job stays, with its payload, until somebody looks at it or its time is over.
    fn give_up(mut self, op: &mut Op<'_>, verb: u8) -> Result<Outcome, Error> {
        stop_running(op, self.key, self.qid)?;
        let (tenant, id) = self.key;
        let at_ms = op.now_ms();
        self.course.standing = Standing::Failed { at_ms };
        self.course.last_end = Some(self.end_row(verb, State::Failed, None));
        self.put_course(op)?;
        let fingerprint = self.course.last_error.as_ref().map_or(0, |error| error.fingerprint);
        let key = rows::failed_key(tenant, &self.job.queue, at_ms, id);
        op.tx.put(Table::Failed, &key, &fingerprint.to_be_bytes())?;
        op.count(self.qid, Counter::Failed, 1);
        op.note_ended(self.qid, &self.job.job_type, Ended::GivenUp, self.ran(op));
        release_unique(op, self.key, &self.job)?;
        push_followup(op, (self.key, self.qid), &self.job)?;
        let row = finished_row(
            &self.job,
            (State::Failed, at_ms),
            (Some(&self.course), Some(&self.lease)),
        );
        put_outbox(op, self.key, &row, true)?;
        op.event(Event::Finished(tenant, id));
        Ok(Outcome { state: State::Failed, run_at: None })
    }

    fn end_row(&self, verb: u8, state: State, run_at_ms: Option<u64>) -> EndRow {
        let (fence, secret) = (self.lease.fence, self.lease.secret);
        EndRow { fence, secret, verb, state: state as u8, run_at_ms }
    }

    fn put_course(&self, op: &mut Op<'_>) -> Result<(), Error> {
        let prefix = rows::job_prefix(self.key.0, self.key.1);
        if self.had_course {
            rows::replace(op.tx, Table::Courses, &prefix, &self.course)?;
        } else {
            rows::put(op.tx, Table::Courses, &prefix, &self.course)?;
        }
        Ok(())
    }
}

/// In quotation marks: what stands in them does not split a group of failures, whoever it was.
fn by(worker: Option<&str>) -> String {
    worker.map(|worker| format!(", worker {worker:?}")).unwrap_or_default()
}

fn error_row(op: &Op<'_>, failure: Failure) -> ErrorRow {
    let Failure { class, message, trace } = failure;
    let fingerprint = fingerprint(&class, &message, trace.as_deref());
    ErrorRow { class, message, trace, at_ms: op.now_ms(), fingerprint }
}

/// Lets go of the key that a job holds until it is over.
fn release_unique(op: &mut Op<'_>, (tenant, id): Key, job: &JobRow) -> Result<(), Error> {
    match &job.unique {
        Some(unique) if unique.until() != super::job::Until::Ttl => {
            let_go(op, tenant, &job.queue, (&unique.key, id))
        }
        Some(_) | None => Ok(()),
    }
}

/// Pushes what is to be pushed when a job is given up. It passes the limits of its queue and of its tenant's
/// tier: the job that failed had passed them, and a failure must not fail.
fn push_followup(
    op: &mut Op<'_>,
    ((tenant, _), qid): (Key, Qid),
    job: &JobRow,
) -> Result<(), Error> {
    let Some(followup) = &job.on_failed else {
        return Ok(());
    };
    let Ok(queue) = QueueName::parse(&followup.queue) else {
        return Ok(());
    };
    // Where no queue may be added, it goes where the job was that failed: nothing is lost, and memory is bounded.
    let queues = crate::base::quota::Allowance::Unlimited;
    let (qid, queue) = match push::queue_or_new(op, tenant, &queue, queues) {
        Ok(its) => (its, queue),
        Err(_) => (qid, op.memory.queue(qid).name.clone()),
    };
    let mut spec = Spec::new(queue, followup.payload.clone().payload());
    spec.job_type.clone_from(&followup.job_type);
    push::insert(op, tenant, qid, spec)?;
    Ok(())
}

/// A job that leaves the store.
pub(super) struct Departure {
    pub(super) key: Key,
    pub(super) qid: Qid,
    pub(super) job: JobRow,
    pub(super) course: Option<CourseRow>,
    pub(super) lease: Option<LeaseRow>,
}

impl Departure {
    /// Removes everything about it but what goes to the history. Its place in the indexes is for the caller.
    pub(super) fn leave(
        self,
        op: &mut Op<'_>,
        state: State,
        result: Option<Vec<u8>>,
    ) -> Result<(), Error> {
        let (tenant, id) = self.key;
        let prefix = rows::job_prefix(tenant, id);
        rows::delete(op.tx, Table::Jobs, &prefix, self.job.is_long())?;
        if self.course.is_some() {
            rows::delete(op.tx, Table::Courses, &prefix, true)?;
        }
        release_unique(op, self.key, &self.job)?;
        let mut row = finished_row(
            &self.job,
            (state, op.now_ms()),
            (self.course.as_ref(), self.lease.as_ref()),
        );
        if result.is_some() {
            row.result_until_ms = Some(op.now_ms().saturating_add(self.job.result_ttl_ms));
            row.result = result;
        }
        if op.memory.queue(self.qid).settings.history_payload {
            row.payload = Some(self.job.payload);
        }
        if state != State::Failed && OUTBOX_ROWS_MAX <= op.memory.outbox_len() {
            op.memory.outbox_skipped += 1;
        } else {
            put_outbox(op, self.key, &row, self.course.is_some())?;
        }
        op.event(Event::Finished(tenant, id));
        Ok(())
    }
}

fn finished_row(
    job: &JobRow,
    (state, at_ms): (State, u64),
    (course, lease): (Option<&CourseRow>, Option<&LeaseRow>),
) -> FinishedRow {
    let counted = |of_lease: fn(&LeaseRow) -> u32, of_course: fn(&CourseRow) -> u32| {
        let first = lease.map_or(0, of_lease);
        course.map_or(first, |course| first.max(of_course(course)))
    };
    let started_at_ms = lease.map(|lease| lease.started_at_ms);
    FinishedRow {
        queue: job.queue.clone(),
        job_type: job.job_type.clone(),
        state: state as u8,
        band: job.band,
        created_at_ms: job.created_at_ms,
        run_at_ms: lease.map_or(job.run_at_ms, |lease| lease.ready_at_ms),
        started_at_ms: started_at_ms.or_else(|| course.and_then(|course| course.started_at_ms)),
        finished_at_ms: at_ms,
        attempt: counted(|lease| lease.attempt, |course| course.attempt),
        errors: counted(|lease| lease.errors, |course| course.errors),
        crashes: counted(|lease| lease.crashes, |course| course.crashes),
        max_tries: job.max_tries,
        timeout_ms: job.timeout_ms,
        tags: job.tags.clone(),
        unique_key: job.unique.as_ref().map(|unique| unique.key.clone()),
        result: None,
        result_until_ms: None,
        error: course.and_then(|course| course.last_error.clone()),
        progress: lease
            .and_then(|lease| lease.progress)
            .or_else(|| course.and_then(|course| course.progress)),
        payload: None,
        fence: lease.map_or(0, |lease| lease.fence),
        secret: lease.map_or(0, |lease| lease.secret),
    }
}

/// Puts a job on its way to the history. `again`: whether something about it may lie there already.
pub(super) fn put_outbox(
    op: &mut Op<'_>,
    (tenant, id): Key,
    row: &FinishedRow,
    again: bool,
) -> Result<(), Error> {
    let prefix = rows::job_prefix(tenant, id);
    let there = again && rows::delete(op.tx, Table::Outbox, &prefix, true)?;
    rows::put(op.tx, Table::Outbox, &prefix, row)?;
    count_outbox(op, there);
    Ok(())
}

/// Tells the history that it has to forget a job.
pub(super) fn put_gone(op: &mut Op<'_>, (tenant, id): Key) -> Result<(), Error> {
    let prefix = rows::job_prefix(tenant, id);
    let there = rows::delete(op.tx, Table::Outbox, &prefix, true)?;
    let gone = GoneRow { at_ms: op.now_ms() };
    rows::put(op.tx, Table::Outbox, &prefix, &gone)?;
    count_outbox(op, there);
    Ok(())
}

fn count_outbox(op: &mut Op<'_>, there: bool) {
    if !there {
        op.outbox(1);
        op.event(Event::Outbox);
    }
}
