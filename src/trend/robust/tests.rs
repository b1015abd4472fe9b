//! Medians and slopes beside those of scipy, and beside plain loops.

use super::{DEVIATION_OF_DISTANCE, PAIRED_MAX, median, median_distance, quantile, theil_sen};
use crate::base::rng::Rng;
use crate::testing::noise::normal;
use crate::testing::seeds;
use crate::trend::Sample;

const FIXTURES: &str = include_str!("../fixtures/theil_sen.txt");

fn assert_close(got: f64, expected: f64, what: &str) {
    let error = (got - expected).abs() / expected.abs().max(1e-12);
    assert!(error <= 1e-10, "{what}: {got:e} is not {expected:e}, it is {error:e} off");
}

#[test]
fn slopes_and_their_intervals_are_those_of_scipy() {
    let mut count = 0;
    for line in FIXTURES.lines().filter(|line| !line.starts_with('#')) {
        let parts: Vec<&str> = line.split(" | ").collect();
        let number = |k: usize| parts[k].parse::<f64>().unwrap();
        let sample = |text: &str| -> Sample {
            let (at, value) = text.split_once('=').unwrap();
            (at.parse().unwrap(), value.parse().unwrap())
        };
        let samples: Vec<Sample> = parts[5].split(' ').map(sample).collect();
        let sen = theil_sen(&samples, f64::INFINITY).unwrap();
        assert_close(sen.slope, number(1), &format!("slope of {}", parts[0]));
        assert_close(sen.level, number(2), &format!("level of {}", parts[0]));
        assert_close(sen.interval.low, number(3), &format!("low end of {}", parts[0]));
        assert_close(sen.interval.high, number(4), &format!("high end of {}", parts[0]));
        assert_eq!(sen.anchor_ms, samples[0].0, "{}", parts[0]);
        count += 1;
    }
    assert_eq!(count, 11, "all cases were read");
}

#[test]
fn medians_are_those_of_sorted_values() {
    for seed in seeds(200) {
        let mut rng = Rng::from_seed(seed);
        let count = 1 + rng.index(40);
        let mut values: Vec<f64> = (0..count).map(|_| normal(&mut rng)).collect();
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let expected = f64::midpoint(sorted[(count - 1) / 2], sorted[count / 2]);
        assert_eq!(median(&mut values), Some(expected), "seed {seed}");
        assert_eq!(quantile(&mut values, 1.0), sorted.last().copied(), "seed {seed}");
        assert_eq!(quantile(&mut values, 0.0), sorted.first().copied(), "seed {seed}");
    }
    assert_eq!(median(&mut []), None);
    assert_eq!(quantile(&mut [], 0.5), None);
}

#[test]
fn half_of_the_values_may_be_wild_and_the_deviation_stays() {
    let mut rng = Rng::from_seed(3);
    let mut values: Vec<f64> = (0..20_000).map(|_| normal(&mut rng) * 5.0).collect();
    let deviation = median_distance(&values, 0.0).unwrap() * DEVIATION_OF_DISTANCE;
    assert!((4.8..5.2).contains(&deviation), "{deviation}");
    for value in values.iter_mut().step_by(5) {
        *value = 1e12;
    }
    let deviation = median_distance(&values, 0.0).unwrap() * DEVIATION_OF_DISTANCE;
    assert!((4.8..8.0).contains(&deviation), "{deviation}");
    assert_eq!(median_distance(&[], 0.0), None);
}

#[test]
fn a_long_series_has_the_slope_of_samples_chosen_evenly() {
    let count = 11_000_i64;
    let mut rng = Rng::from_seed(5);
    let line =
        |k: i64, noise: f64| (k * 60_000, f64::from(i32::try_from(k).unwrap()) * 3.0 + noise);
    let samples: Vec<Sample> = (0..count).map(|k| line(k, normal(&mut rng))).collect();
    let sen = theil_sen(&samples, f64::INFINITY).unwrap();
    assert!((sen.slope - 0.05).abs() < 1e-6, "{sen:?}");
    assert!(sen.interval.holds(0.05), "{sen:?}");
    let short = theil_sen(&samples[..PAIRED_MAX], f64::INFINITY).unwrap();
    assert!(sen.interval.high - sen.interval.low < short.interval.high - short.interval.low);
}

#[test]
fn the_interval_holds_the_slope_though_each_sample_resembles_the_one_before() {
    let (mut held, mut held_if_independent, paths) = (0, 0, 300);
    let likeness = 0.7_f64;
    for seed in seeds(paths) {
        let mut rng = Rng::from_seed(seed);
        let mut state = normal(&mut rng) / (1.0 - likeness * likeness).sqrt();
        let mut samples = Vec::new();
        for k in 0..60_i64 {
            samples.push((k * 1000, state + f64::from(i32::try_from(k).unwrap()) * 0.5));
            state = state * likeness + normal(&mut rng);
        }
        let effective = 60.0 * (1.0 - likeness) / (1.0 + likeness);
        held += u32::from(theil_sen(&samples, effective).unwrap().interval.holds(0.5));
        let independent = theil_sen(&samples, f64::INFINITY).unwrap();
        held_if_independent += u32::from(independent.interval.holds(0.5));
    }
    if paths == seeds(paths).len() as u64 {
        assert!((273..=297).contains(&held), "{held} of {paths}");
        assert!(held_if_independent < 240, "{held_if_independent} of {paths}");
    }
}

#[test]
fn strange_samples_give_an_answer_that_is_a_number() {
    let huge = [(0, f64::MAX), (1, -f64::MAX), (2, f64::MAX), (i64::MAX, -f64::MAX)];
    let wide = [(i64::MIN, 1.0), (i64::MAX, f64::MIN_POSITIVE)];
    for samples in [&huge[..], &wide[..]] {
        for effective in [f64::NAN, 0.0, 1.0, f64::INFINITY] {
            let sen = theil_sen(samples, effective).unwrap();
            let numbers = [sen.slope, sen.level, sen.interval.low, sen.interval.high];
            assert!(numbers.iter().all(|number| number.is_finite()), "{sen:?}");
            assert!(sen.interval.holds(sen.slope), "{sen:?}");
        }
    }
    assert_eq!(theil_sen(&[], 1.0), None);
    assert_eq!(theil_sen(&[(5, 1.0)], 1.0), None);
    assert_eq!(theil_sen(&[(5, 1.0), (5, 2.0), (5, 3.0)], 1.0), None);
}
