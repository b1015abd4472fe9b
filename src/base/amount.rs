//! Amounts of memory as people write them.
//!
//! ```text
//! bytes      1048576   512KiB   256MiB   2GiB   256MB        KiB counts 1024, kB counts 1000
//! a share    25%   0.5%                                      of what is there, to a hundredth
//! ```
//!
//! A text has one meaning or none: `256M` and `1.5GiB` are refused.

use std::fmt;

use super::limits::AMOUNT_TEXT_BYTES_MAX;

/// So much of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// A part of what there is.
    Percent(Percent),
}

/// A percentage above 0 and up to 100.
///
/// Invariant: 1 to 10,000 hundredths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(u16);

/// Why a text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAmount {
    /// Neither a number of bytes nor a percentage.
    #[error(
        "it is a whole number of bytes, or one with a unit (64MiB, 2GiB), or a percentage (25%)"
    )]
    Form,
    /// A letter that stands for 1000 or for 1024.
    #[error("this unit means two things: write MiB (1024 KiB) or MB (1000 kB)")]
    Unit,
    /// More than there are numbers.
    #[error("so many bytes do not exist")]
    TooLarge,
    /// Nothing, more than everything, or finer than a hundredth.
    #[error("a percentage is above 0 and at most 100, with two places behind the point at most")]
    Percent,
}

/// Largest first: what is written uses the first that divides.
const UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
];

impl Amount {
    /// All of it.
    pub const WHOLE: Amount = Amount::Percent(Percent(10_000));

    /// Reads an amount. The case of a unit's letters says nothing.
    pub fn parse(text: &str) -> Result<Amount, BadAmount> {
        if AMOUNT_TEXT_BYTES_MAX < text.len() {
            return Err(BadAmount::Form);
        }
        if let Some(number) = text.strip_suffix('%') {
            return Percent::parse(number.strip_suffix(' ').unwrap_or(number)).map(Amount::Percent);
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() || unit == " " {
            return Err(BadAmount::Form);
        }
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let times = match (unit, known) {
            ("" | "B" | "b", _) => 1,
            (_, Some((_, times))) => *times,
            ("K" | "k" | "M" | "m" | "G" | "g" | "T" | "t", None) => return Err(BadAmount::Unit),
            (_, None) => return Err(BadAmount::Form),
        };
        let number: u64 = number.parse().map_err(|_| BadAmount::TooLarge)?;
        number.checked_mul(times).map(Amount::Bytes).ok_or(BadAmount::TooLarge)
    }

    /// The bytes of it, where there are `whole`.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Amount::Bytes(bytes) => bytes,
            Amount::Percent(Percent(hundredths)) => {
                let part = u128::from(whole) * u128::from(hundredths) / 10_000;
                u64::try_from(part).expect("BUG: a part is not more than the whole")
            }
        }
    }
}

impl Percent {
    fn parse(number: &str) -> Result<Percent, BadAmount> {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            let negative = number.strip_prefix('-').is_some_and(digits);
            return Err(if negative { BadAmount::Percent } else { BadAmount::Form });
        }
        let fraction = fraction.trim_end_matches('0');
        let whole: u16 = whole.parse().map_err(|_| BadAmount::Percent)?;
        if 100 < whole || 2 < fraction.len() {
            return Err(BadAmount::Percent);
        }
        let parts: u16 = format!("{fraction:0<2}").parse().map_err(|_| BadAmount::Percent)?;
        let hundredths = whole * 100 + parts;
        if (1..=10_000).contains(&hundredths) {
            Ok(Percent(hundredths))
        } else {
            Err(BadAmount::Percent)
        }
    }
}

/// As it would be typed: [`Amount::parse`] reads it back.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Bytes(bytes) => {
                let fits = |(_, times): &&(&str, u64)| *bytes != 0 && bytes.is_multiple_of(*times);
                match UNITS.iter().find(fits) {
                    Some((unit, times)) => write!(f, "{}{unit}", bytes / times),
                    None => write!(f, "{bytes}"),
                }
            }
            Amount::Percent(Percent(hundredths)) => {
                let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
                let text = text.trim_end_matches('0').trim_end_matches('.');
                write!(f, "{text}%")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Amount, BadAmount};
    use crate::base::rng::Rng;
    use crate::testing::seeds;

    #[test]
    fn an_amount_is_bytes_with_a_unit_or_a_part_of_what_is_there() {
        for (text, of_a_gib, shown) in [
            ("0", 0, "0"),
            ("1000001", 1_000_001, "1000001"),
            ("7B", 7, "7"),
            ("1024", 1024, "1KiB"),
            ("64KiB", 64 << 10, "64KiB"),
            ("64 mib", 64 << 20, "64MiB"),
            ("2048MiB", 2 << 30, "2GiB"),
            ("3TiB", 3 << 40, "3TiB"),
            ("256MB", 256_000_000, "256MB"),
            ("1kb", 1000, "1kB"),
            ("25%", 1 << 28, "25%"),
            ("100%", 1 << 30, "100%"),
            ("100.00 %", 1 << 30, "100%"),
            ("12.5%", 1 << 27, "12.5%"),
            ("0.01%", 107_374, "0.01%"),
            ("1.010%", 10_844_792, "1.01%"),
        ] {
            let amount = Amount::parse(text).unwrap();
            assert_eq!(amount.of(1 << 30), of_a_gib, "{text}");
            assert_eq!(amount.to_string(), shown, "{text}");
            assert_eq!(Amount::parse(shown), Ok(amount), "{text}");
        }
        assert_eq!(Amount::WHOLE.of(u64::MAX), u64::MAX);
        assert_eq!(Amount::parse("100%"), Ok(Amount::WHOLE));
    }

    #[test]
    fn a_bad_amount_says_why() {
        use BadAmount::{Form, Percent, TooLarge, Unit};
        for (text, why) in [
            ("", Form),
            ("%", Form),
            ("MiB", Form),
            ("-1", Form),
            (" 5", Form),
            ("5 ", Form),
            ("1.5GiB", Form),
            ("5 EiB", Form),
            ("1e3", Form),
            ("0x10", Form),
            ("a%", Form),
            ("1.%", Form),
            (".5%", Form),
            ("1.2.3%", Form),
            ("5%%", Form),
            ("\u{663}%", Form),
            ("256M", Unit),
            ("1 g", Unit),
            ("0%", Percent),
            ("0.00%", Percent),
            ("-5%", Percent),
            ("100.01%", Percent),
            ("101%", Percent),
            ("99999999%", Percent),
            ("0.001%", Percent),
            ("99999999999999999999", TooLarge),
            ("16777216TiB", TooLarge),
        ] {
            assert_eq!(Amount::parse(text), Err(why), "{text:?}");
        }
        assert_eq!(Amount::parse(&"1".repeat(65)), Err(Form));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for seed in seeds(500) {
            let mut rng = Rng::from_seed(seed);
            let bytes = rng.next_u64() >> rng.below(64);
            let amount = Amount::Bytes(bytes);
            assert_eq!(Amount::parse(&amount.to_string()), Ok(amount), "seed={seed}");
            let hundredths = 1 + rng.below(10_000);
            let text = format!("{}.{:02}%", hundredths / 100, hundredths % 100);
            let amount = Amount::parse(&text).unwrap();
            assert_eq!(Amount::parse(&amount.to_string()), Ok(amount), "seed={seed} {text}");
        }
    }
}
