//! What ends when, to the millisecond: a hierarchical timing wheel.
//!
//! ```text
//!  level 0   64 buckets of 1 ms      the ends that differ from `at` in the lowest 6 bits only
//!  level 1   64 buckets of 64 ms     ... in the next 6 bits
//!  ...       level 6: 64 buckets of 2 years
//! ```
//!
//! An end lies in the level of the highest bit in which it differs from `at`, so a bucket of a higher level
//! is opened, and its members spread over lower ones, when `at` reaches its start. Buckets are doubly linked
//! through the members themselves, so that putting in and taking out take one step. Members are handed out
//! one by one: whoever drives it can stop between any two.

/// No member.
pub(super) const NONE: u32 = u32::MAX;
/// Marks a bucket's number where a member's number could stand.
const BUCKET: u32 = 1 << 31;
const BITS: u32 = 6;
const LEVELS: usize = 7;
/// The bucket of those that wait to be spread over lower levels, or to be handed out.
const OPENED: usize = LEVELS << BITS;
/// The latest end that a member can have: 139 years.
const END_MAX: u64 = (1 << (BITS as usize * LEVELS)) - 1;

/// A member's place in its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The member before it; the bucket for the first one; `NONE` outside of the wheel.
    before: u32,
    /// The member after it.
    after: u32,
}

impl Link {
    /// Not in the wheel.
    pub(super) const OUT: Link = Link { before: NONE, after: NONE };
}

/// Where the members keep their links and ends.
pub(super) trait Members {
    /// The link of member `i`.
    fn link(&mut self, i: u32) -> &mut Link;
    /// When it ends.
    fn end(&self, i: u32) -> u64;
}

/// The buckets.
pub(super) struct Wheel {
    /// Everything that ends by now has been handed out, but for what is opened.
    at: u64,
    /// Made when first needed: most ends lie within few levels.
    levels: [Option<Box<[u32; 64]>>; LEVELS],
    occupied: [u64; LEVELS],
    opened: u32,
}

/// What there is to do.
pub(super) enum Due {
    /// Remove this one: it ended.
    Ended(u32),
    /// One was moved to a lower level.
    Moved,
    /// Nothing until later.
    Nothing,
}

impl Wheel {
    /// An empty one.
    pub(super) fn new(at: u64) -> Wheel {
        Wheel { at, levels: [const { None }; LEVELS], occupied: [0; LEVELS], opened: NONE }
    }

    /// Puts in `i`, which is in no bucket.
    pub(super) fn insert(&mut self, members: &mut impl Members, i: u32) {
        let end = members.end(i).clamp(self.at + 1, END_MAX.max(self.at + 1));
        let level = ((end ^ self.at).ilog2() / BITS) as usize;
        let level = level.min(LEVELS - 1);
        let place = lowest_digit(end >> (BITS as usize * level));
        self.push(members, (level << BITS) | place, i);
    }

    /// Takes out `i`, if it is in.
    pub(super) fn remove(&mut self, members: &mut impl Members, i: u32) {
        let Link { before, after } = std::mem::replace(members.link(i), Link::OUT);
        if before == NONE {
            return;
        }
        if before & BUCKET == 0 {
            members.link(before).after = after;
        } else {
            self.set_head((before & !BUCKET) as usize, after);
        }
        if after != NONE {
            members.link(after).before = before;
        }
    }

    /// The member at `to` was at another place until now, and brought its link with it.
    pub(super) fn moved(&mut self, members: &mut impl Members, to: u32) {
        let Link { before, after } = *members.link(to);
        if before == NONE {
            return;
        }
        if before & BUCKET == 0 {
            members.link(before).after = to;
        } else {
            self.set_head((before & !BUCKET) as usize, to);
        }
        if after != NONE {
            members.link(after).before = to;
        }
    }

    /// One step towards `now`.
    pub(super) fn step(&mut self, members: &mut impl Members, now: u64) -> Due {
        if self.opened == NONE && !self.open_next(members, now) {
            self.at = self.at.max(now);
            return Due::Nothing;
        }
        let first = self.opened;
        if members.end(first) <= now.max(self.at) {
            return Due::Ended(first);
        }
        self.remove(members, first);
        self.insert(members, first);
        Due::Moved
    }

    /// Whether nothing ends by `now` that was not handed out yet.
    #[cfg(test)]
    pub(super) fn is_done(&self, now: u64) -> bool {
        self.opened == NONE && self.next_start().is_none_or(|(_, start)| now < start)
    }

    /// The occupied bucket that begins first, and when. A lower level always begins before a higher one.
    fn next_start(&self) -> Option<(usize, u64)> {
        (0..LEVELS).find_map(|level| {
            let shift = BITS as usize * level;
            let digit = (self.at >> shift) & 63;
            let ahead = self.occupied[level] >> digit >> 1;
            (ahead != 0).then(|| {
                let place = digit + 1 + u64::from(ahead.trailing_zeros());
                let start = (self.at >> shift >> BITS << BITS | place) << shift;
                ((level << BITS) | lowest_digit(place), start)
            })
        })
    }

    /// Moves `at` to the next bucket that begins by `now`, and opens it; whether there was one.
    fn open_next(&mut self, members: &mut impl Members, now: u64) -> bool {
        let Some((bucket, start)) = self.next_start().filter(|(_, start)| *start <= now) else {
            return false;
        };
        self.at = start;
        let first = self.head(bucket);
        self.set_head(bucket, NONE);
        self.opened = first;
        members.link(first).before = bucket_mark(OPENED);
        true
    }

    fn push(&mut self, members: &mut impl Members, bucket: usize, i: u32) {
        let after = self.head(bucket);
        *members.link(i) = Link { before: bucket_mark(bucket), after };
        if after != NONE {
            members.link(after).before = i;
        }
        self.set_head(bucket, i);
    }

    fn head(&self, bucket: usize) -> u32 {
        if bucket == OPENED {
            return self.opened;
        }
        self.levels[bucket >> BITS].as_ref().map_or(NONE, |level| level[bucket & 63])
    }

    fn set_head(&mut self, bucket: usize, first: u32) {
        if bucket == OPENED {
            self.opened = first;
            return;
        }
        let (level, place) = (bucket >> BITS, bucket & 63);
        self.levels[level].get_or_insert_with(|| Box::new([NONE; 64]))[place] = first;
        let bit = 1 << place;
        if first == NONE {
            self.occupied[level] &= !bit;
        } else {
            self.occupied[level] |= bit;
        }
    }
}

/// The lowest digit of a time.
fn lowest_digit(time: u64) -> usize {
    usize::try_from(time & 63).expect("BUG: it is below 64")
}

/// A bucket where a member could stand.
fn bucket_mark(bucket: usize) -> u32 {
    BUCKET | u32::try_from(bucket).expect("BUG: there are few buckets")
}

#[cfg(test)]
mod tests {
    use super::{Due, Link, Members, Wheel};
    use crate::base::rng::Rng;
    use crate::testing::seeds;

    #[derive(Default)]
    struct List(Vec<(u64, Link)>);

    impl Members for List {
        fn link(&mut self, i: u32) -> &mut Link {
            &mut self.0[i as usize].1
        }
        fn end(&self, i: u32) -> u64 {
            self.0[i as usize].0
        }
    }

    fn remove(wheel: &mut Wheel, list: &mut List, i: u32) -> u64 {
        wheel.remove(list, i);
        let (end, _) = list.0.swap_remove(i as usize);
        if (i as usize) < list.0.len() {
            wheel.moved(list, i);
        }
        end
    }

    fn advance(wheel: &mut Wheel, list: &mut List, now: u64, steps: usize) -> Vec<u64> {
        let mut ended = Vec::new();
        for _ in 0..steps {
            match wheel.step(list, now) {
                Due::Ended(i) => ended.push(remove(wheel, list, i)),
                Due::Moved => {}
                Due::Nothing => break,
            }
        }
        ended
    }

    #[test]
    fn everything_is_handed_out_by_its_end_and_nothing_before() {
        for seed in seeds(300) {
            let mut rng = Rng::from_seed(seed);
            let mut now = rng.below(1 << 40);
            let (mut wheel, mut list) = (Wheel::new(now), List::default());
            for _ in 0..300 {
                let far = 1 << rng.below(39);
                match rng.below(4) {
                    0 | 1 => {
                        let i = u32::try_from(list.0.len()).unwrap();
                        list.0.push((now + 1 + rng.below(far), Link::OUT));
                        wheel.insert(&mut list, i);
                    }
                    2 if !list.0.is_empty() => {
                        let i = u32::try_from(rng.index(list.0.len())).unwrap();
                        remove(&mut wheel, &mut list, i);
                    }
                    _ => {
                        now += rng.below(far);
                        // A few steps first, as a busy shard would.
                        let steps = rng.index(5);
                        let mut ended = advance(&mut wheel, &mut list, now, steps);
                        ended.extend(advance(&mut wheel, &mut list, now, usize::MAX));
                        assert!(wheel.is_done(now), "seed {seed}");
                        assert!(ended.iter().all(|end| *end <= now), "seed {seed}: too early");
                        assert!(list.0.iter().all(|(end, _)| now < *end), "seed {seed}: too late");
                    }
                }
            }
            advance(&mut wheel, &mut list, u64::MAX >> 1, usize::MAX);
            assert!(list.0.is_empty(), "seed {seed}: nothing stays");
        }
    }
}
