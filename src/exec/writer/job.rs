//! An operation on its way: its place in the queue, who may still take it back, its answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{Effect, Shared};
use crate::base::limits::{OPERATION_DISK_BYTES, WRITER_QUEUE_BYTES_MAX, WRITER_QUEUE_OPS_MAX};
use crate::base::time::Mono;
use crate::exec::claim::Claim;
use crate::exec::slot::{Slot, WakeChain};
use crate::exec::{CallError, Error, as_ns, count, panic_text};
use crate::store::Write;

/// A place in the queue; leaving it is dropping it.
pub(super) struct Place {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Place {
    pub(super) fn take(shared: &Arc<Shared>, bytes: usize) -> Option<Place> {
        let place = Place { shared: Arc::clone(shared), bytes };
        let ops = shared.queue_ops.fetch_add(1, Relaxed) + 1;
        let bytes = shared.queue_bytes.fetch_add(bytes, Relaxed) + bytes;
        if WRITER_QUEUE_OPS_MAX < ops || WRITER_QUEUE_BYTES_MAX < bytes {
            return None;
        }
        shared.counters.queue_ops_peak.fetch_max(ops, Relaxed);
        Some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.queue_ops.fetch_sub(1, Relaxed);
        self.shared.queue_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// The caller's end of a submitted operation. Dropping it takes the operation back, if the writer has
/// not begun with it: then it never runs, and nobody is answered.
#[derive(Debug)]
#[must_use = "dropping a ticket takes the operation back"]
pub struct Ticket {
    claim: Option<Arc<Claim>>,
}

impl Ticket {
    pub(super) fn new(claim: Arc<Claim>) -> Ticket {
        Ticket { claim: Some(claim) }
    }

    /// Takes the operation back; false when the writer has begun with it.
    pub fn take_back(&self) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.give_up())
    }

    /// Lets it run whatever becomes of the caller.
    pub fn let_it_run(mut self) {
        self.claim = None;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// An operation with its types forgotten.
pub(super) trait Work: Send {
    /// Runs it; whether it is to be kept.
    fn run(&mut self, tx: &mut dyn Write) -> bool;
    /// Answers it: as it ended, or with an error of ours.
    fn answer(self: Box<Self>, fate: Result<(), Error>, chain: &Arc<WakeChain>);
}

/// Answers that are given at one moment. Dropping it wakes those who wait for them.
pub(super) struct Answers {
    now: Mono,
    chain: Arc<WakeChain>,
}

impl Answers {
    pub(super) fn at(now: Mono) -> Answers {
        Answers { now, chain: Arc::default() }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.chain.wake();
    }
}

/// Where an answer goes.
pub(super) trait Reply<A>: Send {
    fn reply(self, answer: A, chain: &Arc<WakeChain>);
}

/// To a closure, on the writer's thread.
pub(super) struct Callback<R>(pub(super) R);

impl<A, R: FnOnce(A) + Send> Reply<A> for Callback<R> {
    fn reply(self, answer: A, _chain: &Arc<WakeChain>) {
        (self.0)(answer);
    }
}

/// To a thread that waits.
impl<A: Send> Reply<A> for Arc<Slot<A>> {
    fn reply(self, answer: A, chain: &Arc<WakeChain>) {
        self.fill(answer, chain);
    }
}

pub(super) struct Operation<F, R, T, E> {
    run: Option<F>,
    outcome: Option<Result<T, E>>,
    reply: R,
}

impl<F, R, T, E> Operation<F, R, T, E> {
    pub(super) fn new(operation: F, reply: R) -> Operation<F, R, T, E> {
        Operation { run: Some(operation), outcome: None, reply }
    }
}

impl<F, R, T, E> Work for Operation<F, R, T, E>
where
    F: FnOnce(&mut dyn Write) -> Result<T, E> + Send,
    R: Reply<Result<T, CallError<E>>>,
    T: Send,
    E: Send,
{
    fn run(&mut self, tx: &mut dyn Write) -> bool {
        let operation = self.run.take().expect("BUG: an operation runs once");
        let outcome = operation(tx);
        let keep = outcome.is_ok();
        self.outcome = Some(outcome);
        keep
    }

    fn answer(self: Box<Self>, fate: Result<(), Error>, chain: &Arc<WakeChain>) {
        let result = match fate {
            Ok(()) => {
                let outcome = self.outcome.expect("BUG: what is answered has run");
                outcome.map_err(CallError::Refused)
            }
            Err(error) => Err(CallError::Failed(error)),
        };
        self.reply.reply(result, chain);
    }
}

/// An operation on its way.
pub(super) struct Job {
    /// Taken when it is answered.
    work: Option<Box<dyn Work>>,
    claim: Arc<Claim>,
    /// Whether the claim is ours: it is asked for when the job runs, and again when it is answered.
    claimed: bool,
    came_at: Mono,
    place: Place,
    pub(super) effect: Effect,
}

impl Job {
    pub(super) fn new(work: Box<dyn Work>, effect: Effect, came_at: Mono, place: Place) -> Job {
        Job { work: Some(work), claim: Arc::default(), claimed: false, came_at, place, effect }
    }

    /// The caller's end of it.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket::new(Arc::clone(&self.claim))
    }

    /// Begins with it; false when its caller has taken it back.
    pub(super) fn claim(&mut self) -> bool {
        self.claimed = self.claimed || self.claim.take();
        self.claimed
    }

    /// Runs it; whether it is to be kept.
    pub(super) fn run(&mut self, tx: &mut dyn Write) -> bool {
        let work = self.work.as_mut().expect("BUG: a job runs before it is answered");
        work.run(tx)
    }

    /// The payload it brings.
    pub(super) fn bytes(&self) -> usize {
        self.place.bytes
    }

    /// What it may take from the disk's margin.
    pub(super) fn disk_bytes(&self) -> u64 {
        OPERATION_DISK_BYTES + 2 * self.place.bytes as u64
    }

    /// Answers and leaves the queue; a job that was taken back leaves without an answer. A caller's
    /// reply that panics is the caller's loss alone.
    pub(super) fn answer(mut self, fate: Result<(), Error>, answers: &Answers) {
        self.settle(fate, answers);
    }

    fn settle(&mut self, fate: Result<(), Error>, answers: &Answers) {
        let claimed = self.claim();
        let shared = &self.place.shared;
        let Some(work) = self.work.take() else {
            return;
        };
        if !claimed {
            return count(&shared.counters.skipped);
        }
        shared.counters.answer_ns.record(as_ns(answers.now.since(self.came_at)));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work.answer(fate, &answers.chain))) {
            count(&shared.counters.panicked);
            tracing::error!(writer = shared.name, text = panic_text(&*panic), "a reply panicked");
        }
    }
}

/// A job that gets lost was lost by a bug of ours; its caller must not wait for ever.
impl Drop for Job {
    fn drop(&mut self) {
        if self.work.is_some() {
            self.settle(Err(Error::OutcomeUnknown), &Answers::at(self.came_at));
        }
    }
}
