//! A part of a namespace: the entries, tags and leases of the keys that hash to it.
//!
//! No lock, no clock, no account: whoever has the lock calls it, with the time in milliseconds since the
//! base, and gives it room. It says how many bytes it holds ([`Shard::bytes`]); an operation that makes it
//! larger asks for room first, and changes nothing when there is none.
//!
//! Slots are dense: the last one takes the place of one that is removed, and everything that leads to it
//! (table, wheel, extra) is told.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::Error;
use super::entry::{
    Asked, Condition, ContentType, Found, Key, LeaseToken, Put, Stored, Tag, Version,
};
use super::lease::{Granted, Leases, Permits, Wish};
use super::policy::{Heat, Policy, Slots};
use super::slot::{
    EXTRA_COST, Held, MEMBER_COST, NEVER, NONE, SLOT_COST, Slot, block, block_cost, seconds,
    spread, stored_type,
};
use super::tags::Tags;
use super::wheel::{Due, Link, Members, Wheel};
use crate::base::limits::{CACHE_LEASE_RETRY, CACHE_WRITE_ENTRIES};
use crate::base::rng::Rng;

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) stale_served: u64,
    pub(super) coalesced: u64,
    pub(super) evicted: u64,
    pub(super) expired: u64,
    pub(super) leases: u64,
}

impl Counters {
    /// Both together.
    pub(super) fn plus(self, other: Counters) -> Counters {
        Counters {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            stale_served: self.stale_served + other.stale_served,
            coalesced: self.coalesced + other.coalesced,
            evicted: self.evicted + other.evicted,
            expired: self.expired + other.expired,
            leases: self.leases + other.leases,
        }
    }
}

/// What all shards of a namespace have in common.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) hasher: FixedState,
    /// Makes versions those of this namespace and this process.
    pub(super) salt: u64,
    /// Kept entries never give way, so nobody counts how warm they are.
    pub(super) kept: bool,
    pub(super) permits: Arc<Permits>,
}

/// A key with its hash.
#[derive(Clone, Copy)]
pub(super) struct Hashed<'k> {
    pub(super) key: Key<'k>,
    pub(super) hash: u32,
}

/// When an entry ends: fresh before the first moment, gone at the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) fresh: u64,
    pub(super) gone: u64,
}

/// What is to be stored, ready to be moved in.
pub(super) struct Entry<'e> {
    pub(super) at: Hashed<'e>,
    pub(super) type_bytes: u8,
    pub(super) ends: Ends,
    pub(super) tags: &'e [Tag<'e>],
    /// The version on disk, for a kept entry.
    pub(super) version: Option<Version>,
    pub(super) stored_s: i32,
}

/// Takes room for so many bytes, or says that there is none.
pub(super) type Room<'r> = &'r mut dyn FnMut(u64) -> bool;

/// Is shown an entry: key, value, tags, stale window.
pub(super) type Visitor<'v> = &'v mut dyn FnMut(Key<'_>, &Found, &[&str], Duration);

/// How an entry is at some moment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Stale,
    Ended,
    Forgotten,
}

/// An asker: what it wants, and who it is.
pub(super) struct Asker<'a> {
    /// The lease it would get.
    pub(super) wish: Wish,
    /// Whether it waited before.
    pub(super) waited: bool,
    /// What is called when it is worth asking again.
    pub(super) waker: Option<&'a Waker>,
}

/// A part of a namespace. What a hit needs stands together, in front.
#[repr(C)]
pub(super) struct Shard {
    table: HashTable<u32>,
    slots: Vec<Slot>,
    counters: Counters,
    policy: Policy,
    common: Common,
    tags: Tags,
    leases: Leases,
    wheel: Wheel,
    /// What the entries cost, without the lists of tags.
    entry_bytes: u64,
    /// The number of the last write, and the one before the first.
    versions: u32,
    first: u32,
    woken: Vec<Waker>,
    /// The block of what was replaced or removed last: freed when the lock is open again.
    freed: Option<Held>,
}

/// The entries as the wheel sees them.
struct Timed<'s> {
    slots: &'s mut [Slot],
    tags: &'s Tags,
}

impl Members for Timed<'_> {
    fn link(&mut self, i: u32) -> &mut Link {
        &mut self.slots[i as usize].link
    }

    fn end(&self, i: u32) -> u64 {
        let slot = &self.slots[i as usize];
        if slot.extra == NONE { slot.fresh } else { self.tags.gone(slot.extra) }
    }
}

/// The entries as the policy sees them.
struct Warm<'s> {
    slots: &'s mut [Slot],
    table: &'s HashTable<u32>,
}

impl Slots for Warm<'_> {
    fn len(&self) -> u32 {
        index(self.slots.len())
    }

    fn heat(&self, at: u32) -> Heat {
        self.slots[at as usize].heat()
    }

    fn set_heat(&mut self, at: u32, heat: Heat) {
        self.slots[at as usize].set_heat(heat);
    }

    fn hash(&self, at: u32) -> u32 {
        self.slots[at as usize].hash
    }

    fn find(&self, hash: u32) -> Option<u32> {
        let same = |at: &u32| {
            let slot = &self.slots[*at as usize];
            slot.hash == hash && slot.heat().window
        };
        self.table.find(spread(hash), same).copied()
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("BUG: a shard has fewer than 2^32 entries")
}

impl Shard {
    /// An empty one; its versions begin behind `versions`.
    pub(super) fn new(common: Common, now: u64, versions: u32) -> Shard {
        let rng = Rng::from_seed(common.salt ^ u64::from(versions));
        Shard {
            table: HashTable::new(),
            slots: Vec::new(),
            wheel: Wheel::new(now),
            tags: Tags::new(common.hasher.clone()),
            leases: Leases::new(Arc::clone(&common.permits)),
            policy: Policy::new(rng),
            entry_bytes: 0,
            versions,
            first: versions,
            counters: Counters::default(),
            woken: Vec::new(),
            freed: None,
            common,
        }
    }

    /// What it holds.
    pub(super) fn bytes(&self) -> u64 {
        self.entry_bytes + self.tags.cost()
    }

    /// Entries that were not forgotten; some may have ended, see [`Shard::tidy`].
    pub(super) fn entries(&self) -> usize {
        self.slots.len() - self.tags.dead()
    }

    /// Whether it can be thrown away but for its counters.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.leases.is_empty() && self.tags.is_empty()
    }

    /// What was counted.
    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// How many versions it gave: those of a successor begin behind them.
    pub(super) fn versions(&self) -> u32 {
        self.versions.wrapping_sub(self.first)
    }

    /// Whom to wake, and what to free, when the lock is open again.
    pub(super) fn leftovers(&mut self) -> (Vec<Waker>, Option<Held>) {
        (std::mem::take(&mut self.woken), self.freed.take())
    }

    // Reading.

    #[inline]
    fn find(&self, at: Hashed<'_>) -> Option<usize> {
        let key = at.key.as_bytes();
        let same = |i: &u32| {
            let slot = &self.slots[*i as usize];
            slot.hash == at.hash && slot.reached() && slot.key() == key
        };
        self.table.find(spread(at.hash), same).map(|i| *i as usize)
    }

    #[inline]
    fn state(&self, i: usize, now: u64) -> State {
        let slot = &self.slots[i];
        if slot.extra == NONE {
            return if now < slot.fresh { State::Fresh } else { State::Ended };
        }
        if self.tags.is_dead(slot.extra) {
            State::Forgotten
        } else if now < slot.fresh {
            State::Fresh
        } else if now < self.tags.gone(slot.extra) {
            State::Stale
        } else {
            State::Ended
        }
    }

    /// The entry if it exists, and whether it is stale.
    #[inline]
    fn live(&self, now: u64, at: Hashed<'_>) -> Option<(usize, bool)> {
        let i = self.find(at)?;
        match self.state(i, now) {
            State::Fresh => Some((i, false)),
            State::Stale => Some((i, true)),
            State::Ended | State::Forgotten => None,
        }
    }

    #[inline]
    fn found(&self, i: usize, now: u64, stale: bool) -> Found {
        let slot = &self.slots[i];
        Found {
            value: slot.value(),
            version: self.version(i),
            stale,
            now,
            fresh: slot.fresh,
            stored_s: slot.stored_s,
        }
    }

    #[inline]
    fn version(&self, i: usize) -> Version {
        let slot = &self.slots[i];
        if self.common.kept && slot.extra != NONE {
            return Version(self.tags.version(slot.extra));
        }
        // The second and the number of the write: together they never come again.
        let stored = u64::from(slot.stored_s.cast_unsigned());
        Version((stored << 32 | u64::from(slot.version)) ^ self.common.salt)
    }

    /// What is there, uncounted.
    pub(super) fn peek(&self, now: u64, at: Hashed<'_>) -> Option<Found> {
        let (i, stale) = self.live(now, at)?;
        Some(self.found(i, now, stale))
    }

    /// What is there. Whoever calls counts hits and misses.
    #[inline]
    pub(super) fn serve(&mut self, now: u64, at: Hashed<'_>) -> Option<Found> {
        let (i, stale) = self.live(now, at)?;
        // Not even a zero is added without need: other cores have the line in their caches.
        if stale {
            self.counters.stale_served += 1;
        }
        self.warm(i);
        Some(self.found(i, now, stale))
    }

    #[inline]
    fn warm(&mut self, i: usize) {
        if !self.common.kept {
            let slot = &mut self.slots[i];
            let (before, mut heat) = (slot.heat(), slot.heat());
            self.policy.hit(&mut heat);
            // What is as warm as it can be is not written: other cores have it in their caches.
            if heat != before {
                slot.set_heat(heat);
            }
        }
    }

    /// What is there, or the lease to make it; in its stale window both.
    pub(super) fn ask(&mut self, now: u64, at: Hashed<'_>, asker: &Asker<'_>) -> Asked {
        let Some(found) = self.serve(now, at) else {
            return self.ask_for_lease(now, at, asker);
        };
        self.counters.hits += 1;
        self.counters.coalesced += u64::from(asker.waited);
        let granted = found.stale
            && matches!(self.leases.give(now, at.hash, at.key.as_str(), asker.wish), Granted::Yes);
        self.counters.leases += u64::from(granted);
        Asked::Hit(found, granted.then_some(asker.wish.token))
    }

    fn ask_for_lease(&mut self, now: u64, at: Hashed<'_>, asker: &Asker<'_>) -> Asked {
        match self.leases.give(now, at.hash, at.key.as_str(), asker.wish) {
            Granted::Yes => {
                self.counters.misses += 1;
                self.counters.leases += 1;
                Asked::Leased(asker.wish.token)
            }
            Granted::Until(until) => {
                if let Some(waker) = asker.waker {
                    self.leases.wait(at.hash, at.key.as_str(), waker, &mut self.woken);
                }
                Asked::Busy { retry_after: Duration::from_millis(until - now) }
            }
            Granted::TooMany => Asked::Busy { retry_after: CACHE_LEASE_RETRY },
        }
    }

    /// The end of an entry if its version is this.
    pub(super) fn end_of(&self, at: Hashed<'_>, version: Version) -> Option<u64> {
        let i = self.find(at)?;
        (self.version(i) == version).then(|| self.ends(i).gone)
    }

    fn ends(&self, i: usize) -> Ends {
        let slot = &self.slots[i];
        let gone = if slot.extra == NONE { slot.fresh } else { self.tags.gone(slot.extra) };
        Ends { fresh: slot.fresh, gone }
    }

    // Writing.

    /// Whether a put under this condition and lease would be accepted. A lease whose holder may not put what
    /// it has is over: the next asker begins anew.
    pub(super) fn check(&mut self, now: u64, at: Hashed<'_>, put: &Put<'_>) -> Result<(), Error> {
        if let Some(token) = put.lease {
            self.check_lease(now, at, put.tags, token)?;
        }
        match (put.condition, put.condition != Condition::Always && self.live(now, at).is_some()) {
            (Condition::Absent, true) => Err(Error::KeyExists),
            (Condition::Present, false) => Err(Error::KeyMissing),
            (Condition::Always | Condition::Absent | Condition::Present, _) => Ok(()),
        }
    }

    /// Whether a put of these tags under this lease would be accepted.
    pub(super) fn check_lease(
        &mut self,
        now: u64,
        at: Hashed<'_>,
        tags: &[Tag<'_>],
        token: LeaseToken,
    ) -> Result<(), Error> {
        let key = at.key.as_str();
        let born = self.leases.held(now, at.hash, key, token).ok_or(Error::LeaseLost)?;
        if !self.tags.may_land(born, tags) {
            self.leases.end(at.hash, key, &mut self.woken);
            return Err(Error::LeaseLost);
        }
        Ok(())
    }

    /// Stores it, whatever is there; any lease on the key ends. `None` when there is no room.
    pub(super) fn store(
        &mut self,
        now: u64,
        entry: &Entry<'_>,
        block: Arc<[u8]>,
        room: Room<'_>,
    ) -> Option<Stored> {
        let known = self.find(entry.at);
        let cost = entry_cost(entry, block.len()) + self.tags.missing_cost(entry.tags);
        if !room(cost.saturating_sub(known.map_or(0, |i| self.cost(i)))) {
            return None;
        }
        self.end_lease(entry.at);
        let (i, stored) = match known {
            Some(i) => (i, self.clear(i, now, block)),
            None => (self.push(entry.at, block), Stored::New),
        };
        self.fill(i, entry);
        if known.is_none() && !self.common.kept {
            let warm = &mut Warm { slots: &mut self.slots, table: &self.table };
            self.policy.inserted(warm, index(i));
        }
        self.tidy(now, &mut { CACHE_WRITE_ENTRIES });
        Some(stored)
    }

    /// Puts another block into slot `i`, and makes it ready to be filled anew.
    fn clear(&mut self, i: usize, now: u64, block: Arc<[u8]>) -> Stored {
        let stored = match self.state(i, now) {
            State::Fresh | State::Stale => Stored::Replaced,
            State::Forgotten => Stored::New,
            State::Ended => {
                self.counters.expired += 1;
                Stored::New
            }
        };
        self.entry_bytes -= self.cost(i);
        self.unlink(i);
        self.drop_extra(i);
        self.freed = Some(std::mem::replace(&mut self.slots[i].held, Held::Bytes(block)));
        self.warm(i);
        stored
    }

    /// A new slot, without links and uncounted.
    fn push(&mut self, at: Hashed<'_>, block: Arc<[u8]>) -> usize {
        let slots = &mut self.slots;
        if slots.len() == slots.capacity() {
            slots.reserve_exact(slots.len() / 8 + 8);
        }
        let i = slots.len();
        slots.push(Slot {
            held: Held::Bytes(block),
            fresh: NEVER,
            link: Link::OUT,
            hash: at.hash,
            extra: NONE,
            version: 0,
            stored_s: 0,
            key_bytes: u16::try_from(at.key.as_bytes().len()).expect("BUG: keys are short"),
            type_bytes: 0,
            heat: 0,
            epoch: 0,
            flags: 0,
        });
        self.table.insert_unique(spread(at.hash), index(i), |i| spread(slots[*i as usize].hash));
        i
    }

    fn fill(&mut self, i: usize, entry: &Entry<'_>) {
        self.versions = self.versions.wrapping_add(1);
        let Ends { fresh, gone } = entry.ends;
        let extra = if needs_extra(entry) {
            let version = entry.version.map_or(0, |version| version.0);
            self.tags.attach(index(i), gone, version, entry.tags)
        } else {
            NONE
        };
        let slot = &mut self.slots[i];
        (slot.fresh, slot.extra) = (fresh, extra);
        (slot.version, slot.stored_s) = (self.versions, entry.stored_s);
        slot.type_bytes = entry.type_bytes;
        self.entry_bytes += self.cost(i);
        self.link(i);
    }

    /// What slot `i` costs with its extra.
    fn cost(&self, i: usize) -> u64 {
        let slot = &self.slots[i];
        let beside = match slot.extra {
            NONE => 0,
            extra => EXTRA_COST + MEMBER_COST * self.tags.tags_of(extra) as u64,
        };
        slot.cost() + beside
    }

    fn link(&mut self, i: usize) {
        if self.ends(i).gone != NEVER {
            let timed = &mut Timed { slots: &mut self.slots, tags: &self.tags };
            self.wheel.insert(timed, index(i));
        }
    }

    fn unlink(&mut self, i: usize) {
        let timed = &mut Timed { slots: &mut self.slots, tags: &self.tags };
        self.wheel.remove(timed, index(i));
    }

    /// Whether it was dead.
    fn drop_extra(&mut self, i: usize) -> bool {
        let extra = std::mem::replace(&mut self.slots[i].extra, NONE);
        extra != NONE && self.tags.detach(extra)
    }

    /// Removes slot `i`; the last one takes its place.
    fn remove(&mut self, i: usize, evicted: bool) {
        self.entry_bytes -= self.cost(i);
        if !self.common.kept {
            let warm = &Warm { slots: &mut self.slots, table: &self.table };
            self.policy.removed(warm, index(i), evicted);
        }
        self.unlink(i);
        self.drop_extra(i);
        self.table_remove(i);
        let last = self.slots.len() - 1;
        if i != last {
            let hash = self.slots[last].hash;
            let known = self.table.find_mut(spread(hash), |at| *at as usize == last);
            *known.expect("BUG: each slot is in the table") = index(i);
        }
        self.freed = Some(self.slots.swap_remove(i).held);
        if i != last {
            let timed = &mut Timed { slots: &mut self.slots, tags: &self.tags };
            self.wheel.moved(timed, index(i));
            let extra = self.slots[i].extra;
            if extra != NONE {
                self.tags.moved(extra, index(i));
            }
        }
        self.shrink();
    }

    fn table_remove(&mut self, i: usize) {
        let found = self.table.find_entry(spread(self.slots[i].hash), |at| *at as usize == i);
        match found {
            Ok(found) => drop(found.remove()),
            Err(_) => unreachable!("BUG: each slot is in the table"),
        }
    }

    /// Gives memory back when most of it is not used.
    fn shrink(&mut self) {
        let len = self.slots.len();
        if 2 * len + 64 < self.slots.capacity() {
            self.slots.shrink_to(len + len / 8);
            let slots = &self.slots;
            self.table.shrink_to(len + len / 8, |at| spread(slots[*at as usize].hash));
        }
    }

    /// Adds to a number. `None` when there is no room.
    pub(super) fn increment(
        &mut self,
        now: u64,
        at: Hashed<'_>,
        (by, ends): (i64, Ends),
        room: Room<'_>,
    ) -> Option<Result<i64, Error>> {
        let Some((i, _)) = self.live(now, at) else {
            return match sum(0, by) {
                Ok(sum) => self.start_number(now, at, (sum, ends), room).map(|_| Ok(sum)),
                Err(error) => Some(Err(error)),
            };
        };
        let old = integer(self.slots[i].bytes()).ok_or(Error::NotAnInteger);
        let sum = match old.and_then(|old| sum(old, by)) {
            Ok(sum) => sum,
            Err(error) => return Some(Err(error)),
        };
        let block = block(at.key, self.slots[i].type_text(), sum.to_string().as_bytes());
        let (before, after) = (self.slots[i].cost(), SLOT_COST + block_cost(block.len()));
        if !room(after.saturating_sub(before)) {
            return None;
        }
        self.end_lease(at);
        self.versions = self.versions.wrapping_add(1);
        let slot = &mut self.slots[i];
        self.freed = Some(std::mem::replace(&mut slot.held, Held::Bytes(block)));
        (slot.version, slot.stored_s) = (self.versions, seconds(now));
        self.entry_bytes = self.entry_bytes - before + after;
        self.warm(i);
        Some(Ok(sum))
    }

    fn start_number(
        &mut self,
        now: u64,
        at: Hashed<'_>,
        (number, ends): (i64, Ends),
        room: Room<'_>,
    ) -> Option<Stored> {
        let content_type = stored_type(ContentType::TEXT);
        let block = block(at.key, content_type, number.to_string().as_bytes());
        let type_bytes = u8::try_from(content_type.len()).expect("BUG: content types are short");
        let stored_s = seconds(now);
        let entry = Entry { at, type_bytes, ends, tags: &[], version: None, stored_s };
        self.store(now, &entry, block, room)
    }

    /// Gives a new life from now on: `None` for the window keeps it as long as it was. Whether the key is
    /// there; `None` when there is no room for a window.
    pub(super) fn touch(
        &mut self,
        now: u64,
        at: Hashed<'_>,
        (ttl, window): (u64, Option<u64>),
        room: Room<'_>,
    ) -> Option<bool> {
        let Some((i, _)) = self.live(now, at) else { return Some(false) };
        let old = self.ends(i);
        let window = window.unwrap_or(old.gone - old.fresh);
        let fresh = now + ttl;
        let bare = self.slots[i].extra == NONE;
        if bare && 0 < window && !room(EXTRA_COST) {
            return None;
        }
        self.unlink(i);
        self.slots[i].fresh = fresh;
        if !bare {
            self.tags.set_gone(self.slots[i].extra, fresh + window);
        } else if 0 < window {
            self.slots[i].extra = self.tags.attach(index(i), fresh + window, 0, &[]);
            self.entry_bytes += EXTRA_COST;
        }
        self.link(i);
        Some(true)
    }

    // Giving back.

    /// At most so many steps (fewer are left then) towards having removed what ended by `now` and what was forgotten; whether
    /// nothing is left.
    pub(super) fn tidy(&mut self, now: u64, steps: &mut usize) -> bool {
        self.tidy_some(now, steps, |_| false)
    }

    /// As [`Shard::tidy`], but of what was forgotten only as much as has to go before lists are counted.
    pub(super) fn tidy_for_count(&mut self, now: u64, steps: &mut usize) -> bool {
        self.tidy_some(now, steps, Tags::countable)
    }

    fn tidy_some(&mut self, now: u64, steps: &mut usize, enough: impl Fn(&Tags) -> bool) -> bool {
        if !self.leases.is_empty() {
            self.leases.expire(now, &mut self.woken);
        }
        if self.leases.is_empty() {
            self.tags.no_leases();
        }
        while 0 < *steps {
            *steps -= 1;
            let timed = &mut Timed { slots: &mut self.slots, tags: &self.tags };
            match self.wheel.step(timed, now) {
                Due::Ended(i) => {
                    let dead = self.state(i as usize, now) == State::Forgotten;
                    self.counters.expired += u64::from(!dead);
                    self.remove(i as usize, false);
                }
                Due::Moved => {}
                Due::Nothing if enough(&self.tags) => return true,
                Due::Nothing => match self.tags.next_dead() {
                    Some(i) => self.remove(i as usize, false),
                    None => return true,
                },
            }
        }
        false
    }

    /// Whether the policy has a newcomer to judge.
    pub(super) fn has_newcomer(&self) -> bool {
        0 < self.policy.waiting()
    }

    /// Lets go of one entry; whether there was one.
    pub(super) fn evict(&mut self, now: u64) -> bool {
        let before = self.bytes();
        self.tidy(now, &mut { CACHE_WRITE_ENTRIES });
        if self.bytes() < before {
            return true;
        }
        let warm = &mut Warm { slots: &mut self.slots, table: &self.table };
        let Some(victim) = self.policy.victim(warm) else { return false };
        match self.state(victim as usize, now) {
            State::Fresh | State::Stale => self.counters.evicted += 1,
            State::Ended => self.counters.expired += 1,
            State::Forgotten => {}
        }
        self.remove(victim as usize, true);
        true
    }

    /// Lets go of this key as if it had been evicted as soon as it was put; whether it was there.
    pub(super) fn let_go(&mut self, now: u64, at: Hashed<'_>) -> bool {
        self.end_lease(at);
        self.counters.evicted += 1;
        let there = self.live(now, at).is_some();
        if let (true, Some(i)) = (there, self.find(at)) {
            self.remove(i, true);
        }
        there
    }

    // Forgetting.

    /// Ends the lease on a key.
    pub(super) fn end_lease(&mut self, at: Hashed<'_>) {
        self.leases.end(at.hash, at.key.as_str(), &mut self.woken);
    }

    /// Ends the leases on keys that `of` accepts.
    pub(super) fn end_leases(&mut self, of: impl FnMut(&str) -> bool) {
        self.leases.end_all(of, &mut self.woken);
    }

    /// Whether the key is there; if `remove`, not any more.
    pub(super) fn forget_key(&mut self, now: u64, at: Hashed<'_>, remove: bool) -> bool {
        let Some((i, _)) = self.live(now, at) else { return false };
        if remove {
            self.remove(i, false);
        }
        true
    }

    /// Removes an entry if it has this version.
    pub(super) fn drop_version(&mut self, at: Hashed<'_>, version: Version) {
        if let Some(i) = self.find(at)
            && self.version(i) == version
        {
            self.remove(i, false);
        }
    }

    /// Walks from slot `from` downwards over at most `limit`, counts those that exist and that `of` accepts,
    /// and removes them if `remove`. Where to go on; 0 at the end. Downwards: what takes the place of one
    /// that is removed was seen before.
    pub(super) fn walk(
        &mut self,
        now: u64,
        (from, limit, remove): (usize, usize, bool),
        of: &dyn Fn(&str) -> bool,
    ) -> (u64, usize) {
        let from = from.min(self.slots.len());
        let until = from.saturating_sub(limit);
        let mut count = 0;
        for i in (until..from).rev() {
            let exists = matches!(self.state(i, now), State::Fresh | State::Stale);
            if exists && of(self.slots[i].key_text()) {
                count += 1;
                if remove {
                    self.remove(i, false);
                }
            }
        }
        (count, until)
    }

    /// Forgets what has the tag, see [`Shard::tidy_for_count`]; how many that were.
    pub(super) fn forget_tag(&mut self, tag: Tag<'_>, number: u64) -> u64 {
        self.end_leases_tagged(tag);
        self.tags.forget(tag, number, !self.leases.is_empty())
    }

    /// Leases that are out now may not put anything with the tag.
    pub(super) fn remember_tag(&mut self, tag: Tag<'_>, number: u64) {
        if !self.leases.is_empty() {
            self.end_leases_tagged(tag);
            self.tags.remember(tag, number);
        }
    }

    /// Ends the leases on keys whose entry has the tag: with the tag, the key is forgotten, whatever tags its
    /// next value will have.
    fn end_leases_tagged(&mut self, tag: Tag<'_>) {
        let tagged: Vec<(u32, Box<str>)> = {
            let leased =
                self.leases.on().filter_map(|(hash, key)| Some((hash, Key::parse(key).ok()?)));
            let tagged = leased.filter(|(hash, key)| {
                let extra =
                    self.find(Hashed { key: *key, hash: *hash }).map(|i| self.slots[i].extra);
                let extra = extra.filter(|extra| *extra != NONE && !self.tags.is_dead(*extra));
                extra.is_some_and(|extra| self.tags.names(extra).contains(&tag.as_str()))
            });
            tagged.map(|(hash, key)| (hash, key.as_str().into())).collect()
        };
        for (hash, key) in tagged {
            self.leases.end(hash, &key, &mut self.woken);
        }
    }

    /// How many have any of the tags, see [`Shard::tidy_for_count`].
    pub(super) fn count_tags(&self, tags: &[Tag<'_>]) -> u64 {
        self.tags.count(tags)
    }

    /// Whether an entry or a lease is there at `now`; for a shard that is tidy.
    pub(super) fn any_at(&self, now: u64) -> bool {
        0 < self.entries() || self.leases.any_at(now)
    }

    /// Shows those that exist among `limit` below slot `from`; where to go on, 0 at the end. With each comes
    /// its stale window, or what is left of it.
    pub(super) fn visit(
        &self,
        now: u64,
        (from, limit): (usize, usize),
        visit: Visitor<'_>,
    ) -> usize {
        let from = from.min(self.slots.len());
        let until = from.saturating_sub(limit);
        for i in (until..from).rev() {
            let stale = match self.state(i, now) {
                State::Fresh => false,
                State::Stale => true,
                State::Ended | State::Forgotten => continue,
            };
            let slot = &self.slots[i];
            let key = Key::parse(slot.key_text()).expect("BUG: a key was one when it came");
            let Ends { fresh, gone } = self.ends(i);
            let window = Duration::from_millis(gone - fresh.max(now));
            let names = if slot.extra == NONE { Vec::new() } else { self.tags.names(slot.extra) };
            visit(key, &self.found(i, now, stale), &names, window);
        }
        until
    }

    /// Everything that must hold between two calls.
    #[cfg(test)]
    pub(super) fn verify(&self) {
        assert_eq!(self.table.len(), self.slots.len());
        let mut bytes = 0;
        let mut dead = 0;
        for i in 0..self.slots.len() {
            bytes += self.cost(i);
            let slot = &self.slots[i];
            let key = Key::parse(slot.key_text()).unwrap();
            assert_eq!(self.find(Hashed { key, hash: slot.hash }), Some(i), "found by its key");
            assert_eq!(slot.link == Link::OUT, self.ends(i).gone == NEVER, "in the wheel");
            dead += usize::from(self.state(i, 0) == State::Forgotten);
            if slot.extra != NONE {
                self.tags.verify_slot(slot.extra, i);
            }
        }
        assert_eq!(bytes, self.entry_bytes);
        assert_eq!(dead, self.tags.dead());
        self.tags.verify(self.leases.is_empty());
    }
}

/// Since when something is there that was stored `age` ago.
pub(super) fn stored_s(now: u64, age: Duration) -> i32 {
    let age = i32::try_from(age.as_secs()).unwrap_or(i32::MAX);
    seconds(now).saturating_sub(age)
}

fn needs_extra(entry: &Entry<'_>) -> bool {
    entry.ends.fresh != entry.ends.gone || !entry.tags.is_empty() || entry.version.is_some()
}

/// What an entry costs without the lists of its tags.
pub(super) fn entry_cost(entry: &Entry<'_>, block_bytes: usize) -> u64 {
    let beside =
        if needs_extra(entry) { EXTRA_COST + MEMBER_COST * entry.tags.len() as u64 } else { 0 };
    SLOT_COST + block_cost(block_bytes) + beside
}

/// What a number costs at most.
pub(super) fn number_cost(key: Key<'_>) -> u64 {
    let digits = "-9007199254740991".len();
    let content_type = stored_type(ContentType::TEXT).len();
    SLOT_COST + EXTRA_COST + block_cost(key.as_bytes().len() + content_type + digits)
}

/// The largest number that JSON carries without loss.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// The sum, if it is one that may be stored.
pub(super) fn sum(old: i64, by: i64) -> Result<i64, Error> {
    let sum = old.checked_add(by).filter(|sum| sum.unsigned_abs() <= INTEGER_MAX);
    sum.ok_or(Error::Overflow)
}

/// The number that is written like this, in the one way that we write it.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let negative = digits.len() < text.len();
    let canonical = match digits {
        [b'0'] => !negative,
        [first, rest @ ..] => (b'1'..=b'9').contains(first) && rest.iter().all(u8::is_ascii_digit),
        [] => false,
    };
    std::str::from_utf8(text).ok().filter(|_| canonical)?.parse().ok()
}
