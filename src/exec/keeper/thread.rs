//! The thread of a keeper: runs what waits, answers, and mends what fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::{Kept, Opener, Options, Shared, Task};
use crate::base::limits::{DISK_RETRY_EVERY, KEEPER_QUEUE_OPS_MAX};
use crate::base::time::Mono;
use crate::exec::claim::Claim;
use crate::exec::writer::{Effect, State};
use crate::exec::{Error, as_ns, average, count, panic_text};
use crate::store::Opening;

/// How long to wait for work when nothing else will be due.
const NOTHING_DUE: Duration = Duration::from_hours(1);

/// A place in the queue; leaving it is dropping it.
pub(super) struct Place(Arc<Shared>);

impl Place {
    pub(super) fn take(shared: &Arc<Shared>) -> Option<Place> {
        let place = Place(Arc::clone(shared));
        let ops = shared.queue_ops.fetch_add(1, Relaxed) + 1;
        if KEEPER_QUEUE_OPS_MAX < ops {
            return None;
        }
        shared.counters.queue_ops_peak.fetch_max(ops, Relaxed);
        Some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.queue_ops.fetch_sub(1, Relaxed);
    }
}

/// An operation with its types forgotten.
pub(super) trait Work<T>: Send {
    fn run(&mut self, kept: &mut T);
    /// Answers it: as it ended, or with an error of ours.
    fn answer(self: Box<Self>, fate: Result<(), Error>);
}

pub(super) struct Operation<F, A, R> {
    run: Option<F>,
    outcome: Option<A>,
    reply: R,
}

impl<F, A, R> Operation<F, A, R> {
    pub(super) fn new(operation: F, reply: R) -> Operation<F, A, R> {
        Operation { run: Some(operation), outcome: None, reply }
    }
}

impl<T, F, A, R> Work<T> for Operation<F, A, R>
where
    F: FnOnce(&mut T) -> A + Send,
    R: FnOnce(Result<A, Error>) + Send,
    A: Send,
{
    fn run(&mut self, kept: &mut T) {
        let operation = self.run.take().expect("BUG: an operation runs once");
        self.outcome = Some(operation(kept));
    }

    fn answer(self: Box<Self>, fate: Result<(), Error>) {
        let outcome = self.outcome;
        (self.reply)(fate.map(|()| outcome.expect("BUG: what is answered has run")));
    }
}

/// An operation on its way.
pub(super) struct Job<T> {
    task: Task,
    claim: Arc<Claim>,
    /// Taken when it is answered.
    work: Option<(Box<dyn Work<T>>, Place)>,
}

impl<T> Job<T> {
    /// The job, and what its caller needs to take it back.
    pub(super) fn new(task: Task, work: Box<dyn Work<T>>, place: Place) -> (Job<T>, Arc<Claim>) {
        let claim = Arc::<Claim>::default();
        (Job { task, claim: Arc::clone(&claim), work: Some((work, place)) }, claim)
    }

    fn run(&mut self, kept: &mut T) {
        let (work, _) = self.work.as_mut().expect("BUG: a job runs before it is answered");
        work.run(kept);
    }

    /// It was never let in: nobody is answered.
    pub(super) fn withdraw(mut self) {
        self.work = None;
    }

    /// Leaves the queue and answers. A reply that panics is the caller's loss alone.
    fn answer(mut self, fate: Result<(), Error>) {
        self.settle(fate);
    }

    /// Answers with an error, unless it was taken back: then nobody waits for it.
    fn refuse(mut self, error: Error) {
        if self.claim.take() {
            self.settle(Err(error));
        } else {
            self.withdraw();
        }
    }

    fn settle(&mut self, fate: Result<(), Error>) {
        let Some((work, place)) = self.work.take() else {
            return;
        };
        let shared = Arc::clone(&place.0);
        // Before the answer: whoever comes back with the next operation has nothing ahead of it.
        drop(place);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work.answer(fate))) {
            count(&shared.counters.panicked);
            let (keeper, operation) = (shared.name, self.task.name);
            tracing::error!(keeper, operation, text = panic_text(&*panic), "a reply panicked");
        }
    }
}

/// A job that gets lost was lost by a bug of ours; its caller must not wait for ever.
impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        self.settle(Err(Error::OutcomeUnknown));
    }
}

/// What the thread owns.
pub(super) struct Thread<T: Kept> {
    shared: Arc<Shared>,
    receiver: Receiver<Job<T>>,
    opener: Opener<T>,
    kept: Option<T>,
    options: Options<T>,
}

impl<T: Kept> Thread<T> {
    pub(super) fn new(
        shared: Arc<Shared>,
        receiver: Receiver<Job<T>>,
        opener: Opener<T>,
        kept: T,
        options: Options<T>,
    ) -> Thread<T> {
        Thread { shared, receiver, opener, kept: Some(kept), options }
    }

    pub(super) fn run(&mut self) {
        let work = AssertUnwindSafe(|| {
            while let Some(job) = self.next_job() {
                self.serve(job);
            }
        });
        if let Err(panic) = catch_unwind(work) {
            // A bug of ours. Nothing is known of the thing any more; a new process may open it.
            let (keeper, text) = (self.options.name, panic_text(&*panic));
            tracing::error!(keeper, text, "the keeper panicked; giving up");
            count(&self.shared.counters.panicked);
            count(&self.shared.counters.failures);
            self.give_up();
            self.refuse_for(Duration::MAX);
        }
        self.shared.set_state(State::Stopped);
        self.kept = None;
    }

    fn now(&self) -> Mono {
        self.shared.clock.mono()
    }

    /// Waits for work, and looks at the disk meanwhile; `None` when the keeper is stopped and nothing is
    /// left.
    fn next_job(&mut self) -> Option<Job<T>> {
        loop {
            let short = self.shared.disk_short.load(Relaxed);
            let patience = if short { DISK_RETRY_EVERY } else { NOTHING_DUE };
            match self.receiver.recv_timeout(patience) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(kept) = &self.kept {
                        self.shared.look_at_disk(kept);
                    }
                }
            }
        }
    }

    /// Runs a job, if there is a reason to, and answers it.
    fn serve(&mut self, job: Job<T>) {
        let Some(mut kept) = self.kept.take() else {
            return self.refuse(job);
        };
        match self.attend(job, &mut kept) {
            None => self.kept = Some(kept),
            Some(why) => {
                drop(kept);
                self.recover(&why);
            }
        }
    }

    /// Judges a job, runs it and answers it; why the thing is broken, if it is.
    fn attend(&self, job: Job<T>, kept: &mut T) -> Option<String> {
        let (counters, now) = (&self.shared.counters, self.now());
        if self.shared.stop_until_ns.load(Relaxed) < now.ns() {
            job.refuse(Error::Stopping);
            return None;
        }
        if job.task.until <= now {
            count(&counters.late);
            job.refuse(Error::TooLate);
            return None;
        }
        self.shared.look_at_disk(kept);
        if job.task.effect == Effect::Grows && self.shared.disk_short.load(Relaxed) {
            count(&counters.disk_full);
            job.refuse(Error::DiskFull);
            return None;
        }
        if !job.claim.take() {
            // Its caller stopped waiting a moment ago.
            count(&counters.late);
            job.withdraw();
            return None;
        }
        self.run_job(job, kept)
    }

    fn run_job(&self, mut job: Job<T>, kept: &mut T) -> Option<String> {
        let (shared, task, began) = (&self.shared, job.task, self.now());
        shared.began_ns.store(began.ns().max(1), Relaxed);
        let ran = catch_unwind(AssertUnwindSafe(|| job.run(kept)));
        let took = self.now().since(began);
        shared.began_ns.store(0, Relaxed);
        average(&shared.run_ns, as_ns(took));
        shared.counters.run_ns.record(as_ns(took));

        let (fate, broken) = match ran {
            Ok(()) => {
                count(&shared.counters.done);
                (Ok(()), kept.broken())
            }
            Err(panic) => {
                count(&shared.counters.panicked);
                let (keeper, text) = (shared.name, panic_text(&*panic));
                tracing::error!(keeper, operation = task.name, text, "an operation panicked");
                (Err(Error::Panicked), Some(format!("{} panicked: {text}", task.name)))
            }
        };
        match broken {
            // The door closes before anybody learns of it.
            Some(_) => shared.set_state(State::Reopening),
            None => shared.measure(kept),
        }
        self.tell_if_slow(task, took);
        job.answer(fate);
        broken
    }

    fn tell_if_slow(&self, task: Task, took: Duration) {
        let Some(slow) = &self.options.on_slow else {
            return;
        };
        if slow.from <= took {
            self.guard("telling of a slow operation", || (slow.tell)(task.name, took));
        }
    }

    /// Runs what belongs to somebody else and must not end the thread.
    fn guard(&self, what: &str, stranger: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(stranger)) {
            count(&self.shared.counters.panicked);
            let (keeper, text) = (self.options.name, panic_text(&*panic));
            tracing::error!(keeper, what, text, "a callback panicked");
        }
    }

    fn refuse(&self, job: Job<T>) {
        count(&self.shared.counters.read_only);
        job.refuse(Error::ReadOnly);
    }

    /// Opens the thing anew; gives up after the last attempt.
    fn recover(&mut self, why: &str) {
        let keeper = self.options.name;
        tracing::error!(keeper, why, "it failed and is being reopened");
        count(&self.shared.counters.failures);
        *self.shared.counters.last_failure.lock() = Some(why.to_owned());
        for delay in self.options.reopen_after {
            if !self.refuse_for(delay) {
                return;
            }
            match self.reopen() {
                Ok(kept) => return self.install(kept),
                Err(why) => tracing::warn!(keeper, why, "reopening failed"),
            }
        }
        tracing::error!(keeper, "it cannot be reopened; giving up");
        self.give_up();
    }

    /// The thing, opened anew and handed to whoever wants it first.
    fn reopen(&self) -> Result<T, String> {
        let attempt = AssertUnwindSafe(|| {
            let mut kept = (self.opener)(Opening::AfterFailure).map_err(|e| e.to_string())?;
            (self.options.on_reopened)(&mut kept);
            match kept.broken() {
                Some(why) => Err(why),
                None => Ok(kept),
            }
        });
        catch_unwind(attempt).unwrap_or_else(|panic| Err(panic_text(&*panic).to_owned()))
    }

    fn install(&mut self, kept: T) {
        self.shared.run_ns.store(0, Relaxed);
        self.shared.measure(&kept);
        self.kept = Some(kept);
        count(&self.shared.counters.reopenings);
        self.shared.set_state(State::Open);
        tracing::info!(keeper = self.options.name, "it was reopened");
    }

    /// This process cannot use the thing any more.
    fn give_up(&mut self) {
        self.shared.set_state(State::Failed);
        self.kept = None;
        self.guard("telling of the failure", || (self.options.on_failed)());
    }

    /// Answers `read_only` for as long as `delay`; false when the keeper is stopped meanwhile.
    fn refuse_for(&self, delay: Duration) -> bool {
        let until = self.now().plus(delay);
        loop {
            match self.receiver.recv_timeout(until.since(self.now())) {
                Ok(job) => self.refuse(job),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}
