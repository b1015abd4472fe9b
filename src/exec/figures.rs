//! Counts of sizes and times, cheap enough to be kept always.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const BUCKETS: usize = 64;

/// How often values of each power of two were seen. One writer or many; never locks.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts `value`.
    pub fn record(&self, value: u64) {
        // Bucket n holds 2^n ..= 2^(n+1)-1; the first holds 0 and 1.
        let bucket = value.max(1).ilog2() as usize;
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
        self.max.fetch_max(value, Relaxed);
    }

    /// What was counted so far.
    pub fn figures(&self) -> HistogramFigures {
        HistogramFigures {
            buckets: std::array::from_fn(|n| self.buckets[n].load(Relaxed)),
            sum: self.sum.load(Relaxed),
            max: self.max.load(Relaxed),
        }
    }
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramFigures {
    /// How many values were in `2^n ..= 2^(n+1)-1`.
    pub buckets: [u64; BUCKETS],
    /// Their sum.
    pub sum: u64,
    /// The largest.
    pub max: u64,
}

impl HistogramFigures {
    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// A value that at least `per_mille` thousandths of the values do not exceed; at most twice the
    /// true one. `None` when nothing was counted.
    pub fn quantile(&self, per_mille: u64) -> Option<u64> {
        let count = self.count();
        let rank = (count * per_mille).div_ceil(1000).max(1);
        let mut below = 0;
        for (bucket, &n) in self.buckets.iter().enumerate() {
            below += n;
            if rank <= below {
                return Some((u64::MAX >> (63 - bucket)).min(self.max));
            }
        }
        None
    }
}
