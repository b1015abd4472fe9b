//! When a schedule comes due: cron lines in a time zone, and multiples of a length of time.
//!
//! A cron line means local times. Each of them has one moment: the only one; the first of two when clocks
//! are set back and the time comes twice; the first moment after the gap when clocks are set forward and
//! the time does not come at all. Several local times in one gap share that moment and are one firing. In
//! other words: a local time fires when it is reached or passed for the first time.
//!
//! The time zones are compiled in. Nothing here reads a clock or a file, and every search has a bound.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};

use crate::base::human::format_duration;
use crate::base::id::TenantId;
use crate::base::limits::{DURATION_MAX, SCHEDULE_CATCH_UP_MAX, SCHEDULE_EVERY_MIN};
use crate::base::rng::Rng;
use crate::base::time::Timestamp;
use crate::queue::cron::Cron;

/// How many minutes can come twice in a row: offsets lie within 26 hours of UTC.
const REPEATED_MINUTES_MAX: usize = 2 * 26 * 60;

/// What of a bad name is told.
const BAD_ZONE_BYTES_MAX: usize = 64;

/// Why a text is not a time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no time zone {name:?}; time zones are named after a place, such as Europe/Berlin, or UTC{}",
    near(.meant)
)]
pub struct BadZone {
    /// What was given, shortened.
    pub name: String,
    /// Zones that may have been meant.
    pub meant: Vec<String>,
}

impl BadZone {
    /// The stable code.
    pub const CODE: &'static str = "invalid_timezone";
}

fn near(meant: &[String]) -> String {
    match meant {
        [] => String::new(),
        meant => format!("; perhaps {} is meant", meant.join(" or ")),
    }
}

/// A time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone whose clocks are never changed.
    pub const UTC: Zone = Zone(TimeZone::UTC);

    /// The zone with this name of the IANA list, in any case.
    pub fn parse(name: &str) -> Result<Zone, BadZone> {
        match TimeZoneDatabase::bundled().get(name) {
            // `Etc/Unknown` is a zone without a name.
            Ok(zone) if zone.iana_name().is_some() => Ok(Zone(zone)),
            _ => Err(BadZone { name: shortened(name), meant: meant(name) }),
        }
    }

    /// Its name as the list spells it.
    pub fn name(&self) -> &str {
        self.0.iana_name().expect("BUG: a zone has a name, it was found by it")
    }

    fn local(&self, at: Timestamp) -> DateTime {
        let at = jiff::Timestamp::from_millisecond(at.unix_ms());
        self.0.to_datetime(at.expect("BUG: our years lie within those of the library"))
    }

    /// The moment of a local time, in milliseconds since 1970; `None` at the end of the calendar.
    fn moment_ms(&self, local: DateTime) -> Option<i64> {
        let ambiguous = self.0.to_ambiguous_timestamp(local);
        let at = match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok()?,
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok()?,
            AmbiguousOffset::Gap { before, after } => self.end_of_gap(local, before, after)?,
        };
        Some(at.as_millisecond())
    }

    /// The moment at which clocks jumped over `local`.
    ///
    /// Read with the new offset the time lies before the jump, read with the old one it does not: the
    /// jump is found between the two by halving, to the second.
    fn end_of_gap(
        &self,
        local: DateTime,
        before: Offset,
        after: Offset,
    ) -> Option<jiff::Timestamp> {
        let mut still_before = after.to_timestamp(local).ok()?.as_second();
        let mut jumped = before.to_timestamp(local).ok()?.as_second();
        while still_before + 1 < jumped {
            let middle = still_before + (jumped - still_before) / 2;
            if self.0.to_offset(jiff::Timestamp::from_second(middle).ok()?) == before {
                still_before = middle;
            } else {
                jumped = middle;
            }
        }
        jiff::Timestamp::from_second(jumped).ok()
    }
}

/// The beginning of a text, for a message.
fn shortened(name: &str) -> String {
    let end = name.floor_char_boundary(BAD_ZONE_BYTES_MAX);
    name[..end].to_owned()
}

/// Zones that have the place in their name: nearly everybody who errs leaves out the continent.
fn meant(name: &str) -> Vec<String> {
    let place = name.rsplit('/').next().unwrap_or("").replace(' ', "_");
    if place.is_empty() {
        return Vec::new();
    }
    let database = TimeZoneDatabase::bundled();
    let names = database.available().map(|name| name.as_str().to_owned());
    let is_there = |name: &String| name.rsplit('/').any(|part| part.eq_ignore_ascii_case(&place));
    names.filter(|name| name.contains('/')).filter(is_there).take(3).collect()
}

impl Cron {
    /// The first moment after `after` that the line means in `zone`.
    pub fn next_after(&self, after: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let mut local = zone.local(after);
        // When clocks were set back, the local times that come again had their moment already.
        for _ in 0..REPEATED_MINUTES_MAX {
            local = self.first_from_local(local)?;
            let moment = zone.moment_ms(local)?;
            if after.unix_ms() < moment {
                return Timestamp::from_unix_ms(moment);
            }
            local = local.checked_add(MINUTE).ok()?;
        }
        None
    }

    /// The last moment up to `until`, itself included, that the line means in `zone`.
    pub fn last_until(&self, until: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let local = zone.local(until);
        // When clocks were set back, also the times that come for the second time from now on are over.
        let again_ms = until.unix_ms() - zone.moment_ms(local)?;
        let again = Duration::from_millis(u64::try_from(again_ms).unwrap_or(0));
        let mut local = local.checked_add(again).ok()?;
        for _ in 0..REPEATED_MINUTES_MAX {
            local = self.last_until_local(local)?;
            let moment = zone.moment_ms(local)?;
            if moment <= until.unix_ms() {
                return Timestamp::from_unix_ms(moment);
            }
            local = local.checked_sub(MINUTE).ok()?;
        }
        None
    }
}

const MINUTE: Duration = Duration::from_mins(1);

/// Why a length of time is none that a schedule can keep to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"every\" is a whole number of milliseconds, at least {} and at most {}",
    format_duration(SCHEDULE_EVERY_MIN),
    format_duration(DURATION_MAX)
)]
pub struct BadEvery;

impl BadEvery {
    /// The stable code.
    pub const CODE: &'static str = "invalid_every";
}

/// Every so long: the multiples of a length of time since 1970 in UTC, so that a restart moves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every {
    ms: u64,
}

impl Every {
    /// Every `length`.
    pub fn new(length: Duration) -> Result<Every, BadEvery> {
        let ms = u64::try_from(length.as_millis()).map_err(|_| BadEvery)?;
        let whole = Duration::from_millis(ms) == length;
        if whole && (SCHEDULE_EVERY_MIN..=DURATION_MAX).contains(&length) {
            Ok(Every { ms })
        } else {
            Err(BadEvery)
        }
    }

    /// How long.
    pub const fn length(self) -> Duration {
        Duration::from_millis(self.ms)
    }

    fn next_after(self, after: Timestamp) -> Option<Timestamp> {
        let times = after.unix_ms().unsigned_abs() / self.ms + 1;
        Timestamp::from_unix_ms(i64::try_from(times.checked_mul(self.ms)?).ok()?)
    }

    fn last_until(self, until: Timestamp) -> Timestamp {
        let past = until.unix_ms().unsigned_abs() % self.ms;
        until.minus(Duration::from_millis(past))
    }
}

/// When a schedule comes due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// At the local times of a cron line.
    Cron(Cron, Zone),
    /// Every so long.
    Every(Every),
}

/// What came due in a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The first of all of them.
    pub first: Option<Timestamp>,
    /// The last one.
    pub last: Option<Timestamp>,
    /// The newest ones, the oldest of them first.
    pub moments: Vec<Timestamp>,
}

impl Plan {
    /// The first moment after `after`.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Plan::Cron(cron, zone) => cron.next_after(after, zone),
            Plan::Every(every) => every.next_after(after),
        }
    }

    /// The last moment up to `until`, itself included.
    pub fn last_until(&self, until: Timestamp) -> Option<Timestamp> {
        match self {
            Plan::Cron(cron, zone) => cron.last_until(until, zone),
            Plan::Every(every) => Some(every.last_until(until)),
        }
    }

    /// What came due after `last` and up to `now`, itself included: the newest `max` moments of it, at
    /// most [`SCHEDULE_CATCH_UP_MAX`]. However long that was, the work is that of so many moments.
    pub fn due_between(&self, last: Timestamp, now: Timestamp, max: usize) -> Due {
        let max = max.min(SCHEDULE_CATCH_UP_MAX);
        let mut newest_first = Vec::new();
        let mut until = Some(now);
        // The last one is told also when none is wanted.
        while newest_first.len() < max.max(1)
            && let Some(moment) = until.and_then(|until| self.last_until(until))
            && last < moment
        {
            newest_first.push(moment);
            until = Timestamp::from_unix_ms(moment.unix_ms() - 1);
        }
        if newest_first.is_empty() {
            return Due::default();
        }
        let newest = newest_first.first().copied();
        newest_first.truncate(max);
        newest_first.reverse();
        Due { first: self.next_after(last), last: newest, moments: newest_first }
    }
}

/// By how much a schedule's moment is put off: a part of `max`, to the millisecond, `max` included.
///
/// It looks drawn by chance, and is the same each time it is asked: a restart between the moment and the
/// push neither doubles nor loses one. The computation is fixed for ever by a test.
pub fn jitter(tenant: TenantId, name: &str, moment: Timestamp, max: Duration) -> Duration {
    let max_ms = u64::try_from(max.as_millis()).unwrap_or(u64::MAX - 1).min(u64::MAX - 1);
    let mut hash = tenant.raw();
    for byte in name.bytes().map(u64::from).chain([moment.unix_ms().unsigned_abs()]) {
        hash = Rng::from_seed(hash ^ byte).next_u64();
    }
    Duration::from_millis(Rng::from_seed(hash).below(max_ms + 1))
}

#[cfg(test)]
mod tests;
