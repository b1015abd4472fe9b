//! Lengths of time and moments as people write them.
//!
//! ```text
//! duration   90   0.25   "250ms"   "30s"   "5m"   "1h"   "7d"        a number counts seconds
//! moment     2026-11-20T12:00:00Z   1763640000   now   -24h   +5m
//! ```
//!
//! A text has one meaning or none. What could be taken for two things is refused with the reason:
//! unix time in milliseconds, a bare negative number, a duration of several units. Precision is the
//! millisecond; a duration that is finer is refused, a moment that is finer is floored.

use super::limits::{DURATION_MAX, HUMAN_TIME_BYTES_MAX};
use super::time::Timestamp;
use std::time::Duration;

/// Why a text is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDuration {
    /// Not a number with an optional unit.
    #[error("a duration is a number of seconds or a number with a unit: 250ms, 30s, 5m, 1h, 7d")]
    Form,
    /// Below zero.
    #[error("a duration is not negative")]
    Negative,
    /// Finer than a millisecond.
    #[error("a duration is a whole number of milliseconds")]
    TooFine,
    /// Longer than [`DURATION_MAX`].
    #[error("a duration is at most 36500d")]
    TooLong,
}

impl BadDuration {
    /// The stable code.
    pub const CODE: &'static str = "invalid_duration";
}

/// Why a text is not a moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMoment {
    /// None of the forms.
    #[error("a moment is RFC 3339 (2026-11-20T12:00:00Z), unix seconds, now, or relative: -24h")]
    Form,
    /// RFC 3339 in form, but no such day or hour.
    #[error("there is no such date or time of day")]
    NoSuchTime,
    /// A number that is unix time in milliseconds.
    #[error("this looks like milliseconds: unix time is given in seconds")]
    Milliseconds,
    /// A number below zero: seconds before 1970 or seconds ago?
    #[error("a negative number is ambiguous: write -30s for thirty seconds ago")]
    NegativeNumber,
    /// A relative moment whose duration is wrong.
    #[error(transparent)]
    Relative(BadDuration),
    /// Before 1970 or after 9999.
    #[error("a moment lies between 1970 and 9999")]
    OutOfRange,
}

impl BadMoment {
    /// The stable code.
    pub const CODE: &'static str = "invalid_time";
}

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// From here on a number of seconds is taken for milliseconds and refused.
const UNIX_SECONDS_END: u64 = 100_000_000_000;

/// Reads a length of time: a number of seconds, or a number and a unit.
pub fn parse_duration(text: &str) -> Result<Duration, BadDuration> {
    if HUMAN_TIME_BYTES_MAX < text.len() {
        return Err(BadDuration::Form);
    }
    if text.starts_with('-') {
        return Err(BadDuration::Negative);
    }
    let (number, unit_ms) = UNITS
        .iter()
        .find_map(|&(unit, ms)| text.strip_suffix(unit).map(|number| (number, ms)))
        .unwrap_or((text, 1000));
    let ms = scaled(number, unit_ms)?;
    let duration = Duration::from_millis(ms);
    if DURATION_MAX < duration { Err(BadDuration::TooLong) } else { Ok(duration) }
}

/// `number * unit_ms` for a plain decimal number: digits, and digits after a point.
fn scaled(number: &str, unit_ms: u64) -> Result<u64, BadDuration> {
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !fraction.is_none_or(digits) {
        return Err(BadDuration::Form);
    }
    let whole: u64 = whole.parse().map_err(|_| BadDuration::TooLong)?;
    let whole_ms = whole.checked_mul(unit_ms).ok_or(BadDuration::TooLong)?;

    // Zeros at the end say nothing; 18 digits are all that can matter before the unit is applied.
    let fraction = fraction.unwrap_or("").trim_end_matches('0');
    if fraction.is_empty() {
        return Ok(whole_ms);
    }
    if 18 < fraction.len() {
        return Err(BadDuration::TooFine);
    }
    let parts: u128 = fraction.parse().map_err(|_| BadDuration::Form)?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| BadDuration::TooFine)?);
    let fraction_ms = parts * u128::from(unit_ms);
    if !fraction_ms.is_multiple_of(scale) {
        return Err(BadDuration::TooFine);
    }
    let fraction_ms = u64::try_from(fraction_ms / scale).map_err(|_| BadDuration::TooLong)?;
    whole_ms.checked_add(fraction_ms).ok_or(BadDuration::TooLong)
}

/// Writes a length of time with the largest unit that divides it: `90s`, `5m`, `1d`, `250ms`.
/// [`parse_duration`] reads it back. Parts of a millisecond are dropped.
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let fits = |&&(_, unit_ms): &&(&str, u64)| ms.is_multiple_of(u128::from(unit_ms));
    let (unit, unit_ms) = match UNITS.iter().rev().find(fits) {
        Some(&found) if ms != 0 => found,
        _ => ("s", 1000),
    };
    format!("{}{unit}", ms / u128::from(unit_ms))
}

/// Reads a moment; `now` is what relative ones refer to.
pub fn parse_moment(text: &str, now: Timestamp) -> Result<Timestamp, BadMoment> {
    if HUMAN_TIME_BYTES_MAX < text.len() {
        return Err(BadMoment::Form);
    }
    match text.as_bytes() {
        b"now" => Ok(now),
        [b'-', rest @ ..] if is_number(rest) => Err(BadMoment::NegativeNumber),
        [b'-', ..] => {
            let ago = parse_duration(&text[1..]).map_err(BadMoment::Relative)?;
            if now.since(Timestamp::MIN) < ago {
                Err(BadMoment::OutOfRange)
            } else {
                Ok(now.minus(ago))
            }
        }
        [b'+', rest @ ..] if !is_number(rest) => {
            let ahead = parse_duration(&text[1..]).map_err(BadMoment::Relative)?;
            if Timestamp::MAX.since(now) < ahead {
                Err(BadMoment::OutOfRange)
            } else {
                Ok(now.plus(ahead))
            }
        }
        bytes if is_number(bytes) => parse_unix_seconds(text),
        bytes if looks_like_rfc3339(bytes) => parse_rfc3339(text),
        _ => Err(BadMoment::Form),
    }
}

fn is_number(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_digit)
        && bytes.iter().all(|&b| b.is_ascii_digit() || b == b'.')
}

fn parse_unix_seconds(text: &str) -> Result<Timestamp, BadMoment> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.contains('.') {
        return Err(BadMoment::Form);
    }
    let seconds: u64 = whole.parse().map_err(|_| BadMoment::Milliseconds)?;
    if UNIX_SECONDS_END <= seconds {
        return Err(BadMoment::Milliseconds);
    }
    let mut ms = 0_i64;
    for place in 0..3 {
        let digit = fraction.as_bytes().get(place).map_or(0, |b| i64::from(b - b'0'));
        ms = ms * 10 + digit;
    }
    Timestamp::from_unix_ms(seconds.cast_signed() * 1000 + ms).ok_or(BadMoment::OutOfRange)
}

/// `YYYY-MM-DD`, `T`, `t` or a space, `hh:mm:ss`, an optional fraction, and `Z`, `z` or an offset
/// `+hh:mm`. The calendar library is wider (time zones in brackets, hours alone), so the form is
/// checked first.
fn looks_like_rfc3339(bytes: &[u8]) -> bool {
    let form = |pattern: &[u8], part: &[u8]| {
        pattern.len() == part.len()
            && pattern.iter().zip(part).all(|(&want, &is)| match want {
                b'0' => is.is_ascii_digit(),
                b'T' => matches!(is, b'T' | b't' | b' '),
                b'+' => matches!(is, b'+' | b'-'),
                other => is == other,
            })
    };
    let Some((head, rest)) = bytes.split_at_checked(19) else {
        return false;
    };
    if !form(b"0000-00-00T00:00:00", head) {
        return false;
    }
    let zone = match rest {
        [b'.', digits @ ..] => {
            let len = digits.iter().take_while(|b| b.is_ascii_digit()).count();
            if len == 0 {
                return false;
            }
            &digits[len..]
        }
        rest => rest,
    };
    matches!(zone, b"Z" | b"z") || form(b"+00:00", zone)
}

fn parse_rfc3339(text: &str) -> Result<Timestamp, BadMoment> {
    // Digits of the second beyond the ninth say nothing to us, and the calendar library refuses them.
    let (head, rest) = text.split_at(19);
    let fraction = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (fraction, zone) = rest.split_at(fraction);
    let fraction = &fraction[..fraction.len().min(1 + 9)];
    let there_is = head.parse::<jiff::civil::DateTime>().is_ok();
    let refused = if there_is { BadMoment::OutOfRange } else { BadMoment::NoSuchTime };
    let whole = format!("{head}{fraction}{zone}");
    let at: jiff::Timestamp = whole.parse().map_err(|_| refused)?;
    // Floor, also before 1970, so that the fraction never rounds into another second.
    let ms = at.as_nanosecond().div_euclid(1_000_000);
    let ms = i64::try_from(ms).map_err(|_| BadMoment::OutOfRange)?;
    Timestamp::from_unix_ms(ms).ok_or(BadMoment::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::{BadDuration, BadMoment, format_duration, parse_duration, parse_moment};
    use crate::base::time::Timestamp;
    use std::time::Duration;

    #[test]
    fn durations_are_numbers_of_seconds_or_carry_a_unit() {
        for (text, ms) in [
            ("0", 0),
            ("30", 30_000),
            ("0.25", 250),
            ("1.500", 1_500),
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1.5h", 5_400_000),
            ("7d", 604_800_000),
            ("36500d", 36_500 * 86_400_000),
            ("0.0000000000s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn a_bad_duration_says_why() {
        use BadDuration::{Form, Negative, TooFine, TooLong};
        for (text, why) in [
            ("", Form),
            ("s", Form),
            ("ms", Form),
            (" 5s", Form),
            ("5 s", Form),
            ("5S", Form),
            ("1h30m", Form),
            ("1e3", Form),
            (".5", Form),
            ("5.", Form),
            ("1.2.3", Form),
            ("+5s", Form),
            ("5w", Form),
            ("\u{663}s", Form),
            ("-5s", Negative),
            ("-", Negative),
            ("0.0001", TooFine),
            ("0.5ms", TooFine),
            ("0.1234567890123456789s", TooFine),
            ("36501d", TooLong),
            ("99999999999999999999", TooLong),
            ("18446744073709551615d", TooLong),
        ] {
            assert_eq!(parse_duration(text), Err(why), "{text:?}");
        }
        assert_eq!(parse_duration(&"1".repeat(65)), Err(Form));
    }

    #[test]
    fn durations_are_written_as_they_would_be_typed() {
        for (ms, text) in
            [(0, "0s"), (250, "250ms"), (90_000, "90s"), (300_000, "5m"), (86_400_000, "1d")]
        {
            assert_eq!(format_duration(Duration::from_millis(ms)), text);
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)));
        }
    }

    fn moment(text: &str) -> Result<String, BadMoment> {
        let now = Timestamp::from_unix_ms(1_763_640_000_500).unwrap();
        parse_moment(text, now).map(|at| at.to_string())
    }

    #[test]
    fn moments_are_rfc3339_unix_seconds_or_relative() {
        for (text, want) in [
            ("2026-11-20T12:00:00Z", "2026-11-20T12:00:00.000Z"),
            ("2026-11-20t12:00:00.1239z", "2026-11-20T12:00:00.123Z"),
            ("2026-11-20 13:30:00+01:30", "2026-11-20T12:00:00.000Z"),
            ("2026-11-20T12:00:00.123999999999Z", "2026-11-20T12:00:00.123Z"),
            ("1970-01-01T01:00:00+01:00", "1970-01-01T00:00:00.000Z"),
            ("0", "1970-01-01T00:00:00.000Z"),
            ("1763640000", "2025-11-20T12:00:00.000Z"),
            ("1763640000.0259", "2025-11-20T12:00:00.025Z"),
            ("99999999999", "5138-11-16T09:46:39.000Z"),
            ("now", "2025-11-20T12:00:00.500Z"),
            ("-24h", "2025-11-19T12:00:00.500Z"),
            ("+1.5s", "2025-11-20T12:00:02.000Z"),
        ] {
            assert_eq!(moment(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn a_bad_moment_says_why() {
        for (text, why) in [
            ("", BadMoment::Form),
            ("yesterday", BadMoment::Form),
            ("NOW", BadMoment::Form),
            ("2026-11-20", BadMoment::Form),
            ("2026-11-20T12:00:00", BadMoment::Form),
            ("2026-11-20T12:00Z", BadMoment::Form),
            ("2026-11-20T12:00:00.Z", BadMoment::Form),
            ("2026-11-20T12:00:00+01", BadMoment::Form),
            ("2026-11-20T12:00:00+01:00[Europe/Paris]", BadMoment::Form),
            ("1.2.3", BadMoment::Form),
            ("17.", BadMoment::Form),
            ("+30", BadMoment::Form),
            ("2026-02-30T12:00:00Z", BadMoment::NoSuchTime),
            ("2026-11-20T25:00:00Z", BadMoment::NoSuchTime),
            ("100000000000", BadMoment::Milliseconds),
            ("1763640000500", BadMoment::Milliseconds),
            ("99999999999999999999999", BadMoment::Milliseconds),
            ("-3600", BadMoment::NegativeNumber),
            ("-", BadMoment::Relative(BadDuration::Form)),
            ("-5x", BadMoment::Relative(BadDuration::Form)),
            ("--5s", BadMoment::Relative(BadDuration::Negative)),
            ("-36500d", BadMoment::OutOfRange),
            ("9999-12-31T23:59:59Z", BadMoment::OutOfRange),
            ("1969-12-31T23:59:59.999Z", BadMoment::OutOfRange),
            ("1970-01-01T00:00:00+01:00", BadMoment::OutOfRange),
        ] {
            assert_eq!(moment(text), Err(why), "{text:?}");
        }
        assert_eq!(moment(&"1".repeat(65)), Err(BadMoment::Form));
    }
}
