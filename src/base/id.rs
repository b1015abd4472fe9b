//! Ids: 64 bits, written as 13 letters and digits.
//!
//! The text is Crockford's base 32 in lower case, most significant first, so that texts sort like the
//! numbers. Reading is strict (13 characters, lower case, no look-alikes): an id has one spelling, and
//! an id in hand is valid.

use std::fmt;

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 13 characters of 0-9 a-z without i, l, o and u")]
pub struct BadId;

/// The digits of base 32, also of the parts of a token.
pub(super) const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TEXT_BYTES: usize = 13;
const NO_DIGIT: u8 = 0xff;

/// What each byte is worth as a digit.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while (value as usize) < DIGITS.len() {
        values[DIGITS[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// What `byte` is worth as one of [`DIGITS`].
pub(super) fn digit(byte: u8) -> Option<u8> {
    Some(VALUES[usize::from(byte)]).filter(|value| *value != NO_DIGIT)
}

fn write_id(raw: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0_u8; TEXT_BYTES];
    let mut rest = raw;
    for place in text.iter_mut().rev() {
        *place = DIGITS[(rest & 31) as usize];
        rest >>= 5;
    }
    f.write_str(std::str::from_utf8(&text).expect("BUG: the digits are ASCII"))
}

fn parse_id(text: &str) -> Result<u64, BadId> {
    if text.len() != TEXT_BYTES {
        return Err(BadId);
    }
    let mut raw = 0_u64;
    for byte in text.bytes() {
        let digit = digit(byte).ok_or(BadId)?;
        // 13 digits hold 65 bits; the first one must leave the top bit alone.
        raw = raw.checked_mul(32).ok_or(BadId)? + u64::from(digit);
    }
    Ok(raw)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// The id with these bits.
            pub const fn from_raw(raw: u64) -> $name {
                $name(raw)
            }

            /// The bits, as keys and records keep them.
            pub const fn raw(self) -> u64 {
                self.0
            }

            /// Reads the 13 characters that `Display` writes, and nothing else.
            pub fn parse(text: &str) -> Result<$name, BadId> {
                parse_id(text).map($name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_id(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_id(self.0, f)
            }
        }
    };
}

id! {
    /// A tenant: 64 random bits, never given out twice. The first part of every key.
    TenantId
}
id! {
    /// A token: the public half by which it is looked up. 64 random bits.
    TokenId
}
id! {
    /// A job: counts up within a data directory, so that ids sort by birth.
    JobId
}

#[cfg(test)]
mod tests {
    use super::{BadId, JobId, TenantId};
    use crate::base::rng::Rng;

    #[test]
    fn ids_are_read_as_they_are_written_and_sort_like_their_numbers() {
        assert_eq!(JobId::from_raw(0).to_string(), "0000000000000");
        assert_eq!(JobId::from_raw(u64::MAX).to_string(), "fzzzzzzzzzzzz");
        let mut rng = Rng::from_seed(7);
        for _ in 0..1000 {
            let (a, b) = (TenantId::from_raw(rng.next_u64()), TenantId::from_raw(rng.next_u64()));
            assert_eq!(TenantId::parse(&a.to_string()), Ok(a));
            assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        for text in [
            "",
            "0",
            "00000000000000",
            "000000000000O",
            "000000000000i",
            "gzzzzzzzzzzzz",
            "FZZZZZZZZZZZZ",
            "00000000000 0",
        ] {
            assert_eq!(JobId::parse(text), Err(BadId), "{text:?}");
        }
    }
}
