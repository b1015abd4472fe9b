//! What few entries have: a stale window, tags, a version of the disk. And by which tag they are forgotten.
//!
//! ```text
//!  record  name ----> list (current)  <---- member ----> member        doubly linked, any order
//!                                            |             |
//!                     list (grave)           v             v
//!                                          extra         extra          each knows its members and its slot
//! ```
//!
//! Forgetting a tag takes its list away and lays it among the graves: one step, however many members it has.
//! An entry is dead when any of its lists is a grave; readers look, and the members are removed later, step by
//! step. An entry with several tags can lie in several lists: as long as a grave has such a member, the count
//! of another list may include dead ones, so graves of that kind are emptied before a list is counted.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::entry::Tag;
use super::slot::{NONE, list_cost, lower_half, spread};
use crate::base::limits::FORGOTTEN_TAGS_MAX;

/// A vector whose places are used again.
struct Slab<T> {
    places: Vec<Place<T>>,
    free: u32,
    used: usize,
}

enum Place<T> {
    Full(T),
    Free(u32),
}

impl<T> Slab<T> {
    const fn new() -> Slab<T> {
        Slab { places: Vec::new(), free: NONE, used: 0 }
    }

    fn insert(&mut self, value: T) -> u32 {
        self.used += 1;
        if let Some(place) = self.places.get_mut(self.free as usize) {
            let at = self.free;
            let Place::Free(next) = std::mem::replace(place, Place::Full(value)) else {
                unreachable!("BUG: a free place is free");
            };
            self.free = next;
            return at;
        }
        if self.places.len() == self.places.capacity() {
            self.places.reserve_exact(self.places.len() / 8 + 4);
        }
        self.places.push(Place::Full(value));
        u32::try_from(self.places.len() - 1).expect("BUG: a shard has fewer than 2^32 of anything")
    }

    fn remove(&mut self, at: u32) -> T {
        let place = std::mem::replace(&mut self.places[at as usize], Place::Free(self.free));
        let Place::Full(value) = place else { unreachable!("BUG: removed twice") };
        self.free = at;
        self.used -= 1;
        if self.used == 0 {
            *self = Slab::new();
        }
        value
    }

    fn get(&self, at: u32) -> &T {
        let Place::Full(value) = &self.places[at as usize] else {
            unreachable!("BUG: an index leads to what is there");
        };
        value
    }

    fn get_mut(&mut self, at: u32) -> &mut T {
        let Place::Full(value) = &mut self.places[at as usize] else {
            unreachable!("BUG: an index leads to what is there");
        };
        value
    }
}

/// What stands beside an entry.
struct Extra {
    slot: u32,
    members: u32,
    gone: u64,
    version: u64,
}

/// An entry in the list of a tag.
struct Member {
    extra: u32,
    list: u32,
    before: u32,
    after: u32,
    /// The entry's next tag.
    sibling: u32,
}

struct List {
    first: u32,
    count: u32,
    /// How many of them have several tags.
    several: u32,
    /// The record; `NONE` for a grave.
    record: u32,
    cost: u32,
}

struct Record {
    name: Box<str>,
    hash: u32,
    list: u32,
    /// The number of the last forget that a lease may have to know; 0 for none.
    forgotten_at: u64,
}

/// The extras and tags of a shard.
pub(super) struct Tags {
    extras: Slab<Extra>,
    members: Slab<Member>,
    lists: Slab<List>,
    records: Slab<Record>,
    table: HashTable<u32>,
    graves: Vec<u32>,
    /// Members of graves that have several tags.
    several: u64,
    /// Entries that lie in a grave.
    dead: usize,
    /// Records without members, kept for the leases that are out.
    remembered: usize,
    /// Leases born before this may not put anything with tags.
    floor: u64,
    /// What all lists cost.
    cost: u64,
    hasher: FixedState,
}

impl Tags {
    /// None yet.
    pub(super) fn new(hasher: FixedState) -> Tags {
        Tags {
            extras: Slab::new(),
            members: Slab::new(),
            lists: Slab::new(),
            records: Slab::new(),
            table: HashTable::new(),
            graves: Vec::new(),
            several: 0,
            dead: 0,
            remembered: 0,
            floor: 0,
            cost: 0,
            hasher,
        }
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        self.extras.used == 0 && self.lists.used == 0 && self.records.used == 0
    }

    /// What the lists cost; extras and members are counted with their entries.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// Entries that were forgotten and not yet removed.
    pub(super) fn dead(&self) -> usize {
        self.dead
    }

    /// Whether the count of a list is exact.
    pub(super) fn countable(&self) -> bool {
        self.several == 0
    }

    /// Stands beside the entry in `slot` from now on.
    pub(super) fn attach(&mut self, slot: u32, gone: u64, version: u64, tags: &[Tag<'_>]) -> u32 {
        let extra = self.extras.insert(Extra { slot, members: NONE, gone, version });
        for tag in tags.iter().rev() {
            let list = self.list_of(tag.as_str());
            let sibling = self.extras.get(extra).members;
            let after = self.lists.get(list).first;
            let member = self.members.insert(Member { extra, list, before: NONE, after, sibling });
            if after != NONE {
                self.members.get_mut(after).before = member;
            }
            let list = self.lists.get_mut(list);
            list.first = member;
            list.count += 1;
            list.several += u32::from(1 < tags.len());
            self.extras.get_mut(extra).members = member;
        }
        extra
    }

    /// Takes away what stands beside an entry; whether that was dead.
    pub(super) fn detach(&mut self, extra: u32) -> bool {
        let dead = self.is_dead(extra);
        let several = 1 < self.tags_of(extra);
        self.dead -= usize::from(dead);
        let mut next = self.extras.remove(extra).members;
        while next != NONE {
            let member = self.members.remove(next);
            next = member.sibling;
            self.unlink(&member, several);
        }
        dead
    }

    fn unlink(&mut self, member: &Member, several: bool) {
        if member.before != NONE {
            self.members.get_mut(member.before).after = member.after;
        }
        if member.after != NONE {
            self.members.get_mut(member.after).before = member.before;
        }
        let list = self.lists.get_mut(member.list);
        if member.before == NONE {
            list.first = member.after;
        }
        list.count -= 1;
        list.several -= u32::from(several);
        let (empty, record) = (list.count == 0, list.record);
        if record == NONE {
            // Whoever empties the graves removes it.
            self.several -= u64::from(several);
        } else if empty {
            self.drop_list(member.list);
            self.records.get_mut(record).list = NONE;
            self.without_members(record);
        }
    }

    fn drop_list(&mut self, list: u32) {
        self.cost -= u64::from(self.lists.remove(list).cost);
    }

    /// A record that lost its list goes, unless a lease may have to know it.
    fn without_members(&mut self, record: u32) {
        let forgotten_at = self.records.get(record).forgotten_at;
        if forgotten_at == 0 {
            self.drop_record(record);
        } else if FORGOTTEN_TAGS_MAX <= self.remembered {
            // There are too many to remember each: no older lease may put anything with tags.
            let number = |tags: &Tags, at: u32| tags.records.get(at).forgotten_at;
            self.floor =
                self.table.iter().map(|at| number(self, *at)).max().unwrap_or(0).max(self.floor);
            self.remembered += 1;
            self.forget_records();
        } else {
            self.remembered += 1;
        }
    }

    fn drop_record(&mut self, at: u32) {
        let record = self.records.remove(at);
        if let Ok(found) = self.table.find_entry(spread(record.hash), |known| *known == at) {
            found.remove();
        }
    }

    /// Lets go of the records without members, and of what the others remember.
    fn forget_records(&mut self) {
        let records = &mut self.records;
        self.table.retain(|at| {
            let record = records.get_mut(*at);
            record.forgotten_at = 0;
            let stays = record.list != NONE;
            if !stays {
                records.remove(*at);
            }
            stays
        });
        self.remembered = 0;
    }

    /// No lease is out: nobody asks for what was forgotten.
    pub(super) fn no_leases(&mut self) {
        if 0 < self.remembered {
            self.forget_records();
        }
    }

    fn hash(&self, name: &str) -> u32 {
        lower_half(self.hasher.hash_one(name.as_bytes()))
    }

    fn find(&self, name: &str, hash: u32) -> Option<u32> {
        let same = |at: &u32| *self.records.get(*at).name == *name;
        self.table.find(spread(hash), same).copied()
    }

    fn record_of(&mut self, name: &str) -> u32 {
        let hash = self.hash(name);
        if let Some(at) = self.find(name, hash) {
            return at;
        }
        let record = Record { name: name.into(), hash, list: NONE, forgotten_at: 0 };
        let at = self.records.insert(record);
        let records = &self.records;
        self.table.insert_unique(spread(hash), at, |at| spread(records.get(*at).hash));
        at
    }

    fn list_of(&mut self, name: &str) -> u32 {
        let at = self.record_of(name);
        let record = self.records.get_mut(at);
        if record.list != NONE {
            return record.list;
        }
        self.remembered -= usize::from(record.forgotten_at != 0);
        let cost = list_cost(name.len());
        self.cost += cost;
        let cost = u32::try_from(cost).expect("BUG: a tag is short");
        let list = self.lists.insert(List { first: NONE, count: 0, several: 0, record: at, cost });
        self.records.get_mut(at).list = list;
        list
    }

    fn known_list(&self, name: &str) -> Option<u32> {
        let at = self.find(name, self.hash(name))?;
        Some(self.records.get(at).list).filter(|list| *list != NONE)
    }

    /// What the lists would cost that are not there yet.
    pub(super) fn missing_cost(&self, tags: &[Tag<'_>]) -> u64 {
        let missing = tags.iter().filter(|tag| self.known_list(tag.as_str()).is_none());
        missing.map(|tag| list_cost(tag.as_str().len())).sum()
    }

    /// Its slot is that one now.
    pub(super) fn moved(&mut self, extra: u32, slot: u32) {
        self.extras.get_mut(extra).slot = slot;
    }

    /// When its entry is gone.
    pub(super) fn gone(&self, extra: u32) -> u64 {
        self.extras.get(extra).gone
    }

    /// Its entry is gone then.
    pub(super) fn set_gone(&mut self, extra: u32, gone: u64) {
        self.extras.get_mut(extra).gone = gone;
    }

    /// The version that the disk knows; 0 for those that the shard gave.
    pub(super) fn version(&self, extra: u32) -> u64 {
        self.extras.get(extra).version
    }

    fn members_of(&self, extra: u32) -> impl Iterator<Item = &Member> {
        let first = self.extras.get(extra).members;
        let member = |at: u32| (at != NONE).then(|| self.members.get(at));
        std::iter::successors(member(first), move |last| member(last.sibling))
    }

    /// How many tags it has.
    pub(super) fn tags_of(&self, extra: u32) -> usize {
        self.members_of(extra).count()
    }

    /// Whether it was forgotten by one of its tags.
    pub(super) fn is_dead(&self, extra: u32) -> bool {
        self.members_of(extra).any(|member| self.lists.get(member.list).record == NONE)
    }

    /// The names of its tags; it is not dead.
    pub(super) fn names(&self, extra: u32) -> Vec<&str> {
        let name = |member: &Member| &*self.records.get(self.lists.get(member.list).record).name;
        self.members_of(extra).map(name).collect()
    }

    /// Forgets everything with this tag, and says how many that were; `number` is remembered for `leases`.
    pub(super) fn forget(&mut self, tag: Tag<'_>, number: u64, leases: bool) -> u64 {
        debug_assert!(self.countable(), "BUG: graves are emptied first");
        if leases {
            self.remember(tag, number);
        }
        let Some(list) = self.known_list(tag.as_str()) else { return 0 };
        let grave = self.lists.get_mut(list);
        let record = std::mem::replace(&mut grave.record, NONE);
        let count = grave.count;
        self.several += u64::from(grave.several);
        self.dead += count as usize;
        self.graves.push(list);
        self.records.get_mut(record).list = NONE;
        self.without_members(record);
        u64::from(count)
    }

    /// Leases born before `number` may not put anything with this tag.
    pub(super) fn remember(&mut self, tag: Tag<'_>, number: u64) {
        let at = self.record_of(tag.as_str());
        let record = self.records.get_mut(at);
        let (bare, known) = (record.list == NONE, record.forgotten_at != 0);
        record.forgotten_at = record.forgotten_at.max(number);
        if bare && !known {
            self.without_members(at);
        }
    }

    /// How many have any of these tags. Several lists are walked: none is counted twice.
    pub(super) fn count(&self, tags: &[Tag<'_>]) -> u64 {
        debug_assert!(self.countable(), "BUG: graves are emptied first");
        let mut lists: Vec<u32> =
            tags.iter().filter_map(|tag| self.known_list(tag.as_str())).collect();
        lists.sort_unstable();
        lists.dedup();
        if let [list] = *lists {
            return u64::from(self.lists.get(list).count);
        }
        let mut count = 0;
        for (rank, list) in lists.iter().enumerate() {
            let mut next = self.lists.get(*list).first;
            while next != NONE {
                let member = self.members.get(next);
                let mut all = self.members_of(member.extra);
                count += u64::from(!all.any(|other| lists[..rank].contains(&other.list)));
                next = member.after;
            }
        }
        count
    }

    /// The slot of one that is dead.
    pub(super) fn next_dead(&mut self) -> Option<u32> {
        while let Some(list) = self.graves.last().copied() {
            let first = self.lists.get(list).first;
            if first != NONE {
                return Some(self.extras.get(self.members.get(first).extra).slot);
            }
            self.drop_list(list);
            self.graves.pop();
        }
        self.graves = Vec::new();
        None
    }

    /// Whether a lease that was born at `born` may put something with these tags.
    pub(super) fn may_land(&self, born: u64, tags: &[Tag<'_>]) -> bool {
        let forgotten_at = |tag: &Tag<'_>| {
            let at = self.find(tag.as_str(), self.hash(tag.as_str()));
            at.map_or(0, |at| self.records.get(at).forgotten_at)
        };
        tags.is_empty() || self.floor <= born && tags.iter().all(|tag| forgotten_at(tag) <= born)
    }

    /// Whether the extra knows its slot.
    #[cfg(test)]
    pub(super) fn verify_slot(&self, extra: u32, slot: usize) {
        assert_eq!(self.extras.get(extra).slot as usize, slot, "the extra knows its slot");
    }

    /// Everything that must hold between two calls.
    #[cfg(test)]
    pub(super) fn verify(&self, no_leases: bool) {
        let full = |place: &Place<List>| match place {
            Place::Full(list) => (u64::from(list.cost), u64::from(list.count)),
            Place::Free(_) => (0, 0),
        };
        let lists = || self.lists.places.iter().map(full);
        assert_eq!(lists().map(|(cost, _)| cost).sum::<u64>(), self.cost);
        let members = lists().map(|(_, count)| count).sum::<u64>();
        assert_eq!(members, self.members.used as u64);
        assert_eq!(self.table.len(), self.records.used);
        let bare = |at: &&u32| self.records.get(**at).list == NONE;
        let bare = self.table.iter().filter(bare).count();
        assert_eq!(bare, self.remembered, "records without members; leases out: {}", !no_leases);
        let several = |at: &u32| u64::from(self.lists.get(*at).several);
        assert_eq!(self.graves.iter().map(several).sum::<u64>(), self.several);
    }
}
