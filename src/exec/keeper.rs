//! One thread that keeps one thing.
//!
//! ```text
//!  callers --submit--> [bounded queue] --> until passed? --> op(&mut T) --> is it broken? --> answer
//!     ^                     |               too late,                        |
//!     |                  the door:          not run                          +-> drop it, open it anew
//!     |     stopping / read_only / disk_full / overloaded
//!     +----------------------------- answers, in order ---------------------------------
//! ```
//!
//! A [`crate::exec::writer::Writer`] is for ordered bytes and gathers operations into commits. A keeper
//! is for what knows itself how to commit, such as relations: an operation gets the thing alone, and does
//! with it what it wants.
//!
//! **Invariants**
//! - Operations run one after the other, in the order in which they were let in.
//! - An operation whose time is over before it begins is not run; one that has begun is waited for.
//! - Every operation that was let in is answered once, whatever happens. A refusal at the door calls
//!   nobody back.
//! - Growth is refused while the thing's margin of space is short; what frees space is not.
//!
//! **Failure**: a thing says itself that it is broken ([`Kept::broken`]); after a panic of an operation
//! it is taken for broken, because it may be in the middle of something. The operation's own answer still
//! goes out: only its error can say whether the outcome is known. Then the thing is dropped, everybody
//! else gets `read_only`, and it is opened anew after the waits of [`limits::REOPEN_AFTER`]. After the last
//! one the keeper gives up and says so; it is then for the process to end.
//!
//! **States**: `Open <-> Reopening -> Failed`, and from each of them `-> Stopped`.

mod thread;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use parking_lot::{Mutex, RwLock};

use self::thread::{Job, Operation, Place, Thread};
use super::claim::Claim;
use super::figures::{Histogram, HistogramFigures};
use super::slot::Slot;
use super::writer::{Effect, State};
use super::{Error, count, start_thread};
use crate::base::limits::{self, KEEPER_QUEUE_OPS_MAX};
use crate::base::time::{Clock, Mono};
use crate::store::Opening;

/// Something that one thread keeps for everybody.
pub trait Kept: Send + Sized + 'static {
    /// Why it could not be opened.
    type Error: std::error::Error + Send + 'static;

    /// Why it cannot be used any more, if so; asked after every operation.
    fn broken(&self) -> Option<String>;
    /// Space that is certain to be there, in bytes.
    fn margin_bytes(&self) -> u64;
    /// Its size on the disk.
    fn file_bytes(&self) -> u64;
    /// Commits made since it was opened.
    fn commits(&self) -> u64;
}

/// Opens the thing. Called at the start on the caller's thread, and after a failure on the keeper's.
pub type Opener<T> = Box<dyn Fn(Opening) -> Result<T, <T as Kept>::Error> + Send>;

/// Who is told of operations that took long.
pub struct OnSlow {
    /// From how long on.
    pub from: Duration,
    /// Gets the operation's name and how long it ran, on the keeper's thread.
    pub tell: Box<dyn Fn(&'static str, Duration) + Send>,
}

/// How a keeper behaves.
pub struct Options<T> {
    /// The thread's name and the label of its figures.
    pub name: &'static str,
    /// Waits before the attempts to reopen.
    pub reopen_after: [Duration; 3],
    /// Called once, on the keeper's thread, when the last attempt to reopen has failed.
    pub on_failed: Box<dyn Fn() + Send>,
    /// Called on the keeper's thread with the thing opened anew, before anybody else gets at it.
    pub on_reopened: Box<dyn Fn(&mut T) + Send>,
    /// Who is told of slow operations, if anybody.
    pub on_slow: Option<OnSlow>,
}

impl<T> Options<T> {
    /// The usual waits, and nothing to do when it was reopened.
    pub fn new(name: &'static str, on_failed: Box<dyn Fn() + Send>) -> Options<T> {
        let reopen_after = limits::REOPEN_AFTER;
        Options { name, reopen_after, on_failed, on_reopened: Box::new(|_| ()), on_slow: None }
    }
}

/// What a caller says about an operation.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Its name in figures and logs.
    pub name: &'static str,
    /// An answer after this moment is of no use.
    pub until: Mono,
    /// What it does to the size of the file.
    pub effect: Effect,
}

/// Why a keeper could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError<E: std::error::Error + 'static> {
    /// The thing could not be opened.
    #[error("it could not be opened: {0}")]
    Open(#[source] E),
    /// The system gave no thread.
    #[error("no thread for a keeper: {0}")]
    NoThread(#[source] std::io::Error),
}

/// What a keeper has done and is about to do.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The keeper's name.
    pub name: &'static str,
    /// Where it stands.
    pub state: State,
    /// Whether growth is refused because the disk is nearly full.
    pub disk_short: bool,
    /// Operations accepted and not answered yet.
    pub queue_ops: usize,
    /// The most operations that were ever waiting.
    pub queue_ops_peak: usize,
    /// Operations that ran to their end, whatever they answered.
    pub done: u64,
    /// Operations and replies that panicked.
    pub panicked: u64,
    /// Operations whose time was over before they began.
    pub late: u64,
    /// Calls refused because too much was waiting.
    pub overloaded: u64,
    /// Calls refused because the disk was nearly full.
    pub disk_full: u64,
    /// Operations that were not done because the thing had failed.
    pub read_only: u64,
    /// Times the thing failed.
    pub failures: u64,
    /// Times it was opened anew.
    pub reopenings: u64,
    /// What the last failure was.
    pub last_failure: Option<String>,
    /// Nanoseconds that operations ran.
    pub run_ns: HistogramFigures,
    /// Commits since it was opened.
    pub commits: u64,
    /// Its size on the disk.
    pub file_bytes: u64,
    /// Space that is certain.
    pub margin_bytes: u64,
}

#[derive(Default)]
struct Counters {
    queue_ops_peak: AtomicUsize,
    done: AtomicU64,
    panicked: AtomicU64,
    late: AtomicU64,
    overloaded: AtomicU64,
    disk_full: AtomicU64,
    read_only: AtomicU64,
    failures: AtomicU64,
    reopenings: AtomicU64,
    last_failure: Mutex<Option<String>>,
    run_ns: Histogram,
    commits: AtomicU64,
    file_bytes: AtomicU64,
    margin_bytes: AtomicU64,
}

/// What callers and the thread share.
struct Shared {
    name: &'static str,
    clock: Arc<dyn Clock>,
    state: AtomicU8,
    disk_short: AtomicBool,
    stop_until_ns: AtomicU64,
    queue_ops: AtomicUsize,
    /// Moving average, for the estimate of a caller's wait.
    run_ns: AtomicU64,
    /// When the operation in work began; zero when there is none.
    began_ns: AtomicU64,
    counters: Counters,
}

impl Shared {
    fn new(name: &'static str, clock: Arc<dyn Clock>) -> Shared {
        Shared {
            name,
            clock,
            state: AtomicU8::new(State::Open as u8),
            disk_short: AtomicBool::new(false),
            stop_until_ns: AtomicU64::new(u64::MAX),
            queue_ops: AtomicUsize::new(0),
            run_ns: AtomicU64::new(0),
            began_ns: AtomicU64::new(0),
            counters: Counters::default(),
        }
    }

    fn state(&self) -> State {
        State::from_raw(self.state.load(Relaxed))
    }

    fn set_state(&self, state: State) {
        self.state.store(state as u8, Relaxed);
    }

    /// How long a call that came now would wait for its turn.
    ///
    /// With nothing ahead it is nothing, whatever the average says: it only learns from what is let in,
    /// and one slow operation must not close the door for good.
    fn estimated_wait(&self, now: Mono) -> Duration {
        let ops = self.queue_ops.load(Relaxed) as u64;
        if ops == 0 {
            return Duration::ZERO;
        }
        let ahead = ops.saturating_mul(self.run_ns.load(Relaxed));
        // An operation that already takes longer than the average says is the better witness.
        let in_work = match self.began_ns.load(Relaxed) {
            0 => Duration::ZERO,
            began => now.since(Mono::from_ns(began)),
        };
        Duration::from_nanos(ahead).max(in_work)
    }

    fn overloaded(&self, wait: Duration) -> Error {
        count(&self.counters.overloaded);
        Error::Overloaded { wait }
    }

    /// The door: whether `task` is let in.
    fn admit(&self, now: Mono, task: Task) -> Result<(), Error> {
        match self.state() {
            State::Open => {}
            State::Reopening | State::Failed => {
                count(&self.counters.read_only);
                return Err(Error::ReadOnly);
            }
            State::Stopped => return Err(Error::Stopping),
        }
        if task.effect == Effect::Grows && self.disk_short.load(Relaxed) {
            count(&self.counters.disk_full);
            return Err(Error::DiskFull);
        }
        let wait = self.estimated_wait(now);
        if task.until.since(now) < wait { Err(self.overloaded(wait)) } else { Ok(()) }
    }

    /// Notes how the thing is, for the door and for the figures.
    fn measure<T: Kept>(&self, kept: &T) {
        self.look_at_disk(kept);
        self.counters.commits.store(kept.commits(), Relaxed);
        self.counters.file_bytes.store(kept.file_bytes(), Relaxed);
    }

    /// Opens or closes the door for growth.
    fn look_at_disk<T: Kept>(&self, kept: &T) {
        let margin_bytes = kept.margin_bytes();
        self.counters.margin_bytes.store(margin_bytes, Relaxed);
        self.disk_short.store(margin_bytes < limits::DISK_MARGIN_BYTES, Relaxed);
    }
}

/// The handle on a keeper. Dropping it stops the keeper.
pub struct Keeper<T: Kept> {
    shared: Arc<Shared>,
    sender: RwLock<Option<Sender<Job<T>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<T: Kept> Keeper<T> {
    /// Opens the thing and starts the thread.
    pub fn start(
        options: Options<T>,
        opener: Opener<T>,
        clock: Arc<dyn Clock>,
    ) -> Result<Keeper<T>, StartError<T::Error>> {
        let kept = opener(Opening::Start).map_err(StartError::Open)?;
        let (sender, receiver) = bounded(KEEPER_QUEUE_OPS_MAX);
        let shared = Arc::new(Shared::new(options.name, clock));
        shared.measure(&kept);
        let mut body = Thread::new(Arc::clone(&shared), receiver, opener, kept, options);
        let thread = start_thread(shared.name, move || body.run()).map_err(StartError::NoThread)?;
        let (sender, thread) = (RwLock::new(Some(sender)), Mutex::new(Some(thread)));
        Ok(Keeper { shared, sender, thread })
    }

    /// Has `operation` run in its turn; `reply` is called on the keeper's thread when it is known what
    /// became of it. It must be quick and must not wait for this keeper.
    ///
    /// Errors: refused at the door; then `reply` is never called.
    pub fn submit<A, F, R>(&self, task: Task, operation: F, reply: R) -> Result<(), Error>
    where
        F: FnOnce(&mut T) -> A + Send + 'static,
        R: FnOnce(Result<A, Error>) + Send + 'static,
        A: Send + 'static,
    {
        self.enqueue(task, operation, reply).map(|_| ())
    }

    fn enqueue<A, F, R>(&self, task: Task, operation: F, reply: R) -> Result<Arc<Claim>, Error>
    where
        F: FnOnce(&mut T) -> A + Send + 'static,
        R: FnOnce(Result<A, Error>) + Send + 'static,
        A: Send + 'static,
    {
        // Looked at first: once the door is closed for good, nobody is told to come back later.
        let sender = self.sender.read();
        let Some(sender) = &*sender else {
            return Err(Error::Stopping);
        };
        let now = self.shared.clock.mono();
        self.shared.admit(now, task)?;
        let full = || self.shared.overloaded(self.shared.estimated_wait(now));
        let place = Place::take(&self.shared).ok_or_else(full)?;
        let (job, claim) = Job::new(task, Box::new(Operation::new(operation, reply)), place);
        match sender.try_send(job) {
            Ok(()) => Ok(claim),
            Err(returned) => {
                returned.into_inner().withdraw();
                Err(full())
            }
        }
    }

    /// Runs `operation` in its turn and waits for it.
    ///
    /// An operation that has not begun at `task.until` is taken back and was too late. One that has
    /// begun is waited for: only its end can say what became of it.
    pub fn call<A, F>(&self, task: Task, operation: F) -> Result<A, Error>
    where
        F: FnOnce(&mut T) -> A + Send + 'static,
        A: Send + 'static,
    {
        let slot = Arc::new(Slot::new());
        let answer = Arc::clone(&slot);
        let claim = self.enqueue(task, operation, move |result| {
            let chain = Arc::default();
            answer.fill(result, &chain);
            chain.wake();
        })?;
        loop {
            let patience = task.until.since(self.shared.clock.mono());
            if patience.is_zero() {
                if claim.give_up() {
                    return Err(Error::TooLate);
                }
                return slot.take(None).expect("BUG: without patience an answer is waited for");
            }
            if let Some(result) = slot.take(Some(patience)) {
                return result;
            }
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Until the next task: as if the disk were full.
    #[cfg(test)]
    pub(crate) fn pretend_disk_short(&self) {
        self.shared.disk_short.store(true, Relaxed);
    }

    /// Everything that can be counted.
    pub fn figures(&self) -> Figures {
        let (shared, counters) = (&self.shared, &self.shared.counters);
        Figures {
            name: shared.name,
            state: shared.state(),
            disk_short: shared.disk_short.load(Relaxed),
            queue_ops: shared.queue_ops.load(Relaxed),
            queue_ops_peak: counters.queue_ops_peak.load(Relaxed),
            done: counters.done.load(Relaxed),
            panicked: counters.panicked.load(Relaxed),
            late: counters.late.load(Relaxed),
            overloaded: counters.overloaded.load(Relaxed),
            disk_full: counters.disk_full.load(Relaxed),
            read_only: counters.read_only.load(Relaxed),
            failures: counters.failures.load(Relaxed),
            reopenings: counters.reopenings.load(Relaxed),
            last_failure: counters.last_failure.lock().clone(),
            run_ns: counters.run_ns.figures(),
            commits: counters.commits.load(Relaxed),
            file_bytes: counters.file_bytes.load(Relaxed),
            margin_bytes: counters.margin_bytes.load(Relaxed),
        }
    }

    /// Takes nothing more, finishes what waits, closes the thing and ends the thread. What has not begun
    /// `within` that time is answered `stopping`.
    ///
    /// Returns whether every failure was mended. Stopping twice is stopping once.
    pub fn stop(&self, within: Duration) -> bool {
        let until = self.shared.clock.mono().plus(within);
        self.shared.stop_until_ns.store(until.ns(), Relaxed);
        drop(self.sender.write().take());
        // Held until it has ended: whoever stops it second waits as well.
        let mut thread = self.thread.lock();
        if let Some(thread) = thread.take() {
            let keeper = self.shared.name;
            if thread.thread().id() == std::thread::current().id() {
                // The last handle was dropped in an operation or a reply. It ends by itself.
                tracing::error!(keeper, "a keeper was dropped on its own thread");
                return false;
            }
            if thread.join().is_err() {
                tracing::error!(keeper, "the keeper's thread panicked");
                return false;
            }
        }
        drop(thread);
        let counters = &self.shared.counters;
        counters.failures.load(Relaxed) == counters.reopenings.load(Relaxed)
    }
}

impl<T: Kept> Drop for Keeper<T> {
    fn drop(&mut self) {
        self.stop(Duration::MAX);
    }
}

#[cfg(test)]
mod tests;
