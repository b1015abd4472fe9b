//! Chance as nature has it.

use crate::base::rng::Rng;

/// A number of the normal distribution, nearly: the sum of twelve even ones, which ends at six deviations.
pub fn normal(rng: &mut Rng) -> f64 {
    let even = |rng: &mut Rng| f64::from(u32::try_from(rng.next_u64() >> 32).unwrap_or(u32::MAX));
    (0..12).map(|_| even(rng)).sum::<f64>() / 4_294_967_296.0 - 6.0
}
