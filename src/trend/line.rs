//! A line through samples, and how sure it is.
//!
//! [`Line`] is what least squares says if every sample were told by itself. Readings resemble those before them, so that
//! there are fewer than it seems: [`Fit`] has the autocorrelation of what the line leaves, how many samples they are worth,
//! and the interval and the significance that follow from that.

mod likeness;

use super::moments::Moments;
use super::student;
use super::{Interval, Sample};
use likeness::Likeness;

/// The line of least squares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// How many samples it was made of.
    pub count: u64,
    /// The mean of the moments: whole milliseconds, and the part of one beyond them.
    pub centre_ms: (i64, f64),
    /// The mean of the values: where the line is at that moment.
    pub centre: f64,
    /// How much it rises in a second.
    pub slope: f64,
    /// The part of the variance that it explains; none if the values do not vary.
    pub r2: Option<f64>,
    /// The standard deviation of what it leaves (n - 2); 0 for two samples.
    pub residual_deviation: f64,
    /// The standard error of the slope; 0 for two samples.
    pub slope_error: f64,
    /// The sum of squared distances of the moments from their mean, in seconds squared.
    pub spread: f64,
}

impl Line {
    /// Where it is at a moment.
    pub fn at(&self, at_ms: i64) -> f64 {
        (self.centre + self.rise(at_ms)).clamp(f64::MIN, f64::MAX)
    }

    /// How much a value at a moment lies above it.
    pub(super) fn residual(&self, (at_ms, value): Sample) -> f64 {
        (value - self.centre) - self.rise(at_ms)
    }

    fn rise(&self, at_ms: i64) -> f64 {
        self.slope * self.seconds(at_ms)
    }

    /// How many seconds a moment lies behind the mean of the moments.
    #[expect(clippy::cast_precision_loss, reason = "what is beyond 2^53 ms is 285,000 years away")]
    fn seconds(&self, at_ms: i64) -> f64 {
        (at_ms.saturating_sub(self.centre_ms.0) as f64 - self.centre_ms.1) / 1_000.0
    }
}

/// A line with what can be said of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The line.
    pub line: Line,
    /// How much a residual resembles the one before it: -1 to 1, corrected for how few they are.
    pub autocorrelation: f64,
    /// How many samples that are told by themselves they are worth.
    pub effective: f64,
    /// What the slope lies in.
    pub slope_interval: Interval,
    /// How likely such a slope is if there is none.
    pub p_value: f64,
}

/// So much of all slopes lies in the interval.
const CONFIDENCE: f64 = 0.95;
/// What lies closer to the line than so many units in the last place of the largest value lies on it.
const ROUNDINGS: f64 = 4.0;

/// Values whose largest is beyond these have no room for their squares: they are told in units of the third and fourth.
const LARGE: f64 = 2.6e120;
const SMALL: f64 = 3.9e-121;
const LARGE_UNIT: f64 = f64::from_bits((1023 + 600) << 52);
const SMALL_UNIT: f64 = f64::from_bits((1023 - 600) << 52);

impl Fit {
    /// That of samples; none for fewer than three, or when all are of one moment, or when the slope is beyond all numbers.
    pub fn of(samples: &[Sample]) -> Option<Fit> {
        let largest = samples.iter().fold(0.0, |most: f64, (_, value)| most.max(value.abs()));
        let unit = match largest {
            0.0 | SMALL..=LARGE => return Fit::in_units(samples, largest),
            large if LARGE < large => LARGE_UNIT,
            _ => SMALL_UNIT,
        };
        let scaled: Vec<Sample> =
            samples.iter().map(|&(at_ms, value)| (at_ms, value / unit)).collect();
        Fit::in_units(&scaled, largest / unit)?.times(unit)
    }

    /// That of samples whose squares have room.
    fn in_units(samples: &[Sample], largest: f64) -> Option<Fit> {
        if samples.len() < 3 {
            return None;
        }
        let line = Moments::of(samples).line()?;
        let residuals: Vec<f64> = samples.iter().map(|&sample| line.residual(sample)).collect();
        let furthest = residuals.iter().fold(0.0, |most: f64, residual| most.max(residual.abs()));
        let rounding = largest * f64::EPSILON * ROUNDINGS;
        let (first, last) = (samples.first()?.0, samples.last()?.0);
        let climbs = (line.at(last) - line.at(first)).abs();
        let lies_on_it = furthest <= rounding && ROUNDINGS * rounding < climbs;
        if lies_on_it || furthest == 0.0 || line.slope_error == 0.0 {
            return Some(Fit::exact(line));
        }
        let seconds: Vec<f64> = samples.iter().map(|&(at_ms, _)| line.seconds(at_ms)).collect();
        let scaled: Vec<f64> = residuals.iter().map(|residual| residual / furthest).collect();
        Fit::with(line, &Likeness::of(&seconds, &scaled), furthest)
    }

    /// The same, of values so many times as large.
    fn times(mut self, unit: f64) -> Option<Fit> {
        let line = &mut self.line;
        let Interval { low, high } = &mut self.slope_interval;
        let figures = [
            &mut line.centre,
            &mut line.slope,
            &mut line.residual_deviation,
            &mut line.slope_error,
            low,
            high,
        ];
        let mut finite = true;
        for figure in figures {
            *figure *= unit;
            finite &= figure.is_finite();
        }
        finite.then_some(self)
    }

    /// Of a line on which all samples lie.
    fn exact(line: Line) -> Fit {
        let slope_interval = Interval { low: line.slope, high: line.slope };
        let p_value = if line.slope == 0.0 { 1.0 } else { 0.0 };
        Fit { line, autocorrelation: 0.0, effective: count(line), slope_interval, p_value }
    }

    /// Of a line whose residuals resemble each other so, `scale` times as large.
    fn with(line: Line, likeness: &Likeness, scale: f64) -> Option<Fit> {
        // Samples that alternate would be worth more than there are; nobody is surer than with as many as there are.
        let alone = line.slope_error * student::reach(CONFIDENCE, count(line) - 2.0);
        let half = (likeness.reach(CONFIDENCE) * scale).max(alone);
        let p_alone = student::beyond(line.slope / line.slope_error, count(line) - 2.0);
        let p_value = likeness.beyond(line.slope / scale).max(p_alone);
        let slope_interval = Interval { low: line.slope - half, high: line.slope + half };
        let less = line.slope_error / (likeness.error() * scale);
        let effective = (count(line) * less * less).clamp(1.0, count(line));
        let whole = slope_interval.low.is_finite() && slope_interval.high.is_finite();
        (whole && 0.0 < half).then_some(Fit {
            line,
            autocorrelation: likeness.autocorrelation,
            effective,
            slope_interval,
            p_value,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^53")]
fn count(line: Line) -> f64 {
    line.count as f64
}

#[cfg(test)]
mod tests;
