//! What is out of the ordinary: distances from what is usual, on which three windows agree.
//!
//! A spike of a minute is seen in the shortest window alone, and is no anomaly; what lasts is seen in all of them.
//!
//! Each window's mean is compared with what is usual at its own moments. Where what is usual changes from hour to hour,
//! nobody knows when within the hour it does (a backup of ten minutes is in the mean of its hour, and summer time moves
//! what people do by one): a part of that change counts as deviation.

use super::Sample;
use super::robust::as_f64;
use super::season::{Baseline, Usual};

/// The windows, in milliseconds, that have to agree: five minutes, fifteen, an hour.
pub const WINDOWS_MS: [i64; 3] = [300_000, 900_000, 3_600_000];
/// From so many deviations on all three say that it is out of the ordinary.
pub const OUT_OF_THE_ORDINARY: f64 = 3.5;
/// More deviations than this say nothing more.
pub const DEVIATIONS_MAX: f64 = 1000.0;

/// The part of the change to the hour before or behind that counts as deviation: more than one over
/// [`OUT_OF_THE_ORDINARY`], so that the same thing an hour early or late is no anomaly, with noise.
const CHANGE_PART: f64 = 0.4;
const HOUR_MS: i64 = 3_600_000;
/// Values count as no more than this, so that sums do not overflow. Baselines know none beyond it either.
const VALUE_MAX: f64 = 1e150;

/// How far from the usual a series is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Deviations from what is usual on which all windows agree: the least of them, with its sign; 0 if signs differ.
    /// Within [`DEVIATIONS_MAX`].
    pub score: f64,
    /// Each window's own.
    pub windows: [f64; 3],
    /// The mean of the shortest window.
    pub value: f64,
    /// What is usual in it.
    pub usual: f64,
    /// The deviation it is measured in.
    pub deviation: f64,
}

impl Score {
    /// Whether this is out of the ordinary.
    pub fn is_anomaly(&self) -> bool {
        OUT_OF_THE_ORDINARY <= self.score.abs()
    }
}

/// That of the samples of the last hour (or a little more). None if a window has no samples, or none that the shorter
/// ones do not have: windows that see the same cannot agree on anything.
pub fn score(baseline: &Baseline, recent: &[Sample], now_ms: i64) -> Option<Score> {
    let until = recent.partition_point(|sample| sample.0 <= now_ms);
    let mut windows = [0.0; 3];
    let mut shortest = None;
    let mut begin = until;
    for (window, length) in windows.iter_mut().zip(WINDOWS_MS) {
        let from = now_ms.saturating_sub(length);
        let longer = recent[..begin].partition_point(|sample| sample.0 <= from);
        if longer == begin {
            return None;
        }
        begin = longer;
        let seen = Seen::of(baseline, &recent[begin..until]);
        *window = seen.deviations();
        shortest = shortest.or(Some(seen));
    }
    let seen = shortest?;
    Some(Score {
        score: agreed(windows),
        windows,
        value: seen.value,
        usual: seen.usual.value,
        deviation: seen.usual.deviation,
    })
}

/// The least of the distances, if all are on one side.
fn agreed(windows: [f64; 3]) -> f64 {
    let least = windows.iter().fold(f64::INFINITY, |least: f64, window| least.min(window.abs()));
    if windows.iter().all(|&window| 0.0 < window) {
        least
    } else if windows.iter().all(|&window| window < 0.0) {
        -least
    } else {
        0.0
    }
}

/// What a window has, and what is usual in it: means.
struct Seen {
    value: f64,
    usual: Usual,
}

impl Seen {
    fn of(baseline: &Baseline, samples: &[Sample]) -> Seen {
        let count = as_f64(samples.len());
        let mut seen = Seen { value: 0.0, usual: Usual { value: 0.0, deviation: 0.0 } };
        for &(at_ms, value) in samples {
            let usual = usual_at(baseline, at_ms);
            seen.value += value.clamp(-VALUE_MAX, VALUE_MAX) / count;
            seen.usual.value += usual.value / count;
            seen.usual.deviation += usual.deviation / count;
        }
        seen
    }

    fn deviations(&self) -> f64 {
        let deviations =
            (self.value - self.usual.value) / self.usual.deviation.max(f64::MIN_POSITIVE);
        deviations.clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX)
    }
}

/// What is usual at a moment, with what it changes around it in the deviation.
fn usual_at(baseline: &Baseline, at_ms: i64) -> Usual {
    let usual = baseline.usual(at_ms);
    let change = |other_ms: i64| (baseline.usual(other_ms).value - usual.value).abs();
    let before = change(at_ms.saturating_sub(HOUR_MS));
    let most = before.max(change(at_ms.saturating_add(HOUR_MS)));
    Usual { value: usual.value, deviation: usual.deviation.hypot(most * CHANGE_PART) }
}

#[cfg(test)]
mod tests;
