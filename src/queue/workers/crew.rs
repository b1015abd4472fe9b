//! What the workers of a tenant come to: how they stand, and how much of their time they worked.
//!
//! Time is counted, and only grows, so that the part of any interval in which they worked is a difference of two
//! moments. A worker that says both how long it worked and how long it waited is believed, but no worker has more time
//! than passed. Of one that says one of them or none, each look ([`Workers::tick`]) finds out whether it has a job, and the
//! time since the look before counts as that: at most [`WORKER_STALE`] of it, since nobody knows what happened in between.
//! A worker that was seen with several jobs at a time has as many places, for as long as it is known.
//! A server that stands still for longer than that, and does not look, loses the rest of the time of those workers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Beat, Known, Standing, WorkerId, WorkerState, Workers};
use crate::base::id::TenantId;
use crate::base::limits::WORKER_STALE;
use crate::base::time::{Mono, Now};

/// Time of workers, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// In which they had a job.
    pub busy: Duration,
    /// In which they had none.
    pub idle: Duration,
}

impl Time {
    fn add(&mut self, more: Time) {
        self.busy = self.busy.saturating_add(more.busy);
        self.idle = self.idle.saturating_add(more.idle);
    }

    /// This stretch of time, in the same parts as these milliseconds, unless they are less.
    fn within(passed: Duration, busy_ms: u64, idle_ms: u64) -> Time {
        let said = u128::from(busy_ms) + u128::from(idle_ms);
        let passed_ns = passed.as_nanos();
        if said * 1_000_000 <= passed_ns {
            return Time {
                busy: Duration::from_millis(busy_ms),
                idle: Duration::from_millis(idle_ms),
            };
        }
        let passed_ns = passed_ns.min(u128::from(u64::MAX));
        let part = |ms: u64| u64::try_from(passed_ns * u128::from(ms) / said).unwrap_or(u64::MAX);
        Time {
            busy: Duration::from_nanos(part(busy_ms)),
            idle: Duration::from_nanos(part(idle_ms)),
        }
    }
}

/// The workers of a tenant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Crew {
    /// How many there are, by how they stand; those who said nothing yet are idle.
    pub states: BTreeMap<&'static str, usize>,
    /// How their time was spent.
    pub time: Time,
    /// Memory that one takes: the mean of those who are there and say so.
    pub memory_bytes: Option<f64>,
    /// The part of one processor that one takes, the mean likewise.
    pub cpu_percent: Option<f64>,
}

impl Crew {
    /// Nobody, and every way to stand.
    pub fn of_nobody() -> Crew {
        let alive = WorkerState::ALL.map(|state| Standing::Alive(Some(state)));
        let standings = alive.into_iter().chain([Standing::Stale, Standing::Gone]);
        let states = standings.map(|standing| (standing.as_str(false), 0)).collect();
        Crew { states, ..Crew::default() }
    }
}

/// A mean in the making.
#[derive(Clone, Copy, Default)]
struct Mean {
    count: u32,
    mean: f64,
}

impl Mean {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            self.count = self.count.saturating_add(1);
            self.mean += (value - self.mean) / f64::from(self.count);
        }
    }

    fn get(self) -> Option<f64> {
        (0 < self.count).then_some(self.mean)
    }
}

impl Known {
    /// The time between what it said last and what it says now. As long as both stand still they say nothing: many
    /// count a job when it is over. One of the two says nothing either: some count only what is over, some only what they
    /// wait for the network, and what is left of the time may be anything.
    pub(super) fn told_time(&mut self, beat: &Beat, now: Mono) -> Time {
        match (beat.busy_ms, beat.idle_ms) {
            (None, None) => return Time::default(),
            (busy, idle) => self.says_time = busy.is_some() && idle.is_some(),
        }
        if !self.says_time {
            return Time::default();
        }
        let passed = now.since(self.counted_until);
        let grown = |before: Option<u64>, after: Option<u64>| match (before, after) {
            (Some(before), Some(after)) => Some(after.checked_sub(before).unwrap_or(after)),
            _ => None,
        };
        let busy = grown(self.said.busy_ms, beat.busy_ms);
        let idle = grown(self.said.idle_ms, beat.idle_ms);
        let time = match (busy, idle) {
            (Some(0), Some(0)) => return Time::default(),
            (Some(busy), Some(idle)) => Time::within(passed, busy, idle),
            // What it did before it first said both belongs to no interval that is known.
            (_, None) | (None, _) => Time::default(),
        };
        self.counted_until = now;
        time
    }
}

impl Workers {
    pub(super) fn count_time(&mut self, tenant: TenantId, time: Time) {
        if time != Time::default() {
            self.time.entry(tenant).or_default().add(time);
        }
    }

    /// Counts the time since the last look of those who do not say how they spend it. One that has a job is at work,
    /// also when it is not heard of; one that has none and is not heard of is not there.
    pub fn tick(&mut self, now: Now, jobs_held: &dyn Fn(TenantId, &WorkerId) -> usize) {
        let Workers { known, time, .. } = self;
        for (tenant, of_tenant) in known {
            let mut all = Time::default();
            for (id, known) in of_tenant {
                let held = jobs_held(*tenant, id);
                known.places = known.places.max(held);
                if known.says_time {
                    continue;
                }
                let passed = now.mono.since(known.counted_until).min(WORKER_STALE);
                known.counted_until = now.mono;
                if 0 < held {
                    all.add(Time { busy: passed, idle: Duration::ZERO });
                } else if known.place.alive && !known.is_stale(now) {
                    all.add(Time { busy: Duration::ZERO, idle: passed });
                }
            }
            if all != Time::default() {
                time.entry(*tenant).or_default().add(all);
            }
        }
    }

    /// The workers of each tenant that has any, or had since the start.
    pub fn crews(&self, now: Now) -> BTreeMap<TenantId, Crew> {
        let mut crews: BTreeMap<TenantId, Crew> = BTreeMap::new();
        for (tenant, time) in &self.time {
            crews.insert(*tenant, Crew { time: *time, ..Crew::of_nobody() });
        }
        for (tenant, of_tenant) in &self.known {
            let crew = crews.entry(*tenant).or_insert_with(Crew::of_nobody);
            let (mut memory, mut cpu) = (Mean::default(), Mean::default());
            for known in of_tenant.values() {
                let standing = known.standing(now);
                *crew.states.entry(standing.as_str(false)).or_default() += 1;
                if let Standing::Alive(_) = standing {
                    #[expect(clippy::cast_precision_loss, reason = "a mean of many")]
                    memory.add(known.said.rss_bytes.map(|bytes| bytes as f64));
                    cpu.add(known.said.cpu_percent);
                }
            }
            (crew.memory_bytes, crew.cpu_percent) = (memory.get(), cpu.get());
        }
        crews
    }
}

#[cfg(test)]
mod tests;
