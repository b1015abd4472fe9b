//! What the points of most series of a group have in common, stored once.

use std::collections::BTreeMap;

use super::coded::{get_ints, put_ints};
use super::{POINTS_MAX, Point};
use crate::series::block::Spoilt;
use crate::series::numbers::{get, put};

/// What most series of a group have in common in a span: stored once, as the times of raw samples are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// When the span begins.
    pub start_ms: i64,
    /// How long a step of it is.
    pub step_ms: i64,
    /// By step of the span, ascending: how many samples, and the moments of the first and the last.
    pub steps: Vec<(u32, u64, i64, i64)>,
}

impl Common {
    /// What `points` of many series have in common: of each step what most of them say.
    pub fn of<'p>(
        start_ms: i64,
        step_ms: i64,
        series: impl Iterator<Item = &'p [(u32, Point)]>,
    ) -> Common {
        let mut said: BTreeMap<u32, BTreeMap<(u64, i64, i64), usize>> = BTreeMap::new();
        for (step, point) in series.flatten() {
            let what = (point.count, point.first_ms, point.last_ms);
            *said.entry(*step).or_default().entry(what).or_default() += 1;
        }
        let most = |votes: BTreeMap<(u64, i64, i64), usize>| {
            votes.into_iter().max_by_key(|&(_, votes)| votes).map(|(what, _)| what)
        };
        let steps = said.into_iter().filter_map(|(step, votes)| {
            most(votes).map(|(count, first_ms, last_ms)| (step, count, first_ms, last_ms))
        });
        Common { start_ms, step_ms, steps: steps.collect() }
    }

    /// What a point has for its count, first and last moment if it says nothing: what the others have, or nothing at the
    /// beginning of its step.
    pub(super) fn usual(&self, step: u32) -> (u64, i64, i64) {
        match self.steps.binary_search_by_key(&step, |known| known.0) {
            Ok(at) => {
                let (_, count, first_ms, last_ms) = self.steps[at];
                (count, first_ms, last_ms)
            }
            Err(_) => (0, self.begin(step), self.begin(step)),
        }
    }

    /// When a step begins. A span that is read from a damaged key may begin anywhere.
    fn begin(&self, step: u32) -> i64 {
        self.start_ms.wrapping_add(self.step_ms.wrapping_mul(i64::from(step)))
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_steps(self.steps.iter().map(|step| step.0), out);
        let (mut counts, mut firsts, mut lasts) = (Vec::new(), Vec::new(), Vec::new());
        for &(step, count, first_ms, last_ms) in &self.steps {
            counts.push(count.cast_signed());
            firsts.push(first_ms.wrapping_sub(self.begin(step)));
            lasts.push(last_ms.wrapping_sub(self.begin(step)));
        }
        for column in [counts, firsts, lasts] {
            put_ints(&column, out);
        }
    }

    /// Reads what [`Common::encode`] wrote, all of `bytes`. Total, bounded.
    pub fn decode(mut bytes: &[u8], start_ms: i64, step_ms: i64) -> Result<Common, Spoilt> {
        let bytes = &mut bytes;
        let numbers = get_steps(bytes)?;
        let counts = get_ints(bytes, numbers.len())?;
        let firsts = get_ints(bytes, numbers.len())?;
        let lasts = get_ints(bytes, numbers.len())?;
        if !bytes.is_empty() {
            return Err(Spoilt("there is more than points have in common"));
        }
        let mut common = Common { start_ms, step_ms, steps: Vec::with_capacity(numbers.len()) };
        for (at, step) in numbers.into_iter().enumerate() {
            let begin = common.begin(step);
            let (first, last) = (begin.wrapping_add(firsts[at]), begin.wrapping_add(lasts[at]));
            common.steps.push((step, counts[at].cast_unsigned(), first, last));
        }
        Ok(common)
    }
}

/// Appends numbers of steps, which ascend.
pub(super) fn put_steps(steps: impl ExactSizeIterator<Item = u32>, out: &mut Vec<u8>) {
    assert!(steps.len() <= POINTS_MAX, "BUG: a span has so many steps");
    put(steps.len() as u64, out);
    let mut next = 0;
    let mut skipped = Vec::with_capacity(steps.len());
    for step in steps {
        assert!((step as usize) < POINTS_MAX, "BUG: a step is one of its span");
        skipped.push(i64::from(step) - next);
        next = i64::from(step) + 1;
    }
    put_ints(&skipped, out);
}

/// Reads what [`put_steps`] wrote.
pub(super) fn get_steps(bytes: &mut &[u8]) -> Result<Vec<u32>, Spoilt> {
    let count = usize::try_from(get(bytes)?).unwrap_or(usize::MAX);
    if POINTS_MAX < count {
        return Err(Spoilt("there are too many steps"));
    }
    let mut next = 0_i64;
    let mut steps = Vec::with_capacity(count);
    for skipped in get_ints(bytes, count)? {
        let step = u32::try_from(next.wrapping_add(skipped)).unwrap_or(u32::MAX);
        if skipped < 0 || POINTS_MAX <= step as usize {
            return Err(Spoilt("a step is not one of its span"));
        }
        steps.push(step);
        next = i64::from(step) + 1;
    }
    Ok(steps)
}
