//! The thread of a writer: takes what waits, commits it, answers, and mends what fails.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::job::Job;
use super::{Effect, Message, Opened, Opener, Options, Shared, State, as_ns, count};
use crate::base::limits::{BATCH_BYTES_MAX, BATCH_OPS_MAX, BATCH_TIME_MAX, DISK_RETRY_EVERY};
use crate::base::time::Mono;
use crate::exec::{Error, panic_text};
use crate::store::{self, Batch, Commit, Engine, Finish, Opening};

/// What the thread owns.
pub(super) struct Thread {
    shared: Arc<Shared>,
    receiver: Receiver<Message>,
    opener: Opener,
    engine: Option<Arc<dyn Engine>>,
    generation: u64,
    /// Operations taken from the queue for a batch that had no time for them.
    carried: VecDeque<Job>,
    /// Whether the last commit was one after which the file opens at once.
    settled: bool,
    options: Options,
}

/// What became of one operation of a batch.
enum Ran {
    Kept,
    Refused,
    Panicked,
    /// Its caller was gone.
    Skipped,
}

/// What a batch came to.
struct Attempt {
    result: store::Result,
    /// For each job that ran, in order.
    ran: Vec<Ran>,
    committing_since: Option<Mono>,
}

impl Thread {
    pub(super) fn new(
        shared: Arc<Shared>,
        receiver: Receiver<Message>,
        opener: Opener,
        engine: Arc<dyn Engine>,
        options: Options,
    ) -> Thread {
        Thread {
            shared,
            receiver,
            opener,
            engine: Some(engine),
            generation: 0,
            carried: VecDeque::new(),
            // What the last process left is not known to open at once.
            settled: false,
            options,
        }
    }

    pub(super) fn run(&mut self) {
        loop {
            match self.next_batch() {
                Some(batch) if batch.is_empty() => {}
                Some(batch) => self.run_batch(batch),
                None => break,
            }
        }
        self.end();
    }

    fn now(&self) -> Mono {
        self.shared.clock.now().mono
    }

    /// Waits for work; `None` when the writer is stopped and nothing is left.
    fn next_batch(&mut self) -> Option<Vec<Job>> {
        let mut batch = Batching::default();
        while let Some(job) = self.carried.pop_front() {
            if let Some(job) = batch.add(job) {
                self.carried.push_front(job);
                return Some(batch.jobs);
            }
        }
        if batch.jobs.is_empty() {
            match self.receiver.recv_timeout(self.patience()) {
                Ok(message) => self.take(message, &mut batch),
                Err(RecvTimeoutError::Timeout) => self.rest(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        while self.carried.is_empty()
            && let Ok(message) = self.receiver.try_recv()
        {
            self.take(message, &mut batch);
        }
        Some(batch.jobs)
    }

    fn take(&mut self, message: Message, batch: &mut Batching) {
        match message {
            Message::Job(job) => {
                if let Some(job) = batch.add(job) {
                    self.carried.push_back(job);
                }
            }
            Message::ReadFailed { generation, why } if generation == self.generation => {
                for job in batch.jobs.drain(..) {
                    self.refuse(job, Error::ReadOnly);
                }
                self.recover(&why);
            }
            Message::ReadFailed { .. } => {}
        }
    }

    /// How long to wait for work before something else is due.
    fn patience(&self) -> Duration {
        if self.shared.disk_short.load(Relaxed) {
            self.options.idle.min(DISK_RETRY_EVERY)
        } else {
            self.options.idle
        }
    }

    /// Nothing to do for a while: look at the disk, and leave the file in order.
    fn rest(&mut self) {
        let Some(engine) = self.engine.clone() else {
            return;
        };
        if self.shared.disk_short.load(Relaxed) {
            self.shared.disk_short.store(engine.reserve(0).short, Relaxed);
        }
        drop(engine);
        self.settle();
    }

    /// Makes the commit after which the file opens at once, if the last one was not.
    fn settle(&mut self) {
        let Some(engine) = self.engine.clone() else {
            return;
        };
        if self.settled || self.options.commit == Commit::Quick {
            return;
        }
        let attempt = || engine.write(Commit::Quick, &mut |_| Ok(Finish::Commit));
        let result = catch_unwind(AssertUnwindSafe(attempt));
        drop(engine);
        match result {
            Ok(Ok(())) => {
                count(&self.shared.counters.quick_commits);
                self.settled = true;
            }
            Ok(Err(error)) => self.recover(&error.to_string()),
            Err(panic) => self.recover(panic_text(&*panic)),
        }
    }

    fn run_batch(&mut self, jobs: Vec<Job>) {
        let Some(engine) = self.engine.clone() else {
            for job in jobs {
                self.refuse(job, Error::ReadOnly);
            }
            return;
        };
        let began = self.now();
        self.shared.batch_began_ns.store(began.ns().max(1), Relaxed);
        let mut jobs = self.admit_to_disk(&*engine, jobs, began);
        if jobs.is_empty() {
            self.shared.batch_began_ns.store(0, Relaxed);
            return;
        }

        let attempt = self.attempt(&*engine, &mut jobs, began);
        drop(engine);
        let ended = self.now();
        // Jobs for which the batch had no time wait for the next one, still first in line.
        for job in jobs.drain(attempt.ran.len()..).rev() {
            self.carried.push_front(job);
        }
        self.learn(&attempt, began, ended);
        self.shared.batch_began_ns.store(0, Relaxed);
        match attempt.result {
            Ok(()) => self.answer(jobs, attempt.ran),
            Err(error) => {
                let began_commit = attempt.committing_since.is_some();
                self.fail_batch(jobs, began_commit, &error);
            }
        }
    }

    /// Refuses the jobs for which the disk has no room, and all of them when stopping takes too long.
    fn admit_to_disk(&self, engine: &dyn Engine, jobs: Vec<Job>, now: Mono) -> Vec<Job> {
        let needed = jobs.iter().map(Job::disk_bytes).sum();
        let short = engine.reserve(needed).short;
        self.shared.disk_short.store(short, Relaxed);
        let stop_until = Mono::from_ns(self.shared.stop_until_ns.load(Relaxed));
        let mut admitted = Vec::with_capacity(jobs.len());
        for job in jobs {
            if stop_until < now {
                job.answer(Err(Error::Stopping));
            } else if short && job.effect == Effect::Grows {
                count(&self.shared.counters.disk_full);
                job.answer(Err(Error::DiskFull));
            } else {
                admitted.push(job);
            }
        }
        admitted
    }

    /// Runs the jobs in one transaction and commits it.
    fn attempt(&self, engine: &dyn Engine, jobs: &mut [Job], began: Mono) -> Attempt {
        let mut ran = Vec::with_capacity(jobs.len());
        let mut committing_since = None;
        let write = || {
            engine.write(self.options.commit, &mut |batch| {
                for job in jobs.iter_mut() {
                    if !ran.is_empty() && BATCH_TIME_MAX < self.now().since(began) {
                        break;
                    }
                    // Pushed first: what began to run must be answered by this batch.
                    ran.push(Ran::Refused);
                    let how = run_one(batch, job, self.options.name)?;
                    *ran.last_mut().expect("BUG: pushed two lines above") = how;
                }
                if !batch.is_dirty() {
                    return Ok(Finish::Abandon);
                }
                committing_since = Some(self.now());
                Ok(Finish::Commit)
            })
        };
        let result = catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|panic| {
            Err(store::Error::CommitFailed(format!("it panicked: {}", panic_text(&*panic))))
        });
        Attempt { result, ran, committing_since }
    }

    /// Keeps the averages by which callers are told how long they would wait.
    fn learn(&self, attempt: &Attempt, began: Mono, ended: Mono) {
        let average = |of: &AtomicU64, sample: u64| {
            let old = of.load(Relaxed);
            of.store(if old == 0 { sample } else { old - old / 8 + sample / 8 }, Relaxed);
        };
        let ops = attempt.ran.len() as u64;
        let run_until = attempt.committing_since.unwrap_or(ended);
        if let Some(run) = as_ns(run_until.since(began)).checked_div(ops) {
            average(&self.shared.run_ns, run);
        }
        if let Some(since) = attempt.committing_since {
            let commit = as_ns(ended.since(since));
            average(&self.shared.commit_ns, commit);
            self.shared.counters.commit_ns.record(commit);
            self.shared.counters.batch_ops.record(ops);
        }
    }

    fn answer(&mut self, jobs: Vec<Job>, ran: Vec<Ran>) {
        self.settled = self.options.commit == Commit::Quick;
        let counters = &self.shared.counters;
        for (job, how) in jobs.into_iter().zip(ran) {
            match how {
                Ran::Kept => {
                    count(&counters.done);
                    job.answer(Ok(()));
                }
                Ran::Refused => {
                    count(&counters.refused);
                    job.answer(Ok(()));
                }
                Ran::Panicked => {
                    count(&counters.panicked);
                    job.answer(Err(Error::Panicked));
                }
                // Counts itself: it cannot be claimed any more.
                Ran::Skipped => job.answer(Ok(())),
            }
        }
    }

    fn fail_batch(&mut self, jobs: Vec<Job>, began_commit: bool, error: &store::Error) {
        // The door closes before anybody learns of it.
        self.shared.set_state(State::Reopening);
        for job in jobs {
            if began_commit {
                count(&self.shared.counters.unknown);
                job.answer(Err(Error::OutcomeUnknown));
            } else {
                self.refuse(job, Error::ReadOnly);
            }
        }
        self.recover(&error.to_string());
    }

    fn refuse(&self, job: Job, error: Error) {
        count(&self.shared.counters.read_only);
        job.answer(Err(error));
    }

    /// Drops the engine and opens the file anew; gives up after the last attempt.
    fn recover(&mut self, why: &str) {
        let name = self.options.name;
        tracing::error!(writer = name, why, "the store failed and is being reopened");
        self.shared.set_state(State::Reopening);
        self.shared.engine.write().take();
        count(&self.shared.counters.failures);
        *self.shared.counters.last_failure.lock() = Some(why.to_owned());
        // Readers may still hold the old handle for a moment; two handles must never be open.
        let old = self.engine.take().map(|engine| Arc::downgrade(&engine));
        let still_open = || old.as_ref().is_some_and(|old| 0 < old.strong_count());

        for delay in self.options.reopen_after {
            if !self.refuse_for(delay) {
                return;
            }
            let attempt = if still_open() {
                Err(store::Error::InUse)
            } else {
                catch_unwind(AssertUnwindSafe(|| (self.opener)(Opening::AfterFailure)))
                    .unwrap_or_else(|panic| {
                        Err(store::Error::Damaged(panic_text(&*panic).to_owned()))
                    })
            };
            match attempt {
                Ok(engine) => return self.install(Arc::from(engine)),
                Err(error) => tracing::warn!(writer = name, %error, "reopening the store failed"),
            }
        }
        tracing::error!(writer = name, "the store cannot be reopened; giving up");
        self.shared.set_state(State::Failed);
        (self.options.on_failed)();
    }

    fn install(&mut self, engine: Arc<dyn Engine>) {
        self.generation += 1;
        self.settled = false;
        self.shared.disk_short.store(engine.reserve(0).short, Relaxed);
        let opened = Opened { engine: Arc::clone(&engine), generation: self.generation };
        *self.shared.engine.write() = Some(opened);
        self.engine = Some(engine);
        count(&self.shared.counters.reopenings);
        self.shared.set_state(State::Open);
        tracing::info!(writer = self.options.name, "the store was reopened and verified");
    }

    /// Answers `read_only` for as long as `delay`; false when the writer is stopped meanwhile.
    fn refuse_for(&mut self, delay: Duration) -> bool {
        while let Some(job) = self.carried.pop_front() {
            self.refuse(job, Error::ReadOnly);
        }
        let until = self.now().plus(delay);
        loop {
            let left = until.since(self.now());
            match self.receiver.recv_timeout(left) {
                Ok(Message::Job(job)) => self.refuse(job, Error::ReadOnly),
                Ok(Message::ReadFailed { .. }) => {}
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// The last thing: the file is left in order, and the engine is closed.
    fn end(&mut self) {
        self.settle();
        self.shared.set_state(State::Stopped);
        self.shared.engine.write().take();
        self.engine = None;
    }
}

/// A batch that is being put together.
#[derive(Default)]
struct Batching {
    jobs: Vec<Job>,
    bytes: usize,
}

impl Batching {
    /// Takes the job in, or gives it back when the batch is full.
    fn add(&mut self, job: Job) -> Option<Job> {
        let full = BATCH_OPS_MAX <= self.jobs.len()
            || (!self.jobs.is_empty() && BATCH_BYTES_MAX < self.bytes + job.bytes());
        if full {
            return Some(job);
        }
        self.bytes += job.bytes();
        self.jobs.push(job);
        None
    }
}

/// Runs one operation and keeps or undoes it. An error means that the batch is lost.
fn run_one(batch: &mut dyn Batch, job: &mut Job, writer: &str) -> store::Result<Ran> {
    if !job.claim() {
        return Ok(Ran::Skipped);
    }
    batch.begin()?;
    let ran = catch_unwind(AssertUnwindSafe(|| job.run(&mut *batch)));
    if batch.is_broken() {
        return Err(store::Error::Closed);
    }
    match ran {
        Ok(true) => batch.keep().map(|()| Ran::Kept),
        Ok(false) => batch.undo().map(|()| Ran::Refused),
        Err(panic) => {
            tracing::error!(writer, text = panic_text(&*panic), "an operation panicked");
            batch.undo().map(|()| Ran::Panicked)
        }
    }
}
