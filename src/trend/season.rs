//! What is usual at this hour: medians by the hour of the day or of the week (UTC), and how far values lie from them.
//!
//! A [`Baseline`] is kept for each series that is watched, so it is small: less than 200 bytes. How it is made:
//! 1. Samples become means of hours, of the last eight weeks.
//! 2. A slow trend is taken out if that makes hours tell more: the median slope between the same hour of different weeks
//!    (or days), which no cycle can spoil. What is usual is then where the trend will be half a day after the last sample;
//!    half a day of slope counts as deviation, as a baseline is used for a day.
//! 3. Each hour is foretold by the others of its slot: its own value is left out, so what is foretold was not learnt. The
//!    cycle that errs least is taken, and a richer one only if it errs clearly less than a simpler one.
//! 4. Deviations are made of these errors, so that how little is known of a median is in them. Each two hours of the day
//!    have their own, drawn towards that of all hours where there are few. What happens on many days is not out of the
//!    ordinary, however rare it is within a day: deviations grow until it is not.
//! 5. What is stored is rounded: finely near the median, in parts of a value far from it. Half a step of that is in the
//!    deviation too, and deviations are rounded up.

use super::Sample;
use super::robust::{as_f64, deviation_of, median, quantile};

const HOUR_MS: i64 = 3_600_000;
const HOURS_OF_DAY: usize = 24;
const HOURS_OF_WEEK: usize = 168;
/// The first hour of 1970 was one of a Thursday: so many hours into a week.
const FIRST_HOUR_OF_WEEK: i64 = 72;

/// So many days have to be there for a baseline.
const DAYS_MIN: i64 = 3;
/// So many weeks have to be there for one by the hour of the week: a slot has to be foretold by two others.
const WEEKS_MIN: i64 = 3;
/// What is older says little of what is usual now.
const DAYS_MAX: i64 = 56;
/// The part of the hours that has to have a value.
const FILLED_MIN: i64 = 2;

/// A richer description has to err so much less: less may be chance.
const GAIN_MIN: f64 = 0.05;
/// When gains are weighed, an error counts as no more than so many usual ones: one wild day must not hide a cycle.
const ERROR_WEIGHT_MAX: f64 = 10.0;
/// For how many errors of its own the deviation of all hours counts in that of two hours.
const DRAWN_BY: f64 = 8.0;
/// A deviation of `count` errors is itself uncertain: 3.5 deviations are passed as rarely as by a normal one if it grows by
/// so much over `count`, as Student's t does.
const UNCERTAIN: f64 = 4.0;
/// What the largest error of a day reaches on this part of the days is ordinary, and lies within `ORDINARY_REACH`
/// deviations: below the 3.5 of an anomaly, and above what normal noise does (2.9).
const ORDINARY_DAYS: f64 = 0.9;
const ORDINARY_REACH: f64 = 3.0;
/// For how much hours resemble each other, an error counts as no more than so many deviations.
const ALIKE_REACH: f64 = 3.0;
/// Likeness is no more than this, and hours are worth so many that are told by themselves at least.
const ALIKE_MAX: f64 = 0.98;
const WORTH_MIN: f64 = 2.5;
/// A deviation is so much of the level at least: who sees a constant value move by a third of a percent does not wonder.
const LEVEL_PART: f64 = 0.001;
/// A deviation of values that are all whole, as counts are, is one at least.
const WHOLE_DEVIATION: f64 = 1.0;
/// A baseline is used for a day: on average half a day of the trend is not in it.
const DRIFT_HOURS: f64 = 12.0;
/// Values count as no more than this, so that nothing overflows.
const VALUE_MAX: f64 = 1e150;

/// Codes of values go so far to both sides.
const CODE_MAX: f64 = 127.0;
/// `Baseline::reach` counts sixteenths.
const REACH_PARTS: f64 = 16.0;
/// Values lie no further from the median than so many units.
const UNITS_MAX: f64 = 1e5;
/// Deviations are powers of two, eight to an octave, and this code is one unit.
const DEVIATION_PARTS: f64 = 8.0;
const DEVIATION_ONE: f64 = 128.0;
/// No deviation is further above the smallest than this, so that codes are enough.
const DEVIATION_RANGE: f64 = 30_000.0;
/// Hours that share a deviation.
const SHARED: usize = 2;

/// What is usual at each hour.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// The median of all, from which values are told.
    centre: f64,
    /// Values are `centre + unit * sinh(code / 127 * reach / 16)`: 24 or 168 of them, or one.
    codes: [i8; HOURS_OF_WEEK],
    /// Deviations are `unit * 2^((code - 128) / 8)`, by two hours of the day.
    deviations: [u8; HOURS_OF_DAY / SHARED],
    /// The unit is two to the power of this.
    exponent: i16,
    reach: u8,
    cycle: Cycle,
}

const _: () = assert!(size_of::<Baseline>() < 200);

/// Which hours are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cycle {
    /// Hours tell nothing: one median for all.
    None,
    /// 24 hours.
    Day,
    /// 168 hours, from Monday on.
    Week,
}

/// What is usual at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usual {
    /// The median.
    pub value: f64,
    /// How far values lie from it: a standard deviation, made of the median of distances. Above 0.
    pub deviation: f64,
}

impl Cycle {
    const fn slots(self) -> usize {
        match self {
            Cycle::None => 1,
            Cycle::Day => HOURS_OF_DAY,
            Cycle::Week => HOURS_OF_WEEK,
        }
    }

    /// The slot of an hour, counted since 1970.
    fn slot(self, hour: i64) -> usize {
        let slot = match self {
            Cycle::None => 0,
            Cycle::Day => hour.rem_euclid(24),
            Cycle::Week => hour.saturating_add(FIRST_HOUR_OF_WEEK).rem_euclid(168),
        };
        usize::try_from(slot).expect("BUG: a remainder is not negative")
    }
}

impl Baseline {
    /// That of hourly means (finer ones are put together). None for fewer than three days. The cycle is the one that
    /// leaves least, judged by hours it was not made of: a week needs three weeks of samples.
    pub fn of(hourly: &[Sample]) -> Option<Baseline> {
        let hours = hours_of(hourly);
        if !spans(&hours, DAYS_MIN) {
            return None;
        }
        let cycles: &[Cycle] = if spans(&hours, WEEKS_MIN * 7) {
            &[Cycle::None, Cycle::Day, Cycle::Week]
        } else {
            &[Cycle::None, Cycle::Day]
        };
        let slope = slope_of(&hours, *cycles.last()?);
        let plain = best(&hours, cycles)?;
        let level = levelled(&hours, slope);
        let trending = best(&level, cycles)?;
        if gains(&plain.errors, &trending.errors) {
            Some(stored(&level, &trending, slope))
        } else {
            Some(stored(&hours, &plain, 0.0))
        }
    }

    /// Which hours it tells apart.
    pub fn cycle(&self) -> Cycle {
        self.cycle
    }

    /// What is usual at a moment. An hour's median stands for its middle; between two middles it is between them.
    pub fn usual(&self, at_ms: i64) -> Usual {
        let since_middle = at_ms.saturating_sub(HOUR_MS / 2);
        let hour = since_middle.div_euclid(HOUR_MS);
        let over = i32::try_from(since_middle.rem_euclid(HOUR_MS)).expect("BUG: an hour is short");
        let part = f64::from(over) / 3_600_000.0;
        let (here, next) = (self.of_hour(hour), self.of_hour(hour.saturating_add(1)));
        Usual {
            value: here.value + (next.value - here.value) * part,
            deviation: here.deviation + (next.deviation - here.deviation) * part,
        }
    }

    /// What is usual in an hour, counted since 1970.
    fn of_hour(&self, hour: i64) -> Usual {
        let code = f64::from(self.codes[self.cycle.slot(hour)]);
        let unit = 2.0_f64.powi(i32::from(self.exponent));
        let step = f64::from(self.reach) / REACH_PARTS / CODE_MAX;
        let half_step = unit * step / 2.0 * (code.abs() * step + step / 2.0).cosh();
        let octaves = f64::from(self.deviations[Cycle::Day.slot(hour) / SHARED]) - DEVIATION_ONE;
        let deviation = unit * (octaves / DEVIATION_PARTS).exp2();
        Usual {
            value: self.centre + unit * (code * step).sinh(),
            deviation: deviation.hypot(half_step).max(f64::MIN_POSITIVE),
        }
    }
}

/// The mean of an hour, counted since 1970.
#[derive(Clone, Copy)]
struct Hour {
    number: i64,
    value: f64,
}

/// A cycle, and how far each hour is from what the others of its slot say.
struct Told {
    cycle: Cycle,
    errors: Vec<f64>,
}

/// Means of the hours of the last weeks.
fn hours_of(samples: &[Sample]) -> Vec<Hour> {
    let last = samples.last().map_or(0, |sample| sample.0.div_euclid(HOUR_MS));
    let first = last.saturating_sub(DAYS_MAX * 24);
    let begin = samples.partition_point(|sample| sample.0.div_euclid(HOUR_MS) <= first);
    let same = |a: &Sample, b: &Sample| a.0.div_euclid(HOUR_MS) == b.0.div_euclid(HOUR_MS);
    let mean = |group: &[Sample]| {
        let sum: f64 = group.iter().map(|sample| sample.1.clamp(-VALUE_MAX, VALUE_MAX)).sum();
        Hour { number: group[0].0.div_euclid(HOUR_MS), value: sum / as_f64(group.len()) }
    };
    samples[begin..].chunk_by(same).map(mean).collect()
}

/// Whether hours are of so many days, and not mostly missing.
fn spans(hours: &[Hour], days: i64) -> bool {
    let (Some(first), Some(last)) = (hours.first(), hours.last()) else {
        return false;
    };
    let span = last.number.saturating_sub(first.number).saturating_add(1);
    let there = i64::try_from(hours.len()).unwrap_or(i64::MAX);
    // An hour may be missing at either end: it is not over yet.
    days * 24 - 2 <= span && days * 24 / FILLED_MIN <= there
}

/// The median slope, per hour, between the same slots of different cycles.
fn slope_of(hours: &[Hour], cycle: Cycle) -> f64 {
    let mut slots: Vec<Vec<Hour>> = vec![Vec::new(); cycle.slots()];
    let mut slopes = Vec::new();
    for hour in hours {
        let slot = &mut slots[cycle.slot(hour.number)];
        for before in slot.iter() {
            let apart = hour.number.saturating_sub(before.number);
            slopes.push((hour.value - before.value) / as_f64(usize::try_from(apart).unwrap_or(1)));
        }
        slot.push(*hour);
    }
    median(&mut slopes).unwrap_or(0.0)
}

/// Hours as if they had been at the end of the trend, and half a day beyond it.
fn levelled(hours: &[Hour], slope: f64) -> Vec<Hour> {
    let last = hours.last().map_or(0, |hour| hour.number);
    let level = |hour: &Hour| {
        let ahead = as_f64(usize::try_from(last.saturating_sub(hour.number)).unwrap_or(0));
        Hour { number: hour.number, value: hour.value + slope * (ahead + DRIFT_HOURS) }
    };
    hours.iter().map(level).collect()
}

/// The cycle that errs least; a richer one only if that is clear.
fn best(hours: &[Hour], cycles: &[Cycle]) -> Option<Told> {
    let mut best: Option<Told> = None;
    for &cycle in cycles {
        let told = Told { cycle, errors: errors_of(hours, cycle) };
        if best.as_ref().is_none_or(|simpler| gains(&simpler.errors, &told.errors)) {
            best = Some(told);
        }
    }
    best
}

/// Whether the errors of a richer description are clearly smaller. A wild hour is wild for both: in the difference, what
/// it is beyond both of them does not count.
fn gains(simpler: &[f64], richer: &[f64]) -> bool {
    let usual = median(&mut sizes(simpler)).unwrap_or(0.0);
    let most = if 0.0 < usual { usual * ERROR_WEIGHT_MAX } else { f64::MAX };
    let before: f64 = simpler.iter().map(|error| error.abs().min(most)).sum();
    let gain: f64 = simpler.iter().zip(richer).map(|(a, b)| a.abs() - b.abs()).sum();
    0.0 < gain && before * GAIN_MIN <= gain
}

/// How far each hour is from the median of the others of its slot.
fn errors_of(hours: &[Hour], cycle: Cycle) -> Vec<f64> {
    let slotted = |hour: &Hour| (cycle.slot(hour.number), hour.value);
    let values: Vec<(usize, f64)> = hours.iter().map(slotted).collect();
    errors_by_slot(cycle.slots(), &values, median_of(hours))
}

/// How far each value is from the median of the others of its slot, or from `instead` if there are no others.
pub(super) fn errors_by_slot(slots: usize, values: &[(usize, f64)], instead: f64) -> Vec<f64> {
    let mut sorted: Vec<Vec<(f64, usize)>> = vec![Vec::new(); slots];
    for (index, &(slot, value)) in values.iter().enumerate() {
        sorted[slot].push((value, index));
    }
    let mut errors = vec![0.0; values.len()];
    for slot in &mut sorted {
        slot.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        for (rank, &(value, index)) in slot.iter().enumerate() {
            errors[index] = value - median_without(slot, rank).unwrap_or(instead);
        }
    }
    errors
}

/// The median of all but one of sorted values.
fn median_without(sorted: &[(f64, usize)], rank: usize) -> Option<f64> {
    let rest = sorted.len().checked_sub(1)?;
    let of = |place: usize| sorted.get(if place < rank { place } else { place + 1 });
    let upper = of(rest / 2)?.0;
    if rest % 2 == 1 {
        return Some(upper);
    }
    Some(of((rest / 2).checked_sub(1)?)?.0.midpoint(upper))
}

fn median_of(hours: &[Hour]) -> f64 {
    median(&mut hours.iter().map(|hour| hour.value).collect::<Vec<f64>>()).unwrap_or(0.0)
}

/// The medians of slots; those of no hour have that of their hour of the day, or of all.
fn medians(hours: &[Hour], cycle: Cycle, centre: f64) -> Vec<f64> {
    let mut slots: Vec<Vec<f64>> = vec![Vec::new(); cycle.slots()];
    for hour in hours {
        slots[cycle.slot(hour.number)].push(hour.value);
    }
    let mut of_day: Vec<Vec<f64>> = vec![Vec::new(); HOURS_OF_DAY];
    for hour in hours {
        of_day[Cycle::Day.slot(hour.number)].push(hour.value);
    }
    let mut instead: Vec<f64> = Vec::with_capacity(HOURS_OF_DAY);
    instead.extend(of_day.iter_mut().map(|values| median(values).unwrap_or(centre)));
    let fill = |(slot, values): (usize, &mut Vec<f64>)| {
        median(values).unwrap_or_else(|| instead[slot % HOURS_OF_DAY])
    };
    slots.iter_mut().enumerate().map(fill).collect()
}

fn sizes(errors: &[f64]) -> Vec<f64> {
    errors.iter().map(|error| error.abs()).collect()
}

/// The deviations of each two hours of the day.
fn deviations(hours: &[Hour], told: &Told, floor: f64) -> [f64; HOURS_OF_DAY / SHARED] {
    let uncertain = |count: f64| 1.0 + UNCERTAIN / count;
    let all = as_f64(told.errors.len());
    let of_all = deviation_of(&mut sizes(&told.errors)).max(floor) * uncertain(all);
    let mut deviations = [of_all; HOURS_OF_DAY / SHARED];
    if told.cycle != Cycle::None {
        let mut shared: Vec<Vec<f64>> = vec![Vec::new(); HOURS_OF_DAY / SHARED];
        for (hour, &error) in hours.iter().zip(&told.errors) {
            shared[Cycle::Day.slot(hour.number) / SHARED].push(error);
        }
        for (deviation, errors) in deviations.iter_mut().zip(&shared) {
            let count = as_f64(errors.len());
            let own = deviation_of(&mut sizes(errors));
            let square = (count * own * own + DRAWN_BY * of_all * of_all) / (count + DRAWN_BY);
            *deviation = square.sqrt().max(floor) * uncertain(count + DRAWN_BY);
        }
    }
    let wider = ordinary(hours, &told.errors, &deviations) * unknown(&told.errors, of_all);
    deviations.map(|deviation| deviation * wider)
}

/// By how much deviations have to grow for how little is known of the level, if hours resemble those before them: a few
/// days of a series that wanders for days have seen it at one place.
fn unknown(errors: &[f64], deviation: f64) -> f64 {
    let most = deviation * ALIKE_REACH;
    let bounded: Vec<f64> = errors.iter().map(|error| error.clamp(-most, most) / most).collect();
    let square: f64 = bounded.iter().map(|error| error * error).sum();
    let joint: f64 = bounded.windows(2).map(|pair| pair[0] * pair[1]).sum();
    if square <= 0.0 {
        return 1.0;
    }
    let count = as_f64(errors.len());
    let likeness = joint / square;
    // Likeness looks smaller than it is by so much (Kendall 1954).
    let likeness = (likeness + (1.0 + 3.0 * likeness) / count).clamp(0.0, ALIKE_MAX);
    let worth = (count * (1.0 - likeness) / (1.0 + likeness)).max(WORTH_MIN);
    // The variance of a median is pi / 2 of that of a mean, and that around a mean of its own is one of `worth` short.
    ((worth + std::f64::consts::FRAC_PI_2) / (worth - 1.0)).sqrt()
}

/// By how much deviations have to grow so that what many days have is not out of the ordinary.
fn ordinary(hours: &[Hour], errors: &[f64], deviations: &[f64; HOURS_OF_DAY / SHARED]) -> f64 {
    let mut days: Vec<(i64, f64)> = Vec::new();
    for (hour, error) in hours.iter().zip(errors) {
        let far = error.abs() / deviations[Cycle::Day.slot(hour.number) / SHARED];
        let day = hour.number.div_euclid(24);
        match days.last_mut() {
            Some(last) if last.0 == day => last.1 = last.1.max(far),
            _ => days.push((day, far)),
        }
    }
    let mut largest: Vec<f64> = days.iter().map(|day| day.1).collect();
    (quantile(&mut largest, ORDINARY_DAYS).unwrap_or(0.0) / ORDINARY_REACH).max(1.0)
}

/// What a deviation is at least.
fn floor_of(hours: &[Hour], values: &[f64]) -> f64 {
    let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let whole = hours.iter().all(|hour| hour.value.fract() == 0.0);
    let least = if whole { WHOLE_DEVIATION } else { f64::MIN_POSITIVE };
    (largest * LEVEL_PART).max(least)
}

/// A baseline of what was told.
fn stored(hours: &[Hour], told: &Told, slope: f64) -> Baseline {
    let centre = median_of(hours);
    let values = medians(hours, told.cycle, centre);
    let drift = slope.abs() * DRIFT_HOURS;
    let floor = floor_of(hours, &values);
    let deviations = deviations(hours, told, floor).map(|deviation| deviation.hypot(drift));
    let smallest = deviations.iter().copied().fold(f64::MAX, f64::min);
    let largest = deviations.iter().copied().fold(0.0, f64::max);
    let range = values.iter().fold(0.0, |range: f64, value| range.max((value - centre).abs()));
    let least = smallest.max(range / UNITS_MAX).max(largest / DEVIATION_RANGE);
    let exponent = bounded_i16(least.log2().ceil());
    let unit = 2.0_f64.powi(i32::from(exponent));
    let reach = bounded_u8(((range / unit).asinh() * REACH_PARTS).ceil());
    let mut codes = [0; HOURS_OF_WEEK];
    if 0 < reach {
        let step = f64::from(reach) / REACH_PARTS / CODE_MAX;
        for (code, value) in codes.iter_mut().zip(&values) {
            *code = bounded_i8((((value - centre) / unit).asinh() / step).round());
        }
    }
    let octaves = |deviation: f64| (deviation / unit).log2() * DEVIATION_PARTS + DEVIATION_ONE;
    let deviations = deviations.map(|deviation| bounded_u8(octaves(deviation).ceil()));
    Baseline { centre, codes, deviations, exponent, reach, cycle: told.cycle }
}

#[expect(clippy::cast_possible_truncation, reason = "a cast stops at the bounds")]
fn bounded_i16(value: f64) -> i16 {
    value as i16
}

#[expect(clippy::cast_possible_truncation, reason = "a cast stops at the bounds")]
fn bounded_i8(value: f64) -> i8 {
    value as i8
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast stops at the bounds"
)]
fn bounded_u8(value: f64) -> u8 {
    value as u8
}

#[cfg(test)]
mod tests;
