//! All of it in a few plain sentences.

use std::cmp::Ordering;

use super::{Ask, Direction, Report, Sight, Statistics, Teeth, Unit};
use crate::trend::Sample;
use crate::trend::anomaly::Score;
use crate::trend::change::STRETCH_MIN;
use crate::trend::threshold::{Eta, Never};
use crate::trend::words::{capital, moment, span};

/// A line that explains so much of what varies is followed "steadily".
const STEADY: f64 = 0.9;
/// What moves by less than this part of its level over all of the time hardly moves, however sure it is that it does.
const HARDLY: f64 = 0.01;
/// A level before a change is told if it differs by so much of the larger one.
const OTHER_LEVEL: f64 = 0.1;
/// Before and behind a change so many samples tell the level.
const EDGE: usize = 3;
/// The same as a number: so many steps lie between the middles of both.
const EDGE_STEPS: f64 = 3.0;
/// Levels that differ by fewer deviations of what varies anyway do not differ.
const DEVIATIONS: f64 = 3.0;
/// What is now is told if it is so far from the middle, as a part of what is furthest.
const FAR: f64 = 0.8;

/// What is more steps old than this is not of now: one may still be on its way, and one be missing.
const STEPS_OLD: i64 = 3;

/// The sentences.
pub(super) fn text(report: &Report, sight: &Sight<'_>, ask: &Ask<'_>) -> String {
    let told = Told { report, sight, ask, unit: ask.unit };
    let parts = [Some(told.trend()), told.threshold(), told.anomaly(), told.age()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// When the last step with samples ended, and how long ago that is, if that is no longer now.
pub(super) fn old(samples: &[Sample], ask: &Ask<'_>) -> Option<(i64, i64)> {
    let &(middle_ms, _) = samples.last()?;
    let step_ms = ask.step_ms.max(0);
    let end_ms = middle_ms.saturating_add(step_ms / 2);
    let age_ms = ask.now_ms.saturating_sub(end_ms);
    (step_ms.saturating_mul(STEPS_OLD) < age_ms).then_some((end_ms, age_ms))
}

struct Told<'t> {
    report: &'t Report,
    sight: &'t Sight<'t>,
    ask: &'t Ask<'t>,
    unit: Unit,
}

impl Told<'_> {
    /// Where it goes.
    fn trend(&self) -> String {
        let trend = &self.report.trend;
        let goes = if let Some(teeth) = self.sight.teeth {
            self.goes_up_and_down(teeth)
        } else if trend.unstable {
            format!("a few points decide the slope, so that none is told; {}", self.level())
        } else {
            match trend.direction {
                Direction::Stable => self.stable(),
                Direction::Increasing => self.moves("rising"),
                Direction::Decreasing => self.moves("falling"),
            }
        };
        let points = self.sight.last.len();
        if points < STRETCH_MIN {
            return format!("{}, as far as {points} points tell.", capital(&goes));
        }
        format!("{}.", capital(&goes))
    }

    /// `it climbs and falls back again and again (12 times), between 20 and 66 GB, now 54 GB`.
    fn goes_up_and_down(&self, teeth: Teeth) -> String {
        let figures = self.figures();
        let between = self.unit.span(figures.min, "and", figures.max);
        let now = self.unit.value(figures.current);
        let (goes, times) = match teeth {
            Teeth::Fall(times) => ("climbs and falls back", times),
            Teeth::Jump(times) => ("jumps up and falls", times),
        };
        format!("it {goes} again and again ({times} times), between {between}, now {now}")
    }

    /// `flat at 3 jobs since 12 Nov 14:00 UTC`.
    fn stable(&self) -> String {
        let since = match self.change() {
            Some(change) => format!(" since {change}"),
            None => String::new(),
        };
        let figures = self.figures();
        let level = figures.median.abs().max(figures.min.abs()).max(figures.max.abs());
        if figures.max - figures.min <= HARDLY * level {
            return format!("flat at {}{since}", self.unit.value(figures.median));
        }
        format!("{}, neither rising nor falling{since}", self.level())
    }

    /// `about 5 jobs, between 2 and 8`, `mostly 0 jobs, at times up to 1 job`.
    fn level(&self) -> String {
        let Statistics { current, median, min, max, .. } = self.figures();
        let furthest = (max - median).max(median - min);
        let now = if min < max && FAR * furthest <= (current - median).abs() {
            format!(", now {}", self.unit.bare(current, max))
        } else {
            String::new()
        };
        let level = match median {
            least if least <= min && min < max => {
                format!("mostly {}", self.unit.pair(least, ", at times up to", max))
            }
            most if max <= most && min < max => {
                format!("mostly {}", self.unit.pair(most, ", at times down to", min))
            }
            middle => self.unit.around(middle, min, max),
        };
        format!("{level}{now}")
    }

    /// Of the last stretch, or of all if it goes up and down.
    fn figures(&self) -> Statistics {
        let samples = if self.sight.teeth.is_some() { self.sight.samples } else { self.sight.last };
        Statistics::of(samples).unwrap_or(self.report.statistics)
    }

    /// `rising by about 1.2 GB a day (1.1 to 1.3), steadily since 12 Nov 14:00 UTC`.
    fn moves(&self, word: &str) -> String {
        let fit = &self.report.trend.fit;
        let seconds = self.seconds();
        let level = fit.line.centre.abs();
        let goes = if (fit.line.slope * seconds).abs() < HARDLY * level {
            format!("hardly {word}, by about")
        } else {
            format!("{word} by about")
        };
        let slope = self.unit.slope(fit.line.slope, fit.slope_interval, seconds);
        let steadily = if fit.line.r2.is_some_and(|r2| STEADY <= r2) { ", steadily" } else { "" };
        let since = match self.change() {
            Some(change) => format!("{steadily} since {change}"),
            None => format!("{steadily} over {}", span(seconds)),
        };
        let season = self.sight.season.as_ref();
        let usual = match season.map(|(_, fit)| Direction::of(fit)) {
            Some(Direction::Stable) if !self.is_anomaly() => ", as is usual at this time",
            Some(_) | None => "",
        };
        format!("{goes} {slope}{since}{usual}")
    }

    /// How long the last stretch is.
    fn seconds(&self) -> f64 {
        let (first, last) = (self.sight.last.first(), self.sight.last.last());
        let between = |first: &Sample, last: &Sample| last.0.saturating_sub(first.0);
        let ms = first.zip(last).map_or(0, |(first, last)| between(first, last));
        seconds(ms.saturating_add(self.ask.step_ms))
    }

    /// `12 Nov 14:00 UTC, when it went from 80 GB to 20 GB`; none without a change.
    fn change(&self) -> Option<String> {
        let &at_ms = self.report.trend.changes_ms.last()?;
        let when = moment(at_ms, self.ask.now_ms);
        let start = self.sight.samples.len() - self.sight.last.len();
        let mean = |samples: &[Sample]| Statistics::of(samples).ok().map(|figures| figures.average);
        let before = mean(self.sight.samples.get(start.saturating_sub(EDGE)..start)?)?;
        let behind = mean(self.sight.last.get(..EDGE)?)?;
        let line = &self.report.trend.fit.line;
        let rises = line.slope.abs() * self.seconds() / count(self.sight.last.len()) * EDGE_STEPS;
        let least = (OTHER_LEVEL * before.abs().max(behind.abs()))
            .max(DEVIATIONS * line.residual_deviation + 2.0 * rises);
        if (behind - before).abs() <= least {
            return Some(when);
        }
        Some(format!("{when}, when it went from {}", self.unit.span(before, "to", behind)))
    }

    /// When the threshold is reached, or why that cannot be told.
    fn threshold(&self) -> Option<String> {
        let (threshold, answer) = self.report.threshold?;
        let value = self.unit.value(threshold.value);
        Some(match answer {
            Ok(eta) => format!("It reaches {value} {}.", self.eta(eta)),
            Err(never) => self.never(never, threshold.value, &value),
        })
    }

    /// `in about 9 days (8 to 11)`.
    fn eta(&self, eta: Eta) -> String {
        let ahead = |at_ms: i64| match at_ms.saturating_sub(self.ask.now_ms) {
            past if past <= 0 => "now".to_owned(),
            ahead_ms => span(seconds(ahead_ms)),
        };
        let (at, low) = (ahead(eta.at_ms), ahead(eta.low_ms));
        let about = if at == "now" { "about now".to_owned() } else { format!("in about {at}") };
        let Some(high) = eta.high_ms.map(ahead) else {
            return format!("{about} ({low} at the earliest, perhaps never)");
        };
        if low == at && high == at {
            return about;
        }
        let unit = |text: &str| text.rsplit_once(' ').map(|(_, unit)| unit.to_owned());
        let number = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
        if unit(&low) == unit(&high) && unit(&low) == unit(&at) {
            return format!("{about} ({} to {})", number(&low), number(&high));
        }
        format!("{about} ({low} to {high})")
    }

    fn never(&self, never: Never, threshold: f64, value: &str) -> String {
        let current = self.report.statistics.current;
        let no_date = format!("When it reaches {value} cannot be told");
        match never {
            Never::AlreadyPassed => match current.total_cmp(&threshold) {
                Ordering::Greater => format!("It is above {value} already."),
                Ordering::Less => format!("It is below {value} already."),
                Ordering::Equal => format!("It is at {value} already."),
            },
            Never::Stable | Never::Away if self.sight.season.is_some() => {
                format!("Beyond what is usual at this time it does not move towards {value}.")
            }
            Never::Stable => format!("It does not move towards {value}, as far as can be seen."),
            Never::Away => format!("It moves away from {value}."),
            Never::Sawtooth if self.sight.teeth.is_some() => format!("{no_date}."),
            Never::Sawtooth => format!("{no_date}: it goes up and down."),
            Never::Unstable => format!("{no_date}."),
            Never::TooLittle => format!("{no_date}: there is too little to go by."),
            Never::Outdated => format!("{no_date}: nothing new was recorded."),
            Never::TooFar => {
                format!("{no_date}: that is further ahead than ten times what was looked at.")
            }
        }
    }

    /// `The last samples are of 12 Nov 14:05 UTC, 50 min ago.`; none if they are of now.
    fn age(&self) -> Option<String> {
        let (end_ms, age_ms) = old(self.sight.samples, self.ask)?;
        let (when, ago) = (moment(end_ms, self.ask.now_ms), span(seconds(age_ms)));
        Some(format!("The last samples are of {when}, {ago} ago."))
    }

    fn is_anomaly(&self) -> bool {
        self.report.anomaly.is_some_and(|score| score.is_anomaly())
    }

    /// What is out of the ordinary.
    fn anomaly(&self) -> Option<String> {
        let score = self.report.anomaly.filter(Score::is_anomaly)?;
        let (value, usual) = (self.unit.value(score.value), self.unit.value(score.usual));
        Some(format!("Out of the ordinary: it is {value} now, and about {usual} usually."))
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^53")]
fn count(many: usize) -> f64 {
    many.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "sentences need no milliseconds of 285,000 years")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}
