//! Where a series begins to be another one: somebody cleaned the disk up, a deployment, a counter that began anew.
//!
//! 1. Neighbours beyond [`CHANGE_SAMPLES_MAX`] are put together in medians; a spike is taken out.
//! 2. What repeats every day or week is taken out ([`cycle`]): nights are no changes.
//! 3. Each stretch between two changes is a line of its own; the cost of a stretch is what its line leaves. The best
//!    division at a small price for each change is found exactly ([`pelt`]); it has every change that may be one, and too
//!    many if samples resemble those before them.
//! 4. The one that matters least is taken away, one after the other, and of all divisions on this way the most likely one
//!    is taken ([`likelihood`]), in which each change has to earn a penalty that grows with the number of samples. How much
//!    samples resemble each other is chosen for each division as suits it best: a series that wanders needs no changes.
//!
//! Noise may have any size, and need not be normal: it is judged by what a division leaves, so a few wild samples make
//! changes harder to see, not more.

mod cycle;
mod likelihood;
mod pelt;
mod sums;

use super::Sample;
use super::robust::{deviation_of, median};
use std::ops::Range;

use sums::Sums;

/// So many are divided.
pub const CHANGE_SAMPLES_MAX: usize = 512;
/// A stretch has so many at least.
pub const STRETCH_MIN: usize = 8;

/// What is smaller than this part of the span is not seen: neither noise nor a change.
const SEEN_MIN: f64 = 1e-4;
/// The price of a change when candidates are looked for, in variances of the noise between neighbours.
const CANDIDATE_PRICE: f64 = 12.0;

/// Values are near each other within so many deviations of that noise, and so many usual steps: a climb is no spike.
const SPIKE_DEVIATIONS: f64 = 6.0;
const SPIKE_CLIMBS: f64 = 3.0;

/// A fall counts if it is this part of the span.
const DROP_MIN: f64 = 0.05;
/// And so many deviations of what samples differ from the ones before them.
const DROP_DEVIATIONS: f64 = 5.0;
/// A fall takes so many samples at most.
const DROP_SAMPLES: usize = 2;
/// Before the next fall the series has climbed by this part of it.
const CLIMB_MIN: f64 = 0.5;
/// Medians of so many neighbours: what is wild for one or two samples is not in them.
const CALM: usize = 5;

/// The numbers of the samples with which a new stretch begins, ascending; never 0.
pub fn changes(samples: &[Sample]) -> Vec<usize> {
    let size = samples.len().div_ceil(CHANGE_SAMPLES_MAX).max(1);
    let grouped: Vec<Sample> = samples.chunks(size).filter_map(middle_of).collect();
    if grouped.len() < 2 * STRETCH_MIN {
        return Vec::new();
    }
    let Some(scaled) = scaled(&grouped) else {
        return Vec::new();
    };
    let scaled = without_spikes(&scaled);
    let (scaled, cycle) = cycle::without(&grouped, scaled);
    let sums = Sums::of(&scaled);
    let noise = noise_of(&scaled).max(SEEN_MIN);
    // Days differ, as weekends do: where days repeat, a change lasts for one at least.
    let stretch_min = cycle.max(STRETCH_MIN);
    let candidates = pelt::division(&sums, CANDIDATE_PRICE * noise * noise, stretch_min);
    let likely = likelihood::most_likely(&sums, candidates, SEEN_MIN);
    if size == 1 { likely } else { placed(samples, &likely, size) }
}

/// The sample that stands for neighbours: their median, as that of a group in which a change lies is on one side of it,
/// where a mean would be a stretch of its own. Of an even number the last one is left out.
fn middle_of(group: &[Sample]) -> Option<Sample> {
    let odd = &group[..=(group.len() - 1) / 2 * 2];
    let mut values: Vec<f64> = odd.iter().map(|sample| sample.1).collect();
    Some((odd[odd.len() / 2].0, median(&mut values)?))
}

/// A value that is wild, alone or with one more, has the median of its neighbours: two of the four are near any other.
fn without_spikes(scaled: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let values: Vec<f64> = scaled.iter().map(|sample| sample.1).collect();
    let mut climbs: Vec<f64> = values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
    let climb = median(&mut climbs).unwrap_or(0.0) * SPIKE_CLIMBS;
    let near = noise_of(scaled).max(SEEN_MIN) * SPIKE_DEVIATIONS + climb;
    let calm = |(place, &(x, y)): (usize, &(f64, f64))| {
        let others = around(&values, place).filter(|&other| other != place);
        let is_wild = others.filter(|&other| (values[other] - y).abs() <= near).count() < 2;
        (x, if is_wild { calm_at(&values, place).unwrap_or(y) } else { y })
    };
    scaled.iter().enumerate().map(calm).collect()
}

/// Changes between groups, moved to the sample at which lines on both sides leave least.
fn placed(samples: &[Sample], groups: &[usize], size: usize) -> Vec<usize> {
    let Some(scaled) = scaled(samples) else {
        return Vec::new();
    };
    let sums = Sums::of(&scaled);
    let bound = |place: usize| groups.get(place).map_or(samples.len(), |group| group * size);
    let mut begin = 0;
    let mut changes = Vec::with_capacity(groups.len());
    for place in 0..groups.len() {
        let end = bound(place + 1);
        let cost = |at: usize| sums.left(begin, at) + sums.left(at, end);
        let (near, far) = (bound(place) - size, bound(place) + size);
        let best = (near..=far).min_by(|&a, &b| cost(a).total_cmp(&cost(b)));
        begin = best.unwrap_or(near);
        changes.push(begin);
    }
    changes
}

/// Moments from -1 to 1, and values within -1 and 1 around the median, so that sums of squares do not cancel. None if
/// there is nothing to divide.
fn scaled(samples: &[Sample]) -> Option<Vec<(f64, f64)>> {
    let (first, last) = (samples.first()?.0, samples.last()?.0);
    // Halves, so that no distance overflows.
    let half: Vec<f64> = samples.iter().map(|sample| sample.1 / 2.0).collect();
    let centre = median(&mut half.clone())?;
    let span = half.iter().fold(0.0, |most: f64, value| most.max((value - centre).abs()));
    if first == last || span == 0.0 {
        return None;
    }
    let whole = distance(first, last);
    let scale = |(sample, value): (&Sample, &f64)| {
        let part = distance(first, sample.0) / whole;
        (part * 2.0 - 1.0, (value - centre) / span)
    };
    Some(samples.iter().zip(&half).map(scale).collect())
}

/// The deviation of noise between neighbours.
fn noise_of(scaled: &[(f64, f64)]) -> f64 {
    let steps: Vec<f64> = scaled.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    deviation_of_steps(&steps) / std::f64::consts::SQRT_2
}

fn deviation_of_steps(steps: &[f64]) -> f64 {
    let usual = median(&mut steps.to_vec()).unwrap_or(0.0);
    let distance = |step: &f64| (step - usual).abs().min(f64::MAX);
    deviation_of(&mut steps.iter().map(distance).collect::<Vec<f64>>())
}

/// A fall is so many times what the series goes down in each step anyway: twice as much as in the steps it may take.
const DROP_USUAL_FALLS: f64 = 4.0;
const _: () = assert!(DROP_SAMPLES == 2);

/// Whether a series climbs and falls back again and again, as a disk does that is cleaned up every night: how often it
/// fell by more than a twentieth of what it spans, from one sample or two to the next, having climbed before. Ask all
/// samples, not those of the last stretch: that begins after the last fall.
///
/// Medians of five neighbours are looked at, so that a spike is no fall, and ordinary ups and downs are none.
pub fn drops(samples: &[Sample]) -> usize {
    let half: Vec<f64> = samples.iter().map(|sample| sample.1 / 2.0).collect();
    let calm: Vec<f64> = (0..half.len()).filter_map(|place| calm_at(&half, place)).collect();
    let lowest = calm.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = calm.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let steps: Vec<f64> = half.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // What goes down all the time, step by step, does not fall there: where steps are long each is a large part of all.
    let usual_fall = -median(&mut steps.clone()).unwrap_or(0.0);
    let fall_min = ((highest - lowest) * DROP_MIN)
        .max(deviation_of_steps(&steps) * DROP_DEVIATIONS)
        .max(usual_fall * DROP_USUAL_FALLS);
    // Neither a constant series nor an empty one falls.
    if highest <= lowest || calm.is_empty() {
        return 0;
    }
    let (mut count, mut fell_at) = (0, 0);
    // The lowest value between the last fall and the top: before the first fall, climbing need not be seen.
    let mut bottom = f64::NEG_INFINITY;
    for place in 1..calm.len() {
        let begin = place.saturating_sub(DROP_SAMPLES);
        if fell_at < begin {
            bottom = bottom.min(calm[begin - 1]);
        }
        let begin = begin.max(fell_at);
        let higher = |top: usize, at: usize| if calm[top] <= calm[at] { at } else { top };
        let top = (begin..place).fold(begin, higher);
        let fall = calm[top] - calm[place];
        if fall_min <= fall {
            // What came behind the top is a part of the fall, and nothing to climb from.
            let bottom_before = calm[begin..=top].iter().copied().fold(bottom, f64::min);
            count += usize::from(CLIMB_MIN * fall <= calm[top] - bottom_before);
            fell_at = place;
            bottom = calm[place];
        }
    }
    count
}

/// The median of a value and its neighbours.
fn calm_at(values: &[f64], place: usize) -> Option<f64> {
    median(&mut values[around(values, place)].to_vec())
}

/// A place and its neighbours.
fn around(values: &[f64], place: usize) -> Range<usize> {
    place.saturating_sub(CALM / 2)..(place + CALM / 2 + 1).min(values.len())
}

/// A length of time as a number.
#[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
fn distance(from_ms: i64, to_ms: i64) -> f64 {
    from_ms.abs_diff(to_ms) as f64
}

#[cfg(test)]
mod tests;
