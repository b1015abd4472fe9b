//! One namespace of one tenant.
//!
//! A key's hash names its shard; the shard's lock is all that a read takes. An operation that needs memory
//! takes it from the accounts while it has the lock of its shard; when there is not enough, it lets the lock
//! go, makes room, and begins anew. So locks of shards are taken one at a time, never two, and a refused
//! put evicts nothing.

mod durable;

use std::hash::{BuildHasher, Hasher};
use std::ops::{ControlFlow, Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::Error;
use super::account::{Funds, Level};
use super::entry::{
    Asked, Condition, Forget, Found, Key, LeaseToken, Life, Put, Stats, Stored, Tag, Version,
};
use super::keyspace::Hub;
use super::lease::Wish;
use super::shard::{
    Asker, Common, Counters, Ends, Entry, Hashed, Room, Shard, Visitor, entry_cost, number_cost,
    stored_s, sum,
};
use super::slot::{NEVER, block, list_cost, lower_half, mix, stored_type};
use crate::base::id::TenantId;
use crate::base::limits::{
    CACHE_BARREN_TRIES, CACHE_EVICT_ENTRIES, CACHE_ROOM_TRIES, CACHE_STEP_ENTRIES,
};
use crate::base::name::Namespace;
use crate::base::time::Mono;

pub use super::keyspace::{Cache, Settings};

/// Shards of a namespace.
pub(super) const SHARDS: usize = 32;

/// Memory taken for an entry that is to be applied later; given back when dropped.
pub struct Reserved {
    funds: Arc<Funds>,
    bytes: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.funds.give(self.bytes);
    }
}

/// A shard, if there is one, and what is counted with each read.
#[derive(Default)]
struct Home {
    shard: Option<Box<Shard>>,
    hits: u64,
    misses: u64,
}

impl Deref for Home {
    type Target = Option<Box<Shard>>;

    fn deref(&self) -> &Option<Box<Shard>> {
        &self.shard
    }
}

impl DerefMut for Home {
    fn deref_mut(&mut self) -> &mut Option<Box<Shard>> {
        &mut self.shard
    }
}

/// The place of a shard. It has a line of the processor's cache to itself: cores that work in neighbouring
/// shards do not wait for each other, and what every read writes is written where its lock is.
#[derive(Default)]
#[repr(align(64))]
struct Place(Mutex<Home>);
type Locked<'s> = MutexGuard<'s, Home>;

impl Place {
    #[inline]
    fn lock(&self) -> Locked<'_> {
        self.0.lock()
    }
}

/// What shards had counted when they went, and what is counted without one.
#[derive(Default)]
struct Past {
    hits: AtomicU64,
    misses: AtomicU64,
    stale_served: AtomicU64,
    coalesced: AtomicU64,
    evicted: AtomicU64,
    expired: AtomicU64,
    leases: AtomicU64,
}

impl Past {
    fn add(&self, counters: Counters) {
        self.hits.fetch_add(counters.hits, Relaxed);
        self.misses.fetch_add(counters.misses, Relaxed);
        self.stale_served.fetch_add(counters.stale_served, Relaxed);
        self.coalesced.fetch_add(counters.coalesced, Relaxed);
        self.evicted.fetch_add(counters.evicted, Relaxed);
        self.expired.fetch_add(counters.expired, Relaxed);
        self.leases.fetch_add(counters.leases, Relaxed);
    }

    fn read(&self) -> Counters {
        Counters {
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            stale_served: self.stale_served.load(Relaxed),
            coalesced: self.coalesced.load(Relaxed),
            evicted: self.evicted.load(Relaxed),
            expired: self.expired.load(Relaxed),
            leases: self.leases.load(Relaxed),
        }
    }
}

/// What a namespace is made with.
pub(super) struct Birth {
    pub(super) tenant: TenantId,
    pub(super) name: Namespace,
    pub(super) base: Mono,
    pub(super) shards: usize,
    pub(super) common: Common,
    pub(super) funds: Funds,
    pub(super) disabled: bool,
    pub(super) hub: Weak<Hub>,
}

/// A namespace.
pub struct Space {
    tenant: TenantId,
    name: Namespace,
    base: Mono,
    common: Common,
    shards: Box<[Place]>,
    funds: Arc<Funds>,
    /// Ordinary entries are not kept at all.
    disabled: AtomicBool,
    /// Nobody finds it any more; whoever still has it finds it empty.
    closed: AtomicBool,
    /// The number of the last forget.
    forgets: AtomicU64,
    /// Behind it begin the versions of a new shard.
    versions: AtomicU32,
    /// Versions given to kept entries.
    kept_versions: AtomicU64,
    /// Which shard gives way next.
    cursor: AtomicUsize,
    past: Past,
    hub: Weak<Hub>,
}

/// What a forget does where it looks.
#[derive(Clone, Copy)]
struct Forgetting {
    now: u64,
    /// Its number.
    number: u64,
    /// Removes the entries.
    entries: bool,
    /// Takes away the leases.
    leases: bool,
}

impl Space {
    pub(super) fn new(birth: Birth) -> Space {
        Space {
            tenant: birth.tenant,
            name: birth.name,
            base: birth.base,
            common: birth.common,
            shards: (0..birth.shards).map(|_| Place::default()).collect(),
            funds: Arc::new(birth.funds),
            disabled: AtomicBool::new(birth.disabled),
            closed: AtomicBool::new(false),
            forgets: AtomicU64::new(0),
            versions: AtomicU32::new(0),
            kept_versions: AtomicU64::new(0),
            cursor: AtomicUsize::new(0),
            past: Past::default(),
            hub: birth.hub,
        }
    }

    /// Whose.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Its name.
    pub fn name(&self) -> &Namespace {
        &self.name
    }

    /// Whether it is kept.
    pub fn kept(&self) -> bool {
        self.common.kept
    }

    /// Whether it holds an entry or a lease at `now`.
    pub fn exists(&self, now: Mono) -> bool {
        let now = self.ms(now);
        let any = |shard: &mut Shard| tidied(shard, now, |shard| shard.any_at(now));
        let any = |place| self.steps(place, any).unwrap_or(false);
        !self.is_off() && (0..self.shards.len()).any(any)
    }

    /// The most it may hold.
    pub fn bytes_max(&self) -> u64 {
        self.funds.max()
    }

    /// Counts a hit or a miss.
    #[inline]
    pub fn get(&self, now: Mono, key: Key<'_>) -> Option<Found> {
        let (place, at) = self.locate(key);
        let mut home = self.shards[place].lock();
        let shard = home.shard.as_deref_mut().filter(|_| !self.is_off());
        let found = shard.and_then(|shard| shard.serve(self.ms(now), at));
        let counter = if found.is_some() { &mut home.hits } else { &mut home.misses };
        *counter += 1;
        found
    }

    /// Counts nothing.
    pub fn peek(&self, now: Mono, key: Key<'_>) -> Option<Found> {
        let (place, at) = self.locate(key);
        let shard = self.shards[place].lock();
        shard.as_deref().filter(|_| !self.is_off())?.peek(self.ms(now), at)
    }

    /// Like `get`, with a lease for one of those who ask. `waited`: asked before, and was `Busy` (then a hit is
    /// also `coalesced`). `Busy` counts nothing: whoever gives up calls `count_miss`. `fresh`: the token to give.
    #[expect(clippy::too_many_arguments, reason = "an asker has no name of its own outside")]
    pub fn ask(
        &self,
        now: Mono,
        key: Key<'_>,
        lease: Duration,
        fresh: LeaseToken,
        waited: bool,
        waker: Option<&Waker>,
    ) -> Asked {
        let (place, at) = self.locate(key);
        let now = self.ms(now);
        let asked = |shard: &mut Shard, _: Room<'_>| {
            if self.is_off() {
                return None;
            }
            // Under the lock: a forget that has not been here yet has a greater number, or its number
            // counts as one from before the lease, and what is computed is newer than it.
            let born = self.forgets.load(Relaxed);
            let wish = Wish { token: fresh, born, until: now + whole_ms(lease).max(1) };
            Some(shard.ask(now, at, &Asker { wish, waited, waker }))
        };
        let (asked, _) = self.locked(place, now, asked);
        asked.unwrap_or_else(|| {
            self.count_miss();
            self.past.leases.fetch_add(1, Relaxed);
            Asked::Leased(fresh)
        })
    }

    /// Somebody gave up waiting.
    pub fn count_miss(&self) {
        self.past.misses.fetch_add(1, Relaxed);
    }

    /// Puts it (ordinary namespaces only). Ends any lease on the key, and wakes who waits.
    pub fn put(&self, now: Mono, put: &Put<'_>) -> Result<Stored, Error> {
        assert!(!self.kept(), "BUG: what is kept goes to the disk first");
        if !self.is_off() {
            self.fits(self.cost(put))?;
        }
        let now = self.ms(now);
        let (place, at) = self.locate(put.key);
        let content_type = stored_type(put.content_type);
        let block = block(put.key, content_type, put.value);
        let entry = entry(at, put, (now, Duration::ZERO), None);
        let done = self.with_room(place, now, &mut |shard, room| {
            if let Err(error) = shard.check(now, at, put) {
                return Some(Err(error));
            }
            shard.store(now, &entry, Arc::clone(&block), room).map(Ok)
        });
        done.unwrap_or_else(|| self.let_go(place, now, at, put.condition))
    }

    /// Several, in order, as by `put`. One that is refused refuses all (without conditions and leases, only
    /// `TooLarge` is possible, and is looked for first).
    pub fn put_all(&self, now: Mono, puts: &[Put<'_>]) -> Result<(), Error> {
        if !self.is_off() {
            puts.iter().try_for_each(|put| self.fits(self.cost(put)))?;
        }
        puts.iter().try_for_each(|put| self.put(now, put).map(|_| ()))
    }

    /// Adds to a number; a missing one is 0 and gets `life`. Ordinary namespaces only.
    pub fn increment(&self, now: Mono, key: Key<'_>, by: i64, life: Life) -> Result<i64, Error> {
        assert!(!self.kept(), "BUG: what is kept goes to the disk first");
        if !self.is_off() {
            self.fits(number_cost(key))?;
        }
        let (place, at) = self.locate(key);
        let now = self.ms(now);
        let ends = ends(now, life);
        let done = self
            .with_room(place, now, &mut |shard, room| shard.increment(now, at, (by, ends), room));
        done.unwrap_or_else(|| {
            // There is no room: it is gone, and what is gone counts as 0.
            let sum = sum(0, by)?;
            self.let_go(place, now, at, Condition::Always)?;
            Ok(sum)
        })
    }

    /// Gives a new ttl (and stale window, if one is given) to what is there; whether it is there. Ordinary only.
    pub fn touch(&self, now: Mono, key: Key<'_>, ttl: Duration, stale: Option<Duration>) -> bool {
        assert!(!self.kept(), "BUG: what is kept goes to the disk first");
        let (place, at) = self.locate(key);
        let now = self.ms(now);
        let life = (whole_ms(ttl), stale.map(whole_ms));
        let done = self.with_room(place, now, &mut |shard, room| shard.touch(now, at, life, room));
        done.unwrap_or(false)
    }

    /// Forgets and says how many entries that were. Takes away the leases it meets. For kept namespaces it only counts
    /// (`dry_run`) or takes away the leases; the entries go through `drop_kept`.
    pub fn forget(&self, now: Mono, what: &Forget<'_>, dry_run: bool) -> u64 {
        // The number is taken before any shard is looked at, see `ask`.
        let number = if dry_run { 0 } else { self.forgets.fetch_add(1, Relaxed) + 1 };
        let now = self.ms(now);
        let how = Forgetting { now, number, entries: !dry_run && !self.kept(), leases: !dry_run };
        match what {
            Forget::Keys(keys) => self.forget_keys(keys, how),
            Forget::Tags(tags) => self.forget_tags(tags, how),
            Forget::Prefix(prefix) => self.forget_where(&|key| key.starts_with(prefix), how),
            Forget::Pattern(glob) => self.forget_where(&|key| glob.matches(key), how),
            Forget::All if how.entries => self.all_places(|place| self.forget_shard(place, now)),
            Forget::All => self.forget_where(&|_| true, how),
        }
    }

    /// What it has seen and holds; what ended is removed first.
    pub fn stats(&self, now: Mono) -> Stats {
        let now = self.ms(now);
        let mut stats = Stats::default();
        let mut sum = self.past.read();
        for place in 0..self.shards.len() {
            let home = self.shards[place].lock();
            (sum.hits, sum.misses) = (sum.hits + home.hits, sum.misses + home.misses);
            drop(home);
            let counted = |shard: &mut Shard| {
                tidied(shard, now, |shard| {
                    (shard.entries() as u64, shard.bytes(), shard.counters())
                })
            };
            if let Some((entries, bytes, counters)) = self.steps(place, counted) {
                stats.entries += entries;
                stats.bytes += bytes;
                sum = sum.plus(counters);
            }
        }
        let Counters { hits, misses, stale_served, coalesced, evicted, expired, leases } = sum;
        Stats { hits, misses, stale_served, coalesced, evicted, expired, leases, ..stats }
    }

    // For kept namespaces:

    /// What `put` will cost at most.
    pub fn cost(&self, put: &Put<'_>) -> u64 {
        let hashed = Hashed { key: put.key, hash: 0 };
        let version = self.kept().then_some(Version(0));
        let entry = entry(hashed, put, (0, Duration::ZERO), version);
        let parts = [put.key.as_bytes(), stored_type(put.content_type), put.value];
        let lists: u64 = put.tags.iter().map(|tag| list_cost(tag.as_str().len())).sum();
        entry_cost(&entry, parts.iter().map(|part| part.len()).sum()) + lists
    }

    /// Takes room for a kept entry: `Full` or `TooLarge`.
    pub fn reserve(&self, cost: u64) -> Result<Reserved, Error> {
        self.fits(cost)?;
        loop {
            let level = match self.funds.take(cost) {
                Ok(()) => return Ok(Reserved { funds: Arc::clone(&self.funds), bytes: cost }),
                Err(level) => level,
            };
            // Ordinary entries of the tenant make room, kept ones never do.
            if level != Level::Tenant || !self.make_room(None, (level, cost), 0) {
                let account = self.funds.account(level);
                return Err(Error::Full { limit: account.max(), used: account.used() });
            }
        }
    }

    /// Whether a put of `key` with `tags` under `lease` may land; asked on the writer's thread.
    pub fn check_lease(
        &self,
        now: Mono,
        key: Key<'_>,
        tags: &[Tag<'_>],
        lease: LeaseToken,
    ) -> Result<(), Error> {
        let (place, at) = self.locate(key);
        let now = self.ms(now);
        let checked = self.existing(place, |shard| shard.check_lease(now, at, tags, lease));
        checked.unwrap_or(Err(Error::LeaseLost))
    }

    /// The end of the entry in memory if its version is this: `Some(None)` for one that never ends.
    pub fn end_of(&self, key: Key<'_>, version: Version) -> Option<Option<Mono>> {
        let (place, at) = self.locate(key);
        let end = self.shards[place].lock().as_deref()?.end_of(at, version)?;
        Some((end != NEVER).then(|| self.base.plus(Duration::from_millis(end))))
    }

    /// Applies what was committed: like `put`, whatever is there, with the version it has on disk. `stored_at`/ends as
    /// given: `life` counts from `now`, `age` is how long it was there already (0 for a new one).
    #[expect(clippy::too_many_arguments, reason = "the time, the room, and three that are on disk")]
    pub fn keep(
        &self,
        now: Mono,
        mut reserved: Reserved,
        put: &Put<'_>,
        version: Version,
        age: Duration,
    ) {
        assert!(self.kept(), "BUG: only what is kept has its version from the disk");
        let (place, at) = self.locate(put.key);
        let now = self.ms(now);
        let block = block(put.key, stored_type(put.content_type), put.value);
        let entry = entry(at, put, (now, age), Some(version));
        let mut guard = self.shards[place].lock();
        if self.is_off() {
            return;
        }
        let shard = self.made(&mut guard, now);
        let before = shard.bytes();
        // What was reserved is the shard's now; it gives back what it does not need.
        let taken = std::mem::take(&mut reserved.bytes);
        let stored = shard.store(now, &entry, block, &mut |bytes| bytes <= taken);
        assert!(stored.is_some(), "BUG: what is kept was reserved");
        self.settle(guard, before + taken);
    }

    /// Applies a removal that was committed.
    pub fn drop_kept(&self, key: Key<'_>, version: Version) {
        let (place, at) = self.locate(key);
        self.existing(place, |shard| shard.drop_version(at, version));
    }

    /// A version that was never given out before, for a kept entry.
    pub fn next_version(&self) -> Version {
        // 2^64 of them, from a random place on: those of other processes lie elsewhere.
        let count = self.kept_versions.fetch_add(1, Relaxed);
        Version(mix(self.common.salt.wrapping_add(count)))
    }

    /// Visits what is served at `now`, from a position, at most `limit` entries under one lock; the next position, or
    /// `None` at the end. Begins at 0. For the snapshot: key, value with remaining life and age, tags, and the
    /// stale window (what is left of it, for a stale one). May show one twice that is moved meanwhile.
    pub fn visit(&self, now: Mono, from: u64, limit: usize, visit: Visitor<'_>) -> Option<u64> {
        let place = usize::try_from(from >> 32).expect("BUG: a position came from here");
        // Slots are visited downwards; 0 stands for all of them.
        let below = (from & u64::from(u32::MAX)).checked_sub(1);
        let below = below.map_or(usize::MAX, |below| index(below) + 1);
        let shard = self.shards.get(place)?.lock();
        let shard = shard.as_deref().filter(|_| !self.is_off());
        let rest = shard.map_or(0, |shard| shard.visit(self.ms(now), (below, limit), visit));
        let next =
            if rest == 0 { (from >> 32 << 32) + (1 << 32) } else { from >> 32 << 32 | rest as u64 };
        (next >> 32 < self.shards.len() as u64).then_some(next)
    }

    // Inside.

    fn ms(&self, now: Mono) -> u64 {
        now.ns().saturating_sub(self.base.ns()) / 1_000_000
    }

    fn is_off(&self) -> bool {
        self.disabled.load(Relaxed) || self.closed.load(Relaxed)
    }

    /// The shard of a key, and its hash there: the upper half of its bits and the lower one.
    #[inline]
    fn locate<'k>(&self, key: Key<'k>) -> (usize, Hashed<'k>) {
        let mut hasher = self.common.hasher.build_hasher();
        hasher.write(key.as_bytes());
        let hash = hasher.finish();
        let place = ((hash >> 32) * self.shards.len() as u64) >> 32;
        (index(place), Hashed { key, hash: lower_half(hash) })
    }

    fn fits(&self, cost: u64) -> Result<(), Error> {
        let limit = self.funds.max();
        if limit < cost { Err(Error::TooLarge { cost, limit }) } else { Ok(()) }
    }

    fn made<'g>(&self, guard: &'g mut Locked<'_>, now: u64) -> &'g mut Shard {
        guard.get_or_insert_with(|| {
            Box::new(Shard::new(self.common.clone(), now, self.versions.load(Relaxed)))
        })
    }

    /// Runs `op` on a shard, with room from the accounts; where there was not enough of it, and how much it
    /// was to be.
    fn locked<R>(
        &self,
        place: usize,
        now: u64,
        op: impl FnOnce(&mut Shard, Room<'_>) -> R,
    ) -> (R, Option<(Level, u64)>) {
        let mut guard = self.shards[place].lock();
        let shard = self.made(&mut guard, now);
        let before = shard.bytes();
        let (mut taken, mut short) = (0, None);
        let out = op(shard, &mut |bytes| match self.funds.take(bytes) {
            Ok(()) => {
                taken += bytes;
                true
            }
            Err(level) => {
                short = Some((level, bytes));
                false
            }
        });
        self.settle(guard, before + taken);
        (out, short)
    }

    /// Runs `op` on a shard that is there; it may only shrink.
    fn existing<R>(&self, place: usize, op: impl FnOnce(&mut Shard) -> R) -> Option<R> {
        let mut guard = self.shards[place].lock();
        let shard = guard.as_deref_mut()?;
        let before = shard.bytes();
        let out = op(shard);
        self.settle(guard, before);
        Some(out)
    }

    /// Gives back what the shard does not hold any more, opens its lock, then frees and wakes.
    fn settle(&self, mut guard: Locked<'_>, held: u64) {
        let Some(shard) = guard.as_deref_mut() else { return };
        self.funds.give(held - shard.bytes());
        let (woken, freed) = shard.leftovers();
        drop(guard);
        drop(freed);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Runs `step` on a shard until it breaks, with the lock open between two steps.
    fn steps<R>(
        &self,
        place: usize,
        mut step: impl FnMut(&mut Shard) -> ControlFlow<R>,
    ) -> Option<R> {
        loop {
            if let ControlFlow::Break(out) = self.existing(place, &mut step)? {
                return Some(out);
            }
        }
    }

    /// Runs `op` until it finds room, and makes room in between; `None` when there is none to be had, or
    /// nothing is kept here.
    fn with_room<R>(
        &self,
        place: usize,
        now: u64,
        op: &mut dyn FnMut(&mut Shard, Room<'_>) -> Option<R>,
    ) -> Option<R> {
        let mut barren = 0;
        for _ in 0..CACHE_ROOM_TRIES {
            let once = |shard: &mut Shard, room: Room<'_>| {
                if self.is_off() { None } else { op(shard, room) }
            };
            let (out, short) = self.locked(place, now, once);
            if out.is_some() {
                return out;
            }
            if !self.make_room(Some(place), short?, now) {
                // Others have taken what is not there to be evicted yet.
                barren += 1;
                if CACHE_BARREN_TRIES < barren {
                    return None;
                }
                std::hint::spin_loop();
            }
        }
        None
    }

    /// What was to be put goes at once, as if it had been evicted: nothing else of its key stays either.
    fn let_go(
        &self,
        place: usize,
        now: u64,
        at: Hashed<'_>,
        condition: Condition,
    ) -> Result<Stored, Error> {
        let there = self.existing(place, |shard| shard.let_go(now, at)).unwrap_or(false);
        let there = there && !self.is_off();
        match condition {
            Condition::Present if !there => Err(Error::KeyMissing),
            Condition::Always | Condition::Absent | Condition::Present if there => {
                Ok(Stored::Replaced)
            }
            Condition::Always | Condition::Absent | Condition::Present => Ok(Stored::New),
        }
    }

    // Who gives way.

    /// Evicts about `bytes` where a full account says, for the shard at `place`; whether there was anything.
    fn make_room(&self, place: Option<usize>, (level, bytes): (Level, u64), now: u64) -> bool {
        let hub = self.hub.upgrade();
        let largest = |tenant| hub.as_ref().and_then(|hub| hub.largest(tenant));
        let other = match level {
            Level::Space => None,
            Level::Tenant => largest(Some(self.tenant)),
            Level::Process if self.holds_its_part() => None,
            Level::Process => largest(None),
        };
        match other {
            Some(other) => other.evict(None, bytes, now),
            // Kept entries never give way.
            None => !self.kept() && self.evict(place, bytes, now),
        }
    }

    /// Whether it holds at least its equal part of what there is.
    fn holds_its_part(&self) -> bool {
        let holders = self.funds.holders.load(Relaxed).max(1) as u64;
        !self.kept() && self.funds.process.max() / holders <= self.funds.space.used()
    }

    /// Evicts entries until `bytes` are given back, or a step of them.
    fn evict(&self, place: Option<usize>, bytes: u64, now: u64) -> bool {
        let mut given = 0;
        for _ in 0..CACHE_EVICT_ENTRIES {
            if bytes <= given {
                break;
            }
            match self.evict_one(place, now) {
                Some(more) => given += more,
                None => break,
            }
        }
        0 < given
    }

    /// Evicts one entry; how many bytes that gave. Shards with a newcomer to judge take turns; when there is
    /// none, it is the turn of the shard that needs the room (see [`super::policy`]), or of any.
    fn evict_one(&self, place: Option<usize>, now: u64) -> Option<u64> {
        self.evict_in_turn(now, Shard::has_newcomer)
            .or_else(|| self.evict_at(place?, now, |_| true))
            .or_else(|| self.evict_in_turn(now, |_| true))
    }

    fn evict_in_turn(&self, now: u64, whether: fn(&Shard) -> bool) -> Option<u64> {
        (0..self.shards.len()).find_map(|_| {
            let place = self.cursor.fetch_add(1, Relaxed) % self.shards.len();
            self.evict_at(place, now, whether)
        })
    }

    fn evict_at(&self, place: usize, now: u64, whether: fn(&Shard) -> bool) -> Option<u64> {
        let evicted = self.existing(place, |shard| {
            let before = shard.bytes();
            let evicted = whether(shard) && shard.evict(now);
            evicted.then(|| before - shard.bytes())
        });
        evicted.flatten()
    }

    /// What it holds.
    pub(super) fn used(&self) -> u64 {
        self.funds.space.used()
    }

    // Forgetting.

    fn all_places(&self, forget: impl FnMut(usize) -> u64) -> u64 {
        (0..self.shards.len()).map(forget).sum()
    }

    fn forget_keys(&self, keys: &[Key<'_>], how: Forgetting) -> u64 {
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        keys.dedup();
        let mut count = 0;
        for key in keys {
            let (place, at) = self.locate(key);
            let there = self.existing(place, |shard| {
                if how.leases {
                    shard.end_lease(at);
                }
                shard.forget_key(how.now, at, how.entries)
            });
            count += u64::from(there.unwrap_or(false));
        }
        count
    }

    fn forget_where(&self, of: &dyn Fn(&str) -> bool, how: Forgetting) -> u64 {
        self.all_places(|place| {
            // Leases go first: what they were given for lands nowhere while the entries are walked.
            if how.leases {
                self.existing(place, |shard| shard.end_leases(of));
            }
            let (mut from, mut sum) = (usize::MAX, 0);
            let walk = |shard: &mut Shard| {
                let (count, rest) =
                    shard.walk(how.now, (from, CACHE_STEP_ENTRIES, how.entries), of);
                from = rest;
                sum += count;
                if rest == 0 { ControlFlow::Break(sum) } else { ControlFlow::Continue(()) }
            };
            self.steps(place, walk).unwrap_or(0)
        })
    }

    fn forget_tags(&self, tags: &[Tag<'_>], how: Forgetting) -> u64 {
        self.all_places(|place| {
            // One by one: what has two of them goes with the first, and is not counted with the second.
            let (mut done, mut sum) = (0, 0);
            let forgotten = self.steps(place, |shard| {
                let mut steps = CACHE_STEP_ENTRIES;
                while shard.tidy_for_count(how.now, &mut steps) {
                    if !how.entries {
                        if how.leases {
                            for tag in tags {
                                shard.remember_tag(*tag, how.number);
                            }
                        }
                        return ControlFlow::Break(shard.count_tags(tags));
                    }
                    let Some(tag) = tags.get(done) else { return ControlFlow::Break(sum) };
                    sum += shard.forget_tag(*tag, how.number);
                    done += 1;
                }
                ControlFlow::Continue(())
            });
            forgotten.unwrap_or(0)
        })
    }

    /// Lets go of a whole shard; how many entries it had.
    fn forget_shard(&self, place: usize, now: u64) -> u64 {
        loop {
            let mut guard = self.shards[place].lock();
            let Some(shard) = guard.as_deref_mut() else { return 0 };
            let before = shard.bytes();
            // What ended must not be counted.
            if let ControlFlow::Break(count) = tidied(shard, now, |shard| shard.entries() as u64) {
                self.funds.give(before - shard.bytes());
                self.drop_shard(guard);
                return count;
            }
            self.settle(guard, before);
        }
    }

    /// Takes a shard out of its place, and frees it with the lock open.
    fn drop_shard(&self, mut guard: Locked<'_>) {
        let Some(mut shard) = guard.take() else { return };
        self.past.add(shard.counters());
        self.versions.fetch_add(shard.versions(), Relaxed);
        self.funds.give(shard.bytes());
        drop(guard);
        shard.end_leases(|_| true);
        let (woken, _) = shard.leftovers();
        drop(shard);
        woken.into_iter().for_each(Waker::wake);
    }

    // The sweep.

    /// Some steps in one shard; whether nothing is left to do there. What is empty goes.
    pub(super) fn sweep_shard(&self, place: usize, now: Mono, steps: &mut usize) -> bool {
        let now = self.ms(now);
        let mut guard = self.shards[place].lock();
        let Some(shard) = guard.as_deref_mut() else { return true };
        if self.is_off() {
            self.drop_shard(guard);
            return true;
        }
        let before = shard.bytes();
        let done = shard.tidy(now, steps);
        if done && shard.is_empty() {
            self.funds.give(before - shard.bytes());
            self.drop_shard(guard);
        } else {
            self.settle(guard, before);
        }
        done
    }

    /// How many shards there are.
    pub(super) fn places(&self) -> usize {
        self.shards.len()
    }

    /// Evicts a step of what is too much after a maximum was lowered; whether there is more.
    pub(super) fn sweep_over(&self, now: Mono) -> bool {
        let Some(level) = self.funds.over().filter(|_| !self.kept()) else { return false };
        let account = self.funds.account(level);
        let excess = account.used().saturating_sub(account.max());
        let evicted = self.make_room(None, (level, excess), self.ms(now));
        evicted && self.funds.over().is_some()
    }

    /// Whether there is nothing in it, not even something that ended.
    pub(super) fn is_vacant(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().as_deref().is_none_or(Shard::is_empty))
    }

    /// Lets go of everything, now and later: nobody will find it again.
    pub(super) fn close(&self) {
        // Whoever writes looks at it under the lock of the shard: no shard is made behind this.
        self.closed.store(true, Relaxed);
        for place in &self.shards {
            self.drop_shard(place.lock());
        }
    }

    /// Keeps nothing from now on, or keeps again.
    pub(super) fn set_disabled(&self, disabled: bool) {
        self.disabled.store(disabled, Relaxed);
    }

    /// The most that its own account may hold.
    pub(super) fn set_max(&self, max: u64) {
        self.funds.space.set_max(max);
    }

    /// Every invariant of every shard, and that the account is their sum.
    #[cfg(test)]
    pub(super) fn verify(&self) {
        let mut bytes = 0;
        for place in &self.shards {
            if let Some(shard) = place.lock().as_deref() {
                shard.verify();
                bytes += shard.bytes();
            }
        }
        assert_eq!(bytes, self.used(), "the account is the sum of its shards");
        assert!(self.used() <= self.bytes_max(), "an account is never above its maximum");
    }
}

/// A step towards a shard in which nothing is left that ended or was forgotten; `then`, when it is there.
fn tidied<R>(shard: &mut Shard, now: u64, then: impl FnOnce(&mut Shard) -> R) -> ControlFlow<R> {
    if shard.tidy(now, &mut { CACHE_STEP_ENTRIES }) {
        ControlFlow::Break(then(shard))
    } else {
        ControlFlow::Continue(())
    }
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("BUG: memory has so many places")
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn ends(now: u64, life: Life) -> Ends {
    let fresh = life.ttl().map_or(NEVER, |ttl| now + whole_ms(ttl));
    Ends { fresh, gone: fresh.saturating_add(whole_ms(life.stale())) }
}

fn entry<'e>(
    at: Hashed<'e>,
    put: &Put<'e>,
    (now, age): (u64, Duration),
    version: Option<Version>,
) -> Entry<'e> {
    let type_bytes = u8::try_from(stored_type(put.content_type).len());
    Entry {
        at,
        type_bytes: type_bytes.expect("BUG: content types are short"),
        ends: ends(now, put.life),
        tags: put.tags,
        version,
        stored_s: stored_s(now, age),
    }
}
