//! The pool, the workers and the figures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use crossbeam::channel::{bounded, unbounded};
use parking_lot::Mutex;

use super::Error;
use super::figures::Histogram;
use super::pool::Pool;
use super::worker::{Next, Seat, Worker, Workers};
use crate::base::time::{Clock, Mono, Now};
use crate::testing::clock::{ManualClock, SystemClock};
use crate::testing::wait_until;

const LONG: Duration = Duration::from_hours(1);

#[test]
fn a_pool_runs_tasks_and_refuses_when_full() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let pool = Pool::start(1, 2, Arc::clone(&clock)).unwrap();
    let until = clock.mono().plus(LONG);
    assert_eq!(pool.call(until, |_| 6 * 7), Ok(42));
    let panicked = pool.call(until, |_| std::panic::resume_unwind(Box::new("a planned panic")));
    assert_eq!(panicked, Err::<(), _>(Error::Panicked));

    let (release, held) = bounded::<()>(1);
    let (begun, has_begun) = bounded(1);
    let wait = move |_: &_| {
        begun.send(()).unwrap();
        held.recv().ok();
    };
    pool.submit(until, wait, |_| ()).unwrap();
    has_begun.recv().unwrap();
    for _ in 0..2 {
        pool.submit(until, |_| (), |_| ()).unwrap();
    }
    let refused = pool.submit(until, |_| (), |_| ()).err();
    assert!(matches!(refused, Some(Error::Overloaded { .. })), "{refused:?}");
    drop(release);
    wait_until("the pool is idle", || pool.figures().queue == 0 && pool.figures().running == 0);
    wait_until("all are counted", || pool.figures().done == 4);
    assert_eq!((pool.figures().refused, pool.figures().panicked), (1, 1));
}

#[test]
fn a_task_past_its_deadline_is_not_begun_and_one_that_runs_is_told() {
    let clock = Arc::new(ManualClock::default());
    let its_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let pool = Pool::start(1, 8, its_clock).unwrap();
    let until = clock.mono().plus(Duration::from_secs(1));
    let (begun, has_begun) = bounded(1);
    let (replies, answers) = unbounded();
    let reply = replies.clone();
    let long = move |patience: &super::pool::Patience| {
        begun.send(()).unwrap();
        while !patience.expired() {
            std::hint::spin_loop();
        }
    };
    pool.submit(until, long, move |result| reply.send(result).unwrap()).unwrap();
    has_begun.recv().unwrap();
    let ran = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&ran);
    pool.submit(
        until,
        move |_| note.store(true, SeqCst),
        move |result| {
            replies.send(result).unwrap();
        },
    )
    .unwrap();
    clock.advance(Duration::from_secs(1));
    assert_eq!(answers.recv().unwrap(), Err(Error::TooLate));
    assert_eq!(answers.recv().unwrap(), Err(Error::TooLate));
    assert!(!ran.load(SeqCst));
    assert_eq!(pool.figures().late, 2);
    assert_eq!(pool.call(until, |_| ()), Err(Error::TooLate));
    pool.stop();
    assert_eq!(pool.call(until, |_| ()), Err(Error::Stopping));
}

/// A worker that does what a list says and notes when.
struct Scripted {
    script: Vec<Option<Next>>,
    steps: Arc<Mutex<Vec<Mono>>>,
}

impl Worker for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn step(&mut self, now: Now) -> Next {
        let mut steps = self.steps.lock();
        let next = self.script.get(steps.len()).copied();
        steps.push(now.mono);
        drop(steps);
        match next {
            Some(Some(next)) => next,
            Some(None) => std::panic::resume_unwind(Box::new("a planned panic")),
            None => Next::WhenWoken,
        }
    }
}

#[test]
fn a_worker_is_due_when_it_said_or_when_woken() {
    let clock = ManualClock::default();
    let start = clock.mono();
    let later = start.plus(Duration::from_secs(5));
    let steps = Arc::<Mutex<Vec<Mono>>>::default();
    let script = vec![Some(Next::Again), Some(Next::At(later)), Some(Next::WhenWoken)];
    let mut seat = Seat::new(Box::new(Scripted { script, steps: Arc::clone(&steps) }));
    let due = |seat: &Seat| seat.due_in(clock.mono());

    assert_eq!(due(&seat), Some(Duration::ZERO));
    seat.step(&clock);
    assert_eq!(due(&seat), Some(Duration::ZERO));
    seat.step(&clock);
    assert_eq!(due(&seat), Some(Duration::from_secs(5)));
    clock.advance(Duration::from_secs(5));
    assert_eq!(due(&seat), Some(Duration::ZERO));
    seat.step(&clock);
    assert_eq!(due(&seat), None);
    seat.wake();
    assert_eq!(due(&seat), Some(Duration::ZERO));
    seat.step(&clock);
    assert_eq!(*steps.lock(), [start, start, later, later]);
}

#[test]
fn a_worker_that_panics_rests_longer_each_time_and_goes_on() {
    let clock = ManualClock::default();
    let steps = Arc::default();
    let script = vec![None, None, Some(Next::Again), None];
    let mut seat = Seat::new(Box::new(Scripted { script, steps }));
    let rest = |seat: &Seat| seat.due_in(clock.mono()).map(|due| due.as_secs());
    seat.step(&clock);
    assert_eq!(rest(&seat), Some(1));
    seat.wake();
    assert_eq!(rest(&seat), Some(1), "a wake-up does not shorten the rest");
    clock.advance(Duration::from_secs(1));
    seat.step(&clock);
    assert_eq!(rest(&seat), Some(2));
    clock.advance(Duration::from_secs(2));
    seat.step(&clock);
    assert_eq!(rest(&seat), Some(0));
    seat.step(&clock);
    assert_eq!(rest(&seat), Some(1), "a good step forgets the bad ones");
    let figures = seat.figures();
    assert_eq!((figures.steps, figures.panicked, figures.resting), (4, 3, true));
}

#[test]
fn workers_step_when_woken_and_stop() {
    let workers = Workers::new(Arc::new(SystemClock::new()));
    let steps = Arc::<Mutex<Vec<Mono>>>::default();
    let worker = Scripted { script: Vec::new(), steps: Arc::clone(&steps) };
    let waker = workers.hire(Box::new(worker)).unwrap();
    for n in 1..=20 {
        wait_until("the step is done", || steps.lock().len() == n);
        waker.wake();
    }
    wait_until("the last step is counted", || workers.figures()[0].steps == 21);
    workers.stop();
    assert!(workers.figures().is_empty());
}

#[test]
fn a_histogram_gives_quantiles_within_a_factor_of_two() {
    let histogram = Histogram::default();
    assert_eq!(histogram.figures().quantile(500), None);
    for value in 0..=1000 {
        histogram.record(value);
    }
    let figures = histogram.figures();
    assert_eq!((figures.count(), figures.max, figures.sum), (1001, 1000, 500_500));
    assert_eq!(figures.quantile(500), Some(511));
    assert_eq!(figures.quantile(1000), Some(1000));
    histogram.record(u64::MAX);
    assert_eq!(histogram.figures().quantile(1000), Some(u64::MAX));
}
