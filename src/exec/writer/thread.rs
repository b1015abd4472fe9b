//! The thread of a writer: takes what waits, commits it, answers, and mends what fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError};

use super::job::{Answers, Job};
use super::{Effect, Message, Opened, Opener, Options, Shared, State};
use crate::base::limits::{
    BATCH_BYTES_MAX, BATCH_OPS_MAX, DISK_MARGIN_BYTES, DISK_RETRY_EVERY, GATHER_GAP,
};
use crate::base::time::Mono;
use crate::exec::{Error, as_ns, average, count, panic_text};
use crate::store::{self, Batch, Commit, Engine, Finish, Opening};

/// How long a writer that ends waits for readers to let go of the file.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether a reader has let go of a file that failed.
const READER_PATIENCE: Duration = Duration::from_millis(10);
/// Times that a thread which has nothing to do yields while callers are on their way back; a bound for
/// clocks that stand still.
const GATHER_YIELDS_MAX: u32 = 1000;

/// What the thread owns.
pub(super) struct Thread {
    shared: Arc<Shared>,
    receiver: Receiver<Message>,
    opener: Opener,
    engine: Option<Arc<dyn Engine>>,
    generation: u64,
    /// An operation taken from the queue that did not fit into the batch.
    carried: Option<Job>,
    /// What a reader said of the file, until something is done about it.
    read_failed: Option<String>,
    /// Operations that were under way when the last batch was answered: how many callers there are.
    callers: usize,
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
    /// It would have made the file larger, and the disk is nearly full.
    NoRoom,
    /// The writer is stopping and has no time left.
    NoTime,
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
            carried: None,
            read_failed: None,
            callers: 0,
            // What the last process left is not known to open at once.
            settled: false,
            options,
        }
    }

    pub(super) fn run(&mut self) {
        let work = AssertUnwindSafe(|| {
            while let Some(job) = self.next_job() {
                self.run_batch(job);
            }
        });
        if let Err(panic) = catch_unwind(work) {
            // A bug of ours. Nothing is known of the file any more; a new process may open it.
            let (writer, text) = (self.options.name, panic_text(&*panic));
            tracing::error!(writer, text, "the writer panicked; giving up");
            count(&self.shared.counters.panicked);
            count(&self.shared.counters.failures);
            self.settled = true;
            self.give_up();
            self.refuse_for(Duration::MAX);
        }
        self.end();
    }

    /// The file cannot be used any more by this process.
    fn give_up(&mut self) {
        self.shared.set_state(State::Failed);
        self.shared.engine.write().take();
        self.engine = None;
        let tell = AssertUnwindSafe(|| (self.options.on_failed)());
        if let Err(panic) = catch_unwind(tell) {
            let (writer, text) = (self.options.name, panic_text(&*panic));
            tracing::error!(writer, text, "telling of the failure panicked");
        }
    }

    fn now(&self) -> Mono {
        self.shared.clock.mono()
    }

    /// Waits for work, and does meanwhile what is due; `None` when the writer is stopped and nothing is
    /// left.
    fn next_job(&mut self) -> Option<Job> {
        loop {
            if let Some(why) = self.read_failed.take() {
                self.recover(&why);
            }
            if let Some(job) = self.carried.take() {
                return Some(job);
            }
            match self.receiver.recv_timeout(self.patience()) {
                Ok(message) => {
                    if let Some(job) = self.open(message) {
                        return Some(job);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.rest(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// The job in a message. A reader's complaint about the file as it is now is noted.
    fn open(&mut self, message: Message) -> Option<Job> {
        match message {
            Message::Job(job) => Some(job),
            Message::ReadFailed { generation, why } => {
                if generation == self.generation {
                    self.read_failed = Some(why);
                }
                None
            }
        }
    }

    /// How long to wait for work before something else is due.
    fn patience(&self) -> Duration {
        let settled = self.settled || self.options.commit == Commit::Quick || self.engine.is_none();
        match (settled, self.shared.disk_short.load(Relaxed)) {
            (false, _) => self.options.idle,
            (true, true) => DISK_RETRY_EVERY,
            // Nothing will be due before something comes.
            (true, false) => Duration::from_hours(1),
        }
    }

    /// Nothing to do for a while: look at the disk, and leave the file in order.
    fn rest(&mut self) {
        let Some(engine) = self.engine.clone() else {
            return;
        };
        self.look_at_disk(engine.reserve(0));
        drop(engine);
        self.callers = 0;
        self.forget_averages();
        self.settle();
    }

    /// What was slow a while ago says nothing about now.
    fn forget_averages(&self) {
        self.shared.commit_ns.store(0, Relaxed);
        self.shared.run_ns.store(0, Relaxed);
    }

    /// Opens or closes the door for growth.
    fn look_at_disk(&self, margin_bytes: u64) {
        self.shared.disk_short.store(margin_bytes < DISK_MARGIN_BYTES, Relaxed);
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

    fn run_batch(&mut self, first: Job) {
        let Some(engine) = self.engine.clone() else {
            return self.refuse(first, Error::ReadOnly);
        };
        let commit = self.options.commit;
        let mut batch = Batching::new(self, first, &*engine);
        let write = || engine.write(commit, &mut |tx| batch.run(tx));
        let result = catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|panic| {
            Err(store::Error::CommitFailed(format!("it panicked: {}", panic_text(&*panic))))
        });
        let Batching { jobs, ran, began, committing_since, next, .. } = batch;
        drop(engine);

        let ended = self.now();
        // When not even a transaction could begin, the first job has not been run.
        let jobs = jobs.into_iter().chain(next).collect();
        self.shared.batch_began_ns.store(0, Relaxed);
        if result.is_ok() {
            self.learn(ran.len() as u64, committing_since, began, ended);
        }
        self.callers = self.shared.queue_ops.load(Relaxed);
        if committing_since.is_some() {
            self.settled = commit == Commit::Quick;
        }
        match result {
            Ok(()) => self.answer(jobs, ran, ended),
            Err(error) => self.fail_batch(jobs, committing_since.is_some(), &error),
        }
    }

    /// Keeps the averages by which callers are told how long they would wait.
    fn learn(&self, ops: u64, committing_since: Option<Mono>, began: Mono, ended: Mono) {
        let run_until = committing_since.unwrap_or(ended);
        if let Some(run) = as_ns(run_until.since(began)).checked_div(ops) {
            average(&self.shared.run_ns, run);
        }
        if let Some(since) = committing_since {
            let commit = as_ns(ended.since(since));
            average(&self.shared.commit_ns, commit);
            self.shared.counters.commit_ns.record(commit);
            self.shared.counters.batch_ops.record(ops);
        }
    }

    fn answer(&self, jobs: Vec<Job>, ran: Vec<Ran>, now: Mono) {
        let counters = &self.shared.counters;
        let answers = Answers::at(now);
        for (job, how) in jobs.into_iter().zip(ran) {
            match how {
                Ran::Kept => {
                    count(&counters.done);
                    job.answer(Ok(()), &answers);
                }
                Ran::Refused => {
                    count(&counters.refused);
                    job.answer(Ok(()), &answers);
                }
                Ran::Panicked => {
                    count(&counters.panicked);
                    job.answer(Err(Error::Panicked), &answers);
                }
                // Counts itself: it cannot be claimed any more.
                Ran::Skipped => job.answer(Ok(()), &answers),
                Ran::NoRoom => {
                    count(&counters.disk_full);
                    job.answer(Err(Error::DiskFull), &answers);
                }
                Ran::NoTime => job.answer(Err(Error::Stopping), &answers),
            }
        }
    }

    fn fail_batch(&mut self, jobs: Vec<Job>, began_commit: bool, error: &store::Error) {
        // The door closes before anybody learns of it.
        self.shared.set_state(State::Reopening);
        for job in jobs {
            if began_commit {
                count(&self.shared.counters.unknown);
                job.answer(Err(Error::OutcomeUnknown), &Answers::at(self.now()));
            } else {
                self.refuse(job, Error::ReadOnly);
            }
        }
        self.recover(&error.to_string());
    }

    fn refuse(&self, job: Job, error: Error) {
        count(&self.shared.counters.read_only);
        job.answer(Err(error), &Answers::at(self.now()));
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
            // A slow reader is no failed attempt.
            while still_open() {
                if !self.refuse_for(READER_PATIENCE) {
                    return;
                }
            }
            let open = || (self.opener)(Opening::AfterFailure);
            let attempt = catch_unwind(AssertUnwindSafe(open))
                .unwrap_or_else(|panic| Err(store::Error::Damaged(panic_text(&*panic).to_owned())));
            match attempt {
                Ok(engine) => return self.install(Arc::from(engine)),
                Err(error) => tracing::warn!(writer = name, %error, "reopening the store failed"),
            }
        }
        tracing::error!(writer = name, "the store cannot be reopened; giving up");
        self.give_up();
    }

    fn install(&mut self, engine: Arc<dyn Engine>) {
        self.generation += 1;
        self.read_failed = None;
        self.settled = false;
        self.forget_averages();
        self.look_at_disk(engine.reserve(0));
        let opened = Opened { engine: Arc::clone(&engine), generation: self.generation };
        *self.shared.engine.write() = Some(opened);
        self.engine = Some(engine);
        count(&self.shared.counters.reopenings);
        self.shared.set_state(State::Open);
        tracing::info!(writer = self.options.name, "the store was reopened and verified");
    }

    /// Answers `read_only` for as long as `delay`; false when the writer is stopped meanwhile.
    fn refuse_for(&mut self, delay: Duration) -> bool {
        if let Some(job) = self.carried.take() {
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
        // Who stops a writer takes the file for closed; readers have it for a moment at most.
        let patience = self.now().plus(CLOSE_PATIENCE);
        while let Some(engine) = &self.engine
            && 1 < Arc::strong_count(engine)
            && self.now() < patience
        {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        self.engine = None;
    }
}

/// A batch: jobs are run as they come, and the commit is made when no more do.
struct Batching<'t> {
    thread: &'t mut Thread,
    /// Space that is certain.
    margin_bytes: u64,
    began: Mono,
    /// When the last job was taken in.
    now: Mono,
    /// The job to run next, if it is known already.
    next: Option<Job>,
    jobs: Vec<Job>,
    /// For each of the jobs, in order.
    ran: Vec<Ran>,
    bytes: usize,
    disk_bytes: u64,
    committing_since: Option<Mono>,
}

impl<'t> Batching<'t> {
    fn new(thread: &'t mut Thread, first: Job, engine: &dyn Engine) -> Batching<'t> {
        let began = thread.now();
        thread.shared.batch_began_ns.store(began.ns().max(1), Relaxed);
        let margin_bytes = engine.reserve(first.disk_bytes());
        thread.look_at_disk(margin_bytes);
        Batching {
            thread,
            margin_bytes,
            began,
            now: began,
            next: Some(first),
            jobs: Vec::new(),
            ran: Vec::new(),
            bytes: 0,
            disk_bytes: 0,
            committing_since: None,
        }
    }

    /// The body of the transaction. An error means that the batch is lost.
    fn run(&mut self, tx: &mut dyn Batch) -> store::Result<Finish> {
        while let Some(job) = self.next() {
            self.bytes += job.bytes();
            self.jobs.push(job);
            // Pushed first: what began to run must be answered by this batch.
            self.ran.push(Ran::Refused);
            let how = self.run_last(tx)?;
            *self.ran.last_mut().expect("BUG: pushed two lines above") = how;
        }
        if !tx.is_dirty() {
            return Ok(Finish::Abandon);
        }
        self.committing_since = Some(self.thread.now());
        Ok(Finish::Commit)
    }

    /// The next job of this batch. One that does not fit is carried to the next batch.
    fn next(&mut self) -> Option<Job> {
        if let Some(first) = self.next.take() {
            return Some(first);
        }
        let job = self.gather()?;
        self.now = self.thread.now();
        let fits = self.jobs.len() < BATCH_OPS_MAX
            && self.bytes + job.bytes() <= BATCH_BYTES_MAX
            && self.disk_bytes + job.disk_bytes() <= self.margin_bytes
            && self.now.since(self.began) <= self.thread.options.batch_time;
        if fits {
            return Some(job);
        }
        self.thread.carried = Some(job);
        None
    }

    /// Takes what waits, and gives callers that were answered a moment ago the moment it takes to come
    /// back. Without it they settle into two halves that take turns, and every commit serves half of
    /// them. It is no linger: a lone caller is not waited for, and it ends when nobody comes.
    fn gather(&mut self) -> Option<Job> {
        let mut since = None;
        for _ in 0..GATHER_YIELDS_MAX {
            match self.thread.receiver.try_recv() {
                Ok(message) => {
                    if let Some(job) = self.thread.open(message) {
                        return Some(job);
                    }
                }
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            if self.thread.callers <= self.jobs.len() {
                return None;
            }
            let now = self.thread.now();
            if GATHER_GAP < now.since(*since.get_or_insert(now)) {
                return None;
            }
            std::thread::yield_now();
        }
        None
    }

    /// Runs the job that was pushed last, and keeps or undoes it.
    fn run_last(&mut self, tx: &mut dyn Batch) -> store::Result<Ran> {
        let shared = &self.thread.shared;
        let job = self.jobs.last_mut().expect("BUG: a job was pushed");
        if !job.claim() {
            return Ok(Ran::Skipped);
        }
        // One that is too large for what is left is refused alone; the door is not closed for it.
        let disk_bytes = self.disk_bytes + job.disk_bytes();
        let no_room = shared.disk_short.load(Relaxed) || self.margin_bytes < disk_bytes;
        if no_room && job.effect == Effect::Grows {
            return Ok(Ran::NoRoom);
        }
        self.disk_bytes = disk_bytes;
        if shared.stop_until_ns.load(Relaxed) < self.now.ns() {
            return Ok(Ran::NoTime);
        }
        tx.begin()?;
        let ran = catch_unwind(AssertUnwindSafe(|| job.run(&mut *tx)));
        if tx.is_broken() {
            return Err(store::Error::Closed);
        }
        match ran {
            Ok(true) => tx.keep().map(|()| Ran::Kept),
            Ok(false) => tx.undo().map(|()| Ran::Refused),
            Err(panic) => {
                let (writer, text) = (shared.name, panic_text(&*panic));
                tracing::error!(writer, text, "an operation panicked");
                tx.undo().map(|()| Ran::Panicked)
            }
        }
    }
}
