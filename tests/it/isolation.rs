//! Many operations share a commit; some fail, some panic. What is left is what the successful ones
//! made, in order, as the model says. On both engines.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::unbounded;

use holdfast::base::rng::Rng;
use holdfast::base::time::Clock;
use holdfast::exec::writer::{Effect, Opener, Options, Terms, Writer};
use holdfast::exec::{CallError, Error};
use holdfast::store::redb::Redb;
use holdfast::store::sqlite::Sqlite;
use holdfast::store::{
    self, Batch, Commit, Engine, Finish, KeyRange, Opening, Order, Table, Write,
};
use holdfast::testing::clock::SystemClock;
use holdfast::testing::contract::random_change;
use holdfast::testing::model::Model;
use holdfast::testing::{content, seeds};

const CACHE_BYTES: u64 = 4 << 20;
const OPERATIONS: u64 = 150;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Succeeds,
    Fails,
    Panics,
}

/// What operation `n` of history `seed` does, and how it ends.
fn change(tx: &mut dyn Write, seed: u64, n: u64) -> Result<Fate, store::Error> {
    let mut rng = Rng::from_seed(seed << 20 | n);
    for _ in 0..rng.below(5) {
        random_change(tx, &mut rng)?;
    }
    // A row of its own and a counter that all share: order and number of the successful ones.
    let before = tx.get(Table::Meta, b"count")?.map_or(0, |bytes| {
        u64::from_be_bytes(bytes.as_slice().try_into().expect("a counter has eight bytes"))
    });
    tx.put(Table::Meta, b"count", &(before + 1).to_be_bytes())?;
    tx.put(Table::Outbox, &before.to_be_bytes(), &n.to_be_bytes())?;
    Ok([Fate::Succeeds, Fate::Succeeds, Fate::Fails, Fate::Panics][rng.index(4)])
}

fn apply(tx: &mut dyn Write, seed: u64, n: u64) -> Result<(), store::Error> {
    match change(tx, seed, n)? {
        Fate::Succeeds => Ok(()),
        Fate::Fails => Err(store::Error::TooManyRows),
        // In the midst of a scan, where the engine has pages in hand.
        Fate::Panics => tx
            .scan(Table::Outbox, &KeyRange::all(), Order::Reverse, &mut |_, _| {
                std::panic::resume_unwind(Box::new("a planned panic"))
            })
            .map(|()| unreachable!("BUG: the operation has put a row there")),
    }
}

/// The model does each operation in a commit of its own; the fates of all.
fn model_of(seed: u64) -> (Model, Vec<Fate>) {
    let model = Model::default();
    let mut fates = Vec::new();
    for n in 0..OPERATIONS {
        let whole = model.write(Commit::Plain, &mut |batch: &mut dyn Batch| {
            batch.begin()?;
            let fate = change(batch, seed, n)?;
            fates.push(fate);
            if fate == Fate::Succeeds {
                batch.keep()?;
            } else {
                batch.undo()?;
            }
            Ok(Finish::Commit)
        });
        whole.unwrap();
    }
    (model, fates)
}

fn check(seed: u64, opener: Opener, reopen: &dyn Fn() -> Box<dyn Engine>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let until = clock.mono().plus(Duration::from_hours(1));
    let writer = Writer::start(Options::new("test", Box::new(|| ())), opener, clock).unwrap();
    let (replies, answers) = unbounded();
    let tickets: Vec<_> = (0..OPERATIONS)
        .map(|n| {
            let replies = replies.clone();
            let reply = move |result: Result<(), CallError<store::Error>>| {
                let fate = match result {
                    Ok(()) => Fate::Succeeds,
                    Err(CallError::Refused(store::Error::TooManyRows)) => Fate::Fails,
                    Err(CallError::Failed(Error::Panicked)) => Fate::Panics,
                    Err(other) => panic!("operation {n}: {other:?}"),
                };
                replies.send((n, fate)).unwrap();
            };
            let terms = Terms { until, bytes: 1_000, effect: Effect::Grows };
            writer.submit(terms, move |tx| apply(tx, seed, n), reply).unwrap()
        })
        .collect();

    let (model, fates) = model_of(seed);
    for (n, fate) in (0_u64..).zip(&fates) {
        assert_eq!(answers.recv().unwrap(), (n, *fate), "seed={seed}");
    }
    let figures = writer.figures();
    assert!(figures.batch_ops.count() < OPERATIONS, "seed={seed}: operations shared commits");
    assert!(writer.stop(Duration::from_mins(1)));
    drop(tickets);
    let (found, want) = (content(&*reopen()).unwrap(), content(&model).unwrap());
    assert_eq!(found, want, "seed={seed}");
}

fn check_engine(name: &str, open: fn(&Path, u64, Opening) -> store::Result<Box<dyn Engine>>) {
    for seed in seeds(12) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let its = path.clone();
        let opener: Opener = Box::new(move |opening| open(&its, CACHE_BYTES, opening));
        check(seed, opener, &|| open(&path, CACHE_BYTES, Opening::Start).unwrap());
    }
}

#[test]
fn only_successful_operations_leave_something_in_redb() {
    check_engine("jobs.redb", |path, cache, opening| {
        Redb::open(path, cache, opening).map(|engine| Box::new(engine) as Box<dyn Engine>)
    });
}

#[test]
fn only_successful_operations_leave_something_in_sqlite() {
    check_engine("jobs.sqlite", |path, cache, opening| {
        Sqlite::open(path, cache, opening).map(|engine| Box::new(engine) as Box<dyn Engine>)
    });
}
