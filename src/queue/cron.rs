//! Cron lines: five fields that say which minutes of the calendar are meant.
//!
//! ```text
//! minute hour day month weekday       */5 8-17 * * mon-fri       0 3 1,15 * *       @daily
//! ```
//!
//! A field is `*`, a number, a range `a-b`, either of the first and last with a step `/n`, or a list of
//! those with commas. Months and weekdays have names, 0 and 7 are Sunday. When both day and weekday are
//! restricted (do not begin with `*`), a date matches when either of them does, as cron has it; otherwise
//! both have to.
//!
//! A line that was read matches again and again: one that never would is refused. This file knows
//! local dates and times alone; `calendar` turns them into moments.

use std::fmt;

use jiff::civil::{Date, DateTime, Time};

use crate::base::limits::CRON_BYTES_MAX;

/// Why a text is not a cron line, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct BadCron {
    /// The byte at which the trouble begins; the length of the text when something is missing.
    pub at: usize,
    /// What is wrong there and what may stand there, for a person.
    pub problem: String,
}

impl BadCron {
    /// The stable code.
    pub const CODE: &'static str = "invalid_cron";
}

/// The minutes that a cron line means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: Box<str>,
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
    /// Day and weekday are both restricted, so that one of them is enough.
    either_day: bool,
}

/// Numbers from 0 to 63.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Set(u64);

impl Set {
    fn with(self, number: u8) -> Set {
        Set(self.0 | 1 << number)
    }

    fn has(self, number: u8) -> bool {
        self.0 >> number & 1 == 1
    }

    /// The smallest that is not below `from`.
    fn first_from(self, from: u8) -> Option<u8> {
        (from..64).find(|&number| self.has(number))
    }

    /// The largest that is not above `until`.
    fn last_until(self, until: u8) -> Option<u8> {
        (0..=until.min(63)).rev().find(|&number| self.has(number))
    }
}

/// What a field may hold.
struct Field {
    name: &'static str,
    min: u8,
    max: u8,
    /// Names of the values from `min` on.
    names: &'static [&'static str],
    /// All of that in words.
    allowed: &'static str,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, names: &[], allowed: "0 to 59" },
    Field { name: "hour", min: 0, max: 23, names: &[], allowed: "0 to 23" },
    Field { name: "day", min: 1, max: 31, names: &[], allowed: "1 to 31" },
    Field { name: "month", min: 1, max: 12, names: &MONTHS, allowed: "1 to 12 or jan to dec" },
    Field {
        name: "weekday",
        min: 0,
        max: 7,
        names: &WEEKDAYS,
        allowed: "0 to 7 (0 and 7 are Sunday) or sun to sat",
    },
];

/// Words that stand for a whole line.
const NAMED: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// How many months one search looks at. The rarest line is a February 29 on one weekday, which can be
/// 40 years away.
const MONTHS_SEARCHED: usize = 41 * 12;

/// A piece of the line, and the byte at which it begins.
#[derive(Clone, Copy)]
struct Piece<'t> {
    at: usize,
    text: &'t str,
}

impl<'t> Piece<'t> {
    fn bad(self, problem: impl Into<String>) -> BadCron {
        BadCron { at: self.at, problem: problem.into() }
    }

    /// What stands before and behind the first `separator`.
    fn split_once(self, separator: char) -> Option<(Piece<'t>, Piece<'t>)> {
        let place = self.text.find(separator)?;
        let (before, behind) = (&self.text[..place], &self.text[place + 1..]);
        Some((Piece { text: before, ..self }, Piece { at: self.at + place + 1, text: behind }))
    }
}

impl Cron {
    /// Reads a line.
    pub fn parse(text: &str) -> Result<Cron, BadCron> {
        if CRON_BYTES_MAX < text.len() {
            let problem = format!("a cron line has at most {CRON_BYTES_MAX} bytes");
            return Err(BadCron { at: CRON_BYTES_MAX, problem });
        }
        let pieces = pieces(text);
        match pieces.first() {
            Some(&name) if name.text.starts_with('@') => Cron::named(text, name, &pieces),
            _ => Cron::of_fields(text, &pieces),
        }
    }

    fn named(text: &str, name: Piece<'_>, pieces: &[Piece<'_>]) -> Result<Cron, BadCron> {
        if let Some(more) = pieces.get(1) {
            return Err(more.bad(format!("nothing follows {:?}: it is a whole line", name.text)));
        }
        let known = NAMED.iter().find(|(word, _)| word.eq_ignore_ascii_case(name.text));
        let Some((_, line)) = known else {
            let words = NAMED.map(|(word, _)| word).join(" ");
            return Err(name.bad(format!("{:?} is not known here; there are {words}", name.text)));
        };
        let cron = Cron::of_fields(line, &self::pieces(line))?;
        Ok(Cron { text: text.trim().into(), ..cron })
    }

    fn of_fields(text: &str, pieces: &[Piece<'_>]) -> Result<Cron, BadCron> {
        const FORM: &str = "a cron line has 5 fields: minute hour day month weekday";
        if let Some(sixth) = pieces.get(FIELDS.len()) {
            return Err(sixth.bad(format!("{FORM}; {:?} is one too many", sixth.text)));
        }
        let mut sets = [Set::default(); FIELDS.len()];
        for (place, field) in FIELDS.iter().enumerate() {
            let Some(&piece) = pieces.get(place) else {
                let problem = format!("the {} is missing: {FORM}", field.name);
                return Err(BadCron { at: text.len(), problem });
            };
            sets[place] = field.read(piece)?;
        }
        let [minutes, hours, days, months, weekdays] = sets;
        // Sunday has two numbers.
        let weekdays = if weekdays.has(7) { weekdays.with(0) } else { weekdays };
        let restricted = |place: usize| !pieces[place].text.starts_with('*');
        let either_day = restricted(2) && restricted(4);
        let text = text.trim().into();
        let cron = Cron { text, minutes, hours, days, months, weekdays, either_day };
        if !cron.ever_matches() {
            return Err(pieces[2].bad(
                "this line never comes due: no month in it has such a day \
                 (February has 28 or 29; April, June, September and November have 30)",
            ));
        }
        Ok(cron)
    }

    fn ever_matches(&self) -> bool {
        let longest = |month: u8| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        // A weekday on its own comes every week. With a day it has to meet, it meets it sometime: in 400
        // years every date, February 29 included, falls on every weekday.
        self.either_day
            || (1..=12).any(|month| {
                let first = self.days.first_from(1);
                self.months.has(month) && first.is_some_and(|day| day <= longest(month))
            })
    }

    /// The first minute that is meant, not before the minute of `from`.
    pub(super) fn first_from_local(&self, from: DateTime) -> Option<DateTime> {
        let (hour, minute) = parts(from.time());
        if self.is_on(from.date())
            && let Some(time) = self.time_from(hour, minute)
        {
            return Some(from.date().to_datetime(time));
        }
        let date = self.date_from(from.date().tomorrow().ok()?)?;
        Some(date.to_datetime(self.time_from(0, 0)?))
    }

    /// The last minute that is meant, not after `until`.
    pub(super) fn last_until_local(&self, until: DateTime) -> Option<DateTime> {
        let (hour, minute) = parts(until.time());
        if self.is_on(until.date())
            && let Some(time) = self.time_until(hour, minute)
        {
            return Some(until.date().to_datetime(time));
        }
        let date = self.date_until(until.date().yesterday().ok()?)?;
        Some(date.to_datetime(self.time_until(23, 59)?))
    }

    fn time_from(&self, hour: u8, minute: u8) -> Option<Time> {
        let later_this_hour =
            if self.hours.has(hour) { self.minutes.first_from(minute) } else { None };
        match later_this_hour {
            Some(minute) => time(hour, minute),
            None => time(self.hours.first_from(hour + 1)?, self.minutes.first_from(0)?),
        }
    }

    fn time_until(&self, hour: u8, minute: u8) -> Option<Time> {
        let earlier_this_hour =
            if self.hours.has(hour) { self.minutes.last_until(minute) } else { None };
        match earlier_this_hour {
            Some(minute) => time(hour, minute),
            None => {
                time(self.hours.last_until(hour.checked_sub(1)?)?, self.minutes.last_until(59)?)
            }
        }
    }

    fn is_on(&self, date: Date) -> bool {
        let weekday = self.weekdays.has(date.weekday().to_sunday_zero_offset().unsigned_abs());
        let day = self.days.has(date.day().unsigned_abs());
        self.months.has(date.month().unsigned_abs())
            && if self.either_day { day || weekday } else { day && weekday }
    }

    fn date_from(&self, from: Date) -> Option<Date> {
        let mut date = from;
        for _ in 0..MONTHS_SEARCHED {
            if self.months.has(date.month().unsigned_abs()) {
                let found = (date.day()..=date.days_in_month())
                    .filter_map(|day| Date::new(date.year(), date.month(), day).ok())
                    .find(|date| self.is_on(*date));
                if found.is_some() {
                    return found;
                }
            }
            date = date.last_of_month().tomorrow().ok()?;
        }
        None
    }

    fn date_until(&self, until: Date) -> Option<Date> {
        let mut date = until;
        for _ in 0..MONTHS_SEARCHED {
            if self.months.has(date.month().unsigned_abs()) {
                let found = (1..=date.day())
                    .rev()
                    .filter_map(|day| Date::new(date.year(), date.month(), day).ok())
                    .find(|date| self.is_on(*date));
                if found.is_some() {
                    return found;
                }
            }
            date = date.first_of_month().yesterday().ok()?;
        }
        None
    }
}

/// The line as it was given.
impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn time(hour: u8, minute: u8) -> Option<Time> {
    Time::new(hour.cast_signed(), minute.cast_signed(), 0, 0).ok()
}

fn parts(time: Time) -> (u8, u8) {
    (time.hour().unsigned_abs(), time.minute().unsigned_abs())
}

/// The words of a line.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut begin = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (begin, c.is_ascii_whitespace()) {
            (Some(from), true) => {
                pieces.push(Piece { at: from, text: &text[from..at] });
                begin = None;
            }
            (None, false) => begin = Some(at),
            _ => {}
        }
    }
    pieces
}

impl Field {
    fn read(&self, piece: Piece<'_>) -> Result<Set, BadCron> {
        let mut set = Set::default();
        let mut rest = piece;
        loop {
            let (part, more) = match rest.split_once(',') {
                Some((part, more)) => (part, Some(more)),
                None => (rest, None),
            };
            set = self.read_part(part, set)?;
            match more {
                Some(more) => rest = more,
                None => return Ok(set),
            }
        }
    }

    /// Adds `*`, `a`, `a-b` and those with a step.
    fn read_part(&self, part: Piece<'_>, mut set: Set) -> Result<Set, BadCron> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range.text == "*" => (self.min, self.last_of_all()),
            Some((first, last)) => self.read_range(range, first, last)?,
            None => {
                let value = self.value(range)?;
                if let Some(step) = step {
                    let (text, max) = (range.text, self.last_of_all());
                    let instead = format!("{text}-{max}/{}", step.text);
                    let why = "a step follows * or a range";
                    return Err(step
                        .bad(format!("{why}; for every so many from {text} on, write {instead}")));
                }
                (value, value)
            }
        };
        let step = match step {
            Some(step) => self.step(step)?,
            None => 1,
        };
        for value in (first..=last).step_by(usize::from(step)) {
            set = set.with(value);
        }
        Ok(set)
    }

    fn read_range(
        &self,
        range: Piece<'_>,
        first: Piece<'_>,
        last: Piece<'_>,
    ) -> Result<(u8, u8), BadCron> {
        let (from, mut to) = (self.value(first)?, self.value(last)?);
        // A week that ends on Sunday: fri-sun.
        if self.max == 7 && to == 0 && 0 < from {
            to = 7;
        }
        if to < from {
            let (name, text) = (self.name, range.text);
            let max = self.last_of_all();
            return Err(range.bad(format!(
                "a range goes upwards: instead of the {name} {text} write {}-{max},{}-{}",
                first.text, self.min, last.text
            )));
        }
        Ok((from, to))
    }

    /// The largest value when each is counted once: Sunday is 0 already.
    fn last_of_all(&self) -> u8 {
        if self.max == 7 { 6 } else { self.max }
    }

    fn step(&self, step: Piece<'_>) -> Result<u8, BadCron> {
        number(step.text).filter(|step| (1..=self.max).contains(step)).ok_or_else(|| {
            let (name, max) = (self.name, self.max);
            step.bad(format!("{:?} is not a step: in the {name} it is 1 to {max}", step.text))
        })
    }

    fn value(&self, word: Piece<'_>) -> Result<u8, BadCron> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(word.text));
        let named = named.and_then(|place| u8::try_from(place).ok()).map(|place| self.min + place);
        let value = named.or_else(|| number(word.text));
        value.filter(|value| (self.min..=self.max).contains(value)).ok_or_else(|| {
            let (name, allowed) = (self.name, self.allowed);
            word.bad(format!(
                "{:?} does not fit here: the {name} is {allowed}, *, a range such as {}-{}, \
                 a step such as */2, or a list of those with commas",
                word.text,
                self.min,
                self.min + 4
            ))
        })
    }
}

/// Digits alone, no sign.
fn number(text: &str) -> Option<u8> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::{BadCron, Cron};
    use crate::base::limits::CRON_BYTES_MAX;
    use crate::base::rng::Rng;
    use crate::testing::seeds;
    use jiff::civil::DateTime;

    fn next(line: &str, from: &str) -> String {
        let cron = Cron::parse(line).unwrap();
        let from: DateTime = from.parse().unwrap();
        cron.first_from_local(from).map_or_else(|| "never".to_owned(), |at| at.to_string())
    }

    #[test]
    fn a_line_means_what_cron_takes_it_for() {
        for (line, from, expected) in [
            ("* * * * *", "2026-11-20T12:00", "2026-11-20T12:00:00"),
            ("*/5 * * * *", "2026-11-20T12:01", "2026-11-20T12:05:00"),
            ("7-59/20 * * * *", "2026-11-20T12:28", "2026-11-20T12:47:00"),
            ("0 3 * * *", "2026-12-31T03:01", "2027-01-01T03:00:00"),
            (" 0\t3  1,15 * *  ", "2026-11-02T00:00", "2026-11-15T03:00:00"),
            ("0 0 31 * *", "2026-04-01T00:00", "2026-05-31T00:00:00"),
            ("0 0 29 2 *", "2097-01-01T00:00", "2104-02-29T00:00:00"),
            ("0 0 29 feb */7", "2076-03-01T00:00", "2088-02-29T00:00:00"),
            ("30 8 * * MON-fri", "2026-11-20T08:31", "2026-11-23T08:30:00"),
            ("0 0 * * 7", "2026-11-20T00:00", "2026-11-22T00:00:00"),
            ("0 0 * * 0", "2026-11-20T00:00", "2026-11-22T00:00:00"),
            ("0 0 * * sat-sun", "2026-11-22T00:00", "2026-11-22T00:00:00"),
            ("0 0 * * sun-tue", "2026-11-18T00:00", "2026-11-22T00:00:00"),
            ("0 0 13 * fri", "2026-11-14T00:00", "2026-11-20T00:00:00"),
            ("0 0 13 * fri", "2026-12-12T00:00", "2026-12-13T00:00:00"),
            ("0 0 */2 * fri", "2026-11-14T00:00", "2026-11-27T00:00:00"),
            ("0 0 31 2 mon", "2026-02-03T00:00", "2026-02-09T00:00:00"),
            ("@Hourly", "2026-11-20T12:01", "2026-11-20T13:00:00"),
            ("@daily", "2026-11-20T12:01", "2026-11-21T00:00:00"),
            ("@midnight", "2026-11-20T12:01", "2026-11-21T00:00:00"),
            ("@weekly", "2026-11-20T12:01", "2026-11-22T00:00:00"),
            ("@monthly", "2026-11-20T12:01", "2026-12-01T00:00:00"),
            ("@yearly", "2026-11-20T12:01", "2027-01-01T00:00:00"),
            ("@annually", "2026-11-20T12:01", "2027-01-01T00:00:00"),
            ("* * * * *", "9999-12-31T23:59", "9999-12-31T23:59:00"),
            ("0 0 1 1 *", "9999-12-31T23:59", "never"),
        ] {
            assert_eq!(next(line, from), expected, "{line} from {from}");
        }
    }

    #[test]
    fn a_line_is_shown_as_it_was_given() {
        assert_eq!(Cron::parse(" */5  * * * MON ").unwrap().to_string(), "*/5  * * * MON");
        assert_eq!(Cron::parse("@Daily").unwrap().to_string(), "@Daily");
    }

    #[test]
    fn a_bad_line_says_where_and_what_may_stand_there() {
        for (line, at, part) in [
            ("", 0, "the minute is missing: a cron line has 5 fields"),
            ("   ", 3, "the minute is missing"),
            ("* * *", 5, "the month is missing"),
            ("0 0 * * * *", 10, "\"*\" is one too many"),
            ("60 * * * *", 0, "\"60\" does not fit here: the minute is 0 to 59"),
            ("5,61 * * * *", 2, "\"61\" does not fit here: the minute is"),
            ("0 24 * * *", 2, "\"24\" does not fit here: the hour is 0 to 23"),
            ("0 0 0 * *", 4, "\"0\" does not fit here: the day is 1 to 31"),
            ("0 0 * 13 *", 6, "1 to 12 or jan to dec"),
            ("0 0 * july *", 6, "\"july\" does not fit here: the month is"),
            ("0 0 * * 8", 8, "0 to 7 (0 and 7 are Sunday)"),
            ("0 0 * * mon-foo", 12, "\"foo\" does not fit here: the weekday is"),
            ("0 0 ? * *", 4, "\"?\" does not fit here: the day is"),
            ("-5 * * * *", 0, "\"\" does not fit here: the minute is"),
            ("+5 * * * *", 0, "\"+5\" does not fit here: the minute is"),
            ("1,,2 * * * *", 2, "\"\" does not fit here: the minute is"),
            ("0 22-2 * * *", 2, "a range goes upwards: instead of the hour 22-2 write 22-23,0-2"),
            ("*/0 * * * *", 2, "\"0\" is not a step: in the minute it is 1 to 59"),
            ("*/90 * * * *", 2, "\"90\" is not a step"),
            ("*/ * * * *", 2, "\"\" is not a step"),
            ("5/15 * * * *", 2, "write 5-59/15"),
            ("*/5/5 * * * *", 2, "\"5/5\" is not a step"),
            ("*-5 * * * *", 0, "\"*\" does not fit here: the minute is"),
            ("0 0 31 2 *", 4, "never comes due"),
            ("0 0 31 2,4,6,9,11 *", 4, "never comes due"),
            ("0 0 30-31 feb */2", 4, "never comes due"),
            ("@reboot", 0, "there are @hourly @daily"),
            ("@daily 5", 7, "nothing follows \"@daily\""),
            ("0 0 * * \u{663}", 8, "the weekday is"),
            ("\u{a0}0 0 * * *", 0, "the minute is"),
        ] {
            let BadCron { at: found, problem } = Cron::parse(line).unwrap_err();
            assert_eq!(found, at, "{line:?}: {problem}");
            assert!(problem.contains(part), "{line:?}: {problem}");
        }
    }

    #[test]
    fn a_long_line_is_refused_by_its_length() {
        let line = format!("{}0 * * * *", "0,".repeat(123));
        assert_eq!(line.len(), CRON_BYTES_MAX - 1);
        assert!(Cron::parse(&line).is_ok());
        let line = format!("{}0 * * * *", "0,".repeat(124));
        assert_eq!(Cron::parse(&line).unwrap_err().at, CRON_BYTES_MAX);
    }

    #[test]
    fn any_text_is_read_or_refused_with_a_place_in_it() {
        const ALPHABET: &[char] =
            &['0', '1', '1', '2', '2', '5', '9', '*', '*', '/', '-', ',', '@', 'm', '\t', '\u{fc}'];
        let mut read = 0;
        for seed in seeds(20_000) {
            let mut rng = Rng::from_seed(seed);
            let mut text = String::new();
            for _ in 0..4 + rng.below(3) {
                text.extend((0..=rng.below(3)).map(|_| ALPHABET[rng.index(ALPHABET.len())]));
                text.push(' ');
            }
            match Cron::parse(&text) {
                Ok(cron) => {
                    read += 1;
                    let from = "2026-01-01T00:00".parse().unwrap();
                    assert!(
                        cron.first_from_local(from).is_some(),
                        "seed={seed} {text:?} never matches"
                    );
                }
                Err(bad) => {
                    assert!(text.is_char_boundary(bad.at), "seed={seed} {text:?} {bad:?}");
                }
            }
        }
        assert!(seeds(2).len() < 2 || 10 < read, "{read} lines were read");
    }
}
