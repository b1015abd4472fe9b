//! Row 4: time series in a few bytes.
//!
//! ```text
//!   samples --> index (labels -> series, group, column) --> open buckets, RAM --seal, hourly--> raw blocks   (1 h of a group)
//!                                                            |                                    |  roll, daily
//!                                                            '--tick, 10 s--> series.wal          v
//!                                                                                  r5m (1 d), r1h (7 d), r1d (28 d)
//!   query: index -> (open buckets, then blocks) -> fold into steps -> by, reduce
//! ```
//!
//! **Types**: a *series* is a metric with labels, of one tenant; it has an id that is never used again. A *group* is a set
//! of series that arrived together: a row of it is one moment and the values of some of its *columns*; its timestamps are
//! stored once. A *tier* is a resolution: raw samples, and points of five minutes, hours and days. A *span* is the time that
//! one block of a tier covers, aligned to 1970 UTC.
//!
//! **Samples** may come in any order within [`limits::LATE_MAX`]. Each goes to the open bucket of its hour and group,
//! whether that hour was sealed before or not; an open bucket lies over what is sealed and wins. Sealing takes what is open
//! and what is sealed of an hour and writes both as one. So late samples, early seals and replays are one case.
//!
//! **Points** ([`point::Point`]) are mergeable: a coarser one is the join of finer ones, and all of them are what is
//! computed from the raw samples. A day of points is valid or absent: sealing any hour of a day makes the day's points
//! invalid in the same commit, and queries then compute them from raw samples, until the day is rolled up again.
//!
//! **series.wal** holds what is in the open buckets and nowhere else, and what happened to the list of series since the last
//! seal. It is appended to every tick, and replaced by what is left in memory after each seal. Replaying a part of it
//! twice changes nothing.
//!
//! **Invariants**, checked by [`check`] on any file and by the model test after each step
//! - A sample that was accepted is answered by queries until its age, the budget or a deletion takes it. What was on
//!   disk stays over kills and power cuts.
//! - Values come back bit for bit. Moments within a series are unique; of two values of one moment the later told wins.
//! - A point of a tier equals the one computed from the raw samples of its stretch.
//! - Memory is bounded by the samples that are open, the series, and the spans; a write beyond the bounds is refused.
//! - The budget holds before what is new is written: the oldest of the finest tier goes first.
//! - A tenant sees its own series alone.
//!
//! **Failure cases**: the log cannot be written: samples are refused until it could be written anew, whole, from memory.
//! A commit of a seal fails: what was open stays open. A damaged block is left out, counted and told; its neighbours are
//! answered. A frame that is cut or damaged ends the log there.
//!
//! Never here: a clock, a thread, a file.

pub mod block;
pub mod check;
pub mod column;
pub mod expire;
pub mod fold;
pub mod index;
pub mod labels;
pub mod load;
pub mod memory;
mod numbers;
pub mod open;
pub mod point;
pub mod query;
pub mod roll;
pub mod rows;
pub mod seal;
pub mod select;
pub mod sketch;
pub mod text;
pub mod times;
pub mod wal;

use crate::store;

#[expect(unused_imports, reason = "the documentation names it")]
use crate::base::limits;

pub use self::rows::{Damaged, RowError};

/// A series. Never used again, also when it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u32);

/// A set of series that arrived together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// What the values of a series mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Goes up and down.
    Gauge = 0,
    /// Goes up, and begins again at zero.
    Counter = 1,
    /// Single measurements of which percentiles are asked for: its points carry a sketch.
    Distribution = 2,
}

impl Kind {
    /// How it is spelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Distribution => "distribution",
        }
    }

    /// What a metric is taken for when nobody says: its name says it, as is the custom.
    pub fn of_metric(metric: &str) -> Kind {
        let counts = ["_total", "_count", "_sum", "_bucket"];
        if counts.iter().any(|end| metric.ends_with(end)) { Kind::Counter } else { Kind::Gauge }
    }
}

/// A resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Samples as they came.
    Raw = 0,
    /// Points of five minutes.
    FiveMinutes = 1,
    /// Points of an hour.
    Hour = 2,
    /// Points of a day.
    Day = 3,
}

/// Milliseconds of an hour.
pub const HOUR_MS: i64 = 3_600_000;
/// Milliseconds of a day.
pub const DAY_MS: i64 = 24 * HOUR_MS;
/// Milliseconds of the shortest points.
pub const FIVE_MINUTES_MS: i64 = 300_000;
/// A sample counts as the one before another, and as the last one of a moment, for so long.
pub const LOOK_BACK_MS: i64 = 300_000;

impl Tier {
    /// All of them, finest first.
    pub const ALL: [Tier; 4] = [Tier::Raw, Tier::FiveMinutes, Tier::Hour, Tier::Day];
    /// Those that have points.
    pub const POINTS: [Tier; 3] = [Tier::FiveMinutes, Tier::Hour, Tier::Day];

    /// How answers name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Tier::Raw => "raw",
            Tier::FiveMinutes => "5m",
            Tier::Hour => "1h",
            Tier::Day => "1d",
        }
    }

    /// The table of its blocks.
    pub const fn table(self) -> store::Table {
        match self {
            Tier::Raw => store::Table::Raw,
            Tier::FiveMinutes => store::Table::Rolled5m,
            Tier::Hour => store::Table::Rolled1h,
            Tier::Day => store::Table::Rolled1d,
        }
    }

    /// Milliseconds of one point; of raw samples one millisecond, their resolution.
    pub const fn step_ms(self) -> i64 {
        match self {
            Tier::Raw => 1,
            Tier::FiveMinutes => FIVE_MINUTES_MS,
            Tier::Hour => HOUR_MS,
            Tier::Day => DAY_MS,
        }
    }

    /// Milliseconds of one block.
    pub const fn span_ms(self) -> i64 {
        match self {
            Tier::Raw => HOUR_MS,
            Tier::FiveMinutes => DAY_MS,
            Tier::Hour => 7 * DAY_MS,
            Tier::Day => 28 * DAY_MS,
        }
    }

    /// The span in which a moment lies. Moments before 1970 are refused at the door.
    pub fn span_of(self, at_ms: i64) -> u32 {
        u32::try_from(at_ms / self.span_ms())
            .expect("BUG: moments lie between 1970 and the far future")
    }

    /// When a span begins.
    pub fn span_start(self, span: u32) -> i64 {
        i64::from(span) * self.span_ms()
    }
}

/// Why the series refused. Not `non_exhaustive`: a new variant has to break the mapping to HTTP.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A selector cannot be read.
    #[error(transparent)]
    Selector(#[from] select::BadSelector),
    /// A query asks for something that cannot be answered.
    #[error(transparent)]
    Query(#[from] query::BadQuery),
    /// It was not done in time.
    #[error(
        "the query was not answered in time; ask for fewer series, a shorter range or a longer step"
    )]
    TooLate,
    /// A row could not be read or written.
    #[error(transparent)]
    Row(#[from] RowError),
}

impl Error {
    /// The stable word.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Selector(_) => "invalid_select",
            Error::Query(bad) => bad.code(),
            Error::TooLate => "overloaded",
            // The file is damaged, or it is being opened anew; which of them the writer says.
            Error::Row(_) => "internal",
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        Error::Row(RowError::Store(error))
    }
}

#[cfg(test)]
mod tests;
