//! Which of the changes that may be there are there: the most likely division, if each change has to earn a penalty.
//!
//! What is new in each sample, beyond its line and what it has of the sample before, has some variance; the likelihood of
//! a division is given by the least one, over all likenesses. So wandering, which many short lines follow well, is told
//! from changes: if likeness explains it as well, it needs none.

use super::sums::Sums;
use crate::trend::robust::as_f64;

/// The likenesses that are tried.
const LIKENESSES: [f64; 10] = [0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.87, 0.93, 0.97, 0.99];
/// What a change has to earn in twice the logarithm of the likelihood. A line more and its place are three numbers, for
/// which BIC takes 3 ln n (12 to 19); wandering finds more by chance. With 20, fewer than 2 of 100 paths of 20 to 512
/// samples with a likeness of up to 0.9 have a change.
const PENALTY: f64 = 20.0;
/// Numbers that a stretch costs: level, slope, where it begins. The fewer samples there are for each, the better chance
/// fits them: the penalty grows by samples over samples that are left.
const NUMBERS: f64 = 3.0;
/// Numbers that any division costs: level, slope, likeness, variance, and one as is the custom.
const NUMBERS_OF_ALL: f64 = 5.0;

/// What each likeness leaves of a stretch, or of all.
type Left = [f64; LIKENESSES.len()];

/// The most likely of the divisions that candidates leave if one after the other is taken away.
pub(super) fn most_likely(sums: &Sums, candidates: Vec<usize>, seen: f64) -> Vec<usize> {
    let mut way = Way::from(sums, candidates, seen);
    let mut best = (way.unlikeliness(&way.total, way.changes.len()), way.changes.clone());
    while let Some(place) = way.least() {
        way.remove(place);
        let unlikeliness = way.unlikeliness(&way.total, way.changes.len());
        if unlikeliness <= best.0 {
            best = (unlikeliness, way.changes.clone());
        }
    }
    best.1
}

/// A division, from which changes are taken away.
struct Way<'s> {
    sums: &'s Sums,
    changes: Vec<usize>,
    /// What is left of each stretch.
    stretches: Vec<Left>,
    /// What is left of each two neighbours, if they are one.
    joined: Vec<Left>,
    /// What is left of all.
    total: Left,
    /// Variances are seen from here on.
    floor: f64,
}

impl<'s> Way<'s> {
    fn from(sums: &'s Sums, changes: Vec<usize>, seen: f64) -> Way<'s> {
        let mut way = Way {
            sums,
            changes,
            stretches: Vec::new(),
            joined: Vec::new(),
            total: [0.0; LIKENESSES.len()],
            floor: seen * seen,
        };
        let stretches = way.changes.len() + 1;
        way.stretches = (0..stretches).map(|place| way.left(place, place + 1)).collect();
        way.joined = (1..stretches).map(|place| way.left(place - 1, place + 1)).collect();
        for stretch in &way.stretches {
            way.total = with(&way.total, stretch, |all, left| all + left);
        }
        way
    }

    /// What is left of the stretches from one to before another, as one.
    fn left(&self, first: usize, end: usize) -> Left {
        let at = |place: usize| match place.checked_sub(1) {
            None => 0,
            Some(before) => self.changes.get(before).copied().unwrap_or(self.sums.count()),
        };
        LIKENESSES.map(|likeness| self.sums.left_alike(at(first), at(end), likeness))
    }

    /// What is left of all without a change.
    fn without(&self, place: usize) -> Left {
        let apart = with(&self.stretches[place], &self.stretches[place + 1], |a, b| a + b);
        let more = with(&self.joined[place], &apart, |joined, apart| joined - apart);
        with(&self.total, &more, |all, more| (all + more).max(0.0))
    }

    /// The change that matters least.
    fn least(&self) -> Option<usize> {
        let rest = self.changes.len().checked_sub(1)?;
        let of = |place: usize| self.unlikeliness(&self.without(place), rest);
        let least =
            (0..=rest).map(|place| (of(place), place)).min_by(|a, b| a.0.total_cmp(&b.0))?;
        Some(least.1)
    }

    fn remove(&mut self, place: usize) {
        self.total = self.without(place);
        self.stretches[place] = self.joined[place];
        self.stretches.remove(place + 1);
        self.joined.remove(place);
        self.changes.remove(place);
        if let Some(before) = place.checked_sub(1) {
            self.joined[before] = self.left(before, place + 1);
        }
        if place < self.joined.len() {
            self.joined[place] = self.left(place, place + 2);
        }
    }

    /// Minus twice the logarithm of the likelihood of a division that leaves so much, and its penalties.
    fn unlikeliness(&self, left: &Left, changes: usize) -> f64 {
        let count = as_f64(self.sums.count());
        let of = |(left, likeness): (&f64, &f64)| {
            let first = (1.0 - likeness * likeness).ln() * as_f64(changes + 1);
            count * (left / count + self.floor).ln() - first
        };
        let least = left.iter().zip(&LIKENESSES).map(of).fold(f64::INFINITY, f64::min);
        let changes = as_f64(changes);
        least + PENALTY * changes * count / (count - NUMBERS * changes - NUMBERS_OF_ALL)
    }
}

fn with(a: &Left, b: &Left, of: impl Fn(f64, f64) -> f64) -> Left {
    std::array::from_fn(|k| of(a[k], b[k]))
}
