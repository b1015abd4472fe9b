//! Jobs as callers see them: their tenant's queues, their quotas, and waiting.
//!
//! What is over and has left the store is asked of the history ([`super::past`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::directory::TenantEntry;
use super::jobs::{Asked, Handed, Jobs, Round};
use super::past;
use super::{App, Error};
use crate::base::id::{JobId, TenantId};
use crate::base::limits::{JOB_WORKERS_MAX, LIST_MAX};
use crate::base::name::{QueueName, ScheduleName};
use crate::base::quota::{Allowance, Quota};
use crate::base::time::{Mono, Timestamp};
use crate::catalog::history::FinishedJob;
use crate::exec::writer::Effect;
use crate::queue::change::{self, Cancelled, Clear, Sentence, Verdict, Which};
use crate::queue::finish::{Report, judge_finished};
use crate::queue::job::{End, LeaseToken, Outcome, Rules, Spec, State};
use crate::queue::lease::{self, Extended, Extension, Want};
use crate::queue::memory::{Memory, Op, Qid};
use crate::queue::push::{self, Call, Pushed, Quotas};
use crate::queue::schedules::{self, Schedule, Wanted};
use crate::queue::settings::{Patch, Settings};
use crate::queue::tick;
use crate::queue::view::{self, Job, Why};
use crate::queue::workers::crew::Crew;
use crate::queue::workers::{Beat, Command, Served, Told, WorkerId};

/// What somebody wants to lease.
#[derive(Clone, Debug)]
pub struct Wish {
    /// From where, in order.
    pub queues: Vec<QueueName>,
    /// How many at most.
    pub max: usize,
    /// How long the worker may be silent.
    pub lease: Option<Duration>,
    /// How long to wait for a job.
    pub wait: Duration,
    /// Who it is.
    pub worker: Option<WorkerId>,
    /// The process at the other end of a Unix socket.
    pub peer: Option<u32>,
}

/// A job, wherever it was found.
#[derive(Clone, Debug)]
pub enum Found {
    /// In the store.
    Live(Box<Job>),
    /// On its way to the history, or there.
    Past(Box<FinishedJob>),
}

impl Found {
    /// Where it stands.
    pub fn state(&self) -> State {
        match self {
            Found::Live(job) => job.state,
            Found::Past(over) => State::of(over.state),
        }
    }
}

/// What a beat is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeatAnswer {
    /// What the worker is to do.
    pub command: Command,
    /// Jobs that nobody wants any more.
    pub cancel: Vec<JobId>,
    /// Leases that are none any more.
    pub lost: Vec<LeaseToken>,
}

/// A queue at one moment.
#[derive(Clone, Debug)]
pub struct QueueView {
    /// Its name.
    pub name: QueueName,
    /// Its settings.
    pub settings: Arc<Settings>,
    /// Whether somebody has set them.
    pub configured: bool,
    /// Jobs that may run.
    pub waiting: u64,
    /// Jobs that wait for a moment.
    pub delayed: u64,
    /// Jobs that somebody has.
    pub running: u64,
    /// Jobs that were given up.
    pub failed: u64,
    /// Since when the one that waits longest waits.
    pub oldest_waiting: Option<Timestamp>,
    /// What was counted.
    pub figures: crate::queue::figures::Told,
    /// By type.
    pub types: Vec<TypeView>,
    /// Workers that serve it.
    pub workers: usize,
    /// Jobs that they work on at a time, as far as was seen: a process may have several.
    pub places: usize,
    /// Whether any of them serves another queue too.
    pub workers_shared: bool,
}

impl QueueView {
    fn served_by(&mut self, served: Served) {
        self.workers = served.workers;
        self.places = served.places;
        self.workers_shared = served.shared;
    }
}

/// A type of jobs of a queue.
#[derive(Clone, Debug)]
pub struct TypeView {
    /// Its name.
    pub name: String,
    /// What was counted.
    pub figures: crate::queue::figures::Told,
    /// Whether so many of its attempts fail that they are tried one by one.
    pub throttled: bool,
}

impl App {
    /// The jobs, for their figures.
    pub fn jobs(&self) -> &Arc<Jobs> {
        &self.jobs
    }

    fn allowance(&self, tenant: &TenantEntry, quota: Quota) -> Allowance {
        let settings = self.settings();
        let tier = settings.tiers.get(&*tenant.tier).copied().unwrap_or_default();
        tenant.quotas.effective(quota, &tier)
    }

    fn push_quotas(&self, tenant: &TenantEntry) -> Quotas {
        Quotas {
            queues: self.allowance(tenant, Quota::Queues),
            waiting: self.allowance(tenant, Quota::JobsWaiting),
            per_day: self.allowance(tenant, Quota::JobsPerDay),
        }
    }

    /// Pushes jobs: all of them or none, in one commit.
    pub async fn queue_push(
        &self,
        tenant: &TenantEntry,
        specs: Vec<Spec>,
        call: Option<Call>,
    ) -> Result<Pushed, Error> {
        let (id, quotas) = (tenant.id, self.push_quotas(tenant));
        let bytes = specs.iter().map(|spec| spec.payload.bytes.len() + 256).sum();
        let terms = self.jobs.terms(Effect::Grows, bytes);
        let operation = move |op: &mut Op<'_>| push::push(op, id, specs, call.as_ref(), &quotas);
        self.jobs.run(terms, operation).await
    }

    /// What somebody wants, with all that is known of who it is.
    fn want(&self, tenant: &TenantEntry, wish: &Wish) -> Want {
        let now = self.jobs.now();
        let mut process = None;
        if let Some(worker) = &wish.worker {
            self.jobs.state.workers.lock().seen(tenant.id, worker, &wish.queues, now);
            process = self.jobs.process_of(tenant.id, worker);
            // A process that names no worker may be a tool that hands the job on and ends.
            if let (None, Some(pid)) = (process, wish.peer) {
                process = match self.jobs.pin(pid, None, Some((tenant.id, worker.clone()))) {
                    Ok(started) => Some((pid, started)),
                    Err(error) => {
                        tracing::debug!(pid, %error, "a process is not watched");
                        None
                    }
                };
            }
        }
        Want {
            queues: wish.queues.clone(),
            max: wish.max,
            lease: wish.lease,
            worker: wish.worker.as_ref().map(|worker| worker.as_str().into()),
            process,
        }
    }

    /// Leases jobs, and waits for them. What is returned is undone if it is not accepted.
    pub async fn queue_lease(
        &self,
        tenant: &TenantEntry,
        wish: &Wish,
        stop: impl Future<Output = ()>,
    ) -> Result<(Option<Handed>, Duration), Error> {
        let asked = Asked { want: self.want(tenant, wish), wait: wish.wait };
        let round = self.jobs.report_and_lease(tenant.id, Vec::new(), Some(asked), stop).await?;
        Ok((round.jobs, round.waited))
    }

    /// Ends attempts and leases the next jobs, in one commit; then waits for jobs, if there are none.
    pub async fn queue_report(
        &self,
        tenant: &TenantEntry,
        ends: Vec<(LeaseToken, End)>,
        next: Option<&Wish>,
        stop: impl Future<Output = ()>,
    ) -> Result<(Vec<Report>, Option<Handed>, Duration), Error> {
        let asked = next.map(|wish| Asked { want: self.want(tenant, wish), wait: wish.wait });
        let asked_of: Vec<_> = ends.iter().map(|(lease, end)| (*lease, end.verb())).collect();
        let round = self.jobs.report_and_lease(tenant.id, ends, asked, stop).await?;
        let Round { mut reports, jobs, waited } = round;
        for (report, (lease, verb)) in reports.iter_mut().zip(asked_of) {
            // What the store does not know any more, the history may.
            if *report == Report::Unknown
                && let Some(over) = self.past(tenant.id, lease.job).await?
            {
                *report = judge_finished(&past::lease_of(&over), lease, verb);
            }
        }
        Ok((reports, jobs, waited))
    }

    /// Ends one attempt; the same again is answered the same.
    pub async fn queue_end(
        &self,
        tenant: &TenantEntry,
        lease: LeaseToken,
        end: End,
    ) -> Result<Outcome, Error> {
        let never = std::future::pending();
        let (reports, _, _) = self.queue_report(tenant, vec![(lease, end)], None, never).await?;
        match reports.into_iter().next().expect("BUG: one was ended") {
            Report::Ended(outcome) | Report::Repeated(outcome) => Ok(outcome),
            Report::Lost(state) => Err(Error::LeaseLost(state)),
            Report::Unknown => Err(Error::UnknownLease),
        }
    }

    /// Extends a lease.
    pub async fn queue_extend(
        &self,
        tenant: &TenantEntry,
        lease: LeaseToken,
        extension: Extension,
    ) -> Result<Extended, Error> {
        let (id, bytes) = (tenant.id, extension.checkpoint.as_ref().map_or(0, Vec::len));
        let terms = self.jobs.terms(Effect::Frees, bytes);
        let operation = move |op: &mut Op<'_>| lease::extend(op, id, lease, &extension);
        match self.jobs.run(terms, operation).await? {
            Some(extended) => Ok(extended),
            None => match self.queue_job(tenant, lease.job).await {
                Ok(found) => Err(Error::LeaseLost(found.state())),
                Err(Error::UnknownJob(_)) => Err(Error::UnknownLease),
                Err(error) => Err(error),
            },
        }
    }

    /// A worker says that it is alive; its leases are renewed: these, or all.
    pub async fn queue_beat(
        &self,
        tenant: &TenantEntry,
        worker: &WorkerId,
        beat: Beat,
        (leases, extend): (Option<Vec<LeaseToken>>, Option<Duration>),
    ) -> Result<BeatAnswer, Error> {
        let id = tenant.id;
        let here = beat.host.as_deref() == Some(self.jobs.host_name());
        let pid = beat.pid.filter(|_| here);
        let now = self.jobs.now();
        let told = self.jobs.state.workers.lock().beat(id, worker, beat, now);
        let command = told.map_err(Error::TooManyWorkers)?;
        let new = pid
            .filter(|pid| self.jobs.process_of(id, worker).is_none_or(|(known, _)| known != *pid));
        let process = new.and_then(|pid| {
            let pinned = self.jobs.pin(pid, None, Some((id, worker.clone())));
            let pinned = pinned.inspect_err(|error| tracing::debug!(pid, %error, "not watched"));
            Some((pid, pinned.ok()?))
        });
        let name: Arc<str> = worker.as_str().into();
        let idle = leases.as_ref().is_none_or(Vec::is_empty)
            && !self.jobs.with_memory(|memory| memory.has_job(id, &name));
        if idle {
            return Ok(BeatAnswer { command, cancel: Vec::new(), lost: Vec::new() });
        }
        let operation = move |op: &mut Op<'_>| {
            if let Some(process) = process {
                lease::pin(op, id, &name, process)?;
            }
            lease::renew(op, id, &name, leases.as_deref(), extend)
        };
        let renewed = self.jobs.run(self.jobs.terms(Effect::Frees, 0), operation).await?;
        Ok(BeatAnswer { command, cancel: renewed.cancel, lost: renewed.lost })
    }

    /// A worker ends: what it has goes back, nothing is counted.
    pub async fn queue_goodbye(
        &self,
        tenant: &TenantEntry,
        worker: &WorkerId,
    ) -> Result<(), Error> {
        let (id, name): (_, Arc<str>) = (tenant.id, worker.as_str().into());
        let mut returned = 0;
        loop {
            let (terms, its) = (self.jobs.terms(Effect::Frees, 0), Arc::clone(&name));
            let goodbye = move |op: &mut Op<'_>| tick::goodbye(op, id, &its);
            match self.jobs.run(terms, goodbye).await? {
                0 => break,
                step => returned += step,
            }
        }
        let known = self.jobs.state.workers.lock().goodbye(id, worker, self.jobs.now());
        if known || 0 < returned { Ok(()) } else { Err(unknown_worker(worker)) }
    }

    /// What a worker is told from now on.
    pub fn queue_command(
        &self,
        tenant: &TenantEntry,
        worker: &WorkerId,
        command: Command,
    ) -> Result<(), Error> {
        let told = self.jobs.state.workers.lock().command(tenant.id, worker, command);
        if told { Ok(()) } else { Err(unknown_worker(worker)) }
    }

    /// All workers of a queue are told to begin anew; how many they are.
    pub fn queue_restart(&self, tenant: &TenantEntry, queue: &QueueName) -> usize {
        self.jobs.state.workers.lock().command_queue(tenant.id, queue, Command::Restart)
    }

    /// A worker, and whether it has a job.
    pub fn queue_worker(
        &self,
        tenant: &TenantEntry,
        worker: &WorkerId,
    ) -> Result<(Told, Vec<JobId>), Error> {
        let now = self.jobs.now();
        let told = self.jobs.state.workers.lock().get(tenant.id, worker, now);
        let told = told.ok_or_else(|| unknown_worker(worker))?;
        let jobs = self.jobs.with_memory(|memory| memory.jobs_of(tenant.id, worker.as_str()));
        Ok((told, jobs))
    }

    /// Workers by id, and the jobs they have.
    pub fn queue_workers(
        &self,
        tenant: &TenantEntry,
        after: Option<&WorkerId>,
        limit: usize,
    ) -> Vec<(Told, Vec<JobId>)> {
        let (now, limit) = (self.jobs.now(), limit.min(JOB_WORKERS_MAX));
        let page = self.jobs.state.workers.lock().page(tenant.id, after, limit, now);
        let jobs = |told: &Told| {
            self.jobs.with_memory(|memory| memory.jobs_of(tenant.id, told.id.as_str()))
        };
        page.into_iter().map(|told| (told.clone(), jobs(&told))).collect()
    }

    /// A job, wherever it is.
    pub async fn queue_job(&self, tenant: &TenantEntry, id: JobId) -> Result<Found, Error> {
        // Looked for in the order in which it travels, so that it is not missed on its way.
        let live = self.jobs.read(|view| {
            let job = view::job(view, tenant.id, id)?;
            Ok(job.map(|job| Found::Live(Box::new(job))))
        })?;
        if let Some(found) = live {
            return Ok(found);
        }
        let over = self.past(tenant.id, id).await?;
        over.map(|over| Found::Past(Box::new(over))).ok_or(Error::UnknownJob(id))
    }

    /// A job when it is over, or as it stands when the time is up. With it: how long that took.
    pub async fn queue_job_when_over(
        &self,
        tenant: &TenantEntry,
        id: JobId,
        wait: Duration,
        stop: impl Future<Output = ()>,
    ) -> Result<(Found, Duration), Error> {
        let began = self.clock.mono();
        let mut stop = std::pin::pin!(stop);
        let watch = self.jobs.state.watch((tenant.id, id));
        let mut stopped = false;
        loop {
            let told = watch.told.notified();
            let mut told = std::pin::pin!(told);
            // From here on nothing is missed.
            told.as_mut().enable();
            let found = self.queue_job(tenant, id).await?;
            let waited = self.clock.mono().since(began);
            if found.state().is_finished() || wait <= waited || stopped {
                return Ok((found, waited));
            }
            tokio::select! {
                biased;
                () = stop.as_mut() => stopped = true,
                _ = tokio::time::timeout(wait.saturating_sub(waited), told) => {}
            }
        }
    }

    /// Cancels a job; whether it is gone, or its worker is told.
    pub async fn queue_cancel(&self, tenant: &TenantEntry, id: JobId) -> Result<bool, Error> {
        let (tenant_id, terms) = (tenant.id, self.jobs.terms(Effect::Frees, 0));
        match self.jobs.run(terms, move |op: &mut Op<'_>| change::cancel(op, tenant_id, id)).await?
        {
            Cancelled::Removed => Ok(true),
            Cancelled::Signalled => Ok(false),
            Cancelled::Over(state) => Err(Error::JobFinished(state)),
            Cancelled::Unknown => match self.past(tenant.id, id).await? {
                Some(over) => Err(Error::JobFinished(State::of(over.state))),
                None => Err(Error::UnknownJob(id)),
            },
        }
    }

    /// Why a job does not run.
    pub async fn queue_why(&self, tenant: &TenantEntry, id: JobId) -> Result<Why, Error> {
        let now = self.jobs.now();
        let facts = |queue: &QueueName, job_type: &str| {
            self.jobs
                .with_memory(|memory| view::Facts::of(memory, now, (tenant.id, queue), job_type))
        };
        let why = self.jobs.read(|view| view::why(view, facts, now, (tenant.id, id)))?;
        if let Some(why) = why {
            return Ok(why);
        }
        match self.past(tenant.id, id).await? {
            Some(over) => {
                let (state, error) = (State::of(over.state), past::last_error(&over));
                let reason = view::Reason::Finished { state, error };
                Ok(Why { queue: over.queue, runnable: false, reasons: vec![reason], eta: None })
            }
            None => Err(Error::UnknownJob(id)),
        }
    }

    /// Jobs of the store that match; see [`view::list`].
    pub fn queue_list(
        &self,
        filter: &view::Filter,
        after: Option<view::Position>,
        limit: usize,
    ) -> Result<(Vec<Job>, Option<view::Position>), Error> {
        self.jobs.read(|view| view::list(view, filter, after, limit.min(LIST_MAX)))
    }

    /// A queue.
    pub fn queue_view(&self, tenant: &TenantEntry, name: &QueueName) -> Result<QueueView, Error> {
        let found = self.look_at_queues(tenant, std::slice::from_ref(name))?;
        found.into_iter().next().ok_or_else(|| Error::UnknownQueue(name.clone()))
    }

    /// Those of these queues that are there: one look at memory, one at the workers, one into the file.
    fn look_at_queues(
        &self,
        tenant: &TenantEntry,
        names: &[QueueName],
    ) -> Result<Vec<QueueView>, Error> {
        let now = self.jobs.now();
        let mut views: Vec<QueueView> = self.jobs.with_memory(|memory| {
            let qids: Vec<Qid> =
                names.iter().filter_map(|name| memory.qid(tenant.id, name)).collect();
            qids.into_iter().map(|qid| queue_view(memory, qid, now.mono)).collect()
        });
        let workers = self.jobs.state.workers.lock();
        let counts = workers.counts(tenant.id, now);
        for view in &mut views {
            view.served_by(counts.get(&view.name).copied().unwrap_or_default());
        }
        drop(counts);
        drop(workers);
        self.jobs.read(|file| {
            for view in views.iter_mut().filter(|view| 0 < view.waiting) {
                view.oldest_waiting = view::oldest_waiting(file, tenant.id, view.name.as_str())?;
            }
            Ok(())
        })?;
        Ok(views)
    }

    /// The queues of a tenant by name, behind this one.
    pub fn queue_views(
        &self,
        tenant: &TenantEntry,
        after: Option<&QueueName>,
        limit: usize,
    ) -> Result<Vec<QueueView>, Error> {
        let names = self.jobs.with_memory(|memory| names(memory, tenant, after, limit));
        self.look_at_queues(tenant, &names)
    }

    /// The queues of all tenants that were active last, for their figures.
    pub fn queues_told(&self, limit: usize) -> Vec<(TenantId, QueueView)> {
        let mut views = self.queues_active(limit);
        let read = self.jobs.read(|file| {
            for (tenant, view) in views.iter_mut().filter(|(_, view)| 0 < view.waiting) {
                view.oldest_waiting = view::oldest_waiting(file, *tenant, view.name.as_str())?;
            }
            Ok(())
        });
        // What cannot be read now is not told.
        drop(read.inspect_err(|error| tracing::debug!(%error, "figures are missing")));
        views
    }

    /// The same with their workers, and without a look into the file.
    pub(super) fn queues_watched(&self, limit: usize) -> Vec<(TenantId, QueueView)> {
        let mut views = self.queues_active(limit);
        let now = self.jobs.now();
        let workers = self.jobs.state.workers.lock();
        // Those of a tenant stand together.
        for of_tenant in views.chunk_by_mut(|(one, _), (other, _)| one == other) {
            let counts = of_tenant.first().map(|(tenant, _)| workers.counts(*tenant, now));
            let counts = counts.unwrap_or_default();
            for (_, view) in of_tenant {
                view.served_by(counts.get(&view.name).copied().unwrap_or_default());
            }
        }
        views
    }

    /// The queues of all tenants that were active last, by tenant and name, as memory knows them.
    fn queues_active(&self, limit: usize) -> Vec<(TenantId, QueueView)> {
        let now = self.jobs.now();
        self.jobs.with_memory(|memory| {
            let mut last: Vec<_> = memory
                .all_queues()
                .map(|queue| (queue.active_at, queue.tenant, queue.name.clone()))
                .collect();
            if limit < last.len() {
                last.select_nth_unstable_by(limit, |a, b| b.0.cmp(&a.0));
                last.truncate(limit);
            }
            last.sort_unstable_by(|a, b| (a.1, &a.2).cmp(&(b.1, &b.2)));
            let view = |(_, tenant, name): (Mono, TenantId, QueueName)| {
                let qid = memory.qid(tenant, &name)?;
                Some((tenant, queue_view(memory, qid, now.mono)))
            };
            last.into_iter().filter_map(view).collect()
        })
    }

    /// The workers of each tenant that has or had any.
    pub fn workers_told(&self) -> BTreeMap<TenantId, Crew> {
        let now = self.jobs.now();
        self.jobs.state.workers.lock().crews(now)
    }

    /// Counts how workers spent the time since this was last called, those who do not say so themselves.
    pub fn workers_tick(&self) {
        let now = self.jobs.now();
        let mut workers = self.jobs.state.workers.lock();
        // The workers first, then the memory, as everywhere.
        self.jobs.with_memory(|memory| {
            workers.tick(now, &|tenant, worker| memory.jobs_held(tenant, worker.as_str()));
        });
    }

    /// Changes the settings of a queue.
    pub async fn queue_patch(
        &self,
        tenant: &TenantEntry,
        name: QueueName,
        patch: Patch,
    ) -> Result<Settings, Error> {
        let (id, queues) = (tenant.id, self.allowance(tenant, Quota::Queues));
        let terms = self.jobs.terms(Effect::Frees, 0);
        let operation = move |op: &mut Op<'_>| change::patch(op, id, (&name, &patch), queues);
        self.jobs.run(terms, operation).await
    }

    /// Forgets a queue that has no jobs.
    pub async fn queue_forget(&self, tenant: &TenantEntry, name: QueueName) -> Result<(), Error> {
        let (id, its) = (tenant.id, name.clone());
        let terms = self.jobs.terms(Effect::Frees, 0);
        let there =
            self.jobs.run(terms, move |op: &mut Op<'_>| change::forget(op, id, &its)).await?;
        if there { Ok(()) } else { Err(Error::UnknownQueue(name)) }
    }

    /// Removes the jobs of a queue that are in these states; how many that were.
    pub async fn queue_clear(
        &self,
        tenant: &TenantEntry,
        queue: &QueueName,
        states: &[State],
    ) -> Result<u64, Error> {
        let id = tenant.id;
        let mut cleared = 0;
        for state in states {
            let mut after = None;
            loop {
                let clear = Clear { queue: queue.clone(), state: *state, after };
                let terms = self.jobs.terms(Effect::Frees, 0);
                let operation = move |op: &mut Op<'_>| change::clear_step(op, id, &clear);
                let (count, next) = self.jobs.run(terms, operation).await?;
                cleared += count;
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
        Ok(cleared)
    }

    /// Tries failed jobs again, or discards them; how many that were.
    pub async fn queue_sentence(
        &self,
        tenant: &TenantEntry,
        which: Which,
        verdict: Verdict,
    ) -> Result<u64, Error> {
        let id = tenant.id;
        let until_ms = self.jobs.now().wall.unix_ms().cast_unsigned();
        let mut sentence = Sentence { which, verdict, after: None, count: 0, until_ms };
        loop {
            let its = sentence.clone();
            let terms = self.jobs.terms(Effect::Frees, 0);
            let operation = move |op: &mut Op<'_>| change::sentence_step(op, id, &its);
            let (count, next) = self.jobs.run(terms, operation).await?;
            sentence.count += count;
            match next {
                Some(next) => sentence.after = Some(next),
                None => return Ok(sentence.count),
            }
        }
    }

    /// Sets a schedule; whether it is new.
    pub async fn schedule_put(
        &self,
        tenant: &TenantEntry,
        name: ScheduleName,
        wanted: Wanted,
    ) -> Result<bool, Error> {
        let (id, queues) = (tenant.id, self.allowance(tenant, Quota::Queues));
        let terms = self.jobs.terms(Effect::Grows, wanted.job.payload.bytes.len());
        let operation = move |op: &mut Op<'_>| schedules::put(op, id, (&name, &wanted), queues);
        self.jobs.run(terms, operation).await
    }

    /// A schedule.
    pub fn schedule(&self, tenant: &TenantEntry, name: &ScheduleName) -> Result<Schedule, Error> {
        let found = self.jobs.read(|view| schedules::get(view, tenant.id, name.as_str()))?;
        found.ok_or_else(|| Error::UnknownSchedule(name.clone()))
    }

    /// Schedules by name, behind this one.
    pub fn schedules(
        &self,
        tenant: &TenantEntry,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Schedule>, Error> {
        self.jobs.read(|view| schedules::page(view, tenant.id, after, limit.min(LIST_MAX + 1)))
    }

    /// Removes a schedule.
    pub async fn schedule_delete(
        &self,
        tenant: &TenantEntry,
        name: ScheduleName,
    ) -> Result<(), Error> {
        let (id, its) = (tenant.id, name.clone());
        let terms = self.jobs.terms(Effect::Frees, 0);
        let there =
            self.jobs.run(terms, move |op: &mut Op<'_>| schedules::delete(op, id, &its)).await?;
        if there { Ok(()) } else { Err(Error::UnknownSchedule(name)) }
    }

    /// Removes some of a tenant's jobs, here and in the history; whether that was all of them.
    pub(super) fn remove_jobs_step(&self, tenant: TenantId) -> Result<bool, Error> {
        let step = self.jobs.background(move |op| change::remove_tenant_step(op, tenant));
        if !step.map_err(super::jobs::from_call)? {
            return Ok(false);
        }
        self.jobs.state.memory.lock().forget_tenant(tenant);
        self.jobs.state.workers.lock().forget_tenant(tenant);
        self.remove_past_step(tenant)
    }

    /// The rules of job types, as the configuration has them now.
    pub(super) fn set_job_types(&self, types: BTreeMap<String, Rules>) {
        self.jobs.state.memory.lock().types = types;
    }
}

fn unknown_worker(worker: &WorkerId) -> Error {
    Error::UnknownWorker(worker.as_str().to_owned())
}

fn names(
    memory: &Memory,
    tenant: &TenantEntry,
    after: Option<&QueueName>,
    limit: usize,
) -> Vec<QueueName> {
    let Some(state) = memory.tenant(tenant.id) else {
        return Vec::new();
    };
    let behind = |name: &&QueueName| after.is_none_or(|after| after < *name);
    state.queues.keys().filter(behind).take(limit).cloned().collect()
}

fn queue_view(memory: &mut Memory, qid: Qid, now: Mono) -> QueueView {
    let (figures, types) = memory.told(qid, now);
    let types = types.into_iter();
    let types = types.map(|(name, figures, throttled)| TypeView { name, figures, throttled });
    let queue = memory.queue(qid);
    QueueView {
        name: queue.name.clone(),
        settings: Arc::clone(&queue.settings),
        configured: queue.configured,
        waiting: queue.waiting(),
        delayed: queue.delayed,
        running: queue.running,
        failed: queue.failed,
        oldest_waiting: None,
        figures,
        types: types.collect(),
        workers: 0,
        places: 0,
        workers_shared: false,
    }
}

#[cfg(test)]
mod tests;
