//! What a few wild samples cannot move: medians, and the slope that half of all pairs exceed.

use super::{Interval, Sample};

/// So many samples are paired with each other; of more, evenly chosen ones are.
pub const PAIRED_MAX: usize = 512;

/// What a median of distances is of a standard deviation, if values are normal: a deviation is so many of them.
pub const DEVIATION_OF_DISTANCE: f64 = 1.482_602_218_505_602;

/// How many standard deviations of a normal distribution 95 % lie within.
const NORMAL_REACH: f64 = 1.959_963_984_540_054;

/// The median; none of none. Leaves the values in another order.
pub fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let is_odd = values.len() % 2 == 1;
    let (below, middle, _) = values.select_nth_unstable_by(values.len() / 2, f64::total_cmp);
    if is_odd {
        return Some(*middle);
    }
    let before = below.iter().copied().max_by(f64::total_cmp)?;
    Some(before.midpoint(*middle))
}

/// The value below which `part` (0 to 1) of the values lie, the lower one of two; none of none. Leaves the values in
/// another order.
pub fn quantile(values: &mut [f64], part: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank, kept inside the slice"
    )]
    let rank = ((last as f64 * part) as usize).min(last);
    Some(*values.select_nth_unstable_by(rank, f64::total_cmp).1)
}

/// The median of the distances from `centre`.
pub fn median_distance(values: &[f64], centre: f64) -> Option<f64> {
    let distance = |value: &f64| (value - centre).abs().min(f64::MAX);
    median(&mut values.iter().map(distance).collect::<Vec<f64>>())
}

/// Four of five values of a normal distribution lie within this of its standard deviations.
const FOUR_OF_FIVE: f64 = 1.281_551_565_544_600_4;

/// A standard deviation, of what half of the distances and what four of five are below: the larger one, as tails may be
/// heavy, and most values of a count equal. 0 of none. Leaves the distances in another order.
pub(super) fn deviation_of(distances: &mut [f64]) -> f64 {
    let half = median(distances).unwrap_or(0.0) * DEVIATION_OF_DISTANCE;
    half.max(quantile(distances, 0.8).unwrap_or(0.0) / FOUR_OF_FIVE)
}

/// The slope of Theil and Sen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sen {
    /// The median of the slopes of all pairs, per second.
    pub slope: f64,
    /// The median of what such a line leaves at `anchor_ms`: where it is there.
    pub level: f64,
    /// The first moment.
    pub anchor_ms: i64,
    /// What it lies in, by Kendall's rank, whatever the distribution. It ends at the steepest pairs at the latest.
    pub interval: Interval,
}

/// That of samples, of evenly chosen ones if they are more than [`PAIRED_MAX`]; none without two different moments.
///
/// Kendall's rank takes samples for independent. They are worth `effective` that are (see [`super::line::Fit`]; infinity
/// if they are independent), so the variance of the rank is widened by samples over that, which is what autocorrelation
/// does to the sum behind it.
pub fn theil_sen(samples: &[Sample], effective: f64) -> Option<Sen> {
    let paired = thinned(samples);
    let mut slopes = slopes_of_pairs(&paired);
    if slopes.is_empty() {
        return None;
    }
    let slope = median(&mut slopes)?;
    let widened = as_f64(paired.len()) / effective.max(1.0);
    let deviation = (kendall_variance(&paired) * widened.max(1.0)).sqrt();
    let interval = interval_of(&mut slopes, deviation);
    let anchor_ms = paired.first()?.0;
    let level_of = |&(at_ms, value): &Sample| bounded(value - slope * seconds(anchor_ms, at_ms));
    let level = median(&mut paired.iter().map(level_of).collect::<Vec<f64>>())?;
    Some(Sen { slope, level, anchor_ms, interval })
}

/// Samples that are evenly chosen, the first and the last among them, if they are too many to pair.
fn thinned(samples: &[Sample]) -> Vec<Sample> {
    if samples.len() <= PAIRED_MAX {
        return samples.to_vec();
    }
    let last = samples.len() - 1;
    (0..PAIRED_MAX).map(|k| samples[k * last / (PAIRED_MAX - 1)]).collect()
}

fn slopes_of_pairs(samples: &[Sample]) -> Vec<f64> {
    let mut slopes = Vec::with_capacity(samples.len() * samples.len().saturating_sub(1) / 2);
    for (later, &(at_ms, value)) in samples.iter().enumerate() {
        for &(before_ms, before) in &samples[..later] {
            if before_ms < at_ms {
                slopes.push(bounded((value - before) / seconds(before_ms, at_ms)));
            }
        }
    }
    slopes
}

/// The slopes that Kendall's rank ends at. `slopes` were divided by [`median`].
fn interval_of(slopes: &mut [f64], deviation: f64) -> Interval {
    let count = as_f64(slopes.len());
    let last = slopes.len() - 1;
    let lower = count.midpoint(-NORMAL_REACH * deviation).round_ties_even() - 1.0;
    let upper = count.midpoint(NORMAL_REACH * deviation).round_ties_even();
    Interval { low: of_rank(slopes, rank(lower, last)), high: of_rank(slopes, rank(upper, last)) }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast to an integer stops at its bounds"
)]
fn rank(rank: f64, last: usize) -> usize {
    (rank as usize).min(last)
}

/// The slope with so many below it, looked for in the half that it is in.
fn of_rank(slopes: &mut [f64], rank: usize) -> f64 {
    let half = slopes.len() / 2;
    let (lower, upper) = slopes.split_at_mut(half);
    let (part, rank) = if rank < half { (lower, rank) } else { (upper, rank - half) };
    *part.select_nth_unstable_by(rank, f64::total_cmp).1
}

/// The variance of Kendall's sum for independent samples, with its correction for those that are equal.
fn kendall_variance(samples: &[Sample]) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(|sample| sample.1 + 0.0).collect();
    values.sort_unstable_by(f64::total_cmp);
    let term = |count: usize| {
        let count = as_f64(count);
        count * (count - 1.0) * (2.0 * count + 5.0)
    };
    let same_moment = samples.chunk_by(|a, b| a.0 == b.0).map(|group| term(group.len()));
    let same_value = values.chunk_by(|a, b| a.total_cmp(b).is_eq()).map(|group| term(group.len()));
    let ties = same_moment.sum::<f64>() + same_value.sum::<f64>();
    ((term(samples.len()) - ties) / 18.0).max(0.0)
}

/// From one moment to another. Moments that are 292 million years apart count as that.
#[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
fn seconds(from_ms: i64, to_ms: i64) -> f64 {
    to_ms.saturating_sub(from_ms) as f64 / 1000.0
}

/// What is too large for a number counts as the largest one.
fn bounded(value: f64) -> f64 {
    value.clamp(-f64::MAX, f64::MAX)
}

/// A count as a number.
#[expect(clippy::cast_precision_loss, reason = "counts of samples are far below 2^52")]
pub(super) fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
