//! When a series will reach a value: a moment with an interval, or an honest no with its reason.
//!
//! The moment is the one at which the line is there. The earliest and the latest are where the band around it, in which 95 %
//! of values lie, has the threshold at its edge (Fieller): the slope is not sure, nor is where the line lies, and values lie
//! around it. With everything measured in seconds, from the mean of the moments on:
//!
//! ```text
//!   (x - line)^2 = (unsure * x)^2 + around^2      line: where the line is there
//!                                                 unsure: half the slope's interval, in slopes; below 1, or it is stable
//!                                                 around: how far off values are at the mean of the moments, in slopes
//! ```

use super::Sample;
use super::change;
use super::line::Fit;
use super::student;

/// Fewer samples say nothing of where a series goes.
const SAMPLES_MIN: u64 = 8;
/// From so many falls on it is a sawtooth.
const SAWTOOTH_DROPS: usize = 2;
/// What lies more than so many times as far ahead as samples reach back is no more than a guess.
const PERIODS_AHEAD_MAX: f64 = 10.0;
/// The same for the latest moment: what may take longer than this may as well never be.
const PERIODS_LATEST_MAX: f64 = 100.0;
/// How many values lie between the earliest and the latest.
const CONFIDENCE: f64 = 0.95;

/// From where a threshold is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Values above it are beyond it.
    Above,
    /// Values below it are beyond it.
    Below,
    /// Whichever way the series goes: beyond it are the values on its other side.
    Either,
}

/// A value, and which side of it is meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// The value.
    pub value: f64,
    /// Which side.
    pub side: Side,
}

/// When it is reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Eta {
    /// The moment at which the line is there.
    pub at_ms: i64,
    /// The earliest moment at 95 %; not before the last sample.
    pub low_ms: i64,
    /// The latest; none if at 95 % it may never be, or not in a hundred times as long as was looked at.
    pub high_ms: Option<i64>,
}

/// Why there is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {
    /// It is beyond it now; where either side is meant, it does not come back either.
    AlreadyPassed,
    /// It does not move, as far as can be seen.
    Stable,
    /// It moves, away from it.
    Away,
    /// It goes up and down: what was does not tell what comes.
    Sawtooth,
    /// Least squares and Theil-Sen do not agree: a few samples decide.
    Unstable,
    /// There is too little.
    TooLittle,
    /// The last samples are too old to say what comes.
    Outdated,
    /// It would take longer than ten times what was looked at, which is no more than a guess.
    TooFar,
}

impl Never {
    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Never::AlreadyPassed => "already_passed",
            Never::Stable => "stable",
            Never::Away => "moving_away",
            Never::Sawtooth => "sawtooth",
            Never::Unstable => "unstable",
            Never::TooLittle => "too_little_data",
            Never::Outdated => "outdated",
            Never::TooFar => "too_far",
        }
    }
}

/// When the threshold is reached, from the samples that were looked at and the fit of their last stretch.
///
/// A series that is at the threshold or beyond it has passed it, however few samples there are and even if it comes back:
/// who asks when the disk is 90 % full knows enough when it is at 95. Only where either side is meant, it is told when one
/// that comes back significantly will be on the other side again. Samples before the last stretch tell whether the series
/// is a sawtooth: each of its teeth is a stretch of its own.
pub fn reach(
    samples: &[Sample],
    fit: &Fit,
    unstable: bool,
    threshold: Threshold,
) -> Result<Eta, Never> {
    let &(last_ms, current) = samples.last().ok_or(Never::TooLittle)?;
    let value = threshold.value;
    let climbs = match threshold.side {
        Side::Above => true,
        Side::Below => false,
        Side::Either => current < value,
    };
    let beyond = if climbs { value <= current } else { current <= value };
    if beyond {
        return Err(Never::AlreadyPassed);
    }
    let eta = moves(samples, fit, unstable, climbs).and_then(|()| crossing(fit, value, last_ms));
    let comes_back = matches!(eta, Ok(_) | Err(Never::TooFar));
    if threshold.side == Side::Either && !climbs && !comes_back {
        return Err(Never::AlreadyPassed);
    }
    eta
}

/// Whether the series can be seen to move this way.
fn moves(samples: &[Sample], fit: &Fit, unstable: bool, climbs: bool) -> Result<(), Never> {
    if fit.line.count < SAMPLES_MIN {
        return Err(Never::TooLittle);
    }
    let drops = if climbs {
        change::drops(samples)
    } else {
        let upside_down: Vec<Sample> =
            samples.iter().map(|&(at_ms, value)| (at_ms, -value)).collect();
        change::drops(&upside_down)
    };
    if SAWTOOTH_DROPS <= drops {
        return Err(Never::Sawtooth);
    }
    if unstable {
        return Err(Never::Unstable);
    }
    if fit.slope_interval.holds(0.0) {
        return Err(Never::Stable);
    }
    if climbs == (fit.line.slope < 0.0) {
        return Err(Never::Away);
    }
    Ok(())
}

/// Where the line, whose slope is not 0, has this value.
fn crossing(fit: &Fit, value: f64, last_ms: i64) -> Result<Eta, Never> {
    let line = &fit.line;
    let count = small(line.count);
    let slope = line.slope.abs();
    let half_interval = 0.5 * fit.slope_interval.high - 0.5 * fit.slope_interval.low;
    let unsure = half_interval / slope;
    let level = unsure * (line.spread / count).sqrt();
    let values = line.residual_deviation / slope * student::reach(CONFIDENCE, count - 2.0);
    let around = level.hypot(values);
    let there = (value - line.centre) / line.slope;

    let last = milliseconds(last_ms, line.centre_ms.0) - line.centre_ms.1;
    let period = 2.0 * last;
    let ahead = |seconds: f64| 1_000.0 * seconds - last;
    if !there.is_finite() || PERIODS_AHEAD_MAX * period < ahead(there) {
        return Err(Never::TooFar);
    }
    let less = 1.0 - unsure * unsure;
    let apart = (unsure * there).hypot(less.max(0.0).sqrt() * around);
    let (low, high) = ((there - apart) / less, (there + apart) / less);
    let at = |ahead: f64| last_ms.saturating_add(whole(ahead.max(0.0)));
    let low_ms = if low.is_finite() { at(ahead(low)) } else { last_ms };
    let bounded = 0.0 < less && ahead(high) <= PERIODS_LATEST_MAX * period;
    let at_ms = at(ahead(there));
    Ok(Eta {
        at_ms,
        low_ms: low_ms.min(at_ms),
        high_ms: bounded.then(|| at(ahead(high)).max(at_ms)),
    })
}

/// Milliseconds from one moment to another.
fn milliseconds(at_ms: i64, before_ms: i64) -> f64 {
    whole_to_float(i128::from(at_ms) - i128::from(before_ms))
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of 285,000 years are exact")]
fn whole_to_float(whole: i128) -> f64 {
    whole as f64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast of a float saturates, and it is not NaN"
)]
fn whole(milliseconds: f64) -> i64 {
    milliseconds.round() as i64
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^53")]
fn small(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
