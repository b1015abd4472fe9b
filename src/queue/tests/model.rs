//! The reference: jobs as plain structs in a map, changed as API.md says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::id::{JobId, TenantId};
use crate::base::limits::{LEASE_BYTES_MAX, SCHEDULE_CATCH_UP_MAX};
use crate::base::name::QueueName;
use crate::base::quota::{Allowance, Quota};
use crate::base::time::{Mono, Now};
use crate::queue::Error;
use crate::queue::budget::{Admission, Budget};
use crate::queue::change::{Cancelled, Verdict, Which};
use crate::queue::fingerprint::fingerprint;
use crate::queue::finish::Report;
use crate::queue::job::{
    Backoff, End, LeaseToken, Outcome, Retry, Rules, Spec, State, Unique, Until, When,
};
use crate::queue::lease::{Extended, Extension, Leased, Renewed, Taken, Want};
use crate::queue::memory::Key;
use crate::queue::push::{Call, Pushed, PushedJob, Quotas};
use crate::queue::rate::Bucket;
use crate::queue::rows::{self, Due};
use crate::queue::schedules::{CatchUp, Overlap};
use crate::queue::settings::{Patch, Settings};
use crate::queue::view;
use crate::store::Read;

/// Milliseconds of the calendar.
type Ms = u64;

#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) token: LeaseToken,
    pub(super) worker: Option<Arc<str>>,
    pub(super) process: Option<(u32, u64)>,
    /// As it was noted: a process of before a reboot is forgotten in memory alone, until its lease ends.
    noted: Option<(u32, u64)>,
    since: Ms,
    started_before: Option<Ms>,
    length: Duration,
    until: Mono,
    timeout: Mono,
    until_ms: Ms,
    timeout_ms: Ms,
    cancel: bool,
    grace: bool,
    progress: Option<f64>,
}

#[derive(Clone, Debug)]
pub(super) enum Place {
    Waiting(Ms),
    Delayed(Ms),
    Running(Box<Lease>),
    Failed(Ms),
}

#[derive(Clone, Debug)]
pub(super) struct Job {
    spec: Rc<Spec>,
    created_ms: Ms,
    max_tries: u32,
    max_crashes: u32,
    timeout: Duration,
    backoff: Backoff,
    pub(super) place: Place,
    attempt: u32,
    errors: u32,
    crashes: u32,
    started: Option<Ms>,
    /// Class, message and trace.
    error: Option<(String, String, Option<String>)>,
    reason: Option<String>,
    progress: Option<f64>,
    checkpoint: Option<Vec<u8>>,
    last_end: Option<(LeaseToken, u8, Outcome)>,
}

impl Job {
    fn order(&self, id: JobId) -> (Ms, JobId) {
        let Place::Waiting(since) = self.place else {
            panic!("it does not wait");
        };
        (since + rows::length_ms(self.spec.band.slack()), id)
    }

    pub(super) fn state_now(&self) -> State {
        match self.place {
            Place::Waiting(_) => State::Waiting,
            Place::Delayed(_) => State::Delayed,
            Place::Running(_) => State::Running,
            Place::Failed(_) => State::Failed,
        }
    }

    fn lease(&self) -> Option<&Lease> {
        match &self.place {
            Place::Running(lease) => Some(lease),
            Place::Waiting(_) | Place::Delayed(_) | Place::Failed(_) => None,
        }
    }

    fn lease_mut(&mut self) -> &mut Lease {
        match &mut self.place {
            Place::Running(lease) => lease,
            Place::Waiting(_) | Place::Delayed(_) | Place::Failed(_) => panic!("it does not run"),
        }
    }
}

/// What the history will hear.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Over {
    pub(super) state: State,
    pub(super) at_ms: Ms,
    pub(super) token: Option<(u64, u64)>,
    pub(super) counts: (u32, u32, u32),
    /// How long it is.
    pub(super) result: Option<usize>,
}

impl Over {
    /// Nothing but that.
    pub(super) const GONE: Over =
        Over { state: State::Waiting, at_ms: 0, token: None, counts: (0, 0, 0), result: None };

    pub(super) fn is_gone(&self) -> bool {
        self.state == State::Waiting
    }
}

#[derive(Clone, Debug)]
pub(super) struct Plan {
    every_ms: Ms,
    overlap: Overlap,
    catch_up: CatchUp,
    spec: Rc<Spec>,
    handled: Ms,
    last_job: Option<JobId>,
}

impl Plan {
    fn next(&self) -> Ms {
        (self.handled / self.every_ms + 1) * self.every_ms
    }
}

#[derive(Clone, Debug)]
struct Remembered {
    fingerprint: [u8; 16],
    until: Ms,
    jobs: Vec<PushedJob>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) jobs: BTreeMap<Key, Job>,
    uniques: BTreeMap<(TenantId, String, String), (JobId, Option<Ms>)>,
    calls: BTreeMap<(TenantId, [u8; 16]), Remembered>,
    pub(super) settings: BTreeMap<(TenantId, QueueName), Settings>,
    pub(super) outbox: BTreeMap<Key, Over>,
    pub(super) schedules: BTreeMap<(TenantId, String), Plan>,
    today: BTreeMap<TenantId, (u64, u64)>,
    /// What of that is in the file: as of the last push of somebody whom it is limited.
    day_rows: BTreeMap<TenantId, (u64, u64)>,
    buckets: BTreeMap<(TenantId, QueueName), Bucket>,
    budgets: BTreeMap<(TenantId, QueueName, String), Budget>,
    /// Queues that are known, empty ones among them.
    pub(super) known: BTreeSet<(TenantId, QueueName)>,
    pub(super) types: BTreeMap<String, Rules>,
    /// Ids that were given to jobs since the operation began.
    pub(super) ids: VecDeque<JobId>,
    pub(super) last_fence: u64,
    /// The largest numbers that anybody was told: what was lost with a commit may come again after a start.
    pub(super) told: (u64, Option<JobId>),
}

/// The moment, and what the file says now: only asked for what is left to chance.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) now: Now,
    pub(super) view: &'a dyn Read,
}

impl At<'_> {
    fn ms(&self) -> Ms {
        rows::ms(self.now.wall)
    }

    fn job(&self, key: Key) -> Option<view::Job> {
        view::job(self.view, key.0, key.1).unwrap()
    }
}

const DAY: Ms = 86_400_000;

impl Model {
    fn next_id(&mut self) -> JobId {
        // An operation that says no has given none out that can be seen.
        self.ids.pop_front().unwrap_or(JobId::from_raw(u64::MAX - self.jobs.len() as u64))
    }

    pub(super) fn settings_of(&self, tenant: TenantId, queue: &QueueName) -> Settings {
        self.settings.get(&(tenant, queue.clone())).cloned().unwrap_or_default()
    }

    fn of_queue<'m>(
        &'m self,
        tenant: TenantId,
        queue: &'m QueueName,
    ) -> impl Iterator<Item = (&'m Key, &'m Job)> {
        let its = move |(key, job): &(&Key, &Job)| key.0 == tenant && job.spec.queue == *queue;
        self.jobs.iter().filter(its)
    }

    fn count(&self, tenant: TenantId, queue: &QueueName, states: &[State]) -> u64 {
        self.of_queue(tenant, queue).filter(|(_, job)| states.contains(&job.state_now())).count()
            as u64
    }

    fn ensure(
        &mut self,
        tenant: TenantId,
        queue: &QueueName,
        allowance: Allowance,
    ) -> Result<(), Error> {
        let place = (tenant, queue.clone());
        let used = self.known.iter().filter(|(owner, _)| *owner == tenant).count() as u64;
        match allowance {
            Allowance::AtMost(limit) if limit <= used && !self.known.contains(&place) => {
                Err(Error::Quota { quota: Quota::Queues, limit, used, retry_after: None })
            }
            Allowance::AtMost(_) | Allowance::Unlimited => {
                self.known.insert(place);
                Ok(())
            }
        }
    }

    fn holder(&mut self, tenant: TenantId, queue: &QueueName, key: &str, now: Ms) -> Option<JobId> {
        let place = (tenant, queue.as_str().to_owned(), key.to_owned());
        let (id, until) = *self.uniques.get(&place)?;
        if until.is_some_and(|until| until <= now) {
            self.uniques.remove(&place);
            return None;
        }
        Some(id)
    }

    fn hold(&mut self, key: Key, queue: &QueueName, unique: &Unique, now: Ms) {
        let place = (key.0, queue.as_str().to_owned(), unique.key.clone());
        let until = unique.ttl.map(|ttl| now + rows::length_ms(ttl));
        self.uniques.insert(place, (key.1, until));
    }

    fn let_go(&mut self, key: Key, spec: &Spec) {
        if let Some(unique) = &spec.unique {
            let place = (key.0, spec.queue.as_str().to_owned(), unique.key.clone());
            if self.uniques.get(&place).is_some_and(|(id, _)| *id == key.1) {
                self.uniques.remove(&place);
            }
        }
    }

    pub(super) fn push(
        &mut self,
        at: At<'_>,
        tenant: TenantId,
        (specs, call): (&[Rc<Spec>], Option<&Call>),
        quotas: &Quotas,
    ) -> Result<Pushed, Error> {
        let now = at.ms();
        if let Some(call) = call
            && let Some(known) = self.calls.get(&(tenant, call.key))
            && now < known.until
        {
            if known.fingerprint != call.fingerprint {
                return Err(Error::KeyReused);
            }
            return Ok(Pushed { jobs: known.jobs.clone(), replayed: true });
        }
        let mut jobs = Vec::new();
        for spec in specs {
            jobs.push(self.push_one(now, tenant, spec, quotas)?);
        }
        let new = jobs.iter().filter(|job| !job.duplicate).count() as u64;
        let today = self.today.get(&tenant).filter(|today| today.0 == now / DAY);
        let used = today.map_or(0, |today| today.1);
        if let Allowance::AtMost(limit) = quotas.per_day
            && limit < used + new
        {
            let retry_after = Some(Duration::from_millis(DAY - now % DAY));
            return Err(Error::Quota { quota: Quota::JobsPerDay, limit, used, retry_after });
        }
        self.today.insert(tenant, (now / DAY, used + new));
        if quotas.per_day != Allowance::Unlimited {
            self.day_rows.insert(tenant, (now / DAY, used + new));
        }
        if let Some(call) = call {
            let (fingerprint, until, jobs) = (call.fingerprint, now + DAY, jobs.clone());
            self.calls.insert((tenant, call.key), Remembered { fingerprint, until, jobs });
        }
        Ok(Pushed { jobs, replayed: false })
    }

    fn push_one(
        &mut self,
        now: Ms,
        tenant: TenantId,
        spec: &Rc<Spec>,
        quotas: &Quotas,
    ) -> Result<PushedJob, Error> {
        let queue = &spec.queue;
        self.ensure(tenant, queue, quotas.queues)?;
        if let Some(unique) = &spec.unique
            && let Some(id) = self.holder(tenant, queue, &unique.key, now)
        {
            let (state, run_at) = match self.jobs.get(&(tenant, id)) {
                None => (State::Done, now),
                Some(job) => match &job.place {
                    Place::Waiting(ms) | Place::Delayed(ms) | Place::Failed(ms) => {
                        (job.state_now(), *ms)
                    }
                    Place::Running(_) => (State::Running, first_ms(job)),
                },
            };
            return Ok(PushedJob { id, duplicate: true, state, run_at: rows::at(run_at) });
        }
        let len = self.count(tenant, queue, &[State::Waiting, State::Delayed]);
        if let Some(max) = self.settings_of(tenant, queue).max_depth
            && max <= len
        {
            return Err(Error::QueueFull { queue: queue.clone(), len, max });
        }
        let waits = |job: &Job| matches!(job.state_now(), State::Waiting | State::Delayed);
        let its = self.jobs.iter().filter(|(key, job)| key.0 == tenant && waits(job));
        let used = its.count() as u64;
        if let Allowance::AtMost(limit) = quotas.waiting
            && limit <= used
        {
            let retry_after = Some(Duration::from_secs(10));
            return Err(Error::Quota { quota: Quota::JobsWaiting, limit, used, retry_after });
        }
        Ok(self.insert(now, tenant, spec))
    }

    fn insert(&mut self, now: Ms, tenant: TenantId, spec: &Rc<Spec>) -> PushedJob {
        let id = self.next_id();
        let key = (tenant, id);
        self.known.insert((tenant, spec.queue.clone()));
        let of_type = self.types.get(&spec.job_type).cloned().unwrap_or_default();
        let of_queue = self.settings_of(tenant, &spec.queue).rules;
        let rules = spec.rules.clone().or(&of_type).or(&of_queue);
        let run_ms = first_moment(spec, now);
        let delayed = now < run_ms;
        if let Some(unique) = &spec.unique {
            self.hold(key, &spec.queue, unique, now);
        }
        let job = Job {
            spec: Rc::clone(spec),
            created_ms: now,
            max_tries: rules.max_tries.unwrap_or(10),
            max_crashes: rules.max_crashes.unwrap_or(3),
            timeout: rules.timeout.unwrap_or(Duration::from_hours(1)),
            backoff: rules.backoff.unwrap_or_default(),
            place: if delayed { Place::Delayed(run_ms) } else { Place::Waiting(run_ms) },
            attempt: 0,
            errors: 0,
            crashes: 0,
            started: None,
            error: None,
            reason: None,
            progress: None,
            checkpoint: None,
            last_end: None,
        };
        let state = job.state_now();
        self.jobs.insert(key, job);
        PushedJob { id, duplicate: false, state, run_at: rows::at(run_ms) }
    }

    /// What is leased, in order; tokens are those of `told`.
    pub(super) fn lease(
        &mut self,
        at: At<'_>,
        tenant: TenantId,
        want: &Want,
        taken: &Taken,
    ) -> Vec<Leased> {
        let mut answer = taken.jobs.iter().peekable();
        // Only so many throttled jobs are moved aside at once; then the rest is for the next one who asks.
        let may_stop = taken.again_at == Some(at.now.mono) && 200 < self.jobs.len();
        let (mut leased, mut bytes) = (Vec::<Leased>::new(), 0);
        for queue in &want.queues {
            let settings = self.settings_of(tenant, queue);
            let waiting = self.count(tenant, queue, &[State::Waiting]);
            if settings.paused
                || waiting == 0
                || want.max <= leased.len()
                || LEASE_BYTES_MAX <= bytes
            {
                continue;
            }
            let running = self.count(tenant, queue, &[State::Running]);
            let slots = settings
                .concurrency
                .map_or(u64::MAX, |most| u64::from(most).saturating_sub(running));
            let wanted = slots.min((want.max - leased.len()) as u64);
            let place = (tenant, queue.clone());
            let bucket = self.buckets.get_mut(&place);
            let allowed = bucket.map_or(wanted, |bucket| bucket.take(at.now.mono, wanted));
            let (mut taken, mut probed) = (0, BTreeSet::new());
            while taken < allowed && bytes < LEASE_BYTES_MAX {
                let Some((key, probe)) = self.first(at, tenant, queue, &probed) else {
                    break;
                };
                if may_stop && answer.peek().is_none_or(|job| job.token.job != key.1) {
                    break;
                }
                let given = answer.next().map(|job| job.token);
                if probe {
                    let job_type = self.jobs[&key].spec.job_type.clone();
                    self.budget(key, &job_type).took_probe(at.now.mono);
                    probed.insert(job_type);
                }
                let job = self.start(at, key, want, given);
                bytes += job.payload.bytes.len();
                leased.push(job);
                taken += 1;
            }
            if let Some(bucket) = self.buckets.get_mut(&place) {
                bucket.give_back(allowed - taken);
            }
        }
        leased
    }

    fn first(
        &self,
        at: At<'_>,
        tenant: TenantId,
        queue: &QueueName,
        probed: &BTreeSet<String>,
    ) -> Option<(Key, bool)> {
        let admission = |job: &Job| {
            let of = (tenant, queue.clone(), job.spec.job_type.clone());
            let budget = self.budgets.get(&of);
            budget.map_or(Admission::Free, |budget| budget.admits(at.now.mono))
        };
        let waiting =
            self.of_queue(tenant, queue).filter(|(_, job)| job.state_now() == State::Waiting);
        let may = waiting.filter_map(|(key, job)| match admission(job) {
            Admission::Free => Some((job.order(key.1), *key, false)),
            Admission::Probe if !probed.contains(&job.spec.job_type) => {
                Some((job.order(key.1), *key, true))
            }
            Admission::Probe | Admission::NotBefore(_) => None,
        });
        may.min().map(|(_, key, probe)| (key, probe))
    }

    fn budget(&mut self, key: Key, job_type: &str) -> &mut Budget {
        let queue = self.jobs[&key].spec.queue.clone();
        self.budgets.entry((key.0, queue, job_type.to_owned())).or_default()
    }

    fn start(&mut self, at: At<'_>, key: Key, want: &Want, token: Option<LeaseToken>) -> Leased {
        let now = at.now;
        let token =
            token.unwrap_or(LeaseToken { job: key.1, fence: self.last_fence + 1, secret: 0 });
        assert_eq!(token.job, key.1, "another job came first");
        assert!(self.last_fence < token.fence, "{token:?} after fence {}", self.last_fence);
        (self.last_fence, self.told.0) = (token.fence, token.fence);
        let job = self.jobs.get_mut(&key).unwrap();
        let Place::Waiting(since) = job.place else { panic!("it does not wait") };
        let length = want.lease.unwrap_or(Duration::from_mins(1)).min(job.timeout);
        job.attempt += 1;
        let started_before = job.started.replace(at.ms());
        job.place = Place::Running(Box::new(Lease {
            token,
            worker: want.worker.clone(),
            process: want.process,
            noted: want.process,
            since,
            started_before,
            length,
            until: now.mono.plus(length),
            timeout: now.mono.plus(job.timeout),
            until_ms: rows::ms(now.wall.plus(length)),
            timeout_ms: rows::ms(now.wall.plus(job.timeout)),
            cancel: false,
            grace: false,
            progress: None,
        }));
        let spec = Rc::clone(&job.spec);
        let leased = Leased {
            token,
            queue: spec.queue.clone(),
            job_type: spec.job_type.clone(),
            payload: spec.payload.clone(),
            attempt: job.attempt,
            errors: job.errors,
            crashes: job.crashes,
            max_tries: job.max_tries,
            until: now.wall.plus(length),
            deadline: now.wall.plus(job.timeout),
            timeout: job.timeout,
            tags: spec.tags.clone(),
            checkpoint: job.checkpoint.clone(),
        };
        if spec.unique.as_ref().is_some_and(|unique| unique.until == Until::Started) {
            self.let_go(key, &spec);
        }
        leased
    }

    fn held(&self, tenant: TenantId, token: LeaseToken) -> Option<Key> {
        let key = (tenant, token.job);
        let lease = self.jobs.get(&key)?.lease()?;
        (lease.token == token).then_some(key)
    }

    pub(super) fn end(
        &mut self,
        at: At<'_>,
        tenant: TenantId,
        token: LeaseToken,
        end: &End,
    ) -> Report {
        let verb = match end {
            End::Done { .. } => 0,
            End::Fail { .. } => 1,
            End::Release { .. } => 2,
        };
        let Some(key) = self.held(tenant, token) else {
            return self.again(tenant, token, verb);
        };
        let cancel = self.jobs[&key].lease().unwrap().cancel;
        Report::Ended(match end {
            End::Done { result } => self.over(at, key, State::Done, result.clone()),
            _ if cancel => self.over(at, key, State::Cancelled, None),
            End::Fail { failure, retry } => {
                let trace = failure.trace.clone();
                let error = (failure.class.clone(), failure.message.clone(), trace);
                self.error(at, key, error, (*retry, verb))
            }
            End::Release { delay, reason } => {
                self.jobs.get_mut(&key).unwrap().reason.clone_from(reason);
                self.go_back(at, key, Some(*delay), verb)
            }
        })
    }

    fn again(&self, tenant: TenantId, token: LeaseToken, verb: u8) -> Report {
        let key = (tenant, token.job);
        if let Some(job) = self.jobs.get(&key) {
            return match job.last_end {
                Some((last, its, outcome)) if last == token && its == verb => {
                    Report::Repeated(outcome)
                }
                _ => Report::Lost(job.state_now()),
            };
        }
        let Some(over) = self.outbox.get(&key).filter(|over| !over.is_gone()) else {
            return Report::Unknown;
        };
        let same = match over.state {
            State::Done => verb == 0,
            State::Failed => verb == 1,
            _ => verb != 0,
        };
        if same && over.token == Some((token.fence, token.secret)) {
            return Report::Repeated(Outcome { state: over.state, run_at: None });
        }
        Report::Lost(over.state)
    }

    fn ended(&mut self, at: At<'_>, key: Key, failed: bool) {
        let job_type = self.jobs[&key].spec.job_type.clone();
        self.budget(key, &job_type).ended(at.now.mono, failed);
    }

    fn over(&mut self, at: At<'_>, key: Key, state: State, result: Option<Vec<u8>>) -> Outcome {
        if state == State::Done {
            self.ended(at, key, false);
        }
        let job = self.jobs.remove(&key).unwrap();
        if job.spec.unique.as_ref().is_some_and(|unique| unique.until != Until::Ttl) {
            self.let_go(key, &job.spec);
        }
        let token = job.lease().map(|lease| (lease.token.fence, lease.token.secret));
        let counts = (job.attempt, job.errors, job.crashes);
        let result = result.map(|result| result.len());
        let over = Over { state, at_ms: at.ms(), token, counts, result };
        self.outbox.insert(key, over);
        Outcome { state, run_at: None }
    }

    fn error(
        &mut self,
        at: At<'_>,
        key: Key,
        error: (String, String, Option<String>),
        (retry, verb): (Retry, u8),
    ) -> Outcome {
        self.ended(at, key, true);
        let job = self.jobs.get_mut(&key).unwrap();
        job.errors += 1;
        job.error = Some(error);
        if retry == Retry::Never || job.max_tries <= job.errors {
            return self.give_up(at, key, verb);
        }
        match retry {
            Retry::After(delay) => self.go_back(at, key, Some(delay), verb),
            Retry::ByPolicy | Retry::Never => self.back_off(at, key, job_errors, verb),
        }
    }

    /// Back after a wait that is partly left to chance.
    fn back_off(&mut self, at: At<'_>, key: Key, of: fn(&Job) -> u32, verb: u8) -> Outcome {
        let job = &self.jobs[&key];
        let told = at.job(key).expect("it is there");
        let waited = rows::ms(told.run_at).saturating_sub(at.ms());
        let (shortest, longest) = match &job.backoff {
            Backoff::Fixed { base } => (*base, *base),
            Backoff::List(list) => {
                let wait = list[(of(job) as usize - 1).min(list.len() - 1)];
                (wait, wait)
            }
            Backoff::Exponential { base, cap } => {
                let grown = (*base * 2_u32.pow((of(job) - 1).min(20))).min(*cap);
                (grown / 2, (grown + grown / 2).min(*cap))
            }
        };
        let range = rows::length_ms(shortest)..=rows::length_ms(longest);
        assert!(range.contains(&waited), "{waited} ms of {range:?}");
        self.go_back(at, key, Some(Duration::from_millis(waited)), verb)
    }

    fn go_back(&mut self, at: At<'_>, key: Key, delay: Option<Duration>, verb: u8) -> Outcome {
        let run_ms = at.ms() + rows::length_ms(delay.unwrap_or_default());
        let delayed = at.ms() < run_ms;
        let place = if delayed { Place::Delayed(run_ms) } else { Place::Waiting(run_ms) };
        self.settle(key, place, verb, delayed.then(|| rows::at(run_ms)))
    }

    fn settle(
        &mut self,
        key: Key,
        place: Place,
        verb: u8,
        run_at: Option<crate::base::time::Timestamp>,
    ) -> Outcome {
        let job = self.jobs.get_mut(&key).unwrap();
        let lease = job.lease().expect("it runs").clone();
        job.progress = lease.progress.or(job.progress);
        job.place = place;
        let outcome = Outcome { state: job.state_now(), run_at };
        job.last_end = Some((lease.token, verb, outcome));
        outcome
    }

    fn give_up(&mut self, at: At<'_>, key: Key, verb: u8) -> Outcome {
        let token = self.jobs[&key].lease().map(|lease| (lease.token.fence, lease.token.secret));
        let outcome = self.settle(key, Place::Failed(at.ms()), verb, None);
        let job = self.jobs[&key].clone();
        if job.spec.unique.as_ref().is_some_and(|unique| unique.until != Until::Ttl) {
            self.let_go(key, &job.spec);
        }
        if let Some(followup) = &job.spec.on_failed {
            let mut spec = Spec::new(followup.queue.clone(), followup.payload.clone());
            spec.job_type.clone_from(&followup.job_type);
            self.insert(at.ms(), key.0, &Rc::new(spec));
        }
        let counts = (job.attempt, job.errors, job.crashes);
        let over = Over { state: State::Failed, at_ms: at.ms(), token, counts, result: None };
        self.outbox.insert(key, over);
        outcome
    }

    /// An attempt ends without a word of its worker.
    fn break_off(&mut self, at: At<'_>, key: Key, how: &str) {
        if self.jobs[&key].lease().unwrap().cancel {
            self.over(at, key, State::Cancelled, None);
            return;
        }
        if how == "returned" {
            self.go_back(at, key, None, 3);
            return;
        }
        let told = at.job(key).expect("it is there").last_error.expect("it has a cause");
        assert_eq!(told.class, how);
        let error = (told.class, told.message, told.trace);
        if how == "timeout" {
            self.error(at, key, error, (Retry::ByPolicy, 3));
            return;
        }
        let job = self.jobs.get_mut(&key).unwrap();
        job.crashes += 1;
        job.error = Some(error);
        if job.max_crashes <= job.crashes {
            self.give_up(at, key, 3);
        } else if job.crashes == 1 {
            self.go_back(at, key, None, 3);
        } else {
            self.back_off(at, key, |job| job.crashes - 1, 3);
        }
    }

    fn running(&self, its: impl Fn(Key, &Lease) -> bool) -> Vec<Key> {
        let found = self
            .jobs
            .iter()
            .filter(|(key, job)| job.lease().is_some_and(|lease| its(**key, lease)));
        found.map(|(key, _)| *key).collect()
    }

    pub(super) fn ends(&mut self, at: At<'_>) {
        let now = at.now.mono;
        let end = |lease: &Lease| lease.until.min(lease.timeout);
        let mut over = self.running(|_, lease| end(lease) <= now);
        over.sort_by_key(|key| (end(self.jobs[key].lease().unwrap()), *key));
        for key in over {
            let lease = self.jobs[&key].lease().unwrap();
            let how = match (lease.timeout <= now, lease.grace) {
                (true, _) => "timeout",
                (false, true) => "returned",
                (false, false) => "crash",
            };
            self.break_off(at, key, how);
        }
    }

    pub(super) fn next_end(&self) -> Option<Mono> {
        let leases = self.jobs.values().filter_map(Job::lease);
        leases.map(|lease| lease.until.min(lease.timeout)).min()
    }

    pub(super) fn died(&mut self, at: At<'_>, process: (u32, u64), counted: bool) -> usize {
        let its = self.running(|_, lease| lease.process == Some(process));
        for key in &its {
            self.break_off(at, *key, if counted { "crash" } else { "returned" });
        }
        its.len()
    }

    fn of_worker(&self, tenant: TenantId, worker: &str) -> Vec<Key> {
        self.running(|key, lease| key.0 == tenant && lease.worker.as_deref() == Some(worker))
    }

    pub(super) fn goodbye(&mut self, at: At<'_>, tenant: TenantId, worker: &str) -> usize {
        let its = self.of_worker(tenant, worker);
        for key in &its {
            self.break_off(at, *key, "returned");
        }
        its.len()
    }

    pub(super) fn pin(&mut self, tenant: TenantId, worker: &str, process: (u32, u64)) {
        for key in self.of_worker(tenant, worker) {
            let lease = self.jobs.get_mut(&key).unwrap().lease_mut();
            (lease.process, lease.noted) = (Some(process), Some(process));
        }
    }

    pub(super) fn give_back(&mut self, at: At<'_>, tenant: TenantId, tokens: &[LeaseToken]) {
        for token in tokens {
            let Some(key) = self.held(tenant, *token) else {
                continue;
            };
            let job = self.jobs.get_mut(&key).unwrap();
            let lease = job.lease().unwrap().clone();
            if lease.cancel {
                self.over(at, key, State::Cancelled, None);
                continue;
            }
            job.attempt -= 1;
            job.started = lease.started_before;
            job.place = Place::Waiting(lease.since);
            let spec = Rc::clone(&job.spec);
            if let Some(unique) = &spec.unique
                && unique.until == Until::Started
                && self.holder(tenant, &spec.queue, &unique.key, at.ms()).is_none()
            {
                self.hold(key, &spec.queue, unique, at.ms());
            }
        }
    }

    pub(super) fn extend(
        &mut self,
        at: At<'_>,
        tenant: TenantId,
        token: LeaseToken,
        extension: &Extension,
    ) -> Option<Extended> {
        let key = self.held(tenant, token)?;
        let job = self.jobs.get_mut(&key).unwrap();
        if let Some(checkpoint) = &extension.checkpoint {
            job.checkpoint = Some(checkpoint.clone());
        }
        let lease = job.lease_mut();
        let by = extension.by.unwrap_or(lease.length);
        lease.progress = extension.progress.or(lease.progress);
        lease.until = at.now.mono.plus(by).min(lease.timeout);
        lease.until_ms = (at.ms() + rows::length_ms(by)).min(lease.timeout_ms);
        lease.grace = false;
        Some(Extended { until: rows::at(lease.until_ms), cancel: lease.cancel })
    }

    pub(super) fn renew(
        &mut self,
        at: At<'_>,
        tenant: TenantId,
        (worker, leases): (&str, Option<&[LeaseToken]>),
        by: Option<Duration>,
    ) -> Renewed {
        let all = self.of_worker(tenant, worker);
        let all = all.iter().map(|key| self.jobs[key].lease().unwrap().token).collect();
        let leases = leases.map_or(all, <[_]>::to_vec);
        let mut renewed = Renewed::default();
        let extension = Extension { by, progress: None, checkpoint: None };
        for token in leases {
            match self.extend(at, tenant, token, &extension) {
                None => renewed.lost.push(token),
                Some(extended) if extended.cancel => renewed.cancel.push(token.job),
                Some(_) => {}
            }
        }
        renewed
    }

    pub(super) fn cancel(&mut self, at: At<'_>, key: Key) -> Cancelled {
        let Some(job) = self.jobs.get_mut(&key) else {
            let over = self.outbox.get(&key).filter(|over| !over.is_gone());
            return over.map_or(Cancelled::Unknown, |over| Cancelled::Over(over.state));
        };
        match &mut job.place {
            Place::Running(lease) => {
                lease.cancel = true;
                Cancelled::Signalled
            }
            Place::Failed(_) => Cancelled::Over(State::Failed),
            Place::Waiting(_) | Place::Delayed(_) => {
                self.over(at, key, State::Cancelled, None);
                Cancelled::Removed
            }
        }
    }

    pub(super) fn clear(
        &mut self,
        at: At<'_>,
        tenant: TenantId,
        (queue, state): (&QueueName, State),
    ) -> u64 {
        let its = self.of_queue(tenant, queue).filter(|(_, job)| job.state_now() == state);
        let keys: Vec<Key> = its.map(|(key, _)| *key).collect();
        for key in &keys {
            if state == State::Failed {
                self.discard(at, *key);
            } else {
                self.over(at, *key, State::Cancelled, None);
            }
        }
        keys.len() as u64
    }

    fn discard(&mut self, at: At<'_>, key: Key) {
        self.jobs.remove(&key);
        self.gone(at, key);
    }

    /// The history has to forget it.
    fn gone(&mut self, at: At<'_>, key: Key) {
        self.outbox.insert(key, Over { at_ms: at.ms(), ..Over::GONE });
    }

    /// Failed jobs in the order in which they stand.
    fn failed(&self, tenant: TenantId) -> Vec<Key> {
        let its = self.jobs.iter().filter_map(|(key, job)| match job.place {
            Place::Failed(at) if key.0 == tenant => {
                Some((job.spec.queue.as_str().as_bytes().to_vec(), at, *key))
            }
            _ => None,
        });
        let mut its: Vec<_> = its.collect();
        its.sort();
        its.into_iter().map(|(.., key)| key).collect()
    }

    pub(super) fn sentence(
        &mut self,
        at: At<'_>,
        tenant: TenantId,
        (which, verdict): (&Which, Verdict),
    ) -> u64 {
        let keys: Vec<Key> = match which {
            Which::Ids(ids) => ids.iter().map(|id| (tenant, *id)).collect(),
            Which::Queue(queue) => {
                let its = self.failed(tenant).into_iter();
                its.filter(|key| self.jobs[key].spec.queue == *queue).collect()
            }
            Which::Fingerprint(wanted) => {
                let its = self.failed(tenant).into_iter();
                its.filter(|key| self.fingerprint(*key) == *wanted).collect()
            }
        };
        let mut count = 0;
        for key in keys {
            if self.jobs.get(&key).is_none_or(|job| job.state_now() != State::Failed) {
                continue;
            }
            match verdict {
                Verdict::Discard => self.discard(at, key),
                Verdict::Retry { pace } => {
                    if !self.retry(at, key, pace * u32::try_from(count).unwrap()) {
                        continue;
                    }
                }
            }
            count += 1;
        }
        count
    }

    fn fingerprint(&self, key: Key) -> u64 {
        let (class, message, trace) = self.jobs[&key].error.clone().unwrap();
        fingerprint(&class, &message, trace.as_deref())
    }

    fn retry(&mut self, at: At<'_>, key: Key, delay: Duration) -> bool {
        let spec = Rc::clone(&self.jobs[&key].spec);
        if let Some(unique) = &spec.unique
            && unique.until != Until::Ttl
        {
            if self.holder(key.0, &spec.queue, &unique.key, at.ms()).is_some() {
                return false;
            }
            self.hold(key, &spec.queue, unique, at.ms());
        }
        let job = self.jobs.get_mut(&key).unwrap();
        (job.errors, job.crashes) = (0, 0);
        let run_ms = at.ms() + rows::length_ms(delay);
        job.place = if at.ms() < run_ms { Place::Delayed(run_ms) } else { Place::Waiting(run_ms) };
        self.gone(at, key);
        true
    }

    pub(super) fn prune(
        &mut self,
        at: At<'_>,
        (tenant, queue): (TenantId, &QueueName),
        (age, rows_max): (Duration, usize),
    ) {
        let age = self.settings_of(tenant, queue).keep.failed.unwrap_or(age);
        let old_ms = rows::ms(at.now.wall.minus(age));
        let its = self.failed(tenant).into_iter();
        let its: Vec<Key> = its.filter(|key| self.jobs[key].spec.queue == *queue).collect();
        for (place, key) in its.iter().enumerate() {
            let Place::Failed(failed_ms) = self.jobs[key].place else { unreachable!() };
            if failed_ms < old_ms || rows_max < its.len() - place {
                self.discard(at, *key);
            }
        }
    }

    pub(super) fn patch(
        &mut self,
        at: At<'_>,
        (tenant, queue): (TenantId, &QueueName),
        patch: &Patch,
        allowance: Allowance,
    ) -> Result<Settings, Error> {
        self.ensure(tenant, queue, allowance)?;
        let (place, before) = ((tenant, queue.clone()), self.settings_of(tenant, queue));
        let after = patch.apply(&before);
        if before.rate != after.rate {
            self.buckets.remove(&place);
            if let Some(rate) = after.rate {
                self.buckets.insert(place.clone(), Bucket::new(rate, at.now.mono));
            }
        }
        if after == Settings::default() {
            self.settings.remove(&place);
        } else {
            self.settings.insert(place, after.clone());
        }
        Ok(after)
    }

    pub(super) fn forget(&mut self, tenant: TenantId, queue: &QueueName) -> Result<bool, Error> {
        let place = (tenant, queue.clone());
        let jobs = self.of_queue(tenant, queue).count() as u64;
        if 0 < jobs {
            return Err(Error::QueueNotEmpty { queue: queue.clone(), jobs });
        }
        self.settings.remove(&place);
        self.forget_counted(&place);
        Ok(self.known.remove(&place))
    }

    fn forget_counted(&mut self, place: &(TenantId, QueueName)) {
        self.buckets.remove(place);
        self.budgets.retain(|(tenant, queue, _), _| (*tenant, queue) != (place.0, &place.1));
    }

    /// Empty queues are forgotten.
    pub(super) fn sweep(&mut self) {
        for place in self.known.clone() {
            if self.is_empty(&place) {
                self.known.remove(&place);
                self.forget_counted(&place);
            }
        }
    }

    fn is_empty(&self, place: &(TenantId, QueueName)) -> bool {
        !self.settings.contains_key(place) && self.of_queue(place.0, &place.1).next().is_none()
    }

    pub(super) fn remove_tenant(&mut self, tenant: TenantId) {
        self.jobs.retain(|key, _| key.0 != tenant);
        self.uniques.retain(|key, _| key.0 != tenant);
        self.calls.retain(|key, _| key.0 != tenant);
        self.settings.retain(|key, _| key.0 != tenant);
        self.outbox.retain(|key, _| key.0 != tenant);
        self.schedules.retain(|key, _| key.0 != tenant);
        self.buckets.retain(|key, _| key.0 != tenant);
        self.budgets.retain(|key, _| key.0 != tenant);
        self.known.retain(|key| key.0 != tenant);
        self.today.remove(&tenant);
        self.day_rows.remove(&tenant);
    }

    pub(super) fn schedule(
        &mut self,
        at: At<'_>,
        (tenant, name): (TenantId, &str),
        (every, overlap, catch_up): (Duration, Overlap, CatchUp),
        (spec, allowance): (&Rc<Spec>, Allowance),
    ) -> Result<bool, Error> {
        self.ensure(tenant, &spec.queue, allowance)?;
        let place = (tenant, name.to_owned());
        let before = self.schedules.get(&place);
        let every_ms = rows::length_ms(every);
        let same = before.filter(|before| before.every_ms == every_ms);
        let handled = same.map_or(at.ms(), |before| before.handled);
        let last_job = before.and_then(|before| before.last_job);
        let new = before.is_none();
        let spec = Rc::clone(spec);
        let plan = Plan { every_ms, overlap, catch_up, spec, handled, last_job };
        self.schedules.insert(place, plan);
        Ok(new)
    }

    fn fire(&mut self, at: At<'_>, tenant: TenantId, name: &str) {
        let place = (tenant, name.to_owned());
        let mut plan = self.schedules[&place].clone();
        let now = at.ms();
        let first = plan.next();
        let moments = (now / plan.every_ms) - (plan.handled / plan.every_ms);
        let last = now / plan.every_ms * plan.every_ms;
        plan.handled = last;
        let missed = 60_000 < now - first;
        let all = moments.min(SCHEDULE_CATCH_UP_MAX as u64);
        let jobs = match plan.catch_up {
            _ if !missed => all,
            CatchUp::None => u64::from(now - last <= 60_000),
            CatchUp::One => 1,
            CatchUp::All => all,
        };
        for _ in 0..jobs {
            let live = plan.last_job.and_then(|id| self.jobs.get(&(tenant, id)));
            let live = live.is_some_and(|job| !job.state_now().is_finished());
            if plan.overlap == Overlap::Skip && live {
                break;
            }
            let spec = [Rc::clone(&plan.spec)];
            if let Ok(pushed) = self.push(at, tenant, (&spec, None), &Quotas::UNLIMITED) {
                plan.last_job = Some(pushed.jobs[0].id);
            }
        }
        self.schedules.insert(place, plan);
    }

    /// Everything that has a moment, in the order in which it is due.
    fn dues(&self) -> BTreeMap<Vec<u8>, (Ms, Due)> {
        let mut dues = BTreeMap::new();
        let mut add = |at: Ms, due: Due| dues.insert(due.key(at), (at, due));
        for ((tenant, id), job) in &self.jobs {
            if let Place::Delayed(until) = job.place {
                add(until, Due::Job(*tenant, *id));
            }
        }
        for ((tenant, queue, key), (_, until)) in &self.uniques {
            if let Some(until) = until {
                add(*until, Due::Unique(*tenant, queue.clone(), key.clone()));
            }
        }
        for ((tenant, key), call) in &self.calls {
            add(call.until, Due::Call(*tenant, key.to_vec()));
        }
        for ((tenant, name), plan) in &self.schedules {
            add(plan.next(), Due::Schedule(*tenant, name.clone()));
        }
        dues
    }

    pub(super) fn first_due(&self) -> Option<Ms> {
        self.dues().values().next().map(|(at, _)| *at)
    }

    pub(super) fn due(&mut self, at: At<'_>) {
        let now = at.ms();
        for (at_ms, due) in self.dues().into_values().take_while(|(at_ms, _)| *at_ms <= now) {
            match due {
                Due::Job(tenant, id) => {
                    self.jobs.get_mut(&(tenant, id)).unwrap().place = Place::Waiting(at_ms);
                }
                Due::Unique(tenant, queue, key) => {
                    let place = (tenant, queue, key);
                    if self.uniques.get(&place).is_some_and(|(_, until)| *until == Some(at_ms)) {
                        self.uniques.remove(&place);
                    }
                }
                Due::Call(tenant, key) => {
                    self.calls.remove(&(tenant, key.try_into().unwrap()));
                }
                Due::Schedule(tenant, name) => self.fire(at, tenant, &name),
            }
        }
    }

    /// The file is opened anew.
    pub(super) fn restart(&mut self, now: Now, rebooted: bool) {
        self.budgets.clear();
        self.today = self.day_rows.clone();
        self.known = self.settings.keys().cloned().collect();
        let jobs = self.jobs.iter();
        self.known.extend(jobs.map(|(key, job)| (key.0, job.spec.queue.clone())));
        self.buckets.clear();
        for (place, settings) in &self.settings {
            let bucket = settings.rate.map(|rate| Bucket::new(rate, now.mono));
            self.buckets.extend(bucket.map(|bucket| (place.clone(), bucket)));
        }
        for job in self.jobs.values_mut() {
            let Place::Running(lease) = &mut job.place else {
                continue;
            };
            let left = |ms: Ms| rows::at(ms).since(now.wall);
            let grace = lease.length.min(Duration::from_secs(30));
            lease.process = lease.noted;
            let gone = rebooted && lease.process.is_some();
            lease.timeout = now.mono.plus(left(lease.timeout_ms).max(grace));
            lease.until = now.mono.plus(left(lease.until_ms).max(grace)).min(lease.timeout);
            lease.grace = left(lease.until_ms) <= grace || gone;
            if gone {
                (lease.until, lease.process) = (now.mono, None);
            }
        }
    }

    /// Whether the file says the same about every job.
    pub(super) fn assert_same(&self, view: &dyn Read, context: &str) {
        for (key, job) in &self.jobs {
            let told = view::job(view, key.0, key.1).unwrap();
            let told = told.unwrap_or_else(|| panic!("{context}: {} is lost", key.1));
            let error = told.last_error.map(|error| (error.class, error.message, error.trace));
            let (run_ms, finished) = match &job.place {
                Place::Waiting(ms) | Place::Delayed(ms) => (*ms, None),
                Place::Running(lease) => (lease.since, None),
                Place::Failed(ms) => (first_ms(job), Some(*ms)),
            };
            let lease = job.lease();
            let progress = lease.and_then(|lease| lease.progress).or(job.progress);
            assert_eq!(
                (told.state, rows::ms(told.run_at), told.attempt, told.errors, told.crashes),
                (job.state_now(), run_ms, job.attempt, job.errors, job.crashes),
                "{context}: {}",
                key.1
            );
            assert_eq!(
                (told.finished_at.map(rows::ms), told.started_at.map(rows::ms), error, told.reason),
                (finished, job.started, job.error.clone(), job.reason.clone()),
                "{context}: {}",
                key.1
            );
            assert_eq!(
                (
                    told.progress,
                    told.worker.as_deref(),
                    told.lease_until.map(rows::ms),
                    told.cancel
                ),
                (
                    progress,
                    lease.and_then(|lease| lease.worker.as_deref()),
                    lease.map(|lease| lease.until_ms),
                    lease.is_some_and(|lease| lease.cancel)
                ),
                "{context}: {}",
                key.1
            );
            assert_eq!(
                (told.payload == job.spec.payload, rows::ms(told.created_at), told.max_tries),
                (true, job.created_ms, job.max_tries),
                "{context}: {}",
                key.1
            );
        }
    }
}

fn job_errors(job: &Job) -> u32 {
    job.errors
}

/// When it may run for the first time, if it is pushed now.
fn first_moment(spec: &Spec, now: Ms) -> Ms {
    match spec.when {
        When::Now => now,
        When::After(delay) => now + rows::length_ms(delay),
        When::At(moment) => rows::ms(moment).max(now),
    }
}

fn first_ms(job: &Job) -> Ms {
    first_moment(&job.spec, job.created_ms)
}
