//! A few threads for work that is all CPU: queries, rollups, analysis.
//!
//! **Invariants**: the queue is bounded, and a full one refuses at once; every task has a deadline. A
//! task that has not begun by then is dropped, one that runs is asked to end ([`Patience::expired`]) and
//! its caller is answered `TooLate` meanwhile. A task that panics is caught and counted. Stopping
//! finishes nothing that has not begun: what is computed here can be computed again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::{Mutex, RwLock};

use super::figures::{Histogram, HistogramFigures};
use super::slot::Slot;
use super::{Error, panic_text, start_thread};
use crate::base::limits::{POOL_QUEUE_MAX, POOL_THREADS_MAX};
use crate::base::time::{Clock, Mono};

/// How long a task may go on. Long loops ask it every now and then.
#[derive(Clone)]
pub struct Patience {
    until: Mono,
    clock: Arc<dyn Clock>,
    given_up: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
}

impl Patience {
    /// Whether nobody wants the result any more.
    pub fn expired(&self) -> bool {
        self.given_up.load(Relaxed)
            || self.stopping.load(Relaxed)
            || self.until <= self.clock.mono()
    }
}

/// What a pool has done and is about to do.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Its threads.
    pub threads: usize,
    /// Tasks that wait.
    pub queue: usize,
    /// Tasks that run.
    pub running: usize,
    /// Tasks that ended in time.
    pub done: u64,
    /// Tasks refused because the queue was full.
    pub refused: u64,
    /// Tasks whose deadline passed.
    pub late: u64,
    /// Tasks that panicked.
    pub panicked: u64,
    /// Nanoseconds a task ran.
    pub run_ns: HistogramFigures,
}

type Task = Box<dyn FnOnce() + Send>;

struct Shared {
    clock: Arc<dyn Clock>,
    sender: RwLock<Option<Sender<Task>>>,
    receiver: Receiver<Task>,
    stopping: Arc<AtomicBool>,
    running: AtomicUsize,
    done: AtomicU64,
    refused: AtomicU64,
    late: AtomicU64,
    panicked: AtomicU64,
    run_ns: Histogram,
}

/// The handle on a pool. Dropping it stops the pool.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    size: usize,
}

impl Pool {
    /// Starts `threads` threads, at least one and at most [`POOL_THREADS_MAX`], in front of which
    /// `queue_max` tasks may wait.
    pub fn start(threads: usize, queue_max: usize, clock: Arc<dyn Clock>) -> std::io::Result<Pool> {
        let size = threads.clamp(1, POOL_THREADS_MAX);
        let (sender, receiver) = bounded(queue_max.clamp(1, POOL_QUEUE_MAX));
        let shared = Arc::new(Shared {
            clock,
            sender: RwLock::new(Some(sender)),
            receiver,
            stopping: Arc::default(),
            running: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            late: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
            run_ns: Histogram::default(),
        });
        let pool = Pool { shared: Arc::clone(&shared), threads: Mutex::default(), size };
        for n in 0..size {
            let shared = Arc::clone(&shared);
            let thread = start_thread(&format!("pool-{n}"), move || shared.work())?;
            pool.threads.lock().push(thread);
        }
        Ok(pool)
    }

    /// Has `task` run by `until`; `reply` is called once, on a thread of the pool.
    ///
    /// Errors: refused because the queue is full or the pool is stopped; then `reply` is never
    /// called.
    pub fn submit<T, F, R>(&self, until: Mono, task: F, reply: R) -> Result<Patience, Error>
    where
        F: FnOnce(&Patience) -> T + Send + 'static,
        R: FnOnce(Result<T, Error>) + Send + 'static,
    {
        let clock = Arc::clone(&self.shared.clock);
        let stopping = Arc::clone(&self.shared.stopping);
        let patience = Patience { until, clock, given_up: Arc::default(), stopping };
        let (shared, its) = (Arc::clone(&self.shared), patience.clone());
        let whole: Task = Box::new(move || reply(shared.run(&its, task)));
        let sender = self.shared.sender.read();
        let Some(sender) = &*sender else {
            return Err(Error::Stopping);
        };
        if sender.try_send(whole).is_err() {
            self.shared.refused.fetch_add(1, Relaxed);
            let wait = until.since(self.shared.clock.mono());
            return Err(Error::Overloaded { wait });
        }
        Ok(patience)
    }

    /// Runs `task` and waits for it, at most until `until`.
    pub fn call<T, F>(&self, until: Mono, task: F) -> Result<T, Error>
    where
        F: FnOnce(&Patience) -> T + Send + 'static,
        T: Send + 'static,
    {
        let slot = Arc::new(Slot::new());
        let answer = Arc::clone(&slot);
        let patience = self.submit(until, task, move |result| {
            let chain = Arc::default();
            answer.fill(result, &chain);
            chain.wake();
        })?;
        loop {
            let left = until.since(self.shared.clock.mono());
            if let Some(result) = slot.take(Some(left)) {
                return result;
            }
            if left.is_zero() {
                patience.given_up.store(true, Relaxed);
                return Err(Error::TooLate);
            }
        }
    }

    /// Everything that can be counted.
    pub fn figures(&self) -> Figures {
        let shared = &self.shared;
        Figures {
            threads: self.size,
            queue: shared.receiver.len(),
            running: shared.running.load(Relaxed),
            done: shared.done.load(Relaxed),
            refused: shared.refused.load(Relaxed),
            late: shared.late.load(Relaxed),
            panicked: shared.panicked.load(Relaxed),
            run_ns: shared.run_ns.figures(),
        }
    }

    /// Takes nothing more, answers `Stopping` to what has not begun, asks what runs to end and waits
    /// for it.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Relaxed);
        drop(self.shared.sender.write().take());
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the pool panicked");
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// The life of one thread.
    fn work(&self) {
        while let Ok(task) = self.receiver.recv() {
            // What can panic here is the reply; the task itself is caught where it runs.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(task)) {
                self.panicked.fetch_add(1, Relaxed);
                tracing::error!(text = panic_text(&*panic), "a reply panicked");
            }
        }
    }

    fn run<T>(&self, patience: &Patience, task: impl FnOnce(&Patience) -> T) -> Result<T, Error> {
        if self.stopping.load(Relaxed) {
            return Err(Error::Stopping);
        }
        if patience.expired() {
            self.late.fetch_add(1, Relaxed);
            return Err(Error::TooLate);
        }
        self.running.fetch_add(1, Relaxed);
        let began = self.clock.mono();
        let result = catch_unwind(AssertUnwindSafe(|| task(patience)));
        let ran = self.clock.mono().since(began);
        self.running.fetch_sub(1, Relaxed);
        self.run_ns.record(u64::try_from(ran.as_nanos()).unwrap_or(u64::MAX));
        match result {
            // Told to end early, it may have answered with half of it.
            Ok(_) if self.stopping.load(Relaxed) => Err(Error::Stopping),
            Ok(_) if patience.expired() => {
                self.late.fetch_add(1, Relaxed);
                Err(Error::TooLate)
            }
            Ok(value) => {
                self.done.fetch_add(1, Relaxed);
                Ok(value)
            }
            Err(panic) => {
                self.panicked.fetch_add(1, Relaxed);
                tracing::error!(text = panic_text(&*panic), "a task panicked");
                Err(Error::Panicked)
            }
        }
    }
}
