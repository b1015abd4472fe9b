//! What is known of the jobs without looking into the file: how many there are where, who runs what until
//! when, the settings of queues, what was counted.
//!
//! **Invariants**
//! - Memory holds what the tables hold, as of the operation that ran last. An operation that says no, or
//!   panics, takes back what it changed ([`Op`]). When a commit fails, memory is read anew with the file.
//! - It does not grow with the jobs that wait: per queue some counters, per running job one entry.
//! - It is changed on the writer's thread alone; others look.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use super::budget::Budget;
use super::figures::{Ended, Figures, Told};
use super::job::Rules;
use super::rate::Bucket;
use super::rows::{self, Lane, NumbersRow, RowError};
use super::settings::Settings;
use crate::base::id::{JobId, TenantId};
use crate::base::limits::{FAILED_AGE, FAILED_ROWS_MAX, QUEUE_TYPES_MAX, QUEUES_MAX};
use crate::base::name::QueueName;
use crate::base::time::{Mono, Now};
use crate::store::{Table, Write};

/// A queue in memory. Valid until the file is opened anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Qid(pub(super) u32);

/// A job, whosever it is.
pub type Key = (TenantId, JobId);

/// A counter of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Counter {
    /// Jobs that may run.
    Ready(Lane),
    /// Jobs that wait for a moment.
    Delayed,
    /// Jobs that somebody has.
    Running,
    /// Jobs that were given up.
    Failed,
}

/// What is counted of one type of jobs in a queue.
#[derive(Debug)]
pub struct TypeState {
    /// Its name.
    pub name: Box<str>,
    /// What happened to its attempts.
    pub figures: Figures,
    /// Whether they fail too often to go on like that.
    pub budget: Budget,
}

/// A queue.
#[derive(Debug)]
pub struct QueueState {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: QueueName,
    /// Its settings.
    pub settings: Arc<Settings>,
    /// Whether somebody has set them.
    pub configured: bool,
    /// Jobs that may run, by band.
    pub ready: [u64; 5],
    /// Jobs that may run and whose type is throttled, by type.
    pub parked: BTreeMap<String, u64>,
    /// Jobs that wait for a moment.
    pub delayed: u64,
    /// Jobs that somebody has.
    pub running: u64,
    /// Jobs that were given up.
    pub failed: u64,
    /// What its rate lets through.
    pub bucket: Option<Bucket>,
    /// What happened to attempts, all types together.
    pub figures: Figures,
    /// And by type.
    pub types: Vec<TypeState>,
    /// When something last happened.
    pub active_at: Mono,
    /// When a worker last asked it for a job.
    pub asked_at: Option<Mono>,
}

impl QueueState {
    fn new(tenant: TenantId, name: QueueName, now: Mono) -> QueueState {
        QueueState {
            tenant,
            name,
            settings: Arc::default(),
            configured: false,
            ready: [0; 5],
            parked: BTreeMap::new(),
            delayed: 0,
            running: 0,
            failed: 0,
            bucket: None,
            figures: Figures::new(),
            types: Vec::new(),
            active_at: now,
            asked_at: None,
        }
    }

    /// Jobs that may run.
    pub fn waiting(&self) -> u64 {
        self.ready.iter().sum::<u64>() + self.parked.values().sum::<u64>()
    }

    /// Whether it holds nothing that has to be kept.
    pub(super) fn is_empty(&self) -> bool {
        !self.configured && self.waiting() + self.delayed + self.running + self.failed == 0
    }

    /// Takes these settings over.
    pub(super) fn set(&mut self, settings: Arc<Settings>, configured: bool, now: Mono) {
        if self.settings.rate != settings.rate || self.bucket.is_some() != settings.rate.is_some() {
            self.bucket = settings.rate.map(|rate| Bucket::new(rate, now));
        }
        self.settings = settings;
        self.configured = configured;
    }

    /// The place of a type; beyond the bound they share one.
    fn type_index(&mut self, name: &str) -> usize {
        if let Some(found) = self.types.iter().position(|known| &*known.name == name) {
            return found;
        }
        let name = if self.types.len() + 1 < QUEUE_TYPES_MAX { name } else { OTHER_TYPES };
        if let Some(found) = self.types.iter().position(|known| &*known.name == name) {
            return found;
        }
        let state =
            TypeState { name: name.into(), figures: Figures::new(), budget: Budget::default() };
        self.types.push(state);
        self.types.len() - 1
    }

    /// A type as an operation notes it, without a place for one that is new.
    fn type_name(&self, name: &str) -> TypeName {
        let known = self.types.iter().position(|known| &*known.name == name);
        known.map_or_else(|| TypeName::New(name.into()), TypeName::Known)
    }

    /// The budget of a type, if there is anything to know about it.
    pub(super) fn budget(&self, name: &str) -> Option<&Budget> {
        self.types.iter().find(|known| &*known.name == name).map(|known| &known.budget)
    }

    /// How many more of its jobs may run, as far as its concurrency goes.
    pub(super) fn slots(&self) -> u64 {
        match self.settings.concurrency {
            Some(most) => u64::from(most).saturating_sub(self.running),
            None => u64::MAX,
        }
    }
}

/// What types share that came when there were too many.
const OTHER_TYPES: &str = "(others)";

/// A job that somebody has.
#[derive(Clone, Debug)]
pub struct Running {
    /// Where.
    pub queue: Qid,
    /// Which lease.
    pub fence: u64,
    /// When the worker has to be heard of.
    pub until: Mono,
    /// When the attempt has to be over.
    pub timeout: Mono,
    /// Who has it.
    pub worker: Option<Arc<str>>,
    /// Its process, if it is known.
    pub process: Option<(u32, u64)>,
    /// Whether it ends so soon after a start of the server that its silence says nothing.
    pub grace: bool,
}

impl Running {
    /// When something has to happen.
    pub(super) fn ends(&self) -> Mono {
        self.until.min(self.timeout)
    }
}

/// What is known of a tenant.
#[derive(Debug, Default)]
pub struct TenantState {
    /// Its queues.
    pub queues: BTreeMap<QueueName, Qid>,
    /// Jobs that wait, delayed ones among them.
    pub waiting: u64,
    /// Calls that are remembered.
    pub calls: u64,
    /// Schedules.
    pub schedules: usize,
    /// The day, and jobs pushed on it.
    pub today: (u64, u64),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Memory {
    /// By number; empty places are used again.
    queues: Vec<Option<QueueState>>,
    free: Vec<u32>,
    tenants: HashMap<TenantId, TenantState>,
    running: HashMap<Key, Running>,
    ends: BTreeSet<(Mono, Key)>,
    by_worker: HashMap<(TenantId, Arc<str>), BTreeSet<JobId>>,
    /// Rows of the outbox, and how many have left it.
    pub(super) outbox: u64,
    arrivals: u64,
    /// Done jobs that the history will not hear of, because the outbox was full.
    pub outbox_skipped: u64,
    pub(super) schedules: usize,
    pub(super) numbers: Numbers,
    /// The first moment at which something is due, if anything is known to be.
    pub(super) first_due_ms: Option<u64>,
    /// Rules of job types, from the configuration.
    pub types: BTreeMap<String, Rules>,
    /// How long failed jobs are kept where the queue does not say.
    pub retention: Retention,
}

/// What is kept of jobs that were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// For how long.
    pub failed_age: Duration,
    /// How many of one queue.
    pub failed_rows: u64,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { failed_age: FAILED_AGE, failed_rows: FAILED_ROWS_MAX }
    }
}

/// Ids and fences: what is next, and up to where the file says that they may have been given out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    pub(super) next_id: u64,
    pub(super) next_fence: u64,
    pub(super) stored: NumbersRow,
    /// Whether the file knows on which run of the machine this is.
    pub(super) boot_stored: bool,
}

/// An id has the milliseconds in front of this.
const ID_BITS: u32 = 20;
/// Ids of so many milliseconds, and so many fences, are taken from the file at once.
const IDS_AHEAD: u64 = 60_000 << ID_BITS;
const FENCES_AHEAD: u64 = 1 << 20;

impl Memory {
    /// Forgets everything but what the configuration says.
    pub(super) fn begin_anew(&mut self) {
        let (types, retention) = (std::mem::take(&mut self.types), self.retention);
        *self = Memory { types, retention, ..Memory::default() };
    }

    /// A queue that is there.
    pub fn queue(&self, qid: Qid) -> &QueueState {
        self.queues[qid.0 as usize]
            .as_ref()
            .expect("BUG: a queue's number is valid while it is there")
    }

    pub(super) fn queue_mut(&mut self, qid: Qid) -> &mut QueueState {
        let place = self.queues[qid.0 as usize].as_mut();
        place.expect("BUG: a queue's number is valid while it is there")
    }

    /// What was counted of a queue, and of its types: name, figures, and whether it is throttled.
    pub fn told(&mut self, qid: Qid, now: Mono) -> (Told, Vec<(String, Told, bool)>) {
        let queue = self.queue_mut(qid);
        let types = queue
            .types
            .iter_mut()
            .map(|its| (its.name.to_string(), its.figures.told(now), its.budget.is_throttled()));
        let types = types.collect();
        (queue.figures.told(now), types)
    }

    /// The number of a queue.
    pub fn qid(&self, tenant: TenantId, name: &QueueName) -> Option<Qid> {
        self.tenants.get(&tenant)?.queues.get(name).copied()
    }

    /// What is known of a tenant.
    pub fn tenant(&self, tenant: TenantId) -> Option<&TenantState> {
        self.tenants.get(&tenant)
    }

    /// All of them.
    pub(super) fn all_tenants(&self) -> impl Iterator<Item = (&TenantId, &TenantState)> {
        self.tenants.iter()
    }

    /// Whether what runs stands once in each of the indexes, and nothing else does.
    pub(super) fn indexes_agree(&self) -> bool {
        let by_end = |(key, running): (&Key, &Running)| self.ends.contains(&(running.ends(), *key));
        let by_worker = |(key, running): (&Key, &Running)| {
            running.worker.as_ref().is_none_or(|worker| {
                let its = self.by_worker.get(&(key.0, Arc::clone(worker)));
                its.is_some_and(|jobs| jobs.contains(&key.1))
            })
        };
        let with_worker = self.running.values().filter(|running| running.worker.is_some()).count();
        self.ends.len() == self.running.len()
            && self.running.iter().all(by_end)
            && self.running.iter().all(by_worker)
            && self.by_worker.values().map(BTreeSet::len).sum::<usize>() == with_worker
    }

    pub(super) fn tenant_mut(&mut self, tenant: TenantId) -> &mut TenantState {
        self.tenants.entry(tenant).or_default()
    }

    /// Everybody's queues.
    pub fn all_queues(&self) -> impl Iterator<Item = &QueueState> {
        self.queues.iter().flatten()
    }

    /// How many there are.
    pub fn queues_len(&self) -> usize {
        self.queues.len() - self.free.len()
    }

    /// A queue, made if it is not there. The caller has judged whether there may be one more.
    pub(super) fn ensure(&mut self, tenant: TenantId, name: &QueueName, now: Mono) -> Qid {
        if let Some(qid) = self.qid(tenant, name) {
            return qid;
        }
        let state = QueueState::new(tenant, name.clone(), now);
        let qid = if let Some(place) = self.free.pop() {
            self.queues[place as usize] = Some(state);
            Qid(place)
        } else {
            self.queues.push(Some(state));
            let place = u32::try_from(self.queues.len() - 1);
            Qid(place.expect("BUG: there are fewer queues than that"))
        };
        self.tenant_mut(tenant).queues.insert(name.clone(), qid);
        qid
    }

    /// Whether the server has room for one more queue.
    pub(super) fn has_room_for_queue(&self) -> bool {
        self.queues_len() < QUEUES_MAX
    }

    /// Forgets queues that hold nothing, have no settings, and of which nothing was heard for `idle`.
    pub fn sweep(&mut self, now: Mono, idle: Duration) {
        let empty = |queue: &QueueState| queue.is_empty() && idle <= now.since(queue.active_at);
        let found: Vec<Qid> = (0_u32..)
            .zip(&self.queues)
            .filter(|(_, queue)| queue.as_ref().is_some_and(empty))
            .map(|(place, _)| Qid(place))
            .collect();
        for qid in found {
            self.forget(qid);
        }
    }

    pub(super) fn forget(&mut self, qid: Qid) {
        let Some(state) = self.queues[qid.0 as usize].take() else {
            return;
        };
        self.free.push(qid.0);
        if let Some(tenant) = self.tenants.get_mut(&state.tenant) {
            tenant.queues.remove(&state.name);
        }
    }

    /// Forgets a tenant with all it has.
    pub fn forget_tenant(&mut self, tenant: TenantId) {
        let keys: Vec<Key> = self.running.keys().filter(|key| key.0 == tenant).copied().collect();
        for key in keys {
            self.stop(key);
        }
        let Some(state) = self.tenants.remove(&tenant) else {
            return;
        };
        self.schedules = self.schedules.saturating_sub(state.schedules);
        for qid in state.queues.values() {
            self.queues[qid.0 as usize] = None;
            self.free.push(qid.0);
        }
    }

    /// A job that somebody has.
    pub fn running(&self, key: Key) -> Option<&Running> {
        self.running.get(&key)
    }

    /// How many of them there are.
    pub fn running_len(&self) -> usize {
        self.running.len()
    }

    /// All of them.
    pub fn all_running(&self) -> impl Iterator<Item = (&Key, &Running)> {
        self.running.iter()
    }

    /// Jobs that a worker has.
    pub fn jobs_of(&self, tenant: TenantId, worker: &str) -> Vec<JobId> {
        let jobs = self.by_worker.get(&(tenant, worker.into()));
        jobs.map(|jobs| jobs.iter().copied().collect()).unwrap_or_default()
    }

    /// How many jobs a worker has.
    pub fn jobs_held(&self, tenant: TenantId, worker: &str) -> usize {
        self.by_worker.get(&(tenant, worker.into())).map_or(0, BTreeSet::len)
    }

    /// Whether a worker has a job.
    pub fn has_job(&self, tenant: TenantId, worker: &str) -> bool {
        self.by_worker.contains_key(&(tenant, worker.into()))
    }

    pub(super) fn start(&mut self, key: Key, running: Running) -> Option<Running> {
        let before = self.stop(key);
        self.ends.insert((running.ends(), key));
        if let Some(worker) = &running.worker {
            let its = self.by_worker.entry((key.0, Arc::clone(worker)));
            its.or_default().insert(key.1);
        }
        self.running.insert(key, running);
        before
    }

    pub(super) fn stop(&mut self, key: Key) -> Option<Running> {
        let running = self.running.remove(&key)?;
        self.ends.remove(&(running.ends(), key));
        if let Some(worker) = &running.worker {
            let its = (key.0, Arc::clone(worker));
            if let Some(jobs) = self.by_worker.get_mut(&its) {
                jobs.remove(&key.1);
                if jobs.is_empty() {
                    self.by_worker.remove(&its);
                }
            }
        }
        Some(running)
    }

    /// Attempts whose time is over.
    pub(super) fn over(&self, now: Mono, limit: usize) -> Vec<Key> {
        let over = self.ends.iter().take_while(|(at, _)| *at <= now);
        over.take(limit).map(|(_, key)| *key).collect()
    }

    /// When the next attempt is over.
    pub fn next_end(&self) -> Option<Mono> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// When something is due, in milliseconds of the calendar.
    pub fn first_due_ms(&self) -> Option<u64> {
        self.first_due_ms
    }

    /// Rows of the outbox.
    pub fn outbox_len(&self) -> u64 {
        self.outbox
    }

    /// Rows that have left the outbox since the file was opened.
    pub fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// How many that will be when all that is in it now has left. Rows leave by id and not by age, so some of
    /// those that come meanwhile may count for others.
    pub fn arrivals_of_all(&self) -> u64 {
        self.arrivals + self.outbox
    }

    /// What was counted, of a queue and of one of its types.
    fn figures(&mut self, qid: Qid, job_type: &TypeName) -> (&mut Figures, &mut TypeState) {
        let queue = self.queue_mut(qid);
        let place = match job_type {
            TypeName::Known(place) => *place,
            TypeName::New(name) => queue.type_index(name),
        };
        (&mut queue.figures, &mut queue.types[place])
    }
}

/// Something to be told after the commit.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// So many jobs of a queue may run, or may run again.
    Ready(TenantId, QueueName, u64),
    /// A job is over.
    Finished(TenantId, JobId),
    /// Something is due before all that was.
    Due,
    /// An attempt ends at this moment unless it is heard of.
    Ends(Mono),
    /// Something lies in the outbox.
    Outbox,
}

/// What is counted when an operation went well.
#[derive(Debug)]
enum Noted {
    Pushed { queue: Qid, job_type: TypeName, jobs: u64 },
    Started { queue: Qid, job_type: TypeName, wait: Duration, probe: bool },
    Ended { queue: Qid, job_type: TypeName, how: Ended, run: Duration },
    Forgotten(Qid),
}

/// A type of jobs of a queue; one that nobody has counted yet gets its place when the operation went well.
#[derive(Debug)]
enum TypeName {
    Known(usize),
    New(Box<str>),
}

enum Undo {
    Count(Qid, Counter, i64),
    Running(Key, Option<Running>),
    Numbers(Numbers),
    Outbox(u64, u64),
    Tokens(Qid, u64),
    Settings(Qid, Box<(Arc<Settings>, bool, Option<Bucket>)>),
    Calls(TenantId, u64),
    Schedules(TenantId, usize),
    Today(TenantId, (u64, u64)),
    FirstDue(Option<u64>),
    Made(Qid),
}

/// One operation on the writer's thread: the file, memory, and the moment.
pub struct Op<'o> {
    /// The file.
    pub tx: &'o mut dyn Write,
    /// Memory.
    pub memory: &'o mut Memory,
    /// Read on the writer's thread, so that it does not go back from one operation to the next.
    pub now: Now,
    /// 64 bits that nobody can guess.
    pub draw: &'o mut dyn FnMut() -> u64,
    undo: Vec<Undo>,
    noted: Vec<Noted>,
    events: Vec<Event>,
    done: bool,
}

/// Runs an operation. When it says no, or panics, memory is as it was before; the file is left to the writer.
pub fn run<T>(
    tx: &mut dyn Write,
    memory: &mut Memory,
    (now, draw): (Now, &mut dyn FnMut() -> u64),
    operation: impl FnOnce(&mut Op<'_>) -> Result<T, Error>,
) -> Result<(T, Vec<Event>), Error> {
    let mut op = Op {
        tx,
        memory,
        now,
        draw,
        undo: Vec::new(),
        noted: Vec::new(),
        events: Vec::new(),
        done: false,
    };
    let value = operation(&mut op)?;
    op.done = true;
    op.note();
    Ok((value, std::mem::take(&mut op.events)))
}

impl Drop for Op<'_> {
    fn drop(&mut self) {
        if !self.done {
            for undo in std::mem::take(&mut self.undo).into_iter().rev() {
                self.take_back(undo);
            }
        }
    }
}

impl Op<'_> {
    /// Milliseconds of the calendar, now.
    pub(super) fn now_ms(&self) -> u64 {
        rows::ms(self.now.wall)
    }

    /// A number from 0 to 1, by chance.
    pub(super) fn chance(&mut self) -> f64 {
        let bits = u32::try_from((self.draw)() >> 32).expect("BUG: half of 64 bits");
        f64::from(bits) / f64::from(u32::MAX)
    }

    pub(super) fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Jobs of this queue may run.
    pub(super) fn ready(&mut self, qid: Qid, jobs: u64) {
        let queue = self.memory.queue(qid);
        let event = Event::Ready(queue.tenant, queue.name.clone(), jobs);
        self.event(event);
    }

    /// Something is due then.
    pub(super) fn due(&mut self, at_ms: u64) {
        if self.memory.first_due_ms.is_none_or(|first| at_ms < first) {
            // An operation that is undone leaves a moment at which nothing is found: no harm.
            self.memory.first_due_ms = Some(at_ms);
            self.event(Event::Due);
        }
    }

    /// Nothing is due before this moment any more.
    pub(super) fn first_due(&mut self, at_ms: Option<u64>) {
        let before = std::mem::replace(&mut self.memory.first_due_ms, at_ms);
        self.undo.push(Undo::FirstDue(before));
    }

    pub(super) fn count(&mut self, qid: Qid, counter: Counter, by: i64) {
        self.add(qid, &counter, by);
        self.undo.push(Undo::Count(qid, counter, by));
    }

    fn add(&mut self, qid: Qid, counter: &Counter, by: i64) {
        let queue = self.memory.queue_mut(qid);
        queue.active_at = self.now.mono;
        let tenant = queue.tenant;
        let place = match counter {
            Counter::Ready(Lane::Band(band)) => &mut queue.ready[usize::from(*band).min(4)],
            Counter::Ready(Lane::Parked(job_type)) => {
                queue.parked.entry(job_type.clone()).or_default()
            }
            Counter::Delayed => &mut queue.delayed,
            Counter::Running => &mut queue.running,
            Counter::Failed => &mut queue.failed,
        };
        *place = changed(*place, by);
        if let Counter::Ready(Lane::Parked(job_type)) = counter
            && queue.parked.get(job_type) == Some(&0)
        {
            queue.parked.remove(job_type);
        }
        if matches!(counter, Counter::Ready(_) | Counter::Delayed) {
            let state = self.memory.tenant_mut(tenant);
            state.waiting = changed(state.waiting, by);
        }
    }

    pub(super) fn start(&mut self, key: Key, running: Running) {
        self.event(Event::Ends(running.ends()));
        let before = self.memory.start(key, running);
        self.undo.push(Undo::Running(key, before));
    }

    pub(super) fn stop(&mut self, key: Key) {
        let before = self.memory.stop(key);
        self.undo.push(Undo::Running(key, before));
    }

    pub(super) fn outbox(&mut self, by: i64) {
        self.undo.push(Undo::Outbox(self.memory.outbox, self.memory.arrivals));
        self.memory.outbox = changed(self.memory.outbox, by);
        self.memory.arrivals += by.min(0).unsigned_abs();
    }

    pub(super) fn calls(&mut self, tenant: TenantId, by: i64) {
        let state = self.memory.tenant_mut(tenant);
        let before = state.calls;
        state.calls = changed(before, by);
        self.undo.push(Undo::Calls(tenant, before));
    }

    pub(super) fn schedules(&mut self, tenant: TenantId, by: i64) {
        let state = self.memory.tenant_mut(tenant);
        let before = state.schedules;
        let narrow = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        state.schedules = narrow(changed(before as u64, by));
        self.memory.schedules = narrow(changed(self.memory.schedules as u64, by));
        self.undo.push(Undo::Schedules(tenant, before));
    }

    pub(super) fn today(&mut self, tenant: TenantId, today: (u64, u64)) {
        let state = self.memory.tenant_mut(tenant);
        let before = std::mem::replace(&mut state.today, today);
        self.undo.push(Undo::Today(tenant, before));
    }

    pub(super) fn settings(&mut self, qid: Qid, settings: Settings, configured: bool) {
        let now = self.now.mono;
        let queue = self.memory.queue_mut(qid);
        let before = (Arc::clone(&queue.settings), queue.configured, queue.bucket.clone());
        queue.set(Arc::new(settings), configured, now);
        self.undo.push(Undo::Settings(qid, Box::new(before)));
    }

    /// A queue, made if it is not there. The caller has judged whether there may be one more.
    pub(super) fn ensure(&mut self, tenant: TenantId, name: &QueueName) -> Qid {
        if let Some(qid) = self.memory.qid(tenant, name) {
            return qid;
        }
        let qid = self.memory.ensure(tenant, name, self.now.mono);
        self.undo.push(Undo::Made(qid));
        qid
    }

    /// Forgets a queue that is empty; only the last thing an operation does.
    pub(super) fn forget_queue(&mut self, qid: Qid) {
        self.noted.push(Noted::Forgotten(qid));
    }

    /// Takes what the rate of a queue lets through, at most `wanted`.
    pub(super) fn take_tokens(&mut self, qid: Qid, wanted: u64) -> u64 {
        let now = self.now.mono;
        let Some(bucket) = &mut self.memory.queue_mut(qid).bucket else {
            return wanted;
        };
        let taken = bucket.take(now, wanted);
        self.undo.push(Undo::Tokens(qid, taken));
        taken
    }

    /// Gives back what was not used.
    pub(super) fn return_tokens(&mut self, qid: Qid, unused: u64) {
        if let Some(bucket) = &mut self.memory.queue_mut(qid).bucket {
            bucket.give_back(unused);
        }
        let its = self.undo.iter_mut().rev().find_map(|undo| match undo {
            Undo::Tokens(queue, taken) if *queue == qid => Some(taken),
            _ => None,
        });
        if let Some(taken) = its {
            *taken = taken.saturating_sub(unused);
        }
    }

    /// An id larger than all before, with the moment in front.
    pub(super) fn next_id(&mut self) -> Result<JobId, RowError> {
        let before = self.memory.numbers;
        let numbers = &mut self.memory.numbers;
        let id = numbers.next_id.max(rows::ms(self.now.wall) << ID_BITS);
        numbers.next_id = id + 1;
        if numbers.stored.ids_until <= id {
            numbers.stored.ids_until = id + IDS_AHEAD;
            self.store_numbers(before)?;
        }
        Ok(JobId::from_raw(id))
    }

    /// A fence larger than all before.
    pub(super) fn next_fence(&mut self) -> Result<u64, RowError> {
        let before = self.memory.numbers;
        let numbers = &mut self.memory.numbers;
        let fence = numbers.next_fence.max(1);
        numbers.next_fence = fence + 1;
        if numbers.stored.fences_until <= fence {
            numbers.stored.fences_until = fence + FENCES_AHEAD;
            self.store_numbers(before)?;
        }
        Ok(fence)
    }

    /// Notes on which run of the machine this is, before a process of it is noted.
    pub(super) fn store_boot(&mut self) -> Result<(), RowError> {
        if self.memory.numbers.boot_stored {
            Ok(())
        } else {
            self.store_numbers(self.memory.numbers)
        }
    }

    fn store_numbers(&mut self, before: Numbers) -> Result<(), RowError> {
        self.undo.push(Undo::Numbers(before));
        self.memory.numbers.boot_stored = true;
        let row = self.memory.numbers.stored;
        rows::put_plain(self.tx, Table::Meta, rows::NUMBERS_KEY, &row)
    }

    pub(super) fn note_pushed(&mut self, queue: Qid, job_type: &str, jobs: u64) {
        let job_type = self.memory.queue(queue).type_name(job_type);
        self.noted.push(Noted::Pushed { queue, job_type, jobs });
    }

    pub(super) fn note_started(&mut self, queue: Qid, job_type: &str, wait: Duration, probe: bool) {
        let job_type = self.memory.queue(queue).type_name(job_type);
        self.noted.push(Noted::Started { queue, job_type, wait, probe });
    }

    pub(super) fn note_ended(&mut self, queue: Qid, job_type: &str, how: Ended, run: Duration) {
        let job_type = self.memory.queue(queue).type_name(job_type);
        self.noted.push(Noted::Ended { queue, job_type, how, run });
    }

    fn note(&mut self) {
        let now = self.now.mono;
        for noted in std::mem::take(&mut self.noted) {
            match noted {
                Noted::Pushed { queue, job_type, jobs } => {
                    let (all, its) = self.memory.figures(queue, &job_type);
                    all.pushed(now, jobs);
                    its.figures.pushed(now, jobs);
                }
                Noted::Started { queue, job_type, wait, probe } => {
                    let (all, its) = self.memory.figures(queue, &job_type);
                    all.started(now, wait);
                    its.figures.started(now, wait);
                    if probe {
                        its.budget.took_probe(now);
                    }
                }
                Noted::Ended { queue, job_type, how, run } => {
                    let (all, its) = self.memory.figures(queue, &job_type);
                    all.ended(now, how, run);
                    its.figures.ended(now, how, run);
                    match how {
                        Ended::Done => its.budget.ended(now, false),
                        Ended::Failed => its.budget.ended(now, true),
                        // A worker that dies says nothing of what its jobs work with, and the next one is to
                        // have the job at once.
                        Ended::Crashed | Ended::Released | Ended::Cancelled | Ended::GivenUp => {}
                    }
                }
                Noted::Forgotten(qid) => self.memory.forget(qid),
            }
        }
    }

    fn take_back(&mut self, undo: Undo) {
        match undo {
            Undo::Count(qid, counter, by) => self.add(qid, &counter, -by),
            Undo::Running(key, before) => {
                self.memory.stop(key);
                if let Some(running) = before {
                    self.memory.start(key, running);
                }
            }
            Undo::Numbers(before) => {
                // What was given out stays given out.
                let numbers = &mut self.memory.numbers;
                (numbers.stored, numbers.boot_stored) = (before.stored, before.boot_stored);
            }
            Undo::Outbox(before, arrivals) => {
                (self.memory.outbox, self.memory.arrivals) = (before, arrivals);
            }
            Undo::Tokens(qid, taken) => {
                if let Some(bucket) = &mut self.memory.queue_mut(qid).bucket {
                    bucket.give_back(taken);
                }
            }
            Undo::Settings(qid, before) => {
                let queue = self.memory.queue_mut(qid);
                (queue.settings, queue.configured, queue.bucket) = *before;
            }
            Undo::Calls(tenant, before) => self.memory.tenant_mut(tenant).calls = before,
            Undo::Schedules(tenant, before) => {
                let state = self.memory.tenant_mut(tenant);
                let now = std::mem::replace(&mut state.schedules, before);
                self.memory.schedules = self.memory.schedules + before - now;
            }
            Undo::Today(tenant, before) => self.memory.tenant_mut(tenant).today = before,
            Undo::FirstDue(before) => self.memory.first_due_ms = before,
            Undo::Made(qid) => self.memory.forget(qid),
        }
    }
}

fn changed(count: u64, by: i64) -> u64 {
    let changed = count.checked_add_signed(by);
    changed.expect("BUG: what is counted out was counted in")
}
