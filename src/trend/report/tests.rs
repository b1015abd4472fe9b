//! What is said of series of every shape, in figures and in words.

use expect_test::{Expect, expect};

use super::{Ask, Direction, Report, TooLittle, Unit, report};
use crate::base::rng::Rng;
use crate::testing::seeds;
use crate::trend::Sample;
use crate::trend::season::{Baseline, Cycle};
use crate::trend::threshold::{Never, Side, Threshold};

/// 2026-11-01, a Sunday.
const START_MS: i64 = 1_793_491_200_000;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const GB: f64 = 1e9;

/// Means of steps, each at the middle of its own.
fn series(step_ms: i64, count: u32, mut value: impl FnMut(f64) -> f64) -> Vec<Sample> {
    let at_ms = |index: u32| START_MS + step_ms / 2 + i64::from(index) * step_ms;
    (0..count).map(|index| (at_ms(index), value(f64::from(index)))).collect()
}

/// These values, one after the other.
fn listed(step_ms: i64, values: &[f64]) -> Vec<Sample> {
    let mut rest = values.iter();
    let count = u32::try_from(values.len()).unwrap();
    series(step_ms, count, |_| *rest.next().unwrap())
}

fn asked(samples: &[Sample], step_ms: i64, unit: Unit) -> Ask<'static> {
    let now_ms = samples.last().map_or(START_MS, |last| last.0 + step_ms / 2);
    Ask { step_ms, now_ms, threshold: None, usual: None, floor: None, unit }
}

fn above(value: f64) -> Threshold {
    Threshold { value, side: Side::Above }
}

fn below(value: f64) -> Threshold {
    Threshold { value, side: Side::Below }
}

fn check(samples: &[Sample], ask: &Ask<'_>, expected: &Expect) -> Report {
    let report = report(samples, ask).unwrap();
    sound(&report, "");
    expected.assert_eq(&report.text);
    report
}

fn never(report: &Report) -> Never {
    report.threshold.unwrap().1.unwrap_err()
}

/// Noise about 0 with a deviation of about 1: the sum of twelve even ones.
#[expect(clippy::cast_precision_loss, reason = "32 bits fit")]
fn noise(rng: &mut Rng) -> f64 {
    (0..12).map(|_| rng.below(1 << 32) as f64 / (1_u64 << 32) as f64).sum::<f64>() - 6.0
}

/// What holds of every answer.
fn sound(report: &Report, told: &str) {
    let statistics = &report.statistics;
    let fit = &report.trend.fit;
    let mut figures = vec![
        statistics.current,
        statistics.average,
        statistics.median,
        statistics.min,
        statistics.max,
        statistics.deviation,
        fit.line.slope,
        fit.line.centre,
        fit.p_value,
        fit.autocorrelation,
        fit.effective,
        fit.slope_interval.low,
        fit.slope_interval.high,
    ];
    assert!(fit.slope_interval.holds(fit.line.slope), "{told}: {report:?}");
    assert!(statistics.min <= statistics.median && statistics.median <= statistics.max, "{told}");
    assert!(statistics.min <= statistics.average && statistics.average <= statistics.max, "{told}");
    if let Some(sen) = &report.trend.sen {
        figures.extend([sen.slope, sen.level, sen.interval.low, sen.interval.high]);
        assert!(sen.interval.holds(sen.slope), "{told}: {sen:?}");
    }
    if let Some(next) =
        report.forecast.as_ref().map(|forecast| forecast.at(report.trend.since_ms + DAY_MS))
    {
        figures.extend([next.value, next.interval.low, next.interval.high]);
        assert!(next.interval.holds(next.value), "{told}: {next:?}");
    }
    if let Some((_, Ok(eta))) = &report.threshold {
        assert!(eta.low_ms <= eta.at_ms, "{told}: {eta:?}");
        assert!(eta.high_ms.is_none_or(|high_ms| eta.at_ms <= high_ms), "{told}: {eta:?}");
    }
    assert!(figures.iter().all(|figure| figure.is_finite()), "{told}: {report:?}");
    assert!(fit.line.r2.is_none_or(|r2| (0.0..=1.0).contains(&r2)), "{told}: {report:?}");
    assert!((0.0..=1.0).contains(&fit.p_value), "{told}: {report:?}");
    let text = &report.text;
    assert!(
        text.ends_with('.') && !text.contains("NaN") && !text.contains("inf"),
        "{told}: {text}"
    );
    let changes = &report.trend.changes_ms;
    assert!(changes.is_sorted(), "{told}: {changes:?}");
    assert!(changes.last().is_none_or(|&last| last == report.trend.since_ms), "{told}");
}

#[test]
fn nothing_is_told_of_nothing_and_of_one_or_two() {
    let all = series(MINUTE_MS, 3, |at| at);
    let ask = asked(&all, MINUTE_MS, Unit::Plain);
    assert_eq!(report(&[], &ask), Err(TooLittle::Nothing));
    assert_eq!(report(&all[..1], &ask), Err(TooLittle::Few));
    assert_eq!(report(&all[..2], &ask), Err(TooLittle::Few));
    assert!(report(&all, &ask).is_ok());
    assert_eq!(report(&[(START_MS, 1.0); 3], &ask), Err(TooLittle::Few), "all of one moment");
    let huge = series(MINUTE_MS, 9, |at| at * 1e200);
    assert_eq!(report(&huge, &ask), Err(TooLittle::OutOfRange));
    for reason in [TooLittle::Nothing, TooLittle::Few, TooLittle::OutOfRange] {
        assert!(!reason.reason().is_empty());
    }
}

#[test]
fn what_is_old_is_not_told_as_if_it_were_of_now() {
    let samples = series(MINUTE_MS, 60, |_| 3.0);
    let end_ms = START_MS + 60 * MINUTE_MS;
    let later = |ms: i64| {
        let ask = Ask { now_ms: end_ms + ms, ..asked(&samples, MINUTE_MS, Unit::Of("jobs")) };
        report(&samples, &ask).unwrap().text
    };
    assert_eq!(later(3 * MINUTE_MS), "Flat at 3 jobs.");
    assert_eq!(
        later(50 * MINUTE_MS),
        "Flat at 3 jobs. The last samples are of 1 Nov 01:00 UTC, 50 min ago."
    );
    let rising = series(MINUTE_MS, 60, |at| at);
    let reached = |ms: i64| {
        let value = rising.last().unwrap().1 * 1.5;
        let threshold = Some(Threshold { value, side: Side::Above });
        let now_ms = end_ms + ms;
        let ask = Ask { now_ms, threshold, ..asked(&rising, MINUTE_MS, Unit::Of("jobs")) };
        let report = report(&rising, &ask).unwrap();
        (report.forecast.is_some(), report.threshold.unwrap().1.map(|_| ()), report.text)
    };
    assert_eq!(reached(0).1, Ok(()));
    let (is_told, never, text) = reached(50 * MINUTE_MS);
    assert_eq!((is_told, never), (false, Err(Never::Outdated)), "{text}");
    assert!(text.contains("nothing new was recorded"), "{text}");
    assert!(later(3 * MINUTE_MS + 1).contains("3 min ago"));
}

#[test]
fn a_constant_series_is_flat() {
    let samples = series(MINUTE_MS, 60, |_| 3.0);
    let ask = Ask { threshold: Some(above(100.0)), ..asked(&samples, MINUTE_MS, Unit::Of("jobs")) };
    let report = check(
        &samples,
        &ask,
        &expect![["Flat at 3 jobs. It does not move towards 100 jobs, as far as can be seen."]],
    );
    assert_eq!(report.trend.direction, Direction::Stable);
    assert_eq!(report.trend.fit.line.r2, None);
    assert_eq!(never(&report), Never::Stable);
    assert_eq!(report.statistics.deviation.to_bits(), 0);
    let next = report.forecast.as_ref().unwrap().at(samples[59].0 + MINUTE_MS);
    assert_eq!((next.value, next.interval.low, next.interval.high), (3.0, 3.0, 3.0));

    let at = Threshold { value: 3.0, side: Side::Either };
    let report = super::report(&samples, &Ask { threshold: Some(at), ..ask }).unwrap();
    assert!(report.text.ends_with("It is at 3 jobs already."), "{}", report.text);

    let none = series(MINUTE_MS, 60, |_| 0.0);
    check(&none, &asked(&none, MINUTE_MS, Unit::Of("jobs")), &expect![["Flat at 0 jobs."]]);
}

#[test]
fn noise_about_a_level_neither_rises_nor_falls() {
    let mut rng = Rng::from_seed(1);
    let samples = series(MINUTE_MS, 60, |_| 20.0 + 2.0 * noise(&mut rng));
    let ask = Ask { threshold: Some(above(100.0)), ..asked(&samples, MINUTE_MS, Unit::Of("jobs")) };
    let report = check(
        &samples,
        &ask,
        &expect![[
            "About 19.4 jobs, between 15.7 and 24.7, neither rising nor falling. It does not move towards 100 jobs, as far as can be seen."
        ]],
    );
    assert_eq!(report.trend.direction, Direction::Stable);
    assert_eq!(never(&report), Never::Stable);
    assert_eq!(report.trend.changes_ms, Vec::<i64>::new(), "{report:?}");
}

#[test]
fn a_disk_that_fills_is_full_on_a_date() {
    let mut rng = Rng::from_seed(2);
    let samples =
        series(HOUR_MS, 7 * 24, |at| (50.0 + 1.2 * at / 24.0 + 0.2 * noise(&mut rng)) * GB);
    let ask = Ask { threshold: Some(above(70.0 * GB)), ..asked(&samples, HOUR_MS, Unit::Bytes) };
    let report = check(
        &samples,
        &ask,
        &expect![[
            "Rising by about 1.2 GB a day, steadily over 7 days. It reaches 70 GB in about 9.8 days (9.4 to 10)."
        ]],
    );
    assert_eq!(report.trend.direction, Direction::Increasing);
    assert!(!report.trend.unstable);
    let eta = report.threshold.unwrap().1.unwrap();
    let true_ms = START_MS + DAY_MS * 2_000 / 120;
    assert!(eta.low_ms < true_ms && true_ms < eta.high_ms.unwrap(), "{eta:?}");
}

#[test]
fn a_line_without_noise_is_told_without_doubt() {
    let samples = series(MINUTE_MS, 60, |at| 10.0 + 2.0 * at);
    let ask = Ask { threshold: Some(above(250.0)), ..asked(&samples, MINUTE_MS, Unit::Of("jobs")) };
    let report = check(
        &samples,
        &ask,
        &expect![[
            "Rising by about 2 jobs a minute, steadily over 60 min. It reaches 250 jobs in about 60 min."
        ]],
    );
    assert_eq!(report.trend.direction, Direction::Increasing);
    assert!(!report.trend.unstable);
}

#[test]
fn three_points_say_little_and_say_so() {
    let rising = listed(MINUTE_MS, &[1.0, 5.0, 9.5]);
    check(
        &rising,
        &asked(&rising, MINUTE_MS, Unit::Of("jobs")),
        &expect![[
            "Rising by about 4.2 jobs a minute (2.4 to 6.1), steadily over 3 min, as far as 3 points tell."
        ]],
    );
    let mixed = listed(MINUTE_MS, &[1.0, 5.0, 2.0, 7.0]);
    let ask = Ask { threshold: Some(above(100.0)), ..asked(&mixed, MINUTE_MS, Unit::Of("jobs")) };
    let report = check(
        &mixed,
        &ask,
        &expect![[
            "About 3.5 jobs, between 1 and 7, now 7, neither rising nor falling, as far as 4 points tell. When it reaches 100 jobs cannot be told: there is too little to go by."
        ]],
    );
    assert_eq!(report.trend.direction, Direction::Stable);
    assert!(report.forecast.is_none());
    assert!(report.threshold.unwrap().1.is_err());
}

#[test]
fn a_step_is_a_change_and_no_trend() {
    let mut rng = Rng::from_seed(3);
    let samples = series(HOUR_MS, 200, |at| {
        let level = if at < 100.0 { 10.0 } else { 20.0 };
        level + 0.5 * noise(&mut rng)
    });
    let ask = Ask { threshold: Some(above(40.0)), ..asked(&samples, HOUR_MS, Unit::Of("jobs")) };
    let report = check(
        &samples,
        &ask,
        &expect![[
            "About 20.1 jobs, between 18.7 and 21.3, neither rising nor falling since 5 Nov 04:00 UTC, when it went from 9.33 to 20.2 jobs. It does not move towards 40 jobs, as far as can be seen."
        ]],
    );
    assert_eq!(report.trend.direction, Direction::Stable);
    assert_eq!(report.trend.since_ms, START_MS + 100 * HOUR_MS);
    assert_eq!(never(&report), Never::Stable);

    let exact = series(HOUR_MS, 200, |at| if at < 100.0 { 10.0 } else { 20.0 });
    let report = check(
        &exact,
        &ask,
        &expect![[
            "Flat at 20 jobs since 5 Nov 04:00 UTC, when it went from 10 to 20 jobs. It does not move towards 40 jobs, as far as can be seen."
        ]],
    );
    assert_eq!(report.trend.direction, Direction::Stable);
}

#[test]
fn a_sawtooth_has_no_date() {
    let mut rng = Rng::from_seed(4);
    // Filled by 2 GB an hour, cleaned up at midnight; now it is 18:00.
    let samples =
        series(HOUR_MS, 12 * 24 + 18, |at| (20.0 + 2.0 * (at % 24.0) + 0.3 * noise(&mut rng)) * GB);
    let ask = Ask { threshold: Some(above(90.0 * GB)), ..asked(&samples, HOUR_MS, Unit::Bytes) };
    let report = check(
        &samples,
        &ask,
        &expect![[
            "It climbs and falls back again and again (12 times), between 19.7 and 66.4 GB, now 54.5 GB. When it reaches 90 GB cannot be told."
        ]],
    );
    assert_eq!(never(&report), Never::Sawtooth);
    // What is free on that disk.
    let free: Vec<Sample> = samples.iter().map(|&(at, used)| (at, 100.0 * GB - used)).collect();
    let ask = Ask { threshold: Some(below(10.0 * GB)), ..ask };
    assert_eq!(
        never(&check(
            &free,
            &ask,
            &expect![[
                "It jumps up and falls again and again (12 times), between 33.6 and 80.3 GB, now 45.5 GB. When it reaches 10 GB cannot be told."
            ]]
        )),
        Never::Sawtooth
    );
}

#[test]
fn a_disk_that_was_cleaned_up_is_judged_by_what_came_after() {
    let mut rng = Rng::from_seed(5);
    let samples = series(HOUR_MS, 15 * 24, |at| {
        let day = at / 24.0;
        let level = if day < 10.0 { 68.0 + 1.2 * day } else { 20.0 + 1.2 * (day - 10.0) };
        (level + 0.1 * noise(&mut rng)) * GB
    });
    let ask = Ask { threshold: Some(above(40.0 * GB)), ..asked(&samples, HOUR_MS, Unit::Bytes) };
    let report = check(
        &samples,
        &ask,
        &expect![[
            "Rising by about 1.2 GB a day, steadily since 11 Nov 00:00 UTC, when it went from 79.9 to 20 GB. It reaches 40 GB in about 12 days (11 to 12)."
        ]],
    );
    assert_eq!(report.trend.direction, Direction::Increasing);
    assert_eq!(report.trend.since_ms, START_MS + 10 * DAY_MS);
    let eta = report.threshold.unwrap().1.unwrap();
    let true_ms = START_MS + 10 * DAY_MS + DAY_MS * 2_000 / 120;
    assert!(eta.low_ms < true_ms && true_ms < eta.high_ms.unwrap(), "{eta:?}");
}

#[test]
fn what_begins_to_rise_is_judged_from_there() {
    let mut rng = Rng::from_seed(6);
    let samples = series(HOUR_MS, 8 * 24, |at| {
        let rises = (at / 24.0 - 5.0).max(0.0);
        (50.0 + 3.0 * rises + 0.1 * noise(&mut rng)) * GB
    });
    let ask = Ask { threshold: Some(above(80.0 * GB)), ..asked(&samples, HOUR_MS, Unit::Bytes) };
    let report = check(
        &samples,
        &ask,
        &expect![[
            "Rising by about 3 GB a day (3 to 3.1), steadily since 6 Nov 02:00 UTC. It reaches 80 GB in about 7 days (6.8 to 7.1)."
        ]],
    );
    assert_eq!(report.trend.direction, Direction::Increasing);
    let begins_ms = START_MS + 5 * DAY_MS;
    assert!((report.trend.since_ms - begins_ms).abs() < 8 * HOUR_MS, "{report:?}");
    let eta = report.threshold.unwrap().1.unwrap();
    let true_ms = START_MS + 15 * DAY_MS;
    assert!(eta.low_ms < true_ms + 2 * HOUR_MS && true_ms < eta.high_ms.unwrap(), "{eta:?}");
}

/// Busy at noon, quiet at night.
fn day(hour: f64) -> f64 {
    50.0 - 40.0 * (hour * std::f64::consts::TAU / 24.0).cos()
}

#[test]
fn days_that_are_alike_are_no_trend() {
    let mut rng = Rng::from_seed(7);
    let samples = series(HOUR_MS, 5 * 24, |at| day(at) + 2.0 * noise(&mut rng));
    let ask = Ask { threshold: Some(above(500.0)), ..asked(&samples, HOUR_MS, Unit::Of("jobs")) };
    let report = check(
        &samples,
        &ask,
        &expect![[
            "About 48.6 jobs, between 6.03 and 92.5, now 10.8, neither rising nor falling. It does not move towards 500 jobs, as far as can be seen."
        ]],
    );
    assert_eq!(report.trend.direction, Direction::Stable);
    assert!(report.threshold.unwrap().1.is_err());
}

#[test]
fn a_morning_that_is_as_all_mornings_has_no_date() {
    let mut rng = Rng::from_seed(8);
    let all = series(HOUR_MS, 14 * 24, |at| day(at) + 2.0 * noise(&mut rng));
    let usual = Baseline::of(&all).unwrap();
    assert_eq!(usual.cycle(), Cycle::Day);
    // From 6 to 12 o'clock of the day after.
    let mut morning = series(5 * MINUTE_MS, 72, |at| day(6.0 + at / 12.0) + 2.0 * noise(&mut rng));
    for sample in &mut morning {
        sample.0 += 14 * DAY_MS + 6 * HOUR_MS;
    }
    let alone = asked(&morning, 5 * MINUTE_MS, Unit::Of("jobs"));
    let ask = Ask { usual: Some(&usual), threshold: Some(above(300.0)), ..alone };
    let report = check(
        &morning,
        &ask,
        &expect![[
            "Rising by about 2.2 jobs an hour (0.38 to 4.1) since 15 Nov 09:35 UTC. Beyond what is usual at this time it does not move towards 300 jobs."
        ]],
    );
    assert_eq!(report.trend.direction, Direction::Increasing);
    assert!(report.threshold.unwrap().1.is_err(), "{report:?}");
    assert!(!report.anomaly.unwrap().is_anomaly());
    // The same without knowing what is usual.
    let alone = Ask { threshold: Some(above(300.0)), ..alone };
    check(
        &morning,
        &alone,
        &expect![[
            "Rising by about 2.2 jobs an hour (0.38 to 4.1) since 15 Nov 09:35 UTC. When it reaches 300 jobs cannot be told: that is further ahead than ten times what was looked at."
        ]],
    );
    // Three times as many as usual.
    let many: Vec<Sample> = morning.iter().map(|&(at, value)| (at, 3.0 * value)).collect();
    let report = check(
        &many,
        &ask,
        &expect![[
            "Rising by about 6.7 jobs an hour (1.1 to 12) since 15 Nov 09:35 UTC. Beyond what is usual at this time it does not move towards 300 jobs. Out of the ordinary: it is 268 jobs now, and about 89.5 jobs usually."
        ]],
    );
    assert!(report.anomaly.unwrap().is_anomaly());
    // What ended long ago is not compared with now.
    let late = Ask { now_ms: ask.now_ms + DAY_MS, ..ask };
    assert_eq!(super::report(&many, &late).unwrap().anomaly, None);
}

#[test]
fn mostly_nothing_and_now_and_then_one_is_no_trend() {
    let mut values = [0.0; 60];
    for at in [7, 19, 23, 51] {
        values[at] = 1.0;
    }
    let samples = listed(MINUTE_MS, &values);
    let alone = asked(&samples, MINUTE_MS, Unit::Of("jobs"));
    let ask = Ask { threshold: Some(above(100.0)), floor: Some(0.0), ..alone };
    let report = check(
        &samples,
        &ask,
        &expect![[
            "Mostly 0 jobs, at times up to 1, neither rising nor falling. It does not move towards 100 jobs, as far as can be seen."
        ]],
    );
    assert_eq!(report.trend.direction, Direction::Stable);
    assert!(report.threshold.unwrap().1.is_err());
    let mut values = [4.0; 60];
    values[30] = 3.0;
    let workers = listed(MINUTE_MS, &values);
    check(
        &workers,
        &asked(&workers, MINUTE_MS, Unit::Of("workers")),
        &expect![["Mostly 4 workers, at times down to 3, neither rising nor falling."]],
    );
}

#[test]
fn a_few_points_do_not_make_a_trend() {
    // An hour of next to nothing, with a burst now and then that comes to be larger.
    let mut values = [2.0, 3.0].repeat(30);
    for (at, burst) in [(30, 40.0), (41, 100.0), (49, 160.0), (55, 220.0), (58, 250.0)] {
        values[at] = burst;
    }
    let samples = listed(MINUTE_MS, &values);
    let ask =
        Ask { threshold: Some(above(1_000.0)), ..asked(&samples, MINUTE_MS, Unit::Of("jobs")) };
    let report = check(
        &samples,
        &ask,
        &expect![[
            "A few points decide the slope, so that none is told; about 3 jobs, between 2 and 250. When it reaches 1,000 jobs cannot be told."
        ]],
    );
    assert!(report.trend.unstable, "{report:?}");
    assert_eq!(never(&report), Never::Unstable);
}

#[test]
fn a_disk_that_is_cleaned_up_now_and_then_has_no_date() {
    let mut rng = Rng::from_seed(13);
    let cleaned = [0.0, 60.0, 100.0, 190.0, 240.0, 320.0];
    let samples = series(HOUR_MS, 380, |at| {
        let last = cleaned.iter().rev().find(|&&hour| hour <= at).unwrap();
        (20.0 + 0.5 * (at - last) + 0.2 * noise(&mut rng)) * GB
    });
    let ask = Ask { threshold: Some(above(90.0 * GB)), ..asked(&samples, HOUR_MS, Unit::Bytes) };
    let report = check(
        &samples,
        &ask,
        &expect![[
            "It climbs and falls back again and again (5 times), between 19.9 and 64.5 GB, now 49.9 GB. When it reaches 90 GB cannot be told."
        ]],
    );
    assert_eq!(report.trend.direction, Direction::Increasing, "as it does since the last time");
    assert_eq!(never(&report), Never::Sawtooth);
}

#[test]
fn what_was_cleaned_up_twice_and_fills_ever_since_has_a_date() {
    let mut rng = Rng::from_seed(12);
    let samples = series(HOUR_MS, 30 * 24, |at| {
        let day = at / 24.0;
        let since = if day < 4.0 {
            day
        } else if day < 8.0 {
            day - 4.0
        } else {
            day - 8.0
        };
        (20.0 + 2.0 * since + 0.1 * noise(&mut rng)) * GB
    });
    let ask = Ask { threshold: Some(above(90.0 * GB)), ..asked(&samples, HOUR_MS, Unit::Bytes) };
    let report = check(
        &samples,
        &ask,
        &expect![[
            "Rising by about 2 GB a day, steadily since 9 Nov 00:00 UTC, when it went from 27.8 to 20.1 GB. It reaches 90 GB in about 13 days."
        ]],
    );
    assert!(report.threshold.unwrap().1.is_ok());
}

#[test]
fn what_hardly_moves_is_said_to_hardly_move() {
    let mut rng = Rng::from_seed(9);
    let samples = series(HOUR_MS, 30 * 24, |at| (50.0 + 0.0005 * at + 0.05 * noise(&mut rng)) * GB);
    let ask = Ask { threshold: Some(above(100.0 * GB)), ..asked(&samples, HOUR_MS, Unit::Bytes) };
    let report = check(
        &samples,
        &ask,
        &expect![[
            "Hardly rising, by about 12 MB a day over 30 days. When it reaches 100 GB cannot be told: that is further ahead than ten times what was looked at."
        ]],
    );
    assert_eq!(report.trend.direction, Direction::Increasing);
    assert_eq!(never(&report), Never::TooFar);
}

#[test]
fn a_queue_that_empties_is_empty_at_a_moment() {
    let mut rng = Rng::from_seed(10);
    let samples = series(MINUTE_MS, 30, |at| 1_250.0 - 25.0 * at + 5.0 * noise(&mut rng));
    let alone = asked(&samples, MINUTE_MS, Unit::Of("jobs"));
    let ask = Ask { threshold: Some(below(0.0)), floor: Some(0.0), ..alone };
    let report = check(
        &samples,
        &ask,
        &expect![[
            "Falling by about 25 jobs a minute, steadily over 30 min. It reaches 0 jobs in about 20 min (20 to 21)."
        ]],
    );
    assert_eq!(report.trend.direction, Direction::Decreasing);
    let away = Ask { threshold: Some(above(2_000.0)), ..ask };
    assert_eq!(
        never(&check(
            &samples,
            &away,
            &expect![[
                "Falling by about 25 jobs a minute, steadily over 30 min. It moves away from 2,000 jobs."
            ]]
        )),
        Never::Away
    );
    let passed = Ask { threshold: Some(above(100.0)), ..ask };
    assert_eq!(
        never(&check(
            &samples,
            &passed,
            &expect![[
                "Falling by about 25 jobs a minute, steadily over 30 min. It is above 100 jobs already."
            ]]
        )),
        Never::AlreadyPassed
    );
    let passed = Ask { threshold: Some(below(2_000.0)), ..ask };
    assert_eq!(
        never(&check(
            &samples,
            &passed,
            &expect![[
                "Falling by about 25 jobs a minute, steadily over 30 min. It is below 2,000 jobs already."
            ]]
        )),
        Never::AlreadyPassed
    );
    let unknown = Threshold { value: f64::NAN, side: Side::Above };
    let ask = Ask { threshold: Some(unknown), ..ask };
    assert_eq!(super::report(&samples, &ask).unwrap().threshold, None);
}

#[test]
fn huge_and_tiny_values_are_told_too() {
    let mut rng = Rng::from_seed(11);
    for size in [1e-300, 1e-12, 1e15, 1e100, 1e140] {
        let samples = series(HOUR_MS, 100, |at| size * (100.0 + at + noise(&mut rng)));
        for unit in [Unit::Plain, Unit::Bytes, Unit::Seconds, Unit::Percent, Unit::Of("jobs")] {
            let ask =
                Ask { threshold: Some(above(size * 250.0)), ..asked(&samples, HOUR_MS, unit) };
            let report = report(&samples, &ask).unwrap();
            sound(&report, &format!("{size}"));
            assert_eq!(report.trend.direction, Direction::Increasing, "{size}: {}", report.text);
            assert!(report.threshold.unwrap().1.is_ok(), "{size}: {}", report.text);
        }
    }
}

/// Any samples at all, of a kind that happens or of none.
fn any(rng: &mut Rng) -> Vec<Sample> {
    let step_ms = [1, 1_000, MINUTE_MS, HOUR_MS][rng.index(4)];
    let count = [3_u32, 4, 7, 8, 9, 16, 17, 40, 200][rng.index(9)];
    let kind = rng.below(7);
    let scale = [1e-308, 1e-9, 1.0, 5e11, 1e149, 1e300][rng.index(6)];
    let (slope, jump) = (noise(rng), rng.below(u64::from(count)));
    let mut level = noise(rng);
    let mut at_ms = START_MS;
    let mut samples = Vec::new();
    for index in 0..count {
        at_ms += if rng.one_in(20) { 0 } else { step_ms };
        let at = f64::from(index);
        level += noise(rng);
        let value = match kind {
            0 => slope,
            1 => slope * at,
            2 => level,
            3 => slope * at + noise(rng),
            4 => f64::from(u8::from(rng.one_in(10))),
            5 => slope * (at % 12.0) + if u64::from(index) < jump { 0.0 } else { 50.0 },
            _ => f64::from_bits(rng.next_u64()),
        };
        let value = if kind < 6 { value * scale } else { value };
        samples.push((at_ms, if value.is_finite() { value } else { 0.0 }));
    }
    samples
}

#[test]
fn whatever_the_samples_are_every_figure_is_a_number_and_there_are_words() {
    let usual = Baseline::of(&series(HOUR_MS, 14 * 24, day)).unwrap();
    let mut told = 0;
    for seed in seeds(200) {
        let mut rng = Rng::from_seed(seed);
        let samples = any(&mut rng);
        let values = [0.0, -1.0, 1e300, f64::INFINITY, samples[0].1, samples[0].1 * 2.0];
        let side = [Side::Above, Side::Below, Side::Either][rng.index(3)];
        let threshold = Threshold { value: values[rng.index(values.len())], side };
        let ask = Ask {
            threshold: rng.one_in(2).then_some(threshold),
            usual: rng.one_in(2).then_some(&usual),
            floor: rng.one_in(2).then_some(0.0),
            now_ms: [i64::MIN, 0, START_MS, START_MS + DAY_MS, i64::MAX][rng.index(5)],
            ..asked(&samples, [0, 1, MINUTE_MS, i64::MAX][rng.index(4)], Unit::Bytes)
        };
        if let Ok(report) = report(&samples, &ask) {
            sound(&report, &format!("seed {seed}"));
            told += 1;
        }
    }
    assert!(told == 1 || 100 < told, "only {told} were told");
}

#[test]
fn what_only_wanders_has_a_date_no_more_often_than_chance_has_it() {
    let (mut dates, mut trends) = (0, 0);
    let all = seeds(60);
    for &seed in &all {
        let mut rng = Rng::from_seed(seed);
        let likeness = [0.0, 0.5, 0.9][rng.index(3)];
        let mut state = 0.0;
        let samples = series(MINUTE_MS, 60, |_| {
            state = likeness * state + noise(&mut rng);
            50.0 + 2.0 * state
        });
        let ask = Ask { threshold: Some(above(120.0)), ..asked(&samples, MINUTE_MS, Unit::Plain) };
        let report = report(&samples, &ask).unwrap();
        sound(&report, &format!("seed {seed}"));
        trends += usize::from(report.trend.direction != Direction::Stable);
        dates += usize::from(report.threshold.unwrap().1.is_ok());
    }
    let part = |many: usize| many * 100 / all.len();
    assert!(part(trends) <= 14 || all.len() == 1, "{trends} trends of {}", all.len());
    assert!(part(dates) <= 7 || all.len() == 1, "{dates} dates of {}", all.len());
}
