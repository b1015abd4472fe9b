//! What the keeper promises, with time moved by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Keeper, Trouble};
use crate::app::series::{Parts, Series};
use crate::base::id::TenantId;
use crate::base::limits::KEEPER_BATCH_PLACES;
use crate::base::limits::WRITE_DEADLINE;
use crate::base::rng::Rng;
use crate::base::time::{Clock, Now};
use crate::exec::worker::{Next, Worker};
use crate::exec::writer::{Options, State};
use crate::series::RowError;
use crate::series::check::check;
use crate::series::expire::Keep;
use crate::series::labels::Labels;
use crate::series::memory::{Incoming, Memory, Name};
use crate::series::query::{Source, raw_page};
use crate::store::redb::Redb;
use crate::store::{self, Commit, Engine, EngineFigures, Read, ReadBody, WriteBody};
use crate::testing::clock::ManualClock;
use crate::testing::seeds;
use crate::testing::series::SharedLog;

const TENANT: TenantId = TenantId::from_raw(7);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// A file that can be refused, and that outlives its handles.
struct Disk {
    engine: Redb,
    is_full: AtomicBool,
    fails: AtomicBool,
    /// What is looked up takes longer than a write may wait.
    is_slow: AtomicBool,
    clock: Arc<ManualClock>,
}

struct Handle(Arc<Disk>);

impl Engine for Handle {
    fn read(&self, body: &mut ReadBody<'_>) -> store::Result {
        if self.0.is_slow.load(Relaxed) {
            self.0.clock.advance(2 * WRITE_DEADLINE);
        }
        self.0.engine.read(body)
    }

    fn write(&self, commit: Commit, body: &mut WriteBody<'_>) -> store::Result {
        if self.0.fails.swap(false, Relaxed) {
            return Err(store::Error::CommitFailed("it was told to".to_owned()));
        }
        self.0.engine.write(commit, body)
    }

    fn reserve(&self, bytes: u64) -> u64 {
        if self.0.is_full.load(Relaxed) { 0 } else { self.0.engine.reserve(bytes) }
    }

    fn figures(&self) -> EngineFigures {
        self.0.engine.figures()
    }
}

/// What a test has told, by series.
type Told = BTreeMap<String, BTreeMap<i64, u64>>;

struct Home {
    clock: Arc<ManualClock>,
    disk: Arc<Disk>,
    log: SharedLog,
    keep: Arc<Mutex<Keep>>,
    series: Arc<Series>,
    keeper: Keeper,
    told: Told,
}

fn start(clock: &Arc<ManualClock>, disk: &Arc<Disk>, log: &SharedLog) -> Arc<Series> {
    let mut options = Options::new("series", Box::new(|| ()));
    (options.reopen_after, options.commit) = ([Duration::ZERO; 3], Commit::Quick);
    let (its, clock) = (Arc::clone(disk), Arc::clone(clock));
    let opener = Box::new(move |_| Ok(Box::new(Handle(Arc::clone(&its))) as Box<dyn Engine>));
    Series::start(Parts { clock, opener, options, log: Box::new(log.clone()), seed: 1 })
        .expect("it opens")
}

fn keeper(series: &Arc<Series>, keep: &Arc<Mutex<Keep>>) -> Keeper {
    let keep = Arc::clone(keep);
    Keeper::new(Arc::clone(series), move || keep.lock().clone())
}

/// A small number as a value.
fn real(number: i64) -> f64 {
    f64::from(i32::try_from(number).expect("it is small"))
}

struct Looks<'s>(&'s Series);

impl Source for Looks<'_> {
    fn read(
        &self,
        body: &mut dyn FnMut(&dyn Read) -> Result<(), RowError>,
    ) -> Result<(), RowError> {
        self.0.writer().read(|view| body(view)).map_err(|_| store::Error::Closed.into())
    }

    fn memory(&self, body: &mut dyn FnMut(&mut Memory)) {
        self.0.with_memory(body);
    }

    fn expired(&self) -> bool {
        false
    }
}

impl Home {
    fn new(budget: u64) -> Home {
        let engine = Redb::in_memory(16 << 20).expect("memory can be written");
        let (clock, log) = (Arc::<ManualClock>::default(), SharedLog::default());
        let [is_full, fails, is_slow] = [false; 3].map(AtomicBool::new);
        let its = Arc::clone(&clock);
        let disk = Arc::new(Disk { engine, is_full, fails, is_slow, clock: its });
        let days = |days: u64| Duration::from_hours(24 * days);
        let [raw, r5m, r1h, r1d] = [14, 90, 730, 3650].map(days);
        let keep = Arc::new(Mutex::new(Keep { raw, r5m, r1h, r1d, budget }));
        // To the beginning of a day.
        clock.advance(Duration::from_secs(6400));
        let series = start(&clock, &disk, &log);
        let keeper = keeper(&series, &keep);
        Home { clock, disk, log, keep, series, keeper, told: Told::new() }
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    /// The process is killed, and another one begins with this log.
    fn restart(&mut self, log: SharedLog) {
        self.series = start(&self.clock, &self.disk, &log);
        (self.log, self.keeper) = (log, keeper(&self.series, &self.keep));
    }

    fn write(&mut self, name: &str, at_ms: i64, value: f64) {
        let labels = Labels::new(name, []).expect("good labels");
        let name = Name::Labels(labels);
        let sample = Incoming { place: 0, name, kind: None, time_ms: Some(at_ms), value };
        let written = self.series.write(self.now(), TENANT, 1000, std::slice::from_ref(&sample));
        assert_eq!(written.expect("there is room").accepted, 1);
        let Name::Labels(labels) = sample.name else { unreachable!("BUG: it was made above") };
        self.told.entry(labels.metric().to_owned()).or_default().insert(at_ms, value.to_bits());
    }

    /// One piece at a time until there is nothing more to do; what went wrong.
    fn keep(&mut self) -> Option<Trouble> {
        for _ in 0..10_000 {
            let piece = self.keeper.piece(self.now());
            let (live, budget) = (self.series.figures().live_bytes, self.keep.lock().budget);
            assert!(live <= budget, "{live} bytes are in use of {budget}");
            match piece {
                Ok(true) => {}
                Ok(false) => return None,
                Err(trouble) => return Some(trouble),
            }
        }
        panic!("it never ends");
    }

    /// So many minutes pass, in each of which some series get a sample.
    fn pass(&mut self, minutes: u64, names: &[&str]) {
        for minute in 0..minutes {
            self.clock.advance(MINUTE);
            let at = self.now().wall.unix_ms();
            for name in names {
                self.write(
                    name,
                    at,
                    real(at / 60_000 % 977) + real(i64::try_from(minute).unwrap()) / 3.0,
                );
            }
            self.series.tick(self.now()).expect("the log is written");
            assert!(self.keep().is_none());
        }
    }

    /// What queries find of a series.
    fn found(&self, name: &str) -> BTreeMap<i64, u64> {
        let labels = Labels::new(name, []).expect("good labels");
        let to = self.now().wall.unix_ms() + 1_000_000;
        let page = raw_page(&Looks(&self.series), TENANT, &labels, (0, to), usize::MAX);
        page.expect("it is read").into_iter().map(|(at, value)| (at, value.to_bits())).collect()
    }

    fn assert_all_is_there(&self) {
        for (name, told) in &self.told {
            assert_eq!(&self.found(name), told, "{name}");
        }
        let findings = check(&self.disk.engine).expect("it is read");
        assert_eq!(findings.found, Vec::<String>::new());
    }
}

#[test]
fn hours_are_sealed_and_days_are_rolled_up_and_the_log_stays_short() {
    let mut home = Home::new(1 << 30);
    home.pass(60 * 50 + 30, &["a", "b_total"]);
    home.assert_all_is_there();
    let figures = home.series.figures();
    // Each series came alone, and so has a group of its own.
    assert_eq!((figures.sealed, figures.rolled), (2 * 50, 2));
    assert!(figures.open_samples <= 2 * 61, "{}", figures.open_samples);
    assert!(figures.log_bytes < 4000, "{}", figures.log_bytes);
    let held = figures.tiers.map(|tier| tier.held.rows);
    assert!(held.iter().all(|rows| 0 < *rows), "{held:?}");
    assert_eq!(figures.tiers.map(|tier| tier.expired + tier.evicted), [0; 4]);

    // Late samples of a day that was rolled up: it is rolled up again.
    let late = home.now().wall.unix_ms() - 8 * 3_600_000;
    home.write("a", late + 1, -1.0);
    home.pass(60, &["a"]);
    home.assert_all_is_there();
    assert_eq!(home.series.figures().rolled, 3);
}

#[test]
fn a_process_that_is_killed_before_the_log_was_replaced_seals_the_same_again() {
    let mut home = Home::new(1 << 30);
    home.pass(59, &["a", "b"]);
    home.restart(home.log.clone());
    home.assert_all_is_there();
    home.pass(2, &["a", "b"]);
    assert_eq!(home.series.figures().sealed, 0, "the hour ended less than 90 s ago");
    let mut log = home.log.clone();
    let before = store::log::Log::read(&mut log).expect("it is read");
    home.pass(4, &[]);
    assert_eq!(home.series.figures().sealed, 2);
    home.assert_all_is_there();
    for _ in 0..2 {
        home.restart(SharedLog::holding(before.clone()));
        home.assert_all_is_there();
        home.pass(1, &[]);
        assert_eq!(home.series.figures().sealed, 2);
        home.assert_all_is_there();
    }
    home.restart(home.log.clone());
    home.assert_all_is_there();
}

#[test]
fn nobody_gets_the_place_of_a_series_that_has_blocks_whatever_becomes_of_the_log() {
    let mut home = Home::new(1 << 30);
    // More than is sealed in one go.
    let many: Vec<String> = (0..=KEEPER_BATCH_PLACES).map(|number| format!("m{number}")).collect();
    let at = home.now().wall.unix_ms();
    for name in &many {
        home.write(name, at, 1.0);
    }
    home.pass(61, &["a", "b"]);
    home.clock.advance(MINUTE);
    while home.series.figures().sealed == 0 {
        assert!(home.keeper.piece(home.now()).expect("it is sealed"));
    }
    // The log is lost with its disk, and with it what is open.
    home.restart(SharedLog::default());
    let there = many.iter().filter(|name| !home.found(name).is_empty()).count();
    assert_eq!(there, KEEPER_BATCH_PLACES, "some were sealed, and some were not");
    home.told.clear();
    let at = home.now().wall.unix_ms();
    for name in ["c", "d", "e"] {
        home.write(name, at, 1.0);
    }
    home.assert_all_is_there();
    home.pass(70, &["c"]);
    home.assert_all_is_there();
}

#[test]
fn the_budget_is_kept_and_what_is_oldest_and_finest_goes_first() {
    let mut home = Home::new(120_000);
    let names = ["a", "b", "c", "d", "e"];
    home.pass(60 * 24 * 9, &names);
    let figures = home.series.figures();
    let [raw, r5m, r1h, r1d] = figures.tiers;
    assert!(0 < raw.evicted, "{figures:?}");
    assert_eq!((r1h.evicted, r1d.evicted), (0, 0));
    assert!(r5m.oldest_ms < raw.oldest_ms);
    assert_eq!(raw.expired + r5m.expired + r1h.expired + r1d.expired, 0);
    assert!(8 <= figures.rolled, "each day was rolled up before its samples went: {figures:?}");
    for name in names {
        let found = home.found(name);
        let mut told = home.told[name].clone();
        told.retain(|at, _| raw.oldest_ms.is_some_and(|oldest| oldest <= *at));
        assert_eq!(found, told, "{name}");
    }
    assert_eq!(check(&home.disk.engine).expect("it is read").found, Vec::<String>::new());
}

#[test]
fn what_is_too_old_goes() {
    let mut home = Home::new(1 << 30);
    home.keep.lock().raw = 30 * HOUR;
    home.keep.lock().r5m = 50 * HOUR;
    home.pass(60 * 24 * 5, &["a"]);
    let figures = home.series.figures();
    let now = home.now().wall.unix_ms();
    let [raw, r5m, r1h, r1d] = figures.tiers;
    assert!(0 < raw.expired && 0 < r5m.expired, "{figures:?}");
    assert_eq!(r1h.expired + r1d.expired + raw.evicted, 0);
    let oldest = now - i64::try_from((31 * HOUR).as_millis()).unwrap();
    assert!(raw.oldest_ms.is_some_and(|at| oldest <= at), "{figures:?}");
    assert!(r1d.oldest_ms < raw.oldest_ms);
    assert_eq!(check(&home.disk.engine).expect("it is read").found, Vec::<String>::new());
}

#[test]
fn a_clock_that_leaps_ahead_takes_nothing_before_somebody_could_notice() {
    let mut home = Home::new(1 << 30);
    home.keep.lock().raw = 30 * HOUR;
    home.pass(60 * 3, &["a"]);
    home.clock.advance(20 * 24 * HOUR);
    home.restart(home.log.clone());
    assert!(home.keep().is_none());
    let gone = |home: &Home| home.series.figures().tiers[0].expired;
    assert_eq!(gone(&home), 0);
    home.assert_all_is_there();
    home.pass(60 * 5, &["b"]);
    assert_eq!(gone(&home), 0);
    home.pass(60 * 2, &["b"]);
    assert!(3 <= gone(&home), "it was no mistake: what is too old goes");
}

#[test]
fn a_clock_that_leaps_while_we_run_takes_nothing_either() {
    let mut home = Home::new(1 << 30);
    home.keep.lock().raw = 30 * HOUR;
    home.pass(60 * 3, &["a"]);
    // The wall goes on without the time that really passed.
    let leapt = |home: &Home, hours: u32| Now {
        wall: home.now().wall.plus(20 * 24 * HOUR + hours * HOUR),
        mono: home.now().mono.plus(hours * HOUR),
    };
    let gone = |home: &Home| home.series.figures().tiers[0].expired;
    for hours in [0, 5] {
        while home.keeper.piece(leapt(&home, hours)).expect("nothing is wrong") {}
        assert_eq!(gone(&home), 0, "after {hours} hours");
    }
    while home.keeper.piece(leapt(&home, 7)).expect("nothing is wrong") {}
    assert!(3 <= gone(&home), "it was no mistake: what is too old goes");
}

#[test]
fn series_that_arrive_alone_are_sealed_and_rolled_up_in_few_commits() {
    let mut home = Home::new(1 << 30);
    let names: Vec<String> = (0..300).map(|number| format!("m{number}")).collect();
    let at_ms = home.now().wall.unix_ms();
    for name in &names {
        home.write(name, at_ms, 1.0);
    }
    home.series.tick(home.now()).expect("the log is written");
    let commits = |home: &Home| home.disk.engine.figures().commits;
    let before = commits(&home);
    home.clock.advance(2 * HOUR);
    assert!(home.keep().is_none());
    assert_eq!(home.series.figures().sealed, 300);
    assert!(commits(&home) - before < 30, "{}", commits(&home) - before);
    home.clock.advance(24 * HOUR);
    assert!(home.keep().is_none());
    assert_eq!(home.series.figures().rolled, 1);
    assert!(commits(&home) - before < 80, "{}", commits(&home) - before);
    home.assert_all_is_there();
}

#[test]
fn what_cannot_be_sealed_stays_open_and_is_sealed_later() {
    let mut home = Home::new(1 << 30);
    home.pass(70, &["a", "b"]);
    let open = home.series.figures().open_samples;
    home.disk.is_full.store(true, Relaxed);
    home.clock.advance(HOUR);
    for _ in 0..3 {
        assert!(matches!(home.keep(), Some(Trouble::Writer(_))));
        assert_eq!(home.series.figures().open_samples, open);
        home.assert_all_is_there();
    }
    home.disk.is_full.store(false, Relaxed);
    home.restart(home.log.clone());
    assert!(home.keep().is_none());
    assert_eq!(home.series.figures().open_samples, 0);
    home.assert_all_is_there();
}

#[test]
fn a_commit_whose_outcome_is_unknown_is_made_again() {
    let mut home = Home::new(1 << 30);
    home.pass(61, &["a", "b"]);
    home.clock.advance(MINUTE);
    for _ in 0..2 {
        home.disk.fails.store(true, Relaxed);
        let now = home.now();
        assert!(matches!(home.keeper.step(now), Next::Again), "it begins");
        // Not again at once.
        assert!(matches!(home.keeper.step(now), Next::At(at) if now.mono < at));
        assert_eq!(home.series.figures().sealed, 0);
        // The file is opened anew by another thread.
        while home.series.writer().state() != State::Open {
            std::hint::spin_loop();
        }
        home.assert_all_is_there();
    }
    assert!(home.keep().is_none());
    assert_eq!(home.series.figures().sealed, 2);
    home.assert_all_is_there();
}

#[test]
fn what_takes_long_to_encode_is_sealed_all_the_same() {
    let mut home = Home::new(1 << 30);
    home.pass(61, &["a", "b"]);
    home.clock.advance(MINUTE);
    home.disk.is_slow.store(true, Relaxed);
    assert!(home.keep().is_none());
    home.disk.is_slow.store(false, Relaxed);
    assert_eq!(home.series.figures().sealed, 2);
    home.assert_all_is_there();
}

#[test]
fn a_budget_in_which_nothing_fits_loses_nothing_and_ends() {
    let mut home = Home::new(50);
    home.clock.advance(MINUTE);
    let at = home.now().wall.unix_ms();
    home.write("a", at, 1.0);
    home.clock.advance(2 * HOUR);
    assert!(matches!(home.keep(), Some(Trouble::NoRoom { .. })));
    home.assert_all_is_there();
    home.keep.lock().budget = 100_000;
    assert!(home.keep().is_none());
    assert_eq!(home.series.figures().sealed, 1);
    home.assert_all_is_there();
}

#[test]
fn whatever_happens_what_was_told_is_found() {
    for seed in seeds(4) {
        let (mut home, mut rng) = (Home::new(1 << 30), Rng::from_seed(seed));
        let names = ["a", "b", "c_total", "d"];
        for round in 0..40 {
            for _ in 0..rng.below(60) {
                let name = names[rng.index(names.len())];
                let now = home.now().wall.unix_ms();
                let most = if rng.one_in(4) { 80_000_000 } else { 60_000 };
                let late = i64::try_from(rng.below(most)).unwrap();
                home.write(name, now - late, real(i64::try_from(rng.below(1000)).unwrap()) / 8.0);
            }
            home.series.tick(home.now()).expect("the log is written");
            match rng.below(4) {
                0 => home.restart(home.log.clone()),
                1 => home.clock.advance(MINUTE * u32::try_from(rng.below(300)).unwrap()),
                _ => home.clock.advance(MINUTE),
            }
            assert!(home.keep().is_none(), "seed {seed}, round {round}");
            if rng.one_in(5) {
                home.assert_all_is_there();
            }
        }
        home.assert_all_is_there();
    }
}
