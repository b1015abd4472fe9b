//! What a query reads: which series, which resolution, which stretches of it, and into which steps it goes.

use std::collections::{BTreeMap, BTreeSet};

use super::{BadQuery, Query};
use crate::base::limits::{
    ANSWER_POINTS_MAX, DURATION_MAX, LABELS_MAX, QUERY_POINTS_MAX, QUERY_SERIES_MAX,
};
use crate::base::time::Timestamp;
use crate::series::fold::{Function, Reduce, Steps};
use crate::series::index::Entry;
use crate::series::memory::{Memory, Place};
use crate::series::{DAY_MS, GroupId, HOUR_MS, Kind, LOOK_BACK_MS, Tier};

/// Steps from which one is chosen when none is asked for; beyond them, doublings of the last.
const STEPS_S: [i64; 16] =
    [10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 604_800];
/// And so many points an answer has then, at most.
const POINTS_CHOSEN_MAX: i64 = 300;

/// A stretch of a span that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) tier: Tier,
    pub(super) span: u32,
    /// What begins, or is, from here on counts.
    pub(super) from_ms: i64,
    /// And before this.
    pub(super) to_ms: i64,
}

/// Labels of a line, and its metric, unless it is several series put together.
type LineName = (Vec<(String, String)>, Option<String>);

/// What is read, and into which lines it goes.
#[derive(Debug)]
pub(super) struct Plan {
    /// By group and column.
    pub(super) entries: Vec<Entry>,
    pub(super) tier: Tier,
    pub(super) steps: Steps,
    /// Ascending.
    pub(super) segments: Vec<Segment>,
    /// How series are put together, if they are.
    pub(super) reduce: Option<Reduce>,
    /// Labels of each line, and its metric.
    pub(super) lines: Vec<LineName>,
    /// The line of each series.
    pub(super) line_of: Vec<usize>,
}

/// What can be said of a query without looking at anything.
pub(super) fn check(query: &Query) -> Result<(), BadQuery> {
    let most = Timestamp::MAX.unix_ms();
    if query.to_ms <= query.from_ms || query.from_ms < -most || most < query.to_ms {
        return Err(BadQuery::Range);
    }
    let longest = i64::try_from(DURATION_MAX.as_millis()).unwrap_or(i64::MAX);
    match (query.function, query.step_ms) {
        (Function::Raw, Some(_)) => {
            return Err(BadQuery::Step("raw gives samples as they are; it has no step".into()));
        }
        (_, Some(step)) if step < 1 || longest < step => {
            return Err(BadQuery::Step("a step is 1 ms to 100 years long".into()));
        }
        _ => {}
    }
    let together = query.by.is_some() || query.reduce.is_some();
    if matches!(query.function, Function::Raw) && together {
        return Err(BadQuery::Reduce("raw gives samples as they are; leave out by and reduce"));
    }
    let percentile = matches!(query.function, Function::Quantile(_));
    if percentile && query.by.is_some() && query.reduce.is_none() {
        return Err(BadQuery::Reduce("percentiles do not add up; say reduce=max, min or avg"));
    }
    if query.by.as_ref().is_some_and(|by| LABELS_MAX < by.len()) {
        return Err(BadQuery::Reduce("a series has at most 32 labels, and so does by"));
    }
    Ok(())
}

/// Makes the plan of a query that [`check`] let in.
pub(super) fn plan(memory: &Memory, query: &Query, found: &[&Entry]) -> Result<Plan, BadQuery> {
    if QUERY_SERIES_MAX < found.len() {
        return Err(BadQuery::TooManySeries { found: found.len(), limit: QUERY_SERIES_MAX });
    }
    let (tier, steps) = resolution(memory, query, found)?;
    let mut plan = Plan {
        entries: found.iter().map(|entry| (*entry).clone()).collect(),
        tier,
        steps,
        segments: Vec::new(),
        reduce: query.reduce.or(query.by.as_ref().map(|_| Reduce::Sum)),
        lines: Vec::new(),
        line_of: Vec::new(),
    };
    lines(&mut plan, query.by.as_deref());
    if query.function != Function::Raw {
        check_points(&plan)?;
    }
    let back = match query.function {
        Function::Increase | Function::Rate | Function::Last => LOOK_BACK_MS.max(tier.step_ms()),
        Function::Raw
        | Function::Avg
        | Function::Min
        | Function::Max
        | Function::Sum
        | Function::Count
        | Function::Quantile(_) => 0,
    };
    plan.segments = segments(memory, tier, (steps.from_ms - back, steps.to_ms));
    if 0 < back {
        plan.segments.retain_mut(|segment| {
            // Of samples, no more is needed than what may count as the one before.
            if segment.tier == Tier::Raw {
                segment.from_ms = segment.from_ms.max(steps.from_ms - LOOK_BACK_MS);
            }
            segment.from_ms < segment.to_ms
        });
    }
    Ok(plan)
}

fn check_points(plan: &Plan) -> Result<(), BadQuery> {
    let points = plan.steps.count() as u64;
    if QUERY_POINTS_MAX < points {
        return Err(BadQuery::TooManyPoints { points });
    }
    let (series, limit) = (plan.lines.len(), ANSWER_POINTS_MAX);
    let points = points.saturating_mul(series as u64);
    if limit < points { Err(BadQuery::TooMuch { points, series, limit }) } else { Ok(()) }
}

/// Which lines there will be: one of each series, or one of all that have the same labels of those in `by`.
fn lines(plan: &mut Plan, by: Option<&[String]>) {
    let text = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    if plan.reduce.is_none() {
        plan.line_of = (0..plan.entries.len()).collect();
        let line = |entry: &Entry| {
            let labels = &entry.labels;
            (labels.pairs().map(text).collect(), Some(labels.metric().to_owned()))
        };
        plan.lines = plan.entries.iter().map(line).collect();
        return;
    }
    // Sorted, and each once, whatever was asked for.
    let names: BTreeSet<&str> = by.unwrap_or_default().iter().map(String::as_str).collect();
    let mut known: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
    for entry in &plan.entries {
        let values: Vec<&str> =
            names.iter().map(|name| entry.labels.get(name).unwrap_or_default()).collect();
        let line = *known.entry(values).or_insert_with_key(|values| {
            let pairs = names.iter().copied().zip(values.iter().copied());
            let labels = pairs.filter(|(_, value)| !value.is_empty()).map(text).collect();
            plan.lines.push((labels, None));
            plan.lines.len() - 1
        });
        plan.line_of.push(line);
    }
}

/// From which tier the query is answered, and in which steps.
fn resolution(memory: &Memory, query: &Query, found: &[&Entry]) -> Result<(Tier, Steps), BadQuery> {
    if query.function == Function::Raw {
        return Ok((Tier::Raw, aligned(query, 1)));
    }
    let Steps { from_ms: from, step_ms: step, .. } = asked_steps(query);
    let plain = found.iter().find(|entry| entry.kind != Kind::Distribution);
    if let (Function::Quantile(_), Some(plain)) = (query.function, plain) {
        // Also when there is nothing yet that could have gone: an answer does not depend on how long this has run.
        let kept = memory.raw_kept_ms.map(|kept| query.now_ms.saturating_sub(kept));
        let is_kept = kept.is_none_or(|kept| kept <= from.saturating_add(HOUR_MS));
        return match reaching(memory, Tier::Raw, from) {
            Tier::Raw if is_kept => Ok((Tier::Raw, aligned(query, step))),
            _ => Err(BadQuery::NoDistribution(plain.labels.to_string())),
        };
    }
    let tier = reaching(memory, tier_of(step), from);
    // Steps of a tier are a whole number of its points.
    let points = (step - 1).div_euclid(tier.step_ms()) + 1;
    Ok((tier, aligned(query, points.saturating_mul(tier.step_ms()))))
}

/// The steps that are asked for; answers from what is old may have longer ones.
pub(super) fn asked_steps(query: &Query) -> Steps {
    aligned(query, query.step_ms.unwrap_or_else(|| chosen_step(query)))
}

/// The range of a query in whole steps.
fn aligned(query: &Query, step_ms: i64) -> Steps {
    let from_ms = query.from_ms - query.from_ms.rem_euclid(step_ms);
    let to_ms = query.to_ms + (-query.to_ms).rem_euclid(step_ms);
    Steps { from_ms, to_ms, step_ms, now_ms: query.now_ms }
}

fn chosen_step(query: &Query) -> i64 {
    let mut step = STEPS_S[0] * 1000;
    let mut others = STEPS_S[1..].iter();
    loop {
        let Steps { from_ms, to_ms, .. } = aligned(query, step);
        if (to_ms - from_ms) / step <= POINTS_CHOSEN_MAX {
            return step;
        }
        step = others.next().map_or(step * 2, |longer| longer * 1000);
    }
}

/// The coarsest tier whose points make up steps of this length.
fn tier_of(step_ms: i64) -> Tier {
    let fits = |tier: &Tier| step_ms.rem_euclid(tier.step_ms()) == 0;
    Tier::POINTS.into_iter().rev().find(fits).unwrap_or(Tier::Raw)
}

/// When the oldest that a tier can tell of begins: its points, or the samples from which they are computed as long as they
/// are not there.
fn oldest(memory: &Memory, tier: Tier) -> Option<i64> {
    let first = |tier: Tier| {
        let (_, span) = memory.spans.range((tier, 0)..=(tier, u32::MAX)).next()?.0;
        Some(tier.span_start(*span))
    };
    let open = |place: Option<&Place>| place.map(|place| Tier::Raw.span_start(place.0));
    let raw =
        [first(Tier::Raw), open(memory.opens.keys().next()), open(memory.sealing.keys().next())];
    let raw = raw.into_iter().flatten().min();
    if tier == Tier::Raw {
        return raw;
    }
    // A span begins long before the first day in it, so it is the days that count.
    let points = first(tier).and_then(|start| {
        let day = memory.rolled.range(day_of(start)..).next()?;
        Some(i64::from(*day) * DAY_MS)
    });
    [points, raw].into_iter().flatten().min()
}

fn day_of(at_ms: i64) -> u32 {
    u32::try_from(at_ms.max(0) / DAY_MS).unwrap_or(u32::MAX)
}

/// The tier itself, if it reaches back to `from_ms` or nothing coarser is older; else the finest that does, or that is
/// oldest.
fn reaching(memory: &Memory, tier: Tier, from_ms: i64) -> Tier {
    let own = oldest(memory, tier);
    if own.is_some_and(|own| own <= from_ms) {
        return tier;
    }
    // Points of a day say nothing of when in that day the first sample was, so that day is as old as its samples.
    let is_older = |at: i64| own.is_none_or(|own| day_of(at) < day_of(own));
    let coarser = Tier::POINTS.into_iter().filter(|other| tier < *other);
    let coarser = coarser.filter_map(|tier| Some((tier, oldest(memory, tier)?)));
    let older: Vec<(Tier, i64)> = coarser.filter(|(_, at)| is_older(*at)).collect();
    let covers = older.iter().find(|(_, at)| *at <= from_ms);
    // The first of equals is the finest.
    covers.or(older.iter().min_by_key(|(_, at)| *at)).map_or(tier, |(tier, _)| *tier)
}

/// Whether a day is read from points: they are valid, or there is nothing else.
fn is_rolled(memory: &Memory, day: u32) -> bool {
    let start = i64::from(day) * DAY_MS;
    let (first, end) = (Tier::Raw.span_of(start), Tier::Raw.span_of(start + DAY_MS));
    let raw = (Tier::Raw, first)..(Tier::Raw, end);
    memory.is_rolled(day) || (memory.spans.range(raw).next().is_none() && !memory.is_open(day))
}

/// The hours of a range of which there are samples, in the file or in memory.
fn hours(memory: &Memory, (from_ms, to_ms): (i64, i64)) -> BTreeSet<u32> {
    let (first, last) = (Tier::Raw.span_of(from_ms), Tier::Raw.span_of(to_ms - 1));
    let sealed = memory.spans.range((Tier::Raw, first)..=(Tier::Raw, last));
    let mut hours: BTreeSet<u32> = sealed.map(|((_, hour), _)| *hour).collect();
    let mut open = |next: &dyn Fn(u32) -> Option<u32>| {
        let mut from = first;
        while let Some(hour) = next(from).filter(|hour| *hour <= last) {
            hours.insert(hour);
            from = hour.saturating_add(1);
        }
    };
    let from = |hour: u32| (hour, GroupId(0))..;
    open(&|hour| memory.opens.range(from(hour)).next().map(|(place, _)| place.0));
    open(&|hour| memory.sealing.range(from(hour)).next().map(|(place, _)| place.0));
    hours
}

/// What is read of a range: days of points where they are valid, and hours of samples elsewhere.
pub(super) fn segments(memory: &Memory, tier: Tier, (from_ms, to_ms): (i64, i64)) -> Vec<Segment> {
    // Nothing was before 1970, and spans are numbered in 32 bits.
    let most = Timestamp::MAX.unix_ms() + 1;
    let (from_ms, to_ms) = (from_ms.clamp(0, most), to_ms.clamp(0, most));
    if to_ms <= from_ms {
        return Vec::new();
    }
    let mut segments = Vec::new();
    let mut days = BTreeMap::new();
    let mut is_rolled = |day: u32| *days.entry(day).or_insert_with(|| is_rolled(memory, day));
    if tier != Tier::Raw {
        let (first, last) = (tier.span_of(from_ms), tier.span_of(to_ms - 1));
        for ((_, span), _) in memory.spans.range((tier, first)..=(tier, last)) {
            points_of(tier, *span, &mut is_rolled, &mut segments);
        }
    }
    for hour in hours(memory, (from_ms, to_ms)) {
        let start = Tier::Raw.span_start(hour);
        if tier == Tier::Raw || !is_rolled(day_of(start)) {
            let (from_ms, to_ms) = (start, start + HOUR_MS);
            segments.push(Segment { tier: Tier::Raw, span: hour, from_ms, to_ms });
        }
    }
    for segment in &mut segments {
        segment.from_ms = segment.from_ms.max(from_ms);
        segment.to_ms = segment.to_ms.min(to_ms);
    }
    segments.retain(|segment| segment.from_ms < segment.to_ms);
    segments.sort_by_key(|segment| segment.from_ms);
    segments
}

/// The days of a span that are read from points; neighbours in one.
fn points_of(
    tier: Tier,
    span: u32,
    is_rolled: &mut dyn FnMut(u32) -> bool,
    segments: &mut Vec<Segment>,
) {
    let start = tier.span_start(span);
    let mut last: Option<Segment> = None;
    for day in 0..tier.span_ms() / DAY_MS {
        let from_ms = start + day * DAY_MS;
        if !is_rolled(day_of(from_ms)) {
            segments.extend(last.take());
            continue;
        }
        let segment = last.get_or_insert(Segment { tier, span, from_ms, to_ms: from_ms });
        segment.to_ms = from_ms + DAY_MS;
    }
    segments.extend(last);
}
