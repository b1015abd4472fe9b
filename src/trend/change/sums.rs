//! What lines leave of any stretch, at once: differences of sums up to each sample.
//!
//! Moments and values lie within -1 and 1, so that sums of 512 squares are exact to about 1e-13; noise below 1e-4 of the
//! span leaves 8e-8 in the shortest stretch, and is not looked at.

use crate::trend::robust::as_f64;

/// Sums up to each sample of x, y, xx, xy, yy; and of the same products of a sample with the one before it.
pub(super) struct Sums {
    own: Vec<[f64; 5]>,
    /// One over each count: dividing is slow.
    parts: Vec<f64>,
    cross: Vec<[f64; 5]>,
}

/// A place from which stretches begin. It has its sums with it: many are gone through, one after the other.
pub(super) struct Beginning {
    /// The first sample.
    pub(super) begin: usize,
    cost: f64,
    sums: [f64; 5],
}

impl Sums {
    pub(super) fn of(samples: &[(f64, f64)]) -> Sums {
        let mut own = vec![[0.0; 5]];
        let mut cross = vec![[0.0; 5]; 2];
        let mut sum = [0.0; 5];
        for &(x, y) in samples {
            sum = plus(sum, [x, y, x * x, x * y, y * y]);
            own.push(sum);
        }
        let mut sum = [0.0; 5];
        for pair in samples.windows(2) {
            let ((x, y), (u, v)) = (pair[0], pair[1]);
            sum = plus(sum, [x + u, y + v, 2.0 * x * u, x * v + y * u, 2.0 * y * v]);
            cross.push(sum);
        }
        let parts = (0..own.len()).map(|count| 1.0 / as_f64(count)).collect();
        Sums { own, parts, cross }
    }

    /// How many samples there are.
    pub(super) fn count(&self) -> usize {
        self.own.len() - 1
    }

    /// A place from which stretches begin, and what it adds to their cost.
    pub(super) fn from(&self, begin: usize, cost: f64) -> Beginning {
        Beginning { begin, cost, sums: self.own[begin] }
    }

    /// The cost of a beginning, and the sum of squares that the best line leaves of the samples from there to before `end`.
    pub(super) fn through(&self, from: &Beginning, end: usize) -> f64 {
        from.cost + left_of(self.parts[end - from.begin], minus(&self.own[end], &from.sums))
    }

    /// The sum of squares that the best line leaves of the samples from `begin` to before `end`, which are three at least.
    pub(super) fn left(&self, begin: usize, end: usize) -> f64 {
        left_of(self.parts[end - begin], minus(&self.own[end], &self.own[begin]))
    }

    /// The same if each sample resembles the one before it by `likeness` (0 to below 1): the sum of squares of what is new
    /// in each, and of the first one as far as it weighs.
    pub(super) fn left_alike(&self, begin: usize, end: usize, likeness: f64) -> f64 {
        let count = as_f64(end - begin);
        let square = likeness * likeness;
        let all = minus(&self.own[end], &self.own[begin]);
        let inner = minus(&self.own[end - 1], &self.own[begin + 1]);
        let cross = minus(&self.cross[end], &self.cross[begin + 1]);
        let mut sums = [0.0; 5];
        for (k, sum) in sums.iter_mut().enumerate() {
            *sum = all[k] + square * inner[k] - likeness * cross[k];
        }
        let weight = count + square * (count - 2.0) - likeness * 2.0 * (count - 1.0);
        left_of(1.0 / weight, sums)
    }
}

/// What the best line leaves, from one over the weight of all samples and the sums of x, y, xx, xy, yy.
fn left_of(part: f64, [x, y, xx, xy, yy]: [f64; 5]) -> f64 {
    let mean = y * part;
    let spread = xx - x * x * part;
    let joint = xy - x * mean;
    let level = (yy - y * mean).max(0.0);
    // Samples of one moment have no slope.
    if spread <= f64::EPSILON * xx { level } else { (level - joint * joint / spread).max(0.0) }
}

fn plus(a: [f64; 5], b: [f64; 5]) -> [f64; 5] {
    std::array::from_fn(|k| a[k] + b[k])
}

fn minus(a: &[f64; 5], b: &[f64; 5]) -> [f64; 5] {
    std::array::from_fn(|k| a[k] - b[k])
}
