//! How values are distributed, to one percent: a mergeable sketch for percentiles.
//!
//! Buckets grow by a constant factor, so that whatever stands in one is known to within 1 %. Merging adds counts; any
//! order gives the same. Sizes are bounded: beyond [`SKETCH_BUCKETS_MAX`] the smallest (by amount)
//! are put together. NaN is not counted; infinities are.
//!
//! The idea is that of `DDSketch` (Masson, Rim and Lee, 2019). The crate of that name is not used: its sketch keeps a
//! dense array of counters, its buckets come from a logarithm that differs in the last bit from machine to machine, and it
//! has no encoding that is short, bounded and the same for equal sketches. Here an octave (from a power of two to the
//! next) is cut into 35 levels by a table of integers, so that a level is found by comparing the bits of a value:
//!
//! ```text
//!   level = 35 * exponent + (how many of the table's fractions are at or below the value's)
//! ```
//!
//! A level counts positive and negative values of its amount. What is beyond the bound goes to the smallest level that
//! stays. Whatever the order of adding and merging, that level is the one that is the 512th largest of all that were
//! ever seen: a part of the values never has a larger one. So equal values give equal sketches.
//!
//! ```text
//!   stored:   2 * levels + (1 if there are negative values)   zeros   [first level, signed]   levels
//!   a level:  4 * (levels skipped before it) + (count - 1, or 3)   [count - 4 if 3]           without negative values
//!             (levels skipped before it)   positive   negative                                with them
//! ```

use super::block::Spoilt;
use super::numbers::{float, get, get_signed, put, put_signed};
use crate::base::limits::SKETCH_BUCKETS_MAX;

/// Levels of an octave. Neighbours differ by a factor of 1.02, and the middle of two by less than 1 % from each.
const OCTAVE: i32 = 35;

/// Where the levels of an octave begin: the bits of `2^(k / 35)` behind the point.
const FRACTIONS: [u64; 35] = [
    0x0_0000_0000_0000,
    0x0_51ed_3525_4d7b,
    0x0_a57d_e9c1_6bc7,
    0x0_faba_81d4_e5df,
    0x1_51ab_8c56_eea2,
    0x1_aa59_c411_5e7d,
    0x2_04ce_1081_1781,
    0x2_6111_86ba_e675,
    0x2_bf2d_6a54_f7da,
    0x3_1f2b_2e54_f85d,
    0x3_8114_7622_f886,
    0x3_e4f3_1681_2c30,
    0x4_4ad1_1688_9e7b,
    0x4_b2b8_b0aa_f3c7,
    0x5_1cb4_53b9_536c,
    0x5_88ce_a3f0_93be,
    0x5_f712_7c0a_c32a,
    0x6_678a_ee5a_29f8,
    0x6_da43_45d1_e0ad,
    0x7_4f47_0750_17a0,
    0x7_c6a1_f29e_2ce6,
    0x8_4060_03b2_ae5c,
    0x8_bc8d_73e1_6610,
    0x9_3b36_bb15_8fff,
    0x9_bc68_9112_58c0,
    0xa_402f_eeb9_c533,
    0xa_c69a_0f5a_241c,
    0xb_4fb4_7202_2b1a,
    0xb_db8c_dadb_e120,
    0xc_6a31_548e_794d,
    0xc_fbb0_31a7_41a5,
    0xd_9018_0e09_c9e4,
    0xe_2777_d067_6770,
    0xe_c1de_abbe_3c14,
    0xf_5f5c_20df_e5f2,
];

const FRACTION_BITS: u32 = 52;
const FRACTION: u64 = (1 << FRACTION_BITS) - 1;
const ONE: u64 = 1023 << FRACTION_BITS;

/// The level of the smallest amounts, and that of what is infinite.
const LEVEL_MIN: i32 = -1074 * OCTAVE;
const LEVEL_INFINITE: i32 = 1024 * OCTAVE;

/// A level, and how many values have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    level: i32,
    positive: u64,
    negative: u64,
}

/// Counts of values by size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sketch {
    zeros: u64,
    /// Ascending by level; at most [`SKETCH_BUCKETS_MAX`].
    buckets: Vec<Bucket>,
}

/// The level of an amount that is above zero.
fn level_of(amount: f64) -> i32 {
    let bits = amount.to_bits();
    let field = i32::try_from(bits >> FRACTION_BITS).expect("BUG: an amount has 11 bits there");
    if field == 0 {
        // Below the smallest normal number: scaled up by a power of two, which is exact.
        return level_of(amount * 18_014_398_509_481_984.0) - 54 * OCTAVE;
    }
    if field == 2047 {
        return LEVEL_INFINITE;
    }
    let within = FRACTIONS.partition_point(|&start| start <= bits & FRACTION) - 1;
    (field - 1023) * OCTAVE + i32::try_from(within).expect("BUG: an octave has 35 levels")
}

/// What stands for the amounts of a level: as far, in proportion, from its smallest as from its largest.
fn amount_of(level: i32) -> f64 {
    if LEVEL_INFINITE <= level {
        return f64::INFINITY;
    }
    let (octave, within) = (level.div_euclid(OCTAVE), level.rem_euclid(OCTAVE));
    let within = usize::try_from(within).expect("BUG: a remainder is not negative");
    let start = f64::from_bits(ONE | FRACTIONS[within]);
    let end = FRACTIONS.get(within + 1).map_or(2.0, |&bits| f64::from_bits(ONE | bits));
    let middle = 2.0 * start * end / (start + end);
    // Two steps, as the smallest powers of two are not normal numbers; the second alone may round.
    let half = octave / 2;
    middle * power_of_two(half) * power_of_two(octave - half)
}

fn power_of_two(exponent: i32) -> f64 {
    let field = u64::try_from(exponent + 1023).expect("BUG: half an exponent is a normal one");
    f64::from_bits(field << FRACTION_BITS)
}

impl Sketch {
    /// Counts a value.
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        if value == 0.0 {
            self.zeros = self.zeros.saturating_add(1);
            return;
        }
        let (positive, negative) = if 0.0 < value { (1, 0) } else { (0, 1) };
        self.put(Bucket { level: level_of(value.abs()), positive, negative });
        self.bound();
    }

    /// Counts what another has counted.
    pub fn merge(&mut self, other: &Sketch) {
        self.zeros = self.zeros.saturating_add(other.zeros);
        for bucket in &other.buckets {
            self.put(*bucket);
        }
        self.bound();
    }

    fn put(&mut self, more: Bucket) {
        match self.buckets.binary_search_by_key(&more.level, |bucket| bucket.level) {
            Ok(at) => {
                let bucket = &mut self.buckets[at];
                bucket.positive = bucket.positive.saturating_add(more.positive);
                bucket.negative = bucket.negative.saturating_add(more.negative);
            }
            Err(at) => self.buckets.insert(at, more),
        }
    }

    /// Puts the smallest levels together, as many as are too many.
    fn bound(&mut self) {
        let Some(excess) = self.buckets.len().checked_sub(SKETCH_BUCKETS_MAX) else {
            return;
        };
        let small: Vec<Bucket> = self.buckets.drain(..excess).collect();
        let level = self.buckets[0].level;
        for bucket in small {
            self.put(Bucket { level, ..bucket });
        }
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(self.zeros, |sum, bucket| {
            sum.saturating_add(bucket.positive).saturating_add(bucket.negative)
        })
    }

    /// The value below or at which this part (0 to 1) of the values lies, to 1 %; `None` without values. Whoever knows the
    /// smallest and the largest value can do better at the ends.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = part.clamp(0.0, 1.0) * as_float(count);
        let negative = self.buckets.iter().rev();
        let negative = negative.map(|bucket| (bucket.negative, -amount_of(bucket.level)));
        let positive = self.buckets.iter();
        let positive = positive.map(|bucket| (bucket.positive, amount_of(bucket.level)));
        let ascending = negative.chain([(self.zeros, 0.0)]).chain(positive);
        let mut below = 0_u64;
        let mut found = None;
        for (here, value) in ascending.filter(|&(here, _)| 0 < here) {
            below = below.saturating_add(here);
            found = Some(value);
            if rank <= as_float(below) {
                break;
            }
        }
        found
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let signed = self.buckets.iter().any(|bucket| 0 < bucket.negative);
        put(2 * self.buckets.len() as u64 + u64::from(signed), out);
        put(self.zeros, out);
        let Some(first) = self.buckets.first() else {
            return;
        };
        put_signed(i64::from(first.level), out);
        let mut next = first.level;
        for bucket in &self.buckets {
            let skipped = u64::try_from(bucket.level - next).expect("BUG: levels ascend");
            next = bucket.level + 1;
            if signed {
                put(skipped, out);
                put(bucket.positive, out);
                put(bucket.negative, out);
            } else if bucket.positive < 4 {
                put(4 * skipped + (bucket.positive - 1), out);
            } else {
                put(4 * skipped + 3, out);
                put(bucket.positive - 4, out);
            }
        }
    }

    /// Reads one from the beginning of `bytes`, which it moves on. Total, bounded.
    pub fn decode(bytes: &mut &[u8]) -> Result<Sketch, Spoilt> {
        let head = get(bytes)?;
        let (levels, signed) = (head >> 1, head & 1 == 1);
        let levels = usize::try_from(levels).unwrap_or(usize::MAX);
        // A level takes a byte at least, so what is allocated is bounded by what is there.
        if SKETCH_BUCKETS_MAX < levels || bytes.len() < levels {
            return Err(Spoilt("a sketch has too many levels"));
        }
        let mut sketch = Sketch { zeros: get(bytes)?, buckets: Vec::with_capacity(levels) };
        if levels == 0 {
            return if signed { Err(Spoilt("a sketch has no levels")) } else { Ok(sketch) };
        }
        let mut next = get_signed(bytes)?;
        for at in 0..levels {
            let (skipped, positive, negative) = get_bucket(bytes, signed)?;
            let level = i64::try_from(skipped).ok().and_then(|skipped| next.checked_add(skipped));
            let level = level.and_then(|level| i32::try_from(level).ok());
            let level = level.filter(|level| (LEVEL_MIN..=LEVEL_INFINITE).contains(level));
            let level = level.ok_or(Spoilt("a level of a sketch is out of range"))?;
            if (positive == 0 && negative == 0) || (at == 0 && skipped != 0) {
                return Err(Spoilt("a level of a sketch is not spelled so"));
            }
            sketch.buckets.push(Bucket { level, positive, negative });
            next = i64::from(level) + 1;
        }
        if signed && sketch.buckets.iter().all(|bucket| bucket.negative == 0) {
            return Err(Spoilt("a sketch has no negative values"));
        }
        Ok(sketch)
    }
}

/// Levels skipped, positive and negative values.
fn get_bucket(bytes: &mut &[u8], signed: bool) -> Result<(u64, u64, u64), Spoilt> {
    let head = get(bytes)?;
    if signed {
        return Ok((head, get(bytes)?, get(bytes)?));
    }
    let positive = match head & 3 {
        3 => get(bytes)?.checked_add(4).ok_or(Spoilt("a count of a sketch is too large"))?,
        few => few + 1,
    };
    Ok((head >> 2, positive, 0))
}

/// A count as a float, rounded once.
fn as_float(count: u64) -> f64 {
    let half = |bits: u64| float((bits & 0xffff_ffff).cast_signed()).expect("BUG: it has 32 bits");
    half(count >> 32) * 4_294_967_296.0 + half(count)
}

#[cfg(test)]
mod tests {
    use super::{LEVEL_INFINITE, LEVEL_MIN, Sketch, amount_of, level_of};
    use crate::base::limits::SKETCH_BUCKETS_MAX;
    use crate::base::rng::Rng;
    use crate::testing::seeds;

    /// Values of many shapes: of one size, of all sizes, whole, negative, special.
    fn some_values(rng: &mut Rng) -> Vec<f64> {
        let shape = rng.below(6);
        let mut one = || match shape {
            0 => unit(rng) * 100.0,
            1 => (unit(rng) * 1400.0 - 700.0).exp(),
            2 => f64::from(u16::try_from(rng.below(40)).unwrap()) - 10.0,
            3 => f64::from_bits(rng.next_u64()),
            4 => *[
                0.0,
                -0.0,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::NAN,
                5e-324,
                -1e-310,
                f64::MAX,
                1.0,
            ]
            .get(rng.index(9))
            .unwrap(),
            _ => 0.001 / unit(rng).max(1e-9),
        };
        (0..=2000 / (1 + shape)).map(|_| one()).collect()
    }

    fn unit(rng: &mut Rng) -> f64 {
        f64::from_bits(super::ONE | rng.next_u64() >> 12) - 1.0
    }

    fn sketch_of(values: &[f64]) -> Sketch {
        let mut sketch = Sketch::default();
        for &value in values {
            sketch.add(value);
        }
        sketch
    }

    fn encoded(sketch: &Sketch) -> Vec<u8> {
        let mut bytes = Vec::new();
        sketch.encode(&mut bytes);
        bytes
    }

    /// To 1 %, or to one unit of what cannot be told apart any better.
    fn close(found: f64, exact: f64) -> bool {
        found.to_bits() == exact.to_bits() || (found - exact).abs() <= exact.abs() * 0.0101 + 5e-324
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values_to_one_percent() {
        let mut whole = 0;
        for seed in seeds(300) {
            let mut rng = Rng::from_seed(seed);
            let values = some_values(&mut rng);
            let sketch = sketch_of(&values);
            let mut sorted: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
            sorted.sort_by(f64::total_cmp);
            assert_eq!(sketch.count(), sorted.len() as u64, "seed {seed}");
            assert!(sketch.buckets.len() <= SKETCH_BUCKETS_MAX, "seed {seed}");
            let kept = sketch.buckets.first().map_or(0, |bucket| bucket.level);
            for percent in [0_u32, 1, 5, 25, 50, 75, 90, 95, 99, 100] {
                let rank = (sorted.len() * usize::try_from(percent).unwrap()).div_ceil(100).max(1);
                let found = sketch.quantile(f64::from(percent) / 100.0);
                let Some(&exact) = sorted.get(rank - 1) else {
                    assert_eq!(found, None, "seed {seed}");
                    continue;
                };
                let small = exact != 0.0 && level_of(exact.abs()) < kept;
                let found = found.unwrap();
                if small {
                    assert!(
                        found.abs() <= amount_of(kept),
                        "seed {seed}: p{percent} {found} {exact}"
                    );
                } else {
                    whole += 1;
                    assert!(close(found, exact), "seed {seed}: p{percent} is {found}, not {exact}");
                }
            }
        }
        assert!(1 < whole);
    }

    #[test]
    fn merging_in_any_order_gives_the_same_bytes() {
        for seed in seeds(200) {
            let mut rng = Rng::from_seed(seed);
            let mut values = some_values(&mut rng);
            if rng.one_in(2) {
                values.extend(some_values(&mut rng));
            }
            let whole = encoded(&sketch_of(&values));
            let mut parts: Vec<Sketch> = Vec::new();
            let mut rest = values;
            while !rest.is_empty() {
                let cut = 1 + rng.index(rest.len());
                let part = rest.split_off(rest.len() - cut);
                parts.push(sketch_of(&part));
            }
            while 1 < parts.len() {
                let other = parts.swap_remove(rng.index(parts.len()));
                let into = rng.index(parts.len());
                parts[into].merge(&other);
            }
            assert_eq!(encoded(&parts[0]), whole, "seed {seed}");
        }
    }

    #[test]
    fn what_was_encoded_is_read_as_it_was() {
        for seed in seeds(200) {
            let mut rng = Rng::from_seed(seed);
            let sketch = sketch_of(&some_values(&mut rng));
            let mut bytes = encoded(&sketch);
            let long = bytes.len();
            bytes.extend_from_slice(b"more");
            let mut rest = bytes.as_slice();
            assert_eq!(Sketch::decode(&mut rest), Ok(sketch), "seed {seed}");
            assert_eq!(rest, b"more", "seed {seed}");
            let cut = rng.index(long);
            assert!(Sketch::decode(&mut &bytes[..cut]).is_err(), "seed {seed}: cut at {cut}");
        }
    }

    #[test]
    fn any_bytes_are_a_sketch_with_one_spelling_or_an_error() {
        for seed in seeds(2000) {
            let mut rng = Rng::from_seed(seed);
            let mut bytes = encoded(&sketch_of(&some_values(&mut rng)[..1]));
            bytes.extend_from_slice(&rng.bytes(40));
            for _ in 0..rng.below(4) {
                let at = rng.index(bytes.len().min(12));
                bytes[at] = rng.bytes(1)[0];
            }
            let mut rest = bytes.as_slice();
            if let Ok(sketch) = Sketch::decode(&mut rest) {
                let spelled = bytes.len() - rest.len();
                assert_eq!(encoded(&sketch), bytes[..spelled], "seed {seed}");
                let _value = sketch.quantile(0.5);
                let mut merged = sketch.clone();
                merged.merge(&sketch);
                assert!(sketch.count() <= merged.count(), "seed {seed}");
            }
        }
    }

    #[test]
    fn levels_ascend_with_amounts_and_hold_them() {
        let mut before = 0.0;
        for level in (LEVEL_MIN + 60 * 35)..=LEVEL_INFINITE {
            let amount = amount_of(level);
            assert!(before < amount, "{level}");
            assert_eq!(level_of(amount), level);
            before = amount;
        }
        assert_eq!(level_of(5e-324), LEVEL_MIN);
        assert_eq!(amount_of(LEVEL_MIN).to_bits(), 1);
        assert_eq!(level_of(f64::MAX), LEVEL_INFINITE - 1);
    }

    #[test]
    fn a_sketch_of_a_stretch_of_answer_times_takes_few_bytes() {
        let mut rng = Rng::from_seed(7);
        let times: Vec<f64> = (0..30).map(|_| 0.02 / unit(&mut rng).max(0.01)).collect();
        let bytes = encoded(&sketch_of(&times)).len();
        assert!(bytes < 45, "{bytes}");
    }
}
