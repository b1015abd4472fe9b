//! Trends and capacity over HTTP: `/v1/trends/*`, `/v1/queues/{q}/capacity`.
//!
//! What is said is read by [`super::trend_terms`].
//!
//! **Moments**: a point, of what was and of what comes, carries the start of its step, as everywhere; a moment at which a
//! threshold is reached is that moment.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use super::reply::Reply;
use super::request::Cx;
use super::{openapi, series_terms, trend_terms as terms};
use crate::app::capacity::QueueCapacity;
use crate::app::trends::{self as app, Question, Side, Trend};
use crate::base::limits::{HANDLER_DEADLINE, QUERY_HERE_POINTS_MAX};
use crate::base::name::QueueName;
use crate::base::time::Timestamp;
use crate::trend::anomaly::Score;
use crate::trend::capacity::{Advice, Drain};
use crate::trend::report::{self, Report, Statistics};
use crate::trend::threshold::{Eta, Never, Threshold};
use crate::trend::{Interval, Sample};

/// A trend, or why there is none.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum TrendReply {
    /// There is one.
    Available(Box<AvailableTrend>),
    /// There is too little to say anything.
    Unavailable(UnavailableTrend),
}

/// Too little was recorded.
#[derive(Serialize, ToSchema)]
pub struct UnavailableTrend {
    /// `false`
    available: bool,
    /// Why.
    reason: &'static str,
    /// How long the period is.
    period_seconds: u64,
    /// How long a step is.
    interval_seconds: u64,
    /// How many steps have a value.
    data_points: usize,
    /// What they were made from: `raw`, `5m`, `1h` or `1d`.
    resolution: &'static str,
    /// When the last step ends of which something was recorded; null if nothing was.
    last_at: Option<String>,
    /// Blocks of samples that could not be read, and are missing here; not there if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged_blocks: Option<u64>,
    /// The points, if they were asked for: unix milliseconds of the start of a step, and its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = openapi::points)]
    points: Option<Vec<Sample>>,
}

/// What a series says.
#[derive(Serialize, ToSchema)]
pub struct AvailableTrend {
    /// `true`
    available: bool,
    /// How long the period is.
    period_seconds: u64,
    /// How long a step is; old periods have longer ones than were asked for.
    interval_seconds: u64,
    /// How many steps have a value; the others are gaps.
    data_points: usize,
    /// What they were made from: `raw`, `5m`, `1h` or `1d`.
    resolution: &'static str,
    /// When the last step ends of which something was recorded; null if nothing was.
    last_at: Option<String>,
    /// Blocks of samples that could not be read, and are missing here; not there if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged_blocks: Option<u64>,
    /// Figures of the values.
    statistics: StatisticsReply,
    /// Where they go.
    trend: DirectionReply,
    /// What comes; null if that cannot be said.
    forecast: Option<ForecastReply>,
    /// When the threshold is reached, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<ThresholdReply>,
    /// How far from what is usual at this hour; null if it is not known yet what is usual.
    anomaly: Option<AnomalyReply>,
    /// All of it in plain words.
    text: String,
    /// The points, if they were asked for: unix milliseconds of the start of a step, and its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = openapi::points)]
    points: Option<Vec<Sample>>,
}

/// Figures of the values of a period.
#[derive(Serialize, ToSchema)]
pub struct StatisticsReply {
    /// The last one.
    current: f64,
    /// Their mean.
    average: f64,
    /// Their median.
    median: f64,
    /// The smallest.
    min: f64,
    /// The largest.
    max: f64,
    /// Their standard deviation (n - 1).
    std_dev: f64,
}

impl From<&Statistics> for StatisticsReply {
    fn from(its: &Statistics) -> StatisticsReply {
        StatisticsReply {
            current: its.current,
            average: its.average,
            median: its.median,
            min: its.min,
            max: its.max,
            std_dev: its.deviation,
        }
    }
}

/// Where values go.
#[derive(Serialize, ToSchema)]
pub struct DirectionReply {
    /// How much the line of the last stretch rises.
    slope: f64,
    /// `per second`
    slope_unit: &'static str,
    /// `increasing`, `decreasing`, or `stable`: neither, as far as can be seen.
    direction: &'static str,
    /// The part of the variance that the line explains; null if values do not vary.
    r2: Option<f64>,
    /// The same as r2.
    confidence: Option<f64>,
    /// How likely such a slope is if there is none.
    p_value: f64,
    /// What the slope lies in, with 95 %.
    slope_interval: [f64; 2],
    /// How much a value resembles the one before it, beside the line: -1 to 1.
    autocorrelation: f64,
    /// How many values that are told by themselves they are worth.
    effective_points: f64,
    /// Whether least squares and Theil-Sen disagree: a few values decide.
    unstable: bool,
    /// The median of the slopes of all pairs.
    theil_sen: Option<SlopeReply>,
    /// When the last stretch began.
    since: String,
    /// When series changed: a disk was emptied, a deployment.
    changes: Vec<String>,
}

/// A slope, per second.
#[derive(Serialize, ToSchema)]
pub struct SlopeReply {
    /// Itself.
    slope: f64,
    /// What it lies in, with 95 %.
    interval: [f64; 2],
}

/// What comes.
#[derive(Serialize, ToSchema)]
pub struct ForecastReply {
    /// The value of the next step.
    next_value: f64,
    /// When that begins, in unix seconds.
    next_timestamp: i64,
    /// What it lies in, with 95 %.
    interval: [f64; 2],
    /// How it was told: `line`, `level`, `season` or `last`.
    method: &'static str,
    /// How far that way was off where it was tried on the past.
    #[serde(skip_serializing_if = "Option::is_none")]
    backtest_error: Option<f64>,
    /// How far "as now", or "as one season ago", was off there.
    #[serde(skip_serializing_if = "Option::is_none")]
    naive_error: Option<f64>,
    /// A quarter of the period ahead: unix milliseconds of the start of a step, its value, and what it lies in.
    #[schema(schema_with = openapi::points)]
    points: Vec<(i64, f64, f64, f64)>,
}

/// When a value is reached.
#[derive(Serialize, ToSchema)]
pub struct ThresholdReply {
    /// The value.
    value: f64,
    /// When; null if it will not be, as far as can be told.
    eta: Option<String>,
    /// The earliest and the latest moment, with 95 %; the latest is null if it may never be.
    #[schema(value_type = Option<Vec<Option<String>>>)]
    eta_interval: Option<[Option<String>; 2]>,
    /// Why there is no moment: `already_passed`, `stable`, `moving_away`, `sawtooth`, `unstable`,
    /// `too_little_data`, `outdated` or `too_far`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// How far from the usual.
#[derive(Serialize, ToSchema)]
pub struct AnomalyReply {
    /// Deviations on which all windows agree; from 3.5 on it is out of the ordinary.
    score: f64,
    /// The mean of the last five minutes.
    value: f64,
    /// What is usual now.
    usual: f64,
    /// What it is measured in.
    deviation: f64,
    /// Whether it is out of the ordinary.
    is_anomaly: bool,
    /// The scores of five minutes, of fifteen, and of an hour.
    windows: [f64; 3],
}

impl From<&Score> for AnomalyReply {
    fn from(score: &Score) -> AnomalyReply {
        AnomalyReply {
            score: score.score,
            value: score.value,
            usual: score.usual,
            deviation: score.deviation,
            is_anomaly: score.is_anomaly(),
            windows: score.windows,
        }
    }
}

const fn both(interval: Interval) -> [f64; 2] {
    [interval.low, interval.high]
}

/// A moment as answers spell it; the last one of the calendar for those behind it.
fn moment(at_ms: i64) -> String {
    let within = at_ms.clamp(Timestamp::MIN.unix_ms(), Timestamp::MAX.unix_ms());
    Timestamp::from_unix_ms(within).unwrap_or(Timestamp::MAX).to_string()
}

impl DirectionReply {
    fn new(trend: &report::Trend) -> DirectionReply {
        let fit = &trend.fit;
        DirectionReply {
            slope: fit.line.slope,
            slope_unit: "per second",
            direction: trend.direction.as_str(),
            r2: fit.line.r2,
            confidence: fit.line.r2,
            p_value: fit.p_value,
            slope_interval: both(fit.slope_interval),
            autocorrelation: fit.autocorrelation,
            effective_points: fit.effective,
            unstable: trend.unstable,
            theil_sen: trend
                .sen
                .as_ref()
                .map(|sen| SlopeReply { slope: sen.slope, interval: both(sen.interval) }),
            since: moment(trend.since_ms),
            changes: trend.changes_ms.iter().map(|at| moment(*at)).collect(),
        }
    }
}

impl ForecastReply {
    fn new(trend: &Trend, report: &Report) -> Option<ForecastReply> {
        let (forecast, next) = (report.forecast.as_ref()?, trend.ahead.first()?);
        let half_ms = trend.step_ms / 2;
        let point = |ahead: &crate::trend::forecast::Expected| {
            let Interval { low, high } = ahead.interval;
            (ahead.at_ms - half_ms, ahead.value, low, high)
        };
        Some(ForecastReply {
            next_value: next.value,
            next_timestamp: (next.at_ms - half_ms) / 1000,
            interval: both(next.interval),
            method: forecast.method.as_str(),
            backtest_error: forecast.backtest_error,
            naive_error: forecast.naive_error,
            points: trend.ahead.iter().map(point).collect(),
        })
    }
}

impl ThresholdReply {
    fn new((threshold, reached): &(Threshold, Result<Eta, Never>)) -> ThresholdReply {
        let value = threshold.value;
        match reached {
            Ok(eta) => ThresholdReply {
                value,
                eta: Some(moment(eta.at_ms)),
                eta_interval: Some([Some(moment(eta.low_ms)), eta.high_ms.map(moment)]),
                reason: None,
            },
            Err(never) => ThresholdReply {
                value,
                eta: None,
                eta_interval: None,
                reason: Some(never.as_str()),
            },
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, not below zero, and far below 2^53"
)]
fn whole(value: f64) -> u64 {
    value.round().max(0.0) as u64
}

fn seconds(ms: i64) -> u64 {
    ms.unsigned_abs() / 1000
}

impl TrendReply {
    fn new(trend: &Trend, period: Duration, with_points: bool) -> TrendReply {
        let half_ms = trend.step_ms / 2;
        let start = |&(at, value): &Sample| (at - half_ms, value);
        let points = with_points.then(|| trend.samples.iter().map(start).collect());
        let (period_seconds, interval_seconds) = (period.as_secs(), seconds(trend.step_ms));
        let (data_points, resolution) = (trend.samples.len(), trend.tier.as_str());
        let last_at = trend.last_ms().map(moment);
        let damaged_blocks = Some(trend.damaged).filter(|damaged| *damaged != 0);
        let report = match &trend.outcome {
            Ok(report) => report,
            Err(little) => {
                return TrendReply::Unavailable(UnavailableTrend {
                    available: false,
                    reason: little.reason(),
                    period_seconds,
                    interval_seconds,
                    data_points,
                    resolution,
                    last_at,
                    damaged_blocks,
                    points,
                });
            }
        };
        TrendReply::Available(Box::new(AvailableTrend {
            available: true,
            period_seconds,
            interval_seconds,
            data_points,
            resolution,
            last_at,
            damaged_blocks,
            statistics: StatisticsReply::from(&report.statistics),
            trend: DirectionReply::new(&report.trend),
            forecast: ForecastReply::new(trend, report),
            threshold: report.threshold.as_ref().map(ThresholdReply::new),
            anomaly: report.anomaly.as_ref().map(AnomalyReply::from),
            text: report.text.clone(),
            points,
        }))
    }
}

/// How many jobs are done.
#[derive(Serialize, ToSchema)]
pub struct ThroughputReply {
    /// The trend of jobs a minute.
    #[serde(flatten)]
    trend: TrendReply,
    /// Jobs that were done in the period, as far as it was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    /// The mean of all steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    per_minute: Option<f64>,
    /// The same in an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    per_hour: Option<f64>,
    /// The same in a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    average_per_interval: Option<f64>,
}

/// How much of their time workers work.
#[derive(Serialize, ToSchema)]
pub struct WorkersReply {
    /// The trend of that part, in percent.
    #[serde(flatten)]
    trend: TrendReply,
    /// Memory of a worker, of those that say so; null if none does.
    average_memory_bytes: Option<u64>,
    /// The part of a processor that a worker takes; null if none says so.
    average_cpu_percent: Option<f64>,
}

/// The trends of series.
#[derive(Serialize, ToSchema)]
pub struct SeriesTrends {
    /// Each, by name.
    items: Vec<SeriesTrendItem>,
}

/// The trend of a series.
#[derive(Serialize, ToSchema)]
pub struct SeriesTrendItem {
    /// What is measured.
    metric: String,
    /// Of what.
    labels: BTreeMap<String, String>,
    /// What was made of the samples of a step: `avg`, `rate`, ...
    #[serde(rename = "fn")]
    function: &'static str,
    /// Its trend.
    #[serde(flatten)]
    trend: TrendReply,
}

fn queue_of(cx: &Cx) -> Result<QueueName, Problem> {
    Ok(QueueName::parse(cx.param("queue"))?)
}

async fn queue_trend(cx: &Cx, side: Side) -> Result<(Trend, Question, bool), Problem> {
    let (question, points) = terms::recorded(&cx.query, cx.now.wall)?;
    let tenant = cx.caller().tenant.id;
    let trend = cx.app().queue_trend(tenant, (queue_of(cx)?, side), question).await?;
    Ok((trend, question, points))
}

/// `GET /v1/trends/queue-depth/{queue}`
pub(super) async fn depth(cx: Cx) -> Result<Reply, Problem> {
    let (trend, question, points) = queue_trend(&cx, Side::Depth).await?;
    Ok(Reply::json(&TrendReply::new(&trend, question.stretch.period(), points)))
}

/// `GET /v1/trends/throughput/{queue}`
pub(super) async fn throughput(cx: Cx) -> Result<Reply, Problem> {
    let (trend, question, points) = queue_trend(&cx, Side::Throughput).await?;
    let done = trend.outcome.is_ok().then(|| app::Done::of(&trend));
    Ok(Reply::json(&ThroughputReply {
        trend: TrendReply::new(&trend, question.stretch.period(), points),
        total: done.map(|done| whole(done.total)),
        per_minute: done.map(|done| done.per_minute),
        per_hour: done.map(|done| done.per_minute * 60.0),
        average_per_interval: done.map(|done| done.per_step),
    }))
}

/// `GET /v1/trends/worker-efficiency`
pub(super) async fn workers(cx: Cx) -> Result<Reply, Problem> {
    let (question, points) = terms::recorded(&cx.query, cx.now.wall)?;
    let workers = cx.app().worker_trend(cx.caller().tenant.id, question).await?;
    Ok(Reply::json(&WorkersReply {
        trend: TrendReply::new(&workers.trend, question.stretch.period(), points),
        average_memory_bytes: workers.memory_bytes.map(whole),
        average_cpu_percent: workers.cpu_percent,
    }))
}

/// `GET /v1/trends/series`
pub(super) async fn series(cx: Cx) -> Result<Reply, Problem> {
    let meant = terms::series(&cx.query)?;
    let (question, points) = terms::question(&cx.query, cx.now.wall)?;
    let trends = cx.app().series_trends(cx.caller().tenant.id, meant, question).await?;
    let count: usize = trends.iter().map(|its| its.trend.points(points)).sum();
    let written = move || SeriesTrends::written(trends, question.stretch.period(), points);
    // A hundred series of two thousand points are megabytes: others wait for this thread meanwhile.
    if count <= QUERY_HERE_POINTS_MAX {
        return Ok(written());
    }
    Ok(cx.app().blocking(HANDLER_DEADLINE, written).await?)
}

impl SeriesTrends {
    fn written(trends: Vec<app::SeriesTrend>, period: Duration, with_points: bool) -> Reply {
        let item = |its: app::SeriesTrend| SeriesTrendItem {
            metric: its.metric,
            labels: its.labels.into_iter().collect(),
            function: series_terms::name_of(its.function),
            trend: TrendReply::new(&its.trend, period, with_points),
        };
        Reply::json(&SeriesTrends { items: trends.into_iter().map(item).collect() })
    }
}

/// How a queue stands.
#[derive(Serialize, ToSchema)]
pub struct CapacityReply {
    /// Whether enough was recorded to say anything of rates.
    available: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// How long the period is.
    period_seconds: u64,
    /// For how much of it something was recorded; rates are those of that time.
    measured_seconds: u64,
    /// Jobs that arrive in a second.
    arrivals_per_second: Option<f64>,
    /// The same in a minute.
    arrivals_per_minute: Option<f64>,
    /// Attempts that a job takes.
    attempts_per_job: Option<f64>,
    /// How long an attempt takes; null if none has ended.
    service_seconds: Option<f64>,
    /// Jobs that one worker finishes in a second.
    service_rate_per_second: Option<f64>,
    /// Workers that serve it now.
    workers: u32,
    /// Whether any of them serves another queue too; it is never said then that there are too many.
    workers_shared: bool,
    /// Jobs that may run now.
    waiting: u64,
    /// Jobs that run now.
    running: u64,
    /// Whether nothing is leased from it.
    paused: bool,
    /// The part of the workers' time that arrivals take; above 1 the queue grows.
    utilisation: Option<f64>,
    /// How long a job waits on average when nothing is left over; null if the queue grows.
    expected_wait_seconds: Option<f64>,
    /// How long a job should wait at most.
    target_wait_seconds: f64,
    /// How many workers keep the wait below that.
    workers_needed: Option<u32>,
    /// How long until what waits is worked off by the workers of now; null if it never is.
    drain_seconds: Option<f64>,
    /// The same with more and with fewer workers.
    what_if: Vec<WhatIf>,
    /// What to do, made of what was needed lately, so that it does not flap.
    recommendation: Recommendation,
    /// All of it in plain words.
    text: String,
}

/// With another number of workers.
#[derive(Serialize, ToSchema)]
pub struct WhatIf {
    /// With so many.
    workers: u32,
    /// The part of their time that arrivals take.
    utilisation: Option<f64>,
    /// How long until what waits is worked off; null if it never is.
    drain_seconds: Option<f64>,
}

impl From<&Drain> for WhatIf {
    fn from(drain: &Drain) -> WhatIf {
        WhatIf {
            workers: drain.workers,
            utilisation: drain.utilisation,
            drain_seconds: drain.takes.map(|takes| takes.as_secs_f64()),
        }
    }
}

/// What to do about the workers of a queue.
#[derive(Serialize, ToSchema)]
pub struct Recommendation {
    /// `unknown`, `keep`, `up` or `down`.
    advice: &'static str,
    /// How many workers to have then.
    workers: u32,
}

impl Recommendation {
    fn new(advice: Advice, workers: u32) -> Recommendation {
        let (advice, workers) = match advice {
            Advice::Unknown => ("unknown", workers),
            Advice::Keep => ("keep", workers),
            Advice::Up(workers) => ("up", workers),
            Advice::Down(workers) => ("down", workers),
        };
        Recommendation { advice, workers }
    }
}

impl CapacityReply {
    fn new(its: &QueueCapacity, period: Duration) -> CapacityReply {
        let (workers, capacity) = (its.workers(), its.capacity());
        let drains = capacity.map_or(&[][..], |capacity| &capacity.drains);
        let now = drains.iter().find(|drain| drain.workers == workers);
        CapacityReply {
            available: capacity.is_some(),
            reason: its.outcome.as_ref().err().cloned(),
            period_seconds: period.as_secs(),
            measured_seconds: its.window.as_secs(),
            arrivals_per_second: capacity.map(|its| its.arrivals),
            arrivals_per_minute: capacity.map(|its| its.arrivals * 60.0),
            attempts_per_job: capacity.map(|its| its.attempts_per_job),
            service_seconds: capacity.and_then(|its| Some(its.service?.as_secs_f64())),
            service_rate_per_second: capacity.and_then(|its| its.service_rate),
            workers,
            workers_shared: its.view.workers_shared,
            waiting: its.view.waiting,
            running: its.view.running,
            paused: its.view.settings.paused,
            utilisation: capacity.and_then(|its| its.utilisation),
            expected_wait_seconds: capacity.and_then(|its| Some(its.expected_wait?.as_secs_f64())),
            target_wait_seconds: its.target.as_secs_f64(),
            workers_needed: capacity.and_then(|its| its.workers_needed),
            drain_seconds: now.and_then(|drain| Some(drain.takes?.as_secs_f64())),
            what_if: drains.iter().map(WhatIf::from).collect(),
            recommendation: Recommendation::new(its.advice, workers),
            text: its.text.clone(),
        }
    }
}

/// `GET /v1/queues/{q}/capacity`
pub(super) async fn capacity(cx: Cx) -> Result<Reply, Problem> {
    let question = terms::capacity(&cx.query, cx.now.wall)?;
    let queue = QueueName::parse(cx.param("q"))?;
    let its = cx.app().queue_capacity(&cx.caller().tenant, &queue, question).await?;
    Ok(Reply::json(&CapacityReply::new(&its, question.stretch.period())))
}
