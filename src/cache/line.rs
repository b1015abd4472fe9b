//! Who waits for what, first come, first served.
//!
//! Pure: a line is entered, left, and has a head. Whoever is at the head tries; who stands behind does not
//! even look. `W` is what wakes somebody who waits.
//!
//! ```text
//!   enter ---> behind ... ---> head: tries; when told that something changed, tries again
//!     |          |              |
//!     '----------+-- leave -----+---> the next one is the head, and is told
//! ```
//!
//! **Invariants**: a place is left once, by the one who has it; a line without anybody is not there; a line
//! has at most [`LOCK_WAITERS_MAX`] places.

use std::collections::{BTreeMap, VecDeque};

use crate::base::limits::LOCK_WAITERS_MAX;

/// A place in a line. Not `Clone`: it is left once.
#[derive(Debug, PartialEq, Eq)]
pub struct Place(u64);

/// The line is as long as it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{LOCK_WAITERS_MAX} are waiting already")]
pub struct Full;

/// All lines, by what is waited for.
#[derive(Debug)]
pub struct Lines<K, W> {
    lines: BTreeMap<K, VecDeque<(u64, W)>>,
    last: u64,
}

impl<K: Ord, W> Default for Lines<K, W> {
    fn default() -> Lines<K, W> {
        Lines { lines: BTreeMap::new(), last: 0 }
    }
}

impl<K: Ord + Clone, W> Lines<K, W> {
    /// Stands behind everybody who waits for `what`.
    pub fn enter(&mut self, what: &K, wakes: W) -> Result<Place, Full> {
        let line = self.lines.entry(what.clone()).or_default();
        if LOCK_WAITERS_MAX <= line.len() {
            return Err(Full);
        }
        self.last += 1;
        line.push_back((self.last, wakes));
        Ok(Place(self.last))
    }

    /// Whether anybody waits for `what`.
    pub fn is_waited_for(&self, what: &K) -> bool {
        self.lines.contains_key(what)
    }

    /// Whether nobody stands before this place.
    pub fn is_head(&self, what: &K, place: &Place) -> bool {
        let head = self.lines.get(what).and_then(|line| line.front());
        head.is_some_and(|(number, _)| *number == place.0)
    }

    /// Who stands at the head of the line for `what`: to be told when something changed.
    pub fn head(&self, what: &K) -> Option<&W> {
        self.lines.get(what)?.front().map(|(_, wakes)| wakes)
    }

    /// Leaves; the one who is at the head now is to be told, if it was another before.
    #[expect(clippy::needless_pass_by_value, reason = "a place is left once")]
    pub fn leave(&mut self, what: &K, place: Place) -> Option<&W> {
        let Place(number) = place;
        let line = self.lines.get_mut(what)?;
        let at = line.iter().position(|(found, _)| *found == number)?;
        line.remove(at);
        if line.is_empty() {
            self.lines.remove(what);
            return None;
        }
        if at == 0 { self.head(what) } else { None }
    }

    /// How many wait, in all lines.
    pub fn waiting(&self) -> usize {
        self.lines.values().map(VecDeque::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{Full, Lines};
    use crate::base::limits::LOCK_WAITERS_MAX;
    use crate::base::rng::Rng;
    use crate::testing::seeds;

    #[test]
    fn the_head_is_who_came_first_of_those_who_are_still_there() {
        for seed in seeds(500) {
            let mut rng = Rng::from_seed(seed);
            let (mut lines, mut model) = (Lines::<u8, u32>::default(), [vec![], vec![]]);
            let mut places = Vec::new();
            for who in 0..60 {
                let what = u8::from(rng.one_in(2));
                if rng.one_in(2) {
                    places.push((what, who, lines.enter(&what, who).unwrap()));
                    model[usize::from(what)].push(who);
                } else if !places.is_empty() {
                    let (what, who, place) = places.swap_remove(rng.index(places.len()));
                    let line = &mut model[usize::from(what)];
                    let at = line.iter().position(|w| *w == who).unwrap();
                    line.remove(at);
                    let told = line.first().filter(|_| at == 0);
                    assert_eq!(lines.leave(&what, place), told, "seed={seed} who={who}");
                }
                for what in [0, 1] {
                    let line = &model[usize::from(what)];
                    assert_eq!(lines.head(&what), line.first(), "seed={seed} who={who}");
                    assert_eq!(lines.is_waited_for(&what), !line.is_empty(), "seed={seed}");
                }
                assert_eq!(lines.waiting(), model[0].len() + model[1].len(), "seed={seed}");
                for (what, who, place) in &places {
                    let head = model[usize::from(*what)].first() == Some(who);
                    assert_eq!(lines.is_head(what, place), head, "seed={seed} who={who}");
                }
            }
        }
    }

    #[test]
    fn a_line_has_an_end() {
        let mut lines = Lines::default();
        for who in 0..LOCK_WAITERS_MAX {
            assert!(lines.enter(&"a", who).is_ok());
        }
        assert_eq!(lines.enter(&"a", 0), Err(Full));
        assert!(lines.enter(&"b", 0).is_ok());
    }

    /// A lock with a line before it, as the application has them: who is at the head tries, who releases tells
    /// the head, who gives up leaves.
    #[derive(Default)]
    struct Held {
        lines: Lines<u8, shuttle::thread::Thread>,
        holder: Option<u32>,
        came: Vec<u32>,
        went: Vec<u32>,
    }

    #[test]
    fn of_all_interleavings_none_has_two_holders_or_forgets_who_waits() {
        use shuttle::sync::Mutex;
        use std::sync::Arc;

        let one = |held: &Mutex<Held>, who: u32, gives_up: bool| {
            let place = {
                let mut held = held.lock().unwrap();
                held.came.push(who);
                held.lines.enter(&0, shuttle::thread::current()).unwrap()
            };
            loop {
                let now = held.lock().unwrap();
                if gives_up || now.holder.is_none() && now.lines.is_head(&0, &place) {
                    break;
                }
                drop(now);
                shuttle::thread::park();
            }
            let mut now = held.lock().unwrap();
            if gives_up {
                now.came.retain(|came| *came != who);
            } else {
                assert_eq!(now.holder.replace(who), None, "one at a time");
                now.went.push(who);
            }
            if let Some(next) = now.lines.leave(&0, place) {
                next.unpark();
            }
            drop(now);
            if !gives_up {
                shuttle::thread::yield_now();
                let mut now = held.lock().unwrap();
                assert_eq!(now.holder.take(), Some(who), "nobody takes what is held");
                if let Some(head) = now.lines.head(&0) {
                    head.unpark();
                }
            }
        };
        let history = move || {
            let held = Arc::new(Mutex::new(Held::default()));
            let callers = (0..4).map(|who| {
                let held = Arc::clone(&held);
                shuttle::thread::spawn(move || one(&held, who, who == 2))
            });
            for caller in callers.collect::<Vec<_>>() {
                caller.join().unwrap();
            }
            let held = held.lock().unwrap();
            assert_eq!(held.went, held.came, "first come, first served");
        };
        shuttle::check_random(history, 2000);
    }
}
