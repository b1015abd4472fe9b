//! The figures against a list of all that happened.

use std::time::Duration;

use super::{CLASSES, Ended, Figures, LEAST_MS, Percentiles, Told, middle_ms};
use crate::base::rng::Rng;
use crate::base::time::Mono;
use crate::testing::seeds;

fn at(ms: u64) -> Mono {
    Mono::from_ns(ms * 1_000_000)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_time_is_told_within_a_tenth_up_to_thirty_days() {
    const MONTH_MS: u64 = 30 * 86_400_000;
    let off = |time: u64| {
        let told = middle_ms(LEAST_MS.partition_point(|least| *least <= time) - 1);
        assert!(told.abs_diff(time) * 10 <= time, "{time} ms is told as {told} ms");
    };
    // The ends of a class are what is furthest from its middle.
    for least in LEAST_MS.into_iter().filter(|least| *least <= MONTH_MS) {
        off(least);
        off(least.saturating_sub(1));
    }
    (0..100_000).for_each(off);
    off(MONTH_MS);
    assert!(LEAST_MS.is_sorted_by(|a, b| a < b));
}

#[test]
fn what_lasts_longer_than_any_class_is_in_the_last_one() {
    let mut figures = Figures::new();
    figures.started(at(0), Duration::MAX);
    figures.ended(at(0), Ended::Done, Duration::MAX);
    figures.ended(at(0), Ended::Done, Duration::MAX);
    let told = figures.told(at(0));
    assert_eq!(told.run_ms.p50, Some(LEAST_MS[CLASSES - 1]));
    assert_eq!(told.totals.run, Duration::MAX);
}

#[test]
fn nothing_is_told_of_what_never_happened() {
    assert_eq!(Figures::new().told(at(5)), Told::default());
    assert_eq!(Told::default().totals.mean_run(), None);
    assert_eq!(Told::default().totals.mean_wait(), None);
}

#[test]
fn releases_cancellations_and_jobs_given_up_are_counted_and_no_more() {
    let mut figures = Figures::new();
    for how in [Ended::Released, Ended::Cancelled, Ended::GivenUp] {
        figures.ended(at(0), how, ms(100));
    }
    let told = figures.told(at(0));
    let totals = told.totals;
    assert_eq!((totals.released, totals.cancelled, totals.given_up), (1, 1, 1));
    assert_eq!(told, Told { totals, ..Told::default() });
    figures.ended(at(0), Ended::Crashed, ms(100));
    figures.ended(at(0), Ended::Failed, ms(200));
    figures.ended(at(0), Ended::Done, ms(300));
    let told = figures.told(at(0));
    assert_eq!(told.failure_rate, Some(2.0 / 3.0));
    assert_eq!((told.failed_per_minute, told.done_per_minute), (2.0, 1.0));
    assert_eq!(told.totals.mean_run(), Some(ms(200)));
}

#[test]
fn a_steady_rate_is_told_as_it_is_at_any_moment() {
    let mut figures = Figures::new();
    for tenth in 0..3000 {
        figures.pushed(at(tenth * 100), 1);
        if 700 <= tenth {
            let rate = figures.told(at(tenth * 100)).pushed_per_minute;
            assert!((599.0..=601.0).contains(&rate), "after {tenth} tenths of a second: {rate}");
        }
    }
}

#[test]
fn what_is_over_is_forgotten_and_its_memory_given_back() {
    let mut figures = Figures::new();
    let empty = figures.bytes();
    figures.started(at(1000), ms(5));
    figures.ended(at(1000), Ended::Failed, ms(5));
    assert!((figures.told(at(59_000)).failed_per_minute - 1.0).abs() < 1e-9);
    assert!(figures.told(at(65_000)).failed_per_minute < 1e-9);
    assert_eq!(figures.told(at(899_000)).failure_rate, Some(1.0));
    assert_eq!(figures.told(at(960_000)).failure_rate, None);
    let mut other = figures.clone();
    assert_eq!(figures.told(at(1_199_999)).run_ms.p99, Some(5));
    assert_eq!(figures.told(at(1_200_000)).run_ms, Percentiles::default());
    assert!(empty < figures.bytes());
    // An event is what keeps it, to be asked does not.
    figures.told(at(1_201_000));
    assert_eq!(figures.bytes(), empty);
    assert_eq!(other.told(at(2_500_000)).totals.failed, 1);
    assert_eq!(other.bytes(), empty);
}

#[test]
fn a_reading_of_the_clock_that_comes_late_counts_as_the_latest() {
    let mut figures = Figures::new();
    figures.pushed(at(100_000), 1);
    figures.pushed(at(10_000), 1);
    assert!((figures.told(at(50_000)).pushed_per_minute - 2.0).abs() < 1e-9);
}

#[test]
fn a_queue_needs_little_memory() {
    assert!(size_of::<Figures>() <= 104, "{}", size_of::<Figures>());
    let busy = |longest: u64| {
        let mut rng = Rng::from_seed(1);
        let mut figures = Figures::new();
        for second in 0..3600 {
            for _ in 0..20 {
                let run = ms((1 << rng.below(33)).min(longest));
                figures.pushed(at(second * 1000), 1);
                figures.started(at(second * 1000), run);
                figures.ended(at(second * 1000), Ended::Done, run);
            }
        }
        figures.bytes()
    };
    let (usual, most) = (busy(10_000), busy(u64::MAX));
    assert!(usual <= 2400, "{usual} bytes");
    assert!(most <= 4500, "{most} bytes");
}

fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).expect("tests do not count that far"))
}

/// All that happened, one by one.
#[derive(Default)]
struct Naive {
    pushed: Vec<(u64, u64)>,
    waits: Vec<(u64, u64)>,
    ends: Vec<(u64, Ended, u64)>,
}

/// How many lie in the slots that reach back to `slots` before the one of `now`.
fn since(now: u64, slot: u64, slots: u64) -> impl Fn(u64) -> bool {
    move |at| now / slot < at / slot + slots
}

impl Naive {
    fn check(&self, told: &Told, now: u64, what: &str) {
        let answers = || self.ends.iter().filter(|(_, how, _)| is_answer(*how));
        let failed = |how: Ended| how != Ended::Done;
        let done_at: Vec<_> =
            answers().filter(|end| !failed(end.1)).map(|end| (end.0, 1)).collect();
        let failed_at: Vec<_> =
            answers().filter(|end| failed(end.1)).map(|end| (end.0, 1)).collect();
        check_rate(told.pushed_per_minute, &self.pushed, now, &format!("{what} pushed"));
        check_rate(told.done_per_minute, &done_at, now, &format!("{what} done"));
        check_rate(told.failed_per_minute, &failed_at, now, &format!("{what} failed"));

        let quarter = since(now, 60_000, 16);
        let ended: Vec<_> = answers().filter(|end| quarter(end.0)).collect();
        let bad = ended.iter().filter(|end| failed(end.1)).count();
        let rate = (!ended.is_empty()).then(|| float(bad as u64) / float(ended.len() as u64));
        assert_eq!(told.failure_rate, rate, "{what}");

        let recent = since(now, 300_000, 4);
        let waits = self.waits.iter().filter(|wait| recent(wait.0)).map(|wait| wait.1).collect();
        check_percentiles(told.wait_ms, waits, &format!("{what} wait"));
        let runs = answers().filter(|end| recent(end.0)).map(|end| end.2).collect();
        check_percentiles(told.run_ms, runs, &format!("{what} run"));
        self.check_totals(told, what);
    }

    fn check_totals(&self, told: &Told, what: &str) {
        let count = |how| self.ends.iter().filter(|end| end.1 == how).count() as u64;
        let totals = told.totals;
        let counts = [
            (totals.done, Ended::Done),
            (totals.failed, Ended::Failed),
            (totals.crashed, Ended::Crashed),
            (totals.released, Ended::Released),
            (totals.cancelled, Ended::Cancelled),
            (totals.given_up, Ended::GivenUp),
        ];
        for (total, how) in counts {
            assert_eq!(total, count(how), "{what} {how:?}");
        }
        assert_eq!(totals.pushed, self.pushed.iter().map(|pushed| pushed.1).sum::<u64>(), "{what}");
        assert_eq!(totals.started, self.waits.len() as u64, "{what}");
        let runs = self.ends.iter().filter(|end| is_answer(end.1)).map(|end| end.2).sum();
        assert_eq!(totals.run, ms(runs), "{what}");
        assert_eq!(totals.wait, ms(self.waits.iter().map(|wait| wait.1).sum()), "{what}");
    }
}

fn is_answer(how: Ended) -> bool {
    matches!(how, Ended::Done | Ended::Failed | Ended::Crashed)
}

/// At least what happened in the 55 s that are certain, at most what happened in 65 s; and exactly what
/// the weight of the oldest slot says.
fn check_rate(told: f64, events: &[(u64, u64)], now: u64, what: &str) {
    let sum = |slots| {
        let counts = since(now, 5000, slots);
        float(events.iter().filter(|event| counts(event.0)).map(|event| event.1).sum())
    };
    let (certain, all) = (sum(12), sum(13));
    let weight = 1.0 - float(now % 5000) / 5000.0;
    let expected = certain + (all - certain) * weight;
    assert!((told - expected).abs() < 1e-6, "{what}: {told}, not {expected}");
}

fn check_percentiles(told: Percentiles, mut times: Vec<u64>, what: &str) {
    times.sort_unstable();
    for (percent, told) in [(50, told.p50), (95, told.p95), (99, told.p99)] {
        let rank = (times.len() * percent).div_ceil(100).saturating_sub(1);
        match (times.get(rank), told) {
            (Some(&time), Some(told)) => {
                assert!(told.abs_diff(time) * 10 <= time, "{what} p{percent}: {told} for {time}");
            }
            (None, None) => {}
            (time, told) => panic!("{what} p{percent}: {told:?} for {time:?}"),
        }
    }
}

#[test]
fn the_figures_are_those_of_a_list_of_all_that_happened() {
    const HOWS: [Ended; 6] = [
        Ended::Done,
        Ended::Failed,
        Ended::Crashed,
        Ended::Released,
        Ended::Cancelled,
        Ended::GivenUp,
    ];
    for seed in seeds(60) {
        let mut rng = Rng::from_seed(seed);
        let (mut figures, mut naive) = (Figures::new(), Naive::default());
        let (pace, longest) = (1 + rng.below(20_000), 1 << rng.below(32));
        let mut now = rng.below(1 << 40);
        for step in 0..300 {
            // Sometimes nothing happens for a while.
            now += if rng.one_in(100) { rng.below(1_500_000) } else { rng.below(pace) };
            match rng.below(4) {
                0 => {
                    let n = rng.below(1000);
                    figures.pushed(at(now), n);
                    naive.pushed.push((now, n));
                }
                1 => {
                    let wait = rng.below(longest);
                    figures.started(at(now), ms(wait));
                    naive.waits.push((now, wait));
                }
                2 => {
                    let (how, run) = (HOWS[rng.index(6)], rng.below(longest));
                    figures.ended(at(now), how, ms(run));
                    naive.ends.push((now, how, run));
                }
                _ => {
                    let what = format!("seed={seed} step={step} at {now}");
                    naive.check(&figures.told(at(now)), now, &what);
                }
            }
        }
    }
}
