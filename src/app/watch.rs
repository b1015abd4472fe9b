//! What is looked at without being asked: once a minute, whether queues and the machine are as they usually are, how many
//! workers each queue takes, and when disks are full.
//!
//! ```text
//!   queues (RAM) ---------totals of 15 minutes--> [trend::capacity] --> advice, that does not flap
//!   series --28 days by the hour, once a day--> what is usual (RAM) --.
//!      '-----the last hour, by the minute-----------------------------'--> [trend::anomaly] --> scores
//!      '-----6 hours of disks--> [trend::line] --> when the first of them is full
//!   systemd --how units stand-----------------------------------------> [host], beside what is read
//! ```
//!
//! **Invariants**
//! - One query for a metric of a tenant, of nothing but what is watched, however many queues it has; without anything
//!   usual to compare with, none at all.
//! - What was found out is kept at once, each by itself: what fails afterwards takes nothing with it.
//! - What is usual is learnt once a day of each metric of a tenant, one of them a minute.
//! - Nothing here is on disk: after a start it is learnt anew from what is recorded.
//! - Bounds: [`WATCHED_MAX`] series, the queues that were active last before others.
//!
//! **Failure cases**: a query fails: the others are asked all the same, and it is tried again in a minute; scores that are
//! older than five are not told any more. The time runs out: those that were not reached come first the next time. What
//! is usual cannot be learnt: what was known stays, and it is tried again in an hour. Systemd hangs: this thread waits
//! for seconds, and nobody else. A queue that is gone takes its advice with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::capacity::{Counted, target_of};
use super::queue::QueueView;
use super::series_query::Asker;
use super::trends::{self, Side, in_the_middle, metric, minutes};
use super::workers::LATER;
use super::{App, DEFAULT_TENANT, Error};
use crate::base::id::TenantId;
use crate::base::limits::{QUERY_DEADLINE_MAX, WATCH_EVERY, WATCHED_MAX};
use crate::base::name::{QueueName, TenantName};
use crate::base::time::{Mono, Now};
use crate::exec::worker::{HireError, Next, Worker, Workers};
use crate::host::signals::{Beside, Units};
use crate::queue::figures::Totals;
use crate::series;
use crate::series::fold::{Function, Steps};
use crate::series::query::{Answer, Line};
use crate::series::select::Selector;
use crate::series::{FIVE_MINUTES_MS, HOUR_MS};
use crate::trend::anomaly::{self, Score};
use crate::trend::capacity::{self, Advice, Advisor};
use crate::trend::change;
use crate::trend::line::Fit;
use crate::trend::season::Baseline;
use crate::trend::{Interval, Sample};

/// What is usual of a metric of a tenant is learnt so often.
const LEARN_EVERY: Duration = Duration::from_hours(24);
/// And again after so long where it could not be.
const LEARN_AGAIN: Duration = Duration::from_hours(1);
/// That it could not be is told so often.
const WARN_EVERY: Duration = Duration::from_hours(1);
/// Scores are told for so long when there are no new ones.
const TOLD_FOR: Duration = Duration::from_mins(5);
/// Rates for advice are those of so many minutes.
const TOTALS_KEPT: usize = 16;
/// A score looks at the last hour; a step more, for the one that is not over.
const RECENT_MS: i64 = HOUR_MS + MINUTE_MS;
const MINUTE_MS: i64 = 60_000;
/// A disk is looked at over so long.
const DISK_MS: i64 = 6 * HOUR_MS;
/// Of which so much was recorded at least, also since it last changed: nothing is said of less than an hour.
const DISK_SAMPLES_MIN: usize = 12;
/// What has gone on for so long, two hours, is taken to go on. What has not may be a backup that is over soon, and is told
/// only if the disk is full before it has gone on for as long again: then it is urgent, and no longer a guess. So 15 GB an
/// hour for 90 minutes say nothing as long as there is room for 90 minutes more, and a disk that fills up in three hours
/// is told half-way.
const DISK_LASTING_MIN: usize = 24;
/// How straight it fills at least: below, it comes and goes.
const DISK_R2_MIN: f64 = 0.6;
/// A disk that was emptied so often comes and goes too.
const DISK_DROPS_MAX: usize = 1;

/// A metric that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Metric {
    /// One of the machine.
    Host(&'static str),
    /// What each interface receives.
    Network,
    /// Jobs that may run.
    Depth,
    /// Jobs that are done, each minute.
    Throughput,
}

/// What of the machine is watched.
const HOST: [Metric; 4] = [
    Metric::Host("server_cpu_usage_percent"),
    Metric::Host("server_memory_usage_percent"),
    Metric::Host("server_cpu_load_5min"),
    Metric::Network,
];
/// Interfaces that are no way to the outside, by the beginning of their names.
const INNER: [&str; 6] = ["lo", "veth", "docker", "br-", "virbr", "cni"];
/// The interfaces that are watched.
const DEVICES_MAX: usize = 8;
const QUEUE: [Metric; 2] = [Metric::Depth, Metric::Throughput];
/// The queues that are watched.
const QUEUES_MAX: usize = (WATCHED_MAX - HOST.len() - DEVICES_MAX) / QUEUE.len();

impl Metric {
    const fn name(self) -> &'static str {
        match self {
            Metric::Host(name) => name,
            Metric::Network => "server_network_receive_bytes_per_second",
            Metric::Depth => "queue_waiting",
            Metric::Throughput => "queue_done_total",
        }
    }

    const fn function(self) -> Function {
        match self {
            Metric::Host(_) | Metric::Network | Metric::Depth => Function::Avg,
            Metric::Throughput => Function::Increase,
        }
    }

    /// The label that tells its series apart, if it has one.
    const fn label(self) -> Option<&'static str> {
        match self {
            Metric::Host(_) => None,
            Metric::Network => Some("device"),
            Metric::Depth | Metric::Throughput => Some("queue"),
        }
    }

    /// Of what a line of an answer is, empty if it is the only one; none if somebody else wrote it.
    fn object(self, line: &Line) -> Option<Box<str>> {
        match (self.label(), line.labels.as_slice()) {
            (None, []) => Some("".into()),
            (Some(label), [(name, value)]) if name == label => Some(value.as_str().into()),
            _ => None,
        }
    }

    /// The samples of a line, by its object.
    fn samples(self, answer: &Answer, now_ms: i64) -> BTreeMap<Box<str>, Vec<Sample>> {
        let step_ms = answer.steps.step_ms;
        let samples = |line: &Line| {
            let mut samples = in_the_middle(&line.points, step_ms, now_ms);
            if self == Metric::Throughput {
                for (_, value) in &mut samples {
                    *value /= minutes(step_ms);
                }
            }
            samples
        };
        let named = |line: &Line| Some((self.object(line)?, samples(line)));
        answer.lines.iter().filter_map(named).collect()
    }
}

/// A metric of a tenant.
type Group = (TenantId, Metric);
/// What is usual, of each object of a group.
type Baselines = BTreeMap<Box<str>, Baseline>;

/// What is usual, of each object of a group.
#[derive(Clone, Debug)]
struct Learnt {
    /// When it is to be learnt again.
    due: Mono,
    usual: Arc<Baselines>,
}

/// The scores of a group.
#[derive(Clone, Debug)]
struct Scored {
    /// When they were last asked for.
    tried: Mono,
    /// When they were told.
    at: Mono,
    all: Vec<Anomaly>,
}

/// A score, and of what.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    /// Whose.
    pub tenant: TenantId,
    /// Of which series.
    pub metric: &'static str,
    /// The label that it has beside, if it has one.
    pub label: Option<(&'static str, Box<str>)>,
    /// How far from the usual.
    pub score: Score,
}

/// A queue over the last minutes.
#[derive(Clone, Debug, Default)]
struct Watched {
    totals: VecDeque<(Mono, Totals)>,
    advisor: Advisor,
}

#[derive(Debug, Default)]
struct State {
    learnt: BTreeMap<Group, Learnt>,
    scores: BTreeMap<Group, Scored>,
    /// When it was last told that something could not be learnt.
    warned_at: Option<Mono>,
    queues: BTreeMap<(TenantId, QueueName), Watched>,
}

/// What was found out.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<State>);

/// What a look at everything came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Queues.
    pub queues: usize,
    /// Series that were compared with what is usual.
    pub scored: usize,
    /// Series of which was learnt what is usual.
    pub learnt: usize,
}

impl Watch {
    /// What to do about the workers of a queue.
    pub(super) fn advice(&self, tenant: TenantId, queue: &QueueName) -> Advice {
        let state = self.0.lock();
        let watched = state.queues.get(&(tenant, queue.clone()));
        watched.map_or(Advice::Unknown, |watched| watched.advisor.advice())
    }

    /// What is usual of a queue, if that was learnt.
    pub(super) fn usual_of(
        &self,
        tenant: TenantId,
        side: Side,
        queue: &QueueName,
    ) -> Option<Baseline> {
        let what = match side {
            Side::Depth => Metric::Depth,
            Side::Throughput => Metric::Throughput,
        };
        let state = self.0.lock();
        state.learnt.get(&(tenant, what))?.usual.get(queue.as_str()).cloned()
    }

    /// Notes how each queue stands; those that are gone are forgotten.
    fn note(&self, now: Mono, views: &[(TenantId, QueueView)]) {
        let mut state = self.0.lock();
        let mut before = std::mem::take(&mut state.queues);
        for (tenant, view) in views {
            let name = (*tenant, view.name.clone());
            let mut watched = before.remove(&name).unwrap_or_default();
            watched.note(now, view);
            state.queues.insert(name, watched);
        }
    }

    /// The group that is to be learnt now: one that never was, then the one that is due for the longest time.
    fn due(&self, now: Mono, groups: &BTreeSet<Group>) -> Option<Group> {
        let mut state = self.0.lock();
        state.learnt.retain(|group, _| groups.contains(group));
        let never = groups.iter().find(|group| !state.learnt.contains_key(*group));
        let first = || state.learnt.iter().min_by_key(|(_, learnt)| learnt.due);
        let due = |(group, learnt): (&Group, &Learnt)| (learnt.due <= now).then_some(*group);
        never.copied().or_else(|| first().and_then(due))
    }

    /// What is usual of the groups of which that is known; those first that were not looked at for the longest time.
    fn usual(&self) -> Vec<(Group, Arc<Baselines>)> {
        let mut state = self.0.lock();
        let State { learnt, scores, .. } = &mut *state;
        let known = learnt.iter().filter(|(_, learnt)| !learnt.usual.is_empty());
        let mut known: Vec<_> =
            known.map(|(group, learnt)| (*group, Arc::clone(&learnt.usual))).collect();
        scores.retain(|group, _| learnt.get(group).is_some_and(|its| !its.usual.is_empty()));
        known.sort_by_key(|(group, _)| scores.get(group).map(|scored| scored.tried));
        known
    }

    /// Keeps the scores of a group; without any, that they were asked for.
    fn scored(&self, group: Group, now: Mono, all: Option<Vec<Anomaly>>) {
        let mut state = self.0.lock();
        match (all, state.scores.get_mut(&group)) {
            (Some(all), _) => drop(state.scores.insert(group, Scored { tried: now, at: now, all })),
            (None, Some(before)) => before.tried = now,
            (None, None) => {
                let none = Scored { tried: now, at: now, all: Vec::new() };
                state.scores.insert(group, none);
            }
        }
    }

    /// Keeps what is usual of a group. Where it could not be learnt, what was known stays, and the others have their turn.
    fn learnt(&self, group: Group, now: Mono, usual: Option<Baselines>) {
        let mut state = self.0.lock();
        let (usual, again) = if let Some(usual) = usual {
            (Arc::new(usual), LEARN_EVERY)
        } else {
            let before = state.learnt.get(&group).map(|learnt| Arc::clone(&learnt.usual));
            (before.unwrap_or_default(), LEARN_AGAIN)
        };
        state.learnt.insert(group, Learnt { due: now.plus(again), usual });
    }

    /// Tells people that something could not be learnt, unless they were told not long ago.
    fn warn(&self, (tenant, what): Group, now: Mono, error: &Error) {
        let mut state = self.0.lock();
        if state.warned_at.is_some_and(|at| now.since(at) < WARN_EVERY) {
            return;
        }
        state.warned_at = Some(now);
        drop(state);
        tracing::warn!(
            %tenant,
            metric = what.name(),
            %error,
            "what is usual could not be learnt, so nothing is told as out of the ordinary; it is tried again in an hour"
        );
    }
}

impl Watched {
    fn note(&mut self, now: Mono, view: &QueueView) {
        let totals = view.figures.totals;
        // A queue that was forgotten and came back counts anew.
        if self.totals.back().is_some_and(|(_, last)| totals.pushed < last.pushed) {
            self.totals.clear();
        }
        self.totals.push_back((now, totals));
        if TOTALS_KEPT < self.totals.len() {
            self.totals.pop_front();
        }
        let Some((since, first)) = self.totals.front().filter(|(at, _)| *at < now) else {
            return;
        };
        let counted = between(first, &totals, now.since(*since));
        let measured = counted.measured(view);
        let needed = capacity::capacity(&measured, target_of(view), 0).workers_needed;
        // Nothing can be said of workers that are not let at the jobs.
        let needed = needed.filter(|_| !view.settings.paused);
        self.advisor.note(needed, measured.workers);
    }
}

/// What was counted from the one moment to the other.
#[expect(clippy::cast_precision_loss, reason = "counts of a quarter of an hour")]
fn between(first: &Totals, last: &Totals, window: Duration) -> Counted {
    let grown = |of: fn(&Totals) -> u64| of(last).saturating_sub(of(first)) as f64;
    Counted {
        window,
        pushed: grown(|totals| totals.pushed),
        done: grown(|totals| totals.done),
        failed: grown(|totals| totals.failed) + grown(|totals| totals.crashed),
        given_up: grown(|totals| totals.given_up),
        worked: last.run.saturating_sub(first.run),
    }
}

/// These objects of a metric, and no others: a tenant may have more of them than a query may ask for. That they are few
/// enough follows from [`WATCHED_MAX`].
fn of_objects(what: Metric, objects: BTreeSet<Box<str>>) -> Selector {
    match what.label() {
        None => metric(what.name()),
        Some(label) => Selector::among(what.name(), label, objects),
    }
}

/// Those of which is learnt what is usual; `queues` are those of the tenant.
fn watched(what: Metric, queues: BTreeSet<Box<str>>) -> Selector {
    if what != Metric::Network {
        return of_objects(what, queues);
    }
    let inner = INNER.join("|");
    let text = format!("{}{{device!~\"({inner}).*\"}}", what.name());
    Selector::parse(&text).expect("BUG: it is a selector")
}

fn baselines(what: Metric, answer: &Answer, now_ms: i64) -> Baselines {
    if answer.steps.step_ms != HOUR_MS {
        return BTreeMap::new();
    }
    let hours = what.samples(answer, now_ms).into_iter();
    hours
        .take(if what == Metric::Network { DEVICES_MAX } else { QUEUES_MAX })
        .filter_map(|(object, hours)| Some((object, Baseline::of(&hours)?)))
        .collect()
}

/// How far each object of a group is from what is usual.
fn scores(
    asker: &Asker<'_>,
    (tenant, what): Group,
    usual: &Baselines,
    now_ms: i64,
) -> Result<Vec<Anomaly>, Error> {
    let to_ms = now_ms - now_ms.rem_euclid(MINUTE_MS);
    let range = Steps { from_ms: to_ms - RECENT_MS, to_ms, step_ms: MINUTE_MS, now_ms };
    let select = of_objects(what, usual.keys().cloned().collect());
    let answer = asker.ask(tenant, &trends::query(range, select, what.function()))?;
    let anomaly = |(object, recent): (Box<str>, Vec<Sample>)| {
        let score = anomaly::score(usual.get(&object)?, &recent, now_ms)?;
        let label = what.label().map(|label| (label, object));
        Some(Anomaly { tenant, metric: what.name(), label, score })
    };
    Ok(what.samples(&answer, now_ms).into_iter().filter_map(anomaly).collect())
}

/// When which disk will be full.
fn disks(asker: &Asker<'_>, tenant: TenantId, now_ms: i64) -> Result<Beside, Error> {
    let to_ms = now_ms - now_ms.rem_euclid(FIVE_MINUTES_MS);
    let range = Steps { from_ms: to_ms - DISK_MS, to_ms, step_ms: FIVE_MINUTES_MS, now_ms };
    let used = trends::query(range, metric("server_disk_used_bytes"), Function::Avg);
    let used = asker.ask(tenant, &used)?;
    let left = trends::query(range, metric("server_disk_available_bytes"), Function::Avg);
    let left = asker.ask(tenant, &left)?;
    let mut beside = Beside::default();
    for line in &used.lines {
        let [(name, mountpoint)] = line.labels.as_slice() else { continue };
        let Some(left) = left.lines.iter().find(|left| left.labels == line.labels) else {
            continue;
        };
        let samples = in_the_middle(&line.points, FIVE_MINUTES_MS, now_ms);
        let left = in_the_middle(&left.points, FIVE_MINUTES_MS, now_ms);
        let total = size(&samples, &left);
        let Some(total) = total.filter(|_| name == "mountpoint") else { continue };
        if samples.len() < DISK_SAMPLES_MIN {
            continue;
        }
        beside.disk_eta_known = true;
        let is_sooner =
            |hours: &f64| beside.disk_eta.as_ref().is_none_or(|(_, known)| *hours < *known);
        if let Some(hours) = hours_left(&samples, total, now_ms).filter(is_sooner) {
            beside.disk_eta = Some((mountpoint.clone(), hours));
        }
    }
    Ok(beside)
}

/// How much goes on a disk, as its last samples say: what is used, and what everybody may still use.
fn size(used: &[Sample], left: &[Sample]) -> Option<f64> {
    let ((used_at, used), (left_at, left)) = (used.last()?, left.last()?);
    let total = used + left;
    (used_at == left_at && total.is_finite()).then_some(total)
}

/// In how many hours a disk is full that goes on as it has since it last changed; none if it does not fill, as far as can
/// be told.
fn hours_left(samples: &[Sample], total: f64, now_ms: i64) -> Option<f64> {
    if DISK_DROPS_MAX < change::drops(samples) {
        return None;
    }
    let began = change::changes(samples).last().copied().unwrap_or(0);
    let samples = samples.get(began..).filter(|samples| DISK_SAMPLES_MIN <= samples.len())?;
    let fit = Fit::of(samples)?;
    let Interval { low, .. } = fit.slope_interval;
    let is_straight = fit.line.r2.is_some_and(|r2| DISK_R2_MIN <= r2);
    if low <= 0.0 || !is_straight {
        return None;
    }
    let hours = (total - fit.line.at(now_ms)) / fit.line.slope / 3600.0;
    let lasted = samples.last()?.0.abs_diff(samples.first()?.0);
    let lasted = Duration::from_millis(lasted).as_secs_f64() / 3600.0;
    let is_told = DISK_LASTING_MIN <= samples.len() || hours <= lasted;
    (hours.is_finite() && is_told).then(|| hours.max(0.0))
}

impl App {
    /// Looks at everything that is watched, on the pool; for a thread that may wait.
    pub fn watch_step(self: &Arc<Self>, now: Now) -> Result<Looked, Error> {
        let views = self.queues_watched(QUEUES_MAX);
        self.watch.note(now.mono, &views);
        let queues = views.len();
        let units = self.host_units();
        self.host_beside(Beside { units: units.clone(), ..Beside::default() }, now);
        let app = Arc::clone(self);
        let work = move |asker: &Asker<'_>| {
            let disks = app.watch_disks(asker, now, units);
            let scored = app.watch_scores(asker, now);
            disks.and(scored)
        };
        let scored = self.with_queries_waiting(QUERY_DEADLINE_MAX, work);
        // With a time of its own: it is what takes longest.
        let learnt = self.watch_learn(now, &views);
        Ok(Looked { queues, scored: scored?, learnt: learnt? })
    }

    /// The tenant that the machine belongs to.
    fn tenant_of_machine(&self) -> Option<TenantId> {
        let default = TenantName::parse(DEFAULT_TENANT).ok()?;
        self.directory.tenant(&default).map(|its| its.id)
    }

    /// Looks at the disks, and says what is known beside readings.
    fn watch_disks(&self, asker: &Asker<'_>, now: Now, units: [Units; 2]) -> Result<(), Error> {
        if let Some(tenant) = self.tenant_of_machine() {
            let disks = disks(asker, tenant, now.wall.unix_ms())?;
            self.host_beside(Beside { units, ..disks }, now);
        }
        Ok(())
    }

    /// Compares what is watched with what is usual, group by group; how many series that were, or why the first of those
    /// failed that did.
    fn watch_scores(&self, asker: &Asker<'_>, now: Now) -> Result<usize, Error> {
        let (mut count, mut result) = (0, Ok(()));
        for (group, usual) in self.watch.usual() {
            match scores(asker, group, &usual, now.wall.unix_ms()) {
                Ok(all) => {
                    count += all.len();
                    self.watch.scored(group, now.mono, Some(all));
                }
                Err(error) => {
                    self.watch.scored(group, now.mono, None);
                    let is_over = matches!(error, Error::Series(series::Error::TooLate));
                    result = result.and(Err(error));
                    if is_over {
                        break;
                    }
                }
            }
        }
        result.map(|()| count)
    }

    /// Learns what is usual of the group that is due, if one is; how many series that were.
    fn watch_learn(
        self: &Arc<Self>,
        now: Now,
        views: &[(TenantId, QueueView)],
    ) -> Result<usize, Error> {
        let machine =
            self.tenant_of_machine().into_iter().flat_map(|id| HOST.map(|what| (id, what)));
        let queues = views.iter().flat_map(|(tenant, _)| QUEUE.map(|what| (*tenant, what)));
        let groups: BTreeSet<Group> = machine.chain(queues).collect();
        let Some(group) = self.watch.due(now.mono, &groups) else { return Ok(0) };
        let (tenant, what) = group;
        let names = views.iter().filter(|(its, _)| *its == tenant);
        let select = watched(what, names.map(|(_, view)| view.name.as_str().into()).collect());
        let app = Arc::clone(self);
        let now_ms = now.wall.unix_ms();
        let work = move |asker: &Asker<'_>| {
            let weeks = trends::weeks(now_ms);
            let answer = asker.ask(tenant, &trends::query(weeks, select, what.function()));
            let usual = answer.map(|answer| baselines(what, &answer, now_ms));
            app.watch.learnt(group, now.mono, usual.as_ref().ok().cloned());
            usual.map(|usual| usual.len())
        };
        let learnt = self.with_queries_waiting(QUERY_DEADLINE_MAX, work);
        learnt.inspect_err(|error| self.watch.warn(group, now.mono, error))
    }

    /// How far what is watched is from what is usual.
    pub fn anomalies(&self) -> Vec<Anomaly> {
        let now = self.clock.mono();
        let state = self.watch.0.lock();
        let fresh = state.scores.values().filter(|scored| now.since(scored.at) <= TOLD_FOR);
        fresh.flat_map(|scored| scored.all.clone()).collect()
    }
}

/// Gives it a thread.
pub(super) fn hire(app: &Arc<App>, workers: &Workers) -> Result<(), HireError> {
    workers.hire(Box::new(Watcher(Arc::clone(app))))?;
    Ok(())
}

struct Watcher(Arc<App>);

impl Worker for Watcher {
    fn name(&self) -> &'static str {
        "watch"
    }

    fn step(&mut self, now: Now) -> Next {
        match self.0.watch_step(now) {
            Ok(looked) => {
                tracing::debug!(?looked, "what is watched was looked at");
                Next::At(now.mono.plus(WATCH_EVERY))
            }
            Err(error) => {
                tracing::debug!(%error, "not all that is watched was looked at; it is tried again");
                Next::At(now.mono.plus(LATER))
            }
        }
    }
}

#[cfg(test)]
mod tests;
