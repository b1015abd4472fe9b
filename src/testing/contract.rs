//! What every engine promises, as checks that run on each of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::base::limits::{DELETE_ROWS_MAX, KEY_BYTES_MAX, READ_ROWS_MAX, VALUE_BYTES_MAX};
use crate::base::rng::Rng;
use crate::store::{
    Batch, Commit, Engine, Error, Finish, Flow, KeyRange, Order, Result, Table, scan_in_pages,
};

use super::model::Model;
use super::{content, put_one, seeds};

/// An engine under test: a way to open it, each time on the same place.
pub struct Subject<'s> {
    open: &'s dyn Fn() -> Box<dyn Engine>,
}

impl<'s> Subject<'s> {
    /// An engine that `open` opens.
    pub fn new(open: &'s dyn Fn() -> Box<dyn Engine>) -> Subject<'s> {
        Subject { open }
    }

    /// An engine with nothing in it.
    fn empty(&self) -> Box<dyn Engine> {
        let engine = (self.open)();
        for table in Table::ALL {
            write(&*engine, |batch| {
                while batch.delete_range(table, &KeyRange::all(), DELETE_ROWS_MAX)? != 0 {}
                Ok(())
            })
            .expect("emptying the engine");
        }
        engine
    }
}

/// Runs `body` as one operation and commits it.
fn write(engine: &dyn Engine, body: impl Fn(&mut dyn Batch) -> Result) -> Result {
    engine.write(Commit::Plain, &mut |batch| {
        batch.begin()?;
        body(batch)?;
        batch.keep()?;
        Ok(Finish::Commit)
    })
}

fn get(engine: &dyn Engine, table: Table, key: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    engine
        .read(&mut |view| {
            found = view.get(table, key)?;
            Ok(())
        })
        .expect("reading");
    found
}

/// The keys that a scan shows, at most `most` of them.
fn keys(engine: &dyn Engine, range: &KeyRange, order: Order, most: usize) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    engine
        .read(&mut |view| {
            view.scan(Table::Jobs, range, order, &mut |key, _| {
                seen.push(key.to_vec());
                if seen.len() < most { Flow::On } else { Flow::Stop }
            })
        })
        .expect("scanning");
    seen
}

/// The whole contract. Panics with the promise that was broken.
pub fn check(subject: &Subject<'_>) {
    rows_are_what_was_last_put(subject);
    scans_show_what_lies_in_the_range_in_order(subject);
    a_refused_write_leaves_nothing(subject);
    a_panic_in_a_write_leaves_nothing(subject);
    an_operation_is_undone_alone(subject);
    a_view_does_not_change(subject);
    deletes_are_counted_and_bounded(subject);
    sizes_are_bounded(subject);
    a_view_shows_so_many_rows_and_pages_show_all(subject);
    batches_do_what_the_model_does(subject);
}

fn rows_are_what_was_last_put(subject: &Subject<'_>) {
    let engine = subject.empty();
    put_one(&*engine, Table::Jobs, b"a", b"1");
    put_one(&*engine, Table::Jobs, b"a", b"2");
    put_one(&*engine, Table::Ready, b"a", b"other");
    put_one(&*engine, Table::Jobs, b"", b"");
    let check = |engine: &dyn Engine| {
        assert_eq!(get(engine, Table::Jobs, b"a"), Some(b"2".to_vec()));
        assert_eq!(get(engine, Table::Ready, b"a"), Some(b"other".to_vec()));
        assert_eq!(get(engine, Table::Jobs, b""), Some(Vec::new()));
        assert_eq!(get(engine, Table::Jobs, b"b"), None);
        assert_eq!(get(engine, Table::Outbox, b"a"), None);
    };
    check(&*engine);
    drop(engine);
    check(&*(subject.open)());
}

fn scans_show_what_lies_in_the_range_in_order(subject: &Subject<'_>) {
    let engine = subject.empty();
    let all: Vec<Vec<u8>> =
        [&b""[..], b"\0", b"\0\0", b"a", b"a\0", b"aa", b"b", b"\xff", b"\xff\xff"]
            .iter()
            .map(|key| key.to_vec())
            .collect();
    for key in all.iter().rev() {
        put_one(&*engine, Table::Jobs, key, b"v");
    }
    put_one(&*engine, Table::Ready, b"a", b"not in this table");
    let ranges = [
        (KeyRange::all(), 0..9),
        (KeyRange::prefix(b"a"), 3..6),
        (KeyRange::prefix(b"\xff"), 7..9),
        (KeyRange::prefix(b"zz"), 0..0),
        (KeyRange::between(b"\0", b"aa"), 1..5),
        (KeyRange::between(b"b", b"b"), 0..0),
        (KeyRange::between(b"b", b"a"), 0..0),
    ];
    for (range, want) in ranges {
        let mut want = all[want].to_vec();
        assert_eq!(keys(&*engine, &range, Order::Forward, 99), want, "{range:?}");
        assert_eq!(
            keys(&*engine, &range, Order::Forward, 2),
            want[..want.len().min(2)],
            "{range:?}, stopped"
        );
        want.reverse();
        assert_eq!(keys(&*engine, &range, Order::Reverse, 99), want, "{range:?}, reverse");
    }
}

fn a_refused_write_leaves_nothing(subject: &Subject<'_>) {
    let engine = subject.empty();
    put_one(&*engine, Table::Jobs, b"a", b"1");
    let before = content(&*engine).expect("reading");
    let refused = engine.write(Commit::Plain, &mut |batch| {
        batch.begin()?;
        batch.put(Table::Jobs, b"a", b"2")?;
        batch.put(Table::Due, b"new", b"2")?;
        batch.keep()?;
        batch.begin()?;
        batch.delete(Table::Jobs, b"a")?;
        Err(Error::TooManyRows)
    });
    assert!(matches!(refused, Err(Error::TooManyRows)), "{refused:?}");
    assert_eq!(content(&*engine).expect("reading"), before);
    put_one(&*engine, Table::Jobs, b"b", b"still works");
}

fn a_panic_in_a_write_leaves_nothing(subject: &Subject<'_>) {
    let engine = subject.empty();
    put_one(&*engine, Table::Jobs, b"a", b"1");
    let before = content(&*engine).expect("reading");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        engine.write(Commit::Plain, &mut |batch| {
            batch.begin()?;
            batch.put(Table::Jobs, b"a", b"2")?;
            std::panic::resume_unwind(Box::new("a planned panic"));
        })
    }));
    assert!(panicked.is_err());
    // The handle may be dead now; what counts is what the next one finds.
    drop(engine);
    let engine = (subject.open)();
    assert_eq!(content(&*engine).expect("reading"), before);
}

fn an_operation_is_undone_alone(subject: &Subject<'_>) {
    let engine = subject.empty();
    for key in [b"a", b"b", b"c"] {
        put_one(&*engine, Table::Jobs, key, b"old");
    }
    engine
        .write(Commit::Plain, &mut |batch| {
            batch.begin()?;
            batch.put(Table::Jobs, b"a", b"kept")?;
            batch.keep()?;
            assert!(batch.is_dirty());

            batch.begin()?;
            batch.put(Table::Jobs, b"a", b"undone")?;
            batch.put(Table::Jobs, b"a", b"undone twice")?;
            batch.put(Table::Jobs, b"new", b"undone")?;
            batch.delete(Table::Jobs, b"new")?;
            batch.delete(Table::Jobs, b"b")?;
            assert_eq!(batch.delete_range(Table::Jobs, &KeyRange::all(), 9)?, 2);
            batch.put(Table::Leases, b"l", b"undone")?;
            assert_eq!(batch.get(Table::Jobs, b"a")?, None);
            batch.undo()?;
            assert_eq!(batch.get(Table::Jobs, b"a")?, Some(b"kept".to_vec()));

            batch.begin()?;
            assert!(batch.delete(Table::Jobs, b"c")?);
            assert!(!batch.delete(Table::Jobs, b"c")?);
            batch.keep()?;
            Ok(Finish::Commit)
        })
        .expect("writing");
    let left: Vec<(Vec<u8>, Vec<u8>)> =
        content(&*engine).expect("reading").into_iter().map(|((_, k), v)| (k, v)).collect();
    let row = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
    assert_eq!(left, [row(b"a", b"kept"), row(b"b", b"old")]);
}

fn a_view_does_not_change(subject: &Subject<'_>) {
    let engine = subject.empty();
    put_one(&*engine, Table::Jobs, b"a", b"1");
    engine
        .read(&mut |view| {
            put_one(&*engine, Table::Jobs, b"a", b"2");
            put_one(&*engine, Table::Jobs, b"b", b"2");
            assert_eq!(view.get(Table::Jobs, b"a")?, Some(b"1".to_vec()));
            let mut seen = 0;
            view.scan(Table::Jobs, &KeyRange::all(), Order::Forward, &mut |_, value| {
                assert_eq!(value, b"1");
                seen += 1;
                Flow::On
            })?;
            assert_eq!(seen, 1);
            Ok(())
        })
        .expect("reading");
    assert_eq!(get(&*engine, Table::Jobs, b"a"), Some(b"2".to_vec()));
}

fn deletes_are_counted_and_bounded(subject: &Subject<'_>) {
    let engine = subject.empty();
    for key in 0..10_u8 {
        put_one(&*engine, Table::Jobs, &[key], b"v");
    }
    write(&*engine, |batch| {
        assert_eq!(batch.delete_range(Table::Jobs, &KeyRange::between(&[2], &[8]), 3)?, 3);
        assert_eq!(batch.delete_range(Table::Jobs, &KeyRange::between(&[2], &[8]), 9)?, 3);
        assert_eq!(batch.delete_range(Table::Jobs, &KeyRange::between(&[2], &[8]), 9)?, 0);
        assert_eq!(batch.delete_range(Table::Jobs, &KeyRange::between(&[9], &[3]), 9)?, 0);
        assert_eq!(batch.delete_range(Table::Jobs, &KeyRange::all(), 0)?, 0);
        Ok(())
    })
    .expect("deleting");
    let left = keys(&*engine, &KeyRange::all(), Order::Forward, 99);
    assert_eq!(left, [[0], [1], [8], [9]]);
    let refused = write(&*engine, |batch| {
        batch.delete_range(Table::Jobs, &KeyRange::all(), DELETE_ROWS_MAX + 1).map(|_| ())
    });
    assert!(matches!(refused, Err(Error::DeletesTooMany(_))), "{refused:?}");
}

fn sizes_are_bounded(subject: &Subject<'_>) {
    let engine = subject.empty();
    let (key, value) = (vec![b'k'; KEY_BYTES_MAX], vec![b'v'; VALUE_BYTES_MAX]);
    put_one(&*engine, Table::Jobs, &key, &value);
    assert_eq!(get(&*engine, Table::Jobs, &key), Some(value.clone()));
    let long = |mut bytes: Vec<u8>| {
        bytes.push(b'!');
        bytes
    };
    let refused = write(&*engine, |batch| batch.put(Table::Jobs, &long(key.clone()), b""));
    assert!(matches!(refused, Err(Error::KeyTooLarge(_))), "{refused:?}");
    let refused = write(&*engine, |batch| batch.put(Table::Jobs, b"k", &long(value.clone())));
    assert!(matches!(refused, Err(Error::ValueTooLarge(_))), "{refused:?}");
    assert_eq!(content(&*engine).expect("reading").len(), 1);
}

fn a_view_shows_so_many_rows_and_pages_show_all(subject: &Subject<'_>) {
    let engine = subject.empty();
    let count = READ_ROWS_MAX + 1;
    write(&*engine, |batch| {
        (0..count).try_for_each(|n| batch.put(Table::Jobs, &n.to_be_bytes(), b""))
    })
    .expect("filling");
    let mut seen = 0;
    let refused = engine.read(&mut |view| {
        view.scan(Table::Jobs, &KeyRange::all(), Order::Forward, &mut |_, _| {
            seen += 1;
            Flow::On
        })
    });
    assert!(matches!(refused, Err(Error::TooManyRows)), "{refused:?}");
    assert_eq!(seen, READ_ROWS_MAX);
    for page_rows in [1_000, count / 2, READ_ROWS_MAX] {
        let mut next = 0_u64;
        scan_in_pages(&*engine, Table::Jobs, &KeyRange::all(), page_rows, &mut |key, _| {
            assert_eq!(key, next.to_be_bytes());
            next += 1;
            Flow::On
        })
        .expect("scanning in pages");
        assert_eq!(next, count, "pages of {page_rows}");
    }
}

/// Random batches of kept and undone operations, against the model, over a reopening.
fn batches_do_what_the_model_does(subject: &Subject<'_>) {
    for seed in seeds(30) {
        let mut rng = Rng::from_seed(seed);
        let (engine, model) = (subject.empty(), Model::default());
        for _ in 0..6 {
            let batch_seed = rng.next_u64();
            for engine in [&*engine, &model as &dyn Engine] {
                engine
                    .write(Commit::Plain, &mut |batch| {
                        random_batch(batch, &mut Rng::from_seed(batch_seed))
                    })
                    .expect("writing");
            }
        }
        let want = content(&model).expect("reading the model");
        assert_eq!(content(&*engine).expect("reading"), want, "seed={seed}");
        drop(engine);
        assert_eq!(content(&*(subject.open)()).expect("reading"), want, "seed={seed}, reopened");
    }
}

fn random_batch(batch: &mut dyn Batch, rng: &mut Rng) -> Result<Finish> {
    for _ in 0..=rng.below(5) {
        batch.begin()?;
        for _ in 0..rng.below(6) {
            random_change(batch, rng)?;
        }
        if rng.one_in(3) { batch.undo()? } else { batch.keep()? }
    }
    Ok(if rng.one_in(6) { Finish::Abandon } else { Finish::Commit })
}

/// One random change in a small space, so that changes meet.
pub fn random_change(tx: &mut (impl crate::store::Write + ?Sized), rng: &mut Rng) -> Result {
    let table = Table::ALL[rng.index(3)];
    let key = |rng: &mut Rng| {
        let len = rng.index(3);
        (0..len).map(|_| [0, b'a', 0xff][rng.index(3)]).collect::<Vec<u8>>()
    };
    match rng.below(8) {
        0..5 => {
            let (key, len) = (key(rng), [0, 3, 200, 5_000][rng.index(4)]);
            tx.put(table, &key, &rng.bytes(len))
        }
        5 | 6 => tx.delete(table, &key(rng)).map(|_| ()),
        _ => {
            let range = KeyRange { from: key(rng), to: rng.one_in(2).then(|| key(rng)) };
            tx.delete_range(table, &range, rng.below(4)).map(|_| ())
        }
    }
}
