//! What is told as out of the ordinary, and what is not.

use super::{DEVIATIONS_MAX, Score, agreed, score};
use crate::base::rng::Rng;
use crate::testing::noise::normal;
use crate::testing::{amount, seeds};
use crate::trend::Sample;
use crate::trend::season::{Baseline, Cycle};

const MINUTE_MS: i64 = 60_000;
const DAY_MINUTES: i32 = 1440;
/// Monday, 2024-01-01 00:00 UTC.
const MONDAY_MS: i64 = 1_704_067_200_000;

/// A load that follows the hours of the day and wanders around them, minute by minute.
fn load(rng: &mut Rng, minutes: i32, likeness: f64) -> Vec<Sample> {
    let new = (1.0 - likeness * likeness).sqrt();
    let mut state = normal(rng);
    let sample = |minute: i32| {
        state = likeness * state + new * normal(rng);
        let day = f64::from(minute) / f64::from(DAY_MINUTES) * std::f64::consts::TAU;
        let at_ms = MONDAY_MS + i64::from(minute) * MINUTE_MS + MINUTE_MS / 2;
        (at_ms, 100.0 + 50.0 * day.sin() + 5.0 * state)
    };
    (0..minutes).map(sample).collect()
}

/// The score at the end of the samples.
fn last(baseline: &Baseline, samples: &[Sample]) -> Score {
    let now_ms = samples.last().unwrap().0 + MINUTE_MS / 2;
    score(baseline, &samples[samples.len() - 65..], now_ms).unwrap()
}

#[test]
fn what_is_usual_is_hardly_ever_an_anomaly() {
    let (mut steps, mut wrong) = (0, 0);
    for seed in 0..amount("HOLDFAST_PATHS", 2) {
        let mut rng = Rng::from_seed(seed);
        for likeness in [0.0, 0.9, 0.99] {
            let samples = load(&mut rng, 21 * DAY_MINUTES, likeness);
            let learnt = samples.len() / 3 * 2;
            let baseline = Baseline::of(&samples[..learnt]).unwrap();
            assert_eq!(baseline.cycle(), Cycle::Day, "seed {seed}");
            for end in (learnt..samples.len()).step_by(10) {
                wrong += u32::from(last(&baseline, &samples[..end]).is_anomaly());
                steps += 1;
            }
        }
    }
    assert!(wrong <= steps / 1000, "{wrong} of {steps}");
}

#[test]
fn an_hour_of_twice_the_load_and_an_outage_are_anomalies_within_half_an_hour() {
    for seed in seeds(5) {
        let mut rng = Rng::from_seed(seed);
        let samples = load(&mut rng, 15 * DAY_MINUTES, 0.9);
        let learnt = 14 * 1440;
        let baseline = Baseline::of(&samples[..learnt]).unwrap();
        for hour in [2, 9, 14] {
            let end = learnt + hour * 60 + 30;
            let before = last(&baseline, &samples[..end - 30]);
            assert!(!before.is_anomaly(), "seed {seed}, {hour}: {before:?}");
            for factor in [0.0, 2.0] {
                let mut changed = samples[..end].to_vec();
                for sample in &mut changed[end - 30..] {
                    sample.1 *= factor;
                }
                let after = last(&baseline, &changed);
                assert!(after.is_anomaly(), "seed {seed}, {hour}, times {factor}: {after:?}");
                assert_eq!(after.score < 0.0, factor < 1.0, "seed {seed}, {hour}: {after:?}");
                assert!((after.value - after.usual).signum() * after.score > 0.0, "{after:?}");
            }
        }
    }
}

#[test]
fn a_spike_of_a_minute_is_no_anomaly() {
    let mut rng = Rng::from_seed(1);
    let mut samples = load(&mut rng, 8 * DAY_MINUTES, 0.5);
    let baseline = Baseline::of(&samples[..7 * 1440]).unwrap();
    samples.last_mut().unwrap().1 += 200.0;
    let seen = last(&baseline, &samples);
    assert!(3.5 < seen.windows[0], "{seen:?}");
    assert!(!seen.is_anomaly(), "{seen:?}");
}

#[test]
fn a_backup_of_ten_minutes_each_night_is_no_anomaly_nor_is_it_an_hour_late() {
    let mut rng = Rng::from_seed(2);
    let mut samples = load(&mut rng, 16 * DAY_MINUTES, 0.9);
    let nightly =
        |minute: usize, late: usize| (200..210).contains(&((minute + 1440 - late) % 1440));
    for (minute, sample) in samples.iter_mut().enumerate() {
        let late = if minute < 15 * 1440 { 0 } else { 60 };
        sample.1 += if nightly(minute, late) { 400.0 } else { 0.0 };
    }
    let baseline = Baseline::of(&samples[..14 * 1440]).unwrap();
    for end in 14 * 1440..16 * 1440 {
        let seen = last(&baseline, &samples[..end]);
        assert!(!seen.is_anomaly(), "{end}: {seen:?}");
    }
}

#[test]
fn windows_agree_on_the_least_if_they_are_on_one_side() {
    assert!((agreed([5.0, 4.0, 9.0]) - 4.0).abs() < f64::EPSILON);
    assert!((agreed([-5.0, -4.0, -9.0]) + 4.0).abs() < f64::EPSILON);
    assert!(agreed([5.0, -4.0, 9.0]).abs() < f64::EPSILON);
    assert!(agreed([5.0, 0.0, 9.0]).abs() < f64::EPSILON);
}

#[test]
fn without_samples_in_each_window_there_is_no_score() {
    let hourly: Vec<Sample> =
        (0..100_i64).map(|hour| (MONDAY_MS + hour * 60 * MINUTE_MS, 5.0)).collect();
    let baseline = Baseline::of(&hourly).unwrap();
    let now_ms = MONDAY_MS + 100 * 60 * MINUTE_MS;
    let at = |minutes: &[i64]| -> Vec<Sample> {
        minutes.iter().map(|minutes| (now_ms - minutes * MINUTE_MS, 5.0)).collect()
    };
    assert!(score(&baseline, &at(&[50, 10, 2]), now_ms).is_some());
    assert_eq!(score(&baseline, &[], now_ms), None);
    assert_eq!(score(&baseline, &at(&[50, 10]), now_ms), None);
    assert_eq!(
        score(&baseline, &at(&[10, 2]), now_ms),
        None,
        "the hour sees what shorter ones see"
    );
    assert_eq!(score(&baseline, &at(&[50, 10, -2]), now_ms), None, "what comes later is not seen");
}

#[test]
fn scores_are_bounded_whatever_the_samples_are() {
    let hourly: Vec<Sample> =
        (0..100_i64).map(|hour| (MONDAY_MS + hour * 60 * MINUTE_MS, 0.25)).collect();
    let baseline = Baseline::of(&hourly).unwrap();
    for value in [f64::MAX, -f64::MAX, 1e150, 0.0, 0.25] {
        let recent: Vec<Sample> = [50, 10, 2].map(|k| (MONDAY_MS - k * MINUTE_MS, value)).to_vec();
        let seen = score(&baseline, &recent, MONDAY_MS).unwrap();
        assert!(seen.score.abs() <= DEVIATIONS_MAX, "{value}: {seen:?}");
        assert!(seen.value.is_finite() && seen.usual.is_finite(), "{value}: {seen:?}");
        assert_eq!(seen.is_anomaly(), (value - 0.25).abs() > 0.0, "{value}: {seen:?}");
        let ends = [(i64::MIN, value), (i64::MIN, value), (i64::MIN, value)];
        assert_eq!(score(&baseline, &ends, i64::MIN), None);
    }
}
