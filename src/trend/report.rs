//! All that is said of a series: statistics, trend, forecast, threshold, and a few sentences.
//!
//! What is judged is the last stretch: since somebody cleaned the disk up, since it began to rise.
//! - **Direction** is a matter of significance alone; a slope that is certain and tiny "hardly rises" in the sentence.
//! - **Unstable** is a slope that lies outside the interval of Theil-Sen's while that lies outside its own: a few samples
//!   decide, and no slope is told.
//! - What goes up and down **like the teeth of a saw** has no date, whichever way it goes now, unless the last stretch is
//!   more than twice as long as any before.
//! - What is **old** is not told as if it were of now: the sentences end with when the last samples are of, and nothing is said of what comes.
//! - What rises **as it usually does at this hour** has no date: less than two days (or weeks) of samples are judged by
//!   what they leave of what is usual.

mod told;
mod unit;

use super::Sample;
use super::anomaly::{self, Score, WINDOWS_MS};
use super::change;
use super::forecast::{Forecast, Known};
use super::line::Fit;
use super::moments::Moments;
use super::robust::{self, Sen};
use super::season::{Baseline, Cycle};
use super::threshold::{self, Eta, Never, Threshold};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// How far samples lie apart: each stands for the mean of so long.
    pub step_ms: i64,
    /// The moment of the question.
    pub now_ms: i64,
    /// When this value is reached.
    pub threshold: Option<Threshold>,
    /// What is usual, if that is known.
    pub usual: Option<&'a Baseline>,
    /// The series cannot be below this.
    pub floor: Option<f64>,
    /// What its values are.
    pub unit: Unit,
}

/// What values are, for sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Numbers of something: "jobs", "jobs a minute".
    Of(&'static str),
    /// Bytes: 1.5 GB.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// Percent.
    Percent,
    /// Seconds.
    Seconds,
    /// Nobody knows.
    Plain,
}

/// Figures of all samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// The last one.
    pub current: f64,
    /// The mean.
    pub average: f64,
    /// The median.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The standard deviation (n - 1); 0 of one.
    pub deviation: f64,
}

/// Which way it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Up, significantly.
    Increasing,
    /// Down, significantly.
    Decreasing,
    /// Neither, as far as can be seen.
    Stable,
}

impl Direction {
    /// How it is spelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            Direction::Increasing => "increasing",
            Direction::Decreasing => "decreasing",
            Direction::Stable => "stable",
        }
    }
}

/// Where it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Trend {
    /// Which way: by significance, with what samples that resemble each other are worth.
    pub direction: Direction,
    /// The line of the last stretch.
    pub fit: Fit,
    /// The other one.
    pub sen: Option<Sen>,
    /// Whether they disagree: the slope of each lies outside the interval of the other.
    pub unstable: bool,
    /// When the last stretch began.
    pub since_ms: i64,
    /// When other stretches began, ascending, without the first; the last is `since_ms`, if there are any.
    pub changes_ms: Vec<i64>,
}

/// Everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Samples there were.
    pub count: usize,
    /// Their figures.
    pub statistics: Statistics,
    /// Where it goes.
    pub trend: Trend,
    /// How what comes is told; none if there is too little to say.
    pub forecast: Option<Forecast>,
    /// When the threshold is reached, if one was asked for.
    pub threshold: Option<(Threshold, Result<Eta, Never>)>,
    /// How far from the usual it is.
    pub anomaly: Option<Score>,
    /// All of it, in words.
    pub text: String,
}

/// Why nothing can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLittle {
    /// No samples at all.
    Nothing,
    /// One or two, or all of one moment: a line through them says nothing on how sure it is.
    Few,
    /// Values so large or so small that their squares are no numbers: no figures can be made of them.
    OutOfRange,
}

impl TooLittle {
    /// In words.
    pub const fn reason(self) -> &'static str {
        match self {
            TooLittle::Nothing => {
                "there are no samples in the whole intervals of this period; if it is recorded only since a while, ask for a shorter one"
            }
            TooLittle::Few => {
                "there are fewer than three points in this period; ask for a shorter interval, or for a longer period if more was recorded"
            }
            TooLittle::OutOfRange => "values are too large or too small to make figures of them",
        }
    }
}

/// A slope is one if it would be there by chance less often than this.
const SIGNIFICANT: f64 = 0.05;
/// Slopes that differ by less than this part of the larger one are the same but for rounding.
const SAME: f64 = 1e-9;
/// Two points are on a line whatever they are.
const POINTS_MIN: usize = 3;
/// What fell so often does so again and again.
const AGAIN: usize = 2;
/// What now lasts so many times longer than what was before is no longer a part of it.
const OUTLASTS: i64 = 2;
/// A season of the usual explains a rise within so many of its cycles; over more, what rises is the series.
const CYCLES: i64 = 2;
const DAY_MS: i64 = 86_400_000;
/// No figures are made of values beyond this: their squares are no numbers.
const VALUE_MAX: f64 = 1e150;

/// Everything that these samples say, which ascend.
pub fn report(samples: &[Sample], ask: &Ask<'_>) -> Result<Report, TooLittle> {
    let statistics = Statistics::of(samples)?;
    let (trend, last) = Trend::of(samples, ask.step_ms)?;
    let known = Known { step_ms: ask.step_ms, usual: ask.usual, floor: ask.floor };
    // What ended a while ago does not go on.
    let is_old = told::old(samples, ask).is_some();
    let forecast = Forecast::of(last, known).filter(|_| !is_old);
    let sight = Sight::of(samples, last, &trend, ask);
    let threshold = ask.threshold.filter(|threshold| threshold.value.is_finite());
    let reached = |threshold: Threshold| match sight.reach(&trend, threshold) {
        Ok(_) if is_old => Err(Never::Outdated),
        reached => reached,
    };
    let mut report = Report {
        count: samples.len(),
        statistics,
        forecast,
        threshold: threshold.map(|threshold| (threshold, reached(threshold))),
        anomaly: ask.usual.and_then(|usual| anomaly(usual, samples, ask)),
        trend,
        text: String::new(),
    };
    report.text = told::text(&report, &sight, ask);
    Ok(report)
}

/// What the answers are made of, beside the trend.
struct Sight<'a> {
    /// All of them.
    samples: &'a [Sample],
    /// Those of the last stretch.
    last: &'a [Sample],
    /// What is left of the last stretch without what is usual at each hour, and its fit; none where hours tell nothing, or
    /// the stretch is long enough to see beyond them.
    season: Option<(Vec<Sample>, Fit)>,
    /// Whether it goes up and down again and again, so that where it goes now tells nothing of what comes.
    teeth: Option<Teeth>,
}

/// A series like the teeth of a saw.
#[derive(Clone, Copy)]
enum Teeth {
    /// It climbs, and falls so many times, as a disk does that is cleaned up.
    Fall(usize),
    /// It falls, and jumps up so many times, as what is free on that disk does.
    Jump(usize),
}

impl Teeth {
    /// Those of all samples.
    fn of(samples: &[Sample]) -> Option<Teeth> {
        let mirrored: Vec<Sample> = samples.iter().map(|&(at_ms, value)| (at_ms, -value)).collect();
        let (falls, jumps) = (change::drops(samples), change::drops(&mirrored));
        let steps = samples.windows(2).map(|pair| pair[1].1 - pair[0].1);
        // What is sudden is told: a climb of hours is no jump.
        let (fall, jump) =
            steps.fold((0.0_f64, 0.0_f64), |(fall, jump), step| (fall.max(-step), jump.max(step)));
        if AGAIN <= falls && (jumps < AGAIN || jump <= fall) {
            return Some(Teeth::Fall(falls));
        }
        (AGAIN <= jumps).then_some(Teeth::Jump(jumps))
    }
}

impl<'a> Sight<'a> {
    fn of(samples: &'a [Sample], last: &'a [Sample], trend: &Trend, ask: &Ask<'_>) -> Sight<'a> {
        let teeth = Teeth::of(samples).filter(|_| !outlasts(trend, samples));
        Sight { samples, last, season: season(last, ask.usual), teeth }
    }

    /// When a threshold is reached. Of what rises every morning, only what rises beyond that counts.
    fn reach(&self, trend: &Trend, threshold: Threshold) -> Result<Eta, Never> {
        let (samples, fit) = match &self.season {
            Some((rest, fit)) => (rest.as_slice(), fit),
            None => (self.last, &trend.fit),
        };
        match threshold::reach(samples, fit, trend.unstable, threshold) {
            Err(Never::AlreadyPassed) => Err(Never::AlreadyPassed),
            _ if self.teeth.is_some() => Err(Never::Sawtooth),
            answer => answer,
        }
    }
}

/// Whether the last stretch is longer than any before by far, so that what fell again and again no longer does.
fn outlasts(trend: &Trend, samples: &[Sample]) -> bool {
    let ends = samples.first().zip(samples.last());
    let (first_ms, last_ms) = ends.map_or((0, 0), |(first, last)| (first.0, last.0));
    let begins = [first_ms].into_iter().chain(trend.changes_ms.iter().copied());
    let lengths = begins.zip(&trend.changes_ms).map(|(begin, &end)| end.saturating_sub(begin));
    let last = last_ms.saturating_sub(trend.since_ms);
    lengths.max().is_some_and(|longest| longest.saturating_mul(OUTLASTS) < last)
}

/// What the last stretch leaves of what is usual at each hour, at the level of now.
fn season(last: &[Sample], usual: Option<&Baseline>) -> Option<(Vec<Sample>, Fit)> {
    let usual = usual?;
    let cycle_ms = match usual.cycle() {
        Cycle::None => return None,
        Cycle::Day => DAY_MS,
        Cycle::Week => 7 * DAY_MS,
    };
    let (first, now) = (last.first()?.0, last.last()?.0);
    if CYCLES * cycle_ms <= now.saturating_sub(first) {
        return None;
    }
    let level = usual.usual(now).value;
    let rest = |&(at_ms, value): &Sample| (at_ms, value - usual.usual(at_ms).value + level);
    let rest: Vec<Sample> = last.iter().map(rest).collect();
    let fit = Fit::of(&rest)?;
    Some((rest, fit))
}

/// How far from the usual it is now, by the samples of the longest window; none if they do not reach until now.
fn anomaly(usual: &Baseline, samples: &[Sample], ask: &Ask<'_>) -> Option<Score> {
    let longest_ms = WINDOWS_MS[WINDOWS_MS.len() - 1].saturating_add(ask.step_ms);
    let begin = ask.now_ms.saturating_sub(longest_ms);
    let recent = samples.partition_point(|&(at_ms, _)| at_ms < begin);
    anomaly::score(usual, samples.get(recent..)?, ask.now_ms)
}

impl Statistics {
    /// Those of samples.
    fn of(samples: &[Sample]) -> Result<Statistics, TooLittle> {
        let &(_, current) = samples.last().ok_or(TooLittle::Nothing)?;
        let mut values: Vec<f64> = samples.iter().map(|&(_, value)| value).collect();
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if VALUE_MAX < max.abs().max(min.abs()) {
            return Err(TooLittle::OutOfRange);
        }
        let moments = Moments::of(samples);
        let average = moments.mean().ok_or(TooLittle::Nothing)?.clamp(min, max);
        let median = robust::median(&mut values).ok_or(TooLittle::Nothing)?;
        let deviation = moments.deviation().unwrap_or(0.0);
        Ok(Statistics { current, average, median, min, max, deviation })
    }
}

impl Trend {
    /// That of samples, and those of the last stretch; of all of them if that tells nothing.
    fn of(samples: &[Sample], step_ms: i64) -> Result<(Trend, &[Sample]), TooLittle> {
        let mut changes = change::changes(samples);
        changes.retain(|&at| change::STRETCH_MIN <= samples.len().saturating_sub(at));
        let stretch = |at: usize| samples.get(at..).unwrap_or(samples);
        let mut last = stretch(changes.last().copied().unwrap_or(0));
        let mut fit = Fit::of(last);
        if fit.is_none() {
            changes.clear();
            last = samples;
            fit = Fit::of(last);
        }
        let moments = samples.first().map(|first| first.0) != samples.last().map(|last| last.0);
        let enough = POINTS_MIN <= samples.len() && moments;
        let fit = fit.ok_or(if enough { TooLittle::OutOfRange } else { TooLittle::Few })?;
        let sen = robust::theil_sen(last, fit.effective);
        // A sample stands for its step, of which it carries the middle.
        let began = |&(at_ms, _): &Sample| at_ms.saturating_sub(step_ms.max(0) / 2);
        let trend = Trend {
            direction: Direction::of(&fit),
            unstable: sen.is_some_and(|sen| disagree(&fit, &sen)),
            fit,
            sen,
            since_ms: last.first().map(began).ok_or(TooLittle::Nothing)?,
            changes_ms: changes.iter().filter_map(|&at| samples.get(at)).map(began).collect(),
        };
        Ok((trend, last))
    }
}

impl Direction {
    /// That of a line.
    fn of(fit: &Fit) -> Direction {
        match fit.line.slope {
            _ if SIGNIFICANT <= fit.p_value => Direction::Stable,
            up if 0.0 < up => Direction::Increasing,
            down if down < 0.0 => Direction::Decreasing,
            _ => Direction::Stable,
        }
    }
}

/// Whether the slope of each lies outside the interval of the other, by more than rounding.
fn disagree(fit: &Fit, sen: &Sen) -> bool {
    let size = fit.line.slope.abs().max(sen.slope.abs());
    let differ = SAME * size < (fit.line.slope - sen.slope).abs();
    differ && !fit.slope_interval.holds(sen.slope) && !sen.interval.holds(fit.line.slope)
}

#[cfg(test)]
mod tests;
