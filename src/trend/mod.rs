//! Row 2: what numbers over time say. Pure maths: samples in, answers out.
//!
//! ```text
//!   samples --> [change] where what went before stops telling --> the last stretch
//!                 |--> [moments] --> [line] least squares, its error, with autocorrelation
//!                 |--> [robust]  Theil-Sen beside it
//!                 |--> [season]  what this hour usually is --> [anomaly]
//!                 '--> [forecast] what comes, how sure, how wrong it would have been --> [threshold] when
//!   all of it, with a sentence: [report]                             queues: [capacity]
//! ```
//!
//! **Types**: a [`Sample`] is a value at a moment, in unix milliseconds; slices of them ascend and have finite values
//! alone ([`finite`] sees to that). Slopes are per second. An interval is what the true value lies in with 95 %.
//!
//! **Invariants**
//! - Sums are anchored at the first sample and kept in twice the precision: moments of 13 digits and values around 5e11
//!   cost nothing. Merging [`moments::Moments`] in any order gives what one pass gives.
//! - Intervals allow for samples that resemble those before them: readings of machines do.
//! - What cannot be said is not said: `None`, or a reason; never a number that stands for nothing. Nothing is NaN.
//! - Whatever the samples are (constant, two, none, huge), there is no panic.
//! - Bounds: callers give at most [`SAMPLES_MAX`] samples; what is quadratic thins them out first.
//!
//! Never here: a clock, a store, a name of a series.

pub mod anomaly;
pub mod capacity;
pub mod change;
mod double;
pub mod forecast;
pub mod line;
pub mod moments;
pub mod report;
pub mod robust;
pub mod season;
#[cfg(test)]
mod strd;
pub mod student;
pub mod threshold;
mod words;

/// A value at a moment, in unix milliseconds.
pub type Sample = (i64, f64);

/// So many samples are looked at, at most.
pub const SAMPLES_MAX: usize = 11_000;

/// What lies between two bounds, both included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The lower one.
    pub low: f64,
    /// The upper one.
    pub high: f64,
}

impl Interval {
    /// Whether it has this value in it.
    pub fn holds(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// The samples of points that have a value, and one that is a number.
pub fn finite(points: &[(i64, Option<f64>)]) -> Vec<Sample> {
    let value = |&(at_ms, value): &(i64, Option<f64>)| {
        value.filter(|value| value.is_finite()).map(|value| (at_ms, value))
    };
    points.iter().filter_map(value).collect()
}
