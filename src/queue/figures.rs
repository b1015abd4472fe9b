//! What is counted of a queue, and of each type of job in it, in bounded memory.
//!
//! Totals count from the start of the process. The rest looks back, in slots of time:
//!
//! | figure | looks back | slots | so the stretch is |
//! |---|---|---|---|
//! | rates per minute | 60 s | 5 s | 60 s: of the oldest slot the part counts that still lies in it |
//! | failure rate | 15 min | 1 min | 15 to 16 min |
//! | percentiles | 15 min | 5 min | 15 to 20 min |
//!
//! Times are kept in a histogram: milliseconds up to 5 exactly, from there on in classes that each reach a
//! fifth beyond the last, up to 30 days. A percentile is told within 10 % of the value it stands for.
//!
//! **Memory.** Totals and a pointer, 104 bytes, as long as nothing happened. The first event allocates the
//! slots of the counts, 600 bytes, and each slot of a histogram takes 4 bytes for every class between the
//! shortest and the longest time in it. A queue whose jobs wait and run between 1 ms and 10 s needs
//! about 2.3 KB, and none more than 4.5 KB. What is over gives its memory back: when anything is counted or
//! told 20 min after the last event, only the totals are left.

use std::time::Duration;

use crate::base::time::Mono;

/// How an attempt ended; or that its job was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It went well.
    Done,
    /// In an error.
    Failed,
    /// Without a word.
    Crashed,
    /// Somebody put it back. Says nothing about how such jobs fare: it is in the totals alone.
    Released,
    /// Nobody wants it any more. In the totals alone.
    Cancelled,
    /// No attempt: the job of an attempt that is told besides was given up. In the totals alone.
    GivenUp,
}

/// The time within which half, 95 % and 99 % of all stay, in milliseconds; nothing when there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// Half of them.
    pub p50: Option<u64>,
    /// 95 of 100.
    pub p95: Option<u64>,
    /// 99 of 100.
    pub p99: Option<u64>,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Jobs that were pushed.
    pub pushed: u64,
    /// Attempts that were started.
    pub started: u64,
    /// Attempts that went well.
    pub done: u64,
    /// Attempts that ended in an error.
    pub failed: u64,
    /// Attempts that ended without a word.
    pub crashed: u64,
    /// Attempts that were put back.
    pub released: u64,
    /// Attempts of jobs that were cancelled.
    pub cancelled: u64,
    /// Jobs that were given up.
    pub given_up: u64,
    /// How long the attempts took that were done, failed or crashed, taken together.
    pub run: Duration,
    /// How long the jobs waited that were started, taken together.
    pub wait: Duration,
}

impl Totals {
    /// How long an attempt takes; nothing when none has ended.
    pub fn mean_run(&self) -> Option<Duration> {
        mean(self.run, self.done + self.failed + self.crashed)
    }

    /// How long a job waits; nothing when none was started.
    pub fn mean_wait(&self) -> Option<Duration> {
        mean(self.wait, self.started)
    }
}

fn mean(all: Duration, count: u64) -> Option<Duration> {
    let ns = all.as_nanos().checked_div(u128::from(count))?;
    Some(Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX)))
}

/// What can be said of a queue or a type now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Told {
    /// Jobs pushed in the last minute.
    pub pushed_per_minute: f64,
    /// Attempts that went well in the last minute.
    pub done_per_minute: f64,
    /// Attempts that failed or crashed in the last minute.
    pub failed_per_minute: f64,
    /// Failed and crashed attempts, of those that were done, failed or crashed in the last 15 minutes: 0 to
    /// 1, nothing when there were none.
    pub failure_rate: Option<f64>,
    /// How long jobs waited that were started in the last 15 minutes.
    pub wait_ms: Percentiles,
    /// How long the attempts took that were done, failed or crashed in the last 15 minutes.
    pub run_ms: Percentiles,
    /// Since the start.
    pub totals: Totals,
}

/// The counters of one queue, or of one type in it.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    totals: Totals,
    recent: Option<Box<Recent>>,
}

/// What the slots hold. The clock of all of them is the latest moment that was heard of.
#[derive(Clone, Debug, Default)]
struct Recent {
    latest: Mono,
    /// The latest event: to be asked is none, or whoever looks often would keep everything alive.
    event_at: Mono,
    minute: Ring<Minute, 13>,
    answers: Ring<Answers, 16>,
    wait: Ring<Histogram, 4>,
    run: Ring<Histogram, 4>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    pushed: u32,
    done: u32,
    failed: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    all: u32,
    failed: u32,
}

const MINUTE_SLOT: Duration = Duration::from_secs(5);
const ANSWERS_SLOT: Duration = Duration::from_mins(1);
const TIMES_SLOT: Duration = Duration::from_mins(5);
/// After so long without an event, nothing of it is left in any slot.
const ALL_OVER: Duration = Duration::from_mins(20);

impl Figures {
    /// Nothing happened yet.
    pub fn new() -> Figures {
        Figures::default()
    }

    /// `n` jobs were pushed.
    pub fn pushed(&mut self, now: Mono, n: u64) {
        self.totals.pushed += n;
        let recent = self.recent(now);
        let pushed = &mut recent.minute.slot(recent.latest, MINUTE_SLOT).pushed;
        *pushed = pushed.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
    }

    /// An attempt was started, of a job that had been ready for `wait`.
    pub fn started(&mut self, now: Mono, wait: Duration) {
        self.totals.started += 1;
        self.totals.wait = self.totals.wait.saturating_add(wait);
        let recent = self.recent(now);
        recent.wait.slot(recent.latest, TIMES_SLOT).count(wait);
    }

    /// An attempt ended after `run`, or its job was given up.
    pub fn ended(&mut self, now: Mono, how: Ended, run: Duration) {
        let (total, failed) = match how {
            Ended::Done => (&mut self.totals.done, Some(false)),
            Ended::Failed => (&mut self.totals.failed, Some(true)),
            Ended::Crashed => (&mut self.totals.crashed, Some(true)),
            Ended::Released => (&mut self.totals.released, None),
            Ended::Cancelled => (&mut self.totals.cancelled, None),
            Ended::GivenUp => (&mut self.totals.given_up, None),
        };
        *total += 1;
        if let Some(failed) = failed {
            self.answered(now, failed, run);
        }
    }

    fn answered(&mut self, now: Mono, failed: bool, run: Duration) {
        self.totals.run = self.totals.run.saturating_add(run);
        let recent = self.recent(now);
        let minute = recent.minute.slot(recent.latest, MINUTE_SLOT);
        let count = if failed { &mut minute.failed } else { &mut minute.done };
        *count = count.saturating_add(1);
        let answers = recent.answers.slot(recent.latest, ANSWERS_SLOT);
        answers.all = answers.all.saturating_add(1);
        answers.failed = answers.failed.saturating_add(u32::from(failed));
        recent.run.slot(recent.latest, TIMES_SLOT).count(run);
    }

    /// What can be said now. Memory of what is over is given back.
    pub fn told(&mut self, now: Mono) -> Told {
        self.forget(now);
        let mut told = Told { totals: self.totals, ..Told::default() };
        if let Some(recent) = &mut self.recent {
            recent.latest = recent.latest.max(now);
            let now = recent.latest;
            recent.tell(now, &mut told);
        }
        told
    }

    fn recent(&mut self, now: Mono) -> &mut Recent {
        self.forget(now);
        let recent = self.recent.get_or_insert_default();
        // A reading of the clock that comes late counts as of the latest one.
        recent.latest = recent.latest.max(now);
        recent.event_at = recent.latest;
        recent
    }

    fn forget(&mut self, now: Mono) {
        if self.recent.as_ref().is_some_and(|recent| ALL_OVER <= now.since(recent.event_at)) {
            self.recent = None;
        }
    }

    /// Bytes of memory, those of this value included.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let histograms = self.recent.iter().flat_map(|recent| {
            recent.wait.slots.iter().chain(&recent.run.slots).map(Histogram::bytes)
        });
        let recent = self.recent.as_ref().map_or(0, |_| size_of::<Recent>());
        size_of::<Figures>() + recent + histograms.sum::<usize>()
    }
}

impl Recent {
    fn tell(&mut self, now: Mono, told: &mut Told) {
        // The slot that is being filled has lasted for a part of its time; of the oldest the rest counts.
        let filled_ns = now.ns() % slot_ns(MINUTE_SLOT);
        let oldest = 1.0 - part(filled_ns, slot_ns(MINUTE_SLOT));
        for (ago, minute) in self.minute.newest_first(now, MINUTE_SLOT).enumerate() {
            let weight = if ago == 12 { oldest } else { 1.0 };
            told.pushed_per_minute += weight * f64::from(minute.pushed);
            told.done_per_minute += weight * f64::from(minute.done);
            told.failed_per_minute += weight * f64::from(minute.failed);
        }
        let (mut all, mut failed) = (0, 0);
        for answers in self.answers.newest_first(now, ANSWERS_SLOT) {
            all += u64::from(answers.all);
            failed += u64::from(answers.failed);
        }
        told.failure_rate = (0 < all).then(|| part(failed, all));
        told.wait_ms = percentiles(self.wait.newest_first(now, TIMES_SLOT));
        told.run_ms = percentiles(self.run.newest_first(now, TIMES_SLOT));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio, not a count")]
fn part(some: u64, all: u64) -> f64 {
    some as f64 / all as f64
}

/// The last `N` slots of time, the one that is being filled included.
#[derive(Clone, Debug)]
struct Ring<T, const N: usize> {
    slots: [T; N],
    /// The number of the newest slot since the clock began.
    newest: u64,
}

impl<T: Default, const N: usize> Default for Ring<T, N> {
    fn default() -> Ring<T, N> {
        Ring { slots: std::array::from_fn(|_| T::default()), newest: 0 }
    }
}

impl<T: Default, const N: usize> Ring<T, N> {
    /// The slot of `now`, which is not before any that was asked for.
    fn slot(&mut self, now: Mono, length: Duration) -> &mut T {
        self.turn(now, length);
        &mut self.slots[Self::place(self.newest)]
    }

    fn newest_first(&mut self, now: Mono, length: Duration) -> impl Iterator<Item = &T> {
        self.turn(now, length);
        let (older, newer) = self.slots.split_at(Self::place(self.newest) + 1);
        older.iter().rev().chain(newer.iter().rev())
    }

    /// Empties the slots that are over.
    fn turn(&mut self, now: Mono, length: Duration) {
        let current = now.ns() / slot_ns(length);
        let passed = current.saturating_sub(self.newest).min(N as u64);
        for ago in 0..passed {
            self.slots[Self::place(current - ago)] = T::default();
        }
        self.newest = self.newest.max(current);
    }

    fn place(slot: u64) -> usize {
        usize::try_from(slot % N as u64).expect("BUG: it is below the number of slots")
    }
}

fn slot_ns(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).expect("BUG: a slot is a few minutes long")
}

/// How many times fell into each class; only the stretch of classes that occur takes memory.
#[derive(Clone, Debug, Default)]
struct Histogram {
    /// The class of the first count.
    first: usize,
    counts: Vec<u32>,
}

const CLASSES: usize = 119;

/// The least time of each class, in milliseconds. The last one takes all that is longer.
const LEAST_MS: [u64; CLASSES] = {
    let mut least = [0; CLASSES];
    let mut class = 1;
    while class < CLASSES {
        let before = least[class - 1];
        least[class] = if before < 10 { before + 1 } else { before + before / 5 };
        class += 1;
    }
    least
};

// Attempts of 30 days still have a class.
const _: () = assert!(30 * 86_400_000 < LEAST_MS[CLASSES - 1]);

impl Histogram {
    fn count(&mut self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let class = LEAST_MS.partition_point(|least| *least <= ms) - 1;
        let place = self.make_room(class);
        self.counts[place] = self.counts[place].saturating_add(1);
    }

    /// The place of the count of a class.
    fn make_room(&mut self, class: usize) -> usize {
        if self.counts.is_empty() {
            self.first = class;
        }
        if class < self.first {
            let more = self.first - class;
            self.counts.reserve_exact(more);
            self.counts.splice(..0, std::iter::repeat_n(0, more));
            self.first = class;
        }
        let place = class - self.first;
        if self.counts.len() <= place {
            self.counts.reserve_exact(place + 1 - self.counts.len());
            self.counts.resize(place + 1, 0);
        }
        place
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.counts.capacity() * size_of::<u32>()
    }
}

/// The percentiles of all that is in some histograms.
fn percentiles<'h>(histograms: impl Iterator<Item = &'h Histogram>) -> Percentiles {
    let mut counts = [0_u64; CLASSES];
    for histogram in histograms {
        for (place, count) in histogram.counts.iter().enumerate() {
            counts[histogram.first + place] += u64::from(*count);
        }
    }
    let all: u64 = counts.iter().sum();
    let within = |percent: u64| {
        // The smallest time that is not shorter than so many of them.
        let rank = (all * percent).div_ceil(100).max(1);
        let mut below = 0;
        counts.iter().position(|count| {
            below += count;
            rank <= below
        })
    };
    let told = |percent| within(percent).map(middle_ms);
    Percentiles { p50: told(50), p95: told(95), p99: told(99) }
}

/// The time that is as far, in parts of itself, from the shortest of a class as from its longest.
fn middle_ms(class: usize) -> u64 {
    let least = LEAST_MS[class];
    let most = LEAST_MS.get(class + 1).map_or(least, |next| next - 1);
    // The harmonic mean, rounded; nothing lies between 0 and 0.
    (2 * least * most + u64::midpoint(least, most)).checked_div(least + most).unwrap_or(0)
}

#[cfg(test)]
mod tests;
