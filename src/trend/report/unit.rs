//! Values and slopes with their units, as sentences have them.

use super::Unit;
use crate::trend::Interval;
use crate::trend::words::{FINE, ROUGH, number};

const DAY: f64 = 86_400.0;
const HOUR: f64 = 3_600.0;
const MINUTE: f64 = 60.0;

/// What rises over less than this is told by the minute.
const MINUTES_TO: f64 = 90.0 * MINUTE;
/// What rises over less than this is told by the hour, beyond it by the day.
const HOURS_TO: f64 = 2.0 * DAY;
/// Less than this in a time is told by a longer one.
const LEAST: f64 = 1.0;

const BYTES: [(f64, &str); 6] =
    [(1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes")];
const BYTES_A_SECOND: [(f64, &str); 6] = [
    (1e15, "PB a second"),
    (1e12, "TB a second"),
    (1e9, "GB a second"),
    (1e6, "MB a second"),
    (1e3, "kB a second"),
    (1.0, "bytes a second"),
];
const SECONDS: [(f64, &str); 5] =
    [(DAY, "days"), (HOUR, "h"), (MINUTE, "min"), (1.0, "s"), (0.001, "ms")];

impl Unit {
    /// What a metric has, by the end of its name, as is the custom. Counters are looked at as rates, in a second.
    pub fn of_metric(metric: &str) -> Unit {
        if let Some(counter) = metric.strip_suffix("_total") {
            return match counter {
                bytes if bytes.ends_with("_bytes") => Unit::BytesPerSecond,
                // Seconds in a second: a part of the time.
                seconds if seconds.ends_with("_seconds") => Unit::Plain,
                _ => Unit::Of("a second"),
            };
        }
        let suffix = metric.rsplit_once('_').map_or("", |(_, suffix)| suffix);
        match suffix {
            "bytes" => Unit::Bytes,
            "percent" => Unit::Percent,
            "seconds" => Unit::Seconds,
            "milliseconds" | "ms" => Unit::Of("ms"),
            "celsius" => Unit::Of("degrees"),
            _ => Unit::Plain,
        }
    }

    /// What a value is divided by, and the name of what it then counts.
    fn scale(self, value: f64) -> (f64, &'static str) {
        let size = value.abs();
        let largest = |scales: &[(f64, &'static str)]| {
            let fits = scales.iter().find(|&&(scale, _)| scale <= size);
            fits.or(scales.last()).copied().unwrap_or((1.0, ""))
        };
        match self {
            Unit::Of(name) => (1.0, name),
            Unit::Bytes => largest(&BYTES),
            Unit::BytesPerSecond => largest(&BYTES_A_SECOND),
            Unit::Percent => (1.0, "%"),
            Unit::Seconds if size == 0.0 => (1.0, "s"),
            Unit::Seconds => largest(&SECONDS),
            Unit::Plain => (1.0, ""),
        }
    }

    /// `3 jobs`, `1.25 GB`, `53.3 %`.
    pub(super) fn value(self, value: f64) -> String {
        let (scale, name) = self.scale(value);
        named(&number(value / scale, FINE), name)
    }

    /// A value without its unit, if `beside` stands beside it and has the same.
    pub(super) fn bare(self, value: f64, beside: f64) -> String {
        let ((scale, name), (_, other)) = (self.scale(value), self.scale(beside));
        if name == other { number(value / scale, FINE) } else { self.value(value) }
    }

    /// `2 to 8 jobs`, or with another word between them: the first has no unit of its own if the second has the same.
    pub(super) fn span(self, low: f64, word: &str, high: f64) -> String {
        let ((low_scale, low_name), (scale, name)) = (self.scale(low), self.scale(high));
        let above = named(&number(high / scale, FINE), name);
        let same = low == 0.0 || low_name == name;
        let below = number(low / low_scale, FINE);
        if same {
            return format!("{below} {word} {above}");
        }
        format!("{} {word} {above}", named(&below, low_name))
    }

    /// `0 jobs, at times up to 1`: the second has no unit of its own if the first has the same.
    pub(super) fn pair(self, first: f64, word: &str, second: f64) -> String {
        format!("{}{word} {}", self.value(first), self.bare(second, first))
    }

    /// `about 5 jobs, between 2 and 8`.
    pub(super) fn around(self, middle: f64, low: f64, high: f64) -> String {
        let about = self.value(middle);
        let name = |value: f64| self.scale(value).1;
        if name(middle) == name(high) && (low == 0.0 || name(low) == name(high)) {
            let scaled = |value: f64| number(value / self.scale(value).0, FINE);
            return format!("about {about}, between {} and {}", scaled(low), scaled(high));
        }
        format!("about {about}, between {}", self.span(low, "and", high))
    }

    /// `1.2 GB a day (1.1 to 1.3)`: how much it moves, either way, in the time that suits what was looked at.
    pub(super) fn slope(self, per_second: f64, interval: Interval, seconds: f64) -> String {
        let (time, word) = self.time(per_second, seconds);
        let moves = rounded(finite(per_second.abs() * time));
        let (scale, name) = self.scale(moves);
        let told = |slope: f64| number(rounded(finite(slope * time)) / scale, ROUGH);
        let value = number(moves / scale, ROUGH);
        let (low, high) = if per_second < 0.0 {
            (told(-interval.high), told(-interval.low))
        } else {
            (told(interval.low), told(interval.high))
        };
        let about = named(&value, name);
        // Three jobs a minute more are "3 jobs a minute every hour".
        let word = if name.contains(" a ") || name.starts_with("a ") {
            format!("every {word}")
        } else if word == "hour" {
            "an hour".to_owned()
        } else {
            format!("a {word}")
        };
        if low == value && high == value {
            return format!("{about} {word}");
        }
        format!("{about} {word} ({low} to {high})")
    }

    /// The time in which a slope is told.
    fn time(self, per_second: f64, seconds: f64) -> (f64, &'static str) {
        let times = [(MINUTE, "minute"), (HOUR, "hour"), (DAY, "day")];
        let least = match seconds {
            short if short < MINUTES_TO => 0,
            middling if middling < HOURS_TO => 1,
            _ => 2,
        };
        let tells = |&&(time, _): &&(f64, &str)| {
            let moves = per_second.abs() * time;
            match self {
                Unit::Bytes | Unit::BytesPerSecond => 1.0 <= moves,
                Unit::Seconds => 0.001 <= moves,
                Unit::Of(_) | Unit::Percent | Unit::Plain => LEAST <= moves,
            }
        };
        times[least..].iter().find(tells).copied().unwrap_or((DAY, "day"))
    }
}

/// The nearest number that is one.
fn finite(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(f64::MIN, f64::MAX) }
}

/// To two significant digits: an estimate has no more.
fn rounded(value: f64) -> f64 {
    finite(format!("{value:.1e}").parse().unwrap_or(value))
}

/// A number with what it counts: one of what has an s at the end of its first word has none.
fn named(text: &str, name: &str) -> String {
    if name.is_empty() {
        return text.to_owned();
    }
    let (first, rest) = name.split_at(name.find(' ').unwrap_or(name.len()));
    match first.strip_suffix('s') {
        Some(one) if text == "1" && 2 < one.len() => format!("{text} {one}{rest}"),
        Some(_) | None => format!("{text} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::Unit;
    use crate::trend::Interval;

    #[test]
    fn the_end_of_a_name_tells_the_unit() {
        for (metric, unit) in [
            ("node_filesystem_avail_bytes", Unit::Bytes),
            ("node_network_receive_bytes_total", Unit::BytesPerSecond),
            ("server_cpu_usage_percent", Unit::Percent),
            ("queue_oldest_waiting_seconds", Unit::Seconds),
            ("node_cpu_seconds_total", Unit::Plain),
            ("http_requests_total", Unit::Of("a second")),
            ("response_ms", Unit::Of("ms")),
            ("node_load1", Unit::Plain),
            ("bytes", Unit::Plain),
            ("", Unit::Plain),
        ] {
            assert_eq!(Unit::of_metric(metric), unit, "{metric}");
        }
    }

    #[test]
    fn values_have_units_that_make_them_small() {
        for (unit, value, text) in [
            (Unit::Of("jobs"), 3.0, "3 jobs"),
            (Unit::Of("jobs"), 1.0, "1 job"),
            (Unit::Of("jobs a minute"), 1.0, "1 job a minute"),
            (Unit::Of("ms"), 1.0, "1 ms"),
            (Unit::Bytes, 1_257e6, "1.26 GB"),
            (Unit::Bytes, -1_257e6, "-1.26 GB"),
            (Unit::Bytes, 1.0, "1 byte"),
            (Unit::Bytes, 0.0, "0 bytes"),
            (Unit::BytesPerSecond, 12_345.0, "12.3 kB a second"),
            (Unit::Percent, 53.27, "53.3 %"),
            (Unit::Seconds, 0.0, "0 s"),
            (Unit::Seconds, 0.25, "250 ms"),
            (Unit::Seconds, 7_200.0, "2 h"),
            (Unit::Plain, 1.5, "1.5"),
            (Unit::Bytes, f64::MAX, "1.8e293 PB"),
        ] {
            assert_eq!(unit.value(value), text);
        }
    }

    #[test]
    fn slopes_are_told_in_the_time_that_reads_well() {
        let check = |unit: Unit, per_second: f64, seconds: f64, text: &str| {
            let interval = Interval { low: 0.9 * per_second, high: 1.1 * per_second };
            assert_eq!(unit.slope(per_second, interval, seconds), text);
        };
        check(Unit::Bytes, 1.2e9 / 86_400.0, 7.0 * 86_400.0, "1.2 GB a day (1.1 to 1.3)");
        check(Unit::Bytes, 1.2e9 / 3_600.0, 7_200.0, "1.2 GB an hour (1.1 to 1.3)");
        check(Unit::Of("jobs"), 1.0, 600.0, "60 jobs a minute (54 to 66)");
        check(Unit::Of("jobs"), 1e-6, 600.0, "0.086 jobs a day (0.078 to 0.095)");
        check(
            Unit::Of("jobs a minute"),
            10.0 / 3_600.0,
            7_200.0,
            "10 jobs a minute every hour (9 to 11)",
        );
        check(Unit::Of("jobs"), 3_392.0 / 86_400.0, 1e6, "3,400 jobs a day (3,100 to 3,700)");
        check(Unit::Bytes, 999e6 / 86_400.0, 1e6, "1 GB a day (0.9 to 1.1)");
        let falls = Interval { low: -2.0 / 60.0, high: -1.0 / 60.0 };
        assert_eq!(Unit::Percent.slope(-1.5 / 60.0, falls, 600.0), "1.5 % a minute (1 to 2)");
        let exact = Interval { low: 1.0, high: 1.0 };
        assert_eq!(Unit::Of("jobs").slope(1.0, exact, 600.0), "60 jobs a minute");
    }
}
