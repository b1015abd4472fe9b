//! The door to the series: the tick, those who wait, and a log that fails.

use std::sync::Arc;
use std::time::Duration;

use super::{AGAIN_AFTER, Parts, Series, StartError, take_up};
use crate::app::series_tick::Tick;
use crate::app::tenants::TenantSpec;
use crate::app::{Author, Error};
use crate::base::id::TenantId;
use crate::base::limits::{TENANT_SERIES_MAX, TICK_EVERY};
use crate::base::name::TenantName;
use crate::base::quota::{Allowance, Quota, Quotas};
use crate::base::rng::Rng;
use crate::base::time::Clock;
use crate::exec;
use crate::exec::worker::{Next, Worker};
use crate::exec::writer::Options;
use crate::series::labels::Labels;
use crate::series::memory::{Incoming, Memory, Name};
use crate::series::select::Selector;
use crate::series::wal::MAGIC;
use crate::store::log::Log;
use crate::store::redb::Redb;
use crate::store::{Commit, Engine, EngineFigures, ReadBody, Result as StoreResult, WriteBody};
use crate::testing::app::World;
use crate::testing::clock::ManualClock;
use crate::testing::disk::EIO;
use crate::testing::log::SimLog;
use crate::testing::seeds;
use crate::testing::series::SharedLog;

const TENANT: TenantId = TenantId::from_raw(5);

fn open(clock: &Arc<ManualClock>, log: &SimLog, engine: Box<dyn Engine>) -> Arc<Series> {
    open_with(clock, Box::new(log.clone()), engine)
}

fn open_with(clock: &Arc<ManualClock>, log: Box<dyn Log>, engine: Box<dyn Engine>) -> Arc<Series> {
    let engine = parking_lot::Mutex::new(Some(engine));
    let series = Series::start(Parts {
        clock: Arc::<ManualClock>::clone(clock),
        opener: Box::new(move |_| Ok(engine.lock().take().expect("it is opened once"))),
        options: Options::new("series", Box::new(|| ())),
        log,
        seed: 1,
    });
    series.expect("what was written can be opened")
}

fn empty() -> Box<dyn Engine> {
    Box::new(Redb::in_memory(1 << 20).unwrap())
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn labels(n: u64) -> Labels {
    Labels::new("cpu", [("core", &*n.to_string())]).unwrap()
}

/// One sample, a moment ago; the number after which it is on disk.
fn write(series: &Series, clock: &ManualClock, core: u64, ago_ms: i64) -> Result<u64, Error> {
    let now = clock.now();
    let time_ms = Some(now.wall.unix_ms() - ago_ms);
    let name = Name::Labels(labels(core));
    let sample = Incoming { place: 0, name, kind: None, time_ms, value: 1.5 };
    let written = series.write(now, TENANT, 100, &[sample])?;
    assert_eq!(written.accepted, 1);
    Ok(written.sequence)
}

/// The moments of a series, all of them.
fn moments(series: &Series, core: u64) -> Vec<i64> {
    series.with_memory(|memory| {
        let entry = memory.index().find(TENANT, &labels(core));
        let samples = entry.map(|entry| memory.read(entry, 0, i64::MAX)).unwrap_or_default();
        samples.into_iter().map(|(at, _)| at).collect()
    })
}

/// What happened to a series: at which step, and when a sample was told to be or that all were deleted.
enum Told {
    Sample(u64, i64),
    Deleted(u64),
}

fn assert_stands(history: &[(usize, Told)], acknowledged: usize, series: &Series, seed: u64) {
    for core in 0..4 {
        let found = moments(series, core);
        let its = history.iter().filter_map(|(step, told)| match told {
            Told::Sample(which, at) if *which == core => Some((*step, Some(*at))),
            Told::Deleted(which) if *which == core => Some((*step, None)),
            Told::Sample(..) | Told::Deleted(_) => None,
        });
        let its: Vec<(usize, Option<i64>)> = its.collect();
        for (place, (step, at)) in its.iter().enumerate() {
            let Some(at) = at else { continue };
            let deleted = its[place..].iter().find(|(_, at)| at.is_none()).map(|(step, _)| *step);
            let there = found.contains(at);
            if deleted.is_none() && *step <= acknowledged {
                assert!(there, "seed {seed}: step {step} of {acknowledged} is lost");
            }
            if deleted.is_some_and(|deleted| deleted <= acknowledged) {
                assert!(!there, "seed {seed}: what step {step} wrote was deleted");
            }
        }
        let told = |at: &i64| its.iter().any(|(_, told)| told.as_ref() == Some(at));
        assert!(found.iter().all(told), "seed {seed}: nobody wrote that");
    }
}

#[test]
fn after_a_power_cut_all_that_was_answered_durable_is_there_and_the_log_opens() {
    for seed in seeds(5) {
        let rng = &mut Rng::from_seed(seed);
        let (clock, log) = (Arc::new(ManualClock::default()), SimLog::default());
        let series = open(&clock, &log, empty());
        let mut history = Vec::new();
        for step in 1..40 {
            clock.advance(Duration::from_millis(1 + rng.below(20_000)));
            if rng.one_in(6) {
                let at = log.operations() + rng.below(3);
                log.fail([(at..at + 1 + rng.below(3), EIO)]);
            }
            let core = rng.below(4);
            let sequence = match rng.below(8) {
                0 => {
                    let text = format!("cpu{{core=\"{core}\"}}");
                    let deleted = series.delete(TENANT, &Selector::parse(&text).unwrap());
                    deleted.map(|(_, sequence)| {
                        history.push((step, Told::Deleted(core)));
                        sequence
                    })
                }
                1 => {
                    drop(series.rotate(clock.now()));
                    continue;
                }
                _ => {
                    let at = clock.now().wall.unix_ms();
                    write(&series, &clock, core, 0).inspect(|_| {
                        history.push((step, Told::Sample(core, at)));
                    })
                }
            };
            match sequence {
                Ok(sequence) if rng.one_in(2) => match wait(series.durable(sequence)) {
                    Ok(()) => log.acknowledged(step),
                    Err(Error::Exec(exec::Error::OutcomeUnknown)) => {}
                    Err(error) => panic!("seed {seed}: {error}"),
                },
                Ok(_) => {}
                Err(Error::Exec(exec::Error::ReadOnly)) => drop(series.tick(clock.now())),
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        log.fail([]);
        series.tick(clock.now()).unwrap();
        log.acknowledged(40);
        assert_stands(&history, 40, &series, seed);
        let again = open(&clock, &SimLog::holding(log.bytes()), empty());
        assert_stands(&history, 40, &again, seed);
        log.images(rng, &mut |image| {
            let log = SimLog::holding(image.bytes);
            let again = open(&clock, &log, empty());
            assert_stands(&history, image.acknowledged, &again, seed);
            // And it goes on.
            let sequence = write(&again, &clock, 9, 0).unwrap();
            wait(again.durable(sequence)).unwrap();
            let third = open(&clock, &SimLog::holding(log.bytes()), empty());
            assert_eq!(moments(&third, 9).len(), 1, "seed {seed}");
            assert_stands(&history, image.acknowledged, &third, seed);
        });
    }
}

#[test]
fn what_a_killed_process_appended_and_did_not_sync_is_durable_before_anybody_is_told_so() {
    let (clock, log) = (Arc::new(ManualClock::default()), SimLog::default());
    let series = open(&clock, &log, empty());
    write(&series, &clock, 1, 0).unwrap();
    series.tick(clock.now()).unwrap();
    let bytes = log.bytes();
    let mut log = SharedLog::holding(bytes[..MAGIC.len()].to_vec());
    log.append(&bytes[MAGIC.len()..]).unwrap();
    // The same again is known already.
    let series = open_with(&clock, Box::new(log.clone()), empty());
    let sequence = write(&series, &clock, 1, 0).unwrap();
    wait(series.durable(sequence)).unwrap();
    log.cut_power();
    let again = open_with(&clock, Box::new(log), empty());
    assert_eq!(moments(&again, 1).len(), 1);
}

#[test]
fn a_log_that_failed_refuses_samples_until_it_is_written_anew() {
    let (clock, log) = (Arc::new(ManualClock::default()), SimLog::default());
    let series = open(&clock, &log, empty());
    let mut tick = Tick(Arc::clone(&series));
    let first = write(&series, &clock, 1, 0).unwrap();
    wait(series.durable(first)).unwrap();
    let second = write(&series, &clock, 2, 0).unwrap();
    // The sync fails, and then everything.
    log.fail([(log.operations() + 1..u64::MAX, EIO)]);
    let unknown = wait(series.durable(second));
    assert!(matches!(unknown, Err(Error::Exec(exec::Error::OutcomeUnknown))), "{unknown:?}");
    let refused = write(&series, &clock, 3, 0);
    assert!(matches!(refused, Err(Error::Exec(exec::Error::ReadOnly))), "{refused:?}");
    assert!(series.figures().log_failed);
    for wait in AGAIN_AFTER.into_iter().chain([AGAIN_AFTER[2]; 2]) {
        let operations = log.operations();
        let due = clock.mono().plus(wait);
        assert_eq!(tick.step(clock.now()), Next::At(due));
        assert_eq!(log.operations(), operations, "it is not time");
        clock.advance(wait);
        assert_ne!(tick.step(clock.now()), Next::At(due));
        assert_eq!(log.operations(), operations + 1);
    }
    log.fail([]);
    clock.advance(AGAIN_AFTER[2]);
    assert_eq!(tick.step(clock.now()), Next::At(clock.mono().plus(TICK_EVERY)));
    assert!(!series.figures().log_failed);
    let again = open(&clock, &SimLog::holding(log.bytes()), empty());
    assert_eq!((moments(&again, 1).len(), moments(&again, 2).len()), (1, 1));
    wait(series.durable(second)).unwrap();
    assert!(write(&series, &clock, 3, 0).is_ok());
}

#[test]
fn a_tick_without_anything_to_say_costs_nothing() {
    let (clock, log) = (Arc::new(ManualClock::default()), SimLog::default());
    let series = open(&clock, &log, empty());
    let sequence = write(&series, &clock, 1, 0).unwrap();
    series.tick(clock.now()).unwrap();
    let before = series.figures().log;
    // The same again is nothing new, and durable.
    assert_eq!(write(&series, &clock, 1, 0).unwrap(), sequence);
    wait(series.durable(sequence)).unwrap();
    series.tick(clock.now()).unwrap();
    assert_eq!(series.figures().log, before);
}

#[test]
fn a_log_that_grew_is_written_anew_with_what_is_left() {
    let (clock, log) = (Arc::new(ManualClock::default()), SimLog::default());
    let series = open(&clock, &log, empty());
    for ago in 0..1000 {
        write(&series, &clock, 1, ago).unwrap();
        series.tick(clock.now()).unwrap();
    }
    let before = series.figures().log_bytes;
    series.with_memory(|memory| memory.delete(TENANT, None, 10));
    series.rotate(clock.now()).unwrap();
    assert!(series.figures().log_bytes < 30 && 2000 < before);
    assert!(series.with_memory(|memory| memory.index().is_empty()));
}

/// An engine whose disk is nearly full.
struct Short(Box<dyn Engine>);

impl Engine for Short {
    fn read(&self, body: &mut ReadBody<'_>) -> StoreResult {
        self.0.read(body)
    }

    fn write(&self, commit: Commit, body: &mut WriteBody<'_>) -> StoreResult {
        self.0.write(commit, body)
    }

    fn reserve(&self, _: u64) -> u64 {
        0
    }

    fn figures(&self) -> EngineFigures {
        self.0.figures()
    }
}

#[test]
fn samples_are_refused_while_the_disk_is_short_and_deletions_go_on() {
    let (clock, log) = (Arc::new(ManualClock::default()), SimLog::default());
    let series = open(&clock, &log, empty());
    write(&series, &clock, 1, 0).unwrap();
    series.tick(clock.now()).unwrap();
    let short = open(&clock, &SimLog::holding(log.bytes()), Box::new(Short(empty())));
    let refused = write(&short, &clock, 1, 5);
    assert!(matches!(refused, Err(Error::Exec(exec::Error::DiskFull))), "{refused:?}");
    let (deleted, sequence) = short.delete(TENANT, &Selector::parse("cpu").unwrap()).unwrap();
    assert_eq!(deleted, 1);
    wait(short.durable(sequence)).unwrap();
}

#[test]
fn a_new_log_begins_with_its_magic_before_anything_else() {
    let (clock, log) = (Arc::new(ManualClock::default()), SimLog::default());
    drop(open(&clock, &log, empty()));
    assert_eq!(log.bytes(), MAGIC);
    let torn = SimLog::holding(MAGIC[..5].to_vec());
    drop(open(&clock, &torn, empty()));
    assert_eq!(torn.bytes(), MAGIC);
}

/// A log of three ticks, and the moments of its samples.
fn three_ticks(clock: &Arc<ManualClock>) -> (Vec<u8>, [usize; 3], Vec<i64>) {
    let log = SimLog::default();
    let series = open(clock, &log, empty());
    let ends = [3, 2, 1].map(|ago| {
        write(&series, clock, 1, ago).unwrap();
        series.tick(clock.now()).unwrap();
        log.bytes().len()
    });
    (log.bytes(), ends, moments(&series, 1))
}

#[test]
fn a_log_that_is_damaged_in_its_middle_is_kept_and_what_is_whole_of_it_is_taken_up() {
    let clock = Arc::new(ManualClock::default());
    let (whole, ends, at) = three_ticks(&clock);
    for place in ends[0]..ends[1] {
        let mut bytes = whole.clone();
        bytes[place] ^= 4;
        let log = SimLog::holding(bytes.clone());
        let series = open(&clock, &log, empty());
        assert_eq!(moments(&series, 1), at[..1], "byte {place}");
        assert_eq!(log.aside(), Some(bytes), "byte {place}");
        assert_eq!(log.bytes(), whole[..ends[0]], "byte {place}");
        let lost = (ends[2] - ends[0]) as u64;
        assert_eq!(series.figures().log_damaged, lost, "byte {place}");
        // It goes on from there.
        write(&series, &clock, 1, 0).unwrap();
        series.tick(clock.now()).unwrap();
        let again = open(&clock, &SimLog::holding(log.bytes()), empty());
        assert_eq!(moments(&again, 1), moments(&series, 1), "byte {place}");
        assert_eq!((moments(&again, 1).len(), again.figures().log_damaged), (2, 0));
    }
}

#[test]
fn a_log_whose_end_was_never_finished_is_cut_and_not_kept() {
    let clock = Arc::new(ManualClock::default());
    let (whole, ends, at) = three_ticks(&clock);
    for length in ends[1]..ends[2] {
        let log = SimLog::holding(whole[..length].to_vec());
        let series = open(&clock, &log, empty());
        assert_eq!(moments(&series, 1), at[..2], "{length} bytes");
        assert_eq!((log.aside(), series.figures().log_damaged), (None, 0), "{length} bytes");
        assert_eq!(log.bytes(), whole[..ends[1]], "{length} bytes");
    }
}

#[test]
fn a_damaged_log_that_cannot_be_kept_is_left_as_it_is() {
    let clock = Arc::new(ManualClock::default());
    let (mut bytes, ends, _) = three_ticks(&clock);
    bytes[ends[0] + 9] ^= 1;
    let log = SimLog::holding(bytes.clone());
    log.fail([(1..2, EIO)]);
    let taken = take_up(Box::new(log.clone()), &mut Memory::default());
    assert!(matches!(taken, Err(StartError::Log(_))));
    assert_eq!(log.bytes(), bytes);
}

#[test]
fn a_log_that_is_gone_while_the_file_is_not_is_noticed() {
    let clock = Arc::new(ManualClock::default());
    let (bytes, ..) = three_ticks(&clock);
    let missing = |log: &[u8], memory: &mut Memory| {
        let log = SimLog::holding(log.to_vec());
        take_up(Box::new(log), memory).unwrap().lost.missing
    };
    let mut memory = Memory::default();
    assert!(!missing(b"", &mut memory), "the first start");
    assert!(!missing(&bytes, &mut memory), "it is there");
    // Now there is a series, as if the file had told of it.
    assert!(!missing(&MAGIC, &mut memory), "nothing came since the last seal");
    assert!(missing(b"", &mut memory), "it is gone");
    assert!(!open(&clock, &SimLog::default(), empty()).figures().log_missing);
}

fn tenant(world: &World, quotas: Option<Quotas>) -> TenantId {
    let (name, by) = (TenantName::parse("shop").unwrap(), Author::server());
    let spec = TenantSpec { tier: None, quotas };
    let put = world.app.put_tenant(world.clock.now(), by, name, spec);
    wait(put).unwrap().0.tenant.id
}

#[test]
fn a_tenant_may_have_as_many_series_as_its_quota_says() {
    let world = World::new(1);
    let id = tenant(&world, None);
    assert_eq!(world.app.series_max(id), TENANT_SERIES_MAX);
    let mut quotas = Quotas::default();
    quotas.set(Quota::Series, Some(Allowance::AtMost(7)));
    tenant(&world, Some(quotas));
    assert_eq!(world.app.series_max(id), 7);
    // Without a number it is what the server allows each of them: one must not take the room of all.
    quotas.set(Quota::Series, Some(Allowance::Unlimited));
    tenant(&world, Some(quotas));
    assert_eq!(world.app.series_max(id), TENANT_SERIES_MAX);
    assert_eq!(world.app.series_max(TENANT), 0, "nobody");
}

#[test]
fn series_are_listed_and_deleted_page_by_page_and_only_those_that_are_meant() {
    let world = World::new(1);
    let series = world.app.series();
    for core in 0..5 {
        write(series, &world.clock, core, 0).unwrap();
    }
    let page = world.app.series_page(TENANT, None, None, 3);
    let rest = world.app.series_page(TENANT, None, Some(page[2].id), 3);
    let names: Vec<Labels> = page.into_iter().chain(rest).map(|listed| listed.labels).collect();
    assert_eq!(names, (0..5).map(labels).collect::<Vec<_>>());
    assert!(world.app.series_page(TenantId::from_raw(6), None, None, 3).is_empty());
    let meant = Selector::parse("cpu{core=~\"[12]\"}").unwrap();
    assert_eq!(wait(world.app.delete_series(TENANT, meant.clone())).unwrap(), 2);
    assert_eq!(wait(world.app.delete_series(TENANT, meant)).unwrap(), 0);
    assert_eq!(world.app.series_page(TENANT, None, None, 9).len(), 3);
    assert!(!world.app.remove_series_step(TENANT).unwrap());
    assert!(world.app.remove_series_step(TENANT).unwrap());
    assert!(world.app.series_page(TENANT, None, None, 9).is_empty());
}
