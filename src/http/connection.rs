//! Who is connected, where each of them stands, and who has to go.
//!
//! ```text
//!   accepted --> Head --request--> Body? --> Handler --> Answer --> Idle --first byte--> Head ...
//! ```
//!
//! Each state has a deadline ([`Stage::deadline`]); one look a second over all connections keeps them
//! ([`Registry::sweep`]), so that a connection costs no timer of its own. When no place is left, the one
//! that has shown least gives its place to the newcomer ([`Registry::enter`]).
//!
//! **Invariant**: at most `max` connections have a place; the accept loop holds at most one more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::app::jobs::Receipt;
use crate::base::limits::{
    BODY_DEADLINE, HANDLER_DEADLINE, HEAD_DEADLINE, KEEP_ALIVE, TAKE_DEADLINE,
};
use crate::base::time::Mono;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// A head is awaited, or part of it is there.
    Head = 0,
    /// Between requests.
    Idle = 1,
    /// A body is awaited.
    Body = 2,
    /// A handler is at work.
    Handler = 3,
    /// The client is taking its answer.
    Answer = 4,
}

impl Stage {
    const ALL: [Stage; 5] = [Stage::Head, Stage::Idle, Stage::Body, Stage::Handler, Stage::Answer];

    fn from_raw(raw: u8) -> Stage {
        Stage::ALL.into_iter().find(|stage| *stage as u8 == raw).unwrap_or(Stage::Head)
    }

    /// How long a connection may stand there.
    const fn deadline(self) -> Duration {
        match self {
            Stage::Head => HEAD_DEADLINE,
            Stage::Idle => KEEP_ALIVE,
            // The body's reader answers first; this is for the one who has stopped listening.
            Stage::Body => BODY_DEADLINE.saturating_add(Duration::from_secs(2)),
            Stage::Handler => HANDLER_DEADLINE.saturating_add(Duration::from_secs(5)),
            Stage::Answer => TAKE_DEADLINE,
        }
    }
}

/// One connection, as others see it.
#[derive(Debug)]
pub struct Connection {
    stage: AtomicU8,
    since_ns: AtomicU64,
    /// Has shown a valid token, or came by the Unix socket.
    trusted: AtomicBool,
    /// What it has been told; an [`Order`].
    order: AtomicU8,
    told: Notify,
    /// How long the request that is under way has waited because its client asked for it.
    waited_ns: AtomicU64,
    /// Space for the large answer that the client is taking.
    space: Mutex<Option<OwnedSemaphorePermit>>,
    /// For jobs in answers that are on their way out.
    receipts: Mutex<Vec<Receipt>>,
    /// Whether there are any.
    owes: AtomicBool,
}

impl Connection {
    fn new(trusted: bool, now: Mono) -> Connection {
        Connection {
            stage: AtomicU8::new(Stage::Head as u8),
            since_ns: AtomicU64::new(now.ns()),
            trusted: AtomicBool::new(trusted),
            order: AtomicU8::new(0),
            told: Notify::new(),
            waited_ns: AtomicU64::new(0),
            space: Mutex::new(None),
            receipts: Mutex::default(),
            owes: AtomicBool::new(false),
        }
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        Stage::from_raw(self.stage.load(Relaxed))
    }

    /// It stands there now.
    pub fn set_stage(&self, stage: Stage, now: Mono) {
        self.since_ns.store(now.ns(), Relaxed);
        self.stage.store(stage as u8, Relaxed);
    }

    /// It goes on where it stands; its deadline begins anew.
    pub(super) fn touch(&self, now: Mono) {
        self.since_ns.store(now.ns(), Relaxed);
    }

    /// The request that is under way has waited for so long, as its client wished.
    pub(super) fn add_waited(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.waited_ns.fetch_add(ns, Relaxed);
    }

    /// How long it has waited; the next request begins at zero.
    pub(super) fn take_waited(&self) -> Duration {
        if self.waited_ns.load(Relaxed) == 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.waited_ns.swap(0, Relaxed))
    }

    /// Holds `space` until the answer is taken, or the connection is gone.
    pub(super) fn hold(&self, space: OwnedSemaphorePermit) {
        *self.space.lock() = Some(space);
    }

    /// The answer is taken.
    pub(super) fn let_go(&self) {
        drop(self.space.lock().take());
    }

    /// An answer with jobs is about to be written.
    pub(super) fn owe(&self, receipt: Receipt) {
        self.receipts.lock().push(receipt);
        self.owes.store(true, Relaxed);
    }

    /// Everything that was to be written is out: the jobs have arrived.
    pub(super) fn accept_receipts(&self) {
        if self.owes.swap(false, Relaxed) {
            let receipts = std::mem::take(&mut *self.receipts.lock());
            receipts.into_iter().for_each(Receipt::accept);
        }
    }

    /// It is gone: what did not get out goes back.
    fn give_back(&self) {
        let receipts = std::mem::take(&mut *self.receipts.lock());
        drop(receipts);
    }

    /// Whoever is there belongs here.
    pub(super) fn trust(&self) {
        if !self.trusted.load(Relaxed) {
            self.trusted.store(true, Relaxed);
        }
    }

    fn since(&self) -> Mono {
        Mono::from_ns(self.since_ns.load(Relaxed))
    }

    /// Whether it has stood there for so short a time that it could not show what it is.
    fn is_new(&self, now: Mono) -> bool {
        now.since(self.since()) < NEW_FOR
    }

    /// Whether it may have to make room. A stranger who takes nothing of an answer may, too: otherwise a
    /// few of them would hold every place, or cost those their places who belong here.
    fn may_be_evicted(&self) -> bool {
        match self.stage() {
            Stage::Head | Stage::Idle | Stage::Body => true,
            Stage::Answer => !self.trusted.load(Relaxed),
            Stage::Handler => false,
        }
    }

    /// Waits until it is told something.
    pub(super) async fn told(&self) -> Order {
        self.told.notified().await;
        if self.order.load(Relaxed) == Order::Close as u8 { Order::Close } else { Order::Drain }
    }

    fn tell(&self, order: Order) {
        self.order.fetch_max(order as u8, Relaxed);
        self.told.notify_one();
    }

    fn close(&self) {
        self.tell(Order::Close);
    }
}

/// What a connection can be told. Each has one ear for all of it, which nobody else listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Order {
    /// Finish what runs, and end.
    Drain = 1,
    /// End.
    Close = 2,
}

/// What happened to connections so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Open now.
    pub open: usize,
    /// How many there may be.
    pub max: usize,
    /// Accepted.
    pub accepted: u64,
    /// Made room for another.
    pub evicted: u64,
    /// Passed a deadline.
    pub timed_out: u64,
    /// Turned away because everybody else was at work.
    pub refused: u64,
    /// Times that accepting failed.
    pub accept_errors: u64,
}

/// All connections.
#[derive(Debug)]
pub struct Registry {
    places: Arc<Semaphore>,
    max: usize,
    open: Mutex<Vec<Arc<Connection>>>,
    open_count: AtomicUsize,
    draining: AtomicBool,
    accepted: AtomicU64,
    evicted: AtomicU64,
    timed_out: AtomicU64,
    refused: AtomicU64,
    accept_errors: AtomicU64,
}

/// A connection's place; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) connection: Arc<Connection>,
    registry: Arc<Registry>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connection.give_back();
        let mut open = self.registry.open.lock();
        if let Some(at) = open.iter().position(|other| Arc::ptr_eq(other, &self.connection)) {
            open.swap_remove(at);
        }
        self.registry.open_count.store(open.len(), Relaxed);
    }
}

/// Where somebody stands for a shorter time is not held against them: a request that is on its way would be
/// sent away for the next one.
const NEW_FOR: Duration = Duration::from_millis(250);
/// How long a newcomer waits for the place of somebody who has to go.
const EVICTION_PATIENCE: Duration = Duration::from_secs(1);

impl Registry {
    /// For at most `max` connections.
    pub fn new(max: usize) -> Registry {
        Registry {
            places: Arc::new(Semaphore::new(max)),
            max,
            open: Mutex::default(),
            open_count: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            accept_errors: AtomicU64::new(0),
        }
    }

    /// A place for a newcomer. When there is none, the connection that has shown least has to go; `None`
    /// when all of them are at work.
    pub(super) async fn enter(self: &Arc<Self>, trusted: bool, now: Mono) -> Option<Place> {
        self.accepted.fetch_add(1, Relaxed);
        let permit = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) if self.evict(now) => {
                let place = Arc::clone(&self.places).acquire_owned();
                tokio::time::timeout(EVICTION_PATIENCE, place).await.ok()?.ok()?
            }
            Err(_) => {
                self.refused.fetch_add(1, Relaxed);
                return None;
            }
        };
        let connection = Arc::new(Connection::new(trusted, now));
        let mut open = self.open.lock();
        if self.draining.load(Relaxed) {
            connection.tell(Order::Drain);
        }
        open.push(Arc::clone(&connection));
        self.open_count.store(open.len(), Relaxed);
        drop(open);
        Some(Place { connection, registry: Arc::clone(self), _permit: permit })
    }

    /// Tells the connection that has shown least to go; false when there is none that may.
    pub(super) fn evict(&self, now: Mono) -> bool {
        let open = self.open.lock();
        let rank = |connection: &&Arc<Connection>| {
            // Strangers go before people we know, dribblers before idlers, the longest first. Those who
            // have just come go last, whatever they do.
            let trusted = connection.trusted.load(Relaxed);
            let stage = Some(connection.stage()).filter(|_| !connection.is_new(now));
            (trusted, stage.is_none(), stage, connection.since())
        };
        let evictable = open.iter().filter(|connection| connection.may_be_evicted());
        let Some(victim) = evictable.min_by_key(rank) else {
            return false;
        };
        // At work as far as others are concerned, so that the next newcomer picks somebody else.
        victim.stage.store(Stage::Handler as u8, Relaxed);
        victim.close();
        self.evicted.fetch_add(1, Relaxed);
        true
    }

    /// Ends every connection that has passed its deadline. While the process drains, a head that is
    /// still awaited is given no more than a second.
    pub(super) fn sweep(&self, now: Mono, draining: bool) {
        for connection in &*self.open.lock() {
            let stage = connection.stage();
            let short = draining && matches!(stage, Stage::Head | Stage::Idle);
            let deadline = if short { Duration::from_secs(1) } else { stage.deadline() };
            if deadline < now.since(connection.since()) {
                connection.close();
                connection.touch(now);
                self.timed_out.fetch_add(1, Relaxed);
            }
        }
    }

    /// Tells every connection, and everyone who comes after it, to finish what runs and end.
    pub(super) fn drain_all(&self) {
        let open = self.open.lock();
        self.draining.store(true, Relaxed);
        open.iter().for_each(|connection| connection.tell(Order::Drain));
    }

    /// Tells every connection to go, whatever it does.
    pub(super) fn close_all(&self) {
        self.open.lock().iter().for_each(|connection| connection.close());
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open_count.load(Relaxed)
    }

    pub(super) fn accept_failed(&self) {
        self.accept_errors.fetch_add(1, Relaxed);
    }

    /// What happened so far.
    pub fn figures(&self) -> Figures {
        Figures {
            open: self.open(),
            max: self.max,
            accepted: self.accepted.load(Relaxed),
            evicted: self.evicted.load(Relaxed),
            timed_out: self.timed_out.load(Relaxed),
            refused: self.refused.load(Relaxed),
            accept_errors: self.accept_errors.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, Registry, Stage};
    use crate::base::time::Mono;
    use std::sync::Arc;

    fn at(seconds: u64) -> Mono {
        Mono::from_ns(1 + seconds * 1_000_000_000)
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
    }

    async fn enter(registry: &Arc<Registry>, trusted: bool, second: u64) -> Place {
        registry.enter(trusted, at(second)).await.unwrap()
    }

    /// Lets a newcomer in and says which of the others had to go.
    #[expect(clippy::disallowed_methods, reason = "tasks that wait to be told")]
    async fn evicted(registry: &Arc<Registry>, places: Vec<Place>) -> usize {
        let waiting = places.into_iter().enumerate().map(|(index, place)| {
            tokio::spawn(async move {
                assert_eq!(place.connection.told().await, super::Order::Close);
                drop(place);
                index
            })
        });
        let waiting: Vec<_> = waiting.collect();
        let newcomer = registry.enter(false, at(100)).await;
        assert!(newcomer.is_some());
        let ended = waiting.iter().position(tokio::task::JoinHandle::is_finished);
        ended.expect("somebody had to go")
    }

    #[test]
    fn who_has_shown_least_makes_room() {
        run(async {
            let registry = Arc::new(Registry::new(4));
            let mut places = Vec::new();
            for (trusted, stage, second) in [
                (true, Stage::Head, 1),
                (false, Stage::Idle, 2),
                (false, Stage::Head, 9),
                (false, Stage::Handler, 0),
            ] {
                let place = enter(&registry, trusted, second).await;
                place.connection.set_stage(stage, at(second));
                places.push(place);
            }
            assert_eq!(evicted(&registry, places).await, 2, "a stranger that dribbles");
            assert_eq!(registry.figures().evicted, 1);
        });
    }

    #[test]
    fn a_stranger_who_takes_no_answer_makes_room_and_somebody_known_does_not() {
        run(async {
            let registry = Arc::new(Registry::new(2));
            let mut places = Vec::new();
            for trusted in [true, false] {
                let place = enter(&registry, trusted, 1).await;
                place.connection.set_stage(Stage::Answer, at(100));
                places.push(place);
            }
            assert_eq!(evicted(&registry, places).await, 1, "the stranger");
        });
    }

    #[test]
    fn whoever_has_just_come_may_say_what_they_want() {
        run(async {
            let registry = Arc::new(Registry::new(2));
            let dribbler = enter(&registry, false, 1).await;
            dribbler.connection.set_stage(Stage::Body, at(50));
            let newcomer = enter(&registry, false, 100).await;
            assert_eq!(evicted(&registry, vec![newcomer, dribbler]).await, 1, "the dribbler");
        });
    }

    #[test]
    fn a_newcomer_is_turned_away_when_everybody_is_at_work() {
        run(async {
            let registry = Arc::new(Registry::new(2));
            let places = [enter(&registry, false, 1).await, enter(&registry, true, 1).await];
            for place in &places {
                place.connection.set_stage(Stage::Handler, at(1));
            }
            assert!(registry.enter(true, at(2)).await.is_none());
            assert_eq!(registry.figures().refused, 1);
            drop(places);
            assert!(registry.enter(false, at(3)).await.is_some(), "a place is free again");
        });
    }

    #[test]
    fn every_stage_has_a_deadline() {
        run(async {
            for stage in Stage::ALL {
                let registry = Arc::new(Registry::new(1));
                let place = enter(&registry, true, 1).await;
                place.connection.set_stage(stage, at(1));
                registry.sweep(at(1).plus(stage.deadline()), false);
                assert_eq!(registry.figures().timed_out, 0, "{stage:?}");
                registry.sweep(at(2).plus(stage.deadline()), false);
                assert_eq!(registry.figures().timed_out, 1, "{stage:?}");
                assert_eq!(place.connection.told().await, super::Order::Close);
            }
        });
    }
}
