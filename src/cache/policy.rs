//! Which entry of a shard gives way: W-TinyLFU without lists.
//!
//! ```text
//!  new key --> window (oldest first) --its turn--> duel --colder--> evicted --> sketch remembers its heat
//!                                                   |                                   |
//!              the coldest of a few slots at the    |                                   v
//!              hand that walks the shard  ----------'--hotter--> stays       a new key starts from there
//! ```
//!
//! A slot carries its own count of hits ([`Heat`]), so that a hit touches nothing but the slot it found.
//! The sketch counts the keys that are not there, and is touched by insertions and evictions alone. All
//! counts are halved after every [`PERIOD`] touches an entry: the sketch at once, a slot when it is looked
//! at next. What is counted to the brim already is no touch: else the hottest keys would make all others
//! forgotten.
//!
//! A shard calls [`Policy::hit`] for a slot that was served or overwritten, [`Policy::inserted`] after a new
//! key was pushed, [`Policy::removed`] before any slot goes, and [`Policy::victim`] to learn which should.
//!
//! **Which shard gives way.** The shards of a space take turns, but a shard where nobody is
//! [`Policy::waiting`] for a duel is passed over; when there is none with a newcomer, it is the turn of the
//! shard that needs the room. So every insertion is followed by one duel where it happened, and the sizes of
//! shards stay as the keys lie. Plain turns let the sizes drift apart and evict in shards that have nobody to
//! judge: with 1,000 entries in 32 shards that costs 2 points of the hit ratio under a Zipf law, and 17 in
//! a loop that is a little too long.
//!
//! **Invariants**
//! - The same seed and the same calls give the same victims.
//! - [`Policy::victim`] names a slot whenever there is one.
//! - A few bytes an entry; none in an empty shard that forgot what it had.
//! - The queue of the window may name slots that are gone, and never holds more than its bound. Whoever is
//!   marked as in the window while the queue is empty is ordinary, so that nobody is immortal.

use std::collections::VecDeque;

use crate::base::rng::Rng;

/// Touches (hits and insertions) an entry after which every count is halved.
const PERIOD: u32 = 10;
/// Slots among which the hand looks for the coldest.
const SAMPLE: u32 = 8;
/// One in so many entries may be in the window.
const WINDOW_ONE_IN: usize = 100;
/// The window may be so much longer than its share: newcomers do not come evenly.
const WINDOW_SLACK: usize = 1;
/// The most that is counted of a slot.
const HITS_MAX: u8 = 31;
/// A candidate that lost wins once in so many duels, if it is not cold: else keys chosen to collide in the
/// sketch with what is there could keep all others out.
const LUCK_ONE_IN: u64 = 128;
/// So warm is not cold.
const LUCK_HITS: u8 = 6;

/// How warm a slot is; three fields of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heat {
    /// Hits, halved once an epoch.
    pub(super) hits: u8,
    /// The epoch in which they were halved last.
    pub(super) epoch: u8,
    /// Whether it is new and has not met a rival yet.
    pub(super) window: bool,
}

/// The slots of a shard, as the policy sees them: dense, in any order.
pub(super) trait Slots {
    /// How many there are.
    fn len(&self) -> u32;
    /// How warm the slot is.
    fn heat(&self, at: u32) -> Heat;
    /// Makes it so warm.
    fn set_heat(&mut self, at: u32, heat: Heat);
    /// The hash of its key: the one by which [`Slots::find`] finds it.
    fn hash(&self, at: u32) -> u32;
    /// A slot with this hash that is in the window.
    fn find(&self, hash: u32) -> Option<u32>;
}

/// What a shard remembers in order to choose.
pub(super) struct Policy {
    sketch: Sketch,
    /// Hashes of those that are new, the oldest first.
    window: VecDeque<u32>,
    /// Where the search for the coldest goes on.
    hand: u32,
    epoch: u8,
    /// Touches of this epoch, and after how many it ends.
    touches: u32,
    period: u32,
    rng: Rng,
}

impl Policy {
    /// That of an empty shard.
    pub(super) fn new(rng: Rng) -> Policy {
        let (sketch, window) = (Sketch::default(), VecDeque::new());
        Policy { sketch, window, hand: 0, epoch: 0, touches: 0, period: PERIOD, rng }
    }

    /// The slot with this heat was served, or overwritten in place.
    #[inline]
    pub(super) fn hit(&mut self, heat: &mut Heat) {
        *heat = self.settled(*heat);
        if heat.hits < HITS_MAX {
            heat.hits += 1;
            self.touch();
        }
    }

    /// A new key has the slot `at`.
    pub(super) fn inserted(&mut self, slots: &mut impl Slots, at: u32) {
        self.period = slots.len().saturating_mul(PERIOD).max(PERIOD);
        self.sketch.fit(slots.len());
        let hash = slots.hash(at);
        let hits = self.sketch.bump(hash);
        slots.set_heat(at, Heat { hits, epoch: self.epoch, window: true });
        self.window.push_back(hash);
        if window_share(slots.len()) + WINDOW_SLACK < self.window.len() {
            self.leave_window(slots);
        }
        self.touch();
    }

    /// The slot that is to give way, if there is one. It is still there; the caller removes it.
    pub(super) fn victim(&mut self, slots: &mut impl Slots) -> Option<u32> {
        let candidate = self.candidate(slots);
        let rival = self.coldest(slots);
        let (Some(candidate), Some(rival)) = (candidate, rival) else {
            return candidate.or(rival);
        };
        let heat = self.settled(slots.heat(candidate));
        let other = self.settled(slots.heat(rival));
        let lucky = LUCK_HITS <= heat.hits && self.rng.one_in(LUCK_ONE_IN);
        if other.hits < heat.hits || lucky {
            slots.set_heat(candidate, Heat { window: false, ..heat });
            Some(rival)
        } else {
            Some(candidate)
        }
    }

    /// The slot `at` is about to be removed; `evicted`: because it was the victim. Its place is then taken
    /// by the last slot.
    pub(super) fn removed(&mut self, slots: &impl Slots, at: u32, evicted: bool) {
        if evicted {
            let hits = self.settled(slots.heat(at)).hits;
            self.sketch.raise(slots.hash(at), hits);
        } else if slots.len() <= 1 {
            self.sketch = Sketch::default();
            self.window = VecDeque::new();
        }
    }

    /// How many newcomers wait for their duel; a few of them may be gone already.
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        self.window.len()
    }

    /// The memory it has taken, itself not included.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.sketch.words.capacity() * size_of::<u64>() + self.window.capacity() * size_of::<u32>()
    }

    /// The oldest of the window, which is taken out of its queue.
    fn candidate(&mut self, slots: &impl Slots) -> Option<u32> {
        while let Some(hash) = self.window.pop_front() {
            if let Some(at) = slots.find(hash) {
                return Some(at);
            }
        }
        None
    }

    /// The oldest of the window becomes an ordinary slot without a duel.
    fn leave_window(&mut self, slots: &mut impl Slots) {
        if let Some(at) = self.window.pop_front().and_then(|hash| slots.find(hash)) {
            slots.set_heat(at, Heat { window: false, ..slots.heat(at) });
        }
    }

    /// The coldest of a few slots that are not in the window.
    fn coldest(&mut self, slots: &mut impl Slots) -> Option<u32> {
        let mut coldest: Option<(u32, Heat)> = None;
        for _ in 0..SAMPLE.min(slots.len()) {
            if slots.len() <= self.hand {
                self.hand = 0;
            }
            let at = self.hand;
            self.hand += 1;
            let heat = self.settled(slots.heat(at));
            if heat.window && !self.window.is_empty() {
                continue;
            }
            let heat = Heat { window: false, ..heat };
            slots.set_heat(at, heat);
            if coldest.is_none_or(|(_, other)| heat.hits < other.hits) {
                coldest = Some((at, heat));
            }
        }
        coldest.map(|(at, _)| at)
    }

    /// The heat as it is now.
    #[inline]
    fn settled(&self, heat: Heat) -> Heat {
        let passed = self.epoch.wrapping_sub(heat.epoch);
        Heat { hits: heat.hits >> passed.min(7), epoch: self.epoch, window: heat.window }
    }

    #[inline]
    fn touch(&mut self) {
        self.touches += 1;
        if self.period <= self.touches {
            self.next_epoch();
        }
    }

    #[cold]
    fn next_epoch(&mut self) {
        self.touches = 0;
        self.epoch = self.epoch.wrapping_add(1);
        self.sketch.halve();
    }
}

/// How many of `entries` may be in the window.
fn window_share(entries: u32) -> usize {
    (entries as usize / WINDOW_ONE_IN).max(1)
}

/// Words of a block of the sketch: what one access to memory brings.
const BLOCK: usize = 8;
/// Counters of a key, each in a part of its block of its own. So many keys come by that more would make
/// the counts worse.
const ROWS: usize = 2;
/// Entries for which a block is enough. Twice as many cost a point of the hit ratio when a scan runs
/// through.
const BLOCK_ENTRIES: u32 = 16;
/// The sketch shrinks when it is so many times too large.
const SHRINK_AT: usize = 8;
/// The most that a counter of the sketch counts.
const COUNT_MAX: u8 = 15;

/// About how often each key was seen: a count-min sketch of 4-bit counters. All counters of a key are in one
/// block.
#[derive(Default)]
struct Sketch {
    words: Vec<u64>,
}

impl Sketch {
    /// Grows or shrinks to what `entries` need; what was counted stays.
    fn fit(&mut self, entries: u32) {
        let wanted = BLOCK * (entries.div_ceil(BLOCK_ENTRIES) as usize).next_power_of_two();
        if self.words.is_empty() {
            self.words = vec![0; wanted];
        }
        while self.words.len() < wanted {
            self.double();
        }
        while wanted * SHRINK_AT <= self.words.len() {
            self.halve_size();
        }
    }

    /// The keys of a block go to two neighbours: each finds its counts in its own.
    fn double(&mut self) {
        let twice = self.words.chunks_exact(BLOCK).flat_map(|block| [block, block]);
        self.words = twice.flatten().copied().collect();
    }

    /// The keys of two neighbours come to one block, which has the larger of each two counts.
    fn halve_size(&mut self) {
        let mut words = Vec::with_capacity(self.words.len() / 2);
        for pair in self.words.chunks_exact(2 * BLOCK) {
            let (one, other) = pair.split_at(BLOCK);
            words.extend(one.iter().zip(other).map(|(one, other)| larger(*one, *other)));
        }
        self.words = words;
    }

    /// Counts one more of `hash`; how many that are.
    fn bump(&mut self, hash: u32) -> u8 {
        let count = self.count(hash).saturating_add(1).min(COUNT_MAX);
        self.raise(hash, count);
        count
    }

    /// At least `count` of `hash` were seen.
    fn raise(&mut self, hash: u32, count: u8) {
        let count = u64::from(count.min(COUNT_MAX));
        for (word, shift) in self.places(hash).into_iter().flatten() {
            let seen = self.words[word] >> shift & 15;
            if seen < count {
                self.words[word] = self.words[word] & !(15 << shift) | count << shift;
            }
        }
    }

    /// How many of `hash` were seen, or more.
    fn count(&self, hash: u32) -> u8 {
        let counts = self.places(hash).into_iter().flatten();
        let least = counts.map(|(word, shift)| self.words[word] >> shift & 15).min();
        u8::try_from(least.unwrap_or(0)).expect("BUG: a counter has 4 bits")
    }

    /// The counters of `hash`: words, and where in them. None while there are no words.
    fn places(&self, hash: u32) -> Option<[(usize, u32); ROWS]> {
        let blocks = (self.words.len() / BLOCK) as u64;
        if blocks == 0 {
            return None;
        }
        // The hashes of a shard may have some bits in common.
        let mixed = (u64::from(hash) ^ u64::from(hash) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let block = usize::try_from(((mixed >> 32) * blocks) >> 32).expect("BUG: it is below len");
        let place = |row: usize| {
            // Two bits say which word of the row's part, four which counter of it.
            let bits = mixed >> (row * 6);
            let word = usize::try_from(bits & 3).expect("BUG: it is below 4");
            let shift = u32::try_from((bits >> 2 & 15) * 4).expect("BUG: it is below 64");
            (block * BLOCK + row * (BLOCK / ROWS) + word, shift)
        };
        Some(std::array::from_fn(place))
    }

    /// Halves every count.
    fn halve(&mut self) {
        for word in &mut self.words {
            *word = *word >> 1 & 0x7777_7777_7777_7777;
        }
    }
}

/// The larger of each two counters.
fn larger(one: u64, other: u64) -> u64 {
    (0..64).step_by(4).map(|at| (one >> at & 15).max(other >> at & 15) << at).sum()
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Heat, PERIOD, Policy, Sketch, Slots, WINDOW_SLACK, window_share};
    use crate::base::rng::Rng;
    use crate::testing::seeds;

    /// Slots that are known by their hash alone.
    #[derive(Clone, Default)]
    struct Plain(Vec<(u32, Heat)>);

    impl Slots for Plain {
        fn len(&self) -> u32 {
            u32::try_from(self.0.len()).unwrap()
        }

        fn heat(&self, at: u32) -> Heat {
            self.0[at as usize].1
        }

        fn set_heat(&mut self, at: u32, heat: Heat) {
            self.0[at as usize].1 = heat;
        }

        fn hash(&self, at: u32) -> u32 {
            self.0[at as usize].0
        }

        fn find(&self, hash: u32) -> Option<u32> {
            let at = self.0.iter().position(|(h, heat)| *h == hash && heat.window);
            at.map(|at| u32::try_from(at).unwrap())
        }
    }

    struct Shard {
        slots: Plain,
        policy: Policy,
    }

    impl Shard {
        fn new(seed: u64) -> Shard {
            Shard { slots: Plain::default(), policy: Policy::new(Rng::from_seed(seed)) }
        }

        fn insert(&mut self, hash: u32) {
            self.slots.0.push((hash, Heat::default()));
            let at = self.slots.len() - 1;
            self.policy.inserted(&mut self.slots, at);
        }

        fn remove(&mut self, at: u32, evicted: bool) -> u32 {
            self.policy.removed(&self.slots, at, evicted);
            self.slots.0.swap_remove(at as usize).0
        }

        fn evict(&mut self) -> Option<u32> {
            let at = self.policy.victim(&mut self.slots)?;
            Some(self.remove(at, true))
        }

        fn hit(&mut self, at: usize) {
            self.policy.hit(&mut self.slots.0[at].1);
        }

        /// An app's access with room for `room` entries; whether it was a hit.
        fn access(&mut self, hash: u32, room: usize) -> bool {
            if let Some(at) = self.slots.0.iter().position(|(h, _)| *h == hash) {
                self.hit(at);
                return true;
            }
            while room <= self.slots.0.len() {
                self.evict().unwrap();
            }
            self.insert(hash);
            false
        }
    }

    #[test]
    fn a_scan_does_not_flush_what_is_used() {
        for seed in seeds(4) {
            let (mut shard, mut rng, mut hits) = (Shard::new(seed), Rng::from_seed(seed), 0);
            for n in 0..20_000_u32 {
                // Forty keys in use, room for fifty, and two keys in three are never seen again.
                let used = n % 3 == 0;
                let key = if used { u32::try_from(rng.below(40)).unwrap() } else { 1000 + n };
                hits += u32::from(shard.access(key, 50) && used);
            }
            assert!(6_300 < hits, "seed {seed}: {hits} of 6,667");
        }
    }

    #[test]
    fn a_loop_that_is_too_long_by_a_tenth_is_served_by_most_of_the_room() {
        for seed in seeds(4) {
            let mut shard = Shard::new(seed);
            let hits = (0..44_000).filter(|n| shard.access(n % 220, 200)).count();
            assert!(38_000 < hits, "seed {seed}: {hits} of 44,000, at best 40,000");
        }
    }

    #[test]
    fn what_was_popular_gives_way_to_what_is() {
        for seed in seeds(4) {
            let (mut shard, mut rng) = (Shard::new(seed), Rng::from_seed(seed));
            let mut key = |from: u32| from + u32::try_from(rng.below(100)).unwrap();
            for n in 0..40_000 {
                shard.access(key(if n < 20_000 { 0 } else { 500 }), 100);
            }
            let hits = (0..1_000).filter(|_| shard.access(key(500), 100)).count();
            assert!(900 < hits, "seed {seed}: {hits} of 1,000");
        }
    }

    #[test]
    fn what_was_evicted_is_remembered_and_wins_when_it_comes_again() {
        let mut shard = Shard::new(1);
        shard.insert(7);
        (0..5).for_each(|_| shard.hit(0));
        assert_eq!(shard.evict(), Some(7));
        (0..20).for_each(|hash| shard.insert(100 + hash));
        shard.insert(7);
        assert_eq!(shard.slots.0[20].1.hits, 7, "two insertions and five hits");
        while shard.policy.waiting() != 0 {
            assert_ne!(shard.evict(), Some(7));
        }
    }

    #[test]
    fn the_same_seed_and_the_same_calls_give_the_same_victims() {
        let run = |seed| {
            let (mut shard, mut rng) = (Shard::new(seed), Rng::from_seed(3));
            for _ in 0..5_000 {
                shard.access(u32::try_from(rng.below(300)).unwrap(), 50);
            }
            shard.slots.0
        };
        for seed in seeds(4) {
            assert_eq!(run(seed), run(seed), "seed {seed}");
        }
    }

    #[test]
    fn whatever_goes_at_any_time_there_is_a_victim_and_the_memory_is_bounded() {
        for seed in seeds(40) {
            let (mut shard, mut rng) = (Shard::new(seed), Rng::from_seed(seed));
            let most = 1 + rng.index(200);
            for step in 0..3_000 {
                let (len, context) = (shard.slots.0.len(), format!("seed {seed} step {step}"));
                match rng.below(8) {
                    0..3 if len < most => shard.insert(u32::try_from(rng.below(400)).unwrap()),
                    3 if len != 0 => {
                        let at = u32::try_from(rng.index(len)).unwrap();
                        shard.remove(at, false);
                    }
                    4 => assert_eq!(shard.evict().is_some(), len != 0, "{context}"),
                    _ if len != 0 => shard.hit(rng.index(len)),
                    _ => {}
                }
                let bound = window_share(shard.slots.len()) + WINDOW_SLACK + 2;
                assert!(shard.policy.waiting() <= bound, "{context}");
                assert!(shard.policy.bytes() <= 64 + 16 * most, "{context}");
            }
            while shard.evict().is_some() {}
            assert!(shard.slots.0.is_empty(), "seed {seed}");
        }
    }

    #[test]
    fn nobody_is_immortal_whose_place_in_the_queue_was_lost() {
        let mut shard = Shard::new(1);
        (0..3).for_each(|hash| shard.insert(hash));
        shard.policy.window.clear();
        let victims: Vec<Option<u32>> = (0..4).map(|_| shard.evict()).collect();
        assert!(victims[..3].iter().all(Option::is_some) && victims[3].is_none(), "{victims:?}");
    }

    #[test]
    fn a_shard_that_forgot_everything_takes_no_memory() {
        let mut shard = Shard::new(1);
        (0..100).for_each(|hash| shard.insert(hash));
        assert!(64 * 7 < shard.policy.bytes());
        while !shard.slots.0.is_empty() {
            shard.remove(0, false);
        }
        assert_eq!(shard.policy.bytes(), 0);
    }

    #[test]
    fn hits_are_halved_once_an_epoch_and_the_hottest_do_not_hasten_it() {
        let mut shard = Shard::new(1);
        (0..2).for_each(|hash| shard.insert(hash));
        (0..7).for_each(|_| shard.hit(0));
        let before = shard.policy.settled(shard.slots.0[0].1).hits;
        assert_eq!(before, 8);
        (0..2 * PERIOD).for_each(|_| shard.hit(1));
        assert_eq!(shard.policy.settled(shard.slots.0[0].1).hits, 4);
        (0..1_000).for_each(|_| shard.hit(1));
        let (epoch, hits) = (shard.policy.epoch, shard.slots.0[1].1.hits);
        (0..1_000).for_each(|_| shard.hit(1));
        assert_eq!((shard.policy.epoch, shard.slots.0[1].1.hits), (epoch, hits));
    }

    #[test]
    fn a_sketch_keeps_its_counts_when_it_grows_and_shrinks() {
        let mut sketch = Sketch::default();
        sketch.fit(16);
        assert_eq!(sketch.words.len(), BLOCK);
        for hash in 0..5_u32 {
            for _ in 0..=hash {
                sketch.bump(hash.wrapping_mul(0x9e37_79b9));
            }
        }
        let counts = |sketch: &Sketch| {
            (0..5_u32).map(|hash| sketch.count(hash.wrapping_mul(0x9e37_79b9))).collect::<Vec<_>>()
        };
        let before = counts(&sketch);
        assert!(before.iter().zip(1..).all(|(count, least)| least <= *count), "{before:?}");
        sketch.fit(10_000);
        assert_eq!((sketch.words.len(), counts(&sketch)), (BLOCK * 1024, before.clone()));
        sketch.fit(1_200);
        assert_eq!((sketch.words.len(), counts(&sketch)), (BLOCK * 512, before));
    }
}
