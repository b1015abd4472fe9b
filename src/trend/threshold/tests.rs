//! When thresholds are reached, and when that is not told.

use super::{Eta, Never, Side, Threshold, reach};
use crate::base::rng::Rng;
use crate::testing::{amount, seeds};
use crate::trend::Sample;
use crate::trend::line::Fit;

const START_MS: i64 = 1_790_035_200_000;
const MINUTE_MS: i64 = 60_000;

fn float(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

fn every_minute(count: usize, value: impl FnMut(usize) -> f64) -> Vec<Sample> {
    let values = (0..count).map(value);
    values
        .enumerate()
        .map(|(n, value)| (START_MS + i64::try_from(n).unwrap() * MINUTE_MS, value))
        .collect()
}

fn asked(samples: &[Sample], side: Side, value: f64) -> Result<Eta, Never> {
    reach(samples, &Fit::of(samples).unwrap(), false, Threshold { value, side })
}

fn noise(number: usize) -> f64 {
    [0.4, -0.6, 0.1, -0.2, 0.7, -0.3, -0.1][number % 7]
}

#[test]
fn what_climbs_along_a_line_is_there_when_the_line_is() {
    let disk = every_minute(60, |number| 5e11 + 1e6 * float(number));
    let eta = asked(&disk, Side::Above, 5e11 + 1e8).unwrap();
    let truth = START_MS + 100 * MINUTE_MS;
    assert!((eta.at_ms - truth).abs() <= 1, "{eta:?}");
    assert!(
        (eta.low_ms - truth).abs() <= 1 && (eta.high_ms.unwrap() - truth).abs() <= 1,
        "{eta:?}"
    );

    let noisy = every_minute(60, |number| 50.0 + 0.5 * float(number) + noise(number));
    let eta = asked(&noisy, Side::Above, 90.0).unwrap();
    let minutes = |at_ms: i64| (at_ms - START_MS) / MINUTE_MS;
    assert!((79..=81).contains(&minutes(eta.at_ms)), "{eta:?}");
    assert!((76..=79).contains(&minutes(eta.low_ms)), "{eta:?}");
    assert!((81..=84).contains(&minutes(eta.high_ms.unwrap())), "{eta:?}");
}

#[test]
fn sides_are_told_apart() {
    let up = every_minute(60, |number| 50.0 + 0.5 * float(number) + noise(number));
    let down: Vec<Sample> = up.iter().map(|&(at_ms, value)| (at_ms, 100.0 - value)).collect();
    let flat = every_minute(60, |number| 50.0 + noise(number));
    let cases = [
        (&up, Side::Above, 90.0, None),
        (&up, Side::Either, 90.0, None),
        (&up, Side::Below, 90.0, Some(Never::AlreadyPassed)),
        (&up, Side::Below, 40.0, Some(Never::Away)),
        (&up, Side::Above, 70.0, Some(Never::AlreadyPassed)),
        (&up, Side::Either, 70.0, Some(Never::AlreadyPassed)),
        (&down, Side::Below, 10.0, None),
        (&down, Side::Either, 10.0, None),
        (&down, Side::Above, 90.0, Some(Never::Away)),
        (&down, Side::Either, 90.0, Some(Never::Away)),
        (&down, Side::Above, 15.0, Some(Never::AlreadyPassed)),
        (&down, Side::Below, 30.0, Some(Never::AlreadyPassed)),
        (&flat, Side::Above, 90.0, Some(Never::Stable)),
        (&flat, Side::Below, 10.0, Some(Never::Stable)),
        (&flat, Side::Either, 90.0, Some(Never::Stable)),
        (&flat, Side::Either, 10.0, Some(Never::AlreadyPassed)),
    ];
    for (number, (samples, side, value, never)) in cases.into_iter().enumerate() {
        assert_eq!(asked(samples, side, value).err(), never, "{number}: {side:?} {value}");
    }
    let [above, below] =
        [asked(&up, Side::Above, 90.0).unwrap(), asked(&down, Side::Below, 10.0).unwrap()];
    assert!((above.at_ms - below.at_ms).abs() <= 1, "{above:?} {below:?}");
}

#[test]
fn what_cannot_be_said_is_not_said_and_why() {
    let up =
        |count: usize| every_minute(count, |number| 50.0 + 0.5 * float(number) + noise(number));
    assert_eq!(asked(&up(7), Side::Above, 90.0), Err(Never::TooLittle));
    assert!(asked(&up(8), Side::Above, 60.0).is_ok());
    assert_eq!(
        asked(&up(7), Side::Above, 40.0),
        Err(Never::AlreadyPassed),
        "seven are enough to see that"
    );
    let above = |value: f64| Threshold { value, side: Side::Above };
    let samples = up(60);
    let fit = Fit::of(&samples).unwrap();
    assert_eq!(reach(&samples, &fit, true, above(90.0)), Err(Never::Unstable));
    assert_eq!(reach(&samples, &fit, true, above(60.0)), Err(Never::AlreadyPassed));
    assert_eq!(
        reach(&samples, &fit, true, Threshold { value: 60.0, side: Side::Either }),
        Err(Never::AlreadyPassed)
    );
    assert_eq!(reach(&[], &fit, false, above(90.0)), Err(Never::TooLittle));
    // It climbs by 29.5 in an hour: ten hours later it is at about 375.
    assert!(asked(&samples, Side::Above, 370.0).is_ok());
    assert_eq!(asked(&samples, Side::Above, 380.0), Err(Never::TooFar));
}

#[test]
fn a_sawtooth_has_no_moment_whichever_way_its_teeth_point() {
    let teeth = every_minute(90, |number| 40.0 + float(number % 30) + 0.2 * float(number));
    let last = &teeth[60..];
    let fit = Fit::of(last).unwrap();
    let above = Threshold { value: 200.0, side: Side::Above };
    assert_eq!(reach(&teeth, &fit, false, above), Err(Never::Sawtooth));
    assert!(reach(last, &fit, false, above).is_ok(), "a tooth alone is a line");
    let below = Threshold { value: -200.0, side: Side::Below };
    let upside_down: Vec<Sample> = teeth.iter().map(|&(at_ms, value)| (at_ms, -value)).collect();
    let fit = Fit::of(&upside_down[60..]).unwrap();
    assert_eq!(reach(&upside_down, &fit, false, below), Err(Never::Sawtooth));
}

#[test]
fn a_line_that_is_there_already_makes_it_now_and_not_before() {
    let mut samples = every_minute(60, |number| 60.0 + 0.5 * float(number));
    samples[59].1 = 88.0;
    let eta = asked(&samples, Side::Above, 88.5).unwrap();
    assert_eq!((eta.at_ms, eta.low_ms), (samples[59].0, samples[59].0), "{eta:?}");
    assert!(samples[59].0 <= eta.high_ms.unwrap(), "{eta:?}");
}

#[test]
fn a_slope_that_is_hardly_one_may_take_for_ever() {
    let fit = |low: f64| {
        let samples = every_minute(60, |number| 50.0 + 0.05 * float(number) + noise(number));
        let mut fit = Fit::of(&samples).unwrap();
        let slope = fit.line.slope;
        fit.slope_interval.low = low * slope;
        fit.slope_interval.high = (2.0 - low) * slope;
        reach(&samples, &fit, false, Threshold { value: 60.0, side: Side::Above }).unwrap()
    };
    assert!(fit(0.5).high_ms.is_some());
    assert_eq!(fit(1e-4).high_ms, None);
}

#[test]
fn whatever_the_samples_are_moments_are_in_order() {
    let wild: [Vec<Sample>; 5] = [
        every_minute(20, |number| 1e307 * float(number % 7)),
        every_minute(20, |number| 8e306 * float(number)),
        every_minute(20, |number| 5e-324 * float(number)),
        (0..20).map(|n| (i64::MIN + n, float(usize::try_from(n).unwrap()))).collect(),
        (0..20).map(|n| (n * (i64::MAX / 20), float(usize::try_from(n).unwrap()))).collect(),
    ];
    for (number, samples) in wild.iter().enumerate() {
        let Some(fit) = Fit::of(samples) else { continue };
        for side in [Side::Above, Side::Below, Side::Either] {
            for value in [f64::MIN, -1.0, 0.0, 1.0, 25.0, 190.0, f64::MAX] {
                let Ok(eta) = reach(samples, &fit, false, Threshold { value, side }) else {
                    continue;
                };
                let last_ms = samples[19].0;
                assert!(last_ms <= eta.low_ms && eta.low_ms <= eta.at_ms, "{number} {eta:?}");
                assert!(eta.high_ms.is_none_or(|high_ms| eta.at_ms <= high_ms), "{number} {eta:?}");
            }
        }
    }
    assert!(asked(&wild[1], Side::Above, f64::MAX).is_ok());
}

/// With `HOLDFAST_TREND_PATHS=10000`, each of them 10,000 times. There are more than 95 in a hundred, as the interval is that
/// of the values around the line, not of the line alone.
#[test]
fn the_moment_of_the_true_line_lies_in_the_interval() {
    let many = amount("HOLDFAST_TREND_PATHS", 12);
    let (mut held, mut told) = (0_u32, 0_u32);
    for likeness in [0.0, 0.3, 0.6, 0.9_f64] {
        for far in [2.0, 5.0] {
            let (mut own, mut own_told) = (0_u32, 0_u32);
            for seed in seeds(many) {
                let mut rng = Rng::from_seed(seed);
                let mut rest = 0.0;
                let samples = every_minute(60, |number| {
                    let even: f64 =
                        (0..12).map(|_| float(rng.index(1 << 20)) / float(1 << 20)).sum();
                    let new = even - 6.0;
                    rest = if number == 0 {
                        new
                    } else {
                        likeness * rest + (1.0 - likeness * likeness).sqrt() * new
                    };
                    5e11 + 0.1 * float(number) + rest
                });
                let truth_ms = START_MS + if far < 3.0 { 120 } else { 300 } * MINUTE_MS;
                if let Ok(eta) = asked(&samples, Side::Above, 5e11 + 6.0 * far) {
                    let late = eta.high_ms.is_none_or(|high_ms| truth_ms <= high_ms);
                    own += u32::from(eta.low_ms <= truth_ms && late);
                    own_told += 1;
                }
            }
            if 1_000 <= many {
                let part = f64::from(own) / f64::from(own_told);
                assert!(0.93 <= part, "{likeness} {far}: {part} of {own_told}");
            }
            held += own;
            told += own_told;
        }
    }
    let part = f64::from(held) / f64::from(told);
    assert!(u32::try_from(many).unwrap() * 6 <= told, "{told}");
    assert!(0.92 <= part, "seeds 0..{many}: {part} of {told}");
}
