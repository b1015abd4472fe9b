//! From samples and points to one value a step: what `fn` of a query means.
//!
//! Pure. A step covers `[t, t + step)`. No sample in a step is `None`, for every function but `last`, which looks back for
//! [`super::LOOK_BACK_MS`] from the end of the step (or from now, if that is earlier).
//!
//! ```text
//!   samples --> bucket (5 m) --> unit (5 m, 1 h, 1 d) --> step --> value
//!   points  ---------------------'
//! ```
//!
//! Sums and increases of long steps are put together as points are: first within five minutes, then within the points of
//! the tier that the step is made of, then within the step. So an answer is the same to the bit whether its days come from
//! points or from samples. Steps that are no multiple of five minutes come from samples alone, and are one bucket each.

use super::point::{self, Point};
use super::sketch::Sketch;
use super::{DAY_MS, FIVE_MINUTES_MS, HOUR_MS, LOOK_BACK_MS};

/// What is made of the samples of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// Nothing: the samples as they are.
    Raw,
    /// Sum by count.
    Avg,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// All together.
    Sum,
    /// How many.
    Count,
    /// The last one, if it is at most five minutes old at the end of the step.
    Last,
    /// Increase by seconds of the step.
    Rate,
    /// Differences, corrected for resets; the first against the sample before the step if that is at most five minutes old
    /// when the step begins.
    Increase,
    /// This part (0 to 1) of the samples is at or below it.
    Quantile(f64),
}

/// How series are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// Added.
    Sum,
    /// Averaged.
    Avg,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

/// The steps of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// The start of the first one; a multiple of the length.
    pub from_ms: i64,
    /// The end of the last one.
    pub to_ms: i64,
    /// The length.
    pub step_ms: i64,
    /// The moment of the query.
    pub now_ms: i64,
}

impl Steps {
    /// How many there are.
    pub fn count(&self) -> usize {
        usize::try_from((self.to_ms - self.from_ms) / self.step_ms).unwrap_or(0)
    }

    /// The number of the step in which a moment of the range lies.
    fn of(&self, at_ms: i64) -> usize {
        usize::try_from((at_ms - self.from_ms) / self.step_ms).unwrap_or(0)
    }

    /// When a step begins.
    fn start(&self, step: usize) -> i64 {
        let step = i64::try_from(step).expect("BUG: steps are counted in 64 bits");
        self.from_ms + step * self.step_ms
    }
}

/// What a stretch comes to, as far as functions ask for it; joined as points are.
#[derive(Clone, Copy, Debug)]
struct Part {
    count: u64,
    min: f64,
    max: f64,
    sum: f64,
    increase: f64,
    first: f64,
    last: f64,
    last_ms: i64,
}

impl Part {
    const fn of(at_ms: i64, value: f64) -> Part {
        Part {
            count: 1,
            min: value,
            max: value,
            sum: value,
            increase: 0.0,
            first: value,
            last: value,
            last_ms: at_ms,
        }
    }

    const fn of_point(point: &Point) -> Part {
        Part {
            count: point.count,
            min: point.min,
            max: point.max,
            sum: point.sum,
            increase: point.increase,
            first: point.first,
            last: point.last,
            last_ms: point.last_ms,
        }
    }

    #[inline]
    fn add(&mut self, at_ms: i64, value: f64) {
        self.count += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += value;
        self.increase += point::rise(self.last, value);
        (self.last, self.last_ms) = (value, at_ms);
    }

    #[inline]
    fn join(&mut self, later: &Part) {
        self.count = self.count.saturating_add(later.count);
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
        self.sum += later.sum;
        self.increase = self.increase + point::rise(self.last, later.first) + later.increase;
        (self.last, self.last_ms) = (later.last, later.last_ms);
    }
}

/// A stretch of a level, while it is being filled.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// Its length.
    length_ms: i64,
    /// Where the current one ends.
    end_ms: i64,
    part: Option<Part>,
}

/// Nothing was begun yet. Moments can be subtracted from it.
const UNSET: i64 = i64::MIN / 2;

impl Level {
    const fn new(length_ms: i64) -> Level {
        Level { length_ms, end_ms: UNSET, part: None }
    }

    /// Begins the stretch in which a moment lies, behind the current one.
    #[inline]
    fn begin(&mut self, at_ms: i64) {
        // Mostly it is the next one, and a division costs more than everything else here.
        if self.end_ms <= at_ms && at_ms - self.end_ms < self.length_ms {
            self.end_ms += self.length_ms;
        } else {
            self.end_ms = at_ms - at_ms.rem_euclid(self.length_ms) + self.length_ms;
        }
    }

    #[inline]
    fn join(&mut self, later: Option<Part>) {
        match (&mut self.part, later) {
            (Some(part), Some(later)) => part.join(&later),
            (None, later) => self.part = later,
            (Some(_), None) => {}
        }
    }
}

/// The values of a step of which a percentile is asked.
#[derive(Debug)]
struct Spread {
    /// Percentiles come from sketches throughout, as those of points do.
    sketched: bool,
    /// Where the current step ends.
    end_ms: i64,
    values: Vec<f64>,
    sketch: Option<Box<Sketch>>,
    /// A point did not say how its samples are distributed.
    unknown: bool,
}

impl Spread {
    fn add(&mut self, value: f64) {
        if self.sketched {
            self.sketch.get_or_insert_default().add(value);
        } else {
            self.values.push(value);
        }
    }

    /// The percentile, by nearest rank; and begins anew.
    fn take(&mut self, part: f64) -> Option<f64> {
        let (sketch, unknown) = (self.sketch.take(), std::mem::take(&mut self.unknown));
        let value = match sketch {
            // NaN is not counted, neither in a sketch nor below.
            Some(mut sketch) => {
                self.values.iter().for_each(|&value| sketch.add(value));
                Some(sketch.quantile(part).unwrap_or(f64::NAN))
            }
            None => nearest_rank(&mut self.values, part),
        };
        self.values.clear();
        value.filter(|_| !unknown)
    }
}

/// The smallest value that this part of the values does not exceed; NaN is left out if there is anything else.
fn nearest_rank(values: &mut Vec<f64>, part: f64) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    values.retain(|value| !value.is_nan());
    if values.is_empty() {
        return Some(f64::NAN);
    }
    let count = values.len();
    // What is a whole number but for the rounding is that number: 0.07 of 100 values is the 7th.
    #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 samples in a step")]
    let rank = (part * count as f64 - 1e-9).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "casts of floats saturate, and the rank is held within the count"
    )]
    let rank = (rank as usize).clamp(1, count);
    let (_, value, _) = values.select_nth_unstable_by(rank - 1, f64::total_cmp);
    Some(*value)
}

/// Folds one series. It is told its samples or points in the order of time, from [`super::LOOK_BACK_MS`] before the first
/// step on; samples and points may follow each other.
#[derive(Debug)]
pub struct Fold {
    function: Function,
    steps: Steps,
    out: Vec<Option<f64>>,
    /// The last sample before the step that is being filled.
    before: Option<(i64, f64)>,
    bucket: Level,
    unit: Level,
    step: Level,
    spread: Spread,
}

impl Fold {
    /// For one series.
    pub fn new(function: Function, steps: Steps) -> Fold {
        let step = steps.step_ms;
        let unit = [DAY_MS, HOUR_MS, FIVE_MINUTES_MS].into_iter().find(|unit| step % unit == 0);
        let bucket = if unit.is_some() { FIVE_MINUTES_MS } else { step };
        let spread = Spread {
            sketched: false,
            end_ms: UNSET,
            values: Vec::new(),
            sketch: None,
            unknown: false,
        };
        Fold {
            function,
            steps,
            out: Vec::with_capacity(steps.count()),
            before: None,
            bucket: Level::new(bucket),
            unit: Level::new(unit.unwrap_or(step)),
            step: Level::new(step),
            spread,
        }
    }

    /// The same, with percentiles from sketches also where there are samples: those of a day are what its points say.
    #[must_use]
    pub fn sketched(mut self) -> Fold {
        self.spread.sketched = true;
        self
    }

    /// Values that are held until the end of the current step.
    pub fn held(&self) -> usize {
        self.spread.values.len()
    }

    /// Samples that ascend.
    pub fn samples(&mut self, samples: &[(i64, f64)]) {
        let before = samples.partition_point(|&(at, _)| at < self.steps.from_ms);
        let (before, within) = samples.split_at(before);
        let within = &within[..within.partition_point(|&(at, _)| at < self.steps.to_ms)];
        if let Some(&(at, value)) = before.last() {
            self.earlier(at, value);
        }
        match self.function {
            Function::Last => within.iter().for_each(|&(at, value)| self.seen(at, value)),
            Function::Quantile(_) => within.iter().for_each(|&(at, value)| {
                self.spread_over(at);
                self.spread.add(value);
            }),
            _ => within.iter().for_each(|&(at, value)| self.sample(at, value)),
        }
    }

    /// A point that begins at `start_ms`; it lies within one step, or before the first.
    pub fn point(&mut self, start_ms: i64, point: &Point) {
        if start_ms < self.steps.from_ms {
            self.earlier(point.last_ms, point.last);
            return;
        }
        if self.steps.to_ms <= start_ms {
            return;
        }
        match self.function {
            Function::Last => {
                self.seen(point.last_ms.clamp(start_ms, self.steps.to_ms - 1), point.last);
            }
            Function::Quantile(_) => {
                self.spread_over(start_ms);
                match &point.sketch {
                    Some(sketch) => self.spread.sketch.get_or_insert_default().merge(sketch),
                    None => self.spread.unknown = true,
                }
            }
            _ => {
                self.enter(start_ms);
                let bucket = self.bucket.part.take();
                self.unit.join(bucket);
                self.unit.join(Some(Part::of_point(point)));
            }
        }
    }

    /// A value for each step.
    pub fn finish(mut self) -> Vec<Option<f64>> {
        match self.function {
            Function::Last => self.look_back(self.steps.count()),
            Function::Quantile(_) => self.spread_end(),
            _ => self.enter(self.steps.to_ms),
        }
        self.out.resize(self.steps.count(), None);
        self.out
    }

    /// A sample before the first step.
    fn earlier(&mut self, at_ms: i64, value: f64) {
        if at_ms <= self.steps.now_ms {
            self.before = Some((at_ms, value));
        }
    }

    #[inline]
    fn sample(&mut self, at_ms: i64, value: f64) {
        if self.bucket.end_ms <= at_ms {
            self.enter(at_ms);
        }
        match &mut self.bucket.part {
            Some(part) => part.add(at_ms, value),
            None => self.bucket.part = Some(Part::of(at_ms, value)),
        }
    }

    /// Ends, at each level, what ends before this moment.
    fn enter(&mut self, at_ms: i64) {
        if self.bucket.end_ms <= at_ms {
            let bucket = self.bucket.part.take();
            self.unit.join(bucket);
            self.bucket.begin(at_ms);
        }
        if self.unit.end_ms <= at_ms {
            let unit = self.unit.part.take();
            self.step.join(unit);
            self.unit.begin(at_ms);
        }
        if self.step.end_ms <= at_ms {
            if let Some(part) = self.step.part.take() {
                self.emit(&part);
            }
            self.step.begin(at_ms);
        }
    }

    /// The value of a step that has samples.
    fn emit(&mut self, part: &Part) {
        let step = self.steps.of(self.step.end_ms - 1);
        self.out.resize(step, None);
        self.out.push(Some(self.value(part)));
        self.before = Some((part.last_ms, part.last));
    }

    fn value(&self, part: &Part) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "answers are floats")]
        let (count, seconds) = (part.count as f64, self.steps.step_ms as f64 / 1000.0);
        match self.function {
            Function::Avg => part.sum / count,
            Function::Min => part.min,
            Function::Max => part.max,
            Function::Sum => part.sum,
            Function::Count => count,
            Function::Increase => self.increase(part),
            Function::Rate => self.increase(part) / seconds,
            Function::Raw | Function::Last | Function::Quantile(_) => {
                unreachable!("BUG: they are not made of parts")
            }
        }
    }

    fn increase(&self, part: &Part) -> f64 {
        let start = self.step.end_ms - self.steps.step_ms;
        match self.before {
            Some((at, value)) if start.saturating_sub(at) <= LOOK_BACK_MS => {
                point::rise(value, part.first) + part.increase
            }
            _ => part.increase,
        }
    }

    /// `last`: a sample ends the steps before its own. Those of the future are not seen yet.
    #[inline]
    fn seen(&mut self, at_ms: i64, value: f64) {
        if at_ms <= self.steps.now_ms {
            if self.spread.end_ms <= at_ms {
                let step = self.steps.of(at_ms);
                self.look_back(step);
                self.spread.end_ms = self.steps.start(step + 1);
            }
            self.before = Some((at_ms, value));
        }
    }

    /// `last`: steps up to this one, from the sample before them, while it is young enough.
    fn look_back(&mut self, until: usize) {
        while self.out.len() < until {
            let start = self.steps.start(self.out.len());
            let end = (start + self.steps.step_ms).min(self.steps.now_ms);
            let seen = self.before.filter(|&(at, _)| {
                start <= self.steps.now_ms && end.saturating_sub(at) <= LOOK_BACK_MS
            });
            self.out.push(seen.map(|(_, value)| value));
        }
    }

    /// Percentiles: ends the step if this moment lies behind it.
    #[inline]
    fn spread_over(&mut self, at_ms: i64) {
        if self.spread.end_ms <= at_ms {
            self.spread_end();
            let step = self.steps.of(at_ms);
            self.out.resize(step, None);
            self.spread.end_ms = self.steps.start(step + 1);
        }
    }

    fn spread_end(&mut self) {
        if let Function::Quantile(part) = self.function
            && self.spread.end_ms != UNSET
        {
            let value = self.spread.take(part);
            self.out.push(value);
        }
    }
}

/// Puts series together as they come; a step is `None` if it is in all of them.
#[derive(Debug)]
pub struct Reducing {
    how: Reduce,
    steps: Vec<(u32, f64)>,
}

impl Reducing {
    /// Of nothing.
    pub fn new(how: Reduce, steps: usize) -> Reducing {
        Reducing { how, steps: vec![(0, 0.0); steps] }
    }

    /// With one more series.
    pub fn add(&mut self, series: &[Option<f64>]) {
        for ((count, all), value) in self.steps.iter_mut().zip(series) {
            let Some(value) = *value else { continue };
            *all = match self.how {
                _ if *count == 0 => value,
                Reduce::Sum | Reduce::Avg => *all + value,
                Reduce::Min => all.min(value),
                Reduce::Max => all.max(value),
            };
            *count = count.saturating_add(1);
        }
    }

    /// All together.
    pub fn finish(self) -> Vec<Option<f64>> {
        let value = |(count, all): (u32, f64)| match self.how {
            _ if count == 0 => None,
            Reduce::Avg => Some(all / f64::from(count)),
            Reduce::Sum | Reduce::Min | Reduce::Max => Some(all),
        };
        self.steps.into_iter().map(value).collect()
    }
}

/// Puts series together, step by step; a step is `None` if it is in all of them.
pub fn reduce(reduce: Reduce, series: &[&[Option<f64>]]) -> Vec<Option<f64>> {
    let steps = series.iter().map(|values| values.len()).max().unwrap_or(0);
    let mut reducing = Reducing::new(reduce, steps);
    for values in series {
        reducing.add(values);
    }
    reducing.finish()
}

#[cfg(test)]
pub(in crate::series) mod tests;
