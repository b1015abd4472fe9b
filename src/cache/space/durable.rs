//! What only a kept namespace needs, and what gives a lease back.

use super::{Space, whole_ms};
use crate::base::time::Mono;
use crate::cache::entry::{Key, LeaseToken, Life, Version};

impl Space {
    /// Applies a new life that was committed, counted from `now`, to the entry with this version; whether it is
    /// there. Without room for what a stale window takes there is none.
    pub fn renew(&self, now: Mono, key: Key<'_>, version: Version, life: Life) -> bool {
        let (place, at) = self.locate(key);
        let now = self.ms(now);
        let (done, _) = self.locked(place, now, |shard, room| {
            if shard.end_of(at, version).is_none() {
                return false;
            }
            let Some(ttl) = life.ttl().map(whole_ms) else {
                return true;
            };
            let window = whole_ms(life.stale());
            let renewed = shard.touch(now, at, (ttl, Some(window)), &mut *room);
            renewed.or_else(|| shard.touch(now, at, (ttl, Some(0)), room)).unwrap_or(false)
        });
        done
    }

    /// Whoever has this lease does not compute any more: the next one who asks may.
    pub fn give_up(&self, key: Key<'_>, lease: LeaseToken) {
        let (place, at) = self.locate(key);
        self.existing(place, |shard| {
            // One that has ended may go as well.
            if shard.check_lease(0, at, &[], lease).is_ok() {
                shard.end_lease(at);
            }
        });
    }
}
