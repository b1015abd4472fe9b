//! Numbers as points and sketches are stored: whole ones in as few bytes as they need, each with one spelling, and the
//! way between whole numbers and floats, without rounding.

use super::block::Spoilt;

/// A float of this size has whole numbers for neighbours: adding it rounds, and leaves the whole number in the low bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;

/// Whole numbers that go to a float and back by adding [`MAGIC`] are smaller than this, either way.
pub(super) const WHOLE_END: i64 = 1 << 51;

/// Appends seven bits a byte, the lowest first.
pub(super) fn put(mut number: u64, out: &mut Vec<u8>) {
    while 0x80 <= number {
        out.push(low_byte(number) | 0x80);
        number >>= 7;
    }
    out.push(low_byte(number));
}

/// Appends a number that may be negative; small ones either way are short.
pub(super) fn put_signed(number: i64, out: &mut Vec<u8>) {
    put((number << 1 ^ number >> 63).cast_unsigned(), out);
}

fn low_byte(number: u64) -> u8 {
    number.to_le_bytes()[0] & 0x7f
}

/// Reads what [`put`] wrote, from the beginning of `bytes`, which it moves on. A longer spelling than its own is refused.
pub(super) fn get(bytes: &mut &[u8]) -> Result<u64, Spoilt> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = get_byte(bytes)?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && 1 < bits {
            return Err(Spoilt("a number is too large"));
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            let short = byte != 0 || shift == 0;
            return if short { Ok(number) } else { Err(Spoilt("a number is too long")) };
        }
    }
    Err(Spoilt("a number is too long"))
}

/// Reads what [`put_signed`] wrote.
pub(super) fn get_signed(bytes: &mut &[u8]) -> Result<i64, Spoilt> {
    let number = get(bytes)?;
    Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
}

/// Reads one byte.
pub(super) fn get_byte(bytes: &mut &[u8]) -> Result<u8, Spoilt> {
    let (&byte, rest) = bytes.split_first().ok_or(Spoilt("it ends too early"))?;
    *bytes = rest;
    Ok(byte)
}

/// The whole number next to `value`, if it is below [`WHOLE_END`] either way.
pub(super) fn rounded(value: f64) -> Option<i64> {
    let near = value.abs() < 2_251_799_813_685_248.0 - 1.0;
    near.then(|| ((value + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits())).cast_signed())
}

/// The float that is this whole number, if it is below [`WHOLE_END`] either way.
pub(super) fn float(whole: i64) -> Option<f64> {
    let near = -WHOLE_END < whole && whole < WHOLE_END;
    near.then(|| f64::from_bits(MAGIC.to_bits().wrapping_add(whole.cast_unsigned())) - MAGIC)
}

#[cfg(test)]
mod tests {
    use super::{WHOLE_END, float, get, get_signed, put, put_signed, rounded};
    use crate::base::rng::Rng;
    use crate::testing::seeds;

    #[test]
    fn numbers_of_any_size_come_back_and_have_one_spelling() {
        for seed in seeds(50) {
            let mut rng = Rng::from_seed(seed);
            for _ in 0..200 {
                let number = rng.next_u64() >> rng.below(64);
                let mut bytes = Vec::new();
                put(number, &mut bytes);
                put_signed(number.cast_signed(), &mut bytes);
                let mut rest = bytes.as_slice();
                assert_eq!(get(&mut rest), Ok(number), "seed {seed}");
                assert_eq!(get_signed(&mut rest), Ok(number.cast_signed()), "seed {seed}");
                assert!(rest.is_empty(), "seed {seed}");
            }
            let noise = rng.bytes(12);
            let mut rest = noise.as_slice();
            if let Ok(number) = get(&mut rest) {
                let mut again = Vec::new();
                put(number, &mut again);
                assert!(noise.starts_with(&again), "seed {seed}");
                assert_eq!(again.len() + rest.len(), noise.len(), "seed {seed}");
            }
        }
        assert!(get(&mut [0x80, 0].as_slice()).is_err());
        assert!(get(&mut [0xff; 10].as_slice()).is_err());
        assert!(get(&mut [0x80].as_slice()).is_err());
    }

    #[test]
    fn whole_numbers_go_to_floats_and_back() {
        for whole in [0, 1, -1, 12_345, WHOLE_END - 1, 1 - WHOLE_END] {
            let there = float(whole).expect("it is small enough");
            assert_eq!(there.to_string(), whole.to_string());
            if whole.abs() < WHOLE_END - 1 {
                assert_eq!(rounded(there), Some(whole));
            }
        }
        assert_eq!(float(WHOLE_END), None);
        assert_eq!(float(i64::MIN), None);
        assert_eq!(rounded(2.6), Some(3));
        assert_eq!(rounded(-2.6), Some(-3));
        assert_eq!(rounded(f64::NAN), None);
        assert_eq!(rounded(f64::INFINITY), None);
        assert_eq!(rounded(1e300), None);
    }
}
