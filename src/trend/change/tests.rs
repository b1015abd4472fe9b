//! Changes beside every possible division, and series that have none.

use super::pelt;
use super::sums::Sums;
use super::{STRETCH_MIN, changes, drops};
use crate::base::rng::Rng;
use crate::testing::noise::normal;
use crate::testing::{amount, seeds};
use crate::trend::Sample;

const HOUR_MS: i64 = 3_600_000;
/// Monday, 2024-01-01 00:00 UTC.
const MONDAY_MS: i64 = 1_704_067_200_000;

/// A process in which each value resembles the one before it, of variance one.
fn wandering(rng: &mut Rng, count: usize, likeness: f64) -> Vec<f64> {
    let new = (1.0 - likeness * likeness).sqrt();
    let mut state = normal(rng);
    (0..count)
        .map(|_| {
            state = likeness * state + new * normal(rng);
            state
        })
        .collect()
}

fn hourly(count: i32, value: impl Fn(f64) -> f64) -> Vec<Sample> {
    let sample = |k: i32| (MONDAY_MS + i64::from(k) * HOUR_MS + HOUR_MS / 2, value(f64::from(k)));
    (0..count).map(sample).collect()
}

fn noisy(mut samples: Vec<Sample>, rng: &mut Rng, deviation: f64) -> Vec<Sample> {
    for sample in &mut samples {
        sample.1 += normal(rng) * deviation;
    }
    samples
}

fn sine(hour: f64) -> f64 {
    (hour / 24.0 * std::f64::consts::TAU).sin()
}

/// What the best line leaves, in two passes.
fn left(samples: &[(f64, f64)]) -> f64 {
    let count = f64::from(u32::try_from(samples.len()).unwrap());
    let mean_x = samples.iter().map(|s| s.0).sum::<f64>() / count;
    let mean_y = samples.iter().map(|s| s.1).sum::<f64>() / count;
    let joint: f64 = samples.iter().map(|s| (s.0 - mean_x) * (s.1 - mean_y)).sum();
    let spread: f64 = samples.iter().map(|s| (s.0 - mean_x).powi(2)).sum();
    let slope = if spread == 0.0 { 0.0 } else { joint / spread };
    samples.iter().map(|s| (s.1 - mean_y - slope * (s.0 - mean_x)).powi(2)).sum()
}

/// The cost of the best division, by trying all of them.
fn least_cost(samples: &[(f64, f64)], price: f64) -> f64 {
    let mut cost = vec![f64::INFINITY; samples.len() + 1];
    cost[0] = -price;
    for end in STRETCH_MIN..=samples.len() {
        for begin in 0..=end - STRETCH_MIN {
            cost[end] = cost[end].min(cost[begin] + price + left(&samples[begin..end]));
        }
    }
    cost[samples.len()]
}

fn cost_of(samples: &[(f64, f64)], changes: &[usize], price: f64) -> f64 {
    let mut bounds = vec![0];
    bounds.extend(changes);
    bounds.push(samples.len());
    assert!(bounds.windows(2).all(|pair| STRETCH_MIN <= pair[1] - pair[0]), "{bounds:?}");
    let stretches = bounds.windows(2).map(|pair| left(&samples[pair[0]..pair[1]])).sum::<f64>();
    stretches + price * f64::from(u32::try_from(changes.len()).unwrap())
}

#[test]
fn the_division_is_the_best_of_all() {
    for seed in seeds(40) {
        let mut rng = Rng::from_seed(seed);
        let count = 16 + rng.index(100);
        let likeness = [0.0, 0.5, 0.95][rng.index(3)];
        let values = wandering(&mut rng, count, likeness);
        let step = 1.0 / f64::from(u32::try_from(count).unwrap());
        let mut x = -1.0;
        let mut samples = Vec::new();
        for value in values {
            samples.push((x, value / 4.0));
            x += 2.0 * step * (0.5 + f64::from(u32::try_from(rng.below(2)).unwrap()));
        }
        for price in [0.001, 0.02, 0.1, 1.0, 20.0] {
            let found = pelt::division(&Sums::of(&samples), price, STRETCH_MIN);
            let (got, best) = (cost_of(&samples, &found, price), least_cost(&samples, price));
            assert!((got - best).abs() <= 1e-10, "seed {seed}, price {price}: {got} is not {best}");
        }
    }
}

#[test]
fn differences_of_sums_are_what_lines_leave_though_values_are_around_5e11() {
    let mut rng = Rng::from_seed(8);
    let disk = noisy(hourly(512, |hour| 5e11 + hour * 4e7), &mut rng, 1e7);
    let scaled = super::scaled(&disk).unwrap();
    let sums = Sums::of(&scaled);
    for (begin, end) in [(0, 8), (0, 512), (504, 512), (100, 130), (255, 500), (7, 16)] {
        let expected = left(&scaled[begin..end]);
        for got in [sums.left(begin, end), sums.left_alike(begin, end, 0.0)] {
            assert!((got - expected).abs() < 1e-12, "{begin}..{end}: {got} is not {expected}");
        }
    }
}

/// What is left if samples resemble each other, by changing them so that they do not (Prais and Winsten).
#[test]
fn what_is_new_in_samples_that_resemble_each_other_is_what_is_left() {
    let mut rng = Rng::from_seed(4);
    let values = wandering(&mut rng, 60, 0.8);
    let samples: Vec<(f64, f64)> = values
        .iter()
        .enumerate()
        .map(|(k, &y)| (f64::from(u32::try_from(k).unwrap()) / 30.0 - 1.0, y))
        .collect();
    let sums = Sums::of(&samples);
    for likeness in [0.0_f64, 0.3, 0.8, 0.97] {
        for (begin, end) in [(0, 60), (10, 18), (40, 60)] {
            let part = &samples[begin..end];
            let first = (1.0 - likeness * likeness).sqrt();
            let mut new = vec![[first, part[0].0 * first, part[0].1 * first]];
            new.extend(part.windows(2).map(|pair| {
                [1.0 - likeness, pair[1].0 - likeness * pair[0].0, pair[1].1 - likeness * pair[0].1]
            }));
            let expected = left_of_three(&new);
            let got = sums.left_alike(begin, end, likeness);
            assert!((got - expected).abs() < 1e-9, "{begin}..{end}, {likeness}: {got}, {expected}");
        }
    }
}

/// What y leaves of two others, by taking out one after the other (Gram and Schmidt).
fn left_of_three(rows: &[[f64; 3]]) -> f64 {
    let mut rows = rows.to_vec();
    for k in 0..2 {
        let square: f64 = rows.iter().map(|row| row[k] * row[k]).sum();
        for other in k + 1..3 {
            let part = rows.iter().map(|row| row[k] * row[other]).sum::<f64>() / square;
            for row in &mut rows {
                row[other] -= part * row[k];
            }
        }
    }
    rows.iter().map(|row| row[2] * row[2]).sum()
}

#[test]
fn a_disk_that_was_cleaned_up_once_has_one_change_there() {
    for seed in seeds(20) {
        let mut rng = Rng::from_seed(seed);
        let begin = 100 + i32::try_from(rng.below(500)).unwrap();
        let cleaned = |hour: f64| if hour < f64::from(begin) { 0.0 } else { 1.2e10 };
        let disk = hourly(720, |hour| 5e11 + hour * 4e7 - cleaned(hour));
        let place = usize::try_from(begin).unwrap();
        assert_eq!(changes(&disk), [place], "seed {seed}, without noise");
        let disk = noisy(disk, &mut rng, 1e7);
        assert_eq!(changes(&disk), [place], "seed {seed}");
        assert_eq!(drops(&disk), 1, "seed {seed}");
    }
}

#[test]
fn what_wanders_around_a_level_has_hardly_ever_a_change() {
    let paths = amount("HOLDFAST_PATHS", 100);
    for (count, likeness) in [(24, 0.9), (60, 0.0), (60, 0.6), (60, 0.9), (240, 0.9)] {
        let mut wrong = 0;
        for seed in 0..paths {
            let mut rng = Rng::from_seed(seed);
            let values = wandering(&mut rng, count, likeness);
            let samples: Vec<Sample> = (0..).step_by(60_000).zip(values).collect();
            wrong += u64::from(!changes(&samples).is_empty());
        }
        assert!(
            wrong <= 2 + paths / 50,
            "{wrong} of {paths} of {count} samples, likeness {likeness}"
        );
    }
}

#[test]
fn steps_and_knees_that_can_be_seen_are_found_once() {
    let (mut steps, mut knees) = (0, 0);
    for seed in seeds(50) {
        let mut rng = Rng::from_seed(seed);
        let step = hourly(60, |hour| if hour < 40.0 { 3.0 } else { 9.0 });
        let found = changes(&noisy(step, &mut rng, 1.0));
        steps += u32::from(matches!(found[..], [begin] if begin.abs_diff(40) <= 1));
        let knee = hourly(60, |hour| 5.0 + (hour - 30.0).max(0.0) * 0.5);
        let found = changes(&noisy(knee, &mut rng, 1.0));
        knees += u32::from(matches!(found[..], [begin] if begin.abs_diff(30) <= 5));
    }
    if seeds(50).len() == 50 {
        assert!(48 <= steps, "{steps} of 50 steps");
        assert!(45 <= knees, "{knees} of 50 knees");
    }
}

#[test]
fn days_and_weeks_are_no_changes_but_a_step_among_them_is_one() {
    let shop = |hour: f64| {
        let works = hour % 168.0 < 120.0 && (8.0..18.0).contains(&(hour % 24.0));
        if works { 100.0 } else { 5.0 }
    };
    for seed in seeds(10) {
        let mut rng = Rng::from_seed(seed);
        for days in [3, 7, 30] {
            let sines = noisy(hourly(days * 24, |hour| 50.0 + 20.0 * sine(hour)), &mut rng, 1.0);
            assert_eq!(changes(&sines), Vec::<usize>::new(), "seed {seed}, {days} days");
            assert_eq!(drops(&sines), 0, "seed {seed}, {days} days");
        }
        let weeks = noisy(hourly(720, shop), &mut rng, 2.0);
        assert_eq!(changes(&weeks), Vec::<usize>::new(), "seed {seed}, weeks");
        let backups =
            hourly(168, |hour| if (3.0..4.0).contains(&(hour % 24.0)) { 100.0 } else { 5.0 });
        assert_eq!(
            changes(&noisy(backups, &mut rng, 1.0)),
            Vec::<usize>::new(),
            "seed {seed}, backups"
        );
        let more =
            hourly(720, |hour| 50.0 + 20.0 * sine(hour) + if hour < 400.0 { 0.0 } else { 15.0 });
        let found = changes(&noisy(more, &mut rng, 1.0));
        assert!(matches!(found[..], [begin] if begin.abs_diff(400) <= 3), "seed {seed}: {found:?}");
    }
}

#[test]
fn a_disk_that_is_cleaned_up_again_and_again_drops_each_time() {
    for seed in seeds(20) {
        let mut rng = Rng::from_seed(seed);
        let saw = noisy(hourly(310, |hour| hour % 31.0), &mut rng, 0.5);
        assert_eq!(drops(&saw), 9, "seed {seed}");
        let expected: Vec<usize> = (1..10).map(|tooth| tooth * 31).collect();
        assert_eq!(changes(&saw), expected, "seed {seed}");
        let nightly = noisy(hourly(168, |hour| hour % 24.0 + hour / 10.0), &mut rng, 0.3);
        assert_eq!(drops(&nightly), 6, "seed {seed}");
    }
}

#[test]
fn a_spike_is_neither_a_change_nor_a_drop() {
    for seed in seeds(20) {
        let mut rng = Rng::from_seed(seed);
        let mut samples = noisy(hourly(240, |hour| 100.0 + hour), &mut rng, 1.0);
        for _ in 0..4 {
            samples[rng.index(240)].1 += 5000.0;
        }
        assert_eq!(changes(&samples), Vec::<usize>::new(), "seed {seed}");
        assert_eq!(drops(&samples), 0, "seed {seed}");
    }
}

#[test]
fn what_only_falls_is_no_sawtooth() {
    let stairs = hourly(100, |hour| 100.0 - (hour / 20.0).floor() * 20.0);
    assert_eq!(changes(&stairs), [20, 40, 60, 80]);
    assert_eq!(drops(&stairs), 1);
    assert_eq!(drops(&hourly(100, |hour| -hour)), 0);
    // Steeply, and not evenly: each step is nearly a fall, and there is no climb between two.
    for seed in seeds(20) {
        let mut rng = Rng::from_seed(seed);
        let steep = noisy(hourly(30, |hour| -25.0 * hour), &mut rng, 5.0);
        assert!(drops(&steep) <= 1, "seed {seed}: {}", drops(&steep));
    }
}

#[test]
fn strange_samples_give_an_answer() {
    let one_moment: Vec<Sample> = (0..60_u8).map(|k| (7, f64::from(k))).collect();
    assert_eq!((changes(&[]).len(), drops(&[])), (0, 0));
    assert_eq!((changes(&[(1, 2.0)]).len(), drops(&[(1, 2.0)])), (0, 0));
    assert_eq!(changes(&one_moment), Vec::<usize>::new());
    assert_eq!(changes(&hourly(60, |_| 7.0)), Vec::<usize>::new());
    assert_eq!(drops(&hourly(60, |_| 7.0)), 0);
    for count in [16, 60, 700, 1500] {
        let huge = hourly(count, |hour| if hour % 2.0 == 0.0 { f64::MAX } else { -f64::MAX });
        assert!(changes(&huge).iter().all(|&begin| 0 < begin && begin < huge.len()));
        assert!(drops(&huge) <= huge.len());
        let ends: Vec<Sample> = huge
            .iter()
            .enumerate()
            .map(|(k, sample)| (if k < 8 { i64::MIN } else { i64::MAX }, sample.1))
            .collect();
        assert!(changes(&ends).iter().all(|&begin| 0 < begin && begin < ends.len()));
    }
}

#[test]
fn a_disk_that_was_cleaned_up_once_is_no_sawtooth_where_steps_are_long() {
    const STEP_MS: i64 = 1_800_000;
    for cleaned in (STEP_MS * 8..STEP_MS * 40).step_by(260_000) {
        // Means of half hours: the one in which it was cleaned up lies in between.
        let at = |ms: i64| {
            let since = if ms < cleaned { ms } else { ms - cleaned };
            4e11 + 3_000.0 * f64::from(i32::try_from(since).unwrap())
        };
        let mean = |step: i64| {
            (0..30).map(|minute| at(step * STEP_MS + minute * 60_000)).sum::<f64>() / 30.0
        };
        let samples: Vec<Sample> = (0..48).map(|step| (step * STEP_MS, mean(step))).collect();
        assert!(drops(&samples) <= 1, "cleaned after {cleaned} ms");
        let free: Vec<Sample> = samples.iter().map(|&(at_ms, used)| (at_ms, -used)).collect();
        assert!(drops(&free) <= 1, "what is free, cleaned after {cleaned} ms");
    }
}
