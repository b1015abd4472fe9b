//! Trends: what recorded series say over a period, of queues, of workers, and of any series.
//!
//! ```text
//!   series --[query: whole steps that are over]--> samples, each in the middle of its step --[trend::report]--> Trend
//!      '-----[query: 28 days by the hour]--------> what is usual --------------------------------^
//! ```
//!
//! All of it runs on the pool. A step that still runs is left out: it would look like a fall. A step of which nothing was
//! recorded is a gap, and no sample. Old ranges have the steps of their resolution, which the answer names.
//!
//! Of queues and workers the server's own recording is asked, by exact labels: what a tenant writes beside it under the same
//! name is not taken for it.

use std::sync::Arc;
use std::time::Duration;

use super::capacity::Counters;
use super::series_query::Asker;
use super::{App, Error};
use crate::base::human::format_duration;
use crate::base::id::TenantId;
use crate::base::limits::{
    QUERY_DEADLINE_MAX, RECORD_EVERY, TREND_PERIOD_MAX, TREND_PERIOD_MIN, TREND_POINTS_MAX,
    TREND_SERIES_MAX,
};
use crate::base::name::QueueName;
use crate::base::time::Timestamp;
use crate::series::fold::{Function, Steps};
use crate::series::labels::Labels;
use crate::series::query::{BadQuery, Line, Query};
use crate::series::select::Selector;
use crate::series::{self, DAY_MS, HOUR_MS, Kind, Tier};
use crate::trend::forecast::Expected;
use crate::trend::report::{self, Ask, Report, TooLittle, Unit};
use crate::trend::season::Baseline;
use crate::trend::threshold::Threshold;
use crate::trend::{Sample, finite};

/// Steps from which one is chosen when none is asked for: whole multiples of what is recorded.
const STEPS_S: [u64; 16] =
    [10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 604_800];
/// So many steps a period has then, about.
const STEPS_ABOUT: u64 = 60;
/// A trend of fewer says nothing.
const POINTS_MIN: u64 = 3;
/// Jobs that were done.
const DONE: &str = "queue_done_total";
/// What is usual is made of so many days.
const USUAL_MS: i64 = 28 * DAY_MS;
/// A forecast reaches this part of the period ahead, and has at most so many points.
const AHEAD_PART: u64 = 4;
const AHEAD_POINTS_MAX: i64 = 60;

/// A period, and the steps it is looked at in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    period_ms: i64,
    step_ms: i64,
}

/// Why a period cannot be looked at in such steps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStretch {
    /// The period is too short or too long.
    #[error(
        "a period is {} to {}",
        format_duration(TREND_PERIOD_MIN),
        format_duration(TREND_PERIOD_MAX)
    )]
    Period,
    /// The interval does not go with it.
    #[error("{0}")]
    Interval(String),
}

impl BadStretch {
    /// The stable word.
    pub const fn code(&self) -> &'static str {
        match self {
            BadStretch::Period => "invalid_period",
            BadStretch::Interval(_) => "invalid_interval",
        }
    }
}

impl Stretch {
    /// A period in steps of this length; of a round one, about a sixtieth of it, without.
    pub fn new(period: Duration, interval: Option<Duration>) -> Result<Stretch, BadStretch> {
        if !(TREND_PERIOD_MIN..=TREND_PERIOD_MAX).contains(&period) {
            return Err(BadStretch::Period);
        }
        let interval = interval.unwrap_or_else(|| chosen(period));
        let refused = |detail: String| Err(BadStretch::Interval(detail));
        if interval < RECORD_EVERY {
            return refused(format!(
                "an interval is at least {}: so often figures are recorded",
                format_duration(RECORD_EVERY)
            ));
        }
        if interval.subsec_nanos() != 0 {
            return refused("an interval is a whole number of seconds".to_owned());
        }
        let points = period.as_millis() / interval.as_millis();
        if points < u128::from(POINTS_MIN) {
            return refused(format!(
                "a period has at least {POINTS_MIN} intervals: {} is too long for one of {}",
                format_duration(interval),
                format_duration(period)
            ));
        }
        if u128::from(TREND_POINTS_MAX) < points {
            return refused(format!(
                "a period has at most {TREND_POINTS_MAX} intervals: {} would be {points} in one of {}",
                format_duration(interval),
                format_duration(period)
            ));
        }
        Ok(Stretch { period_ms: ms(period), step_ms: ms(interval) })
    }

    /// The same of what the server records itself: of steps that are no whole number of its recordings one has more of them
    /// than the next, and figures go up and down that do not.
    pub fn of_recorded(
        period: Duration,
        interval: Option<Duration>,
    ) -> Result<Stretch, BadStretch> {
        let stretch = Stretch::new(period, interval)?;
        if stretch.step_ms % ms(RECORD_EVERY) != 0 {
            let every = format_duration(RECORD_EVERY);
            return Err(BadStretch::Interval(format!(
                "an interval is a multiple of {every}: so often figures of queues and workers are recorded"
            )));
        }
        Ok(stretch)
    }

    /// How long it is.
    pub fn period(&self) -> Duration {
        Duration::from_millis(self.period_ms.unsigned_abs())
    }

    /// How long a step is.
    pub fn step(&self) -> Duration {
        Duration::from_millis(self.step_ms.unsigned_abs())
    }

    /// The whole steps that are over.
    pub(super) fn range(&self, now: Timestamp) -> Steps {
        let now_ms = now.unix_ms();
        let to_ms = now_ms - now_ms.rem_euclid(self.step_ms);
        let from_ms = to_ms - self.period_ms / self.step_ms * self.step_ms;
        Steps { from_ms, to_ms, step_ms: self.step_ms, now_ms }
    }
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).expect("BUG: it is at most a hundred years")
}

/// The round step that is nearest to a sixtieth of the period, as a ratio.
fn chosen(period: Duration) -> Duration {
    let wanted = period.as_millis() / u128::from(STEPS_ABOUT);
    let off = |step: &&u64| {
        let step = u128::from(**step) * 1000;
        // Ratios are compared in thousandths.
        wanted.max(step) * 1000 / wanted.min(step).max(1)
    };
    let step = STEPS_S.iter().min_by_key(off).expect("BUG: there are steps");
    Duration::from_secs(*step)
}

/// The hours from which is learnt what is usual.
pub(super) fn weeks(now_ms: i64) -> Steps {
    let to_ms = now_ms - now_ms.rem_euclid(HOUR_MS);
    Steps { from_ms: to_ms - USUAL_MS, to_ms, step_ms: HOUR_MS, now_ms }
}

/// The question that asks for these steps.
pub(super) fn query(steps: Steps, select: Selector, function: Function) -> Query {
    Query {
        select,
        function,
        by: None,
        reduce: None,
        from_ms: steps.from_ms,
        to_ms: steps.to_ms,
        step_ms: Some(steps.step_ms),
        now_ms: steps.now_ms,
    }
}

/// Everything of a metric.
pub(super) fn metric(name: &str) -> Selector {
    Selector { metric: Some(name.into()), matchers: Vec::new() }
}

/// Of a metric, what is about a queue.
pub(super) fn of_queue(name: &str, queue: &QueueName) -> Selector {
    // The name of a queue needs no escapes.
    Selector::parse(&format!("{name}{{queue=\"{queue}\"}}")).expect("BUG: it is a selector")
}

/// What is asked of a trend.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Of which period.
    pub stretch: Stretch,
    /// When this is reached.
    pub threshold: Option<Threshold>,
    /// When it was asked.
    pub now: Timestamp,
}

/// What of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// How many jobs may run.
    Depth,
    /// How many are done, each minute.
    Throughput,
}

/// What a series says.
#[derive(Clone, Debug)]
pub struct Trend {
    /// The samples: the middle of each step, and its value.
    pub samples: Vec<Sample>,
    /// How long the steps are.
    pub step_ms: i64,
    /// When the first step begins that is not over.
    pub to_ms: i64,
    /// From what they were made.
    pub tier: Tier,
    /// Blocks that could not be read.
    pub damaged: u64,
    /// What they say.
    pub outcome: Result<Report, TooLittle>,
    /// What comes, step by step: the middle of each.
    pub ahead: Vec<Expected>,
    /// Of throughput: jobs that a new queue had done already when it was first recorded. They are in no step.
    pub already: f64,
}

/// Jobs that were done in a period, as far as it was recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Done {
    /// All of them, also those of a new queue from before its first recording.
    pub total: f64,
    /// In a minute.
    pub per_minute: f64,
    /// In a step.
    pub per_step: f64,
}

impl Trend {
    /// When the last step ends of which something was recorded.
    pub fn last_ms(&self) -> Option<i64> {
        self.samples.last().map(|(at_ms, _)| at_ms.saturating_add(self.step_ms / 2))
    }

    /// How many points are told of it, of what was (if they are asked for) and of what comes.
    pub fn points(&self, with_samples: bool) -> usize {
        self.ahead.len() + if with_samples { self.samples.len() } else { 0 }
    }
}

impl Done {
    /// Of a trend of throughput.
    pub fn of(trend: &Trend) -> Done {
        let minutes = minutes(trend.step_ms);
        let of_steps = trend.samples.iter().map(|(_, value)| value * minutes);
        // Each step had a whole number of them.
        let total = trend.already + of_steps.map(f64::round).sum::<f64>();
        let per_minute = mean(&trend.samples).unwrap_or(0.0);
        Done { total, per_minute, per_step: per_minute * minutes }
    }
}

/// The trend of the workers, with what they take.
#[derive(Clone, Debug)]
pub struct Workers {
    /// The part of their time in which they had a job, in percent.
    pub trend: Trend,
    /// The memory of one.
    pub memory_bytes: Option<f64>,
    /// The part of a processor that one takes.
    pub cpu_percent: Option<f64>,
}

/// The trend of one series.
#[derive(Clone, Debug)]
pub struct SeriesTrend {
    /// What is measured.
    pub metric: String,
    /// Of what.
    pub labels: Vec<(String, String)>,
    /// What was made of the samples of a step.
    pub function: Function,
    /// What it says.
    pub trend: Trend,
}

/// Samples that were found.
#[derive(Clone, Debug)]
struct Found {
    samples: Vec<Sample>,
    /// The steps of the answer; old ranges have longer ones.
    step_ms: i64,
    tier: Tier,
    damaged: u64,
}

/// The samples of a line, at the middle of steps that are over.
pub(super) fn in_the_middle(
    points: &[(i64, Option<f64>)],
    step_ms: i64,
    now_ms: i64,
) -> Vec<Sample> {
    let over = |(at, _): &Sample| at.saturating_add(step_ms) <= now_ms;
    let middle = |(at, value): Sample| (at.saturating_add(step_ms / 2), value);
    finite(points).into_iter().filter(over).map(middle).collect()
}

/// The line with exactly these labels.
fn line_of<'l>(lines: &'l [Line], labels: &[(&str, &str)]) -> Option<&'l Line> {
    let same = |line: &&Line| {
        let its = line.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        its.eq(labels.iter().copied())
    };
    lines.iter().find(same)
}

/// A query that looks at one series of the server's own.
struct Own<'a> {
    asker: &'a Asker<'a>,
    tenant: TenantId,
}

impl Own<'_> {
    /// What is recorded under this name, of this queue or of all.
    fn found(
        &self,
        name: &str,
        queue: Option<&QueueName>,
        function: Function,
        range: Steps,
    ) -> Result<Found, Error> {
        let select = queue.map_or_else(|| metric(name), |queue| of_queue(name, queue));
        let answer = self.asker.ask(self.tenant, &query(range, select, function))?;
        let labels: Vec<(&str, &str)> =
            queue.iter().map(|queue| ("queue", queue.as_str())).collect();
        let (step_ms, tier, damaged) = (answer.steps.step_ms, answer.tier, answer.damaged);
        let line = line_of(&answer.lines, &labels);
        let samples = line.map(|line| in_the_middle(&line.points, step_ms, range.now_ms));
        Ok(Found { samples: samples.unwrap_or_default(), step_ms, tier, damaged })
    }

    fn of_queue(&self, queue: &QueueName, side: Side, range: Steps) -> Result<Found, Error> {
        match side {
            Side::Depth => self.found("queue_waiting", Some(queue), Function::Avg, range),
            Side::Throughput => {
                let mut found = self.found(DONE, Some(queue), Function::Increase, range)?;
                let minutes = minutes(found.step_ms);
                for (_, value) in &mut found.samples {
                    *value /= minutes;
                }
                Ok(found)
            }
        }
    }

    /// The part of their time in which workers had a job, in percent, of each step and of all of them together: a minute
    /// with one worker counts less than one with ten.
    fn efficiency(&self, range: Steps) -> Result<(Found, Option<f64>), Error> {
        let mut busy = self.found("worker_busy_seconds_total", None, Function::Rate, range)?;
        let idle = self.found("worker_idle_seconds_total", None, Function::Rate, range)?;
        busy.damaged += idle.damaged;
        let (mut busy_sum, mut all_sum) = (0.0, 0.0);
        let part = |&(at, busy): &Sample| {
            let place = idle.samples.binary_search_by_key(&at, |(at, _)| *at).ok()?;
            let all = busy + idle.samples[place].1;
            let percent = percent_of(busy, all)?;
            // Steps are equally long, so that rates add up like seconds.
            busy_sum += busy;
            all_sum += all;
            Some((at, percent))
        };
        busy.samples = busy.samples.iter().filter_map(part).collect();
        Ok((busy, percent_of(busy_sum, all_sum)))
    }

    /// The mean of a gauge over a range.
    fn mean(&self, name: &str, range: Steps) -> Result<Option<f64>, Error> {
        let found = self.found(name, None, Function::Avg, range)?;
        Ok(mean(&found.samples))
    }
}

/// None of nothing.
fn percent_of(part: f64, all: f64) -> Option<f64> {
    (0.0 < all).then(|| (100.0 * part / all).clamp(0.0, 100.0))
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand samples, and their mean")]
fn mean(samples: &[Sample]) -> Option<f64> {
    let sum: f64 = samples.iter().map(|(_, value)| value).sum();
    (!samples.is_empty()).then(|| sum / samples.len() as f64)
}

/// How many minutes a step has.
#[expect(clippy::cast_precision_loss, reason = "a step is at most a hundred years")]
pub(super) fn minutes(step_ms: i64) -> f64 {
    step_ms as f64 / 60_000.0
}

/// Whether steps can be compared with what is usual at an hour: longer ones have many hours in them.
const fn has_hours(step_ms: i64) -> bool {
    step_ms <= HOUR_MS
}

impl Found {
    /// What is usual, if these are hours.
    fn usual(&self) -> Option<Baseline> {
        if self.step_ms == HOUR_MS { Baseline::of(&self.samples) } else { None }
    }
}

impl Question {
    fn range(&self) -> Steps {
        self.stretch.range(self.now)
    }

    /// From which is learnt what is usual.
    fn weeks(&self) -> Steps {
        weeks(self.now.unix_ms())
    }

    /// The trend of what was found.
    fn answer(
        &self,
        found: Found,
        usual: Option<&Baseline>,
        floor: Option<f64>,
        unit: Unit,
    ) -> Trend {
        let Found { samples, step_ms, tier, damaged } = found;
        let now_ms = self.now.unix_ms();
        let to_ms = now_ms - now_ms.rem_euclid(step_ms);
        let ask = Ask { step_ms, now_ms, threshold: self.threshold, usual, floor, unit };
        let outcome = report::report(&samples, &ask);
        let ahead = match &outcome {
            Ok(report) => self.ahead(report, to_ms, step_ms),
            Err(_) => Vec::new(),
        };
        Trend { samples, step_ms, to_ms, tier, damaged, outcome, ahead, already: 0.0 }
    }

    /// What comes in the next quarter of the period.
    fn ahead(&self, report: &Report, to_ms: i64, step_ms: i64) -> Vec<Expected> {
        let Some(forecast) = &report.forecast else {
            return Vec::new();
        };
        let period_ms = self.stretch.period_ms.unsigned_abs();
        let far = i64::try_from(period_ms / AHEAD_PART).unwrap_or(i64::MAX);
        let steps = (far / step_ms).max(1);
        let stride = (steps - 1) / AHEAD_POINTS_MAX + 1;
        let middle = |step: i64| to_ms + step * step_ms + step_ms / 2;
        let steps = (0..steps).step_by(usize::try_from(stride).unwrap_or(usize::MAX));
        steps.map(|step| forecast.at(middle(step))).collect()
    }
}

/// What the samples of a step of a series become when nobody says.
const fn function_of(kind: Kind) -> Function {
    match kind {
        Kind::Counter => Function::Rate,
        Kind::Gauge | Kind::Distribution => Function::Avg,
    }
}

/// Whether hours and minutes of it can be compared.
const fn is_level(function: Function) -> bool {
    matches!(function, Function::Avg | Function::Rate | Function::Last)
}

/// What values are that were made of a metric.
fn unit_of(metric: &str, function: Function) -> Unit {
    let counted = metric.strip_suffix("_total").unwrap_or(metric);
    match function {
        Function::Rate if counted.ends_with("_bytes") => Unit::Of("bytes a second"),
        Function::Increase if counted.ends_with("_bytes") => Unit::Bytes,
        Function::Rate | Function::Increase | Function::Count => Unit::Plain,
        Function::Raw
        | Function::Avg
        | Function::Min
        | Function::Max
        | Function::Sum
        | Function::Last
        | Function::Quantile(_) => Unit::of_metric(metric),
    }
}

/// What it cannot be below: what is counted, and what nobody ever saw below zero.
fn floor_of(function: Function, unit: Unit, samples: &[Sample]) -> Option<f64> {
    let counted = matches!(function, Function::Rate | Function::Increase | Function::Count);
    let sized = matches!(unit, Unit::Bytes | Unit::Percent);
    let was_below = samples.iter().any(|(_, value)| *value < 0.0);
    ((counted || sized) && !was_below).then_some(0.0)
}

/// A series that is meant, and what is made of its samples.
struct Meant {
    labels: Labels,
    function: Function,
}

impl Meant {
    fn is(&self, line: &Line) -> bool {
        line.metric.as_deref() == Some(self.labels.metric())
            && self
                .labels
                .pairs()
                .eq(line.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

/// The functions of these series, each once.
fn functions(meant: &[Meant]) -> Vec<Function> {
    let mut functions: Vec<Function> = Vec::new();
    for one in meant {
        if !functions.contains(&one.function) {
            functions.push(one.function);
        }
    }
    functions
}

/// The trends of series, by name.
fn trends_of(
    (asker, tenant): (&Asker<'_>, TenantId),
    select: &Selector,
    meant: &[Meant],
    question: &Question,
) -> Result<Vec<SeriesTrend>, Error> {
    let range = question.range();
    let mut trends = Vec::new();
    for function in functions(meant) {
        let answer = asker.ask(tenant, &query(range, select.clone(), function))?;
        let step_ms = answer.steps.step_ms;
        let usual_of = if is_level(function) && has_hours(step_ms) {
            let query = query(question.weeks(), select.clone(), function);
            asker.ask(tenant, &query).map(Some)?
        } else {
            None
        };
        let its = |line: &&Line| meant.iter().any(|one| one.function == function && one.is(line));
        for line in answer.lines.iter().filter(its) {
            let samples = in_the_middle(&line.points, step_ms, range.now_ms);
            let hours = usual_of.as_ref().filter(|hours| hours.steps.step_ms == HOUR_MS);
            let usual = hours.and_then(|hours| {
                let same = |its: &&Line| its.metric == line.metric && its.labels == line.labels;
                let points = &hours.lines.iter().find(same)?.points;
                Baseline::of(&in_the_middle(points, HOUR_MS, range.now_ms))
            });
            let metric = line.metric.clone().unwrap_or_default();
            let unit = unit_of(&metric, function);
            let floor = floor_of(function, unit, &samples);
            let (tier, damaged) = (answer.tier, answer.damaged);
            let found = Found { samples, step_ms, tier, damaged };
            let trend = question.answer(found, usual.as_ref(), floor, unit);
            trends.push(SeriesTrend { metric, labels: line.labels.clone(), function, trend });
        }
    }
    trends.sort_by(|a, b| (&a.metric, &a.labels).cmp(&(&b.metric, &b.labels)));
    Ok(trends)
}

impl App {
    /// The trend of a queue of a tenant.
    pub async fn queue_trend(
        self: &Arc<Self>,
        tenant: TenantId,
        (queue, side): (QueueName, Side),
        question: Question,
    ) -> Result<Trend, Error> {
        if !self.is_known_queue(tenant, &queue) {
            return Err(Error::UnknownQueue(queue));
        }
        let unit = match side {
            Side::Depth => Unit::Of("jobs"),
            Side::Throughput => Unit::Of("jobs a minute"),
        };
        let learnt = self.watch.usual_of(tenant, side, &queue);
        self.with_queries(QUERY_DEADLINE_MAX, move |asker| {
            let own = Own { asker, tenant };
            let found = own.of_queue(&queue, side, question.range())?;
            let usual = match learnt {
                _ if !has_hours(found.step_ms) => None,
                Some(learnt) => Some(learnt),
                None => own.of_queue(&queue, side, question.weeks())?.usual(),
            };
            let mut trend = question.answer(found, usual.as_ref(), Some(0.0), unit);
            if side == Side::Throughput {
                let range = question.range();
                trend.already = Counters { asker, tenant, queue: &queue, range }.already(DONE)?;
            }
            Ok(trend)
        })
        .await
    }

    /// Whether a queue is there, or was while figures were recorded.
    fn is_known_queue(&self, tenant: TenantId, queue: &QueueName) -> bool {
        if self.jobs.with_memory(|memory| memory.qid(tenant, queue).is_some()) {
            return true;
        }
        let labels = Labels::new("queue_waiting", [("queue", queue.as_str())]);
        let labels = labels.expect("BUG: the name of a queue is a label's value");
        self.series.with_memory(|memory| memory.index().find(tenant, &labels).is_some())
    }

    /// The trend of how much of their time the workers of a tenant work.
    pub async fn worker_trend(
        self: &Arc<Self>,
        tenant: TenantId,
        question: Question,
    ) -> Result<Workers, Error> {
        self.with_queries(QUERY_DEADLINE_MAX, move |asker| {
            let own = Own { asker, tenant };
            let range = question.range();
            let (found, average) = own.efficiency(range)?;
            let usual = if has_hours(found.step_ms) {
                own.efficiency(question.weeks())?.0.usual()
            } else {
                None
            };
            let mut trend = question.answer(found, usual.as_ref(), Some(0.0), Unit::Percent);
            if let (Ok(report), Some(average)) = (&mut trend.outcome, average) {
                report.statistics.average = average;
            }
            let memory_bytes = own.mean("worker_memory_bytes", range)?;
            let cpu_percent = own.mean("worker_cpu_percent", range)?;
            Ok(Workers { trend, memory_bytes, cpu_percent })
        })
        .await
    }

    /// The trends of the series of a tenant that are meant, by name. Without a function, counters are looked at by their rate
    /// and all else by the mean.
    pub async fn series_trends(
        self: &Arc<Self>,
        tenant: TenantId,
        (select, function): (Selector, Option<Function>),
        question: Question,
    ) -> Result<Vec<SeriesTrend>, Error> {
        let meant = self.series.with_memory(|memory| {
            let found = memory.index().select(tenant, &select);
            if TREND_SERIES_MAX < found.len() {
                let (found, limit) = (found.len(), TREND_SERIES_MAX);
                return Err(BadQuery::TooManySeries { found, limit });
            }
            let meant = |entry: &&series::index::Entry| Meant {
                labels: entry.labels.clone(),
                function: function.unwrap_or_else(|| function_of(entry.kind)),
            };
            Ok(found.iter().map(meant).collect::<Vec<Meant>>())
        });
        let meant = meant.map_err(|bad| Error::Series(bad.into()))?;
        if meant.is_empty() {
            return Err(Error::UnknownSeries(select.to_string()));
        }
        self.with_queries(QUERY_DEADLINE_MAX, move |asker| {
            trends_of((asker, tenant), &select, &meant, &question)
        })
        .await
    }
}

#[cfg(test)]
mod tests;
