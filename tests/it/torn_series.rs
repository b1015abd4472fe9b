//! Power cuts while series are logged, sealed, rolled up and let go: the file and the log as one moment leaves them.
//!
//! The two files fail together and are synced apart. Each durable state of the log is a mark in the trace of the disk under
//! the file, so that every image of the file is opened beside the log of its moment, whole, and with a torn tail. In each:
//! everything that was told to be on disk is counted, nothing is counted twice, and `check` finds nothing.

#![expect(
    clippy::cast_precision_loss,
    reason = "numbers of a test are small, and compared to the bit where that is meant"
)]

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use holdfast::app::series::SeriesSettings;
use holdfast::base::id::TenantId;
use holdfast::base::rng::Rng;
use holdfast::base::time::Clock as _;
use holdfast::series::DAY_MS;
use holdfast::series::check::check;
use holdfast::series::expire::Keep;
use holdfast::series::fold::Function;
use holdfast::series::memory::{Incoming, Name};
use holdfast::series::query::Query;
use holdfast::series::select::Selector;
use holdfast::store::log::{Log, LogFigures};
use holdfast::store::redb::Redb;
use holdfast::store::{Engine, Opening};
use holdfast::testing::amount;
use holdfast::testing::disk::{SimDisk, crash_images};
use holdfast::testing::series::{Place, SharedLog, Shop};

const TENANT: TenantId = TenantId::from_raw(3);
const SERIES: usize = 6;
const HISTORIES: u64 = 2;

fn settings() -> SeriesSettings {
    let days = |days: u64| Duration::from_hours(24 * days);
    let keep = Keep { raw: days(2), r5m: days(3), r1h: days(8), r1d: days(60), budget: 1 << 30 };
    SeriesSettings { keep, sketch: Vec::new() }
}

/// By series: how many samples.
type Counts = BTreeMap<String, u64>;

/// A moment at which something became durable in the log.
#[derive(Clone, Debug, Default)]
struct Moment {
    log: Vec<u8>,
    /// What was appended after it, until the next moment.
    tail: Vec<u8>,
    /// What was told to be on disk by then.
    told: Counts,
}

#[derive(Debug, Default)]
struct Record {
    moments: Vec<Moment>,
    bytes: Vec<u8>,
    /// What was written so far, told or not.
    written: Counts,
}

/// A log that notes each durable state in the trace of the disk under the file.
struct TracedLog {
    disk: Arc<SimDisk>,
    record: Arc<Mutex<Record>>,
}

impl TracedLog {
    /// What was written by now is on disk.
    fn durable(&self) {
        let mut record = self.record.lock();
        let moment =
            Moment { log: record.bytes.clone(), tail: Vec::new(), told: record.written.clone() };
        record.moments.push(moment);
        self.disk.acknowledged(record.moments.len() - 1);
    }
}

impl Log for TracedLog {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.record.lock().bytes.clone())
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.record.lock().bytes.truncate(usize::try_from(bytes).expect("it is in memory"));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut record = self.record.lock();
        record.bytes.extend_from_slice(bytes);
        if let Some(last) = record.moments.last_mut() {
            last.tail.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.durable();
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.record.lock().bytes = bytes.to_vec();
        self.durable();
        Ok(())
    }

    fn set_aside(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> u64 {
        self.record.lock().bytes.len() as u64
    }

    fn figures(&self) -> LogFigures {
        LogFigures::default()
    }
}

fn name(series: usize) -> String {
    format!("m{}{{n=\"{series}\"}}", series % 2)
}

/// Writes one row of some series; late by so much.
fn write(shop: &Shop, record: &Mutex<Record>, rng: &mut Rng, late: Duration) {
    let now = shop.world.clock.now();
    let at_ms = now.wall.unix_ms() - i64::try_from(late.as_millis()).expect("it is short");
    let names: Vec<String> = (0..SERIES).filter(|_| !rng.one_in(5)).map(name).collect();
    let samples: Vec<Incoming<'_>> = names
        .iter()
        .map(|name| Incoming {
            place: 0,
            name: Name::Text { name, metric: &name[..2] },
            kind: None,
            time_ms: Some(at_ms),
            value: rng.below(1_000) as f64 / 10.0,
        })
        .collect();
    let written = shop.world.app.series().write(now, TENANT, 100, &samples).expect("there is room");
    assert_eq!(written.refused_count, 0, "{:?}", written.refused);
    let mut record = record.lock();
    for name in names {
        *record.written.entry(name).or_default() += 1;
    }
}

struct History {
    start: Vec<u8>,
    disk: Arc<SimDisk>,
    record: Record,
    clock_passed: Duration,
}

fn redb(disk: &Arc<SimDisk>) -> Result<Arc<dyn Engine>, String> {
    let disk = Arc::<SimDisk>::clone(disk);
    let engine = Redb::on_disk(disk, 4 << 20, Opening::Start);
    Ok(Arc::new(engine.map_err(|error| format!("UNOPENABLE: {error}"))?))
}

/// A few days: samples, late ones, seals, a day that is rolled up twice, raw samples that are let go.
fn history(seed: u64) -> History {
    let new = Arc::new(SimDisk::default());
    drop(redb(&new).expect("it is new"));
    let start = new.after_power_cut();
    let disk = Arc::new(SimDisk::holding(start.clone()));
    let record = Arc::<Mutex<Record>>::default();
    let place = Place {
        clock: Arc::default(),
        engine: redb(&disk).expect("it is new"),
        log: SharedLog::default(),
    };
    // Before anything is told.
    record.lock().moments.push(Moment::default());
    disk.acknowledged(0);
    let log = TracedLog { disk: Arc::clone(&disk), record: Arc::clone(&record) };
    let mut shop = Shop::open_with(&place, Box::new(log), settings());
    let mut rng = Rng::from_seed(seed);
    let began = place.clock.mono();
    let some = |shop: &mut Shop, rng: &mut Rng, rows: u64, every: Duration, late: u64| {
        for _ in 0..rows {
            let late = Duration::from_millis(rng.below(1 + late));
            write(shop, &record, rng, late);
            shop.pass(every);
        }
    };
    some(&mut shop, &mut rng, 12, Duration::from_secs(11), 0);
    shop.pass(Duration::from_hours(1));
    some(&mut shop, &mut rng, 6, Duration::from_mins(7), 3_600_000);
    shop.pass(Duration::from_hours(26));
    // Late enough to touch the day that was rolled up, early enough to be taken.
    some(&mut shop, &mut rng, 4, Duration::from_secs(5), 80_000_000);
    shop.pass(Duration::from_hours(27));
    some(&mut shop, &mut rng, 4, Duration::from_secs(15), 0);
    shop.pass(Duration::from_hours(60));
    assert_eq!(shop.panicked(), 0, "seed={seed}");
    let figures = shop.world.app.series().figures();
    assert!(3 <= figures.sealed && 2 <= figures.rolled, "seed={seed}: {figures:?}");
    assert!(figures.tiers.iter().any(|tier| 0 < tier.expired), "seed={seed}: {figures:?}");
    let clock_passed = place.clock.mono().since(began);
    drop(shop);
    let record = std::mem::take(&mut *record.lock());
    History { start, disk, record, clock_passed }
}

/// How many samples of each series there are, over all days.
fn counted(shop: &Shop) -> Result<Counts, String> {
    let now_ms = shop.world.clock.now().wall.unix_ms();
    let query = Query {
        select: Selector::parse("{n=~\".*\",n!=\"\"}").expect("it is a selector"),
        function: Function::Count,
        by: None,
        reduce: None,
        from_ms: now_ms - 12 * DAY_MS,
        to_ms: now_ms + DAY_MS,
        step_ms: Some(DAY_MS),
        now_ms,
    };
    let answer = shop.world.app.query_series(TENANT, query, Duration::from_secs(15));
    let answer = shop.wait(answer).map_err(|error| error.to_string())?;
    let counts = answer.lines.into_iter().map(|line| {
        let metric = line.metric.unwrap_or_default();
        let count: f64 = line.points.iter().filter_map(|(_, value)| *value).sum();
        (format!("{metric}{{n=\"{}\"}}", line.labels[0].1), count)
    });
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and whole")]
    let whole = counts.map(|(name, count)| (name, count as u64));
    Ok(whole.filter(|(_, count)| *count != 0).collect())
}

/// Opens a file beside a log, and judges what is there.
fn judge(history: &History, bytes: &[u8], log: Vec<u8>, moment: usize) -> Result<(), String> {
    let place = Place {
        clock: Arc::default(),
        engine: redb(&Arc::new(SimDisk::holding(bytes.to_vec())))?,
        log: SharedLog::holding(log),
    };
    place.clock.advance(history.clock_passed);
    let shop = Shop::open(&place, settings());
    let found = counted(&shop)?;
    let told = &history.record.moments[moment].told;
    let next = history.record.moments.get(moment + 1);
    let most = next.map_or(&history.record.written, |next| &next.told);
    for (name, count) in told {
        if found.get(name).copied().unwrap_or(0) < *count {
            return Err(format!("LOST: {name} has {:?}, told were {count}", found.get(name)));
        }
    }
    for (name, count) in &found {
        if most.get(name).copied().unwrap_or(0) < *count {
            return Err(format!("TWICE: {name} has {count}, written were {:?}", most.get(name)));
        }
    }
    let findings = check(&*place.engine).map_err(|error| error.to_string())?;
    findings.found.first().map_or(Ok(()), |finding| Err(format!("CHECK: {finding}")))
}

#[test]
fn a_power_cut_leaves_every_sample_that_was_told() {
    let mut images = 0;
    for seed in 0..amount("HOLDFAST_HISTORIES", HISTORIES) {
        let history = history(seed);
        let mut rng = Rng::from_seed(seed ^ 0x7365);
        let mut tear = Rng::from_seed(seed ^ 0x7461);
        let mut failure = None;
        let trace = history.disk.trace();
        crash_images(&history.start, &trace, &mut rng, &mut |image| {
            images += 1;
            let moment = &history.record.moments[image.acknowledged];
            let mut log = moment.log.clone();
            // Of what was appended and not synced, any part, the last byte of it spoilt.
            let torn = tear.index(moment.tail.len() + 1);
            log.extend_from_slice(&moment.tail[..torn]);
            if 0 < torn && tear.one_in(2) {
                *log.last_mut().expect("it is not empty") ^= 0x40;
            }
            if let Err(error) = judge(&history, &image.bytes, log, image.acknowledged) {
                let how = format!("{}, moment {}", image.how, image.acknowledged);
                failure.get_or_insert(format!("seed={seed}: {error} ({how})"));
            }
        });
        assert_eq!(failure, None);
    }
    assert!(100 < images, "{images}");
}
