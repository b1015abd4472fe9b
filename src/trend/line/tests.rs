//! Lines beside exact arithmetic and simulated paths.

use super::{CONFIDENCE, Fit, Line};
use crate::base::rng::Rng;
use crate::testing::{amount, seeds};
use crate::trend::Sample;
use crate::trend::moments::Moments;
use crate::trend::student;

const REFERENCE: &str = include_str!("../fixtures/lines.txt");
const NOW_MS: i64 = 1_700_000_000_000;

/// A set of the reference: its name, its samples, and what follows for them.
#[derive(Default)]
struct Set {
    name: &'static str,
    samples: Vec<Sample>,
    figures: Vec<(&'static str, f64)>,
}

impl Set {
    fn figure(&self, name: &str) -> f64 {
        self.figures.iter().find(|figure| figure.0 == name).expect("it is there").1
    }
}

fn sets() -> Vec<Set> {
    let mut sets: Vec<Set> = Vec::new();
    for line in REFERENCE.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&'static str> = line.split(' ').collect();
        if words[0] == "set" {
            sets.push(Set { name: words[1], ..Set::default() });
            continue;
        }
        let set = sets.last_mut().expect("a set comes first");
        if words[0] == "row" {
            set.samples.push((words[1].parse().unwrap(), words[2].parse().unwrap()));
        } else {
            set.figures.push((words[0], words[1].parse().unwrap()));
        }
    }
    sets
}

#[test]
fn lines_are_those_of_exact_arithmetic() {
    let sets = sets();
    assert_eq!(sets.len(), 11);
    for set in &sets {
        let moments = Moments::of(&set.samples);
        let line = moments.line().unwrap();
        let freedom = f64::from(u32::try_from(line.count).unwrap()) - 2.0;
        let half = line.slope_error * student::reach(CONFIDENCE, freedom);
        let found = [
            ("slope", line.slope),
            ("mean", line.centre),
            ("mean", moments.mean().unwrap()),
            ("stderr", line.slope_error),
            ("p", student::beyond(line.slope / line.slope_error, freedom)),
            ("low", line.slope - half),
            ("high", line.slope + half),
            ("deviation", line.residual_deviation),
            ("values", moments.deviation().unwrap()),
            ("r", line.r2.unwrap().sqrt().copysign(line.slope)),
        ];
        for (name, found) in found {
            let wanted = set.figure(name);
            let difference = (found / wanted - 1.0).abs();
            assert!(difference < 1e-12, "{} {name}: {found:e} {wanted:e}", set.name);
        }
    }
}

#[test]
fn a_fit_has_the_line_of_least_squares_whatever_resembles_what() {
    for set in sets() {
        let fit = Fit::of(&set.samples).unwrap();
        assert_eq!(Some(fit.line), Moments::of(&set.samples).line(), "{}", set.name);
        let middle = f64::midpoint(fit.slope_interval.low, fit.slope_interval.high);
        let width = fit.slope_interval.high - fit.slope_interval.low;
        assert!((middle - fit.line.slope).abs() <= 1e-12 * width, "{}", set.name);
        assert!(set.figure("high") - set.figure("low") <= width * (1.0 + 1e-12), "{}", set.name);
        assert!(set.figure("p") <= fit.p_value * (1.0 + 1e-12), "{}", set.name);
    }
}

fn unit(rng: &mut Rng) -> f64 {
    f64::from(u32::try_from(rng.below(1 << 32)).unwrap()) / 4_294_967_296.0
}

fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * (1.0 - unit(rng)).ln()).sqrt() * (std::f64::consts::TAU * unit(rng)).cos()
}

/// Residuals of which each is `rho` times the one before and something new, of a variance of 1 throughout.
fn process(rng: &mut Rng, count: usize, rho: f64) -> Vec<f64> {
    let new = (1.0 - rho * rho).sqrt();
    let mut value = normal(rng);
    let mut next = || {
        let now = value;
        value = rho * value + new * normal(rng);
        now
    };
    (0..count).map(|_| next()).collect()
}

/// The slope of paths, by the second.
const SLOPE: f64 = -0.003;

fn path(rng: &mut Rng, count: usize, rho: f64) -> Vec<Sample> {
    let residuals = process(rng, count, rho);
    let moment = |number: usize| NOW_MS + 60_000 * i64::try_from(number).unwrap();
    let value = |(number, residual): (usize, f64)| {
        (moment(number), 40.0 + SLOPE * 60.0 * f64::from(u32::try_from(number).unwrap()) + residual)
    };
    residuals.into_iter().enumerate().map(value).collect()
}

/// What many paths gave.
#[derive(Default)]
struct Paths {
    holds: f64,
    insignificant: f64,
    autocorrelation: f64,
    effective: f64,
}

/// Means over so many paths, each thinned out by `keep`.
fn paths(many: u64, (count, rho): (usize, f64), keep: fn(&mut Rng, &mut Vec<Sample>)) -> Paths {
    let mut sums = Paths::default();
    for seed in 0..many {
        let mut rng = Rng::from_seed(seed * 1_000_003 + u64::try_from(count).unwrap());
        let mut samples = path(&mut rng, count, rho);
        keep(&mut rng, &mut samples);
        let fit = Fit::of(&samples).expect("samples that vary have a line");
        let holds = fit.slope_interval.holds(SLOPE);
        sums.holds += f64::from(u8::from(holds));
        // Against the true slope as against none: the same distance, the same significance.
        let level: Vec<Sample> = if seed % 8 == 0 { turned(&samples) } else { Vec::new() };
        if let Some(level) = Fit::of(&level) {
            assert_eq!(level.slope_interval.holds(0.0), holds, "seed {seed}");
            assert_eq!(0.05 <= level.p_value, holds, "seed {seed}: {level:?}");
            sums.insignificant += 8.0 * f64::from(u8::from(0.05 <= level.p_value));
        }
        sums.autocorrelation += fit.autocorrelation;
        sums.effective += fit.effective;
    }
    let mean = |sum: f64| sum / f64::from(u32::try_from(many).unwrap());
    Paths {
        holds: mean(sums.holds),
        insignificant: mean(sums.insignificant),
        autocorrelation: mean(sums.autocorrelation),
        effective: mean(sums.effective),
    }
}

/// The same samples without the slope.
fn turned(samples: &[Sample]) -> Vec<Sample> {
    let seconds = |at_ms: i64| f64::from(u32::try_from((at_ms - NOW_MS) / 1_000).unwrap());
    samples.iter().map(|&(at_ms, value)| (at_ms, value - SLOPE * seconds(at_ms))).collect()
}

/// How far a part found among so many may be from a true one: four deviations; nothing for 10,000.
fn slack(many: u64) -> f64 {
    if 10_000 <= many {
        return 0.0;
    }
    4.0 * (0.05 * 0.95 / f64::from(u32::try_from(many).unwrap())).sqrt()
}

#[test]
fn intervals_of_95_percent_hold_the_slope_in_93_to_97_of_100_paths() {
    let many = amount("HOLDFAST_TREND_PATHS", 120);
    for count in [60, 240, 720] {
        // The longer ones take longer.
        let many =
            if many < 10_000 { many * 60 / u64::try_from(count).unwrap() + 30 } else { many };
        for rho in [0.0, 0.3, 0.6, 0.9] {
            let found = paths(many, (count, rho), |_, _| {});
            let what = format!("{count} samples, {rho}: {} of {many}", found.holds);
            let bounds = (0.93 - slack(many)).max(0.7)..=0.97 + slack(many);
            assert!(bounds.contains(&found.holds), "{what}");
            let far = found.autocorrelation - rho;
            let bias = 4.0 / f64::from(u32::try_from(count).unwrap()) + slack(many) * 0.5;
            assert!(far.abs() < bias, "{what}: likeness {}", found.autocorrelation);
        }
        // Samples that alternate are worth no more than there are: intervals are wider than they had to be.
        let found = paths(many, (count, -0.4), |_, _| {});
        assert!(0.97 - slack(many) <= found.holds, "{count}, alternating: {}", found.holds);
        let count = f64::from(u32::try_from(count).unwrap());
        assert!(0.9 * count < found.effective && found.effective <= count, "{}", found.effective);
    }
}

#[test]
fn intervals_hold_the_slope_when_samples_are_missing_too() {
    let many = amount("HOLDFAST_TREND_PATHS", 120);
    let holes: fn(&mut Rng, &mut Vec<Sample>) = |rng, samples| samples.retain(|_| !rng.one_in(3));
    let outage: fn(&mut Rng, &mut Vec<Sample>) = |_, samples| {
        samples.drain(50..80);
    };
    for keep in [holes, outage] {
        for rho in [0.0, 0.6, 0.9] {
            let found = paths(many, (120, rho), keep);
            let what = format!("{rho}: {} of {many}", found.holds);
            let bounds = (0.93 - slack(many)).max(0.7)..=0.97 + slack(many);
            assert!(bounds.contains(&found.holds), "{what}");
            let far = (found.autocorrelation - rho).abs();
            assert!(far < 0.05 + slack(many) * 0.5, "{what}: likeness {}", found.autocorrelation);
        }
    }
}

#[test]
fn samples_that_resemble_each_other_are_worth_fewer() {
    // Of a process with 0.8, nine are worth one; of noise, each is worth itself.
    let found = paths(20, (500, 0.8), |_, _| {});
    assert!((35.0..75.0).contains(&found.effective), "{}", found.effective);
    let found = paths(20, (500, 0.0), |_, _| {});
    assert!((430.0..=500.0).contains(&found.effective), "{}", found.effective);
}

#[test]
fn a_walk_by_chance_is_seldom_a_trend() {
    let mut significant = 0;
    for seed in seeds(60) {
        let mut rng = Rng::from_seed(seed);
        let mut level = 50.0;
        let mut step = |number: i64| {
            level += normal(&mut rng);
            (NOW_MS + 60_000 * number, level)
        };
        let samples: Vec<Sample> = (0..240).map(&mut step).collect();
        let fit = Fit::of(&samples).unwrap();
        significant += u32::from(fit.p_value < 0.05);
        assert!(fit.effective < 60.0, "seed {seed}: {fit:?}");
    }
    // One in four; with least squares alone, nine in ten.
    assert!(significant < 26, "{significant} of 60");
}

fn samples(values: &[f64]) -> Vec<Sample> {
    let moments = (0..).map(|number| NOW_MS + 60_000 * number);
    moments.zip(values.iter().copied()).collect()
}

#[test]
fn constants_have_no_slope_and_perfect_lines_no_doubt() {
    for value in [0.0, 42.0, 0.1, -5e11, 1e308, 5e-324] {
        let fit = Fit::of(&samples(&[value; 30])).unwrap();
        assert_eq!((fit.line.slope, fit.line.r2, fit.p_value), (0.0, None, 1.0), "{value}");
        assert_eq!((fit.slope_interval.low, fit.slope_interval.high), (0.0, 0.0), "{value}");
        assert_eq!((fit.effective, fit.autocorrelation), (30.0, 0.0), "{value}");
        assert!((fit.line.at(NOW_MS + 86_400_000) - value).abs() <= 0.0, "{value}");
    }
    let climbs = |step: f64| -> Vec<f64> {
        (0_u32..30).map(|number| 5e11 + step * f64::from(number)).collect()
    };
    for step in [6.0, -6.0, 0.1, 1e9] {
        let fit = Fit::of(&samples(&climbs(step))).unwrap();
        assert!((fit.line.slope / (step / 60.0) - 1.0).abs() < 1e-4, "{step}: {fit:?}");
        assert!(fit.p_value < 1e-20 && fit.line.r2.is_some_and(|r2| 0.999_999 < r2), "{step}");
        assert_eq!(
            (fit.slope_interval.low, fit.slope_interval.high),
            (fit.line.slope, fit.line.slope)
        );
    }
    // What wobbles in its last digit alone has no trend that is worth the name.
    let wobbles = [5e11, 5e11 + 6e-5, 5e11, 5e11, 5e11 + 6e-5, 5e11, 5e11 + 6e-5, 5e11];
    assert!(0.05 < Fit::of(&samples(&wobbles)).unwrap().p_value);
}

#[test]
fn a_few_samples_say_little_and_too_few_nothing() {
    assert_eq!(Fit::of(&[]), None);
    assert_eq!(Fit::of(&samples(&[1.0])), None);
    assert_eq!(Fit::of(&samples(&[1.0, 2.0])), None);
    assert_eq!(Fit::of(&[(NOW_MS, 1.0), (NOW_MS, 2.0), (NOW_MS, 3.0)]), None);
    let fit = Fit::of(&samples(&[1.0, 2.0, 2.9])).unwrap();
    assert!(0.01 < fit.p_value && fit.slope_interval.holds(fit.line.slope), "{fit:?}");
    let fit = Fit::of(&samples(&[1.0, 9.0, 2.0])).unwrap();
    assert!(0.3 < fit.p_value && fit.slope_interval.holds(0.0), "{fit:?}");
    // Two of the moments are the same one.
    let fit = Fit::of(&[(0, 1.0), (0, 2.0), (5_000, 3.0), (5_000, 3.5)]).unwrap();
    assert!(fit.p_value.is_finite() && fit.slope_interval.holds(0.35), "{fit:?}");
}

#[test]
fn in_units_however_large_or_small_the_same_is_said() {
    let plain = path(&mut Rng::from_seed(7), 60, 0.5);
    let wanted = Fit::of(&plain).unwrap();
    for exponent in [-1_000, -700, -380, 380, 700, 1_000] {
        let unit = 2.0_f64.powi(exponent);
        let samples: Vec<Sample> =
            plain.iter().map(|&(at_ms, value)| (at_ms, value * unit)).collect();
        let found = Fit::of(&samples).unwrap();
        for (found, wanted) in [
            (found.line.slope, wanted.line.slope * unit),
            (found.line.centre, wanted.line.centre * unit),
            (found.slope_interval.low, wanted.slope_interval.low * unit),
            (found.p_value, wanted.p_value),
            (found.effective, wanted.effective),
            (found.autocorrelation, wanted.autocorrelation),
        ] {
            // The smallest numbers have but forty bits left.
            let near = (found - wanted).abs() <= 1e-9 * wanted.abs();
            assert!(near, "2^{exponent}: {found:e} {wanted:e}");
        }
    }
}

#[test]
fn whatever_the_samples_are_a_fit_has_numbers() {
    let values = [
        0.0,
        -0.0,
        f64::MIN_POSITIVE,
        5e-324,
        1.0,
        1.0 + f64::EPSILON,
        1e150,
        -1e160,
        f64::MAX,
        f64::MIN,
    ];
    let steps = [0, 0, 1, 60_000, 60_000, 3_600_000, 1 << 40, i64::MAX];
    for seed in seeds(2_000) {
        let mut rng = Rng::from_seed(seed);
        let kinds = 1 + rng.index(values.len());
        let mut at_ms = [0, NOW_MS, i64::MIN, i64::MAX - 5][rng.index(4)];
        let mut sample = |_| {
            at_ms = at_ms.saturating_add(steps[rng.index(steps.len())]);
            (at_ms, values[rng.index(kinds)])
        };
        let samples: Vec<Sample> = (0..12).map(&mut sample).collect();
        let Some(fit) = Fit::of(&samples) else { continue };
        check(&fit, samples.len(), seed);
    }
}

fn check(fit: &Fit, count: usize, seed: u64) {
    let count = f64::from(u32::try_from(count).unwrap());
    assert!(
        fit.slope_interval.low.is_finite() && fit.slope_interval.high.is_finite(),
        "seed {seed}"
    );
    assert!(fit.slope_interval.holds(fit.line.slope), "seed {seed}: {fit:?}");
    assert!((0.0..=1.0).contains(&fit.p_value), "seed {seed}: {fit:?}");
    assert!((-1.0..=1.0).contains(&fit.autocorrelation), "seed {seed}: {fit:?}");
    assert!((1.0..=count).contains(&fit.effective), "seed {seed}: {fit:?}");
    let Line { slope, centre, residual_deviation, slope_error, spread, .. } = fit.line;
    let figures = [slope, centre, residual_deviation, slope_error, spread];
    assert!(figures.iter().all(|figure| figure.is_finite()), "seed {seed}: {fit:?}");
}
