//! Memory, counted before it is taken.
//!
//! ```text
//!  process (ordinary | kept)  <---  tenant  <---  space
//! ```
//!
//! Whoever wants to hold bytes takes them at every level, or at none. No account is ever above its maximum,
//! unless the maximum was lowered; then it only shrinks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Bytes that are held, and how many may be.
pub(super) struct Account {
    used: AtomicU64,
    max: AtomicU64,
}

impl Account {
    /// Nothing held.
    pub(super) fn new(max: u64) -> Account {
        Account { used: AtomicU64::new(0), max: AtomicU64::new(max) }
    }

    /// What is held.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// What may be.
    pub(super) fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }

    /// Changes what may be.
    pub(super) fn set_max(&self, max: u64) {
        self.max.store(max, Relaxed);
    }

    /// Whether more is held than may be.
    pub(super) fn is_over(&self) -> bool {
        self.max() < self.used()
    }

    /// Takes bytes: what was held before, or `None` when there is not so much left.
    fn take(&self, bytes: u64) -> Option<u64> {
        let max = self.max();
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= max);
        self.used.fetch_update(Relaxed, Relaxed, more).ok()
    }

    /// Gives bytes back: what was held before.
    fn give(&self, bytes: u64) -> u64 {
        let before = self.used.fetch_sub(bytes, Relaxed);
        assert!(bytes <= before, "BUG: what is given back was taken");
        before
    }
}

/// Where there is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// In the namespace.
    Space,
    /// In its tenant.
    Tenant,
    /// In the process.
    Process,
}

/// The accounts that a namespace takes from.
pub(super) struct Funds {
    pub(super) space: Account,
    pub(super) tenant: Arc<Account>,
    pub(super) process: Arc<Account>,
    /// How many namespaces hold something.
    pub(super) holders: Arc<AtomicUsize>,
}

impl Funds {
    /// Takes bytes at every level, or says where there are not enough.
    pub(super) fn take(&self, bytes: u64) -> Result<(), Level> {
        if bytes == 0 {
            return Ok(());
        }
        let before = self.space.take(bytes).ok_or(Level::Space)?;
        if before == 0 {
            self.holders.fetch_add(1, Relaxed);
        }
        if self.tenant.take(bytes).is_none() {
            self.give_space(bytes);
            return Err(Level::Tenant);
        }
        if self.process.take(bytes).is_none() {
            self.tenant.give(bytes);
            self.give_space(bytes);
            return Err(Level::Process);
        }
        Ok(())
    }

    /// Gives bytes back at every level.
    pub(super) fn give(&self, bytes: u64) {
        if bytes != 0 {
            self.process.give(bytes);
            self.tenant.give(bytes);
            self.give_space(bytes);
        }
    }

    fn give_space(&self, bytes: u64) {
        if self.space.give(bytes) == bytes {
            self.holders.fetch_sub(1, Relaxed);
        }
    }

    /// The most that one entry can take.
    pub(super) fn max(&self) -> u64 {
        self.space.max().min(self.tenant.max()).min(self.process.max())
    }

    /// The account of a level.
    pub(super) fn account(&self, level: Level) -> &Account {
        match level {
            Level::Space => &self.space,
            Level::Tenant => &self.tenant,
            Level::Process => &self.process,
        }
    }

    /// The lowest level that holds more than it may.
    pub(super) fn over(&self) -> Option<Level> {
        let levels = [Level::Space, Level::Tenant, Level::Process];
        levels.into_iter().find(|level| self.account(*level).is_over())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::{Account, Funds, Level};

    #[test]
    fn bytes_are_taken_at_every_level_or_at_none() {
        let (tenant, process) = (Arc::new(Account::new(80)), Arc::new(Account::new(100)));
        let holders = Arc::new(AtomicUsize::new(0));
        let funds = |max| Funds {
            space: Account::new(max),
            tenant: Arc::clone(&tenant),
            process: Arc::clone(&process),
            holders: Arc::clone(&holders),
        };
        let (a, b) = (funds(50), funds(1000));
        assert_eq!((a.max(), b.max()), (50, 80));
        assert_eq!(a.take(51), Err(Level::Space));
        assert_eq!(a.take(50), Ok(()));
        assert_eq!(b.take(31), Err(Level::Tenant));
        assert_eq!(holders.load(Relaxed), 1, "what took nothing holds nothing");
        tenant.set_max(1000);
        assert_eq!(b.take(51), Err(Level::Process));
        assert_eq!(b.take(u64::MAX), Err(Level::Space), "sums do not wrap");
        assert_eq!(b.take(50), Ok(()));
        assert_eq!((tenant.used(), process.used(), b.space.used()), (100, 100, 50));
        assert_eq!((a.over(), holders.load(Relaxed)), (None, 2));
        tenant.set_max(99);
        assert_eq!(a.over(), Some(Level::Tenant));
        a.give(50);
        b.give(20);
        assert_eq!((tenant.used(), process.used(), holders.load(Relaxed)), (30, 30, 1));
    }
}
