//! `holdfast queue capacity`: whether the workers keep up, and how many it takes.

use std::fmt::Write as _;

use clap::ArgMatches;

use super::{path, percent, query, time};
use crate::cli::commands::{cell, print_json, text};
use crate::cli::failure::Failure;
use crate::cli::plot::short;
use crate::cli::session::Session;
use crate::cli::table::{shown, table};
use crate::io::client::Json;

/// What cannot be told.
const NOT_KNOWN: &str = "n/a";

/// `holdfast queue capacity QUEUE`
pub(super) fn capacity(arguments: &ArgMatches) -> Result<(), Failure> {
    let given = |name: &str| arguments.get_one::<String>(name).cloned();
    let asked = query([
        ("target_wait", given("target-wait")),
        ("period", given("period")),
        ("around", given("around")),
    ]);
    let path = path(text(arguments, "queue"), &format!("/capacity{asked}"));
    let answer = Session::open(arguments)?.ask("GET", &path, None)?;
    if arguments.get_flag("json") {
        print_json(&answer.body);
    } else {
        print!("{}", told(&answer.body));
    }
    Ok(())
}

/// Seconds as people read them.
fn seconds(value: &Json) -> String {
    value.as_f64().map_or(NOT_KNOWN.to_owned(), |seconds| time(&Json::from(seconds * 1000.0)))
}

/// A number with few digits.
fn number(value: &Json) -> String {
    value.as_f64().map_or(NOT_KNOWN.to_owned(), short)
}

/// How long until nothing is left; what does not end is told apart from what is not known.
fn drained(body: &Json, takes: &Json) -> String {
    let known = !body["service_seconds"].is_null();
    match takes.as_f64() {
        None if known => "never".to_owned(),
        Some(takes) if takes <= 0.0 => "at once".to_owned(),
        _ => seconds(takes),
    }
}

/// The same with the workers of now.
fn drained_now(body: &Json) -> String {
    let is_empty = body["waiting"] == 0 && body["running"] == 0;
    if is_empty { "it is empty".to_owned() } else { drained(body, &body["drain_seconds"]) }
}

fn told(body: &Json) -> String {
    let field = |name: &str| cell(&body[name]);
    let mut out = format!("{}\n\n", shown(&field("text")));
    let busy = match body["utilisation"].as_f64() {
        Some(_) => format!(", {} of their time is taken", percent(&body["utilisation"])),
        None => String::new(),
    };
    let advice = &body["recommendation"];
    let lines = [
        ("looked at", format!("the last {}", seconds(&body["period_seconds"]))),
        ("arrivals", format!("{} jobs a minute", number(&body["arrivals_per_minute"]))),
        (
            "work",
            format!(
                "{} an attempt, {} attempts a job",
                seconds(&body["service_seconds"]),
                number(&body["attempts_per_job"])
            ),
        ),
        ("workers", format!("{}{busy}", field("workers"))),
        ("jobs", format!("{} wait, {} run", field("waiting"), field("running"))),
        (
            "wait",
            format!(
                "{} on average, target {}",
                seconds(&body["expected_wait_seconds"]),
                seconds(&body["target_wait_seconds"])
            ),
        ),
        ("needed", workers(&body["workers_needed"])),
        ("empty in", drained_now(body)),
        ("advice", advised(&cell(&advice["advice"]), &advice["workers"])),
    ];
    // Where nothing was measured, a page of what is not known tells nothing.
    let is_told = |value: &str| body["available"] == true || !value.starts_with(NOT_KNOWN);
    for (name, value) in lines.into_iter().filter(|(_, value)| is_told(value)) {
        writeln!(out, "{name:<12} {}", shown(&value)).expect("BUG: memory takes everything");
    }
    let what_if = body["what_if"].as_array().map_or(&[][..], Vec::as_slice);
    if !what_if.is_empty() {
        let row = |item: &Json| {
            let own = item["workers"] == body["workers"];
            vec![
                format!("{}{}", cell(&item["workers"]), if own { " (now)" } else { "" }),
                percent(&item["utilisation"]),
                drained(body, &item["drain_seconds"]),
            ]
        };
        let rows: Vec<Vec<String>> = what_if.iter().map(row).collect();
        out.push('\n');
        out.push_str(&table(&["WORKERS", "TIME TAKEN", "EMPTY IN"], &rows));
    }
    out
}

fn workers(count: &Json) -> String {
    match count.as_u64() {
        Some(1) => "1 worker".to_owned(),
        Some(count) => format!("{count} workers"),
        None => NOT_KNOWN.to_owned(),
    }
}

/// A recommendation in words.
fn advised(advice: &str, count: &Json) -> String {
    match advice {
        "keep" => "keep the workers there are".to_owned(),
        "up" => format!("have more: {}", workers(count)),
        "down" => format!("fewer are enough: {}", workers(count)),
        "unknown" => "none yet: it was not watched for long enough".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::told;
    use serde_json::json;

    #[test]
    fn capacity_is_a_sentence_figures_and_what_if() {
        let text = told(&json!({
            "available": true, "period_seconds": 900, "arrivals_per_second": 0.5,
            "arrivals_per_minute": 30.0, "attempts_per_job": 1.05, "service_seconds": 3.5,
            "service_rate_per_second": 0.27, "workers": 2, "waiting": 132, "running": 2,
            "utilisation": 0.92, "expected_wait_seconds": 20.25, "target_wait_seconds": 60,
            "workers_needed": 3, "drain_seconds": 3600.0,
            "what_if": [
                { "workers": 1, "utilisation": 1.84, "drain_seconds": null },
                { "workers": 2, "utilisation": 0.92, "drain_seconds": 3600.0 },
                { "workers": 3, "utilisation": 0.61, "drain_seconds": 340.0 },
                { "workers": 4, "utilisation": 0.46, "drain_seconds": 0.0 }
            ],
            "recommendation": { "advice": "up", "workers": 3 },
            "text": "Two workers keep up."
        }));
        let expected = "\
Two workers keep up.

looked at    the last 15.0m
arrivals     30 jobs a minute
work         3.5s an attempt, 1.05 attempts a job
workers      2, 92.0% of their time is taken
jobs         132 wait, 2 run
wait         20.2s on average, target 1.0m
needed       3 workers
empty in     1.0h
advice       have more: 3 workers

WORKERS  TIME TAKEN  EMPTY IN
1        184.0%      never
2 (now)  92.0%       1.0h
3        61.0%       5.7m
4        46.0%       at once
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_not_known_is_told_as_such() {
        let text = told(&json!({
            "available": false, "period_seconds": 900, "arrivals_per_minute": 0, "workers": 0,
            "attempts_per_job": 1, "waiting": 0, "running": 0, "service_seconds": null,
            "utilisation": null, "workers_needed": null, "drain_seconds": null, "what_if": [],
            "target_wait_seconds": 60, "recommendation": { "advice": "unknown", "workers": null },
            "text": "Nothing ran yet."
        }));
        let expected = "\
Nothing ran yet.

looked at    the last 15.0m
arrivals     0 jobs a minute
workers      0
jobs         0 wait, 0 run
empty in     it is empty
advice       none yet: it was not watched for long enough
";
        assert_eq!(text, expected);
    }
}
