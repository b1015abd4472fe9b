//! What repeats every day or every week, taken out if it is there: three cycles show it.
//!
//! The level at each moment is the mean of one cycle around it, in which no cycle is left. What samples are beyond it has
//! a median by the time of the day or the week; it is taken for a cycle if it tells what was left out of it.

use crate::trend::Sample;
use crate::trend::robust::{as_f64, median};
use crate::trend::season::errors_by_slot;

const DAY_MS: u64 = 86_400_000;
/// The cycles that are looked for; each counts only if it tells clearly more than those before it.
const CYCLES_MS: [u64; 2] = [DAY_MS, 7 * DAY_MS];
/// So many cycles have to be there.
const CYCLES_MIN: u64 = 3;
/// A cycle has so many samples at least.
const SLOTS_MIN: u64 = 4;
/// What is left without the cycle is so much of what is left with a simpler one, at most.
const LEFT_MAX: f64 = 0.9;

/// The scaled samples without what repeats, and how many of them a cycle has; none if nothing repeats.
pub(super) fn without(samples: &[Sample], scaled: Vec<(f64, f64)>) -> (Vec<(f64, f64)>, usize) {
    let Some(step) = usual_step(samples) else {
        return (scaled, 0);
    };
    let mut best: Option<Cycle> = None;
    for length in CYCLES_MS {
        let Some(cycle) = Cycle::of(samples, &scaled, length, step) else {
            continue;
        };
        let before = best.as_ref().map_or(cycle.beyond, |best| best.left);
        if cycle.left <= before * LEFT_MAX {
            best = Some(cycle);
        }
    }
    let Some(Cycle { profile, slots, .. }) = best else {
        return (scaled, 0);
    };
    (scaled.iter().zip(profile).map(|(&(x, y), usual)| (x, y - usual)).collect(), slots)
}

/// How far neighbours usually lie apart.
fn usual_step(samples: &[Sample]) -> Option<u64> {
    let mut steps: Vec<u64> =
        samples.windows(2).map(|pair| pair[1].0.abs_diff(pair[0].0)).collect();
    let middle = steps.len() / 2;
    if steps.is_empty() {
        return None;
    }
    Some(*steps.select_nth_unstable(middle).1).filter(|&step| 0 < step)
}

/// A cycle that may be there.
struct Cycle {
    /// What samples are beyond their level, on average.
    beyond: f64,
    /// What of that the cycle does not tell.
    left: f64,
    /// What it tells of each sample.
    profile: Vec<f64>,
    /// How many samples it has.
    slots: usize,
}

impl Cycle {
    fn of(samples: &[Sample], scaled: &[(f64, f64)], length: u64, step: u64) -> Option<Cycle> {
        let (first, last) = (samples.first()?.0, samples.last()?.0);
        let slots = length.div_ceil(step);
        if slots < SLOTS_MIN || last.abs_diff(first).saturating_add(step) < length * CYCLES_MIN {
            return None;
        }
        let slot = |sample: &Sample| {
            usize::try_from(sample.0.abs_diff(first) % length / step).expect("BUG: below slots")
        };
        let slots = usize::try_from(slots).ok()?;
        let levels = levels(samples, scaled, length, step);
        let mut beyond: Vec<(usize, f64)> = Vec::with_capacity(samples.len());
        for ((sample, &(_, value)), level) in samples.iter().zip(scaled).zip(&levels) {
            beyond.extend(level.map(|level| (slot(sample), value - level)));
        }
        // Where the window has more before than behind, a slope is beyond its level everywhere.
        let mut all: Vec<f64> = beyond.iter().map(|sample| sample.1).collect();
        let offset = median(&mut all)?;
        for sample in &mut beyond {
            sample.1 -= offset;
        }
        let left = mean_size(errors_by_slot(slots, &beyond, 0.0).into_iter());
        let of_slots = medians(slots, &beyond);
        Some(Cycle {
            beyond: mean_size(beyond.iter().map(|sample| sample.1)),
            left,
            profile: samples.iter().map(|sample| of_slots[slot(sample)]).collect(),
            slots,
        })
    }
}

/// The mean of one cycle around each sample, where there is a whole one.
fn levels(samples: &[Sample], scaled: &[(f64, f64)], length: u64, step: u64) -> Vec<Option<f64>> {
    let reach = i64::try_from(length / 2).unwrap_or(i64::MAX);
    let slack = i64::try_from(step).unwrap_or(i64::MAX);
    let (first, last) = (samples[0].0, samples[samples.len() - 1].0);
    let (mut begin, mut end, mut sum) = (0, 0, 0.0);
    let mut levels = Vec::with_capacity(samples.len());
    for sample in samples {
        let (from, to) = (sample.0.saturating_sub(reach), sample.0.saturating_add(reach));
        while end < samples.len() && samples[end].0 < to {
            sum += scaled[end].1;
            end += 1;
        }
        while begin < end && samples[begin].0 < from {
            sum -= scaled[begin].1;
            begin += 1;
        }
        let whole = first.saturating_sub(slack) <= from && to <= last.saturating_add(slack);
        levels.push((whole && begin < end).then(|| sum / as_f64(end - begin)));
    }
    levels
}

fn medians(slots: usize, values: &[(usize, f64)]) -> Vec<f64> {
    let mut of_slots: Vec<Vec<f64>> = vec![Vec::new(); slots];
    for &(slot, value) in values {
        of_slots[slot].push(value);
    }
    of_slots.iter_mut().map(|values| median(values).unwrap_or(0.0)).collect()
}

fn mean_size(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = as_f64(values.len().max(1));
    values.map(f64::abs).sum::<f64>() / count
}
