//! Points: what is kept of the samples of a stretch of time, and how points are joined and stored.
//!
//! Joining is in the order of time. The sum of a longer stretch is the sum of its five-minute sums, so that a point says
//! the same to the bit however it came about: whoever makes points of any length makes them by [`joined`] from those of
//! [`five_minutes`], never from points that were joined already.
//!
//! What is not a number counts, is kept as first and last, makes the sum NaN (one and the same, whatever it came from),
//! and is left out of min and max if there is anything else.

mod coded;
mod common;

pub use self::coded::decode;
pub use self::coded::encode;
pub use self::common::Common;

use super::sketch::Sketch;
use super::{FIVE_MINUTES_MS, Tier};

/// Points of one series that one span of any tier can have.
pub(super) const POINTS_MAX: usize = 288;

const _: () = assert!(Tier::FiveMinutes.span_ms() / Tier::FiveMinutes.step_ms() == 288);
const _: () = assert!(Tier::Hour.span_ms() / Tier::Hour.step_ms() <= 288);
const _: () = assert!(Tier::Day.span_ms() / Tier::Day.step_ms() <= 288);

/// The samples of a stretch of time in a few numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// How many.
    pub count: u64,
    /// The smallest; NaN only if there is nothing else.
    pub min: f64,
    /// The largest; NaN only if there is nothing else.
    pub max: f64,
    /// All together.
    pub sum: f64,
    /// The first.
    pub first: f64,
    /// The last.
    pub last: f64,
    /// When the first was.
    pub first_ms: i64,
    /// When the last was.
    pub last_ms: i64,
    /// Differences of samples within the stretch, corrected for resets.
    pub increase: f64,
    /// How they are distributed, for series of kind distribution.
    pub sketch: Option<Box<Sketch>>,
}

/// How much a counter went up from one sample to the next: after a reset it began at zero. What is not finite counts
/// nothing.
pub fn rise(before: f64, after: f64) -> f64 {
    let rise = if before <= after { after - before } else { after };
    if rise.is_finite() && before.is_finite() { rise } else { 0.0 }
}

/// The same NaN for all of them: which one arithmetic gives is not settled.
fn settled(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}

/// The smaller one; the earlier of those that are equal.
fn smaller(earlier: f64, later: f64) -> f64 {
    if later < earlier || (earlier.is_nan() && !later.is_nan()) { later } else { earlier }
}

/// The larger one; the earlier of those that are equal.
fn larger(earlier: f64, later: f64) -> f64 {
    if earlier < later || (earlier.is_nan() && !later.is_nan()) { later } else { earlier }
}

impl Point {
    /// The point of one sample.
    pub fn of(at_ms: i64, value: f64, sketch: bool) -> Point {
        let sketch = sketch.then(|| {
            let mut sketch = Box::<Sketch>::default();
            sketch.add(value);
            sketch
        });
        Point {
            count: 1,
            min: value,
            max: value,
            sum: settled(value),
            first: value,
            last: value,
            first_ms: at_ms,
            last_ms: at_ms,
            increase: 0.0,
            sketch,
        }
    }

    /// Adds a later sample.
    pub fn add(&mut self, at_ms: i64, value: f64) {
        self.count = self.count.saturating_add(1);
        self.min = smaller(self.min, value);
        self.max = larger(self.max, value);
        self.sum = settled(self.sum + value);
        self.increase = settled(self.increase + rise(self.last, value));
        self.last = value;
        self.last_ms = at_ms;
        if let Some(sketch) = &mut self.sketch {
            sketch.add(value);
        }
    }

    /// Adds a later stretch: between the two, the counter rose from the last to the first.
    pub fn join(&mut self, later: &Point) {
        self.count = self.count.saturating_add(later.count);
        self.min = smaller(self.min, later.min);
        self.max = larger(self.max, later.max);
        self.sum = settled(self.sum + later.sum);
        let between = rise(self.last, later.first);
        self.increase = settled(self.increase + between + later.increase);
        self.last = later.last;
        self.last_ms = later.last_ms;
        match (&mut self.sketch, &later.sketch) {
            (Some(sketch), Some(more)) => sketch.merge(more),
            (None, Some(more)) => self.sketch = Some(more.clone()),
            (Some(_) | None, None) => {}
        }
    }
}

/// The points of five minutes of samples that ascend; each with the start of its stretch.
pub fn five_minutes(samples: &[(i64, f64)], sketch: bool) -> Vec<(i64, Point)> {
    let mut points = Vec::new();
    for &sample in samples {
        add_sample(&mut points, sample, sketch);
    }
    points
}

/// Adds a sample behind all others to points of five minutes.
pub(super) fn add_sample(points: &mut Vec<(i64, Point)>, (at_ms, value): (i64, f64), sketch: bool) {
    let start = at_ms - at_ms.rem_euclid(FIVE_MINUTES_MS);
    match points.last_mut() {
        Some((last, point)) if *last == start => point.add(at_ms, value),
        Some(_) | None => points.push((start, Point::of(at_ms, value, sketch))),
    }
}

/// Longer points out of shorter ones that ascend; `step_ms` is a multiple of theirs.
pub fn joined(points: &[(i64, Point)], step_ms: i64) -> Vec<(i64, Point)> {
    let mut longer: Vec<(i64, Point)> = Vec::new();
    for (at_ms, point) in points {
        let start = at_ms - at_ms.rem_euclid(step_ms);
        match longer.last_mut() {
            Some((last, whole)) if *last == start => whole.join(point),
            Some(_) | None => longer.push((start, point.clone())),
        }
    }
    longer
}

#[cfg(test)]
mod tests;
