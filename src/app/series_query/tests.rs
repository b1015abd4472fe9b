//! Queries of batches: each by itself, kept for as long as their steps say, and never when they failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{NAMESPACE, is_told, key};
use crate::app::Error;
use crate::base::id::TenantId;
use crate::base::limits::{
    CACHE_KEY_BYTES_MAX, CACHE_VALUE_BYTES_MAX, QUERY_DEADLINE, QUERY_DEADLINE_MAX,
};
use crate::base::name::TenantName;
use crate::base::time::{Clock as _, Mono};
use crate::exec;
use crate::exec::writer::{Effect, Terms};
use crate::series::Error as SeriesError;
use crate::series::fold::{Function, Reduce};
use crate::series::labels::Labels;
use crate::series::memory::{Incoming, Name};
use crate::series::query::{Answer, Query};
use crate::series::select::Selector;
use crate::series::{RowError, Tier};
use crate::store::Table;
use crate::testing::app::World;

const WITHIN: Duration = Duration::from_mins(1);
const DAY_MS: i64 = 86_400_000;

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap().block_on(work)
}

fn tenant(world: &World) -> TenantId {
    world.app.directory().tenant(&TenantName::parse("default").unwrap()).unwrap().id
}

fn write(world: &World, value: f64) {
    let labels = Labels::new("up", [("host", "a")]).unwrap();
    let sample =
        Incoming { place: 0, name: Name::Labels(labels), kind: None, time_ms: None, value };
    let now = world.clock.now();
    world.app.series().write(now, tenant(world), 10, &[sample]).unwrap();
}

/// The day in which the clock of tests begins, and a step of this length.
fn query(world: &World, function: Function, step_ms: i64) -> Query {
    let now_ms = world.clock.now().wall.unix_ms();
    let from_ms = now_ms - now_ms.rem_euclid(DAY_MS);
    Query {
        select: Selector::parse("up").unwrap(),
        function,
        by: None,
        reduce: None,
        from_ms: from_ms.max(now_ms - 10_000 * step_ms),
        to_ms: now_ms + 1,
        step_ms: (function != Function::Raw).then_some(step_ms),
        now_ms,
    }
}

/// The last value of all, as text.
fn last(answer: &Answer) -> Vec<u8> {
    let values = answer.lines.iter().flat_map(|line| line.points.iter().rev());
    let mut values = values.filter_map(|(_, value)| *value);
    let value = values.next();
    value.map_or(String::new(), |value| value.to_string()).into_bytes()
}

async fn batch(world: &World, queries: Vec<Query>) -> Vec<Result<String, Error>> {
    let tenant = tenant(world);
    let answers = world.app.query_batch(tenant, queries, WITHIN, last).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    answers.into_iter().map(|answer| answer.map(text)).collect()
}

async fn one(world: &World, query: Query) -> Result<String, Error> {
    batch(world, vec![query]).await.pop().unwrap()
}

fn kept(world: &World) -> u64 {
    let space = world.app.cache().space(tenant(world), NAMESPACE);
    space.map_or(0, |space| space.stats(world.clock.mono()).entries)
}

#[test]
fn each_query_of_a_batch_is_answered_by_itself_and_in_order() {
    run(async {
        let world = World::new(1);
        write(&world, 3.0);
        let good = query(&world, Function::Max, 60_000);
        let bad = Query { step_ms: Some(-1), ..good.clone() };
        let huge = Query { from_ms: 0, ..good.clone() };
        let count = Query { function: Function::Count, ..good.clone() };
        let told = batch(&world, vec![bad, good.clone(), huge, count, good]).await;
        let text = |one: Result<String, Error>| one.unwrap_or_else(|error| error.code().to_owned());
        let told: Vec<String> = told.into_iter().map(text).collect();
        assert_eq!(told, ["invalid_step", "3", "too_many_points", "1", "3"]);
        assert_eq!(kept(&world), 2, "what failed is not kept, and what is the same is kept once");
    });
}

#[test]
fn an_answer_is_kept_for_as_long_as_its_step_says() {
    run(async {
        let lives = [
            (10_000, 15),
            (59_999, 15),
            (60_000, 60),
            (299_000, 60),
            (300_000, 300),
            (3_599_000, 300),
            (3_600_000, 900),
            (DAY_MS, 900),
        ];
        for (step_ms, seconds) in lives {
            let world = World::new(1);
            write(&world, 1.0);
            let asked = query(&world, Function::Max, step_ms);
            assert_eq!(one(&world, asked.clone()).await.unwrap(), "1");
            write(&world, 2.0);
            world.clock.advance(Duration::from_millis(seconds * 1000 - 1));
            assert_eq!(one(&world, asked.clone()).await.unwrap(), "1", "{step_ms}");
            world.clock.advance(Duration::from_millis(1));
            assert_eq!(one(&world, asked.clone()).await.unwrap(), "2", "{step_ms}");
        }
    });
}

#[test]
fn ranges_of_the_same_steps_and_labels_in_another_order_share_an_answer() {
    run(async {
        let world = World::new(1);
        write(&world, 1.0);
        let asked = query(&world, Function::Max, DAY_MS);
        let by = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let one_way = Query { by: by(&["host", "rack"]), ..asked.clone() };
        let other_way = Query {
            by: by(&["rack", "host", "rack"]),
            from_ms: asked.from_ms + 1000,
            to_ms: asked.to_ms + 1000,
            select: Selector::parse(" up{ } ").unwrap(),
            ..asked.clone()
        };
        assert_eq!(one(&world, one_way).await.unwrap(), "1");
        write(&world, 2.0);
        assert_eq!(one(&world, other_way.clone()).await.unwrap(), "1");
        let differently = Query { reduce: Some(Reduce::Max), ..other_way };
        assert_eq!(one(&world, differently).await.unwrap(), "2");
    });
}

#[test]
fn samples_as_they_are_are_not_kept() {
    run(async {
        let world = World::new(1);
        write(&world, 1.0);
        let asked = query(&world, Function::Raw, 1);
        assert_eq!(one(&world, asked.clone()).await.unwrap(), "1");
        write(&world, 2.0);
        assert_eq!(one(&world, asked).await.unwrap(), "2");
        assert_eq!(kept(&world), 0);
    });
}

#[test]
fn an_answer_that_is_too_large_for_the_cache_is_given_and_not_kept() {
    run(async {
        let world = World::new(1);
        write(&world, 1.0);
        let large = |_: &Answer| vec![7; CACHE_VALUE_BYTES_MAX + 1];
        let tenant = tenant(&world);
        for _ in 0..2 {
            let asked = vec![query(&world, Function::Max, 60_000)];
            let told = world.app.query_batch(tenant, asked, WITHIN, large).await;
            assert_eq!(told[0].as_ref().map(Vec::len).ok(), Some(CACHE_VALUE_BYTES_MAX + 1));
        }
        assert_eq!(kept(&world), 0);
    });
}

#[test]
fn what_is_late_is_told_so_and_the_next_one_is_answered() {
    run(async {
        let world = World::new(1);
        write(&world, 1.0);
        let asked = query(&world, Function::Max, 60_000);
        let whose = tenant(&world);
        let late = world.app.query_series(whose, asked.clone(), Duration::ZERO).await;
        assert!(matches!(late, Err(Error::Series(SeriesError::TooLate))), "{late:?}");
        let none = Duration::ZERO;
        let late = world.app.query_batch(whose, vec![asked.clone()], none, last).await;
        assert!(matches!(late[0], Err(Error::Series(SeriesError::TooLate))), "{late:?}");
        assert_eq!(one(&world, asked.clone()).await.unwrap(), "1");
        let answer = world.app.query_series(whose, asked, WITHIN).await.unwrap();
        assert_eq!(last(&answer), b"1");
    });
}

/// Holds every thread of the pool until what it gives is dropped.
fn hold_the_pool(world: &World) -> Vec<mpsc::Sender<()>> {
    let until = world.clock.mono().plus(WITHIN);
    let hold = |_| {
        let (open, gate) = mpsc::channel::<()>();
        let work = move |_: &exec::pool::Patience| gate.recv().is_ok();
        world.app.pool().submit(until, work, |_| ()).unwrap();
        open
    };
    (0..world.app.pool().figures().threads).map(hold).collect()
}

#[test]
fn time_in_the_queue_is_not_time_of_the_query_but_the_whole_is_bounded() {
    run(async {
        let world = World::new(1);
        write(&world, 1.0);
        let asked = query(&world, Function::Max, 60_000);
        let whose = tenant(&world);
        let nearly = QUERY_DEADLINE_MAX.saturating_sub(Duration::from_millis(1));
        for (waited, is_answered) in [(nearly, true), (QUERY_DEADLINE_MAX, false)] {
            // What is kept of the round before is too old by then.
            world.clock.advance(Duration::from_mins(2));
            let gates = hold_the_pool(&world);
            let release = async {
                world.clock.advance(waited);
                drop(gates);
            };
            let queries = vec![asked.clone(), Query { function: Function::Min, ..asked.clone() }];
            let many = world.app.query_batch(whose, queries, QUERY_DEADLINE, last);
            let single = world.app.query_series(whose, asked.clone(), QUERY_DEADLINE);
            let (many, single, ()) = tokio::join!(biased; many, single, release);
            let single = single.map(|answer| last(&answer));
            for told in many.into_iter().chain([single]) {
                match told {
                    Ok(text) => assert!(is_answered && text == b"1", "{waited:?}: {text:?}"),
                    Err(Error::Series(SeriesError::TooLate)) => assert!(!is_answered, "{waited:?}"),
                    Err(error) => panic!("{waited:?}: {error}"),
                }
            }
        }
    });
}

/// Puts what is no block in the place of the series' block of this hour, or takes it away.
fn damage(world: &World, is_damaged: bool) {
    let labels = Labels::new("up", [("host", "a")]).unwrap();
    let whose = tenant(world);
    let series = world.app.series();
    let entry = series.with_memory(|memory| memory.index().find(whose, &labels).cloned());
    let hour = Tier::Raw.span_of(world.clock.now().wall.unix_ms());
    let key = [&hour.to_be_bytes()[..], &entry.unwrap().group.0.to_be_bytes(), &[0; 4]].concat();
    let until = world.clock.mono().plus(WITHIN);
    let done = series.writer().call(
        Terms { until, bytes: 100, effect: Effect::Frees },
        move |tx| -> Result<(), RowError> {
            if is_damaged {
                tx.put(Table::Raw, &key, b"no block")?;
            } else {
                tx.delete(Table::Raw, &key)?;
            }
            Ok(())
        },
    );
    done.unwrap();
}

#[test]
fn an_answer_that_lacks_damaged_blocks_says_so_and_is_not_kept() {
    run(async {
        let world = World::new(1);
        write(&world, 1.0);
        damage(&world, true);
        let asked = query(&world, Function::Max, 60_000);
        let whose = tenant(&world);
        let answer = world.app.query_series(whose, asked.clone(), WITHIN).await.unwrap();
        assert_eq!(answer.damaged, 1);
        assert_eq!(last(&answer), b"1", "its neighbours are answered");
        let told = *world.app.series().damage_told.lock();
        assert_eq!(told, Some(world.clock.mono()), "the log says it");
        assert_eq!(one(&world, asked.clone()).await.unwrap(), "1");
        assert_eq!(kept(&world), 0);
        damage(&world, false);
        assert_eq!(one(&world, asked.clone()).await.unwrap(), "1");
        assert_eq!(kept(&world), 1);
        assert_eq!(world.app.query_series(whose, asked, WITHIN).await.unwrap().damaged, 0);
    });
}

#[test]
fn damage_is_told_once_in_a_while() {
    let last = Mutex::default();
    let at = |ms: u64| Mono::from_ns(ms * 1_000_000);
    let told = [0, 1, 59_999, 60_000, 60_001, 119_999, 500_000].map(|ms| is_told(&last, at(ms)));
    assert_eq!(told, [true, false, false, true, false, false, true]);
}

#[test]
fn when_the_pool_is_full_queries_are_refused_and_nothing_is_left_behind() {
    run(async {
        let world = World::new(1);
        write(&world, 1.0);
        let asked = query(&world, Function::Max, 60_000);
        let until = world.clock.mono().plus(WITHIN);
        let mut gates = Vec::new();
        loop {
            let (open, gate) = mpsc::channel::<()>();
            let work = move |_: &exec::pool::Patience| gate.recv().is_ok();
            // Looked at before: a thread that begins in between leaves a place.
            let is_busy = 0 < world.app.pool().figures().running;
            if world.app.pool().submit(until, work, |_| ()).is_err() && is_busy {
                break;
            }
            gates.push(open);
        }
        let told = batch(&world, vec![asked.clone(), asked.clone()]).await;
        for told in &told {
            let full = matches!(told, Err(Error::Exec(exec::Error::Overloaded { .. })));
            assert!(full, "{told:?}");
        }
        drop(gates);
        crate::testing::wait_until("the pool is free", || {
            let figures = world.app.pool().figures();
            figures.queue == 0 && figures.running == 0
        });
        assert_eq!(one(&world, asked).await.unwrap(), "1");
        assert_eq!(kept(&world), 1);
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "many callers at once")]
fn of_many_who_ask_the_same_one_computes() {
    static COMPUTED: AtomicUsize = AtomicUsize::new(0);
    run(async {
        let world = World::new(1);
        write(&world, 1.0);
        let asked = query(&world, Function::Max, 60_000);
        let tenant = tenant(&world);
        let counted = |answer: &Answer| {
            COMPUTED.fetch_add(1, SeqCst);
            last(answer)
        };
        let callers = (0..20).map(|_| {
            let (app, asked) = (Arc::clone(&world.app), vec![asked.clone()]);
            tokio::spawn(async move { app.query_batch(tenant, asked, WITHIN, counted).await })
        });
        for caller in callers.collect::<Vec<_>>() {
            let told = caller.await.unwrap();
            assert_eq!(told[0].as_deref().ok(), Some(&b"1"[..]));
        }
        assert_eq!(COMPUTED.load(SeqCst), 1);
    });
}

#[test]
fn what_is_forgotten_while_it_is_computed_is_not_kept() {
    run(async {
        let world = World::new(1);
        write(&world, 1.0);
        let asked = query(&world, Function::Max, 60_000);
        // The pool is held until the answers were forgotten.
        let gates = hold_the_pool(&world);
        let forget = async {
            let space = world.app.cache().space(tenant(&world), NAMESPACE).unwrap();
            space.forget(world.clock.mono(), &crate::cache::entry::Forget::All, false);
            drop(gates);
        };
        let (told, ()) = tokio::join!(biased; one(&world, asked), forget);
        assert_eq!(told.unwrap(), "1");
        assert_eq!(kept(&world), 0);
    });
}

#[test]
fn keys_are_as_long_as_keys_may_be_and_differ_when_questions_do() {
    let world = World::new(1);
    let asked = query(&world, Function::Max, 60_000);
    let with = |secret: u128, hosts: usize, last: &str| {
        let hosts: Vec<String> = (0..hosts).map(|n| format!("host-{n}")).collect();
        let select = format!("up{{host=~\"{}|{last}\"}}", hosts.join("|"));
        key(secret, &Query { select: Selector::parse(&select).unwrap(), ..asked.clone() })
    };
    let secret = world.app.answers_secret;
    let of = |hosts: usize, last: &str| with(secret, hosts, last);
    assert_ne!(of(2, "x"), of(2, "y"));
    assert_ne!(of(100, "x"), of(100, "y"));
    assert_eq!(of(100, "x"), of(100, "x"));
    assert!(of(100, "x").len() <= CACHE_KEY_BYTES_MAX);
    // And nobody can guess them.
    assert_ne!(secret, World::new(2).app.answers_secret);
    assert!([2, 100].into_iter().all(|hosts| of(hosts, "x") != with(secret ^ 1, hosts, "x")));
}
