//! One thread per file, and natural group commit.
//!
//! ```text
//!  callers --submit--> [bounded queue] --> take what waits --> one transaction: op op op --> commit
//!     ^                     |                                  (each kept, or undone alone)     |
//!     |                  the door:                                                              |
//!     |     stopping / read_only / disk_full / overloaded                                       |
//!     +---------------------------- answers, in order <-----------------------------------------+
//! ```
//!
//! There is no linger timer. An idle writer commits one operation at once. A busy one runs operations
//! as they come, in one transaction, and commits when no more do (bounded by count, bytes, time and
//! disk space). Callers that were just answered get the few microseconds it takes to come back.
//!
//! **Invariants**
//! - An operation is answered `Ok` only after the commit that holds it. Also a refusal waits for the
//!   commit: it may have been judged by what a neighbour wrote.
//! - An operation that returns `Err` or panics leaves nothing; its neighbours stay.
//! - A batch in which nothing was written is not committed: a refusal costs no sync.
//! - After [`limits::WRITER_IDLE`] without work, one empty commit is made after which the file opens at
//!   once, however the process ends. Nobody waits for it.
//! - Growth is refused while the disk's margin is short; what frees space is not.
//!
//! **Failure**: when a commit fails, all of its batch is answered `outcome_unknown`, the engine is
//! dropped, everybody else gets `read_only`, and the file is opened anew and verified after the waits
//! of [`limits::REOPEN_AFTER`]. After the last one the writer gives up and says so; it is then for the
//! process to end. A sync is never tried again on the same handle. When the file fails before the
//! commit began, nothing was stored, and the answer is `read_only`.
//!
//! **States**: `Open <-> Reopening -> Failed`, and from each of them `-> Stopped`.

mod job;
mod thread;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use parking_lot::{Mutex, RwLock};

use self::job::{Callback, Job, Operation, Place, Reply};
use self::thread::Thread;
use super::figures::{Histogram, HistogramFigures};
use super::slot::Slot;
use super::{CallError, Error, as_ns, count, start_thread};
use crate::base::limits::{self, BATCH_OPS_MAX, DISK_MARGIN_BYTES, WRITER_QUEUE_OPS_MAX};
use crate::base::time::{Clock, Mono};
use crate::store::{self, Commit, Engine, EngineFigures, Opening, Read, Write};

pub use self::job::Ticket;

/// Opens the writer's file. Called at the start, and again after a failure.
pub type Opener = Box<dyn Fn(Opening) -> store::Result<Box<dyn Engine>> + Send>;

/// How a writer behaves.
pub struct Options {
    /// The thread's name and the label of its figures.
    pub name: &'static str,
    /// How every commit is made. With [`Commit::Quick`] there is no extra commit when idle.
    pub commit: Commit,
    /// Quiet before the extra commit.
    pub idle: Duration,
    /// Time spent applying operations before a commit is made of what there is.
    pub batch_time: Duration,
    /// Waits before the attempts to reopen.
    pub reopen_after: [Duration; 3],
    /// Called once, on the writer's thread, when the last attempt to reopen has failed.
    pub on_failed: Box<dyn Fn() + Send>,
}

impl Options {
    /// What every file but the series uses.
    pub fn new(name: &'static str, on_failed: Box<dyn Fn() + Send>) -> Options {
        Options {
            name,
            commit: Commit::Plain,
            idle: limits::WRITER_IDLE,
            batch_time: limits::BATCH_TIME_MAX,
            reopen_after: limits::REOPEN_AFTER,
            on_failed,
        }
    }
}

/// What an operation does to the size of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It adds; refused when the disk is nearly full.
    Grows,
    /// It removes, or finishes what was begun; accepted as long as it can be.
    Frees,
}

/// What a caller says about an operation.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// An answer after this moment is of no use.
    pub until: Mono,
    /// Bytes it is going to write.
    pub bytes: usize,
    /// What it does to the file's size.
    pub effect: Effect,
}

/// Where a writer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Works.
    Open = 0,
    /// The file failed and is being opened anew.
    Reopening = 1,
    /// The file could not be opened anew; the process should end.
    Failed = 2,
    /// Takes nothing more.
    Stopped = 3,
}

impl State {
    pub(super) fn from_raw(raw: u8) -> State {
        match raw {
            0 => State::Open,
            1 => State::Reopening,
            2 => State::Failed,
            _ => State::Stopped,
        }
    }
}

/// What a writer has done and is about to do.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The writer's name.
    pub name: &'static str,
    /// Where it stands.
    pub state: State,
    /// Whether growth is refused because the disk is nearly full.
    pub disk_short: bool,
    /// Operations accepted and not answered yet.
    pub queue_ops: usize,
    /// Their payload.
    pub queue_bytes: usize,
    /// The most operations that were ever waiting.
    pub queue_ops_peak: usize,
    /// Operations that were committed.
    pub done: u64,
    /// Operations that said no and were undone.
    pub refused: u64,
    /// Operations that panicked and were undone.
    pub panicked: u64,
    /// Operations whose caller was gone.
    pub skipped: u64,
    /// Calls refused because too much was waiting.
    pub overloaded: u64,
    /// Calls refused because the disk was nearly full.
    pub disk_full: u64,
    /// Operations that were not done because the file had failed.
    pub read_only: u64,
    /// Operations whose commit failed.
    pub unknown: u64,
    /// Extra commits made when idle.
    pub quick_commits: u64,
    /// Times the file failed.
    pub failures: u64,
    /// Times it was opened anew.
    pub reopenings: u64,
    /// What the last failure was.
    pub last_failure: Option<String>,
    /// Operations per commit.
    pub batch_ops: HistogramFigures,
    /// Nanoseconds per commit, from the end of the last operation to the last sync.
    pub commit_ns: HistogramFigures,
    /// Nanoseconds from the call to its answer.
    pub answer_ns: HistogramFigures,
    /// Nanoseconds per read.
    pub read_ns: HistogramFigures,
    /// The engine's own figures; those of an engine that failed are gone with it.
    pub engine: Option<EngineFigures>,
}

#[derive(Default)]
struct Counters {
    queue_ops_peak: AtomicUsize,
    done: AtomicU64,
    refused: AtomicU64,
    panicked: AtomicU64,
    skipped: AtomicU64,
    overloaded: AtomicU64,
    disk_full: AtomicU64,
    read_only: AtomicU64,
    unknown: AtomicU64,
    quick_commits: AtomicU64,
    failures: AtomicU64,
    reopenings: AtomicU64,
    last_failure: Mutex<Option<String>>,
    batch_ops: Histogram,
    commit_ns: Histogram,
    answer_ns: Histogram,
    read_ns: Histogram,
}

/// What callers and the thread share.
struct Shared {
    name: &'static str,
    clock: Arc<dyn Clock>,
    state: AtomicU8,
    disk_short: AtomicBool,
    sender: RwLock<Option<Sender<Message>>>,
    engine: RwLock<Option<Opened>>,
    stop_until_ns: AtomicU64,
    queue_ops: AtomicUsize,
    queue_bytes: AtomicUsize,
    /// Moving averages, for the estimate of a caller's wait.
    commit_ns: AtomicU64,
    run_ns: AtomicU64,
    /// When the batch in work began; zero when there is none.
    batch_began_ns: AtomicU64,
    counters: Counters,
}

/// An engine, and which opening it is the result of.
#[derive(Clone)]
struct Opened {
    engine: Arc<dyn Engine>,
    generation: u64,
}

impl Shared {
    fn state(&self) -> State {
        State::from_raw(self.state.load(Relaxed))
    }

    fn set_state(&self, state: State) {
        self.state.store(state as u8, Relaxed);
    }

    /// How long a call that came now would wait for its answer.
    ///
    /// With nothing ahead it is nothing, whatever the averages say: they only learn from what is let in,
    /// and one slow commit must not close the door for good.
    fn estimated_wait(&self, now: Mono) -> Duration {
        let ops = self.queue_ops.load(Relaxed) as u64;
        if ops == 0 {
            return Duration::ZERO;
        }
        let batches = 1 + ops / BATCH_OPS_MAX as u64;
        let ahead = batches
            .saturating_mul(self.commit_ns.load(Relaxed))
            .saturating_add(ops.saturating_mul(self.run_ns.load(Relaxed)));
        // A batch that already takes longer than the model says is the better witness.
        let in_work = match self.batch_began_ns.load(Relaxed) {
            0 => Duration::ZERO,
            began => now.since(Mono::from_ns(began)),
        };
        Duration::from_nanos(ahead).max(in_work)
    }

    fn overloaded(&self, wait: Duration) -> Error {
        count(&self.counters.overloaded);
        Error::Overloaded { wait }
    }

    /// The door: whether a call on these terms is let in.
    fn admit(&self, now: Mono, terms: Terms) -> Result<(), Error> {
        match self.state() {
            State::Open => {}
            State::Reopening | State::Failed => {
                count(&self.counters.read_only);
                return Err(Error::ReadOnly);
            }
            State::Stopped => return Err(Error::Stopping),
        }
        if terms.effect == Effect::Grows && self.disk_short.load(Relaxed) {
            count(&self.counters.disk_full);
            return Err(Error::DiskFull);
        }
        let wait = self.estimated_wait(now);
        if terms.until.since(now) < wait { Err(self.overloaded(wait)) } else { Ok(()) }
    }
}

enum Message {
    Job(Job),
    /// A reader saw this opening of the file fail.
    ReadFailed {
        generation: u64,
        why: String,
    },
}

/// The handle on a writer. Dropping it stops the writer.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Opens the file and starts the thread.
    pub fn start(options: Options, opener: Opener, clock: Arc<dyn Clock>) -> store::Result<Writer> {
        let engine: Arc<dyn Engine> = Arc::from(opener(Opening::Start)?);
        let (sender, receiver) = bounded(WRITER_QUEUE_OPS_MAX + 8);
        let disk_short = engine.reserve(0) < DISK_MARGIN_BYTES;
        let shared = Arc::new(Shared {
            name: options.name,
            clock,
            state: AtomicU8::new(State::Open as u8),
            disk_short: AtomicBool::new(disk_short),
            sender: RwLock::new(Some(sender)),
            engine: RwLock::new(Some(Opened { engine: Arc::clone(&engine), generation: 0 })),
            stop_until_ns: AtomicU64::new(u64::MAX),
            queue_ops: AtomicUsize::new(0),
            queue_bytes: AtomicUsize::new(0),
            commit_ns: AtomicU64::new(0),
            run_ns: AtomicU64::new(0),
            batch_began_ns: AtomicU64::new(0),
            counters: Counters::default(),
        });
        let mut body = Thread::new(Arc::clone(&shared), receiver, opener, engine, options);
        let thread = start_thread(shared.name, move || body.run()).map_err(store::Error::Io)?;
        Ok(Writer { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Lets `operation` be part of the next commit; `reply` is called on the writer's thread when it
    /// is known what became of it. It must be quick and must not wait for this writer.
    ///
    /// Errors: refused at the door; then `reply` is never called.
    pub fn submit<T, E, F, R>(&self, terms: Terms, operation: F, reply: R) -> Result<Ticket, Error>
    where
        F: FnOnce(&mut dyn Write) -> Result<T, E> + Send + 'static,
        R: FnOnce(Result<T, CallError<E>>) + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.enqueue(terms, operation, Callback(reply))
    }

    fn enqueue<T, E, F, R>(&self, terms: Terms, operation: F, reply: R) -> Result<Ticket, Error>
    where
        F: FnOnce(&mut dyn Write) -> Result<T, E> + Send + 'static,
        R: Reply<Result<T, CallError<E>>> + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        // Looked at first: once the door is closed for good, nobody is told to come back later.
        let sender = self.shared.sender.read();
        let Some(sender) = &*sender else {
            return Err(Error::Stopping);
        };
        let came_at = self.shared.clock.mono();
        self.shared.admit(came_at, terms)?;
        let place = Place::take(&self.shared, terms.bytes)
            .ok_or_else(|| self.shared.overloaded(self.shared.estimated_wait(came_at)))?;
        let job =
            Job::new(Box::new(Operation::new(operation, reply)), terms.effect, came_at, place);
        let ticket = job.ticket();
        match sender.try_send(Message::Job(job)) {
            Ok(()) => Ok(ticket),
            Err(returned) => {
                ticket.take_back();
                drop(returned);
                Err(self.shared.overloaded(self.shared.estimated_wait(came_at)))
            }
        }
    }

    /// Whether growth is refused because the disk is nearly full, for those who write beside the file.
    pub fn is_disk_short(&self) -> bool {
        self.shared.disk_short.load(Relaxed)
    }

    /// Runs `operation` in the next commit and waits for it.
    ///
    /// An operation that has not begun at `terms.until` is taken back and was `overloaded`. One that
    /// has begun is waited for: only its commit can say what became of it.
    pub fn call<T, E, F>(&self, terms: Terms, operation: F) -> Result<T, CallError<E>>
    where
        F: FnOnce(&mut dyn Write) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let slot = Arc::new(Slot::new());
        let answer = Arc::clone(&slot);
        let ticket = self.enqueue(terms, operation, answer).map_err(CallError::Failed)?;
        loop {
            let now = self.shared.clock.mono();
            let patience = terms.until.since(now);
            if patience.is_zero() {
                if ticket.take_back() {
                    let wait = self.shared.estimated_wait(now);
                    return Err(CallError::Failed(self.shared.overloaded(wait)));
                }
                return slot.take(None).expect("BUG: without patience an answer is waited for");
            }
            if let Some(result) = slot.take(Some(patience)) {
                return result;
            }
        }
    }

    /// Runs `body` on the last commit, on the caller's thread.
    pub fn read<T, E>(
        &self,
        body: impl FnOnce(&dyn Read) -> Result<T, E>,
    ) -> Result<T, CallError<E>> {
        let opened = self.shared.engine.read().clone();
        let Some(Opened { engine, generation }) = opened else {
            let stopped = self.shared.state() == State::Stopped;
            let error = if stopped { Error::Stopping } else { Error::ReadOnly };
            return Err(CallError::Failed(error));
        };
        let began = self.shared.clock.mono();
        let mut body = Some(body);
        let mut result = None;
        let read = catch_unwind(AssertUnwindSafe(|| {
            engine.read(&mut |view| {
                let body = body.take().expect("BUG: an engine runs a body once");
                result = Some(body(view));
                Ok(())
            })
        }));
        // A panic is the caller's own; unless it came out of the engine, which is dead then.
        let read = read.unwrap_or_else(|panic| match engine.read(&mut |_| Ok(())) {
            Ok(()) => resume_unwind(panic),
            Err(error) => Err(error),
        });
        self.shared.counters.read_ns.record(as_ns(self.shared.clock.mono().since(began)));
        match (read, result) {
            (Ok(()), Some(result)) => result.map_err(CallError::Refused),
            (Ok(()), None) => unreachable!("BUG: an engine runs a body or fails"),
            (Err(error), _) => {
                let message = Message::ReadFailed { generation, why: error.to_string() };
                if let Some(sender) = &*self.shared.sender.read() {
                    // When the queue is full, the next commit will meet the dead engine anyway.
                    drop(sender.try_send(message));
                }
                count(&self.shared.counters.read_only);
                Err(CallError::Failed(Error::ReadOnly))
            }
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Everything that can be counted.
    pub fn figures(&self) -> Figures {
        let (shared, counters) = (&self.shared, &self.shared.counters);
        let engine = shared.engine.read().clone();
        Figures {
            name: shared.name,
            state: shared.state(),
            disk_short: shared.disk_short.load(Relaxed),
            queue_ops: shared.queue_ops.load(Relaxed),
            queue_bytes: shared.queue_bytes.load(Relaxed),
            queue_ops_peak: counters.queue_ops_peak.load(Relaxed),
            done: counters.done.load(Relaxed),
            refused: counters.refused.load(Relaxed),
            panicked: counters.panicked.load(Relaxed),
            skipped: counters.skipped.load(Relaxed),
            overloaded: counters.overloaded.load(Relaxed),
            disk_full: counters.disk_full.load(Relaxed),
            read_only: counters.read_only.load(Relaxed),
            unknown: counters.unknown.load(Relaxed),
            quick_commits: counters.quick_commits.load(Relaxed),
            failures: counters.failures.load(Relaxed),
            reopenings: counters.reopenings.load(Relaxed),
            last_failure: counters.last_failure.lock().clone(),
            batch_ops: counters.batch_ops.figures(),
            commit_ns: counters.commit_ns.figures(),
            answer_ns: counters.answer_ns.figures(),
            read_ns: counters.read_ns.figures(),
            engine: engine.map(|opened| opened.engine.figures()),
        }
    }

    /// Takes nothing more, finishes what waits, leaves the file so that it opens at once, and ends
    /// the thread. What is not done `within` that time is answered `stopping`.
    ///
    /// Returns whether the file was left in order. Stopping twice is stopping once.
    pub fn stop(&self, within: Duration) -> bool {
        let until = self.shared.clock.mono().plus(within);
        self.shared.stop_until_ns.store(until.ns(), Relaxed);
        drop(self.shared.sender.write().take());
        // Held until it has ended: whoever stops it second waits as well.
        let mut thread = self.thread.lock();
        if let Some(thread) = thread.take() {
            if thread.thread().id() == std::thread::current().id() {
                // The last handle was dropped in an operation or a reply. It ends by itself.
                tracing::error!(
                    writer = self.shared.name,
                    "a writer was dropped on its own thread"
                );
                return false;
            }
            if thread.join().is_err() {
                tracing::error!(writer = self.shared.name, "the writer's thread panicked");
                return false;
            }
        }
        drop(thread);
        // Each failure was mended, or the file is as the failure left it.
        let counters = &self.shared.counters;
        counters.failures.load(Relaxed) == counters.reopenings.load(Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop(Duration::MAX);
    }
}

#[cfg(test)]
mod tests;
