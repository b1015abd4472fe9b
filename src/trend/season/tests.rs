//! What is usual, of shops of every kind.

use super::{Baseline, Cycle, HOUR_MS};
use crate::base::rng::Rng;
use crate::testing::noise::normal;
use crate::testing::seeds;
use crate::trend::Sample;

/// Monday, 2024-01-01 00:00 UTC.
const MONDAY_MS: i64 = 1_704_067_200_000;

/// The middle of an hour after Monday.
fn at(hour: i64) -> i64 {
    MONDAY_MS + hour * HOUR_MS + HOUR_MS / 2
}

fn hourly(hours: i64, mut value: impl FnMut(i64) -> f64) -> Vec<Sample> {
    (0..hours).map(|hour| (at(hour), value(hour))).collect()
}

fn sine(hour: i64) -> f64 {
    (f64::from(i32::try_from(hour.rem_euclid(24)).unwrap()) / 24.0 * std::f64::consts::TAU).sin()
}

#[test]
fn a_week_begins_on_monday_and_a_day_at_midnight_utc() {
    let hour = MONDAY_MS / HOUR_MS;
    assert_eq!((Cycle::Week.slot(hour), Cycle::Day.slot(hour)), (0, 0));
    assert_eq!((Cycle::Week.slot(hour - 1), Cycle::Day.slot(hour - 1)), (167, 23));
    assert_eq!((Cycle::Week.slot(-1), Cycle::None.slot(-1)), (71, 0), "1969 ended on a Wednesday");
}

#[test]
fn a_day_that_repeats_is_told_by_its_hours() {
    for seed in seeds(20) {
        let mut rng = Rng::from_seed(seed);
        let samples = hourly(10 * 24, |hour| 50.0 + 20.0 * sine(hour) + normal(&mut rng));
        let baseline = Baseline::of(&samples).unwrap();
        assert_eq!(baseline.cycle(), Cycle::Day, "seed {seed}");
        for hour in 240..264 {
            let usual = baseline.usual(at(hour));
            let expected = 50.0 + 20.0 * sine(hour);
            assert!(
                (usual.value - expected).abs() < 1.8,
                "seed {seed}, {hour}: {usual:?}, {expected}"
            );
            assert!((0.7..2.8).contains(&usual.deviation), "seed {seed}, {hour}: {usual:?}");
        }
    }
}

#[test]
fn a_shop_that_rests_on_weekends_is_told_by_the_hours_of_its_week() {
    let shop = |hour: i64| {
        let works = hour.rem_euclid(168) < 120 && (8..18).contains(&hour.rem_euclid(24));
        if works { 100.0 } else { 5.0 }
    };
    for seed in seeds(20) {
        let mut rng = Rng::from_seed(seed);
        let samples = hourly(28 * 24, |hour| shop(hour) * (1.0 + 0.1 * normal(&mut rng)));
        let baseline = Baseline::of(&samples).unwrap();
        assert_eq!(baseline.cycle(), Cycle::Week, "seed {seed}");
        for hour in 28 * 24..35 * 24 {
            let usual = baseline.usual(at(hour));
            assert!(
                (usual.value / shop(hour) - 1.0).abs() < 0.25,
                "seed {seed}, {hour}: {usual:?}"
            );
        }
        let two_weeks = Baseline::of(&samples[..14 * 24]).unwrap();
        assert_eq!(two_weeks.cycle(), Cycle::Day, "seed {seed}");
    }
}

#[test]
fn noise_has_no_cycle() {
    let mut cycles = 0;
    for seed in seeds(200) {
        let mut rng = Rng::from_seed(seed);
        let mut state = 0.0;
        let days = 3 + i64::try_from(rng.below(30)).unwrap();
        let samples = hourly(days * 24, |_| {
            state = 0.8 * state + normal(&mut rng);
            10.0 + state
        });
        cycles += u32::from(Baseline::of(&samples).unwrap().cycle() != Cycle::None);
    }
    assert!(cycles <= 8, "{cycles} of 200");
}

#[test]
fn half_an_hour_later_it_is_between_two_hours() {
    let samples = hourly(10 * 24, |hour| if hour % 24 == 12 { 100.0 } else { 10.0 });
    let baseline = Baseline::of(&samples).unwrap();
    let value = |minutes: i64| baseline.usual(at(240 + 11) + minutes * 60_000).value;
    assert!((value(0) - 10.0).abs() < 1.0, "{}", value(0));
    assert!((value(30) - 55.0).abs() < 3.0, "{}", value(30));
    assert!((value(60) - 100.0).abs() < 5.0, "{}", value(60));
    let jump =
        (0..2880).map(|minute| (value(minute + 1) - value(minute)).abs()).fold(0.0, f64::max);
    assert!(jump < 2.0, "no step from a minute to the next, but {jump}");
}

#[test]
fn what_is_stored_is_near_the_medians_and_the_rest_is_in_the_deviation() {
    for seed in seeds(50) {
        let mut rng = Rng::from_seed(seed);
        let size = 10.0_f64.powi(i32::try_from(rng.below(60)).unwrap() - 30);
        let level = size * normal(&mut rng) * 100.0;
        let values: Vec<f64> = (0..24)
            .map(|_| level + size * normal(&mut rng) * (4.0 * normal(&mut rng)).exp2())
            .collect();
        let samples = hourly(9 * 24, |hour| values[usize::try_from(hour % 24).unwrap()]);
        let baseline = Baseline::of(&samples).unwrap();
        for (hour, value) in (0..24).zip(values) {
            let usual = baseline.usual(at(hour));
            let off = (usual.value - value).abs() / usual.deviation;
            assert!(off <= 1.0, "seed {seed}, {hour}: {value} is {usual:?}");
        }
    }
}

#[test]
fn one_wild_day_changes_nothing() {
    for seed in seeds(10) {
        let mut rng = Rng::from_seed(seed);
        let calm = hourly(21 * 24, |hour| 50.0 + 20.0 * sine(hour) + normal(&mut rng));
        let mut friday = calm.clone();
        for sample in &mut friday[18 * 24..19 * 24] {
            sample.1 *= 8.0;
        }
        let (calm, friday) = (Baseline::of(&calm).unwrap(), Baseline::of(&friday).unwrap());
        assert_eq!(friday.cycle(), Cycle::Day, "seed {seed}");
        for hour in 504..528 {
            let (a, b) = (calm.usual(at(hour)), friday.usual(at(hour)));
            assert!((a.value - b.value).abs() < 1.0, "seed {seed}, {hour}: {a:?}, {b:?}");
            assert!(b.deviation < 1.8 * a.deviation, "seed {seed}, {hour}: {a:?}, {b:?}");
        }
    }
}

#[test]
fn a_backup_of_one_hour_each_night_is_seen_and_quiet_hours_stay_exact() {
    let mut rng = Rng::from_seed(6);
    let samples = hourly(14 * 24, |hour| {
        if hour % 24 == 3 { 900.0 + 30.0 * normal(&mut rng) } else { 5.0 + normal(&mut rng) }
    });
    let baseline = Baseline::of(&samples).unwrap();
    assert_eq!(baseline.cycle(), Cycle::Day);
    let (night, noon) = (baseline.usual(at(3)), baseline.usual(at(12)));
    assert!((night.value - 900.0).abs() < 40.0 && 15.0 < night.deviation, "{night:?}");
    assert!((noon.value - 5.0).abs() < 1.0 && noon.deviation < 3.0, "{noon:?}");
}

#[test]
fn a_trend_is_no_deviation_and_what_is_usual_is_where_it_is_now() {
    for seed in seeds(10) {
        let mut rng = Rng::from_seed(seed);
        for days in [4, 14, 35] {
            let growing = |hour: i64| 5e11 + 4e7 * f64::from(i32::try_from(hour).unwrap());
            let samples = hourly(days * 24, |hour| growing(hour) + 1e7 * normal(&mut rng));
            let baseline = Baseline::of(&samples).unwrap();
            assert_eq!(baseline.cycle(), Cycle::None, "seed {seed}, {days} days");
            for hour in [days * 24 + 1, days * 24 + 12, days * 24 + 23] {
                let usual = baseline.usual(at(hour));
                let off = (usual.value - growing(hour)).abs();
                assert!(off < usual.deviation * 1.2, "seed {seed}, {days}, {hour}: {usual:?}");
                assert!(usual.deviation < 1.2e9, "seed {seed}, {days}, {hour}: {usual:?}");
            }
            let both = hourly(days * 24, |hour| growing(hour) + 1e10 * sine(hour));
            let baseline = Baseline::of(&both).unwrap();
            assert_eq!(baseline.cycle(), Cycle::Day, "seed {seed}, {days} days");
        }
    }
}

#[test]
fn a_constant_has_a_deviation_that_a_person_would_give_it() {
    let of = |value: f64| Baseline::of(&hourly(96, |_| value)).unwrap().usual(at(100));
    let zero = of(0.0);
    assert!(zero.value.abs() < f64::EPSILON && (1.0..1.3).contains(&zero.deviation), "{zero:?}");
    let count = of(4.0);
    assert!((1.0..1.3).contains(&count.deviation), "{count:?}");
    let bytes = of(8e9);
    assert!((8e6..1e7).contains(&bytes.deviation), "{bytes:?}");
    let share = of(0.37);
    assert!((0.000_37..0.000_5).contains(&share.deviation), "{share:?}");
}

#[test]
fn what_happens_on_most_days_is_not_out_of_the_ordinary() {
    let mut rng = Rng::from_seed(12);
    let bursts: Vec<i64> =
        (0..28).map(|day| day * 24 + i64::try_from(rng.below(24)).unwrap()).collect();
    let samples = hourly(28 * 24, |hour| if bursts.contains(&hour) { 40.0 } else { 0.0 });
    let usual = Baseline::of(&samples).unwrap().usual(at(700));
    assert!(usual.value.abs() < 1.0, "{usual:?}");
    assert!((40.0 - usual.value) / usual.deviation < 3.5, "{usual:?}");
}

#[test]
fn too_few_days_or_mostly_gaps_have_no_baseline() {
    let days = |days: i64| Baseline::of(&hourly(days * 24, |hour| 5.0 + sine(hour)));
    assert!(days(2).is_none());
    assert!(days(3).is_some());
    assert!(Baseline::of(&[]).is_none());
    let mut ends = hourly(200, |_| 1.0);
    ends.drain(10..190);
    assert!(Baseline::of(&ends).is_none());
    let minutes: Vec<Sample> = (0..3 * 1440_i64).map(|m| (MONDAY_MS + m * 60_000, 2.5)).collect();
    assert!(Baseline::of(&minutes).is_some(), "finer samples are put together");
}

#[test]
fn gaps_have_what_is_usual_at_the_hour_or_in_all() {
    let mut rng = Rng::from_seed(9);
    let mut samples = hourly(28 * 24, |hour| {
        let rests = 120 <= hour.rem_euclid(168);
        (if rests { 5.0 } else { 50.0 + 20.0 * sine(hour) }) + normal(&mut rng)
    });
    // No Tuesday noon was ever seen, and no 2 o'clock.
    samples.retain(|&(at_ms, _)| {
        let hour = (at_ms - MONDAY_MS) / HOUR_MS;
        hour % 168 != 36 && hour % 24 != 2
    });
    let baseline = Baseline::of(&samples).unwrap();
    assert_eq!(baseline.cycle(), Cycle::Week);
    let noon = baseline.usual(at(28 * 24 + 36));
    assert!((noon.value - 50.0).abs() < 3.0, "{noon:?}");
    assert!(baseline.usual(at(28 * 24 + 26)).value.is_finite());
}

#[test]
fn strange_samples_give_numbers() {
    for count in [72, 100, 600] {
        for value in [f64::MAX, -f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e150] {
            let wild = |hour: i64| if hour % 3 == 0 { value } else { 0.0 };
            for samples in [hourly(count, wild), hourly(count, |_| value)] {
                let baseline = Baseline::of(&samples).unwrap();
                for at_ms in [i64::MIN, 0, at(count), i64::MAX] {
                    let usual = baseline.usual(at_ms);
                    assert!(usual.value.is_finite(), "{value}: {usual:?}");
                    assert!(
                        0.0 < usual.deviation && usual.deviation.is_finite(),
                        "{value}: {usual:?}"
                    );
                }
            }
        }
    }
    let one_moment: Vec<Sample> = (0..200_u8).map(|k| (5, f64::from(k))).collect();
    assert!(Baseline::of(&one_moment).is_none());
    let ends = [(i64::MIN, 1.0), (0, 1.0), (i64::MAX, 1.0)];
    assert!(Baseline::of(&ends).is_none());
}
