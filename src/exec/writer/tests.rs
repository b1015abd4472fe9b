//! The writer, as its callers meet it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;

use super::{Effect, Opener, Options, State, Terms, Writer};
use crate::base::limits::{
    BATCH_OPS_MAX, DISK_MARGIN_BYTES, WRITER_QUEUE_BYTES_MAX, WRITER_QUEUE_OPS_MAX,
};
use crate::base::time::Clock;
use crate::exec::{CallError, Error, start_thread};
use crate::store::redb::Redb;
use crate::store::{self, Commit, Engine, Opening, Table, Write};
use crate::testing::clock::{ManualClock, SystemClock};
use crate::testing::disk::{EIO, Fault, PANIC, SimDisk};
use crate::testing::{Content, content, wait_until};

const CACHE_BYTES: u64 = 4 << 20;
const LONG: Duration = Duration::from_hours(1);

/// A writer on a simulated disk.
struct Bench {
    disk: Arc<SimDisk>,
    clock: Arc<SystemClock>,
    failed: Arc<AtomicBool>,
    /// How often the file was opened, or tried to be.
    openings: Arc<AtomicU64>,
    writer: Writer,
}

fn opener(disk: &Arc<SimDisk>) -> Opener {
    let disk = Arc::clone(disk);
    Box::new(move |opening| {
        let disk = Arc::<SimDisk>::clone(&disk);
        Redb::on_disk(disk, CACHE_BYTES, opening).map(|engine| Box::new(engine) as Box<dyn Engine>)
    })
}

impl Bench {
    /// With an idle time that never ends, so that every commit is one of the test's.
    fn new() -> Bench {
        Bench::idle_after(LONG)
    }

    fn idle_after(idle: Duration) -> Bench {
        let (disk, clock) = (Arc::new(SimDisk::default()), Arc::new(SystemClock::new()));
        let failed = Arc::new(AtomicBool::new(false));
        let tell = Arc::clone(&failed);
        let options = Options {
            idle,
            // However slow the machine: a batch ends when nothing more waits.
            batch_time: LONG,
            reopen_after: [Duration::ZERO; 3],
            ..Options::new("test", Box::new(move || tell.store(true, SeqCst)))
        };
        let openings = Arc::<AtomicU64>::default();
        let (count, open) = (Arc::clone(&openings), opener(&disk));
        let counted: Opener = Box::new(move |opening| {
            count.fetch_add(1, SeqCst);
            open(opening)
        });
        let its_clock: Arc<dyn Clock> = Arc::<SystemClock>::clone(&clock);
        let writer = Writer::start(options, counted, its_clock).unwrap();
        Bench { disk, clock, failed, openings, writer }
    }

    /// Waits until the writer has left its file in order once more.
    fn settle(&self, quick_commits_before: u64) -> u64 {
        let commits = || self.writer.figures().quick_commits;
        wait_until("the extra commit is made", || quick_commits_before < commits());
        commits()
    }

    fn terms(&self, effect: Effect) -> Terms {
        Terms { until: self.clock.mono().plus(LONG), bytes: 100, effect }
    }

    fn put(&self, key: &'static str) -> Result<(), CallError<store::Error>> {
        let put = move |tx: &mut dyn Write| tx.put(Table::Jobs, key.as_bytes(), b"v");
        self.writer.call(self.terms(Effect::Grows), put)
    }

    /// Has the writer run an operation that waits until the sender is used or dropped.
    fn hold(&self) -> Sender<()> {
        let (release, held) = bounded::<()>(1);
        let (begun, has_begun) = bounded(1);
        let wait = move |_: &mut dyn Write| {
            begun.send(()).unwrap();
            held.recv().ok();
            Ok::<(), store::Error>(())
        };
        let ticket = self.writer.submit(self.terms(Effect::Frees), wait, |_| ()).unwrap();
        ticket.let_it_run();
        has_begun.recv().unwrap();
        release
    }

    /// What a power cut would leave, as a reader would find it.
    fn durable(&self) -> Content {
        durable(&self.disk)
    }
}

fn durable(disk: &SimDisk) -> Content {
    let disk = SimDisk::holding(disk.after_power_cut());
    let engine = Redb::on_disk(Arc::new(disk), CACHE_BYTES, Opening::Start).unwrap();
    content(&engine).unwrap()
}

fn keys(content: &Content) -> Vec<String> {
    content.keys().map(|(_, key)| String::from_utf8(key.clone()).unwrap()).collect()
}

/// Replies that keep their order.
type Replies = (Sender<(u64, bool)>, Receiver<(u64, bool)>);

#[test]
fn a_lone_call_is_answered_after_exactly_one_commit_with_one_sync() {
    let bench = Bench::new();
    for key in ["a", "b", "c", "d"] {
        bench.put(key).unwrap();
    }
    let before = bench.writer.figures().engine.unwrap();
    bench.put("e").unwrap();
    assert_eq!(keys(&bench.durable()), ["a", "b", "c", "d", "e"], "answered before it was durable");
    let after = bench.writer.figures().engine.unwrap();
    assert_eq!((after.commits - before.commits, after.syncs - before.syncs), (1, 1));
}

#[test]
fn calls_that_wait_share_a_commit_and_are_answered_in_order() {
    let bench = Bench::new();
    let (replies, answers): Replies = unbounded();
    let release = bench.hold();
    let mut tickets = Vec::new();
    for n in 0..100_u64 {
        let replies = replies.clone();
        let put = move |tx: &mut dyn Write| tx.put(Table::Jobs, &n.to_be_bytes(), b"v");
        let reply = move |result: Result<(), CallError<store::Error>>| {
            replies.send((n, result.is_ok())).unwrap();
        };
        tickets.push(bench.writer.submit(bench.terms(Effect::Grows), put, reply).unwrap());
    }
    assert_eq!(bench.writer.figures().queue_ops, 101);
    drop(release);
    let got: Vec<(u64, bool)> = (0..100).map(|_| answers.recv().unwrap()).collect();
    assert_eq!(got, (0..100).map(|n| (n, true)).collect::<Vec<_>>());
    // They came while the first one was at work, and are part of its commit.
    assert_eq!(bench.writer.figures().engine.unwrap().commits, 1);
    assert_eq!(bench.writer.figures().batch_ops.max, 101);
    assert_eq!(bench.durable().len(), 100);
}

#[test]
fn an_operation_that_fails_or_panics_is_undone_alone() {
    let bench = Bench::new();
    let (replies, answers) = unbounded();
    let release = bench.hold();
    let mut tickets = Vec::new();
    for n in 0..9_u8 {
        let replies = replies.clone();
        let change = move |tx: &mut dyn Write| {
            tx.put(Table::Jobs, &[n], b"mine")?;
            tx.put(Table::Ready, b"last", &[n])?;
            match n % 3 {
                0 => Ok(n),
                1 => Err(store::Error::TooManyRows),
                _ => std::panic::resume_unwind(Box::new("a planned panic")),
            }
        };
        let reply = move |result| replies.send(result).unwrap();
        tickets.push(bench.writer.submit(bench.terms(Effect::Grows), change, reply).unwrap());
    }
    drop(release);
    for n in 0..9_u8 {
        let result = answers.recv().unwrap();
        match n % 3 {
            0 => assert_eq!(result.unwrap(), n),
            1 => assert!(matches!(result, Err(CallError::Refused(store::Error::TooManyRows)))),
            _ => assert!(matches!(result, Err(CallError::Failed(Error::Panicked)))),
        }
    }
    let found: Vec<(Vec<u8>, Vec<u8>)> =
        bench.durable().into_iter().map(|((_, key), value)| (key, value)).collect();
    let row = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
    let mine = |n: u8| row(&[n], b"mine");
    assert_eq!(found, [mine(0), mine(3), mine(6), row(b"last", &[6])]);
    let figures = bench.writer.figures();
    assert_eq!((figures.done, figures.refused, figures.panicked), (4, 3, 3));
    assert_eq!(figures.engine.unwrap().commits, 1);
}

#[test]
fn a_refusal_alone_costs_no_commit() {
    let bench = Bench::new();
    bench.put("a").unwrap();
    let before = bench.writer.figures().engine.unwrap();
    let refuse = |tx: &mut dyn Write| {
        tx.put(Table::Jobs, b"never", b"v")?;
        Err::<(), _>(store::Error::TooManyRows)
    };
    let refused = bench.writer.call(bench.terms(Effect::Grows), refuse);
    assert!(matches!(refused, Err(CallError::Refused(store::Error::TooManyRows))), "{refused:?}");
    let after = bench.writer.figures().engine.unwrap();
    assert_eq!((after.commits, after.syncs), (before.commits, before.syncs));
    assert_eq!(keys(&bench.durable()), ["a"]);
}

#[test]
fn the_queue_is_bounded_by_count_and_by_bytes() {
    let bench = Bench::new();
    let release = bench.hold();
    let mut tickets = Vec::new();
    let mut refused = None;
    let nothing = |_: &mut dyn Write| Ok::<(), store::Error>(());
    for n in 1..=WRITER_QUEUE_OPS_MAX {
        match bench.writer.submit(bench.terms(Effect::Frees), nothing, |_| ()) {
            Ok(ticket) => tickets.push(ticket),
            Err(error) => {
                refused = Some((n, error));
                break;
            }
        }
    }
    let (n, error) = refused.expect("the queue has an end");
    assert_eq!(n, WRITER_QUEUE_OPS_MAX, "the held one counts as well");
    assert!(matches!(error, Error::Overloaded { .. }), "{error:?}");
    tickets.clear();
    drop(release);
    wait_until("the queue is empty", || bench.writer.figures().queue_ops == 0);
    assert_eq!(bench.writer.figures().skipped, WRITER_QUEUE_OPS_MAX as u64 - 1);

    let release = bench.hold();
    let large = Terms { bytes: WRITER_QUEUE_BYTES_MAX, ..bench.terms(Effect::Frees) };
    let refused = bench.writer.submit(large, nothing, |_| ()).err();
    assert!(matches!(refused, Some(Error::Overloaded { .. })), "{refused:?}");
    assert_eq!(bench.writer.figures().overloaded, 2);
    drop(release);
}

#[test]
fn a_call_that_could_not_be_answered_in_time_is_refused_at_once() {
    let bench = Bench::new();
    bench.put("a").unwrap();
    let release = bench.hold();
    // The batch in work has begun before now, so it is the better witness of how long things take.
    let terms = Terms { until: bench.clock.mono(), ..bench.terms(Effect::Grows) };
    let refused = bench.writer.call(terms, |tx| tx.put(Table::Jobs, b"late", b"v"));
    assert!(
        matches!(refused, Err(CallError::Failed(Error::Overloaded { wait })) if !wait.is_zero()),
        "{refused:?}"
    );
    drop(release);
    bench.put("b").unwrap();
    assert_eq!(keys(&bench.durable()), ["a", "b"]);
}

#[test]
fn an_operation_whose_caller_is_gone_is_skipped() {
    let bench = Bench::new();
    let release = bench.hold();
    let ran = Arc::new(AtomicU64::new(0));
    let count = |ran: &Arc<AtomicU64>| {
        let ran = Arc::clone(ran);
        move |tx: &mut dyn Write| {
            ran.fetch_add(1, SeqCst);
            tx.put(Table::Jobs, b"k", b"v")
        }
    };
    let answered = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&answered);
    let reply = move |_| note.store(true, SeqCst);
    drop(bench.writer.submit(bench.terms(Effect::Grows), count(&ran), reply).unwrap());
    let kept = bench.writer.submit(bench.terms(Effect::Grows), count(&ran), |_| ()).unwrap();
    kept.let_it_run();
    drop(release);
    bench.put("after").unwrap();
    assert_eq!(ran.load(SeqCst), 1, "the one that was let run, and not the other");
    assert!(!answered.load(SeqCst));
    assert_eq!(bench.writer.figures().skipped, 1);
}

#[test]
fn a_deadline_that_passes_while_waiting_takes_the_operation_back() {
    let clock = Arc::new(ManualClock::default());
    let disk = Arc::new(SimDisk::default());
    let its_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let options = Options { idle: LONG, ..Options::new("test", Box::new(|| ())) };
    let writer = Arc::new(Writer::start(options, opener(&disk), its_clock).unwrap());

    let (release, held) = bounded::<()>(1);
    let (begun, has_begun) = bounded(1);
    let wait = move |_: &mut dyn Write| {
        begun.send(()).unwrap();
        held.recv().ok();
        Ok::<(), store::Error>(())
    };
    let now = clock.mono();
    let terms = |ms| {
        let until = now.plus(Duration::from_millis(ms));
        Terms { until, bytes: 0, effect: Effect::Frees }
    };
    writer.submit(terms(1000), wait, |_| ()).unwrap().let_it_run();
    has_begun.recv().unwrap();

    let (waiting, caller) = (Arc::clone(&writer), terms(20));
    let (done, outcome) = bounded(1);
    start_thread("caller", move || {
        done.send(waiting.call(caller, |tx| tx.put(Table::Jobs, b"late", b"v"))).unwrap();
    })
    .unwrap();
    wait_until("the call waits", || writer.figures().queue_ops == 2);
    clock.advance(Duration::from_millis(20));
    let refused = outcome.recv().unwrap();
    assert!(matches!(refused, Err(CallError::Failed(Error::Overloaded { .. }))), "{refused:?}");
    drop(release);
    assert!(writer.stop(LONG));
    assert!(durable(&disk).is_empty(), "what was taken back must not run");
}

#[test]
fn a_batch_whose_commit_fails_is_of_unknown_outcome_and_the_file_is_reopened() {
    let bench = Bench::new();
    bench.put("a").unwrap();
    let (replies, answers) = unbounded();
    let release = bench.hold();
    let mut tickets = Vec::new();
    for n in 0..3_u8 {
        let replies = replies.clone();
        let change = move |tx: &mut dyn Write| {
            tx.put(Table::Jobs, &[b'x', b'0' + n], b"v")?;
            // Also who is refused must not know more than the disk.
            if n == 1 { Err(store::Error::TooManyRows) } else { Ok(()) }
        };
        let reply = move |result| replies.send(result).unwrap();
        tickets.push(bench.writer.submit(bench.terms(Effect::Grows), change, reply).unwrap());
    }
    let next = bench.disk.operations();
    bench.disk.fail([Fault { at: next + 3, errno: EIO, for_good: false }]);
    drop(release);
    for _ in 0..3 {
        let result = answers.recv().unwrap();
        assert_eq!(
            result.err().map(|error| format!("{error:?}")).as_deref(),
            Some("Failed(OutcomeUnknown)")
        );
    }
    wait_until("the file is open again", || bench.writer.state() == State::Open);
    bench.put("b").unwrap();
    let found = keys(&bench.durable());
    assert!(found.starts_with(&["a".to_owned(), "b".to_owned()]), "{found:?}");
    assert!(!found.contains(&"x1".to_owned()), "{found:?}");
    let figures = bench.writer.figures();
    // The one that was held is of the same batch.
    assert_eq!((figures.unknown, figures.failures, figures.reopenings), (4, 1, 1));
    assert!(figures.last_failure.is_some());
    assert!(bench.writer.stop(LONG), "a failure that was mended is no disorder");
}

#[test]
fn a_reopening_that_fails_is_tried_again() {
    let bench = Bench::new();
    bench.put("a").unwrap();
    let next = bench.disk.operations();
    // The commit fails, and then the first thing that reopening does, twice.
    let fault = |at| Fault { at, errno: EIO, for_good: false };
    bench.disk.fail([fault(next), fault(next + 1), fault(next + 2)]);
    bench.put("b").unwrap_err();
    wait_until("the file is open again", || bench.writer.state() == State::Open);
    bench.put("c").unwrap();
    assert_eq!(
        bench.openings.load(SeqCst),
        4,
        "once at the start, and three times after it failed"
    );
    let figures = bench.writer.figures();
    assert_eq!((figures.failures, figures.reopenings), (1, 1));
    assert!(keys(&bench.durable()).contains(&"c".to_owned()));
}

#[test]
fn a_slow_reader_is_waited_for_before_the_file_is_opened_anew() {
    let bench = Bench::new();
    bench.put("a").unwrap();
    let (begun, has_begun) = bounded(1);
    let (release, held) = bounded::<()>(1);
    let writer = &bench.writer;
    #[expect(clippy::disallowed_methods, reason = "a reader that takes its time")]
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.read(|_| {
                begun.send(()).unwrap();
                held.recv().ok();
                Ok::<(), store::Error>(())
            })
        });
        has_begun.recv().unwrap();
        let at = bench.disk.operations();
        bench.disk.fail([Fault { at, errno: EIO, for_good: false }]);
        bench.put("b").unwrap_err();
        // Several times the three attempts' worth of waiting.
        for _ in 0..20 {
            assert!(matches!(bench.put("c"), Err(CallError::Failed(Error::ReadOnly))));
            std::thread::park_timeout(Duration::from_millis(2));
        }
        assert_eq!(bench.openings.load(SeqCst), 1, "two handles must never be open");
        assert_eq!(writer.state(), State::Reopening);
        drop(release);
        wait_until("the file is open again", || writer.state() == State::Open);
    });
    bench.put("d").unwrap();
}

/// An engine whose commits take as long as it is told.
struct Slow {
    inner: Redb,
    clock: Arc<ManualClock>,
    takes: Arc<Mutex<Duration>>,
}

impl Engine for Slow {
    fn read(&self, body: &mut store::ReadBody<'_>) -> store::Result {
        self.inner.read(body)
    }

    fn write(&self, commit: Commit, body: &mut store::WriteBody<'_>) -> store::Result {
        let result = self.inner.write(commit, body);
        self.clock.advance(*self.takes.lock());
        result
    }

    fn reserve(&self, bytes: u64) -> u64 {
        self.inner.reserve(bytes)
    }

    fn figures(&self) -> store::EngineFigures {
        self.inner.figures()
    }
}

#[test]
fn one_slow_commit_does_not_close_the_door_for_good() {
    let clock = Arc::new(ManualClock::default());
    let takes = Arc::new(Mutex::new(Duration::from_secs(10)));
    let (its_clock, its_takes) = (Arc::clone(&clock), Arc::clone(&takes));
    let opener: Opener = Box::new(move |_| {
        let inner = Redb::in_memory(CACHE_BYTES)?;
        let (clock, takes) = (Arc::clone(&its_clock), Arc::clone(&its_takes));
        Ok(Box::new(Slow { inner, clock, takes }))
    });
    let writer_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let options = Options { idle: LONG, ..Options::new("test", Box::new(|| ())) };
    let writer = Writer::start(options, opener, writer_clock).unwrap();
    let put = |key: &'static [u8]| {
        let until = clock.mono().plus(Duration::from_secs(5));
        let terms = Terms { until, bytes: 100, effect: Effect::Grows };
        writer.call(terms, move |tx| tx.put(Table::Jobs, key, b"v"))
    };
    put(b"slow").unwrap();
    *takes.lock() = Duration::from_millis(1);
    for key in [&b"a"[..], b"b", b"c"] {
        put(key).unwrap();
    }
    assert_eq!(writer.figures().overloaded, 0);
}

#[test]
fn a_panic_out_of_the_engine_is_a_failure_of_the_file() {
    let bench = Bench::new();
    bench.put("a").unwrap();
    let planned = |at| Fault { at, errno: PANIC, for_good: false };
    bench.disk.fail([planned(bench.disk.operations())]);
    // In the commit, where the outcome is open, or before it, where it is not.
    let lost = bench.put("b");
    assert!(
        matches!(lost, Err(CallError::Failed(Error::OutcomeUnknown | Error::ReadOnly))),
        "{lost:?}"
    );
    wait_until("the file is open again", || bench.writer.state() == State::Open);
    bench.put("c").unwrap();

    // In a read of a page that was not read since the file was opened.
    bench.disk.fail([planned(bench.disk.operations())]);
    let read = bench.writer.read(|view| view.get(Table::Ready, b"a"));
    if bench.disk.operations() != 0 && read.is_err() {
        assert!(matches!(read, Err(CallError::Failed(Error::ReadOnly))), "{read:?}");
    }
    bench.disk.fail([]);
    wait_until("the writer works", || bench.put("d").is_ok());
    let found = keys(&bench.durable());
    assert!(["a", "c", "d"].iter().all(|key| found.contains(&(*key).to_owned())), "{found:?}");
}

#[test]
fn a_file_that_cannot_be_reopened_ends_the_writer() {
    let bench = Bench::new();
    bench.put("a").unwrap();
    let next = bench.disk.operations();
    bench.disk.fail([Fault { at: next, errno: EIO, for_good: true }]);
    let refused = bench.put("b");
    assert!(
        matches!(
            refused,
            Err(CallError::Failed(Error::OutcomeUnknown | Error::ReadOnly | Error::DiskFull))
        ),
        "{refused:?}"
    );
    // The disk is so broken that not even its space is known; what frees space is still tried.
    let change = |tx: &mut dyn Write| tx.put(Table::Jobs, b"c", b"v");
    bench.writer.call(bench.terms(Effect::Frees), change).unwrap_err();
    wait_until("the writer gave up", || bench.writer.state() == State::Failed);
    wait_until("it said so", || bench.failed.load(SeqCst));
    assert!(matches!(bench.put("d"), Err(CallError::Failed(Error::ReadOnly))));
    let read = bench.writer.read(|view| view.get(Table::Jobs, b"a"));
    assert!(matches!(read, Err(CallError::Failed(Error::ReadOnly))), "{read:?}");
    assert!(!bench.writer.stop(LONG), "the file was not left in order");
    assert!(matches!(bench.put("e"), Err(CallError::Failed(Error::Stopping))));
    assert_eq!(keys(&bench.durable()), ["a"]);
}

#[test]
fn a_reader_that_meets_a_broken_file_has_it_reopened() {
    let disk = Arc::new(SimDisk::default());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = || Options {
        idle: LONG,
        reopen_after: [Duration::ZERO; 3],
        ..Options::new("test", Box::new(|| ()))
    };
    let until = clock.mono().plus(LONG);
    let terms = Terms { until, bytes: 100, effect: Effect::Grows };
    let first = Writer::start(options(), opener(&disk), Arc::clone(&clock)).unwrap();
    first.call(terms, |tx| tx.put(Table::Jobs, b"a", b"v")).unwrap();
    drop(first);
    // Opened anew, the page with the row has not been read yet.
    let writer = Writer::start(options(), opener(&disk), clock).unwrap();
    disk.fail([Fault { at: disk.operations(), errno: EIO, for_good: false }]);
    let read = writer.read(|view| view.get(Table::Jobs, b"a"));
    assert!(matches!(read, Err(CallError::Failed(Error::ReadOnly))), "{read:?}");
    wait_until("the file is open again", || writer.figures().reopenings == 1);
    wait_until("the writer works", || writer.state() == State::Open);
    let read = writer.read(|view| view.get(Table::Jobs, b"a"));
    assert!(matches!(read, Ok(Some(_))), "{read:?}");
}

#[test]
fn a_panic_in_a_read_harms_nobody() {
    let bench = Bench::new();
    bench.put("a").unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        bench.writer.read(|_| -> Result<(), store::Error> {
            std::panic::resume_unwind(Box::new("a planned panic"))
        })
    }));
    assert!(panicked.is_err());
    bench.put("b").unwrap();
    let read = bench.writer.read(|view| view.get(Table::Jobs, b"b"));
    assert!(matches!(read, Ok(Some(_))), "{read:?}");
    assert_eq!(bench.writer.figures().failures, 0);
}

#[test]
fn a_reply_that_panics_is_its_callers_loss_alone() {
    let bench = Bench::new();
    let put = |tx: &mut dyn Write| tx.put(Table::Jobs, b"a", b"v");
    let reply = |_| std::panic::resume_unwind(Box::new("a planned panic"));
    bench.writer.submit(bench.terms(Effect::Grows), put, reply).unwrap().let_it_run();
    bench.put("b").unwrap();
    assert_eq!(keys(&bench.durable()), ["a", "b"]);
    assert_eq!(bench.writer.figures().panicked, 1);
}

/// An engine with a bug: it panics where nobody expects it.
struct Buggy(Redb);

impl Engine for Buggy {
    fn read(&self, body: &mut store::ReadBody<'_>) -> store::Result {
        self.0.read(body)
    }

    fn write(&self, commit: Commit, body: &mut store::WriteBody<'_>) -> store::Result {
        self.0.write(commit, body)
    }

    fn reserve(&self, bytes: u64) -> u64 {
        if bytes != 0 {
            std::panic::resume_unwind(Box::new("a planned panic"));
        }
        self.0.reserve(bytes)
    }

    fn figures(&self) -> store::EngineFigures {
        self.0.figures()
    }
}

#[test]
fn a_bug_in_the_writer_ends_it_and_leaves_nobody_waiting() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let failed = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&failed);
    let options = Options::new("test", Box::new(move || tell.store(true, SeqCst)));
    let opener: Opener = Box::new(|_| Ok(Box::new(Buggy(Redb::in_memory(CACHE_BYTES)?)) as Box<_>));
    let until = clock.mono().plus(LONG);
    let writer = Writer::start(options, opener, clock).unwrap();
    let terms = Terms { until, bytes: 100, effect: Effect::Grows };
    let lost = writer.call(terms, |tx| tx.put(Table::Jobs, b"a", b"v"));
    assert!(matches!(lost, Err(CallError::Failed(Error::OutcomeUnknown))), "{lost:?}");
    wait_until("it said so", || failed.load(SeqCst));
    assert_eq!(writer.state(), State::Failed);
    let next = writer.call(terms, |tx| tx.put(Table::Jobs, b"b", b"v"));
    assert!(matches!(next, Err(CallError::Failed(Error::ReadOnly))), "{next:?}");
    assert!(!writer.stop(LONG), "nothing is known of the file");
}

#[test]
fn a_full_disk_refuses_growth_at_the_door_and_takes_what_frees_space() {
    let bench = Bench::idle_after(Duration::from_millis(1));
    bench.disk.set_capacity(DISK_MARGIN_BYTES + (8 << 20));
    let put = |n: u64| move |tx: &mut dyn Write| tx.put(Table::Jobs, &n.to_be_bytes(), &[7; 9_000]);
    let mut written = 0;
    let refused = loop {
        let terms = Terms { bytes: 9_000, ..bench.terms(Effect::Grows) };
        match bench.writer.call(terms, put(written)) {
            Ok(()) => written += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, CallError::Failed(Error::DiskFull)), "{refused:?}");
    assert!(100 < written, "{written}");
    assert!(bench.writer.figures().disk_short);
    for n in 0..written {
        let delete = move |tx: &mut dyn Write| tx.delete(Table::Jobs, &n.to_be_bytes());
        assert!(bench.writer.call(bench.terms(Effect::Frees), delete).unwrap(), "{n}");
    }
    assert_eq!(bench.writer.figures().failures, 0, "the engine never met the full disk");
    // Somebody makes space, and the writer finds out by itself.
    bench.disk.set_capacity(4 * DISK_MARGIN_BYTES);
    wait_until("the door is open", || !bench.writer.figures().disk_short);
    bench.put("again").unwrap();
    assert_eq!(bench.durable().len(), 1);
}

#[test]
fn an_operation_too_large_for_the_disk_is_refused_alone() {
    let bench = Bench::new();
    bench.disk.set_capacity(2 * DISK_MARGIN_BYTES);
    let release = bench.hold();
    let (replies, answers) = unbounded();
    let mut tickets = Vec::new();
    for (n, bytes) in [(0_u8, 100), (1, 20 << 20), (2, 100)] {
        let replies = replies.clone();
        let put = move |tx: &mut dyn Write| tx.put(Table::Jobs, &[n], b"v");
        let reply = move |result: Result<(), CallError<store::Error>>| {
            replies.send(result.is_ok()).unwrap();
        };
        let terms = Terms { bytes, ..bench.terms(Effect::Grows) };
        tickets.push(bench.writer.submit(terms, put, reply).unwrap());
    }
    drop(release);
    let got: Vec<bool> = (0..3).map(|_| answers.recv().unwrap()).collect();
    assert_eq!(got, [true, false, true]);
    assert!(!bench.writer.figures().disk_short);
    bench.put("after").unwrap();
    assert_eq!(bench.writer.figures().disk_full, 1);
}

#[test]
fn after_quiet_the_file_is_left_so_that_it_opens_without_repair() {
    let bench = Bench::idle_after(Duration::from_millis(1));
    let repaired = |disk: &SimDisk| {
        let disk = Arc::new(SimDisk::holding(disk.after_power_cut()));
        Redb::on_disk(disk, CACHE_BYTES, Opening::Start).unwrap().figures().repaired
    };
    // A file that was just opened is settled, too; nobody knows how it was left.
    let first = bench.settle(0);
    bench.put("a").unwrap();
    let second = bench.settle(first);
    assert!(!repaired(&bench.disk));
    // It is made once, not again and again, and what writes nothing needs none.
    let commits = bench.writer.figures().engine.unwrap().commits;
    let refuse = |tx: &mut dyn Write| {
        tx.put(Table::Jobs, b"never", b"v")?;
        Err::<(), _>(store::Error::TooManyRows)
    };
    for _ in 0..3 {
        bench.writer.call(bench.terms(Effect::Grows), refuse).unwrap_err();
    }
    assert!(!repaired(&bench.disk));
    bench.put("b").unwrap();
    assert_eq!(bench.settle(second), second + 1);
    assert_eq!(bench.writer.figures().engine.unwrap().commits, commits + 2);

    let busy = Bench::new();
    busy.put("a").unwrap();
    assert!(repaired(&busy.disk), "a kill without quiet before it means a check");
}

#[test]
fn stopping_finishes_what_waits_and_leaves_the_file_in_order() {
    let bench = Bench::new();
    let release = bench.hold();
    let tickets: Vec<_> = (0..50_u8)
        .map(|n| {
            let put = move |tx: &mut dyn Write| tx.put(Table::Jobs, &[n], b"v");
            bench.writer.submit(bench.terms(Effect::Grows), put, |_| ()).unwrap()
        })
        .collect();
    drop(release);
    assert!(bench.writer.stop(LONG));
    assert!(bench.writer.stop(LONG), "stopping twice is stopping once");
    assert_eq!(bench.durable().len(), 50);
    assert_eq!(bench.writer.state(), State::Stopped);
    assert!(matches!(bench.put("late"), Err(CallError::Failed(Error::Stopping))));
    let read = bench.writer.read(|view| view.get(Table::Jobs, b"late"));
    assert!(matches!(read, Err(CallError::Failed(Error::Stopping))), "{read:?}");
    drop(tickets);
    let disk = Arc::new(SimDisk::holding(bench.disk.after_power_cut()));
    let engine = Redb::on_disk(disk, CACHE_BYTES, Opening::Start).unwrap();
    assert!(!engine.figures().repaired);
}

#[test]
fn stopping_without_patience_answers_what_it_does_not_do() {
    let bench = Bench::new();
    let (replies, answers) = unbounded();
    let release = bench.hold();
    let mut tickets = Vec::new();
    for n in 0..3_u8 {
        let replies = replies.clone();
        let put = move |tx: &mut dyn Write| tx.put(Table::Jobs, &[n], b"v");
        let reply = move |result| replies.send(result).unwrap();
        tickets.push(bench.writer.submit(bench.terms(Effect::Grows), put, reply).unwrap());
    }
    let writer = &bench.writer;
    #[expect(clippy::disallowed_methods, reason = "one thread stops while the other lets go")]
    std::thread::scope(|scope| {
        scope.spawn(|| writer.stop(Duration::ZERO));
        // A call would wait for its answer; a ticket that is dropped is taken back.
        let nothing = |_: &mut dyn Write| Ok::<(), store::Error>(());
        wait_until("the door is closed", || {
            let knock = writer.submit(bench.terms(Effect::Frees), nothing, |_| ());
            matches!(knock, Err(Error::Stopping))
        });
        drop(release);
    });
    for _ in 0..3 {
        assert!(matches!(answers.recv().unwrap(), Err(CallError::Failed(Error::Stopping))));
    }
    assert!(bench.durable().is_empty());
}

#[test]
fn a_file_that_always_settles_needs_no_extra_commit() {
    let disk = Arc::new(SimDisk::default());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = Options { commit: Commit::Quick, ..Options::new("series", Box::new(|| ())) };
    let until = clock.mono().plus(LONG);
    let writer = Writer::start(options, opener(&disk), clock).unwrap();
    let terms = Terms { until, bytes: 100, effect: Effect::Grows };
    writer.call(terms, |tx| tx.put(Table::Jobs, b"a", b"v")).unwrap();
    let disk = Arc::new(SimDisk::holding(disk.after_power_cut()));
    let engine = Redb::on_disk(disk, CACHE_BYTES, Opening::Start).unwrap();
    assert!(!engine.figures().repaired);
    assert!(writer.stop(LONG));
    assert_eq!(writer.figures().quick_commits, 0);
}

#[test]
fn more_than_a_batch_waits_for_the_next_one_in_order() {
    let bench = Bench::new();
    let (replies, answers) = unbounded();
    let release = bench.hold();
    let many = BATCH_OPS_MAX as u64 + 500;
    let mut tickets = Vec::new();
    for n in 0..many {
        let replies = replies.clone();
        let put = move |tx: &mut dyn Write| tx.put(Table::Jobs, &n.to_be_bytes(), b"v");
        let reply = move |_: Result<(), CallError<store::Error>>| replies.send(n).unwrap();
        tickets.push(bench.writer.submit(bench.terms(Effect::Grows), put, reply).unwrap());
    }
    drop(release);
    for n in 0..many {
        assert_eq!(answers.recv().unwrap(), n);
    }
    let figures = bench.writer.figures();
    assert_eq!(bench.durable().len() as u64, many);
    assert!(figures.batch_ops.max <= BATCH_OPS_MAX as u64, "{:?}", figures.batch_ops.max);
    assert_eq!(figures.queue_ops_peak as u64, many + 1);
}
