//! The two times, and the rule which is used for what.
//!
//! `Now { wall, mono }` is read once per request or step and passed down. Lengths of time (ttl, lease,
//! timeout, wait) run on [`Mono`]; calendar moments (`run_at`, cron, samples) are [`Timestamp`]s.
//!
//! Invariants: a `Timestamp` lies within the years 1970 to 9999; a wall time given to services never
//! goes back ([`SteadyWall`]). This module never reads a clock: it defines [`Clock`], `boot` and
//! `testing` implement it.

use std::fmt;
use std::time::Duration;

/// A moment of the calendar in UTC, to the millisecond, from 1970 to the end of 9999 (but for its
/// last day, which in some time zone is no longer in that year).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01T00:00:00.000Z.
    pub const MIN: Timestamp = Timestamp(0);
    /// 9999-12-30T21:59:59.999Z.
    pub const MAX: Timestamp = Timestamp(253_402_207_199_999);

    /// The moment that many milliseconds after 1970 began; `None` outside the years we keep.
    pub const fn from_unix_ms(ms: i64) -> Option<Timestamp> {
        if ms < 0 || (Timestamp::MAX.0).cast_signed() < ms {
            None
        } else {
            Some(Timestamp(ms.cast_unsigned()))
        }
    }

    /// Milliseconds since 1970 began.
    pub const fn unix_ms(self) -> i64 {
        self.0.cast_signed()
    }

    /// Later by `by`, at most [`Timestamp::MAX`]. Parts of a millisecond are dropped.
    #[must_use]
    pub fn plus(self, by: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(whole_ms(by)).min(Timestamp::MAX.0))
    }

    /// Earlier by `by`, at least [`Timestamp::MIN`]. Parts of a millisecond are dropped.
    #[must_use]
    pub fn minus(self, by: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(whole_ms(by)))
    }

    /// How much later this is than `earlier`; zero when it is not.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339 with milliseconds in UTC, as every answer of the API spells a moment.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: it stands in nearly every answer, and the calendar of UTC is a short sum.
        let (days, ms) = (self.0 / DAY_MS, self.0 % DAY_MS);
        let (year, month, day) = civil(days);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let parts = [
            (0, 4, year),
            (5, 2, month),
            (8, 2, day),
            (11, 2, ms / 3_600_000),
            (14, 2, ms / 60_000 % 60),
            (17, 2, ms / 1000 % 60),
            (20, 3, ms % 1000),
        ];
        for (at, digits, mut value) in parts {
            for place in text[at..at + digits].iter_mut().rev() {
                *place = b"0123456789"[(value % 10) as usize];
                value /= 10;
            }
        }
        f.write_str(std::str::from_utf8(&text).expect("BUG: digits are ASCII"))
    }
}

const DAY_MS: u64 = 86_400_000;

/// Year, month and day of so many days after 1970-01-01, in the calendar of today.
///
/// Years begin in March here, so that the day that is sometimes missing is the last one of a year; 400 of
/// them have 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let since_march_0 = days + 719_468;
    let (era, day_of_era) = (since_march_0 / 146_097, since_march_0 % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year_of_era + next_year, month, day)
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn whole_ms(by: Duration) -> u64 {
    u64::try_from(by.as_millis()).unwrap_or(u64::MAX)
}

/// A reading of the clock that only counts up, from a start that means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(u64);

impl Mono {
    /// A reading of `ns` nanoseconds.
    pub const fn from_ns(ns: u64) -> Mono {
        Mono(ns)
    }

    /// The reading in nanoseconds.
    pub const fn ns(self) -> u64 {
        self.0
    }

    /// Later by `by`; what lies beyond the clock's 584 years is its end.
    #[must_use]
    pub fn plus(self, by: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How much later this is than `earlier`; zero when it is not.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Both times, read at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// What the calendar says; never earlier than what was said before.
    pub wall: Timestamp,
    /// What the stop-watch says.
    pub mono: Mono,
}

/// Something that can say what time it is. Only `boot`, `io` and `testing` implement it.
pub trait Clock: Send + Sync {
    /// Both times, now.
    fn now(&self) -> Now;

    /// The stop-watch alone, for those who measure: no more than a reading.
    fn mono(&self) -> Mono;
}

/// A step of the wall clock against the stop-watch that is worth telling somebody.
pub const WALL_STEP_REPORTED: Duration = Duration::from_secs(5);

/// Turns raw readings of a wall clock, which people and NTP move about, into one that never goes
/// back.
///
/// A clock set back by an hour does not freeze here: it goes on at half speed until the raw clock has
/// caught up, so that moments stay distinct and in order.
#[derive(Debug, Default)]
pub struct SteadyWall {
    last: Option<Reading>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    raw: Timestamp,
    given: Timestamp,
    mono: Mono,
}

/// How far the raw wall clock moved beyond what the stop-watch explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WallStep {
    /// Set forward by this much.
    Forward(Duration),
    /// Set back by this much.
    Back(Duration),
}

impl SteadyWall {
    /// The time to give out for a raw reading, and the step to report, if there was one of more than
    /// [`WALL_STEP_REPORTED`].
    pub fn read(&mut self, raw: Timestamp, mono: Mono) -> (Now, Option<WallStep>) {
        let Some(last) = self.last else {
            self.last = Some(Reading { raw, given: raw, mono });
            return (Now { wall: raw, mono }, None);
        };
        let mono = mono.max(last.mono);
        let passed = mono.since(last.mono);
        let given = raw.max(last.given.plus(passed / 2));

        let expected = last.raw.plus(passed);
        let step = if WALL_STEP_REPORTED < raw.since(expected) {
            Some(WallStep::Forward(raw.since(expected)))
        } else if WALL_STEP_REPORTED < expected.since(raw) {
            Some(WallStep::Back(expected.since(raw)))
        } else {
            None
        };
        // Readings closer than a millisecond apart must not shift the anchor: half of their
        // distance would be rounded away each time, and a clock set back would freeze after all.
        if Duration::from_millis(2) <= passed || last.given < given || step.is_some() {
            self.last = Some(Reading { raw, given, mono });
        }
        (Now { wall: given, mono }, step)
    }
}

#[cfg(test)]
mod tests {
    use super::{Mono, Now, SteadyWall, Timestamp, WallStep};
    use std::time::Duration;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(ms).unwrap()
    }

    #[test]
    fn a_timestamp_is_written_in_utc_with_milliseconds() {
        assert_eq!(at(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(1_700_000_000_120).to_string(), "2023-11-14T22:13:20.120Z");
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T21:59:59.999Z");
    }

    #[test]
    fn every_day_is_written_as_the_calendar_library_writes_it() {
        let library = |ms: i64| {
            let at = jiff::Timestamp::from_millisecond(ms).unwrap();
            format!("{at:.3}")
        };
        for day in 0..=Timestamp::MAX.unix_ms() / 86_400_000 {
            // Another time of day each time, and each of them sometimes.
            let ms = day * 86_400_000 + day.wrapping_mul(7_654_321) % 86_400_000;
            let ms = ms.min(Timestamp::MAX.unix_ms());
            assert_eq!(at(ms).to_string(), library(ms), "{ms}");
        }
    }

    #[test]
    fn timestamps_stay_within_their_years() {
        assert_eq!(Timestamp::from_unix_ms(-1), None);
        assert_eq!(Timestamp::from_unix_ms(253_402_207_200_000), None);
        assert_eq!(Timestamp::MAX.plus(Duration::MAX), Timestamp::MAX);
        assert_eq!(at(5).minus(Duration::from_secs(1)), Timestamp::MIN);
        assert_eq!(at(5).since(at(9)), Duration::ZERO);
        assert_eq!(at(9).since(at(5)), Duration::from_millis(4));
    }

    #[test]
    fn mono_saturates() {
        assert_eq!(Mono::from_ns(7).plus(Duration::MAX), Mono::from_ns(u64::MAX));
        assert_eq!(Mono::from_ns(7).since(Mono::from_ns(9)), Duration::ZERO);
    }

    /// Reads raw wall times at given stop-watch seconds and collects what services would see.
    fn seen(readings: &[(i64, u64)]) -> Vec<(i64, Option<WallStep>)> {
        let mut wall = SteadyWall::default();
        readings
            .iter()
            .map(|&(raw_s, mono_s)| {
                let mono = Mono::from_ns(mono_s * 1_000_000_000);
                let (Now { wall: given, .. }, step) = wall.read(at(raw_s * 1000), mono);
                (given.unix_ms() / 1000, step)
            })
            .collect()
    }

    #[test]
    fn a_clock_that_runs_well_is_passed_through() {
        assert_eq!(
            seen(&[(100, 0), (110, 10), (121, 20)]),
            [(100, None), (110, None), (121, None)]
        );
    }

    #[test]
    fn a_clock_set_back_never_goes_back_and_catches_up() {
        let back = Some(WallStep::Back(Duration::from_mins(1)));
        assert_eq!(
            seen(&[(100, 0), (50, 10), (60, 20), (110, 70), (160, 120)]),
            [(100, None), (105, back), (110, None), (135, None), (160, None)]
        );
    }

    #[test]
    fn a_clock_set_back_does_not_freeze_when_it_is_read_often() {
        let mut wall = SteadyWall::default();
        wall.read(at(1_000_000), Mono::from_ns(0));
        let mut last = at(0);
        for step in 0..10_000_u64 {
            let (now, _) = wall.read(at(0), Mono::from_ns(step * 500_000));
            assert!(last <= now.wall, "step {step}");
            last = now.wall;
        }
        // 5 s passed on the stop-watch, so about 2.5 s were given out.
        let given = last.since(at(1_000_000));
        assert!(
            Duration::from_secs(2) < given && given <= Duration::from_millis(2_500),
            "{given:?}"
        );
    }

    #[test]
    fn a_clock_set_forward_is_followed_and_told() {
        let forward = Some(WallStep::Forward(Duration::from_hours(1)));
        assert_eq!(seen(&[(100, 0), (3701, 1)]), [(100, None), (3701, forward)]);
    }
}
