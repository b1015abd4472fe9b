//! The keeper, as its callers meet it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;

use super::{Keeper, Kept, OnSlow, Options, StartError, State, Task};
use crate::base::limits::{DISK_MARGIN_BYTES, KEEPER_QUEUE_OPS_MAX};
use crate::base::time::{Clock, Mono};
use crate::exec::Error;
use crate::exec::writer::Effect;
use crate::store::Opening;
use crate::testing::clock::ManualClock;
use crate::testing::wait_until;

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_hours(1);

/// What is around a thing: its disk, and what was done to it.
#[derive(Debug, Default)]
struct World {
    margin_bytes: AtomicU64,
    /// Openings that are still to fail.
    openings_fail: AtomicU64,
    log: Mutex<Vec<String>>,
}

impl World {
    fn note(&self, what: impl Into<String>) {
        self.log.lock().push(what.into());
    }

    fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock())
    }
}

/// A counter that breaks when it is told to.
#[derive(Debug)]
struct Thing {
    world: Arc<World>,
    broken: Option<&'static str>,
    commits: u64,
}

impl Thing {
    fn add(&mut self) -> u64 {
        self.commits += 1;
        self.commits
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        self.world.note("closed");
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it does not open")]
struct DoesNotOpen;

impl Kept for Thing {
    type Error = DoesNotOpen;

    fn broken(&self) -> Option<String> {
        self.broken.map(str::to_owned)
    }

    fn margin_bytes(&self) -> u64 {
        self.world.margin_bytes.load(SeqCst)
    }

    fn file_bytes(&self) -> u64 {
        self.commits * 4096
    }

    fn commits(&self) -> u64 {
        self.commits
    }
}

struct Bench {
    world: Arc<World>,
    clock: Arc<ManualClock>,
    failed: Arc<AtomicU64>,
    keeper: Keeper<Thing>,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(|options| options)
    }

    fn with(change: impl FnOnce(Options<Thing>) -> Options<Thing>) -> Bench {
        let (world, failed) = (Arc::<World>::default(), Arc::<AtomicU64>::default());
        world.margin_bytes.store(DISK_MARGIN_BYTES, SeqCst);
        let tell = Arc::clone(&failed);
        let usual = Options::new(
            "test",
            Box::new(move || {
                tell.fetch_add(1, SeqCst);
            }),
        );
        let options = change(Options { reopen_after: [Duration::ZERO; 3], ..usual });
        let clock = Arc::<ManualClock>::default();
        let its_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let keeper = Keeper::start(options, opener(&world), its_clock).unwrap();
        Bench { world, clock, failed, keeper }
    }

    fn until(&self, from_now: Duration) -> Mono {
        self.clock.mono().plus(from_now)
    }

    fn task(&self, effect: Effect) -> Task {
        Task { name: "test.task", until: self.until(LONG), effect }
    }

    fn add(&self) -> Result<u64, Error> {
        self.keeper.call(self.task(Effect::Grows), Thing::add)
    }

    fn break_it(&self) -> Result<&'static str, Error> {
        self.keeper.call(self.task(Effect::Frees), |thing: &mut Thing| {
            thing.broken = Some("a planned failure");
            "its own answer"
        })
    }

    /// Has the keeper run an operation that waits until the sender is used or dropped.
    fn hold(&self) -> Sender<()> {
        let (release, held) = bounded::<()>(1);
        let (begun, has_begun) = bounded(1);
        let wait = move |_: &mut Thing| {
            begun.send(()).unwrap();
            held.recv().ok();
        };
        self.keeper.submit(self.task(Effect::Frees), wait, |_| ()).unwrap();
        has_begun.recv().unwrap();
        release
    }

    /// Submits an operation that notes that it ran.
    fn submit(&self, n: u64, until: Mono, replies: &Replies) -> Result<(), Error> {
        let (world, reply) = (Arc::clone(&self.world), replies.clone());
        let note = move |_: &mut Thing| world.note(format!("ran {n}"));
        let answer = move |result: Result<(), Error>| reply.send((n, result)).unwrap();
        let task = Task { until, ..self.task(Effect::Frees) };
        self.keeper.submit(task, note, answer)
    }

    fn wait_until_open(&self) {
        wait_until("it is open again", || self.keeper.state() == State::Open);
    }
}

type Replies = Sender<(u64, Result<(), Error>)>;

fn answers_of(answers: &Receiver<(u64, Result<(), Error>)>) -> Vec<(u64, Result<(), Error>)> {
    answers.try_iter().collect()
}

fn opener(world: &Arc<World>) -> super::Opener<Thing> {
    let world = Arc::clone(world);
    Box::new(move |opening| {
        world.note(match opening {
            Opening::Start => "opened",
            Opening::AfterFailure => "reopened",
        });
        let left = world.openings_fail.load(SeqCst);
        if 0 < left {
            world.openings_fail.store(left - 1, SeqCst);
            return Err(DoesNotOpen);
        }
        Ok(Thing { world: Arc::clone(&world), broken: None, commits: 0 })
    })
}

#[test]
fn operations_run_in_turn_and_are_answered_with_what_they_return() {
    let bench = Bench::new();
    assert_eq!((bench.add(), bench.add()), (Ok(1), Ok(2)));
    let figures = bench.keeper.figures();
    assert_eq!((figures.name, figures.state, figures.done), ("test", State::Open, 2));
    assert_eq!((figures.commits, figures.file_bytes), (2, 8192));
    assert_eq!((figures.margin_bytes, figures.disk_short), (DISK_MARGIN_BYTES, false));
    assert_eq!((figures.run_ns.count(), figures.queue_ops), (2, 0));

    let release = bench.hold();
    let (replies, answers) = unbounded();
    for n in 0..5 {
        bench.submit(n, bench.until(LONG), &replies).unwrap();
    }
    assert_eq!(bench.keeper.figures().queue_ops, 6);
    drop(release);
    let all: Vec<_> = (0..5).map(|_| answers.recv().unwrap()).collect();
    assert_eq!(all, (0..5).map(|n| (n, Ok(()))).collect::<Vec<_>>());
    assert_eq!(bench.keeper.figures().queue_ops_peak, 6);
}

#[test]
fn a_thing_that_does_not_open_is_no_keeper() {
    let world = Arc::<World>::default();
    world.openings_fail.store(1, SeqCst);
    let options = Options::new("test", Box::new(|| ()));
    let result = Keeper::start(options, opener(&world), Arc::new(ManualClock::default()));
    assert!(matches!(result.err(), Some(StartError::Open(DoesNotOpen))));
}

#[test]
fn an_operation_whose_time_is_over_before_it_begins_is_not_run() {
    let bench = Bench::new();
    let release = bench.hold();
    let (replies, answers) = unbounded();
    bench.submit(1, bench.until(SECOND), &replies).unwrap();
    bench.submit(2, bench.until(LONG), &replies).unwrap();
    bench.clock.advance(SECOND);
    drop(release);
    wait_until("both are answered", || answers.len() == 2);
    assert_eq!(answers_of(&answers), [(1, Err(Error::TooLate)), (2, Ok(()))]);
    assert_eq!(bench.world.take_notes(), ["opened", "ran 2"]);
    assert_eq!(bench.keeper.figures().late, 1);
}

#[test]
fn a_caller_whose_time_is_over_takes_its_operation_back() {
    let bench = Bench::new();
    let release = bench.hold();
    let bench = &bench;
    #[expect(clippy::disallowed_methods, reason = "a caller that waits")]
    let late = std::thread::scope(|scope| {
        let task = Task { until: bench.until(SECOND), ..bench.task(Effect::Frees) };
        let call = scope.spawn(move || bench.keeper.call(task, Thing::add));
        wait_until("it waits", || bench.keeper.figures().queue_ops == 2);
        bench.clock.advance(SECOND);
        // Answered although the operation before it is still running.
        call.join().unwrap()
    });
    assert_eq!(late, Err(Error::TooLate));
    drop(release);
    assert_eq!(bench.add(), Ok(1), "what was taken back has not run");
    assert_eq!(bench.keeper.figures().late, 1);
}

#[test]
fn one_that_has_begun_is_waited_for_beyond_its_time() {
    let bench = Bench::new();
    let clock = Arc::clone(&bench.clock);
    let task = Task { until: bench.until(SECOND), ..bench.task(Effect::Frees) };
    let result = bench.keeper.call(task, move |thing| {
        clock.advance(LONG);
        thing.add()
    });
    assert_eq!(result, Ok(1));
}

#[test]
fn a_full_queue_refuses_and_calls_nobody_back() {
    let bench = Bench::new();
    let release = bench.hold();
    let (replies, answers) = unbounded();
    for n in 1..KEEPER_QUEUE_OPS_MAX as u64 {
        bench.submit(n, bench.until(LONG), &replies).unwrap();
    }
    let refused = bench.submit(0, bench.until(LONG), &replies);
    assert!(matches!(refused, Err(Error::Overloaded { .. })), "{refused:?}");
    assert_eq!(bench.keeper.figures().queue_ops, KEEPER_QUEUE_OPS_MAX);
    drop(release);
    wait_until("all are answered", || answers.len() == KEEPER_QUEUE_OPS_MAX - 1);
    assert!(answers_of(&answers).iter().all(|(n, result)| *n != 0 && result.is_ok()));
    assert_eq!(bench.keeper.figures().overloaded, 1);
}

#[test]
fn whoever_would_wait_too_long_is_told_at_once() {
    let bench = Bench::new();
    let slow = |clock: &Arc<ManualClock>| {
        let clock = Arc::clone(clock);
        move |_: &mut Thing| clock.advance(SECOND)
    };
    bench.keeper.call(bench.task(Effect::Frees), slow(&bench.clock)).unwrap();
    // The average says a second, but nothing is ahead.
    let soon = Task { until: bench.until(SECOND / 2), ..bench.task(Effect::Frees) };
    bench.keeper.call(soon, slow(&bench.clock)).unwrap();

    let release = bench.hold();
    let (replies, _answers) = unbounded();
    let refused = bench.submit(1, bench.until(SECOND / 2), &replies);
    assert_eq!(refused, Err(Error::Overloaded { wait: SECOND }), "one is ahead");
    bench.submit(2, bench.until(SECOND), &replies).unwrap();
    let refused = bench.submit(3, bench.until(SECOND), &replies);
    assert_eq!(refused, Err(Error::Overloaded { wait: SECOND * 2 }), "two are ahead");
    // One that runs for longer than the average says is the better witness.
    bench.clock.advance(SECOND * 60);
    let refused = bench.submit(4, bench.until(SECOND * 30), &replies);
    assert_eq!(refused, Err(Error::Overloaded { wait: SECOND * 60 }));
    drop(release);
}

#[test]
fn growth_is_refused_while_the_margin_is_short_and_what_frees_is_not() {
    let bench = Bench::new();
    bench.world.margin_bytes.store(DISK_MARGIN_BYTES - 1, SeqCst);
    assert_eq!(bench.add(), Err(Error::DiskFull), "noticed before it runs");
    assert_eq!(bench.add(), Err(Error::DiskFull), "at the door");
    assert_eq!(bench.keeper.call(bench.task(Effect::Frees), Thing::add), Ok(1));
    let figures = bench.keeper.figures();
    assert_eq!((figures.disk_full, figures.disk_short), (2, true));
    assert_eq!(figures.margin_bytes, DISK_MARGIN_BYTES - 1);

    bench.world.margin_bytes.store(DISK_MARGIN_BYTES, SeqCst);
    wait_until("it looks again", || !bench.keeper.figures().disk_short);
    assert_eq!(bench.add(), Ok(2));
}

#[test]
fn a_panic_is_answered_and_the_thing_is_opened_anew() {
    let bench = Bench::new();
    assert_eq!(bench.add(), Ok(1));
    let panicked = bench.keeper.call(bench.task(Effect::Grows), |thing: &mut Thing| -> u64 {
        thing.add();
        std::panic::resume_unwind(Box::new("a planned panic"))
    });
    assert_eq!(panicked, Err(Error::Panicked));
    bench.wait_until_open();
    assert_eq!(bench.add(), Ok(1), "it is another one");
    assert_eq!(bench.world.take_notes(), ["opened", "closed", "reopened"]);
    let figures = bench.keeper.figures();
    assert_eq!((figures.panicked, figures.failures, figures.reopenings), (1, 1, 1));
    assert_eq!(figures.last_failure.as_deref(), Some("test.task panicked: a planned panic"));
    assert!(bench.keeper.stop(LONG), "the failure was mended");
}

#[test]
fn a_reply_that_panics_harms_nobody() {
    let bench = Bench::new();
    let reply = |_| std::panic::resume_unwind(Box::new("a planned panic"));
    bench.keeper.submit(bench.task(Effect::Frees), Thing::add, reply).unwrap();
    assert_eq!(bench.add(), Ok(2));
    let figures = bench.keeper.figures();
    assert_eq!((figures.panicked, figures.failures), (1, 0));
}

#[test]
fn a_broken_thing_gives_its_own_answer_and_everybody_else_read_only() {
    let (release, held) = bounded::<()>(1);
    let bench = Bench::with(|options| {
        let on_reopened = Box::new(move |thing: &mut Thing| {
            thing.world.note("loaded");
            held.recv().ok();
        });
        Options { on_reopened, ..options }
    });
    let (replies, answers) = unbounded();
    let holding = bench.hold();
    let (its_reply, its_answer) = bounded(1);
    let break_it = |thing: &mut Thing| thing.broken = Some("a planned failure");
    let reply = move |result| its_reply.send(result).unwrap();
    bench.keeper.submit(bench.task(Effect::Frees), break_it, reply).unwrap();
    bench.submit(1, bench.until(LONG), &replies).unwrap();
    drop(holding);

    assert_eq!(its_answer.recv().unwrap(), Ok(()), "the answer is its own");
    assert_eq!(answers.recv().unwrap(), (1, Err(Error::ReadOnly)), "it waited behind");
    let wanted = ["opened", "closed", "reopened", "loaded"];
    wait_until("it is being loaded", || bench.world.log.lock().len() == wanted.len());
    assert_eq!(bench.world.take_notes(), wanted);
    let early = bench.submit(2, bench.until(LONG), &replies);
    assert_eq!(early, Err(Error::ReadOnly), "the door opens after it was loaded");
    drop(release);
    bench.wait_until_open();
    assert_eq!(bench.add(), Ok(1));
    let figures = bench.keeper.figures();
    assert_eq!(figures.last_failure.as_deref(), Some("a planned failure"));
    assert_eq!((figures.read_only, figures.reopenings), (2, 1));
}

#[test]
fn an_opening_that_fails_is_tried_again_and_the_third_failure_is_the_end() {
    let bench = Bench::new();
    bench.world.openings_fail.store(2, SeqCst);
    assert_eq!(bench.break_it(), Ok("its own answer"));
    bench.wait_until_open();
    assert_eq!(bench.failed.load(SeqCst), 0);

    bench.world.take_notes();
    bench.world.openings_fail.store(9, SeqCst);
    assert_eq!(bench.break_it(), Ok("its own answer"));
    wait_until("it is told", || bench.failed.load(SeqCst) == 1);
    assert_eq!(bench.keeper.state(), State::Failed);
    assert_eq!(bench.add(), Err(Error::ReadOnly));
    assert_eq!(bench.world.take_notes(), ["closed", "reopened", "reopened", "reopened"]);
    assert!(!bench.keeper.stop(LONG), "the last failure was not mended");
    assert_eq!(bench.keeper.state(), State::Stopped);
    assert_eq!(bench.failed.load(SeqCst), 1, "once");
}

#[test]
fn loading_that_panics_or_breaks_it_is_an_opening_that_failed() {
    let tries = AtomicU64::new(0);
    let bench = Bench::with(|options| {
        let on_reopened = Box::new(move |thing: &mut Thing| match tries.fetch_add(1, SeqCst) {
            0 => std::panic::resume_unwind(Box::new("a planned panic")),
            1 => thing.broken = Some("broken again"),
            _ => thing.commits = 40,
        });
        Options { on_reopened, ..options }
    });
    assert_eq!(bench.break_it(), Ok("its own answer"));
    bench.wait_until_open();
    assert_eq!(bench.add(), Ok(41));
    assert_eq!(bench.keeper.figures().reopenings, 1);
}

#[test]
fn slow_operations_are_told_of() {
    let (tell, told) = unbounded();
    let bench = Bench::with(|options| {
        let tell = Box::new(move |name, took| tell.send((name, took)).unwrap());
        Options { on_slow: Some(OnSlow { from: SECOND, tell }), ..options }
    });
    for took in [SECOND / 2, SECOND, SECOND * 3] {
        let clock = Arc::clone(&bench.clock);
        let work = move |_: &mut Thing| clock.advance(took);
        bench.keeper.call(bench.task(Effect::Frees), work).unwrap();
    }
    let all: Vec<_> = told.try_iter().collect();
    assert_eq!(all, [("test.task", SECOND), ("test.task", SECOND * 3)]);
}

#[test]
fn stopping_finishes_what_waits_closes_it_and_takes_nothing_more() {
    let bench = Bench::new();
    let (replies, answers) = unbounded();
    let release = bench.hold();
    for n in 0..3 {
        bench.submit(n, bench.until(LONG), &replies).unwrap();
    }
    #[expect(clippy::disallowed_methods, reason = "whoever stops it waits")]
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| bench.keeper.stop(SECOND));
        wait_until("it takes nothing more", || {
            bench.submit(9, bench.until(LONG), &replies) == Err(Error::Stopping)
        });
        drop(release);
        assert!(stop.join().unwrap());
    });
    let all: Vec<_> = answers_of(&answers).into_iter().filter(|(n, _)| *n != 9).collect();
    assert_eq!(all, [(0, Ok(())), (1, Ok(())), (2, Ok(()))]);
    assert_eq!(bench.world.take_notes().last().map(String::as_str), Some("closed"));
    assert_eq!((bench.keeper.state(), bench.add()), (State::Stopped, Err(Error::Stopping)));
    assert!(bench.keeper.stop(SECOND), "twice is once");
}

#[test]
fn what_is_not_done_when_the_time_to_stop_is_over_is_answered_so() {
    let bench = Bench::new();
    let (replies, answers) = unbounded();
    let release = bench.hold();
    bench.submit(1, bench.until(LONG), &replies).unwrap();
    #[expect(clippy::disallowed_methods, reason = "whoever stops it waits")]
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| bench.keeper.stop(SECOND));
        wait_until("it takes nothing more", || bench.keeper.sender.read().is_none());
        bench.clock.advance(SECOND * 2);
        drop(release);
        assert!(stop.join().unwrap());
    });
    assert_eq!(answers_of(&answers), [(1, Err(Error::Stopping))]);
    assert_eq!(bench.world.take_notes(), ["opened", "closed"]);
}

#[test]
fn stopping_does_not_wait_for_the_next_attempt_to_reopen() {
    let bench = Bench::with(|options| Options { reopen_after: [LONG; 3], ..options });
    assert_eq!(bench.break_it(), Ok("its own answer"));
    assert_eq!(bench.add(), Err(Error::ReadOnly));
    assert_eq!(bench.keeper.state(), State::Reopening);
    assert!(!bench.keeper.stop(LONG), "the failure was not mended");
    assert_eq!(bench.world.take_notes(), ["opened", "closed"]);
}

#[test]
fn a_dropped_keeper_stops() {
    let bench = Bench::new();
    let world = Arc::clone(&bench.world);
    assert_eq!(bench.add(), Ok(1));
    drop(bench);
    assert_eq!(world.take_notes(), ["opened", "closed"]);
}

#[test]
fn a_keeper_dropped_on_its_own_thread_ends_by_itself() {
    let Bench { world, clock, keeper, .. } = Bench::new();
    let keeper = Arc::new(keeper);
    let task = Task { name: "test.drop", until: clock.mono().plus(LONG), effect: Effect::Frees };
    let (go, gone) = bounded::<()>(1);
    let ran = Arc::<AtomicBool>::default();
    let (its, mark) = (Arc::clone(&keeper), Arc::clone(&ran));
    let last = move |_: &mut Thing| {
        gone.recv().ok();
        drop(its);
        mark.store(true, SeqCst);
    };
    keeper.submit(task, last, |_| ()).unwrap();
    drop(keeper);
    drop(go);
    wait_until("it closed its thing", || world.log.lock().last().is_some_and(|n| n == "closed"));
    assert!(ran.load(SeqCst));
}
