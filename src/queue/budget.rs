//! The retry budget of one type of job in one queue: an outage must not become a storm of retries.
//!
//! ```text
//!            20 ended in the last minute, more than half of them failed
//!   free  ------------------------------------------------------------->  throttled: one probe a second
//!     ^                                                                       |
//!     +-----------  three successes in a row; the minute is forgotten  -------+
//! ```
//!
//! Every attempt that ends while throttled counts, not the probes alone: those that were under way when
//! the throttle came say the same about the world. The minute is counted in slots of 5 s, so that it is
//! between 55 and 60 s long.

use std::time::Duration;

use crate::base::time::Mono;

/// Fewer than this say nothing about a type.
const ENDED_MIN: u32 = 20;
/// So many successes in a row end a throttle.
const SUCCESSES: u32 = 3;
/// The distance of probes.
const PROBE_EVERY: Duration = Duration::from_secs(1);

const SLOTS: usize = 12;
const SLOT_NS: u64 = 5_000_000_000;

/// Whether a job of the type may be let out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// As many as anybody wants.
    Free,
    /// One; then [`Budget::took_probe`] has to be said.
    Probe,
    /// None before this.
    NotBefore(Mono),
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    ended: u32,
    failed: u32,
}

#[derive(Clone, Copy, Debug)]
struct Throttle {
    /// The next probe may go then.
    probe_at: Mono,
    successes: u32,
}

/// What the last minute was like, and what follows from it.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    slots: [Slot; SLOTS],
    /// The number of the newest slot since the clock began.
    newest: u64,
    throttle: Option<Throttle>,
}

impl Budget {
    /// One that is free.
    pub fn new() -> Budget {
        Budget::default()
    }

    /// An attempt ended, well or not. Releases and cancellations are no answer and not told here.
    pub fn ended(&mut self, now: Mono, failed: bool) {
        match &mut self.throttle {
            Some(throttle) if failed => throttle.successes = 0,
            Some(throttle) => {
                throttle.successes += 1;
                if SUCCESSES <= throttle.successes {
                    *self = Budget::new();
                }
            }
            None => self.count(now, failed),
        }
    }

    /// Whether a job may be let out now.
    pub fn admits(&self, now: Mono) -> Admission {
        match self.throttle {
            None => Admission::Free,
            Some(throttle) if throttle.probe_at <= now => Admission::Probe,
            Some(throttle) => Admission::NotBefore(throttle.probe_at),
        }
    }

    /// The probe of [`Admission::Probe`] was let out; the next one follows in a second.
    pub fn took_probe(&mut self, now: Mono) {
        if let Some(throttle) = &mut self.throttle {
            throttle.probe_at = now.plus(PROBE_EVERY);
        }
    }

    /// Whether only probes are let out.
    pub const fn is_throttled(&self) -> bool {
        self.throttle.is_some()
    }

    fn count(&mut self, now: Mono, failed: bool) {
        self.turn(now);
        // A reading of the clock that comes late counts as of the newest one.
        let slot = &mut self.slots[place(self.newest)];
        slot.ended = slot.ended.saturating_add(1);
        slot.failed = slot.failed.saturating_add(u32::from(failed));

        let sum =
            |part: fn(&Slot) -> u32| self.slots.iter().map(|slot| u64::from(part(slot))).sum();
        let (ended, failed): (u64, u64) = (sum(|slot| slot.ended), sum(|slot| slot.failed));
        if u64::from(ENDED_MIN) <= ended && ended < failed * 2 {
            // Whoever asks next may probe: a minute of failures can be over at its end.
            self.throttle = Some(Throttle { probe_at: now, successes: 0 });
        }
    }

    /// Empties the slots that are over.
    fn turn(&mut self, now: Mono) {
        let current = now.ns() / SLOT_NS;
        let passed = current.saturating_sub(self.newest).min(SLOTS as u64);
        for ago in 0..passed {
            self.slots[place(current - ago)] = Slot::default();
        }
        self.newest = self.newest.max(current);
    }
}

fn place(slot: u64) -> usize {
    usize::try_from(slot % SLOTS as u64).expect("BUG: it is below the number of slots")
}

#[cfg(test)]
mod tests {
    use super::{Admission, Budget};
    use crate::base::rng::Rng;
    use crate::base::time::Mono;
    use crate::testing::seeds;
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    fn at(ms: u64) -> Mono {
        Mono::from_ns(ms * 1_000_000)
    }

    fn after(ended: &[(u64, bool)]) -> Budget {
        let mut budget = Budget::new();
        for &(ms, failed) in ended {
            budget.ended(at(ms), failed);
        }
        budget
    }

    #[test]
    fn twenty_in_a_minute_of_which_more_than_half_failed_are_too_many() {
        let mixed = |failed: u64, all: u64| {
            after(&(0..all).map(|n| (n * 100, n < failed)).collect::<Vec<_>>()).is_throttled()
        };
        assert!(!mixed(19, 19), "too few to tell");
        assert!(mixed(20, 20));
        assert!(!mixed(10, 20), "half of them is not more than half");
        assert!(mixed(11, 20));
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let mut failures: Vec<(u64, bool)> = (0..19).map(|n| (n, true)).collect();
        failures.push((59_999, true));
        assert!(after(&failures).is_throttled());
        failures[19].0 = 60_000;
        assert!(!after(&failures).is_throttled());
        failures[19].0 = 10_000_000;
        assert!(!after(&failures).is_throttled());
    }

    #[test]
    fn a_throttled_type_lets_out_one_probe_a_second() {
        let mut budget = after(&[(7, true); 20]);
        assert_eq!(budget.admits(at(7)), Admission::Probe, "it may be over already");
        assert_eq!(budget.admits(at(7)), Admission::Probe, "asking is not taking");
        budget.took_probe(at(8));
        assert_eq!(budget.admits(at(8)), Admission::NotBefore(at(1008)));
        assert_eq!(budget.admits(at(1007)), Admission::NotBefore(at(1008)));
        assert_eq!(budget.admits(at(1008)), Admission::Probe);
        assert_eq!(budget.admits(at(90_000)), Admission::Probe, "also after a silence");
    }

    #[test]
    fn three_successes_in_a_row_free_it_and_the_minute_is_forgotten() {
        let mut budget = after(&[(7, true); 20]);
        for failed in [false, false, true, false, false] {
            budget.ended(at(1000), failed);
            assert!(budget.is_throttled());
        }
        budget.ended(at(1001), false);
        assert_eq!(budget.admits(at(1001)), Admission::Free);
        for _ in 0..19 {
            budget.ended(at(1002), true);
        }
        assert!(!budget.is_throttled(), "twenty are needed again");
        budget.ended(at(1003), true);
        assert!(budget.is_throttled());
    }

    #[test]
    fn a_reading_of_the_clock_that_comes_late_counts_and_breaks_nothing() {
        let mut budget = after(&[(100_000, true); 19]);
        budget.ended(at(30_000), true);
        assert!(budget.is_throttled());
    }

    #[test]
    fn it_is_throttled_exactly_when_a_list_of_what_ended_says_so() {
        let mut throttled = 0;
        for seed in seeds(300) {
            let mut rng = Rng::from_seed(seed);
            let (mut budget, mut list, mut now) = (Budget::new(), Vec::new(), 0);
            let (pace, bad) = (1 + rng.below(6000), rng.below(100));
            for step in 0..200 {
                now += rng.below(pace);
                let failed = rng.below(100) < bad;
                budget.ended(at(now), failed);
                list.push((now / 5000, failed));
                let minute = list.iter().filter(|(slot, _)| now / 5000 < slot + 12);
                let ended = minute.clone().count();
                let expected = 20 <= ended && ended < 2 * minute.filter(|(_, bad)| *bad).count();
                assert_eq!(budget.is_throttled(), expected, "seed={seed} step={step}");
                if expected {
                    throttled += 1;
                    break;
                }
            }
        }
        assert!(seeds(2).len() < 2 || 50 < throttled, "only {throttled} were throttled");
    }

    /// Ten thousand jobs that each take some time and are retried at once when they fail; workers take
    /// as many as they get. Gives the starts per second.
    struct World {
        budget: Budget,
        rng: Rng,
        now: u64,
        running: BinaryHeap<Reverse<(u64, bool)>>,
        starts: Vec<u64>,
    }

    impl World {
        const WORKERS: usize = 40;

        /// Runs until `until` ms while attempts fail or not.
        fn run(&mut self, until: u64, broken: bool) {
            while self.now < until {
                while let Some(Reverse((end, failed))) = self.running.peek().copied()
                    && end <= self.now
                {
                    self.running.pop();
                    self.budget.ended(at(end), failed);
                }
                self.start(broken);
                self.now += 10;
            }
        }

        fn start(&mut self, broken: bool) {
            while self.running.len() < World::WORKERS {
                match self.budget.admits(at(self.now)) {
                    Admission::NotBefore(next) => return assert!(at(self.now) < next),
                    Admission::Probe => self.budget.took_probe(at(self.now)),
                    Admission::Free => {}
                }
                let end = self.now + 20 + self.rng.below(180);
                self.running.push(Reverse((end, broken)));
                self.starts[usize::try_from(self.now / 1000).unwrap()] += 1;
            }
        }
    }

    #[test]
    fn an_hour_of_outage_costs_about_an_attempt_a_second_and_is_over_within_seconds() {
        for seed in seeds(5) {
            let mut world = World {
                budget: Budget::new(),
                rng: Rng::from_seed(seed),
                now: 0,
                running: BinaryHeap::new(),
                starts: vec![0; 3800],
            };
            world.run(120_000, false);
            assert!(!world.budget.is_throttled(), "seed={seed}: all is well");
            world.run(3_720_000, true);
            let outage: u64 = world.starts[180..3720].iter().sum();
            assert!((3400..=3541).contains(&outage), "seed={seed}: {outage} attempts");
            assert!(world.starts[180..3720].iter().all(|&n| n <= 2), "seed={seed}: a storm");
            world.run(3_725_000, false);
            assert!(!world.budget.is_throttled(), "seed={seed}: still throttled after 5 s");
            world.run(3_740_000, false);
            let healthy = world.starts[3739];
            assert!(200 < healthy, "seed={seed}: {healthy} in a second when all is well again");
        }
    }
}
