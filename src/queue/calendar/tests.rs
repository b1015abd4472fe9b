//! The calendar against one that goes through it minute by minute, and the days on which clocks change.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::civil::DateTime;

use super::{BadEvery, Due, Every, Plan, Zone, jitter};
use crate::base::human::parse_moment;
use crate::base::id::TenantId;
use crate::base::limits::{DURATION_MAX, SCHEDULE_CATCH_UP_MAX};
use crate::base::rng::Rng;
use crate::base::time::Timestamp;
use crate::queue::cron::Cron;
use crate::testing::seeds;

const ZONES: [&str; 12] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "Africa/Casablanca",
    "America/Caracas",
    "Europe/Dublin",
    "Antarctica/Troll",
    "UTC",
];

fn moment(text: &str) -> Timestamp {
    parse_moment(text, Timestamp::MIN).unwrap()
}

fn at_ms(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(ms).unwrap()
}

fn plan(line: &str, zone: &str) -> Plan {
    Plan::Cron(Cron::parse(line).unwrap(), Zone::parse(zone).unwrap())
}

/// The firings after a moment, as many as asked for.
fn firings(line: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let (plan, mut at, mut all) = (plan(line, zone), moment(after), Vec::new());
    for _ in 0..count {
        at = plan.next_after(at).unwrap();
        all.push(at.to_string().replace(":00.000Z", "Z"));
    }
    all
}

#[test]
fn a_local_time_that_is_skipped_fires_at_the_first_moment_after_the_gap() {
    // Berlin goes from 02:00 to 03:00 at 01:00 UTC.
    assert_eq!(
        firings("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3),
        ["2026-03-28T01:30Z", "2026-03-29T01:00Z", "2026-03-30T00:30Z"]
    );
    assert_eq!(
        firings("*/20 1-3 * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", 4),
        ["2026-03-29T00:40Z", "2026-03-29T01:00Z", "2026-03-29T01:20Z", "2026-03-29T01:40Z"]
    );
    // Lord Howe moves by half an hour: 02:00 to 02:30.
    assert_eq!(
        firings("10 2 * * *", "australia/lord_howe", "2026-10-02T20:00:00Z", 2),
        ["2026-10-03T15:30Z", "2026-10-04T15:10Z"]
    );
    // In Sao Paulo midnight was skipped.
    assert_eq!(
        firings("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", 2),
        ["2018-11-04T03:00Z", "2018-11-05T02:00Z"]
    );
    // Samoa had no December 30, 2011.
    assert_eq!(
        firings("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", 3),
        ["2011-12-29T22:00Z", "2011-12-30T10:00Z", "2011-12-30T22:00Z"]
    );
}

#[test]
fn a_local_time_that_comes_twice_fires_once() {
    // Berlin goes from 03:00 back to 02:00 at 01:00 UTC.
    assert_eq!(
        firings("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]
    );
    assert_eq!(
        firings("30 * * * *", "Europe/Berlin", "2026-10-24T23:00:00Z", 3),
        ["2026-10-24T23:30Z", "2026-10-25T00:30Z", "2026-10-25T02:30Z"]
    );
    // It is 02:10 for the second time, and what fired last was 02:50, the first time.
    let newest = plan("*/10 * * * *", "Europe/Berlin").last_until(moment("2026-10-25T01:10:00Z"));
    assert_eq!(newest, Some(moment("2026-10-25T00:50:00Z")));
}

#[test]
fn the_calendar_ends_with_its_last_year() {
    let yearly = plan("@yearly", "UTC");
    assert_eq!(yearly.next_after(moment("9999-01-01T00:00:00Z")), None);
    assert_eq!(plan("* * * * *", "Pacific/Apia").next_after(Timestamp::MAX), None);
    assert_eq!(yearly.last_until(Timestamp::MIN), Some(Timestamp::MIN));
    assert_eq!(plan("@yearly", "America/New_York").last_until(Timestamp::MIN), None);
    let every = Plan::Every(Every::new(Duration::from_hours(24 * 36_500)).unwrap());
    assert_eq!(every.next_after(Timestamp::MAX), None);
    for zone in ZONES {
        assert!(plan("* * * * *", zone).last_until(Timestamp::MAX).is_some(), "{zone}");
        assert!(plan("* * * * *", zone).next_after(Timestamp::MIN).is_some(), "{zone}");
    }
}

#[test]
fn a_zone_is_found_by_its_name_and_an_unknown_one_is_helped_on() {
    assert_eq!(Zone::parse("europe/berlin").unwrap().name(), "Europe/Berlin");
    assert_eq!(Zone::parse("utc").unwrap(), Zone::UTC);
    assert_eq!(Zone::UTC.name(), "UTC");
    for (name, part) in [
        ("Berlin", "perhaps Europe/Berlin is meant"),
        ("America/New York", "perhaps America/New_York is meant"),
        ("Europe/kolkata", "perhaps Asia/Kolkata is meant"),
        ("+02:00", "named after a place, such as Europe/Berlin, or UTC"),
        ("Etc/Unknown", "there is no time zone"),
        ("", "there is no time zone \"\""),
        ("../../etc/passwd", "there is no time zone"),
    ] {
        let bad = Zone::parse(name).unwrap_err();
        assert!(bad.to_string().contains(part), "{name}: {bad}");
    }
    let long = Zone::parse(&"\u{fc}".repeat(10_000)).unwrap_err();
    assert!(long.to_string().len() < 400, "{long}");
}

#[test]
fn every_so_long_means_multiples_since_1970() {
    let every = |length| Plan::Every(Every::new(length).unwrap());
    let five = every(Duration::from_mins(5));
    assert_eq!(five.next_after(at_ms(0)), Some(at_ms(300_000)));
    assert_eq!(five.next_after(at_ms(299_999)), Some(at_ms(300_000)));
    assert_eq!(five.next_after(at_ms(300_000)), Some(at_ms(600_000)));
    assert_eq!(five.last_until(at_ms(300_000)), Some(at_ms(300_000)));
    assert_eq!(five.last_until(at_ms(299_999)), Some(at_ms(0)));
    for bad in [
        Duration::ZERO,
        Duration::from_millis(999),
        Duration::from_micros(1_000_500),
        DURATION_MAX + Duration::from_millis(1),
        Duration::MAX,
    ] {
        assert_eq!(Every::new(bad), Err(BadEvery), "{bad:?}");
    }
    assert!(BadEvery.to_string().contains("at least 1s and at most 36500d"), "{BadEvery}");
}

#[test]
fn what_was_missed_is_told_as_far_as_it_is_wanted() {
    let every = Plan::Every(Every::new(Duration::from_secs(1)).unwrap());
    let year_ms = 365 * 86_400_000;
    let (last, now) = (at_ms(500), at_ms(year_ms));
    let due = every.due_between(last, now, 3);
    assert_eq!(
        due,
        Due {
            first: Some(at_ms(1000)),
            last: Some(now),
            moments: vec![at_ms(year_ms - 2000), at_ms(year_ms - 1000), now],
        }
    );
    assert_eq!(every.due_between(last, now, usize::MAX).moments.len(), SCHEDULE_CATCH_UP_MAX);
    let none = every.due_between(last, now, 0);
    assert_eq!((none.last, none.moments.len()), (Some(now), 0));
    assert_eq!(every.due_between(now, now, 5), Due::default(), "the last one was had");
    assert_eq!(every.due_between(now, last, 5), Due::default(), "time went back");
    let rare = plan("0 0 29 2 */7", "Europe/Berlin");
    let due = rare.due_between(Timestamp::MIN, Timestamp::MAX, 100);
    assert_eq!(due.moments.len(), 100);
}

#[test]
fn jitter_is_the_same_after_a_restart_and_spreads() {
    let max = Duration::from_mins(10);
    let of = |tenant, name, ms| jitter(TenantId::from_raw(tenant), name, at_ms(ms), max);
    // Fixed for ever: a moment that is pending during an upgrade must not move.
    assert_eq!(of(1, "nightly", 1_700_000_000_000), Duration::from_millis(GOLDEN_JITTER_MS));
    assert_ne!(of(1, "nightly", 0), of(1, "nightly", 1000));
    assert_ne!(of(1, "nightly", 0), of(2, "nightly", 0));
    assert_ne!(of(1, "nightly", 0), of(1, "nightlx", 0));
    let mut tenths = [0; 10];
    for moment in 0..10_000 {
        let by = of(7, "report", moment * 60_000);
        assert!(by <= max, "{by:?}");
        tenths[usize::try_from(by.as_millis() / 60_001).unwrap()] += 1;
    }
    assert!(tenths.iter().all(|&n| (850..1150).contains(&n)), "{tenths:?}");
    let short = |max| jitter(TenantId::from_raw(1), "a", at_ms(5), max);
    assert_eq!(short(Duration::ZERO), Duration::ZERO);
    assert_eq!(short(Duration::from_micros(900)), Duration::ZERO);
    assert!(short(Duration::MAX) < Duration::MAX);
}

const GOLDEN_JITTER_MS: u64 = 512_057;

const HOUR_MS: i64 = 3_600_000;

/// A cron line as text, and as lists by which it is judged without reading the text.
struct Line {
    text: String,
    fields: [Vec<i8>; 5],
    stars: [bool; 5],
}

impl Line {
    fn drawn(rng: &mut Rng) -> Line {
        const BOUNDS: [(i8, i8); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
        let mut line =
            Line { text: String::new(), fields: Default::default(), stars: Default::default() };
        for (place, (min, max)) in BOUNDS.into_iter().enumerate() {
            // Dates are mostly free, so that much happens in a few days.
            let free = rng.one_in(if 2 <= place { 2 } else { 5 });
            let (text, values) = field(rng, min, max, free);
            line.stars[place] = text.starts_with('*');
            write!(line.text, "{}{text}", if place == 0 { "" } else { " " }).unwrap();
            line.fields[place] = values;
        }
        line
    }

    fn means(&self, at: DateTime) -> bool {
        let has = |place: usize, value: i8| self.fields[place].contains(&value);
        let day = has(2, at.day());
        let weekday = has(4, at.weekday().to_sunday_zero_offset());
        let date = if self.stars[2] || self.stars[4] { day && weekday } else { day || weekday };
        has(0, at.minute()) && has(1, at.hour()) && has(3, at.month()) && date
    }
}

fn field(rng: &mut Rng, min: i8, max: i8, free: bool) -> (String, Vec<i8>) {
    let mut below = |end: i8| i8::try_from(rng.below(u64::from(end.unsigned_abs()))).unwrap();
    if free {
        return ("*".to_owned(), (min..=max).collect());
    }
    match below(4) {
        0 => {
            let step = 1 + below(max);
            let values = (min..=max).step_by(usize::from(step.unsigned_abs())).collect();
            (format!("*/{step}"), values)
        }
        1 => {
            let first = min + below(max - min + 1);
            let last = first + below(max - first + 1);
            let step = 1 + below(3);
            let values = (first..=last).step_by(usize::from(step.unsigned_abs())).collect();
            (format!("{first}-{last}/{step}"), values)
        }
        _ => {
            let values: Vec<i8> = (0..=below(5)).map(|_| min + below(max - min + 1)).collect();
            let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
            (texts.join(","), values)
        }
    }
}

/// Where to look: somewhere between 1973 and 2100, mostly where clocks are about to change.
fn somewhere(rng: &mut Rng, zone: &Zone) -> i64 {
    const YEAR_MS: u64 = 365 * 86_400_000;
    let anywhere = i64::try_from(3 * YEAR_MS + rng.below(127 * YEAR_MS)).unwrap();
    let from = jiff::Timestamp::from_millisecond(anywhere).unwrap();
    let ms = match zone.0.following(from).next() {
        Some(change) if !rng.one_in(8) => change.timestamp().as_millisecond() - 36 * HOUR_MS,
        _ => anywhere,
    };
    ms / 60_000 * 60_000
}

/// The firings from `start` to `end`, found by walking through the minutes: a local time fires when the
/// clock on the wall reaches or passes it for the first time.
fn walked(line: &Line, zone: &Zone, start: i64, end: i64) -> Vec<Timestamp> {
    let clock = |ms: i64| zone.0.to_datetime(jiff::Timestamp::from_millisecond(ms).unwrap());
    let mut reached = clock(start - 2 * 86_400_000);
    let mut all = Vec::new();
    for ms in (start - 2 * 86_400_000 + 60_000..=end).step_by(60_000) {
        let mut fires = false;
        while reached < clock(ms) {
            reached = reached.checked_add(Duration::from_mins(1)).unwrap();
            fires |= line.means(reached);
        }
        if fires && start < ms {
            all.push(at_ms(ms));
        }
    }
    all
}

#[test]
fn the_search_finds_what_a_walk_through_every_minute_finds() {
    let mut found = 0;
    for seed in seeds(200) {
        let mut rng = Rng::from_seed(seed);
        let line = Line::drawn(&mut rng);
        let name = ZONES[rng.index(ZONES.len())];
        let zone = Zone::parse(name).unwrap();
        let start = somewhere(&mut rng, &zone);
        let end = start + 4 * 86_400_000;
        let Ok(cron) = Cron::parse(&line.text) else {
            let never = line.stars[4] && line.fields[2].iter().all(|&day| 29 < day);
            assert!(never, "seed={seed} {} is refused", line.text);
            continue;
        };
        let plan = Plan::Cron(cron, zone.clone());
        let all = walked(&line, &zone, start, end);
        found += all.len();
        let what = format!("seed={seed} {:?} in {name} from {}", line.text, at_ms(start));

        let mut at = at_ms(start);
        for &expected in &all {
            at = plan.next_after(at).unwrap();
            assert_eq!(at, expected, "{what}");
        }
        assert!(plan.next_after(at).is_none_or(|next| end < next.unix_ms()), "{what}: one more");
        for _ in 0..50 {
            check_around(&mut rng, &plan, &all, (start, end), &what);
        }
    }
    assert!(seeds(2).len() < 2 || 5_000 < found, "only {found} firings were compared");
}

/// Both searches from a moment of the stretch, and what was due in a part of it.
fn check_around(rng: &mut Rng, plan: &Plan, all: &[Timestamp], bounds: (i64, i64), what: &str) {
    let (start, end) = bounds;
    let mut draw = || {
        // Often around the change of the clocks, if there is one.
        let (from, length) =
            if rng.one_in(2) { (start + 34 * HOUR_MS, 5 * HOUR_MS) } else { (start, end - start) };
        let ms = from + i64::try_from(rng.below(length.unsigned_abs())).unwrap();
        // Often exactly a minute, where a firing may be.
        at_ms(if ms % 2 == 0 { ms / 60_000 * 60_000 } else { ms }.max(start))
    };
    let (a, b) = (draw(), draw());
    let (last, now) = (a.min(b), a.max(b));
    let due: Vec<Timestamp> =
        all.iter().copied().filter(|moment| last < *moment && *moment <= now).collect();

    if let Some(next) = all.iter().copied().find(|moment| now < *moment) {
        assert_eq!(plan.next_after(now), Some(next), "{what} after {now}");
    }
    if let Some(newest) = all.iter().copied().rfind(|moment| *moment <= now) {
        assert_eq!(plan.last_until(now), Some(newest), "{what} until {now}");
    }
    let told = plan.due_between(last, now, 10);
    let expected = Due {
        first: due.first().copied(),
        last: due.last().copied(),
        moments: due[due.len().saturating_sub(10)..].to_vec(),
    };
    assert_eq!(told, expected, "{what} between {last} and {now}");
}
