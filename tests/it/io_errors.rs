//! Errors of the disk: the n-th operation fails, for every n of a workload.
//!
//! `EIO` and `ENOSPC`, once and for good. Nothing panics, nothing that was acknowledged is missing after
//! a power cut at the end, nothing is there that cannot be, and after the file is opened anew
//! everything works.

use std::sync::Arc;
use std::time::Duration;

use holdfast::base::time::Clock;
use holdfast::exec::writer::{Effect, Options, State, Terms, Writer};
use holdfast::exec::{CallError, Error};
use holdfast::store::redb::Redb;
use holdfast::store::{Engine, Opening};
use holdfast::testing::clock::SystemClock;
use holdfast::testing::disk::{EIO, ENOSPC, Fault, SimDisk};
use holdfast::testing::{content, ledger, wait_until};

const CACHE_BYTES: u64 = 4 << 20;
/// Enough to grow the file twice and to delete.
const STEPS: u64 = 45;

/// How a run ended.
struct Run {
    disk: Arc<SimDisk>,
    /// The last step that was answered "stored".
    acknowledged: u64,
    /// Whether a later step may be there as well.
    unknown: bool,
    errors: u64,
    operations: u64,
    state: State,
}

fn opener(disk: &Arc<SimDisk>, how: Option<Opening>) -> holdfast::exec::writer::Opener {
    let disk = Arc::clone(disk);
    Box::new(move |opening| {
        let disk = Arc::<SimDisk>::clone(&disk);
        Redb::on_disk(disk, CACHE_BYTES, how.unwrap_or(opening))
            .map(|engine| Box::new(engine) as Box<dyn Engine>)
    })
}

/// Does the ledger's steps one after the other with the fault planned; tries each until it is
/// stored, at most a few times.
fn run(fault: Option<Fault>, reopen_as: Option<Opening>) -> Run {
    let disk = Arc::new(SimDisk::default());
    let clock = Arc::new(SystemClock::new());
    let options = Options {
        idle: Duration::from_hours(1),
        reopen_after: [Duration::ZERO; 3],
        ..Options::new("test", Box::new(|| ()))
    };
    let its_clock: Arc<dyn Clock> = Arc::<SystemClock>::clone(&clock);
    let writer = Writer::start(options, opener(&disk, reopen_as), its_clock).unwrap();
    // Counted from here: what fails while a new file is being made has its own test.
    let first = disk.operations();
    disk.fail(fault.map(|fault| Fault { at: first + fault.at, ..fault }));

    let (mut acknowledged, mut unknown, mut errors) = (0, false, 0);
    let mut step = 1;
    while step <= STEPS {
        let until = clock.mono().plus(Duration::from_hours(1));
        // As what frees space, so that an error of the reserve does not end the run at the door.
        let terms = Terms { until, bytes: 9_000, effect: Effect::Frees };
        let result = writer.call(terms, move |tx| {
            // After an unknown outcome the step may be there: like a client with an idempotency key.
            let there = ledger::steps_of(tx, 0)?;
            if there < step { ledger::step(tx, 0, step) } else { Ok(()) }
        });
        match result {
            Ok(()) => {
                (acknowledged, unknown) = (step, false);
                step += 1;
                continue;
            }
            Err(CallError::Failed(Error::OutcomeUnknown)) => unknown = true,
            Err(CallError::Failed(Error::ReadOnly)) => {}
            Err(CallError::Refused(error)) => {
                // The operation saw the file fail; then the batch was not committed.
                panic!("an operation's own error must not be answered by a dead engine: {error}");
            }
            Err(CallError::Failed(other)) => panic!("step {step}: {other:?}"),
        }
        errors += 1;
        wait_until("it works again or gave up", || writer.state() != State::Reopening);
        if writer.state() == State::Failed {
            break;
        }
    }
    let state = writer.state();
    let operations = disk.operations() - first;
    writer.stop(Duration::from_mins(1));
    Run { disk, acknowledged, unknown, errors, operations, state }
}

/// What a power cut at the end leaves must be what was acknowledged.
fn check(run: &Run) -> Result<(), String> {
    let disk = Arc::new(SimDisk::holding(run.disk.after_power_cut()));
    let engine = Redb::on_disk(disk, CACHE_BYTES, Opening::Start)
        .map_err(|error| format!("UNOPENABLE: {error}"))?;
    let found = content(&engine).map_err(|error| format!("UNREADABLE: {error}"))?;
    let came_to = ledger::check(&found, &[run.acknowledged])?;
    if came_to != [run.acknowledged] && !run.unknown {
        return Err(format!("step {came_to:?} is there, and nobody was told that it may be"));
    }
    Ok(())
}

fn sweep(errno: i32, for_good: bool) {
    let whole = run(None, None);
    assert_eq!((whole.errors, whole.acknowledged), (0, STEPS));
    check(&whole).unwrap();
    let mut met = 0;
    for at in 0..whole.operations {
        let fault = Fault { at, errno, for_good };
        let run = run(Some(fault), None);
        check(&run).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        met += u64::from(run.errors != 0);
        if for_good {
            assert!(
                run.acknowledged < STEPS && run.state == State::Failed,
                "{fault:?}: {} of {STEPS} stored, {:?}",
                run.acknowledged,
                run.state
            );
        } else {
            assert_eq!(run.acknowledged, STEPS, "{fault:?}: it must work again");
            assert_eq!(run.state, State::Open, "{fault:?}");
        }
    }
    // Some operations fail without anybody noticing (the reserve, a full disk that the reserve
    // mends); most are noticed.
    assert!(whole.operations / 4 < met || errno == ENOSPC, "{met} of {}", whole.operations);
}

#[test]
fn each_operation_of_the_disk_may_fail_once() {
    sweep(EIO, false);
}

#[test]
fn each_operation_of_the_disk_may_be_the_last() {
    sweep(EIO, true);
}

#[test]
fn the_disk_may_be_full_once() {
    sweep(ENOSPC, false);
}

#[test]
fn the_disk_may_be_full_for_good() {
    sweep(ENOSPC, true);
}

/// The control: a writer that reopens the file without distrusting what the kernel remembers of it
/// acknowledges what a power cut then takes. The sweep must see that.
#[test]
fn reopening_on_pages_that_never_reached_the_disk_is_caught() {
    let operations = run(None, None).operations;
    let lost = (0..operations).find_map(|at| {
        let fault = Fault { at, errno: EIO, for_good: false };
        check(&run(Some(fault), Some(Opening::Start))).err()
    });
    let error = lost.expect("some failed sync must matter");
    assert!(
        ["LOST", "TORN", "UNOPENABLE", "UNREADABLE"].iter().any(|w| error.contains(w)),
        "{error}"
    );
}
