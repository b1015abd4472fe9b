//! Who works on jobs: what each worker said last, when it was last heard of, and what it is told.
//!
//! ```text
//!                    beat, lease
//!   (unknown) ------------------> alive --60 s of silence--> stale --15 min of silence--> (forgotten)
//!                                 ^  |                         |                               ^
//!                                 |  '-- goodbye, death --> gone --15 min-----------------------'
//!                                 '------- heard of again ----'
//! ```
//!
//! All of it is in memory: after a start, workers are known again with their next beat or lease. Which
//! jobs they hold is not known here; who forgets ([`Workers::sweep`]) asks.
//!
//! **A command** is told with each beat until the worker says goodbye, dies, or shows that it began anew.
//! It began anew when
//! 1. it was gone before, or
//! 2. it names another process or another machine than before, or
//! 3. it said that it stops and now says something else, and its `jobs_done` did not just go on, or
//! 4. it has been told the command, and one of its counters (`jobs_done`, `idle_ms`, `busy_ms`) went down.
//!
//! Process 1 is process 1 again when a container begins anew, so it shows nothing. A worker that gives
//! nothing of all this to see cannot be told "restart" with each beat, or it would do so for ever: it is
//! told once.
//!
//! **Invariants**: every worker stands in `order` exactly once, at the moment it was last heard of, those
//! who are gone before all others; `queues` is the sum of what all of them name. **Bounds**:
//! [`JOB_WORKERS_MAX`] workers, [`WORKER_QUEUES_MAX`] names of queues. At a bound those who are gone give
//! way, then those who are stale, who were not heard of for longest first; when there are none,
//! [`TooMany`].

pub mod crew;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Bound;

use self::crew::Time;
use crate::base::id::TenantId;
use crate::base::limits::{
    JOB_WORKERS_MAX, WORKER_GONE, WORKER_ID_BYTES_MAX, WORKER_QUEUES_MAX, WORKER_STALE,
};
use crate::base::name::QueueName;
use crate::base::time::{Mono, Now, Timestamp};

/// What a worker calls itself: 1 to [`WORKER_ID_BYTES_MAX`] bytes without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(Box<str>);

/// Why a text is not the id of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadWorkerId {
    /// Empty or too long.
    #[error("the id of a worker has {0} bytes; 1 to {WORKER_ID_BYTES_MAX} are allowed")]
    Length(usize),
    /// A control character.
    #[error("the id of a worker has a control character at byte {0}")]
    Control(usize),
}

impl WorkerId {
    /// The stable code of a refused id.
    pub const CODE: &'static str = "invalid_worker";

    /// Checks `text` and keeps it.
    pub fn parse(text: &str) -> Result<WorkerId, BadWorkerId> {
        if text.is_empty() || WORKER_ID_BYTES_MAX < text.len() {
            return Err(BadWorkerId::Length(text.len()));
        }
        match text.char_indices().find(|(_, letter)| letter.is_control()) {
            Some((at, _)) => Err(BadWorkerId::Control(at)),
            None => Ok(WorkerId(text.into())),
        }
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// What a worker says it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// Waits for a job.
    Idle,
    /// Has one.
    Busy,
    /// Takes none for now.
    Paused,
    /// Takes none any more.
    Stopping,
}

impl WorkerState {
    /// All of them.
    pub const ALL: [WorkerState; 4] =
        [WorkerState::Idle, WorkerState::Busy, WorkerState::Paused, WorkerState::Stopping];

    /// How it is spelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            WorkerState::Idle => "idle",
            WorkerState::Busy => "busy",
            WorkerState::Paused => "paused",
            WorkerState::Stopping => "stopping",
        }
    }

    /// Reads what [`WorkerState::as_str`] writes.
    pub fn parse(text: &str) -> Option<WorkerState> {
        WorkerState::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// What a worker is told to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Command {
    /// Go on.
    #[default]
    Run,
    /// Finish what runs, take nothing more.
    Drain,
    /// Finish what runs, end, and begin anew.
    Restart,
}

impl Command {
    /// All of them.
    pub const ALL: [Command; 3] = [Command::Run, Command::Drain, Command::Restart];

    /// How it is spelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            Command::Run => "run",
            Command::Drain => "drain",
            Command::Restart => "restart",
        }
    }

    /// Reads what [`Command::as_str`] writes.
    pub fn parse(text: &str) -> Option<Command> {
        Command::ALL.into_iter().find(|command| command.as_str() == text)
    }
}

/// What a worker says about itself. What it does not say stays as it said it before.
///
/// Texts and lists are within their bounds: the edge has checked them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beat {
    /// Its process.
    pub pid: Option<u32>,
    /// The machine it runs on: at most `WORKER_HOST_BYTES_MAX` bytes.
    pub host: Option<String>,
    /// The queues it serves, at most `LEASE_QUEUES_MAX`; none when it does not say.
    pub queues: Vec<QueueName>,
    /// What it does.
    pub state: Option<WorkerState>,
    /// Memory it takes.
    pub rss_bytes: Option<u64>,
    /// The most it took.
    pub peak_rss_bytes: Option<u64>,
    /// The part of one processor it takes; a number, and not below zero.
    pub cpu_percent: Option<f64>,
    /// Jobs it has finished since it began.
    pub jobs_done: Option<u64>,
    /// How long it has waited since it began.
    pub idle_ms: Option<u64>,
    /// How long it has worked since it began.
    pub busy_ms: Option<u64>,
}

impl Beat {
    /// This one, and what it does not say as `before` said it.
    fn after(self, before: Beat) -> Beat {
        Beat {
            pid: self.pid.or(before.pid),
            host: self.host.or(before.host),
            queues: if self.queues.is_empty() { before.queues } else { self.queues },
            state: self.state.or(before.state),
            rss_bytes: self.rss_bytes.or(before.rss_bytes),
            peak_rss_bytes: self.peak_rss_bytes.or(before.peak_rss_bytes),
            cpu_percent: self.cpu_percent.or(before.cpu_percent),
            jobs_done: self.jobs_done.or(before.jobs_done),
            idle_ms: self.idle_ms.or(before.idle_ms),
            busy_ms: self.busy_ms.or(before.busy_ms),
        }
    }

    /// The counters that only grow while a worker lives.
    fn counters(&self) -> [Option<u64>; 3] {
        [self.jobs_done, self.idle_ms, self.busy_ms]
    }

    /// Whether it could be seen from the next beats that the worker began anew.
    fn would_show_a_restart(&self) -> bool {
        self.pid.is_some_and(|pid| pid != 1) || self.counters().iter().any(Option::is_some)
    }
}

/// How a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is there, and says this of itself; it leased and never said anything when this is `None`.
    Alive(Option<WorkerState>),
    /// It was not heard of for `WORKER_STALE`.
    Stale,
    /// It said goodbye, or its process ended.
    Gone,
}

impl Standing {
    /// One word for it. Of a worker that never said anything its leases tell whether it is at work.
    pub const fn as_str(self, holds_lease: bool) -> &'static str {
        match self {
            Standing::Alive(Some(state)) => state.as_str(),
            Standing::Alive(None) if holds_lease => WorkerState::Busy.as_str(),
            Standing::Alive(None) => WorkerState::Idle.as_str(),
            Standing::Stale => "stale",
            Standing::Gone => "gone",
        }
    }
}

/// A worker, as others see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// What it calls itself.
    pub id: WorkerId,
    /// How it stands.
    pub standing: Standing,
    /// What it said of itself; the queues are those of its last beat or lease.
    pub said: Beat,
    /// When it began, as far as it was seen.
    pub first_seen_at: Timestamp,
    /// When it was last heard of.
    pub last_seen_at: Timestamp,
    /// When it last sent a beat, if it ever did.
    pub last_beat_at: Option<Timestamp>,
    /// What it will be told.
    pub command: Command,
    /// How its process ended, if it is gone because of that.
    pub died: Option<String>,
}

/// There are as many workers, or queues that they name, as there may be, and all of them are alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there are as many workers as there may be: {JOB_WORKERS_MAX}, or {WORKER_QUEUES_MAX} queues served by them"
)]
pub struct TooMany;

impl TooMany {
    /// The stable word that clients match on.
    pub const CODE: &'static str = "overloaded";
}

/// Who serves a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// So many workers.
    pub workers: usize,
    /// So many jobs they work on at a time, as far as was seen.
    pub places: usize,
    /// Whether any of them serves another queue too: its time is not this queue's alone.
    pub shared: bool,
}

/// A place in the order in which workers give way: those who are gone first, then by when they were last
/// heard of. The number tells those of one moment apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    alive: bool,
    heard: Mono,
    number: u64,
}

#[derive(Debug)]
struct Known {
    place: Place,
    said: Beat,
    first_seen_at: Timestamp,
    last_seen_at: Timestamp,
    last_beat_at: Option<Timestamp>,
    command: Command,
    /// Whether it has been told the command.
    told: bool,
    died: Option<String>,
    /// Its time up to here is counted.
    counted_until: Mono,
    /// Whether it says how all of its time is spent.
    says_time: bool,
    /// The most jobs that it was seen with.
    places: usize,
}

impl Known {
    fn new(number: u64, now: Now) -> Known {
        Known {
            place: Place { alive: true, heard: now.mono, number },
            said: Beat::default(),
            first_seen_at: now.wall,
            last_seen_at: now.wall,
            last_beat_at: None,
            command: Command::Run,
            told: false,
            died: None,
            places: 0,
            counted_until: now.mono,
            says_time: false,
        }
    }

    /// See the rule at the top.
    fn began_anew(&self, beat: &Beat) -> bool {
        let old = &self.said;
        let differ =
            |pair: (Option<u32>, Option<u32>)| matches!(pair, (Some(a), Some(b)) if a != b);
        if !self.place.alive || differ((old.pid, beat.pid)) {
            return true;
        }
        if beat.host.is_some() && old.host.is_some() && beat.host != old.host {
            return true;
        }
        let stopped = old.state == Some(WorkerState::Stopping);
        if stopped && beat.state.is_some_and(|state| state != WorkerState::Stopping) {
            let went_on = matches!(
                (old.jobs_done, beat.jobs_done),
                (Some(before), Some(after)) if 0 < after && before <= after
            );
            return !went_on;
        }
        let mut counters = old.counters().into_iter().zip(beat.counters());
        self.told && counters.any(|pair| matches!(pair, (Some(old), Some(new)) if new < old))
    }

    /// What is told in answer to a beat.
    fn tell(&mut self) -> Command {
        let command = self.command;
        self.told = command != Command::Run;
        if command == Command::Restart && !self.said.would_show_a_restart() {
            self.order(Command::Run);
        }
        command
    }

    fn order(&mut self, command: Command) {
        self.command = command;
        self.told = false;
    }

    fn is_stale(&self, now: Now) -> bool {
        is_stale(self.place, now)
    }

    fn standing(&self, now: Now) -> Standing {
        match (self.place.alive, self.is_stale(now)) {
            (false, _) => Standing::Gone,
            (true, true) => Standing::Stale,
            (true, false) => Standing::Alive(self.said.state),
        }
    }

    fn as_told(&self, id: &WorkerId, now: Now) -> Told {
        Told {
            id: id.clone(),
            standing: self.standing(now),
            said: self.said.clone(),
            first_seen_at: self.first_seen_at,
            last_seen_at: self.last_seen_at,
            last_beat_at: self.last_beat_at,
            command: self.command,
            died: self.died.clone(),
        }
    }
}

fn is_stale(place: Place, now: Now) -> bool {
    WORKER_STALE <= now.mono.since(place.heard)
}

/// What is to be noted of a worker that is heard of.
#[derive(Clone, Copy, Debug)]
struct News {
    anew: bool,
    /// How many queues it names, if it does.
    queues: Option<usize>,
}

/// The workers of all tenants.
#[derive(Debug)]
pub struct Workers {
    known: BTreeMap<TenantId, BTreeMap<WorkerId, Known>>,
    order: BTreeMap<Place, (TenantId, WorkerId)>,
    /// Names of queues, of all workers together.
    queues: usize,
    /// How the workers of each tenant spent their time since the start.
    time: BTreeMap<TenantId, Time>,
    next_number: u64,
    known_max: usize,
    queues_max: usize,
}

impl Default for Workers {
    fn default() -> Workers {
        Workers::new()
    }
}

impl Workers {
    /// Nobody is known.
    pub fn new() -> Workers {
        Workers::bounded(JOB_WORKERS_MAX, WORKER_QUEUES_MAX)
    }

    fn bounded(known_max: usize, queues_max: usize) -> Workers {
        Workers {
            known: BTreeMap::new(),
            order: BTreeMap::new(),
            queues: 0,
            time: BTreeMap::new(),
            next_number: 0,
            known_max,
            queues_max,
        }
    }

    /// A worker says how it is, and is told what to do. When there is no room for it nothing is kept of
    /// what it said.
    pub fn beat(
        &mut self,
        tenant: TenantId,
        id: &WorkerId,
        mut beat: Beat,
        now: Now,
    ) -> Result<Command, TooMany> {
        let anew = self.find(tenant, id).is_none_or(|known| known.began_anew(&beat));
        once_each(&mut beat.queues);
        let queues = (anew || !beat.queues.is_empty()).then_some(beat.queues.len());
        let known = self.hear(tenant, id, News { anew, queues }, now)?;
        let time = known.told_time(&beat, now.mono);
        known.said = beat.after(std::mem::take(&mut known.said));
        known.last_beat_at = Some(now.wall);
        let command = known.tell();
        self.count_time(tenant, time);
        Ok(command)
    }

    /// A worker leased from `queues`, or ended something (then there are none): it is alive. Whether it is
    /// known now: when there is no room it is not, and its lease is none the worse for it.
    pub fn seen(
        &mut self,
        tenant: TenantId,
        id: &WorkerId,
        queues: &[QueueName],
        now: Now,
    ) -> bool {
        let before = self.find(tenant, id).filter(|known| known.place.alive);
        let anew = before.is_none();
        // It says the same again and again.
        let same = before.is_some_and(|known| known.said.queues == queues) || queues.is_empty();
        let mut queues = if same { Vec::new() } else { queues.to_vec() };
        once_each(&mut queues);
        let count = (anew || !queues.is_empty()).then_some(queues.len());
        let Ok(known) = self.hear(tenant, id, News { anew, queues: count }, now) else {
            return false;
        };
        if !queues.is_empty() {
            known.said.queues = queues;
        }
        true
    }

    /// A worker ends, and says so. Whether it was known.
    pub fn goodbye(&mut self, tenant: TenantId, id: &WorkerId, now: Now) -> bool {
        self.end(tenant, id, None, now)
    }

    /// The process of a worker has ended. Whether it was known.
    pub fn died(&mut self, tenant: TenantId, id: &WorkerId, how: String, now: Now) -> bool {
        self.end(tenant, id, Some(how), now)
    }

    /// What a worker is to be told from now on. Whether there is such a worker, and it is not gone.
    pub fn command(&mut self, tenant: TenantId, id: &WorkerId, command: Command) -> bool {
        let known = self.known.get_mut(&tenant).and_then(|known| known.get_mut(id));
        let Some(known) = known.filter(|known| known.place.alive) else {
            return false;
        };
        known.order(command);
        true
    }

    /// The same for all who serve a queue, also those who are not heard of: they may come back. How many
    /// they are.
    pub fn command_queue(
        &mut self,
        tenant: TenantId,
        queue: &QueueName,
        command: Command,
    ) -> usize {
        let known = self.known.get_mut(&tenant).into_iter().flat_map(BTreeMap::values_mut);
        let mut count = 0;
        for known in known.filter(|known| known.place.alive && known.said.queues.contains(queue)) {
            known.order(command);
            count += 1;
        }
        count
    }

    /// One worker.
    pub fn get(&self, tenant: TenantId, id: &WorkerId, now: Now) -> Option<Told> {
        self.find(tenant, id).map(|known| known.as_told(id, now))
    }

    /// The process that a worker says it is.
    pub fn pid(&self, tenant: TenantId, id: &WorkerId) -> Option<u32> {
        self.find(tenant, id).and_then(|known| known.said.pid)
    }

    /// The workers of a tenant behind `after`, by id, at most `limit`.
    pub fn page(
        &self,
        tenant: TenantId,
        after: Option<&WorkerId>,
        limit: usize,
        now: Now,
    ) -> Vec<Told> {
        let Some(known) = self.known.get(&tenant) else {
            return Vec::new();
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = known.range::<WorkerId, _>((from, Bound::Unbounded)).take(limit);
        page.map(|(id, known)| known.as_told(id, now)).collect()
    }

    /// How many workers serve each queue of a tenant and are neither stale nor gone, with one look at each. A worker counts
    /// in each queue that it serves.
    pub fn counts(&self, tenant: TenantId, now: Now) -> HashMap<&QueueName, Served> {
        let mut counts: HashMap<&QueueName, Served> = HashMap::new();
        let known = self.known.get(&tenant).into_iter().flat_map(BTreeMap::values);
        for known in known.filter(|known| known.place.alive && !known.is_stale(now)) {
            for queue in &known.said.queues {
                let served = counts.entry(queue).or_default();
                served.workers += 1;
                served.places += known.places.max(1);
                served.shared |= 1 < known.said.queues.len();
            }
        }
        counts
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Forgets those who were not heard of for [`WORKER_GONE`] and hold no lease. How many they were.
    pub fn sweep(&mut self, now: Now, holds_lease: &dyn Fn(TenantId, &WorkerId) -> bool) -> usize {
        let mut old = Vec::new();
        for alive in [false, true] {
            let first = Place { alive, heard: Mono::default(), number: 0 };
            let part = self.order.range(first..).take_while(|(place, _)| {
                place.alive == alive && WORKER_GONE <= now.mono.since(place.heard)
            });
            let free = part.filter(|(_, (tenant, id))| !holds_lease(*tenant, id));
            old.extend(free.map(|(place, _)| *place));
        }
        for place in &old {
            self.forget(*place);
        }
        old.len()
    }

    /// Forgets the workers of a tenant. How many they were.
    pub fn forget_tenant(&mut self, tenant: TenantId) -> usize {
        self.time.remove(&tenant);
        let known = self.known.remove(&tenant).unwrap_or_default();
        for known in known.values() {
            self.order.remove(&known.place);
            self.queues -= known.said.queues.len();
        }
        known.len()
    }

    fn find(&self, tenant: TenantId, id: &WorkerId) -> Option<&Known> {
        self.known.get(&tenant)?.get(id)
    }

    /// A worker is heard of: it is alive, and there is room for it and for the queues it names. A worker
    /// that begins anew has said nothing yet.
    fn hear(
        &mut self,
        tenant: TenantId,
        id: &WorkerId,
        news: News,
        now: Now,
    ) -> Result<&mut Known, TooMany> {
        let before = self.find(tenant, id).map(|known| (known.place, known.said.queues.len()));
        let named_before = before.map_or(0, |(_, named)| named);
        let named = news.queues.unwrap_or(named_before);
        self.make_room(before.map(|(place, _)| place), named_before, named, now)?;
        let number = before.map_or(self.next_number, |(place, _)| place.number);
        let name = if let Some((place, _)) = before {
            self.order.remove(&place).expect("BUG: every worker has its place in the order")
        } else {
            self.next_number += 1;
            (tenant, id.clone())
        };
        self.queues = self.queues - named_before + named;
        let of_tenant = self.known.entry(tenant).or_default();
        if news.anew {
            of_tenant.insert(id.clone(), Known::new(number, now));
        }
        let known = of_tenant.get_mut(id).expect("BUG: an unknown worker begins anew");
        known.place = Place { alive: true, heard: now.mono, number };
        known.last_seen_at = now.wall;
        self.order.insert(known.place, name);
        Ok(known)
    }

    /// Lets others go until there is room for a worker, which may have a place already, that named so many
    /// queues before and names so many now.
    fn make_room(
        &mut self,
        own: Option<Place>,
        named_before: usize,
        named: usize,
        now: Now,
    ) -> Result<(), TooMany> {
        let newcomer = usize::from(own.is_none());
        while self.known_max < self.order.len() + newcomer
            || self.queues_max < self.queues - named_before + named
        {
            // Its own place is at most the first.
            let first = self.order.keys().find(|place| Some(**place) != own).copied();
            let first = first.filter(|first| !first.alive || is_stale(*first, now));
            self.forget(first.ok_or(TooMany)?);
        }
        Ok(())
    }

    fn forget(&mut self, place: Place) {
        let (tenant, id) = self.order.remove(&place).expect("BUG: the place was just seen");
        let of_tenant = self.known.get_mut(&tenant).expect("BUG: who has a place is known");
        let known = of_tenant.remove(&id).expect("BUG: who has a place is known");
        if of_tenant.is_empty() {
            self.known.remove(&tenant);
        }
        self.queues -= known.said.queues.len();
    }

    /// A worker is gone. What was said of its end first stays; it is remembered for a while from now on.
    fn end(&mut self, tenant: TenantId, id: &WorkerId, how: Option<String>, now: Now) -> bool {
        let known = self.known.get_mut(&tenant).and_then(|known| known.get_mut(id));
        let Some(known) = known else {
            return false;
        };
        if known.place.alive {
            let name = self.order.remove(&known.place);
            let name = name.expect("BUG: every worker has its place in the order");
            known.place = Place { alive: false, heard: now.mono, ..known.place };
            known.died = how;
            known.order(Command::Run);
            self.order.insert(known.place, name);
        }
        true
    }
}

/// Leaves each name once, where it stood first.
fn once_each(queues: &mut Vec<QueueName>) {
    let mut at = 0;
    while at < queues.len() {
        if queues[..at].contains(&queues[at]) {
            queues.remove(at);
        } else {
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests;
