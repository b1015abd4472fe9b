//! A level or a line, and what it leaves: a process in which each value resembles the one before it.
//!
//! ```text
//!   value(t) = level + rise * t + rest(t)        rest(t) = likeness * rest(t - 1) + something new
//! ```
//!
//! How alike neighbours are is not known, and taking the likeliest likeness for the true one makes intervals too narrow,
//! most of all where it is close to 1. So each of [`LIKENESSES`] is tried: for each of them level and rise follow by
//! generalised least squares, exactly, and how likely the samples are under it is its weight. What is told is the mean over
//! all of them, and their disagreement is a part of the interval. This is restricted likelihood, under which the likeness that
//! is found is nearly unbiased.
//!
//! Sums are kept while passing over the samples once for each likeness, so that the same answer can be had as of any of
//! them, as if nothing was known of those behind it: the back-test is the real thing.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_PI_2, PI};

use crate::trend::Interval;

/// How many likenesses are tried.
const LIKENESSES: usize = 24;
/// The last of them stands for a walk that never comes back; it is not quite 1, so that a level exists.
const LIKENESS_MAX: f64 = 0.999_9;
/// Before anything is seen, a likeness is held to be so likely as 1 - likeness^2 to this power, per arcsine. With 0 that is the
/// reference prior of Berger and Yang, with 1/2 all likenesses are. Chosen by simulation: intervals far ahead of few samples
/// are a little too wide with the one, and too narrow with the other.
const PRIOR_POWER: f64 = 0.25;
/// The same for a walk that never comes back: three times its neighbour's. Readings of machines often are one, and intervals
/// far ahead that do not reckon with it are too narrow. Chosen by simulation.
const WALK_PRIOR: f64 = 0.9;
/// A sum of squares is at least this, so that it has a logarithm.
const SQUARES_MIN: f64 = 1e-290;
/// Before samples are seen, a rise of so many standard errors is not held to be out of the ordinary. Chosen by simulation.
const RISE_PRIOR: f64 = 3.0;
/// So often the way to a quantile is halved.
const HALVINGS: u32 = 16;
/// Weights below this part of the largest are left out.
const WEIGHT_MIN: f64 = 1e-4;

/// A sample on the scale on which it is computed: a time in windows before the last one, steps since the one before it,
/// and a value of about 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    /// When: -1 to 0.
    pub(super) x: f64,
    /// Steps since the one before it, 1 at least.
    pub(super) steps: i32,
    /// What.
    pub(super) value: f64,
}

/// What is fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A level.
    Level,
    /// A line.
    Line,
}

/// One likeness, with what follows from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    likeness: f64,
    /// How much of the truth it has: a logarithm until they are put together, then a part of 1.
    weight: f64,
    level: f64,
    rise: f64,
    /// The variance of what is new in each step.
    variance: f64,
    /// Its degrees of freedom.
    freedom: f64,
    /// The inverse of the normal equations: level, level and rise, rise.
    inverse: [f64; 3],
}

/// Where something is told from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Origin {
    /// The time of the last sample.
    pub(super) x: f64,
    /// Its value.
    pub(super) value: f64,
}

/// The moment that something is told of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ahead {
    /// Its time.
    pub(super) x: f64,
    /// Steps from the origin.
    pub(super) steps: i32,
}

/// What is expected, its deviation, and its weight among others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) weight: f64,
    pub(super) value: f64,
    pub(super) deviation: f64,
}

impl Part {
    fn tell(&self, origin: Origin, ahead: Ahead) -> Told {
        let alike = self.likeness.powi(ahead.steps);
        let level = 1.0 - alike;
        let rise = ahead.x - alike * origin.x;
        let [a, b, c] = self.inverse;
        let new = new_variance(self.likeness, alike, ahead.steps);
        let known = a * level * level + 2.0 * b * level * rise + c * rise * rise;
        Told {
            weight: self.weight,
            value: alike * origin.value + self.level * level + self.rise * rise,
            deviation: (self.variance * (new + known.max(0.0))).sqrt(),
        }
    }
}

/// What is new after some steps, in variances of what is new in one: `alike` is the likeness to the power of the steps.
fn new_variance(likeness: f64, alike: f64, steps: i32) -> f64 {
    if likeness < 1.0 {
        (1.0 - alike * alike) / (1.0 - likeness * likeness)
    } else {
        f64::from(steps)
    }
}

/// What was fitted to samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fitted {
    pub(super) parts: Vec<Part>,
    /// The logarithm of how likely the samples are, but for what is the same for all shapes.
    evidence: f64,
}

impl Fitted {
    /// A walk from sample to sample: it stays where it is, and may go anywhere.
    pub(super) fn walk(points: &[Point]) -> Fitted {
        let new = |pair: &[Point]| {
            let [before, now] = [pair[0], pair[1]];
            (now.value - before.value).powi(2) / f64::from(now.steps)
        };
        let squares: f64 = points.windows(2).map(new).sum();
        let part = Part {
            likeness: 1.0,
            weight: 1.0,
            level: 0.0,
            rise: 0.0,
            variance: squares / small(points.len() - 1),
            freedom: small(points.len() - 1),
            inverse: [0.0; 3],
        };
        Fitted { parts: vec![part], evidence: 0.0 }
    }

    /// How much likelier the samples are under this line than under that level, if before they were seen it was taken to rise
    /// by some standard errors either way.
    pub(super) fn odds(&self, level: &Fitted) -> f64 {
        let density = |part: &Part| {
            part.weight / (RISE_PRIOR * (part.inverse[2] * part.variance * part.freedom).sqrt())
        };
        let density: f64 = self.parts.iter().map(density).sum();
        (self.evidence + density.ln() - level.evidence).exp()
    }
}

/// What all of them expect together.
pub(super) fn expect(parts: &[Part], origin: Origin, ahead: Ahead) -> f64 {
    parts.iter().map(|part| part.weight * part.tell(origin, ahead).value).sum()
}

/// What parts expect: the weight of each, a value and a deviation.
pub(super) fn told(
    parts: &[Part],
    origin: Origin,
    ahead: Ahead,
) -> impl Iterator<Item = Told> + use<'_> {
    parts.iter().map(move |part| part.tell(origin, ahead))
}

/// Where 95 % of what all of them expect together lies: the quantiles of their mixture, each of them being Student's t with
/// so many degrees of freedom, which holds 95 % within `reach` deviations.
pub(super) fn interval(told: &[Told], (freedom, reach): (f64, f64)) -> Interval {
    let bound = |beyond: f64, reach: f64| {
        // A quantile of a mixture lies between the same quantiles of its parts.
        let own = told.iter().map(|told| told.value + reach * told.deviation);
        let mut low = own.clone().fold(f64::INFINITY, f64::min);
        let mut high = own.fold(f64::NEG_INFINITY, f64::max);
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            let below = |told: &Told| {
                told.weight * part_below((middle - told.value) / told.deviation, freedom)
            };
            if told.iter().map(below).sum::<f64>() < beyond { low = middle } else { high = middle }
        }
        0.5 * (low + high)
    };
    Interval { low: bound(0.025, -reach), high: bound(0.975, reach) }
}

/// The part of Student's t below `t`, to four digits: by Wallace's approximation and that of Hastings to the normal
/// distribution. It only says how parts of a mixture share its 5 %.
fn part_below(t: f64, freedom: f64) -> f64 {
    const SERIES: [f64; 5] =
        [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let z = t * (1.0 - 0.25 / freedom) / (1.0 + t * t / (2.0 * freedom)).sqrt();
    let near = 1.0 / (1.0 + 0.327_591_1 * z.abs() * FRAC_1_SQRT_2);
    let beyond =
        0.5 * SERIES.iter().fold(0.0, |sum, term| (sum + term) * near) * (-0.5 * z * z).exp();
    if z < 0.0 { beyond } else { 1.0 - beyond }
}

/// What was fitted to the first samples, up to each of these numbers of them (ascending, each 3 at least and no more than
/// there are).
pub(super) fn fit(points: &[Point], shape: Shape, counts: &[usize]) -> Vec<Fitted> {
    let mut fits = vec![Fitted::default(); counts.len()];
    for number in 0..LIKENESSES {
        let mut sums = Sums::new(number);
        let mut done = 0;
        for (fitted, &count) in fits.iter_mut().zip(counts) {
            for at in done..count {
                sums.add(at.checked_sub(1).map(|before| points[before]), points[at]);
            }
            done = count;
            fitted.parts.extend(sums.part(shape));
        }
    }
    for fitted in &mut fits {
        fitted.evidence = weigh(&mut fitted.parts);
    }
    fits
}

/// One of the likenesses, and the logarithm of how likely it is held to be before anything is seen. They are spaced evenly in
/// the arcsine, each in the middle of its cell.
fn likeness(number: usize) -> (f64, f64) {
    if number + 1 == LIKENESSES {
        return (LIKENESS_MAX, WALK_PRIOR.ln());
    }
    let cell = PI / small(LIKENESSES);
    let likeness = (cell * (small(number) + 0.5) - FRAC_PI_2).sin();
    (likeness, PRIOR_POWER * (1.0 - likeness * likeness).ln())
}

/// Makes weights of logarithms, and gives the logarithm of their sum.
fn weigh(parts: &mut Vec<Part>) -> f64 {
    let largest = parts.iter().map(|part| part.weight).fold(f64::NEG_INFINITY, f64::max);
    for part in &mut *parts {
        part.weight = (part.weight - largest).exp();
    }
    parts.retain(|part| WEIGHT_MIN < part.weight);
    let sum: f64 = parts.iter().map(|part| part.weight).sum();
    for part in parts {
        part.weight /= sum;
    }
    largest + sum.ln()
}

/// The sums of the normal equations under one likeness.
struct Sums {
    likeness: f64,
    prior: f64,
    count: usize,
    logarithms: f64,
    ones: f64,
    x: f64,
    xx: f64,
    values: f64,
    x_values: f64,
    squares: f64,
}

impl Sums {
    fn new(number: usize) -> Sums {
        let (likeness, prior) = likeness(number);
        Sums {
            likeness,
            prior,
            count: 0,
            logarithms: 0.0,
            ones: 0.0,
            x: 0.0,
            xx: 0.0,
            values: 0.0,
            x_values: 0.0,
            squares: 0.0,
        }
    }

    /// Adds what is new in a sample.
    fn add(&mut self, before: Option<Point>, point: Point) {
        let (one, x, value, variance) = match before {
            None => {
                let variance = 1.0 / (1.0 - self.likeness * self.likeness);
                self.logarithms += variance.ln();
                (1.0, point.x, point.value, variance)
            }
            Some(before) if point.steps == 1 => {
                let alike = self.likeness;
                (1.0 - alike, point.x - alike * before.x, point.value - alike * before.value, 1.0)
            }
            Some(before) => {
                let alike = self.likeness.powi(point.steps);
                let variance = new_variance(self.likeness, alike, point.steps);
                self.logarithms += variance.ln();
                let less = |now: f64, before: f64| now - alike * before;
                (less(1.0, 1.0), less(point.x, before.x), less(point.value, before.value), variance)
            }
        };
        self.count += 1;
        let weight = 1.0 / variance;
        self.ones += weight * one * one;
        self.x += weight * one * x;
        self.xx += weight * x * x;
        self.values += weight * one * value;
        self.x_values += weight * x * value;
        self.squares += weight * value * value;
    }

    fn part(&self, shape: Shape) -> Option<Part> {
        let (level, rise, inverse, determinant, taken) = match shape {
            Shape::Level => {
                (self.values / self.ones, 0.0, [1.0 / self.ones, 0.0, 0.0], self.ones, 1)
            }
            Shape::Line => {
                let determinant = self.ones * self.xx - self.x * self.x;
                let inverse = [self.xx, -self.x, self.ones].map(|part| part / determinant);
                let level = inverse[0] * self.values + inverse[1] * self.x_values;
                let rise = inverse[1] * self.values + inverse[2] * self.x_values;
                (level, rise, inverse, determinant, 2)
            }
        };
        let freedom = small(self.count.checked_sub(taken).filter(|&freedom| 0 < freedom)?);
        let left = self.squares - level * self.values - rise * self.x_values;
        let left = left.max(SQUARES_MIN);
        let weight = self.prior - 0.5 * (determinant.ln() + freedom * left.ln() + self.logarithms);
        let variance = left / freedom;
        weight.is_finite().then_some(Part {
            likeness: self.likeness,
            weight,
            level,
            rise,
            variance,
            freedom,
            inverse,
        })
    }
}

/// A count as a number to compute with.
pub(super) fn small(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::{Ahead, LIKENESSES, Origin, Part, Point, Shape, Sums, likeness};

    /// Solves a small system of equations, and gives the logarithm of its determinant.
    fn solve(mut rows: Vec<Vec<f64>>) -> (Vec<f64>, f64) {
        let count = rows.len();
        let mut logarithm = 0.0;
        for at in 0..count {
            logarithm += rows[at][at].ln();
            let above = rows[at].clone();
            for row in rows.iter_mut().skip(at + 1) {
                let times = row[at] / above[at];
                row.iter_mut().zip(&above).for_each(|(cell, above)| *cell -= times * above);
            }
        }
        let mut found = vec![0.0; count];
        for at in (0..count).rev() {
            let known: f64 = (at + 1..count).map(|other| rows[at][other] * found[other]).sum();
            found[at] = (rows[at][count] - known) / rows[at][at];
        }
        (found, logarithm)
    }

    fn product(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    /// What a part should be, and what it should tell, by whole matrices: weight, value, deviation.
    fn by_matrices(points: &[Point], shape: Shape, number: usize, ahead: Ahead) -> [f64; 3] {
        let (alike, prior) = likeness(number);
        let mut when = Vec::new();
        let mut steps = 0;
        for (order, point) in points.iter().enumerate() {
            steps += if order == 0 { 0 } else { point.steps };
            when.push(steps);
        }
        let covariance = |apart: i32| alike.powi(apart.abs()) / (1.0 - alike * alike);
        let with = |right: &[f64]| {
            let row = |a: usize| {
                let mut row: Vec<f64> =
                    when.iter().map(|other| covariance(when[a] - other)).collect();
                row.push(right[a]);
                row
            };
            solve((0..points.len()).map(row).collect())
        };
        let values: Vec<f64> = points.iter().map(|point| point.value).collect();
        let mut columns = vec![vec![1.0; points.len()]];
        let mut then = vec![1.0];
        if shape == Shape::Line {
            columns.push(points.iter().map(|point| point.x).collect());
            then.push(ahead.x);
        }
        let (weighted, logarithm) = with(&values);
        let inverse: Vec<Vec<f64>> = columns.iter().map(|column| with(column).0).collect();
        let normal = |right: &[f64]| {
            let row = |a: usize| {
                let mut row: Vec<f64> = columns.iter().map(|b| product(&inverse[a], b)).collect();
                row.push(right[a]);
                row
            };
            solve((0..columns.len()).map(row).collect())
        };
        let right: Vec<f64> = columns.iter().map(|column| product(column, &weighted)).collect();
        let (found, determinant) = normal(&right);
        let left = product(&values, &weighted) - product(&found, &right);
        let freedom = f64::from(u32::try_from(points.len() - columns.len()).unwrap());
        let weight = prior - 0.5 * (logarithm + determinant + freedom * left.ln());

        let last = when[when.len() - 1] + ahead.steps;
        let towards: Vec<f64> = when.iter().map(|&at| covariance(last - at)).collect();
        let (known, _) = with(&towards);
        let unknown: Vec<f64> = then
            .iter()
            .zip(&columns)
            .map(|(then, column)| then - product(column, &known))
            .collect();
        let value = product(&known, &values) + product(&unknown, &found);
        let new =
            covariance(0) - product(&known, &towards) + product(&unknown, &normal(&unknown).0);
        [weight, value, (left / freedom * new).sqrt()]
    }

    #[test]
    fn sums_say_what_whole_matrices_say() {
        let steps = [1, 1, 1, 3, 1, 1, 7, 1, 2, 1, 1, 1];
        let values = [0.3, -0.2, 0.5, 0.9, 0.1, -0.7, 0.2, 0.4, 1.0, 0.8, -0.1, 0.6];
        let mut x = -1.0;
        let point = |(&steps, &value): (&i32, &f64)| {
            x += f64::from(steps) / 22.0;
            Point { x, steps, value }
        };
        let points: Vec<Point> = steps.iter().zip(&values).map(point).collect();
        let last = points[points.len() - 1];
        let ahead = Ahead { x: last.x + 5.0 / 22.0, steps: 5 };
        for shape in [Shape::Level, Shape::Line] {
            for number in 0..LIKENESSES - 1 {
                let mut sums = Sums::new(number);
                for (order, &point) in points.iter().enumerate() {
                    sums.add(order.checked_sub(1).map(|before| points[before]), point);
                }
                let part: Part = sums.part(shape).unwrap();
                let told = part.tell(Origin { x: last.x, value: last.value }, ahead);
                let wanted = by_matrices(&points, shape, number, ahead);
                let found = [part.weight, told.value, told.deviation];
                let near =
                    found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-9);
                assert!(near, "{shape:?} {number}: {found:?}, not {wanted:?}");
            }
        }
    }
}
