//! A trend in words and figures. Pure: the answer in, text out.

use std::fmt::Write as _;
use std::time::Duration;

use crate::base::human::format_duration;
use crate::base::time::Timestamp;
use crate::cli::commands::cell;
use crate::cli::plot::short;
use crate::cli::table::shown;
use crate::io::client::Json;

/// What a trend is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    /// What it is called, without anything that a terminal would obey.
    pub(super) title: &'a str,
    /// What stands behind its values: `%`, `B`, or nothing.
    pub(super) unit: &'static str,
}

impl About<'_> {
    fn number(self, value: &Json) -> String {
        value.as_f64().map_or_else(nothing, |value| format!("{}{}", short(value), self.unit))
    }

    fn pair(self, value: &Json, between: &str) -> String {
        format!("{} {between} {}", self.number(&value[0]), self.number(&value[1]))
    }
}

fn nothing() -> String {
    "n/a".to_owned()
}

fn plain(value: &Json) -> String {
    value.as_f64().map_or_else(nothing, short)
}

/// All that is said of it.
pub(super) fn told(body: &Json, about: &About<'_>) -> String {
    let mut out = about.title.to_owned();
    let points = match body["data_points"].as_u64() {
        Some(1) => "1 point".to_owned(),
        Some(points) => format!("{points} points"),
        None => "no points".to_owned(),
    };
    if body["available"] != true {
        let reason = shown(&cell(&body["reason"]));
        put(&mut out, format_args!("\nnothing can be said: {reason} ({points})\n"));
        return out;
    }
    let span = |name: &str| length(&body[name]);
    put(
        &mut out,
        format_args!(
            ", {} in steps of {}: {points}\n{}\n\n",
            span("period_seconds"),
            span("interval_seconds"),
            shown(&cell(&body["text"]))
        ),
    );
    for (name, value) in lines(body, *about) {
        put(&mut out, format_args!("{name:<12} {}\n", shown(&value)));
    }
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("BUG: memory takes everything");
}

fn lines(body: &Json, about: About<'_>) -> Vec<(&'static str, String)> {
    let mut lines = vec![("now", statistics(&body["statistics"], about))];
    lines.extend(counted(body));
    let slope = Slope::of(&body["trend"]);
    lines.push(("trend", trend(body, about, slope)));
    lines.push(("last stretch", stretch(&body["trend"])));
    let sen = &body["trend"]["theil_sen"];
    if !sen.is_null() {
        let agree = if body["trend"]["unstable"] == true { "; the two disagree" } else { "" };
        let told = slope.told(&sen["slope"], &sen["interval"], about);
        lines.push(("Theil-Sen", format!("{told}{agree}")));
    }
    if !body["forecast"].is_null() {
        lines.push(("next", forecast(&body["forecast"], about)));
    }
    if !body["threshold"].is_null() {
        lines.push(("threshold", threshold(&body["threshold"], about)));
    }
    if !body["anomaly"].is_null() {
        lines.push(("usual", anomaly(&body["anomaly"], about)));
    }
    lines
}

fn statistics(statistics: &Json, about: About<'_>) -> String {
    let of = |name: &str| about.number(&statistics[name]);
    format!(
        "{}; average {}, median {}, from {} to {}, standard deviation {}",
        of("current"),
        of("average"),
        of("median"),
        of("min"),
        of("max"),
        of("std_dev")
    )
}

/// What throughput and the efficiency of workers add.
fn counted(body: &Json) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if !body["total"].is_null() {
        let of = |name: &str| plain(&body[name]);
        let text = format!(
            "{} jobs: {} a minute, {} an hour, {} a step",
            of("total"),
            of("per_minute"),
            of("per_hour"),
            of("average_per_interval")
        );
        lines.push(("in all", text));
    }
    let (memory, cpu) = (&body["average_memory_bytes"], &body["average_cpu_percent"]);
    if !memory.is_null() || !cpu.is_null() {
        let cpu = cpu.as_f64().map_or_else(nothing, |cpu| format!("{}%", short(cpu)));
        lines.push(("a worker", format!("{}B of memory, {cpu} of a processor", plain(memory))));
    }
    lines
}

/// The time for which a slope is told: one in which something is to be seen.
#[derive(Clone, Copy, Debug)]
struct Slope {
    seconds: f64,
    unit: &'static str,
}

const UNITS: [(f64, &str); 4] =
    [(1.0, "second"), (60.0, "minute"), (3600.0, "hour"), (86_400.0, "day")];

impl Slope {
    /// The shortest one in which it makes one or more; a day if none does.
    fn of(trend: &Json) -> Slope {
        let slope = trend["slope"].as_f64().unwrap_or(0.0);
        let seen = UNITS.iter().find(|(seconds, _)| 1.0 <= (slope * seconds).abs());
        let (seconds, unit) = match seen {
            Some(found) => *found,
            None if slope == 0.0 => UNITS[2],
            None => UNITS[3],
        };
        Slope { seconds, unit }
    }

    fn scaled(self, value: &Json) -> Json {
        value.as_f64().map_or(Json::Null, |slope| Json::from(slope * self.seconds))
    }

    /// `+2.1 a minute (95%: 1.8 to 2.4)`
    fn told(self, slope: &Json, interval: &Json, about: About<'_>) -> String {
        let sign = if slope.as_f64().is_some_and(|slope| 0.0 < slope) { "+" } else { "" };
        let article = if self.unit == "hour" { "an" } else { "a" };
        let ends = Json::from(vec![self.scaled(&interval[0]), self.scaled(&interval[1])]);
        let slope = about.number(&self.scaled(slope));
        format!("{sign}{slope} {article} {} (95%: {})", self.unit, about.pair(&ends, "to"))
    }
}

fn trend(body: &Json, about: About<'_>, slope: Slope) -> String {
    let trend = &body["trend"];
    let p = match trend["p_value"].as_f64() {
        Some(p) if p < 0.001 => "p < 0.001".to_owned(),
        Some(p) => format!("p {p:.3}"),
        None => "p n/a".to_owned(),
    };
    let r2 = trend["r2"].as_f64().map_or_else(nothing, |r2| format!("{r2:.2}"));
    let worth = plain(&trend["effective_points"]);
    let direction = cell(&trend["direction"]);
    let told = slope.told(&trend["slope"], &trend["slope_interval"], about);
    let unstable = if trend["unstable"] == true { ", unstable" } else { "" };
    format!("{direction}{unstable}: {told}, {p}, R2 {r2}, worth {worth} independent points")
}

/// Changes that are told.
const CHANGES_MAX: usize = 5;

fn stretch(trend: &Json) -> String {
    let mut out = format!("since {}", minute(&trend["since"]));
    let changes: Vec<String> =
        trend["changes"].as_array().into_iter().flatten().map(minute).collect();
    if !changes.is_empty() {
        let last = &changes[changes.len().saturating_sub(CHANGES_MAX)..];
        let more = if last.len() < changes.len() { "last of them " } else { "" };
        put(&mut out, format_args!("; it changed at {more}{}", last.join(", ")));
    }
    out
}

fn forecast(forecast: &Json, about: About<'_>) -> String {
    let ms = forecast["next_timestamp"].as_i64().and_then(|seconds| seconds.checked_mul(1000));
    let at = ms
        .and_then(Timestamp::from_unix_ms)
        .map_or_else(nothing, |at| minute(&Json::from(at.to_string())));
    let mut out = format!(
        "{} at {at} (95%: {}), {}",
        about.number(&forecast["next_value"]),
        about.pair(&forecast["interval"], "to"),
        method(&cell(&forecast["method"]))
    );
    if !forecast["backtest_error"].is_null() {
        put(
            &mut out,
            format_args!("; error when tried {}", about.number(&forecast["backtest_error"])),
        );
        let naive = &forecast["naive_error"];
        if !naive.is_null() {
            put(&mut out, format_args!(", of a plain guess {}", about.number(naive)));
        }
    }
    out
}

/// A moment to the minute: more would be noise.
fn minute(moment: &Json) -> String {
    let text = cell(moment);
    let is_whole = text.ends_with('Z') && text.is_ascii() && MINUTE_BYTES < text.len();
    if is_whole { format!("{}Z", &text[..MINUTE_BYTES]) } else { text }
}

/// Bytes of `2026-11-20T12:00`.
const MINUTE_BYTES: usize = 16;

/// How it was told, in words.
fn method(name: &str) -> String {
    match name {
        "line" => "along the line".to_owned(),
        "level" => "from the level it has".to_owned(),
        "season" => "as at this hour before".to_owned(),
        "last" => "as it was last".to_owned(),
        other => format!("by {other}"),
    }
}

fn threshold(threshold: &Json, about: About<'_>) -> String {
    let value = about.number(&threshold["value"]);
    if !threshold["eta"].is_null() {
        let (first, last) = (&threshold["eta_interval"][0], &threshold["eta_interval"][1]);
        let between = match (first.is_null(), last.is_null()) {
            (true, _) => String::new(),
            (false, true) => format!(" (95%: from {} on, perhaps never)", minute(first)),
            (false, false) => format!(" (95%: from {} to {})", minute(first), minute(last)),
        };
        return format!("{value} is reached at {}{between}", minute(&threshold["eta"]));
    }
    let reason = cell(&threshold["reason"]);
    let why = match reason.as_str() {
        "already_passed" => "it is passed already",
        "stable" => "it does not go there: it goes neither up nor down",
        "moving_away" => "it goes the other way",
        "sawtooth" => "it goes up and falls back again and again",
        "unstable" => "the line is not certain enough to tell",
        "too_little_data" => "there is too little data to tell",
        "outdated" => "nothing new was recorded, so nobody knows",
        "too_far" => "not within the time that can be foreseen",
        other => other,
    };
    format!("{value}: {why}")
}

fn anomaly(anomaly: &Json, about: About<'_>) -> String {
    let verdict = if anomaly["is_anomaly"] == true {
        "out of the ordinary"
    } else {
        "nothing out of the ordinary"
    };
    format!(
        "{}, give or take {}; it is {}: {verdict} (score {})",
        about.number(&anomaly["usual"]),
        about.number(&anomaly["deviation"]),
        about.number(&anomaly["value"]),
        plain(&anomaly["score"])
    )
}

/// A length of time in seconds, as it is written on the command line.
fn length(seconds: &Json) -> String {
    let seconds = seconds.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.map_or_else(nothing, format_duration)
}

#[cfg(test)]
mod tests {
    use super::{About, Slope, told};
    use serde_json::{Value, json};

    const ABOUT: About<'_> = About { title: "depth of queue mail", unit: "" };

    fn body() -> Value {
        json!({
            "available": true, "period_seconds": 3600, "interval_seconds": 60, "data_points": 60,
            "resolution": "raw", "text": "The queue grows by 2 jobs a minute.",
            "statistics": { "current": 132, "average": 98.25, "median": 97.0, "min": 12, "max": 140.0, "std_dev": 30.125 },
            "trend": {
                "slope": 0.035, "slope_unit": "per second", "direction": "increasing", "r2": 0.943,
                "confidence": 0.943, "p_value": 1e-9, "slope_interval": [0.03, 0.04],
                "autocorrelation": 0.4, "effective_points": 23.4, "unstable": false,
                "theil_sen": { "slope": 0.034, "interval": [0.029, 0.041] },
                "since": "2026-11-20T11:20:00.000Z", "changes": ["2026-11-20T11:20:00.000Z"]
            },
            "forecast": {
                "next_value": 134.1, "next_timestamp": 1_763_640_000, "interval": [128, 140.5],
                "method": "line", "backtest_error": 1.25, "naive_error": 3.5, "points": []
            },
            "threshold": {
                "value": 1000, "eta": "2026-11-20T19:00:00.000Z",
                "eta_interval": ["2026-11-20T18:00:00.000Z", null]
            },
            "anomaly": { "score": 4.2, "value": 132, "usual": 40, "deviation": 12, "is_anomaly": true, "windows": [] }
        })
    }

    #[test]
    fn a_trend_is_a_sentence_and_figures() {
        let expected = "\
depth of queue mail, 1h in steps of 1m: 60 points
The queue grows by 2 jobs a minute.

now          132; average 98.25, median 97, from 12 to 140, standard deviation 30.12
trend        increasing: +2.1 a minute (95%: 1.8 to 2.4), p < 0.001, R2 0.94, worth 23.4 independent points
last stretch since 2026-11-20T11:20Z; it changed at 2026-11-20T11:20Z
Theil-Sen    +2.04 a minute (95%: 1.74 to 2.46)
next         134.1 at 2025-11-20T12:00Z (95%: 128 to 140.5), along the line; error when tried 1.25, of a plain guess 3.5
threshold    1000 is reached at 2026-11-20T19:00Z (95%: from 2026-11-20T18:00Z on, perhaps never)
usual        40, give or take 12; it is 132: out of the ordinary (score 4.2)
";
        assert_eq!(told(&body(), &ABOUT), expected);
    }

    #[test]
    fn what_is_not_known_is_left_out_or_told_as_such() {
        let mut body = body();
        for name in ["forecast", "anomaly", "threshold"] {
            body[name] = Value::Null;
        }
        body["trend"]["theil_sen"] = Value::Null;
        body["trend"]["r2"] = Value::Null;
        body["trend"]["unstable"] = json!(true);
        body["average_memory_bytes"] = json!(52_000_000);
        body["average_cpu_percent"] = Value::Null;
        let text = told(&body, &About { unit: "%", ..ABOUT });
        assert!(
            text.contains(
                "increasing, unstable: +2.1% a minute (95%: 1.8% to 2.4%), p < 0.001, R2 n/a"
            ),
            "{text}"
        );
        assert!(text.contains("a worker     52MB of memory, n/a of a processor\n"), "{text}");
        for name in ["next ", "threshold", "usual", "Theil-Sen"] {
            assert!(!text.contains(&format!("\n{name}")), "{text}");
        }
        for (reason, words) in
            [("moving_away", "goes the other way"), ("new_word", "1000: new_word")]
        {
            body["threshold"] =
                json!({ "value": 1000, "eta": null, "eta_interval": null, "reason": reason });
            let text = told(&body, &ABOUT);
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_slope_is_told_for_a_time_in_which_it_is_seen() {
        let unit = |slope: f64| Slope::of(&json!({ "slope": slope })).unit;
        let units = [5.0, -0.5, 0.001, 0.0001, 1e-9, 0.0].map(unit);
        assert_eq!(units, ["second", "minute", "hour", "day", "day", "hour"]);
    }

    #[test]
    fn an_answer_of_another_form_does_no_harm() {
        for body in
            [json!(null), json!([]), json!({ "available": true }), json!({ "available": 1 })]
        {
            assert!(told(&body, &ABOUT).starts_with("depth of queue mail"), "{body}");
        }
    }
}
