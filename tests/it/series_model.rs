//! Random histories of series beside a reference that keeps every sample in a map: whatever is written, sealed, rolled up,
//! late, expired, deleted, stopped or killed, every answer is what the reference computes, and `check` finds nothing.
//!
//! `HOLDFAST_OPERATIONS` for longer ones, `HOLDFAST_SEED` to repeat one.

#![expect(
    clippy::cast_precision_loss,
    reason = "numbers of a test are small, and compared to the bit where that is meant"
)]

mod reference;

use std::time::Duration;

use holdfast::app::series::SeriesSettings;
use holdfast::base::id::TenantId;
use holdfast::base::rng::Rng;
use holdfast::base::time::Clock as _;
use holdfast::series::check::check;
use holdfast::series::expire::Keep;
use holdfast::series::fold::{Function, Reduce};
use holdfast::series::memory::{Incoming, Name};
use holdfast::series::query::{Answer, Query};
use holdfast::series::select::Selector;
use holdfast::series::{DAY_MS, HOUR_MS, Kind as Meaning, LOOK_BACK_MS, Tier};
use holdfast::testing::batches::Kind;
use holdfast::testing::series::{Place, Shop};
use holdfast::testing::{amount, seeds};

use reference::{Reference, same};

const TENANTS: [TenantId; 2] = [TenantId::from_raw(3), TenantId::from_raw(4)];
const HOSTS: u64 = 4;
const WITHIN: Duration = Duration::from_secs(15);

fn days(days: u64) -> Duration {
    Duration::from_hours(24 * days)
}

fn settings() -> SeriesSettings {
    let keep = Keep { raw: days(2), r5m: days(4), r1h: days(9), r1d: days(60), budget: 1 << 30 };
    SeriesSettings { keep, sketch: vec!["took".to_owned()] }
}

/// A history under way.
struct History {
    place: Place,
    shop: Option<Shop>,
    reference: Reference,
    rng: Rng,
    seed: u64,
    step: usize,
}

impl History {
    fn shop(&mut self) -> &mut Shop {
        self.shop.as_mut().expect("it is open")
    }

    fn now_ms(&self) -> i64 {
        self.place.clock.now().wall.unix_ms()
    }

    fn what(&self) -> String {
        format!("seed={} step={}", self.seed, self.step)
    }

    /// A value of the kinds that machines tell, and of those that nobody should.
    fn value(&mut self, metric: &str, before: Option<f64>) -> f64 {
        let odd =
            [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 9_007_199_254_740_993.0, 5e-324];
        if self.rng.one_in(60) {
            return odd[self.rng.index(odd.len())];
        }
        let before = before.filter(|value| value.is_finite() && value.abs() < 1e12).unwrap_or(0.0);
        match metric {
            "sent_total" if self.rng.one_in(20) => 0.0,
            "sent_total" => before + self.rng.below(50) as f64,
            "took" => (1 + self.rng.below(4_000)) as f64 / 1000.0,
            _ if self.rng.one_in(2) => before,
            _ => (self.rng.below(2_000) as f64 - 500.0) / 10.0,
        }
    }

    /// What arrives together: at one moment, or at moments of the writer's own.
    fn write(&mut self) {
        let tenant = TENANTS[self.rng.index(2)];
        let now = self.now_ms();
        let metrics = ["load", "sent_total", "took"];
        let rows = 1 + self.rng.index(3);
        let mut told: Vec<(String, String, Option<i64>, f64)> = Vec::new();
        for _ in 0..rows {
            let time = match self.rng.below(6) {
                0..4 => None,
                4 => Some(now - i64::try_from(self.rng.below(90_000_000)).expect("it fits")),
                _ => Some(now - i64::try_from(self.rng.below(600_000)).expect("it fits")),
            };
            for host in 0..HOSTS {
                for metric in metrics {
                    if self.rng.one_in(4) {
                        continue;
                    }
                    let name = format!("{metric}{{host=\"{host}\",zone=\"{}\"}}", host % 2);
                    let before = self.reference.newest(tenant, &name);
                    let value = self.value(metric, before);
                    told.push((name, metric.to_owned(), time, value));
                    if time.is_some() && self.rng.one_in(3) {
                        break;
                    }
                }
            }
        }
        let samples: Vec<Incoming<'_>> = told
            .iter()
            .zip(0..)
            .map(|((name, metric, time_ms, value), place)| Incoming {
                place,
                name: Name::Text { name, metric },
                kind: None,
                time_ms: *time_ms,
                value: *value,
            })
            .collect();
        let clock_now = self.place.clock.now();
        let written = self.shop().world.app.series().write(clock_now, tenant, 1_000, &samples);
        let written = written.unwrap_or_else(|error| panic!("{}: {error}", self.what()));
        let mut accepted = 0;
        for (name, _, time, value) in &told {
            if time.is_none_or(|at| now - DAY_MS <= at) {
                accepted += 1;
                self.reference.write(tenant, name, time.unwrap_or(now), *value);
            }
        }
        assert_eq!(written.accepted, accepted, "{}: accepted", self.what());
        assert_eq!(written.refused_count + accepted, told.len() as u64, "{}: refused", self.what());
    }

    fn pass(&mut self, time: Duration) {
        self.shop().pass(time);
        assert_eq!(self.shop().panicked(), 0, "{}: a worker panicked", self.what());
        if Duration::from_secs(10) <= time {
            self.reference.stored();
        }
    }

    /// The process ends, in order or not, and another one opens what is there.
    fn end(&mut self, in_order: bool) {
        let shop = self.shop.take().expect("it is open");
        if in_order {
            shop.world.app.series().tick(self.place.clock.now()).expect("the log works");
            self.reference.stored();
        }
        drop(shop);
        self.place.log.cut_power();
        self.shop = Some(Shop::open(&self.place, settings()));
        let what = self.what();
        for (tenant, name, at_ms, before, after) in self.reference.in_doubt() {
            let found = self.raw(tenant, &name, at_ms);
            let is = |value: Option<f64>| found.map(f64::to_bits) == value.map(f64::to_bits);
            assert!(is(before) || is(Some(after)), "{what}: {name} at {at_ms}: {found:?}");
            self.reference.settle(tenant, &name, at_ms, found);
        }
        self.reference.stored();
    }

    fn ask(&mut self, tenant: TenantId, query: Query) -> Result<Answer, String> {
        let shop = self.shop.as_ref().expect("it is open");
        let answer = shop.wait(shop.world.app.query_series(tenant, query, WITHIN));
        answer.map_err(|error| format!("{error}: {}", error.code()))
    }

    fn raw(&mut self, tenant: TenantId, name: &str, at_ms: i64) -> Option<f64> {
        let query = Query {
            select: Selector::parse(name).expect("it is a selector"),
            function: Function::Raw,
            by: None,
            reduce: None,
            from_ms: at_ms,
            to_ms: at_ms + 1,
            step_ms: None,
            now_ms: self.now_ms(),
        };
        let what = self.what();
        let answer = self.ask(tenant, query).unwrap_or_else(|error| panic!("{what}: {error}"));
        answer.lines.first().and_then(|line| line.points.first()?.1)
    }

    fn delete(&mut self) {
        let tenant = TENANTS[self.rng.index(2)];
        let host = self.rng.below(HOSTS);
        let text = format!("load{{host=\"{host}\"}}");
        let selector = Selector::parse(&text).expect("it is a selector");
        let shop = self.shop.as_mut().expect("it is open");
        let (app, place) = (std::sync::Arc::clone(&shop.world.app), self.place.clone());
        // Whoever deletes waits for the log, which nobody else steps here.
        let deleted = shop.wait(async {
            let deletion = app.delete_series(tenant, selector);
            tokio::pin!(deletion);
            loop {
                tokio::select! {
                    biased;
                    done = &mut deletion => break done,
                    () = tokio::task::yield_now() => {
                        app.series().tick(place.clock.now()).expect("the log works");
                    }
                }
            }
        });
        let deleted = deleted.unwrap_or_else(|error| panic!("{}: {error}", self.what()));
        self.reference.stored();
        let expected = self.reference.delete(tenant, &text[..text.len() - 1]);
        assert_eq!(deleted, expected, "{}: deleted", self.what());
    }

    fn query(&mut self) {
        let tenant = TENANTS[self.rng.index(2)];
        let functions = [
            Function::Avg,
            Function::Min,
            Function::Max,
            Function::Sum,
            Function::Count,
            Function::Last,
            Function::Rate,
            Function::Increase,
            Function::Quantile(0.95),
        ];
        let function = functions[self.rng.index(functions.len())];
        let steps = [15_000, 60_000, 300_000, 900_000, HOUR_MS, 6 * HOUR_MS, DAY_MS];
        let step_ms = steps[self.rng.index(steps.len())];
        let count = 1 + i64::try_from(self.rng.below(40)).expect("it fits");
        let now_ms = self.now_ms();
        let back = i64::try_from(self.rng.below(3)).expect("it fits") * step_ms * count / 2;
        let to_ms = now_ms - back;
        let metric = ["load", "sent_total", "took"][self.rng.index(3)];
        let reduced = self.rng.one_in(3) && !matches!(function, Function::Quantile(_));
        let reduce = [None, Some(Reduce::Sum), Some(Reduce::Max)][self.rng.index(3)];
        let query = Query {
            select: Selector::parse(&format!("{metric}{{host=~\"[0-2]\"}}")).expect("it is one"),
            function,
            by: reduced.then(|| vec!["zone".to_owned()]),
            reduce: reduce.filter(|_| reduced),
            from_ms: (to_ms - step_ms * count).max(1),
            to_ms,
            step_ms: Some(step_ms),
            now_ms,
        };
        match self.ask(tenant, query.clone()) {
            Ok(answer) => self.compare(tenant, metric, &query, &answer),
            Err(error) => {
                let plain = metric != "took" && matches!(function, Function::Quantile(_));
                assert!(plain && error.contains("no_distribution"), "{}: {error}", self.what());
            }
        }
    }

    fn compare(&mut self, tenant: TenantId, metric: &str, query: &Query, answer: &Answer) {
        let figures = self.shop().world.app.series().figures();
        let oldest = |tier: Tier| figures.tiers.iter().find(|its| its.tier == tier)?.oldest_ms;
        // What is older than the tier that answered is gone, or has to be looked for elsewhere.
        let known_from =
            oldest(answer.tier).into_iter().chain(oldest(Tier::Raw)).min().unwrap_or(0);
        let expected = self.reference.answer(tenant, metric, query, answer.steps);
        let what = format!("{} {query:?} -> {:?}", self.what(), answer.tier);
        let lines: Vec<_> = answer.lines.iter().map(|line| line.labels.clone()).collect();
        assert_eq!(lines, expected.keys().cloned().collect::<Vec<_>>(), "{what}: the series");
        for (line, wanted) in answer.lines.iter().zip(expected.values()) {
            assert_eq!(line.points.len(), wanted.len(), "{what}: points");
            for ((at_ms, value), (wanted_at, wanted)) in line.points.iter().zip(wanted) {
                assert_eq!(at_ms, wanted_at, "{what}: moments");
                if known_from <= at_ms - LOOK_BACK_MS - answer.tier.step_ms() {
                    let alike = same(query.function, *value, *wanted, answer.tier);
                    assert!(
                        alike,
                        "{what}: {:?} at {at_ms}: {value:?}, not {wanted:?}",
                        line.labels
                    );
                }
            }
        }
    }

    fn check(&self) {
        let findings = check(&*self.place.engine).expect("the file can be read");
        assert_eq!(findings.found, Vec::<String>::new(), "{}: check", self.what());
    }

    fn act(&mut self) {
        match self.rng.below(100) {
            0..52 => self.write(),
            52..80 => {
                let seconds = 1 + self.rng.below(25);
                self.pass(Duration::from_secs(seconds));
            }
            80..88 => {
                let minutes = 1 + self.rng.below(50);
                self.pass(Duration::from_mins(minutes));
            }
            88 => {
                let hours = 1 + self.rng.below(30);
                self.pass(Duration::from_hours(hours));
            }
            89..97 => self.query(),
            97 => self.end(true),
            98 => self.end(false),
            _ => {
                if self.rng.one_in(4) {
                    self.delete();
                }
            }
        }
    }
}

fn history(kind: Kind, seed: u64, operations: u64) {
    let folder = tempfile::tempdir().expect("there is a folder");
    let place = Place::new(kind, folder.path());
    let shop = Some(Shop::open(&place, settings()));
    let (reference, rng) = (Reference::default(), Rng::from_seed(seed));
    let mut history = History { place, shop, reference, rng, seed, step: 0 };
    for step in 0..operations {
        history.step = usize::try_from(step).expect("it fits");
        history.act();
        if step % 200 == 199 {
            history.check();
        }
    }
    history.pass(Duration::from_hours(30));
    history.check();
    for _ in 0..20 {
        history.query();
    }
    let figures = history.shop().world.app.series().figures();
    assert!(0 < figures.sealed, "seed={seed}: nothing was sealed");
    assert_eq!(figures.counts.damaged, 0, "seed={seed}: damaged");
}

#[test]
fn what_is_answered_is_what_was_written() {
    for seed in seeds(4) {
        history(Kind::Redb, seed, amount("HOLDFAST_OPERATIONS", 1_200));
    }
}

#[test]
fn what_is_answered_is_what_was_written_on_sqlite() {
    for seed in seeds(1) {
        history(Kind::Sqlite, seed + 100, amount("HOLDFAST_OPERATIONS", 500));
    }
}

#[test]
fn kinds_are_what_names_and_settings_say() {
    let folder = tempfile::tempdir().expect("there is a folder");
    let place = Place::new(Kind::Redb, folder.path());
    let shop = Shop::open(&place, settings());
    for metric in ["load", "sent_total", "took"] {
        let sample = Incoming {
            place: 0,
            name: Name::Text { name: metric, metric },
            kind: None,
            time_ms: None,
            value: 1.0,
        };
        let now = place.clock.now();
        let written = shop.world.app.series().write(now, TENANTS[0], 10, &[sample]);
        assert_eq!(written.map(|written| written.accepted).ok(), Some(1));
    }
    let listed = shop.world.app.series_page(TENANTS[0], None, None, 10);
    let kinds: Vec<_> = listed.iter().map(|series| (series.labels.metric(), series.kind)).collect();
    let expected = [
        ("load", Meaning::Gauge),
        ("sent_total", Meaning::Counter),
        ("took", Meaning::Distribution),
    ];
    assert_eq!(kinds, expected);
}
