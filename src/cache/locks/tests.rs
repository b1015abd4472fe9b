//! Locks beside a naive model, through lost commits, reopenings and restarts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::{Error, Held, Locks, Owner, Taken, Ttl, Which};
use crate::base::id::TenantId;
use crate::base::limits::{LOCK_TTL_MAX, LOCK_TTL_MIN, LOCKS_MAX};
use crate::base::name::LockName;
use crate::base::rng::Rng;
use crate::base::time::{Mono, Now, Timestamp};
use crate::store::{Engine, Opening, Table, Write};
use crate::testing::batches::{Fate, Kind, Operation, batch};
use crate::testing::seeds;

fn which(number: usize) -> Which {
    let name = LockName::parse(["a", "b", "c"][number % 3]).unwrap();
    Which { tenant: TenantId::from_raw(1 + number as u64 / 3), name }
}

fn owner(number: usize) -> Owner {
    Owner::parse(["anne", "ben", "carl"][number]).unwrap()
}

fn ttl(ms: u64) -> Ttl {
    Ttl::new(Duration::from_millis(ms)).unwrap()
}

fn at(mono_ms: u64, wall_ms: i64) -> Now {
    let wall = Timestamp::from_unix_ms(1_700_000_000_000 + wall_ms).unwrap();
    Now { wall, mono: Mono::from_ns(mono_ms * 1_000_000) }
}

#[derive(Clone, Debug)]
enum Call {
    Take(usize, usize, u64),
    Refresh(usize, usize, u64),
    Release(usize, Option<usize>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Taken { fence: u64, again: bool },
    Refreshed { fence: u64 },
    Released,
    Held { ms: u64 },
    Unknown,
}

/// What the model knows of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    owner: usize,
    fence: u64,
    until: Mono,
    expires_at: Timestamp,
}

#[derive(Clone, Debug, Default)]
struct Model {
    held: BTreeMap<usize, Entry>,
    number: u64,
}

impl Model {
    fn holds(&self, lock: usize, now: Now) -> Option<&Entry> {
        self.held.get(&lock).filter(|entry| now.mono < entry.until)
    }

    fn others(&self, lock: usize, by: usize, now: Now) -> Option<Said> {
        let entry = self.holds(lock, now)?;
        let ms = u64::try_from(entry.until.since(now.mono).as_millis()).unwrap();
        (entry.owner != by).then_some(Said::Held { ms })
    }

    fn call(&mut self, call: &Call, now: Now) -> Said {
        match *call {
            Call::Take(lock, by, ms) => {
                if let Some(held) = self.others(lock, by, now) {
                    return held;
                }
                self.number += 1;
                let old = self.holds(lock, now).map(|entry| entry.fence);
                let fence = old.unwrap_or(self.number);
                self.hold(lock, by, fence, (now, ms));
                Said::Taken { fence, again: old.is_some() }
            }
            Call::Refresh(lock, by, ms) => {
                if let Some(held) = self.others(lock, by, now) {
                    return held;
                }
                let Some(fence) = self.holds(lock, now).map(|entry| entry.fence) else {
                    return Said::Unknown;
                };
                self.number += 1;
                self.hold(lock, by, fence, (now, ms));
                Said::Refreshed { fence }
            }
            Call::Release(lock, by) => {
                if let Some(held) = by.and_then(|by| self.others(lock, by, now)) {
                    return held;
                }
                if self.holds(lock, now).is_none() {
                    return Said::Unknown;
                }
                self.held.remove(&lock);
                Said::Released
            }
        }
    }

    fn hold(&mut self, lock: usize, owner: usize, fence: u64, (now, ms): (Now, u64)) {
        let ttl = Duration::from_millis(ms);
        let entry =
            Entry { owner, fence, until: now.mono.plus(ttl), expires_at: now.wall.plus(ttl) };
        self.held.insert(lock, entry);
    }

    /// What is left after a start.
    fn restart(&mut self, now: Now) {
        for entry in self.held.values_mut() {
            let left = entry.expires_at.since(now.wall).min(LOCK_TTL_MAX);
            entry.until = now.mono.plus(left);
        }
    }
}

fn said(result: Result<Said, Error>) -> Said {
    match result {
        Ok(said) => said,
        Err(Error::Held { retry_after }) => {
            Said::Held { ms: u64::try_from(retry_after.as_millis()).unwrap() }
        }
        Err(Error::Unknown) => Said::Unknown,
        Err(error) => panic!("{error:?}"),
    }
}

/// What memory has to follow when a call was committed.
enum Follow {
    Hold(usize, Held),
    Drop(usize, u64),
}

fn run(tx: &mut dyn Write, locks: &Locks, now: Now, call: &Call) -> (Said, Option<Follow>) {
    let mut follow = None;
    let result = match *call {
        Call::Take(lock, by, ms) => {
            super::take(tx, locks, now, &which(lock), (&owner(by), ttl(ms))).map(|taken| {
                let Taken { held, again } = taken;
                let fence = held.fence;
                follow = Some(Follow::Hold(lock, held));
                Said::Taken { fence, again }
            })
        }
        Call::Refresh(lock, by, ms) => {
            super::refresh(tx, locks, now, &which(lock), (&owner(by), ttl(ms))).map(|held| {
                let fence = held.fence;
                follow = Some(Follow::Hold(lock, held));
                Said::Refreshed { fence }
            })
        }
        Call::Release(lock, by) => {
            let by = by.map(owner);
            super::release(tx, locks, now, &which(lock), by.as_ref()).map(|stamp| {
                follow = Some(Follow::Drop(lock, stamp));
                Said::Released
            })
        }
    };
    (said(result), follow)
}

fn random_call(rng: &mut Rng) -> Call {
    let (lock, by) = (rng.index(6), rng.index(3));
    let ms = [100, 150, 1_000, 60_000, 7 * 24 * 3_600_000][rng.index(5)];
    match rng.below(6) {
        0..3 => Call::Take(lock, by, ms),
        3 => Call::Refresh(lock, by, ms),
        4 => Call::Release(lock, Some(by)),
        _ => Call::Release(lock, rng.one_in(4).then_some(by)),
    }
}

fn compare(locks: &Locks, model: &Model, now: Now, context: &str) {
    for lock in 0..6 {
        let held = locks.held(now.mono, &which(lock)).map(|held| {
            let by = (0..3).find(|by| owner(*by) == held.owner).unwrap();
            (by, held.fence, held.until, held.expires_at)
        });
        let expected = model.holds(lock, now);
        let expected = expected.map(|e| (e.owner, e.fence, e.until, e.expires_at));
        assert_eq!(held, expected, "{context} lock={lock}");
    }
    for tenant in 0..2_u32 {
        let listed =
            locks.list(now.mono, TenantId::from_raw(u64::from(tenant) + 1), None, 10).len();
        let expected = (0..3).filter(|n| model.holds(tenant as usize * 3 + n, now).is_some());
        assert_eq!(listed, expected.count(), "{context} tenant={tenant}");
    }
}

struct World<'w> {
    engine: &'w dyn Engine,
    locks: Locks,
    model: Model,
    mono_ms: u64,
    wall_ms: i64,
    /// The largest fence that anybody was told.
    told: u64,
}

impl World<'_> {
    fn now(&self) -> Now {
        at(self.mono_ms, self.wall_ms)
    }

    fn batch(&mut self, rng: &mut Rng, context: &str) {
        let fate = [Fate::Stored, Fate::Stored, Fate::Stored, Fate::Unknown, Fate::Lost];
        let fate = fate[rng.index(5)];
        let before = self.model.clone();
        let calls: Vec<Call> = (0..=rng.index(6)).map(|_| random_call(rng)).collect();
        let done = RefCell::new(Vec::new());
        let (locks, now) = (&self.locks, self.now());
        let operations = calls.iter().map(|call| {
            let done = &done;
            let operation: Operation<'_> = Box::new(move |tx| {
                let (said, follow) = run(tx, locks, now, call);
                let kept = follow.is_some();
                done.borrow_mut().push((said, follow));
                kept
            });
            operation
        });
        batch(self.engine, fate, operations.collect());
        for (call, (said, follow)) in calls.iter().zip(done.into_inner()) {
            assert_eq!(said, self.model.call(call, now), "{context} {call:?} of {calls:?}");
            if fate != Fate::Stored {
                continue;
            }
            match follow {
                Some(Follow::Hold(lock, held)) => self.locks.apply(&which(lock), &held),
                Some(Follow::Drop(lock, stamp)) => self.locks.apply_removal(&which(lock), stamp),
                None => {}
            }
            if let Said::Taken { fence, again: false } = said {
                assert!(self.told < fence, "{context}: {fence} after {}", self.told);
                self.told = fence;
            }
        }
        if fate == Fate::Lost {
            self.model = before;
        }
        if fate != Fate::Stored {
            super::load(self.engine, &self.locks, now, Opening::AfterFailure).unwrap();
        }
    }

    fn remove_ended(&mut self, lost: bool) {
        let now = self.now();
        let ended = self.locks.ended(now.mono, 2);
        let removed = RefCell::new(Vec::new());
        let operation: Operation<'_> = Box::new(|tx| {
            *removed.borrow_mut() = super::remove_ended(tx, &self.locks, now, &ended).unwrap();
            true
        });
        batch(self.engine, if lost { Fate::Lost } else { Fate::Stored }, vec![operation]);
        if !lost {
            for (which, stamp) in removed.into_inner() {
                self.locks.apply_removal(&which, stamp);
            }
        }
    }
}

fn check(kind: Kind, seed: u64, steps: usize) {
    let mut rng = Rng::from_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let engine = kind.open(folder.path());
    let mut world = World {
        engine: &*engine,
        locks: Locks::default(),
        model: Model::default(),
        mono_ms: 1_000,
        wall_ms: 0,
        told: 0,
    };
    for step in 0..steps {
        let context = format!("{kind:?} seed={seed} step={step}");
        match rng.below(12) {
            0..8 => world.batch(&mut rng, &context),
            8 => {
                let ms = [1, 99, 100, 149, 5_000, 70_000][rng.index(6)];
                world.mono_ms += ms;
                world.wall_ms += ms.cast_signed();
            }
            // Somebody sets the calendar; the stop-watch goes on.
            9 => world.wall_ms += [3_600_000, 0, 5, 100][rng.index(4)],
            10 => world.remove_ended(rng.one_in(3)),
            _ => {
                world.wall_ms += [0, 50, 10_000][rng.index(3)];
                world.mono_ms = rng.below(1_000_000);
                world.locks = Locks::default();
                let now = world.now();
                super::load(world.engine, &world.locks, now, Opening::Start).unwrap();
                world.model.restart(now);
            }
        }
        compare(&world.locks, &world.model, world.now(), &context);
    }
}

#[test]
fn locks_are_what_a_naive_model_says() {
    for seed in seeds(200) {
        check(Kind::Redb, seed, 60);
    }
}

#[test]
fn locks_are_what_a_naive_model_says_on_the_other_engine() {
    for seed in seeds(5) {
        check(Kind::Sqlite, seed, 60);
    }
}

fn engine() -> Box<dyn Engine> {
    Box::new(crate::testing::model::Model::default())
}

fn once<T>(engine: &dyn Engine, operation: impl FnOnce(&mut dyn Write) -> T) -> T {
    let mut out = None;
    batch(
        engine,
        Fate::Stored,
        vec![Box::new(|tx| {
            out = Some(operation(tx));
            true
        })],
    );
    out.unwrap()
}

#[test]
fn a_tenant_has_a_bounded_number_of_locks_and_what_ended_does_not_count() {
    let (engine, locks) = (engine(), Locks::default());
    let which = |n: usize| Which {
        tenant: TenantId::from_raw(7),
        name: LockName::parse(&format!("lock-{n}")).unwrap(),
    };
    let take =
        |tx: &mut dyn Write, now, n| super::take(tx, &locks, now, &which(n), (&owner(0), ttl(100)));
    let now = at(0, 0);
    once(&*engine, |tx| {
        for n in 0..LOCKS_MAX {
            // Not one of them was told to memory yet.
            let taken = take(tx, now, n).unwrap();
            if n % 2 == 0 {
                locks.apply(&which(n), &taken.held);
            }
        }
        assert!(matches!(take(tx, now, LOCKS_MAX), Err(Error::TooMany)));
        assert!(take(tx, now, 5).unwrap().again, "that is no further one");
        let other = Which { tenant: TenantId::from_raw(8), ..which(0) };
        assert!(super::take(tx, &locks, now, &other, (&owner(0), ttl(100))).is_ok());
        assert!(take(tx, at(100, 100), LOCKS_MAX).is_ok(), "the others have ended");
    });
}

#[test]
fn damage_is_told_and_holds_nobody_up() {
    let (engine, locks) = (engine(), Locks::default());
    let now = at(0, 0);
    once(&*engine, |tx| {
        super::take(tx, &locks, now, &which(0), (&owner(0), ttl(100))).unwrap();
        tx.put(Table::Locks, &which(1).key(), b"no record").unwrap();
        tx.put(Table::Locks, b"no key", b"no record").unwrap();
    });
    let fresh = Locks::default();
    assert_eq!(super::load(&*engine, &fresh, now, Opening::Start).unwrap(), (1, 2));
    once(&*engine, |tx| {
        let taken = super::take(tx, &fresh, now, &which(1), (&owner(1), ttl(100))).unwrap();
        assert_eq!(taken.held.fence, 2);
        tx.put(Table::Meta, super::NUMBER, b"?").unwrap();
        let refused = super::take(tx, &fresh, now, &which(2), (&owner(1), ttl(100)));
        assert!(matches!(refused, Err(Error::Damaged)), "a fence could go back");
    });
}

#[test]
fn who_is_gone_gives_back_what_was_just_taken_unless_it_was_asked_for_again() {
    let (engine, locks) = (engine(), Locks::default());
    let now = at(0, 0);
    once(&*engine, |tx| {
        let take = |tx: &mut dyn Write| {
            super::take(tx, &locks, now, &which(0), (&owner(0), ttl(100))).unwrap().held
        };
        let first = take(tx);
        let again = take(tx);
        assert_eq!(first.fence, again.fence);
        assert!(!super::undo_take(tx, &which(0), &first).unwrap());
        assert!(super::undo_take(tx, &which(0), &again).unwrap());
        assert!(!super::undo_take(tx, &which(0), &again).unwrap());
        assert!(first.fence < take(tx).fence);
    });
}

#[test]
fn owners_and_times_have_bounds() {
    assert!(Owner::parse("").is_err() && Owner::parse("a\n").is_err());
    assert!(Owner::parse(&"o".repeat(128)).is_ok() && Owner::parse(&"o".repeat(129)).is_err());
    assert_eq!(Owner::of_bits([0; 16]).as_str().len(), 32);
    assert!(Ttl::new(LOCK_TTL_MIN).is_ok() && Ttl::new(LOCK_TTL_MAX).is_ok());
    let ns = Duration::from_nanos(1);
    assert!(
        Ttl::new(LOCK_TTL_MIN.saturating_sub(ns)).is_err() && Ttl::new(LOCK_TTL_MAX + ns).is_err()
    );
}
