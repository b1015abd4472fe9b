//! Each sentence about steps, and a naive reference: plain loops over all samples.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "numbers of a test are small, and compared to the bit where that is meant"
)]

use super::super::point;
use super::*;
use crate::base::rng::Rng;
use crate::testing::seeds;

const MINUTE: i64 = 60_000;

fn steps(from_ms: i64, to_ms: i64, step_ms: i64) -> Steps {
    Steps { from_ms, to_ms, step_ms, now_ms: i64::MAX / 4 }
}

fn fold(function: Function, steps: Steps, samples: &[(i64, f64)]) -> Vec<Option<f64>> {
    let mut fold = Fold::new(function, steps);
    fold.samples(samples);
    fold.finish()
}

/// What `fn` means, said as plainly as it can be.
pub(in crate::series) fn naive(
    function: Function,
    steps: Steps,
    samples: &[(i64, f64)],
) -> Vec<Option<f64>> {
    (0..steps.count()).map(|n| naive_step(function, steps, n, samples)).collect()
}

fn naive_step(
    function: Function,
    steps: Steps,
    step: usize,
    samples: &[(i64, f64)],
) -> Option<f64> {
    let start = steps.start(step);
    let end = start + steps.step_ms;
    if function == Function::Last {
        let at = end.min(steps.now_ms);
        let seen = samples.iter().rev().find(|&&(t, _)| t < end && t <= at)?;
        return (start <= steps.now_ms && at - seen.0 <= 5 * MINUTE).then_some(seen.1);
    }
    let within: Vec<(i64, f64)> =
        samples.iter().copied().filter(|&(t, _)| start <= t && t < end).collect();
    let before = samples.iter().rev().find(|&&(t, _)| t < start);
    let (first, count) = (within.first()?, within.len() as f64);
    let values = || within.iter().map(|&(_, value)| value);
    let increase = || {
        let inside = naive_join(&within, steps.step_ms, &|part| {
            part.windows(2).fold(0.0, |sum, two| sum + point::rise(two[0].1, two[1].1))
        });
        match before {
            Some(before) if start - before.0 <= 5 * MINUTE => {
                point::rise(before.1, first.1) + inside
            }
            _ => inside,
        }
    };
    let sum = || {
        let mut sums = chunks(&within, steps.step_ms).into_iter().map(|part| {
            let five = chunks(part, 5 * MINUTE);
            let five = if unit(steps.step_ms).is_some() { five } else { vec![part] };
            let sums = five.into_iter().map(|five| add(five.iter().map(|&(_, value)| value)));
            add(sums)
        });
        add(&mut sums)
    };
    Some(match function {
        Function::Avg => sum() / count,
        Function::Sum => sum(),
        Function::Count => count,
        Function::Min => values().fold(f64::NAN, f64::min),
        Function::Max => values().fold(f64::NAN, f64::max),
        Function::Increase => increase(),
        Function::Rate => increase() / (steps.step_ms as f64 / 1000.0),
        Function::Quantile(part) => {
            let mut sorted: Vec<f64> = values().filter(|value| !value.is_nan()).collect();
            sorted.sort_by(f64::total_cmp);
            let count = sorted.len() as f64;
            let rank = (1..=sorted.len()).find(|&rank| part * count <= rank as f64 + 1e-9);
            rank.map_or(f64::NAN, |rank| sorted[rank - 1])
        }
        Function::Raw | Function::Last => unreachable!(),
    })
}

fn add(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().reduce(|sum, value| sum + value).unwrap_or(0.0)
}

fn unit(step_ms: i64) -> Option<i64> {
    [1440 * MINUTE, 60 * MINUTE, 5 * MINUTE].into_iter().find(|unit| step_ms % unit == 0)
}

/// The samples by the units that points of the tier have; all in one where there are none.
fn chunks(samples: &[(i64, f64)], step_ms: i64) -> Vec<&[(i64, f64)]> {
    let unit = if step_ms == 5 * MINUTE { step_ms } else { unit(step_ms).unwrap_or(step_ms) };
    samples.chunk_by(|a, b| a.0.div_euclid(unit) == b.0.div_euclid(unit)).collect()
}

type Told = (i64, f64);

/// Differences within, and between, joined in the order in which points are.
fn naive_join(samples: &[Told], step_ms: i64, inside: &dyn Fn(&[Told]) -> f64) -> f64 {
    let whole = |part: &[Told]| {
        if unit(step_ms).is_none() {
            return inside(part);
        }
        join(chunks(part, 5 * MINUTE).into_iter().map(|five| (five, inside(five))).collect())
    };
    join(chunks(samples, step_ms).into_iter().map(|part| (part, whole(part))).collect())
}

fn join(parts: Vec<(&[Told], f64)>) -> f64 {
    let mut parts = parts.into_iter();
    let Some((mut before, mut sum)) = parts.next() else { return 0.0 };
    for (part, more) in parts {
        sum = sum + point::rise(before[before.len() - 1].1, part[0].1) + more;
        before = part;
    }
    sum
}

/// Equal to the bit, but that one NaN is like another.
#[track_caller]
pub(in crate::series) fn assert_same(
    told: &[Option<f64>],
    wanted: &[Option<f64>],
    what: &dyn std::fmt::Debug,
) {
    assert_eq!(told.len(), wanted.len(), "{what:?}");
    for (n, (told, wanted)) in told.iter().zip(wanted).enumerate() {
        let same = match (told, wanted) {
            (Some(a), Some(b)) => a == b || (a.is_nan() && b.is_nan()),
            (a, b) => a.is_none() && b.is_none(),
        };
        assert!(same, "step {n}: {told:?}, not {wanted:?}: {what:?}");
    }
}

const ALL: [Function; 10] = [
    Function::Avg,
    Function::Min,
    Function::Max,
    Function::Sum,
    Function::Count,
    Function::Last,
    Function::Rate,
    Function::Increase,
    Function::Quantile(0.5),
    Function::Quantile(0.95),
];

/// Samples with gaps, resets, and now and then what is no number.
pub(in crate::series) fn some_samples(rng: &mut Rng, from_ms: i64, to_ms: i64) -> Vec<(i64, f64)> {
    let mut samples = Vec::new();
    let (mut at, mut value) = (from_ms, 0.0);
    let every = [1, 997, 10_000, 15_000, MINUTE, 7 * MINUTE][rng.below(6) as usize];
    let every = every.max((to_ms - from_ms) / 20_000);
    while at < to_ms {
        value = match rng.below(40) {
            0 => 0.0,
            1 => f64::NAN,
            2 => f64::INFINITY,
            3 => -1.5,
            _ if value.is_finite() => value + (rng.below(1000) as f64) / 7.0,
            _ => 1.0,
        };
        samples.push((at, value));
        let gap = if rng.below(50) == 0 { rng.below(20) as i64 * MINUTE } else { 0 };
        at += every + gap + rng.below(every as u64) as i64 / 4;
    }
    samples
}

#[test]
fn a_fold_says_what_plain_loops_say() {
    for seed in seeds(300) {
        let mut rng = Rng::from_seed(seed);
        let step = [1, 100, 10_000, MINUTE, 7 * MINUTE, 5 * MINUTE, 15 * MINUTE, 60 * MINUTE]
            [rng.below(8) as usize];
        let step = if rng.below(8) == 0 { 1440 * MINUTE * (1 + rng.below(2) as i64) } else { step };
        let from = step * (1 + rng.below(1000) as i64);
        let mut steps = steps(from, from + step * (1 + rng.below(40) as i64), step);
        if rng.below(2) == 0 {
            steps.now_ms = from + rng.below((steps.to_ms - from) as u64 * 2) as i64;
        }
        let span = steps.to_ms - from;
        let samples = some_samples(&mut rng, from - 10 * MINUTE, from + span + span / 4);
        // As it is told: from the look back on, in pieces.
        let told: Vec<_> =
            samples.iter().copied().filter(|&(t, _)| from - LOOK_BACK_MS <= t).collect();
        for function in ALL {
            let mut fold = Fold::new(function, steps);
            let mut rest = &told[..];
            while !rest.is_empty() {
                let (piece, after) =
                    rest.split_at(1 + rng.below(rest.len().min(700) as u64) as usize);
                fold.samples(piece);
                rest = after;
            }
            let wanted = naive(function, steps, &told);
            assert_same(&fold.finish(), &wanted, &(seed, function, steps));
        }
    }
}

#[test]
fn days_of_points_and_days_of_samples_give_the_same_to_the_bit() {
    for seed in seeds(100) {
        let mut rng = Rng::from_seed(seed);
        let day = 1440 * MINUTE;
        let (tier, multiples): (i64, &[i64]) = match rng.below(3) {
            0 => (5 * MINUTE, &[1, 2, 3, 6, 11]),
            1 => (60 * MINUTE, &[1, 2, 3, 5, 12]),
            _ => (day, &[1, 2, 7]),
        };
        let step = tier * multiples[rng.below(multiples.len() as u64) as usize];
        let from = (100 * day).div_euclid(step) * step;
        let to = from + (4 * day / step + 1) * step;
        let steps = steps(from, to, step);
        let samples = some_samples(&mut rng, 99 * day, 108 * day);
        for function in &ALL[..8] {
            let from_samples = fold(*function, steps, &samples);
            let mut mixed = Fold::new(*function, steps);
            for of_day in samples.chunk_by(|a, b| a.0.div_euclid(day) == b.0.div_euclid(day)) {
                if rng.below(2) == 0 {
                    mixed.samples(of_day);
                    continue;
                }
                for (start, point) in points(of_day, tier) {
                    mixed.point(start, &point);
                }
            }
            assert_same(&mixed.finish(), &from_samples, &(seed, function, steps));
        }
    }
}

fn points(samples: &[(i64, f64)], tier_ms: i64) -> Vec<(i64, Point)> {
    point::joined(&point::five_minutes(samples, false), tier_ms)
}

#[test]
fn a_step_without_samples_is_none_also_for_count() {
    let samples = [(MINUTE, 1.0), (3 * MINUTE, 2.0)];
    for function in ALL.into_iter().filter(|function| *function != Function::Last) {
        let told = fold(function, steps(0, 4 * MINUTE, MINUTE), &samples);
        let there: Vec<bool> = told.iter().map(Option::is_some).collect();
        assert_eq!(there, [false, true, false, true], "{function:?}");
    }
    assert_eq!(fold(Function::Count, steps(0, MINUTE, MINUTE), &[]), [None]);
}

#[test]
fn a_step_begins_with_its_start_and_ends_before_its_end() {
    let samples = [(9, 1.0), (10, 2.0), (19, 4.0), (20, 8.0)];
    assert_eq!(fold(Function::Sum, steps(10, 20, 10), &samples), [Some(6.0)]);
}

#[test]
fn increase_begins_with_the_sample_before_the_step_if_it_is_at_most_five_minutes_old_there() {
    let told = |before: i64| {
        let samples = [(10 * MINUTE - before, 10.0), (11 * MINUTE, 12.0), (12 * MINUTE - 1, 15.0)];
        fold(Function::Increase, steps(10 * MINUTE, 12 * MINUTE, 2 * MINUTE), &samples)
    };
    assert_eq!(told(5 * MINUTE), [Some(5.0)]);
    assert_eq!(told(5 * MINUTE + 1), [Some(3.0)]);
}

#[test]
fn increase_is_corrected_for_resets() {
    let samples = [(0, 10.0), (1, 15.0), (2, 3.0), (3, 4.0)];
    assert_eq!(fold(Function::Increase, steps(0, 10, 10), &samples), [Some(9.0)]);
}

#[test]
fn a_step_with_one_sample_and_none_before_has_no_increase_but_is_there() {
    assert_eq!(fold(Function::Increase, steps(0, 10, 10), &[(5, 7.0)]), [Some(0.0)]);
    assert_eq!(fold(Function::Rate, steps(0, 10, 10), &[(5, 7.0)]), [Some(0.0)]);
}

#[test]
fn rate_is_increase_by_the_seconds_of_the_step() {
    let samples = [(0, 0.0), (30_000, 90.0)];
    assert_eq!(fold(Function::Rate, steps(0, MINUTE, MINUTE), &samples), [Some(1.5)]);
}

#[test]
fn last_is_the_last_sample_that_is_at_most_five_minutes_old_at_the_end_of_the_step() {
    let told = |end| fold(Function::Last, steps(end - MINUTE, end, MINUTE), &[(MINUTE, 7.0)]);
    assert_eq!(told(2 * MINUTE), [Some(7.0)], "in the step");
    assert_eq!(told(6 * MINUTE), [Some(7.0)], "before it");
    assert_eq!(told(7 * MINUTE), [None], "too old");
    assert_eq!(told(MINUTE), [None], "the next step's");
}

#[test]
fn last_of_a_step_that_is_not_over_is_as_old_as_it_is_now() {
    let now = |now_ms| Steps { now_ms, ..steps(0, 60 * MINUTE, 60 * MINUTE) };
    let samples = [(10 * MINUTE, 7.0), (20 * MINUTE, 8.0)];
    assert_eq!(fold(Function::Last, now(15 * MINUTE), &samples), [Some(7.0)]);
    assert_eq!(fold(Function::Last, now(16 * MINUTE), &samples), [None]);
    assert_eq!(fold(Function::Last, now(20 * MINUTE), &samples), [Some(8.0)]);
    assert_eq!(fold(Function::Last, now(60 * MINUTE), &samples), [None]);
}

#[test]
fn last_says_nothing_of_steps_that_have_not_begun() {
    let steps = Steps { now_ms: 61_000, ..steps(0, 4 * MINUTE, MINUTE) };
    let told = fold(Function::Last, steps, &[(MINUTE, 7.0), (2 * MINUTE, 8.0)]);
    assert_eq!(told, [None, Some(7.0), None, None]);
}

#[test]
fn percentiles_are_samples_by_nearest_rank() {
    let samples: Vec<(i64, f64)> = (1..=100).map(|n| (n, (101 - n) as f64)).collect();
    let told = |part| fold(Function::Quantile(part), steps(0, 1000, 1000), &samples);
    for (part, wanted) in
        [(0.0, 1.0), (0.07, 7.0), (0.5, 50.0), (0.951, 96.0), (0.99, 99.0), (1.0, 100.0)]
    {
        assert_eq!(told(part), [Some(wanted)], "{part}");
    }
}

#[test]
fn min_and_max_are_no_numbers_only_if_there_is_nothing_else() {
    let samples = [(0, f64::NAN), (1, 2.0), (2, f64::NAN), (10, f64::NAN)];
    for function in [Function::Min, Function::Max, Function::Quantile(0.5)] {
        let told = fold(function, steps(0, 20, 10), &samples);
        assert_eq!(told[0], Some(2.0), "{function:?}");
        assert!(told[1].is_some_and(f64::is_nan), "{function:?}");
    }
}

#[test]
fn percentiles_of_points_come_from_their_sketches() {
    let samples: Vec<(i64, f64)> = (0..600).map(|n| (n * 1000, n as f64)).collect();
    let steps = steps(0, 10 * MINUTE, 10 * MINUTE);
    let mut from_points = Fold::new(Function::Quantile(0.5), steps);
    for (start, point) in point::five_minutes(&samples, true) {
        from_points.point(start, &point);
    }
    let mut from_samples = Fold::new(Function::Quantile(0.5), steps).sketched();
    from_samples.samples(&samples);
    let told = from_points.finish();
    assert_eq!(told, from_samples.finish(), "samples of a distribution say what its points say");
    let value = told[0].expect("a value");
    assert!((value - 299.0).abs() <= 3.0, "{value}");
}

#[test]
fn percentiles_of_points_that_have_no_sketch_are_not_known() {
    let samples = [(0, 1.0), (1, 2.0)];
    let mut fold = Fold::new(Function::Quantile(0.5), steps(0, 5 * MINUTE, 5 * MINUTE));
    for (start, point) in point::five_minutes(&samples, false) {
        fold.point(start, &point);
    }
    assert_eq!(fold.finish(), [None]);
}

#[test]
fn series_are_put_together_step_by_step() {
    let (a, b) = ([Some(1.0), None, None, Some(2.0)], [Some(3.0), Some(4.0), None, Some(f64::NAN)]);
    let told = |how| reduce(how, &[&a, &b]);
    assert_eq!(told(Reduce::Sum)[..3], [Some(4.0), Some(4.0), None]);
    assert_eq!(told(Reduce::Avg)[..3], [Some(2.0), Some(4.0), None]);
    assert_eq!(told(Reduce::Min), [Some(1.0), Some(4.0), None, Some(2.0)]);
    assert_eq!(told(Reduce::Max), [Some(3.0), Some(4.0), None, Some(2.0)]);
    assert!(told(Reduce::Sum)[3].is_some_and(f64::is_nan));
}
