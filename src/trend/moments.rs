//! What is kept of samples to fit a line to them: sums that can be put together.
//!
//! Sums of time are exact (integers); those of values are [`super::double`]. All are taken relative to an anchor, the
//! first sample; putting two together moves one to the anchor of the other, exactly in time. Nothing is ever taken away:
//! a stretch that moves is the parts that it has now, put together anew.
//!
//! Values whose squares are beyond the range of a number (from about 1e150 on) have no line and no deviation.

use super::Sample;
use super::double::Double;
use super::line::Line;

/// Moments are taken to lie within so many milliseconds of 1970 (7,000 years): their squares have room then.
const MOMENT_MS_MAX: i64 = 1 << 48;

/// Sums of samples. Those of none are `Moments::default()`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    count: u64,
    /// The first sample, from which all others are measured.
    anchor_ms: i64,
    anchor: f64,
    /// Sums of distances in time and of their squares. They may wrap on the way, what is made of them does not.
    times: i128,
    times_squared: i128,
    values: Double,
    values_squared: Double,
    products: Double,
}

/// Sums relative to the means: what lines are made of.
struct Centred {
    /// The mean of the moments: whole milliseconds, to the nearest, and the rest.
    centre_ms: (i64, f64),
    centre: f64,
    times: Double,
    values: Double,
    products: Double,
}

impl Moments {
    /// Those of these samples, in any order.
    pub fn of(samples: &[Sample]) -> Moments {
        let mut moments = Moments::default();
        for &(at_ms, value) in samples {
            moments.add(at_ms, value);
        }
        moments
    }

    /// Adds one.
    pub fn add(&mut self, at_ms: i64, value: f64) {
        let at_ms = at_ms.clamp(-MOMENT_MS_MAX, MOMENT_MS_MAX);
        if self.count == 0 {
            *self = Moments { count: 1, anchor_ms: at_ms, anchor: value, ..Moments::default() };
            return;
        }
        let time_ms = at_ms - self.anchor_ms;
        let time = i128::from(time_ms);
        let distance = Double::sum(value, -self.anchor);
        self.count = self.count.saturating_add(1);
        self.times = self.times.wrapping_add(time);
        self.times_squared = self.times_squared.wrapping_add(time.wrapping_mul(time));
        self.values = self.values + distance;
        self.values_squared = self.values_squared + distance * distance;
        self.products = self.products + distance * Double::from(exact(time_ms));
    }

    /// Adds those of others.
    pub fn merge(&mut self, others: &Moments) {
        if others.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *others;
            return;
        }
        let moved = others.anchored_at(self.anchor_ms, self.anchor);
        self.count = self.count.saturating_add(moved.count);
        self.times = self.times.wrapping_add(moved.times);
        self.times_squared = self.times_squared.wrapping_add(moved.times_squared);
        self.values = self.values + moved.values;
        self.values_squared = self.values_squared + moved.values_squared;
        self.products = self.products + moved.products;
    }

    /// The same samples, measured from elsewhere.
    fn anchored_at(&self, anchor_ms: i64, anchor: f64) -> Moments {
        let count = Double::whole(i128::from(self.count));
        let time = i128::from(self.anchor_ms - anchor_ms);
        let time_double = Double::whole(time);
        let value = Double::sum(self.anchor, -anchor);
        let all_time = time.wrapping_mul(i128::from(self.count));
        let times = self.times.wrapping_add(all_time);
        let twice = time.wrapping_mul(self.times).wrapping_mul(2);
        let values = self.values + value * count;
        // Each product is (t + time) * (v + value).
        let products = self.products + value * Double::whole(times) + time_double * self.values;
        let values_squared =
            self.values_squared + value * (self.values + self.values + value * count);
        Moments {
            count: self.count,
            anchor_ms,
            anchor,
            times,
            times_squared: self
                .times_squared
                .wrapping_add(twice)
                .wrapping_add(time.wrapping_mul(all_time)),
            values,
            values_squared,
            products,
        }
    }

    /// How many they are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean.
    pub fn mean(&self) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let count = Double::whole(i128::from(self.count));
        finite((Double::from(self.anchor) + self.values / count).value())
    }

    /// How far they lie from it: the standard deviation of a sample (n - 1); none of fewer than two.
    pub fn deviation(&self) -> Option<f64> {
        if self.count < 2 {
            return None;
        }
        let count = Double::whole(i128::from(self.count));
        let squares = (self.values_squared - self.values * self.values / count).value();
        finite((squares.max(0.0) / float(self.count - 1)).sqrt()).filter(|_| squares.is_finite())
    }

    /// The sum of squares that the best line leaves (all of them, if there is but one moment); 0 for fewer than three, the
    /// largest number there is if it has no room.
    pub fn residual(&self) -> f64 {
        if self.count < 3 {
            return 0.0;
        }
        let Some(centred) = self.centred() else { return f64::MAX };
        let left = centred.residual().value();
        if left.is_finite() { left.max(0.0) } else { f64::MAX }
    }

    /// The line of least squares; none without two different moments.
    pub fn line(&self) -> Option<Line> {
        let centred = self.centred()?;
        let spread = finite(centred.times.value())?;
        if spread <= 0.0 {
            return None;
        }
        let slope = centred.products / centred.times;
        let varies = centred.values.value();
        let explained = (slope * centred.products).value();
        let residual = if self.count < 3 { 0.0 } else { centred.residual().value().max(0.0) };
        let variance = if self.count < 3 { 0.0 } else { residual / float(self.count - 2) };
        let line = Line {
            count: self.count,
            centre_ms: centred.centre_ms,
            centre: finite(centred.centre)?,
            slope: finite(slope.value() * 1_000.0)?,
            r2: if 0.0 < varies { Some((explained / varies).clamp(0.0, 1.0)) } else { None },
            residual_deviation: finite(variance.sqrt())?,
            slope_error: finite((variance / spread).sqrt() * 1_000.0)?,
            spread: spread / 1e6,
        };
        // Sums that have no room are infinite or no numbers: then there is no line to speak of.
        (varies.is_finite() && explained.is_finite()).then_some(line)
    }

    fn centred(&self) -> Option<Centred> {
        if self.count == 0 {
            return None;
        }
        let count = i128::from(self.count);
        let count_double = Double::whole(count);
        // To the nearest millisecond, so that what is left is at most half of one.
        let whole = self.times.wrapping_add(count / 2).div_euclid(count);
        let rest = self.times.wrapping_sub(whole.wrapping_mul(count));
        let rest_double = Double::whole(rest);
        let rest_mean = rest_double / count_double;
        let twice = whole.wrapping_mul(self.times).wrapping_mul(2);
        let squares = whole.wrapping_mul(whole).wrapping_mul(count);
        let times_squared = self.times_squared.wrapping_sub(twice).wrapping_add(squares);
        let products = self.products - Double::whole(whole) * self.values;
        let mean = self.values / count_double;
        let whole_ms = i64::try_from(whole).ok()?;
        Some(Centred {
            centre_ms: (self.anchor_ms.saturating_add(whole_ms), rest_mean.value()),
            centre: (Double::from(self.anchor) + mean).value(),
            times: Double::whole(times_squared) - rest_double * rest_mean,
            values: self.values_squared - self.values * mean,
            products: products - rest_double * mean,
        })
    }
}

impl Centred {
    /// What the best line leaves: all of it if there is but one moment.
    fn residual(&self) -> Double {
        if self.times.value() <= 0.0 {
            return self.values;
        }
        self.values - self.products / self.times * self.products
    }
}

fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

/// Counts are below 2^53.
#[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Distances in time are below 2^53.
#[expect(clippy::cast_precision_loss, reason = "moments lie within MOMENT_MS_MAX, which is 2^48")]
fn exact(time_ms: i64) -> f64 {
    time_ms as f64
}

#[cfg(test)]
mod tests {
    use super::Moments;
    use crate::base::rng::Rng;
    use crate::testing::seeds;
    use crate::trend::Sample;
    use crate::trend::line::Line;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn unit(rng: &mut Rng) -> f64 {
        f64::from(u32::try_from(rng.below(1 << 32)).unwrap()) / 4_294_967_296.0
    }

    /// Samples of a disk: values around 5e11, a tiny slope or none, at moments of now.
    fn disk(rng: &mut Rng) -> Vec<Sample> {
        let count = 3 + rng.index(200);
        let step = 1 + i64::try_from(rng.below(3_600_000)).unwrap();
        let slope = [0.0, 1e-6, 0.3, -12.0][rng.index(4)];
        let noise = [1e-3, 1.0, 1e6][rng.index(3)];
        let mut at_ms = NOW_MS;
        let sample = |_| {
            at_ms += 1 + i64::try_from(rng.below(u64::try_from(step).unwrap())).unwrap();
            let seconds = f64::from(u32::try_from((at_ms - NOW_MS) / 1_000).unwrap());
            (at_ms, 5e11 + slope * seconds + noise * (unit(rng) - 0.5))
        };
        (0..count).map(sample).collect()
    }

    /// Puts parts together two by two, in an order by chance.
    fn in_any_order(samples: &[Sample], rng: &mut Rng) -> Moments {
        let mut parts = vec![Moments::default(); 1 + rng.index(20)];
        let count = parts.len();
        let mut shuffled = samples.to_vec();
        for place in (1..shuffled.len()).rev() {
            shuffled.swap(place, rng.index(place + 1));
        }
        for (at_ms, value) in shuffled {
            parts[rng.index(count)].add(at_ms, value);
        }
        while 1 < parts.len() {
            let one = parts.swap_remove(rng.index(parts.len()));
            let other = rng.index(parts.len());
            parts[other].merge(&one);
        }
        parts[0]
    }

    fn figures(line: &Line) -> [f64; 6] {
        let r2 = line.r2.unwrap_or(-1.0);
        [line.slope, line.centre, r2, line.residual_deviation, line.slope_error, line.spread]
    }

    #[test]
    fn merged_in_any_order_they_are_what_one_pass_gives() {
        for seed in seeds(150) {
            let mut rng = Rng::from_seed(seed);
            let samples = disk(&mut rng);
            let once = Moments::of(&samples);
            let merged = in_any_order(&samples, &mut rng);
            assert_eq!(once.count(), merged.count(), "seed {seed}");
            let (line, other) = (once.line().unwrap(), merged.line().unwrap());
            assert_eq!(line.centre_ms, other.centre_ms, "seed {seed}");
            let means = [once.mean().unwrap(), once.deviation().unwrap(), once.residual()];
            let others = [merged.mean().unwrap(), merged.deviation().unwrap(), merged.residual()];
            for (one, other) in
                figures(&line).iter().zip(figures(&other)).chain(means.iter().zip(others))
            {
                // Roots and quotients of the same sums: nothing but the last place may differ.
                let difference = (one - other).abs() / one.abs().max(f64::MIN_POSITIVE);
                assert!(difference <= 4.0 * f64::EPSILON, "seed {seed}: {one:e} {other:e}");
            }
        }
    }

    #[test]
    fn slopes_of_whole_numbers_are_the_exact_ones() {
        for seed in seeds(300) {
            let mut rng = Rng::from_seed(seed);
            let count = 3 + rng.index(20);
            let mut next = |end| i64::try_from(rng.below(end)).unwrap();
            let samples: Vec<(i64, i64)> =
                (0..count).map(|_| (next(1 << 20), (1 << 40) + next(1 << 20))).collect();
            let sum = |of: &dyn Fn(i128, i128) -> i128| -> i128 {
                samples.iter().map(|&(at, value)| of(at.into(), value.into())).sum()
            };
            let n = i128::try_from(count).unwrap();
            let (times, values) = (sum(&|t, _| t), sum(&|_, v| v));
            let below = n * sum(&|t, _| t * t) - times * times;
            let products = n * sum(&|t, v| t * v) - times * values;
            let values = n * sum(&|_, v| v * v) - values * values;
            let double = |whole| super::Double::whole(whole);
            let slope = (double(products) * double(1_000) / double(below)).value();
            let r2 = double(products) / double(below) * double(products) / double(values);
            #[expect(clippy::cast_precision_loss, reason = "41 bits")]
            let samples: Vec<Sample> =
                samples.iter().map(|&(at, value)| (at, value as f64)).collect();
            let line = Moments::of(&samples).line().unwrap();
            let near =
                |one: f64, other: f64| (one - other).abs() <= 2.0 * f64::EPSILON * other.abs();
            assert!(near(line.slope, slope), "seed {seed}: {:e} {slope:e}", line.slope);
            assert!(near(line.r2.unwrap(), r2.value()), "seed {seed}");
        }
    }

    #[test]
    fn of_nothing_of_one_and_of_one_moment_there_is_no_line() {
        let none = Moments::default();
        assert_eq!(
            (none.count(), none.mean(), none.deviation(), none.line()),
            (0, None, None, None)
        );
        assert!(none.residual() == 0.0);
        let one = Moments::of(&[(NOW_MS, 7.5)]);
        assert_eq!(
            (one.count(), one.mean(), one.deviation(), one.line()),
            (1, Some(7.5), None, None)
        );
        let same = Moments::of(&[(NOW_MS, 1.0), (NOW_MS, 2.0), (NOW_MS, 6.0)]);
        assert_eq!((same.mean(), same.line()), (Some(3.0), None));
        assert!((same.deviation().unwrap() - 7.0_f64.sqrt()).abs() < 1e-15);
        assert!((same.residual() - 14.0).abs() < 1e-13, "no line: all of it is left");
        let mut merged = none;
        merged.merge(&none);
        merged.merge(&one);
        merged.merge(&none);
        assert_eq!(merged, one);
    }

    #[test]
    fn two_samples_have_a_line_without_an_error() {
        let line = Moments::of(&[(NOW_MS, 10.0), (NOW_MS + 2_000, 11.0)]).line().unwrap();
        assert_eq!((line.count, line.slope, line.centre, line.r2), (2, 0.5, 10.5, Some(1.0)));
        assert_eq!((line.slope_error, line.residual_deviation, line.spread), (0.0, 0.0, 2.0));
        assert_eq!(line.centre_ms, (NOW_MS + 1_000, 0.0));
        let line = Moments::of(&[(0, 1.0), (1, 1.0)]).line().unwrap();
        assert_eq!((line.slope, line.r2, line.centre_ms), (0.0, None, (1, -0.5)));
    }

    #[test]
    fn whatever_the_samples_are_nothing_is_infinite_or_no_number() {
        let moments = [i64::MIN, -1, 0, 1, NOW_MS, NOW_MS + 1, i64::MAX];
        let values = [0.0, -0.0, f64::MIN_POSITIVE, 5e-324, 1.0, 1e160, -1e160, f64::MAX, f64::MIN];
        for seed in seeds(3_000) {
            let mut rng = Rng::from_seed(seed);
            let count = rng.index(6);
            let mut sample =
                || (moments[rng.index(moments.len())], values[rng.index(values.len())]);
            let samples: Vec<Sample> = (0..count).map(|_| sample()).collect();
            let all = in_any_order(&samples, &mut rng);
            assert!(all.mean().is_none_or(f64::is_finite), "seed {seed}");
            assert!(all.deviation().is_none_or(f64::is_finite), "seed {seed}");
            assert!(all.residual().is_finite() && 0.0 <= all.residual(), "seed {seed}");
            let Some(line) = all.line() else { continue };
            assert!(
                figures(&line).iter().all(|figure| figure.is_finite()),
                "seed {seed}: {line:?}"
            );
            let places = moments.map(|at_ms| line.at(at_ms));
            assert!(places.iter().all(|place| place.is_finite()), "seed {seed}: {line:?}");
        }
        let constant = Moments::of(&[(NOW_MS, 1e308), (NOW_MS + 1, 1e308), (NOW_MS + 9, 1e308)]);
        let line = constant.line().unwrap();
        assert_eq!((line.slope, line.centre, line.r2, line.slope_error), (0.0, 1e308, None, 0.0));
    }
}
