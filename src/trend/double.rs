//! Numbers of twice the precision: a sum of two, of which the second is what the first has no room for.
//!
//! Errors of a sum of n numbers are about n * 2^-104 of its parts, so that differences of sums lose nothing that is seen.
//! What grows beyond the range of a number becomes infinite or no number, as it does in plain ones; who reads a result
//! looks whether it is finite.
//!
//! Products are split by hand, after Dekker: a fused multiply-add would be one instruction, but without hardware that is
//! asked for when compiling it is a call, and in some C libraries a slow one.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// A number and what rounding left of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Double {
    high: f64,
    low: f64,
}

/// Splits a number into two halves of 26 bits.
const SPLITTER: f64 = 134_217_729.0;

impl Double {
    /// Two numbers together, exactly.
    pub(super) fn sum(a: f64, b: f64) -> Double {
        let high = a + b;
        let part = high - a;
        Double { high, low: (a - (high - part)) + (b - part) }
    }

    /// The same, if the first is the larger one.
    fn sum_of_ordered(a: f64, b: f64) -> Double {
        let high = a + b;
        Double { high, low: b - (high - a) }
    }

    /// Two numbers times each other, exactly (unless they are beyond 1e299, or their product below 1e-291).
    pub(super) fn product(a: f64, b: f64) -> Double {
        let (high_a, low_a) = split(a);
        let (high_b, low_b) = split(b);
        let high = a * b;
        Double {
            high,
            low: ((high_a * high_b - high) + high_a * low_b + low_a * high_b) + low_a * low_b,
        }
    }

    /// A whole number: exact up to 106 bits.
    #[expect(
        clippy::cast_precision_loss,
        reason = "what the first number has no room for, the second has"
    )]
    #[expect(clippy::cast_possible_truncation, reason = "a number made of an i128 saturates there")]
    pub(super) fn whole(number: i128) -> Double {
        let high = number as f64;
        Double { high, low: number.wrapping_sub(high as i128) as f64 }
    }

    /// The nearest number.
    pub(super) fn value(self) -> f64 {
        self.high + self.low
    }
}

fn split(a: f64) -> (f64, f64) {
    let part = SPLITTER * a;
    let high = part - (part - a);
    (high, a - high)
}

impl From<f64> for Double {
    fn from(number: f64) -> Double {
        Double { high: number, low: 0.0 }
    }
}

impl Neg for Double {
    type Output = Double;

    fn neg(self) -> Double {
        Double { high: -self.high, low: -self.low }
    }
}

impl Add for Double {
    type Output = Double;

    /// Wrong by at most 2^-104 of the larger one.
    fn add(self, other: Double) -> Double {
        let sum = Double::sum(self.high, other.high);
        Double::sum_of_ordered(sum.high, sum.low + (self.low + other.low))
    }
}

impl Sub for Double {
    type Output = Double;

    fn sub(self, other: Double) -> Double {
        self + -other
    }
}

impl Mul for Double {
    type Output = Double;

    fn mul(self, other: Double) -> Double {
        let product = Double::product(self.high, other.high);
        let crossed = self.high * other.low + self.low * other.high;
        Double::sum_of_ordered(product.high, product.low + crossed)
    }
}

impl Div for Double {
    type Output = Double;

    fn div(self, other: Double) -> Double {
        let first = self.high / other.high;
        let left = self - other * Double::from(first);
        let second = left.high / other.high;
        let left = left - other * Double::from(second);
        Double::sum_of_ordered(first, second) + Double::from(left.high / other.high)
    }
}

#[cfg(test)]
mod tests {
    use super::Double;
    use crate::base::rng::Rng;
    use crate::testing::seeds;

    /// A whole number of up to 53 bits, more often a short one.
    fn number(rng: &mut Rng) -> i64 {
        let bits = 11 + rng.below(53);
        let number = (rng.next_u64() >> bits).cast_signed();
        if rng.one_in(2) { -number } else { number }
    }

    #[expect(clippy::cast_precision_loss, reason = "at most 53 bits")]
    fn float(number: i64) -> f64 {
        number as f64
    }

    #[expect(clippy::cast_possible_truncation, reason = "both are whole")]
    fn whole(double: Double) -> i128 {
        double.high as i128 + double.low as i128
    }

    #[test]
    fn sums_and_products_of_two_numbers_are_exact() {
        for seed in seeds(2_000) {
            let mut rng = Rng::from_seed(seed);
            let (a, b) = (number(&mut rng), number(&mut rng));
            let product = i128::from(a) * i128::from(b);
            assert_eq!(whole(Double::product(float(a), float(b))), product, "seed {seed}");
            assert_eq!(whole(Double::whole(product)), product, "seed {seed}");
            // As far apart as the two parts of a number may be.
            let large = 1_i128 << 50;
            let sum = Double::sum(float(a) * 1_125_899_906_842_624.0, float(b));
            assert_eq!(whole(sum), i128::from(a) * large + i128::from(b), "seed {seed}");
        }
    }

    #[test]
    fn arithmetic_has_thirty_digits() {
        for seed in seeds(2_000) {
            let mut rng = Rng::from_seed(seed);
            let mut next =
                || i128::from(number(&mut rng)) * (1 << 40) + i128::from(number(&mut rng));
            let (a, b) = (next(), next());
            assert_eq!(whole(Double::whole(a) + Double::whole(b)), a + b, "seed {seed}");
            assert_eq!(whole(Double::whole(a) - Double::whole(b)), a - b, "seed {seed}");
            if b == 0 {
                continue;
            }
            let (a, b) = (Double::whole(a), Double::whole(b));
            let back = (a / b) * b - a;
            assert!(back.value().abs() <= 1e-30 * a.value().abs(), "seed {seed}: {back:?}");
        }
        let third = Double::from(1.0) / Double::from(3.0);
        assert!((third + third + third - Double::from(1.0)).value().abs() < 1e-31);
        assert!((-third).value() + 1.0 / 3.0 == 0.0);
    }
}
