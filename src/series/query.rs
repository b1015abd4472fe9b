//! Questions: which series, which resolution, from where, and the answer.
//!
//! ```text
//!   Query --check--> [plan: under the lock] series, tier, what is open, which days are rolled up
//!                --> [read: views of an hour or a few spans each] blocks, copied out, then decoded
//!                --> fold per series --> by, reduce
//! ```

mod plan;
mod read;

use self::plan::Plan;
use self::read::Piece;
use super::fold::{Fold, Function, Reduce, Reducing, Steps};
use super::index::Entry;
use super::labels::Labels;
use super::memory::Memory;
use super::select::Selector;
use super::{Error, RowError, Tier};
use crate::base::id::TenantId;
use crate::base::limits::{ANSWER_POINTS_MAX, QUERY_POINTS_MAX, QUERY_VALUES_MAX};
use crate::store::{Flow, Read};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Query {
    /// Which series.
    pub select: Selector,
    /// What is made of a step.
    pub function: Function,
    /// Labels that stay when series are put together.
    pub by: Option<Vec<String>>,
    /// How they are.
    pub reduce: Option<Reduce>,
    /// From when on.
    pub from_ms: i64,
    /// Until when, exclusive.
    pub to_ms: i64,
    /// How long a step is; chosen by the range without.
    pub step_ms: Option<i64>,
    /// The moment of the query.
    pub now_ms: i64,
}

impl Query {
    /// The same question as it will be answered: the step is said, and the range is aligned to it. Samples as they are
    /// have no step, and stay as they are asked for.
    pub fn aligned(&self) -> Result<Query, BadQuery> {
        plan::check(self)?;
        let mut query = self.clone();
        if self.function != Function::Raw {
            let Steps { from_ms, to_ms, step_ms, .. } = plan::asked_steps(self);
            (query.from_ms, query.to_ms, query.step_ms) = (from_ms, to_ms, Some(step_ms));
        }
        Ok(query)
    }
}

/// Why a query cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    /// From lies behind to.
    #[error("from lies behind to, or both are the same")]
    Range,
    /// The step is none.
    #[error("{0}")]
    Step(String),
    /// A series would have too many points.
    #[error(
        "a series would have {points} points, the limit is 11000; choose a longer step, or a shorter range"
    )]
    TooManyPoints {
        /// How many it would be.
        points: u64,
    },
    /// All series together would have too many.
    #[error(
        "the answer would have {points} points in {series} series, the limit is {limit}; choose a longer step, fewer series, or reduce them with by"
    )]
    TooMuch {
        /// How many it would be.
        points: u64,
        /// In how many series.
        series: usize,
        /// How many there may be.
        limit: u64,
    },
    /// Too many series are meant.
    #[error("{found} series are meant, the limit is {limit}; say more in select")]
    TooManySeries {
        /// How many.
        found: usize,
        /// How many may be.
        limit: usize,
    },
    /// Percentiles are not known any more.
    #[error(
        "percentiles of {0} are known as long as its raw samples are; make it a distribution: \"kind\":\"distribution\", or series.sketch in the configuration"
    )]
    NoDistribution(String),
    /// by or reduce does not go with the function.
    #[error("{0}")]
    Reduce(&'static str),
}

impl BadQuery {
    /// The stable word.
    pub const fn code(&self) -> &'static str {
        match self {
            BadQuery::Range => "invalid_range",
            BadQuery::Step(_) => "invalid_step",
            BadQuery::TooManyPoints { .. } | BadQuery::TooMuch { .. } => "too_many_points",
            BadQuery::TooManySeries { .. } => "too_many_series",
            BadQuery::NoDistribution(_) => "no_distribution",
            BadQuery::Reduce(_) => "invalid_reduce",
        }
    }
}

/// The points of one series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its labels; those of `by` if series were put together.
    pub labels: Vec<(String, String)>,
    /// The metric, unless series were put together.
    pub metric: Option<String>,
    /// Moments and values.
    pub points: Vec<(i64, Option<f64>)>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The series, sorted by labels.
    pub lines: Vec<Line>,
    /// The resolution that it was made from.
    pub tier: Tier,
    /// The steps.
    pub steps: Steps,
    /// Blocks that could not be read, and whose samples are missing here; one that was looked at for several batches of
    /// series counts for each.
    pub damaged: u64,
}

/// Where a query reads.
pub trait Source {
    /// Runs `body` on a view of the file.
    fn read(&self, body: &mut dyn FnMut(&dyn Read) -> Result<(), RowError>)
    -> Result<(), RowError>;

    /// Runs `body` on the memory, under its lock.
    fn memory(&self, body: &mut dyn FnMut(&mut Memory));

    /// Whether nobody waits for the answer any more.
    fn expired(&self) -> bool;
}

/// Answers it.
pub fn answer(source: &dyn Source, tenant: TenantId, query: &Query) -> Result<Answer, Error> {
    plan::check(query)?;
    let mut planned = None;
    source.memory(&mut |memory| {
        let found = memory.index().select(tenant, &query.select);
        planned = Some(plan::plan(memory, query, &found));
    });
    let mut plan = planned.expect("BUG: a source runs what it is given")?;
    let (points, damaged) = match (query.function, plan.reduce) {
        (Function::Raw, _) => as_they_are(source, &plan)?,
        (function, reduce) => folded(source, &plan, function, reduce)?,
    };
    let lines = std::mem::take(&mut plan.lines).into_iter().zip(points);
    let lines = lines.map(|((labels, metric), points)| Line { labels, metric, points });
    let mut lines: Vec<Line> = lines.collect();
    lines.sort_by(|a, b| (&a.labels, &a.metric).cmp(&(&b.labels, &b.metric)));
    Ok(Answer { lines, tier: plan.tier, steps: plan.steps, damaged })
}

type Points = Vec<(i64, Option<f64>)>;

/// The samples of each series, and how many blocks are damaged.
fn as_they_are(source: &dyn Source, plan: &Plan) -> Result<(Vec<Points>, u64), Error> {
    let mut lines: Vec<Points> = vec![Vec::new(); plan.entries.len()];
    let mut all = 0;
    let damaged = read::read(source, &plan.entries, &plan.segments, &mut |series, piece| {
        let Piece::Samples(samples) = piece else { return Ok(Flow::On) };
        let line = &mut lines[series];
        line.extend(samples.iter().map(|(at, value)| (*at, Some(*value))));
        all += samples.len() as u64;
        if QUERY_POINTS_MAX < line.len() as u64 {
            return Err(BadQuery::TooManyPoints { points: line.len() as u64 }.into());
        }
        if ANSWER_POINTS_MAX < all {
            let (series, limit) = (plan.entries.len(), ANSWER_POINTS_MAX);
            return Err(BadQuery::TooMuch { points: all, series, limit }.into());
        }
        Ok(Flow::On)
    })?;
    Ok((lines, damaged))
}

/// A value for each step of each line, and how many blocks are damaged.
fn folded(
    source: &dyn Source,
    plan: &Plan,
    function: Function,
    reduce: Option<Reduce>,
) -> Result<(Vec<Points>, u64), Error> {
    let count = plan.steps.count();
    let mut together: Vec<Reducing> = match reduce {
        Some(how) => plan.lines.iter().map(|_| Reducing::new(how, count)).collect(),
        None => Vec::new(),
    };
    let (mut lines, mut damaged) = (Vec::new(), 0);
    let at_once = at_once(function, plan);
    for (part, lines_of) in plan.entries.chunks(at_once).zip(plan.line_of.chunks(at_once)) {
        let (folds, spoilt) = fold_part(source, plan, function, part)?;
        damaged += spoilt;
        for (fold, line) in folds.into_iter().zip(lines_of) {
            let values = fold.finish();
            match together.get_mut(*line) {
                Some(together) => together.add(&values),
                None => lines.push(points(plan.steps, values)),
            }
        }
    }
    lines.extend(together.into_iter().map(|line| points(plan.steps, line.finish())));
    Ok((lines, damaged))
}

/// Series that are folded side by side: what they hold is bounded.
fn at_once(function: Function, plan: &Plan) -> usize {
    let steps = plan.steps.count().max(1);
    let held = match function {
        // About a sample a second is held until the end of the step.
        Function::Quantile(_) => usize::try_from(plan.steps.step_ms / 1000).unwrap_or(usize::MAX),
        _ => 0,
    };
    (QUERY_VALUES_MAX / steps.max(held)).max(1)
}

fn fold_part(
    source: &dyn Source,
    plan: &Plan,
    function: Function,
    series: &[Entry],
) -> Result<(Vec<Fold>, u64), Error> {
    let fold = |_: &Entry| {
        let fold = Fold::new(function, plan.steps);
        if plan.tier == Tier::Raw { fold } else { fold.sketched() }
    };
    let mut folds: Vec<Fold> = series.iter().map(fold).collect();
    let mut held = 0;
    let damaged = read::read(source, series, &plan.segments, &mut |number, piece| {
        let fold = &mut folds[number];
        held -= fold.held();
        match piece {
            Piece::Samples(samples) => fold.samples(samples),
            Piece::Point(at_ms, point) => fold.point(at_ms, point),
        }
        held += fold.held();
        if 2 * QUERY_VALUES_MAX < held {
            let text =
                "percentiles of so many samples in one step are too much; choose a shorter step";
            return Err(BadQuery::Step(text.into()).into());
        }
        Ok(Flow::On)
    })?;
    Ok((folds, damaged))
}

fn points(steps: Steps, values: Vec<Option<f64>>) -> Points {
    let moments = (0..).map(|step| steps.from_ms + step * steps.step_ms);
    moments.zip(values).collect()
}

/// Every raw sample of a series in a range, in pages, for an export: from `from_ms` on, at most so many, ascending.
pub fn raw_page(
    source: &dyn Source,
    tenant: TenantId,
    labels: &Labels,
    (from_ms, to_ms): (i64, i64),
    max: usize,
) -> Result<Vec<(i64, f64)>, Error> {
    let mut found = None;
    source.memory(&mut |memory| {
        let entry = memory.index().find(tenant, labels).cloned();
        found = entry.map(|entry| (entry, plan::segments(memory, Tier::Raw, (from_ms, to_ms))));
    });
    let mut page = Vec::new();
    let Some((entry, segments)) = found.filter(|_| 0 < max) else {
        return Ok(page);
    };
    read::read(source, &[entry], &segments, &mut |_, piece| {
        if let Piece::Samples(samples) = piece {
            page.extend(samples.iter().take(max - page.len()));
        }
        Ok(if page.len() < max { Flow::On } else { Flow::Stop })
    })?;
    Ok(page)
}

#[cfg(test)]
mod tests;
