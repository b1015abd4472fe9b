//! Numbers, lengths of time, rates and moments as they stand in sentences.
//!
//! Sentences are read by people who own a shop: a few digits, thousands parted by commas, a unit that makes the number
//! small, and no word that needs a course. Everything here takes any finite number, however large.

use crate::base::time::Timestamp;

/// From here on numbers are written with a power of ten: nobody counts more than fifteen digits.
const POWER_FROM: f64 = 1e15;
/// Below here too: more zeros behind the point than anybody counts.
const POWER_BELOW: f64 = 1e-6;
/// What is told as an estimate has so many digits.
pub(super) const ROUGH: i32 = 2;
/// What is told as it was measured has so many digits.
pub(super) const FINE: i32 = 3;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;
const DAY: f64 = 86_400.0;
/// Minutes up to here, so that 80 of them are not 1.3 hours.
const MINUTES_TO: f64 = 90.0 * MINUTE;
/// Hours up to here: a day and a half.
const HOURS_TO: f64 = 36.0 * HOUR;
/// Days up to here, two years; then years.
const DAYS_TO: f64 = 730.0 * DAY;
const YEAR: f64 = 365.25 * DAY;

/// A number with so many significant digits, those before the point always: `1,250`, `2.1`, `0.042`, `4.2e18`.
pub(super) fn number(value: f64, digits: i32) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(POWER_BELOW..POWER_FROM).contains(&size) {
        return format!("{value:.1e}");
    }
    let decimals = usize::try_from(digits - 1 - magnitude(size)).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    let text = match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.'),
        None => &text,
    };
    parted(if text == "-0" { "0" } else { text })
}

/// The power of ten of a number above 0.
#[expect(clippy::cast_possible_truncation, reason = "a power of ten of a double is below 400")]
fn magnitude(size: f64) -> i32 {
    size.log10().floor() as i32
}

/// Thousands parted by commas.
fn parted(text: &str) -> String {
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut out = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if 0 < index && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

/// So many of something: `1 job`, `1,250 jobs`.
pub(super) fn count(many: u64, one: &str, more: &str) -> String {
    let name = if many == 1 { one } else { more };
    format!("{} {name}", parted(&many.to_string()))
}

/// A length of time, roughly: `250 ms`, `2.1 s`, `22 min`, `1.5 h`, `9 days`.
pub(super) fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    let (unit, one, more) = if seconds == 0.0 || (1.0..MINUTE).contains(&seconds) {
        (1.0, "s", "s")
    } else if seconds < 1.0 {
        (0.001, "ms", "ms")
    } else if seconds < MINUTES_TO {
        (MINUTE, "min", "min")
    } else if seconds < HOURS_TO {
        (HOUR, "h", "h")
    } else if seconds < DAYS_TO {
        (DAY, "day", "days")
    } else {
        (YEAR, "year", "years")
    };
    let text = number(seconds / unit, ROUGH);
    let name = if text == "1" { one } else { more };
    format!("{text} {name}")
}

/// What something is counted by, so that its number is neither tiny nor huge: the time, and its name.
pub(super) fn per(per_second: f64) -> (f64, &'static str) {
    let size = per_second.abs();
    if 100.0 <= size {
        (1.0, "a second")
    } else if 1.0 <= size * MINUTE {
        (MINUTE, "a minute")
    } else if 1.0 <= size * HOUR {
        (HOUR, "an hour")
    } else {
        (DAY, "a day")
    }
}

/// Jobs in a time: `60 jobs a minute`, `1 job an hour`.
pub(super) fn jobs(per_second: f64) -> String {
    let (time, name) = per(per_second);
    let text = number(per_second * time, ROUGH);
    let jobs = if text == "1" { "job" } else { "jobs" };
    format!("{text} {jobs} {name}")
}

/// A moment to the minute: `12 Nov 14:00 UTC`, with the year if it is not that of `now_ms`.
pub(super) fn moment(at_ms: i64, now_ms: i64) -> String {
    let (at, now) = (calendar(at_ms), calendar(now_ms));
    let part = |from: usize, to: usize| at.get(from..to).unwrap_or_default().to_owned();
    let month = MONTHS
        .get(part(5, 7).parse::<usize>().unwrap_or(1).saturating_sub(1))
        .copied()
        .unwrap_or_default();
    let day = part(8, 10);
    let year = if at.get(..4) == now.get(..4) { String::new() } else { format!(" {}", part(0, 4)) };
    format!("{} {month}{year} {} UTC", day.trim_start_matches('0'), part(11, 16))
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// RFC 3339, of the nearest moment that we keep.
fn calendar(at_ms: i64) -> String {
    let nearest = at_ms.clamp(Timestamp::MIN.unix_ms(), Timestamp::MAX.unix_ms());
    Timestamp::from_unix_ms(nearest).unwrap_or(Timestamp::MIN).to_string()
}

/// The first letter as at the beginning of a sentence.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().collect::<String>() + letters.as_str(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{FINE, ROUGH, capital, count, jobs, moment, number, span};

    #[test]
    fn numbers_have_a_few_digits_and_commas() {
        let rough = |value: f64| number(value, ROUGH);
        assert_eq!(rough(0.0), "0");
        assert_eq!(rough(-0.0), "0");
        assert_eq!(rough(2.1), "2.1");
        assert_eq!(rough(2.04), "2");
        assert_eq!(rough(0.042_4), "0.042");
        assert_eq!(rough(9.99), "10");
        assert_eq!(rough(1_250.4), "1,250");
        assert_eq!(rough(-1_234_567.0), "-1,234,567");
        assert_eq!(rough(123.0), "123");
        assert_eq!(rough(4.2e18), "4.2e18");
        assert_eq!(rough(-f64::MAX), "-1.8e308");
        assert_eq!(rough(5e-324), "4.9e-324");
        assert_eq!(number(53.27, FINE), "53.3");
        assert_eq!(number(1.257, FINE), "1.26");
    }

    #[test]
    fn things_are_counted_by_one_and_by_more() {
        assert_eq!(count(1, "job", "jobs"), "1 job");
        assert_eq!(count(0, "job", "jobs"), "0 jobs");
        assert_eq!(count(1_250, "job", "jobs"), "1,250 jobs");
        assert_eq!(count(u64::MAX, "job", "jobs"), "18,446,744,073,709,551,615 jobs");
    }

    #[test]
    fn lengths_of_time_have_the_unit_that_people_use() {
        for (seconds, text) in [
            (0.0, "0 s"),
            (0.25, "250 ms"),
            (0.0004, "0.4 ms"),
            (1.0, "1 s"),
            (2.13, "2.1 s"),
            (45.0, "45 s"),
            (60.0, "1 min"),
            (90.0, "1.5 min"),
            (1_320.0, "22 min"),
            (5_400.0, "1.5 h"),
            (86_400.0, "24 h"),
            (9.0 * 86_400.0, "9 days"),
            (400.0 * 86_400.0, "400 days"),
            (1e9, "32 years"),
            (f64::MAX, "5.7e300 years"),
        ] {
            assert_eq!(span(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn rates_are_told_by_the_time_that_makes_them_small_numbers() {
        assert_eq!(jobs(1.0), "60 jobs a minute");
        assert_eq!(jobs(1.0 / 3_600.0), "1 job an hour");
        assert_eq!(jobs(250.0), "250 jobs a second");
        assert_eq!(jobs(3.0 / 86_400.0), "3 jobs a day");
    }

    #[test]
    fn moments_have_the_year_only_if_it_is_another_one() {
        let at_ms = 1_762_956_000_000;
        assert_eq!(moment(at_ms, at_ms), "12 Nov 14:00 UTC");
        assert_eq!(moment(at_ms, 0), "12 Nov 2025 14:00 UTC");
        assert_eq!(moment(i64::MIN, i64::MIN), "1 Jan 00:00 UTC");
        assert_eq!(moment(i64::MAX, at_ms), "30 Dec 9999 21:59 UTC");
    }

    #[test]
    fn a_sentence_begins_with_a_capital() {
        assert_eq!(capital("flat"), "Flat");
        assert_eq!(capital(""), "");
    }
}
