//! The way to jobs.redb: operations on its thread, and what is told when they are on disk.
//!
//! ```text
//!  caller --> operation (writer's thread: tables and memory) --commit--> reply, same thread, in commit order:
//!                                                                          ready: one waiter is called per job
//!                                                                          over: those who wait for the job
//!                                                                          due, outbox: the workers behind it
//!                                                                          then the caller
//! ```
//!
//! **Waiting.** A lease that finds nothing enters the line in its own reply. Pushes are told in replies of the same
//! thread, in commit order: a push that the lease did not see finds it in the line. Whoever is called leaves the
//! line and asks again; if it has gone away, or was faster served elsewhere, the call goes on to the next one.
//!
//! **Handing over.** Leased jobs travel in a [`Handed`], with a [`Receipt`]. If that is dropped before it was
//! accepted, the leases are undone as if they had never been.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::Error;
use super::outside::{Death, Entropy, Processes, WatchError, Watched};
use crate::base::id::TenantId;
use crate::base::limits::{JOB_WAITERS_MAX, WRITE_DEADLINE};
use crate::base::name::QueueName;
use crate::base::time::{Clock, Mono, Now};
use crate::exec::worker::Waker;
use crate::exec::writer::{Effect, Opener, Options, Terms, Writer};
use crate::exec::{self, CallError};
use crate::queue::finish::{self, Report};
use crate::queue::job::{End, LeaseToken};
use crate::queue::lease::{self, Leased, Taken, Want};
use crate::queue::line::{Line, Place};
use crate::queue::load::{self, Loaded};
use crate::queue::memory::{self, Event, Key, Memory, Op};
use crate::queue::workers::{WorkerId, Workers};
use crate::queue::{self, tick};
use crate::store::{self, Engine, Opening, Read, Write};

/// What an operation on a job takes in the file, about, beside its payload.
const JOB_BYTES: usize = 512;

/// What the jobs are made of.
pub struct Parts {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where secrets of leases come from.
    pub entropy: Box<dyn Entropy>,
    /// Processes of this machine.
    pub processes: Arc<dyn Processes>,
    /// Opens the file.
    pub opener: Opener,
    /// How its thread behaves.
    pub options: Options,
}

/// Why the jobs could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file.
    #[error(transparent)]
    Store(#[from] store::Error),
}

type Bell = oneshot::Sender<QueueName>;

/// What is known of the jobs, and who waits for them.
pub(super) struct State {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) memory: Mutex<Memory>,
    pub(super) workers: Mutex<Workers>,
    entropy: Box<dyn Entropy>,
    line: Mutex<Line<Bell>>,
    /// Those who wait until a job is over.
    watchers: Mutex<HashMap<Key, Watcher>>,
    watching: AtomicUsize,
    /// When the clock's worker looks next; it is woken for what comes before.
    next_look_ns: AtomicU64,
    pub(super) clock_waker: OnceLock<Waker>,
    pub(super) drain_waker: OnceLock<Waker>,
    /// Told when the outbox was emptied a little.
    pub(super) drained: Notify,
    /// Whether somebody waits for that.
    pub(super) hurry: AtomicBool,
    /// Whether the drain looks again by itself.
    pub(super) draining: AtomicBool,
    /// What was found when the file was opened, until somebody deals with it.
    loaded: Mutex<Option<Loaded>>,
    /// Whether those who wait have not been told what that was.
    untold: AtomicBool,
    boot_id: u64,
}

#[derive(Debug, Default)]
struct Watcher {
    told: Arc<Notify>,
    waiting: usize,
}

impl State {
    fn load(&self, engine: &dyn Engine, opening: Opening) -> store::Result<()> {
        let now = self.clock.now();
        let mut memory = self.memory.lock();
        let loaded = load::load(engine, &mut memory, now, self.boot_id).map_err(as_store)?;
        let Loaded { jobs, damaged, .. } = loaded;
        if damaged != 0 {
            tracing::error!(
                damaged,
                "rows of jobs.redb are damaged and left alone; run: holdfast check"
            );
        }
        let running = memory.running_len();
        tracing::info!(jobs, running, ?opening, "jobs are known");
        self.know_anew(loaded);
        Ok(())
    }

    /// The file was opened. What the last commit before brought may have been told to nobody.
    fn know_anew(&self, loaded: Loaded) {
        *self.loaded.lock() = Some(loaded);
        self.untold.store(true, Relaxed);
        self.wake_clock();
        self.wake_drain();
    }

    fn draw(&self) -> u64 {
        let mut bits = [0; 8];
        self.entropy.fill(&mut bits);
        u64::from_be_bytes(bits)
    }

    /// Runs an operation on the writer's thread.
    fn run<T>(
        &self,
        tx: &mut dyn Write,
        operation: impl FnOnce(&mut Op<'_>) -> Result<T, queue::Error>,
    ) -> Result<(T, Vec<Event>), queue::Error> {
        let mut memory = self.memory.lock();
        memory::run(tx, &mut memory, (self.clock.now(), &mut || self.draw()), operation)
    }

    /// Tells what happened, after the commit.
    fn tell(&self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Ready(tenant, queue, jobs) => self.call(tenant, &queue, jobs),
                Event::Finished(tenant, id) => self.tell_watchers((tenant, id)),
                Event::Due => self.wake_clock(),
                Event::Ends(at) => {
                    if at.ns() < self.next_look_ns.load(Relaxed) {
                        self.wake_clock();
                    }
                }
                Event::Outbox => self.wake_drain(),
            }
        }
    }

    fn wake_drain(&self) {
        // It looks by itself as long as there was something the last time.
        if !self.draining.swap(true, Relaxed)
            && let Some(waker) = self.drain_waker.get()
        {
            waker.wake();
        }
    }

    /// Somebody waits until the outbox is empty.
    pub(super) fn hurry_drain(&self) {
        self.hurry.store(true, Relaxed);
        if let Some(waker) = self.drain_waker.get() {
            waker.wake();
        }
    }

    fn wake_clock(&self) {
        if let Some(waker) = self.clock_waker.get() {
            waker.wake();
        }
    }

    /// Finds out when the clock's worker looks next, and notes it.
    ///
    /// While memory is locked: an attempt that begins before is seen, and one that begins later finds the note when
    /// it is told of, so that it wakes the worker.
    pub(super) fn looks_at(&self, find: impl FnOnce(&Memory) -> Option<Mono>) -> Option<Mono> {
        let memory = self.memory.lock();
        let at = find(&memory);
        self.next_look_ns.store(at.map_or(u64::MAX, Mono::ns), Relaxed);
        at
    }

    /// Calls so many of those who wait at a queue.
    fn call(&self, tenant: TenantId, queue: &QueueName, jobs: u64) {
        let jobs = usize::try_from(jobs).unwrap_or(usize::MAX).min(JOB_WAITERS_MAX);
        let mut called = 0;
        while called < jobs {
            let Some(bell) = self.line.lock().call(tenant, queue) else {
                return;
            };
            // One that has gone away does not count.
            called += usize::from(bell.send(queue.clone()).is_ok());
        }
    }

    /// Whoever was called did not take a job there: the next one may, if there is one.
    fn pass_on(&self, tenant: TenantId, queue: &QueueName) {
        let waits = {
            let memory = self.memory.lock();
            memory.qid(tenant, queue).is_some_and(|qid| 0 < memory.queue(qid).waiting())
        };
        if waits {
            self.call(tenant, queue, 1);
        }
    }

    /// How many wait for jobs.
    pub(super) fn line_len(&self) -> usize {
        self.line.lock().len()
    }

    fn tell_watchers(&self, key: Key) {
        if self.watching.load(Relaxed) == 0 {
            return;
        }
        if let Some(watcher) = self.watchers.lock().get(&key) {
            watcher.told.notify_waiters();
        }
    }

    fn tell_all_watchers(&self) {
        for watcher in self.watchers.lock().values() {
            watcher.told.notify_waiters();
        }
    }

    /// Somebody who wants to know when a job is over.
    pub(super) fn watch(self: &Arc<Self>, key: Key) -> Watch {
        let mut watchers = self.watchers.lock();
        let watcher = watchers.entry(key).or_default();
        watcher.waiting += 1;
        self.watching.fetch_add(1, Relaxed);
        Watch { state: Arc::clone(self), key, told: Arc::clone(&watcher.told) }
    }
}

/// See [`State::watch`].
pub(super) struct Watch {
    state: Arc<State>,
    key: Key,
    pub(super) told: Arc<Notify>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watchers = self.state.watchers.lock();
        self.state.watching.fetch_sub(1, Relaxed);
        if let Some(watcher) = watchers.get_mut(&self.key) {
            watcher.waiting -= 1;
            if watcher.waiting == 0 {
                watchers.remove(&self.key);
            }
        }
    }
}

/// A process that is watched.
struct Pinned {
    watched: Watched,
    /// Workers that said that they are it.
    workers: BTreeSet<(TenantId, WorkerId)>,
}

/// The jobs, as the application has them.
pub struct Jobs {
    pub(super) state: Arc<State>,
    pub(super) writer: Writer,
    processes: Arc<dyn Processes>,
    /// Processes that are watched, by number.
    watched: Mutex<HashMap<u32, Pinned>>,
    /// For what is told later, and must not keep this alive.
    own: Weak<Jobs>,
}

fn as_store(error: queue::Error) -> store::Error {
    match error {
        queue::Error::Row(queue::RowError::Store(error)) => error,
        other => store::Error::Damaged(other.to_string()),
    }
}

/// Our error for what the writer said.
pub(super) fn from_call(error: CallError<queue::Error>) -> Error {
    match error {
        CallError::Failed(error) => Error::Exec(error),
        CallError::Refused(error) => Error::Queue(error),
    }
}

impl Jobs {
    /// Opens the file, reads what is there into memory, and starts the thread.
    pub fn start(parts: Parts) -> Result<Arc<Jobs>, StartError> {
        let Parts { clock, entropy, processes, opener, options } = parts;
        let state = Arc::new(State {
            clock: Arc::clone(&clock),
            memory: Mutex::default(),
            workers: Mutex::default(),
            entropy,
            line: Mutex::default(),
            watchers: Mutex::default(),
            watching: AtomicUsize::new(0),
            next_look_ns: AtomicU64::new(0),
            clock_waker: OnceLock::new(),
            drain_waker: OnceLock::new(),
            drained: Notify::new(),
            hurry: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            loaded: Mutex::default(),
            untold: AtomicBool::new(false),
            boot_id: processes.boot_id().unwrap_or(0),
        });
        let its = Arc::clone(&state);
        // Memory is read before anybody else gets at the file, also when it was opened anew.
        let opener: Opener = Box::new(move |opening| {
            let engine = opener(opening)?;
            its.load(&*engine, opening)?;
            Ok(engine)
        });
        let writer = Writer::start(options, opener, clock)?;
        Ok(Arc::new_cyclic(|own| Jobs {
            state,
            writer,
            processes,
            watched: Mutex::default(),
            own: Weak::clone(own),
        }))
    }

    /// The thread, for its figures.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// How many callers wait for jobs, and how many processes are watched.
    pub fn waiting_figures(&self) -> (usize, usize) {
        (self.state.line_len(), self.watched.lock().len())
    }

    /// Looks at what is known without looking into the file.
    pub fn with_memory<T>(&self, look: impl FnOnce(&mut Memory) -> T) -> T {
        look(&mut self.state.memory.lock())
    }

    pub(super) fn now(&self) -> Now {
        self.state.clock.now()
    }

    pub(super) fn terms(&self, effect: Effect, bytes: usize) -> Terms {
        let until = self.state.clock.mono().plus(WRITE_DEADLINE);
        Terms { until, bytes: bytes + JOB_BYTES, effect }
    }

    /// Runs an operation; what happened is told after its commit, and then it is answered.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        terms: Terms,
        operation: impl FnOnce(&mut Op<'_>) -> Result<T, queue::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let (state, its) = (Arc::clone(&self.state), Arc::clone(&self.state));
        let reply = move |result: Result<(T, Vec<Event>), CallError<queue::Error>>| {
            let result = result.map(|(value, events)| {
                its.tell(events);
                value
            });
            drop(answer.send(result));
        };
        // Held until the answer is there: whoever gives up takes the operation back.
        let _ticket =
            self.writer.submit(terms, move |tx: &mut dyn Write| state.run(tx, operation), reply)?;
        answered.await.map_err(|_| exec::Error::Stopping)?.map_err(from_call)
    }

    /// Runs an operation and waits for it. Never on the runtime's threads.
    pub(super) fn background<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Op<'_>) -> Result<T, queue::Error> + Send + 'static,
    ) -> Result<T, CallError<queue::Error>> {
        let state = Arc::clone(&self.state);
        let terms = self.terms(Effect::Frees, 0);
        let result = self.writer.call(terms, move |tx: &mut dyn Write| state.run(tx, operation));
        result.map(|(value, events)| {
            self.state.tell(events);
            value
        })
    }

    /// Runs an operation that nobody waits for.
    fn submit_freely(
        &self,
        what: &'static str,
        operation: impl FnOnce(&mut Op<'_>) -> Result<(), queue::Error> + Send + 'static,
    ) {
        let (state, its) = (Arc::clone(&self.state), Arc::clone(&self.state));
        let reply = move |result: Result<((), Vec<Event>), CallError<queue::Error>>| match result {
            Ok(((), events)) => its.tell(events),
            Err(error) => tracing::warn!(what, error = %from_call(error), "it was not done"),
        };
        let terms = self.terms(Effect::Frees, 0);
        let run = move |tx: &mut dyn Write| state.run(tx, operation);
        match self.writer.submit(terms, run, reply) {
            Ok(ticket) => ticket.let_it_run(),
            Err(error) => tracing::warn!(what, %error, "it was not done"),
        }
    }

    /// Looks into the file as it was at the last commit.
    pub(super) fn read<T>(
        &self,
        body: impl FnOnce(&dyn Read) -> Result<T, queue::Error>,
    ) -> Result<T, Error> {
        self.writer.read(body).map_err(from_call)
    }

    /// Ends attempts and leases jobs in one commit; then waits for jobs, if there are none.
    pub(super) async fn report_and_lease(
        &self,
        tenant: TenantId,
        ends: Vec<(LeaseToken, End)>,
        next: Option<Asked>,
        stop: impl Future<Output = ()>,
    ) -> Result<Round, Error> {
        let mut stop = std::pin::pin!(stop);
        let Some(asked) = next else {
            let (reports, _) = self.attempt(tenant, ends, None).await?;
            return Ok(Round { reports, jobs: None, waited: Duration::ZERO });
        };
        let began = self.state.clock.mono();
        let until = began.plus(asked.wait);
        let mut attempt = Attempt { want: Arc::new(asked.want), place: None, called: None, until };
        let (mut ends, mut first) = (ends, None);
        loop {
            let want = Arc::clone(&attempt.want);
            let (reports, answer) =
                self.attempt(tenant, std::mem::take(&mut ends), Some(attempt)).await?;
            let reports = first.take().unwrap_or(reports);
            let over = |reports, jobs| {
                let waited = self.state.clock.mono().since(began);
                Ok(Round { reports, jobs, waited })
            };
            let parked = match answer {
                Answer::Nothing => return over(reports, None),
                Answer::Jobs(handed) => return over(reports, Some(handed)),
                Answer::Parked(parked) => parked,
            };
            let place = Some(parked.place);
            attempt = match parked.wait(until, stop.as_mut()).await {
                Woken::Called(called) => Attempt { want, place, called: Some(called), until },
                Woken::Again => Attempt { want, place, called: None, until },
                Woken::Over => return over(reports, None),
            };
            first = Some(reports);
        }
    }

    /// One operation: ends attempts, leases jobs; enters the line in its reply if there are none.
    async fn attempt(
        &self,
        tenant: TenantId,
        ends: Vec<(LeaseToken, End)>,
        attempt: Option<Attempt>,
    ) -> Result<(Vec<Report>, Answer), Error> {
        let bytes = ends.iter().map(|(_, end)| end_bytes(end)).sum();
        let want = attempt.as_ref().map(|attempt| Arc::clone(&attempt.want));
        let operation = move |op: &mut Op<'_>| {
            let ends = ends.into_iter().map(|(lease, end)| finish::end(op, tenant, lease, end));
            let reports = ends.collect::<Result<Vec<Report>, queue::Error>>()?;
            let taken = want.map(|want| lease::lease(op, tenant, &want)).transpose()?;
            Ok((reports, taken))
        };
        let (answer, answered) = oneshot::channel();
        let (state, its, jobs) =
            (Arc::clone(&self.state), Arc::clone(&self.state), Weak::clone(&self.own));
        let reply = move |result: Result<(Ended, Vec<Event>), CallError<queue::Error>>| {
            let result = result.map(|((reports, taken), events)| {
                its.tell(events);
                let hand = |(taken, attempt)| attempt_over(&its, &jobs, tenant, taken, attempt);
                (reports, taken.zip(attempt).map_or(Answer::Nothing, hand))
            });
            // Nobody there to take it: what was leased is undone, and the line is left.
            drop(answer.send(result));
        };
        // Ending an attempt frees space; what it leaves for the history is small.
        let terms = self.terms(Effect::Frees, bytes);
        let run = move |tx: &mut dyn Write| state.run(tx, operation);
        let _ticket = self.writer.submit(terms, run, reply)?;
        answered.await.map_err(|_| exec::Error::Stopping)?.map_err(from_call)
    }

    /// Gives back what was leased and did not arrive.
    fn undo(&self, tenant: TenantId, leases: Vec<LeaseToken>) {
        self.submit_freely("giving back jobs that did not arrive", move |op| {
            lease::give_back(op, tenant, &leases)
        });
    }

    /// Watches a process of this machine, which may be that of a worker: when it ends, what it has is over. When
    /// it began, if that can be seen.
    pub(super) fn pin(
        &self,
        pid: u32,
        started: Option<u64>,
        worker: Option<(TenantId, WorkerId)>,
    ) -> Result<u64, WatchError> {
        // Held all the while: the end of the process must find it here.
        let mut watched = self.watched.lock();
        let known = watched.get_mut(&pid);
        if let Some(known) = known.filter(|its| started.is_none() || started == its.watched.started)
        {
            known.workers.extend(worker);
            return Ok(known.watched.started.unwrap_or(0));
        }
        let own = Weak::clone(&self.own);
        let ended = Box::new(move |death: Death| {
            if let Some(jobs) = own.upgrade() {
                jobs.ended(pid, started, &death);
            }
        });
        let its = self.processes.watch(pid, started, ended)?;
        let began = its.started.unwrap_or(0);
        watched.insert(pid, Pinned { watched: its, workers: worker.into_iter().collect() });
        Ok(began)
    }

    /// The process of a worker, if it is watched.
    pub(super) fn process_of(&self, tenant: TenantId, worker: &WorkerId) -> Option<(u32, u64)> {
        let pid = self.state.workers.lock().pid(tenant, worker)?;
        let watched = self.watched.lock();
        let its = watched.get(&pid)?;
        let is = its.workers.contains(&(tenant, worker.clone()));
        is.then(|| (pid, its.watched.started.unwrap_or(0)))
    }

    /// A process has ended.
    fn ended(&self, pid: u32, meant: Option<u64>, death: &Death) {
        let known = self.watched.lock().remove(&pid);
        let (known, workers) =
            known.map_or((None, BTreeSet::new()), |its| (its.watched.started, its.workers));
        let started = known.or(meant).unwrap_or(0);
        let Death { how, was_there } = death.clone();
        if !was_there && meant.is_none() {
            // A worker that has just said that it lives: its numbers mean something else here.
            tracing::debug!(pid, how, "a process cannot be seen from here; its leases go by time");
            return;
        }
        let now = self.state.clock.now();
        for (tenant, worker) in workers {
            let mut known = self.state.workers.lock();
            // It may have begun anew by now, as another process.
            if known.pid(tenant, &worker) == Some(pid) {
                known.died(tenant, &worker, how.clone(), now);
            }
        }
        // What ended while the server was away is no crash.
        self.bury(Buried { process: (pid, started), how, counted: was_there });
    }

    /// Ends the attempts of a process that is gone, step by step: others have their turn in between.
    fn bury(&self, buried: Buried) {
        const WHAT: &str = "ending the attempts of a process that is gone";
        let (state, its, own) =
            (Arc::clone(&self.state), Arc::clone(&self.state), Weak::clone(&self.own));
        let again = buried.clone();
        let reply = move |result: Result<(usize, Vec<Event>), CallError<queue::Error>>| match result
        {
            Ok((ended, events)) => {
                its.tell(events);
                if let Some(jobs) = own.upgrade().filter(|_| 0 < ended) {
                    jobs.bury(again);
                }
            }
            Err(error) => tracing::warn!(WHAT, error = %from_call(error), "it was not done"),
        };
        let run = move |tx: &mut dyn Write| {
            let Buried { process, how, counted } = buried;
            state.run(tx, |op| tick::died(op, process, &how, counted))
        };
        match self.writer.submit(self.terms(Effect::Frees, 0), run, reply) {
            Ok(ticket) => ticket.let_it_run(),
            Err(error) => tracing::warn!(WHAT, %error, "it was not done"),
        }
    }

    /// Deals with what was found when the file was opened: watches the processes that have jobs, and tells those
    /// who wait.
    pub(super) fn take_up(&self) -> Result<(), Error> {
        let loaded = self.state.loaded.lock().take();
        self.watch_found(loaded.unwrap_or_default());
        if !self.state.untold.swap(false, Relaxed) {
            return Ok(());
        }
        let told = self.background(|op| {
            tick::tell_anew(op);
            Ok(())
        });
        if let Err(error) = told {
            self.state.untold.store(true, Relaxed);
            return Err(from_call(error));
        }
        self.state.tell_all_watchers();
        Ok(())
    }

    fn watch_found(&self, loaded: Loaded) {
        for (pid, started) in loaded.processes {
            let began = Some(started).filter(|started| *started != 0);
            if let Err(error) = self.pin(pid, began, None) {
                tracing::debug!(pid, %error, "a process is not watched; its leases go by time");
            }
        }
    }

    /// The name of this machine.
    pub(super) fn host_name(&self) -> &str {
        self.processes.host_name()
    }

    /// Forgets processes that have no job any more and are no worker that is known.
    pub(super) fn unpin_idle(&self) {
        let busy: HashSet<u32> = {
            let memory = self.state.memory.lock();
            memory.all_running().filter_map(|(_, running)| Some(running.process?.0)).collect()
        };
        let now = self.state.clock.now();
        let mut watched = self.watched.lock();
        let workers = self.state.workers.lock();
        let idle = |its: &Pinned| {
            its.workers.iter().all(|(tenant, worker)| workers.get(*tenant, worker, now).is_none())
        };
        let idle: Vec<u32> = watched
            .iter()
            .filter(|(pid, its)| !busy.contains(pid) && idle(its))
            .map(|(pid, _)| *pid)
            .collect();
        let idle: Vec<Pinned> = idle.iter().filter_map(|pid| watched.remove(pid)).collect();
        drop(workers);
        // Let go of outside of the lock: what ends meanwhile wants it.
        drop(watched);
        drop(idle);
    }
}

/// A process that is gone.
#[derive(Clone)]
struct Buried {
    process: (u32, u64),
    how: String,
    /// Whether its end is a crash.
    counted: bool,
}

type Ended = (Vec<Report>, Option<Taken>);

fn end_bytes(end: &End) -> usize {
    let inner = match end {
        End::Done { result } => result.as_ref().map_or(0, Vec::len),
        End::Fail { failure, .. } => {
            failure.message.len() + failure.trace.as_ref().map_or(0, String::len)
        }
        End::Release { .. } => 0,
    };
    inner + JOB_BYTES
}

/// What somebody asks for, and how long it would wait.
#[derive(Debug)]
pub struct Asked {
    /// What.
    pub want: Want,
    /// How long.
    pub wait: Duration,
}

/// What came of it.
pub struct Round {
    /// What became of the attempts that were ended, in order.
    pub reports: Vec<Report>,
    /// Jobs.
    pub jobs: Option<Handed>,
    /// How long it waited.
    pub waited: Duration,
}

struct Attempt {
    want: Arc<Want>,
    place: Option<Place>,
    called: Option<Called>,
    until: Mono,
}

enum Answer {
    Nothing,
    Jobs(Handed),
    Parked(Parked),
}

/// What follows from one attempt to lease, in its reply.
fn attempt_over(
    state: &Arc<State>,
    jobs: &Weak<Jobs>,
    tenant: TenantId,
    taken: Taken,
    attempt: Attempt,
) -> Answer {
    if let Some(mut called) = attempt.called {
        // Where nothing may be taken, nobody else could either. Otherwise a job may be left at the queue that
        // called, when this one took another.
        let elsewhere = taken.jobs.iter().all(|job| job.queue != called.queue);
        called.done = taken.jobs.is_empty() || !elsewhere;
    }
    if !taken.jobs.is_empty() {
        let leases = taken.jobs.iter().map(|job| job.token).collect();
        let receipt = Receipt { jobs: Weak::clone(jobs), tenant, leases };
        return Answer::Jobs(Handed { jobs: taken.jobs, receipt });
    }
    if attempt.until <= state.clock.mono() {
        return Answer::Nothing;
    }
    let (bell, rung) = oneshot::channel();
    let entered = state.line.lock().enter(tenant, &attempt.want.queues, attempt.place, bell);
    match entered {
        Ok(place) => {
            let state = Arc::clone(state);
            Answer::Parked(Parked { state, tenant, place, rung, again_at: taken.again_at })
        }
        Err(full) => {
            tracing::warn!(%full, "a lease that would have waited is answered at once");
            Answer::Nothing
        }
    }
}

/// A call to take a job; it goes on to the next one if nothing comes of it.
struct Called {
    state: Arc<State>,
    tenant: TenantId,
    queue: QueueName,
    done: bool,
}

impl Drop for Called {
    fn drop(&mut self) {
        if !self.done {
            self.state.pass_on(self.tenant, &self.queue);
        }
    }
}

/// A place in the line.
struct Parked {
    state: Arc<State>,
    tenant: TenantId,
    place: Place,
    rung: oneshot::Receiver<QueueName>,
    again_at: Option<Mono>,
}

enum Woken {
    Called(Called),
    Again,
    Over,
}

impl Parked {
    /// Waits until it is called, until it may be worth while to ask again, or until its time is over.
    async fn wait(mut self, until: Mono, stop: Pin<&mut impl Future<Output = ()>>) -> Woken {
        let wake_at = self.again_at.map_or(until, |again| again.min(until));
        let nap = wake_at.since(self.state.clock.mono());
        let rung = tokio::time::timeout(nap.max(Duration::from_millis(1)), &mut self.rung);
        let rung = tokio::select! {
            biased;
            // Called, or the time is over.
            rung = rung => rung.ok().and_then(Result::ok),
            () = stop => return Woken::Over,
        };
        match rung {
            Some(queue) => Woken::Called(self.called(queue)),
            None if self.state.clock.mono() < until => Woken::Again,
            None => Woken::Over,
        }
    }

    fn called(&self, queue: QueueName) -> Called {
        Called { state: Arc::clone(&self.state), tenant: self.tenant, queue, done: false }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        // Called at the very moment at which it left: the call goes on.
        if self.state.line.lock().leave(self.place).is_none()
            && let Ok(queue) = self.rung.try_recv()
        {
            drop(self.called(queue));
        }
    }
}

/// Leased jobs on their way to whoever asked for them.
pub struct Handed {
    /// The jobs.
    pub jobs: Vec<Leased>,
    /// Kept until they have arrived.
    pub receipt: Receipt,
}

/// That jobs have arrived; if it is dropped before it was accepted, their leases are undone.
pub struct Receipt {
    jobs: Weak<Jobs>,
    tenant: TenantId,
    leases: Vec<LeaseToken>,
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a receipt for {} jobs", self.leases.len())
    }
}

impl Receipt {
    /// The jobs have arrived.
    pub fn accept(mut self) {
        self.leases.clear();
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let leases = std::mem::take(&mut self.leases);
        if let Some(jobs) = self.jobs.upgrade()
            && !leases.is_empty()
        {
            jobs.undo(self.tenant, leases);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Poll;
    use std::time::Duration;

    use super::Asked;
    use crate::app::queue_workers;
    use crate::base::id::TenantId;
    use crate::base::name::QueueName;
    use crate::exec::worker::Seat;
    use crate::exec::writer::Effect;
    use crate::queue::job::{Payload, Spec};
    use crate::queue::lease::Want;
    use crate::queue::load::Loaded;
    use crate::queue::push::{Quotas, push};
    use crate::store::Write;
    use crate::testing::app::World;

    const TENANT: TenantId = TenantId::from_raw(9);

    #[test]
    fn who_waits_hears_of_a_job_whose_push_nobody_was_told_of() {
        let world = World::new(1);
        let jobs = world.app.jobs();
        let queue = QueueName::parse("q").unwrap();
        let queues = vec![queue.clone()];
        let want = Want { queues, max: 1, lease: None, worker: None, process: None };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let asked = Asked { want, wait: Duration::from_secs(50) };
            let lease = jobs.report_and_lease(TENANT, Vec::new(), Some(asked), pending());
            let mut lease = pin!(lease);
            while jobs.waiting_figures().0 == 0 {
                let polled = |cx: &mut std::task::Context<'_>| {
                    Poll::Ready(lease.as_mut().poll(cx).is_pending())
                };
                assert!(std::future::poll_fn(polled).await, "it waits");
                tokio::task::yield_now().await;
            }
            // Its commit failed, as far as anybody could tell; the file was opened anew, and it is there.
            let state = Arc::clone(&jobs.state);
            let specs = [Spec::new(queue.clone(), Payload::json("1"))];
            let run = move |tx: &mut dyn Write| {
                state.run(tx, |op| push(op, TENANT, specs.to_vec(), None, &Quotas::UNLIMITED))
            };
            let pushed = jobs.writer.call(jobs.terms(Effect::Grows, 0), run);
            assert!(pushed.is_ok());
            jobs.state.know_anew(Loaded::default());
            let [clock, _, _] = queue_workers::all(&world.app);
            Seat::new(clock).step(&*world.clock);
            let round = tokio::time::timeout(Duration::from_secs(10), lease).await;
            let handed = round.expect("it was called").unwrap().jobs.expect("there is a job");
            assert_eq!(handed.jobs.len(), 1);
            handed.receipt.accept();
        });
    }
}
