//! Who computes what, and who waits for it.
//!
//! One lease on a key at most, in the shard of the key. It is born at a number of its namespace's counter of
//! forgets: a forget that came later has a greater one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Waker;

use hashbrown::HashTable;

use super::entry::LeaseToken;
use super::slot::spread;
use crate::base::limits::CACHE_WAITERS_MAX;

/// How many leases may be out in the whole cache.
pub(super) struct Permits {
    out: AtomicUsize,
    max: usize,
}

impl Permits {
    /// So many.
    pub(super) fn new(max: usize) -> Permits {
        Permits { out: AtomicUsize::new(0), max }
    }

    fn take(&self) -> bool {
        self.out.fetch_update(Relaxed, Relaxed, |out| (out < self.max).then_some(out + 1)).is_ok()
    }

    fn give(&self, count: usize) {
        self.out.fetch_sub(count, Relaxed);
    }

    /// How many are out.
    #[cfg(test)]
    pub(super) fn out(&self) -> usize {
        self.out.load(Relaxed)
    }
}

struct Lease {
    key: Box<str>,
    hash: u32,
    token: LeaseToken,
    born: u64,
    until: u64,
    waiting: Vec<Waker>,
}

/// The leases of a shard.
pub(super) struct Leases {
    table: HashTable<Lease>,
    /// When the first of them may end, so that nobody looks before.
    soonest: u64,
    permits: Arc<Permits>,
}

/// What comes of asking for a lease.
pub(super) enum Granted {
    /// The asker has it.
    Yes,
    /// Somebody has it, until then.
    Until(u64),
    /// There are too many.
    TooMany,
}

/// A lease that is to be given.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    /// Its token.
    pub(super) token: LeaseToken,
    /// The number it is born at.
    pub(super) born: u64,
    /// When it ends.
    pub(super) until: u64,
}

impl Leases {
    /// None yet.
    pub(super) fn new(permits: Arc<Permits>) -> Leases {
        Leases { table: HashTable::new(), soonest: u64::MAX, permits }
    }

    /// Whether there is none, not even one that ended.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The keys that they are on, with their hashes.
    pub(super) fn on(&self) -> impl Iterator<Item = (u32, &str)> {
        self.table.iter().map(|lease| (lease.hash, &*lease.key))
    }

    /// Whether one holds at `now`.
    pub(super) fn any_at(&self, now: u64) -> bool {
        self.table.iter().any(|lease| now < lease.until)
    }

    /// Gives the lease on `key` if nobody has it. Those who waited for one that ended go on waiting.
    pub(super) fn give(&mut self, now: u64, hash: u32, key: &str, wish: Wish) -> Granted {
        match self.table.find_mut(spread(hash), |lease| *lease.key == *key) {
            Some(lease) if now < lease.until => return Granted::Until(lease.until),
            Some(lease) => {
                (lease.token, lease.born, lease.until) = (wish.token, wish.born, wish.until);
            }
            None if !self.permits.take() => return Granted::TooMany,
            None => {
                let Wish { token, born, until } = wish;
                let lease =
                    Lease { key: key.into(), hash, token, born, until, waiting: Vec::new() };
                self.table.insert_unique(spread(hash), lease, |lease| spread(lease.hash));
            }
        }
        self.soonest = self.soonest.min(wish.until);
        Granted::Yes
    }

    /// Lets `waker` be called when the lease on `key` ends. One that has to give way for it is called now.
    pub(super) fn wait(&mut self, hash: u32, key: &str, waker: &Waker, woken: &mut Vec<Waker>) {
        let Some(lease) = self.table.find_mut(spread(hash), |lease| *lease.key == *key) else {
            return;
        };
        if lease.waiting.iter().any(|known| known.will_wake(waker)) {
            return;
        }
        if CACHE_WAITERS_MAX <= lease.waiting.len() {
            woken.push(lease.waiting.swap_remove(0));
        }
        lease.waiting.push(waker.clone());
    }

    /// Whether `token` holds the lease on `key`, and the number that it was born at.
    pub(super) fn held(&self, now: u64, hash: u32, key: &str, token: LeaseToken) -> Option<u64> {
        let lease = self.table.find(spread(hash), |lease| *lease.key == *key)?;
        (now < lease.until && lease.token == token).then_some(lease.born)
    }

    /// Ends the lease on `key`.
    pub(super) fn end(&mut self, hash: u32, key: &str, woken: &mut Vec<Waker>) {
        if self.table.is_empty() {
            return;
        }
        if let Ok(found) = self.table.find_entry(spread(hash), |lease| *lease.key == *key) {
            woken.append(&mut found.remove().0.waiting);
            self.permits.give(1);
        }
    }

    /// Ends those on keys that `of` accepts.
    pub(super) fn end_all(&mut self, mut of: impl FnMut(&str) -> bool, woken: &mut Vec<Waker>) {
        self.end_where(|lease| of(&lease.key), woken);
    }

    /// Ends those whose time is over; whoever waits may ask for the next one.
    pub(super) fn expire(&mut self, now: u64, woken: &mut Vec<Waker>) {
        if self.soonest <= now {
            self.end_where(|lease| lease.until <= now, woken);
            self.soonest = self.table.iter().map(|lease| lease.until).min().unwrap_or(u64::MAX);
        }
    }

    fn end_where(&mut self, mut which: impl FnMut(&Lease) -> bool, woken: &mut Vec<Waker>) {
        let before = self.table.len();
        self.table.retain(|lease| {
            let ends = which(lease);
            if ends {
                woken.append(&mut lease.waiting);
            }
            !ends
        });
        self.permits.give(before - self.table.len());
        if self.table.is_empty() {
            self.table = HashTable::new();
            self.soonest = u64::MAX;
        }
    }
}

/// A shard that goes takes its leases with it.
impl Drop for Leases {
    fn drop(&mut self) {
        self.permits.give(self.table.len());
    }
}
